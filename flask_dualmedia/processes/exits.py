"""The end of a process: reads that are counted in its memory are written down before.

normal end         ``atexit``; servers that stop gracefully, and Ctrl+C, end so
multiprocessing    its children end without ``atexit``, and have finalizers instead
SIGTERM            handled by most servers, which then end normally. Where nobody handles it, as
                   under waitress and ``flask run``, the process would be gone at once: reads are
                   written down first, and then it is
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
import typing as t
from contextlib import suppress
from multiprocessing import util
from pathlib import Path
from weakref import WeakSet

TIMEOUT = 5.0
"""Seconds that a process that was told to end takes at most to write down what it counted."""

_PRIORITY = 10  # before what the host's finalizers without a priority do


class Counting(t.Protocol):
    """Something that counts in memory."""

    def write_down(self) -> None:
        """Write down what was counted, or log that it could not be."""
        ...


_counting: WeakSet[Counting] = WeakSet()


def watch(counting: Counting) -> None:
    """Have ``counting`` write down its counts at the end of the process, as long as it lives."""
    _counting.add(counting)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and not _is_caught(signal.SIGTERM):
        _set_handler(_write_down_and_die)


def forget(counting: Counting) -> None:
    """Leave it alone at the end of the process: it has written down everything."""
    _counting.discard(counting)
    if not _counting:
        _stand_back()


def expect_counts() -> None:
    """Note that this process has something to write down from now on.

    Whatever the host has registered until now runs after it, and may close what it needs.
    """
    atexit.unregister(_write_down)
    atexit.register(_write_down)
    if multiprocessing.parent_process() is not None:
        util.Finalize(None, _write_down, exitpriority=_PRIORITY)


def _write_down() -> None:
    for counting in list(_counting):
        counting.write_down()


def _write_down_and_die(number: int, _frame: object) -> None:
    """Handle SIGTERM: have everything written down, and then do what the signal does."""
    try:
        # The code that the signal has interrupted may hold a lock that is needed for it: so not in
        # this thread, and not for ever.
        writing = threading.Thread(target=_write_down, name="dualmedia-exit", daemon=True)
        writing.start()
        writing.join(TIMEOUT)
    finally:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # It goes on as the first process of a container, which the signal ends only where it is
        # handled.
        signal.signal(number, _write_down_and_die)


def _stand_back() -> None:
    """Leave SIGTERM to the system, as it was."""
    if signal.getsignal(signal.SIGTERM) is _write_down_and_die:
        _set_handler(signal.SIG_DFL)


def _set_handler(handler: t.Any) -> None:
    if threading.current_thread() is threading.main_thread():
        with suppress(ValueError):  # another interpreter in the process is the main one
            signal.signal(signal.SIGTERM, handler)


def _is_caught(number: int) -> bool:
    """Whether a server that is not written in Python handles a signal.

    Python does not know of it.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False

    for line in status.splitlines():
        if line.startswith("SigCgt:"):
            caught = int(line.split()[1], 16)
            return bool(caught >> (number - 1) & 1)
    return False


if hasattr(os, "register_at_fork"):
    # A child may be busy where Python handles no signals, and its parent relies on ending it.
    os.register_at_fork(after_in_child=_stand_back)
