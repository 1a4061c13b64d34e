"""The places where media may live: a repository for the records, and storages for the bytes."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

import sqlalchemy as sa

from .connections import speaks_psycopg
from .documents import Documents
from .repositories.base import Repository
from .repositories.mongo import JournalRepository, MongoRepository
from .repositories.psycopg import PsycopgRepository
from .repositories.sql import SQLRepository
from .staging import find_uploader
from .storages.base import owner_of_key
from .storages.chunked import ChunkedStorage
from .storages.database import DatabaseStorage
from .storages.gridfs import GridFSStorage, JournalStorage
from .storages.psycopg import PsycopgStorage

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
        """Whether there are neither records nor bytes in it, not even of an upload in progress."""
        return self.repository.is_empty() and self.storage.is_empty()


def sql_home(engine: sa.Engine, *, timeout: float | None = None) -> Home[SQLRepository]:
    """Dual mode: tables and chunks.

    :param timeout: Seconds that a statement about records may take; five times as many for a batch of bytes.
    """
    repository, storage = SQLRepository, DatabaseStorage
    if speaks_psycopg(engine):
        repository, storage = PsycopgRepository, PsycopgStorage
    return Home("SQL", repository(engine, timeout=timeout), storage(engine, timeout=timeout and 5 * timeout))


def mongo_home(documents: Documents) -> Home[MongoRepository]:
    """Mongo-only mode: collections and GridFS."""
    return Home("MongoDB", MongoRepository(documents), GridFSStorage(documents))


def journal_home(documents: Documents, *, max_size: int | None = None) -> JournalHome:
    """What was accepted while SQL was down, until it is drained. Collections and a bucket of its own: those of
    Mongo-only mode may still hold what was transferred to SQL.

    :param max_size: Bytes that it may hold, ``None`` for no limit.
    """
    repository = JournalRepository(documents)

    def identify(key: str) -> str | None:
        owner = owner_of_key(key)
        if owner is None:
            return None
        return repository.uploader_of(owner[0]) or find_uploader(documents, owner[0])

    storage = JournalStorage(documents, max_size=max_size, identify=identify, unfinished=repository.keys_of_unfinished)
    return JournalHome("journal", repository, storage)
