"""Media records in SQL tables.

Errors of drivers are translated: :func:`~flask_dualmedia.databases.sqlstates.translate_errors` says
what callers meet instead.
"""

from __future__ import annotations

import random
import time
import typing as t
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from operator import itemgetter

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..databases import storable
from ..databases.deadlines import Watch, deadline
from ..databases.sqlstates import translate_errors
from ..databases.tables import MODELS, Tables
from ..errors import Contended
from ..models import (
    DELETING,
    IS_AVAILABLE,
    IS_PRIVATE,
    IS_PUBLIC,
    IS_UNFINISHED,
    KINDS,
    Media,
    MediaStorage,
    row_reader,
)
from .base import EVERYTHING, Accesses, Announced, Listing, M, Position, Records, Selection, Values

_AVAILABLE = sa.text(IS_AVAILABLE)
_UNFINISHED = sa.text(IS_UNFINISHED)
_TRASHED = sa.text("state = 'trashed'")
_NOT_TRASHED = sa.text("state <> 'trashed'")

_HELD = sa.text("NOT (state = 'deleting' AND storage_key IS NULL) AND state <> 'trashed'")
"""Neither buried, see :meth:`SQLRepository.bury`, nor in the trash."""

DRAINS_ID = uuid.UUID("00000000-0000-7000-8000-000000000000")
"""Id of a buried file that never was.

Its version is the number of the last drain: by it a journal is recognized that was restored from a
backup and is older than SQL.
"""

Query = sa.Select[t.Any] | sa.Insert | sa.Update
Row = Sequence[t.Any]

T = t.TypeVar("T")

ATTEMPTS = 5
"""How often a statement is sent that the database had give way to others."""

PAUSE = 0.02
"""Seconds that it waits for them at most, after the first attempt; after each other one as much
more."""


@contextmanager
def limited(connection: sa.Connection, seconds: float | None) -> Iterator[None]:
    """Give the block so many seconds, on drivers where we can.

    Only psycopg 3 has such a limit. With another driver, or for ``None``, the block may take any
    time. If the time is over, however the block ends, the connection goes to nobody else.
    """
    dialect = connection.dialect
    is_psycopg = (dialect.name, dialect.driver) == ("postgresql", "psycopg")
    if seconds is None or not is_psycopg:
        yield
        return

    driver = t.cast("t.Any", connection.connection.driver_connection)
    watch: Watch | None = None
    try:
        with deadline(driver, seconds) as watch:
            yield
    finally:
        # A cancellation may still be on its way, through a pooler: nobody else gets the connection.
        if watch is not None and watch.expired:
            connection.invalidate()


def insisting(call: Callable[[], T]) -> T:
    """Do ``call``, and do it again where the database had it give way to others.

    Nothing of it was done then. The pauses are random, and may be longer each time. Any other error
    passes at once.

    :raises Contended: The last of :data:`ATTEMPTS` had to give way too.
    """
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except Contended:
            # Pauses differ, so that the calls do not all come at once again.
            time.sleep(random.uniform(0, attempt * PAUSE))  # noqa: S311
    return call()


class SQLRepository:
    """Media records in the four tables of one SQL database.

    Every method is a transaction of its own, on connections of the engine and never on the host's
    session.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        timeout: float | None = None,
        tables: Tables = MODELS,
    ) -> None:
        """
        :param timeout: Seconds that a statement may take, ``None`` for any number. Drivers besides
            psycopg 3 know no such limit.
        :param tables: The four tables.
        """
        self._engine = engine
        self._timeout = timeout
        self.tables = tables
        # One statement needs no BEGIN and COMMIT around it, which would be two more round trips.
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._naive = engine.dialect.name == "sqlite"
        self._arrays = engine.dialect.name == "postgresql"

    def version(self) -> str:
        """The version of the server."""
        name = self._engine.dialect.name
        query = f"SELECT {name}_version()"
        if name == "postgresql":
            query = "SHOW server_version"
        with self._connect() as connection:
            result = connection.exec_driver_sql(query)
            return str(result.scalar_one())

    def time(self) -> datetime | None:
        """The time by the server's clock; ``None`` where the server is no other than this host."""
        if self._engine.dialect.name != "postgresql":
            return None
        with self._connect() as connection:
            result = connection.exec_driver_sql("SELECT clock_timestamp()")
            return result.scalar_one()

    def probe(self) -> None:
        """Ask the server whether it answers.

        :raises DatabaseUnavailable: It does not.
        """
        self.version()

    def add(self, record: Media, *, keeps_id: bool = False) -> None:
        """Keep a new record with one ``INSERT``. It keeps its id in any case.

        :raises InvalidMedia: A field holds what no database could keep. Nothing was sent.
        :raises MediaConflict: Its id is taken, or it would be a second main image.
        """
        kind = type(record)
        values = record.values()
        storable.check(kind, values)
        query = insert_record(kind, self.tables)
        self._fetch(query, values)

    def add_all(self, records: Sequence[Media]) -> None:
        """Keep new records of one kind, at least one, in one transaction.

        :raises InvalidMedia: A field of one holds what no database could keep. Nothing was sent.
        """
        for record in records:
            storable.check(type(record), record.values())
        self._insert(records)

    def _insert(self, records: Sequence[Media]) -> None:
        with (
            translate_errors(),
            self._engine.begin() as connection,
            limited(connection, self._timeout),
        ):
            query = insert_record(type(records[0]), self.tables)
            rows = [record.values() for record in records]
            connection.execute(query, rows)

    def get(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        query = _select_one(kind, self.tables, available=True)
        return self._one(kind, query, {"id": media_id})

    def find(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        query = _select_one(kind, self.tables, available=False)
        return self._one(kind, query, {"id": media_id})

    def keys_of(
        self,
        kind: type[Media],
        ids: t.Sequence[uuid.UUID],
    ) -> list[str | None]:
        columns = self.tables.of(kind).c
        query = sa.select(columns.storage_key)
        query = query.where(columns.id.in_(ids))
        with self._connect() as connection:
            result = connection.execute(query)
            return [*result.scalars()]

    def scan(
        self,
        kind: type[M],
        after: uuid.UUID | None,
        limit: int,
    ) -> list[M]:
        """Records in any state, sorted by id, without the note of the last drain."""
        table = self.tables.of(kind)
        query = sa.select(table).where(table.c.id != DRAINS_ID)
        if after is not None:
            query = query.where(table.c.id > after)
        query = query.order_by(table.c.id).limit(limit)
        return self._read(kind, query)

    def select(self, listing: Listing[M]) -> Records[M]:
        query, parameters = select_listing(listing, self.tables)
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
        matching: Matching = "in"
        if len(ids) == 1:
            matching = "one"
        elif self._arrays:
            matching = "any"

        if len(kinds) == 1:
            query = select_of_owners(kinds[0], matching, self.tables)
            return self._all(kinds[0], query, parameters)

        query, parts = _select_union(tuple(kinds), matching, self.tables)
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
        query, parameters = update_record(kind, media_id, changes, where, self.tables)
        return self._one(kind, query, parameters)

    def fence(self, record: M) -> M | None:
        """Keep a record as deleted, whether there is one with its id or not.

        An insertion of it that is still under way, or comes later, finds the id taken and does
        nothing.

        :return: The record as it is now, with the storage key of the one that was there. ``None``
            if that one has been changed since it was as it is given here: then it stays.
        """
        kind = type(record)
        query = _fence(kind, self.tables, self._engine.dialect.name)
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
        query = _note_drain(self.tables, self._engine.dialect.name)
        self._fetch(query, note.values())

    def bury(self, kind: type[Media], media_id: uuid.UUID) -> None:
        """Set all columns of a ``deleting`` record to NULL that may be NULL.

        Its version and the time of its last change stay. A missing one is a no-op.
        """
        query = _bury(kind, self.tables)
        self._fetch(query, {"id_": media_id})

    def remove(self, kind: type[Media], media_id: uuid.UUID) -> None:
        table = self.tables.of(kind)
        query = sa.delete(table).where(table.c.id == media_id)
        with self._connect() as connection:
            connection.execute(query)

    def count_access(
        self,
        kind: type[Media],
        media_id: uuid.UUID,
        at: datetime,
        number: int = 1,
    ) -> bool:
        """Add to the access count of an available record; false if there is none.

        The time of the last access never goes back, and the version stays.
        """
        query = _update_access(kind, self.tables)
        parameters = {
            "id_": media_id,
            "at": at,
            "number": number,
        }
        rows = self._fetch(query, parameters)
        return bool(rows)

    def add_accesses(
        self,
        kind: type[Media],
        counts: t.Mapping[uuid.UUID, Accesses],
    ) -> dict[uuid.UUID, bool]:
        """Add to the access counts of many available records in one transaction.

        PostgreSQL does it in one statement; other databases need one for each record.

        PostgreSQL locks the rows in the order of their ids. If an error comes, nothing is counted.

        :param counts: At least one record. The answer has all of them.
        """
        # In a transaction, although it is one statement: if the connection breaks in it, nothing
        # is kept.
        with (
            translate_errors(),
            self._engine.connect() as connection,
            limited(connection, self._timeout),
            connection.begin(),
        ):
            if self._arrays:
                return self._add_accesses_at_once(connection, kind, counts)
            return self._add_accesses_in_turn(connection, kind, counts)

    def _add_accesses_at_once(
        self,
        connection: sa.Connection,
        kind: type[Media],
        counts: t.Mapping[uuid.UUID, Accesses],
    ) -> dict[uuid.UUID, bool]:
        numbers, times = zip(*counts.values(), strict=True)
        parameters = {
            "ids": [*counts],
            "numbers": [*numbers],
            "times": [*times],
        }
        query = update_accesses(kind, self.tables)
        result = connection.execute(query, parameters)
        counted_ids = set(result.scalars())
        return {media_id: media_id in counted_ids for media_id in counts}

    def _add_accesses_in_turn(
        self,
        connection: sa.Connection,
        kind: type[Media],
        counts: t.Mapping[uuid.UUID, Accesses],
    ) -> dict[uuid.UUID, bool]:
        query = _update_access(kind, self.tables)
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
        query = select_unfinished(kind, before, limit, after, self.tables)
        return self._read(kind, query)

    def trashed(
        self,
        kind: type[M],
        after: uuid.UUID | None,
        limit: int,
    ) -> list[M]:
        table = self.tables.of(kind)
        query = sa.select(table).where(_UNFINISHED, _TRASHED)
        if after is not None:
            query = query.where(table.c.id > after)
        query = query.order_by(table.c.id).limit(limit)
        return self._read(kind, query)

    def count(self, kind: type[Media]) -> int:
        return self._count(kind, _HELD)

    def count_by_storage(self, kind: type[Media]) -> dict[str, int]:
        columns = self.tables.of(kind).c
        storage_type = columns.storage_type
        has_bytes = columns.storage_key.is_not(None)
        query = sa.select(storage_type, sa.func.count()).where(has_bytes).group_by(storage_type)
        numbers = {}
        with self._connect() as connection:
            for name, number in connection.execute(query):
                numbers[name] = number
        return numbers

    def count_trashed(self, kind: type[Media]) -> int:
        return self._count(kind, _UNFINISHED, _TRASHED)

    def _count(self, kind: type[Media], *where: sa.TextClause) -> int:
        number = sa.func.count()
        table = self.tables.of(kind)
        query = sa.select(number).select_from(table).where(*where)
        with self._connect() as connection:
            result = connection.execute(query)
            return result.scalar_one()

    def stored_size(self, selection: Selection) -> int:
        """The sum of the sizes in bytes, 0 where nothing matches."""
        query = select_stored_size(selection, self.tables)
        with self._connect() as connection:
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
        query = select_announced(self.tables)
        ((number, size),) = self._fetch(query, parameters)
        return Announced(number, int(size or 0))

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        """Lend a connection in autocommit: each statement in the block is a transaction of its own.

        The time limit holds for the whole block. What has to give way is not sent again.
        """
        with (
            translate_errors(),
            self._single.connect() as connection,
            limited(connection, self._timeout),
        ):
            yield connection

    def _fetch(self, query: Query, parameters: Values) -> Sequence[Row]:
        """The rows that a statement gives with these values of its parameters.

        It is sent up to :data:`ATTEMPTS` times where the database has it give way.
        """

        def execute() -> Sequence[Row]:
            with self._connect() as connection:
                result = connection.execute(query, parameters)
                return self._aware(result.all())

        return insisting(execute)

    def _read(
        self,
        kind: type[M],
        query: sa.Select[t.Any],
    ) -> list[M]:
        """The records that a statement gives, which is sent once and has no parameters."""
        with self._connect() as connection:
            result = connection.execute(query)
            rows = result.all()
        read = row_reader(kind)
        return [*map(read, self._aware(rows))]

    def _aware(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Rows whose times have a zone. SQLite keeps none; what we wrote was UTC."""
        if not self._naive:
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


# To put a statement together takes longer than to have it answered. So those that requests wait for
# are made once, and their values are parameters.


@cache
def insert_record(kind: type[Media], tables: Tables = MODELS) -> sa.Insert:
    """The statement that keeps a record, with its fields as parameters."""
    table = tables.of(kind)
    return sa.insert(table).returning(table.c.id)


@cache
def _select_one(
    kind: type[Media],
    tables: Tables,
    *,
    available: bool,
) -> sa.Select[t.Any]:
    """The statement for a record, with the parameter ``id``."""
    table = tables.of(kind)
    query = sa.select(table).where(table.c.id == sa.bindparam("id"))
    if available:
        query = query.where(_AVAILABLE)
    return query


@cache
def select_with_content(
    kind: type[Media],
    size: int,
    tables: Tables = MODELS,
) -> sa.Select[t.Any]:
    """The statement for an available record and its bytes, if they are few.

    Behind the columns of the record is the first of its chunks, if the content is no longer than
    ``size`` and the database has it.

    :param size: In bytes. It is a part of the statement, and no parameter.
    """
    table = tables.of(kind)
    chunks = tables.chunks
    is_only = sa.text(f"{table.name}.file_size <= {size:d}")
    is_first = sa.and_(
        chunks.c.storage_key == table.c.storage_key,
        chunks.c.seq == sa.text("0"),
        is_only,
    )
    query = _select_one(kind, tables, available=True)
    query = query.add_columns(chunks.c.data)
    return query.outerjoin_from(table, chunks, is_first)


def update_record(
    kind: type[Media],
    media_id: uuid.UUID,
    changes: Values,
    where: Values,
    tables: Tables = MODELS,
) -> tuple[sa.Update, dict[str, t.Any]]:
    """The statement of :meth:`SQLRepository.update`, and the values of its parameters."""
    parameters = {"id_": media_id, **changes}
    for name, value in where.items():
        parameters[f"{name}_"] = value
    query = _update(kind, tuple(changes), tuple(where), tables)
    return query, parameters


@cache
def _update(
    kind: type[Media],
    changed: tuple[str, ...],
    where: tuple[str, ...],
    tables: Tables,
) -> sa.Update:
    """The statement that changes fields of a record that has the values of others.

    The parameters for the new values are named like their fields; those for the values that it must
    have, like their fields and an underscore.

    The version goes up by one, unless it is among the changes.
    """
    table = tables.of(kind)
    matches = _matches(table, ("id", *where))
    values: dict[str, t.Any] = {}
    for name in changed:
        values[name] = sa.bindparam(name)
    values.setdefault("version", table.c.version + sa.text("1"))

    query = sa.update(table).where(*matches)
    return query.values(values).returning(table)


def _matches(
    table: sa.Table,
    names: t.Iterable[str],
) -> list[sa.ColumnElement[bool]]:
    """The conditions that fields have the values of the parameters named like them."""
    matches = []
    for name in names:
        value = sa.bindparam(f"{name}_")
        matches.append(table.c[name] == value)
    return matches


def _insert_or_update(table: sa.Table, dialect: str) -> t.Any:
    """An insertion that can be given ``ON CONFLICT``."""
    if dialect == "postgresql":
        return postgresql.insert(table)
    if dialect == "sqlite":
        return sqlite.insert(table)
    raise KeyError(dialect)


@cache
def _fence(kind: type[Media], tables: Tables, dialect: str) -> t.Any:
    """The statement of :meth:`SQLRepository.fence`, with the fields of the record as parameters."""
    table = tables.of(kind)
    insert = _insert_or_update(table, dialect)
    changes = {
        "state": sa.text("'deleting'"),
        "updated_at": insert.excluded.updated_at,
        "version": table.c.version + sa.text("1"),
    }
    upsert = insert.on_conflict_do_update(
        index_elements=[table.c.id],
        set_=changes,
        where=table.c.version <= insert.excluded.version,
    )
    return upsert.returning(table)


@cache
def _note_drain(tables: Tables, dialect: str) -> t.Any:
    """The statement of :meth:`SQLRepository.note_drain`.

    The fields of the note are its parameters.
    """
    table = tables.of(MediaStorage)
    insert = _insert_or_update(table, dialect)
    number = insert.excluded.version
    is_later = table.c.version > number
    changes = {
        "version": sa.case((is_later, table.c.version), else_=number),
        "updated_at": insert.excluded.updated_at,
    }
    upsert = insert.on_conflict_do_update(index_elements=[table.c.id], set_=changes)
    return upsert.returning(table.c.id)


@cache
def _bury(kind: type[Media], tables: Tables) -> sa.Update:
    """The statement of :meth:`SQLRepository.bury`, with the parameter ``id_``."""
    table = tables.of(kind)
    nothing: dict[str, t.Any] = {}
    for column in table.c:
        if column.nullable:
            nothing[column.key] = sa.null()
    query = sa.update(table).where(
        table.c.id == sa.bindparam("id_"),
        sa.text("state = 'deleting'"),
    )
    return query.values(nothing).returning(table.c.id)


Scope = t.Literal["available", "public", "private"]
"""Which records one scan of a list goes through: all, the public ones, or the private ones of one
uploader."""

_SCOPES: dict[Scope, str] = {
    "available": IS_AVAILABLE,
    "public": IS_PUBLIC,
    "private": IS_PRIVATE,
}


class _Shape(t.NamedTuple):
    """The order of a list, and where its pages begin and end, without the values."""

    sort: str
    descending: bool
    has_start: bool
    has_limit: bool


def select_listing(
    listing: Listing[M],
    tables: Tables = MODELS,
) -> tuple[sa.Select[t.Any], dict[str, t.Any]]:
    """The statement for one page of a list, and the values of its parameters."""
    parameters = {f"{name}_": value for name, value in listing.where.items()}
    if listing.limit is not None:
        parameters["limit"] = listing.limit
    if listing.after is not None:
        parameters["after_value"], parameters["after_id"] = listing.after

    scopes: tuple[Scope, ...] = ("available",)
    if listing.visible_to is not EVERYTHING:
        scopes = ("public",)
        if listing.shows_private:
            scopes = ("public", "private")
            parameters["identity"] = listing.visible_to

    shape = _Shape(
        listing.sort,
        listing.descending,
        has_start=listing.after is not None,
        has_limit=listing.limit is not None,
    )
    query = _select_page(listing.kind, tuple(listing.where), scopes, shape, tables)
    return query, parameters


@cache
def _select_page(
    kind: type[Media],
    where: tuple[str, ...],
    scopes: tuple[Scope, ...],
    shape: _Shape,
    tables: Tables,
) -> sa.Select[t.Any]:
    """One scan for each scope, in the order of the list and no longer than the page, and the first
    of both.

    A record is in one of the scopes alone. With one condition for both instead, no index would have
    the order and the records together, and records that nobody is shown would be read.
    """
    scans = [_select_scope(kind, where, scope, shape, tables) for scope in scopes]
    if len(scans) == 1:
        return scans[0]

    selects = [sa.select(scan.subquery()) for scan in scans]
    union = sa.union_all(*selects).subquery()
    return _page_of(sa.select(union), _order(union, shape.sort), shape)


def _select_scope(
    kind: type[Media],
    where: tuple[str, ...],
    scope: Scope,
    shape: _Shape,
    tables: Tables,
) -> sa.Select[t.Any]:
    """The statement for the records of a page that are in one scope."""
    table = tables.of(kind)
    query = sa.select(table).where(sa.text(_SCOPES[scope]))
    order = _order(table, shape.sort)
    if scope == "private":
        # PostgreSQL must not see that there is one uploader. If it did, any index with the order of
        # the list would do: it may think one of all records cheaper, where it expects to soon meet
        # enough of this uploader's.
        identity = sa.bindparam("identity", type_=table.c.uploaded_by.type)
        query = query.where(table.c.uploaded_by.in_([identity, identity]))
        order.insert(0, table.c.uploaded_by)
        where = tuple(name for name in where if name != "uploaded_by")
    query = query.where(*_matches(table, where))

    if shape.has_start:
        query = query.where(_is_behind(table, shape))
    return _page_of(query, order, shape)


def _is_behind(table: sa.Table, shape: _Shape) -> sa.ColumnElement[bool]:
    """The condition that a record comes behind the place where a page starts."""
    columns: dict[str, sa.Column[t.Any]] = {}
    if shape.sort != "id":
        columns["after_value"] = table.c[shape.sort]
    columns["after_id"] = table.c.id

    values = []
    for name, column in columns.items():
        values.append(sa.bindparam(name, type_=column.type))

    place = sa.tuple_(*columns.values())
    start = sa.tuple_(*values)
    if shape.descending:
        return place < start
    return place > start


def _order(
    table: sa.FromClause,
    sort: str,
) -> list[sa.ColumnElement[t.Any]]:
    """The columns that a list is sorted by."""
    if sort == "id":
        return [table.c.id]
    return [table.c[sort], table.c.id]


def _page_of(
    query: sa.Select[t.Any],
    order: Sequence[sa.ColumnElement[t.Any]],
    shape: _Shape,
) -> sa.Select[t.Any]:
    """The first records of a query, in the order of the list."""
    if shape.descending:
        order = [column.desc() for column in order]
    query = query.order_by(*order)
    if shape.has_limit:
        limit = sa.bindparam("limit", type_=sa.BigInteger)
        query = query.limit(limit)
    return query


Matching = t.Literal["one", "any", "in"]
"""How owners are named: ``one`` by the parameter ``owner``, several by the list ``owners``, in an
array where the database knows arrays. PostgreSQL plans for one what it would for ten, and slower,
when it is in an array."""


@cache
def select_of_owners(
    kind: type[Media],
    matching: Matching,
    tables: Tables = MODELS,
) -> sa.Select[t.Any]:
    """The statement for the media of a page of owners.

    It has the parameters of ``matching`` and, where the kind does not fix it, ``reference_type``.
    """
    table = tables.of(kind)
    is_owned = _is_owned(table.c[kind.owner_field], matching)
    query = sa.select(table).where(_AVAILABLE, is_owned)
    if "reference_type" in table.c:
        reference_type = sa.bindparam("reference_type")
        query = query.where(table.c.reference_type == reference_type)
    order = dict.fromkeys((table.c[kind.order], table.c.id))
    return query.order_by(*order)


def _is_owned(
    column: sa.ColumnElement[t.Any],
    matching: Matching,
) -> sa.ColumnElement[bool]:
    """The condition that a record belongs to one of the owners."""
    if matching == "one":
        owner = sa.bindparam("owner")
        return column == owner
    if matching == "any":
        type_of_owners = postgresql.ARRAY(sa.String)
        owners = sa.bindparam("owners", type_=type_of_owners)
        return column == sa.any_(owners)
    owners = sa.bindparam("owners", expanding=True)
    return column.in_(owners)


_Part = tuple[
    t.Callable[[t.Any], Media],
    t.Callable[[t.Any], tuple[t.Any, ...]],
]


@cache
def _select_union(
    kinds: tuple[type[Media], ...],
    matching: Matching,
    tables: Tables,
) -> tuple[sa.Select[t.Any], list[_Part]]:
    """The same for several kinds in one statement: columns that a kind lacks are read as NULL.

    The first column is the number of the kind, for which the list has what makes a record, and what
    takes its fields out of a row.
    """
    columns: dict[str, sa.Column[t.Any]] = {}
    for kind in kinds:
        columns.update(tables.of(kind).c)
    places = {name: place for place, name in enumerate(columns, start=1)}
    selects = []
    parts: list[_Part] = []
    for number, kind in enumerate(kinds):
        own_columns = tables.of(kind).c
        padded: list[sa.ColumnElement[t.Any]] = []
        for name, column in columns.items():
            missing = sa.cast(sa.null(), column.type)
            padded.append(own_columns.get(name, missing.label(name)))
        kind_number = sa.literal_column(str(number))
        query = select_of_owners(kind, matching, tables)
        query = query.with_only_columns(
            kind_number.label("kind_number"),
            *padded,
        )
        selects.append(query.order_by(None))

        field_places = [places[name] for name in kind.field_names()]
        take_fields = itemgetter(*field_places)
        parts.append((row_reader(kind), take_fields))

    union = sa.union_all(*selects).subquery()
    order_names = dict.fromkeys(kind.order for kind in kinds)
    query = sa.select(union).order_by(
        union.c.kind_number,
        *(union.c[name] for name in order_names),
        union.c.id,
    )
    return query, parts


@cache
def _update_access(kind: type[Media], tables: Tables) -> sa.Update:
    """The statement that adds to one access count.

    Its parameters are ``id_``, ``at`` and ``number``.
    """
    table = tables.of(kind)
    columns = table.c
    number = sa.bindparam("number", type_=sa.BigInteger)
    at = sa.bindparam("at", type_=columns.last_accessed_at.type)
    changes = {
        "access_count": columns.access_count + number,
        "last_accessed_at": _latest(table, at),
    }
    query = sa.update(table).where(
        columns.id == sa.bindparam("id_"),
        _AVAILABLE,
    )
    return query.values(changes).returning(columns.id)


def update_accesses(kind: type[Media], tables: Tables = MODELS) -> sa.Update:
    """The statement that adds to many access counts, and tells which records there are.

    Its parameters are ``ids``, ``numbers`` and ``times``. It is one for PostgreSQL.
    """
    table = tables.of(kind)
    id_type = sa.Uuid()
    number_type = sa.BigInteger()
    time_type = sa.DateTime(timezone=True)
    arrays = sa.func.unnest(
        sa.bindparam("ids", type_=postgresql.ARRAY(id_type)),
        sa.bindparam("numbers", type_=postgresql.ARRAY(number_type)),
        sa.bindparam("times", type_=postgresql.ARRAY(time_type)),
    )
    accesses = arrays.table_valued(
        sa.column("id", id_type),
        sa.column("number", number_type),
        sa.column("at", time_type),
    )
    accesses = accesses.render_derived("given")

    # Locked in the order of their ids, so that two processes cannot wait for each other.
    query = sa.select(table.c.id, accesses.c.number, accesses.c.at)
    query = query.where(table.c.id == accesses.c.id, _AVAILABLE)
    query = query.order_by(table.c.id).with_for_update(of=table, key_share=True)
    locked = query.cte("locked")

    changes = {
        "access_count": table.c.access_count + locked.c.number,
        "last_accessed_at": _latest(table, locked.c.at),
    }
    update = sa.update(table).where(table.c.id == locked.c.id)
    return update.values(changes).returning(table.c.id)


def _latest(
    table: sa.Table,
    at: sa.ColumnElement[datetime],
) -> sa.ColumnElement[datetime]:
    last = table.c.last_accessed_at
    return sa.case((last > at, last), else_=at)


def select_stored_size(
    selection: Selection,
    tables: Tables = MODELS,
) -> sa.Select[t.Any]:
    """The statement for a sum of sizes over several kinds.

    It is NULL where nothing matches. External media does not count.
    """
    sizes = []
    for kind, where in selection.items():
        columns = tables.of(kind).c
        is_stored = columns.storage_key.is_not(None)
        matches = [columns[name] == value for name, value in where.items()]
        size = sa.func.sum(columns.file_size)
        query = sa.select(size.label("size"))
        sizes.append(query.where(_AVAILABLE, is_stored, *matches))

    union = sa.union_all(*sizes).subquery()
    return sa.select(sa.func.sum(union.c.size))


@cache
def select_announced(tables: Tables = MODELS) -> t.Any:
    """The statement for the number of uploads that were announced and have not ended, and the sum
    of their sizes."""
    selects = []
    for kind in KINDS.values():
        columns = tables.of(kind).c
        query = sa.select(columns.file_size).where(
            _UNFINISHED,
            sa.text("state = 'pending'"),
            columns.uploaded_by == sa.bindparam("uploaded_by"),
            columns.checksum.is_not(None),
            columns.updated_at >= sa.bindparam("since"),
            columns.id != sa.bindparam("but"),
        )
        selects.append(query)

    union = sa.union_all(*selects).subquery()
    number = sa.func.count()
    size = sa.func.sum(union.c.file_size)
    return sa.select(number, size).select_from(union)


def select_unfinished(
    kind: type[Media],
    before: datetime,
    limit: int,
    after: Position | None = None,
    tables: Tables = MODELS,
) -> sa.Select[t.Any]:
    """The statement for the next records to sweep, oldest first.

    The trash and the note of the last drain are left out.
    """
    table = tables.of(kind)
    columns = table.c
    query = sa.select(table).where(
        _UNFINISHED,
        _NOT_TRASHED,
        columns.updated_at < before,
        columns.id != DRAINS_ID,
    )
    if after is not None:
        time, last_id = after
        is_behind = sa.or_(
            columns.updated_at > time,
            columns.id > last_id,
        )
        query = query.where(columns.updated_at >= time, is_behind)
    query = query.order_by(columns.updated_at, columns.id)
    return query.limit(limit)
