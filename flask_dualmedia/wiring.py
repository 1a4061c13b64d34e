"""Find the host's own extensions, and bring those that are missing."""

from __future__ import annotations

import datetime
import typing as t
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import sqlalchemy as sa
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from flask import Flask
from flask_jwt_extended import JWTManager
from flask_migrate import Migrate
from flask_pymongo import PyMongo
from flask_sqlalchemy import SQLAlchemy
from pymongo.errors import ConfigurationError as PyMongoConfigurationError
from pymongo.errors import InvalidURI
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference
from pymongo.uri_parser import parse_uri
from pymongo.write_concern import WriteConcern
from sqlalchemy import event, exc

from .config import Settings
from .databases import schema
from .databases.connections import (
    close_engine,
    is_fresh,
    is_new,
    note_use,
    ping,
)
from .databases.documents import Documents, is_of_dns
from .databases.poolers import expect_pooler
from .databases.pools import OnlyConnection, own_engine
from .databases.sql import SQLDatabase
from .databases.tables import check_metadata, copy_tables, tables_for
from .errors import ConfigurationError, DualMediaError, MissingExtra
from .libraries.pymongo import duplicate
from .libraries.sqlalchemy import LastUsedFirst
from .processes.forks import separate
from .setting_reader import check_driver

# How documents are read, whatever the host's client does: UUIDs in the standard form, times aware
# and in UTC. A host may keep values that Python cannot, such as text that is not UTF-8 or a time
# after the year 9999: that is no reason to fail.
_CODEC_OPTIONS: CodecOptions[dict[str, t.Any]] = CodecOptions(
    tz_aware=True,
    tzinfo=datetime.UTC,
    uuid_representation=UuidRepresentation.STANDARD,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)

# A host changes any of them with SQLALCHEMY_ENGINE_OPTIONS.
_POOL_OPTIONS = {
    "poolclass": LastUsedFirst,
    "pool_size": 10,
    "max_overflow": 10,
    "pool_recycle": 1800,
}

# Arguments of psycopg's connect() that libpq does not know.
_OPTIONS_OF_PSYCOPG = {
    "autocommit",
    "prepare_threshold",
    "context",
    "row_factory",
    "cursor_factory",
}


def find_mongo(app: Flask, hosts: PyMongo | None, settings: Settings) -> PyMongo:
    """The Flask-PyMongo of the app's documents.

    A ``PyMongo`` leaves no trace on the app: the host has to pass its own to share its client.

    :param hosts: The host's, if it was passed. Otherwise we open one of our own on ``MONGO_URI``.
    :raises ConfigurationError: There is no ``MONGO_URI``, or it names no database.
    """
    mongo = hosts
    if mongo is None:
        mongo = _open_mongo(app, settings)
    if mongo.cx is None:
        raise ConfigurationError(
            "the PyMongo passed to DualMedia is not set up: call its init_app(app) first"
        )
    if mongo.db is None:
        raise ConfigurationError("MONGO_URI names no database: end it with /NAME")
    return mongo


def documents_of(mongo: PyMongo, settings: Settings) -> Documents:
    """The host's MongoDB database, as we ask it."""
    assert mongo.cx is not None
    assert mongo.db is not None
    return Documents(
        mongo.cx,
        mongo.db.name,
        timeout=settings.mongo_timeout,
        interval=settings.probe_interval,
        codec_options=_CODEC_OPTIONS,
        # A secondary may not know yet what was just written.
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern(),
        write_concern=_safe(mongo.cx.write_concern),
    )


def _safe(hosts: WriteConcern) -> WriteConcern:
    """The host's write concern, made strong enough.

    By a weaker one an acknowledged write, such as the one of a lease, may be lost.
    """
    options = hosts.document
    confirmations = options.get("w")
    if isinstance(confirmations, int) and confirmations < 2:
        confirmations = "majority"
    return WriteConcern(confirmations, options.get("wtimeout"), options.get("j") or None)


@contextmanager
def passing_client(documents: Documents) -> Iterator[Documents]:
    """The same database for this block, by a client that is closed at its end.

    A client that was used before the server forks its workers warns in each of them that it was.
    """
    client = duplicate(documents.client)
    if client is None:  # a stand-in for PyMongo's, as hosts have in their tests
        yield documents
        return
    with client:
        yield documents.by(client)


def _open_mongo(app: Flask, settings: Settings) -> PyMongo:
    uri = app.config.get("MONGO_URI")
    if not uri:
        raise ConfigurationError(
            "MONGO_URI is not set, and no PyMongo was passed: documents live in MongoDB"
        )

    mongo = PyMongo()
    json_provider = app.json
    try:
        timeouts = _timeouts_missing_in(uri, settings.connect_timeout)
        mongo.init_app(app, uri, **timeouts)
    except (InvalidURI, PyMongoConfigurationError, ValueError, TypeError) as error:
        if is_of_dns(error):
            raise ConfigurationError(
                f"MONGO_URI: the DNS does not tell where its servers are: {error}"
            ) from None
        # The value may hold a password: it is neither quoted nor chained.
        raise ConfigurationError("MONGO_URI is not a MongoDB URI") from None
    finally:
        app.json = json_provider  # PyMongo replaces how the whole app writes JSON
    return mongo


def _timeouts_missing_in(uri: str, seconds: float) -> dict[str, int]:
    """Options that limit how long a client waits for MongoDB, if its URI does not set them."""
    options = parse_uri(uri, connect_timeout=seconds)["options"]
    names_in_uri = {name.lower() for name in options}

    timeouts = {}
    for name in ("serverSelectionTimeoutMS", "connectTimeoutMS"):
        if name.lower() not in names_in_uri:
            timeouts[name] = int(seconds * 1000)
    return timeouts


def find_sqlalchemy(
    app: Flask,
    hosts: SQLAlchemy | None,
    settings: Settings,
    opened: ExitStack,
) -> SQLAlchemy:
    """The host's Flask-SQLAlchemy, or a new one on the app.

    Our tables are in its metadata afterwards.

    :param hosts: The host's, if it was passed.
    :param opened: Gets callbacks that close the connections of a new one.
    :raises ConfigurationError: One was passed that is not set up on this app, or the URL names no
        known database, or a table of the host's has the name of one of ours.
    :raises MissingExtra: The driver is not installed.
    """
    db = app.extensions.get("sqlalchemy")
    if hosts is not None and hosts is not db:
        raise ConfigurationError(
            "the SQLAlchemy passed to DualMedia is not set up on this app: call its init_app first"
        )

    tables = tables_for(settings.table_prefix)
    if db is None:
        db = _open_sqlalchemy(app, settings, opened)
    if not isinstance(db, SQLAlchemy):
        raise ConfigurationError(
            f"the app's SQL extension is {type(db).__module__}, "
            "and media needs Flask-SQLAlchemy: set DB_ENABLED=false"
        )

    with app.app_context():
        if None not in db.engines:
            raise ConfigurationError(
                "SQLALCHEMY_DATABASE_URI is not set, only SQLALCHEMY_BINDS: "
                "name the database there that media is to "
                "be kept in, or set DB_ENABLED=false"
            )
        dialect = db.engine.dialect
        driver = f"{dialect.name}+{dialect.driver}"
        if dialect.is_async:
            driver += "_async"
        check_driver(driver)
        database = SQLDatabase(db.engine, settings.sql_timeout)
        _check_connection_options(database)
        _share(database)
    check_metadata(db.metadata, tables)
    copy_tables(tables, db.metadata)
    return db


def _share(database: SQLDatabase) -> None:
    """Make an engine fit to be used by forked processes and through a pooler."""
    separate(database.engine)
    if database.speaks_psycopg:
        expect_pooler(database.engine, database.timeout)


def find_database(app: Flask, db: SQLAlchemy, settings: Settings, opened: ExitStack) -> SQLDatabase:
    """The database of the app, by its engine or, where the connections of that are shared, by one
    of our own beside it.

    :param opened: Gets a callback that closes the connections of one of our own.
    """
    with app.app_context():
        engine = db.engine
    own = own_engine(engine, tables_for(settings.table_prefix), timeout=settings.sql_timeout)
    if own is None:
        return SQLDatabase(engine, settings.sql_timeout)

    database = SQLDatabase(own, settings.sql_timeout)
    if not isinstance(own.pool, OnlyConnection):
        _share(database)
    _check_idle_connections(database)
    opened.callback(close_engine, own)
    return database


def _open_sqlalchemy(app: Flask, settings: Settings, opened: ExitStack) -> SQLAlchemy:
    assert settings.sql_url is not None
    options = _engine_options(settings)
    if "poolclass" in (app.config.get("SQLALCHEMY_ENGINE_OPTIONS") or {}):
        # The others belong to a pool that is not there.
        options = {name: value for name, value in options.items() if name == "connect_args"}

    db = SQLAlchemy(engine_options=options)
    try:
        with _config_as_it_was(app):
            app.config["SQLALCHEMY_DATABASE_URI"] = settings.sql_url
            db.init_app(app)
    except ModuleNotFoundError as error:
        raise _explained(error) from error
    except exc.ArgumentError as error:
        raise ConfigurationError(f"SQLALCHEMY_DATABASE_URI: {error}") from None

    with app.app_context():
        for engine in db.engines.values():
            opened.callback(close_engine, engine)
        _check_idle_connections(SQLDatabase(db.engine, settings.sql_timeout))
    return db


@contextmanager
def _config_as_it_was(app: Flask) -> Iterator[None]:
    """Set the config back after the block.

    Values that an extension reads only while it is set up need not stay there.
    """
    before = dict(app.config)
    try:
        yield
    finally:
        for key in app.config.keys() - before.keys():
            del app.config[key]
        app.config.update(before)


def find_migrate(app: Flask, db: SQLAlchemy, settings: Settings) -> bool:
    """Give the app a Flask-Migrate on our revisions, unless it has one.

    :return: Whether the host has its own, and with it the say over our tables.
    """
    if "migrate" in app.extensions:
        _hide(tables_for(settings.table_prefix).version_table, app.extensions["migrate"])
        return True
    Migrate(app, db, directory=str(schema.migrations_directory()))
    return False


def _hide(table: str, migrate: t.Any) -> None:
    """Have the host's own revisions pass a table by.

    They would drop it otherwise: it is in no metadata.
    """
    options: dict[str, t.Any] | None = getattr(migrate, "configure_args", None)
    if options is None:
        return  # another extension of this name
    is_included_by_host = options.get("include_name")

    def include_name(name: str | None, type_: str, parents: t.Any) -> bool:
        if type_ == "table" and name == table:
            return False
        return is_included_by_host is None or is_included_by_host(name, type_, parents)

    migrate.configure_args = {**options, "include_name": include_name}


def find_jwt(app: Flask) -> None:
    """Give the app a ``JWTManager``, unless it has one.

    :raises ConfigurationError: There is no key to check tokens with.
    """
    if "flask-jwt-extended" in app.extensions:
        return
    settings_with_a_key = ("JWT_SECRET_KEY", "SECRET_KEY", "JWT_PUBLIC_KEY")
    if not any(app.config.get(name) for name in settings_with_a_key):
        raise ConfigurationError("JWT_SECRET_KEY is not set: tokens could not be checked")
    JWTManager(app)


def open_engine(settings: Settings) -> sa.Engine:
    """An engine of its own on the configured URL, where the app runs without SQL.

    :raises ConfigurationError: No URL is configured, or media cannot be kept there.
    """
    if settings.sql_url is None:
        raise ConfigurationError("there is no SQL database: set SQLALCHEMY_DATABASE_URI or DB_NAME")
    check_driver(settings.sql_url.drivername)
    try:
        engine = sa.create_engine(settings.sql_url, **_engine_options(settings))
    except ModuleNotFoundError as error:
        raise _explained(error) from error
    database = SQLDatabase(engine, settings.sql_timeout)
    _check_connection_options(database)
    _share(database)
    return engine


def _check_connection_options(database: SQLDatabase) -> None:
    """Make sure that libpq knows every option behind the ``?`` of a URL.

    That can be told whether the server is up or not.

    :raises ConfigurationError: It does not know one.
    """
    if not database.speaks_psycopg:
        return
    from psycopg.conninfo import make_conninfo

    for option in database.engine.url.query.keys() - _OPTIONS_OF_PSYCOPG:
        try:
            make_conninfo(**{option: ""})
        except database.engine.dialect.loaded_dbapi.ProgrammingError:
            raise ConfigurationError(
                f"SQLALCHEMY_DATABASE_URI has the option {option!r}, which PostgreSQL does not know"
            ) from None


def _engine_options(settings: Settings) -> dict[str, t.Any]:
    if settings.sql_url is None or settings.sql_url.get_backend_name() != "postgresql":
        return {}

    connect_arguments = {
        "connect_timeout": max(2, round(settings.connect_timeout)),
        # A network that swallows packets is noticed even where nobody waits for an answer any
        # more.
        "tcp_user_timeout": int(5000 * settings.sql_timeout),
    }
    return _POOL_OPTIONS | {
        "pool_timeout": settings.sql_timeout,
        "connect_args": connect_arguments,
    }


def _explained(error: ModuleNotFoundError) -> DualMediaError:
    if error.name == "psycopg":
        return MissingExtra("PostgreSQL", "postgres")
    return ConfigurationError(
        f"SQLALCHEMY_DATABASE_URI needs the driver {error.name}, which is not installed"
    )


def _check_idle_connections(database: SQLDatabase) -> None:
    """Ask a connection that was idle whether it lives, before it is used.

    SQLAlchemy's ``pool_pre_ping`` asks every time, and waits for ever for a server that hangs.

    :param database: Its limit of time is that of the answer.
    """
    if not database.speaks_psycopg:
        return
    engine = database.engine

    def remember(_driver: t.Any, record: t.Any) -> None:
        note_use(record.info)

    def ask(driver: t.Any, record: t.Any, _proxy: t.Any) -> None:
        if not is_new(record.info) and not is_fresh(record.info, engine.pool):
            try:
                ping(driver, database.timeout)
            except driver.OperationalError as error:
                raise exc.DisconnectionError from error  # the pool opens another one
        note_use(record.info)

    event.listen(engine, "checkin", remember)
    event.listen(engine, "checkout", ask)
