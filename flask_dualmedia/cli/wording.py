"""Phrases that several commands use."""

from __future__ import annotations

from datetime import timedelta

from ..state import State


def trash_period(state: State) -> str:
    """How long something stays in the trash, in words."""
    period = timedelta(seconds=state.settings.trash_seconds)
    return str(period).removesuffix(", 0:00:00")


def in_mebibytes(size: int) -> str:
    """A size in bytes, for people."""
    return f"{size / 1024**2:.1f} MiB"


def said_of_unknown(name: str, number: int) -> str:
    """How many records are in a storage that is not set up, in words."""
    return f"{number} record(s) in {name!r}, which is not in DUALMEDIA_STORAGES"
