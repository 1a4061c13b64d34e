"""Python imports this at its start in processes of :mod:`tests.tools.clocks`, and mends how they
sleep.

``time.sleep`` waits until a time on the monotonic clock. libfaketime 0.9.10 takes that for one of
the wall clock, even if it leaves the monotonic clock alone: such a sleep fails, or takes for ever.
``select`` waits for a span of time.
"""

import select
import time


def _sleep(seconds: float, /) -> None:
    select.select([], [], [], seconds)


time.sleep = _sleep
