"""Work that one process at a time may do, among all processes on all hosts."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from secrets import token_hex

from .documents import Documents
from .errors import MediaConflict, Unavailable
from .models import now

COLLECTION = "dualmedia_leases"

SECONDS = 15
"""How long a lease lasts unless it is renewed: that long nobody goes on with the work of a killed process. The clocks
of hosts may differ by less than this."""


class Lease:
    """The right to do some work, kept in MongoDB.

    :param name: Of the work.
    :param seconds: How long it lasts unless it is renewed.
    """

    def __init__(self, documents: Documents, name: str, *, seconds: float = SECONDS) -> None:
        self._documents, self._name, self._seconds = documents, name, seconds
        self._collection = documents[COLLECTION]
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"

    def take(self) -> bool:
        """Take or renew the lease; false if another process has it."""
        time = now()
        free = {"_id": self._name, "$or": [{"holder": self.holder}, {"expires": {"$lt": time}}]}
        mine = {"$set": {"holder": self.holder, "expires": time + timedelta(seconds=self._seconds)}}
        try:
            with self._documents.asked():
                self._collection.update_one(free, mine, upsert=True)
        except MediaConflict:  # it exists, and is another's
            return False
        return True

    def is_held(self) -> bool:
        """Whether anybody has it."""
        return self.current_holder() is not None

    def current_holder(self) -> str | None:
        """Host and process of whoever has it."""
        with self._documents.asked():
            found = self._collection.find_one({"_id": self._name, "expires": {"$gte": now()}}, {"holder": 1})
        return None if found is None else found["holder"]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the lease for this block, however long it takes.

        :raises MediaConflict: Another process has it; the message says which.
        """
        if not self.take() and not (self._end_of_dead() and self.take()):
            raise MediaConflict(f"another process is at it: {self.current_holder() or 'it ended just now'}")
        ended = threading.Event()
        renewal = threading.Thread(target=self._renew, args=(ended,), name="dualmedia-lease", daemon=True)
        renewal.start()
        try:
            yield
        finally:
            ended.set()
            renewal.join()
            with suppress(Unavailable):  # it expires
                self.give_back()

    def _end_of_dead(self) -> bool:
        """Take the lease from a killed process of this host; whether it was one."""
        holder = self.current_holder()
        if holder is None:
            return True
        host, pid, _ = holder.rsplit("-", 2)
        if host != socket.gethostname():
            return False
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            pass
        except PermissionError:
            return False
        else:
            return False
        with self._documents.asked():
            self._collection.delete_one({"_id": self._name, "holder": holder})
        return True

    def _renew(self, ended: threading.Event) -> None:
        while not ended.wait(self._seconds / 3):
            with suppress(Unavailable):
                self.take()

    def give_back(self) -> None:
        """Let the next one have it at once."""
        with self._documents.asked():
            self._collection.delete_one({"_id": self._name, "holder": self.holder})
