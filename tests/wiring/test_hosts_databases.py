"""Databases of hosts in all shapes: drivers, schemas, naming, ids of documents, and settings of
clients."""

from __future__ import annotations

import datetime
import enum
import subprocess
import sys
import typing as t
import uuid
from collections.abc import Callable, Iterator

import bson
import pymongo
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from bson import Binary, Decimal128, Int64, ObjectId
from bson.binary import UuidRepresentation
from bson.codec_options import TypeRegistry
from bson.raw_bson import RawBSONDocument
from bson.son import SON
from flask import Flask
from flask_jwt_extended import JWTManager
from flask_migrate import Migrate
from flask_pymongo import PyMongo
from flask_sqlalchemy import SQLAlchemy
from marshmallow import Schema, class_registry, fields
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from flask_dualmedia import (
    ConfigurationError,
    DualMedia,
    OwnerNotFound,
    ProductImage,
    attach_media,
    delete_media_of,
    get_owner,
    get_product_images,
    save_media_storage,
    save_product_image,
)
from flask_dualmedia.models import Base
from flask_dualmedia.state import get_state
from flask_dualmedia.upkeep.check import Checker

from ..conftest import HOST_CONFIG, MakeApp, close
from ..samples import bearer, part, png

MakeHost = Callable[..., tuple[Flask, SQLAlchemy]]


@pytest.fixture
def make_host(mongo_uri: str) -> Iterator[MakeHost]:
    """Makes hosts with a Flask-SQLAlchemy of their own. Keywords in small letters are for that,
    others are settings."""
    hosts: list[tuple[Flask, SQLAlchemy]] = []

    def make(**given: t.Any) -> tuple[Flask, SQLAlchemy]:
        app = Flask("host")
        app.config.update(HOST_CONFIG, MONGO_URI=mongo_uri)
        app.config.update({name: value for name, value in given.items() if name.isupper()})
        db = SQLAlchemy(app, **{name: value for name, value in given.items() if name.islower()})
        hosts.append((app, db))
        return app, db

    yield make
    for app, db in hosts:
        close(app)
        with app.app_context():
            for engine in db.engines.values():
                engine.dispose()


UNSUPPORTED = [
    "mysql://user:secret@db.example/shop",
    "mysql+pymysql://user:secret@127.0.0.1:1/shop",
    "mariadb+mariadbconnector://user:secret@db.example/shop",
    "mssql+pyodbc://user:secret@db.example/shop",
    "oracle+oracledb://user:secret@db.example/shop",
    "postgresql+pg8000://user:secret@127.0.0.1:1/shop",
    "postgresql+asyncpg://user:secret@127.0.0.1:1/shop",
    "postgresql+psycopg_async://user:secret@127.0.0.1:1/shop",
    "sqlite+aiosqlite:///shop.db",
    "cockroachdb://user:secret@db.example/shop",
]


@pytest.mark.parametrize("url", UNSUPPORTED)
def test_a_database_that_is_not_supported_is_refused_at_the_start(mongo_uri: str, url: str) -> None:
    """The driver is installed or not, and the server is up or not."""
    app = Flask("host")
    app.config.update(HOST_CONFIG, MONGO_URI=mongo_uri, SQLALCHEMY_DATABASE_URI=url)
    with pytest.raises(ConfigurationError, match=r"postgresql\+psycopg://.*SQLite") as refused:
        DualMedia(app)
    assert url.partition(":")[0] in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "sqlalchemy" not in app.extensions


def test_an_engine_of_the_hosts_that_is_not_supported_is_refused_at_the_start(
    make_host: MakeHost,
) -> None:
    app, _ = make_host(
        SQLALCHEMY_DATABASE_URI="postgresql+psycopg_async://user:secret@127.0.0.1:1/shop"
    )
    with pytest.raises(ConfigurationError, match=r"psycopg_async.*postgresql\+psycopg://"):
        DualMedia(app)


def test_a_database_that_is_not_supported_is_the_hosts_own_affair_without_sql(
    mongo_uri: str,
) -> None:
    app = Flask("host")
    app.config.update(HOST_CONFIG, MONGO_URI=mongo_uri, DB_ENABLED=False)
    app.config["SQLALCHEMY_DATABASE_URI"] = "mysql://user:secret@db.example/shop"
    DualMedia(app)
    refused = app.test_cli_runner().invoke(args=["dualmedia", "transfer", "--to", "sql", "--yes"])
    assert refused.exit_code != 0
    close(app)


def test_binds_alone_name_no_database_for_media(make_host: MakeHost) -> None:
    app, _ = make_host(SQLALCHEMY_BINDS={"reports": "sqlite://"})
    with pytest.raises(
        ConfigurationError, match="SQLALCHEMY_DATABASE_URI is not set, only SQLALCHEMY_BINDS"
    ):
        DualMedia(app)
    app.config["DB_ENABLED"] = False
    DualMedia(app)
    assert get_state(app).mode == "mongo"


def test_binds_stay_as_they_are_beside_a_database_for_media(
    make_host: MakeHost, emptied_url: str
) -> None:
    app, db = make_host(
        SQLALCHEMY_DATABASE_URI=emptied_url, SQLALCHEMY_BINDS={"reports": "sqlite://"}
    )
    DualMedia(app)
    with app.app_context():
        assert get_state().engine is db.engine
        assert db.metadatas["reports"].tables == {}


def test_another_sql_extension_of_the_host_is_refused_in_a_sentence(mongo_uri: str) -> None:
    app = Flask("host")
    app.config.update(HOST_CONFIG, MONGO_URI=mongo_uri)
    app.extensions["sqlalchemy"] = object()
    with pytest.raises(ConfigurationError, match="needs Flask-SQLAlchemy"):
        DualMedia(app)


_NAMES = {
    "ix": "i_%(column_0_label)s",
    "uq": "u_%(table_name)s_%(column_0_name)s",
    "ck": "c_%(table_name)s_%(constraint_name)s",
    "fk": "f_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "p_%(table_name)s",
}


def _own_base() -> type[t.Any]:
    class Model(DeclarativeBase):
        metadata = sa.MetaData(schema="shop", naming_convention=_NAMES)

    return Model


SHAPES: dict[str, Callable[[], dict[str, t.Any]]] = {
    "schema": lambda: {"metadata": sa.MetaData(schema="shop")},
    "naming convention": lambda: {"metadata": sa.MetaData(naming_convention=_NAMES)},
    "own base": lambda: {"model_class": _own_base()},
    "no autoflush": lambda: {"session_options": {"autoflush": False, "expire_on_commit": False}},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=[*SHAPES])
def test_media_lives_beside_models_of_any_shape(
    make_host: MakeHost, migrated_url: str, shape: Callable[[], dict[str, t.Any]]
) -> None:
    """The host's table of the same name in its schema is its own; autogenerate finds nothing to do
    about ours."""
    app, db = make_host(SQLALCHEMY_DATABASE_URI=migrated_url, **shape())
    schema = db.metadata.schema
    Migrate(app, db)

    class Thing(db.Model):
        __tablename__ = "media_storage" if schema else "things"
        id: Mapped[int] = mapped_column(primary_key=True)

    with app.app_context(), db.engine.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA shop")
    DualMedia(app)
    assert db.metadata.schema == schema
    with app.app_context():
        db.create_all()
        with db.engine.connect() as connection:
            assert not connection.dialect.has_table(connection, "product_images", schema="shop")
            options = app.extensions["migrate"].configure_args | {"include_schemas": bool(schema)}
            context = MigrationContext.configure(connection, opts=options)
            differences = compare_metadata(context, db.metadata)
        assert differences == []

        product = get_state().mongo["products"].insert_one({}).inserted_id
        db.session.execute(sa.insert(Thing).values(id=1))
        saved = save_product_image(product, png())
        assert [record.id for record in get_product_images(product)] == [saved.id]
        assert db.session.scalars(sa.select(ProductImage)).one().id == saved.id
        db.session.rollback()


def test_revisions_of_the_host_pass_by_what_it_names_and_our_state(
    make_host: MakeHost, migrated_url: str
) -> None:
    app, db = make_host(SQLALCHEMY_DATABASE_URI=migrated_url)
    Migrate(app, db, include_name=lambda name, *_: name != "legacy")
    DualMedia(app)
    with app.app_context(), db.engine.connect() as connection:
        for table in ("legacy", "unknown"):
            connection.exec_driver_sql(f"CREATE TABLE {table} (id integer)")
        context = MigrationContext.configure(
            connection, opts=app.extensions["migrate"].configure_args
        )
        differences = compare_metadata(context, db.metadata)
        assert [(what, table.name) for what, table in differences] == [("remove_table", "unknown")]


@pytest.mark.long
def test_media_lives_in_the_schema_that_connections_name(
    make_host: MakeHost, database_url: str
) -> None:
    url = sa.make_url(database_url)
    admin = sa.create_engine(url, poolclass=sa.NullPool)
    with admin.begin() as connection:
        connection.exec_driver_sql("CREATE SCHEMA shop")
    query = {**url.query, "options": "-csearch_path=shop"}
    app, _ = make_host(
        SQLALCHEMY_DATABASE_URI=url.set(query=query), metadata=sa.MetaData(schema="shop")
    )
    DualMedia(app)
    with app.app_context():
        save_media_storage("page", "1", b"bytes")
    inspector = sa.inspect(admin)
    assert "media_storage" in inspector.get_table_names(schema="shop")
    assert inspector.get_table_names(schema="public") == []


def test_names_of_ours_do_not_follow_the_hosts_naming_convention(
    make_host: MakeHost, database_url: str
) -> None:
    app, db = make_host(
        SQLALCHEMY_DATABASE_URI=database_url, metadata=sa.MetaData(naming_convention=_NAMES)
    )
    Migrate(app, db)
    DualMedia(app)
    with app.app_context():
        db.create_all()
        inspector = sa.inspect(db.engine)
        for name, table in Base.metadata.tables.items():
            expected = {
                str(one.name) for one in table.constraints if isinstance(one, sa.CheckConstraint)
            }
            assert {one["name"] for one in inspector.get_check_constraints(name)} == expected
            assert inspector.get_pk_constraint(name)["name"] == table.primary_key.name


def test_the_config_keeps_its_values(make_app: MakeApp, mongo_uri: str, emptied_url: str) -> None:
    app = Flask("host")
    given = {"SQLALCHEMY_DATABASE_URI": emptied_url, "SQLALCHEMY_ENGINE_OPTIONS": {"pool_size": 3}}
    app.config.update(HOST_CONFIG, MONGO_URI=mongo_uri, DUALMEDIA_AUTO_UPGRADE=False, **given)
    JWTManager(app)
    before = dict(app.config)
    DualMedia(app)
    assert dict(app.config) == before
    assert app.config["SQLALCHEMY_DATABASE_URI"] is emptied_url
    close(app)


def test_an_app_without_a_jwt_manager_gets_its_settings_and_no_others(make_app: MakeApp) -> None:
    app = make_app("dual")
    added = {name for name in app.config if not name.startswith(("JWT_", "DUALMEDIA_"))} - set(
        Flask("host").config
    )
    assert added == {"MONGO_URI", "SQLALCHEMY_DATABASE_URI"}


def test_listeners_to_all_mappers_hear_nothing_of_ours() -> None:
    """A hook that waits until all models are there would otherwise fire when ours are, and the
    host's are not."""
    program = """
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, Session
from sqlalchemy.orm import configure_mappers, mapped_column
heard = []
for name in ("before_configured", "after_configured"):
    event.listen(Mapper, name, lambda name=name: heard.append(name))
about_one = ("instrument_class", "mapper_configured", "before_mapper_configured")
for name in (*about_one, "after_mapper_constructed"):
    event.listen(Mapper, name, lambda mapper, of, name=name: heard.append(f"{name} {of.__name__}"))
import flask_dualmedia
from flask_dualmedia.models import ProductImage
record = ProductImage.new(mongo_product_id="1")
assert record.state == "pending"
assert heard == [], heard
class Base(DeclarativeBase): pass
class Thing(Base):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
configure_mappers()
assert heard[-1] == "after_configured" and heard.count("after_configured") == 1, heard
assert not any("ProductImage" in one for one in heard), heard
heard.clear()
ProductImage(); str(__import__("sqlalchemy").select(ProductImage).where(ProductImage.position == 1))
assert heard == [], heard
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_schemas_of_the_host_may_be_called_as_ours() -> None:
    class ProductImageSchema(Schema):
        name = fields.String()

    class ShelfSchema(Schema):
        image = fields.Nested("ProductImageSchema")

    assert ShelfSchema().dump({"image": {"name": "front"}}) == {"image": {"name": "front"}}
    registered: t.Any = class_registry._registry
    assert [name for name in registered if name.startswith("flask_dualmedia")] == []


class Code(str, enum.Enum):  # noqa: UP042 - as hosts write it whose str() is the name
    MUG = "mug-1"


_UUID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


def _legacy(representation: int) -> Binary:
    return Binary.from_uuid(_UUID, representation)


IDS: dict[str, tuple[t.Any, t.Any]] = {
    # The _id as MongoDB has it, and as the host's code passes it.
    "ObjectId": (key := ObjectId(), key),
    "ObjectId as text": (key, str(key)),
    "text": ("mug", "mug"),
    "text that looks like a number": ("007", "007"),
    "enumeration": ("mug-1", Code.MUG),
    "integer": (42, 42),
    "negative integer": (-42, -42),
    "long integer": (Int64(2**62), Int64(2**62)),
    "UUID": (_UUID, _UUID),
    "UUID as Binary": (_UUID, Binary.from_uuid(_UUID)),
    "UUID of Python's old clients": (_legacy(UuidRepresentation.PYTHON_LEGACY), _UUID),
    "UUID of Java's old clients": (_legacy(UuidRepresentation.JAVA_LEGACY), _UUID),
    "UUID of C#'s old clients": (_legacy(UuidRepresentation.CSHARP_LEGACY), _UUID),
    "old UUID as Binary": (
        _legacy(UuidRepresentation.PYTHON_LEGACY),
        _legacy(UuidRepresentation.PYTHON_LEGACY),
    ),
}


def test_documents_with_ids_of_all_promised_types_own_media(app: Flask) -> None:
    with app.app_context():
        state = get_state()
        products = state.mongo["products"]
        for name, (kept, passed) in IDS.items():
            products.insert_one({"_id": kept, "name": name})
            image = save_product_image(passed, png(), uploaded_by="alice")
            assert [record.id for record in get_product_images(passed)] == [image.id], name
            owner = get_owner(image)
            assert owner is not None, name
            assert owner["name"] == name
            document = {"_id": passed}
            attach_media([document], images=ProductImage)
            assert [record.id for record in t.cast("t.Any", document)["images"]] == [image.id], name
            assert Checker(state).run().clean, name

            form = {"file": part(png(), "a.png"), "mongoProductId": image.mongo_product_id}
            answer = app.test_client().post(
                "/media/product-images", data=form, headers=bearer(app, "alice")
            )
            assert answer.status_code == 201, name
            delete_media_of("product", passed)
            products.delete_one({"_id": kept})
            with pytest.raises(OwnerNotFound):
                save_product_image(passed, png())


NOT_IDS = [
    datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    Decimal128("1.50"),
    1.5,
    True,
    None,
    b"bytes",
    Binary(b"bytes"),
    {"shop": 1, "number": 2},
    SON(shop=1),
    [1],
]


def test_ids_of_other_types_are_refused_by_name(make_app: MakeApp) -> None:
    """Instead of keeping media that nobody would find again."""

    def calls(reference: t.Any) -> Iterator[Callable[[], object]]:
        yield lambda: save_product_image(reference, png())
        yield lambda: save_media_storage("page", reference, b"bytes")
        yield lambda: get_product_images(reference)
        yield lambda: attach_media([{"_id": reference}], images=ProductImage)

    with make_app("mongo").app_context():
        for reference in NOT_IDS:
            for call in calls(reference):
                with pytest.raises(TypeError, match=f"not {type(reference).__name__}"):
                    call()


CLIENTS: dict[str, dict[str, t.Any]] = {
    "secondaries": {"readPreference": "secondaryPreferred"},
    "linearizable": {"readConcernLevel": "linearizable"},
    "nothing acknowledged": {"w": 0},
    "weak": {"w": 1, "journal": False},
    "naive and old": {"tz_aware": False, "uuidRepresentation": "pythonLegacy"},
    "aware": {"tz_aware": True, "uuidRepresentation": "javaLegacy"},
    "raw": {"document_class": RawBSONDocument},
    "ordered": {"document_class": SON},
    "own types": {"type_registry": TypeRegistry(fallback_encoder=str)},
}


@pytest.mark.parametrize("mode", ["mongo", pytest.param("dual", marks=pytest.mark.long)])
@pytest.mark.parametrize("options", CLIENTS.values(), ids=[*CLIENTS])
def test_settings_of_the_hosts_client_change_nothing_for_media(
    mongo_uri: str, emptied_url: str, mode: str, options: dict[str, t.Any]
) -> None:
    app, mongo = Flask("host"), PyMongo()
    app.config.update(HOST_CONFIG)
    if mode == "dual":
        app.config.update(SQLALCHEMY_DATABASE_URI=emptied_url, DUALMEDIA_AUTO_UPGRADE=False)
    mongo.init_app(app, mongo_uri, **options)
    DualMedia(app, mongo=mongo)
    state = get_state(app)
    assert state.mongo.client is mongo.cx
    assert state.mongo.read_preference == pymongo.ReadPreference.PRIMARY
    assert state.mongo.read_concern.document == {}
    assert state.mongo.write_concern.document.get("w", "majority") == "majority"
    assert state.mongo.write_concern.document.get("j") is not False
    with app.app_context():
        product = (
            state.mongo["products"]
            .insert_one({"at": datetime.datetime.now(datetime.UTC)})
            .inserted_id
        )
        image = save_product_image(product, png(), uploaded_by="alice")
        headers = bearer(app, "alice")
        client = app.test_client()
        path = f"/media/product-images/{image.id}"
        assert client.get(f"{path}/content", headers=headers).data == png()
        images = client.get("/media/product-images", headers=headers).json
        assert images["items"][0]["id"] == str(image.id)  # type: ignore[index]
        assert Checker(state).run().clean
        assert client.delete(path, headers=headers).status_code == 204
    close(app)


def test_documents_that_python_cannot_hold_are_read_all_the_same(make_app: MakeApp) -> None:
    """Times after the year 9999, and text that is not UTF-8, as other languages keep them."""
    late = b"\x09at\x00" + (2**55).to_bytes(8, "little")
    broken = b"\x02name\x00\x03\x00\x00\x00\xff\xfe\x00"
    body = b"\x02_id\x00\x04\x00\x00\x00mug\x00" + late + broken + b"\x00"
    document = (len(body) + 4).to_bytes(4, "little") + body
    state = get_state(make_app("mongo"))
    assert bson.decode(document, state.mongo.codec_options)["_id"] == "mug"


def test_a_uri_whose_servers_the_dns_does_not_tell_names_the_cause() -> None:
    app = Flask("host")
    app.config.update(
        HOST_CONFIG,
        MONGO_URI="mongodb+srv://user:secret@cluster.nowhere.invalid/shop",
        DB_ENABLED=False,
    )
    with pytest.raises(ConfigurationError, match="MONGO_URI: the DNS") as refused:
        DualMedia(app)
    assert "secret" not in str(refused.value)


def test_a_uri_without_a_database_says_so(mongo_uri: str) -> None:
    app = Flask("host")
    app.config.update(HOST_CONFIG, MONGO_URI=mongo_uri.rpartition("/")[0] + "/", DB_ENABLED=False)
    with pytest.raises(ConfigurationError, match="names no database"):
        DualMedia(app)
