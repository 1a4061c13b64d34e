"""Bodies that nobody wants to have: how little is read of them, and that their senders get an
answer all the same."""

from __future__ import annotations

import gc
import hashlib
import http.client
import io
import itertools
import json
import re
import resource
import socket
import time
import tracemalloc
import typing as t
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from flask import Flask, request
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token, get_csrf_token

from example_app import create_app
from flask_dualmedia.views import bodies

from ..conftest import BASE_CONFIG, MakeApp, ServerUrls, close, mongo_uri_for, unique
from ..faults.servers import Workers, bearer, free_port, running
from ..samples import counting

MIB = 1024 * 1024

SIZE = 200 * MIB

MOST_READ = 2 * MIB
"""Bytes of a stranger's body that are read at most, and the size of the largest file that may be
written meanwhile."""

LOCATIONS = ["headers", "cookies", "query_string", "json"]

COMBINATIONS = [
    list(chosen) for count in range(1, 5) for chosen in itertools.permutations(LOCATIONS, count)
]
"""Every ``JWT_TOKEN_LOCATION``: their order is the order in which a token is looked for."""

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
TEXT = b'--b\r\nContent-Disposition: form-data; name="title"\r\n\r\n'

COOKIE = "access_token_cookie=eyJ.nobody.knows"
"""It makes flask-jwt-extended look for the CSRF token that belongs to it, before it looks at the
cookie."""

MISSING = "0199f000-0000-7000-8000-000000000000"


class Shape(t.NamedTuple):
    """The shape of a body: how it is announced, how it begins, and how it goes on and on after
    that."""

    content_type: str | None
    beginning: bytes
    filling: bytes = b"x"


SHAPES = {
    "multipart": Shape("multipart/form-data; boundary=b", FILE),
    "multipart text": Shape("multipart/form-data; boundary=b", TEXT),
    "multipart without a boundary": Shape("multipart/form-data", FILE),
    "many parts": Shape("multipart/form-data; boundary=b", b"", FILE + b"x\r\n"),
    "form": Shape("application/x-www-form-urlencoded", b"title="),
    "many fields": Shape("application/x-www-form-urlencoded", b"", b"a=1&"),
    "JSON": Shape("application/json", b'{"title": "'),
    "nested JSON": Shape("application/json; charset=utf-8", b"", b"["),
    "raw": Shape("application/octet-stream", b""),
    "tus": Shape("application/offset+octet-stream", b""),
    "no type": Shape(None, b""),
    "broken type": Shape("multipart/form-data;;; boundary", b"--b"),
}

FIVE = ["multipart", "JSON", "form", "raw"]

FRAMES: dict[str, dict[str, str]] = {
    "announced": {"CONTENT_LENGTH": str(SIZE)},
    "in chunks": {"HTTP_TRANSFER_ENCODING": "chunked"},
    "less announced": {"CONTENT_LENGTH": "1000"},
    "more announced": {"CONTENT_LENGTH": str(10**12)},
    "nonsense announced": {"CONTENT_LENGTH": "many"},
}


class Endless(io.RawIOBase):
    """A body of :data:`SIZE` bytes, which are made as they are read, and counted."""

    def __init__(self, shape: Shape, size: int = SIZE) -> None:
        self._beginning = shape.beginning
        self._filling = shape.filling * (64 * 1024 // len(shape.filling))
        self._size = size
        self.count = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if size < 0 or size > self._size - self.count:
            size = self._size - self.count
        data = self._beginning[self.count : self.count + size]
        repeats, rest = divmod(size - len(data), len(self._filling))
        data += self._filling * repeats + self._filling[:rest]
        self.count += size
        return data

    def readinto(self, buffer: t.Any, /) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def call(
    app: Flask, method: str, path: str, body: io.RawIOBase, **environ: str
) -> tuple[int, bytes]:
    """Call the app as a server does that ends bodies by itself.

    :return: The status and the body of the answer.
    """
    path, _, query = path.partition("?")
    status: list[str] = []
    request: dict[str, t.Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        **environ,
    }

    def start_response(line: str, headers: t.Any, error: t.Any = None) -> t.Any:
        status.append(line)

    answer = app.wsgi_app(request, start_response)
    try:
        content = b"".join(answer)
    finally:
        t.cast(t.Any, answer).close()
    return int(status[0].split()[0]), content


def send_as_stranger(app: Flask, method: str, path: str, shape: str, frame: str) -> tuple[int, int]:
    """Send a body of one shape without a valid token.

    :return: The status, and how many bytes of the body were read.
    """
    body = Endless(SHAPES[shape])
    environ = FRAMES[frame] | {"HTTP_COOKIE": COOKIE}
    content_type = SHAPES[shape].content_type
    if content_type is not None:
        environ["CONTENT_TYPE"] = content_type
    status, _ = call(app, method, path, body, **environ)
    return status, body.count


def paths(app: Flask, prefix: str) -> list[str]:
    """A path for every rule of the app under a prefix, and for no rule."""
    made = []
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<ObjectId:\w+>", "5" * 24, rule.rule)
        path = re.sub(r"<any\((\w+).*?>", r"\1", path)
        path = re.sub(r"<.*?>", MISSING, path)
        if path.startswith(prefix) and rule.endpoint != "static":
            made.append(path)
    return sorted({*made, f"{prefix}nothing/is/here"})


@contextmanager
def small_files() -> Iterator[None]:
    """Within it no file of this process can grow over :data:`MOST_READ`, not even one without a
    name."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_READ, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(
        "mongo",
        JWT_TOKEN_LOCATION=LOCATIONS,
        JWT_CSRF_CHECK_FORM=True,
        JWT_CSRF_METHODS=["GET", *METHODS[2:]],
        DUALMEDIA_REFERENCES={"page": None},
    )


@pytest.fixture
def example(mongo_uri: str, tmp_path: Path) -> Iterator[Flask]:
    config = BASE_CONFIG | {
        "SECRET_KEY": "x" * 32,
        "SAMPLE_DATA": False,
        "MONGO_URI": mongo_uri,
        "DB_ENABLED": False,
    }
    limits = {"LOGIN_LIMIT": "100000 per minute", "MEDIA_LIMIT": "100000 per minute"}
    app = create_app(config | limits | {"INSTANCE_PATH": str(tmp_path / "instance")})
    yield app
    close(app)


def check_strangers(app: Flask, requests: t.Iterable[tuple[str, str, str, str]]) -> None:
    """Send bodies, and look at what was read and answered."""
    faults = []
    with small_files():
        for method, path, shape, frame in requests:
            status, count = send_as_stranger(app, method, path, shape, frame)
            if count > MOST_READ or status >= 500:
                faults.append((method, path, shape, frame, status, count))
    assert not faults, f"{len(faults)}, for example {faults[:5]}"


@pytest.mark.long
def test_every_route_reads_little_of_a_stranger(app: Flask) -> None:
    """Every route of ours and none, with every method and the usual bodies."""
    bodies = [
        *((shape, "announced") for shape in FIVE),
        ("multipart", "in chunks"),
        ("JSON", "in chunks"),
    ]
    check_strangers(
        app,
        (
            (method, path, *body)
            for path in paths(app, "/media/")
            for method in METHODS
            for body in bodies
        ),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_every_body_is_read_little_of(app: Flask, shape: str) -> None:
    """Every shape of a body, announced in every way, to one route of each sort."""
    item = f"/media/files/{MISSING}"
    routes = [
        ("POST", "/media/files"),
        ("PUT", f"{item}/content"),
        ("PATCH", item),
        ("PATCH", f"/media/uploads/{MISSING}"),
    ]
    routes += [
        ("POST", f"{item}/link"),
        ("GET", "/media/health"),
        ("PUT", "/media/files"),
        ("POST", "/media/nothing"),
    ]
    check_strangers(
        app, ((*route, shape, frame) for route, frame in itertools.product(routes, FRAMES))
    )


def test_every_place_of_a_token_is_looked_at_with_limits(app: Flask) -> None:
    """All orders of all token locations."""
    for combination in COMBINATIONS:
        app.config.update(JWT_TOKEN_LOCATION=combination)
        routes = [
            ("POST", "/media/files"),
            ("PUT", f"/media/files/{MISSING}/content"),
            ("POST", "/media/uploads"),
        ]
        bodies = [
            *((shape, "announced") for shape in FIVE),
            ("multipart", "in chunks"),
            ("JSON", "in chunks"),
        ]
        for (method, path), (shape, frame) in itertools.product(routes, bodies):
            status, count = send_as_stranger(app, method, path, shape, frame)
            assert status == 401, (combination, method, path, shape, frame)
            assert count <= MOST_READ, (combination, method, path, shape, frame)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("frame", ["announced", "in chunks"])
def test_memory_stays_small(app: Flask, shape: str, frame: str) -> None:
    """A body that nobody knows takes no memory to speak of, read or not."""
    send_as_stranger(app, "POST", "/media/files", shape, frame)
    tracemalloc.start()
    try:
        send_as_stranger(app, "POST", "/media/files", shape, frame)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * MIB


def test_a_host_without_limits_of_its_own(app: Flask) -> None:
    """The limits of our routes do not depend on those of the app, in either direction."""
    for limit in (None, 1, 10**12):
        app.config.update(
            MAX_CONTENT_LENGTH=limit, MAX_FORM_MEMORY_SIZE=limit, MAX_FORM_PARTS=limit
        )
        for shape in SHAPES:
            status, count = send_as_stranger(app, "POST", "/media/files", shape, "announced")
            assert (status, count <= MOST_READ) == (401, True), (limit, shape)


def test_nothing_is_read_of_a_client_that_waits_to_be_asked(app: Flask) -> None:
    """Most servers answer ``Expect: 100-continue`` as soon as somebody reads."""
    app.config["JWT_TOKEN_LOCATION"] = ["headers"]
    for method, path in (
        ("PUT", f"/media/files/{MISSING}/content"),
        ("POST", "/media/files"),
        ("PUT", "/media/files"),
    ):
        body = Endless(SHAPES["raw"])
        status, _ = call(app, method, path, body, **FRAMES["announced"], HTTP_EXPECT="100-continue")
        assert status in (401, 405)
        assert body.count == 0


# Werkzeug leaves files of forms it refuses to the collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_example_app_reads_little_of_a_stranger(example: Flask) -> None:
    """Its pages and its API: nobody fills its disk or its memory by logging in."""
    bodies = [
        *((shape, "announced") for shape in FIVE),
        ("multipart", "in chunks"),
        ("JSON", "in chunks"),
    ]
    check_strangers(
        example,
        (
            (method, path, *body)
            for path in paths(example, "/")
            if not path.startswith("/media/")
            for method in ("POST", "PUT", "GET")
            for body in bodies
        ),
    )
    gc.collect()


def test_the_example_app_takes_large_files(example: Flask) -> None:
    client = example.test_client()
    account = {"email": "alice@example.org", "password": "correct horse", "name": "Alice"}
    client.post("/api/auth/register", json=account)
    login = client.post(
        "/api/auth/login", json={"email": account["email"], "password": account["password"]}
    )
    headers = {"Authorization": f"Bearer {json.loads(login.data)['accessToken']}"}
    modules = [{"title": "Start", "lessons": [{"title": "One"}]}]
    course = client.post(
        "/api/courses", json={"title": "Films", "modules": modules}, headers=headers
    )
    course = json.loads(course.data)["course"]
    lesson = course["modules"][0]["lessons"][0]["id"]
    url = f"/api/courses/{course['id']}/lessons/{lesson}/resources"
    body = FILE.replace(b'"a"', b'"notes.txt"') + counting(3 * MIB) + b"\r\n--b--\r\n"
    form = "multipart/form-data; boundary=b"
    assert client.post(url, data=body, content_type=form, headers=headers).status_code == 201
    assert client.post(url, data=body, content_type=form).status_code == 401


class Known(t.NamedTuple):
    """Ways of one caller to say who they are."""

    token: str
    csrf: str

    @property
    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def cookie(self) -> str:
        return f"access_token_cookie={self.token}"


@pytest.fixture
def known(app: Flask) -> Known:
    with app.app_context():
        token = create_access_token("alice")
        return Known(token, t.cast(str, get_csrf_token(token)))


@pytest.fixture
def media_id(client: FlaskClient, known: Known) -> str:
    data = {
        "referenceType": "page",
        "referenceId": "1",
        "file": (io.BytesIO(counting(10)), "a.bin"),
    }
    answer = client.post("/media/files", data=data, headers=known.header)
    assert answer.status_code == 201, answer.json
    return json.loads(answer.data)["id"]


@pytest.mark.parametrize("size", [10, 64 * 1024 - 9, 64 * 1024 - 8, 1_500_000])
@pytest.mark.parametrize(
    "content_type", ["application/json", "multipart/form-data; boundary=b", None]
)
def test_looking_for_a_token_takes_nothing_from_the_content(
    app: Flask,
    client: FlaskClient,
    known: Known,
    media_id: str,
    size: int,
    content_type: str | None,
) -> None:
    """Whatever is looked at first, the content that is kept is what was sent, from its first
    byte."""
    content = b'{"a": "' + b"x" * size + b'"}'
    client.set_cookie("access_token_cookie", known.token)
    for combination in (
        ["headers"],
        ["json", "headers"],
        ["json", "cookies"],
        ["query_string", "cookies", "json"],
    ):
        app.config["JWT_TOKEN_LOCATION"] = combination
        headers = known.header if "headers" in combination else {"X-CSRF-TOKEN": known.csrf}
        answer = client.put(
            f"/media/files/{media_id}/content",
            data=content,
            headers=headers,
            content_type=content_type,
        )
        assert answer.status_code == 200, (combination, answer.json)
        assert json.loads(answer.data)["checksum"] == hashlib.sha256(content).hexdigest(), (
            combination
        )


@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_csrf_field_before_a_large_file(
    app: Flask, known: Known, media_id: str, in_chunks: bool
) -> None:
    """A form may bring the CSRF token of a cookie, if it does so at the beginning."""
    path = f"/media/files/{media_id}/accesses"
    field = (
        f'--b\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n{known.csrf}\r\n'.encode()
    )
    environ = FRAMES["in chunks" if in_chunks else "announced"] | {"HTTP_COOKIE": known.cookie}
    environ["CONTENT_TYPE"] = "multipart/form-data; boundary=b"
    small = FILE + b"a small file\r\n"
    for beginning in (field + FILE, TEXT + b"a title\r\n" + field + FILE, small + field + FILE):
        assert call(app, "POST", path, Endless(Shape(None, beginning)), **environ)[0] == 204
    for beginning in (
        FILE + bytes(100_000) + b"\r\n" + field + FILE,
        FILE,
        b"",
        field[:-50],
        b"x" * 100_000 + field,
    ):
        status, answer = call(app, "POST", path, Endless(Shape(None, beginning)), **environ)
        assert (status, json.loads(answer)["message"]) == (401, "Missing CSRF token")


def test_a_csrf_field_before_a_large_file_that_the_app_has_read(
    app: Flask, known: Known, media_id: str
) -> None:
    path = f"/media/files/{media_id}/accesses"
    field = (
        f'--b\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n{known.csrf}\r\n'.encode()
    )
    app.before_request_funcs.setdefault(None, []).append(lambda: request.get_data() and None)
    client = app.test_client()
    client.set_cookie("access_token_cookie", known.token)
    body = field + FILE + bytes(100_000) + b"\r\n--b--\r\n"
    answer = client.post(path, data=body, content_type="multipart/form-data; boundary=b")
    assert answer.status_code == 204


def test_a_large_body_that_the_app_has_read_is_read_again_in_no_time(app: Flask) -> None:
    """Each piece costs what the piece costs, however much comes behind it."""
    content = bytes(16 * MIB)
    with app.test_request_context("/", method="PUT", data=content):
        bodies.watch()
        request.get_data()
        bodies.guard()
        body = bodies.find_body()
        assert body is not None
        body.admit()
        started = time.process_time()
        assert sum(len(piece) for piece in iter(lambda: body.read(4096), b"")) == len(content)
        assert time.process_time() - started < 1


def test_a_csrf_field_in_a_small_form(client: FlaskClient, known: Known, media_id: str) -> None:
    """The field may be anywhere in a form without files."""
    url = f"/media/files/{media_id}/accesses"
    client.set_cookie("access_token_cookie", known.token)
    assert client.post(url, data={"a": "1", "csrf_token": known.csrf}).status_code == 204
    data = {"file": (io.BytesIO(b"x"), "a"), "csrf_token": known.csrf}
    assert client.post(url, data=data).status_code == 204
    assert client.post(url, data={"csrf_token": "wrong"}).status_code == 401


def test_a_token_in_json(app: Flask, client: FlaskClient, known: Known, media_id: str) -> None:
    """It is found in a JSON object; what is none has no token, and is no error of ours."""
    url = f"/media/files/{media_id}/accesses"
    for combination in (["json"], ["json", "headers"], ["cookies", "json"]):
        app.config["JWT_TOKEN_LOCATION"] = combination
        assert client.post(url, json={"access_token": known.token}).status_code == 204
        for body in (
            b"[1]",
            b"5",
            b'"text"',
            b"null",
            b"{",
            b"",
            b"[" * 50_000,
            b"\xff\xfe",
            b'{"access_token": 5}',
        ):
            answer = client.post(url, data=body, content_type="application/json")
            assert 400 <= answer.status_code < 500, (combination, body[:20])
    app.config["JWT_TOKEN_LOCATION"] = ["json", "headers"]
    large = json.dumps({"title": "x" * 100_000})
    answer = client.patch(
        f"/media/files/{media_id}",
        data=large,
        content_type="application/json",
        headers=known.header,
    )
    assert answer.status_code == 422  # read, and refused for what it is


ORIGIN = "127.0.0.1"


class Answer(t.NamedTuple):
    status: int
    body: bytes


def send_raw(
    port: int, path: str, size: int, headers: Mapping[str, str], *, method: str = "PUT"
) -> Answer:
    """Send a request in blocks and read the answer afterwards, as a client does that sees a broken
    connection as the end."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection((ORIGIN, port), timeout=30) as connection:
        connection.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {size}\r\n\r\n".encode()
        )
        connection.sendall(bytes(size))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return Answer(answer.status, answer.read())


def send_by_requests(port: int, path: str, size: int, headers: Mapping[str, str]) -> Answer:
    answer = requests.put(
        f"http://{ORIGIN}:{port}{path}", data=bytes(size), headers=headers, timeout=30
    )
    return Answer(answer.status_code, answer.content)


def send_in_chunks(port: int, path: str, size: int, headers: Mapping[str, str]) -> Answer:
    """Send by http.client, without a length."""
    connection = http.client.HTTPConnection(ORIGIN, port, timeout=30)
    try:
        pieces = itertools.repeat(bytes(65536), size // 65536)
        connection.request("PUT", path, body=pieces, headers=dict(headers), encode_chunked=True)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read())
    finally:
        connection.close()


CLIENTS = [send_raw, send_by_requests, send_in_chunks]


@pytest.fixture(scope="module")
def port(servers: ServerUrls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """gunicorn on MongoDB."""
    config = {
        "DB_ENABLED": "false",
        "MONGO_URI": mongo_uri_for(servers, unique("test")),
        "DUALMEDIA_MAX_SIZE": MIB,
    }
    workers = Workers(tmp_path_factory.mktemp("gunicorn"), config, count=1)
    with running(workers):
        workers.wait()
        yield workers.port


@pytest.fixture(scope="module")
def port_without_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """gunicorn whose MongoDB does not answer."""
    uri = f"mongodb://{ORIGIN}:{free_port()}/test?serverSelectionTimeoutMS=200"
    workers = Workers(
        tmp_path_factory.mktemp("gunicorn"), {"DB_ENABLED": "false", "MONGO_URI": uri}, count=1
    )
    with running(workers):
        workers.wait()
        yield workers.port


@pytest.mark.parametrize("size", [6 * MIB, 20 * MIB])
@pytest.mark.parametrize("send", CLIENTS)
def test_a_refused_upload_reaches_its_client(
    port: int, send: t.Callable[..., Answer], size: int
) -> None:
    """An id that is not there, a file that is too large: the answer comes, and the connection holds
    until then."""
    caller = bearer("alice")
    for _ in range(3):
        answer = send(port, f"/media/files/{MISSING}/content", size, caller)
        assert (answer.status, json.loads(answer.body)["code"]) == (404, 404)
    upload = requests.post(
        f"http://{ORIGIN}:{port}/media/files",
        data={"referenceType": "page", "referenceId": "1"},
        files={"file": ("a.bin", b"some bytes")},
        headers=caller,
        timeout=30,
    )
    assert upload.status_code == 201, upload.text
    answer = send(port, f"/media/files/{upload.json()['id']}/content", size, caller)
    assert (answer.status, json.loads(answer.body)["code"]) == (413, 413)


@pytest.mark.long
@pytest.mark.parametrize("size", [6 * MIB, 20 * MIB])
@pytest.mark.parametrize("send", CLIENTS)
def test_an_upload_during_an_outage_is_answered(
    port_without_database: int, send: t.Callable[..., Answer], size: int
) -> None:
    answer = send(port_without_database, f"/media/files/{MISSING}/content", size, bearer("alice"))
    assert (answer.status, json.loads(answer.body)["code"]) == (503, 503)


@pytest.mark.parametrize(
    "path", [f"/media/files/{MISSING}/content", "/media/files", "/media/nothing"]
)
def test_a_stranger_is_answered_too(port: int, path: str) -> None:
    """The connection holds for as much as the server reads of a stranger's body. Clients that read
    the answer when they cannot go on sending see it after any number of bytes."""
    status = {"/media/files": 405, "/media/nothing": 404}.get(path, 401)
    for _ in range(3):
        assert send_raw(port, path, 3 * MIB // 2, {}).status == status
        assert send_by_requests(port, path, 20 * MIB, {}).status == status


def test_a_client_that_stops_sending_holds_nobody_up(port: int) -> None:
    """The answer comes at once; the rest of the body is waited for a moment only."""
    with socket.create_connection((ORIGIN, port), timeout=10) as connection:
        connection.sendall(
            b"PUT /media/files/x/content HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: 1000000\r\n\r\nbegin"
        )
        received = b""
        while piece := connection.recv(65536):
            received += piece
    assert received.startswith(b"HTTP/1.1 401 ")


def test_a_connection_is_good_for_another_request(port: int) -> None:
    """The rest of a small body does not become the next request."""
    with requests.Session() as session:
        for _ in range(3):
            answer = session.put(
                f"http://{ORIGIN}:{port}/media/files/x/content", data=bytes(100_000), timeout=30
            )
            assert answer.status_code == 401
            health = session.get(f"http://{ORIGIN}:{port}/media/health", timeout=30)
            assert health.status_code == 200
