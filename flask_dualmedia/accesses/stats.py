"""Which media of one document is used, and how much of it there is."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from ..authorization import usual_id
from ..models import KINDS, Media
from ..repositories.base import EVERYTHING, Listing, Records
from ..state import State

Sort = t.Literal["access_count", "last_accessed_at"]

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class MediaStats:
    """The media of one document, of all kinds."""

    records: Records[Media]
    """The most used, or the last used, first."""
    media: int
    """How many there are, beyond those listed too."""
    size: int
    """Their bytes, as far as known of external media."""
    accesses: int
    """How often they were accessed."""

    @property
    def partial(self) -> bool:
        """Whether a database did not answer, and records of it may be missing."""
        return self.records.partial


def stats_of(
    state: State,
    reference_type: str,
    reference_id: str,
    *,
    sort: Sort,
    limit: int | None,
    visible_to: t.Any = EVERYTHING,
    may_read: Callable[[Media], bool] = lambda record: True,
) -> MediaStats:
    """The stats of one owner.

    :param visible_to: Identity whose own and whose public records are considered. Others are not
        even read.
    :param may_read: Whether a record that was read is considered.
    """
    reference_id = usual_id(state, reference_type, reference_id)
    kinds = [
        kind
        for kind in KINDS.values()
        if not isinstance(kind.reference_type, str) or kind.reference_type == reference_type
    ]
    if visible_to is EVERYTHING:
        found = state.repository.of_owners(kinds, reference_type, [reference_id])
    else:
        found = _visible(state, kinds, reference_type, reference_id, visible_to)
    seen = [record for record in found if may_read(record)]
    if sort == "access_count":
        seen.sort(key=lambda record: (record.access_count, record.id), reverse=True)
    else:
        seen.sort(key=lambda record: (record.last_accessed_at or _NEVER, record.id), reverse=True)
    return MediaStats(
        Records.of(seen[:limit], partial=found.partial),
        media=len(seen),
        size=sum(record.file_size or 0 for record in seen),
        accesses=sum(record.access_count for record in seen),
    )


def _visible(
    state: State,
    kinds: t.Sequence[type[Media]],
    reference_type: str,
    reference_id: str,
    identity: str,
) -> Records[Media]:
    """What one identity may see of the media of an owner."""
    records: Records[Media] = Records()
    for kind in kinds:
        where = {kind.owner_field: reference_id}
        if "reference_type" in kind.field_names():
            where["reference_type"] = reference_type
        found = state.repository.select(Listing(kind, where, visible_to=identity))
        records += found
        records.partial |= found.partial
    return records
