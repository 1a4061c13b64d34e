"""Variants that nobody asks for any more: found, and swept.

superseded  their original has other bytes than they were made from, or is gone
outdated    no preset has their recipe any more
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice

from ..databases.leases import Lease
from ..lifecycle import remove_variant
from ..models import AVAILABLE, KINDS, MediaVariant
from ..state import State
from .sightings import Sightings
from .sweeping import seen_before, try_to_remove
from .transfer import records_of

BATCH = 500
"""Variants whose originals are asked for at once."""

INTERVAL = 3600.0
"""Seconds between two looks at all variants. All processes together look once in that time."""

SWEEP = "variants"
"""Name under which the sweep remembers what it saw."""


def unknown_variants(
    state: State,
    variants: Iterable[MediaVariant],
) -> Iterator[tuple[MediaVariant, str]]:
    """Those of some variants that nobody asks for any more, and why, in words.

    An original in the trash has its variants still.
    """
    available = [variant for variant in variants if variant.state == AVAILABLE]
    keys = _keys_of_originals(state, available)
    for variant in available:
        if variant.source_key not in keys:
            yield variant, f"{variant.media_kind} {variant.media_id} is gone, or has other bytes"
        elif not state.knows_recipe(variant):
            yield variant, f"no preset has the recipe {variant.recipe} of {variant.name}"


def is_due(state: State) -> bool:
    """Whether it is time to look at all variants. Nobody gives this lease back: it expires."""
    return Lease(state.collections, "variants", seconds=INTERVAL).take()


def sweep_variants(
    state: State,
    *,
    grace: float | None = None,
    keep_going: Callable[[], bool] = lambda: True,
) -> int:
    """Remove the variants that nobody asks for any more.

    Such a variant goes if an earlier sweep saw it too, at least the grace time ago: while workers
    of two versions run, each may have recipes of its own.

    :param grace: Seconds between the two. Default ``DUALMEDIA_GRACE``. With 0 it goes now.
    :param keep_going: Asked before each variant; the sweep ends early where it says no.
    :return: How many were removed.
    """
    state.clock.measure()
    if grace is None:
        grace = state.settings.grace
    sightings = Sightings(state, SWEEP)
    number_removed = 0

    variants = records_of(state.homes[0].repository, MediaVariant)
    while batch := list(islice(variants, BATCH)):
        due = [variant for variant, _ in unknown_variants(state, batch)]
        if grace > 0:
            due = seen_before(sightings, due, grace)
        for variant in due:
            if not keep_going():
                return number_removed
            number_removed += try_to_remove(partial(remove_variant, state, variant), variant)

    sightings.forget()
    return number_removed


def _keys_of_originals(state: State, variants: list[MediaVariant]) -> set[str | None]:
    """The storage keys that the originals of some variants have now."""
    ids_by_kind: dict[str, set[uuid.UUID]] = {}
    for variant in variants:
        ids_by_kind.setdefault(variant.media_kind, set()).add(variant.media_id)

    keys: set[str | None] = set()
    for name, ids in ids_by_kind.items():
        kind = KINDS.get(name)
        if kind is not None:
            keys.update(state.repository.keys_of(kind, [*ids]))
    return keys
