"""Bytes in GridFS, for Mongo-only mode."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Callable, Iterable, Iterator

from bson import Binary
from pymongo import ASCENDING, DESCENDING
from pymongo.collection import Collection

from ..databases.collections import BUCKET as BUCKET
from ..databases.collections import Collections
from ..databases.documents import BULK, Documents
from ..errors import JournalFull, MediaConflict
from ..models import now
from .base import Stat
from .chunked import CHUNK_SIZE, ChunkedStorage, ChunkRange

DELETED_AT_ONCE = 1024
"""Chunks of one file deleted by one command."""

COUNTED_AT_ONCE = 100_000
"""Chunks counted by one command."""

KEYS_AT_ONCE = 500
"""Keys listed by one command."""


class GridFSStorage(ChunkedStorage):
    """Bytes in a GridFS bucket, which any GridFS client can read.

    Chunks are written by ourselves, as the GridFS specification lays them out: PyMongo's own writer
    gathers 48 MB before it sends anything.
    """

    def __init__(self, documents: Documents | Collections, bucket: str = BUCKET) -> None:
        self._collections, self._name = Collections.of(documents), bucket
        self._documents = self._collections.documents
        self._indexed = False

    @property
    def _files(self) -> Collection[dict[str, t.Any]]:
        return self._collections.get_bucket(self._name)[0]

    @property
    def _chunks(self) -> Collection[dict[str, t.Any]]:
        return self._collections.get_bucket(self._name)[1]

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        self._put(key, blocks, {})

    def _put(self, key: str, blocks: Iterable[bytes], metadata: dict[str, t.Any]) -> int:
        """Keep bytes and their file document; how many there were."""
        self._ensure_indexes()
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for block in blocks:
                size += len(block)
                yield block

        super().put(key, counted())
        # The document of the file comes last: other GridFS clients see the file only when it is
        # whole.
        file = {
            "_id": key,
            "length": size,
            "chunkSize": CHUNK_SIZE,
            "uploadDate": now(),
            "filename": key,
        }
        if metadata:
            file["metadata"] = metadata
        with self._documents.asked():
            self._files.replace_one({"_id": key}, file, upsert=True)
        return size

    def _write(self, key: str, seq: int, batch: list[memoryview]) -> None:
        documents = [
            {"files_id": key, "n": seq + n, "data": Binary(bytes(c))} for n, c in enumerate(batch)
        ]
        try:
            with self._documents.asked(BULK):
                self._chunks.insert_many(documents, ordered=False)
        except MediaConflict:
            pass  # written before: by a transfer that was killed, or by a statement of which the answer was lost

    def _read(self, key: str, wanted: ChunkRange) -> list[bytes]:
        where = {"files_id": key, "n": {"$gte": wanted.first, "$lte": wanted.last}}
        with self._documents.asked(BULK):
            found = self._chunks.find(where, {"_id": 0, "n": 1, "data": 1}).sort("n", ASCENDING)
            return [_cut(document["data"], document["n"], wanted) for document in found]

    def discard(self, key: str) -> bool:
        with self._documents.asked():
            file = self._files.find_one_and_delete({"_id": key}, {"length": 1})
        last = self._last_chunk(key) if file is None else _chunk_numbers(file["length"])[1]
        # So many at once as can be deleted in the time that a call has. The first chunk goes last:
        # it shows a check that there are others, where this is cut short.
        for start in range(last - last % DELETED_AT_ONCE, -1, -DELETED_AT_ONCE):
            numbers = {"$gte": start, "$lt": start + DELETED_AT_ONCE}
            with self._documents.asked(BULK):
                self._chunks.delete_many({"files_id": key, "n": numbers})
        return file is not None

    def _last_chunk(self, key: str) -> int:
        """The number of the last chunk of an upload that was cut short and left no file document;
        -1 for none."""
        with self._documents.asked():
            last = self._chunks.find_one({"files_id": key}, {"n": 1}, sort=[("n", DESCENDING)])
        return -1 if last is None else last["n"]

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        with self._documents.asked():
            files = self._files.find({"_id": {"$in": [*keys]}}, {"length": 1})
            lengths = {file["_id"]: file["length"] for file in files}
        return {
            key: Stat(size, found == _chunk_numbers(size))
            for batch in _by_size(lengths)
            for key, size, found in self._counted(batch)
        }

    def _counted(
        self, lengths: dict[str, int]
    ) -> Iterator[tuple[str, int, tuple[int, int] | None]]:
        """For each file its size, and how many chunks it has with the number of the last one."""
        count = {"$group": {"_id": "$files_id", "count": {"$sum": 1}, "last": {"$max": "$n"}}}
        with self._documents.asked(BULK):
            groups = list(
                self._chunks.aggregate([{"$match": {"files_id": {"$in": [*lengths]}}}, count])
            )
        chunks = {group["_id"]: (group["count"], group["last"]) for group in groups}
        return ((key, size, chunks.get(key)) for key, size in lengths.items())

    def keys(self, after: str = "") -> Iterator[str]:
        while True:
            # The file's document comes last: an upload that was cut short has chunks alone.
            with self._documents.asked(BULK):
                files = self._files.find({"_id": {"$gt": after}}, {"_id": 1})
                first = self._chunks.find({"files_id": {"$gt": after}, "n": 0}, {"files_id": 1})
                found = {file["_id"] for file in files.sort("_id", ASCENDING).limit(KEYS_AT_ONCE)}
                found.update(
                    chunk["files_id"]
                    for chunk in first.sort("files_id", ASCENDING).limit(KEYS_AT_ONCE)
                )
            page = sorted(found)[:KEYS_AT_ONCE]
            yield from page
            if len(page) < KEYS_AT_ONCE:
                return
            after = page[-1]

    def is_empty(self) -> bool:
        with self._documents.asked():
            return all(
                collection.find_one({}, {"_id": 1}) is None
                for collection in (self._files, self._chunks)
            )

    def _ensure_indexes(self) -> None:
        if self._indexed:
            return
        with self._documents.asked():
            self._files.create_index([("filename", ASCENDING), ("uploadDate", ASCENDING)])
            self._chunks.create_index([("files_id", ASCENDING), ("n", ASCENDING)], unique=True)
        self._indexed = True


SHARE = 4
"""One uploader may take this part of the journal, a quarter, and no more."""

LOOKED_AT = 1.0
"""Seconds between two looks at how full the journal is, while bytes come."""

Identify = Callable[[str], str | None]
"""Tells the uploader of the bytes under a key."""


class _Sizes(t.NamedTuple):
    """What the files of a bucket take up."""

    at: float
    by_identity: dict[str | None, int]
    chunks: int


class _Room(t.NamedTuple):
    """How many bytes more fit, by the limit for all and by that of their uploader."""

    of_all: int
    of_uploader: int

    def covers(self, size: int) -> bool:
        return size <= self.of_all and size <= self.of_uploader

    def refusal(self, size: int) -> JournalFull:
        return JournalFull(is_share=size <= self.of_all)


class JournalStorage(GridFSStorage):
    """The bucket of the journal. It is small, and empty as a rule.

    Nobody can fill it without end: bytes beyond ``max_size`` are refused, and of one uploader those
    beyond a quarter of it. What others send meanwhile is looked at every second; so ``max_size`` is
    passed at most by what comes within a second, and by the 4 MiB that each running upload holds in
    memory.

    :param max_size: Bytes that it may hold, ``None`` for no limit.
    :param identify: Tells whose bytes are under a key.
    :param unfinished: The keys of what an uploader is just sending, as far as a record names them.
    """

    def __init__(
        self,
        documents: Documents | Collections,
        bucket: str,
        *,
        max_size: int | None = None,
        identify: Identify = lambda key: None,
        unfinished: Callable[[str], list[str]] = lambda identity: [],
    ) -> None:
        super().__init__(documents, bucket)
        self._max_size, self._identify, self._unfinished = max_size, identify, unfinished
        self._sizes = _Sizes(float("-inf"), {}, 0)

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        if self._max_size is None:
            super().put(key, blocks)
            return
        identity = self._identify(key)
        metadata = {} if identity is None else {"identity": identity}
        size = self._put(key, self._within_limits(key, identity, blocks), metadata)
        # Until the sizes are asked for again. They are before anything is refused.
        at, by_identity, chunks = self._sizes
        by_identity = {**by_identity, identity: by_identity.get(identity, 0) + size}
        self._sizes = _Sizes(at, by_identity, chunks + _chunk_numbers(size)[0])

    def check_room(self, identity: str | None, size: int) -> None:
        """Refuse bytes that have no place, before they are read.

        :raises JournalFull: They have none.
        """
        if self._max_size is not None:
            for room in (self._room(None, identity, LOOKED_AT), self._room(None, identity, 0)):
                if room.covers(size):
                    return
                refusal = room.refusal(size)
            raise refusal

    def _within_limits(
        self, key: str, identity: str | None, blocks: Iterable[bytes]
    ) -> Iterator[bytes]:
        room, looked, came = _Room(0, 0), float("-inf"), 0
        for block in blocks:
            came += len(block)
            if time.monotonic() - looked > LOOKED_AT:
                room, looked = (
                    self._room(key if came > len(block) else None, identity, LOOKED_AT),
                    time.monotonic(),
                )
            if not room.covers(came):
                # Files that came since are counted in whole chunks: now they are counted as they
                # are.
                room = self._room(key, identity, 0)
            if not room.covers(came):
                raise room.refusal(came)
            yield block

    def _room(self, key: str | None, identity: str | None, max_age: float) -> _Room:
        """How many bytes may be in the bucket under a key.

        :param key: One under which there may be some already; they are not counted.
        :param max_age: Seconds since the sizes of files were asked for, at most.
        """
        assert self._max_size is not None
        if time.monotonic() - self._sizes.at > max_age:
            self._sizes = self._sum_sizes()
        sizes = self._sizes
        with self._documents.asked():
            chunks = self._chunks.estimated_document_count()
            mine = 0 if key is None else self._chunks.count_documents({"files_id": key})
        unfinished = max(0, chunks - sizes.chunks - mine) * CHUNK_SIZE
        room = self._max_size - sum(sizes.by_identity.values()) - unfinished
        if identity is None:
            return _Room(room, room)

        share = self._max_size // SHARE - sizes.by_identity.get(identity, 0)
        others = (
            [other for other in self._unfinished(identity) if other != key]
            if key is not None
            else []
        )
        if others:
            with self._documents.asked():
                share -= self._chunks.count_documents({"files_id": {"$in": others}}) * CHUNK_SIZE
        return _Room(room, share)

    def _sum_sizes(self) -> _Sizes:
        time_before = time.monotonic()
        chunks = {"$ceil": {"$divide": ["$length", CHUNK_SIZE]}}
        group = {
            "_id": "$metadata.identity",
            "size": {"$sum": "$length"},
            "chunks": {"$sum": chunks},
        }
        with self._documents.asked(BULK):
            found = list(self._files.aggregate([{"$group": group}]))
        by_identity = {one["_id"]: int(one["size"]) for one in found}
        return _Sizes(time_before, by_identity, int(sum(one["chunks"] for one in found)))

    def keys(self, after: str = "") -> Iterator[str]:
        # Here every chunk counts, not the first one alone: the others of a file may be in SQL.
        while True:
            with self._documents.asked(BULK):
                files = self._files.find({"_id": {"$gt": after}}, {"_id": 1}).sort("_id", ASCENDING)
                found = {file["_id"] for file in files.limit(KEYS_AT_ONCE)}
                chunks: list[dict[str, t.Any]] = [
                    {"$match": {"files_id": {"$gt": after}}},
                    {"$group": {"_id": "$files_id"}},
                    {"$sort": {"_id": ASCENDING}},
                    {"$limit": KEYS_AT_ONCE},
                ]
                found.update(group["_id"] for group in self._chunks.aggregate(chunks))
            page = sorted(found)[:KEYS_AT_ONCE]
            yield from page
            if len(page) < KEYS_AT_ONCE:
                return
            after = page[-1]


def _cut(data: bytes, seq: int, wanted: ChunkRange) -> bytes:
    offset = seq * CHUNK_SIZE
    if wanted.start <= offset and offset + len(data) <= wanted.stop:
        return data
    return data[max(wanted.start - offset, 0) : wanted.stop - offset]


def _chunk_numbers(size: int) -> tuple[int, int]:
    """How many chunks a file of this size has, and the number of the last one."""
    count = -(-size // CHUNK_SIZE)
    return count, count - 1


def _by_size(lengths: dict[str, int]) -> Iterator[dict[str, int]]:
    """The same in batches whose files do not have too many chunks together."""
    batch: dict[str, int] = {}
    chunks = 0
    for key, size in lengths.items():
        if batch and chunks + size // CHUNK_SIZE > COUNTED_AT_ONCE:
            yield batch
            batch, chunks = {}, 0
        batch[key] = size
        chunks += size // CHUNK_SIZE
    if batch:
        yield batch
