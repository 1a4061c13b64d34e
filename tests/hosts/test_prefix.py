"""An app under a prefix of Werkzeug's DispatcherMiddleware."""

from __future__ import annotations

import typing as t
from contextlib import ExitStack

import pytest
from flask import Flask, redirect, url_for
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, TestResponse

from flask_dualmedia import DualMedia, content_url, dump_media, get_media, signed_url

from ..samples import PDF, part
from .conftest import Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE, ROOT = "/", "/shop"


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    app = Flask("shop")
    app.config.update(config, APPLICATION_ROOT="/shop")

    @app.get("/")
    def home() -> str:
        return url_for("home")

    @app.get("/old")
    def old() -> t.Any:
        return redirect(url_for("home"))

    if media is not None:
        media.init_app(app)
    return app


def open_client(app: Flask) -> Client:
    front = Flask("front")
    front.add_url_rule("/", view_func=lambda: "front", endpoint="home")
    return Client(DispatcherMiddleware(front, {"/shop": app}), response_wrapper=TestResponse)


def test_pages_are_below_the_prefix(house: House) -> None:
    assert house.client.get("/").text == "front"
    assert house.client.get("/shop/").text == "/shop/"
    assert house.client.get("/shop/old").location == "/shop/"
    assert house.client.get("/media/health").status_code == 404


class TestMedia(Contract):
    """Media in this house."""

    def test_urls_are_the_same_in_requests_and_outside(self, house: House) -> None:
        file = {"file": part(PDF, "a.pdf"), "referenceType": "note", "referenceId": "n4"}
        record = house.client.post("/shop/media/files", headers=house.token, data=file).get_json()
        with house.app.app_context():
            media = get_media("files", record["id"])
            url = f"/shop/media/files/{record['id']}/content"
            assert content_url(media) == record["url"] == url
            assert dump_media(media)["url"] == record["url"]
            assert house.client.get(signed_url(media)).data == PDF
        next_page = house.client.get("/shop/media/files?limit=1", headers=house.token).get_json()[
            "next"
        ]
        assert next_page is None or next_page.startswith("/shop/media/files?")
