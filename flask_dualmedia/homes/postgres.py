"""The home in PostgreSQL: a record and its bytes in one statement, where the bytes are few.

Nothing of an upload is there before all of it is, and one answer is waited for.
"""

from __future__ import annotations

import typing as t
import uuid
from dataclasses import dataclass
from functools import cache

from ..databases import storable
from ..databases.sql import insisting
from ..failpoints import reach
from ..models import MediaRecord, MediaVariant
from ..repositories.base import K, M, Values
from ..repositories.psycopg import PsycopgRepository
from ..repositories.statements import (
    Query,
    insert_record,
    select_with_content,
    select_with_variant,
    update_record,
)
from ..storages.chunked import CHUNK_SIZE, split
from ..storages.database import DELETED_AT_ONCE
from ..storages.psycopg import PsycopgStorage
from .base import Home, Replaced

_ADD = "WITH record AS ({record}) {keep}"
# It gives the record, and how many of its old chunks were deleted.
_REPLACE = """
    WITH record AS ({record}), kept AS ({keep}), deleted AS (
        DELETE FROM {table}
        WHERE storage_key = %(storage_key_)s AND seq < {limit} AND EXISTS (SELECT FROM record)
        RETURNING seq
    ) SELECT record.*, (SELECT count(*) FROM deleted) FROM record
"""
_KEEP = """
    INSERT INTO {table} (storage_key, seq, data)
    SELECT %(storage_key)s, seq, data FROM record, (VALUES {chunks}) AS chunks (seq, data)
"""


@dataclass(frozen=True)
class PostgresHome(Home[PsycopgRepository, PsycopgStorage]):
    """Tables and chunks of one PostgreSQL database, spoken to by psycopg 3."""

    @property
    def takes_whole(self) -> bool:
        """Whether it does both in one step: not where somebody listens to the statements."""
        return not self.repository.database.is_heard

    def read(self, kind: type[M], media_id: uuid.UUID) -> tuple[M | None, bytes | None]:
        """An available record, and its bytes if they are no more than one chunk."""
        query = select_with_content(kind, CHUNK_SIZE, self.repository.tables)
        row = self._read_row(query, {"id": media_id})
        if row is None:
            return None, None
        record = kind.from_row(row[:-1])
        return record, _whole(record, row[-1])

    def read_variant(
        self,
        kind: type[K],
        media_id: uuid.UUID,
        name: str,
        recipe: str,
    ) -> tuple[K | None, MediaVariant | None, bytes | None]:
        """An available record, one of its variants, and the bytes of that if they are no more than
        one chunk."""
        query = select_with_variant(kind, CHUNK_SIZE, self.repository.tables)
        row = self._read_row(query, {"id": media_id, "name": name, "recipe": recipe})
        if row is None:
            return None, None, None

        width = len(kind.field_names())
        record = kind.from_row(row[:width])
        variant_columns = row[width:-1]
        if variant_columns[0] is None:  # one that is never empty
            return record, None, None
        variant = MediaVariant.from_row(variant_columns)
        return record, variant, _whole(variant, row[-1])

    def _read_row(self, query: Query, parameters: Values) -> tuple[t.Any, ...] | None:
        text = self.repository.text(query, parameters)
        with self.repository.database.borrow() as driver, driver.cursor(binary=True) as cursor:
            return cursor.execute(text, parameters).fetchone()

    def add_whole(self, record: MediaRecord, content: list[bytes], *, keeps_id: bool) -> bool:
        kind = type(record)
        values = record.values()
        storable.check(kind, values)
        chunks = _chunks(content)
        tables = self.repository.tables
        record_text = self.repository.text(insert_record(kind, tables), values)
        text = _text(_ADD, record_text, len(chunks), tables.chunks.name)

        def insert() -> None:
            with self.repository.database.borrow() as driver:
                reach("create:whole")
                driver.execute(text, values | chunks)
                reach("create:answered")

        insisting(insert)
        return True

    def replace_whole(
        self,
        record: M,
        changes: Values,
        where: Values,
        content: list[bytes],
    ) -> Replaced[M] | None:
        kind = type(record)
        storable.check(kind, changes)
        chunks = _chunks(content)
        tables = self.repository.tables
        query, values = update_record(kind, record.id, changes, where, tables)
        record_text = self.repository.text(query, values)
        text = _text(_REPLACE, record_text, len(chunks), tables.chunks.name)

        def update() -> tuple[t.Any, ...] | None:
            with self.repository.database.borrow() as driver:
                reach("replace:whole")
                row = driver.execute(text, values | chunks).fetchone()
                reach("replace:answered")
                return row

        row = insisting(update)
        if row is None:
            return None
        deleted = row[-1]
        return Replaced(kind.from_row(row[:-1]), 0 < deleted < DELETED_AT_ONCE)


def _whole(record: MediaRecord, content: bytes | None) -> bytes | None:
    """The bytes that came with a record, if they are all of them."""
    if content is None or len(content) != record.file_size:
        return None
    return content


def _chunks(content: list[bytes]) -> dict[str, memoryview]:
    """The parameters for the bytes of chunks."""
    chunks = split(content, CHUNK_SIZE)
    return {f"chunk{seq}": chunk for seq, chunk in enumerate(chunks)}


@cache
def _text(
    template: str,
    record: str,
    chunks: int,
    table: str,
) -> t.LiteralString:
    """One of the statements above, around one about a record, with so many chunks for this
    table."""
    rows = ", ".join(f"({seq}, %(chunk{seq})b)" for seq in range(chunks))
    keep = _KEEP.format(table=table, chunks=rows)
    text = template.format(
        record=record,
        keep=keep,
        table=table,
        limit=DELETED_AT_ONCE,
    )
    return t.cast("t.LiteralString", text)
