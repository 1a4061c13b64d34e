"""Width and height of images, read while their bytes pass: nothing is decoded, so no bomb goes
off."""

from __future__ import annotations

import struct

from .pictures import Dimensions, Passed, Picture, Walk, walk_of

MAX_STEPS = 250_000
"""How often a reader may ask for bytes: a file of nothing but small parts is not followed for
ever."""


class Gauge:
    """The size of an image whose bytes are read once, from the first to the last.

    :param head: Its first bytes, which are kept: what stands there may be asked for at any time,
        what is behind it as long as it has not passed.
    """

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._place, self._passing = 0, head
        self._picture = Picture()
        self._steps = 0
        walk = walk_of(head)
        self._walk: Walk | None = None if walk is None else walk(self._picture)
        self._wanted = (0, 0)
        self.is_broken = False
        """Whether it ended, or is no image, where a size should be."""
        self._advance(is_end=False)

    @property
    def dimensions(self) -> Dimensions | None:
        """The size, as far as it has been found: of pictures of several sizes the largest."""
        return None if self.is_broken else self._picture.dimensions

    @property
    def largest(self) -> Dimensions | None:
        """The largest size that was found, whatever is to be thought of the rest."""
        return self._picture.dimensions

    @property
    def is_certain(self) -> bool:
        """Whether what follows cannot say anything else."""
        return self._walk is None or self._picture.is_certain

    @property
    def is_unmeasured(self) -> bool:
        """Whether it has turned out that the size cannot be read."""
        if self._walk is not None:
            return False
        return self.is_broken or (self._picture.dimensions is None and not self._picture.is_certain)

    def feed(self, block: bytes) -> None:
        """Take the next bytes."""
        if self._walk is None:
            return
        start = self._wanted[0]
        begin = self._place + len(self._passing)
        # Of what has passed, what the reader waits for the rest of is kept.
        kept = self._passing[max(0, start - self._place) :] if start < begin else b""
        self._place, self._passing = begin - len(kept), kept + block
        self._advance(is_end=False)

    def close(self) -> None:
        """Note that there are no more bytes."""
        self._advance(is_end=True)

    def _advance(self, *, is_end: bool) -> None:
        while self._walk is not None:
            data = self._find(*self._wanted, is_end=is_end)
            if data is None:
                return
            self._steps += 1
            try:
                if self._steps > MAX_STEPS:
                    raise Passed
                self._wanted = next(self._walk) if self._steps == 1 else self._walk.send(data)
            except StopIteration:
                self._walk = None
            except (struct.error, IndexError, ValueError, RecursionError, Passed):
                self._walk = None
                self.is_broken = not self._picture.is_certain

    def _find(self, start: int, stop: int, *, is_end: bool) -> bytes | None:
        """Bytes that are asked for, fewer at the end; ``None`` if they have not come.

        :raises Passed: They have gone.
        """
        if stop <= len(self._head):
            return self._head[start:stop]
        end = self._place + len(self._passing)
        if stop > end and not is_end:
            return None
        if start < self._place:
            return self._head[start:stop] + self._missing(start, stop)
        return self._passing[start - self._place : stop - self._place]

    def _missing(self, start: int, stop: int) -> bytes:
        """What is behind the head of bytes that begin in it."""
        if self._place > len(self._head) or start > len(self._head):
            raise Passed
        return self._passing[len(self._head) - self._place : stop - self._place]


def read_dimensions(content: bytes) -> Dimensions | None:
    """Width and height of a whole image, as it is shown; ``None`` where it does not say.

    Where an image holds pictures of several sizes, they are those of the largest. Where it says
    that it lies on its side (EXIF orientation 5 to 8, and ``irot`` of AVIF and HEIC), they are
    swapped.
    """
    gauge = Gauge(content)
    gauge.close()
    return gauge.dimensions
