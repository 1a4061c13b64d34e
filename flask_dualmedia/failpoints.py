"""Step boundaries at which tests kill the process, or do something in between.

Outside of tests they cost a comparison.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_armed = ""
_passes_left = 1
_callbacks: dict[str, Callable[[], object]] = {}
_lasting: set[str] = set()
"""Steps whose function is called each time."""


def arm(point: str) -> None:
    """Name the step at which this process is to die.

    With ``copy:piece*3`` it dies when it passes the step for the third time.
    """
    global _armed, _passes_left
    _armed, _, times = point.partition("*")
    _passes_left = int(times or 1)


@contextmanager
def on(step: str, callback: Callable[[], object], *, always: bool = False) -> Iterator[None]:
    """Call a function the first time that this process passes a step within the block.

    :param always: Call it each time.
    """
    if always:
        _lasting.add(step)
    _callbacks[step] = callback
    try:
        yield
    finally:
        _callbacks.pop(step, None)
        _lasting.discard(step)


def reach(step: str) -> None:
    """Pass a step boundary; at the one that is armed the process dies here as by ``kill -9``."""
    global _passes_left
    if step == _armed:
        _passes_left -= 1
        if not _passes_left:
            os.kill(os.getpid(), signal.SIGKILL)
    if _callbacks:
        _call(step)


def _call(step: str) -> None:
    callback = _callbacks.get(step) if step in _lasting else _callbacks.pop(step, None)
    if callback is not None:
        callback()


arm(os.environ.get("DUALMEDIA_FAILPOINT", ""))
