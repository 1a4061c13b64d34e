"""Rights over HTTP: one table of everybody at every route."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import typing as t
import uuid
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from bson import ObjectId
from flask import Flask
from flask_jwt_extended import create_access_token, create_refresh_token
from werkzeug.test import TestResponse

from example_app.security import authorize
from flask_dualmedia.content.sniffing import sniff
from flask_dualmedia.models import KINDS
from flask_dualmedia.state import State

from ..conftest import MakeApp, StorageOptions
from ..samples import (
    OFFSET_TYPE,
    SAMPLES,
    URL_FIELDS,
    Headers,
    Owners,
    bearer,
    encoded,
    of_owner,
    part,
)

PEOPLE = ("nobody", "expired", "invalid", "other", "student", "owner", "admin", "link", "stray")
"""The columns of the table.

"nobody" has no token, "expired" and "invalid" a bad one; "other" has one and nothing more. The
owner has uploaded the media, and made the document that it belongs to. The last two have no token
and a signed link: "link" one of the record in question, "stray" one of another record.
"""

Row = tuple[str, str, str]
"""Method, path, and which record: a private or a public one, of bytes or of a URL, or none. Of the
collections, it is the one to be created."""

Table = dict[Row, dict[str, int]]


def rows(text: str) -> Table:
    table: Table = {}
    for line in filter(None, text.splitlines()):
        methods, path, records, *statuses = line.split()
        for method in methods.split(","):
            for record in records.split(","):
                assert (method, path, record) not in table
                table[method, path, record] = dict(zip(PEOPLE, map(int, statuses), strict=True))
    return table


# Courses, under the rule of the example app: students see a course's media, and its creator alone
# adds some. The bytes of direct uploads have not come.
#
#                                                nobody   invalid   student     admin     stray
#                                      record        expired     other     owner      link
TABLE = rows("""
GET,HEAD   /health                     -            200  200  200  200  200  200  200  200  200
OPTIONS    /health                     -            200  200  200  200  200  200  200  200  200
GET,HEAD   /openapi.json               -            200  200  200  200  200  200  200  200  200
OPTIONS    /openapi.json               -            200  200  200  200  200  200  200  200  200
GET,HEAD   /docs                       -            200  200  200  200  200  200  200  200  200
OPTIONS    /docs                       -            200  200  200  200  200  200  200  200  200
GET,HEAD   /stats                      -            401  401  401  200  200  200  200  401  401
OPTIONS    /stats                      -            200  200  200  200  200  200  200  200  200

GET,HEAD   /<kind>                     -            401  401  401  200  200  200  200  401  401
POST       /<kind>                     private      401  401  401  403  403  201  201  401  401
POST       /<kind>                     public       401  401  401  403  403  201  201  401  401
POST       /<kind>                     private-url  401  401  401  403  403  201  201  401  401
OPTIONS    /<kind>                     -            200  200  200  200  200  200  200  200  200

GET,HEAD   /<kind>/<id>                private      401  401  401  404  200  200  200  401  401
GET,HEAD   /<kind>/<id>                public       401  401  401  200  200  200  200  401  401
PATCH      /<kind>/<id>                private      401  401  401  404  403  200  200  401  401
PATCH      /<kind>/<id>                public       401  401  401  403  403  200  200  401  401
DELETE     /<kind>/<id>                private      401  401  401  404  403  204  204  401  401
DELETE     /<kind>/<id>                public       401  401  401  403  403  204  204  401  401
OPTIONS    /<kind>/<id>                private      200  200  200  200  200  200  200  200  200

GET,HEAD   /<kind>/<id>/content        private      401  401  401  404  200  200  200  200  403
GET,HEAD   /<kind>/<id>/content        public       200  200  200  200  200  200  200  200  200
GET,HEAD   /<kind>/<id>/content        private-url  401  401  401  404  302  302  302  302  403
GET,HEAD   /<kind>/<id>/content        public-url   302  302  302  302  302  302  302  302  302
PUT        /<kind>/<id>/content        private      401  401  401  404  403  200  200  401  401
PUT        /<kind>/<id>/content        public       401  401  401  403  403  200  200  401  401
OPTIONS    /<kind>/<id>/content        private      200  200  200  200  200  200  200  200  200

GET,HEAD   /<kind>/<id>/variants       private      401  401  401  404  200  200  200  401  401
GET,HEAD   /<kind>/<id>/variants       public       401  401  401  200  200  200  200  401  401
GET,HEAD   /<kind>/<id>/variants       private-url  401  401  401  404  200  200  200  401  401
OPTIONS    /<kind>/<id>/variants       private      200  200  200  200  200  200  200  200  200

GET,HEAD   /<kind>/<id>/variants/<id>  private      401  401  401  404  200  200  200  200  403
GET,HEAD   /<kind>/<id>/variants/<id>  public       200  200  200  200  200  200  200  200  200
GET,HEAD   /<kind>/<id>/variants/<id>  private-url  401  401  401  404  404  404  404  404  403
GET,HEAD   /<kind>/<id>/variants/<id>  public-url   404  404  404  404  404  404  404  404  404
OPTIONS    /<kind>/<id>/variants/<id>  private      200  200  200  200  200  200  200  200  200

POST       /<kind>/<id>/accesses       private      401  401  401  404  204  204  204  401  401
POST       /<kind>/<id>/accesses       public       401  401  401  204  204  204  204  401  401
OPTIONS    /<kind>/<id>/accesses       private      200  200  200  200  200  200  200  200  200

POST       /<kind>/<id>/link           private      401  401  401  404  201  201  201  401  401
POST       /<kind>/<id>/link           public       401  401  401  201  201  201  201  401  401
DELETE     /<kind>/<id>/link           private      401  401  401  404  403  204  204  401  401
DELETE     /<kind>/<id>/link           public       401  401  401  403  403  204  204  401  401
OPTIONS    /<kind>/<id>/link           private      200  200  200  200  200  200  200  200  200

POST       /<kind>/direct-uploads      private      401  401  401  403  403  201  201  401  401
POST       /<kind>/direct-uploads      public       401  401  401  403  403  201  201  401  401
OPTIONS    /<kind>/direct-uploads      -            200  200  200  200  200  200  200  200  200
POST       /<kind>/direct-uploads/<id> private      401  401  401  404  404  409  409  401  401
POST       /<kind>/direct-uploads/<id> public       401  401  401  404  404  409  409  401  401
OPTIONS    /<kind>/direct-uploads/<id> private      200  200  200  200  200  200  200  200  200

POST       /uploads                    private      401  401  401  403  403  201  201  401  401
POST       /uploads                    public       401  401  401  403  403  201  201  401  401
OPTIONS    /uploads                    -            204  204  204  204  204  204  204  204  204
HEAD       /uploads/<id>               private      401  401  401  404  404  200  200  401  401
HEAD       /uploads/<id>               public       401  401  401  404  404  200  200  401  401
PATCH      /uploads/<id>               private      401  401  401  404  404  204  204  401  401
PATCH      /uploads/<id>               public       401  401  401  404  404  204  204  401  401
DELETE     /uploads/<id>               private      401  401  401  404  404  204  204  401  401
DELETE     /uploads/<id>               public       401  401  401  404  404  204  204  401  401
POST       /uploads/<id>               private      401  401  401  404  404  204  204  401  401
OPTIONS    /uploads/<id>               private      204  204  204  204  204  204  204  204  204
""")

# What differs if the host has no rule. Without a rule nobody is a student, and the example's rule
# knows students of courses alone: everywhere else they count as others.
WITHOUT_RULE = rows("""
POST       /<kind>                     private      401  401  401  201  201  201  201  401  401
POST       /<kind>                     public       401  401  401  201  201  201  201  401  401
POST       /<kind>                     private-url  401  401  401  201  201  201  201  401  401
POST       /<kind>/direct-uploads      private      401  401  401  201  201  201  201  401  401
POST       /<kind>/direct-uploads      public       401  401  401  201  201  201  201  401  401
POST       /uploads                    private      401  401  401  201  201  201  201  401  401
POST       /uploads                    public       401  401  401  201  201  201  201  401  401
""")


# Whoever may read media that is no image learns that nothing is made of it.
OF_IMAGES_ALONE = "/<kind>/<id>/variants/<id>"


def table_of(rule: str, kind: str) -> Table:
    table = dict(TABLE)
    for row, statuses in TABLE.items():
        if row[1] == OF_IMAGES_ALONE and row[0] != "OPTIONS" and kind != "product-images":
            table[row] = {who: 404 if status == 200 else status for who, status in statuses.items()}
    if rule == "rule" and kind.startswith("course-"):
        return table
    table |= {} if rule == "rule" else WITHOUT_RULE
    return {row: statuses | {"student": statuses["other"]} for row, statuses in table.items()}


def test_the_table_has_every_route_and_method(make_app: MakeApp) -> None:
    """A route that is new, or not there any more, has to be judged here."""
    rules = [
        rule
        for rule in make_app("mongo").url_map.iter_rules()
        if rule.endpoint.startswith("dualmedia.")
    ]
    routes = {
        (method, re.sub("<string:[a-z_]+>", "<id>", rule.rule))
        for rule in rules
        for method in rule.methods or ()
    }
    in_table = {
        (method, f"/media{path}".replace("<kind>", kind))
        for method, path, _ in TABLE
        for kind in KINDS
    }
    assert routes == in_table


RECORDS = ("private", "public", "private-url", "public-url")

UNFINISHED = ("/uploads/<id>", "/<kind>/direct-uploads/<id>")
"""Paths of what becomes a record yet."""

TUS = {"Tus-Resumable": "1.0.0"}


class World:
    """Everybody, and the owner's records of each kind by their names in the table."""

    def __init__(self, app: Flask, owners: Owners) -> None:
        self.owners, self._client = owners, app.test_client()
        alice = str(owners.user)
        good = bearer(app, alice)
        with app.app_context():
            expired = create_access_token(alice, expires_delta=timedelta(seconds=-10))
        self.tokens = {
            "expired": {"Authorization": f"Bearer {expired}"},
            "invalid": {"Authorization": f"Bearer {forged(good, role='admin')}"},
            "other": bearer(app, "bob"),
            "student": bearer(app, "student"),
            "owner": good,
            "admin": bearer(app, "root", role="admin"),
        }
        self.ids: dict[str, dict[str, str]] = {}
        for kind in KINDS:
            self.ids[kind] = {record: self.make(kind, record) for record in RECORDS}
        self._links: dict[str, dict[str, str]] = {}
        for kind in KINDS:
            self._links[kind] = {record: self._link(kind, record) for record in RECORDS}

    def make(self, kind: str, record: str, path: str = "/<kind>") -> str:
        """Another record of the owner's, or upload, made at a path; its id."""
        answer = self.ask("owner", kind, ("POST", path, record))
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"].rpartition("/")[2]

    def _link(self, kind: str, record: str) -> str:
        answer = self.ask("owner", kind, ("POST", "/<kind>/<id>/link", record))
        return urlsplit((answer.json or {})["url"]).query

    def ask(self, who: str, kind: str, row: Row, media_id: str = "") -> TestResponse:
        """The request of one cell, in which nothing but the rights can be wrong.

        :param media_id: Another record's than the one that the row names.
        """
        method, path, record = row
        media_id = media_id or self.ids.get(kind, {}).get(record, "")
        url = path.replace("variants/<id>", "variants/thumb.jpg")
        url = url.replace("<kind>", kind).replace("<id>", media_id)
        headers, more = self._sent(kind, row)
        if who == "link":
            more["query_string"] = self._links[kind][record if record in RECORDS else "private"]
        elif who == "stray":
            more["query_string"] = self._links[kind]["private" if record != "private" else "public"]
        headers |= self.tokens.get(who, {})
        return self._client.open(f"/media{url}", method=method, headers=headers, **more)

    def _sent(self, kind: str, row: Row) -> tuple[Headers, dict[str, t.Any]]:
        method, path, record = row
        fields = of_owner(kind, self.owners) | {"isPublic": str(record.startswith("public"))}
        is_public = {"isPublic": record.startswith("public")}  # in JSON a boolean, in forms text
        match method, path:
            case "GET" | "HEAD", "/stats":
                document = {"referenceType": "course", "referenceId": str(self.owners.course)}
                return {}, {"query_string": document}
            case "POST", "/<kind>" if record.endswith("-url"):
                url = {URL_FIELDS[kind]: "https://cdn.example/secret"}
                return {}, {"json": fields | is_public | url}
            case "POST", "/<kind>":
                return {}, {"data": fields | {"file": part(SAMPLES[kind])}}
            case "PATCH", "/<kind>/<id>":
                return {}, {"json": {"isPublic": record == "public"}}
            case "PUT", _:
                return {}, {"data": SAMPLES[kind]}
            case "POST", "/<kind>/direct-uploads":
                content = SAMPLES[kind]
                file = {
                    "filename": "file",
                    "mimeType": sniff(content),
                    "storageType": "s3",
                    "fileSize": len(content),
                    "checksum": hashlib.sha256(content).hexdigest(),
                }
                return {}, {"json": fields | is_public | file}
            case "POST", "/uploads":
                metadata = encoded(fields | {"kind": kind})
                return TUS | {"Upload-Length": "10", "Upload-Metadata": metadata}, {}
            case _, "/uploads/<id>":
                override = {"X-HTTP-Method-Override": "PATCH"} if method == "POST" else {}
                return TUS | override | {"Upload-Offset": "0", "Content-Type": OFFSET_TYPE}, {}
        return {}, {}


def forged(good: Headers, **claims: t.Any) -> str:
    """A token with more claims than were signed."""
    header, payload, signature = good["Authorization"].removeprefix("Bearer ").split(".")
    held = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    more = base64.urlsafe_b64encode(json.dumps(held | claims).encode()).decode().rstrip("=")
    return f"{header}.{more}.{signature}"


@pytest.fixture(params=["rule", "no rule"])
def rule(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def app(make_app: MakeApp, rule: str, storage_options: StorageOptions) -> Flask:
    """An app in one mode each: the rule knows no modes. Other tests check what a database does
    in lists."""
    s3 = {"DUALMEDIA_STORAGES": storage_options("s3"), "DUALMEDIA_ALLOWED_STORAGES": ["s3"]}
    if rule == "no rule":
        return make_app("mongo", **s3)
    return make_app("dual", DUALMEDIA_AUTHORIZE=authorize, DUALMEDIA_OWNER_FIELD="creator_id", **s3)


@pytest.fixture
def world(app: Flask, state: State) -> World:
    documents, user = state.mongo, ObjectId()
    made = {"creator_id": str(user)}
    documents["users"].insert_one({"_id": user})
    product = documents["products"].insert_one(dict(made)).inserted_id
    course = documents["courses"].insert_one(made | {"student_ids": ["student"]}).inserted_id
    return World(app, Owners(product, course, user))


def test_everybody_at_every_route(world: World, rule: str) -> None:
    """Every cell of the table. A record that one of them deletes is made for that cell."""
    wrong, asked = [], 0
    for kind in KINDS:
        for row, statuses in table_of(rule, kind).items():
            method, path, record = row
            if "<kind>" not in path and path != "/uploads" and kind != "files":
                continue  # knows no kinds
            collection, upload = "/<kind>", ""
            if path in UNFINISHED:
                collection = path.removesuffix("/<id>")
                upload = world.make(kind, record, collection)
            for who, status in statuses.items():
                media_id = upload
                if (method, status) == ("DELETE", 204):
                    media_id = world.make(kind, record, collection)
                answer = world.ask(who, kind, row, media_id)
                asked += 1
                if problem := problem_of(answer, status, kind, row):
                    wrong.append(f"{kind}: {method} {path} of {record} by {who}: {problem}")
    assert not wrong, "\n".join(wrong)
    assert asked > 1000


def problem_of(answer: TestResponse, status: int, kind: str, row: Row) -> str | None:
    if answer.status_code != status:
        return f"{answer.status_code}, not {status}"
    if status == 401 and answer.headers.get("WWW-Authenticate") != "Bearer":
        return "it does not say which scheme"
    if status >= 400 and row[0] != "HEAD" and (answer.json or {})["code"] != status:
        return "it has not the shape of errors"
    if (*row[:2], status) == ("GET", "/<kind>/<id>/content", 200) and answer.data != SAMPLES[kind]:
        return "it has other bytes"
    return None


def test_what_may_not_be_read_is_not_listed(world: World, rule: str) -> None:
    """Neither among records nor in the stats of the document."""
    for kind, ids in world.ids.items():
        table = table_of(rule, kind)
        paths = ("/<kind>", "/stats") if kind.startswith("course-") else ("/<kind>",)
        for who in ("other", "student", "owner", "admin"):
            readable = set()
            for record in RECORDS:
                statuses = table["GET", "/<kind>/<id>", record.removesuffix("-url")]
                if statuses[who] == 200:
                    readable.add(ids[record])
            for path in paths:
                answer = world.ask(who, kind, ("GET", path, "-"))
                listed = {item["id"] for item in (answer.json or {})["items"]}
                assert listed & set(ids.values()) == readable, (kind, who, path)


REFUSED_LIKE = {"nobody": "nobody", "invalid": "invalid", "admin": "other", "link": "stray"}
"""People who ask for what is not there, and those who are refused what is there."""


def test_what_is_not_there_looks_like_what_may_not_be_read(world: World, rule: str) -> None:
    """The answers are the same to the letter, whoever asks, and whatever for."""
    kind = "course-videos"
    for row, statuses in table_of(rule, kind).items():
        method, path, record = row
        if record != "private" or "<id>" not in path or method == "OPTIONS":
            continue
        there = world.ids[kind][record]
        if path in UNFINISHED:
            there = world.make(kind, record, path.removesuffix("/<id>"))
        for who, refused in REFUSED_LIKE.items():
            expected = world.ask(refused, kind, row, there)
            assert expected.status_code == statuses[refused]
            for nothing in (str(uuid.uuid4()), "no-uuid"):
                answer = world.ask(who, kind, row, nothing)
                assert answer.status_code == expected.status_code, (row, who)
                assert answer.text.replace(nothing, there) == expected.text


@pytest.mark.parametrize("rule", ["no rule"], indirect=True)
def test_every_bad_token_is_an_invalid_one(world: World, app: Flask, rule: str) -> None:
    good = world.tokens["owner"]["Authorization"].removeprefix("Bearer ")
    with app.app_context():
        refresh = create_refresh_token(str(world.owners.user))
        future = create_access_token(str(world.owners.user), additional_claims={"nbf": 2**32})
    _, payload, _ = good.split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    bad = (
        f"Bearer {refresh}",
        f"Bearer {future}",
        f"Bearer {unsigned}.{payload}.",
        f"Bearer {good[:-5]}",
        "Bearer garbage",
        "Bearer ",
        "Bearer ä.ö.ü",
        "Basic YWxpY2U6cGFzc3dvcmQ=",
        good,
    )
    for header in bad:
        world.tokens["invalid"] = {"Authorization": header}
        for row, statuses in table_of(rule, "files").items():
            if row[2] in ("-", "private"):
                media_id = str(uuid.uuid4()) if row[1] in UNFINISHED else ""
                answer = world.ask("invalid", "files", row, media_id)
                assert answer.status_code == statuses["invalid"], (row, header)
