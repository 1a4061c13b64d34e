"""Media belongs to a document: who may add some to it, and what a stranger's media does to it."""

from __future__ import annotations

import base64
import typing as t

import pytest
from bson import ObjectId
from flask import Flask
from flask.testing import FlaskClient

from flask_dualmedia import (
    ConfigurationError,
    MediaConflict,
    get_owner,
    get_product_images,
    save_product_image,
)
from flask_dualmedia.models import Media
from flask_dualmedia.signals import media_saved
from flask_dualmedia.state import get_state
from flask_dualmedia.testing import count_queries

from ..conftest import MakeApp
from ..samples import SAMPLES, Headers, bearer, part, png, post_form

ALICES = {"creator_id": "alice"}


@pytest.fixture
def shop(make_app: MakeApp, mode: str) -> Flask:
    """An app under the default rule, whose documents name their creator."""
    return make_app(mode, DUALMEDIA_AUTHORIZE=None, DUALMEDIA_OWNER_FIELD="creator_id")


def insert(app: Flask, collection: str = "products", **fields: t.Any) -> ObjectId:
    return get_state(app).mongo[collection].insert_one(fields).inserted_id


def metadata(**fields: str) -> str:
    return ",".join(
        f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in fields.items()
    )


def by_multipart(client: FlaskClient, headers: Headers, product_id: object) -> int:
    data = {"file": part(png(), "photo.png"), "mongoProductId": str(product_id)}
    return post_form(client, headers, "/media/product-images", data).status_code


def by_url(client: FlaskClient, headers: Headers, product_id: object) -> int:
    fields = {"mongoProductId": str(product_id), "imageUrl": "https://example.com/photo.png"}
    return client.post("/media/product-images", json=fields, headers=headers).status_code


def by_tus(client: FlaskClient, headers: Headers, product_id: object) -> int:
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": "100"}
    named = metadata(kind="product-images", filename="photo.png", mongoProductId=str(product_id))
    headers = headers | tus | {"Upload-Metadata": named}
    return client.post("/media/uploads", headers=headers).status_code


def by_direct_upload(client: FlaskClient, headers: Headers, product_id: object) -> int:
    fields = {
        "mongoProductId": str(product_id),
        "filename": "photo.png",
        "mimeType": "image/png",
        "fileSize": 100,
    }
    answer = client.post(
        "/media/product-images/direct-uploads",
        json=fields | {"checksum": "0" * 64},
        headers=headers,
    )
    return (
        201
        if answer.status_code == 422 and "storageType" in (answer.json or {})["errors"]
        else answer.status_code
    )


WAYS = [by_multipart, by_url, by_tus, by_direct_upload]


@pytest.mark.parametrize("send", WAYS)
def test_nobody_adds_media_to_a_document_that_does_not_name_them(
    shop: Flask, send: t.Callable[[FlaskClient, Headers, object], int]
) -> None:
    client, theirs, nobodys = shop.test_client(), insert(shop, **ALICES), insert(shop)
    alice, bob, admin = (
        bearer(shop, "alice"),
        bearer(shop, "bob"),
        bearer(shop, "root", role="admin"),
    )

    answers = [send(client, headers, theirs) for headers in (alice, bob, admin)]
    assert answers == [201, 403, 201]
    answers = [send(client, headers, nobodys) for headers in (alice, bob, admin)]
    assert answers == [403, 403, 201]
    assert send(client, bob, ObjectId()) == 404


def test_users_add_media_to_themselves_alone_and_everybody_to_what_has_no_document(
    shop: Flask,
) -> None:
    client, user_id = shop.test_client(), insert(shop, "users")

    def add(identity: str, reference_type: str) -> int:
        data = {
            "file": part(SAMPLES["files"]),
            "referenceType": reference_type,
            "referenceId": str(user_id),
        }
        return post_form(client, bearer(shop, identity), "/media/files", data).status_code

    assert [add(str(user_id), "user"), add("bob", "user"), add("bob", "page")] == [201, 403, 201]


@pytest.mark.parametrize(
    ("field", "document"),
    [
        ("owner", {"owner": "alice"}),
        ({"product": "owner"}, {"owner": "alice"}),
        ("owners", {"owners": ["carol", "alice"]}),
        ("owner.id", {"owner": {"id": "alice"}}),
        ("owners.id", {"owners": [{"id": "carol"}, None, "bob", {"id": ["dave", "alice"]}]}),
    ],
)
def test_a_document_names_whoever_may_add_to_it_in_a_field_that_the_app_names(
    make_app: MakeApp, field: t.Any, document: dict[str, t.Any]
) -> None:
    app = make_app("mongo", DUALMEDIA_AUTHORIZE=None, DUALMEDIA_OWNER_FIELD=field)
    client, product_id = app.test_client(), insert(app, **document)
    assert [by_url(client, bearer(app, who), product_id) for who in ("alice", "bob")] == [201, 403]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"DUALMEDIA_OWNER_FIELD": "owner"},
            "Only admins and the owner of this product may add media to it.",
        ),
        (
            {},
            "Only admins may add media to this product: "
            "DUALMEDIA_OWNER_FIELD names no field that has its owner.",
        ),
        ({"DUALMEDIA_AUTHORIZE": lambda *_: False}, "You may not add media here."),
    ],
    ids=["another's document", "no field is named", "the app's own rule"],
)
def test_whoever_may_not_add_media_is_told_why(
    make_app: MakeApp, settings: dict[str, t.Any], message: str
) -> None:
    app = make_app("mongo", **{"DUALMEDIA_AUTHORIZE": None} | settings)
    product_id = insert(app, owner="alice")
    fields = {"mongoProductId": str(product_id), "imageUrl": "https://example.com/photo.png"}
    answer = app.test_client().post(
        "/media/product-images", json=fields, headers=bearer(app, "bob")
    )
    assert (answer.status_code, (answer.json or {})["message"]) == (403, message)


@pytest.mark.parametrize(
    "field", [7, {"product": 7}, {"product": ""}, {"product": "$where"}, {"page": "owner"}]
)
def test_a_wrong_name_of_the_owner_field_stops_the_start(make_app: MakeApp, field: t.Any) -> None:
    with pytest.raises(ConfigurationError, match="DUALMEDIA_OWNER_FIELD"):
        make_app("mongo", DUALMEDIA_OWNER_FIELD=field)


def test_media_of_one_document_is_not_moved_to_another(shop: Flask) -> None:
    client, alice = shop.test_client(), bearer(shop, "alice")
    hers, bobs = insert(shop, **ALICES), insert(shop, creator_id="bob")
    with shop.app_context():
        image = save_product_image(hers, png(), uploaded_by="alice")
    answer = client.patch(
        f"/media/product-images/{image.id}", json={"mongoProductId": str(bobs)}, headers=alice
    )
    assert answer.status_code == 422
    with shop.app_context():
        assert get_product_images(bobs) == []


def test_the_document_is_asked_for_once_when_media_is_added(shop: Flask) -> None:
    client, product_id, alice = shop.test_client(), insert(shop, **ALICES), bearer(shop, "alice")
    with count_queries(shop) as queries:
        assert by_url(client, alice, product_id) == 201
    about_documents = [query for query in queries.mongo if query == "find products"]
    assert len(about_documents) == 1


def main_image(client: FlaskClient, headers: Headers, product_id: object, **fields: t.Any) -> t.Any:
    data = {
        "file": part(png(), "photo.png"),
        "mongoProductId": str(product_id),
        "isMainImage": "true",
    } | fields
    return post_form(client, headers, "/media/product-images", data)


def test_a_private_main_image_of_a_stranger_is_in_nobodys_way(app: Flask) -> None:
    client, product_id = app.test_client(), insert(app, **ALICES)
    alice, bob = bearer(app, "alice"), bearer(app, "bob")
    assert main_image(client, bob, product_id).status_code == 201

    mine = main_image(client, alice, product_id)
    assert mine.status_code == 201
    assert (mine.json or {})["isMainImage"] is True
    listed = client.get(f"/media/product-images?mongoProductId={product_id}", headers=bob)
    assert [image["isMainImage"] for image in (listed.json or {})["items"]] == [False]


def test_a_hidden_main_image_stays_until_another_is_there(app: Flask) -> None:
    client, product_id = app.test_client(), insert(app, **ALICES)
    alice, bob = bearer(app, "alice"), bearer(app, "bob")
    assert main_image(client, bob, product_id).status_code == 201
    refused = main_image(client, alice, product_id, file=part(b"no image", "photo.png"))
    assert refused.status_code == 415
    tus = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(png()))}
    named = metadata(
        kind="product-images", filename="a.png", mongoProductId=str(product_id), isMainImage="true"
    )
    begun = client.post("/media/uploads", headers=alice | tus | {"Upload-Metadata": named})
    assert begun.status_code == 201

    def mains(headers: Headers) -> list[bool]:
        listed = client.get(f"/media/product-images?mongoProductId={product_id}", headers=headers)
        return [image["isMainImage"] for image in (listed.json or {})["items"]]

    assert mains(bob) == [True]
    rest = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
    }
    ended = client.patch(begun.headers["Location"], data=png(), headers=alice | rest)
    assert ended.status_code == 204
    assert (mains(bob), mains(alice)) == ([False], [True])


def test_whoever_may_add_nothing_any_more_makes_no_main_image(shop: Flask) -> None:
    client, product_id = shop.test_client(), insert(shop, **ALICES)
    with shop.app_context():
        image = save_product_image(
            product_id, png(), uploaded_by="bob", is_public=True, is_main_image=False
        )
    path, bob = f"/media/product-images/{image.id}", bearer(shop, "bob")
    assert client.patch(path, json={"altText": "mine"}, headers=bob).status_code == 200
    assert client.patch(path, json={"isMainImage": True}, headers=bob).status_code == 403
    assert main_image(client, bearer(shop, "alice"), product_id).status_code == 201


def test_an_edit_and_a_url_pass_by_a_hidden_main_image_too(app: Flask) -> None:
    client, alice, bob = app.test_client(), bearer(app, "alice"), bearer(app, "bob")
    product_id, other_id = insert(app, **ALICES), insert(app, **ALICES)
    with app.app_context():
        ordinary = save_product_image(product_id, png(), uploaded_by="alice", is_main_image=False)
        for owner_id in (product_id, other_id):
            save_product_image(owner_id, png(), uploaded_by="bob", is_main_image=True)

    changes = {"isMainImage": True}
    path = f"/media/product-images/{ordinary.id}"
    assert client.patch(path, json=changes, headers=alice).status_code == 200
    fields = {
        "mongoProductId": str(other_id),
        "imageUrl": "https://example.com/a.png",
        "isMainImage": True,
    }
    assert client.post("/media/product-images", json=fields, headers=alice).status_code == 201
    assert main_image(client, bob, product_id).status_code == 201


def test_a_main_image_that_its_reader_may_see_stays(app: Flask) -> None:
    client, product_id, alice = app.test_client(), insert(app, **ALICES), bearer(app, "alice")
    assert main_image(client, bearer(app, "bob"), product_id, isPublic="true").status_code == 201
    assert main_image(client, alice, product_id).status_code == 409
    assert main_image(client, bearer(app, "root", role="admin"), product_id).status_code == 409


def test_nothing_is_hidden_from_functions_within_a_request_to_a_media_route(app: Flask) -> None:
    """A receiver of a signal is the host's code, whoever has sent the request."""
    client, product_id, course_id = app.test_client(), insert(app), insert(app, "courses")
    with app.app_context():
        save_product_image(product_id, png(), uploaded_by="bob", is_main_image=True)
    refusals = []

    def show_course(sender: Flask, record: Media) -> None:
        if record.kind == "course-resources":
            try:
                save_product_image(product_id, "https://example.com/a.png", is_main_image=True)
            except MediaConflict as error:
                refusals.append(str(error))

    with media_saved.connected_to(show_course, app):
        data = {"file": part(SAMPLES["course-resources"]), "mongoCourseId": str(course_id)}
        answer = post_form(client, bearer(app, "alice"), "/media/course-resources", data)
        assert answer.status_code == 201
    assert refusals == ["the product has a main image already"]
    with app.app_context():
        assert [
            (image.uploaded_by, image.is_main_image) for image in get_product_images(product_id)
        ] == [("bob", True)]


def test_the_documents_of_a_page_are_read_with_one_query(make_app: MakeApp, mode: str) -> None:
    def rule(
        action: str, subject: t.Any, identity: str | None, claims: t.Mapping[str, t.Any]
    ) -> bool:
        return (get_owner(subject) or {}).get("creator_id") == identity

    app = make_app(mode, DUALMEDIA_AUTHORIZE=rule)
    with app.app_context():
        for number in range(6):
            save_product_image(insert(app, creator_id="alice" if number % 2 else "bob"), png())
    with count_queries(app) as queries:
        answer = app.test_client().get("/media/product-images", headers=bearer(app, "alice"))
    assert len((answer.json or {})["items"]) == 3
    about_documents = [query for query in queries.mongo if query == "find products"]
    assert len(about_documents) == 1
