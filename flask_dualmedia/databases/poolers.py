"""Poolers between an app and PostgreSQL, such as PgBouncer.

With transaction pooling each transaction may run in another session of the server. Whatever a
session keeps is not there in the next one, or is somebody else's: locks that it holds, settings,
prepared statements. We need none of them but the last, which psycopg makes by itself of a statement
that was sent five times. Behind a pooler it is told not to.
"""

from __future__ import annotations

import typing as t
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import event

from ..errors import Unavailable
from .deadlines import deadline_if_any, pooled

if t.TYPE_CHECKING:
    import psycopg

    Driver = psycopg.Connection[t.Any]

_DEFAULT_THRESHOLD = 5
"""After so many executions psycopg prepares a statement.

The host may have chosen another number, or none.
"""


class _Route:
    """How an engine's connections reach the server."""

    def __init__(self) -> None:
        self.is_known = False
        self.is_pooled = False

    def follow(self, driver: Driver) -> None:
        """Have nothing prepared on a connection, if there is a pooler."""
        if not self.is_pooled:
            return
        pooled.add(driver)
        if driver.prepare_threshold == _DEFAULT_THRESHOLD:
            driver.prepare_threshold = None


_routes: WeakKeyDictionary[sa.Engine, _Route] = WeakKeyDictionary()


def expect_pooler(engine: sa.Engine, seconds: float | None) -> None:
    """Find out on the first connection of an engine whether there is a pooler.

    If there is one, nothing is prepared on the engine's connections.

    A pooler lets clients in while the server behind it is down, and has their statements wait.
    SQLAlchemy has no limit for what it asks on a first connection, so ours comes before.

    :param engine: One whose connections are psycopg's.
    :param seconds: How long the server may take to answer, ``None`` for any time.
    """
    if engine in _routes:
        return
    route = _Route()
    _routes[engine] = route

    def look(driver: Driver, record: sa.pool.ConnectionPoolEntry) -> None:
        if not route.is_known:
            pooled.add(driver)  # it may be
            _look_at_first(route, driver, record, seconds)
            if not route.is_pooled:
                pooled.discard(driver)
        route.follow(driver)

    def check(driver: Driver, _record: t.Any, _proxy: t.Any) -> None:
        route.follow(driver)  # it may have been opened before the pooler was found

    event.listen(engine, "connect", look, insert=True)
    event.listen(engine, "checkout", check)


def _look_at_first(
    route: _Route, driver: Driver, record: sa.pool.ConnectionPoolEntry, seconds: float | None
) -> None:
    """Look for a pooler on an engine's first connection, and close that if nothing answers.

    :raises OperationalError: psycopg's own, as from a connection that failed.
    """
    try:
        with deadline_if_any(driver, seconds):
            _look(route, driver)
    except (Unavailable, driver.Error) as error:
        driver.close()
        t.cast("t.Any", record).dbapi_connection = None  # its place in the pool is empty
        if isinstance(error, driver.Error):
            raise
        raise driver.OperationalError(str(error)) from error


def look_for_pooler(engine: sa.Engine, driver: Driver) -> None:
    """Ask the server something, and see by its answer whether there is a pooler between."""
    _look(_routes.get(engine) or _Route(), driver)


def _look(route: _Route, driver: Driver) -> None:
    """Compare the process that runs a statement with the one that the client was told of.

    The client was told of it when it connected: a pooler invents that one.
    """
    from psycopg.rows import tuple_row

    autocommit = driver.autocommit
    driver.autocommit = True
    cursor = driver.cursor(row_factory=tuple_row)
    row = cursor.execute("SELECT pg_backend_pid()", prepare=False).fetchone()
    driver.autocommit = autocommit

    route.is_pooled = row is not None and row[0] != driver.info.backend_pid
    route.is_known = True
