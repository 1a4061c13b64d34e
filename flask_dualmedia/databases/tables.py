"""Our SQL tables under the names that one app gives them, and how they are told from those of the
host."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.sql.elements import conv

from ..errors import NamesTaken
from ..models import Base, Media, MediaChunk
from .shapes import OLDEST_FIELDS

VERSION_TABLE = "dualmedia_version"


class Tables:
    """The tables of the models, with a prefix before every name: of tables, indexes and
    constraints.

    Without a prefix they are the tables of the models themselves. Use :func:`tables_for`, which
    makes each once.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.version_table = prefix + VERSION_TABLE
        self.metadata = Base.metadata
        if prefix:
            self.metadata = sa.MetaData()
            for table in Base.metadata.tables.values():
                _rename_parts(table.to_metadata(self.metadata, name=prefix + table.name), prefix)

    def of(self, kind: type[Media]) -> sa.Table:
        """The table of the records of a kind."""
        return self._named(kind.__tablename__)

    @property
    def chunks(self) -> sa.Table:
        """The table of the bytes."""
        return self._named(MediaChunk.__tablename__)

    @cached_property
    def names(self) -> list[str]:
        """The names of the tables, and of the one with the state of the revisions."""
        return [*self.metadata.tables, self.version_table]

    @cached_property
    def indexes(self) -> dict[str, str]:
        """The names of the indexes, those that serve a primary key too, and of the table of
        each."""
        named = [
            (part.name, table.name)
            for table in self.metadata.tables.values()
            for part in (*table.indexes, table.primary_key)
        ]
        return {str(name): table for name, table in named}

    def plain_name(self, name: str) -> str | None:
        """The name that the models give a table, ``None`` for one that has no name of ours."""
        return name[len(self.prefix) :] if name in self.names else None

    def _named(self, name: str) -> sa.Table:
        return self.metadata.tables[self.prefix + name]


@cache
def tables_for(prefix: str) -> Tables:
    """The tables of apps with this prefix. They are the same object, so that statements about them
    are made once."""
    return Tables(prefix)


MODELS = tables_for("")
"""The tables as the models name them."""


def _rename_parts(table: sa.Table, prefix: str) -> None:
    """Names of indexes are the schema's in PostgreSQL, and those of constraints are where they are
    indexes too."""
    for part in [*table.indexes, *table.constraints]:
        if part.name:
            part.name = conv(prefix + str(part.name))


_SETTING = "DUALMEDIA_TABLE_PREFIX"

_OURS = "|".join(map(re.escape, (*Base.metadata.tables, VERSION_TABLE)))
_NAME = re.compile(rf"\b\w*(?:{_OURS})\w*\b")
"""Names of tables, and those of indexes and constraints, which have the table's name in them."""


def renamed(text: str, prefix: str) -> str:
    """SQL in which every name of ours has the prefix; those that have it already are left."""

    def rename(match: re.Match[str]) -> str:
        name = match[0]
        if name.startswith(prefix) and _NAME.match(name[len(prefix) :]):
            return name
        return prefix + name

    return _NAME.sub(rename, text) if prefix else text


@contextmanager
def renamed_statements(connection: sa.Connection, tables: Tables) -> Iterator[None]:
    """Have every statement on a connection name our tables as the app does: revisions know no
    prefix."""
    prefix = tables.prefix
    if not prefix:
        yield
        return
    names = {*Base.metadata.tables, VERSION_TABLE}

    def rename_parameter(value: t.Any) -> t.Any:
        """Reflection passes the names of tables as parameters."""
        if isinstance(value, str):
            return prefix + value if value in names else value
        if isinstance(value, dict):
            return {name: rename_parameter(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(rename_parameter, value))
        return value

    def rename(
        _connection: t.Any, _cursor: t.Any, statement: str, parameters: t.Any, *_rest: t.Any
    ) -> t.Any:
        return renamed(statement, prefix), rename_parameter(parameters)

    def name_as_models(part: sa.Constraint, table: t.Any) -> None:
        """SQLite cannot change a constraint: Alembic reads the table that a revision names, and
        makes it anew. What the revision names in it must be found."""
        name = part.name
        if table.name in names and isinstance(name, str) and name.startswith(prefix):
            part.name = conv(name.removeprefix(prefix))

    listeners: list[tuple[t.Any, str, t.Callable[..., t.Any]]] = [
        (connection, "before_cursor_execute", rename),
        (sa.Constraint, "before_parent_attach", name_as_models),
    ]
    event.listen(*listeners[0], retval=True)
    event.listen(*listeners[1])
    try:
        yield
    finally:
        for listener in listeners:
            event.remove(*listener)


class RenamedOutput:
    """A text stream for the SQL of revisions that are not run but written down.

    :param stream: Gets it, with the names that the app gives our tables.
    """

    def __init__(self, stream: t.TextIO, tables: Tables) -> None:
        self._stream, self._prefix = stream, tables.prefix

    def write(self, text: str) -> None:
        self._stream.write(renamed(text, self._prefix))

    def flush(self) -> None:
        self._stream.flush()


def is_table_of_ours(name: str, columns: Iterable[str]) -> bool:
    """Whether a table of this name, without the prefix, is ours: it has the columns that ours had
    from the beginning. It may lack those of newer revisions."""
    if name == VERSION_TABLE:
        return set(columns) == {"version_num"}
    expected = OLDEST_FIELDS.get(name) or Base.metadata.tables[name].columns.keys()
    return set(columns).issuperset(expected)


def check_metadata(metadata: sa.MetaData, tables: Tables) -> None:
    """Make sure that no table that the host has defined has a name of ours.

    :raises NamesTaken: One has.
    """
    foreign = [
        f"the table {table.name!r} in its metadata"
        for table in metadata.tables.values()
        if (name := tables.plain_name(table.key)) is not None
        and not is_table_of_ours(name, table.columns.keys())
    ]
    if foreign:
        raise NamesTaken("the app", foreign, _SETTING)


def copy_tables(tables: Tables, metadata: sa.MetaData) -> None:
    """Add our tables to those that the host has defined.

    They stay where connections look first: a schema that the host's metadata has by default is not
    theirs.
    """
    schema, metadata.schema = metadata.schema, None
    try:
        for table in tables.metadata.tables.values():
            if table.name not in metadata.tables:
                table.to_metadata(metadata)
    finally:
        metadata.schema = schema


def check_names(connection: sa.Connection, tables: Tables) -> None:
    """Make sure that everything in the database that has a name of ours is ours.

    :raises NamesTaken: Something is not.
    """
    find = _FINDERS.get(connection.dialect.name, _find_tables)
    foreign = [*find(connection, tables)]
    if foreign:
        raise NamesTaken("the SQL database", foreign, _SETTING)


def _find_tables(connection: sa.Connection, tables: Tables) -> Iterator[str]:
    """Tables and views of the host's with names of ours."""
    kind = sa.engine.reflection.ObjectKind.ANY
    found = sa.inspect(connection).get_multi_columns(filter_names=tables.names, kind=kind)
    for (_, name), columns in found.items():
        plain = tables.plain_name(name)
        if plain is not None and not is_table_of_ours(
            plain, [column["name"] for column in columns]
        ):
            yield f"the table {name!r}"


def _find_in_sqlite(connection: sa.Connection, tables: Tables) -> Iterator[str]:
    yield from _find_tables(connection, tables)
    query = sa.text(
        "SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND name IN :names"
    )
    given = {"names": [*tables.indexes]}
    for name, table in connection.execute(
        query.bindparams(sa.bindparam("names", expanding=True)), given
    ):
        if table != tables.indexes[name]:
            yield f"the index {name!r} of {table!r}"


_IN_POSTGRESQL = sa.text("""
    SELECT c.relname, c.relkind::text, t.relname, ARRAY(
        SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    )
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = i.indrelid
    WHERE c.relname IN :names
    UNION ALL
    SELECT y.typname, 'type', NULL, NULL
    FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace AND n.nspname = current_schema()
    WHERE y.typname IN :names AND y.typtype <> 'c'
""").bindparams(sa.bindparam("names", expanding=True))

_RELATIONS = {"i": "index", "I": "index", "S": "sequence", "v": "view", "m": "view", "c": "type"}


def _find_in_postgresql(connection: sa.Connection, tables: Tables) -> Iterator[str]:
    """What shares one space of names with tables: views, indexes, sequences and types too."""
    given = {"names": [*tables.names, *tables.indexes]}
    for name, relation, table, columns in connection.execute(_IN_POSTGRESQL, given):
        what = _RELATIONS.get(relation, "table" if relation != "type" else "type")
        plain = tables.plain_name(name)
        if plain is None:
            if table is None or table != tables.indexes[name]:
                of_table = "" if table is None else f" of {table!r}"
                yield f"the {what} {name!r}{of_table}"
        elif what not in ("table", "view") or not is_table_of_ours(plain, columns):
            yield f"the {what} {name!r}"


_FINDERS = {"postgresql": _find_in_postgresql, "sqlite": _find_in_sqlite}
