# ruff: noqa: RUF001 - letters of all scripts, as people name their files
"""Filenames as people have them, by every way in and in both modes, and the names under which
content is saved."""

from __future__ import annotations

import base64
import hashlib
import json
import typing as t
import unicodedata
from urllib.parse import unquote

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from flask_dualmedia import save_media_storage
from flask_dualmedia.content.names import FILENAME_LENGTH, label
from flask_dualmedia.views.content import _names

from ..conftest import MakeApp, StorageOptions
from ..real_files import REAL_FILES, RealFile
from ..samples import Headers, Tokens, Tus, mp4, png
from .test_declared_types import OWNER, Hosts, hosts, module_hosts

__all__ = ["hosts", "module_hosts"]  # fixtures

KEPT = [
    "Bildschirmfoto 2026-11-26 um 9.41.00\u202fAM.png", "10\u00a0€.txt",
    "全角\u3000空白.txt", "می\u200cخواهم.pdf",
    "क्\u200dष.txt",
    "👩\u200d💻.png", "❤\ufe0f.txt",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f.txt",
    "Ä.txt", unicodedata.normalize("NFD", "Ä.txt"), "שלום\u200f.txt",
    "\uf8ff.txt", "so\u00adft.txt",
    " a .txt ", "a\u2003b",
    "100%.txt", "a%2fb", "=?utf-8?q?x?=", "a;b=c,d.txt", "'a'.txt",
    "a*?|<>:.txt", "-rf", "~", "CON", ".htaccess", "…",
    "\U0001fae9.txt", "/".replace("/", "\u2215"), "Ａ／Ｂ.txt", "a" * 255,
]  # fmt: skip

CHANGED = {
    "a\0b": "ab", "a\r\nb": "ab", "a\tb": "ab", "a\x7fb": "ab", "a\x85b": "ab",
    "a\x1bb": "ab", "a\u2028b\u2029c": "abc",
    "photo\u202egpj.exe": "photogpj.exe", "\u202aa\u202b\u202c\u202d": "a",
    "\u2066a\u2067\u2068\u2069": "a",
    "C:\\fakepath\\a.txt": "a.txt", "../../a.txt": "a.txt", "a/": None, "..": None, " . ": None,
    "\u200b": None, "": None,
    "a" * 300 + ".txt": "a" * 251 + ".txt",
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_a_name_is_kept_as_it_came(name: str) -> None:
    assert label(name) == name


@pytest.mark.parametrize(("name", "expected"), CHANGED.items())
def test_what_no_name_has_is_left_out(name: str, expected: str | None) -> None:
    assert label(name) == expected
    assert expected is None or label(expected) == expected


@given(st.text(max_size=300))
def test_a_name_is_fit_to_keep_once_and_for_all(name: str) -> None:
    kept = label(name)
    assert label(kept) == kept
    assert kept is None or 1 <= len(kept) <= FILENAME_LENGTH


# Downloads


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("写真.jpg", "file.jpg"), ("日本.tar.gz", "file.tar.gz"),
        ("写真", "file"), ("é.png", "e.png"),
        ("….png", "file.png"),
        ("‥／‥／passwd", "file._._passwd"), ("．．＼x.txt", "file._x.txt"), ("50%.txt", "50_.txt"),
        ("%41.txt", "41.txt"),
        ("=?utf-8?q?x?=.txt", "utf-8_q_x__.txt"), ("%.txt", "file.txt"),
        ("％", "file"), ("日 本 (1).jpg", "(1).jpg"),
        ("9.41\u202fAM.png", "9.41 AM.png"),
    ],
)  # fmt: skip
def test_a_name_beyond_ascii_has_a_plain_one_beside_it(name: str, plain: str) -> None:
    assert _names(name) == {"filename": plain, "filename*": _names(name)["filename*"]}


@pytest.mark.parametrize(
    "name", ["a.txt", "a b (1).txt", ".htaccess", "a;b.txt", "it's.txt", "a=b?.txt"]
)
def test_a_name_in_ascii_needs_no_other(name: str) -> None:
    assert _names(name) == {"filename": name}


@given(
    st.text(min_size=1, max_size=40)
    | st.text(st.sampled_from("./\\%=?．／‥ aé写\u202f"), min_size=1, max_size=12)
)
@example("..%2f..%2fetc")
def test_no_name_leads_a_download_astray(name: str) -> None:
    kept = label(name)
    if kept is None:
        return
    names = _names(kept)
    needs_more = not kept.isascii() or "%" in kept or "=?" in kept
    assert ("filename*" in names) == needs_more
    if needs_more:
        plain = names["filename"]
        assert unquote(names["filename*"].removeprefix("UTF-8''")) == kept
        assert plain.isascii()
        assert plain.isprintable()
        assert plain
        assert plain[0] != "."
        assert not {*'/\\%"?'} & {*plain}
        assert ".." not in plain


# Ways in


Outcome = tuple[int, t.Any, t.Any, t.Any, t.Any]


def outcome(response: TestResponse, status: int | None = None) -> Outcome:
    body = response.json or {}
    found = tuple(body.get(name) for name in ("filename", "mimeType", "mediaType", "checksum"))
    return t.cast(Outcome, (status or response.status_code, *found))


Way = t.Callable[[FlaskClient, Headers, str, str, bytes], Outcome]


def by_multipart(
    client: FlaskClient, token: Headers, name: str, declared: str, content: bytes
) -> Outcome:
    lines = [
        f'--b\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{OWNER[key]}'.encode()
        for key in OWNER
    ]
    # The name as a field, which no browser has put quotes around.
    lines += [b'--b\r\nContent-Disposition: form-data; name="filename"\r\n\r\n' + name.encode()]
    lines += [
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="."',
        f"Content-Type: {declared}".encode(),
    ]
    body = b"\r\n".join([*lines, b"", content, b"--b--", b""])
    return outcome(
        client.post(
            "/media/files", headers=token, data=body, content_type="multipart/form-data; boundary=b"
        )
    )


def by_put(
    client: FlaskClient, token: Headers, name: str, declared: str, content: bytes
) -> Outcome:
    made = by_multipart(client, token, name, declared, content)
    assert made[0] == 201
    answer = client.get("/media/files?sort=-createdAt&limit=1", headers=token)
    (newest,) = (answer.json or {})["items"]
    path = f"/media/files/{newest['id']}/content"
    changed = client.put(
        path, headers=token, data=content, environ_overrides={"CONTENT_TYPE": declared}
    )
    return outcome(changed, 201 if changed.status_code == 200 else None)


def by_tus(
    client: FlaskClient, token: Headers, name: str, declared: str, content: bytes
) -> Outcome:
    values = {"kind": "files", "filename": name, "filetype": declared} | OWNER
    header = ",".join(
        f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items()
    )
    made = Tus(client, token).create(len(content), content, Upload_Metadata=header)
    if made.status_code != 201:
        return outcome(made)
    return outcome(client.get(made.headers["Content-Location"], headers=token), 201)


def by_direct_upload(
    client: FlaskClient, token: Headers, name: str, declared: str, content: bytes
) -> Outcome:
    checksum = hashlib.sha256(content).hexdigest()
    announced = {
        "filename": name,
        "mimeType": declared,
        "fileSize": len(content),
        "checksum": checksum,
    }
    begun = client.post(
        "/media/files/direct-uploads", headers=token, json=OWNER | announced | {"storageType": "s3"}
    )
    if begun.status_code != 201:
        return outcome(begun)
    request = begun.json or {}
    sent = requests.put(request["url"], data=content, headers=request["headers"], timeout=10)
    assert sent.status_code == 200
    return outcome(client.post(begun.headers["Location"], headers=token))


def by_function(
    client: FlaskClient, token: Headers, name: str, declared: str, content: bytes
) -> Outcome:
    with t.cast(Flask, client.application).app_context():
        record = save_media_storage("page", "1", content, filename=name or None, mime_type=declared)
    return 201, record.filename, record.mime_type, record.media_type, record.checksum


WAYS: dict[str, Way] = {
    "multipart": by_multipart, "put": by_put,
    "tus": by_tus, "direct": by_direct_upload, "function": by_function,
}  # fmt: skip


def send_by_all_ways(hosts: Hosts, name: str, declared: str, content: bytes) -> set[Outcome]:
    return {
        way(hosts.clients[mode], hosts.tokens[mode], name, declared, content)
        for mode in ("dual", "mongo")
        for way in WAYS.values()
    }


CLAIMS = [
    "",
    "application/octet-stream",
    "audio/webm;codecs=opus",
    "application/vnd.ms-excel",
    "text/html",
    "image/*",
    "x/y",
]
LIKELY = st.sampled_from([*(name for name in KEPT if name.isprintable()), *CHANGED]) | st.text(
    max_size=30
)


@pytest.mark.long
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=LIKELY, declared=st.sampled_from(CLAIMS), file=st.sampled_from(REAL_FILES))
@example(
    "notes.md",
    "application/octet-stream",
    RealFile("", b"# Notes", "text/markdown", "document", "document"),
)
@example(
    "a.csv", "application/vnd.ms-excel", RealFile("", b"a,b", "text/csv", "document", "document")
)
def test_what_is_kept_is_the_same_by_every_way(
    hosts: Hosts, name: str, declared: str, file: RealFile
) -> None:
    outcomes = send_by_all_ways(hosts, name, declared, file.content)
    assert len(outcomes) == 1, outcomes
    status, filename, *_ = outcomes.pop()
    assert (status, filename) == (201, label(name))


@pytest.mark.long
def test_a_direct_upload_is_accepted_like_any_other(hosts: Hosts) -> None:
    webm = next(file.content for file in REAL_FILES if file.name == "recorded.webm")
    for name, declared, content, expected in (
        ("notes.md", "application/octet-stream", b"# Notes", "text/markdown"),
        ("notes.md", "", b"# Notes", "text/markdown"),
        ("a.csv", "application/vnd.ms-excel", b"a,b", "text/csv"),
        ("voice.webm", "audio/webm;codecs=opus", webm, "audio/webm"),
        ("a.mp4", "video/mp4", b"%PDF-1.7\n", "application/pdf"),
        ("a.zip", "application/x-zip-compressed", b"PK\x05\x06" + bytes(18), "application/zip"),
        ("", "", png(), "image/png"),
    ):
        outcomes = send_by_all_ways(hosts, name, declared, content)
        assert [(status, mime_type) for status, _, mime_type, *_ in outcomes] == [
            (201, expected)
        ], (name, outcomes)


# Before the bytes

LIMITED = {
    "files": {"types": ["text/*", "image/png"]},
    "course-videos": {"extensions": ["mp4", "webm"]},
}

REFUSED_AT_ONCE = [
    ("files", "a.pdf", "application/pdf"), ("files", "a.mp4", ""), ("files", "a.png", "image/jpeg"),
    ("files", "a.exe", "application/octet-stream"), ("files", "a", "video/mp4"),
    ("course-videos", "a.mov", "video/quicktime"), ("course-videos", "a.mp3", "audio/mpeg"),
]  # fmt: skip
NOT_KNOWN_YET = [
    ("files", "notes.md", "application/octet-stream"),
    ("files", "a.csv", "application/vnd.ms-excel"),
    ("files", "a.png", ""), ("files", "", "image/png"),
    ("files", "", ""), ("files", "a", "image/*"),
    ("course-videos", "a.mp4", "video/mp4"), ("course-videos", "a.webm", "video/x-matroska"),
    ("course-videos", "a.mp4", ""),
]  # fmt: skip


@pytest.fixture
def limited(make_app: MakeApp, storage_options: StorageOptions) -> tuple[FlaskClient, Headers]:
    given_options = {
        "DUALMEDIA_STORAGES": storage_options("s3"),
        "DUALMEDIA_ALLOWED_STORAGES": ["s3"],
    }
    app = make_app(
        "mongo", DUALMEDIA_POLICY=LIMITED, DUALMEDIA_REFERENCES={"course": None}, **given_options
    )
    return app.test_client(), Tokens.of(app).alice


@pytest.mark.parametrize(
    ("kind", "name", "declared", "status"),
    [(*values, 415) for values in REFUSED_AT_ONCE] + [(*values, 201) for values in NOT_KNOWN_YET],
)
def test_what_no_bytes_can_put_right_is_refused_before_them(
    limited: tuple[FlaskClient, Headers], kind: str, name: str, declared: str, status: int
) -> None:
    client, token = limited
    owner = OWNER if kind == "files" else {"mongoCourseId": "1"}
    announced = {
        "filename": name,
        "mimeType": declared,
        "fileSize": 10,
        "checksum": "0" * 64,
        "storageType": "s3",
    }
    begun = client.post(
        f"/media/{kind}/direct-uploads",
        headers=token,
        data=json.dumps(owner | announced),
        content_type="application/json",
    )
    assert begun.status_code == status, begun.json
    values = {"kind": kind, "filename": name, "filetype": declared} | owner
    header = ",".join(
        f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items()
    )
    assert Tus(client, token).create(10, Upload_Metadata=header).status_code == status


def test_a_film_that_is_none_is_refused_by_its_bytes(limited: tuple[FlaskClient, Headers]) -> None:
    client, token = limited
    for content, status in ((mp4(), 201), (b"<html>", 415), (png(), 415)):
        values = {"kind": "course-videos", "filename": "a.mp4", "mongoCourseId": "1"}
        header = ",".join(
            f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items()
        )
        made = Tus(client, token).create(len(content), content, Upload_Metadata=header)
        assert made.status_code == status
