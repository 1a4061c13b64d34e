"""Nothing is taken away on one look, and what a repair takes away can be brought back."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from flask_dualmedia import (
    MediaNotFound,
    MediaStorage,
    ProductImage,
    dump_media,
    get_media,
    get_media_by_reference,
    get_media_stats,
    get_product_images,
    lifecycle,
    open_media,
    save_media_storage,
    save_product_image,
    update_media,
)
from flask_dualmedia.models import TRASHED, new_id
from flask_dualmedia.state import State, get_state
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.upkeep import sightings, sweeping
from flask_dualmedia.upkeep.check import Checker

from ..conftest import MakeApp
from ..faults.transfer import homes, transfer
from ..samples import Tokens, counting, png

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def run(app: Flask, *arguments: str, code: int | None = 0, typed: str | None = None) -> str:
    done = app.test_cli_runner().invoke(args=["dualmedia", *arguments], input=typed)
    assert code is None or done.exit_code == code, (done.output, done.exception)
    return done.output


def pass_time(state: State, seconds: float) -> None:
    """Let what was seen have been seen so much earlier."""
    collection = state.mongo[sightings.COLLECTION]
    for seen in collection.find({}):
        collection.update_one(
            {"_id": seen["_id"]}, {"$set": {"since": seen["since"] - timedelta(seconds=seconds)}}
        )


def save_images(app: Flask, count: int = 4) -> list[ProductImage]:
    with app.app_context():
        products = get_state(app).mongo["products"]
        owners = [products.insert_one({}).inserted_id for _ in range(count)]
        return [
            save_product_image(owner, png(), is_main_image=True, alt_text="a") for owner in owners
        ]


def lose_owner(state: State, image: ProductImage) -> dict[str, t.Any]:
    for document in state.mongo["products"].find():
        if str(document["_id"]) == image.owner_id:
            state.mongo["products"].delete_one(document)
            return document
    raise AssertionError


def put_into_trash(app: Flask, image: ProductImage) -> dict[str, t.Any]:
    """Have a repair do it. The owner that was lost for it."""
    owner = lose_owner(get_state(app), image)
    run(app, "check", "--grace", "0", code=1)
    assert "1 repaired" in run(app, "check", "--repair", "--grace", "0")
    return owner


def test_one_look_takes_nothing_away(app: Flask, state: State) -> None:
    images = save_images(app)
    lose_owner(state, images[0])
    assert "1 left: no check found them before" in run(
        app, "check", "--repair", "--grace", "0", code=1
    )
    with app.app_context():
        assert get_media(ProductImage, images[0].id).id == images[0].id
    assert "1 repaired" in run(app, "check", "--repair", "--grace", "0")


def test_the_second_look_comes_after_the_grace_time_by_the_clock_of_mongodb(
    app: Flask, state: State
) -> None:
    (image, *_) = save_images(app)
    lose_owner(state, image)
    state.repository.update(ProductImage, image.id, {"created_at": LONG_AGO}, where={})
    for _ in range(3):
        run(app, "check", "--repair", code=1)
    pass_time(state, state.settings.grace - 60)
    run(app, "check", "--repair", code=1)
    pass_time(state, 60)
    assert "1 repaired" in run(app, "check", "--repair")


def test_somebody_who_types_the_number_needs_no_second_look(app: Flask, state: State) -> None:
    (image, *_) = save_images(app)
    lose_owner(state, image)
    run(app, "check", "--repair", "--grace", "0", "--force", typed="\n", code=1)
    assert "1 repaired" in run(app, "check", "--repair", "--grace", "0", "--force", typed="1\n")


def test_what_was_well_in_between_is_looked_at_anew(app: Flask, state: State) -> None:
    (image, *_) = save_images(app)
    for _ in range(2):
        owner = lose_owner(state, image)
        run(app, "check", "--repair", "--grace", "0", code=1)
        state.mongo["products"].insert_one(owner)
        run(app, "check", "--repair", "--grace", "0")
    with app.app_context():
        assert len(get_product_images(image.owner_id)) == 1


def test_what_was_changed_in_between_is_looked_at_anew(app: Flask, state: State) -> None:
    (image, *_) = save_images(app)
    lose_owner(state, image)
    for text in "abc":
        run(app, "check", "--repair", "--grace", "0", code=1)
        with app.app_context():
            update_media(ProductImage, image.id, alt_text=text)
    with app.app_context():
        assert len(get_product_images(image.owner_id)) == 1


def test_a_wrong_size_is_mended_at_the_first_look(app: Flask, state: State) -> None:
    (image, *_) = save_images(app)
    state.repository.update(ProductImage, image.id, {"file_size": 1}, where={})
    assert "1 repaired" in run(app, "check", "--repair", "--grace", "0")


def pending(state: State) -> MediaStorage:
    """An upload in progress that a clock makes look abandoned."""
    key = new_key(new_id())
    record = MediaStorage.new(
        reference_type="page",
        reference_id="1",
        media_type="image",
        storage_type="database",
        storage_key=key,
        updated_at=LONG_AGO,
    )
    state.repository.add(record)
    return record


def live(state: State, record: MediaStorage) -> None:
    """Tell, as an upload does, that it goes on. The clock of its host is far behind."""
    assert state.repository.update(
        MediaStorage, record.id, {"updated_at": LONG_AGO}, where={"state": "pending"}
    )


def is_there(state: State, record: MediaStorage) -> bool:
    found = state.repository.find(MediaStorage, record.id)
    return found is not None and found.state != "deleting"


def test_an_upload_that_moves_is_alive_whatever_its_clock_says(app: Flask, state: State) -> None:
    record = pending(state)
    for _ in range(3):
        sweeping.sweep(state)
        run(app, "check", "--repair", code=None)
        pass_time(state, 2 * state.settings.grace)
        live(state, record)
    assert is_there(state, record)
    sweeping.sweep(state)
    assert is_there(state, record)
    pass_time(state, 2 * state.settings.grace)
    assert sweeping.sweep(state) == 1
    assert not is_there(state, record)


def test_a_repair_looks_twice_at_uploads_that_do_not_move(app: Flask, state: State) -> None:
    record = pending(state)
    save_images(app)
    for _ in range(2):
        assert "1 stuck_pending" in run(app, "check", "--repair", code=1)
    assert is_there(state, record)
    pass_time(state, state.settings.grace)
    assert "1 stuck_pending: an upload that was never finished, 1 repaired" in run(
        app, "check", "--repair"
    )
    assert not is_there(state, record)


def test_a_sweep_without_a_grace_time_takes_everything_now(state: State) -> None:
    pending(state)
    assert sweeping.sweep(state, grace=0) == 1


def test_many_unfinished_records_are_all_seen(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read in pages, and several begin with the same time."""
    monkeypatch.setattr(sweeping, "SWEPT_AT_ONCE", 3)
    for _ in range(10):
        pending(state)
    assert sweeping.sweep(state) == 0
    pass_time(state, state.settings.grace)
    assert sweeping.sweep(state) == 10
    assert state.mongo[sightings.COLLECTION].count_documents({}) == 10
    sweeping.sweep(state)
    assert state.mongo[sightings.COLLECTION].count_documents({}) == 0


def test_what_is_remembered_has_a_limit(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those beyond it have their turn when the others are gone."""
    monkeypatch.setattr(sightings, "CAPACITY", 4)
    for _ in range(10):
        pending(state)
    swept = []
    while len(swept) < 20 and sum(swept) < 10:
        swept.append(sweeping.sweep(state))
        assert state.mongo[sightings.COLLECTION].count_documents({}) <= 4
        pass_time(state, state.settings.grace)
    assert sum(swept) == 10
    assert max(swept) == 4


def test_a_check_says_how_much_it_could_not_remember(
    app: Flask, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sightings, "CAPACITY", 1)
    for image in save_images(app)[:2]:
        lose_owner(state, image)
    assert "1 not remembered for the next check: too many at once" in run(
        app, "check", "--grace", "0", code=1
    )


def test_nobody_sees_what_is_in_the_trash(app: Flask, state: State) -> None:
    image, *others = save_images(app)
    with app.app_context():
        before = dump_media(get_media(ProductImage, image.id))
    owner = put_into_trash(app, image)
    state.mongo["products"].insert_one(owner)
    client, token = app.test_client(), Tokens.of(app).admin
    for path in ("", "/content"):
        answer = client.get(f"/media/product-images/{image.id}{path}", headers=token)
        assert answer.status_code == 404
    assert client.delete(f"/media/product-images/{image.id}", headers=token).status_code == 404
    listed = client.get("/media/product-images", headers=token).json
    assert {item["id"] for item in t.cast(t.Any, listed)["items"]} == {
        str(other.id) for other in others
    }
    with app.app_context():
        assert get_product_images(image.owner_id) == []
        with pytest.raises(MediaNotFound):
            get_media(ProductImage, image.id)
        assert get_media_stats("product", image.owner_id).media == 0
        # Its place as the main image is free.
        second = save_product_image(image.owner_id, png(), is_main_image=True)
    assert state.repository.count(ProductImage) == len(others) + 1
    of_product = {"mongo_product_id": image.owner_id}
    assert state.repository.stored_size({ProductImage: of_product}) == second.file_size
    assert image.storage_key in [*state.storages["database"].keys()]
    checked = run(app, "check", "--grace", "0")
    assert "1 in the trash, each for 7 days" in checked
    assert checked.endswith("clean\n")
    assert "trash     1 record(s), kept for 7 days" in run(app, "status")
    restored = run(app, "check", "--restore")
    assert "is no longer the main image: the product has another" in restored
    with app.app_context():
        kept = get_media(ProductImage, image.id)
        assert dump_media(kept) == before | {"isMainImage": False}
        assert b"".join(open_media(kept)) == png()
        assert get_media(ProductImage, second.id).is_main_image


def test_one_record_is_restored_by_its_id(app: Flask, state: State) -> None:
    images = save_images(app, 8)
    for image in images[:2]:
        put_into_trash(app, image)
    assert run(app, "check", "--restore", str(images[0].id)) == "Restored 1 record(s).\n"
    with app.app_context():
        assert get_media(ProductImage, images[0].id).is_main_image
        with pytest.raises(MediaNotFound):
            get_media(ProductImage, images[1].id)
    run(app, "check", "--restore", str(images[0].id), code=1)
    run(app, "check", "--restore", "nonsense", code=2)
    run(app, "check", "--restore", "--repair", code=None)
    assert run(app, "check", "--restore") == "Restored 1 record(s).\n"


def test_the_trash_is_purged_after_its_time_and_not_by_a_sweep_without_grace(
    app: Flask, state: State
) -> None:
    image, *_ = save_images(app)
    put_into_trash(app, image)
    run(app, "sweep", "--grace", "0", "--yes")
    pass_time(state, state.settings.trash_seconds - 60)
    sweeping.sweep(state)
    assert state.repository.count_trashed(ProductImage) == 1
    pass_time(state, 60)
    assert sweeping.sweep(state) == 1
    assert image.storage_key not in [*state.storages["database"].keys()]
    assert run(app, "check", "--restore") == "Restored 0 record(s).\n"


def test_what_somebody_has_restored_is_not_purged(app: Flask, state: State) -> None:
    image, *_ = save_images(app)
    put_into_trash(app, image)
    found = state.repository.find(ProductImage, image.id)
    assert found is not None
    run(app, "check", "--restore")
    assert not lifecycle.purge(state, found)
    with pytest.raises(MediaNotFound):
        sweeping.restore(state, found)
    with app.app_context():
        assert b"".join(open_media(get_media(ProductImage, image.id))) == png()


def test_what_is_found_by_reading_bytes_is_remembered_by_checks_that_do_not(
    app: Flask, state: State
) -> None:
    image, *_ = save_images(app)
    state.storages["database"].delete(str(image.storage_key))
    state.storages["database"].put(str(image.storage_key), iter([bytes(len(png()))]))
    verify = ("check", "--verify-bytes", "--repair", "--discard-damaged", "--grace", "0")
    assert "1 checksum_wrong" in run(app, *verify, code=1)
    run(app, "check", "--grace", "0")
    assert "1 repaired" in run(app, *verify)


@pytest.mark.parametrize("to", ["sql", "mongo"])
def test_a_transfer_carries_the_trash_along(make_app: MakeApp, migrated_url: str, to: str) -> None:
    apps = [make_app(mode, SQLALCHEMY_DATABASE_URI=migrated_url) for mode in ("mongo", "dual")]
    source, target = apps if to == "sql" else reversed(apps)
    image, bare, *_ = save_images(source)
    with source.app_context():
        before = dump_media(get_media(ProductImage, image.id))
    get_state(source).storages["database"].delete(str(bare.storage_key))
    owner = lose_owner(get_state(source), image)
    run(source, "check", "--repair", "--grace", "0", "--force", "--expect", "2")
    transfer(source, to)
    assert get_state(target).repository.count_trashed(ProductImage) == 2
    get_state(source).mongo["products"].insert_one(owner)
    transfer(target, to, "--delete-source", "--yes")
    assert run(target, "check", "--restore") == "Restored 2 record(s).\n"
    with target.app_context():
        kept = get_media(ProductImage, image.id)
        assert dump_media(kept) == before
        assert b"".join(open_media(kept)) == png()
    sql, mongo = homes(apps[1])
    left = mongo if to == "sql" else sql
    assert left.repository.count_trashed(ProductImage) == 0


def test_the_journal_brings_its_trash_into_sql(make_app: MakeApp) -> None:
    up = make_app(DUALMEDIA_AUTO_DRAIN=False)
    down = make_app(
        SQLALCHEMY_DATABASE_URI="postgresql+psycopg://nobody@127.0.0.1:1/none",
        DUALMEDIA_CONNECT_TIMEOUT=0.2,
    )
    with down.app_context():
        record = save_media_storage("page", "1", counting(10))
    sweeping.trash(get_state(up), record)
    with down.app_context():
        assert get_media_by_reference("page", "1") == []
    assert "Moved 1 record(s)" in run(up, "drain")
    assert "1 in the trash" in run(up, "check", "--grace", "0")
    assert run(up, "check", "--restore") == "Restored 1 record(s).\n"
    with up.app_context():
        (kept,) = get_media_by_reference("page", "1")
        assert (kept.id, b"".join(open_media(kept))) == (record.id, counting(10))


def test_moving_bytes_moves_those_of_the_trash(
    make_app: MakeApp, mode: str, tmp_path: t.Any
) -> None:
    app = make_app(mode, DUALMEDIA_STORAGES={"local": {"directory": str(tmp_path / "local")}})
    image, bare, *_ = save_images(app)
    state = get_state(app)
    owner = put_into_trash(app, image)
    state.storages["database"].delete(str(bare.storage_key))
    run(app, "check", "--repair", "--grace", "0", "--force", "--expect", "1")
    assert "Moved 3 record(s)" in run(app, "move", "--from", "database", "--to", "local")
    found = state.repository.find(ProductImage, image.id)
    assert found is not None
    assert (found.state, found.storage_type) == (TRASHED, "local")
    state.mongo["products"].insert_one(owner)
    run(app, "check", "--restore", str(image.id))
    with app.app_context():
        assert b"".join(open_media(get_media(ProductImage, image.id))) == png()


@pytest.mark.parametrize("typed", [None, "", "yes\n", "2\n"])
def test_a_sweep_that_may_end_uploads_asks(app: Flask, state: State, typed: str | None) -> None:
    record = pending(state)
    assert "may be uploads in progress" in run(app, "sweep", "--grace", "0", typed=typed, code=1)
    assert is_there(state, record)


def test_a_sweep_that_was_answered_goes_on(app: Flask, state: State) -> None:
    for options, typed in (((), "1\n"), (("--yes",), None)):
        record = pending(state)
        assert "Removed 1 " in run(app, "sweep", "--grace", "0", *options, typed=typed)
        assert not is_there(state, record)


@pytest.mark.parametrize("typed", [None, "", "yes\n", "5\n"])
def test_deleting_the_source_of_a_transfer_asks(
    make_app: MakeApp, migrated_url: str, typed: str | None
) -> None:
    mongo, dual = (
        make_app(mode, SQLALCHEMY_DATABASE_URI=migrated_url) for mode in ("mongo", "dual")
    )
    save_images(mongo)
    transfer(mongo, "sql")
    delete = ("transfer", "--to", "sql", "--delete-source")
    assert "MongoDB holds 4 record(s)" in run(dual, *delete, typed=typed, code=1)
    assert get_state(mongo).repository.count(ProductImage) == 4
    assert "Deleted all media" in run(dual, *delete, typed="4\n")
    assert get_state(mongo).repository.count(ProductImage) == 0


def test_checks_at_the_same_time_remember_what_both_saw(app: Flask, state: State) -> None:
    (image, *_) = save_images(app)
    lose_owner(state, image)
    first = Checker(state, grace=0)
    run(app, "check", "--grace", "0", code=1)
    first.run()
    assert "1 repaired" in run(app, "check", "--repair", "--grace", "0")
