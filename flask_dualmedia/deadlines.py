"""An end to waiting for a server that took a statement and does not answer in time.

libpq waits for ever: a time-out of its own exists for connecting alone, and one that the server keeps is no help when
the server is what hangs. So a thread looks at the statements that are being waited for. One that takes too long is
cancelled first, over another connection: it then fails alone, and nothing of it is left running in the server. Where
that does not end it, its socket is closed, and the statement fails as it does when the server dies.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .errors import DatabaseUnavailable, StatementCancelled

if t.TYPE_CHECKING:
    import psycopg

_TICK = 0.2  # seconds: how much later than its deadline a statement may end

_CANCEL = 0.5
"""Seconds that the server may take to accept that a statement is cancelled."""

_END = 0.5
"""Seconds that a statement may take to end after it was cancelled."""

_QUERY_CANCELED = "57014"


class Watch:
    """One wait for the server, and how it ended."""

    __slots__ = ("abandoning", "answers", "connection", "end", "ended", "warned")

    def __init__(self, connection: psycopg.Connection[t.Any], end: float) -> None:
        self.connection, self.end = connection, end
        self.ended = False
        self.abandoning: threading.Thread | None = None
        self.answers = True
        """Whether the server accepted that the statement was cancelled."""
        self.warned = False
        """Whether the server completed the statement with a warning after it was cancelled: PostgreSQL does so with a
        change that is committed, but that no standby has confirmed."""

    @property
    def expired(self) -> bool:
        """Whether it took too long. Its connection is not to be used any more."""
        return self.abandoning is not None

    def finish(self) -> None:
        """Wait for the thread that abandons the statement, if there is one: a cancellation that comes late must not
        hit what is done next on the connection."""
        self.ended = True
        if _waiting.pop(id(self.connection), None) is self:
            return
        while self.abandoning is None:
            time.sleep(0.001)  # it has just been taken out, to be abandoned
        self.abandoning.join()

    def abandon(self) -> None:
        """Cancel the statement, or cut the connection."""
        self.connection.add_notice_handler(self._note)
        try:
            self.connection.cancel_safe(timeout=_CANCEL)
        except Exception:  # of whatever kind: the server did not take it
            self.answers = False
        end = time.monotonic() + _END
        while self.answers and not self.ended and time.monotonic() < end:
            time.sleep(0.01)
        if not self.ended:
            _cut(self.connection)

    def _note(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        self.warned = self.warned or diagnostic.severity_nonlocalized == "WARNING"

    def explain(self, error: Exception) -> Exception | None:
        """What an error means that came after the statement was abandoned."""
        if getattr(error, "sqlstate", None) == _QUERY_CANCELED:
            return StatementCancelled()
        if isinstance(error, self.connection.OperationalError | self.connection.InterfaceError):
            return DatabaseUnavailable("PostgreSQL", is_hanging=not self.answers)
        return None


_waiting: dict[int, Watch] = {}
_started_in: int | None = None
_starting = threading.Lock()
_rests: queue.SimpleQueue[None] = queue.SimpleQueue()
_thread: threading.Thread | None = None


@contextmanager
def deadline(connection: psycopg.Connection[t.Any], seconds: float) -> Iterator[Watch]:
    """Give what is done on ``connection`` in this block so many seconds.

    :raises StatementCancelled: They were too few for the statement. It changed nothing.
    :raises DatabaseUnavailable: The server did not answer. What was sent to it may be done all the same.
    """
    watch = Watch(connection, time.monotonic() + seconds)
    _waiting[id(connection)] = watch  # before the thread is looked for, which may be about to rest
    if _started_in != os.getpid():
        _start(watch)
    try:
        yield watch
    except Exception as error:
        watch.finish()
        explained = watch.explain(error) if watch.expired else None
        if explained is None:
            raise
        raise explained from error
    finally:
        if not watch.ended:
            watch.finish()
    if watch.warned:
        raise DatabaseUnavailable("PostgreSQL", "did not confirm a change in time")


def renew(connection: psycopg.Connection[t.Any], seconds: float) -> None:
    """Begin the time of the :func:`deadline` anew that the caller is in."""
    watch = _waiting.get(id(connection))
    if watch is not None:
        watch.end = time.monotonic() + seconds


def rest() -> None:
    """End the thread if nobody waits. Whoever waits next starts it again."""
    _rests.put(None)


def wait_for_rest() -> None:
    """Wait until the thread has ended, or has found that somebody waits."""
    if _thread is not None and not _waiting:
        _thread.join(_TICK)


def _start(watch: Watch) -> None:
    """Start the thread that looks at ``watch`` and others."""
    global _started_in, _thread, _rests
    with _starting:
        if _started_in not in (None, os.getpid()):
            _waiting.clear()  # in a forked process of which Python was not told
        _waiting[id(watch.connection)] = watch
        if _started_in == os.getpid():
            return
        _rests = queue.SimpleQueue()  # of gevent, where that came after the app was loaded
        thread = threading.Thread(target=_watch, args=(_rests,), name="dualmedia-deadlines", daemon=True)
        with suppress(RuntimeError):  # at the end of a process no thread starts any more
            thread.start()
            _started_in, _thread = os.getpid(), thread


def _may_rest() -> bool:
    """Whether nobody waits. From then on the thread counts as ended."""
    global _started_in
    with _starting:
        _started_in = None
        if _waiting:
            _started_in = os.getpid()
        return _started_in is None


def _watch(rests: queue.SimpleQueue[None]) -> None:
    while True:
        with suppress(queue.Empty):
            rests.get(timeout=_TICK)
            if _may_rest():
                return
        now = time.monotonic()
        for key, watch in list(_waiting.items()):
            # Taken out by whoever comes first: the statement that ended, or we.
            if watch.end < now and _waiting.pop(key, None) is not None:
                thread = threading.Thread(target=watch.abandon, name="dualmedia-cancel", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # at the end of a process no thread starts any more
                    thread = threading.current_thread()
                    watch.abandon()
                watch.abandoning = thread


def _cut(connection: psycopg.Connection[t.Any]) -> None:
    # A duplicate of the descriptor: that of libpq stays libpq's to close.
    with suppress(Exception), socket.socket(fileno=os.dup(connection.pgconn.socket)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)


def _begin_process() -> None:
    """Forget what the parent of a forked process waits for: its thread cuts that."""
    global _starting, _thread
    _thread = None
    _starting = threading.Lock()  # that of the parent may be held by a thread that is not here
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_process)
