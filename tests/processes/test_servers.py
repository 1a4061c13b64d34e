"""Servers and pools of every kind, with an app that was used before: each client gets the bytes
that it asks for."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import typing as t
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import requests
from flask import Flask

from ..faults import warm
from ..faults.servers import ROOT, Workers, bearer, running

CLIENTS = 16
FILES = 2
"""Files that each client uploads."""

APP = "tests.faults.warm:create_app()"
BIN = Path(sys.executable).parent

pytestmark = pytest.mark.servers


class Server(t.NamedTuple):
    """How a server is started.

    :param workers: Processes of it that are to be seen.
    :param is_forked: Whether the app was loaded, and used, before they were forked.
    """

    command: list[str]
    workers: int
    is_forked: bool = False


def gunicorn(*options: str, workers: int = 3) -> Server:
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--bind",
        "127.0.0.1:PORT",
        "--workers",
        str(workers),
        *options,
        APP,
    ]
    return Server(command, workers, "--preload" in options)


def uwsgi(*options: str) -> Server:
    command = [
        str(BIN / "uwsgi"),
        "--http-socket",
        "127.0.0.1:PORT",
        "--master",
        "--processes",
        "3",
        "--enable-threads",
    ]
    command += ["--die-on-term", "--need-app", "--module", APP, "--pythonpath", str(ROOT), *options]
    return Server(command, 3, "--lazy-apps" not in options)


def waitress() -> Server:
    return Server(
        [str(BIN / "waitress-serve"), "--listen=127.0.0.1:PORT", "--threads=8", "--call", APP[:-2]],
        1,
    )


def granian() -> Server:
    command = [str(BIN / "granian"), "--interface", "wsgi", "--host", "127.0.0.1", "--port", "PORT"]
    command += ["--workers", "2", "--blocking-threads", "4", "--factory", APP[:-2]]
    return Server(command, 2)


SERVERS = {
    "gunicorn sync": gunicorn("-k", "sync"),
    "gunicorn sync, preloaded": gunicorn("-k", "sync", "--preload"),
    "gunicorn gthread": gunicorn("-k", "gthread", "--threads", "4"),
    "gunicorn gthread, preloaded": gunicorn("-k", "gthread", "--threads", "4", "--preload"),
    "gunicorn gevent": gunicorn("-k", "gevent"),
    "gunicorn gevent, preloaded": gunicorn("-k", "gevent", "--preload"),
    "gunicorn gevent, patched and preloaded": gunicorn(
        "-k", "gevent", "--preload", "-c", "python:tests.faults.patched"
    ),
    "uWSGI": uwsgi(),
    "uWSGI with threads": uwsgi("--threads", "4"),
    "uWSGI lazy": uwsgi("--lazy-apps", "--threads", "4"),
    "waitress": waitress(),
    "granian": granian(),
}


class Program(Workers):
    """A server as a process and those that it starts."""

    def __init__(self, directory: Path, config: t.Mapping[str, t.Any], command: list[str]) -> None:
        super().__init__(directory, config)
        self.log_path = directory / "server.log"
        self._environment = self._environment | {"PYTHONPATH": str(ROOT)}
        self._command = [part.replace("PORT", str(self.port)) for part in command]

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self._master = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )

    def stop(self) -> None:
        master = self._master
        assert master is not None
        family = (
            psutil.Process(master.pid).children(recursive=True) if master.poll() is None else []
        )
        master.terminate()
        with suppress(subprocess.TimeoutExpired):
            master.wait(15)
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        _, alive = psutil.wait_procs(family, timeout=10)
        for process in alive:
            process.kill()
        if master.poll() is None:
            master.kill()
        master.wait()


class Client:
    """Uploads files and reads them again, each time over another connection."""

    def __init__(self, port: int, number: int, *, is_patient: bool = False) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._numbers = [number * FILES + place for place in range(FILES)]
        self._headers = bearer(f"client {number}") | {"Connection": "close"}
        self._is_patient = is_patient
        self.workers: set[str] = set()
        self.wrong: list[str] = []

    def run(self) -> None:
        stored = {number: self._upload(number) for number in self._numbers}
        for _ in range(3):
            for number, url in stored.items():
                self._read(number, url)

    def _upload(self, number: int) -> str:
        form = {"referenceType": "page", "referenceId": "servers"}
        files = {"file": (f"{number}.bin", warm.content(number))}
        answer = self._ask("POST", "/media/files", data=form, files=files)
        if answer.status_code != 201:
            self.wrong.append(f"upload of {number}: {answer.status_code} {answer.text}")
            return ""
        return f"{answer.headers['Location']}/content"

    def _read(self, number: int, url: str) -> None:
        content = warm.content(number)
        self._compare(number, self._ask("GET", url), 200, content)
        start, stop = warm.range_of(number)
        part = self._ask("GET", url, headers={"Range": f"bytes={start}-{stop - 1}"})
        self._compare(number, part, 206, content[start:stop])

    def _compare(self, number: int, answer: requests.Response, status: int, content: bytes) -> None:
        right = hashlib.sha256(content).digest()
        if answer.status_code != status or hashlib.sha256(answer.content).digest() != right:
            self.wrong.append(
                f"{number}: {answer.status_code} with {len(answer.content)} of {len(content)} bytes"
            )

    def _ask(
        self, method: str, url: str, *, headers: t.Mapping[str, str] | None = None, **body: t.Any
    ) -> t.Any:
        url = url if url.startswith("http") else self._url + url
        end = time.monotonic() + 60
        while True:
            try:
                answer = requests.request(
                    method, url, headers=self._headers | dict(headers or {}), timeout=60, **body
                )
                break
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                if not self._is_patient or time.monotonic() > end:
                    raise
                time.sleep(0.1)  # the server is being started again
        self.workers.add(answer.headers.get(warm.WORKER, ""))
        return answer


@pytest.fixture
def config(mongo_uri: str, migrated_url: str) -> dict[str, t.Any]:
    return {
        "MONGO_URI": mongo_uri,
        "SQLALCHEMY_DATABASE_URI": migrated_url,
        "DUALMEDIA_AUTO_UPGRADE": False,
    }


def run_clients(port: int, *, is_patient: bool = False) -> list[Client]:
    clients = [Client(port, number, is_patient=is_patient) for number in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as threads:
        for done in [threads.submit(client.run) for client in clients]:
            done.result()
    return clients


@pytest.mark.parametrize("name", SERVERS)
def test_clients_of_a_server_get_what_they_uploaded(
    config: dict[str, t.Any], tmp_path: Path, name: str
) -> None:
    server = SERVERS[name]
    program = Program(tmp_path, config, server.command)
    with running(program):
        program.wait()
        clients = run_clients(program.port)
    log = program.log_path.read_text()
    assert [client.wrong for client in clients if client.wrong] == [], log
    assert len(set[str]().union(*(client.workers for client in clients))) == server.workers
    assert server.is_forked or "MongoClient opened before fork" not in log
    assert [
        line for line in log.splitlines() if 'File "' in line and "/flask_dualmedia/" in line
    ] == [], log


@pytest.mark.parametrize("name", ["gunicorn sync", "uWSGI", "waitress", "granian"])
def test_a_body_in_chunks_is_taken_or_refused_in_words(
    config: dict[str, t.Any], tmp_path: Path, name: str
) -> None:
    """uWSGI passes on no body without a length. Nobody takes it for an empty one."""
    program = Program(tmp_path, config, SERVERS[name].command)
    pieces = [warm.content(0)[:500], warm.content(0)[500:]]
    headers = bearer("alice") | {"Content-Type": "application/octet-stream"}
    form = {"referenceType": "page", "referenceId": "servers"}
    with running(program):
        program.wait()
        root = f"http://127.0.0.1:{program.port}"
        made = requests.post(
            f"{root}/media/files",
            data=form,
            files={"file": b"before"},
            headers=bearer("alice"),
            timeout=30,
        )
        url = f"{root}{made.headers['Location']}/content"
        answer = requests.put(url, data=iter(pieces), headers=headers, timeout=30)
        stored = requests.get(url, headers=headers, timeout=30).content
    if name == "uWSGI":
        assert (answer.status_code, stored) == (411, b"before")
        assert "Content-Length" in answer.json()["message"]
    else:
        assert (answer.status_code, stored) == (200, warm.content(0))


def test_clients_of_a_development_server_that_starts_again(
    config: dict[str, t.Any], tmp_path: Path
) -> None:
    watched = tmp_path / "watched.txt"
    watched.touch()
    command = [sys.executable, "-m", "flask", "--app", APP, "run", "--debug"]
    command += ["--port", "PORT", "--extra-files", str(watched)]
    program = Program(tmp_path, config, command)

    def touch() -> None:
        time.sleep(1)
        os.utime(watched, (time.time() + 5, time.time() + 5))

    with running(program):
        program.wait()
        touching = threading.Thread(target=touch)
        touching.start()
        clients = run_clients(program.port, is_patient=True)
        touching.join()
        clients += run_clients(program.port, is_patient=True)
    log = program.log_path.read_text()
    assert [client.wrong for client in clients if client.wrong] == [], log
    assert len(set[str]().union(*(client.workers for client in clients))) == 2, (
        "it was started again"
    )
    assert "MongoClient opened before fork" not in log


def test_tasks_of_celery_that_save_and_read(
    config: dict[str, t.Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MESSAGES", "RESULTS"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    for name, value in config.items():
        monkeypatch.setenv(f"FLASK_{name}", str(value))
    command = [
        str(BIN / "celery"),
        "-A",
        "tests.faults.tasks:celery",
        "worker",
        "--pool",
        "prefork",
    ]
    command += ["--concurrency", "3", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
    program = Program(tmp_path, config, command)
    send = [sys.executable, "-W", "ignore", "-c", SEND]
    with running(program):
        done = subprocess.run(
            send, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.stdout.split() == ["48", "right", "in", "3"], (
        done.stderr + program.log_path.read_text()
    )


SEND = """
from tests.faults.tasks import store, is_right
stored = [task.get(timeout=100) for task in [store.delay(number) for number in range(24)]]
read = [is_right.delay(number, media_id) for _, number, media_id in stored for _ in range(2)]
read = [task.get(timeout=100) for task in read]
print(sum(right for _, right in read), "right in", len({pid for pid, *_ in [*stored, *read]}))
"""


_app: Flask | None = None


def set_up_process(environment: dict[str, str]) -> None:
    global _app
    os.environ.update(environment)
    _app = warm.create_app()


def save_and_read(number: int) -> bool:
    assert _app is not None
    return warm.is_right(_app, number, warm.store(_app, number))


@contextmanager
def closed(app: Flask) -> Iterator[Flask]:
    from ..conftest import close

    yield app
    close(app)


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
def test_processes_of_a_pool_save_and_read(
    config: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    environment = {f"FLASK_{name}": str(value) for name, value in config.items()}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.modules[__name__], "_app", None)
    context = t.cast("t.Any", multiprocessing.get_context(method))
    with closed(warm.create_app()) as app:
        monkeypatch.setattr(sys.modules[__name__], "_app", app)
        set_up: dict[str, t.Any] = {"initializer": set_up_process, "initargs": [environment]}
        with context.Pool(3, **(set_up if method == "spawn" else {})) as processes:
            answers = processes.map_async(save_and_read, range(24), chunksize=2)
            assert all(map(save_and_read, range(100, 106))), "the parent goes on beside them"
            assert answers.get(100) == [True] * 24
            processes.close()
            processes.join()
