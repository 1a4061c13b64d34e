"""Quotas of an identity or an owner: exact, never exceeded, however many come at once."""

from __future__ import annotations

import io
import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_dualmedia import (
    QuotaExceeded,
    delete_media,
    quotas,
    save_media_storage,
    save_product_image,
    update_media,
)
from flask_dualmedia.databases.leases import COLLECTION, Lease
from flask_dualmedia.models import KINDS
from flask_dualmedia.repositories.base import Repository
from flask_dualmedia.state import State, get_state

from .conftest import MakeApp
from .samples import NOTHING, Dribble, Tokens, kept, part, png, post_form
from .tools.proxy import Proxy
from .waiting import eventually, passes

UNCHECKED = {"product": None, "course": None, "user": None}


class Host(t.NamedTuple):
    app: Flask
    state: State
    client: FlaskClient
    tokens: Tokens


@pytest.fixture
def make_host(make_app: MakeApp, mode: str) -> t.Callable[..., Host]:
    def make(**config: t.Any) -> Host:
        app = make_app(mode, DUALMEDIA_REFERENCES=UNCHECKED, **config)
        return Host(app, get_state(app), app.test_client(), Tokens.of(app))

    return make


def post(client: FlaskClient, headers: dict[str, str], size: int, owner: str = "1") -> TestResponse:
    form = {"file": part(bytes(size)), "referenceType": "page", "referenceId": owner}
    return post_form(client, headers, "/media/files", form)


def used(state: State, identity: str = "alice") -> int:
    """Counted here, record by record."""
    records = (
        record for kind in KINDS.values() for record in state.repository.scan(kind, None, 1000)
    )
    return sum(
        r.file_size or 0 for r in records if (r.uploaded_by, r.state) == (identity, "available")
    )


@pytest.mark.long
@pytest.mark.parametrize("per", ["IDENTITY", "OWNER"])
def test_fifty_at_once_never_take_more(make_host: t.Callable[..., Host], per: str) -> None:
    """Exactly those of fifty parallel uploads that fit are kept, by a sum and not by a counter."""
    host = make_host(**{f"DUALMEDIA_QUOTA_PER_{per}": 25 * 1000 + 999})

    def upload(_: int) -> int:
        with host.app.test_client() as client:
            return post(client, host.tokens.alice, 1000).status_code

    with ThreadPoolExecutor(10) as pool:
        statuses = list(pool.map(upload, range(50)))
    assert sorted(statuses) == [201] * 25 + [413] * 25
    assert used(host.state) == 25 * 1000
    assert len(kept(host.state)[1]) == 25
    assert host.state.mongo[COLLECTION].count_documents({}) == 0


def test_a_quota_to_the_byte(make_host: t.Callable[..., Host]) -> None:
    """The message names what is used and what may be; what is deleted or replaced makes place."""
    host = make_host(DUALMEDIA_QUOTA_PER_IDENTITY=1000)
    alice, bob = host.tokens.alice, host.tokens.bob
    assert post(host.client, alice, 1001).status_code == 413
    first = post(host.client, alice, 600)
    assert post(host.client, alice, 400, owner="2").status_code == 201
    refused = post(host.client, alice, 1)
    assert refused.status_code == 413
    message = "1000 of the 1000 bytes that the uploader may have are used: 1 more do not fit"
    assert refused.json == {
        "code": 413, "status": HTTPStatus(413).phrase,
        "message": message, "errors": {"file": [message]},
    }  # fmt: skip
    assert post(host.client, bob, 1000).status_code == 201
    content = f"{first.location}/content"
    assert host.client.put(content, data=bytes(601), headers=alice).status_code == 413
    assert host.client.get(content, headers=alice).data == bytes(600)
    assert host.client.put(content, data=bytes(599), headers=alice).status_code == 200
    # It is the uploader's quota, whoever replaces.
    assert host.client.put(content, data=bytes(602), headers=host.tokens.admin).status_code == 413
    assert post(host.client, alice, 1).status_code == 201
    assert post(host.client, alice, 1).status_code == 413
    assert host.client.delete(first.location, headers=alice).status_code == 204
    assert post(host.client, alice, 599).status_code == 201
    assert used(host.state) == 1000


def test_the_owner_of_all_kinds(make_host: t.Callable[..., Host]) -> None:
    host = make_host(DUALMEDIA_QUOTA_PER_OWNER=1000)
    with host.app.app_context():
        image = save_product_image("1", png(comment=b"x" * 500))
        assert image.file_size is not None
        save_media_storage("product", "1", bytes(1000 - image.file_size))
        for full in (
            lambda: save_product_image("1", png()),
            lambda: save_media_storage("product", "1", b"x"),
        ):
            with pytest.raises(QuotaExceeded, match="this product") as caught:
                full()
            assert (caught.value.used, caught.value.limit) == (1000, 1000)
        # others of the same id, and what has no bytes here
        save_media_storage("course", "1", bytes(1000))
        save_media_storage("product", "2", bytes(1000))
        save_product_image("1", "https://cdn.example/a.png", file_size=10**9)
        delete_media("product-images", image.id)
        file = save_media_storage("product", "1", b"x")
        assert update_media("files", file.id, title="edited").title == "edited"


def test_both_quotas_hold(make_host: t.Callable[..., Host]) -> None:
    host = make_host(DUALMEDIA_QUOTA_PER_IDENTITY=1000, DUALMEDIA_QUOTA_PER_OWNER=1500)
    assert post(host.client, host.tokens.alice, 1000).status_code == 201
    assert post(host.client, host.tokens.alice, 1, owner="2").status_code == 413
    assert post(host.client, host.tokens.bob, 500).status_code == 201
    assert post(host.client, host.tokens.bob, 1).status_code == 413
    assert post(host.client, host.tokens.bob, 500, owner="2").status_code == 201


def test_what_cannot_fit_is_not_read(make_host: t.Callable[..., Host]) -> None:
    """An upload is refused by its announced size, before a byte is stored, and by its real size if
    none was announced."""
    host = make_host(DUALMEDIA_QUOTA_PER_IDENTITY=2_000_000)
    assert post(host.client, host.tokens.alice, 1_000_000).status_code == 201
    before = kept(host.state)
    stream = io.BytesIO(bytes(5_000_000))
    location = post(host.client, host.tokens.alice, 10).location
    lengths = {"CONTENT_LENGTH": "5000000"}
    answer = host.client.put(
        f"{location}/content",
        input_stream=stream,
        environ_overrides=lengths,
        headers=host.tokens.alice,
    )
    assert answer.status_code == 413
    assert stream.tell() <= 2**20
    with host.app.app_context():
        host.client.delete(location, headers=host.tokens.alice)
        with pytest.raises(QuotaExceeded):
            save_media_storage(
                "page",
                "1",
                t.cast(t.BinaryIO, Dribble(bytes(5_000_000), 100_000)),
                uploaded_by="alice",
            )
    assert kept(host.state) == before


def test_who_waits_too_long_is_told_to_come_again(
    make_host: t.Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Busy is neither "too much" nor an error of the server, and nothing is kept."""
    host = make_host(DUALMEDIA_QUOTA_PER_IDENTITY=1000)
    monkeypatch.setattr(quotas, "WAIT", 0.2)
    other = Lease(host.state.mongo, "quota:identity:alice")
    assert other.take()
    answer = post(host.client, host.tokens.alice, 10)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert kept(host.state) == NOTHING
    made = post(host.client, host.tokens.bob, 10)
    assert made.status_code == 201
    monkeypatch.setattr(quotas, "WAIT", 10)
    timer = threading.Timer(0.3, other.give_back)
    timer.start()
    assert post(host.client, host.tokens.alice, 10).status_code == 201
    timer.join()


def test_the_lease_of_a_killed_process_is_taken_over(
    make_host: t.Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make_host(DUALMEDIA_QUOTA_PER_OWNER=1000)
    monkeypatch.setattr("flask_dualmedia.databases.leases.SECONDS", 0.3)
    assert Lease(host.state.mongo, "quota:owner:page:1").take()
    with passes("quota:sum") as sums:
        assert post(host.client, host.tokens.alice, 10).status_code == 201
    assert sums, "the quota was looked at"


def test_without_a_quota_nothing_is_asked(make_host: t.Callable[..., Host]) -> None:
    host = make_host()
    with passes("quota:sum") as sums:
        assert post(host.client, host.tokens.alice, 10).status_code == 201
    assert sums == []
    assert host.state.mongo[COLLECTION].count_documents({}) == 0


def test_while_sql_is_down_the_journal_counts(make_proxied: MakeApp, proxy: Proxy) -> None:
    """Media in SQL cannot be counted then. Media that was accepted meanwhile is counted, and all of
    it afterwards."""
    app = make_proxied(
        DUALMEDIA_QUOTA_PER_IDENTITY=1000,
        DUALMEDIA_REFERENCES=UNCHECKED,
        DUALMEDIA_AUTO_DRAIN=False,
    )
    client, tokens, state = app.test_client(), Tokens.of(app), get_state(app)
    assert post(client, tokens.alice, 600).status_code == 201
    circuit = state.circuit
    assert circuit is not None
    proxy.refuse()
    circuit.trip()
    assert post(client, tokens.alice, 600).status_code == 201
    assert post(client, tokens.alice, 600).status_code == 413
    proxy.let_through()
    eventually(lambda: not circuit.is_open)
    assert post(client, tokens.alice, 1).status_code == 413
    assert total(state.repository) == 1200


def total(repository: Repository) -> int:
    return repository.stored_size({kind: {"uploaded_by": "alice"} for kind in KINDS.values()})
