"""A server that says no is not a server that is gone."""

from __future__ import annotations

import io
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
import typing as t
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from flask_jwt_extended import create_access_token
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from example_app import embedded
from flask_dualmedia import (
    CourseVideo,
    DualMedia,
    ProductImage,
    get_product_images,
    save_course_video,
)
from flask_dualmedia import save_media_storage as save_file
from flask_dualmedia.databases import circuit
from flask_dualmedia.databases.schema import head_revision
from flask_dualmedia.databases.sql import SQLDatabase
from flask_dualmedia.models import KINDS
from flask_dualmedia.state import get_state
from flask_dualmedia.upkeep.journal import drain_journal, homes_of

from ..conftest import HOST_CONFIG, MakeApp, close
from ..samples import png
from ..waiting import eventually, passes

pytestmark = pytest.mark.long

SMALL = png()
LARGE = SMALL + os.urandom(3 * 1024 * 1024)


class Server:
    """A PostgreSQL server whose rules a test may change, and a database and an account for the
    app."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self.name = f"refusals_{uuid.uuid4().hex[:8]}"
        self.run(f"CREATE ROLE {self.name} LOGIN PASSWORD 'right'")
        self.run(f"CREATE DATABASE {self.name} OWNER {self.name}")
        self._rules = Path(self.value("SHOW hba_file"))
        self._original = self._rules.read_text()
        self.url = url.set(database=self.name, username=self.name)

    def _do(self, statement: str, *, within: bool = False) -> t.Any:
        url = self._url.set(
            drivername="postgresql", database=self.name if within else self._url.database
        )
        with psycopg.connect(
            url.render_as_string(hide_password=False), autocommit=True
        ) as connection:
            cursor = connection.execute(t.cast("t.LiteralString", statement))
            return cursor.fetchone() if cursor.description else None

    def run(self, *statements: str) -> None:
        """Run statements as an account that may do everything."""
        for statement in statements:
            self._do(statement)

    def within(self, *statements: str) -> None:
        """The same in the app's database."""
        for statement in statements:
            self._do(statement, within=True)

    def value(self, query: str) -> t.Any:
        return self._do(query)[0]

    def cut(self) -> None:
        """End all connections to the app's database."""
        self.run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            f" WHERE datname = '{self.name}'"
        )

    def rule(self, line: str) -> None:
        """Put a rule of who may connect before all others."""
        self._rules.write_text(f"{line}\n{self._original}")
        before = self._rules_loaded_at()
        self.run("SELECT pg_reload_conf()")
        eventually(lambda: self._rules_loaded_at() > before)

    def _rules_loaded_at(self) -> t.Any:
        """When the server has last read its files, as a new connection is told."""
        return self.value("SELECT pg_conf_load_time()")

    def reset(self) -> None:
        self._rules.write_text(self._original)
        self.run("SELECT pg_reload_conf()", f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')
        self.run(f"DROP ROLE IF EXISTS {self.name}")


@pytest.fixture(scope="module")
def own_server() -> Iterator[sa.URL]:
    directory = tempfile.mkdtemp(prefix="dualmedia-refusals-")
    started = embedded.start(directory, mongo=False)
    yield sa.make_url(started.postgres_url or "")
    processes = [psutil.Process(pid) for pid in started.pids]
    for process in processes:
        process.send_signal(signal.SIGINT)
    psutil.wait_procs(processes, timeout=20)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def server(own_server: sa.URL) -> Iterator[Server]:
    server = Server(own_server)
    yield server
    server.reset()


@pytest.fixture
def make(make_app: MakeApp, server: Server) -> Callable[..., Flask]:
    """Makes apps on the server."""

    def make(**config: t.Any) -> Flask:
        settings = {
            "DUALMEDIA_REFERENCES": dict.fromkeys(("product", "course")),
            "SQLALCHEMY_DATABASE_URI": server.url,
        }
        settings |= {"DUALMEDIA_PROBE_INTERVAL": 0.2, "DUALMEDIA_SQL_TIMEOUT": 1}
        return make_app(**settings | config)

    return make


class Http:
    """A client who may do everything."""

    def __init__(self, app: Flask) -> None:
        self._client = app.test_client()
        with app.app_context():
            token = create_access_token("alice", additional_claims={"role": "admin"})
            self._headers = {"Authorization": f"Bearer {token}"}

    def ask(self, method: str, path: str, **options: t.Any) -> t.Any:
        return self._client.open(f"/media/{path}", method=method, headers=self._headers, **options)

    def post(self, content: bytes | None = None) -> t.Any:
        if content is None:
            return self.ask(
                "POST",
                "product-images",
                json={"mongoProductId": "p", "imageUrl": "https://cdn.example/a"},
            )
        file = FileStorage(io.BytesIO(content), "a.png", content_type="image/png")
        boundary, body = encode_multipart({"mongoProductId": "p", "file": file})
        content_type = f"multipart/form-data; boundary={boundary}"
        return self.ask("POST", "product-images", data=body, content_type=content_type)

    def list(self) -> t.Any:
        return self.ask("GET", "product-images?mongoProductId=p")

    def patch(self, media_id: str, text: str = "new") -> t.Any:
        return self.ask("PATCH", f"product-images/{media_id}", json={"altText": text})


def is_drained(app: Flask) -> bool:
    return homes_of(get_state(app))[1].repository.is_empty()


def assert_list_is_honest(answer: t.Any) -> None:
    """It is refused, or says that it is partial."""
    assert answer.status_code in (200, 503)
    assert answer.status_code == 503 or answer.json["partial"] is True


Change = Callable[[Server], None]

TURNED_AWAY: dict[str, tuple[Change, Change, str]] = {
    "wrong-password": (
        lambda s: s.rule(f"local all {s.name} scram-sha-256"),
        lambda s: s.rule(""),
        "password",
    ),
    "no-database": (
        lambda s: s.run(f"DROP DATABASE {s.name} WITH (FORCE)"),
        lambda s: s.run(f"CREATE DATABASE {s.name} OWNER {s.name}"),
        "does not know our account or our database",
    ),
    "no-account": (
        lambda s: s.run(f"ALTER DATABASE {s.name} OWNER TO CURRENT_USER", f"DROP ROLE {s.name}"),
        lambda s: s.run(
            f"CREATE ROLE {s.name} LOGIN", f"ALTER DATABASE {s.name} OWNER TO {s.name}"
        ),
        "does not know our account or our database",
    ),
    "account-may-not-log-in": (
        lambda s: s.run(f"ALTER ROLE {s.name} NOLOGIN"),
        lambda s: s.run(f"ALTER ROLE {s.name} LOGIN"),
        "does not let our account in",
    ),
    "host-may-not-connect": (
        lambda s: s.rule(f"local all {s.name} reject"),
        lambda s: s.rule(""),
        "does not let this host in",
    ),
    "no-right-to-connect": (
        lambda s: s.run(
            f"ALTER DATABASE {s.name} OWNER TO CURRENT_USER",
            f"REVOKE CONNECT ON DATABASE {s.name} FROM PUBLIC",
        ),
        lambda s: s.run(f"ALTER DATABASE {s.name} OWNER TO {s.name}"),
        "does not let our account in",
    ),
    "no-connection-left": (
        lambda s: s.run(f"ALTER ROLE {s.name} CONNECTION LIMIT 0"),
        lambda s: s.run(f"ALTER ROLE {s.name} CONNECTION LIMIT -1"),
        "no connection left",
    ),
    "no-right-to-create-tables": (
        lambda s: s.within(
            f"ALTER DATABASE {s.name} OWNER TO CURRENT_USER",
            "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        ),
        lambda s: s.run(f"ALTER DATABASE {s.name} OWNER TO {s.name}"),
        "not synchronized",
    ),
    "read-only": (
        lambda s: s.run(f"ALTER DATABASE {s.name} SET default_transaction_read_only = on"),
        lambda s: (s.run(f"ALTER DATABASE {s.name} RESET default_transaction_read_only"), s.cut())[
            0
        ],
        "read-only",
    ),
}


@pytest.mark.parametrize("reason", TURNED_AWAY)
def test_an_app_starts_whatever_the_server_answers_and_recovers_by_itself(
    make: Callable[..., Flask], server: Server, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """New media is accepted meanwhile. The tables are made as soon as that is possible."""
    caplog.set_level(logging.INFO, "flask_dualmedia")
    spoil, mend, words = TURNED_AWAY[reason]
    spoil(server)
    url = server.url.set(password="wrong") if reason == "wrong-password" else server.url
    app = make(SQLALCHEMY_DATABASE_URI=url)
    http = Http(app)
    created = http.post(SMALL)
    assert created.status_code == 201
    assert_list_is_honest(http.list())
    eventually(lambda: http.ask("GET", f"product-images/{created.json['id']}").status_code == 200)
    assert http.post().status_code == 201
    with passes("watch") as looks:
        eventually(lambda: len(looks) > 3)  # the server is asked several times
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert any(words in message for message in told), told
    assert len(told) == len(set(told)), told

    mend(server)
    eventually(lambda: is_drained(app))
    items = http.list()
    assert (items.status_code, len(items.json["items"])) == (200, 2)
    assert "partial" not in items.json or not items.json["partial"]
    assert http.patch(created.json["id"]).status_code == 200


def is_open(app: Flask) -> bool:
    circuit = get_state(app).circuit
    assert circuit is not None
    return circuit.is_open


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


CANNOT_WRITE = {
    "25006": "read-only",
    "42501": "right",
    "53100": "disk",
    "53999": "53999",
}
"""SQLSTATEs of a server that cannot write now, each with a word of the answer to the client."""


@pytest.mark.parametrize("code", CANNOT_WRITE)
def test_media_that_the_server_cannot_write_now_is_kept_in_the_journal(
    make: Callable[..., Flask],
    server: Server,
    code: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Old media is read, and a change that cannot be made is answered with the reason."""
    monkeypatch.setattr(circuit, "IDLE_INTERVAL", 0.5)
    app = make()
    http = Http(app)
    first = http.post(SMALL).json["id"]
    refuse_with(server, code)
    accepted = [http.post(SMALL), http.post(), http.post(LARGE)]
    assert [answer.status_code for answer in accepted] == [201, 201, 201]
    refused = http.patch(first)
    assert (refused.status_code, CANNOT_WRITE[code] in refused.json["message"]) == (503, True)
    assert int(refused.headers["Retry-After"]) > 0
    assert len(http.list().json["items"]) == 4
    assert not is_open(app)
    with passes("journal:look") as looks:
        eventually(lambda: len(looks) > 2)
    told = warnings(caplog)
    assert sum("journal in MongoDB" in message for message in told) == 1, told
    assert len(told) == len(set(told)), told
    refuse_with(server, None)
    eventually(lambda: is_drained(app))
    assert len(http.list().json["items"]) == 4
    assert http.patch(first).status_code == 200


def refuse_with(server: Server, code: str | None) -> None:
    """Have every change of the tables refused with this answer."""
    for table in (*(kind.__tablename__ for kind in KINDS.values()), "media_chunks"):
        server.within(f"DROP TRIGGER IF EXISTS refuse ON {table}")
        if code is not None:
            server.within(
                f"CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$",
                f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table}"
                " EXECUTE FUNCTION refuse()",
            )


def test_an_upload_that_is_refused_in_its_middle_goes_to_the_journal_when_it_is_sent_again(
    make: Callable[..., Flask], server: Server
) -> None:
    """The disk has room for a record, and none for its bytes."""
    app = make()
    http = Http(app)
    assert http.post(SMALL).status_code == 201
    server.within(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '53100'; END $$",
        "CREATE TRIGGER refuse BEFORE INSERT ON media_chunks EXECUTE FUNCTION refuse()",
    )
    refused = http.post(LARGE)
    assert refused.status_code == 503
    time.sleep(int(refused.headers["Retry-After"]) + 0.5)
    again = http.post(LARGE)
    assert again.status_code == 201
    assert http.ask("GET", f"product-images/{again.json['id']}/content").data == LARGE
    server.within("DROP TRIGGER refuse ON media_chunks")
    eventually(lambda: is_drained(app))
    assert http.ask("GET", f"product-images/{again.json['id']}/content").data == LARGE


def test_one_table_that_refuses_does_not_keep_the_others_from_being_drained(
    make: Callable[..., Flask], server: Server
) -> None:
    app = make(DUALMEDIA_AUTO_DRAIN=False)
    with app.app_context():
        state = get_state(app)
        assert state.circuit is not None
        Http(app).list()
        server.within(f"ALTER TABLE product_images OWNER TO {server.value('SELECT current_user')}")
        save_product_image_somewhere(app)
        state.circuit.trip()
        video = save_course_video("c", "https://cdn.example/v.mp4")
        file = save_file("page", "1", SMALL)
        with pytest.raises(Exception, match="right"):
            drain_journal(state)
        sql, journal = homes_of(state)
        assert sql.repository.get(CourseVideo, video.id) is not None
        assert sql.repository.get(type(file), file.id) is not None
        assert journal.repository.waiting() == 1


def save_product_image_somewhere(app: Flask) -> None:
    assert Http(app).post(SMALL).status_code == 201


def test_a_record_that_could_not_be_drained_may_be_changed(
    make: Callable[..., Flask], server: Server
) -> None:
    app = make(DUALMEDIA_AUTO_DRAIN=False)
    http = Http(app)
    http.list()
    refuse_with(server, "25006")
    media_id = http.post().json["id"]
    with app.app_context(), pytest.raises(Exception, match="read-only"):
        drain_journal(get_state(app))
    assert http.patch(media_id, "changed").status_code == 200
    assert http.ask("DELETE", f"product-images/{media_id}").status_code == 204


@pytest.mark.parametrize(
    ("setting", "words"),
    [("lock_timeout = '100ms'", "locked"), ("statement_timeout = '100ms'", "too long")],
)
def test_a_time_limit_of_the_server_fails_one_request(
    make: Callable[..., Flask],
    server: Server,
    setting: str,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make()
    http = Http(app)
    media_id, other_id = http.post(SMALL).json["id"], http.post(SMALL).json["id"]
    server.run(f"ALTER DATABASE {server.name} SET {setting}")
    server.cut()
    assert http.list().status_code == 200
    url = server.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT * FROM product_images WHERE id = %s FOR UPDATE", [uuid.UUID(media_id)]
        )
        answers = [http.patch(media_id) for _ in range(3)]
        assert http.patch(other_id).status_code == 200
    assert [answer.status_code for answer in answers] == [503, 503, 503]
    assert all(words in answer.json["message"] for answer in answers)
    assert not is_open(app)
    assert sum(words in message for message in warnings(caplog)) == 1
    assert http.patch(media_id).status_code == 200


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_changes_that_the_server_has_give_way_are_made_again(
    make: Callable[..., Flask], server: Server, isolation: str
) -> None:
    app = make()
    http = Http(app)
    media_id = http.post(SMALL).json["id"]
    server.run(f"ALTER DATABASE {server.name} SET default_transaction_isolation = '{isolation}'")
    server.cut()
    answers: list[int] = []

    def change(number: int) -> None:
        client = Http(app)
        for turn in range(5):
            answers.append(client.patch(media_id, f"{number} {turn}").status_code)
            answers.append(client.post(SMALL).status_code)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 201, 409, 503}
    assert answers.count(201) == 20
    assert answers.count(200) >= 15
    assert not is_open(app)


Engine = Callable[[Callable[..., Flask], Server, dict[str, t.Any]], Flask]


def with_own_engine(make: Callable[..., Flask], server: Server, options: dict[str, t.Any]) -> Flask:
    return make(SQLALCHEMY_ENGINE_OPTIONS=options)


def with_engine_of_the_host(
    make: Callable[..., Flask], server: Server, options: dict[str, t.Any]
) -> Flask:
    """An app that passes its own Flask-SQLAlchemy, with the pool that SQLAlchemy makes."""
    app = Flask("host")
    uri = make_uri(make)
    app.config.update(HOST_CONFIG, MONGO_URI=uri, SQLALCHEMY_DATABASE_URI=server.url)
    app.config.update(SQLALCHEMY_ENGINE_OPTIONS=options, DUALMEDIA_REFERENCES={"product": None})
    app.config.update(DUALMEDIA_PROBE_INTERVAL=0.2, DUALMEDIA_SQL_TIMEOUT=1)
    db = SQLAlchemy()
    db.init_app(app)
    DualMedia(app, db=db)
    return app


def make_uri(make: Callable[..., Flask]) -> str:
    return make().config["MONGO_URI"]


@pytest.fixture(
    params=[with_own_engine, with_engine_of_the_host], ids=["own-engine", "engine-of-the-host"]
)
def with_engine(
    request: pytest.FixtureRequest, make: Callable[..., Flask], server: Server
) -> Iterator[t.Any]:
    """Makes an app with a pool of its own, or with that of its host."""
    made: list[Flask] = []

    def make_one(**options: t.Any) -> Flask:
        made.append(request.param(make, server, options))
        return made[-1]

    yield make_one
    for app in made:
        close(app)


def fill(app: Flask, number: int) -> None:
    """Have so many connections in the pool."""
    engine = get_state(app).engine
    assert engine is not None
    ready, done = threading.Barrier(number + 1), threading.Event()

    def use() -> None:
        with SQLDatabase(engine, 5).borrow() as driver:
            driver.execute("SELECT 1")
            ready.wait()
            done.wait()

    threads = [threading.Thread(target=use) for _ in range(number)]
    for thread in threads:
        thread.start()
    ready.wait()
    done.set()
    for thread in threads:
        thread.join()


def test_a_pool_full_of_lost_connections_is_no_outage(
    with_engine: Callable[..., Flask], server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    app = with_engine(pool_size=8, max_overflow=0)
    http = Http(app)
    media_id = http.post(SMALL).json["id"]
    for _ in range(3):
        fill(app, 8)
        server.cut()
        assert http.ask("GET", f"product-images/{media_id}/content").status_code == 200
        assert http.list().status_code == 200
        assert http.patch(media_id).status_code == 200
        assert http.post(SMALL).status_code == 201
    assert not is_open(app)
    eventually(lambda: is_drained(app))
    assert len(http.list().json["items"]) == 4
    assert len(warnings(caplog)) == len(set(warnings(caplog)))


def test_after_a_lost_connection_there_are_enough_others_although_the_server_has_no_room(
    with_engine: Callable[..., Flask], server: Server
) -> None:
    app = with_engine(pool_size=4, max_overflow=0)
    http = Http(app)
    media_id = http.post(SMALL).json["id"]
    fill(app, 4)
    server.run(f"ALTER ROLE {server.name} CONNECTION LIMIT 0")
    server.run(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        f" WHERE pid = (SELECT pid FROM pg_stat_activity WHERE datname = '{server.name}'"
        " ORDER BY state_change DESC LIMIT 1)"
    )
    statuses = [
        http.ask("GET", f"product-images/{media_id}/content").status_code for _ in range(30)
    ]
    assert statuses == [200] * 30
    assert http.patch(media_id).status_code == 200
    assert not is_open(app)


def test_a_server_without_room_takes_new_media_into_the_journal(
    with_engine: Callable[..., Flask], server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    app = with_engine(pool_size=4, max_overflow=0)
    http = Http(app)
    media_id = http.post(SMALL).json["id"]
    server.run(f"ALTER ROLE {server.name} CONNECTION LIMIT 0")
    server.cut()
    for content in (SMALL, None, LARGE):
        assert http.post(content).status_code == 201
    answers = [http.patch(media_id), http.ask("GET", f"product-images/{media_id}")]
    assert [answer.status_code for answer in answers] == [503, 503]
    assert all("no connection left" in answer.json["message"] for answer in answers)
    assert_list_is_honest(http.list())
    assert any("no connection left" in message for message in warnings(caplog))
    assert len(warnings(caplog)) == len(set(warnings(caplog)))
    server.run(f"ALTER ROLE {server.name} CONNECTION LIMIT -1")
    eventually(lambda: is_drained(app))
    assert len(http.list().json["items"]) == 4


def test_a_pool_of_one_is_enough(with_engine: Callable[..., Flask]) -> None:
    app = with_engine(pool_size=1, max_overflow=0)
    http = Http(app)
    for content in (SMALL, LARGE):
        media_id = http.post(content).json["id"]
        assert http.ask("GET", f"product-images/{media_id}/content").data == content
        assert http.patch(media_id).status_code == 200
        headers = {"Content-Type": "image/png"}
        path = f"product-images/{media_id}/content"
        headers = http._headers | headers
        assert http._client.put(f"/media/{path}", data=LARGE, headers=headers).status_code == 200
        assert http.list().status_code == 200
        assert http.ask("DELETE", f"product-images/{media_id}").status_code == 204


def test_a_schema_that_is_behind_is_said_and_met_when_it_is_upgraded(
    make: Callable[..., Flask],
) -> None:
    """New workers start before the tables are upgraded."""
    app = make(DUALMEDIA_AUTO_UPGRADE=False)
    http = Http(app)
    created = http.post(SMALL)
    assert created.status_code == 201
    answer = http.ask("GET", f"product-images/{uuid.uuid4()}")
    assert (answer.status_code, "upgrade" in answer.json["message"]) == (503, True)
    assert_list_is_honest(http.list())
    assert app.test_cli_runner().invoke(args=["dualmedia", "upgrade"]).exit_code == 0
    eventually(lambda: is_drained(app))
    assert http.list().json["items"][0]["id"] == created.json["id"]


def test_a_database_of_a_later_version_is_left_as_it_is(
    make: Callable[..., Flask], server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Workers that start again while others are upgraded go on."""
    make()
    server.within("UPDATE dualmedia_version SET version_num = '9999'")
    server.within("ALTER TABLE product_images ADD COLUMN of_later text")
    app = make()
    http = Http(app)
    assert http.post(SMALL).status_code == 201
    assert len(http.list().json["items"]) == 1
    assert warnings(caplog) == []
    assert head_revision() != "9999"


@pytest.fixture
def sqlite(make_app: MakeApp, tmp_path: Path) -> tuple[Flask, Path]:
    path = tmp_path / "data" / "media.db"
    path.parent.mkdir()
    references = {"product": None}
    app = make_app(
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{path}?timeout=0.2", DUALMEDIA_REFERENCES=references
    )
    return app, path


def test_a_locked_file_of_sqlite_is_busy(sqlite: tuple[Flask, Path]) -> None:
    app, path = sqlite
    http = Http(app)
    media_id = http.post(SMALL).json["id"]
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        answers = [http.patch(media_id), http.post(SMALL), http.post(LARGE)]
        assert [answer.status_code for answer in answers] == [503, 503, 503]
        assert "locked" in answers[0].json["message"]
        assert http.list().status_code == 200
    engine.dispose()
    assert not is_open(app)
    assert http.patch(media_id).status_code == 200


def limit_pages(app: Flask) -> None:
    engine = get_state(app).engine
    assert engine is not None

    @event.listens_for(engine, "checkout")
    def limit(connection: t.Any, *_: object) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # as many as there are


def make_read_only(app: Flask) -> None:
    engine = get_state(app).engine
    assert engine is not None

    @event.listens_for(engine, "checkout")
    def limit(connection: t.Any, *_: object) -> None:
        connection.execute("PRAGMA query_only = on")


@pytest.mark.parametrize(
    ("spoil", "words"), [(limit_pages, "space"), (make_read_only, "read-only")]
)
def test_a_file_of_sqlite_that_cannot_grow_or_change_is_refused_with_its_reason(
    sqlite: tuple[Flask, Path], spoil: Callable[[Flask], None], words: str
) -> None:
    app, _ = sqlite
    http = Http(app)
    first = http.post(SMALL).json["id"]
    spoil(app)
    refused = http.post(LARGE)
    assert refused.status_code == 201 or words in refused.json["message"]
    assert http.post(LARGE).status_code == 201
    assert http.ask("GET", f"product-images/{first}").status_code == 200
    assert not is_open(app)


def test_a_folder_of_sqlite_that_is_away_is_an_outage_with_its_reason(
    make_app: MakeApp, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/away/media.db"
    app = make_app(
        SQLALCHEMY_DATABASE_URI=uri,
        DUALMEDIA_REFERENCES={"product": None},
        DUALMEDIA_PROBE_INTERVAL=0.2,
    )
    http = Http(app)
    created = http.post(SMALL)
    assert created.status_code == 201
    assert_list_is_honest(http.list())
    (tmp_path / "away").mkdir()
    eventually(lambda: is_drained(app))
    with app.app_context():
        assert [record.id for record in get_product_images("p")] == [uuid.UUID(created.json["id"])]
        assert isinstance(get_product_images("p")[0], ProductImage)
