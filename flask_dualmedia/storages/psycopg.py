"""Bytes as rows in PostgreSQL, moved in the binary formats of psycopg 3."""

from __future__ import annotations

import time
import typing as t
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain, islice

import sqlalchemy as sa

from ..databases.connections import borrow
from ..databases.deadlines import renew
from ..databases.sqlstates import translate_errors
from ..databases.tables import MODELS, Tables
from ..errors import DatabaseBusy, DatabaseUnavailable
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
"""Seconds that a connection is held for a client who takes them, or sends a batch. In half of that
he must have done so, or the rest is moved in batches, between which no connection is held; of one
who stops altogether it is cut."""


class PsycopgStorage(DatabaseStorage):
    """The same rows as :class:`DatabaseStorage`, read and written past SQLAlchemy's text format for
    ``bytea``, which takes three times as long."""

    def __init__(
        self, engine: sa.Engine, *, timeout: float | None = None, tables: Tables = MODELS
    ) -> None:
        super().__init__(engine, timeout=timeout, tables=tables)
        self._texts = _Texts.about(tables.chunks.name)
        # Half of the pool is never held for clients; a pool that is none gives what is asked for.
        self._streams = (
            engine.pool.size() // 2 if isinstance(engine.pool, sa.QueuePool) else STREAMS
        )
        self._held = HELD if timeout is None else min(HELD, timeout)
        self.begin_process()
        begin_in_children(self)

    def begin_process(self) -> None:
        """Serve as many clients at once as if none were served: those of a forked process's parent
        are not ours."""
        self._tokens = deque(
            [None] * self._streams
        )  # no lock: iterators are closed wherever memory is cleaned up

    def _delete_some(self, key: str) -> int:
        with translate_errors(), borrow(self._engine, self._timeout) as driver:
            return driver.execute(
                self._texts.delete, {"key": key, "limit": DELETED_AT_ONCE}
            ).rowcount

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        chunks, seq, waiting = split(blocks, CHUNK_SIZE), 0, list[memoryview]()
        with self._token() as got:
            if got:
                seq, waiting = self._write_as_they_come(key, chunks)
        for batch in in_batches(chain(waiting, chunks), WRITE_BATCH):
            self._write(key, seq, batch)
            seq += len(batch)

    @contextmanager
    def _token(self) -> Iterator[bool]:
        """Whether a connection may be held for a client."""
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
        self, key: str, chunks: Iterator[memoryview]
    ) -> tuple[int, list[memoryview]]:
        """Keep chunks while they come fast; the number of the next one, and what has come of the
        rest."""
        seq = 0
        for first in chunks:
            batch, late = list[memoryview](), list[memoryview]()
            patience = time.monotonic() + self._held / 2
            is_late = False
            try:
                with self._writing(self._held) as (driver, cursor):
                    for chunk in chain([first], islice(chunks, WRITE_BATCH - 1)):
                        if time.monotonic() > patience:
                            late.append(chunk)
                            break
                        batch.append(chunk)
                        self._insert(cursor, key, seq + len(batch) - 1, [chunk])
                    is_late = time.monotonic() > patience
                    if self._timeout is not None:
                        renew(driver, self._timeout)
            except (DatabaseUnavailable, DatabaseBusy):
                if not is_late:
                    raise
                return seq, [*batch, *late]  # the client was so late that the connection was cut
            seq += len(batch)
            if is_late:
                return seq, late
        return seq, []

    def _write(self, key: str, seq: int, batch: list[memoryview]) -> None:
        with self._writing(self._timeout) as (_, cursor):
            self._insert(cursor, key, seq, batch)

    @contextmanager
    def _writing(self, seconds: float | None) -> Iterator[tuple[Driver, Cursor]]:
        """A transaction."""
        with (
            translate_errors(),
            borrow(self._engine, seconds) as driver,
            driver.pipeline(),
            driver.transaction(),
            driver.cursor() as cursor,
        ):
            yield driver, cursor

    def _read(self, key: str, wanted: ChunkRange) -> list[bytes]:
        with (
            translate_errors(),
            borrow(self._engine, self._timeout) as driver,
            driver.cursor(binary=True) as cursor,
        ):
            return [piece for _, piece in cursor.execute(*self._select(key, wanted))]

    def stream(self, key: str, start: int, stop: int) -> Generator[bytes, None, None]:
        with self._token() as got:
            for wanted in ChunkRange(start, stop).batches(STREAMED) if got else ():
                if not (yield from self._stream_some(key, wanted)):
                    break

    def _stream_some(self, key: str, wanted: ChunkRange) -> Generator[bytes, None, bool]:
        """Chunks in one statement; whether that were all of them, and the client took them in
        time."""
        slow = time.monotonic() + self._held / 2
        try:
            with translate_errors(), self._streaming(key, wanted) as rows:
                for expected in wanted.batches(1):
                    row = next(rows, None)
                    if row is None or (row[0], len(row[1])) != (expected.first, expected.size):
                        return False
                    if expected.last == wanted.last:
                        next(rows, None)  # there is none; nothing goes on
                    yield row[1]
                    if time.monotonic() > slow:
                        return False
        except (DatabaseUnavailable, DatabaseBusy):
            return False
        return True

    @contextmanager
    def _streaming(self, key: str, wanted: ChunkRange) -> Iterator[Iterator[tuple[t.Any, ...]]]:
        """Rows as they come. What has not come at the end of the block is cancelled."""
        with borrow(self._engine, self._held) as driver:
            try:
                with driver.cursor(binary=True) as cursor:
                    rows = cursor.stream(*self._select(key, wanted))
                    with closing(t.cast("Generator[t.Any]", rows)):
                        yield rows
            finally:
                # libpq goes on to give single rows, and to whoever begins with a pipeline those are
                # a surprise, until it is asked something outside of one, be it nothing.
                driver.pgconn.exec_(b"")

    def _select(self, key: str, wanted: ChunkRange) -> tuple[t.LiteralString, dict[str, t.Any]]:
        """The statement for numbers and bytes of chunks, and its parameters."""
        given: dict[str, t.Any] = {"key": key, "first": wanted.first, "last": wanted.last}
        begin, end = (
            wanted.start - wanted.first * CHUNK_SIZE,
            wanted.stop - wanted.last * CHUNK_SIZE,
        )
        if begin == 0 and end == CHUNK_SIZE:
            return self._texts.whole, given
        return self._texts.cut, given | {"begin": begin, "end": end, "chunk": CHUNK_SIZE}

    def _insert(
        self, cursor: Cursor, key: str, seq: int, chunks: Iterable[bytes | memoryview]
    ) -> None:
        """Send chunks numbered from ``seq`` on, in a pipeline.

        They are not prepared. Of one that comes after one that failed, psycopg would believe that
        it was.
        """
        for number, chunk in enumerate(chunks, start=seq):
            cursor.execute(self._texts.insert, (key, number, chunk), prepare=False)


class _Texts(t.NamedTuple):
    """The statements about one table."""

    insert: t.LiteralString
    delete: t.LiteralString
    whole: t.LiteralString
    cut: t.LiteralString

    @classmethod
    def about(cls, table: str) -> _Texts:
        def named(text: str) -> t.LiteralString:
            return t.cast("t.LiteralString", text.format(table=table))

        return cls(named(_INSERT), named(_DELETE), named(_WHOLE), named(_CUT))
