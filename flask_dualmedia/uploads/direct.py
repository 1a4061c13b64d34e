"""Direct uploads: clients send bytes to a storage themselves, with a request that we have signed.

    begin    record ``pending``, with the size, type and checksum announced
             → the client gets the right to put the bytes there
    confirm  bytes looked at where they are
             → record ``available``; or, if they are refused, ``deleting``

Until then nobody sees them. If an upload is never confirmed, the sweep takes it away with its
bytes, like any other unfinished upload.
"""

from __future__ import annotations

import typing as t
from datetime import datetime, timedelta

from .. import events, lifecycle, quotas
from ..content.mime_types import OCTET_STREAM, claim_of, declared_type, served_type
from ..content.sniffing import media_type, named_type, resource_type
from ..content.uploads import BLOCK_SIZE, Upload, upload_for
from ..databases import storable
from ..errors import (
    BytesNotFound,
    FileTooLarge,
    IncompleteUpload,
    InvalidMedia,
    MediaConflict,
    OwnerNotFound,
    RecordRefused,
    UploadRejected,
)
from ..failpoints import reach
from ..models import AVAILABLE, DELETING, PENDING, Media, new_id, now
from ..repositories.base import K
from ..state import State
from ..storages.base import DirectStorage, Stat, Ticket, new_key
from ..storages.stored import Stored
from ..storages.whole import BlockReader
from ..upkeep.chores import clear_expired
from ..views.callers import Caller
from .progress import kept_alive, ours
from .tickets import delete_bytes, seconds_of_ticket


class Begun(t.NamedTuple):
    """An upload that the client may go on with."""

    record: Media
    """The pending record."""
    ticket: Ticket
    """The request that the client is to send to the storage."""
    expires_at: datetime
    """When the storage stops taking that request."""


def begin(
    state: State,
    kind: type[Media],
    fields: dict[str, t.Any],
    *,
    caller: Caller,
) -> Begun:
    """Let a client put bytes into a storage.

    :param fields: Values checked by the kind's schema, with ``filename``, ``mime_type``,
        ``file_size`` in bytes and ``checksum``, SHA-256 hex, of the bytes that are to come.
    :raises OwnerNotFound: The same as for :func:`~flask_dualmedia.lifecycle.create`, like the other
        errors.
    :raises InvalidMedia: The storage takes no bytes from clients.
    :raises TooManyUnfinished: The uploader has begun too many that have not ended.
    """
    default_storage = state.settings.default_storages[kind.kind]
    storage_type = fields.pop("storage_type", None) or default_storage
    lifecycle.foresee(state, kind, fields | {"storage_type": storage_type}, viewer=caller)
    storage = _direct_storage(state, storage_type)
    size: int = fields["file_size"]
    claim = claim_of(fields["mime_type"])
    _check_announcement(state, kind, storage, fields["filename"], claim, size)
    media_id = new_id()
    key = new_key(media_id, of_client=True)
    place = {"id": media_id, "storage_type": storage_type, "storage_key": key}
    record = _announced_record(kind, fields | place, claim, caller)
    # The sweep must not come while the request may still be begun.
    seconds = seconds_of_ticket(state)
    ticket = storage.ticket(
        key,
        size=size,
        # The bucket may have other readers than those that we send there.
        mime_type=served_type(declared_type(claim)),
        checksum=fields["checksum"],
        seconds=seconds,
    )
    clear_expired(state)

    def add() -> None:
        with quotas.reserved(state, record, size):
            state.repository.add(record, keeps_id=True)

    def take_back(_: None) -> None:
        # Nobody has a ticket for its key yet.
        lifecycle.clean_up(state.repository.remove, kind, record.id)

    quotas.admit(state, caller.identity, add, take_back)
    reach("direct:pending")
    return Begun(record, ticket, now() + timedelta(seconds=seconds))


def _direct_storage(state: State, storage_type: str) -> DirectStorage:
    """The storage that a client is to put bytes into.

    :raises InvalidMedia: It takes no bytes from clients.
    """
    storage = state.storages[storage_type]
    if not isinstance(storage, DirectStorage):
        message = f"{storage_type!r} takes no bytes from clients: upload them here."
        raise InvalidMedia({"storageType": [message]})
    return storage


def _check_announcement(
    state: State,
    kind: type[Media],
    storage: DirectStorage,
    filename: str,
    claim: str | None,
    size: int,
) -> None:
    """Check the size, name and type that a client announces.

    :raises FileTooLarge: The policy of the kind, or the storage, takes no file of this size.
    """
    policy = state.settings.policies[kind.kind]
    limit = min(policy.max_size or storage.max_direct_size, storage.max_direct_size)
    if size > limit:
        raise FileTooLarge(limit)
    policy.check_announcement(filename, claim)


def _announced_record(
    kind: type[Media],
    fields: dict[str, t.Any],
    claim: str | None,
    caller: Caller,
) -> Media:
    """The pending record of bytes that have not come yet."""
    values = fields | {"mime_type": claim, "uploaded_by": caller.identity}
    record = kind.new(**values)
    lifecycle.classify(record, _expected_type(record))
    storable.check(kind, record.values())
    return record


def confirm(state: State, record: K, *, caller: Caller) -> K:
    """Make media of bytes that a client has put into a storage. The second time the answer is the
    same.

    :param record: A record that :func:`begin` made.
    :raises MediaConflict: Nothing has come yet; or it would be a second main image; or it took so
        long that it was swept away.
    :raises UploadRejected: The bytes are not those announced, or break a rule, as with any upload.
        They are removed.
    """
    if record.state == AVAILABLE:
        return record
    original = state.original(record)
    stat = original and original.stat()
    if original is None or stat is None:
        raise MediaConflict("the bytes have not come yet")

    try:
        published = _publish(state, record, original, stat, caller)
    except (UploadRejected, RecordRefused, OwnerNotFound):
        # Another request may have confirmed it at the same time, and so have taken the place in the
        # quota that this one did not get.
        finished = _finished(state, record)
        if finished is not None:
            return finished
        lifecycle.clean_up(discard, state, record)
        raise
    except BytesNotFound:  # swept away at this moment
        published = None
    if published is None:
        finished = _finished(state, record)
        if finished is None:
            raise MediaConflict("the upload took so long that it was swept away as abandoned")
        return finished

    reach("direct:available")
    events.published(state, published)
    return published


def discard(state: State, record: Media) -> None:
    """Remove an upload that is refused, with its bytes. The sweep removes the record, when no
    client can put other bytes there any more."""
    changes = {"state": DELETING, "updated_at": now()}
    where = ours(record, PENDING)
    discarded = state.repository.update(type(record), record.id, changes, where=where)
    if discarded is None:
        return
    original = state.original(record)
    if original is not None:
        delete_bytes(state, original)


def _publish(
    state: State,
    record: K,
    original: Stored,
    stat: Stat,
    caller: Caller,
) -> K | None:
    """Check the bytes, and make the record available.

    :param original: The bytes as they were announced.
    :param stat: What the storage says about them.
    :return: The record as it is then; ``None`` if it is not pending any more.
    """
    size = original.size
    if stat.size != size:
        raise IncompleteUpload(f"{stat.size} bytes came of the {size} announced")
    described = _described(state, record, original, stat)
    if stat.checksum not in (None, record.checksum):
        raise IncompleteUpload("the bytes do not match the checksum announced")
    reach("direct:checked")

    old_values = record.values()
    changes: dict[str, t.Any] = {}
    for name, value in described.values().items():
        if value != old_values[name]:
            changes[name] = value
    changes |= {"state": AVAILABLE, "updated_at": now()}
    with quotas.reserved(state, record, size):
        return lifecycle.publish(state, record, changes, viewer=caller)


def _described(state: State, record: K, original: Stored, stat: Stat) -> K:
    """A copy of the record with what its bytes show. All of them are read only if the storage does
    not know their checksum, or if the first ones do not show enough."""
    described = type(record).from_values(record.values())
    lifecycle.check_owner(state, described)
    is_whole = stat.checksum is None
    upload = _upload(state, record, original, is_whole=is_whole)
    upload.open()
    if not is_whole and not upload.is_measured:
        is_whole = True
        upload = _upload(state, record, original, is_whole=True)
        upload.open()

    _forget_guesses(described)
    lifecycle.describe(state, described, upload)
    if is_whole:
        for _ in kept_alive(state, record, upload.blocks()):
            pass
    return described


def _expected_type(record: Media) -> str:
    """The type, or the range of types, that bytes probably have before they have come."""
    return named_type(record.filename) or record.mime_type or OCTET_STREAM


def _forget_guesses(record: Media) -> None:
    """Forget what was guessed when the bytes were announced: now they show it themselves."""
    expected = _expected_type(record)
    for name, classify in (("resource_type", resource_type), ("media_type", media_type)):
        if vars(record).get(name) == classify(expected):
            vars(record)[name] = None


def _upload(
    state: State,
    record: Media,
    original: Stored,
    *,
    is_whole: bool,
) -> Upload:
    """The bytes as an upload like any other: all of them, or those that show their type."""
    stop = original.size
    if not is_whole:
        stop = min(stop, BLOCK_SIZE)
    pieces = original.open(0, stop)
    return upload_for(
        state.settings,
        type(record),
        t.cast(t.BinaryIO, BlockReader(pieces)),
        filename=record.filename,
        mime_type=record.mime_type,
        size=original.size,
        checksum=record.checksum,
    )


def _finished(state: State, record: K) -> K | None:
    """The record, if another request has confirmed it."""
    current = state.repository.find(type(record), record.id)
    if current is None or current.state != AVAILABLE:
        return None
    return current
