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


def encode(image: Image.Image, recipe: Recipe) -> bytes:
    """The bytes of a picture.

    :param image: In sRGB.
    """
    if is_opaque(image) or not recipe.format.has_alpha:
        image = without_alpha(image, recipe.preset.background)
    return _saved(image, recipe)


def encode_animation(
    images: list[Image.Image],
    durations: list[int],
    loop: int,
    recipe: Recipe,
) -> bytes:
    """The bytes of an animation, in a format that has animations.

    :param images: The frames in sRGB, all of one size.
    :param durations: For how many milliseconds each is shown.
    :param loop: How often all are shown; 0 for ever.
    """
    mode = "RGBA"
    if all(is_opaque(image) for image in images):
        mode = "RGB"
    first, *others = [image.convert(mode) for image in images]
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
