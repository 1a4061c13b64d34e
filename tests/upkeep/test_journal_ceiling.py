"""While SQL is down the journal takes no more than it may, and no uploader fills it alone."""

from __future__ import annotations

import io
import typing as t

import pytest
from flask import Flask
from werkzeug.test import TestResponse, encode_multipart

from flask_dualmedia import DatabaseUnavailable, ProductImage, get_media, save_product_image
from flask_dualmedia.errors import JournalFull
from flask_dualmedia.models import KINDS, new_id
from flask_dualmedia.state import State, get_state
from flask_dualmedia.storages.chunked import CHUNK_SIZE

from ..conftest import MakeApp
from ..samples import bearer, counting, part, png
from ..tools.proxy import Proxy

MIB = 1024**2
CEILING = 16 * MIB
SHARE = CEILING // 4
BUFFERED = 16 * CHUNK_SIZE


@pytest.fixture
def app(make_proxied: MakeApp, proxy: Proxy) -> Flask:
    """One whose SQL is away."""
    app = make_proxied(
        DUALMEDIA_AUTO_DRAIN=False,
        DUALMEDIA_REFERENCES={"product": None},
        DUALMEDIA_JOURNAL_MAX_SIZE=CEILING,
    )
    lose(app, proxy)
    return app


def lose(app: Flask, proxy: Proxy) -> None:
    proxy.refuse()
    with app.app_context(), pytest.raises(DatabaseUnavailable):
        get_media(ProductImage, new_id())


@pytest.fixture
def state(app: Flask) -> State:
    return get_state(app)


def picture(size: int) -> bytes:
    return (png() + counting(size))[:size]


def post(app: Flask, identity: str, content: bytes) -> TestResponse:
    boundary, body = encode_multipart(
        {"mongoProductId": "p", "file": part(content, "a.png", "image/png")}
    )
    headers = bearer(app, identity) | {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return app.test_client().post("/media/product-images", data=body, headers=headers)


def put(app: Flask, identity: str, location: str, content: bytes) -> TestResponse:
    headers = bearer(app, identity) | {"Content-Type": "image/png"}
    return app.test_client().put(f"{location}/content", data=content, headers=headers)


def held(state: State) -> int:
    """Bytes in the journal's bucket."""
    pipeline: list[t.Any] = [{"$group": {"_id": None, "size": {"$sum": {"$binarySize": "$data"}}}}]
    return sum(group["size"] for group in state.mongo["media_journal.chunks"].aggregate(pipeline))


def records(state: State) -> int:
    return sum(len(state.homes[1].repository.scan(kind, None, 1000)) for kind in KINDS.values())


def assert_full(answer: TestResponse, message: str) -> None:
    assert answer.status_code == 503, answer.json
    assert answer.json is not None
    assert message in answer.json["message"]
    assert int(answer.headers["Retry-After"]) > 0


def test_one_uploader_cannot_fill_it_alone(app: Flask, state: State) -> None:
    for _ in range(3):
        assert post(app, "alice", picture(MIB)).status_code == 201
    before = held(state), records(state)
    assert_full(post(app, "alice", picture(MIB + 1)), "your share of it is full")
    assert (held(state), records(state)) == before, "nothing is left of what was refused"
    assert post(app, "alice", picture(MIB)).status_code == 201
    assert_full(post(app, "alice", picture(100)), "your share of it is full")
    assert post(app, "bob", picture(MIB)).status_code == 201


def test_small_files_count_as_they_are(app: Flask, state: State) -> None:
    """They do not count as the chunks that they are in."""
    for _ in range(3 * SHARE // CHUNK_SIZE):
        assert post(app, "alice", picture(1000)).status_code == 201


def test_all_together_cannot_pass_the_ceiling(app: Flask, state: State) -> None:
    for number in range(4):
        assert post(app, f"person {number}", picture(SHARE)).status_code == 201
    assert held(state) == CEILING
    before = records(state)
    assert_full(post(app, "one more", picture(100)), "it is full")
    assert (held(state), records(state)) == (CEILING, before)


def test_a_body_of_unknown_length_is_cut(app: Flask, state: State) -> None:
    """The application that sends it does not say how long it is."""
    endless = io.BufferedReader(Endless())
    with app.app_context(), pytest.raises(JournalFull):
        save_product_image("p", endless, uploaded_by="alice")
    assert t.cast(Endless, endless.raw).given <= SHARE + BUFFERED + 2 * MIB
    assert (held(state), records(state)) == (0, 0)


class Endless(io.RawIOBase):
    def __init__(self) -> None:
        self.given = 0
        self._head = png()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        size = len(buffer)
        buffer[:] = bytes(size)
        if not self.given:
            buffer[: len(self._head)] = self._head
        self.given += size
        return size


def test_replacing_what_is_in_the_journal_is_limited_too(app: Flask, state: State) -> None:
    created = post(app, "alice", picture(MIB))
    before = held(state), records(state)
    assert_full(
        put(app, "alice", created.headers["Location"], picture(SHARE)), "your share of it is full"
    )
    assert (held(state), records(state)) == before
    assert put(app, "alice", created.headers["Location"], picture(SHARE - MIB)).status_code == 200


def test_parts_of_resumable_uploads_are_limited_too(app: Flask, state: State) -> None:
    client, headers = app.test_client(), bearer(app, "alice") | {"Tus-Resumable": "1.0.0"}
    size = 2 * SHARE
    metadata = "kind cHJvZHVjdC1pbWFnZXM=,mongoProductId cA==,filename YS5wbmc="
    created = client.post(
        "/media/uploads",
        headers=headers | {"Upload-Length": str(size), "Upload-Metadata": metadata},
    )
    assert created.status_code == 201
    sending = headers | {"Content-Type": "application/offset+octet-stream"}
    first = client.patch(
        created.location, data=picture(SHARE - MIB), headers=sending | {"Upload-Offset": "0"}
    )
    assert first.status_code == 204
    before = held(state)
    second = client.patch(
        created.location,
        data=picture(2 * MIB),
        headers=sending | {"Upload-Offset": str(SHARE - MIB)},
    )
    assert_full(second, "your share of it is full")
    assert held(state) == before
    offset = client.head(created.location, headers=headers).headers["Upload-Offset"]
    assert int(offset) == SHARE - MIB, "what was acknowledged stays"


def test_what_others_are_just_sending_counts(app: Flask, state: State) -> None:
    bucket = state.mongo["media_journal.chunks"]
    bucket.insert_many(
        [{"files_id": "in progress", "n": n, "data": bytes(CHUNK_SIZE)} for n in range(60)]
    )
    assert_full(post(app, "alice", picture(2 * MIB)), "it is full")
    assert post(app, "alice", picture(MIB)).status_code == 201


def test_nothing_is_limited_while_sql_answers(app: Flask, state: State, proxy: Proxy) -> None:
    proxy.let_through()
    while state.circuit is None or state.circuit.is_open:
        pass
    assert post(app, "alice", picture(2 * SHARE)).status_code == 201
    assert held(state) == 0


def test_a_document_of_the_hosts_in_the_journal_is_nobodys_upload(app: Flask, state: State) -> None:
    """It lacks what records have."""
    foreign = new_id()
    document = {"_id": foreign, "state": "pending", "uploaded_by": "alice"}
    state.mongo["journal_product_images"].insert_many([document, {"_id": new_id(), "n": 1}])
    assert post(app, "alice", picture(MIB)).status_code == 201
    journal = state.homes[1].repository
    assert journal.keys_of_unfinished("alice") == []
    assert journal.uploader_of(foreign) is None
