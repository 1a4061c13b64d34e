"""Connections of the pool as psycopg has them, for what is done so often that SQLAlchemy's part in it shows."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import sqlalchemy as sa

from .deadlines import deadline
from .forks import notice_fork

if t.TYPE_CHECKING:
    import psycopg

    Driver = psycopg.Connection[tuple[t.Any, ...]]


def speaks_psycopg(engine: sa.Engine) -> bool:
    """Whether the engine's connections are psycopg's."""
    return (engine.dialect.name, engine.dialect.driver) == ("postgresql", "psycopg")


def is_heard(engine: sa.Engine) -> bool:
    """Whether somebody listens to the engine's statements, as tracers and tests do."""
    heard = engine.dispatch
    listeners = heard.before_cursor_execute, heard.after_cursor_execute, heard.before_execute, heard.after_execute
    return any(map(bool, listeners))


_borrowed: set[sa.PoolProxiedConnection] = set()
"""Connections in use. Of one that nothing else refers to, as when an iterator over an answer is forgotten in a cycle of
references, the pool would wait for the statement that the iterator has not ended yet, and for ever."""


@contextmanager
def borrow(engine: sa.Engine, seconds: float | None) -> Iterator[Driver]:
    """A connection from the pool, in autocommit, for so many seconds."""
    notice_fork()
    lent = engine.raw_connection()
    _borrowed.add(lent)
    driver = t.cast("Driver", lent.driver_connection)
    try:
        driver.autocommit = True
        with nullcontext() if seconds is None else deadline(driver, seconds):
            yield driver
        driver.autocommit = False
    except BaseException as error:
        if driver.closed or driver.info.transaction_status.name != "IDLE":
            # Nobody else gets it, and its server drops what was not committed.
            lent.invalidate(error if isinstance(error, Exception) else None)
        else:
            driver.autocommit = False  # as others expect it
        raise
    finally:
        _borrowed.discard(lent)
        lent.close()
