"""The home of dual mode as requests see it: SQL while it answers, and the journal while it does
not."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from ..databases.circuit import Circuit
from ..errors import DatabaseUnavailable, WritesRefused
from ..models import MediaRecord
from ..repositories.base import M, Values
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
