"""How many pixels a process decodes at a time.

What a decoder needs depends on the pixels of an image and on its format, ten times as much for one
as for another. To count images would count wrong.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import Unavailable
from ..processes.forks import begin_in_children, notice_fork

RENDER_PIXELS = 128_000_000
"""Weighted pixels in one process at a time. A pixel of weight 1 costs up to 4 bytes."""

PATIENCE = 10.0
"""Seconds to wait for the images of others."""

WEIGHTS = {"JPEG": 1, "MPO": 1, "PNG": 3}
"""By Pillow's names of formats. JPEG is scaled down while it is decoded."""

WEIGHT_OF_OTHERS = 4


class RendererBusy(Unavailable):
    """Other images were being decoded for as long as one may wait."""

    def __init__(self) -> None:
        super().__init__("other images are being rendered", retry_after=1)


def weighted(format_name: str | None, pixels: int) -> int:
    """The pixels of an image, as its format has them count."""
    return pixels * WEIGHTS.get(format_name or "", WEIGHT_OF_OTHERS)


class PixelBudget:
    """Lets threads decode as long as their images together have no more than so many pixels.

    First come, first served: a large image is not overtaken by small ones for ever. One that is
    larger than the whole budget is decoded while no other is.

    :param pixels: Weighted pixels, see :func:`weighted`.
    """

    def __init__(self, pixels: int = RENDER_PIXELS) -> None:
        self._pixels = pixels
        self.begin_process()
        begin_in_children(self)

    def begin_process(self) -> None:
        """Forget the threads of a forked process's parent."""
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[object] = deque()
        self._running: dict[object, int] = {}

    @contextmanager
    def taken(self, pixels: int, *, timeout: float = PATIENCE) -> Iterator[None]:
        """Have a part of the budget for this block.

        :param pixels: Weighted pixels.
        :param timeout: Seconds to wait for it.
        :raises RendererBusy: Others had it for all that time.
        """
        notice_fork()
        turn = object()
        self._wait(turn, pixels, timeout)
        try:
            yield
        finally:
            self._leave(turn)

    def _wait(self, turn: object, pixels: int, timeout: float) -> None:
        with self._changed:
            self._waiting.append(turn)
            try:
                if not self._changed.wait_for(lambda: self._is_next(turn, pixels), timeout):
                    raise RendererBusy
                self._running[turn] = pixels
            finally:
                self._waiting.remove(turn)
                self._changed.notify_all()

    def _leave(self, turn: object) -> None:
        with self._changed:
            # It is not there if this is a child that was forked within the block.
            self._running.pop(turn, None)
            self._changed.notify_all()

    def _is_next(self, turn: object, pixels: int) -> bool:
        if self._waiting[0] is not turn:
            return False
        return not self._running or sum(self._running.values()) + pixels <= self._pixels
