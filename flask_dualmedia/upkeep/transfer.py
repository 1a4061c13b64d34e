"""Move records and bytes from one home to another: the journal into SQL, or a whole deployment
between the modes.

The same ids, keys and URLs; a step that was done is not done twice, so a transfer that was killed
goes on when it is called again.
"""

from __future__ import annotations

import hashlib
import logging
import typing as t
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from ..content.mime_types import one_type
from ..content.sniffing import settle_type
from ..databases.leases import Lease
from ..errors import (
    BytesNotFound,
    DatabaseBusy,
    DualMediaError,
    MediaConflict,
    RecordRefused,
    SecondMainImage,
    StorageError,
    Unavailable,
    WritesRefused,
)
from ..failpoints import reach
from ..homes.base import Home
from ..homes.mongo import JournalHome
from ..homes.sql import SQLHome
from ..models import (
    AVAILABLE,
    DELETING,
    KEPT,
    PENDING,
    TABLES,
    TRASHED,
    MediaRecord,
    MediaVariant,
    now,
)
from ..repositories.base import M, Repository
from ..repositories.journal import JournalRepository
from ..storages.base import owner_of_key
from ..storages.chunked import BytesOf
from ..storages.stored import Stored

logger = logging.getLogger("flask_dualmedia")

BATCH = 200
"""Records read at once."""

OF_ONE_RECORD = (
    RecordRefused,
    MediaConflict,
    StorageError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""Errors that concern one record and stop no other: a database refuses it, its bytes are damaged,
or our own code fails at a malformed document. Those that are
:class:`~flask_dualmedia.errors.Unavailable` are an outage."""


def reason_of(error: Exception) -> str:
    """An error in words, for people."""
    if isinstance(error, DualMediaError):
        return str(error)
    return f"{type(error).__name__}: {error}"


Kinds = t.Collection[type[MediaRecord]]
"""Record classes whose records are transferred."""

EVERYTHING: Kinds = TABLES.values()

Awaited = Callable[[list[str]], set[str]]
"""Tells which of some keys are parts of resumable uploads under way."""


@dataclass
class Report:
    """The results of a transfer."""

    moved: int = 0
    """Records that were written or brought up to date in the target."""
    present: int = 0
    """Records that the target had already."""
    conflicts: list[str] = field(default_factory=list)
    """Images that could not stay the main image, because the product has another one in the
    target."""
    failed: list[str] = field(default_factory=list)
    """Records that stay where they are, and why: the target refuses them, or their bytes are
    damaged."""
    news: list[str] = field(default_factory=list)
    """Those of the failed records that a drain has set aside for a new reason."""
    refusal: WritesRefused | None = None
    """Why SQL does not take some kind of record, or none at all, for now."""
    stale: list[str] = field(default_factory=list)
    """Records that SQL had once, and has no more: the journal is older. They were put into the
    trash."""


@dataclass(frozen=True)
class Manifest:
    """The contents of a home in numbers, to compare with those of another home."""

    counts: dict[str, int]
    """Available records by kind."""
    sizes: dict[str, int]
    """Bytes by kind, as the records have them."""
    digest: str
    """SHA-256 over id, checksum, size and URL of every record, in order."""


def records_of(repository: Repository, kind: type[M]) -> Iterator[M]:
    """Every record of a kind, in any state, sorted by id, a batch in memory at a time."""
    after: uuid.UUID | None = None
    while batch := repository.scan(kind, after, BATCH):
        yield from batch
        after = batch[-1].id


def manifest(repository: Repository, kinds: Kinds = EVERYTHING) -> Manifest:
    """Count and hash the available records of a repository."""
    counts = {}
    sizes = {}
    digest = hashlib.sha256()
    for kind in kinds:
        count = 0
        size = 0
        for record in records_of(repository, kind):
            if record.state != AVAILABLE:
                continue
            count += 1
            size += record.file_size or 0
            line = (
                kind.kind,
                record.id,
                record.checksum,
                record.file_size,
                record.external_url,
                record.owner_id,
            )
            digest.update(repr(line).encode())
        counts[kind.kind] = count
        sizes[kind.kind] = size
    return Manifest(counts, sizes, digest.hexdigest())


def transfer(
    source: Home,
    target: Home,
    *,
    kinds: Kinds = EVERYTHING,
    advance: Callable[[int], object] = lambda count: None,
) -> Report:
    """Copy every record that is available or in the trash, with its bytes.

    The source stays as it is.

    :param advance: Called with the number of records done since the last call.
    """
    report = Report()
    for kind in kinds:
        for record in records_of(source.repository, kind):
            if record.state in KEPT:
                _copy_or_report(record, source, target, report)
            advance(1)
    return report


def _copy_or_report(record: MediaRecord, source: Home, target: Home, report: Report) -> None:
    """Copy a record, or report why it stays where it is.

    :raises Unavailable: A database is down, which concerns every record.
    """
    try:
        _copy(record, source, target, report)
    except Unavailable:
        raise
    except OF_ONE_RECORD as error:
        reason = reason_of(error)
        report.failed.append(f"{record!r} stays in {source.name}: {reason}")


def clear(
    source: Home,
    target: Home,
    *,
    kinds: Kinds = EVERYTHING,
    advance: Callable[[int], object] = lambda count: None,
) -> None:
    """Delete every record and its bytes from the source of a transfer.

    :param kinds: Those that were transferred. Records of others go without a look at the target.
    :raises StorageError: The target does not hold the same record, or not all of its bytes. This
        record and those behind it stay.
    """
    for kind in TABLES.values():
        for record in records_of(source.repository, kind):
            is_transferred = kind in kinds and record.state in KEPT
            if is_transferred and not _is_held(record, target):
                raise StorageError(
                    f"{target.name} does not hold {record!r}; it was not deleted from {source.name}"
                )
            original = source.original(record)
            if original is not None:
                original.delete()
            reach("clear:bytes")
            source.repository.remove(kind, record.id)
            advance(1)


def _is_held(record: MediaRecord, target: Home) -> bool:
    """Whether the target holds a record too, with its bytes."""
    copy = target.repository.find(type(record), record.id)
    if copy is None or _is_newer(record, copy):
        return False
    original = target.original(copy)
    if copy.state != AVAILABLE or original is None:
        return True  # deleted there since, or in the trash, or its bytes are elsewhere
    return original.is_whole()


def surplus(
    source: Home,
    target: Home,
    kinds: Kinds = EVERYTHING,
) -> Iterator[MediaRecord]:
    """The available records of the target that the source does not hold, or not any more."""
    for kind in kinds:
        originals = records_of(source.repository, kind)
        original = next(originals, None)
        for record in records_of(target.repository, kind):
            while original is not None and original.id < record.id:
                original = next(originals, None)
            if record.state == AVAILABLE and not _is_kept_original(original, record):
                yield record


def _is_kept_original(original: MediaRecord | None, record: MediaRecord) -> bool:
    """Whether a record of the source is the one that a record of the target was copied from."""
    return original is not None and original.id == record.id and original.state in KEPT


def delete_surplus(
    source: Home,
    target: Home,
    *,
    limit: int,
    kinds: Kinds = EVERYTHING,
) -> int:
    """Delete from the target what was deleted from the source after it had been transferred.

    :param limit: How many records may be deleted at most.
    :return: How many were deleted.
    """
    deleted = 0
    for record in surplus(source, target, kinds):
        if deleted == limit:
            break  # the source has lost more of them since they were counted
        original = source.repository.find(type(record), record.id)
        if original is not None and original.state in KEPT:
            continue  # it came to the source meanwhile
        try:
            deleted += _delete_from(target, record)
        except Unavailable:
            raise
        except OF_ONE_RECORD as error:
            logger.warning("%r stays in %s: %s", record, target.name, reason_of(error))
    return deleted


def _delete_from(home: Home, record: MediaRecord) -> bool:
    """Delete a record and its bytes.

    :return: Whether that was done: not if somebody has changed the record.
    """
    changes = {"state": DELETING, "updated_at": now()}
    where = {"state": AVAILABLE, "version": record.version}
    changed = home.repository.update(type(record), record.id, changes, where=where)
    if changed is None:
        return False

    original = home.original(record)
    if original is not None:
        original.delete()
    reach("mirror:bytes")
    home.repository.remove(type(record), record.id)
    return True


def drain(
    journal: JournalHome,
    target: SQLHome,
    lease: Lease,
    *,
    retry: bool = True,
    awaited: Awaited = lambda keys: set(),
    report: Report | None = None,
) -> Report | None:
    """Move the journal, oldest first. Uploads still in progress stay.

    A record that the target refuses is set aside in the journal, and the rest goes on. Drains are
    numbered in both databases. Where the target knows of a later one, the journal comes from a
    backup, and a record that the target does not hold may have been moved and deleted since: it is
    put into the trash.

    :param retry: Try again what was set aside not long ago.
    :param awaited: Those of some keys that are parts of resumable uploads under way.
    :param report: Gets what was done, which an error leaves there too.
    :return: What was done; ``None`` if another process is at it.
    :raises DatabaseUnavailable: The target does not answer. What was moved until then is there; the
        rest stays.
    """
    if not lease.take():
        return None

    if report is None:
        report = Report()
    try:
        _drain(_Drain(journal, target, lease, report, awaited), retry=retry)
    except _LeaseLost:
        pass  # the other process goes on
    finally:
        lease.give_back()
    return report


@dataclass(frozen=True)
class _Drain:
    """One drain of the journal: from where, to where, and by which right."""

    journal: JournalHome
    target: SQLHome
    lease: Lease
    report: Report
    awaited: Awaited
    """Those of some keys that are parts of resumable uploads under way."""

    def renew_lease(self) -> None:
        """
        :raises _LeaseLost: Another process drains now.
        """
        if not self.lease.take():
            raise _LeaseLost


def _drain(drain: _Drain, *, retry: bool) -> None:
    """Drain by the right of a lease: trash what is stale, move records, gather bytes.

    :param retry: Try again what was set aside not long ago.
    :raises _LeaseLost: Another process drains now.
    """
    # The target first: a drain that slept through its lease may end now, and notes its number in
    # the journal first.
    last_of_target, time = drain.target.repository.last_drain()
    number = drain.journal.repository.last_drain()
    if time is not None and number < last_of_target:
        _trash_stale(drain, time)
    number = max(number, last_of_target)
    _number(drain, number + 1)

    for kind in TABLES.values():
        try:
            _drain_kind(drain, kind, retry=retry)
        except WritesRefused as error:
            drain.report.refusal = error  # another table may take what is for it
    if drain.report.refusal is None:
        _gather(drain)
    _number(drain, number + 2)  # a backup that was made meanwhile is older, too


def _drain_kind(drain: _Drain, kind: type[MediaRecord], *, retry: bool) -> None:
    """Move the records of one kind.

    :raises WritesRefused: SQL does not take this kind of record for now. The rest of them stays.
    """
    repository = drain.journal.repository
    for record in records_of(repository, kind):
        if record.state not in KEPT:
            continue
        if not retry and not repository.is_due(record):
            continue
        if repository.is_stale(record):
            continue
        drain.renew_lease()
        _move_or_set_aside(drain, record)


def _trash_stale(drain: _Drain, time: datetime) -> None:
    """Put records into the trash that SQL may have had, and has no more.

    :param time: Time of the last drain that the target knows of: what came later was in none of
        them.
    """
    repository = drain.journal.repository
    for kind in TABLES.values():
        for record in records_of(repository, kind):
            if record.state != AVAILABLE or record.created_at > time:
                continue
            if _has_settled(record, drain.target):
                continue
            drain.renew_lease()
            if repository.trash_stale(record):
                drain.report.stale.append(
                    f"{record!r} is in the journal, which is older than SQL,"
                    " and not in SQL any more"
                )


def _number(drain: _Drain, number: int) -> None:
    """Number a drain.

    The journal notes the number first: if a process is killed in between, the journal does not look
    older than it is.
    """
    drain.journal.repository.note_drain(number)
    # A rule of the host's that refuses the note must not end the drain.
    with suppress(RecordRefused, MediaConflict):
        drain.target.repository.note_drain(number)


def release_claims(journal: JournalHome, target: Home, lease: Lease) -> None:
    """Undo the claims of a drain that was killed, unless the target has the records: the next
    drain may be far away."""
    claimed = journal.repository.claimed()
    if not claimed or not lease.take():
        return
    try:
        for record in claimed:
            if not _has_settled(record, target):
                journal.repository.release(type(record), record.id, vars(record)["claimed"])
    finally:
        lease.give_back()


class _LeaseLost(Exception):
    """Another process drains now."""


def _move_or_set_aside(drain: _Drain, record: MediaRecord) -> None:
    """Move a record, or note in the journal why it stays there."""
    try:
        _move(drain, record)
        return
    except Unavailable:
        raise
    except OF_ONE_RECORD as error:
        refusal = error

    if isinstance(refusal, MediaConflict) and _has_settled(record, drain.target):
        return  # another process has moved it, while this one slept through its lease
    drain.renew_lease()  # without it, the reason is another process's to say
    reason = reason_of(refusal)
    description = f"{record!r} stays in the journal: {reason}"
    drain.report.failed.append(description)
    if drain.journal.repository.set_aside(record, reason):
        drain.report.news.append(description)


def _has_settled(record: MediaRecord, target: Home) -> bool:
    """Whether the target has a record, and not as an upload in progress."""
    copy = target.repository.find(type(record), record.id)
    return copy is not None and copy.state != PENDING


def _move(drain: _Drain, record: MediaRecord) -> None:
    """Move a record with its bytes: claim, copy, delete the bytes, remove the record."""
    journal = drain.journal
    holder = drain.lease.holder
    reach("drain:claim")
    claimed = journal.repository.claim(type(record), record.id, holder)
    if claimed is None:
        return  # deleted meanwhile

    reach("drain:copy")
    is_sent = False

    def note_sending() -> None:
        nonlocal is_sent
        is_sent = True

    try:
        _copy(
            claimed,
            journal,
            drain.target,
            drain.report,
            keep_going=drain.lease.take,
            before_record=note_sending,
        )
    except BaseException as error:
        # Once it was sent, nobody knows whether the target has it: then it is not changed here
        # until that is known.
        if not is_sent or isinstance(error, WritesRefused | DatabaseBusy):
            with suppress(DualMediaError):
                journal.repository.release(type(record), record.id, holder)
        raise
    reach("drain:copied")

    # The bytes first: the record names them, so that a drain that is killed here finds them again.
    original = journal.original(claimed)
    if original is not None:
        original.delete()
    reach("drain:bytes-deleted")
    journal.repository.remove(type(record), record.id)
    reach("drain:done")


def keys_named_in(home: Home, keys: t.Sequence[str]) -> set[str]:
    """Those of these keys that a record of a home names, in whatever state it is."""
    ids: set[uuid.UUID] = set()
    for key in keys:
        owner = owner_of_key(key)
        if owner is not None:
            ids.add(owner[0])
    if not ids:
        return set()

    named_keys: set[str | None] = set()
    for kind in TABLES.values():
        named_keys.update(home.repository.keys_of(kind, list(ids)))
    return {key for key in keys if key in named_keys}


def strangers(journal: Home[JournalRepository, t.Any], keys: t.Sequence[str]) -> list[str]:
    """Those of these keys of the journal's bucket that no record of the journal names: they do not
    wait for one."""
    named_keys = keys_named_in(journal, keys)
    return [key for key in keys if key not in named_keys]


def records_in(home: Home, keys: t.Sequence[str]) -> dict[str, MediaRecord]:
    """The available records of a home that have bytes under these keys in the database, by key."""
    records: dict[str, MediaRecord] = {}
    for key in keys_named_in(home, keys):
        media_id, _ = t.cast("tuple[uuid.UUID, object]", owner_of_key(key))
        for kind in TABLES.values():
            record = home.repository.get(kind, media_id)
            if record is None or record.storage_key != key:
                continue
            if record.storage_type == "database":
                records[key] = record
    return records


def _gather(drain: _Drain) -> None:
    """Move bytes whose record is in the target, or comes there: SQL went away, and came back, while
    they were sent."""
    keys = drain.journal.storage.keys()
    while batch := list(islice(keys, BATCH)):
        unnamed_keys = strangers(drain.journal, batch)
        for key, record in records_in(drain.target, unnamed_keys).items():
            _gather_bytes(drain, key, record)
        for key in drain.awaited(unnamed_keys):
            _gather_part(drain, key)


def _gather_bytes(drain: _Drain, key: str, record: MediaRecord) -> None:
    """Move the bytes of a record that is in the target."""
    journal = drain.journal
    target = drain.target
    wherever = BytesOf(target.storage, journal.storage)
    copy = Stored(target.storage, key, record.file_size or 0)
    try:
        _copy_bytes(record, wherever, copy, drain.lease.take, verifies=True)
    except Unavailable:
        raise
    except OF_ONE_RECORD as error:
        named_keys = target.repository.keys_of(type(record), [record.id])
        if named_keys == [key]:
            reason = reason_of(error)
            drain.report.failed.append(f"the bytes of {record!r} stay in the journal: {reason}")
            return
    reach("gather:copied")

    current = target.repository.get(type(record), record.id)
    if current is None or current.storage_key != key:
        copy.delete()  # it was deleted, or replaced, while they were copied
    journal.storage.delete(key)


def _gather_part(drain: _Drain, key: str) -> None:
    """Move a part of a resumable upload."""
    bucket = drain.journal.storage
    stat = bucket.stat(key)
    if stat is None or not stat.complete:
        return

    target = drain.target.storage
    with suppress(BytesNotFound):  # the upload was finished, or given up, meanwhile
        pieces = bucket.open(key, 0, stat.size)
        target.put(key, _watched(pieces, drain.lease.take))
    if key not in drain.awaited([key]):
        target.delete(key)
    bucket.delete(key)


def _watched(pieces: Iterator[bytes], keep_going: Callable[[], bool]) -> Iterator[bytes]:
    """Pieces, as long as this process has the lease."""
    for piece in pieces:
        yield piece
        if not keep_going():
            raise _LeaseLost


def _copy(
    record: MediaRecord,
    source: Home,
    target: Home,
    report: Report,
    *,
    keep_going: Callable[[], bool] = lambda: True,
    before_record: Callable[[], None] = lambda: None,
) -> None:
    """Copy a record with its bytes, unless the target has it as it is.

    :param keep_going: Whether this process has the lease still.
    :param before_record: Called when the record is about to be sent.
    """
    present = target.repository.find(type(record), record.id)
    if present is not None and present.state != PENDING and not _is_newer(record, present):
        report.present += 1  # copied before, and perhaps changed since
        _carry_accesses(record, present, target.repository)
        return

    copy = target.original(record)
    if copy is not None:
        # After an outage some of the bytes may be in the target already.
        wherever = BytesOf(source.storage, target.storage)
        _copy_remaining_bytes(record, wherever, copy, keep_going)
    reach("copy:bytes")
    if not keep_going():
        raise _LeaseLost
    before_record()
    if isinstance(record, MediaVariant):
        _make_way(record, target)
    _put_record(record, target.repository, present, report)
    reach("copy:record")

    report.moved += 1
    old = present and target.original(present)
    if old is not None and old.key != record.storage_key:
        old.delete()  # the content was replaced since it was copied


def _make_way(variant: MediaVariant, target: Home) -> None:
    """Delete the same variant from the target if it has it under another id.

    It was made there while the app ran on it.
    """
    twin = target.repository.find_variant(
        variant.media_id,
        variant.source_key,
        variant.name,
        variant.recipe,
    )
    if twin is not None and twin.id != variant.id:
        _delete_from(target, twin)


def _copy_remaining_bytes(
    record: MediaRecord,
    source: BytesOf,
    copy: Stored,
    keep_going: Callable[[], bool],
) -> None:
    """Copy those bytes of a record that the target does not have yet.

    :param copy: The bytes in the target.
    :raises BytesNotFound: They are gone, and the record is not in the trash.
    """
    try:
        _copy_bytes(record, source, copy, keep_going)
    except BytesNotFound:
        # A record may be in the trash because its bytes are gone. Then it may be all that is left.
        if record.state != TRASHED:
            raise


def _is_newer(record: MediaRecord, present: MediaRecord) -> bool:
    """Whether a record was changed since the other one was copied from it.

    Workers of an earlier version did not number changes: between equal versions the time decides.
    """
    return (record.version, record.updated_at) > (present.version, present.updated_at)


def _carry_accesses(record: MediaRecord, present: MediaRecord, target: Repository) -> None:
    """Bring accesses over that were counted since the record was copied: a count is no change of
    the record."""
    counted = record.counted_since(present)
    if not counted:
        return
    changes = {**counted, "version": present.version}
    where = {"state": present.state, "access_count": vars(present)["access_count"]}
    target.update(type(record), record.id, changes, where=where)


def _put_record(
    record: MediaRecord,
    target: Repository,
    present: MediaRecord | None,
    report: Report,
) -> None:
    """Write a record into the target, as it may stand there."""
    record = _with_valid_type(record)
    try:
        _write_record(record, target, present)
    except SecondMainImage:
        # The one that the target has stays the main image: readers have seen it there all the time.
        report.conflicts.append(f"{record!r} is no longer the main image: the product has another")
        values = record.values() | {"is_main_image": False}
        demoted = type(record).from_values(values)
        _write_record(demoted, target, present)


def _with_valid_type(record: MediaRecord) -> MediaRecord:
    """The record with one valid type. Older versions kept in MongoDB whatever was declared, which
    SQL may refuse."""
    if record.mime_type is None:
        return record

    mime_type = one_type(record.mime_type)
    if mime_type is None and record.storage_key is not None:
        mime_type = settle_type(None, record.filename, None)
    if mime_type == record.mime_type:
        return record
    values = record.values() | {"mime_type": mime_type}
    return type(record).from_values(values)


def _write_record(record: MediaRecord, target: Repository, present: MediaRecord | None) -> None:
    """Add a record to the target, or bring the one there up to date."""
    if present is None:
        target.add(type(record).from_values(record.values()))
        return

    values = record.merged_values(present)
    del values["id"]
    where = {"state": present.state, "version": present.version}
    target.update(type(record), record.id, values, where=where)


def _copy_bytes(
    record: MediaRecord,
    source: BytesOf,
    copy: Stored,
    keep_going: Callable[[], bool],
    *,
    verifies: bool = False,
) -> None:
    """Copy those bytes of a record that the target does not have.

    :param copy: The bytes in the target.
    :param verifies: Read them even if the target has them.
    """
    stat = copy.stat()
    is_whole = stat is not None and stat.complete and stat.size == copy.size
    if is_whole and not verifies:
        return

    # What a killed transfer has left of it is completed, not deleted: a slow one may be writing
    # there still.
    digest = hashlib.sha256()

    def blocks() -> Iterator[bytes]:
        for piece in source.open(copy.key, 0, copy.size):
            digest.update(piece)
            reach("copy:piece")
            yield piece
            if not keep_going():
                raise _LeaseLost

    copy.put(blocks())
    if digest.hexdigest() != record.checksum:
        if stat is None:
            copy.delete()
        raise StorageError(
            f"the bytes under {copy.key!r} are not those of the checksum; they stay where they are"
        )
