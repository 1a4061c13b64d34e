"""Accounts of the example app: what they may do and for how long, and how often anybody may try."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import typing as t
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token, create_refresh_token, decode_token

from example_app import create_app
from example_app.settings import FROM_ENVIRONMENT

from .. import conftest
from ..samples import Headers
from ..waiting import eventually
from .test_example_app import PASSWORD, checked, form_token, log_in, register

MakeExample = t.Callable[..., Flask]


@pytest.fixture
def make_example(mongo_uri: str, tmp_path: Path) -> Iterator[MakeExample]:
    """Makes the example app, as one worker of several on the same database."""
    made: list[Flask] = []

    def make(**config: t.Any) -> Flask:
        base = conftest.BASE_CONFIG | {
            "SECRET_KEY": "x" * 32,
            "SAMPLE_DATA": False,
            "DB_ENABLED": False,
        }
        app = create_app(
            base | {"MONGO_URI": mongo_uri, "INSTANCE_PATH": str(tmp_path / "instance")} | config
        )
        made.append(app)
        return app

    yield make
    for app in made:
        conftest.close(app)


@pytest.fixture
def app(make_example: MakeExample) -> Flask:
    return make_example()


@pytest.fixture
def alice(client: FlaskClient) -> Headers:
    return register(client, "alice")


def users(app: Flask) -> t.Any:
    return app.extensions["example_app.mongo"].db.users


def refresh_token(client: FlaskClient, name: str) -> Headers:
    answer = client.post(
        "/api/auth/login", json={"email": f"{name}@example.org", "password": PASSWORD}
    )
    return {"Authorization": f"Bearer {checked(answer)['refreshToken']}"}


def claims(client: FlaskClient) -> dict[str, t.Any]:
    """The claims in the cookie of the pages."""
    cookie = client.get_cookie("access_token_cookie")
    assert cookie is not None
    with client.application.app_context():
        return decode_token(cookie.value)


# Renewals


def test_a_role_that_is_gone_is_gone_with_the_next_access_token(
    client: FlaskClient, app: Flask
) -> None:
    register(client, "ada")
    users(app).update_one({}, {"$set": {"role": "admin"}})
    renewing = refresh_token(client, "ada")

    def renewed_role() -> str:
        token = checked(client.post("/api/auth/refresh", headers=renewing))["accessToken"]
        with app.app_context():
            return decode_token(token)["role"]

    assert renewed_role() == "admin"
    users(app).update_one({}, {"$set": {"role": "user"}})
    assert renewed_role() == "user"


def test_an_account_that_is_gone_gets_no_other_token(
    client: FlaskClient, app: Flask, alice: Headers
) -> None:
    renewing = refresh_token(client, "alice")
    users(app).delete_one({})
    for path, method, headers in (
        ("/api/auth/refresh", "POST", renewing),
        ("/api/auth/me", "GET", alice),
    ):
        refused = checked(client.open(path, method=method, headers=headers), 401)
        assert refused["message"] == "The account is gone."


def test_a_token_of_another_app_with_the_same_key_is_of_nobody_here(
    client: FlaskClient, app: Flask
) -> None:
    with app.app_context():
        tokens = [create_refresh_token("somebody"), create_access_token("somebody")]
    refresh, access = ({"Authorization": f"Bearer {token}"} for token in tokens)
    checked(client.post("/api/auth/refresh", headers=refresh), 401)
    checked(client.get("/api/auth/me", headers=access), 401)


def test_pages_renew_a_login_with_the_role_of_today(make_example: MakeExample) -> None:
    # So little time is left that each page renews the token.
    app = make_example(JWT_ACCESS_TOKEN_EXPIRES=timedelta(minutes=20))
    client = app.test_client()
    register(client, "alice")
    users(app).update_one({}, {"$set": {"role": "admin"}})
    log_in(client)
    before = claims(client)
    assert before["role"] == "admin"

    users(app).update_one({}, {"$set": {"role": "user", "name": "Alice B."}})
    page = client.get("/upload").text
    assert "Alice B." in page
    after = claims(client)
    assert (after["role"], after["sub"]) == ("user", before["sub"])
    assert after["jti"] != before["jti"]
    assert f'value="{after["csrf"]}"' in page, "the forms of the page go with its cookie"
    logged_out = client.post("/logout", data={"csrf_token": after["csrf"]})
    assert logged_out.status_code == 302
    assert client.get_cookie("access_token_cookie") is None


def test_pages_forget_an_account_that_is_gone(make_example: MakeExample) -> None:
    app = make_example(JWT_ACCESS_TOKEN_EXPIRES=timedelta(minutes=20))
    client = app.test_client()
    register(client, "alice")
    log_in(client)
    csrf = claims(client)["csrf"]
    users(app).delete_one({})
    course = client.post(
        "/upload/courses", data={"title": "Mine", "lesson": "One", "csrf_token": csrf}
    )
    assert course.location == "/login?next=/upload/courses"
    assert client.get_cookie("access_token_cookie") is None
    assert app.extensions["example_app.mongo"].db.courses.count_documents({}) == 0


def test_a_login_that_lasts_is_not_looked_up(
    client: FlaskClient, app: Flask, alice: Headers
) -> None:
    app.config["JWT_ACCESS_TOKEN_EXPIRES"] = timedelta(hours=1)
    log_in(client)
    before = claims(client)["jti"]
    assert client.get("/upload").status_code == 200
    assert claims(client)["jti"] == before


# Forms


@pytest.mark.parametrize("path", ["/login", "/register"])
def test_another_site_cannot_log_a_visitor_in(
    client: FlaskClient, app: Flask, alice: Headers, path: str
) -> None:
    form = {
        "email": "mallory@example.org" if path == "/register" else "alice@example.org",
        "password": PASSWORD,
    }
    form["name"] = "Mallory"
    token = form_token(client, path)
    other = app.test_client()
    refused = [
        client.post(path, data=form),
        client.post(path, data=form | {"csrf_token": ""}),
        client.post(path, data=form | {"csrf_token": "guessed"}),
        client.post(path, data=form | {"csrf_token": "guessé"}),
        client.post(
            path, data=form | {"csrf_token": form_token(other, path)}
        ),  # the other site's own
        app.test_client().post(path, data=form | {"csrf_token": token}),
        app.test_client().post(path, data=form | {"csrf_token": ""}),
    ]
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    assert client.get_cookie("access_token_cookie") is None
    assert users(app).count_documents({}) == 1
    assert client.post(path, data=form | {"csrf_token": token}).status_code == 302
    assert client.get_cookie("access_token_cookie") is not None


def test_the_cookie_of_a_form_is_not_for_scripts_and_not_for_other_sites(
    client: FlaskClient,
) -> None:
    (cookie,) = client.get("/login").headers.getlist("Set-Cookie")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert "Set-Cookie" not in client.get("/register").headers, "one is enough for all forms"


def test_another_site_cannot_log_a_visitor_out(client: FlaskClient, alice: Headers) -> None:
    log_in(client)
    for form in ({}, {"csrf_token": "guessed"}):
        assert client.post("/logout", data=form).status_code == 403
    csrf = claims(client)["csrf"]
    assert "Alice" in client.get("/").text
    assert client.post("/logout", data={"csrf_token": csrf}).status_code == 302
    assert "Alice" not in client.get("/").text


# Limits


def test_attempts_are_counted_by_all_workers_together(make_example: MakeExample) -> None:
    workers = [make_example(LOGIN_LIMIT="4 per minute").test_client() for _ in range(2)]
    account = {"email": "nobody@example.org", "password": PASSWORD}
    statuses = [
        workers[number % 2].post("/api/auth/login", json=account).status_code for number in range(6)
    ]
    assert statuses == [401] * 4 + [429] * 2
    token = form_token(workers[0], "/login")
    on_page = workers[0].post("/login", data=account | {"csrf_token": token})
    assert on_page.status_code == 429, "programs and pages are counted together"
    assert 0 < int(on_page.headers["Retry-After"]) <= 60
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    answer = workers[1].post("/api/auth/login", json=account, environ_base=elsewhere)
    assert answer.status_code == 401
    registered = workers[1].post("/api/auth/register", json=account | {"name": "Nobody"})
    assert registered.status_code == 201, "each is counted by itself"


def test_an_ipv6_network_is_one_visitor(make_example: MakeExample) -> None:
    client = make_example(LOGIN_LIMIT="2 per minute").test_client()
    account = {"email": "nobody@example.org", "password": PASSWORD}
    addresses = ["2001:db8::1", "2001:db8::2", "2001:db8::3:4", "2001:db8:0:1::1", "fe80::1%eth0"]
    statuses = [
        client.post(
            "/api/auth/login", json=account, environ_base={"REMOTE_ADDR": address}
        ).status_code
        for address in addresses
    ]
    assert statuses == [401, 401, 429, 401, 401]


def test_after_a_while_one_may_try_again(make_example: MakeExample) -> None:
    app = make_example(LOGIN_LIMIT="1 per minute; 3 per hour")
    client, attempts = app.test_client(), app.extensions["example_app.mongo"].db.attempts
    account = {"email": "nobody@example.org", "password": PASSWORD}

    def attempt() -> int:
        return client.post("/api/auth/login", json=account).status_code

    assert [attempt(), attempt()] == [401, 429]
    minute = {"_id": {"$regex": "per 1 minute"}}
    for status in (401, 401, 429):
        past = attempts.find_one(minute)["ends_at"] - timedelta(hours=1)
        attempts.update_one(minute, {"$set": {"ends_at": past}})
        assert attempt() == status


def test_logging_out_has_a_limit(make_example: MakeExample) -> None:
    client = make_example(LOGIN_LIMIT="2 per minute").test_client()
    assert [client.post("/logout").status_code for _ in range(3)] == [302, 302, 429]


def test_a_form_that_registers_has_a_limit(make_example: MakeExample) -> None:
    client = make_example(LOGIN_LIMIT="2 per minute").test_client()
    form = {
        "name": "Eve",
        "email": "no address",
        "password": PASSWORD,
        "csrf_token": form_token(client, "/register"),
    }
    assert [client.post("/register", data=form).status_code for _ in range(3)] == [422, 422, 429]


# Sizes


def test_a_course_does_not_grow_without_end(client: FlaskClient, alice: Headers) -> None:
    text = "x" * 10_000
    full = [
        {
            "title": "Full",
            "lessons": [{"title": str(number), "summary": text} for number in range(45)],
        }
    ]
    values = {"title": "Long", "modules": full}
    course = checked(client.post("/api/courses", json=values, headers=alice), 201)["course"]
    path, module = f"/api/courses/{course['id']}", course["modules"][0]["id"]
    lessons, one = (
        f"{path}/modules/{module}/lessons",
        f"{path}/lessons/{course['modules'][0]['lessons'][0]['id']}",
    )
    room = [
        client.post(lessons, json={"title": "More", "summary": text}, headers=alice)
        for _ in range(6)
    ]
    assert [answer.status_code for answer in room] == [201] * 4 + [413] * 2
    assert "500000 bytes" in checked(room[-1], 413)["message"]

    larger: list[tuple[str, str, dict[str, t.Any]]] = [
        ("PATCH", path, {"description": text}),
        ("POST", f"{path}/modules", {"title": "x", "lessons": [{"title": "y", "summary": text}]}),
    ]
    for method, place, body in larger:
        checked(client.open(place, method=method, json=body, headers=alice), 413)
    checked(client.patch(one, json={"summary": "short"}, headers=alice))
    checked(client.post(lessons, json={"title": "Again", "summary": text}, headers=alice), 201)
    checked(client.patch(one, json={"summary": text}, headers=alice), 413)
    kept = checked(client.get(path))["course"]
    assert len(kept["modules"][0]["lessons"]) == 50
    assert kept["modules"][0]["lessons"][0]["summary"] == "short"


def test_a_course_has_a_number_of_parts(client: FlaskClient, alice: Headers) -> None:
    parts = [{"title": str(number)} for number in range(100)]
    modules = [{"title": "Full", "lessons": parts}, *parts[1:]]
    body = {"title": "Many", "modules": modules}
    course = checked(client.post("/api/courses", json=body, headers=alice), 201)["course"]
    path = f"/api/courses/{course['id']}"
    checked(client.post(f"{path}/modules", json={"title": "One more"}, headers=alice), 413)
    lessons = f"{path}/modules/{course['modules'][0]['id']}/lessons"
    checked(client.post(lessons, json={"title": "One more"}, headers=alice), 413)


def test_a_course_has_a_number_of_students(client: FlaskClient, app: Flask, alice: Headers) -> None:
    course = checked(client.post("/api/courses", json={"title": "Full"}, headers=alice), 201)[
        "course"
    ]
    courses = app.extensions["example_app.mongo"].db.courses
    enrolled = [str(number) for number in range(9_999)]
    courses.update_one({}, {"$set": {"student_ids": enrolled}})
    path = f"/api/courses/{course['id']}/enrolment"
    bob, carol = register(client, "bob"), register(client, "carol")
    assert [client.put(path, headers=who).status_code for who in (bob, carol, bob)] == [
        204,
        409,
        204,
    ]
    assert client.delete(path, headers=bob).status_code == 204
    assert client.put(path, headers=carol).status_code == 204


# Sample accounts, and the commands that are documented


@pytest.mark.long
def test_the_documented_commands_upload_a_picture(tmp_path: Path) -> None:
    """As somebody copies them who has just started the app, with the servers that it brings."""
    root = Path(__file__).parent.parent.parent
    block = re.search(r"```sh\n(url=.*?)```", (root / "docs" / "http.md").read_text(), re.DOTALL)
    assert block is not None
    directory = tempfile.mkdtemp(
        prefix="dualmedia-example-"
    )  # PostgreSQL's account has to reach it
    program = (
        "import sys; from example_app import create_app; from werkzeug.serving import run_simple; "
        "app = create_app({'INSTANCE_PATH': sys.argv[1]}); "
        "run_simple('127.0.0.1', int(sys.argv[2]), app, threaded=True)"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = {
        name: value for name, value in os.environ.items() if name not in FROM_ENVIRONMENT
    }
    server = subprocess.Popen(
        [sys.executable, "-c", program, directory, str(port)], cwd=root, env=environment
    )
    try:
        eventually(lambda: server.poll() is not None or is_open(port), 120)
        assert server.poll() is None
        commands = block[1].replace(":5000", f":{port}")
        done = subprocess.run(
            ["sh", "-euc", commands], cwd=root, capture_output=True, text=True, check=True
        )
        record = json.loads(done.stdout)
        assert (record["filename"], record["altText"]) == ("portrait.jpg", "From the front")
        assert record["isPublic"] is True
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{record['imageUrl']}") as answer:
            assert answer.read() == (root / "example_app/sample_media/portrait.jpg").read_bytes()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
        shutil.rmtree(directory, ignore_errors=True)


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
