"""Documents that an earlier version wrote, before their records had all of today's fields."""

from __future__ import annotations

import io
import itertools
import typing as t
from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask

from flask_dualmedia import get_media, media, open_media, update_media
from flask_dualmedia.databases import collections
from flask_dualmedia.homes.base import AnyHome
from flask_dualmedia.homes.mongo import mongo_home
from flask_dualmedia.models import KINDS, TABLES, CourseVideo, Media, ProductImage
from flask_dualmedia.repositories.base import EVERYTHING, Listing, Repository
from flask_dualmedia.state import get_state
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.upkeep.check import Checker
from flask_dualmedia.upkeep.journal import drain_journal, homes_of
from flask_dualmedia.upkeep.move import move

from ..conftest import MakeApp, StorageOptions
from ..faults.transfer import transfer
from ..repositories.test_repositories import REQUIRED
from ..samples import SAMPLES

OF_BYTES = ("storage_key", "file_size", "checksum")
"""Fields without which nobody could tell which bytes a record has: media that is external lacks
them."""

Expected = dict[Media, dict[str, t.Any]]
"""By record as it was written, its values as they are to be read."""

ANY_OWNER = {"DUALMEDIA_REFERENCES": dict.fromkeys(("product", "course", "user"))}

every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@pytest.fixture(autouse=True)
def every_field_was_added(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if every field that has a default had been added by a later version."""
    caches = (collections._required_fields, collections._record_filter)
    for kind in KINDS.values():
        monkeypatch.setattr(kind, "added_fields", kind.defaults)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def plant(home: AnyHome, collection: t.Any, kind: type[Media]) -> Expected:
    """Write a document without each field that has a default, and one without all of them.

    Fields that product images have too are left out one by one in these alone.
    """
    names = [name for name in kind.defaults() if name not in OF_BYTES]
    lacking = [names, [*OF_BYTES, kind.url_field]]
    for name in names:
        if kind is ProductImage or name not in ProductImage.field_names():
            lacking.append([name])
    expected: Expected = {}
    for fields in lacking:
        record = make(kind, has_bytes=not set(OF_BYTES).intersection(fields))
        if record.storage_key is not None:
            home.storage.put(record.storage_key, iter([SAMPLES[kind.kind]]))
        home.repository.add(record)
        collection.update_one({"_id": record.id}, {"$unset": dict.fromkeys(fields, "")})
        missing = {name: kind.defaults()[name] for name in fields}
        expected[record] = record.values() | missing
    return expected


def make(kind: type[Media], *, has_bytes: bool) -> Media:
    """An available record whose fields are as little as possible what they are by default."""
    values: dict[str, t.Any] = {"state": "available", "storage_type": "external"}
    if has_bytes:
        upload = media.upload_for(
            get_state().settings,
            kind,
            io.BytesIO(SAMPLES[kind.kind]),
            filename=None,
            mime_type=None,
        )
        upload.open()
        assert b"".join(upload.blocks()) == SAMPLES[kind.kind]
        values |= {
            "storage_type": "database", "mime_type": upload.mime_type, "file_size": upload.size,
            "checksum": upload.checksum,
        }  # fmt: skip
    others = {"position": 3, "access_count": 7, "is_public": True, "video_type": "intro"}
    others = {name: value for name, value in others.items() if name in kind.field_names()}
    record = kind.new(**REQUIRED[kind.kind] | others | values, uploaded_by="alice")
    if has_bytes:
        vars(record)["storage_key"] = new_key(record.id)
    return record


def check_reading(expected: Expected) -> None:
    for record, values in expected.items():
        found = get_media(type(record), record.id)
        assert found.values() == values
        if found.storage_key is not None:
            assert b"".join(open_media(found)) == SAMPLES[record.kind]


def check_lists(repository: Repository, expected: Expected) -> None:
    """Each list has all of them once, in its order, however it is cut into pages."""
    kind = type(next(iter(expected)))
    sorts = {"id", "access_count", kind.order}
    for sort, descending in itertools.product(sorts, (False, True)):
        places = sorted((values[sort], values["id"]) for values in expected.values())
        if descending:
            places.reverse()
        listing = Listing(kind, sort=sort, descending=descending, limit=4)
        assert walk(repository, listing) == places

    of_owner = repository.of_owners([kind], "user", [next(iter(expected)).owner_id])
    ordered = sorted(expected.values(), key=lambda values: (values[kind.order], values["id"]))
    assert [record.values() for record in of_owner] == ordered

    for name, default in kind.defaults().items():
        if default is not None:
            having = repository.select(Listing(kind, {name: default}))
            assert {record.id for record in having} == {
                values["id"] for values in expected.values() if values[name] == default
            }
    seen = repository.select(Listing(kind, visible_to="alice"))
    assert {record.id for record in seen} == {
        values["id"]
        for values in expected.values()
        if values["is_public"] or values["uploaded_by"] == "alice"
    }
    assert len(repository.select(Listing(kind, visible_to=EVERYTHING))) == len(expected)


def walk(repository: Repository, listing: Listing[t.Any]) -> list[t.Any]:
    """The places of all records of a list, read page by page."""
    places: list[t.Any] = []
    while True:
        page = repository.select(listing)
        places += [(getattr(record, listing.sort), record.id) for record in page]
        if not page:
            return places
        listing = replace(listing, after=places[-1])


def edit(expected: Expected) -> Expected:
    """Edit every record, and say how it reads now."""
    edited: Expected = {}
    for record, values in expected.items():
        found = update_media(type(record), record.id, is_public=True)
        assert found.version == values["version"] + 1
        changed = {name: getattr(found, name) for name in ("is_public", "updated_at", "version")}
        edited[record] = values | changed
        assert found.values() == edited[record]
    return edited


@pytest.fixture
def mongo_app(make_app: MakeApp, storage_options: StorageOptions) -> Flask:
    return make_app("mongo", DUALMEDIA_STORAGES=storage_options("local"), **ANY_OWNER)


@every_kind
def test_in_mongo_only_mode(
    mongo_app: Flask, make_app: MakeApp, emptied_url: str, kind: type[Media]
) -> None:
    """They are read with the defaults, listed, edited, checked, moved and transferred."""
    with mongo_app.app_context():
        state = get_state()
        collection = state.mongo[kind.__tablename__]
        expected = plant(mongo_home(state.collections), collection, kind)
        check_reading(expected)
        check_lists(state.repository, expected)
        assert Checker(state, grace=-1, verify_bytes=True).run().found == {}
        assert state.repository.stored_size({kind: {"is_public": False}}) == sum(
            values["file_size"] or 0 for values in expected.values() if not values["is_public"]
        )
        expected = edit(expected)

    dual_app = make_app(SQLALCHEMY_DATABASE_URI=emptied_url, DUALMEDIA_AUTO_UPGRADE=False)
    moving = make_app(
        "mongo", SQLALCHEMY_DATABASE_URI=emptied_url, DUALMEDIA_STORAGES=mongo_app.config[
            "DUALMEDIA_STORAGES"
        ]
    )  # fmt: skip
    assert "Both hold the same" in transfer(moving, "sql")
    with dual_app.app_context():
        check_reading(expected)
    with moving.app_context():
        moved = move(get_state(), "database", "local", TABLES.values())
        assert (moved.moved, moved.failed) == (len(expected) - 1, [])


@pytest.mark.parametrize("kind", [ProductImage, CourseVideo])
def test_in_the_journal(make_app: MakeApp, kind: type[Media]) -> None:
    """They are read with the defaults beside what SQL has, listed, edited, checked and drained."""
    app = make_app(DUALMEDIA_AUTO_DRAIN=False, **ANY_OWNER)
    with app.app_context():
        state = get_state()
        assert state.circuit is not None
        state.circuit.stop()
        state.circuit.expect_journal()
        sql, journal = homes_of(state)
        collection = state.mongo[f"journal_{kind.__tablename__}"]
        expected = plant(journal, collection, kind)
        check_reading(expected)
        check_lists(state.repository, expected)
        found = Checker(state, grace=-1, verify_bytes=True).run().found
        assert set(found) == {"journal_left"}  # they wait for a drain
        expected = edit(expected)

        drain_journal(state)
        assert journal.is_empty()
        assert sql.repository.count(kind) == len(expected)
        check_reading(expected)
