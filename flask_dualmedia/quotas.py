"""How many bytes one identity, or one owner, may keep.

What is used is asked of the databases each time; there is no counter that could drift. Of uploads that end at the same
time, one after the other asks and becomes available, among all processes on all hosts.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from .clock import elapsed
from .errors import DatabaseUnavailable, QuotaBusy, QuotaExceeded
from .leases import SECONDS, Lease
from .models import KINDS, Media
from .repositories.base import Selection
from .state import State

WAIT = 10.0
"""Seconds that a finished upload waits for others under the same quota."""


@dataclass(frozen=True)
class _Quota:
    whose: str
    lease: str
    limit: int
    counted: Selection
    """The records that count."""


def check(state: State, record: Media, size: int) -> None:
    """Refuse bytes that cannot fit, before they are read.

    :param size: How many there are at least, less those that they take the place of.
    :raises QuotaExceeded: They have no place.
    """
    if size > 0:
        _check(state, _quotas(state, record), size)


@contextmanager
def reserved(state: State, record: Media, size: int) -> Iterator[None]:
    """Make sure that bytes fit, and that they still do until the end of the ``with`` block, which makes them available.

    :param size: How many there are, less those that they take the place of. To take up less is always allowed.
    :raises QuotaExceeded: They have no place.
    :raises QuotaBusy: Others did not come to an end in time.
    """
    quotas = _quotas(state, record) if size > 0 else []
    with ExitStack() as taken:
        for quota in quotas:
            _take(Lease(state.collections, quota.lease), taken)
        start = elapsed()
        _check(state, quotas, size)
        # Whoever waits for the leases gets them when they expire: by then, what follows must be over.
        if quotas and elapsed() - start > SECONDS / 2:
            raise QuotaBusy
        yield


def _quotas(state: State, record: Media) -> list[_Quota]:
    """Always in the same order, so that no two uploads wait for each other."""
    settings, quotas = state.settings, []
    if settings.quota_per_identity is not None and record.uploaded_by is not None:
        identity = {kind: {"uploaded_by": record.uploaded_by} for kind in KINDS.values()}
        name = f"quota:identity:{record.uploaded_by}"
        quotas.append(_Quota("the uploader", name, settings.quota_per_identity, identity))
    if settings.quota_per_owner is not None:
        reference_type, owner_id = record.reference_type, record.owner_id
        name = f"quota:owner:{reference_type}:{owner_id}"
        counted = of_owner(reference_type, owner_id)
        quotas.append(_Quota(f"this {reference_type}", name, settings.quota_per_owner, counted))
    return quotas


def of_owner(reference_type: str, reference_id: str) -> dict[type[Media], dict[str, t.Any]]:
    """By the kinds that can belong to it, what the records of an owner have in common."""
    selected: dict[type[Media], dict[str, t.Any]] = {}
    for kind in KINDS.values():
        if not isinstance(kind.reference_type, str):
            selected[kind] = {"reference_type": reference_type, kind.owner_field: reference_id}
        elif kind.reference_type == reference_type:
            selected[kind] = {kind.owner_field: reference_id}
    return selected


def _check(state: State, quotas: list[_Quota], size: int) -> None:
    for quota in quotas:
        used = state.repository.stored_size(quota.counted)
        if used + size > quota.limit:
            raise QuotaExceeded(quota.whose, used=used, limit=quota.limit, size=size)


def _take(lease: Lease, taken: ExitStack) -> None:
    if not lease.wait(WAIT):
        raise QuotaBusy
    taken.callback(_give_back, lease)


def _give_back(lease: Lease) -> None:
    with suppress(DatabaseUnavailable):  # it expires; what was done under it is done
        lease.give_back()
