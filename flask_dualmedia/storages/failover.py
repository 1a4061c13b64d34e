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

    It looks for the bytes under a key anew for each batch: they may be moved while they are read.
    """

    def __init__(
        self,
        sql: ChunkedStorage,
        journal: JournalStorage,
        circuit: Circuit,
    ) -> None:
        self._sql = sql
        self._journal = journal
        self._circuit = circuit

    def check_room(self, identity: str | None, size: int) -> None:
        """Refuse bytes that have no place, before anything is written.

        :raises JournalFull: They would go to the journal, and there is none for them.
        """
        if not self._circuit.takes_writes:
            self._journal.check_room(identity, size)

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """Keep bytes in SQL, or in the journal while SQL takes no writes."""
        if self._circuit.takes_writes:
            self._circuit.guard(lambda: self._sql.put(key, blocks))
            return
        with self._circuit.journaling():
            self._journal.put(key, blocks)

    def delete(self, key: str) -> None:
        """Delete the bytes under a key, wherever they are."""
        # They may be in both, but only where the journal holds something.
        if self._circuit.is_open or self._circuit.journal_expected:
            self._journal.delete(key)
        was_in_sql = self._circuit.guard(lambda: self._sql.discard(key))
        if not was_in_sql:
            self._journal.delete(key)

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        journaled = self._journal.stats(keys)
        in_sql = self._circuit.read(lambda: self._sql.stats(keys))
        return merge_stats(journaled, in_sql)

    def keys(self, after: str = "") -> Iterator[str]:
        journaled = self._journal.keys(after)
        in_sql = self._sql.keys(after)
        for key, _ in groupby(merge(journaled, in_sql)):
            yield key

    def stream(
        self,
        key: str,
        start: int,
        stop: int,
    ) -> Generator[bytes, None, None]:
        """The bytes as SQL sends them; none of them while it is known not to answer."""
        if self._circuit.is_open:
            return super().stream(key, start, stop)
        return self._sql.stream(key, start, stop)

    def read_batch(self, key: str, chunk_range: ChunkRange) -> list[bytes]:
        # SQL once more at the end: they may be moved at this moment.
        places = (
            self._read_sql,
            self._journal.read_batch,
            self._read_sql,
        )
        try:
            return read_from(places, key, chunk_range)
        except (DatabaseUnavailable, WritesRefused) as error:
            try:
                return self._journal.read_batch(key, chunk_range)
            except BytesNotFound:
                raise error from None

    def _read_sql(self, key: str, chunk_range: ChunkRange) -> list[bytes]:
        return self._circuit.read(lambda: self._sql.read_batch(key, chunk_range))
