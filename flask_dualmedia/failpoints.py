"""Step boundaries at which tests kill the process. Outside of tests they cost a comparison."""

from __future__ import annotations

import os
import signal

_VARIABLE = "DUALMEDIA_FAILPOINT"

# ``copy:piece*3`` dies when the step is passed for the third time.
_armed, _, _times = os.environ.get(_VARIABLE, "").partition("*")
_left = int(_times or 1)


def reach(step: str) -> None:
    """Pass a step boundary; where the environment names it, the process dies here as by ``kill -9``."""
    global _left
    if step == _armed:
        _left -= 1
        if not _left:
            os.kill(os.getpid(), signal.SIGKILL)
