"""Bytes on their way to a client: a connection is held for a fast one, and for no other."""

from __future__ import annotations

import gc
import threading
import time
import typing as t
from collections.abc import Iterator
from itertools import islice

import pytest
import sqlalchemy as sa

from flask_dualmedia.errors import BytesNotFound, DatabaseUnavailable, WritesRefused
from flask_dualmedia.models import MediaChunk
from flask_dualmedia.state import State, get_state
from flask_dualmedia.storages import psycopg as module
from flask_dualmedia.storages.base import Storage
from flask_dualmedia.storages.chunked import CHUNK_SIZE, ChunkedStorage

from ..conftest import MakeApp
from ..samples import counting
from ..waiting import eventually

CONTENT = counting(40 * CHUNK_SIZE + 5)


@pytest.fixture
def briefly_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has an app that is made after it hold connections for less time than it would."""
    monkeypatch.setattr(module, "HELD", 0.3)


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
               WHERE datname = current_database() AND pid <> pg_backend_pid()
                     AND state = 'active' AND query LIKE '%%media_chunks%%ORDER BY seq%%'"""
    assert state.engine is not None
    with state.engine.connect() as connection:
        return [*connection.exec_driver_sql(query).scalars()]


def until(condition: t.Callable[[], bool]) -> None:
    eventually(condition, 10, pause=0.02)


def test_a_fast_client_has_a_connection_until_all_is_there(state: State, storage: Storage) -> None:
    pieces, seen = [], []
    for piece in storage.send("key", 5, len(CONTENT)):
        pieces.append(piece)
        seen.append(held(state))
    assert b"".join(pieces) == CONTENT[5:]
    assert seen == [1] * 41
    assert held(state) == 0


def test_small_content_holds_none(state: State, storage: Storage) -> None:
    pieces = storage.send("key", 0, CHUNK_SIZE)
    assert next(pieces) == CONTENT[:CHUNK_SIZE]
    assert held(state) == 0


def test_open_holds_none(state: State, storage: Storage) -> None:
    assert [held(state) for _ in storage.open("key", 0, len(CONTENT))] == [0] * 41


@pytest.mark.usefixtures("briefly_held")
def test_a_slow_client_loses_it(state: State, storage: Storage) -> None:
    pieces = storage.send("key", 0, len(CONTENT))
    got = [next(pieces)]
    assert held(state) == 1
    time.sleep(0.2)
    got.append(next(pieces))
    assert (held(state), running(state)) == (0, [])
    assert b"".join([*got, *pieces]) == CONTENT


@pytest.mark.usefixtures("briefly_held")
def test_a_client_who_stops_does_not_keep_the_server_at_work(
    state: State, storage: Storage
) -> None:
    pieces = storage.send("key", 0, len(CONTENT))
    got = [next(pieces)]
    assert running(state)
    until(lambda: not running(state))
    got.append(next(pieces))
    assert held(state) == 0
    assert b"".join([*got, *pieces]) == CONTENT


@pytest.mark.usefixtures("briefly_held")
def test_a_client_who_stops_and_then_hangs_up(state: State, storage: Storage) -> None:
    pieces = t.cast("t.Generator[bytes]", storage.send("key", 0, len(CONTENT)))
    next(pieces)
    until(lambda: not running(state))
    pieces.close()
    assert held(state) == 0
    assert state.circuit is not None
    assert not state.circuit.is_open
    assert b"".join(storage.send("key", 0, len(CONTENT))) == CONTENT


def test_a_client_who_hangs_up_leaves_the_connection_to_others(
    state: State, storage: Storage
) -> None:
    pieces = t.cast("t.Generator[bytes]", storage.send("key", 0, len(CONTENT)))
    next(pieces)
    pids = running(state)
    assert pids
    pieces.close()
    assert (held(state), running(state)) == (0, [])
    assert state.engine is not None
    with state.engine.connect() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        assert pid in pids, "it is as good as new"


@pytest.mark.parametrize("taken", [1, 5, 41])
def test_a_pipeline_finds_the_connection_as_it_expects_it(
    state: State, storage: Storage, taken: int
) -> None:
    pieces = t.cast("t.Generator[bytes]", storage.send("key", 0, len(CONTENT)))
    assert len([*islice(pieces, taken)]) == taken
    pieces.close()
    assert state.sql is not None
    with state.sql.borrow() as driver, driver.pipeline():
        assert driver.execute("VALUES (1), (2)").fetchall() == [(1,), (2,)]


def test_an_answer_that_nobody_reads_holds_none(state: State, storage: Storage) -> None:
    pieces: Iterator[bytes] | None = storage.send("key", 0, len(CONTENT))
    assert held(state) == 1
    del pieces
    assert held(state) == 0


def test_an_answer_that_is_forgotten_in_a_cycle_holds_none(state: State, storage: Storage) -> None:
    class Answer:
        def __init__(self) -> None:
            self.itself = self
            self.pieces = storage.send("key", 0, len(CONTENT))
            next(self.pieces)

    for _ in range(3):
        Answer()
    assert held(state) == 3
    cleaner = threading.Thread(target=gc.collect, daemon=True)
    cleaner.start()
    cleaner.join(10)
    assert not cleaner.is_alive()
    assert held(state) == 0
    assert b"".join(storage.send("key", 0, len(CONTENT))) == CONTENT


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


def blocks(pause: t.Callable[[int], None]) -> Iterator[bytes]:
    """The content, block by block; ``pause`` is called before each with its number."""
    for number, start in enumerate(range(0, len(CONTENT), 4 * CHUNK_SIZE)):
        pause(number)
        yield CONTENT[start : start + 4 * CHUNK_SIZE]


def content_of(storage: Storage) -> bytes:
    return b"".join(storage.open("new", 0, len(CONTENT)))


def test_a_fast_upload_is_written_while_it_comes(state: State) -> None:
    storage, seen = state.storages["database"], list[int]()
    storage.put("new", blocks(lambda _: seen.append(held(state))))
    assert content_of(storage) == CONTENT
    assert seen == [
        0,
        1,
        1,
        1,
        0,
        1,
        1,
        1,
        0,
        1,
        1,
    ]  # between two transactions there is none to wait in
    assert held(state) == 0


@pytest.mark.usefixtures("briefly_held")
@pytest.mark.parametrize("late", [1, 3, 4, 10])
def test_a_slow_upload_waits_without_a_connection(state: State, late: int) -> None:
    storage, seen = state.storages["database"], list[int]()

    def pause(number: int) -> None:
        seen.append(held(state))
        if number == late:
            time.sleep(0.2)

    storage.put("new", blocks(pause))
    assert content_of(storage) == CONTENT
    if late != 4:  # which was waited for before there was a transaction
        assert seen[late + 1 :] == [0] * (10 - late)


@pytest.mark.usefixtures("briefly_held")
@pytest.mark.parametrize("late", [1, 3, 10])
def test_an_upload_that_stops_for_long_goes_on(state: State, late: int) -> None:
    storage = state.storages["database"]
    storage.put("new", blocks(lambda number: time.sleep(0.9 if number == late else 0)))
    assert content_of(storage) == CONTENT
    assert held(state) == 0
    assert state.circuit is not None
    assert not state.circuit.is_open


@pytest.mark.parametrize("error", [DatabaseUnavailable("MongoDB"), OSError("hung up")])
def test_an_error_of_the_source_is_no_error_of_the_database(state: State, error: Exception) -> None:
    storage = streamed(state.storages["database"])

    def pause(number: int) -> None:
        if number == 6:
            raise error

    with pytest.raises(type(error)) as raised:
        storage.put("new", blocks(pause))
    assert raised.value is error
    assert storage.stats(["new"])["new"].size == 16 * CHUNK_SIZE  # the transaction before is there
    assert held(state) == 0
    assert b"".join(storage.open("new", 0, 16 * CHUNK_SIZE)) == CONTENT[: 16 * CHUNK_SIZE]


def test_uploads_leave_half_of_the_pool_too(make_app: MakeApp) -> None:
    state = get_state(make_app(SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 1, "max_overflow": 0}))
    storage, seen = state.storages["database"], list[int]()
    storage.put("new", blocks(lambda _: seen.append(held(state))))
    assert seen == [0] * 11
    assert content_of(storage) == CONTENT


def streamed(storage: t.Any) -> module.PsycopgStorage:
    return storage._sql


def test_a_stream_ends_quietly_where_the_server_refuses_it(state: State, storage: Storage) -> None:
    """Reading the rest shows what the trouble is."""
    in_sql = t.cast(ChunkedStorage, state.homes[0].storage)
    assert state.engine is not None
    with state.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE media_chunks RENAME TO hidden")
    try:
        assert [*in_sql.stream("key", 0, len(CONTENT))] == []
        with pytest.raises(WritesRefused):
            in_sql.open("key", 0, len(CONTENT))
    finally:
        with state.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE hidden RENAME TO media_chunks")
    assert held(state) == 0
