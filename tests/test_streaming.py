"""Bytes on their way to a client: a connection is held for a fast one, and for no other."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from flask_dualmedia.errors import BytesNotFound
from flask_dualmedia.models import MediaChunk
from flask_dualmedia.state import State, get_state
from flask_dualmedia.storages import psycopg as module
from flask_dualmedia.storages.base import Storage
from flask_dualmedia.storages.chunked import CHUNK_SIZE

from .conftest import MakeApp
from .samples import counting

CONTENT = counting(40 * CHUNK_SIZE + 5)


@pytest.fixture
def state(make_app: MakeApp) -> State:
    return get_state(make_app())


@pytest.fixture
def storage(state: State) -> Storage:
    storage = state.storages["database"]
    storage.put("key", iter([CONTENT]))
    return storage


def held(state: State) -> int:
    """Connections that are in use."""
    return t.cast("sa.QueuePool", state.engine and state.engine.pool).checkedout()


def running(state: State) -> list[int]:
    """Processes of the server that are at work for the storage."""
    query = """SELECT pid FROM pg_stat_activity
               WHERE datname = current_database() AND state = 'active' AND query LIKE '%%media_chunks%%ORDER BY seq%%'
                     AND pid <> pg_backend_pid()"""
    assert state.engine is not None
    with state.engine.connect() as connection:
        return [*connection.exec_driver_sql(query).scalars()]


def until(condition: t.Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_fast_client_has_a_connection_until_all_is_there(state: State, storage: Storage) -> None:
    pieces, seen = [], []
    for piece in storage.send("key", 5, len(CONTENT)):
        pieces.append(piece)
        seen.append(held(state))
    assert b"".join(pieces) == CONTENT[5:]
    assert seen == [1] * 40 + [0]


def test_small_content_holds_none(state: State, storage: Storage) -> None:
    pieces = storage.send("key", 0, CHUNK_SIZE)
    assert next(pieces) == CONTENT[:CHUNK_SIZE]
    assert held(state) == 0


def test_open_holds_none(state: State, storage: Storage) -> None:
    assert [held(state) for _ in storage.open("key", 0, len(CONTENT))] == [0] * 41


def test_a_slow_client_loses_it(state: State, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD", 0.2)
    pieces = storage.send("key", 0, len(CONTENT))
    got = [next(pieces)]
    assert held(state) == 1
    time.sleep(0.15)
    got.append(next(pieces))
    assert (held(state), running(state)) == (0, [])
    assert b"".join([*got, *pieces]) == CONTENT


def test_a_client_who_stops_does_not_keep_the_server_at_work(
    state: State, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HELD", 0.3)
    pieces = storage.send("key", 0, len(CONTENT))
    got = [next(pieces)]
    assert running(state)
    until(lambda: not running(state))
    got.append(next(pieces))
    assert held(state) == 0
    assert b"".join([*got, *pieces]) == CONTENT


def test_a_client_who_hangs_up_leaves_the_connection_to_others(state: State, storage: Storage) -> None:
    pieces = t.cast("t.Generator[bytes]", storage.send("key", 0, len(CONTENT)))
    next(pieces)
    pids = running(state)
    assert pids
    pieces.close()
    assert (held(state), running(state)) == (0, [])
    assert state.engine is not None
    with state.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() in pids  # it is as good as new


def test_an_answer_that_nobody_reads_holds_none(state: State, storage: Storage) -> None:
    pieces: Iterator[bytes] | None = storage.send("key", 0, len(CONTENT))
    assert held(state) == 1
    del pieces
    assert held(state) == 0


def test_half_of_the_pool_is_for_others(make_app: MakeApp) -> None:
    state = get_state(make_app(SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 4, "max_overflow": 0}))
    storage = state.storages["database"]
    storage.put("key", iter([CONTENT]))
    readers = [storage.send("key", 0, len(CONTENT)) for _ in range(8)]
    assert held(state) == 2
    assert [b"".join(reader) for reader in readers] == [CONTENT] * 8
    reader = storage.send("key", 0, len(CONTENT))
    assert held(state) == 1
    assert b"".join(reader) == CONTENT


def test_a_connection_that_breaks_is_not_noticed(state: State, storage: Storage) -> None:
    pieces = storage.send("key", 0, len(CONTENT))
    got = [next(pieces)]
    assert state.engine is not None
    with state.engine.connect() as connection:
        for pid in running(state):
            connection.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
    assert b"".join([*got, *pieces]) == CONTENT
    assert state.circuit is not None
    assert not state.circuit.is_open


@pytest.mark.parametrize("gone", [0, 3, 40])
def test_a_chunk_that_is_not_there(state: State, storage: Storage, gone: int) -> None:
    assert state.engine is not None
    with state.engine.begin() as connection:
        connection.execute(sa.delete(MediaChunk).where(MediaChunk.seq == gone))
    with pytest.raises(BytesNotFound):
        list(storage.send("key", 0, len(CONTENT)))
