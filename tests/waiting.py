"""Wait for something that can be asked for, or that the product does, instead of for a time."""

from __future__ import annotations

import threading
import time
import typing as t
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask_dualmedia import failpoints


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


@contextmanager
def passes(step: str) -> Iterator[list[threading.Thread]]:
    """The threads that pass a step of the product within the block: one for each time."""
    passed: list[threading.Thread] = []
    with failpoints.on(step, lambda: passed.append(threading.current_thread()), always=True):
        yield passed
