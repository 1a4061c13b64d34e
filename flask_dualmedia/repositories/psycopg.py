"""Media records in PostgreSQL, asked for by psycopg 3."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence

import sqlalchemy as sa

from ..databases.connections import borrow, is_heard, probe
from ..databases.sqlstates import translate_errors
from ..databases.tables import MODELS, Tables
from ..models import Media
from .base import Values
from .sql import Row, SQLRepository, insisting
from .statements import Query, insert_record

PROBE_TIMEOUT = 2.0
"""Seconds that a server may take to answer at all, where statements may take any number."""


class PsycopgRepository(SQLRepository):
    """The same statements as :class:`SQLRepository`, sent to psycopg past SQLAlchemy.

    They are compiled once. SQLAlchemy takes longer about a statement than PostgreSQL does.

    Where somebody listens to the engine's statements, as tracers and tests do, they go the usual
    way and are heard.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        timeout: float | None = None,
        tables: Tables = MODELS,
    ) -> None:
        super().__init__(engine, timeout=timeout, tables=tables)
        self._compiled: dict[Query, str] = {}

    def probe(self) -> None:
        probe(self._engine, self._timeout or PROBE_TIMEOUT)

    def _fetch(self, query: Query, parameters: Values) -> Sequence[Row]:
        if is_heard(self._engine):
            return super()._fetch(query, parameters)

        def execute() -> Sequence[Row]:
            with translate_errors(), borrow(self._engine, self._timeout) as driver:
                text = self.text(query, parameters)
                return driver.execute(text, parameters).fetchall()

        return insisting(execute)

    def _insert(self, records: Sequence[Media]) -> None:
        if is_heard(self._engine):
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
            with (
                translate_errors(),
                borrow(self._engine, self._timeout) as driver,
                driver.pipeline(),
            ):
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
            text = str(query.compile(self._engine, column_keys=names))
            self._compiled[query] = text
        return t.cast("t.LiteralString", text)
