"""Variants share the life of their originals: none is left behind, and none that is alive is
taken away."""

from __future__ import annotations

import hashlib
import io
import typing as t
from collections.abc import Iterator
from itertools import chain

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_dualmedia import (
    MediaStorage,
    QuotaExceeded,
    delete_media,
    failpoints,
    get_media_stats,
    lifecycle,
    save_media_storage,
)
from flask_dualmedia.content.uploads import Upload
from flask_dualmedia.databases import schema
from flask_dualmedia.errors import StorageError
from flask_dualmedia.homes.base import AnyHome
from flask_dualmedia.models import AVAILABLE, DELETING, PENDING, TABLES, MediaVariant
from flask_dualmedia.signals import media_saved
from flask_dualmedia.state import State, get_state
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.testing import count_queries
from flask_dualmedia.upkeep import sweeping
from flask_dualmedia.upkeep.check import Checker
from flask_dualmedia.upkeep.journal import homes_of
from flask_dualmedia.upkeep.move import move
from flask_dualmedia.upkeep.variants import is_due, sweep_variants
from flask_dualmedia.variants.presets import default_presets
from flask_dualmedia.variants.recipes import recipes_of

from ..conftest import MakeApp, StorageOptions
from ..samples import counting

RECIPES = recipes_of(default_presets()["files"].values())
CARD = RECIPES["card.webp"].digest
CARD_AS_JPEG = RECIPES["card.jpg"].digest

SMALL, LARGE = counting(1000), counting(6 * 1024**2)
CONTENT = counting(3000)
SIZES = pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])


@pytest.fixture
def app(make_app: MakeApp, mode: str, storage_options: StorageOptions) -> Flask:
    return make_app(
        mode,
        DUALMEDIA_AUTO_DRAIN=False,
        DUALMEDIA_STORAGES=storage_options("local"),
        DUALMEDIA_TRASH_SECONDS=0,
    )


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def save(content: bytes = SMALL) -> MediaStorage:
    return save_media_storage("page", "1", io.BytesIO(content))


def keep(
    state: State,
    original: MediaStorage,
    recipe: str = CARD,
    *,
    home: AnyHome | None = None,
    unfinished: bool = False,
    **fields: t.Any,
) -> MediaVariant:
    """Keep a variant of any bytes, in its original's home."""
    home = home or state.homes[0]
    variant = MediaVariant.of(original, "card", recipe)
    values = {
        "state": PENDING if unfinished else AVAILABLE,
        "storage_type": "database",
        "storage_key": new_key(variant.id),
        "file_size": len(CONTENT),
        "checksum": hashlib.sha256(CONTENT).hexdigest(),
    }
    vars(variant).update(values | fields)
    storage = home.storage
    if variant.storage_type != "database":
        storage = state.storages[variant.storage_type]
    storage.put(str(variant.storage_key), iter([CONTENT]))
    home.repository.add(variant)
    return variant


def put(state: State, original: MediaStorage, content: bytes) -> MediaStorage:
    return lifecycle.replace(state, original, Upload(io.BytesIO(content)))


def keys(state: State) -> set[str]:
    """The keys of all bytes that there are, in every storage."""
    return {*chain.from_iterable(storage.keys() for storage in state.storages.values())}


def check(state: State, *, repair: bool = False, **options: t.Any) -> dict[str, int]:
    options = {"grace": -1, "verify_bytes": True, "at_once": True} | options
    return dict(Checker(state, repair=repair, **options).run().found)


@SIZES
def test_they_are_deleted_with_their_original(state: State, content: bytes) -> None:
    original, other = save(content), save(content)
    keep(state, original)
    keep(state, original, "1" * 12, storage_type="local")
    keep(state, original, "2" * 12, unfinished=True)
    kept = keep(state, other)
    delete_media(MediaStorage, original.id)
    assert keys(state) == {other.storage_key, kept.storage_key}
    assert [one.id for one in state.repository.variants_of([original.id, other.id])] == [kept.id]
    assert state.repository.count(MediaVariant) == 1
    assert check(state) == {}


def test_one_sweep_ends_a_deletion_that_was_killed(state: State) -> None:
    original = save()
    keep(state, original)
    where = {"state": AVAILABLE}
    state.repository.update(MediaStorage, original.id, {"state": DELETING}, where=where)
    assert sweeping.sweep(state, grace=0) == 1
    assert keys(state) == set()
    assert state.repository.count(MediaVariant) == 0


@SIZES
def test_a_deletion_looks_for_them_once(app: Flask, content: bytes) -> None:
    original = save(content)
    with count_queries(app) as queries:
        delete_media(MediaStorage, original.id)
    looks = [one for one in (*queries.sql, *queries.mongo) if "media_variants" in one]
    assert len(looks) == 1


def test_the_trash_keeps_them_until_it_is_purged(state: State) -> None:
    original = save()
    variant = keep(state, original)
    sweeping.trash(state, original)
    assert sweep_variants(state, grace=0) == 0
    assert check(state) == {}
    (trashed,) = sweeping.trashed_records(state)
    sweeping.restore(state, trashed)
    assert state.home.read_variant(MediaStorage, original.id, "card", variant.recipe)[1]

    (again,) = state.repository.scan(MediaStorage, None, 2)
    sweeping.trash(state, again)
    sweeping.sweep(state, grace=0)
    assert sweeping.sweep(state, grace=0) == 1
    assert keys(state) == set()
    assert state.repository.count(MediaVariant) == 0


@SIZES
def test_a_replacement_leaves_none_of_the_old_bytes(state: State, content: bytes) -> None:
    original = save(content)
    keep(state, original)
    keep(state, original, "1" * 12, storage_type="local")
    replaced = put(state, original, content + b"new")
    assert keys(state) == {replaced.storage_key}
    assert state.repository.count(MediaVariant) == 0


def test_what_a_replacement_cannot_remove_is_left_for_the_sweep(state: State) -> None:
    def fail() -> None:
        raise StorageError("the storage fails")

    original = save()
    keep(state, original)
    with failpoints.on("variant:marked", fail):
        replaced = put(state, original, b"new")
    assert len(keys(state)) == 2
    sweeping.sweep(state, grace=0)
    assert keys(state) == {replaced.storage_key}
    assert state.repository.count(MediaVariant) == 0


def test_variants_that_nobody_asks_for_are_swept(state: State) -> None:
    original, deleted = save(), save()
    alive = keep(state, original)
    keep(state, original, source_key="replaced")
    keep(state, original, "f" * 12, storage_type="local")
    delete_media(MediaStorage, deleted.id)
    keep(state, deleted)
    keep(state, original, "2" * 12, media_kind="sculptures", source_key="stone")

    assert check(state) == {"variant_unknown": 4}
    assert sweep_variants(state, grace=3600) == 0
    assert sweep_variants(state, grace=3600) == 0
    assert sweep_variants(state, grace=0.001) == 4
    assert keys(state) == {original.storage_key, alive.storage_key}
    assert check(state) == {}


def test_the_command_sweeps_variants(app: Flask, state: State) -> None:
    keep(state, save(), source_key="replaced")
    result = app.test_cli_runner().invoke(args=["dualmedia", "sweep", "--grace", "0"])
    assert result.exit_code == 0, result.output
    assert "Removed 1 variant(s) that nobody asks for any more." in result.output
    assert state.repository.count(MediaVariant) == 0


def test_the_app_looks_for_them_now_and_then(state: State) -> None:
    assert is_due(state)
    assert not is_due(state)


def test_a_repair_takes_away_no_variant_that_is_alive(state: State) -> None:
    original = save()
    alive = keep(state, original), keep(state, original, CARD_AS_JPEG, storage_type="local")
    unknown = keep(state, original, source_key="replaced")
    assert check(state, repair=True, at_once=False) == {"variant_unknown": 1}
    assert state.repository.get(MediaVariant, unknown.id)  # nothing goes at the first look
    assert check(state, repair=True) == {"variant_unknown": 1}
    assert check(state, repair=True) == {}
    assert keys(state) == {original.storage_key, *(one.storage_key for one in alive)}


@pytest.mark.parametrize("damage", ["bytes_missing", "size_wrong", "checksum_wrong"])
def test_a_damaged_variant_is_removed_and_never_trashed(state: State, damage: str) -> None:
    """It is made again when somebody asks for it."""
    contents = {"size_wrong": CONTENT[:-1], "checksum_wrong": bytes(len(CONTENT))}
    original = save()
    variant = keep(state, original)
    storage = state.homes[0].storage
    storage.delete(str(variant.storage_key))
    if damage in contents:
        storage.put(str(variant.storage_key), iter([contents[damage]]))
    assert check(state, repair=True) == {damage: 1}
    assert state.repository.find(MediaVariant, variant.id) is None
    assert [*sweeping.trashed_records(state)] == []
    assert check(state) == {}
    assert keys(state) == {original.storage_key}


def test_a_variant_with_a_wrong_size_is_mended_and_nobody_is_told_of_new_media(
    app: Flask, state: State
) -> None:
    told: list[t.Any] = []

    def receive(_: Flask, record: t.Any) -> None:
        told.append(record)

    variant = keep(state, save(), file_size=1)
    with media_saved.connected_to(receive, app):
        assert check(state, repair=True) == {"size_wrong": 1}
    mended = state.repository.get(MediaVariant, variant.id)
    assert mended is not None
    assert (mended.file_size, told) == (len(CONTENT), [])


def test_they_are_found_where_their_original_was_moved_to(state: State) -> None:
    """A move gives the original another key, and they are not made again for it."""
    original = save()
    inside, outside = (
        keep(state, original),
        keep(state, original, CARD_AS_JPEG, storage_type="local"),
    )
    assert move(state, "database", "local", [MediaStorage]).moved == 1
    for variant in (inside, outside):
        moved, found, _ = state.home.read_variant(MediaStorage, original.id, "card", variant.recipe)
        assert moved is not None
        assert found is not None
        assert (moved.storage_type, found.id) == ("local", variant.id)
        assert found.storage_type == variant.storage_type
    assert check(state) == {}

    assert move(state, "database", "local", TABLES.values()).moved == 1
    assert [*state.storages["database"].keys()] == []
    assert check(state) == {}


def test_their_storage_is_named_where_it_is_not_set_up(app: Flask, state: State) -> None:
    variant = keep(state, save())
    where = {"state": AVAILABLE}
    state.repository.update(MediaVariant, variant.id, {"storage_type": "archive"}, where=where)
    for command in ("status", "check"):
        output = app.test_cli_runner().invoke(args=["dualmedia", command]).output
        assert "1 record(s) in 'archive', which is not in DUALMEDIA_STORAGES" in output


def test_stats_say_how_much_is_derived_and_quotas_do_not_count_it(
    make_app: MakeApp, mode: str
) -> None:
    app = make_app(mode, name="limited", DUALMEDIA_QUOTA_PER_OWNER=2 * len(SMALL))
    with app.app_context():
        state, original = get_state(app), save()
        keep(state, original)
        keep(state, original, "1" * 12, unfinished=True)
        stats = get_media_stats("page", "1")
        assert (stats.media, stats.size, stats.derived_size) == (1, len(SMALL), len(CONTENT))
        save()
        with pytest.raises(QuotaExceeded):
            save()
    status = app.test_cli_runner().invoke(args=["dualmedia", "status"])
    assert "2 variants" in status.output


def test_media_is_deleted_and_counted_before_their_table_is_there(
    make_app: MakeApp, database_url: str
) -> None:
    """A worker that may not upgrade the schema goes on with the one before."""
    schema.upgrade(sa.create_engine(database_url, poolclass=sa.NullPool), "0004")
    app = make_app(name="early", SQLALCHEMY_DATABASE_URI=database_url, DUALMEDIA_AUTO_UPGRADE=False)
    with app.app_context():
        state, original = get_state(app), save()
        put(state, original, b"new")
        assert get_media_stats("page", "1").derived_size == 0
        delete_media(MediaStorage, original.id)
        assert keys(state) == set()
        assert homes_of(state)[1].is_empty()
