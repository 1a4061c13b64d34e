"""The app keeps itself clean: one process of all does it, slowly, and nobody has to ask."""

from __future__ import annotations

import io
import logging
import threading
import time
import typing as t
import uuid
from datetime import timedelta

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_dualmedia import (
    DatabaseUnavailable,
    ProductImage,
    failpoints,
    get_media,
    lifecycle,
    open_media,
    save_product_image,
)
from flask_dualmedia.models import PENDING, Media, MediaChunk, new_id, now
from flask_dualmedia.repositories.base import Listing
from flask_dualmedia.state import State, get_state
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.storages.chunked import CHUNK_SIZE
from flask_dualmedia.upkeep import chores
from flask_dualmedia.upkeep.check import last_check
from flask_dualmedia.upkeep.chores import WORKER, Upkeep, Verifier, clear_leftovers, find_damage
from flask_dualmedia.upkeep.journal import homes_of

from ..conftest import MakeApp, close
from ..processes.test_forks import Child
from ..samples import counting, png
from ..tools.proxy import Proxy
from ..waiting import eventually, passes

PICTURE = png() + counting(3 * CHUNK_SIZE)

OLD = timedelta(days=1)


@pytest.fixture
def make_kept(make_app: MakeApp, monkeypatch: pytest.MonkeyPatch) -> MakeApp:
    """Makes apps that keep themselves clean, often."""
    monkeypatch.setattr(chores, "INTERVAL", 0.1)

    def make(mode: str = "dual", **config: t.Any) -> Flask:
        return make_app(
            mode, DUALMEDIA_UPKEEP=True, DUALMEDIA_REFERENCES={"product": None}, **config
        )

    return make


@pytest.fixture
def app(make_kept: MakeApp, mode: str) -> Flask:
    return make_kept(mode)


def visit(app: Flask) -> None:
    assert app.test_client().get("/media/health").status_code == 200


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == WORKER]


def leave_unfinished(state: State, index: int = 0) -> Media:
    """Leave a killed upload's record and bytes."""
    home = state.homes[index]
    fields = {
        "mongo_product_id": "p",
        "is_main_image": False,
        "position": 0,
        "storage_type": "database",
    }
    record = ProductImage.new(**fields)
    values = record.values() | {
        "updated_at": now() - OLD,
        "storage_key": new_key(record.id),
        "state": PENDING,
    }
    record = ProductImage.from_values(values)
    home.repository.add(record)
    home.storage.put(str(record.storage_key), iter([b"bytes"]))
    return record


def damage(state: State, record: Media) -> None:
    if state.engine is None:
        where = {"files_id": record.storage_key, "n": 1}
        state.mongo["media.chunks"].update_one(where, {"$set": {"data": bytes(CHUNK_SIZE)}})
        return
    chunks = t.cast(sa.Table, MediaChunk.__table__)
    query = sa.update(chunks).where(chunks.c.storage_key == record.storage_key, chunks.c.seq == 1)
    with state.engine.begin() as connection:
        connection.execute(query.values(data=bytes(CHUNK_SIZE)))


def test_what_killed_uploads_left_goes_by_itself(make_kept: MakeApp, mode: str) -> None:
    """Once a second round has seen it, after the grace time."""
    app = make_kept(mode, DUALMEDIA_GRACE=1)
    state = get_state(app)
    record = leave_unfinished(state)
    visit(app)
    eventually(lambda: state.homes[0].repository.find(ProductImage, record.id) is None)
    assert not list(state.homes[0].storage.keys())


@pytest.mark.parametrize("mode", ["dual"])
def test_it_begins_with_the_first_request_and_ends_with_the_app(app: Flask, state: State) -> None:
    assert not workers()
    visit(app)
    visit(app)
    assert len(workers()) == 1
    close(app)
    eventually(lambda: not workers())
    assert state.upkeep is not None


def test_it_can_be_turned_off(make_app: MakeApp) -> None:
    app = make_app(DUALMEDIA_UPKEEP="off")
    visit(app)
    assert not workers()
    assert get_state(app).upkeep is None


@pytest.mark.long
def test_one_process_of_all_does_it(make_kept: MakeApp) -> None:
    with passes("upkeep:leftovers") as rounds:
        for app in (make_kept(), make_kept()):
            visit(app)
        eventually(lambda: len(rounds) > 10)
    assert len(workers()) == 2
    assert len(set(rounds)) == 1


@pytest.mark.parametrize("mode", ["dual"])
def test_a_step_that_fails_is_told_of_once_and_stops_no_other(
    app: Flask, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    failures: list[int] = []

    def fail() -> None:
        failures.append(1)
        raise ZeroDivisionError

    failing = failpoints.on("upkeep:sweep", fail, always=True)
    with failing, passes("upkeep:leftovers") as rounds:
        visit(app)
        eventually(lambda: len(rounds) > 5)
    assert len(failures) > 5
    assert [record.message for record in caplog.records if record.exc_info].count(
        "the sweep failed, and is tried again"
    ) == 1


def test_nothing_is_done_while_a_database_is_away(make_proxied: MakeApp, proxy: Proxy) -> None:
    state = get_state(make_proxied(DUALMEDIA_UPKEEP=True))
    state.repository.select(Listing(ProductImage))
    circuit = state.circuit
    assert circuit is not None
    keeper = t.cast(Upkeep, state.upkeep)
    proxy.refuse()
    circuit.trip()
    with passes("upkeep:sweep") as done:
        keeper.work()
        assert not done
        proxy.let_through()
        eventually(lambda: not circuit.is_open)
        keeper.work()
        assert done


@pytest.mark.parametrize("mode", ["dual"])
def test_leftovers_of_outages_go_at_the_second_look(app: Flask, state: State) -> None:
    _, journal = homes_of(state)
    left, foreign = new_key(new_id()), "not-ours"
    waiting = leave_unfinished(state, 1)
    for key in (left, foreign):
        journal.storage.put(key, iter([b"bytes"]))
    cut_short = new_key(new_id())
    state.mongo["media_journal.chunks"].insert_one(
        {"files_id": cut_short, "n": 3, "data": b"bytes"}
    )

    assert clear_leftovers(state, grace=0.5) == 0, "nobody saw it before"
    assert clear_leftovers(state, grace=0.5) == 0, "it may be an upload in progress"
    eventually(lambda: clear_leftovers(state, grace=0.5) == 2)
    assert set(journal.storage.keys()) == {foreign, waiting.storage_key}


@pytest.mark.parametrize("mode", ["dual"])
def test_what_is_named_between_two_looks_stays(app: Flask, state: State) -> None:
    with app.app_context():
        image = save_product_image("p", io.BytesIO(PICTURE))
        key = new_key(image.id)
        homes_of(state)[1].storage.put(key, iter([PICTURE]))
        assert clear_leftovers(state, grace=0.1) == 0
        state.repository.update(ProductImage, image.id, {"storage_key": key}, where={})
        time.sleep(0.2)
        assert clear_leftovers(state, grace=0.1) == 0
        assert b"".join(open_media(get_media(ProductImage, image.id))) == PICTURE


@pytest.mark.parametrize("mode", ["dual"])
def test_leftovers_are_cleared_by_sweep_too(app: Flask, state: State) -> None:
    homes_of(state)[1].storage.put(new_key(new_id()), iter([b"bytes"]))
    done = app.test_cli_runner().invoke(args=["dualmedia", "sweep", "--grace", "0"])
    assert "Removed what 1 killed upload(s) left in the journal." in done.output
    assert homes_of(state)[1].is_empty()


def test_damage_is_found_and_told_of_once(
    app: Flask, state: State, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(chores, "VERIFIED_PER_HOUR", 3600_000)
    monkeypatch.setattr(chores, "VERIFIED_PER_SECOND", 1024**3)
    monkeypatch.setattr(chores, "VERIFIED_EVERY", timedelta(0))
    with app.app_context():
        save_product_image("p", io.BytesIO(PICTURE))
        bad = save_product_image("p", io.BytesIO(PICTURE), position=1)
        damage(state, bad)
    visit(app)
    eventually(lambda: find_damage(state))
    with passes("verify:piece") as pieces:  # until both images were read once more
        eventually(lambda: len(pieces) > 4 * len(PICTURE) / CHUNK_SIZE)
    assert [note["id"] for note in find_damage(state)] == [bad.id]
    told = [record for record in caplog.records if "is damaged" in record.message]
    assert [record.levelno for record in told] == [logging.ERROR]
    summary = last_check(state)
    assert summary is not None
    assert summary["findings"] == {"checksum_wrong": 1}
    status = app.test_cli_runner().invoke(args=["dualmedia", "status"])
    assert f"damaged   product-images {bad.id}: checksum_wrong" in status.output
    assert state.homes[0].repository.get(ProductImage, bad.id) is not None, (
        "media is never deleted for it"
    )
    with app.app_context():
        lifecycle.delete(state, bad)
    assert not find_damage(state)


@pytest.mark.parametrize("mode", ["dual"])
def test_verification_goes_on_where_another_process_stopped_and_keeps_to_its_budget(
    app: Flask, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chores, "VERIFIED_PER_HOUR", 0)
    with app.app_context():
        images = [
            save_product_image("p", io.BytesIO(PICTURE), position=number) for number in range(3)
        ]
    for image in images:
        damage(state, image)
    waited: list[float] = []

    def read_one() -> list[uuid.UUID]:
        verifier = Verifier(state, pause=lambda seconds: bool(waited.append(seconds)))
        verifier.go_on(60, keep_going=lambda: True)
        return [note["id"] for note in find_damage(state)]

    ids = sorted(image.id for image in images)
    assert [read_one() for _ in ids] == [ids[:1], ids[:2], ids]
    seconds = pytest.approx(3 * len(PICTURE) / chores.VERIFIED_PER_SECOND)
    assert sum(waited) == seconds
    for _ in range(2):  # all kinds are through, and it is not time to begin anew
        read_one()
    assert sum(waited) == seconds


@pytest.mark.parametrize("mode", ["dual"])
def test_a_forked_process_has_a_thread_and_a_lease_of_its_own(app: Flask, state: State) -> None:
    visit(app)
    eventually(workers)

    def work() -> tuple[int, int]:
        before = len(workers())
        visit(app)
        return before, len(workers())

    assert Child(work).result() == (0, 1)
    assert len(workers()) == 1


@pytest.mark.parametrize("mode", ["dual"])
def test_an_outage_in_the_middle_of_a_file_is_no_damage(
    app: Flask, state: State, caplog: pytest.LogCaptureFixture
) -> None:
    with app.app_context():
        save_product_image("p", io.BytesIO(PICTURE))

    def lose() -> None:
        raise DatabaseUnavailable("PostgreSQL")

    # Each time it reads one piece.
    verifier = Verifier(state, pause=lambda seconds: True)
    verifier.go_on(60, keep_going=lambda: True)
    with failpoints.on("verify:piece", lose), pytest.raises(DatabaseUnavailable):
        verifier.go_on(60, keep_going=lambda: True)
    for _ in range(5):
        verifier.go_on(60, keep_going=lambda: True)
    assert not find_damage(state)
    assert not [record for record in caplog.records if "damaged" in record.message]
