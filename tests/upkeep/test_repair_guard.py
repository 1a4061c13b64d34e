"""``flask dualmedia check --repair`` after a restore or on the wrong database: nothing is deleted
by itself."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_dualmedia import (
    MediaStorage,
    get_media_by_reference,
    get_product_images,
    lifecycle,
    models,
    open_media,
    save_media_storage,
    save_product_image,
)
from flask_dualmedia.authorization import possible_ids
from flask_dualmedia.content.uploads import Upload
from flask_dualmedia.homes.mongo import mongo_home
from flask_dualmedia.homes.sql import sql_home
from flask_dualmedia.models import Media, MediaChunk, new_id
from flask_dualmedia.state import State, get_state
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.storages.chunked import CHUNK_SIZE

from ..conftest import MakeApp
from ..databases.test_schema import BARE_HOST, Directory, tables
from ..samples import counting, png


def repair(app: Flask, *options: str, code: int, typed: str | None = None) -> str:
    """Run the repair as somebody would who did not read the manual; what it said."""
    arguments = ["dualmedia", "check", "--repair", "--grace", "0", *options]
    done = app.test_cli_runner().invoke(args=arguments, input=typed)
    assert done.exit_code == code, done.output
    return done.output


def held(app: Flask) -> dict[str, int]:
    """How many records and bytes there are."""
    state = get_state(app)
    counts = {kind.kind: state.repository.count(kind) for kind in models.KINDS.values()}
    counts |= {name: len([*storage.keys()]) for name, storage in state.storages.items()}
    return {name: count for name, count in counts.items() if count}


def save_images(app: Flask, count: int, **options: t.Any) -> list[Media]:
    """An image for each of so many products, and a product without one."""
    with app.app_context():
        products = get_state(app).mongo["products"]
        products.insert_one({})
        return [
            save_product_image(
                products.insert_one({}).inserted_id, png(comment=bytes([n])), **options
            )
            for n in range(count)
        ]


def add_pages(state: State, count: int) -> None:
    """Media of pages, of which nobody knows a collection."""
    values = {
        "media_type": "image",
        "state": "available",
        "storage_type": "external",
        "url": "https://cdn.example/a",
    }
    records = [
        MediaStorage.new(reference_type="page", reference_id=str(number), **values)
        for number in range(count)
    ]
    state.repository.add_all(records)


def empty_bytes(state: State) -> None:
    """Leave the state after a restore of the records alone."""
    if state.engine is None:
        state.mongo["media.chunks"].delete_many({})
        state.mongo["media.files"].delete_many({})
        return
    with state.engine.begin() as connection:
        connection.execute(sa.delete(MediaChunk))


def cut_bytes(state: State) -> None:
    """Leave the state after a restore that ended in the middle of the chunks."""
    if state.engine is None:
        state.mongo["media.chunks"].delete_many({"n": 0})
        return
    with state.engine.begin() as connection:
        connection.execute(sa.delete(MediaChunk).where(MediaChunk.seq == 0))


def test_records_restored_without_their_bytes_are_not_deleted(app: Flask, state: State) -> None:
    save_images(app, 8)
    empty_bytes(state)
    said = repair(app, code=1)
    assert held(app) == {"product-images": 8}
    assert "8 would be deleted" in said
    assert "bytes_missing     8 of 8 product-images" in said
    assert "Nothing was deleted. If it is right: --force, or --force --expect 8." in said
    assert "8 bytes_missing: the record's bytes are not in the storage, 0 repaired" in said


def test_records_restored_with_a_part_of_their_bytes_are_not_deleted(
    app: Flask, state: State
) -> None:
    with app.app_context():
        for number in range(6):
            save_media_storage("page", str(number), counting(2 * CHUNK_SIZE))
    cut_bytes(state)
    before = held(app)
    assert "bytes_incomplete  6 of 6 files" in repair(app, "--discard-damaged", code=1)
    assert held(app) == before


def test_bytes_restored_without_their_records_are_not_deleted(app: Flask, state: State) -> None:
    for _ in range(8):
        state.storages["database"].put(new_key(new_id()), iter([b"content"]))
    assert "bytes_orphaned    8 of 8 bytes in database" in repair(app, code=1)
    assert held(app) == {"database": 8}


def test_media_of_documents_that_an_older_mongodb_lacks_is_not_deleted(
    app: Flask, state: State
) -> None:
    images = save_images(app, 6)
    owners = [owner for image in images for owner in possible_ids(image.owner_id)]
    state.mongo["products"].delete_many({"_id": {"$in": owners}})
    assert "owner_missing     6 of 6 product-images" in repair(app, code=1)
    assert held(app) == {"product-images": 6, "database": 6}


def test_a_collection_that_is_lost_costs_no_media_however_few_it_had(
    app: Flask, state: State
) -> None:
    """They are less than one percent of their table."""
    add_pages(state, 1_500)
    with app.app_context():
        for _ in range(5):
            user = state.mongo["users"].insert_one({}).inserted_id
            save_media_storage("user", user, "https://cdn.example/b")
    state.mongo["users"].delete_many({})
    state.mongo["users"].insert_one({})
    assert "media of users: 5 of 5" in repair(app, code=1)
    assert held(app) == {"files": 1_505}


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("foreign", [0, 3])
def test_the_wrong_mongodb_costs_no_media(
    make_app: MakeApp, mongo_uri: str, migrated_url: str, count: int, foreign: int
) -> None:
    """Its collections are empty, or those of somebody else."""
    right = make_app(SQLALCHEMY_DATABASE_URI=migrated_url)
    save_images(right, count)
    base, _, name = mongo_uri.partition("?")[0].rpartition("/")
    wrong = make_app(SQLALCHEMY_DATABASE_URI=migrated_url, MONGO_URI=f"{base}/{name}_wrong")
    mongo = get_state(wrong).mongo
    try:
        for _ in range(foreign):
            mongo["products"].insert_one({})
        assert "owner_missing" in repair(wrong, code=1)
    finally:
        mongo.client.drop_database(mongo.name)
    assert held(right) == {"product-images": count, "database": count}


@pytest.mark.parametrize("content", ["nothing", "media of somebody else"])
@pytest.mark.parametrize("count", [1, 4])
def test_the_wrong_folder_costs_no_media_and_no_bytes(
    make_app: MakeApp, tmp_path: Path, count: int, content: str
) -> None:
    """Few of many records have their bytes there."""
    right = make_app("mongo", DUALMEDIA_STORAGES={"local": {"directory": str(tmp_path / "right")}})
    save_images(right, count, storage_type="local")
    save_images(right, 20)
    wrong = make_app("mongo", DUALMEDIA_STORAGES={"local": {"directory": str(tmp_path / "wrong")}})
    storage = get_state(wrong).storages["local"]
    if content == "media of somebody else":
        for _ in range(2):
            storage.put(new_key(new_id()), iter([b"theirs"]))
    before = held(wrong)
    assert f"bytes_missing     {count} of {count + 20} product-images" in repair(wrong, code=1)
    assert held(wrong) == before
    assert held(right) == {"product-images": count + 20, "local": count, "database": 20}


def test_too_much_of_one_thing_keeps_everything(app: Flask, state: State) -> None:
    """The same cause may be behind the others."""
    images = save_images(app, 8)
    with app.app_context():
        stuck = save_media_storage("page", "1", b"content")
        for number in range(20):
            save_media_storage("page", "1", bytes([number]))
    state.repository.update(MediaStorage, stuck.id, {"state": "pending"}, where={})
    for image in images:
        state.storages["database"].delete(str(image.storage_key))
    state.storages["database"].put(new_key(new_id()), iter([b"orphan"]))
    before = held(app)
    said = repair(app, code=1)
    assert held(app) == before
    for line in (
        "8 of 8 product-images",
        "1 of 21 files",
        "1 of 22 bytes in database",
        "10 would be deleted",
    ):
        assert line in said


def test_uploads_that_a_clock_makes_look_abandoned_are_kept(
    app: Flask, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host that checks is two hours ahead of the others. Records are pending, and a replacement
    is under way."""
    [image] = save_images(app, 1)
    for number in range(3):
        pending = MediaStorage.new(
            reference_type="page",
            reference_id=str(number),
            media_type="image",
            storage_type="database",
        )
        state.repository.add(pending)
    content = counting(8 * 1024 * 1024)

    class Upstream(io.BytesIO):
        checked = False

        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 6 * 1024 * 1024 and not self.checked:
                self.checked = True
                with monkeypatch.context() as clock:
                    wrong = time.time() + 7200
                    clock.setattr(time, "time", lambda: wrong)
                    done = app.test_cli_runner().invoke(args=["dualmedia", "check", "--repair"])
                assert done.exit_code == 0, done.output
            return super().read(size)

    upload = Upstream(png() + content)
    with app.app_context():
        lifecycle.replace(state, image, Upload(upload))
        assert upload.checked
        [replaced] = get_product_images(image.owner_id)
        assert b"".join(open_media(replaced)) == png() + content
    assert state.repository.count(MediaStorage) == 3


def test_a_missing_file_among_many_is_repaired_without_being_asked_about(
    app: Flask, state: State
) -> None:
    add_pages(state, 2_000)
    with app.app_context():
        lost, kept = (save_media_storage("page", "1", content) for content in (b"lost", b"kept"))
    state.storages["database"].delete(str(lost.storage_key))
    assert "1 left: no check found them before" in repair(app, code=1)
    said = repair(app, code=0)
    assert "1 bytes_missing: the record's bytes are not in the storage, 1 repaired" in said
    assert "would be deleted" not in said
    with app.app_context():
        found = {record.id for record in get_media_by_reference("page", "1")}
    assert kept.id in found
    assert lost.id not in found
    assert state.repository.count(MediaStorage) == 2_001


@pytest.fixture
def bytes_lost(make_app: MakeApp) -> Flask:
    """An app with eight images without bytes."""
    app = make_app()
    save_images(app, 8)
    empty_bytes(get_state(app))
    return app


def test_force_and_the_right_number_repair(bytes_lost: Flask) -> None:
    repair(bytes_lost, "--force", "--expect", "8", code=0)
    assert held(bytes_lost) == {}


def test_the_number_can_be_typed(bytes_lost: Flask) -> None:
    assert "Type the number that is to be deleted" in repair(
        bytes_lost, "--force", typed="8\n", code=0
    )
    assert held(bytes_lost) == {}


@pytest.mark.parametrize("expected", ["0", "7", "9"])
def test_a_wrong_number_deletes_nothing(bytes_lost: Flask, expected: str) -> None:
    said = repair(bytes_lost, "--force", "--expect", expected, code=1)
    assert "Nothing was deleted" in said
    repair(bytes_lost, "--force", typed=f"{expected}\n", code=1)
    assert held(bytes_lost) == {"product-images": 8}


@pytest.mark.parametrize("typed", ["", "yes\n", "\n"])
def test_no_number_deletes_nothing(bytes_lost: Flask, typed: str) -> None:
    assert "--force --expect 8" in repair(bytes_lost, "--force", typed=typed, code=1)
    assert held(bytes_lost) == {"product-images": 8}


def test_a_number_is_taken_at_its_word_where_little_is_deleted_too(
    app: Flask, state: State
) -> None:
    save_images(app, 5)
    state.storages["database"].delete(next(iter(state.storages["database"].keys())))
    assert "Nothing was deleted" in repair(app, "--force", "--expect", "2", code=1)
    assert held(app)["product-images"] == 5
    repair(app, "--force", "--expect", "1", code=0)
    assert held(app)["product-images"] == 4


def test_options_that_need_each_other(bytes_lost: Flask) -> None:
    for options in (["--force"], ["--force", "--expect", "8"], ["--repair", "--expect", "8"]):
        result = bytes_lost.test_cli_runner().invoke(args=["dualmedia", "check", *options])
        assert result.exit_code == 2
    assert held(bytes_lost) == {"product-images": 8}


def test_a_machine_is_told_what_was_refused(bytes_lost: Flask) -> None:
    arguments = ["dualmedia", "check", "--repair", "--json"]
    done = bytes_lost.test_cli_runner().invoke(args=arguments)
    report = json.loads(done.stdout)
    assert (done.exit_code, report["clean"], report["repaired"]) == (1, False, {})
    assert report["refused"]["deletions"] == 8
    assert {"population": "product-images", "deletions": 8, "of": 8} in report["refused"][
        "excessive"
    ]


def test_nobody_to_type_the_number(
    migrated_url: str, mongo_uri: str, make_app: MakeApp, tmp_path: Path
) -> None:
    """A cron job has a closed standard input."""
    app = make_app(SQLALCHEMY_DATABASE_URI=migrated_url)
    save_images(app, 4)
    empty_bytes(get_state(app))
    host = Directory(tmp_path, BARE_HOST, migrated_url, mongo_uri)
    command = f"exec {sys.executable} -m flask dualmedia check --repair --force <&-"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=tmp_path,
        env=host._environment,
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert "--force --expect 4" in done.stderr
    assert held(app) == {"product-images": 4}


def test_mirroring_a_source_that_lost_its_media_deletes_nothing(
    make_app: MakeApp, migrated_url: str
) -> None:
    """The MongoDB that is transferred is the wrong one."""
    app = make_app("mongo", SQLALCHEMY_DATABASE_URI=migrated_url)
    runner = app.test_cli_runner()
    with app.app_context():
        saved = [save_media_storage("page", "1", bytes([number])) for number in range(6)]
    assert runner.invoke(args=["dualmedia", "transfer", "--to", "sql"]).exit_code == 0
    state = get_state(app)
    for record in saved:
        state.repository.remove(MediaStorage, record.id)
    mirror = ["dualmedia", "transfer", "--to", "sql", "--mirror"]
    refused = runner.invoke(args=mirror)
    assert refused.exit_code == 1
    assert "6 of 6 files" in refused.output
    sql = sql_home(sa.create_engine(migrated_url, poolclass=sa.NullPool))
    assert sql.repository.count(MediaStorage) == 6
    assert runner.invoke(args=[*mirror, "--force", "--expect", "5"]).exit_code == 1
    assert sql.repository.count(MediaStorage) == 6
    assert runner.invoke(args=[*mirror, "--force", "--expect", "6"]).exit_code == 0
    assert sql.repository.count(MediaStorage) == 0


@pytest.mark.parametrize(("mode", "to"), [("dual", "mongo"), ("mongo", "sql")])
def test_the_source_is_not_deleted_while_the_app_runs_on_it(
    make_app: MakeApp, migrated_url: str, mode: str, to: str
) -> None:
    app = make_app(mode, SQLALCHEMY_DATABASE_URI=migrated_url)
    runner = app.test_cli_runner()
    with app.app_context():
        save_media_storage("page", "1", b"content")
    transfer = ["dualmedia", "transfer", "--to", to]
    assert runner.invoke(args=transfer).exit_code == 0
    refused = runner.invoke(args=[*transfer, "--delete-source"])
    assert (refused.exit_code, "The app runs on" in refused.output) == (1, True)
    assert held(app) == {"files": 1, "database": 1}
    for home in (
        sql_home(sa.create_engine(migrated_url, poolclass=sa.NullPool)),
        mongo_home(get_state(app).mongo),
    ):
        assert home.repository.count(MediaStorage) == 1


def test_dropping_the_tables_is_asked_about(make_app: MakeApp, migrated_url: str) -> None:
    app = make_app(SQLALCHEMY_DATABASE_URI=migrated_url, DUALMEDIA_AUTO_UPGRADE=False)
    with app.app_context():
        save_media_storage("page", "1", b"content")
    runner = app.test_cli_runner()
    for typed in (None, "", "yes\n", "\n"):
        refused = runner.invoke(args=["dualmedia", "downgrade", "base"], input=typed)
        assert (refused.exit_code, "SQL holds 1 record(s)" in refused.output) == (1, True)
        assert held(app) == {"files": 1, "database": 1}
    assert runner.invoke(args=["dualmedia", "downgrade", "base"], input="base\n").exit_code == 0
    assert "media_storage" not in tables(migrated_url)
    assert runner.invoke(args=["dualmedia", "upgrade"]).exit_code == 0
    assert runner.invoke(args=["dualmedia", "downgrade", "base", "--yes"]).exit_code == 0
    assert "media_storage" not in tables(migrated_url)
