"""Uploads as no client library sends them, to gunicorn: lengths that lie, bodies that end early,
forms without end."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import typing as t
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pymongo
import pytest
from pymongo.database import Database

from ..conftest import ServerUrls, mongo_uri_for, unique
from ..faults.servers import Workers, bearer, running
from ..samples import counting, mp4, png
from ..waiting import eventually

LIMIT = 3_000_000
"""DUALMEDIA_MAX_SIZE of the workers: more than Werkzeug keeps of a file in memory."""

QUOTA = 12_000_000
"""DUALMEDIA_QUOTA_PER_OWNER."""

FORM = "Content-Type: multipart/form-data; boundary=b\r\n"
OWNER = b'--b\r\nContent-Disposition: form-data; name="referenceType"\r\n\r\npage\r\n'
OWNER += b'--b\r\nContent-Disposition: form-data; name="referenceId"\r\n\r\n1\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
END = b"\r\n--b--\r\n"


class Answer(t.NamedTuple):
    status: int
    json: t.Any


class Server:
    """gunicorn on MongoDB, seen from outside: by sockets, by what is kept, and by the files that
    its workers hold."""

    def __init__(self, port: int, database: Database[t.Any], temporary: Path) -> None:
        self._port, self._database, self._temporary = port, database, temporary
        self.authorization = f"Authorization: {bearer('alice')['Authorization']}\r\n"

    def send(
        self, method: str, path: str, headers: str, body: t.Iterable[bytes], *, leave: bool = False
    ) -> Answer:
        """Send a request as it stands and read the answer; ``leave`` hangs up without waiting for
        it."""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += f"{self.authorization}{headers}\r\n"
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as connection:
            with suppress(ConnectionError):  # it was refused before it was read
                connection.sendall(head.encode())
                for piece in body:
                    connection.sendall(piece)
                if not leave:
                    connection.shutdown(socket.SHUT_WR)
            return Answer(0, None) if leave else _read(connection)

    def form(self, body: bytes, *, length: int | None = None, leave: bool = False) -> Answer:
        headers = f"{FORM}Content-Length: {len(body) if length is None else length}\r\n"
        return self.send("POST", "/media/files", headers, [body], leave=leave)

    def kept(self) -> tuple[int, int]:
        """Records and chunks of any state."""
        records = self._database["media_storage"].count_documents({})
        chunks = self._database["media.chunks"].count_documents({})
        return records, chunks

    def size_of(self, owner: str) -> int:
        """Bytes that are kept for an owner, as GridFS has them."""
        keys = [
            record["storage_key"]
            for record in self._database["media_storage"].find({"reference_id": owner})
        ]
        return sum(
            file["length"] for file in self._database["media.files"].find({"_id": {"$in": keys}})
        )

    def temporary_files(self) -> list[str]:
        """The files in the folder for temporary files, and those that the workers hold open there
        without a name."""
        held = [str(path) for path in self._temporary.iterdir()]
        for process in psutil.Process().children(recursive=True):
            with suppress(FileNotFoundError, psutil.NoSuchProcess):
                for name in os.listdir(f"/proc/{process.pid}/fd"):
                    with suppress(FileNotFoundError):
                        target = os.readlink(f"/proc/{process.pid}/fd/{name}")
                        # Every worker of gunicorn has one, by which it tells that it lives.
                        if target.startswith(f"{self._temporary}/") and "wgunicorn" not in target:
                            held.append(target)
        return held


def _read(connection: socket.socket) -> Answer:
    received = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 0
    length = next(
        (
            int(line[15:])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length:")
        ),
        0,
    )
    is_json = b"application/json" in head
    return Answer(status, json.loads(body[:length]) if is_json else None)


@pytest.fixture(scope="module")
def server(servers: ServerUrls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("gunicorn")
    temporary = directory / "tmp"
    temporary.mkdir()
    uri = mongo_uri_for(servers, unique("test"))
    config = {
        "DB_ENABLED": "false",
        "MONGO_URI": uri,
        "DUALMEDIA_MAX_SIZE": LIMIT,
        "DUALMEDIA_QUOTA_PER_OWNER": QUOTA,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        workers = Workers(directory, config)
    with pymongo.MongoClient(uri) as client, running(workers):
        made = Server(workers.port, client.get_default_database(), temporary)
        eventually(lambda: _answers(made), 60, explain=lambda: workers.log_path.read_text())
        yield made
        client.drop_database(client.get_default_database())


def _answers(server: Server) -> bool:
    with suppress(OSError):
        return server.send("GET", "/media/health", "", []).status == 200
    return False


@pytest.fixture
def video(server: Server) -> str:
    """Path of the content of a file."""
    answer = server.form(OWNER + FILE + mp4(1000) + END)
    assert answer.status == 201, answer
    return f"/media/files/{answer.json['id']}/content"


def checksum(server: Server, content: str) -> str:
    return server.send("GET", content.removesuffix("/content"), "", []).json["checksum"]


def in_chunks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 100_000):
        piece = body[start : start + 100_000]
        yield f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    yield b"0\r\n\r\n"


def test_a_length_that_is_too_small(server: Server, video: str) -> None:
    """Declared 1, sent 10: the body is what was declared, and a digest shows that it is not all."""
    body = b"0123456789"
    digest = (
        f"Content-Digest: sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:\r\n"
    )
    before = checksum(server, video)
    assert server.send("PUT", video, f"Content-Length: 1\r\n{digest}", [body]).status == 400
    assert checksum(server, video) == before
    assert server.send("PUT", video, "Content-Length: 1\r\n", [body]).status == 200
    assert checksum(server, video) == hashlib.sha256(b"0").hexdigest()
    # nothing of a form that is longer than it said
    records = server.kept()
    assert server.form(OWNER + FILE + bytes(1000) + END, length=len(OWNER) + 100).status == 422
    assert server.form(OWNER + FILE + bytes(1000) + END, length=len(OWNER + FILE) + 100).status in (
        400,
        422,
    )
    assert server.kept() == records


def test_a_length_that_is_too_large(server: Server, video: str) -> None:
    """A body that ends early is not kept, and not cut short silently."""
    before, records = checksum(server, video), server.kept()
    for sent in (counting(2_000_000), b"1", b""):
        answer = server.send("PUT", video, "Content-Length: 2500000\r\n", [sent])
        assert answer.status == (400 if sent else 422), answer
    assert server.form(OWNER + FILE + bytes(2_000_000), length=2_500_000).status in (400, 422)
    # with the end of a form, but less than was said
    assert checksum(server, video) == before
    assert server.kept() == records
    assert server.temporary_files() == []


@pytest.mark.parametrize("length", ["-1", "x", "1, 2", "0x10", "1" * 5000, "+5", "5 5"])
def test_a_length_that_is_none(server: Server, video: str, length: str) -> None:
    """Such a length is never an error of the app."""
    before = checksum(server, video)
    answer = server.send("PUT", video, f"Content-Length: {length}\r\n", [b"01234"])
    assert 400 <= answer.status < 500, answer
    assert checksum(server, video) == before


def test_a_length_beside_chunks(server: Server, video: str) -> None:
    """Two ways to tell the end are one too many."""
    before = checksum(server, video)
    headers = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
    answer = server.send("PUT", video, headers, in_chunks(b"0123456789"))
    assert answer.status == 400
    assert checksum(server, video) == before


def test_a_body_without_a_length_and_without_end(server: Server, video: str) -> None:
    """A body in chunks is refused as soon as it is too large, to the byte, and leaves nothing."""
    before, records = checksum(server, video), server.kept()
    chunked = "Transfer-Encoding: chunked\r\n"
    for size in (LIMIT + 1, 3 * LIMIT):
        answer = server.send("PUT", video, chunked, in_chunks(counting(size)))
        assert (answer.status, list(answer.json["errors"])) == (413, ["file"])
        answer = server.send(
            "POST", "/media/files", FORM + chunked, in_chunks(OWNER + FILE + counting(size) + END)
        )
        assert answer.status == 413
    assert checksum(server, video) == before
    assert server.kept() == records
    assert server.temporary_files() == []
    assert server.send("PUT", video, chunked, in_chunks(counting(LIMIT))).status == 200
    assert checksum(server, video) == hashlib.sha256(counting(LIMIT)).hexdigest()
    # chunks that are none, and that end early
    for broken in (
        b"zz\r\nabc\r\n",
        b"-5\r\nabc\r\n",
        b"5\r\nabc",
        b"",
        b"5;x=" + b"y" * 100_000 + b"\r\nabcde\r\n",
    ):
        assert server.send("PUT", video, chunked, [broken]).status in (400, 422), broken[:20]
    assert checksum(server, video) == hashlib.sha256(counting(LIMIT)).hexdigest()


def test_a_length_over_the_limit_is_refused_unread(server: Server, video: str) -> None:
    """It is refused before the body comes."""
    for method, path, headers in (("PUT", video, ""), ("POST", "/media/files", FORM)):
        answer = server.send(method, path, f"{headers}Content-Length: {10**12}\r\n", [b"x"])
        assert (answer.status, list(answer.json["errors"])) == (413, ["file"])


def test_forms_without_end(server: Server) -> None:
    """Two thousand parts, a megabyte of text, a large file before it: refused, and no temporary
    file left."""
    many = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="field{n}"\r\n\r\nx\r\n'.encode()
        for n in range(2000)
    )
    files = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="f{n}"; filename="f"\r\n\r\nx\r\n'.encode()
        for n in range(2000)
    )
    text = b'--b\r\nContent-Disposition: form-data; name="title"\r\n\r\n' + b"x" * 2**20 + b"\r\n"
    header = (
        b'--b\r\nContent-Disposition: form-data; name="title"; x="'
        + b"x" * 2**20
        + b'"\r\n\r\nx\r\n'
    )
    records = server.kept()
    for endless in (many, files, text, header):
        large = FILE + bytes(1_000_000) + b"\r\n"
        assert server.form(OWNER + large + endless[:-2] + END).status == 413, endless[:60]
        assert server.form(OWNER + endless + large[:-2] + END).status == 413, endless[:60]
    assert server.kept() == records
    assert server.temporary_files() == []


@pytest.mark.long
def test_processes_do_not_take_more_together(server: Server) -> None:
    """Forty uploads to two workers of four threads: as many are kept as fit."""
    owner = OWNER.replace(b"\r\n1\r\n", b"\r\nfull\r\n") + FILE
    for size in (QUOTA // 4, QUOTA // 4, QUOTA // 4, QUOTA // 4 - 20_000):
        assert server.form(owner + bytes(size) + END).status == 201
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: server.form(owner + bytes(1000) + END).status, range(40)))
    assert sorted(answers) == [201] * 20 + [413] * 20
    assert server.size_of("full") == QUOTA


def test_clients_that_hang_up(server: Server, video: str) -> None:
    """They hang up in the middle of a file, of a header, of a boundary: nothing is kept, no file
    stays open."""
    before, records = checksum(server, video), server.kept()
    body = OWNER + FILE + bytes(2_000_000) + END
    for length in (len(body) - 5, 1_500_000, len(OWNER) + 30, 10):
        server.form(body[:length], length=len(body), leave=True)
    server.send("PUT", video, "Content-Length: 2000000\r\n", [counting(1_500_000)], leave=True)
    server.send(
        "PUT", video, "Transfer-Encoding: chunked\r\n", [b"100000\r\n" + bytes(5000)], leave=True
    )
    eventually(
        lambda: not server.temporary_files() and server.kept() == records,
        10,
        explain=lambda: (server.temporary_files(), server.kept()),
    )
    assert checksum(server, video) == before


def test_good_uploads_leave_no_file_either(server: Server) -> None:
    """The file that Werkzeug made of a large part is closed, also if it is refused for its type."""
    assert server.form(OWNER + FILE + counting(2_000_000) + END).status == 201
    image = b'--b\r\nContent-Disposition: form-data; name="mongoProductId"\r\n\r\n1\r\n' + FILE
    for content, status in ((counting(2_000_000), 415), (png(comment=bytes(1_000_000)), 415)):
        body = image + content + END  # whose name is a.bin
        headers = f"{FORM}Content-Length: {len(body)}\r\n"
        assert server.send("POST", "/media/product-images", headers, [body]).status == status
    assert server.temporary_files() == []


@pytest.mark.parametrize(
    ("name", "kept_as"),
    [
        (b'a"b.png', "a"),
        (b"a\\\"b.png", 'a"b.png'),
        (b"a%22b%0D%0AX-Evil: 1.png", 'a"b%0D%0AX-Evil: 1.png'),
        (b"a\rX-Evil: 1.png", None),
        ("😀 \u202egnp.exe".encode(), "😀 gnp.exe"),
        ("שלום.png".encode(), "שלום.png"),
        (b"n" * 300 + b".png", "n" * 251 + ".png"),
        (b"\xff\xfe.png", None),
    ],
)  # fmt: skip
def test_names_in_the_header_of_a_part(server: Server, name: bytes, kept_as: str | None) -> None:
    """Whatever bytes a name has, they do not get out of their header."""
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n'
    answer = server.form(OWNER + part + b"text" + END)
    if kept_as is None:
        assert answer.status == 422
        return
    assert (answer.status, answer.json["filename"]) == (201, kept_as)
    content = f"/media/files/{answer.json['id']}/content"
    with socket.create_connection(("127.0.0.1", server._port), timeout=30) as connection:
        request = (
            f"GET {content} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{server.authorization}\r\n"
        )
        connection.sendall(request.encode())
        received = b""
        while piece := connection.recv(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert body == b"text"
    names = [line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:]]
    assert b"x-evil" not in names
    assert names.count(b"content-disposition") == 1
