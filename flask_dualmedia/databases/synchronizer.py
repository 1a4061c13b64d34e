"""The SQL schema, kept up to date by an app that is told to."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from alembic.util import CommandError
from sqlalchemy import exc

from ..errors import DatabaseUnavailable, DualMediaError, NamesTaken, WritesRefused
from . import schema
from .circuit import IDLE_INTERVAL, QUIET
from .pools import set_aside
from .rights import is_about_rights
from .sql import SQLDatabase
from .tables import Tables

logger = logging.getLogger("flask_dualmedia")


class Synchronizer:
    """Brings the schema up to date if it may, as soon as SQL lets it.

    It says whether the schema is up to date, and what is missing.

    :param database: Its limit of time is that of a look at the schema.
    :param upgrades: Whether it may.
    :param hint: The command that people are to run otherwise.
    """

    def __init__(self, database: SQLDatabase, tables: Tables, *, upgrades: bool, hint: str) -> None:
        self._database = database
        self._tables = tables
        self._upgrades = upgrades
        self._hint = hint
        self._tried_at = 0.0
        self._logged: list[str] = []
        self._refused_in: schema.Condition | None = None
        """How the schema was when the account had no right to change it.

        While it is the same, so is the answer.
        """
        self._refusal = ""
        self._lacks_something = True
        self.is_due = True
        """Whether the schema is not known to have all that we need."""

    def run(self) -> None:
        """
        :raises DatabaseUnavailable: SQL does not answer. It is due still.
        """
        self.is_due = True
        self._tried_at = time.monotonic()
        self._lacks_something = True
        try:
            condition = self._bring_up_to_date()
        except (DatabaseUnavailable, NamesTaken):
            raise
        except (DualMediaError, exc.SQLAlchemyError, CommandError) as error:
            # The app goes on with what there is.
            self._log_news([f"models not synchronized: {error}"])
            return

        self.is_due = not condition.is_complete
        problems = [*self._problems(condition)]
        self._lacks_something = bool(problems)
        self._log_news(problems)

    def run_again(self) -> bool:
        """Try again what could not be done, now and then.

        :return: Whether it is done now.
        """
        interval = QUIET
        if self.is_due:
            interval = IDLE_INTERVAL
        if not self._lacks_something or time.monotonic() < self._tried_at + interval:
            return False
        self.run()
        return not self.is_due

    def _bring_up_to_date(self) -> schema.Condition:
        condition = self._examine()
        if condition == self._refused_in:
            return condition

        self._refused_in = None
        try:
            if condition.is_behind and self._upgrades:
                schema.upgrade(self._database, tables=self._tables)
            elif condition.amendments:
                schema.amend_owned(self._database, self._tables)
            else:
                return condition
        except WritesRefused as error:
            if condition.rights is None or not is_about_rights(error):
                raise
            self._refused_in = condition
            self._refusal = str(error)
            return condition
        return self._examine()

    def _examine(self) -> schema.Condition:
        with self._database.connect() as connection:
            set_aside(connection)
            return schema.examine(connection, self._tables)

    def _problems(self, condition: schema.Condition) -> Iterator[str]:
        if condition.is_behind and self._upgrades:
            yield f"models not synchronized: {self._refusal}"  # revisions bring the amendments too
        else:
            if not condition.is_complete:
                yield f"models not synchronized: run {self._hint}"
            for amendment in condition.amendments:
                yield f"the tables lack what their owner has to give them: {amendment.statement}"

        if condition.rights is not None:
            for lack in condition.rights.missing_for_use():
                yield f"PostgreSQL: {lack}"

    def _log_news(self, problems: list[str]) -> None:
        """Log what was not logged at the last look."""
        for problem in problems:
            if problem not in self._logged:
                logger.warning("%s", problem)

        messages = problems or ["models synchronized"]
        if not problems and messages != self._logged:
            logger.info("models synchronized")
        self._logged = messages
