"""Files that are damaged, or made to do harm, end as an error with a reason, and soon."""

from __future__ import annotations

import io
import random
import time
import typing as t
import zlib

import pytest
from PIL import Image
from pillow_heif import from_pillow

from flask_dualmedia.errors import StorageUnavailable
from flask_dualmedia.variants.failures import LimitExceeded, ProcessingError, UndecodableMedia
from flask_dualmedia.variants.images import render

from .hostile import SIDE, bomb
from .pictures import (
    HEIGHT,
    RED,
    SMALL,
    WIDTH,
    YELLOW,
    animation,
    opened,
    quadrants,
    recipe,
    rendered,
    saved,
)

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "BMP")


class Counted(io.BytesIO):
    """A file that counts what is read of it."""

    bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        self.bytes_read += len(content)
        return content


class Failing(io.BytesIO):
    """A file in a storage that goes away while it is read."""

    def __init__(self, content: bytes, error: Exception) -> None:
        super().__init__(content)
        self._error = error

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0 or self.tell() + size > 4_000:
            raise self._error
        return super().read(size)


def small(name: str) -> bytes:
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    if name == "HEIF":
        target = io.BytesIO()
        from_pillow(image).save(target)
        return target.getvalue()
    return saved(image, name)


def many_frames() -> bytes:
    """A GIF of 60 frames of nine megapixels."""
    one = saved(Image.new("P", (3000, 3000)), "GIF")
    start = one.index(b",", 13)
    return one[:start] + 60 * one[start:-1] + b";"


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_huge_image_is_refused_for_its_size(name: str) -> None:
    """It was not decoded: nothing of it is there that could be."""
    with pytest.raises(LimitExceeded, match="at most 100000000") as caught:
        rendered(bomb(name))
    assert caught.value.code == "limit_exceeded"


def test_a_huge_image_is_refused_by_its_first_bytes() -> None:
    source = Counted(bomb("PNG") + bytes(1_000_000))
    with pytest.raises(LimitExceeded, match=f"{SIDE} x {SIDE}"):
        render(t.cast("t.BinaryIO", source), [recipe()])
    assert source.bytes_read < 10_000


def test_an_image_without_pixels_is_damaged() -> None:
    header = small("PNG")
    place = header.index(b"IHDR") + 4
    ihdr = header[place - 4 : place] + bytes(4) + header[place + 4 : place + 13]
    png = header[: place - 4] + ihdr + zlib.crc32(ihdr).to_bytes(4) + header[place + 17 :]
    with pytest.raises(UndecodableMedia):
        rendered(png)


def test_the_limit_is_the_hosts() -> None:
    content = saved(quadrants(), "JPEG")
    with pytest.raises(LimitExceeded, match="640 x 384"):
        render(io.BytesIO(content), [recipe()], max_pixels=WIDTH * HEIGHT - 1)
    render(io.BytesIO(content), [recipe()], max_pixels=WIDTH * HEIGHT)


def test_a_small_file_with_many_large_frames() -> None:
    """A still of it costs one frame. All of them would cost seconds, and are refused."""
    content = many_frames()
    assert len(content) < 500_000

    begun = time.process_time()
    rendered(content)
    assert time.process_time() - begun < 1

    source = io.BytesIO(content)
    with pytest.raises(LimitExceeded, match="2 frames of 9000000 pixels"):
        render(source, [recipe(animated="keep")], max_animation_pixels=9_500_000)


def test_an_animation_that_says_how_many_frames_it_has_is_refused_at_once() -> None:
    content = animation("WEBP")
    with pytest.raises(LimitExceeded, match="6 frames"):
        render(
            io.BytesIO(content), [recipe(animated="keep")], max_animation_pixels=5 * WIDTH * HEIGHT
        )


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_ends_early_is_an_error_unless_all_of_the_picture_is_there(name: str) -> None:
    whole = saved(quadrants(), name)
    expected = opened(rendered(whole, "png")).tobytes()
    lengths = {len(whole) * part // 24 for part in range(24)} | {len(whole) - 1, len(whole) - 2}
    refused = 0
    for length in sorted(lengths):
        try:
            variant = rendered(whole[:length], "png")
        except UndecodableMedia:
            refused += 1
        else:
            assert opened(variant).tobytes() == expected
    assert refused > 18


@pytest.mark.parametrize("name", [*FORMATS, "HEIF"])
def test_a_mutated_file_is_an_image_or_an_error(name: str) -> None:
    """Never another error, and never an endless loop."""
    whole = small(name)
    choose = random.Random(name)
    begun = time.process_time()
    for _ in range(25):
        mutated = bytearray(whole)
        for _ in range(choose.choice([1, 3, 20])):
            # Most of them where formats keep their structure.
            place = choose.randrange(choose.choice([64, 200, len(whole)]))
            mutated[place % len(whole)] = choose.randrange(256)
        try:
            variant = rendered(bytes(mutated))
        except ProcessingError:
            continue
        assert opened(variant).size == (variant.width, variant.height)
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("length", [0, 1, 11, 12, 100, 5_000])
def test_random_bytes_are_no_image(length: int) -> None:
    content = random.Random(length).randbytes(length)
    beginnings = [b"", *(small(name)[:12] for name in (*FORMATS, "HEIF"))]
    for beginning in beginnings:
        with pytest.raises(ProcessingError):
            rendered((beginning + content)[:length])


def test_formats_that_are_programs_or_many_files_are_not_opened() -> None:
    """Pillow would start Ghostscript for the first of these."""
    for name in ("EPS", "PDF", "ICO", "TGA", "PCX", "PPM"):
        with pytest.raises(UndecodableMedia, match="no image of a format that is rendered"):
            rendered(saved(quadrants(), name))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("error", [StorageUnavailable("s3"), OSError(5, "Input/output error")])
def test_a_storage_that_fails_is_not_taken_for_a_damaged_image(name: str, error: Exception) -> None:
    content = saved(Image.effect_noise((WIDTH, HEIGHT), 60).convert("RGB"), name)
    with pytest.raises(type(error)) as caught:
        render(Failing(content, error), [recipe()])
    assert caught.value is error


def test_several_pictures_in_one_file_are_the_first_of_them() -> None:
    for name in ("MPO", "TIFF"):
        others = [Image.new("RGB", (WIDTH, HEIGHT), RED)]
        content = saved(quadrants(), name, save_all=True, append_images=others)
        picture = opened(rendered(content, "png", animated="keep"))
        color = t.cast("tuple[int, int, int]", picture.getpixel((SMALL[0] - 5, SMALL[1] - 5)))
        assert max(abs(one - other) for one, other in zip(color, YELLOW, strict=True)) < 6
