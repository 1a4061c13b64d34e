"""The contract of every storage of bytes."""

from __future__ import annotations

import random
import typing as t
from collections.abc import Iterator

import pytest

from flask_dualmedia.errors import BytesNotFound
from flask_dualmedia.state import State
from flask_dualmedia.storages.base import CHUNK_SIZE, READ_BATCH, WRITE_BATCH, ChunkedStorage, split
from flask_dualmedia.storages.database import DatabaseStorage

from .conftest import MakeApp
from .samples import counting

MIB = 1024 * 1024


@pytest.fixture(params=["postgresql", "postgresql-generic", "sqlite", "gridfs"])
def storage(request: pytest.FixtureRequest, make_app: MakeApp, tmp_path: t.Any) -> ChunkedStorage:
    """Every storage in turn; a test that takes this fixture is part of the contract."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'media.db'}"
        app = make_app(SQLALCHEMY_DATABASE_URI=url, DUALMEDIA_AUTO_UPGRADE=True)
    else:
        app = make_app("mongo" if request.param == "gridfs" else "dual")
    state: State = app.extensions["dualmedia"]
    if request.param == "postgresql-generic":
        assert state.engine is not None
        return DatabaseStorage(state.engine)
    return t.cast(ChunkedStorage, state.storages["database"])


def read(storage: ChunkedStorage, key: str, start: int, stop: int) -> bytes:
    return b"".join(storage.open(key, start, stop))


@pytest.mark.parametrize("size", [1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, CHUNK_SIZE * WRITE_BATCH + 7])
def test_bytes_come_back(storage: ChunkedStorage, size: int) -> None:
    content = counting(size)
    storage.put("key", iter([content]))
    assert read(storage, "key", 0, size) == content
    stat = storage.stat("key")
    assert stat is not None
    assert stat.size == size


def test_blocks_may_have_any_size(storage: ChunkedStorage) -> None:
    content, chance = counting(3 * MIB), random.Random(7)

    def blocks() -> Iterator[bytes]:
        start = 0
        while start < len(content):
            stop = start + chance.choice([1, 1000, CHUNK_SIZE, 700_000])
            yield content[start:stop]
            start = stop

    storage.put("key", blocks())
    assert read(storage, "key", 0, len(content)) == content


def test_ranges(storage: ChunkedStorage) -> None:
    content, chance = counting(3 * MIB + 5), random.Random(11)
    storage.put("key", iter([content]))
    edges = [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, CHUNK_SIZE * READ_BATCH, len(content) - 1, len(content)]
    pairs = [(a, b) for a in edges for b in edges if a < b]
    pairs += [t.cast("tuple[int, int]", tuple(sorted(chance.sample(range(len(content)), 2)))) for _ in range(20)]
    for start, stop in pairs:
        assert read(storage, "key", start, stop) == content[start:stop], (start, stop)


def test_no_byte_is_read_beyond_the_range(storage: ChunkedStorage) -> None:
    storage.put("key", iter([counting(3 * MIB)]))
    assert list(map(len, storage.open("key", CHUNK_SIZE - 2, CHUNK_SIZE + 3))) == [2, 3]


def test_an_empty_range_has_no_bytes(storage: ChunkedStorage) -> None:
    assert read(storage, "key", 5, 5) == b""


@pytest.mark.parametrize("stop", [1, 11])
def test_missing_bytes_are_noticed_before_the_first_piece(storage: ChunkedStorage, stop: int) -> None:
    if stop == 11:
        storage.put("key", iter([b"0123456789"]))
    with pytest.raises(BytesNotFound):
        storage.open("key", 0, stop)


def test_missing_bytes_are_noticed_on_the_way(storage: ChunkedStorage) -> None:
    size = CHUNK_SIZE * READ_BATCH
    storage.put("key", iter([counting(size)]))
    pieces = storage.open("key", 0, size + 1)
    with pytest.raises(BytesNotFound):
        list(pieces)


def test_delete(storage: ChunkedStorage) -> None:
    storage.put("key", iter([counting(CHUNK_SIZE + 1)]))
    storage.put("other", iter([b"stays"]))
    storage.delete("key")
    assert storage.stat("key") is None
    with pytest.raises(BytesNotFound):
        storage.open("key", 0, 1)
    assert read(storage, "other", 0, 5) == b"stays"


def test_delete_of_more_than_a_batch(storage: ChunkedStorage) -> None:
    storage.put("key", (counting(MIB) for _ in range(130)))
    storage.delete("key")
    assert storage.stat("key") is None
    assert list(storage.keys()) == []


def test_delete_of_a_missing_key_is_a_no_op(storage: ChunkedStorage) -> None:
    storage.delete("never-put")


def test_an_error_of_the_source_passes_and_what_was_kept_can_be_deleted(storage: ChunkedStorage) -> None:
    def blocks() -> Iterator[bytes]:
        yield counting(CHUNK_SIZE * WRITE_BATCH)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        storage.put("key", blocks())
    storage.delete("key")
    with pytest.raises(BytesNotFound):
        storage.open("key", 0, 1)


def test_bytes_that_were_put_in_part_are_completed(storage: ChunkedStorage) -> None:
    """A copy that was killed goes on; one that was only slow does no harm to it."""
    content = counting(2 * CHUNK_SIZE * WRITE_BATCH + 5)

    def blocks() -> Iterator[bytes]:
        yield content[: CHUNK_SIZE * WRITE_BATCH]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        storage.put("key", blocks())
    for _ in range(2):
        storage.put("key", iter([content]))
        stat = storage.stat("key")
        assert stat is not None
        assert (stat.size, stat.complete) == (len(content), True)
        assert read(storage, "key", 0, len(content)) == content


def test_keys_are_sorted_and_can_be_continued(storage: ChunkedStorage) -> None:
    names = [f"key-{n}" for n in range(5)]
    for name in reversed(names):
        storage.put(name, iter([counting(CHUNK_SIZE + 1)]))
    assert list(storage.keys()) == names
    assert list(storage.keys(after="key-2")) == names[3:]
    assert list(storage.keys(after="key-4")) == []


def test_split_copies_only_across_borders() -> None:
    pieces = list(split([b"abcdef", b"gh", b"", b"i"], 4))
    assert [bytes(piece) for piece in pieces] == [b"abcd", b"efgh", b"i"]
    assert pieces[0].obj == b"abcdef"
