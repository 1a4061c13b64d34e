"""Apps that were used before their process forks: each process is answered what it asked for, and
nothing else."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
import typing as t
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa
import sqlalchemy.exc
from flask import Flask
from sqlalchemy import event

from flask_dualmedia import (
    MediaStorage,
    content_url,
    get_media,
    open_media,
    save_media_storage,
    wiring,
)
from flask_dualmedia.homes.base import AnyHome
from flask_dualmedia.homes.sql import sql_home
from flask_dualmedia.state import get_state

from ..conftest import MakeApp
from ..faults.servers import ROOT, Workers, running

MIB = 1024 * 1024

# One chunk, which comes with its record; several, which are streamed; more than are written at
# once.
SIZES = [1000, 200_000, 300_000, MIB, 3 * MIB]

pytestmark = pytest.mark.filterwarnings(
    # Python 3.12 warns: here are threads.
    "ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning",
    # PyMongo warns, for these apps used MongoDB before.
    "ignore:MongoClient opened before fork:UserWarning",
)


class File(t.NamedTuple):
    id: uuid.UUID
    url: str
    content: bytes


def save_files(app: Flask) -> list[File]:
    files = []
    with app.app_context():
        for number, size in enumerate(SIZES):
            content = random.Random(number).randbytes(size)
            record = save_media_storage("page", "forks", content, is_public=True)
            files.append(File(record.id, content_url(record), content))
    return files


def read_files(app: Flask, files: list[File], seed: int, *, number: int = 25) -> int:
    """Read records, ranges and whole files at random; how many of the answers were others'."""
    wrong, chance, client = 0, random.Random(seed), app.test_client()
    for _ in range(number):
        file = chance.choice(files)
        start = chance.randrange(len(file.content))
        answer = client.get(
            file.url, headers={"Range": f"bytes={start}-"} if chance.random() < 0.6 else {}
        )
        wanted = file.content[start:] if answer.status_code == 206 else file.content
        wrong += hashlib.sha256(answer.data).digest() != hashlib.sha256(wanted).digest()
        with app.app_context():
            wrong += get_media(MediaStorage, file.id).id != file.id
    return wrong


class Child:
    """A forked process that does something and says what came of it."""

    def __init__(self, work: Callable[[], t.Any]) -> None:
        self._answer, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            done: t.Any = None
            try:
                signal.alarm(60)  # whatever it waits for
                done = work()
            except BaseException:
                done = traceback.format_exc()
            finally:
                with os.fdopen(write, "wb") as pipe:
                    pickle.dump(done, pipe)
                os._exit(0)
        os.close(write)

    def result(self) -> t.Any:
        with os.fdopen(self._answer, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        return pickle.loads(said) if said else f"ended with status {status}"


def sessions(engine: sa.Engine) -> set[int]:
    """The server processes of this process's connections, of which each is asked for its own."""
    assert isinstance(engine.pool, sa.QueuePool)
    connections = [engine.connect() for _ in range(3)]
    try:
        return {c.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for c in connections}
    finally:
        for connection in connections:
            connection.close()


def engine_of(app: Flask) -> sa.Engine:
    engine = get_state(app).engine
    assert engine is not None
    return engine


OPTIONS: dict[str, dict[str, t.Any]] = {
    "our pool": {},
    "pings": {"pool_pre_ping": True},
    "a small pool": {"pool_size": 1, "max_overflow": 0},
    "no pool": {"poolclass": sa.NullPool},
}


@pytest.mark.long
@pytest.mark.parametrize("options", OPTIONS)
def test_parent_and_children_read_what_they_ask_for(make_app: MakeApp, options: str) -> None:
    app = make_app(SQLALCHEMY_ENGINE_OPTIONS=OPTIONS[options])
    files = save_files(app)
    before = sessions(engine_of(app)) if options == "our pool" else set()
    children = [Child(lambda seed=seed: read_files(app, files, seed)) for seed in range(3)]
    wrong = [read_files(app, files, 99), *(child.result() for child in children)]
    assert wrong == [0, 0, 0, 0]
    if options == "our pool":
        assert sessions(engine_of(app)) == before, "the parent's connections are as they were"


def test_a_connection_from_before_the_extension_came_is_the_parents(
    mongo_uri: str, emptied_url: str
) -> None:
    from flask_pymongo import PyMongo
    from flask_sqlalchemy import SQLAlchemy

    from flask_dualmedia import DualMedia

    from ..conftest import HOST_CONFIG, close

    app = Flask("host")
    app.config.update(HOST_CONFIG, SQLALCHEMY_DATABASE_URI=emptied_url, MONGO_URI=mongo_uri)
    db = SQLAlchemy(app)
    with app.app_context():
        opened = [db.engine.connect() for _ in range(3)]
        DualMedia(app, mongo=PyMongo(app))
        before = {c.exec_driver_sql("SELECT pg_backend_pid()").scalar_one() for c in opened}
        for connection in opened:
            connection.close()

        def ask() -> int:
            with app.app_context(), db.engine.connect() as connection:
                return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()

        assert Child(ask).result() not in before
        assert sessions(db.engine) & before, "the parent goes on with those that it had"
    close(app)


def test_the_parent_of_a_connection_that_is_in_use_goes_on(make_app: MakeApp) -> None:
    """A transaction and a stream are in progress in the thread that forks."""
    app = make_app()
    files, engine = save_files(app), engine_of(app)
    big = files[-1]

    def work() -> int:
        nonlocal stream
        with suppress(sqlalchemy.exc.OperationalError):  # the transaction is the parent's
            connection.close()
        del stream
        gc.collect()
        return read_files(app, files, 1, number=10)

    with app.app_context(), engine.connect() as connection:
        connection.exec_driver_sql("INSERT INTO media_chunks VALUES ('forked', 0, '')")
        stream = open_media(get_media(MediaStorage, big.id))
        begun = next(stream)
        child = Child(work)
        assert child.result() == 0
        assert begun + b"".join(stream) == big.content
        connection.commit()
    with engine.begin() as connection:
        query = "DELETE FROM media_chunks WHERE storage_key = 'forked'"
        assert connection.exec_driver_sql(query).rowcount == 1


def test_parent_and_child_both_read_on_in_a_stream(make_app: MakeApp) -> None:
    app = make_app()
    big = save_files(app)[-1]
    with app.app_context():
        stream = open_media(get_media(MediaStorage, big.id))
        begun = next(stream)
        child = Child(lambda: begun + b"".join(stream) == big.content)
        assert begun + b"".join(stream) == big.content
        assert child.result() is True


def test_a_fork_in_the_middle_of_requests_of_other_threads(make_app: MakeApp) -> None:
    """Nobody gives back in the child the connections and locks that these threads hold."""
    app = make_app(SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 4, "max_overflow": 0})
    files, ended = save_files(app), threading.Event()

    def read() -> int:
        wrong, seed = 0, 0
        while not ended.is_set():
            seed += 1
            wrong += read_files(app, files, seed, number=5)
        return wrong

    with ThreadPoolExecutor(4) as threads:
        reads = [threads.submit(read) for _ in range(4)]
        children = []
        for seed in range(8):
            time.sleep(0.05)  # somewhere else in the requests each time
            children.append(Child(lambda seed=seed: read_files(app, files, seed, number=8)))
        wrong = [child.result() for child in children]
        ended.set()
        assert wrong == [0] * 8
        assert [one.result() for one in reads] == [0] * 4


@pytest.mark.parametrize("holder", ["circuit", "counter", "documents", "deadlines"])
def test_a_lock_that_another_thread_holds_is_free_in_the_child(
    make_app: MakeApp, holder: str
) -> None:
    from flask_dualmedia.databases import deadlines
    from flask_dualmedia.views import docs

    app = make_app()
    state, files = get_state(app), save_files(app)
    locks: dict[str, Callable[[], list[t.Any]]] = {
        "circuit": lambda: [state.circuit._lock],  # type: ignore[union-attr]
        "counter": lambda: [state.counter._lock, state.counter._flushing],  # type: ignore[union-attr]
        "documents": lambda: [
            found._lock for found in gc.get_objects() if type(found) is docs.Documents
        ],
        "deadlines": lambda: [deadlines._watcher._lock],
    }
    held, freed = threading.Event(), threading.Event()

    def hold() -> None:
        for lock in locks[holder]():
            lock.acquire()
        held.set()
        freed.wait()
        for lock in locks[holder]():
            lock.release()

    def work() -> int:
        assert app.test_client().get("/media/openapi.json").status_code == 200
        assert state.counter is not None
        wrong = read_files(app, files, 1, number=5)
        state.counter.flush()
        return wrong

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = Child(work)
    freed.set()
    thread.join()
    assert child.result() == 0


def test_a_child_serves_as_many_clients_at_once_as_its_parent(make_app: MakeApp) -> None:
    """Files are streamed while few are; those whom the parent serves do not count."""
    app = make_app(SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 4})
    files = save_files(app)

    def connections_taken() -> int:
        taken: list[int] = []
        event.listen(engine_of(app), "checkout", lambda *_: taken.append(1))
        read_files(app, files[-1:], 1, number=1)
        return len(taken)

    with app.app_context():
        streams = [open_media(get_media(MediaStorage, files[-1].id)) for _ in range(2)]
        for stream in streams:
            next(stream)
        child = Child(connections_taken)
        for stream in streams:
            stream.close()  # type: ignore[attr-defined]
    assert child.result() == connections_taken()


@pytest.mark.parametrize("mode", ["dual", "mongo"])
def test_what_the_parent_noted_is_counted_once(make_app: MakeApp, mode: str) -> None:
    app = make_app(mode, DUALMEDIA_COUNT_INTERVAL=3600)
    files, state = save_files(app), get_state(app)
    assert state.counter is not None
    for file in files:
        app.test_client().get(file.url, headers={"User-Agent": "parent"}).close()

    def work() -> None:
        assert state.counter is not None
        state.counter.flush()
        app.test_client().get(files[0].url, headers={"User-Agent": "child"}).close()
        state.counter.close()

    assert Child(work).result() is None
    state.counter.flush()
    with app.app_context():
        counts = [get_media(MediaStorage, file.id).access_count for file in files]
    assert counts == [2, 1, 1, 1, 1]


@pytest.fixture
def transfer_engine(make_app: MakeApp) -> Iterator[tuple[AnyHome, sa.Engine]]:
    """The engine and home that ``flask dualmedia transfer`` opens while the app runs without
    SQL."""
    settings = get_state(make_app()).settings
    engine = wiring.open_engine(settings)
    yield sql_home(engine), engine
    engine.dispose()


def test_the_engine_of_a_transfer_is_not_shared(
    transfer_engine: tuple[AnyHome, sa.Engine],
) -> None:
    home, engine = transfer_engine
    contents = {f"{number}": random.Random(number).randbytes(300_000) for number in range(8)}
    for key, content in contents.items():
        home.storage.put(key, iter([content]))
    before = sessions(engine)

    def read() -> int:
        wrong = 0
        for _ in range(10):
            for key, content in contents.items():
                wrong += b"".join(home.storage.open(key, 0, len(content))) != content
        return wrong

    children = [Child(read) for _ in range(3)]
    assert [read(), *(child.result() for child in children)] == [0, 0, 0, 0]
    assert sessions(engine) == before


@pytest.mark.long
def test_a_fork_that_python_is_not_told_of(emptied_url: str) -> None:
    """uWSGI forks like this."""
    command = [sys.executable, "-m", "tests.faults.silent", emptied_url]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "[0, 0, 0, 0, 0]\n", done.stderr


@pytest.mark.long
@pytest.mark.parametrize("how", ["close", "forget"])
def test_a_child_that_python_is_not_told_of_ends_and_its_parent_goes_on(
    mongo_uri: str, emptied_url: str, how: str
) -> None:
    command = [sys.executable, "-m", "tests.faults.silent_end", mongo_uri, emptied_url, how]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize("mode", ["dual", "mongo"])
@pytest.mark.parametrize("given", [True, False])
def test_nothing_of_ours_uses_mongodb_before_a_fork(
    make_app: MakeApp, mongo_uri: str, emptied_url: str, mode: str, given: bool
) -> None:
    """PyMongo would say so in each worker."""
    from flask_pymongo import PyMongo

    from flask_dualmedia import DualMedia

    from ..conftest import HOST_CONFIG, close

    app = Flask("host")
    app.config.update(
        HOST_CONFIG, MONGO_URI=mongo_uri, DB_ENABLED=mode == "dual", DUALMEDIA_AUTO_UPGRADE=False
    )
    if mode == "dual":
        app.config["SQLALCHEMY_DATABASE_URI"] = emptied_url
    DualMedia(app, mongo=PyMongo(app) if given else None)

    def work() -> list[str]:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            save_files(app)
        return [str(warning.message) for warning in said]

    assert Child(work).result() == []
    close(app)


@pytest.mark.parametrize("used", [True, False])
def test_greenlets_of_a_process_that_gevent_patches_after_the_app_was_loaded(
    make_app: MakeApp, used: bool
) -> None:
    """gunicorn does so with ``--preload``: first it forks, and then it patches. Nobody waits for a
    lock from before."""
    from gevent import monkey

    app = make_app()
    files = save_files(app) if used else []
    if not used:
        # Half a second after a client was closed, its threads end and leave gevent dead references.
        time.sleep(1)

    def ask(number: int) -> int:
        client = app.test_client()
        path = "/media/health" if number % 2 else "/media/openapi.json"
        wrong = read_files(app, files, number, number=3) if used else 0
        # A busy machine may be too slow for the one second that MongoDB has to say that it is
        # healthy.
        return wrong + (client.get(path).status_code not in (200, 503))

    def work() -> list[int]:
        warnings.simplefilter("ignore")  # that something was imported before
        monkey.patch_all()
        with ThreadPoolExecutor(8) as greenlets:
            return list(greenlets.map(ask, range(8)))

    assert Child(work).result() == [0] * 8


_app: Flask | None = None
_files: list[File] = []


def read_in_process(seed: int) -> int:
    assert _app is not None
    return read_files(_app, _files, seed, number=20)


def set_up_process(config: dict[str, t.Any], files: list[File]) -> None:
    from flask_dualmedia import DualMedia

    global _app, _files
    _app, _files = Flask("host"), files
    _app.config.update(config)
    DualMedia(_app)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.long)])
def test_processes_of_multiprocessing(
    make_app: MakeApp, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    files = save_files(app)
    module = __import__(__name__, fromlist=["_app"])
    monkeypatch.setattr(module, "_app", app)
    monkeypatch.setattr(module, "_files", files)
    context = t.cast("t.Any", multiprocessing.get_context(method))
    names = ("SQLALCHEMY_DATABASE_URI", "MONGO_URI", "JWT_SECRET_KEY", "DUALMEDIA_AUTO_UPGRADE")
    config = {name: app.config[name] for name in names}
    config["SQLALCHEMY_DATABASE_URI"] = str(
        sa.make_url(config["SQLALCHEMY_DATABASE_URI"]).render_as_string(False)
    )
    set_up = (
        {"initializer": set_up_process, "initargs": (config, files)} if method == "spawn" else {}
    )
    with context.Pool(2, **set_up) as processes:
        answers = processes.map_async(read_in_process, range(4))
        assert read_files(app, files, 99) == 0
        assert answers.get(60) == [0] * 4
        processes.close()
        processes.join()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_gunicorn_that_loads_and_uses_the_app_before_it_forks(
    make_app: MakeApp,
    mongo_uri: str,
    migrated_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    files = save_files(make_app(SQLALCHEMY_DATABASE_URI=migrated_url, DUALMEDIA_AUTO_UPGRADE=False))
    log = tmp_path / "reads.log"
    log.touch()
    monkeypatch.setenv("READS_LOG", str(log))
    config = {
        "MONGO_URI": mongo_uri,
        "SQLALCHEMY_DATABASE_URI": migrated_url,
        "DUALMEDIA_AUTO_UPGRADE": False,
    }
    options = ["--preload", "-k", kind, *(["--threads", "4"] if kind == "gthread" else [])]
    workers = Workers(tmp_path, config, app="tests.faults.used:create_app()", options=options)

    def read(number: int) -> bool:
        file = files[number % len(files)]
        start = number * 7 % len(file.content)
        url, headers = f"http://127.0.0.1:{workers.port}{file.url}", {"Connection": "close"}
        if number % 2:
            return requests.get(url, headers=headers, timeout=60).content == file.content
        headers["Range"] = f"bytes={start}-"
        return requests.get(url, headers=headers, timeout=60).content == file.content[start:]

    with running(workers):
        workers.wait()
        before = len(log.read_text().splitlines())
        with ThreadPoolExecutor(16) as threads:
            right = sum(threads.map(read, range(300)))
        reads = log.read_text().splitlines()
    assert right == 300, workers.log_path.read_text()
    assert set(reads) <= {"right"}, reads
    assert len(reads) > before, "the process that forked reads on"
