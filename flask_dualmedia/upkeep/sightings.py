"""Sightings: nothing is taken away before it was seen twice.

A check, or a sweep, notes in MongoDB what it would take away. A later one takes it away if it is
still there as it was. The time between the two is judged by the clock of MongoDB alone. A thing
that changes is another thing, because its name holds its version: so a thing that changed meanwhile
counts as alive, whatever clocks say.
"""

from __future__ import annotations

import typing as t
from datetime import datetime, timedelta
from secrets import token_hex

from pymongo import UpdateOne

from ..databases.collections import FINDINGS
from ..databases.documents import BULK, Document
from ..errors import MediaConflict

if t.TYPE_CHECKING:
    from ..models import MediaRecord
    from ..state import State

COLLECTION = FINDINGS

CAPACITY = 100_000
"""Sightings that are remembered. Further things have their turn when others are gone."""


class Sightings:
    """Things that one run sees, and that an earlier run may have seen too.

    :param looker: Name of the work, which remembers its own sightings.
    """

    def __init__(self, state: State, looker: str) -> None:
        self._mongo = state.mongo
        self._collection = state.collections.get(COLLECTION)
        self._looker = looker
        self._run = token_hex(8)
        self._room: int | None = None
        self.time = state.mongo.time()
        """When the run began."""
        self.forgone = 0
        """How many could not be remembered."""

    def note(self, names: t.Collection[str]) -> dict[str, datetime]:
        """Note that things are there.

        :return: When an earlier run first saw them, by name. Things that none saw are left out.
        """
        if not names:
            return {}
        try:
            return self._note(names)
        except MediaConflict:  # another run noted the same at the same time
            return self._note(names)

    def is_due(self, since: datetime | None, seconds: float) -> bool:
        """Whether something was seen by an earlier run, at least so many seconds ago."""
        return since is not None and since <= self.time - timedelta(seconds=seconds)

    def forget(self) -> None:
        """Forget what this run, which has come to its end, did not see any more."""
        unseen = {
            "looker": self._looker,
            "last": {"$lt": self.time},
        }
        with self._mongo.asked(BULK):
            self._collection.delete_many(unseen)

    def _note(self, names: t.Collection[str]) -> dict[str, datetime]:
        """Note that things are there.

        :raises MediaConflict: Another run noted the same at the same time.
        """
        ids = {f"{self._looker}/{name}": name for name in names}
        with self._mongo.asked(BULK):
            cursor = self._collection.find({"_id": {"$in": [*ids]}})
            sightings = {sighting["_id"]: sighting for sighting in cursor}
            if self._room is None:
                count = self._collection.estimated_document_count()
                self._room = CAPACITY - count
            new_ids = [each for each in ids if each not in sightings]
            remembered_ids = new_ids[: max(0, self._room)]
            changes = [self._change_of(each) for each in [*sightings, *remembered_ids]]
            if changes:
                self._collection.bulk_write(changes, ordered=False)
        self._room -= len(remembered_ids)
        self.forgone += len(new_ids) - len(remembered_ids)

        first_seen: dict[str, datetime] = {}
        for sighting_id, sighting in sightings.items():
            if sighting["run"] != self._run:
                first_seen[ids[sighting_id]] = sighting["since"]
        return first_seen

    def _change_of(self, sighting_id: str) -> UpdateOne:
        """The change that notes a sighting, whether or not it is there."""
        first: Document = {
            "looker": self._looker,
            "since": self.time,
            "run": self._run,
        }
        change = {
            "$setOnInsert": first,
            "$max": {"last": self.time},
        }
        return UpdateOne({"_id": sighting_id}, change, upsert=True)


def name_of(record: MediaRecord) -> str:
    """The name of a record as it is now. Every change of the record gives it another name."""
    return f"{record.kind}/{record.id}/{record.state}/{record.version}"
