"""How fast the body of a request comes.

Nobody holds a thread of the server for ever by sending slowly.

A sender has some seconds to spare. What it takes longer than the least rate allows is taken off
them, what it takes less is put back. Time that the app takes for itself does not count. A sender
whose seconds are used up is refused.

A read that waits in the server cannot be told to come back. So little is asked for at once of a
sender that may be slow. Where the server lends its socket, what waits for it is ended in time, and
what has come already is asked for whole: gunicorn receives up to 1 MiB at once, and copies all that
is left of it with every piece that it gives.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import typing as t
from contextlib import suppress

from ..databases import deadlines

if sys.platform != "win32":
    import fcntl
    import termios

PIECE_SIZE = 64 * 1024
"""Bytes that are asked for at once, at most."""

_SMALL_SIZE = 4096
"""Bytes that are asked for, at most, while nothing is known of a sender, or it was slow just
now."""

_SMALL_SHARE = 8
"""Such a piece takes this part of the seconds that a sender has to spare, at most."""

_QUICK = 0.05
"""Seconds for a piece, up to which twice as much is asked for next."""


class Pace:
    """How fast the body of one request comes.

    :param rate: Least number of bytes per second. Zero for no limit.
    :param seconds: How many seconds a sender has to spare.
    :param connection: The socket of the request, if the server lends it.
    """

    def __init__(self, rate: float, seconds: float, connection: t.Any) -> None:
        self._rate = rate
        self._most_seconds = seconds
        self._seconds_left = seconds
        self._socket = connection
        self._small_size = PIECE_SIZE
        if rate:
            share = int(rate * seconds / _SMALL_SHARE)
            self._small_size = max(1, min(_SMALL_SIZE, share))
        self._size = self._small_size
        self._began = 0.0
        self.end = 0.0
        """The time at which the read that waits now is ended."""
        self.abandoned: threading.Event | None = None
        self.is_too_slow = False

    def begin(self, size: int) -> int:
        """Note that a reader asks for so many bytes.

        :return: How many of them to ask the server for.
        """
        self._began = time.monotonic()
        if not self._rate:
            return size
        received = self._count_received()
        size = min(size, max(self._size, received))
        # Over TLS a little less comes of it than the system has received.
        awaited = max(size - received, min(size, self._small_size))
        self._watch(self._began + self._seconds_left + awaited / self._rate)
        return size

    def _count_received(self) -> int:
        """How many bytes the system has received from the sender, and the server has not."""
        if self._socket is None or sys.platform == "win32":
            return 0
        try:
            number = fcntl.ioctl(self._socket.fileno(), termios.FIONREAD, bytes(4))
        except OSError:  # it is closed, or no socket of the system
            return 0
        return int.from_bytes(number, sys.byteorder)

    def limit(self, seconds: float) -> None:
        """Have the read that waits now, and all later ones, end after so many seconds, whatever the
        rate."""
        self._rate = 0
        self._watch(time.monotonic() + seconds)

    def note(self, size: int) -> None:
        """Note that so many bytes came."""
        deadlines.settle(self)
        if not self._rate:
            return

        waited = time.monotonic() - self._began
        seconds_left = self._seconds_left - waited + size / self._rate
        self._seconds_left = min(self._most_seconds, seconds_left)
        if waited < _QUICK:
            self._size = min(2 * self._size, PIECE_SIZE)
        else:
            self._size = self._small_size
        if self._seconds_left < 0 or self.abandoned is not None:
            self.is_too_slow = True

    def abandon(self) -> None:
        """End the read that waits: the thread that keeps deadlines does this."""
        self.stop()
        assert self.abandoned is not None
        self.abandoned.set()

    def stop(self) -> None:
        """Have nobody wait for the sender any more, the server neither.

        An answer can still be sent.
        """
        if self._socket is None:
            return
        # A duplicate: an SSLSocket would send in the clear from here on, and the descriptor is the
        # server's to close.
        with suppress(OSError), socket.socket(fileno=os.dup(self._socket.fileno())) as duplicate:
            duplicate.shutdown(socket.SHUT_RD)

    def _watch(self, end: float) -> None:
        if self._socket is not None:
            self.end = end
            deadlines.expect(self)
