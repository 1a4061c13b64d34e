"""Uploads under way: how the sweep is told that they go on, and that they end in time."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

from ..databases.clock import elapsed
from ..errors import MediaConflict
from ..models import PENDING, MediaRecord, now
from ..state import State


def ours(record: MediaRecord, state: str) -> dict[str, t.Any]:
    """Values that tell the record that this call added from one that was made of the same resumable
    upload since."""
    return {
        "state": state,
        "storage_key": record.storage_key,
    }


def kept_alive(state: State, record: MediaRecord, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Tell the sweep, now and then, that the upload still goes on."""
    interval = state.settings.grace / 4
    told = elapsed()
    for block in blocks:
        yield block
        if elapsed() - told > interval:
            told = elapsed()
            changes = {"updated_at": now()}
            where = ours(record, PENDING)
            state.repository.update(type(record), record.id, changes, where=where)


def in_time(state: State, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """End a replacement, or a move, that takes too long: a check could take its bytes, which no
    record names yet, for left behind.

    :raises MediaConflict: It took longer than half of the grace time.
    """
    end = elapsed() + state.settings.grace / 2
    for block in blocks:
        if elapsed() > end:
            raise MediaConflict("writing the bytes took longer than half of DUALMEDIA_GRACE")
        yield block
