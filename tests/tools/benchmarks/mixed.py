"""Eight clients for a while: reads, ranges and uploads mixed, and two of the clients slow to take
their answers."""

from __future__ import annotations

import random
import threading
import time
import typing as t
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psycopg

from .arena import Arena
from .client import Client
from .jobs import (
    KIB,
    MIB,
    Contender,
    Job,
    Request,
    get_course,
    get_product,
    jobs,
    list_products,
    make_file,
    upload,
)

CLIENTS, SLOW = 8, 2

PAUSE = 0.02
"""Seconds that a slow reader waits before each piece of at most 1 MiB."""

POOL = 20
"""Connections that a worker may have."""


def measure(arena: Arena, seconds: float) -> dict[str, t.Any]:
    """Ask for so long. 80 % are reads, 15 % ranges of a large file, 5 % uploads."""
    ours = arena["ours"]
    named = {job.name: job for job in jobs()}
    times: dict[str, list[float]] = {"read": [], "range": [], "upload": []}
    errors: Counter[str] = Counter()
    end = time.monotonic() + seconds
    watch = _Watch(arena, ours)

    def ask(number: int) -> None:
        client = Client(ours.port)
        while time.monotonic() < end:
            name, status, (head, body) = _next(ours, client, named)
            start = time.perf_counter()
            try:
                answer = client.ask(head, body, pause=PAUSE if number < SLOW else 0)
            except OSError as error:
                errors[f"{name}: {error!r}"] += 1
                continue
            if answer.status != status:
                errors[f"{name}: {answer.status}"] += 1
            if number >= SLOW:
                times[name].append(time.perf_counter() - start)

    with watch, ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(ask, range(CLIENTS)))
    figures: dict[str, t.Any] = {"errors": dict(errors), "connections": watch.connections}
    for name, found in times.items():
        found.sort()
        median, slow = _at(found, 0.5), _at(found, 0.95)
        figures[name] = {"count": len(found), "p50": median, "p95": slow}
        print(f"{name:7} {len(found):7} requests  p50 {median:8.2f} ms  p95 {slow:8.2f} ms")
    figures["memory"] = {"first": watch.mean(0, 10), "last": watch.mean(-10, None)}
    first, last = figures["memory"].values()
    print(f"workers' memory {first:.0f} MiB in the first 10 s, {last:.0f} MiB in the last")
    allowed = POOL * len(ours.workers)
    print(
        f"at most {watch.connections} connections to PostgreSQL of {allowed} that the pools allow"
    )
    print(f"errors: {dict(errors) or 'none'}")
    return figures


def _next(ours: Contender, client: Client, named: dict[str, Job]) -> tuple[str, int, Request]:
    chance = random.random()
    if chance < 0.05:
        size = random.choice([64 * KIB, 64 * KIB, MIB, 5 * MIB])
        return "upload", 200, upload(client, make_file(client), size)
    if chance < 0.2:
        return "range", 206, named["1 MiB of 256 MiB"].make(ours, client)
    makes = [get_product, list_products, get_course, named["download 64 KiB"].make]
    return "read", 200, random.choice(makes)(ours, client)


def _at(times: list[float], part: float) -> float:
    return times[int(len(times) * part)] * 1000 if times else 0.0


class _Watch:
    """Looks once a second at the workers' memory, and at how many connections they have."""

    def __init__(self, arena: Arena, ours: Contender) -> None:
        self._url = arena.postgres_url.replace("+psycopg", "")
        self._ours, self._done = ours, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._memory: list[float] = []
        self.connections = 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def mean(self, first: int, last: int | None) -> float:
        """MiB on average of some of the seconds."""
        chosen = self._memory[first:last]
        return sum(chosen) / max(1, len(chosen))

    def _run(self) -> None:
        query = """SELECT count(*) FROM pg_stat_activity
                   WHERE backend_type = 'client backend' AND datname = current_database()
                         AND pid <> pg_backend_pid()"""
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._done.wait(1):
                self._memory.append(
                    sum(worker.memory_info().rss for worker in self._ours.workers) / MIB
                )
                row = connection.execute(query).fetchone()
                self.connections = max(self.connections, row[0] if row else 0)
