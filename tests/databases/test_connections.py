"""Statements that go past SQLAlchemy: on connections of its pool, which go back as they came."""

from __future__ import annotations

import io
import logging
import os
import pickle
import signal
import threading
import typing as t
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from sqlalchemy import event
from sqlalchemy.orm import Session

from flask_dualmedia import (
    DualMedia,
    MediaConflict,
    MediaStorage,
    StorageError,
    content_url,
    get_media,
    open_media,
    save_media_storage,
    save_product_images,
)
from flask_dualmedia.databases import deadlines
from flask_dualmedia.databases.deadlines import deadline
from flask_dualmedia.databases.sql import SQLDatabase
from flask_dualmedia.errors import DatabaseUnavailable, StatementCancelled, WritesRefused
from flask_dualmedia.models import KINDS
from flask_dualmedia.state import get_state
from flask_dualmedia.testing import count_queries

from ..conftest import MakeApp
from ..samples import bearer


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app()


@pytest.fixture
def engine(app: Flask) -> sa.Engine:
    engine = get_state(app).engine
    assert engine is not None
    return engine


def transactions(engine: sa.Engine) -> int:
    """The number of the last transaction that wrote something."""
    with engine.connect() as connection:
        return int(
            connection.exec_driver_sql(
                "SELECT txid_snapshot_xmax(txid_current_snapshot())"
            ).scalar_one()
        )


def test_a_small_upload_is_one_transaction(app: Flask, engine: sa.Engine) -> None:
    with app.app_context():
        before = transactions(engine)
        record = save_media_storage("page", "1", b"few bytes")
        assert transactions(engine) - before == 1
        assert b"".join(open_media(get_media(MediaStorage, record.id))) == b"few bytes"


@pytest.mark.parametrize("size", [1, 256 * 1024, 700 * 1024, 1024 * 1024 - 1])
@pytest.mark.parametrize("old_size", [9, 65 * 1024 * 1024])
def test_a_small_replacement_leaves_its_own_chunks_alone(
    app: Flask, size: int, old_size: int
) -> None:
    content = os.urandom(size)
    with app.app_context():
        record = save_media_storage("page", "1", io.BytesIO(bytes(old_size)), uploaded_by="alice")
        path = content_url(record)
    answer = app.test_client().put(path, data=content, headers=bearer(app, "alice"))
    assert answer.status_code == 200
    with app.app_context():
        replaced = get_media(MediaStorage, record.id)
        assert b"".join(open_media(replaced)) == content
    assert list(get_state(app).storages["database"].keys()) == [replaced.storage_key]


def test_nothing_is_left_of_a_small_upload_that_is_refused_at_its_end(app: Flask) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell():
                raise StorageError("the disk that it comes from is broken")
            return super().read(size)

    state = get_state(app)
    with app.app_context(), pytest.raises(StorageError):
        save_media_storage("page", "1", Broken(b"few bytes"))
    assert [state.repository.count(kind) for kind in KINDS.values()] == [0, 0, 0, 0]
    assert list(state.storages["database"].keys()) == []


@pytest.mark.parametrize(
    ("size", "headers", "status", "connections"),
    [
        (9, {}, 200, 1),
        (256 * 1024, {}, 200, 1),
        (256 * 1024 + 1, {}, 200, 2),
        (9, {"Range": "bytes=2-4"}, 206, 2),
        (9, {"If-None-Match": "*"}, 304, 1),
    ],
)
def test_a_small_file_is_read_with_its_record(
    app: Flask, engine: sa.Engine, size: int, headers: dict[str, str], status: int, connections: int
) -> None:
    content, taken = os.urandom(size), []
    with app.app_context():
        path = content_url(save_media_storage("page", "1", content, is_public=True))
    event.listen(engine, "checkout", lambda *_: taken.append(1))
    answer = app.test_client().get(path, headers=headers)
    assert (answer.status_code, len(taken)) == (status, connections)
    assert answer.data == {200: content, 206: content[2:5], 304: b""}[status]


def test_a_small_file_that_the_database_has_a_part_of_is_an_error(
    app: Flask, engine: sa.Engine
) -> None:
    with app.app_context():
        path = content_url(save_media_storage("page", "1", b"few bytes", is_public=True))
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE media_chunks SET data = 'few'")
    with pytest.raises(StorageError, match="bytes are missing"):
        app.test_client().get(path)


def test_who_listens_to_the_engine_hears_every_statement_about_records(app: Flask) -> None:
    with app.app_context():
        record = save_media_storage("page", "1", b"few bytes")
        with count_queries() as queries:
            heard = get_media(MediaStorage, record.id)
        assert len(queries.sql) == 1
        assert heard.values() == get_media(MediaStorage, record.id).values()


def test_a_connection_that_broke_does_not_go_back_to_the_pool(engine: sa.Engine) -> None:
    def lose() -> None:
        with SQLDatabase(engine, 5).borrow() as driver:
            with engine.connect() as other:
                other.exec_driver_sql(f"SELECT pg_terminate_backend({driver.info.backend_pid})")
            driver.execute("SELECT 1")

    with pytest.raises(DatabaseUnavailable):
        lose()
    assert t.cast("sa.QueuePool", engine.pool).checkedout() == 0
    with SQLDatabase(engine, 5).borrow() as driver:
        assert driver.execute("SELECT 1").fetchone() == (1,)


@pytest.fixture
def interrupted() -> Iterator[None]:
    """A process that is told to stop a moment later, as a server tells its workers."""

    def stop(*_args: object) -> None:
        raise SystemExit

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def statement_on_detached(database: SQLDatabase) -> t.Any:
    """The connection of a statement that does not come to its end, as psycopg has it. The pool has
    no part in it, as when the schema is looked at."""
    driver: t.Any = None
    with suppress(StatementCancelled, SystemExit), database.connect() as connection:
        driver = connection.connection.driver_connection
        connection.detach()
        connection.exec_driver_sql("SELECT pg_sleep(5)")
    return driver


def test_a_connection_outside_of_the_pool_is_closed_when_it_takes_too_long(
    engine: sa.Engine,
) -> None:
    """If it were not, the server would keep it until the garbage collector comes."""
    assert statement_on_detached(SQLDatabase(engine, 0.1)).closed


def test_a_connection_outside_of_the_pool_is_closed_when_the_process_is_told_to_stop(
    engine: sa.Engine, interrupted: None
) -> None:
    assert statement_on_detached(SQLDatabase(engine)).closed


def test_a_probe_leaves_it_to_the_pool_to_make_a_dialect_ready(database_url: str) -> None:
    """Where a probe does it, a thread that takes a connection meanwhile finds it half done."""
    engine = sa.create_engine(database_url)
    begun = threading.Event()
    may_end = threading.Event()
    initialize = engine.dialect.initialize

    def wait_first(connection: sa.Connection) -> None:
        begun.set()
        may_end.wait(2)
        initialize(connection)

    engine.dialect.initialize = wait_first  # type: ignore[method-assign]
    probing = threading.Thread(target=SQLDatabase(engine, 10).probe)
    probing.start()
    begun.wait(1)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    finally:
        may_end.set()
        probing.join()
        engine.dispose()


def test_after_a_failed_statement_others_find_the_connection_as_they_expect_it(
    engine: sa.Engine,
) -> None:
    def fail() -> None:
        with SQLDatabase(engine, 5).borrow() as driver, driver.transaction():
            driver.execute("INSERT INTO media_chunks VALUES ('key', 0, '')")
            driver.execute("SELECT * FROM nowhere")

    with pytest.raises(WritesRefused):
        fail()
    assert t.cast("sa.QueuePool", engine.pool).checkedout() == 0
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM media_chunks").scalar_one() == 0
        assert not t.cast("t.Any", connection.connection.driver_connection).autocommit


@pytest.mark.parametrize("before", range(6))
def test_refused_records_leave_a_connection_that_prepares_what_it_is_asked(
    app: Flask, before: int
) -> None:
    """One that is refused among several makes the server pass by the others, unprepared."""
    urls = ["https://cdn.example/a.png", "https://cdn.example/b.png"]
    with app.app_context():
        product, other = get_state(app).mongo["products"].insert_many([{}, {}]).inserted_ids
        save_product_images(product, urls[:1] * (1 + before % 2))
        for _ in range(before // 2):
            save_product_images(other, urls)
        for _ in range(3):
            with pytest.raises(MediaConflict):
                save_product_images(product, urls, is_main_image=True, position=5)
        assert len(save_product_images(other, urls)) == 2


def test_a_statement_that_its_server_does_not_know_any_more_is_asked_anew(
    app: Flask, engine: sa.Engine
) -> None:
    """This happens behind a pooler, or after DISCARD ALL of somebody who shares the connection."""
    with app.app_context():
        record = save_media_storage("page", "1", b"few bytes")
        for _ in range(8):
            get_media(MediaStorage, record.id)
        with engine.connect() as connection:
            driver = t.cast("psycopg.Connection", connection.connection.driver_connection)
            driver.pgconn.exec_(b"DEALLOCATE ALL")  # psycopg does not hear of it
        assert get_media(MediaStorage, record.id).id == record.id


def test_a_record_can_be_put_into_a_session(app: Flask, engine: sa.Engine) -> None:
    with app.app_context():
        record = save_media_storage("page", "1", b"few bytes")
        assert pickle.loads(pickle.dumps(record)).values() == record.values()
        assert sa.inspect(record).transient
        with Session(engine) as session:
            session.merge(record).title = "Changed"
            session.commit()
        read = get_media(MediaStorage, record.id)
        assert read.values() == record.values() | {"title": "Changed"}
        read.title = "Set"
        assert read.title == "Set"


@pytest.fixture
def no_threads_start() -> Iterator[Callable[[], object]]:
    """Has no thread start any more, as at the end of a process, or where the system has as many as
    it takes."""
    size = threading.stack_size()
    yield lambda: threading.stack_size(2**46)
    threading.stack_size(size)


@pytest.mark.parametrize("is_pooled", [False, True])
def test_a_statement_ends_in_time_where_no_thread_starts(
    emptied_url: str, no_threads_start: Callable[[], object], is_pooled: bool
) -> None:
    def sleep() -> None:
        with pytest.raises(StatementCancelled), deadline(driver, 0.3):
            driver.execute("SELECT pg_sleep(60)")
        ended.set()

    ended = threading.Event()
    with psycopg.connect(emptied_url.replace("+psycopg", ""), autocommit=True) as driver:
        if is_pooled:
            deadlines.pooled.add(driver)
        with deadline(driver, 5):
            driver.execute("")
        threading.Thread(target=sleep, daemon=True).start()
        no_threads_start()
        assert ended.wait(10)
        assert driver.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    "options", [{}, {"SQLALCHEMY_DATABASE_URI": "sqlite://"}], ids=["PostgreSQL", "in memory"]
)
def test_our_logger_says_nothing_of_the_ups_and_downs_of_a_pool(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, options: dict[str, str]
) -> None:
    caplog.set_level(logging.DEBUG, "flask_dualmedia")
    app = make_app(**options)
    with app.app_context():
        save_media_storage("note", "1", b"a note")
    DualMedia.close(app)
    loggers = {
        record.name for record in caplog.records if record.name.startswith("flask_dualmedia")
    }
    assert loggers == {"flask_dualmedia"}
