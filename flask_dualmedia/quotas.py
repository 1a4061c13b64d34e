"""How many bytes one identity, or one owner, may keep, and how many uploads may be under way.

The databases are asked each time how much is used; there is no counter that could drift. When
uploads end at the same time, one after the other asks and becomes available, among all processes on
all hosts.
"""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from .databases.clock import elapsed
from .databases.leases import SECONDS, Lease
from .errors import (
    DatabaseUnavailable,
    QuotaBusy,
    QuotaExceeded,
    TooManyUnfinished,
)
from .failpoints import reach
from .models import KINDS, Media
from .repositories.base import Selection
from .state import State
from .uploads.staging import Staged
from .uploads.unfinished import unfinished_of

T = t.TypeVar("T")

WAIT = 10.0
"""Seconds that a finished upload waits for others under the same quota."""


@dataclass(frozen=True)
class _Quota:
    whose: str
    lease: str
    limit: int
    counted: Selection
    """The records that count."""
    unfinished: tuple[str, uuid.UUID] | None = None
    """Identity whose unfinished uploads count too, and the id of the one that the bytes are of."""


Subject = Media | Staged
"""The record or upload that has the bytes. An upload that is a part of another has no owner yet."""


def are_set(state: State) -> bool:
    """Tell whether anybody's bytes are limited."""
    settings = state.settings
    return settings.quota_per_identity is not None or settings.quota_per_owner is not None


def check(state: State, subject: Subject, size: int) -> None:
    """Refuse bytes that cannot fit, before they are read.

    :param subject: A record, or a resumable upload as a whole. Bytes that were announced under its
        id do not count twice.
    :param size: How many there are at least, less those that they take the place of.
    :raises QuotaExceeded: They have no place.
    """
    if size > 0:
        _check(state, _quotas(state, subject), size)


@contextmanager
def reserved(state: State, subject: Subject, size: int) -> Iterator[None]:
    """Make sure that bytes fit, and still do at the end of the ``with`` block.

    The block makes them available or announces them.

    :param size: How many there are, less those that they take the place of. To take up less is
        always allowed.
    :raises QuotaExceeded: They have no place.
    :raises QuotaBusy: Others did not come to an end in time.
    """
    quotas: list[_Quota] = []
    if size > 0:
        quotas = _quotas(state, subject)

    with ExitStack() as leases:
        for quota in quotas:
            _take(Lease(state.collections, quota.lease), leases)
        start = elapsed()
        _check(state, quotas, size)
        # Whoever waits for the leases gets them when they expire: by then, what follows must be
        # over.
        if quotas and elapsed() - start > SECONDS / 2:
            raise QuotaBusy
        yield


def admit(
    state: State,
    identity: str,
    begin: Callable[[], T],
    take_back: Callable[[T], object],
) -> T:
    """Begin an upload, if its identity does not have too many unfinished ones.

    It is counted when it is there, and taken back if it is too many: so however many begin at once,
    no more stay than may. Those that were taken back come again, one after the other, so that no
    fewer stay either.

    :raises TooManyUnfinished: It would be one too many.
    """
    limit = state.settings.max_unfinished
    if limit is None:
        return begin()

    def begin_within_limit() -> T:
        upload = begin()
        with ExitStack() as undo:
            # Where nobody can tell how many there are, too: no client has heard of it.
            undo.callback(take_back, upload)
            if unfinished_of(state, identity).number > limit:
                raise TooManyUnfinished(limit)
            undo.pop_all()
        return upload

    with suppress(TooManyUnfinished):
        return begin_within_limit()

    with ExitStack() as leases:
        _take(Lease(state.collections, f"unfinished:{identity}"), leases)
        if unfinished_of(state, identity).number >= limit:
            raise TooManyUnfinished(limit)
        return begin_within_limit()


def _quotas(state: State, subject: Subject) -> list[_Quota]:
    """The quotas that bytes count for.

    They come always in the same order, so that no two uploads wait for each other.
    """
    candidates = (
        _quota_of_identity(state, subject),
        _quota_of_owner(state, subject),
    )
    return [quota for quota in candidates if quota is not None]


def _quota_of_identity(state: State, subject: Subject) -> _Quota | None:
    limit = state.settings.quota_per_identity
    uploader = _uploader_of(subject)
    if limit is None or uploader is None:
        return None

    return _Quota(
        whose="the uploader",
        lease=f"quota:identity:{uploader}",
        limit=limit,
        counted={kind: {"uploaded_by": uploader} for kind in KINDS.values()},
        unfinished=(uploader, subject.id),
    )


def _quota_of_owner(state: State, subject: Subject) -> _Quota | None:
    limit = state.settings.quota_per_owner
    owner = _owner_of(subject)
    if limit is None or owner is None:
        return None

    reference_type, owner_id = owner
    return _Quota(
        whose=f"this {reference_type}",
        lease=f"quota:owner:{reference_type}:{owner_id}",
        limit=limit,
        counted=of_owner(reference_type, owner_id),
    )


def _uploader_of(subject: Subject) -> str | None:
    if isinstance(subject, Staged):
        return subject.identity
    return subject.uploaded_by


def _owner_of(subject: Subject) -> tuple[str, str] | None:
    if not isinstance(subject, Staged):
        return subject.reference_type, subject.owner_id
    if subject.kind is None:
        return None

    kind = KINDS[subject.kind]
    reference_type = kind.type_of_owner(subject.values)
    owner_id = subject.values[kind.owner_field]
    return t.cast(str, reference_type), owner_id


def of_owner(reference_type: str, reference_id: str) -> dict[type[Media], dict[str, t.Any]]:
    """For each kind that can belong to an owner, the fields that its records have in common."""
    selected: dict[type[Media], dict[str, t.Any]] = {}
    for kind in KINDS.values():
        where = kind.of_owner(reference_type, reference_id)
        if where is not None:
            selected[kind] = where
    return selected


def _check(state: State, quotas: list[_Quota], size: int) -> None:
    for quota in quotas:
        reach("quota:sum")
        used = state.repository.stored_size(quota.counted)
        if quota.unfinished is not None:
            identity, media_id = quota.unfinished
            used += unfinished_of(state, identity, but=media_id).size
        if used + size > quota.limit:
            raise QuotaExceeded(quota.whose, used=used, limit=quota.limit, size=size)


def _take(lease: Lease, leases: ExitStack) -> None:
    """Wait for a lease, which is given back when the stack is closed."""
    if not lease.wait(WAIT):
        raise QuotaBusy
    leases.callback(_give_back, lease)


def _give_back(lease: Lease) -> None:
    with suppress(DatabaseUnavailable):  # it expires; what was done under it is done
        lease.give_back()
