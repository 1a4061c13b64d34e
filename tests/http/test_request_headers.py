"""Headers that change what a request means are obeyed, or the request is refused."""

from __future__ import annotations

import io
import typing as t
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.http import http_date
from werkzeug.test import TestResponse

from flask_dualmedia import failpoints
from flask_dualmedia.state import State

from ..conftest import in_both_modes
from ..samples import (
    NOTHING,
    OFFSET_TYPE,
    PDF,
    Headers,
    Owners,
    Tokens,
    Tus,
    encoded,
    kept,
    part,
    post_file,
    post_url,
)

SAFE = {"GET", "HEAD", "OPTIONS"}


@pytest.fixture
def mode() -> str:
    return "mongo"


@pytest.fixture
def tus(client: FlaskClient, tokens: Tokens) -> Tus:
    return Tus(client, tokens.alice)


@pytest.fixture
def item(client: FlaskClient, tokens: Tokens, owners: Owners) -> str:
    """Path of a file of Alice's."""
    return post_file(client, tokens.alice, "files", owners, file=part(PDF)).headers["Location"]


@pytest.fixture
def begun(tus: Tus, owners: Owners) -> str:
    """Path of an upload of 100 bytes, none of which are there."""
    return tus.create(100, Upload_Metadata=metadata(owners)).headers["Location"]


def metadata(owners: Owners) -> str:
    return encoded({"kind": "files", "referenceType": "user", "referenceId": str(owners.user)})


def tag_of(client: FlaskClient, token: Headers, item: str) -> str:
    return client.get(f"{item}/content", headers=token).headers["ETag"]


def unsafe_routes(app: Flask) -> list[tuple[str, str]]:
    """Every method and path of ours that may change something."""
    some_id = str(uuid.uuid4())
    routes = []
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("dualmedia."):
            path = rule.rule.replace("<string:media_id>", some_id).replace(
                "<string:upload_id>", some_id
            )
            routes += [(method, path) for method in sorted((rule.methods or set()) - SAFE)]
    return routes


REFUSED: list[tuple[Headers, int]] = [
    ({"Content-Range": "bytes 2000-2999/3000"}, 400),
    ({"Content-Range": "bytes */3000"}, 400),
    ({"Content-Range": "nonsense"}, 400),
    ({"Content-Type": "multipart/byteranges; boundary=b"}, 400),
    ({"Upload-Complete": "?0"}, 400),
    ({"Upload-Incomplete": "?1"}, 400),
    ({"Content-Encoding": "gzip"}, 415),
    ({"Content-Encoding": "identity, BR"}, 415),
    ({"Content-Encoding": "aws-chunked"}, 415),
    ({"Expect": "206-partial"}, 417),
    ({"Expect": "100-continue, tea"}, 417),
    ({"Transfer-Encoding": "gzip, chunked"}, 501),
    ({"Transfer-Encoding": "gzip"}, 501),
    ({"Transfer-Encoding": "chunked, chunked"}, 400),
    ({"Transfer-Encoding": "chunked"}, 411),
]


def test_every_route_refuses_what_it_does_not_do(
    app: Flask, client: FlaskClient, tokens: Tokens, state: State
) -> None:
    for headers, status in REFUSED:
        for method, path in unsafe_routes(app):
            answer = client.open(path, method=method, headers=tokens.alice | headers)
            assert answer.status_code == status, (method, path, headers)
            assert (answer.json or {})["code"] == status, (method, path, headers)
            assert answer.headers.get("Accept-Encoding") == ("identity" if status == 415 else None)
    assert kept(state) == NOTHING


def test_a_server_that_takes_no_chunks_says_why(client: FlaskClient, tokens: Tokens) -> None:
    """uWSGI gives no sign of where a body ends that has no length."""
    body = b"5\r\nhello\r\n0\r\n\r\n"
    headers = tokens.alice | {"Transfer-Encoding": "chunked", "Content-Type": "text/plain"}
    answer = client.put(
        f"/media/files/{uuid.uuid4()}/content", input_stream=io.BytesIO(body), headers=headers
    )
    assert answer.status_code == 411
    assert "Content-Length" in (answer.json or {})["message"]


def test_a_file_is_not_replaced_by_its_tail(client: FlaskClient, tokens: Tokens, item: str) -> None:
    """``curl -C 100 -T file URL``"""
    headers = {"Content-Range": f"bytes 100-{len(PDF) - 1}/{len(PDF)}"}
    answer = client.put(f"{item}/content", data=PDF[100:], headers=tokens.alice | headers)
    assert answer.status_code == 400
    assert client.get(f"{item}/content", headers=tokens.alice).data == PDF


def test_headers_that_say_nothing_new_are_no_errors(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    for headers in (
        {"Content-Encoding": "identity"},
        {"Content-Encoding": ""},
        {"Transfer-Encoding": "identity"},
        {"Expect": "100-Continue"},
        {"Upload-Complete": "?1"},
        {"Range": "bytes=0-1"},
        {"If-Range": '"x"'},
        {"Prefer": "return=minimal"},
        {"X-HTTP-Method-Override": "DELETE"},
    ):
        assert post_url(client, tokens.alice | headers, "files", owners).status_code == 201, headers


def test_reading_is_no_business_of_headers_about_bodies(
    client: FlaskClient, tokens: Tokens, item: str
) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Range": "bytes 0-1/2"}
    for path in (item, f"{item}/content", "/media/files"):
        assert client.get(path, headers=tokens.alice | headers).status_code == 200
        assert client.get(path, headers=tokens.alice | {"Expect": "tea"}).status_code == 417


# Werkzeug leaves files of forms to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_file_of_a_form_may_have_headers_of_its_own(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State
) -> None:
    fields = {"referenceType": "user", "referenceId": str(owners.user)}
    form = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n'
        for n, v in fields.items()
    )
    form += '--b\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
    for header, status in (
        ("Content-Encoding: gzip", 415),
        ("Content-Transfer-Encoding: base64", 415),
        ("Content-Transfer-Encoding: quoted-printable", 415),
        ("Content-Range: bytes 0-9/100", 400),
        ("Content-Transfer-Encoding: binary", 201),
        ("Content-Transfer-Encoding: 8bit", 201),
        ("Content-Encoding: identity", 201),
    ):
        before = kept(state)
        body = f"{form}{header}\r\n\r\ntext\r\n--b--\r\n".encode()
        content_type = "multipart/form-data; boundary=b"
        answer = client.post(
            "/media/files", data=body, content_type=content_type, headers=tokens.alice
        )
        assert answer.status_code == status, header
        assert (kept(state) == before) is (status != 201)


class Target(t.NamedTuple):
    """Something that is there, and a request that would succeed with it."""

    method: str
    path: str
    send: dict[str, t.Any]
    is_media: bool = True


def targets(item: str, begun: str, owners: Owners) -> list[Target]:
    """The targets stand in an order in which each is still there when its turn comes."""
    form = {
        "referenceType": "user",
        "referenceId": str(owners.user),
        "url": "https://cdn.example/a",
    }
    tus = {"Tus-Resumable": "1.0.0"}
    begin = tus | {"Upload-Length": "0", "Upload-Concat": "partial"}
    append = tus | {"Upload-Offset": "0", "Content-Type": OFFSET_TYPE}
    return [
        Target("PUT", f"{item}/content", {"data": PDF}),
        Target("PATCH", item, {"json": {"title": "t"}}),
        Target("POST", f"{item}/accesses", {}),
        Target("POST", f"{item}/link", {}),
        Target("DELETE", f"{item}/link", {}),
        Target("DELETE", item, {}),
        Target("POST", "/media/files", {"json": form}, is_media=False),
        Target("POST", "/media/uploads", {"headers": begin}, is_media=False),
        Target("PATCH", begun, {"data": b"0" * 50, "headers": append}, is_media=False),
        Target("DELETE", begun, {"headers": tus}, is_media=False),
    ]


@in_both_modes
def test_preconditions_hold_on_every_unsafe_method(
    client: FlaskClient, tokens: Tokens, item: str, begun: str, owners: Owners
) -> None:
    tag = tag_of(client, tokens.alice, item)
    long_ago = http_date(datetime.now(UTC) - timedelta(days=1))

    def send(target: Target, **conditions: str) -> int:
        given = {name.replace("_", "-"): value for name, value in conditions.items()}
        headers = tokens.alice | target.send.get("headers", {}) | given
        request = target.send | {"headers": headers}
        return client.open(target.path, method=target.method, **request).status_code

    for target in targets(item, begun, owners):
        failing = [
            {"If_Match": '"x"'},
            {"If_Match": ""},
            {"If_Match": f"W/{tag}"},
            {"If_None_Match": "*"},
        ]
        if target.is_media:
            failing += [
                {"If_None_Match": tag},
                {"If_None_Match": f'"x", W/{tag}'},
                {"If_Unmodified_Since": long_ago},
            ]
            failing += [{"If_Match": tag, "If_None_Match": "*"}]
        else:
            failing += [{"If_Match": tag}]
        for conditions in failing:
            assert send(target, **conditions) == 412, (target, conditions)
        holding = {"If_Match": tag if target.is_media else "*", "If_None_Match": '"x"'}
        assert send(target, **holding, If_Unmodified_Since=long_ago) in (200, 201, 204), target


def test_a_precondition_is_asked_after_rights_and_before_the_body(
    client: FlaskClient, tokens: Tokens, item: str
) -> None:
    failing = {"If-Match": '"x"'}
    assert client.delete(item, headers=failing).status_code == 401
    assert client.delete(item, headers=tokens.bob | failing).status_code == 404
    update = {"json": {"isPublic": True}, "headers": tokens.alice}
    assert client.patch(item, **update).status_code == 200
    assert client.delete(item, headers=tokens.bob | failing).status_code == 403
    assert client.patch(item, data=b"nonsense", headers=tokens.alice | failing).status_code == 412
    any_state = tokens.alice | {"If-Match": "*"}
    assert client.delete(f"/media/files/{uuid.uuid4()}", headers=any_state).status_code == 404


@in_both_modes
@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_a_precondition_holds_when_the_change_is_made(
    app: Flask, client: FlaskClient, tokens: Tokens, item: str, method: str
) -> None:
    """Another change comes between the question and the statement."""
    tag = tag_of(client, tokens.alice, item)
    other = app.test_client()
    others: list[int] = []

    def replace() -> None:
        answer = other.put(f"{item}/content", data=PDF + b"more", headers=tokens.admin)
        others.append(answer.status_code)

    body: dict[str, t.Any] = {"json": {"title": "t"}} if method == "PATCH" else {}
    with failpoints.on("change:checked", replace):
        answer = client.open(item, method=method, **body, headers=tokens.alice | {"If-Match": tag})
    assert (others, answer.status_code) == ([200], 412)
    assert client.get(item, headers=tokens.alice).json["title"] is None  # type: ignore[index]


def test_a_date_that_two_contents_may_have_joins_no_ranges(
    client: FlaskClient, tokens: Tokens, item: str
) -> None:
    """The second content comes within the second of the first."""
    content = f"{item}/content"
    for number in range(20):
        first = client.get(content, headers=tokens.alice)
        replacement = PDF + str(number).encode()
        assert client.put(content, data=replacement, headers=tokens.alice).status_code == 200
        headers = {"Range": "bytes=5-", "If-Range": first.headers["Last-Modified"]}
        second = client.get(content, headers=tokens.alice | headers)
        assert (second.status_code, second.data) == (200, replacement)
        if second.headers["Last-Modified"] == first.headers["Last-Modified"]:
            break
    else:
        pytest.fail("no two contents in one second")
    headers = {"Range": "bytes=5-", "If-Range": second.headers["ETag"]}
    assert client.get(content, headers=tokens.alice | headers).status_code == 206


def override(
    tus: Tus, method: str, url: str, chosen: str, body: bytes | None = None, **headers: str
) -> TestResponse:
    given = {"Content-Type": OFFSET_TYPE} if body is not None else {}
    return tus.send(method, url, body, given | {"X-HTTP-Method-Override": chosen}, **headers)


class Overtaken(io.BytesIO):
    """A body during which somebody else does something."""

    def __init__(self, content: bytes, act: t.Callable[[], object]) -> None:
        super().__init__(content)
        self._act: t.Callable[[], object] | None = act

    def read(self, size: int | None = -1, /) -> bytes:
        act, self._act = self._act, None
        if act is not None:
            act()
        return super().read(size)


@pytest.mark.parametrize("mode", ["dual", "mongo"])
def test_a_condition_that_ends_to_hold_while_the_body_comes_is_no_mere_conflict(
    app: Flask, client: FlaskClient, tokens: Tokens, item: str, mode: str
) -> None:
    path = f"{item}/content"

    def be_overtaken(condition: Headers, content: bytes) -> int:
        def act() -> None:
            answer = app.test_client().put(path, data=content, headers=tokens.alice)
            assert answer.status_code == 200

        body = Overtaken(PDF + b"late", act)
        length = {"CONTENT_LENGTH": str(len(PDF) + 4)}
        headers = tokens.alice | condition
        return client.put(
            path, input_stream=body, environ_overrides=length, headers=headers
        ).status_code

    tag = tag_of(client, tokens.alice, item)
    assert be_overtaken({"If-Match": tag}, PDF + b"first") == 412
    assert be_overtaken({"If-Match": "*"}, PDF + b"second") == 409
    assert be_overtaken({}, PDF + b"third") == 409
    assert client.get(path, headers=tokens.alice).data == PDF + b"third"


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "Thu, 32 Jan 2020 00:00:00 GMT", f"Thu, 01 Jan {'9' * 11} 00:00:00 GMT"],
)
@pytest.mark.parametrize("name", ["If-Modified-Since", "If-Unmodified-Since", "If-Range"])
def test_a_date_that_is_none_is_ignored(
    client: FlaskClient, tokens: Tokens, item: str, tus: Tus, begun: str, name: str, text: str
) -> None:
    for path in (item, f"{item}/content"):
        for method in ("GET", "HEAD"):
            headers = tokens.alice | {name: text, "Range": "bytes=0-3"}
            assert client.open(path, method=method, headers=headers).status_code in (200, 206)
    headers = tokens.alice | {name: text}
    assert client.patch(item, json={"isPublic": True}, headers=headers).status_code == 200
    assert client.put(f"{item}/content", data=PDF, headers=headers).status_code == 200
    assert tus.patch(begun, 0, b"0", **{name: text}).status_code == 204


def test_a_method_without_effect_stays_one(client: FlaskClient, tus: Tus, begun: str) -> None:
    """A token changes nothing: none is looked for if browsers send none, as with OPTIONS."""
    for method in ("OPTIONS", "HEAD"):
        for chosen in ("PATCH", "DELETE", "POST", "", "dispatch_request"):
            headers = {"Tus-Resumable": "1.0.0", "X-HTTP-Method-Override": chosen}
            assert client.open(begun, method=method, headers=headers).status_code == 400
            assert override(tus, method, begun, chosen).status_code == 400
    assert tus.head(begun).status_code == 200


def test_the_method_that_tus_is_overridden_by_is_the_one_that_counts(tus: Tus, begun: str) -> None:
    answer = override(tus, "DELETE", begun, "PATCH", b"0" * 10, Upload_Offset="0")
    assert answer.headers["Upload-Offset"] == "10"
    assert override(tus, "PATCH", begun, "HEAD").headers["Upload-Offset"] == "10"
    assert override(tus, "POST", begun, "options").headers["Tus-Version"] == "1.0.0"
    assert override(tus, "POST", "/media/uploads", "OPTIONS").headers["Tus-Version"] == "1.0.0"
    assert override(tus, "POST", "/media/uploads", "DELETE").status_code == 405
    assert override(tus, "HEAD", begun, "DELETE").status_code == 400
    assert tus.head(begun).headers["Upload-Offset"] == "10"
    assert override(tus, "PATCH", begun, "DELETE").status_code == 204
    assert tus.head(begun).status_code == 404
