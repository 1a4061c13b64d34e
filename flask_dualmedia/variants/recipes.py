"""Recipes: all that decides which bytes a variant has, and its URL.

A URL is computed from a record and a recipe, so a page with many images costs no query for them.
It changes with the bytes of the record, with the preset, and with the renderer.
"""

from __future__ import annotations

import hashlib
import json
import typing as t
from collections.abc import Iterable
from functools import lru_cache

from .formats import FORMATS, Format
from .presets import COVER, Preset

RENDERER_VERSION = 1
"""Raised when the same preset makes other bytes than before. All variants are made anew then."""

CHECKSUM_DIGITS = 8
RECIPE_DIGITS = 6


class Focus(t.NamedTuple):
    """The point of an image that stays in sight when it is cropped."""

    x: float = 0.5
    """From 0, the left edge, to 1."""

    y: float = 0.5
    """From 0, the upper edge, to 1."""


CENTER = Focus()


class Recipe:
    """A preset in one format, and for images that are cropped their focal point."""

    __slots__ = ("digest", "focus", "format", "path", "preset", "version")

    def __init__(self, preset: Preset, format: Format, focus: Focus = CENTER) -> None:
        self.preset = preset
        self.format = format
        self.focus = focus

        self.digest = _digest(preset, format, focus)
        """12 hexadecimal digits."""

        self.path = f"{preset.name}.{format.extension}"
        """The last segment of the variant's URL."""

        self.version = self.digest[:RECIPE_DIGITS]

    def __repr__(self) -> str:
        return f"<Recipe {self.path} {self.digest}>"

    def version_of(self, checksum: str) -> str:
        """The value of ``v`` in the URL of a variant.

        :param checksum: That of the record, in hexadecimal digits.
        """
        return checksum[:CHECKSUM_DIGITS] + self.version


def recipes_of(presets: Iterable[Preset]) -> dict[str, Recipe]:
    """The recipes of the presets of one kind, by the last segment of their URLs."""
    recipes: dict[str, Recipe] = {}
    for preset in presets:
        for name in preset.formats:
            recipe = Recipe(preset, FORMATS[name])
            recipes[recipe.path] = recipe
    return recipes


def focused(recipe: Recipe, x: float | None, y: float | None) -> Recipe:
    """The recipe for an image with a focal point.

    Two points that differ by less than a hundredth of the image are one. A recipe that does not
    crop is the same for all.

    :param x: From 0 to 1; ``None`` for the middle.
    """
    if recipe.preset.fit != COVER or (x is None and y is None):
        return recipe
    return _focused(recipe, _part(x), _part(y))


def variant_urls(base: str, checksum: str, recipes: Iterable[Recipe]) -> list[str]:
    """The URLs of variants of one record.

    :param base: The URL of all its variants, which ends with a slash.
    :param checksum: That of the record, in hexadecimal digits.
    """
    start = checksum[:CHECKSUM_DIGITS]
    return [f"{base}{recipe.path}?v={start}{recipe.version}" for recipe in recipes]


@lru_cache(maxsize=4096)
def _focused(recipe: Recipe, x: float, y: float) -> Recipe:
    return Recipe(recipe.preset, recipe.format, Focus(x, y))


def _part(value: float | None) -> float:
    if value is None:
        return 0.5
    return round(min(max(value, 0.0), 1.0), 2)


def _digest(preset: Preset, format: Format, focus: Focus) -> str:
    parameters = [
        RENDERER_VERSION,
        preset.width,
        preset.height,
        preset.fit,
        preset.quality_in(format.name),
        preset.background,
        preset.animated,
        preset.max_side,
        format.name,
        focus.x,
        focus.y,
    ]
    text = json.dumps(parameters)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
