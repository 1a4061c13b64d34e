"""A host that reads every body before and after its views, and every answer."""

from __future__ import annotations

import typing as t
from contextlib import ExitStack

import pytest
from flask import Flask, Response, jsonify, request

from flask_dualmedia import DualMedia

from .conftest import Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE = "/seen"


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    app = Flask("reader")
    app.config.update(config)
    seen: list[tuple[int, int]] = []

    @app.before_request
    def look() -> None:
        request.get_data()
        request.form.to_dict()

    @app.after_request
    def note(response: Response) -> Response:
        seen.append((len(request.get_data()), len(response.get_data())))
        return response

    @app.get("/seen")
    def get_seen() -> t.Any:
        return jsonify(seen)

    @app.post("/upper")
    def upper() -> str:
        return request.get_data(as_text=True).upper()

    if media is not None:
        media.init_app(app)
    return app


def test_bodies_are_seen(house: House) -> None:
    assert house.client.post("/upper", data="milk", content_type="text/plain").text == "MILK"
    assert house.client.get("/seen").get_json()[-1] == [4, 4]


class TestMedia(Contract):
    """Media in this house."""
