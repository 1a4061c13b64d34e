"""The database clock: the time that all hosts of a deployment agree on.

One host stamps what another one judges: how old a key is, when a lease ends, whether a link still
holds. Their own clocks may be hours apart, so none of them is used. A process asks MongoDB for its
time, and from then on adds what has passed on a clock that only counts. Nobody can set that one,
and it goes on while the machine sleeps.

MongoDB is asked at start-up, and again every minute or so, by a thread of its own: a reader of the
time never waits. A process that could not reach MongoDB yet takes the time of PostgreSQL, and the
clock of its host only if neither has answered. Forked processes keep what their parent has
measured.

When MongoDB's own clock was set, or another server with another clock has become the primary, every
process follows at once when it asks the next time. To follow slowly would keep processes apart that
have asked earlier and later.
"""

from __future__ import annotations

import logging
import time
import typing as t
from collections.abc import Callable
from datetime import UTC, datetime

from flask import has_app_context

from ..errors import Unavailable
from ..libraries.flask import current_context
from ..processes.forks import begin_in_children
from ..processes.threads import STOP_TIMEOUT, Worker

logger = logging.getLogger("flask_dualmedia")

THREAD = "dualmedia-clock"
"""Name of the thread that asks for the time."""

INTERVAL = 60.0
"""Seconds after which a measurement is repeated, if anybody reads the clock then."""

SHORT_INTERVAL = 5.0
"""The same where the measurement is not MongoDB's, or not a good one."""

GOOD = 0.1
"""Seconds that a good measurement may be wrong."""

DRIFT = 1e-4
"""Seconds that the counting clock may go wrong in one second."""

STEP = 1.0
"""A step of so many seconds is logged."""

_RESOLUTION = 0.001  # databases tell milliseconds, or have cut off what is less


def _counting_clock() -> Callable[[], float]:
    """Return a clock that nobody sets.

    It goes on while the machine sleeps where the system has such a one.
    """
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    if boot_time is None:
        return time.monotonic
    return lambda: time.clock_gettime(boot_time)


elapsed = _counting_clock()
"""Seconds since some moment, the same for all processes of a machine."""


class Measurement(t.NamedTuple):
    """The time of a database, when it was asked."""

    offset: float
    """Seconds between :data:`elapsed` and the time."""
    error: float
    """Seconds that the offset may be wrong.

    Nobody knows when the database has looked at its clock.
    """
    at: float
    """When it was, by :data:`elapsed`."""
    is_mongo: bool


class Clock:
    """The time by a database, for one process.

    :param ask: Asks MongoDB for its time, and calls :meth:`note` with the answer. It raises when
        there is none.
    """

    def __init__(self, ask: Callable[[], object]) -> None:
        self._ask = ask
        self.ask_other: Callable[[], object] | None = None
        """The same for a database that is asked as long as nobody has told the time."""
        self._measured: Measurement | None = None
        self._offset = 0.0
        self._next = 0.0  # when to measure again
        self.begin_process()
        begin_in_children(self)

    def begin_process(self) -> None:
        """Forget the thread of another process. What it has measured holds."""
        self._worker = Worker(THREAD, self._measure)

    @property
    def is_measured(self) -> bool:
        """Whether MongoDB has told the time.

        Until then it is that of PostgreSQL, or of the host.
        """
        return self._measured is not None and self._measured.is_mongo

    def now(self) -> datetime:
        """Return the time, aware, in UTC, to the millisecond.

        BSON keeps no more, and records are equal in every database.
        """
        return _datetime(self.seconds())

    def seconds(self) -> float:
        """Return the same in seconds since 1970."""
        count = elapsed()
        if count >= self._next:
            return self._measure_soon(count)
        return count + self._offset

    def measure(self) -> None:
        """Ask MongoDB for the time, and wait for the answer.

        This is for what cannot be done without MongoDB anyway.

        :raises DatabaseUnavailable: It does not answer.
        """
        self._ask()

    def attempt(self, ask: Callable[[], object]) -> None:
        """Ask for the time, and go on without where there is no answer."""
        try:
            ask()
        except Unavailable as error:  # the circuit has told, or the next request will
            logger.debug("the time could not be measured: %s", error)
        except Exception:
            # The time is asked for everywhere, and no request fails for want of a better one.
            logger.warning("the time could not be measured", exc_info=True)

    def stop(self, seconds: float = STOP_TIMEOUT) -> None:
        """End the thread that asks for the time. What it has measured holds."""
        self._worker.stop(seconds)

    def note(self, told: datetime, began: float, ended: float, *, is_mongo: bool = True) -> None:
        """Take over the time that a database has told.

        :param began: When it was asked, by :data:`elapsed`.
        :param ended: When the answer was there.
        :param is_mongo: Whether it is MongoDB's. Another database counts only as long as MongoDB
            has not been asked.
        """
        error = (ended - began) / 2 + _RESOLUTION
        offset = told.timestamp() - (began + ended) / 2
        new = Measurement(offset, error, ended, is_mongo)
        old = self._measured
        if not _may_follow(old, new):
            return

        self._next = ended + _interval(is_good=is_mongo and error < GOOD)
        if old is not None and _confirms(old, new):
            return

        self._measured = new
        self._offset = offset
        _share(offset)
        if old is not None and abs(offset - old.offset) >= STEP:
            logger.warning("the clock of the database went %+.1f seconds", offset - old.offset)

    def _measure_soon(self, count: float) -> float:
        """Return the time as far as it is known, while it is measured again."""
        if self._measured is None:
            self._measure_first()
            if self._measured is None:
                return time.time()
            return elapsed() + self._offset

        self._next = count + _interval(is_good=self._measured.is_mongo)
        self._worker.start()
        return count + self._offset

    def _measure(self) -> None:
        self.attempt(self._ask)

    def _measure_first(self) -> None:
        """Wait for the time: without it nothing is stamped rightly.

        MongoDB comes last, since at start-up it was away. It is waited for once, for then its
        circuit is open.
        """
        for ask in (self.ask_other, self._ask):
            if ask is not None and self._measured is None:
                self.attempt(ask)


def now() -> datetime:
    """Return the time by the clock of the current app.

    Outside of one it is the time by the clock that was measured last in this process.
    """
    return _datetime(seconds())


def seconds() -> float:
    """Return the same in seconds since 1970."""
    if has_app_context():
        state = current_context().app.extensions.get("dualmedia")
        if state is not None:
            return state.clock.seconds()
    if _last_offset is None:
        return time.time()
    return elapsed() + _last_offset


_last_offset: float | None = None
"""The offset that was measured last, by whichever clock of the process."""


def _share(offset: float) -> None:
    global _last_offset
    _last_offset = offset


def _interval(*, is_good: bool) -> float:
    """Return the seconds until the next measurement."""
    if is_good:
        return INTERVAL
    return SHORT_INTERVAL


def _may_follow(old: Measurement | None, new: Measurement) -> bool:
    """Whether a measurement may take the place of an older one: MongoDB's yields to no other."""
    return old is None or new.is_mongo or not old.is_mongo


def _confirms(old: Measurement, new: Measurement) -> bool:
    """Whether the older measurement is as good, so that the clock need not move at all.

    That can be said only of two measurements of the same database.
    """
    if old.is_mongo != new.is_mongo:
        return False
    old_error = old.error + (new.at - old.at) * DRIFT
    return new.error >= old_error and abs(new.offset - old.offset) <= old_error + new.error


def _datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds * 1000) / 1000, UTC)
