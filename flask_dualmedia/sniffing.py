"""What bytes are, judged by the bytes: the uploader's word for it decides nothing that matters."""

from __future__ import annotations

import mimetypes

import filetype

from .mime_types import OCTET_STREAM, declared_type, one_type

HEAD_SIZE = 8192
"""Bytes from the start of a file that :func:`sniff` wants to see."""

# Major brands of ISO base media files (ISO/IEC 14496-12) that filetype does not know: it misses most fragmented MP4.
_ISO_BRANDS = {
    b"avif": "image/avif", b"avis": "image/avif",
    b"heic": "image/heic", b"heix": "image/heic", b"hevc": "image/heic", b"hevx": "image/heic",
    b"mif1": "image/heif", b"msf1": "image/heif",
    b"qt  ": "video/quicktime", b"M4A ": "audio/mp4", b"M4B ": "audio/mp4",
}  # fmt: skip
_ISO_VIDEO = (b"iso", b"mp4", b"avc", b"dash", b"M4V", b"cmf", b"MSNV", b"f4v", b"F4V")
_ISO_3GPP = (b"3gp", b"3g2", b"3ge", b"3gg")

# Markup that browsers would run. filetype knows binary signatures only.
_MARKUP = (
    (b"<svg", "image/svg+xml"),
    (b"<!doctype html", "text/html"),
    (b"<html", "text/html"),
    (b"<head", "text/html"),
    (b"<body", "text/html"),
    (b"<script", "text/html"),
    (b"<iframe", "text/html"),
    (b"<?xml", "text/xml"),
)

# The field's names for the same type.
_ALIASES = {
    "audio/x-wav": "audio/wav",
    "audio/x-flac": "audio/flac",
    "image/x-icon": "image/vnd.microsoft.icon",
    "image/apng": "image/png",
    "audio/x-m4a": "audio/mp4",
}

# Types that bytes show: where they show nothing, no claim is one of these.
_SHOWN = {_ALIASES.get(one.mime, one.mime) for one in filetype.types} - {OCTET_STREAM}

# Formats that are ZIP or XML files inside, which the bytes alone do not tell apart.
_CONTAINERS = {"application/zip", "text/xml"}

_ARCHIVES = ("zip", "x-tar", "gzip", "x-7z-compressed", "x-rar-compressed", "vnd.rar", "x-bzip2", "x-xz", "zstd")
_CODE = ("json", "javascript", "xml", "x-sh", "x-python", "x-yaml", "toml", "sql")


def sniff(head: bytes) -> str | None:
    """The MIME type that the first bytes of a file show.

    :param head: The first :data:`HEAD_SIZE` bytes, or all of a smaller file.
    :return: A type without parameters, or ``None`` where the bytes have no known signature, as prose and source
        code have not. A file may satisfy two formats at once; that is for the way it is served to make harmless.
    """
    if head[4:8] == b"ftyp" and (iso := _sniff_iso(head[8:12])):
        return iso
    guess = filetype.guess_mime(head)
    if guess is not None:
        return _ALIASES.get(guess, guess)
    return _sniff_markup(head)


def _sniff_iso(brand: bytes) -> str | None:
    if brand.startswith(_ISO_3GPP):
        return "video/3gpp"
    if brand.startswith(_ISO_VIDEO):
        return "video/mp4"
    return _ISO_BRANDS.get(brand)


def _sniff_markup(head: bytes) -> str | None:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for signature, mime_type in _MARKUP:
        if start.startswith(signature):
            # An XML prolog or a comment may stand before the root element.
            return "image/svg+xml" if mime_type == "text/xml" and b"<svg" in start else mime_type
    if start.startswith(b"<!--") and b"<svg" in start:
        return "image/svg+xml"
    return "text/html" if start.startswith(b"<!--") else None


def settle_type(sniffed: str | None, filename: str | None, declared: str | None) -> str:
    """The MIME type to record for a file.

    The bytes decide. Where they show nothing, the filename's extension and then the uploader's word are taken, but
    never for a type whose bytes would have shown it.

    :param sniffed: What :func:`sniff` said of the bytes.
    :param declared: As the uploader sent it.
    """
    claimed = named_type(filename) or declared_type(declared) or OCTET_STREAM
    if sniffed in _CONTAINERS and (claimed.startswith("application/vnd.") or claimed.endswith(("+zip", "+xml"))):
        return claimed if claimed != "image/svg+xml" else sniffed
    if sniffed is not None:
        return sniffed
    if claimed.partition("/")[0] in ("image", "video", "audio", "font", "multipart", "message"):
        return OCTET_STREAM
    if claimed in _SHOWN:
        return OCTET_STREAM
    return claimed


def named_type(filename: str | None, *, strict: bool = True) -> str | None:
    """The MIME type that goes with the extension of a filename.

    :param strict: Whether only registered types count.
    """
    if not filename:
        return None
    guessed, _ = mimetypes.guess_type(filename, strict=strict)
    return one_type(guessed)


def resource_type(mime_type: str) -> str:
    """Which of ``pdf, document, image, archive, code`` a course resource of this MIME type is."""
    main, _, sub = mime_type.partition("/")
    if mime_type == "application/pdf":
        return "pdf"
    if main == "image":
        return "image"
    if sub in _ARCHIVES:
        return "archive"
    if sub in _CODE or sub.startswith("x-c") or (main == "text" and sub not in ("plain", "csv", "markdown", "rtf")):
        return "code"
    return "document"


def media_type(mime_type: str) -> str:
    """Which of ``image, video, document, audio`` a file of this MIME type is."""
    main = mime_type.partition("/")[0]
    return main if main in ("image", "video", "audio") else "document"
