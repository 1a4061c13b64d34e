"""Reads that a server's processes have counted, and not written down yet, are there after it was
asked to stop."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
import typing as t
from collections.abc import Callable
from pathlib import Path

import pytest

from flask_dualmedia import MediaStorage, content_url, get_media, save_media_storage

from ..conftest import MakeApp
from ..faults.servers import APP, ROOT, START_TIMEOUT, free_port
from ..waiting import eventually

pytestmark = pytest.mark.long

READS = 8

FACTORY = APP.removesuffix("()")


def python(*arguments: str) -> Callable[[int], list[str]]:
    return lambda port: [
        sys.executable,
        "-m",
        *(argument.format(port=port) for argument in arguments),
    ]


def uwsgi(*options: str) -> Callable[[int], list[str]]:
    program = str(Path(sys.executable).with_name("uwsgi"))
    given = [
        "--module",
        APP,
        "--pyhome",
        sys.prefix,
        "--master",
        "--enable-threads",
        "--processes",
        "2",
        *options,
    ]
    return lambda port: [program, "--http-socket", f"127.0.0.1:{port}", *given]


GUNICORN = ("gunicorn", APP, "--bind", "127.0.0.1:{port}", "--workers", "2")

SERVERS: dict[str, Callable[[int], list[str]]] = {
    "gunicorn sync": python(*GUNICORN),
    "gunicorn threads": python(*GUNICORN, "--threads", "4"),
    "gunicorn gevent": python(*GUNICORN, "-k", "gevent"),
    "gunicorn preload": python(*GUNICORN, "--threads", "4", "--preload"),
    # SIGTERM makes it load the app anew otherwise.
    "uWSGI": uwsgi("--die-on-term"),
    "uWSGI lazy": uwsgi("--die-on-term", "--lazy-apps"),
    "waitress": python("waitress", "--listen", "127.0.0.1:{port}", "--call", FACTORY),
    "granian": python(
        "granian", "--interface", "wsgi", "--factory", "--port", "{port}", "--workers", "2", FACTORY
    ),
    "flask run": python("flask", "--app", FACTORY, "run", "--port", "{port}"),
    "flask run --debug": python("flask", "--app", FACTORY, "run", "--debug", "--port", "{port}"),
    "flask run, one thread": python(
        "flask", "--app", FACTORY, "run", "--without-threads", "--port", "{port}"
    ),
}


def read(port: int, url: str, reader: int) -> int:
    """The status of one read, over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_TIMEOUT)
    try:
        connection.request("GET", url, headers={"User-Agent": f"reader {reader}"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


# Flask's reloader kills the process that serves, by SIGKILL, when it gets SIGTERM itself.
STOPS = [
    (server, number)
    for server in SERVERS
    for number in ("SIGTERM", "SIGINT")
    if (server, number) != ("flask run --debug", "SIGTERM")
]


@pytest.mark.parametrize(("server", "signal_name"), STOPS)
def test_counts_are_kept(
    make_app: MakeApp,
    mongo_uri: str,
    emptied_url: str,
    tmp_path: Path,
    server: str,
    signal_name: str,
) -> None:
    app = make_app()
    with app.app_context():
        record = save_media_storage("page", "stops", b"%PDF-1.7 stops", is_public=True)
        url = content_url(record)
    config: dict[str, t.Any] = {"MONGO_URI": mongo_uri, "SQLALCHEMY_DATABASE_URI": emptied_url}
    config |= {"DUALMEDIA_COUNT_INTERVAL": 3600, "DUALMEDIA_AUTO_UPGRADE": False}
    environment = os.environ | {
        f"FLASK_{name}": str(value).lower() if value is False else str(value)
        for name, value in config.items()
    }
    port, log = free_port(), tmp_path / "server.log"

    with log.open("wb") as output:
        process = subprocess.Popen(
            SERVERS[server](port),
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for(port, process, log)
        assert [read(port, url, reader) for reader in range(READS)] == [200] * READS
        # gunicorn hangs for its graceful timeout where SIGINT comes while it starts a thread for a
        # request.
        time.sleep(1)
        number = signal.Signals[signal_name]
        if "debug" in server:
            # As a terminal does it: the reloader leaves that to its child.
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        process.wait(40)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    with app.app_context():
        # The process that the reloader of Flask has started ends a moment after it.
        eventually(
            lambda: get_media(MediaStorage, record.id).access_count == READS,
            15,
            explain=log.read_text,
        )


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return read(port, "/media/openapi.json", 0) == 200
        except OSError:
            return False

    eventually(answers, START_TIMEOUT, explain=log.read_text)
