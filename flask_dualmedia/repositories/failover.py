"""SQL while it answers, the journal in MongoDB while it does not."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice

from ..databases.circuit import Circuit
from ..databases.documents import MONGO
from ..errors import DatabaseUnavailable, RecordRefused, WritesRefused
from ..models import DELETING, PENDING, Media, new_id, now
from ..storages.base import new_key
from .base import Accesses, Announced, Listing, M, Position, Records, Selection, Values
from .mongo import JournalRepository
from .sql import SQLRepository

T = t.TypeVar("T")

_NO_ANSWER = (DatabaseUnavailable, WritesRefused)
"""SQL is gone, or says nothing about the records that it has: a table, or a right to read it, may
be missing."""


class FailoverRepository:
    """Keeps records in SQL; those that come while SQL is down in a journal, from which they are
    drained.

    A record is looked for in SQL, then in the journal, then in SQL once more: it may have been
    moved in between. Two answers are never given: "not found" while SQL, which may have the record,
    does not answer; and success for a change of a record that is just being moved.

    :param journals: Whether new records are accepted while SQL is down.
    """

    def __init__(
        self, sql: SQLRepository, journal: JournalRepository, circuit: Circuit, *, journals: bool
    ) -> None:
        self._sql, self._journal, self._circuit, self._journals = sql, journal, circuit, journals

    def version(self) -> str:
        return self._circuit.read(self._sql.version)

    def add(self, record: Media, *, keeps_id: bool = False) -> None:
        self._add([record], lambda repository: repository.add(record), keeps_id=keeps_id)

    def add_all(self, records: t.Sequence[Media]) -> None:
        self._add(records, lambda repository: repository.add_all(records))

    def _add(
        self,
        records: t.Sequence[Media],
        add: Callable[[SQLRepository | JournalRepository], None],
        *,
        keeps_id: bool = False,
    ) -> None:
        sent = False

        def send() -> None:
            nonlocal sent
            sent = True
            add(self._sql)

        try:
            if self._journals:
                self._circuit.check_writes()
            self._circuit.guard(send)
        except (DatabaseUnavailable, WritesRefused) as error:
            # SQL may have it all the same, or get it yet, where its answer was lost.
            is_doubtful = sent and isinstance(error, DatabaseUnavailable) and error.was_sent
            if not self._journals or (is_doubtful and keeps_id):
                raise
            with self._circuit.journaling():
                if is_doubtful:
                    for record in records:
                        self.forsake(record)
                add(self._journal)

    def forsake(self, record: Media) -> None:
        """Have a record taken away that SQL may have, or may get yet, and of which nobody was told.

        The record given gets another id, and another key for its bytes.

        :raises DatabaseUnavailable: There is no journal to note it in, so that nothing may be
            accepted in its place.
        """
        if not self._journals:
            raise DatabaseUnavailable("PostgreSQL")
        with self._circuit.journaling():
            self._journal.add(
                type(record).from_values(record.values() | {"state": DELETING, "updated_at": now()})
            )
        values = vars(record)
        values["id"] = new_id()
        if record.storage_key is not None:
            values["storage_key"] = new_key(values["id"])

    def get(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        return self._look_up(lambda r: r.get(kind, media_id), kind, media_id)

    def find(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        return self._look_up(lambda r: r.find(kind, media_id), kind, media_id)

    def select(self, listing: Listing[M]) -> Records[M]:
        def key(record: M) -> t.Any:
            return getattr(record, listing.sort), record.id

        found = self._both(lambda r: r.select(listing), [listing.kind])
        if isinstance(found, Records):
            return found
        merged = sorted(found.values(), key=key, reverse=listing.descending)
        return Records(islice(merged, listing.limit))

    def of_owners(
        self, kinds: t.Sequence[type[Media]], reference_type: str | None, ids: t.Sequence[str]
    ) -> Records[Media]:
        found = self._both(lambda r: r.of_owners(kinds, reference_type, ids), kinds)
        if isinstance(found, Records):
            return found
        return Records(
            sorted(found.values(), key=lambda r: (kinds.index(type(r)), getattr(r, r.order), r.id))
        )

    def update(
        self, kind: type[M], media_id: uuid.UUID, changes: Values, *, where: Values
    ) -> M | None:
        def change(repository: SQLRepository | JournalRepository) -> M | None:
            return repository.update(kind, media_id, changes, where=where)

        return self._change(change, kind, media_id)

    def count_access(
        self, kind: type[Media], media_id: uuid.UUID, at: datetime, number: int = 1
    ) -> bool:
        def count(repository: SQLRepository | JournalRepository) -> bool | None:
            return repository.count_access(kind, media_id, at, number) or None

        return bool(self._change(count, kind, media_id))

    def add_accesses(
        self, kind: type[Media], counts: t.Mapping[uuid.UUID, Accesses]
    ) -> dict[uuid.UUID, bool]:
        try:
            found = self._circuit.guard(lambda: self._sql.add_accesses(kind, counts))
        except DatabaseUnavailable:
            found = {}
        except WritesRefused:
            # It would refuse each of them. What the journal has is counted there, and the rest
            # waits.
            there = {
                key
                for key, (number, at) in counts.items()
                if self._journal.count_access(kind, key, at, number)
            }
            return dict.fromkeys(there, True)
        done = {media_id: True for media_id in counts if found.get(media_id)}
        for media_id, (number, at) in counts.items():
            if media_id not in done:
                # One by one: of each it must be known whether it is counted, and few are not in
                # SQL.
                try:
                    done[media_id] = self.count_access(kind, media_id, at, number)
                except DatabaseUnavailable as error:
                    if error.database == MONGO:
                        break
                except RecordRefused:
                    done[media_id] = False
        return done

    def bury(self, kind: type[Media], media_id: uuid.UUID) -> None:
        waiting = self._journal.find(kind, media_id) if self._circuit.journal_expected else None
        if waiting is not None and waiting.state == DELETING:
            self._circuit.expect_journal()  # the drain sees to it that SQL does not have it either
            return
        # A copy that a killed drain has left in the journal says nothing: it was deleted in SQL.
        self._circuit.guard(lambda: self._sql.bury(kind, media_id))

    def remove(self, kind: type[Media], media_id: uuid.UUID) -> None:
        # The journal's copy first, or it would be drained into SQL again.
        self._journal.remove(kind, media_id)
        self._circuit.guard(lambda: self._sql.remove(kind, media_id))

    def keys_of(self, kind: type[Media], ids: t.Sequence[uuid.UUID]) -> list[str | None]:
        return [
            *self._journal.keys_of(kind, ids),
            *self._circuit.read(lambda: self._sql.keys_of(kind, ids)),
        ]

    def scan(self, kind: type[M], after: uuid.UUID | None, limit: int) -> list[M]:
        found = {record.id: record for record in self._journal.scan(kind, after, limit)}
        found |= {
            record.id: record
            for record in self._circuit.read(lambda: self._sql.scan(kind, after, limit))
        }
        return sorted(found.values(), key=lambda record: record.id)[:limit]

    def unfinished(
        self, kind: type[M], before: datetime, limit: int, after: Position | None = None
    ) -> list[M]:
        found = [
            *self._journal.unfinished(kind, before, limit, after),
            *self._circuit.read(lambda: self._sql.unfinished(kind, before, limit, after)),
        ]
        return sorted(found, key=lambda record: (record.updated_at, record.id))[:limit]

    def trashed(self, kind: type[M], after: uuid.UUID | None, limit: int) -> list[M]:
        found = {record.id: record for record in self._journal.trashed(kind, after, limit)}
        found |= {
            record.id: record
            for record in self._circuit.read(lambda: self._sql.trashed(kind, after, limit))
        }
        return sorted(found.values(), key=lambda record: record.id)[:limit]

    def count(self, kind: type[Media]) -> int:
        return self._journal.count(kind) + self._circuit.read(lambda: self._sql.count(kind))

    def count_trashed(self, kind: type[Media]) -> int:
        return self._journal.count_trashed(kind) + self._circuit.read(
            lambda: self._sql.count_trashed(kind)
        )

    def announced(self, uploaded_by: str, since: datetime, but: uuid.UUID | None) -> Announced:
        waiting = Announced()
        if self._is_journal_asked():
            waiting = self._journal.announced(uploaded_by, since, but)
        try:
            held = self._circuit.read(lambda: self._sql.announced(uploaded_by, since, but))
        except _NO_ANSWER:
            return self._journal.announced(uploaded_by, since, but)
        return Announced(waiting.number + held.number, waiting.size + held.size)

    def stored_size(self, selection: Selection) -> int:
        # The journal first: a record that is moved in between then counts twice, not never.
        waiting = 0
        if self._is_journal_asked():
            waiting = self._journal.stored_size(selection)
        try:
            return waiting + self._circuit.read(lambda: self._sql.stored_size(selection))
        except _NO_ANSWER:
            return self._journal.stored_size(selection)

    def _look_up(
        self,
        read: Callable[[SQLRepository | JournalRepository], M | None],
        kind: type[M],
        media_id: uuid.UUID,
    ) -> M | None:
        try:
            found = self._circuit.read(lambda: read(self._sql))
        except _NO_ANSWER:
            found = read(self._journal)
            # One that is just being moved may be in SQL already, and changed since.
            if found is None or self._journal.is_claimed(found):
                raise
            return found
        if found is not None and found.state != PENDING:
            return found
        found = read(self._journal)
        # A copy that the drain has not taken away yet says nothing once SQL has the record, in
        # whatever state.
        if found is None or (self._journal.is_claimed(found) and self._is_in_sql(kind, media_id)):
            return self._circuit.read(lambda: read(self._sql))
        return found

    def _is_in_sql(self, kind: type[Media], media_id: uuid.UUID) -> bool:
        """Whether SQL has a record that the journal has too.

        One that is pending there does not count: its creation was begun in SQL, and when the answer
        to that was lost with the connection it went on in the journal.
        """
        held = self._circuit.read(lambda: self._sql.find(kind, media_id))
        return held is not None and held.state != PENDING

    def _both(
        self,
        read: Callable[[SQLRepository | JournalRepository], Records[M]],
        kinds: t.Sequence[type[Media]],
    ) -> Records[M] | dict[uuid.UUID, M]:
        """What SQL has, where it has all; what both have by id; or what one of them has, where the
        other is down."""
        waiting: list[M] = []
        deleted: set[uuid.UUID] = set()
        journal_answers = True
        try:
            if self._is_journal_asked():
                try:
                    # The journal first, and SQL only after that: a record that is moved is then
                    # found twice, not never.
                    waiting = [*self._still_waiting(read(self._journal))]
                    deleted = {
                        media_id for kind in kinds for media_id in self._journal.deleted(kind)
                    }
                except DatabaseUnavailable as error:
                    if error.database != MONGO:
                        raise
                    journal_answers = False
            held = self._circuit.read(lambda: read(self._sql))
        except _NO_ANSWER:
            unclaimed = (
                record for record in read(self._journal) if not self._journal.is_claimed(record)
            )
            return Records.of(unclaimed, partial=True)
        if not journal_answers:
            return Records.of(held, partial=True)
        if deleted:
            held = Records.of(
                (record for record in held if record.id not in deleted), partial=held.partial
            )
        return {record.id: record for record in [*waiting, *held]} if waiting else held

    def _is_journal_asked(self) -> bool:
        """Whether the journal may hold something. While MongoDB is away other processes cannot
        write to it either, but until the moment that it went they could."""
        return self._circuit.journal_expected or self._circuit.is_open or self._journal.is_away

    def _still_waiting(self, journaled: Records[M]) -> Iterator[M]:
        for record in journaled:
            if not (self._journal.is_claimed(record) and self._is_in_sql(type(record), record.id)):
                yield record

    def _change(
        self,
        change: Callable[[SQLRepository | JournalRepository], T | None],
        kind: type[Media],
        media_id: uuid.UUID,
    ) -> T | None:
        try:
            done = self._circuit.guard(lambda: change(self._sql))
        except _NO_ANSWER:
            done = change(self._journal)
            if done is None:
                raise
            return done
        if done is not None:
            return done
        done = change(self._journal)
        if done is not None:
            self._circuit.expect_journal()  # as an upload that ends after the outage in which it began
            return done
        waiting = self._journal.find(kind, media_id)
        if waiting is not None and not self._journal.is_claimed(waiting):
            return None
        if waiting is not None and not self._is_in_sql(kind, media_id):
            raise DatabaseUnavailable("the journal, which is being drained,", retry_after=1)
        return self._circuit.guard(lambda: change(self._sql))  # it was moved just now
