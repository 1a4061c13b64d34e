"""``check --restore``: media, out of the trash."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import click

from ..errors import DualMediaError
from ..models import TABLES, TRASHED, MediaRecord
from ..state import State
from ..upkeep import sweeping
from .dialog import answering


def restore_from_trash(state: State, choice: str) -> None:
    """Bring back what is in the trash.

    :param choice: An id, or ``all``.
    """
    restored = 0
    failures = []
    for record in answering(lambda: _trashed(state, choice)):
        try:
            kept = answering(lambda record=record: sweeping.restore(state, record))
        except DualMediaError as error:
            failures.append(f"{record!r} stays in the trash: {error}")
            continue
        restored += 1
        if record.is_main and not kept.is_main:
            click.echo(f"{record!r} is no longer the main image: the product has another")

    click.echo(f"Restored {restored} record(s).")
    if failures:
        raise click.ClickException("\n".join(failures))


def _trashed(state: State, choice: str) -> Iterator[MediaRecord]:
    """The chosen records of the trash."""
    if choice == "all":
        return sweeping.trashed_records(state)
    try:
        media_id = uuid.UUID(choice)
    except ValueError:
        raise click.UsageError(f"{choice!r} is not an id.") from None

    records = [state.repository.find(kind, media_id) for kind in TABLES.values()]
    trashed = [record for record in records if record is not None and record.state == TRASHED]
    if not trashed:
        raise click.ClickException(f"{choice} is not in the trash.")
    return iter(trashed)
