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

_BY_ID: Sort = [("_id", ASCENDING)]


class MongoRepository:
    """Media records in four collections of one MongoDB database.

    Documents in them that are no records are the host's: they are neither read nor changed nor
    counted.

    A write that is acknowledged has reached the disks of a majority. There are no transactions:
    MongoDB has none without a replica set.
    """

    prefix = ""
    """Stands before the names of the collections, behind the one that the host chose."""
    _unclaimed: t.ClassVar[Document] = {}
    """A further condition that a record must meet before it may be changed."""
    _with_change: t.ClassVar[Document] = {}
    """A further change that is made to a record whenever it is changed."""

    def __init__(self, documents: Documents | Collections) -> None:
        self._collections = Collections.of(documents)
        self._documents = self._collections.documents
        self.is_indexed = False
        """True once the indexes are known to exist."""

    def version(self) -> str:
        """The version of the server."""
        with self._documents.asked():
            answer = self._documents.command("buildInfo")
            return str(answer["version"])

    def check_names(self) -> None:
        """Make sure that the collections, where they exist, are ours.

        :raises NamesTaken: Some are the host's.
        """
        names = [self.prefix + kind.__tablename__ for kind in KINDS.values()]
        self._collections.check(names)

    def ensure_indexes(self) -> None:
        """Create the indexes that are missing, with the names and columns of those in SQL.

        :raises DatabaseUnavailable: MongoDB does not answer, or another index has the name of one.
        """
        self.version()  # a server that hangs is found by a call that does not have that long
        with self._documents.asked(INDEXING):
            for kind in KINDS.values():
                collection = self._collection(kind)
                collection.create_indexes(list(_indexes(kind)))
        self.is_indexed = True

    def add(self, record: Media, *, keeps_id: bool = False) -> None:
        """Keep a new record under its own id. Indexes that may be missing are created first.

        :raises InvalidMedia: A field holds what no database could keep. Nothing was sent.
        :raises MediaConflict: Its id is taken, or it would be a second main image.
        """
        if not self.is_indexed:  # MongoDB was down at start-up; uniqueness must not depend on that
            self.ensure_indexes()
        kind = type(record)
        values = record.values()
        storable.check(kind, values)

        with self._documents.asked():
            collection = self._collection(kind)
            collection.insert_one(_document(values))

    def add_all(self, records: t.Sequence[Media]) -> None:
        """Keep new records of one kind. If one is refused, those before it are deleted again.

        Until then readers may see them. If MongoDB stops answering in the middle, some may stay.
        """
        if not self.is_indexed:
            self.ensure_indexes()
        for record in records:
            storable.check(type(record), record.values())
        collection = self._collection(type(records[0]))
        documents = [_document(record.values()) for record in records]

        with self._documents.asked(BULK):
            try:
                collection.insert_many(documents)
            except errors.BulkWriteError as error:
                # Without a replica set there are no transactions.
                details = error.details or {}
                inserted = documents[: details["nInserted"]]
                ids = [document["_id"] for document in inserted]
                collection.delete_many({"_id": {"$in": ids}})
                raise

    def get(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        where = {
            "_id": media_id,
            "state": AVAILABLE,
        }
        with self._documents.asked():
            collection = self._collection(kind)
            document = collection.find_one(where)
        return _record(kind, document)

    def find(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        where = {"_id": media_id}
        with self._documents.asked():
            collection = self._collection(kind)
            document = collection.find_one(where)
        return _record(kind, document)

    def keys_of(
        self,
        kind: type[Media],
        ids: t.Sequence[uuid.UUID],
    ) -> list[str | None]:
        is_one = {"_id": {"$in": [*ids]}}
        where = records_only(kind, is_one)
        with self._documents.asked():
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
        return self._find(kind, where, _BY_ID, limit)

    def select(self, listing: Listing[M]) -> Records[M]:
        """Available records, merged from one scan for each scope that the reader may see."""

        def place(record: M) -> t.Any:
            return getattr(record, listing.sort), record.id

        scopes = _scopes(listing)
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
        direction = ASCENDING
        if listing.descending:
            direction = DESCENDING
        fields = dict.fromkeys((listing.sort, "id"))
        sort = [(_key(field), direction) for field in fields]

        records: list[M] = []
        limit = 0
        for span in _spans(listing):
            if listing.limit is not None:
                limit = listing.limit - len(records)
            # In this order: a server may take the first of these conditions that it has an index
            # for.
            where = {
                **scope,
                **listing.where,
                **span,
                "state": AVAILABLE,
            }
            records += self._find(listing.kind, where, sort, limit)
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
            if "reference_type" in kind.field_names():
                where["reference_type"] = reference_type
            fields = dict.fromkeys((_key(kind.order), "_id"))
            sort = [(field, ASCENDING) for field in fields]
            records += self._find(kind, where, sort)
        return records

    def _find(
        self,
        kind: type[M],
        where: Document,
        sort: Sort,
        limit: int = 0,
    ) -> list[M]:
        """The records that match.

        Where other documents match too, MongoDB is asked once more, for records alone: it would
        take longer if it looked at every field each time.
        """
        with self._documents.asked():
            collection = self._collection(kind)
            cursor = collection.find(where)
            documents = list(cursor.sort(sort).limit(limit))
            if not all(is_record(kind, document) for document in documents):
                collection = self._collection(kind)
                both = {"$and": [where, records_only(kind)]}
                cursor = collection.find(both)
                documents = list(cursor.sort(sort).limit(limit))

        return [_some_record(kind, document) for document in documents]

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
            **where,
        }
        new_values = dict(changes)
        change: Document = {
            "$set": new_values,
            **self._with_change,
        }
        if where.get("version") == 1:
            matching["version"] = {"$in": [1, None]}  # documents of an earlier version have none
        if "version" in where:
            new_values.setdefault("version", where["version"] + 1)
        elif "version" not in changes:
            change["$inc"] = {"version": 1}

        collection = self._collection(kind)
        with self._documents.asked():
            document = collection.find_one_and_update(
                records_only(kind, matching),
                change,
                return_document=ReturnDocument.AFTER,
            )
            if document is None and _is_made_once(new_values):
                # A driver that lost the answer has sent it twice: the second sees what the first
                # has made.
                changed = {
                    "_id": media_id,
                    **self._unclaimed,
                    **new_values,
                }
                document = collection.find_one(records_only(kind, changed))

        return _record(kind, document)

    def bury(self, kind: type[Media], media_id: uuid.UUID) -> None:
        deleting = {
            "_id": media_id,
            "state": DELETING,
        }
        where = records_only(kind, deleting)
        nothing = dict.fromkeys(kind.nullable_fields())
        with self._documents.asked():
            collection = self._collection(kind)
            collection.update_one(where, {"$set": nothing})

    def remove(self, kind: type[Media], media_id: uuid.UUID) -> None:
        where = records_only(kind, {"_id": media_id})
        with self._documents.asked():
            collection = self._collection(kind)
            collection.delete_one(where)

    def count_access(
        self,
        kind: type[Media],
        media_id: uuid.UUID,
        at: datetime,
        number: int = 1,
    ) -> bool:
        with self._documents.asked():
            where, change = self._access(kind, media_id, at, number)
            collection = self._collection(kind)
            result = collection.update_one(where, change)
            return bool(result.matched_count)

    def add_accesses(
        self,
        kind: type[Media],
        counts: t.Mapping[uuid.UUID, Accesses],
    ) -> dict[uuid.UUID, bool]:
        """Add to the access counts of many available records by one bulk write.

        It is no transaction: if MongoDB stops answering, some may be counted.
        """
        updates = []
        for media_id, (number, at) in sorted(counts.items()):
            where, change = self._access(kind, media_id, at, number)
            updates.append(UpdateOne(where, change))

        with self._documents.asked(BULK):
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
        kind: type[Media],
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
        return self._find(kind, where, _BY_ID, limit)

    def count(self, kind: type[Media]) -> int:
        buried = {"state": DELETING, "storage_key": None}
        trashed = {"state": TRASHED}
        neither = {"$nor": [buried, trashed]}
        where = records_only(kind, neither)
        with self._documents.asked(BULK):
            collection = self._collection(kind)
            return collection.count_documents(where)

    def count_by_storage(self, kind: type[Media]) -> dict[str, int]:
        where = records_only(kind, {"storage_key": {"$ne": None}})
        group = {"_id": "$storage_type", "number": {"$sum": 1}}
        pipeline = [{"$match": where}, {"$group": group}]
        with self._documents.asked(BULK):
            groups = self._collection(kind).aggregate(pipeline)
            return {group["_id"]: group["number"] for group in groups}

    def count_trashed(self, kind: type[Media]) -> int:
        trashed = records_only(kind, {"state": TRASHED})
        with self._documents.asked(BULK):
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
            with self._documents.asked():
                collection = self._collection(kind)
                for total in collection.aggregate(pipeline):
                    number += total["number"]
                    size += total["size"]

        return Announced(number, size)

    def stored_size(self, selection: Selection) -> int:
        group = {"_id": None, "size": {"$sum": "$file_size"}}
        size = 0
        for kind, where in selection.items():
            stored = {
                "state": AVAILABLE,
                "storage_key": {"$ne": None},
                **where,
            }
            pipeline = [
                {"$match": records_only(kind, stored)},
                {"$group": group},
            ]
            with self._documents.asked():
                collection = self._collection(kind)
                for total in collection.aggregate(pipeline):
                    size += total["size"]
        return size

    def _collection(self, kind: type[Media]) -> Collection[Document]:
        name = self.prefix + kind.__tablename__
        return self._collections.get(name, durable=True)


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
        with self._documents.asked():
            collection = self._collection(kind)
            document = collection.find_one_and_update(
                records_only(kind, kept),
                {"$set": {"claimed": claimant}},
                return_document=ReturnDocument.AFTER,
            )
        return _record(kind, document)

    def deleted(self, kind: type[Media]) -> set[uuid.UUID]:
        """The ids of records that are deleted, and that SQL may have all the same."""
        where = records_only(kind, {"state": DELETING})
        with self._documents.asked():
            collection = self._collection(kind)
            documents = collection.find(where, {"_id": 1})
            return {document["_id"] for document in documents}

    def release(
        self,
        kind: type[Media],
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
        with self._documents.asked():
            collection = self._collection(kind)
            collection.update_one(where, change)

    def claimed(self) -> list[Media]:
        """The records that are claimed."""
        where = {"claimed": {"$exists": True}}
        records: list[Media] = []
        for kind in KINDS.values():
            records += self._find(kind, where, _BY_ID)
        return records

    def set_aside(self, record: Media, reason: str) -> bool:
        """Note that SQL refuses a record. It may be changed again, which takes the note away.

        :return: Whether the reason is a new one.
        """
        # No string of MongoDB's may hold a half surrogate pair, and nobody reads a page of reasons.
        printable = reason.encode(errors="backslashreplace").decode()
        reason = printable[:REASON_LENGTH]
        refused = {"reason": reason, "at": self._documents.clock.now()}
        change = {
            "$set": {"refused": refused},
            "$unset": {"claimed": ""},
        }

        kind = type(record)
        where = records_only(kind, {"_id": record.id})
        with self._documents.asked():
            collection = self._collection(kind)
            before = collection.find_one_and_update(where, change)

        if before is None:
            return False
        refused_before = before.get("refused", {})
        return refused_before.get("reason") != reason

    def refusal_of(self, record: Media) -> Refusal | None:
        """Why a record that was just read is set aside, and since when; ``None`` if it is not.

        The time is ``None`` where somebody wants the record tried again.
        """
        refused = vars(record).get("refused")
        if refused is None:
            return None
        return Refusal(refused["reason"], refused.get("at"))

    def refused(self, limit: int) -> list[Media]:
        """The first of the records that are set aside."""
        records: list[Media] = []
        for kind in KINDS.values():
            records += self._find(kind, _REFUSED, _BY_ID, limit)
        return records[:limit]

    def count_refused(self) -> int:
        """How many records are set aside."""
        number = 0
        with self._documents.asked():
            for kind in KINDS.values():
                collection = self._collection(kind)
                refused = records_only(kind, _REFUSED)
                number += collection.count_documents(refused)
        return number

    def try_again(self) -> None:
        """Have what is set aside tried again at the next drain.

        The reasons stay, so that nobody is told twice.
        """
        for kind in KINDS.values():
            tried = {"refused.at": {"$exists": True}}
            where = records_only(kind, tried)
            change = {"$unset": {"refused.at": ""}}
            with self._documents.asked():
                collection = self._collection(kind)
                collection.update_many(where, change)

    def trash_stale(self, record: Media) -> bool:
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
            "links_revoked_at": record.next_revocation(),
        }
        change = {
            "$set": changes,
            "$unset": {"claimed": ""},
        }
        with self._documents.asked():
            collection = self._collection(type(record))
            result = collection.update_one(where, change)
        return bool(result.modified_count)

    def is_stale(self, record: Media) -> bool:
        """Tell whether a record that was just read is in the trash because the journal is older
        than SQL."""
        return record.state == TRASHED and "stale" in vars(record)

    def last_drain(self) -> int:
        """The number of the last drain that MongoDB knows of, 0 before the first."""
        with self._documents.asked():
            drains = self._collections.get(DRAINS, durable=True)
            last = drains.find_one({"_id": "last"}) or {"number": 0}
            return last["number"]

    def note_drain(self, number: int) -> None:
        """Note the number of a drain, unless a later one is known."""
        change = {"$max": {"number": number}}
        with self._documents.asked():
            drains = self._collections.get(DRAINS, durable=True)
            drains.update_one({"_id": "last"}, change, upsert=True)

    def is_due(self, record: Media) -> bool:
        """Tell whether a record that was just read is to be moved now.

        One that is set aside is due after :data:`RETRY_AFTER`. Clocks may differ: one whose refusal
        lies further than that in the future is due too.
        """
        refusal = self.refusal_of(record)
        if refusal is None or refusal.at is None:
            return True
        time = self._documents.clock.now()
        return abs(time - refusal.at) > RETRY_AFTER

    def has_work(self) -> bool:
        """Tell whether it holds anything that is not set aside for a while yet.

        Pending uploads count, and stale records in the trash do not.
        """
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
            return self._has_any(due)

    @property
    def is_away(self) -> bool:
        """True while MongoDB is known not to answer, so that nobody can tell what is in it."""
        return self._documents.circuit.is_open

    def is_claimed(self, record: Media) -> bool:
        """Tell whether a record that was just read was claimed."""
        return "claimed" in vars(record)

    def is_empty(self) -> bool:
        """Tell whether it holds nothing.

        An upload in progress counts as something: it may become available at any moment.
        """
        with self._documents.asked():
            return not self._has_any({})

    def uploader_of(self, media_id: uuid.UUID) -> str | None:
        """The uploader of a record that is here; ``None`` if there is no record or no uploader."""
        with self._documents.asked():
            for kind in KINDS.values():
                collection = self._collection(kind)
                document = collection.find_one({"_id": media_id}, {"uploaded_by": 1})
                if document is not None:
                    return document["uploaded_by"]
        return None

    def keys_of_unfinished(self, identity: str) -> list[str]:
        """The storage keys of what somebody is just sending."""
        where = {
            "state": PENDING,
            "uploaded_by": identity,
        }
        keys: list[str] = []
        for kind in KINDS.values():
            with self._documents.asked():
                collection = self._collection(kind)
                for document in collection.find(where, {"storage_key": 1}):
                    key = document["storage_key"]
                    if key:
                        keys.append(key)
        return keys

    def waiting(self) -> int:
        """How many records wait to be moved: those that are available, set aside or not."""
        number = 0
        with self._documents.asked():
            for kind in KINDS.values():
                collection = self._collection(kind)
                available = records_only(kind, {"state": AVAILABLE})
                number += collection.count_documents(available)
        return number

    def _has_any(self, where: Document) -> bool:
        """Tell whether a record of any kind matches."""
        for kind in KINDS.values():
            collection = self._collection(kind)
            matching = records_only(kind, where)
            if collection.find_one(matching, {"_id": 1}) is not None:
                return True
        return False


def _scopes(listing: Listing[t.Any]) -> list[Document]:
    """The conditions of the scans that find all that a list may show.

    With one condition for both, no index would have the order and the records together, and records
    that nobody is shown would be read.
    """
    if listing.visible_to is EVERYTHING:
        return [{}]
    public = {"is_public": True}
    if not listing.shows_private:
        return [public]
    # Public ones of the reader too: if one is made private between the two scans it is missing in
    # neither.
    own = {"uploaded_by": listing.visible_to}
    return [public, own]


def _spans(listing: Listing[t.Any]) -> list[Document]:
    """Where a list goes on: first among the records with the value of the last one, then behind it.

    With both in one condition, an index would be read from its beginning.
    """
    if listing.after is None:
        return [{}]

    value, last_id = listing.after
    beyond = "$gt"
    if listing.descending:
        beyond = "$lt"
    if listing.sort == "id":
        return [{"_id": {beyond: last_id}}]

    same_value = {
        listing.sort: value,
        "_id": {beyond: last_id},
    }
    further = {listing.sort: {beyond: value}}
    return [same_value, further]


def _key(field: str) -> str:
    """The name of a field in documents."""
    if field == "id":
        return "_id"
    return field


def _document(values: Values) -> Document:
    return {_key(name): value for name, value in values.items()}


def _some_record(kind: type[M], document: Document) -> M:
    document["id"] = document.pop("_id")
    # A document of an earlier version lacks what is new since.
    values = kind.defaults() | document
    return kind.from_values(values)


def _is_made_once(values: Values) -> bool:
    """Tell whether a change cannot be made again, on what the first has left, and has a time that
    tells whose it is."""
    if "version" not in values or "updated_at" not in values:
        return False
    return "state" in values or "storage_key" in values


def _record(kind: type[M], document: Document | None) -> M | None:
    if document is None or not is_record(kind, document):
        return None
    return _some_record(kind, document)


def _indexes(kind: type[Media]) -> Iterator[IndexModel]:
    """The indexes of the SQL table, as far as MongoDB needs them.

    A partial filter knows no ``<>``, so unfinished records are found through the state. MongoDB
    tries the indexes that a query could go by against each other, and so needs fewer: an uploader's
    private records are found by ``ix_..._uploader``.
    """
    sql_indexes = {str(index.name): index for index in kind.__table__.indexes}  # type: ignore[attr-defined]
    for name, index in sorted(sql_indexes.items()):
        keys = [(_key(column.name), ASCENDING) for column in index.columns]

        if name == MAIN_INDEX:
            only_main = {"is_main_image": True, "state": AVAILABLE}
            yield IndexModel(
                keys,
                name=name,
                unique=True,
                partialFilterExpression=only_main,
            )
        elif name.endswith("_unfinished"):
            yield IndexModel([("state", ASCENDING), *keys], name=name)
        elif name.endswith(("_public", "_public_owner")):
            yield IndexModel(
                [("is_public", ASCENDING), *keys],
                name=name,
                partialFilterExpression={"is_public": True},
            )
        elif "_public" not in name and "_private" not in name:
            yield IndexModel(keys, name=name)
