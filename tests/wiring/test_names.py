"""A guest in the host's databases: names that the host has taken, other names for ours, and
documents between ours."""

from __future__ import annotations

import io
import textwrap
import typing as t
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import gridfs
import pymongo
import pytest
import sqlalchemy as sa
from flask import Blueprint, Flask
from flask_sqlalchemy import SQLAlchemy
from pymongo.database import Database as MongoDatabase

from flask_dualmedia import (
    ConfigurationError,
    DatabaseUnavailable,
    DualMedia,
    ProductImage,
    delete_media,
    get_media,
    get_product_images,
    open_media,
    save_media_storage,
    save_product_image,
    update_media,
    update_media_access_count,
)
from flask_dualmedia.databases.tables import renamed, tables_for
from flask_dualmedia.models import new_id, now
from flask_dualmedia.state import State, get_state
from flask_dualmedia.storages.base import new_key, owner_of_key
from flask_dualmedia.upkeep.check import Checker

from ..conftest import HOST_CONFIG, MakeApp
from ..databases.test_schema import BARE_HOST, INDEXES, WITH_VARIANTS, Directory, inspect, tables
from ..samples import bearer, part, png
from ..tools.proxy import Proxy, through
from ..waiting import eventually

OTHER_NAMES = {
    "DUALMEDIA_TABLE_PREFIX": "dm_",
    "DUALMEDIA_COLLECTION_PREFIX": "dm_",
    "DUALMEDIA_BUCKET": "dm_media",
    "DUALMEDIA_BLUEPRINT_NAME": "attachments",
}

OLD = now() - timedelta(days=400)

# Documents of hosts, with fields and values that ours have too.
FOREIGN: list[dict[str, t.Any]] = [
    {"title": "a picture"},
    {"_id": "photo-1", "state": "pending", "updated_at": OLD},
    {"_id": 7, "state": "available", "mongo_product_id": "p", "position": 0},
    {
        "_id": uuid.UUID(int=7),
        "state": "deleting",
        "updated_at": OLD,
        "storage_key": "x",
        "storage_type": "database",
    },
    {
        "_id": new_id(),
        "state": "available",
        "mongo_product_id": "p",
        "is_public": True,
        "reference_id": "1",
    },
]

Database = MongoDatabase[dict[str, t.Any]]


@pytest.fixture
def host_database(mongo_uri: str) -> Iterator[Database]:
    """The host's MongoDB database, as the host sees it."""
    with pymongo.MongoClient(mongo_uri, uuidRepresentation="standard", tz_aware=True) as client:
        yield client.get_default_database()


def everything(database: Database, *names: str) -> dict[str, list[dict[str, t.Any]]]:
    return {name: [*database[name].find().sort("_id")] for name in names}


def fill_bucket(database: Database, name: str) -> Callable[[], bool]:
    """Put files of the host's into a bucket.

    :return: Tells whether they are all there, byte for byte.
    """
    bucket = gridfs.GridFSBucket(database, name)
    contents: dict[t.Any, bytes] = {
        bucket.upload_from_stream("plain.txt", b"of the host"): b"of the host"
    }
    for file_id in ("d41d8cd98f00b204e9800998ecf8427e-1024", "avatar.png", 5):
        bucket.upload_from_stream_with_id(file_id, "named", str(file_id).encode() * 100)
        contents[file_id] = str(file_id).encode() * 100
    return lambda: {key: bucket.open_download_stream(key).read() for key in contents} == contents


def repair(state: State) -> t.Any:
    return Checker(
        state, repair=True, discard_damaged=True, verify_bytes=True, grace=-1, at_once=True
    ).run()


def repair_and_sweep(app: Flask) -> None:
    runner = app.test_cli_runner()
    options = ["--repair", "--discard-damaged", "--verify-bytes", "--grace", "0"]
    repaired = runner.invoke(args=["dualmedia", "check", *options])
    assert repaired.exit_code in (0, 1), repaired.output
    swept = runner.invoke(args=["dualmedia", "sweep", "--grace", "0", "--yes"])
    assert swept.exit_code == 0, swept.output


def use(app: Flask) -> ProductImage:
    """Do with media what a host does; one image is left."""
    state = get_state(app)
    headers, client = bearer(app, "alice"), app.test_client()
    with app.app_context():
        product = str(state.mongo["products"].insert_one({"name": "p"}).inserted_id)
        kept = save_product_image(
            product, io.BytesIO(png(comment=b"kept")), is_main_image=True, is_public=True
        )
        sent = client.post(
            "/media/product-images",
            headers=headers,
            data={
                "mongoProductId": product,
                "file": part(png(comment=b"sent"), "a.png", "image/png"),
            },
        )
        assert sent.status_code == 201, sent.json
        location = sent.headers["Location"]
        assert client.get(location, headers=headers).status_code == 200
        assert client.get(f"{location}/content", headers=headers).data == png(comment=b"sent")
        replaced = client.put(f"{location}/content", headers=headers, data=png(comment=b"new"))
        assert replaced.status_code == 200, replaced.json
        assert client.get(f"{location}/content", headers=headers).data == png(comment=b"new")
        second = client.patch(location, headers=headers, json={"isMainImage": True})
        assert second.status_code == 409, second.json
        assert len(get_product_images(product)) == 2
        assert update_media("product-images", kept.id, alt_text="text").alt_text == "text"
        update_media_access_count("product-images", kept.id)
        if state.counter is not None:
            state.counter.flush()
        assert get_media("product-images", kept.id).access_count >= 1
        upload_resumably(app, headers, product)
        assert client.get("/media/openapi.json").status_code == 200
        assert client.get("/media/docs").status_code == 200
        assert client.delete(location, headers=headers).status_code == 204
        assert client.get(location, headers=headers).status_code == 404
        return get_media("product-images", kept.id)


def upload_resumably(app: Flask, headers: dict[str, str], product: str) -> None:
    import base64

    content, client = png(comment=b"in parts"), app.test_client()
    metadata = {"kind": "product-images", "mongoProductId": product, "filename": "b.png"}
    encoded = ",".join(
        f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in metadata.items()
    )
    tus = headers | {"Tus-Resumable": "1.0.0"}
    begun = client.post(
        "/media/uploads",
        headers=tus | {"Upload-Length": str(len(content)), "Upload-Metadata": encoded},
    )
    assert begun.status_code == 201, begun.json
    location, offset = begun.headers["Location"], 0
    for piece in (content[:20], content[20:]):
        sent = client.patch(
            location, data=piece, headers=tus | {"Upload-Offset": str(offset)},
            content_type="application/offset+octet-stream",
        )  # fmt: skip
        assert sent.status_code == 204, sent.json
        offset += len(piece)


def content_of(record: ProductImage) -> bytes:
    return b"".join(open_media(get_media(record.kind, record.id)))


@pytest.fixture
def with_other_names(make_app: MakeApp, request: pytest.FixtureRequest) -> Callable[..., Flask]:
    """Makes apps in which everything of ours has another name, in an empty database."""

    def make(mode: str = "dual", **config: t.Any) -> Flask:
        if mode == "dual" and "SQLALCHEMY_DATABASE_URI" not in config:
            config["SQLALCHEMY_DATABASE_URI"] = request.getfixturevalue("database_url")
        return make_app(mode, **OTHER_NAMES | config)

    return make


# Names that are taken


@pytest.mark.parametrize(
    "name", ["product_images", "media_variants", "dualmedia_uploads", "dualmedia_plays"]
)
@pytest.mark.parametrize(
    "document", FOREIGN, ids=lambda document: str(document.get("_id", "ObjectId"))[:8]
)
def test_a_collection_of_the_hosts_is_refused_at_start(
    make_app: MakeApp, host_database: Database, name: str, document: dict[str, t.Any]
) -> None:
    host_database[name].insert_one(dict(document))
    before, indexes = everything(host_database, name), host_database[name].index_information()
    with pytest.raises(ConfigurationError, match=rf"'{name}'.*DUALMEDIA_COLLECTION_PREFIX"):
        make_app("mongo")
    assert everything(host_database, name) == before
    assert host_database[name].index_information() == indexes


def test_a_collection_of_the_hosts_with_our_journals_name_is_refused_in_dual_mode(
    make_app: MakeApp, host_database: Database
) -> None:
    host_database["journal_product_images"].insert_one({"entry": 1})
    with pytest.raises(ConfigurationError, match="journal_product_images"):
        make_app()
    make_app(DUALMEDIA_COLLECTION_PREFIX="dm_")


@pytest.mark.parametrize(("mode", "bucket"), [("mongo", "media"), ("dual", "media_journal")])
def test_a_bucket_of_the_hosts_is_refused_at_start(
    make_app: MakeApp, host_database: Database, mode: str, bucket: str
) -> None:
    is_whole = fill_bucket(host_database, bucket)
    with pytest.raises(
        ConfigurationError, match=rf"{bucket}\.chunks.*{bucket}\.files.*DUALMEDIA_BUCKET"
    ):
        make_app(mode)
    assert is_whole()


def test_a_view_with_a_name_of_ours_is_refused(make_app: MakeApp, host_database: Database) -> None:
    host_database.drop_collection("course_videos")
    host_database.command("create", "course_videos", viewOn="films", pipeline=[])
    try:
        with pytest.raises(ConfigurationError, match="course_videos"):
            make_app("mongo")
    finally:
        host_database.drop_collection("course_videos")


def test_an_empty_collection_with_the_hosts_indexes_is_refused(
    make_app: MakeApp, host_database: Database
) -> None:
    host_database.drop_collection("media_storage")
    host_database["media_storage"].create_index("slug", unique=True)
    try:
        with pytest.raises(ConfigurationError, match="media_storage"):
            make_app("mongo")
    finally:
        host_database.drop_collection("media_storage")


def test_collections_that_the_mode_does_not_use_are_the_hosts(
    make_app: MakeApp, host_database: Database
) -> None:
    host_database["product_images"].insert_one({"title": "a picture"})
    is_whole = fill_bucket(host_database, "media")
    app = make_app()
    before = everything(host_database, "product_images")
    use(app)
    repair_and_sweep(app)
    transferred = app.test_cli_runner().invoke(args=["dualmedia", "transfer", "--to", "mongo"])
    assert transferred.exit_code == 1
    assert "DUALMEDIA_COLLECTION_PREFIX" in transferred.output
    assert everything(host_database, "product_images") == before
    assert is_whole()


TAKEN_IN_SQL = {
    "table": ("CREATE TABLE media_storage (id serial PRIMARY KEY, path text)", "media_storage"),
    "chunks": ("CREATE TABLE media_chunks (storage_key text, body text)", "media_chunks"),
    "view": ("CREATE VIEW course_videos AS SELECT 1 AS id", "course_videos"),
    "version": ("CREATE TABLE dualmedia_version (major int)", "dualmedia_version"),
    "index": (
        "CREATE TABLE pictures (id int); CREATE INDEX ix_product_images_owner ON pictures (id)",
        "pictures",
    ),
    "sequence": ("CREATE SEQUENCE product_images", "product_images"),
    "type": ("CREATE TYPE course_resources AS ENUM ('a')", "course_resources"),
}


@pytest.mark.parametrize("taken", TAKEN_IN_SQL)
@pytest.mark.parametrize("upgrades", [True, False])
def test_what_the_host_has_in_sql_is_refused_at_start(
    make_app: MakeApp, database_url: str, taken: str, upgrades: bool
) -> None:
    statement, name = TAKEN_IN_SQL[taken]
    execute(database_url, statement)
    before = tables(database_url)
    with pytest.raises(ConfigurationError, match=rf"{name}.*DUALMEDIA_TABLE_PREFIX"):
        make_app(SQLALCHEMY_DATABASE_URI=database_url, DUALMEDIA_AUTO_UPGRADE=upgrades)
    assert tables(database_url) == before
    use(make_app(SQLALCHEMY_DATABASE_URI=database_url, DUALMEDIA_TABLE_PREFIX="dm_"))
    assert tables(database_url) == before | {
        f"dm_{name}" for name in (*WITH_VARIANTS, "media_chunks", "dualmedia_version")
    }


def test_tables_of_an_older_release_are_ours(make_app: MakeApp, migrated_url: str) -> None:
    """The revisions of a host may have made them, and columns may be missing that were added
    since."""
    execute(
        migrated_url,
        "DROP TABLE dualmedia_version; ALTER TABLE media_storage ADD COLUMN of_the_future int",
    )
    make_app(SQLALCHEMY_DATABASE_URI=migrated_url)


def test_a_table_in_the_hosts_metadata_is_refused(mongo_uri: str, database_url: str) -> None:
    def make(**config: t.Any) -> tuple[Flask, SQLAlchemy]:
        app, db = Flask("host"), SQLAlchemy()
        app.config.update(
            HOST_CONFIG, MONGO_URI=mongo_uri, SQLALCHEMY_DATABASE_URI=database_url, **config
        )
        sa.Table("media_storage", db.metadata, sa.Column("id", sa.Integer, primary_key=True))
        db.init_app(app)
        return app, db

    app, db = make()
    with pytest.raises(ConfigurationError, match=r"'media_storage'.*DUALMEDIA_TABLE_PREFIX"):
        DualMedia(app)
    assert [*db.metadata.tables] == ["media_storage"]
    assert "dualmedia" not in app.blueprints
    app, db = make(DUALMEDIA_TABLE_PREFIX="dm_")
    DualMedia(app)
    assert [*db.metadata.tables["media_storage"].columns.keys()] == ["id"]
    assert "dm_media_storage" in db.metadata.tables
    get_state(app).circuit.stop()  # type: ignore[union-attr]
    get_state(app).engine.dispose()  # type: ignore[union-attr]
    get_state(app).mongo.client.close()


def test_two_apps_share_one_metadata(mongo_uri: str, make_app: MakeApp, migrated_url: str) -> None:
    db = SQLAlchemy()
    for _ in range(2):
        app = Flask("host")
        app.config.update(HOST_CONFIG, MONGO_URI=mongo_uri, SQLALCHEMY_DATABASE_URI=migrated_url)
        db.init_app(app)
        DualMedia(app)
        with app.app_context():
            db.engine.dispose()
        get_state(app).mongo.client.close()


def bare_app(mongo_uri: str, **config: t.Any) -> Flask:
    app = Flask("host")
    app.config.update(HOST_CONFIG, MONGO_URI=mongo_uri, DB_ENABLED=False, **config)
    return app


def add_blueprint(app: Flask) -> None:
    app.register_blueprint(Blueprint("dualmedia", __name__), url_prefix="/other")


def add_endpoint(app: Flask) -> None:
    app.add_url_rule("/elsewhere", "dualmedia.files", lambda: "the host's")


def add_route(app: Flask) -> None:
    app.add_url_rule("/media/files", "my_files", lambda: "the host's")


def add_dynamic_route(app: Flask) -> None:
    app.add_url_rule("/media/<path:path>", "my_media", lambda path: "the host's")


def add_page(app: Flask) -> None:
    app.add_url_rule("/media", "my_page", lambda: "the host's")


COLLISIONS = [
    (add_blueprint, {"DUALMEDIA_BLUEPRINT_NAME": "attachments"}),
    (add_endpoint, {"DUALMEDIA_BLUEPRINT_NAME": "attachments"}),
    (add_route, {"DUALMEDIA_URL_PREFIX": "/attachments"}),
    (add_dynamic_route, {"DUALMEDIA_URL_PREFIX": "/attachments"}),
    (add_page, {"DUALMEDIA_URL_PREFIX": "/attachments"}),
]


@pytest.mark.parametrize(
    ("collide", "way_out"), COLLISIONS, ids=lambda value: getattr(value, "__name__", "-")
)
def test_routes_of_the_hosts_are_refused(
    mongo_uri: str, collide: Callable[[Flask], None], way_out: t.Any
) -> None:
    app = bare_app(mongo_uri)
    collide(app)
    rules, extensions = {*map(str, app.url_map.iter_rules())}, set(app.extensions)
    with pytest.raises(ConfigurationError, match=next(iter(way_out))):
        DualMedia(app)
    assert ({*map(str, app.url_map.iter_rules())}, set(app.extensions)) == (rules, extensions)
    app.config.update(way_out)
    DualMedia(app)
    prefix = way_out.get("DUALMEDIA_URL_PREFIX", "/media")
    assert app.test_client().get(f"{prefix}/health").status_code == 200
    get_state(app).mongo.client.close()


def test_routes_beside_ours_are_the_hosts(mongo_uri: str) -> None:
    app = bare_app(mongo_uri)
    app.add_url_rule("/mediatheque", "mediatheque", lambda: "the host's")
    app.add_url_rule("/<path:page>", "page", lambda page: f"page {page}")
    DualMedia(app)
    assert app.test_client().get("/mediatheque").data == b"the host's"
    assert app.test_client().get("/about").data == b"page about"
    assert app.test_client().get("/media/health").json["mode"] == "mongo"  # type: ignore[index]
    get_state(app).mongo.client.close()


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("DUALMEDIA_TABLE_PREFIX", ["a b", "1_", "Dm_", "x" * 21, 'a"', "ix_", None]),
        ("DUALMEDIA_COLLECTION_PREFIX", ["$", "system.", "a\0", 5, None]),
        ("DUALMEDIA_BUCKET", ["", "a$", ".x", "x."]),
        ("DUALMEDIA_BLUEPRINT_NAME", ["", "a.b", 3]),
    ],
)
def test_names_that_cannot_be_are_refused(mongo_uri: str, key: str, values: list[t.Any]) -> None:
    for value in values:
        with pytest.raises(ConfigurationError, match=key):
            DualMedia(bare_app(mongo_uri, **{key: value}))


# Other names for ours


@pytest.mark.parametrize("mode", ["dual", "mongo"])
def test_with_other_names_the_hosts_things_are_there_byte_for_byte(
    with_other_names: Callable[..., Flask], database_url: str, host_database: Database, mode: str
) -> None:
    names = [
        *WITH_VARIANTS, *(f"journal_{name}" for name in WITH_VARIANTS),
        *(f"dualmedia_{name}" for name in ("leases", "checks", "uploads", "plays")),
    ]  # fmt: skip
    for name in names:
        host_database.drop_collection(name)  # with the indexes that apps of other tests have made
        host_database[name].insert_many([dict(document) for document in FOREIGN])
    are_whole = [fill_bucket(host_database, bucket) for bucket in ("media", "media_journal")]
    execute(
        database_url, "CREATE TABLE media_storage (id int); INSERT INTO media_storage VALUES (1)"
    )
    before = everything(host_database, *names)
    app = with_other_names(mode, SQLALCHEMY_DATABASE_URI=database_url)
    record = use(app)
    repair_and_sweep(app)
    with app.app_context():
        assert content_of(record) == png(comment=b"kept")
        delete_media("product-images", record.id)
    assert everything(host_database, *names) == before
    assert all(is_whole() for is_whole in are_whole)
    if mode == "dual":
        with engine_of(database_url).connect() as connection:
            assert connection.exec_driver_sql("SELECT id FROM media_storage").scalars().all() == [1]


def test_every_name_in_mongodb_has_the_prefix(
    with_other_names: Callable[..., Flask], host_database: Database
) -> None:
    for name in host_database.list_collection_names():
        host_database.drop_collection(name)
    use(with_other_names("mongo"))
    names = set(host_database.list_collection_names()) - {"products"}
    assert {
        "dm_product_images",
        "dm_dualmedia_uploads",
        "dm_media.files",
        "dm_media.chunks",
    } <= names
    assert all(name.startswith("dm_") for name in names), names


@pytest.mark.long
def test_every_name_in_sql_has_the_prefix(
    database_url: str, mongo_uri: str, tmp_path: Path
) -> None:
    """The revisions, up and down, as they are run at start-up, by our commands, and by ``flask
    db``."""
    host = Directory(tmp_path, BARE_HOST + "    app.config['X'] = 1\n", database_url, mongo_uri)
    host._environment["FLASK_DUALMEDIA_TABLE_PREFIX"] = "dm_"
    host.flask("routes")
    expected = {f"dm_{name}" for name in (*WITH_VARIANTS, "media_chunks", "dualmedia_version")}
    assert tables(database_url) == expected
    relations = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    constraints = (
        "SELECT conname FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace AND contype <> 'n'"
    )
    with engine_of(database_url).connect() as connection:
        for query in (relations, constraints):
            names = connection.exec_driver_sql(query).scalars().all()
            # Alembic names the key of its own table after that.
            assert all(name.startswith("dm_") for name in names), names
    inspector = inspect(database_url)
    for table, indexes in WITH_VARIANTS.items():
        assert {index["name"] for index in inspector.get_indexes(f"dm_{table}")} == {
            f"dm_{name}" for name in indexes
        }
    assert "No new upgrade operations detected" in host.flask("db", "check")
    host.flask("db", "downgrade", "base")
    assert tables(database_url) == {"dm_dualmedia_version"}
    written = host.flask("db", "upgrade", "--sql")
    assert "CREATE TABLE dm_product_images" in written
    assert "CREATE TABLE product_images" not in written
    assert "INSERT INTO dm_dualmedia_version" in written
    host.flask("db", "upgrade")
    assert tables(database_url) == expected
    host.flask("dualmedia", "downgrade", "base", "--yes")
    host.flask("dualmedia", "upgrade")
    assert tables(database_url) == expected


PREFIXED_HOST = """
    from flask import Flask
    from flask_migrate import Migrate
    from flask_sqlalchemy import SQLAlchemy
    from sqlalchemy.orm import Mapped, mapped_column
    from flask_dualmedia import DualMedia
    app = Flask(__name__)
    app.config.from_prefixed_env()
    app.config["DUALMEDIA_TABLE_PREFIX"] = "dm_"
    db = SQLAlchemy()
    class File(db.Model):
        __tablename__ = "media_storage"
        id: Mapped[int] = mapped_column(primary_key=True)
        path: Mapped[str]
    db.init_app(app)
    Migrate(app, db)
    DualMedia(app)
"""


@pytest.mark.long
def test_the_revisions_of_a_host_have_the_prefix(
    database_url: str, mongo_uri: str, tmp_path: Path
) -> None:
    host = Directory(tmp_path, PREFIXED_HOST, database_url, mongo_uri)
    host.flask("db", "init")
    host.flask("db", "migrate", "-m", "with media")
    host.flask("db", "upgrade")
    ours = {f"dm_{name}" for name in (*WITH_VARIANTS, "media_chunks")}
    assert tables(database_url) == {"media_storage", *ours, "alembic_version"}
    inspector = inspect(database_url)
    for table, indexes in WITH_VARIANTS.items():
        assert {index["name"] for index in inspector.get_indexes(f"dm_{table}")} == {
            f"dm_{name}" for name in indexes
        }
    assert "No new upgrade operations detected" in host.flask("db", "check")
    host.flask("routes")


def test_a_prefix_that_is_like_a_name_of_ours() -> None:
    for prefix in ("media_", "media_storage_", "dualmedia_version_", "x", ""):
        text = (
            "CREATE INDEX ix_media_storage_owner ON media_storage (media_type); "
            'PRAGMA table_info("course_videos")'
        )
        once = renamed(text, prefix)
        assert once == (
            f"CREATE INDEX {prefix}ix_media_storage_owner ON {prefix}media_storage (media_type); "
            f'PRAGMA table_info("{prefix}course_videos")'
        )
        assert renamed(once, prefix) == once
    assert tables_for("x") is tables_for("x")


def test_other_names_on_sqlite(make_app: MakeApp, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'host.db'}"
    execute(url, "CREATE TABLE media_storage (id integer PRIMARY KEY)")
    with pytest.raises(ConfigurationError, match="media_storage"):
        make_app(SQLALCHEMY_DATABASE_URI=url)
    app = make_app(SQLALCHEMY_DATABASE_URI=url, **OTHER_NAMES)
    use(app)
    assert {"media_storage", "dm_media_storage", "dm_dualmedia_version"} <= tables(url)


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_a_deleted_record_is_fenced_and_buried_under_other_names(
    with_other_names: Callable[..., Flask], database_url: str, tmp_path: Path, dialect: str
) -> None:
    url = database_url if dialect == "postgresql" else f"sqlite:///{tmp_path / 'host.db'}"
    app = with_other_names(SQLALCHEMY_DATABASE_URI=url)
    sql = get_state(app).homes[0].repository
    record = use(app)
    held = sql.count(ProductImage)
    fenced = sql.fence(record)
    assert (fenced.state, fenced.storage_key) == ("deleting", record.storage_key)
    sql.bury(ProductImage, record.id)
    assert sql.find(ProductImage, record.id).storage_key is None
    assert sql.count(ProductImage) == held - 1


@pytest.mark.parametrize("target", ["mongo", "sql"])
def test_a_transfer_with_other_names(
    with_other_names: Callable[..., Flask], database_url: str, host_database: Database, target: str
) -> None:
    is_whole = fill_bucket(host_database, "media")
    app = with_other_names(
        "mongo" if target == "sql" else "dual", SQLALCHEMY_DATABASE_URI=database_url
    )
    record = use(app)
    transferred = app.test_cli_runner().invoke(args=["dualmedia", "transfer", "--to", target])
    assert transferred.exit_code == 0, transferred.output
    other = with_other_names(
        "dual" if target == "sql" else "mongo", SQLALCHEMY_DATABASE_URI=database_url
    )
    with other.app_context():
        assert content_of(record) == png(comment=b"kept")
    assert is_whole()


def test_a_transfer_into_tables_of_the_hosts_is_refused(
    make_app: MakeApp, database_url: str
) -> None:
    execute(database_url, "CREATE TABLE media_storage (id int)")
    app = make_app("mongo", SQLALCHEMY_DATABASE_URI=database_url)
    for target in ("sql", "mongo"):
        refused = app.test_cli_runner().invoke(args=["dualmedia", "transfer", "--to", target])
        assert refused.exit_code == 1
        assert "DUALMEDIA_TABLE_PREFIX" in refused.output
    assert tables(database_url) == {"media_storage"}


# A database that is down at start


def test_a_table_of_the_hosts_that_is_found_when_sql_is_back(
    make_app: MakeApp,
    database_url: str,
    proxy: Proxy,
    host_database: Database,
    caplog: pytest.LogCaptureFixture,
) -> None:
    execute(database_url, "CREATE TABLE media_storage (id int)")
    proxy.refuse()
    app = make_app(
        SQLALCHEMY_DATABASE_URI=through(database_url, proxy), DUALMEDIA_PROBE_INTERVAL=0.1
    )
    with app.app_context():
        record = save_media_storage("page", "1", io.BytesIO(png()))
        proxy.let_through()
        eventually(lambda: "DUALMEDIA_TABLE_PREFIX" in caplog.text)
        assert get_media("files", record.id).checksum == record.checksum  # still in the journal
        other = save_media_storage("page", "1", io.BytesIO(png()))
        assert get_media("files", other.id).checksum == other.checksum
        assert tables(database_url) == {"media_storage"}
        execute(database_url, "DROP TABLE media_storage")
        eventually(lambda: host_database["journal_media_storage"].count_documents({}) == 0)
        assert get_media("files", record.id).checksum == record.checksum


def test_what_waits_for_sql_gets_there_under_other_names(
    with_other_names: Callable[..., Flask], database_url: str, proxy: Proxy, host_database: Database
) -> None:
    is_whole = fill_bucket(host_database, "media_journal")
    proxy.refuse()
    app = with_other_names(
        SQLALCHEMY_DATABASE_URI=through(database_url, proxy), DUALMEDIA_PROBE_INTERVAL=0.1
    )
    with app.app_context():
        record = save_media_storage("page", "1", io.BytesIO(png()))
        assert host_database["dm_journal_media_storage"].count_documents({}) == 1
        proxy.let_through()
        eventually(lambda: host_database["dm_journal_media_storage"].count_documents({}) == 0)
        assert b"".join(open_media(get_media("files", record.id))) == png()
    assert is_whole()
    with engine_of(database_url).connect() as connection:
        query = "SELECT id FROM dm_media_storage WHERE state = 'available'"
        assert connection.exec_driver_sql(query).scalar_one() == record.id


@pytest.mark.long
@pytest.mark.parametrize("mode", ["dual", "mongo"])
def test_names_are_looked_at_when_mongodb_is_back(
    make_app: MakeApp,
    mongo_uri: str,
    host_database: Database,
    mongo_proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
    mode: str,
) -> None:
    names = [("journal_" if mode == "dual" else "") + name for name in INDEXES]
    for name in (*names, "dualmedia_uploads", "dualmedia_checks"):
        host_database[name].insert_many([dict(document) for document in FOREIGN])
    bucket = "media_journal" if mode == "dual" else "media"
    is_whole = fill_bucket(host_database, bucket)
    before = everything(host_database, *names, "dualmedia_uploads", "dualmedia_checks")
    indexes = {name: host_database[name].index_information() for name in names}
    mongo_proxy.refuse()
    scheme, _, rest = mongo_uri.partition("://")
    path = rest.partition("/")[2]
    app = make_app(
        mode,
        MONGO_URI=f"{scheme}://127.0.0.1:{mongo_proxy.port}/{path}",
        DUALMEDIA_CONNECT_TIMEOUT=1,
    )
    mongo_proxy.let_through()
    eventually(get_state(app).mongo.circuit.answers)
    eventually(lambda: not get_state(app).mongo.circuit.is_open)
    with app.app_context():
        if mode == "mongo":
            with pytest.raises(DatabaseUnavailable, match="DUALMEDIA_COLLECTION_PREFIX"):
                save_media_storage("page", "1", io.BytesIO(png()))
            with pytest.raises(DatabaseUnavailable):
                get_media("files", uuid.UUID(int=7))
            answer = app.test_client().get(
                "/media/files", headers=bearer(app, "root", role="admin")
            )
            assert answer.status_code == 503
        for command in (["check", "--repair", "--grace", "0"], ["sweep", "--grace", "0"]):
            refused = app.test_cli_runner().invoke(args=["dualmedia", *command])
            assert refused.exit_code == 1, refused.output
            assert "DUALMEDIA_COLLECTION_PREFIX" in refused.output
        storage = get_state(app).homes[-1].storage
        with pytest.raises(DatabaseUnavailable, match=r"DUALMEDIA_(BUCKET|COLLECTION_PREFIX)"):
            storage.put(new_key(new_id()), iter([b"x"]))
        with pytest.raises(DatabaseUnavailable, match="DUALMEDIA_BUCKET"):
            storage.delete("avatar.png")
    assert "DUALMEDIA_COLLECTION_PREFIX" in caplog.text
    assert everything(host_database, *names, "dualmedia_uploads", "dualmedia_checks") == before
    assert {name: host_database[name].index_information() for name in names} == indexes
    assert is_whole()


# What the host puts between ours


def test_documents_between_ours_are_left_alone(make_app: MakeApp, host_database: Database) -> None:
    app = make_app("mongo")
    record = use(app)
    repair_and_sweep(app)  # what is left of the record that was deleted goes
    with app.app_context():
        save_media_storage("page", "1", io.BytesIO(png()))
        product = record.mongo_product_id
        images = {image.id for image in get_product_images(product)}
        status = counts(app)
        whole = host_database["product_images"].find_one({"_id": record.id})
        assert whole is not None
        almost = [
            {name: value for name, value in whole.items() if name != missing}
            | {"_id": new_id(), "is_main_image": False}
            for missing in ("links_revoked_at", "checksum", "alt_text")
        ]
        wrong = [
            whole | {"_id": one, "is_main_image": False} | changes
            for one, changes in (
                (new_id(), {"created_at": "today"}),
                (new_id(), {"state": "draft"}),
                ("an id", {}),
            )
        ]
        foreign = (
            [document | {"mongo_product_id": product} for document in FOREIGN] + almost + wrong
        )
        host_database["product_images"].insert_many(foreign)
        host_database["media_storage"].insert_many([dict(document) for document in FOREIGN])
        host_database["dualmedia_uploads"].insert_many(
            [
                {"_id": "upload", "expires_at": OLD, "parts": [{"key": "avatar.png", "size": 1}]},
                {
                    "_id": new_id(),
                    "expires_at": OLD,
                    "finished": True,
                    "parts": [{"key": "avatar.png"}],
                },
            ]
        )
        is_whole = fill_bucket(host_database, "media")
        names = ("product_images", "media_storage", "dualmedia_uploads")
        before = everything(host_database, *names)
        assert {image.id for image in get_product_images(product)} == images
        assert counts(app) == status
        admin = bearer(app, "root", role="admin")
        client = app.test_client()
        for query in ("", "?limit=2", "?sort=access_count", "?sort=-position"):
            listed = client.get(f"/media/product-images{query}", headers=admin)
            assert listed.status_code in (200, 422), (query, listed.json)
        for document in (*foreign, *FOREIGN):
            if isinstance(document.get("_id"), uuid.UUID):
                path = f"/media/product-images/{document['_id']}"
                assert client.get(path, headers=admin).status_code == 404
                assert client.get(f"{path}/content", headers=admin).status_code == 404
                assert client.patch(path, headers=admin, json={"altText": "x"}).status_code == 404
                assert client.delete(path, headers=admin).status_code == 404
                assert client.post(f"{path}/accesses", headers=admin).status_code == 404
        found = repair(get_state(app))
        assert found.clean
        repair_and_sweep(app)
        assert everything(host_database, *names) == before
        assert is_whole()
        assert content_of(record) == png(comment=b"kept")
        # The next start, too: the collections are ours, although something else is in them.
        again = make_app("mongo")
        repair_and_sweep(again)
        assert everything(host_database, *names) == before


def counts(app: Flask) -> str:
    output = app.test_cli_runner().invoke(args=["dualmedia", "status"]).output
    return next(line for line in output.splitlines() if line.startswith("MongoDB")).partition(
        " ms: "
    )[2]


def test_a_transfer_leaves_documents_between_ours_alone(
    make_app: MakeApp, database_url: str, host_database: Database
) -> None:
    app = make_app("mongo", SQLALCHEMY_DATABASE_URI=database_url)
    record = use(app)
    host_database["product_images"].insert_many([dict(document) for document in FOREIGN])
    is_whole = fill_bucket(host_database, "media")
    result = app.test_cli_runner().invoke(args=["dualmedia", "transfer", "--to", "sql"])
    assert result.exit_code == 0, result.output
    dual = make_app(SQLALCHEMY_DATABASE_URI=database_url)
    result = dual.test_cli_runner().invoke(
        args=["dualmedia", "transfer", "--to", "sql", "--delete-source", "--yes"]
    )
    assert result.exit_code == 0, result.output
    assert host_database["product_images"].count_documents({}) == len(FOREIGN)
    assert is_whole()
    with dual.app_context():
        assert content_of(record) == png(comment=b"kept")


def test_the_journal_drains_around_documents_of_the_hosts(
    make_app: MakeApp, database_url: str, proxy: Proxy, host_database: Database
) -> None:
    proxy.refuse()
    app = make_app(
        SQLALCHEMY_DATABASE_URI=through(database_url, proxy), DUALMEDIA_PROBE_INTERVAL=0.1
    )
    with app.app_context():
        record = save_media_storage("page", "1", io.BytesIO(png()))
        host_database["journal_media_storage"].insert_many([dict(document) for document in FOREIGN])
        is_whole = fill_bucket(host_database, "media_journal")
        journal = everything(host_database, "journal_media_storage")["journal_media_storage"]
        before = [document for document in journal if document["_id"] != record.id]
        proxy.let_through()
        eventually(
            lambda: host_database["journal_media_storage"].count_documents({"_id": record.id}) == 0
        )
        eventually(lambda: app.test_client().get("/media/health").json["journal"] == 0)  # type: ignore[index]
        assert b"".join(open_media(get_media("files", record.id))) == png()
        assert everything(host_database, "journal_media_storage")["journal_media_storage"] == before
        assert is_whole()


STRANGE_KEYS = [
    "avatar.png",
    "d41d8cd98f00b204e9800998ecf8427e-1024",
    "0" * 32 + "-" + "0" * 16,
    "{" + "0" * 32 + "}-1",
]


@pytest.mark.parametrize("mode", ["dual", "mongo"])
def test_bytes_under_keys_that_are_not_ours_are_left_alone(make_app: MakeApp, mode: str) -> None:
    app = make_app(mode)
    with app.app_context():
        storage = get_state(app).storages["database"]
        orphan = new_key(new_id())
        for key in (*STRANGE_KEYS, orphan):
            storage.put(key, iter([b"bytes"]))
        report = repair(get_state(app))
        assert report.repaired == {"bytes_orphaned": 1}
        assert set(storage.stats([*STRANGE_KEYS, orphan])) == set(STRANGE_KEYS)


def test_files_outside_under_keys_that_are_not_ours_are_left_alone(
    make_app: MakeApp, tmp_path: Path
) -> None:
    app = make_app("mongo", DUALMEDIA_STORAGES={"local": {"directory": str(tmp_path / "media")}})
    with app.app_context():
        storage = get_state(app).storages["local"]
        for key in STRANGE_KEYS[1:3]:
            storage.put(key, iter([b"bytes"]))
        assert repair(get_state(app)).clean
        assert set(storage.stats(STRANGE_KEYS[1:3])) == set(STRANGE_KEYS[1:3])


def test_only_keys_that_we_make_are_ours() -> None:
    assert owner_of_key(new_key(new_id())) is not None
    for key in (
        *STRANGE_KEYS,
        new_key(new_id()).upper(),
        new_key(new_id()) + "0",
        new_key(uuid.UUID(int=1)),
        None,
        5,
    ):
        assert owner_of_key(key) is None


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(url, poolclass=sa.NullPool)


def execute(url: str, statements: str) -> None:
    with engine_of(url).begin() as connection:
        for statement in textwrap.dedent(statements).split(";"):
            connection.exec_driver_sql(statement)
