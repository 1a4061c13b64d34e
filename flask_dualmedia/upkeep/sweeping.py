"""The sweep and the trash: records that readers no longer see, or never saw.

The sweep deletes what killed processes left behind, and what was in the trash for long enough. The
order of its writes is that of :mod:`flask_dualmedia.lifecycle`.
"""

from __future__ import annotations

import logging
import typing as t
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from .. import events
from ..errors import (
    MediaNotFound,
    SecondMainImage,
    StorageUnavailable,
    Unavailable,
)
from ..failpoints import reach
from ..homes.base import AnyHome
from ..lifecycle import change, clean_up, purge, remove_unseen, remove_variants
from ..models import (
    AVAILABLE,
    DELETING,
    TABLES,
    TRASHED,
    Media,
    MediaRecord,
    now,
)
from ..repositories.base import M, Position
from ..state import State
from ..storages.stored import Stored
from .sightings import Sightings, name_of

logger = logging.getLogger("flask_dualmedia")

SWEPT_AT_ONCE = 100
"""Unfinished records read at once."""

SWEEP = "sweep"
"""Name under which the sweep remembers what it saw."""

Remove = Callable[[], bool]
"""Removes one record, unless something happened to it; tells whether it did."""


def trash(state: State, record: MediaRecord) -> None:
    """Take a record away from its readers, and keep it with its bytes.

    :func:`restore` brings it back until the sweep purges it.

    :param record: As it was read. If it was changed since, it stays.
    :raises MediaNotFound: There is no such record any more.
    :raises MediaConflict: It was changed since it was read.
    """
    trashed = change(state, record, {"state": TRASHED}, attempts=1)
    if trashed is None:
        raise MediaNotFound(record.kind, record.id)

    reach("trash:marked")
    clean_up(_note_trashed, state, trashed)  # otherwise its time begins with the next sweep
    events.removed(state, trashed)


def restore(state: State, record: M) -> M:
    """Bring a record back from the trash. It is as it was.

    :return: The record as it is now. A second main image of its product is an ordinary image.
    :raises MediaNotFound: It is not in the trash any more, or was changed since it was read.
    """
    kind = type(record)
    changes: dict[str, t.Any] = {"state": AVAILABLE}
    where = {"state": TRASHED, "version": record.version}

    try:
        restored = state.repository.update(kind, record.id, changes, where=where)
    except SecondMainImage:
        changes["is_main_image"] = False
        restored = state.repository.update(kind, record.id, changes, where=where)
    if restored is None:
        raise MediaNotFound(record.kind, record.id)

    events.published(state, restored)
    return restored


def trashed_records(state: State) -> Iterator[MediaRecord]:
    """Everything that is in the trash."""
    for kind in TABLES.values():
        for batch in _trashed_batches(state, kind):
            yield from batch


def sweep(
    state: State,
    *,
    grace: float | None = None,
    keep_going: Callable[[], bool] = lambda: True,
) -> int:
    """Delete what killed processes left behind, and purge the trash.

    Killed processes leave records that never became available, or that were being deleted. Such an
    unfinished record goes if an earlier sweep saw it as it is now, at least the grace time ago. A
    record in the trash goes after ``DUALMEDIA_TRASH_SECONDS``. Both times are by the clock of
    MongoDB.

    :param grace: Seconds for which something unfinished may be somebody's upload in progress.
        Default ``DUALMEDIA_GRACE``. With 0 it goes now: nothing may be uploaded meanwhile.
    :param keep_going: Asked before each record; the sweep ends early where it says no.
    :return: How many records were removed, and resumable uploads that have expired.
    """
    state.clock.measure()
    if grace is None:
        grace = state.settings.grace
    sightings = Sightings(state, SWEEP)
    number_swept = 0

    for remove, record in _due(state, sightings, grace):
        if not keep_going():
            return number_swept
        number_swept += try_to_remove(remove, record)

    if sightings.forgone:
        logger.warning(
            "%d unfinished record(s) wait for a later sweep: too many at once",
            sightings.forgone,
        )
    sightings.forget()
    return number_swept + state.staging.sweep()


def count_unfinished(state: State) -> int:
    """How many records a sweep without a grace time would remove."""
    number = 0
    for kind in TABLES.values():
        for home in state.homes:
            for batch in _unfinished_batches(home, kind, grace=0):
                number += len(batch)
    return number


def sweep_one(state: State, record: MediaRecord) -> bool:
    """Remove one unfinished record, wherever it is.

    :return: Whether it was removed. If something happened to it since it was read, it stays.
    """
    kind = type(record)
    if state.repository.get(kind, record.id) is not None:
        return False  # unfinished in SQL, while SQL was going; it was finished in the journal

    # Only whoever turns it to ``deleting`` may remove it: an upload that finishes now has won.
    where = {"state": record.state, "version": record.version}
    changes = {"state": DELETING, "updated_at": now()}
    if state.repository.update(kind, record.id, changes, where=where) is None:
        return False

    state.staging.forget_finished(record.id)  # a check would miss the media that it became
    remove_unseen(state, record)
    return True


def sweep_in(state: State, home: AnyHome, record: MediaRecord) -> bool:
    """Remove one unfinished record from the home that it was read from.

    :return: Whether it was removed. If something happened to it since it was read, it stays.
    """
    if is_finished_elsewhere(state, home, record):
        return False

    kind = type(record)
    where = {"state": record.state, "version": record.version}
    changes = {"state": DELETING, "updated_at": now()}
    deleted = home.repository.update(kind, record.id, changes, where=where)
    if deleted is None:
        return False

    if isinstance(deleted, Media):
        remove_variants(state, deleted)
    state.staging.forget_finished(record.id)  # a check would miss the media that it became
    original = _own_original(state, home, record)
    if original is not None:
        original.delete()
    reach("sweep:bytes")
    home.repository.remove(kind, record.id)
    reach("sweep:done")
    return True


def is_finished_elsewhere(state: State, home: AnyHome, record: MediaRecord) -> bool:
    """Whether an unfinished record is to stay for the drain.

    What is unfinished in SQL while it is available in the journal is brought up to date by the
    drain. What is deleted in the journal may be in SQL, or come there yet: the drain sees to it
    that it is not.
    """
    if len(state.homes) == 1:
        return home.repository.get(type(record), record.id) is not None
    sql, journal = state.homes
    if home is sql:
        return journal.repository.get(type(record), record.id) is not None
    return record.state == DELETING


def _due(state: State, sightings: Sightings, grace: float) -> Iterator[tuple[Remove, MediaRecord]]:
    """Each record that is to be removed now, with the way to remove it.

    First the unfinished records of each home, then what was in the trash for long enough, kind by
    kind.
    """
    for kind in TABLES.values():
        for home in state.homes:
            for batch in _unfinished_batches(home, kind, grace=grace):
                due = batch
                if grace > 0:
                    due = seen_before(sightings, batch, grace)
                for record in due:
                    yield partial(sweep_in, state, home, record), record
        for batch in _trashed_batches(state, kind):
            for record in seen_before(sightings, batch, state.settings.trash_seconds):
                yield partial(purge, state, record), record


def try_to_remove(remove: Remove, record: MediaRecord) -> bool:
    """Remove a record. If its storage fails, the records in other storages still go.

    :raises Unavailable: A database does not answer.
    """
    try:
        return remove()
    except Exception as error:
        # A storage class of the host's may raise anything.
        if isinstance(error, Unavailable) and not isinstance(error, StorageUnavailable):
            raise
        logger.warning("left for the next sweep: %r", record, exc_info=True)
        return False


def _unfinished_batches(home: AnyHome, kind: type[M], *, grace: float) -> Iterator[list[M]]:
    # A direct upload has a time in the future until which its client may begin.
    before = now() - timedelta(seconds=min(grace, 0))
    after: Position | None = None
    while batch := home.repository.unfinished(kind, before, SWEPT_AT_ONCE, after):
        after = (batch[-1].updated_at, batch[-1].id)
        yield batch


def _trashed_batches(state: State, kind: type[M]) -> Iterator[list[M]]:
    after: uuid.UUID | None = None
    while batch := state.repository.trashed(kind, after, SWEPT_AT_ONCE):
        after = batch[-1].id
        yield batch


def _note_trashed(state: State, record: MediaRecord) -> None:
    Sightings(state, SWEEP).note([name_of(record)])


def seen_before(sightings: Sightings, records: list[M], seconds: float) -> list[M]:
    """The records that an earlier sweep saw, as they are now, at least so many seconds ago."""
    names = {name_of(record) for record in records}
    first_seen = sightings.note(names)

    due = []
    for record in records:
        seen_at = first_seen.get(name_of(record))
        if sightings.is_due(seen_at, seconds):
            due.append(record)
    return due


def _own_original(state: State, home: AnyHome, record: MediaRecord) -> Stored | None:
    """The bytes of a record, unless a record with the same id names them in another home."""
    key = record.storage_key
    if key is None or key in _keys_elsewhere(state, home, record):
        return None
    return state.original(record)


def _keys_elsewhere(state: State, home: AnyHome, record: MediaRecord) -> set[str | None]:
    """The keys that records with the same id have in other homes."""
    keys: set[str | None] = set()
    for other in state.homes:
        if other is not home:
            keys.update(other.repository.keys_of(type(record), [record.id]))
    return keys
