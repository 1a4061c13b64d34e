"""Uploads that clients send to S3 themselves: what is signed, and what is looked at before anybody
sees them."""

from __future__ import annotations

import base64
import hashlib
import typing as t
import urllib.parse
import uuid
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_dualmedia import MediaStorage, anyone_may_add
from flask_dualmedia.models import KINDS
from flask_dualmedia.signals import media_saved
from flask_dualmedia.state import State, get_state
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.storages.s3 import S3Storage
from flask_dualmedia.upkeep import move, sweeping
from flask_dualmedia.upkeep.journal import drain_journal

from ..conftest import MakeApp, StorageOptions
from ..samples import Headers, Tokens, mp4, png
from ..tools.proxy import Proxy
from ..waiting import eventually

ROUTE = "/media/files/direct-uploads"

CONTENT = mp4(5000)

BOMB = png()[:16] + (20_000).to_bytes(4) * 2 + png()[24:]
"""An image that would be 400 megapixels."""


class Host(t.NamedTuple):
    app: Flask
    state: State
    client: FlaskClient
    tokens: Tokens

    def begin(
        self, content: bytes = CONTENT, filename: str = "film.mp4", **fields: t.Any
    ) -> TestResponse:
        return self.client.post(
            ROUTE, headers=self.tokens.alice, json=announced(content, filename) | fields
        )

    def confirm(self, begun: TestResponse, who: Headers | None = None) -> TestResponse:
        return self.client.post(begun.headers["Location"], headers=who or self.tokens.alice)

    def kept(self) -> tuple[int, list[str]]:
        """Number of records in any state, and keys in the bucket."""
        records = sum(self.state.repository.count(kind) for kind in KINDS.values())
        return records, list(self.state.storages["s3"].keys())

    def sizes(self) -> list[int]:
        """Sizes of what is in the bucket."""
        storage = t.cast(S3Storage, self.state.storages["s3"])
        return [size for _, size in storage._list("")]


def announced(content: bytes, filename: str, mime_type: str = "video/mp4") -> dict[str, t.Any]:
    values = {
        "referenceType": "page",
        "referenceId": "1",
        "filename": filename,
        "mimeType": mime_type,
    }
    return values | {"fileSize": len(content), "checksum": hashlib.sha256(content).hexdigest()}


def answer_of(response: TestResponse) -> dict[str, t.Any]:
    assert response.json is not None
    return response.json


def send(begun: TestResponse, content: bytes = CONTENT) -> int:
    """Do what the answer says, as a client does; the status that S3 answers."""
    assert begun.status_code == 201, begun.json
    answer = answer_of(begun)
    return requests.request(
        answer["method"], answer["url"], data=content, headers=answer["headers"], timeout=10
    ).status_code


def in_s3(storage_options: StorageOptions) -> dict[str, t.Any]:
    """The config of an app whose media goes to S3."""
    return {"DUALMEDIA_STORAGES": storage_options("s3"), "DUALMEDIA_DEFAULT_STORAGE": "s3"}


def host_of(app: Flask) -> Host:
    return Host(app, get_state(app), app.test_client(), Tokens.of(app))


@pytest.fixture
def make_host(make_app: MakeApp, storage_options: StorageOptions) -> t.Callable[..., Host]:
    def make(mode: str = "mongo", **config: t.Any) -> Host:
        return host_of(make_app(mode, **in_s3(storage_options) | config))

    return make


@pytest.fixture
def host(make_host: t.Callable[..., Host]) -> Host:
    return make_host()


def test_bytes_become_media_when_they_are_confirmed(
    make_host: t.Callable[..., Host], mode: str
) -> None:
    """Until then nobody sees them. To confirm them again changes nothing."""
    host, saved = make_host(mode), []
    begun = host.begin(title="A film", isPublic=True)
    assert begun.status_code == 201
    assert begun.headers["Cache-Control"] == "private, no-store"
    path = f"/media/files/{answer_of(begun)['id']}"
    assert host.confirm(begun).status_code == 409
    assert send(begun) == 200
    for hidden in (path, f"{path}/content"):
        assert host.client.get(hidden, headers=host.tokens.alice).status_code == 404
    assert answer_of(host.client.get("/media/files", headers=host.tokens.admin))["items"] == []
    with media_saved.connected_to(lambda sender, record: saved.append(record.id), sender=host.app):
        answers = [host.confirm(begun), host.confirm(begun)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].headers["Location"] == path
    record = answer_of(answers[0])
    assert record == answers[1].json == host.client.get(path, headers=host.tokens.alice).json
    assert [str(media_id) for media_id in saved] == [record["id"]]
    expected = announced(CONTENT, "film.mp4") | {
        "title": "A film",
        "mediaType": "video",
        "storageType": "s3",
    }
    assert record.items() >= (expected | {"uploadedBy": "alice", "accessCount": 0}).items()
    assert host.client.get(f"{path}/content", headers=host.tokens.bob).data == CONTENT


def test_size_type_and_checksum_are_signed(host: Host) -> None:
    """The signature covers all that is announced, and that there is nothing under the key yet."""
    begun = host.begin()
    url = urllib.parse.urlsplit(answer_of(begun)["url"])
    query = {name: values[0] for name, values in urllib.parse.parse_qs(url.query).items()}
    assert set(query["X-Amz-SignedHeaders"].split(";")) == {
        "content-length", "content-type", "host", "if-none-match", "x-amz-checksum-sha256"
    }  # fmt: skip
    assert int(query["X-Amz-Expires"]) <= 900
    digest = base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()
    expected = {"Content-Type": "video/mp4", "If-None-Match": "*", "X-Amz-Checksum-Sha256": digest}
    assert answer_of(begun)["headers"] == expected
    assert send(begun) == 200
    assert send(begun, mp4(5000, brand=b"mp42")) == 412
    assert host.confirm(begun).status_code == 201
    assert send(begun) == 412


@pytest.mark.parametrize(
    ("filename", "mime_type", "claimed", "sent", "status"),
    [
        ("a.bin", "application/octet-stream", b"\1" * 1000, bytes(10_000_000), 400),
        ("a.bin", "application/octet-stream", b"\1" * 1000, b"\2" * 1000, 400),
        ("a.png", "image/png", BOMB, BOMB, 422),
    ],
    ids=["other size", "other bytes", "decompression bomb"],
)
def test_what_was_not_announced_is_removed(
    host: Host, filename: str, mime_type: str, claimed: bytes, sent: bytes, status: int
) -> None:
    """The server takes whatever comes; afterwards the client cannot confirm it either."""
    begun = host.begin(claimed, filename, mimeType=mime_type)
    assert send(begun, sent) == 200
    answer = host.confirm(begun)
    assert (answer.status_code, list(answer_of(answer)["errors"])) == (status, ["file"])
    assert host.sizes() == [0]
    assert host.confirm(begun).status_code == 404
    sweeping.sweep(host.state, grace=0)
    assert host.kept() == (0, [])


def replaced(host: Host, begun: TestResponse) -> None:
    path = f"/media/files/{answer_of(begun)['id']}/content"
    assert host.confirm(begun).status_code == 201
    assert host.client.put(path, headers=host.tokens.alice, data=mp4(100)).status_code == 200


def deleted(host: Host, begun: TestResponse) -> None:
    assert host.confirm(begun).status_code == 201
    path = f"/media/files/{answer_of(begun)['id']}"
    assert host.client.delete(path, headers=host.tokens.alice).status_code == 204


def moved(host: Host, begun: TestResponse) -> None:
    assert host.confirm(begun).status_code == 201
    report = move.move(host.state, "s3", "database", [MediaStorage])
    assert (report.moved, report.failed) == (1, [])


def refused(host: Host, begun: TestResponse) -> None:
    storage = t.cast(S3Storage, host.state.storages["s3"])
    (key,) = storage.keys()
    storage.put(key, [b"others"])
    assert host.confirm(begun).status_code == 400


@pytest.mark.parametrize("ended", [replaced, deleted, moved, refused])
def test_a_ticket_works_once_whatever_became_of_its_bytes(
    host: Host, ended: t.Callable[[Host, TestResponse], None]
) -> None:
    """They are gone at once; their key goes when nobody can put others there any more."""
    begun = host.begin()
    assert send(begun) == 200
    ended(host, begun)
    assert len(CONTENT) not in host.sizes()
    assert send(begun) == 412
    assert len(CONTENT) not in host.sizes()
    check = host.app.test_cli_runner().invoke(args=["dualmedia", "check"])
    assert check.exit_code == 0, check.output
    sweeping.sweep(host.state, grace=0)
    assert 0 not in host.sizes()
    check = host.app.test_cli_runner().invoke(
        args=["dualmedia", "check", "--verify-bytes", "--grace", "0"]
    )
    assert check.exit_code == 0, check.output


def test_a_ticket_works_once_while_sql_is_down_and_afterwards(
    make_proxied: MakeApp, storage_options: StorageOptions, proxy: Proxy
) -> None:
    host = host_of(make_proxied(**in_s3(storage_options), DUALMEDIA_AUTO_DRAIN=False))
    circuit = host.state.circuit
    assert circuit is not None
    proxy.refuse()
    circuit.trip()
    begun = host.begin()
    assert send(begun) == 200
    deleted(host, begun)
    assert send(begun) == 412
    proxy.let_through()
    eventually(lambda: not circuit.is_open)
    drain_journal(host.state)
    assert (host.sizes(), send(begun)) == ([0], 412)
    sweeping.sweep(host.state, grace=0)
    assert host.kept() == (0, [])


def test_bytes_that_no_ticket_can_bring_back_are_deleted_at_once(
    make_host: t.Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host()
    monkeypatch.setattr("flask_dualmedia.uploads.tickets.SECONDS", 0)
    begun = host.begin()
    monkeypatch.undo()
    assert begun.status_code == 201
    record = host.state.repository.find(MediaStorage, uuid.UUID(answer_of(begun)["id"]))
    assert record is not None
    host.state.storages["s3"].put(t.cast(str, record.storage_key), [CONTENT])
    assert host.confirm(begun).status_code == 201
    monkeypatch.setattr("flask_dualmedia.uploads.tickets.SECONDS", 0)
    answer = host.client.delete(f"/media/files/{record.id}", headers=host.tokens.alice)
    assert answer.status_code == 204
    assert host.kept() == (0, [])


def test_the_rules_of_the_kind_hold(make_host: t.Callable[..., Host]) -> None:
    """An upload that its announcement shows to be wrong is refused before anything is sent."""
    host = make_host(
        DUALMEDIA_POLICY={
            "files": {"types": ["image/*"], "max_size": 5000},
            "product-images": {"max_size": 10},
        },
        DUALMEDIA_REFERENCES={"product": None},
    )
    image = {"filename": "a.png", "mimeType": "image/png"}
    refused: list[tuple[dict[str, t.Any], int]] = [
        ({}, 415),
        (image | {"fileSize": 5001}, 413),
        (image | {"filename": "a.php"}, 415),
        (image | {"storageType": "database"}, 422),
        (image | {"storageType": "local"}, 422),
        (image | {"checksum": "A" * 64}, 422),
        (image | {"fileSize": 0}, 422),
        (image | {"url": "https://cdn.example/a"}, 422),
    ]
    for fields, status in refused:
        assert host.begin(**fields).status_code == status, fields
    for missing in ("filename", "mimeType", "fileSize", "checksum", "referenceId"):
        values = announced(png(), "a.png", "image/png")
        del values[missing]
        answer = host.client.post(ROUTE, headers=host.tokens.alice, json=values)
        assert (answer.status_code, list(answer_of(answer)["errors"])) == (422, [missing])
    assert host.kept() == (0, [])


def test_a_storage_that_takes_nothing_from_clients(make_host: t.Callable[..., Host]) -> None:
    host = make_host(DUALMEDIA_DEFAULT_STORAGE="database")
    assert list(answer_of(host.begin())["errors"]) == ["storageType"]


def test_only_who_began_it_confirms_it(host: Host) -> None:
    begun = host.begin()
    send(begun)
    assert host.client.post(begun.headers["Location"]).status_code == 401
    assert host.confirm(begun, host.tokens.bob).status_code == 404
    assert host.confirm(begun, host.tokens.admin).status_code == 201
    assert host.confirm(begun, host.tokens.bob).status_code == 404


def test_a_finished_upload_shows_its_record_to_nobody_who_may_not_read_it(
    make_host: t.Callable[..., Host],
) -> None:
    """The rule changes in between: to confirm an upload once more is to read it."""
    banned: set[str | None] = set()

    def rule(action: t.Any, subject: t.Any, identity: str | None, claims: t.Any) -> bool:
        return identity not in banned and anyone_may_add(action, subject, identity, claims)

    host = make_host(DUALMEDIA_AUTHORIZE=rule)
    begun = host.begin()
    send(begun)
    assert [host.confirm(begun).status_code for _ in range(2)] == [201, 201]
    banned.add("alice")
    assert host.confirm(begun).status_code == 404
    banned.clear()
    assert host.confirm(begun).status_code == 201


def test_other_unfinished_uploads_cannot_be_confirmed(host: Host) -> None:
    """The bytes of such an upload are just coming through the server."""
    record = MediaStorage.new(
        reference_type="page",
        reference_id="1",
        media_type="document",
        storage_type="s3",
        uploaded_by="alice",
    )
    vars(record)["storage_key"] = new_key(record.id)
    host.state.repository.add(record)
    for media_id in (record.id, "nonsense"):
        assert host.client.post(f"{ROUTE}/{media_id}", headers=host.tokens.alice).status_code == 404


def test_what_is_never_confirmed_is_swept_away(host: Host) -> None:
    """Row and object go. Confirmed uploads stay, and so do those that may still come."""
    confirmed, abandoned, unsent = (host.begin(title=title) for title in "abc")
    send(confirmed)
    send(abandoned)
    assert host.confirm(confirmed).status_code == 201
    sweeping.sweep(host.state)
    assert (host.kept()[0], len(host.kept()[1])) == (3, 2)
    sweeping.sweep(host.state, grace=0)
    records, keys = host.kept()
    assert (records, len(keys)) == (1, 1)
    path = f"/media/files/{answer_of(confirmed)['id']}/content"
    assert host.client.get(path, headers=host.tokens.alice).data == CONTENT
    for gone in (abandoned, unsent):
        assert host.confirm(gone).status_code == 404
    check = host.app.test_cli_runner().invoke(
        args=["dualmedia", "check", "--verify-bytes", "--grace", "0"]
    )
    assert check.exit_code == 0, check.output


def test_a_quota_is_kept_by_many_at_once(make_host: t.Callable[..., Host]) -> None:
    """Five want to begin, and two have a place; each is confirmed twice at the same time."""
    host = make_host(DUALMEDIA_QUOTA_PER_IDENTITY=2 * len(CONTENT) + 1)
    answers = [host.begin(title=f"{number}") for number in range(5)]
    assert [answer.status_code for answer in answers] == [201, 201, 413, 413, 413]
    begun = answers[:2]
    assert [send(one) for one in begun] == [200] * 2

    def confirm(one: TestResponse) -> tuple[str, int]:
        with host.app.test_client() as client:
            return answer_of(one)["id"], client.post(
                one.headers["Location"], headers=host.tokens.alice
            ).status_code

    with ThreadPoolExecutor(10) as pool:
        confirmed = list(pool.map(confirm, begun * 5))
    assert {status for _, status in confirmed} == {201}
    assert len({media_id for media_id, _ in confirmed}) == 2
    sweeping.sweep(host.state, grace=0)
    assert (host.kept()[0], len(host.kept()[1])) == (2, 2)
    assert host.begin().status_code == 413


def test_a_checksum_that_the_storage_vouches_for(host: Host) -> None:
    """Only the first block is read then, to see what it is."""
    content = mp4(3 * 1024 * 1024)
    storage = t.cast(S3Storage, host.state.storages["s3"])
    stream, read = storage._stream, []

    def counting(key: str, start: int, stop: int) -> Generator[bytes]:
        for piece in stream(key, start, stop):
            read.append(len(piece))
            yield piece

    storage._stream = counting
    for sent, status in ((content, 201), (content[:-1] + b"x", 400)):
        begun = host.begin(content)
        record = host.state.repository.find(MediaStorage, uuid.UUID(answer_of(begun)["id"]))
        assert record is not None
        place = storage._object(t.cast(str, record.storage_key))
        storage._client.get().put_object(**place, Body=sent, ChecksumAlgorithm="SHA256")
        read.clear()
        assert host.confirm(begun).status_code == status
        assert sum(read) == 1024 * 1024
