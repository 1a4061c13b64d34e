"""Settings: where they come from, and what is said when they are wrong."""

from __future__ import annotations

import logging
import re
import sys
import typing as t
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from psycopg.sql import SQL, Identifier

from flask_dualmedia import ConfigurationError, DualMedia, MissingExtra
from flask_dualmedia.config import Settings
from flask_dualmedia.models import KINDS
from flask_dualmedia.state import get_state
from flask_dualmedia.storages.local import LocalStorage
from flask_dualmedia.storages.outside import open_storages
from flask_dualmedia.storages.s3 import S3Storage

from ..conftest import BASE_CONFIG, Databases, MakeApp, StorageOptions, close, opened, unique
from ..storages.shelves import Shelf

STORAGES: dict[str, t.Any] = {
    "local": {"directory": "/srv/media"},
    "s3": {"bucket": "b", "endpoint_url": None},
}

DB_KEYS = ("DB_ENABLED", "DB_NAME", "DB_USER", "DB_PASSWORD", "DB_HOST", "DB_PORT")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in DB_KEYS:
        monkeypatch.delenv(key, raising=False)


def read(**config: t.Any) -> Settings:
    return Settings.from_config(config, host_has_sql=False)


@pytest.mark.parametrize("value", ["false", "False", "0", "no", "off", "", False, 0])
def test_ways_to_say_no(value: t.Any) -> None:
    assert read(DB_ENABLED=value, DB_NAME="shop").sql_enabled is False


@pytest.mark.parametrize("value", ["true", "TRUE", "1", "yes", "on", True, 1])
def test_ways_to_say_yes(value: t.Any) -> None:
    assert read(DB_ENABLED=value, DB_NAME="shop").sql_enabled is True


def test_sql_is_on_when_it_is_configured() -> None:
    assert read(DB_NAME="shop").sql_enabled
    assert read(SQLALCHEMY_DATABASE_URI="sqlite://").sql_enabled
    assert Settings.from_config({}, host_has_sql=True).sql_enabled
    assert not read().sql_enabled


def test_the_environment_gives_the_db_names_that_the_config_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DB_NAME", "from environment")
    monkeypatch.setenv("DB_HOST", "db.example")
    monkeypatch.setenv("DUALMEDIA_URL_PREFIX", "/ignored")
    settings = read(DB_HOST="config.example")
    assert settings.sql_url is not None
    assert settings.sql_url.database == "from environment"
    assert settings.sql_url.host == "config.example"
    assert settings.url_prefix == "/media"


def test_the_uri_wins_over_the_parts() -> None:
    url = read(SQLALCHEMY_DATABASE_URI="postgresql://h/whole", DB_NAME="parts").sql_url
    assert url is not None
    assert url.render_as_string() == "postgresql+psycopg://h/whole"


AWKWARD = st.text(st.sampled_from("abc @:/%?#&+[]\\'\"=é☃"), min_size=1, max_size=12)


@given(AWKWARD, AWKWARD, AWKWARD)
def test_parts_of_any_characters_reach_the_driver(name: str, user: str, password: str) -> None:
    """A URL made by string formatting moves half of such a password into the host."""
    url = read(DB_NAME=name, DB_USER=user, DB_PASSWORD=password, DB_HOST="localhost").sql_url
    assert url is not None
    _, arguments = sa.create_engine(url).dialect.create_connect_args(url)
    assert arguments["dbname"] == name
    assert (arguments["user"], arguments["password"]) == (user, password)
    assert arguments["host"] == "localhost"
    # SQLAlchemy 2.0 writes the name of a database as it is, so that a question mark in it would end
    # it.
    named = url.set(database="name")
    assert sa.make_url(named.render_as_string(hide_password=False)) == named
    assert (
        password not in repr(url)
        or password in f"{user}{name}localhost"
        or password in repr(url).replace("***", "")
    )


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"DB_ENABLED": "perhaps"}, "DB_ENABLED"),
        ({"DB_ENABLED": True}, "SQLALCHEMY_DATABASE_URI or DB_NAME"),
        ({"DB_NAME": "shop", "DB_PORT": "http"}, "DB_PORT"),
        ({"SQLALCHEMY_DATABASE_URI": "no url"}, "SQLALCHEMY_DATABASE_URI"),
        ({"SQLALCHEMY_DATABASE_URI": "nosuchdb://u:hidden@h/d"}, "SQLALCHEMY_DATABASE_URI"),
        ({"DUALMEDIA_URL_PREFIX": "/"}, "DUALMEDIA_URL_PREFIX"),
        ({"DUALMEDIA_URL_PREFIX": 5}, "DUALMEDIA_URL_PREFIX"),
        ({"DUALMEDIA_REFERENCES": ["products"]}, "DUALMEDIA_REFERENCES"),
        ({"DUALMEDIA_AUTO_UPGRADE": "later"}, "DUALMEDIA_AUTO_UPGRADE"),
        ({"DUALMEDIA_MAX_SIZE": "big"}, "DUALMEDIA_MAX_SIZE"),
        ({"DUALMEDIA_MAX_SIZE": 0}, "DUALMEDIA_MAX_SIZE"),
        ({"DUALMEDIA_SNIFFER": "magic"}, "DUALMEDIA_SNIFFER"),
        ({"DUALMEDIA_POLICY": {"files": {"max_pixels": -1}}}, "DUALMEDIA_POLICY"),
        ({"DUALMEDIA_VALIDATOR": True}, "DUALMEDIA_VALIDATOR"),
        ({"DUALMEDIA_QUOTA_PER_IDENTITY": 0}, "DUALMEDIA_QUOTA_PER_IDENTITY"),
        ({"DUALMEDIA_QUOTA_PER_OWNER": "much"}, "DUALMEDIA_QUOTA_PER_OWNER"),
        ({"DUALMEDIA_CONNECT_TIMEOUT": "soon"}, "DUALMEDIA_CONNECT_TIMEOUT"),
        ({"DUALMEDIA_GRACE": -1}, "DUALMEDIA_GRACE"),
        ({"DUALMEDIA_GRACE": float("nan")}, "DUALMEDIA_GRACE"),
        ({"DUALMEDIA_TRASH_SECONDS": float("inf")}, "DUALMEDIA_TRASH_SECONDS"),
        ({"DUALMEDIA_REPAIR_SHARE": -0.1}, "DUALMEDIA_REPAIR_SHARE"),
        ({"DUALMEDIA_REPAIR_SHARE": 1.5}, "DUALMEDIA_REPAIR_SHARE"),
        ({"DUALMEDIA_REPAIR_SHARE": "much"}, "DUALMEDIA_REPAIR_SHARE"),
        ({"DUALMEDIA_REPAIR_SHARE": float("nan")}, "DUALMEDIA_REPAIR_SHARE"),
        ({"DUALMEDIA_COUNT_READS": "often"}, "DUALMEDIA_COUNT_READS"),
        ({"DUALMEDIA_COUNT_WINDOW": -1}, "DUALMEDIA_COUNT_WINDOW"),
        ({"DUALMEDIA_COUNT_INTERVAL": 0}, "DUALMEDIA_COUNT_INTERVAL"),
        ({"DUALMEDIA_ADMIN_ROLE": None}, "DUALMEDIA_ADMIN_ROLE"),
        ({"MONGO_URI": None}, "MONGO_URI"),
        ({"MONGO_URI": "http://u:hidden@h"}, "MONGO_URI"),
        ({"MONGO_URI": "mongodb://localhost:1"}, "MONGO_URI names no database"),
        ({"JWT_SECRET_KEY": None}, "JWT_SECRET_KEY"),
    ],
)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_is_wrong_is_named(config: dict[str, t.Any], key: str) -> None:
    app = Flask("host")
    app.config.update(BASE_CONFIG, MONGO_URI="mongodb://localhost:1/test")
    app.config.update(config)
    with pytest.raises(ConfigurationError, match=key) as caught:
        DualMedia(app)
    assert "hidden" not in str(caught.value)
    assert "dualmedia" not in app.extensions
    assert "dualmedia" not in app.blueprints


def test_a_database_and_a_password_with_special_characters(
    databases: Databases,
    servers: t.Any,
    mongo_uri: str,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """A real PostgreSQL asks for the password."""
    password, role = "p@ss:/%#?&+ é", unique("Zoë Müller")
    databases.create("ebay lms")
    with psycopg.connect(
        servers.postgres.set(drivername="postgresql").render_as_string(hide_password=False)
    ) as admin:
        admin.autocommit = True
        hba = Path(str(admin.execute("SHOW hba_file").fetchone()[0]))  # type: ignore[index]
        admin.execute(SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(Identifier(role), password))
        admin.execute(SQL('ALTER DATABASE "ebay lms" OWNER TO {}').format(Identifier(role)))
        before = hba.read_text()
        hba.write_text(
            f'local all "{role}" scram-sha-256\nhost all "{role}" all scram-sha-256\n{before}'
        )
        admin.execute("SELECT pg_reload_conf()")
        try:
            _use_database(servers.postgres, "ebay lms", role, password, mongo_uri, caplog)
        finally:
            hba.write_text(before)
            admin.execute("SELECT pg_reload_conf()")
            databases.drop_all()
            admin.execute(SQL("DROP ROLE {}").format(Identifier(role)))


def _use_database(
    server: sa.URL,
    name: str,
    role: str,
    password: str,
    mongo_uri: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = server.host or str(server.query["host"])
    app = Flask("host")
    app.config.update(
        BASE_CONFIG,
        MONGO_URI=mongo_uri,
        DB_NAME=name,
        DB_USER=role,
        DB_PASSWORD=password,
        DB_HOST=host,
    )
    app.config["DB_PORT"] = server.port or 5432
    with caplog.at_level(logging.DEBUG):
        DualMedia(app)
    assert app.test_client().get("/media/health").json["sql"] == {"ok": True}  # type: ignore[index]
    engine = get_state(app).engine
    assert engine is not None
    with engine.connect() as connection:
        row = connection.exec_driver_sql("SELECT current_database(), current_user").one()
    assert tuple(row) == (name, role)
    assert "p@ss" not in caplog.text
    close(app)
    app = Flask("host")
    app.config.update(
        BASE_CONFIG,
        MONGO_URI=mongo_uri,
        DB_NAME=name,
        DB_USER=role,
        DB_PASSWORD="wrong",
        DB_HOST=host,
    )
    caplog.clear()
    DualMedia(app)
    assert app.test_client().get("/media/health").json["sql"] == {"ok": False}  # type: ignore[index]
    close(app)


def test_the_start_up_facts_in_dual_mode(
    database_url: str, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "flask_dualmedia"):
        make_app(SQLALCHEMY_DATABASE_URI=database_url, DUALMEDIA_AUTO_UPGRADE=True)
    lines = [record.getMessage() for record in caplog.records if record.name == "flask_dualmedia"]
    assert len(lines) == 4
    assert lines[0].startswith("MongoDB connected (version ")
    assert lines[1].startswith("PostgreSQL connected (version ")
    assert lines[2] == "models synchronized"
    assert lines[3] == "dual mode: documents in MongoDB, media in PostgreSQL at /media"


def test_the_start_up_facts_in_mongo_only_mode(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "flask_dualmedia"):
        make_app("mongo")
    lines = [record.getMessage() for record in caplog.records if record.name == "flask_dualmedia"]
    assert len(lines) == 2
    assert lines[1] == "Mongo-only mode (DB_ENABLED is false)"


def test_tables_that_are_missing_are_said(
    database_url: str, make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    make_app(SQLALCHEMY_DATABASE_URI=database_url, DUALMEDIA_AUTO_UPGRADE=False)
    assert "models not synchronized: run flask db upgrade" in caplog.text


def test_an_unreachable_sql_server_does_not_stop_the_app(make_app: MakeApp) -> None:
    app = make_app(SQLALCHEMY_DATABASE_URI="postgresql://nobody:secret@127.0.0.1:1/none")
    health = app.test_client().get("/media/health")
    assert health.status_code == 200
    assert health.json == {
        "mode": "dual", "degraded": True, "mongo": {"ok": True}, "sql": {"ok": False}, "journal": 0,
    }  # fmt: skip


def test_an_unreachable_mongodb_does_not_stop_the_app(make_app: MakeApp) -> None:
    app = make_app("mongo", MONGO_URI="mongodb://127.0.0.1:1/none", DUALMEDIA_CONNECT_TIMEOUT=0.2)
    health = app.test_client().get("/media/health")
    assert health.status_code == 503
    assert health.json["mongo"] == {"ok": False}  # type: ignore[index]


def test_storages() -> None:
    settings = read(DUALMEDIA_STORAGES=STORAGES, DUALMEDIA_DEFAULT_STORAGE={"files": "s3"})
    options = {name: setup.options for name, setup in settings.storages.items()}
    assert options == {
        "local": {"directory": "/srv/media", "name": "local"},
        "s3": {"bucket": "b", "name": "s3"},
    }
    assert settings.default_storages == dict.fromkeys(KINDS, "database") | {"files": "s3"}
    assert set(
        read(DUALMEDIA_STORAGES=STORAGES, DUALMEDIA_DEFAULT_STORAGE="s3").default_storages.values()
    ) == {"s3"}
    assert read().allowed_storages == frozenset()
    allowed = read(
        DUALMEDIA_STORAGES=STORAGES, DUALMEDIA_ALLOWED_STORAGES=["local", "database"]
    ).allowed_storages
    assert allowed == {"local", "database"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"DUALMEDIA_STORAGES": ["local"]}, "DUALMEDIA_STORAGES must map"),
        ({"DUALMEDIA_STORAGES": {"local": "/srv"}}, "DUALMEDIA_STORAGES must map"),
        ({"DUALMEDIA_STORAGES": {"attic": {}}}, "DUALMEDIA_STORAGES has 'attic'"),
        ({"DUALMEDIA_STORAGES": {"database": {}}}, "DUALMEDIA_STORAGES has 'database'"),
        (
            {"DUALMEDIA_STORAGES": {"local": {}}},
            r"DUALMEDIA_STORAGES\['local'\]\['directory'\] is missing",
        ),
        (
            {"DUALMEDIA_STORAGES": {"local": {"directory": "media"}}},
            r"\['directory'\] is not an absolute path",
        ),
        ({"DUALMEDIA_STORAGES": {"s3": {"bucket": ""}}}, r"\['bucket'\] is missing"),
        (
            {"DUALMEDIA_STORAGES": {"s3": {"bucket": "b", "secret": "x"}}},
            r"DUALMEDIA_STORAGES\['s3'\] has 'secret'",
        ),
        (
            {"DUALMEDIA_STORAGES": {"s3": {"bucket": "b", "redirect": "yes"}}},
            r"\['redirect'\] is not of type bool",
        ),
        (
            {"DUALMEDIA_STORAGES": {"google_drive": {"folder": "a' or 'b"}}},
            r"\['folder'\] is not an id",
        ),
        (
            {"DUALMEDIA_DEFAULT_STORAGE": "s3"},
            "DUALMEDIA_DEFAULT_STORAGE names 's3', which is not in DUALMEDIA_STORAGES",
        ),
        (
            {"DUALMEDIA_DEFAULT_STORAGE": {"pictures": "database"}},
            "DUALMEDIA_DEFAULT_STORAGE has 'pictures'",
        ),
        ({"DUALMEDIA_DEFAULT_STORAGE": ["database"]}, "DUALMEDIA_DEFAULT_STORAGE names"),
        ({"DUALMEDIA_DEFAULT_STORAGE": "external"}, "DUALMEDIA_DEFAULT_STORAGE names"),
        ({"DUALMEDIA_ALLOWED_STORAGES": "database"}, "DUALMEDIA_ALLOWED_STORAGES is not a list"),
        ({"DUALMEDIA_ALLOWED_STORAGES": ["s3"]}, "DUALMEDIA_ALLOWED_STORAGES names 's3'"),
    ],
)
def test_storages_that_are_wrong(config: dict[str, t.Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(**config)


SHELF = "tests.storages.shelves:Shelf"


class NoStorage:
    def put(self) -> None: ...

    def open(self) -> None: ...


def test_storages_by_name(tmp_path: Path) -> None:
    """The class is one of ours by its short name, a class of the host's, or where that is."""
    options = {
        "archive": {"class": "local", "directory": tmp_path, "x_sendfile": None},
        "bucket-1_of_two": {"class": S3Storage, "bucket": "one"},
        "local": {"class": Shelf, "label": "under a name of ours"},
        "imported": {"class": SHELF, "label": None},
    }
    settings = read(DUALMEDIA_STORAGES=options, DUALMEDIA_DEFAULT_STORAGE="archive")
    found = {name: (setup.make, dict(setup.options)) for name, setup in settings.storages.items()}
    assert found == {
        "archive": (LocalStorage, {"directory": str(tmp_path), "name": "archive"}),
        "bucket-1_of_two": (S3Storage, {"bucket": "one", "name": "bucket-1_of_two"}),
        "local": (Shelf, {"label": "under a name of ours"}),
        "imported": (Shelf, {"label": None}),
    }
    assert set(settings.default_storages.values()) == {"archive"}


@pytest.mark.parametrize(
    "name",
    [
        "database",
        "external",
        "journal",
        "",
        "Archive",
        "a b",
        "a/b",
        "1st",
        "x" * 17,
        "a\n",
        7,
        None,
    ],
)
def test_names_that_no_storage_can_have(name: t.Any) -> None:
    options = {name: {"class": "local", "directory": "/srv/media"}}
    with pytest.raises(ConfigurationError, match=re.escape(f"DUALMEDIA_STORAGES has {name!r}, ")):
        read(DUALMEDIA_STORAGES=options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bucket": "b"}, " has 'scans', which is none of local, s3, google_drive, cloud"),
        ({"class": "s4"}, "['scans']['class'] is 's4', which is none of local, s3"),
        ({"class": "nowhere:Class"}, "['class'] is 'nowhere:Class', which cannot be imported"),
        ({"class": f"{SHELF}f"}, "['class'] is 'tests.storages.shelves:Shelff', which cannot be"),
        ({"class": ":"}, "['scans']['class'] is ':', which is none of"),
        ({"class": ".shelves:Shelf"}, "['class'] is '.shelves:Shelf', which is none of"),
        ({"class": "os:getcwd"}, "['scans']['class'] is no class of a storage"),
        ({"class": Shelf("x")}, "['scans']['class'] is no class of a storage"),
        (
            {"class": NoStorage},
            "NoStorage, which is no Storage: it lacks send, delete, stats, keys",
        ),
        ({"class": Shelf}, "['scans']: missing a required argument: 'label'"),
        ({"class": Shelf, "label": "x", "pin": "hidden"}, "['scans']: got an unexpected keyword"),
        ({"class": "local"}, "['scans']['directory'] is missing"),
        ({"class": "s3", "bucket": "b", "pin": "hidden"}, "['scans'] has 'pin', which is none of"),
        ({"class": "cloud", "url": "nowhere://hidden"}, "['scans']['url']: "),
        (
            {"class": Shelf, "label": "x", "password": "wrong"},
            "['scans'] cannot be made: ValueError",
        ),
    ],
)
def test_named_storages_that_are_wrong(options: dict[str, t.Any], message: str) -> None:
    """The message has the key and the name, and no value of an option."""
    with pytest.raises(ConfigurationError) as caught:
        open_storages(read(DUALMEDIA_STORAGES={"scans": options}).storages)
    assert str(caught.value).startswith("DUALMEDIA_STORAGES")
    assert message in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "wrong" not in str(caught.value)


def test_a_cloud_without_a_driver(make_app: MakeApp) -> None:
    with pytest.raises(
        ConfigurationError, match=r"DUALMEDIA_STORAGES\['cloud'\]\['url'\]: .*nowhere"
    ):
        make_app("mongo", DUALMEDIA_STORAGES={"cloud": {"url": "nowhere://bucket"}})


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("s3", "boto3", "s3"),
        ("google_drive", "google.resumable_media", "gdrive"),
        ("cloud", "fsspec", "cloud"),
    ],
)
def test_a_storage_whose_package_is_missing(
    monkeypatch: pytest.MonkeyPatch,
    storage_options: StorageOptions,
    name: str,
    module: str,
    extra: str,
) -> None:
    options = storage_options(name)
    for imported in [
        loaded for loaded in sys.modules if loaded == module or loaded.startswith(f"{module}.")
    ]:
        monkeypatch.delitem(sys.modules, imported)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"flask-dualmedia\[{extra}\]"):
        opened(options)
