"""The bytes over HTTP: ranges and conditions as RFC 9110 has them, harmless headers, replacing."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import socket
import threading
import typing as t
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.http import http_date, parse_options_header
from werkzeug.serving import make_server

from flask_dualmedia.state import State

from ..conftest import MakeApp
from ..samples import (
    NOTHING,
    PDF,
    Headers,
    Owners,
    Tokens,
    kept,
    mp4,
    part,
    png,
    post_file,
    post_form,
    post_url,
)

CHUNK = 256 * 1024
VIDEO = mp4(2 * CHUNK + 1000)
SIZE = len(VIDEO)
ETAG = f'"{hashlib.sha256(VIDEO).hexdigest()}"'


@pytest.fixture
def video(client: FlaskClient, tokens: Tokens, owners: Owners) -> str:
    """Path of the content of a video of two chunks and a bit."""
    return (
        post_file(client, tokens.alice, "course-videos", owners, file=part(VIDEO)).headers[
            "Location"
        ]
        + "/content"
    )


INLINE = {
    "a.png": png(),
    "a.jpg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(100),
    "a.gif": b"GIF89a" + bytes(100),
    "a.webp": b"RIFF\x24\x00\x00\x00WEBPVP8 " + bytes(100),
    "a.mp4": mp4(),
    "a.mp3": b"ID3\x03" + bytes(200),
    "a.wav": b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100),
    "a.flac": b"fLaC" + bytes(100),
}
ATTACHMENT = {
    "a.pdf": PDF,
    "a.html": b"<!doctype html><script>alert(1)</script>",
    "a.svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
    "a.xhtml": b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><script>alert(1)</script></html>',
    "a.mhtml": b"MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=x\r\n\r\n--x\r\n",
    "a.js": b"alert(1)",
    "a.txt": b"text",
    "a.bin": bytes(range(256)),
}


@pytest.mark.parametrize("public", [False, True])
def test_headers_keep_content_harmless(
    client: FlaskClient, tokens: Tokens, owners: Owners, public: bool
) -> None:
    """Uploaded content runs nowhere, and private content stays out of shared caches."""
    for filename, content in (INLINE | ATTACHMENT).items():
        # It comes as a picture by its type; HTML comes as a picture by its name too.
        for name in {filename, "a.png"}:
            made = post_file(
                client,
                tokens.alice,
                "files",
                owners,
                file=part(content, name, "image/png"),
                isPublic=str(public),
            )
            response = client.get(f"{made.headers['Location']}/content", headers=tokens.alice)
            assert response.data == content
            headers = response.headers
            disposition = parse_options_header(headers["Content-Disposition"])
            shown_as = "inline" if filename in INLINE else "attachment"
            assert disposition == (shown_as, {"filename": name})
            assert headers["X-Content-Type-Options"] == "nosniff"
            policy = headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; ")
            assert ("sandbox" in policy) == (filename not in INLINE)
            assert "Set-Cookie" not in headers
            caching = (headers["Cache-Control"], headers["Cross-Origin-Resource-Policy"])
            if public:
                assert caching == ("public, max-age=300", "cross-origin")
            else:
                assert caching == ("private, no-cache", "same-origin")
            assert headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'
            assert headers["Accept-Ranges"] == "bytes"


def test_partial_and_empty_answers_have_the_headers_too(
    client: FlaskClient, tokens: Tokens, video: str
) -> None:
    """A 206 or 304 must not loosen what a cache knows."""
    for given in ({"Range": "bytes=0-1"}, {"If-None-Match": ETAG}):
        headers = client.get(video, headers=tokens.alice | given).headers
        assert headers["Cache-Control"] == "private, no-cache"
        assert headers["ETag"] == ETAG
    for given in ({"Range": f"bytes={SIZE}-"}, {"If-Match": '"x"'}):
        headers = client.get(video, headers=tokens.alice | given).headers
        assert headers["Cache-Control"] == "private, no-store"
        assert headers["Content-Type"] == "application/json"


def test_download(client: FlaskClient, tokens: Tokens, video: str) -> None:
    for query, expected in (
        ("", "inline"),
        ("?download=true", "attachment"),
        ("?download=false", "inline"),
    ):
        response = client.get(f"{video}{query}", headers=tokens.alice)
        assert response.headers["Content-Disposition"].split(";")[0] == expected
    assert client.get(f"{video}?download=perhaps", headers=tokens.alice).status_code == 422
    assert client.get(f"{video}?v=12&utm_source=x", headers=tokens.alice).status_code == 200


NAMES: list[tuple[str, str]] = [
    # as sent (filename="..." in UTF-8), and the label that is kept of it
    ("plain.png", "plain.png"),
    ("../../etc/passwd", "passwd"),
    ("/abs/olute.png", "olute.png"),
    ("..\\..\\win.ini", "win.ini"),
    ("C:\\dir\\x.png", "x.png"),
    ("a\0b.png", "ab.png"),
    ("semi; colon=1.png", "semi; colon=1.png"),
    ("größe.png", "größe.png"),
    ("😀.png", "😀.png"),
    ("\u202egnp.exe", "gnp.exe"),
    ("שלום.png", "שלום.png"),
    ("%2e%2e%2fx.png", "%2e%2e%2fx.png"),
    ("CON", "CON"),
    ("*?[a].png", "*?[a].png"),
    ("n" * 300 + ".png", "n" * 251 + ".png"),
    ("ß" * 300, "ß" * 255),
    ("x." + "e" * 300, "x" + "." + "e" * 31),
    ("  padded.png  ", "  padded.png  "),
]  # fmt: skip


def test_filenames_are_labels(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    """No name leads anywhere or breaks a header, however it comes in."""
    for sent, kept_as in NAMES:
        body = multipart([("referenceType", "page"), ("referenceId", "1")], sent.encode())
        made = client.post(
            "/media/files",
            data=body,
            content_type="multipart/form-data; boundary=b",
            headers=tokens.alice,
        )
        assert made.json is not None
        assert made.status_code == 201, made.json
        assert made.json["filename"] == kept_as
        assert downloaded_as(client, tokens.alice, made.location) == kept_as


def test_filenames_given_as_a_field_are_labels_too(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    """In JSON any character can come."""
    names = [(sent, kept_as) for sent, kept_as in NAMES if len(sent) <= 255 and "\0" not in sent]
    names += [
        ('a"b\r\nX-Evil: 1.png', 'a"bX-Evil: 1.png'),
        ("tab\there\x7f.png", "tabhere.png"),
        ("back\\slash", "slash"),
    ]
    location = post_file(client, tokens.alice, "files", owners).headers["Location"]
    for sent, kept_as in names:
        edited = client.patch(location, json={"filename": sent}, headers=tokens.alice)
        assert (edited.json or {})["filename"] == kept_as
        assert downloaded_as(client, tokens.alice, location) == kept_as
        external = post_url(client, tokens.alice, "files", owners, filename=sent)
        assert (external.json or {})["filename"] == kept_as
        field = post_file(client, tokens.alice, "files", owners, filename=sent)
        assert (field.json or {})["filename"] == kept_as


def test_content_without_a_filename_is_named_by_its_id(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    location = post_file(client, tokens.alice, "files", owners).headers["Location"]
    client.patch(location, json={"filename": None}, headers=tokens.alice)
    assert downloaded_as(client, tokens.alice, location) == location.rpartition("/")[2]


def downloaded_as(client: FlaskClient, headers: Headers, location: str) -> str:
    """The name under which a browser saves the content."""
    response = client.get(f"{location}/content", headers=headers)
    assert "X-Evil" not in response.headers
    header = response.headers["Content-Disposition"]
    assert header.isascii()
    value, parameters = parse_options_header(header)
    assert value == "attachment"
    assert set(parameters) == {"filename"}  # filename* comes out under the same name, and wins
    return parameters["filename"]


def multipart(fields: list[tuple[str, str]], filename: bytes, content: bytes = b"text") -> bytes:
    head = b"".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields
    )
    # Browsers escape backslashes not at all, and quotes as %22.
    file = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
        + filename.replace(b"\\", b"\\\\")
        + b'"'
    )
    return head + file + b"\r\n\r\n" + content + b"\r\n--b--\r\n"


# Replacing


def digest(content: bytes, algorithm: str = "sha256", name: str = "sha-256") -> str:
    return f"{name}=:{base64.b64encode(hashlib.new(algorithm, content).digest()).decode()}:"


def test_replace(client: FlaskClient, tokens: Tokens, owners: Owners, state: State) -> None:
    """The same id and URL have new bytes, type, size and ETag; the old bytes are gone."""
    made = post_file(client, tokens.alice, "files", owners, file=part(PDF, "a.pdf"))
    content = f"{made.headers['Location']}/content"
    old_key = kept(state)[1]
    answer = client.put(
        content, data=VIDEO, content_type="application/x-www-form-urlencoded", headers=tokens.alice
    )
    assert answer.status_code == 200, answer.json
    assert made.json is not None
    assert answer.json is not None
    changed = {"fileSize": SIZE, "mimeType": "video/mp4", "checksum": ETAG.strip('"')}
    assert answer.json == made.json | changed | {"updatedAt": answer.json["updatedAt"]}
    response = client.get(content, headers=tokens.alice)
    assert response.data == VIDEO
    assert (response.headers["ETag"], response.mimetype) == (ETAG, "video/mp4")
    records, keys, _ = kept(state)
    assert (records, len(keys)) == (1, 1)
    assert keys != old_key


@pytest.fixture
def picture(client: FlaskClient, tokens: Tokens, owners: Owners) -> str:
    """Path of the content of an image."""
    return (
        post_file(client, tokens.alice, "product-images", owners).headers["Location"] + "/content"
    )


def test_replace_with_a_digest(
    client: FlaskClient, tokens: Tokens, picture: str, state: State
) -> None:
    """RFC 9530: a digest that is known must be right; algorithms that are not known are ignored."""
    wrong, new = png(comment=b"wrong"), png(comment=b"new")
    before = kept(state)
    refused = [
        digest(wrong),
        f"{digest(new, 'sha512', 'sha-512')}, {digest(wrong)}",
        "sha-256=:AAAA:",
        "sha-256=:=:",
        "sha-256=::",
    ]
    for header in refused:
        answer = client.put(picture, data=new, headers=tokens.alice | {"Content-Digest": header})
        assert (answer.status_code, (answer.json or {})["status"]) == (400, "Bad Request"), header
        assert client.get(picture, headers=tokens.alice).data == png()
        assert kept(state) == before
    accepted = [
        digest(new),
        digest(wrong, "sha512", "sha-512"),
        f"{digest(wrong, 'md5', 'md5')}, {digest(new)}",
        f"{digest(new)},unixsum=30637",
        "nonsense",
        "",
    ]
    for number, header in enumerate(accepted):
        body = new if "sha-256" in header else png(comment=str(number).encode())
        answer = client.put(picture, data=body, headers=tokens.alice | {"Content-Digest": header})
        assert answer.status_code == 200, header
        assert client.get(picture, headers=tokens.alice).data == body


def test_replace_only_what_is_known(client: FlaskClient, tokens: Tokens, picture: str) -> None:
    """Two people edit: the second one's If-Match is of bytes that are no longer there."""
    etag = client.get(picture, headers=tokens.alice).headers["ETag"]
    first = client.put(picture, data=png(2), headers=tokens.alice | {"If-Match": etag})
    second = client.put(picture, data=png(3), headers=tokens.admin | {"If-Match": etag})
    assert (first.status_code, second.status_code, (second.json or {})["code"]) == (200, 412, 412)
    assert client.get(picture, headers=tokens.alice).data == png(2)
    old = http_date(datetime.now(UTC) - timedelta(days=1))
    for condition, status in (
        ({"If-Unmodified-Since": old}, 412),
        ({"If-Match": f"W/{etag}"}, 412),
        ({"If-Match": "*"}, 200),
    ):
        answer = client.put(picture, data=png(3), headers=tokens.alice | condition)
        assert answer.status_code == status


def test_bytes_that_are_refused_leave_the_old_ones(
    client: FlaskClient, tokens: Tokens, picture: str, state: State
) -> None:
    """The new bytes are of a wrong type, none, or too few."""
    before = kept(state)

    def put(data: bytes, length: int | None = None) -> tuple[int, str]:
        overrides = {"CONTENT_LENGTH": str(len(data) if length is None else length)}
        answer = client.put(
            picture,
            input_stream=io.BytesIO(data),
            environ_overrides=overrides,
            headers=tokens.alice,
        )
        assert answer.json is not None
        assert answer.json["code"] == answer.status_code
        return answer.status_code, answer.json["status"]

    assert put(PDF) == (415, "Unsupported Media Type")
    assert put(mp4()) == (415, "Unsupported Media Type")
    assert put(b"") == (422, HTTPStatus(422).phrase)
    assert put(png()[:40], 67) == (400, "Bad Request")
    # several blocks and chunks came before the client went away
    assert put(png() + bytes(5 * 2**20), 6 * 2**20) == (400, "Bad Request")
    assert client.get(picture, headers=tokens.alice).data == png()
    assert kept(state) == before


def test_external_media_has_no_content_to_replace(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    location = post_url(client, tokens.alice, "files", owners).headers["Location"]
    answer = client.put(f"{location}/content", data=PDF, headers=tokens.alice)
    assert (answer.status_code, list((answer.json or {})["errors"])) == (422, ["storageType"])


def test_nothing_is_larger_than_the_limit(make_app: MakeApp, mode: str) -> None:
    """The limit holds for multipart and raw PUT, to the byte. A body that is too large leaves
    nothing."""
    app = make_app(mode, DUALMEDIA_MAX_SIZE=1000)
    client, tokens, state = app.test_client(), Tokens.of(app), app.extensions["dualmedia"]
    fields = {"referenceType": "page", "referenceId": "1"}
    for size in (1001, 3_000_000):
        answer = post_form(
            client, tokens.alice, "/media/files", fields | {"file": part(bytes(size))}
        )
        assert (answer.status_code, (answer.json or {})["code"]) == (413, 413)
    assert kept(state) == NOTHING
    made = client.post(
        "/media/files", data=fields | {"file": part(bytes(1000))}, headers=tokens.alice
    )
    assert made.status_code == 201
    before, content = kept(state), f"{made.headers['Location']}/content"
    for size in (1001, 3_000_000):
        answer = client.put(content, data=bytes(size), headers=tokens.alice)
        assert (answer.status_code, (answer.json or {})["code"]) == (413, 413)
    assert client.get(content, headers=tokens.alice).data == bytes(1000)
    assert kept(state) == before
    assert client.put(content, data=b"1" * 1000, headers=tokens.alice).status_code == 200


# On a real server: what the test client does not do as servers do


@pytest.fixture
def port(app: Flask) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.port
    server.shutdown()
    thread.join()
    server.server_close()


def ask(
    port: int, method: str, path: str, headers: Headers, body: t.Any = None, **options: t.Any
) -> tuple[t.Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers, **options)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def test_any_filename_gets_through_a_server(
    port: int, client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    """Headers are Latin-1 at most; the test client would let others pass."""
    made = post_file(client, tokens.alice, "files", owners, filename="😀 größe.pdf")
    response, body = ask(port, "GET", f"{made.headers['Location']}/content", tokens.alice)
    assert (response.status, body) == (200, PDF)
    assert urllib.parse.quote("😀 größe.pdf") in response.headers["Content-Disposition"]


def test_a_range_through_a_server(port: int, tokens: Tokens, video: str) -> None:
    response, body = ask(
        port, "GET", video, tokens.alice | {"Range": f"bytes={CHUNK - 2}-{CHUNK + 1}"}
    )
    assert (response.status, body) == (206, VIDEO[CHUNK - 2 : CHUNK + 2])
    assert response.headers["Content-Length"] == "4"
    response, body = ask(port, "HEAD", video, tokens.alice)
    assert (response.status, body, response.headers["Content-Length"]) == (200, b"", str(SIZE))


def test_a_body_without_a_length(
    make_app: MakeApp, port: int, client: FlaskClient, tokens: Tokens, video: str
) -> None:
    """The size of a body in chunks is known only at its end."""
    pieces = [VIDEO[n : n + 100_000] for n in range(0, SIZE, 100_000)][::-1]
    body = VIDEO[:32] + b"".join(pieces)
    response, _ = ask(
        port, "PUT", video, tokens.alice, iter([VIDEO[:32], *pieces]), encode_chunked=True
    )
    assert response.status == 200
    assert client.get(video, headers=tokens.alice).data == body


def test_a_client_that_hangs_up_changes_nothing(
    port: int, client: FlaskClient, tokens: Tokens, video: str, state: State
) -> None:
    """Half of the body comes, then the connection is gone."""
    before = kept(state)
    head = f"PUT {video} HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n"
    head += f"Authorization: {tokens.alice['Authorization']}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + VIDEO[: SIZE // 2])
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(100)
    assert answer.split()[1] == b"400"
    assert client.get(video, headers=tokens.alice).data == VIDEO
    assert kept(state) == before
