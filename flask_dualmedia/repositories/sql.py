"""Media records in SQL tables."""

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
from ..databases.deadlines import deadline
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

_AVAILABLE, _UNFINISHED = sa.text(IS_AVAILABLE), sa.text(IS_UNFINISHED)

_TRASHED, _NOT_TRASHED = sa.text("state = 'trashed'"), sa.text("state <> 'trashed'")

_HELD = sa.text("NOT (state = 'deleting' AND storage_key IS NULL) AND state <> 'trashed'")
"""Neither buried, see :meth:`SQLRepository.bury`, nor in the trash."""

DRAINS_ID = uuid.UUID("00000000-0000-7000-8000-000000000000")
"""Id of a buried file that never was. Its version is the number of the last drain: by it a journal
is recognized that was restored from a backup and is older than SQL."""

Query = sa.Select[t.Any] | sa.Insert | sa.Update

T = t.TypeVar("T")

ATTEMPTS = 5
"""How often a statement is sent that the database had give way to others."""

PAUSE = 0.02
"""Seconds that it waits for them at most, after the first attempt; after each other one as much
more."""


@contextmanager
def limited(connection: sa.Connection, seconds: float | None) -> Iterator[None]:
    """Give the block so many seconds, on drivers where we can."""
    if seconds is None or (connection.dialect.name, connection.dialect.driver) != (
        "postgresql",
        "psycopg",
    ):
        yield
        return
    with deadline(t.cast("t.Any", connection.connection.driver_connection), seconds) as watch:
        yield
    if watch.expired:
        connection.invalidate()


def insisting(call: Callable[[], T]) -> T:
    """Do ``call``, and do it again where the database had it give way to others: nothing of it was
    done then."""
    for attempt in range(1, ATTEMPTS):
        try:
            return call()
        except Contended:
            time.sleep(random.uniform(0, attempt * PAUSE))  # noqa: S311 - so that they do not all come at once again
    return call()


class SQLRepository:
    """Media records in the four tables of one SQL database.

    Every method is a transaction of its own, on connections of the engine and never on the host's
    session.
    """

    def __init__(
        self, engine: sa.Engine, *, timeout: float | None = None, tables: Tables = MODELS
    ) -> None:
        """
        :param timeout: Seconds that a statement may take, ``None`` for any number.
        :param tables: The four tables.
        """
        self._engine, self._timeout, self.tables = engine, timeout, tables
        # One statement needs no BEGIN and COMMIT around it, which would be two more round trips.
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._naive = engine.dialect.name == "sqlite"
        self._arrays = engine.dialect.name == "postgresql"

    def version(self) -> str:
        with self._connect() as connection:
            name = self._engine.dialect.name
            query = "SHOW server_version" if name == "postgresql" else f"SELECT {name}_version()"
            return str(connection.exec_driver_sql(query).scalar_one())

    def time(self) -> datetime | None:
        """The time by the server's clock; ``None`` where the server is no other than this host."""
        if self._engine.dialect.name != "postgresql":
            return None
        with self._connect() as connection:
            return connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()

    def probe(self) -> None:
        """
        :raises DatabaseUnavailable: The server does not answer.
        """
        self.version()

    def add(self, record: Media, *, keeps_id: bool = False) -> None:
        values = record.values()
        storable.check(type(record), values)
        self._fetch(insert_record(type(record), self.tables), values)

    def add_all(self, records: Sequence[Media]) -> None:
        for record in records:
            storable.check(type(record), record.values())
        self._insert(records)

    def _insert(self, records: Sequence[Media]) -> None:
        with (
            translate_errors(),
            self._engine.begin() as connection,
            limited(connection, self._timeout),
        ):
            connection.execute(
                insert_record(type(records[0]), self.tables),
                [record.values() for record in records],
            )

    def get(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        return self._one(kind, _select_one(kind, self.tables, available=True), {"id": media_id})

    def find(self, kind: type[M], media_id: uuid.UUID) -> M | None:
        return self._one(kind, _select_one(kind, self.tables, available=False), {"id": media_id})

    def keys_of(self, kind: type[Media], ids: t.Sequence[uuid.UUID]) -> list[str | None]:
        table = self.tables.of(kind)
        with self._connect() as connection:
            return [
                *connection.execute(
                    sa.select(table.c.storage_key).where(table.c.id.in_(ids))
                ).scalars()
            ]

    def scan(self, kind: type[M], after: uuid.UUID | None, limit: int) -> list[M]:
        table = self.tables.of(kind)
        query = sa.select(table).where(table.c.id != DRAINS_ID).order_by(table.c.id).limit(limit)
        with self._connect() as connection:
            rows = connection.execute(
                query if after is None else query.where(table.c.id > after)
            ).all()
        return [*map(row_reader(kind), self._aware(rows))]

    def select(self, listing: Listing[M]) -> Records[M]:
        return self._all(listing.kind, *select_listing(listing, self.tables))

    def of_owners(
        self, kinds: t.Sequence[type[Media]], reference_type: str | None, ids: t.Sequence[str]
    ) -> Records[Media]:
        given = {"owners": [*ids], "owner": next(iter(ids), None), "reference_type": reference_type}
        matching: Matching = "one" if len(ids) == 1 else "any" if self._arrays else "in"
        if len(kinds) == 1:
            return self._all(kinds[0], select_of_owners(kinds[0], matching, self.tables), given)
        query, parts = _select_union(tuple(kinds), matching, self.tables)
        found: Records[Media] = Records()
        for row in self._fetch(query, given):
            read, part = parts[row[0]]
            found.append(read(part(row)))
        return found

    def update(
        self, kind: type[M], media_id: uuid.UUID, changes: Values, *, where: Values
    ) -> M | None:
        storable.check(kind, changes)
        return self._one(kind, *update_record(kind, media_id, changes, where, self.tables))

    def fence(self, record: M) -> M | None:
        """Keep a record as deleted, whether there is one with its id or not.

        An insertion of it that is still under way, or comes later, finds the id taken and does
        nothing.

        :return: The record as it is now. It has the storage key of the one that was there. ``None``
            if that has been changed since it was as it is given here: then it stays.
        """
        kind = type(record)
        values = record.values() | {"state": DELETING}
        rows = self._fetch(_fence(kind, self.tables, self._engine.dialect.name), values)
        return kind.from_row(rows[0]) if rows else None

    def last_drain(self) -> tuple[int, datetime | None]:
        """The number of the last drain that SQL knows of, and when it was."""
        note = self.find(MediaStorage, DRAINS_ID)
        return (0, None) if note is None else (note.version, note.updated_at)

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
        self._fetch(_note_drain(self.tables, self._engine.dialect.name), note.values())

    def bury(self, kind: type[Media], media_id: uuid.UUID) -> None:
        self._fetch(_bury(kind, self.tables), {"id_": media_id})

    def remove(self, kind: type[Media], media_id: uuid.UUID) -> None:
        table = self.tables.of(kind)
        with self._connect() as connection:
            connection.execute(sa.delete(table).where(table.c.id == media_id))

    def count_access(
        self, kind: type[Media], media_id: uuid.UUID, at: datetime, number: int = 1
    ) -> bool:
        return bool(
            self._fetch(
                _update_access(kind, self.tables), {"id_": media_id, "at": at, "number": number}
            )
        )

    def add_accesses(
        self, kind: type[Media], counts: t.Mapping[uuid.UUID, Accesses]
    ) -> dict[uuid.UUID, bool]:
        # In a transaction, although it is one statement: of a connection that breaks in it nothing
        # is kept.
        with (
            translate_errors(),
            self._engine.connect() as connection,
            limited(connection, self._timeout),
            connection.begin(),
        ):
            if self._engine.dialect.name == "postgresql":
                numbers, times = zip(*counts.values(), strict=True)
                given = {"ids": [*counts], "numbers": [*numbers], "times": [*times]}
                found = set(connection.execute(update_accesses(kind, self.tables), given).scalars())
                return {media_id: media_id in found for media_id in counts}
            query = _update_access(kind, self.tables)
            return {
                media_id: bool(
                    connection.execute(query, {"id_": media_id, "at": at, "number": number}).all()
                )
                for media_id, (number, at) in sorted(counts.items())
            }

    def unfinished(
        self, kind: type[M], before: datetime, limit: int, after: Position | None = None
    ) -> list[M]:
        with self._connect() as connection:
            rows = connection.execute(
                select_unfinished(kind, before, limit, after, self.tables)
            ).all()
        return [*map(row_reader(kind), self._aware(rows))]

    def trashed(self, kind: type[M], after: uuid.UUID | None, limit: int) -> list[M]:
        table = self.tables.of(kind)
        query = sa.select(table).where(_UNFINISHED, _TRASHED).order_by(table.c.id).limit(limit)
        with self._connect() as connection:
            rows = connection.execute(
                query if after is None else query.where(table.c.id > after)
            ).all()
        return [*map(row_reader(kind), self._aware(rows))]

    def count(self, kind: type[Media]) -> int:
        return self._count(kind, _HELD)

    def count_trashed(self, kind: type[Media]) -> int:
        return self._count(kind, _UNFINISHED, _TRASHED)

    def _count(self, kind: type[Media], *where: sa.TextClause) -> int:
        query = sa.select(sa.func.count()).select_from(self.tables.of(kind)).where(*where)
        with self._connect() as connection:
            return connection.execute(query).scalar_one()

    def stored_size(self, selection: Selection) -> int:
        with self._connect() as connection:
            return int(
                connection.execute(select_stored_size(selection, self.tables)).scalar_one() or 0
            )

    def announced(self, uploaded_by: str, since: datetime, but: uuid.UUID | None) -> Announced:
        given = {"uploaded_by": uploaded_by, "since": since, "but": but or DRAINS_ID}
        ((number, size),) = self._fetch(select_announced(self.tables), given)
        return Announced(number, int(size or 0))

    @contextmanager
    def _connect(self) -> Iterator[sa.Connection]:
        with (
            translate_errors(),
            self._single.connect() as connection,
            limited(connection, self._timeout),
        ):
            yield connection

    def _fetch(self, query: Query, given: Values) -> Sequence[Sequence[t.Any]]:
        """The rows that a statement gives with these values of its parameters."""

        def execute() -> Sequence[Sequence[t.Any]]:
            with self._connect() as connection:
                return self._aware(connection.execute(query, given).all())

        return insisting(execute)

    def _aware(self, rows: Sequence[Sequence[t.Any]]) -> Sequence[Sequence[t.Any]]:
        """Rows whose times have a zone. SQLite keeps none; what we wrote was UTC."""
        if not self._naive:
            return rows
        return [
            [v.replace(tzinfo=UTC) if isinstance(v, datetime) else v for v in row] for row in rows
        ]

    def _one(self, kind: type[M], query: Query, given: Values) -> M | None:
        for row in self._fetch(query, given):
            return kind.from_row(row)
        return None

    def _all(self, kind: type[M], query: Query, given: Values) -> Records[M]:
        return Records(map(row_reader(kind), self._fetch(query, given)))


# To put a statement together takes longer than to have it answered. So those that requests wait for
# are made once, and their values are parameters.


@cache
def insert_record(kind: type[Media], tables: Tables = MODELS) -> sa.Insert:
    """The statement that keeps a record, with its fields as parameters."""
    table = tables.of(kind)
    return sa.insert(table).returning(table.c.id)


@cache
def _select_one(kind: type[Media], tables: Tables, *, available: bool) -> sa.Select[t.Any]:
    table = tables.of(kind)
    query = sa.select(table).where(table.c.id == sa.bindparam("id"))
    return query.where(_AVAILABLE) if available else query


@cache
def select_with_content(kind: type[Media], size: int, tables: Tables = MODELS) -> sa.Select[t.Any]:
    """The statement for an available record and, behind its columns, the first of its chunks, if
    the content is no longer than ``size`` and the database has it."""
    table, chunks = tables.of(kind), tables.chunks
    is_only = sa.text(f"{table.name}.file_size <= {size:d}")
    first = sa.and_(
        chunks.c.storage_key == table.c.storage_key, chunks.c.seq == sa.text("0"), is_only
    )
    return (
        _select_one(kind, tables, available=True)
        .add_columns(chunks.c.data)
        .outerjoin_from(table, chunks, first)
    )


def update_record(
    kind: type[Media], media_id: uuid.UUID, changes: Values, where: Values, tables: Tables = MODELS
) -> tuple[sa.Update, dict[str, t.Any]]:
    """The statement of :meth:`SQLRepository.update`, and the values of its parameters."""
    given = {"id_": media_id, **changes} | {f"{name}_": value for name, value in where.items()}
    return _update(kind, tuple(changes), tuple(where), tables), given


@cache
def _update(
    kind: type[Media], changed: tuple[str, ...], where: tuple[str, ...], tables: Tables
) -> sa.Update:
    """The statement that changes fields, given by their names, of a record that has the values of
    others, given by their names and an underscore."""
    table = tables.of(kind)
    matches = [table.c[name] == sa.bindparam(f"{name}_") for name in ("id", *where)]
    values: dict[str, t.Any] = {name: sa.bindparam(name) for name in changed}
    values.setdefault("version", table.c.version + sa.text("1"))
    return sa.update(table).where(*matches).values(values).returning(table)


@cache
def _fence(kind: type[Media], tables: Tables, dialect: str) -> t.Any:
    """The statement of :meth:`SQLRepository.fence`, with the fields of the record as parameters."""
    table = tables.of(kind)
    insert = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}[dialect](table)
    changes = {
        "state": sa.text("'deleting'"),
        "updated_at": insert.excluded.updated_at,
        "version": table.c.version + sa.text("1"),
    }
    is_unchanged = table.c.version <= insert.excluded.version
    return insert.on_conflict_do_update(
        index_elements=[table.c.id], set_=changes, where=is_unchanged
    ).returning(table)


@cache
def _note_drain(tables: Tables, dialect: str) -> t.Any:
    """The statement of :meth:`SQLRepository.note_drain`, with the fields of the note as
    parameters."""
    table = tables.of(MediaStorage)
    insert = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}[dialect](table)
    number = insert.excluded.version
    changes = {
        "version": sa.case((table.c.version > number, table.c.version), else_=number),
        "updated_at": insert.excluded.updated_at,
    }
    return insert.on_conflict_do_update(index_elements=[table.c.id], set_=changes).returning(
        table.c.id
    )


@cache
def _bury(kind: type[Media], tables: Tables) -> sa.Update:
    """The statement of :meth:`SQLRepository.bury`, with the parameter ``id_``."""
    table = tables.of(kind)
    query = sa.update(table).where(table.c.id == sa.bindparam("id_"), sa.text("state = 'deleting'"))
    nothing: dict[str, t.Any] = {column.key: sa.null() for column in table.c if column.nullable}
    return query.values(nothing).returning(table.c.id)


Scope = t.Literal["available", "public", "private"]
"""Which records one scan of a list goes through: all, the public ones, or the private ones of one
uploader."""

_SCOPES: dict[Scope, str] = {"available": IS_AVAILABLE, "public": IS_PUBLIC, "private": IS_PRIVATE}


def select_listing(
    listing: Listing[M], tables: Tables = MODELS
) -> tuple[sa.Select[t.Any], dict[str, t.Any]]:
    """The statement for one page of a list, and the values of its parameters."""
    given = {f"{name}_": value for name, value in listing.where.items()}
    if listing.limit is not None:
        given["limit"] = listing.limit
    if listing.after is not None:
        given |= {"after_value": listing.after[0], "after_id": listing.after[1]}

    scopes: tuple[Scope, ...] = ("available",)
    if listing.visible_to is not EVERYTHING:
        scopes = ("public",)
        if listing.shows_private:
            scopes = ("public", "private")
            given["identity"] = listing.visible_to

    shape = (listing.sort, listing.descending, listing.after is not None, listing.limit is not None)
    return _select_page(listing.kind, tuple(listing.where), scopes, *shape, tables), given


@cache
def _select_page(
    kind: type[Media],
    where: tuple[str, ...],
    scopes: tuple[Scope, ...],
    sort: str,
    descending: bool,
    behind: bool,
    limited: bool,
    tables: Tables,
) -> sa.Select[t.Any]:
    """One scan for each scope, in the order of the list and no longer than the page, and the first
    of both.

    A record is in one of the scopes alone. With one condition for both instead, no index would have
    the order and the records together, and records that nobody is shown would be read.
    """
    shape = (sort, descending, behind, limited)
    scans = [_select_scope(kind, where, scope, *shape, tables) for scope in scopes]
    if len(scans) == 1:
        return scans[0]
    union = sa.union_all(*(sa.select(scan.subquery()) for scan in scans)).subquery()
    return _page_of(sa.select(union), _order(union, sort), descending, limited)


def _select_scope(
    kind: type[Media],
    where: tuple[str, ...],
    scope: Scope,
    sort: str,
    descending: bool,
    behind: bool,
    limited: bool,
    tables: Tables,
) -> sa.Select[t.Any]:
    table = tables.of(kind)
    query = sa.select(table).where(sa.text(_SCOPES[scope]))
    first: list[sa.ColumnElement[t.Any]] = []
    if scope == "private":
        # PostgreSQL must not see that there is one uploader. If it did, any index with the order of
        # the list would do: it may think one of all records cheaper, where it expects to soon meet
        # enough of this uploader's.
        identity = sa.bindparam("identity", type_=table.c.uploaded_by.type)
        query = query.where(table.c.uploaded_by.in_([identity, identity]))
        first.append(table.c.uploaded_by)
        where = tuple(name for name in where if name != "uploaded_by")
    query = query.where(*(table.c[name] == sa.bindparam(f"{name}_") for name in where))

    if behind:
        columns = (
            {"after_id": table.c.id}
            if sort == "id"
            else {"after_value": table.c[sort], "after_id": table.c.id}
        )
        place = sa.tuple_(*columns.values())
        start = sa.tuple_(
            *(sa.bindparam(name, type_=column.type) for name, column in columns.items())
        )
        query = query.where(place < start if descending else place > start)
    return _page_of(query, [*first, *_order(table, sort)], descending, limited)


def _order(table: sa.FromClause, sort: str) -> list[sa.ColumnElement[t.Any]]:
    return [table.c[name] for name in dict.fromkeys((sort, "id"))]


def _page_of(
    query: sa.Select[t.Any],
    order: Sequence[sa.ColumnElement[t.Any]],
    descending: bool,
    limited: bool,
) -> sa.Select[t.Any]:
    """The first records of a query, in the order of the list."""
    query = query.order_by(*(column.desc() if descending else column for column in order))
    return query.limit(sa.bindparam("limit", type_=sa.BigInteger)) if limited else query


Matching = t.Literal["one", "any", "in"]
"""How owners are named: ``one`` by the parameter ``owner``, several by the list ``owners``, in an
array where the database knows arrays. PostgreSQL plans for one what it would for ten, and slower,
when it is in an array."""


@cache
def select_of_owners(
    kind: type[Media], matching: Matching, tables: Tables = MODELS
) -> sa.Select[t.Any]:
    """The statement for the media of a page of owners, with the parameters of ``matching`` and,
    where the kind does not fix it, ``reference_type``."""
    table = tables.of(kind)
    column = table.c[kind.owner_field]
    owned = {
        "one": column == sa.bindparam("owner"),
        "any": column == sa.any_(sa.bindparam("owners", type_=postgresql.ARRAY(sa.String))),
        "in": column.in_(sa.bindparam("owners", expanding=True)),
    }[matching]
    query = sa.select(table).where(_AVAILABLE, owned)
    if "reference_type" in table.c:
        query = query.where(table.c.reference_type == sa.bindparam("reference_type"))
    return query.order_by(*dict.fromkeys((table.c[kind.order], table.c.id)))


_Part = tuple[t.Callable[[t.Any], Media], t.Callable[[t.Any], tuple[t.Any, ...]]]


@cache
def _select_union(
    kinds: tuple[type[Media], ...], matching: Matching, tables: Tables
) -> tuple[sa.Select[t.Any], list[_Part]]:
    """The same for several kinds in one statement: columns that a kind lacks are read as NULL. The
    first column is the number of the kind, for which the list has what makes a record, and what
    takes its fields out of a row."""
    columns = {column.key: column for kind in kinds for column in tables.of(kind).c}
    selects, parts = [], []
    for number, kind in enumerate(kinds):
        own = tables.of(kind).c
        padded = [
            own.get(name, sa.cast(sa.null(), column.type).label(name))
            for name, column in columns.items()
        ]
        numbered = sa.literal_column(str(number)).label("kind_number")
        selects.append(
            select_of_owners(kind, matching, tables)
            .with_only_columns(numbered, *padded)
            .order_by(None)
        )
        parts.append(
            (
                row_reader(kind),
                itemgetter(*(1 + list(columns).index(name) for name in kind.field_names())),
            )
        )
    union = sa.union_all(*selects).subquery()
    order = [union.c[name] for name in dict.fromkeys(kind.order for kind in kinds)]
    return sa.select(union).order_by(union.c.kind_number, *order, union.c.id), parts


@cache
def _update_access(kind: type[Media], tables: Tables) -> sa.Update:
    """The statement that adds to one access count, with the parameters ``id_``, ``at`` and
    ``number``."""
    table = tables.of(kind)
    number, at = (
        sa.bindparam("number", type_=sa.BigInteger),
        sa.bindparam("at", type_=table.c.last_accessed_at.type),
    )
    changes = {
        "access_count": table.c.access_count + number,
        "last_accessed_at": _latest(table, at),
    }
    query = sa.update(table).where(table.c.id == sa.bindparam("id_"), _AVAILABLE)
    return query.values(changes).returning(table.c.id)


def update_accesses(kind: type[Media], tables: Tables = MODELS) -> sa.Update:
    """The statement that adds to many, with the parameters ``ids``, ``numbers`` and ``times``, and
    tells which there are. On PostgreSQL."""
    table = tables.of(kind)
    types = {"ids": sa.Uuid(), "numbers": sa.BigInteger(), "times": sa.DateTime(timezone=True)}
    arrays = [sa.bindparam(name, type_=postgresql.ARRAY(of)) for name, of in types.items()]
    columns = [
        sa.column(name, of) for name, of in zip(("id", "number", "at"), types.values(), strict=True)
    ]
    given = sa.func.unnest(*arrays).table_valued(*columns).render_derived("given")
    # Locked in the order of their ids, so that two processes cannot wait for each other.
    locked = sa.select(table.c.id, given.c.number, given.c.at).where(
        table.c.id == given.c.id, _AVAILABLE
    )
    locked = locked.order_by(table.c.id).with_for_update(of=table, key_share=True).cte("locked")
    changes = {
        "access_count": table.c.access_count + locked.c.number,
        "last_accessed_at": _latest(table, locked.c.at),
    }
    return sa.update(table).where(table.c.id == locked.c.id).values(changes).returning(table.c.id)


def _latest(table: sa.Table, at: sa.ColumnElement[datetime]) -> sa.ColumnElement[datetime]:
    last = table.c.last_accessed_at
    return sa.case((last > at, last), else_=at)


def select_stored_size(selection: Selection, tables: Tables = MODELS) -> sa.Select[t.Any]:
    """The statement for a sum of sizes over several kinds."""
    sizes = []
    for kind, where in selection.items():
        table = tables.of(kind)
        matches = [table.c[name] == value for name, value in where.items()]
        kept = (_AVAILABLE, table.c.storage_key.is_not(None))
        sizes.append(sa.select(sa.func.sum(table.c.file_size).label("size")).where(*kept, *matches))
    union = sa.union_all(*sizes).subquery()
    return sa.select(sa.func.sum(union.c.size))


@cache
def select_announced(tables: Tables = MODELS) -> t.Any:
    """The statement for the number of uploads that were announced and have not ended, and the sum
    of their sizes."""
    parts = []
    for kind in KINDS.values():
        table = tables.of(kind)
        query = sa.select(table.c.file_size).where(_UNFINISHED, sa.text("state = 'pending'"))
        query = query.where(
            table.c.uploaded_by == sa.bindparam("uploaded_by"), table.c.checksum.is_not(None)
        )
        parts.append(
            query.where(
                table.c.updated_at >= sa.bindparam("since"), table.c.id != sa.bindparam("but")
            )
        )
    union = sa.union_all(*parts).subquery()
    return sa.select(sa.func.count(), sa.func.sum(union.c.file_size)).select_from(union)


def select_unfinished(
    kind: type[Media],
    before: datetime,
    limit: int,
    after: Position | None = None,
    tables: Tables = MODELS,
) -> sa.Select[t.Any]:
    """The statement for the next records to sweep."""
    table = tables.of(kind)
    query = sa.select(table).where(_UNFINISHED, _NOT_TRASHED, table.c.updated_at < before)
    query = query.where(table.c.id != DRAINS_ID)
    if after is not None:
        time, last_id = after
        behind = sa.or_(table.c.updated_at > time, table.c.id > last_id)
        query = query.where(table.c.updated_at >= time, behind)
    return query.order_by(table.c.updated_at, table.c.id).limit(limit)
