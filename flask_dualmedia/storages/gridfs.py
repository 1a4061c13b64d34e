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
from ..databases.documents import BULK, Documents, insert_new
from ..errors import JournalFull
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

    def __init__(
        self,
        documents: Documents | Collections,
        bucket: str = BUCKET,
    ) -> None:
        self._collections = Collections.of(documents)
        self._name = bucket
        self._indexed = False

    @property
    def _files(self) -> Collection[dict[str, t.Any]]:
        return self._collections.get_bucket(self._name)[0]

    @property
    def _chunks(self) -> Collection[dict[str, t.Any]]:
        return self._collections.get_bucket(self._name)[1]

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """Keep the bytes as chunks, and the file document after the last of them."""
        self._put(key, blocks, {})

    def _put(
        self,
        key: str,
        blocks: Iterable[bytes],
        metadata: dict[str, t.Any],
    ) -> int:
        """Keep bytes and their file document.

        :return: How many bytes there were.
        """
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
        with self._collections.asked():
            self._files.replace_one({"_id": key}, file, upsert=True)
        return size

    def _write(self, key: str, seq: int, batch: list[memoryview]) -> None:
        """Insert chunks in one command.

        Those that are there already stay: a transfer that was killed has written them, or a
        statement whose answer was lost.
        """
        documents = [
            {
                "files_id": key,
                "n": number,
                "data": Binary(bytes(chunk)),
            }
            for number, chunk in enumerate(batch, start=seq)
        ]
        with self._collections.asked(BULK):
            insert_new(self._chunks, documents)

    def _read(self, key: str, chunk_range: ChunkRange) -> list[bytes]:
        where = {
            "files_id": key,
            "n": {"$gte": chunk_range.first, "$lte": chunk_range.last},
        }
        fields = {"_id": 0, "n": 1, "data": 1}
        with self._collections.asked(BULK):
            chunks = self._chunks.find(where, fields).sort("n", ASCENDING)
            return [_cut(chunk["data"], chunk["n"], chunk_range) for chunk in chunks]

    def discard(self, key: str) -> bool:
        """Delete the file document under a key, and then its chunks, the first one last.

        :return: Whether there was a file document.
        """
        with self._collections.asked():
            file = self._files.find_one_and_delete({"_id": key}, {"length": 1})
        if file is None:
            self._delete_chunks(key, self._last_chunk(key))
            return False
        self._delete_chunks(key, _chunk_numbers(file["length"])[1])
        return True

    def _delete_chunks(self, key: str, last: int) -> None:
        """Delete the chunks of a file, of which the last one has this number."""
        # So many at once as can be deleted in the time that a call has. The first chunk goes last:
        # it shows a check that there are others, where this is cut short.
        last_start = last - last % DELETED_AT_ONCE
        for start in range(last_start, -1, -DELETED_AT_ONCE):
            numbers = {"$gte": start, "$lt": start + DELETED_AT_ONCE}
            with self._collections.asked(BULK):
                self._chunks.delete_many({"files_id": key, "n": numbers})

    def _last_chunk(self, key: str) -> int:
        """The number of the last chunk of an upload that was cut short and left no file document;
        -1 for none."""
        with self._collections.asked():
            last = self._chunks.find_one(
                {"files_id": key},
                {"n": 1},
                sort=[("n", DESCENDING)],
            )
        if last is None:
            return -1
        return last["n"]

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        """The facts about the bytes under each key that has a file document.

        Chunks are counted, and not read. An upload that was cut short has no document, and is left
        out.
        """
        where = {"_id": {"$in": [*keys]}}
        with self._collections.asked():
            files = self._files.find(where, {"length": 1})
            lengths = {file["_id"]: file["length"] for file in files}

        stats = {}
        for batch in _by_size(lengths):
            for key, size, numbers in self._counted(batch):
                is_complete = numbers == _chunk_numbers(size)
                stats[key] = Stat(size, is_complete)
        return stats

    def _counted(
        self,
        lengths: dict[str, int],
    ) -> Iterator[tuple[str, int, tuple[int, int] | None]]:
        """For each file its size, and how many chunks it has with the number of the last one."""
        group = {
            "_id": "$files_id",
            "count": {"$sum": 1},
            "last": {"$max": "$n"},
        }
        pipeline = [
            {"$match": {"files_id": {"$in": [*lengths]}}},
            {"$group": group},
        ]
        with self._collections.asked(BULK):
            groups = list(self._chunks.aggregate(pipeline))

        chunks = {}
        for group in groups:
            key = group["_id"]
            chunks[key] = (group["count"], group["last"])
        return ((key, size, chunks.get(key)) for key, size in lengths.items())

    def keys(self, after: str = "") -> Iterator[str]:
        """Every key that sorts behind ``after``, page by page, those of cut uploads too."""
        while True:
            with self._collections.asked(BULK):
                keys = self._next_keys(after)
            page = sorted(keys)[:KEYS_AT_ONCE]
            yield from page
            if len(page) < KEYS_AT_ONCE:
                return
            after = page[-1]

    def _next_keys(self, after: str) -> set[str]:
        """The first keys behind one, and perhaps some that come later.

        The file's document comes last: an upload that was cut short has chunks alone.
        """
        is_behind = {"$gt": after}
        files = self._files.find({"_id": is_behind}, {"_id": 1})
        files = files.sort("_id", ASCENDING)
        files = files.limit(KEYS_AT_ONCE)

        first_chunks = self._chunks.find(
            {"files_id": is_behind, "n": 0},
            {"files_id": 1},
        )
        first_chunks = first_chunks.sort("files_id", ASCENDING)
        first_chunks = first_chunks.limit(KEYS_AT_ONCE)

        keys = {file["_id"] for file in files}
        keys.update(chunk["files_id"] for chunk in first_chunks)
        return keys

    def is_empty(self) -> bool:
        with self._collections.asked():
            for collection in (self._files, self._chunks):
                if collection.find_one({}, {"_id": 1}) is not None:
                    return False
        return True

    def _ensure_indexes(self) -> None:
        if self._indexed:
            return
        files_index = [("filename", ASCENDING), ("uploadDate", ASCENDING)]
        chunks_index = [("files_id", ASCENDING), ("n", ASCENDING)]
        with self._collections.asked():
            self._files.create_index(files_index)
            self._chunks.create_index(chunks_index, unique=True)
        self._indexed = True


SHARE = 4
"""One uploader may take this part of the journal, a quarter, and no more."""

LOOKED_AT = 1.0
"""Seconds between two looks at how full the journal is, while bytes come."""

Identify = Callable[[str], str | None]
"""Tells the uploader of the bytes under a key."""


class _Sizes(t.NamedTuple):
    """The space that the files of a bucket take up."""

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

    Nobody can fill it without end: bytes beyond ``max_size`` are refused, and from one uploader
    those beyond a quarter of it. It looks every second at what others send meanwhile; so
    ``max_size`` is passed at most by what comes within a second, and by the 4 MiB that each running
    upload holds in memory.

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
        self._max_size = max_size
        self._identify = identify
        self._unfinished = unfinished
        self._sizes = _Sizes(float("-inf"), {}, 0)

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """Keep the bytes of ``blocks`` as long as there is room for them.

        :raises JournalFull: There is none; what was kept until then stays under the key.
        """
        if self._max_size is None:
            super().put(key, blocks)
            return

        identity = self._identify(key)
        metadata = {}
        if identity is not None:
            metadata["identity"] = identity
        fitting_blocks = self._within_limits(key, identity, blocks)
        size = self._put(key, fitting_blocks, metadata)

        # Until the sizes are asked for again. They are before anything is refused.
        at, by_identity, chunks = self._sizes
        size_before = by_identity.get(identity, 0)
        by_identity = {**by_identity, identity: size_before + size}
        new_chunks, _ = _chunk_numbers(size)
        self._sizes = _Sizes(at, by_identity, chunks + new_chunks)

    def check_room(self, identity: str | None, size: int) -> None:
        """Refuse bytes that have no place, before they are read.

        Sizes may be known from a second ago. Before anything is refused, they are asked for anew.

        :raises JournalFull: They have none.
        """
        if self._max_size is None:
            return
        rooms = (
            self._room(None, identity, LOOKED_AT),
            self._room(None, identity, 0),
        )
        if not any(room.covers(size) for room in rooms):
            raise rooms[-1].refusal(size)

    def _within_limits(
        self,
        key: str,
        identity: str | None,
        blocks: Iterable[bytes],
    ) -> Iterator[bytes]:
        """The same blocks, as long as there is room for them.

        :raises JournalFull: There is none for a block. Those before it were passed on.
        """
        room = _Room(0, 0)
        looked = float("-inf")
        size = 0
        for block in blocks:
            is_first = size == 0
            size += len(block)
            if time.monotonic() - looked > LOOKED_AT:
                stored_key = key
                if is_first:
                    stored_key = None
                room = self._room(stored_key, identity, LOOKED_AT)
                looked = time.monotonic()
            if not room.covers(size):
                # Files that came since are counted in whole chunks: now they are counted as they
                # are.
                room = self._room(key, identity, 0)
            if not room.covers(size):
                raise room.refusal(size)
            yield block

    def _room(
        self,
        key: str | None,
        identity: str | None,
        max_age: float,
    ) -> _Room:
        """How many bytes may be in the bucket under a key.

        Unfinished files count with whole chunks of 256 KiB.

        :param key: One under which there may be some already; they are not counted.
        :param max_age: Seconds since the sizes of files were asked for, at most.
        """
        assert self._max_size is not None
        if time.monotonic() - self._sizes.at > max_age:
            self._sizes = self._sum_sizes()
        sizes = self._sizes

        own_chunks = 0
        with self._collections.asked():
            chunks = self._chunks.estimated_document_count()
            if key is not None:
                own_chunks = self._chunks.count_documents({"files_id": key})
        unfinished_chunks = max(0, chunks - sizes.chunks - own_chunks)
        finished_size = sum(sizes.by_identity.values())
        room = self._max_size - finished_size - unfinished_chunks * CHUNK_SIZE
        if identity is None:
            return _Room(room, room)

        share = self._max_size // SHARE - sizes.by_identity.get(identity, 0)
        if key is not None:
            share -= self._unfinished_size(identity, key)
        return _Room(room, share)

    def _unfinished_size(self, identity: str, key: str) -> int:
        """The size of what an uploader is just sending under other keys than this one."""
        other_keys = [other for other in self._unfinished(identity) if other != key]
        if not other_keys:
            return 0
        where = {"files_id": {"$in": other_keys}}
        with self._collections.asked():
            chunks = self._chunks.count_documents(where)
        return chunks * CHUNK_SIZE

    def _sum_sizes(self) -> _Sizes:
        """The space of all files with a document; those of unknown uploaders are under ``None``."""
        time_before = time.monotonic()
        chunks = {"$ceil": {"$divide": ["$length", CHUNK_SIZE]}}
        group = {
            "_id": "$metadata.identity",
            "size": {"$sum": "$length"},
            "chunks": {"$sum": chunks},
        }
        with self._collections.asked(BULK):
            totals = list(self._files.aggregate([{"$group": group}]))

        by_identity = {}
        all_chunks = 0
        for total in totals:
            identity = total["_id"]
            by_identity[identity] = int(total["size"])
            all_chunks += total["chunks"]
        return _Sizes(time_before, by_identity, int(all_chunks))

    def _next_keys(self, after: str) -> set[str]:
        # Here every chunk counts, not the first one alone: the others of a file may be in SQL.
        is_behind = {"$gt": after}
        files = self._files.find({"_id": is_behind}, {"_id": 1})
        files = files.sort("_id", ASCENDING)
        files = files.limit(KEYS_AT_ONCE)
        keys = {file["_id"] for file in files}

        pipeline: list[dict[str, t.Any]] = [
            {"$match": {"files_id": is_behind}},
            {"$group": {"_id": "$files_id"}},
            {"$sort": {"_id": ASCENDING}},
            {"$limit": KEYS_AT_ONCE},
        ]
        for group in self._chunks.aggregate(pipeline):
            keys.add(group["_id"])
        return keys


def _cut(data: bytes, seq: int, chunk_range: ChunkRange) -> bytes:
    """The part of a chunk that is in a range."""
    offset = seq * CHUNK_SIZE
    if chunk_range.start <= offset and offset + len(data) <= chunk_range.stop:
        return data
    begin = max(chunk_range.start - offset, 0)
    return data[begin : chunk_range.stop - offset]


def _chunk_numbers(size: int) -> tuple[int, int]:
    """How many chunks a file of this size has, and the number of the last one."""
    count = -(-size // CHUNK_SIZE)
    return count, count - 1


def _by_size(lengths: dict[str, int]) -> Iterator[dict[str, int]]:
    """The same in batches whose files do not have too many chunks together."""
    batch: dict[str, int] = {}
    chunks = 0
    for key, size in lengths.items():
        chunks_of_file = size // CHUNK_SIZE
        if batch and chunks + chunks_of_file > COUNTED_AT_ONCE:
            yield batch
            batch = {}
            chunks = 0
        batch[key] = size
        chunks += chunks_of_file
    if batch:
        yield batch
