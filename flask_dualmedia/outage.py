"""Whether SQL answers, so that no request has to find out anew.

The circuit is closed while SQL answers. The first request that finds it gone opens the circuit and pays the time-out;
after that requests are refused at once, and a thread asks until SQL is back. Every process has its own.

It is not pybreaker's circuit: that one holds a lock for as long as a guarded call takes, and so lets through one
statement at a time.
"""

from __future__ import annotations

import logging
import os
import threading
import typing as t
from collections.abc import Callable

from .documents import MONGO
from .errors import DatabaseUnavailable, DualMediaError, NoConnectionFree

logger = logging.getLogger("flask_dualmedia")

T = t.TypeVar("T")

WATCHER = "dualmedia-watch"
"""Name of the thread."""

IDLE_INTERVAL = 5.0
"""Seconds between two looks at the journal while SQL answers: other processes may have written to it, or drain it."""


class Circuit:
    """Guards calls to SQL, and looks after the journal in the background.

    :param probe: Asks SQL something; raises :class:`DatabaseUnavailable` while it is gone.
    :param look: Looks at the journal, drains it if it may, and tells whether anything is left in it.
    :param interval: Seconds between two probes of an open circuit.
    :param notify: Called with ``"lost"`` and ``"recovered"``.
    """

    def __init__(
        self,
        probe: Callable[[], object],
        look: Callable[[], bool],
        *,
        interval: float,
        notify: Callable[[str], object],
    ) -> None:
        self._probe, self._look, self._interval, self._notify = probe, look, interval, notify
        self._open = False
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._pid: int | None = None
        self.journal_expected = True
        """Whether the journal may hold something, as far as this process knows."""

    @property
    def is_open(self) -> bool:
        """Whether SQL is taken to be gone."""
        return self._open

    def guard(self, call: Callable[[], T]) -> T:
        """Do ``call``, or refuse at once while the circuit is open.

        :raises DatabaseUnavailable: SQL is gone.
        """
        if self._pid != os.getpid():
            self._start()
        if self._open:
            raise DatabaseUnavailable("PostgreSQL", retry_after=max(1, round(self._interval)))
        try:
            return call()
        except NoConnectionFree:  # we ask too much at once, and it answers
            raise
        except DatabaseUnavailable as error:
            if error.database != MONGO:  # as of the lock of a resumable upload, which is renewed while SQL takes bytes
                self.trip()
            raise

    def trip(self) -> None:
        """Take SQL to be gone, until a probe shows that it is back."""
        with self._lock:
            if self._open:
                return
            self._open = self.journal_expected = True
        logger.warning("PostgreSQL does not answer: new media goes to the journal in MongoDB")
        self._notify("lost")
        self._wake.set()

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._wake.set()

    def _start(self) -> None:
        with self._lock:
            if self._pid == os.getpid() or self._stopped:
                return
            # A thread does not live on in a forked worker: each process starts its own, when it has something to do.
            self._pid = os.getpid()
            self._wake = threading.Event()
            threading.Thread(target=self._watch, name=WATCHER, daemon=True).start()

    def _watch(self) -> None:
        while not self._stopped:
            try:
                if self._open:
                    self._ask()
                if not self._open:
                    self.journal_expected = self._look()
            except DatabaseUnavailable:
                # Of SQL the circuit knows. What MongoDB holds, other processes may have written while it was away.
                self.journal_expected = True
            except DualMediaError:
                logger.exception("the journal was not drained")
            except Exception:
                # Whatever it was must not end the thread that brings the app back.
                if self._stopped:
                    return
                logger.exception("watching the databases")
            self._wake.wait(self._interval if self._open else IDLE_INTERVAL)
            self._wake.clear()

    def _ask(self) -> None:
        self._probe()
        self._open = False
        logger.info("PostgreSQL answers again")
        self._notify("recovered")
