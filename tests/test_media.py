"""The media functions, in both modes."""

from __future__ import annotations

import hashlib
import io
import time
import typing as t
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from bson import ObjectId
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import FileStorage

from flask_dualmedia import (
    CourseResource,
    CourseVideo,
    EmptyFile,
    ExternalURL,
    FileTooLarge,
    InvalidMedia,
    MediaConflict,
    MediaNotFound,
    MediaStorage,
    OwnerNotFound,
    ProductImage,
    StorageError,
    UnsupportedType,
    UploadRejected,
    attach_media,
    delete_media,
    dump_media,
    dump_media_list,
    get_course_resources,
    get_course_videos,
    get_media,
    get_media_by_reference,
    get_owner,
    get_product_images,
    lifecycle,
    open_media,
    remember_owner,
    save_course_resource,
    save_course_video,
    save_media_storage,
    save_product_image,
    save_product_images,
    update_media,
    update_media_access_count,
)
from flask_dualmedia.content.uploads import Upload
from flask_dualmedia.models import KINDS, PENDING, Media
from flask_dualmedia.state import State, get_state
from flask_dualmedia.testing import count_queries
from flask_dualmedia.upkeep import sweeping

from .conftest import MakeApp
from .databases.test_announcements import rest
from .samples import PDF, Dribble, Owners, counting, mp4, png

pytestmark = [
    pytest.mark.usefixtures("context"),
    # Threads of the apps, MongoDB's driver among them, use the module random while values are
    # drawn.
    pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning"),
]

GENERATED = ("id", "storage_key", "created_at", "updated_at")


def content_of(state: State, record: Media) -> bytes:
    assert record.storage_key is not None
    assert record.file_size is not None
    return b"".join(
        state.storages[record.storage_type].open(record.storage_key, 0, record.file_size)
    )


def nothing_is_kept(state: State) -> bool:
    return not any(map(state.repository.count, KINDS.values())) and not list(
        state.storages["database"].keys()
    )


def everything(owners: Owners) -> dict[str, t.Any]:
    """The answer of each of the ten functions, saving and reading every kind by stream and by
    URL."""
    own: dict[str, t.Any] = {"uploaded_by": "alice", "is_public": True}
    return {
        "image": save_product_image(
            owners.product,
            io.BytesIO(png()),
            filename="a.png",
            alt_text="A",
            is_main_image=True,
            width=1,
            height=1,
            **own,
        ),
        "external image": save_product_image(
            str(owners.product), "https://cdn.example/b.jpg", position=1, file_size=7
        ),
        "images": get_product_images(owners.product),
        "video": save_course_video(
            owners.course,
            io.BytesIO(mp4()),
            lesson_id="l1",
            video_type="intro",
            title="T",
            duration=1.5,
            **own,
        ),
        "external video": save_course_video(
            owners.course, "https://cdn.example/v.mp4", lesson_id="l2", position=2
        ),
        "videos": get_course_videos(str(owners.course)),
        "intro videos": get_course_videos(owners.course, video_type="intro"),
        "resource": save_course_resource(
            owners.course, io.BytesIO(PDF), filename="notes.pdf", lesson_id="l1"
        ),
        "external resource": save_course_resource(
            owners.course, "https://cdn.example/x.zip", resource_type="archive"
        ),
        "resources": get_course_resources(owners.course),
        "resources of l1": get_course_resources(owners.course, lesson_id="l1"),
        "file": save_media_storage("user", owners.user, io.BytesIO(png()), title="Avatar"),
        "external file": save_media_storage(
            "page", 7, "https://cdn.example/p", mime_type="audio/mpeg"
        ),
        "files": get_media_by_reference("user", owners.user),
        "images of page": get_media_by_reference("page", "7", media_type="audio"),
    }


def test_the_functions_answer_the_same_in_both_modes(make_app: MakeApp) -> None:
    """The same classes with equal fields, but for what is new for every record."""
    answers = {}
    owners = Owners(ObjectId(), ObjectId(), ObjectId())
    for mode in ("dual", "mongo"):
        app = make_app(mode, DUALMEDIA_REFERENCES={"product": None, "course": None, "user": None})
        with app.app_context():
            answers[mode] = [(name, known(answer)) for name, answer in everything(owners).items()]
    for in_dual, in_mongo in zip(answers["dual"], answers["mongo"], strict=True):
        assert in_dual == in_mongo


def known(answer: t.Any) -> t.Any:
    if isinstance(answer, list):
        assert answer
        return [known(record) for record in answer]
    assert all(answer.values()[name] is not None for name in ("id", "created_at", "updated_at"))
    assert answer.created_at.utcoffset().total_seconds() == 0
    return type(answer), {
        name: value for name, value in answer.values().items() if name not in GENERATED
    }


def test_what_was_saved_is_what_is_read(state: State, owners: Owners) -> None:
    answers = everything(owners)
    assert [r.values() for r in answers["images"]] == [
        answers["image"].values(),
        answers["external image"].values(),
    ]
    assert [r.id for r in answers["videos"]] == [answers["video"].id, answers["external video"].id]
    assert [r.id for r in answers["intro videos"]] == [answers["video"].id]
    assert [r.id for r in answers["resources"]] == [
        answers["resource"].id,
        answers["external resource"].id,
    ]
    assert [r.id for r in answers["resources of l1"]] == [answers["resource"].id]
    assert [r.id for r in answers["files"]] == [answers["file"].id]
    assert [r.id for r in answers["images of page"]] == [answers["external file"].id]
    image = answers["image"]
    assert content_of(state, image) == png()
    assert (image.file_size, image.checksum) == (len(png()), hashlib.sha256(png()).hexdigest())
    assert (image.state, image.storage_type) == ("available", "database")
    assert image.mime_type == "image/png"
    assert answers["external image"].storage_type == "external"
    resource = answers["resource"]
    assert (resource.resource_type, resource.resource_name) == ("pdf", "notes.pdf")
    assert (answers["file"].media_type, answers["external file"].media_type) == ("image", "audio")


def test_a_file_uploaded_with_flask_brings_its_name(owners: Owners) -> None:
    upload = FileStorage(io.BytesIO(PDF), "report.pdf", content_type="text/html")
    record = save_course_resource(owners.course, upload)
    assert (record.filename, record.mime_type) == ("report.pdf", "application/pdf")


def test_a_stream_that_dribbles_and_bytes_are_sources_too(state: State, owners: Owners) -> None:
    content = mp4(700_001)
    for source in (Dribble(content, 9973), content):
        assert content_of(state, save_course_video(owners.course, source)) == content


def test_something_that_is_no_source_is_refused(owners: Owners) -> None:
    with pytest.raises(TypeError, match="binary stream"):
        save_product_image(owners.product, 42)


@pytest.mark.parametrize("missing", [ObjectId(), "0" * 24, "no such id", 42])
def test_an_owner_that_does_not_exist(state: State, missing: t.Any) -> None:
    for source in (io.BytesIO(png()), "https://cdn.example/a.jpg"):
        with pytest.raises(OwnerNotFound):
            save_product_image(missing, source)
    assert nothing_is_kept(state)


def test_an_app_may_spell_its_own_strings_as_it_likes(state: State) -> None:
    for spelled in ("ABCDEFABCDEFABCDEFABCDEF", "{abcdefab-1234-5678-1234-567812345678}", "07"):
        state.mongo["products"].insert_one({"_id": spelled})
        saved = save_product_image(spelled, "https://cdn.example/a.jpg")
        assert [record.id for record in get_product_images(spelled)] == [saved.id]


def test_types_that_are_not_mapped_are_accepted_unchecked(owners: Owners) -> None:
    invoice = save_media_storage("invoice", "no such id", "https://cdn.example/a.pdf")
    assert invoice.reference_type == "invoice"


OWNER_IDS = st.one_of(
    st.builds(ObjectId),
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40
    ),
    st.from_regex(r"[0-9a-f]{24}", fullmatch=True),
    st.integers(-(2**63), 2**63 - 1),
    st.uuids(),
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(OWNER_IDS)
def test_owner_ids_of_any_type_are_the_same_as_objects_and_strings(
    state: State, owner_id: t.Any
) -> None:
    """Hosts pass an ``_id`` as they have it, or as it stood in a URL."""
    state.mongo["products"].replace_one({"_id": owner_id}, {}, upsert=True)
    saved = save_product_image(owner_id, "https://cdn.example/a.jpg")
    again = save_product_image(str(owner_id), "https://cdn.example/a.jpg")
    for reference in (owner_id, str(owner_id)):
        assert {saved.id, again.id} <= {record.id for record in get_product_images(reference)}


def test_a_second_main_image_is_a_conflict(state: State, owners: Owners) -> None:
    save_product_image(owners.product, io.BytesIO(png()), is_main_image=True)
    for source in (io.BytesIO(png()), "https://cdn.example/a.jpg"):
        with pytest.raises(MediaConflict):
            save_product_image(owners.product, source, is_main_image=True)
    assert len(get_product_images(owners.product)) == 1
    assert len(list(state.storages["database"].keys())) == 1


def test_images_of_a_product_are_saved_all_or_none(state: State, owners: Owners) -> None:
    urls = [f"https://cdn.example/{number}.jpg" for number in range(3)]
    saved = save_product_images(owners.product, urls, uploaded_by="alice", is_public=True)
    saved += save_product_images(
        str(owners.product), [io.BytesIO(png()), "https://cdn.example/3.jpg"]
    )
    found = get_product_images(owners.product)
    assert [image.values() for image in found] == [image.values() for image in saved]
    assert [image.position for image in found] == [0, 1, 2, 3, 4]
    assert [image.is_main_image for image in found] == [True, False, False, False, False]
    assert {image.uploaded_by for image in found[:3]} == {"alice"}
    for wrong in (["https://cdn.example/4.jpg", "javascript:alert(1)"], [png(), b"no image"]):
        with pytest.raises((InvalidMedia, UploadRejected)):
            save_product_images(owners.product, wrong)
    assert [image.id for image in get_product_images(owners.product)] == [
        image.id for image in saved
    ]
    assert len(list(state.storages["database"].keys())) == 1
    assert save_product_images(owners.product, []) == []


def test_the_images_of_a_new_product_are_one_write(
    app: Flask, state: State, owners: Owners
) -> None:
    urls = [f"https://cdn.example/{number}.jpg" for number in range(3)]
    product = state.mongo.products.find_one({"_id": owners.product})
    assert product is not None
    with app.test_request_context(), count_queries(app) as queries:
        remember_owner("product", product)
        saved = save_product_images(owners.product, urls, is_main_image=True, position=0)
    written = [
        command for command in queries.mongo if not command.startswith("createIndexes")
    ]  # the first is to come
    assert len(queries.sql) + len(written) == 1
    assert [(image.position, image.is_main_image) for image in saved] == [
        (0, True),
        (1, False),
        (2, False),
    ]
    with pytest.raises(MediaConflict):
        save_product_images(owners.product, urls, is_main_image=True, position=0)
    more = save_product_images(owners.product, urls[:2], is_main_image=False, position=7)
    assert [(image.position, image.is_main_image) for image in more] == [(7, False), (8, False)]
    assert len(get_product_images(owners.product)) == 5


def test_a_document_is_remembered_for_the_request_and_no_longer(app: Flask, owners: Owners) -> None:
    with app.test_request_context():
        image = save_product_image(owners.product, "https://cdn.example/1.jpg")
        remember_owner("product", {"_id": owners.product, "name": "as it was read"})
        assert get_owner(image) == {"_id": owners.product, "name": "as it was read"}
    with app.test_request_context():
        assert get_owner(image) != {"_id": owners.product, "name": "as it was read"}
    remember_owner("product", {"_id": "absent"})
    with pytest.raises(OwnerNotFound):
        save_product_image("absent", "https://cdn.example/1.jpg")


def test_of_two_main_images_at_once_one_wins(app: Flask, state: State, owners: Owners) -> None:
    def save(_: int) -> bool:
        with app.app_context():
            try:
                save_product_image(owners.product, io.BytesIO(png()), is_main_image=True)
            except MediaConflict:
                return False
            return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(save, range(6))) == 1
    assert len(get_product_images(owners.product)) == 1
    assert state.repository.count(ProductImage) == len(list(state.storages["database"].keys())) == 1


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", EmptyFile),
        (b"<html>", UnsupportedType),
        (PDF, UnsupportedType),
        (counting(99), UnsupportedType),
    ],
)
def test_bytes_that_are_no_image(
    state: State, owners: Owners, content: bytes, error: type[Exception]
) -> None:
    with pytest.raises(error):
        save_product_image(
            owners.product, io.BytesIO(content), filename="a.png", mime_type="image/png"
        )
    assert nothing_is_kept(state)


def test_a_file_over_the_limit_leaves_nothing(make_app: MakeApp, mode: str) -> None:
    app = make_app(mode, DUALMEDIA_MAX_SIZE=5_000_000)
    with app.app_context():
        saved = save_media_storage("page", "1", io.BytesIO(counting(5_000_000)))
        assert saved.file_size == 5_000_000
        delete_media("files", get_media_by_reference("page", "1")[0].id)
        with pytest.raises(FileTooLarge):
            save_media_storage("page", "1", io.BytesIO(counting(5_000_001)))
        assert nothing_is_kept(get_state())


class Breaking(io.BytesIO):
    """A stream whose client hangs up after the first blocks."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 5_000_000:
            raise ConnectionResetError
        return super().read(size)


def test_a_source_that_breaks_leaves_nothing(state: State) -> None:
    with pytest.raises(ConnectionResetError):
        save_media_storage("page", "1", Breaking(counting(9_000_000)))
    assert nothing_is_kept(state)


class BrokenStorage:
    """A storage that fails at the n-th call and passes the others on."""

    def __init__(self, inner: t.Any, failing: int) -> None:
        self._inner, self._failing, self._calls = inner, failing, 0

    def __getattr__(self, name: str) -> t.Any:
        def call(*args: t.Any) -> t.Any:
            self._calls += 1
            if self._calls == self._failing:
                raise StorageError("broken")
            return getattr(self._inner, name)(*args)

        return call


@pytest.mark.parametrize("failing", [1, 2])
def test_a_storage_that_fails_leaves_no_visible_record(
    app: Flask, state: State, owners: Owners, failing: int
) -> None:
    """No row is visible without its bytes, and the old bytes outlive a replacement that fails."""
    record = save_product_image(owners.product, io.BytesIO(png()))
    broken = BrokenStorage(state.storages["database"], failing)
    app.extensions["dualmedia"] = replace(state, storages={"database": t.cast("t.Any", broken)})
    if failing == 1:
        with pytest.raises(StorageError):
            save_product_image(owners.product, io.BytesIO(png(comment=b"new")))
    else:
        broken._calls = 1
        delete_media(ProductImage, record.id)  # gone for everybody; the sweep takes the bytes
    app.extensions["dualmedia"] = state
    remaining = get_product_images(owners.product)
    assert all(content_of(state, image) == png() for image in remaining)
    assert len(remaining) == (1 if failing == 1 else 0)
    sweeping.sweep(state, grace=-1)
    keys = list(state.storages["database"].keys())
    assert state.repository.count(ProductImage) == len(keys) == len(remaining)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"position": -1}, "position"),
        ({"width": -5}, "width"),
        ({"height": 2**31}, "height"),
        ({"alt_text": "nul \0 here"}, "altText"),
        ({"alt_text": "x" * 2001}, "altText"),
        ({"is_main_image": "perhaps"}, "isMainImage"),
        ({"storage_type": "attic"}, "storageType"),
        ({"storage_type": "s3"}, "storageType"),
        ({"checksum": "0" * 64}, "checksum"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_fields_that_are_not_valid(
    state: State, owners: Owners, fields: dict[str, t.Any], wrong: str
) -> None:
    with pytest.raises(InvalidMedia) as caught:
        save_product_image(owners.product, io.BytesIO(png()), **fields)
    assert list(caught.value.errors) == [wrong]
    assert nothing_is_kept(state)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "javascript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "http://",
        "a b",
        "x\ny",
        "h" * 3000,
    ],
)
def test_urls_that_are_not_accepted(owners: Owners, url: str) -> None:
    with pytest.raises(InvalidMedia) as caught:
        save_product_image(owners.product, url)
    assert list(caught.value.errors) == ["imageUrl"]


@pytest.mark.parametrize(
    "url", ["https://cdn.example/a?b=c#d", "url", "/static/a.png", "//cdn.example/a"]
)
def test_urls_are_kept_as_they_are(owners: Owners, url: str) -> None:
    record = save_product_image(owners.product, ExternalURL(url))
    assert record.image_url == url
    assert dump_media(record)["imageUrl"] == url
    assert dump_media_list([record]) == [dump_media(record)]


def test_every_access_is_counted_once(app: Flask, owners: Owners) -> None:
    record = save_product_image(owners.product, "https://cdn.example/a.jpg")

    def count(_: int) -> None:
        with app.app_context():
            update_media_access_count("product-images", str(record.id))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(40)))
    counted = get_media(ProductImage, record.id)
    assert counted.access_count == 40
    assert counted.last_accessed_at is not None
    assert counted.last_accessed_at >= record.created_at


@pytest.mark.parametrize("media_id", [uuid.UUID(int=1), str(uuid.UUID(int=2)), "not a uuid"])
def test_media_that_does_not_exist(media_id: t.Any) -> None:
    for function in (get_media, delete_media, update_media_access_count):
        with pytest.raises(MediaNotFound):
            function("files", media_id)


def test_a_kind_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="product-images"):
        get_media("pictures", uuid.uuid4())


def test_delete_takes_the_bytes_along(state: State, owners: Owners) -> None:
    kept, gone = (save_product_image(owners.product, io.BytesIO(png())) for _ in range(2))
    delete_media(ProductImage, gone.id)
    assert [record.id for record in get_product_images(owners.product)] == [kept.id]
    assert list(state.storages["database"].keys()) == [kept.storage_key]
    with pytest.raises(MediaNotFound):
        delete_media("product-images", gone.id)


def test_the_bytes_are_where_the_mode_says(app: Flask, state: State, owners: Owners) -> None:
    save_course_video(owners.course, io.BytesIO(mp4(1_000_000)))
    filled = {
        name for name in state.mongo.list_collection_names() if state.mongo[name].find_one({})
    }
    if state.engine is None:
        assert {"media.files", "media.chunks", "course_videos"} <= filled
        assert "sqlalchemy" not in app.extensions
    else:
        assert not any("media" in name or "course_" in name for name in filled)
        with state.engine.connect() as connection:
            rows = connection.exec_driver_sql(
                "SELECT count(*), sum(length(data)) FROM media_chunks"
            ).one()
        assert tuple(rows) == (4, 1_000_000)


def test_attach_media(owners: Owners, state: State) -> None:
    other = state.mongo["courses"].insert_one({}).inserted_id
    videos = [save_course_video(owners.course, "https://cdn.example/v", position=n) for n in (1, 0)]
    resource = save_course_resource(other, "https://cdn.example/r")
    documents = [{"_id": owners.course, "name": "first"}, {"_id": other}]
    answer = attach_media(documents, videos=CourseVideo, resources=CourseResource)
    assert [document["_id"] for document in answer] == [owners.course, other]
    assert [video.id for video in documents[0]["videos"]] == [videos[1].id, videos[0].id]
    assert documents[1]["videos"] == []
    assert [found.values() for found in documents[1]["resources"]] == [resource.values()]


def test_attach_media_to_nothing() -> None:
    assert attach_media([], images=ProductImage) == []


def test_attach_media_needs_to_know_what_files_belong_to(owners: Owners) -> None:
    avatar = save_media_storage("user", owners.user, "https://cdn.example/a")
    with pytest.raises(TypeError, match="reference_type"):
        attach_media([{"_id": owners.user}], files=MediaStorage)
    (user,) = attach_media([{"_id": owners.user}], reference_type="user", files=MediaStorage)
    assert [record.id for record in user["files"]] == [avatar.id]


def test_a_page_of_50_products_is_one_query_of_each_database(app: Flask, state: State) -> None:
    state.mongo["products"].insert_many([{"name": f"p{n}"} for n in range(50)])
    for product in state.mongo["products"].find():
        for position in range(2):
            save_product_image(product["_id"], "https://cdn.example/a.jpg", position=position)
    rest(app)
    with count_queries(app) as queries:
        products = attach_media(state.mongo["products"].find().limit(50), images=ProductImage)
    assert [len(product["images"]) for product in products] == [2] * 50
    assert len(queries.sql) == (0 if state.engine is None else 1)
    assert queries.mongo == ["find products"] + ["find product_images"] * (state.engine is None)


def test_a_course_with_all_its_media_is_one_query_of_each_database(make_app: MakeApp) -> None:
    app = make_app("dual")
    with app.app_context():
        state = get_state()
        course = state.mongo["courses"].insert_one({}).inserted_id
        save_course_video(course, "https://cdn.example/v")
        save_course_resource(course, "https://cdn.example/r")
        rest(app)
        with count_queries() as queries:
            attach_media(
                state.mongo["courses"].find(), videos=CourseVideo, resources=CourseResource
            )
    assert (len(queries.sql), queries.mongo) == (1, ["find courses"])


def test_the_sweep_takes_what_a_killed_process_left(state: State, owners: Owners) -> None:
    """One process is killed between record and bytes, and one while it deletes."""
    kept = save_product_image(owners.product, io.BytesIO(png()))
    half = ProductImage.new(
        mongo_product_id="p",
        is_main_image=False,
        position=0,
        storage_type="database",
        storage_key="half",
        state=PENDING,
    )
    state.repository.add(half)
    state.storages["database"].put("half", iter([counting(5_000_000)]))
    deleting = save_product_image(owners.product, io.BytesIO(png()))
    state.repository.update(
        ProductImage, deleting.id, {"state": "deleting"}, where={"state": "available"}
    )
    assert sweeping.sweep(state) == 0, (
        "younger than the grace time: it may be an upload in progress"
    )
    assert sweeping.sweep(state, grace=-1) == 2
    assert [record.id for record in get_product_images(owners.product)] == [kept.id]
    assert state.repository.count(ProductImage) == 1
    assert list(state.storages["database"].keys()) == [kept.storage_key]


def test_an_upload_that_was_swept_meanwhile_is_not_acknowledged(
    state: State, owners: Owners
) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            block = super().read(size)
            if not block:
                sweeping.sweep(state, grace=-1)
            return block

    with pytest.raises(MediaConflict, match="swept"):
        save_media_storage("page", "1", Slow(counting(2_000_000)))
    assert nothing_is_kept(state)


def test_a_replacement_that_takes_too_long_is_refused(make_app: MakeApp, mode: str) -> None:
    """No record names its bytes yet, and after the grace time a check may take them for left
    behind."""
    app = make_app(mode, DUALMEDIA_GRACE=0.2)

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            time.sleep(0.15)
            return super().read(size)

    with app.app_context():
        saved = save_media_storage("page", "1", b"old")
        with pytest.raises(MediaConflict, match="took longer"):
            lifecycle.replace(get_state(), saved, Upload(Slow(counting(2_000_000))))
        assert b"".join(open_media(get_media(MediaStorage, saved.id))) == b"old"
        assert list(get_state().storages["database"].keys()) == [saved.storage_key]


def test_update_media(owners: Owners) -> None:
    saved = save_product_image(owners.product, io.BytesIO(png()))
    changed = update_media(ProductImage, saved.id, alt_text="new", position=3, is_public=True)
    assert (changed.alt_text, changed.position, changed.is_public) == ("new", 3, True)
    assert get_media(ProductImage, saved.id).values() == changed.values()
    with pytest.raises(InvalidMedia):
        update_media(ProductImage, saved.id, mongo_product_id="another")
    with pytest.raises(InvalidMedia):
        update_media(ProductImage, saved.id, image_url="https://cdn.example/a.jpg")


def test_open_media(owners: Owners) -> None:
    content = mp4(600_000)
    saved = save_course_video(owners.course, io.BytesIO(content))
    assert b"".join(open_media(saved)) == content
    assert b"".join(open_media(saved, 10, 300_000)) == content[10:300_000]
    with pytest.raises(ValueError, match="not within"):
        open_media(saved, 0, 600_001)
    with pytest.raises(ValueError, match="external"):
        open_media(save_course_video(owners.course, "https://cdn.example/v"))


def test_the_filename_that_is_given_counts_for_the_type() -> None:
    saved = save_media_storage("page", "home", b"hello", filename="../hello.txt")
    assert (saved.filename, saved.mime_type) == ("hello.txt", "text/plain")
