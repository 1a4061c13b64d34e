"""Clients, forms and token checks add fields of their own to those of a record."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from ..conftest import MakeApp, StorageOptions
from ..samples import PDF, Headers, Owners, Tokens, Tus, bearer, encoded, part, post_file

Send = t.Callable[[dict[str, t.Any]], TestResponse]

ADDED = {
    "csrf_token": "x", "form-csrf_token": "x", "access_token": "x", "refresh_token": "x",
    "_charset_": "UTF-8", "submit": "Send", "_isPublic": "on",
    "name": "a.pdf", "type": "application/pdf", "relativePath": "null",
    "fullPath": "a/a.pdf", "_": "1700000000000",
    "g-recaptcha-response": "x",
}  # fmt: skip

MISSPELT = [
    "titel",
    "is_public",
    "ispublic",
    "mongoProductID",
    "_title",
    "Name",
    "token",
    "x",
    "chunk",
    "dzchunkindex",
]


@pytest.fixture
def mode() -> str:
    return "mongo"


@pytest.fixture
def app(make_app: MakeApp, mode: str, storage_options: StorageOptions) -> Flask:
    return make_app(
        mode, DUALMEDIA_STORAGES=storage_options("s3"), DUALMEDIA_ALLOWED_STORAGES=["s3"]
    )


def ways(client: FlaskClient, token: Headers, owners: Owners) -> dict[str, Send]:
    """Every way in, as functions that begin media with some more fields."""
    owner = {"referenceType": "user", "referenceId": str(owners.user)}
    announced = {
        "filename": "a.pdf",
        "mimeType": "",
        "fileSize": 9,
        "checksum": "0" * 64,
        "storageType": "s3",
    }

    def resume(more: dict[str, t.Any]) -> TestResponse:
        values = {"kind": "files", "filename": "a.pdf", **owner, **more}
        return Tus(client, token).create(9, Upload_Metadata=encoded(values))

    def edit(more: dict[str, t.Any]) -> TestResponse:
        return client.patch(
            post_file(client, token, "files", owners).headers["Location"], json=more, headers=token
        )

    def link(more: dict[str, t.Any]) -> TestResponse:
        item = post_file(client, token, "files", owners).headers["Location"]
        return client.post(f"{item}/link", json=more, headers=token)

    return {
        "multipart": lambda more: client.post(
            "/media/files", data=owner | more | {"file": part(PDF)}, headers=token
        ),
        "JSON": lambda more: client.post(
            "/media/files", json=owner | {"url": "/a"} | more, headers=token
        ),
        "tus": resume,
        "direct": lambda more: client.post(
            "/media/files/direct-uploads", json=owner | announced | more, headers=token
        ),
        "edit": edit,
        "link": link,
    }


def test_what_others_add_is_passed_over_in_every_way_in(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    for way, send in ways(client, tokens.alice, owners).items():
        more = {
            name: value for name, value in ADDED.items() if name != "_isPublic" or way != "link"
        }
        assert send(more).status_code in (200, 201), (way, more)


def test_what_is_misspelt_is_an_error_in_every_way_in(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    for way, send in ways(client, tokens.alice, owners).items():
        for name in MISSPELT:
            answer = send({name: "x"})
            assert (answer.status_code, [*(answer.json or {})["errors"]]) == (422, [name]), way


def test_tokens_may_have_names_that_the_app_has_chosen(make_app: MakeApp) -> None:
    app = make_app(
        "mongo",
        JWT_ACCESS_CSRF_FIELD_NAME="proof",
        JWT_JSON_KEY="ticket",
        JWT_TOKEN_LOCATION=["headers", "json"],
        WTF_CSRF_FIELD_NAME="wtf",
    )
    token = bearer(app, "alice")
    client = app.test_client()
    values = {"referenceType": "page", "referenceId": "1", "url": "/a"}
    for name in ("proof", "wtf"):
        answer = client.post("/media/files", json=values | {name: "x"}, headers=token)
        assert answer.status_code == 201
    ticket = token["Authorization"].removeprefix("Bearer ")
    assert client.post("/media/files", json=values | {"ticket": ticket}).status_code == 201


def test_fields_of_ours_are_never_passed_over(make_app: MakeApp) -> None:
    app = make_app("mongo", JWT_ACCESS_CSRF_FIELD_NAME="title")
    values = {"referenceType": "page", "referenceId": "1", "url": "/a", "title": "A title"}
    answer = app.test_client().post("/media/files", json=values, headers=bearer(app, "alice"))
    assert (answer.json or {})["title"] == "A title"


def test_checkboxes_come_with_a_hidden_field(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    cases: list[tuple[str | list[str], bool]] = [
        (["false", "true"], True),
        (["true", "false"], True),
        (["false", "on"], True),
        (["0", "1"], True),
        (["false", "false"], False),
        ("on", True),
    ]
    for sent, is_public in cases:
        answer = post_file(client, tokens.alice, "files", owners, isPublic=sent)
        assert (answer.json or {})["isPublic"] is is_public, sent


def test_values_that_are_repeated(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    """The same value is no error, and several are one."""
    assert (post_file(client, tokens.alice, "files", owners, title=["a", "a"]).json or {})[
        "title"
    ] == "a"
    text = (
        '{"referenceType": "user", "referenceId": "%s", "url": "/a", "title": "a", "title": "%s"}'
    )
    for title, status in (("a", 201), ("b", 422)):
        answer = client.post(
            "/media/files",
            data=text % (owners.user, title),
            content_type="application/json",
            headers=tokens.alice,
        )
        assert answer.status_code == status
    for query, status in (
        ("limit=1&limit=1", 200),
        ("limit=1&limit=2", 422),
        ("_=17&limit=1", 200),
    ):
        assert client.get(f"/media/files?{query}", headers=tokens.alice).status_code == status, (
            query
        )
    twice = {"title": ["a", "b"], "isPublic": ["false", "perhaps"]}
    answer = post_file(client, tokens.alice, "files", owners, **twice)
    expected = {name: ["Sent more than once."] for name in twice}
    assert (answer.status_code, (answer.json or {})["errors"]) == (422, expected)


def test_a_form_says_which_encoding_it_has(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    for charset, status in (
        ("utf-8", 201),
        ("UTF-8", 201),
        ("", 201),
        ("windows-1252", 422),
        ("utf-16", 422),
    ):
        answer = post_file(client, tokens.alice, "files", owners, _charset_=charset)
        assert answer.status_code == status, charset


def test_download_needs_no_value(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    item = post_file(client, tokens.alice, "product-images", owners).headers["Location"]
    for query, disposition in (
        ("download", "attachment"),
        ("download=", "attachment"),
        ("download&download", "attachment"),
        ("download=false&download=true", "attachment"),
        ("download=1", "attachment"),
        ("download=0", "inline"),
        ("v=2", "inline"),
    ):
        answer = client.get(f"{item}/content?{query}", headers=tokens.alice)
        assert answer.status_code == 200, query
        assert answer.headers["Content-Disposition"].startswith(disposition), query
    assert client.get(f"{item}/content?download=perhaps", headers=tokens.alice).status_code == 422
