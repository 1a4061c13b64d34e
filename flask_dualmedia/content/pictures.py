"""Readers of image formats, which find where a file says how large it is.

Each reader is a generator. It asks for bytes by where they begin and end in the file, and gets
them, or fewer at the end of the file. It notes every size that it finds: decoders differ in which
of several they believe.

A damaged file makes a reader raise ``struct.error``, ``IndexError`` or ``ValueError``. Its caller
expects that.
"""

from __future__ import annotations

import re
import struct
import typing as t
from collections.abc import Callable, Generator

Request = tuple[int, int]
"""Where bytes that a reader asks for begin and end."""

Walk = Generator[Request, bytes, t.Any]

_Search = Generator[Request, bytes, int]
"""A part of a walk, which ends with the place where the next part begins."""

WINDOW = 64 * 1024
"""Bytes that are asked for at once where all of them are looked at."""

_EXIF_SIZE = 256 * 1024
"""Bytes of EXIF data that are looked at."""

_MAX_DEPTH = 8
"""How deep boxes lie in one another."""

_MAX_ENTRIES = 4096
"""Entries of a directory of TIFF data that are looked at."""

# Tags of TIFF data, and of EXIF data, which is written like it.
_WIDTH_TAG = 256
_HEIGHT_TAG = 257
_ORIENTATION_TAG = 274

_SIDEWAYS = (5, 6, 7, 8)
"""Orientations of an image that lies on its side."""


class Dimensions(t.NamedTuple):
    """Width and height in pixels, as the image is shown."""

    width: int
    height: int


class Passed(Exception):
    """A reader asked for bytes that have gone, or asked too often."""


class Picture:
    """The size of an image, as far as its reader has learnt it."""

    def __init__(self) -> None:
        self._largest: Dimensions | None = None
        self.is_sideways = False
        """True if the image is shown turned by a quarter."""
        self.is_certain = False
        """True if its size is known, whatever follows."""

    def note(self, width: int, height: int) -> None:
        """Remember a size that the file states, if it is the largest until now."""
        if min(width, height) <= 0:
            return
        largest = self._largest
        if largest is None or width * height > largest.width * largest.height:
            self._largest = Dimensions(width, height)

    @property
    def dimensions(self) -> Dimensions | None:
        """The largest size until now, as the image is shown; ``None`` if there was none."""
        largest = self._largest
        if largest is None or not self.is_sideways:
            return largest
        return Dimensions(width=largest.height, height=largest.width)


Reader = Callable[[Picture], Walk]


def walk_of(head: bytes) -> Reader | None:
    """Choose the reader of a format by the first bytes of the file.

    :return: ``None`` if there is no reader of the format.
    """
    for start, signature, walk in _READERS:
        if head.startswith(signature, start):
            return walk
    if _PNM.match(head):
        return _pnm
    return None


def _png(picture: Picture) -> Walk:
    """Read the chunks of a PNG.

    The size stands in front of the pixels. EXIF data, which may turn the image, may stand behind
    them, so the chunks are followed to the end.
    """
    place = 8
    while True:
        header = yield place, place + 8
        if picture.is_certain and len(header) < 8:
            return

        size, name = struct.unpack(">I4s", header)
        content = place + 8
        if name == b"IHDR":
            data = yield content, content + 8
            width, height = struct.unpack(">II", data)
            picture.note(width, height)
        elif name == b"eXIf":
            exif = yield content, content + min(size, _EXIF_SIZE)
            picture.is_sideways = _lies_on_its_side(exif)
        elif name == b"IDAT":
            picture.is_certain = picture.dimensions is not None
        elif name == b"IEND":
            return

        place += 12 + size


def _gif(picture: Picture) -> Walk:
    """Note the screen, and what frames beyond its border make of it.

    Decoders enlarge it for them.
    """
    data = yield 0, 13
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    picture.note(width, height)
    place = 13 + _color_table_size(flags)

    while True:
        block = yield place, place + 10
        if block[:1] == b"," and len(block) == 10:  # a frame
            frame = struct.unpack_from("<HHHHB", block, 1)
            left, top, frame_width, frame_height, flags = frame
            width = max(width, left + frame_width)
            height = max(height, top + frame_height)
            picture.note(width, height)
            place += 11 + _color_table_size(flags)
        elif block[:1] == b"!":  # an extension
            place += 2
        else:
            picture.is_certain = True  # also where the screen is said to have no height
            return
        place = yield from _behind_blocks(place)


def _color_table_size(flags: int) -> int:
    """Return the bytes of a color table of a GIF, which flags say; zero if there is none."""
    if flags & 0x80:
        return 3 << (flags & 7) + 1
    return 0


def _behind_blocks(place: int) -> _Search:
    """Find the place behind a chain of blocks of a GIF.

    Each block has its length in front, and the last one is empty.
    """
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


# Markers of JPEG segments: those that a length does not follow, and those of frames with a size.
_BARE_MARKERS = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_END_MARKERS = frozenset({0xD9, 0xDA})
_EXIF_MARKER = 0xE1


def _jpeg(picture: Picture) -> Walk:
    """Go from segment to segment. Decoders skip what is between them, and so must we."""
    place = 2
    while True:
        header = yield place, place + 4
        first, marker = header[:2]
        if first != 0xFF:
            place = yield from _next_marker(place)
        elif marker == 0xFF:
            place = yield from _next_marker(place + 1)
        elif marker in _BARE_MARKERS:
            place = yield from _next_marker(place + 2)
        elif marker in _END_MARKERS:  # the end, or data: its size would have come before
            return
        else:
            (length,) = struct.unpack_from(">H", header, 2)
            end = place + 2 + length
            yield from _jpeg_segment(picture, marker, place + 4, end)
            place = end


def _jpeg_segment(picture: Picture, marker: int, start: int, end: int) -> Walk:
    """Read a segment if it has a size, or EXIF data.

    :param start: The place behind the length of the segment.
    """
    if marker in _FRAME_MARKERS:
        data = yield start + 1, start + 5
        height, width = struct.unpack(">HH", data)
        picture.note(width, height)
    elif marker == _EXIF_MARKER:
        data = yield start, end
        if data.startswith(b"Exif\0\0"):
            picture.is_sideways = _lies_on_its_side(data[6:])


_SEGMENT = re.compile(rb"\xff(?=[\x02-\xcf\xd9-\xfe])")


def _next_marker(place: int) -> _Search:
    """Find the place of the next marker of a JPEG that a segment follows, or the end."""
    while True:
        window = yield place, place + WINDOW
        marker = _SEGMENT.search(window)
        if marker is not None:
            return place + marker.start()
        if len(window) < WINDOW:
            raise ValueError("no marker follows")
        place += len(window) - 1


def _webp(picture: Picture) -> Walk:
    """Read the chunks of a WebP. Its canvas, its pixels and its frames each state a size."""
    place = 12
    while True:
        header = yield place, place + 8
        if len(header) < 8:
            return
        name, size = struct.unpack("<4sI", header)
        yield from _webp_chunk(picture, name, place + 8, size)
        place += 8 + size + size % 2


def _webp_chunk(picture: Picture, name: bytes, start: int, size: int) -> Walk:
    """Read one chunk.

    :param start: The place where its content begins.
    :param size: Bytes of its content, as its header says.
    """
    if name == b"VP8X":
        data = yield start + 4, start + 10
        width = _number(data[:3]) + 1
        height = _number(data[3:]) + 1
        picture.note(width, height)

    elif name == b"VP8L":
        data = yield start + 1, start + 5
        (bits,) = struct.unpack("<I", data)
        width = (bits & 0x3FFF) + 1
        height = (bits >> 14 & 0x3FFF) + 1
        picture.note(width, height)
        picture.is_certain = True

    elif name == b"VP8 ":
        data = yield start + 3, start + 10
        width, height = struct.unpack_from("<HH", data, 3)
        width &= 0x3FFF
        height &= 0x3FFF
        if data.startswith(b"\x9d\x01\x2a"):
            picture.note(width, height)
        picture.is_certain = picture.dimensions is not None

    elif name == b"ANMF":
        data = yield start, start + 12
        left = 2 * _number(data[:3])
        top = 2 * _number(data[3:6])
        width = _number(data[6:9]) + 1
        height = _number(data[9:12]) + 1
        picture.note(left + width, top + height)

    elif name == b"EXIF":
        exif = yield start, start + min(size, _EXIF_SIZE)
        picture.is_sideways = _lies_on_its_side(exif)


def _number(data: bytes) -> int:
    """Read a number whose lowest byte comes first."""
    return int.from_bytes(data, "little")


def _lies_on_its_side(exif: bytes) -> bool:
    """Tell from EXIF data whether the image lies on its side.

    Data that is damaged says nothing, and must not hide the size beside it.
    """
    data = exif.removeprefix(b"Exif\0\0")
    order = _byte_order(data)
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        entries = data[start + 2 : start + 2 + 12 * count]
        tags = _tags(entries, order, big=False)
    except struct.error:
        return False
    return tags.get(_ORIENTATION_TAG) in _SIDEWAYS


def _byte_order(data: bytes) -> str:
    """Return the byte order of TIFF data, as :mod:`struct` writes it."""
    if data[:2] == b"II":
        return "<"
    return ">"


def _bmp(picture: Picture) -> Walk:
    """Read the header that stands behind the 14 bytes of the file's own."""
    yield from _bitmap(picture, 14)


def _bitmap(picture: Picture, place: int, *, has_mask: bool = False) -> Walk:
    """Read the header of a bitmap, in the form of OS/2 or in that of Windows.

    :param has_mask: A mask of the same size stands behind the pixels, and the header counts both.
    """
    data = yield place, place + 12
    (header_size,) = struct.unpack_from("<I", data)

    if header_size == 12:
        width, height = struct.unpack_from("<HH", data, 4)
    else:
        width, height = struct.unpack_from("<ii", data, 4)

    height = abs(height)  # below zero: from top to bottom
    if has_mask:
        height //= 2
    picture.note(abs(width), height)


def _icon(picture: Picture) -> Walk:
    """Note the largest of its pictures, by what these say themselves."""
    header = yield 0, 6
    (count,) = struct.unpack_from("<H", header, 4)
    entries = yield 6, 6 + 16 * count
    places: list[int] = []
    for number in range(count):
        (place,) = struct.unpack_from("<I", entries, 16 * number + 12)
        places.append(place)

    for start in sorted(places):
        data = yield start, start + 24
        if not data.startswith(b"\x89PNG"):
            yield from _bitmap(picture, start, has_mask=True)
        elif data[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", data, 16)
            picture.note(width, height)
        else:
            raise ValueError("a PNG must begin with its size")


class _TiffLayout:
    """How a TIFF file writes its directories: as BigTIFF does, or in the classic way."""

    def __init__(self, head: bytes) -> None:
        self.order = _byte_order(head)
        self.is_big = 43 in head[2:4]
        if self.is_big:
            self.first, self.entry_size = 8, 20
            self.place = struct.Struct(f"{self.order}Q")
            self.count = struct.Struct(f"{self.order}Q")
        else:
            self.first, self.entry_size = 4, 12
            self.place = struct.Struct(f"{self.order}I")
            self.count = struct.Struct(f"{self.order}H")


def _tiff(picture: Picture) -> Walk:
    """Note the largest of its pages."""
    head = yield 0, 16
    layout = _TiffLayout(head)
    (place,) = layout.place.unpack_from(head, layout.first)
    seen: set[int] = set()

    while place and place not in seen:
        entries, following = yield from _tiff_directory(layout, place)
        tags = _tags(entries, layout.order, big=layout.is_big)
        width = tags.get(_WIDTH_TAG, 0)
        height = tags.get(_HEIGHT_TAG, 0)
        picture.note(width, height)
        if not seen:
            picture.is_sideways = tags.get(_ORIENTATION_TAG) in _SIDEWAYS
        seen.add(place)

        if len(following) < 4:
            return
        (place,) = layout.place.unpack_from(following)


def _tiff_directory(
    layout: _TiffLayout, place: int
) -> Generator[Request, bytes, tuple[bytes, bytes]]:
    """Read the entries of a directory, and the bytes behind them that name the next one."""
    start = place + layout.count.size
    data = yield place, start
    (count,) = layout.count.unpack(data)
    if count > _MAX_ENTRIES:
        raise ValueError("too many entries")

    size = layout.entry_size * count
    directory = yield start, start + size + layout.entry_size
    return directory[:size], directory[size:]


_FORMS = {
    1: "B",
    3: "H",
    4: "I",
    6: "b",
    8: "h",
    9: "i",
    16: "Q",
    17: "q",
}
"""How TIFF data writes whole numbers, by the number of the form."""


def _tags(entries: bytes, order: str, *, big: bool) -> dict[int, int]:
    """Read the whole numbers in a directory of TIFF data, which EXIF is too, by their tags.

    :param order: The byte order, as :mod:`struct` writes it.
    :param big: The entries are those of BigTIFF.
    """
    size, start = 12, 8
    if big:
        size, start = 20, 12

    tags: dict[int, int] = {}
    for place in range(0, len(entries) - size + 1, size):
        tag, form = struct.unpack_from(f"{order}HH", entries, place)
        if form in _FORMS and (big or form < 16):
            number_form = f"{order}{_FORMS[form]}"
            (tags[tag],) = struct.unpack_from(number_form, entries, place + start)
    return tags


_CONTAINERS = {
    b"meta": 4,
    b"iprp": 0,
    b"ipco": 0,
    b"moov": 0,
    b"trak": 0,
    b"jp2h": 0,
}
"""Boxes that have boxes in them, and how many bytes stand in front of these."""


def _iso_media(picture: Picture) -> Walk:
    """Read AVIF, HEIC, JPEG 2000 and JPEG XL.

    AVIF and HEIC are read by the item properties (ISO/IEC 23008-12), where the whole is larger than
    its thumbnails and its tiles, and by the tracks of a sequence; JPEG 2000 and JPEG XL by their
    headers.
    """
    yield from _boxes(picture, 0, 1 << 62, 0)


def _boxes(picture: Picture, place: int, end: int, depth: int) -> Walk:
    """Read the boxes between two places, and those in them.

    :param depth: The number of boxes that these lie in.
    """
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
            if name == b"meta" and picture.dimensions is not None:
                picture.is_certain = True
        else:
            yield from _box(picture, name, start, place)


def _box(picture: Picture, name: bytes, start: int, end: int) -> Walk:
    """Read a box that states a size or a rotation.

    :param start: The place where its content begins.
    """
    if name == b"ispe":
        data = yield start, start + 12
        width, height = struct.unpack_from(">II", data, 4)
        picture.note(width, height)
    elif name == b"irot":
        if not picture.is_sideways:
            data = yield start, start + 1
            picture.is_sideways = data[0] % 2 == 1
    elif name == b"tkhd":
        data = yield end - 8, end
        width, height = struct.unpack(">II", data)
        picture.note(width >> 16, height >> 16)
    elif name == b"ihdr":
        data = yield start, start + 8
        height, width = struct.unpack(">II", data)
        picture.note(width, height)
    elif name == b"jp2c":
        yield from _jpeg_2000(picture, start)
    elif name == b"jxlc":
        yield from _jpeg_xl(picture, start)
    elif name == b"jxlp":
        part_number = yield start, start + 4
        if part_number[-1] == 0:  # the first part
            yield from _jpeg_xl(picture, start + 4)


def _jpeg_2000(picture: Picture, place: int = 0) -> Walk:
    """Read a codestream (ISO/IEC 15444-1, section A.5.1)."""
    data = yield place, place + 24
    if data[:4] == b"\xff\x4f\xff\x51":
        right, bottom, left, top = struct.unpack_from(">IIII", data, 8)
        picture.note(right - left, bottom - top)


_RATIOS = {
    1: (1, 1),
    2: (12, 10),
    3: (4, 3),
    4: (3, 2),
    5: (16, 9),
    6: (5, 4),
    7: (2, 1),
}


def _jpeg_xl(picture: Picture, place: int = 0) -> Walk:
    """Read a codestream (ISO/IEC 18181-1, section D.2)."""
    data = yield place, place + 14
    if len(data) < 6:
        raise ValueError("cut off")
    bits = int.from_bytes(data[2:], "little")

    def take(number: int) -> int:
        nonlocal bits
        value = bits & (1 << number) - 1
        bits >>= number
        return value

    def take_length() -> int:
        if is_small:
            return 8 * (take(5) + 1)
        bit_count = (9, 13, 18, 30)[take(2)]
        return take(bit_count) + 1

    is_small = take(1) == 1
    height = take_length()
    ratio = take(3)
    if ratio == 0:
        width = take_length()
    else:
        across, down = _RATIOS[ratio]
        width = height * across // down
    picture.note(width, height)


def _photoshop(picture: Picture) -> Walk:
    """Read the header of a Photoshop document, which has the height before the width."""
    data = yield 0, 22
    height, width = struct.unpack_from(">II", data, 14)
    picture.note(width, height)


def _gimp(picture: Picture) -> Walk:
    data = yield 0, 22
    width, height = struct.unpack_from(">II", data, 14)
    picture.note(width, height)


_PNM = re.compile(rb"P[1-6]\s(?:\s|#[^\n]*\n)*(\d{1,10})\s(?:\s|#[^\n]*\n)*(\d{1,10})\s|P[1-7]\s")
_PAM = re.compile(rb"^(WIDTH|HEIGHT)\s+(\d{1,10})\s*$", re.MULTILINE)


def _pnm(picture: Picture) -> Walk:
    """Read a portable anymap, or a PAM, which names width and height."""
    head = yield 0, 4096
    if head.startswith(b"P7"):
        header = head.partition(b"ENDHDR")[0]
        fields = dict(_PAM.findall(header))
        width = int(fields.get(b"WIDTH", 0))
        height = int(fields.get(b"HEIGHT", 0))
        picture.note(width, height)
        return

    header = _PNM.match(head)
    if header is not None and header[1] is not None:
        picture.note(int(header[1]), int(header[2]))


_READERS: tuple[tuple[int, bytes, Reader], ...] = (
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
