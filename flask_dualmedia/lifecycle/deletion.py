"""The end of a record and its bytes: record ``deleting`` → bytes gone → record gone.

Its variants go first. Whatever cannot be done now is left for the sweep.
"""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Callable
from contextlib import suppress

from .. import events, quotas
from ..authorization import usual_id
from ..errors import DatabaseUnavailable, MediaNotFound
from ..failpoints import reach
from ..models import AVAILABLE, DELETING, PENDING, TRASHED, Media, MediaRecord, MediaVariant, now
from ..repositories.base import Listing
from ..state import State
from ..storages.stored import Stored
from ..uploads.progress import ours
from ..uploads.tickets import delete_bytes
from .changes import Check, change

logger = logging.getLogger("flask_dualmedia")


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
    clean_up(remove_variants, state, deleted)
    clean_up(_bury, state, deleted)
    events.removed(state, deleted)


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


def purge(state: State, record: MediaRecord) -> bool:
    """Delete a record that is in the trash, unless somebody has brought it back.

    :return: Whether it was deleted.
    """
    where = {"state": TRASHED, "version": record.version}
    changes = {"state": DELETING, "updated_at": now()}
    deleted = state.repository.update(type(record), record.id, changes, where=where)
    if deleted is None:
        return False
    clean_up(remove_variants, state, deleted)
    _bury(state, deleted)
    return True


def remove_variants(state: State, original: MediaRecord) -> None:
    """Remove the variants of a record that was deleted, or has been given other bytes.

    Those that were made from the bytes that it has now stay.
    """
    variants: list[MediaVariant] = []
    with suppress(DatabaseUnavailable):  # then it was deleted in the journal, where none are
        variants = state.repository.variants_of([original.id])

    for variant in variants:
        is_current = original.state == AVAILABLE and variant.is_of(original)
        if not is_current and variant.state != DELETING:
            remove_variant(state, variant)


def remove_variant(state: State, variant: MediaVariant) -> bool:
    """Remove a variant and its bytes.

    Its id does not stay taken: what arrives late is swept, as it can be made again.

    :return: Whether that was done: not if something happened to it since it was read.
    """
    where = {"state": variant.state, "version": variant.version}
    changes = {"state": DELETING, "updated_at": now()}
    deleted = state.repository.update(MediaVariant, variant.id, changes, where=where)
    if deleted is None:
        return False
    reach("variant:marked")
    remove_unseen(state, deleted)
    return True


def _bury(state: State, record: MediaRecord) -> None:
    """Remove the bytes of a record that was deleted. The record itself goes with the sweep."""
    original = state.original(record)
    is_free = original is None or delete_bytes(state, original)
    reach("delete:bytes")
    if not is_free:
        return  # it keeps its key taken
    state.repository.bury(type(record), record.id)
    reach("delete:done")


def remove_unseen(state: State, record: MediaRecord) -> None:
    """Remove a record that readers no longer see.

    Its bytes go first, so that no bytes are left without a record.
    """
    original = state.original(record)
    if original is not None:
        original.delete()
    reach("sweep:bytes")
    state.repository.remove(type(record), record.id)
    reach("sweep:done")


def discard_new(state: State, record: MediaRecord) -> None:
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
    except Exception:
        # A storage class of the host's may raise anything.
        subjects = [repr(arg) for arg in args if isinstance(arg, str | MediaRecord | Stored)]
        subject = ", ".join(subjects)
        logger.warning("left for the sweep: %s(%s)", action.__qualname__, subject, exc_info=True)
