"""An original as a file, of which only those ranges are read that a decoder looks at."""

from __future__ import annotations

import io
import os
import typing as t
from collections import OrderedDict
from collections.abc import Callable

from .failures import ProcessingError

BLOCK_SIZE = 256 * 1024
"""Bytes that are read at least."""

_READ_AHEAD = 4
"""Blocks that are read at once from a file that is read from front to back."""

_KEPT = 16
"""Blocks that are kept. Decoders go to and fro between sound and pictures."""


class Source(t.Protocol):
    """Bytes of known size, any range of which can be read."""

    @property
    def size(self) -> int: ...

    def read(self, start: int, stop: int) -> bytes:
        """All bytes of the range ``[start, stop)``, which lies within the size."""
        ...


class RangeFile(io.RawIOBase):
    """A seekable file over ranges of bytes.

    It has no name: FFmpeg would take the format, and the neighbours of the file, from that.

    :param read: Returns all bytes of a range ``[start, stop)`` within the size.
    """

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self.size = size
        self.bytes_read = 0
        self._read_range = read
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next_block = -1
        self._read_ahead = 1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origins = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}
        position = origins[whence] + offset
        if position < 0:
            raise ValueError("a position before the beginning")
        self._position = position
        return position

    def readinto(self, buffer: t.Any) -> int:
        if self._position >= self.size:
            return 0

        number, offset = divmod(self._position, BLOCK_SIZE)
        available = memoryview(self._block(number))[offset:]
        count = min(len(buffer), len(available))
        buffer[:count] = available[:count]
        self._position += count
        return count

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._fetch(number)
        self._blocks.move_to_end(number)
        return self._blocks[number]

    def _fetch(self, number: int) -> None:
        """Read a block, and more behind it the longer the file is read from front to back."""
        if number == self._next_block:
            self._read_ahead = min(2 * self._read_ahead, _READ_AHEAD)
        else:
            self._read_ahead = 1
        self._next_block = number + self._read_ahead

        start = number * BLOCK_SIZE
        stop = min(start + self._read_ahead * BLOCK_SIZE, self.size)
        content = self._read_range(start, stop)
        if len(content) != stop - start:
            raise ProcessingError("a source that ends before its size")
        self.bytes_read += len(content)

        for offset in range(0, len(content), BLOCK_SIZE):
            self._blocks[number + offset // BLOCK_SIZE] = content[offset : offset + BLOCK_SIZE]
        while len(self._blocks) > _KEPT:
            self._blocks.popitem(last=False)
