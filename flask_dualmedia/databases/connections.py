"""Connections of the pool as psycopg has them: which of them live, and which nobody should use."""

from __future__ import annotations

import re
import time
import typing as t
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy import event

from ..errors import DatabaseUnavailable
from .deadlines import deadline_if_any
from .sqlstates import UNKNOWN_STATEMENT, translate_errors

if t.TYPE_CHECKING:
    import psycopg

    Driver = psycopg.Connection[tuple[t.Any, ...]]


def is_unusable(driver: Driver, error: BaseException) -> bool:
    """Whether nobody should use a connection again after this error."""
    if getattr(error, "sqlstate", None) == UNKNOWN_STATEMENT:
        return True
    return driver.closed or driver.info.transaction_status.name != "IDLE"


def drop(lent: sa.PoolProxiedConnection, error: BaseException) -> None:
    """Give a connection to nobody else. Its server drops what was not committed."""
    if isinstance(error, Exception):
        lent.invalidate(error)
    else:
        lent.invalidate()


_IDLE = 1.0
"""Seconds after which a connection may have died unnoticed."""

_USED = "dualmedia_used"
"""The key for the time of a connection's last use, in what its pool keeps of it."""

_lost: WeakKeyDictionary[sa.Pool, float] = WeakKeyDictionary()
"""When a pool lost a connection. Others that have not been used since may be lost too."""


def note_loss(pool: sa.Pool) -> None:
    """Note that a pool has lost a connection."""
    _lost[pool] = time.monotonic()


def lend(engine: sa.Engine, seconds: float | None = None) -> sa.PoolProxiedConnection:
    """Lend a connection of the pool that lives, as far as can be known.

    The server may have no room for a new one in the place of one that was lost. Then another one
    of the pool may do.

    :param seconds: How long one may take to show that it lives, ``None`` for any time.
    :raises DatabaseUnavailable: There is none. Nothing was sent.
    """
    pool = engine.pool
    others = 0
    if isinstance(pool, sa.QueuePool):
        others = pool.checkedin()

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
    used_at = info.get(_USED)
    if used_at is None:
        return False
    return used_at > _lost.get(pool, 0.0) and time.monotonic() - used_at < _IDLE


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

    :raises OperationalError: psycopg's own. The connection was lost.
    :raises DatabaseUnavailable: The server did not answer in time.
    """
    autocommit = driver.autocommit
    with deadline_if_any(driver, seconds):
        driver.autocommit = True
        driver.execute("")
        driver.autocommit = autocommit


def has_no_room(error: BaseException | None) -> bool:
    """Whether a server answers, but has as many connections as it may have."""
    message = str(getattr(error, "orig", None) or error)
    return _NO_ROOM.search(message) is not None


_NO_ROOM = re.compile("too many clients|too many connections|connection slots are reserved")


def close_engine(engine: sa.Engine) -> None:
    """Close the connections of an engine.

    Those in use, and any later one, are closed when they are given back.
    """
    event.listen(engine, "checkin", _close_returned)
    engine.dispose()


def _close_returned(_driver: t.Any, record: sa.pool.ConnectionPoolEntry) -> None:
    record.invalidate()
