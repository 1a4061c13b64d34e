"""Accounts that may not do everything: the app starts, says what is missing, and does what it
may."""

from __future__ import annotations

import logging
import re
import typing as t
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_dualmedia import (
    MediaStorage,
    Unavailable,
    get_media,
    get_media_by_reference,
    save_media_storage,
)
from flask_dualmedia.databases import circuit, schema, synchronizer
from flask_dualmedia.databases.tables import VERSION_TABLE
from flask_dualmedia.errors import WritesRefused
from flask_dualmedia.models import KINDS, Base, MediaVariant
from flask_dualmedia.state import get_state

from ..conftest import Databases, MakeApp, ServerUrls, close, unique
from ..tools.proxy import Proxy, through
from ..waiting import eventually

TABLES = (*Base.metadata.tables, VERSION_TABLE)

CHUNKS = "media_chunks"

OLDER_TABLES = {*TABLES} - {MediaVariant.__tablename__}
"""Those of the revisions in these tests that are older."""

RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


class Account:
    """A role of its own, in a database whose tables belong to somebody else."""

    def __init__(self, url: sa.URL) -> None:
        self.name = unique("app")
        self._admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        self.url = url.set(username=self.name, password="secret").render_as_string(
            hide_password=False
        )
        self.execute(
            f"CREATE ROLE {self.name} LOGIN PASSWORD 'secret'",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        )

    def execute(self, *statements: str) -> None:
        with self._admin.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def grant(self, rights: str, *tables: str) -> None:
        self.execute(*(f"GRANT {rights} ON {table} TO {self.name}" for table in tables))

    def upgrade(self, revision: str = "head") -> None:
        """Bring the schema up to date as the owner of the tables does."""
        schema.upgrade(self._admin, revision)

    def own(self, *tables: str) -> None:
        self.execute(*(f"ALTER TABLE {table} OWNER TO {self.name}" for table in tables))

    def revision(self) -> str | None:
        with self._admin.connect() as connection:
            return schema.current_revision(connection)

    def forget(self, server: sa.URL) -> None:
        """After its database was dropped."""
        engine = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP ROLE {self.name}")

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


def test_of_several_tables_those_are_changed_that_the_account_owns(
    account: Account, start: t.Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    account.upgrade()
    account.execute(
        f"DROP TABLE {VERSION_TABLE}",
        f"ALTER TABLE {CHUNKS} ALTER COLUMN data SET STORAGE EXTENDED",
    )
    old_rule = "CHECK (state IN ('pending', 'available', 'deleting'))"
    for table in ("course_videos", "product_images"):
        rule = f"ck_{table}_state"
        account.execute(
            f"ALTER TABLE {table} DROP CONSTRAINT {rule}, ADD CONSTRAINT {rule} {old_rule}"
        )
    account.execute(f"GRANT USAGE ON SCHEMA public TO {account.name}")
    account.grant("SELECT, INSERT, UPDATE, DELETE", *Base.metadata.tables)
    account.own("product_images")
    start()
    warnings = warnings_of(caplog)
    assert len(warnings) == 2, "one for each table of the other owner"
    assert all("product_images" not in warning for warning in warnings)


def test_the_upgrade_does_what_only_the_owner_may(account: Account) -> None:
    account.upgrade()
    account.execute(
        f"DROP TABLE {VERSION_TABLE}",
        f"ALTER TABLE {CHUNKS} ALTER COLUMN data SET STORAGE EXTENDED",
    )
    account.upgrade()
    with account._admin.connect() as connection:
        assert schema.examine(connection).amendments == ()


def test_the_app_does_itself_what_it_has_got_the_right_for_meanwhile(
    account: Account,
    start: t.Callable[..., Flask],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rights are given by the statements that the app's log names."""
    monkeypatch.setattr(circuit, "IDLE_INTERVAL", 0.2)
    monkeypatch.setattr(synchronizer, "IDLE_INTERVAL", 0.2)
    app = start()
    said = " ".join(warnings_of(caplog))
    statement = f"GRANT USAGE, CREATE ON SCHEMA public TO {account.name}"
    assert statement in said
    account.execute(statement)
    with app.app_context():
        save_media_storage("page", "1", b"waits in the journal")
    head = schema.head_revision()
    eventually(lambda: account.revision() == head, 30, explain=lambda: caplog.text)


def test_the_schema_is_brought_up_to_date_while_mongodb_is_away(
    account: Account,
    start: t.Callable[..., Flask],
    mongo_uri: str,
    mongo_proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The app could not do it when it was started."""
    monkeypatch.setattr(circuit, "IDLE_INTERVAL", 0.2)
    monkeypatch.setattr(synchronizer, "IDLE_INTERVAL", 0.2)
    app = start(
        MONGO_URI=through(mongo_uri, mongo_proxy),
        DUALMEDIA_MONGO_TIMEOUT=0.5,
        DUALMEDIA_REFERENCES={},
    )
    mongo_proxy.refuse()
    account.execute(f"GRANT USAGE, CREATE ON SCHEMA public TO {account.name}")
    with app.app_context(), pytest.raises(Unavailable):
        get_media(MediaStorage, uuid.uuid4())
    head = schema.head_revision()
    eventually(lambda: account.revision() == head, 30)


@pytest.mark.parametrize("revision", ["0001", "0002"])
def test_an_older_schema_of_somebody_else_is_said_to_be_older(
    account: Account, start: t.Callable[..., Flask], caplog: pytest.LogCaptureFixture, revision: str
) -> None:
    account.upgrade(revision)
    account.execute(f"GRANT USAGE, CREATE ON SCHEMA public TO {account.name}")
    account.grant("SELECT, INSERT, UPDATE, DELETE", *OLDER_TABLES)
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


STATES = ("absent", "0001", "0002", "head")


@pytest.fixture(scope="module")
def templates(servers: ServerUrls) -> Iterator[dict[str, str]]:
    """A database in each state of the schema, to copy."""
    databases = Databases(servers.postgres)
    names = {state: unique("template") for state in STATES}
    for state, name in names.items():
        engine = sa.create_engine(databases.create(name), poolclass=sa.NullPool)
        if state != "absent":
            schema.upgrade(engine, state)
    yield names
    databases.drop_all()


class Granted(t.NamedTuple):
    """The rights of an account."""

    usage: bool
    create: bool
    is_read_only: bool
    owned: set[str]
    rights: dict[str, set[str]]

    def may(self, right: str, table: str) -> bool:
        return self.usage and (table in self.owned or right in self.rights[table])


SETS_OF_RIGHTS = st.sampled_from(
    [set(RIGHTS), {"SELECT"}, {"SELECT", "INSERT", "DELETE"}, set[str]()]
) | st.sets(st.sampled_from(RIGHTS))

GRANTED = st.builds(
    Granted,
    usage=st.sampled_from([True, True, True, False]),
    create=st.booleans(),
    is_read_only=st.sampled_from([False, False, False, True]),
    owned=st.sampled_from([set[str](), set(TABLES), {*TABLES} - {CHUNKS}])
    | st.sets(st.sampled_from(TABLES)),
    rights=st.fixed_dictionaries(dict.fromkeys(TABLES, SETS_OF_RIGHTS)),
)


def give(account: Account, granted: Granted, tables: set[str]) -> None:
    name = account.name
    for right in (("USAGE", granted.usage), ("CREATE", granted.create)):
        if right[1]:
            account.execute(f"GRANT {right[0]} ON SCHEMA public TO {name}")
    for table in sorted(tables):
        if granted.rights[table]:
            account.grant(", ".join(granted.rights[table]), table)
        if table in granted.owned:
            account.own(table)
    if granted.is_read_only:
        account.execute(f"ALTER ROLE {name} SET default_transaction_read_only = on")


def check(
    app: Flask, granted: Granted, tables: set[str], said: list[str], *, is_complete: bool
) -> None:
    """Nothing that is missing was kept silent about, and what can work works."""
    if not granted.usage:
        assert any("may use no schema" in message for message in said), said
    for table in tables if granted.usage else ():
        used = {VERSION_TABLE: {"SELECT"}, CHUNKS: {"SELECT", "INSERT", "DELETE"}}.get(
            table, set(RIGHTS)
        )
        for right in used:
            named = any(
                re.search(rf"GRANT [A-Z, ]*{right}[A-Z, ]* ON {table} TO", message)
                for message in said
            )
            assert named != granted.may(right, table), (right, table, said)
    state = get_state(app)
    for kind in KINDS.values():
        table = kind.__tablename__
        try:
            assert state.homes[0].repository.count(kind) >= 0
        except WritesRefused:
            assert table not in tables or not granted.may("SELECT", table)
    with app.app_context():
        record = save_media_storage("page", "1", b"few bytes")
        is_kept = is_complete and not granted.is_read_only
        needed = [("media_storage", "SELECT"), ("media_storage", "INSERT"), (CHUNKS, "INSERT")]
        if is_kept and all(granted.may(right, table) for table, right in needed):
            assert get_media(MediaStorage, record.id).id == record.id
            assert state.homes[1].repository.find(MediaStorage, record.id) is None, "it is in SQL"
        else:
            assert state.homes[1].repository.find(MediaStorage, record.id) is not None, (
                "it is in the journal"
            )


@pytest.mark.long
@pytest.mark.parametrize("state", STATES)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(granted=GRANTED)
def test_whatever_rights_are_missing_the_app_starts_and_says_so(
    servers: ServerUrls,
    templates: dict[str, str],
    make_app: MakeApp,
    caplog: pytest.LogCaptureFixture,
    state: str,
    granted: Granted,
) -> None:
    caplog.clear()
    databases = Databases(servers.postgres)
    account = Account(databases.create(unique("test"), template=templates[state]))
    tables = {"absent": set[str](), "head": {*TABLES}}.get(state, OLDER_TABLES)
    try:
        give(account, granted, tables)
        app = make_app(SQLALCHEMY_DATABASE_URI=account.url, DUALMEDIA_AUTO_UPGRADE=True)
        said = warnings_of(caplog)
        revision = account.revision()
        is_current = revision == schema.head_revision()
        assert revision == (None if state == "absent" else state) or is_current

        may_change = granted.usage and granted.create and not granted.is_read_only
        owns_all = all(table in granted.owned for table in tables)
        assert is_current or not (may_change and owns_all)
        reads_version = not tables or granted.may("SELECT", VERSION_TABLE)
        if not is_current and (state != "0002" or reads_version):
            assert any("models not synchronized" in message for message in said), said
        if is_current:
            made = {*TABLES} - tables
            granted = granted._replace(owned=granted.owned | made)
        present = {*TABLES} if is_current else tables
        check(app, granted, present, said, is_complete=is_current or state in ("0002", "head"))
        if is_current and all(granted.may(right, table) for table in TABLES for right in RIGHTS):
            assert granted.is_read_only or said == []
        assert not [record for record in caplog.records if record.exc_info], "a traceback"
        close(app)
    finally:
        databases.drop_all()
        account.forget(servers.postgres)
