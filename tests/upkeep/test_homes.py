"""Records and bytes in the wrong home are found, brought home without being asked, and counted."""

from __future__ import annotations

import hashlib
import io
import time
import typing as t
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_dualmedia import ProductImage, get_media, lifecycle, open_media, save_product_image
from flask_dualmedia.databases.leases import Lease
from flask_dualmedia.errors import DatabaseUnavailable
from flask_dualmedia.lifecycle import creation
from flask_dualmedia.models import AVAILABLE, DELETING, PENDING, Media, MediaChunk, new_id, now
from flask_dualmedia.state import State, get_state
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.storages.chunked import CHUNK_SIZE
from flask_dualmedia.upkeep import sweeping
from flask_dualmedia.upkeep.check import Check, Checker
from flask_dualmedia.upkeep.journal import drain_journal, homes_of

from ..conftest import MakeApp, StorageOptions
from ..proxy import Proxy
from ..samples import bearer, counting, png
from ..waiting import eventually

PICTURE = png() + counting(6 * CHUNK_SIZE)
OTHER = png(comment=b"other") + counting(16 * CHUNK_SIZE)

_chunks = t.cast(sa.Table, MediaChunk.__table__)


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(DUALMEDIA_AUTO_DRAIN=False, DUALMEDIA_REFERENCES={"product": None})


@pytest.fixture
def state(app: Flask) -> State:
    return get_state(app)


def health(app: Flask) -> dict[str, t.Any]:
    answer = app.test_client().get("/media/health").json
    assert answer is not None
    return answer


def check(state: State, **options: t.Any) -> Check:
    return Checker(state, grace=-1, **options).run()


def is_at_home(state: State) -> bool:
    """Tell whether nothing is in the journal, and all bytes are in SQL."""
    _, journal = homes_of(state)
    has_bytes = any(
        state.mongo[f"media_journal.{part}"].find_one({}) for part in ("files", "chunks")
    )
    return journal.repository.is_empty() and not has_bytes


def misplace(state: State, record: Media, first: int = 0) -> None:
    """Move the chunks of a record from this one on from SQL into the journal's bucket."""
    assert state.engine is not None
    sql, journal = homes_of(state)
    key = str(record.storage_key)
    journal.storage.put(key, sql.storage.open(key, 0, record.file_size or 0))
    with state.engine.begin() as connection:
        connection.execute(
            sa.delete(_chunks).where(_chunks.c.storage_key == key, _chunks.c.seq >= first)
        )
    if first:
        state.mongo["media_journal.files"].delete_one({"_id": key})
        state.mongo["media_journal.chunks"].delete_many({"files_id": key, "n": {"$lt": first}})


def lose(app: Flask, proxy: Proxy) -> None:
    """Take SQL away, and have the app find out."""
    proxy.refuse()
    with app.app_context(), pytest.raises(DatabaseUnavailable):
        get_media(ProductImage, new_id())


class SlowBody(io.RawIOBase):
    """A body whose client pauses once before the first byte, and once in the middle."""

    def __init__(
        self, content: bytes, before: Callable[[], None], between: Callable[[], None]
    ) -> None:
        self._rest = memoryview(content)
        self._pauses = {0: before, len(content) // 2: between}
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        for position in [position for position in self._pauses if position <= self._position]:
            self._pauses.pop(position)()
        piece = self._rest[: min(len(buffer), 64 * 1024)]
        buffer[: len(piece)] = piece
        self._rest, self._position = self._rest[len(piece) :], self._position + len(piece)
        return len(piece)


def test_sql_is_away_and_back_in_the_middle_of_a_replacement(
    make_proxied: Callable[..., Flask], proxy: Proxy
) -> None:
    app = make_proxied(DUALMEDIA_REFERENCES={"product": None})
    state = get_state(app)
    with app.app_context():
        image = save_product_image("p", io.BytesIO(PICTURE), uploaded_by="alice")

    def lose_sql() -> None:
        lose(app, proxy)

    def bring_sql_back() -> None:
        proxy.let_through()
        eventually(lambda: not health(app)["degraded"])

    body = io.BufferedReader(SlowBody(OTHER, lose_sql, bring_sql_back))
    headers = bearer(app, "alice") | {"Content-Type": "image/png"}
    environ = {"wsgi.input": body, "CONTENT_LENGTH": str(len(OTHER))}
    path = f"/media/product-images/{image.id}/content"
    answer = app.test_client().put(path, headers=headers, environ_overrides=environ)
    assert answer.status_code == 200, answer.json
    assert answer.json is not None
    assert answer.json["checksum"] == hashlib.sha256(OTHER).hexdigest()

    eventually(lambda: is_at_home(state))
    assert health(app)["journal"] == 0
    with app.app_context():
        held = get_media(ProductImage, image.id)
    sql, _ = homes_of(state)
    assert b"".join(sql.storage.open(str(held.storage_key), 0, len(OTHER))) == OTHER
    assert not check(state, verify_bytes=True).found


def test_sql_is_away_and_back_in_the_middle_of_new_media(
    make_proxied: Callable[..., Flask], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record is begun in SQL, and its bytes are taken by the journal."""
    app = make_proxied(DUALMEDIA_REFERENCES={"product": None})
    state = get_state(app)

    def lose_sql(step: str) -> None:
        if step == "create:pending":
            lose(app, proxy)

    def bring_sql_back() -> None:
        proxy.let_through()
        eventually(lambda: not health(app)["degraded"])

    monkeypatch.setattr(creation, "reach", lose_sql)
    with app.app_context():
        body = io.BufferedReader(SlowBody(OTHER, lambda: None, bring_sql_back))
        image = save_product_image("p", body)
        eventually(lambda: is_at_home(state))
        assert b"".join(open_media(image)) == OTHER
    assert [*homes_of(state)[0].storage.keys()] == [image.storage_key]
    assert not check(state, verify_bytes=True).found


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize("first", [0, 1, 3, 6])
def test_bytes_in_the_journal_of_a_record_in_sql_are_found_read_counted_and_moved(
    app: Flask, state: State, first: int
) -> None:
    """All of them, or the chunks from one on."""
    image = save_product_image("p", io.BytesIO(PICTURE))
    misplace(state, image, first)
    assert b"".join(open_media(image)) == PICTURE
    assert health(app)["journal"] == 1
    found = check(state)
    assert dict(found.found) == {"bytes_misplaced": 1}, found.findings
    assert found.findings[0].subject == str(image.id)

    drain_journal(state)
    assert is_at_home(state)
    assert health(app)["journal"] == 0
    assert b"".join(open_media(image)) == PICTURE
    assert not check(state, verify_bytes=True).found


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize("first", [0, 3])
def test_repair_moves_misplaced_bytes_and_discards_none(
    app: Flask, state: State, first: int
) -> None:
    image = save_product_image("p", io.BytesIO(PICTURE))
    misplace(state, image, first)
    report = check(state, repair=True, discard_damaged=True)
    assert dict(report.found) == dict(report.repaired) == {"bytes_misplaced": 1}
    assert is_at_home(state)
    assert b"".join(open_media(image)) == PICTURE


@pytest.mark.usefixtures("context")
def test_misplaced_bytes_that_are_damaged_stay_where_they_are(state: State) -> None:
    image = save_product_image("p", io.BytesIO(PICTURE))
    misplace(state, image, 3)
    where = {"files_id": image.storage_key, "n": 4}
    state.mongo["media_journal.chunks"].update_one(where, {"$set": {"data": bytes(CHUNK_SIZE)}})
    report = drain_journal(state)
    assert report is not None
    assert len(report.failed) == 1
    assert state.mongo["media_journal.chunks"].count_documents({"files_id": image.storage_key}) == 4


@pytest.mark.parametrize("unfinished", [PENDING, DELETING])
def test_bytes_of_an_unfinished_upload_do_not_wait_for_sql(
    app: Flask, state: State, unfinished: str
) -> None:
    """SQL went while they were sent, and then the process. A sweep takes them away; no drain ever
    would."""
    sql, journal = homes_of(state)
    record = ProductImage.new(
        mongo_product_id="p",
        storage_type="database",
        state=unfinished,
        position=0,
        is_main_image=False,
    )
    vars(record)["storage_key"] = key = new_key(record.id)
    sql.repository.add(record)
    journal.storage.put(key, [PICTURE])
    assert health(app)["journal"] == 0
    with app.app_context():
        drain_journal(state)
        assert [*journal.storage.keys()] == [key]
        sweeping.sweep(state, grace=0)
    assert is_at_home(state)


@pytest.mark.usefixtures("context")
def test_bytes_of_journaled_records_go_with_their_records(state: State) -> None:
    """Half of them may be in SQL already."""
    image = save_product_image("p", io.BytesIO(PICTURE))
    sql, journal = homes_of(state)
    misplace(state, image, 3)
    held = sql.repository.find(ProductImage, image.id)
    assert held is not None
    journal.repository.add(held)
    sql.repository.remove(ProductImage, image.id)
    report = drain_journal(state)
    assert report is not None
    assert (report.moved, report.failed) == (1, [])
    assert is_at_home(state)
    assert b"".join(open_media(image)) == PICTURE


def test_parts_of_resumable_uploads_come_home(
    make_proxied: Callable[..., Flask], proxy: Proxy
) -> None:
    app = make_proxied(DUALMEDIA_REFERENCES={"product": None})
    client, headers = app.test_client(), bearer(app, "alice") | {"Tus-Resumable": "1.0.0"}
    lose(app, proxy)
    metadata = "kind cHJvZHVjdC1pbWFnZXM=,mongoProductId cA==,filename YS5wbmc="
    created = client.post(
        "/media/uploads",
        headers=headers | {"Upload-Length": str(len(PICTURE)), "Upload-Metadata": metadata},
    )
    assert created.status_code == 201, created.json
    sending = headers | {"Content-Type": "application/offset+octet-stream"}
    half = len(PICTURE) // 2
    first = client.patch(
        created.location, data=PICTURE[:half], headers=sending | {"Upload-Offset": "0"}
    )
    assert first.status_code == 204
    state = get_state(app)
    assert not is_at_home(state)

    proxy.let_through()
    eventually(lambda: is_at_home(state))
    second = client.patch(
        created.location, data=PICTURE[half:], headers=sending | {"Upload-Offset": str(half)}
    )
    assert second.status_code == 204
    assert not check(state, verify_bytes=True).found
    (key,) = homes_of(state)[0].storage.keys()
    assert b"".join(homes_of(state)[0].storage.open(key, 0, len(PICTURE))) == PICTURE


def plant_twin(state: State, image: ProductImage, **changes: t.Any) -> None:
    """An earlier version left such records, if the answer to an insertion was lost and the upload
    went on."""
    old = {
        "state": PENDING,
        "updated_at": now() - timedelta(days=1),
        "file_size": None,
        "checksum": None,
    }
    homes_of(state)[1].repository.add(ProductImage.from_values(image.values() | old | changes))


@pytest.mark.usefixtures("context")
@pytest.mark.parametrize("by", ["sweep", "drain", "repair"])
@pytest.mark.parametrize("key", ["same key", "key of its own"])
def test_unfinished_twins_in_the_journal_go(state: State, by: str, key: str) -> None:
    image = save_product_image("p", io.BytesIO(PICTURE))
    own_key = new_key(image.id)
    plant_twin(state, image, **({} if key == "same key" else {"storage_key": own_key}))
    if key != "same key":
        homes_of(state)[1].storage.put(own_key, iter([b"bytes"]))
    assert "stuck_pending" in check(state).found
    if by == "sweep":
        assert sweeping.sweep(state, grace=0) == 1
    elif by == "drain":
        assert drain_journal(state) is not None
    else:
        check(state, repair=True)
    assert is_at_home(state)
    assert b"".join(open_media(get_media(ProductImage, image.id))) == PICTURE
    assert not check(state, verify_bytes=True).found


@pytest.mark.usefixtures("context")
def test_a_sweep_leaves_what_is_unfinished_in_sql_and_finished_in_the_journal(state: State) -> None:
    image = save_product_image("p", io.BytesIO(PICTURE))
    sql, journal = homes_of(state)
    journal.repository.add(ProductImage.from_values(image.values()))
    sql.repository.update(ProductImage, image.id, {"state": PENDING}, where={})
    assert sweeping.sweep(state, grace=-1) == 0
    assert not check(state).found.keys() - {"journal_left"}
    drain_journal(state)
    assert is_at_home(state)
    assert get_media(ProductImage, image.id).state == AVAILABLE


@pytest.mark.usefixtures("context")
def test_a_sweep_of_the_journal_leaves_the_trace_of_a_deletion_in_sql(state: State) -> None:
    """A statement that arrives late must still find the id taken."""
    image = save_product_image("p", io.BytesIO(PICTURE))
    lifecycle.delete(state, image)
    plant_twin(state, image)
    sql, journal = homes_of(state)
    twin = journal.repository.find(ProductImage, image.id)
    assert twin is not None
    assert sweeping.sweep_in(state, journal, twin)
    assert journal.repository.is_empty()
    assert sql.repository.find(ProductImage, image.id) is not None


@pytest.mark.usefixtures("context")
def test_a_check_does_not_report_what_is_being_drained(state: State) -> None:
    image = save_product_image("p", io.BytesIO(PICTURE))
    misplace(state, image)
    _, journal = homes_of(state)
    external = {
        "mongo_product_id": "p",
        "image_url": "https://cdn.example/a",
        "storage_type": "external",
    }
    waiting = ProductImage.new(is_main_image=False, position=0, **external)
    journal.repository.add(ProductImage.from_values(waiting.values() | {"state": AVAILABLE}))
    lease = Lease(state.mongo, "drain")
    assert lease.take()
    assert not check(state).found
    lease.give_back()
    assert dict(check(state).found) == {"bytes_misplaced": 1, "journal_left": 1}


@pytest.mark.usefixtures("context")
def test_old_bytes_of_what_was_changed_a_moment_ago_are_not_reported(state: State) -> None:
    """Whoever replaces or moves them deletes them just now."""
    image = save_product_image("p", io.BytesIO(PICTURE))
    old_key = f"{image.id.hex}-{'0' * 16}"
    state.storages["database"].put(old_key, iter([b"old"]))
    assert not Checker(state, grace=60).run().found
    assert dict(check(state).found) == {"bytes_orphaned": 1}


def test_leftovers_alone_are_not_waiting(app: Flask, state: State) -> None:
    homes_of(state)[1].storage.put(new_key(new_id()), iter([b"bytes"]))
    assert health(app)["journal"] == 0


@pytest.mark.parametrize(
    ("work", "command"),
    [("move", ["move", "--from", "database", "--to", "local"]), ("repair", ["check", "--repair"])],
)
def test_a_second_one_says_which_process_is_at_it(
    make_app: MakeApp, storage_options: StorageOptions, work: str, command: list[str]
) -> None:
    app = make_app(
        DUALMEDIA_STORAGES=storage_options("local"), DUALMEDIA_REFERENCES={"product": None}
    )
    lease = Lease(get_state(app).mongo, work)
    with lease.held():
        refused = app.test_cli_runner().invoke(args=["dualmedia", *command])
    assert refused.exit_code == 1
    assert f"{work}: another process is at it: {lease.holder}." in refused.output
    done = app.test_cli_runner().invoke(args=["dualmedia", *command])
    assert done.exit_code == 0, done.output


def test_a_lease_is_kept_as_long_as_the_work_takes(state: State) -> None:
    lease, other = (Lease(state.mongo, "work", seconds=0.3) for _ in range(2))
    with lease.held():
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert not other.take()
            time.sleep(0.05)
    assert other.take()
