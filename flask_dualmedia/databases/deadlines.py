"""An end to waiting for a server that took a statement and does not answer in time.

libpq waits for ever: a time-out of its own exists for connecting alone, and one that the server
keeps is no help when the server is what hangs. So a thread looks at the statements that are being
waited for. It first cancels one that takes too long, over another connection: the statement then
fails alone, and nothing of it is left running in the server. If that does not end it, the thread
closes its socket, and the statement fails as it does when the server dies.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
import typing as t
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from weakref import WeakSet

from ..errors import DatabaseUnavailable, StatementCancelled
from ..processes.forks import begin_in_children, notice_fork

if t.TYPE_CHECKING:
    import psycopg

_TICK = 0.2  # seconds: how much later than its deadline a statement may end

_CANCEL = 0.5
"""Seconds that the server may take to accept that a statement is cancelled."""

_END = 0.5
"""Seconds that a statement may take to end after it was cancelled."""

_CANCEL_POOLED = 30.0
"""Seconds after which we give up a request to cancel that goes through a pooler.

The request waits there for the server. If the client has not waited, PgBouncer 1.18 ends with
"bad client state".
"""

_QUERY_CANCELED = "57014"

pooled: WeakSet[psycopg.Connection[t.Any]] = WeakSet()
"""Connections that go, or may go, through a pooler."""


class Wait(t.Protocol):
    """Something that somebody waits for until a time, and then gives up."""

    end: float
    abandoned: threading.Event | None
    """Set when it is given up, if it took too long."""

    def abandon(self) -> None:
        """Give it up."""
        ...


class Watch:
    """One wait for the server, and how it ended."""

    __slots__ = ("abandoned", "answers", "connection", "end", "ended", "warned")

    def __init__(self, connection: psycopg.Connection[t.Any], end: float) -> None:
        self.connection = connection
        self.end = end
        self.ended = False
        self.abandoned: threading.Event | None = None
        """Set when the cancellation is over, if the statement took too long."""
        self.answers = True
        """Whether the server accepted that the statement was cancelled."""
        self.warned = False
        """Whether the server completed the statement with a warning after it was cancelled.

        PostgreSQL does so with a change that is committed, but that no standby has confirmed.
        """

    @property
    def expired(self) -> bool:
        """Whether it took too long. Its connection is not to be used any more."""
        return self.abandoned is not None

    def finish(self) -> None:
        """End the wait. If the statement is just being abandoned, wait until it is.

        A cancellation that comes late must not hit what is done next on the connection.
        """
        self.ended = True
        if _waiting.pop(id(self.connection), None) is self:
            return
        while self.abandoned is None:
            time.sleep(0.001)  # it has just been taken out, to be abandoned
        self.abandoned.wait()

    def abandon(self) -> None:
        """Cancel the statement, or cut the connection."""
        assert self.abandoned is not None
        try:
            self._abandon()
        finally:
            self.abandoned.set()

    def _abandon(self) -> None:
        self.connection.add_notice_handler(self._note)
        if self.connection in pooled:
            self._cancel_pooled()
        else:
            self._cancel(_CANCEL)

        end = time.monotonic() + _END
        while self.answers and not self.ended and time.monotonic() < end:
            time.sleep(0.01)
        if not self.ended:
            _cut(self.connection)

    def _cancel_pooled(self) -> None:
        request = threading.Thread(
            target=self._cancel,
            args=(_CANCEL_POOLED,),
            name="dualmedia-cancel",
            daemon=True,
        )
        try:
            request.start()
        except RuntimeError:  # no thread starts any more, as in _abandon_expired
            self._cancel(_CANCEL)
            return
        request.join(_CANCEL)
        self.answers = self.answers and not request.is_alive()

    def _cancel(self, seconds: float) -> None:
        try:
            self.connection.cancel_safe(timeout=seconds)
        except Exception:  # of whatever kind: the server did not take it
            self.answers = False

    def _note(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        self.warned = self.warned or diagnostic.severity_nonlocalized == "WARNING"

    def explain(self, error: Exception) -> Exception | None:
        """Return what an error means that came after the statement was abandoned."""
        if getattr(error, "sqlstate", None) == _QUERY_CANCELED:
            return StatementCancelled()
        if isinstance(error, self.connection.OperationalError | self.connection.InterfaceError):
            return DatabaseUnavailable("PostgreSQL", is_hanging=not self.answers)
        return None


_waiting: dict[int, Wait] = {}


class _Watcher:
    """The thread that looks at what this process waits for. It may rest when an app is closed."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self.begin_process()
        begin_in_children(self)

    def begin_process(self) -> None:
        """Forget the thread of another process, and what that one waits for.

        The thread of that process cuts that off itself.
        """
        self._lock = threading.Lock()
        self._rests: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self.is_started = False
        if self._process != os.getpid():
            self._process = os.getpid()
            _waiting.clear()

    def start(self) -> None:
        """Start the thread, unless it runs."""
        with self._lock:
            if self.is_started:
                return
            self._rests = queue.SimpleQueue()
            thread = threading.Thread(
                target=self._run,
                args=(self._rests,),
                name="dualmedia-deadlines",
                daemon=True,
            )
            with suppress(RuntimeError):  # at the end of a process no thread starts any more
                thread.start()
                self.is_started = True
                self._thread = thread

    def rest(self) -> None:
        """End the thread if nobody waits. The next one to wait starts it again."""
        self._rests.put(None)

    def wait_for_rest(self) -> None:
        """Wait until the thread has ended, or has found that somebody waits."""
        if self._thread is not None and not _waiting:
            self._thread.join(_TICK)

    def _run(self, rests: queue.SimpleQueue[None]) -> None:
        while True:
            with suppress(queue.Empty):
                rests.get(timeout=_TICK)
                if self._may_rest():
                    return
            _abandon_expired()

    def _may_rest(self) -> bool:
        """Whether nobody waits. From then on the thread counts as ended."""
        with self._lock:
            # Before the look: anybody who waits from now on starts another thread.
            self.is_started = False
            if _waiting:
                self.is_started = True
            return not self.is_started


_watcher = _Watcher()


@contextmanager
def deadline(connection: psycopg.Connection[t.Any], seconds: float) -> Iterator[Watch]:
    """Give what is done on ``connection`` in this block so many seconds.

    :raises StatementCancelled: They were too few for the statement. It changed nothing.
    :raises DatabaseUnavailable: The server did not answer. What was sent to it may be done all the
        same.
    """
    watch = Watch(connection, time.monotonic() + seconds)
    _expect(id(connection), watch)

    try:
        yield watch
    except Exception as error:
        # Whatever the block raises goes on from here, explained or as it is.
        watch.finish()
        explained = None
        if watch.expired:
            explained = watch.explain(error)
        if explained is None:
            raise
        raise explained from error
    finally:
        if not watch.ended:
            watch.finish()

    if watch.warned:
        raise DatabaseUnavailable("PostgreSQL", "did not confirm a change in time")


def deadline_if_any(
    connection: psycopg.Connection[t.Any], seconds: float | None
) -> AbstractContextManager[Watch | None]:
    """Return the :func:`deadline`, or a block without a limit where ``seconds`` is ``None``."""
    if seconds is None:
        return nullcontext()
    return deadline(connection, seconds)


def expect(wait: Wait) -> None:
    """Give something up at its end, unless it is settled before."""
    _expect(id(wait), wait)


def settle(wait: Wait) -> None:
    """Note that something has come to its end. It may just be given up."""
    _waiting.pop(id(wait), None)


def _expect(key: int, wait: Wait) -> None:
    notice_fork()
    _waiting[key] = wait  # before the thread is looked for, which may be about to rest
    if not _watcher.is_started:
        _watcher.start()


def renew(connection: psycopg.Connection[t.Any], seconds: float) -> None:
    """Begin the time of the :func:`deadline` anew that the caller is in."""
    watch = _waiting.get(id(connection))
    if watch is not None:
        watch.end = time.monotonic() + seconds


def rest() -> None:
    """End the thread if nobody waits. The next one to wait starts it again."""
    _watcher.rest()


def wait_for_rest() -> None:
    """Wait until the thread has ended, or has found that somebody waits."""
    _watcher.wait_for_rest()


def _abandon_expired() -> None:
    now = time.monotonic()
    for key, wait in list(_waiting.items()):
        # Whichever comes first takes it out: the statement that ended, or this thread.
        if wait.end < now and _waiting.pop(key, None) is not None:
            wait.abandoned = threading.Event()
            thread = threading.Thread(target=wait.abandon, name="dualmedia-cancel", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # No thread starts any more: at the end of a process, or where there are too many.
                wait.abandon()


def _cut(connection: psycopg.Connection[t.Any]) -> None:
    # A duplicate of the descriptor: that of libpq stays libpq's to close.
    with suppress(Exception), socket.socket(fileno=os.dup(connection.pgconn.socket)) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
