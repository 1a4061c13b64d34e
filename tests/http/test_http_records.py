"""Media records over HTTP: created, listed, read, edited, deleted, counted."""

from __future__ import annotations

import itertools
import json
import typing as t
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_dualmedia.models import KINDS
from flask_dualmedia.state import State, get_state

from .. import samples
from ..conftest import MakeApp
from ..samples import (
    NOTHING,
    PDF,
    URL_FIELDS,
    Headers,
    Owners,
    Tokens,
    bearer,
    kept,
    mp4,
    of_owner,
    part,
    png,
    post_file,
    post_url,
)

# Every field of each kind that a client may send with bytes, and what is not to be seen otherwise.
FIELDS: dict[str, dict[str, t.Any]] = {
    "product-images": {
        "altText": "A chair; größer 🪑", "isMainImage": True,
        "position": 7, "width": 640, "height": 480,
    },
    "course-videos": {
        "mongoLessonId": "lesson 1", "videoType": "intro",
        "title": "Willkommen", "position": 3, "duration": 12.5,
        "width": 1920, "height": 1080, "processingStatus": "processing",
    },
    "course-resources": {
        "mongoLessonId": "lesson 1", "resourceName": "Handout", "resourceType": "code",
    },
    "files": {"mediaType": "audio", "title": "Rechnung"},
}  # fmt: skip
COMMON = {"filename": "shown", "isPublic": True, "storageType": "database"}

# Fields that only we set.
INTERNAL = {
    "id": str(uuid.uuid4()), "state": "available", "storageKey": "x",
    "checksum": "0" * 64, "uploadedBy": "bob",
    "accessCount": 99, "lastAccessedAt": "2020-01-01T00:00:00+00:00",
    "createdAt": "2020-01-01T00:00:00+00:00",
    "updatedAt": "2020-01-01T00:00:00+00:00",
}  # fmt: skip

every_kind = pytest.mark.parametrize("kind", KINDS)


def as_text(value: t.Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@every_kind
def test_an_upload_keeps_every_field(
    client: FlaskClient, tokens: Tokens, owners: Owners, kind: str
) -> None:
    given = FIELDS[kind] | COMMON
    response = post_file(
        client,
        tokens.alice,
        kind,
        owners,
        **{name: as_text(value) for name, value in given.items()},
    )
    record = response.json
    assert response.status_code == 201, record
    assert record is not None
    expected = (
        given
        | of_owner(kind, owners)
        | {"uploadedBy": "alice", "accessCount": 0, "lastAccessedAt": None}
    )
    assert {name: record[name] for name in expected} == expected
    assert record[URL_FIELDS[kind]] == f"/media/{kind}/{record['id']}/content"
    assert record["createdAt"] <= record["updatedAt"]
    assert response.headers["Location"] == f"/media/{kind}/{record['id']}"
    assert client.get(response.headers["Location"], headers=tokens.alice).json == record
    assert not {"state", "storageKey"} & record.keys()


@every_kind
def test_external_media_keeps_every_field(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State, kind: str
) -> None:
    given = FIELDS[kind] | {
        "filename": "shown.dat",
        "isPublic": True,
        "mimeType": "image/png",
        "fileSize": 2**40,
    }
    response = post_url(client, tokens.alice, kind, owners, **given)
    record = response.json
    assert response.status_code == 201, record
    assert record is not None
    expected = (
        given
        | of_owner(kind, owners)
        | {"uploadedBy": "alice", "storageType": "external", "checksum": None}
    )
    expected[URL_FIELDS[kind]] = "https://cdn.example/a"
    assert {name: record[name] for name in expected} == expected
    assert client.get(response.headers["Location"], headers=tokens.alice).json == record
    assert kept(state)[1:] == ([], 0)
    content = client.get(f"{response.headers['Location']}/content")
    assert (content.status_code, content.location) == (302, "https://cdn.example/a")
    assert content.headers["Cache-Control"] == "no-store"


@every_kind
def test_internal_fields_are_refused(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State, kind: str
) -> None:
    """A client sets no internal field, neither at creation nor later."""
    for name, value in (INTERNAL | {"mimeType": "text/html", "fileSize": 1}).items():
        answers = [post_file(client, tokens.alice, kind, owners, **{name: as_text(value)})]
        if name in INTERNAL:
            answers.append(post_url(client, tokens.alice, kind, owners, **{name: value}))
        for answer in answers:
            assert answer.status_code == 422
            assert answer.json is not None
            assert answer.json["errors"] == {name: ["Unknown field."]}
    assert kept(state) == NOTHING


@every_kind
def test_owner_and_measured_fields_cannot_be_edited(
    client: FlaskClient, tokens: Tokens, owners: Owners, kind: str
) -> None:
    """An edit is the second way to try it."""
    created = post_file(client, tokens.alice, kind, owners)
    fixed = (
        INTERNAL
        | of_owner(kind, owners)
        | {"mimeType": "text/html", "fileSize": 1, "storageType": "external"}
    )
    for name, value in fixed.items():
        answer = client.patch(created.headers["Location"], headers=tokens.alice, json={name: value})
        assert answer.status_code == 422
        assert (answer.json or {})["errors"] == {name: ["Unknown field."]}
    answer = client.patch(
        created.location, headers=tokens.alice, json={URL_FIELDS[kind]: "https://evil.example"}
    )
    assert (answer.status_code, list((answer.json or {})["errors"])) == (422, [URL_FIELDS[kind]])
    assert client.get(created.headers["Location"], headers=tokens.alice).json == created.json


@every_kind
def test_edit(client: FlaskClient, tokens: Tokens, owners: Owners, kind: str) -> None:
    location = post_file(client, tokens.alice, kind, owners).headers["Location"]
    before = client.get(location, headers=tokens.alice).json
    assert before is not None
    changes = FIELDS[kind] | {"filename": "new name", "isPublic": True}
    answer = client.patch(location, headers=tokens.alice, json=changes)
    assert answer.status_code == 200, answer.json
    assert answer.json is not None
    assert answer.json == before | changes | {"updatedAt": answer.json["updatedAt"]}
    assert answer.json["updatedAt"] >= before["updatedAt"]
    assert client.get(location, headers=tokens.alice).json == answer.json
    # Fields that are not sent stay, defaults do not come back, and an empty change changes nothing.
    assert client.patch(location, headers=tokens.alice, json={}).json == answer.json


def test_external_media_gets_another_url(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    location = post_url(client, tokens.alice, "files", owners).headers["Location"]
    answer = client.patch(location, headers=tokens.alice, json={"url": "/static/b.png"})
    assert (answer.json or {})["url"] == "/static/b.png"


def test_optional_fields_can_be_emptied(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    given = {"altText": "x", "width": "5", "filename": "a.png"}
    location = post_file(client, tokens.alice, "product-images", owners, **given).headers[
        "Location"
    ]
    empty = dict.fromkeys(given)
    answer = client.patch(location, headers=tokens.alice, json=empty)
    assert answer.json is not None
    assert {name: answer.json[name] for name in empty} == empty


def test_uploaded_by_is_the_identity_in_the_token(
    client: FlaskClient, app: Flask, owners: Owners
) -> None:
    for identity in ("alice", "64f0c0ffee0000000000beef", "ünïcode@example"):
        record = post_file(client, bearer(app, identity), "files", owners).json
        assert record is not None
        assert record["uploadedBy"] == identity


SCRIPTED_SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
UNKNOWN = b"no signature at all"

TYPES: list[tuple[bytes, str, str | None, str, str, str]] = [
    # bytes, filename, declared type → MIME type, media type, resource type
    (png(), "a.pdf", "application/pdf", "image/png", "image", "image"),
    (PDF, "a.png", "image/png", "application/pdf", "document", "pdf"),
    (mp4(), "a", None, "video/mp4", "video", "document"),
    (b"<html><script>", "a.png", "image/png", "text/html", "document", "code"),
    (b"\n <!DOCTYPE HTML><b>", "a.jpg", "image/jpeg", "text/html", "document", "code"),
    (SCRIPTED_SVG, "a.png", "image/png", "image/svg+xml", "image", "image"),
    (UNKNOWN, "a.png", "image/png", "application/octet-stream", "document", "document"),
    (UNKNOWN, "a.mp4", "video/mp4", "application/octet-stream", "document", "document"),
    (b"print(1)\n", "a.py", None, "text/x-python", "document", "code"),
    (b"a,b\n1,2\n", "a.csv", "application/octet-stream", "text/csv", "document", "document"),
    (b"a,b\n1,2\n", "a", "text/csv; charset=utf-8", "text/csv", "document", "document"),
    (b"PK\x03\x04" + bytes(40), "a.zip", None, "application/zip", "document", "archive"),
    (b"ID3\x03" + bytes(200), "a.mp3", None, "audio/mpeg", "audio", "document"),
]  # fmt: skip


def test_types_are_derived_from_the_bytes(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    """Neither the name nor the uploader makes bytes an image."""
    for content, filename, declared, *expected in TYPES:
        file = {"file": part(content, filename, declared)}
        stored = post_file(client, tokens.alice, "files", owners, **file).json or {}
        file = part(content, filename, declared)
        resource = post_file(client, tokens.alice, "course-resources", owners, file=file).json
        assert resource is not None
        assert [stored["mimeType"], stored["mediaType"], resource["resourceType"]] == expected, (
            filename
        )
        assert resource["resourceName"] == filename


@pytest.mark.parametrize(("kind", "content"), [("product-images", PDF), ("course-videos", png())])
def test_images_are_images_and_videos_are_videos(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State, kind: str, content: bytes
) -> None:
    """Whatever name and type the bytes come with."""
    for body in (
        content,
        b"<html>",
        b"<svg/>" if kind == "course-videos" else b"text",
        b"\0" * 100,
    ):
        answer = post_file(
            client, tokens.alice, kind, owners, file=part(body, "a.png", "image/png")
        )
        assert answer.status_code == 415
        assert (answer.json or {})["status"] == "Unsupported Media Type"
    assert kept(state) == NOTHING


def test_a_product_has_one_main_image(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State
) -> None:
    first = post_file(client, tokens.alice, "product-images", owners, isMainImage="true")
    before = kept(state)
    second = post_file(client, tokens.alice, "product-images", owners, isMainImage="true")
    assert (second.status_code, (second.json or {})["status"]) == (409, "Conflict")
    third = post_url(client, tokens.alice, "product-images", owners, isMainImage=True)
    assert third.status_code == 409
    assert kept(state) == before
    other = post_url(client, tokens.alice, "product-images", owners)

    def edit(location: str, is_main_image: bool) -> int:
        changes = {"isMainImage": is_main_image}
        return client.patch(location, headers=tokens.alice, json=changes).status_code

    assert edit(other.location, True) == 409
    assert edit(first.location, False) == 200
    assert edit(other.location, True) == 200


@every_kind
def test_delete(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State, kind: str
) -> None:
    location = post_file(client, tokens.alice, kind, owners, isPublic="true").headers["Location"]
    answer = client.delete(location, headers=tokens.alice)
    assert (answer.status_code, answer.data) == (204, b"")
    assert kept(state) == NOTHING
    for method, path in [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("GET", "/content"),
        ("PUT", "/content"),
    ]:
        json_body = {} if method == "PATCH" else None
        answer = client.open(location + path, method=method, headers=tokens.alice, json=json_body)
        assert answer.status_code == 404, (method, path)
    assert client.post(f"{location}/accesses", headers=tokens.alice).status_code == 404


@every_kind
def test_the_document_must_exist(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State, kind: str
) -> None:
    missing = owners._replace(product=state_id(), course=state_id(), user=state_id())
    for answer in (
        post_file(client, tokens.alice, kind, missing),
        post_url(client, tokens.alice, kind, missing),
    ):
        assert (answer.status_code, (answer.json or {})["code"]) == (404, 404)
    assert kept(state) == NOTHING
    if kind == "files":
        unchecked = {"referenceType": "page", "referenceId": "no document"}
        assert post_file(client, tokens.alice, kind, owners, **unchecked).status_code == 201


def state_id() -> t.Any:
    return "0" * 24


@pytest.mark.long
def test_no_access_is_lost_when_many_count_at_once(make_app: MakeApp, mode: str) -> None:
    """Twenty threads, exact total. What is read is counted by itself, and not written down while
    this goes on."""
    app = make_app(mode, DUALMEDIA_COUNT_INTERVAL=3600)
    collections = [get_state(app).mongo[name] for name in ("products", "courses", "users")]
    owners = Owners(*(collection.insert_one({}).inserted_id for collection in collections))
    client, tokens = app.test_client(), Tokens.of(app)
    location = post_file(client, tokens.alice, "course-videos", owners, isPublic="true").headers[
        "Location"
    ]
    content = f"{location}/content"

    def watch(_: int) -> list[int]:
        with app.test_client() as viewer:
            statuses = [
                viewer.post(f"{location}/accesses", headers=tokens.bob).status_code
                for _ in range(5)
            ]
            viewer.get(content, headers={"Range": "bytes=0-"})
            return statuses

    with ThreadPoolExecutor(20) as pool:
        statuses = list(itertools.chain.from_iterable(pool.map(watch, range(20))))
    assert statuses == [204] * 100
    record = client.get(location, headers=tokens.alice).json
    assert record is not None
    assert record["accessCount"] == 100
    assert record["lastAccessedAt"] >= record["createdAt"]


# Lists


@pytest.fixture
def shelf(client: FlaskClient, tokens: Tokens, owners: Owners) -> list[dict[str, t.Any]]:
    """23 images of one product with many ties in position and access count, oldest first."""
    for number in range(23):
        made = post_url(client, tokens.alice, "product-images", owners, position=number * 7 % 3)
        for _ in range(number * 5 % 4):
            client.post(f"{made.headers['Location']}/accesses", headers=tokens.alice)
    found = ids_and_items(client, tokens.alice, "/media/product-images?sort=createdAt&limit=100")
    assert len(found) == 23
    return found


def ids_and_items(client: FlaskClient, headers: Headers, path: str) -> list[dict[str, t.Any]]:
    answer = client.get(path, headers=headers)
    assert answer.status_code == 200, answer.json
    assert answer.json is not None
    return answer.json["items"]


def walk(
    client: FlaskClient, headers: Headers, path: str | None
) -> tuple[list[dict[str, t.Any]], list[int]]:
    """All records by following ``next``, and the sizes of the pages."""
    items, sizes = [], []
    while path is not None:
        page = client.get(path, headers=headers).json
        assert page is not None
        items += page["items"]
        sizes.append(len(page["items"]))
        path = page["next"]
    return items, sizes


@pytest.mark.parametrize("field", ["createdAt", "position", "accessCount"])
def test_pages_together_are_the_whole_list(
    client: FlaskClient, tokens: Tokens, shelf: list[dict[str, t.Any]], owners: Owners, field: str
) -> None:
    """Ties are broken by id, in the direction of the sort, so that no record is on two pages or on
    none."""
    ascending = sorted(
        shelf, key=lambda record: (record[field] if field != "createdAt" else 0, record["id"])
    )
    for sort, expected in ((field, ascending), (f"-{field}", ascending[::-1])):
        for limit, sizes in (
            (1, [1] * 23),
            (4, [4] * 5 + [3]),
            (22, [22, 1]),
            (23, [23]),
            (100, [23]),
        ):
            first = (
                f"/media/product-images?sort={sort}&limit={limit}&mongoProductId={owners.product}"
            )
            assert walk(client, tokens.alice, first) == (expected, sizes), (sort, limit)


def test_a_record_added_or_deleted_meanwhile_moves_no_page(
    client: FlaskClient, tokens: Tokens, shelf: list[dict[str, t.Any]], owners: Owners
) -> None:
    page = client.get("/media/product-images?limit=10", headers=tokens.alice).json
    assert page is not None
    post_url(client, tokens.alice, "product-images", owners)
    client.delete(f"/media/product-images/{page['items'][-1]['id']}", headers=tokens.alice)
    rest, _ = walk(client, tokens.alice, page["next"])
    assert page["items"] + rest == shelf[::-1]


def test_order_without_a_sort(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    """The newest first; of one owner, in the order of the owner."""
    images = [
        post_url(client, tokens.alice, "product-images", owners, position=p).json for p in (2, 0, 1)
    ]
    files = [post_url(client, tokens.alice, "files", owners).json for _ in range(3)]
    ordered = [images[1], images[2], images[0]]
    assert ids_and_items(client, tokens.alice, "/media/product-images") == images[::-1]
    of_product = f"/media/product-images?mongoProductId={owners.product}"
    assert ids_and_items(client, tokens.alice, of_product) == ordered
    assert ids_and_items(client, tokens.alice, "/media/files") == files[::-1]
    assert ids_and_items(client, tokens.alice, f"/media/files?referenceId={owners.user}") == files


FILTERS: dict[str, list[tuple[dict[str, t.Any], dict[str, t.Any]]]] = {
    # two records by kind: what tells them apart
    "product-images": [({"isMainImage": True}, {"isMainImage": False})],
    "course-videos": [
        ({"mongoLessonId": "l1"}, {"mongoLessonId": "l2"}),
        ({"videoType": "intro"}, {"videoType": "module"}),
    ],
    "course-resources": [
        ({"mongoLessonId": "l1"}, {"mongoLessonId": "l2"}),
        ({"resourceType": "pdf"}, {"resourceType": "code"}),
    ],
    "files": [
        ({"referenceType": "page"}, {"referenceType": "post"}),
        ({"mediaType": "image"}, {"mediaType": "audio"}),
    ],
}


@every_kind
def test_filters(client: FlaskClient, tokens: Tokens, owners: Owners, kind: str) -> None:
    for one, other in FILTERS[kind]:
        first = post_url(client, tokens.alice, kind, owners, **one).json
        second = post_url(client, tokens.alice, kind, owners, **other).json
        assert first is not None
        assert second is not None
        for wanted, fields in ((first, one), (second, other)):
            query = {name: as_text(value) for name, value in fields.items()}
            answer = client.get(f"/media/{kind}", query_string=query, headers=tokens.alice).json
            assert answer == {"items": [wanted], "next": None, "partial": False}
            # Several filters all have to hold.
            nobody = client.get(
                f"/media/{kind}", query_string=query | {"uploadedBy": "bob"}, headers=tokens.alice
            )
            assert nobody.json == {"items": [], "next": None, "partial": False}
        for made in (first, second):
            client.delete(f"/media/{kind}/{made['id']}", headers=tokens.alice)


@every_kind
def test_filter_by_owner_and_uploader(
    client: FlaskClient, tokens: Tokens, owners: Owners, kind: str
) -> None:
    made = post_file(client, tokens.alice, kind, owners, isPublic="true").json
    other = post_file(client, tokens.bob, kind, owners, isPublic="true").json
    for name, value in of_owner(kind, owners).items():
        assert ids_and_items(
            client, tokens.alice, f"/media/{kind}?sort=createdAt&{name}={value}"
        ) == [made, other]
        assert ids_and_items(client, tokens.alice, f"/media/{kind}?{name}=nothing") == []
    assert ids_and_items(client, tokens.alice, f"/media/{kind}?uploadedBy=bob") == [other]


def test_the_next_page_keeps_the_filters(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    made = [
        post_url(client, tokens.alice, "files", owners, referenceType="a b&c=ü").json
        for _ in range(5)
    ]
    for _ in range(3):
        post_url(client, tokens.alice, "files", owners, referenceType="other")
    query = "referenceType=a%20b%26c%3D%C3%BC&limit=2&sort=createdAt"
    items, sizes = walk(client, tokens.alice, f"/media/files?{query}")
    assert (items, sizes) == (made, [2, 2, 1])


def test_lists_show_own_and_public_records_and_an_admin_all(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    """Records that a client may not read are not listed for them either."""
    made = {
        (who, public): (
            post_url(
                client,
                getattr(tokens, who),
                "files",
                owners,
                isPublic=public,
                title=f"{who} {public}",
            ).json
            or {}
        )["title"]
        for who in ("alice", "bob")
        for public in (False, True)
    }

    def seen(headers: Headers, query: str = "") -> set[str]:
        items, _ = walk(client, headers, f"/media/files?limit=1&{query}")
        return {item["title"] for item in items}

    assert seen(tokens.alice) == set(made.values()) - {made["bob", False]}
    assert seen(tokens.bob) == set(made.values()) - {made["alice", False]}
    assert seen(tokens.admin) == set(made.values())
    assert seen(tokens.bob, "uploadedBy=alice") == {made["alice", True]}


def test_links_hold_where_the_app_is_mounted_below_a_path(
    client: FlaskClient, tokens: samples.Tokens, owners: samples.Owners
) -> None:
    for _ in range(2):
        url = {"mongoProductId": str(owners.product), "imageUrl": "https://cdn.example/a.jpg"}
        client.post("/media/product-images", json=url, headers=tokens.alice)
    data = {"file": samples.part(samples.png()), "mongoProductId": str(owners.product)}
    mounted: dict[str, t.Any] = {"base_url": "http://localhost/app", "headers": tokens.alice}
    saved = client.post("/media/product-images", data=data, **mounted).json
    page = client.get("/media/product-images?limit=1", **mounted).json
    assert saved is not None
    assert page is not None
    assert saved["imageUrl"] == f"/app/media/product-images/{saved['id']}/content"
    assert page["next"].startswith("/app/media/product-images?")


def test_no_token_is_said_before_a_wrong_query(client: FlaskClient) -> None:
    assert client.get("/media/files?limit=0").status_code == 401


def test_a_token_in_the_query_is_no_parameter_where_the_host_takes_it(make_app: t.Any) -> None:
    app = make_app("mongo", JWT_TOKEN_LOCATION=["query_string"])
    token = samples.bearer(app, "alice")["Authorization"].removeprefix("Bearer ")
    assert app.test_client().get(f"/media/files?jwt={token}&limit=5").status_code == 200
    assert app.test_client().get(f"/media/files?jwt={token}&limi=5").status_code == 422


@pytest.mark.parametrize("identity", ["x" * 256, "nul\0", "\ud800"])
def test_an_identity_that_cannot_be_kept(client: FlaskClient, app: Flask, identity: str) -> None:
    answer = client.get("/media/files", headers=samples.bearer(app, identity))
    assert answer.status_code == 401


def test_a_part_that_is_sent_twice(
    client: FlaskClient, tokens: samples.Tokens, owners: samples.Owners
) -> None:
    data = {
        "file": samples.part(samples.png()),
        "mongoProductId": str(owners.product),
        "altText": ["a", "b"],
    }
    answer = client.post("/media/product-images", data=data, headers=tokens.alice)
    assert answer.status_code == 422
    assert answer.json["errors"] == {"altText": ["Sent more than once."]}  # type: ignore[index]


def test_a_second_main_image_names_its_field(
    client: FlaskClient, tokens: samples.Tokens, owners: samples.Owners
) -> None:
    data = {
        "mongoProductId": str(owners.product),
        "imageUrl": "https://cdn.example/a.jpg",
        "isMainImage": True,
    }
    assert client.post("/media/product-images", json=data, headers=tokens.alice).status_code == 201
    answer = client.post("/media/product-images", json=data, headers=tokens.alice)
    assert (answer.status_code, list(answer.json["errors"])) == (409, ["isMainImage"])  # type: ignore[index]
