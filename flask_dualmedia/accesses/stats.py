"""Statistics about the media of one document: how often it is used, and how much there is."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from ..authorization import usual_id
from ..models import Media
from ..quotas import of_owner
from ..repositories.base import EVERYTHING, Listing, Records, Selection
from ..state import State

Sort = t.Literal["access_count", "last_accessed_at"]

_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class MediaStats:
    """The media of one document, of all kinds."""

    records: Records[Media]
    """The most used, or the last used, first."""
    media: int
    """The number of them, beyond those listed too."""
    size: int
    """Their bytes, as far as known of external media."""
    accesses: int
    """The number of times that they were accessed."""
    derived_size: int
    """The bytes of their variants, which count for no quota."""

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
    """Collect the stats of one owner.

    :param visible_to: Identity whose own and whose public records are considered. Others are not
        even read.
    :param may_read: Tells whether a record that was read is considered.
    """
    reference_id = usual_id(state, reference_type, reference_id)
    selection = of_owner(reference_type, reference_id)

    if visible_to is EVERYTHING:
        records = state.repository.of_owners([*selection], reference_type, [reference_id])
    else:
        records = _visible(state, selection, visible_to)
    readable = [record for record in records if may_read(record)]

    if sort == "access_count":
        readable.sort(key=_usage, reverse=True)
    else:
        readable.sort(key=_last_use, reverse=True)
    derived_size = 0
    if readable:
        derived_size = state.repository.derived_size([record.id for record in readable])
    return MediaStats(
        Records.of(readable[:limit], partial=records.partial),
        media=len(readable),
        size=sum(record.file_size or 0 for record in readable),
        accesses=sum(record.access_count for record in readable),
        derived_size=derived_size,
    )


def _usage(record: Media) -> tuple[int, uuid.UUID]:
    return record.access_count, record.id


def _last_use(record: Media) -> tuple[datetime, uuid.UUID]:
    return record.last_accessed_at or _NEVER, record.id


def _visible(state: State, selection: Selection, identity: str) -> Records[Media]:
    """List the selected media that one identity may see."""
    records: Records[Media] = Records()
    for kind, where in selection.items():
        listed = state.repository.select(Listing(kind, where, visible_to=identity))
        records += listed
        records.partial |= listed.partial
    return records
