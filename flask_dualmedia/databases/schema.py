"""The SQL schema: brought up to date by the revisions in ``migrations/``, and checked."""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ..errors import NamesTaken, WritesRefused
from ..models import TABLES, TRASHED
from .poolers import look_for_pooler
from .pools import set_aside
from .rights import Rights, is_about_rights, rights_of, said_by_server
from .sql import SQLDatabase
from .tables import MODELS, Tables, check_names
from .turns import alone_in_process, alone_on_database

logger = logging.getLogger("flask_dualmedia")


def migrations_directory() -> Path:
    """Return the Flask-Migrate directory.

    It is inside the package when installed from a wheel, and beside it in a checkout.
    """
    package = Path(__file__).parents[1]
    shipped = package / "migrations"
    if shipped.is_dir():
        return shipped
    return package.parent / "migrations"


def upgrade(
    database: sa.Engine | SQLDatabase, revision: str = "head", *, tables: Tables = MODELS
) -> None:
    """Run our revisions up to ``revision``.

    Processes and threads that do so at once wait for each other.

    :raises NamesTaken: Something of the host's has a name of ours. It is left as it is.
    :raises DatabaseBusy: Another upgrade, or those who use the tables, took too long. Nothing was
        changed.
    :raises WritesRefused: The account lacks a right; the message has the statements that give it.
        Nothing was changed.
    """
    database = SQLDatabase.of(database).within(None)
    with _explained_refusals(database, tables), alone_on_database(database) as connection:
        check_names(connection, tables)
        current = current_revision(connection, tables)
        present = set(sa.inspect(connection).get_table_names())
        if current is None and is_complete(connection, tables):
            amend(connection, tables)  # made by the revisions of a host, who keeps them up to date
            return

        is_dropped = current is not None and present.isdisjoint(tables.metadata.tables)
        if not is_dropped and revision == "head" and _needs_nothing(current):
            return
        with alone_in_process():
            if is_dropped:
                # Past the revisions, as by db.drop_all().
                command.stamp(_config(connection, tables), "base")
            command.upgrade(_config(connection, tables), revision)


def _needs_nothing(current: str | None) -> bool:
    """Whether a schema is at our newest revision, or at one of a later version."""
    return current == head_revision() or not _is_known(current)


def downgrade(
    database: sa.Engine | SQLDatabase, revision: str = "base", *, tables: Tables = MODELS
) -> None:
    """Undo our revisions down to ``revision``; ``base`` leaves nothing of ours.

    :raises NamesTaken: Something of the host's has a name of ours. It is left as it is.
    :raises DatabaseBusy: As :func:`upgrade` does.
    :raises WritesRefused: As :func:`upgrade` does.
    """
    database = SQLDatabase.of(database).within(None)
    with _explained_refusals(database, tables), alone_on_database(database) as connection:
        check_names(connection, tables)
        with alone_in_process():
            command.downgrade(_config(connection, tables), revision)


@contextmanager
def _explained_refusals(database: SQLDatabase, tables: Tables) -> Iterator[None]:
    """Have a refusal for want of a right say which, and how it is given."""
    try:
        yield
    except WritesRefused as error:
        if not is_about_rights(error):
            raise
        with database.connect() as connection:
            connection.detach()
            rights = rights_of(connection, tables)
        raise WritesRefused(error.database, _advice(error, rights)) from error.__cause__


def _advice(error: WritesRefused, rights: Rights | None) -> str:
    """Return the reason of a refusal for want of a right, with what is to be done about it."""
    reason = error.reason
    message = said_by_server(error)
    if message:
        reason = f"{reason} ({message})"

    steps = [
        'have an account that may run "flask dualmedia upgrade", or give the rights to this one'
    ]
    if rights is not None:
        steps += rights.missing_for_upgrade()
    return f"{reason}; {'. '.join(steps)}"


class Amendment(t.NamedTuple):
    """A change of a table that autogenerate does not see."""

    table: str
    statement: str


@dataclass(frozen=True)
class Condition:
    """How our tables are, and what may be done with them."""

    is_complete: bool
    """Whether all tables and columns are there, whoever's revisions made them."""
    is_behind: bool
    """Whether our revisions have something to do."""
    amendments: tuple[Amendment, ...]
    """Changes that make good what a host's own revisions do not see."""
    rights: Rights | None
    """The rights of the account, where the database knows of rights."""


def examine(connection: sa.Connection, tables: Tables = MODELS) -> Condition:
    """Find out how our tables are.

    Nothing is changed, and nothing read for which a right may be missing.
    """
    rights = rights_of(connection, tables)
    present = set(sa.inspect(connection).get_table_names())
    has_tables = not present.isdisjoint(tables.metadata.tables)
    is_whole = is_complete(connection, tables)

    is_behind = not is_whole
    if rights is None or rights.may_read(tables.version_table):
        current = current_revision(connection, tables)
        if current is not None:
            is_behind = not has_tables or (current != head_revision() and _is_known(current))

    amendments: tuple[Amendment, ...] = ()
    if is_whole:
        amendments = tuple(_amendments(connection, tables))
    return Condition(is_whole, is_behind, amendments, rights)


def amend(connection: sa.Connection, tables: Tables = MODELS) -> None:
    """Make good what autogenerate does not see, where a host's own revisions made the tables."""
    for amendment in _amendments(connection, tables):
        connection.execute(sa.text(amendment.statement))


def amend_owned(database: SQLDatabase, tables: Tables = MODELS) -> None:
    """:func:`amend` the tables that the account owns, while nobody else does.

    :raises DatabaseBusy: As :func:`upgrade` does.
    :raises WritesRefused: As :func:`upgrade` does.
    """
    with alone_on_database(database.within(None)) as connection:
        rights = rights_of(connection, tables)
        for table, statement in _amendments(connection, tables):
            if rights is None or rights.owns(table):
                connection.execute(sa.text(statement))


def current_revision(connection: sa.Connection, tables: Tables = MODELS) -> str | None:
    """Return the revision that the database is at, ``None`` if ours were never run on it."""
    options = {"version_table": tables.version_table}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def head_revision() -> str | None:
    """Return the newest revision that there is."""
    return _scripts().get_current_head()


def _is_known(revision: str | None) -> bool:
    """Whether a revision is one of ours, and not of a later version, whose workers run already."""
    scripts = _scripts().walk_revisions()
    return revision is None or any(script.revision == revision for script in scripts)


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(migrations_directory()))


class NameCheck:
    """Makes sure, once, that everything in a database that has a name of ours is ours."""

    def __init__(self, database: SQLDatabase, tables: Tables) -> None:
        self._database = database
        self._tables = tables
        self._passed = False

    def __call__(self) -> None:
        """
        :raises NamesTaken: Something is the host's.
        :raises DatabaseUnavailable: Nobody knows.
        """
        if self._passed:
            return
        try:
            with self._database.connect() as connection:
                if self._database.speaks_psycopg:
                    driver = t.cast("t.Any", connection.connection.driver_connection)
                    look_for_pooler(self._database.engine, driver)
                set_aside(connection)
                check_names(connection, self._tables)
        except NamesTaken as error:
            logger.error("%s", error)
            raise
        self._passed = True


def is_complete(connection: sa.Connection, tables: Tables = MODELS) -> bool:
    """Whether all our tables and columns are there, whoever's revisions made them."""
    expected = tables.metadata.tables
    reflected = sa.inspect(connection).get_multi_columns(filter_names=[*expected])
    present: dict[str, set[str]] = {}
    for (_, name), columns in reflected.items():
        present[name] = {column["name"] for column in columns}

    for name, table in expected.items():
        if not present.get(name, set()).issuperset(table.columns.keys()):
            return False
    return True


def _amendments(connection: sa.Connection, tables: Tables) -> Iterator[Amendment]:
    if connection.dialect.name == "postgresql":
        yield from _uncompressed_chunks(connection, tables)
        yield from _allowed_trash(connection, tables)
        yield from _free_storage_names(connection, tables)


_STORAGE_OF_DATA = sa.text("""
    SELECT attstorage::text FROM pg_attribute
    WHERE attrelid = CAST(:name AS regclass) AND attname = 'data'
""")

_RULE_OF_CONSTRAINT = sa.text("""
    SELECT pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid = CAST(:table AS regclass) AND conname = :constraint
""")


def _uncompressed_chunks(connection: sa.Connection, tables: Tables) -> Iterator[Amendment]:
    """Have the storage of chunks be EXTERNAL.

    Alembic's autogenerate does not see column storage. Media are compressed already, and a range of
    a compressed value costs decompressing all that stands before it.
    """
    name = tables.chunks.name
    storage = connection.execute(_STORAGE_OF_DATA, {"name": name}).scalar_one()
    if storage != "e":
        yield Amendment(name, f"ALTER TABLE {name} ALTER COLUMN data SET STORAGE EXTERNAL")


def _allowed_trash(connection: sa.Connection, tables: Tables) -> Iterator[Amendment]:
    """Allow the state of a record to be ``trashed``.

    Alembic's autogenerate does not see check constraints.
    """
    allowed = "state IN ('pending', 'available', 'deleting', 'trashed')"
    for kind in TABLES.values():
        name = tables.of(kind).name
        constraint = f"{tables.prefix}ck_{kind.__tablename__}_state"
        parameters = {"table": name, "constraint": constraint}
        rule = connection.execute(_RULE_OF_CONSTRAINT, parameters).scalar_one_or_none()
        if rule is not None and TRASHED not in rule:
            change = f"DROP CONSTRAINT {constraint}, ADD CONSTRAINT {constraint} CHECK ({allowed})"
            yield Amendment(name, f"ALTER TABLE {name} {change}")


def _free_storage_names(connection: sa.Connection, tables: Tables) -> Iterator[Amendment]:
    """Let the storage of a record have any name. It is checked when the record is made.

    Alembic's autogenerate does not see check constraints.
    """
    for kind in TABLES.values():
        name = tables.of(kind).name
        constraint = f"{tables.prefix}ck_{kind.__tablename__}_storage_type"
        parameters = {"table": name, "constraint": constraint}
        rule = connection.execute(_RULE_OF_CONSTRAINT, parameters).scalar_one_or_none()
        if rule is not None:
            yield Amendment(name, f"ALTER TABLE {name} DROP CONSTRAINT {constraint}")


def _config(connection: sa.Connection, tables: Tables) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["tables"] = tables
    return config
