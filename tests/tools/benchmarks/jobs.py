"""The jobs that are measured: how each request is made, and against whom it is timed."""

from __future__ import annotations

import json
import os
import random
import typing as t
from dataclasses import dataclass, field

import psutil

from .client import Client, request
from .floor import MIB
from .host import make_token
from .seed import COURSES, PRODUCTS, USER, owner

KIB = 1024

CONTENT = os.urandom(256 * MIB)
"""The bytes that files are cut from: no format that anybody recognizes, and not compressible."""

AUTH = {"Authorization": f"Bearer {make_token(str(USER), name='Bench', role='user')}"}

AGENT = {"User-Agent": "bench"}

Request = tuple[bytes, bytes]
"""Head and body."""


@dataclass
class Contender:
    """An app under gunicorn."""

    name: str
    port: int
    workers: list[psutil.Process]
    files: dict[int, str] = field(default_factory=dict)
    """Paths of files to download, by size."""


Make = t.Callable[[Contender, Client], Request]
"""Makes the next request, and does on the way what it needs and is not to be timed."""


@dataclass(frozen=True)
class Job:
    name: str
    contenders: tuple[str, ...]
    """Ours, then whom the ratio is to; others are for the record."""
    make: Make
    status: int = 200
    limit: float | None = None
    """Largest acceptable ratio of medians."""
    size: int = 0
    """Bytes that are moved."""

    @property
    def is_large(self) -> bool:
        """Tell whether one request takes so long that few are made, and memory is of interest."""
        return self.size > 16 * MIB


def jobs() -> list[Job]:
    """All of them, in dual mode and in Mongo-only mode."""
    made = [*_json("ours", "floor", "")]
    made.append(Job("count an access", ("ours", "floor"), _count_access, 204))
    made += [
        Job("counted read, known reader", ("ours", "uncounted"), _download(64 * KIB), limit=1.05),
        Job("counted read, strangers", ("ours", "uncounted"), _download_as_stranger, limit=1.05),
    ]
    made += _files(("ours", "floor", "disk"), "", 1.15)
    made += _json("ours-mongo", "floor-mongo", "mongo: ")
    made += _files(("ours-mongo", "floor-mongo"), "mongo: ", 1.25)
    return made


def _json(ours: str, floor: str, prefix: str) -> t.Iterator[Job]:
    both = (ours, floor)
    yield Job(f"{prefix}product + 4 images", both, get_product, limit=1.25)
    yield Job(f"{prefix}50 products + images", both, list_products, limit=1.25)
    yield Job(f"{prefix}course + 30 media", both, get_course, limit=1.25)
    yield Job(
        f"{prefix}create product + 4 images",
        both,
        create_product,
        201,
        limit=1.25 if prefix else 1.4,
    )


def _files(contenders: tuple[str, ...], prefix: str, limit: float) -> t.Iterator[Job]:
    for size, label in ((64 * KIB, "64 KiB"), (5 * MIB, "5 MiB"), (256 * MIB, "256 MiB")):
        yield Job(f"{prefix}upload {label}", contenders, _upload(size), limit=limit, size=size)
        yield Job(
            f"{prefix}create by form {label}", contenders[:2], _create(size), 201, limit, size
        )
        yield Job(f"{prefix}download {label}", contenders, _download(size), limit=limit, size=size)
    yield Job(f"{prefix}1 MiB of 256 MiB", contenders, _range, 206, 1.25 if prefix else 1.1)


def _fixed(paths: list[str], headers: dict[str, str] | None = None) -> Make:
    heads = [request("GET", path, headers=headers) for path in paths]
    return lambda _contender, _client: (random.choice(heads), b"")


get_product = _fixed([f"/api/products/{owner(PRODUCTS, n)}" for n in range(20)])
list_products = _fixed(["/api/products?page=1&pageSize=50"])
get_course = _fixed([f"/api/courses/{owner(COURSES, n)}" for n in range(20)], AUTH)


def create_product(_contender: Contender, _client: Client) -> Request:
    images = [f"https://cdn.example/new/{n}.jpg" for n in range(4)]
    body = json.dumps(
        {"name": "New", "description": "Words. " * 30, "price": 19.99, "images": images}
    ).encode()
    return request("POST", "/api/products", body, AUTH | {"Content-Type": "application/json"}), body


def _count_access(contender: Contender, _client: Client) -> Request:
    path = contender.files[64 * KIB].replace("/content", "/accesses")
    return request("POST", path, headers=AUTH), b""


def new_file(client: Client, size: int = 1) -> Request:
    """A form that makes a file of so many bytes."""
    parts = b""
    for name, value in (
        ("referenceType", "user"),
        ("referenceId", str(USER)),
        ("isPublic", "true"),
    ):
        parts += f"--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n{value}\r\n".encode()
    head = b"--b\r\nContent-Disposition: form-data; name=file; filename=a.bin\r\n"
    body = b"".join(
        [
            parts,
            head,
            b"Content-Type: application/octet-stream\r\n\r\n",
            CONTENT[:size],
            b"\r\n--b--\r\n",
        ]
    )
    return request(
        "POST", "/media/files", body, AUTH | {"Content-Type": "multipart/form-data; boundary=b"}
    ), body


def _create(size: int) -> Make:
    return lambda _contender, client: new_file(client, size)


def _upload(size: int) -> Make:
    return lambda _contender, client: upload(client, make_file(client), size)


def make_file(client: Client) -> str:
    """A new small file; the path of its content."""
    answer = client.ask(*new_file(client), keep=True)
    assert answer.status == 201, answer.body
    return f"{answer.headers['location']}/content"


def upload(client: Client, path: str, size: int) -> Request:
    body = CONTENT if size == len(CONTENT) else CONTENT[:size]
    return request("PUT", path, body, AUTH | {"Content-Type": "application/octet-stream"}), body


def _download(size: int) -> Make:
    return lambda contender, _client: (request("GET", contender.files[size], headers=AGENT), b"")


def _download_as_stranger(contender: Contender, _client: Client) -> Request:
    agent = {"User-Agent": f"bench {random.getrandbits(64)}"}
    return request("GET", contender.files[64 * KIB], headers=agent), b""


def _range(contender: Contender, _client: Client) -> Request:
    first = random.randrange(100 * MIB, 150 * MIB)
    wanted = AGENT | {"Range": f"bytes={first}-{first + MIB - 1}"}
    return request("GET", contender.files[256 * MIB], headers=wanted), b""
