"""Uploads that have begun and not ended: resumable ones, and direct ones that were announced.

Each identity may have a limited number of them, and the sizes announced count for its quota.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from ..models import PENDING, MediaRecord, now
from ..repositories.base import Announced
from ..state import State
from ..storages.base import DirectStorage


def unfinished_of(state: State, identity: str, *, but: uuid.UUID | None = None) -> Announced:
    """The unfinished uploads of an identity that have not expired.

    :param but: Id of one that is not to be counted.
    """
    staged = state.staging.unfinished(identity, but)
    if not takes_direct(state):
        return staged

    grace = timedelta(seconds=state.settings.grace)
    since = now() - grace
    direct = state.repository.announced(identity, since, but)
    number = staged.number + direct.number
    size = staged.size + direct.size
    return Announced(number, size)


def takes_direct(state: State) -> bool:
    """Whether there is a storage that takes bytes from clients."""
    storages = state.storages.values()
    return any(isinstance(storage, DirectStorage) for storage in storages)


def is_announced(state: State, record: MediaRecord) -> bool:
    """Whether a client is to put the bytes of an unfinished record into a storage itself.

    Other uploads announce no checksum.
    """
    if record.state != PENDING or record.checksum is None:
        return False
    storage = state.storages.get(record.storage_type)
    return isinstance(storage, DirectStorage)
