"""Signals: one for each thing that happens to media, whichever way it happens, and no harm from
those who listen."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import typing as t
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from blinker import NamedSignal
from flask import Flask
from flask.testing import FlaskClient

from flask_dualmedia import (
    MediaNotFound,
    MediaStorage,
    ProductImage,
    UnsupportedType,
    delete_media,
    delete_media_of,
    flush_counts,
    get_media,
    open_media,
    save_media_storage,
    save_product_image,
    save_product_images,
    update_media,
)
from flask_dualmedia.accesses.counting import Counter
from flask_dualmedia.models import Media
from flask_dualmedia.signals import media_accessed, media_deleted, media_saved
from flask_dualmedia.state import State, get_state
from flask_dualmedia.upkeep import sweeping

from .conftest import MakeApp, StorageOptions, in_both_modes
from .faults.transfer import transfer
from .samples import Owners, Tokens, Tus, counting, encoded, part, png, post_file, post_form
from .upkeep.test_trash import lose_owner, pass_time, put_into_trash, run, save_images

SMALL = counting(10)
LARGE = counting(3_000_000)

Heard = list[tuple[str, uuid.UUID, t.Any]]
"""Signals as they came: which one, about which record, and what readers saw there at that moment:
the checksum of the bytes, a URL, or nothing."""


@pytest.fixture
def mode() -> str:
    """In Mongo-only mode the same code tells of the same."""
    return "dual"


def read(record: Media) -> str | None:
    """What readers see under the id of a record, if it is the same as the record."""
    try:
        seen = get_media(type(record), record.id)
    except MediaNotFound:
        return None
    assert seen.values() == record.values()
    return seen.external_url or digest(b"".join(open_media(seen)))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def saved(record: Media | uuid.UUID | str, content: bytes | str) -> tuple[str, uuid.UUID, t.Any]:
    media_id = record.id if isinstance(record, Media) else uuid.UUID(str(record))
    return "saved", media_id, content if isinstance(content, str) else digest(content)


def deleted(record: Media | str) -> tuple[str, uuid.UUID, t.Any]:
    media_id = record.id if isinstance(record, Media) else uuid.UUID(record)
    return "deleted", media_id, None


def listen(*apps: Flask) -> tuple[ExitStack, Heard]:
    """Write down what the receivers of these apps hear, as long as the stack is open."""
    heard: Heard = []
    stack = ExitStack()

    def hear_saved(_: Flask, record: Media) -> None:
        heard.append(("saved", record.id, read(record)))

    def hear_deleted(_: Flask, record: Media) -> None:
        heard.append(("deleted", record.id, read(record)))

    for app in apps:
        stack.enter_context(media_saved.connected_to(hear_saved, app))
        stack.enter_context(media_deleted.connected_to(hear_deleted, app))
    return stack, heard


@pytest.fixture
def heard(app: Flask, context: None) -> Iterator[Heard]:
    """What is heard in the test."""
    stack, heard = listen(app)
    with stack:
        yield heard


class Host(t.NamedTuple):
    client: FlaskClient
    owners: Owners
    tokens: Tokens
    state: State

    def put(self, record: Media, content: bytes) -> None:
        path = f"/media/{record.kind}/{record.id}/content"
        answer = self.client.put(path, data=content, headers=self.tokens.admin)
        assert answer.status_code == 200, answer.json


@pytest.fixture
def host(client: FlaskClient, owners: Owners, tokens: Tokens, state: State) -> Host:
    return Host(client, owners, tokens, state)


def save_small(host: Host) -> Heard:
    return [saved(save_media_storage("page", "1", SMALL), SMALL)]


def save_large(host: Host) -> Heard:
    return [saved(save_media_storage("page", "1", LARGE), LARGE)]


def save_url(host: Host) -> Heard:
    url = "https://cdn.example/a"
    return [saved(save_media_storage("page", "1", url), url)]


def save_files(host: Host) -> Heard:
    pictures = [png(comment=b"a"), png(comment=b"b")]
    images = save_product_images(host.owners.product, pictures)
    return [saved(image, picture) for image, picture in zip(images, pictures, strict=True)]


def save_urls(host: Host) -> Heard:
    urls = ["https://cdn.example/a", "https://cdn.example/b"]
    images = save_product_images(host.owners.product, urls)
    return [saved(image, url) for image, url in zip(images, urls, strict=True)]


def post(host: Host) -> Heard:
    answer = post_file(host.client, host.tokens.alice, "files", host.owners, file=part(SMALL))
    assert answer.json is not None
    return [saved(answer.json["id"], SMALL)]


def replace_small(host: Host) -> Heard:
    record = save_media_storage("page", "1", SMALL)
    host.put(record, SMALL * 2)
    return [saved(record, SMALL), saved(record, SMALL * 2)]


def replace_large(host: Host) -> Heard:
    record = save_media_storage("page", "1", SMALL)
    host.put(record, LARGE)
    return [saved(record, SMALL), saved(record, LARGE)]


def upload_in_parts(host: Host) -> Heard:
    tus = Tus(host.client, host.tokens.alice)
    values = {"kind": "files", "referenceType": "page", "referenceId": "1", "filename": "a.bin"}
    begun = tus.create(len(LARGE), LARGE[:1000], Upload_Metadata=encoded(values))
    url = begun.headers["Location"]
    for _ in range(2):  # its answer was lost, so that it is sent again
        tus.patch(url, 1000, LARGE[1000:])
    media_id = tus.head(url).headers["Content-Location"].rpartition("/")[2]
    return [saved(media_id, LARGE)]


def edit(host: Host) -> Heard:
    record = save_media_storage("page", "1", SMALL)
    update_media(MediaStorage, record.id, title="new")
    return [saved(record, SMALL), saved(record, SMALL)]


def push_a_hidden_main_image_aside(host: Host) -> Heard:
    product = host.owners.product
    picture = png(comment=b"hidden")
    hidden = save_product_image(product, picture, is_main_image=True, uploaded_by="alice")
    fields = {"file": part(png()), "mongoProductId": str(product), "isMainImage": "true"}
    answer = post_form(host.client, host.tokens.bob, "/media/product-images", fields)
    assert answer.json is not None
    return [saved(hidden, picture), saved(hidden, picture), saved(answer.json["id"], png())]


def delete(host: Host) -> Heard:
    record = save_media_storage("page", "1", SMALL)
    delete_media(MediaStorage, record.id)
    return [saved(record, SMALL), deleted(record)]


def delete_with_their_document(host: Host) -> Heard:
    records = [save_media_storage("page", "1", SMALL) for _ in range(2)]
    delete_media_of("page", "1")
    return [*(saved(record, SMALL) for record in records), *map(deleted, records)]


def take_back_files_of_a_failed_call(host: Host) -> Heard:
    kept: list[Media] = []

    def keep(_: Flask, record: Media) -> None:
        kept.append(record)

    with media_saved.connected_to(keep, host.state.app), pytest.raises(UnsupportedType):
        save_product_images(host.owners.product, [png(), b"no image"])
    return [saved(kept[0], png()), deleted(kept[0])]


WAYS: list[Callable[[Host], Heard]] = [
    save_small, save_large, save_url, save_files, save_urls, post, replace_small, replace_large,
    upload_in_parts, edit, push_a_hidden_main_image_aside, delete, delete_with_their_document,
    take_back_files_of_a_failed_call,
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_each_change_is_told_once(way: Callable[[Host], Heard], host: Host, heard: Heard) -> None:
    """Receivers find what they are told of: new bytes can be read, deleted media cannot."""
    assert way(host) == heard


def test_the_way_through_the_trash(app: Flask, state: State, heard: Heard) -> None:
    """A repair takes media away, somebody brings it back, a repair takes it away again. Nobody sees
    it any more when the sweep deletes it, and nobody is told then."""
    (image, *_) = save_images(app)
    heard.clear()
    owner = put_into_trash(app, image)
    assert heard == [deleted(image)]

    state.mongo["products"].insert_one(owner)
    run(app, "check", "--restore")
    assert heard == [deleted(image), saved(image, png())]

    put_into_trash(app, image)
    sweeping.sweep(state)
    pass_time(state, state.settings.trash_seconds)
    assert sweeping.sweep(state) == 1
    assert heard == [deleted(image), saved(image, png()), deleted(image)]


def test_a_repair_that_corrects_a_record_is_told(app: Flask, state: State, heard: Heard) -> None:
    (misspelt, wrong) = save_images(app, 2)
    heard.clear()
    spelling = misspelt.mongo_product_id.upper()
    for image, changes in (
        (misspelt, {"mongo_product_id": spelling}),
        (wrong, {"file_size": 1}),
    ):
        state.repository.update(ProductImage, image.id, changes, where={})
    assert "clean" in run(app, "check", "--repair", "--grace", "0")
    assert sorted(heard) == sorted([saved(misspelt, png()), saved(wrong, png())])


def test_bytes_that_move_are_no_news(make_app: MakeApp, storage_options: StorageOptions) -> None:
    app = make_app("mongo", DUALMEDIA_STORAGES=storage_options("local"))
    stack, heard = listen(app)
    with app.app_context(), stack:
        record = save_media_storage("page", "1", SMALL)
        assert "Moved 1" in run(app, "move", "--from", "database", "--to", "local")
        assert heard == [saved(record, SMALL)]


def test_a_transfer_is_no_news(make_app: MakeApp, migrated_url: str) -> None:
    """Nor is what it deletes: its readers have been told where it was deleted, or see it where it
    has gone."""
    mongo, dual = (
        make_app(mode, SQLALCHEMY_DATABASE_URI=migrated_url) for mode in ("mongo", "dual")
    )
    with mongo.app_context():
        save_media_storage("page", "1", SMALL)
        mirrored = save_media_storage("page", "1", SMALL)
    stack, heard = listen(mongo, dual)
    with stack:
        transfer(mongo, "sql")
        with mongo.app_context():
            delete_media(MediaStorage, mirrored.id)
        assert heard == [deleted(mirrored)]
        transfer(mongo, "sql", "--mirror")
        transfer(dual, "sql", "--delete-source", "--yes")
    assert heard == [deleted(mirrored)]


def fail(_: Flask, **values: t.Any) -> None:
    raise ValueError("the first receiver")


def fail_too(_: Flask, **values: t.Any) -> None:
    raise LookupError("the second receiver")


def failing(app: Flask, *signals: NamedSignal) -> ExitStack:
    """Two receivers that fail. Whichever is called first, the other one comes behind it."""
    stack = ExitStack()
    for signal in signals:
        stack.enter_context(signal.connected_to(fail, app))
        stack.enter_context(signal.connected_to(fail_too, app))
    return stack


def assert_told_once(caplog: pytest.LogCaptureFixture, *signals: str) -> None:
    """Each failure is in the log once, with its traceback."""
    told = [record for record in caplog.records if record.exc_info is not None]
    for signal in signals:
        assert len([record for record in told if repr(signal) in record.message]) == 2
    assert len(told) == 2 * len(signals)
    for error in ("ValueError: the first receiver", "LookupError: the second receiver"):
        assert caplog.text.count(error) == len(signals)
    caplog.clear()


@in_both_modes
def test_receivers_that_fail_stop_no_request(
    app: Flask, host: Host, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    alice = host.tokens.alice
    with failing(app, media_saved, media_deleted, media_accessed):
        posted = post_file(host.client, alice, "files", host.owners, file=part(SMALL))
        assert posted.status_code == 201
        assert_told_once(caplog, "media-saved")

        path = posted.headers["Location"]
        assert host.client.post(f"{path}/accesses", headers=alice).status_code == 204
        assert_told_once(caplog, "media-accessed")

        assert host.client.delete(path, headers=alice).status_code == 204
        assert_told_once(caplog, "media-deleted")
    assert [name for name, _, _ in heard] == ["saved", "deleted"]


def test_receivers_that_fail_stop_no_command(
    app: Flask, state: State, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    images = save_images(app)
    with failing(app, media_saved, media_deleted):
        for image in images[:2]:
            lose_owner(state, image)
        run(app, "check", "--grace", "0", code=1)
        assert "2 repaired" in run(app, "check", "--repair", "--grace", "0")
        assert "Restored 2" in run(app, "check", "--restore")
    assert [name for name, _, _ in heard][len(images) :] == ["deleted"] * 2 + ["saved"] * 2
    assert caplog.text.count("ValueError: the first receiver") == 4


def test_receivers_that_fail_lose_no_counts(
    app: Flask, caplog: pytest.LogCaptureFixture, heard: Heard
) -> None:
    records = [save_media_storage("page", "1", SMALL) for _ in range(2)]
    counter = t.cast(Counter, get_state(app).counter)
    for record in records:
        counter.note(MediaStorage, record.id, "reader")
    with failing(app, media_accessed):
        counter.flush()
    assert caplog.text.count("LookupError: the second receiver") == 2
    assert [get_media(MediaStorage, record.id).access_count for record in records] == [1, 1]


def test_a_receiver_may_have_counts_written_down(app: Flask, heard: Heard) -> None:
    """It is called when all that were noted are written down, so that it need not wait for that."""
    records = [save_media_storage("page", "1", SMALL) for _ in range(2)]
    counter = t.cast(Counter, get_state(app).counter)
    for record in records:
        counter.note(MediaStorage, record.id, "reader")
    told = []

    def flush(_: Flask, media_id: uuid.UUID, **values: t.Any) -> None:
        flush_counts()
        told.append(media_id)

    with media_accessed.connected_to(flush, app):
        flushing = threading.Thread(target=counter.flush, daemon=True)
        flushing.start()
        flushing.join(20)
        assert not flushing.is_alive()
    assert sorted(told) == sorted(record.id for record in records)


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt])
def test_a_receiver_may_end_the_process(app: Flask, heard: Heard, end: type[BaseException]) -> None:
    def leave(_: Flask, record: Media) -> None:
        raise end

    with media_saved.connected_to(leave, app), pytest.raises(end):
        save_media_storage("page", "1", SMALL)


def test_a_receiver_may_be_a_coroutine(
    app: Flask,
    context: None,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the app can call one, as with ``flask[async]``. Otherwise it fails like any other."""
    heard: list[uuid.UUID] = []

    async def hear(_: Flask, record: Media) -> None:
        heard.append(record.id)

    with media_saved.connected_to(hear, app):
        save_media_storage("page", "1", SMALL)
        assert "async" in caplog.text

        def call(function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
            return lambda *args, **values: asyncio.run(function(*args, **values))

        monkeypatch.setattr(app, "async_to_sync", call)
        record = save_media_storage("page", "1", SMALL)
    assert heard == [record.id]


def test_a_muted_signal_is_not_heard(heard: Heard) -> None:
    with media_saved.muted():
        save_media_storage("page", "1", SMALL)
    assert heard == []
