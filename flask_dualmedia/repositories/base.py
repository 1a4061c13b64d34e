"""The contract that every repository of media records keeps."""

from __future__ import annotations

import typing as t
import uuid
from dataclasses import dataclass, field
from datetime import datetime

from ..models import Media, MediaRecord, MediaVariant

M = t.TypeVar("M", bound=MediaRecord)
K = t.TypeVar("K", bound=Media)

Values = t.Mapping[str, t.Any]

Accesses = tuple[int, datetime]
"""A number of accesses, and when the last of them was."""
Selection = t.Mapping[type[Media], Values]
"""By kind, fields and the values they must have."""

Position = tuple[t.Any, uuid.UUID]
"""A place in a sorted list: the value sorted by, and the id that breaks ties."""


class Announced(t.NamedTuple):
    """Uploads that have begun and not ended."""

    number: int = 0
    size: int = 0
    """How many bytes they are to have, or have already."""


class Records(list[M]):
    """A list of records that may lack some."""

    partial: bool = False
    """True if a database did not answer, and records of it may be missing."""

    @classmethod
    def of(
        cls,
        records: t.Iterable[M],
        *,
        partial: bool = False,
    ) -> Records[M]:
        """A list of these records, which says whether it is partial."""
        result = cls(records)
        result.partial = partial
        return result


EVERYTHING: t.Final = object()
"""For :attr:`Listing.visible_to`: no record is hidden."""


@dataclass(frozen=True)
class Listing(t.Generic[M]):
    """Which records to list, and in which order."""

    kind: type[M]
    where: Values = field(default_factory=dict)
    """Fields and the values they must have."""
    visible_to: t.Any = EVERYTHING
    """Identity whose own records are listed, beside the public ones; ``None`` for public ones
    alone."""
    sort: str = "id"
    """``id`` (by age), ``position`` or ``access_count``; ties are broken by id."""
    descending: bool = False
    after: Position | None = None
    """Start behind this place: a page costs the same however deep it is."""
    limit: int | None = None

    @property
    def shows_private(self) -> bool:
        """True if private records of :attr:`visible_to` can be among those listed, and not only
        public ones."""
        if self.visible_to is None:
            return False
        uploader = self.where.get("uploaded_by", self.visible_to)
        return uploader == self.visible_to


class Repository(t.Protocol):
    """Keeps media records. Bytes are no business of it.

    All methods raise :class:`~flask_dualmedia.errors.DatabaseUnavailable` when the database does
    not answer; no method reports that as a record not found. Readers see ``available`` records
    unless they say otherwise.

    Where a database answers and does not do what it is asked, they raise another
    :class:`~flask_dualmedia.errors.Unavailable`. New records and changes that break a rule of the
    fields raise :class:`~flask_dualmedia.errors.InvalidMediaRecord` before anything is sent.
    """

    def version(self) -> str:
        """Ask the server for its version, as proof that it answers."""
        ...

    def add(self, record: MediaRecord, *, keeps_id: bool = False) -> None:
        """Keep a new record.

        :param keeps_id: Somebody knows its id already. Otherwise the record has another id
            afterwards, and another storage key, where a database took it and did not answer, so
            that another one had to keep it.
        :raises MediaConflict: Its id is taken, or it would be a second main image, or the same
            variant as another one.
        """
        ...

    def add_all(self, records: t.Sequence[MediaRecord]) -> None:
        """Keep new records of one kind, all or none.

        :raises MediaConflict: As :meth:`add`.
        """
        ...

    def get(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        """The available record with this id; ``None`` if there is none."""
        ...

    def select(self, listing: Listing[M]) -> Records[M]:
        """Available records, sorted and cut as the listing says."""
        ...

    def of_owners(
        self,
        kinds: t.Sequence[type[Media]],
        reference_type: str | None,
        ids: t.Sequence[str],
    ) -> Records[Media]:
        """All available records of these kinds that belong to any of the owners.

        They come from one query where the database can do that. Those of one owner and kind come in
        the order of the kind.

        :param reference_type: Type of the owners, needed where a kind does not fix it.
        """
        ...

    def update(
        self,
        kind: type[M],
        media_id: uuid.UUID,
        changes: Values,
        *,
        where: Values,
    ) -> M | None:
        """Change a record in one step, if it still has the values of ``where``, which names at
        least the state.

        The record gets the next version, unless ``changes`` has one.

        :return: The record after the change; ``None`` if there is none with these values.
        :raises MediaConflict: It would be a second main image, or the same variant as another one.
        """
        ...

    def bury(self, kind: type[MediaRecord], media_id: uuid.UUID) -> None:
        """Empty a ``deleting`` record whose bytes are gone.

        Its id stays taken for the grace time: nothing that arrives late brings it back.
        """
        ...

    def remove(self, kind: type[MediaRecord], media_id: uuid.UUID) -> None:
        """Forget a record in any state. A missing one is a no-op."""
        ...

    def count_access(
        self,
        kind: type[MediaRecord],
        media_id: uuid.UUID,
        at: datetime,
        number: int = 1,
    ) -> bool:
        """Add to the access count of an available record; false if there is none."""
        ...

    def add_accesses(
        self,
        kind: type[MediaRecord],
        counts: t.Mapping[uuid.UUID, Accesses],
    ) -> dict[uuid.UUID, bool]:
        """Add to the access counts of many available records at once.

        :param counts: By id, at least one.
        :return: Whether there was such a record, by id. An id that is left out is to be tried
            again: its record is just being moved, or in a database that does not answer.
        """
        ...

    def find(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        """The record with this id in any state, buried ones included; ``None`` if there is none."""
        ...

    def find_variant(
        self,
        media_id: uuid.UUID,
        source_key: str,
        name: str,
        recipe: str,
    ) -> MediaVariant | None:
        """The available variant of an original; ``None`` if there is none.

        There is at most one. :meth:`add` and :meth:`update` raise
        :class:`~flask_dualmedia.errors.MediaConflict` for a second one.

        :param source_key: Storage key of the bytes that it was made from.
        """
        ...

    def variants_of(self, ids: t.Sequence[uuid.UUID]) -> list[MediaVariant]:
        """The variants of the originals with these ids, in any state but without those that are
        buried."""
        ...

    def derived_size(self, ids: t.Sequence[uuid.UUID]) -> int:
        """The sum of the sizes of the available variants of the originals with these ids.

        While SQL is down it is 0.
        """
        ...

    def keys_of(
        self,
        kind: type[MediaRecord],
        ids: t.Sequence[uuid.UUID],
    ) -> list[str | None]:
        """The storage keys of the records with these ids, in any state.

        Ids without a record are left out. A record without bytes gives ``None``.
        """
        ...

    def scan(
        self,
        kind: type[M],
        after: uuid.UUID | None,
        limit: int,
    ) -> list[M]:
        """Records in any state, sorted by id, from behind ``after``.

        :param limit: Fewer come only at the end.
        """
        ...

    def unfinished(
        self,
        kind: type[M],
        before: datetime,
        limit: int,
        after: Position | None = None,
    ) -> list[M]:
        """Records pending or deleting, and last changed before a time, oldest first.

        :param after: Start behind this time of the last change, and this id.
        """
        ...

    def trashed(
        self,
        kind: type[M],
        after: uuid.UUID | None,
        limit: int,
    ) -> list[M]:
        """Records in the trash, sorted by id, from behind ``after``."""
        ...

    def count(self, kind: type[MediaRecord]) -> int:
        """How many records there are, in any state, without those that are buried or in the
        trash."""
        ...

    def count_by_storage(self, kind: type[MediaRecord]) -> dict[str, int]:
        """How many records have bytes in each storage, in any state, by the name of the storage."""
        ...

    def count_trashed(self, kind: type[MediaRecord]) -> int:
        """How many records are in the trash."""
        ...

    def announced(
        self,
        uploaded_by: str,
        since: datetime,
        but: uuid.UUID | None,
    ) -> Announced:
        """The pending records of an uploader that say which bytes are to come.

        :param since: Those that were not changed since then are left out.
        :param but: Id of one that is left out.
        """
        ...

    def stored_size(self, selection: Selection) -> int:
        """The sum of the sizes of the available records that match and whose bytes we keep.

        While SQL is down it is that of the journal alone. While the journal is moved into SQL, a
        record that is just being moved may count twice.
        """
        ...
