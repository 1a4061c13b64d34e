"""Records that are read together with one of their variants, from every home."""

from __future__ import annotations

import typing as t
import uuid

import pytest

from flask_dualmedia.errors import DatabaseUnavailable
from flask_dualmedia.homes.base import AnyHome
from flask_dualmedia.models import AVAILABLE, MediaVariant, ProductImage
from flask_dualmedia.state import State
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.storages.chunked import CHUNK_SIZE

from ..conftest import MakeApp
from ..samples import counting
from ..tools.proxy import Proxy
from .test_repositories import make

RECIPE = "0" * 12


@pytest.fixture(params=["postgresql", "sqlite", "mongo"])
def home(request: pytest.FixtureRequest, make_app: MakeApp, tmp_path: t.Any) -> AnyHome:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'media.db'}"
        app = make_app(SQLALCHEMY_DATABASE_URI=url, DUALMEDIA_AUTO_UPGRADE=True)
    else:
        app = make_app("mongo" if request.param == "mongo" else "dual")
    state: State = app.extensions["dualmedia"]
    return state.home


def add_original(
    home: AnyHome, storage_type: str = "database", storage_key: str | None = "source"
) -> ProductImage:
    original = make(storage_type=storage_type, storage_key=storage_key)
    home.repository.add(original)
    return t.cast("ProductImage", original)


def keep(home: AnyHome, original: ProductImage, content: bytes) -> MediaVariant:
    """Keep a variant as any small upload: at once where that can be done."""
    variant = MediaVariant.of(
        original, "card", RECIPE, state=AVAILABLE, storage_type="database", file_size=len(content)
    )
    variant.storage_key = new_key(variant.id)
    if not home.add_whole(variant, [content], keeps_id=True):
        home.storage.put(variant.storage_key, iter([content]))
        home.repository.add(variant)
    return variant


@pytest.mark.parametrize("size", [1000, CHUNK_SIZE, CHUNK_SIZE + 1])
def test_a_record_is_read_with_its_variant(home: AnyHome, size: int) -> None:
    original = add_original(home)
    variant = keep(home, original, counting(size))
    found, found_variant, content = home.read_variant(ProductImage, original.id, "card", RECIPE)
    assert found is not None
    assert found_variant is not None
    assert found.values() == original.values()
    assert found_variant.values() == variant.values()
    if home.takes_whole and size <= CHUNK_SIZE:
        assert content == counting(size)
    else:
        stored = home.storage.open(str(variant.storage_key), 0, size)
        assert b"".join(stored) == counting(size)


def test_a_record_without_the_variant_is_read_alone(home: AnyHome) -> None:
    original = add_original(home)
    keep(home, original, b"variant")
    for name, recipe in [("large", RECIPE), ("card", "1" * 12)]:
        found, variant, content = home.read_variant(ProductImage, original.id, name, recipe)
        assert found is not None
        assert (found.id, variant, content) == (original.id, None, None)
    assert home.read_variant(ProductImage, uuid.uuid4(), "card", RECIPE) == (None, None, None)

    external = add_original(home, storage_type="external", storage_key=None)
    found, variant, _ = home.read_variant(ProductImage, external.id, "card", RECIPE)
    assert found is not None
    assert variant is None


def test_a_variant_of_replaced_bytes_is_not_found(home: AnyHome) -> None:
    original = add_original(home)
    keep(home, original, b"variant")
    where = {"state": AVAILABLE}
    home.repository.update(ProductImage, original.id, {"storage_key": "new"}, where=where)
    _, variant, content = home.read_variant(ProductImage, original.id, "card", RECIPE)
    assert (variant, content) == (None, None)


def test_the_journal_has_originals_and_no_variants(make_proxied: MakeApp, proxy: Proxy) -> None:
    """While SQL is away, nobody waits to be told that a variant is missing."""
    state: State = make_proxied().extensions["dualmedia"]
    proxy.refuse()
    original = add_original(state.home)
    found, variant, content = state.home.read_variant(ProductImage, original.id, "card", RECIPE)
    assert found is not None
    assert (found.id, variant, content) == (original.id, None, None)
    with pytest.raises(DatabaseUnavailable):
        keep(state.home, original, b"variant")
    assert "journal_media_variants" not in state.mongo.list_collection_names()
