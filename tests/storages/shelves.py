"""A storage class of a host's, which knows of our package nothing but the contract."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Iterator

from flask_dualmedia.errors import BytesNotFound
from flask_dualmedia.storages.base import Stat


class Shelf:
    """Bytes in the memory of one process.

    :param label: Says which of the shelves it is.
    :param password: Opens it.
    """

    contents: t.ClassVar[dict[str, dict[str, bytes]]] = {}

    def __init__(self, label: str, *, password: str = "") -> None:
        if password == "wrong":
            raise ValueError(f"{password!r} is the wrong password")
        self._contents = self.contents.setdefault(label, {})

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        self._contents[key] = b"".join(blocks)

    def open(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        content = self._contents.get(key, b"")
        if start < stop and stop > len(content):
            raise BytesNotFound(key)
        return iter([content[start:stop]])

    send = open

    def delete(self, key: str) -> None:
        self._contents.pop(key, None)

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        present = [key for key in keys if key in self._contents]
        return {key: Stat(len(self._contents[key])) for key in present}

    def keys(self, after: str = "") -> Iterator[str]:
        return iter(sorted(key for key in self._contents if key > after))

    def close(self) -> None:
        """Nothing is open."""
