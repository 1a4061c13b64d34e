"""Media records in MongoDB collections, with the names and fields of the SQL tables."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta

from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument, UpdateOne, errors
from pymongo.collection import Collection
from pymongo.write_concern import WriteConcern

from .. import storable
from ..documents import BULK, INDEXING, MAIN_INDEX, Document, Documents
from ..models import AVAILABLE, DELETING, KEPT, KINDS, PENDING, TRASHED, Media, now
from .base import EVERYTHING, Accesses, Listing, M, Position, Records, Selection, Values


class MongoRepository:
    """Media records in four collections of one MongoDB database."""

    prefix = ""
    """Stands before the names of the collections."""
    _unclaimed: t.ClassVar[Document] = {}
    """What must be true of a record besides, that it may be changed."""
    _with_change: t.ClassVar[Document] = {}
    """What happens to a record besides, when it is changed."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        # What we acknowledge has reached the disks of a majority, and with it all that was written before: the bytes.
        self._database = documents.with_options(write_concern=WriteConcern("majority", j=True))
        self._indexed = False

    def version(self) -> str:
        with self._documents.asked():
            return str(self._database.command("buildInfo")["version"])

    def ensure_indexes(self) -> None:
        """Create the indexes that are missing, with the names and columns of those in SQL."""
        self.version()  # a server that hangs is found by a call that does not have that long
        with self._documents.asked(INDEXING):
            for kind in KINDS.values():
                self._collection(kind).create_indexes(list(_indexes(kind)))
        self._indexed = True

    def add(self, record: Media, *, keeps_id: bool = False) -> None:
        if not self._indexed:  # MongoDB was down at start-up; uniqueness must not depend on that
            self.ensure_indexes()
        values = record.values()
        storable.check(type(record), values)
        with self._documents.asked():
            self._collection(type(record)).insert_one(_document(values))

    def add_all(self, records: t.Sequence[Media]) -> None:
        if not self._indexed:
            self.ensure_indexes()
        for record in records:
            storable.check(type(record), record.values())
        collection, documents = self._collection(type(records[0])), [_document(one.values()) for one in records]
        with self._documents.asked():
            try:
                collection.insert_many(documents)
            except errors.BulkWriteError as error:
                # Without a replica set there are no transactions.
                inserted = (error.details or {})["nInserted"]
                collection.delete_many({"_id": {"$in": [one["_id"] for one in documents[:inserted]]}})
                raise

    def get(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        with self._documents.asked():
            document = self._collection(kind).find_one({"_id": media_id, "state": AVAILABLE})
        return _record(kind, document)

    def find(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        with self._documents.asked():
            document = self._collection(kind).find_one({"_id": media_id})
        return _record(kind, document)

    def keys_of(self, kind: type[Media], ids: t.Sequence[uuid.UUID]) -> t.List[str | None]:  # noqa: UP006
        with self._documents.asked():
            found = self._collection(kind).find({"_id": {"$in": [*ids]}}, {"storage_key": 1})
            return [document["storage_key"] for document in found]

    def scan(self, kind: type[M], after: uuid.UUID | None, limit: int) -> t.List[M]:  # noqa: UP006 - `list` is a method
        where = {} if after is None else {"_id": {"$gt": after}}
        with self._documents.asked():
            found = self._collection(kind).find(where).sort("_id", ASCENDING).limit(limit)
            return [_some_record(kind, document) for document in found]

    def list(self, listing: Listing[M]) -> Records[M]:
        where: list[Document] = [{"state": AVAILABLE, **listing.where}]
        if listing.visible_to is not EVERYTHING:
            where.append({"$or": [{"is_public": True}, {"uploaded_by": listing.visible_to}]})
        direction = DESCENDING if listing.descending else ASCENDING
        sort = [("_id", direction)]
        beyond = "$lt" if listing.descending else "$gt"
        if listing.sort != "id":
            sort.insert(0, (listing.sort, direction))
        if listing.after is not None:
            value, last_id = listing.after
            behind: Document = {"_id": {beyond: last_id}}
            if listing.sort != "id":
                behind = {"$or": [{listing.sort: {beyond: value}}, {listing.sort: value} | behind]}
            where.append(behind)
        with self._documents.asked():
            matching = {"$and": where} if len(where) > 1 else where[0]
            found = self._collection(listing.kind).find(matching).sort(sort).limit(listing.limit or 0)
            return Records(_some_record(listing.kind, document) for document in found)

    def of_owners(
        self, kinds: t.Sequence[type[Media]], reference_type: str | None, ids: t.Sequence[str]
    ) -> Records[Media]:
        records: Records[Media] = Records()
        for kind in kinds:
            where: Document = {kind.owner_field: {"$in": [*ids]}, "state": AVAILABLE}
            if "reference_type" in kind.field_names():
                where["reference_type"] = reference_type
            sort = [(name, ASCENDING) for name in dict.fromkeys((_key(kind.order), "_id"))]
            with self._documents.asked():
                records += [_some_record(kind, found) for found in self._collection(kind).find(where).sort(sort)]
        return records

    def update(self, kind: type[M], media_id: uuid.UUID, changes: Values, *, where: Values) -> M | None:
        storable.check(kind, changes)
        matching = {"_id": media_id, **self._unclaimed, **where}
        change: Document = {"$set": dict(changes), **self._with_change}
        if where.get("version") == 1:
            matching["version"] = {"$in": [1, None]}  # documents of an earlier version have none
        if "version" in where:
            change["$set"].setdefault("version", where["version"] + 1)
        elif "version" not in changes:
            change["$inc"] = {"version": 1}
        with self._documents.asked():
            document = self._collection(kind).find_one_and_update(
                matching, change, return_document=ReturnDocument.AFTER
            )
        return _record(kind, document)

    def bury(self, kind: type[Media], media_id: uuid.UUID) -> None:
        with self._documents.asked():
            nothing = {"$set": dict.fromkeys(kind.nullable_fields())}
            self._collection(kind).update_one({"_id": media_id, "state": DELETING}, nothing)

    def remove(self, kind: type[Media], media_id: uuid.UUID) -> None:
        with self._documents.asked():
            self._collection(kind).delete_one({"_id": media_id})

    def count_access(self, kind: type[Media], media_id: uuid.UUID, at: datetime, number: int = 1) -> bool:
        with self._documents.asked():
            where, change = self._access(media_id, at, number)
            return bool(self._collection(kind).update_one(where, change).matched_count)

    def add_accesses(self, kind: type[Media], counts: t.Mapping[uuid.UUID, Accesses]) -> dict[uuid.UUID, bool]:
        changes = [UpdateOne(*self._access(media_id, at, number)) for media_id, (number, at) in sorted(counts.items())]
        with self._documents.asked(BULK):
            if self._collection(kind).bulk_write(changes, ordered=False).matched_count == len(counts):
                return dict.fromkeys(counts, True)
            found = self._collection(kind).find({"_id": {"$in": [*counts]}, "state": AVAILABLE}, {"_id": 1})
            there = {document["_id"] for document in found}
        return {media_id: media_id in there for media_id in counts}

    def _access(self, media_id: uuid.UUID, at: datetime, number: int) -> tuple[Document, Document]:
        where = {"_id": media_id, "state": AVAILABLE, **self._unclaimed}
        return where, {"$inc": {"access_count": number}, "$max": {"last_accessed_at": at}}

    def unfinished(self, kind: type[M], before: datetime, limit: int, after: Position | None = None) -> t.List[M]:  # noqa: UP006 - `list` is a method
        where: Document = {"state": {"$in": [PENDING, DELETING]}, "updated_at": {"$lt": before}}
        if after is not None:
            time, last_id = after
            where["$or"] = [{"updated_at": {"$gt": time}}, {"updated_at": time, "_id": {"$gt": last_id}}]
        sort = [("updated_at", ASCENDING), ("_id", ASCENDING)]
        with self._documents.asked():
            found = self._collection(kind).find(where).sort(sort).limit(limit)
            return [_some_record(kind, document) for document in found]

    def trashed(self, kind: type[M], after: uuid.UUID | None, limit: int) -> t.List[M]:  # noqa: UP006
        where: Document = {"state": TRASHED}
        if after is not None:
            where["_id"] = {"$gt": after}
        with self._documents.asked():
            found = self._collection(kind).find(where).sort("_id", ASCENDING).limit(limit)
            return [_some_record(kind, document) for document in found]

    def count(self, kind: type[Media]) -> int:
        with self._documents.asked(BULK):
            return self._collection(kind).count_documents(
                {"$nor": [{"state": DELETING, "storage_key": None}, {"state": TRASHED}]}
            )

    def count_trashed(self, kind: type[Media]) -> int:
        with self._documents.asked(BULK):
            return self._collection(kind).count_documents({"state": TRASHED})

    def stored_size(self, selection: Selection) -> int:
        size = 0
        total = {"$group": {"_id": None, "size": {"$sum": "$file_size"}}}
        for kind, where in selection.items():
            kept = {"$match": {"state": AVAILABLE, "storage_key": {"$ne": None}, **where}}
            with self._documents.asked():
                size += sum(group["size"] for group in self._collection(kind).aggregate([kept, total]))
        return size

    def _collection(self, kind: type[Media]) -> Collection[Document]:
        return self._database[self.prefix + kind.__tablename__]


DRAINS = "dualmedia_drains"

REASON_LENGTH = 500
"""Characters of a reason that are kept."""

RETRY_AFTER = timedelta(hours=1)
"""How long a record that SQL refused is left alone, unless it is edited or somebody asks for it. By clocks of hosts,
which may differ: then it is tried a little earlier or later."""


class Refusal(t.NamedTuple):
    """Why SQL did not take a record, and when it was tried last."""

    reason: str
    at: datetime | None


class JournalRepository(MongoRepository):
    """Records waiting to be moved into SQL.

    A record is claimed before it is moved: it stays readable, but is not changed any more, so that no change is made
    to a copy that is already left behind. Who finds it claimed tries again in a moment.

    A record that SQL refuses is set aside: it stays here, readable and changeable, and those behind it are moved.
    """

    prefix = "journal_"
    _unclaimed: t.ClassVar[Document] = {"claimed": {"$exists": False}}
    _with_change: t.ClassVar[Document] = {"$unset": {"refused": "", "stale": ""}}

    def claim(self, kind: type[M], media_id: uuid.UUID, claimant: str = "") -> M | None:
        """Claim a record that is available or in the trash; ``None`` if there is none any more.

        :param claimant: The holder of the lease under which the record is moved. A claim of another, who was killed, is
            taken over.
        """
        with self._documents.asked():
            document = self._collection(kind).find_one_and_update(
                {"_id": media_id, "state": {"$in": [*KEPT]}},
                {"$set": {"claimed": claimant}},
                return_document=ReturnDocument.AFTER,
            )
        return _record(kind, document)

    def deleted(self, kind: type[Media]) -> set[uuid.UUID]:
        """The ids of records that are deleted, and that SQL may have all the same."""
        with self._documents.asked():
            return {found["_id"] for found in self._collection(kind).find({"state": DELETING}, {"_id": 1})}

    def release(self, kind: type[Media], media_id: uuid.UUID, claimant: str) -> None:
        """Undo a claim, of a record that was not sent to SQL."""
        with self._documents.asked():
            self._collection(kind).update_one({"_id": media_id, "claimed": claimant}, {"$unset": {"claimed": ""}})

    def claimed(self) -> t.List[Media]:  # noqa: UP006 - `list` is a method
        """The records that are claimed."""
        records: t.List[Media] = []  # noqa: UP006
        for kind in KINDS.values():
            with self._documents.asked():
                found = self._collection(kind).find({"claimed": {"$exists": True}})
                records += [_some_record(kind, document) for document in found]
        return records

    def set_aside(self, record: Media, reason: str) -> bool:
        """Note that SQL refuses a record. It may be changed again, which takes the note away.

        :return: Whether the reason is a new one.
        """
        # No string of MongoDB's may hold a half surrogate pair, and nobody reads a page of reasons.
        reason = reason.encode(errors="backslashreplace").decode()[:REASON_LENGTH]
        with self._documents.asked():
            before = self._collection(type(record)).find_one_and_update(
                {"_id": record.id}, {"$set": {"refused": {"reason": reason, "at": now()}}, "$unset": {"claimed": ""}}
            )
        return before is not None and before.get("refused", {}).get("reason") != reason

    def refusal_of(self, record: Media) -> Refusal | None:
        """Why a record that was just read is set aside, and since when; ``None`` if it is not."""
        noted = vars(record).get("refused")
        return None if noted is None else Refusal(noted["reason"], noted.get("at"))

    def refused(self, limit: int) -> t.List[Media]:  # noqa: UP006 - `list` is a method
        """The first of the records that are set aside."""
        records: t.List[Media] = []  # noqa: UP006
        for kind in KINDS.values():
            with self._documents.asked():
                found = self._collection(kind).find({"refused": {"$exists": True}}).sort("_id", ASCENDING).limit(limit)
                records += [_some_record(kind, document) for document in found]
        return records[:limit]

    def count_refused(self) -> int:
        """How many records are set aside."""
        where = {"refused": {"$exists": True}}
        with self._documents.asked():
            return sum(self._collection(kind).count_documents(where) for kind in KINDS.values())

    def try_again(self) -> None:
        """Have what is set aside tried again at the next drain. The reasons stay, so that nobody is told twice."""
        for kind in KINDS.values():
            with self._documents.asked():
                self._collection(kind).update_many({"refused.at": {"$exists": True}}, {"$unset": {"refused.at": ""}})

    def trash_stale(self, record: Media) -> bool:
        """Put a record into the trash that SQL had once, and has no more; whoever brings it back has it moved again."""
        stale = {"$set": {"state": TRASHED, "version": record.version + 1, "stale": True}, "$unset": {"claimed": ""}}
        with self._documents.asked():
            changed = self._collection(type(record)).update_one({"_id": record.id, "state": AVAILABLE}, stale)
        return bool(changed.modified_count)

    def is_stale(self, record: Media) -> bool:
        """Whether a record that was just read is in the trash because the journal is older than SQL."""
        return record.state == TRASHED and "stale" in vars(record)

    def last_drain(self) -> int:
        """The number of the last drain that MongoDB knows of."""
        with self._documents.asked():
            return (self._database[DRAINS].find_one({"_id": "last"}) or {"number": 0})["number"]

    def note_drain(self, number: int) -> None:
        """Note the number of a drain, unless a later one is known."""
        with self._documents.asked():
            self._database[DRAINS].update_one({"_id": "last"}, {"$max": {"number": number}}, upsert=True)

    def is_due(self, record: Media) -> bool:
        """Whether a record that was just read is to be moved now, and not set aside for a while yet."""
        refusal = self.refusal_of(record)
        return refusal is None or refusal.at is None or abs(now() - refusal.at) > RETRY_AFTER

    def has_work(self) -> bool:
        """Whether there is anything in it that is not set aside for a while yet."""
        time = now()
        due = {
            "$nor": [{"state": TRASHED, "stale": True}],
            "$or": [
                {"refused.at": {"$exists": False}},
                {"refused.at": {"$lt": time - RETRY_AFTER}},
                {"refused.at": {"$gt": time + RETRY_AFTER}},
            ],
        }
        with self._documents.asked():
            return any(self._collection(kind).find_one(due, {"_id": 1}) is not None for kind in KINDS.values())

    @property
    def is_away(self) -> bool:
        """Whether MongoDB is known not to answer, so that nobody can tell what is in it."""
        return self._documents.circuit.is_open

    def is_claimed(self, record: Media) -> bool:
        """Whether a record that was just read was claimed."""
        return "claimed" in vars(record)

    def is_empty(self) -> bool:
        """Whether there is nothing in it, not even an upload in progress, which may become available at any moment."""
        with self._documents.asked():
            return all(self._collection(kind).find_one({}, {"_id": 1}) is None for kind in KINDS.values())

    def waiting(self) -> int:
        """How many records wait to be moved."""
        with self._documents.asked():
            return sum(self._collection(kind).count_documents({"state": AVAILABLE}) for kind in KINDS.values())


def _key(field: str) -> str:
    return "_id" if field == "id" else field


def _document(values: Values) -> Document:
    return {_key(name): value for name, value in values.items()}


def _some_record(kind: type[M], document: Document) -> M:
    document["id"] = document.pop("_id")
    # A document of an earlier version lacks what is new since.
    return kind.from_values(kind.defaults() | document)


def _record(kind: type[M], document: Document | None) -> M | None:
    return None if document is None else _some_record(kind, document)


def _indexes(kind: type[Media]) -> Iterator[IndexModel]:
    """The indexes of the SQL table, as MongoDB has them: a partial filter knows no ``<>``, so unfinished records are
    found through the state."""
    for index in sorted(kind.__table__.indexes, key=lambda index: str(index.name)):  # type: ignore[attr-defined]
        name, keys = str(index.name), [(_key(column.name), ASCENDING) for column in index.columns]
        if name == MAIN_INDEX:
            only_main = {"is_main_image": True, "state": AVAILABLE}
            yield IndexModel(keys, name=name, unique=True, partialFilterExpression=only_main)
        elif name.endswith("_unfinished"):
            yield IndexModel([("state", ASCENDING), *keys], name=name)
        else:
            yield IndexModel(keys, name=name)
