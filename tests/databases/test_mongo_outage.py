"""The app answers while MongoDB does not, and when it does again."""

from __future__ import annotations

import io
import os
import threading
import time
import traceback
import typing as t
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pymongo
import pytest
from flask import Flask
from flask_pymongo import PyMongo
from werkzeug.test import TestResponse

from flask_dualmedia import (
    DatabaseUnavailable,
    DualMedia,
    MediaConflict,
    save_media_storage,
    save_product_image,
)
from flask_dualmedia.databases import documents
from flask_dualmedia.databases.leases import Lease
from flask_dualmedia.errors import NoConnectionFree, WritesRefused
from flask_dualmedia.models import KINDS, Media, new_id
from flask_dualmedia.state import get_state
from flask_dualmedia.storages import gridfs
from flask_dualmedia.storages.chunked import CHUNK_SIZE
from flask_dualmedia.uploads import staging

from ..conftest import HOST_CONFIG, MakeApp, close, unique
from ..faults.servers import MongoServer
from ..samples import PDF, Tus, bearer, encoded, part, png, post_form
from ..waiting import eventually
from .test_outage import timed

pytestmark = pytest.mark.long

LIMIT = 0.4
"""Seconds that the apps of these tests wait for MongoDB."""

SLACK = 1.5
"""Seconds that a busy machine may add. Without a limit it was fifteen."""


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MongoServer]:
    server = MongoServer(tmp_path_factory.mktemp("mongo"), test_commands=True)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(running_server: MongoServer) -> Iterator[MongoServer]:
    """A MongoDB server that can be stopped, and goes on after the test."""
    yield running_server
    running_server.resume()
    with pymongo.MongoClient(running_server.uri) as client:
        client.admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.fixture
def make_hanging(make_app: MakeApp, server: MongoServer) -> Callable[..., Flask]:
    """Makes apps whose documents are in that server."""
    base, _, _ = server.uri.rpartition("/")

    def make(mode: str = "dual", **config: t.Any) -> Flask:
        settings: dict[str, t.Any] = {
            "DUALMEDIA_MONGO_TIMEOUT": LIMIT,
            "DUALMEDIA_PROBE_INTERVAL": 0.2,
        }
        return make_app(mode, **{"MONGO_URI": f"{base}/{unique('hanging')}"} | settings | config)

    return make


def fail(server: MongoServer, *commands: str, times: int | None = None, **how: t.Any) -> None:
    """Have the server fail these commands from now on, or so many times."""
    with pymongo.MongoClient(server.uri) as client:
        failing = {"failCommands": [*commands], **how}
        client.admin.command(
            "configureFailPoint",
            "failCommand",
            mode={"times": times} if times else "alwaysOn",
            data=failing,
        )


class Site:
    """An app with a public picture, a resumable upload in progress, and somebody who uses them."""

    def __init__(self, app: Flask) -> None:
        self.app, self.client, self.headers = app, app.test_client(), bearer(app, "alice")
        self.admin = bearer(app, "root", role="admin")
        self.state = get_state(app)
        self.product = str(self.state.mongo["products"].insert_one({}).inserted_id)
        self.user = str(self.state.mongo["users"].insert_one({}).inserted_id)
        self.image = self.upload().headers["Location"]
        self.tus = Tus(self.client, self.headers)
        described = {"kind": "files", "referenceType": "user", "referenceId": self.user}
        self.metadata = encoded(described)
        self.begun = self.tus.create(10, Upload_Metadata=self.metadata).headers["Location"]

    def upload(self, **fields: t.Any) -> TestResponse:
        form = {"file": part(png()), "mongoProductId": self.product, "isPublic": "true", **fields}
        return post_form(self.client, self.headers, "/media/product-images", form)

    def get(self, url: str, **headers: str) -> TestResponse:
        return self.client.get(url, headers=self.headers | headers)


READS: dict[str, Callable[[Site], TestResponse]] = {
    "record": lambda site: site.get(site.image),
    "content": lambda site: site.client.get(f"{site.image}/content"),
    "range": lambda site: site.client.get(f"{site.image}/content", headers={"Range": "bytes=2-5"}),
    "list": lambda site: site.get(f"/media/product-images?mongoProductId={site.product}"),
    "list of all": lambda site: site.get("/media/product-images"),
    "stats": lambda site: site.get(
        f"/media/stats?referenceType=product&referenceId={site.product}"
    ),
    "link": lambda site: site.client.post(f"{site.image}/link", headers=site.headers, json={}),
}

NEED_MONGO: dict[str, Callable[[Site], TestResponse]] = {
    "upload": lambda site: site.upload(),
    "external media": lambda site: site.client.post(
        "/media/product-images",
        headers=site.headers,
        json={"imageUrl": "https://a.b/c", "mongoProductId": site.product},
    ),
    "begin a resumable upload": lambda site: site.tus.create(10, Upload_Metadata=site.metadata),
    "begin a part": lambda site: site.tus.create(10, Upload_Concat="partial"),
    "ask for a resumable upload": lambda site: site.tus.head(site.begun),
    "go on with a resumable upload": lambda site: site.tus.patch(site.begun, 0, b"0123456789"),
    "remove a resumable upload": lambda site: site.tus.delete(site.begun),
    "read what SQL does not hold": lambda site: site.get(f"/media/product-images/{new_id()}"),
    "content that SQL does not hold": lambda site: site.get(
        f"/media/product-images/{new_id()}/content"
    ),
    "edit what SQL does not hold": lambda site: site.client.patch(
        f"/media/product-images/{new_id()}", headers=site.headers, json={"altText": "a"}
    ),
    "delete what SQL does not hold": lambda site: site.client.delete(
        f"/media/product-images/{new_id()}", headers=site.headers
    ),
}

CHANGES: dict[str, Callable[[Site], TestResponse]] = {
    "edit": lambda site: site.client.patch(site.image, headers=site.headers, json={"altText": "a"}),
    "replace": lambda site: site.client.put(
        f"{site.image}/content", headers=site.headers, data=png(comment=b"new")
    ),
    "count": lambda site: site.client.post(f"{site.image}/accesses", headers=site.headers),
    "delete": lambda site: site.client.delete(site.image, headers=site.headers),
}


@pytest.fixture
def site(make_hanging: Callable[..., Flask]) -> Site:
    return Site(make_hanging())


def check_refused(response: TestResponse) -> None:
    assert response.status_code == 503, response.text
    assert int(response.headers["Retry-After"]) >= 1
    assert response.request.method == "HEAD" or response.json["code"] == 503  # type: ignore[index]


@pytest.mark.parametrize("name", NEED_MONGO)
def test_what_needs_mongodb_is_refused_in_time(site: Site, server: MongoServer, name: str) -> None:
    server.pause()
    seconds, response = timed(lambda: NEED_MONGO[name](site))
    check_refused(response)
    assert seconds < 2 * LIMIT + SLACK
    seconds, response = timed(lambda: NEED_MONGO[name](site))
    check_refused(response)
    assert seconds < LIMIT, "the second one does not ask"


@pytest.mark.parametrize("name", READS | CHANGES)
def test_what_sql_holds_does_not_wait_for_mongodb(
    site: Site, server: MongoServer, name: str
) -> None:
    assert site.state.circuit is not None
    server.pause()
    site.state.circuit.expect_journal()  # the worst case: lists ask MongoDB too
    seconds, response = timed(lambda: (READS | CHANGES)[name](site))
    assert response.status_code in (200, 201, 204, 206), response.text
    assert seconds < 2 * LIMIT + SLACK
    if name in READS:
        fastest = min(timed(lambda: READS[name](site))[0] for _ in range(5))
        assert fastest < LIMIT / 2, "nothing is asked of MongoDB any more"


@pytest.mark.parametrize("name", ["list", "list of all", "stats"])
def test_lists_say_that_the_journal_may_hold_more(
    site: Site, server: MongoServer, name: str
) -> None:
    assert READS[name](site).json["partial"] is False  # type: ignore[index]
    server.pause()
    assert site.get("/media/health").status_code == 503
    assert READS[name](site).json["partial"] is True  # type: ignore[index]
    server.resume()
    eventually(lambda: READS[name](site).json["partial"] is False, 10)  # type: ignore[index]


def test_the_default_limit_is_two_seconds(
    make_hanging: Callable[..., Flask], server: MongoServer
) -> None:
    site = Site(make_hanging(DUALMEDIA_MONGO_TIMEOUT=2))
    server.pause()
    seconds, response = timed(site.upload)
    check_refused(response)
    assert 1.9 < seconds < 3.5


def test_requests_that_meet_the_outage_together_end_together(
    site: Site, server: MongoServer
) -> None:
    server.pause()
    head = {**site.headers, "Tus-Resumable": "1.0.0", "X-HTTP-Method-Override": "HEAD"}

    def ask(_: int) -> float:
        client = site.app.test_client()
        return timed(lambda: client.get(site.begun, headers=head))[0]

    with ThreadPoolExecutor(8) as pool:
        times = list(pool.map(ask, range(8)))
    assert max(times) < 2 * LIMIT + SLACK


def test_health_says_at_once_that_mongodb_does_not_answer(site: Site, server: MongoServer) -> None:
    server.pause()
    for headers in ({}, site.admin):
        seconds, response = timed(
            lambda headers=headers: site.client.get("/media/health", headers=headers)
        )
        assert response.status_code == 503
        assert (response.json["mongo"]["ok"], response.json["sql"]["ok"]) == (False, True)
        assert response.json["journal"] is None
        assert seconds < LIMIT + SLACK
    server.resume()
    eventually(lambda: site.client.get("/media/health").status_code == 200, 10)


def test_status_shows_what_answers(site: Site, server: MongoServer) -> None:
    server.pause()
    seconds, shown = timed(lambda: site.app.test_cli_runner().invoke(args=["dualmedia", "status"]))
    assert shown.exit_code == 0, shown.output
    assert "MongoDB does not answer" in shown.output
    assert "1 product-images" in shown.output
    assert seconds < 2 * LIMIT + SLACK


@pytest.mark.parametrize("command", ["check", "sweep", "drain"])
def test_commands_end_in_time(site: Site, server: MongoServer, command: str) -> None:
    server.pause()
    seconds, ended = timed(lambda: site.app.test_cli_runner().invoke(args=["dualmedia", command]))
    assert ended.exit_code == 1
    assert ended.output.startswith("Error: MongoDB does not answer"), ended.output
    assert seconds < 3 * LIMIT + SLACK


def test_everything_works_again_in_a_few_seconds(site: Site, server: MongoServer) -> None:
    server.pause()
    check_refused(site.upload())
    server.resume()
    eventually(lambda: site.upload(isMainImage="false").status_code == 201, 5)
    assert site.tus.patch(site.begun, 0, PDF[:10]).status_code == 204
    assert not site.state.mongo.circuit.is_open
    assert documents.WATCHER not in [thread.name for thread in threading.enumerate()]


@pytest.mark.parametrize("mode", ["dual", "mongo"])
def test_nothing_piles_up_while_it_hangs(
    make_hanging: Callable[..., Flask], server: MongoServer, mode: str
) -> None:
    site = Site(make_hanging(mode))
    everything = [*READS.values(), *NEED_MONGO.values()]

    def load() -> tuple[int, int]:
        with ThreadPoolExecutor(4) as pool:
            for response in pool.map(lambda call: call(site), everything * 3):
                response.close()
        process = psutil.Process()
        open_connections = [
            one for one in process.net_connections("tcp") if one.status == "ESTABLISHED"
        ]
        return threading.active_count(), len(open_connections)

    before = load()
    server.pause()
    load()
    first = load()
    time.sleep(1)
    second = load()
    for now, then in ((first, before), (second, first)):
        assert now[0] <= then[0] + 2
        assert now[1] <= then[1] + 2
    server.resume()
    eventually(lambda: site.client.get("/media/health").status_code == 200, 10)


@pytest.mark.parametrize("window", [0, 1800])
@pytest.mark.parametrize("mode", ["dual", "mongo"])
def test_reads_are_counted_exactly_afterwards(
    make_hanging: Callable[..., Flask], server: MongoServer, mode: str, window: float
) -> None:
    site = Site(make_hanging(mode, DUALMEDIA_COUNT_WINDOW=window, DUALMEDIA_COUNT_INTERVAL=0.1))
    counter, image = site.state.counter, media_of(site)
    assert counter is not None
    for number in range(20):
        if number == 5:
            server.pause()
        counter.note(type(image), image.id, f"reader {number}")
        time.sleep(0.1)  # the thread writes down some of them before, and tries to meanwhile
    server.resume()
    eventually(lambda: counter.waiting() == 0, 10)
    assert media_of(site).access_count == 20


def media_of(site: Site) -> Media:
    import uuid

    kind = KINDS["product-images"]
    found = site.state.repository.find(kind, uuid.UUID(site.image.rpartition("/")[2]))
    assert found is not None
    return found


@pytest.mark.parametrize("name", READS | CHANGES | NEED_MONGO)
def test_without_sql_everything_is_refused_in_time(
    make_hanging: Callable[..., Flask], server: MongoServer, name: str
) -> None:
    site = Site(make_hanging("mongo"))
    server.pause()
    seconds, response = timed(lambda: (READS | CHANGES | NEED_MONGO)[name](site))
    check_refused(response)
    assert seconds < 2 * LIMIT + SLACK
    seconds, response = timed(lambda: (READS | CHANGES | NEED_MONGO)[name](site))
    check_refused(response)
    assert seconds < LIMIT


@pytest.mark.parametrize("mode", ["dual", "mongo"])
def test_an_app_starts_while_mongodb_hangs(
    make_hanging: Callable[..., Flask], server: MongoServer, mode: str
) -> None:
    server.pause()
    seconds, app = timed(lambda: make_hanging(mode))
    assert seconds < 2 * LIMIT + SLACK
    check_refused(
        app.test_client().get("/media/files", headers=bearer(app, "alice"))
    ) if mode == "mongo" else None
    server.resume()
    eventually(lambda: app.test_client().get("/media/health").status_code == 200, 10)
    Site(app)


def test_a_forked_worker_finds_out_for_itself(site: Site, server: MongoServer) -> None:
    server.pause()
    check_refused(site.upload())
    assert site.state.mongo.circuit.is_open
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            check_refused(site.upload())
            server.resume()
            eventually(lambda: site.client.get("/media/health").json["mongo"]["ok"], 10)  # type: ignore[index]
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class Interrupted(io.BytesIO):
    """A body in the middle of which MongoDB stops."""

    def __init__(self, server: MongoServer, content: bytes) -> None:
        super().__init__(content)
        self._server = server

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > len(self.getvalue()) / 2:
            self._server.pause()
            time.sleep(0.2)
        return super().read(size)


def test_sql_is_not_taken_to_be_gone_for_it(
    site: Site,
    server: MongoServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The lock of a resumable upload is renewed in MongoDB while SQL takes its bytes."""
    monkeypatch.setattr(staging, "LOCK_SECONDS", 0.3)
    size = 1024 * 1024
    url = site.tus.create(size, Upload_Metadata=site.metadata).headers["Location"]
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": "application/offset+octet-stream",
    }
    response = site.client.patch(
        url,
        headers=site.headers | headers,
        input_stream=Interrupted(server, bytes(size)),
        environ_overrides={"CONTENT_LENGTH": str(size)},
    )
    check_refused(response)
    assert "MongoDB" in response.json["message"]  # type: ignore[index]
    assert "PostgreSQL does not answer" not in caplog.text
    assert site.get(site.image).status_code == 200


def test_the_hosts_client_keeps_its_own_settings(
    make_hanging: Callable[..., Flask], server: MongoServer, emptied_url: str
) -> None:
    """Neither do our limits hold for the host's calls, nor is a limit of the host's taken for an
    outage."""
    app, mongo = Flask("host"), PyMongo()
    app.config.update(HOST_CONFIG, MONGO_URI=server.uri, SQLALCHEMY_DATABASE_URI=emptied_url)
    app.config.update(DUALMEDIA_MONGO_TIMEOUT=LIMIT, DUALMEDIA_AUTO_UPGRADE=False)
    mongo.init_app(app, f"{server.uri}?readPreference=secondaryPreferred&w=0")
    assert mongo.cx is not None
    assert mongo.db is not None
    before = mongo.cx.options
    try:
        DualMedia(app, mongo=mongo)
        state = get_state(app)
        assert mongo.cx.options is before
        assert mongo.cx.options.timeout is None
        assert mongo.db.read_preference.mongos_mode == "secondaryPreferred"
        assert state.mongo.read_preference.mongos_mode == "primary"
        fail(server, "find", blockConnection=True, blockTimeMS=int(LIMIT * 2000))
        mongo.db["products"].find_one()
        with app.app_context(), pymongo.timeout(0.01), pytest.raises(DatabaseUnavailable):
            save_media_storage("user", "nobody", PDF)
        assert not state.mongo.circuit.is_open
    finally:
        close(app)


def test_uploads_wait_for_mongodb_side_by_side(
    make_hanging: Callable[..., Flask], server: MongoServer
) -> None:
    """Those that come to the journal while MongoDB answers, but writes nothing."""

    def save(_: int) -> float:
        began = time.monotonic()
        with app.app_context(), pytest.raises(DatabaseUnavailable):
            save_product_image("1", "https://cdn.example/a.jpg")
        return time.monotonic() - began

    app = make_hanging(DUALMEDIA_REFERENCES={"product": None})
    circuit = get_state(app).circuit
    assert circuit is not None
    circuit.refuse_writes(WritesRefused("PostgreSQL", "is read-only"))
    fail(server, "update", blockConnection=True, blockTimeMS=5000)
    with ThreadPoolExecutor(12) as executor:
        assert max(executor.map(save, range(12))) < LIMIT + SLACK


def test_a_lease_is_one_processs_alone_whatever_the_hosts_client_awaits(
    server: MongoServer, emptied_url: str
) -> None:
    app, mongo = Flask("host"), PyMongo()
    app.config.update(
        HOST_CONFIG, SQLALCHEMY_DATABASE_URI=emptied_url, DUALMEDIA_AUTO_UPGRADE=False
    )
    mongo.init_app(app, f"{server.uri}?readPreference=secondaryPreferred&w=0")
    try:
        DualMedia(app, mongo=mongo)
        name = unique("work")
        assert Lease(get_state(app).mongo, name).take()
        assert not Lease(get_state(app).mongo, name).take()
    finally:
        close(app)


def test_a_slow_call_is_no_outage(
    site: Site, server: MongoServer, caplog: pytest.LogCaptureFixture
) -> None:
    fail(server, "find", blockConnection=True, blockTimeMS=int(LIMIT * 5000))
    seconds, response = timed(lambda: site.tus.head(site.begun))
    check_refused(response)
    assert seconds < 2 * LIMIT + SLACK
    assert not site.state.mongo.circuit.is_open
    with pymongo.MongoClient(server.uri) as client:
        client.admin.command("configureFailPoint", "failCommand", mode="off")
    assert site.tus.head(site.begun).status_code == 200
    assert "refused until" not in caplog.text


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (13, "MongoDB does not allow it to our account"),
        (18, "MongoDB does not accept our account"),
        (50, "MongoDB took too long"),
        (14031, "MongoDB has no space left on its disk"),
        (125, "MongoDB refused an operation (code 125)"),
    ],
)
@pytest.mark.parametrize("command", ["find", "insert", "update"])
def test_a_refusal_is_no_outage(
    make_hanging: Callable[..., Flask], server: MongoServer, code: int, reason: str, command: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    site = Site(make_hanging("mongo", DUALMEDIA_COUNT_READS=False))
    calls = {
        "find": READS["record"],
        "insert": NEED_MONGO["external media"],
        "update": CHANGES["count"],
    }
    fail(server, command, errorCode=code)
    for _ in range(3):
        response = calls[command](site)
        check_refused(response)
        assert response.json["message"] == reason  # type: ignore[index]
    assert not site.state.mongo.circuit.is_open
    assert caplog.text.count(reason) <= 1


@pytest.mark.parametrize(
    ("how", "calls"),
    [
        ({"closeConnection": True}, ("record", "external media", "count")),
        ({"errorCode": 10107}, ("record", "count")),
    ],
)
def test_one_lost_connection_or_primary_costs_one_request_at_most(
    make_hanging: Callable[..., Flask],
    server: MongoServer,
    how: dict[str, t.Any],
    calls: tuple[str, ...],
) -> None:
    site = Site(make_hanging("mongo", DUALMEDIA_COUNT_READS=False, DUALMEDIA_MONGO_TIMEOUT=2))
    for name in calls:
        fail(server, "find", "insert", "update", times=1, **how)
        assert (READS | NEED_MONGO | CHANGES)[name](site).status_code in (200, 201, 204, 503)
        eventually(
            lambda name=name: (
                (READS | NEED_MONGO | CHANGES)[name](site).status_code in (200, 201, 204)
            ),
            12,
        )


@pytest.mark.parametrize("number", [1, 2])
def test_a_write_that_no_majority_confirmed_is_no_success(
    make_hanging: Callable[..., Flask], server: MongoServer, number: int
) -> None:
    site = Site(make_hanging("mongo"))
    error = {
        "code": 64,
        "errmsg": "waiting for replication timed out",
        "errInfo": {"wtimeout": True},
    }
    fail(server, "insert", writeConcernError=error)
    kind = KINDS["files"]
    values = {
        "reference_type": "user",
        "reference_id": site.user,
        "media_type": "image",
        "storage_type": "external",
    }
    records = [kind.new(uploaded_by=None, **values) for _ in range(number)]
    with pytest.raises(DatabaseUnavailable, match="did not confirm"):
        site.state.repository.add_all(records) if number > 1 else site.state.repository.add(
            records[0]
        )
    assert not site.state.mongo.circuit.is_open


def test_a_busy_pool_is_no_outage(make_hanging: Callable[..., Flask], server: MongoServer) -> None:
    base, _, _ = server.uri.rpartition("/")
    app = make_hanging(
        "mongo", DUALMEDIA_COUNT_READS=False, MONGO_URI=f"{base}/{unique('busy')}?maxPoolSize=1"
    )
    state = get_state(app)
    fail(server, "find", blockConnection=True, blockTimeMS=int(LIMIT * 2000))
    with ThreadPoolExecutor(1) as pool:
        hosts_own = pool.submit(state.mongo["products"].find_one)
        eventually(hosts_own.running, 5)
        time.sleep(LIMIT / 4)
        with pytest.raises(NoConnectionFree), state.mongo.asked():
            state.mongo["products"].find_one()
    assert not state.mongo.circuit.is_open


def test_calls_of_the_host_that_hang_do_not_keep_ours_waiting(
    make_hanging: Callable[..., Flask], server: MongoServer
) -> None:
    """They take every connection there is, so that ours gets none to ask by."""
    base, _, _ = server.uri.rpartition("/")
    site = Site(make_hanging(MONGO_URI=f"{base}/{unique('busy')}?maxPoolSize=2"))
    server.pause()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(site.state.mongo["products"].find_one)
        time.sleep(LIMIT / 2)
        check_refused(site.upload())
        seconds, response = timed(site.upload)
        server.resume()
    check_refused(response)
    assert seconds < LIMIT


def test_a_conflict_is_still_a_conflict(site: Site) -> None:
    with pytest.raises(MediaConflict), site.state.mongo.asked():
        site.state.mongo["products"].insert_many([{"_id": 1}, {"_id": 1}])
    with pytest.raises(MediaConflict), site.state.mongo.asked():
        site.state.mongo["products"].insert_one({"_id": 1})


def test_keys_are_listed_in_pages_without_a_limit_for_their_reader(
    make_hanging: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gridfs, "KEYS_AT_ONCE", 3)
    storage = get_state(make_hanging("mongo")).storages["database"]
    for number in range(7):
        storage.put(f"key-{number}", [b"content"])
    keys = []
    for key in storage.keys():  # noqa: SIM118 - of a storage
        keys.append(key)
        time.sleep(LIMIT / 3)
    assert keys == [f"key-{number}" for number in range(7)]


def test_large_files_are_deleted_in_several_steps(
    make_hanging: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gridfs, "DELETED_AT_ONCE", 2)
    state = get_state(make_hanging("mongo"))
    storage = t.cast(gridfs.GridFSStorage, state.storages["database"])
    chunks = state.mongo[f"{gridfs.BUCKET}.chunks"]
    storage.put("whole", [bytes(CHUNK_SIZE * 4 + 1)])
    storage.put("cut short", [bytes(CHUNK_SIZE * 4)])
    state.mongo[f"{gridfs.BUCKET}.files"].delete_one({"_id": "cut short"})
    assert chunks.count_documents({}) == 9
    assert storage.discard("whole") is True
    assert storage.discard("whole") is False
    assert storage.discard("cut short") is False
    assert chunks.count_documents({}) == 0


def test_sizes_of_many_files_are_found_in_several_steps(
    make_hanging: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gridfs, "COUNTED_AT_ONCE", 2)
    storage = get_state(make_hanging("mongo")).storages["database"]
    sizes = {f"key-{number}": number * CHUNK_SIZE + 1 for number in range(5)}
    for key, size in sizes.items():
        storage.put(key, [bytes(size)])
    stats = storage.stats([*sizes])
    assert {key: stat.size for key, stat in stats.items()} == sizes
    assert all(stat.complete for stat in stats.values())
