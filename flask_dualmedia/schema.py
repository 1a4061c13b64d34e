"""The SQL schema: brought up to date by the revisions in ``migrations/``, and checked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from .models import KINDS, TRASHED, Base

VERSION_TABLE = "dualmedia_version"

# Names our advisory lock among all that the database may know: "dualmedi" in ASCII.
_LOCK = 0x6475616C6D656469


def migrations_directory() -> Path:
    """The Flask-Migrate directory: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    shipped = package / "migrations"
    return shipped if shipped.is_dir() else package.parent / "migrations"


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Run our revisions up to ``revision``. Processes that do so at once wait for each other."""
    with _locked_connection(engine) as connection:
        current, present = current_revision(connection), set(sa.inspect(connection).get_table_names())
        if current is None and is_complete(connection):
            return  # made by the revisions of a host, who keeps them up to date
        if current is not None and present.isdisjoint(Base.metadata.tables):
            command.stamp(_config(connection), "base")  # dropped past the revisions, as by db.drop_all()
        elif revision == "head" and (current == head_revision() or not _is_known(current)):
            return
        command.upgrade(_config(connection), revision)


def downgrade(engine: sa.Engine, revision: str = "base") -> None:
    """Undo our revisions down to ``revision``; ``base`` leaves nothing of ours."""
    with _locked_connection(engine) as connection:
        command.downgrade(_config(connection), revision)


def current_revision(connection: sa.Connection) -> str | None:
    """The revision that the database is at, ``None`` if ours were never run on it."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def head_revision() -> str | None:
    """The newest revision that there is."""
    return ScriptDirectory(str(migrations_directory())).get_current_head()


def _is_known(revision: str | None) -> bool:
    """Whether a revision is one of ours, and not of a later version, whose workers run already."""
    scripts = ScriptDirectory(str(migrations_directory())).walk_revisions()
    return revision is None or any(script.revision == revision for script in scripts)


def is_complete(connection: sa.Connection) -> bool:
    """Whether all our tables and columns are there, whoever's revisions made them."""
    tables = Base.metadata.tables
    found = sa.inspect(connection).get_multi_columns(filter_names=[*tables])
    present = {name: {column["name"] for column in columns} for (_, name), columns in found.items()}
    return all(present.get(name, set()) >= {*table.columns.keys()} for name, table in tables.items())


def keep_chunks_uncompressed(connection: sa.Connection) -> None:
    """Set the storage of chunks to EXTERNAL on PostgreSQL, where a host's own revisions made the table.

    Alembic's autogenerate does not see column storage. Media are compressed already, and a range of a compressed
    value costs decompressing all that stands before it.
    """
    if connection.dialect.name != "postgresql":
        return
    storage = connection.execute(
        sa.text(
            "SELECT attstorage::text FROM pg_attribute WHERE attrelid = 'media_chunks'::regclass AND attname = 'data'"
        )
    ).scalar_one()
    if storage != "e":
        connection.execute(sa.text("ALTER TABLE media_chunks ALTER COLUMN data SET STORAGE EXTERNAL"))


def allow_trash(connection: sa.Connection) -> None:
    """Let the state of a record be ``trashed`` on PostgreSQL, where a host's own revisions made the tables.

    Alembic's autogenerate does not see check constraints.
    """
    if connection.dialect.name != "postgresql":
        return
    allowed = "state IN ('pending', 'available', 'deleting', 'trashed')"
    for table in KINDS.values():
        name = table.__tablename__
        rule = connection.execute(
            sa.text(
                "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
                " WHERE conrelid = CAST(:table AS regclass) AND conname = :constraint"
            ),
            {"table": name, "constraint": f"ck_{name}_state"},
        ).scalar_one_or_none()
        if rule is not None and TRASHED not in rule:
            connection.execute(
                sa.text(
                    f"ALTER TABLE {name} DROP CONSTRAINT ck_{name}_state,"
                    f" ADD CONSTRAINT ck_{name}_state CHECK ({allowed})"
                )
            )


@contextmanager
def _locked_connection(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection that is no longer the pool's: nothing of a start-up may be inherited by forked workers."""
    with engine.connect() as connection:
        connection.detach()
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
            connection.commit()  # the lock is the session's and goes when the connection is closed
        yield connection
        connection.commit()


def _config(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
