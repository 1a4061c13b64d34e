"""Documents of MongoEngine, whose default is the legacy form of UUIDs."""

from __future__ import annotations

import typing as t
import uuid
from contextlib import ExitStack

import pytest
from flask import Flask, jsonify, request

from flask_dualmedia import DualMedia, OwnerNotFound, get_product_images, save_product_image

from ..samples import png
from .conftest import Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE = "/products"


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    import mongoengine

    app = Flask("mongoengine")
    app.config.update(
        config, DUALMEDIA_REFERENCES={"product": "product", "course": None, "user": None}
    )
    alias = f"host-{id(app)}"
    mongoengine.connect(host=config["MONGO_URI"], alias=alias, uuidRepresentation="pythonLegacy")
    closing.callback(mongoengine.disconnect, alias)

    class Product(mongoengine.Document):
        meta = {"db_alias": alias, "collection": "product"}
        name = mongoengine.StringField(required=True)
        number = mongoengine.UUIDField()

    @app.get("/products")
    def products() -> t.Any:
        found: t.Any = Product.objects  # type: ignore[attr-defined]
        return jsonify([[product.name, str(product.number)] for product in found.order_by("id")])

    @app.post("/products/new")
    def new() -> t.Any:
        product = Product(name=request.form["name"], number=uuid.UUID(int=7)).save()
        return jsonify(id=str(product.id)), 201

    if media is not None:
        media.init_app(app)
    return app


def test_products_are_kept(house: House) -> None:
    before = house.client.get("/products").get_json()
    assert house.client.post("/products/new", data={"name": "Lamp"}).status_code == 201
    assert house.client.get("/products").get_json() == [*before, ["Lamp", str(uuid.UUID(int=7))]]


class TestMedia(Contract):
    """Media in this house."""

    def test_media_belongs_to_its_documents(self, house: House) -> None:
        product_id = house.client.post("/products/new", data={"name": "Lamp"}).get_json()["id"]
        with house.app.app_context():
            image = save_product_image(product_id, png())
            assert [found.id for found in get_product_images(product_id)] == [image.id]
            with pytest.raises(OwnerNotFound):
                save_product_image("0" * 24, png())
