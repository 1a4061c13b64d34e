"""Two versions side by side: what workers of the earlier one have written, and go on writing, is
read and respected."""

from __future__ import annotations

import io
import typing as t
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_dualmedia import (
    CourseVideo,
    MediaStorage,
    delete_media,
    failpoints,
    get_media,
    get_media_by_reference,
    get_media_stats,
    lifecycle,
    open_media,
    save_media_storage,
    update_media,
    update_media_access_count,
)
from flask_dualmedia.accesses.counting import COLLECTION as PLAYS
from flask_dualmedia.content.uploads import Upload
from flask_dualmedia.databases import schema
from flask_dualmedia.databases.leases import COLLECTION as LEASES
from flask_dualmedia.errors import MediaConflict, MediaNotFound
from flask_dualmedia.models import KINDS, new_id
from flask_dualmedia.state import get_state
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.upkeep import move
from flask_dualmedia.upkeep.check import Checker
from flask_dualmedia.upkeep.check.checker import COLLECTION as CHECKS
from flask_dualmedia.upkeep.journal import drain_journal, homes_of, look_after_journal
from flask_dualmedia.uploads.staging import COLLECTION as UPLOADS

from .. import old_version
from ..conftest import MakeApp, StorageOptions
from ..old_version import CONTENT, OldWorker
from ..samples import bearer

LARGE = bytes(range(256)) * 8192
"""It goes into a database by several statements."""


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(DUALMEDIA_AUTO_DRAIN=False)


@pytest.fixture
def worker(emptied_url: str) -> Iterator[OldWorker]:
    worker = OldWorker(emptied_url)
    yield worker
    worker.close()


def content_of(media_id: uuid.UUID) -> bytes:
    return b"".join(open_media(get_media(MediaStorage, media_id)))


def assert_nothing_is_wrong(app: Flask) -> None:
    with app.app_context():
        report = Checker(get_state(app), grace=0, verify_bytes=True).run()
    assert not report.found, report.findings


def use_like_any_other(app: Flask, media_id: uuid.UUID) -> None:
    """Do everything with a file that can be done with one."""
    with app.app_context():
        assert content_of(media_id) == CONTENT
        assert [record.id for record in get_media_by_reference("page", "1")] == [media_id]
        update_media_access_count(MediaStorage, media_id)
        assert update_media(MediaStorage, media_id, title="new").title == "new"
        assert get_media_stats("page", "1").media == 1
    answer = app.test_client().put(
        f"/media/files/{media_id}/content", data=LARGE, headers=bearer(app, "alice")
    )
    assert answer.status_code == 200
    with app.app_context():
        record = get_media(MediaStorage, media_id)
        assert (record.title, record.access_count, record.version) == ("new", 1, 3)
        assert content_of(media_id) == LARGE
        delete_media(MediaStorage, media_id)
        with pytest.raises(MediaNotFound):
            get_media(MediaStorage, media_id)
        if get_state(app).mode == "dual":
            drain_journal(get_state(app))
    assert_nothing_is_wrong(app)


def test_a_row_of_an_earlier_version_is_used_like_any_other(app: Flask, worker: OldWorker) -> None:
    use_like_any_other(app, worker.insert()["id"])


def keep_document(app: Flask, **changed: t.Any) -> uuid.UUID:
    """Keep a file as the earlier version did where MongoDB has all, or what waits in the
    journal."""
    state = get_state(app)
    home = state.homes[-1]
    document = old_version.document(**changed)
    if document["storage_key"] is not None:
        upload = Upload(io.BytesIO(CONTENT))
        upload.open()
        home.storage.put(document["storage_key"], upload.blocks())
    t.cast("t.Any", home.repository)._collection(MediaStorage).insert_one(document)
    if state.circuit is not None:
        state.circuit.expect_journal()
    return document["_id"]


@pytest.mark.parametrize("mode", ["dual", "mongo"])
def test_a_document_of_an_earlier_version_is_used_like_any_other(
    make_app: MakeApp, mode: str
) -> None:
    app = make_app(mode, DUALMEDIA_AUTO_DRAIN=False)
    use_like_any_other(app, keep_document(app))


@pytest.mark.parametrize("mark", [{}, {"claimed": True}], ids=["waiting", "claimed"])
def test_a_journal_of_an_earlier_version_is_drained(app: Flask, mark: dict[str, t.Any]) -> None:
    """The worker of the earlier version may have been killed while it moved a record."""
    media_id = keep_document(app, **mark)
    with app.app_context():
        report = drain_journal(get_state(app))
        assert report is not None
        assert report.moved == 1
        assert content_of(media_id) == CONTENT
        assert update_media(MediaStorage, media_id, title="new").version == 2
    assert_nothing_is_wrong(app)


def test_what_a_killed_worker_of_an_earlier_version_has_claimed_can_be_changed_again(
    app: Flask,
) -> None:
    media_id = keep_document(app, claimed=True)
    state = get_state(app)
    with app.app_context():
        assert look_after_journal(state)
        assert update_media(MediaStorage, media_id, title="new").title == "new"


def test_the_note_of_a_doubtful_insertion_by_an_earlier_version_keeps_that_away(
    app: Flask, worker: OldWorker
) -> None:
    """Its insertion comes when the note is settled already."""
    media_id = keep_document(app, state="deleting", storage_key=None)
    with app.app_context():
        drain_journal(get_state(app))
        assert homes_of(get_state(app))[1].repository.is_empty()
    with pytest.raises(Exception, match="duplicate key"):
        worker.insert(id=media_id)
    with app.app_context():
        assert get_media_by_reference("page", "1") == []


def test_edits_of_both_versions_are_kept(app: Flask, worker: OldWorker) -> None:
    media_id = worker.insert()["id"]
    with app.app_context():
        record = get_media(MediaStorage, media_id)
        assert worker.edit(media_id, "by the old worker")
        lifecycle.edit(get_state(app), record, {"filename": "by the new worker.txt"})
        update_media(MediaStorage, media_id, is_public=True)
        assert worker.edit(media_id, "by the old worker again")
        found = get_media(MediaStorage, media_id)
    assert (found.title, found.filename) == ("by the old worker again", "by the new worker.txt")
    assert found.is_public


class Interrupted(io.BytesIO):
    """Bytes in whose middle something happens."""

    def __init__(self, content: bytes, action: t.Callable[[], object]) -> None:
        super().__init__(content)
        self._action: t.Callable[[], object] | None = action

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() and self._action is not None:
            action, self._action = self._action, None
            action()
        return super().read(size)


def test_content_that_a_worker_of_an_earlier_version_replaces_meanwhile_is_not_undone(
    app: Flask, worker: OldWorker
) -> None:
    """The later of two replacements is refused, as among workers of one version; no bytes are left
    without a record."""
    fields = worker.insert()
    with app.app_context():
        record = get_media(MediaStorage, fields["id"])
        body = Interrupted(
            LARGE, lambda: worker.replace(record.id, fields["storage_key"], b"by the old worker")
        )
        with pytest.raises(MediaConflict):
            lifecycle.replace(get_state(app), record, Upload(body))
        assert content_of(record.id) == b"by the old worker"
    assert_nothing_is_wrong(app)


def test_a_move_does_not_undo_what_a_worker_of_an_earlier_version_replaces_meanwhile(
    make_app: MakeApp,
    worker: OldWorker,
    storage_options: StorageOptions,
) -> None:
    app = make_app(DUALMEDIA_STORAGES=storage_options("local"))
    fields = worker.insert()

    def replace() -> None:
        assert worker.replace(fields["id"], fields["storage_key"], b"by the old worker")

    with app.app_context(), failpoints.on("move:copied", replace):
        move.move(get_state(app), "database", "local", [MediaStorage])
        assert content_of(fields["id"]) == b"by the old worker"
    assert_nothing_is_wrong(app)


def test_an_earlier_version_changes_and_deletes_what_the_new_one_made(
    app: Flask, worker: OldWorker
) -> None:
    with app.app_context():
        record = save_media_storage("page", "1", CONTENT)
        other = save_media_storage("page", "2", CONTENT)
        update_media(MediaStorage, record.id, title="new")
        assert worker.edit(record.id, "by the old worker")
        key = worker.replace(record.id, t.cast(str, record.storage_key), b"by the old worker")
        assert key is not None
        assert content_of(record.id) == b"by the old worker"
        assert worker.delete(record.id, key)
        assert get_media_by_reference("page", "1") == []
        assert content_of(other.id) == CONTENT
    assert_nothing_is_wrong(app)


def test_an_earlier_version_sweeps_what_is_left_of_a_deleted_record(
    app: Flask, worker: OldWorker
) -> None:
    with app.app_context():
        record = save_media_storage("page", "1", CONTENT)
        kept = save_media_storage("page", "2", CONTENT)
        delete_media(MediaStorage, record.id)
        assert not worker.edit(record.id, "too late")
        assert worker.sweep() == 1
        assert get_media_by_reference("page", "1") == []
        assert content_of(kept.id) == CONTENT
    assert_nothing_is_wrong(app)


def test_media_of_an_earlier_version_moves_between_the_modes_and_back(
    make_app: MakeApp, worker: OldWorker, emptied_url: str
) -> None:
    options = {"SQLALCHEMY_DATABASE_URI": emptied_url, "DUALMEDIA_AUTO_UPGRADE": False}
    mongo, dual = make_app("mongo", **options), make_app("dual", **options)
    media_id = keep_document(mongo)
    assert transferred(mongo, "sql")
    with dual.app_context():
        assert content_of(media_id) == CONTENT
    assert worker.edit(media_id, "by the old worker")
    later = worker.insert(reference_id="2")["id"]
    assert transferred(dual, "mongo")
    with mongo.app_context():
        assert get_media(MediaStorage, media_id).title == "by the old worker"
        assert content_of(later) == CONTENT


def transferred(app: Flask, to: str) -> bool:
    result = app.test_cli_runner().invoke(args=["dualmedia", "transfer", "--to", to])
    assert result.exit_code == 0, result.output
    return "Both hold the same" in result.output


def test_a_field_that_a_document_lacks_has_a_value_that_its_column_takes(tmp_path: Path) -> None:
    """A column that was added later is marked as such: older documents are ours without it. If it
    may not be empty, it says what is in the records that there are."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'media.db'}", poolclass=sa.NullPool)
    schema.upgrade(engine, "0001")
    for kind in KINDS.values():
        first_columns = sa.inspect(engine).get_columns(kind.__tablename__)
        since = set(kind.field_names()) - {column["name"] for column in first_columns}
        assert since == kind.added_fields().keys()
        for name in since:
            column = kind.__table__.columns[name]
            assert column.nullable or (
                column.server_default is not None and kind.added_fields()[name] is not None
            )


OLD_UPLOAD = (
    "_id",
    "identity",
    "expires_at",
    "length",
    "kind",
    "values",
    "filename",
    "offset",
    "parts",
    "lock",
)
"""Fields of an upload without those that have a default."""


@pytest.mark.parametrize("mode", ["dual", "mongo"])
@pytest.mark.parametrize("fields", [OLD_UPLOAD, None], ids=["fewer-fields", "more-fields"])
def test_a_resumable_upload_that_another_version_began_is_finished(
    make_app: MakeApp, mode: str, fields: tuple[str, ...] | None
) -> None:
    """An earlier one knew fewer fields, and a later one knows more."""
    app = make_app(mode)
    state = get_state(app)
    upload_id = new_id()
    first, second = CONTENT[:10], CONTENT[10:]
    key = new_key(upload_id)
    state.staging.storage.put(key, iter([first]))
    document = {
        "_id": upload_id,
        "identity": "alice",
        "expires_at": old_version.now() + timedelta(hours=1),
        "length": len(CONTENT),
        "kind": "files",
        "values": {"reference_type": "page", "reference_id": "1"},
        "filename": "a.txt",
        "mime_type": "text/plain",
        "metadata": None,
        "concat": None,
        "joined": [],
        "offset": len(first),
        "attempted": False,
        "finished": False,
        "parts": [{"key": key, "size": len(first)}],
        "lock": None,
    }
    if fields is None:
        document |= {"of_later": 1, "parts": [{"key": key, "size": len(first), "of_later": 1}]}
    else:
        document = {name: document[name] for name in fields}
    state.mongo[UPLOADS].insert_one(document)
    client, path = app.test_client(), f"/media/uploads/{upload_id}"
    headers = bearer(app, "alice") | {"Tus-Resumable": "1.0.0"}
    assert client.head(path, headers=headers).headers["Upload-Offset"] == str(len(first))
    more = {"Upload-Offset": str(len(first)), "Content-Type": "application/offset+octet-stream"}
    assert client.patch(path, data=second, headers=headers | more).status_code == 204
    with app.app_context():
        assert content_of(upload_id) == CONTENT
    assert_nothing_is_wrong(app)


def test_a_lease_of_an_earlier_version_is_respected_until_it_expires(app: Flask) -> None:
    state = get_state(app)
    media_id = keep_document(app)
    lease = {
        "_id": "drain",
        "holder": "old-host-1-00000000",
        "expires": old_version.now() + timedelta(seconds=15),
    }
    state.mongo[LEASES].insert_one(lease)
    with app.app_context():
        assert drain_journal(state) is None
        expired = {"expires": old_version.now() - timedelta(seconds=120)}
        state.mongo[LEASES].update_one({"_id": "drain"}, {"$set": expired})
        assert drain_journal(state) is not None
        assert content_of(media_id) == CONTENT


def test_what_an_earlier_version_noted_of_reads_and_checks_is_understood(
    app: Flask, worker: OldWorker
) -> None:
    state = get_state(app)
    media_id = worker.insert(is_public=True)["id"]
    play = {
        "_id": f"{media_id.hex}:reader",
        "batch": "b",
        "expires": old_version.now() + timedelta(hours=1),
    }
    state.mongo[PLAYS].insert_one(play)
    state.mongo[CHECKS].insert_one(
        {"_id": "last", "at": old_version.now(), "records": 1, "findings": {}}
    )
    state.mongo[CHECKS].insert_one(
        {"_id": "progress", "verified": {CourseVideo.kind: str(uuid.UUID(int=1))}}
    )
    assert app.test_client().get(f"/media/files/{media_id}/content").data == CONTENT
    assert state.counter is not None
    state.counter.flush()
    with app.app_context():
        assert get_media(MediaStorage, media_id).access_count == 1
    health = app.test_client().get("/media/health", headers=bearer(app, "root", role="admin"))
    assert health.json is not None
    assert health.json["lastCheck"]["records"] == 1
    assert app.test_cli_runner().invoke(args=["dualmedia", "status"]).exit_code == 0
    assert_nothing_is_wrong(app)
