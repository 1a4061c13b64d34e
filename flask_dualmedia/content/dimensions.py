"""Width and height of images, read while their bytes pass.

Nothing is decoded, so no bomb goes off.
"""

from __future__ import annotations

import struct

from .pictures import Dimensions, Passed, Picture, Walk, walk_of

MAX_STEPS = 250_000
"""How often a reader may ask for bytes.

A file of nothing but small parts is not followed for ever.
"""


class Gauge:
    """The size of an image whose bytes are read once, from the first to the last.

    :param head: Its first bytes, which are kept: what stands there may be asked for at any time,
        what is behind it as long as it has not passed.
    """

    def __init__(self, head: bytes) -> None:
        self._head = head
        self._place = 0
        self._passing = head
        self._picture = Picture()
        self._steps = 0
        self._requested = (0, 0)
        self._walk: Walk | None = None
        self.is_broken = False
        """Whether it ended, or is no image, where a size should be."""

        walk = walk_of(head)
        if walk is not None:
            self._walk = walk(self._picture)
        self._advance(is_end=False)

    @property
    def dimensions(self) -> Dimensions | None:
        """The size, as far as it is known: of pictures of several sizes the largest."""
        if self.is_broken:
            return None
        return self._picture.dimensions

    @property
    def largest(self) -> Dimensions | None:
        """The largest size that the image states, whatever is to be thought of the rest."""
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
        picture = self._picture
        return self.is_broken or (picture.dimensions is None and not picture.is_certain)

    def feed(self, block: bytes) -> None:
        """Take the next bytes."""
        if self._walk is None:
            return
        start = self._requested[0]
        # The reader waits for the rest of what it has asked for: what has come of that is kept.
        kept = self._passing[max(0, start - self._place) :]
        self._place += len(self._passing) - len(kept)
        self._passing = kept + block
        self._advance(is_end=False)

    def close(self) -> None:
        """Note that there are no more bytes."""
        self._advance(is_end=True)

    def _advance(self, *, is_end: bool) -> None:
        """Give the reader what it asks for, until that has not come yet.

        :param is_end: No more bytes come: the reader gets fewer than it asks for.
        """
        while self._walk is not None:
            data = self._find(*self._requested, is_end=is_end)
            if data is None:
                return
            self._steps += 1
            try:
                if self._steps > MAX_STEPS:
                    raise Passed
                if self._steps == 1:
                    self._requested = next(self._walk)
                else:
                    self._requested = self._walk.send(data)
            except StopIteration:
                self._walk = None
            except (struct.error, IndexError, ValueError, RecursionError, Passed):
                self._walk = None
                self.is_broken = not self._picture.is_certain

    def _find(self, start: int, stop: int, *, is_end: bool) -> bytes | None:
        """Return the bytes that are asked for, fewer at the end; ``None`` if they have not come.

        :raises Passed: They have gone.
        """
        if stop <= len(self._head):
            return self._head[start:stop]
        end = self._place + len(self._passing)
        if stop > end and not is_end:
            return None
        if start < self._place:
            return self._head[start:stop] + self._behind_head(start, stop)
        return self._passing[start - self._place : stop - self._place]

    def _behind_head(self, start: int, stop: int) -> bytes:
        """Return the part behind the head of bytes that begin in it."""
        head_size = len(self._head)
        if self._place > head_size or start > head_size:
            raise Passed
        return self._passing[head_size - self._place : stop - self._place]


def read_dimensions(content: bytes) -> Dimensions | None:
    """Read width and height of a whole image, as it is shown; ``None`` where it does not say.

    Where an image holds pictures of several sizes, they are those of the largest. Where it says
    that it lies on its side (EXIF orientation 5 to 8, and ``irot`` of AVIF and HEIC), they are
    swapped.
    """
    gauge = Gauge(content)
    gauge.close()
    return gauge.dimensions
