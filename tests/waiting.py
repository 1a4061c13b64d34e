"""Wait for something that can be asked for, instead of for a time."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Callable


def eventually(
    condition: Callable[[], t.Any],
    seconds: float = 30,
    *,
    pause: float = 0.05,
    explain: Callable[[], object] | None = None,
) -> t.Any:
    """The result of ``condition`` as soon as that is true.

    :param pause: Seconds between two questions.
    :param explain: Called if the condition does not come true in time: tells what is instead.
    """
    end = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() >= end:
            what = "" if explain is None else f": {explain()}"
            raise AssertionError(f"it did not come true in time{what}")
        time.sleep(pause)
    return result
