"""Storages under names of the host's choice: several of one class, and classes of the host's."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from flask_dualmedia import (
    MediaStorage,
    get_media,
    open_media,
    save_course_resource,
    save_media_storage,
)
from flask_dualmedia.models import Media
from flask_dualmedia.signals import media_deleted
from flask_dualmedia.state import get_state
from flask_dualmedia.storages.base import Stat
from flask_dualmedia.testing import check_storage
from flask_dualmedia.upkeep.check import Checker
from flask_dualmedia.upkeep.chores import Verifier, find_damage
from flask_dualmedia.upkeep.journal import drain_journal
from flask_dualmedia.upkeep.sweeping import sweep

from ..conftest import MakeApp, StorageOptions, opened
from ..samples import PDF, Tokens, part, post_form
from ..tools.proxy import Proxy
from ..waiting import eventually
from .shelves import Shelf

PAGE = {"referenceType": "page", "referenceId": "1"}

SHELF = "tests.storages.shelves:Shelf"

NAMES = ["archive", "scans", "own", "imported", "bucket-1", "bucket-2"]


@pytest.fixture(autouse=True)
def _empty_shelves() -> Iterator[None]:
    yield
    Shelf.contents.clear()


@pytest.fixture
def options(tmp_path: Path) -> dict[str, t.Any]:
    """Two folders, and a class of the host's in two ways."""
    return {
        "archive": {"class": "local", "directory": tmp_path / "archive"},
        "scans": {"class": "local", "directory": str(tmp_path / "scans")},
        "own": {"class": Shelf, "label": "own"},
        "imported": {"class": SHELF, "label": "imported", "password": "secret"},
    }


@pytest.fixture
def buckets(storage_options: StorageOptions) -> dict[str, t.Any]:
    return {
        "bucket-1": {"class": "s3", **storage_options("s3")["s3"]},
        "bucket-2": {"class": "s3", **storage_options("s3")["s3"]},
    }


def keys_by_storage(app: Flask) -> dict[str, int]:
    """How many keys each storage has that has any."""
    numbers = {name: len([*storage.keys()]) for name, storage in get_state(app).storages.items()}
    return {name: number for name, number in numbers.items() if number}


def run(app: Flask, *arguments: str, status: int = 0) -> str:
    result = app.test_cli_runner().invoke(args=["dualmedia", *arguments])
    assert result.exit_code == status, result.output
    return result.output


def assert_clean(app: Flask) -> None:
    with app.app_context():
        report = Checker(get_state(app), grace=0, verify_bytes=True).run()
    assert not report.found, report.findings


def test_storages_under_names_keep_the_contract(
    options: dict[str, t.Any], buckets: dict[str, t.Any]
) -> None:
    for storage in opened(options | buckets).values():
        check_storage(storage)
        assert list(storage.keys()) == []
        storage.close()


def test_storages_under_names_serve_their_files(
    make_app: MakeApp, mode: str, options: dict[str, t.Any], buckets: dict[str, t.Any]
) -> None:
    """Whether two of them have the same class or not: each has its files, and no other ones."""
    app = make_app(mode, DUALMEDIA_STORAGES=options | buckets, DUALMEDIA_ALLOWED_STORAGES=NAMES)
    client, tokens = app.test_client(), Tokens.of(app)
    contents = {name: PDF + name.encode() for name in NAMES}
    paths = {}
    for name, content in contents.items():
        form = PAGE | {"storageType": name, "file": part(content, "a.pdf")}
        made = post_form(client, tokens.alice, "/media/files", form)
        assert made.json is not None
        assert (made.status_code, made.json["storageType"]) == (201, name)
        paths[name] = made.location
    assert keys_by_storage(app) == dict.fromkeys(NAMES, 1)

    for name, content in contents.items():
        path = f"{paths[name]}/content"
        assert client.get(path, headers=tokens.alice).data == content
        ranged = client.get(path, headers=tokens.alice | {"Range": "bytes=2-4"})
        assert (ranged.status_code, ranged.data) == (206, content[2:5])
        replaced = client.put(path, data=content * 2, headers=tokens.alice)
        assert replaced.status_code == 200
        assert client.get(path, headers=tokens.alice).data == content * 2
    assert_clean(app)
    listed = run(app, "status")
    assert "storages  database, archive, scans, own, imported, bucket-1, bucket-2" in listed
    assert "DUALMEDIA_STORAGES" not in listed

    for path in paths.values():
        assert client.delete(path, headers=tokens.alice).status_code == 204
    assert keys_by_storage(app) == {}
    assert_clean(app)


def test_bytes_move_between_storages_of_one_class(
    make_app: MakeApp, mode: str, options: dict[str, t.Any]
) -> None:
    app = make_app(mode, DUALMEDIA_STORAGES=options)
    with app.app_context():
        record = save_media_storage("page", "1", PDF, storage_type="archive")
    for source, target in (("archive", "scans"), ("scans", "own"), ("own", "imported")):
        assert "Moved 1 record(s)" in run(app, "move", "--from", source, "--to", target)
        assert keys_by_storage(app) == {target: 1}
    with app.app_context():
        moved = get_media(MediaStorage, record.id)
        assert (moved.storage_type, b"".join(open_media(moved))) == ("imported", PDF)


def test_a_kind_has_a_named_storage_by_default(
    make_app: MakeApp, mode: str, options: dict[str, t.Any]
) -> None:
    app = make_app(
        mode,
        DUALMEDIA_STORAGES=options,
        DUALMEDIA_DEFAULT_STORAGE={"course-resources": "own"},
        DUALMEDIA_REFERENCES={"course": None},
    )
    with app.app_context():
        assert save_course_resource("1", PDF).storage_type == "own"
        assert save_media_storage("page", "1", PDF).storage_type == "database"


def test_storages_that_are_not_set_up_any_more_are_named_with_the_number_of_their_records(
    make_app: MakeApp, mode: str, options: dict[str, t.Any]
) -> None:
    app = make_app(mode, DUALMEDIA_STORAGES=options, DUALMEDIA_REFERENCES={"course": None})
    with app.app_context():
        save_media_storage("page", "1", PDF, storage_type="archive")
        save_course_resource("1", PDF, storage_type="archive")
        save_media_storage("page", "1", PDF, storage_type="scans")
        save_media_storage("page", "1", PDF, storage_type="own")
        save_media_storage("page", "1", PDF)
    without = make_app(mode, DUALMEDIA_STORAGES={"own": options["own"]})
    lines = [
        "2 record(s) in 'archive', which is not in DUALMEDIA_STORAGES",
        "1 record(s) in 'scans', which is not in DUALMEDIA_STORAGES",
    ]
    for output in (run(without, "status"), run(without, "check", status=1)):
        assert [line for line in lines if line in output] == lines
        assert "in 'own'" not in output
        assert "in 'database'" not in output
    with without.app_context():
        report = Checker(get_state(without), grace=0).run()
        assert report.as_json()["unknown_storages"] == {"archive": 2, "scans": 1}
        assert report.found == {"storage_unknown": 3}


def test_media_in_a_named_storage_waits_in_the_journal_and_is_drained(
    make_proxied: MakeApp, proxy: Proxy, options: dict[str, t.Any]
) -> None:
    app = make_proxied(DUALMEDIA_STORAGES=options, DUALMEDIA_AUTO_DRAIN=False)
    with app.app_context():
        proxy.refuse()
        record = save_media_storage("page", "1", PDF, storage_type="archive")
        assert b"".join(open_media(get_media(MediaStorage, record.id))) == PDF
        proxy.let_through()
        eventually(lambda: not app.test_client().get("/media/health").json["degraded"])  # type: ignore[index]
        report = drain_journal(get_state(app))
        assert report is not None
        assert report.moved == 1
        assert b"".join(open_media(get_media(MediaStorage, record.id))) == PDF
    assert_clean(app)


def test_media_in_a_named_storage_changes_the_mode_and_returns(
    make_app: MakeApp, emptied_url: str, options: dict[str, t.Any]
) -> None:
    """The record is moved, and its bytes stay where they are."""
    settings = {
        "SQLALCHEMY_DATABASE_URI": emptied_url,
        "DUALMEDIA_AUTO_UPGRADE": False,
        "DUALMEDIA_STORAGES": options,
    }
    mongo, dual = make_app("mongo", **settings), make_app("dual", **settings)
    with mongo.app_context():
        record = save_media_storage("page", "1", PDF, storage_type="archive")
    for source, direction, target in ((mongo, "sql", dual), (dual, "mongo", mongo)):
        assert "Both hold the same" in run(source, "transfer", "--to", direction)
        with target.app_context():
            assert b"".join(open_media(get_media(MediaStorage, record.id))) == PDF
    assert keys_by_storage(mongo) == {"archive": 1}


def test_an_error_names_the_storage_and_not_its_class(
    make_app: MakeApp, buckets: dict[str, t.Any]
) -> None:
    down = buckets["bucket-2"] | {"endpoint_url": "http://127.0.0.1:1"}
    app = make_app(
        "mongo",
        DUALMEDIA_STORAGES=buckets | {"bucket-2": down},
        DUALMEDIA_ALLOWED_STORAGES=["bucket-2"],
    )
    form = PAGE | {"storageType": "bucket-2", "file": part(PDF, "a.pdf")}
    answer = post_form(app.test_client(), Tokens.of(app).alice, "/media/files", form)
    assert answer.json is not None
    assert (answer.status_code, "'bucket-2'" in answer.json["message"]) == (503, True)


class StuckShelf(Shelf):
    """A class that raises an error of its own, and not one that the contract has."""

    is_stuck = False

    def delete(self, key: str) -> None:
        if self.is_stuck:
            raise OSError("the drawer is stuck")
        super().delete(key)


def test_a_class_that_raises_errors_of_its_own_holds_up_nobody(
    make_app: MakeApp, mode: str, options: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Media is gone when its record says so. Its bytes go when that can be done."""
    stuck = {"stuck": {"class": StuckShelf, "label": "stuck"}}
    app = make_app(mode, DUALMEDIA_STORAGES=options | stuck, DUALMEDIA_REFERENCES={"course": None})
    client, tokens = app.test_client(), Tokens.of(app)
    deletions = []

    def note(_: Flask, record: Media) -> None:
        deletions.append(record.id)

    with app.app_context(), media_deleted.connected_to(note, app):
        replaced = save_media_storage("page", "1", PDF, storage_type="stuck")
        deleted = save_course_resource("1", PDF, storage_type="stuck")
        monkeypatch.setattr(StuckShelf, "is_stuck", True)
        path = f"/media/files/{replaced.id}/content"
        assert client.put(path, data=PDF * 2, headers=tokens.admin).status_code == 200
        path = f"/media/course-resources/{deleted.id}"
        assert client.delete(path, headers=tokens.admin).status_code == 204
        assert client.get(path, headers=tokens.admin).status_code == 404
        assert deletions == [deleted.id]

        unfinished = MediaStorage.new(
            reference_type="page",
            reference_id="1",
            media_type="document",
            storage_type="own",
            storage_key="a key",
        )
        get_state(app).repository.add(unfinished)
        assert sweep(get_state(app), grace=0) == 1

        monkeypatch.setattr(StuckShelf, "is_stuck", False)
        assert sweep(get_state(app), grace=0) == 1
        assert keys_by_storage(app) == {"stuck": 2}  # the content, and what it replaced
        assert b"".join(open_media(get_media(MediaStorage, replaced.id))) == PDF * 2


class TalkativeShelf(Shelf):
    """A class that answers more than it is asked."""

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        return super().stats(sorted(self._contents))


def test_facts_about_other_keys_than_those_in_question_hide_no_damage(make_app: MakeApp) -> None:
    shelf = {"shelf": {"class": TalkativeShelf, "label": "shelf"}}
    app = make_app("mongo", DUALMEDIA_STORAGES=shelf)
    with app.app_context():
        save_media_storage("page", "1", PDF, storage_type="shelf")
        damaged = save_media_storage("page", "1", PDF, storage_type="shelf")
        state = get_state(app)
        state.storages["shelf"].put(str(damaged.storage_key), [PDF[:10]])
        report = Checker(state, grace=0).run()
    assert report.found == {"size_wrong": 1}


class FreeShelf(Shelf):
    is_free_to_read = True


def test_bytes_are_verified_in_the_background_where_reading_is_free(
    make_app: MakeApp, options: dict[str, t.Any]
) -> None:
    """A class of the host's says so; others are not read at the host's expense."""
    free = {"free": {"class": FreeShelf, "label": "free"}}
    app = make_app("mongo", DUALMEDIA_STORAGES=options | free)
    with app.app_context():
        damaged = {
            name: save_media_storage("page", "1", PDF, storage_type=name)
            for name in ("free", "own", "archive")
        }
        for record in damaged.values():
            storage = get_state(app).storages[record.storage_type]
            storage.put(str(record.storage_key), [bytes(len(PDF))])
        for _ in damaged:
            Verifier(get_state(app), pause=lambda seconds: False).go_on(60, keep_going=lambda: True)
        found = {note["id"] for note in find_damage(get_state(app))}
        assert found == {damaged["free"].id, damaged["archive"].id}
