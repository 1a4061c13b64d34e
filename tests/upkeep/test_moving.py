"""``flask dualmedia move``: bytes change their storage, and nothing else changes."""

from __future__ import annotations

import io
import typing as t
from itertools import pairwise

import pytest
from flask import Flask

from flask_dualmedia import (
    MediaStorage,
    delete_media,
    failpoints,
    get_media,
    lifecycle,
    open_media,
    save_course_video,
    save_media_storage,
)
from flask_dualmedia.content.uploads import Upload
from flask_dualmedia.models import KINDS
from flask_dualmedia.state import get_state
from flask_dualmedia.upkeep.check import Checker
from flask_dualmedia.upkeep.move import move

from ..conftest import OUTSIDE, MakeApp, StorageOptions
from ..samples import counting, mp4

CONTENT = counting(3 * 1024 * 1024 + 5)


@pytest.fixture
def app(make_app: MakeApp, storage_options: StorageOptions) -> Flask:
    options = {name: given for each in OUTSIDE for name, given in storage_options(each).items()}
    return make_app(DUALMEDIA_STORAGES=options, DUALMEDIA_REFERENCES={"course": None})


def run(app: Flask, *args: str) -> t.Any:
    return app.test_cli_runner().invoke(args=["dualmedia", "move", *args])


def everywhere(app: Flask) -> dict[str, list[str]]:
    return {name: [*storage.keys()] for name, storage in get_state(app).storages.items()}


def test_bytes_go_round_all_storages(app: Flask) -> None:
    with app.app_context():
        record = save_media_storage("page", "1", CONTENT, filename="a.bin")
        save_media_storage("page", "1", "https://cdn.example/a")
        for source, target in pairwise(["database", *OUTSIDE, "database"]):
            done = run(app, "--from", source, "--to", target)
            assert done.exit_code == 0, done.output
            assert f"Moved 1 record(s), 3.0 MiB, from {source} to {target}." in done.output
            moved = get_media(MediaStorage, record.id)
            assert moved.storage_key != record.storage_key
            same = record.values() | {
                name: getattr(moved, name) for name in ("storage_key", "updated_at", "version")
            }
            assert moved.values() == same | {"storage_type": target}
            assert b"".join(open_media(moved)) == CONTENT
            assert everywhere(app) == {name: [] for name in everywhere(app)} | {
                target: [moved.storage_key]
            }
            again = run(app, "--from", source, "--to", target)
            assert "Moved 0 record(s)" in again.output
        assert Checker(get_state(app), grace=-1, verify_bytes=True).run().found == {}


def test_of_one_kind_and_only_shown(app: Flask) -> None:
    with app.app_context():
        save_media_storage("page", "1", CONTENT)
        save_course_video("1", io.BytesIO(mp4()))
    before = everywhere(app)
    shown = run(app, "--from", "database", "--to", "local", "--dry-run")
    assert (shown.exit_code, shown.output) == (0, "2 record(s), 3.0 MiB, would be moved.\n")
    assert everywhere(app) == before
    assert run(app, "--from", "database", "--to", "local", "--kind", "course-videos").exit_code == 0
    assert {name: len(keys) for name, keys in everywhere(app).items() if keys} == {
        "database": 1,
        "local": 1,
    }


def test_storages_that_cannot_be_moved_to(make_app: MakeApp) -> None:
    app = make_app("mongo")
    for target, message in (
        ("s3", "s3 is not in DUALMEDIA_STORAGES"),
        ("external", "external is not in DUALMEDIA_STORAGES"),
        ("database", "That is where they are"),
    ):
        refused = run(app, "--from", "database", "--to", target)
        assert (refused.exit_code, message in refused.output) == (1, True)


def test_damaged_bytes_stay_where_they_are(app: Flask) -> None:
    """Whoever has a backup of them knows where they belong; the others are not kept waiting."""
    with app.app_context():
        damaged, missing, good = (
            save_media_storage("page", "1", CONTENT, storage_type="local") for _ in range(3)
        )
        local = get_state(app).storages["local"]
        local.put(str(damaged.storage_key), iter([bytes(len(CONTENT))]))
        local.delete(str(missing.storage_key))
        done = run(app, "--from", "local", "--to", "s3")
        assert done.exit_code == 1
        assert "Moved 1 record(s)" in done.output
        assert f"{damaged!r} stays in local: its bytes are not those of the checksum" in done.output
        assert f"{missing!r} stays in local: bytes are missing" in done.output
        assert get_media(MediaStorage, good.id).storage_type == "s3"
        for record in (damaged, missing):
            assert get_media(MediaStorage, record.id).values() == record.values()
    assert len(everywhere(app)["s3"]) == 1


@pytest.mark.parametrize("what", ["replaced", "deleted"])
def test_what_changes_while_it_is_copied_is_not_moved(app: Flask, what: str) -> None:
    """The change wins, and no bytes are left over."""
    with app.app_context():
        state = get_state(app)
        record = save_media_storage("page", "1", CONTENT)

        def change() -> None:
            if what == "deleted":
                delete_media(MediaStorage, record.id)
            else:
                lifecycle.replace(state, record, Upload(io.BytesIO(b"new")))

        with failpoints.on("move:copied", change):
            report = move(state, "database", "s3", KINDS.values())
        assert (report.moved, report.failed) == (0, [])
        assert everywhere(app)["s3"] == []
        if what == "replaced":
            assert b"".join(open_media(get_media(MediaStorage, record.id))) == b"new"
        assert len(everywhere(app)["database"]) == (1 if what == "replaced" else 0)


def test_a_storage_that_goes_down_is_no_outage_of_sql(
    make_app: MakeApp, storage_options: StorageOptions
) -> None:
    """Not even if SQL is to take the bytes."""
    options = storage_options("s3")
    app = make_app(DUALMEDIA_STORAGES=options)
    with app.app_context():
        record = save_media_storage("page", "1", CONTENT, storage_type="s3")
    url, down = (
        app.config["SQLALCHEMY_DATABASE_URI"],
        {"s3": options["s3"] | {"endpoint_url": "http://127.0.0.1:1"}},
    )
    broken = make_app(SQLALCHEMY_DATABASE_URI=url, DUALMEDIA_STORAGES=down)
    refused = run(broken, "--from", "s3", "--to", "database")
    assert refused.exit_code == 1
    assert "the storage 's3' does not answer; nothing is lost" in refused.output
    circuit = get_state(broken).circuit
    assert circuit is not None
    assert not circuit.is_open
    with app.app_context():
        assert b"".join(open_media(record)) == CONTENT
    assert everywhere(app) == {"database": [], "s3": [record.storage_key]}
