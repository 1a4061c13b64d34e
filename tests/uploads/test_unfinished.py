"""Unfinished uploads count: their number, their bytes, and the rule when they begin and when they
end."""

from __future__ import annotations

import hashlib
import io
import typing as t
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_dualmedia import ConfigurationError, MediaStorage, Owner, default_rule
from flask_dualmedia.models import KINDS, now
from flask_dualmedia.state import State, get_state
from flask_dualmedia.testing import count_queries
from flask_dualmedia.upkeep import chores
from flask_dualmedia.uploads import resumable, staging

from ..conftest import MakeApp, StorageOptions, in_both_modes
from ..samples import (
    NOTHING,
    PDF,
    Headers,
    Tokens,
    Tus,
    encoded,
    expire_uploads,
    kept,
    part,
    post_form,
    unfinished_uploads,
)

PAGE = {"referenceType": "page", "referenceId": "1"}
METADATA = encoded({"kind": "files", **PAGE})
DIRECT = "/media/files/direct-uploads"


class Host(t.NamedTuple):
    app: Flask
    state: State
    client: FlaskClient
    tokens: Tokens

    @property
    def tus(self) -> Tus:
        return Tus(self.client, self.tokens.alice)

    def begin(
        self, length: int | None = 100, body: bytes | None = None, **headers: str
    ) -> TestResponse:
        if length is None:
            headers["Upload_Defer_Length"] = "1"
        if headers.get("Upload_Concat") != "partial":
            headers.setdefault("Upload_Metadata", METADATA)
        return self.tus.create(length, body, **headers)

    def announce(
        self, size: int, who: Headers | None = None, owner: Headers = PAGE, **more: str
    ) -> TestResponse:
        """Begin a direct upload."""
        values = {
            "filename": "a",
            "mimeType": "",
            "fileSize": size,
            "checksum": hashlib.sha256(b"a").hexdigest(),
        }
        values |= owner | more
        return self.client.post(DIRECT, headers=who or self.tokens.alice, json=values)

    def record_of(self, begun: TestResponse) -> MediaStorage:
        """The record of a direct upload that has begun."""
        media_id = uuid.UUID((begun.json or {})["id"])
        record = self.state.repository.find(MediaStorage, media_id)
        assert record is not None
        return record

    def post(self, size: int, who: Headers | None = None) -> int:
        form = {"file": part(bytes(size)), **PAGE}
        return post_form(self.client, who or self.tokens.alice, "/media/files", form).status_code

    def uploads(self) -> int:
        return unfinished_uploads(self.state)

    def expire(self) -> None:
        expire_uploads(self.state)


MakeHost = t.Callable[..., Host]


@pytest.fixture
def mode() -> str:
    """Resumable uploads are kept in MongoDB in every mode. Where records count too, the tests ask
    for both."""
    return "mongo"


@pytest.fixture
def make_host(make_app: MakeApp, mode: str) -> MakeHost:
    def make(in_mode: str = mode, **config: t.Any) -> Host:
        app = make_app(in_mode, **config)
        return Host(app, get_state(app), app.test_client(), Tokens.of(app))

    return make


@pytest.fixture
def make_direct(make_host: MakeHost, storage_options: StorageOptions) -> MakeHost:
    def make(**config: t.Any) -> Host:
        given: dict[str, t.Any] = {
            "DUALMEDIA_STORAGES": storage_options("s3"),
            "DUALMEDIA_ALLOWED_STORAGES": ["s3"],
            "DUALMEDIA_DEFAULT_STORAGE": {"files": "s3"},
        }
        return make_host(**given | config)

    return make


def test_each_identity_may_have_so_many(make_host: MakeHost) -> None:
    host = make_host(DUALMEDIA_MAX_UNFINISHED=3)
    urls = [
        host.begin(100).headers["Location"],
        host.begin(None).headers["Location"],
        host.begin(len(PDF), PDF, Upload_Concat="partial").headers["Location"],
    ]
    before = kept(host.state), host.uploads()
    for refused in (
        host.begin(),
        host.begin(None),
        host.begin(Upload_Concat="partial"),
        host.begin(len(PDF), PDF),
    ):
        assert refused.status_code == 429
        assert "3 uploads of yours are unfinished" in (refused.json or {})["message"]
    assert (kept(host.state), host.uploads()) == before

    assert Tus(host.client, host.tokens.bob).create(1, Upload_Metadata=METADATA).status_code == 201
    joined = host.tus.create(None, Upload_Metadata=METADATA, Upload_Concat=f"final;{urls[2]}")
    assert joined.status_code == 201, "it takes the place of its partial ones"


def test_what_ends_makes_place(make_host: MakeHost) -> None:
    host = make_host(DUALMEDIA_MAX_UNFINISHED=1)
    finished = host.begin().headers["Location"]
    assert host.begin().status_code == 429
    assert host.tus.patch(finished, 0, bytes(100)).status_code == 204
    removed = host.begin().headers["Location"]
    assert host.begin().status_code == 429
    assert host.tus.delete(removed).status_code == 204
    partial = host.begin(len(PDF), PDF, Upload_Concat="partial").headers["Location"]
    assert host.begin().status_code == 429
    joined = host.tus.create(None, Upload_Metadata=METADATA, Upload_Concat=f"final;{partial}")
    assert joined.status_code == 201, "it takes the place of its partial ones"
    assert host.begin().status_code == 201


def test_the_number_is_a_setting(make_app: MakeApp) -> None:
    assert get_state(make_app("mongo")).settings.max_unfinished == 100
    unlimited = make_app("mongo", DUALMEDIA_MAX_UNFINISHED=None)
    assert get_state(unlimited).settings.max_unfinished is None
    for wrong in (0, -1, "many"):
        with pytest.raises(ConfigurationError, match="DUALMEDIA_MAX_UNFINISHED"):
            make_app("mongo", DUALMEDIA_MAX_UNFINISHED=wrong)


def at_once(number: int, call: t.Callable[[int], int]) -> list[int]:
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(call, range(number)))


@pytest.mark.long
@in_both_modes
def test_however_many_begin_at_once_no_more_stay(make_direct: MakeHost) -> None:
    """Resumable and direct ones count together."""
    host = make_direct(DUALMEDIA_MAX_UNFINISHED=4)

    def begin(number: int) -> int:
        with host.app.test_client() as client:
            if number % 2:
                return host._replace(client=client).announce(10).status_code
            return host._replace(client=client).begin().status_code

    statuses = at_once(24, begin)
    assert sorted(statuses) == [201] * 4 + [429] * 20
    pending = sum(host.state.repository.count(kind) for kind in KINDS.values())
    assert host.uploads() + pending == 4
    assert host.begin().status_code == host.announce(10).status_code == 429
    assert host.uploads() + sum(host.state.repository.count(kind) for kind in KINDS.values()) == 4


@pytest.mark.long
def test_an_upload_that_nobody_could_count_is_none(make_direct: MakeHost) -> None:
    """Its client has got an error, and could neither go on with it nor delete it."""
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1}
    host = make_direct(
        in_mode="dual", DUALMEDIA_MAX_UNFINISHED=1, SQLALCHEMY_ENGINE_OPTIONS=options
    )
    assert host.state.engine is not None
    with host.state.engine.connect():
        assert host.begin().status_code == 503
    assert host.uploads() == 0
    assert host.begin().status_code == 201


@in_both_modes
def test_a_quota_is_asked_when_an_upload_begins(make_direct: MakeHost) -> None:
    """It counts with the length that it announces, whatever kind of upload it is, together with
    those that have begun."""
    host = make_direct(DUALMEDIA_QUOTA_PER_IDENTITY=1000)
    for refused in (
        host.begin(1001),
        host.begin(1001, Upload_Concat="partial"),
        host.announce(1001),
    ):
        assert refused.status_code == 413
    assert host.begin(400).status_code == 201
    assert host.begin(300, Upload_Concat="partial").status_code == 201
    assert host.announce(200).status_code == 201
    for refused in (host.begin(101), host.begin(101, Upload_Concat="partial"), host.announce(101)):
        assert refused.status_code == 413
        assert "900 of the 1000 bytes" in (refused.json or {})["message"]
    assert host.post(101) == 413
    assert host.post(101, host.tokens.bob) == 201
    assert host.post(100) == 201
    assert host.begin(None).status_code == 413
    assert host.uploads() == 2


def test_the_quota_of_a_document_is_asked_when_an_upload_begins(make_direct: MakeHost) -> None:
    host = make_direct(DUALMEDIA_QUOTA_PER_OWNER=1000)
    assert host.post(900, host.tokens.bob) == 201
    assert host.begin(101).status_code == host.announce(101).status_code == 413
    assert host.begin(100).status_code == host.announce(100).status_code == 201


@pytest.mark.long
@in_both_modes
def test_uploads_that_begin_at_once_pass_no_quota(make_direct: MakeHost) -> None:
    host = make_direct(DUALMEDIA_QUOTA_PER_IDENTITY=1000)

    def begin(number: int) -> int:
        with host.app.test_client() as client:
            one = host._replace(client=client)
            return one.announce(300).status_code if number % 2 else one.begin(300).status_code

    assert sorted(at_once(12, begin)) == [201] * 3 + [413] * 9


def test_an_upload_has_its_place_from_its_beginning_to_its_end(make_host: MakeHost) -> None:
    """The bytes that it has announced do not count twice when it ends."""
    host = make_host(DUALMEDIA_QUOTA_PER_IDENTITY=1000)
    url = host.begin(1000).headers["Location"]
    assert host.post(1) == 413
    assert host.tus.patch(url, 0, bytes(400)).status_code == 204
    assert host.tus.patch(url, 400, bytes(600)).headers["Content-Location"]
    assert host.begin(1).status_code == host.begin(None).status_code == 413
    assert host.tus.delete(url).status_code == 204


@in_both_modes
def test_partial_uploads_have_their_place_until_they_are_joined(make_host: MakeHost) -> None:
    host = make_host(DUALMEDIA_QUOTA_PER_IDENTITY=1000)
    urls = [
        host.begin(500, bytes(500), Upload_Concat="partial").headers["Location"] for _ in range(2)
    ]
    assert host.begin(1).status_code == 413
    joined = host.tus.create(
        None, Upload_Metadata=METADATA, Upload_Concat=f"final;{' '.join(urls)}"
    )
    assert (joined.status_code, joined.headers["Upload-Offset"]) == (201, "1000")
    assert host.begin(1).status_code == 413


@pytest.mark.long
def test_an_upload_whose_length_nobody_knows_ends_at_the_quota(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes in one request or in several, with a checksum and without, and says its length at
    last."""
    monkeypatch.setattr(resumable, "PART_SIZE", 100)
    host = make_host(DUALMEDIA_QUOTA_PER_IDENTITY=1000)
    content = bytes(1001)
    checksum = "sha1 " + "2jmj7l5rSw0yVb/vlWAYkK/YBwk="
    for headers in ({}, {"Upload_Checksum": checksum}):
        url = host.begin(None).headers["Location"]
        assert host.tus.patch(url, 0, content, **headers).status_code == 413
        assert host.tus.head(url).headers["Upload-Offset"] == "0"
        streamed = host.client.patch(
            url,
            input_stream=io.BytesIO(content),
            environ_overrides={"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"},
            headers=host.tokens.alice
            | {
                "Tus-Resumable": "1.0.0",
                "Upload-Offset": "0",
                "Content-Type": "application/offset+octet-stream",
            }
            | {name.replace("_", "-"): value for name, value in headers.items()},
        )
        assert streamed.status_code == 413
        assert int(host.tus.head(url).headers["Upload-Offset"]) <= 1000
        offsets = [one["offset"] for one in host.state.mongo[staging.COLLECTION].find()]
        assert sum(offsets) <= 1000
        assert host.tus.delete(url).status_code == 204
    url = host.begin(None).headers["Location"]
    assert host.tus.patch(url, 0, content[:600]).status_code == 204
    assert host.begin(401).status_code == 413
    assert host.tus.patch(url, 600, b"", Upload_Length="1001").status_code == 413
    assert host.tus.patch(url, 600, b"x", Upload_Length="1000").status_code == 204
    assert host.begin(1).status_code == 413
    assert host.tus.patch(url, 601, bytes(399)).headers["Content-Location"]
    assert len(kept(host.state)[1]) == 1


@pytest.mark.long
@in_both_modes
def test_expired_uploads_count_for_nothing_and_go_without_a_command(make_host: MakeHost) -> None:
    """Although the app has turned its upkeep off."""
    host = make_host(DUALMEDIA_MAX_UNFINISHED=2, DUALMEDIA_QUOTA_PER_IDENTITY=1000)
    assert host.state.upkeep is None
    for _ in range(3):
        assert host.begin(500, bytes(200)).status_code == 201
        assert host.begin(500, bytes(200), Upload_Concat="partial").status_code == 201
        assert host.begin(1).status_code == 413
        host.expire()
    for _ in range(2):
        host.begin(1)
    assert host.uploads() == 2
    assert kept(host.state) == NOTHING


def test_expired_uploads_of_others_go_too(
    make_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one, so that nobody waits long for it."""
    monkeypatch.setattr(chores, "CLEARED_AT_ONCE", 1)
    host = make_host()
    for _ in range(2):
        host.begin(500, bytes(200))
    host.expire()
    bob = Tus(host.client, host.tokens.bob)
    for left in (1, 0):
        assert bob.create(1, Upload_Metadata=METADATA).status_code == 201
        assert len(kept(host.state)[1]) == left


@pytest.mark.long
@in_both_modes
def test_direct_uploads_that_nobody_confirms_go_without_a_command(make_direct: MakeHost) -> None:
    host = make_direct(DUALMEDIA_MAX_UNFINISHED=1, DUALMEDIA_GRACE=3600)
    record = host.record_of(host.announce(10))
    assert host.announce(10).status_code == 429
    long_ago = {"updated_at": now() - timedelta(hours=3)}
    where = {"state": "pending", "version": record.version}
    assert host.state.repository.update(MediaStorage, record.id, long_ago, where=where)
    assert host.announce(10).status_code == 201
    assert host.state.repository.find(MediaStorage, record.id) is None


@in_both_modes
def test_upkeep_clears_expired_uploads_by_itself(make_host: MakeHost) -> None:
    host = make_host(DUALMEDIA_UPKEEP=True)
    host.begin(500, bytes(200))
    host.expire()
    assert host.state.upkeep is not None
    with host.app.app_context():
        host.state.upkeep.work()
    assert (host.uploads(), kept(host.state)) == (0, NOTHING)


def test_without_a_quota_an_upload_asks_for_the_number_alone(make_app: MakeApp) -> None:
    app = make_app("dual", DUALMEDIA_UPKEEP=True)
    host = Host(app, get_state(app), app.test_client(), Tokens.of(app))
    host.begin()
    with count_queries(app) as queries:
        assert host.begin().status_code == 201
    assert len(queries.sql) == 0
    # It is kept, counted and given back.
    assert len(queries.mongo) == 3


allowed: set[str] = set()


def rule(action: str, subject: t.Any, identity: str | None, claims: t.Any) -> bool:
    """A rule of the host's that changes its mind."""
    if isinstance(subject, Owner):
        return identity in allowed
    return default_rule(t.cast(t.Any, action), subject, identity, claims)


@pytest.fixture
def ruled(make_direct: MakeHost) -> t.Iterator[Host]:
    allowed.clear()
    allowed.add("alice")
    yield make_direct(DUALMEDIA_AUTHORIZE=rule, DUALMEDIA_DEFAULT_STORAGE="database")
    allowed.clear()


@in_both_modes
def test_the_rule_is_asked_again_when_an_upload_ends(ruled: Host) -> None:
    url = ruled.begin(len(PDF), PDF[:10]).headers["Location"]
    deferred = ruled.begin(None).headers["Location"]
    partial = ruled.begin(len(PDF), PDF, Upload_Concat="partial").headers["Location"]
    allowed.clear()
    assert ruled.begin(1).status_code == 403
    for refused in (
        ruled.tus.patch(url, 10, PDF[10:]),
        ruled.tus.patch(deferred, 0, PDF, Upload_Length=str(len(PDF))),
        ruled.tus.create(None, Upload_Metadata=METADATA, Upload_Concat=f"final;{partial}"),
    ):
        assert refused.status_code == 403
        assert (refused.json or {})["message"] == "You may not add media here."
    assert ruled.tus.head(url).status_code == ruled.tus.head(deferred).status_code == 404
    assert ruled.state.repository.count(MediaStorage) == 0
    allowed.add("alice")
    joined = ruled.tus.create(None, Upload_Metadata=METADATA, Upload_Concat=f"final;{partial}")
    assert joined.status_code == 201
    assert len(kept(ruled.state)[1]) == 1


def test_the_rule_is_asked_again_when_a_direct_upload_is_confirmed(ruled: Host) -> None:
    begun = [ruled.announce(1, storageType="s3") for _ in range(2)]
    storage = ruled.state.storages["s3"]
    for one in begun:
        storage.put(t.cast(str, ruled.record_of(one).storage_key), [b"a"])
    kept_one, refused_one = (one.headers["Location"] for one in begun)
    assert ruled.client.post(kept_one, headers=ruled.tokens.alice).status_code == 201
    allowed.clear()
    assert ruled.client.post(refused_one, headers=ruled.tokens.alice).status_code == 403
    assert ruled.client.post(refused_one, headers=ruled.tokens.alice).status_code == 404
    assert ruled.client.post(kept_one, headers=ruled.tokens.alice).status_code == 201, (
        "it is media already"
    )


def test_a_document_that_is_gone_when_a_direct_upload_is_confirmed(make_direct: MakeHost) -> None:
    host = make_direct()
    owner = host.state.mongo["users"].insert_one({}).inserted_id
    begun = host.announce(1, owner={"referenceType": "user", "referenceId": str(owner)})
    record = host.record_of(begun)
    host.state.storages["s3"].put(t.cast(str, record.storage_key), [b"a"])
    host.state.mongo["users"].delete_one({"_id": owner})
    refused = host.client.post(begun.headers["Location"], headers=host.tokens.alice)
    assert refused.status_code == 404
    assert "there is no user" in (refused.json or {})["message"]
    assert host.state.repository.get(MediaStorage, record.id) is None
