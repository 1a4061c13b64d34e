"""The proxies that aim faults, in front of the real servers; and processes whose clocks are
wrong."""

from __future__ import annotations

import gc
import http.client
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import typing as t
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pymongo
import pymongo.errors
import pytest
import sqlalchemy as sa
from pymongo.collection import Collection

from ..tools import clocks
from ..tools.clocks import skewed_environment
from ..tools.mongo_proxy import MongoProxy
from ..tools.pg_proxy import PostgresProxy
from ..tools.waits import CONNECT_TIMEOUT, SPAN
from .servers import ROOT, free_port

Run = Callable[..., "Future[t.Any]"]


@pytest.fixture
def run() -> Iterator[Run]:
    """Calls something in a thread."""
    with ThreadPoolExecutor(8) as executor:
        yield executor.submit


@pytest.fixture
def proxy(emptied_url: str) -> Iterator[PostgresProxy]:
    with PostgresProxy(emptied_url) as proxy:
        yield proxy


@pytest.fixture
def direct(emptied_url: str) -> Iterator[psycopg.Connection]:
    """A connection past the proxy, and a table of names."""
    with connect(emptied_url) as connection:
        connection.execute("DROP TABLE IF EXISTS tools; CREATE TABLE tools (name text, data bytea)")
        yield connection
        connection.execute("DROP TABLE tools")


def connect(url: str, **options: t.Any) -> psycopg.Connection:
    plain = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True, **options)


def insert(connection: psycopg.Connection, name: str) -> None:
    connection.execute("INSERT INTO tools (name) VALUES (%s)", [name])


def names(connection: psycopg.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM tools ORDER BY name")]


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 5
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def go_away(descriptor: int, *, reset: bool) -> None:
    """Break a client's connection from its own side, as a deadline does."""
    with socket.socket(fileno=os.dup(descriptor)) as client:
        if reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.shutdown(socket.SHUT_RDWR)


def test_a_held_statement_waits_while_other_connections_pass(
    proxy: PostgresProxy, direct: psycopg.Connection, run: Run
) -> None:
    with connect(proxy.url) as first, connect(proxy.url) as second:
        held = proxy.hold("insert into tools")
        inserted = run(insert, first, "late")
        held.wait_until_reached()
        insert(second, "soon")
        assert names(second) == ["soon"]
        assert not inserted.done()
        held.release()
        inserted.result(5)
        assert names(direct) == ["late", "soon"]


@pytest.mark.parametrize("reset", [False, True])
def test_a_held_statement_arrives_although_its_client_is_gone(
    proxy: PostgresProxy, direct: psycopg.Connection, run: Run, reset: bool
) -> None:
    connection = connect(proxy.url)
    held = proxy.hold("INSERT INTO tools")
    inserted = run(insert, connection, "late")
    held.wait_until_reached()
    go_away(connection.fileno(), reset=reset)
    with pytest.raises(psycopg.OperationalError):
        inserted.result(5)
    connection.close()
    assert names(direct) == []
    held.release()
    assert eventually(lambda: names(direct) == ["late"])
    assert eventually(lambda: not proxy.connections)


@pytest.mark.parametrize("threshold", [0, 2, None])
def test_executions_are_counted_prepared_or_not(
    proxy: PostgresProxy, direct: psycopg.Connection, run: Run, threshold: int | None
) -> None:
    def insert_all(connection: psycopg.Connection) -> None:
        for number in range(8):
            insert(connection, str(number))

    with (
        connect(proxy.url, prepare_threshold=threshold) as connection,
        proxy.hold("INSERT INTO tools", nth=6) as held,
    ):
        inserted = run(insert_all, connection)
        held.wait_until_reached()
        assert names(direct) == list("01234")
        held.release()
        inserted.result(5)
        assert names(direct) == list("01234567")


def test_answers_before_the_held_one_pass(
    proxy: PostgresProxy, direct: psycopg.Connection, run: Run
) -> None:
    def insert_both(connection: psycopg.Connection, first_is_there: threading.Event) -> None:
        with connection.pipeline() as pipeline:
            insert(connection, "first")
            pipeline.sync()
            first_is_there.set()
            insert(connection, "second")

    with connect(proxy.url) as connection:
        held = proxy.hold_answer("INSERT INTO tools", nth=2)
        first_is_there = threading.Event()
        inserted = run(insert_both, connection, first_is_there)
        held.wait_until_reached()
        assert first_is_there.is_set()
        assert names(direct) == ["first", "second"]
        assert not inserted.done()
        held.release()
        inserted.result(5)


def test_a_connection_is_cut_before_a_statement(
    proxy: PostgresProxy, direct: psycopg.Connection
) -> None:
    with connect(proxy.url) as connection:
        cut = proxy.cut_before("INSERT INTO tools")
        with pytest.raises(psycopg.OperationalError):
            insert(connection, "never")
        cut.wait_until_reached()
    assert names(direct) == []


@pytest.mark.parametrize("threshold", [0, None])
def test_a_connection_is_cut_when_a_statement_is_done(
    proxy: PostgresProxy, direct: psycopg.Connection, threshold: int | None
) -> None:
    with connect(proxy.url, prepare_threshold=threshold) as connection:
        cut = proxy.cut_after("INSERT INTO tools")
        with pytest.raises(psycopg.OperationalError):
            insert(connection, "done")
        cut.wait_until_reached()
    assert names(direct) == ["done"]


def test_the_commit_of_one_transaction_is_found(
    proxy: PostgresProxy, direct: psycopg.Connection
) -> None:
    with connect(proxy.url) as connection, connect(proxy.url) as other:
        cut = proxy.cut_after("^COMMIT", after="INSERT INTO tools")
        with other.transaction():
            other.execute("SELECT 1")
        assert not cut.reached
        with pytest.raises(psycopg.OperationalError), connection.transaction():
            insert(connection, "committed")
        cut.wait_until_reached()
    assert names(direct) == ["committed"]


def test_requests_to_cancel_pass_and_can_be_held(
    proxy: PostgresProxy, direct: psycopg.Connection, run: Run
) -> None:
    with connect(proxy.url) as connection:
        sleeping = run(connection.execute, "SELECT pg_sleep(20)")
        active = (
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
            " AND query LIKE '%pg_sleep(20)' AND pid <> pg_backend_pid()"
        )
        assert eventually(lambda: direct.execute(active).fetchone() == (1,))
        with proxy.hold_cancels() as held:
            cancelled = run(connection.cancel_safe, timeout=10)
            held.wait_until_reached()
            assert not sleeping.done()
        cancelled.result(5)
        with pytest.raises(psycopg.errors.QueryCanceled):
            sleeping.result(5)
        assert proxy.cancels == 1


def test_encryption_is_declined(proxy: PostgresProxy) -> None:
    with connect(proxy.url, sslmode="prefer") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_bytes_pass_whole_over_tcp_and_unix_sockets(
    proxy: PostgresProxy, direct: psycopg.Connection
) -> None:
    chunks = [os.urandom(256 * 1024) for _ in range(40)]
    with PostgresProxy(proxy.url) as outer, connect(outer.url) as connection:
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO tools VALUES (%s, %s)", [(f"{n:02}", c) for n, c in enumerate(chunks)]
            )
        with connection.cursor(binary=True) as cursor:
            stored = cursor.execute("SELECT data FROM tools ORDER BY name").fetchall()
    assert [data for (data,) in stored] == chunks


def test_everything_pauses_and_goes_on(
    proxy: PostgresProxy, direct: psycopg.Connection, run: Run
) -> None:
    with connect(proxy.url) as connection:
        proxy.pause()
        inserted = run(insert, connection, "patient")
        connected = run(connect, proxy.url)
        with pytest.raises(TimeoutError):
            inserted.result(0.3)
        assert names(direct) == []
        proxy.pass_through()
        inserted.result(5)
        connected.result(5).close()
        assert names(direct) == ["patient"]


def test_a_black_hole_swallows(proxy: PostgresProxy, direct: psycopg.Connection, run: Run) -> None:
    with connect(proxy.url) as connection:
        proxy.black_hole()
        inserted = run(insert, connection, "swallowed")
        with pytest.raises(TimeoutError):
            inserted.result(0.3)
        proxy.pass_through()
        with pytest.raises(psycopg.OperationalError):
            inserted.result(5)
    with connect(proxy.url) as connection:
        assert names(connection) == []


def test_connections_are_refused_for_a_while(proxy: PostgresProxy) -> None:
    with connect(proxy.url) as connection:
        proxy.refuse()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        connect(proxy.url)
    proxy.pass_through()
    connect(proxy.url).close()


def test_a_server_that_is_down_refuses_through_the_proxy(tmp_path: Path) -> None:
    with PostgresProxy(f"postgresql://postgres@/nothing?host={tmp_path}") as proxy:
        with pytest.raises(psycopg.OperationalError):
            connect(proxy.url)
        assert eventually(lambda: not proxy.connections)
    gc.collect()  # a socket that was forgotten fails the test


@pytest.fixture
def mongo_proxy(mongo_uri: str) -> Iterator[MongoProxy]:
    with MongoProxy(mongo_uri) as proxy:
        yield proxy


@pytest.fixture
def stored(mongo_uri: str) -> Iterator[Collection]:
    """A collection past the proxy."""
    with pymongo.MongoClient(mongo_uri) as client:
        yield client.get_default_database()["tools"]


@pytest.fixture
def proxied(mongo_proxy: MongoProxy) -> Iterator[Collection]:
    """The same collection through the proxy."""
    with pymongo.MongoClient(mongo_proxy.uri, socketTimeoutMS=2000, retryWrites=False) as client:
        yield client.get_default_database()["tools"]


def test_a_held_command_arrives_although_its_client_is_gone(
    mongo_proxy: MongoProxy, proxied: Collection, stored: Collection, run: Run
) -> None:
    with mongo_proxy.hold("insert:tools", containing="'_id': 'late'") as held:
        inserted = run(proxied.insert_one, {"_id": "late"})
        held.wait_until_reached()
        proxied.insert_one({"_id": "soon"})
        with pytest.raises(pymongo.errors.NetworkTimeout):
            inserted.result(5)
        assert stored.distinct("_id") == ["soon"]
    assert eventually(lambda: sorted(stored.distinct("_id")) == ["late", "soon"])


def test_an_answer_of_mongodb_is_held(
    mongo_proxy: MongoProxy, proxied: Collection, stored: Collection, run: Run
) -> None:
    with mongo_proxy.hold_answer("insert") as held:
        inserted = run(proxied.insert_one, {"_id": "there"})
        held.wait_until_reached()
        assert stored.distinct("_id") == ["there"]
        assert not inserted.done()
    assert inserted.result(5).acknowledged


@pytest.mark.parametrize(("cut", "there"), [("cut_before", []), ("cut_after", ["cut"])])
def test_a_connection_to_mongodb_is_cut_at_a_command(
    mongo_proxy: MongoProxy, proxied: Collection, stored: Collection, cut: str, there: list[str]
) -> None:
    fault = getattr(mongo_proxy, cut)("insert:tools")
    with pytest.raises(pymongo.errors.AutoReconnect):
        proxied.insert_one({"_id": "cut"})
    fault.wait_until_reached()
    assert stored.distinct("_id") == there


def test_mongodb_pauses_and_goes_on(
    mongo_proxy: MongoProxy, proxied: Collection, stored: Collection, run: Run
) -> None:
    proxied.find_one()
    mongo_proxy.pause()
    inserted = run(proxied.insert_one, {"_id": "patient"})
    with pytest.raises(TimeoutError):
        inserted.result(0.3)
    assert stored.distinct("_id") == []
    mongo_proxy.pass_through()
    assert inserted.result(5).acknowledged


def test_large_documents_pass_whole(proxied: Collection, stored: Collection) -> None:
    content = os.urandom(1024 * 1024)
    proxied.insert_many([{"_id": number, "content": content} for number in range(3)])
    assert [document["content"] == content for document in stored.find()] == [True, True, True]
    assert [document["content"] == content for document in proxied.find()] == [True, True, True]


SKEWS = (3600, -3600)


@pytest.mark.faketime
def test_processes_with_skewed_clocks_wait_as_long_as_others(
    proxy: PostgresProxy, mongo_proxy: MongoProxy, run: Run
) -> None:
    proxy.pause()
    mongo_proxy.pause()
    plain = proxy.sqlalchemy_url.set(drivername="postgresql").render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.tools.waits", plain, mongo_proxy.uri]
    before, monotonic_before = time.time(), time.monotonic()
    outputs = [
        run(subprocess.check_output, command, env=skewed_environment(skew), cwd=ROOT, timeout=60)
        for skew in SKEWS
    ]
    answers = [json.loads(output.result()) for output in outputs]
    after, monotonic_after = time.time(), time.monotonic()
    for skew, told in zip(SKEWS, answers, strict=True):
        for name, wall_time in told["times"].items():
            assert before - 0.1 <= wall_time - skew <= after, name
        assert monotonic_before <= told["monotonic"] <= monotonic_after
        for name, span in told["spans"].items():
            expected = CONNECT_TIMEOUT if name in ("connect to postgres", "ask mongo") else SPAN
            assert expected - 0.1 <= span < expected + 10, name


GUNICORN_TIMEOUT = 2

HOST = """
import os, time

def app(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        time.sleep(60)
    start_response("200 OK", [])
    return [f"{os.getpid()} {time.time()}".encode()]
"""


@pytest.mark.faketime
def test_gunicorn_tells_working_workers_from_hanging_ones_whatever_their_clock(
    tmp_path: Path,
) -> None:
    (tmp_path / "skewed_host.py").write_text(HOST)
    ports = [free_port() for _ in SKEWS]
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "skewed_host:app",
        "--timeout",
        str(GUNICORN_TIMEOUT),
        "--bind",
    ]
    with ExitStack() as stack:
        for skew, port in zip(SKEWS, ports, strict=True):
            log = stack.enter_context((tmp_path / f"{port}.log").open("wb"))
            environment = skewed_environment(skew)
            bound = [*command, f"127.0.0.1:{port}"]
            master = subprocess.Popen(bound, cwd=tmp_path, env=environment, stdout=log, stderr=log)
            stack.callback(master.wait, 10)
            stack.callback(master.terminate)
        started = [ask(port) for port in ports]
        for skew, (_, clock) in zip(SKEWS, started, strict=True):
            assert abs(time.time() + skew - clock) < 30
        time.sleep(GUNICORN_TIMEOUT + 1.5)  # a worker without a heartbeat would be killed by now
        assert [ask(port)[0] for port in ports] == [pid for pid, _ in started]
        with ThreadPoolExecutor(2) as executor:
            answers = [executor.submit(ask, port, "/hang", attempts=1) for port in ports]
            for answer in answers:
                with pytest.raises((OSError, http.client.HTTPException)):
                    answer.result(20)
        assert all(ask(port)[0] != pid for port, (pid, _) in zip(ports, started, strict=True))


def ask(port: int, path: str = "/", *, attempts: int = 100) -> tuple[int, float]:
    """Pid and wall clock of a worker."""
    for attempt in range(1, attempts + 1):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            if response.status != 200:
                raise http.client.HTTPException(response.reason)
            pid, clock = body.split()
            return int(pid), float(clock)
        except (OSError, http.client.HTTPException):
            if attempt == attempts:
                raise
            time.sleep(0.1)
        finally:
            connection.close()
    raise AssertionError


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "_FOLDERS", ())
    with pytest.raises(clocks.ClocksAreFixed, match="apt install faketime"):
        skewed_environment(1)
