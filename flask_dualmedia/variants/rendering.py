"""One image, decoded once, in any number of sizes and formats.

Needs nothing of the project but this package, so it can work in a process of its own.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from PIL import Image, ImageFile

from . import decoding
from .colors import mean_color
from .encoding import encode, placeholder
from .presets import KEEP, Preset
from .recipes import Recipe
from .sizes import Plan, plan

Turn = Callable[[str | None, int], AbstractContextManager[None]]
"""Waits until an image of a format, by Pillow's name, and of so many pixels may be decoded."""

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


def render_image(
    source: t.BinaryIO,
    recipes: Sequence[Recipe],
    *,
    max_pixels: int | None,
    max_animation_pixels: int,
    turn: Turn,
) -> Rendering:
    """Make variants of an image, see :func:`~.images.render`.

    :param turn: Waits until the image may be decoded.
    """
    image = decoding.open_image(source, max_pixels)
    is_animated = _is_kept_animated(image, recipes)
    with turn(image.format, _pixels_of(image, is_animated, max_animation_pixels)):
        if is_animated:
            result = _render(image, recipes, max_animation_pixels)
        else:
            result = _render(image, recipes, None)
        del image  # and its pixels, before others have their turn
    return result


def weight_of(
    source: t.BinaryIO,
    recipes: Sequence[Recipe],
    max_pixels: int | None,
    max_animation_pixels: int,
) -> tuple[str | None, int]:
    """The format of an image, by Pillow's name, and the pixels that are decoded at most."""
    image = decoding.open_image(source, max_pixels)
    is_animated = _is_kept_animated(image, recipes)
    return image.format, _pixels_of(image, is_animated, max_animation_pixels)


def _is_kept_animated(image: ImageFile.ImageFile, recipes: Sequence[Recipe]) -> bool:
    return any(_keeps_frames(recipe) for recipe in recipes) and decoding.is_animated(image)


def _pixels_of(
    image: ImageFile.ImageFile,
    is_animated: bool,
    max_animation_pixels: int,
) -> int:
    if is_animated:
        return max_animation_pixels
    return image.width * image.height


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
        placeholder(tiny),
        mean_color(tiny),
    )


def _encoded(
    recipe: Recipe,
    planned: Plan,
    frames: list[Image.Image],
    timing: tuple[list[int], int],
) -> RenderedImage:
    if not _keeps_frames(recipe):
        frames = frames[:1]
    durations, loop = timing
    content = encode(frames, durations, loop, recipe)
    return RenderedImage(recipe, planned.width, planned.height, content)
