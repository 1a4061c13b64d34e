"""Variants of images, made when they are asked for the first time.

One process of all makes a variant, and the others wait for it. The lease that sees to that saves
work and no more: of two that keep the same variant, the database refuses the second one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import typing as t
import uuid
from contextlib import suppress

from werkzeug.exceptions import NotFound, UnprocessableEntity

from ..content.policy import MAX_PIXELS
from ..content.uploads import BLOCK_SIZE
from ..databases.clock import elapsed
from ..databases.leases import Lease
from ..errors import AnsweredError, MediaConflict, MediaNotFound, Unavailable
from ..failpoints import reach
from ..lifecycle.deletion import clean_up, discard_new
from ..lifecycle.description import set_values
from ..models import AVAILABLE, PENDING, Media, MediaVariant, now
from ..state import State
from ..storages.base import new_key
from ..uploads.progress import ours
from .failures import ProcessingError
from .recipes import Recipe
from .renderer import Rendered

logger = logging.getLogger("flask_dualmedia")

PATIENCE = 2.0
"""Seconds to wait for a variant that another process makes."""

_LOOK_AGAIN = 0.03
"""Seconds between two looks whether it is there."""

_REPLACED_OFTEN = 3
"""How often a variant is made anew because its original was replaced meanwhile."""


class NoVariants(AnsweredError, NotFound):
    """Nothing is derived from media of this type, or from bytes that are elsewhere."""


class NotRendered(AnsweredError, UnprocessableEntity):
    """No variant can be made of this original, now or later."""

    def __init__(self, failure: ProcessingError) -> None:
        super().__init__(f"no variant can be made of this: {failure.code}")


class NotMade(Unavailable):
    """The variant is not there yet."""


class Variant(t.NamedTuple):
    """A variant that is there."""

    original: Media
    """As it was when the variant was made or found."""
    record: MediaVariant
    content: bytes | None
    """All of its bytes, where they were read with it, or just made."""
    is_kept: bool = True
    """False if there was no place to keep it: it is made again for whoever asks next."""


def is_rendered(record: Media) -> bool:
    """Tell whether variants are made of this media: it is an image whose bytes we keep."""
    mime_type = record.mime_type or ""
    is_image = mime_type.startswith("image/") and mime_type != "image/svg+xml"
    return is_image and record.storage_key is not None and record.checksum is not None


def find(state: State, kind: type[Media], media_id: uuid.UUID, recipe: Recipe) -> Variant | None:
    """An available variant of an available original."""
    original, record, content = state.home.read_variant(
        kind,
        media_id,
        recipe.preset.name,
        recipe.digest,
    )
    if original is None or record is None:
        return None
    return Variant(original, record, content)


def make(state: State, original: Media, recipe: Recipe) -> Variant:
    """Make a variant that was not found, unless another process does.

    :raises NoVariants: Nothing is derived from such media.
    :raises NotRendered: The original cannot be decoded, or has too many pixels.
    :raises NotMade: Another process is at it, or making it has failed and may not fail again.
    :raises MediaNotFound: The original is deleted.
    :raises Unavailable: The original cannot be read now.
    :raises MissingExtra: A package is not installed.
    """
    if not is_rendered(original):
        raise NoVariants("no variants are made of this: it is no image that is kept here")

    lease = Lease(
        state.collections,
        f"variant:{original.id}:{recipe.digest}:{recipe.preset.name}",
    )
    end = elapsed() + PATIENCE
    while not _take(lease):
        time.sleep(_LOOK_AGAIN)
        found = find(state, type(original), original.id, recipe)
        if found is not None:
            return found
        if elapsed() > end:
            raise NotMade("the variant is being made", retry_after=1)

    try:
        # Whoever had the lease before has made it, perhaps.
        found = find(state, type(original), original.id, recipe)
        if found is not None:
            return found
        reach("variant:begin")
        return _make(state, original, recipe)
    finally:
        with suppress(Unavailable):  # it expires
            lease.give_back()


def _take(lease: Lease) -> bool:
    """Take the lease; true as well where MongoDB does not say who has it."""
    try:
        return lease.take()
    except Unavailable:
        return True


def _make(state: State, original: Media, recipe: Recipe) -> Variant:
    """Render a variant of the bytes that the original has now."""
    kind = type(original)
    for _ in range(_REPLACED_OFTEN):
        rendered = _render(state, original, recipe)
        reach("variant:rendered")
        current = state.repository.get(kind, original.id)
        if current is None:
            raise MediaNotFound(kind.kind, original.id)
        if current.storage_key == original.storage_key:
            return _keep(state, current, recipe, rendered)
        original = current
        if not is_rendered(original):
            break
    raise NotMade("the original is being replaced", retry_after=1)


def _render(state: State, original: Media, recipe: Recipe) -> Rendered:
    stored = state.original(original)
    assert stored is not None
    # A host that lets images of any size be uploaded does not have each of them decoded.
    max_pixels = state.settings.policies[original.kind].max_pixels or MAX_PIXELS
    try:
        return state.renderer.render(stored, recipe, max_pixels)
    except ProcessingError as error:
        if error.permanent:
            raise NotRendered(error) from error
        logger.warning("no variant %s of %r: %s", recipe.path, original, error)
        raise NotMade(f"making the variant has failed: {error.code}", retry_after=60) from error


def _keep(state: State, original: Media, recipe: Recipe, rendered: Rendered) -> Variant:
    """Keep a variant, where there is a place for it.

    Whether that works or not, the bytes are there for whoever asked.
    """
    record = _record(original, recipe, rendered)
    try:
        _add(state, record, rendered.content)
    except MediaConflict:
        found = find(state, type(original), original.id, recipe)
        if found is not None:  # another process was quicker, without the lease
            return found
    except Unavailable as error:
        logger.info("the variant %s of %r is not kept: %s", recipe.path, original, error)
    else:
        reach("variant:available")
        return Variant(original, record, rendered.content)
    return Variant(original, record, rendered.content, is_kept=False)


def _record(original: Media, recipe: Recipe, rendered: Rendered) -> MediaVariant:
    """The record of a variant, in the storage of its original."""
    detail = {"placeholder": rendered.placeholder, "color": rendered.color}
    record = MediaVariant.of(
        original,
        recipe.preset.name,
        recipe.digest,
        state=AVAILABLE,
        storage_type=original.storage_type,
        mime_type=recipe.format.mime_type,
        file_size=len(rendered.content),
        checksum=hashlib.sha256(rendered.content).hexdigest(),
        width=rendered.width,
        height=rendered.height,
        detail=json.dumps(detail),
    )
    set_values(record, storage_key=new_key(record.id))
    return record


def _add(state: State, record: MediaVariant, content: bytes) -> None:
    """Keep a variant in one step, or pending → bytes → available.

    :raises MediaConflict: The same variant is there already.
    :raises Unavailable: There is no place for it now.
    """
    stored = state.original(record)
    assert stored is not None
    home = state.home
    is_small = len(content) < BLOCK_SIZE
    goes_whole = is_small and stored.storage is home.storage and home.takes_whole
    if goes_whole and home.add_whole(record, [content], keeps_id=True):
        return

    set_values(record, state=PENDING)
    state.repository.add(record, keeps_id=True)
    reach("variant:pending")
    try:
        stored.put(_blocks(content))
        reach("variant:bytes")
        changes = {"state": AVAILABLE, "updated_at": now()}
        published = state.repository.update(
            MediaVariant,
            record.id,
            changes,
            where=ours(record, PENDING),
        )
        if published is None:
            raise MediaConflict("the variant was swept away as abandoned")
    except BaseException:
        clean_up(discard_new, state, record)
        raise
    set_values(record, **changes)


def _blocks(content: bytes) -> t.Iterator[bytes]:
    for start in range(0, len(content), BLOCK_SIZE):
        yield content[start : start + BLOCK_SIZE]
