"""Hosts whose clocks are wrong, one an hour ahead and one an hour behind, on the same databases."""

from __future__ import annotations

import functools
import http.client
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
import typing as t
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import pymongo
import pytest
from flask import Flask
from werkzeug.test import encode_multipart

from flask_dualmedia import (
    DualMedia,
    MediaStorage,
    get_media,
    lifecycle,
    links,
    revoke_links,
    save_media_storage,
    signed_url,
)
from flask_dualmedia.databases import clock
from flask_dualmedia.databases.clock import Clock
from flask_dualmedia.databases.collections import FINDINGS
from flask_dualmedia.errors import DatabaseUnavailable
from flask_dualmedia.lifecycle import changes
from flask_dualmedia.models import new_id, now
from flask_dualmedia.state import State, get_state
from flask_dualmedia.storages.base import new_key, owner_of_key
from flask_dualmedia.upkeep.check.checker import Checker
from flask_dualmedia.uploads.staging import COLLECTION as UPLOADS

from ..conftest import HOST_CONFIG, Databases, ServerUrls, close, mongo_uri_for, unique
from ..faults.host import CONFIG
from ..faults.servers import ROOT, Workers, bearer, running
from ..samples import OFFSET_TYPE, counting, encoded, part
from ..tools.clocks import skewed_environment
from ..tools.mongo_proxy import MongoProxy
from ..waiting import eventually

HOUR = 3600

OLD, NEW = b"%PDF-1.7 old", b"%PDF-1.7" + counting(6 * 1024 * 1024)
SENT = 5 * 1024 * 1024
"""Bytes of the new content after which a database has got some of it."""

METADATA = encoded({"kind": "files", "referenceType": "page", "referenceId": "4"})

TAKE_LEASE = """
import sys
from flask_dualmedia.databases import leases
from flask_dualmedia.state import get_state
from tests.faults.host import create_app

leases.SECONDS = float(sys.argv[2])
lease = leases.Lease(get_state(create_app()).mongo, sys.argv[1])
print(lease.take(), flush=True)
sys.stdin.read()
"""


ADD_PENDING = """
import sys
from flask_dualmedia import MediaStorage
from flask_dualmedia.state import get_state
from tests.faults.host import create_app

app = create_app()
with app.app_context():
    record = MediaStorage.new(
        reference_type="page", reference_id="1", media_type="image", storage_type="database"
    )
    get_state(app).repository.add(record)
print(record.id, flush=True)
sys.stdin.read()
"""


class Answer(t.NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> t.Any:
        return json.loads(self.body)


class Host:
    """One machine, as far as its clock is concerned.

    :param skew: Seconds that it is ahead.
    """

    def __init__(self, directory: Path, config: dict[str, str], skew: float) -> None:
        self.skew = skew
        self.workers = Workers(directory, config, count=1, skew=skew, options=("--threads", "8"))
        variables = os.environ | {f"FLASK_{name}": value for name, value in config.items()}
        self._environment = skewed_environment(skew, variables)
        self._token = bearer("alice")

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request with a token."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._send(method, path, body, self._token | named)

    def read(self, path: str) -> Answer:
        """Send a request without a token."""
        return self._send("GET", path, None, {})

    def upload(self, content: bytes, *, is_public: bool = False) -> dict[str, t.Any]:
        boundary, body = encode_multipart(
            {
                "file": part(content),
                "referenceType": "page",
                "referenceId": "1",
                "isPublic": "true" if is_public else "false",
            }
        )
        answer = self.send(
            "POST", "/media/files", body, Content_Type=f"multipart/form-data; boundary={boundary}"
        )
        assert answer.status == 201, answer.body
        return answer.json

    @contextmanager
    def sending(
        self, method: str, path: str, content: bytes, content_type: str
    ) -> Iterator[Callable[[], Answer]]:
        """A request whose body comes only in part; the function sends the rest."""
        with self._connection() as connection:
            connection.putrequest(method, path)
            headers = self._token | {
                "Content-Type": content_type,
                "Content-Length": str(len(content)),
            }
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(content[:SENT])

            def finish() -> Answer:
                connection.send(content[SENT:])
                return _answer(connection)

            yield finish

    def tidy(self) -> str:
        """Take away all that seems to be left behind, however much it is."""
        output = self._flask("check", "--repair")
        found = re.search(r"--force --expect (\d+)", output)
        if found:
            output += self._flask("check", "--repair", "--force", "--expect", found[1])
        return output + self._flask("sweep")

    @contextmanager
    def lease(self, name: str, seconds: float) -> Iterator[bool]:
        """Whether a process on this host gets a lease. It is killed in the end, and cannot give it
        back."""
        with self.python(TAKE_LEASE, name, str(seconds)) as printed:
            yield printed == "True"

    @contextmanager
    def python(self, code: str, *args: str) -> Iterator[str]:
        """The line that a program on this host prints. It is killed in the end."""
        process = subprocess.Popen(
            [sys.executable, "-c", code, *args],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            yield t.cast("t.TextIO", process.stdout).readline().strip()
        finally:
            process.kill()
            process.communicate()

    def _flask(self, *args: str) -> str:
        command = [
            sys.executable,
            "-m",
            "flask",
            "--app",
            "tests.faults.host:create_app",
            "dualmedia",
            *args,
        ]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=120
        )
        return done.stdout + done.stderr

    def _send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        with self._connection() as connection:
            connection.request(method, path, body, headers)
            return _answer(connection)

    @contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection("127.0.0.1", self.workers.port, timeout=60)
        try:
            yield connection
        finally:
            connection.close()


def _answer(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


class Deployment(t.NamedTuple):
    behind: Host
    ahead: Host
    app: Flask
    """An app whose clock is right."""

    @property
    def pairs(self) -> tuple[tuple[Host, Host], tuple[Host, Host]]:
        return (self.behind, self.ahead), (self.ahead, self.behind)


@contextmanager
def observing(config: dict[str, str]) -> Iterator[Flask]:
    app = Flask("observer")
    app.config.update(HOST_CONFIG, **CONFIG)
    app.config.update({name: value for name, value in config.items() if name != "DB_ENABLED"})
    app.config["DB_ENABLED"] = "SQLALCHEMY_DATABASE_URI" in config
    DualMedia(app)
    try:
        yield app
    finally:
        close(app)


def configuration(mongo_uri: str, sql_url: str | None) -> dict[str, str]:
    config = {
        "MONGO_URI": mongo_uri,
        "JWT_DECODE_LEEWAY": "7200",
        "DUALMEDIA_COUNT_INTERVAL": "0.2",
    }
    config["DUALMEDIA_UPLOAD_EXPIRES"] = str(HOUR // 2)
    if sql_url is None:
        return config | {"DB_ENABLED": "false"}
    return config | {"SQLALCHEMY_DATABASE_URI": sql_url, "DUALMEDIA_AUTO_UPGRADE": "false"}


@pytest.fixture(scope="module", params=["dual", "mongo"])
def deployment(
    request: pytest.FixtureRequest,
    servers: ServerUrls,
    worker_databases: Databases,
    template_database: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """Hosts that are two hours apart, on databases of their own."""
    name, url = unique("clocks"), None
    if request.param == "dual":
        url = worker_databases.create(name, template=template_database).render_as_string(
            hide_password=False
        )
    config = configuration(mongo_uri_for(servers, name), url)
    directory = tmp_path_factory.mktemp("clocks")
    behind, ahead = Host(directory, config, -HOUR), Host(directory, config, HOUR)
    with ExitStack() as stack:
        client = stack.enter_context(pymongo.MongoClient(config["MONGO_URI"]))
        stack.callback(client.drop_database, name)
        for host in (behind, ahead):
            stack.enter_context(running(host.workers))
        for host in (behind, ahead):
            host.workers.wait()
        yield Deployment(behind, ahead, stack.enter_context(observing(config)))


def wait_for_bytes(state: State, before: set[str]) -> str:
    """Wait until a storage holds bytes of an upload that goes on; their key."""
    storage = state.storages["database"]
    return eventually(lambda: {*storage.keys()} - before, 30).pop()


def new_link(host: Host, path: str, seconds: int = 600) -> str:
    body = json.dumps({"expiresIn": seconds}).encode()
    answer = host.send("POST", f"{path}/link", body, Content_Type="application/json")
    assert answer.status == 201, answer.body
    return answer.json["url"]


def wait_until(is_so: Callable[[], bool]) -> None:
    eventually(is_so, 30)


@pytest.mark.faketime
def test_a_running_replacement_survives_a_check_and_a_sweep_on_another_host(
    deployment: Deployment,
) -> None:
    state = get_state(deployment.app)
    for host, other in deployment.pairs:
        path = f"/media/files/{host.upload(OLD)['id']}/content"
        before = {*state.storages["database"].keys()}
        with host.sending("PUT", path, NEW, "application/pdf") as finish:
            key = wait_for_bytes(state, before)
            output = other.tidy()
            assert key in {*state.storages["database"].keys()}, output
            assert finish().status == 200
        assert [one.send("GET", path).body == NEW for one in (host, other)] == [True, True], output


@pytest.mark.faketime
def test_a_record_that_is_pending_survives_a_check_and_a_sweep_on_another_host(
    deployment: Deployment,
) -> None:
    repository = get_state(deployment.app).repository
    for host, other in deployment.pairs:
        with host.python(ADD_PENDING) as printed:
            media_id = uuid.UUID(printed)
        output = other.tidy()
        assert repository.find(MediaStorage, media_id) is not None, output
        repository.remove(MediaStorage, media_id)


@pytest.mark.faketime
def test_what_is_left_is_taken_away_after_the_grace_time_and_not_an_hour_later(
    deployment: Deployment,
) -> None:
    """One host has seen it before."""
    state = get_state(deployment.app)
    old = now() - timedelta(seconds=state.settings.grace + 60)
    for host, other in deployment.pairs:
        left = MediaStorage.new(
            reference_type="page",
            reference_id="3",
            media_type="image",
            storage_type="database",
            updated_at=old,
        )
        state.repository.add(left)
        other.tidy()
        assert state.repository.find(MediaStorage, left.id) is not None
        state.collections.get(FINDINGS).update_many({}, {"$set": {"since": old}})  # time passes
        output = host.tidy()
        assert state.repository.find(MediaStorage, left.id) is None, output


@pytest.mark.faketime
def test_what_hosts_make_carries_the_same_time(deployment: Deployment) -> None:
    state = get_state(deployment.app)
    for host in (deployment.behind, deployment.ahead):
        made = host.upload(OLD)
        record = state.repository.find(MediaStorage, uuid.UUID(made["id"]))
        assert record is not None
        owner = owner_of_key(t.cast("str", record.storage_key))
        assert owner is not None
        time_of_id = datetime.fromtimestamp((record.id.int >> 80) / 1000, UTC)
        for stamp in (record.created_at, record.updated_at, time_of_id, owner[1]):
            assert abs(stamp - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.faketime
def test_a_lease_is_neither_stolen_nor_held_by_the_dead(deployment: Deployment) -> None:
    for host, other in deployment.pairs:
        name = unique("work")
        with host.lease(name, 60) as is_ours, other.lease(name, 60) as is_stolen:
            assert (is_ours, is_stolen) == (True, False)
        name = unique("work")
        with host.lease(name, 2) as is_ours:
            assert is_ours
        time.sleep(2.5)
        with other.lease(name, 2) as is_free:
            assert is_free


@pytest.mark.faketime
def test_a_resumable_upload_goes_on_at_another_host(deployment: Deployment) -> None:
    content = b"%PDF-1.7" + counting(1000)
    for host, other in deployment.pairs:
        begun = host.send(
            "POST",
            "/media/uploads",
            Tus_Resumable="1.0.0",
            Upload_Length=str(len(content)),
            Upload_Metadata=METADATA,
        )
        assert begun.status == 201, begun.body
        path = urlsplit(begun.headers["Location"]).path
        expected = datetime.now(UTC) + timedelta(seconds=HOUR / 2)
        assert abs(parsedate_to_datetime(begun.headers["Upload-Expires"]) - expected) < timedelta(
            minutes=1
        )
        for sender, start, stop in ((host, 0, 500), (other, 500, len(content))):
            answer = sender.send(
                "PATCH",
                path,
                content[start:stop],
                Tus_Resumable="1.0.0",
                Upload_Offset=str(start),
                Content_Type=OFFSET_TYPE,
            )
            assert answer.status == 204, answer.body
        made = answer.headers["Content-Location"]
        assert other.send("GET", f"{made}/content").body == content


@pytest.mark.faketime
def test_a_resumable_upload_expires_on_every_host_at_the_same_time(deployment: Deployment) -> None:
    uploads = get_state(deployment.app).mongo[UPLOADS]
    for host, other in deployment.pairs:
        begun = host.send(
            "POST",
            "/media/uploads",
            Tus_Resumable="1.0.0",
            Upload_Length="10",
            Upload_Metadata=METADATA,
        )
        path = urlsplit(begun.headers["Location"]).path
        assert [one.send("HEAD", path, Tus_Resumable="1.0.0").status for one in (host, other)] == [
            200,
            200,
        ]
        passed = datetime.now(UTC) - timedelta(minutes=1)
        uploads.update_one({"_id": uuid.UUID(path[-36:])}, {"$set": {"expires_at": passed}})
        assert [one.send("HEAD", path, Tus_Resumable="1.0.0").status for one in (host, other)] == [
            410,
            410,
        ]


@pytest.mark.faketime
def test_a_link_holds_on_every_host_and_ends_on_all(deployment: Deployment) -> None:
    for host, other in deployment.pairs:
        path = f"/media/files/{host.upload(OLD)['id']}"
        url = new_link(host, path)
        assert [one.read(url).status for one in (host, other)] == [200, 200]
        short = new_link(host, path, seconds=1)
        time.sleep(1.5)
        assert [one.read(short).status for one in (host, other)] == [403, 403]


@pytest.mark.faketime
def test_a_revocation_on_one_host_ends_the_links_of_another(deployment: Deployment) -> None:
    for host, other in deployment.pairs:
        path = f"/media/files/{host.upload(OLD)['id']}"
        made = []
        for _ in range(2):
            made.append(new_link(host, path))
            made.append(new_link(other, path))
            assert [host.read(url).status for url in made] == [403] * (len(made) - 2) + [200, 200]
            assert other.send("DELETE", f"{path}/link").status == 204
            for one in (host, other):
                assert [one.read(url).status for url in made] == [403] * len(made)
        again = [new_link(host, path), new_link(other, path)]
        for one in (host, other):
            assert [one.read(url).status for url in again] == [200, 200]


@pytest.mark.faketime
def test_a_reader_of_two_hosts_counts_once(deployment: Deployment) -> None:
    repository = get_state(deployment.app).repository

    def count(media: dict[str, t.Any]) -> int:
        record = repository.get(MediaStorage, uuid.UUID(media["id"]))
        return -1 if record is None else record.access_count

    for host, other in deployment.pairs:
        media = host.upload(OLD, is_public=True)
        for one in (host, other, host):
            after = host.upload(OLD, is_public=True)
            for read in (media, after):
                assert one.read(f"/media/files/{read['id']}/content").status == 200
            # A process writes down what it noted in order.
            wait_until(functools.partial(lambda marker: count(marker) == 1, after))
            assert count(media) == 1


@pytest.mark.faketime
def test_a_host_that_starts_without_mongodb_takes_the_time_of_postgresql(
    servers: ServerUrls, mongo_uri: str, migrated_url: str, tmp_path: Path
) -> None:
    config = configuration(mongo_uri, migrated_url)
    with ExitStack() as stack:
        proxy = stack.enter_context(MongoProxy(mongo_uri))
        proxy.refuse()
        host = Host(tmp_path, config | {"MONGO_URI": proxy.uri}, -HOUR)
        app = stack.enter_context(observing(config))
        with app.app_context():
            record = save_media_storage(
                "page", "1", io.BytesIO(OLD), filename="old.pdf", uploaded_by="alice"
            )
        state = get_state(app)
        stack.enter_context(running(host.workers))
        host.workers.wait()
        path = f"/media/files/{record.id}/content"
        before = {*state.storages["database"].keys()}
        with host.sending("PUT", path, NEW, "application/pdf") as finish:
            wait_for_bytes(state, before)
            with app.app_context():
                Checker(state, repair=True, approve=lambda decision: True).run()
            assert finish().status == 200
        assert host.send("GET", path).body == NEW


# The clock of one process.


@pytest.fixture
def wrong_wall_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Puts the clock of this host forward by so many seconds."""
    right = time.time

    def put_forward(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: right() + seconds)

    return put_forward


def is_right(moment: datetime) -> bool:
    return abs(moment - datetime.now(UTC)) < timedelta(seconds=30)


def test_a_clock_that_was_set_changes_nothing(
    app: Flask, context: None, wrong_wall_clock: Callable[[float], None]
) -> None:
    wrong_wall_clock(HOUR)
    record = MediaStorage.new()
    assert is_right(now())
    assert is_right(record.created_at)
    assert is_right(datetime.fromtimestamp((record.id.int >> 80) / 1000, UTC))
    assert is_right(t.cast("tuple[t.Any, datetime]", owner_of_key(new_key(record.id)))[1])


def test_background_threads_know_the_time_too(
    app: Flask, wrong_wall_clock: Callable[[float], None]
) -> None:
    wrong_wall_clock(-HOUR)
    assert is_right(now())


def test_the_time_of_the_host_counts_only_while_no_database_has_told_it(
    wrong_wall_clock: Callable[[float], None],
) -> None:
    def away() -> None:
        raise DatabaseUnavailable("MongoDB")

    wrong_wall_clock(HOUR)
    clock_of_app = Clock(away)
    assert clock_of_app.now() - datetime.now(UTC) > timedelta(minutes=59)
    tell(clock_of_app, is_mongo=False)
    assert is_right(clock_of_app.now())
    assert not clock_of_app.is_measured
    tell(clock_of_app, ahead=60)
    assert clock_of_app.is_measured
    assert clock_of_app.now() - datetime.now(UTC) > timedelta(seconds=59)
    tell(clock_of_app, is_mongo=False)
    assert clock_of_app.now() - datetime.now(UTC) > timedelta(seconds=59)


def test_time_that_the_machine_slept_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    count = clock.elapsed
    clock_of_app = Clock(lambda: None)
    tell(clock_of_app)
    monkeypatch.setattr(clock, "elapsed", lambda: count() + 8 * HOUR)
    assert clock_of_app.now() - datetime.now(UTC) > timedelta(hours=7)


def test_a_step_of_the_database_is_followed_at_once(caplog: pytest.LogCaptureFixture) -> None:
    clock_of_app = Clock(lambda: None)
    for ahead in (0, HOUR, -HOUR):
        tell(clock_of_app, ahead=ahead)
        assert is_right(clock_of_app.now() - timedelta(seconds=ahead))
    assert [round(float(message.split()[-2]) / HOUR) for message in caplog.messages] == [1, -2]


def test_slow_answers_do_not_move_the_clock() -> None:
    clock_of_app = Clock(lambda: None)
    tell(clock_of_app)
    for ahead in (-0.9, 0.9):
        before = clock_of_app.seconds() - clock.elapsed()
        tell(clock_of_app, ahead=ahead, took=2)
        assert abs(clock_of_app.seconds() - clock.elapsed() - before) < 0.1


def test_nobody_waits_while_the_time_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, asked = threading.Event(), threading.Event()

    def ask() -> None:
        asked.set()
        answered.wait(20)
        tell(clock_of_app, ahead=HOUR)

    clock_of_app = Clock(ask)
    tell(clock_of_app)
    count = clock.elapsed
    monkeypatch.setattr(clock, "elapsed", lambda: count() + clock.INTERVAL + 1)
    for _ in range(3):
        assert clock_of_app.now() - datetime.now(UTC) < timedelta(minutes=2)
    assert asked.wait(20)
    answered.set()
    wait_until(lambda: clock_of_app.now() - datetime.now(UTC) > timedelta(minutes=50))


def test_a_forked_process_knows_the_time(
    app: Flask, wrong_wall_clock: Callable[[float], None]
) -> None:
    wrong_wall_clock(HOUR)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if is_right(now()) else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_ids_sort_by_the_order_they_were_made(context: None) -> None:
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(set(ids))
    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}


def tell(
    clock_of_app: Clock, *, ahead: float = 0, took: float = 0.0, is_mongo: bool = True
) -> None:
    """Tell a clock the time of a database that is ahead of this host."""
    ended = clock.elapsed()
    told = datetime.now(UTC) + timedelta(seconds=ahead - took / 2)
    clock_of_app.note(told, ended - took, ended, is_mongo=is_mongo)


# Links.


def test_a_link_made_in_the_millisecond_of_a_revocation_holds(
    app: Flask, context: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = now()
    for module in (changes, links):
        monkeypatch.setattr(module, "now", lambda: moment)
    record, client = save_file(), app.test_client()
    for _ in range(3):
        before = signed_url(get_media(MediaStorage, record.id))
        assert client.get(before).status_code == 200
        revoke_links(MediaStorage, record.id)
        assert client.get(before).status_code == 403


def test_two_revocations_at_once_end_the_links_made_between_them(
    app: Flask, state: State, context: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = now()
    monkeypatch.setattr(changes, "now", lambda: moment)
    as_read = save_file()
    lifecycle.revoke_links(state, as_read)
    between = signed_url(get_media(MediaStorage, as_read.id))
    lifecycle.revoke_links(state, as_read)
    assert app.test_client().get(between).status_code == 403


def test_links_of_an_earlier_version_go_on(app: Flask, state: State, context: None) -> None:
    record, client = save_file(), app.test_client()
    issued = round(time.time() * 1000)
    for ends, status in ((60_000, 200), (-1, 403)):
        signed = links._serializer().dumps(
            [record.id.hex, "read", None, issued, issued + ends, None]
        )
        url = f"/media/files/{record.id}/content?signature={signed}"
        assert client.get(url).status_code == status
        if status == 200:
            revoke_links(MediaStorage, record.id)
            assert client.get(url).status_code == 403


def test_a_link_with_more_in_it_than_is_known_opens_nothing(app: Flask, context: None) -> None:
    record, client = save_file(), app.test_client()
    signature = signed_url(record).partition("signature=")[2]
    payload = links._serializer().loads(signature)
    for more, status in (({}, 200), ({"downloads": 1}, 403)):
        signed = links._serializer().dumps(payload | more)
        answer = client.get(f"/media/files/{record.id}/content?signature={signed}")
        assert answer.status_code == status


def save_file() -> MediaStorage:
    return save_media_storage("page", "1", io.BytesIO(OLD), filename="a.pdf", uploaded_by="alice")
