"""A small host, served by gunicorn, and a client that speaks to it."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from flask import Flask
from flask_jwt_extended import JWTManager, create_access_token

from example_app import embedded
from flask_dualmedia import DualMedia

ROOT = Path(__file__).parent.parent.parent.parent

KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024**2),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
}
"""As docs/performance.md says: or glibc takes the memory of every upload anew from the system, page
by page."""

SECRET = "a key for benchmarks of at least thirty-two bytes"


def create_app() -> Flask:
    """The host that gunicorn serves; databases come from the environment."""
    app = Flask("benchmark")
    app.config.from_prefixed_env()
    app.config["JWT_SECRET_KEY"] = SECRET
    app.config["DUALMEDIA_REFERENCES"] = {"course": None, "user": None}
    DualMedia(app)
    return app


@contextmanager
def databases() -> Iterator[tuple[str, embedded.Servers]]:
    """Embedded servers in a folder that is removed when they have ended."""
    directory = tempfile.mkdtemp(prefix="dualmedia-benchmark-")
    servers = embedded.start(directory)
    try:
        yield directory, servers
    finally:
        processes = [psutil.Process(pid) for pid in servers.pids]
        for process in processes:
            process.send_signal(signal.SIGINT)
        psutil.wait_procs(processes, timeout=60)
        shutil.rmtree(directory, ignore_errors=True)


class Server(t.NamedTuple):
    worker: psutil.Process
    port: int
    headers: dict[str, str]

    def request(
        self, method: str, path: str, body: t.Any = None, headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request; the answer's body is still to be read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        connection.request(method, path, body, self.headers | (headers or {}))
        return connection.getresponse()

    def reset_peak_memory(self) -> int:
        """Forget the peak so far; the memory in use now, in bytes."""
        Path(f"/proc/{self.worker.pid}/clear_refs").write_text("5")
        return self.worker.memory_info().rss

    def peak_memory(self) -> int:
        """Largest memory in use since the last reset, in bytes, as the kernel counted it."""
        status = Path(f"/proc/{self.worker.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def make_token(identity: str, **claims: str) -> str:
    """A token that does not expire."""
    app = Flask("tokens")
    app.config["JWT_SECRET_KEY"] = SECRET
    JWTManager(app)
    with app.app_context():
        return create_access_token(identity, additional_claims=claims, expires_delta=False)


@contextmanager
def serve(port: int, **config: str) -> Iterator[Server]:
    """gunicorn with one worker of four threads."""
    environment = {f"FLASK_{name}": value for name, value in config.items()}
    with gunicorn("tests.tools.benchmarks.host", port, environment, workers=1) as workers:
        yield Server(workers[0], port, {"Authorization": f"Bearer {make_token('bench')}"})


@contextmanager
def gunicorn(
    module: str, port: int, environment: dict[str, str], *, workers: int = 2
) -> Iterator[list[psutil.Process]]:
    """The app that ``create_app`` of a module makes, on workers of four threads; gives the
    workers."""
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        f"{module}:create_app()",
        "--bind",
        f"127.0.0.1:{port}",
    ]
    command += [
        "--workers",
        str(workers),
        "--threads",
        "4",
        "--timeout",
        "300",
        "--log-level",
        "warning",
    ]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | KEEP_MEMORY | environment)
    try:
        yield _wait(process, port, workers)
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, workers: int = 1) -> list[psutil.Process]:
    for _ in range(300):
        time.sleep(0.1)
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/media/health")
            running = psutil.Process(process.pid).children()
            if connection.getresponse().status == 200 and len(running) == workers:
                return running
        except OSError:
            continue
    raise RuntimeError("gunicorn did not start")
