"""SQL while it answers, the journal in MongoDB while it does not.

Where lists and numbers are read from both, the journal comes first: a record that is moved in
between is then found twice, and not never. Reads for upkeep fail if either does not answer.
"""

from __future__ import annotations

import typing as t
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice

from ..databases.circuit import Circuit
from ..databases.documents import MONGO
from ..errors import DatabaseUnavailable, RecordRefused, Unavailable, WritesRefused
from ..failpoints import reach
from ..models import DELETING, JOURNALED, PENDING, Media, MediaRecord, MediaVariant, new_id, now
from ..storages.base import new_key
from .base import Accesses, Announced, Listing, M, Position, Records, Selection, Values
from .journal import JournalRepository
from .sql import SQLRepository

T = t.TypeVar("T")

Either = SQLRepository | JournalRepository

_NO_ANSWER = (DatabaseUnavailable, WritesRefused)
"""SQL is gone, or says nothing about the records that it has: a table, or a right to read it, may
be missing."""


class _Journaled(t.NamedTuple, t.Generic[M]):
    """The part of a list that is in the journal."""

    waiting: list[M]
    """Records that SQL does not have yet."""
    deleted_ids: set[uuid.UUID]
    """Ids of records that are deleted, and that SQL may have all the same."""


class FailoverRepository:
    """Keeps records in SQL; those that come while SQL is down in a journal, from which they are
    drained.

    A record is looked for in SQL, then in the journal, then in SQL once more: it may have been
    moved in between. Two answers are never given: "not found" while SQL, which may have the record,
    does not answer; and success for a change of a record that is just being moved.

    :param journals: Whether new records are accepted while SQL is down.
    """

    def __init__(
        self,
        sql: SQLRepository,
        journal: JournalRepository,
        circuit: Circuit,
        *,
        journals: bool,
    ) -> None:
        self._sql = sql
        self._journal = journal
        self._circuit = circuit
        self._journals = journals

    def version(self) -> str:
        """The version of the SQL server: the journal's says nothing about SQL."""
        return self._circuit.read(self._sql.version)

    def add(self, record: MediaRecord, *, keeps_id: bool = False) -> None:
        """Add a record to SQL, or to the journal where SQL does not take it.

        If the answer of SQL was lost, the record goes into the journal under another id, and SQL is
        to forget the one that it may have. A record that keeps its id is then refused.

        :raises Unavailable: Neither takes it, or the answer of SQL was lost for a record that keeps
            its id.
        """
        self._add(
            [record],
            lambda repository: repository.add(record),
            keeps_id=keeps_id,
        )

    def add_all(self, records: t.Sequence[MediaRecord]) -> None:
        self._add(records, lambda repository: repository.add_all(records))

    def _add(
        self,
        records: t.Sequence[MediaRecord],
        add: Callable[[Either], None],
        *,
        keeps_id: bool = False,
    ) -> None:
        """Add records to SQL, or to the journal where SQL does not take them."""
        was_tried = False

        def add_to_sql() -> None:
            nonlocal was_tried
            was_tried = True
            add(self._sql)

        journals = self._takes_instead(records[0])
        try:
            if journals:
                self._circuit.check_writes()
            self._circuit.guard(add_to_sql)
        except (DatabaseUnavailable, WritesRefused) as error:
            # SQL may have it all the same, or get it yet, where its answer was lost.
            is_lost = isinstance(error, DatabaseUnavailable) and error.was_sent
            is_doubtful = was_tried and is_lost
            if not journals or (is_doubtful and keeps_id):
                raise
            with self._circuit.journaling():
                if is_doubtful:
                    for record in records:
                        self.forsake(record)
                add(self._journal)

    def forsake(self, record: MediaRecord) -> None:
        """Have a record taken away that SQL may have, or may get yet, and of which nobody was told.

        The record given gets another id, and another key for its bytes.

        :raises DatabaseUnavailable: There is no journal to note it in, so that nothing may be
            accepted in its place.
        """
        if not self._takes_instead(record):
            raise DatabaseUnavailable("PostgreSQL")

        with self._circuit.journaling():
            deleted = {"state": DELETING, "updated_at": now()}
            note = type(record).from_values(record.values() | deleted)
            self._journal.add(note)

        values = vars(record)
        values["id"] = new_id()
        if record.storage_key is not None:
            values["storage_key"] = new_key(values["id"])

    def _takes_instead(self, record: MediaRecord) -> bool:
        """Whether the journal takes a record that SQL does not."""
        return self._journals and record.kind in JOURNALED

    def get(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        def read(repository: Either) -> M | None:
            return repository.get(kind, media_id)

        return self._look_up(read, kind, media_id)

    def find(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        def read(repository: Either) -> M | None:
            return repository.find(kind, media_id)

        return self._look_up(read, kind, media_id)

    def select(self, listing: Listing[M]) -> Records[M]:
        """Available records of both databases, in one order; partial where one does not answer.

        :raises DatabaseUnavailable: Neither answers.
        """

        def read(repository: Either) -> Records[M]:
            return repository.select(listing)

        def place(record: M) -> t.Any:
            return getattr(record, listing.sort), record.id

        records = self._both(read, [listing.kind])
        if isinstance(records, Records):
            return records
        merged = sorted(
            records.values(),
            key=place,
            reverse=listing.descending,
        )
        return Records(islice(merged, listing.limit))

    def of_owners(
        self,
        kinds: t.Sequence[type[Media]],
        reference_type: str | None,
        ids: t.Sequence[str],
    ) -> Records[Media]:
        """Available records of both databases that belong to any owner, as for :meth:`select`."""

        def read(repository: Either) -> Records[Media]:
            return repository.of_owners(kinds, reference_type, ids)

        def place(record: Media) -> t.Any:
            number = kinds.index(type(record))
            return number, getattr(record, record.order), record.id

        records = self._both(read, kinds)
        if isinstance(records, Records):
            return records
        return Records(sorted(records.values(), key=place))

    def update(
        self,
        kind: type[M],
        media_id: uuid.UUID,
        changes: Values,
        *,
        where: Values,
    ) -> M | None:
        """Change a record where it is.

        :raises Unavailable: A database that may have it does not answer, or it is just being moved.
        """

        def change(repository: Either) -> M | None:
            return repository.update(kind, media_id, changes, where=where)

        return self._change(change, kind, media_id)

    def count_access(
        self,
        kind: type[MediaRecord],
        media_id: uuid.UUID,
        at: datetime,
        number: int = 1,
    ) -> bool:
        def count(repository: Either) -> bool | None:
            return repository.count_access(kind, media_id, at, number) or None

        return bool(self._change(count, kind, media_id))

    def add_accesses(
        self,
        kind: type[MediaRecord],
        counts: t.Mapping[uuid.UUID, Accesses],
    ) -> dict[uuid.UUID, bool]:
        """Add to access counts in SQL, and of those that are not there in the journal.

        SQL is asked once for all. Those that it did not count are counted one by one. Where a
        database stops doing so in the middle, what was counted until then is answered.
        """

        def add_in_sql() -> dict[uuid.UUID, bool]:
            return self._sql.add_accesses(kind, counts)

        try:
            in_sql = self._circuit.guard(add_in_sql)
        except DatabaseUnavailable:
            in_sql = {}
        except WritesRefused:
            # It would refuse each of them. What the journal has is counted there, and the rest
            # waits.
            in_journal = self._add_in_turn(self._journal, kind, counts)
            return {media_id: True for media_id, is_there in in_journal.items() if is_there}

        counted = {media_id: True for media_id in counts if in_sql.get(media_id)}
        others = {media_id: counts[media_id] for media_id in counts if media_id not in counted}
        return counted | self._add_in_turn(self, kind, others)

    def _add_in_turn(
        self,
        repository: FailoverRepository | JournalRepository,
        kind: type[MediaRecord],
        counts: t.Mapping[uuid.UUID, Accesses],
    ) -> dict[uuid.UUID, bool]:
        """Add to access counts one by one: each must be known to be counted or not, and few are not
        in SQL."""
        counted = {}
        for media_id, (number, at) in counts.items():
            try:
                counted[media_id] = repository.count_access(kind, media_id, at, number)
            except RecordRefused:
                counted[media_id] = False
            except Unavailable as error:
                # What the journal has can be counted while SQL is away.
                if not isinstance(error, DatabaseUnavailable) or error.database == MONGO:
                    break
        return counted

    def bury(self, kind: type[MediaRecord], media_id: uuid.UUID) -> None:
        """Empty a ``deleting`` record of SQL; one that the journal deletes is left to the drain."""
        waiting = None
        if self._circuit.journal_expected:
            waiting = self._journal.find(kind, media_id)
        if waiting is not None and waiting.state == DELETING:
            self._circuit.expect_journal()  # the drain sees to it that SQL does not have it either
            return
        # A copy that a killed drain has left in the journal says nothing: it was deleted in SQL.
        self._circuit.guard(lambda: self._sql.bury(kind, media_id))

    def remove(self, kind: type[MediaRecord], media_id: uuid.UUID) -> None:
        """Forget a record in both."""
        # The journal's copy first, or it would be drained into SQL again.
        self._journal.remove(kind, media_id)
        self._circuit.guard(lambda: self._sql.remove(kind, media_id))

    def find_variant(
        self,
        media_id: uuid.UUID,
        source_key: str,
        name: str,
        recipe: str,
    ) -> MediaVariant | None:
        """The available variant of an original, which only SQL can have."""

        def read_sql() -> MediaVariant | None:
            return self._sql.find_variant(media_id, source_key, name, recipe)

        return self._circuit.read(read_sql)

    def variants_of(self, ids: t.Sequence[uuid.UUID]) -> list[MediaVariant]:
        """The variants of these originals, which only SQL can have."""
        return self._circuit.read(lambda: self._sql.variants_of(ids))

    def derived_size(self, ids: t.Sequence[uuid.UUID]) -> int:
        try:
            return self._circuit.read(lambda: self._sql.derived_size(ids))
        except _NO_ANSWER:
            return 0

    def keys_of(
        self,
        kind: type[MediaRecord],
        ids: t.Sequence[uuid.UUID],
    ) -> list[str | None]:
        journaled = self._journal.keys_of(kind, ids)
        in_sql = self._circuit.read(lambda: self._sql.keys_of(kind, ids))
        return [*journaled, *in_sql]

    def scan(
        self,
        kind: type[M],
        after: uuid.UUID | None,
        limit: int,
    ) -> list[M]:
        """Records in any state, sorted by id, of both databases; SQL's where both have one."""

        def scan_sql() -> list[M]:
            return self._sql.scan(kind, after, limit)

        journaled = self._journal.scan(kind, after, limit)
        in_sql = self._circuit.read(scan_sql)
        return _first_by_id(journaled, in_sql, limit)

    def unfinished(
        self,
        kind: type[M],
        before: datetime,
        limit: int,
        after: Position | None = None,
    ) -> list[M]:
        def place(record: M) -> t.Any:
            return record.updated_at, record.id

        def read_sql() -> list[M]:
            return self._sql.unfinished(kind, before, limit, after)

        journaled = self._journal.unfinished(kind, before, limit, after)
        in_sql = self._circuit.read(read_sql)
        records = sorted([*journaled, *in_sql], key=place)
        return records[:limit]

    def trashed(
        self,
        kind: type[M],
        after: uuid.UUID | None,
        limit: int,
    ) -> list[M]:
        def read_sql() -> list[M]:
            return self._sql.trashed(kind, after, limit)

        journaled = self._journal.trashed(kind, after, limit)
        in_sql = self._circuit.read(read_sql)
        return _first_by_id(journaled, in_sql, limit)

    def count(self, kind: type[MediaRecord]) -> int:
        """The number of records in SQL and in the journal; one that both have counts twice."""
        journaled = self._journal.count(kind)
        in_sql = self._circuit.read(lambda: self._sql.count(kind))
        return journaled + in_sql

    def count_by_storage(self, kind: type[MediaRecord]) -> dict[str, int]:
        journaled = self._journal.count_by_storage(kind)
        in_sql = self._circuit.read(lambda: self._sql.count_by_storage(kind))
        return dict(Counter(journaled) + Counter(in_sql))

    def count_trashed(self, kind: type[MediaRecord]) -> int:
        journaled = self._journal.count_trashed(kind)
        in_sql = self._circuit.read(lambda: self._sql.count_trashed(kind))
        return journaled + in_sql

    def announced(
        self,
        uploaded_by: str,
        since: datetime,
        but: uuid.UUID | None,
    ) -> Announced:
        """The unfinished uploads in both databases; in the journal alone while SQL is down."""

        def read_sql() -> Announced:
            return self._sql.announced(uploaded_by, since, but)

        journaled = Announced()
        if self._is_journal_asked():
            journaled = self._journal.announced(uploaded_by, since, but)
        try:
            in_sql = self._circuit.read(read_sql)
        except _NO_ANSWER:
            return self._journal.announced(uploaded_by, since, but)
        return Announced(
            journaled.number + in_sql.number,
            journaled.size + in_sql.size,
        )

    def stored_size(self, selection: Selection) -> int:
        # The journal first: a record that is moved in between then counts twice, not never.
        journaled = 0
        if self._is_journal_asked():
            journaled = self._journal.stored_size(selection)
        try:
            in_sql = self._circuit.read(lambda: self._sql.stored_size(selection))
        except _NO_ANSWER:
            return self._journal.stored_size(selection)
        return journaled + in_sql

    def _look_up(
        self,
        read: Callable[[Either], M | None],
        kind: type[M],
        media_id: uuid.UUID,
    ) -> M | None:
        """A record from SQL, from the journal, or from SQL once more."""
        try:
            record = self._circuit.read(lambda: read(self._sql))
        except _NO_ANSWER:
            record = read(self._journal)
            # One that is just being moved may be in SQL already, and changed since.
            if record is None or self._journal.is_claimed(record):
                raise
            return record
        if record is not None and record.state != PENDING:
            return record

        record = read(self._journal)
        if record is None:
            return self._circuit.read(lambda: read(self._sql))
        # A copy that the drain has not taken away yet says nothing once SQL has the record, in
        # whatever state.
        if self._journal.is_claimed(record) and self._is_in_sql(kind, media_id):
            return self._circuit.read(lambda: read(self._sql))
        return record

    def _is_in_sql(self, kind: type[MediaRecord], media_id: uuid.UUID) -> bool:
        """Tell whether SQL has a record that the journal has too.

        One that is pending there does not count: its creation was begun in SQL, and when the answer
        to that was lost with the connection it went on in the journal.
        """
        record = self._circuit.read(lambda: self._sql.find(kind, media_id))
        return record is not None and record.state != PENDING

    def _both(
        self,
        read: Callable[[Either], Records[M]],
        kinds: t.Sequence[type[MediaRecord]],
    ) -> Records[M] | dict[uuid.UUID, M]:
        """The records of SQL, where it has all; those of both by id; or those of the one that
        answers, where the other is down."""
        try:
            # The journal first, and SQL only after that: a record that is moved is then found
            # twice, not never.
            journaled = self._journaled(read, kinds)
            in_sql = self._circuit.read(lambda: read(self._sql))
        except _NO_ANSWER:
            unclaimed = (
                record for record in read(self._journal) if not self._journal.is_claimed(record)
            )
            return Records.of(unclaimed, partial=True)

        if journaled is None:
            return Records.of(in_sql, partial=True)
        if journaled.deleted_ids:
            remaining = (record for record in in_sql if record.id not in journaled.deleted_ids)
            in_sql = Records.of(remaining, partial=in_sql.partial)
        if not journaled.waiting:
            return in_sql
        return {record.id: record for record in [*journaled.waiting, *in_sql]}

    def _journaled(
        self,
        read: Callable[[Either], Records[M]],
        kinds: t.Sequence[type[MediaRecord]],
    ) -> _Journaled[M] | None:
        """The part of a list that is in the journal; ``None`` if MongoDB does not answer."""
        journaled: _Journaled[M] = _Journaled([], set())
        if not self._is_journal_asked():
            return journaled
        reach("list:journal")
        try:
            records = read(self._journal)
            journaled.waiting.extend(self._still_waiting(records))
            for kind in kinds:
                journaled.deleted_ids.update(self._journal.deleted(kind))
        except DatabaseUnavailable as error:
            if error.database != MONGO:
                raise
            return None
        return journaled

    def _is_journal_asked(self) -> bool:
        """Tell whether the journal may hold something.

        While MongoDB is away other processes cannot write to it either, but until the moment that
        it went they could.
        """
        return self._circuit.journal_expected or self._circuit.is_open or self._journal.is_away

    def _still_waiting(self, records: Records[M]) -> Iterator[M]:
        """The records of the journal that SQL does not have yet."""
        for record in records:
            is_claimed = self._journal.is_claimed(record)
            if is_claimed and self._is_in_sql(type(record), record.id):
                continue
            yield record

    def _change(
        self,
        change: Callable[[Either], T | None],
        kind: type[MediaRecord],
        media_id: uuid.UUID,
    ) -> T | None:
        """Change a record where it is: in SQL, in the journal, or in SQL after all.

        :return: ``None`` if neither had anything to change.
        :raises Unavailable: A database that may have it does not answer, or it is just being moved.
        """
        try:
            changed = self._circuit.guard(lambda: change(self._sql))
        except _NO_ANSWER:
            changed = change(self._journal)
            if changed is None:
                raise
            return changed
        if changed is not None:
            return changed

        changed = change(self._journal)
        if changed is not None:
            # As an upload that ends after the outage in which it began.
            self._circuit.expect_journal()
            return changed

        waiting = self._journal.find(kind, media_id)
        if waiting is not None:
            if not self._journal.is_claimed(waiting):
                return None
            if not self._is_in_sql(kind, media_id):
                raise DatabaseUnavailable("the journal, which is being drained,", retry_after=1)
        return self._circuit.guard(lambda: change(self._sql))  # it was moved just now


def _first_by_id(
    journaled: list[M],
    in_sql: list[M],
    limit: int,
) -> list[M]:
    """The first records of both by id. SQL's copy counts where both have one."""
    records: dict[uuid.UUID, M] = {}
    for record in [*journaled, *in_sql]:
        records[record.id] = record
    ids = sorted(records)[:limit]
    return [records[media_id] for media_id in ids]
