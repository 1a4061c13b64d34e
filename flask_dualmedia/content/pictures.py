"""Where formats of images say how large they are.

Each reader is a generator. It asks for bytes by where they begin and end in the file, and gets
them, or fewer at the end of the file. It notes every size that it finds: decoders differ in which
of several they believe.
"""

from __future__ import annotations

import re
import struct
import typing as t
from collections.abc import Callable, Generator

Walk = Generator[tuple[int, int], bytes, t.Any]

WINDOW = 64 * 1024
"""Bytes that are asked for at once where all of them are looked at."""

_EXIF_SIZE = 256 * 1024
"""Bytes of EXIF data that are looked at."""

_MAX_DEPTH = 8
"""How deep boxes lie in one another."""

_MAX_ENTRIES = 4096
"""Entries of a directory of TIFF data that are looked at."""


class Dimensions(t.NamedTuple):
    """In pixels, as the image is shown."""

    width: int
    height: int


class Passed(Exception):
    """Bytes were asked for that have gone, or too many were."""


class Picture:
    """What is known of an image so far."""

    def __init__(self) -> None:
        self._largest: Dimensions | None = None
        self.is_sideways = False
        self.is_certain = False
        """Whether its size is known, whatever follows."""

    def note(self, width: int, height: int) -> None:
        if min(width, height) <= 0:
            return
        if self._largest is None or width * height > self._largest.width * self._largest.height:
            self._largest = Dimensions(width, height)

    @property
    def dimensions(self) -> Dimensions | None:
        found = self._largest
        return (
            Dimensions(found.height, found.width)
            if found is not None and self.is_sideways
            else found
        )


def walk_of(head: bytes) -> Callable[[Picture], Walk] | None:
    """The reader of a format, by the first bytes of the file."""
    for start, signature, walk in _READERS:
        if head.startswith(signature, start):
            return walk
    return _pnm if _PNM.match(head) else None


def _png(picture: Picture) -> Walk:
    place = 8
    while True:
        header = yield place, place + 8
        if picture.is_certain and len(header) < 8:
            return
        size, name = struct.unpack(">I4s", header)
        if name == b"IHDR":
            picture.note(*struct.unpack(">II", (yield place + 8, place + 16)))
        elif name == b"eXIf":
            exif = yield place + 8, place + 8 + min(size, _EXIF_SIZE)
            picture.is_sideways = _lies_on_its_side(exif)
        elif name == b"IDAT":
            picture.is_certain = picture.dimensions is not None
        elif name == b"IEND":
            return
        place += 12 + size


def _gif(picture: Picture) -> Walk:
    """The screen, or what frames beyond its border make of it: decoders enlarge it for them."""
    width, height, flags = struct.unpack_from("<HHB", (yield 0, 13), 6)
    picture.note(width, height)
    place = 13 + _color_table(flags)
    while True:
        block = yield place, place + 10
        if block[:1] == b"," and len(block) == 10:  # a frame
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", block, 1)
            width, height = max(width, left + frame_width), max(height, top + frame_height)
            picture.note(width, height)
            place += 11 + _color_table(flags)
        elif block[:1] == b"!":  # an extension
            place += 2
        else:
            picture.is_certain = True  # also where the screen is said to have no height
            return
        place = yield from _behind_blocks(place)


def _color_table(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _behind_blocks(place: int) -> Generator[tuple[int, int], bytes, int]:
    """The place behind a chain of blocks of a GIF, each with its length in front, of which the last
    is empty."""
    while True:
        window = yield place, place + WINDOW
        offset = 0
        while offset < len(window):
            length = window[offset]
            offset += length + 1
            if not length:
                return place + offset
        if len(window) < WINDOW:
            return place + offset
        place += offset


def _jpeg(picture: Picture) -> Walk:
    place = 2
    while True:
        data = yield place, place + 4
        marker = data[1]
        if data[0] != 0xFF or marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:
            # Decoders skip what is between segments, and so must we.
            place = yield from _next_marker(
                place if data[0] != 0xFF else place + (marker != 0xFF) + 1
            )
        elif marker in (0xD9, 0xDA):  # the end, or data: its size would have come before
            return
        else:
            (length,) = struct.unpack_from(">H", data, 2)
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack(">HH", (yield place + 5, place + 9))
                picture.note(width, height)
            elif marker == 0xE1:
                segment = yield place + 4, place + 2 + length
                if segment.startswith(b"Exif\0\0"):
                    picture.is_sideways = _lies_on_its_side(segment[6:])
            place += 2 + length


_SEGMENT = re.compile(rb"\xff(?=[\x02-\xcf\xd9-\xfe])")


def _next_marker(place: int) -> Generator[tuple[int, int], bytes, int]:
    """The place of the next marker of a JPEG that a segment follows, or the end."""
    while True:
        window = yield place, place + WINDOW
        found = _SEGMENT.search(window)
        if found is not None:
            return place + found.start()
        if len(window) < WINDOW:
            raise ValueError("no marker follows")
        place += len(window) - 1


def _webp(picture: Picture) -> Walk:
    place = 12
    while True:
        header = yield place, place + 8
        if len(header) < 8:
            return
        name, size = struct.unpack("<4sI", header)
        if name == b"VP8X":
            data = yield place + 12, place + 18
            picture.note(_number(data[:3]) + 1, _number(data[3:]) + 1)
        elif name == b"VP8L":
            (bits,) = struct.unpack("<I", (yield place + 9, place + 13))
            picture.note((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
            picture.is_certain = True
        elif name == b"VP8 ":
            data = yield place + 11, place + 18
            width, height = struct.unpack_from("<HH", data, 3)
            if data.startswith(b"\x9d\x01\x2a"):
                picture.note(width & 0x3FFF, height & 0x3FFF)
            picture.is_certain = picture.dimensions is not None
        elif name == b"ANMF":
            data = yield place + 8, place + 20
            left, top, width, height = (_number(data[start : start + 3]) for start in (0, 3, 6, 9))
            picture.note(2 * left + width + 1, 2 * top + height + 1)
        elif name == b"EXIF":
            picture.is_sideways = _lies_on_its_side(
                (yield place + 8, place + 8 + min(size, _EXIF_SIZE))
            )
        place += 8 + size + size % 2


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _lies_on_its_side(exif: bytes) -> bool:
    """Whether EXIF data says so. Data that is damaged says nothing, and must not hide the size
    beside it."""
    data = exif.removeprefix(b"Exif\0\0")
    order = "<" if data[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        tags = _tags(data[start + 2 : start + 2 + 12 * count], order, big=False)
    except struct.error:
        return False
    return tags.get(274) in (5, 6, 7, 8)


def _bmp(picture: Picture) -> Walk:
    yield from _bitmap(picture, 14)


def _bitmap(picture: Picture, place: int, *, has_mask: bool = False) -> Walk:
    data = yield place, place + 12
    (size,) = struct.unpack_from("<I", data)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", data, 4)
    height = abs(height)  # below zero: from top to bottom
    picture.note(abs(width), height // 2 if has_mask else height)


def _icon(picture: Picture) -> Walk:
    """The largest of its pictures, by what these say themselves."""
    (count,) = struct.unpack_from("<H", (yield 0, 6), 4)
    entries = yield 6, 6 + 16 * count
    for start in sorted(
        struct.unpack_from("<I", entries, 16 * number + 12)[0] for number in range(count)
    ):
        data = yield start, start + 24
        if not data.startswith(b"\x89PNG"):
            yield from _bitmap(picture, start, has_mask=True)
        elif data[12:16] == b"IHDR":
            picture.note(*struct.unpack_from(">II", data, 16))
        else:
            raise ValueError("a PNG must begin with its size")


def _tiff(picture: Picture) -> Walk:
    """The largest of its pages."""
    head = yield 0, 16
    order, big = ("<" if head[:2] == b"II" else ">"), 43 in head[2:4]
    place = struct.unpack_from(f"{order}{'Q' if big else 'I'}", head, 8 if big else 4)[0]
    count_form, entry_size = ("Q", 20) if big else ("H", 12)
    count_size = struct.calcsize(f"{order}{count_form}")
    seen: set[int] = set()
    while place and place not in seen:
        (count,) = struct.unpack(f"{order}{count_form}", (yield place, place + count_size))
        if count > _MAX_ENTRIES:
            raise ValueError("too many entries")
        behind = place + count_size + entry_size * count
        directory = yield place + count_size, behind + entry_size
        tags = _tags(directory[: entry_size * count], order, big=big)
        picture.note(tags.get(256, 0), tags.get(257, 0))
        if not seen:
            picture.is_sideways = tags.get(274) in (5, 6, 7, 8)
        seen.add(place)
        following = directory[entry_size * count :]
        place = (
            struct.unpack_from(f"{order}{'Q' if big else 'I'}", following)[0]
            if len(following) >= 4
            else 0
        )


_FORMS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
"""How TIFF data writes whole numbers, by the number of the form."""


def _tags(entries: bytes, order: str, *, big: bool) -> dict[int, int]:
    """The whole numbers in a directory of TIFF data, which EXIF is too, by their tags."""
    size, start = (20, 12) if big else (12, 8)
    tags: dict[int, int] = {}
    for place in range(0, len(entries) - size + 1, size):
        tag, form = struct.unpack_from(f"{order}HH", entries, place)
        if form in _FORMS and (big or form < 16):
            (tags[tag],) = struct.unpack_from(f"{order}{_FORMS[form]}", entries, place + start)
    return tags


_CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0, b"moov": 0, b"trak": 0, b"jp2h": 0}
"""Boxes that have boxes in them, and how many bytes stand in front of these."""


def _iso_media(picture: Picture) -> Walk:
    """AVIF and HEIC by the item properties (ISO/IEC 23008-12), where the whole is larger than its
    thumbnails and its tiles, and by the tracks of a sequence; JPEG 2000 and JPEG XL by their
    headers."""
    yield from _boxes(picture, 0, 1 << 62, 0)


def _boxes(picture: Picture, place: int, end: int, depth: int) -> Walk:
    while place + 8 <= end:
        header = yield place, place + 16
        if len(header) < 8:
            return
        size, name = struct.unpack_from(">I4s", header)
        start = place + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", header, 8)
            start += 8
        elif size == 0:  # to the end of the file
            size = end - place
        if size < start - place:
            return
        place = min(place + size, end)
        if name in _CONTAINERS and depth < _MAX_DEPTH:
            yield from _boxes(picture, start + _CONTAINERS[name], place, depth + 1)
            picture.is_certain = picture.is_certain or (
                name == b"meta" and picture.dimensions is not None
            )
        else:
            yield from _box(picture, name, start, place)


def _box(picture: Picture, name: bytes, start: int, end: int) -> Walk:
    if name == b"ispe":
        picture.note(*struct.unpack_from(">II", (yield start, start + 12), 4))
    elif name == b"irot":
        picture.is_sideways = picture.is_sideways or (yield start, start + 1)[0] % 2 == 1
    elif name == b"tkhd":
        width, height = struct.unpack(">II", (yield end - 8, end))
        picture.note(width >> 16, height >> 16)
    elif name == b"ihdr":
        height, width = struct.unpack(">II", (yield start, start + 8))
        picture.note(width, height)
    elif name == b"jp2c":
        yield from _jpeg_2000(picture, start)
    elif name == b"jxlc":
        yield from _jpeg_xl(picture, start)
    elif name == b"jxlp" and (yield start, start + 4)[-1] == 0:  # the first part
        yield from _jpeg_xl(picture, start + 4)


def _jpeg_2000(picture: Picture, place: int = 0) -> Walk:
    """A codestream (ISO/IEC 15444-1, section A.5.1)."""
    data = yield place, place + 24
    if data[:4] == b"\xff\x4f\xff\x51":
        right, bottom, left, top = struct.unpack_from(">IIII", data, 8)
        picture.note(right - left, bottom - top)


_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def _jpeg_xl(picture: Picture, place: int = 0) -> Walk:
    """A codestream (ISO/IEC 18181-1, section D.2)."""
    data = yield place, place + 14
    bits = int.from_bytes(data[2:], "little")

    def take(number: int) -> int:
        nonlocal bits
        value = bits & (1 << number) - 1
        bits >>= number
        return value

    is_small = take(1) == 1

    def length() -> int:
        return 8 * (take(5) + 1) if is_small else take((9, 13, 18, 30)[take(2)]) + 1

    if len(data) < 6:
        raise ValueError("cut off")
    height = length()
    ratio = take(3)
    across, down = _RATIOS.get(ratio, (0, 1))
    picture.note(length() if ratio == 0 else height * across // down, height)


def _photoshop(picture: Picture) -> Walk:
    height, width = struct.unpack_from(">II", (yield 0, 22), 14)
    picture.note(width, height)


def _gimp(picture: Picture) -> Walk:
    picture.note(*struct.unpack_from(">II", (yield 0, 22), 14))


_PNM = re.compile(rb"P[1-6]\s(?:\s|#[^\n]*\n)*(\d{1,10})\s(?:\s|#[^\n]*\n)*(\d{1,10})\s|P[1-7]\s")
_PAM = re.compile(rb"^(WIDTH|HEIGHT)\s+(\d{1,10})\s*$", re.MULTILINE)


def _pnm(picture: Picture) -> Walk:
    head = yield 0, 4096
    if head.startswith(b"P7"):
        found = {name: int(number) for name, number in _PAM.findall(head.partition(b"ENDHDR")[0])}
        picture.note(found.get(b"WIDTH", 0), found.get(b"HEIGHT", 0))
        return
    sizes = _PNM.match(head)
    if sizes is not None and sizes[1] is not None:
        picture.note(int(sizes[1]), int(sizes[2]))


_READERS: tuple[tuple[int, bytes, Callable[[Picture], Walk]], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", _png),
    (0, b"\xff\xd8\xff", _jpeg),
    (0, b"GIF8", _gif),
    (8, b"WEBP", _webp),
    (4, b"ftyp", _iso_media),
    (4, b"jP  ", _iso_media),
    (4, b"JXL ", _iso_media),
    (0, b"\xff\x0a", _jpeg_xl),
    (0, b"\xff\x4f\xff\x51", _jpeg_2000),
    (0, b"BM", _bmp),
    (0, b"\0\0\1\0", _icon),
    (0, b"\0\0\2\0", _icon),
    (0, b"II*\0", _tiff),
    (0, b"MM\0*", _tiff),
    (0, b"II+\0", _tiff),
    (0, b"MM\0+", _tiff),
    (0, b"8BPS", _photoshop),
    (0, b"gimp xcf ", _gimp),
)
