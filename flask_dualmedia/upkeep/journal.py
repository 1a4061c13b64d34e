"""The journal: MongoDB accepts media for SQL while SQL is down, and a drain moves it there."""

from __future__ import annotations

import logging
import typing as t
from contextlib import suppress
from itertools import islice

from .. import events
from ..databases.leases import Lease
from ..errors import DatabaseUnavailable, DualMediaError, RecordRefused, Unavailable, WritesRefused
from ..failpoints import reach
from ..homes.mongo import JournalHome
from ..homes.sql import SQLHome
from ..models import AVAILABLE, DELETING, JOURNALED, PENDING, MediaRecord, now
from ..signals import journal_drained
from ..state import State
from ..uploads.tickets import delete_bytes
from .transfer import (
    OF_ONE_RECORD,
    Report,
    drain,
    reason_of,
    records_in,
    records_of,
    release_claims,
    strangers,
)

logger = logging.getLogger("flask_dualmedia")

GATHER_INTERVAL = 5.0
"""Seconds between two looks for bytes in the journal's bucket that belong into SQL. All processes
together look once in that time."""

KEYS_COUNTED = 1000
"""Keys of the journal's bucket that are looked at, at most, to count those that wait."""


def homes_of(state: State) -> tuple[SQLHome, JournalHome]:
    """SQL and the journal of an app in dual mode."""
    return t.cast("tuple[SQLHome, JournalHome]", state.homes)


def drain_journal(state: State, *, retry: bool = True) -> Report | None:
    """Move the journal into SQL, and tell the receivers of the signal.

    :param retry: Try again what SQL has refused not long ago.
    :return: What was done; ``None`` if another process is at it.
    :raises DatabaseUnavailable: SQL is down. What was moved until then is there; the rest stays.
    :raises WritesRefused: SQL changes nothing for now, or does not take some kind of record. The
        others were moved.
    """
    sql, journal = homes_of(state)
    # First the deletions: they may stand in the way of what is moved.
    refusal = _finish_deletions(state, retry=retry)
    _drop_twins(state)
    lease = _lease(state)
    report = Report()
    try:
        drained = drain(
            journal,
            sql,
            lease,
            retry=retry,
            awaited=state.staging.awaited,
            report=report,
        )
    finally:
        # If a database goes away in the middle, nobody else tells what was done before.
        _announce(state, report)

    refusal = report.refusal or refusal
    if refusal is not None:
        raise refusal
    return drained


def _announce(state: State, report: Report) -> None:
    """Log what a drain did, and send the signal if it moved something."""
    if report.moved or report.present:
        logger.info("journal drained: %d record(s) moved into SQL", report.moved)
        for conflict in report.conflicts:
            logger.warning("%s", conflict)
        with state.app.app_context():
            events.send(journal_drained, state.app, report=report)
    for description in report.news:
        logger.error("%s", description)
    for stale in report.stale:
        logger.error("%s: it was put into the trash (flask dualmedia check --restore)", stale)


def _lease(state: State) -> Lease:
    """The right to drain. A process that is about to end does not get it."""
    return Lease(state.collections, "drain", is_over=lambda: state.uses.is_closed)


def _finish_deletions(state: State, *, retry: bool) -> WritesRefused | None:
    """Finish deletions that need SQL.

    While SQL was down, nobody knew whether it holds something of a deleted record, or whether an
    insertion that was never answered still arrives there.

    :return: Why it could not be done for some kind of record.
    """
    refusal = None
    for kind in JOURNALED.values():
        try:
            _finish_deletions_of(state, kind, retry=retry)
        except WritesRefused as error:
            refusal = error  # another table may be changed
    return refusal


def _finish_deletions_of(state: State, kind: type[MediaRecord], *, retry: bool) -> None:
    """Finish the deletions of one kind.

    :param retry: Try again those that failed not long ago.
    :raises WritesRefused: SQL changes no record of this kind for now.
    """
    _, journal = homes_of(state)
    repository = journal.repository
    for record in records_of(repository, kind):
        if record.state != DELETING:
            continue
        if not retry and not repository.is_due(record):
            continue
        try:
            _finish_deletion(state, record)
        except Unavailable:
            raise
        except OF_ONE_RECORD as error:
            reason = reason_of(error)
            if repository.set_aside(record, reason):
                logger.warning("%r cannot be deleted now: %s", record, reason)


def _finish_deletion(state: State, record: MediaRecord) -> None:
    """Make sure that a deleted record does not come back, then remove it."""
    sql, journal = homes_of(state)
    fenced = _fenced(sql, record)
    if fenced is None:
        # Nobody was told that it exists, but somebody has come upon it and changed it, and the
        # change was acknowledged.
        journal.repository.remove(type(record), record.id)
    else:
        _forget(state, record, fenced)


def _drop_twins(state: State) -> None:
    """Remove unfinished records from the journal that became available in SQL.

    Workers of an earlier version made them, where the answer to an insertion was lost.
    """
    sql, journal = homes_of(state)
    for kind in JOURNALED.values():
        for record in records_of(journal.repository, kind):
            if record.state != PENDING:
                continue
            twin = sql.repository.get(kind, record.id)
            if twin is None:
                continue
            if record.storage_key != twin.storage_key:
                _delete_original(state, record)
            journal.repository.remove(kind, record.id)


def _delete_original(state: State, record: MediaRecord) -> None:
    original = state.original(record)
    if original is not None:
        original.delete()


def _fenced(sql: SQLHome, record: MediaRecord) -> MediaRecord | None:
    """A deleted record as SQL has it, now that nothing can bring it back any more; ``None`` if it
    stays."""
    try:
        return sql.repository.fence(record)
    except RecordRefused:
        # Then SQL has never taken it. It may have the record as it was before an edit.
        changes = {"state": DELETING, "updated_at": now()}
        where = {"state": AVAILABLE}
        sql.repository.update(type(record), record.id, changes, where=where)
        return sql.repository.find(type(record), record.id) or record


def _forget(state: State, record: MediaRecord, fenced: MediaRecord) -> None:
    """Remove the bytes of a deleted record, and the record from the journal.

    :param record: The record as the journal has it.
    :param fenced: The record as SQL has it, where it may have had other bytes.
    """
    is_free = True
    for one in (record, fenced):
        original = state.original(one)
        if original is not None:
            is_free &= delete_bytes(state, original)
    reach("forget:bytes")
    if is_free:  # otherwise SQL's record keeps the key taken, until the sweep
        state.homes[0].repository.bury(type(fenced), fenced.id)
    state.homes[1].repository.remove(type(record), record.id)


def try_again(state: State) -> None:
    """Have the next drain try again what SQL refused: the schema, or a rule of the host's, may have
    changed."""
    _, journal = homes_of(state)
    with suppress(DatabaseUnavailable):  # then it is tried again in a while
        journal.repository.try_again()


def look_after_journal(state: State) -> bool:
    """Drain the journal if something is in it and the host has not turned automatic drains off.

    :return: Whether something is left in it.
    """
    sql, journal = homes_of(state)
    if journal.is_empty():
        return False
    if not state.settings.auto_drain:
        release_claims(journal, sql, _lease(state))
    elif journal.repository.has_work() or _is_bucket_due(state):
        drain_journal(state, retry=False)
    return not journal.is_empty()


def agree_on_drains(state: State, journal: JournalHome) -> None:
    """Tell a MongoDB that was restored from a backup, with an empty journal, of the last drain
    again: records that come into the journal from now on are new."""
    sql, _ = homes_of(state)
    with suppress(DualMediaError):  # then the next drain compares the times
        number, _ = sql.repository.last_drain()
        if journal.repository.is_empty() and journal.repository.last_drain() < number:
            journal.repository.note_drain(number)


def _is_bucket_due(state: State) -> bool:
    """Whether it is time to look for bytes in the journal's bucket that belong into SQL.

    Other bytes may stay there for long: those of records that SQL refuses, and those that a killed
    upload left. So all processes together look once in a while. Nobody gives this lease back: it
    expires.
    """
    if homes_of(state)[1].storage.is_empty():
        return False
    return Lease(state.collections, "gather", seconds=GATHER_INTERVAL).take()


def count_waiting(state: State) -> int:
    """How much waits to be moved into SQL: records, and bytes of records that are there already.

    Bytes are counted while SQL answers, and up to :data:`KEYS_COUNTED` keys of them. The bytes of
    an upload that was never finished do not count: the sweep takes them away.
    """
    sql, journal = homes_of(state)
    waiting = journal.repository.waiting()
    circuit = state.circuit
    if circuit is None or circuit.is_open or journal.storage.is_empty():
        return waiting

    keys = list(islice(journal.storage.keys(), KEYS_COUNTED))

    def count_bytes() -> int:
        return len(records_in(sql, strangers(journal, keys)))

    with suppress(Unavailable):
        waiting += circuit.read(count_bytes)
    return waiting
