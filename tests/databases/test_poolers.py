"""PgBouncer in front of PostgreSQL: every transaction may run in another session of the server.

What is done here is done with PgBouncer and without it. What goes wrong with it alone is its doing.
"""

from __future__ import annotations

import logging
import random
import re
import shutil
import tempfile
import time
import typing as t
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pymongo
import pytest
import requests
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dualmedia import (
    DualMedia,
    MediaStorage,
    content_url,
    get_media,
    open_media,
    save_media_storage,
)
from flask_dualmedia.databases import schema, turns
from flask_dualmedia.databases.sql import SQLDatabase
from flask_dualmedia.errors import StatementCancelled
from flask_dualmedia.state import get_state

from ..conftest import HOST_CONFIG, MakeApp, ServerUrls, close, mongo_uri_for, unique
from ..faults.pooler import Pooler
from ..faults.servers import PostgresServer, Workers, bearer, running
from ..waiting import eventually

pytestmark = pytest.mark.pgbouncer

WORKERS = 8
CLIENTS = 8
OPERATIONS = 500
WEIGHTS = {"create": 25, "read": 30, "range": 15, "replace": 10, "edit": 8, "delete": 4, "list": 8}
SIZES = (2_000, 200_000, 300_000, 1_500_000, 5_500_000)
UP_TIMEOUT = 180.0
"""Seconds until workers, or SQL, must be back."""

BUDGET = 10.0
"""Seconds that a request may take that finds the server down: those of a statement, and of asking
anew."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    # Not in a folder of pytest's: where root runs the tests, pytest shuts the PostgreSQL account
    # out of those.
    directory = Path(tempfile.mkdtemp(prefix="dualmedia-poolers-"))
    directory.chmod(0o755)
    with running(server := PostgresServer(directory)):
        yield server
    shutil.rmtree(directory, ignore_errors=True)


def make_database(postgres: PostgresServer) -> str:
    """URL of an empty database, past PgBouncer."""
    name = unique("pooled")
    admin = sa.create_engine(postgres.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    return sa.make_url(postgres.url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def direct_url(postgres: PostgresServer) -> str:
    return make_database(postgres)


@pytest.fixture
def pooler(postgres: PostgresServer, direct_url: str) -> Iterator[Pooler]:
    yield from run_pooler(direct_url)


@pytest.fixture
def narrow_pooler(postgres: PostgresServer, direct_url: str) -> Iterator[Pooler]:
    """One session on the server for all clients."""
    yield from run_pooler(direct_url, pool_size=1)


def run_pooler(url: str, *, pool_size: int = 20) -> Iterator[Pooler]:
    directory = Path(tempfile.mkdtemp(prefix="dualmedia-pgbouncer-"))
    with running(pooler := Pooler(directory, url, pool_size=pool_size)):
        yield pooler
    shutil.rmtree(directory, ignore_errors=True)


class Client:
    """Somebody who uploads, reads and changes media, and notes what was not as it should be."""

    def __init__(self, base_url: str, number: int) -> None:
        self._base_url, self._random = base_url, random.Random(number)
        self._http = requests.Session()
        self._http.headers.update(bearer(f"client-{number}"))
        self._owner = {"referenceType": "user", "referenceId": f"owner-{number}"}
        self.contents: dict[str, bytes] = {}
        """The bytes of each file, by its path."""
        self.errors: Counter[str] = Counter()
        self.longest = 0.0
        """Seconds that an answer took at most."""

    def work(self, number: int) -> None:
        for _ in range(number):
            operation = self._random.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
            if not self.contents:
                operation = "create"
            getattr(self, operation)()

    def create(self) -> None:
        content = self._content()
        answer = self._ask("POST", "/media/files", 201, files={"file": content}, data=self._owner)
        if answer.status_code == 201:
            self.contents[f"/media/files/{answer.json()['id']}"] = content

    def read(self) -> None:
        path, content = self._choose()
        answer = self._ask("GET", f"{path}/content", 200)
        self._compare(answer, content)

    def range(self) -> None:
        path, content = self._choose()
        start = self._random.randrange(len(content))
        answer = self._ask("GET", f"{path}/content", 206, headers={"Range": f"bytes={start}-"})
        self._compare(answer, content[start:])

    def replace(self) -> None:
        path, _ = self._choose()
        content = self._content()
        if self._ask("PUT", f"{path}/content", 200, data=content).ok:
            self.contents[path] = content

    def edit(self) -> None:
        path, _ = self._choose()
        self._ask("PATCH", path, 200, json={"title": f"{self._random.random()}"})

    def delete(self) -> None:
        path, _ = self._choose()
        if self._ask("DELETE", path, 204).ok:
            del self.contents[path]

    def list(self) -> None:
        answer = self._ask("GET", "/media/files?limit=100", 200, params=self._owner)
        if answer.ok and not answer.json()["partial"]:
            ids = {f"/media/files/{item['id']}" for item in answer.json()["items"]}
            self.errors["incomplete list"] += not ids >= set(self.contents)

    def read_all(self) -> None:
        for path, content in self.contents.items():
            self._compare(self._ask("GET", f"{path}/content", 200), content)

    def _ask(self, method: str, path: str, expected: int, **more: t.Any) -> requests.Response:
        began = time.monotonic()
        answer = self._http.request(method, self._base_url + path, timeout=60, **more)
        self.longest = max(self.longest, time.monotonic() - began)
        if answer.status_code != expected:
            shown = path.partition("?")[0]
            shown = re.sub(r"[0-9a-f-]{36}", "ID", shown)
            self.errors[f"{method} {shown} {answer.status_code} {answer.text[:100]}"] += 1
        return answer

    def _compare(self, answer: requests.Response, content: bytes) -> None:
        self.errors["wrong bytes"] += answer.ok and answer.content != content

    def _choose(self) -> tuple[str, bytes]:
        return self._random.choice([*self.contents.items()])

    def _content(self) -> bytes:
        size = self._random.choices(SIZES, (8, 8, 5, 3, 1))[0]
        return self._random.randbytes(size + self._random.randrange(1000))


class Run:
    """Workers, and clients who use them."""

    def __init__(self, directory: Path, sql_url: str, mongo_uri: str) -> None:
        config = {
            "SQLALCHEMY_DATABASE_URI": sql_url,
            "MONGO_URI": mongo_uri,
            "DUALMEDIA_UPKEEP": False,
            "DUALMEDIA_COUNT_INTERVAL": 0.2,
        }
        self.workers = Workers(directory, config, count=WORKERS)
        self.url = f"http://127.0.0.1:{self.workers.port}"
        self.clients = [Client(self.url, number) for number in range(CLIENTS)]

    def together(self, work: t.Callable[[Client], object]) -> None:
        with ThreadPoolExecutor(CLIENTS) as threads:
            for done in [threads.submit(work, client) for client in self.clients]:
                done.result()

    def wait_for(self, condition: t.Callable[[dict[str, t.Any]], bool]) -> None:
        """Wait until every worker, as far as can be seen, says so."""
        end, in_a_row = time.monotonic() + UP_TIMEOUT, 0
        while in_a_row < 3 * WORKERS:
            health = {}
            with suppress(
                requests.RequestException
            ):  # a busy machine takes its time to start so many
                health = requests.get(f"{self.url}/media/health", timeout=10).json()
            in_a_row = in_a_row + 1 if health and condition(health) else 0
            assert time.monotonic() < end, health
            time.sleep(0.02)

    def errors(self) -> set[str]:
        """Everything that was not as it should be, for the clients or in the log."""
        found = {
            error for client in self.clients for error, number in client.errors.items() if number
        }
        for line in self.workers.log_path.read_text().splitlines():
            if re.search(r"WARNING|ERROR|CRITICAL|Traceback|Error|models not synchronized", line):
                found.add(re.sub(r"\d+", "N", line))
        return found


def boot_use_lose_and_upgrade(run: Run, postgres: PostgresServer, direct_url: str) -> set[str]:
    """
    :return: What went wrong.
    """
    with running(run.workers):
        run.wait_for(lambda health: not health["degraded"])
        run.together(lambda client: client.work(OPERATIONS // CLIENTS + 1))
        run.together(Client.read_all)

        postgres.kill()
        try:
            run.together(Client.create)
        finally:
            postgres.start()
        run.wait_for(lambda health: not health["degraded"] and health["journal"] == 0)
        run.together(Client.read_all)

    engine = sa.create_engine(direct_url, poolclass=sa.NullPool)
    schema.downgrade(engine, "0002")
    with running(run.workers):
        run.wait_for(lambda health: not health["degraded"])
        run.together(Client.read_all)
        run.together(lambda client: client.work(5))
    with engine.connect() as connection:
        assert schema.current_revision(connection) == schema.head_revision()
    return run.errors()


@pytest.fixture
def make_mongo_uri(servers: ServerUrls) -> Iterator[t.Callable[[], str]]:
    names: list[str] = []

    def make() -> str:
        names.append(unique("pooled"))
        return mongo_uri_for(servers, names[-1])

    yield make
    with pymongo.MongoClient(servers.mongo) as client:
        for name in names:
            client.drop_database(name)


def test_boot_use_outage_and_upgrade_go_as_without_a_pooler(
    postgres: PostgresServer,
    direct_url: str,
    pooler: Pooler,
    make_mongo_uri: t.Callable[[], str],
    tmp_path: Path,
) -> None:
    plain_url = make_database(postgres)
    routes = {"direct": (plain_url, plain_url), "pooled": (pooler.url, direct_url)}
    errors: dict[str, set[str]] = {}
    for name, (url, past_pooler) in routes.items():
        directory = tmp_path / name
        directory.mkdir()
        run = Run(directory, url, make_mongo_uri())
        errors[name] = boot_use_lose_and_upgrade(run, postgres, past_pooler)
    assert errors["pooled"] - errors["direct"] == set()


@pytest.fixture
def pooled_app(make_app: MakeApp, pooler: Pooler) -> Flask:
    return make_app(SQLALCHEMY_DATABASE_URI=pooler.url, DUALMEDIA_AUTO_UPGRADE=True)


def test_many_sessions_take_what_is_sent_over_one_connection(pooled_app: Flask) -> None:
    """Each thread sends the same statements often enough for psycopg to prepare them."""

    def work(number: int) -> None:
        chance = random.Random(number)
        with pooled_app.app_context():
            for size in (10, 300_000, 3_000_000):
                content = chance.randbytes(size)
                record = save_media_storage("page", str(number), content)
                for _ in range(8):
                    found = get_media(MediaStorage, record.id)
                    start = chance.randrange(size)
                    assert b"".join(open_media(found, start)) == content[start:]

    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(work, number) for number in range(6)]:
            done.result()


def test_a_host_may_have_its_statements_prepared(make_app: MakeApp, pooler: Pooler) -> None:
    """PgBouncer 1.21 and later can keep them for each client, if it is told to."""
    options = {"connect_args": {"prepare_threshold": 8}}
    app = make_app(
        SQLALCHEMY_DATABASE_URI=pooler.url,
        DUALMEDIA_AUTO_UPGRADE=True,
        SQLALCHEMY_ENGINE_OPTIONS=options,
    )
    engine = get_state(app).engine
    assert engine is not None
    with engine.connect() as connection:
        assert t.cast("t.Any", connection.connection.driver_connection).prepare_threshold == 8


def test_statements_are_prepared_where_there_is_no_pooler(make_app: MakeApp) -> None:
    engine = get_state(make_app()).engine
    assert engine is not None
    with engine.connect() as connection:
        assert t.cast("t.Any", connection.connection.driver_connection).prepare_threshold == 5


def test_a_host_that_was_there_before_has_nothing_prepared_either(
    pooler: Pooler, mongo_uri: str, direct_url: str
) -> None:
    """Its engine has connections that were opened before anybody looked for a pooler."""
    schema.upgrade(sa.create_engine(direct_url, poolclass=sa.NullPool))
    app, db = Flask("host"), SQLAlchemy()
    app.config.update(HOST_CONFIG, MONGO_URI=mongo_uri, SQLALCHEMY_DATABASE_URI=pooler.url)
    db.init_app(app)
    with app.app_context():
        db.session.execute(sa.text("SELECT 1"))
        db.session.rollback()
        DualMedia(app)
        with db.engine.connect() as connection:
            driver = t.cast("t.Any", connection.connection.driver_connection)
            assert driver.prepare_threshold is None
    close(app)


def test_a_lock_that_somebody_left_on_a_session_holds_no_start_up_for_long(
    make_app: MakeApp, narrow_pooler: Pooler, direct_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The version before did that: its lock was the session's, and the pooler kept the session."""
    caplog.set_level(logging.INFO)
    with sa.create_engine(direct_url, poolclass=sa.NullPool).connect() as other:
        other.exec_driver_sql(f"SELECT pg_advisory_lock({turns.LOCK})")
        began = time.monotonic()
        app = make_app(SQLALCHEMY_DATABASE_URI=narrow_pooler.url, DUALMEDIA_AUTO_UPGRADE=True)
        assert time.monotonic() - began < 2 * turns.PATIENCE
        assert "models not synchronized: others have locked what this needs" in caplog.text
    with app.app_context():
        save_media_storage("page", "1", b"few bytes")
        journal = get_state(app).homes[1].repository
        eventually(
            lambda: not journal.waiting() and "models synchronized" in caplog.text,
            UP_TIMEOUT,
            pause=0.1,
            explain=lambda: caplog.text,
        )


def test_no_lock_is_left_on_a_session_of_the_pooler(pooled_app: Flask, direct_url: str) -> None:
    engine = sa.create_engine(direct_url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert connection.exec_driver_sql(query).scalar_one() == 0


@pytest.mark.parametrize("failure", ["killed", "hanging"])
def test_booting_and_asking_while_the_server_behind_the_pooler_is_down(
    make_app: MakeApp, pooled_app: Flask, pooler: Pooler, postgres: PostgresServer, failure: str
) -> None:
    """The pooler lets clients in all the same, and has their statements wait."""
    with pooled_app.app_context():
        path = content_url(save_media_storage("page", "1", bytes(300_000), is_public=True))
    postgres.kill() if failure == "killed" else postgres.pause()
    try:
        began = time.monotonic()
        assert pooled_app.test_client().get(path).status_code == 503
        assert time.monotonic() - began < BUDGET
        began = time.monotonic()
        app = make_app(SQLALCHEMY_DATABASE_URI=pooler.url, DUALMEDIA_AUTO_UPGRADE=True)
        assert time.monotonic() - began < 2 * BUDGET
        with app.app_context():
            record = save_media_storage("page", "1", b"few bytes")
            assert get_media(MediaStorage, record.id).file_size == 9
    finally:
        postgres.start() if failure == "killed" else postgres.resume()
    client = pooled_app.test_client()
    eventually(lambda: client.get(path).status_code == 200, UP_TIMEOUT, pause=0.1)


def test_a_statement_that_takes_too_long_is_cancelled_through_the_pooler(
    pooled_app: Flask, direct_url: str
) -> None:
    state = get_state(pooled_app)
    assert state.engine is not None
    began = time.monotonic()
    with pytest.raises(StatementCancelled), SQLDatabase(state.engine, 0.5).borrow() as driver:
        driver.execute("SELECT pg_sleep(30)")
    assert time.monotonic() - began < 5
    with sa.create_engine(direct_url, poolclass=sa.NullPool).connect() as connection:
        query = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE state = 'active' AND query = 'SELECT pg_sleep(30)'"
        )
        assert connection.exec_driver_sql(query).scalar_one() == 0
