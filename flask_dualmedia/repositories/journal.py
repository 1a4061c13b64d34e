"""Records that wait in MongoDB to be moved into SQL."""

from __future__ import annotations

import typing as t
import uuid
from datetime import datetime, timedelta

from pymongo import ReturnDocument

from ..databases.collections import DRAINS, JOURNAL, records_only
from ..databases.documents import Document
from ..models import AVAILABLE, DELETING, JOURNALED, KEPT, KINDS, PENDING, TRASHED, MediaRecord
from . import queries
from .base import M
from .mongo import MongoRepository

REASON_LENGTH = 500
"""Characters of a reason that are kept."""

RETRY_AFTER = timedelta(hours=1)
"""How long a record that SQL refused is left alone, unless it is edited or somebody asks for it."""

_REFUSED: Document = {"refused": {"$exists": True}}


class Refusal(t.NamedTuple):
    """Why SQL did not take a record, and when it was tried last."""

    reason: str
    at: datetime | None


class JournalRepository(MongoRepository):
    """Records waiting to be moved into SQL.

    A record is claimed before it is moved: it stays readable, but is not changed any more, so that
    no change is made to a copy that is already left behind. A caller that finds it claimed tries
    again in a moment.

    A record that SQL refuses is set aside: it stays here, readable and changeable, and those behind
    it are moved.
    """

    prefix = JOURNAL
    kinds = JOURNALED
    _unclaimed: t.ClassVar[Document] = {"claimed": {"$exists": False}}
    _with_change: t.ClassVar[Document] = {
        "$unset": {"refused": "", "stale": ""},
    }

    def claim(
        self,
        kind: type[M],
        media_id: uuid.UUID,
        claimant: str = "",
    ) -> M | None:
        """Claim a record that is available or in the trash; ``None`` if there is none any more.

        :param claimant: The holder of the lease under which the record is moved. The claim of
            another holder, which was killed, is taken over.
        """
        kept = {
            "_id": media_id,
            "state": {"$in": [*KEPT]},
        }
        with self._collections.asked():
            collection = self._collection(kind)
            document = collection.find_one_and_update(
                records_only(kind, kept),
                {"$set": {"claimed": claimant}},
                return_document=ReturnDocument.AFTER,
            )
        return queries.record_of(kind, document)

    def deleted(self, kind: type[MediaRecord]) -> set[uuid.UUID]:
        """The ids of records that are deleted, and that SQL may have all the same."""
        where = records_only(kind, {"state": DELETING})
        with self._collections.asked():
            collection = self._collection(kind)
            documents = collection.find(where, {"_id": 1})
            return {document["_id"] for document in documents}

    def release(
        self,
        kind: type[MediaRecord],
        media_id: uuid.UUID,
        claimant: str,
    ) -> None:
        """Undo the claim of a record that was not sent to SQL."""
        claimed = {
            "_id": media_id,
            "claimed": claimant,
        }
        where = records_only(kind, claimed)
        change = {"$unset": {"claimed": ""}}
        with self._collections.asked():
            collection = self._collection(kind)
            collection.update_one(where, change)

    def claimed(self) -> list[MediaRecord]:
        """The records that are claimed."""
        where = {"claimed": {"$exists": True}}
        records: list[MediaRecord] = []
        for kind in JOURNALED.values():
            records += self._find(kind, where, queries.BY_ID)
        return records

    def set_aside(self, record: MediaRecord, reason: str) -> bool:
        """Note that SQL refuses a record. It may be changed again, which takes the note away.

        :return: Whether the reason is a new one.
        """
        # No string of MongoDB's may hold a half surrogate pair, and nobody reads a page of reasons.
        printable = reason.encode(errors="backslashreplace").decode()
        reason = printable[:REASON_LENGTH]
        refused = {"reason": reason, "at": self._collections.clock.now()}
        change = {
            "$set": {"refused": refused},
            "$unset": {"claimed": ""},
        }

        kind = type(record)
        where = records_only(kind, {"_id": record.id})
        with self._collections.asked():
            collection = self._collection(kind)
            before = collection.find_one_and_update(where, change)

        if before is None:
            return False
        refused_before = before.get("refused", {})
        return refused_before.get("reason") != reason

    def refusal_of(self, record: MediaRecord) -> Refusal | None:
        """Why a record that was just read is set aside, and since when; ``None`` if it is not.

        The time is ``None`` where somebody wants the record tried again.
        """
        refused = vars(record).get("refused")
        if refused is None:
            return None
        return Refusal(refused["reason"], refused.get("at"))

    def refused(self, limit: int) -> list[MediaRecord]:
        """The first of the records that are set aside."""
        records: list[MediaRecord] = []
        for kind in JOURNALED.values():
            records += self._find(kind, _REFUSED, queries.BY_ID, limit)
        return records[:limit]

    def count_refused(self) -> int:
        """How many records are set aside."""
        number = 0
        with self._collections.asked():
            for kind in JOURNALED.values():
                collection = self._collection(kind)
                refused = records_only(kind, _REFUSED)
                number += collection.count_documents(refused)
        return number

    def try_again(self) -> None:
        """Have what is set aside tried again at the next drain.

        The reasons stay, so that nobody is told twice.
        """
        for kind in JOURNALED.values():
            tried = {"refused.at": {"$exists": True}}
            where = records_only(kind, tried)
            change = {"$unset": {"refused.at": ""}}
            with self._collections.asked():
                collection = self._collection(kind)
                collection.update_many(where, change)

    def trash_stale(self, record: MediaRecord) -> bool:
        """Put a record into the trash that SQL had once, and has no more.

        Bringing it back has it moved again. Nobody knows whether its links were revoked in SQL
        since: they are now.
        """
        where = {
            "_id": record.id,
            "state": AVAILABLE,
        }
        changes = {
            "state": TRASHED,
            "version": record.version + 1,
            "stale": True,
            **record.revoked_values(),
        }
        change = {
            "$set": changes,
            "$unset": {"claimed": ""},
        }
        with self._collections.asked():
            collection = self._collection(type(record))
            result = collection.update_one(where, change)
        return bool(result.modified_count)

    def is_stale(self, record: MediaRecord) -> bool:
        """Tell whether a record that was just read is in the trash because the journal is older
        than SQL."""
        return record.state == TRASHED and "stale" in vars(record)

    def last_drain(self) -> int:
        """The number of the last drain that MongoDB knows of, 0 before the first."""
        with self._collections.asked():
            drains = self._collections.get(DRAINS, durable=True)
            last = drains.find_one({"_id": "last"}) or {"number": 0}
            return last["number"]

    def note_drain(self, number: int) -> None:
        """Note the number of a drain, unless a later one is known."""
        change = {"$max": {"number": number}}
        with self._collections.asked():
            drains = self._collections.get(DRAINS, durable=True)
            drains.update_one({"_id": "last"}, change, upsert=True)

    def is_due(self, record: MediaRecord) -> bool:
        """Tell whether a record that was just read is to be moved now.

        One that is set aside is due after :data:`RETRY_AFTER`. Clocks may differ: one whose refusal
        lies further than that in the future is due too.
        """
        refusal = self.refusal_of(record)
        if refusal is None or refusal.at is None:
            return True
        time = self._collections.clock.now()
        return abs(time - refusal.at) > RETRY_AFTER

    def has_work(self) -> bool:
        """Tell whether it holds anything that is not set aside for a while yet.

        Pending uploads count, and stale records in the trash do not.
        """
        time = self._collections.clock.now()
        due = {
            "$nor": [{"state": TRASHED, "stale": True}],
            "$or": [
                {"refused.at": {"$exists": False}},
                {"refused.at": {"$lt": time - RETRY_AFTER}},
                {"refused.at": {"$gt": time + RETRY_AFTER}},
            ],
        }
        with self._collections.asked():
            return self._has_any(due)

    @property
    def is_away(self) -> bool:
        """True while MongoDB is known not to answer, so that nobody can tell what is in it."""
        return self._collections.documents.circuit.is_open

    def is_claimed(self, record: MediaRecord) -> bool:
        """Tell whether a record that was just read was claimed."""
        return "claimed" in vars(record)

    def is_empty(self) -> bool:
        """Tell whether it holds nothing.

        An upload in progress counts as something: it may become available at any moment.
        """
        with self._collections.asked():
            return not self._has_any({})

    def uploader_of(self, media_id: uuid.UUID) -> str | None:
        """The uploader of a record that is here; ``None`` if there is no record or no uploader."""
        with self._collections.asked():
            for kind in KINDS.values():
                collection = self._collection(kind)
                where = records_only(kind, {"_id": media_id})
                document = collection.find_one(where, {"uploaded_by": 1})
                if document is not None:
                    return document.get("uploaded_by")
        return None

    def keys_of_unfinished(self, identity: str) -> list[str]:
        """The storage keys of what somebody is just sending."""
        where = {
            "state": PENDING,
            "uploaded_by": identity,
        }
        keys: list[str] = []
        for kind in KINDS.values():
            with self._collections.asked():
                collection = self._collection(kind)
                unfinished = records_only(kind, where)
                for document in collection.find(unfinished, {"storage_key": 1}):
                    key = document.get("storage_key")
                    if key:
                        keys.append(key)
        return keys

    def waiting(self) -> int:
        """How many records wait to be moved: those that are available, set aside or not."""
        number = 0
        with self._collections.asked():
            for kind in JOURNALED.values():
                collection = self._collection(kind)
                available = records_only(kind, {"state": AVAILABLE})
                number += collection.count_documents(available)
        return number

    def _has_any(self, where: Document) -> bool:
        """Tell whether a record of any kind matches."""
        for kind in JOURNALED.values():
            collection = self._collection(kind)
            matching = records_only(kind, where)
            if collection.find_one(matching, {"_id": 1}) is not None:
                return True
        return False
