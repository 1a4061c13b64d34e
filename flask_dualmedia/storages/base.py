"""The contract that every storage of bytes keeps."""

from __future__ import annotations

import typing as t
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from secrets import token_hex

from ..databases.shapes import owner_of_key as owner_of_key
from ..models import new_id


@dataclass(frozen=True)
class Stat:
    """The facts that a storage has about the bytes under a key."""

    size: int
    """In bytes."""
    complete: bool = True
    """True if every chunk from the first to the last is there."""
    checksum: str | None = None
    """SHA-256 hex of the bytes, where the storage computed it itself when they came."""


def merge_stats(
    first: dict[str, Stat],
    second: dict[str, Stat],
) -> dict[str, Stat]:
    """The facts of two storages in one.

    Each key has those of the storage that has all of its bytes; of the second, if both or neither
    has.
    """
    merged = first | second
    for key, stat in first.items():
        if stat.complete and not merged[key].complete:
            merged[key] = stat
    return merged


class Storage(t.Protocol):
    """Keeps bytes under generated keys. Whom they belong to is no business of it.

    All methods raise :class:`~flask_dualmedia.errors.StorageUnavailable` when the server behind it
    does not answer, and :class:`~flask_dualmedia.errors.StorageError` when it fails otherwise.
    Several threads call them at once, and so do processes that were forked.

    If reading costs neither money nor a quota, the class says so by an attribute
    ``is_free_to_read = True``. The bytes are then compared with their checksums in the background.

    Hosts may bring classes of their own, and try them with
    :func:`flask_dualmedia.testing.check_storage`.
    """

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """Keep the bytes of ``blocks``, whatever their sizes, under a key that was made for them.

        Memory does not grow with the file. An error of ``blocks`` passes through; what was kept
        until then stays under the key, for the caller to delete, or to complete by putting the same
        bytes there again.
        """
        ...

    def open(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of the range ``[start, stop)``, in pieces. No more is read than asked for, and
        nothing of an empty range.

        The first piece is read at once, so that errors come before the caller has promised anything
        to anybody, and no database is held between two pieces: a slow reader costs no connection to
        it.

        :raises BytesNotFound: There is nothing under the key, or the range reaches beyond its end.
            If the range is long, that may be found out on the way.
        """
        ...

    def send(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """The same for a client.

        A database may be held between two pieces, for as long as the client is fast, and for a
        moment longer.
        """
        ...

    def delete(self, key: str) -> None:
        """Delete the bytes under a key. A missing key is a no-op."""
        ...

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        """The facts about the bytes under each of these keys, in one query; keys without bytes are
        left out."""
        ...

    def keys(self, after: str = "") -> Iterator[str]:
        """Every key that sorts behind ``after``, sorted; those of unfinished uploads too."""
        ...

    def close(self) -> None:
        """Close the connections that were opened for this storage alone.

        If it is asked again, it opens others.
        """
        ...


PRESIGNED_SECONDS = 300
"""How long a URL that clients are redirected to can be used. A download that has begun goes on."""


@dataclass(frozen=True)
class Delegation:
    """An answer in which another server sends the bytes, and obeys ``Range`` too."""

    status: int
    headers: t.Mapping[str, str]


@t.runtime_checkable
class DelegatingStorage(Storage, t.Protocol):
    """A storage that may have another server send its bytes."""

    def delegate(
        self,
        key: str,
        content_type: str,
        disposition: str,
    ) -> Delegation | None:
        """How to have the bytes sent to a client that we have found entitled to them.

        :param content_type: The ``Content-Type`` that they must be sent with, and no other.
        :param disposition: The same for ``Content-Disposition``.
        :return: ``None`` to send them ourselves.
        """
        ...


@dataclass(frozen=True)
class Ticket:
    """A ``PUT`` request that a client may send to a storage once."""

    url: str
    headers: t.Mapping[str, str]
    """Headers that it must have, exactly these."""


@t.runtime_checkable
class DirectStorage(Storage, t.Protocol):
    """A storage that takes bytes from clients, without us in between."""

    max_direct_size: int
    """Largest file in bytes that it takes so."""

    def ticket(
        self,
        key: str,
        *,
        size: int,
        mime_type: str,
        checksum: str,
        seconds: float,
    ) -> Ticket:
        """The right to put these bytes, and no others, under a key that has none.

        :param size: How many bytes there must be.
        :param mime_type: The ``Content-Type`` that they must come with.
        :param checksum: SHA-256 hex that they must have.
        :param seconds: How long the request may be begun.
        """
        ...


_OF_CLIENT = "f"
"""Last digit of keys under which clients put bytes themselves, and of no others."""


def new_key(media_id: uuid.UUID, *, of_client: bool = False) -> str:
    """A storage key for bytes of the record with this id. A record whose content is replaced gets
    another one.

    It says whose it is and when it was made, so that bytes without a record can be judged by their
    key.

    :param of_client: A client gets a ticket for it.
    """
    time_digits = new_id().hex[:12]
    random_digits = token_hex(2)
    last = random_digits[3].replace(_OF_CLIENT, "0")
    if of_client:
        last = _OF_CLIENT
    return f"{media_id.hex}-{time_digits}{random_digits[:3]}{last}"


def is_of_client(key: str) -> bool:
    """Tell whether a client got a ticket for a key. Some keys that an earlier version made seem to
    be such."""
    return key.endswith(_OF_CLIENT)


class AbstractStorage(ABC):
    """The parts that the storages here have in common."""

    is_free_to_read: t.ClassVar[bool] = False

    def open(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        if start >= stop:
            return iter(())
        return self._begun(self._pieces(key, start, stop))

    def send(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        return self.open(key, start, stop)

    def _begun(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces, after the first has been read."""
        first = next(pieces)
        return self._after(first, pieces)

    def _after(self, first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
        yield first
        yield from pieces

    def close(self) -> None:  # noqa: B027 - most have nothing of their own to close
        """Nothing is open for this storage alone."""

    def stat(self, key: str) -> Stat | None:
        """The facts about the bytes under a key, ``None`` if there are none."""
        return self.stats([key]).get(key)

    @abstractmethod
    def put(self, key: str, blocks: Iterable[bytes]) -> None: ...

    @abstractmethod
    def delete(self, key: str) -> None: ...

    @abstractmethod
    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]: ...

    @abstractmethod
    def keys(self, after: str = "") -> Iterator[str]: ...

    @abstractmethod
    def _pieces(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of a range that is not empty. Nothing is read before the first is asked for."""
