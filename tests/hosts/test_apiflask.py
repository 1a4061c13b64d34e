"""APIFlask, with its own OpenAPI document."""

from __future__ import annotations

import typing as t
from contextlib import ExitStack

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from flask_dualmedia import DualMedia

from .conftest import Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE = "/things"


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    from apiflask import APIBlueprint, APIFlask, Schema
    from apiflask.fields import String
    from flask_jwt_extended import JWTManager

    app = APIFlask("apiflask", title="Things")
    app.config.update(config)
    JWTManager(app)
    things: list[dict[str, str]] = []
    blueprint = APIBlueprint("things", __name__)

    class ThingSchema(Schema):
        name = String(required=True)

    @blueprint.get("/things")
    @blueprint.output(ThingSchema(many=True))
    def list_things() -> t.Any:
        return things

    @blueprint.post("/things/new")
    @blueprint.input(ThingSchema)
    @blueprint.output(ThingSchema, 201)
    def add_thing(json_data: dict[str, str]) -> t.Any:
        things.append(json_data)
        return json_data

    app.register_blueprint(blueprint)
    if media is not None:
        media.init_app(app)
    return app


def add_view(app: t.Any, rule: str, view: t.Callable[..., t.Any]) -> None:
    app.add_url_rule(rule, view_func=app.doc(hide=True)(view))


def test_things_are_checked_and_listed(house: House) -> None:
    before = house.client.get("/things").get_json()
    assert house.client.post("/things/new", json={"name": "Lamp"}).status_code == 201
    refused = house.client.post("/things/new", json={})
    assert (refused.status_code, refused.get_json()["message"]) == (422, "Validation error")
    assert house.client.get("/things").get_json() == [*before, {"name": "Lamp"}]


def test_its_document_tells_of_its_own_routes(house: House) -> None:
    document = house.client.get("/openapi.json").get_json()
    assert document["info"]["title"] == "Things"
    assert set(document["paths"]) == {"/things", "/things/new"}
    assert "ThingSchema" in document["components"]["schemas"]
    assert "Media" not in str(document)
    assert house.client.get("/docs").status_code == 200
    assert house.client.get("/nowhere").get_json()["message"] == "Not Found"


class TestMedia(Contract):
    """Media in this house."""

    def check_failure(self, answer: TestResponse, error: Exception) -> None:
        assert t.cast("dict[str, t.Any]", answer.get_json()).keys() == {
            "message",
            "detail",
        }  # of every abort()
