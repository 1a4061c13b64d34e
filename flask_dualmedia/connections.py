"""Connections of the pool as psycopg has them, for what is done so often that SQLAlchemy's part in it shows."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar

import sqlalchemy as sa

from .deadlines import deadline
from .errors import DatabaseUnavailable

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


def can_join(engine: sa.Engine) -> bool:
    """Whether :func:`together` makes one transaction of what repositories and storages do on the engine."""
    return speaks_psycopg(engine) and not is_heard(engine)


class _Unused(Exception):
    """The transaction came to nothing before anything was done in it."""


class _Shared:
    """The connection that a block of :func:`together` takes when it needs one."""

    is_used = False
    """Whether anything was done on it."""

    def __init__(self, engine: sa.Engine, seconds: float | None, stack: ExitStack) -> None:
        self.engine, self._seconds, self._stack = engine, seconds, stack
        self._driver: Driver | None = None

    @property
    def driver(self) -> Driver:
        if self._driver is None:
            self._driver = self._stack.enter_context(_lend(self.engine, self._seconds))
            self._stack.enter_context(self._driver.transaction())
        return self._driver

    @property
    def has_failed(self) -> bool:
        """Whether the transaction takes no more statements, and cannot be committed."""
        driver = self._driver
        return driver is not None and (driver.closed or driver.info.transaction_status.name == "INERROR")


_shared: ContextVar[_Shared | None] = ContextVar("dualmedia_shared", default=None)


@contextmanager
def together(engine: sa.Engine, seconds: float | None) -> Iterator[None]:
    """Make one transaction of what the block does on connections that it borrows, within so many seconds.

    :raises DatabaseUnavailable: It did something, and then the transaction failed, even if the block went on. Nothing
        of it is kept.
    """
    try:
        with ExitStack() as stack:
            shared = _Shared(engine, seconds, stack)
            token = _shared.set(shared)
            try:
                yield
            finally:
                _shared.reset(token)
            if shared.has_failed:
                raise DatabaseUnavailable("PostgreSQL") if shared.is_used else _Unused
    except _Unused:  # as when the server went away at the first statement, and all of it was done elsewhere
        pass


@contextmanager
def borrow(engine: sa.Engine, seconds: float | None) -> Iterator[Driver]:
    """A connection in autocommit, for so many seconds, or the one of :func:`together`."""
    shared = _shared.get()
    if shared is not None and shared.engine is engine and not shared.has_failed:
        yield shared.driver
        shared.is_used = True
    else:
        with _lend(engine, seconds) as driver:
            yield driver


@contextmanager
def _lend(engine: sa.Engine, seconds: float | None) -> Iterator[Driver]:
    lent = engine.raw_connection()
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
        lent.close()
