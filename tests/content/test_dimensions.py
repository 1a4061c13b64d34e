"""Width and height, read from the first bytes, are those that Pillow finds."""

from __future__ import annotations

import io
import struct
import time
import typing as t
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from flask_dualmedia.content.dimensions import read_dimensions

from ..samples import png

FORMATS = ["PNG", "JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF"]

SIDEWAYS = (5, 6, 7, 8)


def picture(form: str, width: int = 23, height: int = 41, **options: t.Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(stream, form, **options)
    return stream.getvalue()


def oriented(form: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return picture(form, exif=exif)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("size", [(1, 1), (23, 41), (700, 300), (1, 4097)])
def test_every_format(form: str, size: tuple[int, int]) -> None:
    assert read_dimensions(picture(form, *size)) == size


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("WEBP", {"lossless": True}),
        ("WEBP", {"xmp": b"<x/>"}),  # the extended form
        ("JPEG", {"progressive": True}),
        ("JPEG", {"comment": b"c" * 60_000}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"big_endian": True}),
        ("PNG", {"interlace": 1}),
    ],
)
def test_variants_of_formats(form: str, options: dict[str, t.Any]) -> None:
    assert read_dimensions(picture(form, **options)) == (23, 41)


def test_the_old_form_of_bmp() -> None:
    assert read_dimensions(b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 23, 41, 1, 24)) == (23, 41)


def test_a_bmp_from_top_to_bottom() -> None:
    assert read_dimensions(b"BM" + bytes(12) + struct.pack("<Iii", 40, 23, -41)) == (23, 41)


@pytest.mark.parametrize("form", ["JPEG", "TIFF", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_on_its_side(form: str, orientation: int) -> None:
    """The size as it is shown, by EXIF orientation."""
    content = oriented(form, orientation)
    assert read_dimensions(content) == ((41, 23) if orientation in SIDEWAYS else (23, 41))


@pytest.mark.parametrize("lossless", [True, False])
def test_a_png_and_a_webp_say_it_behind_their_pixels_too(lossless: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    webp = picture("WEBP", exif=exif, lossless=lossless)
    assert webp.index(b"EXIF") > webp.index(b"VP8 " if not lossless else b"VP8L")
    content = picture("PNG")
    chunk = len(exif.tobytes()[6:]).to_bytes(4) + b"eXIf" + exif.tobytes()[6:] + bytes(4)
    behind = content.index(b"IEND") - 4
    png_with_exif = content[:behind] + chunk + content[behind:]
    assert read_dimensions(webp) == read_dimensions(png_with_exif) == (41, 23)


DAMAGED_EXIF = [
    b"",
    b"MM",
    b"MM\0*\0\0\xff\xff",
    b"nonsense",
    b"Exif\0\0",
    b"II*\0\x08\0\0\0\xff\xff",
]


@pytest.mark.parametrize("exif", DAMAGED_EXIF)
def test_exif_data_that_is_damaged_changes_nothing(exif: bytes) -> None:
    content = picture("PNG")
    chunk = len(exif).to_bytes(4) + b"eXIf" + exif + bytes(4)
    assert read_dimensions(content[:33] + chunk + content[33:]) == (23, 41)


@pytest.mark.parametrize("exif", DAMAGED_EXIF)
def test_exif_data_that_is_damaged_hides_no_size_of_a_jpeg(exif: bytes) -> None:
    content = picture("JPEG")
    segment = b"\xff\xe1" + (8 + len(exif)).to_bytes(2) + b"Exif\0\0" + exif
    assert read_dimensions(content[:2] + segment + content[2:]) == (23, 41)


def test_photos_of_the_example(media_directory: Path) -> None:
    for path in sorted(media_directory.glob("*.jpg")):
        with Image.open(path) as image:
            assert read_dimensions(path.read_bytes()) == ImageOps.exif_transpose(image).size, (
                path.name
            )


@pytest.mark.parametrize(
    "between", [b"\0" * 100, b"\xff\x01", b"\xff\xd0", b"\xff\x00", b"\xff\xff\xff"]
)
def test_a_jpeg_with_bytes_between_its_segments(between: bytes) -> None:
    """Bytes that decoders skip do not hide the size."""
    content = picture("JPEG")
    end = 4 + int.from_bytes(content[4:6])  # of the first segment
    assert content[end] == 0xFF
    assert read_dimensions(content[:end] + between + content[end:]) == (23, 41)


def test_a_gif_whose_frames_are_larger_than_its_screen() -> None:
    """Decoders enlarge the screen for such frames."""
    content = bytearray(picture("GIF", 700, 300))
    content[6:10] = struct.pack("<HH", 1, 1)
    assert read_dimensions(bytes(content)) == (700, 300)


def test_the_largest_picture_of_an_avif_counts() -> None:
    """A small picture that comes first hides nothing."""

    def box(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(content), name) + content

    sizes = b"".join(
        box(b"ispe", struct.pack(">III", 0, *size))
        for size in ((16, 16), (60_000, 50_000), (512, 512))
    )
    for turned, expected in ((b"", (60_000, 50_000)), (box(b"irot", b"\x01"), (50_000, 60_000))):
        meta = box(b"meta", bytes(4) + box(b"iprp", box(b"ipco", sizes + turned)))
        assert read_dimensions(box(b"ftyp", b"avif\0\0\0\0") + meta) == expected


@pytest.mark.parametrize("form", ["large", "to the end"])
@pytest.mark.parametrize("unusual", [b"free", b"meta", b"iprp", b"ipco", b"ispe"])
def test_every_way_to_write_the_length_of_a_box(unusual: bytes, form: str) -> None:
    """A length of 64 bits, or none for a box that goes on to the end, hides no size (ISO/IEC
    14496-12, 4.2)."""

    def box(name: bytes, content: bytes) -> bytes:
        if name != unusual or (form == "to the end" and name == b"free"):
            return struct.pack(">I4s", 8 + len(content), name) + content
        if form == "large":
            return struct.pack(">I4sQ", 1, name, 16 + len(content)) + content
        return struct.pack(">I4s", 0, name) + content

    properties = box(b"ipco", box(b"ispe", struct.pack(">III", 0, 60_000, 50_000)))
    meta = box(b"meta", bytes(4) + box(b"iprp", properties))
    content = box(b"ftyp", b"avif\0\0\0\0") + box(b"free", b"x") + meta
    assert read_dimensions(content) == (60_000, 50_000)


@pytest.mark.parametrize(
    "head",
    [
        b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff",
        b"\xff\xd8\xff\xda\x00\x00", b"GIF89a", b"RIFF....WEBPVP8 ",
        b"BM", b"II*\0", b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff", b"\0\0\0\x14ftypavif", b"%PDF-1.7",
        png(0, 5), b"RIFF....WEBPNEW!" + bytes(30),
        b"II*\0\x08\0\0\0\0\0", b"\0\0\0\x08ftyp\0\0\0\0meta",
    ],
)  # fmt: skip
def test_bytes_that_do_not_say(head: bytes) -> None:
    assert read_dimensions(head) is None


@given(st.sampled_from(FORMATS), st.data())
def test_any_bytes_are_taken(form: str, data: st.DataObject) -> None:
    """A file that is cut, changed, or goes on with anything has a size or none, and is never an
    error."""
    content = bytearray(picture(form, 3, 5))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read_dimensions(
        bytes(content[: data.draw(st.integers(0, len(content)))])
        + data.draw(st.binary(max_size=64))
    )


@pytest.mark.parametrize(
    "signature",
    [
        png()[:8],
        b"\xff\xd8\xff",
        b"GIF89a",
        b"RIFF....WEBP",
        b"\0\0\0\x18ftypavif",
        b"BM",
        b"II*\0",
    ],
)
def test_a_megabyte_of_anything_takes_no_time(signature: bytes) -> None:
    started = time.process_time()
    for filler in (b"\0", b"\xff", b"\x01", b"\x21\xf9\x01\x01", b"\0\0\0\x08meta"):
        read_dimensions((signature + filler * 2**20)[: 2**20])
    assert time.process_time() - started < 2
