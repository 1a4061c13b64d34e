"""Bytes as rows in PostgreSQL, moved in the binary formats of psycopg 3."""

from __future__ import annotations

import time
import typing as t
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain, islice

import sqlalchemy as sa

from ..databases.deadlines import renew
from ..databases.sql import SQLDatabase
from ..databases.tables import MODELS, Tables
from ..errors import DatabaseBusy, DatabaseUnavailable, Unavailable
from ..processes.forks import begin_in_children
from .chunked import CHUNK_SIZE, WRITE_BATCH, ChunkRange, in_batches, split
from .database import DELETED_AT_ONCE, DatabaseStorage

if t.TYPE_CHECKING:
    import psycopg

    from ..databases.connections import Driver

    Cursor = psycopg.Cursor[tuple[t.Any, ...]]

_INSERT = "INSERT INTO {table} (storage_key, seq, data) VALUES (%s, %s, %b) ON CONFLICT DO NOTHING"
_DELETE = """
    DELETE FROM {table} WHERE storage_key = %(key)s AND seq IN
        (SELECT seq FROM {table} WHERE storage_key = %(key)s ORDER BY seq LIMIT %(limit)s)
"""
_WHOLE = """
    SELECT seq, data FROM {table}
    WHERE storage_key = %(key)s AND seq BETWEEN %(first)s AND %(last)s ORDER BY seq
"""
# The server cuts: of the first and the last chunk no byte more than asked for is sent, or even
# read.
_CUT = """
    SELECT seq, substring(data FROM CASE seq WHEN %(first)s THEN %(begin)s ELSE 0 END + 1
                          FOR CASE seq WHEN %(last)s THEN %(end)s ELSE %(chunk)s END
                            - CASE seq WHEN %(first)s THEN %(begin)s ELSE 0 END)
    FROM {table} WHERE storage_key = %(key)s AND seq BETWEEN %(first)s AND %(last)s ORDER BY seq
"""


STREAMED = 64
"""Chunks sent to a client from one statement: 16 MiB."""

STREAMS = 5
"""Clients served so at once where the engine has no pool."""

HELD = 2.0
"""Seconds that a connection is held for a client that takes chunks, or sends a batch.

A client must have done so in half of that. Otherwise the rest is moved in batches, between which no
connection is held. If a client stops altogether, its connection is cut.
"""


class PsycopgStorage(DatabaseStorage):
    """The same rows as :class:`DatabaseStorage`, in the binary format of psycopg.

    SQLAlchemy's text format for ``bytea`` takes three times as long.

    A token lets a connection be held for a client. There are half as many as the pool has
    connections.
    """

    def __init__(
        self,
        database: sa.Engine | SQLDatabase,
        *,
        tables: Tables = MODELS,
    ) -> None:
        super().__init__(database, tables=tables)
        self._texts = _Texts.about(tables.chunks.name)
        self._streams = STREAMS
        pool = self._database.engine.pool
        if isinstance(pool, sa.QueuePool):
            # Half of the pool is never held for clients; a pool that is none gives what is asked
            # for.
            self._streams = pool.size() // 2
        self._held = HELD
        if self._database.timeout is not None:
            self._held = min(HELD, self._database.timeout)
        self.begin_process()
        begin_in_children(self)

    def begin_process(self) -> None:
        """Serve as many clients at once as if none were served.

        The clients of a forked process's parent are not ours.
        """
        # Without a lock: iterators are closed wherever memory is cleaned up.
        self._tokens = deque([None] * self._streams)

    def _delete_some(self, key: str) -> int:
        parameters = {"key": key, "limit": DELETED_AT_ONCE}
        with self._database.borrow() as driver:
            return driver.execute(self._texts.delete, parameters).rowcount

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """Keep bytes, each chunk as it comes while the client is fast, and in batches otherwise.

        Up to 16 chunks are one transaction.
        """
        chunks = split(blocks, CHUNK_SIZE)
        seq = 0
        waiting: list[memoryview] = []
        with self._token() as has_token:
            if has_token:
                seq, waiting = self._write_as_they_come(key, chunks)

        rest = chain(waiting, chunks)
        for batch in in_batches(rest, WRITE_BATCH):
            self._write(key, seq, batch)
            seq += len(batch)

    @contextmanager
    def _token(self) -> Iterator[bool]:
        """Take a token, if one is left: with it a connection may be held for a client."""
        tokens = self._tokens
        try:
            tokens.pop()
        except IndexError:
            yield False
            return
        try:
            yield True
        finally:
            tokens.append(None)

    def _write_as_they_come(
        self,
        key: str,
        chunks: Iterator[memoryview],
    ) -> tuple[int, list[memoryview]]:
        """Keep chunks while they come fast.

        :return: The number of the next chunk, and what has come of the rest.
        """
        seq = 0
        for first in chunks:
            batch: list[memoryview] = []
            late: list[memoryview] = []
            patience = time.monotonic() + self._held / 2
            is_late = False
            try:
                with self._writing(self._held) as (driver, cursor):
                    for chunk in chain([first], islice(chunks, WRITE_BATCH - 1)):
                        if time.monotonic() > patience:
                            late.append(chunk)
                            break
                        batch.append(chunk)
                        last_seq = seq + len(batch) - 1
                        self._insert(cursor, key, last_seq, [chunk])
                    is_late = time.monotonic() > patience
                    if self._database.timeout is not None:
                        renew(driver, self._database.timeout)
            except (DatabaseUnavailable, DatabaseBusy):
                if not is_late:
                    raise
                return seq, [*batch, *late]  # the client was so late that the connection was cut
            seq += len(batch)
            if is_late:
                return seq, late
        return seq, []

    def _write(self, key: str, seq: int, batch: list[memoryview]) -> None:
        with self._writing() as (_, cursor):
            self._insert(cursor, key, seq, batch)

    @contextmanager
    def _writing(
        self,
        seconds: float | None = None,
    ) -> Iterator[tuple[Driver, Cursor]]:
        """A transaction in a pipeline: errors may come only at the end of the block."""
        with (
            self._database.borrow(seconds) as driver,
            driver.pipeline(),
            driver.transaction(),
            driver.cursor() as cursor,
        ):
            yield driver, cursor

    def _read(self, key: str, chunk_range: ChunkRange) -> list[bytes]:
        with self._database.borrow() as driver, driver.cursor(binary=True) as cursor:
            text, parameters = self._select(key, chunk_range)
            rows = cursor.execute(text, parameters)
            return [piece for _, piece in rows]

    def stream(
        self,
        key: str,
        start: int,
        stop: int,
    ) -> Generator[bytes, None, None]:
        """The bytes of a range while a token is left and the client is fast.

        It ends early, without an error, where bytes are missing or the database does not give them.
        """
        with self._token() as has_token:
            if not has_token:
                return
            for batch in ChunkRange(start, stop).batches(STREAMED):
                is_whole = yield from self._stream_some(key, batch)
                if not is_whole:
                    break

    def _stream_some(
        self,
        key: str,
        chunk_range: ChunkRange,
    ) -> Generator[bytes, None, bool]:
        """Chunks in one statement.

        :return: Whether they were all of them, and the client took them in time.
        """
        patience = time.monotonic() + self._held / 2
        try:
            with self._streaming(key, chunk_range) as rows:
                for expected in chunk_range.batches(1):
                    row = next(rows, None)
                    if row is None:
                        return False
                    seq, chunk = row
                    if seq != expected.first or len(chunk) != expected.size:
                        return False
                    if seq == chunk_range.last:
                        next(rows, None)  # there is none; nothing goes on
                    yield chunk
                    if time.monotonic() > patience:
                        return False
        except Unavailable:
            return False
        return True

    @contextmanager
    def _streaming(
        self,
        key: str,
        chunk_range: ChunkRange,
    ) -> Iterator[Iterator[tuple[t.Any, ...]]]:
        """Rows as they come. Those that have not come at the end of the block are cancelled."""
        with self._database.borrow(self._held) as driver:
            try:
                with driver.cursor(binary=True) as cursor:
                    text, parameters = self._select(key, chunk_range)
                    rows = cursor.stream(text, parameters)
                    with closing(t.cast("Generator[t.Any]", rows)):
                        yield rows
            finally:
                # libpq goes on to give single rows until it is asked something outside of a
                # pipeline, be it nothing. A caller that began with a pipeline would be surprised by
                # those rows.
                driver.pgconn.exec_(b"")

    def _select(
        self,
        key: str,
        chunk_range: ChunkRange,
    ) -> tuple[t.LiteralString, dict[str, t.Any]]:
        """The statement for numbers and bytes of chunks, and its parameters."""
        first = chunk_range.first
        last = chunk_range.last
        parameters: dict[str, t.Any] = {
            "key": key,
            "first": first,
            "last": last,
        }
        begin = chunk_range.start - first * CHUNK_SIZE
        end = chunk_range.stop - last * CHUNK_SIZE
        if begin == 0 and end == CHUNK_SIZE:
            return self._texts.whole, parameters

        parameters["begin"] = begin
        parameters["end"] = end
        parameters["chunk"] = CHUNK_SIZE
        return self._texts.cut, parameters

    def _insert(
        self,
        cursor: Cursor,
        key: str,
        seq: int,
        chunks: Iterable[bytes | memoryview],
    ) -> None:
        """Send chunks numbered from ``seq`` on, in a pipeline.

        They are not prepared. If one comes after one that failed, psycopg would believe that it
        was.
        """
        for number, chunk in enumerate(chunks, start=seq):
            values = (key, number, chunk)
            cursor.execute(self._texts.insert, values, prepare=False)


class _Texts(t.NamedTuple):
    """The statements about one table."""

    insert: t.LiteralString
    delete: t.LiteralString
    whole: t.LiteralString
    cut: t.LiteralString

    @classmethod
    def about(cls, table: str) -> _Texts:
        """The statements about the table of this name."""

        def fill_in(template: str) -> t.LiteralString:
            return t.cast("t.LiteralString", template.format(table=table))

        return cls(
            insert=fill_in(_INSERT),
            delete=fill_in(_DELETE),
            whole=fill_in(_WHOLE),
            cut=fill_in(_CUT),
        )
