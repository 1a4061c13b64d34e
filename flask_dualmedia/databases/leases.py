"""Work that one process at a time may do, among all processes on all hosts."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from secrets import token_hex

from ..errors import MediaConflict, Unavailable
from .clock import elapsed
from .collections import LEASES, Collections
from .documents import Document, Documents

COLLECTION = LEASES

SECONDS = 15
"""How long a lease lasts unless it is renewed.

That long nobody goes on with the work of a killed process.
"""

_PAUSE = 0.25
"""Seconds between two looks at a lease that may run out."""


def run_out(field: str, current: datetime, seconds: float) -> list[Document]:
    """Return conditions of which one is true for a lease that has run out.

    One that lasts longer than any can was given out by a clock that was set back since: it would be
    held for hours.

    :param field: Holds when it runs out.
    :param seconds: How long it lasts when it is taken.
    """
    longest = current + timedelta(seconds=2 * seconds)
    return [{field: {"$lt": current}}, {field: {"$gt": longest}}]


class Lease:
    """The right to do some work, kept in MongoDB.

    :param name: Name of the work.
    :param seconds: How long it lasts unless it is renewed. Default :data:`SECONDS`.
    :param holder: Name of its holder. Default this object alone; objects with the same holder hold
        it together.
    :param durable: Whether it is on the disks of a majority once it was taken.
    :param is_over: Whether the work is to end, and nobody needs the lease any more.
    """

    def __init__(
        self,
        documents: Documents | Collections,
        name: str,
        *,
        seconds: float | None = None,
        holder: str | None = None,
        durable: bool = False,
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        if seconds is None:
            seconds = SECONDS
        self._collections = Collections.of(documents)
        self._name = name
        self._seconds = seconds
        self._durable = durable
        self._is_over = is_over
        self.holder = holder or f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"

    def take(self) -> bool:
        """Take or renew the lease; false if another process has it, or the work is to end."""
        if self._is_over():
            return False

        current = self._collections.clock.now()
        conditions = [{"holder": self.holder}, *run_out("expires", current, self._seconds)]
        expires = current + timedelta(seconds=self._seconds)
        change = {"$set": {"holder": self.holder, "expires": expires}}

        try:
            with self._collections.asked():
                leases = self._collections.get(COLLECTION, durable=self._durable)
                leases.update_one({"_id": self._name, "$or": conditions}, change, upsert=True)
        except MediaConflict:  # it exists, and is another's
            return False
        return True

    def wait(self, seconds: float) -> bool:
        """Take the lease, and wait for it for so long at most where another has it.

        :return: Whether it is taken.
        """
        end = elapsed() + seconds
        while not self.take():
            if elapsed() > end:
                return False
            # So that those who wait do not ask all at once.
            time.sleep(random.uniform(0.005, 0.05))  # noqa: S311
        return True

    def is_held(self) -> bool:
        """Whether anybody has it."""
        return self.current_holder() is not None

    def current_holder(self) -> str | None:
        """Return the holder's host and process, ``None`` if nobody has it."""
        lease = self._find_valid()
        if lease is None:
            return None
        return lease["holder"]

    def _find_valid(self) -> Document | None:
        """Return the lease as it is kept, ``None`` if nobody has it."""
        now = self._collections.documents.clock.now()
        valid = {"_id": self._name, "expires": {"$gte": now}}
        with self._collections.documents.asked():
            return self._collections.get(COLLECTION).find_one(valid)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the lease for this block, however long it takes.

        A holder that is at work renews it. If nobody does, it is taken when it has run out.

        :raises MediaConflict: Another process has it; the message says which.
        """
        if not self.take() and not self._take_from_dead() and not self._outlast():
            holder = self.current_holder() or "it ended just now"
            raise MediaConflict(f"another process is at it: {holder}")

        ended = threading.Event()
        renewal = threading.Thread(
            target=self._renew, args=(ended,), name="dualmedia-lease", daemon=True
        )
        try:
            renewal.start()
            try:
                yield
            finally:
                ended.set()
                renewal.join()
        finally:
            with suppress(Unavailable):  # it expires
                self.give_back()

    def _take_from_dead(self) -> bool:
        """Take the lease if its holder was a process of this host and was killed."""
        holder = self.current_holder()
        if holder is not None:
            host, pid, _ = holder.rsplit("-", 2)
            if host != socket.gethostname() or _is_alive(int(pid)):
                return False
            self._delete_of(holder)
        return self.take()

    def _outlast(self) -> bool:
        """Take a lease that nobody renews, when it has run out.

        Its holder ended while MongoDB was away, and could not give it back, or was killed on
        another host.

        :return: False as soon as somebody renews it.
        """
        valid = self._find_valid()
        while self._find_valid() == valid:
            if self.take():
                return True
            time.sleep(_PAUSE)
        return self.take()

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(self._seconds / 3):
            with suppress(Unavailable):
                self.take()

    def give_back(self) -> None:
        """Let the next one have it at once."""
        self._delete_of(self.holder)

    def _delete_of(self, holder: str) -> None:
        with self._collections.asked():
            self._collections.get(COLLECTION).delete_one({"_id": self._name, "holder": holder})


def _is_alive(pid: int) -> bool:
    """Whether a process of this host has not ended, as far as we may know."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
