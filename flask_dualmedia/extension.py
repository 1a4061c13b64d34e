"""``DualMedia``: what a host puts on its app."""

from __future__ import annotations

import logging
import sys
import threading
import typing as t
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from weakref import WeakSet

import click
import sqlalchemy as sa
from flask import Flask, has_app_context
from flask_pymongo import PyMongo
from flask_sqlalchemy import SQLAlchemy
from werkzeug.local import LocalProxy

from . import cli, views, wiring
from .accesses.counting import Counter, Plays
from .config import Settings
from .content.printable import Printable
from .databases.announcements import Announcements
from .databases.circuit import Circuit
from .databases.clock import Clock, elapsed
from .databases.collections import JOURNAL, OTHERS, Collections
from .databases.connections import close_engine
from .databases.synchronizer import Synchronizer
from .databases.tables import tables_for
from .errors import DatabaseUnavailable, NamesTaken, Unavailable
from .homes import base as homes
from .models import KINDS
from .processes import closing
from .processes.forks import notice_fork
from .repositories.base import Repository
from .repositories.failover import FailoverRepository
from .repositories.mongo import MongoRepository
from .repositories.sql import SQLRepository
from .signals import sql_lost, sql_recovered
from .state import State, find_state, get_state
from .storages.base import Storage
from .storages.failover import FailoverStorage
from .storages.gridfs import JournalStorage
from .storages.outside import open_storages
from .upkeep.chores import Upkeep
from .upkeep.journal import agree_on_drains, homes_of, look_after_journal, try_again

logger = logging.getLogger("flask_dualmedia")
logger.addFilter(Printable())

_registering = threading.Lock()
"""Werkzeug parses Python for rules with converters, which some releases of Python 3.11 cannot do in
two threads at once: ``SystemError: AST constructor recursion depth mismatch``."""


class DualMedia:
    """Media in PostgreSQL for an app whose documents are in MongoDB.

    ``DualMedia(app)``, or ``media = DualMedia()`` and later ``media.init_app(app)``, for any number
    of apps. What the host has is used: its Flask-SQLAlchemy, Flask-Migrate and JWTManager are found
    on the app, so set them up first; its ``PyMongo`` has to be passed. What is missing is created.
    The settings are described at
    :class:`~flask_dualmedia.config.Settings`.

    :param app: Set it up on this app at once.
    :param mongo: The host's Flask-PyMongo; by default a new one on ``MONGO_URI``.
    :param db: The host's Flask-SQLAlchemy; by default the one on the app, or a new one.
    :raises ConfigurationError: A setting is missing or wrong. Nothing is registered on the app
        then.

    As a context manager it closes media, at the end of the block, on every app that it was set up
    on::

        with DualMedia(app):
            app.test_client().get("/media/health")
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        mongo: PyMongo | None = None,
        db: SQLAlchemy | None = None,
    ) -> None:
        self._mongo, self._db = mongo, db
        self._apps: WeakSet[Flask] = WeakSet()
        if app is not None:
            self.init_app(app)

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_: object) -> None:
        for app in list(self._apps):
            self.close(app)

    def init_app(
        self, app: Flask, *, mongo: PyMongo | None = None, db: SQLAlchemy | None = None
    ) -> None:
        """Set the extension up on an app: state, blueprint, commands; then connect and log what was
        found.

        A database that does not answer is logged and does not stop the app.

        :raises ConfigurationError: A setting is missing or wrong.
        :raises MissingExtra: A storage needs a package that is not installed.
        :raises RuntimeError: The app has it already.
        """
        if "dualmedia" in app.extensions:
            raise RuntimeError("DualMedia is set up on this app already")
        mongo, db = mongo or self._mongo, db or self._db
        settings = Settings.from_config(
            app.config, host_has_sql="sqlalchemy" in app.extensions or db is not None
        )
        views.check_names(app, settings)
        outside = open_storages(settings.storages)
        with _undone_on_error(app) as opened:
            state, answering, synchronizer = self._set_up(app, settings, outside, mongo, db, opened)
        app.extensions["dualmedia"] = state
        self._apps.add(app)
        closing.follow(app, state)
        with _registering:
            views.register(app, settings)
        app.cli.add_command(cli.group)
        _start_up(state, answering, synchronizer)

    @property
    def mongo(self) -> PyMongo:
        """The Flask-PyMongo that the app's documents are in, the host's own or the one that was
        made for it.

        ``media.mongo.db.products`` is a collection. It stands for the ``PyMongo`` of the current
        app, which is looked up at each use: ``mongo = media.mongo`` may stand at the top of a
        module, before any app is set up. Outside of app contexts it is that of the one app that the
        extension was set up on.

        :raises RuntimeError: At its use, outside of app contexts: there is no such app, or several.
        :raises MediaClosed: At its use: media was closed on the app.

        .. versionadded:: 0.1
        """
        return t.cast(PyMongo, LocalProxy(self._find_mongo))

    def _find_mongo(self) -> PyMongo:
        notice_fork()
        if has_app_context():
            return get_state().pymongo
        apps = list(self._apps)
        if len(apps) != 1:
            raise RuntimeError(
                f"media.mongo needs an app context: DualMedia is set up on {len(apps)} apps"
            )
        return get_state(apps[0]).pymongo

    @staticmethod
    def close(app: Flask, *, timeout: float = closing.TIMEOUT) -> None:
        """Close media on an app, which nobody can use there any more: in tests, or at the end of a
        process.

        Requests that have begun get their answers. Counted reads are written down, threads end, and
        what was opened for the app is closed: its MongoDB client, its connections to SQL and to
        storages. What the host has opened stays open, such as a ``PyMongo`` that was passed and a
        Flask-SQLAlchemy that was found.

        Later media calls raise :class:`~flask_dualmedia.MediaClosed`. To close twice does nothing.
        An app that is not closed is closed at the end of the process.

        :param timeout: Seconds to wait for requests that have begun. What a slower one needs is
            closed after it.
        :raises RuntimeError: ``init_app`` was not called on the app.
        """
        closing.close(find_state(app), timeout)

    def _set_up(
        self,
        app: Flask,
        settings: Settings,
        outside: dict[str, Storage],
        mongo: PyMongo | None,
        db: SQLAlchemy | None,
        opened: ExitStack,
    ) -> tuple[State, _Answering, Synchronizer | None]:
        """Bring the host's extensions and ours together.

        :param opened: Gets what closes that which is ours alone.
        :return: The state, which databases answer, and what keeps the schema up to date.
        """
        for storage in outside.values():
            opened.callback(storage.close)
        wiring.find_jwt(app)
        pymongo = wiring.find_mongo(app, mongo, settings)
        database = wiring.documents_of(pymongo, settings)
        if mongo is None:
            opened.callback(database.client.close)
        collections = Collections(
            database, prefix=settings.collection_prefix, bucket=settings.bucket
        )
        synchronizer = None
        if settings.sql_enabled:
            db = wiring.find_sqlalchemy(app, db, settings, opened)
            owns_schema = not wiring.find_migrate(app, db, settings)
            engine, is_own = wiring.find_engine(app, db, settings)
            if is_own:
                opened.callback(close_engine, engine)
            synchronizer = _synchronizer(settings, engine, owns_schema=owns_schema)
            state = _dual_state(
                app, settings, pymongo, collections, engine, outside, synchronizer, opened
            )
        else:
            home = homes.mongo_home(collections)
            counter = _counter(app, settings, collections, home.repository)
            storages = {"database": home.storage, **outside}
            state = State(
                app,
                settings,
                database,
                pymongo,
                None,
                home.repository,
                storages,
                (home,),
                collections,
                counter=counter,
                upkeep=_upkeep(app, settings),
                opened=opened,
            )
        return state, _check_names(state), synchronizer


@contextmanager
def _undone_on_error(app: Flask) -> Iterator[ExitStack]:
    """Take off the app what the block has put on it, and close what it has opened, if it fails.

    :return: What closes it later.
    """
    before = set(app.extensions)
    opened = ExitStack()
    try:
        yield opened
    except BaseException:
        opened.close()
        for name in set(app.extensions) - before:
            del app.extensions[name]
        raise


def _dual_state(
    app: Flask,
    settings: Settings,
    pymongo: PyMongo,
    collections: Collections,
    engine: sa.Engine,
    outside: dict[str, Storage],
    synchronizer: Synchronizer,
    opened: ExitStack,
) -> State:
    tables = tables_for(settings.table_prefix)
    sql = homes.sql_home(engine, timeout=settings.sql_timeout, tables=tables)
    journal = homes.journal_home(collections, max_size=settings.journal_max_size)

    def notify(event: str) -> None:
        with app.app_context():
            if event == "recovered":
                with suppress(DatabaseUnavailable):  # then it is tried again at the next look
                    synchronizer.run()
                try_again(state)
            (sql_lost if event == "lost" else sql_recovered).send(app)

    def look() -> bool:
        with app.app_context():
            if synchronizer.run_again():
                try_again(state)
        return look_after_journal(state)

    circuit = Circuit(
        lambda: _probe(state),
        look,
        interval=settings.probe_interval,
        notify=notify,
        announcements=Announcements(collections) if settings.journals else None,
    )
    clock = collections.documents.clock
    clock.ask_other = lambda: _ask_for_time(clock, circuit, sql.repository)
    repository = FailoverRepository(
        sql.repository, journal.repository, circuit, journals=settings.journals
    )
    storage = FailoverStorage(sql.storage, t.cast(JournalStorage, journal.storage), circuit)
    counter = _counter(app, settings, collections, repository)
    storages = {"database": storage, **outside}
    state = State(
        app,
        settings,
        collections.documents,
        pymongo,
        engine,
        repository,
        storages,
        (sql, journal),
        collections,
        circuit,
        counter,
        _upkeep(app, settings),
        opened,
    )
    return state


def _synchronizer(settings: Settings, engine: sa.Engine, *, owns_schema: bool) -> Synchronizer:
    wanted = owns_schema if settings.auto_upgrade is None else settings.auto_upgrade
    hint = "flask db upgrade" if owns_schema else "flask db migrate, then flask db upgrade"
    tables = tables_for(settings.table_prefix)
    upgrades = wanted and not _is_schema_command()
    return Synchronizer(engine, tables, upgrades=upgrades, hint=hint, timeout=settings.sql_timeout)


def _ask_for_time(clock: Clock, circuit: Circuit, sql: SQLRepository) -> None:
    """Set the clock by that of SQL."""
    began = elapsed()
    told = circuit.read(sql.time)
    if told is not None:
        clock.note(told, began, elapsed(), is_mongo=False)


def _counter(
    app: Flask, settings: Settings, collections: Collections, repository: Repository
) -> Counter | None:
    if not settings.count_reads:
        return None
    plays = Plays(collections, settings.count_window) if settings.count_window else None
    now = collections.documents.clock.now
    return Counter(app, repository, plays, interval=settings.count_interval, now=now)


def _upkeep(app: Flask, settings: Settings) -> Upkeep | None:
    return Upkeep(app) if settings.upkeep else None


class _Answering(t.NamedTuple):
    """Why a database did not answer when it was looked at; ``None`` if it did."""

    mongo: Unavailable | None
    sql: Unavailable | None


def _check_names(state: State) -> _Answering:
    """Make sure that everything in the databases that has a name of ours is ours.

    A database that does not answer now is looked at when it does, before anything of it is used.

    :raises NamesTaken: Something is the host's.
    """
    mongo: Unavailable | None = None
    sql: Unavailable | None = None
    journal = JOURNAL if state.mode == "dual" else ""
    names = [journal + kind.__tablename__ for kind in KINDS.values()]
    bucket = state.collections.journal_bucket if state.mode == "dual" else state.collections.bucket
    try:
        with wiring.passing_client(state.mongo) as database:
            state.collections.by(database).check([*names, *OTHERS], buckets=[bucket])
    except NamesTaken:
        raise
    except Unavailable as error:
        mongo = error
    if state.engine is not None:
        try:
            state.check_sql_names()
        except NamesTaken:
            raise
        except Unavailable as error:
            sql = error
    return _Answering(mongo, sql)


def _probe(state: State) -> None:
    """Ask SQL something, and look at its names if it did not answer when the app was started."""
    homes_of(state)[0].repository.probe()
    state.check_sql_names()


def _start_up(state: State, answering: _Answering, synchronizer: Synchronizer | None) -> None:
    """Look at what answers, and log one line per fact."""
    waiting = False
    try:
        if answering.mongo is not None:
            raise answering.mongo
        with wiring.passing_client(state.mongo) as database:
            collections = state.collections.by(database)
            mongo = MongoRepository(collections)
            logger.info("MongoDB connected (version %s)", mongo.version())
            state.clock.attempt(database.time)  # what is stamped from now on is stamped by it
            if state.circuit is None:
                mongo.ensure_indexes()
                state.homes[0].repository.is_indexed = True
            else:
                journal = homes.journal_home(collections)
                waiting = not journal.is_empty()
    except Unavailable as error:
        logger.warning("%s; going on without", error)
    if state.circuit is None or state.engine is None or synchronizer is None:
        logger.info("Mongo-only mode (DB_ENABLED is false)")
        return
    name = "PostgreSQL" if state.engine.dialect.name == "postgresql" else state.engine.dialect.name
    try:
        if answering.sql is not None:
            raise answering.sql
        logger.info("%s connected (version %s)", name, homes_of(state)[0].repository.version())
        with state.app.app_context():
            synchronizer.run()
    except DatabaseUnavailable as error:
        state.circuit.trip(error.reason)
    except Unavailable as error:
        logger.warning("%s", error)
    else:
        if waiting:
            try_again(state)
        elif answering.mongo is None and not synchronizer.is_due:
            with wiring.passing_client(state.mongo) as database:
                agree_on_drains(state, homes.journal_home(state.collections.by(database)))
    logger.info(
        "dual mode: documents in MongoDB, media in %s at %s", name, state.settings.url_prefix
    )


def _is_schema_command() -> bool:
    """Whether this process is ``flask db ...`` or ``flask dualmedia ...``: whoever types that
    decides himself what happens to the schema."""
    return click.get_current_context(silent=True) is not None and not {
        "db",
        "dualmedia",
    }.isdisjoint(sys.argv[1:])
