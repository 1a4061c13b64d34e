"""Our SQL tables under the names that one app gives them, and how they differ from the host's."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, cached_property

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.sql.elements import conv

from ..errors import NamesTaken
from ..models import Base, MediaChunk, MediaRecord, required_columns

VERSION_TABLE = "dualmedia_version"


class Tables:
    """The tables of the models, with a prefix before every name.

    Tables, indexes and constraints have one. Without a prefix they are the tables of the models
    themselves. Use :func:`tables_for`, which makes each once.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.version_table = prefix + VERSION_TABLE
        self.metadata = Base.metadata
        if prefix:
            self.metadata = sa.MetaData()
            for table in Base.metadata.tables.values():
                copy = table.to_metadata(self.metadata, name=prefix + table.name)
                _rename_parts(copy, prefix)

    def of(self, kind: type[MediaRecord]) -> sa.Table:
        """Return the table of the records of a kind."""
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
        """The name of the table of each index, by the index's name.

        Indexes that serve a primary key are among them.
        """
        tables: dict[str, str] = {}
        for table in self.metadata.tables.values():
            for part in (*table.indexes, table.primary_key):
                tables[str(part.name)] = table.name
        return tables

    def plain_name(self, name: str) -> str | None:
        """Return the name that the models give a table, ``None`` for one without a name of ours."""
        if name not in self.names:
            return None
        return name[len(self.prefix) :]

    def _named(self, name: str) -> sa.Table:
        return self.metadata.tables[self.prefix + name]


@cache
def tables_for(prefix: str) -> Tables:
    """Return the tables of apps with this prefix.

    They are the same object, so that statements about them are made once.
    """
    return Tables(prefix)


MODELS = tables_for("")
"""The tables as the models name them."""


def _rename_parts(table: sa.Table, prefix: str) -> None:
    """Put the prefix before the names of a table's indexes and constraints.

    Names of indexes are the schema's in PostgreSQL, and those of constraints are where they are
    indexes too.
    """
    for part in [*table.indexes, *table.constraints]:
        if part.name:
            part.name = conv(prefix + str(part.name))


_SETTING = "DUALMEDIA_TABLE_PREFIX"

_PLAIN_NAMES = frozenset([*Base.metadata.tables, VERSION_TABLE])
"""The names of our tables as revisions have them."""

_ANY_PLAIN_NAME = "|".join(map(re.escape, (*Base.metadata.tables, VERSION_TABLE)))
_NAME = re.compile(rf"\b\w*(?:{_ANY_PLAIN_NAME})\w*\b")
"""Names of tables, and those of indexes and constraints, which have the table's name in them."""


def renamed(text: str, prefix: str) -> str:
    """Return SQL in which every name of ours has the prefix; those that have it stay."""
    if not prefix:
        return text

    def rename(match: re.Match[str]) -> str:
        name = match[0]
        if name.startswith(prefix) and _NAME.match(name[len(prefix) :]):
            return name
        return prefix + name

    return _NAME.sub(rename, text)


@contextmanager
def renamed_statements(connection: sa.Connection, tables: Tables) -> Iterator[None]:
    """Have every statement on a connection name our tables as the app does.

    Revisions know no prefix.
    """
    prefix = tables.prefix
    if not prefix:
        yield
        return

    def rename(
        _connection: t.Any, _cursor: t.Any, statement: str, parameters: t.Any, *_rest: t.Any
    ) -> t.Any:
        return renamed(statement, prefix), _renamed_parameter(parameters, prefix)

    name_as_models = _constraint_namer(prefix)
    event.listen(connection, "before_cursor_execute", rename, retval=True)
    event.listen(sa.Constraint, "before_parent_attach", name_as_models)
    try:
        yield
    finally:
        event.remove(connection, "before_cursor_execute", rename)
        event.remove(sa.Constraint, "before_parent_attach", name_as_models)


def _renamed_parameter(value: t.Any, prefix: str) -> t.Any:
    """Return a parameter with the names of our tables in it prefixed: reflection passes them so."""
    if isinstance(value, str):
        if value in _PLAIN_NAMES:
            return prefix + value
        return value
    if isinstance(value, dict):
        return {name: _renamed_parameter(item, prefix) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_renamed_parameter(item, prefix) for item in value)
    return value


def _constraint_namer(prefix: str) -> Callable[[sa.Constraint, t.Any], None]:
    """Return a listener that gives constraints the names of the models.

    SQLite cannot change a constraint: Alembic reads the table that a revision names, and makes it
    anew. It must find the names that the revision has for its constraints.
    """

    def name_as_models(part: sa.Constraint, table: t.Any) -> None:
        name = part.name
        if table.name not in _PLAIN_NAMES or not isinstance(name, str):
            return
        if name.startswith(prefix):
            part.name = conv(name.removeprefix(prefix))

    return name_as_models


class RenamedOutput:
    """A text stream for the SQL of revisions that are not run but written down.

    :param stream: Gets it, with the names that the app gives our tables.
    """

    def __init__(self, stream: t.TextIO, tables: Tables) -> None:
        self._stream = stream
        self._prefix = tables.prefix

    def write(self, text: str) -> None:
        """Pass SQL on, renamed."""
        self._stream.write(renamed(text, self._prefix))

    def flush(self) -> None:
        self._stream.flush()


def is_table_of_ours(name: str, columns: Iterable[str]) -> bool:
    """Whether a table of this name, without the prefix, is ours.

    It has the columns that ours had from the beginning. It may lack those of newer revisions.
    """
    if name == VERSION_TABLE:
        return set(columns) == {"version_num"}
    expected = required_columns(Base.metadata.tables[name])
    return expected.issubset(columns)


def check_metadata(metadata: sa.MetaData, tables: Tables) -> None:
    """Make sure that no table that the host has defined has a name of ours.

    :raises NamesTaken: One has.
    """
    foreign = []
    for table in metadata.tables.values():
        name = tables.plain_name(table.key)
        if name is not None and not is_table_of_ours(name, table.columns.keys()):
            foreign.append(f"the table {table.name!r} in its metadata")
    if foreign:
        raise NamesTaken("the app", foreign, _SETTING)


def copy_tables(tables: Tables, metadata: sa.MetaData) -> None:
    """Add our tables to those that the host has defined.

    They stay where connections look first: a schema that the host's metadata has by default is not
    theirs.
    """
    schema = metadata.schema
    metadata.schema = None
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
    """Find tables and views of the host's with names of ours."""
    kind = sa.engine.reflection.ObjectKind.ANY
    reflected = sa.inspect(connection).get_multi_columns(filter_names=tables.names, kind=kind)
    for (_, name), columns in reflected.items():
        plain_name = tables.plain_name(name)
        column_names = [column["name"] for column in columns]
        if plain_name is not None and not is_table_of_ours(plain_name, column_names):
            yield f"the table {name!r}"


_IN_SQLITE = sa.text("""
    SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND name IN :names
""").bindparams(sa.bindparam("names", expanding=True))


def _find_in_sqlite(connection: sa.Connection, tables: Tables) -> Iterator[str]:
    yield from _find_tables(connection, tables)
    parameters = {"names": [*tables.indexes]}
    for name, table in connection.execute(_IN_SQLITE, parameters):
        if table != tables.indexes[name]:
            yield f"the index {name!r} of {table!r}"


_IN_POSTGRESQL = sa.text("""
    SELECT c.relname, c.relkind::text, t.relname, ARRAY(
        SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    )
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = current_schema()
    LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_class t ON t.oid = i.indrelid
    WHERE c.relname IN :names
    UNION ALL
    SELECT y.typname, 'type', NULL, NULL
    FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace AND n.nspname = current_schema()
    WHERE y.typname IN :names AND y.typtype <> 'c'
""").bindparams(sa.bindparam("names", expanding=True))

_RELATIONS = {
    "i": "index",
    "I": "index",
    "S": "sequence",
    "v": "view",
    "m": "view",
    "c": "type",
    "type": "type",
}
"""The names of relations, where they are no tables."""


def _find_in_postgresql(connection: sa.Connection, tables: Tables) -> Iterator[str]:
    """Find everything of the host's that shares one space of names with tables.

    Views, indexes, sequences and types are among it.
    """
    parameters = {"names": [*tables.names, *tables.indexes]}
    for name, relation, table, columns in connection.execute(_IN_POSTGRESQL, parameters):
        relation_name = _RELATIONS.get(relation, "table")
        plain_name = tables.plain_name(name)
        if plain_name is not None:
            is_ours = relation_name in ("table", "view") and is_table_of_ours(plain_name, columns)
            if not is_ours:
                yield f"the {relation_name} {name!r}"
        elif table is None:
            yield f"the {relation_name} {name!r}"
        elif table != tables.indexes[name]:
            yield f"the {relation_name} {name!r} of {table!r}"


_FINDERS = {"postgresql": _find_in_postgresql, "sqlite": _find_in_sqlite}
