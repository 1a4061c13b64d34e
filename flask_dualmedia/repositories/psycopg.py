"""Media records in PostgreSQL, asked for by psycopg 3."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence

import sqlalchemy as sa

from ..databases.sql import SQLDatabase, insisting
from ..databases.tables import MODELS, Tables
from ..failpoints import reach
from ..models import MediaRecord
from .base import Values
from .sql import Row, SQLRepository
from .statements import Query, insert_record


class PsycopgRepository(SQLRepository):
    """The same statements as :class:`SQLRepository`, sent to psycopg past SQLAlchemy.

    They are compiled once. SQLAlchemy takes longer about a statement than PostgreSQL does.

    Where somebody listens to the engine's statements, as tracers and tests do, they go the usual
    way and are heard.
    """

    def __init__(
        self,
        database: sa.Engine | SQLDatabase,
        *,
        tables: Tables = MODELS,
    ) -> None:
        super().__init__(database, tables=tables)
        self._compiled: dict[Query, str] = {}

    def probe(self) -> None:
        self.database.probe()

    def _fetch(self, query: Query, parameters: Values) -> Sequence[Row]:
        if self.database.is_heard:
            return super()._fetch(query, parameters)

        def execute() -> Sequence[Row]:
            with self.database.borrow() as driver:
                text = self.text(query, parameters)
                rows = driver.execute(text, parameters).fetchall()
                reach("fetch:answered")
                return rows

        return insisting(execute)

    def _insert(self, records: Sequence[MediaRecord]) -> None:
        if self.database.is_heard:
            super()._insert(records)
            return

        query = insert_record(type(records[0]), self.tables)
        # If a statement comes after one that failed, psycopg would believe that the server has
        # prepared it.
        prepare = None
        if len(records) > 1:
            prepare = False

        def execute() -> None:
            # A pipeline is one transaction without BEGIN and COMMIT, and one round trip.
            with self.database.borrow() as driver, driver.pipeline():
                for record in records:
                    values = record.values()
                    text = self.text(query, values)
                    driver.execute(text, values, prepare=prepare)

        insisting(execute)

    def text(self, query: Query, parameters: Values) -> t.LiteralString:
        """A statement as psycopg takes it."""
        text = self._compiled.get(query)
        if text is None:
            names = list(parameters)
            text = str(query.compile(self.database.engine, column_keys=names))
            self._compiled[query] = text
        return t.cast("t.LiteralString", text)
