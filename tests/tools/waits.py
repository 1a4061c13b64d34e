"""Tells, as JSON, what time it is and how long waiting takes: ``python -m tests.tools.waits
POSTGRES_URL MONGO_URI``.

Both URLs are those of servers that do not answer. Every wait but the drivers' is one of 0.2
seconds.
"""

from __future__ import annotations

import json
import queue
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime

import psycopg
import pymongo
import uuid_utils.compat
from pymongo.errors import PyMongoError

SPAN = 0.2
CONNECT_TIMEOUT = 2  # seconds; the least that libpq accepts


def _condition() -> None:
    condition = threading.Condition()
    with condition:
        condition.wait(SPAN)


def _lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire(timeout=SPAN)


def _socket() -> None:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(SPAN)
        one.recv(1)


def _process() -> None:
    with subprocess.Popen(["sleep", "1"]) as process:
        try:
            process.wait(SPAN)
        finally:
            process.kill()


def _connect_to_postgres() -> None:
    psycopg.connect(sys.argv[1], connect_timeout=CONNECT_TIMEOUT)


def _ask_mongo() -> None:
    with pymongo.MongoClient(
        sys.argv[2], serverSelectionTimeoutMS=CONNECT_TIMEOUT * 1000
    ) as client:
        client.admin.command("ping")


WAITS: dict[str, Callable[[], object]] = {
    "sleep": lambda: time.sleep(SPAN),
    "event": lambda: threading.Event().wait(SPAN),
    "condition": _condition,
    "lock": _lock,
    "queue": lambda: queue.Queue[None]().get(timeout=SPAN),
    "select": lambda: select.select([], [], [], SPAN),
    "socket": _socket,
    "process": _process,
    "connect to postgres": _connect_to_postgres,
    "ask mongo": _ask_mongo,
}


def _measure(wait: Callable[[], object]) -> float:
    start = time.clock_gettime(time.CLOCK_MONOTONIC)
    with suppress(
        OSError, queue.Empty, subprocess.TimeoutExpired, psycopg.OperationalError, PyMongoError
    ):
        wait()
    return time.clock_gettime(time.CLOCK_MONOTONIC) - start


if __name__ == "__main__":
    times = {
        "time": time.time(),
        "datetime": datetime.now(UTC).timestamp(),
        "uuid7": (uuid_utils.compat.uuid7().int >> 80) / 1000,
    }
    with ThreadPoolExecutor(len(WAITS)) as executor:
        spans = dict(zip(WAITS, executor.map(_measure, WAITS.values()), strict=True))
    print(json.dumps({"monotonic": time.monotonic(), "times": times, "spans": spans}))
