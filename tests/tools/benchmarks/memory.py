"""Memory of the server process for one large file, and the time of a range by where it is.

``python -m tests.tools.benchmarks.memory [--mib 1024] [--tus] [--storage database|local|s3]``. Runs
on Linux, on embedded servers.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
import typing as t
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from urllib.error import URLError
from urllib.request import Request, urlopen

from .host import Server, databases, serve

MIB = 1024 * 1024

T = t.TypeVar("T")


def blocks(mib: int) -> Iterator[bytes]:
    """``mib`` MiB, no two of them alike, made without much work."""
    block = bytearray(hashlib.shake_256(b"media").digest(MIB))
    for number in range(mib):
        block[:8] = number.to_bytes(8)
        yield bytes(block)


def checksum(mib: int) -> str:
    digest = hashlib.sha256()
    for block in blocks(mib):
        digest.update(block)
    return digest.hexdigest()


def upload(server: Server, path: str, mib: int) -> None:
    headers = {"Content-Length": str(mib * MIB), "Content-Type": "application/octet-stream"}
    response = server.request("PUT", path, blocks(mib), headers)
    assert response.status == 200, response.read()
    response.read()


def upload_by_tus(server: Server, mib: int, chunk: int) -> str:
    """Upload in requests of ``chunk`` MiB; the path of the content."""
    values = {"kind": "files", "referenceType": "page", "referenceId": "1"}
    metadata = ",".join(
        f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items()
    )
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(mib * MIB),
        "Upload-Metadata": metadata,
    }
    response = server.request("POST", "/media/uploads", headers=headers)
    assert response.status == 201, response.read()
    path, source = response.headers["Location"], blocks(mib)
    for first in range(0, mib, chunk):
        count = min(chunk, mib - first)
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": str(first * MIB),
            "Content-Length": str(count * MIB),
        }
        headers["Content-Type"] = "application/offset+octet-stream"
        response = server.request("PATCH", path, islice(source, count), headers)
        assert response.status == 204, response.read()
    return f"{response.headers['Content-Location']}/content"


def download(server: Server, path: str) -> str:
    response = server.request("GET", path)
    assert response.status == 200
    digest = hashlib.sha256()
    while block := response.read(MIB):
        digest.update(block)
    return digest.hexdigest()


def range_times(server: Server, path: str, first: int, runs: int) -> list[float]:
    """Seconds per request for 1 MiB from byte ``first`` on."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        response = server.request(
            "GET", path, headers={"Range": f"bytes={first}-{first + MIB - 1}"}
        )
        assert (response.status, len(response.read())) == (206, MIB)
        times.append(time.perf_counter() - start)
    return times


def watched(server: Server, name: str, action: Callable[[], T]) -> T:
    """Do something, and print how long it took and how much memory."""
    before = server.reset_peak_memory()
    start = time.perf_counter()
    result = action()
    seconds, grown = time.perf_counter() - start, server.peak_memory() - before
    print(f"  {name:9} {seconds:6.1f} s  memory grew by {grown / MIB:5.1f} MiB", flush=True)
    return result


def measure(title: str, server: Server, mib: int, *, ranges: bool) -> None:
    body = b"--b\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nx\r\n"
    for name, value in (("referenceType", "page"), ("referenceId", "1")):
        body += f"--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n{value}\r\n".encode()
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = server.request("POST", "/media/files", body + b"--b--\r\n", headers)
    assert response.status == 201, response.read()
    response.read()
    path = f"{response.headers['Location']}/content"
    upload(server, path, 8)  # warm up: what is allocated once is not growth
    assert download(server, path) == checksum(8)

    print(f"{title}: {mib} MiB by PUT", flush=True)
    watched(server, "upload", lambda: upload(server, path, mib))
    assert watched(server, "download", lambda: download(server, path)) == checksum(mib), (
        "other bytes came back"
    )
    if not ranges:
        return
    places = {"first": 0, "middle": mib // 2 * MIB, "last": (mib - 1) * MIB}
    times: dict[str, list[float]] = {place: [] for place in places}
    for _ in range(5):
        for place, first in places.items():
            times[place] += range_times(server, path, first, 5)
    medians = {place: statistics.median(found) for place, found in times.items()}
    for place, median in medians.items():
        ratio = median / medians["first"]
        print(f"  1 MiB range, {place:6} {median * 1000:6.2f} ms  {ratio:.2f} of the first")


def measure_tus(title: str, server: Server, mib: int) -> None:
    """Upload in one request, and in many."""
    assert download(server, upload_by_tus(server, 8, 4)) == checksum(8)
    for chunk in (mib, 64):
        print(f"{title}: {mib} MiB by tus in requests of {chunk} MiB", flush=True)
        path = watched(server, "upload", lambda chunk=chunk: upload_by_tus(server, mib, chunk))
        found = watched(server, "download", lambda path=path: download(server, path))
        assert found == checksum(mib), "other bytes came back"
        server.request("DELETE", path.removesuffix("/content"))


@contextmanager
def storage(name: str, directory: str, port: int) -> Iterator[dict[str, str]]:
    """The settings of the benchmark's host that put bytes there."""
    options: dict[str, str] = {"directory": f"{directory}/media"}
    if name == "database":
        yield {}
        return
    if name == "s3":
        options = {
            "bucket": "media",
            "endpoint_url": f"http://127.0.0.1:{port}",
            "region_name": "us-east-1",
        }
        options |= {"aws_access_key_id": "a", "aws_secret_access_key": "b"}
        # In a process of its own, with its objects in files: it still holds a large one in memory
        # several times.
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        environment = os.environ | {
            "MOTO_S3_DEFAULT_KEY_BUFFER_SIZE": str(MIB),
            "TMPDIR": directory,
        }
        with open(f"{directory}/moto.log", "wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    else:
        process = None
    try:
        if process is not None:
            make_bucket(f"{options['endpoint_url']}/{options['bucket']}")
        yield {"DUALMEDIA_STORAGES": json.dumps({name: options}), "DUALMEDIA_DEFAULT_STORAGE": name}
    finally:
        if process is not None:
            process.terminate()
            process.wait()


def make_bucket(url: str) -> None:
    for _ in range(100):
        try:
            urlopen(Request(url, method="PUT"), timeout=10).close()
            return
        except URLError:
            time.sleep(0.2)
    raise RuntimeError("moto's server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--port", type=int, default=5961)
    parser.add_argument("--tus", action="store_true", help="upload by tus instead")
    parser.add_argument("--storage", choices=["database", "local", "s3"], default="database")
    arguments = parser.parse_args()
    mib, port, where = arguments.mib, arguments.port, arguments.storage
    with databases() as (directory, servers), storage(where, directory, port + 1) as config:
        config["MONGO_URI"] = f"{servers.mongo_uri}"
        # What is outside of the databases is the same in each mode.
        modes = {
            "dual": {"SQLALCHEMY_DATABASE_URI": f"{servers.postgres_url}"},
            "mongo": {"DB_ENABLED": "false"},
        }
        for mode, more in modes.items() if where == "database" else [*modes.items()][:1]:
            with serve(port, **config, **more) as server:
                if arguments.tus:
                    measure_tus(f"{mode}, {where}", server, mib)
                else:
                    # A range costs moto a copy of the whole object.
                    measure(f"{mode}, {where}", server, mib, ranges=where != "s3")


if __name__ == "__main__":
    main()
