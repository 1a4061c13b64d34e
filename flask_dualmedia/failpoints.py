"""Step boundaries at which tests kill the process. Outside of tests they cost a comparison."""

from __future__ import annotations

import os
import signal

_armed = ""
_passes_left = 1


def arm(point: str) -> None:
    """Name the step at which this process is to die.

    With ``copy:piece*3`` it dies when it passes the step for the third time.
    """
    global _armed, _passes_left
    _armed, _, times = point.partition("*")
    _passes_left = int(times or 1)


def reach(step: str) -> None:
    """Pass a step boundary; at the one that is armed the process dies here as by ``kill -9``."""
    global _passes_left
    if step == _armed:
        _passes_left -= 1
        if not _passes_left:
            os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get("DUALMEDIA_FAILPOINT", ""))
