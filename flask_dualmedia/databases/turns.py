"""One upgrade at a time: of the threads of a process, and of all processes on a database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from ..errors import DatabaseBusy
from ..processes.forks import begin_in_children, notice_fork
from .pools import set_aside
from .sql import SQLDatabase

PATIENCE = 10.0
"""Seconds to wait for another upgrade, or for those who use a table.

Then it is tried again later.
"""

LOCK = 0x6475616C6D656469
"""Names our advisory lock among all that the database may know: "dualmedi" in ASCII."""


class _Turn:
    """Which thread of this process is at it. Alembic keeps what it does in globals."""

    def __init__(self) -> None:
        self.begin_process()
        begin_in_children(self)

    def begin_process(self) -> None:
        """Forget the threads of a forked process's parent."""
        self._lock = threading.Lock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Have the turn for this block.

        :raises DatabaseBusy: Another thread took too long.
        """
        notice_fork()
        lock = self._lock
        if not lock.acquire(timeout=PATIENCE):
            raise DatabaseBusy("another app of this process is changing its schema")
        try:
            yield
        finally:
            lock.release()


_turn = _Turn()


@contextmanager
def alone_in_process() -> Iterator[None]:
    """
    :raises DatabaseBusy: Another thread took too long.
    """
    with _turn.taken():
        yield


@contextmanager
def alone_on_database(database: SQLDatabase) -> Iterator[sa.Connection]:
    """Lend a connection in a transaction while no other is in this block.

    The transaction is committed in the end. The connection is no longer the pool's: nothing of a
    start-up may be inherited by forked workers. On PostgreSQL the lock is the transaction's, for
    behind a pooler a session may be another one after it.

    :raises DatabaseBusy: Another process, or somebody who uses a table, took too long.
    """
    with database.connect() as connection:
        if database.is_postgresql:
            # Whatever the host's engine does: in one transaction, which sees what others have done
            # before it.
            connection.execution_options(isolation_level="READ COMMITTED")
        set_aside(connection)
        if database.is_postgresql:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(PATIENCE * 1000)}")
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        yield connection
        connection.commit()
