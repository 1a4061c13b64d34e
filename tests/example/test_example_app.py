"""The example app over HTTP: what its users and the readers of its code may rely on. In both
modes."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from bson import ObjectId
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from example_app import create_app
from flask_dualmedia.state import get_state
from flask_dualmedia.testing import count_queries

from .. import conftest, samples
from ..databases.test_announcements import rest
from ..samples import Headers

VIDEO = "big-buck-bunny-480p-30s.mp4"
PASSWORD = "correct horse"


@pytest.fixture
def app(
    request: pytest.FixtureRequest, mode: str, mongo_uri: str, tmp_path: Path
) -> Iterator[Flask]:
    config: dict[str, t.Any] = dict(
        conftest.BASE_CONFIG, SECRET_KEY="x" * 32, SAMPLE_DATA=False, MONGO_URI=mongo_uri
    )
    if mode == "dual":
        config |= {
            "SQLALCHEMY_DATABASE_URI": request.getfixturevalue("emptied_url"),
            "DUALMEDIA_AUTO_UPGRADE": False,
        }
    else:
        config["DB_ENABLED"] = False
    app = create_app(config | {"INSTANCE_PATH": str(tmp_path / "instance")})
    yield app
    conftest.close(app)


@pytest.fixture
def alice(client: FlaskClient) -> Headers:
    return register(client, "alice")


@pytest.fixture
def bob(client: FlaskClient) -> Headers:
    return register(client, "bob")


@pytest.fixture
def course(client: FlaskClient, alice: Headers) -> dict[str, t.Any]:
    modules = [
        {"title": "Start", "lessons": [{"title": "One"}, {"title": "Two", "summary": "More."}]}
    ]
    answer = client.post("/api/courses", json={"title": "Films", "modules": modules}, headers=alice)
    return checked(answer, 201)["course"]


def register(client: FlaskClient, name: str) -> Headers:
    account = {"email": f"{name}@example.org", "password": PASSWORD}
    checked(client.post("/api/auth/register", json={**account, "name": name.title()}), 201)
    tokens = checked(client.post("/api/auth/login", json=account))
    return {"Authorization": f"Bearer {tokens['accessToken']}"}


def checked(response: TestResponse, status: int = 200) -> t.Any:
    # The test client keeps the body of a large request in a temporary file and forgets about it.
    response.request.environ["wsgi.input"].close()
    assert response.status_code == status, response.text
    return response.json


def form_token(client: FlaskClient, path: str) -> str:
    """The value of the hidden field of the page's form."""
    found = re.search(
        r'<form class="panel.*?name="csrf_token" value="([^"]+)"', client.get(path).text, re.DOTALL
    )
    assert found is not None
    return found[1]


def new_product(client: FlaskClient, headers: Headers, **fields: t.Any) -> dict[str, t.Any]:
    return checked(
        client.post(
            "/api/products", json={"name": "Lamp", "price": 12.5, **fields}, headers=headers
        ),
        201,
    )


def images_of(client: FlaskClient, product_id: str) -> list[dict[str, t.Any]]:
    return checked(client.get(f"/api/products/{product_id}"))["images"]


# Accounts


def test_register_login_refresh_and_me(client: FlaskClient) -> None:
    account = {"email": " Carol@Example.org", "password": PASSWORD}
    user = checked(client.post("/api/auth/register", json={**account, "name": "Carol"}), 201)[
        "user"
    ]
    tokens = checked(client.post("/api/auth/login", json=account))
    refreshed = checked(
        client.post(
            "/api/auth/refresh", headers={"Authorization": f"Bearer {tokens['refreshToken']}"}
        )
    )
    me = checked(
        client.get("/api/auth/me", headers={"Authorization": f"Bearer {refreshed['accessToken']}"})
    )
    assert me == {"user": user}
    assert user == {"id": user["id"], "email": "carol@example.org", "name": "Carol", "role": "user"}


def test_a_password_is_kept_as_a_hash(client: FlaskClient, app: Flask, alice: Headers) -> None:
    user = app.extensions["example_app.mongo"].db.users.find_one({"email": "alice@example.org"})
    assert PASSWORD not in str(user)
    assert user["password_hash"].startswith("scrypt:")


def test_an_email_address_registers_once(client: FlaskClient, alice: Headers) -> None:
    again = {"email": "ALICE@example.org", "password": PASSWORD, "name": "Other"}
    assert checked(client.post("/api/auth/register", json=again), 409)["message"].endswith(
        "registered already."
    )


def test_a_wrong_login_does_not_tell_what_was_wrong(client: FlaskClient, alice: Headers) -> None:
    for email in ("alice@example.org", "nobody@example.org"):
        answer = client.post("/api/auth/login", json={"email": email, "password": "wrong"})
        assert checked(answer, 401)["message"] == "The e-mail address or the password is wrong."


def test_an_access_token_does_not_refresh(client: FlaskClient, alice: Headers) -> None:
    assert checked(client.post("/api/auth/refresh", headers=alice), 401)["status"] == "Unauthorized"


# Products


def test_the_curl_command_of_the_readme(client: FlaskClient, alice: Headers) -> None:
    """``curl -d`` calls the JSON a form."""
    body = '{"name":"Product","price":100,"images":["url"]}'
    created = client.post(
        "/api/products", data=body, content_type="application/x-www-form-urlencoded", headers=alice
    )
    answer = checked(created, 201)
    read = client.get(created.headers["Location"])
    assert checked(read) == answer
    assert answer["product"]["name"] == "Product"
    assert answer["product"]["price"] == 100
    (image,) = answer["images"]
    assert (image["imageUrl"], image["fileSize"], image["isMainImage"]) == ("url", None, True)
    assert image["mongoProductId"] == answer["product"]["id"]


def test_a_product_with_uploaded_pictures(
    client: FlaskClient, alice: Headers, media_directory: Path
) -> None:
    names = ["portrait.jpg", "landscape-exif-orientation-6.jpg"]
    files = [samples.part((media_directory / name).read_bytes(), name) for name in names]
    data = {"name": "Prints", "price": "4.20", "images": files}
    answer = checked(client.post("/api/products", data=data, headers=alice), 201)
    assert answer["product"]["price"] == 4.2
    assert [image["filename"] for image in answer["images"]] == names
    assert [image["isMainImage"] for image in answer["images"]] == [True, False]
    assert [image["position"] for image in answer["images"]] == [0, 1]
    for image in answer["images"]:
        sent = (media_directory / image["filename"]).read_bytes()
        # Without a token, because pictures of products are public.
        assert client.get(image["imageUrl"]).data == sent
        assert image["fileSize"] == len(sent)


def test_a_bad_picture_leaves_neither_product_nor_pictures(
    client: FlaskClient, app: Flask, alice: Headers
) -> None:
    files = [samples.part(samples.png(), "good.png"), samples.part(b"no picture at all", "bad.png")]
    answer = client.post(
        "/api/products", data={"name": "Half", "price": 1, "images": files}, headers=alice
    )
    assert list(checked(answer, 415)["errors"]) == ["file"]
    assert checked(client.get("/api/products"))["products"] == []
    listed = checked(client.get("/media/product-images", headers=alice))
    assert (listed.get("items") or listed.get("productImages") or []) == []


def test_reading_a_product_is_one_query_to_each_database(
    client: FlaskClient, app: Flask, alice: Headers
) -> None:
    product_id = new_product(client, alice, images=["a", "b"])["product"]["id"]
    rest(app)
    with count_queries(app) as queries:
        answer = checked(client.get(f"/api/products/{product_id}"))
    assert len(answer["images"]) == 2
    assert len(queries.sql) == (1 if app.config.get("DB_ENABLED", True) else 0)
    assert queries.mongo == ["find products"] + ["find product_images"] * (1 - len(queries.sql))


def test_a_page_of_products_is_one_query_to_each_database(
    client: FlaskClient, app: Flask, alice: Headers
) -> None:
    for number in range(50):
        new_product(client, alice, name=f"Lamp {number}", images=["a", "b"])
    rest(app)
    with count_queries(app) as queries:
        answer = checked(client.get("/api/products?pageSize=50"))
    assert [len(product["images"]) for product in answer["products"]] == [2] * 50
    assert answer["hasNext"] is False
    assert len(queries.sql) == (1 if app.config.get("DB_ENABLED", True) else 0)
    assert queries.mongo == ["find products"] + ["find product_images"] * (1 - len(queries.sql))


def test_pages_of_products(client: FlaskClient, alice: Headers) -> None:
    for number in range(5):
        new_product(client, alice, name=str(number))
    pages = [checked(client.get(f"/api/products?page={page}&pageSize=2")) for page in (1, 2, 3, 4)]
    assert [[product["name"] for product in page["products"]] for page in pages] == [
        ["4", "3"],
        ["2", "1"],
        ["0"],
        [],
    ]
    assert [page["hasNext"] for page in pages] == [True, True, False, False]


def test_editing_a_product_changes_only_what_is_sent(client: FlaskClient, alice: Headers) -> None:
    product = new_product(client, alice, images=["a"], description="Bright.")["product"]
    answer = checked(
        client.patch(f"/api/products/{product['id']}", json={"price": 9.99}, headers=alice)
    )
    assert answer == checked(client.get(f"/api/products/{product['id']}"))
    assert answer["product"] == product | {"price": 9.99}


def test_pictures_are_added_chosen_and_removed(client: FlaskClient, alice: Headers) -> None:
    product_id = new_product(client, alice, images=["a"])["product"]["id"]
    url = f"/api/products/{product_id}/images"
    checked(client.post(url, json={"images": ["b"]}, headers=alice), 201)
    added = client.post(url, data={"images": [samples.part(samples.png(), "c.png")]}, headers=alice)
    images = checked(added, 201)["images"]
    assert [(image["position"], image["isMainImage"]) for image in images] == [
        (0, True),
        (1, False),
        (2, False),
    ]

    chosen = checked(client.put(f"{url}/{images[2]['id']}/main", headers=alice))["images"]
    assert [image["isMainImage"] for image in chosen] == [False, False, True]

    checked(client.delete(f"{url}/{images[2]['id']}", headers=alice), 204)
    assert [image["isMainImage"] for image in images_of(client, product_id)] == [True, False]
    assert client.get(images[2]["imageUrl"]).status_code in (401, 404)


def test_deleting_a_product_deletes_its_pictures(client: FlaskClient, alice: Headers) -> None:
    data = {"name": "Short", "price": 1, "images": [samples.part(samples.png(), "a.png")]}
    answer = checked(client.post("/api/products", data=data, headers=alice), 201)
    url, image_url = f"/api/products/{answer['product']['id']}", answer["images"][0]["imageUrl"]
    assert client.get(image_url).status_code == 200
    checked(client.delete(url, headers=alice), 204)
    assert client.get(url).status_code == 404
    assert client.get(image_url, headers=alice).status_code == 404


def test_only_the_creator_and_admins_change_a_product(
    client: FlaskClient, app: Flask, alice: Headers, bob: Headers
) -> None:
    product_id = new_product(client, alice, images=["a"])["product"]["id"]
    url = f"/api/products/{product_id}"
    assert client.patch(url, json={"price": 1}).status_code == 401
    assert client.patch(url, json={"price": 1}, headers=bob).status_code == 403
    assert client.post(f"{url}/images", json={"images": ["b"]}, headers=bob).status_code == 403
    assert client.delete(url, headers=bob).status_code == 403
    admin = samples.bearer(app, str(ObjectId()), role="admin", name="Admin")
    assert client.delete(url, headers=admin).status_code == 204


INVALID_PRODUCTS: list[tuple[t.Any, str]] = [
    ({"price": 1}, "name"),
    ({"name": "", "price": 1}, "name"),
    ({"name": "a\0b", "price": 1}, "name"),
    ({"name": "\ud800", "price": 1}, "name"),
    ({"name": ["a"], "price": 1}, "name"),
    ({"name": "a"}, "price"),
    ({"name": "a", "price": -1}, "price"),
    ({"name": "a", "price": True}, "price"),
    ({"name": "a", "price": "much"}, "price"),
    ({"name": "a", "price": 10**400}, "price"),
    ({"name": "a", "price": "1e999999999"}, "price"),
    ({"name": "a", "price": "NaN"}, "price"),
    ({"name": "a", "price": {}}, "price"),
    ({"name": "a", "price": 1, "images": "url"}, "images"),
    ({"name": "a", "price": 1, "images": [None]}, "images"),
    ({"name": "a", "price": 1, "images": [""]}, "images"),
    ({"name": "a", "price": 1, "images": ["u"] * 21}, "images"),
    ({"name": "a", "price": 1, "images": ["javascript:alert(1)"]}, "imageUrl"),
    ({"name": "a", "price": 1, "creatorId": "me"}, "creatorId"),
    ([], "_schema"),
    ("text", "_schema"),
    (None, "_schema"),
]


def test_invalid_products_are_refused_with_the_field(client: FlaskClient, alice: Headers) -> None:
    for body, field in INVALID_PRODUCTS:
        answer = checked(client.post("/api/products", data=json.dumps(body), headers=alice), 422)
        assert list(answer["errors"]) == [field], body
    assert checked(client.get("/api/products"))["products"] == []


NO_JSON = [
    (b"", 400),
    (b"{", 400),
    (b"\xff\xfe", 400),
    (b"[" * 200_000, 400),
    (b"9" * 5000, 400),
    (b" " * 2**21, 413),
]


def test_what_is_no_json_is_a_client_error(client: FlaskClient, alice: Headers) -> None:
    for body, status in NO_JSON:
        answer = checked(client.post("/api/products", data=body, headers=alice), status)
        assert answer["code"] == status


def test_a_page_that_cannot_be(client: FlaskClient) -> None:
    for page in ("0", "-1", "x", "1.5", "9" * 30, ""):
        assert list(checked(client.get(f"/api/products?page={page}"), 422)["errors"]) == ["page"]


def test_an_id_of_nothing_is_404(client: FlaskClient, alice: Headers) -> None:
    for unknown in ("x", "1" * 23, "g" * 24, "1" * 24, "%00", "é"):
        for answer in (
            client.get(f"/api/products/{unknown}"),
            client.patch(f"/api/products/{unknown}", json={"price": 1}, headers=alice),
            client.delete(f"/api/products/{unknown}/images/{unknown}", headers=alice),
            client.get(f"/api/courses/{unknown}"),
            client.delete(f"/api/courses/{unknown}/videos/{unknown}", headers=alice),
        ):
            assert checked(answer, 404)["status"] == "Not Found"


def test_errors_of_routing_are_json_too(client: FlaskClient) -> None:
    assert checked(client.get("/api/nowhere"), 404)["code"] == 404
    answer = client.put("/api/products")
    assert checked(answer, 405)["code"] == 405
    assert "POST" in answer.headers["Allow"]


# Courses


def test_a_course_with_its_modules_and_lessons(
    client: FlaskClient, alice: Headers, course: dict[str, t.Any]
) -> None:
    url = f"/api/courses/{course['id']}"
    module = checked(client.post(f"{url}/modules", json={"title": "End"}, headers=alice), 201)[
        "module"
    ]
    lessons = f"{url}/modules/{module['id']}/lessons"
    lesson = checked(client.post(lessons, json={"title": "Three"}, headers=alice), 201)["lesson"]
    checked(
        client.patch(
            f"{url}/lessons/{lesson['id']}", json={"title": "Last", "summary": "."}, headers=alice
        )
    )
    checked(client.patch(f"{url}/modules/{module['id']}", json={"title": "Finale"}, headers=alice))
    checked(client.patch(url, json={"title": "Short films"}, headers=alice))
    first, second = course["modules"][0]["lessons"]
    checked(client.delete(f"{url}/lessons/{first['id']}", headers=alice), 204)

    read = checked(client.get(url))["course"]
    assert read["title"] == "Short films"
    assert [part["title"] for part in read["modules"]] == ["Start", "Finale"]
    assert read["modules"][0]["lessons"] == [second]
    assert read["modules"][1]["lessons"] == [{"id": lesson["id"], "title": "Last", "summary": "."}]
    checked(client.delete(f"{url}/modules/{module['id']}", headers=alice), 204)
    assert len(checked(client.get(url))["course"]["modules"]) == 1


def test_videos_of_every_type_and_a_resource(
    client: FlaskClient, alice: Headers, course: dict[str, t.Any], media_directory: Path
) -> None:
    url, module = f"/api/courses/{course['id']}", course["modules"][0]
    lesson = module["lessons"][0]
    places = [
        ("intro", {}),
        ("module", {"moduleId": module["id"]}),
        ("lesson", {"lessonId": lesson["id"]}),
    ]
    for video_type, place in places:
        fields = {"videoType": video_type, **place, "title": video_type, "isPublic": "true"}
        upload = {**fields, "file": samples.part(samples.mp4(), f"{video_type}.mp4")}
        video = checked(client.post(f"{url}/videos", data=upload, headers=alice), 201)["video"]
        assert video["videoType"] == video["title"] == video_type
        assert video["isPublic"] is True
    script = (media_directory / "geotopo.pdf").read_bytes()
    paper = {"file": samples.part(script, "geotopo.pdf"), "resourceName": "Script"}
    checked(client.post(f"{url}/lessons/{lesson['id']}/resources", data=paper, headers=alice), 201)

    answer = checked(client.get(url, headers=alice))
    part_ids = {video["videoType"]: video["mongoLessonId"] for video in answer["videos"]}
    assert part_ids == {"intro": None, "module": module["id"], "lesson": lesson["id"]}
    (resource,) = answer["resources"]
    assert (resource["resourceName"], resource["resourceType"]) == ("Script", "pdf")
    assert resource["mongoLessonId"] == lesson["id"]
    assert client.get(resource["resourceUrl"], headers=alice).data == script

    anonymous = checked(client.get(url))
    assert (len(anonymous["videos"]), anonymous["resources"]) == (3, [])  # the resource is private


def test_students_of_a_course_see_what_is_not_public(
    client: FlaskClient, app: Flask, alice: Headers, bob: Headers, course: dict[str, t.Any]
) -> None:
    url, lesson = f"/api/courses/{course['id']}", course["modules"][0]["lessons"][0]
    upload = {"lessonId": lesson["id"], "file": samples.part(samples.mp4(), "a.mp4")}
    video = checked(client.post(f"{url}/videos", data=upload, headers=alice), 201)["video"]
    paths = {"content": video["videoUrl"], "record": f"/media/course-videos/{video['id']}"}

    def seen(headers: Headers) -> tuple[int, ...]:
        page = checked(client.get(url, headers=headers))
        listed = checked(
            client.get(f"/media/course-videos?mongoCourseId={course['id']}", headers=headers)
        )
        answers = [client.get(path, headers=headers).status_code for path in paths.values()]
        return (*answers, len(page["videos"]), len(listed["items"]))

    assert (seen(alice), seen(bob)) == ((200, 200, 1, 1), (404, 404, 0, 0))
    checked(client.put(f"{url}/enrolment"), 401)
    checked(client.put(f"{url}/enrolment", headers=bob), 204)
    assert seen(bob) == (200, 200, 1, 1)
    with count_queries(app) as queries:  # the rule needs none: the course is at hand
        checked(client.get(url, headers=bob))
    by_kind = {"find course_videos", "find course_resources"} if not queries.sql else set()
    assert set(queries.mongo) == {"find courses"} | by_kind
    assert len(queries.sql) + len(queries.mongo) == (2 if queries.sql else 3)
    link = checked(client.post(f"{paths['record']}/link", headers=bob), 201)["url"]
    assert client.get(link).data == samples.mp4()
    checked(client.delete(paths["record"], headers=bob), 403)
    checked(client.delete(f"{url}/enrolment", headers=bob), 204)
    assert seen(bob) == (404, 404, 0, 0)
    checked(client.put(f"/api/courses/{ObjectId()}/enrolment", headers=bob), 404)


def test_a_private_picture_of_a_product_is_shown_to_its_uploader_alone(
    client: FlaskClient, alice: Headers, bob: Headers
) -> None:
    product = new_product(client, alice)["product"]
    data = {"mongoProductId": product["id"], "file": samples.part(samples.png(), "draft.png")}
    image = checked(client.post("/media/product-images", data=data, headers=alice), 201)

    def shown(headers: Headers | None) -> tuple[int, int]:
        one = checked(client.get(f"/api/products/{product['id']}", headers=headers))
        listed = checked(client.get("/api/products", headers=headers))["products"]
        return len(one["images"]), sum(len(each["images"]) for each in listed)

    assert [shown(None), shown(bob), shown(alice)] == [(0, 0), (0, 0), (1, 1)]
    for page in ("/", f"/products/{product['id']}"):
        assert image["id"] not in client.get(page).text


def test_only_creators_add_media_through_the_media_routes(
    client: FlaskClient, alice: Headers, bob: Headers
) -> None:
    product = new_product(client, alice)["product"]
    values = {"mongoProductId": product["id"], "imageUrl": "https://cdn.example/a.png"}
    checked(client.post("/media/product-images", json=values, headers=bob), 403)
    checked(client.post("/media/product-images", json=values, headers=alice), 201)
    values["mongoProductId"] = str(ObjectId())
    checked(client.post("/media/product-images", json=values, headers=bob), 404)


@pytest.mark.parametrize(
    ("limit", "path", "body"),
    [
        ("MEDIA_LIMIT", "/media/product-images", {"imageUrl": "https://cdn.example/a.png"}),
        ("LOGIN_LIMIT", "/api/auth/login", {"email": "alice@example.org", "password": PASSWORD}),
        (
            "LOGIN_LIMIT",
            "/api/auth/register",
            {"email": "alice@example.org", "password": PASSWORD, "name": "Alice"},
        ),
        ("LOGIN_LIMIT", "/api/auth/refresh", {}),
    ],
)
def test_limits(
    mongo_uri: str, tmp_path: Path, limit: str, path: str, body: dict[str, str]
) -> None:
    config = dict(
        conftest.BASE_CONFIG,
        SECRET_KEY="x" * 32,
        SAMPLE_DATA=False,
        MONGO_URI=mongo_uri,
        DB_ENABLED=False,
    )
    app = create_app(config | {limit: "3 per minute", "INSTANCE_PATH": str(tmp_path)})
    client = app.test_client()
    answers = [client.post(path, json=body) for _ in range(4)]
    conftest.close(app)
    assert [answer.status_code == 429 for answer in answers] == [False, False, False, True]
    assert answers[3].is_json
    assert int(answers[3].headers["Retry-After"]) > 0


def test_enrolling_on_the_page_of_a_course(
    client: FlaskClient, alice: Headers, course: dict[str, t.Any]
) -> None:
    register(client, "carol")
    page = f"/courses/{course['id']}"
    assert "Enrol" in client.get(page).text
    answer = client.post(f"{page}/enrolment")
    assert answer.location == f"/login?next={page}"
    log_in(client, email="carol@example.org")
    csrf = client.get_cookie("csrf_access_token")
    assert csrf is not None
    assert client.post(f"{page}/enrolment", data={"csrf_token": csrf.value}).status_code == 303
    assert "You are enrolled" in client.get(page).text


def test_a_real_video_comes_back_whole_and_in_ranges(
    client: FlaskClient, alice: Headers, course: dict[str, t.Any], media_directory: Path
) -> None:
    sent = (media_directory / VIDEO).read_bytes()
    upload = {"videoType": "intro", "isPublic": "true", "file": samples.part(sent, VIDEO)}
    video = checked(
        client.post(f"/api/courses/{course['id']}/videos", data=upload, headers=alice), 201
    )["video"]
    assert video["checksum"] == hashlib.sha256(sent).hexdigest()
    assert client.get(video["videoUrl"]).data == sent
    cuts = [0, *sorted(random.sample(range(1, len(sent)), 19)), len(sent)]
    parts = []
    for start, stop in itertools.pairwise(cuts):
        response = client.get(video["videoUrl"], headers={"Range": f"bytes={start}-{stop - 1}"})
        assert response.status_code == 206
        parts.append(response.data)
    assert b"".join(parts) == sent


def test_watching_counts_one_access(
    client: FlaskClient, alice: Headers, bob: Headers, course: dict[str, t.Any]
) -> None:
    url = f"/api/courses/{course['id']}"
    upload = {"videoType": "intro", "file": samples.part(samples.mp4(), "a.mp4")}
    video = checked(client.post(f"{url}/videos", data=upload, headers=alice), 201)["video"]
    assert client.get(video["videoUrl"]).status_code == 401  # private
    assert client.get(video["videoUrl"], headers=bob).status_code == 404
    for part in ("bytes=0-1", "bytes=0-", "bytes=10-20", "bytes=-5"):
        assert client.get(video["videoUrl"], headers=alice | {"Range": part}).status_code == 206
    counter = get_state(client.application).counter
    assert counter is not None
    counter.flush()
    assert checked(client.get(url, headers=alice))["videos"][0]["accessCount"] == 1


REFUSED_VIDEOS: list[tuple[dict[str, t.Any], int, str | None]] = [
    ({"videoType": "intro"}, 422, "file"),
    ({"videoType": "intro", "file": b"not a film"}, 415, "file"),
    ({"videoType": "intro", "file": b""}, 422, "file"),
    ({"videoType": "trailer", "file": samples.mp4()}, 422, "videoType"),
    ({"videoType": "lesson", "file": samples.mp4()}, 422, "videoType"),
    ({"videoType": "intro", "lessonId": "1", "file": samples.mp4()}, 422, "videoType"),
    ({"videoType": "lesson", "lessonId": "1", "file": samples.mp4()}, 404, None),
    ({"videoType": "module", "moduleId": "\0", "file": samples.mp4()}, 422, "moduleId"),
    ({"videoType": "intro", "isPublic": "perhaps", "file": samples.mp4()}, 422, "isPublic"),
    ({"videoType": "intro", "price": "1", "file": samples.mp4()}, 422, "price"),
]


def test_videos_that_are_refused(
    client: FlaskClient, alice: Headers, course: dict[str, t.Any]
) -> None:
    url = f"/api/courses/{course['id']}"
    for fields, status, field in REFUSED_VIDEOS:
        data = {
            key: samples.part(value, "a.mp4") if isinstance(value, bytes) else value
            for key, value in fields.items()
        }
        answer = client.post(
            f"{url}/videos", data=data, headers=alice, content_type="multipart/form-data"
        )
        errors = checked(answer, status).get("errors", {})
        assert field is None or list(errors) == [field], fields
    assert checked(client.get(url, headers=alice))["videos"] == []


def test_deleting_parts_of_a_course_deletes_their_media(
    client: FlaskClient, alice: Headers, course: dict[str, t.Any]
) -> None:
    url, lessons = f"/api/courses/{course['id']}", course["modules"][0]["lessons"]
    videos = []
    for lesson in lessons:
        upload = {"lessonId": lesson["id"], "file": samples.part(samples.mp4(), "a.mp4")}
        videos.append(
            checked(client.post(f"{url}/videos", data=upload, headers=alice), 201)["video"]
        )
    checked(client.delete(f"{url}/lessons/{lessons[0]['id']}", headers=alice), 204)
    statuses = [client.get(video["videoUrl"], headers=alice).status_code for video in videos]
    assert statuses == [404, 200]
    checked(client.delete(url, headers=alice), 204)
    assert client.get(videos[1]["videoUrl"], headers=alice).status_code == 404


def test_only_the_creator_adds_to_a_course(
    client: FlaskClient, bob: Headers, course: dict[str, t.Any]
) -> None:
    url, lesson = f"/api/courses/{course['id']}", course["modules"][0]["lessons"][0]
    for path in ("videos", "modules", f"lessons/{lesson['id']}/resources"):
        assert client.post(f"{url}/{path}", json={}).status_code == 401
        assert client.post(f"{url}/{path}", json={}, headers=bob).status_code == 403
    assert client.delete(url, headers=bob).status_code == 403


# Reviews and orders


def test_a_user_reviews_a_thing_once(client: FlaskClient, alice: Headers, bob: Headers) -> None:
    url = f"/api/products/{new_product(client, alice)['product']['id']}/reviews"
    review = checked(client.post(url, json={"rating": 5, "text": "Fine."}, headers=bob), 201)[
        "review"
    ]
    assert (review["author"], review["rating"]) == ("Bob", 5)
    assert client.post(url, json={"rating": 1}, headers=bob).status_code == 409
    for rating in (0, 6, 2.5, "x", None):
        assert list(
            checked(client.post(url, json={"rating": rating}, headers=alice), 422)["errors"]
        ) == ["rating"]
    assert checked(client.get(url))["reviews"] == [review]
    assert client.delete(f"/api/reviews/{review['id']}", headers=alice).status_code == 403
    checked(client.delete(f"/api/reviews/{review['id']}", headers=bob), 204)
    assert checked(client.get(url))["reviews"] == []


def test_an_order_keeps_the_price_it_was_made_at(
    client: FlaskClient, alice: Headers, bob: Headers
) -> None:
    product_id = new_product(client, alice, price=0.1)["product"]["id"]
    items = [{"productId": product_id, "quantity": 3}]
    created = client.post("/api/orders", json={"items": items}, headers=bob)
    order = checked(created, 201)["order"]
    assert order["total"] == 0.3
    checked(client.patch(f"/api/products/{product_id}", json={"price": 5}, headers=alice))
    assert checked(client.get("/api/orders", headers=bob))["orders"] == [order]
    assert checked(client.get(created.headers["Location"], headers=bob))["order"] == order
    assert client.get(created.headers["Location"], headers=alice).status_code == 404
    assert checked(client.get("/api/orders", headers=alice))["orders"] == []


def test_orders_that_are_refused(client: FlaskClient, alice: Headers) -> None:
    unknown = {"productId": str(ObjectId())}
    for items in (
        [],
        [{}],
        [{"productId": 1}],
        [unknown],
        [unknown | {"quantity": 0}],
        [unknown | {"quantity": 2**70}],
    ):
        assert list(
            checked(client.post("/api/orders", json={"items": items}, headers=alice), 422)["errors"]
        ) == ["items"]


# Pages


def test_the_pages_show_what_there_is(
    client: FlaskClient, alice: Headers, course: dict[str, t.Any]
) -> None:
    files = [samples.part(samples.png(), "a.png"), samples.part(samples.png(2), "b.png")]
    data = {"name": "<b>Lamp</b>", "price": 5, "images": files}
    answer = checked(client.post("/api/products", data=data, headers=alice), 201)
    upload = {
        "videoType": "intro",
        "isPublic": "true",
        "title": "Hello",
        "file": samples.part(samples.mp4(), "a.mp4"),
    }
    video = checked(
        client.post(f"/api/courses/{course['id']}/videos", data=upload, headers=alice), 201
    )["video"]

    shop = client.get("/").text
    assert "&lt;b&gt;Lamp&lt;/b&gt;" in shop
    # In the size of a card, and not as it was uploaded.
    assert f"/media/product-images/{answer['images'][0]['id']}/variants/card.jpg" in shop
    gallery = client.get(f"/products/{answer['product']['id']}").text
    for image in answer["images"]:
        assert f"/media/product-images/{image['id']}/variants/large.jpg" in gallery
    assert "Films" in client.get("/courses").text
    page = client.get(f"/courses/{course['id']}").text
    assert f'src="{video["videoUrl"]}"' in page
    assert 'preload="none"' in page, "to show the page is not to watch"
    assert client.get(f"/courses/{ObjectId()}").status_code == 404


def test_pages_have_no_inline_scripts_and_say_so(
    client: FlaskClient, course: dict[str, t.Any]
) -> None:
    for path in ("/", "/courses", f"/courses/{course['id']}", "/login", "/register"):
        response = client.get(path)
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        assert not re.search(r"<script>|<style| on\w+=| style=", response.text)


def test_a_list_page_is_one_query_to_each_database(
    client: FlaskClient, app: Flask, alice: Headers
) -> None:
    for _ in range(3):
        new_product(client, alice, images=["a"])
    rest(app)
    with count_queries(app) as queries:
        assert client.get("/").status_code == 200
    assert len(queries.sql) + len(queries.mongo) == 2


def log_in(
    client: FlaskClient, path: str = "/login", email: str = "alice@example.org"
) -> TestResponse:
    form = {"csrf_token": form_token(client, path), "email": email, "password": PASSWORD}
    return client.post(path, data=form)


def test_login_by_cookie_upload_and_logout(client: FlaskClient, alice: Headers) -> None:
    assert client.get("/upload").headers["Location"] == "/login?next=/upload"
    assert log_in(client, "/login?next=/upload").headers["Location"] == "/upload"
    page = client.get("/upload").text
    assert "Alice" in page

    csrf = client.get_cookie("csrf_access_token")
    assert csrf is not None
    data = {"name": "Lamp", "price": 1, "images": [samples.part(samples.png(), "a.png")]}
    refused = client.post("/api/products", data=data | {"images": []})
    assert refused.status_code == 401, "a cookie needs its CSRF token"
    checked(client.post("/api/products", data=data, headers={"X-CSRF-TOKEN": csrf.value}), 201)

    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token is not None
    form = {"title": "Drawing", "lesson": "Lines"}
    assert client.post("/upload/courses", data=form).headers["Location"].startswith("/login")
    assert client.post("/upload/courses", data=form | {"csrf_token": token[1]}).status_code == 302
    assert 'label="Drawing"' in client.get("/upload").text

    client.post("/logout", data={"csrf_token": token[1]})
    assert client.get("/upload").status_code == 302


def test_a_private_video_plays_for_its_uploader_by_cookie(
    client: FlaskClient, alice: Headers, course: dict[str, t.Any]
) -> None:
    upload = {"videoType": "intro", "file": samples.part(samples.mp4(), "a.mp4")}
    video = checked(
        client.post(f"/api/courses/{course['id']}/videos", data=upload, headers=alice), 201
    )["video"]
    page = f"/courses/{course['id']}"
    assert video["videoUrl"] not in client.get(page).text
    assert client.get(video["videoUrl"]).status_code == 401
    log_in(client)
    assert video["videoUrl"] in client.get(page).text
    assert client.get(video["videoUrl"]).data == samples.mp4()


def test_registering_on_the_page_logs_in(client: FlaskClient) -> None:
    form = {"name": "Dora", "email": "dora@example.org", "password": "short"}
    form["csrf_token"] = form_token(client, "/register")
    refused = client.post("/register", data=form)
    assert refused.status_code == 422
    assert "Length must be between 8 and 200." in refused.text
    assert client.post("/register", data=form | {"password": PASSWORD}).status_code == 302
    assert "Dora" in client.get("/").text


def test_a_page_with_an_expired_login_is_that_of_anybody(client: FlaskClient) -> None:
    client.set_cookie("access_token_cookie", "no.token.atall")
    assert client.get("/").status_code == 200


def test_login_does_not_lead_to_another_site(client: FlaskClient, alice: Headers) -> None:
    form = {
        "email": "alice@example.org",
        "password": PASSWORD,
        "csrf_token": form_token(client, "/login"),
    }
    for target in ("//evil.example", "/\\evil.example", "https://evil.example", "\t//evil.example"):
        response = client.post("/login", query_string={"next": target}, data=form)
        assert response.headers["Location"] == "/", target


# Start-up


def test_sample_data_is_loaded_once(app: Flask, client: FlaskClient) -> None:
    config = {
        key: app.config[key] for key in ("MONGO_URI", "SECRET_KEY", "JWT_SECRET_KEY", "TESTING")
    }
    config |= {
        key: app.config[key]
        for key in ("SQLALCHEMY_DATABASE_URI", "DB_ENABLED")
        if key in app.config
    }
    for _ in range(2):
        conftest.close(create_app(config))
    products = checked(client.get("/api/products"))["products"]
    assert len(products) == 6
    assert [image["isMainImage"] for image in products[0]["images"]] == [True, False, False, False]
    course = checked(client.get("/api/courses"))["courses"][0]
    answer = checked(client.get(f"/api/courses/{course['id']}"))
    assert [video["videoType"] for video in answer["videos"]] == [
        "intro"
    ]  # the lesson is for students
    assert all(client.get(image["imageUrl"]).status_code == 200 for image in products[0]["images"])
    for email in ("demo@example.com", "admin@example.com"):
        account = {"email": email, "password": "demo-password"}
        assert client.post("/api/auth/login", json=account).status_code == 401, (
            "the configuration names this database"
        )
    assert app.extensions["example_app.mongo"].db.users.count_documents({}) == 0


def test_the_generated_secret_stays_and_is_private(mongo_uri: str, tmp_path: Path) -> None:
    config = {
        "MONGO_URI": mongo_uri,
        "DB_ENABLED": False,
        "SAMPLE_DATA": False,
        "INSTANCE_PATH": str(tmp_path),
    }
    keys = []
    for _ in range(2):
        app = create_app(config)
        keys.append(app.config["JWT_SECRET_KEY"])
        conftest.close(app)
    assert keys[0] == keys[1]
    assert len(keys[0]) >= 32
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
