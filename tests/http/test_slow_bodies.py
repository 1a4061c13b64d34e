"""Clients that send so slowly that they would hold a thread of the server for ever."""

from __future__ import annotations

import socket
import threading
import time
import typing as t
from collections.abc import Iterator
from contextlib import suppress

import pytest
from flask import Flask
from werkzeug.serving import make_server

from flask_dualmedia import get_media_by_reference

from ..conftest import MakeApp
from ..samples import bearer, counting, part, post_form

RATE, SECONDS = 50_000, 0.5
PATIENCE = 8.0
"""Seconds within which a slow client has its answer, on a machine that has much else to do."""


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app("mongo", DUALMEDIA_LEAST_RATE=RATE, DUALMEDIA_LEAST_RATE_SECONDS=SECONDS)


@pytest.fixture
def port(app: Flask) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


class Connection:
    """A request whose body comes as the test sends it."""

    def __init__(self, app: Flask, port: int, method: str, path: str, **headers: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        named = bearer(app, "alice") | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            *(f"{name}: {named[name]}" for name in named),
        ]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, body: bytes) -> None:
        self._socket.sendall(body)

    def drip(self, body: bytes, *, pause: float = 0.05) -> int:
        """Send byte by byte until there is an answer, and give its status."""
        self._socket.setblocking(False)
        end = time.monotonic() + PATIENCE
        for place in range(len(body)):
            if time.monotonic() > end:
                return 0
            with suppress(BlockingIOError, ConnectionError):
                answer = self._socket.recv(1024)
                return int(answer.split()[1])
            with suppress(ConnectionError):
                self._socket.send(body[place : place + 1])
            time.sleep(pause)
        return 0

    def status(self) -> int:
        return int(self._socket.recv(1024).split()[1])


def kept_file(app: Flask) -> t.Any:
    fields = {"referenceType": "page", "referenceId": "1", "file": part(b"text", "a.txt")}
    return post_form(app.test_client(), bearer(app, "alice"), "/media/files", fields).json


FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'


@pytest.mark.parametrize(
    ("method", "path", "content_type"),
    [
        ("POST", "/media/files", "multipart/form-data; boundary=b"),
        ("PUT", "{content}", "application/octet-stream"),
    ],
)
def test_a_body_that_drips_is_refused(
    app: Flask, port: int, method: str, path: str, content_type: str
) -> None:
    path = path.format(content=kept_file(app)["url"])
    began = time.monotonic()
    with Connection(
        app, port, method, path, Content_Type=content_type, Content_Length="100000"
    ) as connection:
        assert connection.drip(FORM + bytes(1000)) == 408
    assert time.monotonic() - began > SECONDS


def test_a_body_that_begins_quickly_and_then_drips_is_refused(app: Flask, port: int) -> None:
    path = kept_file(app)["url"]
    with Connection(
        app, port, "PUT", path, Content_Type="text/plain", Content_Length="10000000"
    ) as connection:
        connection.send(b"text" * 100_000)
        assert connection.drip(bytes(1000)) == 408
    assert app.test_client().get(path, headers=bearer(app, "alice")).data == b"text"


def test_a_resumable_upload_keeps_what_has_come_slowly(app: Flask, port: int) -> None:
    client, tus = app.test_client(), bearer(app, "alice") | {"Tus-Resumable": "1.0.0"}
    content = counting(200_000)
    named = "kind ZmlsZXM=,referenceType cGFnZQ==,referenceId MQ=="
    begun = client.post(
        "/media/uploads", headers=tus | {"Upload-Length": "200000", "Upload-Metadata": named}
    )
    path = begun.headers["Location"]
    headers = {
        "Content_Type": "application/offset+octet-stream",
        "Content_Length": "200000",
        "Upload_Offset": "0",
    }
    with Connection(app, port, "PATCH", path, Tus_Resumable="1.0.0", **headers) as connection:
        connection.send(content[:100_000])
        assert connection.drip(content[100_000:]) == 408

    offset = int(client.head(path, headers=tus).headers["Upload-Offset"])
    assert offset >= 90_000
    rest = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
    assert client.patch(path, headers=tus | rest, data=content[offset:]).status_code == 204
    with app.app_context():
        assert [file.file_size for file in get_media_by_reference("page", "1")] == [200_000]


def test_an_upload_that_is_complete_before_its_body_ends_is_media_once(
    app: Flask, port: int
) -> None:
    """The chunk that would end the body never comes. An error would have the client send everything
    again."""
    named = "kind ZmlsZXM=,referenceType cGFnZQ==,referenceId MQ=="
    headers = {
        "Content_Type": "application/offset+octet-stream",
        "Upload_Length": "4",
        "Upload_Metadata": named,
    }
    sent = {"Tus_Resumable": "1.0.0", "Transfer_Encoding": "chunked", **headers}
    with Connection(app, port, "POST", "/media/uploads", **sent) as connection:
        connection.send(b"4\r\ntext\r\n")
        assert connection.status() == 201
    with app.app_context():
        assert len(get_media_by_reference("page", "1")) == 1


def test_a_client_that_is_slow_but_fast_enough_is_served(app: Flask, port: int) -> None:
    body = FORM + bytes(200_000) + b"\r\n"
    for name, value in (("referenceType", "page"), ("referenceId", "1")):
        body += f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    body += b"--b--\r\n"
    headers = {"Content_Type": "multipart/form-data; boundary=b", "Content_Length": str(len(body))}
    with Connection(app, port, "POST", "/media/files", **headers) as connection:
        for place in range(0, len(body), 10_000):
            connection.send(body[place : place + 10_000])
            time.sleep(0.05)  # up to four times the least rate
        assert connection.status() == 201


def test_time_that_the_app_takes_for_itself_does_not_count(make_app: MakeApp) -> None:
    app = make_app(
        "mongo",
        DUALMEDIA_LEAST_RATE=RATE,
        DUALMEDIA_LEAST_RATE_SECONDS=0.2,
        DUALMEDIA_VALIDATOR=lambda record, head: time.sleep(0.5),
    )
    fields = {"referenceType": "page", "referenceId": "1", "file": part(bytes(100), "a.bin")}
    created = post_form(app.test_client(), bearer(app, "alice"), "/media/files", fields)
    assert created.status_code == 201
