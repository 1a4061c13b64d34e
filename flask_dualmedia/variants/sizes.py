"""The real size of a variant, and which part of the image it shows."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from .presets import COVER, Preset
from .recipes import CENTER, Focus


class Plan(t.NamedTuple):
    """The size of a variant, and the part of its source that it shows.

    The edges of that part are fractions of the upright image, from 0 to 1.
    """

    width: int
    height: int
    left: float
    top: float
    right: float
    bottom: float


class _Part(t.NamedTuple):
    """A part of an image, in pixels of it."""

    left: float
    top: float
    width: float
    height: float


def plan(preset: Preset, width: int, height: int, focus: Focus = CENTER) -> Plan:
    """Plan the variant of one image.

    It is never larger than the part of the image that it shows, and never larger than any format of
    the preset can be: it has the same size in all of them.

    :param width: That of the upright image in pixels.
    :param height: As the width.
    """
    part = _Part(0, 0, width, height)
    if preset.fit == COVER and preset.width and preset.height:
        part = _cropped(width, height, preset.width / preset.height, focus)

    scale = min(
        1,
        (preset.width or part.width) / part.width,
        (preset.height or part.height) / part.height,
        preset.max_side / max(part.width, part.height),
    )
    return Plan(
        max(1, round(part.width * scale)),
        max(1, round(part.height * scale)),
        part.left / width,
        part.top / height,
        (part.left + part.width) / width,
        (part.top + part.height) / height,
    )


def real_widths(
    presets: Iterable[Preset],
    width: int,
    height: int,
) -> list[tuple[Preset, int]]:
    """The widths for a ``srcset``, from the smallest to the largest.

    Presets that are larger than an image all show it in its own width: the first of them is named.

    :param width: That of the upright image in pixels.
    :param height: As the width.
    """
    widths: dict[int, Preset] = {}
    for preset in presets:
        widths.setdefault(plan(preset, width, height).width, preset)
    return [(widths[real_width], real_width) for real_width in sorted(widths)]


def _cropped(width: int, height: int, proportion: float, focus: Focus) -> _Part:
    """The largest part of these proportions whose centre is as near to the focus as can be."""
    part_width = min(width, height * proportion)
    part_height = min(height, width / proportion)
    left = _start(focus.x * width, part_width, width)
    top = _start(focus.y * height, part_height, height)
    return _Part(left, top, part_width, part_height)


def _start(center: float, length: float, whole: float) -> float:
    return min(max(center - length / 2, 0), whole - length)
