"""The places where media may live: a repository for the records, and storages for the bytes."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

import sqlalchemy as sa

from .collections import Collections
from .connections import speaks_psycopg
from .documents import Documents
from .repositories.base import Repository
from .repositories.mongo import JournalRepository, MongoRepository
from .repositories.psycopg import PsycopgRepository
from .repositories.sql import SQLRepository
from .storages.chunked import ChunkedStorage
from .storages.database import DatabaseStorage
from .storages.gridfs import GridFSStorage
from .storages.psycopg import PsycopgStorage
from .tables import MODELS, Tables

R = t.TypeVar("R", bound=Repository, covariant=True)


@dataclass(frozen=True)
class Home(t.Generic[R]):
    """Records, and the bytes of those whose ``storage_type`` is ``database``."""

    name: str
    repository: R
    storage: ChunkedStorage


def sql_home(engine: sa.Engine, *, timeout: float | None = None, tables: Tables = MODELS) -> Home[SQLRepository]:
    """Dual mode: tables and chunks.

    :param timeout: Seconds that a statement about records may take; five times as many for a batch of bytes.
    :param tables: Where they are.
    """
    repository, storage = SQLRepository, DatabaseStorage
    if speaks_psycopg(engine):
        repository, storage = PsycopgRepository, PsycopgStorage
    return Home(
        "SQL",
        repository(engine, timeout=timeout, tables=tables),
        storage(engine, timeout=timeout and 5 * timeout, tables=tables),
    )


def mongo_home(documents: Documents | Collections) -> Home[MongoRepository]:
    """Mongo-only mode: collections and GridFS."""
    collections = Collections.of(documents)
    return Home("MongoDB", MongoRepository(collections), GridFSStorage(collections, collections.bucket))


def journal_home(documents: Documents | Collections) -> Home[JournalRepository]:
    """What was accepted while SQL was down, until it is drained. Collections and a bucket of its own: those of
    Mongo-only mode may still hold what was transferred to SQL."""
    collections = Collections.of(documents)
    return Home("journal", JournalRepository(collections), GridFSStorage(collections, collections.journal_bucket))
