"""Memory of the server process for one large file, and the time of a range by where it is: ``python -m
tests.benchmarks.memory [--mib 1024] [--tus]``. Runs on Linux, on embedded servers."""

from __future__ import annotations

import argparse
import base64
import hashlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice

from example_app import embedded

from .host import Server, serve

MIB = 1024 * 1024


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
    metadata = ",".join(f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items())
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(mib * MIB), "Upload-Metadata": metadata}
    response = server.request("POST", "/media/uploads", headers=headers)
    assert response.status == 201, response.read()
    path, source = response.headers["Location"], blocks(mib)
    for first in range(0, mib, chunk):
        count = min(chunk, mib - first)
        headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": str(first * MIB), "Content-Length": str(count * MIB)}
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
        response = server.request("GET", path, headers={"Range": f"bytes={first}-{first + MIB - 1}"})
        assert (response.status, len(response.read())) == (206, MIB)
        times.append(time.perf_counter() - start)
    return times


def measure(mode: str, server: Server, mib: int) -> None:
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

    before = server.reset_peak_memory()
    start = time.perf_counter()
    upload(server, path, mib)
    up = time.perf_counter() - start
    grown_up = server.peak_memory() - before

    before = server.reset_peak_memory()
    start = time.perf_counter()
    same = download(server, path) == checksum(mib)
    down = time.perf_counter() - start
    grown_down = server.peak_memory() - before
    assert same, "the bytes that came back are others"

    places = {"first": 0, "middle": mib // 2 * MIB, "last": (mib - 1) * MIB}
    times: dict[str, list[float]] = {place: [] for place in places}
    for _ in range(5):
        for place, first in places.items():
            times[place] += range_times(server, path, first, 5)
    medians = {place: statistics.median(found) for place, found in times.items()}
    print(f"{mode:6} {mib} MiB, the same SHA-256")
    print(f"  upload    {up:6.1f} s  memory grew by {grown_up / MIB:5.1f} MiB")
    print(f"  download  {down:6.1f} s  memory grew by {grown_down / MIB:5.1f} MiB")
    for place, median in medians.items():
        print(f"  1 MiB range, {place:6} {median * 1000:6.2f} ms  {median / medians['first']:.2f} of the first")


def measure_tus(mode: str, server: Server, mib: int) -> None:
    """In one request, and in many."""
    assert download(server, upload_by_tus(server, 8, 4)) == checksum(8)
    for chunk in (mib, 64):
        before = server.reset_peak_memory()
        start = time.perf_counter()
        path = upload_by_tus(server, mib, chunk)
        seconds = time.perf_counter() - start
        grown = server.peak_memory() - before
        assert download(server, path) == checksum(mib), "the bytes that came back are others"
        print(f"{mode:6} {mib} MiB by tus in requests of {chunk} MiB, the same SHA-256")
        print(f"  upload    {seconds:6.1f} s  memory grew by {grown / MIB:5.1f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--port", type=int, default=5961)
    parser.add_argument("--tus", action="store_true", help="upload by tus instead")
    arguments = parser.parse_args()
    run = measure_tus if arguments.tus else measure
    with tempfile.TemporaryDirectory() as directory:
        servers = embedded.start(directory)
        databases = {"MONGO_URI": f"{servers.mongo_uri}"}
        with serve(arguments.port, SQLALCHEMY_DATABASE_URI=f"{servers.postgres_url}", **databases) as server:
            run("dual", server, arguments.mib)
        with serve(arguments.port, DB_ENABLED="false", **databases) as server:
            run("mongo", server, arguments.mib)


if __name__ == "__main__":
    main()
