"""Flask-Compress, translations of Flask-Babel, orjson for JSON, and a session that each answer
renews."""

from __future__ import annotations

import gzip
import typing as t
from contextlib import ExitStack

import pytest
from flask import Flask, jsonify, session
from flask.json.provider import JSONProvider

from flask_dualmedia import DualMedia, get_media, save_media_storage

from ..samples import OFFSET_TYPE, PDF, encoded, part
from .conftest import DUAL, MONGO, Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE = "/text"

ALGORITHMS = ["gzip", "deflate", "br", "zstd", "gzip, deflate, br, zstd", "*"]

TEXT = b"One line of many, all of them alike.\n" * 9_000


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
    app.config.update(
        config, COMPRESS_MIN_SIZE=0, COMPRESS_ALGORITHM_STREAMING=["zstd", "br", "gzip", "deflate"]
    )
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
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(answer.data) == b"text " * 1000
    assert house.client.get("/json").get_json() == {"host": 1}
    assert "session=" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize("house", [DUAL, MONGO], indirect=True)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("size", [400, len(TEXT)])
def test_bytes_ranges_and_validators_are_what_they_are_without_it(
    house: House, algorithm: str, size: int
) -> None:
    """One content is read with its record, the other is streamed."""
    form = {"referenceType": "note", "referenceId": "compressed", "isPublic": "true"}
    form |= {"file": part(TEXT[:size], "a.txt")}
    made = house.client.post("/media/files", data=form, headers=house.token)
    record = t.cast(t.Any, made).get_json(force=True)
    url, tag = record["url"], f'"{record["checksum"]}"'

    def get(method: str = "GET", **headers: str) -> t.Any:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return house.client.open(url, method=method, headers={"Accept-Encoding": algorithm} | given)

    whole = get()
    assert (whole.status_code, whole.data, whole.content_length) == (200, TEXT[:size], size)
    middle = get(Range="bytes=5-104", If_Range=tag)
    assert (middle.status_code, middle.data) == (206, TEXT[5:105])
    assert middle.headers["Content-Range"] == f"bytes 5-104/{size}"
    answers = {
        200: whole,
        206: middle,
        304: get(If_None_Match=tag),
        416: get(Range=f"bytes={size}-"),
    }
    for status, answer in (*answers.items(), (200, get("HEAD"))):
        assert answer.status_code == status
        assert "Content-Encoding" not in answer.headers
        assert answer.headers.get("ETag", tag) == tag
    assert get(If_Match=tag).status_code == 200
    assert get(If_None_Match=tag[:-1] + ':gzip"').status_code == 200


@pytest.mark.parametrize("house", [DUAL, MONGO], indirect=True)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_answers_without_a_body_stay_without_one(house: House, algorithm: str) -> None:
    headers = house.token | {"Tus-Resumable": "1.0.0", "Accept-Encoding": algorithm}
    metadata = encoded({"kind": "files", "referenceType": "note", "referenceId": "compressed"})
    begin = headers | {"Upload-Length": "10", "Upload-Metadata": metadata}
    begun = house.client.post("/media/uploads", headers=begin)
    append = headers | {"Upload-Offset": "0", "Content-Type": OFFSET_TYPE}
    answers = [
        begun,
        house.client.patch(begun.headers["Location"], data=b"hello", headers=append),
        house.client.head(begun.headers["Location"], headers=headers),
        house.client.open(begun.headers["Location"], method="OPTIONS", headers=headers),
        house.client.delete(begun.headers["Location"], headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [201, 204, 200, 204, 204]
    for answer in answers:
        assert answer.data == b""
        assert not {"Content-Encoding", "Content-Type"}.intersection(answer.headers.keys())


class TestMedia(Contract):
    """Media in this house."""

    def test_titles_may_be_translated_lazily(self, house: House) -> None:
        assert house.client.post("/titled").get_json() == {"host": ["A title"]}
