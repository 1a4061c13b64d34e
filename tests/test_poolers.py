"""PgBouncer in front of PostgreSQL: every transaction may run in another session of the server.

What is done here is done with PgBouncer and without it. What goes wrong with it alone is its doing.
"""

from __future__ import annotations

import random
import re
import shutil
import tempfile
import time
import typing as t
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from flask_dualmedia import schema

from .conftest import unique
from .faults.pooler import Pooler
from .faults.servers import PostgresServer, Workers, bearer, running

pytestmark = pytest.mark.pgbouncer

WORKERS = 8
CLIENTS = 8
OPERATIONS = 500
WEIGHTS = {"create": 25, "read": 30, "range": 15, "replace": 10, "edit": 8, "delete": 4, "list": 8}
SIZES = (2_000, 200_000, 300_000, 1_500_000, 5_500_000)
UP_TIMEOUT = 60.0
"""Seconds until workers, or SQL, must be back."""


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    # Not in a folder of pytest's: where root runs the tests, pytest shuts the PostgreSQL account out of those.
    directory = Path(tempfile.mkdtemp(prefix="dualmedia-poolers-"))
    directory.chmod(0o755)
    with running(server := PostgresServer(directory)):
        yield server
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def direct_url(postgres: PostgresServer) -> str:
    """URL of an empty database, past PgBouncer."""
    name = unique("pooled")
    admin = sa.create_engine(postgres.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    return sa.make_url(postgres.url).set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def pooler(postgres: PostgresServer, direct_url: str) -> Iterator[Pooler]:
    directory = Path(tempfile.mkdtemp(prefix="dualmedia-pgbouncer-"))
    with running(server := Pooler(directory, direct_url)):
        yield server
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
            health = requests.get(f"{self.url}/media/health", timeout=30).json()
            in_a_row = in_a_row + 1 if condition(health) else 0
            assert time.monotonic() < end, health
            time.sleep(0.02)

    def errors(self) -> set[str]:
        """What was not as it should be, for the clients or in the log."""
        found = {error for client in self.clients for error, number in client.errors.items() if number}
        for line in self.workers.log_path.read_text().splitlines():
            if re.search(r"WARNING|ERROR|CRITICAL|Traceback|Error|models not synchronized", line):
                found.add(re.sub(r"\d+", "N", line))
        return found


def boot_use_lose_and_upgrade(run: Run, postgres: PostgresServer, direct_url: str) -> set[str]:
    """
    :return: What went wrong.
    """
    with running(run.workers):
        run.workers.wait()
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
        run.workers.wait()
        run.together(Client.read_all)
        run.together(lambda client: client.work(5))
    with engine.connect() as connection:
        assert schema.current_revision(connection) == schema.head_revision()
    return run.errors()


def test_boot_use_outage_and_upgrade_are_the_same_with_transaction_pooling(
    postgres: PostgresServer, direct_url: str, pooler: Pooler, mongo_uri: str, tmp_path: Path
) -> None:
    pooled = Run(tmp_path, pooler.url, mongo_uri)
    print(boot_use_lose_and_upgrade(pooled, postgres, direct_url))
