"""What counting costs a read of 64 KiB: ``python -m tests.benchmarks.counting [--rounds 10] [--strangers]``. Two
gunicorns on the same databases, one of which counts, answer 8 clients in turn; each has 2 workers of 4 threads. With
``--strangers`` every request is somebody else's, so that each is a play to be claimed."""

from __future__ import annotations

import argparse
import http.client
import io
import os
import statistics
import subprocess
import sys
import threading
import time

from flask_dualmedia import save_media_storage

from .host import ROOT, SECRET, create_app, databases
from .host import _wait as wait

CLIENTS = 8
SIZE = 64 * 1024


def start(port: int, counts: bool) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "gunicorn", "tests.benchmarks.host:create_app()", "--bind", f"127.0.0.1:{port}"]
    command += ["--workers", "2", "--threads", "4", "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"FLASK_DUALMEDIA_COUNT_READS": str(counts).lower()})
    wait(process, port)
    return process


def measure(port: int, path: str, seconds: float, strangers: bool) -> list[float]:
    """Seconds that each request took, of eight clients that ask all the time."""
    times: list[float] = []
    end = time.monotonic() + seconds

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while time.monotonic() < end:
            begun = time.perf_counter()
            agent = f"client {number} {begun if strangers else 0}"
            connection.request("GET", path, headers={"User-Agent": agent})
            assert len(connection.getresponse().read()) == SIZE
            times.append(time.perf_counter() - begun)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--strangers", action="store_true")
    options = parser.parse_args()
    with databases() as (_, servers):
        os.environ["FLASK_MONGO_URI"] = f"{servers.mongo_uri}"
        os.environ["FLASK_SQLALCHEMY_DATABASE_URI"] = f"{servers.postgres_url}"
        os.environ["FLASK_JWT_SECRET_KEY"] = SECRET
        with create_app().app_context():
            record = save_media_storage("page", "1", io.BytesIO(os.urandom(SIZE)), is_public=True)
        path = f"/media/files/{record.id}/content"
        ports = {True: 8761, False: 8762}
        processes = [start(port, counts) for counts, port in ports.items()]
        try:
            taken: dict[bool, list[float]] = {True: [], False: []}
            ratios = []
            for number in range(options.rounds + 1):
                medians = {}
                for counts in (True, False) if number % 2 else (False, True):
                    times = measure(ports[counts], path, options.seconds, options.strangers)
                    medians[counts] = statistics.median(times)
                    if number:  # the first round warms up
                        taken[counts] += times
                if number:
                    ratios.append(medians[True] / medians[False])
            for counts, times in taken.items():
                rate = len(times) / (options.rounds * options.seconds)
                print(f"counted {counts!s:5}: median {statistics.median(times) * 1000:.2f} ms, {rate:.0f} requests/s")
            whole = statistics.median(taken[True]) / statistics.median(taken[False])
            print(f"ratio of medians {whole:.3f}; of the rounds' medians {statistics.median(ratios):.3f}")
        finally:
            for process in processes:
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
