"""How processes tell each other that the journal is about to be written to.

A list is read from SQL alone while the journal is empty, for nobody should wait for a second
database in vain. So each process must know when the journal is empty no more, and it must know
before media is acknowledged that is only there.

What a process has seen of the journal holds for :data:`VALIDITY` seconds; after that it looks
again, or its requests ask the journal themselves. A process that is about to write to the journal
first announces that in MongoDB, and then waits for as long. By then nobody relies any more on what
was seen before the announcement.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ..processes.forks import begin_in_children
from .clock import elapsed
from .collections import Collections
from .leases import Lease

VALIDITY = 0.5
"""Seconds for which a process may rely on what it has seen of the journal."""

LOOK_INTERVAL = 0.2
"""Seconds between two looks for announcements.

Short enough that a late one does not make requests ask themselves.
"""

LEASE_SECONDS = 60.0
"""Seconds for which an announcement lasts unless it is renewed."""

_RENEWAL = LEASE_SECONDS / 2

_MARGIN = 10.0
"""Seconds by which two processes may be apart in what they take for the time of the database."""


class Announcements:
    """The announcements that this process makes to others, and those that it hears."""

    def __init__(self, collections: Collections) -> None:
        # All processes hold it together.
        self._lease = Lease(
            collections, "journaling", seconds=LEASE_SECONDS, holder="*", durable=True
        )
        self._announced_at: float | None = None
        """When this announcement began, after which there was no gap."""
        self._lasts_until = 0.0
        self.begin_process()
        begin_in_children(self)

    def begin_process(self) -> None:
        """Forget the lock of another process."""
        self._lock = threading.Lock()

    def is_current(self) -> bool:
        """Whether a process has announced that it writes to the journal.

        :raises DatabaseUnavailable: MongoDB does not answer.
        """
        return self._lease.is_held()

    def announce(self) -> None:
        """Announce that this process writes to the journal, without waiting until everybody knows.

        :raises DatabaseUnavailable: MongoDB does not answer.
        """
        began = elapsed()
        if began < self._lasts_until - _RENEWAL:
            return

        # Without the lock: each thread waits for MongoDB by itself, and none for the time-outs of
        # the others.
        if not self._lease.take():
            self._lease.take()  # somebody else has created it at the same moment

        with self._lock:
            announced = elapsed()
            if self._announced_at is None or announced >= self._lasts_until:
                self._announced_at = announced
            self._lasts_until = max(self._lasts_until, began + LEASE_SECONDS - _MARGIN)

    @contextmanager
    def announced(self) -> Iterator[None]:
        """Write to the journal in this block, while every process knows of it.

        A process may be stopped in the middle for longer than its announcement lasts. It announces
        again at the end: what it wrote is acknowledged after that.

        :raises DatabaseUnavailable: MongoDB does not answer.
        """
        self._announce_and_wait()
        yield
        self._announce_and_wait()

    def _announce_and_wait(self) -> None:
        self.announce()
        assert self._announced_at is not None
        time.sleep(max(0.0, self._announced_at + VALIDITY - elapsed()))
