"""Flask-Compress, translations of Flask-Babel, orjson for JSON, and a session that each answer renews."""

from __future__ import annotations

import gzip
import typing as t
from contextlib import ExitStack

import pytest
from flask import Flask, jsonify, session
from flask.json.provider import JSONProvider

from flask_dualmedia import DualMedia, get_media, save_media_storage

from ..samples import PDF
from .conftest import Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE = "/text"


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    import orjson
    from flask_babel import Babel, lazy_gettext
    from flask_compress import Compress

    class Provider(JSONProvider):
        def dumps(self, obj: t.Any, **options: t.Any) -> str:
            return orjson.dumps({"host": obj}).decode()

        def loads(self, s: str | bytes, **options: t.Any) -> t.Any:
            return orjson.loads(s)

    app = Flask("compressed")
    app.config.update(config, COMPRESS_MIN_SIZE=100)
    app.json = Provider(app)
    Babel(app)
    Compress(app)

    @app.before_request
    def renew() -> None:
        session.permanent = True
        session["visited"] = True

    @app.get("/text")
    def text() -> str:
        return "text " * 1000

    @app.get("/json")
    def get_json() -> t.Any:
        return jsonify(1)

    @app.post("/titled")
    def titled() -> t.Any:
        title: t.Any = lazy_gettext("A title")
        record = save_media_storage("note", "n5", PDF, title=title, is_public=True)
        return jsonify([get_media("files", record.id).title])

    if media is not None:
        media.init_app(app)
    return app


def test_pages_are_compressed_and_json_is_its_own(house: House) -> None:
    answer = house.client.get("/text", headers={"Accept-Encoding": "gzip"})
    assert (answer.headers["Content-Encoding"], gzip.decompress(answer.data)) == ("gzip", b"text " * 1000)
    assert house.client.get("/json").get_json() == {"host": 1}
    assert "session=" in answer.headers["Set-Cookie"]


class TestMedia(Contract):
    """Media in this house."""

    def test_titles_may_be_translated_lazily(self, house: House) -> None:
        assert house.client.post("/titled").get_json() == {"host": ["A title"]}
