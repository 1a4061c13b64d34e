"""Connections of our own, where those of the app are shared.

A statement of ours is a transaction of its own. On a connection that others use at the same time it
would commit what they have begun, or roll it back. Suites of tests often run on such a connection:
SQLite in memory is one.
"""

from __future__ import annotations

import logging
import typing as t
from contextlib import closing
from pathlib import Path

import sqlalchemy as sa

from ..libraries.sqlalchemy import QuietPool, max_overflow_of
from .tables import Tables

logger = logging.getLogger("flask_dualmedia")


class OnlyConnection(QuietPool):
    """A pool whose one connection is the database: SQLite in memory.

    It is lent to one thread after the other.
    """

    def __init__(self, creator: t.Any, **options: t.Any) -> None:
        options |= {"pool_size": 1, "max_overflow": 0}
        super().__init__(creator, **options)


def own_engine(engine: sa.Engine, tables: Tables, *, timeout: float) -> sa.Engine | None:
    """Return an engine for us alone, where the app's lends no connection that nobody else uses.

    It has one connection. Where the app's database is in memory, ours is another one in memory,
    with our tables in it.

    :param timeout: Seconds to wait for the connection.
    :return: ``None`` where the engine of the app will do.
    """
    if _is_in_memory(engine):
        logger.info("SQLite in memory: media has a database of its own in memory")
        return _in_memory(tables, timeout)
    if not _lends_two(engine.pool):
        pool_name = type(engine.pool).__name__
        logger.info("%s has one connection for all: media has one of its own", pool_name)
        return _beside(engine, timeout)
    return None


def set_aside(connection: sa.Connection) -> None:
    """Take a connection out of its pool: a pool must be empty when the server forks its workers."""
    if not isinstance(connection.engine.pool, OnlyConnection):
        connection.detach()


def _lends_two(pool: sa.Pool) -> bool:
    """Whether a pool can lend a connection while another one is in use."""
    if isinstance(pool, sa.QueuePool):
        size = pool.size()
        overflow = max_overflow_of(pool)
        return size == 0 or overflow < 0 or size + overflow > 1
    return not isinstance(pool, sa.StaticPool | sa.SingletonThreadPool | sa.AssertionPool)


def _is_in_memory(engine: sa.Engine) -> bool:
    """Whether the connections of an engine are the database, which is in no file.

    It asks over a connection of its own, for the URL need not tell.
    """
    if engine.dialect.name != "sqlite":
        return False

    pool = engine.pool.recreate()
    file = ""
    try:
        with closing(pool.connect()) as lent:
            cursor = lent.cursor()
            cursor.execute("PRAGMA database_list")
            files = {name: path for _, name, path in cursor.fetchall()}
            file = files["main"]
            if not file:
                return True
            cursor.execute("PRAGMA busy_timeout = 0")
            cursor.execute("PRAGMA schema_version")  # makes the file of a new database
    except engine.dialect.loaded_dbapi.Error:
        pass  # a file that cannot be opened, or is locked
    finally:
        pool.dispose()
    return file != "" and not Path(file).is_file()


def _in_memory(tables: Tables, timeout: float) -> sa.Engine:
    # The pool sees to it that one thread at a time uses the connection.
    arguments = {"check_same_thread": False}
    engine = sa.create_engine(
        "sqlite://", poolclass=OnlyConnection, pool_timeout=timeout, connect_args=arguments
    )
    tables.metadata.create_all(engine)
    return engine


def _beside(engine: sa.Engine, timeout: float) -> sa.Engine:
    """Return an engine that connects as another one does, with its own pool of one connection.

    It has the same listeners.
    """

    def connect() -> t.Any:
        lent = engine.pool.recreate().connect()
        lent.detach()
        return lent.dbapi_connection

    pool = sa.QueuePool(
        connect,
        pool_size=1,
        max_overflow=0,
        timeout=timeout,
        dialect=engine.dialect,
    )
    return sa.Engine(pool, engine.dialect, engine.url)
