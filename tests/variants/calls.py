"""A source of bytes for tasks."""

from __future__ import annotations


class Bytes:
    """A source in memory, that notes which ranges were read."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size = len(content)
        self.ranges: list[tuple[int, int]] = []

    def read(self, start: int, stop: int) -> bytes:
        self.ranges.append((start, stop))
        return self._content[start:stop]
