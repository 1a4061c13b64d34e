"""Real servers, a fresh database for each test, and an app in each mode."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import typing as t
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pymongo
import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from pymongo.uri_parser import parse_uri

from example_app import embedded
from flask_dualmedia import DualMedia, anyone_may_add
from flask_dualmedia.models import Base
from flask_dualmedia.state import State, find_state, get_state
from flask_dualmedia.storages.base import Storage
from flask_dualmedia.storages.outside import check_storages, open_storages
from flask_dualmedia.storages.s3 import S3Storage

from . import samples
from .tools import drive
from .tools.proxy import Proxy, through

MakeApp = Callable[..., Flask]

Furnish = Callable[..., Flask]


def pytest_configure() -> None:
    """Lets processes of tests be interrupted.

    A shell without job control starts a command in the background with SIGINT ignored, and its
    children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class ServerUrls(t.NamedTuple):
    postgres: sa.URL
    """As an account that may create databases."""
    mongo: str


@pytest.fixture(scope="session")
def servers() -> Iterator[ServerUrls]:
    """The servers that the environment names; those that it does not name are started, and end with
    the tests."""
    postgres, mongo = (
        os.environ.get("DUALMEDIA_TEST_POSTGRES_URL"),
        os.environ.get("DUALMEDIA_TEST_MONGO_URI"),
    )
    # Not in a folder of pytest's: where root runs the tests, pytest shuts the PostgreSQL account
    # out of those.
    directory = tempfile.mkdtemp(prefix="dualmedia-tests-")
    started = embedded.start(directory, postgres=not postgres, mongo=not mongo)
    url = sa.make_url(postgres or started.postgres_url or "").set(drivername="postgresql+psycopg")
    if (
        started.postgres_url
    ):  # nobody cuts the power: what the system has taken is not lost when PostgreSQL is killed
        admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with admin.connect() as connection:
            connection.exec_driver_sql("ALTER SYSTEM SET fsync = off")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
    yield ServerUrls(url, mongo or started.mongo_uri or "")
    processes = [psutil.Process(pid) for pid in started.pids]
    for process in processes:
        process.send_signal(signal.SIGINT)
    psutil.wait_procs(processes, timeout=20)
    shutil.rmtree(directory, ignore_errors=True)


class Databases:
    """Creates and drops databases on the PostgreSQL server."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self._engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        self._created: list[str] = []

    def create(self, name: str, *, template: str | None = None) -> sa.URL:
        with self._engine.connect() as connection:
            copied = f' TEMPLATE "{template}"' if template else ""
            connection.exec_driver_sql(f'CREATE DATABASE "{name}"{copied}')
        self._created.append(name)
        return self._url.set(database=name)

    def drop_all(self) -> None:
        with self._engine.connect() as connection:
            for name in self._created:
                connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self._created.clear()


def unique(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def template_database(servers: ServerUrls) -> Iterator[str]:
    """A database at the newest revision, to copy: running the revisions takes longer."""
    databases = Databases(servers.postgres)
    name = unique("template")
    url = databases.create(name)
    app = Flask("template")
    app.config.update(
        BASE_CONFIG, SQLALCHEMY_DATABASE_URI=url, MONGO_URI=mongo_uri_for(servers, name)
    )
    DualMedia(app)
    close(app)
    yield name
    databases.drop_all()


@pytest.fixture
def databases(servers: ServerUrls) -> Iterator[Databases]:
    databases = Databases(servers.postgres)
    yield databases
    databases.drop_all()


@pytest.fixture
def database_url(databases: Databases) -> str:
    """URL of an empty PostgreSQL database."""
    return databases.create(unique("test")).render_as_string(hide_password=False)


@pytest.fixture
def migrated_url(databases: Databases, template_database: str) -> str:
    """URL of a PostgreSQL database at the newest revision."""
    return databases.create(unique("test"), template=template_database).render_as_string(
        hide_password=False
    )


@pytest.fixture(scope="session")
def worker_databases(servers: ServerUrls) -> Iterator[Databases]:
    databases = Databases(servers.postgres)
    yield databases
    databases.drop_all()


@pytest.fixture(scope="session")
def worker_postgres(
    worker_databases: Databases, template_database: str
) -> Iterator[tuple[str, sa.Engine]]:
    url = worker_databases.create(unique("worker"), template=template_database)
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    yield url.render_as_string(hide_password=False), engine
    engine.dispose()


@pytest.fixture
def emptied_url(worker_postgres: tuple[str, sa.Engine]) -> str:
    """URL of a PostgreSQL database at the newest revision, for tests that leave its tables as they
    are: emptying it takes less time than making another one, and to delete the few rows of a test
    less than to truncate."""
    url, engine = worker_postgres
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "; ".join(f"DELETE FROM {name}" for name in Base.metadata.tables)
        )
    return url


def mongo_uri_for(servers: ServerUrls, name: str) -> str:
    base, _, options = servers.mongo.partition("?")
    scheme, _, rest = base.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/{name}" + (f"?{options}" if options else "")


@pytest.fixture(scope="session")
def worker_mongo(servers: ServerUrls) -> Iterator[tuple[str, pymongo.MongoClient[t.Any]]]:
    name = unique("worker")
    uri = mongo_uri_for(servers, name)
    with pymongo.MongoClient(uri) as client:
        yield uri, client
        client.drop_database(name)


@pytest.fixture
def mongo_uri(worker_mongo: tuple[str, pymongo.MongoClient[t.Any]]) -> str:
    """URI of a MongoDB database without documents. Our collections and their indexes may be there:
    making them anew takes a while."""
    uri, client = worker_mongo
    database = client.get_default_database()
    for name in database.list_collection_names():
        if name in COLLECTIONS_OF_HOSTS:
            database.drop_collection(name)
        else:
            database[name].delete_many({})
    return uri


COLLECTIONS_OF_HOSTS = ("users", "products", "courses", "reviews", "orders", "attempts")
"""Collections that hosts may have indexed."""


BASE_CONFIG: dict[str, t.Any] = {
    "TESTING": True,
    "JWT_SECRET_KEY": "a key for tests of at least thirty-two bytes",
    "JWT_ACCESS_TOKEN_EXPIRES": False,
    # Tests of it turn it on: what others leave half done is their own affair.
    "DUALMEDIA_UPKEEP": False,
}


# Most tests are about other things than who may add media to a document.
HOST_CONFIG = BASE_CONFIG | {"DUALMEDIA_AUTHORIZE": anyone_may_add}


@pytest.fixture
def make_app(request: pytest.FixtureRequest, mongo_uri: str) -> Iterator[MakeApp]:
    """Makes apps that are closed after the test. Keywords go into the config; ``mode`` chooses the
    databases."""
    yield from making_apps(mongo_uri, lambda: request.getfixturevalue("emptied_url"))


@pytest.fixture(scope="module")
def make_lasting_app(
    worker_mongo: tuple[str, pymongo.MongoClient[t.Any]], worker_postgres: tuple[str, sa.Engine]
) -> Iterator[MakeApp]:
    """Makes apps for all tests of a module. Those that want empty databases take the fixtures that
    empty them."""
    yield from making_apps(worker_mongo[0], lambda: worker_postgres[0])


def making_apps(mongo_uri: str, sql_url: Callable[[], str]) -> Iterator[MakeApp]:
    made: list[Flask] = []

    def make(mode: str = "dual", *, name: str = "host", **config: t.Any) -> Flask:
        app = Flask(name)
        app.config.update(HOST_CONFIG, MONGO_URI=mongo_uri)
        if mode == "dual" and "SQLALCHEMY_DATABASE_URI" not in config:
            app.config["SQLALCHEMY_DATABASE_URI"] = sql_url()
            # The template is at the newest revision: looking again would cost every test a while.
            app.config["DUALMEDIA_AUTO_UPGRADE"] = False
        elif mode == "mongo":
            app.config["DB_ENABLED"] = False
        app.config.update(config)
        made.append(app)
        DualMedia(app)
        return app

    yield make
    for app in made:
        close(app)


@pytest.fixture
def furnish(mongo_uri: str) -> Iterator[Furnish]:
    """Puts media into an app of the test's, in Mongo-only mode unless its config says more."""
    furnished: list[Flask] = []

    def put(app: Flask, **config: t.Any) -> Flask:
        app.config.update(
            HOST_CONFIG,
            MONGO_URI=mongo_uri,
            DB_ENABLED=False,
            SECRET_KEY="a key of thirty-two bytes at least",
        )
        app.config.update(config)
        DualMedia(app)
        furnished.append(app)
        return app

    yield put
    for app in furnished:
        close(app)


def close(app: Flask) -> None:
    """Give back what an app holds, so that databases can be dropped and nothing is left to the
    garbage collector."""
    if "dualmedia" in app.extensions:
        DualMedia.close(app)
        # What the tests have opened themselves, as hosts.
        state = find_state(app)
        state.mongo.client.close()
        if state.engine is not None:
            state.engine.dispose()


@pytest.fixture
def proxy(servers: ServerUrls) -> Iterator[Proxy]:
    """A way to PostgreSQL that can be lost."""
    url = servers.postgres
    host = url.host or str(url.query.get("host", "localhost"))
    port = url.port or 5432
    proxy = Proxy(f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port))
    yield proxy
    proxy.close()


@pytest.fixture
def mongo_proxy(servers: ServerUrls) -> Iterator[Proxy]:
    """A way to MongoDB that can be lost."""
    proxy = Proxy(parse_uri(servers.mongo)["nodelist"][0])
    yield proxy
    proxy.close()


@pytest.fixture
def make_proxied(make_app: MakeApp, migrated_url: str, proxy: Proxy) -> MakeApp:
    """Makes apps whose way to PostgreSQL is through the proxy."""

    def make(**config: t.Any) -> Flask:
        settings = {"DUALMEDIA_PROBE_INTERVAL": 0.2, "DUALMEDIA_AUTO_UPGRADE": False}
        return make_app(SQLALCHEMY_DATABASE_URI=through(migrated_url, proxy), **settings | config)

    return make


@pytest.fixture(params=["dual", "mongo"])
def mode(request: pytest.FixtureRequest) -> str:
    """Every mode in turn; a test that takes this fixture, or ``app``, holds in all of them."""
    return request.param


in_both_modes = pytest.mark.parametrize("mode", ["dual", "mongo"])
"""Marks a test that holds in every mode, in a module whose fixture ``mode`` is one of them."""


@pytest.fixture
def app(make_app: MakeApp, mode: str) -> Flask:
    return make_app(mode)


@pytest.fixture
def state(app: Flask) -> State:
    return get_state(app)


@pytest.fixture
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def owners(state: State) -> samples.Owners:
    """A product, a course and a user in MongoDB."""
    return samples.Owners(
        *(
            state.mongo[name].insert_one({"name": name}).inserted_id
            for name in ("products", "courses", "users")
        )
    )


@pytest.fixture
def tokens(app: Flask) -> samples.Tokens:
    """Authorization headers of different people."""
    return samples.Tokens.of(app)


@pytest.fixture(scope="session")
def media_directory() -> Path:
    """The real photos, the video and the PDF that the example app ships."""
    return Path(embedded.__file__).parent / "sample_media"


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """An S3 server of moto's."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def drive_server() -> Iterator[drive.Server]:
    server = drive.Server()
    yield server
    server.stop()


OUTSIDE = ["local", "s3", "google_drive", "cloud"]
"""The storages outside of the databases."""

StorageOptions = Callable[..., dict[str, t.Any]]


@pytest.fixture
def storage_options(request: pytest.FixtureRequest, tmp_path: Path) -> StorageOptions:
    """Options of an empty storage by its name, for ``DUALMEDIA_STORAGES``. Keywords are added to
    them."""

    def options(name: str, **more: t.Any) -> dict[str, t.Any]:
        return {name: getattr(_Options, name)(request, tmp_path) | more}

    return options


def opened(options: dict[str, t.Any]) -> dict[str, Storage]:
    """The storages of a value of ``DUALMEDIA_STORAGES``, by name."""
    return open_storages(check_storages(options))


def s3_options(url: str) -> dict[str, t.Any]:
    """Options of an empty bucket."""
    keys = {
        "aws_access_key_id": "key",
        "aws_secret_access_key": "secret",
        "region_name": "us-east-1",
    }
    connection: dict[str, t.Any] = {"endpoint_url": url, **keys}
    bucket = unique("bucket").replace("_", "-")
    S3Storage(bucket, **connection)._client.get().create_bucket(Bucket=bucket)
    return {"bucket": bucket, "prefix": "media/", **connection}


class _Options:
    @staticmethod
    def local(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, t.Any]:
        return {"directory": str(tmp_path / "local")}

    @staticmethod
    def s3(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, t.Any]:
        return s3_options(request.getfixturevalue("s3_url"))

    @staticmethod
    def google_drive(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, t.Any]:
        from google.oauth2.credentials import Credentials

        server: drive.Server = request.getfixturevalue("drive_server")
        return {
            "folder": unique("folder"),
            "credentials": Credentials(drive.TOKEN),
            "base_url": server.drive.url,
        }

    @staticmethod
    def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, t.Any]:
        return {"url": f"file://{tmp_path / 'cloud'}"}
