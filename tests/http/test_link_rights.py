"""Signed links end with the right that made them."""

from __future__ import annotations

import time
import typing as t
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token

from flask_dualmedia import (
    MediaStorage,
    default_rule,
    get_media,
    links,
    save_media_storage,
    signed_url,
    update_media,
)
from flask_dualmedia.homes.base import Home
from flask_dualmedia.models import AVAILABLE, now
from flask_dualmedia.repositories.journal import JournalRepository
from flask_dualmedia.state import State, get_state
from flask_dualmedia.upkeep import sweeping
from flask_dualmedia.upkeep.journal import drain_journal
from flask_dualmedia.upkeep.transfer import Report, _copy

from ..conftest import MakeApp
from ..samples import PDF, Headers, Tokens, bearer, part, post_form
from ..tools.proxy import Proxy
from ..waiting import eventually

PAGE = {"referenceType": "page", "referenceId": "1"}


class Host(t.NamedTuple):
    app: Flask
    client: FlaskClient
    tokens: Tokens
    state: State

    def upload(self, **fields: str) -> str:
        form = {"file": part(PDF), **PAGE, **fields}
        answer = post_form(self.client, self.tokens.alice, "/media/files", form)
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"]

    def link(self, headers: Headers, location: str, **wanted: t.Any) -> str:
        answer = self.client.post(f"{location}/link", headers=headers, json=wanted)
        assert answer.status_code == 201, answer.text
        return (answer.json or {})["url"]

    def edit(self, location: str, **changes: t.Any) -> None:
        answer = self.client.patch(location, headers=self.tokens.alice, json=changes)
        assert answer.status_code == 200, answer.text

    def opens(self, *urls: str, headers: Headers | None = None) -> list[int]:
        return [self.client.get(url, headers=headers).status_code for url in urls]


def host_of(app: Flask) -> Host:
    return Host(app, app.test_client(), Tokens.of(app), get_state(app))


@pytest.fixture
def host(app: Flask) -> Host:
    return host_of(app)


def test_a_link_made_while_a_record_was_public_ends_when_it_is_made_private(host: Host) -> None:
    """Whoever made it, and however it was made private; and making it public again for a while
    brings none back."""
    location = host.upload(isPublic="true")

    def links_of_all() -> list[str]:
        with host.app.app_context():
            mine = signed_url(get_media(MediaStorage, location[-36:]))
        return [
            host.link(headers, location) for headers in (host.tokens.alice, host.tokens.bob)
        ] + [mine]

    made = links_of_all()
    assert host.opens(*made) == [200] * 3
    host.edit(location, isPublic=False)
    assert host.opens(*made) == [403] * 3
    content = f"{location}/content"
    replaced = host.client.put(content, headers=host.tokens.alice, data=PDF + b"2")
    assert replaced.status_code == 200
    assert host.opens(*made) == [403] * 3

    made += [host.link(host.tokens.alice, location)]
    host.edit(location, title="still private", isPublic=False)
    assert host.opens(*made) == [403] * 3 + [200], "what was private already keeps its links"

    host.edit(location, isPublic=True)
    made += links_of_all()
    with host.app.app_context():
        update_media(MediaStorage, location[-36:], is_public=False)
    assert host.opens(*made) == [403] * 7


def test_a_worker_of_an_earlier_version_that_makes_a_record_private_ends_them_too(
    host: Host,
) -> None:
    location = host.upload(isPublic="true")
    url = host.link(host.tokens.bob, location)
    record = host.state.repository.get(MediaStorage, uuid.UUID(location[-36:]))
    assert record is not None
    where = {"state": AVAILABLE, "version": record.version}
    assert host.state.repository.update(MediaStorage, record.id, {"is_public": False}, where=where)
    assert host.opens(url) == [403]


def test_the_host_set_back_in_time_makes_no_mark_twice(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    location, made = host.upload(), []
    for hours in (0, -1, -2, 0, 1):
        made.append(host.link(host.tokens.alice, location))
        host.edit(location, isPublic=True)
        with monkeypatch.context() as patch:
            shift = timedelta(hours=hours)
            patch.setattr("flask_dualmedia.models.now", lambda shift=shift: now() + shift)
            host.edit(location, isPublic=False)
        assert set(host.opens(*made)) == {403}


def test_what_was_revoked_in_the_journal_stays_so_in_sql(
    make_proxied: MakeApp, proxy: Proxy
) -> None:
    host = host_of(make_proxied(DUALMEDIA_AUTO_DRAIN=False))
    circuit = host.state.circuit
    assert circuit is not None
    proxy.refuse()
    circuit.trip()
    location = host.upload(isPublic="true")
    made = [host.link(host.tokens.bob, location)]
    host.edit(location, isPublic=False)
    made.append(host.link(host.tokens.alice, location))
    assert host.opens(*made) == [403, 200]
    proxy.let_through()
    eventually(lambda: not circuit.is_open)
    drain_journal(host.state)
    assert host.state.homes[0].repository.get(MediaStorage, uuid.UUID(location[-36:])) is not None
    assert host.opens(*made) == [403, 200]


def test_a_transfer_opens_no_link_that_was_revoked_on_either_side(make_app: MakeApp) -> None:
    """The record of the source is newer, and its links were not revoked; those of the target
    were."""
    host = host_of(make_app("dual"))
    location = host.upload()
    sql, journal = host.state.homes
    url = host.link(host.tokens.alice, location)
    record = sql.repository.get(MediaStorage, uuid.UUID(location[-36:]))
    assert record is not None
    values = record.values() | {
        "version": 9,
        "title": "newer",
        "storage_key": None,
        "storage_type": "external",
    }
    assert host.client.delete(f"{location}/link", headers=host.tokens.alice).status_code == 204
    _copy(
        MediaStorage.from_values(values | {"url": "https://cdn.example/a"}), journal, sql, Report()
    )
    written = sql.repository.get(MediaStorage, record.id)
    assert (written and written.title) == "newer"
    assert host.opens(url) == [403]


def test_what_comes_back_from_an_older_journal_opens_by_new_links_alone(make_app: MakeApp) -> None:
    """Its links may have been revoked in SQL, after the backup."""
    host = host_of(make_app("dual"))
    journal: Home[JournalRepository, t.Any] = host.state.homes[1]
    external = {
        "state": AVAILABLE,
        "storage_type": "external",
        "media_type": "document",
        "url": "https://cdn.example",
    }
    record = MediaStorage.new(
        uploaded_by="alice", reference_type="page", reference_id="1", **external
    )
    journal.repository.add(record)
    with host.app.test_request_context():
        before = links.read_link(signed_url(record).partition("signature=")[2])
    assert journal.repository.trash_stale(record)
    stale = journal.repository.find(MediaStorage, record.id)
    assert stale is not None
    restored = sweeping.restore(host.state, stale)
    with host.app.app_context():
        assert before is not None
        assert not before.opens(restored, None)
        after = links.read_link(signed_url(restored).partition("signature=")[2])
        assert after is not None
        assert after.opens(restored, None)


members: set[str] = set()


def members_read(
    action: str, subject: t.Any, identity: str | None, claims: t.Mapping[str, t.Any]
) -> bool:
    """A rule of a host's: members read, and whoever has a role or a group."""
    if action in ("read", "link"):
        return (
            identity in members
            or claims.get("role") == "tutor"
            or "readers" in claims.get("groups", ())
        )
    return default_rule(t.cast(t.Any, action), subject, identity, claims)


@pytest.fixture
def club(make_app: MakeApp, mode: str) -> t.Iterator[Host]:
    members.clear()
    members.add("alice")
    yield host_of(make_app(mode, DUALMEDIA_AUTHORIZE=members_read))
    members.clear()


def test_under_a_rule_of_the_host_a_link_opens_while_its_maker_may_read(club: Host) -> None:
    location = club.upload(isPublic="true")
    members.add("bob")
    by_bob, bound = (club.link(club.tokens.bob, location, onlyForMe=only) for only in (False, True))
    by_alice = club.link(club.tokens.alice, location)
    with club.app.app_context():
        record = get_media(MediaStorage, location[-36:])
        by_app, lent = signed_url(record), signed_url(record, maker="bob")
    made = [by_bob, by_alice, by_app, lent]
    assert club.opens(*made) == [200] * 4
    assert club.opens(bound, headers=club.tokens.bob) == [200]
    members.discard("bob")
    assert club.opens(*made) == [403, 200, 200, 403]
    assert club.opens(bound, headers=club.tokens.bob) == [404]
    members.add("bob")
    assert club.opens(*made) == [200] * 4
    club.edit(location, isPublic=False)
    assert club.opens(*made) == [403] * 4


def test_caches_keep_nothing_that_the_rule_keeps_from_strangers(club: Host, host: Host) -> None:
    """A cache would give it to whoever comes next, and go on with a link that has ended."""
    location = club.upload(isPublic="true")
    content = f"{location}/content"
    link = club.link(club.tokens.alice, location)
    assert club.opens(content, link) == [401, 200]
    for answer in (
        club.client.get(content, headers=club.tokens.alice),
        club.client.head(content, headers=club.tokens.alice),
        club.client.get(content, headers=club.tokens.alice | {"Range": "bytes=0-3"}),
        club.client.get(link),
    ):
        assert answer.headers["Cache-Control"] == "private, no-cache"
    assert host.client.get(content).headers["Cache-Control"] == "public, max-age=300"


def test_a_right_by_claims_goes_with_the_link_and_ends_with_the_token(club: Host) -> None:
    location = club.upload()
    with club.app.app_context():
        claims = {"role": "tutor", "email": "carol@school.example"}
        token = create_access_token(
            "carol", additional_claims=claims, expires_delta=timedelta(seconds=30)
        )
    headers = {"Authorization": f"Bearer {token}"}
    answer = (
        club.client.post(f"{location}/link", headers=headers, json={"expiresIn": 5000}).json or {}
    )
    assert club.opens(answer["url"]) == [200]
    remaining = datetime.fromisoformat(answer["expiresAt"]) - datetime.now(UTC)
    assert timedelta(seconds=15) < remaining <= timedelta(seconds=31)
    payload = links_payload(club.app, answer["url"])
    assert (payload["maker"], payload["claims"]) == ("carol", {"role": "tutor"})

    members.add("carol")
    answer = (
        club.client.post(f"{location}/link", headers=headers, json={"expiresIn": 5000}).json or {}
    )
    assert links_payload(club.app, answer["url"])["claims"] == {}, "the identity is enough"
    assert datetime.fromisoformat(answer["expiresAt"]) - datetime.now(UTC) > timedelta(seconds=4000)


def test_a_right_by_claims_that_links_do_not_carry_makes_none(make_app: MakeApp) -> None:
    host = host_of(make_app("mongo", DUALMEDIA_AUTHORIZE=members_read))
    members.clear()
    location, headers = host.upload(), bearer(host.app, "dora", groups=["readers"])
    refused = host.client.post(f"{location}/link", headers=headers)
    assert (refused.status_code, "claims" in (refused.json or {})["message"]) == (403, True)
    carrying = host_of(
        make_app("mongo", DUALMEDIA_AUTHORIZE=members_read, DUALMEDIA_LINK_CLAIMS=["groups"])
    )
    assert carrying.opens(carrying.link(headers, location)) == [200]


def test_a_rule_that_takes_claims_for_granted(make_app: MakeApp) -> None:
    """It finds the claims of a token, and of a link those that it carries."""

    def rule(
        action: str, subject: t.Any, identity: str | None, claims: t.Mapping[str, t.Any]
    ) -> bool:
        return identity is not None and claims["school"] == "oak"

    hosts = [
        host_of(make_app("mongo", DUALMEDIA_AUTHORIZE=rule, DUALMEDIA_LINK_CLAIMS=names))
        for names in ([], ["school"])
    ]
    headers = bearer(hosts[0].app, "eve", school="oak")
    form = {"file": part(PDF), **PAGE}
    location = post_form(hosts[0].client, headers, "/media/files", form).headers["Location"]
    assert hosts[0].client.post(f"{location}/link", headers=headers).status_code == 403
    assert hosts[1].opens(hosts[1].link(headers, location)) == [200]
    with hosts[1].app.app_context():
        lent = signed_url(get_media(MediaStorage, location[-36:]), maker="eve")
    assert hosts[1].opens(lent) == [403]


@pytest.mark.parametrize(
    "is_oak",
    [
        lambda claims: claims["school"] == "oak",
        lambda claims: claims.get("school").startswith("oak"),
        lambda claims: "oak" in claims.get("school"),
        lambda claims: claims.get("school", "")[0] == "o",
        lambda claims: next(letter for letter in claims.get("school", "") if letter == "o") == "o",
        lambda claims: int(claims.get("school", ""), 36) == int("oak", 36),
    ],
)
def test_a_rule_that_takes_for_granted_what_is_in_a_claim(
    make_app: MakeApp, is_oak: t.Callable[[t.Mapping[str, t.Any]], bool]
) -> None:
    """A link that lacks the claim is refused, whatever error the rule makes of it."""

    def rule(
        action: str, subject: t.Any, identity: str | None, claims: t.Mapping[str, t.Any]
    ) -> bool:
        return identity is not None and is_oak(claims)

    host = host_of(make_app("mongo", DUALMEDIA_AUTHORIZE=rule))
    headers = bearer(host.app, "eve", school="oak")
    location = post_form(host.client, headers, "/media/files", {"file": part(PDF), **PAGE}).headers[
        "Location"
    ]
    assert host.client.post(f"{location}/link", headers=headers).status_code == 403
    with host.app.app_context():
        lent = signed_url(get_media(MediaStorage, location[-36:]), maker="eve")
    assert host.opens(lent) == [403]


def test_claims_that_are_too_long_for_a_link_make_none(make_app: MakeApp) -> None:
    """Servers would refuse its URL."""
    host = host_of(
        make_app("mongo", DUALMEDIA_AUTHORIZE=members_read, DUALMEDIA_LINK_CLAIMS=["groups"])
    )
    members.clear()
    location = host.upload()
    few, many = (["readers", *(uuid.uuid4().hex for _ in range(number))] for number in (10, 200))
    assert host.opens(host.link(bearer(host.app, "dora", groups=few), location)) == [200]
    refused = host.client.post(f"{location}/link", headers=bearer(host.app, "dora", groups=many))
    assert (refused.status_code, "too long" in (refused.json or {})["message"]) == (403, True)


def links_payload(app: Flask, url: str) -> dict[str, t.Any]:
    with app.app_context():
        return links._serializer().loads(url.partition("signature=")[2])


def test_a_link_of_an_earlier_version_opens_nothing_under_a_rule_of_the_host(
    host: Host, club: Host
) -> None:
    """It does not say whose right it lends. Under the default rule it opens until links are
    revoked."""
    location = host.upload()
    with host.app.app_context():
        issued = round(time.time() * 1000)
        signed = {"action": "read", "media": uuid.UUID(location[-36:]).hex, "issued": issued}
        signed |= {"expires": issued + 60_000, "identity": None, "revoked": None}
        url = f"{location}/content?signature={links._serializer().dumps(signed)}"
    assert (host.opens(url), club.opens(url)) == ([200], [403])
    host.edit(location, isPublic=True)
    host.edit(location, isPublic=False)
    assert host.opens(url) == [403]


def test_the_apps_own_link_needs_no_maker(app: Flask, host: Host) -> None:
    with app.app_context():
        record = save_media_storage("page", "1", PDF)
        url = signed_url(record)
    assert host.opens(url) == [200]
