"""``flask dualmedia check`` and ``sweep`` where bytes are outside of the databases."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import timedelta

import pytest

from flask_dualmedia import (
    ProductImage,
    get_product_images,
    open_media,
    save_product_image,
)
from flask_dualmedia.models import new_id, now
from flask_dualmedia.state import State, get_state
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.upkeep import sweeping
from flask_dualmedia.upkeep.check import Checker
from flask_dualmedia.upkeep.transfer import records_of

from ..conftest import OUTSIDE, MakeApp, StorageOptions
from ..samples import counting, png
from .test_integrity import change, check

PICTURE = png() + counting(3000)


@pytest.fixture(params=OUTSIDE)
def outside(
    request: pytest.FixtureRequest, make_app: MakeApp, storage_options: StorageOptions
) -> Iterator[State]:
    """An app whose bytes are outside of the databases."""
    name = request.param
    app = make_app(
        "mongo",
        DUALMEDIA_STORAGES=storage_options(name),
        DUALMEDIA_DEFAULT_STORAGE=name,
        DUALMEDIA_TRASH_SECONDS=0,
    )
    with app.app_context():
        yield get_state(app)


def test_every_fault_of_a_storage_outside_is_found_and_mended(outside: State) -> None:
    """Bytes are gone, cut, damaged, or nobody's, in whichever storage."""
    storage = outside.storages[outside.settings.default_storages["product-images"]]
    product = outside.mongo["products"].insert_one({}).inserted_id
    # So many whole ones that the others are less than half.
    wholes = [save_product_image(product, io.BytesIO(PICTURE)) for _ in range(4)]
    missing, sized, cut, damaged, stuck = (
        save_product_image(product, io.BytesIO(PICTURE)) for _ in range(5)
    )
    assert check(outside, verify_bytes=True).clean
    storage.delete(str(missing.storage_key))
    change(outside, sized, file_size=len(PICTURE) + 1)
    for image, content in ((cut, PICTURE[:-1]), (damaged, bytes(len(PICTURE)))):
        storage.put(str(image.storage_key), iter([content]))
    change(outside, stuck, state="deleting")
    storage.put(new_key(new_id()), iter([b"left"]))
    storage.put(new_key(wholes[0].id), iter([b"left by a replacement"]))
    storage.put("not-ours", iter([b"somebody else's"]))
    assert Checker(outside, grace=60).run().found == {
        "size_wrong": 2
    }  # the others may be work in progress
    found = check(outside, verify_bytes=True)
    expected = {
        "bytes_missing": 1,
        "size_wrong": 2,
        "checksum_wrong": 1,
        "bytes_orphaned": 2,
        "stuck_deleting": 1,
    }
    assert dict(found.found) == expected
    mended = check(outside, verify_bytes=True, repair=True, discard_damaged=True)
    assert dict(mended.repaired) == expected
    assert check(outside, verify_bytes=True).found == {}
    sweeping.sweep(outside)  # purges the trash
    kept = get_product_images(product)
    assert {image.id for image in kept} == {sized.id, *(whole.id for whole in wholes)}
    assert all(b"".join(open_media(image)) == PICTURE for image in kept)
    assert set(storage.keys()) == {image.storage_key for image in kept} | {"not-ours"}


def test_a_storage_without_anything_is_no_reason_to_delete_all_media(outside: State) -> None:
    """It is more likely that a disk is not mounted, or that the check looks into the wrong
    bucket."""
    storage = outside.storages[outside.settings.default_storages["product-images"]]
    product = outside.mongo["products"].insert_one({}).inserted_id
    for _ in range(2):
        storage.delete(str(save_product_image(product, io.BytesIO(png())).storage_key))
    report = check(outside, repair=True, discard_damaged=True)
    assert (dict(report.found), report.clean) == ({"bytes_missing": 2}, False)
    assert len(get_product_images(product)) == 2


def test_a_sweep_does_not_stop_at_a_storage_that_is_down(
    make_app: MakeApp, storage_options: StorageOptions
) -> None:
    """Bytes there go with a later sweep, bytes elsewhere go now."""
    options = storage_options("s3") | storage_options("local")
    app = make_app("mongo", DUALMEDIA_STORAGES=options)
    down = make_app(
        "mongo",
        DUALMEDIA_STORAGES=options | {"s3": options["s3"] | {"endpoint_url": "http://127.0.0.1:1"}},
    )
    with app.app_context():
        state = get_state(app)
        product = state.mongo["products"].insert_one({}).inserted_id
        for name in ("s3", "local", "s3", "database"):
            image = save_product_image(product, io.BytesIO(png()), storage_type=name)
            change(state, image, state="pending", updated_at=now() - timedelta(hours=2))
    assert sweeping.sweep(get_state(down), grace=-1) == 2
    assert [record.storage_type for record in records_of(state.repository, ProductImage)] == [
        "s3",
        "s3",
    ]
    assert sweeping.sweep(state, grace=-1) == 2
    assert [*state.storages["s3"].keys(), *state.storages["local"].keys()] == []
