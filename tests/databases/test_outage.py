"""The app works while SQL is away, and when it comes back."""

from __future__ import annotations

import io
import time
import typing as t
from collections.abc import Callable
from contextlib import AbstractContextManager
from hashlib import sha256

import psutil
import psycopg
import pytest
import sqlalchemy as sa
from bson import ObjectId
from flask import Flask
from pymongo.uri_parser import parse_uri

from flask_dualmedia import (
    CourseVideo,
    DatabaseUnavailable,
    ProductImage,
    attach_media,
    delete_media,
    delete_media_of,
    failpoints,
    get_media,
    get_product_images,
    open_media,
    save_course_video,
    save_product_image,
    signals,
    update_media,
    update_media_access_count,
)
from flask_dualmedia.databases.announcements import VALIDITY
from flask_dualmedia.databases.leases import Lease
from flask_dualmedia.errors import NoConnectionFree
from flask_dualmedia.models import KINDS, new_id
from flask_dualmedia.repositories.base import Listing
from flask_dualmedia.repositories.failover import FailoverRepository
from flask_dualmedia.repositories.sql import SQLRepository
from flask_dualmedia.state import get_state
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.upkeep import sweeping
from flask_dualmedia.upkeep.check import Checker
from flask_dualmedia.upkeep.journal import drain_journal, homes_of

from ..conftest import MakeApp
from ..samples import bearer, mp4, part, png
from ..tools.proxy import Proxy
from ..waiting import eventually, passes

BUDGET = 2.0
"""Seconds: the default of DUALMEDIA_SQL_TIMEOUT."""

CANCELLING = 0.7
"""Seconds that a server may take, besides, to accept that a statement is cancelled, before it is
taken to be down."""

SLACK = 0.7
"""Seconds that a busy machine may add."""


@pytest.fixture
def app(make_proxied: Callable[..., Flask]) -> Flask:
    return make_proxied()


@pytest.fixture
def product(app: Flask) -> ObjectId:
    return get_state(app).mongo["products"].insert_one({"name": "p"}).inserted_id


def is_back(app: Flask) -> bool:
    health = app.test_client().get("/media/health").json
    assert health is not None
    return not health["degraded"] and health["journal"] == 0


def timed(call: Callable[[], t.Any]) -> tuple[float, t.Any]:
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer


@pytest.mark.usefixtures("context")
def test_media_is_accepted_and_readable_during_an_outage(
    app: Flask, proxy: Proxy, product: ObjectId
) -> None:
    """An outage is not an error: uploads go to the journal, and readers find them there."""
    held = save_product_image(product, io.BytesIO(png()), is_main_image=True)
    proxy.refuse()
    new = save_product_image(product, io.BytesIO(png(comment=b"new")), position=1)
    images = get_product_images(product)
    assert images.partial
    assert [image.id for image in images] == [new.id]
    assert b"".join(open_media(get_media(ProductImage, new.id))) == png(comment=b"new")
    update_media_access_count(ProductImage, new.id)
    assert update_media(ProductImage, new.id, alt_text="changed").access_count == 1
    for call in (get_media, delete_media, update_media_access_count):
        with pytest.raises(DatabaseUnavailable):
            call(ProductImage, held.id)
    (document,) = attach_media([{"_id": product}], images=ProductImage, videos=CourseVideo)
    assert document["images"].partial
    assert [image.id for image in document["images"]] == [new.id]

    proxy.let_through()
    eventually(lambda: is_back(app))
    images = get_product_images(product)
    assert not images.partial
    assert [image.id for image in images] == [held.id, new.id]
    assert (images[1].alt_text, images[1].access_count) == ("changed", 1)
    assert b"".join(open_media(images[1])) == png(comment=b"new")
    state = get_state(app)
    assert state.homes[1].repository.is_empty()
    assert list(state.homes[1].storage.keys()) == []


def test_http_during_an_outage(app: Flask, proxy: Proxy, product: ObjectId) -> None:
    client, headers = app.test_client(), bearer(app, "alice")
    held = client.post(
        "/media/product-images",
        data={"file": part(png()), "mongoProductId": str(product)},
        headers=headers,
    ).json
    assert held is not None
    proxy.refuse()
    for path in (f"/media/product-images/{held['id']}", held["imageUrl"]):
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.json["code"]) == (503, 503)  # type: ignore[index]
        assert int(answer.headers["Retry-After"]) > 0
    new = client.post(
        "/media/product-images",
        data={"file": part(png()), "mongoProductId": str(product)},
        headers=headers,
    )
    assert new.status_code == 201
    assert client.get(new.json["imageUrl"], headers=headers).data == png()  # type: ignore[index]
    page = client.get("/media/product-images", headers=headers).json
    assert page is not None
    assert page["partial"] is True
    assert [item["id"] for item in page["items"]] == [new.json["id"]]  # type: ignore[index]
    health = client.get("/media/health").json
    assert health == {
        "mode": "dual", "degraded": True, "mongo": {"ok": True}, "sql": {"ok": False}, "journal": 1,
    }  # fmt: skip
    proxy.let_through()
    eventually(lambda: is_back(app))
    page = client.get("/media/product-images", headers=headers).json
    assert page is not None
    assert page["partial"] is False
    assert len(page["items"]) == 2
    assert client.get(new.json["imageUrl"], headers=headers).data == png()  # type: ignore[index]


@pytest.mark.usefixtures("context")
def test_refusing_instead_of_keeping_a_journal(
    make_proxied: Callable[..., Flask], proxy: Proxy, product: ObjectId
) -> None:
    app = make_proxied(DUALMEDIA_ON_SQL_OUTAGE="refuse")
    proxy.refuse()
    with app.app_context(), pytest.raises(DatabaseUnavailable):
        save_product_image(product, io.BytesIO(png()))
    assert get_state(app).homes[1].repository.is_empty()


@pytest.mark.parametrize("failure", ["refuse", "hang"])
def test_requests_keep_within_the_budget(
    app: Flask, proxy: Proxy, product: ObjectId, failure: str
) -> None:
    """The first request in an outage pays at most the time-out; an open circuit costs nothing."""
    client, headers = app.test_client(), bearer(app, "alice")
    url = {"mongoProductId": str(product), "imageUrl": "https://cdn.example/a.jpg"}
    held = client.post("/media/product-images", json=url, headers=headers).json
    assert held is not None
    path = f"/media/product-images/{held['id']}"
    getattr(proxy, failure)()
    first, answer = timed(lambda: client.get(path, headers=headers))
    assert answer.status_code == 503
    assert first < BUDGET + CANCELLING + SLACK
    later = sorted(timed(lambda: client.get(path, headers=headers))[0] for _ in range(40))
    assert later[20] < 0.1
    for limit in (
        VALIDITY + 0.5,
        0.5,
    ):  # the first one waits until other processes know of the journal
        spent, answer = timed(
            lambda: client.post("/media/product-images", json=url, headers=headers)
        )
        assert answer.status_code == 201
        assert spent < limit
    proxy.let_through()
    eventually(lambda: is_back(app))
    assert client.get(path, headers=headers).status_code == 200


@pytest.mark.parametrize("failure", ["refuse", "hang"])
def test_booting_without_sql(
    make_proxied: Callable[..., Flask], proxy: Proxy, failure: str
) -> None:
    getattr(proxy, failure)()
    spent, app = timed(make_proxied)
    more, answer = timed(lambda: app.test_client().get("/media/health"))
    assert answer.json["degraded"] is True
    assert spent + more < 5
    proxy.let_through()
    eventually(lambda: is_back(app))


def test_booting_on_an_empty_database_that_is_away(
    make_proxied: Callable[..., Flask], proxy: Proxy, migrated_url: str
) -> None:
    """The schema is brought up to date when SQL comes."""
    engine = sa.create_engine(migrated_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    proxy.refuse()
    app = make_proxied(DUALMEDIA_AUTO_UPGRADE=True, DUALMEDIA_REFERENCES={"product": None})
    with app.app_context():
        saved = save_product_image("p", io.BytesIO(png()))
        proxy.let_through()
        eventually(lambda: is_back(app))
        assert [image.id for image in get_product_images("p")] == [saved.id]
        assert not get_product_images("p").partial


@pytest.mark.usefixtures("context")
def test_connections_that_are_cut_are_replaced(app: Flask, proxy: Proxy, product: ObjectId) -> None:
    saved = save_product_image(product, io.BytesIO(png()))
    time.sleep(1.1)  # idle long enough to be asked before they are used
    proxy.reset()
    assert get_media(ProductImage, saved.id).id == saved.id
    assert not get_product_images(product).partial


@pytest.mark.long
def test_a_pool_in_use_is_no_outage(make_app: MakeApp) -> None:
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.2}
    app = make_app(SQLALCHEMY_ENGINE_OPTIONS=options, DUALMEDIA_REFERENCES={"product": None})
    state = get_state(app)
    assert state.engine is not None
    assert state.circuit is not None
    with app.app_context():
        saved = save_product_image("p", io.BytesIO(png()))
        with state.engine.connect():
            with pytest.raises(NoConnectionFree):
                get_media(ProductImage, saved.id)
            with pytest.raises(NoConnectionFree):
                save_product_image("p", io.BytesIO(png()))
            with pytest.raises(NoConnectionFree):
                get_product_images("p")
            with pytest.raises(NoConnectionFree):
                attach_media([{"_id": "p"}], images=ProductImage)
        assert not state.circuit.is_open
        assert state.homes[1].repository.is_empty()
        assert [image.id for image in get_product_images("p")] == [saved.id]


@pytest.mark.usefixtures("context")
def test_a_conflict_of_main_images_is_settled_and_reported(
    app: Flask, proxy: Proxy, product: ObjectId
) -> None:
    """The one in SQL, which readers saw all the time, stays the main image."""
    first = save_product_image(product, io.BytesIO(png()), is_main_image=True)
    reports = []
    receiver = signals.journal_drained.connect(
        lambda _, report: reports.append(report), weak=False, sender=app
    )
    proxy.refuse()
    second = save_product_image(product, io.BytesIO(png()), is_main_image=True)
    proxy.let_through()
    eventually(lambda: reports)  # the journal is empty a moment before anybody is told
    signals.journal_drained.disconnect(receiver)
    assert [(i.id, i.is_main_image) for i in get_product_images(product)] == [
        (first.id, True),
        (second.id, False),
    ]
    assert [len(report.conflicts) for report in reports] == [1]


@pytest.mark.usefixtures("context")
def test_records_that_were_moved_before_sql_went_away_again_are_told_of(
    app: Flask, proxy: Proxy, product: ObjectId
) -> None:
    numbers_moved = []
    receiver = signals.journal_drained.connect(
        lambda _, report: numbers_moved.append(report.moved), weak=False, sender=app
    )

    def lose() -> None:
        proxy.refuse()
        time.sleep(0.3)  # until the proxy has taken notice

    proxy.refuse()
    for position in range(2):
        save_product_image(product, io.BytesIO(png()), position=position)
    with failpoints.on("drain:done", lose):
        proxy.let_through()
        eventually(lambda: numbers_moved == [1], 10)
    proxy.let_through()
    eventually(lambda: numbers_moved == [1, 1])
    signals.journal_drained.disconnect(receiver)
    assert len(get_product_images(product)) == 2


@pytest.mark.usefixtures("context")
def test_signals(app: Flask, proxy: Proxy, product: ObjectId) -> None:
    """All are heard, though another receiver of each one fails."""
    heard: list[str] = []

    def fail(_: Flask, **values: object) -> None:
        raise ValueError("a receiver of the host's")

    names = (
        "media_saved",
        "media_deleted",
        "media_accessed",
        "sql_lost",
        "sql_recovered",
        "journal_drained",
    )
    receivers = {}
    for name in names:
        receivers[name] = getattr(signals, name).connect(
            lambda _, name=name, **values: heard.append(name), sender=app, weak=False
        )
        getattr(signals, name).connect(fail, sender=app)
    saved = save_product_image(product, io.BytesIO(png()))
    update_media_access_count(ProductImage, saved.id)
    delete_media(ProductImage, saved.id)
    proxy.refuse()
    save_product_image(product, io.BytesIO(png()))
    proxy.let_through()
    eventually(lambda: is_back(app) and "journal_drained" in heard)
    for name in names:
        getattr(signals, name).disconnect(receivers[name])
    assert heard == [
        "media_saved", "media_accessed", "media_deleted",
        "sql_lost", "media_saved", "sql_recovered", "journal_drained",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.usefixtures("context")
def test_an_outage_ends_though_a_receiver_of_signals_has_ended_the_thread(
    app: Flask, proxy: Proxy, product: ObjectId
) -> None:
    def leave(_: Flask) -> None:
        raise SystemExit

    with signals.sql_recovered.connected_to(leave, sender=app):
        proxy.refuse()
        save_product_image(product, io.BytesIO(png()))
        proxy.let_through()
        eventually(lambda: not app.test_client().get("/media/health").json["degraded"])  # type: ignore[index]
    proxy.refuse()
    save_product_image(product, io.BytesIO(png()))
    proxy.let_through()
    eventually(lambda: (get_product_images(product), is_back(app))[1])


@pytest.mark.usefixtures("context")
def test_draining_by_hand(
    make_proxied: Callable[..., Flask], proxy: Proxy, product: ObjectId
) -> None:
    app = make_proxied(DUALMEDIA_AUTO_DRAIN=False)
    state = get_state(app)
    with app.app_context():
        proxy.refuse()
        saved = save_product_image(product, io.BytesIO(png()))
        content = mp4(5_000_000)
        course = state.mongo["courses"].insert_one({}).inserted_id
        video = save_course_video(course, io.BytesIO(content))
        refused = app.test_cli_runner().invoke(args=["dualmedia", "drain"])
        assert (refused.exit_code, "does not answer" in refused.output) == (1, True)
        proxy.let_through()
        eventually(lambda: not app.test_client().get("/media/health").json["degraded"])  # type: ignore[index]
        assert [image.id for image in get_product_images(product)] == [saved.id], (
            "what waits is listed with the rest"
        )
        first = app.test_cli_runner().invoke(args=["dualmedia", "drain"])
        assert first.exit_code == 0
        assert first.output == "Moved 2 record(s); 0 had been moved before.\n"
        second = app.test_cli_runner().invoke(args=["dualmedia", "drain"])
        assert second.output == "Moved 0 record(s); 0 had been moved before.\n"
        assert [image.id for image in get_product_images(product)] == [saved.id]
        assert b"".join(open_media(get_media(CourseVideo, video.id))) == content
        assert sum(map(state.homes[0].repository.count, KINDS.values())) == 2


@pytest.mark.usefixtures("context")
def test_journaled_media_can_be_deleted_before_and_after_it_is_drained(
    app: Flask, proxy: Proxy, product: ObjectId
) -> None:
    state = get_state(app)
    proxy.refuse()
    first, second = (save_product_image(product, io.BytesIO(png())) for _ in range(2))
    delete_media(ProductImage, first.id)
    assert [image.id for image in get_product_images(product)] == [second.id]
    proxy.let_through()
    eventually(lambda: not app.test_client().get("/media/health").json["degraded"])  # type: ignore[index]
    eventually(lambda: state.homes[1].repository.find(ProductImage, second.id) is None)
    assert delete_media_of("product", product) == 1
    assert get_product_images(product) == []


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_sql_goes_away_in_the_middle_of_a_small_upload(
    app: Flask, proxy: Proxy, product: ObjectId, method: str
) -> None:
    """The upload is one statement, and nothing of it is kept. A new one is accepted all the
    same."""
    old, new = png(comment=b"old"), png(comment=b"new")
    with app.app_context():
        saved = save_product_image(product, io.BytesIO(old))
    cuts: list[str] = []

    def cut() -> None:
        assert is_connected(proxy)
        proxy.refuse()
        eventually(lambda: not is_connected(proxy))
        cuts.append(method)

    client, headers = app.test_client(), bearer(app, "alice", role="admin")
    if method == "POST":
        form = {"mongoProductId": str(product), "file": part(new)}
        with failpoints.on("create:whole", cut):
            answer = client.post("/media/product-images", headers=headers, data=form)
    else:
        content = f"/media/product-images/{saved.id}/content"
        with failpoints.on("replace:whole", cut):
            answer = client.put(content, headers=headers, data=new)
    assert cuts
    assert answer.status_code == (201 if method == "POST" else 503)
    proxy.let_through()
    eventually(lambda: is_back(app))
    with app.app_context():
        contents = [b"".join(open_media(image)) for image in get_product_images(product)]
        assert contents == ([old, new] if method == "POST" else [old])
        # Whether the change was made nobody knew: the new bytes were left to a check.
        assert Checker(get_state(app), grace=-1, repair=True, at_once=True).run().found.keys() <= {
            "bytes_orphaned"
        }
        assert Checker(get_state(app), grace=-1, verify_bytes=True).run().found == {}
        assert [b"".join(open_media(image)) for image in get_product_images(product)] == contents


def is_connected(proxy: Proxy) -> bool:
    """Tell whether this process has a connection through a proxy."""
    return any(
        connection.raddr and connection.raddr.port == proxy.port
        for connection in psutil.Process().net_connections("tcp")
        if connection.status == psutil.CONN_ESTABLISHED
    )


def lose() -> t.NoReturn:
    """What psycopg raises when a connection breaks before the answer has come."""
    raise psycopg.OperationalError("the connection is lost")


def dying(proxy: Proxy, source: bytes | str) -> AbstractContextManager[None]:
    """SQL takes what is saved next, bytes or a URL, and dies before it answers."""

    def die() -> None:
        proxy.refuse()
        lose()

    if isinstance(source, bytes):
        return failpoints.on("create:answered", die)
    return failpoints.on("fetch:answered", die)


SOURCES = pytest.mark.parametrize(
    "source", [png(), "https://cdn.example/a.png"], ids=["bytes", "url"]
)


@SOURCES
def test_nothing_is_accepted_in_place_of_what_sql_may_have_taken_where_no_journal_is_kept(
    make_proxied: Callable[..., Flask],
    proxy: Proxy,
    source: bytes | str,
) -> None:
    """The client would have two of it."""
    app = make_proxied(DUALMEDIA_ON_SQL_OUTAGE="refuse")
    product = get_state(app).mongo["products"].insert_one({"name": "p"}).inserted_id
    with app.app_context():
        with dying(proxy, source), pytest.raises(DatabaseUnavailable):
            # With a position nothing is asked for before.
            save_product_image(product, source, is_main_image=True, position=0)
        proxy.let_through()
        eventually(lambda: is_back(app))
        assert len(get_product_images(product)) == 1


@pytest.mark.usefixtures("context")
@SOURCES
@pytest.mark.parametrize("then", ["edited", "deleted"])
def test_sql_takes_new_media_and_dies_before_it_answers(
    app: Flask,
    proxy: Proxy,
    product: ObjectId,
    source: bytes | str,
    then: str,
) -> None:
    """Nobody was told what SQL took. The media that is accepted in its place is the only one in the
    end."""
    with dying(proxy, source):
        # With a position nothing is asked for before.
        image = save_product_image(product, source, is_main_image=True, position=0)
    assert get_state(app).homes[1].repository.find(ProductImage, image.id) is not None
    if then == "edited":
        update_media(ProductImage, image.id, alt_text="changed")
    else:
        delete_media(ProductImage, image.id)
    proxy.let_through()
    state = get_state(app)
    eventually(lambda: is_back(app) and state.homes[1].repository.is_empty())
    left = [(held.id, held.is_main_image, held.alt_text) for held in get_product_images(product)]
    assert left == ([(image.id, True, "changed")] if then == "edited" else [])
    assert state.homes[0].repository.count(ProductImage) == len(left)
    assert Checker(state, grace=-1, verify_bytes=True).run().found == {}


@pytest.mark.usefixtures("context")
def test_sql_makes_a_replacement_and_its_answer_is_lost(app: Flask, product: ObjectId) -> None:
    """SQL is back when the replacement is tried again, and has it already."""
    saved = save_product_image(product, io.BytesIO(png(comment=b"old")))
    content = png(comment=b"new")
    headers = bearer(app, "alice", role="admin")
    with failpoints.on("replace:answered", lose):
        answer = app.test_client().put(
            f"/media/product-images/{saved.id}/content", headers=headers, data=content
        )
    assert (answer.status_code, answer.get_json()["checksum"]) == (200, sha256(content).hexdigest())
    assert b"".join(open_media(get_media(ProductImage, saved.id))) == content
    assert Checker(get_state(app), grace=-1, verify_bytes=True).run().found == {}


def test_replacing_what_is_in_the_journal_while_sql_answers(
    make_proxied: Callable[..., Flask], proxy: Proxy, product: ObjectId
) -> None:
    """No transaction of SQL takes part in it."""
    app = make_proxied(DUALMEDIA_AUTO_DRAIN=False)
    state, new = get_state(app), png(comment=b"new")
    proxy.refuse()
    with app.app_context():
        saved = save_product_image(product, io.BytesIO(png()))
        proxy.let_through()
        assert state.circuit is not None
        eventually(lambda: not state.circuit.is_open)  # type: ignore[union-attr]
        path = f"/media/product-images/{saved.id}/content"
        answer = app.test_client().put(path, headers=bearer(app, "root", role="admin"), data=new)
        assert answer.status_code == 200
        for _ in ("in the journal", "in SQL"):
            assert b"".join(open_media(get_media(ProductImage, saved.id))) == new
            drain_journal(state)
        assert Checker(state, grace=-1, verify_bytes=True).run().found == {}


def test_bytes_that_are_in_sql_and_in_the_journal_go_from_both(
    make_proxied: Callable[..., Flask],
) -> None:
    """An upload leaves such bytes if SQL's answer to the short way is lost, and it goes the long
    way."""
    state = get_state(make_proxied(DUALMEDIA_AUTO_DRAIN=False))
    homes, key = homes_of(state), new_key(new_id())
    for home in homes:
        home.storage.put(key, iter([b"bytes"]))
    assert state.circuit is not None
    state.circuit.expect_journal()
    state.storages["database"].delete(key)
    assert [home.storage.stat(key) for home in homes] == [None, None]


@pytest.mark.parametrize("by", ["this process", "another process"])
def test_an_upload_that_ends_after_the_outage_in_which_it_began(
    make_proxied: Callable[..., Flask], product: ObjectId, by: str
) -> None:
    """It is listed from the moment at which it is acknowledged, and not only when the journal is
    looked at again."""
    state = get_state(make_proxied(DUALMEDIA_AUTO_DRAIN=False))
    _, journal = homes_of(state)
    begun = ProductImage.new(
        mongo_product_id=str(product), is_main_image=False, position=0, storage_type="database"
    )
    journal.repository.add(begun)
    assert state.circuit is not None
    if by == "another process":
        with passes("journal:known") as looks:
            state.repository.select(Listing(ProductImage))
            eventually(lambda: len(looks) > 1)
        publishing = journal.repository
    else:
        publishing = state.repository
    publishing.update(ProductImage, begun.id, {"state": "available"}, where={"state": "pending"})
    assert [record.id for record in state.repository.select(Listing(ProductImage))] == [begun.id]


@pytest.mark.parametrize("claimed", [False, True])
def test_a_creation_begun_in_sql_and_finished_in_the_journal(
    make_proxied: Callable[..., Flask], product: ObjectId, claimed: bool
) -> None:
    """The answer to the first write was lost with the connection. The record in the journal is the
    one that was acknowledged: it is found while it is moved, and neither it nor its bytes are swept
    with the other."""
    app = make_proxied(DUALMEDIA_AUTO_DRAIN=False)
    state = get_state(app)
    sql, journal = homes_of(state)
    begun = ProductImage.new(
        mongo_product_id=str(product),
        is_main_image=False,
        position=0,
        storage_type="database",
        mime_type="image/png",
    )
    key, content = new_key(begun.id), png(comment=b"journaled")
    vars(begun).update(storage_key=key)
    sql.repository.add(begun)
    finished = {
        "state": "available",
        "file_size": len(content),
        "checksum": sha256(content).hexdigest(),
    }
    journal.storage.put(key, iter([content]))
    journal.repository.add(ProductImage.from_values(begun.values() | finished))
    assert state.circuit is not None
    state.circuit.expect_journal()  # its thread may have found the journal empty before
    lease = Lease(state.mongo, "drain")
    if claimed:
        assert lease.take()
        journal.repository.claim(ProductImage, begun.id, lease.holder)
    with app.app_context():
        for _ in ("before", "after a sweep"):
            assert get_media(ProductImage, begun.id).state == "available"
            assert [image.id for image in get_product_images(product)] == [begun.id]
            assert sweeping.sweep(state, grace=-1) == 0
            found = Checker(state, grace=-1).run().found
            expected = {} if claimed else {"journal_left": 1}
            assert found == expected, "what is being drained is no finding"
        if claimed:
            with pytest.raises(DatabaseUnavailable):
                delete_media(ProductImage, begun.id)
        lease.give_back()
        drain_journal(state)
        assert b"".join(open_media(get_media(ProductImage, begun.id))) == content
        assert Checker(state, grace=-1, verify_bytes=True).run().found == {}


def test_a_record_that_is_moved_in_the_middle_of_a_request(
    make_proxied: Callable[..., Flask], product: ObjectId
) -> None:
    """The drain puts the record into SQL just after SQL was asked."""
    state = get_state(make_proxied(DUALMEDIA_AUTO_DRAIN=False))
    _, journal = homes_of(state)
    assert state.circuit is not None
    record = ProductImage.new(
        mongo_product_id=str(product),
        is_main_image=False,
        position=0,
        storage_type="external",
        state="available",
    )

    class Late(SQLRepository):
        def select(self, listing: t.Any) -> t.Any:
            found = super().select(listing)
            self.add(record)
            return found

        def update(self, kind: t.Any, media_id: t.Any, changes: t.Any, *, where: t.Any) -> t.Any:
            changed = super().update(kind, media_id, changes, where=where)
            if self.find(kind, media_id) is None:
                self.add(record)
            return changed

    assert state.engine is not None
    sql = Late(state.engine)
    repository = FailoverRepository(sql, journal.repository, state.circuit, journals=True)
    journal.repository.add(record)
    journal.repository.claim(ProductImage, record.id)
    state.circuit.expect_journal()  # a look of its thread that began before does not count
    assert [found.id for found in repository.select(Listing(ProductImage))] == [record.id]
    sql.remove(ProductImage, record.id)
    changed = repository.update(
        ProductImage, record.id, {"position": 5}, where={"state": "available"}
    )
    assert changed is not None
    assert changed.position == 5


@pytest.mark.long
def test_lists_are_partial_without_mongodb(
    make_proxied: Callable[..., Flask], product: ObjectId, servers: t.Any
) -> None:
    """The journal may hold more."""
    proxy = Proxy(parse_uri(servers.mongo)["nodelist"][0])
    app = make_proxied(
        MONGO_URI=f"mongodb://127.0.0.1:{proxy.port}/partial?directConnection=true",
        DUALMEDIA_REFERENCES={"product": None},
        DUALMEDIA_CONNECT_TIMEOUT=0.5,
    )
    state = get_state(app)
    assert state.circuit is not None
    with app.app_context():
        saved = save_product_image(product, "https://cdn.example/a")
        assert not get_product_images(product).partial
        proxy.refuse()
        state.circuit.expect_journal()
        images = get_product_images(product)
        assert ([image.id for image in images], images.partial) == ([saved.id], True)
    proxy.close()


@pytest.mark.long
def test_only_one_drains_at_a_time(app: Flask) -> None:
    from flask_dualmedia.databases.leases import Lease

    state = get_state(app)
    one, other = Lease(state.mongo, "drain"), Lease(state.mongo, "drain")
    assert one.take()
    assert not other.take()
    assert one.take(), "renewed"
    result = app.test_cli_runner().invoke(args=["dualmedia", "drain"])
    assert result.exit_code == 1
    assert result.output == "Error: Another process is draining the journal.\n"
    one.give_back()
    assert other.take()
