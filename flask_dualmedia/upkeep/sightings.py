"""What was seen before, and since when: nothing is taken away on one look.

A check, or a sweep, notes in MongoDB what it would take away. A later one takes it away if it is
still there as it was. The time between the two is judged by the clock of MongoDB alone. A thing
that changes is another thing, because its name holds its version: so whatever moved meanwhile
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
    from ..models import Media
    from ..state import State

COLLECTION = FINDINGS

CAPACITY = 100_000
"""Sightings that are remembered. What is seen beyond that has its turn when others are gone."""


class Sightings:
    """What one run sees, and whether an earlier one saw it too.

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

        :return: Since when those are that an earlier run saw too.
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
        with self._mongo.asked(BULK):
            self._collection.delete_many({"looker": self._looker, "last": {"$lt": self.time}})

    def _note(self, names: t.Collection[str]) -> dict[str, datetime]:
        ids = {f"{self._looker}/{name}": name for name in names}
        with self._mongo.asked(BULK):
            known = {
                found["_id"]: found for found in self._collection.find({"_id": {"$in": [*ids]}})
            }
            if self._room is None:
                self._room = CAPACITY - self._collection.estimated_document_count()
            unknown = [each for each in ids if each not in known]
            remembered = unknown[: max(0, self._room)]
            changes = [self._sighting(each) for each in [*known, *remembered]]
            if changes:
                self._collection.bulk_write(changes, ordered=False)
        self._room -= len(remembered)
        self.forgone += len(unknown) - len(remembered)
        return {
            ids[each]: found["since"] for each, found in known.items() if found["run"] != self._run
        }

    def _sighting(self, sighting_id: str) -> UpdateOne:
        first: Document = {"looker": self._looker, "since": self.time, "run": self._run}
        return UpdateOne(
            {"_id": sighting_id}, {"$setOnInsert": first, "$max": {"last": self.time}}, upsert=True
        )


def name_of(record: Media) -> str:
    """A record as it is now: what happens to it gives it another name."""
    return f"{record.kind}/{record.id}/{record.state}/{record.version}"
