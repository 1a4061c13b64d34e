"""Bytes as whole files, in storages outside of the databases."""

from __future__ import annotations

import os
import re
import typing as t
from abc import abstractmethod
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from itertools import pairwise

from ..errors import BytesNotFound, StorageError, StorageUnavailable
from .base import AbstractStorage

PIECE_SIZE = 1024 * 1024
"""Bytes read at once from a storage of whole files, and held in memory while they are sent."""

PART_SIZE = 8 * 1024 * 1024
"""Bytes sent by one request to a storage outside, and held in memory for that."""

_KEY = re.compile(r"[0-9A-Za-z_-]{1,255}")


def folder_of(key: str) -> str:
    """The folder that a storage of files keeps a key in, so that none gets too full.

    Our keys begin with the time: one folder holds those of four and a half hours. Folders sort as
    their keys do: ``-`` comes before every other character of a key.

    :raises StorageError: It is no key, and may lead anywhere.
    """
    if not _KEY.fullmatch(key):
        raise StorageError(f"{key!r} is no storage key")
    return key[:6].ljust(6, "-")


class WholeStorage(AbstractStorage):
    """A storage that keeps whole files, which appear when they are complete, and reads them piece
    by piece."""

    def _pieces(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        borders = [*range(start, stop, PIECE_SIZE), stop]
        for begin, end in pairwise(borders):
            piece = self._read(key, begin, end)
            if len(piece) != end - begin:
                raise BytesNotFound(key)
            yield piece

    @abstractmethod
    def _read(self, key: str, start: int, stop: int) -> bytes:
        """The bytes of a range, fewer where the file ends before."""


class StreamedStorage(AbstractStorage):
    """A storage that takes a request for each range, and a while to answer it.

    The pieces of a range are one answer.
    """

    def _pieces(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        # Servers hang up on a client that takes its time, as a player that has been paused does:
        # they are asked for the rest.
        while start < stop:
            start_of_answer = start
            try:
                with closing(self._stream(key, start, stop)) as pieces:
                    for piece in pieces:
                        start += len(piece)
                        yield piece
            except StorageUnavailable:
                if start == start_of_answer:
                    raise
            else:
                if start < stop:
                    raise BytesNotFound(key)

    @abstractmethod
    def _stream(self, key: str, start: int, stop: int) -> Generator[bytes]:
        """The answer to one request, in pieces of :data:`PIECE_SIZE` at most."""


class BlockReader:
    """Blocks as a stream that drivers can read, once and forward."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._rest = b""
        self._place = 0

    def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes, fewer at the end; all that are left for a negative size."""
        parts = [self._rest]
        missing = size - len(self._rest)
        while size < 0 or missing > 0:
            block = next(self._blocks, None)
            if block is None:
                break
            parts.append(block)
            missing -= len(block)

        data = b"".join(parts)
        self._rest = b""
        if size >= 0:
            self._rest = data[size:]
            data = data[:size]
        self._place += len(data)
        return data

    def tell(self) -> int:
        return self._place

    def seekable(self) -> bool:
        return False


R = t.TypeVar("R")


class PerProcess(t.Generic[R]):
    """A client made when it is first needed, and made anew in a forked process: connections are not
    to be shared."""

    def __init__(self, make: t.Callable[[], R]) -> None:
        self._make = make
        self._made: tuple[int, R] | None = None
        """The id of a process, and the client that was made in it."""
        self._inherited: list[R] = []
        """Clients of parents of this process. They are never ended here: some end what the parent
        shares with us."""

    def close(self, end: t.Callable[[R], object]) -> None:
        """End the client of this process, if one was made."""
        made = self._made
        self._made = None
        if made is None:
            return
        process_id, client = made
        if process_id == os.getpid():
            end(client)
        else:
            self._inherited.append(client)

    def get(self) -> R:
        """The client of this process."""
        # Without a lock, which could be held for ever in a forked process: at worst two are made,
        # and one is used.
        made = self._made
        if made is None or made[0] != os.getpid():
            if made is not None:
                self._inherited.append(made[1])
            made = (os.getpid(), self._make())
            self._made = made
        return made[1]
