"""Our SQL tables under the names that one app gives them."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa
from sqlalchemy.sql.elements import conv

from .models import Base, Media, MediaChunk

VERSION_TABLE = "dualmedia_version"


class Tables:
    """The tables of the models, with a prefix before every name: of tables, indexes and constraints.

    Without a prefix they are the tables of the models themselves. Use :func:`tables_for`, which makes each once.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.version_table = prefix + VERSION_TABLE
        self.metadata = Base.metadata
        if prefix:
            self.metadata = sa.MetaData()
            for table in Base.metadata.tables.values():
                _rename_parts(table.to_metadata(self.metadata, name=prefix + table.name), prefix)

    def of(self, kind: type[Media]) -> sa.Table:
        """The table of the records of a kind."""
        return self._named(kind.__tablename__)

    @property
    def chunks(self) -> sa.Table:
        """The table of the bytes."""
        return self._named(MediaChunk.__tablename__)

    def _named(self, name: str) -> sa.Table:
        return self.metadata.tables[self.prefix + name]


@cache
def tables_for(prefix: str) -> Tables:
    """The tables of apps with this prefix. They are the same object, so that statements about them are made once."""
    return Tables(prefix)


MODELS = tables_for("")
"""The tables as the models name them."""


def _rename_parts(table: sa.Table, prefix: str) -> None:
    """Names of indexes are the schema's in PostgreSQL, and those of constraints are where they are indexes too."""
    for part in [*table.indexes, *table.constraints]:
        if part.name:
            part.name = conv(prefix + str(part.name))
