"""How media comes to its end on an app: nothing is left of it, and nobody is interrupted.

refuse    new requests, and other contexts that have not used media yet
wait      those that have begun get their answers
stop      threads
write     counted reads
close     everything that we opened; what the host opened stays open. Where somebody is not ready in
          time, this is done after them
"""

from __future__ import annotations

import atexit
import logging
import time
import typing as t
from weakref import WeakSet, finalize

from ..databases import deadlines
from .forks import notice_fork
from .threads import STOP_TIMEOUT
from .uses import end_of_context

if t.TYPE_CHECKING:
    from flask import Flask

    from ..state import State

logger = logging.getLogger("flask_dualmedia")

TIMEOUT = 10.0
"""Seconds to wait for requests that have begun."""

_apps: WeakSet[Flask] = WeakSet()


def follow(app: Flask, state: State) -> None:
    """See that what was opened for ``app`` is closed when nobody needs it any more.

    That is when nobody needs the app, or the process ends.
    """
    app.teardown_appcontext(end_of_context)
    state.opened.callback(deadlines.rest)
    # Before all others: what the parent has opened is not closed for it.
    state.opened.callback(notice_fork)
    # Not at the end of the process: counted reads come first there.
    finalize(app, state.opened.close).atexit = False
    _apps.add(app)


def close(state: State, timeout: float, *, patience: float = STOP_TIMEOUT) -> None:
    """Close media on an app, once.

    :param timeout: Seconds to wait for requests that have begun.
    :param patience: Seconds to wait for threads, all together.
    """
    notice_fork()
    uses = state.uses
    uses.is_closing = True
    with uses.closing:
        if uses.is_closed:
            return
        uses.wait(timeout)
        uses.is_closed = True

        _stop_threads(state, patience)
        _write_counts(state)

        uses.finish(lambda: _finish(state))
        deadlines.rest()
        deadlines.wait_for_rest()


def _stop_threads(state: State, seconds: float) -> None:
    """Tell all threads to stop, and then wait for each, so long all together."""
    parts = (state.upkeep, state.circuit, state.counter, state.mongo.circuit, state.clock)
    end = time.monotonic() + seconds
    for part in parts:
        if part is not None:
            part.stop(0)
    for part in parts:
        if part is not None:
            part.stop(max(0.0, end - time.monotonic()))


def _write_counts(state: State) -> None:
    if state.counter is not None:
        state.counter.close()


def _finish(state: State) -> None:
    _write_counts(state)  # what the last answers have begun to send
    state.opened.close()


@atexit.register
def _close_all() -> None:
    """Close media of all apps: at the end of a process everybody has had time enough."""
    for app in list(_apps):
        try:
            close(app.extensions["dualmedia"], 0, patience=1)
        except Exception:  # the others are closed all the same
            logger.exception("media of %s could not be closed", app.name)
