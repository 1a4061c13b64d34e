"""The place of new media among the others of its owner.

It is behind the last one, and new media is the main image if there is none. The place is looked for
when the bytes have come and the record becomes visible. Saves that end at the same moment may get
the same position, and lists go by their age then, which is the order that they came in. There is
one main image all the same: that is a unique index.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable

from ..errors import SecondMainImage
from ..failpoints import reach
from ..models import Media
from ..repositories.base import Listing
from ..schemas import MAX_INTEGER
from ..state import State

Fields = dict[str, t.Any]
"""Fields by name, and their values."""

Place = Fields
"""Fields that say where media stands, with the values that are right for them."""

T = t.TypeVar("T")

LAST_POSITION = MAX_INTEGER


def position_behind(position: int, number: int = 1) -> int:
    """Return the position so many places behind another one.

    Everything behind the last position shares it.
    """
    return min(position + number, LAST_POSITION)


PLACE_FIELDS = ("is_main_image", "position")
"""Fields that say where media stands. Where a caller gives ``None`` for one, it is left to us."""


def split_place(fields: Fields) -> tuple[list[str], Fields]:
    """Split fields into the names of those that are left to us, and the others."""
    unplaced: list[str] = []
    others: Fields = {}
    for name, value in fields.items():
        if name in PLACE_FIELDS and value is None:
            unplaced.append(name)
        else:
            others[name] = value
    return unplaced, others


def placed(
    state: State, record: Media, unplaced: t.Collection[str], keep: Callable[[Place], T]
) -> T:
    """Keep a record in its place, which is looked for now.

    :param unplaced: Fields that the caller has left to us: ``position`` and ``is_main_image``, or
        none.
    :param keep: Makes the record visible with these values. If another became the main image
        meanwhile, it is called once more.
    """
    if not unplaced:
        return keep({})

    place = _free_place(state, record, unplaced)
    try:
        return keep(place)
    except SecondMainImage:
        if not place.get("is_main_image"):
            raise
        return keep(place | {"is_main_image": False})


def _has_main_image(state: State, record: Media) -> bool:
    where = {**record.owner_values, "is_main_image": True}
    listing = Listing(type(record), where, limit=1)
    return bool(state.repository.select(listing))


def _free_position(state: State, record: Media) -> int:
    """Return the position behind the last one; each group, as a lesson, has its own."""
    kind = type(record)
    where: Fields = {**record.owner_values}
    if kind.group_field is not None:
        group = getattr(record, kind.group_field)
        if group is not None:
            where[kind.group_field] = group

    listing = Listing(kind, where, sort="position", descending=True, limit=1)
    last = state.repository.select(listing)
    if not last:
        return 0
    last_position = vars(last[0])["position"]
    return position_behind(last_position)


def _free_place(state: State, record: Media, unplaced: t.Collection[str]) -> Place:
    place: Place = {}
    if "is_main_image" in unplaced:
        place["is_main_image"] = not _has_main_image(state, record)
        reach("place:main")
    if "position" in unplaced:
        place["position"] = _free_position(state, record)
    return place
