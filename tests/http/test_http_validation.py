"""Every wrong input is refused: it gets a 4xx that says what is wrong, and leaves nothing."""

from __future__ import annotations

import base64
import json
import math
import typing as t
import uuid

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_dualmedia.models import KINDS
from flask_dualmedia.state import State

from ..conftest import MakeApp
from ..samples import (
    NOTHING,
    PDF,
    SAMPLES,
    URL_FIELDS,
    Owners,
    Tokens,
    kept,
    of_owner,
    part,
    png,
    post_file,
    post_form,
    post_url,
)

# Werkzeug leaves the temporary files of a form that it gives up to the garbage collector, which is
# at once in CPython.
left_to_the_collector = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)

every_kind = pytest.mark.parametrize("kind", KINDS)

UNSTORABLE = ["\0", "a\0b", "\ud800", "a\udfffb"]


WRONG_TEXT: list[t.Any] = [*UNSTORABLE, 1, 1.5, True, [], ["a"], {}, {"$ne": ""}]
WRONG_WHOLE: list[t.Any] = [
    -1, 2**31, 2**63, 2**64, 10**30, 1.5, math.nan, math.inf, -math.inf,
    1e300, "x", "", "1.5", "-1", "0x10",
    "9" * 5000,
    True, [], [1], {}, {"$gt": 0}, "\0",
]  # fmt: skip
WRONG_BOOLEAN: list[t.Any] = ["perhaps", "", 2, -1, 1.5, [], {}, None, "\0"]
WRONG_URL: list[t.Any] = [
    *WRONG_TEXT, "", None, "javascript:alert(1)", "JavaScript:alert(1)",
    "data:text/html,x", "file:///etc/passwd", "ftp://a/b",
    "http:", "http:a", "https:///path", "http://a b/", "http://a/\n",
    "http://[::1", "x" * 2049, "vbscript:x", "//[",
]  # fmt: skip
WRONG_ID: list[t.Any] = [*WRONG_TEXT, "", "x" * 256, None]

NUMBERS = {"position", "width", "height", "duration"}


def wrong_choice(*more: t.Any) -> list[t.Any]:
    return [*WRONG_TEXT, "", "nothing of it", None, "IMAGE", *more]


# By kind and field on the wire: values that must be refused.
WRONG: dict[str, dict[str, list[t.Any]]] = {
    "product-images": {
        "mongoProductId": WRONG_ID, "imageUrl": WRONG_URL, "altText": [*WRONG_TEXT, "x" * 2001],
        "isMainImage": WRONG_BOOLEAN, "position": [*WRONG_WHOLE, None],
        "width": WRONG_WHOLE, "height": WRONG_WHOLE,
    },
    "course-videos": {
        "mongoCourseId": WRONG_ID, "mongoLessonId": [*WRONG_TEXT, "x" * 256], "videoUrl": WRONG_URL,
        "videoType": wrong_choice(), "title": [*WRONG_TEXT, "x" * 256],
        "position": [*WRONG_WHOLE, None],
        "duration": [v for v in WRONG_WHOLE if v not in (1.5, "1.5")],
        "width": WRONG_WHOLE, "height": WRONG_WHOLE,
        "processingStatus": wrong_choice(),
    },
    "course-resources": {
        "mongoCourseId": WRONG_ID, "mongoLessonId": [*WRONG_TEXT, "x" * 256],
        "resourceUrl": WRONG_URL,
        "resourceName": [*WRONG_TEXT, "x" * 256], "resourceType": wrong_choice(),
    },
    "files": {
        "referenceType": [*WRONG_ID, "x" * 65], "referenceId": WRONG_ID,
        "url": WRONG_URL, "mediaType": wrong_choice(),
        "title": [*WRONG_TEXT, "x" * 256],
    },
}  # fmt: skip
WRONG_COMMON: dict[str, list[t.Any]] = {
    "filename": [
        1,
        1.5,
        True,
        [],
        ["a"],
        {},
        {"$ne": ""},
    ],  # any text is accepted, and made fit to keep
    "mimeType": [
        1,
        1.5,
        True,
        [],
        ["a"],
        {},
        {"$ne": ""},
    ],  # any text is accepted, and may declare nothing
    "fileSize": [v for v in WRONG_WHOLE if v != 2**31],
    "storageType": wrong_choice("s3", "database"),
    "isPublic": WRONG_BOOLEAN,
}

WRONG_IN_JSON: list[tuple[set[str], list[t.Any]]] = [
    (NUMBERS | {"fileSize"}, ["5", " 5", "0"]),
    ({"isPublic", "isMainImage"}, [0, 1, "0", "true", "no"]),
]
"""Values that are wrong in JSON. A form, which has only text, may have them."""


def wrong_in_json(kind: str) -> dict[str, list[t.Any]]:
    more = {name: values for names, values in WRONG_IN_JSON for name in names}
    return {
        name: [*values, *more.get(name, [])]
        for name, values in (WRONG[kind] | WRONG_COMMON).items()
    }


def refusal(response: TestResponse, *statuses: int) -> dict[str, list[str]]:
    """The messages by field, of an answer that must be an error of one of these statuses in our
    shape."""
    body = response.json
    assert response.status_code in statuses, (response.status_code, body)
    assert response.content_type == "application/json"
    assert body is not None
    assert body.keys() - {"errors"} == {"code", "status", "message"}
    assert body["code"] == response.status_code
    assert isinstance(body["message"], str)
    errors = body.get("errors", {})
    assert all(isinstance(text, str) for texts in errors.values() for text in texts)
    return errors


@every_kind
def test_wrong_values_in_json(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State, kind: str
) -> None:
    for name, values in wrong_in_json(kind).items():
        for value in values:
            errors = refusal(post_url(client, tokens.alice, kind, owners, **{name: value}), 422)
            assert list(errors) == [name], value
            assert errors[name]
    assert kept(state) == NOTHING


@every_kind
def test_wrong_values_in_multipart(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State, kind: str
) -> None:
    for name, values in (WRONG[kind] | WRONG_COMMON).items():
        if name in (URL_FIELDS[kind], "mimeType", "fileSize"):
            continue  # of bytes that we keep, these are no fields at all
        for value in values:
            # All values of a form are text, in UTF-8.
            number = isinstance(value, int | float) and value is not True and name in NUMBERS
            text: t.Any = str(value) if number else value
            storable = isinstance(text, str) and (name, text) != ("storageType", "database")
            if storable and not any("\ud800" <= c <= "\udfff" for c in text):
                errors = refusal(post_file(client, tokens.alice, kind, owners, **{name: text}), 422)
                assert list(errors) == [name], value
    assert kept(state) == NOTHING


@every_kind
def test_wrong_values_in_edits(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State, kind: str
) -> None:
    """An edit is checked like a creation."""
    made = post_url(client, tokens.alice, kind, owners)
    for name, values in wrong_in_json(kind).items():
        for value in values:
            errors = refusal(
                client.patch(made.location, json={name: value}, headers=tokens.alice), 422
            )
            assert list(errors) == [name], value
    assert client.get(made.location, headers=tokens.alice).json == made.json


@every_kind
def test_missing_and_unknown_fields(
    client: FlaskClient, tokens: Tokens, state: State, kind: str
) -> None:
    def post(values: dict[str, t.Any]) -> dict[str, list[str]]:
        return refusal(client.post(f"/media/{kind}", json=values, headers=tokens.alice), 422)

    required = {"referenceType", "referenceId"} if kind == "files" else None
    required = required or {"mongoProductId" if kind == "product-images" else "mongoCourseId"}
    assert post({}).keys() == required
    unknown = {
        "nonsense": 1,
        "mongo_product_id": "x",
        "__proto__": {},
        "$where": "1",
        "": "",
        "\ud800": 1,
        "a.b": 1,
    }
    assert post(unknown).keys() == required | unknown.keys()
    form = {"nonsense": "1", "$where": "1", "file": part(SAMPLES[kind])}
    errors = refusal(post_form(client, tokens.alice, f"/media/{kind}", form), 422)
    assert errors.keys() == required | {"nonsense", "$where"}
    assert kept(state) == NOTHING


@every_kind
def test_json_without_a_url(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State, kind: str
) -> None:
    answer = client.post(f"/media/{kind}", json=of_owner(kind, owners), headers=tokens.alice)
    assert list(refusal(answer, 422)) == [URL_FIELDS[kind]]
    assert kept(state) == NOTHING


def test_bodies_that_are_no_json_object(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State
) -> None:
    location = post_url(client, tokens.alice, "files", owners).headers["Location"]
    before = kept(state)
    cases: dict[bytes, int] = {
        b"": 400, b"{": 400, b"{]": 400, b"nonsense": 400,
        b"{'a': 1}": 400, b'{"a": 1}}': 400, b"\xff\xfe\xfd": 400,
        b'{"title": "\xff"}': 400, b'{"position": ' + b"9" * 5000 + b"}": 400,
        b"[" * 100_000: 400, b'{"a":' * 100_000: 400, b"[" * 100_000 + b"]" * 100_000: 400,
        b"[]": 422, b"null": 422, b"1": 422, b'"text"': 422,
        b"true": 422, b"NaN": 422, b"[{}]": 422,
        b'{"title": ' + b"[" * 500 + b"]" * 500 + b"}": 422,
    }  # fmt: skip
    for body, status in cases.items():
        for method, path in (("POST", "/media/files"), ("PATCH", location)):
            answer = client.open(
                path,
                method=method,
                data=body,
                content_type="application/json",
                headers=tokens.alice,
            )
            errors = refusal(answer, status)
            assert bool(errors) == (status == 422), body[:20]
    assert kept(state) == before


def test_wrong_content_types(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State
) -> None:
    location = post_url(client, tokens.alice, "files", owners).headers["Location"]
    before = kept(state)
    body = json.dumps(of_owner("files", owners) | {"url": "https://cdn.example/a"})
    for content_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/xml",
        "",
        "nonsense",
        "json",
    ):
        for method, path in (("POST", "/media/files"), ("PATCH", location)):
            answer = client.open(
                path, method=method, data=body, content_type=content_type, headers=tokens.alice
            )
            refusal(answer, 415)
    refusal(
        client.patch(
            location, data={"title": "a"}, content_type="multipart/form-data", headers=tokens.alice
        ),
        415,
    )
    assert kept(state) == before
    for content_type in ("application/json; charset=utf-8", "application/vnd.api+json"):
        answer = client.post(
            "/media/files", data=body, content_type=content_type, headers=tokens.alice
        )
        assert answer.status_code == 201


@every_kind
def test_forms_without_one_good_file(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State, kind: str
) -> None:
    good, path = SAMPLES[kind], f"/media/{kind}"
    owner = of_owner(kind, owners)
    for files in (
        {},
        {"file": "text, and no file"},
        {"file": ""},
        {"file": part(b"")},
        {"file": [part(good), part(good)]},
        {"file": [part(good), part(b"")]},
        {"file": part(b"", "")},  # what browsers send when no file was chosen
        {"File": part(good)},
        {"image": part(good)},
    ):
        errors = refusal(post_form(client, tokens.alice, path, owner | files), 422)
        assert "file" in errors, files
    # a file where a text belongs
    name = next(iter(owner))
    errors = refusal(
        post_form(client, tokens.alice, path, owner | {"file": part(good), name: part(b"x")}), 422
    )
    assert list(errors) == [name]
    assert kept(state) == NOTHING


@left_to_the_collector
def test_broken_forms(client: FlaskClient, tokens: Tokens, owners: Owners, state: State) -> None:
    """The form has no boundary, no end, or half a header."""
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + png()
    for boundary, body in (
        ("", b""),
        ("", start),
        ("; boundary=b", b""),
        ("; boundary=b", b"nonsense"),
        ("; boundary=b", start),
        ("; boundary=b", start[:40]),
        ("; boundary=b", start + b"\r\n--b"),
        ("; boundary=other", start + b"\r\n--b--\r\n"),
        (f"; boundary={'b' * 5000}", start),
        ("; boundary=b", b"--b\r\n\r\n\r\n--b--\r\n"),
    ):
        answer = client.post(
            "/media/product-images",
            data=body,
            content_type=f"multipart/form-data{boundary}",
            headers=tokens.alice,
        )
        refusal(answer, 400, 422)
    assert kept(state) == NOTHING


@left_to_the_collector
def test_endless_forms(client: FlaskClient, tokens: Tokens, owners: Owners, state: State) -> None:
    """Two thousand parts, a megabyte of metadata, in one field or in many."""
    owner = {"file": part(png()), **of_owner("product-images", owners)}
    forms: list[dict[str, t.Any]] = [
        {f"field{n}": "x" for n in range(2000)},
        {"altText": "x" * 2**20},
        {f"field{n}": "x" * 10_000 for n in range(105)},
        {"x" * 2**20: "name"},
        {f"file{n}": part(b"") for n in range(2000)},
    ]
    for form in forms:
        owner["file"].stream.seek(0)
        refusal(post_form(client, tokens.alice, "/media/product-images", owner | form), 413, 422)
    assert kept(state) == NOTHING


def test_endless_json(client: FlaskClient, tokens: Tokens, owners: Owners, state: State) -> None:
    made = post_url(client, tokens.alice, "product-images", owners)
    before = kept(state)
    assert list(
        refusal(post_url(client, tokens.alice, "product-images", owners, altText="x" * 10**6), 422)
    ) == ["altText"]
    refusal(post_url(client, tokens.alice, "product-images", owners, altText="x" * 2**20), 413)
    refusal(client.patch(made.location, json={"altText": "x" * 2**20}, headers=tokens.alice), 413)
    many = {f"field{n}": n for n in range(10_000)}
    answer = post_url(client, tokens.alice, "product-images", owners, **many)
    assert refusal(answer, 422).keys() == many.keys()
    assert kept(state) == before


NO_IDS = [
    "nonsense", "1", "-1", "0", "null", "None", "../files", "%00", "a%00b",
    "%ED%A0%80", "%2e%2e", "%F0%9F%98%80",
    "x" * 5000, "{}", "%7B%24ne%3A1%7D",
    "00000000-0000-0000-0000-00000000000g", "00000000000000000000000000000000f", str(uuid.uuid4()),
    "0" * 24, "' OR 1=1 --", "%",
]  # fmt: skip


@every_kind
def test_ids_of_nothing(client: FlaskClient, tokens: Tokens, kind: str) -> None:
    """Bad ids and ids of nothing are the same 404, in our shape."""
    for media_id in NO_IDS:
        if media_id == "../files":
            continue  # the client resolves it
        path = f"/media/{kind}/{media_id}"
        for method, suffix in (
            ("GET", ""), ("HEAD", ""), ("PATCH", ""),
            ("DELETE", ""), ("GET", "/content"), ("HEAD", "/content"),
            ("PUT", "/content"), ("POST", "/accesses"),
        ):  # fmt: skip
            edit = {"title": "x"} if method == "PATCH" else None
            answer = client.open(path + suffix, method=method, headers=tokens.alice, json=edit)
            if method == "HEAD":
                assert answer.status_code == 404
            else:
                assert refusal(answer, 404) == {}


def test_an_id_of_another_kind_is_nothing(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    made = post_file(client, tokens.alice, "files", owners)
    other = made.location.replace("/files/", "/course-resources/")
    for path in (other, f"{other}/content"):
        refusal(client.get(path, headers=tokens.alice), 404)


def cursor(value: t.Any) -> str:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(content).decode()


SOME_ID = uuid.uuid4().hex
BAD_CURSORS = [
    "", "x", "é", "====", "A", cursor(b""), cursor(b"\xff"),
    cursor(b"[" * 50_000), cursor(b"{"), cursor([]),
    cursor({}), cursor({"a": 1, "b": 2}), cursor("ab"),
    cursor(1), cursor(None), cursor([1]), cursor([1, 2]),
    cursor([None, None]),
    cursor([1, "no id"]), cursor([1, [SOME_ID]]), cursor([1, SOME_ID, 3]), "x" * 100_000,
]  # fmt: skip
BAD_PLACES = [
    None,
    "1",
    "x",
    -1,
    1.5,
    True,
    [],
    {},
    2**31,
    2**40,
    2**63,
    2**64,
    10**30,
    math.nan,
    math.inf,
    {"$gt": 0},
]


def test_bad_cursors(client: FlaskClient, tokens: Tokens) -> None:
    """A cursor is the client's to forge: it is a 422, whatever is in it."""

    def ask(**query: str) -> dict[str, list[str]]:
        return refusal(
            client.get("/media/product-images", query_string=query, headers=tokens.alice), 422
        )

    for sort in ("createdAt", "position", "-accessCount"):
        for bad in BAD_CURSORS:
            assert list(ask(sort=sort, after=bad)) == ["after"], bad[:50]
    for place in BAD_PLACES:
        assert list(ask(sort="position", after=cursor([place, SOME_ID]))) == ["after"], place
        if place not in (2**31, 2**40):
            assert list(ask(sort="accessCount", after=cursor([place, SOME_ID]))) == ["after"], place


@every_kind
def test_wrong_queries(client: FlaskClient, tokens: Tokens, kind: str) -> None:
    """A misspelt filter must not list everything."""
    wrong: dict[str, list[str]] = {
        "limit": ["0", "101", "-1", "x", "", "1.5", "9" * 5000, "\0", "1e2", "NaN", " "],
        "sort": [
            "",
            "id",
            "-",
            "--createdAt",
            "created_at",
            "createdAt,position",
            "checksum",
            "storageKey",
            "\0",
            "$where",
        ],
        "after": ["\0"],
        "uploadedBy": ["\0", "a\0b"],
        "nonsense": ["1"],
        "mongo_product_id": ["x"],
        "offset": ["1"],
        "isPublic": ["true"],
        "state": ["pending"],
        "storageKey": ["x"],
        "checksum": ["x"],
        "uploadedBy[$ne]": ["x"],
        "": ["x"],
    }
    choices = {
        "files": {
            "mediaType": ["x", "", "IMAGE", "\0"],
            "referenceId": ["\0"],
            "referenceType": ["\0"],
        },
        "course-videos": {"videoType": ["x", ""], "mongoLessonId": ["\0"], "mongoCourseId": ["\0"]},
        "course-resources": {
            "resourceType": ["x", ""],
            "mongoLessonId": ["\0"],
            "mongoCourseId": ["\0"],
        },
        "product-images": {
            "isMainImage": ["x", "", "2", "\0"],
            "mongoProductId": ["\0"],
            "mongoCourseId": ["x"],
        },
    }
    for name, values in (wrong | choices[kind]).items():
        for value in values:
            answer = client.get(f"/media/{kind}", query_string={name: value}, headers=tokens.alice)
            errors = refusal(answer, 422)
            assert list(errors) == [name], value


def test_queries_that_are_only_strange(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    """They find nothing, and break nothing."""
    post_url(client, tokens.alice, "files", owners)
    for query in (
        "referenceId=%ED%A0%80", "referenceId=%FF",
        "referenceId=%F0%9F%98%80", f"referenceId={'x' * 10_000}",
        "referenceId=%7B%22%24ne%22%3A1%7D", "referenceId=' OR 1=1 --",
        "referenceId=", "uploadedBy=%25",
        "referenceType=%5B%5D",
    ):  # fmt: skip
        answer = client.get(f"/media/files?{query}", headers=tokens.alice)
        assert answer.status_code == 200, query
        assert answer.json == {"items": [], "next": None, "partial": False}, query
    for query in ("", "limit=1", "limit=100", "limit=1&limit=1"):
        answer = client.get(f"/media/files?{query}", headers=tokens.alice)
        assert len((answer.json or {})["items"]) == 1


def test_bounds_are_accepted(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    """Values at the very edge, which are right."""
    fields = {
        "position": 2**31 - 1,
        "width": 0,
        "height": 2**31 - 1,
        "altText": "x" * 2000,
        "fileSize": 2**63 - 1,
    }
    fields |= {
        "filename": "ß" * 255,
        "imageUrl": "https://a/" + "x" * 2038,
        "mimeType": f"a/{'b' * 253}",
    }
    for changed in (
        {},
        {"imageUrl": "/relative"},
        {"imageUrl": "//host/path"},
        {"imageUrl": "HTTPS://a/?q=ü#f"},
    ):
        answer = post_url(client, tokens.alice, "product-images", owners, **fields | changed)
        assert answer.status_code == 201, answer.json
        assert answer.json is not None
        assert {name: answer.json[name] for name in fields | changed} == fields | changed
    for page in ("position", "accessCount"):
        first = (
            client.get(f"/media/product-images?limit=1&sort={page}", headers=tokens.alice).json
            or {}
        )
        assert len((client.get(first["next"], headers=tokens.alice).json or {})["items"]) == 1
    long = {"referenceType": "t" * 64, "referenceId": "i" * 255}
    assert post_url(client, tokens.alice, "files", owners, **long).status_code == 201


def test_storages_that_are_not_set_up(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State
) -> None:
    for storage_type in ("s3", "local", "google_drive", "cloud", "external"):
        answer = post_file(client, tokens.alice, "files", owners, storageType=storage_type)
        assert list(refusal(answer, 422)) == ["storageType"]
    assert kept(state) == NOTHING


# Errors


def test_pages_of_the_host_stay_as_they_are(make_app: MakeApp, mode: str) -> None:
    """Routes that are not ours, and methods that they do not have, are the host's business."""
    app = make_app(mode)

    @app.errorhandler(404)
    def not_found(_: t.Any) -> tuple[str, int]:
        return "the host's page", 404

    @app.route("/fails")
    def fails() -> str:
        raise ValueError("the host's own")

    client, tokens = app.test_client(), Tokens.of(app)
    for path in (
        "/nothing",
        "/media",
        "/media/nothing",
        "/media/files/x/y",
        "/media/product_images",
    ):
        answer = client.get(path, headers=tokens.alice)
        assert (answer.status_code, answer.text) == (404, "the host's page")
    refusal(client.get("/media/files/x", headers=tokens.alice), 404)
    answer = client.put("/media/files", headers=tokens.alice)
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    with pytest.raises(ValueError, match="the host's own"):
        client.get("/fails")


def test_failures_tell_nothing_of_the_inside(make_app: MakeApp, mode: str) -> None:
    """Bytes that are gone are an error of the server, neither "not found" nor a look inside."""
    app = make_app(mode, TESTING=False, PROPAGATE_EXCEPTIONS=False)
    client, tokens, state = app.test_client(), Tokens.of(app), app.extensions["dualmedia"]
    form = {"file": part(PDF), "referenceType": "page", "referenceId": "1"}
    made = post_form(client, tokens.alice, "/media/files", form)
    key = kept(state)[1][0]
    state.storages["database"].delete(key)
    answer = client.get(f"{made.headers['Location']}/content", headers=tokens.alice)
    assert answer.status_code == 500
    for secret in (key, "Traceback", "/flask_dualmedia", "postgres", "mongodb", "BytesNotFound"):
        assert secret not in answer.text


def test_an_outage_is_no_empty_list(make_app: MakeApp) -> None:
    """The list is partial, media that SQL may hold is 503 with Retry-After, and nobody learns where
    the database is."""
    down = "postgresql+psycopg://nobody:s3cret@127.0.0.1:1/none"
    options = {"DUALMEDIA_AUTO_UPGRADE": False, "DUALMEDIA_ON_SQL_OUTAGE": "refuse"}
    app = make_app("dual", SQLALCHEMY_DATABASE_URI=down, **options)
    client, tokens = app.test_client(), Tokens.of(app)
    item = f"/media/files/{uuid.uuid4()}"
    for method, path in (
        ("GET", item), ("DELETE", item), ("GET", f"{item}/content"),
        ("PUT", f"{item}/content"), ("POST", f"{item}/accesses"),
    ):  # fmt: skip
        answer = client.open(path, method=method, headers=tokens.alice)
        refusal(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Cache-Control"] == "private, no-store"
        for secret in ("s3cret", "nobody", "127.0.0.1", "none"):
            assert secret not in answer.text
    page = client.get("/media/files", headers=tokens.alice)
    assert (page.status_code, page.json) == (200, {"items": [], "next": None, "partial": True})
    form = {"file": part(PDF), "referenceType": "page", "referenceId": "1"}
    refusal(post_form(client, tokens.alice, "/media/files", form), 503)
    health = client.get("/media/health")
    expected = {
        "mode": "dual",
        "degraded": True,
        "mongo": {"ok": True},
        "sql": {"ok": False},
        "journal": 0,
    }
    assert (health.status_code, health.json) == (200, expected)


def test_health(client: FlaskClient, mode: str) -> None:
    expected = {"mode": mode, "degraded": False, "mongo": {"ok": True}, "journal": 0}
    expected["sql"] = {"ok": True if mode == "dual" else None}
    answer = client.get("/media/health")
    assert (answer.status_code, answer.json) == (200, expected)
