"""Tasks called in this process, and what they write."""

from __future__ import annotations

import io
import typing as t
from collections.abc import Callable

from flask_dualmedia.variants.ranges import RangeFile

Task = Callable[..., dict[str, t.Any]]


class Bytes:
    """A source in memory, that notes which ranges were read."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)
        self.ranges: list[tuple[int, int]] = []

    def read(self, start: int, stop: int) -> bytes:
        self.ranges.append((start, stop))
        return self._content[start:stop]


class Outputs(dict[str, io.BytesIO]):
    """A sink for each name that is asked for."""

    def __missing__(self, name: str) -> io.BytesIO:
        self[name] = io.BytesIO()
        return self[name]

    def of(self, name: str) -> bytes:
        return self[name].getvalue()


def as_file(content: bytes) -> RangeFile:
    source = Bytes(content)
    return RangeFile(source.size, source.read)


def call(task: Task, content: bytes, **arguments: t.Any) -> tuple[dict[str, t.Any], Outputs]:
    """The result of a task, and what it wrote."""
    outputs = Outputs()
    return task(arguments, as_file(content), outputs, lambda _fraction: None), outputs
