"""Whether SQL answers, so that no request has to find out anew.

The circuit is closed while SQL answers. A request that loses its connection asks the server over
another one: if that answers, it is no outage. Where nothing answers, the first request opens the
circuit and pays the time-out; after that requests are refused at once, and a thread asks until SQL
is back. Every process has its own.

It is not pybreaker's circuit: that one holds a lock for as long as a guarded call takes, and so
lets through one statement at a time.
"""

from __future__ import annotations

import logging
import threading
import time
import typing as t
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..errors import DatabaseBusy, DatabaseUnavailable, DualMediaError, Unavailable, WritesRefused
from ..failpoints import reach
from ..processes.forks import begin_in_children, notice_fork
from ..processes.threads import STOP_TIMEOUT, Worker
from .announcements import LOOK_INTERVAL, VALIDITY, Announcements
from .clock import elapsed
from .documents import MONGO

logger = logging.getLogger("flask_dualmedia")

T = t.TypeVar("T")

SQL = "PostgreSQL"

WATCHER = "dualmedia-watch"
"""Name of the thread."""

READS = 3
"""How often something is read before a lost connection fails the reader.

That is while each connection that it is read over is lost, and the server answers.
"""

REFUSAL = 15.0
"""Seconds after a refusal in which no new media is offered to SQL.

That is longer than clients are asked to wait before they send an upload again that was refused in
its middle: then it goes to the journal.
"""

QUIET = 60.0
"""Seconds without an answer of a kind after which it is told of again."""

IDLE_INTERVAL = 5.0
"""Seconds between two looks at the journal while SQL answers.

Other processes may drain it, or have ended before they did.
"""


class Circuit:
    """Guards calls to SQL, and looks after the journal in the background.

    :param probe: Asks SQL something; raises :class:`DatabaseUnavailable` while it is gone.
    :param look: Looks at the journal, drains it if it may, and tells whether anything is left in
        it.
    :param interval: Seconds between two probes of an open circuit.
    :param notify: Called with ``"lost"`` and ``"recovered"``.
    :param announcements: How other processes tell that they write to the journal; ``None`` where
        nobody does.
    """

    def __init__(
        self,
        probe: Callable[[], object],
        look: Callable[[], bool],
        *,
        interval: float,
        notify: Callable[[str], object],
        announcements: Announcements | None = None,
    ) -> None:
        self._announcements = announcements
        self._probe = probe
        self._look = look
        self._interval = interval
        self._notify = notify
        self._open = False
        self._reason = ""
        self._expectations = 0
        self._answered_at = 0.0
        self._refused_until = 0.0
        self._refusal: WritesRefused | None = None
        self._told: dict[str, float] = {}
        self._journal_expected = True
        self._looked_for = -1
        """Number of expectations at the last look at the journal."""
        self._known_until = 0.0
        self._next_look = 0.0
        self._used_at = 0.0
        self.begin_process()
        begin_in_children(self)

    def begin_process(self) -> None:
        """Forget the thread and the locks of another process.

        Each starts its own, when it has something to do.
        """
        self._lock = threading.Lock()
        self._probing = threading.Lock()
        self._worker = Worker(WATCHER, self._watch)
        self._is_resting = False

    @property
    def is_open(self) -> bool:
        """Whether SQL is taken to be gone."""
        return self._open

    @property
    def journal_expected(self) -> bool:
        """Whether the journal may hold something, as far as this process knows."""
        self._note_use()
        return self._journal_expected or elapsed() >= self._known_until

    def _note_use(self) -> None:
        """Have the journal looked at often from now on, for a while."""
        self._used_at = elapsed()
        if self._is_resting:
            self._is_resting = False
            self._worker.wake()

    @property
    def takes_writes(self) -> bool:
        """Whether SQL may be offered new media: it answers, and has not refused any just now."""
        return not self._open and time.monotonic() >= self._refused_until

    def guard(self, call: Callable[[], T]) -> T:
        """Do ``call``, or refuse at once while the circuit is open.

        :raises DatabaseUnavailable: SQL is gone, or the connection was lost. In the second case
            what was sent over it may have been done.
        """
        self._admit()
        started = time.monotonic()
        try:
            return call()
        except DatabaseUnavailable as error:
            self._examine(error, started)
            raise
        except WritesRefused as error:
            self.refuse_writes(error)
            raise
        except DatabaseBusy as error:
            self._tell(str(error))
            raise

    def read(self, call: Callable[[], T]) -> T:
        """Do the same for what changes nothing, and may be done again over another connection."""
        for _ in range(READS - 1):
            try:
                return self.guard(call)
            except DatabaseUnavailable:
                if self._open:
                    raise
        return self.guard(call)

    def _admit(self) -> None:
        notice_fork()
        self._note_use()
        if not self._worker.has_begun:
            self._worker.start()
        if self._open:
            retry_after = max(1, round(self._interval))
            raise DatabaseUnavailable(SQL, self._reason, retry_after=retry_after, was_sent=False)

    def _examine(self, error: DatabaseUnavailable, started: float) -> None:
        """Open the circuit, unless the server answers over another connection."""
        if error.database == MONGO:
            # As from the lock of a resumable upload, which is renewed while SQL takes bytes.
            return
        if error.is_hanging:
            self.trip(error.reason)
            return

        with self._probing:
            if self._open or self._answered_at > started:
                return  # another thread has asked meanwhile
            try:
                self._probe()
            except DatabaseUnavailable as probe_error:
                self.trip(probe_error.reason)
                self._answered_at = time.monotonic()
                return
            except Unavailable:
                pass  # it answers, with a "no" of another kind
            self._answered_at = time.monotonic()

        if error.was_sent:
            self._tell(f"a connection to {error.database} was lost")
        else:
            # It has no connection for us, or not for all of us.
            self.refuse_writes(WritesRefused(error.database, error.reason))

    def _tell(self, message: str, *, traceback: bool = False) -> None:
        """Log once what many requests in a row, or every look at the journal, have to tell."""
        now = time.monotonic()
        told_at = self._told.get(message)
        self._told[message] = now
        if told_at is not None and now <= told_at + QUIET:
            return

        if traceback:
            logger.error("%s", message, exc_info=True)
        else:
            logger.warning("%s", message)

    def refuse_writes(self, error: WritesRefused) -> None:
        """Note that SQL changes nothing for now."""
        self._tell(f"{error}: new media goes to the journal in MongoDB")
        self._refusal = error
        self._refused_until = time.monotonic() + REFUSAL
        self._journal_expected = True

    def check_writes(self) -> None:
        """
        :raises WritesRefused: SQL has refused to change something just now.
        """
        if self._refusal is not None and time.monotonic() < self._refused_until:
            raise self._refusal

    def expect_journal(self) -> None:
        """Have the journal looked at soon.

        To be called when something was written to it, and before, if readers are to find it at
        once.
        """
        with self._lock:
            self._expectations += 1
            self._journal_expected = True
        self._worker.wake()

    @contextmanager
    def journaling(self) -> Iterator[None]:
        """Write to the journal in this block: when it is left, every process looks there too.

        :raises DatabaseUnavailable: MongoDB does not answer.
        """
        self.expect_journal()
        if self._announcements is None:
            yield
        else:
            with self._announcements.announced():
                yield
        self.expect_journal()

    def trip(self, reason: str = "does not answer") -> None:
        """Take SQL to be gone, until a probe shows that it is back."""
        with self._lock:
            if self._open:
                return
            self._reason = reason
            self._open = True
            self._journal_expected = True

        message = f"{SQL} {reason}: new media goes to the journal in MongoDB"
        self._told[message] = time.monotonic()
        logger.warning("%s", message)
        self._notify("lost")
        self._worker.wake()

    def stop(self, seconds: float = STOP_TIMEOUT) -> None:
        """End the thread, and wait for it: it may be using a connection."""
        self._worker.stop(seconds)

    def _watch(self) -> float | None:
        """Look once, and say after how many seconds to look again."""
        reach("watch")
        try:
            if self._open:
                self._announce()
                self._ask()
            if not self._open:
                self._look_at_journal()
        except WritesRefused as error:
            self.refuse_writes(error)
        except Unavailable:
            # Knowledge of the journal is soon too old, and the circuit knows of SQL.
            pass
        except DualMediaError as error:
            self._tell(f"the journal was not drained: {error}", traceback=True)
        except Exception as error:
            # Whatever it was must not end the thread that brings the app back.
            if self._worker.is_stopped:
                return None
            self._tell(f"watching the databases: {type(error).__name__}", traceback=True)
        return self._pause()

    def _pause(self) -> float:
        """Return the seconds until the next look.

        While a process has nothing to do, it need not know of the journal at once.
        """
        if self._open:
            return self._interval
        self._is_resting = elapsed() >= self._used_at + IDLE_INTERVAL
        if self._is_resting:
            return IDLE_INTERVAL
        return LOOK_INTERVAL

    def _look_at_journal(self) -> None:
        """Find out whether the journal holds something.

        It looks there if there is a reason to suppose so, or if it is time.
        """
        began = elapsed()
        expectations = self._expectations
        # Announcements first: what is written while the journal is looked at was announced before.
        is_announced = self._is_announced()
        is_late = not self._journal_expected and began >= self._known_until
        is_due = is_late or self._looked_for != expectations or began >= self._next_look

        is_left = True
        if is_due:
            self._looked_for = expectations
            self._next_look = began + IDLE_INTERVAL
            # While it is drained, which takes its time, and if that fails.
            self._journal_expected = True
            reach("journal:look")
            is_left = self._look()

        with self._lock:
            self._known_until = began + VALIDITY
            if is_announced:
                self._journal_expected = True
            elif is_due and self._expectations == expectations:
                # Otherwise more was written, which was not seen.
                self._journal_expected = is_left
        reach("journal:known")

    def _is_announced(self) -> bool:
        """Whether a process has announced that it writes to the journal, or may have.

        Nobody knows while MongoDB is away, and a look has more to do than to ask there.
        """
        if self._announcements is None:
            return False
        try:
            return self._announcements.is_current()
        except Unavailable:
            return True

    def _announce(self) -> None:
        """Announce already now that this process writes to the journal.

        The first upload waits less.
        """
        if self._announcements is not None:
            with suppress(Unavailable):
                self._announcements.announce()

    def _ask(self) -> None:
        try:
            self._probe()
        except WritesRefused as error:
            self.refuse_writes(error)
        except DatabaseBusy:
            pass  # it answers
        self._answered_at = time.monotonic()
        self._next_look = 0.0
        self._open = False
        logger.info("PostgreSQL answers again")
        self._notify("recovered")
