"""Images that are larger than they seem: the limit of pixels holds wherever in a file its size
is."""

from __future__ import annotations

import io
import struct
import typing as t
import zlib

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flask_dualmedia.content.dimensions import Gauge, read_dimensions
from flask_dualmedia.content.policy import Policy
from flask_dualmedia.content.uploads import Upload
from flask_dualmedia.errors import TooManyPixels, UploadRejected

from ..conftest import MakeApp
from ..samples import bearer, part, png, post_form

HUGE = (30_000, 20_000)
MEGABYTE = 2**20


def picture(form: str, width: int = 40, height: int = 30, **options: t.Any) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (width, height)).save(target, form, **options)
    return target.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)


def header(width: int, height: int) -> bytes:
    return chunk(b"IHDR", struct.pack(">II", width, height) + b"\x08\x02\x00\x00\x00")


def sof(width: int, height: int) -> bytes:
    return b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"


def box(name: bytes, content: bytes, *, is_long: bool = False) -> bytes:
    if is_long:
        return struct.pack(">I4sQ", 1, name, 16 + len(content)) + content
    return struct.pack(">I4s", 8 + len(content), name) + content


def page(width: int, height: int, following: int) -> bytes:
    tags = struct.pack("<HHIHH", 256, 3, 1, width, 0) + struct.pack("<HHIHH", 257, 3, 1, height, 0)
    return struct.pack("<H", 2) + tags + struct.pack("<I", following)


def big_page(width: int, height: int, following: int) -> bytes:
    tags = struct.pack("<HHQQ", 256, 16, 1, width) + struct.pack("<HHQQ", 257, 16, 1, height)
    return struct.pack("<Q", 2) + tags + struct.pack("<Q", following)


def gif_frame(left: int, top: int, width: int, height: int) -> bytes:
    return b"," + struct.pack("<HHHHB", left, top, width, height, 0) + b"\x02\x02\x4c\x01\x00"


def webp(*chunks: bytes) -> bytes:
    content = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def riff(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def three(number: int) -> bytes:
    return number.to_bytes(3, "little")


SIGNATURE, REST = png(40, 30)[:8], png(40, 30)[8:]
JPEG = picture("JPEG")
GIF = picture("GIF")
COMMENT = b"\xff\xfe\xff\xff" + bytes(65533)
AVIF = box(b"ftyp", b"avif\0\0\0\0avifmif1")
SPATIAL = box(b"ispe", struct.pack(">III", 0, *HUGE))
VP8X = riff(b"VP8X", b"\x02\0\0\0" + three(39) + three(29))
DIB = struct.pack("<IiiHHII", 40, HUGE[0], 2 * HUGE[1], 1, 24, 0, 0)


def meta(*, is_long: bool) -> bytes:
    inner = box(b"iprp", box(b"ipco", SPATIAL, is_long=is_long), is_long=is_long)
    return box(b"meta", bytes(4) + inner, is_long=is_long)


BOMBS: dict[str, bytes] = {
    "PNG, a chunk in front of its header": SIGNATURE
    + chunk(b"tEXt", b"a\0b")
    + header(*HUGE)
    + REST[25:],
    "PNG, two headers": SIGNATURE + REST[:25] + header(*HUGE) + REST[25:],
    "PNG, a header behind a megabyte": SIGNATURE
    + chunk(b"tEXt", b"a\0" + bytes(MEGABYTE))
    + header(*HUGE)
    + REST[25:],
    "PNG, a second one behind a megabyte": SIGNATURE
    + REST[:25]
    + chunk(b"tEXt", b"a\0" + bytes(3 * MEGABYTE))
    + header(*HUGE)
    + REST[25:],
    "JPEG, two frame headers": JPEG[:2] + sof(40, 30) + sof(*HUGE) + JPEG[2:],
    "JPEG, behind a megabyte": JPEG[:2] + COMMENT * 20 + sof(*HUGE) + JPEG[2:],
    "JPEG, behind filling": JPEG[:2] + b"\xff" * MEGABYTE + sof(*HUGE)[1:] + JPEG[2:],
    "AVIF, long boxes": AVIF + meta(is_long=True),
    "AVIF, behind a megabyte": AVIF + box(b"mdat", bytes(2 * MEGABYTE)) + meta(is_long=False),
    "AVIF, a long box of data in front": AVIF
    + box(b"mdat", bytes(2 * MEGABYTE), is_long=True)
    + meta(is_long=True),
    "AVIF, a sequence": box(b"ftyp", b"avis\0\0\0\0avismsf1")
    + box(
        b"moov",
        box(b"trak", box(b"tkhd", bytes(76) + struct.pack(">II", HUGE[0] << 16, HUGE[1] << 16))),
    ),
    "TIFF, a larger page": b"II*\0" + struct.pack("<I", 8) + page(40, 30, 38) + page(*HUGE, 0),
    "TIFF, pages behind their data": b"II*\0"
    + struct.pack("<I", 8 + 2 * MEGABYTE)
    + bytes(2 * MEGABYTE)
    + page(40, 30, 3 * MEGABYTE + 38)
    + bytes(MEGABYTE)
    + page(*HUGE, 0),
    "BigTIFF, a larger page": b"II+\0"
    + struct.pack("<HHQ", 8, 0, 16)
    + big_page(40, 30, 72)
    + big_page(*HUGE, 0),
    "GIF, a frame beyond the screen": GIF[:-1] + gif_frame(*HUGE, 100, 100) + b";",
    "GIF, a late frame": GIF[:-1]
    + (b"!\xfe" + b"\xff" * 256 * 100 + b"\0") * 60
    + gif_frame(*HUGE, 100, 100)
    + b";",
    "WebP, animated": webp(
        VP8X, riff(b"ANIM", bytes(6)), riff(b"ANMF", bytes(6) + three(16_000) * 2 + bytes(4))
    ),
    "WebP, another size within": webp(
        VP8X, riff(b"VP8L", b"\x2f" + struct.pack("<I", 16_000 | 16_000 << 14))
    ),
    "BMP": b"BM" + bytes(12) + struct.pack("<Iii", 40, HUGE[0], -HUGE[1]),
    "ICO, a bitmap": b"\0\0\1\0\1\0"
    + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 24, len(DIB), 22)
    + DIB,
    "ICO, a PNG": b"\0\0\1\0\1\0"
    + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 24, 60, 22)
    + SIGNATURE
    + header(*HUGE)
    + REST[25:],
    "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, *reversed(HUGE), 8, 3) + bytes(12),
    "PPM": b"P6\n# as large as it gets\n30000 20000\n255\n" + bytes(30),
    "JPEG 2000": box(b"jP  ", b"\r\n\x87\n")
    + box(b"jp2h", box(b"ihdr", struct.pack(">II", *HUGE) + bytes(6))),
    "JPEG XL": b"\xff\x0a" + ((29_999 << 3 | 2 << 1) | (1 << 22)).to_bytes(12, "little"),
}


def read(content: bytes, policy: Policy, mime_type: str = "image/png") -> None:
    upload = Upload(io.BytesIO(content), policy=policy, sniffer=lambda head: mime_type)
    upload.open()
    for _ in upload.blocks():
        pass


@pytest.mark.parametrize("name", BOMBS)
def test_no_image_is_larger_than_its_limit(name: str) -> None:
    with pytest.raises(TooManyPixels):
        read(BOMBS[name], Policy())


@pytest.mark.parametrize(
    "content",
    [
        *(
            picture(form, 300, 200)
            for form in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "ICO", "JPEG2000")
        ),
        picture("TIFF", 250, 200),
        SIGNATURE + REST[:25] + chunk(b"tEXt", b"a\0" + bytes(2 * MEGABYTE)) + REST[25:],
        JPEG[:2] + COMMENT * 40 + JPEG[2:],
    ],
)
def test_images_within_their_limit_pass_however_they_are_made(content: bytes) -> None:
    read(content, Policy(max_pixels=300 * 200))


UNREADABLE = {
    "PNG, cut in its header": SIGNATURE + REST[:10],
    "PNG, cut behind its header": SIGNATURE + REST[:25],
    "PNG, no width": SIGNATURE + header(0, 30) + REST[25:],
    "JPEG, comments alone": JPEG[:2] + COMMENT,
    "JPEG, cut": JPEG[:20],
    "AVIF, its brands alone": AVIF,
    "AVIF, data alone": AVIF + box(b"mdat", bytes(2 * MEGABYTE)),
    "TIFF, a page that is not there": b"II*\0"
    + struct.pack("<I", 8)
    + page(40, 30, 9999)
    + bytes(100),
    "BMP, cut": b"BM" + bytes(14),
    "WebP, of nothing known": webp(riff(b"XXXX", bytes(30))),
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
def test_an_image_whose_size_cannot_be_read_is_refused_where_it_has_a_limit(content: bytes) -> None:
    for limited in (Policy(types=("image/*",)), Policy(max_pixels=5000)):
        with pytest.raises(UploadRejected):
            read(content, limited)
    read(content, Policy())
    read(content, Policy(types=("image/*",), max_pixels=None))


def test_drawings_have_no_pixels() -> None:
    read(b"<svg xmlns='http://www.w3.org/2000/svg'/>", Policy(types=("image/*",)), "image/svg+xml")


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_size_is_the_same_in_whatever_pieces_it_comes(data: st.DataObject) -> None:
    content = BOMBS[data.draw(st.sampled_from(sorted(BOMBS)))]
    gauge = Gauge(content[:MEGABYTE])
    place = MEGABYTE
    while place < len(content):
        step = data.draw(st.integers(100_000, MEGABYTE))
        gauge.feed(content[place : place + step])
        place += step
    gauge.close()
    assert gauge.dimensions == read_dimensions(content)


def test_an_upload_that_turns_out_too_large_leaves_nothing(make_app: MakeApp, mode: str) -> None:
    app: Flask = make_app(mode, DUALMEDIA_REFERENCES={"product": None})
    client, alice = app.test_client(), bearer(app, "alice")
    for name in ("JPEG, behind a megabyte", "AVIF, behind a megabyte"):
        fields = {"mongoProductId": "p", "file": part(BOMBS[name])}
        answer = post_form(client, alice, "/media/product-images", fields)
        assert answer.status_code == 422
        assert "pixels" in (answer.json or {})["errors"]["file"][0]
    assert (client.get("/media/product-images", headers=alice).json or {})["items"] == []
