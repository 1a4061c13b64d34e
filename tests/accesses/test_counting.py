"""A client that reads content is counted once, whichever processes serve the parts of it."""

from __future__ import annotations

import io
import itertools
import json
import os
import threading
import typing as t
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from flask_dualmedia import (
    DatabaseUnavailable,
    MediaStorage,
    delete_media,
    get_media,
    get_media_stats,
    save_course_resource,
    save_course_video,
    save_media_storage,
    signals,
    update_media_access_count,
)
from flask_dualmedia.accesses import counting
from flask_dualmedia.accesses.counting import COLLECTION, COUNTER, Counter, Play, Plays
from flask_dualmedia.databases.leases import Lease
from flask_dualmedia.errors import WritesRefused
from flask_dualmedia.models import new_id, now
from flask_dualmedia.repositories.failover import FailoverRepository
from flask_dualmedia.repositories.journal import JournalRepository
from flask_dualmedia.repositories.sql import SQLRepository
from flask_dualmedia.state import State, get_state
from flask_dualmedia.testing import count_queries

from ..conftest import MakeApp
from ..databases.test_announcements import rest
from ..databases.test_outage import app as proxied_app
from ..databases.test_outage import is_back
from ..faults.servers import Workers
from ..samples import PDF, Headers, Tokens, bearer, mp4
from ..tools.proxy import Proxy
from ..waiting import eventually

__all__ = ["proxied_app"]

CONTENT = mp4(100_000)

SLOW: dict[str, t.Any] = {
    "DUALMEDIA_COUNT_INTERVAL": 3600,
    "DUALMEDIA_REFERENCES": {"user": None, "course": None},
}
"""Tests flush themselves, and know what a flush finds."""


@pytest.fixture
def app(make_app: MakeApp, mode: str) -> Flask:
    return make_app(mode, **SLOW)


@pytest.fixture
def every_start(make_app: MakeApp, mode: str) -> Flask:
    """An app that counts every start."""
    return make_app(mode, DUALMEDIA_COUNT_WINDOW=0, **SLOW)


def counter_of(app: Flask) -> Counter:
    counter = get_state(app).counter
    assert isinstance(counter, Counter)
    return counter


def save(app: Flask, **fields: t.Any) -> MediaStorage:
    with app.app_context():
        fields = {"uploaded_by": "alice", "is_public": True} | fields
        return save_media_storage("user", "1", io.BytesIO(CONTENT), **fields)


def content_of(record: MediaStorage) -> str:
    return f"/media/files/{record.id}/content"


def counted(app: Flask, record: MediaStorage) -> int:
    """The count in the database, after everything was written down."""
    counter_of(app).flush()
    assert counter_of(app).waiting() == 0
    with app.app_context():
        return get_media(MediaStorage, record.id).access_count


def play(clients: t.Sequence[FlaskClient], path: str, headers: Headers) -> None:
    """Play a video as a browser does: a probe, the whole, then seeks; 40 ranges, each from the next
    process."""
    ranges = ["bytes=0-1", "bytes=0-", f"bytes={len(CONTENT) - 100}-", "bytes=-100"]
    ranges += [f"bytes={start}-{start + 999}" for start in range(1000, 37_000, 1000)]
    assert len(ranges) == 40
    for client, wanted in zip(itertools.cycle(clients), ranges, strict=False):
        assert client.get(path, headers=headers | {"Range": wanted}).status_code == 206


@pytest.mark.parametrize("public", [True, False])
def test_a_play_of_forty_ranges_counts_once(app: Flask, tokens: Tokens, public: bool) -> None:
    """A player asks for one video in many ranges. That is one access."""
    record, before = save(app, is_public=public), now()
    play([app.test_client()], content_of(record), tokens.alice)
    assert counted(app, record) == 1
    play([app.test_client()], content_of(record), tokens.alice)
    assert counted(app, record) == 1, "again within the window"
    with app.app_context():
        last = get_media(MediaStorage, record.id).last_accessed_at
    assert last is not None
    assert before <= last <= now()


def test_a_play_served_by_two_processes_counts_once(
    make_app: MakeApp, app: Flask, mode: str
) -> None:
    """The two processes share nothing but the databases."""
    other = make_app(mode, name="other", **SLOW)
    record = save(app)
    play([app.test_client(), other.test_client()], content_of(record), bearer(app, "bob"))
    assert (counter_of(app).waiting(), counter_of(other).waiting()) == (1, 1)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: counter_of(one).flush(), (app, other)))
    assert counted(app, record) == 1


def test_a_download_sent_as_a_range_counts(app: Flask) -> None:
    """A counter that ignores ranges is bypassed by ``bytes=0-``."""
    record = save(app)
    answer = app.test_client().get(content_of(record), headers={"Range": "bytes=0-"})
    assert (answer.status_code, answer.data) == (206, CONTENT)
    assert counted(app, record) == 1


def test_starts_are_what_reaches_the_first_byte(every_start: Flask) -> None:
    app = every_start
    record, size = save(app), len(CONTENT)
    client, path = app.test_client(), content_of(record)
    for wanted in (
        "bytes=0-0",
        f"bytes=-{size}",
        f"bytes=-{size * 2}",
        "bytes=0-5,10-20",
        "lines=1-2",
        "",
    ):
        assert client.get(path, headers={"Range": wanted} if wanted else {}).status_code in (
            200,
            206,
        )
    assert counted(app, record) == 6
    for wanted in ("bytes=1-", "bytes=5-10", f"bytes=-{size - 1}"):
        assert client.get(path, headers={"Range": wanted}).status_code == 206
    assert counted(app, record) == 6


def test_what_sends_no_bytes_never_counts(every_start: Flask, tokens: Tokens) -> None:
    app = every_start
    client, private, public = app.test_client(), save(app, is_public=False), save(app)
    with app.app_context():
        external = save_media_storage(
            "user", "1", "https://cdn.example/a.jpg", uploaded_by="alice", is_public=True
        )
    tag = client.get(content_of(public)).headers["ETag"]
    assert counted(app, public) == 1
    refused: list[tuple[MediaStorage, str, Headers, int]] = [
        (public, "HEAD", {}, 200),
        (public, "HEAD", {"Range": "bytes=0-"}, 200),
        (public, "GET", {"If-None-Match": tag}, 304),
        (public, "GET", {"If-None-Match": tag, "Range": "bytes=0-"}, 304),
        (public, "GET", {"If-Match": '"another"'}, 412),
        (public, "GET", {"Range": f"bytes={len(CONTENT)}-"}, 416),
        (private, "GET", {}, 401),
        (private, "GET", tokens.bob, 404),
        (private, "HEAD", tokens.alice, 200),
        (private, "PUT", tokens.bob, 404),
        (public, "PUT", tokens.bob, 403),
        (external, "GET", {}, 302),
    ]
    for record, method, headers, status in refused:
        assert client.open(content_of(record), method=method, headers=headers).status_code == status
    missing = f"/media/files/{uuid.uuid4()}/content"
    assert client.get(missing, headers=tokens.alice).status_code == 404
    assert counter_of(app).waiting() == 0
    assert [counted(app, record) for record in (public, private, external)] == [1, 0, 0]


def test_bytes_that_are_not_there_do_not_count(make_app: MakeApp, mode: str) -> None:
    app = make_app(mode, PROPAGATE_EXCEPTIONS=False, **SLOW)
    record = save(app)
    get_state(app).storages["database"].delete(t.cast("str", record.storage_key))
    assert app.test_client().get(content_of(record)).status_code == 500
    assert counted(app, record) == 0


def test_readers_are_told_apart(app: Flask, tokens: Tokens) -> None:
    public, private = save(app), save(app, is_public=False)
    client = app.test_client()
    readers: list[dict[str, t.Any]] = [
        {"environ_base": {"REMOTE_ADDR": "192.0.2.1"}, "headers": {"User-Agent": "a"}},
        {"environ_base": {"REMOTE_ADDR": "192.0.2.2"}, "headers": {"User-Agent": "a"}},
        {"environ_base": {"REMOTE_ADDR": "192.0.2.1"}, "headers": {"User-Agent": "b"}},
        {
            "environ_base": {"REMOTE_ADDR": "192.0.2.1"},
            "headers": {"User-Agent": "a", **tokens.alice},
        },
        {
            "environ_base": {"REMOTE_ADDR": "192.0.2.1"},
            "headers": {"User-Agent": "a", **tokens.bob},
        },
    ]
    for reader in readers * 2:
        assert client.get(content_of(public), **reader).status_code == 200
    assert counted(app, public) == 5
    for address in ("192.0.2.1", "192.0.2.2"):  # of private media the identity is known
        client.get(content_of(private), headers=tokens.alice, environ_base={"REMOTE_ADDR": address})
    client.get(content_of(private), headers=tokens.admin)
    assert counted(app, private) == 2


def test_a_reader_counts_again_after_the_window(app: Flask) -> None:
    plays, start, window = Plays(get_state(app).mongo, 60), now(), timedelta(seconds=60)
    moment = timedelta(milliseconds=1)
    times = [
        start,
        start + window - moment,
        start + window,
        start + window + moment,
        start + 2 * window,
    ]
    for at, counts in zip(times, (True, False, True, False, True), strict=True):
        play = Play(MediaStorage, uuid.uuid4(), at)
        other = Play(MediaStorage, uuid.uuid4(), at)
        batch = {b"reader": play, at.isoformat().encode(): other}
        assert plays.claim(batch, uuid.uuid4().hex) == ([play, other] if counts else [other])


def test_no_reader_is_kept_in_clear(app: Flask, state: State) -> None:
    record = save(app, is_public=False)
    client = app.test_client()
    client.get(content_of(record), headers=bearer(app, "alice") | {"User-Agent": "Netscape"})
    assert counted(app, record) == 1
    documents = list(state.mongo[COLLECTION].find())
    assert [document.keys() for document in documents] == [{"_id", "expires", "batch"}]
    (mark,) = [document["_id"] for document in documents]
    assert len(mark) == 16
    assert state.mongo[COLLECTION].index_information()["expires"]["expireAfterSeconds"] == 0
    # The same reader of the same media, in an app with another secret.
    counter = counter_of(app)
    assert counter._mark(record.id, "identity\0alice") == mark
    counter._secret = b"another"
    assert counter._mark(record.id, "identity\0alice") != mark


def test_counting_can_be_switched_off(make_app: MakeApp, mode: str) -> None:
    app = make_app(mode, DUALMEDIA_COUNT_READS=False, **SLOW)
    assert get_state(app).counter is None
    record = save(app)
    assert app.test_client().get(content_of(record)).data == CONTENT
    with app.app_context():
        update_media_access_count(MediaStorage, record.id)
        assert get_media(MediaStorage, record.id).access_count == 1


def test_a_request_asks_no_database_to_count(app: Flask, make_app: MakeApp, mode: str) -> None:
    """PERFORMANCE.md: a counted GET costs what an uncounted one does."""
    uncounted = make_app(mode, name="uncounted", DUALMEDIA_COUNT_READS=False, **SLOW)
    record = save(app)
    asked = []
    for one in (app, uncounted):
        with count_queries(one) as queries:
            one.test_client().get(content_of(record))
        asked.append((queries.sql, queries.mongo))
    assert asked[0] == asked[1]
    assert counted(app, record) == 1


def test_the_thread_writes_down_what_was_noted(make_app: MakeApp, mode: str) -> None:
    app = make_app(mode, **SLOW | {"DUALMEDIA_COUNT_INTERVAL": 0.05})
    record = save(app)
    app.test_client().get(content_of(record))
    eventually(lambda: counter_of(app).waiting() == 0)
    assert counted(app, record) == 1


def test_a_count_for_deleted_media_is_dropped(every_start: Flask) -> None:
    app = every_start
    kept, deleted = save(app), save(app)
    for record in (kept, deleted):
        app.test_client().get(content_of(record))
    with app.app_context():
        delete_media(MediaStorage, deleted.id)
    assert counted(app, kept) == 1


@pytest.mark.parametrize(
    ("window", "expected"), [(0, [8 * 334, 8 * 333, 8 * 333]), (1800, [20, 20, 20])]
)
def test_no_read_is_lost_when_many_count_at_once(
    make_app: MakeApp, mode: str, window: float, expected: list[int]
) -> None:
    """8 threads, 1,000 reads each of three files by 20 readers, while the counter's thread writes
    them down."""
    config = SLOW | {"DUALMEDIA_COUNT_INTERVAL": 0.02, "DUALMEDIA_COUNT_WINDOW": window}
    app = make_app(mode, **config)
    records = [save(app) for _ in range(3)]
    counter = counter_of(app)

    def read(_: int) -> None:
        for number in range(1000):
            counter.note(MediaStorage, records[number % 3].id, f"{number % 20}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))
    assert [counted(app, record) for record in records] == expected


def test_no_access_is_lost_when_many_count_at_once(app: Flask, mode: str) -> None:
    """8 threads, 1,000 accesses each, every one in the database when the call returns."""
    record = save(app)
    # In MongoDB each is on the disk before the next.
    number = 1000 if mode == "dual" else 50

    def count(_: int) -> None:
        with app.app_context():
            for _ in range(number):
                update_media_access_count(MediaStorage, record.id)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    with app.app_context():
        assert get_media(MediaStorage, record.id).access_count == 8 * number


def test_the_buffer_is_bounded(
    every_start: Flask, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "LIMIT", 10)
    app = every_start
    record, counter = save(app), counter_of(app)
    counter.note(MediaStorage, record.id, "")
    for _ in range(15):
        counter.note(MediaStorage, uuid.uuid4(), "")
    counter.note(MediaStorage, record.id, "")
    assert counter.waiting() == 10
    assert counted(app, record) == 2, "media that waits already is counted on"
    assert "6 read(s) were not counted" in caplog.text


def test_a_claim_whose_answer_was_lost_is_made_once(app: Flask, state: State) -> None:
    """MongoDB did what was asked, and the connection broke before it could say so."""
    record, counter = save(app), counter_of(app)
    counter.note(MediaStorage, record.id, "reader")
    assert counter._plays is not None
    (mark, noted), *_ = counter._started.items()
    assert counter._plays.claim({mark: noted}, "batch") == [noted]
    assert counter._plays.claim({mark: noted}, "another") == []
    assert counter._plays.claim({mark: noted}, "batch") == [noted]
    assert state.mongo[COLLECTION].count_documents({}) == 1


def test_receivers_are_told_how_many(app: Flask) -> None:
    record, heard = save(app), []
    with signals.media_accessed.connected_to(lambda _, **values: heard.append(values), sender=app):
        for reader in ("a", "b"):
            counter_of(app).note(MediaStorage, record.id, reader)
        assert counted(app, record) == 2
        with app.app_context():
            update_media_access_count(MediaStorage, record.id)
    told = {"kind": MediaStorage, "media_id": record.id}
    assert heard == [told | {"count": 2}, told | {"count": 1}]


def test_a_forked_process_counts_for_itself(app: Flask) -> None:
    """A worker that is forked from a process that counts: what that one noted is not written
    twice."""
    record = save(app)
    counter = counter_of(app)
    counter.note(MediaStorage, record.id, "parent")
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, for there are threads
        child = os.fork()
    if child == 0:  # no database here: the connections are the parent's
        try:
            counter.note(MediaStorage, record.id, "child")
            threads = [thread.name for thread in threading.enumerate()]
            os.write(write, json.dumps([counter.waiting(), threads]).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    waiting, threads = json.loads(os.read(read, 10_000))
    os.close(read)
    os.close(write)
    assert (waiting, COUNTER in threads) == (1, True)
    assert counted(app, record) == 1


@pytest.mark.long
def test_nothing_is_lost_when_gunicorn_ends_its_workers(
    make_app: MakeApp, tmp_path: Path, mongo_uri: str, migrated_url: str, mode: str
) -> None:
    """Real workers, which would not write anything for another hour."""
    app = make_app(mode, SQLALCHEMY_DATABASE_URI=migrated_url, DUALMEDIA_AUTO_UPGRADE=False, **SLOW)
    record = save(app)
    config = {
        "MONGO_URI": mongo_uri,
        "SQLALCHEMY_DATABASE_URI": migrated_url,
        "DB_ENABLED": mode == "dual",
    }
    workers = Workers(
        tmp_path, config | {"DUALMEDIA_AUTO_UPGRADE": False, "DUALMEDIA_COUNT_INTERVAL": 3600}
    )
    workers.start()
    try:
        url = f"http://127.0.0.1:{workers.port}"
        eventually(lambda: _answers(f"{url}/media/health"), 60)
        for number in range(20):
            headers = {"User-Agent": f"browser {number}", "Connection": "close"}
            answer = requests.get(url + content_of(record), headers=headers, timeout=20)
            assert answer.content == CONTENT
        assert counted(app, record) == 0
    finally:
        workers.stop()
    assert counted(app, record) == 20, workers.log_path.read_text()


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except requests.RequestException:
        return False


def test_reads_of_an_outage_arrive_afterwards(
    make_proxied: Callable[..., Flask], proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Content was read just before SQL went, and the journal served some meanwhile."""
    app = make_proxied(**SLOW)
    held, client = save(app), app.test_client()
    client.get(content_of(held))
    proxy.refuse()
    journaled = save(app)
    client.get(content_of(journaled))
    assert client.get(content_of(held)).status_code == 503
    counter = counter_of(app)
    with app.app_context():
        counter.flush()
        assert get_media(MediaStorage, journaled.id).access_count == 1, (
            "counted in the journal at once"
        )
    assert counter.waiting() == 1
    counter.flush()
    assert counter.waiting() == 1
    proxy.let_through()
    eventually(lambda: is_back(app))
    assert [counted(app, record) for record in (held, journaled)] == [1, 1]
    assert "counting reads" not in caplog.text


def test_a_count_waits_while_its_record_is_moved(
    make_proxied: Callable[..., Flask], proxy: Proxy
) -> None:
    """A claimed record is not changed until it is in SQL."""
    app = make_proxied(DUALMEDIA_AUTO_DRAIN=False, **SLOW)
    proxy.refuse()
    journaled, other = save(app), save(app)
    proxy.let_through()
    eventually(lambda: not app.test_client().get("/media/health").json["degraded"])  # type: ignore[index]
    journal = get_state(app).homes[1].repository
    assert isinstance(journal, JournalRepository)
    lease = Lease(get_state(app).mongo, "drain")
    assert lease.take()
    journal.claim(MediaStorage, journaled.id, lease.holder)
    counter = counter_of(app)
    for record in (journaled, other):
        counter.note(MediaStorage, record.id, "reader")
    counter.flush()
    assert counter.waiting() == 1
    lease.give_back()
    drained = app.test_cli_runner().invoke(args=["dualmedia", "drain"])
    assert drained.exit_code == 0, drained.output
    assert [counted(app, record) for record in (journaled, other)] == [1, 1]


@pytest.fixture
def mongo_proxy(mongo_uri: str) -> Iterator[Proxy]:
    url = urlsplit(mongo_uri)
    proxy = Proxy((url.hostname or "", url.port or 27017))
    yield proxy
    proxy.close()


@pytest.fixture
def behind_proxy(make_app: MakeApp, mongo_uri: str, mongo_proxy: Proxy) -> Flask:
    """An app whose documents are behind the proxy."""
    url = urlsplit(mongo_uri)
    account, at, _ = url.netloc.rpartition("@")
    # Otherwise the client asks the server where it is.
    query = "&".join(filter(None, [url.query, "directConnection=true"]))
    proxied = url._replace(netloc=f"{account}{at}127.0.0.1:{mongo_proxy.port}", query=query)
    return make_app(
        "dual",
        MONGO_URI=proxied.geturl(),
        DUALMEDIA_CONNECT_TIMEOUT=0.2,
        DUALMEDIA_AUTO_DRAIN=False,
        **SLOW,
    )


def test_counting_waits_for_mongodb(behind_proxy: Flask, mongo_proxy: Proxy) -> None:
    app, proxy = behind_proxy, mongo_proxy
    record, client, counter = save(app), app.test_client(), counter_of(app)
    client.get(content_of(record))
    proxy.refuse()
    eventually(lambda: client.get("/media/health").status_code == 503)
    assert client.get(content_of(record)).data == CONTENT, "SQL serves it as ever"
    with pytest.raises(DatabaseUnavailable):
        counter.flush()
    assert counter.waiting() == 1
    proxy.let_through()
    eventually(lambda: client.get("/media/health").status_code == 200)
    assert counted(app, record) == 1


@contextmanager
def hidden_table(engine: sa.Engine | None) -> Iterator[Callable[[], None]]:
    """Have SQL refuse everything about files, from the first call on until the block ends."""
    assert engine is not None
    undo: list[str] = []

    def hide() -> None:
        if undo:
            return
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE media_storage RENAME TO hidden")
        undo.append("ALTER TABLE hidden RENAME TO media_storage")

    try:
        yield hide
    finally:
        with engine.begin() as connection:
            for statement in undo:
                connection.exec_driver_sql(statement)


def counting_with(app: Flask, sql: SQLRepository, journal: JournalRepository) -> Counter:
    state = get_state(app)
    assert state.circuit is not None
    repository = FailoverRepository(sql, journal, state.circuit, journals=True)
    return Counter(app, repository, None, interval=3600)


def test_a_read_is_counted_once_where_sql_refuses_the_next_one(make_app: MakeApp) -> None:
    """SQL has counted one, and refuses to look for another that it does not have."""
    app = make_app("dual", **SLOW)
    state, record = get_state(app), save(app)

    class Refusing(SQLRepository):
        def add_accesses(self, kind: t.Any, counts: t.Any) -> t.Any:
            counted = super().add_accesses(kind, counts)
            hide()
            return counted

    assert state.engine is not None
    counter = counting_with(app, Refusing(state.engine), state.homes[1].repository)
    for media_id in (record.id, new_id()):
        counter.note(MediaStorage, media_id, "reader")
    with hidden_table(state.engine) as hide, suppress(WritesRefused):
        counter.flush()
    assert counter.waiting() == 1, "the other one is tried again"
    counter.close()
    with app.app_context():
        assert get_media(MediaStorage, record.id).access_count == 1


def test_a_read_is_counted_once_where_mongodb_goes_before_the_next_one(
    behind_proxy: Flask, mongo_proxy: Proxy
) -> None:
    """The journal has counted one while SQL refuses to."""
    app, state = behind_proxy, get_state(behind_proxy)

    class Leaving(JournalRepository):
        def count_access(self, kind: t.Any, media_id: t.Any, at: t.Any, number: int = 1) -> bool:
            is_counted = super().count_access(kind, media_id, at, number)
            if self.leaves:
                self.leaves = False
                mongo_proxy.refuse()
            return is_counted

        leaves = True

    assert state.engine is not None
    with hidden_table(state.engine) as hide:
        hide()
        records = [save(app), save(app)]
        journal = Leaving(state.collections)
        counter = counting_with(app, SQLRepository(state.engine), journal)
        for record in records:
            counter.note(MediaStorage, record.id, "reader")
        with suppress(DatabaseUnavailable):
            counter.flush()
        mongo_proxy.let_through()
        eventually(lambda: app.test_client().get("/media/health").status_code == 200)
        counter.flush()
        kept = [journal.get(MediaStorage, record.id) for record in records]
        assert [record and record.access_count for record in kept] == [1, 1]
        counter.close()


@pytest.fixture
def used(app: Flask) -> dict[str, t.Any]:
    """Media of one course, of all kinds that a course has, and of others."""
    with app.app_context():
        made: dict[str, t.Any] = {
            "video": save_course_video(
                "7", "https://cdn.example/a.mp4", uploaded_by="alice", file_size=10**6
            ),
            "paper": save_course_resource("7", io.BytesIO(PDF), uploaded_by="bob", is_public=True),
            "secret": save_media_storage("course", "7", io.BytesIO(PDF), uploaded_by="bob"),
            "unused": save_media_storage("course", "7", io.BytesIO(PDF), uploaded_by="alice"),
        }
        others = [
            save_course_video("8", "https://cdn.example/b.mp4"),
            save_media_storage("user", "7", b"of a user"),
        ]
    repository, start = get_state(app).repository, now()
    for record, number in (
        (made["video"], 2),
        (made["paper"], 5),
        (made["secret"], 9),
        *((o, 99) for o in others),
    ):
        assert repository.count_access(
            type(record), record.id, start.replace(year=2020 + number % 9), number
        )
    return made


def test_stats(app: Flask, used: dict[str, t.Any]) -> None:
    with app.app_context():
        stats = get_media_stats("course", 7)
        assert [r.id for r in stats.records] == [
            used[name].id for name in ("secret", "paper", "video", "unused")
        ]
        assert (stats.media, stats.size) == (4, 10**6 + 3 * len(PDF))
        assert (stats.accesses, stats.partial) == (16, False)
        last = get_media_stats("course", "7", sort="last_accessed_at", limit=3)
        assert [r.id for r in last.records] == [
            used[name].id for name in ("paper", "video", "secret")
        ]
        assert last.media == 4
        nothing = get_media_stats("course", "none")
        assert (nothing.records, nothing.media, nothing.size, nothing.accesses) == ([], 0, 0, 0)


def test_stats_over_http(app: Flask, tokens: Tokens, used: dict[str, t.Any]) -> None:
    client = app.test_client()
    query = {"referenceType": "course", "referenceId": "7"}

    def ask(headers: Headers, **more: t.Any) -> t.Any:
        return client.get("/media/stats", query_string=query | more, headers=headers)

    answer = ask(tokens.alice).json
    assert [item["id"] for item in answer["items"]] == [
        str(used[name].id) for name in ("paper", "video", "unused")
    ]
    assert [item["kind"] for item in answer["items"]] == [
        "course-resources",
        "course-videos",
        "files",
    ]
    assert answer["totals"] == {
        "media": 3, "bytes": 10**6 + 2 * len(PDF), "derivedBytes": 0, "accesses": 7,
    }  # fmt: skip
    assert answer["partial"] is False
    record = client.get(f"/media/course-videos/{used['video'].id}", headers=tokens.alice).json
    assert answer["items"][1] == record | {"kind": "course-videos"}  # type: ignore[operator]
    assert ask(tokens.admin).json["totals"]["accesses"] == 16
    last = ask(tokens.admin, sort="lastAccessedAt", limit=1).json
    assert [item["id"] for item in last["items"]] == [str(used["paper"].id)]
    assert last["totals"]["media"] == 4
    assert ask({}).status_code == 401
    for wrong in (
        {"limit": 0},
        {"limit": 101},
        {"sort": "size"},
        {"referenceId": ""},
        {"referenceType": "a\0"},
    ):
        assert ask(tokens.alice, **wrong).status_code == 422, wrong
    assert client.get("/media/stats?referenceType=course", headers=tokens.alice).status_code == 422


def test_stats_are_one_statement_and_one_for_what_is_derived(make_app: MakeApp) -> None:
    app = make_app("dual", **SLOW)
    save(app)
    with app.app_context():
        get_media_stats("user", "1")
        rest(app)
        with count_queries() as queries:
            get_media_stats("user", "1")
            get_media_stats("course", "7")
    assert (len(queries.sql), queries.mongo) == (2 + 1, [])


def test_stats_over_http_ask_for_nothing_that_the_caller_may_not_see(make_app: MakeApp) -> None:
    app = make_app("dual", **SLOW)
    query = "/media/stats?referenceType=course&referenceId=7"
    with app.app_context(), count_queries() as queries:
        assert app.test_client().get(query, headers=Tokens.of(app).alice).status_code == 200
    assert len(queries.sql) == 3  # kinds that a course has
    assert all("is_public AND state = 'available'" in statement for statement in queries.sql), (
        queries.sql
    )


def test_stats_are_partial_while_sql_is_down(
    make_proxied: Callable[..., Flask], proxy: Proxy
) -> None:
    app = make_proxied(**SLOW)
    save(app)
    proxy.refuse()
    save(app)
    with app.app_context():
        stats = get_media_stats("user", "1")
    assert (stats.partial, stats.media, stats.size) == (True, 1, len(CONTENT))
    query = {"referenceType": "user", "referenceId": "1"}
    answer = (
        app.test_client().get("/media/stats", query_string=query, headers=bearer(app, "alice")).json
    )
    assert answer is not None
    assert (answer["partial"], answer["totals"]["media"]) == (True, 1)
