"""How what is ours is told from what is the host's, in places that both may use."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime

_KEY = re.compile(r"([0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15})-([0-9a-f]{12})[0-9a-f]{4}")


def owner_of_key(key: object) -> tuple[uuid.UUID, datetime] | None:
    """Return the id of the record that a storage key was made for, and when.

    Exactly what :func:`~flask_dualmedia.storages.base.new_key` makes is ours: hosts name files by
    hashes too.

    :return: ``None`` for a key that is not ours.
    """
    if not isinstance(key, str):
        return None
    match = _KEY.fullmatch(key)
    if match is None:
        return None

    try:
        made_at = datetime.fromtimestamp(int(match[2], 16) / 1000, UTC)
        return uuid.UUID(match[1]), made_at
    except (ValueError, OverflowError):
        return None
