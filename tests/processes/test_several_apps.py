"""Several apps in one process: each has its own tables, whatever thread sets it up and whenever SQL
comes."""

from __future__ import annotations

import logging
import threading
import typing as t
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from flask import Flask, Response, request
from werkzeug.test import Client
from werkzeug.wsgi import ClosingIterator

from flask_dualmedia import (
    DualMedia,
    MediaStorage,
    OwnerNotFound,
    remember_owner,
    save_media_storage,
    save_product_image,
)
from flask_dualmedia.databases import circuit, schema, synchronizer, turns
from flask_dualmedia.errors import Unavailable
from flask_dualmedia.models import Base
from flask_dualmedia.state import get_state

from ..conftest import BASE_CONFIG, Databases, MakeApp, close, unique
from ..samples import bearer
from ..tools.proxy import Proxy
from ..waiting import eventually

PREFIXES = ("", "dm_", "shop_", "blog_")

SETTLED = 30.0
"""Seconds until every app must have its tables."""

Make = t.Callable[..., Flask]


@pytest.fixture
def make(mongo_uri: str) -> Iterator[Make]:
    made: list[Flask] = []
    creating = threading.Lock()  # Flask's own rules are Flask's affair

    def make(url: str, prefix: str = "", **config: t.Any) -> Flask:
        with creating:
            app = Flask(f"host_{len(made)}")
        app.config.update(BASE_CONFIG, MONGO_URI=mongo_uri, SQLALCHEMY_DATABASE_URI=url)
        app.config.update(
            DUALMEDIA_TABLE_PREFIX=prefix, DUALMEDIA_COLLECTION_PREFIX=prefix, **config
        )
        made.append(app)
        DualMedia(app)
        return app

    yield make
    for app in made:
        close(app)


def tables_of(url: str) -> set[str]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    return set(sa.inspect(engine).get_table_names())


def expected(prefix: str) -> set[str]:
    return {f"{prefix}{name}" for name in (*Base.metadata.tables, "dualmedia_version")}


def in_threads(*work: t.Callable[[], object]) -> list[BaseException]:
    """Do everything at once; what was raised."""
    raised: list[BaseException] = []
    gate = threading.Barrier(len(work))

    def run(one: t.Callable[[], object]) -> None:
        gate.wait()
        try:
            one()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_apps_that_are_set_up_in_threads_each_get_their_own_tables(
    databases: Databases, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    urls = [
        databases.create(unique("test")).render_as_string(hide_password=False) for _ in PREFIXES
    ]

    def work(url: str, prefix: str) -> t.Callable[[], object]:
        return lambda: make(url, prefix)

    assert in_threads(*map(work, urls, PREFIXES)) == []
    assert [tables_of(url) for url in urls] == [*map(expected, PREFIXES)]
    assert [
        record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING
    ] == []


@pytest.mark.long
def test_apps_with_other_names_in_one_database_are_set_up_in_threads(
    database_url: str, make: Make
) -> None:
    def work(prefix: str) -> t.Callable[[], object]:
        return lambda: make(database_url, prefix)

    assert in_threads(*map(work, PREFIXES)) == []
    assert tables_of(database_url) == set[str]().union(*map(expected, PREFIXES))


@pytest.mark.parametrize("number", [2, pytest.param(4, marks=pytest.mark.long)])
def test_apps_that_start_before_sql_get_their_tables_when_it_is_there(
    database_url: str, make: Make, number: int
) -> None:
    url = sa.make_url(database_url)
    host, port = url.host or str(url.query.get("host", "localhost")), url.port or 5432
    proxy = Proxy(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port))
    proxied = url.set(host="127.0.0.1", port=proxy.port, query={}).render_as_string(
        hide_password=False
    )
    prefixes = PREFIXES[:number]
    try:
        proxy.refuse()
        apps = [make(proxied, prefix, DUALMEDIA_PROBE_INTERVAL=0.2) for prefix in prefixes]
        for app in apps:
            with app.app_context():
                save_media_storage("page", "1", b"few bytes")
        proxy.let_through()
        eventually(
            lambda: all(map(has_its_media, apps)),
            SETTLED,
            explain=lambda: tables_of(database_url),
        )
    finally:
        proxy.close()
    assert tables_of(database_url) == set[str]().union(*map(expected, prefixes))


def has_its_media(app: Flask) -> bool:
    """Tell whether the journaled media is in SQL now."""
    state = get_state(app)
    try:
        return (
            state.homes[0].repository.count(MediaStorage) == 1
            and state.homes[1].repository.is_empty()
        )
    except Unavailable:
        return False


@pytest.mark.long
def test_an_upgrade_that_others_keep_from_its_tables_is_tried_again(
    database_url: str, make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 0.5)
    monkeypatch.setattr(circuit, "IDLE_INTERVAL", 0.2)
    monkeypatch.setattr(synchronizer, "IDLE_INTERVAL", 0.2)
    engine = sa.create_engine(database_url, poolclass=sa.NullPool)
    schema.upgrade(engine, "0001")
    with engine.connect() as other:
        other.exec_driver_sql("LOCK TABLE product_images IN ACCESS SHARE MODE")
        app = make(database_url)
        assert "models not synchronized: others have locked what this needs" in caplog.text
        with app.app_context():
            save_media_storage("page", "1", b"few bytes")
        other.rollback()
    eventually(lambda: has_its_media(app), SETTLED, explain=lambda: caplog.text)
    with engine.connect() as connection:
        assert schema.current_revision(connection) == schema.head_revision()


def test_an_app_that_is_asked_after_another_looks_at_the_token_itself(make_app: MakeApp) -> None:
    """An environ that goes on to the next app where the first one has no such record."""
    first = make_app("mongo")
    other_key = f"another {BASE_CONFIG['JWT_SECRET_KEY']}"
    second = make_app("mongo", JWT_SECRET_KEY=other_key, DUALMEDIA_COLLECTION_PREFIX="s_")
    with second.app_context():
        file = save_media_storage("page", "1", b"private", uploaded_by="alice")

    def ask_both(environ: t.Any, start_response: t.Any) -> t.Iterable[bytes]:
        first_answer = first.wsgi_app(environ, lambda *_: lambda _: None)
        t.cast(ClosingIterator, first_answer).close()
        return second.wsgi_app(environ, start_response)

    def status(headers: dict[str, str]) -> int:
        return Client(ask_both).get(f"/media/files/{file.id}", headers=headers).status_code

    assert status(bearer(first, "alice")) == 401
    assert status(bearer(second, "alice")) == 200


def test_another_request_with_a_copied_environ_has_a_caller_of_its_own(make_app: MakeApp) -> None:
    """Routes that take several requests in one copy the environ like this."""
    app = make_app("mongo")
    with app.app_context():
        file = save_media_storage("page", "1", b"private", uploaded_by="alice")

    @app.after_request
    def ask_again(response: Response) -> Response:
        if request.headers.get("Authorization") != bobs["Authorization"]:
            copied = request.environ | {"HTTP_AUTHORIZATION": bobs["Authorization"]}
            with app.request_context(copied):
                statuses.append(app.full_dispatch_request().status_code)
        return response

    statuses: list[int] = []
    bobs = bearer(app, "bob")
    alices = bearer(app, "alice")
    assert app.test_client().get(f"/media/files/{file.id}", headers=alices).status_code == 200
    assert statuses == [404]


def test_the_documents_of_one_app_are_not_those_of_another(make_app: MakeApp) -> None:
    first = make_app("mongo")
    second = make_app("mongo", DUALMEDIA_REFERENCES={"product": "items"})
    with first.test_request_context():
        remember_owner("product", {"_id": "p"})
        save_product_image("p", "https://example.com/a.png")
        with second.app_context(), pytest.raises(OwnerNotFound):
            save_product_image("p", "https://example.com/a.png")
