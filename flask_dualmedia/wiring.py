"""Find the host's own extensions, and bring those that are missing."""

from __future__ import annotations

import datetime
import typing as t
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import sqlalchemy as sa
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from flask import Flask
from flask_jwt_extended import JWTManager
from flask_migrate import Migrate
from flask_pymongo import PyMongo
from flask_sqlalchemy import SQLAlchemy
from pymongo.errors import ConfigurationError as PyMongoConfigurationError
from pymongo.errors import InvalidURI
from pymongo.read_preferences import ReadPreference
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern
from sqlalchemy import event, exc

from . import schema
from .config import Settings
from .connections import LastUsedFirst, close_engine, is_fresh, is_new, note_use, ping
from .documents import Documents
from .errors import ConfigurationError, MissingExtra
from .forks import separate
from .tables import check_metadata, tables_for

# How documents are read, whatever the host's client does: UUIDs in the standard form, times aware and in UTC.
_CODEC_OPTIONS: CodecOptions[dict[str, t.Any]] = CodecOptions(
    tz_aware=True, tzinfo=datetime.UTC, uuid_representation=UuidRepresentation.STANDARD
)

# A host changes any of them with SQLALCHEMY_ENGINE_OPTIONS.
_POOL_OPTIONS = {"poolclass": LastUsedFirst, "pool_size": 10, "max_overflow": 10, "pool_recycle": 1800}


def find_mongo(app: Flask, given: PyMongo | None, settings: Settings) -> Documents:
    """The host's MongoDB database. Flask-PyMongo leaves no trace on the app: pass the host's ``PyMongo`` to share its
    client, or we open one of our own on ``MONGO_URI``.

    :raises ConfigurationError: There is no ``MONGO_URI``, or it names no database.
    """
    mongo = given if given is not None else _open_mongo(app, settings)
    if mongo.cx is None:
        raise ConfigurationError("the PyMongo passed to DualMedia is not set up: call its init_app(app) first")
    if mongo.db is None:
        raise ConfigurationError("MONGO_URI names no database: end it with /NAME")
    return Documents(
        mongo.cx,
        mongo.db.name,
        timeout=settings.mongo_timeout,
        interval=settings.probe_interval,
        codec_options=_CODEC_OPTIONS,
        # A secondary may not know yet what was just written, and a write that nobody acknowledges may never be.
        read_preference=ReadPreference.PRIMARY,
        write_concern=mongo.cx.write_concern if mongo.cx.write_concern.acknowledged else WriteConcern(1),
    )


_passed: deque[t.Any] = deque(maxlen=16)
"""What PyMongo's threads refer to weakly: those of a closed client end half a second later. gevent stumbles over dead
references where it patches a worker that was forked meanwhile."""


@contextmanager
def passing_client(documents: Documents) -> Iterator[Documents]:
    """The same database for this block, by a client that is closed in the end.

    A client that was used before the server forks its workers warns in each of them that it was.
    """
    duplicate = getattr(documents.client, "_duplicate", None)
    if duplicate is None:  # a stand-in for PyMongo's, as hosts have in their tests
        yield documents
        return
    with duplicate(connect=False) as client:
        try:
            yield documents.by(client)
        finally:
            _passed.append(getattr(client, "_topology", None))


def _open_mongo(app: Flask, settings: Settings) -> PyMongo:
    uri = app.config.get("MONGO_URI")
    if not uri:
        raise ConfigurationError("MONGO_URI is not set, and no PyMongo was passed: documents live in MongoDB")
    milliseconds = int(settings.connect_timeout * 1000)
    timeouts = {"serverSelectionTimeoutMS": milliseconds, "connectTimeoutMS": milliseconds}
    mongo, provider = PyMongo(), app.json
    try:
        chosen = {name.lower() for name in parse_uri(uri)["options"]}
        mongo.init_app(app, uri, **{name: value for name, value in timeouts.items() if name.lower() not in chosen})
    except (InvalidURI, PyMongoConfigurationError, ValueError, TypeError):
        # The value may hold a password: it is neither quoted nor chained.
        raise ConfigurationError("MONGO_URI is not a MongoDB URI") from None
    finally:
        app.json = provider  # PyMongo replaces how the whole app writes JSON
    return mongo


def find_sqlalchemy(app: Flask, given: SQLAlchemy | None, settings: Settings, opened: ExitStack) -> SQLAlchemy:
    """The host's Flask-SQLAlchemy, or a new one on the app; our tables are in its metadata afterwards.

    :param opened: Gets what closes the connections of a new one.
    :raises ConfigurationError: One was passed that is not set up on this app, or the URL names no known database, or
        a table of the host's has the name of one of ours.
    :raises MissingExtra: The driver is not installed.
    """
    db = app.extensions.get("sqlalchemy")
    if given is not None and given is not db:
        raise ConfigurationError(
            "the SQLAlchemy passed to DualMedia is not set up on this app: call its init_app first"
        )
    tables = tables_for(settings.table_prefix)
    if db is None:
        db = _open_sqlalchemy(app, settings, opened)
    check_metadata(db.metadata, tables)
    for table in tables.metadata.tables.values():
        if table.name not in db.metadata.tables:
            table.to_metadata(db.metadata)
    with app.app_context():
        separate(db.engine)
    return db


def _open_sqlalchemy(app: Flask, settings: Settings, opened: ExitStack) -> SQLAlchemy:
    assert settings.sql_url is not None
    options = _engine_options(settings)
    if "poolclass" in (app.config.get("SQLALCHEMY_ENGINE_OPTIONS") or {}):
        # The others are of a pool that is not there.
        options = {name: value for name, value in options.items() if name == "connect_args"}
    db = SQLAlchemy(engine_options=options)
    app.config["SQLALCHEMY_DATABASE_URI"] = settings.sql_url
    try:
        db.init_app(app)
    except ModuleNotFoundError as error:
        raise _explained(error) from error
    except exc.ArgumentError as error:
        raise ConfigurationError(f"SQLALCHEMY_DATABASE_URI: {error}") from None
    with app.app_context():
        for engine in db.engines.values():
            opened.callback(close_engine, engine)
        _check_idle_connections(db.engine, settings.sql_timeout)
    return db


def find_migrate(app: Flask, db: SQLAlchemy) -> bool:
    """Give the app a Flask-Migrate on our revisions, unless it has one.

    :return: Whether the host has its own, and with it the say over our tables.
    """
    if "migrate" in app.extensions:
        return True
    Migrate(app, db, directory=str(schema.migrations_directory()))
    return False


def find_jwt(app: Flask) -> None:
    """Give the app a ``JWTManager``, unless it has one.

    :raises ConfigurationError: There is no key to check tokens with.
    """
    if "flask-jwt-extended" in app.extensions:
        return
    if not (app.config.get("JWT_SECRET_KEY") or app.config.get("SECRET_KEY") or app.config.get("JWT_PUBLIC_KEY")):
        raise ConfigurationError("JWT_SECRET_KEY is not set: tokens could not be checked")
    JWTManager(app)


def open_engine(settings: Settings) -> sa.Engine:
    """An engine of its own on the configured URL, where the app runs without SQL.

    :raises ConfigurationError: No URL is configured.
    """
    if settings.sql_url is None:
        raise ConfigurationError("there is no SQL database: set SQLALCHEMY_DATABASE_URI or DB_NAME")
    try:
        engine = sa.create_engine(settings.sql_url, **_engine_options(settings))
    except ModuleNotFoundError as error:
        raise _explained(error) from error
    separate(engine)
    return engine


def _engine_options(settings: Settings) -> dict[str, t.Any]:
    if settings.sql_url is None or settings.sql_url.get_backend_name() != "postgresql":
        return {}
    return _POOL_OPTIONS | {
        "pool_timeout": settings.sql_timeout,
        "connect_args": {
            "connect_timeout": max(2, round(settings.connect_timeout)),
            # A network that swallows packets is noticed even where nobody waits for an answer any more.
            "tcp_user_timeout": int(5000 * settings.sql_timeout),
        },
    }


def _explained(error: ModuleNotFoundError) -> ImportError:
    return MissingExtra("PostgreSQL", "postgres") if (error.name or "").startswith("psycopg") else error


def _check_idle_connections(engine: sa.Engine, seconds: float) -> None:
    """Ask a connection that was idle whether it lives before it is used, within so many seconds.

    SQLAlchemy's ``pool_pre_ping`` asks every time, and waits for ever for a server that hangs.
    """
    if (engine.dialect.name, engine.dialect.driver) != ("postgresql", "psycopg"):
        return

    def remember(_driver: t.Any, record: t.Any) -> None:
        note_use(record.info)

    def ask(driver: t.Any, record: t.Any, _proxy: t.Any) -> None:
        if not is_new(record.info) and not is_fresh(record.info, engine.pool):
            try:
                ping(driver, seconds)
            except driver.OperationalError as error:
                raise exc.DisconnectionError from error  # the pool opens another one
        note_use(record.info)

    event.listen(engine, "checkin", remember)
    event.listen(engine, "checkout", ask)
