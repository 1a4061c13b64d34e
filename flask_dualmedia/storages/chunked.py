"""Bytes as numbered chunks, written and read in batches."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from ..errors import BytesNotFound
from .base import AbstractStorage

CHUNK_SIZE = 256 * 1024
"""Bytes in one row or GridFS chunk; only the last one of a file is shorter."""

WRITE_BATCH = 16
"""Chunks written in one transaction: 4 MiB keeps transactions short at no cost in speed."""

READ_BATCH = 5
"""Chunks read by one query, and held in memory while they are sent. One MiB is in five of them,
wherever it begins."""


@dataclass(frozen=True)
class ChunkRange:
    """Which chunks, and which parts of the first and the last, make up the bytes ``[start,
    stop)``."""

    start: int
    stop: int

    @property
    def first(self) -> int:
        return self.start // CHUNK_SIZE

    @property
    def last(self) -> int:
        return (self.stop - 1) // CHUNK_SIZE

    def batches(self, count: int) -> Iterator[ChunkRange]:
        """The same bytes in ranges of at most ``count`` chunks."""
        for seq in range(self.first, self.last + 1, count) if self.size else ():
            yield ChunkRange(
                max(self.start, seq * CHUNK_SIZE), min(self.stop, (seq + count) * CHUNK_SIZE)
            )

    @property
    def size(self) -> int:
        return self.stop - self.start


class BatchedStorage(AbstractStorage):
    """A storage of which one batch of chunks after the other is read."""

    def _pieces(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        for batch in ChunkRange(start, stop).batches(READ_BATCH):
            yield from self.read_batch(key, batch)

    def send(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        return self._begun(self._sent(key, start, stop)) if start < stop else iter(())

    def _sent(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        if stop - start > CHUNK_SIZE:
            with closing(self.stream(key, start, stop)) as pieces:
                for piece in pieces:
                    start += len(piece)
                    yield piece
        yield from self._pieces(key, start, stop)

    def stream(self, key: str, start: int, stop: int) -> Generator[bytes, None, None]:
        """The bytes of a range as the database sends them, as far as that goes: it ends where the
        client is slower than the database, and where there is any trouble, which reading the rest
        then shows."""
        yield from ()

    @abstractmethod
    def read_batch(self, key: str, wanted: ChunkRange) -> list[bytes]:
        """The chunks of a range, the first and the last one cut to it.

        :raises BytesNotFound: Some of it is not there.
        """


class ChunkedStorage(BatchedStorage):
    """A storage that keeps chunks of :data:`CHUNK_SIZE`."""

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        seq = 0
        # A connection is taken for the time of one batch, not while a slow client makes us wait for
        # the next.
        for batch in in_batches(split(blocks, CHUNK_SIZE), WRITE_BATCH):
            self._write(key, seq, batch)
            seq += len(batch)

    def read_batch(self, key: str, wanted: ChunkRange) -> list[bytes]:
        chunks = self._read(key, wanted)
        if sum(map(len, chunks)) != wanted.size:
            raise BytesNotFound(key)
        return chunks

    def delete(self, key: str) -> None:
        self.discard(key)

    def is_empty(self) -> bool:
        """Whether there are no bytes under any key."""
        return next(self.keys(), None) is None

    @abstractmethod
    def discard(self, key: str) -> bool:
        """Delete the bytes under a key; whether there were any."""

    @abstractmethod
    def _write(self, key: str, seq: int, batch: list[memoryview]) -> None:
        """Keep chunks numbered from ``seq`` on. One that is there already is the same, since a key
        has one content."""

    @abstractmethod
    def _read(self, key: str, wanted: ChunkRange) -> list[bytes]:
        """Those chunks of a range that are there, the first and the last one cut to it."""


Read = Callable[[str, ChunkRange], list[bytes]]
"""Reads a batch, as :meth:`BatchedStorage.read_batch`."""


def read_from(places: Sequence[Read], key: str, wanted: ChunkRange) -> list[bytes]:
    """A batch from the first place that has all of it; where none has, each chunk from the first
    that has it.

    :raises BytesNotFound: Some of it is in none of them.
    """
    for read in places:
        try:
            return read(key, wanted)
        except BytesNotFound:
            continue

    if wanted.first == wanted.last:
        raise BytesNotFound(key)
    return [piece for chunk in wanted.batches(1) for piece in read_from(places, key, chunk)]


class BytesOf:
    """The bytes in several storages, for reading: a key may be in one of them, or half in one and
    half in another."""

    def __init__(self, *storages: ChunkedStorage) -> None:
        self._places = [storage.read_batch for storage in storages]

    def open(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """As of any storage."""
        for wanted in ChunkRange(start, stop).batches(READ_BATCH):
            yield from read_from(self._places, key, wanted)


def split(blocks: Iterable[bytes], size: int) -> Iterator[memoryview]:
    """The bytes of ``blocks`` in pieces of exactly ``size``, the last one shorter, copied only
    across block borders."""
    rest = b""
    for block in blocks:
        view = memoryview(rest + block if rest else block)
        whole = len(view) - len(view) % size
        for start in range(0, whole, size):
            yield view[start : start + size]
        rest = bytes(view[whole:])
    if rest:
        yield memoryview(rest)


def in_batches(chunks: Iterator[memoryview], count: int) -> Iterator[list[memoryview]]:
    """Lists of ``count`` chunks, the last one shorter."""
    batch: list[memoryview] = []
    for chunk in chunks:
        batch.append(chunk)
        if len(batch) == count:
            yield batch
            batch = []
    if batch:
        yield batch
