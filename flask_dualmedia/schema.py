"""The SQL schema: brought up to date by the revisions in ``migrations/``, and checked."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from .errors import NamesTaken
from .models import KINDS, TRASHED
from .pools import set_aside
from .repositories.sql import limited
from .sqlstates import translate_errors
from .tables import MODELS, Tables, check_names

logger = logging.getLogger("flask_dualmedia")

# Names our advisory lock among all that the database may know: "dualmedi" in ASCII.
_LOCK = 0x6475616C6D656469


def migrations_directory() -> Path:
    """The Flask-Migrate directory: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    shipped = package / "migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def upgrade(engine: sa.Engine, revision: str = "head", *, tables: Tables = MODELS) -> None:
    """Run our revisions up to ``revision``. Processes that do so at once wait for each other.

    :raises NamesTaken: Something of the host's has a name of ours. It is left as it is.
    """
    with _locked_connection(engine) as connection:
        check_names(connection, tables)
        current, present = current_revision(connection, tables), set(sa.inspect(connection).get_table_names())
        if current is None and is_complete(connection, tables):
            return  # made by the revisions of a host, who keeps them up to date
        if current is not None and present.isdisjoint(tables.metadata.tables):
            command.stamp(_config(connection, tables), "base")  # dropped past the revisions, as by db.drop_all()
        elif revision == "head" and (current == head_revision() or not _is_known(current)):
            return
        command.upgrade(_config(connection, tables), revision)


def downgrade(engine: sa.Engine, revision: str = "base", *, tables: Tables = MODELS) -> None:
    """Undo our revisions down to ``revision``; ``base`` leaves nothing of ours.

    :raises NamesTaken: Something of the host's has a name of ours. It is left as it is.
    """
    with _locked_connection(engine) as connection:
        check_names(connection, tables)
        command.downgrade(_config(connection, tables), revision)


def current_revision(connection: sa.Connection, tables: Tables = MODELS) -> str | None:
    """The revision that the database is at, ``None`` if ours were never run on it."""
    options = {"version_table": tables.version_table}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def head_revision() -> str | None:
    """The newest revision that there is."""
    return ScriptDirectory(str(migrations_directory())).get_current_head()


def _is_known(revision: str | None) -> bool:
    """Whether a revision is one of ours, and not of a later version, whose workers run already."""
    scripts = ScriptDirectory(str(migrations_directory())).walk_revisions()
    return revision is None or any(script.revision == revision for script in scripts)


class NameCheck:
    """Makes sure, once, that everything in a database that has a name of ours is ours."""

    def __init__(self, engine: sa.Engine, tables: Tables, *, timeout: float | None = None) -> None:
        """
        :param timeout: Seconds that it may take, ``None`` for any number.
        """
        self._engine, self._tables, self._timeout = engine, tables, timeout
        self._passed = False

    def __call__(self) -> None:
        """
        :raises NamesTaken: Something is the host's.
        :raises DatabaseUnavailable: Nobody knows.
        """
        if self._passed:
            return
        try:
            with (
                translate_errors(),
                self._engine.connect() as connection,
                limited(connection, self._timeout),
            ):
                set_aside(connection)
                check_names(connection, self._tables)
        except NamesTaken as error:
            logger.error("%s", error)
            raise
        self._passed = True


def is_complete(connection: sa.Connection, tables: Tables = MODELS) -> bool:
    """Whether all our tables and columns are there, whoever's revisions made them."""
    expected = tables.metadata.tables
    found = sa.inspect(connection).get_multi_columns(filter_names=[*expected])
    present = {name: {column["name"] for column in columns} for (_, name), columns in found.items()}
    return all(present.get(name, set()) >= {*table.columns.keys()} for name, table in expected.items())


def keep_chunks_uncompressed(connection: sa.Connection, tables: Tables = MODELS) -> None:
    """Set the storage of chunks to EXTERNAL on PostgreSQL, where a host's own revisions made the table.

    Alembic's autogenerate does not see column storage. Media are compressed already, and a range of a compressed
    value costs decompressing all that stands before it.
    """
    if connection.dialect.name != "postgresql":
        return
    name = tables.chunks.name
    query = "SELECT attstorage::text FROM pg_attribute WHERE attrelid = CAST(:name AS regclass) AND attname = 'data'"
    storage = connection.execute(sa.text(query), {"name": name}).scalar_one()
    if storage != "e":
        connection.execute(sa.text(f"ALTER TABLE {name} ALTER COLUMN data SET STORAGE EXTERNAL"))


def allow_trash(connection: sa.Connection, tables: Tables = MODELS) -> None:
    """Let the state of a record be ``trashed`` on PostgreSQL, where a host's own revisions made the tables.

    Alembic's autogenerate does not see check constraints.
    """
    if connection.dialect.name != "postgresql":
        return
    allowed = "state IN ('pending', 'available', 'deleting', 'trashed')"
    for kind in KINDS.values():
        name = tables.of(kind).name
        constraint = f"{tables.prefix}ck_{kind.__tablename__}_state"
        rule = connection.execute(
            sa.text(
                "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
                " WHERE conrelid = CAST(:table AS regclass) AND conname = :constraint"
            ),
            {"table": name, "constraint": constraint},
        ).scalar_one_or_none()
        if rule is not None and TRASHED not in rule:
            connection.execute(
                sa.text(
                    f"ALTER TABLE {name} DROP CONSTRAINT {constraint}, ADD CONSTRAINT {constraint} CHECK ({allowed})"
                )
            )


@contextmanager
def _locked_connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection that is no longer the pool's: nothing of a start-up may be inherited by forked workers."""
    with engine.connect() as connection:
        set_aside(connection)
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            connection.commit()  # the lock is the session's and goes when the connection is closed
        yield connection
        connection.commit()


def _config(connection: sa.Connection, tables: Tables) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes["tables"] = tables
    return config
