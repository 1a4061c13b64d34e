"""Move the bytes of media from one storage to another, record by record, while the app runs.

    bytes copied under a new key → compared with the record → record names them
    → its variants name them → old bytes gone

Readers find the old bytes or the new ones at every moment. A process that is killed in between
leaves bytes that no record names, which ``flask dualmedia check --repair`` takes away. The next
call moves the records that were not moved yet.
"""

from __future__ import annotations

import hashlib
import typing as t
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .. import lifecycle
from ..errors import (
    BytesNotFound,
    DatabaseBusy,
    MediaConflict,
    RecordRefused,
    StorageError,
    StorageUnavailable,
    WritesRefused,
)
from ..failpoints import reach
from ..models import AVAILABLE, KEPT, TRASHED, MediaRecord, MediaVariant, now
from ..state import State
from ..storages.base import new_key
from ..storages.stored import Stored
from ..uploads.progress import in_time
from ..uploads.tickets import drop_bytes
from .transfer import records_of


@dataclass
class Moved:
    """The results of a move."""

    moved: int = 0
    """Records whose bytes were moved."""
    size: int = 0
    """How many bytes these records have."""
    failed: list[str] = field(default_factory=list)
    """Records that stay where they are, and why."""


def count(state: State, source: str, kinds: t.Iterable[type[MediaRecord]]) -> Moved:
    """Count what a move would move."""
    movable = Moved()
    for record in _records_in(state, source, kinds, lambda count: None):
        movable.moved += 1
        movable.size += record.file_size or 0
    return movable


def move(
    state: State,
    source: str,
    target: str,
    kinds: t.Iterable[type[MediaRecord]],
    *,
    advance: Callable[[int], object] = lambda count: None,
) -> Moved:
    """Move the bytes that one storage holds to another.

    :param source: Name of the storage whose media is moved.
    :param target: Name of another one that is set up.
    :param advance: Called with the number of records done since the last call.
    :raises Unavailable: A database or a storage is down. What was moved until then is there; the
        rest stays.
    """
    report = Moved()
    for record in _records_in(state, source, kinds, advance):
        try:
            if _move(state, record, target):
                report.moved += 1
                report.size += record.file_size or 0
        except StorageUnavailable:
            raise
        except (StorageError, MediaConflict, RecordRefused) as error:
            report.failed.append(f"{record!r} stays in {source}: {error}")
    return report


def _records_in(
    state: State,
    source: str,
    kinds: t.Iterable[type[MediaRecord]],
    advance: Callable[[int], object],
) -> Iterator[MediaRecord]:
    """The records whose bytes are in a storage."""
    for kind in kinds:
        for record in records_of(state.repository, kind):
            has_bytes = record.storage_key is not None
            if has_bytes and record.state in KEPT and record.storage_type == source:
                yield record
            advance(1)


def _move(state: State, record: MediaRecord, target: str) -> bool:
    """Move the bytes of one record.

    :return: Whether they were moved: not if somebody replaced or deleted the record meanwhile.
    """
    original = state.original(record)
    if original is None:
        return False
    storage = state.storages[target]
    copy = Stored(storage, new_key(record.id), original.size)
    try:
        _copy(state, record, original, copy)
        reach("move:copied")
    except BaseException as error:
        lifecycle.clean_up(storage.delete, copy.key)
        if isinstance(error, BytesNotFound) and record.state == TRASHED:
            return False  # it is in the trash because they are gone
        raise

    # A database that does not answer may have made the change all the same: then neither bytes are
    # deleted.
    changes = {"storage_type": target, "storage_key": copy.key, "updated_at": now()}
    try:
        changed = lifecycle.change(state, record, changes, same_content=True, in_state=record.state)
    except (RecordRefused, DatabaseBusy, WritesRefused):
        lifecycle.clean_up(storage.delete, copy.key)
        raise
    if changed is None:
        lifecycle.clean_up(storage.delete, copy.key)
        return False

    reach("move:switched")
    lifecycle.clean_up(_take_variants_along, state, original.key, changed)
    reach("move:variants")
    lifecycle.clean_up(drop_bytes, state, changed, original, record.storage_type)
    reach("move:done")
    return True


def _take_variants_along(state: State, old_key: str, original: MediaRecord) -> None:
    """Have the variants of a record name the key that its bytes have now.

    One that is left out is made again when it is asked for.
    """
    changes = {"source_key": original.storage_key}
    for variant in state.repository.variants_of([original.id]):
        if variant.state == AVAILABLE and variant.source_key == old_key:
            where = {"state": AVAILABLE, "version": variant.version}
            state.repository.update(MediaVariant, variant.id, changes, where=where)


def _copy(
    state: State,
    record: MediaRecord,
    original: Stored,
    copy: Stored,
) -> None:
    """Copy the bytes of a record under another key.

    :raises StorageError: They are damaged, or the other storage did not keep all of them.
    """
    digest = hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        for piece in original.open():
            digest.update(piece)
            reach("move:piece")
            yield piece

    copy.put(in_time(state, blocks()))
    if digest.hexdigest() != record.checksum:
        raise StorageError("its bytes are not those of the checksum")
    if not copy.is_whole():
        raise StorageError("the other storage did not keep all of its bytes")
