"""Media records in SQL tables."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

import sqlalchemy as sa

from ..databases import storable
from ..databases.sql import SQLDatabase, insisting
from ..databases.tables import MODELS, Tables
from ..models import DELETING, Media, MediaRecord, MediaStorage, MediaVariant, row_reader
from . import statements
from .base import Accesses, Announced, Listing, M, Position, Records, Selection, Values
from .statements import DRAINS_ID, Query

Row = Sequence[t.Any]

T = t.TypeVar("T")


class SQLRepository:
    """Media records in the tables of one SQL database, one for each record class.

    Every method is a transaction of its own, on connections of the engine and never on the host's
    session.
    """

    def __init__(
        self,
        database: sa.Engine | SQLDatabase,
        *,
        tables: Tables = MODELS,
    ) -> None:
        """
        :param database: Its limit of time is that of a statement.
        :param tables: The tables.
        """
        self.database = SQLDatabase.of(database)
        self.tables = tables

    def version(self) -> str:
        """The version of the server."""
        query = f"SELECT {self.database.product}_version()"
        if self.database.is_postgresql:
            query = "SHOW server_version"
        with self.database.autocommit() as connection:
            result = connection.exec_driver_sql(query)
            return str(result.scalar_one())

    def time(self) -> datetime | None:
        """The time by the server's clock; ``None`` where the server is no other than this host."""
        if not self.database.is_postgresql:
            return None
        with self.database.autocommit() as connection:
            result = connection.exec_driver_sql("SELECT clock_timestamp()")
            return result.scalar_one()

    def probe(self) -> None:
        """Ask the server whether it answers.

        :raises DatabaseUnavailable: It does not.
        """
        self.version()

    def add(self, record: MediaRecord, *, keeps_id: bool = False) -> None:
        """Keep a new record with one ``INSERT``. It keeps its id in any case.

        :raises InvalidMedia: A field holds what no database could keep. Nothing was sent.
        :raises MediaConflict: Its id is taken, or it would be a second main image,
            or the same variant as another one.
        """
        kind = type(record)
        values = record.values()
        storable.check(kind, values)
        query = statements.insert_record(kind, self.tables)
        self._fetch(query, values)

    def add_all(self, records: Sequence[MediaRecord]) -> None:
        """Keep new records of one kind, at least one, in one transaction.

        :raises InvalidMedia: A field of one holds what no database could keep. Nothing was sent.
        """
        for record in records:
            storable.check(type(record), record.values())
        self._insert(records)

    def _insert(self, records: Sequence[MediaRecord]) -> None:
        with self.database.begin() as connection:
            query = statements.insert_record(type(records[0]), self.tables)
            rows = [record.values() for record in records]
            connection.execute(query, rows)

    def get(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        query = statements.select_one(kind, self.tables, available=True)
        return self._one(kind, query, {"id": media_id})

    def find(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        query = statements.select_one(kind, self.tables, available=False)
        return self._one(kind, query, {"id": media_id})

    def find_variant(
        self,
        media_id: uuid.UUID,
        source_key: str,
        name: str,
        recipe: str,
    ) -> MediaVariant | None:
        query = statements.select_variant(self.tables)
        parameters = {
            "media_id_": media_id,
            "source_key_": source_key,
            "name_": name,
            "recipe_": recipe,
        }
        return self._one(MediaVariant, query, parameters)

    def variants_of(self, ids: t.Sequence[uuid.UUID]) -> list[MediaVariant]:
        """The variants of these originals, by one statement."""
        as_array = self.database.is_postgresql
        query = statements.select_variants(self.tables, as_array=as_array)
        return self._all(MediaVariant, query, {"ids": [*ids]})

    def derived_size(self, ids: t.Sequence[uuid.UUID]) -> int:
        as_array = self.database.is_postgresql
        query = statements.select_derived_size(self.tables, as_array=as_array)
        ((size,),) = self._fetch(query, {"ids": [*ids]})
        return int(size or 0)

    def keys_of(
        self,
        kind: type[MediaRecord],
        ids: t.Sequence[uuid.UUID],
    ) -> list[str | None]:
        query = statements.select_keys(kind, ids, self.tables)
        with self.database.autocommit() as connection:
            result = connection.execute(query)
            return [*result.scalars()]

    def scan(
        self,
        kind: type[M],
        after: uuid.UUID | None,
        limit: int,
    ) -> list[M]:
        """Records in any state, sorted by id, without the note of the last drain."""
        query = statements.select_after(kind, after, limit, self.tables)
        return self._read(kind, query)

    def select(self, listing: Listing[M]) -> Records[M]:
        query, parameters = statements.select_listing(listing, self.tables)
        return self._all(listing.kind, query, parameters)

    def of_owners(
        self,
        kinds: t.Sequence[type[Media]],
        reference_type: str | None,
        ids: t.Sequence[str],
    ) -> Records[Media]:
        """Available records of these kinds that belong to any of the owners, by one statement."""
        parameters = {
            "owners": [*ids],
            "owner": next(iter(ids), None),
            "reference_type": reference_type,
        }
        matching: statements.Matching = "in"
        if len(ids) == 1:
            matching = "one"
        elif self.database.is_postgresql:
            matching = "any"

        if len(kinds) == 1:
            query = statements.select_of_owners(kinds[0], matching, self.tables)
            return self._all(kinds[0], query, parameters)

        query, parts = statements.select_union(tuple(kinds), matching, self.tables)
        records: Records[Media] = Records()
        for row in self._fetch(query, parameters):
            make_record, take_fields = parts[row[0]]
            records.append(make_record(take_fields(row)))
        return records

    def update(
        self,
        kind: type[M],
        media_id: uuid.UUID,
        changes: Values,
        *,
        where: Values,
    ) -> M | None:
        """Change a record with one ``UPDATE``, if it still has the values of ``where``.

        Fields are compared by ``=``: ``None`` in ``where`` matches no record.

        :raises InvalidMedia: A new value is one that no database could keep. Nothing was sent.
        """
        storable.check(kind, changes)
        query, parameters = statements.update_record(kind, media_id, changes, where, self.tables)
        return self._one(kind, query, parameters)

    def fence(self, record: M) -> M | None:
        """Keep a record as deleted, whether there is one with its id or not.

        An insertion of it that is still under way, or comes later, finds the id taken and does
        nothing.

        :return: The record as it is now, with the storage key of the one that was there. ``None``
            if that one has been changed since it was as it is given here: then it stays.
        """
        kind = type(record)
        query = statements.fence_record(kind, self.tables, self.database.product)
        values = record.values() | {"state": DELETING}
        return self._one(kind, query, values)

    def last_drain(self) -> tuple[int, datetime | None]:
        """The number and the time of the last drain that SQL knows of; 0 and ``None`` if none."""
        note = self.find(MediaStorage, DRAINS_ID)
        if note is None:
            return 0, None
        return note.version, note.updated_at

    def note_drain(self, number: int) -> None:
        """Note the number of a drain, unless a later one is known."""
        note = MediaStorage.new(
            id=DRAINS_ID,
            state=DELETING,
            version=number,
            storage_type="database",
            reference_type="dualmedia",
            reference_id="drains",
            media_type="document",
        )
        query = statements.note_drain(self.tables, self.database.product)
        self._fetch(query, note.values())

    def bury(self, kind: type[MediaRecord], media_id: uuid.UUID) -> None:
        """Set all columns of a ``deleting`` record to NULL that may be NULL.

        Its version and the time of its last change stay. A missing one is a no-op.
        """
        query = statements.bury_record(kind, self.tables)
        self._fetch(query, {"id_": media_id})

    def remove(self, kind: type[MediaRecord], media_id: uuid.UUID) -> None:
        query = statements.delete_record(kind, media_id, self.tables)
        with self.database.autocommit() as connection:
            connection.execute(query)

    def count_access(
        self,
        kind: type[MediaRecord],
        media_id: uuid.UUID,
        at: datetime,
        number: int = 1,
    ) -> bool:
        """Add to the access count of an available record; false if there is none.

        The time of the last access never goes back, and the version stays.
        """
        query = statements.update_access(kind, self.tables)
        parameters = {
            "id_": media_id,
            "at": at,
            "number": number,
        }
        rows = self._fetch(query, parameters)
        return bool(rows)

    def add_accesses(
        self,
        kind: type[MediaRecord],
        counts: t.Mapping[uuid.UUID, Accesses],
    ) -> dict[uuid.UUID, bool]:
        """Add to the access counts of many available records in one transaction.

        PostgreSQL does it in one statement; other databases need one for each record.

        PostgreSQL locks the rows in the order of their ids. If an error comes, nothing is counted.

        :param counts: At least one record. The answer has all of them.
        """
        # In a transaction, although it is one statement: if the connection breaks in it, nothing
        # is kept.
        with self.database.begin() as connection:
            if self.database.is_postgresql:
                return self._add_accesses_at_once(connection, kind, counts)
            return self._add_accesses_in_turn(connection, kind, counts)

    def _add_accesses_at_once(
        self,
        connection: sa.Connection,
        kind: type[MediaRecord],
        counts: t.Mapping[uuid.UUID, Accesses],
    ) -> dict[uuid.UUID, bool]:
        numbers, times = zip(*counts.values(), strict=True)
        parameters = {
            "ids": [*counts],
            "numbers": [*numbers],
            "times": [*times],
        }
        query = statements.update_accesses(kind, self.tables)
        result = connection.execute(query, parameters)
        counted_ids = set(result.scalars())
        return {media_id: media_id in counted_ids for media_id in counts}

    def _add_accesses_in_turn(
        self,
        connection: sa.Connection,
        kind: type[MediaRecord],
        counts: t.Mapping[uuid.UUID, Accesses],
    ) -> dict[uuid.UUID, bool]:
        query = statements.update_access(kind, self.tables)
        counted = {}
        for media_id, (number, at) in sorted(counts.items()):
            parameters = {
                "id_": media_id,
                "at": at,
                "number": number,
            }
            rows = connection.execute(query, parameters).all()
            counted[media_id] = bool(rows)
        return counted

    def unfinished(
        self,
        kind: type[M],
        before: datetime,
        limit: int,
        after: Position | None = None,
    ) -> list[M]:
        query = statements.select_unfinished(kind, before, limit, after, self.tables)
        return self._read(kind, query)

    def trashed(
        self,
        kind: type[M],
        after: uuid.UUID | None,
        limit: int,
    ) -> list[M]:
        query = statements.select_trashed(kind, after, limit, self.tables)
        return self._read(kind, query)

    def count(self, kind: type[MediaRecord]) -> int:
        return self._count(kind, trashed=False)

    def count_by_storage(self, kind: type[MediaRecord]) -> dict[str, int]:
        columns = self.tables.of(kind).c
        storage_type = columns.storage_type
        has_bytes = columns.storage_key.is_not(None)
        query = sa.select(storage_type, sa.func.count()).where(has_bytes).group_by(storage_type)
        numbers = {}
        with self.database.autocommit() as connection:
            for name, number in connection.execute(query):
                numbers[name] = number
        return numbers

    def count_trashed(self, kind: type[MediaRecord]) -> int:
        return self._count(kind, trashed=True)

    def _count(self, kind: type[MediaRecord], *, trashed: bool) -> int:
        query = statements.select_number(kind, trashed=trashed, tables=self.tables)
        with self.database.autocommit() as connection:
            result = connection.execute(query)
            return result.scalar_one()

    def stored_size(self, selection: Selection) -> int:
        """The sum of the sizes in bytes, 0 where nothing matches."""
        query = statements.select_stored_size(selection, self.tables)
        with self.database.autocommit() as connection:
            size = connection.execute(query).scalar_one()
            return int(size or 0)

    def announced(
        self,
        uploaded_by: str,
        since: datetime,
        but: uuid.UUID | None,
    ) -> Announced:
        parameters = {
            "uploaded_by": uploaded_by,
            "since": since,
            "but": but or DRAINS_ID,
        }
        query = statements.select_announced(self.tables)
        ((number, size),) = self._fetch(query, parameters)
        return Announced(number, int(size or 0))

    def _fetch(self, query: Query, parameters: Values) -> Sequence[Row]:
        """The rows that a statement gives with these values of its parameters.

        It is sent again, as :func:`~flask_dualmedia.databases.sql.insisting` does.
        """

        def execute() -> Sequence[Row]:
            with self.database.autocommit() as connection:
                result = connection.execute(query, parameters)
                return self._aware(result.all())

        return insisting(execute)

    def _read(
        self,
        kind: type[M],
        query: sa.Select[t.Any],
    ) -> list[M]:
        """The records that a statement gives, which is sent once and has no parameters."""
        with self.database.autocommit() as connection:
            result = connection.execute(query)
            rows = result.all()
        read = row_reader(kind)
        return [*map(read, self._aware(rows))]

    def _aware(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Rows whose times have a zone. SQLite keeps none; what we wrote was UTC."""
        if self.database.product != "sqlite":
            return rows

        aware_rows = []
        for row in rows:
            values = [*row]
            for place, value in enumerate(values):
                if isinstance(value, datetime):
                    values[place] = value.replace(tzinfo=UTC)
            aware_rows.append(values)
        return aware_rows

    def _one(
        self,
        kind: type[M],
        query: Query,
        parameters: Values,
    ) -> M | None:
        for row in self._fetch(query, parameters):
            return kind.from_row(row)
        return None

    def _all(
        self,
        kind: type[M],
        query: Query,
        parameters: Values,
    ) -> Records[M]:
        rows = self._fetch(query, parameters)
        read = row_reader(kind)
        return Records(map(read, rows))
