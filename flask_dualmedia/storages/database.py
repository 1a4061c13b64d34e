"""Bytes as rows of 256 KiB in the SQL database that keeps the records."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from functools import cache

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..databases.sql import SQLDatabase
from ..databases.tables import MODELS, Tables
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
        self,
        database: sa.Engine | SQLDatabase,
        *,
        tables: Tables = MODELS,
    ) -> None:
        """
        :param database: Its limit of time is that of one batch.
        :param tables: The table is one of them.
        """
        self._database = SQLDatabase.of(database)
        self._table = tables.chunks

    def discard(self, key: str) -> bool:
        """Delete the bytes under a key, 256 chunks by each transaction, the first ones first."""
        # Batch by batch: one statement about gigabytes would take longer than a server may that is
        # not down.
        deleted = self._delete_some(key)
        total = deleted
        while deleted == DELETED_AT_ONCE:
            deleted = self._delete_some(key)
        return total > 0

    def _delete_some(self, key: str) -> int:
        """Delete the first chunks under a key.

        :return: How many there were.
        """
        columns = self._table.c
        has_key = columns.storage_key == key
        first_ones = sa.select(columns.seq).where(has_key)
        first_ones = first_ones.order_by(columns.seq)
        first_ones = first_ones.limit(DELETED_AT_ONCE)
        query = sa.delete(self._table).where(
            has_key,
            columns.seq.in_(first_ones),
        )
        with self._database.autocommit() as connection:
            result = connection.execute(query)
            return result.rowcount

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        """The sizes of the bytes under each key, summed up by the database in one statement."""
        columns = self._table.c
        query = sa.select(
            columns.storage_key,
            sa.func.count(),
            sa.func.max(columns.seq),
            sa.func.sum(sa.func.length(columns.data)),
        )
        query = query.where(columns.storage_key.in_(keys))
        query = query.group_by(columns.storage_key)
        with self._database.autocommit() as connection:
            result = connection.execute(query)
            rows = result.all()

        stats = {}
        for key, count, last, size in rows:
            is_complete = count == last + 1
            stats[key] = Stat(int(size), is_complete)
        return stats

    def keys(self, after: str = "") -> Iterator[str]:
        while True:
            query = _select_keys(self._table.c.storage_key, after)
            with self._database.autocommit() as connection:
                result = connection.execute(query)
                page = result.scalars().all()
            yield from page
            if len(page) < _KEYS_AT_ONCE:
                return
            after = page[-1]

    def _write(self, key: str, seq: int, batch: list[memoryview]) -> None:
        """Keep chunks in one transaction."""
        rows = [
            {
                "storage_key": key,
                "seq": number,
                "data": bytes(chunk),
            }
            for number, chunk in enumerate(batch, start=seq)
        ]
        with self._database.begin() as connection:
            query = _insert_chunks(self._table, self._database.product)
            connection.execute(query, rows)

    def _read(self, key: str, chunk_range: ChunkRange) -> list[bytes]:
        query = select_chunks(key, chunk_range, self._table)
        with self._database.autocommit() as connection:
            result = connection.execute(query)
            return list(result.scalars())


def _select_keys(
    key: sa.Column[str],
    after: str,
) -> sa.Select[t.Any]:
    """The statement for the next keys behind one.

    The smallest key behind the last one, again and again, is a skip through the primary key;
    DISTINCT would read an entry for every chunk.
    """
    smallest = sa.select(key.label("key")).where(key > after)
    smallest = smallest.order_by(key).limit(1)
    first = sa.select(smallest.subquery().c.key)
    found = first.cte("found", recursive=True)

    behind = sa.select(key).where(key > found.c.key)
    behind = behind.order_by(key).limit(1)
    next_one = sa.select(behind.scalar_subquery())
    next_one = next_one.where(found.c.key.is_not(None))
    found = found.union_all(next_one)

    query = sa.select(found.c.key)
    query = query.where(found.c.key.is_not(None))
    return query.limit(_KEYS_AT_ONCE)


@cache
def _insert_chunks(table: sa.Table, dialect: str) -> sa.Insert:
    """The statement that keeps chunks, but those that are there.

    Databases besides PostgreSQL and SQLite refuse a chunk that is there.
    """
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return sa.insert(table)


def select_chunks(
    key: str,
    chunk_range: ChunkRange,
    table: sa.Table = MODELS.chunks,
) -> sa.Select[t.Any]:
    """The statement for a range of bytes. The server cuts the first and the last chunk.

    Chunks that are missing are left out.
    """
    first = chunk_range.first
    last = chunk_range.last
    begin = chunk_range.start - first * CHUNK_SIZE
    end = chunk_range.stop - last * CHUNK_SIZE

    seq = table.c.seq
    data: sa.ColumnElement[bytes] = table.c.data
    if begin or end != CHUNK_SIZE:
        skipped = sa.case((seq == first, begin), else_=0)
        until = sa.case((seq == last, end), else_=CHUNK_SIZE)
        data = sa.func.substr(
            data,
            skipped + 1,
            until - skipped,
            type_=sa.LargeBinary,
        )

    query = sa.select(data).where(
        table.c.storage_key == key,
        seq.between(first, last),
    )
    return query.order_by(seq)
