"""The places where media may live: a repository for the records, and storages for the bytes."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

import sqlalchemy as sa

from ..databases.collections import Collections
from ..databases.documents import Documents
from ..databases.sql import SQLDatabase
from ..databases.tables import MODELS, Tables
from ..repositories.base import Repository
from ..repositories.journal import JournalRepository
from ..repositories.mongo import MongoRepository
from ..repositories.psycopg import PsycopgRepository
from ..repositories.sql import SQLRepository
from ..storages.base import owner_of_key
from ..storages.chunked import ChunkedStorage
from ..storages.database import DatabaseStorage
from ..storages.gridfs import GridFSStorage, JournalStorage
from ..storages.psycopg import PsycopgStorage
from ..uploads.staging import find_uploader

R = t.TypeVar("R", bound=Repository, covariant=True)


@dataclass(frozen=True)
class Home(t.Generic[R]):
    """Records, and the bytes of those whose ``storage_type`` is ``database``."""

    name: str
    repository: R
    storage: ChunkedStorage


class JournalHome(Home[JournalRepository]):
    """Records and bytes that wait for SQL."""

    def is_empty(self) -> bool:
        """Tell whether it has neither records nor bytes, not even of an upload in progress."""
        return self.repository.is_empty() and self.storage.is_empty()


def sql_home(database: sa.Engine | SQLDatabase, *, tables: Tables = MODELS) -> Home[SQLRepository]:
    """Make the home of media in dual mode: tables and chunks.

    :param database: Its limit of time is that of a statement about records. A batch of bytes may
        take five times as long.
    :param tables: The tables, which may have a prefix of the host's choice.
    """
    repository_class, storage_class = SQLRepository, DatabaseStorage
    database = SQLDatabase.of(database)
    if database.speaks_psycopg:
        repository_class, storage_class = PsycopgRepository, PsycopgStorage

    repository = repository_class(database, tables=tables)
    storage = storage_class(database.for_bytes(), tables=tables)
    return Home("SQL", repository, storage)


def mongo_home(documents: Documents | Collections) -> Home[MongoRepository]:
    """Make the home of media in Mongo-only mode: collections and GridFS."""
    collections = Collections.of(documents)
    repository = MongoRepository(collections)
    storage = GridFSStorage(collections, collections.bucket)
    return Home("MongoDB", repository, storage)


def journal_home(documents: Documents | Collections, *, max_size: int | None = None) -> JournalHome:
    """Make the journal, which has what was accepted while SQL was down, until it is drained.

    It has collections and a bucket of its own: those of Mongo-only mode may still hold what was
    transferred to SQL.

    :param max_size: Bytes that it may hold, ``None`` for no limit.
    """
    collections = Collections.of(documents)
    repository = JournalRepository(collections)

    def identify(key: str) -> str | None:
        owner = owner_of_key(key)
        if owner is None:
            return None
        media_id = owner[0]
        return repository.uploader_of(media_id) or find_uploader(collections, media_id)

    storage = JournalStorage(
        collections,
        collections.journal_bucket,
        max_size=max_size,
        identify=identify,
        unfinished=repository.keys_of_unfinished,
    )
    return JournalHome("journal", repository, storage)
