"""Who may do what over HTTP."""

from __future__ import annotations

import base64
import json
import re
import typing as t
import uuid
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token, create_refresh_token
from werkzeug.routing import Rule

from flask_dualmedia.models import KINDS

from .conftest import MakeApp
from .samples import PDF, SAMPLES, Headers, Owners, Tokens, bearer, of_owner, part, post_file, post_form

# Routes without any token, by endpoint. Content is the one more, where the record is public.
PUBLIC = {"dualmedia.health", "dualmedia.openapi_json", "dualmedia.openapi_page"}


def rules_of(app: Flask) -> list[Rule]:
    return [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("dualmedia.")]


def test_every_route_wants_a_token(client: FlaskClient, app: Flask, tokens: Tokens, owners: Owners) -> None:
    """T20: a walk of the routes, with ids of private records, of public ones and of nothing."""
    private = {k: (post_file(client, tokens.alice, k, owners).json or {})["id"] for k in KINDS}
    public = {k: (post_file(client, tokens.alice, k, owners, isPublic="1").json or {})["id"] for k in KINDS}
    open_routes, walked = set(), 0
    for rule in rules_of(app):
        kind = rule.rule.split("/")[2]
        for media_id in (private.get(kind), public.get(kind), str(uuid.uuid4()), "no-uuid"):
            path = re.sub("<string:[a-z_]+>", str(media_id), rule.rule)
            assert "<" not in path
            for method in (rule.methods or set()) - {"OPTIONS"}:
                answer = client.open(path, method=method)
                walked += 1
                if answer.status_code != 401:
                    assert answer.status_code == 200, (method, path)
                    open_routes.add((rule.endpoint, method, media_id == public.get(kind)))
                    continue
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                if method != "HEAD":
                    assert (answer.json or {})["code"] == 401
    expected = {(endpoint, method, False) for endpoint in PUBLIC for method in ("GET", "HEAD")}
    of_content = {f"dualmedia.{kind.replace('-', '_')}_content" for kind in KINDS}
    expected |= {(endpoint, method, True) for endpoint in of_content for method in ("GET", "HEAD")}
    # The routes without an id were asked once for each of the ids.
    assert {(e, m, p and e in of_content) for e, m, p in open_routes} == expected
    assert walked > 100


def callers(app: Flask) -> dict[str, Headers]:
    """Everybody who may ask."""
    tokens = Tokens.of(app)
    with app.app_context():
        expired = create_access_token("alice", expires_delta=timedelta(seconds=-10))
        refresh = create_refresh_token("alice")
        future = create_access_token("alice", additional_claims={"nbf": 2**32})
    good = tokens.alice["Authorization"].removeprefix("Bearer ")
    header, payload, signature = good.split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))) | {"role": "admin"}
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    bad = {
        "expired": f"Bearer {expired}",
        "refresh": f"Bearer {refresh}",
        "not yet": f"Bearer {future}",
        "none alg": f"Bearer {unsigned}.{payload}.",
        "forged": f"Bearer {header}.{forged}.{signature}",
        "cut": f"Bearer {good[:-5]}",
        "garbage": "Bearer garbage",
        "empty": "Bearer ",
        "umlaut": "Bearer ä.ö.ü",
        "basic": "Basic YWxpY2U6cGFzc3dvcmQ=",
        "bare": good,
    }
    good_ones = {"alice": tokens.alice, "bob": tokens.bob, "admin": tokens.admin}
    return {"nobody": {}, **good_ones, **{name: {"Authorization": value} for name, value in bad.items()}}


# Route: status for another user, and for the uploader or an admin; by visibility.
MATRIX: dict[tuple[str, str], dict[bool, tuple[int, int]]] = {
    ("GET", ""): {False: (404, 200), True: (200, 200)},
    ("HEAD", ""): {False: (404, 200), True: (200, 200)},
    ("GET", "/content"): {False: (404, 200), True: (200, 200)},
    ("HEAD", "/content"): {False: (404, 200), True: (200, 200)},
    ("POST", "/accesses"): {False: (404, 204), True: (204, 204)},
    ("PATCH", ""): {False: (404, 200), True: (403, 200)},
    ("PUT", "/content"): {False: (404, 200), True: (403, 200)},
    ("DELETE", ""): {False: (404, 204), True: (403, 204)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_who_may_do_what(client: FlaskClient, app: Flask, owners: Owners, kind: str) -> None:
    """T20, T21: one matrix of people against every route. What may not be seen is not there."""
    people = callers(app)
    for public in (False, True):
        location = post_file(client, people["alice"], kind, owners, isPublic=str(public)).headers["Location"]
        for (method, path), by_visibility in MATRIX.items():
            other, allowed = by_visibility[public]
            content_is_open = public and path == "/content" and method in ("GET", "HEAD")
            for who, headers in people.items():
                if who in ("alice", "admin"):
                    expected = allowed
                elif who == "bob":
                    expected = other
                else:
                    expected = 200 if content_is_open else 401
                body: dict[str, t.Any] = {"data": SAMPLES[kind]} if method == "PUT" else {}
                body = {"json": {"isPublic": public}} if method == "PATCH" else body
                answer = client.open(location + path, method=method, headers=headers, **body)
                assert answer.status_code == expected, (method, path, who, public, answer.text)
                if expected >= 400 and method != "HEAD":
                    assert answer.json is not None
                    assert answer.json["code"] == expected
                if (method, answer.status_code) == ("DELETE", 204):
                    again = post_file(client, people["alice"], kind, owners, isPublic=str(public))
                    location = again.headers["Location"]


@pytest.mark.parametrize("kind", KINDS)
def test_who_may_list_and_create(client: FlaskClient, app: Flask, owners: Owners, kind: str) -> None:
    for who, headers in callers(app).items():
        known = who in ("alice", "bob", "admin")
        assert client.get(f"/media/{kind}", headers=headers).status_code == (200 if known else 401), who
        assert post_file(client, headers, kind, owners).status_code == (201 if known else 401), who
    records = client.get(f"/media/{kind}", headers=Tokens.of(app).admin).json
    assert records is not None
    assert {record["uploadedBy"] for record in records["items"]} == {"alice", "bob", "root"}


def test_nobody_learns_what_exists(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    """T21: the answers about somebody else's record and about none are alike, to the id."""
    location = post_file(client, tokens.alice, "files", owners).headers["Location"]
    nothing = f"/media/files/{uuid.uuid4()}"
    for headers in ({}, tokens.bob):
        for method, path in MATRIX:
            answers = [client.open(place + path, method=method, headers=headers) for place in (location, nothing)]
            texts = [a.text.replace(p, "") for a, p in zip(answers, (location[-36:], nothing[-36:]), strict=True)]
            assert texts[0] == texts[1]
            assert answers[0].status_code == answers[1].status_code


def test_private_content_becomes_public_and_back(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    location = post_file(client, tokens.alice, "files", owners).headers["Location"]
    for public, status in ((True, 200), (False, 401)):
        client.patch(location, json={"isPublic": public}, headers=tokens.alice)
        assert client.get(f"{location}/content").status_code == status
        assert client.get(location).status_code == 401


def test_external_urls_of_private_media_are_private(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    """T21: a redirect asks the same question as the bytes do."""
    body = of_owner("files", owners) | {"url": "https://cdn.example/secret"}
    location = client.post("/media/files", json=body, headers=tokens.alice).headers["Location"]
    answers = {
        "nobody": client.get(f"{location}/content"),
        "bob": client.get(f"{location}/content", headers=tokens.bob),
        "alice": client.get(f"{location}/content", headers=tokens.alice),
    }
    assert {who: answer.status_code for who, answer in answers.items()} == {"nobody": 401, "bob": 404, "alice": 302}
    assert "secret" not in answers["nobody"].text + answers["bob"].text


def test_tokens_are_not_taken_from_urls_and_cookies(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    """T22: they would be in logs, histories and referrers."""
    location = post_file(client, tokens.alice, "files", owners).headers["Location"]
    token = tokens.alice["Authorization"].removeprefix("Bearer ")
    client.set_cookie("access_token_cookie", token)
    for path in (location, f"{location}/content"):
        for query in ("jwt", "token", "access_token"):
            assert client.get(f"{path}?{query}={token}").status_code == 401


@pytest.mark.parametrize(
    ("claims", "is_admin"),
    [
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
    ],
)
def test_who_is_an_admin(make_app: MakeApp, claims: dict[str, t.Any], is_admin: bool) -> None:
    app = make_app("mongo")
    client = app.test_client()
    form = {"file": part(PDF), "referenceType": "page", "referenceId": "1"}
    made = post_form(client, bearer(app, "alice"), "/media/files", form)
    answer = client.get(made.location, headers=bearer(app, "somebody", **claims))
    assert answer.status_code == (200 if is_admin else 404)


def test_the_role_of_admins_can_be_named(make_app: MakeApp) -> None:
    app = make_app("mongo", DUALMEDIA_ADMIN_ROLE="librarian")
    client = app.test_client()
    form = {"file": part(PDF), "referenceType": "page", "referenceId": "1"}
    location = post_form(client, bearer(app, "alice"), "/media/files", form).location
    statuses = [
        client.get(location, headers=bearer(app, "x", role=role)).status_code for role in ("librarian", "admin")
    ]
    assert statuses == [200, 404]


def test_a_token_of_another_app_is_worth_nothing(make_app: MakeApp, client: FlaskClient) -> None:
    other = make_app("mongo", JWT_SECRET_KEY="another key of more than thirty-two bytes!")
    assert client.get("/media/files", headers=bearer(other, "alice")).status_code == 401
