"""Connections of the pool as psycopg has them, for what is done so often that SQLAlchemy's part in it shows."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import sqlalchemy as sa

from .deadlines import deadline

if t.TYPE_CHECKING:
    import psycopg

Driver = t.Any
"""A ``psycopg.Connection``: the package is an extra."""


def speaks_psycopg(engine: sa.Engine) -> bool:
    """Whether the engine's connections are psycopg's."""
    return (engine.dialect.name, engine.dialect.driver) == ("postgresql", "psycopg")


@contextmanager
def borrow(engine: sa.Engine, seconds: float | None) -> Iterator[psycopg.Connection[tuple[t.Any, ...]]]:
    """A connection from the pool, in autocommit, for so many seconds. It goes back as others expect it."""
    lent = engine.raw_connection()
    driver = t.cast("Driver", lent.driver_connection)
    try:
        driver.autocommit = True
        with nullcontext() if seconds is None else deadline(driver, seconds):
            yield driver
        driver.autocommit = False
    except BaseException as error:
        # Whatever state it is in: nobody else gets it, and its server drops what was not committed.
        if driver.broken or driver.closed or driver.info.transaction_status != driver.info.transaction_status.IDLE:
            lent.invalidate(error if isinstance(error, Exception) else None)
        else:
            driver.autocommit = False
        raise
    finally:
        lent.close()
