"""ISO base media files (ISO/IEC 14496-12) and QuickTime.

They are one container for film, sound and pictures.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

# QuickTime files without ``ftyp`` begin with one of the first boxes; in small ones, others follow.
_FIRST = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_BOXES = {
    *_FIRST,
    b"uuid",
    b"udta",
    b"meta",
    b"moof",
    b"PICT",
    b"junk",
    b"sidx",
    b"prft",
    b"pdin",
    b"mfra",
}

_PICTURES = {
    b"avif": "image/avif", b"avis": "image/avif",
    b"heic": "image/heic", b"heix": "image/heic", b"heim": "image/heic", b"heis": "image/heic",
    b"hevc": "image/heic", b"hevx": "image/heic", b"hevm": "image/heic", b"hevs": "image/heic",
    b"jp2 ": "image/jp2", b"jpx ": "image/jpx", b"jpm ": "image/jpm",
    b"jxl ": "image/jxl",
    b"crx ": "image/x-canon-cr3",
}  # fmt: skip
_ANY_PICTURE = (b"mif1", b"mif2", b"msf1", b"miaf", b"MiHB", b"1pic")

_SOUND = (b"M4A ", b"M4B ", b"M4P ", b"F4A ", b"F4B ")
_FILM = (
    b"iso", b"mp4", b"mp7", b"avc", b"hvc", b"hev", b"av01", b"dash", b"M4V", b"cmf", b"MSNV",
    b"f4v", b"F4V", b"F4P", b"XAVC", b"XFVC", b"NDS", b"NDX", b"ND", b"mmp4", b"piff", b"ccff",
    b"ism", b"dby1", b"caqv", b"CAEP", b"niko", b"pana", b"3gp", b"3g2", b"qt  ",
)  # fmt: skip

# Brands of film and sound: how a major brand begins, and the types of film and of sound alone.
_KINDS_BY_BRAND = (
    ((b"3g2", b"KDDI"), "video/3gpp2", "audio/3gpp2"),
    ((b"3gp", b"3ge", b"3gg", b"3gs"), "video/3gpp", "audio/3gpp"),
    ((b"qt  ",), "video/quicktime", "audio/mp4"),
)

MAX_TRACKS = 64


def sniff_iso_media(head: bytes) -> str | None:
    """Return the MIME type of a file whose second four bytes name a box.

    Film or sound is told by the tracks. It is not known of a file whose index is not among the
    first bytes: that is ``application/mp4``.
    """
    first_box = head[4:8]
    if first_box == b"jP  ":
        return _PICTURES.get(head[20:24], "image/jp2")
    if first_box == b"JXL ":
        return "image/jxl"
    if first_box not in _FIRST:
        return None
    if first_box == b"ftyp":
        return _by_brands(head)
    return _without_brands(head)


def _by_brands(head: bytes) -> str | None:
    """Return the type that the brands in ``ftyp`` name, the major brand before compatible ones."""
    (size,) = struct.unpack_from(">I", head)
    end = min(size, len(head) - 3, 512)
    major = head[8:12]
    compatible = [head[place : place + 4] for place in range(16, end, 4)]

    if major in _PICTURES:
        return _PICTURES[major]
    if major in _ANY_PICTURE:
        return _compatible_picture(compatible)
    if major in _SOUND:
        return "audio/mp4"
    if major == b"mjp2":
        return "video/mj2"
    return _film_or_sound(head, major, compatible)


def _compatible_picture(brands: list[bytes]) -> str:
    """Return the type of a picture whose major brand only says that it is one."""
    for brand in brands:
        if brand in _PICTURES:
            return _PICTURES[brand]
    return "image/heif"


def _film_or_sound(head: bytes, major: bytes, compatible: list[bytes]) -> str | None:
    """Return the type of film or sound, by the tracks.

    :return: ``application/mp4`` if the tracks are not among these bytes, and ``None`` if no brand
        is one of film either.
    """
    tracks = _tracks(head)
    for brands, film, sound in _KINDS_BY_BRAND:
        if major.startswith(brands):
            return sound if tracks == "sound" else film

    if tracks == "sound":
        return "audio/mp4"
    if tracks == "film":
        return "video/mp4"
    if any(brand.startswith(_FILM) for brand in (major, *compatible)):
        return "application/mp4"
    return None


def _without_brands(head: bytes) -> str | None:
    """Recognize QuickTime by one box that follows another."""
    for number, (name, _, end) in enumerate(boxes(head, 0, len(head))):
        if name not in _BOXES:
            return None
        is_cut_off = number > 0 and end > len(head)
        if name in (b"moov", b"mdat") or is_cut_off:
            break
    else:
        return None

    if _tracks(head) == "sound":
        return "audio/mp4"
    return "video/quicktime"


def _tracks(head: bytes) -> str | None:
    """Tell ``film`` from ``sound`` by the index.

    :return: ``None`` if the index is not among these bytes, or not to its end.
    """
    for name, start, end in boxes(head, 0, len(head)):
        if name != b"moov":
            continue
        handlers = _handlers(head, start, min(end, len(head)))
        if b"vide" in handlers:
            return "film"
        is_whole = end <= len(head)
        if b"soun" in handlers and is_whole:
            return "sound"
        break
    return None


def _handlers(head: bytes, start: int, end: int) -> list[bytes]:
    """Return the handlers of the tracks in a ``moov`` box, which say what the tracks are."""
    handlers: list[bytes] = []
    for name, track, track_end in boxes(head, start, end):
        if name == b"trak" and len(handlers) < MAX_TRACKS:
            handlers += _handlers_of_track(head, track, min(track_end, end), end)
    return handlers


def _handlers_of_track(head: bytes, start: int, end: int, index_end: int) -> list[bytes]:
    """Return the handlers in one ``trak`` box, usually one.

    :param index_end: The end of the ``moov`` box, or of these bytes if they end in it.
    """
    handlers: list[bytes] = []
    for name, media, media_end in boxes(head, start, end):
        if name != b"mdia":
            continue
        for inner, content, _ in boxes(head, media, min(media_end, index_end)):
            if inner == b"hdlr":
                handlers.append(head[content + 8 : content + 12])
    return handlers


def boxes(head: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each box, where its content begins, and where it ends.

    The end may be behind these bytes.
    """
    while start + 8 <= end:
        size, name = struct.unpack_from(">I4s", head, start)
        content = start + 8
        if size == 1 and content + 8 <= end:
            (size,) = struct.unpack_from(">Q", head, content)
            content += 8
        elif size == 0:  # to the end of the file
            size = 1 << 62
        if size < content - start:
            return

        yield name, content, start + size
        start += size
