"""Tickets: with one of them, a client puts bytes into a storage itself, once.

Nobody can take a ticket back: the storage lets the client put bytes under a key that has none, for
a while. So as long as a ticket for a key may hold, bytes under it are not deleted: an empty file
takes their place, and the key stays taken. A record that is being deleted names the key until then,
and the sweep deletes both.
"""

from __future__ import annotations

from datetime import timedelta

from ..models import DELETING, MediaRecord, new_id, now
from ..state import State
from ..storages.base import DirectStorage, is_of_client, owner_of_key
from ..storages.stored import Stored

SECONDS = 900
"""How long a client may wait before it begins to send the bytes."""


def seconds_of_ticket(state: State) -> float:
    """How long a ticket holds. The sweep must not come before."""
    return min(SECONDS, state.settings.grace / 2)


def delete_bytes(state: State, stored: Stored) -> bool:
    """Delete the bytes of a file.

    :return: Whether the key is free. Otherwise it is to be deleted later: a client may have a
        ticket for it.
    """
    if isinstance(stored.storage, DirectStorage) and _may_have_ticket(state, stored.key):
        stored.put([])
        return False
    stored.delete()
    return True


def drop_bytes(state: State, record: MediaRecord, stored: Stored, storage_type: str) -> None:
    """Delete bytes that a record has named until now. If their key has to stay taken, the sweep
    deletes it later.

    :param record: The record as it is now, without these bytes.
    :param storage_type: The name of the storage that has them.
    """
    if delete_bytes(state, stored):
        return

    time = now()
    values = record.values() | {
        "id": new_id(),
        "state": DELETING,
        "storage_type": storage_type,
        "storage_key": stored.key,
        "version": 1,
        "created_at": time,
        "updated_at": time,
    }
    deletion = type(record).from_values(values)
    state.repository.add(deletion)


def _may_have_ticket(state: State, key: str) -> bool:
    """Whether a client may have a ticket for a key still."""
    if not is_of_client(key):
        return False
    owner = owner_of_key(key)
    if owner is None:
        return False

    _, made_at = owner
    # Twice as long as it holds: the clock of the host that signed it may be ahead of the storage's.
    seconds = 2 * seconds_of_ticket(state)
    return now() - made_at < timedelta(seconds=seconds)
