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
    """The chunks that hold the bytes ``[start, stop)``, and which parts of the first and the last
    one."""

    start: int
    stop: int

    @property
    def first(self) -> int:
        """The number of the first chunk."""
        return self.start // CHUNK_SIZE

    @property
    def last(self) -> int:
        """The number of the last chunk."""
        return (self.stop - 1) // CHUNK_SIZE

    def batches(self, count: int) -> Iterator[ChunkRange]:
        """The same bytes in ranges of at most ``count`` chunks."""
        if not self.size:
            return
        for seq in range(self.first, self.last + 1, count):
            start = max(self.start, seq * CHUNK_SIZE)
            stop = min(self.stop, (seq + count) * CHUNK_SIZE)
            yield ChunkRange(start, stop)

    @property
    def size(self) -> int:
        """How many bytes these are."""
        return self.stop - self.start


class BatchedStorage(AbstractStorage):
    """A storage whose chunks are read one batch after the other."""

    is_free_to_read = True

    def _pieces(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        for batch in ChunkRange(start, stop).batches(READ_BATCH):
            yield from self.read_batch(key, batch)

    def send(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes for a client: as a stream while it is fast, and then in batches."""
        if start >= stop:
            return iter(())
        return self._begun(self._sent(key, start, stop))

    def _sent(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of a range, as many as possible from a stream, and the rest in batches."""
        if stop - start > CHUNK_SIZE:
            with closing(self.stream(key, start, stop)) as pieces:
                for piece in pieces:
                    start += len(piece)
                    yield piece
        yield from self._pieces(key, start, stop)

    def stream(
        self,
        key: str,
        start: int,
        stop: int,
    ) -> Generator[bytes, None, None]:
        """The bytes of a range as the database sends them, as far as that goes.

        It ends where the client is slower than the database, and where there is any trouble, which
        reading the rest then shows.
        """
        yield from ()

    @abstractmethod
    def read_batch(self, key: str, chunk_range: ChunkRange) -> list[bytes]:
        """The chunks of a range, the first and the last one cut to it.

        :raises BytesNotFound: Some of it is not there.
        """


class ChunkedStorage(BatchedStorage):
    """A storage that keeps chunks of :data:`CHUNK_SIZE`."""

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """Keep bytes in batches of 4 MiB. Those that were written stay if anything fails later."""
        seq = 0
        chunks = split(blocks, CHUNK_SIZE)
        # A connection is taken for the time of one batch, not while a slow client makes us wait for
        # the next.
        for batch in in_batches(chunks, WRITE_BATCH):
            self._write(key, seq, batch)
            seq += len(batch)

    def read_batch(self, key: str, chunk_range: ChunkRange) -> list[bytes]:
        chunks = self._read(key, chunk_range)
        if sum(map(len, chunks)) != chunk_range.size:
            raise BytesNotFound(key)
        return chunks

    def delete(self, key: str) -> None:
        self.discard(key)

    def is_empty(self) -> bool:
        """Tell whether there are no bytes under any key."""
        return next(self.keys(), None) is None

    @abstractmethod
    def discard(self, key: str) -> bool:
        """Delete the bytes under a key.

        :return: Whether there were any.
        """

    @abstractmethod
    def _write(self, key: str, seq: int, batch: list[memoryview]) -> None:
        """Keep chunks numbered from ``seq`` on. One that is there already is the same, since a key
        has one content."""

    @abstractmethod
    def _read(self, key: str, chunk_range: ChunkRange) -> list[bytes]:
        """Those chunks of a range that are there, the first and the last one cut to it."""


Read = Callable[[str, ChunkRange], list[bytes]]
"""Reads a batch, as :meth:`BatchedStorage.read_batch`."""


def read_from(
    places: Sequence[Read],
    key: str,
    chunk_range: ChunkRange,
) -> list[bytes]:
    """A batch from the first place that has all of it.

    Where none has, each chunk comes from the first place that has it. Other errors pass at once.

    :raises BytesNotFound: Some of it is in none of them.
    """
    for read in places:
        try:
            return read(key, chunk_range)
        except BytesNotFound:
            continue

    if chunk_range.first == chunk_range.last:
        raise BytesNotFound(key)
    chunks: list[bytes] = []
    for single_chunk in chunk_range.batches(1):
        chunks += read_from(places, key, single_chunk)
    return chunks


class BytesOf:
    """The bytes in several storages, for reading.

    A key may be in one of them, or half in one and half in another.
    """

    def __init__(self, *storages: ChunkedStorage) -> None:
        self._places = [storage.read_batch for storage in storages]

    def open(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of a range, as any storage gives them.

        :raises BytesNotFound: Some of it is in none of the storages.
        """
        for batch in ChunkRange(start, stop).batches(READ_BATCH):
            yield from read_from(self._places, key, batch)


def split(blocks: Iterable[bytes], size: int) -> Iterator[memoryview]:
    """The bytes of ``blocks`` in pieces of exactly ``size``, the last one shorter.

    They are copied only across block borders.
    """
    rest = b""
    for block in blocks:
        if rest:
            block = rest + block
        view = memoryview(block)
        whole_size = len(view) - len(view) % size
        for start in range(0, whole_size, size):
            yield view[start : start + size]
        rest = bytes(view[whole_size:])
    if rest:
        yield memoryview(rest)


def in_batches(
    chunks: Iterator[memoryview],
    count: int,
) -> Iterator[list[memoryview]]:
    """Lists of ``count`` chunks, the last one shorter."""
    batch: list[memoryview] = []
    for chunk in chunks:
        batch.append(chunk)
        if len(batch) == count:
            yield batch
            batch = []
    if batch:
        yield batch
