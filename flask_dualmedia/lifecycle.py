"""The life of a media record: created, its content replaced, deleted. The order of writes is the
whole point.

    create   record ``pending`` → bytes → record ``available``
    replace  new bytes under a new key → record names them → old bytes gone
    delete   record ``deleting`` → bytes gone → record gone, after the grace time
    trash    record ``trashed``, bytes kept → record ``available`` again, or deleted after the trash time

Readers see only ``available`` records. A process killed between any two steps leaves a complete
record, or an unfinished one that nobody sees and :func:`sweep` takes away.

A change names the version of the record that it is built on. A statement that was given up, and
arrives when others have been acknowledged, changes nothing then.
"""

from __future__ import annotations

import logging
import typing as t
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial

from . import quotas, schemas
from .authorization import Viewer, find_named_owner, one_id, usual_id
from .content.mime_types import OCTET_STREAM, declared_type, one_type
from .content.sniffing import media_type, resource_type
from .content.uploads import Upload
from .databases import storable
from .databases.storable import camelcase
from .errors import (
    DatabaseBusy,
    DualMediaError,
    InvalidMedia,
    JournalFull,
    MediaConflict,
    MediaNotFound,
    OwnerNotFound,
    QuotaBusy,
    RecordRefused,
    SecondMainImage,
    StorageError,
    Unavailable,
    UnsupportedType,
    UploadRejected,
    WritesRefused,
)
from .failpoints import reach
from .homes import at_once
from .homes.base import Home
from .models import (
    AVAILABLE,
    DELETING,
    KINDS,
    PENDING,
    TRASHED,
    CourseResource,
    Media,
    MediaStorage,
    now,
)
from .owners.main_images import refuse_second_main, write_main
from .owners.places import Place, placed, position_behind
from .repositories.base import Listing, M, Position
from .signals import media_accessed, media_deleted, media_saved
from .state import State
from .storages.base import Storage, new_key
from .storages.failover import FailoverStorage
from .upkeep.sightings import Sightings, name_of
from .uploads.progress import in_time, kept_alive, ours
from .uploads.tickets import delete_bytes, drop_bytes

logger = logging.getLogger("flask_dualmedia")

EXTERNAL = "external"

ATTEMPTS = 10
"""How often a change is built anew on what others have made of the record meanwhile."""

SWEPT_AT_ONCE = 100
"""Unfinished records read at once."""

SWEEP = "sweep"
"""As which the sweep remembers what it saw."""

Check = Callable[[Media], object]
"""Raises an error where a record, as it is now, is not to be changed."""

_OF_THE_CONTENT = {"width", "height", "duration"}
"""Fields that other content makes wrong."""


def create(
    state: State,
    kind: type[M],
    fields: dict[str, t.Any],
    upload: Upload | None,
    *,
    uploaded_by: str | None,
    unplaced: t.Collection[str] = (),
    viewer: Viewer | None = None,
) -> M:
    """Keep new media.

    :param fields: Values checked by the kind's schema.
    :param upload: The bytes, or ``None`` for external media, of which ``fields`` has the URL.
    :param unplaced: As of :func:`~flask_dualmedia.owners.places.placed`.
    :param viewer: Whoever asked for it over HTTP, for whom hidden main images give way; ``None``
        for the host.
    :raises OwnerNotFound: The document that it should belong to does not exist. Nothing is written.
    :raises InvalidMedia: Fields contradict each other.
    :raises UploadRejected: The bytes break a rule. Nothing is kept.
    :raises MediaConflict: It would be a second main image of its product. Nothing is kept.
    """
    if upload is None:
        return create_external(
            state, kind, [fields], uploaded_by=uploaded_by, unplaced=unplaced, viewer=viewer
        )[0]
    storage_type = fields.pop("storage_type", None)
    storable.check(kind, fields | {"uploaded_by": uploaded_by})
    record = kind.new(uploaded_by=uploaded_by, **fields)
    check_owner(state, record)
    storage_type = storage_type or state.settings.default_storages[kind.kind]
    storage = _storage(state, storage_type)
    refuse_second_main(state, record, viewer)
    upload.open()
    keeps_id = "id" in fields
    describe(
        state, _with(record, storage_type=storage_type, storage_key=new_key(record.id)), upload
    )
    storable.check(kind, record.values())
    quotas.check(state, record, upload.least_size)
    reach("create:begin")
    blocks = upload.blocks()
    if upload.is_read and at_once.is_possible(state, storage):
        content = list(blocks)
        published = record.values() | _published(upload)

        def add(place: Place) -> tuple[M, bool]:
            whole = kind.from_values(published | place)

            def add_at_once() -> bool:
                return at_once.add(state, whole, content, keeps_id=keeps_id)

            return whole, write_main(state, whole, viewer, add_at_once)

        whole, is_added = placed(state, record, unplaced, add)
        if is_added:
            media_saved.send(state.app, record=whole)
            return whole
        _with(record, id=whole.id, storage_key=whole.storage_key)
        blocks = iter(content)
    if isinstance(storage, FailoverStorage):
        storage.check_room(uploaded_by, upload.least_size)
    state.repository.add(record, keeps_id=keeps_id)
    reach("create:pending")
    try:
        storage.put(t.cast(str, record.storage_key), kept_alive(state, record, blocks))
        reach("create:bytes")
        with quotas.reserved(state, record, upload.size):
            available = placed(
                state,
                record,
                unplaced,
                lambda place: _publish(state, record, upload, place, viewer),
            )
    except JournalFull:
        # It was never published: SQL, if it has it at all, has it as pending.
        with suppress(Unavailable):
            storage.delete(t.cast(str, record.storage_key))
        with suppress(Unavailable):
            state.repository.remove(type(record), record.id)
        raise
    except BaseException:
        # A worker that is told to stop raises SystemExit here, and has the time to clean up.
        clean_up(_discard, state, record, storage)
        raise
    reach("create:available")
    media_saved.send(state.app, record=available)
    return available


def create_external(
    state: State,
    kind: type[M],
    wanted: t.Sequence[dict[str, t.Any]],
    *,
    uploaded_by: str | None,
    unplaced: t.Collection[str] = (),
    viewer: Viewer | None = None,
) -> list[M]:
    """Keep new external media of one owner, all or none.

    :param unplaced: As of :func:`create`, of the first one. The positions of the others follow it.
    :param viewer: As of :func:`create`.
    :raises OwnerNotFound: As :func:`create`, as are the others.
    """
    storage_types = [fields.pop("storage_type", None) for fields in wanted]
    for fields in wanted:
        storable.check(kind, fields | {"uploaded_by": uploaded_by})
    records = [kind.new(uploaded_by=uploaded_by, **fields) for fields in wanted]
    check_owner(state, *records)
    for record, storage_type in zip(records, storage_types, strict=True):
        _with(record, mime_type=declared_type(record.mime_type))
        _with(record, state=AVAILABLE, storage_type=EXTERNAL)
        if storage_type not in (None, EXTERNAL):
            raise InvalidMedia({"storageType": [f"Without a file it can only be {EXTERNAL!r}."]})
        if record.external_url is None:
            raise InvalidMedia({camelcase(kind.url_field): ["Missing: send a file or a URL."]})
        classify(record, record.mime_type or "")

    def write() -> None:
        if len(records) == 1:
            state.repository.add(records[0])
        else:
            state.repository.add_all(records)

    def add(place: Place) -> None:
        _with(records[0], **place)
        if "position" in place:
            for number, record in enumerate(records):
                _with(record, position=position_behind(place["position"], number))
        write_main(state, records[0], viewer, write)

    placed(state, records[0], unplaced, add)
    reach("create:external")
    for record in records:
        media_saved.send(state.app, record=record)
    return records


def foresee(state: State, kind: type[Media], fields: dict[str, t.Any], *, viewer: Viewer) -> None:
    """Refuse what :func:`create` would refuse before it reads a byte, of an upload whose bytes are
    still to come.

    :param viewer: As of :func:`create`.
    :raises OwnerNotFound: As :func:`create`, as are the others.
    """
    record = kind.new(**{name: value for name, value in fields.items() if name != "storage_type"})
    check_owner(state, record)
    _storage(state, fields.get("storage_type") or state.settings.default_storages[kind.kind])
    refuse_second_main(state, record, viewer)


def replace(state: State, record: M, upload: Upload) -> M:
    """Give a record other bytes. The old ones stay until the new ones are committed.

    :raises InvalidMedia: The record is external media.
    :raises UploadRejected: The bytes break a rule. The old ones stay.
    :raises MediaConflict: Another change of the content won the race, or the record was deleted
        meanwhile.
    """
    if record.storage_key is None:
        raise InvalidMedia(
            {"storageType": ["External media has no content here; change its URL instead."]}
        )
    storage = state.storage_of(record)
    upload.open()
    changes: dict[str, t.Any] = {"mime_type": upload.mime_type}
    if upload.filename != record.filename:
        changes["filename"] = upload.filename
    changes |= dict.fromkeys(_OF_THE_CONTENT.intersection(record.field_names()))
    expected = type(record).from_values(record.values() | changes)
    changes |= _measured(expected, upload)
    storable.check(type(record), changes)
    _validate(state, _with(expected, **changes), upload)
    old_size = record.file_size or 0
    quotas.check(state, record, upload.least_size - old_size)
    old_key, key, tried = record.storage_key, new_key(record.id), None
    reach("replace:begin")
    blocks = upload.blocks()
    where = {"state": AVAILABLE, "storage_key": old_key, "version": record.version}
    if upload.is_read and at_once.is_possible(state, storage):
        content = list(blocks)
        named = changes | _published(upload) | {"storage_key": key}
        done = at_once.replace(state, type(record), record.id, named, where, content)
        if done is not None:
            changed, is_clean = done
            if not is_clean:
                clean_up(storage.delete, old_key)
            media_saved.send(state.app, record=changed)
            return changed
        # Under the other key they may be all the same.
        blocks, tried, key = iter(content), key, new_key(record.id)
    try:
        storage.put(key, in_time(state, blocks))
        reach("replace:bytes")
    except BaseException:
        clean_up(storage.delete, key)
        raise
    changes |= _published(upload) | {"storage_key": key}
    try:
        with quotas.reserved(state, record, upload.size - old_size):
            # A database that does not answer may have made the change all the same: then neither
            # bytes are deleted.
            changed = change(state, record, changes, same_content=True)
    except (UploadRejected, QuotaBusy, RecordRefused, DatabaseBusy, WritesRefused):
        clean_up(storage.delete, key)
        raise
    if changed is None:
        clean_up(storage.delete, key)
        changed = state.repository.get(type(record), record.id)
        if changed is None or tried is None or changed.storage_key != tried:
            raise MediaConflict("the content was replaced or deleted by another request meanwhile")
    reach("replace:committed")
    clean_up(drop_bytes, state, changed, record.storage_type, old_key)
    reach("replace:cleaned")
    media_saved.send(state.app, record=changed)
    return changed


def edit(
    state: State,
    record: M,
    changes: dict[str, t.Any],
    *,
    check: Check = bool,
    viewer: Viewer | None = None,
) -> M:
    """Change fields of a record. Making it private revokes its links.

    :param changes: Values checked by the kind's schema of changes.
    :param viewer: As of :func:`create`.
    :raises InvalidMedia: A URL for media whose bytes we keep.
    :raises MediaConflict: It would be a second main image of its product.
    :raises MediaNotFound: It was deleted meanwhile.
    """
    if record.url_field in changes and record.storage_type != EXTERNAL:
        raise InvalidMedia(
            {camelcase(record.url_field): ["Only external media can be given a URL."]}
        )
    if not changes:
        return record
    if "filename" in changes:
        changes = changes | {"filename": _checked_name(state, record, changes["filename"])}

    def edited(current: Media) -> dict[str, t.Any]:
        values = changes | {"updated_at": now()}
        becomes_private = current.is_public and not changes.get("is_public", True)
        if becomes_private:
            values["links_revoked_at"] = current.next_revocation()
        return values

    changed = write_main(state, record, viewer, lambda: change(state, record, edited, check=check))
    if changed is None:
        raise MediaNotFound(record.kind, record.id)
    media_saved.send(state.app, record=changed)
    return changed


def change(
    state: State,
    record: M,
    changes: dict[str, t.Any] | Callable[[M], dict[str, t.Any]],
    *,
    same_content: bool = False,
    attempts: int = ATTEMPTS,
    in_state: str = AVAILABLE,
    check: Check = bool,
) -> M | None:
    """Change a record, built on what it is now.

    :param record: As it was read. Where others have changed it since, it is read again.
    :param changes: New values, or what gives them for the record as it is then.
    :param same_content: Only as long as it has the same bytes.
    :param attempts: How often it is built anew; 1 to change it only as it was read.
    :param in_state: State that it must be in.
    :param check: Called with the record as it is then.
    :return: The record after the change; ``None`` if there is none any more, or none with these
        bytes.
    :raises MediaConflict: Others change it at the same time.
    """
    current: M | None = record
    for _ in range(attempts):
        check(current)
        where = {"state": in_state, "version": current.version}
        if same_content:
            where["storage_key"] = (
                record.storage_key
            )  # workers of an earlier version replace bytes under one version
        values = changes(current) if callable(changes) else changes
        changed = state.repository.update(type(record), record.id, values, where=where)
        if changed is not None:
            return changed
        read = state.repository.get if in_state == AVAILABLE else state.repository.find
        current = read(type(record), record.id)
        if (
            current is None
            or current.state != in_state
            or (same_content and current.storage_key != record.storage_key)
        ):
            return None
    raise MediaConflict("too many others are changing it at the moment")


def revoke_links(state: State, record: Media, *, check: Check = bool) -> None:
    """Make the signed links of a record worthless that were made until now.

    A link names the revocation that it came after. So each revocation must be another one than
    those before.

    :raises MediaNotFound: There is no such record any more.
    """

    def revoked(current: Media) -> dict[str, t.Any]:
        return {"links_revoked_at": current.next_revocation(), "updated_at": now()}

    if change(state, record, revoked, check=check) is None:
        raise MediaNotFound(record.kind, record.id)


def delete(state: State, record: Media, *, check: Check = bool) -> None:
    """Delete a record and its bytes.

    :raises MediaNotFound: There is no such record any more, or somebody else is deleting it.
    """
    reach("delete:begin")
    deleted = change(state, record, {"state": DELETING, "updated_at": now()}, check=check)
    if deleted is None:
        raise MediaNotFound(record.kind, record.id)
    # From here on it is gone for everybody; the sweep does what cannot be done now.
    reach("delete:marked")
    clean_up(_bury, state, deleted)
    media_deleted.send(state.app, record=deleted)


def delete_of_owner(state: State, reference_type: str, reference_id: str) -> int:
    """Delete all media of one document.

    :return: How many records were deleted.
    """
    deleted = 0
    owner_id = usual_id(state, reference_type, reference_id)
    for kind, where in quotas.of_owner(reference_type, owner_id).items():
        for record in state.repository.select(Listing(kind, where)):
            with suppress(MediaNotFound):  # somebody else deletes it too
                delete(state, record)
                deleted += 1
    return deleted


def count_access(state: State, kind: type[Media], media_id: uuid.UUID) -> None:
    """Count one access.

    :raises MediaNotFound: There is no such record.
    """
    if not state.repository.count_access(kind, media_id, now()):
        raise MediaNotFound(kind.kind, media_id)
    media_accessed.send(state.app, kind=kind, media_id=media_id, count=1)


def trash(state: State, record: Media) -> None:
    """Take a record away from its readers and keep it with its bytes, for :func:`restore`, until
    the sweep purges it.

    :param record: As it was read. If it was changed since, it stays.
    :raises MediaNotFound: There is no such record any more.
    :raises MediaConflict: It was changed since it was read.
    """
    trashed = change(state, record, {"state": TRASHED}, attempts=1)
    if trashed is None:
        raise MediaNotFound(record.kind, record.id)
    reach("trash:marked")
    clean_up(_note_trashed, state, trashed)  # otherwise its time begins with the next sweep
    media_deleted.send(state.app, record=trashed)


def restore(state: State, record: M) -> M:
    """Bring a record back from the trash. It is as it was.

    :return: The record as it is now. A second main image of its product is an ordinary image.
    :raises MediaNotFound: It is not in the trash any more, or was changed since it was read.
    """
    changes: dict[str, t.Any] = {"state": AVAILABLE}
    where = {"state": TRASHED, "version": record.version}
    try:
        restored = state.repository.update(type(record), record.id, changes, where=where)
    except SecondMainImage:
        changes["is_main_image"] = False
        restored = state.repository.update(type(record), record.id, changes, where=where)
    if restored is None:
        raise MediaNotFound(record.kind, record.id)
    media_saved.send(state.app, record=restored)
    return restored


def trashed_records(state: State) -> Iterator[Media]:
    """Everything that is in the trash."""
    for kind in KINDS.values():
        for batch in _trashed_batches(state, kind):
            yield from batch


def sweep(
    state: State, *, grace: float | None = None, keep_going: t.Callable[[], bool] = lambda: True
) -> int:
    """Take away what killed processes left, records that never became available or were being
    deleted, and purge the trash.

    An unfinished record is taken away if an earlier sweep saw it as it is now, at least the grace
    time ago; a record in the trash after ``DUALMEDIA_TRASH_SECONDS``. Both by the clock of MongoDB.

    :param grace: Seconds for which something unfinished may be somebody's upload in progress.
        Default ``DUALMEDIA_GRACE``. With 0 it is taken away now: nothing may be uploaded meanwhile.
    :param keep_going: Asked before each record; the sweep ends early where it says no.
    :return: How many records were removed, and resumable uploads that have expired.
    """
    state.clock.measure()
    seconds = state.settings.grace if grace is None else grace
    sightings = Sightings(state, SWEEP)
    swept = 0
    for remove, record in _abandoned(state, sightings, seconds):
        if not keep_going():
            return swept
        swept += _swept(remove, state, record)
    if sightings.forgone:
        logger.warning(
            "%d unfinished record(s) wait for a later sweep: too many at once", sightings.forgone
        )
    sightings.forget()
    return swept + state.staging.sweep()


Remove = t.Callable[[State, t.Any], bool]


def _abandoned(
    state: State, sightings: Sightings, seconds: float
) -> Iterator[tuple[Remove, Media]]:
    """What is to be swept, and how: the unfinished records of each home, and what was in the trash
    long enough."""
    for kind in KINDS.values():
        for home in state.homes:
            remove = partial(_sweep_in, home)
            for batch in _unfinished_batches(home, kind, grace=seconds):
                due = batch if seconds <= 0 else _seen_before(sightings, batch, seconds)
                yield from ((remove, record) for record in due)
        for batch in _trashed_batches(state, kind):
            yield from (
                (_purge, record)
                for record in _seen_before(sightings, batch, state.settings.trash_seconds)
            )


def _sweep_in(home: Home[t.Any], state: State, record: Media) -> bool:
    return sweep_in(state, home, record)


def count_unfinished(state: State) -> int:
    """How many records a sweep without a grace time would remove."""
    batches = (
        _unfinished_batches(home, kind, grace=0) for kind in KINDS.values() for home in state.homes
    )
    return sum(len(batch) for each in batches for batch in each)


def _unfinished_batches(home: Home[t.Any], kind: type[M], *, grace: float) -> Iterator[list[M]]:
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


def _note_trashed(state: State, record: Media) -> None:
    Sightings(state, SWEEP).note([name_of(record)])


def _seen_before(sightings: Sightings, records: list[M], seconds: float) -> list[M]:
    """Those of these records that an earlier sweep saw, as they are, at least so many seconds
    ago."""
    since = sightings.note({name_of(record) for record in records})
    return [record for record in records if sightings.is_due(since.get(name_of(record)), seconds)]


def _purge(state: State, record: Media) -> bool:
    """Delete a record that is in the trash, unless somebody has brought it back."""
    where = {"state": TRASHED, "version": record.version}
    changes = {"state": DELETING, "updated_at": now()}
    deleted = state.repository.update(type(record), record.id, changes, where=where)
    if deleted is None:
        return False
    _bury(state, deleted)
    return True


def sweep_one(state: State, record: Media) -> bool:
    """Take away one unfinished record, wherever it is, unless something happened to it since it was
    read."""
    if state.repository.get(type(record), record.id) is not None:
        return False  # unfinished in SQL, while SQL was going; it was finished in the journal
    # Only whoever turns it to ``deleting`` may remove it: an upload that finishes now has won.
    where = {"state": record.state, "version": record.version}
    changes = {"state": DELETING, "updated_at": now()}
    if state.repository.update(type(record), record.id, changes, where=where) is None:
        return False
    state.staging.forget_finished(record.id)  # a check would miss the media that it became
    _finish(state, record)
    return True


def sweep_in(state: State, home: Home[t.Any], record: Media) -> bool:
    """Take away one unfinished record from the home that it was read from."""
    if is_finished_elsewhere(state, home, record):
        return False
    where = {"state": record.state, "version": record.version}
    changes = {"state": DELETING, "updated_at": now()}
    if home.repository.update(type(record), record.id, changes, where=where) is None:
        return False
    state.staging.forget_finished(record.id)  # a check would miss the media that it became
    if record.storage_key is not None and record.storage_key not in _keys_elsewhere(
        state, home, record
    ):
        state.storage_of(record).delete(record.storage_key)
    reach("sweep:bytes")
    home.repository.remove(type(record), record.id)
    reach("sweep:done")
    return True


def is_finished_elsewhere(state: State, home: Home[t.Any], record: Media) -> bool:
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


def _keys_elsewhere(state: State, home: Home[t.Any], record: Media) -> set[str | None]:
    """The keys that records with the same id have in other homes."""
    others = [other for other in state.homes if other is not home]
    return {key for other in others for key in other.repository.keys_of(type(record), [record.id])}


def _swept(remove: Remove, state: State, record: Media) -> bool:
    """Remove a record, where one storage that fails is no reason to leave what is in the others."""
    try:
        return remove(state, record)
    except (StorageError, RecordRefused, MediaConflict):
        logger.warning("left for the next sweep: %r", record, exc_info=True)
        return False


def check_owner(state: State, *records: Media) -> None:
    """Make sure that the document exists that records are to belong to, where the host said in
    which collection.

    They name it by its one id afterwards, however it was spelled.

    :param records: Not yet in a database, and all of one owner.
    :raises OwnerNotFound: There is no such document.
    """
    reference_type, reference_id = records[0].reference_type, records[0].owner_id
    if reference_type not in state.settings.references:
        return
    document = find_named_owner(state, reference_type, reference_id)
    if document is None:
        raise OwnerNotFound(reference_type, reference_id)
    owner_id = one_id(state, reference_id, document["_id"])
    for record in records:
        _with(record, **{record.owner_field: owner_id})


def _with(record: M, **values: t.Any) -> M:
    vars(record).update(values)
    return record


def _checked_name(state: State, record: Media, filename: str | None) -> str | None:
    """A new name, if it fits the bytes that we keep."""
    if record.storage_key is not None:
        try:
            state.settings.policies[record.kind].check_name(
                filename, one_type(record.mime_type) or OCTET_STREAM
            )
        except UnsupportedType as error:
            raise InvalidMedia({"filename": [str(error)]}) from error
    return filename


def describe(state: State, record: Media, upload: Upload) -> None:
    """Fill in what the first bytes show, and let the host look at them before any is kept.

    :param record: Not yet in a database.
    :raises UploadRejected: The host's validator refuses them.
    """
    _with(record, mime_type=upload.mime_type, filename=upload.filename, **_measured(record, upload))
    classify(record, upload.mime_type)
    _validate(state, record, upload)


def _measured(record: Media, upload: Upload) -> dict[str, int]:
    """Width and height of an image, where the record has fields for them that the caller left to
    us."""
    found = upload.dimensions
    if found is None or max(found) > schemas.MAX_INTEGER:
        return {}
    held = vars(record)
    return found._asdict() if held.get("width", 0) is None and held.get("height", 0) is None else {}


def _validate(state: State, record: Media, upload: Upload) -> None:
    """Let the host look at an upload before its bytes are kept."""
    if state.settings.validator is not None:
        state.settings.validator(record, upload.head)


def classify(record: Media, mime_type: str) -> None:
    """Fill in the type that the caller left to us."""
    if isinstance(record, CourseResource):
        if record.resource_type is None:
            _with(record, resource_type=resource_type(mime_type))
        if record.resource_name is None:
            _with(record, resource_name=record.filename)
    elif isinstance(record, MediaStorage) and record.media_type is None:
        _with(record, media_type=media_type(mime_type))


def _storage(state: State, storage_type: str) -> Storage:
    try:
        return state.storages[storage_type]
    except KeyError:
        raise InvalidMedia({"storageType": [f"{storage_type!r} is not set up here."]}) from None


def _publish(state: State, record: M, upload: Upload, place: Place, viewer: Viewer | None) -> M:
    changes = _published(upload) | place | {"version": 1}  # the first that readers see
    changed = publish(state, record, changes, viewer=viewer)
    if changed is None:
        raise MediaConflict("the upload took so long that it was swept away as abandoned")
    return changed


def publish(
    state: State, record: M, changes: dict[str, t.Any], *, viewer: Viewer | None
) -> M | None:
    """Make an unfinished record available.

    :param viewer: As of :func:`create`.
    :return: The record after that; ``None`` if it is unfinished no more.
    """
    where = ours(record, PENDING)

    def update() -> M | None:
        return state.repository.update(type(record), record.id, changes, where=where)

    return write_main(state, record, viewer, update)


def _published(upload: Upload) -> dict[str, t.Any]:
    """What is known of a record when its bytes have come."""
    return {
        "state": AVAILABLE,
        "file_size": upload.size,
        "checksum": upload.checksum,
        "updated_at": now(),
    }


def _bury(state: State, record: Media) -> None:
    """Remove the bytes of a record that was deleted. The record itself goes with the sweep."""
    is_free = record.storage_key is None or delete_bytes(
        state, state.storage_of(record), record.storage_key
    )
    reach("delete:bytes")
    if not is_free:
        return  # it keeps its key taken
    state.repository.bury(type(record), record.id)
    reach("delete:done")


def _finish(state: State, record: Media) -> None:
    """Remove a record that readers no longer see: the bytes first, so that no bytes are left
    without a record."""
    if record.storage_key is not None:
        state.storage_of(record).delete(record.storage_key)
    reach("sweep:bytes")
    state.repository.remove(type(record), record.id)
    reach("sweep:done")


def _discard(state: State, record: Media, storage: Storage) -> None:
    """Take back a record that was not acknowledged.

    It may be available after all, where the answer to the last change was lost; so nobody may see
    it before its bytes go. If somebody has changed it since, it stays: that was acknowledged.
    """
    for where in (ours(record, PENDING), ours(record, AVAILABLE) | {"version": 1}):
        changes = {"state": DELETING, "updated_at": now()}
        if state.repository.update(type(record), record.id, changes, where=where):
            _finish(state, record)
            return
    current = state.repository.get(type(record), record.id)
    if current is None or current.storage_key != record.storage_key:
        storage.delete(
            t.cast(str, record.storage_key)
        )  # it was swept, the bytes that came after it were not


def clean_up(action: t.Callable[..., object], *args: t.Any) -> None:
    """Do what the sweep would do later. A failure is logged, not raised over the error that brought
    us here."""
    try:
        action(*args)
    except DualMediaError:
        what = ", ".join(repr(arg) for arg in args if isinstance(arg, str | Media))
        logger.warning("left for the sweep: %s(%s)", action.__qualname__, what, exc_info=True)
