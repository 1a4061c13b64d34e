"""Image formats that variants are written in."""

from __future__ import annotations

import typing as t


class Format(t.NamedTuple):
    """One image format, and its limits."""

    name: str
    """The name in ``DUALMEDIA_PRESETS``."""

    extension: str
    mime_type: str
    max_side: int
    """The largest width or height in pixels that encoders, decoders and browsers agree on."""

    quality: int
    """From 1 to 100, where a preset says nothing. The scales of two formats differ."""

    has_alpha: bool
    has_animation: bool


FORMATS = {
    "avif": Format("avif", "avif", "image/avif", 16384, 60, True, True),
    "webp": Format("webp", "webp", "image/webp", 16383, 80, True, True),
    # The limit of libjpeg. The format itself goes up to 65535.
    "jpeg": Format("jpeg", "jpg", "image/jpeg", 65500, 82, False, False),
    "png": Format("png", "png", "image/png", 65535, 100, True, True),
}
"""Every format, by its name."""
