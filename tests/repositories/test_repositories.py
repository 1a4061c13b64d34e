"""The contract of every repository of media records."""

from __future__ import annotations

import random
import typing as t
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from flask_dualmedia.errors import DatabaseUnavailable, MediaConflict, SecondMainImage
from flask_dualmedia.models import (
    AVAILABLE,
    DELETING,
    KINDS,
    PENDING,
    TRASHED,
    CourseVideo,
    Media,
    MediaStorage,
    MediaVariant,
    ProductImage,
    now,
)
from flask_dualmedia.repositories.base import Listing, Repository
from flask_dualmedia.state import State

from ..conftest import MakeApp

REQUIRED: dict[str, dict[str, t.Any]] = {
    "product-images": {"mongo_product_id": "p", "is_main_image": False, "position": 0},
    "course-videos": {
        "mongo_course_id": "c", "video_type": "lesson", "position": 0, "processing_status": "ready",
    },
    "course-resources": {"mongo_course_id": "c", "resource_type": "pdf"},
    "files": {"reference_type": "user", "reference_id": "u", "media_type": "document"},
}  # fmt: skip


@pytest.fixture(params=["postgresql", "sqlite", "mongo"])
def repository(request: pytest.FixtureRequest, make_app: MakeApp, tmp_path: t.Any) -> Repository:
    """Every repository in turn; a test that takes this fixture is part of the contract."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'media.db'}"
        app = make_app(SQLALCHEMY_DATABASE_URI=url, DUALMEDIA_AUTO_UPGRADE=True)
    else:
        app = make_app("mongo" if request.param == "mongo" else "dual")
    state: State = app.extensions["dualmedia"]
    return state.repository


def make(kind: type[Media] = ProductImage, **fields: t.Any) -> Media:
    return kind.new(
        **REQUIRED[kind.kind] | {"storage_type": "external", "state": AVAILABLE} | fields
    )


def added(repository: Repository, kind: type[Media] = ProductImage, **fields: t.Any) -> Media:
    record = make(kind, **fields)
    repository.add(record)
    return record


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_record_comes_back_as_it_was_kept(repository: Repository, kind: type[Media]) -> None:
    filled = {
        "file_size": 2**40,
        "checksum": "0" * 64,
        "uploaded_by": "zoë",
        "last_accessed_at": now(),
    }
    record = added(repository, kind, filename="☃.png", **filled)
    found = repository.get(kind, record.id)
    assert type(found) is kind
    assert found is not None
    assert found.values() == record.values()


@pytest.mark.parametrize("state", [PENDING, DELETING])
def test_readers_see_only_available_records(repository: Repository, state: str) -> None:
    record = added(repository, state=state)
    assert repository.get(ProductImage, record.id) is None
    assert repository.select(Listing(ProductImage)) == []
    assert repository.of_owners([ProductImage], None, ["p"]) == []
    assert not repository.count_access(ProductImage, record.id, now())


def test_an_id_is_taken_once(repository: Repository) -> None:
    record = added(repository)
    with pytest.raises(MediaConflict):
        repository.add(record)


def test_a_product_has_one_main_image(repository: Repository) -> None:
    added(repository, is_main_image=True)
    added(repository, is_main_image=True, mongo_product_id="another")
    with pytest.raises(MediaConflict, match="main image"):
        added(repository, is_main_image=True)


def test_several_records_are_kept_all_or_none(repository: Repository) -> None:
    repository.add_all([make(position=0, is_main_image=True), make(position=1)])
    with pytest.raises(SecondMainImage):
        repository.add_all(
            [make(position=2), make(position=3, is_main_image=True), make(position=4)]
        )
    assert [
        image.position for image in repository.select(Listing(ProductImage, sort="position"))
    ] == [0, 1]


def test_a_second_main_image_is_stopped_when_it_becomes_available(repository: Repository) -> None:
    first, second = (added(repository, is_main_image=True, state=PENDING) for _ in range(2))
    assert repository.update(ProductImage, first.id, {"state": AVAILABLE}, where={"state": PENDING})
    with pytest.raises(MediaConflict, match="main image"):
        repository.update(ProductImage, second.id, {"state": AVAILABLE}, where={"state": PENDING})


def test_a_main_image_being_deleted_makes_room(repository: Repository) -> None:
    added(repository, is_main_image=True, state=DELETING)
    assert added(repository, is_main_image=True)


def test_update_changes_only_what_still_is_as_expected(repository: Repository) -> None:
    record = added(repository, storage_key="old")
    where = {"state": AVAILABLE, "storage_key": "old"}
    changed = repository.update(ProductImage, record.id, {"storage_key": "new"}, where=where)
    assert changed is not None
    assert changed.values() == record.values() | {"storage_key": "new", "version": 2}
    assert repository.update(ProductImage, record.id, {"storage_key": "other"}, where=where) is None
    assert repository.get(ProductImage, record.id).storage_key == "new"  # type: ignore[union-attr]


def test_removing_a_missing_record_is_a_no_op(repository: Repository) -> None:
    repository.remove(ProductImage, uuid.uuid4())


def test_remove(repository: Repository) -> None:
    record = added(repository, state=DELETING, storage_key="key")
    assert repository.count(ProductImage) == 1
    repository.remove(ProductImage, record.id)
    assert repository.count(ProductImage) == 0


def test_no_access_is_lost_when_many_count_at_once(repository: Repository) -> None:
    record, at = added(repository), now()
    with ThreadPoolExecutor(8) as pool:
        assert all(
            pool.map(lambda _: repository.count_access(ProductImage, record.id, at), range(40))
        )
    found = repository.get(ProductImage, record.id)
    assert found is not None
    assert (found.access_count, found.last_accessed_at) == (40, at)


def test_records_are_counted_by_the_storage_of_their_bytes(repository: Repository) -> None:
    """In any state; external media and deleted records have no bytes."""
    for name, state in (("archive", AVAILABLE), ("archive", PENDING), ("database", TRASHED)):
        added(repository, storage_type=name, storage_key=str(uuid.uuid4()), state=state)
    added(repository)
    added(repository, MediaStorage, storage_type="scans", storage_key="key")
    buried = added(repository, storage_type="archive", storage_key="gone", state=DELETING)
    repository.bury(ProductImage, buried.id)
    assert repository.count_by_storage(ProductImage) == {"archive": 2, "database": 1}
    assert repository.count_by_storage(MediaStorage) == {"scans": 1}
    assert repository.count_by_storage(CourseVideo) == {}


def test_accesses_of_many_records_are_added_at_once(repository: Repository) -> None:
    earlier, later = now() - timedelta(hours=1), now()
    old = added(repository, access_count=5, last_accessed_at=later)
    new, other = added(repository), added(repository)
    hidden, missing = added(repository, state=DELETING), uuid.uuid4()
    counts = {record.id: (number, earlier) for record, number in ((new, 2), (old, 3), (hidden, 4))}
    done = repository.add_accesses(ProductImage, counts | {missing: (1, later)})
    assert done == {new.id: True, old.id: True, hidden.id: False, missing: False}
    for record, expected in (
        (old, (8, later)),
        (new, (2, earlier)),
        (other, (0, None)),
        (hidden, (0, None)),
    ):
        found = repository.find(ProductImage, record.id)
        assert found is not None
        assert (found.access_count, found.last_accessed_at) == expected
        assert found.updated_at == record.updated_at, "a count is no change"


@pytest.mark.long
def test_batches_in_any_order_do_not_wait_for_each_other(repository: Repository) -> None:
    ids, at = [added(repository).id for _ in range(20)], now()

    def add(number: int) -> None:
        chosen = random.Random(number).sample(ids, 20)
        assert all(repository.add_accesses(ProductImage, dict.fromkeys(chosen, (2, at))).values())
        assert repository.count_access(ProductImage, chosen[0], at, 0)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    found = [repository.get(ProductImage, media_id) for media_id in ids]
    assert [record.access_count for record in found if record is not None] == [48] * 20


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", ["id", "position", "access_count"])
def test_pages_follow_each_other_through_ties(
    repository: Repository, sort: str, descending: bool
) -> None:
    records = [added(repository, position=n % 3, access_count=n % 2) for n in range(11)]
    key = lambda record: (getattr(record, sort), record.id)  # noqa: E731
    expected = [record.id for record in sorted(records, key=key, reverse=descending)]
    seen: list[uuid.UUID] = []
    after = None
    while page := repository.select(
        Listing(ProductImage, {}, sort=sort, descending=descending, after=after, limit=3)
    ):
        seen += [record.id for record in page]
        after = (getattr(page[-1], sort), page[-1].id)
    assert seen == expected


def test_a_listing_filters(repository: Repository) -> None:
    mine = added(repository, MediaStorage, reference_id="1", media_type="image")
    added(repository, MediaStorage, reference_id="1", media_type="video")
    added(repository, MediaStorage, reference_id="2", media_type="image")
    where = {"reference_type": "user", "reference_id": "1", "media_type": "image"}
    assert [record.id for record in repository.select(Listing(MediaStorage, where))] == [mine.id]


def test_a_listing_hides_what_is_private_to_others(repository: Repository) -> None:
    mine = added(repository, uploaded_by="me")
    public = added(repository, uploaded_by="you", is_public=True)
    hidden = added(repository, uploaded_by="you")
    seen = {record.id for record in repository.select(Listing(ProductImage, {}, visible_to="me"))}
    assert seen == {mine.id, public.id}
    assert hidden.id in {record.id for record in repository.select(Listing(ProductImage))}


@pytest.mark.parametrize("seed", range(3))
def test_pages_of_what_a_reader_may_see_are_all_of_it_in_order(
    repository: Repository, seed: int
) -> None:
    """Whatever is filtered and sorted by: each record once, though it may be the reader's own and
    public."""
    chance = random.Random(seed)
    records = [
        make(
            uploaded_by=chance.choice(["me", "you", None]),
            is_public=chance.random() < 0.5,
            mongo_product_id=chance.choice("ab"),
            position=chance.randrange(3),
            access_count=chance.randrange(3),
            state=chance.choice([AVAILABLE, AVAILABLE, AVAILABLE, PENDING, DELETING]),
        )
        for _ in range(40)
    ]
    repository.add_all(records)
    seen = [r for r in records if r.state == AVAILABLE and (r.is_public or r.uploaded_by == "me")]
    wheres: list[dict[str, t.Any]] = [
        {},
        {"mongo_product_id": "a"},
        {"uploaded_by": "me"},
        {"uploaded_by": "you"},
    ]
    wheres.append({"mongo_product_id": "b", "uploaded_by": "me"})
    for where in wheres:
        for sort in ("id", "position", "access_count"):
            for descending in (False, True):
                matching = [r for r in seen if where.items() <= r.values().items()]
                matching.sort(key=lambda r: (getattr(r, sort), r.id), reverse=descending)
                expected = [record.id for record in matching]
                whole = Listing(ProductImage, where, "me", sort, descending)
                assert [record.id for record in repository.select(whole)] == expected
                assert _in_pages(repository, whole, limit=chance.randrange(1, 8)) == expected


def _in_pages(repository: Repository, listing: Listing[t.Any], limit: int) -> list[uuid.UUID]:
    found: list[uuid.UUID] = []
    after = None
    while page := repository.select(replace(listing, after=after, limit=limit)):
        assert len(page) <= limit
        found += [record.id for record in page]
        after = (getattr(page[-1], listing.sort), page[-1].id)
    return found


def test_the_media_of_many_owners(repository: Repository) -> None:
    second = added(repository, mongo_product_id="a", position=1)
    first = added(repository, mongo_product_id="a", position=0)
    other = added(repository, mongo_product_id="b")
    added(repository, mongo_product_id="c")
    found = repository.of_owners([ProductImage], None, ["a", "b", "none"])
    assert [r.id for r in found if r.owner_id == "a"] == [first.id, second.id]
    assert [r.id for r in found if r.owner_id == "b"] == [other.id]
    assert len(found) == 3


def test_the_media_of_many_kinds(repository: Repository) -> None:
    kinds = list(KINDS.values())
    owner = {kind: {kind.owner_field: "same"} for kind in kinds}
    records = {kind: added(repository, kind, **owner[kind]) for kind in kinds}
    added(repository, MediaStorage, reference_type="page", reference_id="same")
    found = repository.of_owners(kinds, "user", ["same"])
    assert {type(record): record.values() for record in found} == {
        k: r.values() for k, r in records.items()
    }
    assert len(found) == 4


def test_unfinished_records_are_found_oldest_first(repository: Repository) -> None:
    time = now()
    added(repository)
    old = [
        added(repository, state=s, updated_at=time - timedelta(hours=h))
        for h, s in ((1, DELETING), (2, PENDING))
    ]
    added(repository, state=PENDING, updated_at=time)
    assert [r.id for r in repository.unfinished(ProductImage, time, 10)] == [old[1].id, old[0].id]
    assert len(repository.unfinished(ProductImage, time, 1)) == 1


def test_uploads_that_were_announced(repository: Repository) -> None:
    """Announced uploads of one uploader count, with their announced sizes, as long as they are
    recent."""
    time = now()
    announced: dict[str, t.Any] = {"state": PENDING, "uploaded_by": "zoë", "checksum": "0" * 64}
    assert repository.announced("zoë", time, None) == (0, 0)
    added(repository, file_size=2**40, **announced)
    other = added(repository, MediaStorage, file_size=10, **announced)
    changes: list[dict[str, t.Any]] = [
        {"uploaded_by": "another"},
        {"checksum": None},
        {"state": AVAILABLE},
        {"state": DELETING},
        {"updated_at": time - timedelta(hours=1)},
    ]
    for change in changes:
        added(repository, file_size=100, **announced | change)
    assert repository.announced("zoë", time - timedelta(minutes=1), None) == (2, 2**40 + 10)
    assert repository.announced("zoë", time - timedelta(minutes=1), other.id) == (1, 2**40)


def test_the_sum_of_sizes_of_what_is_kept(repository: Repository) -> None:
    """The sum goes over kinds, and over available records with bytes here. It takes one statement
    if the database can do it."""
    kept: dict[str, t.Any] = {"storage_type": "database", "storage_key": "k", "uploaded_by": "zoë"}
    added(repository, file_size=2**40, **kept)
    added(repository, file_size=1, mongo_product_id="other", **kept)
    added(repository, MediaStorage, file_size=10, **kept)
    added(repository, MediaStorage, file_size=100, **kept | {"uploaded_by": "another"})
    # External media: its bytes are elsewhere.
    added(repository, MediaStorage, file_size=1000, uploaded_by="zoë")
    for state in (PENDING, DELETING):
        added(repository, file_size=10_000, state=state, **kept)
    by_zoe = {kind: {"uploaded_by": "zoë"} for kind in KINDS.values()}
    assert repository.stored_size(by_zoe) == 2**40 + 11
    assert repository.stored_size({ProductImage: {"mongo_product_id": "p"}}) == 2**40
    assert repository.stored_size({kind: {"uploaded_by": "nobody"} for kind in KINDS.values()}) == 0


def test_records_whose_answer_was_lost_are_taken_back(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MongoDB has no transaction for them. Nobody was told of those that are there already, and one
    that was there before stays."""
    repository: Repository = make_app("mongo").extensions["dualmedia"].repository
    before = added(repository)
    insert_many = Collection.insert_many

    def lose(collection: t.Any, documents: t.Any, **options: t.Any) -> None:
        insert_many(collection, documents[:2], **options)
        raise AutoReconnect("connection closed")

    monkeypatch.setattr(Collection, "insert_many", lose)
    another = make(id=before.id, position=1)
    records = [make(), make(), another]
    with pytest.raises(DatabaseUnavailable):
        repository.add_all(records)
    assert [record.id for record in repository.scan(ProductImage, None, 10)] == [before.id]


def variant_of(original: Media, recipe: str = "0" * 12, **fields: t.Any) -> MediaVariant:
    values = {"state": AVAILABLE, "storage_type": "database", "storage_key": "bytes"} | fields
    return MediaVariant.of(original, "card", recipe, **values)


def test_a_variant_is_found_by_its_original_and_its_recipe(repository: Repository) -> None:
    original = added(repository, storage_key="source")
    filled = {"mime_type": "image/webp", "file_size": 3, "width": 640, "height": 480}
    variant = variant_of(original, detail='{"codecs": "vp9"}', duration=1.5, **filled)
    repository.add(variant)

    found = repository.find_variant(original.id, "source", "card", variant.recipe)
    assert found is not None
    assert found.values() == variant.values()
    assert found.is_of(original)
    for other in [
        (uuid.uuid4(), "source", "card", variant.recipe),
        (original.id, "replaced", "card", variant.recipe),
        (original.id, "source", "large", variant.recipe),
        (original.id, "source", "card", "1" * 12),
    ]:
        assert repository.find_variant(*other) is None


def test_the_second_of_two_that_make_the_same_variant_is_told(repository: Repository) -> None:
    """Whether it comes whole, or is made available in a step of its own."""
    original = added(repository, storage_key="source")
    begun = variant_of(original, state=PENDING)
    repository.add(begun)
    repository.add(variant_of(original))
    with pytest.raises(MediaConflict):
        repository.add(variant_of(original))
    with pytest.raises(MediaConflict):
        repository.update(MediaVariant, begun.id, {"state": AVAILABLE}, where={"state": PENDING})
    repository.add(variant_of(original, "1" * 12))


@pytest.mark.parametrize("state", [PENDING, DELETING])
def test_an_unfinished_variant_stands_in_nobodys_way(repository: Repository, state: str) -> None:
    original = added(repository, storage_key="source")
    unfinished = variant_of(original, state=state)
    repository.add(unfinished)
    assert repository.find_variant(original.id, "source", "card", unfinished.recipe) is None
    again = variant_of(original)
    repository.add(again)
    found = repository.find_variant(original.id, "source", "card", again.recipe)
    assert found is not None
    assert found.id == again.id


def test_the_variants_of_several_originals_are_read_at_once(repository: Repository) -> None:
    first, second, third = (added(repository, storage_key="source") for _ in range(3))
    variants = [
        variant_of(first), variant_of(first, "1" * 12, state=PENDING),
        variant_of(second, source_key="replaced"), variant_of(third),
    ]  # fmt: skip
    for variant in variants:
        repository.add(variant)
    found = repository.variants_of([first.id, second.id])
    assert sorted(one.id for one in found) == sorted(one.id for one in variants[:3])
    assert repository.variants_of([]) == []

    where = {"state": AVAILABLE}
    repository.update(MediaVariant, variants[2].id, {"state": DELETING}, where=where)
    assert len(repository.variants_of([second.id])) == 1
    repository.bury(MediaVariant, variants[2].id)
    assert repository.variants_of([second.id]) == []
