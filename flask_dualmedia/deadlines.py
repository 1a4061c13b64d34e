"""An end to waiting for a server that took a statement and never answers.

libpq waits for ever: a time-out of its own exists for connecting alone, and one that the server keeps is no help when
the server is what hangs. So a thread closes the socket of a statement that takes too long, and the statement fails as
it does when the server dies.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager, suppress

if t.TYPE_CHECKING:
    import psycopg

_TICK = 0.2  # seconds: how much later than its deadline a statement may end

_waiting: dict[int, tuple[float, psycopg.Connection[t.Any]]] = {}
_started_in: int | None = None
_starting = threading.Lock()


@contextmanager
def deadline(connection: psycopg.Connection[t.Any], seconds: float) -> Iterator[None]:
    """Give what is done on ``connection`` in this block so many seconds."""
    if _started_in != os.getpid():
        _start()
    key = id(connection)
    _waiting[key] = (time.monotonic() + seconds, connection)
    try:
        yield
    finally:
        _waiting.pop(key, None)


def renew(connection: psycopg.Connection[t.Any], seconds: float) -> None:
    """Begin the time of the :func:`deadline` anew that the caller is in."""
    _waiting[id(connection)] = (time.monotonic() + seconds, connection)


def _start() -> None:
    global _started_in
    with _starting:
        if _started_in != os.getpid():
            _waiting.clear()  # in a forked process of which Python was not told
            _started_in = os.getpid()
            threading.Thread(target=_watch, name="dualmedia-deadlines", daemon=True).start()


def _watch() -> None:
    while True:
        time.sleep(_TICK)
        now = time.monotonic()
        for key, (end, connection) in list(_waiting.items()):
            # Taken out by whoever comes first: the statement that ended, or we.
            if end < now and _waiting.pop(key, None) is not None:
                _cut(connection)


def _cut(connection: psycopg.Connection[t.Any]) -> None:
    # A duplicate of the descriptor: that of libpq stays libpq's to close.
    with suppress(Exception), socket.socket(fileno=os.dup(connection.pgconn.socket)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


def _begin_process() -> None:
    """Forget what the parent of a forked process waits for: its thread cuts that."""
    global _starting
    _starting = threading.Lock()  # that of the parent may be held by a thread that is not here
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_process)
