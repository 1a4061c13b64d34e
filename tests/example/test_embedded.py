"""The embedded servers of the example app: shared, stopped by the last user's end, and never losing
data."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pymongo
import pytest
import sqlalchemy as sa

from example_app import embedded

from ..waiting import eventually

pytestmark = pytest.mark.long

ROOT = Path(embedded.__file__).parent.parent

# Starts the servers named by the other arguments, says where they are, and ends when its standard
# input does.
USER = """
import json, sys
from example_app import embedded
servers = embedded.start(sys.argv[1], postgres="postgres" in sys.argv, mongo="mongo" in sys.argv)
print(json.dumps([servers.postgres_url, servers.mongo_uri, servers.pids]), flush=True)
sys.stdin.read()
"""


class User:
    """A process that uses the servers of a directory."""

    def __init__(self, directory: Path, *names: str) -> None:
        command = [sys.executable, "-c", USER, str(directory), *names]
        pipes: dict[str, t.Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        self.process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)

    def servers(self) -> embedded.Servers:
        """The next line of its output. Waits for it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate()[1])
        postgres_url, mongo_uri, pids = json.loads(line)
        return embedded.Servers(postgres_url, mongo_uri, tuple(pids))

    def end(self) -> None:
        self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "a folder's name, with all"


@pytest.fixture
def use(directory: Path) -> Iterator[Callable[..., User]]:
    """Starts users of the directory; ends them, and waits for the servers to end, after the
    test."""
    users: list[User] = []

    def start(*names: str) -> User:
        users.append(User(directory, *names))
        return users[-1]

    yield start
    for user in users:
        if user.process.returncode is None:
            user.kill()
    wait_until(lambda: not processes_of(directory))


def processes_of(directory: Path) -> list[psutil.Process]:
    """Users, servers and supervisors of a directory. One that has ended has no command line."""
    running = psutil.process_iter(["cmdline"])
    return [
        process
        for process in running
        if any(str(directory) in part for part in process.info["cmdline"] or [])
    ]


def runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_until(condition: Callable[[], object], timeout: float = 15) -> None:
    eventually(condition, timeout)


def mark(url: str) -> int:
    """Write a row; return how many there are now."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE IF NOT EXISTS marks (n int)"))
        connection.execute(sa.text("INSERT INTO marks VALUES (1)"))
        return connection.execute(sa.text("SELECT count(*) FROM marks")).scalar_one()


def mark_document(uri: str) -> int:
    with pymongo.MongoClient(uri) as client:
        marks = client.get_default_database().marks
        marks.insert_one({})
        return marks.count_documents({})


def test_processes_share_the_servers_and_the_last_one_stops_them(
    use: Callable[..., User], directory: Path
) -> None:
    # Both start at the same time, in an empty directory.
    first = use("postgres", "mongo")
    second = use("postgres", "mongo")
    servers = first.servers()
    assert second.servers() == servers
    first.end()
    time.sleep(0.3)
    assert all(runs(pid) for pid in servers.pids)
    assert mark(servers.postgres_url or "") == 1
    assert mark_document(servers.mongo_uri or "") == 1
    second.end()
    wait_until(lambda: not processes_of(directory))
    assert not list(directory.glob("*/server.json"))

    again = use("postgres", "mongo").servers()
    assert mark(again.postgres_url or "") == 2
    assert mark_document(again.mongo_uri or "") == 2


def test_servers_stop_after_their_users_are_killed(
    use: Callable[..., User], directory: Path
) -> None:
    users = [use("mongo"), use("mongo")]
    (pid,) = {pid for user in users for pid in user.servers().pids}
    for user in users:
        user.kill()
    wait_until(lambda: not runs(pid))
    wait_until(lambda: not processes_of(directory))


def test_who_comes_while_the_servers_stop_gets_new_ones(use: Callable[..., User]) -> None:
    for count in (1, 2, 3):
        user = use("mongo")
        assert mark_document(user.servers().mongo_uri or "") == count
        user.end()  # the next one finds a supervisor that is about to stop the server


def test_each_server_alone(use: Callable[..., User], directory: Path) -> None:
    assert use("mongo").servers().postgres_url is None
    assert not (directory / "postgres").exists()
    assert use("postgres").servers().mongo_uri is None


def test_a_killed_supervisor_leaves_a_server_that_is_taken_over(
    use: Callable[..., User], directory: Path
) -> None:
    first = use("postgres")
    servers = first.servers()
    supervisors = [
        process for process in processes_of(directory) if process.pid not in servers.pids
    ]
    supervisor = next(process for process in supervisors if "embedded.py" in str(process.cmdline()))
    supervisor.kill()
    wait_until(lambda: not runs(supervisor.pid))
    assert mark(servers.postgres_url or "") == 1  # who uses it does not notice
    second = use("postgres")
    assert second.servers() == servers
    first.end()
    second.end()
    wait_until(lambda: not processes_of(directory))


def test_a_server_that_was_killed_too_starts_again(
    use: Callable[..., User], directory: Path
) -> None:
    servers = use("postgres").servers()
    assert mark(servers.postgres_url or "") == 1
    for process in processes_of(directory):
        process.kill()
    wait_until(lambda: not processes_of(directory))
    assert (directory / "postgres" / "server.json").exists()
    assert mark(use("postgres").servers().postgres_url or "") == 2


def test_a_supervisor_that_is_told_to_end_stops_its_server(
    use: Callable[..., User], directory: Path
) -> None:
    (pid,) = use("mongo").servers().pids
    supervisor = next(process for process in processes_of(directory) if process.pid != pid)
    supervisor.send_signal(signal.SIGTERM)
    wait_until(lambda: not runs(pid))
    assert mark_document(use("mongo").servers().mongo_uri or "") == 1


def test_a_server_that_ends_by_itself_is_started_again(
    use: Callable[..., User], directory: Path
) -> None:
    servers = use("mongo").servers()
    (pid,) = servers.pids
    server = psutil.Process(pid)
    server.suspend()
    server.resume()
    assert mark_document(servers.mongo_uri or "") == 1
    server.kill()
    wait_until(lambda: not (directory / "mongo" / "server.json").exists())
    assert mark_document(use("mongo").servers().mongo_uri or "") == 2


def test_a_server_that_cannot_start_says_why(use: Callable[..., User], directory: Path) -> None:
    use("postgres").servers()
    for process in processes_of(directory):
        process.kill()
    wait_until(lambda: not processes_of(directory))
    (directory / "postgres" / "data" / "PG_VERSION").write_text("9\n")
    user = use("postgres")
    _, errors = user.process.communicate()
    assert "EmbeddedServerError: the embedded postgres server does not start" in errors
    assert "database files are incompatible with server" in errors


def test_missing_packages_are_named_by_their_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'flask-dualmedia\[demo\]'"):
        embedded.start(tmp_path)


# The command that people type. Its servers end with it, however it ends.


class Command:
    """``flask run`` of a copy of the example, whose instance folder is the test's."""

    def __init__(self, directory: Path, *options: str) -> None:
        shutil.copytree(
            ROOT / "example_app",
            directory / "example_app",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        unset = (
            "DB_HOST",
            "SQLALCHEMY_DATABASE_URI",
            "MONGO_URI",
            "DB_ENABLED",
            "WERKZEUG_RUN_MAIN",
        )
        environment = {key: value for key, value in os.environ.items() if key not in unset}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
        self.log = directory / "log"
        # With --debug there are two processes, and one of them serves.
        self.ready = "Debugger is active" if "--debug" in options else "Running on"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "flask",
                    "--app",
                    "example_app",
                    "run",
                    "--port",
                    "0",
                    *options,
                ],
                cwd=directory,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_until_it_serves(self) -> None:
        wait_until(
            lambda: self.ready in self.log.read_text() or self.process.poll() is not None, 30
        )
        assert self.process.poll() is None, self.log.read_text()


@pytest.mark.parametrize(
    ("end", "options"),
    [
        (signal.SIGINT, []),
        (signal.SIGKILL, []),
        (signal.SIGTERM, ["--debug"]),
        (signal.SIGKILL, ["--debug"]),
    ],
    ids=["Ctrl-C", "kill -9", "debug, kill", "debug, kill -9"],
)
def test_flask_run_takes_its_servers_with_it(
    directory: Path, end: signal.Signals, options: list[str]
) -> None:
    directory.mkdir()
    command = Command(directory, *options)
    try:
        command.wait_until_it_serves()
        log = command.log.read_text()
        assert "MongoDB connected" in log
        assert "PostgreSQL connected" in log
        instance = directory / "instance" / "servers"
        pids = [
            json.loads((instance / name / "server.json").read_text())["pid"]
            for name in ("mongo", "postgres")
        ]
        command.process.send_signal(end)
        command.process.wait(15)
        wait_until(lambda: not any(runs(pid) for pid in pids))
        wait_until(lambda: not processes_of(directory))
    finally:
        for process in processes_of(directory):
            process.kill()
        command.process.kill()
        command.process.wait()


def test_processes_that_need_the_account_at_once_make_one():
    """An ordinary user makes no account: the account is their own."""
    name = f"dualmedia-{os.getpid()}" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    code = f"from example_app import embedded; print(embedded.find_account({name!r}).pw_uid)"
    finders = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    try:
        found = {finder.communicate()[0] for finder in finders}
        assert found == {f"{pwd.getpwnam(name).pw_uid}\n".encode()}
    finally:
        if os.geteuid() == 0:
            subprocess.run(["userdel", name], check=True)
