"""Accounts that may not do everything: the app starts, says what is missing, and does what it may."""

from __future__ import annotations

import logging
import time
import typing as t
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_dualmedia import get_media_by_reference, outage, save_media_storage, schema, synchronizer
from flask_dualmedia.models import Base
from flask_dualmedia.state import get_state
from flask_dualmedia.tables import VERSION_TABLE

from .conftest import Databases, MakeApp, unique

TABLES = (*Base.metadata.tables, VERSION_TABLE)

CHUNKS = "media_chunks"

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


class Account:
    """A role of its own, in a database whose tables belong to somebody else."""

    def __init__(self, url: sa.URL) -> None:
        self.name = unique("app")
        self._admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        self.url = url.set(username=self.name, password="secret").render_as_string(hide_password=False)
        self.execute(f"CREATE ROLE {self.name} LOGIN PASSWORD 'secret'", "REVOKE ALL ON SCHEMA public FROM PUBLIC")

    def execute(self, *statements: str) -> None:
        with self._admin.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def grant(self, rights: str, *tables: str) -> None:
        self.execute(*(f"GRANT {rights} ON {table} TO {self.name}" for table in tables))

    def upgrade(self, revision: str = "head") -> None:
        """As the owner of the tables does."""
        schema.upgrade(self._admin, revision)

    def own(self, *tables: str) -> None:
        self.execute(*(f"ALTER TABLE {table} OWNER TO {self.name}" for table in tables))

    def revision(self) -> str | None:
        with self._admin.connect() as connection:
            return schema.current_revision(connection)

    def drop(self) -> None:
        self.execute(f"DROP OWNED BY {self.name} CASCADE", f"DROP ROLE {self.name}")


@pytest.fixture
def account(databases: Databases) -> Iterator[Account]:
    account = Account(databases.create(unique("test")))
    yield account
    account.drop()


@pytest.fixture
def start(make_app: MakeApp, account: Account) -> t.Callable[..., Flask]:
    """Starts an app as this account."""

    def start(**config: t.Any) -> Flask:
        return make_app(SQLALCHEMY_DATABASE_URI=account.url, DUALMEDIA_AUTO_UPGRADE=True, **config)

    return start


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    assert not [record for record in caplog.records if record.exc_info], "a traceback"
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def use(app: Flask) -> bool:
    """Save a file and find it again, in SQL and not in the journal."""
    with app.app_context():
        record = save_media_storage("page", "1", b"few bytes")
        found = [one.id for one in get_media_by_reference("page", "1")]
        return record.id in found and get_state(app).homes[0].repository.count(type(record)) == 1


def test_an_account_that_owns_nothing_needs_the_rights_to_use_the_tables_alone(
    account: Account, start: t.Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    account.upgrade()
    account.execute(f"GRANT USAGE ON SCHEMA public TO {account.name}")
    account.grant("SELECT, INSERT, UPDATE, DELETE", *Base.metadata.tables)
    account.grant("SELECT", VERSION_TABLE)
    app = start()
    assert use(app)
    assert warnings_of(caplog) == []


def test_what_only_the_owner_may_change_is_a_warning_with_the_statement(
    account: Account, start: t.Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    """The revisions of a host that has its own Flask-Migrate do not see the storage of a column."""
    account.upgrade()
    statement = f"ALTER TABLE {CHUNKS} ALTER COLUMN data SET STORAGE EXTERNAL"
    account.execute(f"DROP TABLE {VERSION_TABLE}", statement.replace("EXTERNAL", "EXTENDED"))
    account.execute(f"GRANT USAGE ON SCHEMA public TO {account.name}")
    account.grant("SELECT, INSERT, UPDATE, DELETE", *Base.metadata.tables)
    app = start()
    assert use(app)
    (warning,) = warnings_of(caplog)
    assert statement in warning


def test_the_upgrade_does_what_only_the_owner_may(account: Account) -> None:
    account.upgrade()
    account.execute(f"DROP TABLE {VERSION_TABLE}", f"ALTER TABLE {CHUNKS} ALTER COLUMN data SET STORAGE EXTENDED")
    account.upgrade()
    with account._admin.connect() as connection:
        assert schema.examine(connection).amendments == ()


def test_the_app_does_itself_what_it_has_got_the_right_for_meanwhile(
    account: Account, start: t.Callable[..., Flask], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the statements that its log names."""
    monkeypatch.setattr(outage, "IDLE_INTERVAL", 0.2)
    monkeypatch.setattr(synchronizer, "IDLE_INTERVAL", 0.2)
    app = start()
    said = " ".join(warnings_of(caplog))
    statement = f"GRANT USAGE, CREATE ON SCHEMA public TO {account.name}"
    assert statement in said
    account.execute(statement)
    with app.app_context():
        save_media_storage("page", "1", b"waits in the journal")
    end = time.monotonic() + 30
    while account.revision() != schema.head_revision():
        assert time.monotonic() < end, caplog.text
        time.sleep(0.05)


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_an_older_schema_of_somebody_else_is_said_to_be_older(
    account: Account, start: t.Callable[..., Flask], caplog: pytest.LogCaptureFixture, revision: str
) -> None:
    account.upgrade(revision)
    account.execute(f"GRANT USAGE, CREATE ON SCHEMA public TO {account.name}")
    account.grant("SELECT, INSERT, UPDATE, DELETE", *TABLES)
    start()
    (warning,) = warnings_of(caplog)
    assert "must be owner of table product_images" in warning
    assert "flask dualmedia upgrade" in warning
    assert f"ALTER TABLE product_images OWNER TO {account.name}" in warning


def test_a_read_only_account_reads(
    account: Account, start: t.Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    account.upgrade()
    account.execute(
        f"GRANT USAGE ON SCHEMA public TO {account.name}",
        f"ALTER ROLE {account.name} SET default_transaction_read_only = on",
    )
    account.grant("SELECT", *TABLES)
    app = start()
    said = " ".join(warnings_of(caplog))
    assert "read-only" in said
    assert f"GRANT INSERT, UPDATE, DELETE ON product_images TO {account.name}" in said
    with app.app_context():
        assert get_media_by_reference("page", "1") == []


def test_the_command_says_which_right_is_missing(
    account: Account, start: t.Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    account.execute(f"GRANT USAGE ON SCHEMA public TO {account.name}")
    app = start()
    result = app.test_cli_runner().invoke(args=["dualmedia", "upgrade"])
    assert result.exit_code == 1
    assert f"GRANT CREATE ON SCHEMA public TO {account.name}" in result.output
