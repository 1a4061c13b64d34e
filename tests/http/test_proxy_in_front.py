"""The nginx of docs/operations.md, in front of gunicorn: what it lets through, and whom it does not
wait for."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import socket
import subprocess
import time
import typing as t
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pymongo
import pytest

from ..conftest import ServerUrls, mongo_uri_for, unique
from ..faults.servers import ROOT, Workers, bearer, free_port, running
from ..samples import counting
from ..waiting import eventually

pytestmark = pytest.mark.nginx

RATE, SECONDS, BODY_TIMEOUT = 20_000, 1.5, 3
PATIENCE = 20.0

MAIN = """
daemon off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/answers;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    {servers}
}}
"""


class Nginx:
    """nginx as documented, with the ports of the test, and with less time for clients that send
    nothing."""

    def __init__(self, directory: Path, upstream: int) -> None:
        self.port, self.directory = free_port(), directory
        documented = (ROOT / "docs" / "operations.md").read_text()
        found = re.search(r"```nginx\n(.*?)```", documented, re.DOTALL)
        assert found is not None
        servers = found[1].replace("listen 80;", f"listen 127.0.0.1:{self.port};")
        servers = servers.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}")
        servers = servers.replace("client_body_timeout 30s", f"client_body_timeout {BODY_TIMEOUT}s")
        config = directory / "nginx.conf"
        config.write_text(MAIN.format(directory=directory, servers=servers))
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None, "install Debian's package nginx-light"
        command = [program, "-e", str(directory / "error.log"), "-c", str(config)]
        if os.geteuid() == 0:
            command += ["-g", "user root;"]
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command)
        log = self.directory / "error.log"
        eventually(self._answers, PATIENCE, explain=lambda: log.read_text())

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


@pytest.fixture(scope="module")
def workers(servers: ServerUrls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    uri = mongo_uri_for(servers, unique("test"))
    config = {"DB_ENABLED": "false", "MONGO_URI": uri}
    config |= {"DUALMEDIA_LEAST_RATE": str(RATE), "DUALMEDIA_LEAST_RATE_SECONDS": str(SECONDS)}
    made = Workers(tmp_path_factory.mktemp("gunicorn"), config, count=1, options=("--threads", "4"))
    with pymongo.MongoClient(uri) as client, running(made):
        made.wait()
        yield made
        client.drop_database(client.get_default_database())


@pytest.fixture(scope="module")
def nginx(workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    made = Nginx(tmp_path_factory.mktemp("nginx"), workers.port)
    with running(t.cast(t.Any, made)):
        yield made


def ask(
    port: int, method: str, path: str, body: t.Any = None, **headers: str
) -> tuple[int, bytes, t.Mapping[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, bearer("alice") | named)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def kept_file(port: int) -> str:
    fields = ("referenceType", "page"), ("referenceId", "1")
    body = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields
    )
    body += '--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    body += "text\r\n--b--\r\n"
    status, _, headers = ask(
        port, "POST", "/media/files", body, Content_Type="multipart/form-data; boundary=b"
    )
    assert status == 201
    return f"{headers['Location']}/content"


def head_of(method: str, path: str, length: int, *, token: bool = True) -> bytes:
    headers = {"Host": "localhost", "Content-Type": "text/plain", "Content-Length": str(length)}
    headers |= bearer("alice") if token else {}
    lines = [
        f"{method} {path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
        "",
        "",
    ]
    return "\r\n".join(lines).encode()


def drip(port: int, path: str) -> tuple[int, float]:
    """Send a body byte by byte: the status, and after how many seconds it came."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head_of("PUT", path, 1_000_000) + b"quick" * 2000)
        connection.setblocking(False)
        while time.monotonic() - began < PATIENCE:
            with suppress(BlockingIOError, ConnectionError):
                return int(connection.recv(1000).split()[1]), time.monotonic() - began
            with suppress(BlockingIOError, ConnectionError):
                connection.send(b"x")
            time.sleep(0.1)
    return 0, PATIENCE


@pytest.mark.parametrize("way", ["through nginx", "to gunicorn"])
def test_a_body_that_drips_holds_no_thread(workers: Workers, nginx: Nginx, way: str) -> None:
    port = nginx.port if way == "through nginx" else workers.port
    path = kept_file(port)
    for _ in range(6):  # more than there are threads
        status, seconds = drip(port, path)
        assert status == 408
        assert SECONDS < seconds < PATIENCE
    assert ask(port, "GET", path)[:2] == (200, b"text")


def test_a_client_that_stops_is_let_go(nginx: Nginx) -> None:
    path = kept_file(nginx.port)
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=PATIENCE) as connection:
        connection.sendall(head_of("PUT", path, 1_000_000) + b"quick" * 2000)
        assert connection.recv(1000).split()[1:2] in ([b"408"], [])
    assert ask(nginx.port, "GET", path)[:2] == (200, b"text")


def test_large_files_and_ranges_go_through(nginx: Nginx) -> None:
    path, content = kept_file(nginx.port), counting(20_000_000)
    assert ask(nginx.port, "PUT", path, content)[0] == 200
    assert ask(nginx.port, "GET", path)[1] == content
    status, part, headers = ask(nginx.port, "GET", path, Range="bytes=10000000-10000099")
    assert (status, part) == (206, content[10_000_000:10_000_100])
    assert headers["Content-Range"] == "bytes 10000000-10000099/20000000"


def test_a_body_of_nobody_is_not_kept_and_its_refusal_arrives(nginx: Nginx) -> None:
    path = kept_file(nginx.port)
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=PATIENCE) as connection:
        connection.sendall(head_of("PUT", path, 200_000_000, token=False))
        with suppress(ConnectionError):
            for _ in range(64):
                connection.sendall(bytes(64 * 1024))
        assert connection.recv(1000).split()[1] == b"401"
    bodies = [path for path in (nginx.directory / "bodies").rglob("*") if path.is_file()]
    assert sum(file.stat().st_size for file in bodies) == 0


def test_other_routes_take_no_large_bodies(nginx: Nginx) -> None:
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=PATIENCE) as connection:
        connection.sendall(head_of("POST", "/elsewhere", 2_000_000))
        assert connection.recv(1000).split()[1] == b"413"
