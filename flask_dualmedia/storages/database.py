"""Bytes as rows of 256 KiB in the SQL database that keeps the records."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..databases.sqlstates import translate_errors
from ..databases.tables import MODELS, Tables
from ..repositories.sql import limited
from .base import Stat
from .chunked import CHUNK_SIZE, ChunkedStorage, ChunkRange

_KEYS_AT_ONCE = 1000
DELETED_AT_ONCE = 256


class DatabaseStorage(ChunkedStorage):
    """Bytes in the table ``media_chunks``, through any database and driver that SQLAlchemy knows.

    On PostgreSQL with psycopg 3 use :class:`~flask_dualmedia.storages.psycopg.PsycopgStorage`,
    which is this one with faster wire formats.
    """

    def __init__(
        self, engine: sa.Engine, *, timeout: float | None = None, tables: Tables = MODELS
    ) -> None:
        """
        :param timeout: Seconds that one batch may take, ``None`` for any number.
        :param tables: The table is one of them.
        """
        self._engine, self._timeout, self._table = engine, timeout, tables.chunks
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")

    def discard(self, key: str) -> bool:
        # Batch by batch: one statement about gigabytes would take longer than a server may that is
        # not down.
        total = deleted = self._delete_some(key)
        while deleted == DELETED_AT_ONCE:
            deleted = self._delete_some(key)
        return total > 0

    def _delete_some(self, key: str) -> int:
        next_ones = (
            sa.select(self._table.c.seq)
            .where(self._table.c.storage_key == key)
            .order_by(self._table.c.seq)
        )
        query = sa.delete(self._table).where(self._table.c.storage_key == key)
        with self._connect() as connection:
            return connection.execute(
                query.where(self._table.c.seq.in_(next_ones.limit(DELETED_AT_ONCE)))
            ).rowcount

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        key, seq = self._table.c.storage_key, self._table.c.seq
        columns = (
            key,
            sa.func.count(),
            sa.func.max(seq),
            sa.func.sum(sa.func.length(self._table.c.data)),
        )
        with self._connect() as connection:
            rows = connection.execute(sa.select(*columns).where(key.in_(keys)).group_by(key)).all()
        return {found: Stat(int(size), count == last + 1) for found, count, last, size in rows}

    def keys(self, after: str = "") -> Iterator[str]:
        key = self._table.c.storage_key
        while True:
            # The smallest key behind the last one, again and again, is a skip through the primary
            # key; DISTINCT would read an entry for every chunk.
            smallest = (
                sa.select(key.label("key")).where(key > after).order_by(key).limit(1).subquery()
            )
            found = sa.select(smallest.c.key).cte("found", recursive=True)
            behind = (
                sa.select(key).where(key > found.c.key).order_by(key).limit(1).scalar_subquery()
            )
            found = found.union_all(sa.select(behind).where(found.c.key.is_not(None)))
            query = sa.select(found.c.key).where(found.c.key.is_not(None)).limit(_KEYS_AT_ONCE)
            with self._connect() as connection:
                page = connection.execute(query).scalars().all()
            yield from page
            if len(page) < _KEYS_AT_ONCE:
                return
            after = page[-1]

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        with (
            translate_errors(),
            self._single.connect() as connection,
            limited(connection, self._timeout),
        ):
            yield connection

    def _write(self, key: str, seq: int, batch: list[memoryview]) -> None:
        rows = [
            {"storage_key": key, "seq": seq + n, "data": bytes(chunk)}
            for n, chunk in enumerate(batch)
        ]
        with translate_errors(), self._engine.begin() as connection:
            connection.execute(_insert_chunks(self._table, self._engine.dialect.name), rows)

    def _read(self, key: str, wanted: ChunkRange) -> list[bytes]:
        query = select_chunks(key, wanted, self._table)
        with self._connect() as connection:
            return list(connection.execute(query).scalars())


@cache
def _insert_chunks(table: sa.Table, dialect: str) -> sa.Insert:
    """The statement that keeps chunks, but those that are there."""
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return sa.insert(table)


def select_chunks(
    key: str, wanted: ChunkRange, table: sa.Table = MODELS.chunks
) -> sa.Select[t.Any]:
    """The statement for a range of bytes. The server cuts the first and the last chunk."""
    data: sa.ColumnElement[bytes] = table.c.data
    begin, end = wanted.start - wanted.first * CHUNK_SIZE, wanted.stop - wanted.last * CHUNK_SIZE
    if begin or end != CHUNK_SIZE:
        skipped = sa.case((table.c.seq == wanted.first, begin), else_=0)
        until = sa.case((table.c.seq == wanted.last, end), else_=CHUNK_SIZE)
        data = sa.func.substr(data, skipped + 1, until - skipped, type_=sa.LargeBinary)
    query = sa.select(data).where(
        table.c.storage_key == key, table.c.seq.between(wanted.first, wanted.last)
    )
    return query.order_by(table.c.seq)
