"""The one main image of a product, where the one that it has is hidden from whoever wants another.

A product has one main image: that is a unique index. But nobody may learn of media that they may not read, and nobody's
hidden media may stand in the way of others. So a main image that the caller of the request may not read gives way: it
stays what it is, as an ordinary image. Functions are called by the host's code, from which nothing is hidden.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable

from flask import has_request_context, request

from .errors import SecondMainImage
from .models import AVAILABLE, Media, ProductImage, now
from .repositories.base import Listing
from .security import known_caller
from .signals import media_saved

if t.TYPE_CHECKING:
    from .state import State

ATTEMPTS = 3
"""How often a write is tried, where hidden main images come back."""

T = t.TypeVar("T")


def write_main(state: State, record: Media, write: Callable[[], T]) -> T:
    """Write a record that may become the main image of its product. Hidden ones give way at that moment, not before.

    :raises SecondMainImage: The product has another main image, which the caller may read.
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return write()
        except SecondMainImage:
            for image in _others(state, record):
                _demote(state, image)
    return write()


def refuse_second_main(state: State, record: Media) -> None:
    """Say so before the bytes are read. Of two at once, the unique index stops the second at the end.

    :raises SecondMainImage: The record is to be a main image, and the product has one that the caller may read.
    """
    if isinstance(record, ProductImage) and record.is_main_image:
        _others(state, record)


def _others(state: State, record: Media) -> list[ProductImage]:
    """The main images of the same product, which are hidden from the caller: two, where one waits in the journal.

    :raises SecondMainImage: One is not hidden.
    """
    product_id = t.cast(ProductImage, record).mongo_product_id
    where = {"mongo_product_id": product_id, "is_main_image": True}
    others = [image for image in state.repository.list(Listing(ProductImage, where)) if image.id != record.id]
    if not all(map(_is_hidden, others)):
        raise SecondMainImage
    return others


def _demote(state: State, image: ProductImage) -> None:
    changes = {"is_main_image": False, "updated_at": now()}
    where = {"state": AVAILABLE, "version": image.version}
    changed = state.repository.update(ProductImage, image.id, changes, where=where)
    if changed is not None:  # otherwise somebody else has just changed it, and whoever writes looks again
        media_saved.send(state.app, record=changed)


def _is_hidden(image: ProductImage) -> bool:
    caller = known_caller(request.environ) if has_request_context() else None
    return caller is not None and not caller.may("read", image)
