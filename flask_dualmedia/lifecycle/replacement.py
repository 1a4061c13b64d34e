"""Other bytes for a record: new bytes under a new key → record names them → old bytes gone, and the
variants that were made from them."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

from .. import events, quotas
from ..content.uploads import Upload
from ..databases import storable
from ..errors import (
    DatabaseBusy,
    InvalidMedia,
    MediaConflict,
    QuotaBusy,
    RecordRefused,
    UploadRejected,
    WritesRefused,
)
from ..failpoints import reach
from ..models import AVAILABLE, Media
from ..repositories.base import K
from ..state import State
from ..storages.base import Storage, new_key
from ..storages.stored import Stored
from ..uploads.progress import in_time
from ..uploads.tickets import drop_bytes
from .changes import change
from .deletion import clean_up, remove_variants
from .description import measured_size, set_values, uploaded_values, validate
from .one_step import goes_whole

_CONTENT_FIELDS = {"width", "height", "duration"}
"""Fields that other content makes wrong."""


def replace(state: State, record: K, upload: Upload) -> K:
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

    upload.open()
    changes = _changes_with(state, record, upload)
    quotas.check(state, record, upload.least_size - original.size)
    reach("replace:begin")

    replaced = None
    tried_key = None
    if goes_whole(state, upload, original.storage):
        tried_key = new_key(record.id)
        replaced = _replace_whole(state, record, original, upload, changes, tried_key)
    if replaced is None:
        replaced = _replace_in_steps(state, record, original, upload, changes, tried_key)

    clean_up(remove_variants, state, replaced)
    reach("replace:variants")
    events.published(state, replaced)
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
    changes |= measured_size(expected, upload)
    storable.check(kind, changes)
    set_values(expected, **changes)
    validate(state, expected, upload)
    return changes


def _replace_whole(
    state: State,
    record: K,
    original: Stored,
    upload: Upload,
    changes: dict[str, t.Any],
    key: str,
) -> K | None:
    """Replace bytes in one step.

    :return: The record after the change; ``None`` if it has to be done in several.
    """
    content = upload.content()
    where = {"state": AVAILABLE, "storage_key": original.key, "version": record.version}
    all_changes = changes | uploaded_values(upload) | {"storage_key": key}

    replaced = state.home.replace_whole(record, all_changes, where, content)
    if replaced is None:
        return None
    if not replaced.is_clean:
        clean_up(original.storage.delete, original.key)
    return replaced.record


def _replace_in_steps(
    state: State,
    record: K,
    original: Stored,
    upload: Upload,
    changes: dict[str, t.Any],
    tried_key: str | None,
) -> K:
    """Write new bytes, have the record name them, delete the old ones.

    :param tried_key: The key under which it was tried in one step. The bytes may be there all the
        same, so these get another one.
    """
    storage = original.storage
    key = new_key(record.id)
    _put_replacement(state, storage, key, upload.blocks())
    all_changes = changes | uploaded_values(upload) | {"storage_key": key}
    added_size = upload.size - original.size

    replaced = _name_replacement(state, record, storage, key, all_changes, added_size)
    if replaced is None:
        clean_up(storage.delete, key)
        replaced = _replaced_before(state, record, tried_key)

    reach("replace:committed")
    clean_up(drop_bytes, state, replaced, original, record.storage_type)
    reach("replace:cleaned")
    return replaced


def _replaced_before(state: State, record: K, tried_key: str | None) -> K:
    """The record with the bytes that it got in one step, of which nobody was told.

    :raises MediaConflict: It did not get them.
    """
    current = state.repository.get(type(record), record.id)
    if current is None or tried_key is None or current.storage_key != tried_key:
        raise MediaConflict("the content was replaced or deleted by another request meanwhile")
    return current


def _put_replacement(state: State, storage: Storage, key: str, blocks: Iterator[bytes]) -> None:
    try:
        storage.put(key, in_time(state, blocks))
        reach("replace:bytes")
    except BaseException:
        clean_up(storage.delete, key)
        raise


def _name_replacement(
    state: State,
    record: K,
    storage: Storage,
    key: str,
    changes: dict[str, t.Any],
    added_size: int,
) -> K | None:
    """Have a record name its new bytes. They go if it is certain that it does not name them."""
    try:
        with quotas.reserved(state, record, added_size):
            # A database that does not answer may have made the change all the same: then neither
            # bytes are deleted.
            return change(state, record, changes, same_content=True)
    except (UploadRejected, QuotaBusy, RecordRefused, DatabaseBusy, WritesRefused):
        clean_up(storage.delete, key)
        raise
