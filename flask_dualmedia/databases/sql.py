"""The SQL database of an app: one object for whoever asks it.

It knows the engine, how long the database may take, and whether its connections are psycopg's.
Each of its ways to a connection ends the wait for an answer in time, and lets no driver's error
out: :func:`~flask_dualmedia.databases.sqlstates.translate_errors` says what callers meet instead.
"""

from __future__ import annotations

import random
import time
import typing as t
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import sqlalchemy as sa

from ..errors import Contended, DatabaseUnavailable, WritesRefused
from ..libraries.sqlalchemy import bare_pool
from ..processes.forks import notice_fork
from .connections import drop, has_no_room, is_unusable, lend, note_loss, note_use
from .deadlines import Watch, deadline, deadline_if_any
from .poolers import look_for_pooler
from .sqlstates import translate_errors

if t.TYPE_CHECKING:
    from .connections import Driver

T = t.TypeVar("T")

BULK = 5
"""How many times as long a batch of bytes may take."""

PROBE_TIMEOUT = 2.0
"""Seconds that a server may take to answer at all, where statements may take any number."""

ATTEMPTS = 5
"""How often a statement is sent that the database had give way to others."""

PAUSE = 0.02
"""Seconds that it waits for them at most, after the first attempt; after each other one as much
more."""


def insisting(call: Callable[[], T]) -> T:
    """Do ``call``, and do it again where the database had it give way to others.

    Nothing of it was done then. The pauses are random, and may be longer each time. Any other error
    passes at once.

    :raises Contended: The last of :data:`ATTEMPTS` had to give way too.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except Contended:
            # Pauses differ, so that the calls do not all come at once again.
            time.sleep(random.uniform(0, attempt * PAUSE))  # noqa: S311
    return call()


_borrowed: set[sa.PoolProxiedConnection] = set()
"""Connections in use.

Without this set nothing might refer to one of them any more, as when an iterator over an answer is
forgotten in a cycle of references. The pool would then wait for ever, for the statement that the
iterator has not ended yet.
"""


class SQLDatabase:
    """A SQL database, and how long it may take to answer.

    Connections are the engine's, and never those of the host's session.

    :param timeout: Seconds that may pass while a connection is lent, ``None`` for any number. Only
        psycopg 3 has such a limit: with another driver it may take any time.
    """

    def __init__(self, engine: sa.Engine, timeout: float | None = None) -> None:
        self.engine = engine
        self.timeout = timeout
        self.product = engine.dialect.name
        """The name that SQLAlchemy has for the product, such as ``postgresql`` or ``sqlite``."""
        self.is_postgresql = self.product == "postgresql"
        self.speaks_psycopg = self.is_postgresql and engine.dialect.driver == "psycopg"
        """Whether connections are psycopg's: then :meth:`borrow` lends them as they are."""
        # One statement needs no BEGIN and COMMIT around it, which would be two more round trips.
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")

    @classmethod
    def of(cls, database: sa.Engine | SQLDatabase) -> SQLDatabase:
        """Return the database of an engine, without a limit of time; a database as it is."""
        if isinstance(database, SQLDatabase):
            return database
        return cls(database)

    def within(self, seconds: float | None) -> SQLDatabase:
        """Return the same database with another limit of time."""
        return SQLDatabase(self.engine, seconds)

    def for_bytes(self) -> SQLDatabase:
        """Return the same database with the time that a batch of bytes may take."""
        if self.timeout is None:
            return self
        return self.within(BULK * self.timeout)

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens to the engine's statements, as tracers and tests do.

        Nobody hears what is sent over a connection that was borrowed.
        """
        events = self.engine.dispatch
        listeners = (
            events.before_cursor_execute,
            events.after_cursor_execute,
            events.before_execute,
            events.after_execute,
        )
        return any(map(bool, listeners))

    def connect(self) -> AbstractContextManager[sa.Connection]:
        """Lend a connection in the isolation of the host's engine.

        What is not committed at the end of the block is undone.
        """
        return self._lend(self.engine)

    def autocommit(self) -> AbstractContextManager[sa.Connection]:
        """Lend a connection on which each statement is a transaction of its own.

        The limit of time holds for the whole block. What has to give way is not sent again.
        """
        return self._lend(self._single)

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """Lend a connection in a transaction, which is committed at the end of the block."""
        with self.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def _lend(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        with translate_errors(), engine.connect() as connection, self._limited(connection):
            yield connection

    @contextmanager
    def _limited(self, connection: sa.Connection) -> Iterator[None]:
        """Give the block its time.

        If that is over, however the block ends, the connection goes to nobody else.
        """
        if self.timeout is None or not self.speaks_psycopg:
            yield
            return

        driver = t.cast("t.Any", connection.connection.driver_connection)
        watch: Watch | None = None
        try:
            with deadline(driver, self.timeout) as watch:
                yield
        finally:
            # A cancellation may still be on its way, through a pooler: nobody else gets the
            # connection.
            if watch is not None and watch.expired:
                connection.invalidate()

    @contextmanager
    def borrow(self, seconds: float | None = None) -> Iterator[Driver]:
        """Lend a connection of the pool as psycopg has it, in autocommit.

        This is for frequent work, in which SQLAlchemy's part would show. The pool gets the
        connection back at the end of the block, or drops it if nobody should use it any more.

        :param seconds: How long the block may take. Default: the limit of the database.
        :raises StatementCancelled: As :func:`~flask_dualmedia.databases.deadlines.deadline` does.
        :raises DatabaseUnavailable: There is no connection, or the server did not answer in time.
        """
        notice_fork()
        if seconds is None:
            seconds = self.timeout

        with translate_errors():
            lent = lend(self.engine, seconds)
            _borrowed.add(lent)
            driver = t.cast("Driver", lent.driver_connection)
            watch: Watch | None = None

            try:
                driver.autocommit = True
                with deadline_if_any(driver, seconds) as watch:
                    yield driver
                if watch is not None and watch.expired:
                    lent.invalidate()
                else:
                    driver.autocommit = False

            except BaseException as error:
                is_expired = watch is not None and watch.expired
                self._settle(lent, error, is_expired=is_expired)
                raise

            finally:
                _borrowed.discard(lent)
                if lent.is_valid:
                    note_use(lent.info)
                lent.close()

    def _settle(
        self, lent: sa.PoolProxiedConnection, error: BaseException, *, is_expired: bool
    ) -> None:
        """Drop a connection after an error, or make it as others expect it."""
        driver = t.cast("Driver", lent.driver_connection)
        if not is_expired and not is_unusable(driver, error):
            driver.autocommit = False
            return

        if driver.closed and not is_expired:
            note_loss(self.engine.pool)
        drop(lent, error)

    def probe(self) -> None:
        """Ask the server something over a connection of its own, which psycopg opens.

        Connections of the pool may be lost while the server is up, or all in use.

        :raises DatabaseUnavailable: It does not answer.
        :raises WritesRefused: It answers, but has no connection for us.
        """
        # This pool has only the connector of the engine's, not its events. The first event makes
        # the dialect ready. Other connections of the same pool wait for that, those of another one
        # do not.
        pool = bare_pool(self.engine)
        try:
            with translate_errors():
                lent = pool.connect()
                driver = t.cast("Driver", lent.driver_connection)
                try:
                    with deadline(driver, self.timeout or PROBE_TIMEOUT):
                        look_for_pooler(self.engine, driver)
                finally:
                    lent.invalidate()
                    lent.close()
        except DatabaseUnavailable as error:
            if not has_no_room(error.__cause__):
                raise
            raise WritesRefused(error.database, error.reason) from error
        finally:
            pool.dispose()
