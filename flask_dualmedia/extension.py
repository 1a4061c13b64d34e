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
from flask import Flask, has_app_context
from flask_pymongo import PyMongo
from flask_sqlalchemy import SQLAlchemy
from werkzeug.local import LocalProxy

from . import cli, events, views, wiring
from .accesses.counting import Counter, Plays
from .config import Settings
from .content.printable import Printable
from .databases.announcements import Announcements
from .databases.circuit import Circuit
from .databases.clock import Clock, elapsed
from .databases.collections import JOURNAL, OTHERS, Collections
from .databases.sql import SQLDatabase
from .databases.synchronizer import Synchronizer
from .databases.tables import tables_for
from .errors import DatabaseUnavailable, NamesTaken, Unavailable
from .homes.failover import failover_home
from .homes.mongo import journal_home, mongo_home
from .homes.sql import sql_home
from .models import JOURNALED, TABLES
from .processes import closing
from .processes.forks import notice_fork
from .repositories.base import Repository
from .repositories.mongo import MongoRepository
from .repositories.sql import SQLRepository
from .signals import sql_lost, sql_recovered
from .state import State, find_state, get_state
from .storages.base import Storage
from .storages.outside import open_storages
from .upkeep.chores import Upkeep
from .upkeep.journal import agree_on_drains, homes_of, look_after_journal, try_again
from .variants.renderer import Renderer

logger = logging.getLogger("flask_dualmedia")
logger.addFilter(Printable())

_registering = threading.Lock()
"""Held while routes are registered.

Werkzeug parses Python for rules with converters. Some releases of Python 3.11 cannot do that in two
threads at once: ``SystemError: AST constructor recursion depth mismatch``.
"""


class DualMedia:
    """Media in PostgreSQL for an app whose documents are in MongoDB.

    ``DualMedia(app)``, or ``media = DualMedia()`` and later ``media.init_app(app)``, for any number
    of apps. The host's own extensions are used: its Flask-SQLAlchemy, Flask-Migrate and JWTManager
    are found on the app, so set them up first; its ``PyMongo`` has to be passed. Missing ones are
    created. The settings are described at :class:`~flask_dualmedia.config.Settings`.

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
        self._mongo = mongo
        self._db = db
        self._apps: WeakSet[Flask] = WeakSet()
        if app is not None:
            self.init_app(app)

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_: object) -> None:
        for app in list(self._apps):
            self.close(app)

    def init_app(
        self,
        app: Flask,
        *,
        mongo: PyMongo | None = None,
        db: SQLAlchemy | None = None,
    ) -> None:
        """Set the extension up on an app: state, blueprint, commands.

        Then it connects to the databases, and logs what answers. A database that does not answer is
        logged and does not stop the app.

        :raises ConfigurationError: A setting is missing or wrong.
        :raises MissingExtra: A storage needs a package that is not installed.
        :raises RuntimeError: The app has it already.
        """
        if "dualmedia" in app.extensions:
            raise RuntimeError("DualMedia is set up on this app already")

        mongo = mongo or self._mongo
        db = db or self._db
        host_has_sql = "sqlalchemy" in app.extensions or db is not None
        settings = Settings.from_config(app.config, host_has_sql=host_has_sql)
        views.check_names(app, settings)
        outside = open_storages(settings.storages)
        with _undone_on_error(app) as opened:
            state, answering, synchronizer = _set_up(app, settings, outside, mongo, db, opened)

        app.extensions["dualmedia"] = state
        self._apps.add(app)
        closing.follow(app, state)
        with _registering:
            views.register(app, settings)
        app.cli.add_command(cli.group)
        _start_up(state, answering, synchronizer)

    @property
    def mongo(self) -> PyMongo:
        """The Flask-PyMongo of the app's documents: the host's own, or the one made for it.

        ``media.mongo.db.products`` is a collection. The value is a proxy for the ``PyMongo`` of the
        current app, which is looked up at each use: ``mongo = media.mongo`` may stand at the top of
        a module, before any app is set up. Outside of app contexts it is that of the one app that
        the extension was set up on.

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
        """Close media on an app, in tests or at the end of a process. Nobody can use it there then.

        Requests that have begun get their answers. Counted reads are written down, threads end, and
        everything that was opened for the app is closed: its MongoDB client, its connections to SQL
        and to storages. Whatever the host has opened stays open, such as a ``PyMongo`` that was
        passed and a Flask-SQLAlchemy that was found.

        Later media calls raise :class:`~flask_dualmedia.MediaClosed`. To close twice does nothing.
        An app that is not closed is closed at the end of the process.

        :param timeout: Seconds to wait for requests that have begun. If one is slower, the
            connections that it needs are closed after it.
        :raises RuntimeError: ``init_app`` was not called on the app.
        """
        closing.close(find_state(app), timeout)


def _set_up(
    app: Flask,
    settings: Settings,
    outside: dict[str, Storage],
    mongo: PyMongo | None,
    db: SQLAlchemy | None,
    opened: ExitStack,
) -> tuple[State, _Answering, Synchronizer | None]:
    """Bring the host's extensions and ours together.

    :param outside: Storages outside of the databases, by name.
    :param opened: Gets callbacks that close everything that is ours alone.
    :return: The state, which databases answer, and what keeps the schema up to date.
    """
    for storage in outside.values():
        opened.callback(storage.close)
    wiring.find_jwt(app)

    pymongo = wiring.find_mongo(app, mongo, settings)
    documents = wiring.documents_of(pymongo, settings)
    if mongo is None:
        opened.callback(documents.client.close)
    collections = Collections(
        documents,
        prefix=settings.collection_prefix,
        bucket=settings.bucket,
    )

    if not settings.sql_enabled:
        state = _mongo_state(app, settings, pymongo, collections, outside, opened)
        return state, _check_names(state), None

    db = wiring.find_sqlalchemy(app, db, settings, opened)
    owns_schema = not wiring.find_migrate(app, db, settings)
    database = wiring.find_database(app, db, settings, opened)
    synchronizer = _synchronizer(settings, database, owns_schema=owns_schema)
    state = _dual_state(
        app,
        settings,
        pymongo,
        collections,
        database,
        outside,
        synchronizer,
        opened,
    )
    return state, _check_names(state), synchronizer


@contextmanager
def _undone_on_error(app: Flask) -> Iterator[ExitStack]:
    """If the block fails, undo what it has done.

    Extensions that it has put on the app are taken off, and everything that it has opened is
    closed.

    :return: A stack for the callbacks that close it, now or later.
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


def _mongo_state(
    app: Flask,
    settings: Settings,
    pymongo: PyMongo,
    collections: Collections,
    outside: dict[str, Storage],
    opened: ExitStack,
) -> State:
    home = mongo_home(collections)
    return State(
        app=app,
        settings=settings,
        mongo=collections.documents,
        pymongo=pymongo,
        sql=None,
        home=home,
        storages={"database": home.storage, **outside},
        homes=(home,),
        collections=collections,
        renderer=Renderer(settings.render_limits),
        counter=_counter(app, settings, collections, home.repository),
        upkeep=_upkeep(app, settings),
        opened=opened,
    )


def _dual_state(
    app: Flask,
    settings: Settings,
    pymongo: PyMongo,
    collections: Collections,
    database: SQLDatabase,
    outside: dict[str, Storage],
    synchronizer: Synchronizer,
    opened: ExitStack,
) -> State:
    tables = tables_for(settings.table_prefix)
    sql = sql_home(database, tables=tables)
    journal = journal_home(collections, max_size=settings.journal_max_size)

    def notify(event: str) -> None:
        with app.app_context():
            if event == "recovered":
                with suppress(DatabaseUnavailable):  # then it is tried again at the next look
                    synchronizer.run()
                try_again(state)
            signal = sql_recovered
            if event == "lost":
                signal = sql_lost
            events.send(signal, app)

    def look() -> bool:
        with app.app_context():
            if synchronizer.run_again():
                try_again(state)
        return look_after_journal(state)

    announcements = None
    if settings.journals:
        announcements = Announcements(collections)
    circuit = Circuit(
        lambda: _probe(state),
        look,
        interval=settings.probe_interval,
        notify=notify,
        announcements=announcements,
    )
    clock = collections.documents.clock
    clock.ask_other = lambda: _ask_for_time(clock, circuit, sql.repository)

    home = failover_home(sql, journal, circuit, journals=settings.journals)
    state = State(
        app=app,
        settings=settings,
        mongo=collections.documents,
        pymongo=pymongo,
        sql=database,
        home=home,
        storages={"database": home.storage, **outside},
        homes=(sql, journal),
        collections=collections,
        renderer=Renderer(settings.render_limits),
        circuit=circuit,
        counter=_counter(app, settings, collections, home.repository),
        upkeep=_upkeep(app, settings),
        opened=opened,
    )
    return state


def _synchronizer(settings: Settings, database: SQLDatabase, *, owns_schema: bool) -> Synchronizer:
    upgrades = settings.auto_upgrade
    if upgrades is None:
        upgrades = owns_schema
    if _is_schema_command():
        upgrades = False
    hint = "flask db migrate, then flask db upgrade"
    if owns_schema:
        hint = "flask db upgrade"

    return Synchronizer(
        database,
        tables_for(settings.table_prefix),
        upgrades=upgrades,
        hint=hint,
    )


def _ask_for_time(clock: Clock, circuit: Circuit, sql: SQLRepository) -> None:
    """Set the clock by that of SQL."""
    began = elapsed()
    time = circuit.read(sql.time)
    if time is not None:
        clock.note(time, began, elapsed(), is_mongo=False)


def _counter(
    app: Flask,
    settings: Settings,
    collections: Collections,
    repository: Repository,
) -> Counter | None:
    if not settings.count_reads:
        return None

    plays = None
    if settings.count_window:
        plays = Plays(collections, settings.count_window)
    return Counter(
        app,
        repository,
        plays,
        interval=settings.count_interval,
        now=collections.documents.clock.now,
    )


def _upkeep(app: Flask, settings: Settings) -> Upkeep | None:
    if not settings.upkeep:
        return None
    return Upkeep(app)


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
    try:
        _check_mongo_names(state)
    except NamesTaken:
        raise
    except Unavailable as error:
        mongo = error

    if state.sql is not None:
        try:
            state.check_sql_names()
        except NamesTaken:
            raise
        except Unavailable as error:
            sql = error
    return _Answering(mongo, sql)


def _check_mongo_names(state: State) -> None:
    prefix = ""
    kinds = TABLES
    bucket = state.collections.bucket
    if state.mode == "dual":
        prefix = JOURNAL
        kinds = JOURNALED
        bucket = state.collections.journal_bucket
    names = [prefix + kind.__tablename__ for kind in kinds.values()]

    with wiring.passing_client(state.mongo) as documents:
        collections = state.collections.by(documents)
        collections.check([*names, *OTHERS], buckets=[bucket])


def _probe(state: State) -> None:
    """Ask SQL something, and check its names if it did not answer when the app was started."""
    homes_of(state)[0].repository.probe()
    state.check_sql_names()


def _start_up(state: State, answering: _Answering, synchronizer: Synchronizer | None) -> None:
    """Look at what answers, and log one line per fact."""
    has_journaled = _start_up_mongo(state, answering)
    if state.circuit is None or state.sql is None or synchronizer is None:
        logger.info("Mongo-only mode (DB_ENABLED is false)")
        return

    name = _product_name(state.sql)
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
        if has_journaled:
            try_again(state)
        elif answering.mongo is None and not synchronizer.is_due:
            with wiring.passing_client(state.mongo) as documents:
                collections = state.collections.by(documents)
                agree_on_drains(state, journal_home(collections))
    logger.info(
        "dual mode: documents in MongoDB, media in %s at %s",
        name,
        state.settings.url_prefix,
    )


def _product_name(database: SQLDatabase) -> str:
    if database.is_postgresql:
        return "PostgreSQL"
    return database.product


def _start_up_mongo(state: State, answering: _Answering) -> bool:
    """Connect to MongoDB.

    :return: Whether a journal waits there to be drained.
    """
    has_journaled = False
    try:
        if answering.mongo is not None:
            raise answering.mongo
        with wiring.passing_client(state.mongo) as documents:
            collections = state.collections.by(documents)
            repository = MongoRepository(collections)
            logger.info("MongoDB connected (version %s)", repository.version())
            state.clock.attempt(documents.time)  # what is stamped from now on is stamped by it
            if state.circuit is None:
                repository.ensure_indexes()
                state.homes[0].repository.is_indexed = True
            else:
                journal = journal_home(collections)
                has_journaled = not journal.is_empty()
    except Unavailable as error:
        logger.warning("%s; going on without", error)
    return has_journaled


def _is_schema_command() -> bool:
    """Whether this process is ``flask db ...`` or ``flask dualmedia ...``.

    Whoever types that decides themselves what happens to the schema.
    """
    if click.get_current_context(silent=True) is None:
        return False
    arguments = sys.argv[1:]
    return "db" in arguments or "dualmedia" in arguments
