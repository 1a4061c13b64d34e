"""The home in SQL: tables and chunks of one database."""

from __future__ import annotations

import sqlalchemy as sa

from ..databases.sql import SQLDatabase
from ..databases.tables import MODELS, Tables
from ..repositories.psycopg import PsycopgRepository
from ..repositories.sql import SQLRepository
from ..storages.chunked import ChunkedStorage
from ..storages.database import DatabaseStorage
from ..storages.psycopg import PsycopgStorage
from .base import Home
from .postgres import PostgresHome

SQLHome = Home[SQLRepository, ChunkedStorage]


def sql_home(database: sa.Engine | SQLDatabase, *, tables: Tables = MODELS) -> SQLHome:
    """Make the home of media in dual mode: tables and chunks.

    :param database: Its limit of time is that of a statement about records. A batch of bytes may
        take five times as long.
    :param tables: The tables, which may have a prefix of the host's choice.
    """
    database = SQLDatabase.of(database)
    if database.speaks_psycopg:
        repository = PsycopgRepository(database, tables=tables)
        storage = PsycopgStorage(database.for_bytes(), tables=tables)
        return PostgresHome("SQL", repository, storage)

    repository = SQLRepository(database, tables=tables)
    storage = DatabaseStorage(database.for_bytes(), tables=tables)
    return Home("SQL", repository, storage)
