"""Presets: the sizes and formats that images of a kind are shown in.

A URL names a preset and never a size, so a client cannot fill the storage with sizes of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from .formats import FORMATS

INSIDE = "inside"
COVER = "cover"
STILL = "still"
KEEP = "keep"


@dataclass(frozen=True)
class Preset:
    """How images are shown under one name.

    An image is never enlarged, and never stretched.
    """

    name: str

    width: int | None = None
    """In pixels; ``None`` if only the height is limited."""

    height: int | None = None
    """In pixels; ``None`` if only the width is limited."""

    fit: str = INSIDE
    """``inside`` keeps the whole image. ``cover`` crops it to the proportions of the preset."""

    formats: tuple[str, ...] = ("webp", "jpeg")
    """Names of :data:`~.formats.FORMATS`, the best first. The last one is for every browser."""

    quality: tuple[tuple[str, int], ...] = ()
    """Formats and their quality, from 1 to 100, where it is not the default of the format."""

    background: str = "#ffffff"
    """The colour that is seen through transparent pixels in formats that have none."""

    animated: str = STILL
    """``still`` shows the first frame. ``keep`` keeps all frames, in formats that have frames."""

    @property
    def max_side(self) -> int:
        """The largest width or height that all its formats can have."""
        return min(FORMATS[name].max_side for name in self.formats)

    def quality_in(self, name: str) -> int:
        """The quality in one format."""
        return dict(self.quality).get(name, FORMATS[name].quality)


Presets = dict[str, dict[str, Preset]]
"""Presets by their kind and their name."""


# Twice as high as wide: a portrait photo gets the whole width, a long strip does not.
_THUMB = Preset("thumb", 320, 640)
_CARD = Preset("card", 640, 1280)
_LARGE = Preset("large", 1280, 2560)
_POSTER = Preset("poster", 1280, 1280)

_DEFAULTS: dict[str, tuple[Preset, ...]] = {
    "product-images": (_THUMB, _CARD, _LARGE),
    "course-videos": (_THUMB, _CARD, _POSTER),
    "course-resources": (_THUMB, _CARD, _LARGE),
    "files": (_THUMB, _CARD, _LARGE),
}


def default_presets() -> Presets:
    """The presets of a host that configures none."""
    presets: Presets = {}
    for kind, kind_presets in _DEFAULTS.items():
        presets[kind] = {preset.name: preset for preset in kind_presets}
    return presets
