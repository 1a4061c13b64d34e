"""The journal: what MongoDB accepts for SQL while SQL is down, and how it gets there afterwards."""

from __future__ import annotations

import logging
from contextlib import suppress

from .errors import DatabaseUnavailable, DualMediaError, RecordRefused, Unavailable
from .failpoints import reach
from .homes import Home
from .leases import Lease
from .models import AVAILABLE, DELETING, KINDS, Media, now
from .repositories.mongo import JournalRepository
from .repositories.sql import SQLRepository
from .signals import journal_drained
from .state import State
from .transfer import OF_ONE_RECORD, Report, drain, reason_of, records_of, release_claims

logger = logging.getLogger("flask_dualmedia")


def homes_of(state: State) -> tuple[Home[SQLRepository], Home[JournalRepository]]:
    """SQL and the journal of an app in dual mode."""
    sql, journal = state.homes
    return sql, journal


def drain_journal(state: State, *, retry: bool = True) -> Report | None:
    """Move the journal into SQL, and tell those who want to know.

    :param retry: Try again what SQL has refused not long ago.
    :return: What was done; ``None`` if another process is at it.
    :raises DatabaseUnavailable: SQL is down. What was moved until then is there; the rest stays.
    """
    sql, journal = homes_of(state)
    _finish_deletions(state, retry=retry)  # first: they may stand in the way of what is moved
    report = drain(journal, sql, Lease(state.mongo, "drain"), retry=retry)
    if report is not None and (report.moved or report.present):
        logger.info("journal drained: %d record(s) moved into SQL", report.moved)
        for conflict in report.conflicts:
            logger.warning("%s", conflict)
        with state.app.app_context():
            journal_drained.send(state.app, report=report)
    if report is not None:
        for refusal in report.news:
            logger.error("%s", refusal)
        for stale in report.stale:
            logger.error("%s: it was put into the trash (flask dualmedia check --restore)", stale)
    return report


def _finish_deletions(state: State, *, retry: bool) -> None:
    """Finish what needs SQL: while it was down, nobody knew whether it holds something of a deleted record, or gets it
    yet, as where an insertion was never answered."""
    sql, journal = homes_of(state)
    for kind in KINDS.values():
        for record in records_of(journal.repository, kind):
            if record.state != DELETING or not (retry or journal.repository.is_due(record)):
                continue
            try:
                _forget(state, record, _fenced(sql, record))
            except Unavailable:
                raise
            except OF_ONE_RECORD as error:
                if journal.repository.set_aside(record, reason_of(error)):
                    logger.warning("%r cannot be deleted now: %s", record, reason_of(error))


def _fenced(sql: Home[SQLRepository], record: Media) -> Media:
    """A deleted record as SQL has it, where nothing can bring it back any more."""
    try:
        return sql.repository.fence(record)
    except RecordRefused:
        # Then no insertion of it was ever taken. SQL may have what it was before an edit.
        changes = {"state": DELETING, "updated_at": now()}
        sql.repository.update(type(record), record.id, changes, where={"state": AVAILABLE})
        return sql.repository.find(type(record), record.id) or record


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


def try_again(state: State) -> None:
    """Have what SQL refused tried again soon: the schema, or a rule of the host's, may be another one now."""
    _, journal = homes_of(state)
    with suppress(DatabaseUnavailable):  # then it is tried again in a while
        journal.repository.try_again()


def look_after_journal(state: State) -> bool:
    """Drain the journal if there is something in it and the host has not kept that to himself.

    :return: Whether something is left in it.
    """
    sql, journal = homes_of(state)
    if journal.repository.is_empty():
        return False
    if state.circuit is not None:
        state.circuit.journal_expected = True  # already while it is drained, which takes its time
    if not state.settings.auto_drain:
        release_claims(journal, sql, Lease(state.mongo, "drain"))
    elif journal.repository.has_work():
        drain_journal(state, retry=False)
    return not journal.repository.is_empty()


def agree_on_drains(state: State) -> None:
    """Have a MongoDB that was restored from a backup, with an empty journal, know of the last drain again: what comes
    into the journal from now on is new."""
    sql, journal = homes_of(state)
    with suppress(DualMediaError):  # then the next drain compares the times
        number, _ = sql.repository.last_drain()
        if journal.repository.is_empty() and journal.repository.last_drain() < number:
            journal.repository.note_drain(number)
