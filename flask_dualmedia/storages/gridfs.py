"""Bytes in GridFS, for Mongo-only mode."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Iterator

from bson import Binary
from pymongo import ASCENDING, DESCENDING

from ..documents import BULK, Documents
from ..errors import MediaConflict
from ..models import now
from .base import Stat
from .chunked import CHUNK_SIZE, ChunkedStorage, ChunkRange

BUCKET = "media"
JOURNAL_BUCKET = "media_journal"

DELETED_AT_ONCE = 1024
"""Chunks of one file deleted by one command."""

COUNTED_AT_ONCE = 100_000
"""Chunks counted by one command."""

KEYS_AT_ONCE = 500
"""Keys listed by one command."""


class GridFSStorage(ChunkedStorage):
    """Bytes in a GridFS bucket, which any GridFS client can read.

    Chunks are written by ourselves, as the GridFS specification lays them out: PyMongo's own writer gathers 48 MB
    before it sends anything.
    """

    def __init__(self, documents: Documents, bucket: str = BUCKET) -> None:
        self._documents = documents
        self._files, self._chunks = documents[f"{bucket}.files"], documents[f"{bucket}.chunks"]
        self._indexed = False

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        self._ensure_indexes()
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for block in blocks:
                size += len(block)
                yield block

        super().put(key, counted())
        # The document of the file comes last: other GridFS clients see the file only when it is whole.
        file = {"_id": key, "length": size, "chunkSize": CHUNK_SIZE, "uploadDate": now(), "filename": key}
        with self._documents.asked():
            self._files.replace_one({"_id": key}, file, upsert=True)

    def _write(self, key: str, seq: int, batch: list[memoryview]) -> None:
        documents = [{"files_id": key, "n": seq + n, "data": Binary(bytes(c))} for n, c in enumerate(batch)]
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
        # So many at once as can be deleted in the time that a call has. The first chunk goes last: it shows a check
        # that there are others, where this is cut short.
        for start in range(last - last % DELETED_AT_ONCE, -1, -DELETED_AT_ONCE):
            numbers = {"$gte": start, "$lt": start + DELETED_AT_ONCE}
            with self._documents.asked(BULK):
                self._chunks.delete_many({"files_id": key, "n": numbers})
        return file is not None

    def _last_chunk(self, key: str) -> int:
        """The number of the last chunk of an upload that was cut short and left no file document; -1 for none."""
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

    def _counted(self, lengths: dict[str, int]) -> Iterator[tuple[str, int, tuple[int, int] | None]]:
        """For each file its size, and how many chunks it has with the number of the last one."""
        count = {"$group": {"_id": "$files_id", "count": {"$sum": 1}, "last": {"$max": "$n"}}}
        with self._documents.asked(BULK):
            groups = list(self._chunks.aggregate([{"$match": {"files_id": {"$in": [*lengths]}}}, count]))
        chunks = {group["_id"]: (group["count"], group["last"]) for group in groups}
        return ((key, size, chunks.get(key)) for key, size in lengths.items())

    def keys(self, after: str = "") -> Iterator[str]:
        while True:
            # The file's document comes last: an upload that was cut short has chunks alone.
            with self._documents.asked(BULK):
                files = self._files.find({"_id": {"$gt": after}}, {"_id": 1})
                first = self._chunks.find({"files_id": {"$gt": after}, "n": 0}, {"files_id": 1})
                found = {file["_id"] for file in files.sort("_id", ASCENDING).limit(KEYS_AT_ONCE)}
                found.update(chunk["files_id"] for chunk in first.sort("files_id", ASCENDING).limit(KEYS_AT_ONCE))
            page = sorted(found)[:KEYS_AT_ONCE]
            yield from page
            if len(page) < KEYS_AT_ONCE:
                return
            after = page[-1]

    def is_empty(self) -> bool:
        with self._documents.asked():
            return all(collection.find_one({}, {"_id": 1}) is None for collection in (self._files, self._chunks))

    def _ensure_indexes(self) -> None:
        if self._indexed:
            return
        with self._documents.asked():
            self._files.create_index([("filename", ASCENDING), ("uploadDate", ASCENDING)])
            self._chunks.create_index([("files_id", ASCENDING), ("n", ASCENDING)], unique=True)
        self._indexed = True


class JournalStorage(GridFSStorage):
    """The bucket of the journal. It is small, and empty as a rule."""

    def __init__(self, documents: Documents) -> None:
        super().__init__(documents, JOURNAL_BUCKET)

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
