"""The state that ``init_app`` leaves on the app."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property

from flask import has_request_context, request
from flask.globals import app_ctx

from .databases.schema import NameCheck
from .databases.sql import SQLDatabase
from .databases.tables import Tables, tables_for
from .errors import StorageError
from .libraries.flask import current_context
from .processes.uses import Uses
from .storages.stored import Stored
from .uploads.staging import Staging
from .variants.recipes import Recipe, recipes_of
from .variants.renderer import Renderer

if t.TYPE_CHECKING:
    import sqlalchemy as sa
    from flask import Flask
    from flask_pymongo import PyMongo

    from .config import Settings
    from .databases.circuit import Circuit
    from .databases.clock import Clock
    from .databases.collections import Collections
    from .databases.documents import Documents
    from .homes.base import AnyHome
    from .models import Media, MediaRecord, MediaVariant
    from .repositories.base import Repository
    from .storages.base import Storage

Mode = t.Literal["dual", "mongo"]


class ReadCounter(t.Protocol):
    """Counts the readers of content: :class:`~flask_dualmedia.accesses.counting.Counter`."""

    def count_first(self, record: Media, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces. When the first one is handed out, its reader is counted."""
        ...

    def note(self, kind: type[Media], media_id: uuid.UUID, reader: str) -> None:
        """Count somebody who began to read."""
        ...

    def waiting(self) -> int:
        """How many counts are to be written down."""
        ...

    def flush(self) -> None:
        """Write down what was counted.

        :raises Unavailable: Something stays for the next time.
        """
        ...

    def stop(self, seconds: float = ...) -> None:
        """End the thread."""
        ...

    def close(self) -> None:
        """End the thread, and write down what is left."""
        ...


class Keeper(t.Protocol):
    """Keeps the databases clean: :class:`~flask_dualmedia.upkeep.chores.Upkeep`."""

    def work(self) -> None:
        """Do one round, unless another process does."""
        ...

    def stop(self, seconds: float = ...) -> None:
        """End the thread."""
        ...


@dataclass(frozen=True)
class State:
    """The extension's state on one app, kept in ``app.extensions["dualmedia"]``."""

    app: Flask
    settings: Settings
    mongo: Documents
    """The host's MongoDB database, read with our own codec options."""
    pymongo: PyMongo
    """The host's Flask-PyMongo, or the one that was made for it."""
    sql: SQLDatabase | None
    """The SQL database, as we ask it; ``None`` in Mongo-only mode."""
    home: AnyHome
    """The home of media, as requests see it."""
    storages: t.Mapping[str, Storage]
    """Storages by name: ``database``, and those that are set up outside of it."""
    homes: tuple[AnyHome, ...]
    """The homes that it is made of: SQL and the journal, or MongoDB alone."""
    collections: Collections
    """Our collections in it, under the names that the app gives them."""
    renderer: Renderer
    """Makes variants of images."""
    circuit: Circuit | None = None
    """Whether SQL answers; ``None`` in Mongo-only mode."""
    counter: ReadCounter | None = None
    """Counts the readers of content; ``None`` where they are not counted."""
    upkeep: Keeper | None = None
    """Keeps the databases clean; ``None`` where the host does that itself."""
    opened: ExitStack = field(default_factory=ExitStack)
    """Closes everything that was opened for the app and is not the host's. It does not refer to the
    app."""
    uses: Uses = field(default_factory=Uses)
    """The requests and others that use media at the moment."""

    @cached_property
    def check_sql_names(self) -> NameCheck:
        """A check of the names in SQL: call it before anything is used that may be the host's.

        :raises NamesTaken: By the call, if something has a name of ours and is not ours.
        """
        assert self.sql is not None
        return NameCheck(self.sql, self.tables)

    @property
    def engine(self) -> sa.Engine | None:
        """The SQL engine; ``None`` in Mongo-only mode."""
        if self.sql is None:
            return None
        return self.sql.engine

    @property
    def repository(self) -> Repository:
        """The records of all media."""
        return self.home.repository

    @property
    def tables(self) -> Tables:
        """Our tables in SQL, under the names that the app gives them."""
        return tables_for(self.settings.table_prefix)

    @property
    def mode(self) -> Mode:
        """``dual`` with SQL, ``mongo`` without."""
        if self.sql is None:
            return "mongo"
        return "dual"

    @property
    def clock(self) -> Clock:
        """The time that all hosts agree on."""
        return self.mongo.clock

    @cached_property
    def staging(self) -> Staging:
        """Resumable uploads."""
        return Staging(self.collections, self.storages["database"], self.settings.upload_expires)

    @cached_property
    def recipes(self) -> t.Mapping[str, t.Mapping[str, Recipe]]:
        """By kind, the recipes of all its variants, by the last segment of their URLs."""
        return {
            kind: recipes_of(presets.values()) for kind, presets in self.settings.presets.items()
        }

    def knows_recipe(self, variant: MediaVariant) -> bool:
        """Tell whether a preset has the recipe of a variant. Others are swept."""
        recipes = self.recipes.get(variant.media_kind, {}).values()
        name = (variant.name, variant.recipe)
        return any((recipe.preset.name, recipe.digest) == name for recipe in recipes)

    def original(self, record: MediaRecord) -> Stored | None:
        """The bytes of a record, ``None`` for external media.

        :raises StorageError: Their storage was set up when they came, and is not now.
        """
        if record.storage_key is None:
            return None
        try:
            storage = self.storages[record.storage_type]
        except KeyError:
            raise StorageError(f"the storage {record.storage_type!r} is not set up here") from None
        return Stored(storage, record.storage_key, record.file_size or 0)


def get_state(app: Flask | None = None) -> State:
    """The state on ``app``, by default the current app.

    :raises RuntimeError: ``init_app`` was not called on it.
    :raises MediaClosed: It was closed, or is being closed, and the current context had not used
        media before.
    """
    if app is not None:
        state = find_state(app)
        state.uses.check()
        return state
    context = current_context()
    state = find_state(context.app)
    state.uses.admit(context)
    return state


def find_state(app: Flask) -> State:
    """The state on ``app``, whether it is closed or not.

    :raises RuntimeError: ``init_app`` was not called on it.
    """
    try:
        return app.extensions["dualmedia"]
    except KeyError:
        raise RuntimeError(
            "DualMedia is not set up on this app: call DualMedia(app) or init_app(app) first"
        ) from None


def request_notes() -> dict[str, t.Any]:
    """The notes of the current app for the length of a request; nothing is kept outside of one.

    They are on the request, and not in its environ, which a host may hand to another app, or copy
    for another request. If the context of another app is pushed in between, it has notes of its
    own.
    """
    if not has_request_context():
        return {}
    by_app = vars(request).setdefault("dualmedia_notes", {})
    return by_app.setdefault(app_ctx.app, {})
