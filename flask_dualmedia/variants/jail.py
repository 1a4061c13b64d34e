"""Tasks that decode what strangers have uploaded, each in a process of its own.

The child is a fresh interpreter, so it holds no lock, connection, thread or secret of its parent,
whatever server that runs under. It sees one socket: over it the child asks for ranges of the
original, and gives what it makes of them, so that neither is ever a file. :mod:`.jailed` is the
other side, :mod:`.confinement` what the child may not do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import typing as t
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from . import channel
from .channel import Broken, Channel
from .failures import FAILURES, Cancelled, Killed, LimitExceeded, ProcessingError, TimedOut
from .ranges import Source

TASKS: dict[str, str] = {
    "render": "flask_dualmedia.variants.image_task:render_task",
}
"""The function of each task. It is called with arguments, source, sinks and a report of progress,
and returns a dictionary of what JSON can say."""

_PACKAGE = Path(__file__).parents[1]

# The package itself is left out: Flask, SQLAlchemy and all else would come with it.
_START = """
import sys, types
package = types.ModuleType("flask_dualmedia")
package.__path__ = [sys.argv[1]]
sys.modules["flask_dualmedia"] = package
from flask_dualmedia.variants.jailed import main
main()
"""

_LOOK_AGAIN = 0.25
"""Seconds between two looks at whether the task is still wanted."""

_END_OF_CHILD = 5.0
"""Seconds in which a child is gone that said its last word."""


class Sink(t.Protocol):
    """Takes the bytes of an output, in order."""

    def write(self, content: bytes, /) -> object: ...


@dataclass(frozen=True)
class Limits:
    """How much of everything one task may take."""

    seconds: float = 30.0
    """By the clock on the wall."""
    cpu_seconds: int = 30
    memory: int = 1024**3
    """Bytes of address space."""
    output: int = 64 * 1024**2
    """Bytes to all sinks together."""
    files: int = 64


def run(
    task: str,
    arguments: Mapping[str, t.Any],
    source: Source,
    sinks: Mapping[str, Sink] | None = None,
    limits: Limits | None = None,
    on_progress: Callable[[float], object] | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> dict[str, t.Any]:
    """The result of a task, after all of its outputs were written to their sinks.

    :param task: One of :data:`TASKS`.
    :param arguments: Of the task, as far as JSON can say them.
    :param on_progress: Called with the part of the work that is done, from 0 to 1.
    :param is_cancelled: Asked four times a second.
    :raises ProcessingError: By one of its subclasses. Sinks may have got a part then.

    Errors of the source and of sinks pass through. In every case the child has ended.
    """
    limits = limits or Limits()
    near, far = socket.socketpair()
    with near:
        with far:
            child = _start(far)
        try:
            running = _Running(Channel(near), child, source, sinks or {}, limits)
            running.on_progress = on_progress
            running.is_cancelled = is_cancelled
            return running.run(task, arguments)
        finally:
            child.kill()
            child.wait()


def _start(end: socket.socket) -> subprocess.Popen[bytes]:
    """A child that has this end of a pair of sockets, and nothing else of this process."""
    return subprocess.Popen(  # noqa: S603
        [_find_interpreter(), "-I", "-S", "-B", "-c", _START, str(_PACKAGE)],
        stdin=end.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=_environment(),
        close_fds=True,
        start_new_session=True,  # Ctrl+C is for the parent, which ends it
    )


def _environment() -> dict[str, str]:
    """The environment of the child, which has no secret of ours."""
    environment = {
        "HOME": "/nonexistent",
        "LANG": "C.UTF-8",
        "PATH": os.defpath,
        # Each thread would otherwise take address space for memory of its own.
        "MALLOC_ARENA_MAX": "2",
    }
    if "LD_LIBRARY_PATH" in os.environ:  # some interpreters do not start without
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return environment


def _find_interpreter() -> str:
    """A Python. ``sys.executable`` is the server where that embeds Python, as uWSGI does."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [Path(sys.executable or "/nonexistent")]
    for prefix in (sys.exec_prefix, sys.base_exec_prefix):
        candidates += [Path(prefix, "bin", version), Path(prefix, "bin", "python3")]

    for candidate in candidates:
        if candidate.name.startswith(("python", "pypy")) and os.access(candidate, os.X_OK):
            return str(candidate)
    raise ProcessingError("no Python interpreter is found to decode with")


class _Running:
    """A task that a child works at."""

    on_progress: Callable[[float], object] | None = None
    is_cancelled: Callable[[], bool] | None = None

    def __init__(
        self,
        link: Channel,
        child: subprocess.Popen[bytes],
        source: Source,
        sinks: Mapping[str, Sink],
        limits: Limits,
    ) -> None:
        self._channel = link
        self._child = child
        self._source = source
        self._sinks = list(sinks.items())
        self._limits = limits
        self._deadline = time.monotonic() + limits.seconds
        self._next_look = time.monotonic()
        self._output = 0

    def run(self, task: str, arguments: Mapping[str, t.Any]) -> dict[str, t.Any]:
        job = {
            "function": TASKS[task],
            "arguments": dict(arguments),
            "size": self._source.size,
            "sinks": [name for name, _ in self._sinks],
            "limits": asdict(self._limits),
            "path": [entry for entry in sys.path if os.path.isabs(entry)],
            "parent": os.getpid(),
        }
        try:
            self._send(channel.JOB, json.dumps(job).encode())
            return self._answer()
        except (EOFError, ConnectionError) as error:
            raise self._death() from error
        except Broken as error:
            raise Killed(str(error)) from error

    def _answer(self) -> dict[str, t.Any]:
        """Serve the child until it says its last word."""
        while True:
            self._look()
            message = self._channel.receive(min(self._remaining(), _LOOK_AGAIN))
            if message is None:
                continue
            kind, payload = message

            if kind == channel.READ:
                self._read(payload)
            elif kind == channel.WRITE:
                self._write(payload)
            elif kind == channel.PROGRESS:
                self._progress(payload)
            elif kind == channel.RESULT:
                return _load(payload)
            elif kind == channel.FAILURE:
                raise _failure(payload)
            else:
                raise Broken(f"a message of kind {kind!r}")

    def _look(self) -> None:
        """End the task if its time is over, or nobody wants it any more."""
        now = time.monotonic()
        if now >= self._deadline:
            raise TimedOut(f"not done after {self._limits.seconds:g} seconds")
        if self.is_cancelled is None or now < self._next_look:
            return
        self._next_look = now + _LOOK_AGAIN
        if self.is_cancelled():
            raise Cancelled("not wanted any more")

    def _remaining(self) -> float:
        return max(self._deadline - time.monotonic(), 0.001)

    def _send(self, kind: bytes, payload: bytes) -> None:
        try:
            self._channel.send(kind, payload, timeout=self._remaining())
        except TimeoutError:
            raise TimedOut(f"not done after {self._limits.seconds:g} seconds") from None

    def _read(self, payload: bytes) -> None:
        start, stop = _unpack(channel.RANGE, payload)
        if not start < stop <= self._source.size or stop - start > channel.MAX_PAYLOAD:
            raise Broken(f"a read of the range {start} to {stop}")
        content = self._source.read(start, stop)
        if len(content) != stop - start:
            raise ProcessingError("a source that ends before its size")
        self._send(channel.DATA, content)

    def _write(self, payload: bytes) -> None:
        (number,) = _unpack(channel.SINK, payload[: channel.SINK.size])
        if number >= len(self._sinks):
            raise Broken(f"output for sink {number}")
        content = payload[channel.SINK.size :]
        self._output += len(content)
        if self._output > self._limits.output:
            raise LimitExceeded(f"an output of more than {self._limits.output} bytes")
        self._sinks[number][1].write(content)

    def _progress(self, payload: bytes) -> None:
        (fraction,) = _unpack(channel.FRACTION, payload)
        if self.on_progress is not None and 0 <= fraction <= 1:
            self.on_progress(fraction)

    def _death(self) -> ProcessingError:
        """The reason why the child is gone without a last word."""
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_END_OF_CHILD)
        code = self._child.returncode
        if code == -signal.SIGXCPU:
            return TimedOut(f"{self._limits.cpu_seconds} seconds of processor time are used up")
        return Killed(f"the decoder ended with status {code}")


def _unpack(form: t.Any, payload: bytes) -> tuple[t.Any, ...]:
    """Unpack a payload of a fixed form.

    :raises Broken: It has another length: the child is not to be trusted any more.
    """
    if len(payload) != form.size:
        raise Broken(f"a payload of {len(payload)} bytes")
    return form.unpack(payload)


def _load(payload: bytes) -> dict[str, t.Any]:
    """Read the JSON object that the child answers with.

    :raises Broken: It is none.
    """
    try:
        loaded = json.loads(payload)
    except ValueError as error:
        raise Broken("an answer that is no JSON") from error
    if not isinstance(loaded, dict):
        raise Broken("an answer that is no object")
    return loaded


def _failure(payload: bytes) -> ProcessingError:
    """The error that the child tells of. One with an unknown code is a general one."""
    failure = _load(payload)
    kind = FAILURES.get(str(failure.get("code")), ProcessingError)
    return kind(str(failure.get("message")))
