"""Colours: those of any image as sRGB, which browsers show alike everywhere."""

from __future__ import annotations

import io

from PIL import Image, ImageCms

_AS_THEY_ARE = ("L", "RGB", "CMYK", "RGBa")

_WHITE = "#ffffff"


def resizable(image: Image.Image) -> Image.Image:
    """An image in a mode whose pixels can be averaged: ``L``, ``RGB``, ``CMYK`` or ``RGBa``.

    The colours of ``RGBa`` are multiplied by their alpha. A transparent pixel, whose colour nobody
    sees, has no part in the colour of its neighbours then.
    """
    if image.has_transparency_data:
        if image.mode != "RGBA":
            image = image.convert("RGBA")
        return image.convert("RGBa")
    if image.mode in _AS_THEY_ARE:
        return image
    if image.mode.startswith("I"):
        return _in_8_bits(image)
    if image.mode in ("1", "F"):
        return image.convert("L")
    return image.convert("RGB")


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image in sRGB: ``L`` or ``RGB``, or ``RGBA`` if it has alpha.

    :param image: As :func:`resizable` makes it.
    :param profile: The ICC profile of its colours. One that is damaged, or belongs to another kind
        of image, changes nothing.
    """
    alpha = None
    if image.mode == "RGBa":
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")

    if profile:
        image = _by_profile(image, profile)
    if image.mode == "CMYK":
        image = image.convert("RGB")
    if alpha is not None:
        image.putalpha(alpha)
    return image


def is_opaque(image: Image.Image) -> bool:
    """Whether no pixel lets anything through."""
    return image.mode != "RGBA" or image.getchannel("A").getextrema() == (255, 255)


def without_alpha(image: Image.Image, background: str = _WHITE) -> Image.Image:
    """An image on a ground of one colour."""
    if image.mode != "RGBA":
        return image
    ground = Image.new("RGBA", image.size, background)
    ground.alpha_composite(image)
    return ground.convert("RGB")


def mean_color(image: Image.Image) -> str:
    """The mean colour of an image in sRGB, as ``#rrggbb``. Behind transparent pixels is white."""
    pixel = without_alpha(image).convert("RGB").resize((1, 1), Image.Resampling.BOX)
    return f"#{pixel.tobytes().hex()}"


def _in_8_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits. Pillow itself would take everything above 255 for white."""
    if image.mode != "I;16":
        image = image.convert("I")
    return image.point(lambda value: value * (1 / 257)).convert("L")


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(source).startswith("sRGB"):
            return image
        converted = ImageCms.profileToProfile(
            image,
            source,
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return converted or image
