"""The one main image of a product, where the present one is hidden from a caller who sets another.

A product has one main image: that is a unique index. But nobody may learn of media that they may
not read, and nobody's hidden media may stand in the way of others. So a main image that the caller
of a media route may not read gives way: it stays what it is, as an ordinary image. Functions are
called by the host's code, from which nothing is hidden: within a request to a media route too, as
by a receiver of a signal.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable

from .. import events
from ..authorization import Viewer
from ..errors import SecondMainImage
from ..models import AVAILABLE, Media, now
from ..repositories.base import Listing

if t.TYPE_CHECKING:
    from ..state import State

ATTEMPTS = 3
"""How often a write is tried, where hidden main images come back."""

T = t.TypeVar("T")


def write_main(state: State, record: Media, viewer: Viewer | None, write: Callable[[], T]) -> T:
    """Write a record that may become the main image of its product.

    Hidden main images give way at that moment, not before.

    :param viewer: Anyone who asked for it over HTTP; ``None`` for the host.
    :raises SecondMainImage: The product has another main image, which the viewer may read.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return write()
        except SecondMainImage:
            for image in _others(state, record, viewer):
                _demote(state, image)
    return write()


def refuse_second_main(state: State, record: Media, viewer: Viewer | None) -> None:
    """Refuse a second main image before its bytes are read.

    If two come at once, the unique index stops the second at the end.

    :raises SecondMainImage: The record is to be a main image, and the product has one that the
        viewer may read.
    """
    if record.is_main:
        _others(state, record, viewer)


def _others(state: State, record: Media, viewer: Viewer | None) -> list[Media]:
    """List the main images of the same product, which are hidden from the viewer.

    There are two where one waits in the journal.

    :raises SecondMainImage: One is not hidden.
    """
    where = {**record.owner_values, "is_main_image": True}
    listing = Listing(type(record), where)
    main_images = state.repository.select(listing)
    others = [image for image in main_images if image.id != record.id]

    for image in others:
        if viewer is None or viewer.may("read", image):
            raise SecondMainImage
    return others


def _demote(state: State, image: Media) -> None:
    """Make a main image an ordinary one, if nobody has changed it since it was listed."""
    changes = {"is_main_image": False, "updated_at": now()}
    where = {"state": AVAILABLE, "version": image.version}
    changed = state.repository.update(type(image), image.id, changes, where=where)
    if changed is None:
        return  # somebody else has just changed it: the write is tried again, and looks again
    events.changed(state, changed)
