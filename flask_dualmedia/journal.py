"""The journal: what MongoDB accepts for SQL while SQL is down, and how it gets there afterwards."""

from __future__ import annotations

import logging

from . import lifecycle
from .failpoints import reach
from .homes import Home
from .leases import Lease
from .models import DELETING, KINDS, Media
from .repositories.mongo import JournalRepository
from .repositories.sql import SQLRepository
from .signals import journal_drained
from .state import State
from .transfer import Report, drain, records_of

logger = logging.getLogger("flask_dualmedia")


def homes_of(state: State) -> tuple[Home[SQLRepository], Home[JournalRepository]]:
    """SQL and the journal of an app in dual mode."""
    sql, journal = state.homes
    return sql, journal


def drain_journal(state: State) -> Report | None:
    """Move the journal into SQL, and tell those who want to know.

    :return: What was done; ``None`` if another process is at it.
    :raises DatabaseUnavailable: SQL is down. What was moved until then is there; the rest stays.
    """
    sql, journal = homes_of(state)
    _finish_deletions(state)  # first: they may stand in the way of what is moved
    report = drain(journal, sql, Lease(state.mongo, "drain"))
    if report is not None and (report.moved or report.present):
        logger.info("journal drained: %d record(s) moved into SQL", report.moved)
        for conflict in report.conflicts:
            logger.warning("%s", conflict)
        with state.app.app_context():
            journal_drained.send(state.app, report=report)
    if report is not None:
        for failure in report.failed:
            logger.error("%s", failure)
    return report


def _finish_deletions(state: State) -> None:
    """Finish what needs SQL: while it was down, nobody knew whether it holds something of a deleted record, or gets it
    yet, as where an insertion was never answered."""
    sql, journal = homes_of(state)
    for kind in KINDS.values():
        for record in records_of(journal.repository, kind):
            if record.state == DELETING:
                fenced = sql.repository.fence(record)
                lifecycle.clean_up(_forget, state, record, fenced)


def _forget(state: State, record: Media, fenced: Media) -> None:
    """Remove the bytes of a deleted record, and what the journal has of it.

    :param record: As the journal has it.
    :param fenced: As SQL has it, where it may have had other bytes.
    """
    for one in (record, fenced):
        if one.storage_key is not None:
            state.storage_of(one).delete(one.storage_key)
    reach("forget:bytes")
    state.homes[0].repository.bury(type(fenced), fenced.id)
    state.homes[1].repository.remove(type(record), record.id)


def look_after_journal(state: State) -> bool:
    """Drain the journal if there is something in it and the host has not kept that to himself.

    :return: Whether something is left in it.
    """
    _, journal = homes_of(state)
    if journal.repository.is_empty():
        return False
    if state.circuit is not None:
        state.circuit.journal_expected = True  # already while it is drained, which takes its time
    if state.settings.auto_drain:
        drain_journal(state)
    return not journal.repository.is_empty()
