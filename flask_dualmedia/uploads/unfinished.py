"""Uploads that have begun and not ended: resumable ones, and direct ones that were announced.

Each identity may have so many of them, and what they are to be counts for the identity's quota.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from ..models import PENDING, Media, now
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
    since = now() - timedelta(seconds=state.settings.grace)
    direct = state.repository.announced(identity, since, but)
    return Announced(staged.number + direct.number, staged.size + direct.size)


def takes_direct(state: State) -> bool:
    """Whether there is a storage that takes bytes from clients."""
    return any(isinstance(storage, DirectStorage) for storage in state.storages.values())


def is_announced(state: State, record: Media) -> bool:
    """Whether the bytes of an unfinished record are to come from a client: of other uploads nothing
    is announced."""
    takes = isinstance(state.storages.get(record.storage_type), DirectStorage)
    return record.state == PENDING and record.checksum is not None and takes
