"""Uploads that clients send to a storage themselves, with a request that we have signed.

    begin    record ``pending``, with the size, type and checksum announced → the client gets the right to put them
    confirm  bytes looked at where they are → record ``available``; or, if they are refused, ``deleting``

Until then nobody sees them. What is never confirmed, the sweep takes away with its bytes, like any
other unfinished upload.
"""

from __future__ import annotations

import typing as t
from datetime import datetime, timedelta

from .. import lifecycle, quotas
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
from ..repositories.base import M
from ..signals import media_saved
from ..state import State
from ..storages.base import DirectStorage, Stat, Ticket, new_key
from ..storages.whole import BlockReader
from ..upkeep.chores import clear_expired
from ..views.callers import Caller
from .tickets import delete_bytes, seconds_of_ticket


class Begun(t.NamedTuple):
    """An upload that the client may go on with."""

    record: Media
    ticket: Ticket
    expires_at: datetime


def begin(state: State, kind: type[Media], fields: dict[str, t.Any], *, caller: Caller) -> Begun:
    """Let a client put bytes into a storage.

    :param fields: Values checked by the kind's schema, with ``filename``, ``mime_type``,
        ``file_size`` in bytes and ``checksum``, SHA-256 hex, of what is to come.
    :raises OwnerNotFound: As :func:`~flask_dualmedia.lifecycle.create`, as are the others.
    :raises InvalidMedia: The storage takes no bytes from clients.
    :raises TooManyUnfinished: The uploader has begun too many that have not ended.
    """
    storage_type = fields.pop("storage_type", None) or state.settings.default_storages[kind.kind]
    lifecycle.foresee(state, kind, fields | {"storage_type": storage_type}, viewer=caller)
    storage = state.storages[storage_type]
    if not isinstance(storage, DirectStorage):
        raise InvalidMedia(
            {"storageType": [f"{storage_type!r} takes no bytes from clients: upload them here."]}
        )
    filename, size = fields["filename"], fields["file_size"]
    claim = claim_of(fields["mime_type"])
    policy = state.settings.policies[kind.kind]
    limit = min(policy.max_size or storage.max_direct_size, storage.max_direct_size)
    if size > limit:
        raise FileTooLarge(limit)
    policy.check_announcement(filename, claim)
    media_id = new_id()
    key = new_key(media_id, of_client=True)
    known = {
        "id": media_id,
        "filename": filename,
        "mime_type": claim,
        "uploaded_by": caller.identity,
    }
    record = kind.new(**fields | known | {"storage_type": storage_type, "storage_key": key})
    lifecycle.classify(record, _expected_type(record))
    storable.check(kind, record.values())
    # The sweep must not come while the request may still be begun.
    seconds = seconds_of_ticket(state)
    kept_type = served_type(
        declared_type(claim)
    )  # the bucket may have other readers than those that we send there
    ticket = storage.ticket(
        key, size=size, mime_type=kept_type, checksum=fields["checksum"], seconds=seconds
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


def confirm(state: State, record: M, *, caller: Caller) -> M:
    """Make media of bytes that a client has put into a storage. A second time the answer is the
    same.

    :param record: One that :func:`begin` made.
    :raises MediaConflict: Nothing has come yet; or it would be a second main image; or it took so
        long that it was swept away.
    :raises UploadRejected: The bytes are not those announced, or break a rule, as of any upload.
        They are removed.
    """
    if record.state == AVAILABLE:
        return record
    storage, key = state.storage_of(record), t.cast(str, record.storage_key)
    stat = storage.stats([key]).get(key)
    if stat is None:
        raise MediaConflict("the bytes have not come yet")
    try:
        made = _publish(state, record, stat, caller)
    except (UploadRejected, RecordRefused, OwnerNotFound):
        # The place that it has no more may be taken by itself, confirmed by another request at the
        # same time.
        finished = _finished(state, record)
        if finished is not None:
            return finished
        lifecycle.clean_up(discard, state, record)
        raise
    except BytesNotFound:  # swept away at this moment
        made = None
    if made is None:
        finished = _finished(state, record)
        if finished is None:
            raise MediaConflict("the upload took so long that it was swept away as abandoned")
        return finished
    reach("direct:available")
    media_saved.send(state.app, record=made)
    return made


def discard(state: State, record: Media) -> None:
    """Remove an upload that is refused, with its bytes. The record goes with the sweep, when no
    client can put others there any more."""
    changes = {"state": DELETING, "updated_at": now()}
    discarded = state.repository.update(
        type(record), record.id, changes, where=lifecycle.ours(record, PENDING)
    )
    if discarded is not None:
        delete_bytes(state, state.storage_of(record), t.cast(str, record.storage_key))


def _publish(state: State, record: M, stat: Stat, caller: Caller) -> M | None:
    """The record as it is after that; nothing if it is pending no more."""
    size = t.cast(int, record.file_size)
    if stat.size != size:
        raise IncompleteUpload(f"{stat.size} bytes came of the {size} announced")
    described = type(record).from_values(record.values())
    lifecycle.check_owner(state, described)
    upload = _upload(state, record, stat, is_whole=stat.checksum is None)
    upload.open()
    is_read = stat.checksum is None or not upload.is_measured
    if is_read and stat.checksum is not None:
        upload = _upload(state, record, stat, is_whole=True)
        upload.open()
    _forget_guesses(described)
    lifecycle.describe(state, described, upload)
    if is_read:
        for _ in lifecycle.kept_alive(state, record, upload.blocks()):
            pass
    if stat.checksum not in (None, record.checksum):
        raise IncompleteUpload("the bytes do not match the checksum announced")
    reach("direct:checked")
    known = record.values()
    changes = {name: value for name, value in described.values().items() if value != known[name]}
    changes |= {"state": AVAILABLE, "updated_at": now()}
    with quotas.reserved(state, record, size):
        return lifecycle.publish(state, record, changes, viewer=caller)


def _expected_type(record: Media) -> str:
    """The type, or the range of types, that bytes are taken for before they have come."""
    return named_type(record.filename) or record.mime_type or OCTET_STREAM


def _forget_guesses(record: Media) -> None:
    """Leave to the bytes what a guess was made at when they were announced."""
    expected = _expected_type(record)
    for name, classify in (("resource_type", resource_type), ("media_type", media_type)):
        if vars(record).get(name) == classify(expected):
            vars(record)[name] = None


def _upload(state: State, record: Media, stat: Stat, *, is_whole: bool) -> Upload:
    """The bytes as an upload like any other: all of them, or those that show their type."""
    read = stat.size if is_whole else min(stat.size, BLOCK_SIZE)
    pieces = state.storage_of(record).open(t.cast(str, record.storage_key), 0, read)
    return upload_for(
        state,
        type(record),
        t.cast(t.BinaryIO, BlockReader(pieces)),
        filename=record.filename,
        mime_type=record.mime_type,
        size=stat.size,
        checksum=record.checksum,
    )


def _finished(state: State, record: M) -> M | None:
    """The record, if another request has confirmed it."""
    found = state.repository.find(type(record), record.id)
    return found if found is not None and found.state == AVAILABLE else None
