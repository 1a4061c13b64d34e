"""Whether a record and its bytes are written in one step, or in several."""

from __future__ import annotations

from .. import quotas
from ..content.uploads import Upload
from ..state import State
from ..storages.base import Storage


def goes_whole(state: State, upload: Upload, storage: Storage) -> bool:
    """Tell whether a record and its bytes can be written in one step.

    The bytes must be few, and go where the record goes. Between two steps a quota is looked at: if
    there is one, there must be two.
    """
    if not upload.is_read or storage is not state.home.storage:
        return False
    return state.home.takes_whole and not quotas.are_set(state)
