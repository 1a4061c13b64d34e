"""What every storage of bytes does."""

from __future__ import annotations

import os
import re
import typing as t
import uuid
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from secrets import token_hex

from ..errors import BytesNotFound, StorageError, StorageUnavailable
from ..models import new_id

CHUNK_SIZE = 256 * 1024
"""Bytes in one row or GridFS chunk; only the last one of a file is shorter."""

WRITE_BATCH = 16
"""Chunks written in one transaction: 4 MiB keeps transactions short at no cost in speed."""


READ_BATCH = 4
"""Chunks read by one query, and held in memory while they are sent."""


@dataclass(frozen=True)
class Stat:
    """What a storage knows of the bytes under a key."""

    size: int
    """In bytes."""
    complete: bool = True
    """Whether every chunk from the first to the last is there."""
    checksum: str | None = None
    """SHA-256 hex of the bytes, where the storage computed it itself when they came."""


class Storage(t.Protocol):
    """Keeps bytes under generated keys. Whom they belong to is no business of it.

    All methods raise :class:`~flask_dualmedia.errors.Unavailable` when the server behind it does not answer,
    and :class:`~flask_dualmedia.errors.StorageError` when it fails otherwise.
    """

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """Keep the bytes of ``blocks``, whatever their sizes, under a key that was made for them.

        Memory does not grow with the file. An error of ``blocks`` passes through; what was kept until then stays
        under the key, for the caller to delete, or to complete by putting the same bytes there again.
        """
        ...

    def open(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of the range ``[start, stop)``, in pieces, of which no more is read than asked for.

        The first piece is read at once, so that errors come before the caller has promised anything to anybody, and
        no database is held between two pieces: a slow reader costs no connection to it.

        :raises BytesNotFound: There is nothing under the key, or the range reaches beyond its end.
        """
        ...

    def delete(self, key: str) -> None:
        """Delete the bytes under a key. A missing key is a no-op."""
        ...

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        """What is known of the bytes under each of these keys, in one query; keys without bytes are left out."""
        ...

    def keys(self, after: str = "") -> Iterator[str]:
        """Every key that sorts behind ``after``, sorted; those of unfinished uploads too."""
        ...


PRESIGNED_SECONDS = 300
"""How long a URL that clients are redirected to can be used. A download that has begun goes on."""


@dataclass(frozen=True)
class Delegation:
    """An answer in which another server sends the bytes, and obeys ``Range`` too."""

    status: int
    headers: t.Mapping[str, str]


@t.runtime_checkable
class DelegatingStorage(Storage, t.Protocol):
    """A storage that may have another server send its bytes."""

    def delegate(self, key: str, content_type: str, disposition: str) -> Delegation | None:
        """How to have the bytes sent to whom we have found entitled to them; ``None`` to send them ourselves.

        :param content_type: The ``Content-Type`` that they must be sent with, and no other.
        :param disposition: The same for ``Content-Disposition``.
        """
        ...


@dataclass(frozen=True)
class Ticket:
    """A ``PUT`` request that a client may send to a storage once."""

    url: str
    headers: t.Mapping[str, str]
    """Headers that it must have, exactly these."""


@t.runtime_checkable
class DirectStorage(Storage, t.Protocol):
    """A storage that takes bytes from clients, without us in between."""

    max_direct_size: int
    """Largest file in bytes that it takes so."""

    def ticket(self, key: str, *, size: int, mime_type: str, checksum: str, seconds: float) -> Ticket:
        """The right to put these bytes, and no others, under a key that has none.

        :param size: How many bytes there must be.
        :param mime_type: The ``Content-Type`` that they must come with.
        :param checksum: SHA-256 hex that they must have.
        :param seconds: How long the request may be begun.
        """
        ...


def new_key(media_id: uuid.UUID) -> str:
    """A storage key for bytes of the record with this id. A record whose content is replaced gets another one.

    It says whose it is and when it was made, so that bytes without a record can be judged by their key.
    """
    return f"{media_id.hex}-{new_id().hex[:12]}{token_hex(2)}"


def owner_of_key(key: str) -> tuple[uuid.UUID, datetime] | None:
    """The id of the record that a key was made for, and when; ``None`` for a key that is not ours."""
    media_id, _, made = key.partition("-")
    try:
        return uuid.UUID(media_id), datetime.fromtimestamp(int(made[:12], 16) / 1000, UTC)
    except (ValueError, OverflowError):
        return None


def split(blocks: Iterable[bytes], size: int) -> Iterator[memoryview]:
    """The bytes of ``blocks`` in pieces of exactly ``size``, the last one shorter, copied only across block borders."""
    rest = b""
    for block in blocks:
        view = memoryview(rest + block if rest else block)
        whole = len(view) - len(view) % size
        for start in range(0, whole, size):
            yield view[start : start + size]
        rest = bytes(view[whole:])
    if rest:
        yield memoryview(rest)


@dataclass(frozen=True)
class ChunkRange:
    """Which chunks, and which parts of the first and the last, make up the bytes ``[start, stop)``."""

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
        for seq in range(self.first, self.last + 1, count):
            yield ChunkRange(max(self.start, seq * CHUNK_SIZE), min(self.stop, (seq + count) * CHUNK_SIZE))

    @property
    def size(self) -> int:
        return self.stop - self.start


class ChunkedStorage:
    """A :class:`Storage` that keeps numbered chunks of :data:`CHUNK_SIZE`, and reads and writes them in batches."""

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        seq = 0
        # A connection is taken for the time of one batch, not while a slow client makes us wait for the next.
        for batch in in_batches(split(blocks, CHUNK_SIZE), WRITE_BATCH):
            self._write(key, seq, batch)
            seq += len(batch)

    def open(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        batches = ChunkRange(start, stop).batches(READ_BATCH)
        first = next(batches, None)
        return iter(()) if first is None else self._follow(key, self._read_checked(key, first), batches)

    def _follow(self, key: str, pieces: list[bytes], batches: Iterator[ChunkRange]) -> Iterator[bytes]:
        yield from pieces
        for batch in batches:
            yield from self._read_checked(key, batch)

    def stat(self, key: str) -> Stat | None:
        """What is known of the bytes under a key, ``None`` if there are none."""
        return self.stats([key]).get(key)

    def _read_checked(self, key: str, wanted: ChunkRange) -> list[bytes]:
        pieces = self._read(key, wanted)
        if sum(map(len, pieces)) != wanted.size:
            raise BytesNotFound(key)
        return pieces

    def delete(self, key: str) -> None:
        raise NotImplementedError

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        raise NotImplementedError

    def keys(self, after: str = "") -> Iterator[str]:
        raise NotImplementedError

    def _write(self, key: str, seq: int, batch: list[memoryview]) -> None:
        """Keep chunks numbered from ``seq`` on. One that is there already is the same, since a key has one content."""
        raise NotImplementedError

    def _read(self, key: str, wanted: ChunkRange) -> list[bytes]:
        """The chunks of a range, the first and the last one cut to it."""
        raise NotImplementedError


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


PIECE_SIZE = READ_BATCH * CHUNK_SIZE
"""Bytes read at once from a storage of whole files, and held in memory while they are sent."""

PART_SIZE = 8 * 1024 * 1024
"""Bytes sent by one request to a storage outside, and held in memory for that."""

_KEY = re.compile(r"[0-9A-Za-z_-]{1,255}")


def folder_of(key: str) -> str:
    """The folder that a storage of files keeps a key in, so that none gets too full. Our keys begin with the time:
    one folder holds those of four and a half hours.

    Folders sort as their keys do: ``-`` comes before every other character of a key.

    :raises StorageError: It is no key, and may lead anywhere.
    """
    if not _KEY.fullmatch(key):
        raise StorageError(f"{key!r} is no storage key")
    return key[:6].ljust(6, "-")


class WholeStorage:
    """A :class:`Storage` that keeps whole files, which appear when they are complete, and reads them in ranges."""

    def open(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        if start >= stop:
            return iter(())
        edges = [*range(start, stop, PIECE_SIZE), stop]
        return self._follow(key, self._read_checked(key, start, edges[1]), edges[1:])

    def _follow(self, key: str, first: bytes, edges: list[int]) -> Iterator[bytes]:
        yield first
        for start, stop in pairwise(edges):
            yield self._read_checked(key, start, stop)

    def stat(self, key: str) -> Stat | None:
        """What is known of the bytes under a key, ``None`` if there are none."""
        return self.stats([key]).get(key)

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        raise NotImplementedError

    def delete(self, key: str) -> None:
        raise NotImplementedError

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        raise NotImplementedError

    def keys(self, after: str = "") -> Iterator[str]:
        raise NotImplementedError

    def _read_checked(self, key: str, start: int, stop: int) -> bytes:
        piece = self._read(key, start, stop)
        if len(piece) != stop - start:
            raise BytesNotFound(key)
        return piece

    def _read(self, key: str, start: int, stop: int) -> bytes:
        """The bytes of a range, fewer where the file ends before."""
        raise NotImplementedError


class StreamedStorage(WholeStorage):
    """One that takes a request for each range, and a while to answer it: the pieces of a range are one answer."""

    def open(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        if start >= stop:
            return iter(())
        pieces = self._resumed(key, start, stop)
        return self._after(next(pieces), pieces)

    def _after(self, first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
        yield first
        yield from pieces

    def _resumed(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """All of it: servers hang up on who takes his time, as a player that has been paused does."""
        while start < stop:
            begun = start
            try:
                with closing(self._stream(key, start, stop)) as pieces:
                    for piece in pieces:
                        start += len(piece)
                        yield piece
            except StorageUnavailable:
                if start == begun:
                    raise
            else:
                if start < stop:
                    raise BytesNotFound(key)

    def _stream(self, key: str, start: int, stop: int) -> Generator[bytes]:
        """The answer to one request, in pieces of :data:`PIECE_SIZE` at most."""
        raise NotImplementedError


class BlockReader:
    """Blocks as a stream that drivers can read, once and forward."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks, self._rest, self._place = iter(blocks), b"", 0

    def read(self, size: int = -1) -> bytes:
        parts, missing = [self._rest], size - len(self._rest)
        while size < 0 or missing > 0:
            block = next(self._blocks, None)
            if block is None:
                break
            parts.append(block)
            missing -= len(block)
        whole = b"".join(parts)
        taken, self._rest = (whole, b"") if size < 0 else (whole[:size], whole[size:])
        self._place += len(taken)
        return taken

    def tell(self) -> int:
        return self._place

    def seekable(self) -> bool:
        return False


R = t.TypeVar("R")


class PerProcess(t.Generic[R]):
    """A client made when it is first needed, and made anew in a forked process: connections are not to be shared."""

    def __init__(self, make: t.Callable[[], R]) -> None:
        self._make = make
        self._made: tuple[int, R] | None = None

    def get(self) -> R:
        # Without a lock, which could be held for ever in a forked process: at worst two are made, and one is used.
        made = self._made
        if made is None or made[0] != os.getpid():
            self._made = made = (os.getpid(), self._make())
        return made[1]
