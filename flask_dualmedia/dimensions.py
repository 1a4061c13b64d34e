"""Width and height of images, read from their first bytes: nothing is decoded, so no bomb goes off."""

from __future__ import annotations

import struct
import typing as t
from collections.abc import Iterator

from .content.iso_media import boxes


class Dimensions(t.NamedTuple):
    """In pixels, as the image is shown."""

    width: int
    height: int


def read_dimensions(head: bytes) -> Dimensions | None:
    """Width and height of a PNG, JPEG, GIF, WebP, AVIF, HEIC, BMP or TIFF image.

    Where an image holds pictures of several sizes, they are those of the largest. Where it says that it lies on its
    side (EXIF orientation 5 to 8, and ``irot`` of AVIF and HEIC), they are swapped, as far as it says so in ``head``.

    :param head: The first bytes of the file, the more the better: JPEG and TIFF may have a lot before their size.
    :return: ``None`` where they do not say.
    """
    for start, signature, read in _READERS:
        if head.startswith(signature, start):
            try:
                found = read(head)
            except (struct.error, IndexError, ValueError):  # cut off
                return None
            return found if found is not None and min(found) > 0 else None
    return None


def _png(head: bytes) -> Dimensions | None:
    if head[12:16] != b"IHDR":
        return None
    found = Dimensions(*struct.unpack_from(">II", head, 16))
    return _as_shown(found, _chunk(head, 8, b"eXIf", order=">"))


def _gif(head: bytes) -> Dimensions:
    """The screen, or what frames beyond its border make of it: decoders enlarge it for them."""
    width, height, flags = struct.unpack_from("<HHB", head, 6)
    place = 13 + _color_table(flags)
    while place < len(head):
        if head[place] == 0x2C and place + 10 <= len(head):  # a frame
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", head, place + 1)
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            place += 11 + _color_table(flags)
        elif head[place] == 0x21:  # an extension
            place += 2
        else:
            break
        while place < len(head) and head[place]:
            place += head[place] + 1
        place += 1
    return Dimensions(width, height)


def _color_table(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _jpeg(head: bytes) -> Dimensions | None:
    place, sideways = 2, False
    while True:
        # Decoders skip what is between segments, and so must we.
        place = head.index(b"\xff", place)
        while head[place] == 0xFF:
            place += 1
        marker = head[place]
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # no segment follows
            continue
        if marker in (0xD9, 0xDA):  # the end, or data: its size would have come before
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", head, place + 4)
            return Dimensions(height, width) if sideways else Dimensions(width, height)
        (length,) = struct.unpack_from(">H", head, place + 1)
        if marker == 0xE1 and head.startswith(b"Exif\0\0", place + 3):
            sideways = _lies_on_its_side(head[place + 9 : place + 1 + length])
        place += 1 + length


def _webp(head: bytes) -> Dimensions | None:
    form = head[12:16]
    if form == b"VP8X":
        found = Dimensions(int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1)
        return _as_shown(found, _chunk(head, 12, b"EXIF", order="<"))
    if form == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return Dimensions((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if form == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", head, 26)
        return Dimensions(width & 0x3FFF, height & 0x3FFF)
    return None


def _chunk(head: bytes, place: int, name: bytes, *, order: str) -> bytes:
    """The first chunk of this name of a PNG (``>``) or a WebP (``<``), as far as it is among these bytes."""
    while place + 8 <= len(head):
        if order == ">":
            size, found = struct.unpack_from(">I4s", head, place)
            behind = 4  # a checksum
        else:
            found, size = struct.unpack_from("<4sI", head, place)
            behind = size % 2  # to an even length
        if found == name:
            return head[place + 8 : place + 8 + size]
        place += 8 + size + behind
    return b""


def _as_shown(size: Dimensions, exif: bytes) -> Dimensions:
    """The size of an image whose EXIF data may say that it lies on its side."""
    sideways = _lies_on_its_side(exif.removeprefix(b"Exif\0\0"))
    return Dimensions(size.height, size.width) if sideways else size


def _lies_on_its_side(exif: bytes) -> bool:
    """Whether EXIF data says so. Data that is damaged says nothing, and must not hide the size beside it."""
    try:
        return _is_sideways(_tags(exif))
    except struct.error:
        return False


def _bmp(head: bytes) -> Dimensions:
    (size,) = struct.unpack_from("<I", head, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", head, 18)
    return Dimensions(abs(width), abs(height))  # below zero: from top to bottom


def _tiff(head: bytes) -> Dimensions | None:
    tags = _tags(head)
    if 256 not in tags or 257 not in tags:
        return None
    found = Dimensions(tags[256], tags[257])
    return Dimensions(found.height, found.width) if _is_sideways(tags) else found


def _tags(data: bytes) -> dict[int, int]:
    """The whole numbers in the first directory of TIFF data, which EXIF is too, by their tags."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    tags: dict[int, int] = {}
    for place in range(start + 2, min(start + 2 + 12 * count, len(data) - 11), 12):
        tag, form = struct.unpack_from(f"{order}HH", data, place)
        if form in (3, 4):  # of two bytes, of four
            (tags[tag],) = struct.unpack_from(f"{order}{'H' if form == 3 else 'I'}", data, place + 8)
    return tags


def _is_sideways(tags: dict[int, int]) -> bool:
    return tags.get(274) in (5, 6, 7, 8)


def _heif(head: bytes) -> Dimensions | None:
    """By the item properties (ISO/IEC 23008-12): the whole is larger than its thumbnails and its tiles."""
    found, sideways = None, False
    for meta, end in _boxes(head, 0, len(head), b"meta"):
        for iprp, iprp_end in _boxes(head, meta + 4, end, b"iprp"):
            for ipco, ipco_end in _boxes(head, iprp, iprp_end, b"ipco"):
                for ispe, _ in _boxes(head, ipco, ipco_end, b"ispe"):
                    size = Dimensions(*struct.unpack_from(">II", head, ispe + 4))
                    found = size if found is None else max(found, size, key=lambda one: one.width * one.height)
                for irot, _ in _boxes(head, ipco, ipco_end, b"irot"):
                    sideways = sideways or head[irot] % 2 == 1
    return Dimensions(found.height, found.width) if found and sideways else found


def _boxes(head: bytes, start: int, end: int, name: bytes) -> Iterator[tuple[int, int]]:
    """Where the contents of boxes of this name begin and end, as far as they are among these bytes."""
    for box, content, box_end in boxes(head, start, end):
        if box == name:
            yield content, min(box_end, end)


_READERS: tuple[tuple[int, bytes, t.Callable[[bytes], Dimensions | None]], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", _png),
    (0, b"\xff\xd8\xff", _jpeg),
    (0, b"GIF8", _gif),
    (8, b"WEBP", _webp),
    (4, b"ftyp", _heif),
    (0, b"BM", _bmp),
    (0, b"II*\0", _tiff),
    (0, b"MM\0*", _tiff),
)
