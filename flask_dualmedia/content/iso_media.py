"""ISO base media files (ISO/IEC 14496-12) and QuickTime: one container for film, sound and
pictures."""

from __future__ import annotations

import struct
from collections.abc import Iterator

# What QuickTime files begin with that have no ``ftyp``, and what must follow in small ones.
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
    b"iso", b"mp4", b"mp7", b"avc", b"hvc", b"hev", b"av01", b"dash", b"M4V", b"cmf", b"MSNV", b"f4v", b"F4V", b"F4P",
    b"XAVC", b"XFVC", b"NDS", b"NDX", b"ND", b"mmp4", b"piff", b"ccff", b"ism", b"dby1", b"caqv", b"CAEP", b"niko",
    b"pana", b"3gp", b"3g2", b"qt  ",
)  # fmt: skip

MAX_TRACKS = 64


def sniff_iso_media(head: bytes) -> str | None:
    """The MIME type of a file whose second four bytes name a box.

    Film or sound is told by the tracks. Of a file whose index is not among the first bytes it is
    not known: ``application/mp4``.
    """
    kind = head[4:8]
    if kind == b"jP  ":
        return _PICTURES.get(head[20:24], "image/jp2")
    if kind == b"JXL ":
        return "image/jxl"
    if kind not in _FIRST:
        return None
    if kind == b"ftyp":
        return _by_brands(head)
    return _without_brands(head)


def _by_brands(head: bytes) -> str | None:
    (size,) = struct.unpack_from(">I", head)
    major = head[8:12]
    compatible = [head[place : place + 4] for place in range(16, min(size, len(head) - 3, 512), 4)]
    if major in _PICTURES:
        return _PICTURES[major]
    if major in _ANY_PICTURE:
        return next((_PICTURES[brand] for brand in compatible if brand in _PICTURES), "image/heif")
    if major in _SOUND:
        return "audio/mp4"
    tracks = _tracks(head)
    if major == b"mjp2":
        return "video/mj2"
    if major.startswith((b"3g2", b"KDDI")):
        return "audio/3gpp2" if tracks == "sound" else "video/3gpp2"
    if major.startswith((b"3gp", b"3ge", b"3gg", b"3gs")):
        return "audio/3gpp" if tracks == "sound" else "video/3gpp"
    if major == b"qt  ":
        return "audio/mp4" if tracks == "sound" else "video/quicktime"
    if tracks is not None:
        return "audio/mp4" if tracks == "sound" else "video/mp4"
    is_known = any(brand.startswith(_FILM) for brand in (major, *compatible))
    return "application/mp4" if is_known else None


def _without_brands(head: bytes) -> str | None:
    """QuickTime, if one box follows another."""
    for number, (name, _, end) in enumerate(boxes(head, 0, len(head))):
        if name not in _BOXES:
            return None
        if name in (b"moov", b"mdat") or (number and end > len(head)):
            return "audio/mp4" if _tracks(head) == "sound" else "video/quicktime"
    return None


def _tracks(head: bytes) -> str | None:
    """``film`` or ``sound``; ``None`` if the index is not among these bytes, or not to its end."""
    handlers: list[bytes] = []
    is_whole = False
    for name, start, end in boxes(head, 0, len(head)):
        if name == b"moov":
            handlers = _handlers(head, start, min(end, len(head)))
            is_whole = end <= len(head)
            break
    if b"vide" in handlers:
        return "film"
    return "sound" if is_whole and b"soun" in handlers else None


def _handlers(head: bytes, start: int, end: int) -> list[bytes]:
    """What the tracks in a ``moov`` box are."""
    handlers: list[bytes] = []
    for name, trak, trak_end in boxes(head, start, end):
        if name != b"trak" or len(handlers) >= MAX_TRACKS:
            continue
        for inner, mdia, mdia_end in boxes(head, trak, min(trak_end, end)):
            if inner != b"mdia":
                continue
            handlers += [
                head[hdlr + 8 : hdlr + 12]
                for innermost, hdlr, _ in boxes(head, mdia, min(mdia_end, end))
                if innermost == b"hdlr"
            ]
    return handlers


def boxes(head: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name of each box, where its content begins, and where it ends, which may be behind these
    bytes."""
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
