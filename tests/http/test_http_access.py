"""Rights that the table in ``test_access_matrix.py`` leaves open: how people become admins, and
where tokens are taken from."""

from __future__ import annotations

import typing as t

from flask.testing import FlaskClient

from ..conftest import MakeApp
from ..samples import PDF, Owners, Tokens, bearer, part, post_file, post_form


def test_private_content_becomes_public_and_back(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    location = post_file(client, tokens.alice, "files", owners).headers["Location"]
    for public, status in ((True, 200), (False, 401)):
        client.patch(location, json={"isPublic": public}, headers=tokens.alice)
        assert client.get(f"{location}/content").status_code == status
        assert client.get(location).status_code == 401


def test_tokens_are_not_taken_from_urls_and_cookies(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    """Tokens in URLs would be in logs, histories and referrers."""
    location = post_file(client, tokens.alice, "files", owners).headers["Location"]
    token = tokens.alice["Authorization"].removeprefix("Bearer ")
    client.set_cookie("access_token_cookie", token)
    for path in (location, f"{location}/content"):
        for query in ("jwt", "token", "access_token"):
            assert client.get(f"{path}?{query}={token}").status_code == 401


ADMINS: list[tuple[dict[str, t.Any], bool]] = [
    ({"role": "admin"}, True),
    ({"roles": ["editor", "admin"]}, True),
    ({"role": "user", "roles": ["admin"]}, True),
    ({}, False),
    ({"role": "user"}, False),
    ({"role": "administrator"}, False),
    ({"role": ["admin"]}, False),
    ({"roles": "admin"}, False),
    ({"roles": "not an admin"}, False),
    ({"roles": {"admin": True}}, False),
    ({"roles": [["admin"]]}, False),
    ({"admin": True}, False),
    ({"is_admin": True}, False),
]


def test_who_is_an_admin(make_app: MakeApp) -> None:
    app = make_app("mongo")
    client = app.test_client()
    form = {"file": part(PDF), "referenceType": "page", "referenceId": "1"}
    location = post_form(client, bearer(app, "alice"), "/media/files", form).location
    for claims, is_admin in ADMINS:
        answer = client.get(location, headers=bearer(app, "somebody", **claims))
        assert answer.status_code == (200 if is_admin else 404), claims


def test_the_role_of_admins_can_be_named(make_app: MakeApp) -> None:
    app = make_app("mongo", DUALMEDIA_ADMIN_ROLE="librarian")
    client = app.test_client()
    form = {"file": part(PDF), "referenceType": "page", "referenceId": "1"}
    location = post_form(client, bearer(app, "alice"), "/media/files", form).location
    statuses = [
        client.get(location, headers=bearer(app, "x", role=role)).status_code
        for role in ("librarian", "admin")
    ]
    assert statuses == [200, 404]


def test_a_token_of_another_app_is_worth_nothing(make_app: MakeApp, client: FlaskClient) -> None:
    other = make_app("mongo", JWT_SECRET_KEY="another key of more than thirty-two bytes!")
    assert client.get("/media/files", headers=bearer(other, "alice")).status_code == 401
