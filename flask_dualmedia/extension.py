"""``DualMedia``: what a host puts on its app."""

from __future__ import annotations

import logging
import sys

import click
import sqlalchemy as sa
from flask import Flask
from flask_pymongo import PyMongo
from flask_sqlalchemy import SQLAlchemy

from . import cli, homes, schema, views, wiring
from .config import Settings
from .counting import Counter, Plays
from .documents import Documents
from .errors import DatabaseUnavailable
from .journal import agree_on_drains, homes_of, look_after_journal, try_again
from .outage import Circuit
from .repositories.base import Repository
from .repositories.failover import FailoverRepository
from .repositories.mongo import MongoRepository
from .signals import sql_lost, sql_recovered
from .sqlstates import translate_errors
from .state import State
from .storages.base import Storage
from .storages.failover import FailoverStorage
from .storages.outside import open_storages

logger = logging.getLogger("flask_dualmedia")


class DualMedia:
    """Media in PostgreSQL for an app whose documents are in MongoDB.

    ``DualMedia(app)``, or ``media = DualMedia()`` and later ``media.init_app(app)``, for any number of apps. What the
    host has is used: its Flask-SQLAlchemy, Flask-Migrate and JWTManager are found on the app, so set them up first;
    its ``PyMongo`` has to be passed. What is missing is created. The settings are described at
    :class:`~flask_dualmedia.config.Settings`.

    :param app: Set it up on this app at once.
    :param mongo: The host's Flask-PyMongo; by default a new one on ``MONGO_URI``.
    :param db: The host's Flask-SQLAlchemy; by default the one on the app, or a new one.
    :raises ConfigurationError: A setting is missing or wrong. Nothing is registered on the app then.
    """

    def __init__(self, app: Flask | None = None, *, mongo: PyMongo | None = None, db: SQLAlchemy | None = None) -> None:
        self._mongo, self._db = mongo, db
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, *, mongo: PyMongo | None = None, db: SQLAlchemy | None = None) -> None:
        """Set the extension up on an app: state, blueprint, commands; then connect and log what was found.

        A database that does not answer is logged and does not stop the app.

        :raises ConfigurationError: A setting is missing or wrong.
        :raises MissingExtra: A storage needs a package that is not installed.
        :raises RuntimeError: The app has it already.
        """
        if "dualmedia" in app.extensions:
            raise RuntimeError("DualMedia is set up on this app already")
        mongo, db = mongo or self._mongo, db or self._db
        settings = Settings.from_config(app.config, host_has_sql="sqlalchemy" in app.extensions or db is not None)
        outside = open_storages(settings.storages)
        wiring.find_jwt(app)
        database = wiring.find_mongo(app, mongo, settings)
        owns_schema = False
        if settings.sql_enabled:
            db = wiring.find_sqlalchemy(app, db, settings)
            owns_schema = not wiring.find_migrate(app, db)
            with app.app_context():
                state = _dual_state(app, settings, database, db.engine, outside, owns_schema=owns_schema)
        else:
            home = homes.mongo_home(database)
            counter = _counter(app, settings, database, home.repository)
            storages = {"database": home.storage, **outside}
            state = State(app, settings, database, None, home.repository, storages, (home,), counter=counter)
        app.extensions["dualmedia"] = state
        views.register(app, settings.url_prefix)
        app.cli.add_command(cli.group)
        _start_up(state, owns_schema=owns_schema)


def _dual_state(
    app: Flask,
    settings: Settings,
    database: Documents,
    engine: sa.Engine,
    outside: dict[str, Storage],
    *,
    owns_schema: bool,
) -> State:
    sql, journal = homes.sql_home(engine, timeout=settings.sql_timeout), homes.journal_home(database)

    def notify(event: str) -> None:
        with app.app_context():
            if event == "recovered":
                _synchronize(state, owns_schema=owns_schema)
                try_again(state)
            (sql_lost if event == "lost" else sql_recovered).send(app)

    circuit = Circuit(
        sql.repository.probe, lambda: look_after_journal(state), interval=settings.probe_interval, notify=notify
    )
    repository = FailoverRepository(sql.repository, journal.repository, circuit, journals=settings.journals)
    storage = FailoverStorage(sql.storage, journal.storage, circuit)
    counter = _counter(app, settings, database, repository)
    storages = {"database": storage, **outside}
    state = State(app, settings, database, engine, repository, storages, (sql, journal), circuit, counter)
    return state


def _counter(app: Flask, settings: Settings, database: Documents, repository: Repository) -> Counter | None:
    if not settings.count_reads:
        return None
    plays = Plays(database, settings.count_window) if settings.count_window else None
    return Counter(app, repository, plays, interval=settings.count_interval)


def _start_up(state: State, *, owns_schema: bool) -> None:
    """Connect to what there is, and log one line per fact."""
    waiting = False
    try:
        with wiring.passing_client(state.mongo) as database:
            mongo = MongoRepository(database)
            logger.info("MongoDB connected (version %s)", mongo.version())
            if state.circuit is None:
                mongo.ensure_indexes()
            else:
                journal = homes.journal_home(database).repository
                waiting = state.circuit.journal_expected = not journal.is_empty()
    except DatabaseUnavailable:
        logger.warning("MongoDB does not answer; going on without")
    if state.circuit is None or state.engine is None:
        logger.info("Mongo-only mode (DB_ENABLED is false)")
        return
    name = "PostgreSQL" if state.engine.dialect.name == "postgresql" else state.engine.dialect.name
    try:
        logger.info("%s connected (version %s)", name, homes_of(state)[0].repository.version())
        with state.app.app_context():
            synchronized = _synchronize(state, owns_schema=owns_schema)
    except DatabaseUnavailable:
        state.circuit.trip()
    else:
        if waiting:
            try_again(state)
        elif synchronized:
            agree_on_drains(state)
    logger.info("dual mode: documents in MongoDB, media in %s at %s", name, state.settings.url_prefix)


def _synchronize(state: State, *, owns_schema: bool) -> bool:
    """Bring the schema up to date if we may, and say whether it is."""
    assert state.engine is not None
    wanted = state.settings.auto_upgrade
    with translate_errors():
        if (owns_schema if wanted is None else wanted) and not _is_schema_command():
            schema.upgrade(state.engine)
        synchronized = _check_schema(state.engine)
    if synchronized:
        logger.info("models synchronized")
    else:
        hint = "flask db upgrade" if owns_schema else "flask db migrate, then flask db upgrade"
        logger.warning("models not synchronized: run %s", hint)
    return synchronized


def _check_schema(engine: sa.Engine) -> bool:
    with engine.connect() as connection:
        connection.detach()  # a pool must be empty when the server forks its workers
        complete = schema.is_complete(connection)
        if complete:
            schema.keep_chunks_uncompressed(connection)
            schema.allow_trash(connection)
            connection.commit()
        return complete


def _is_schema_command() -> bool:
    """Whether this process is ``flask db ...`` or ``flask dualmedia ...``: whoever types that decides himself what
    happens to the schema."""
    return click.get_current_context(silent=True) is not None and not {"db", "dualmedia"}.isdisjoint(sys.argv[1:])
