"""A page of the app shows the media of its documents that its visitor may see."""

from __future__ import annotations

import typing as t

import pytest
from bson import ObjectId
from flask import Flask
from flask_jwt_extended import get_jwt, jwt_required

from flask_dualmedia import (
    MediaNotFound,
    ProductImage,
    attach_media,
    get_media,
    get_media_stats,
    get_owner,
    get_product_images,
    remember_owner,
    save_product_image,
)
from flask_dualmedia.models import Media
from flask_dualmedia.state import get_state
from flask_dualmedia.testing import count_queries

from ..conftest import MakeApp
from ..samples import bearer, png

STRANGERS: dict[str, t.Any] = {
    "nobody": None,
    "nobody's claims": {},
    "another": "bob",
    "another's claims": {"sub": "bob", "role": "user"},
    "a role without an identity": {"role": "admin"},
}
READERS: dict[str, t.Any] = {
    "uploader": "alice",
    "uploader's claims": {"sub": "alice"},
    "admin's claims": {"sub": "root", "role": "admin"},
}


@pytest.fixture
def product(app: Flask) -> dict[str, t.Any]:
    """A product with a public and a private image of the same uploader, and a private one of
    nobody's."""
    product = {"_id": get_state(app).mongo["products"].insert_one({"name": "Lamp"}).inserted_id}
    with app.app_context():
        save_product_image(
            product["_id"], png(), uploaded_by="alice", is_public=True, alt_text="public"
        )
        save_product_image(product["_id"], png(), uploaded_by="alice", alt_text="private")
    return product


def shown(images: t.Iterable[Media]) -> list[str]:
    return [t.cast(ProductImage, image).alt_text or "" for image in images]


@pytest.mark.parametrize("viewer", [*STRANGERS, *READERS])
def test_a_page_has_what_its_viewer_may_read(
    app: Flask, product: dict[str, t.Any], viewer: str
) -> None:
    visible_to = (STRANGERS | READERS)[viewer]
    expected = ["public", "private"] if viewer in READERS else ["public"]
    with app.app_context():
        attach_media([product], visible_to=visible_to, images=ProductImage)
        assert shown(product["images"]) == expected
        assert shown(get_product_images(product["_id"], visible_to=visible_to)) == expected
        assert get_media_stats("product", product["_id"], visible_to=visible_to).media == len(
            expected
        )


def test_private_media_without_an_uploader_is_not_shown_to_nobody(app: Flask) -> None:
    product_id = ObjectId()
    get_state(app).mongo["products"].insert_one({"_id": product_id})
    with app.app_context():
        image = save_product_image(product_id, png())
        assert get_product_images(product_id, visible_to=None) == []
        product = {"_id": product_id}
        (attached,) = attach_media([product], visible_to=None, images=ProductImage)
        assert attached["images"] == []
        with pytest.raises(MediaNotFound):
            get_media(ProductImage, image.id, visible_to=None)
        assert get_media(ProductImage, image.id).id == image.id


def test_a_viewer_is_an_identity_or_claims(
    app: Flask, product: dict[str, t.Any], context: None
) -> None:
    for wrong in (True, object(), ["alice"]):
        with pytest.raises(TypeError):
            attach_media([product], visible_to=wrong, images=ProductImage)


def test_a_view_shows_by_the_token_of_its_request_with_the_same_queries(
    app: Flask, product: dict[str, t.Any]
) -> None:
    @app.get("/products")
    @jwt_required(optional=True)
    def products() -> t.Any:
        found = get_state().mongo["products"].find()
        page = attach_media(found, visible_to=get_jwt(), images=ProductImage)
        return [shown(one["images"]) for one in page]

    client = app.test_client()
    for headers, expected in ((None, ["public"]), (bearer(app, "alice"), ["public", "private"])):
        with count_queries(app) as queries:
            assert client.get("/products", headers=headers).json == [expected]
        # A process that was held up asks the journal too.
        about_media = [
            query for query in queries.mongo if "journal" not in query and query != "find products"
        ]
        assert queries.mongo.count("find products") == 1
        assert len(queries.sql) + len(about_media) == 1


def test_a_rule_that_asks_for_documents_reads_those_of_the_page_with_one_query(
    make_app: MakeApp, mode: str
) -> None:
    def rule(
        action: str, subject: t.Any, identity: str | None, claims: t.Mapping[str, t.Any]
    ) -> bool:
        return (get_owner(subject) or {}).get("reader") == identity

    app = make_app(mode, DUALMEDIA_AUTHORIZE=rule)
    documents = [
        {"_id": ObjectId(), "reader": "alice" if number % 2 else "bob"} for number in range(6)
    ]
    get_state(app).mongo["products"].insert_many(documents)
    with app.app_context():
        for document in documents:
            save_product_image(document["_id"], png())

    @app.get("/products/<remembers>")
    def products(remembers: str) -> t.Any:
        page = [dict(document) for document in documents]
        if remembers == "yes":
            for document in page:
                remember_owner("product", document)
        attach_media(page, visible_to="alice", images=ProductImage)
        return [len(document["images"]) for document in page]

    for remembers, asked in (("no", 1), ("yes", 0)):
        with count_queries(app) as queries:
            assert app.test_client().get(f"/products/{remembers}").json == [0, 1, 0, 1, 0, 1]
        assert len([query for query in queries.mongo if query == "find products"]) == asked
