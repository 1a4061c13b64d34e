"""The contract of every storage of bytes."""

from __future__ import annotations

import os
import random
import typing as t
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_dualmedia.databases.sql import SQLDatabase
from flask_dualmedia.errors import (
    BytesNotFound,
    StatementCancelled,
    StorageError,
    StorageUnavailable,
)
from flask_dualmedia.models import MediaChunk
from flask_dualmedia.state import State
from flask_dualmedia.storages import google_drive
from flask_dualmedia.storages.base import Stat, Storage
from flask_dualmedia.storages.chunked import (
    CHUNK_SIZE,
    READ_BATCH,
    WRITE_BATCH,
    BatchedStorage,
    ChunkedStorage,
    split,
)
from flask_dualmedia.storages.database import DELETED_AT_ONCE, DatabaseStorage
from flask_dualmedia.storages.local import LocalStorage
from flask_dualmedia.storages.stored import Stored
from flask_dualmedia.storages.whole import PART_SIZE, BlockReader
from flask_dualmedia.testing import check_storage

from ..conftest import OUTSIDE, MakeApp, StorageOptions, opened
from ..samples import counting
from ..tools.drive import Drive, Server
from .shelves import Shelf

MIB = 1024 * 1024


@pytest.fixture(params=["postgresql", "postgresql-generic", "sqlite", "gridfs", *OUTSIDE, "own"])
def storage(
    request: pytest.FixtureRequest,
    make_app: MakeApp,
    tmp_path: t.Any,
    storage_options: StorageOptions,
) -> Storage:
    """Every storage in turn, and one of a host's class; a test that takes this fixture is part of
    the contract."""
    if request.param in OUTSIDE:
        return opened(storage_options(request.param))[request.param]
    if request.param == "own":
        return Shelf(str(tmp_path))
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'media.db'}"
        app = make_app(SQLALCHEMY_DATABASE_URI=url, DUALMEDIA_AUTO_UPGRADE=True)
    else:
        app = make_app("mongo" if request.param == "gridfs" else "dual")
    state: State = app.extensions["dualmedia"]
    if request.param == "postgresql-generic":
        assert state.engine is not None
        return DatabaseStorage(state.engine)
    return state.storages["database"]


def read(storage: Storage, key: str, start: int, stop: int) -> bytes:
    content = b"".join(storage.open(key, start, stop))
    assert b"".join(storage.send(key, start, stop)) == content
    return content


def stat_of(storage: Storage) -> Stat | None:
    return storage.stats(["key"]).get("key")


@pytest.mark.parametrize(
    "size", [1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, CHUNK_SIZE * WRITE_BATCH + 7]
)
def test_bytes_come_back(storage: Storage, size: int) -> None:
    content = counting(size)
    storage.put("key", iter([content]))
    assert read(storage, "key", 0, size) == content
    stat = stat_of(storage)
    assert stat is not None
    assert stat.size == size


def test_blocks_may_have_any_size(storage: Storage) -> None:
    content, chance = counting(3 * MIB), random.Random(7)

    def blocks() -> Iterator[bytes]:
        start = 0
        while start < len(content):
            stop = start + chance.choice([1, 1000, CHUNK_SIZE, 700_000])
            yield content[start:stop]
            start = stop

    storage.put("key", blocks())
    assert read(storage, "key", 0, len(content)) == content


def test_ranges(storage: Storage) -> None:
    content, chance = counting(3 * MIB + 5), random.Random(11)
    storage.put("key", iter([content]))
    edges = [
        0,
        1,
        CHUNK_SIZE - 1,
        CHUNK_SIZE,
        CHUNK_SIZE + 1,
        CHUNK_SIZE * READ_BATCH,
        len(content) - 1,
        len(content),
    ]
    pairs = [(a, b) for a in edges for b in edges if a < b]
    pairs += [
        t.cast("tuple[int, int]", tuple(sorted(chance.sample(range(len(content)), 2))))
        for _ in range(20)
    ]
    for start, stop in pairs:
        assert read(storage, "key", start, stop) == content[start:stop], (start, stop)


def test_no_byte_is_read_beyond_the_range(storage: Storage) -> None:
    storage.put("key", iter([counting(3 * MIB)]))
    pieces = list(map(len, storage.open("key", CHUNK_SIZE - 2, CHUNK_SIZE + 3)))
    assert pieces == ([2, 3] if isinstance(storage, BatchedStorage) else [5])


def test_an_empty_range_has_no_bytes(storage: Storage) -> None:
    assert read(storage, "key", 5, 5) == b""


@pytest.mark.parametrize("stop", [1, 11])
def test_missing_bytes_are_noticed_before_the_first_piece(storage: Storage, stop: int) -> None:
    if stop == 11:
        storage.put("key", iter([b"0123456789"]))
    for read_it in (storage.open, storage.send):
        with pytest.raises(BytesNotFound):
            read_it("key", 0, stop)


def test_missing_bytes_are_noticed_on_the_way(storage: Storage) -> None:
    size = CHUNK_SIZE * READ_BATCH
    storage.put("key", iter([counting(size)]))
    for read_it in (storage.open, storage.send):
        with pytest.raises(BytesNotFound):
            list(read_it("key", 0, size + 1))


def test_delete(storage: Storage) -> None:
    storage.put("key", iter([counting(CHUNK_SIZE + 1)]))
    storage.put("other", iter([b"stays"]))
    storage.delete("key")
    assert stat_of(storage) is None
    with pytest.raises(BytesNotFound):
        storage.open("key", 0, 1)
    assert read(storage, "other", 0, 5) == b"stays"


def test_delete_of_more_than_a_batch(make_app: MakeApp) -> None:
    state: State = make_app().extensions["dualmedia"]
    storage = t.cast(ChunkedStorage, state.storages["database"])
    rows = [
        {"storage_key": "key", "seq": seq, "data": b"x"} for seq in range(2 * DELETED_AT_ONCE + 1)
    ]
    assert state.engine is not None
    with state.engine.begin() as connection:
        connection.execute(sa.insert(MediaChunk), rows)
    storage.delete("key")
    assert stat_of(storage) is None
    assert list(storage.keys()) == []


def test_a_batch_that_has_to_wait_too_long_is_given_up(make_app: MakeApp) -> None:
    """It is so where bytes go through SQLAlchemy too."""
    engine = make_app().extensions["dualmedia"].engine
    storage = DatabaseStorage(SQLDatabase(engine, 0.3))
    with engine.connect() as other:
        other.exec_driver_sql("LOCK TABLE media_chunks IN EXCLUSIVE MODE")
        with pytest.raises(StatementCancelled):
            storage.put("key", iter([b"bytes"]))
    assert storage.stat("key") is None


def test_delete_of_a_missing_key_is_a_no_op(storage: Storage) -> None:
    storage.delete("never-put")


def test_an_error_of_the_source_passes_and_what_was_kept_can_be_deleted(
    storage: Storage,
) -> None:
    def blocks() -> Iterator[bytes]:
        yield counting(CHUNK_SIZE * WRITE_BATCH)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        storage.put("key", blocks())
    storage.delete("key")
    with pytest.raises(BytesNotFound):
        storage.open("key", 0, 1)


def test_bytes_that_were_put_in_part_are_completed(storage: Storage) -> None:
    """A copy that was killed goes on; one that was only slow does no harm to it."""
    content = counting(2 * CHUNK_SIZE * WRITE_BATCH + 5)

    def blocks() -> Iterator[bytes]:
        yield content[: CHUNK_SIZE * WRITE_BATCH]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        storage.put("key", blocks())
    for _ in range(2):
        storage.put("key", iter([content]))
        stat = stat_of(storage)
        assert stat is not None
        assert (stat.size, stat.complete) == (len(content), True)
        assert read(storage, "key", 0, len(content)) == content


def test_keys_are_sorted_and_can_be_continued(storage: Storage) -> None:
    names = [f"key-{n}" for n in range(5)]
    for name in reversed(names):
        storage.put(name, iter([counting(CHUNK_SIZE + 1)]))
    assert list(storage.keys()) == names
    assert list(storage.keys(after="key-2")) == names[3:]
    assert list(storage.keys(after="key-4")) == []


def test_stats_of_many_keys(storage: Storage) -> None:
    names = [f"key-{n}" for n in range(6)]
    for size, name in enumerate(names, start=1):
        storage.put(name, iter([counting(size)]))
    for asked in (names[1:5], names[::2], [names[0], "key-", names[5], "none"], ["none"], []):
        stats = storage.stats(asked)
        assert {key: stat.size for key, stat in stats.items()} == {
            n: names.index(n) + 1 for n in asked if n in names
        }


def test_what_hosts_try_their_storages_with_finds_nothing_wrong(storage: Storage) -> None:
    storage.put("other", iter([b"stays"]))
    check_storage(storage)
    assert list(storage.keys()) == ["other"]


class KeepsAll(Shelf):
    def delete(self, key: str) -> None:
        """Nothing is deleted."""


class Unsorted(Shelf):
    def keys(self, after: str = "") -> Iterator[str]:
        return iter(sorted(super().keys(after), reverse=True))


class FindsAll(Shelf):
    def open(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        return iter([self._contents.get(key, b"")[start:stop]])

    send = open


class SwallowsErrors(Shelf):
    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        with suppress(OSError):
            super().put(key, blocks)


@pytest.mark.parametrize(
    ("shelf", "rule"),
    [
        (KeepsAll, "delete takes away"),
        (Unsorted, "keys are sorted"),
        (FindsAll, "raise BytesNotFound"),
        (SwallowsErrors, "error of the blocks"),
    ],
)
def test_a_storage_class_that_breaks_the_contract_is_found(
    shelf: type[Shelf], rule: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=rule):
        check_storage(shelf(str(tmp_path)))


@pytest.fixture(params=OUTSIDE)
def outside(request: pytest.FixtureRequest, storage_options: StorageOptions) -> Storage:
    return opened(storage_options(request.param))[request.param]


@pytest.mark.parametrize("size", [PART_SIZE, 2 * PART_SIZE + 1])
def test_files_of_several_parts(outside: Storage, size: int) -> None:
    """Sent in parts, in blocks that do not fit them; in one part to the byte."""
    content = random.Random(size).randbytes(size)
    outside.put("key", iter([content[n : n + 3_000_000] for n in range(0, size, 3_000_000)]))
    assert read(outside, "key", 0, size) == content


def test_nothing_is_seen_of_a_file_before_it_is_whole(outside: Storage) -> None:
    """An upload that ends early leaves nothing, however much of it came."""

    def blocks() -> Iterator[bytes]:
        yield bytes(PART_SIZE + 1)
        assert stat_of(outside) is None
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        outside.put("key", blocks())
    assert stat_of(outside) is None
    assert list(outside.keys()) == []


def test_a_storage_that_does_not_answer_is_unavailable(
    storage_options: StorageOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files are never reported as missing."""
    monkeypatch.setattr(google_drive, "FIRST_DELAY", 0.01)
    nowhere = "http://127.0.0.1:1"
    options = storage_options("s3", endpoint_url=nowhere) | storage_options(
        "google_drive", base_url=nowhere
    )
    for storage in opened(options).values():
        for ask in (
            lambda storage=storage: storage.open("key", 0, 1),
            lambda storage=storage: storage.put("key", iter([b"x"])),
            lambda storage=storage: storage.delete("key"),
            lambda storage=storage: storage.stats(["key"]),
            lambda storage=storage: list(storage.keys()),
        ):
            with pytest.raises(StorageUnavailable):
                ask()


def test_a_storage_is_used_in_forked_processes(outside: Storage) -> None:
    """A server loads the app, uses it, and forks its workers."""
    outside.put("key", iter([b"content"]))
    pid = os.fork()
    if pid == 0:
        try:
            outside.put("other", iter([read(outside, "key", 0, 7)]))
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)
    assert read(outside, "other", 0, 7) == b"content"


STRANGE_KEYS = [
    "..",
    "../x",
    "a/../../x",
    "/etc/passwd",
    "a\0b",
    "a/b",
    "",
    ".",
    "%2e%2e",
    "a" * 256,
    "*",
    "con:",
    "a\nb",
    "a b",
]


@pytest.mark.parametrize("key", STRANGE_KEYS)
def test_no_key_leads_out_of_the_folder(
    storage_options: StorageOptions, tmp_path: Path, key: str
) -> None:
    """The storage stays in its folder whatever a database may be made to say."""
    for storage in opened(storage_options("local") | storage_options("cloud")).values():
        for use in (
            lambda storage=storage: storage.put(key, iter([b"x"])),
            lambda storage=storage: storage.open(key, 0, 1),
            lambda storage=storage: storage.delete(key),
            lambda storage=storage: storage.stats([key]),
        ):
            with pytest.raises(StorageError, match="is no storage key"):
                use()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_bytes_of_a_file_are_one_value(storage_options: StorageOptions) -> None:
    storage = opened(storage_options("local"))["local"]
    stored = Stored(storage, "key", 5)
    assert stored.stat() is None
    assert not stored.is_whole()
    stored.put([b"by", b"tes"])
    assert stored.is_whole()
    assert b"".join(stored.open()) == b"bytes"
    assert b"".join(stored.open(1, 3)) == b"yt"
    assert not Stored(storage, "key", 6).is_whole()
    stored.delete()
    assert stored.stat() is None


def test_no_link_leads_out_of_the_folder(storage_options: StorageOptions, tmp_path: Path) -> None:
    """Not even a link that somebody put there."""
    storage = t.cast(LocalStorage, opened(storage_options("local", x_sendfile=True))["local"])
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "linked").write_bytes(b"secret")
    (secret / "file").write_bytes(b"secret")
    storage.put("folder", iter([b"x"]))
    (tmp_path / "local" / "linked").symlink_to(secret)
    (tmp_path / "local" / "folder" / "folder").unlink()
    (tmp_path / "local" / "folder" / "folder").symlink_to(secret / "file")
    for key in ("linked", "folder"):
        with pytest.raises(StorageError):
            storage.open(key, 0, 6)
        with pytest.raises(StorageError):
            storage.delegate(key, "text/plain", "inline")
    with pytest.raises(StorageError):
        storage.put("linked", iter([b"new"]))
    storage.put("folder", iter([b"new"]))
    assert (secret / "file").read_bytes() == (secret / "linked").read_bytes() == b"secret"
    assert read(storage, "folder", 0, 3) == b"new"


def test_what_a_killed_process_left_of_a_file_is_found_by_its_key(
    storage_options: StorageOptions, tmp_path: Path
) -> None:
    """The leftovers of a killed process are found by the key of the file."""
    storage = opened(storage_options("local"))["local"]
    storage.put("folder-1", iter([b"x"]))
    left = tmp_path / "local" / "folder" / "folder-2.part"
    left.write_bytes(b"half")
    assert list(storage.keys()) == ["folder-1", "folder-2"]
    assert storage.stats(["folder-2"]) == {}
    storage.delete("folder-2")
    assert not left.exists()


@pytest.fixture
def drive(drive_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    monkeypatch.setattr(google_drive, "FIRST_DELAY", 0.01)
    yield drive_server.drive
    drive_server.drive.refusals = ()


PASSING = [
    (403, "rateLimitExceeded"),
    (403, "userRateLimitExceeded"),
    (429, "rateLimitExceeded"),
    (503, "backendError"),
]


@pytest.mark.parametrize("refusal", PASSING)
def test_drive_is_asked_again_later(
    storage_options: StorageOptions, drive: Drive, refusal: tuple[int, str]
) -> None:
    """Drive refuses requests that come too fast, and takes them in the end."""
    storage = opened(storage_options("google_drive"))["google_drive"]
    drive.refusals = [refusal] * (google_drive.ATTEMPTS - 1)
    storage.put("key", iter([b"content"]))
    drive.refusals = [refusal] * (google_drive.ATTEMPTS - 1)
    assert b"".join(storage.open("key", 0, 7)) == b"content"
    drive.refusals = [refusal] * google_drive.ATTEMPTS
    with pytest.raises(StorageUnavailable, match=refusal[1]):
        list(storage.open("key", 0, 7))
    drive.refusals = [refusal] * google_drive.ATTEMPTS
    with pytest.raises(StorageUnavailable, match=refusal[1]):
        storage.delete("key")
    assert [*storage.stats(["key"])] == ["key"]


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ((403, "storageQuotaExceeded"), StorageUnavailable),
        ((403, "dailyLimitExceeded"), StorageUnavailable),
        ((403, "insufficientFilePermissions"), StorageError),
        ((400, "badRequest"), StorageError),
    ],
)
def test_what_drive_refuses_is_an_error_with_its_reason(
    storage_options: StorageOptions,
    drive: Drive,
    refusal: tuple[int, str],
    error: type[StorageError],
) -> None:
    """A refusal at any request of an upload is never a success, and the upload is not sent
    again."""
    storage = opened(storage_options("google_drive"))["google_drive"]
    for request in ("list", "begin", "part", "last part"):
        drive.requests.clear()

        def blocks(request: str = request) -> Iterator[bytes]:
            yield bytes(PART_SIZE - 1)
            if request == "part":
                drive.refusals = [refusal]
            yield bytes(10)
            if request == "last part":
                drive.refusals = [refusal]

        if request in ("list", "begin"):
            drive.refusals = [None] * (request == "begin") + [refusal]
        with pytest.raises(error, match=refusal[1]) as caught:
            storage.put("key", blocks())
        assert type(caught.value) is error
        assert len(drive.requests) == {"list": 1, "begin": 2, "part": 3, "last part": 4}[request]
        assert storage.stats(["key"]) == {}


def test_blocks_as_a_stream() -> None:
    stream = BlockReader(iter([b"abc", b"", b"defg", b"h"]))
    assert stream.read(2) == b"ab"
    assert stream.read(0) == b""
    assert stream.read(4) == b"cdef"
    assert stream.tell() == 6
    assert stream.read(9) == b"gh"
    assert stream.read(1) == b""
    assert BlockReader(iter([b"abc", b"d"])).read() == b"abcd"


def test_split_copies_only_across_borders() -> None:
    pieces = list(split([b"abcdef", b"gh", b"", b"i"], 4))
    assert [bytes(piece) for piece in pieces] == [b"abcd", b"efgh", b"i"]
    assert pieces[0].obj == b"abcdef"


def test_drive_may_take_a_part_of_what_is_sent(
    storage_options: StorageOptions, drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks are read once, so the upload fails; it is not half there."""
    monkeypatch.setattr(drive, "forgets", True)
    storage = opened(storage_options("google_drive"))["google_drive"]
    with pytest.raises(StorageUnavailable, match="only a part"):
        storage.put("key", iter([bytes(PART_SIZE + 1)]))
    assert list(storage.keys()) == []


def test_a_download_goes_on_when_drive_has_hung_up(
    storage_options: StorageOptions, drive: Drive
) -> None:
    """A player was paused, and its connection was forgotten."""
    storage = opened(storage_options("google_drive"))["google_drive"]
    content = random.Random(3).randbytes(3 * MIB + 5)
    storage.put("key", iter([content]))
    drive.hangs_up = True
    drive.requests.clear()
    assert b"".join(storage.open("key", 7, len(content))) == content[7:]
    assert drive.requests == ["GET", "GET"]
