"""The statements about media records in SQL: what is asked, and not how it is sent.

To put a statement together takes longer than to have it answered. So those that requests wait for
are made once, and their values are parameters.
"""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from operator import itemgetter

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from ..databases.tables import MODELS, Tables
from ..models import (
    IS_AVAILABLE,
    IS_PRIVATE,
    IS_PUBLIC,
    IS_UNFINISHED,
    KINDS,
    Media,
    MediaRecord,
    MediaStorage,
    MediaVariant,
    row_reader,
)
from .base import EVERYTHING, Listing, M, Position, Selection, Values

_AVAILABLE = sa.text(IS_AVAILABLE)
_UNFINISHED = sa.text(IS_UNFINISHED)
_TRASHED = sa.text("state = 'trashed'")
_NOT_TRASHED = sa.text("state <> 'trashed'")

_NOT_BURIED = sa.text("NOT (state = 'deleting' AND storage_key IS NULL)")

_HELD = sa.and_(_NOT_BURIED, _NOT_TRASHED)
"""Neither buried, see :func:`bury_record`, nor in the trash."""

DRAINS_ID = uuid.UUID("00000000-0000-7000-8000-000000000000")
"""Id of a buried file that never was.

Its version is the number of the last drain: by it a journal is recognized that was restored from a
backup and is older than SQL.
"""

Query = sa.Select[t.Any] | sa.Insert | sa.Update


@cache
def insert_record(kind: type[MediaRecord], tables: Tables = MODELS) -> sa.Insert:
    """The statement that keeps a record, with its fields as parameters."""
    table = tables.of(kind)
    return sa.insert(table).returning(table.c.id)


@cache
def select_one(
    kind: type[MediaRecord],
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


def select_keys(
    kind: type[MediaRecord],
    ids: Sequence[uuid.UUID],
    tables: Tables = MODELS,
) -> sa.Select[t.Any]:
    """The statement for the storage keys of records in any state."""
    columns = tables.of(kind).c
    return sa.select(columns.storage_key).where(columns.id.in_(ids))


def select_after(
    kind: type[MediaRecord],
    after: uuid.UUID | None,
    limit: int,
    tables: Tables = MODELS,
) -> sa.Select[t.Any]:
    """The statement for records in any state, by id, without the note of the last drain."""
    table = tables.of(kind)
    query = sa.select(table).where(table.c.id != DRAINS_ID)
    return _next_by_id(query, table, after, limit)


def select_trashed(
    kind: type[MediaRecord],
    after: uuid.UUID | None,
    limit: int,
    tables: Tables = MODELS,
) -> sa.Select[t.Any]:
    """The statement for records in the trash, by id."""
    table = tables.of(kind)
    query = sa.select(table).where(_UNFINISHED, _TRASHED)
    return _next_by_id(query, table, after, limit)


def _next_by_id(
    query: sa.Select[t.Any],
    table: sa.Table,
    after: uuid.UUID | None,
    limit: int,
) -> sa.Select[t.Any]:
    """The first records of a query behind an id."""
    if after is not None:
        query = query.where(table.c.id > after)
    return query.order_by(table.c.id).limit(limit)


def select_number(
    kind: type[MediaRecord],
    *,
    trashed: bool,
    tables: Tables = MODELS,
) -> sa.Select[t.Any]:
    """The statement for the number of records in the trash, or of those that are neither there nor
    buried."""
    number = sa.func.count()
    query = sa.select(number).select_from(tables.of(kind))
    if trashed:
        return query.where(_UNFINISHED, _TRASHED)
    return query.where(_HELD)


@cache
def select_with_content(
    kind: type[MediaRecord],
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
    query = select_one(kind, tables, available=True)
    query = query.add_columns(chunks.c.data)
    return query.outerjoin_from(table, chunks, is_first)


@cache
def select_variant(tables: Tables = MODELS) -> sa.Select[t.Any]:
    """The statement for an available variant.

    Its parameters are ``media_id_``, ``source_key_``, ``name_`` and ``recipe_``.
    """
    table = tables.of(MediaVariant)
    matches = _matches(table, ("media_id", "source_key", "name", "recipe"))
    return sa.select(table).where(_AVAILABLE, *matches)


@cache
def select_variants(tables: Tables = MODELS, *, as_array: bool) -> sa.Select[t.Any]:
    """The statement for the variants of some originals, with the parameter ``ids``.

    :param as_array: The database knows arrays.
    """
    table = tables.of(MediaVariant)
    is_derived = _is_derived(table, as_array=as_array)
    return sa.select(table).where(is_derived, _NOT_BURIED).order_by(table.c.id)


@cache
def select_derived_size(tables: Tables = MODELS, *, as_array: bool) -> sa.Select[t.Any]:
    """The statement for the sum of the sizes of available variants, with the same parameter.

    It is NULL where there are none.
    """
    table = tables.of(MediaVariant)
    is_derived = _is_derived(table, as_array=as_array)
    return sa.select(sa.func.sum(table.c.file_size)).where(is_derived, _AVAILABLE)


def _is_derived(table: sa.Table, *, as_array: bool) -> sa.ColumnElement[bool]:
    """The condition that a variant is of one of the originals in the parameter ``ids``."""
    media_id = table.c.media_id
    if as_array:
        ids = sa.bindparam("ids", type_=postgresql.ARRAY(sa.Uuid()))
        return media_id == sa.any_(ids)
    ids = sa.bindparam("ids", expanding=True, type_=sa.Uuid())
    return media_id.in_(ids)


@cache
def select_with_variant(
    kind: type[Media],
    size: int,
    tables: Tables = MODELS,
) -> sa.Select[t.Any]:
    """The statement for an available record, one of its variants, and the bytes of that.

    Its parameters are ``id``, ``name`` and ``recipe``. Behind the columns of the record are those
    of the variant, and the first of its chunks, as in :func:`select_with_content`.

    :param size: In bytes. It is a part of the statement, and no parameter.
    """
    table = tables.of(kind)
    variants = tables.of(MediaVariant)
    chunks = tables.chunks
    is_variant = sa.and_(
        variants.c.media_id == table.c.id,
        variants.c.source_key == table.c.storage_key,
        variants.c.name == sa.bindparam("name"),
        variants.c.recipe == sa.bindparam("recipe"),
        sa.text(f"{variants.name}.{IS_AVAILABLE}"),
    )
    is_first = sa.and_(
        chunks.c.storage_key == variants.c.storage_key,
        chunks.c.seq == sa.text("0"),
        sa.text(f"{variants.name}.file_size <= {size:d}"),
    )
    query = sa.select(table, variants, chunks.c.data).where(
        table.c.id == sa.bindparam("id"),
        sa.text(f"{table.name}.{IS_AVAILABLE}"),
    )
    joined = table.outerjoin(variants, is_variant).outerjoin(chunks, is_first)
    return query.select_from(joined)


def update_record(
    kind: type[MediaRecord],
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
    kind: type[MediaRecord],
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
def fence_record(kind: type[MediaRecord], tables: Tables, dialect: str) -> t.Any:
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
def note_drain(tables: Tables, dialect: str) -> t.Any:
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


def delete_record(
    kind: type[MediaRecord],
    media_id: uuid.UUID,
    tables: Tables = MODELS,
) -> sa.Delete:
    """The statement that takes a record away."""
    table = tables.of(kind)
    return sa.delete(table).where(table.c.id == media_id)


@cache
def bury_record(kind: type[MediaRecord], tables: Tables) -> sa.Update:
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
    kind: type[MediaRecord],
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
    kind: type[MediaRecord],
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
    if kind.names_type():
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
def select_union(
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
def update_access(kind: type[MediaRecord], tables: Tables) -> sa.Update:
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


def update_accesses(kind: type[MediaRecord], tables: Tables = MODELS) -> sa.Update:
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
    kind: type[MediaRecord],
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
