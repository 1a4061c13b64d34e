"""Media records in MongoDB collections, with the names and fields of the SQL tables."""

from __future__ import annotations

import heapq
import typing as t
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice

from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument, UpdateOne, errors
from pymongo.collection import Collection

from ..databases import storable
from ..databases.collections import DRAINS, JOURNAL, Collections, is_record, records_only
from ..databases.documents import BULK, INDEXING, MAIN_INDEX, Document, Documents
from ..models import AVAILABLE, DELETING, KEPT, KINDS, PENDING, TRASHED, Media
from .base import EVERYTHING, Accesses, Announced, Listing, M, Position, Records, Selection, Values

Sort = t.Sequence[tuple[str, int]]


class MongoRepository:
    """Media records in four collections of one MongoDB database.

    Documents in them that are no records are the host's: they are neither read nor changed nor
    counted.
    """

    prefix = ""
    """Stands before the names of the collections, behind the one that the host chose."""
    _unclaimed: t.ClassVar[Document] = {}
    """What must be true of a record besides, that it may be changed."""
    _with_change: t.ClassVar[Document] = {}
    """What happens to a record besides, when it is changed."""

    def __init__(self, documents: Documents | Collections) -> None:
        self._collections = Collections.of(documents)
        self._documents = self._collections.documents
        self.is_indexed = False
        """Whether the indexes are known to be there."""

    def version(self) -> str:
        with self._documents.asked():
            return str(self._documents.command("buildInfo")["version"])

    def check_names(self) -> None:
        """Make sure that the collections, where they are there, are ours.

        :raises NamesTaken: Some are the host's.
        """
        self._collections.check(self.prefix + kind.__tablename__ for kind in KINDS.values())

    def ensure_indexes(self) -> None:
        """Create the indexes that are missing, with the names and columns of those in SQL."""
        self.version()  # a server that hangs is found by a call that does not have that long
        with self._documents.asked(INDEXING):
            for kind in KINDS.values():
                self._collection(kind).create_indexes(list(_indexes(kind)))
        self.is_indexed = True

    def add(self, record: Media, *, keeps_id: bool = False) -> None:
        if not self.is_indexed:  # MongoDB was down at start-up; uniqueness must not depend on that
            self.ensure_indexes()
        values = record.values()
        storable.check(type(record), values)
        with self._documents.asked():
            self._collection(type(record)).insert_one(_document(values))

    def add_all(self, records: t.Sequence[Media]) -> None:
        if not self.is_indexed:
            self.ensure_indexes()
        for record in records:
            storable.check(type(record), record.values())
        collection, documents = (
            self._collection(type(records[0])),
            [_document(one.values()) for one in records],
        )
        with self._documents.asked(BULK):
            try:
                collection.insert_many(documents)
            except errors.BulkWriteError as error:
                # Without a replica set there are no transactions.
                inserted = (error.details or {})["nInserted"]
                collection.delete_many(
                    {"_id": {"$in": [one["_id"] for one in documents[:inserted]]}}
                )
                raise

    def get(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        with self._documents.asked():
            document = self._collection(kind).find_one({"_id": media_id, "state": AVAILABLE})
        return _record(kind, document)

    def find(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        with self._documents.asked():
            document = self._collection(kind).find_one({"_id": media_id})
        return _record(kind, document)

    def keys_of(self, kind: type[Media], ids: t.Sequence[uuid.UUID]) -> list[str | None]:
        with self._documents.asked():
            found = self._collection(kind).find(
                records_only(kind, {"_id": {"$in": [*ids]}}), {"storage_key": 1}
            )
            return [document.get("storage_key") for document in found]

    def scan(self, kind: type[M], after: uuid.UUID | None, limit: int) -> list[M]:
        where = {} if after is None else {"_id": {"$gt": after}}
        return self._find(kind, where, [("_id", ASCENDING)], limit)

    def select(self, listing: Listing[M]) -> Records[M]:
        def place(record: M) -> t.Any:
            return getattr(record, listing.sort), record.id

        scans = [self._scan(listing, scope) for scope in _scopes(listing)]
        merged = heapq.merge(*scans, key=place, reverse=listing.descending)
        # A record that is changed meanwhile may be found by both scans, and in another place by the
        # second.
        records = {record.id: record for record in merged}
        return Records(islice(records.values(), listing.limit))

    def _scan(self, listing: Listing[M], scope: Document) -> list[M]:
        """The first records of a list that are in a scope, in the order of the list."""
        direction = DESCENDING if listing.descending else ASCENDING
        sort = [(_key(name), direction) for name in dict.fromkeys((listing.sort, "id"))]
        records: list[M] = []
        for span in _spans(listing):
            limit = 0 if listing.limit is None else listing.limit - len(records)
            # In this order: a server may take the first of these conditions that it has an index
            # for.
            where = {**scope, **listing.where, **span, "state": AVAILABLE}
            records += self._find(listing.kind, where, sort, limit)
            if len(records) == listing.limit:
                break
        return records

    def of_owners(
        self, kinds: t.Sequence[type[Media]], reference_type: str | None, ids: t.Sequence[str]
    ) -> Records[Media]:
        records: Records[Media] = Records()
        for kind in kinds:
            where: Document = {kind.owner_field: {"$in": [*ids]}, "state": AVAILABLE}
            if "reference_type" in kind.field_names():
                where["reference_type"] = reference_type
            sort = [(name, ASCENDING) for name in dict.fromkeys((_key(kind.order), "_id"))]
            records += self._find(kind, where, sort)
        return records

    def _find(self, kind: type[M], where: Document, sort: Sort, limit: int = 0) -> list[M]:
        """The records that match. Where others match too, MongoDB is asked once more, for records
        alone: it would take longer if it looked at every field each time."""
        with self._documents.asked():
            found = list(self._collection(kind).find(where).sort(sort).limit(limit))
            if not all(is_record(kind, document) for document in found):
                both = {"$and": [where, records_only(kind)]}
                found = list(self._collection(kind).find(both).sort(sort).limit(limit))
        return [_some_record(kind, document) for document in found]

    def update(
        self, kind: type[M], media_id: uuid.UUID, changes: Values, *, where: Values
    ) -> M | None:
        storable.check(kind, changes)
        matching = {"_id": media_id, **self._unclaimed, **where}
        change: Document = {"$set": dict(changes), **self._with_change}
        if where.get("version") == 1:
            matching["version"] = {"$in": [1, None]}  # documents of an earlier version have none
        if "version" in where:
            change["$set"].setdefault("version", where["version"] + 1)
        elif "version" not in changes:
            change["$inc"] = {"version": 1}
        collection = self._collection(kind)
        with self._documents.asked():
            document = collection.find_one_and_update(
                records_only(kind, matching), change, return_document=ReturnDocument.AFTER
            )
            if document is None and _is_made_once(change["$set"]):
                # A driver that lost the answer has sent it twice: the second sees what the first
                # has made.
                made = {"_id": media_id, **self._unclaimed, **change["$set"]}
                document = collection.find_one(records_only(kind, made))
        return _record(kind, document)

    def bury(self, kind: type[Media], media_id: uuid.UUID) -> None:
        with self._documents.asked():
            nothing = {"$set": dict.fromkeys(kind.nullable_fields())}
            self._collection(kind).update_one(
                records_only(kind, {"_id": media_id, "state": DELETING}), nothing
            )

    def remove(self, kind: type[Media], media_id: uuid.UUID) -> None:
        with self._documents.asked():
            self._collection(kind).delete_one(records_only(kind, {"_id": media_id}))

    def count_access(
        self, kind: type[Media], media_id: uuid.UUID, at: datetime, number: int = 1
    ) -> bool:
        with self._documents.asked():
            where, change = self._access(kind, media_id, at, number)
            return bool(self._collection(kind).update_one(where, change).matched_count)

    def add_accesses(
        self, kind: type[Media], counts: t.Mapping[uuid.UUID, Accesses]
    ) -> dict[uuid.UUID, bool]:
        changes = [
            UpdateOne(*self._access(kind, media_id, at, number))
            for media_id, (number, at) in sorted(counts.items())
        ]
        with self._documents.asked(BULK):
            if self._collection(kind).bulk_write(changes, ordered=False).matched_count == len(
                counts
            ):
                return dict.fromkeys(counts, True)
            available = records_only(kind, {"_id": {"$in": [*counts]}, "state": AVAILABLE})
            found = self._collection(kind).find(available, {"_id": 1})
            there = {document["_id"] for document in found}
        return {media_id: media_id in there for media_id in counts}

    def _access(
        self, kind: type[Media], media_id: uuid.UUID, at: datetime, number: int
    ) -> tuple[Document, Document]:
        where = records_only(kind, {"_id": media_id, "state": AVAILABLE, **self._unclaimed})
        return where, {"$inc": {"access_count": number}, "$max": {"last_accessed_at": at}}

    def unfinished(
        self, kind: type[M], before: datetime, limit: int, after: Position | None = None
    ) -> list[M]:
        where: Document = {"state": {"$in": [PENDING, DELETING]}, "updated_at": {"$lt": before}}
        if after is not None:
            time, last_id = after
            where["$or"] = [
                {"updated_at": {"$gt": time}},
                {"updated_at": time, "_id": {"$gt": last_id}},
            ]
        return self._find(kind, where, [("updated_at", ASCENDING), ("_id", ASCENDING)], limit)

    def trashed(self, kind: type[M], after: uuid.UUID | None, limit: int) -> list[M]:
        where: Document = {"state": TRASHED}
        if after is not None:
            where["_id"] = {"$gt": after}
        return self._find(kind, where, [("_id", ASCENDING)], limit)

    def count(self, kind: type[Media]) -> int:
        held = records_only(
            kind, {"$nor": [{"state": DELETING, "storage_key": None}, {"state": TRASHED}]}
        )
        with self._documents.asked(BULK):
            return self._collection(kind).count_documents(held)

    def count_trashed(self, kind: type[Media]) -> int:
        with self._documents.asked(BULK):
            return self._collection(kind).count_documents(records_only(kind, {"state": TRASHED}))

    def announced(self, uploaded_by: str, since: datetime, but: uuid.UUID | None) -> Announced:
        where: Document = {"uploaded_by": uploaded_by, "state": PENDING, "checksum": {"$ne": None}}
        where["updated_at"] = {"$gte": since}
        total = {"$group": {"_id": None, "number": {"$sum": 1}, "size": {"$sum": "$file_size"}}}
        number = size = 0
        for kind in KINDS.values():
            others = {"$and": [records_only(kind, where), {"_id": {"$ne": but}}]}
            with self._documents.asked():
                for group in self._collection(kind).aggregate([{"$match": others}, total]):
                    number += group["number"]
                    size += group["size"]
        return Announced(number, size)

    def stored_size(self, selection: Selection) -> int:
        size = 0
        total = {"$group": {"_id": None, "size": {"$sum": "$file_size"}}}
        for kind, where in selection.items():
            kept = {
                "$match": records_only(
                    kind, {"state": AVAILABLE, "storage_key": {"$ne": None}, **where}
                )
            }
            with self._documents.asked():
                size += sum(
                    group["size"] for group in self._collection(kind).aggregate([kept, total])
                )
        return size

    def _collection(self, kind: type[Media]) -> Collection[Document]:
        return self._collections.get(self.prefix + kind.__tablename__, durable=True)


REASON_LENGTH = 500
"""Characters of a reason that are kept."""

RETRY_AFTER = timedelta(hours=1)
"""How long a record that SQL refused is left alone, unless it is edited or somebody asks for it."""


class Refusal(t.NamedTuple):
    """Why SQL did not take a record, and when it was tried last."""

    reason: str
    at: datetime | None


class JournalRepository(MongoRepository):
    """Records waiting to be moved into SQL.

    A record is claimed before it is moved: it stays readable, but is not changed any more, so that
    no change is made to a copy that is already left behind. Who finds it claimed tries again in a
    moment.

    A record that SQL refuses is set aside: it stays here, readable and changeable, and those behind
    it are moved.
    """

    prefix = JOURNAL
    _unclaimed: t.ClassVar[Document] = {"claimed": {"$exists": False}}
    _with_change: t.ClassVar[Document] = {"$unset": {"refused": "", "stale": ""}}

    def claim(self, kind: type[M], media_id: uuid.UUID, claimant: str = "") -> M | None:
        """Claim a record that is available or in the trash; ``None`` if there is none any more.

        :param claimant: The holder of the lease under which the record is moved. A claim of
            another, who was killed, is taken over.
        """
        with self._documents.asked():
            document = self._collection(kind).find_one_and_update(
                records_only(kind, {"_id": media_id, "state": {"$in": [*KEPT]}}),
                {"$set": {"claimed": claimant}},
                return_document=ReturnDocument.AFTER,
            )
        return _record(kind, document)

    def deleted(self, kind: type[Media]) -> set[uuid.UUID]:
        """The ids of records that are deleted, and that SQL may have all the same."""
        deleted = records_only(kind, {"state": DELETING})
        with self._documents.asked():
            return {found["_id"] for found in self._collection(kind).find(deleted, {"_id": 1})}

    def release(self, kind: type[Media], media_id: uuid.UUID, claimant: str) -> None:
        """Undo a claim, of a record that was not sent to SQL."""
        claimed = records_only(kind, {"_id": media_id, "claimed": claimant})
        with self._documents.asked():
            self._collection(kind).update_one(claimed, {"$unset": {"claimed": ""}})

    def claimed(self) -> list[Media]:
        """The records that are claimed."""
        records: list[Media] = []
        for kind in KINDS.values():
            records += self._find(kind, {"claimed": {"$exists": True}}, [("_id", ASCENDING)])
        return records

    def set_aside(self, record: Media, reason: str) -> bool:
        """Note that SQL refuses a record. It may be changed again, which takes the note away.

        :return: Whether the reason is a new one.
        """
        # No string of MongoDB's may hold a half surrogate pair, and nobody reads a page of reasons.
        reason = reason.encode(errors="backslashreplace").decode()[:REASON_LENGTH]
        refused = {"reason": reason, "at": self._documents.clock.now()}
        refusal = {"$set": {"refused": refused}, "$unset": {"claimed": ""}}
        with self._documents.asked():
            before = self._collection(type(record)).find_one_and_update(
                records_only(type(record), {"_id": record.id}), refusal
            )
        return before is not None and before.get("refused", {}).get("reason") != reason

    def refusal_of(self, record: Media) -> Refusal | None:
        """Why a record that was just read is set aside, and since when; ``None`` if it is not."""
        noted = vars(record).get("refused")
        return None if noted is None else Refusal(noted["reason"], noted.get("at"))

    def refused(self, limit: int) -> list[Media]:
        """The first of the records that are set aside."""
        records: list[Media] = []
        for kind in KINDS.values():
            records += self._find(kind, {"refused": {"$exists": True}}, [("_id", ASCENDING)], limit)
        return records[:limit]

    def count_refused(self) -> int:
        """How many records are set aside."""
        where = {"refused": {"$exists": True}}
        with self._documents.asked():
            return sum(
                self._collection(kind).count_documents(records_only(kind, where))
                for kind in KINDS.values()
            )

    def try_again(self) -> None:
        """Have what is set aside tried again at the next drain. The reasons stay, so that nobody is
        told twice."""
        for kind in KINDS.values():
            tried = records_only(kind, {"refused.at": {"$exists": True}})
            with self._documents.asked():
                self._collection(kind).update_many(tried, {"$unset": {"refused.at": ""}})

    def trash_stale(self, record: Media) -> bool:
        """Put a record into the trash that SQL had once, and has no more; whoever brings it back
        has it moved again.

        Nobody knows whether its links were revoked in SQL since: they are now.
        """
        changes = {"state": TRASHED, "version": record.version + 1, "stale": True}
        changes["links_revoked_at"] = record.next_revocation()
        stale = {"$set": changes, "$unset": {"claimed": ""}}
        with self._documents.asked():
            changed = self._collection(type(record)).update_one(
                {"_id": record.id, "state": AVAILABLE}, stale
            )
        return bool(changed.modified_count)

    def is_stale(self, record: Media) -> bool:
        """Whether a record that was just read is in the trash because the journal is older than
        SQL."""
        return record.state == TRASHED and "stale" in vars(record)

    def last_drain(self) -> int:
        """The number of the last drain that MongoDB knows of."""
        with self._documents.asked():
            return (
                self._collections.get(DRAINS, durable=True).find_one({"_id": "last"})
                or {"number": 0}
            )["number"]

    def note_drain(self, number: int) -> None:
        """Note the number of a drain, unless a later one is known."""
        with self._documents.asked():
            self._collections.get(DRAINS, durable=True).update_one(
                {"_id": "last"}, {"$max": {"number": number}}, upsert=True
            )

    def is_due(self, record: Media) -> bool:
        """Whether a record that was just read is to be moved now, and not set aside for a while
        yet."""
        refusal = self.refusal_of(record)
        if refusal is None or refusal.at is None:
            return True
        return abs(self._documents.clock.now() - refusal.at) > RETRY_AFTER

    def has_work(self) -> bool:
        """Whether there is anything in it that is not set aside for a while yet."""
        time = self._documents.clock.now()
        due = {
            "$nor": [{"state": TRASHED, "stale": True}],
            "$or": [
                {"refused.at": {"$exists": False}},
                {"refused.at": {"$lt": time - RETRY_AFTER}},
                {"refused.at": {"$gt": time + RETRY_AFTER}},
            ],
        }
        with self._documents.asked():
            return any(self._has(kind, due) for kind in KINDS.values())

    @property
    def is_away(self) -> bool:
        """Whether MongoDB is known not to answer, so that nobody can tell what is in it."""
        return self._documents.circuit.is_open

    def is_claimed(self, record: Media) -> bool:
        """Whether a record that was just read was claimed."""
        return "claimed" in vars(record)

    def is_empty(self) -> bool:
        """Whether there is nothing in it, not even an upload in progress, which may become
        available at any moment."""
        with self._documents.asked():
            return not any(self._has(kind, {}) for kind in KINDS.values())

    def uploader_of(self, media_id: uuid.UUID) -> str | None:
        """Who sent a record that is here."""
        with self._documents.asked():
            for kind in KINDS.values():
                found = self._collection(kind).find_one({"_id": media_id}, {"uploaded_by": 1})
                if found is not None:
                    return found["uploaded_by"]
        return None

    def keys_of_unfinished(self, identity: str) -> list[str]:
        """The storage keys of what somebody is just sending."""
        where = {"state": PENDING, "uploaded_by": identity}
        keys: list[str] = []
        for kind in KINDS.values():
            with self._documents.asked():
                found = self._collection(kind).find(where, {"storage_key": 1})
                keys += [document["storage_key"] for document in found if document["storage_key"]]
        return keys

    def waiting(self) -> int:
        """How many records wait to be moved."""
        with self._documents.asked():
            return sum(
                self._collection(kind).count_documents(records_only(kind, {"state": AVAILABLE}))
                for kind in KINDS.values()
            )

    def _has(self, kind: type[Media], where: Document) -> bool:
        return self._collection(kind).find_one(records_only(kind, where), {"_id": 1}) is not None


def _scopes(listing: Listing[t.Any]) -> list[Document]:
    """The conditions of the scans that find all that a list may show.

    With one condition for both, no index would have the order and the records together, and records
    that nobody is shown would be read.
    """
    if listing.visible_to is EVERYTHING:
        return [{}]
    if not listing.shows_private:
        return [{"is_public": True}]
    # Public ones of the reader too: if one is made private between the two scans it is missing in
    # neither.
    return [{"is_public": True}, {"uploaded_by": listing.visible_to}]


def _spans(listing: Listing[t.Any]) -> list[Document]:
    """Where a list goes on: first among the records with the value of the last one, then behind it.

    With both in one condition, an index would be read from its beginning.
    """
    if listing.after is None:
        return [{}]
    value, last_id = listing.after
    beyond = "$lt" if listing.descending else "$gt"
    if listing.sort == "id":
        return [{"_id": {beyond: last_id}}]
    return [{listing.sort: value, "_id": {beyond: last_id}}, {listing.sort: {beyond: value}}]


def _key(field: str) -> str:
    return "_id" if field == "id" else field


def _document(values: Values) -> Document:
    return {_key(name): value for name, value in values.items()}


def _some_record(kind: type[M], document: Document) -> M:
    document["id"] = document.pop("_id")
    # A document of an earlier version lacks what is new since.
    return kind.from_values(kind.defaults() | document)


def _is_made_once(values: Values) -> bool:
    """Whether a change cannot be made again, on what the first has left, and has a time that tells
    whose it is."""
    return {"version", "updated_at"} <= values.keys() and (
        "state" in values or "storage_key" in values
    )


def _record(kind: type[M], document: Document | None) -> M | None:
    return (
        _some_record(kind, document) if document is not None and is_record(kind, document) else None
    )


def _indexes(kind: type[Media]) -> Iterator[IndexModel]:
    """The indexes of the SQL table, as far as MongoDB needs them.

    A partial filter knows no ``<>``, so unfinished records are found through the state. MongoDB
    tries the indexes that a query could go by against each other, and so needs fewer: its private
    records an uploader has by ``ix_..._uploader``.
    """
    for index in sorted(kind.__table__.indexes, key=lambda index: str(index.name)):  # type: ignore[attr-defined]
        name, keys = str(index.name), [(_key(column.name), ASCENDING) for column in index.columns]
        if name == MAIN_INDEX:
            only_main = {"is_main_image": True, "state": AVAILABLE}
            yield IndexModel(keys, name=name, unique=True, partialFilterExpression=only_main)
        elif name.endswith("_unfinished"):
            yield IndexModel([("state", ASCENDING), *keys], name=name)
        elif name.endswith(("_public", "_public_owner")):
            only_public = {"is_public": True}
            yield IndexModel(
                [("is_public", ASCENDING), *keys], name=name, partialFilterExpression=only_public
            )
        elif "_public" not in name and "_private" not in name:
            yield IndexModel(keys, name=name)
