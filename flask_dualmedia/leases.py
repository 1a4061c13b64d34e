"""Work that one process at a time may do, among all processes on all hosts."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from secrets import token_hex

from .collections import LEASES, Collections
from .documents import Documents
from .errors import MediaConflict
from .models import now

COLLECTION = LEASES

SECONDS = 15
"""How long a lease lasts unless it is renewed: that long nobody goes on with the work of a killed process. The clocks
of hosts may differ by less than this."""


class Lease:
    """The right to do some work, kept in MongoDB.

    :param name: Of the work.
    """

    def __init__(self, documents: Documents | Collections, name: str) -> None:
        self._collections, self._name = Collections.of(documents), name
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"

    def take(self) -> bool:
        """Take or renew the lease; false if another process has it."""
        time = now()
        free = {"_id": self._name, "$or": [{"holder": self.holder}, {"expires": {"$lt": time}}]}
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
