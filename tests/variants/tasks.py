"""Tasks that a child of the jail is given in tests: good ones, greedy ones, and hostile ones."""

from __future__ import annotations

import os
import socket
import sys
import time
import typing as t
from collections.abc import Callable, Mapping
from pathlib import Path

from flask_dualmedia.variants.failures import UndecodableMedia
from flask_dualmedia.variants.ranges import RangeFile

Arguments = Mapping[str, t.Any]
Sinks = Mapping[str, t.Any]
Report = Callable[[float], None]
Result = dict[str, t.Any]


def copy(_arguments: Arguments, source: RangeFile, sinks: Sinks, report: Report) -> Result:
    """Write the source to each sink."""
    total = 0
    while piece := source.read(100_000):
        total += len(piece)
        for sink in sinks.values():
            sink.write(piece)
        report(total / source.size)
    return {"size": total}


def read_tail(arguments: Arguments, source: RangeFile, _sinks: Sinks, _report: Report) -> Result:
    source.seek(-arguments["count"], os.SEEK_END)
    tail = source.read(arguments["count"])
    return {"tail": tail.hex(), "bytes_read": source.bytes_read}


def report_slowly(_arguments: Arguments, _source: t.Any, _sinks: Sinks, report: Report) -> Result:
    for step in range(5):
        time.sleep(0.21)
        report(step / 4)
    return {}


def loop(_arguments: Arguments, _source: t.Any, _sinks: Sinks, _report: Report) -> Result:
    while True:
        pass


def sleep(_arguments: Arguments, _source: t.Any, _sinks: Sinks, _report: Report) -> Result:
    time.sleep(60)
    return {}


def allocate(_arguments: Arguments, _source: t.Any, _sinks: Sinks, _report: Report) -> Result:
    return {"size": len(bytearray(4 * 1024**3))}


def crash(_arguments: Arguments, _source: t.Any, _sinks: Sinks, _report: Report) -> Result:
    os.abort()


def fail(_arguments: Arguments, _source: t.Any, _sinks: Sinks, _report: Report) -> Result:
    raise UndecodableMedia("no picture in it")


def trip(_arguments: Arguments, _source: t.Any, _sinks: Sinks, _report: Report) -> Result:
    raise LookupError("a fault of our own")


def flood(_arguments: Arguments, _source: t.Any, sinks: Sinks, _report: Report) -> Result:
    while True:
        sinks["flood"].write(bytes(1024**2))


def connect(arguments: Arguments, _source: t.Any, _sinks: Sinks, _report: Report) -> Result:
    with socket.create_connection(("127.0.0.1", arguments["port"]), timeout=2):
        return {"connected": True}


def open_file(arguments: Arguments, _source: t.Any, _sinks: Sinks, _report: Report) -> Result:
    return {"content": Path(arguments["path"]).read_text()}


def write_file(arguments: Arguments, _source: t.Any, _sinks: Sinks, _report: Report) -> Result:
    return {"size": Path(arguments["path"]).write_text("written")}


def look_around(_arguments: Arguments, _source: t.Any, _sinks: Sinks, _report: Report) -> Result:
    """Whatever a child holds that might be its parent's."""
    files = {}
    for number in range(64):
        try:
            os.fstat(number)
        except OSError:
            continue
        files[number] = True
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "home": str(Path.home()),
        "files": sorted(files),
        "modules": sorted(sys.modules),
    }
