"""Move the bytes of media from one storage to another, record by record, while the app runs.

    bytes copied under a new key → compared with the record → record names them → old bytes gone

Readers find the old bytes or the new ones at every moment. Of a process that is killed in between,
bytes are left that no record names, which ``flask dualmedia check --repair`` takes away; records
that were not moved yet are moved by the next call.
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
from ..models import KEPT, TRASHED, Media, now
from ..state import State
from ..storages.base import Storage, new_key
from ..uploads.tickets import drop_bytes
from .transfer import records_of


@dataclass
class Moved:
    """What a move did."""

    moved: int = 0
    """Records whose bytes were moved."""
    size: int = 0
    """Bytes of them."""
    failed: list[str] = field(default_factory=list)
    """Records that stay where they are, and why."""


def count(state: State, source: str, kinds: t.Iterable[type[Media]]) -> Moved:
    """What there is to move."""
    found = Moved()
    for record in _held(state, source, kinds, lambda count: None):
        found.moved += 1
        found.size += record.file_size or 0
    return found


def move(
    state: State,
    source: str,
    target: str,
    kinds: t.Iterable[type[Media]],
    *,
    advance: Callable[[int], object] = lambda count: None,
) -> Moved:
    """Move what one storage holds to another.

    :param source: ``storage_type`` of the media to move.
    :param target: Another one that is set up.
    :param advance: Called with the number of records done since the last call.
    :raises Unavailable: A database or a storage is down. What was moved until then is there; the
        rest stays.
    """
    report = Moved()
    for record in _held(state, source, kinds, advance):
        try:
            if _move(state, record, target):
                report.moved += 1
                report.size += record.file_size or 0
        except StorageUnavailable:
            raise
        except (StorageError, MediaConflict, RecordRefused) as error:
            report.failed.append(f"{record!r} stays in {source}: {error}")
    return report


def _held(
    state: State, source: str, kinds: t.Iterable[type[Media]], advance: Callable[[int], object]
) -> Iterator[Media]:
    for kind in kinds:
        for record in records_of(state.repository, kind):
            if (
                record.state in KEPT
                and record.storage_type == source
                and record.storage_key is not None
            ):
                yield record
            advance(1)


def _move(state: State, record: Media, target: str) -> bool:
    """Whether it was moved: not if it was replaced or deleted meanwhile."""
    source, storage = state.storage_of(record), state.storages[target]
    old_key, key = t.cast(str, record.storage_key), new_key(record.id)
    try:
        _copy(state, record, source, storage, key)
        reach("move:copied")
    except BaseException as error:
        lifecycle.clean_up(storage.delete, key)
        if isinstance(error, BytesNotFound) and record.state == TRASHED:
            return False  # it is in the trash because they are gone
        raise
    # A database that does not answer may have made the change all the same: then neither bytes are
    # deleted.
    changes = {"storage_type": target, "storage_key": key, "updated_at": now()}
    try:
        changed = lifecycle.change(state, record, changes, same_content=True, in_state=record.state)
    except (RecordRefused, DatabaseBusy, WritesRefused):
        lifecycle.clean_up(storage.delete, key)
        raise
    if changed is None:
        lifecycle.clean_up(storage.delete, key)
        return False
    reach("move:switched")
    lifecycle.clean_up(drop_bytes, state, changed, record.storage_type, old_key)
    reach("move:done")
    return True


def _copy(state: State, record: Media, source: Storage, target: Storage, key: str) -> None:
    digest, size = hashlib.sha256(), t.cast(int, record.file_size)

    def blocks() -> Iterator[bytes]:
        for piece in source.open(t.cast(str, record.storage_key), 0, size):
            digest.update(piece)
            reach("move:piece")
            yield piece

    target.put(key, lifecycle.in_time(state, blocks()))
    if digest.hexdigest() != record.checksum:
        raise StorageError("its bytes are not those of the checksum")
    stat = target.stats([key]).get(key)
    if stat is None or not stat.complete or stat.size != size:
        raise StorageError("the other storage did not keep all of its bytes")
