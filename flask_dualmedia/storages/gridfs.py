"""Bytes in GridFS, for Mongo-only mode."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import groupby

from bson import Binary
from gridfs import GridFSBucket, NoFile
from pymongo import ASCENDING
from pymongo.collection import Collection
from pymongo.database import Database

from ..documents import BUCKET as BUCKET
from ..documents import Collections
from ..errors import MediaConflict
from ..models import now
from ..repositories.mongo import translate_errors
from .base import Stat
from .chunked import CHUNK_SIZE, ChunkedStorage, ChunkRange


class GridFSStorage(ChunkedStorage):
    """Bytes in a GridFS bucket, which any GridFS client can read.

    Chunks are written by ourselves, as the GridFS specification lays them out: PyMongo's own writer gathers 48 MB
    before it sends anything.
    """

    def __init__(self, database: Database[dict[str, t.Any]] | Collections, bucket: str = BUCKET) -> None:
        self._collections, self._name = Collections.of(database), bucket
        self._bucket = GridFSBucket(self._collections.database, bucket, chunk_size_bytes=CHUNK_SIZE)
        self._indexed = False

    @property
    def _files(self) -> Collection[dict[str, t.Any]]:
        return self._collections.get_bucket(self._name)[0]

    @property
    def _chunks(self) -> Collection[dict[str, t.Any]]:
        return self._collections.get_bucket(self._name)[1]

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
        with translate_errors():
            self._files.replace_one({"_id": key}, file, upsert=True)

    def _write(self, key: str, seq: int, batch: list[memoryview]) -> None:
        documents = [{"files_id": key, "n": seq + n, "data": Binary(bytes(c))} for n, c in enumerate(batch)]
        try:
            with translate_errors():
                self._chunks.insert_many(documents, ordered=False)
        except MediaConflict:
            pass  # written before: by a transfer that was killed, or by a statement of which the answer was lost

    def _read(self, key: str, wanted: ChunkRange) -> list[bytes]:
        where = {"files_id": key, "n": {"$gte": wanted.first, "$lte": wanted.last}}
        with translate_errors():
            found = self._chunks.find(where, {"_id": 0, "n": 1, "data": 1}).sort("n", ASCENDING)
            return [_cut(document["data"], document["n"], wanted) for document in found]

    def discard(self, key: str) -> bool:
        try:
            with translate_errors():
                self._collections.get_bucket(self._name)
                self._bucket.delete(key)  # chunks go even where an upload that was cut short left no file document
        except NoFile:
            return False
        return True

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        count = {"$group": {"_id": "$files_id", "count": {"$sum": 1}, "last": {"$max": "$n"}}}
        with translate_errors():
            lengths = {
                file["_id"]: file["length"] for file in self._files.find({"_id": {"$in": [*keys]}}, {"length": 1})
            }
            found = list(self._chunks.aggregate([{"$match": {"files_id": {"$in": [*lengths]}}}, count]))
        chunks = {group["_id"]: (group["count"], group["last"]) for group in found}
        return {key: Stat(size, chunks.get(key) == _chunk_numbers(size)) for key, size in lengths.items()}

    def keys(self, after: str = "") -> Iterator[str]:
        # The file's document comes last: an upload that was cut short has chunks alone.
        with translate_errors():
            files = self._files.find({"_id": {"$gt": after}}, {"_id": 1}).sort("_id", ASCENDING)
            first = self._chunks.find({"files_id": {"$gt": after}, "n": 0}, {"files_id": 1}).sort("files_id", ASCENDING)
            both = merge((file["_id"] for file in files), (chunk["files_id"] for chunk in first))
            yield from (key for key, _ in groupby(both))

    def _ensure_indexes(self) -> None:
        if self._indexed:
            return
        with translate_errors():
            self._files.create_index([("filename", ASCENDING), ("uploadDate", ASCENDING)])
            self._chunks.create_index([("files_id", ASCENDING), ("n", ASCENDING)], unique=True)
        self._indexed = True


def _cut(data: bytes, seq: int, wanted: ChunkRange) -> bytes:
    offset = seq * CHUNK_SIZE
    if wanted.start <= offset and offset + len(data) <= wanted.stop:
        return data
    return data[max(wanted.start - offset, 0) : wanted.stop - offset]


def _chunk_numbers(size: int) -> tuple[int, int]:
    """How many chunks a file of this size has, and the number of the last one."""
    count = -(-size // CHUNK_SIZE)
    return count, count - 1
