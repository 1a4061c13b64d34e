"""Declared types, through every way in and in both modes, and the types that content is served
with."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import typing as t
import urllib.parse
import uuid

import pytest
import requests
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from flask_dualmedia import MediaStorage, get_media, save_media_storage
from flask_dualmedia.content.mime_types import (
    MAX_LENGTH,
    OCTET_STREAM,
    claim_of,
    declared_type,
    one_type,
    served_type,
)
from flask_dualmedia.content.policy import Policy
from flask_dualmedia.content.uploads import Upload
from flask_dualmedia.errors import UnsupportedType
from flask_dualmedia.state import get_state

from ..conftest import MakeApp, StorageOptions, s3_options
from ..faults.transfer import transfer
from ..samples import PDF, Headers, Tokens, Tus, mp4, part, png, post_form

# Threads of the apps, MongoDB's driver among them, use the module random while values are drawn.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")

PROSE = b"prose, which has no signature"
URL = "https://cdn.example/a"
OWNER = {"referenceType": "page", "referenceId": "1"}

ONE_TYPE = re.compile(r"[!#$%&'+.^_`|~0-9a-z-]+/[!#$%&'+.^_`|~0-9a-z-]+")

NOT_DECLARED: list[str] = [
    "", " ", "binary", "nonsense", "/", "a/", "/b", "a/b/c",
    "*/*", "*", "*/png", "image/p*",
    "application/octet-stream", "Application/Octet-Stream; x=y", "binary/octet-stream",
    "application/x-www-form-urlencoded",
    "x/" + "y" * 298, "x/" + "y" * 254,
    "text/€", "text/é", "\uff54\uff45\uff58\uff54/csv",
    "text/csv\u200b", "text/csv; name=€", "text/\ud800",
    "x/\0y", "text/csv\0", "text/csv; x=\0", "\0", "text/csv\x7f", "text/csv;\x1b[0m",
    "text/csv\r\nX-Evil: 1", "text/csv\n", "text/csv;\r\n x=y",
    "text/csv, text/javascript", "text/csv,text/javascript",
    "text/csv;a=b,text/javascript", "text/csv,", ",text/csv",
    'text/csv;a="b",text/javascript', 'text/csv;a="\\",text/javascript',
    "text /csv", "text/ csv", "text/c sv", "text/csv text/html",
    "text/csv charset=utf-8", "text;/csv", "text/<csv>",
    "[text/csv]", "text/csv(comment)", "text/@csv", "text\\csv",
]  # fmt: skip
"""Texts that count as not declared."""

DECLARED = {
    "text/csv": "text/csv",
    "Text/CSV": "text/csv",
    " text/csv\t": "text/csv",
    "text/csv;": "text/csv",
    "text/csv ; charset=utf-8": "text/csv",
    "text/csv;charset=UTF-8; header=present": "text/csv",
    'text/csv; name="a, b; \\"c\\".csv"': "text/csv",
    f"text/csv; name={'x' * 300}": "text/csv",
    f"x/{'Y' * 253}": f"x/{'y' * 253}",
    "application/vnd.unknown-thing+json": "application/vnd.unknown-thing+json",
    "x!#$%&'+.^_`|~/y-9": "x!#$%&'+.^_`|~/y-9",
}

SCRIPTS = [
    "application/ecmascript", "application/javascript",
    "application/x-ecmascript", "application/x-javascript",
    "text/ecmascript", "text/javascript", "text/javascript1.0",
    "text/javascript1.1", "text/javascript1.2",
    "text/javascript1.3", "text/javascript1.4",
    "text/javascript1.5", "text/jscript", "text/livescript",
    "text/x-ecmascript", "text/x-javascript", "text/vbscript",
]  # fmt: skip
"""The JavaScript MIME types of the WHATWG's list, and VBScript."""

STYLESHEETS = ["text/css", "text/xsl", "application/xslt+xml"]

NEVER_SERVED = [
    *SCRIPTS,
    *STYLESHEETS,
    "multipart/x-mixed-replace",
    "multipart/mixed",
    "application/wasm",
]


def in_disguise(mime_type: str) -> list[str]:
    """Ways to write a type, or to hide it."""
    return [
        mime_type, mime_type.upper(), mime_type.title(),
        f" {mime_type}", f"{mime_type} ", f"\t{mime_type}",
        f"{mime_type}.", f"{mime_type};", f"{mime_type};charset=utf-8", f"{mime_type} ; x=y",
        f"image/png,{mime_type}", f"image/png, {mime_type}",
        f"{mime_type},image/png", f"image/png;a=b,{mime_type}",
        f"{mime_type}\0", f"{mime_type}\r\n", f"{mime_type}\x0c",
    ]  # fmt: skip


def is_harmless(content_type: str) -> bool:
    """Check that a served type is one valid type, and neither script nor stylesheet."""
    main = content_type.partition("/")[0]
    is_one = ONE_TYPE.fullmatch(content_type) is not None and len(content_type) <= MAX_LENGTH
    return is_one and content_type not in NEVER_SERVED and main != "multipart"


# How a text is read


@pytest.mark.parametrize("declared", NOT_DECLARED)
def test_what_counts_as_not_declared(declared: str) -> None:
    assert (claim_of(declared), declared_type(declared)) == (None, None)


@pytest.mark.parametrize(("declared", "expected"), DECLARED.items())
def test_what_is_one_type(declared: str, expected: str) -> None:
    assert claim_of(declared) == declared_type(declared) == one_type(declared) == expected


@pytest.mark.parametrize(
    "nothing", [None, 5, 1.5, True, [], ["text/csv"], {}, b"\xff/\xff", b"text/\xe9", object()]
)
def test_what_is_no_text_claims_nothing(nothing: object) -> None:
    assert (claim_of(nothing), one_type(nothing)) == (None, None)


@given(st.text() | st.binary())
def test_a_type_that_was_read_is_read_as_itself(text: str | bytes) -> None:
    for read in (one_type, declared_type, claim_of):
        found = read(text)
        assert found is None or read(found) == found


def test_long_texts_are_read_in_no_time() -> None:
    """No text has so many ways to be read that they take long to try."""
    for text in (
        "a/b" + " ; " * 50_000 + "\0",
        "a/b;" + '"\\' * 50_000,
        "a" * 100_000,
        "a/b" + " " * 100_000 + "x",
    ):
        assert one_type(text) is None


# Ranges


WEBM = (
    b"\x1aE\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01"
    b"\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm"
)


@pytest.mark.parametrize(
    ("content", "types", "declared", "agrees"),
    [
        (png(), ("image/*",), "image/*", True),
        (png(), ("image/*",), "IMAGE/*; q=1", True),
        (png(), ("image/*",), "video/*", False),
        (png(), ("image/*",), "*/*", True),
        (mp4(), ("video/*",), "video/*", True),
        # One container holds both.
        (mp4(), ("video/*",), "audio/*", True),
        (WEBM, ("video/*",), "audio/*", True),
        (mp4(), ("video/*",), "text/*", False),
        (PDF, ("application/pdf",), "application/*", True),
        (PDF, ("application/pdf",), "x/*", False),
    ],
)
def test_a_range_agrees_with_what_it_names(
    content: bytes, types: tuple[str, ...], declared: str, agrees: bool
) -> None:
    policy = Policy(types=types)
    upload = Upload(io.BytesIO(content), mime_type=declared, policy=policy)
    if agrees:
        upload.open()
    else:
        with pytest.raises(UnsupportedType, match="as declared"):
            upload.open()


@pytest.mark.parametrize(
    "shown", ["text/csv, text/javascript", "PNG image data, 1 x 1", "text/é", "x/" + "y" * 300, ""]
)
def test_a_sniffer_of_the_host_says_one_type_or_nothing(
    make_app: MakeApp, mode: str, shown: str
) -> None:
    app = make_app(mode, DUALMEDIA_SNIFFER=lambda head: shown)
    with app.app_context():
        assert save_media_storage("page", "1", PROSE).mime_type == OCTET_STREAM


# Ways in


class Hosts(t.NamedTuple):
    """An app in each mode, which takes uploads by all ways."""

    apps: dict[str, Flask]
    clients: dict[str, FlaskClient]
    tokens: dict[str, Headers]


@pytest.fixture(scope="module")
def module_hosts(make_lasting_app: MakeApp, s3_url: str) -> Hosts:
    options = s3_options(s3_url)
    apps = {
        mode: make_lasting_app(
            mode, DUALMEDIA_STORAGES={"s3": options}, DUALMEDIA_ALLOWED_STORAGES=["s3"]
        )
        for mode in ("dual", "mongo")
    }
    return Hosts(
        apps,
        {mode: app.test_client() for mode, app in apps.items()},
        {mode: Tokens.of(app).alice for mode, app in apps.items()},
    )


@pytest.fixture
def hosts(module_hosts: Hosts, emptied_url: str, mongo_uri: str) -> Hosts:
    """The hosts of all tests, whose databases are empty."""
    return module_hosts


Declared = str | bytes
Outcome = tuple[int, str | None]
"""Status, and the type in the record."""


def outcome(response: TestResponse) -> Outcome:
    body = response.json or {}
    return response.status_code, body.get("mimeType")


def as_bytes(declared: Declared) -> bytes:
    return declared if isinstance(declared, bytes) else declared.encode(errors="surrogatepass")


def as_text(declared: Declared) -> str:
    return declared if isinstance(declared, str) else declared.decode("latin-1")


def by_multipart(
    app: Flask, client: FlaskClient, token: Headers, declared: Declared, content: bytes
) -> Outcome:
    fields = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{OWNER[name]}'.encode()
        for name in OWNER
    ]
    head = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: '
        + as_bytes(declared)
    )
    lines = [*fields, head, b"", content, b"--b--", b""]
    body, form = b"\r\n".join(lines), "multipart/form-data; boundary=b"
    return outcome(client.post("/media/files", headers=token, data=body, content_type=form))


def by_put(
    app: Flask, client: FlaskClient, token: Headers, declared: Declared, content: bytes
) -> Outcome:
    path = post_form(client, token, "/media/files", OWNER | {"file": part(PDF, "a")}).headers[
        "Location"
    ]
    # As a server hands it over (PEP 3333), whatever a client may be able to send.
    header = {"CONTENT_TYPE": as_bytes(declared).decode("latin-1")}
    return outcome(
        client.put(f"{path}/content", headers=token, data=content, environ_overrides=header)
    )


def by_tus(
    app: Flask, client: FlaskClient, token: Headers, declared: Declared, content: bytes
) -> Outcome:
    values = {"kind": b"files", "filename": b"a", "filetype": as_bytes(declared)}
    values |= {name: value.encode() for name, value in OWNER.items()}
    header = ",".join(
        f"{name} {base64.b64encode(value).decode()}" for name, value in values.items()
    )
    made = Tus(client, token).create(len(content), content, Upload_Metadata=header)
    if made.status_code != 201:
        return made.status_code, None
    status, mime_type = outcome(client.get(made.headers["Content-Location"], headers=token))
    return made.status_code if status == 200 else status, mime_type


def by_direct_upload(
    app: Flask, client: FlaskClient, token: Headers, declared: Declared, content: bytes
) -> Outcome:
    announced = {
        "filename": "a",
        "mimeType": as_text(declared),
        "fileSize": len(content),
        "storageType": "s3",
    }
    announced["checksum"] = hashlib.sha256(content).hexdigest()
    begun = client.post("/media/files/direct-uploads", headers=token, json=OWNER | announced)
    if begun.status_code != 201:
        return begun.status_code, None
    request = begun.json or {}
    assert is_harmless(request["headers"]["Content-Type"])
    sent = requests.put(request["url"], data=content, headers=request["headers"], timeout=10)
    assert sent.status_code == 200
    return outcome(client.post(begun.headers["Location"], headers=token))


def by_function(
    app: Flask, client: FlaskClient, token: Headers, declared: Declared, content: bytes
) -> Outcome:
    with app.app_context():
        mime_type = t.cast(str, declared)
        saved = save_media_storage("page", "1", content, filename="a", mime_type=mime_type)
        return 201, saved.mime_type


def by_uploaded_file(
    app: Flask, client: FlaskClient, token: Headers, declared: Declared, content: bytes
) -> Outcome:
    """A view of the host's own hands a file of the request over."""
    file = part(content, "a")
    file.headers._list.append(("Content-Type", as_text(declared)))
    with app.app_context():
        return 201, save_media_storage("page", "1", file).mime_type


def by_json(
    app: Flask, client: FlaskClient, token: Headers, declared: Declared, content: bytes
) -> Outcome:
    body = json.dumps(OWNER | {"url": URL, "mimeType": as_text(declared)})
    return outcome(
        client.post("/media/files", headers=token, data=body, content_type="application/json")
    )


def by_function_with_url(
    app: Flask, client: FlaskClient, token: Headers, declared: Declared, content: bytes
) -> Outcome:
    with app.app_context():
        return 201, save_media_storage("page", "1", URL, mime_type=t.cast(str, declared)).mime_type


WAYS: dict[str, t.Callable[[Flask, FlaskClient, Headers, Declared, bytes], Outcome]] = {
    "multipart": by_multipart, "put": by_put,
    "tus": by_tus, "direct": by_direct_upload, "function": by_function,
    "file": by_uploaded_file, "json": by_json, "url": by_function_with_url,
}  # fmt: skip

every_way = pytest.mark.parametrize("way", WAYS)


def without_a_type(way: str, declared: Declared = "") -> set[Outcome]:
    """The answer to an upload of prose whose type is not declared, and the kept type."""
    status, mime_type = (
        200 if way == "put" else 201,
        None if way in ("json", "url") else OCTET_STREAM,
    )
    outcomes: set[Outcome] = {(status, mime_type)}
    if way == "multipart" and "\ufffd" in as_bytes(declared).decode(errors="replace"):
        outcomes.add((422, None))  # a form whose headers are not UTF-8 is no form
    return outcomes


def send(hosts: Hosts, way: str, declared: Declared, content: bytes = PROSE) -> Outcome:
    """Send the same in both modes; what comes of it in either."""
    outcomes = {
        WAYS[way](hosts.apps[mode], hosts.clients[mode], hosts.tokens[mode], declared, content)
        for mode in ("dual", "mongo")
    }
    assert len(outcomes) == 1, (declared, outcomes)
    return outcomes.pop()


@pytest.mark.long
@every_way
def test_what_is_not_one_type_is_not_declared(hosts: Hosts, way: str) -> None:
    for declared in NOT_DECLARED:
        if way == "multipart" and re.search(r"[\r\n\ud800]", declared):
            continue  # the header ends there, or is no text
        assert send(hosts, way, declared) in without_a_type(way), declared


@every_way
def test_one_type_is_kept_in_lower_case_without_parameters(hosts: Hosts, way: str) -> None:
    for declared, expected in DECLARED.items():
        assert send(hosts, way, declared) == (200 if way == "put" else 201, expected), declared


@every_way
def test_a_range_is_no_type_to_keep(hosts: Hosts, way: str) -> None:
    for declared in ("image/*", "Audio/*", "text/*;q=0.5"):
        assert send(hosts, way, declared) in without_a_type(way), declared


ANYTHING = st.text(max_size=300) | st.binary(max_size=300)
LIKELY = st.text(st.sampled_from('aZ0/*;,=" \t\r\n\0é€.+-\\'), max_size=20)
BUILT = st.builds(
    "".join,
    st.lists(st.sampled_from([*NOT_DECLARED, *DECLARED, *NEVER_SERVED, ",", ";", "/"]), max_size=3),
)


@pytest.mark.long
@every_way
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(declared=ANYTHING | LIKELY | BUILT)
def test_whatever_is_declared(hosts: Hosts, way: str, declared: Declared) -> None:
    """The record has one valid type, or the one that it would have without: the same in both
    modes."""
    status, mime_type = send(hosts, way, declared)
    assert status < 500
    if status in (200, 201) and (status, mime_type) not in without_a_type(way, declared):
        assert mime_type is not None
        assert ONE_TYPE.fullmatch(mime_type)
        assert len(mime_type) <= MAX_LENGTH
        assert mime_type in as_text(declared).lower()
    else:
        assert status in (200, 201) or (status, mime_type) in without_a_type(way, declared)


@pytest.mark.parametrize("mode", ["dual", "mongo"])
@pytest.mark.parametrize(
    "declared",
    ["", "binary", "*/*", "image/*", "application/octet-stream", "text/€", "image/png,text/css"],
)
def test_a_direct_upload_without_a_type_is_judged_by_its_bytes(
    hosts: Hosts, mode: str, declared: str
) -> None:
    """Name and bytes decide the class of the file too, and a policy still holds."""
    app, client, token = hosts.apps[mode], hosts.clients[mode], hosts.tokens[mode]
    assert by_direct_upload(app, client, token, declared, png()) == (201, "image/png")
    listed = (client.get("/media/files", headers=token).json or {})["items"]
    assert [one["mediaType"] for one in listed] == ["image"]


@pytest.mark.long
def test_a_script_is_no_script_in_the_bucket(hosts: Hosts) -> None:
    for mime_type in NEVER_SERVED:
        status, _ = send(hosts, "direct", mime_type)
        assert status in (201, 415)


# Records of older versions


def plant(app: Flask, media_id: uuid.UUID, mime_type: str | None) -> None:
    """Write a type into a record, past all checks."""
    state = get_state(app)
    if state.engine is None:
        changed = state.mongo[MediaStorage.__tablename__].update_one(
            {"_id": media_id}, {"$set": {"mime_type": mime_type}}
        )
        assert changed.matched_count == 1
        return
    with state.engine.begin() as connection:
        table = t.cast(sa.Table, MediaStorage.__table__)
        changed = connection.execute(
            sa.update(table).where(table.c.id == media_id).values(mime_type=mime_type)
        )
        assert changed.rowcount == 1


@pytest.fixture
def stored(app: Flask) -> uuid.UUID:
    with app.app_context():
        return save_media_storage("page", "1", b"alert(1)", is_public=True).id


def check_answers(app: Flask, media_id: uuid.UUID) -> str:
    """All answers with content have the same harmless type, which is not guessed at.

    :return: The type.
    """
    client, path = app.test_client(), f"/media/files/{media_id}/content"
    whole = client.get(path)
    tag = whole.headers["ETag"]
    answers = {
        200: [whole, client.head(path), client.get(f"{path}?download=1")],
        206: [client.get(path, headers={"Range": "bytes=1-2"})],
        304: [client.get(path, headers={"If-None-Match": tag})],
        416: [client.get(path, headers={"Range": "bytes=99-"})],
    }
    served = whole.headers["Content-Type"]
    for status, responses in answers.items():
        for response in responses:
            response.get_data()  # to its end, so that it gives its connection back
            assert response.status_code == status
            assert len(response.headers.getlist("Content-Type")) <= 1
            expected = "application/json" if status == 416 else served
            assert response.headers.get("Content-Type", expected) == expected
            if status != 416:
                assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert is_harmless(served), served
    return served


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    mime_type=st.none()
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=255)
    | BUILT.filter(lambda text: text.isprintable() and len(text) <= MAX_LENGTH)
)
@example(mime_type="text/html,text/javascript")
def test_whatever_is_stored_one_harmless_type_is_served(
    app: Flask, stored: uuid.UUID, mime_type: str | None
) -> None:
    plant(app, stored, mime_type)
    check_answers(app, stored)


def test_no_script_and_no_stylesheet_is_served(app: Flask, stored: uuid.UUID) -> None:
    client = app.test_client()
    for mime_type in NEVER_SERVED:
        plant(app, stored, mime_type)
        assert check_answers(app, stored) == OCTET_STREAM, mime_type
        for stored_type in in_disguise(mime_type):
            if "\0" not in stored_type or get_state(app).engine is None:
                plant(app, stored, stored_type)
                head = client.head(f"/media/files/{stored}/content")
                assert head.headers["Content-Type"] == OCTET_STREAM, stored_type


@pytest.mark.parametrize(
    ("stored_type", "served", "disposition"),
    [
        ("Image/PNG", "image/png", "inline"),
        ("image/png; x=y", "image/png", "inline"),
        ("image/png, text/html", OCTET_STREAM, "attachment"),
        ("image/*", OCTET_STREAM, "attachment"),
        ("text/html;charset=utf-8", "text/html", "attachment"),
        ("application/postscript", "application/postscript", "attachment"),
        ("text/plain", "text/plain", "attachment"),
    ],
)
def test_how_old_records_are_served(
    app: Flask, stored: uuid.UUID, stored_type: str, served: str, disposition: str
) -> None:
    plant(app, stored, stored_type)
    assert check_answers(app, stored) == served
    headers = app.test_client().get(f"/media/files/{stored}/content").headers
    assert headers["Content-Disposition"].split(";")[0] == disposition


@pytest.mark.parametrize(
    "stored_type", ["text/javascript", "image/png,text/css", "text/csv\nX-Evil: 1"]
)
def test_other_servers_are_told_the_same_type(
    make_app: MakeApp, mode: str, storage_options: StorageOptions, stored_type: str
) -> None:
    """A redirect to the storage has it in the signed URL, an answer through nginx in its header."""
    options = storage_options("s3", redirect=True) | storage_options(
        "local", x_accel_redirect="/internal"
    )
    app = make_app(mode, DUALMEDIA_STORAGES=options)
    for storage_type in ("s3", "local"):
        with app.app_context():
            media_id = save_media_storage(
                "page", "1", b"alert(1)", is_public=True, storage_type=storage_type
            ).id
        plant(app, media_id, stored_type)
        answer = app.test_client().get(f"/media/files/{media_id}/content")
        if storage_type == "s3":
            signed = urllib.parse.parse_qs(urllib.parse.urlsplit(answer.location).query)
            assert signed["response-content-type"] == [OCTET_STREAM]
        else:
            assert answer.headers["X-Accel-Redirect"].startswith("/internal/")
            assert answer.headers["Content-Type"] == OCTET_STREAM


def test_any_type_is_served_as_one(app: Flask) -> None:
    for mime_type in NEVER_SERVED:
        assert {served_type(text) for text in in_disguise(mime_type)} == {OCTET_STREAM}
    assert served_type(None) == OCTET_STREAM


OLD_TYPES = {
    "x/" + "y" * 298: (OCTET_STREAM, None),
    "x/\0y": (OCTET_STREAM, None),
    "text/html,text/javascript": (OCTET_STREAM, None),
    "text/€": (OCTET_STREAM, None),
    "image/*": (OCTET_STREAM, None),
    "Text/CSV; charset=utf-8": ("text/csv", "text/csv"),
    "text/javascript": ("text/javascript", "text/javascript"),
    OCTET_STREAM: (OCTET_STREAM, OCTET_STREAM),
}
"""Types in MongoDB, and what a transfer makes of them where we keep the bytes, and for a URL."""


def test_a_transfer_brings_old_types_over_as_valid_ones(
    make_app: MakeApp, migrated_url: str
) -> None:
    mongo, dual = (
        make_app(mode, SQLALCHEMY_DATABASE_URI=migrated_url) for mode in ("mongo", "dual")
    )
    planted: dict[uuid.UUID, str | None] = {}
    for old, expected in OLD_TYPES.items():
        for source, mime_type in zip((PROSE, URL), expected, strict=True):
            with mongo.app_context():
                media_id = save_media_storage("page", "1", source).id
            plant(mongo, media_id, old)
            planted[media_id] = mime_type
    assert "Both hold the same" in transfer(mongo, "sql")
    with dual.app_context():
        assert {
            media_id: get_media(MediaStorage, media_id).mime_type for media_id in planted
        } == planted


def test_an_old_record_can_be_renamed(app: Flask, stored: uuid.UUID) -> None:
    headers = Tokens.of(app).admin
    for old in ("text/html,text/javascript", "x/" + "y" * 253, "image/*"):
        plant(app, stored, old)
        answer = app.test_client().patch(
            f"/media/files/{stored}", headers=headers, json={"filename": "b.txt"}
        )
        assert answer.status_code == 200
