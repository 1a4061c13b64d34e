"""Statements that arrive, or are committed, after their client has given them up."""

from __future__ import annotations

import io
import time
import typing as t
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from flask_dualmedia import (
    ProductImage,
    delete_media,
    get_media,
    get_product_images,
    open_media,
    save_product_image,
)
from flask_dualmedia.errors import MediaNotFound, WritesRefused
from flask_dualmedia.models import new_id
from flask_dualmedia.repositories.mongo import MongoRepository
from flask_dualmedia.state import get_state
from flask_dualmedia.upkeep.check import Checker
from flask_dualmedia.upkeep.journal import drain_journal, homes_of

from ..conftest import MakeApp
from ..samples import bearer, png
from ..tools.pg_proxy import PostgresProxy
from ..waiting import eventually

NAME = "late-writes"
"""The name of the app's connections in the server."""


@pytest.fixture
def proxy(emptied_url: str) -> Iterator[PostgresProxy]:
    with PostgresProxy(emptied_url) as proxy:
        yield proxy


@pytest.fixture
def app(make_app: MakeApp, proxy: PostgresProxy) -> Flask:
    app = make_app(
        SQLALCHEMY_DATABASE_URI=proxy.sqlalchemy_url.update_query_dict({"application_name": NAME}),
        DUALMEDIA_AUTO_UPGRADE=False,
        DUALMEDIA_REFERENCES={"product": None},
        DUALMEDIA_SQL_TIMEOUT=0.5,
        DUALMEDIA_AUTO_DRAIN=False,
    )
    assert get_state(app).homes[0].repository.version()
    return app


@pytest.fixture
def direct(emptied_url: str) -> Iterator[psycopg.Connection[t.Any]]:
    """A connection that does not go through the proxy."""
    url = (
        sa.make_url(emptied_url).set(drivername="postgresql").render_as_string(hide_password=False)
    )
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


class Http:
    """A client who may do everything."""

    def __init__(self, app: Flask) -> None:
        self.client: FlaskClient = app.test_client()
        with app.app_context():
            token = create_access_token("alice", additional_claims={"role": "admin"})
        self.headers = {"Authorization": f"Bearer {token}"}

    def post(self, content: bytes | None = None, **fields: str) -> t.Any:
        if content is None:
            body = {"mongoProductId": "p", "imageUrl": "https://cdn.example/a.png", **fields}
            return self.client.post("/media/product-images", json=body, headers=self.headers)
        file = FileStorage(io.BytesIO(content), "a.png", content_type="image/png")
        boundary, body = encode_multipart({"mongoProductId": "p", "file": file, **fields})
        content_type = f"multipart/form-data; boundary={boundary}"
        return self.client.post(
            "/media/product-images", data=body, headers=self.headers, content_type=content_type
        )

    def get(self, media_id: str) -> t.Any:
        return self.client.get(f"/media/product-images/{media_id}", headers=self.headers)

    def content(self, media_id: str) -> t.Any:
        return self.client.get(f"/media/product-images/{media_id}/content", headers=self.headers)

    def list(self) -> list[t.Any]:
        answer = self.client.get("/media/product-images?mongoProductId=p", headers=self.headers)
        assert answer.status_code == 200
        assert answer.json is not None
        return answer.json["items"]

    def patch(self, media_id: str, text: str) -> t.Any:
        path = f"/media/product-images/{media_id}"
        return self.client.patch(path, json={"altText": text}, headers=self.headers)

    def put(self, media_id: str, content: bytes) -> t.Any:
        path = f"/media/product-images/{media_id}/content"
        return self.client.put(
            path, data=content, headers=self.headers | {"Content-Type": "image/png"}
        )

    def delete(self, media_id: str) -> t.Any:
        return self.client.delete(f"/media/product-images/{media_id}", headers=self.headers)


@pytest.fixture
def http(app: Flask) -> Http:
    return Http(app)


def drain(app: Flask) -> None:
    with app.app_context():
        assert drain_journal(get_state(app)) is not None
    assert get_state(app).homes[1].repository.is_empty()


def assert_nothing_is_wrong(app: Flask) -> None:
    with app.app_context():
        report = Checker(get_state(app), grace=0).run()
    assert not report.found, report.findings


def settled(direct: psycopg.Connection[t.Any]) -> None:
    """Wait until no statement about images runs in the server."""
    query = (
        "SELECT pid, state, wait_event, query FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend' AND (state = 'active'"
        " OR (state = 'idle in transaction' AND query LIKE '%product_images%'))"
    )

    def busy() -> list[t.Any]:
        return direct.execute(query).fetchall()

    eventually(lambda: not busy(), 10, pause=0.02, explain=busy)


LARGE = png() + bytes(2 * 1024 * 1024)
"""It does not fit into one statement."""


@pytest.mark.parametrize("content", [None, png(), LARGE], ids=["url", "small", "large"])
@pytest.mark.parametrize("is_drained", [False, True], ids=["before-the-drain", "after-the-drain"])
def test_media_is_there_once_although_its_first_insertion_comes_late(
    app: Flask,
    http: Http,
    proxy: PostgresProxy,
    direct: psycopg.Connection[t.Any],
    content: bytes,
    is_drained: bool,
) -> None:
    held = proxy.hold("INSERT INTO product_images")
    answer = http.post(content)
    assert answer.status_code == 201
    assert held.reached
    if is_drained:
        drain(app)
    held.release()
    settled(direct)
    assert [item["id"] for item in http.list()] == [answer.json["id"]]
    drain(app)
    assert [item["id"] for item in http.list()] == [answer.json["id"]]
    if content is not None:
        assert http.content(answer.json["id"]).data == content
    assert_nothing_is_wrong(app)


@pytest.mark.parametrize("content", [None, png()], ids=["url", "small"])
def test_what_somebody_has_changed_is_not_taken_back(
    app: Flask,
    http: Http,
    proxy: PostgresProxy,
    direct: psycopg.Connection[t.Any],
    content: bytes | None,
) -> None:
    """SQL has it, although nobody was told so, and it is taken back since it went to the journal.
    An edit of it that was acknowledged meanwhile holds."""
    held = proxy.hold("INSERT INTO product_images")
    told = http.post(content).json["id"]
    held.release()
    query = "SELECT id::text FROM product_images WHERE state = 'available' AND id <> %s"
    (media_id,) = eventually(lambda: direct.execute(query, [told]).fetchone(), 10, pause=0.02)
    assert media_id != told
    assert http.patch(media_id, "found").status_code == 200
    drain(app)
    assert http.get(media_id).json["altText"] == "found"
    if content is not None:
        assert http.content(media_id).data == content
    assert sorted(item["id"] for item in http.list()) == sorted([told, media_id])
    assert_nothing_is_wrong(app)


def test_an_edit_that_comes_late_does_not_undo_a_later_one(
    http: Http, proxy: PostgresProxy, direct: psycopg.Connection[t.Any]
) -> None:
    media_id = http.post(png()).json["id"]
    held = proxy.hold("UPDATE product_images")
    assert http.patch(media_id, "A").status_code == 503
    assert http.patch(media_id, "B").status_code == 200
    held.release()
    settled(direct)
    assert http.get(media_id).json["altText"] == "B"


def test_a_deletion_that_comes_late_does_not_take_what_was_replaced_since(
    app: Flask, http: Http, proxy: PostgresProxy, direct: psycopg.Connection[t.Any]
) -> None:
    media_id = http.post(png()).json["id"]
    held = proxy.hold("UPDATE product_images")
    assert http.delete(media_id).status_code == 503
    other = png(7, 7)
    assert http.put(media_id, other).status_code == 200
    held.release()
    settled(direct)
    assert http.content(media_id).data == other
    assert_nothing_is_wrong(app)


@pytest.mark.parametrize(
    ("content", "attempts"), [(png(9, 9), 2), (LARGE, 1)], ids=["small", "large"]
)
def test_a_replacement_that_comes_late_does_not_undo_a_later_change(
    http: Http,
    proxy: PostgresProxy,
    direct: psycopg.Connection[t.Any],
    content: bytes,
    attempts: int,
) -> None:
    """The later change is not refused for it either."""
    first = png()
    media_id = http.post(first).json["id"]
    held = [proxy.hold("UPDATE product_images") for _ in range(attempts)]
    assert http.put(media_id, content).status_code == 503
    assert http.patch(media_id, "B").status_code == 200
    for fault in held:
        fault.release()
    settled(direct)
    answer = http.get(media_id).json
    assert answer["altText"] == "B"
    assert http.content(media_id).data == first


def test_a_deletion_that_comes_late_is_made_at_most_once(
    http: Http, proxy: PostgresProxy, direct: psycopg.Connection[t.Any]
) -> None:
    """Nothing was acknowledged since: then it may be."""
    media_id = http.post(png()).json["id"]
    held = proxy.hold("UPDATE product_images")
    assert http.delete(media_id).status_code == 503
    held.release()
    settled(direct)
    assert http.get(media_id).status_code == 404
    assert http.delete(media_id).status_code == 404


def test_what_a_drain_inserts_late_does_not_bring_back_what_was_deleted(
    app: Flask, http: Http, proxy: PostgresProxy, direct: psycopg.Connection[t.Any]
) -> None:
    proxy.refuse()
    media_id = http.post(png()).json["id"]
    proxy.pass_through()
    wait_until(lambda: not get_state(app).circuit.is_open)  # type: ignore[union-attr]
    held = proxy.hold("INSERT INTO product_images")
    with app.app_context(), pytest.raises(Exception, match="PostgreSQL"):
        drain_journal(get_state(app))
    drain(app)
    assert http.delete(media_id).status_code == 204
    held.release()
    settled(direct)
    assert http.get(media_id).status_code == 404
    assert http.list() == []


def wait_until(condition: Callable[[], bool]) -> None:
    eventually(condition, 10, pause=0.02)


def test_nothing_piles_up_behind_a_locked_row(
    app: Flask, http: Http, direct: psycopg.Connection[t.Any]
) -> None:
    """Each request fails by itself, its statement is taken back, and the server is not taken to be
    down."""
    media_id, other_id = http.post().json["id"], http.post().json["id"]
    with direct.transaction():
        direct.execute(
            "SELECT * FROM product_images WHERE id = %s FOR UPDATE", [uuid.UUID(media_id)]
        )
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda n: Http(app).patch(media_id, str(n)), range(10)))
        assert {answer.status_code for answer in answers} == {503}
        assert all("Retry-After" in answer.headers for answer in answers)
        waiting = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        wait_until(lambda: direct.execute(waiting).fetchone() == (0,))
        assert not get_state(app).circuit.is_open  # type: ignore[union-attr]
        assert http.patch(other_id, "other").status_code == 200
    assert http.patch(media_id, "now").status_code == 200
    assert http.get(media_id).json["altText"] == "now"


def test_one_connection_that_is_lost_is_no_outage(
    app: Flask, http: Http, direct: psycopg.Connection[t.Any]
) -> None:
    media_id = http.post(png()).json["id"]
    lost = []
    for _ in range(20):
        assert http.content(media_id).status_code == 200
        direct.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s",
            [NAME],
        )
        lost.append(http.content(media_id).status_code)
        lost.append(len(http.list()))
    assert set(lost) == {200, 1}
    assert not get_state(app).circuit.is_open  # type: ignore[union-attr]


def test_a_database_that_is_read_only_is_read_and_new_media_is_journaled(
    make_app: MakeApp, migrated_url: str, direct: psycopg.Connection[t.Any]
) -> None:
    app = make_app(
        SQLALCHEMY_DATABASE_URI=migrated_url,
        DUALMEDIA_AUTO_UPGRADE=False,
        DUALMEDIA_REFERENCES={"product": None},
    )
    http = Http(app)
    first = http.post(png()).json["id"]
    engine = get_state(app).engine
    assert engine is not None
    name = engine.url.database

    def change(setting: str) -> None:
        direct.execute(f'ALTER DATABASE "{name}" {setting}')  # type: ignore[call-overload]
        direct.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
            [name],
        )

    change("SET default_transaction_read_only = on")
    second = http.post(png())
    assert second.status_code == 201
    assert http.post(LARGE).status_code == 201
    refused = http.patch(first, "changed")
    assert (refused.status_code, "read-only" in refused.json["message"]) == (503, True)
    assert http.delete(first).status_code == 503
    assert http.content(first).status_code == 200
    assert http.content(second.json["id"]).status_code == 200
    assert len(http.list()) == 3
    assert not get_state(app).circuit.is_open  # type: ignore[union-attr]
    change("RESET default_transaction_read_only")
    with app.app_context():
        wait_until(lambda: get_state(app).homes[1].repository.is_empty())
    assert len(http.list()) == 3
    assert http.patch(first, "changed").status_code == 200


class Pausing(io.BytesIO):
    """A body whose client waits before its end, or at every block."""

    def __init__(self, content: bytes, seconds: float, *, at: int) -> None:
        super().__init__(content)
        self._seconds, self._at = seconds, at

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self._at and self._seconds:
            time.sleep(self._seconds)
            self._seconds = 0
        return super().read(size)


@pytest.mark.parametrize("size", [1, 2, 4, 5, 8])
def test_a_client_who_pauses_before_the_end_is_no_outage(app: Flask, http: Http, size: int) -> None:
    """The pause comes at the end of a batch, of a chunk, or in the middle."""
    content = png() + bytes(size * 1024 * 1024 - len(png()))
    media_id = http.post(png()).json["id"]
    body = Pausing(content, 3.5, at=len(content))
    answer = http.client.put(
        f"/media/product-images/{media_id}/content",
        input_stream=body,
        content_length=len(content),
        headers=http.headers | {"Content-Type": "image/png"},
    )
    assert answer.status_code == 200
    assert http.content(media_id).data == content
    assert not get_state(app).circuit.is_open  # type: ignore[union-attr]
    assert get_state(app).homes[1].repository.is_empty()


def test_a_fence_keeps_an_id_taken(app: Flask) -> None:
    sql = get_state(app).homes[0].repository
    record = ProductImage.new(
        id=new_id(), mongo_product_id="p", storage_type="external", image_url="https://cdn.example/a.png",
        is_main_image=False, position=0,
    )  # fmt: skip
    fenced = sql.fence(record)
    assert fenced.state == "deleting"
    with pytest.raises(Exception, match="contradicts"):
        sql.add(record)
    with app.app_context():
        assert get_product_images("p") == []


def test_the_end_of_another_drain_does_not_make_the_journal_look_old(
    make_app: MakeApp, proxy: PostgresProxy, emptied_url: str
) -> None:
    """It slept through its lease, and ends while the next one begins. What waits is moved, not put
    into the trash."""
    config = {
        "DUALMEDIA_REFERENCES": {"product": None},
        "DUALMEDIA_AUTO_DRAIN": False,
        "DUALMEDIA_SQL_TIMEOUT": 5,
    }
    other = make_app(SQLALCHEMY_DATABASE_URI=emptied_url, **config)
    app = make_app(
        SQLALCHEMY_DATABASE_URI=proxy.sqlalchemy_url, DUALMEDIA_AUTO_UPGRADE=False, **config
    )
    circuit = get_state(app).circuit
    assert circuit is not None
    circuit.refuse_writes(WritesRefused("PostgreSQL", "is read-only"))
    http = Http(app)
    media_id = http.post(png()).json["id"]
    sql, journal = homes_of(get_state(other))
    held = proxy.hold("FROM media_storage")
    with ThreadPoolExecutor(1) as executor:
        draining = executor.submit(drain, app)
        held.wait_until_reached()
        journal.repository.note_drain(7)
        sql.repository.note_drain(7)
        held.release()
        draining.result()
    assert http.get(media_id).status_code == 200


def test_changes_that_the_driver_has_sent_twice(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the first was lost, and the second finds the record changed already: by the
    first."""
    app = make_app("mongo", DUALMEDIA_REFERENCES={"product": None})
    update = MongoRepository.update

    def send_twice(*args: t.Any, **options: t.Any) -> t.Any:
        update(*args, **options)
        return update(*args, **options)

    with app.app_context():
        monkeypatch.setattr(MongoRepository, "update", send_twice)
        saved = save_product_image(1, io.BytesIO(png(comment=b"old")))
        new = png(comment=b"new")
        path = f"/media/product-images/{saved.id}/content"
        answer = app.test_client().put(path, data=new, headers=bearer(app, "admin", role="admin"))
        assert answer.status_code == 200, answer.text
        assert b"".join(open_media(get_media(ProductImage, saved.id))) == new
        delete_media(ProductImage, saved.id)
        with pytest.raises(MediaNotFound):
            delete_media(ProductImage, saved.id)
