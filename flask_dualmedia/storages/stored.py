"""The bytes of one file as one value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .base import Stat, Storage


@dataclass(frozen=True)
class Stored:
    """The bytes of one file, where they are.

    It is not known whether they are all there: :meth:`stat` asks. The methods raise what those of
    the storage raise.
    """

    storage: Storage = field(repr=False)
    key: str
    size: int
    """In bytes, as the record says; 0 where it does not say yet."""

    def put(self, blocks: Iterable[bytes]) -> None:
        """Keep the bytes of ``blocks``."""
        self.storage.put(self.key, blocks)

    def open(self, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes of the range ``[start, stop)``, in pieces; by default to the end."""
        if stop is None:
            stop = self.size
        return self.storage.open(self.key, start, stop)

    def send(self, start: int, stop: int) -> Iterator[bytes]:
        """The same for a client."""
        return self.storage.send(self.key, start, stop)

    def stat(self) -> Stat | None:
        """The facts about the bytes, ``None`` if there are none."""
        return self.storage.stats([self.key]).get(self.key)

    def is_whole(self) -> bool:
        """Tell whether the storage has all of the bytes, and no more."""
        stat = self.stat()
        return stat is not None and stat.complete and stat.size == self.size

    def delete(self) -> None:
        """Delete the bytes. If there are none, it is a no-op."""
        self.storage.delete(self.key)
