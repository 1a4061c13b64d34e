"""The home in SQL: tables and chunks of one database."""

from __future__ import annotations

import sqlalchemy as sa

from ..databases.connections import speaks_psycopg
from ..databases.tables import MODELS, Tables
from ..repositories.psycopg import PsycopgRepository
from ..repositories.sql import SQLRepository
from ..storages.chunked import ChunkedStorage
from ..storages.database import DatabaseStorage
from ..storages.psycopg import PsycopgStorage
from .base import Home
from .postgres import PostgresHome

SQLHome = Home[SQLRepository, ChunkedStorage]


def sql_home(
    engine: sa.Engine, *, timeout: float | None = None, tables: Tables = MODELS
) -> SQLHome:
    """Make the home of media in dual mode: tables and chunks.

    :param timeout: Seconds that a statement about records may take; five times as many for a batch
        of bytes.
    :param tables: The tables, which may have a prefix of the host's choice.
    """
    storage_timeout = timeout and 5 * timeout
    if speaks_psycopg(engine):
        repository = PsycopgRepository(engine, timeout=timeout, tables=tables)
        storage = PsycopgStorage(engine, timeout=storage_timeout, tables=tables)
        return PostgresHome("SQL", repository, storage, engine, timeout)

    repository = SQLRepository(engine, timeout=timeout, tables=tables)
    storage = DatabaseStorage(engine, timeout=storage_timeout, tables=tables)
    return Home("SQL", repository, storage)
