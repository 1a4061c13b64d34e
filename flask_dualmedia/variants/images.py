"""Variants of images, as many at a time as the process has memory for."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict

from ..content.policy import MAX_PIXELS
from ..errors import MissingExtra
from .budget import PATIENCE, PixelBudget, weighted
from .recipes import Recipe

if t.TYPE_CHECKING:
    from .rendering import Rendering

MAX_ANIMATION_PIXELS = 50_000_000
"""Limit of the pixels of all frames together, for animations that are kept."""


def weigh(
    source: t.BinaryIO,
    recipes: Sequence[Recipe],
    *,
    max_pixels: int | None = MAX_PIXELS,
) -> int:
    """Tell how much of a budget an image takes. Nothing is decoded.

    The parameters are those of :func:`render`, and it raises the same.
    """
    try:
        from .rendering import weight_of
    except ImportError as error:
        raise MissingExtra("rendering images", "images") from error

    format_name, pixels = weight_of(source, recipes, max_pixels, MAX_ANIMATION_PIXELS)
    return weighted(format_name, pixels)


def render(
    source: t.BinaryIO,
    recipes: Sequence[Recipe],
    *,
    max_pixels: int | None = MAX_PIXELS,
    max_animation_pixels: int = MAX_ANIMATION_PIXELS,
    budget: PixelBudget | None = None,
    timeout: float = PATIENCE,
) -> Rendering:
    """Make variants of an image: upright, in sRGB, without its metadata.

    :param source: A seekable file.
    :param recipes: None for the placeholder and the colour alone. It costs least to ask for all
        sizes at once.
    :param max_pixels: Limit of the width times the height of the source, which is checked before
        anything is decoded; ``None`` for no limit.
    :param max_animation_pixels: Limit of the pixels of all frames, where a preset keeps them.
    :param budget: Has its share of the process's pixels while the source is decoded.
    :param timeout: Seconds to wait for the budget.
    :raises UndecodableMedia: The source is damaged, cut off, or no image.
    :raises LimitExceeded: It has too many pixels.
    :raises RendererBusy: Others had the whole budget.
    :raises MissingExtra: Pillow is not installed, or for HEIC pillow-heif.
    """
    try:
        from .rendering import render_image
    except ImportError as error:
        raise MissingExtra("rendering images", "images") from error

    def turn(format_name: str | None, pixels: int) -> AbstractContextManager[None]:
        if budget is None:
            return nullcontext()
        return budget.taken(weighted(format_name, pixels), timeout=timeout)

    return render_image(
        source,
        recipes,
        max_pixels=max_pixels,
        max_animation_pixels=max_animation_pixels,
        turn=turn,
    )


def arguments_for(
    recipes: Sequence[Recipe],
    *,
    max_pixels: int | None,
    max_animation_pixels: int,
) -> dict[str, t.Any]:
    """The arguments with which :func:`~flask_dualmedia.variants.image_task.render_task` renders
    these recipes."""
    descriptions = []
    for recipe in recipes:
        description = {
            "preset": asdict(recipe.preset),
            "format": recipe.format.name,
            "focus": recipe.focus,
        }
        descriptions.append(description)
    return {
        "recipes": descriptions,
        "max_pixels": max_pixels,
        "max_animation_pixels": max_animation_pixels,
    }
