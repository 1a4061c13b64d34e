"""Uploads that come in several requests: how far each one is, and the parts that its bytes wait in.

The state is in MongoDB in every mode, so that any worker on any host can go on with any upload. The
bytes are parts, each under a key of its own in the storage ``database``. A part counts from the
moment that its upload names it. If a worker is killed, or too slow, nothing names the part that it
put there, and a check takes it away.
"""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from secrets import token_hex

from pymongo import ASCENDING, IndexModel, ReturnDocument
from pymongo.collection import Collection

from ..databases.clock import elapsed
from ..databases.collections import UPLOADS, UPLOADS_ONLY, Collections
from ..databases.documents import Document, Documents
from ..databases.leases import run_out
from ..errors import DatabaseUnavailable, TooManyParts, UploadLocked
from ..failpoints import reach
from ..models import now
from ..repositories.base import Announced
from ..storages.base import Storage, owner_of_key

COLLECTION = UPLOADS

LOCK_SECONDS = 15
"""How long a lock lasts unless it is renewed. For that long nobody goes on with the upload of a
killed worker."""

MAX_PARTS = 50_000
"""Parts of one upload: its document, which names them, must stay well below the 16 MB that MongoDB
allows."""

BATCH = 500
"""Uploads read at once."""

BATCH_WITH_PARTS = 20
"""Uploads read at once with their parts. Each upload may have thousands of them."""

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Part:
    """Some bytes of an upload."""

    key: str
    size: int


@dataclass(frozen=True)
class Staged:
    """An upload, as far as it has come. The record that it becomes gets its id."""

    id: uuid.UUID
    identity: str
    """The person who began it."""
    expires_at: datetime
    length: int | None = None
    """Size of the file in bytes, ``None`` while the client does not know it."""
    kind: str | None = None
    """Kind of the record; ``None`` for a part of a concatenation, which does not become one."""
    values: dict[str, t.Any] = field(default_factory=dict)
    """Fields of the record, checked."""
    filename: str | None = None
    mime_type: str | None = None
    metadata: str | None = None
    """The ``Upload-Metadata`` header, as the client sent it."""
    concat: str | None = None
    """``partial``, or ``final`` with the ids of its uploads in ``joined``."""
    joined: list[uuid.UUID] = field(default_factory=list)
    offset: int = 0
    attempted: bool = False
    """A worker has begun to make the record."""
    finished: bool = False
    """The record was made."""
    parts: list[Part] = field(default_factory=list)

    @property
    def is_expired(self) -> bool:
        """Whether the time is over that its client was told."""
        return self.expires_at < now()


_FIELDS = [field.name for field in fields(Staged)]


def check_parts(number: int) -> None:
    """Check how many parts an upload would have.

    :raises TooManyParts: They are more than one upload may have.
    """
    if number > MAX_PARTS:
        raise TooManyParts(MAX_PARTS)


class Staging:
    """The unfinished uploads of one app.

    :param storage: Where parts are kept.
    :param seconds: How long an upload is kept after the last byte came.
    """

    def __init__(
        self,
        documents: Documents | Collections,
        storage: Storage,
        seconds: float,
    ) -> None:
        self._collections = Collections.of(documents)
        self.documents = self._collections.documents
        self.storage = storage
        self._seconds = seconds
        self._indexed = False

    @property
    def _collection(self) -> Collection[Document]:
        # An offset that was acknowledged must not go back when MongoDB changes its primary.
        return self._collections.get(COLLECTION, durable=True)

    def expiry(self) -> datetime:
        """When an upload expires that receives bytes now."""
        return self.documents.clock.now() + timedelta(seconds=self._seconds)

    def add(self, upload: Staged) -> Writer:
        """Keep a new upload. It is locked for the caller."""
        self._ensure_indexes()
        writer = Writer(self, upload)
        document = asdict(upload) | {"lock": writer.lock()}
        document["_id"] = document.pop("id")
        with self.documents.asked():
            self._collection.insert_one(document)
        return writer

    def get(self, upload_id: uuid.UUID) -> Staged | None:
        """The upload with this id, without its parts."""
        query = UPLOADS_ONLY | {"_id": upload_id}
        with self.documents.asked():
            document = self._collection.find_one(query, {"parts": 0})
        if document is None:
            return None
        return _staged(document)

    def find_final(self, identity: str, joined: list[uuid.UUID]) -> uuid.UUID | None:
        """The id of the upload that these were joined to."""
        query = {"joined": joined, "identity": identity}
        with self.documents.asked():
            document = self._collection.find_one(query, {"_id": 1})
        if document is None:
            return None
        return document["_id"]

    def lock(self, upload_id: uuid.UUID, **where: t.Any) -> Writer | None:
        """Lock an upload; ``None`` if there is none with this id, and with the values of ``where``.

        :raises UploadLocked: Another request is at it.
        """
        stale = run_out("lock.until", self.documents.clock.now(), LOCK_SECONDS)
        query = UPLOADS_ONLY | {"_id": upload_id} | where
        unlocked = query | {"$or": [{"lock": None}, *stale]}
        writer = Writer(self, None)
        change = {"$set": {"lock": writer.lock()}}
        with self.documents.asked():
            document = self._collection.find_one_and_update(
                unlocked,
                change,
                return_document=ReturnDocument.AFTER,
            )
            if document is None and self._collection.find_one(query, {"_id": 1}):
                raise UploadLocked

        if document is None:
            return None
        writer.upload = _staged(document)
        return writer

    def named(self, keys: t.Sequence[str]) -> set[str]:
        """Those of these keys that an upload names as its parts."""
        query = UPLOADS_ONLY | {"parts.key": {"$in": [*keys]}}
        return self._named_by(query, keys)

    def awaited(self, keys: t.Sequence[str]) -> set[str]:
        """Those of these keys that are parts of an upload which somebody may go on with."""
        query = {
            "parts.key": {"$in": [*keys]},
            "finished": False,
            "expires_at": {"$gt": self.documents.clock.now()},
        }
        return self._named_by(query, keys)

    def _named_by(self, query: Document, keys: t.Sequence[str]) -> set[str]:
        """Those of these keys that the uploads of a query name."""
        part_keys: set[str] = set()
        with self.documents.asked():
            for document in self._collection.find(query, {"parts.key": 1}):
                part_keys.update(part["key"] for part in document["parts"])
        return part_keys.intersection(keys)

    def left(self) -> Iterator[Staged]:
        """Uploads that have expired, and finished ones whose parts were not removed; without their
        parts."""
        expired = {"expires_at": {"$lt": self.documents.clock.now()}}
        finished = {"finished": True, "parts.key": {"$exists": True}}
        query: Document = UPLOADS_ONLY | {"$or": [expired, finished]}
        while True:
            with self.documents.asked():
                cursor = self._collection.find(query, {"parts": 0})
                cursor.sort("_id", ASCENDING).limit(BATCH)
                batch = [_staged(document) for document in cursor]
            yield from batch
            if len(batch) < BATCH:
                return
            behind = {"$gt": batch[-1].id}
            query = query | {"_id": UPLOADS_ONLY["_id"] | behind}

    def expired(self, limit: int) -> list[Staged]:
        """Some uploads that have expired, the longest ago first; without their parts."""
        time = self.documents.clock.now()
        query = UPLOADS_ONLY | {"expires_at": {"$lt": time}}
        with self.documents.asked():
            cursor = self._collection.find(query, {"parts": 0})
            cursor.sort("expires_at", ASCENDING).limit(limit)
            return [_staged(document) for document in cursor]

    def unfinished(self, identity: str, but: uuid.UUID | None = None) -> Announced:
        """The uploads of an identity that have neither ended nor expired.

        :param but: Id of one that is left out.
        """
        unfinished = UPLOADS_ONLY | {
            "identity": identity,
            "finished": False,
            "expires_at": {"$gt": self.documents.clock.now()},
        }
        others = {"_id": {"$ne": but}}
        match = {"$match": {"$and": [unfinished, others]}}
        total = {
            "$group": {
                "_id": None,
                "number": {"$sum": 1},
                "size": {"$sum": {"$max": ["$length", "$offset"]}},
            }
        }
        with self.documents.asked():
            groups = [*self._collection.aggregate([match, total])]
        if not groups:
            return Announced()
        return Announced(groups[0]["number"], groups[0]["size"])

    def kept(self) -> Iterator[Staged]:
        """All uploads that have not expired, with their parts."""
        query: Document = {"expires_at": {"$gte": now()}}
        while True:
            with self.documents.asked():
                cursor = self._collection.find(query)
                cursor.sort("_id", ASCENDING).limit(BATCH_WITH_PARTS)
                batch = [_staged(document) for document in cursor]
            yield from batch
            if len(batch) < BATCH_WITH_PARTS:
                return
            query["_id"] = {"$gt": batch[-1].id}

    def forget_finished(self, upload_id: uuid.UUID) -> None:
        """Forget a finished upload, whose media was deleted."""
        with self.documents.asked():
            self._collection.delete_one({"_id": upload_id, "finished": True})

    def sweep_one(self, upload: Staged) -> bool:
        """Take away an upload that has expired, or the parts of one that is finished, unless
        somebody is at it."""
        try:
            writer = self.lock(upload.id, expires_at=upload.expires_at)
        except UploadLocked:
            return False
        if writer is None:
            return False

        with writer:
            if upload.is_expired:
                writer.remove()
            else:
                writer.remove_parts()
        return True

    def sweep(self) -> int:
        """Take away all that :meth:`left` finds.

        :return: How many uploads were taken away.
        """
        uploads = list(self.left())
        return sum(self.sweep_one(upload) for upload in uploads)

    def _ensure_indexes(self) -> None:
        """Make the indexes, once in a process."""
        if self._indexed:
            return
        fields = ("expires_at", "parts.key", "joined", "identity")
        indexes = [IndexModel([(name, ASCENDING)]) for name in fields]
        with self.documents.asked():
            self._collection.create_indexes(indexes)
        self._indexed = True


def find_uploader(collections: Collections, upload_id: uuid.UUID) -> str | None:
    """The identity that began an upload; ``None`` if there is none with this id."""
    uploads = collections.get(COLLECTION)
    with collections.documents.asked():
        document = uploads.find_one({"_id": upload_id}, {"identity": 1})
    if document is None:
        return None
    return document["identity"]


class Writer:
    """The right to change an upload, which one request at a time has.

    Give it back by leaving the ``with`` block.

    A writer that was stopped for longer than its lock lasts may find the upload in other hands.
    Every change of the upload is made on the condition that it is not.
    """

    upload: Staged

    def __init__(self, staging: Staging, upload: Staged | None) -> None:
        self._staging = staging
        self._holder = token_hex(8)
        if upload is not None:
            self.upload = upload

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        staging = self._staging
        with suppress(DatabaseUnavailable), staging.documents.asked():  # otherwise it runs out
            staging._collection.update_one(self._mine(), {"$set": {"lock": None}})

    def lock(self) -> Document:
        """The lock, as from now."""
        self._until = elapsed() + LOCK_SECONDS
        until = self._staging.documents.clock.now() + timedelta(seconds=LOCK_SECONDS)
        return {"holder": self._holder, "until": until}

    def keep(self) -> None:
        """Renew the lock, when it is time. Call this while the work goes on.

        :raises UploadLocked: Another request has the upload now.
        """
        if self._until - elapsed() < LOCK_SECONDS * 2 / 3:
            self._change({"lock": self.lock()})

    def commit(
        self,
        parts: list[Part],
        *,
        length: int | None,
        finished: bool = False,
    ) -> None:
        """Make parts that are in the storage the next bytes of the upload.

        :raises UploadLocked: Another request has the upload now. It is unchanged.
        :raises TooManyParts: The upload has too many.
        """
        upload = self.upload
        # The last one is taken in any case: the record exists.
        if not finished:
            check_parts(len(upload.parts) + len(parts))

        size = sum(part.size for part in parts)
        changes = {
            "offset": upload.offset + size,
            "length": length,
            "finished": finished,
            "lock": self.lock(),
            "expires_at": self._staging.expiry(),
        }
        new_parts = [asdict(part) for part in parts]
        push = {"$push": {"parts": {"$each": new_parts}}}
        self._change(changes, push, offset=upload.offset)

    def attempt(self) -> None:
        """Note that the record is about to be made."""
        self._change({"attempted": True, "lock": self.lock()})

    def remove(self) -> None:
        """Remove the upload with its parts. From the first step on it is gone for everybody."""
        self._change({"expires_at": _LONG_AGO, "lock": self.lock()})
        reach("tus:removing")
        self._delete_parts()
        self.forget()
        reach("tus:removed")

    def remove_parts(self) -> None:
        """Remove the parts of an upload that is finished."""
        self._delete_parts()
        self._change({"parts": []})

    def forget(self) -> None:
        """Remove the upload alone: its parts belong to another."""
        with self._staging.documents.asked():
            self._staging._collection.delete_one(self._mine())

    def _delete_parts(self) -> None:
        """Delete the bytes of all parts, and keep the lock meanwhile."""
        for part in self.upload.parts:
            if owner_of_key(part.key) is not None:
                self._staging.storage.delete(part.key)
            self.keep()

    def _mine(self) -> Document:
        """The query that finds the upload as long as this writer has the lock."""
        return {"_id": self.upload.id, "lock.holder": self._holder}

    def _change(
        self,
        changes: Document,
        push: Document | None = None,
        **where: t.Any,
    ) -> None:
        """Change the upload, unless another request has it now, or it has other values."""
        staging = self._staging
        update = {"$set": changes} | (push or {})
        with staging.documents.asked():
            document = staging._collection.find_one_and_update(
                self._mine() | where,
                update,
                return_document=ReturnDocument.AFTER,
            )
        if document is None:
            raise UploadLocked
        self.upload = _staged(document)


def _staged(document: Document) -> Staged:
    """The upload of a document. The document may come from another version."""
    document["id"] = document.pop("_id")
    parts = document.get("parts", ())
    document["parts"] = [Part(part["key"], part["size"]) for part in parts]

    # A field that the other version did not have gets its default; one that only it has is left
    # out.
    values = {name: document[name] for name in _FIELDS if name in document}
    return Staged(**values)
