"""Media comes to its end: on an app that is closed, on one that nobody needs any more, and in a
process that ends."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import threading
import time
import typing as t
import uuid
import weakref
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from flask import Flask, Response
from flask_pymongo import PyMongo
from flask_sqlalchemy import SQLAlchemy
from pymongo.errors import InvalidOperation

from flask_dualmedia import (
    DualMedia,
    MediaClosed,
    MediaStorage,
    Unavailable,
    content_url,
    flush_counts,
    get_media,
    get_media_by_reference,
    open_media,
    save_media_storage,
)

from ..conftest import HOST_CONFIG, MakeApp, StorageOptions
from ..faults.servers import ROOT
from ..samples import Tokens
from ..waiting import eventually

PDF = b"%PDF-1.7 closing"


def wait_until(is_so: Callable[[], bool]) -> None:
    def running() -> list[str]:
        return [thread.name for thread in threading.enumerate()]

    eventually(is_so, 15, pause=0.02, explain=running)


def threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def connections_to(url: str) -> int:
    """How many others are connected to a PostgreSQL database."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        query = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        return connection.exec_driver_sql(query).scalar_one()


def new_app(mongo_uri: str, url: str | None, **config: t.Any) -> Flask:
    app = Flask("host")
    app.config.update(
        HOST_CONFIG, MONGO_URI=mongo_uri, DUALMEDIA_UPKEEP=True, DUALMEDIA_AUTO_UPGRADE=False
    )
    app.config.update({"DB_ENABLED": False} if url is None else {"SQLALCHEMY_DATABASE_URI": url})
    app.config.update(config)
    return app


def use_media(app: Flask) -> str:
    """Save, read and list, so that every thread of ours begins; the URL of the content."""
    with app.app_context():
        record = save_media_storage("page", "closing", PDF, is_public=True)
        url = content_url(record)
    client = app.test_client()
    assert client.get(url).data == PDF
    alice = Tokens.of(app).alice
    assert client.get("/media/files?limit=1", headers=alice).status_code == 200
    assert client.get("/media/openapi.json").status_code == 200
    return url


@pytest.fixture
def url(request: pytest.FixtureRequest, mode: str) -> str | None:
    """URL of PostgreSQL in dual mode."""
    return request.getfixturevalue("emptied_url") if mode == "dual" else None


def test_nothing_is_left_of_an_app_that_was_closed(mongo_uri: str, url: str | None) -> None:
    before = threads()
    connected = connections_to(url) if url else 0
    app = new_app(mongo_uri, url)
    with DualMedia(app):
        use_media(app)

    assert not [thread.name for thread in threads() - before if thread.name.startswith("dualmedia")]
    wait_until(lambda: threads() <= before)  # those of PyMongo end a moment later
    if url:
        wait_until(lambda: connections_to(url) == connected)
    held = weakref.ref(app)
    del app
    gc.collect()
    assert held() is None


def test_nothing_is_left_of_an_app_that_was_forgotten(mongo_uri: str, url: str | None) -> None:
    before = threads()
    connected = connections_to(url) if url else 0
    app = new_app(mongo_uri, url)
    DualMedia(app)
    use_media(app)

    held = weakref.ref(app)
    del app
    wait_until(lambda: bool(gc.collect()) or held() is None)
    wait_until(lambda: threads() <= before)
    if url:
        wait_until(lambda: connections_to(url) == connected)


@pytest.mark.long
def test_a_suite_of_many_apps_leaves_nothing(mongo_uri: str, emptied_url: str) -> None:
    """More than PostgreSQL has connections for."""
    before, connected = threads(), connections_to(emptied_url)
    apps = weakref.WeakSet[Flask]()
    media = DualMedia()
    for number in range(130):
        app = new_app(mongo_uri, emptied_url if number % 2 else None)
        media.init_app(app)
        apps.add(app)
        with app.app_context():
            assert get_media_by_reference("page", "closing") == []
        media.close(app)
        del app

    wait_until(lambda: threads() <= before)
    assert connections_to(emptied_url) <= connected
    gc.collect()
    assert not list(apps)


def test_what_the_host_has_opened_stays_open(mongo_uri: str, emptied_url: str) -> None:
    app = new_app(mongo_uri, emptied_url)
    db, mongo = SQLAlchemy(app), PyMongo(app)
    with DualMedia(app, mongo=mongo):
        use_media(app)

    with app.app_context():
        assert mongo.db is not None
        assert mongo.db.command("ping")["ok"] == 1
        assert db.session.execute(sa.text("SELECT 1")).scalar_one() == 1
        assert t.cast("sa.QueuePool", db.engine.pool).checkedout() == 1
        db.session.remove()
        assert t.cast("sa.QueuePool", db.engine.pool).checkedin() > 0
        db.engine.dispose()
    assert mongo.cx is not None
    mongo.cx.close()


def test_calls_after_the_end_say_so(app: Flask, tokens: Tokens) -> None:
    url = use_media(app)
    DualMedia.close(app)
    DualMedia.close(app)
    with app.app_context(), pytest.raises(MediaClosed, match="media is closed on this app"):
        get_media_by_reference("page", "closing")
    with app.app_context(), pytest.raises(Unavailable):
        flush_counts()
    answer = app.test_client().get(url, headers=tokens.alice)
    assert answer.status_code == 503
    assert answer.json is not None
    assert "closed" in answer.json["message"]


def test_a_context_that_has_used_media_is_at_its_end_where_it_closes(app: Flask) -> None:
    with app.app_context():
        save_media_storage("page", "closing", PDF)
        began = time.monotonic()
        DualMedia.close(app)
        assert time.monotonic() - began < 5, "nobody waits for themselves"
        with pytest.raises(MediaClosed):
            get_media_by_reference("page", "closing")


def test_a_thread_that_is_always_in_a_context_holds_nothing_up_for_ever(app: Flask) -> None:
    """It has used media before, and finds that it is closed."""
    begun, may_go_on = threading.Event(), threading.Event()

    def work() -> bool:
        with app.app_context():
            get_media_by_reference("page", "closing")
            begun.set()
            assert may_go_on.wait(30)
            return is_closed_here()

    thread, found = in_thread(work)
    assert begun.wait(30)
    DualMedia.close(app, timeout=0.1)
    may_go_on.set()
    thread.join(30)
    assert found == [True]
    wait_until(lambda: is_client_closed(app))


def test_only_an_app_with_media_can_be_closed() -> None:
    with pytest.raises(RuntimeError, match="not set up"):
        DualMedia.close(Flask("host"))


class SlowBody(io.RawIOBase):
    """A body whose rest comes when somebody lets it."""

    def __init__(self, begin: bytes, rest: bytes) -> None:
        self._parts = [begin, rest]
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if len(self._parts) == 1:
            self.begun.set()
            assert self.may_go_on.wait(30)
        part = self._parts.pop(0) if self._parts else b""
        assert size < 0 or len(part) <= size
        return part


def in_thread(call: Callable[[], t.Any]) -> tuple[threading.Thread, list[t.Any]]:
    results: list[t.Any] = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()
    return thread, results


@pytest.mark.parametrize("is_waited_for", [True, False], ids=["in time", "late"])
def test_requests_that_have_begun_get_their_answers(
    app: Flask, tokens: Tokens, is_waited_for: bool
) -> None:
    """An upload in its middle, answers that are being sent, and a view of the host between two
    media calls."""
    with app.app_context():
        content = os.urandom(3_000_000)
        film = save_media_storage("page", "closing", content, is_public=True)
        film_url = content_url(film)
        replaced = save_media_storage("page", "closing", PDF)
    between, may_go_on = threading.Event(), threading.Event()

    @app.get("/host")
    def host_view() -> str:
        first = save_media_storage("page", "host", PDF)
        between.set()
        assert may_go_on.wait(30)
        return str(get_media(MediaStorage, first.id).id == first.id)

    @app.get("/film")
    def host_film() -> Response:
        return Response(open_media(get_media(MediaStorage, film.id)))

    streams = [iter(app.test_client().get(url).iter_encoded()) for url in (film_url, "/film")]
    received = [next(stream) for stream in streams]
    body = SlowBody(b"%PDF-1.7 ", b"and the rest")
    upload, uploaded = in_thread(
        lambda: app.test_client().put(
            f"/media/files/{replaced.id}/content",
            headers=tokens.admin,
            environ_overrides={
                "wsgi.input": body,
                "wsgi.input_terminated": True,
                "CONTENT_LENGTH": "21",
            },
        )
    )
    visit, visited = in_thread(lambda: app.test_client().get("/host"))
    assert body.begun.wait(30)
    assert between.wait(30)

    closing, _ = in_thread(lambda: DualMedia.close(app, timeout=20 if is_waited_for else 0))
    wait_until(lambda: is_closing(app))
    assert app.test_client().get(film_url).status_code == 503, "nobody begins any more"
    if not is_waited_for:
        closing.join(30)
        assert not closing.is_alive()
    body.may_go_on.set()
    may_go_on.set()
    upload.join(30)
    visit.join(30)
    received = [first + b"".join(stream) for first, stream in zip(received, streams, strict=True)]
    streams.clear()
    closing.join(30)
    assert not closing.is_alive()

    assert received == [content, content]
    assert uploaded[0].status_code == 200, uploaded[0].data
    assert visited[0].data == b"True"
    wait_until(lambda: is_client_closed(app))


def is_closing(app: Flask) -> bool:
    with app.app_context():
        return is_closed_here()


def is_closed_here() -> bool:
    try:
        get_media_by_reference("page", "closing")
    except MediaClosed:
        return True
    return False


def is_client_closed(app: Flask) -> bool:
    client = app.extensions["dualmedia"].mongo.client
    try:
        client.admin.command("ping")
    except InvalidOperation:
        return True
    return False


def test_counted_reads_are_written_down_on_request_and_at_the_end(
    make_app: MakeApp, mode: str
) -> None:
    app = make_app(mode, DUALMEDIA_COUNT_INTERVAL=3600)
    url = use_media(app)
    with app.app_context():
        flush_counts()
        [record] = get_media_by_reference("page", "closing")
        assert record.access_count == 1
    app.test_client().get(url, headers={"User-Agent": "another"}).close()
    DualMedia.close(app)

    again = make_app(mode)
    with again.app_context():
        assert get_media(MediaStorage, record.id).access_count == 2


def test_connections_to_storages_outside_are_closed(
    make_app: MakeApp, storage_options: StorageOptions, mode: str
) -> None:
    """Python warns of a socket that is left to the garbage collector."""
    app = make_app(mode, DUALMEDIA_STORAGES=storage_options("s3") | storage_options("google_drive"))
    with app.app_context():
        for storage in ("s3", "google_drive"):
            save_media_storage("page", "closing", PDF, storage_type=storage)
    DualMedia.close(app)
    state = app.extensions["dualmedia"]
    assert all(state.storages[name]._session_is_closed() for name in ()) is True
    del state
    gc.collect()


HOST = """
import os, sys
from flask import Flask
from flask_dualmedia import DualMedia, content_url, save_media_storage

app = Flask("host")
app.config.from_prefixed_env()
DualMedia(app)
with app.app_context():
    record = save_media_storage("page", "ended", b"%PDF-1.7 ended", is_public=True)
    url = content_url(record)
app.test_client().get(url)
app.test_client().get("/media/openapi.json")
print(record.id, flush=True)
"""


def run_host(mongo_uri: str, url: str | None, code: str = "") -> subprocess.CompletedProcess[str]:
    """A process that uses media and ends without closing anything."""
    config = new_app(mongo_uri, url, DUALMEDIA_COUNT_INTERVAL=3600).config
    names = (
        "MONGO_URI",
        "SQLALCHEMY_DATABASE_URI",
        "DB_ENABLED",
        "JWT_SECRET_KEY",
        "DUALMEDIA_COUNT_INTERVAL",
    )
    environment = {
        f"FLASK_{name}": str(config[name]) for name in names if config.get(name) is not None
    }
    command = [sys.executable, "-W", "error", "-c", HOST + code]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


ENDS = {
    "normally": "",
    "by SIGTERM, which nobody handles": "import os, time; os.kill(os.getpid(), 15); time.sleep(60)",
    "by an error": "raise SystemExit(3)",
}
STATUS = {"normally": 0, "by SIGTERM, which nobody handles": -15, "by an error": 3}


@pytest.mark.long
@pytest.mark.parametrize("end", ENDS)
def test_a_process_that_ends_has_written_down_what_it_counted(
    make_app: MakeApp, mongo_uri: str, url: str | None, mode: str, end: str
) -> None:
    ended = run_host(mongo_uri, url, ENDS[end])
    assert ended.returncode == STATUS[end], ended.stderr
    assert ended.stderr == "", "nothing warns of what was left open"
    with make_app(mode).app_context():
        assert get_media(MediaStorage, uuid.UUID(ended.stdout.strip())).access_count == 1
