"""A record that one process writes to the journal is found by lists of every other process, from
the moment of its answer."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from bson import ObjectId
from flask import Flask

from flask_dualmedia import get_product_images, save_product_image
from flask_dualmedia.databases import announcements, circuit
from flask_dualmedia.databases.announcements import LEASE_SECONDS, VALIDITY, Announcements
from flask_dualmedia.errors import WritesRefused
from flask_dualmedia.state import State, get_state

from ..conftest import MakeApp
from ..waiting import eventually, passes

ROUNDS = 6


@pytest.fixture
def make_process(make_app: MakeApp, emptied_url: str) -> Callable[[], Flask]:
    """Makes apps as different processes have them: over the same databases."""

    def make() -> Flask:
        return make_app(
            SQLALCHEMY_DATABASE_URI=emptied_url,
            DUALMEDIA_AUTO_UPGRADE=False,
            DUALMEDIA_AUTO_DRAIN=False,
            DUALMEDIA_REFERENCES={"product": None},
        )

    return make


def rest(app: Flask) -> None:
    """Let a process rely on an empty journal."""
    circuit = get_state(app).circuit
    if circuit is not None:
        eventually(lambda: not circuit.journal_expected, pause=0.01)


def refuse(app: Flask) -> None:
    circuit = get_state(app).circuit
    assert circuit is not None
    circuit.refuse_writes(WritesRefused("PostgreSQL", "is read-only"))


def forget_announcements(state: State) -> None:
    state.mongo["dualmedia_leases"].delete_many({})


def asks_journal(state: State, product: ObjectId) -> bool:
    """Tell whether a list is read from the journal too."""
    with passes("list:journal") as asked, state.app.app_context():
        assert get_product_images(product) == []
    return bool(asked)


def test_another_process_lists_at_once_what_was_journaled(
    make_process: Callable[[], Flask],
) -> None:
    writer, reader = make_process(), make_process()
    product = ObjectId()
    with reader.app_context():
        assert get_product_images(product) == []
    rest(reader)

    refuse(writer)
    saved = set()
    for _ in range(ROUNDS):
        with writer.app_context():
            saved.add(save_product_image(product, "https://cdn.example/a.jpg").id)
        with reader.app_context():
            images = get_product_images(product)
        assert {image.id for image in images} == saved
        assert not images.partial


def test_the_first_upload_waits_and_the_next_one_does_not(
    make_process: Callable[[], Flask],
) -> None:
    writer = make_process()
    refuse(writer)
    seconds = []
    with writer.app_context():
        for _ in range(2):
            began = time.monotonic()
            save_product_image(ObjectId(), "https://cdn.example/a.jpg")
            seconds.append(time.monotonic() - began)
    assert seconds[0] >= VALIDITY
    assert seconds[1] < VALIDITY


def test_lists_ask_the_journal_only_where_it_may_hold_something(
    make_process: Callable[[], Flask],
) -> None:
    """A process whose thread could not look for a while has to ask: it got no processor, or was
    stopped."""
    app = make_process()
    state, product = get_state(app), ObjectId()
    assert asks_journal(state, product), "the first list does not know yet"
    rest(app)
    assert not asks_journal(state, product)

    assert state.circuit is not None
    state.circuit.stop()
    eventually(lambda: asks_journal(state, product), 10 * VALIDITY)


def test_what_was_left_in_the_journal_is_known_after_its_announcement(
    make_process: Callable[[], Flask],
) -> None:
    writer, reader = make_process(), make_process()
    product = ObjectId()
    refuse(writer)
    with writer.app_context():
        saved = save_product_image(product, "https://cdn.example/a.jpg")
    forget_announcements(get_state(writer))
    with reader.app_context():
        with passes("journal:known") as looks:
            get_product_images(product)
            eventually(lambda: looks)
        assert [image.id for image in get_product_images(product)] == [saved.id]


@pytest.mark.long
def test_an_announcement_ends_and_lists_are_read_from_sql_alone_again(
    make_process: Callable[[], Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcements, "LEASE_SECONDS", 2.0)
    app = make_process()
    state = get_state(app)
    Announcements(state.collections).announce()
    with passes("journal:known") as looks, app.app_context():
        get_product_images(ObjectId())
        eventually(lambda: looks)
        assert asks_journal(state, ObjectId()), "it is announced"
    rest(app)


def test_a_process_that_was_stopped_in_the_middle_announces_again(
    make_process: Callable[[], Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = get_state(make_process())
    own = Announcements(state.collections)
    slept = 0.0
    with own.announced():
        assert own.is_current()
        forget_announcements(state)  # it has run out
        slept = LEASE_SECONDS
        elapsed = announcements.elapsed
        monkeypatch.setattr(announcements, "elapsed", lambda: elapsed() + slept)
        began = time.monotonic()
    assert own.is_current()
    assert time.monotonic() - began >= VALIDITY


def test_processes_announce_together(make_process: Callable[[], Flask]) -> None:
    state = get_state(make_process())
    for _ in range(2):
        Announcements(state.collections).announce()
    assert state.mongo["dualmedia_leases"].count_documents({"_id": "journaling"}) == 1


@pytest.mark.long
def test_a_process_that_lists_nothing_looks_seldom(
    make_process: Callable[[], Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next list asks the journal, and those after that do not."""
    monkeypatch.setattr(circuit, "IDLE_INTERVAL", 1.0)
    app = make_process()
    with app.app_context():
        get_product_images(ObjectId())
    time.sleep(2)
    with passes("journal:known") as looks:
        time.sleep(3)
    assert 1 <= len(looks) <= 4
    assert asks_journal(get_state(app), ObjectId())
    rest(app)
