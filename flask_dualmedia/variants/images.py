"""Variants of images: one source, decoded once, in any number of sizes and formats."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from ..content.policy import MAX_PIXELS
from ..errors import MissingExtra
from .budget import PATIENCE, PixelBudget, weighted
from .presets import KEEP, Preset
from .recipes import Recipe
from .sizes import Plan, plan

if t.TYPE_CHECKING:
    from PIL import Image, ImageFile

MAX_ANIMATION_PIXELS = 50_000_000
"""Limit of the pixels of all frames together, for animations that are kept."""

_PLACEHOLDER = Preset("placeholder", 16, 16)


@dataclass(frozen=True)
class RenderedImage:
    """One variant."""

    recipe: Recipe
    width: int
    height: int
    content: bytes


@dataclass(frozen=True)
class Rendering:
    """Everything that was made of one source."""

    width: int
    """That of the source, as it is shown."""

    height: int
    images: tuple[RenderedImage, ...]
    """In the order of the recipes."""

    placeholder: str
    """A data URI of the whole picture, 16 pixels wide or high."""

    color: str
    """The mean colour as ``#rrggbb``."""


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
        from . import decoding
    except ImportError as error:
        raise MissingExtra("rendering images", "images") from error

    image = decoding.open_image(source, max_pixels)
    is_animated = any(_keeps_frames(recipe) for recipe in recipes) and decoding.is_animated(image)

    pixels = image.width * image.height
    if is_animated:
        pixels = max_animation_pixels
    turn = nullcontext()
    if budget is not None:
        turn = budget.taken(weighted(image.format, pixels), timeout=timeout)
    with turn:
        if is_animated:
            result = _render(image, recipes, max_animation_pixels)
        else:
            result = _render(image, recipes, None)
        del image  # and its pixels, before others have their turn
    return result


def _keeps_frames(recipe: Recipe) -> bool:
    return recipe.preset.animated == KEEP and recipe.format.has_animation


def _render(
    image: ImageFile.ImageFile,
    recipes: Sequence[Recipe],
    max_animation_pixels: int | None,
) -> Rendering:
    """Decode an image and make its variants.

    :param max_animation_pixels: Limit of the pixels of all frames; ``None`` for the first one only.
    """
    from . import colors, decoding, encoding

    width, height = decoding.upright_size(image)
    plans = [plan(recipe.preset, width, height, recipe.focus) for recipe in recipes]
    tiny_plan = plan(_PLACEHOLDER, width, height)
    moving_plans = {
        planned for recipe, planned in zip(recipes, plans, strict=True) if _keeps_frames(recipe)
    }

    # Recipes that differ only in their format share a picture.
    pictures: dict[Plan, list[Image.Image]] = {planned: [] for planned in (*plans, tiny_plan)}
    durations = []
    for pixels, duration in decoding.decode(image, list(pictures), max_animation_pixels):
        durations.append(duration)
        for planned, frames in pictures.items():
            if not frames or planned in moving_plans:
                frames.append(pixels.variant(planned))

    timing = (durations, decoding.loop_count(image))
    images = []
    for recipe, planned in zip(recipes, plans, strict=True):
        images.append(_encoded(recipe, planned, pictures[planned], timing))

    tiny = pictures[tiny_plan][0]
    return Rendering(
        width,
        height,
        tuple(images),
        encoding.placeholder(tiny),
        colors.mean_color(tiny),
    )


def _encoded(
    recipe: Recipe,
    planned: Plan,
    frames: list[Image.Image],
    timing: tuple[list[int], int],
) -> RenderedImage:
    from . import encoding

    if not _keeps_frames(recipe):
        frames = frames[:1]
    durations, loop = timing
    content = encoding.encode(frames, durations, loop, recipe)
    return RenderedImage(recipe, planned.width, planned.height, content)
