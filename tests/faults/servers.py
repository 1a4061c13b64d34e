"""Servers that can be killed and started again on the same data, at the same address."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import typing as t
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pymongo
import sqlalchemy as sa
from flask import Flask
from flask_jwt_extended import JWTManager, create_access_token

from example_app import embedded
from tests.faults.host import CONFIG
from tests.tools.clocks import skewed_environment

ROOT = Path(__file__).parent.parent.parent

START_TIMEOUT = 60.0  # seconds

APP = "tests.faults.host:create_app()"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class PostgresServer:
    """PostgreSQL, as a whole: the server process and those of its connections.

    The folder of its socket is another one after each start, so the URL names a link to it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory, self._link = directory, directory / "socket"
        self._process: psutil.Process | None = None
        host = urllib.parse.quote(str(self._link), "")
        self.url = f"postgresql+psycopg://postgres@/{embedded.DATABASE}?host={host}"

    def start(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            started = embedded.start(self._directory, mongo=False)
            try:
                self._process = psutil.Process(started.pids[0])
                break
            except (
                psutil.NoSuchProcess
            ):  # of the supervisor of the killed one, which was not gone yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        link = self._link.with_suffix(".new")
        link.unlink(missing_ok=True)
        link.symlink_to(t.cast(str, sa.make_url(started.postgres_url or "").query["host"]))
        link.rename(self._link)

    def kill(self) -> None:
        """Kill -9, as when the machine loses its power."""
        family = self._family()
        for process in family:
            _send(process, signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)

    def pause(self) -> None:
        """Stop answering, without closing a connection."""
        for process in self._family():
            _send(process, signal.SIGSTOP)

    def resume(self) -> None:
        for process in self._family():
            _send(process, signal.SIGCONT)

    def configure(self, name: str, value: str | None) -> None:
        """Change a setting of the server, or with ``None`` take it back. Both work while it is
        read-only."""
        change = f"RESET {name}" if value is None else f"SET {name} = '{value}'"
        self.execute(f"ALTER SYSTEM {change}", "SELECT pg_reload_conf()")

    def limit(self, *tables: str) -> None:
        """Let the disk be filled, see :meth:`fill`: then nothing can be inserted into these
        tables."""
        self.execute(
            "CREATE TABLE disk (is_full boolean)",
            "CREATE FUNCTION refuse_if_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF EXISTS (SELECT FROM disk) THEN"
            " RAISE 'no space left on device' USING ERRCODE = 'disk_full'; END IF;"
            " RETURN NULL; END $$",
            *(
                f"CREATE TRIGGER refuse_if_full BEFORE INSERT ON {table}"
                " EXECUTE FUNCTION refuse_if_full()"
                for table in tables
            ),
        )

    def fill(self) -> None:
        """Fill the disk."""
        self.execute("INSERT INTO disk VALUES (true)")

    def clear(self) -> None:
        """Make room on the disk again."""
        self.execute("DELETE FROM disk")

    def execute(self, *statements: str) -> None:
        """Do something past all faults: it works while the server is read-only, or waits for a
        standby."""
        options = "-c default_transaction_read_only=off -c synchronous_commit=local"
        engine = sa.create_engine(
            self.url,
            isolation_level="AUTOCOMMIT",
            poolclass=sa.NullPool,
            connect_args={"options": options},
        )
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def stop(self) -> None:
        self.resume()
        family = self._family()
        for process in family[:1]:
            _send(process, signal.SIGINT)
        psutil.wait_procs(family, timeout=20)

    def _family(self) -> list[psutil.Process]:
        try:
            return (
                [self._process, *self._process.children(recursive=True)]
                if self._process is not None
                else []
            )
        except psutil.NoSuchProcess:
            return []


class MongoServer:
    """SecantusDB at a port that stays the same.

    :param test_commands: It can be told to fail (``configureFailPoint``).
    """

    def __init__(self, directory: Path, *, test_commands: bool = False) -> None:
        self._directory, self._port = directory, free_port()
        self._options = ["--enable-test-commands"] if test_commands else []
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"mongodb://127.0.0.1:{self._port}/{embedded.DATABASE}"

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "secantus",
            "--host",
            "127.0.0.1",
            "--port",
            str(self._port),
        ]
        command += [
            "--cache-size",
            "256M",
            "--storage-path",
            str(self._directory / "data"),
            *self._options,
        ]
        with (self._directory / "mongo.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._directory, stdout=log, stderr=log)
        with pymongo.MongoClient(
            self.uri, serverSelectionTimeoutMS=int(START_TIMEOUT * 1000)
        ) as client:
            client.admin.command("ping")

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """Stop answering, without closing a connection."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        process = psutil.Process(self._process.pid)
        while process.status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)  # by a forked child too, whose child it is not

    def stop(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self.resume()
            self._process.terminate()
            self._process.wait(20)


class Workers:
    """gunicorn: a master, which is left alone, and workers, which are not.

    :param skew: Seconds that their wall clock is ahead.
    """

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, t.Any],
        *,
        count: int = 2,
        app: str = APP,
        skew: float = 0,
        options: t.Sequence[str] = ("--threads", "4"),
        environment: Mapping[str, str] = {},
    ) -> None:
        self.port, self._count, self._app, self._options = free_port(), count, app, options
        self.log_path = directory / (f"gunicorn{skew:+.0f}.log" if skew else "gunicorn.log")
        self._environment = os.environ | {
            f"FLASK_{name}": str(value) for name, value in config.items()
        }
        self._environment |= environment
        self._master: subprocess.Popen[bytes] | None = None
        if skew:
            self._environment = skewed_environment(skew, self._environment)

    def start(self) -> None:
        command = [sys.executable, "-m", "gunicorn", self._app]
        command += [
            "--bind",
            f"127.0.0.1:{self.port}",
            "--workers",
            str(self._count),
            *self._options,
        ]
        command += ["--timeout", "120"]
        with self.log_path.open("ab") as log:
            self._master = subprocess.Popen(
                command, cwd=ROOT, env=self._environment, stdout=log, stderr=log
            )

    def wait(self) -> None:
        """Wait until a worker answers."""
        end = time.monotonic() + START_TIMEOUT
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT)
            try:
                connection.request("GET", "/media/health")
                connection.getresponse().read()
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
            finally:
                connection.close()

    def kill_one(self, choose: t.Callable[[list[psutil.Process]], psutil.Process]) -> None:
        for worker in self._chosen(choose):
            _send(worker, signal.SIGKILL)

    def pause_one(
        self, choose: t.Callable[[list[psutil.Process]], psutil.Process]
    ) -> t.Callable[[], None]:
        """Stop a worker in the middle of whatever it does.

        :return: Lets it go on.
        """
        paused = self._chosen(choose)
        for worker in paused:
            _send(worker, signal.SIGSTOP)

        def resume() -> None:
            for worker in paused:
                _send(worker, signal.SIGCONT)

        return resume

    def _chosen(
        self, choose: t.Callable[[list[psutil.Process]], psutil.Process]
    ) -> list[psutil.Process]:
        workers = psutil.Process(self._master.pid).children() if self._master is not None else []
        return [choose(sorted(workers, key=lambda worker: worker.pid))] if workers else []

    def stop(self) -> None:
        if self._master is not None:
            self._master.terminate()
            self._master.wait(40)


class Server(t.Protocol):
    def start(self) -> None: ...

    def stop(self) -> None: ...


@contextmanager
def running(server: Server) -> Iterator[None]:
    """Start a server, and stop it in the end, which may come while it starts."""
    try:
        server.start()
        yield
    finally:
        server.stop()


def bearer(identity: str) -> dict[str, str]:
    """The header of a token that the workers accept."""
    app = Flask("tokens")
    app.config.update(CONFIG)
    JWTManager(app)
    with app.app_context():
        return {"Authorization": f"Bearer {create_access_token(identity, expires_delta=False)}"}


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
