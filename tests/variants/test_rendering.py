"""Variants show what their source shows, whatever it is made of."""

from __future__ import annotations

import base64
import io
import threading
import typing as t
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import pytest
from PIL import Image
from pillow_heif import encode

from flask_dualmedia.variants.failures import LimitExceeded, UndecodableMedia
from flask_dualmedia.variants.images import render
from flask_dualmedia.variants.presets import Preset
from flask_dualmedia.variants.recipes import Focus, recipes_of
from flask_dualmedia.variants.rendering import render_image

from .hostile import bomb
from .pictures import (
    BLUE,
    GPS,
    GREEN,
    HEIGHT,
    ORIENTATION,
    RED,
    SMALL,
    WHITE,
    WIDTH,
    YELLOW,
    Color,
    animation,
    exif,
    grey_16,
    half_transparent,
    opened,
    quadrants,
    recipe,
    rendered,
    saved,
    turned,
)
from .profiles import PRESS_RED, display_p3, in_profile, press

Zone = tuple[tuple[float, float, float, float], Color, int]
"""A part of a picture in fractions of it, its colour, and how far a pixel of it may be off."""

QUADRANTS: list[Zone] = [
    ((0.05, 0.1, 0.45, 0.4), RED, 6),
    ((0.55, 0.1, 0.95, 0.4), GREEN, 6),
    ((0.05, 0.6, 0.45, 0.9), BLUE, 6),
    ((0.55, 0.6, 0.95, 0.9), YELLOW, 6),
]
WHOLE = (0, 0, 1, 1)
LEFT = (0, 0, 0.45, 1)
RIGHT = (0.55, 0, 1, 1)

HALVES: list[Zone] = [(LEFT, WHITE, 3), (RIGHT, RED, 4)]
"""The picture with a transparent half, on white."""


@dataclass
class Case:
    """A source, and how its variant looks, or why there is none."""

    name: str
    source: Callable[[], bytes]
    zones: list[Zone] = field(default_factory=list)
    format: str = "jpeg"
    options: dict[str, t.Any] = field(default_factory=dict)
    error: type[Exception] | None = None
    frames: int = 1


def plain(mode: str, color: Color, **options: t.Any) -> bytes:
    name = options.pop("name", "JPEG")
    return saved(Image.new(mode, (WIDTH, HEIGHT), color), name, **options)


def wide_red() -> bytes:
    profile = display_p3()
    image = in_profile(Image.new("RGB", (WIDTH, HEIGHT), RED), profile)
    return saved(image, "JPEG", quality=95, icc_profile=profile)


def wide_red_half() -> bytes:
    profile = display_p3()
    image = half_transparent("RGBA")
    colors = in_profile(image.convert("RGB"), profile)
    colors.putalpha(image.getchannel("A"))
    return saved(colors, "PNG", icc_profile=profile)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def noise() -> Image.Image:
    return Image.effect_noise((WIDTH, HEIGHT), 60).convert("RGB")


def heic(orientation: int = 1) -> bytes:
    image = Image.open(io.BytesIO(turned(orientation, "PNG")))
    target = io.BytesIO()
    data = exif(orientation)
    encode(image.mode, image.size, image.tobytes(), target, quality=90, exif=data)
    return target.getvalue()


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'

CASES = [
    *(
        Case(f"orientation {number}", lambda number=number: turned(number), QUADRANTS)
        for number in range(1, 9)
    ),
    *(
        Case(f"orientation 6, {name}", lambda name=name: turned(6, name), QUADRANTS)
        for name in ("PNG", "WEBP", "AVIF", "TIFF")
    ),
    Case("Display P3", wide_red, [(WHOLE, RED, 3)]),
    Case("Display P3 with alpha", wide_red_half, HALVES),
    Case(
        "grey with the profile of a display",
        lambda: plain("L", (90,), quality=95, icc_profile=display_p3()),
        [(WHOLE, (90, 90, 90), 3)],
    ),
    Case(
        "CMYK with a profile",
        lambda: plain("CMYK", (0, 255, 255, 0), quality=95, icc_profile=press()),
        [(WHOLE, PRESS_RED, 6)],
    ),
    Case("CMYK without", lambda: plain("CMYK", (35, 225, 225, 0), quality=95), [(WHOLE, RED, 3)]),
    Case(
        "RGB with the profile of a press",
        lambda: plain("RGB", RED, quality=95, icc_profile=press()),
        [(WHOLE, RED, 3)],
    ),
    Case(
        "a damaged profile",
        lambda: plain("RGB", RED, quality=95, icc_profile=display_p3()[:300]),
        [(WHOLE, RED, 3)],
    ),
    Case("grey of 16 bits", grey_16, [((0, 0, 0.1, 1), (13,), 15), ((0.9, 0, 1, 1), (242,), 15)]),
    Case("RGBA on white", lambda: saved(half_transparent("RGBA"), "PNG"), HALVES),
    Case(
        "LA on white",
        lambda: saved(half_transparent("LA"), "PNG"),
        [(LEFT, WHITE, 3), (RIGHT, (87, 87, 87), 4)],
    ),
    Case("a palette on white", lambda: saved(half_transparent("P"), "PNG"), HALVES),
    Case(
        "RGBA on a colour",
        lambda: saved(half_transparent("RGBA"), "PNG"),
        [(LEFT, (0, 255, 0), 4), (RIGHT, RED, 4)],
        options={"background": "#00ff00"},
    ),
    *(
        Case(
            f"alpha kept in {name}",
            lambda: saved(half_transparent("RGBA"), "PNG"),
            [(LEFT, (0, 0, 0, 0), 1), (RIGHT, (*RED, 255), 5)],
            name,
        )
        for name in ("webp", "avif", "png")
    ),
    *(
        Case(f"{name}, still", lambda name=name: animation(name), [(WHOLE, RED, 6)], "webp")
        for name in ("GIF", "WEBP", "PNG", "AVIF")
    ),
    *(
        Case(
            f"{name}, kept in {target}",
            lambda name=name: animation(name),
            [(WHOLE, RED, 6)],
            target,
            {"animated": "keep"},
            frames=6,
        )
        for name, target in [("GIF", "webp"), ("WEBP", "avif"), ("PNG", "webp"), ("AVIF", "png")]
    ),
    Case(
        "an animation in a format without",
        lambda: animation("GIF"),
        [(WHOLE, RED, 4)],
        options={"animated": "keep"},
    ),
    *(
        Case(
            f"{name} cut in half",
            lambda name=name: half(saved(noise(), name)),
            error=UndecodableMedia,
        )
        for name in ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "TIFF", "BMP")
    ),
    *(
        Case(f"{name} of too many pixels", lambda name=name: bomb(name), error=LimitExceeded)
        for name in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
    ),
    Case("SVG", lambda: SVG, error=UndecodableMedia),
    Case("HEIC", heic, QUADRANTS),
    Case("HEIC of a phone on its side", lambda: heic(6), QUADRANTS),
    *(
        Case(f"a place in {name}", lambda name=name: turned(1, name), QUADRANTS, name.lower())
        for name in ("JPEG", "PNG", "WEBP", "AVIF")
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_variant_shows_its_source(case: Case) -> None:
    content = case.source()
    if case.error is not None:
        with pytest.raises(case.error):
            rendered(content, case.format, **case.options)
        return

    variant = rendered(content, case.format, **case.options)

    picture = opened(variant)
    assert picture.size == (variant.width, variant.height) == SMALL
    assert getattr(picture, "n_frames", 1) == case.frames
    for key in ("exif", "icc_profile", "xmp", "comment"):
        assert not picture.info.get(key)
    assert not dict(picture.getexif())
    for edges, color, tolerance in case.zones:
        assert is_filled(picture, edges, color, tolerance)


def is_filled(picture: Image.Image, edges: t.Any, color: Color, tolerance: int) -> bool:
    """Whether each pixel of a part has nearly a colour."""
    if len(color) == 3:
        picture = picture.convert("RGB")
    left, top, right, bottom = edges
    width, height = picture.size
    box = (round(left * width), round(top * height), round(right * width), round(bottom * height))
    part = picture.crop(box)
    for band, value in zip(part.split(), color, strict=True):
        least, most = t.cast("tuple[int, int]", band.getextrema())
        if not value - tolerance <= least <= most <= value + tolerance:
            print(f"{part.getpixel((0, 0))} at {box}: {least} to {most}, not {value}")
            return False
    return True


def test_metadata_is_there_to_be_left_out() -> None:
    data = Image.open(io.BytesIO(turned(6))).getexif()
    assert data[ORIENTATION] == 6
    assert data.get_ifd(GPS)


def test_grey_of_16_bits_gets_brighter_with_each_pixel() -> None:
    row = opened(rendered(grey_16(), "png")).crop((0, 50, SMALL[0], 51))
    values = list(row.tobytes())
    for x, value in enumerate(values):
        assert abs(value - 255 * (4 * x + 1.5) / (WIDTH - 1)) < 2


def test_the_edge_of_something_transparent_gets_no_dark_seam() -> None:
    """Transparent pixels are black here, which must not be seen beside white ones."""
    image = Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0))
    image.paste((255, 255, 255, 255), (101, 0, WIDTH, HEIGHT))
    picture = opened(rendered(saved(image, "PNG"), "png"))
    colors = [color for _, color in t.cast("t.Any", picture).getcolors()]
    edge = [color for color in colors if color[3] > 0]
    assert any(color[3] < 255 for color in edge)
    assert all(min(color[:3]) >= 254 for color in edge)


def test_an_opaque_image_with_alpha_is_stored_without() -> None:
    assert opened(rendered(saved(quadrants("RGBA"), "PNG"), "png")).mode == "RGB"


@pytest.mark.parametrize(
    ("orientation", "name"),
    [*((number, "JPEG") for number in range(1, 9)), (1, "PNG"), (6, "PNG")],
)
@pytest.mark.parametrize(
    ("focus", "color"),
    [
        (Focus(0, 0), RED),
        (Focus(1, 0), GREEN),
        (Focus(0, 1), BLUE),
        (Focus(1, 1), YELLOW),
    ],
)
def test_a_crop_shows_what_is_in_focus(
    orientation: int,
    name: str,
    focus: Focus,
    color: Color,
) -> None:
    content = turned(orientation, name)
    options = {"fit": "cover", "focus": focus}
    x, y = focus

    # As high as the image, and narrower.
    picture = opened(rendered(content, "png", width=60, height=60, **options))
    assert picture.size == (60, 60)
    zone = (0.1 + 0.25 * x, 0.05 + 0.5 * y, 0.65 + 0.25 * x, 0.45 + 0.5 * y)
    assert is_filled(picture, zone, color, 6)

    # As wide as the image, and lower.
    picture = opened(rendered(content, "png", width=100, height=20, **options))
    assert picture.size == (100, 20)
    zone = (0.05 + 0.5 * x, 0.1, 0.45 + 0.5 * x, 0.9)
    assert is_filled(picture, zone, color, 6)


def test_many_variants_are_made_of_one_source() -> None:
    presets = [Preset("small", 100), Preset("wide", 300), Preset("square", 80, 80, "cover")]
    recipes = list(recipes_of(presets).values())
    result = render(io.BytesIO(turned(6)), recipes)

    assert (result.width, result.height) == (WIDTH, HEIGHT)
    assert [image.recipe for image in result.images] == recipes
    sizes = [opened(image).size for image in result.images]
    assert sizes == [(100, 60), (100, 60), (300, 180), (300, 180), (80, 80), (80, 80)]
    formats = [opened(image).format for image in result.images]
    assert formats == ["WEBP", "JPEG"] * 3


@pytest.mark.parametrize(("width", "height"), [(1600, 960), (960, 1600)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_scaled_jpeg_is_nearly_what_the_whole_one_would_be(
    width: int,
    height: int,
    orientation: int,
) -> None:
    """JPEGs are decoded smaller. Nobody sees it."""
    shapes = Image.effect_noise((width // 10, height // 10), 70)
    image = shapes.resize((width, height), Image.Resampling.BICUBIC)
    stored = image
    if orientation == 6:
        stored = image.transpose(Image.Transpose.ROTATE_90)
    content = saved(stored, "JPEG", quality=95, exif=exif(orientation))

    picture = opened(rendered(content, "png", width=width // 4, height=height // 4)).convert("L")
    whole = image.resize(picture.size, Image.Resampling.LANCZOS)
    pairs = zip(picture.tobytes(), whole.tobytes(), strict=True)
    error = sum((one - other) ** 2 for one, other in pairs) / (picture.width * picture.height)
    assert error < 255**2 / 10**4  # 40 dB


def test_a_placeholder_is_a_tiny_picture_with_the_mean_colour() -> None:
    image = Image.new("RGB", (WIDTH, HEIGHT), (200, 100, 40))
    result = render(io.BytesIO(saved(image, "PNG")), [recipe()])
    assert is_filled(Image.new("RGB", (1, 1), result.color), WHOLE, (200, 100, 40), 4)

    beginning, _, data = result.placeholder.partition(",")
    assert beginning == "data:image/webp;base64"
    assert len(result.placeholder) < 300
    with Image.open(io.BytesIO(base64.b64decode(data))) as placeholder:
        assert placeholder.size == (16, 10)
        assert is_filled(placeholder, WHOLE, (200, 100, 40), 12)


def test_a_placeholder_can_be_had_alone() -> None:
    content = turned(6)
    result = render(io.BytesIO(content), [])
    assert result.images == ()
    assert (result.width, result.height) == (WIDTH, HEIGHT)
    with_variant = render(io.BytesIO(content), [recipe()])
    assert len(result.placeholder) == pytest.approx(len(with_variant.placeholder), abs=20)


def test_the_frames_of_an_animation_keep_their_time() -> None:
    picture = opened(rendered(animation("GIF"), "webp", animated="keep"))
    durations = []
    for number, color in enumerate([RED, GREEN, BLUE, YELLOW, (0, 0, 0), WHITE]):
        picture.seek(number)
        picture.load()
        durations.append(picture.info["duration"])
        assert is_filled(picture, WHOLE, color, 8)
    assert durations == [100, 200, 300, 100, 200, 300]
    assert picture.info["loop"] == 0


def test_an_image_is_never_enlarged() -> None:
    variant = rendered(saved(Image.new("RGB", (30, 20)), "PNG"))
    assert (variant.width, variant.height) == (30, 20)


@pytest.mark.parametrize("name", ["webp", "avif", "jpeg", "png"])
def test_a_long_strip_fits_its_format(name: str) -> None:
    image = Image.new("L", (1, 30_000), 90)
    options = {"width": 320, "height": None}
    variant = rendered(saved(image, "PNG"), name, **options)
    assert variant.width == 1
    assert opened(variant).size == (variant.width, variant.height)


def test_damaged_metadata_does_not_matter() -> None:
    data = bytearray(turned(6))
    start = data.index(b"Exif\0\0") + 6
    data[start : start + 8] = b"\xff" * 8
    variant = rendered(bytes(data))
    assert (variant.width, variant.height) == (round(SMALL[1] * HEIGHT / WIDTH), SMALL[1])


def test_the_orientation_of_xmp_is_ignored_as_in_browsers() -> None:
    text = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    content = saved(quadrants(), "JPEG", xmp=text)
    assert Image.open(io.BytesIO(content)).getexif().get(ORIENTATION) == 6
    picture = opened(rendered(content))
    assert picture.size == SMALL


def test_the_comment_of_a_photographer_is_left_out() -> None:
    content = saved(quadrants(), "JPEG", comment=b"call me", exif=exif())
    assert b"call me" in content
    assert b"call me" not in rendered(content, "jpeg").content


def test_threads_render_at_the_same_time() -> None:
    sources = [turned(number) for number in (1, 3, 6, 8)] * 2
    expected = [rendered(content).content for content in sources]
    results: dict[int, bytes] = {}

    def work(number: int) -> None:
        results[number] = rendered(sources[number]).content

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(sources))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[number] for number in range(len(sources))] == expected


@pytest.mark.parametrize(("loop", "times"), [(None, 1), (0, 0), (2, 3)])
def test_an_animation_is_shown_as_often_as_its_gif(loop: int | None, times: int) -> None:
    """A GIF says how often it is repeated, WebP how often it is shown."""
    others = [Image.new("RGB", (20, 20), GREEN)]
    options = {} if loop is None else {"loop": loop}
    content = saved(
        Image.new("RGB", (20, 20), RED), "GIF", save_all=True, append_images=others, **options
    )
    assert opened(rendered(content, "webp", animated="keep")).info["loop"] == times


def test_the_still_before_an_animation_is_none_of_its_frames() -> None:
    """An APNG may begin with a picture for programs that show no animations."""
    still, *frames = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in (RED, GREEN, BLUE)]
    content = saved(still, "PNG", save_all=True, append_images=frames, default_image=True)
    picture = opened(rendered(content, "webp", animated="keep"))
    assert getattr(picture, "n_frames", 1) == 2
    assert is_filled(picture, WHOLE, GREEN, 6)
    assert is_filled(opened(rendered(content)), WHOLE, RED, 6)


def test_an_animation_counts_as_all_the_frames_that_it_may_have() -> None:
    turns: list[tuple[str | None, int]] = []

    def turn(format_name: str | None, pixels: int) -> AbstractContextManager[None]:
        turns.append((format_name, pixels))
        return nullcontext()

    for content, animated in [
        (turned(1), "keep"),
        (animation("GIF"), "still"),
        (animation("GIF"), "keep"),
    ]:
        render_image(
            io.BytesIO(content),
            [recipe(animated=animated)],
            max_pixels=None,
            max_animation_pixels=10**7,
            turn=turn,
        )
    assert turns == [("JPEG", WIDTH * HEIGHT), ("GIF", WIDTH * HEIGHT), ("GIF", 10**7)]
