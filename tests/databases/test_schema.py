"""The SQL schema: revisions, what they make, and who may run them when."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import textwrap
import typing as t
import uuid
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
import sqlalchemy.exc
from alembic.util import CommandError

from flask_dualmedia.databases import schema
from flask_dualmedia.databases.tables import tables_for
from flask_dualmedia.models import Base, MediaStorage, now

from ..conftest import MakeApp

ROOT = Path(__file__).parent.parent.parent

DESIGNED = {
    "product_images": {
        "ix_product_images_owner", "uq_product_images_main", "ix_product_images_uploader",
        "ix_product_images_accessed", "ix_product_images_unfinished",
    },
    "course_videos": {
        "ix_course_videos_owner", "ix_course_videos_lesson",
        "ix_course_videos_uploader", "ix_course_videos_unfinished",
    },
    "course_resources": {
        "ix_course_resources_owner", "ix_course_resources_lesson", "ix_course_resources_uploader",
        "ix_course_resources_unfinished",
    },
    "media_storage": {
        "ix_media_storage_owner", "ix_media_storage_type",
        "ix_media_storage_uploader", "ix_media_storage_accessed",
        "ix_media_storage_unfinished",
    },
}  # fmt: skip
"""The 18 indexes of the original design."""

TWINS = {
    "product_images": {
        "ix_product_images_public", "ix_product_images_public_uploader",
        "ix_product_images_private",
        "ix_product_images_public_owner", "ix_product_images_private_owner",
        "ix_product_images_public_accessed",
    },
    "course_videos": {
        "ix_course_videos_public", "ix_course_videos_public_uploader", "ix_course_videos_private",
        "ix_course_videos_public_owner", "ix_course_videos_private_owner",
        "ix_course_videos_public_lesson", "ix_course_videos_private_lesson",
    },
    "course_resources": {
        "ix_course_resources_public", "ix_course_resources_public_uploader",
        "ix_course_resources_private",
        "ix_course_resources_public_owner", "ix_course_resources_private_owner",
        "ix_course_resources_public_lesson", "ix_course_resources_private_lesson",
    },
    "media_storage": {
        "ix_media_storage_public", "ix_media_storage_public_uploader", "ix_media_storage_private",
        "ix_media_storage_public_owner", "ix_media_storage_private_owner",
        "ix_media_storage_public_type",
        "ix_media_storage_public_accessed",
    },
}  # fmt: skip
"""Those by which lists find what their reader may see."""

INDEXES = {table: names | TWINS[table] for table, names in DESIGNED.items()}

VARIANTS = {
    "uq_media_variants_recipe", "ix_media_variants_original", "ix_media_variants_unfinished",
}  # fmt: skip

WITH_VARIANTS = INDEXES | {"media_variants": VARIANTS}

BARE_HOST = """
    from flask import Flask
    from flask_dualmedia import DualMedia
    app = Flask(__name__)
    app.config.from_prefixed_env()
    DualMedia(app)
"""

FULL_HOST = """
    from flask import Flask
    from flask_migrate import Migrate
    from flask_sqlalchemy import SQLAlchemy
    from sqlalchemy.orm import Mapped, mapped_column
    from flask_dualmedia import DualMedia
    app = Flask(__name__)
    app.config.from_prefixed_env()
    db = SQLAlchemy()
    class Note(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]
    db.init_app(app)
    Migrate(app, db)
    DualMedia(app)
"""


class Directory:
    """A folder with a host app in it, in which commands are run as its developer would."""

    def __init__(self, path: Path, source: str, url: str, mongo_uri: str) -> None:
        self._path = path
        (path / "app.py").write_text(textwrap.dedent(source))
        self._environment = os.environ | {
            "FLASK_SQLALCHEMY_DATABASE_URI": url,
            "FLASK_MONGO_URI": mongo_uri,
            "FLASK_JWT_SECRET_KEY": "a key for tests of at least thirty-two bytes",
            "PYTHONPATH": str(ROOT),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self._path, env=self._environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def flask(self, *arguments: str, status: int = 0) -> str:
        process = self.start("-m", "flask", *arguments)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == status, output
        return output


def inspect(url: str) -> t.Any:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    return sa.inspect(engine)


def tables(url: str) -> set[str]:
    return set(inspect(url).get_table_names())


def storage_of_chunks(url: str) -> str | bytes:
    """How PostgreSQL stores the bytes of a chunk: "e" is out of line and not compressed."""
    query = (
        "SELECT attstorage FROM pg_attribute"
        " WHERE attrelid = 'media_chunks'::regclass AND attname = 'data'"
    )
    address = sa.make_url(url).set(drivername="postgresql").render_as_string(False)
    with psycopg.connect(address) as connection:
        return t.cast("tuple[str | bytes]", connection.execute(query).fetchone())[0]


def test_the_revisions_make_the_indexes(migrated_url: str) -> None:
    """The original design's 5 + 4 + 4 + 5, and 7 + 7 + 7 + 9 for what readers may see, each by
    name."""
    inspector = inspect(migrated_url)
    found = {
        table: {index["name"] for index in inspector.get_indexes(table)} for table in WITH_VARIANTS
    }
    assert found == WITH_VARIANTS
    assert (sum(map(len, DESIGNED.values())), sum(map(len, INDEXES.values()))) == (18, 45)


def test_media_chunks_are_kept_uncompressed(migrated_url: str) -> None:
    """To read a range of a compressed value, all that stands before it has to be decompressed."""
    assert storage_of_chunks(migrated_url) in ("e", b"e")


def test_mongodb_has_those_of_the_indexes_that_it_needs(make_app: t.Any) -> None:
    database = make_app("mongo").extensions["dualmedia"].mongo
    found = {table: set(database[table].index_information()) - {"_id_"} for table in WITH_VARIANTS}
    needed = {
        table: names | {f"ix_{table}_public", f"ix_{table}_public_owner"}
        for table, names in DESIGNED.items()
    }
    assert found == needed | {"media_variants": VARIANTS}


@pytest.mark.long
def test_flask_db_on_a_host_without_flask_migrate(
    database_url: str, mongo_uri: str, tmp_path: Path
) -> None:
    host = Directory(tmp_path, BARE_HOST, database_url, mongo_uri)
    assert "0001" in host.flask("db", "upgrade")
    assert tables(database_url) == {*WITH_VARIANTS, "media_chunks", "dualmedia_version"}
    assert "No new upgrade operations detected" in host.flask("db", "check")
    with psycopg.connect(
        sa.make_url(database_url).set(drivername="postgresql").render_as_string(False)
    ) as connection:
        connection.execute("CREATE TABLE of_the_host (id int)")
    assert "No new upgrade operations detected" in host.flask("db", "check")
    host.flask("db", "downgrade", "base")
    assert tables(database_url) == {"dualmedia_version", "of_the_host"}
    assert "CREATE TABLE product_images" in host.flask("db", "upgrade", "--sql")
    host.flask("dualmedia", "upgrade")
    assert {*WITH_VARIANTS} <= tables(database_url)
    host.flask("dualmedia", "downgrade", "base", "--yes")
    assert not {*WITH_VARIANTS, "media_chunks"} & tables(database_url)


@pytest.mark.long
def test_a_host_with_flask_migrate_owns_our_tables(
    database_url: str, mongo_uri: str, tmp_path: Path
) -> None:
    """The tables are proposed once, then never again, and never dropped; nor are the host's."""
    host = Directory(tmp_path, FULL_HOST, database_url, mongo_uri)
    host.flask("db", "init")
    host.flask("db", "migrate", "-m", "with media")
    (revision,) = (tmp_path / "migrations" / "versions").glob("*.py")
    assert revision.read_text().count("op.create_table(") == 7
    host.flask("db", "upgrade")
    assert tables(database_url) == {*WITH_VARIANTS, "media_chunks", "note", "alembic_version"}
    inspector = inspect(database_url)
    assert {
        table: {index["name"] for index in inspector.get_indexes(table)} for table in WITH_VARIANTS
    } == WITH_VARIANTS
    assert "No new upgrade operations detected" in host.flask("db", "check")
    assert "No changes in schema detected" in host.flask("db", "migrate")
    # The next start makes good what autogenerate does not see.
    host.flask("routes")
    assert storage_of_chunks(database_url) in ("e", b"e")


@pytest.mark.long
def test_eight_processes_that_boot_at_once(
    database_url: str, mongo_uri: str, tmp_path: Path
) -> None:
    """They meet on an empty database, with the automatic upgrade on."""
    host = Directory(tmp_path, BARE_HOST, database_url, mongo_uri)
    processes = [host.start("-c", "import app; print('up')") for _ in range(8)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, outputs
    assert all(output == "up\n" for output in outputs), outputs
    assert tables(database_url) == {*WITH_VARIANTS, "media_chunks", "dualmedia_version"}


def test_the_schema_commands_in_mongo_only_mode(make_app: t.Any) -> None:
    result = make_app("mongo").test_cli_runner().invoke(args=["dualmedia", "upgrade"])
    assert result.exit_code == 1
    assert "Mongo-only mode" in result.output


def test_flask_dualmedia_sweep(app: t.Any) -> None:
    result = app.test_cli_runner().invoke(args=["dualmedia", "sweep", "--grace", "0"])
    assert result.exit_code == 0
    assert result.output == "Removed 0 unfinished record(s) and upload(s).\n"


@pytest.mark.parametrize("table", sorted(WITH_VARIANTS))
def test_the_revisions_and_the_models_agree_on_checks(migrated_url: str, table: str) -> None:
    """Autogenerate does not compare check constraints."""
    found = {check["name"] for check in inspect(migrated_url).get_check_constraints(table)}
    declared = {
        c.name for c in Base.metadata.tables[table].constraints if isinstance(c, sa.CheckConstraint)
    }
    assert found == declared


def test_tables_made_by_a_host_are_left_to_it(migrated_url: str, make_app: t.Any) -> None:
    """An app without Flask-Migrate on the database of one that has it."""
    with psycopg.connect(
        sa.make_url(migrated_url).set(drivername="postgresql").render_as_string(False)
    ) as connection:
        connection.execute("DROP TABLE dualmedia_version")
    make_app(SQLALCHEMY_DATABASE_URI=migrated_url, DUALMEDIA_AUTO_UPGRADE=True)
    assert "dualmedia_version" not in tables(migrated_url)


def test_tables_dropped_past_the_revisions_are_made_again(
    migrated_url: str, make_app: t.Any
) -> None:
    engine = sa.create_engine(migrated_url, poolclass=sa.NullPool)
    Base.metadata.drop_all(engine)
    make_app(SQLALCHEMY_DATABASE_URI=migrated_url, DUALMEDIA_AUTO_UPGRADE=True)
    assert {*WITH_VARIANTS} <= tables(migrated_url)


def states_allowed(url: str, prefix: str = "") -> dict[str, str]:
    inspector = inspect(url)
    checks = {table: inspector.get_check_constraints(f"{prefix}{table}") for table in INDEXES}
    return {
        table: next(
            check["sqltext"] for check in found if check["name"] == f"{prefix}ck_{table}_state"
        )
        for table, found in checks.items()
    }


@pytest.mark.parametrize("prefix", ["", "dm_"])
def test_tables_of_an_earlier_revision_of_a_host_may_hold_trash_after_the_next_start(
    database_url: str, make_app: t.Any, prefix: str
) -> None:
    """Autogenerate adds the new column to a host's own revisions, but does not see that a check has
    changed."""
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    tables_for(prefix).metadata.create_all(engine)
    with engine.begin() as connection:
        for table in INDEXES:
            name, rule = f"{prefix}{table}", f"{prefix}ck_{table}_state"
            connection.exec_driver_sql(f"ALTER TABLE {name} DROP CONSTRAINT {rule}")
            states = "state IN ('pending', 'available', 'deleting')"
            connection.exec_driver_sql(f"ALTER TABLE {name} ADD CONSTRAINT {rule} CHECK ({states})")
    make_app(
        SQLALCHEMY_DATABASE_URI=database_url,
        DUALMEDIA_AUTO_UPGRADE=True,
        DUALMEDIA_TABLE_PREFIX=prefix,
    )
    assert all("trashed" in rule for rule in states_allowed(database_url, prefix).values())


@pytest.mark.parametrize("prefix", ["", "dm_"])
def test_tables_of_an_earlier_revision_of_a_host_take_any_storage_after_the_next_start(
    database_url: str, make_app: MakeApp, prefix: str
) -> None:
    """A host's own revisions leave the checks that they once made: autogenerate does not see
    them."""
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    tables_for(prefix).metadata.create_all(engine)
    with engine.begin() as connection:
        for table in INDEXES:
            rule = f"{prefix}ck_{table}_storage_type CHECK (storage_type IN ('database', 'local'))"
            connection.exec_driver_sql(f"ALTER TABLE {prefix}{table} ADD CONSTRAINT {rule}")
    make_app(
        SQLALCHEMY_DATABASE_URI=database_url,
        DUALMEDIA_AUTO_UPGRADE=True,
        DUALMEDIA_TABLE_PREFIX=prefix,
    )
    for checks, _ in checks_and_indexes(database_url, prefix).values():
        assert not [name for name in checks if name.endswith("storage_type")]


REVISIONS = {
    "0001_media.py": "8db5d0834221",
    "0002_versions.py": "32ba7f6e7aa7",
    "0003_visible.py": "b96189235c20",
    "0004_storage_names.py": "debd3c07a29a",
    "0005_variants.py": "92fa88dd3ea4",
}
"""SHA-256 of every revision that was released, shortened. A database was made by the text as it
was: changes to the schema go into a new revision."""


def test_revisions_are_never_edited() -> None:
    folder = ROOT / "migrations" / "versions"
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in folder.glob("*.py")
    }
    assert found == REVISIONS


@pytest.mark.parametrize("prefix", ["", "dm_"])
def test_the_revisions_run_up_and_down_with_media_in_the_tables(
    tmp_path: Path, prefix: str
) -> None:
    """SQLite makes a table anew to change a check of it: rows, indexes and the other checks
    stay."""
    url = f"sqlite:///{tmp_path / 'media.db'}"
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    tables, media = tables_for(prefix), f"{prefix}media_storage"
    schema.upgrade(engine, "0001", tables=tables)
    row = {
        "id": uuid.uuid4().hex, "state": "available", "storage_type": "external",
        "is_public": True, "access_count": 3,
        "created_at": "2026-01-01", "updated_at": "2026-01-01",
        "reference_type": "page", "reference_id": "1",
        "media_type": "image",
    }  # fmt: skip
    with engine.begin() as connection:
        names = ", ".join(row)
        connection.execute(
            sa.text(f"INSERT INTO {media} ({names}) VALUES (:{', :'.join(row)})"), row
        )
    before = checks_and_indexes(url, prefix)
    schema.upgrade(engine, tables=tables)
    assert all("trashed" in rule for rule in states_allowed(url, prefix).values())
    with engine.begin() as connection:
        assert connection.execute(sa.text(f"SELECT version, access_count FROM {media}")).all() == [
            (1, 3)
        ]
        connection.execute(sa.text(f"UPDATE {media} SET state = 'trashed'"))
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            connection.execute(sa.text(f"UPDATE {media} SET media_type = 'smell'"))
    schema.downgrade(engine, "0001", tables=tables)
    assert checks_and_indexes(url, prefix) == before
    assert all(name.startswith(prefix) for names in before.values() for name in set().union(*names))
    with engine.begin() as connection:
        assert connection.execute(sa.text(f"SELECT state FROM {media}")).scalars().all() == [
            "deleting"
        ]
    schema.downgrade(engine, tables=tables)
    assert inspect(url).get_table_names() == [f"{prefix}dualmedia_version"]


def names_of_storages(engine: sa.Engine, prefix: str = "") -> list[str]:
    with engine.connect() as connection:
        query = sa.text(f"SELECT storage_type FROM {prefix}media_storage")
        return [*connection.execute(query).scalars()]


def insert_file(engine: sa.Engine, storage_type: str, prefix: str = "") -> None:
    row = {
        "id": uuid.uuid4(), "state": "available", "storage_type": storage_type,
        "is_public": True, "access_count": 3, "version": 1,
        "created_at": now(), "updated_at": now(),
        "reference_type": "page", "reference_id": "1", "media_type": "image",
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(sa.insert(tables_for(prefix).of(MediaStorage)).values(row))


@pytest.mark.parametrize("prefix", ["", "dm_"])
@pytest.mark.parametrize("database", ["postgresql", "sqlite"])
def test_the_revision_before_storages_had_names_is_returned_to_when_no_media_has_such_a_name(
    database_url: str, tmp_path: Path, database: str, prefix: str
) -> None:
    """Nothing is changed while there is media that the earlier version would not find."""
    url = database_url
    if database == "sqlite":
        url = f"sqlite:///{tmp_path / 'media.db'}"
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    tables = tables_for(prefix)
    schema.upgrade(engine, "0003", tables=tables)
    before = checks_and_indexes(url, prefix)
    insert_file(engine, "s3", prefix)
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        insert_file(engine, "archive", prefix)

    schema.upgrade(engine, tables=tables)
    insert_file(engine, "archive", prefix)
    after = checks_and_indexes(url, prefix)
    with pytest.raises(CommandError, match="media in the storage 'archive'"):
        schema.downgrade(engine, "0003", tables=tables)
    assert checks_and_indexes(url, prefix) == after
    assert names_of_storages(engine, prefix) == ["s3", "archive"]

    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {prefix}media_storage SET storage_type = 'local'")
    schema.downgrade(engine, "0003", tables=tables)
    assert checks_and_indexes(url, prefix) == before
    with pytest.raises(sqlalchemy.exc.IntegrityError):
        insert_file(engine, "archive", prefix)
    assert names_of_storages(engine, prefix) == ["local", "local"]


def test_the_command_says_which_media_keeps_an_earlier_revision_away(
    migrated_url: str, make_app: MakeApp
) -> None:
    app = make_app(SQLALCHEMY_DATABASE_URI=migrated_url)
    insert_file(sa.create_engine(migrated_url, poolclass=sa.NullPool), "archive")
    runner = app.test_cli_runner()
    refused = runner.invoke(args=["dualmedia", "downgrade", "0003", "--yes"])
    assert refused.exit_code == 1
    assert "media_storage has media in the storage 'archive'" in refused.output
    assert "Nothing was changed" in refused.output


def test_checks_that_an_app_has_dropped_are_no_obstacle_to_the_revision(
    database_url: str,
) -> None:
    """An app of that version that ran no revisions dropped them too, where it owned the tables."""
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    schema.upgrade(engine, "0003")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE media_storage DROP CONSTRAINT ck_media_storage_storage_type"
        )
    insert_file(engine, "archive")
    schema.upgrade(engine)
    assert names_of_storages(engine) == ["archive"]


def test_indexes_that_were_built_beforehand_are_taken_over(database_url: str) -> None:
    """Indexes of large tables are built by hand, concurrently, before the upgrade."""
    engine = sa.create_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    schema.upgrade(engine, "0002")
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "CREATE INDEX CONCURRENTLY ix_media_storage_public ON media_storage (id)"
            " WHERE is_public AND state = 'available'"
        )
    schema.upgrade(engine)
    found = checks_and_indexes(database_url, "")
    assert {name for _, names in found.values() for name in names} == set[str]().union(
        *INDEXES.values()
    )
    schema.downgrade(engine, "0002")
    assert {
        table: names for table, (_, names) in checks_and_indexes(database_url, "").items()
    } == DESIGNED


def checks_and_indexes(url: str, prefix: str) -> dict[str, tuple[set[str], set[str]]]:
    inspector = inspect(url)
    return {
        table: (
            {str(check["name"]) for check in inspector.get_check_constraints(f"{prefix}{table}")},
            {str(index["name"]) for index in inspector.get_indexes(f"{prefix}{table}")},
        )
        for table in INDEXES
    }
