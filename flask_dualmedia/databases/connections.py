"""Connections of the pool as psycopg has them, for what is done so often that SQLAlchemy's part in
it shows."""

from __future__ import annotations

import re
import time
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import event

from ..errors import DatabaseUnavailable, WritesRefused
from ..processes.forks import notice_fork
from .deadlines import Watch, deadline
from .poolers import look_for_pooler
from .sqlstates import UNKNOWN_STATEMENT, translate_errors

if t.TYPE_CHECKING:
    import psycopg

    Driver = psycopg.Connection[tuple[t.Any, ...]]


def speaks_psycopg(engine: sa.Engine) -> bool:
    """Whether the engine's connections are psycopg's."""
    return (engine.dialect.name, engine.dialect.driver) == ("postgresql", "psycopg")


def is_heard(engine: sa.Engine) -> bool:
    """Whether somebody listens to the engine's statements, as tracers and tests do."""
    heard = engine.dispatch
    listeners = (
        heard.before_cursor_execute,
        heard.after_cursor_execute,
        heard.before_execute,
        heard.after_execute,
    )
    return any(map(bool, listeners))


_borrowed: set[sa.PoolProxiedConnection] = set()
"""Connections in use. Of one that nothing else refers to, as when an iterator over an answer is
forgotten in a cycle of references, the pool would wait for the statement that the iterator has not
ended yet, and for ever."""


@contextmanager
def borrow(engine: sa.Engine, seconds: float | None) -> Iterator[Driver]:
    """A connection from the pool, in autocommit, for so many seconds."""
    notice_fork()
    pool = engine.pool
    lent = lend(engine, seconds)
    _borrowed.add(lent)
    driver = t.cast("Driver", lent.driver_connection)
    watch: Watch | None = None
    try:
        driver.autocommit = True
        with nullcontext() if seconds is None else deadline(driver, seconds) as watch:
            yield driver
        if watch is not None and watch.expired:
            lent.invalidate()
        else:
            driver.autocommit = False
    except BaseException as error:
        expired = watch is not None and watch.expired
        is_confused = getattr(error, "sqlstate", None) == UNKNOWN_STATEMENT
        if expired or is_confused or driver.closed or driver.info.transaction_status.name != "IDLE":
            if driver.closed and not expired:
                _lost[pool] = time.monotonic()
            # Nobody else gets it, and its server drops what was not committed.
            lent.invalidate(error if isinstance(error, Exception) else None)
        else:
            driver.autocommit = False  # as others expect it
        raise
    finally:
        _borrowed.discard(lent)
        if lent.is_valid:
            note_use(lent.info)
        lent.close()


_IDLE = 1.0
"""Seconds after which a connection may have died unnoticed."""

_USED = "dualmedia_used"
"""When a connection was used last, in what its pool keeps of it."""

_lost: WeakKeyDictionary[sa.Pool, float] = WeakKeyDictionary()
"""When a pool lost a connection. Others of it, which have not been used since, may be lost too."""


def lend(engine: sa.Engine, seconds: float | None = None) -> sa.PoolProxiedConnection:
    """A connection from the pool that lives, as far as can be known.

    Where the server has no room for a new one, in the place of one that was lost, another of the
    pool may do.

    :param seconds: How long one may take to show that it lives, ``None`` for any time.
    :raises DatabaseUnavailable: There is none. Nothing was sent.
    """
    pool = engine.pool
    others = pool.checkedin() if isinstance(pool, sa.QueuePool) else 0
    while True:
        try:
            with translate_errors():
                lent = engine.raw_connection()
        except DatabaseUnavailable as error:
            others -= 1
            if others < 0 or not has_no_room(error.__cause__):
                error.was_sent = False
                raise
            continue
        if is_fresh(lent.info, pool) or _lives(lent, seconds):
            return lent


def note_use(info: dict[t.Any, t.Any]) -> None:
    """Note that a connection lives.

    :param info: What its pool keeps of it.
    """
    info[_USED] = time.monotonic()


def is_fresh(info: dict[t.Any, t.Any], pool: sa.Pool) -> bool:
    """Whether a connection was used so shortly ago that nobody needs to ask whether it lives."""
    used = info.get(_USED)
    return used is not None and used > _lost.get(pool, 0.0) and time.monotonic() - used < _IDLE


def is_new(info: dict[t.Any, t.Any]) -> bool:
    """Whether a connection was not used yet, as far as its engine notes that."""
    return _USED not in info


def _lives(lent: sa.PoolProxiedConnection, seconds: float | None) -> bool:
    """Ask a connection whether it lives, and throw it away if it does not."""
    driver = t.cast("Driver", lent.driver_connection)
    try:
        ping(driver, seconds)
    except driver.OperationalError as error:
        lent.invalidate(error)
        lent.close()
        return False
    except BaseException as error:
        lent.invalidate()
        lent.close()
        if isinstance(error, DatabaseUnavailable):
            error.was_sent = False
        raise
    return True


def ping(driver: Driver, seconds: float | None) -> None:
    """Send an empty statement.

    :raises OperationalError: As of psycopg. The connection was lost.
    :raises DatabaseUnavailable: The server did not answer in time.
    """
    autocommit = driver.autocommit
    with nullcontext() if seconds is None else deadline(driver, seconds):
        driver.autocommit = True
        driver.execute("")
        driver.autocommit = autocommit


def has_no_room(error: BaseException | None) -> bool:
    """Whether a server answers, but has as many connections as it may have."""
    said = str(getattr(error, "orig", None) or error)
    return _NO_ROOM.search(said) is not None


_NO_ROOM = re.compile("too many clients|too many connections|connection slots are reserved")


LOGGER_OF_POOLS = f"{sa.QueuePool.__module__}.{sa.QueuePool.__name__}"
"""The logger of SQLAlchemy's own pools."""


class LastUsedFirst(sa.QueuePool):
    """A pool that lends the connection that was used last: its server process is the fastest.

    A place whose connection was lost goes behind all others. It is tried again when nothing else is
    left.
    """

    # By its module its lines would be in our logger: a host asks for ours at INFO, and for those of
    # pools seldom.
    _sqla_logger_namespace = LOGGER_OF_POOLS

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **{**kwargs, "use_lifo": True})

    def _do_return_conn(self, record: t.Any) -> None:
        if record.dbapi_connection is not None:
            super()._do_return_conn(record)
            return
        queue = t.cast("t.Any", self._pool)
        with queue.mutex:
            if queue.maxsize <= 0 or len(queue.queue) < queue.maxsize:
                queue.queue.appendleft(record)
                queue.not_empty.notify()
                return
        super()._do_return_conn(record)


def probe(engine: sa.Engine, seconds: float) -> None:
    """Ask the server something over a connection of its own.

    Connections of the pool may be lost while the server is up, or all in use.

    :raises DatabaseUnavailable: It does not answer.
    :raises WritesRefused: It answers, but has no connection for us.
    """
    pool = engine.pool.recreate()
    try:
        with translate_errors():
            lent = pool.connect()
            driver = t.cast("Driver", lent.driver_connection)
            try:
                with deadline(driver, seconds):
                    look_for_pooler(engine, driver)
            finally:
                lent.invalidate()
                lent.close()
    except DatabaseUnavailable as error:
        if not has_no_room(error.__cause__):
            raise
        raise WritesRefused(error.database, error.reason) from error
    finally:
        pool.dispose()


def close_engine(engine: sa.Engine) -> None:
    """Close the connections of an engine; those in use, and any later one, when they are given
    back."""
    event.listen(engine, "checkin", _close_returned)
    engine.dispose()


def _close_returned(_driver: t.Any, record: sa.pool.ConnectionPoolEntry) -> None:
    record.invalidate()
