"""Threads that work in the background for an app, and end with it."""

from __future__ import annotations

import logging
import queue
import threading
import typing as t
from contextlib import suppress
from weakref import WeakMethod

logger = logging.getLogger("flask_dualmedia")

STOP_TIMEOUT = 10.0
"""Seconds to wait for the end of a thread."""


class Worker:
    """A thread that calls a method now and then.

    It refers to the method's object weakly: an app that nobody needs any more can be collected, and
    its threads end.

    :param name: Name of the thread.
    :param work: The method. It returns the seconds until the next call, or ``None`` where there is
        nothing left to do.
    :param delay: Seconds before the first call.
    """

    def __init__(
        self, name: str, work: t.Callable[[], float | None], *, delay: float = 0.0
    ) -> None:
        self._name = name
        self._delay = delay
        self._work = WeakMethod(work)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.has_begun = False
        self.is_stopped = False

    def start(self) -> None:
        """Begin, unless it has begun or was stopped."""
        if self.has_begun or self.is_stopped:
            return
        with self._lock:
            if self.has_begun or self.is_stopped:
                return
            self.has_begun = True
            self._renew_calls()

            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            try:
                thread.start()
            except RuntimeError:  # at the end of a process no thread starts any more
                self.has_begun = False
            else:
                self._thread = thread

    def _renew_calls(self) -> None:
        """Make the queue anew, which also wakes the thread when the method's object is gone.

        The queue is gevent's, where gevent came after the app was loaded. A weak reference's
        callback comes wherever memory is cleaned up: into nothing else may it put anything.
        """
        calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._calls = calls
        self._work = WeakMethod(t.cast("t.Any", self._work()), lambda _: calls.put(None))

    def wake(self) -> None:
        """Have the method called soon."""
        self._calls.put(None)

    def pause(self, seconds: float) -> bool:
        """Wait, in the method, for so long at most.

        :return: Whether it is to end.
        """
        with suppress(queue.Empty):
            self._calls.get(timeout=max(0.0, seconds))
        return self.is_stopped

    def stop(self, seconds: float = STOP_TIMEOUT) -> None:
        """End the thread, and wait for it so long: it may be using a connection."""
        with self._lock:
            self.is_stopped = True
            self.wake()  # a thread that is just being started too
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join(seconds)
        if seconds > 0 and thread.is_alive():
            logger.warning("the thread %s goes on: it waits for a database", self._name)

    def _run(self) -> None:
        seconds: float | None = self._delay
        try:
            while seconds is not None and not self._wait(seconds):
                work = self._work()
                if work is None:
                    return
                seconds = work()
                del work  # nothing is held between two calls
        finally:
            # Whatever has ended it, as code of the host's that leaves its thread.
            self.has_begun = False

    def _wait(self, seconds: float) -> bool:
        """Wait for the next call; whether there is none."""
        if seconds <= 0:
            return self.is_stopped
        is_over = self.pause(seconds)
        while not self._calls.empty():
            with suppress(queue.Empty):
                self._calls.get_nowait()
        return is_over
