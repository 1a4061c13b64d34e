"""The SQL schema, kept up to date by an app that is told to."""

from __future__ import annotations

import logging
import time

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy import exc

from . import schema
from .errors import DatabaseUnavailable, DualMediaError, NamesTaken
from .outage import IDLE_INTERVAL
from .pools import set_aside
from .sqlstates import translate_errors
from .tables import Tables

logger = logging.getLogger("flask_dualmedia")


class Synchronizer:
    """Brings the schema up to date if it may, as soon as SQL lets it, and says whether it is.

    :param upgrades: Whether it may.
    :param hint: What people are to run otherwise.
    """

    def __init__(self, engine: sa.Engine, tables: Tables, *, upgrades: bool, hint: str) -> None:
        self._engine, self._tables = engine, tables
        self._upgrades, self._hint = upgrades, hint
        self._tried_at = 0.0
        self._said = ""
        self.is_due = True
        """Whether the schema is not known to be up to date."""

    def run(self) -> None:
        """
        :raises DatabaseUnavailable: SQL does not answer. It is due still.
        """
        self.is_due, self._tried_at = True, time.monotonic()
        try:
            with translate_errors():
                if self._upgrades:
                    schema.upgrade(self._engine, tables=self._tables)
                self.is_due = not _check_schema(self._engine, self._tables)
        except (DatabaseUnavailable, NamesTaken):
            raise
        except (DualMediaError, exc.SQLAlchemyError, CommandError) as error:
            # The app goes on with what there is: its tables may be there, and only a right to change them missing.
            self._say(logging.WARNING, f"models not synchronized: {error}")
            return
        if self.is_due:
            self._say(logging.WARNING, f"models not synchronized: run {self._hint}")
        else:
            self._say(logging.INFO, "models synchronized")

    def run_again(self) -> bool:
        """Try again what could not be done, now and then.

        :return: Whether it is done now.
        """
        if not self.is_due or time.monotonic() < self._tried_at + IDLE_INTERVAL:
            return False
        self.run()
        return not self.is_due

    def _say(self, level: int, message: str) -> None:
        if message != self._said:
            logger.log(level, "%s", message)
        self._said = message


def _check_schema(engine: sa.Engine, tables: Tables) -> bool:
    with engine.connect() as connection:
        set_aside(connection)
        complete = schema.is_complete(connection, tables)
        if complete:
            schema.keep_chunks_uncompressed(connection, tables)
            schema.allow_trash(connection, tables)
            connection.commit()
        return complete
