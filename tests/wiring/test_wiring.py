"""The extension as a guest: hosts with nothing, with something, with everything."""

from __future__ import annotations

import typing as t

import pytest
import sqlalchemy as sa
from flask import Flask, jsonify
from flask.json.provider import DefaultJSONProvider
from flask_jwt_extended import JWTManager, create_access_token
from flask_migrate import Migrate
from flask_pymongo import PyMongo
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dualmedia import (
    ConfigurationError,
    DualMedia,
    ProductImage,
    content_url,
    get_product_images,
    save_media_storage,
    save_product_image,
)
from flask_dualmedia.models import Base
from flask_dualmedia.state import get_state

from ..conftest import HOST_CONFIG, MakeApp, close
from ..samples import bearer, part, png


class Host(t.NamedTuple):
    app: Flask
    db: SQLAlchemy
    mongo: PyMongo


@pytest.fixture
def host(mongo_uri: str, migrated_url: str) -> t.Iterator[Host]:
    """A host with its own SQLAlchemy, model, Migrate, PyMongo, JWTManager, JSON provider and 404
    page."""
    app = Flask("host")
    app.config.update(HOST_CONFIG, MONGO_URI=mongo_uri, SQLALCHEMY_DATABASE_URI=migrated_url)
    db, mongo = SQLAlchemy(), PyMongo()

    class Note(db.Model):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

    db.init_app(app)
    Migrate(app, db)
    mongo.init_app(app)
    jwt = JWTManager(app)
    jwt.unauthorized_loader(lambda reason: ({"host": reason}, 499))

    class Provider(DefaultJSONProvider):
        sort_keys = False

    app.json = Provider(app)
    app.register_error_handler(404, lambda error: ("the host's own page", 404))

    @app.get("/hello")
    def hello() -> t.Any:
        return jsonify(b=1, a=2)

    with app.app_context():
        db.create_all()
    yield Host(app, db, mongo)
    close(app)
    with app.app_context():
        db.engine.dispose()
    assert mongo.cx is not None
    mongo.cx.close()


def test_a_host_with_everything_stays_as_it_was(host: Host) -> None:
    app = host.app
    before = (
        app.json,
        app.extensions["sqlalchemy"],
        app.extensions["migrate"],
        app.extensions["flask-jwt-extended"],
    )
    handlers = {key: dict(value) for key, value in app.error_handler_spec[None].items()}
    DualMedia(app, mongo=host.mongo)
    after = (
        app.json,
        app.extensions["sqlalchemy"],
        app.extensions["migrate"],
        app.extensions["flask-jwt-extended"],
    )
    assert all(now is then for now, then in zip(after, before, strict=True))
    assert {key: dict(value) for key, value in app.error_handler_spec[None].items()} == handlers
    client = app.test_client()
    assert client.get("/nowhere").text == "the host's own page"
    assert client.get("/media/nowhere").text == "the host's own page"
    assert client.get("/hello").text.index('"b"') < client.get("/hello").text.index('"a"')
    state = get_state(app)
    assert state.mongo.client is host.mongo.cx
    with app.app_context():
        assert state.engine is host.db.engine


def test_errors_of_tokens_are_ours_on_our_routes_and_the_hosts_on_its_own(host: Host) -> None:
    from flask_jwt_extended import jwt_required

    @host.app.get("/private")
    @jwt_required()
    def private() -> str:
        return "secret"

    DualMedia(host.app, mongo=host.mongo)
    client = host.app.test_client()
    assert client.get("/private").status_code == 499
    ours = client.get("/media/files")
    assert (ours.status_code, ours.json["code"]) == (401, 401)  # type: ignore[index]


def test_the_hosts_check_for_revoked_tokens_holds_on_our_routes(host: Host) -> None:
    revoked: set[str] = set()
    manager = host.app.extensions["flask-jwt-extended"]
    manager.token_in_blocklist_loader(lambda header, payload: payload["sub"] in revoked)
    DualMedia(host.app, mongo=host.mongo)
    client, headers = host.app.test_client(), bearer(host.app, "alice")
    assert client.get("/media/files", headers=headers).status_code == 200
    revoked.add("alice")
    assert client.get("/media/files", headers=headers).status_code == 401


def test_the_hosts_transaction_is_left_alone(host: Host) -> None:
    """Neither committed, nor rolled back, nor flushed."""
    DualMedia(host.app, mongo=host.mongo)
    notes = host.db.metadata.tables["notes"]
    with host.app.app_context():
        product = get_state().mongo["products"].insert_one({}).inserted_id
        session = host.db.session()
        session.execute(sa.insert(notes).values(id=1, text="mine"))
        transaction = session.get_transaction()
        save_product_image(product, png())
        with pytest.raises(Exception, match="no product"):
            save_product_image("missing", png())
        assert session.get_transaction() is transaction
        with host.db.engine.connect() as other:
            assert other.scalar(sa.select(sa.func.count()).select_from(notes)) == 0, "committed"
        session.rollback()
        assert session.scalar(sa.select(sa.func.count()).select_from(notes)) == 0
        assert len(get_product_images(product)) == 1, (
            "our work does not hang on the host's transaction"
        )


def test_the_host_can_query_our_records_through_its_session(host: Host) -> None:
    DualMedia(host.app, mongo=host.mongo)
    with host.app.app_context():
        product = get_state().mongo["products"].insert_one({}).inserted_id
        saved = save_product_image(product, "https://cdn.example/a.jpg")
        found = host.db.session.scalars(sa.select(ProductImage)).one()
        assert found.id == saved.id
        assert set(Base.metadata.tables) <= set(host.db.metadata.tables)


def test_a_host_with_nothing_gets_everything(make_app: MakeApp) -> None:
    app = make_app("dual")
    json_provider = type(app.json)
    assert json_provider is DefaultJSONProvider
    assert {"sqlalchemy", "migrate", "flask-jwt-extended", "dualmedia"} <= set(app.extensions)
    state = get_state(app)
    assert state.engine is not None
    assert state.engine.pool.size() == 10  # type: ignore[attr-defined]


def test_the_host_may_have_no_pool(make_app: MakeApp) -> None:
    """Behind PgBouncer there is none."""
    app = make_app("dual", SQLALCHEMY_ENGINE_OPTIONS={"poolclass": sa.NullPool})
    assert type(get_state(app).engine.pool) is sa.NullPool  # type: ignore[union-attr]
    with app.app_context():
        for content in (b"few bytes", bytes(6_000_000)):
            record = save_media_storage("page", "1", content, is_public=True)
            assert app.test_client().get(content_url(record)).data == content


def test_the_pool_is_the_hosts_to_change(make_app: MakeApp) -> None:
    app = make_app("dual", SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 3})
    engine = get_state(app).engine
    assert engine is not None
    assert engine.pool.size() == 3  # type: ignore[attr-defined]


def test_two_apps_in_one_process(make_app: MakeApp, mongo_uri: str) -> None:
    """Each with its own mode, prefix and databases, and one extension object for both."""
    shop = make_app("dual", name="shop", DUALMEDIA_URL_PREFIX="/pictures")
    blog = make_app("mongo", name="blog", MONGO_URI=mongo_uri.replace("worker_", "blog_"))
    for app in (shop, blog):
        with app.app_context():
            owner = get_state().mongo["products"].insert_one({"_id": "same"}).inserted_id
            save_product_image(owner, png(comment=app.name.encode()))
    shop_url = (
        shop.test_client()
        .get("/pictures/product-images", headers=bearer(shop, "x", role="admin"))
        .json
    )
    assert shop_url["items"][0]["imageUrl"].startswith("/pictures/product-images/")  # type: ignore[index]
    assert shop.test_client().get("/media/health").status_code == 404
    assert blog.test_client().get("/media/health").json["mode"] == "mongo"  # type: ignore[index]
    assert shop.test_client().get("/pictures/health").json["mode"] == "dual"  # type: ignore[index]
    with blog.app_context():
        get_state().mongo.client.drop_database(get_state().mongo.name)


def test_one_extension_object_for_many_apps(mongo_uri: str) -> None:
    media = DualMedia()
    apps = []
    for name in ("one", "two"):
        app = Flask(name)
        app.config.update(HOST_CONFIG, MONGO_URI=mongo_uri, DB_ENABLED=False)
        media.init_app(app)
        apps.append(app)
    assert get_state(apps[0]) is not get_state(apps[1])
    for app in apps:
        close(app)


def test_set_up_twice(make_app: MakeApp) -> None:
    app = make_app("mongo")
    with pytest.raises(RuntimeError, match="already"):
        DualMedia(app)


def test_a_function_on_an_app_without_the_extension() -> None:
    with Flask("bare").app_context(), pytest.raises(RuntimeError, match="init_app"):
        get_product_images("p")


@pytest.mark.parametrize("what", ["mongo", "db"])
def test_extensions_of_the_host_that_are_not_set_up(what: str, mongo_uri: str) -> None:
    app = Flask("host")
    app.config.update(HOST_CONFIG, MONGO_URI=mongo_uri)
    arguments: dict[str, t.Any] = {"mongo": PyMongo()} if what == "mongo" else {"db": SQLAlchemy()}
    with pytest.raises(ConfigurationError, match="init_app"):
        DualMedia(app, **arguments)


def test_json_of_the_extension_uses_the_hosts_provider(make_app: MakeApp) -> None:
    app = make_app("mongo", DUALMEDIA_REFERENCES={"product": None})
    data = {"file": part(png(), "é.png"), "mongoProductId": "p"}
    answer = app.test_client().post(
        "/media/product-images", data=data, headers=bearer(app, "alice")
    )
    assert answer.status_code == 201
    assert answer.json["filename"] == "é.png"  # type: ignore[index]


def test_identities_of_any_type_are_kept_as_strings(make_app: MakeApp) -> None:
    app = make_app("mongo", DUALMEDIA_REFERENCES={"product": None})
    with app.app_context():
        headers = {"Authorization": f"Bearer {create_access_token('42')}"}
    data = {"mongoProductId": "p", "imageUrl": "https://cdn.example/a"}
    answer = app.test_client().post("/media/product-images", json=data, headers=headers)
    assert answer.json["uploadedBy"] == "42"  # type: ignore[index]
