"""``flask dualmedia transfer`` between the modes, and what may happen to the media meanwhile."""

from __future__ import annotations

import io
import typing as t

import pytest
from flask import Flask

from flask_dualmedia import (
    MediaStorage,
    delete_media,
    get_media,
    lifecycle,
    save_media_storage,
    update_media,
    update_media_access_count,
)
from flask_dualmedia.content.uploads import Upload
from flask_dualmedia.databases.leases import Lease
from flask_dualmedia.state import get_state
from flask_dualmedia.upkeep.journal import drain_journal, homes_of
from flask_dualmedia.upkeep.transfer import drain, records_of

from ..conftest import MakeApp
from ..faults.transfer import homes, kill_and_go_on, seen, transfer
from ..samples import counting


class Both(t.NamedTuple):
    """The same databases in either mode."""

    mongo: Flask
    dual: Flask


@pytest.fixture
def both(make_app: MakeApp, migrated_url: str) -> Both:
    return Both(
        *(make_app(mode, SQLALCHEMY_DATABASE_URI=migrated_url) for mode in ("mongo", "dual"))
    )


@pytest.mark.parametrize("to", ["sql", "mongo"])
def test_what_changes_during_a_transfer_is_brought_over_by_the_next(both: Both, to: str) -> None:
    """The next transfer brings over replaced content, edited fields and counted accesses; deletions
    only if it is told to."""
    source, target = both if to == "sql" else reversed(both)
    with source.app_context():
        replaced, edited, counted, deleted, external = (
            save_media_storage(
                "page", "1", "https://cdn.example/a" if n == 4 else counting(300_000 + n)
            ).id
            for n in range(5)
        )
    assert "Both hold the same" in transfer(source, to)
    with source.app_context():
        lifecycle.replace(
            get_state(), get_media(MediaStorage, replaced), Upload(io.BytesIO(counting(700_000)))
        )
        update_media(MediaStorage, edited, title="new")
        update_media_access_count(MediaStorage, counted)
        delete_media(MediaStorage, deleted)
        update_media(MediaStorage, external, url="https://cdn.example/b")
    assert "1 record(s) are in" in transfer(source, to, code=1)
    assert "Both hold the same" in transfer(source, to, "--mirror")
    assert seen(target) == seen(source)
    for home in homes(both.dual):
        records = list(records_of(home.repository, MediaStorage))
        assert home.repository.count(MediaStorage) == 4
        assert set(home.storage.keys()) == {record.storage_key for record in records} - {None}


def test_mirroring_spares_the_side_that_the_app_runs_on(both: Both) -> None:
    with both.dual.app_context():
        save_media_storage("page", "1", counting(10))
    assert "The app runs on sql" in transfer(both.dual, "sql", "--mirror", code=1)
    assert len(seen(both.dual)) == 1


def test_accesses_counted_on_either_side_are_not_taken_back(both: Both) -> None:
    with both.mongo.app_context():
        media_id = save_media_storage("page", "1", counting(10)).id
        update_media_access_count(MediaStorage, media_id)
    transfer(both.mongo, "sql")
    with both.dual.app_context():
        update_media_access_count(MediaStorage, media_id)
    transfer(both.mongo, "sql")
    with both.dual.app_context():
        assert get_media(MediaStorage, media_id).access_count == 2


def test_a_drain_that_slept_through_its_lease_harms_nothing(both: Both) -> None:
    """When the sleeper goes on, another process has moved the record, and its bytes are whole."""
    state = get_state(both.dual)
    sql, journal = homes_of(state)
    content = counting(3_000_000)
    media = MediaStorage.new(
        reference_type="page", reference_id="1", media_type="document",
        state="available", storage_type="database",
        storage_key=None, file_size=len(content), mime_type="application/octet-stream",
    )  # fmt: skip
    upload = Upload(io.BytesIO(content))
    upload.open()
    key = f"{media.id.hex}-0"
    journal.storage.put(key, upload.blocks())
    vars(media).update(storage_key=key, checksum=upload.checksum)
    journal.repository.add(media)
    others: list[t.Any] = []

    class Sleeper(Lease):
        def take(self) -> bool:
            if (
                super().take() and not others and sql.storage.stat(key)
            ):  # in the middle of the bytes
                self.give_back()
                others.append(drain(journal, sql, Lease(state.mongo, "drain")))
            return True

    report = drain(journal, sql, Sleeper(state.mongo, "drain"))
    assert report is not None
    assert others[0].moved == 1
    assert report.moved == 0
    assert [found for _, found in seen(both.dual).values()] == [content]
    assert list(journal.storage.keys()) == []


def test_bytes_that_went_to_the_journal_while_their_record_is_in_sql(both: Both) -> None:
    """SQL was away for a moment in the middle of an upload. The bytes are read where they are, and
    moved."""
    state = get_state(both.dual)
    sql, journal = homes_of(state)
    content = counting(600_000)
    with both.dual.app_context():
        saved = save_media_storage("page", "1", content)
    key = str(saved.storage_key)
    journal.storage.put(key, [content])
    sql.storage.delete(key)
    assert [found for _, found in seen(both.dual).values()] == [content]
    drain_journal(state)
    assert list(journal.storage.keys()) == []
    assert b"".join(sql.storage.open(key, 0, len(content))) == content


@pytest.mark.long
def test_a_transfer_that_is_killed_five_times_on_the_way(
    both: Both, mongo_uri: str, migrated_url: str
) -> None:
    """``python -m tests.faults.transfer`` does the same with 1,000 records."""
    kill_and_go_on(*both, mongo_uri, migrated_url, count=35, mean_size=200_000, kills=(3, 2))
