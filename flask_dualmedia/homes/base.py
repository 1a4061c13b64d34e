"""The places where media may live: a repository for the records, and a storage for the bytes."""

from __future__ import annotations

import typing as t
import uuid
from dataclasses import dataclass

from ..models import DATABASE, MediaRecord, MediaVariant
from ..repositories.base import K, M, Repository, Values
from ..storages.chunked import BatchedStorage
from ..storages.stored import Stored

R = t.TypeVar("R", bound=Repository, covariant=True)
S = t.TypeVar("S", bound=BatchedStorage, covariant=True)


class Replaced(t.NamedTuple, t.Generic[M]):
    """A record that has been given other bytes."""

    record: M
    """The record after the change."""
    is_clean: bool
    """Whether all of its old bytes are gone."""


@dataclass(frozen=True)
class Home(t.Generic[R, S]):
    """Records, and the bytes of those whose ``storage_type`` is ``database``.

    Any home reads and writes in steps: the record by its repository, and the bytes by its storage.
    Some can do both in one step.
    """

    name: str
    repository: R
    storage: S

    def original(self, record: MediaRecord) -> Stored | None:
        """The bytes that it keeps of a record; ``None`` if they are in another storage, or nowhere.

        The record may be one of another home, which has them under the same key.
        """
        if record.storage_key is None or record.storage_type != DATABASE:
            return None
        return Stored(self.storage, record.storage_key, record.file_size or 0)

    @property
    def takes_whole(self) -> bool:
        """Whether it writes a record and its bytes in one step at the moment, if they are few."""
        return False

    def read(self, kind: type[M], media_id: uuid.UUID) -> tuple[M | None, bytes | None]:
        """An available record, and its bytes if they came with it.

        :return: ``None`` for bytes that are to be read from the record's storage.
        """
        return self.repository.get(kind, media_id), None

    def read_variant(
        self,
        kind: type[K],
        media_id: uuid.UUID,
        name: str,
        recipe: str,
    ) -> tuple[K | None, MediaVariant | None, bytes | None]:
        """An available record, a variant of the bytes that it has now, and the bytes of that if
        they came with it.

        :param name: Name of the variant's preset.
        :return: ``None`` for bytes that are to be read from the variant's storage.
        """
        record = self.repository.get(kind, media_id)
        if record is None or record.storage_key is None:
            return record, None, None
        variant = self.repository.find_variant(media_id, record.storage_key, name, recipe)
        return record, variant, None

    def add_whole(self, record: MediaRecord, content: list[bytes], *, keeps_id: bool) -> bool:
        """Keep an available record with its bytes.

        :param keeps_id: As for :meth:`~flask_dualmedia.repositories.base.Repository.add`.
        :return: Whether that was done. If not, it may be done in steps, under the id and the key
            that the record has then: they are others if nobody knows whether it was done.
        :raises DatabaseUnavailable: Nobody knows, and the record has to keep its id.
        """
        return False

    def replace_whole(
        self,
        record: M,
        changes: Values,
        where: Values,
        content: list[bytes],
    ) -> Replaced[M] | None:
        """Change a record, if it still has the values of ``where``, with the bytes that it names.

        :return: ``None`` if it was not done, or if nobody knows. Then it may be done in steps, with
            the bytes under another key.
        """
        return None

    def check_room(self, identity: str | None, size: int) -> None:
        """Refuse bytes that have no place, before anything is written.

        :raises JournalFull: There is none for them.
        """


AnyHome = Home[t.Any, t.Any]
