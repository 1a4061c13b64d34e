"""Hosts whose connections are shared, as those of suites of tests are: SQLite in memory, or one
connection for all."""

from __future__ import annotations

import sqlite3
import typing as t
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from sqlalchemy.orm import Mapped, mapped_column

from flask_dualmedia import (
    DatabaseBusy,
    DualMedia,
    delete_media,
    get_media_by_reference,
    get_media_stats,
    open_media,
    save_media_storage,
)
from flask_dualmedia.state import get_state

from ..conftest import BASE_CONFIG, close
from ..samples import bearer, part

MakeHost = Callable[..., "Host"]


class Host(t.NamedTuple):
    app: Flask
    db: SQLAlchemy
    notes: sa.Table

    def count_notes(self) -> int:
        return self.db.session.scalar(sa.select(sa.func.count()).select_from(self.notes)) or 0


@pytest.fixture
def make_host(mongo_uri: str) -> Iterator[MakeHost]:
    """Makes hosts with a Flask-SQLAlchemy of their own and one note in its table."""
    hosts: list[Host] = []

    def make(url: str, **options: t.Any) -> Host:
        app = Flask("host")
        app.config.update(
            BASE_CONFIG,
            MONGO_URI=mongo_uri,
            SQLALCHEMY_DATABASE_URI=url,
            SQLALCHEMY_ENGINE_OPTIONS=options,
            DUALMEDIA_REFERENCES={"product": None},
        )
        db = SQLAlchemy(app)

        class Note(db.Model):
            __tablename__ = "notes"
            id: Mapped[int] = mapped_column(primary_key=True)

        host = Host(app, db, db.metadata.tables[Note.__tablename__])
        hosts.append(host)
        with app.app_context():
            db.create_all()
            db.session.execute(sa.insert(host.notes).values(id=1))
            db.session.commit()
        return host

    yield make
    for host in hosts:
        close(host.app)
        with host.app.app_context():
            host.db.engine.dispose()


IN_MEMORY = {
    "nothing": ("sqlite://", {}),
    "memory": ("sqlite:///:memory:", {}),
    "shared cache": (
        "sqlite:///file:suite?mode=memory&cache=shared&uri=true",
        {"poolclass": sa.SingletonThreadPool},
    ),
    "shared cache, many connections": (
        "sqlite:///file:suite2?mode=memory&cache=shared&uri=true",
        {"poolclass": sa.QueuePool},
    ),
    "shared file system": ("sqlite:///file:/suite?vfs=memdb&uri=true", {}),
    "a creator": (
        "sqlite:///unused.db",
        {
            "poolclass": sa.StaticPool,
            "creator": lambda: sqlite3.connect(":memory:", check_same_thread=False),
        },
    ),
}


@pytest.fixture(params=[*IN_MEMORY])
def in_memory(request: pytest.FixtureRequest, make_host: MakeHost) -> Host:
    url, options = IN_MEMORY[request.param]
    return make_host(url, **options)


def test_media_leaves_a_database_in_memory_as_it_was(in_memory: Host) -> None:
    """Its tables, and what its session has begun: that is neither committed nor rolled back."""
    app, db = in_memory.app, in_memory.db
    with app.app_context():
        db.session.execute(sa.insert(in_memory.notes).values(id=2))
        DualMedia(app)
        record = save_media_storage("page", "1", b"some bytes")
        assert b"".join(open_media(record)) == b"some bytes"
        assert get_media_stats("page", "1").media == 1
        assert in_memory.count_notes() == 2, "rolled back"

        db.session.rollback()
        assert in_memory.count_notes() == 1, "committed"
        assert [found.id for found in get_media_by_reference("page", "1")] == [record.id]

        db.session.execute(sa.insert(in_memory.notes).values(id=3))
        delete_media("files", record.id)
        db.session.commit()
        assert in_memory.count_notes() == 2
        assert get_media_by_reference("page", "1") == []


def test_requests_in_threads_share_a_database_in_memory(make_host: MakeHost) -> None:
    app = make_host("sqlite://").app
    DualMedia(app)
    headers = bearer(app, "alice")

    def upload(number: int) -> bytes:
        client = app.test_client()
        form = {
            "file": part(bytes([number]) * 300_000, "a.bin"),
            "referenceType": "page",
            "referenceId": "1",
        }
        url = client.post("/media/files", data=form, headers=headers).json["url"]  # type: ignore[index]
        return client.get(url, headers=headers).data

    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(upload, range(12))] == [
            bytes([number]) * 300_000 for number in range(12)
        ]


@pytest.mark.long
def test_commands_leave_a_database_in_memory_as_it_was(make_host: MakeHost) -> None:
    host = make_host("sqlite://")
    Migrate(host.app, host.db)
    DualMedia(host.app)
    with host.app.app_context():
        record = save_media_storage("page", "1", b"some bytes")
        runner = host.app.test_cli_runner()
        for command in ("upgrade", "status", "check", "sweep", "drain"):
            assert runner.invoke(args=["dualmedia", command]).exit_code == 0, command
        assert b"".join(open_media(record)) == b"some bytes"
        assert host.count_notes() == 1


@pytest.mark.long
def test_each_app_in_memory_has_media_of_its_own(make_host: MakeHost) -> None:
    one, other = make_host("sqlite://"), make_host("sqlite://")
    for host in (one, other):
        DualMedia(host.app)
    with one.app.app_context():
        save_media_storage("page", "1", b"some bytes")
    with other.app.app_context():
        assert get_media_by_reference("page", "1") == []


ONE_CONNECTION = {
    "static": {"poolclass": sa.StaticPool},
    "one for each thread": {"poolclass": sa.SingletonThreadPool},
    "asserting": {"poolclass": sa.AssertionPool},
    "a pool of one": {"pool_size": 1, "max_overflow": 0, "pool_timeout": 1},
}


@pytest.mark.parametrize("options", ONE_CONNECTION.values(), ids=[*ONE_CONNECTION])
def test_media_leaves_the_transaction_of_an_only_connection_alone(
    make_host: MakeHost, migrated_url: str, options: dict[str, t.Any]
) -> None:
    host = make_host(migrated_url, **options)
    with host.app.app_context():
        host.db.session.execute(sa.insert(host.notes).values(id=2))
        DualMedia(host.app)
        record = save_media_storage("page", "1", b"some bytes")
        assert b"".join(open_media(record)) == b"some bytes"

        host.db.session.rollback()
        assert host.count_notes() == 1, "committed"
        host.db.session.remove()
        found = host.db.session.scalars(sa.select(type(record))).one()
        assert found.id == record.id, "it is in the host's database"


def test_a_pool_of_two_is_used_as_it_is(make_host: MakeHost, migrated_url: str) -> None:
    host = make_host(migrated_url, pool_size=1, max_overflow=1)
    DualMedia(host.app)
    with host.app.app_context():
        assert get_state().engine is host.db.engine


@pytest.mark.long
def test_an_only_connection_to_a_file_keeps_what_is_set_on_it(
    make_host: MakeHost, tmp_path: Path
) -> None:
    """Connections of ours begin as the host's do."""
    host = make_host(f"sqlite:///{tmp_path / 'host.db'}", poolclass=sa.StaticPool)
    with host.app.app_context():

        @event.listens_for(host.db.engine, "connect")
        def set_limit(connection: t.Any, _record: object) -> None:
            connection.execute("PRAGMA cache_size = 123")

        DualMedia(host.app)
        engine = get_state().engine
        assert engine is not None
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA cache_size").scalar_one() == 123


@pytest.mark.long
def test_a_file_that_the_host_writes_to_is_busy(make_host: MakeHost, tmp_path: Path) -> None:
    """SQLite lets one connection write at a time."""
    host = make_host(f"sqlite:///{tmp_path / 'host.db'}?timeout=0.2")
    DualMedia(host.app)
    with host.app.app_context():
        host.db.session.execute(sa.insert(host.notes).values(id=2))
        with pytest.raises(DatabaseBusy, match="locked"):
            save_media_storage("page", "1", b"some bytes")
        host.db.session.commit()
        save_media_storage("page", "1", b"some bytes")


@pytest.mark.long
@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_locked_file_is_an_answer_of_503_and_not_an_error(
    make_host: MakeHost, tmp_path: Path, lock: str
) -> None:
    """The file can be read, or not even that."""
    path = tmp_path / "host.db"
    host = make_host(f"sqlite:///{path}?timeout=0.1")
    app = host.app
    DualMedia(app)
    headers = bearer(app, "alice")
    with app.app_context():
        small = save_media_storage("page", "1", b"some bytes", uploaded_by="alice").id
        large = save_media_storage("page", "1", bytes(2_000_000), uploaded_by="alice").id
    reads = [
        "files",
        "files?referenceType=page&referenceId=1",
        f"files/{small}",
        f"files/{small}/content",
        f"files/{large}/content",
    ]
    writes: list[tuple[str, str, dict[str, t.Any]]] = [
        ("PATCH", f"files/{small}", {"json": {"title": "other"}}),
        ("PUT", f"files/{small}/content", {"data": b"other bytes"}),
        ("POST", f"files/{small}/accesses", {}),
        ("DELETE", f"files/{small}", {}),
        (
            "POST",
            "files",
            {"json": {"referenceType": "page", "referenceId": "1", "url": "https://cdn.example/a"}},
        ),
    ]
    client = app.test_client()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(f"BEGIN {lock}")
    is_readable = lock == "IMMEDIATE"
    for url in reads:
        status = 200 if is_readable else 503
        assert client.get(f"/media/{url}", headers=headers).status_code == status, url
    for method, url, given in writes:
        answer = client.open(f"/media/{url}", method=method, headers=headers, **given)
        assert answer.status_code == 503, url
        assert "locked" in answer.json["message"]  # type: ignore[index]
    runner = app.test_cli_runner()
    for command in ("status", "check", "upgrade"):
        result = runner.invoke(args=["dualmedia", command])
        assert result.exception is None or isinstance(result.exception, SystemExit), command
    other.close()
    for method, url, given in writes:
        answer = client.open(f"/media/{url}", method=method, headers=headers, **given)
        assert answer.status_code < 300, url
