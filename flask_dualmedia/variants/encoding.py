"""Pixels as files, without anything of their source but the picture."""

from __future__ import annotations

import base64
import io
import typing as t

from PIL import Image

from .colors import is_opaque, without_alpha
from .recipes import Recipe

_OPTIONS: dict[str, dict[str, t.Any]] = {
    "avif": {"speed": 6, "max_threads": 1},
    "webp": {"method": 4},
    "jpeg": {"optimize": True, "progressive": True},
    "png": {},
}

_PLACEHOLDER_QUALITY = 40


def encode(
    frames: list[Image.Image],
    durations: list[int],
    loop: int,
    recipe: Recipe,
) -> bytes:
    """The bytes of a picture, or of an animation if there are several frames.

    :param frames: In sRGB, all of one size.
    :param durations: For how many milliseconds each is shown.
    :param loop: How often all are shown; 0 for ever.
    """
    is_transparent = not all(is_opaque(frame) for frame in frames)
    if not is_transparent or not recipe.format.has_alpha:
        background = recipe.preset.background
        frames = [without_alpha(frame, background) for frame in frames]
    if len(frames) == 1:
        return _saved(frames[0], recipe)

    mode = "RGB"
    if is_transparent:
        mode = "RGBA"
    first, *others = [frame.convert(mode) for frame in frames]
    return _saved(
        first,
        recipe,
        save_all=True,
        append_images=others,
        duration=durations,
        loop=loop,
    )


def placeholder(image: Image.Image) -> str:
    """A data URI of a tiny picture, which a page shows until the real one is there."""
    target = io.BytesIO()
    image.save(target, "WEBP", quality=_PLACEHOLDER_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(target.getvalue()).decode()}"


def _saved(image: Image.Image, recipe: Recipe, **options: t.Any) -> bytes:
    name = recipe.format.name
    target = io.BytesIO()
    quality = recipe.preset.quality_in(name)
    image.save(target, name.upper(), quality=quality, **_OPTIONS[name], **options)
    return target.getvalue()
