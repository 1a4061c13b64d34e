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


def find(
    state: State,
    kind: type[M],
    media_id: uuid.UUID,
) -> tuple[M | None, bytes | None]:
    """An available record, and its bytes where they are no more than one chunk.

    :return: ``None`` for bytes that are to be read from the record's storage.
    """

    def select() -> tuple[t.Any, ...] | None:
        with _borrowed(state) as (repository, driver), driver.cursor(binary=True) as cursor:
            query = select_with_content(kind, CHUNK_SIZE, repository.tables)
            parameters = {"id": media_id}
            text = repository.text(query, parameters)
            return cursor.execute(text, parameters).fetchone()

    row = None
    if _is_ready(state):
        row = _try_to_read(state, select)
    if row is None:
        return state.repository.get(kind, media_id), None

    record = kind.from_row(row[:-1])
    content = row[-1]
    if content is None or len(content) != record.file_size:
        return record, None
    return record, content


def is_possible(state: State, storage: Storage) -> bool:
    """Tell whether an upload can be stored in one statement.

    It can if its bytes go to the database, and there is no quota to count them against.
    """
    settings = state.settings
    if settings.quota_per_identity is not None:
        return False
    if settings.quota_per_owner is not None:
        return False
    if state.circuit is None or not state.circuit.takes_writes:
        return False
    return _is_ready(state) and isinstance(storage, FailoverStorage)


def add(
    state: State,
    record: Media,
    blocks: list[bytes],
    *,
    keeps_id: bool,
) -> bool:
    """Keep an available record with its bytes.

    :param keeps_id: As for :meth:`~flask_dualmedia.repositories.base.Repository.add`.
    :return: Whether that was done. If not, and the answer of SQL was lost, the record has another
        id and another key now, under which it may go the long way.
    :raises DatabaseUnavailable: The answer of SQL was lost, and the record has to keep its id.
    """
    kind = type(record)
    values = record.values()
    chunks = _chunks(blocks)
    storable.check(kind, values)

    def insert() -> bool:
        with _borrowed(state) as (repository, driver):
            query = insert_record(kind, repository.tables)
            record_text = repository.text(query, values)
            table = repository.tables.chunks.name
            text = _text(_ADD, record_text, len(chunks), table)
            driver.execute(text, values | chunks)
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
            repository = t.cast(FailoverRepository, state.repository)
            repository.forsake(record)
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
            tables = repository.tables
            query, parameters = update_record(kind, media_id, changes, where, tables)
            record_text = repository.text(query, parameters)
            text = _text(_REPLACE, record_text, len(chunks), tables.chunks.name)
            return driver.execute(text, parameters | chunks).fetchone()

    row = _try(state, update)
    if row is None:
        return None
    record = kind.from_row(row[:-1])
    deleted = row[-1]
    return record, 0 < deleted < DELETED_AT_ONCE


def _chunks(blocks: list[bytes]) -> dict[str, memoryview]:
    """The parameters for the bytes of chunks."""
    chunks = split(blocks, CHUNK_SIZE)
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


def _is_ready(state: State) -> bool:
    """Tell whether there is such a database, and it answers."""
    if not isinstance(state.homes[0].repository, PsycopgRepository):
        return False
    if state.circuit is None or state.circuit.is_open:
        return False
    return state.engine is not None and not is_heard(state.engine)


@contextmanager
def _borrowed(state: State) -> Iterator[tuple[PsycopgRepository, Driver]]:
    """The repository, and a connection for its statements."""
    assert state.engine is not None
    repository = t.cast(PsycopgRepository, state.homes[0].repository)
    timeout = state.settings.sql_timeout
    with translate_errors(), borrow(state.engine, timeout) as driver:
        yield repository, driver


def _try(
    state: State,
    write: Callable[[], T],
) -> T | None:
    """The result of a statement that writes; ``None`` if SQL does not do it."""
    assert state.circuit is not None
    try:
        return state.circuit.guard(lambda: insisting(write))
    except (DatabaseUnavailable, WritesRefused):
        return None


def _try_to_read(
    state: State,
    read: Callable[[], T],
) -> T | None:
    """The result of a statement that reads; ``None`` if SQL does not do it."""
    assert state.circuit is not None
    try:
        return state.circuit.read(read)
    except (DatabaseUnavailable, WritesRefused):
        return None
