"""The life of a media record: created, its content replaced, deleted. The order of writes is the
whole point.

    create   record ``pending`` → bytes → record ``available``
    replace  new bytes under a new key → record names them → old bytes gone
    delete   record ``deleting`` → bytes gone → record gone, after the grace time
    trash    record ``trashed``, bytes kept → record ``available`` again,
             or deleted after the trash time

Readers see only ``available`` records. A process killed between any two steps leaves a complete
record, or an unfinished one that nobody sees and :func:`~flask_dualmedia.upkeep.sweeping.sweep`
takes away.

A change names the version of the record that it is built on. A statement that was given up, and
arrives when others have been acknowledged, changes nothing then.
"""

from __future__ import annotations

import logging
import typing as t
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from .. import quotas, schemas
from ..authorization import Viewer, find_named_owner, one_id, usual_id
from ..content.mime_types import OCTET_STREAM, declared_type, one_type
from ..content.sniffing import media_type, resource_type
from ..content.uploads import Upload
from ..databases import storable
from ..databases.storable import camelcase
from ..errors import (
    DatabaseBusy,
    DualMediaError,
    InvalidMedia,
    JournalFull,
    MediaConflict,
    MediaNotFound,
    OwnerNotFound,
    QuotaBusy,
    RecordRefused,
    Unavailable,
    UnsupportedType,
    UploadRejected,
    WritesRefused,
)
from ..failpoints import reach
from ..models import (
    AVAILABLE,
    DELETING,
    PENDING,
    TRASHED,
    CourseResource,
    Media,
    MediaStorage,
    now,
)
from ..owners.main_images import refuse_second_main, write_main
from ..owners.places import Place, placed, position_behind
from ..repositories.base import Listing, M
from ..signals import media_accessed, media_deleted, media_saved
from ..state import State
from ..storages.base import Storage, new_key
from ..storages.stored import Stored
from ..uploads.progress import in_time, kept_alive, ours
from ..uploads.tickets import delete_bytes, drop_bytes

logger = logging.getLogger("flask_dualmedia")

EXTERNAL = "external"

ATTEMPTS = 10
"""How often a change is built anew on what others have made of the record meanwhile."""

Check = Callable[[Media], object]
"""Raises an error where a record, as it is now, is not to be changed."""

_CONTENT_FIELDS = {"width", "height", "duration"}
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
    :param upload: The bytes, or ``None`` for external media, whose URL is in ``fields``.
    :param unplaced: See :func:`~flask_dualmedia.owners.places.placed`.
    :param viewer: Whoever asked for it over HTTP, for whom hidden main images give way; ``None``
        for the host.
    :raises OwnerNotFound: The document that it should belong to does not exist. Nothing is written.
    :raises InvalidMedia: Fields contradict each other.
    :raises UploadRejected: The bytes break a rule. Nothing is kept.
    :raises MediaConflict: It would be a second main image of its product. Nothing is kept.
    """
    if upload is None:
        external = create_external(
            state,
            kind,
            [fields],
            uploaded_by=uploaded_by,
            unplaced=unplaced,
            viewer=viewer,
        )
        return external[0]

    storage_type = fields.pop("storage_type", None)
    storable.check(kind, fields | {"uploaded_by": uploaded_by})
    record = kind.new(uploaded_by=uploaded_by, **fields)
    check_owner(state, record)
    storage_type = storage_type or state.settings.default_storages[kind.kind]
    storage = _storage(state, storage_type)
    refuse_second_main(state, record, viewer)

    upload.open()
    keeps_id = "id" in fields
    _set_values(record, storage_type=storage_type, storage_key=new_key(record.id))
    describe(state, record, upload)
    storable.check(kind, record.values())
    quotas.check(state, record, upload.least_size)

    reach("create:begin")
    blocks = upload.blocks()
    if _goes_whole(state, upload, storage):
        content = list(blocks)
        whole = _create_at_once(
            state,
            record,
            upload,
            content,
            unplaced,
            viewer,
            keeps_id=keeps_id,
        )
        if whole is not None:
            media_saved.send(state.app, record=whole)
            return whole
        blocks = iter(content)

    if storage is state.home.storage:
        state.home.check_room(uploaded_by, upload.least_size)
    state.repository.add(record, keeps_id=keeps_id)
    reach("create:pending")
    available = _complete(state, record, storage, upload, blocks, unplaced, viewer)
    reach("create:available")
    media_saved.send(state.app, record=available)
    return available


def _goes_whole(state: State, upload: Upload, storage: Storage) -> bool:
    """Tell whether a record and its bytes can be written in one step.

    The bytes must be few, and go where the record goes. With a quota there is a look at the others
    in between.
    """
    if not upload.is_read or storage is not state.home.storage:
        return False
    return state.home.takes_whole and not quotas.are_set(state)


def _create_at_once(
    state: State,
    record: M,
    upload: Upload,
    content: list[bytes],
    unplaced: t.Collection[str],
    viewer: Viewer | None,
    *,
    keeps_id: bool,
) -> M | None:
    """Keep new media and its bytes in one statement.

    :return: The available record; ``None`` if it has to be kept in steps. It has the id and the key
        then under which that may be done.
    """
    kind = type(record)
    values = record.values() | _published(upload)

    def add(place: Place) -> tuple[M, bool]:
        whole = kind.from_values(values | place)

        def add_whole() -> bool:
            return state.home.add_whole(whole, content, keeps_id=keeps_id)

        is_added = write_main(state, whole, viewer, add_whole)
        return whole, is_added

    whole, is_added = placed(state, record, unplaced, add)
    if is_added:
        return whole
    _set_values(record, id=whole.id, storage_key=whole.storage_key)
    return None


def _complete(
    state: State,
    record: M,
    storage: Storage,
    upload: Upload,
    blocks: Iterator[bytes],
    unplaced: t.Collection[str],
    viewer: Viewer | None,
) -> M:
    """Keep the bytes of a pending record, and make it available. If that fails, both go."""
    key = t.cast(str, record.storage_key)

    def publish_at(place: Place) -> M:
        return _publish(state, record, upload, place, viewer)

    try:
        storage.put(key, kept_alive(state, record, blocks))
        reach("create:bytes")
        with quotas.reserved(state, record, upload.size):
            return placed(state, record, unplaced, publish_at)
    except JournalFull:
        # It was never published: SQL, if it has it at all, has it as pending.
        with suppress(Unavailable):
            storage.delete(key)
        with suppress(Unavailable):
            state.repository.remove(type(record), record.id)
        raise
    except BaseException:
        # A worker that is told to stop raises SystemExit here, and has the time to clean up.
        clean_up(_discard, state, record)
        raise


def create_external(
    state: State,
    kind: type[M],
    fields_of_each: t.Sequence[dict[str, t.Any]],
    *,
    uploaded_by: str | None,
    unplaced: t.Collection[str] = (),
    viewer: Viewer | None = None,
) -> list[M]:
    """Keep new external media of one owner, all or none.

    :param fields_of_each: For each record, values checked by the kind's schema.
    :param unplaced: As for :func:`create`, for the first one. The positions of the others follow
        it.
    :param viewer: As for :func:`create`.
    :raises OwnerNotFound: As :func:`create`, as are the others.
    """
    storage_types = [fields.pop("storage_type", None) for fields in fields_of_each]
    for fields in fields_of_each:
        storable.check(kind, fields | {"uploaded_by": uploaded_by})
    records = [kind.new(uploaded_by=uploaded_by, **fields) for fields in fields_of_each]
    check_owner(state, *records)
    for record, storage_type in zip(records, storage_types, strict=True):
        _describe_external(record, storage_type)

    def write() -> None:
        if len(records) == 1:
            state.repository.add(records[0])
        else:
            state.repository.add_all(records)

    def add(place: Place) -> None:
        _set_values(records[0], **place)
        if "position" in place:
            _place_in_a_row(records, place["position"])
        write_main(state, records[0], viewer, write)

    placed(state, records[0], unplaced, add)
    reach("create:external")
    for record in records:
        media_saved.send(state.app, record=record)
    return records


def _describe_external(record: Media, storage_type: str | None) -> None:
    """Make a new record one of external media.

    :raises InvalidMedia: It is to be in a storage, or has no URL.
    """
    mime_type = declared_type(record.mime_type)
    _set_values(record, mime_type=mime_type, state=AVAILABLE, storage_type=EXTERNAL)
    if storage_type not in (None, EXTERNAL):
        raise InvalidMedia({"storageType": [f"Without a file it can only be {EXTERNAL!r}."]})
    if record.external_url is None:
        raise InvalidMedia({camelcase(record.url_field): ["Missing: send a file or a URL."]})
    classify(record, mime_type or "")


def _place_in_a_row(records: Iterable[Media], first_position: int) -> None:
    for number, record in enumerate(records):
        _set_values(record, position=position_behind(first_position, number))


def foresee(state: State, kind: type[Media], fields: dict[str, t.Any], *, viewer: Viewer) -> None:
    """Refuse an upload whose bytes are still to come, if :func:`create` would refuse it unread.

    :param viewer: As for :func:`create`.
    :raises OwnerNotFound: As :func:`create`, as are the others.
    """
    values = dict(fields)
    storage_type = values.pop("storage_type", None)
    record = kind.new(**values)
    check_owner(state, record)
    _storage(state, storage_type or state.settings.default_storages[kind.kind])
    refuse_second_main(state, record, viewer)


def replace(state: State, record: M, upload: Upload) -> M:
    """Give a record other bytes. The old ones stay until the new ones are committed.

    :raises InvalidMedia: The record is external media.
    :raises UploadRejected: The bytes break a rule. The old ones stay.
    :raises MediaConflict: Another change of the content won the race, or the record was deleted
        meanwhile.
    """
    original = state.original(record)
    if original is None:
        message = "External media has no content here; change its URL instead."
        raise InvalidMedia({"storageType": [message]})

    storage = original.storage
    upload.open()
    changes = _changes_with(state, record, upload)
    quotas.check(state, record, upload.least_size - original.size)
    key = new_key(record.id)
    tried_key = None

    reach("replace:begin")
    blocks = upload.blocks()
    if _goes_whole(state, upload, storage):
        content = list(blocks)
        replaced = _replace_at_once(state, record, original, upload, content, changes, key)
        if replaced is not None:
            media_saved.send(state.app, record=replaced)
            return replaced
        # Under the other key they may be all the same.
        tried_key, key = key, new_key(record.id)
        blocks = iter(content)

    _put_replacement(state, storage, key, blocks)
    changes |= _published(upload) | {"storage_key": key}
    added_size = upload.size - original.size
    replaced = _name_replacement(state, record, storage, key, changes, added_size)
    if replaced is None:
        clean_up(storage.delete, key)
        replaced = state.repository.get(type(record), record.id)
        if replaced is None or tried_key is None or replaced.storage_key != tried_key:
            raise MediaConflict("the content was replaced or deleted by another request meanwhile")

    reach("replace:committed")
    clean_up(drop_bytes, state, replaced, original, record.storage_type)
    reach("replace:cleaned")
    media_saved.send(state.app, record=replaced)
    return replaced


def _changes_with(state: State, record: Media, upload: Upload) -> dict[str, t.Any]:
    """The changes that other bytes make to a record, as far as their beginning shows it.

    :raises UploadRejected: The host's validator refuses them.
    """
    kind = type(record)
    changes: dict[str, t.Any] = {"mime_type": upload.mime_type}
    if upload.filename != record.filename:
        changes["filename"] = upload.filename
    changes |= dict.fromkeys(_CONTENT_FIELDS.intersection(record.field_names()))

    expected = kind.from_values(record.values() | changes)
    changes |= _measured(expected, upload)
    storable.check(kind, changes)
    _set_values(expected, **changes)
    _validate(state, expected, upload)
    return changes


def _replace_at_once(
    state: State,
    record: M,
    original: Stored,
    upload: Upload,
    content: list[bytes],
    changes: dict[str, t.Any],
    key: str,
) -> M | None:
    """Replace bytes in one statement.

    :return: The record after the change; ``None`` if it has to be done in steps.
    """
    where = {"state": AVAILABLE, "storage_key": original.key, "version": record.version}
    all_changes = changes | _published(upload) | {"storage_key": key}

    replaced = state.home.replace_whole(record, all_changes, where, content)
    if replaced is None:
        return None
    if not replaced.is_clean:
        clean_up(original.storage.delete, original.key)
    return replaced.record


def _put_replacement(state: State, storage: Storage, key: str, blocks: Iterator[bytes]) -> None:
    try:
        storage.put(key, in_time(state, blocks))
        reach("replace:bytes")
    except BaseException:
        clean_up(storage.delete, key)
        raise


def _name_replacement(
    state: State,
    record: M,
    storage: Storage,
    key: str,
    changes: dict[str, t.Any],
    added_size: int,
) -> M | None:
    """Have a record name its new bytes. They go if it is certain that it does not name them."""
    try:
        with quotas.reserved(state, record, added_size):
            # A database that does not answer may have made the change all the same: then neither
            # bytes are deleted.
            return change(state, record, changes, same_content=True)
    except (UploadRejected, QuotaBusy, RecordRefused, DatabaseBusy, WritesRefused):
        clean_up(storage.delete, key)
        raise


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
    :param viewer: As for :func:`create`.
    :raises InvalidMedia: A URL for media whose bytes we keep.
    :raises MediaConflict: It would be a second main image of its product.
    :raises MediaNotFound: It was deleted meanwhile.
    """
    if record.url_field in changes and record.storage_type != EXTERNAL:
        message = "Only external media can be given a URL."
        raise InvalidMedia({camelcase(record.url_field): [message]})
    if not changes:
        return record
    if "filename" in changes:
        changes = changes | {"filename": _checked_name(state, record, changes["filename"])}

    def new_values(current: Media) -> dict[str, t.Any]:
        values = changes | {"updated_at": now()}
        becomes_private = current.is_public and not changes.get("is_public", True)
        if becomes_private:
            values["links_revoked_at"] = current.next_revocation()
        return values

    def write() -> M | None:
        return change(state, record, new_values, check=check)

    edited = write_main(state, record, viewer, write)
    if edited is None:
        raise MediaNotFound(record.kind, record.id)
    media_saved.send(state.app, record=edited)
    return edited


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
    kind = type(record)
    current: M | None = record
    for _ in range(attempts):
        check(current)
        where = {"state": in_state, "version": current.version}
        if same_content:
            # Workers of an earlier version replace bytes under one version.
            where["storage_key"] = record.storage_key
        values = changes
        if callable(values):
            values = values(current)

        changed = state.repository.update(kind, record.id, values, where=where)
        if changed is not None:
            return changed

        if in_state == AVAILABLE:
            current = state.repository.get(kind, record.id)
        else:
            current = state.repository.find(kind, record.id)
        if current is None or current.state != in_state:
            return None
        if same_content and current.storage_key != record.storage_key:
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
    changes = {"state": DELETING, "updated_at": now()}
    deleted = change(state, record, changes, check=check)
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
    number_deleted = 0
    owner_id = usual_id(state, reference_type, reference_id)
    for kind, where in quotas.of_owner(reference_type, owner_id).items():
        for record in state.repository.select(Listing(kind, where)):
            with suppress(MediaNotFound):  # somebody else deletes it too
                delete(state, record)
                number_deleted += 1
    return number_deleted


def count_access(state: State, kind: type[Media], media_id: uuid.UUID) -> None:
    """Count one access.

    :raises MediaNotFound: There is no such record.
    """
    if not state.repository.count_access(kind, media_id, now()):
        raise MediaNotFound(kind.kind, media_id)
    media_accessed.send(state.app, kind=kind, media_id=media_id, count=1)


def purge(state: State, record: Media) -> bool:
    """Delete a record that is in the trash, unless somebody has brought it back.

    :return: Whether it was deleted.
    """
    where = {"state": TRASHED, "version": record.version}
    changes = {"state": DELETING, "updated_at": now()}
    deleted = state.repository.update(type(record), record.id, changes, where=where)
    if deleted is None:
        return False
    _bury(state, deleted)
    return True


def check_owner(state: State, *records: Media) -> None:
    """Make sure that the document exists that records are to belong to.

    Only types whose collection the host has named can be checked. The records name the document by
    its one id afterwards, however it was spelled.

    :param records: Not yet in a database, and all of one owner.
    :raises OwnerNotFound: There is no such document.
    """
    reference_type = records[0].reference_type
    reference_id = records[0].owner_id
    if reference_type not in state.settings.references:
        return

    document = find_named_owner(state, reference_type, reference_id)
    if document is None:
        raise OwnerNotFound(reference_type, reference_id)

    owner_id = one_id(state, reference_id, document["_id"])
    for record in records:
        _set_values(record, **{record.owner_field: owner_id})


def _set_values(record: Media, **values: t.Any) -> None:
    """Set fields of a record that is not in a database, past its instrumented attributes."""
    vars(record).update(values)


def _checked_name(state: State, record: Media, filename: str | None) -> str | None:
    """A new name, if it fits the bytes that we keep."""
    if record.storage_key is None:
        return filename

    policy = state.settings.policies[record.kind]
    mime_type = one_type(record.mime_type) or OCTET_STREAM
    try:
        policy.check_name(filename, mime_type)
    except UnsupportedType as error:
        raise InvalidMedia({"filename": [str(error)]}) from error
    return filename


def describe(state: State, record: Media, upload: Upload) -> None:
    """Fill in what the first bytes show, and let the host look at them before any is kept.

    :param record: Not yet in a database.
    :raises UploadRejected: The host's validator refuses them.
    """
    measured = _measured(record, upload)
    _set_values(record, mime_type=upload.mime_type, filename=upload.filename, **measured)
    classify(record, upload.mime_type)
    _validate(state, record, upload)


def _measured(record: Media, upload: Upload) -> dict[str, int]:
    """Width and height of an image, if the caller left both of these fields to us."""
    dimensions = upload.dimensions
    if dimensions is None or max(dimensions) > schemas.MAX_INTEGER:
        return {}

    values = vars(record)
    is_left_to_us = values.get("width", 0) is None and values.get("height", 0) is None
    if not is_left_to_us:
        return {}
    return dimensions._asdict()


def _validate(state: State, record: Media, upload: Upload) -> None:
    """Let the host look at an upload before its bytes are kept."""
    validator = state.settings.validator
    if validator is not None:
        validator(record, upload.head)


def classify(record: Media, mime_type: str) -> None:
    """Fill in the type that the caller left to us."""
    if isinstance(record, CourseResource):
        if record.resource_type is None:
            _set_values(record, resource_type=resource_type(mime_type))
        if record.resource_name is None:
            _set_values(record, resource_name=record.filename)
    elif isinstance(record, MediaStorage) and record.media_type is None:
        _set_values(record, media_type=media_type(mime_type))


def _storage(state: State, storage_type: str) -> Storage:
    try:
        return state.storages[storage_type]
    except KeyError:
        message = f"{storage_type!r} is not set up here."
        raise InvalidMedia({"storageType": [message]}) from None


def _publish(state: State, record: M, upload: Upload, place: Place, viewer: Viewer | None) -> M:
    first_version = {"version": 1}  # the first that readers see
    changes = _published(upload) | place | first_version
    published = publish(state, record, changes, viewer=viewer)
    if published is None:
        raise MediaConflict("the upload took so long that it was swept away as abandoned")
    return published


def publish(
    state: State,
    record: M,
    changes: dict[str, t.Any],
    *,
    viewer: Viewer | None,
) -> M | None:
    """Make an unfinished record available.

    :param viewer: As for :func:`create`.
    :return: The record after that; ``None`` if it is unfinished no more.
    """
    where = ours(record, PENDING)

    def update() -> M | None:
        return state.repository.update(type(record), record.id, changes, where=where)

    return write_main(state, record, viewer, update)


def _published(upload: Upload) -> dict[str, t.Any]:
    """The values that a record gets when its bytes have come."""
    return {
        "state": AVAILABLE,
        "file_size": upload.size,
        "checksum": upload.checksum,
        "updated_at": now(),
    }


def _bury(state: State, record: Media) -> None:
    """Remove the bytes of a record that was deleted. The record itself goes with the sweep."""
    original = state.original(record)
    is_free = original is None or delete_bytes(state, original)
    reach("delete:bytes")
    if not is_free:
        return  # it keeps its key taken
    state.repository.bury(type(record), record.id)
    reach("delete:done")


def remove_unseen(state: State, record: Media) -> None:
    """Remove a record that readers no longer see.

    Its bytes go first, so that no bytes are left without a record.
    """
    original = state.original(record)
    if original is not None:
        original.delete()
    reach("sweep:bytes")
    state.repository.remove(type(record), record.id)
    reach("sweep:done")


def _discard(state: State, record: Media) -> None:
    """Take back a record that was not acknowledged.

    It may be available after all, where the answer to the last change was lost; so nobody may see
    it before its bytes go. If somebody has changed it since, it stays: that was acknowledged.
    """
    kind = type(record)
    pending = ours(record, PENDING)
    just_published = ours(record, AVAILABLE) | {"version": 1}
    for where in (pending, just_published):
        changes = {"state": DELETING, "updated_at": now()}
        if state.repository.update(kind, record.id, changes, where=where):
            remove_unseen(state, record)
            return

    current = state.repository.get(kind, record.id)
    original = state.original(record)
    if original is None:
        return
    if current is None or current.storage_key != original.key:
        # It was swept, the bytes that came after it were not.
        original.delete()


def clean_up(action: Callable[..., object], *args: t.Any) -> None:
    """Do now what the sweep would do later.

    A failure is logged, and not raised over the error that brought us here.
    """
    try:
        action(*args)
    except DualMediaError:
        subjects = [repr(arg) for arg in args if isinstance(arg, str | Media)]
        subject = ", ".join(subjects)
        logger.warning("left for the sweep: %s(%s)", action.__qualname__, subject, exc_info=True)
