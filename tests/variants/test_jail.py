"""Decoders in a process of their own: what they get, what they give, and what they may not do."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import psutil
import pytest

from flask_dualmedia.variants import jail
from flask_dualmedia.variants.failures import (
    Cancelled,
    Killed,
    LimitExceeded,
    OutOfMemory,
    ProcessingError,
    TimedOut,
    UndecodableMedia,
)
from flask_dualmedia.variants.jail import Limits, run

from . import tasks
from .calls import Bytes

ROOT = Path(__file__).parents[2]

MEGABYTE = 1024**2


@pytest.fixture(autouse=True)
def _known_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in vars(tasks):
        monkeypatch.setitem(jail.TASKS, name, f"tests.variants.tasks:{name}")


@pytest.fixture(autouse=True)
def _no_child_stays(_known_tasks: None) -> t.Iterator[None]:
    before = set(psutil.Process().children())
    yield
    assert set(psutil.Process().children()) <= before


def test_every_sink_gets_all_bytes_of_the_source() -> None:
    source = Bytes(os.urandom(3 * MEGABYTE))
    first, second = io.BytesIO(), io.BytesIO()
    result = run("copy", {}, source, {"first": first, "second": second})
    assert result == {"size": source.size}
    assert first.getvalue() == second.getvalue() == source.read(0, source.size)


def test_a_source_that_is_read_on_comes_in_larger_and_larger_ranges() -> None:
    source = Bytes(bytes(4 * MEGABYTE))
    run("copy", {}, source)
    sizes = [stop - start for start, stop in source.ranges]
    assert sizes == [MEGABYTE // 4, MEGABYTE // 2, MEGABYTE, MEGABYTE, MEGABYTE, MEGABYTE // 4]


def test_the_end_of_a_source_is_read_without_the_rest() -> None:
    source = Bytes(os.urandom(4 * MEGABYTE))
    result = run("read_tail", {"count": 10}, source)
    assert bytes.fromhex(result["tail"]) == source.read(source.size - 10, source.size)
    assert result["bytes_read"] <= MEGABYTE // 4


def test_progress_is_reported_while_the_task_goes_on() -> None:
    reported: list[float] = []
    run("report_slowly", {}, Bytes(b""), on_progress=reported.append)
    assert reported == sorted(reported)
    assert len(reported) >= 3


@pytest.mark.parametrize(
    ("task", "limits", "failure"),
    [
        ("loop", Limits(cpu_seconds=1), TimedOut),
        ("sleep", Limits(seconds=0.5), TimedOut),
        ("allocate", Limits(), OutOfMemory),
        ("crash", Limits(), Killed),
        ("flood", Limits(output=MEGABYTE), LimitExceeded),
        ("fail", Limits(), UndecodableMedia),
        ("trip", Limits(), ProcessingError),
    ],
)
def test_a_task_that_goes_wrong_says_how(
    task: str, limits: Limits, failure: type[ProcessingError]
) -> None:
    with pytest.raises(ProcessingError) as raised:
        run(task, {}, Bytes(b"x"), {"flood": io.BytesIO()}, limits)
    assert type(raised.value) is failure


def test_a_task_that_nobody_wants_any_more_ends_soon() -> None:
    begun = time.monotonic()
    with pytest.raises(Cancelled):
        run("sleep", {}, Bytes(b""), is_cancelled=lambda: time.monotonic() > begun + 0.1)
    assert time.monotonic() < begun + 5


class _Broken(Exception):
    pass


def test_an_error_of_the_source_passes_through() -> None:
    class Source:
        size = 10

        def read(self, start: int, stop: int) -> bytes:
            raise _Broken

    with pytest.raises(_Broken):
        run("copy", {}, Source())


def test_a_source_that_is_shorter_than_it_says_is_an_error() -> None:
    source = Bytes(b"content")
    source.size += 1
    with pytest.raises(ProcessingError, match="ends before its size"):
        run("copy", {}, source)


def test_an_error_of_a_sink_passes_through() -> None:
    class Sink:
        def write(self, content: bytes, /) -> None:
            raise _Broken

    with pytest.raises(_Broken):
        run("copy", {}, Bytes(b"content"), {"sink": Sink()})


def test_a_task_reaches_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        with pytest.raises(ProcessingError, match=r"unreachable|denied|not permitted"):
            run("connect", {"port": server.getsockname()[1]}, Bytes(b""))
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_task_reads_no_file_of_the_host(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("secret")
    canary.chmod(0o644)
    with pytest.raises(ProcessingError, match="PermissionError"):
        run("open_file", {"path": str(canary)}, Bytes(b""))


def test_a_task_writes_no_file(tmp_path: Path) -> None:
    with pytest.raises(ProcessingError):
        run("write_file", {"path": str(tmp_path / "new")}, Bytes(b""))
    assert list(tmp_path.iterdir()) == []


def test_a_task_has_nothing_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET_KEY", "secret")
    monkeypatch.setenv("HOME", "/root")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.set_inheritable(True)
        surroundings = run("look_around", {}, Bytes(b""))
    assert set(surroundings["environment"]) <= {
        "HOME",
        "LANG",
        "PATH",
        "MALLOC_ARENA_MAX",
        "LD_LIBRARY_PATH",
    }
    assert surroundings["folder"] == "/"
    assert surroundings["home"] == "/nonexistent"
    assert len(surroundings["files"]) == 4  # standard ones, and the socket
    assert not {"flask", "sqlalchemy", "pymongo"} & set(surroundings["modules"])


def test_a_server_that_embeds_python_is_not_taken_for_the_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    assert run("copy", {}, Bytes(b"content")) == {"size": 7}


# Without the rest of the package, which takes seconds to import.
_ALONE = """
import sys, types
package = sys.modules["flask_dualmedia"] = types.ModuleType("flask_dualmedia")
package.__path__ = ["flask_dualmedia"]
"""

_PARENT = f"""{_ALONE}
from flask_dualmedia.variants import jail
from tests.variants.calls import Bytes
jail.TASKS["sleep"] = "tests.variants.tasks:sleep"
print("ready", flush=True)
jail.run("sleep", {{}}, Bytes(b""))
"""


def test_a_child_ends_with_its_parent() -> None:
    command = [sys.executable, "-c", _PARENT]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        child = _busy_child(psutil.Process(parent.pid))
        assert child.open_files() == []
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        killed = time.monotonic()
        while _is_alive(child):
            assert time.monotonic() < killed + 1
            time.sleep(0.02)


def _is_alive(process: psutil.Process) -> bool:
    """A process that has ended stays on the list until somebody asks for its status."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _busy_child(parent: psutil.Process) -> psutil.Process:
    """The child that has confined itself, so that it may not open files any more."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for child in parent.children():
            if child.rlimit(psutil.RLIMIT_FSIZE)[0] == 0:
                return child
        time.sleep(0.02)
    raise AssertionError("no child")


_UNDER_GEVENT = f"""
from gevent import monkey; monkey.patch_all()
{_ALONE}
import gevent, json, time
from flask_dualmedia.variants import jail
from tests.variants.calls import Bytes
jail.TASKS["copy"] = "tests.variants.tasks:copy"
jail.TASKS["sleep"] = "tests.variants.tasks:sleep"

def sleep():
    try:
        jail.run("sleep", {{}}, Bytes(b""), limits=jail.Limits(seconds=0.7))
    except jail.TimedOut:
        return "timeout"

ticks = []
def tick():
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.05)

ticking = gevent.spawn(tick)
greenlets = [gevent.spawn(sleep)]
greenlets += [gevent.spawn(jail.run, "copy", {{}}, Bytes(bytes(3_000_000))) for _ in range(3)]
gevent.joinall(greenlets, raise_error=True)
print(json.dumps([[greenlet.value for greenlet in greenlets], len(ticks)]))
"""


def test_greenlets_of_a_patched_process_go_on_while_children_work() -> None:
    output = subprocess.check_output([sys.executable, "-c", _UNDER_GEVENT], cwd=ROOT)
    results, ticks = json.loads(output)
    assert results == ["timeout", {"size": 3_000_000}, {"size": 3_000_000}, {"size": 3_000_000}]
    assert ticks > 5


def test_a_forked_worker_of_a_parent_that_has_used_it_uses_it_too() -> None:
    run("copy", {}, Bytes(b"content"))
    worker = os.fork()
    if worker == 0:
        code = 1
        try:
            code = int(run("copy", {}, Bytes(b"content")) != {"size": 7})
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
