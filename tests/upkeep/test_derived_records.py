"""Records with bytes that are no kind: they have no URL, no owner of their own and no uploader."""

from __future__ import annotations

import hashlib
import typing as t
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy.orm import Mapped, mapped_column

from flask_dualmedia.homes.base import AnyHome
from flask_dualmedia.libraries.sqlalchemy import make_ready
from flask_dualmedia.models import DELETING, TABLES, Base, MediaRecord
from flask_dualmedia.state import State, get_state
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.upkeep.check import Checker
from flask_dualmedia.upkeep.journal import drain_journal, homes_of
from flask_dualmedia.upkeep.move import move
from flask_dualmedia.upkeep.sweeping import sweep

from ..conftest import MakeApp, StorageOptions
from ..faults.transfer import homes, transfer
from ..samples import counting

CONTENT = counting(300_000)


@pytest.fixture(scope="module")
def thumbnail(worker_postgres: tuple[str, sa.Engine]) -> Iterator[type[MediaRecord]]:
    """A record class that this test adds: bytes that are derived from a record of a kind."""

    class Thumbnail(MediaRecord):
        __tablename__ = "media_thumbnails"
        kind = "thumbnails"
        media_id: Mapped[uuid.UUID] = mapped_column(sa.Uuid)

    make_ready(Base.registry)
    table = t.cast(sa.Table, Thumbnail.__table__)
    table.create(worker_postgres[1])
    TABLES[Thumbnail.kind] = Thumbnail
    yield Thumbnail
    del TABLES[Thumbnail.kind]
    Base.metadata.remove(table)
    table.drop(worker_postgres[1])


@pytest.fixture
def dual(thumbnail: type[MediaRecord], make_app: MakeApp, storage_options: StorageOptions) -> Flask:
    return make_app(DUALMEDIA_AUTO_DRAIN=False, DUALMEDIA_STORAGES=storage_options("local"))


@pytest.fixture(autouse=True)
def context(dual: Flask) -> Iterator[None]:
    with dual.app_context():
        yield


def keep(home: AnyHome, kind: type[MediaRecord], **values: t.Any) -> MediaRecord:
    record = kind.new(
        state="available",
        storage_type="database",
        file_size=len(CONTENT),
        checksum=hashlib.sha256(CONTENT).hexdigest(),
        media_id=uuid.uuid4(),
    )
    vars(record).update({"storage_key": new_key(record.id)} | values)
    home.storage.put(str(record.storage_key), iter([CONTENT]))
    home.repository.add(record)
    return record


def check(state: State, *, repair: bool = False) -> dict[str, int]:
    checker = Checker(state, grace=-1, verify_bytes=True, repair=repair, at_once=True)
    return dict(checker.run().found)


def test_its_bytes_are_no_orphans_and_are_missed(dual: Flask, thumbnail: type[MediaRecord]) -> None:
    state = get_state(dual)
    sql, _ = homes_of(state)
    record = keep(sql, thumbnail)
    assert check(state, repair=True) == {}
    assert list(sql.storage.keys()) == [record.storage_key]

    sql.storage.delete(str(record.storage_key))
    assert check(state) == {"bytes_missing": 1}
    status = dual.test_cli_runner().invoke(args=["dualmedia", "status"])
    assert "1 thumbnails" in status.output


def test_it_is_moved_and_swept(dual: Flask, thumbnail: type[MediaRecord]) -> None:
    state = get_state(dual)
    sql, _ = homes_of(state)
    record = keep(sql, thumbnail)
    assert move(state, "database", "local", TABLES.values()).moved == 1
    moved = sql.repository.get(thumbnail, record.id)
    assert moved is not None
    original = state.original(moved)
    assert original is not None
    assert b"".join(original.open()) == CONTENT

    where = {"state": "available"}
    sql.repository.update(thumbnail, record.id, {"state": DELETING}, where=where)
    assert sweep(state, grace=0) == 1
    assert sql.repository.find(thumbnail, record.id) is None
    assert original.stat() is None


def test_its_storage_is_named_where_it_is_not_set_up(
    dual: Flask, thumbnail: type[MediaRecord]
) -> None:
    sql, _ = homes_of(get_state(dual))
    keep(sql, thumbnail, storage_type="archive")
    for command in ("status", "check"):
        output = dual.test_cli_runner().invoke(args=["dualmedia", command]).output
        assert "1 record(s) in 'archive', which is not in DUALMEDIA_STORAGES" in output


def test_it_is_drained_and_transferred(dual: Flask, thumbnail: type[MediaRecord]) -> None:
    state = get_state(dual)
    _, journal = homes_of(state)
    record = keep(journal, thumbnail)
    drain_journal(state)
    assert journal.is_empty()

    assert "Both hold the same" in transfer(dual, "mongo")
    for home in homes(dual):
        found = home.repository.get(thumbnail, record.id)
        assert found.values() == record.values()
        assert b"".join(home.storage.open(found.storage_key, 0, len(CONTENT))) == CONTENT
