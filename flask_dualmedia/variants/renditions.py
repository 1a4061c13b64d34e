"""The renditions that a video is streamed in: how many, and how large."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LEAST_STREAMED = 10.0
"""Seconds from which on a video is worth several renditions in segments."""

SEGMENT_SECONDS = 4


@dataclass(frozen=True)
class Rendition:
    """A size in which a video is encoded."""

    name: str
    """Its shorter side, as it is asked for."""
    width: int
    height: int


def plan_renditions(width: int, height: int, sides: Iterable[int]) -> list[Rendition]:
    """The renditions of a video of this upright size, from the smallest to the largest.

    :param sides: The wanted lengths of the shorter side. One that is longer than that of the video
        is taken for it: nothing is enlarged.
    """
    shorter = min(width, height)
    lengths = sorted({min(side, shorter) for side in sides})
    return [_rendition(width, height, length) for length in lengths]


def _rendition(width: int, height: int, side: int) -> Rendition:
    scale = side / min(width, height)
    return Rendition(str(side), _even(width * scale), _even(height * scale))


def _even(length: float) -> int:
    """Colours have half the resolution, so a side has an even number of pixels."""
    return max(2, round(length / 2) * 2)
