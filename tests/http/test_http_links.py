"""Signed links, and rules of hosts."""

from __future__ import annotations

import time
import typing as t
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_dualmedia import (
    ConfigurationError,
    CourseVideo,
    MediaStorage,
    Owner,
    default_rule,
    get_course_videos,
    get_media,
    get_owner,
    is_allowed,
    revoke_links,
    signed_url,
)
from flask_dualmedia.testing import count_queries
from flask_dualmedia.views.records import SCANNED

from ..conftest import MakeApp
from ..samples import (
    SAMPLES,
    Headers,
    Owners,
    Tokens,
    bearer,
    mp4,
    of_owner,
    part,
    post_file,
    post_form,
)


def link(client: FlaskClient, headers: Headers, location: str, **wanted: t.Any) -> str:
    answer = client.post(f"{location}/link", headers=headers, json=wanted)
    assert answer.status_code == 201, answer.text
    return (answer.json or {})["url"]


@pytest.fixture
def location(client: FlaskClient, tokens: Tokens, owners: Owners) -> str:
    """Path of a private video of Alice."""
    return post_file(client, tokens.alice, "course-videos", owners).headers["Location"]


def test_a_link_opens_the_content(
    client: FlaskClient, tokens: Tokens, owners: Owners, location: str
) -> None:
    """A link is for anybody who has it, and for this record alone. A token beside it gives what it
    gives."""
    url = link(client, tokens.alice, location)
    answer = client.get(url)
    assert (answer.status_code, answer.data) == (200, SAMPLES["course-videos"])
    assert client.get(url, headers=tokens.bob).status_code == 200
    assert client.get(url, headers={"Range": "bytes=1-3"}).data == SAMPLES["course-videos"][1:4]
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Content-Security-Policy"].startswith(
        "default-src 'none'; media-src 'self'; "
    )
    other = post_file(client, tokens.alice, "course-videos", owners).headers["Location"]
    stray = f"{other}/content?{urlsplit(url).query}"
    assert client.get(stray, headers=tokens.bob).status_code == 404
    assert client.get(stray, headers=tokens.alice).status_code == 200


def test_what_is_no_link_of_ours_opens_nothing(
    client: FlaskClient, tokens: Tokens, location: str
) -> None:
    """The link is changed, of another key, or made up; and nobody learns whether the record
    exists."""
    signature = parse_qs(urlsplit(link(client, tokens.alice, location)).query)["signature"][0]
    payload, _, tag = signature.rpartition(".")
    nothing = location[:-12] + "0" * 12
    for bad in (
        signature[:-1],
        f"{payload}.{tag[::-1]}",
        f"{payload}x.{tag}",
        payload,
        "x",
        ".",
        "ä",
    ):
        for path in (location, nothing):
            answer = client.get(f"{path}/content", query_string={"signature": bad})
            message = (answer.json or {})["message"]
            assert answer.status_code == 403
            assert message == "The link has expired, was revoked, or is not for this."
    assert client.get(f"{location}/content", query_string={"signature": ""}).status_code == 401


def test_links_end(client: FlaskClient, app: Flask, tokens: Tokens, location: str) -> None:
    """A link ends with its time."""
    with app.app_context():
        record = get_media(CourseVideo, location[-36:])
        url = signed_url(record, expires_in=0.5)
        assert client.get(url).status_code == 200
        time.sleep(0.6)
        assert client.get(url).status_code == 403
        assert client.get(url, headers=tokens.alice).status_code == 200, "the token is enough"


def test_a_link_may_hold_for_a_week_at_most(make_app: MakeApp) -> None:
    app = make_app("mongo", DUALMEDIA_LINK_MAX_SECONDS=1)
    client, headers = app.test_client(), bearer(app, "alice")
    form = {"file": part(b"x"), "referenceType": "page", "referenceId": "1"}
    location = post_form(client, headers, "/media/files", form).location
    url = link(client, headers, location, expiresIn=1000)
    assert client.get(url).status_code == 200
    time.sleep(1.1)
    assert client.get(url).status_code == 403


def test_links_can_be_revoked(
    client: FlaskClient, app: Flask, tokens: Tokens, location: str
) -> None:
    url = link(client, tokens.alice, location)
    assert client.delete(f"{location}/link", headers=tokens.bob).status_code == 404
    assert client.get(url).status_code == 200
    assert client.delete(f"{location}/link", headers=tokens.alice).status_code == 204
    assert client.get(url).status_code == 403
    again = link(client, tokens.alice, location)
    assert client.get(again).status_code == 200
    with app.app_context():
        revoke_links(CourseVideo, location[-36:])
    assert client.get(again).status_code == 403


def test_a_link_for_one_identity(client: FlaskClient, tokens: Tokens, location: str) -> None:
    url = link(client, tokens.admin, location, onlyForMe=True)
    assert client.get(url).status_code == 403
    assert client.get(url, headers=tokens.bob).status_code == 404
    assert client.get(url, headers=tokens.admin).status_code == 200


def test_what_a_link_cannot_be(client: FlaskClient, tokens: Tokens, location: str) -> None:
    for wrong in (
        {"expiresIn": 0},
        {"expiresIn": "x"},
        {"onlyForMe": 3},
        {"onlyForMe": 0},
        {"onlyForMe": "yes"},
        {"expiresIn": "9"},
        {"more": 1},
    ):
        answer = client.post(f"{location}/link", headers=tokens.alice, json=wrong)
        assert (answer.status_code, list((answer.json or {})["errors"])) == (422, list(wrong))


def test_keys_are_rotated(make_app: MakeApp) -> None:
    old = make_app("mongo", SECRET_KEY="old key")
    client = old.test_client()
    form = {"file": part(b"x"), "referenceType": "page", "referenceId": "1"}
    location = post_form(client, bearer(old, "alice"), "/media/files", form).location
    url = link(client, bearer(old, "alice"), location)
    rotated = make_app("mongo", SECRET_KEY="new key", SECRET_KEY_FALLBACKS=["old key"])
    assert rotated.test_client().get(url).status_code == 200
    new = link(rotated.test_client(), bearer(rotated, "alice"), location)
    assert client.get(new).status_code == 403, "signed with the new key"
    without_the_old_key = make_app("mongo", DUALMEDIA_LINK_KEYS=["new key"]).test_client()
    assert without_the_old_key.get(url).status_code == 403
    with pytest.raises(ConfigurationError, match="DUALMEDIA_LINK_KEYS"):
        make_app("mongo", DUALMEDIA_LINK_KEYS="new key")


def students_watch(
    action: str, subject: t.Any, identity: str | None, claims: t.Mapping[str, t.Any]
) -> bool:
    """A rule as a host writes it: students of a course see its videos, and only its teacher adds
    some."""
    if isinstance(subject, Owner) and subject.kind is CourseVideo:
        return (get_owner(subject) or {}).get("teacher") == identity
    if action in ("read", "link") and isinstance(subject, CourseVideo):
        course = get_owner(subject)
        if course is not None and identity in course.get("students", ()):
            return True
    return default_rule(t.cast(t.Any, action), subject, identity, claims)


@pytest.fixture
def school(make_app: MakeApp, mode: str) -> Flask:
    return make_app(mode, DUALMEDIA_AUTHORIZE=students_watch)


def test_a_rule_of_the_host_goes_by_the_document(school: Flask) -> None:
    """The rule goes by the document as it is now, and views of the host are told the same as
    clients."""
    client, state = school.test_client(), school.extensions["dualmedia"]
    course = (
        state.mongo["courses"].insert_one({"teacher": "alice", "students": ["stud"]}).inserted_id
    )
    people = {who: bearer(school, who) for who in ("alice", "bob", "stud")}

    def upload(headers: Headers, course_id: t.Any) -> t.Any:
        form = {"file": part(mp4()), "mongoCourseId": str(course_id)}
        return post_form(client, headers, "/media/course-videos", form)

    assert upload(people["bob"], course).status_code == 403
    assert upload(people["bob"], "0" * 24).status_code == 404
    location = upload(people["alice"], course).location
    with school.app_context():
        (video,) = get_course_videos(course)
        assert is_allowed("read", video, "stud", {})
        assert not is_allowed("read", video, "bob", {})
    assert client.get(f"{location}/content", headers=people["stud"]).status_code == 200
    state.mongo["courses"].update_one({"_id": course}, {"$set": {"students": []}})
    assert client.get(f"{location}/content", headers=people["stud"]).status_code == 404
    assert client.delete(location, headers=people["alice"]).status_code == 204


def test_lists_under_a_rule_of_the_host_are_paged(school: Flask) -> None:
    client, state = school.test_client(), school.extensions["dualmedia"]
    courses = [
        state.mongo["courses"]
        .insert_one({"teacher": "alice", "students": ["stud"] * (n % 3 == 0)})
        .inserted_id
        for n in range(12)
    ]
    for course in courses:
        values = {"videoUrl": "https://cdn.example/v"} | of_owner(
            "course-videos", Owners(course, course, course)
        )
        alice = bearer(school, "alice")
        assert client.post("/media/course-videos", json=values, headers=alice).status_code == 201
    path, pages = "/media/course-videos?limit=3&sort=createdAt", []
    while path:
        page = client.get(path, headers=bearer(school, "stud")).json or {}
        pages.append([item["mongoCourseId"] for item in page["items"]])
        path = page["next"]
    assert [len(page) for page in pages] == [3, 1]
    assert [course_id for page in pages for course_id in page] == [
        str(course) for course in courses[::3]
    ]


@pytest.mark.parametrize("sort", ["createdAt", "-createdAt", "-accessCount"])
def test_long_lists_under_a_rule_of_the_host(make_app: MakeApp, mode: str, sort: str) -> None:
    """If few records may be read, at most so many are looked at for a page. If all may be read, one
    query brings no others."""
    asked: list[int] = []

    def rule(_action: str, subject: t.Any, identity: str | None, _claims: t.Any) -> bool:
        asked.append(subject.access_count)
        return identity == "alice" or subject.access_count % 100 == 99

    app = make_app(mode, DUALMEDIA_AUTHORIZE=rule)
    client, state = app.test_client(), app.extensions["dualmedia"]
    external = {"state": "available", "storage_type": "external", "media_type": "document"}
    owner = {"reference_type": "page", "reference_id": "1"}
    for first in range(0, 1300, 100):
        numbers = range(first, first + 100)
        state.repository.add_all(
            [MediaStorage.new(access_count=n, **external, **owner) for n in numbers]
        )

    def pages(who: str) -> t.Iterator[list[int]]:
        path = f"/media/files?limit=4&sort={sort}"
        while path is not None:
            asked.clear()
            answer = client.get(path, headers=bearer(app, who)).json or {}
            assert len(asked) <= SCANNED
            yield [item["accessCount"] for item in answer["items"]]
            path = answer["next"]

    expected = [*range(99, 1300, 100)]
    found = [*pages("bob")]
    in_order = expected if sort == "createdAt" else expected[::-1]
    assert [n for page in found for n in page] == in_order
    assert all(found[:-1])
    with count_queries(app) as queries:
        assert len(next(pages("alice"))) == 4
    assert (len(queries.sql) + len(queries.mongo), len(asked)) == (1, 4)
