"""Work that one process at a time may do, among all processes on all hosts."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timedelta
from secrets import token_hex

from .collections import LEASES, Collections
from .documents import Document, Documents
from .errors import MediaConflict

COLLECTION = LEASES

SECONDS = 15
"""How long a lease lasts unless it is renewed: that long nobody goes on with the work of a killed process."""


def run_out(field: str, time: datetime, seconds: float) -> list[Document]:
    """Conditions of which one is true for a lease that has run out.

    One that lasts longer than any can was given out by a clock that was set back since: it would be held for hours.

    :param field: Holds when it runs out.
    :param seconds: How long it lasts when it is taken.
    """
    return [{field: {"$lt": time}}, {field: {"$gt": time + timedelta(seconds=2 * seconds)}}]


class Lease:
    """The right to do some work, kept in MongoDB.

    :param name: Of the work.
    """

    def __init__(self, documents: Documents | Collections, name: str) -> None:
        self._collections, self._name = Collections.of(documents), name
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"

    def take(self) -> bool:
        """Take or renew the lease; false if another process has it."""
        time = self._collections.documents.clock.now()
        free = {"_id": self._name, "$or": [{"holder": self.holder}, *run_out("expires", time, SECONDS)]}
        mine = {"$set": {"holder": self.holder, "expires": time + timedelta(seconds=SECONDS)}}
        try:
            with self._collections.documents.asked():
                self._collections.get(COLLECTION).update_one(free, mine, upsert=True)
        except MediaConflict:  # it exists, and is another's
            return False
        return True

    def give_back(self) -> None:
        """Let the next one have it at once."""
        with self._collections.documents.asked():
            self._collections.get(COLLECTION).delete_one({"_id": self._name, "holder": self.holder})
