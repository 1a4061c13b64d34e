"""Judge what bytes are by the bytes: the uploader's word for it decides nothing that matters."""

from __future__ import annotations

import re
import typing as t

import filetype

from .archives import SKIPPABLE_FRAMES, sniff_frames, sniff_ole, sniff_zip
from .file_types import canonical, is_signed, is_within, media_type, named_type, resource_type
from .iso_media import sniff_iso_media
from .mime_types import OCTET_STREAM, declared_type
from .streams import (
    ASF,
    EBML,
    is_transport_stream,
    sniff_asf,
    sniff_matroska,
    sniff_ogg,
    sniff_sound,
)
from .text import decoded_text, is_late_pdf, sniff_text

__all__ = [
    "HEAD_SIZE",
    "Sniffer",
    "media_type",
    "named_type",
    "resource_type",
    "settle_type",
    "sniff",
]

Sniffer = t.Callable[[bytes], str | None]
"""Tells the MIME type of a file by its first bytes; ``None`` if they show none."""

HEAD_SIZE = 1024 * 1024
"""Bytes from the start of a file that :func:`sniff` wants to see.

The index of a film may be behind a lot.
"""

_LIBRARY_WINDOW = 8192
"""Bytes that filetype looks at."""

# Containers, by their first four bytes.
_CONTAINERS = {
    b"OggS": sniff_ogg,
    b"PK\x03\x04": sniff_zip,
    b"\xd0\xcf\x11\xe0": sniff_ole,
    EBML: sniff_matroska,
    ASF[:4]: sniff_asf,
    # filetype calls itself once for each such frame, until Python stops it.
    **dict.fromkeys(SKIPPABLE_FRAMES, sniff_frames),
}

# Formats that filetype does not know, or takes for something else, by the first four bytes; then
# what must follow.
_SIGNATURES = {
    signature[:4]: (re.compile(re.escape(signature[:4]) + pattern, re.DOTALL), mime_type)
    for signature, pattern, mime_type in (
        (b"%PDF", rb"-", "application/pdf"),
        (b"GIF8", rb"[79]a", "image/gif"),
        (b"RF64", rb".{4}WAVE", "audio/wav"),
        (b"BW64", rb".{4}WAVE", "audio/wav"),
        (b"FORM", rb".{4}AIF[FC]", "audio/x-aiff"),
        (b"caff", rb"\0\x01", "audio/x-caf"),
        (b".snd", rb"\0\0", "audio/basic"),
        (b"MAC ", rb".[\x0c-\x10]", "audio/x-ape"),
        (b"wvpk", rb".{4}..", "audio/x-wavpack"),
        (b"\x06\x0e\x2b\x34", rb"\x02\x05\x01\x01\x0d\x01\x02", "application/mxf"),
        (b".RMF", rb"\0\0", "application/vnd.rn-realmedia"),
        (b"nut/", rb"multimedia container\0", "video/x-nut"),
        (b"DKIF", rb"\0\0\x20\0", "video/x-ivf"),
        (b"\xb7\xd8\x00\x20", rb"\x37\x49\xda\x11", "video/x-wtv"),
        (b"\x1f\x07\x00\x3f", rb"", "video/dv"),
        (b"\x1f\x07\x00\xbf", rb"", "video/dv"),
        (b"AT&T", rb"FORM.{4}DJV", "image/vnd.djvu"),
        (b"II+\0", rb"\x08\0\0\0", "image/tiff"),
        (b"MM\0+", rb"\0\x08\0\0", "image/tiff"),
        (b"FUJI", rb"FILMCCD-RAW", "image/x-fuji-raf"),
        (b"IIRO", rb"\x08\0", "image/x-olympus-orf"),
        (b"IIRS", rb"\x08\0", "image/x-olympus-orf"),
        (b"IIU\0", rb"\x18\0", "image/x-panasonic-rw2"),
        (b"icns", rb"\0", "image/x-icns"),
        (b"\x76\x2f\x31\x01", rb"", "image/x-exr"),
        (b"\0\0\2\0", rb"[^\0]\0.{3}\0", "image/vnd.microsoft.icon"),
        (b"\xd7\xcd\xc6\x9a", rb"\0\0", "image/wmf"),
        (b"\1\0\0\0", rb".{36} EMF", "image/emf"),
        (b"glTF", rb"[\x01\x02]\0\0\0", "model/gltf-binary"),
        (b"ttcf", rb"\0[\x01\x02]\0\0", "font/collection"),
        (b"\xc5\xd0\xd3\xc6", rb"", "application/postscript"),
        (b"0707", rb"0[127]", "application/x-cpio"),
    )
}
_PORTABLE_ANYMAP = re.compile(rb"P[4-6]\s+(?:#[^\n]*\n\s*)*\d+\s+\d+\s")

# Where filetype is content with two or three letters, or with a signature that others have too:
# what must be there.
_PROOFS = {
    mime_type: re.compile(pattern, re.DOTALL)
    for mime_type, pattern in (
        ("image/jpeg", rb"\xff\xd8\xff[\xc0-\xfe]"),
        ("image/png", rb"\x89PNG\r\n\x1a\n"),
        ("image/bmp", rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0"),
        (
            "image/tiff",
            rb"II\*\0[^\0-\x07].{3}|II\*\0.(?!\0\0\0).{3}|MM\0\*(?!\0\0\0[\0-\x07]).{4}",
        ),
        ("image/vnd.ms-photo", rb"II\xbc[\0\x01].{4}"),
        ("image/vnd.adobe.photoshop", rb"8BPS\0[\x01\x02]"),
        ("image/vnd.dwg", rb"AC10[0-9][0-9][\0-\x20]"),
        ("image/vnd.microsoft.icon", rb"\0\0\x01\0[^\0]\0(?:.{3}\0|.{0,3}\Z)"),
        ("audio/midi", rb"MThd\0\0\0\x06"),
        ("audio/flac", rb"fLaC[\0-\x06\x80-\x86]"),
        ("video/mpeg", rb"\0\0\x01[\xb3\xba]"),
        ("application/gzip", rb"\x1f\x8b\x08[\0-\x1f]"),
        ("application/zip", rb"PK(?:\x05\x06|\x07\x08)"),
        ("application/x-bzip2", rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"),
        ("application/vnd.adobe.flash.movie", rb"[CF]WS[\x01-\x40]"),
        ("application/vnd.ms-cab-compressed", rb"MSCF\0\0\0\0|ISc\("),
        ("application/vnd.sqlite3", rb"SQLite format 3\0"),
        ("application/x-lzip", rb"LZIP\x01"),
        ("application/x-google-chrome-extension", rb"Cr24[\x02\x03]\0\0\0"),
    )
}

# The names of filetype for which the table has others: one that is no name, and one for two fonts.
_FONTS = {"woff2": "font/woff2", "otf": "font/otf", "eot": "application/vnd.ms-fontobject"}

# filetype has no good idea of these: there is code here that does.
_OWN = {
    "application/x-brotli", "application/postscript", "application/rtf", "audio/mpeg", "audio/aac",
    "audio/mp4", "audio/ogg", "application/x-compress", "image/gif", "video/x-ms-wmv",
}  # fmt: skip


def sniff(head: bytes) -> str | None:
    """Recognize the MIME type that the first bytes of a file show.

    :param head: The first :data:`HEAD_SIZE` bytes, or all of a smaller file. Fewer do, but for
        files whose kind is told by what stands far inside.
    :return: A type without parameters, or ``None`` where the bytes have no known signature, as
        prose and source code have not. A file may satisfy two formats at once; that is for the way
        it is served to make harmless.
    """
    text = decoded_text(head)
    if text is not None:
        return sniff_text(text)
    return _sniff_binary(head)


def _sniff_binary(head: bytes) -> str | None:
    start = head[:4]
    if start in _CONTAINERS:
        return _CONTAINERS[start](head)

    if start in _SIGNATURES:
        pattern, mime_type = _SIGNATURES[start]
        if pattern.match(head):
            return mime_type
        return None

    mime_type = sniff_iso_media(head) or sniff_sound(head) or _sniff_by_library(head)
    if mime_type is not None:
        return mime_type
    return _sniff_inside(head)


def _sniff_inside(head: bytes) -> str | None:
    """Recognize formats by what stands elsewhere than in the first bytes."""
    if is_transport_stream(head):
        return "video/mp2t"
    if head[60:68] == b"BOOKMOBI":
        return "application/x-mobipocket-ebook"
    if _PORTABLE_ANYMAP.match(head):
        return "image/x-portable-anymap"
    if is_late_pdf(head):
        return "application/pdf"
    # The rest may have letters for first bytes, and none behind them.
    return sniff_text(head)


def _sniff_by_library(head: bytes) -> str | None:
    """Ask the library filetype, and believe it where more than a few letters prove it right."""
    guess = filetype.guess(head[:_LIBRARY_WINDOW])
    if guess is None or guess.mime in _OWN:
        return None

    mime_type = _FONTS.get(guess.extension) or canonical(guess.mime)
    if mime_type == "application/vnd.microsoft.portable-executable":
        is_proven = _is_executable(head)
    else:
        proof = _PROOFS.get(mime_type)
        is_proven = proof is None or proof.match(head) is not None

    if not is_proven:
        return None
    return mime_type


def _is_executable(head: bytes) -> bool:
    """Tell whether a program of Windows or DOS begins here: more than two letters show it."""
    place = _number(head, 0x3C, 0x40)
    if place >= 0x40 and head.startswith((b"PE\0\0", b"NE", b"LE", b"LX"), place):
        return True
    bytes_used = _number(head, 2, 4)
    pages = _number(head, 4, 6)
    paragraphs = _number(head, 8, 10)
    return bytes_used < 512 and pages > 0 and 2 <= paragraphs < 0x1000


def _number(head: bytes, start: int, stop: int) -> int:
    return int.from_bytes(head[start:stop], "little")


def settle_type(sniffed: str | None, filename: str | None, declared: str | None) -> str:
    """Choose the MIME type to record for a file.

    The bytes decide. Where they show nothing, the filename's extension and then the uploader's word
    are taken, but never for a type whose bytes would have shown it. Where they show a container,
    these say what is in it.

    :param sniffed: The type that :func:`sniff` saw in the bytes.
    :param declared: As the uploader sent it.
    """
    claimed = named_type(filename) or declared_type(declared) or OCTET_STREAM
    if sniffed is None:
        if is_signed(claimed):
            return OCTET_STREAM
        return claimed

    shown = canonical(sniffed)
    if is_within(claimed, shown):
        return canonical(claimed)
    if shown == "application/mp4":
        return "video/mp4"
    return shown
