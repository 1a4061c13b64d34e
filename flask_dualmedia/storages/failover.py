"""SQL while it answers, GridFS while it does not."""

from __future__ import annotations

import typing as t
from collections.abc import Generator, Iterable, Iterator
from heapq import merge
from itertools import groupby

from ..databases.circuit import Circuit
from ..errors import BytesNotFound, DatabaseUnavailable, WritesRefused
from .base import Stat, merge_stats
from .chunked import BatchedStorage, ChunkedStorage, ChunkRange, read_from
from .gridfs import JournalStorage


class FailoverStorage(BatchedStorage):
    """Keeps bytes in SQL; those that come while SQL is down in the journal's bucket.

    Where the bytes under a key are is found by looking, for each batch anew: they may be moved
    while they are read.
    """

    def __init__(self, sql: ChunkedStorage, journal: JournalStorage, circuit: Circuit) -> None:
        self._sql, self._journal, self._circuit = sql, journal, circuit

    def check_room(self, identity: str | None, size: int) -> None:
        """Refuse bytes that have no place, before anything is written.

        :raises JournalFull: They would go to the journal, and there is none for them.
        """
        if not self._circuit.takes_writes:
            self._journal.check_room(identity, size)

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        if not self._circuit.takes_writes:
            with self._circuit.journaling():
                self._journal.put(key, blocks)
        else:
            self._circuit.guard(lambda: self._sql.put(key, blocks))

    def delete(self, key: str) -> None:
        # They may be in both, but only where the journal holds something.
        if self._circuit.is_open or self._circuit.journal_expected:
            self._journal.delete(key)
        if not self._circuit.guard(lambda: self._sql.discard(key)):
            self._journal.delete(key)

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        return merge_stats(
            self._journal.stats(keys), self._circuit.read(lambda: self._sql.stats(keys))
        )

    def keys(self, after: str = "") -> Iterator[str]:
        yield from (
            key for key, _ in groupby(merge(self._journal.keys(after), self._sql.keys(after)))
        )

    def stream(self, key: str, start: int, stop: int) -> Generator[bytes, None, None]:
        return (
            super().stream(key, start, stop)
            if self._circuit.is_open
            else self._sql.stream(key, start, stop)
        )

    def read_batch(self, key: str, wanted: ChunkRange) -> list[bytes]:
        try:
            # SQL once more at the end: they may be moved at this moment.
            return read_from(
                [self._read_sql, self._journal.read_batch, self._read_sql], key, wanted
            )
        except (DatabaseUnavailable, WritesRefused) as error:
            try:
                return self._journal.read_batch(key, wanted)
            except BytesNotFound:
                raise error from None

    def _read_sql(self, key: str, wanted: ChunkRange) -> list[bytes]:
        return self._circuit.read(lambda: self._sql.read_batch(key, wanted))
