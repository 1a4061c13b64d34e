"""Media records in MongoDB collections, with the names and fields of the SQL tables."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Iterator
from datetime import datetime

from pymongo import ASCENDING, DESCENDING, IndexModel, ReturnDocument, UpdateOne, errors
from pymongo.collection import Collection
from pymongo.write_concern import WriteConcern

from ..documents import BULK, INDEXING, MAIN_INDEX, Document, Documents
from ..models import AVAILABLE, DELETING, KINDS, PENDING, Media
from .base import EVERYTHING, Accesses, Listing, M, Records, Selection, Values


class MongoRepository:
    """Media records in four collections of one MongoDB database."""

    prefix = ""
    """Stands before the names of the collections."""
    _unclaimed: t.ClassVar[Document] = {}
    """What must be true of a record besides, that it may be changed."""

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

    def add(self, record: Media) -> None:
        if not self._indexed:  # MongoDB was down at start-up; uniqueness must not depend on that
            self.ensure_indexes()
        with self._documents.asked():
            self._collection(type(record)).insert_one(_document(record.values()))

    def add_all(self, records: t.Sequence[Media]) -> None:
        if not self._indexed:
            self.ensure_indexes()
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
        with self._documents.asked():
            document = self._collection(kind).find_one_and_update(
                {"_id": media_id, **self._unclaimed, **where},
                {"$set": dict(changes)},
                return_document=ReturnDocument.AFTER,
            )
        return _record(kind, document)

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

    def unfinished(self, kind: type[M], before: datetime, limit: int) -> t.List[M]:  # noqa: UP006 - `list` is a method
        where = {"state": {"$in": [PENDING, DELETING]}, "updated_at": {"$lt": before}}
        with self._documents.asked():
            found = self._collection(kind).find(where).sort("updated_at", ASCENDING).limit(limit)
            return [_some_record(kind, document) for document in found]

    def count(self, kind: type[Media]) -> int:
        with self._documents.asked(BULK):
            return self._collection(kind).count_documents({})

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


class JournalRepository(MongoRepository):
    """Records waiting to be moved into SQL.

    A record is claimed before it is moved: it stays readable, but is not changed any more, so that no change is made
    to a copy that is already left behind. Who finds it claimed tries again in a moment.
    """

    prefix = "journal_"
    _unclaimed: t.ClassVar[Document] = {"claimed": {"$exists": False}}

    def claim(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        """Claim an available record; ``None`` if there is none any more."""
        with self._documents.asked():
            document = self._collection(kind).find_one_and_update(
                {"_id": media_id, "state": AVAILABLE}, {"$set": {"claimed": True}}, return_document=ReturnDocument.AFTER
            )
        return _record(kind, document)

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
    return kind.from_values(document)


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
