"""The home of dual mode as requests see it: SQL while it answers, and the journal while it does
not."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass

from ..databases.circuit import Circuit
from ..errors import DatabaseUnavailable, WritesRefused
from ..models import MediaRecord, MediaVariant
from ..repositories.base import K, M, Values
from ..repositories.failover import FailoverRepository
from ..storages.failover import FailoverStorage
from .base import Home, Replaced
from .mongo import JournalHome
from .sql import SQLHome

_NOT_IN_SQL = (DatabaseUnavailable, WritesRefused)
"""SQL is gone, or does not do what it was asked: it is done in steps, which may end in the
journal."""


@dataclass(frozen=True)
class FailoverHome(Home[FailoverRepository, FailoverStorage]):
    """Media in SQL, or in the journal.

    Only SQL does anything in one step. Whatever is in the journal, or comes while SQL is down, is
    read and written in steps.
    """

    sql: SQLHome
    circuit: Circuit

    @property
    def takes_whole(self) -> bool:
        return self.circuit.takes_writes and self.sql.takes_whole

    def read(self, kind: type[M], media_id: uuid.UUID) -> tuple[M | None, bytes | None]:
        record, content = self._read_in_sql(kind, media_id)
        if record is None:
            return super().read(kind, media_id)
        return record, content

    def read_variant(
        self,
        kind: type[K],
        media_id: uuid.UUID,
        name: str,
        recipe: str,
    ) -> tuple[K | None, MediaVariant | None, bytes | None]:
        """An available record, one of its variants, and the bytes of that.

        A record in the journal has no variants. Nobody waits for SQL to say so.
        """
        if self.sql.takes_whole:
            with suppress(*_NOT_IN_SQL):
                found = self.circuit.read(
                    lambda: self.sql.read_variant(kind, media_id, name, recipe)
                )
                if found[0] is not None:
                    return found

        record = self.repository.get(kind, media_id)
        variant = None
        if record is not None and record.storage_key is not None:
            with suppress(*_NOT_IN_SQL):
                key = record.storage_key
                variant = self.repository.find_variant(media_id, key, name, recipe)
        return record, variant, None

    def add_whole(self, record: MediaRecord, content: list[bytes], *, keeps_id: bool) -> bool:
        def add() -> bool:
            return self.sql.add_whole(record, content, keeps_id=keeps_id)

        try:
            return self.circuit.guard(add)
        except WritesRefused:
            return False
        except DatabaseUnavailable as error:
            if error.was_sent and keeps_id:
                raise
            if error.was_sent:
                self.repository.forsake(record)
            return False

    def replace_whole(
        self,
        record: M,
        changes: Values,
        where: Values,
        content: list[bytes],
    ) -> Replaced[M] | None:
        def replace() -> Replaced[M] | None:
            return self.sql.replace_whole(record, changes, where, content)

        try:
            return self.circuit.guard(replace)
        except _NOT_IN_SQL:
            return None

    def check_room(self, identity: str | None, size: int) -> None:
        self.storage.check_room(identity, size)

    def _read_in_sql(self, kind: type[M], media_id: uuid.UUID) -> tuple[M | None, bytes | None]:
        """A record with its bytes, if SQL has it and gives both in one step."""
        if not self.sql.takes_whole:
            return None, None
        try:
            return self.circuit.read(lambda: self.sql.read(kind, media_id))
        except _NOT_IN_SQL:
            return None, None


def failover_home(
    sql: SQLHome,
    journal: JournalHome,
    circuit: Circuit,
    *,
    journals: bool,
) -> FailoverHome:
    """Make the home of media in dual mode.

    :param journals: Whether new media is accepted while SQL is down.
    """
    repository = FailoverRepository(
        sql.repository,
        journal.repository,
        circuit,
        journals=journals,
    )
    storage = FailoverStorage(sql.storage, journal.storage, circuit)
    return FailoverHome("SQL and the journal", repository, storage, sql, circuit)
