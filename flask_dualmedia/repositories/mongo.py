"""Media records in MongoDB collections, with the names and fields of the SQL tables."""

from __future__ import annotations

import heapq
import typing as t
import uuid
from contextlib import suppress
from datetime import datetime
from itertools import islice

from pymongo import ASCENDING, DeleteOne, ReturnDocument, UpdateOne, errors
from pymongo.collection import Collection

from ..databases import storable
from ..databases.collections import Collections, is_record, records_only
from ..databases.documents import BULK, INDEXING, Document, Documents
from ..errors import DualMediaError, Unavailable
from ..models import (
    AVAILABLE,
    DELETING,
    KINDS,
    PENDING,
    TABLES,
    TRASHED,
    Media,
    MediaRecord,
    MediaVariant,
)
from . import queries
from .base import Accesses, Announced, Listing, M, Position, Records, Selection, Values


class MongoRepository:
    """Media records in collections of one MongoDB database, one for each record class.

    Documents in them that are no records are the host's: they are neither read nor changed nor
    counted.

    A write that is acknowledged has reached the disks of a majority. There are no transactions:
    MongoDB has none without a replica set.
    """

    prefix = ""
    """Stands before the names of the collections, behind the one that the host chose."""
    kinds: t.ClassVar[t.Mapping[str, type[MediaRecord]]] = TABLES
    """The record classes that there are collections for."""
    _unclaimed: t.ClassVar[Document] = {}
    """A further condition that a record must meet before it may be changed."""
    _with_change: t.ClassVar[Document] = {}
    """A further change that is made to a record whenever it is changed."""

    def __init__(self, documents: Documents | Collections) -> None:
        self._collections = Collections.of(documents)
        self.is_indexed = False
        """True once the indexes are known to exist."""

    def version(self) -> str:
        """The version of the server."""
        with self._collections.asked():
            answer = self._collections.documents.command("buildInfo")
            return str(answer["version"])

    def check_names(self) -> None:
        """Make sure that the collections, where they exist, are ours.

        :raises NamesTaken: Some are the host's.
        """
        names = [self.prefix + kind.__tablename__ for kind in self.kinds.values()]
        self._collections.check(names)

    def ensure_indexes(self) -> None:
        """Create the indexes that are missing, with the names and columns of those in SQL.

        :raises DatabaseUnavailable: MongoDB does not answer, or another index has the name of one.
        """
        self.version()  # a server that hangs is found by a call that does not have that long
        with self._collections.asked(INDEXING):
            for kind in self.kinds.values():
                collection = self._collection(kind)
                collection.create_indexes(list(queries.indexes_of(kind)))
        self.is_indexed = True

    def add(self, record: MediaRecord, *, keeps_id: bool = False) -> None:
        """Keep a new record under its own id. Indexes that may be missing are created first.

        :raises InvalidMedia: A field holds what no database could keep. Nothing was sent.
        :raises MediaConflict: Its id is taken, or it would be a second main image.
        """
        if not self.is_indexed:  # MongoDB was down at start-up; uniqueness must not depend on that
            self.ensure_indexes()
        kind = type(record)
        values = record.values()
        storable.check(kind, values)

        with self._collections.asked():
            collection = self._collection(kind)
            collection.insert_one(queries.document_of(values))

    def add_all(self, records: t.Sequence[MediaRecord]) -> None:
        """Keep new records of one kind. If one is refused, those before it are deleted again.

        They are deleted too if the answer was lost. Until then readers may see them, and if MongoDB
        does not answer at all any more, some may stay.
        """
        if not self.is_indexed:
            self.ensure_indexes()
        for record in records:
            storable.check(type(record), record.values())
        collection = self._collection(type(records[0]))
        documents = [queries.document_of(record.values()) for record in records]
        inserted = documents  # as far as anybody knows whose answer was lost

        try:
            with self._collections.asked(BULK):
                try:
                    collection.insert_many(documents)
                except errors.BulkWriteError as error:
                    details = error.details or {}
                    inserted = documents[: details["nInserted"]]
                    raise
        except DualMediaError:
            # Without a replica set there are no transactions.
            with suppress(Unavailable), self._collections.asked(BULK):
                self._take_back(collection, inserted)
            raise

    def _take_back(self, collection: Collection[Document], documents: list[Document]) -> None:
        """Delete documents that are as they were sent.

        Another one that has the id of one of them stays.
        """
        deletions = [DeleteOne(document) for document in documents]
        if deletions:
            collection.bulk_write(deletions, ordered=False)

    def get(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        where = {
            "_id": media_id,
            "state": AVAILABLE,
        }
        with self._collections.asked():
            collection = self._collection(kind)
            document = collection.find_one(where)
        return queries.record_of(kind, document)

    def find(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        where = {"_id": media_id}
        with self._collections.asked():
            collection = self._collection(kind)
            document = collection.find_one(where)
        return queries.record_of(kind, document)

    def find_variant(
        self,
        media_id: uuid.UUID,
        source_key: str,
        name: str,
        recipe: str,
    ) -> MediaVariant | None:
        where = {
            "media_id": media_id,
            "source_key": source_key,
            "name": name,
            "recipe": recipe,
            "state": AVAILABLE,
        }
        with self._collections.asked():
            collection = self._collection(MediaVariant)
            document = collection.find_one(where)
        return queries.record_of(MediaVariant, document)

    def variants_of(self, ids: t.Sequence[uuid.UUID]) -> list[MediaVariant]:
        where: Document = {
            "media_id": {"$in": [*ids]},
            "$nor": [{"state": DELETING, "storage_key": None}],
        }
        return self._find(MediaVariant, where, queries.BY_ID)

    def derived_size(self, ids: t.Sequence[uuid.UUID]) -> int:
        derived = {
            "media_id": {"$in": [*ids]},
            "state": AVAILABLE,
        }
        return self._sum_of_sizes(MediaVariant, derived)

    def keys_of(
        self,
        kind: type[MediaRecord],
        ids: t.Sequence[uuid.UUID],
    ) -> list[str | None]:
        is_one = {"_id": {"$in": [*ids]}}
        where = records_only(kind, is_one)
        with self._collections.asked():
            collection = self._collection(kind)
            documents = collection.find(where, {"storage_key": 1})
            return [document.get("storage_key") for document in documents]

    def scan(
        self,
        kind: type[M],
        after: uuid.UUID | None,
        limit: int,
    ) -> list[M]:
        where: Document = {}
        if after is not None:
            where["_id"] = {"$gt": after}
        return self._find(kind, where, queries.BY_ID, limit)

    def select(self, listing: Listing[M]) -> Records[M]:
        """Available records, merged from one scan for each scope that the reader may see."""

        def place(record: M) -> t.Any:
            return getattr(record, listing.sort), record.id

        scopes = queries.scopes_of(listing)
        scans = [self._scan(listing, scope) for scope in scopes]
        merged = heapq.merge(
            *scans,
            key=place,
            reverse=listing.descending,
        )
        # A record that is changed meanwhile may be found by both scans, and in another place by the
        # second.
        records = {record.id: record for record in merged}
        page = islice(records.values(), listing.limit)
        return Records(page)

    def _scan(
        self,
        listing: Listing[M],
        scope: Document,
    ) -> list[M]:
        """The first records of a list that are in a scope, in the order of the list."""
        records: list[M] = []
        limit = 0
        for span in queries.spans_of(listing):
            if listing.limit is not None:
                limit = listing.limit - len(records)
            # In this order: a server may take the first of these conditions that it has an index
            # for.
            where = {
                **scope,
                **queries.having(listing.kind, listing.where),
                **span,
                "state": AVAILABLE,
            }
            records += self._find(listing.kind, where, queries.sort_within(listing, span), limit)
            if len(records) == listing.limit:
                break

        return records

    def of_owners(
        self,
        kinds: t.Sequence[type[Media]],
        reference_type: str | None,
        ids: t.Sequence[str],
    ) -> Records[Media]:
        records: Records[Media] = Records()
        for kind in kinds:
            where: Document = {
                kind.owner_field: {"$in": [*ids]},
                "state": AVAILABLE,
            }
            if kind.names_type():
                where["reference_type"] = reference_type
            fields = dict.fromkeys((queries.field_name(kind.order), "_id"))
            sort = [(field, ASCENDING) for field in fields]
            of_kind = self._find(kind, where, sort)
            # MongoDB has sorted documents of an earlier version as if a field were less than any.
            records += sorted(of_kind, key=queries.place_of)
        return records

    def _find(
        self,
        kind: type[M],
        where: Document,
        sort: queries.Sort,
        limit: int = 0,
    ) -> list[M]:
        """The records that match.

        Where other documents match too, MongoDB is asked once more, for records alone: it would
        take longer if it looked at every field each time.
        """
        with self._collections.asked():
            collection = self._collection(kind)
            cursor = collection.find(where)
            documents = list(cursor.sort(sort).limit(limit))
            if not all(is_record(kind, document) for document in documents):
                collection = self._collection(kind)
                both = {"$and": [where, records_only(kind)]}
                cursor = collection.find(both)
                documents = list(cursor.sort(sort).limit(limit))

        return [queries.some_record(kind, document) for document in documents]

    def update(
        self,
        kind: type[M],
        media_id: uuid.UUID,
        changes: Values,
        *,
        where: Values,
    ) -> M | None:
        """Change a record in one step, if it still has the values of ``where``.

        If the driver had to send a change twice, its effect is recognized the second time.

        :raises InvalidMedia: A new value is one that no database could keep. Nothing was sent.
        """
        storable.check(kind, changes)
        matching = {
            "_id": media_id,
            **self._unclaimed,
            **queries.having(kind, where),
        }
        new_values = dict(changes)
        change: Document = {
            "$set": new_values,
            **self._with_change,
        }
        if "version" in where:
            new_values.setdefault("version", where["version"] + 1)
        elif "version" not in changes:
            change["$inc"] = {"version": 1}

        collection = self._collection(kind)
        with self._collections.asked():
            document = collection.find_one_and_update(
                records_only(kind, matching),
                change,
                return_document=ReturnDocument.AFTER,
            )
            if document is None and queries.is_made_once(new_values):
                # A driver that lost the answer has sent it twice: the second sees what the first
                # has made.
                changed = {
                    "_id": media_id,
                    **self._unclaimed,
                    **new_values,
                }
                document = collection.find_one(records_only(kind, changed))

        return queries.record_of(kind, document)

    def bury(self, kind: type[MediaRecord], media_id: uuid.UUID) -> None:
        deleting = {
            "_id": media_id,
            "state": DELETING,
        }
        where = records_only(kind, deleting)
        nothing = dict.fromkeys(kind.nullable_fields())
        with self._collections.asked():
            collection = self._collection(kind)
            collection.update_one(where, {"$set": nothing})

    def remove(self, kind: type[MediaRecord], media_id: uuid.UUID) -> None:
        where = records_only(kind, {"_id": media_id})
        with self._collections.asked():
            collection = self._collection(kind)
            collection.delete_one(where)

    def count_access(
        self,
        kind: type[MediaRecord],
        media_id: uuid.UUID,
        at: datetime,
        number: int = 1,
    ) -> bool:
        with self._collections.asked():
            where, change = self._access(kind, media_id, at, number)
            collection = self._collection(kind)
            result = collection.update_one(where, change)
            return bool(result.matched_count)

    def add_accesses(
        self,
        kind: type[MediaRecord],
        counts: t.Mapping[uuid.UUID, Accesses],
    ) -> dict[uuid.UUID, bool]:
        """Add to the access counts of many available records by one bulk write.

        It is no transaction: if MongoDB stops answering, some may be counted.
        """
        updates = []
        for media_id, (number, at) in sorted(counts.items()):
            where, change = self._access(kind, media_id, at, number)
            updates.append(UpdateOne(where, change))

        with self._collections.asked(BULK):
            collection = self._collection(kind)
            result = collection.bulk_write(updates, ordered=False)
            if result.matched_count == len(counts):
                return dict.fromkeys(counts, True)
            available = {
                "_id": {"$in": [*counts]},
                "state": AVAILABLE,
            }
            where = records_only(kind, available)
            documents = collection.find(where, {"_id": 1})
            counted_ids = {document["_id"] for document in documents}

        return {media_id: media_id in counted_ids for media_id in counts}

    def _access(
        self,
        kind: type[MediaRecord],
        media_id: uuid.UUID,
        at: datetime,
        number: int,
    ) -> tuple[Document, Document]:
        """The condition and the change that count accesses of one record."""
        available = {
            "_id": media_id,
            "state": AVAILABLE,
            **self._unclaimed,
        }
        change = {
            "$inc": {"access_count": number},
            "$max": {"last_accessed_at": at},
        }
        return records_only(kind, available), change

    def unfinished(
        self,
        kind: type[M],
        before: datetime,
        limit: int,
        after: Position | None = None,
    ) -> list[M]:
        where: Document = {
            "state": {"$in": [PENDING, DELETING]},
            "updated_at": {"$lt": before},
        }
        if after is not None:
            time, last_id = after
            where["$or"] = [
                {"updated_at": {"$gt": time}},
                {"updated_at": time, "_id": {"$gt": last_id}},
            ]
        sort = [("updated_at", ASCENDING), ("_id", ASCENDING)]
        return self._find(kind, where, sort, limit)

    def trashed(
        self,
        kind: type[M],
        after: uuid.UUID | None,
        limit: int,
    ) -> list[M]:
        where: Document = {"state": TRASHED}
        if after is not None:
            where["_id"] = {"$gt": after}
        return self._find(kind, where, queries.BY_ID, limit)

    def count(self, kind: type[MediaRecord]) -> int:
        buried = {"state": DELETING, "storage_key": None}
        trashed = {"state": TRASHED}
        neither = {"$nor": [buried, trashed]}
        where = records_only(kind, neither)
        with self._collections.asked(BULK):
            collection = self._collection(kind)
            return collection.count_documents(where)

    def count_by_storage(self, kind: type[MediaRecord]) -> dict[str, int]:
        where = records_only(kind, {"storage_key": {"$ne": None}})
        group = {"_id": "$storage_type", "number": {"$sum": 1}}
        pipeline = [{"$match": where}, {"$group": group}]
        with self._collections.asked(BULK):
            groups = self._collection(kind).aggregate(pipeline)
            return {group["_id"]: group["number"] for group in groups}

    def count_trashed(self, kind: type[MediaRecord]) -> int:
        trashed = records_only(kind, {"state": TRASHED})
        with self._collections.asked(BULK):
            collection = self._collection(kind)
            return collection.count_documents(trashed)

    def announced(
        self,
        uploaded_by: str,
        since: datetime,
        but: uuid.UUID | None,
    ) -> Announced:
        where: Document = {
            "uploaded_by": uploaded_by,
            "state": PENDING,
            "checksum": {"$ne": None},
            "updated_at": {"$gte": since},
        }
        group = {
            "_id": None,
            "number": {"$sum": 1},
            "size": {"$sum": "$file_size"},
        }

        number = size = 0
        for kind in KINDS.values():
            is_announced = records_only(kind, where)
            is_another = {"_id": {"$ne": but}}
            pipeline = [
                {"$match": {"$and": [is_announced, is_another]}},
                {"$group": group},
            ]
            with self._collections.asked():
                collection = self._collection(kind)
                for total in collection.aggregate(pipeline):
                    number += total["number"]
                    size += total["size"]

        return Announced(number, size)

    def stored_size(self, selection: Selection) -> int:
        size = 0
        for kind, where in selection.items():
            stored = {
                "state": AVAILABLE,
                "storage_key": {"$ne": None},
                **queries.having(kind, where),
            }
            size += self._sum_of_sizes(kind, stored)
        return size

    def _sum_of_sizes(self, kind: type[MediaRecord], where: Document) -> int:
        """The sum of the sizes of the records that match."""
        pipeline = [
            {"$match": records_only(kind, where)},
            {"$group": {"_id": None, "size": {"$sum": "$file_size"}}},
        ]
        with self._collections.asked():
            collection = self._collection(kind)
            return sum(total["size"] for total in collection.aggregate(pipeline))

    def _collection(self, kind: type[MediaRecord]) -> Collection[Document]:
        name = self.prefix + kind.__tablename__
        return self._collections.get(name, durable=True)
