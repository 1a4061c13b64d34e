"""``flask dualmedia check``: every fault is found under its name and mended, and nobody's work is
harmed."""

from __future__ import annotations

import io
import json
import typing as t
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
import sqlalchemy as sa
from bson import ObjectId
from flask import Flask

from flask_dualmedia import (
    ProductImage,
    delete_media,
    get_product_images,
    lifecycle,
    open_media,
    save_product_image,
)
from flask_dualmedia.content.uploads import Upload
from flask_dualmedia.models import KINDS, MediaChunk, new_id, now
from flask_dualmedia.state import State
from flask_dualmedia.storages.base import new_key, owner_of_key
from flask_dualmedia.storages.chunked import CHUNK_SIZE
from flask_dualmedia.upkeep import sweeping
from flask_dualmedia.upkeep.check import Check, Checker, Decision

from ..conftest import MakeApp
from ..samples import Tokens, counting, png

pytestmark = pytest.mark.usefixtures("context")

PICTURE = png() + counting(3 * CHUNK_SIZE)


@pytest.fixture
def app(make_app: MakeApp, mode: str) -> Flask:
    """Media that a repair takes away is kept for no time."""
    return make_app(mode, DUALMEDIA_TRASH_SECONDS=0)


@pytest.fixture
def product(state: State) -> ObjectId:
    return state.mongo["products"].insert_one({}).inserted_id


@pytest.fixture
def image(product: ObjectId) -> ProductImage:
    return save_product_image(product, io.BytesIO(PICTURE))


def check(state: State, **options: t.Any) -> Check:
    return Checker(state, grace=-1, **options).run()


def change(state: State, record: ProductImage, /, **changes: t.Any) -> None:
    """Change a record as no function of ours would."""
    state.repository.update(ProductImage, record.id, changes, where={})


def drop_chunk(state: State, key: str, seq: int) -> None:
    if state.engine is None:
        state.mongo["media.chunks"].delete_one({"files_id": key, "n": seq})
        return
    table = t.cast(sa.Table, MediaChunk.__table__)
    with state.engine.begin() as connection:
        connection.execute(sa.delete(table).where(table.c.storage_key == key, table.c.seq == seq))


def damage_chunk(state: State, key: str) -> None:
    if state.engine is None:
        state.mongo["media.chunks"].update_one(
            {"files_id": key, "n": 1}, {"$set": {"data": bytes(CHUNK_SIZE)}}
        )
        return
    table = t.cast(sa.Table, MediaChunk.__table__)
    with state.engine.begin() as connection:
        query = sa.update(table).where(table.c.storage_key == key, table.c.seq == 1)
        connection.execute(query.values(data=bytes(CHUNK_SIZE)))


def lose_owner(state: State, image: ProductImage) -> None:
    state.mongo["products"].delete_many({})


def lose_bytes(state: State, image: ProductImage) -> None:
    state.storages["database"].delete(str(image.storage_key))


def lose_chunk(state: State, image: ProductImage) -> None:
    drop_chunk(state, str(image.storage_key), 1)


def say_a_wrong_size(state: State, image: ProductImage) -> None:
    change(state, image, file_size=len(PICTURE) + 1)


def damage(state: State, image: ProductImage) -> None:
    damage_chunk(state, str(image.storage_key))


def leave_bytes(state: State, image: ProductImage) -> None:
    state.storages["database"].put(new_key(new_id()), iter([counting(CHUNK_SIZE + 1)]))


def leave_old_bytes(state: State, image: ProductImage) -> None:
    """Leave old bytes, like a replacement that is killed before it deletes them."""
    state.storages["database"].put(new_key(image.id), iter([counting(10)]))


def never_finish(state: State, image: ProductImage) -> None:
    change(state, image, state="pending")


def never_finish_deleting(state: State, image: ProductImage) -> None:
    change(state, image, state="deleting")


FAULTS: list[tuple[Callable[[State, ProductImage], None], str, bool]] = [
    (lose_owner, "owner_missing", False),
    (lose_bytes, "bytes_missing", False),
    (lose_chunk, "bytes_incomplete", False),
    (say_a_wrong_size, "size_wrong", True),
    (damage, "checksum_wrong", False),
    (leave_bytes, "bytes_orphaned", True),
    (leave_old_bytes, "bytes_orphaned", True),
    (never_finish, "stuck_pending", False),
    (never_finish_deleting, "stuck_deleting", False),
]


@pytest.mark.parametrize(
    ("fault", "problem", "survives"), FAULTS, ids=[fault.__name__ for fault, _, _ in FAULTS]
)
def test_every_fault_is_found_and_mended(
    state: State, product: ObjectId, image: ProductImage, fault: t.Any, problem: str, survives: bool
) -> None:
    other = state.mongo["products"].insert_one({"_id": "other"}).inserted_id
    untouched = save_product_image(other, io.BytesIO(png()))
    assert check(state, verify_bytes=True).clean
    fault(state, image)
    if fault is lose_owner:
        state.mongo["products"].insert_one({"_id": "other"})
    found = check(state, verify_bytes=True)
    assert dict(found.found) == {problem: 1}
    assert not found.clean
    mended = check(state, verify_bytes=True, repair=True, discard_damaged=True)
    assert dict(mended.repaired) == {problem: 1}
    assert mended.clean
    again = check(state, verify_bytes=True)
    assert again.found == {}
    sweeping.sweep(state)  # purges the trash
    assert [found.id for found in get_product_images(product)] == ([image.id] if survives else [])
    assert [found.id for found in get_product_images(other)] == [untouched.id]
    if survives:
        (survivor,) = get_product_images(product)
        assert b"".join(open_media(survivor)) == PICTURE
    assert set(state.storages["database"].keys()) == {
        record.storage_key for owner in (product, other) for record in get_product_images(owner)
    }


@pytest.mark.parametrize("fault", [lose_chunk, damage])
def test_damaged_media_is_kept_unless_told_otherwise(
    state: State, image: ProductImage, fault: t.Any
) -> None:
    """It may be restored from a backup."""
    fault(state, image)
    report = check(state, verify_bytes=True, repair=True)
    assert not report.clean
    assert len(get_product_images(image.mongo_product_id)) == 1


def test_what_is_younger_than_the_grace_time_is_left_alone(
    state: State, image: ProductImage
) -> None:
    """An upload is in progress, and there is media whose document is about to be imported."""
    leave_bytes(state, image)
    lose_owner(state, image)
    change(state, image, state="pending")
    assert Checker(state, grace=60, repair=True).run().found == {}


def test_an_owner_that_comes_between_scan_and_repair(state: State, image: ProductImage) -> None:
    lose_owner(state, image)
    save_product_image(state.mongo["products"].insert_one({}).inserted_id, io.BytesIO(png()))

    def approve(decision: Decision) -> bool:
        assert (decision.deletions, decision.is_safe) == (1, True)
        state.mongo["products"].insert_one({"_id": ObjectId(image.mongo_product_id)})
        return True

    check(state)
    report = check(state, repair=True, approve=approve)
    assert (report.found, report.repaired, report.findings) == ({}, {}, [])
    assert [found.id for found in get_product_images(image.mongo_product_id)] == [image.id]


def test_bytes_that_are_named_between_scan_and_repair(state: State, image: ProductImage) -> None:
    """The check asks again who names a key before it deletes it."""
    key = new_key(image.id)
    state.storages["database"].put(key, iter([PICTURE]))

    def approve(decision: Decision) -> bool:
        assert (decision.deletions, decision.is_safe) == (1, True)
        state.storages["database"].delete(str(image.storage_key))
        change(state, image, storage_key=key)
        return True

    check(state)
    assert check(state, repair=True, approve=approve).clean
    assert b"".join(open_media(get_product_images(image.mongo_product_id)[0])) == PICTURE


@pytest.mark.parametrize("fault", [lose_owner, lose_bytes])
def test_content_that_is_replaced_between_scan_and_repair(
    state: State, image: ProductImage, fault: t.Any
) -> None:
    fault(state, image)
    state.mongo["products"].insert_one({})

    def approve(decision: Decision) -> bool:
        state.mongo["products"].replace_one(
            {"_id": ObjectId(image.mongo_product_id)}, {}, upsert=True
        )
        lifecycle.replace(state, image, Upload(io.BytesIO(png())))
        return True

    check(state)
    assert check(state, repair=True, approve=approve).clean
    assert b"".join(open_media(get_product_images(image.mongo_product_id)[0])) == png()


def test_a_record_deleted_during_the_check_is_no_finding(state: State, image: ProductImage) -> None:
    checker = Checker(state, grace=-1)
    stats = checker._finder.stats

    def late(records: list[t.Any]) -> t.Any:
        found = get_product_images(image.mongo_product_id)
        if found:
            delete_media(ProductImage, found[0].id)
        return stats(records)

    checker._finder.stats = late  # type: ignore[method-assign]
    assert checker.run().found == {}


def test_an_empty_collection_of_owners_is_no_reason_to_delete_all_media(
    state: State, image: ProductImage
) -> None:
    """It is more likely that the check looks into the wrong database."""
    state.mongo["products"].delete_many({})
    report = check(state, repair=True)
    assert (dict(report.found), report.clean) == ({"owner_missing": 1}, False)
    assert [found.id for found in get_product_images(image.mongo_product_id)] == [image.id]


def test_media_of_missing_documents_is_kept_where_the_host_says_so(
    make_app: MakeApp, mode: str
) -> None:
    app = make_app(mode, DUALMEDIA_ON_OWNER_DELETE="keep")
    with app.app_context():
        state: State = app.extensions["dualmedia"]
        product = state.mongo["products"].insert_one({}).inserted_id
        save_product_image(product, io.BytesIO(png()))
        state.mongo["products"].delete_many({})
        report = check(state, repair=True)
        assert (dict(report.found), report.clean) == ({"owner_missing": 1}, False)
        assert len(get_product_images(product)) == 1


def test_the_command(app: Flask, state: State, image: ProductImage) -> None:
    runner = app.test_cli_runner()
    clean = runner.invoke(args=["dualmedia", "check"])
    assert clean.exit_code == 0, clean.output
    assert clean.output.endswith("clean\n")
    lose_bytes(state, image)
    found = runner.invoke(args=["dualmedia", "check", "--repair", "--dry-run", "--grace", "0"])
    assert found.exit_code == 1
    assert "1 bytes_missing: the record's bytes are not in the storage" in found.output
    assert str(image.id) in found.output
    machine = json.loads(runner.invoke(args=["dualmedia", "check", "--json"]).output)
    assert machine["found"] == {"bytes_missing": 1}
    assert machine["findings"][0]["subject"] == str(image.id)
    assert runner.invoke(args=["dualmedia", "check", "--repair"]).exit_code == 1, (
        "found less than an hour ago"
    )
    assert runner.invoke(args=["dualmedia", "check", "--repair", "--grace", "0"]).exit_code == 0
    verified = runner.invoke(args=["dualmedia", "check", "--verify-bytes", "--rate", "100"])
    assert verified.exit_code == 0


def test_an_admin_sees_the_last_check_on_the_health_page(
    app: Flask, state: State, image: ProductImage, tokens: Tokens
) -> None:
    lose_bytes(state, image)
    check(state)
    client = app.test_client()
    seen = client.get("/media/health", headers=tokens.admin).json
    assert seen is not None
    assert seen["lastCheck"]["findings"] == {"bytes_missing": 1}
    for headers in (tokens.alice, {}, {"Authorization": "Bearer nonsense"}):
        answer = client.get("/media/health", headers=headers)
        assert answer.status_code == 200
        assert "lastCheck" not in (answer.json or {})


def test_verification_goes_on_where_it_stopped(state: State, product: ObjectId) -> None:
    for _ in range(3):
        save_product_image(product, io.BytesIO(png()))
    records = get_product_images(product)
    state.mongo["dualmedia_checks"].insert_one(
        {"_id": "progress", "verified": {"product-images": str(records[1].id)}}
    )
    assert check(state, verify_bytes=True, resume=True).verified == len(png())
    assert check(state, verify_bytes=True).verified == 3 * len(png())


def test_keys_say_whose_they_are_and_when_they_were_made() -> None:
    media_id = new_id()
    owner = owner_of_key(new_key(media_id))
    assert owner is not None
    assert owner[0] == media_id
    assert abs(owner[1] - now()) < timedelta(seconds=5)
    for strange in ("", "x", "key-1", f"{uuid.uuid4().hex}-zz", "a" * 40):
        assert owner_of_key(strange) is None


def test_the_status_command(app: Flask, image: ProductImage, mode: str) -> None:
    output = app.test_cli_runner().invoke(args=["dualmedia", "status"]).output
    assert f"mode      {mode}" in output
    assert "1 product-images" in output
    assert "never" in output
    assert len(KINDS) == 4
