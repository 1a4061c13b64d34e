"""Pictures of every kind that is rendered, made here."""

from __future__ import annotations

import io
import typing as t

from PIL import Image

from flask_dualmedia.variants.formats import FORMATS
from flask_dualmedia.variants.images import render
from flask_dualmedia.variants.presets import Preset
from flask_dualmedia.variants.recipes import Focus, Recipe
from flask_dualmedia.variants.rendering import RenderedImage

Color = tuple[int, ...]

RED = (220, 30, 30)
GREEN = (20, 160, 40)
BLUE = (30, 40, 200)
YELLOW = (240, 220, 20)
WHITE = (255, 255, 255)

WIDTH, HEIGHT = 640, 384
"""The size of the pictures, upright."""

SMALL = (160, 96)
"""The size of their variants. The middle is where blocks of JPEG meet."""

_INVERSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera that was held so stores what is upright."""

ORIENTATION = 0x0112
GPS = 0x8825


def recipe(name: str = "webp", *, focus: Focus | None = None, **options: t.Any) -> Recipe:
    """A recipe for small pictures, in one format."""
    width, height = SMALL
    values: dict[str, t.Any] = {"width": width, "height": height, "formats": (name,)}
    preset = Preset("small", **values | options)
    return Recipe(preset, FORMATS[name], focus or Focus())


def rendered(content: bytes, name: str = "webp", **options: t.Any) -> RenderedImage:
    """The only variant of a file."""
    (image,) = render(io.BytesIO(content), [recipe(name, **options)]).images
    return image


def opened(image: RenderedImage) -> Image.Image:
    """A variant, as a browser would see it."""
    picture = Image.open(io.BytesIO(image.content))
    picture.load()
    return picture


def saved(image: Image.Image, name: str, **options: t.Any) -> bytes:
    target = io.BytesIO()
    image.save(target, name, **options)
    return target.getvalue()


def quadrants(mode: str = "RGB") -> Image.Image:
    """Red, green, blue and yellow, from the upper left to the lower right."""
    image = Image.new(mode, (WIDTH, HEIGHT), RED)
    middle = (WIDTH // 2, HEIGHT // 2)
    image.paste(GREEN, (middle[0], 0, WIDTH, middle[1]))
    image.paste(BLUE, (0, middle[1], middle[0], HEIGHT))
    image.paste(YELLOW, (*middle, WIDTH, HEIGHT))
    return image


def turned(orientation: int, name: str = "JPEG", **options: t.Any) -> bytes:
    """The quadrants as a camera stores them, with the orientation that puts them upright."""
    image = quadrants()
    if orientation in _INVERSE:
        image = image.transpose(_INVERSE[orientation])
    return saved(image, name, exif=exif(orientation), **options)


def exif(orientation: int = 1) -> bytes:
    """Metadata of a phone, which says where the picture was taken."""
    data = Image.Exif()
    data[ORIENTATION] = orientation
    data[0x010F] = "Phone"
    data.get_ifd(GPS)[1] = "N"
    data.get_ifd(GPS)[2] = (52.0, 31.0, 12.0)
    return data.tobytes()


def grey_16() -> bytes:
    """From black to white in 16 bits."""
    row = b"".join((x * 65535 // (WIDTH - 1)).to_bytes(2, "little") for x in range(WIDTH))
    return saved(Image.frombytes("I;16", (WIDTH, HEIGHT), row * HEIGHT), "PNG")


def half_transparent(mode: str) -> Image.Image:
    """Black that is transparent on the left, and red, or grey, on the right."""
    image = Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0))
    image.paste((*RED, 255), (WIDTH // 2, 0, WIDTH, HEIGHT))
    if mode == "P":
        palette = Image.new("P", (WIDTH, HEIGHT), 0)
        palette.putpalette([0, 0, 0, *RED])
        palette.paste(1, (WIDTH // 2, 0, WIDTH, HEIGHT))
        palette.info["transparency"] = 0
        return palette
    return image.convert(mode)


def animation(name: str) -> bytes:
    """Six frames, of which each has another colour."""
    colors = [RED, GREEN, BLUE, YELLOW, (0, 0, 0), WHITE]
    first, *others = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in colors]
    durations = [100, 200, 300, 100, 200, 300]
    return saved(
        first, name, save_all=True, append_images=others, duration=durations, loop=0, quality=95
    )
