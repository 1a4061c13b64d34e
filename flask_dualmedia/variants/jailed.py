"""The child of the jail: it confines itself, does one task, and ends.

It runs in a fresh interpreter, and imports nothing of the project but this package.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import typing as t
from collections.abc import Callable, Mapping
from importlib import import_module

from . import channel, confinement
from .channel import Channel
from .ranges import RangeFile

Report = Callable[[float], None]

_REPORT_EACH = 0.2
"""Seconds between two reports of progress."""

_PIECE = 256 * 1024
"""Bytes of an output that are sent at once."""

_NO_MEMORY = b'{"code": "out_of_memory", "message": "more memory is needed than is allowed"}'


class RemoteSink:
    """An output whose bytes go to the parent."""

    def __init__(self, link: Channel, number: int) -> None:
        self._channel = link
        self._number = channel.SINK.pack(number)

    def write(self, content: bytes, /) -> int:
        pieces = memoryview(content)
        for start in range(0, len(pieces), _PIECE):
            self._channel.send(channel.WRITE, self._number, pieces[start : start + _PIECE])
        return len(pieces)


def main() -> None:
    """Do the task that the parent sends, and answer with its result or its failure."""
    link = _take_channel()
    try:
        kind, payload = _receive(link)
        assert kind == channel.JOB
        result = _work(link, json.loads(payload))
        link.send(channel.RESULT, json.dumps(result).encode())
    except MemoryError:
        link.send(channel.FAILURE, _NO_MEMORY)
    except (EOFError, ConnectionError):
        pass  # the parent is gone
    except Exception as error:
        link.send(channel.FAILURE, json.dumps(_describe(error)).encode())
    # Libraries have nothing to put in order, and may hang or crash over damaged data.
    os._exit(0)


def _work(link: Channel, job: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Do a task behind the limits, with a source that the parent reads and sinks that it writes.

    The function is imported before files are closed to this process.
    """
    sys.path[:] = job["path"]
    confinement.leave_network()
    confinement.die_with(job["parent"])
    function = _load(job["function"])
    confinement.close_files()
    confinement.limit(job["limits"])

    def read(start: int, stop: int) -> bytes:
        link.send(channel.READ, channel.RANGE.pack(start, stop))
        kind, content = _receive(link)
        assert kind == channel.DATA
        return content

    source = RangeFile(job["size"], read)
    sinks = {name: RemoteSink(link, number) for number, name in enumerate(job["sinks"])}
    return function(job["arguments"], source, sinks, _reporter(link))


def _take_channel() -> Channel:
    """The socket that came as standard input, which is nothing from now on."""
    end = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    return Channel(end)


def _receive(link: Channel) -> tuple[bytes, bytes]:
    """The next message of the parent, however long it takes."""
    message = link.receive()
    assert message is not None  # without a timeout
    return message


def _load(name: str) -> Callable[..., dict[str, t.Any]]:
    module, _, function = name.partition(":")
    return getattr(import_module(module), function)


def _reporter(link: Channel) -> Report:
    """A function that tells the parent about progress, a few times a second at most."""
    last = time.monotonic() - _REPORT_EACH

    def report(fraction: float) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_EACH:
            last = now
            link.send(channel.PROGRESS, channel.FRACTION.pack(min(max(fraction, 0.0), 1.0)))

    return report


def _describe(error: Exception) -> dict[str, str]:
    """The code that an error carries, and its text."""
    code = getattr(error, "code", None)
    if isinstance(code, str):
        return {"code": code, "message": str(error)}
    return {"code": "failed", "message": f"{type(error).__name__}: {error}"[:1000]}
