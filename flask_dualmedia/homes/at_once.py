"""Records together with their bytes, where both are in the same PostgreSQL database and the bytes
are few.

They are read in one statement and written in one: nothing of an upload is there before all of it
is, and one answer is waited for. What is in the journal, or comes while SQL is down, goes the long
way, and so does what SQL has no such record of.
"""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from ..databases import storable
from ..databases.connections import borrow, is_heard
from ..databases.sqlstates import translate_errors
from ..errors import DatabaseUnavailable, WritesRefused
from ..models import Media
from ..repositories.base import M, Values
from ..repositories.failover import FailoverRepository
from ..repositories.psycopg import PsycopgRepository
from ..repositories.sql import insert_record, insisting, select_with_content, update_record
from ..state import State
from ..storages.base import Storage
from ..storages.chunked import CHUNK_SIZE, split
from ..storages.database import DELETED_AT_ONCE
from ..storages.failover import FailoverStorage

if t.TYPE_CHECKING:
    from ..databases.connections import Driver

T = t.TypeVar("T")

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


def find(state: State, kind: type[M], media_id: uuid.UUID) -> tuple[M | None, bytes | None]:
    """An available record, and its bytes where they are no more than one chunk.

    :return: ``None`` for bytes that are to be read from the record's storage.
    """

    def select() -> tuple[t.Any, ...] | None:
        with _borrowed(state) as (repository, driver), driver.cursor(binary=True) as cursor:
            query, given = (
                select_with_content(kind, CHUNK_SIZE, repository.tables),
                {"id": media_id},
            )
            return cursor.execute(repository.text(query, given), given).fetchone()

    row = _try_to_read(state, select) if _is_ready(state) else None
    if row is None:
        return state.repository.get(kind, media_id), None
    record, content = kind.from_row(row[:-1]), row[-1]
    return record, content if content is not None and len(content) == record.file_size else None


def is_possible(state: State, storage: Storage) -> bool:
    """Whether an upload is, of bytes that go to this storage and count for no quota."""
    settings = state.settings
    limited = settings.quota_per_identity is not None or settings.quota_per_owner is not None
    takes_writes = state.circuit is not None and state.circuit.takes_writes
    return (
        _is_ready(state) and takes_writes and not limited and isinstance(storage, FailoverStorage)
    )


def add(state: State, record: Media, blocks: list[bytes], *, keeps_id: bool) -> bool:
    """Keep an available record with its bytes.

    :param keeps_id: As of :meth:`~flask_dualmedia.repositories.base.Repository.add`.
    :return: Whether that was done. If not, and the answer of SQL was lost, the record has another
        id and another key now, under which it may go the long way.
    :raises DatabaseUnavailable: The answer of SQL was lost, and the record has to keep its id.
    """
    values, chunks = record.values(), _chunks(blocks)
    storable.check(type(record), values)

    def insert() -> bool:
        with _borrowed(state) as (repository, driver):
            query = repository.text(insert_record(type(record), repository.tables), values)
            driver.execute(
                _text(_ADD, query, len(chunks), repository.tables.chunks.name), values | chunks
            )
        return True

    assert state.circuit is not None
    try:
        return state.circuit.guard(lambda: insisting(insert))
    except WritesRefused:
        return False
    except DatabaseUnavailable as error:
        if error.was_sent and keeps_id:
            raise
        if error.was_sent:
            t.cast(FailoverRepository, state.repository).forsake(record)
        return False


def replace(
    state: State,
    kind: type[M],
    media_id: uuid.UUID,
    changes: Values,
    where: Values,
    blocks: list[bytes],
) -> tuple[M, bool] | None:
    """Change a record, if it still has the values of ``where``, with the bytes that it names.

    :return: The record after the change, and whether all of its old bytes are gone; ``None`` if SQL
        does not have it, or does not answer.
    """
    chunks = _chunks(blocks)
    storable.check(kind, changes)

    def update() -> tuple[t.Any, ...] | None:
        with _borrowed(state) as (repository, driver):
            query, given = update_record(kind, media_id, changes, where, repository.tables)
            table = repository.tables.chunks.name
            text = _text(_REPLACE, repository.text(query, given), len(chunks), table)
            return driver.execute(text, given | chunks).fetchone()

    row = _try(state, update)
    return None if row is None else (kind.from_row(row[:-1]), 0 < row[-1] < DELETED_AT_ONCE)


def _chunks(blocks: list[bytes]) -> dict[str, memoryview]:
    return {f"chunk{number}": chunk for number, chunk in enumerate(split(blocks, CHUNK_SIZE))}


@cache
def _text(template: str, record: str, chunks: int, table: str) -> t.LiteralString:
    """One of the statements above, around one about a record, with so many chunks for this
    table."""
    rows = ", ".join(f"({seq}, %(chunk{seq})b)" for seq in range(chunks))
    keep = _KEEP.format(table=table, chunks=rows)
    return t.cast(
        "t.LiteralString",
        template.format(record=record, keep=keep, table=table, limit=DELETED_AT_ONCE),
    )


def _is_ready(state: State) -> bool:
    """Whether there is such a database, and it answers."""
    speaks = isinstance(state.homes[0].repository, PsycopgRepository)
    closed = state.circuit is not None and not state.circuit.is_open
    return speaks and closed and state.engine is not None and not is_heard(state.engine)


@contextmanager
def _borrowed(state: State) -> Iterator[tuple[PsycopgRepository, Driver]]:
    assert state.engine is not None
    repository = t.cast(PsycopgRepository, state.homes[0].repository)
    with translate_errors(), borrow(state.engine, state.settings.sql_timeout) as driver:
        yield repository, driver


def _try(state: State, write: Callable[[], T]) -> T | None:
    assert state.circuit is not None
    try:
        return state.circuit.guard(lambda: insisting(write))
    except (DatabaseUnavailable, WritesRefused):
        return None


def _try_to_read(state: State, read: Callable[[], T]) -> T | None:
    assert state.circuit is not None
    try:
        return state.circuit.read(read)
    except (DatabaseUnavailable, WritesRefused):
        return None
