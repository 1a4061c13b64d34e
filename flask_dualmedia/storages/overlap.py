"""Talking to a database in another thread while this one talks to the client."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

from .whole import PerProcess

T = t.TypeVar("T")

_threads = PerProcess(lambda: ThreadPoolExecutor(32, thread_name_prefix="dualmedia-bytes"))


def ahead(calls: Iterable[Callable[[], T]]) -> Iterator[T]:
    """What the calls give, each but the first made while the result of the one before it is used."""
    result: T | None = None
    for number, call in enumerate(calls):
        if number == 0:
            result = call()
            continue
        following = _threads.get().submit(call)
        yield t.cast(T, result)
        result = following.result()
    if result is not None:
        yield result


class Behind:
    """Makes calls, one after the other, while whoever gives them prepares the next. When the ``with`` block ends, all
    of them have been made.

    An error of a call is raised when the next one is given, or at the end, unless the block ends in another error.
    """

    def __init__(self) -> None:
        self._call: Future[None] | None = None

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.finish()
        elif self._call is not None:
            wait([self._call])

    def __call__(self, call: Callable[[], None]) -> None:
        self.finish()
        self._call = _threads.get().submit(call)

    def finish(self) -> None:
        """Wait for the call that was given last."""
        if self._call is not None:
            call, self._call = self._call, None
            call.result()
