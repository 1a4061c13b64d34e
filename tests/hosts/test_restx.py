"""flask-restx, which answers errors of the whole app."""

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

PAGE = "/plain"


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    from flask_restx import Api, Resource, reqparse

    app = Flask("restx")
    app.config.update(config)
    api = app.extensions["things"] = Api(app, title="Things", doc="/doc")
    things: list[str] = []
    parser = reqparse.RequestParser()
    parser.add_argument("name", required=True, location="form")

    @api.route("/things")
    class Things(Resource):
        def get(self) -> t.Any:
            return {"things": things}

        @api.expect(parser)
        def post(self) -> t.Any:
            things.append(parser.parse_args()["name"])
            return {"things": things}, 201

    @api.route("/broken")
    class Broken(Resource):
        def get(self) -> t.Any:
            raise KeyError("broken")

    @api.errorhandler(KeyError)
    def explain(error: KeyError) -> t.Any:
        return {"message": "It is broken."}, 500

    app.add_url_rule("/plain", view_func=lambda: "plain", endpoint="plain", methods=["GET"])
    if media is not None:
        media.init_app(app)
    return app


def add_view(app: Flask, rule: str, view: t.Callable[..., t.Any]) -> None:
    from flask_restx import Resource

    class Viewed(Resource):
        def get(self, **arguments: str) -> t.Any:
            return view(**arguments)

    app.extensions["things"].add_resource(Viewed, rule)


def test_things_are_listed_and_errors_are_its_own(house: House) -> None:
    before = house.client.get("/things").get_json()["things"]
    assert house.client.post("/things", data={"name": "Lamp"}).get_json() == {
        "things": [*before, "Lamp"]
    }
    assert "name" in house.client.post("/things").get_json()["errors"]
    assert house.client.get("/broken").get_json() == {"message": "It is broken."}
    assert house.client.delete("/things").status_code == 405


def test_its_document_tells_of_its_own_routes(house: House) -> None:
    document = house.client.get("/swagger.json").get_json()
    assert set(document["paths"]) == {"/things", "/broken", "/failing/{name}"}
    assert house.client.get("/doc").status_code == 200


class TestMedia(Contract):
    """Media in this house."""

    def check_failure(self, answer: TestResponse, error: Exception) -> None:
        assert str(error) in t.cast("dict[str, t.Any]", answer.get_json())["message"]
