"""The users of an app's media at the moment, so that nothing is closed under anybody's hands.

A context of the app uses media from its first media call until it is popped; an answer, until its
last byte is sent.
"""

from __future__ import annotations

import threading
import time
import typing as t
from collections import deque
from collections.abc import Callable, Iterator

from flask import Flask, g, has_request_context

from ..errors import MediaClosed
from .forks import begin_in_children

if t.TYPE_CHECKING:
    from flask.ctx import AppContext

_KEY = "_dualmedia_use"

_POLL = 0.01  # seconds


class Use:
    """Somebody uses media, until :meth:`end` is called or nothing refers to this any more."""

    __slots__ = ("_app", "_uses")

    def __init__(self, uses: Uses, app: Flask) -> None:
        self._uses = uses
        self._app = app  # it is not collected meanwhile
        uses.threads[id(self)] = threading.get_ident()

    def end(self) -> None:
        """Note that nothing is used any more."""
        self._uses.end(id(self))

    __del__ = end


class Uses:
    """All uses of one app, and whether there may be new ones."""

    def __init__(self) -> None:
        # Without a lock, for uses end wherever memory is cleaned up.
        self.threads: dict[int, int] = {}
        """The thread of each use, by the identity of the use."""
        self.is_closing = False
        """Whether nobody may begin any more."""
        self.is_closed = False
        """Whether nobody may go on either, except with a request that has begun."""
        self.closing = threading.RLock()
        """Held by the thread that closes."""
        self._last: deque[Callable[[], object]] = deque()
        begin_in_children(self)

    def begin_process(self) -> None:
        """Forget the other threads of the parent of a forked process."""
        self.closing = threading.RLock()
        self._forget(lambda thread: thread != threading.get_ident())

    def during(self, app: Flask, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Return the same pieces.

        Media is in use until the last one is taken, or nobody refers to them any more.
        """
        return _taken(Use(self, app), pieces)

    def admit(self, context: AppContext) -> None:
        """Let the current context use media until it is popped.

        A request that has begun may go on to its end. Other contexts, which may last as long as
        their thread, may not.

        :raises MediaClosed: It did not begin in time.
        """
        use: Use | None = getattr(context.g, _KEY, None)
        if use is None:
            if self.is_closing:
                raise MediaClosed
            setattr(context.g, _KEY, Use(self, context.app))
        elif self.is_closed and not (has_request_context() and id(use) in self.threads):
            raise MediaClosed

    def check(self) -> None:
        """
        :raises MediaClosed: Media was closed.
        """
        if self.is_closed:
            raise MediaClosed

    def wait(self, seconds: float) -> None:
        """Wait until no other thread uses media, for so long at most."""
        end = time.monotonic() + seconds
        while self._others() and time.monotonic() < end:
            time.sleep(_POLL)

    def finish(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` when no other thread uses media: at once, or after the last of them."""
        self._forget(lambda thread: thread == threading.get_ident())
        self._last.append(callback)
        self._call_last()

    def end(self, use: int) -> None:
        """Note the end of a use, by its identity."""
        if self.threads.pop(use, None) is not None and self._last:
            self._call_last()

    def _call_last(self) -> None:
        while not self.threads:
            try:
                callback = self._last.popleft()
            except IndexError:
                return
            callback()

    def _others(self) -> bool:
        current = threading.get_ident()
        return any(thread != current for thread in list(self.threads.values()))

    def _forget(self, is_over: Callable[[int], bool]) -> None:
        for use, thread in list(self.threads.items()):
            if is_over(thread):
                self.threads.pop(use, None)


def _taken(use: Use, pieces: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from pieces
    finally:
        use.end()


def end_of_context(_error: BaseException | None = None) -> None:
    """End the use of media by the current context, which is popped."""
    use: t.Any = g.pop(_KEY, None)
    if use is not None:
        use.end()
