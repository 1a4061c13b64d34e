"""Time, CPU and memory of one job at one contender."""

from __future__ import annotations

import re
import threading
import time
import typing as t
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from .client import Client
from .jobs import Contender, Job

SHARED = 0.1
"""Seconds after which a client opens another connection. Which worker takes it is chance, and a
worker that has most of them makes them wait: so chance is asked often."""


@dataclass
class Sample:
    """The measurements of one job at one contender, in all rounds."""

    times: list[float] = field(default_factory=list)
    """Seconds of each request."""
    seconds: float = 0.0
    """How long all of it took."""
    cpu: float = 0.0
    """Seconds of CPU of the workers."""

    def add(self, other: Sample) -> None:
        self.times += other.times
        self.seconds += other.seconds
        self.cpu += other.cpu


def run(job: Job, contender: Contender, clients: int, seconds: float) -> Sample:
    """Ask for so long, at least once, with so many clients at a time."""
    before, begun = _cpu(contender), time.perf_counter()
    end = begun + seconds

    def ask(_number: int) -> list[float]:
        times, client, opened = [], Client(contender.port), 0.0
        while not times or time.perf_counter() < end:
            if time.perf_counter() > opened + SHARED:
                client.open()
                opened = time.perf_counter()
            made = job.make(contender, client)
            start = time.perf_counter()
            answer = client.ask(*made)
            times.append(time.perf_counter() - start)
            if answer.status != job.status:
                raise RuntimeError(f"{job.name}: {contender.name} answers {answer.status}")
        client.close()
        return times

    with ThreadPoolExecutor(clients) as pool:
        times = [one for found in pool.map(ask, range(clients)) for one in found]
    return Sample(times, time.perf_counter() - begun, _cpu(contender) - before)


def _cpu(contender: Contender) -> float:
    return sum(sum(worker.cpu_times()[:2]) for worker in contender.workers)


class Memory(t.NamedTuple):
    """Growth in bytes while one request was answered."""

    server: int
    backend: int
    """The private memory of one connection's PostgreSQL process."""


def memory(job: Job, contender: Contender, postgres: psutil.Process) -> Memory:
    """The memory that one more request takes in processes that have answered such requests
    before."""
    statuses = [Path(f"/proc/{worker.pid}") for worker in contender.workers]
    for path in statuses:
        (path / "clear_refs").write_text("5")  # forget the peak
    before = [_status(path, "VmRSS") for path in statuses]
    with _watch(postgres) as backends:
        run(job, contender, 1, 0)
    grown = max(_status(path, "VmHWM") - rss for path, rss in zip(statuses, before, strict=True))
    return Memory(grown, max((peak - first for first, peak in backends.values()), default=0))


@contextmanager
def _watch(postgres: psutil.Process) -> Iterator[dict[int, tuple[int, int]]]:
    """First and largest private memory of PostgreSQL's processes, by process."""
    seen: dict[int, tuple[int, int]] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            for process in postgres.children():
                size = _status(Path(f"/proc/{process.pid}"), "RssAnon")
                first, peak = seen.get(process.pid, (size, size))
                seen[process.pid] = first, max(peak, size)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def _status(path: Path, name: str) -> int:
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", (path / "status").read_text())
    except OSError:
        found = None
    return int(found[1]) * 1024 if found else 0
