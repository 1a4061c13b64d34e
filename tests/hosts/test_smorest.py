"""flask-smorest, with schemas that are called like ours."""

from __future__ import annotations

import typing as t
from contextlib import ExitStack
from functools import cache

import pytest
from flask import Flask
from flask_smorest import Api, Blueprint
from marshmallow import Schema, fields
from werkzeug.test import TestResponse

from flask_dualmedia import DualMedia, InvalidMedia

from .conftest import Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE = "/plain"


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    app = Flask("smorest")
    options = {
        "API_TITLE": "Things",
        "API_VERSION": "2",
        "OPENAPI_VERSION": "3.0.3",
        "OPENAPI_URL_PREFIX": "/",
    }
    app.config.update(config | options)
    api = Api(app)
    things: list[dict[str, t.Any]] = []
    blueprint = Blueprint("things", __name__)
    schemas = _schemas()

    @blueprint.route("/things")
    @blueprint.response(200, schemas["ThingSchema"](many=True))
    def list_things() -> t.Any:
        return things

    @blueprint.route("/things/new", methods=["POST"])
    @blueprint.arguments(schemas["ThingSchema"])
    @blueprint.response(201, schemas["ThingSchema"])
    def add_thing(thing: dict[str, t.Any]) -> t.Any:
        things.append(thing)
        return thing

    app.add_url_rule("/plain", view_func=lambda: "plain", endpoint="plain", methods=["GET"])
    api.register_blueprint(blueprint)
    app.config["KEPT"] = {
        name: value for name, value in app.config.items() if name.startswith(("API_", "OPENAPI_"))
    }
    if media is not None:
        media.init_app(app)
    return app


@cache
def _schemas() -> dict[str, type[Schema]]:
    class ProductImageSchema(Schema):
        colour = fields.String(required=True)

    class ThingSchema(Schema):
        name = fields.String(required=True)
        image = fields.Nested("ProductImageSchema")  # marshmallow looks for it by its name

    return {"ProductImageSchema": ProductImageSchema, "ThingSchema": ThingSchema}


def test_things_are_checked_and_listed(house: House) -> None:
    thing = {"name": "Lamp", "image": {"colour": "red"}}
    before = house.client.get("/things").get_json()
    assert house.client.post("/things/new", json=thing).status_code == 201
    refused = house.client.post(
        "/things/new", json={"name": "Lamp", "image": {"mongoProductId": "1"}}
    )
    assert refused.get_json()["errors"]["json"]["image"].keys() == {"colour", "mongoProductId"}
    assert house.client.get("/things").get_json() == [*before, thing]


def test_its_document_tells_of_its_own_routes(house: House) -> None:
    house.client.get("/media/openapi.json")
    document = house.client.get("/openapi.json").get_json()
    assert document["info"] == {"title": "Things", "version": "2"}
    assert set(document["paths"]) == {"/things", "/things/new"}
    assert {"Thing", "ProductImage"} <= document["components"]["schemas"].keys()
    assert document["components"]["schemas"]["ProductImage"]["properties"].keys() == {"colour"}
    kept = house.app.config["KEPT"]
    assert {name: house.app.config[name] for name in kept} == kept


class TestMedia(Contract):
    """Media in this house."""

    def check_failure(self, answer: TestResponse, error: Exception) -> None:
        told = t.cast("dict[str, t.Any]", answer.get_json())
        assert told["code"] == answer.status_code
        if isinstance(error, InvalidMedia):
            assert told["errors"] == error.errors
        else:
            assert told["message"] == str(error)
