"""Which names go with which bytes: the extensions of a type, and the types that are names of one format."""

from __future__ import annotations

import mimetypes

from .mime_types import OCTET_STREAM, matches

# One row per format: the types that people and sniffers call it by, each with its extensions, the usual one first.
_FORMATS: tuple[dict[str, str], ...] = (
    {"image/png": "png apng", "image/x-png": "png", "image/apng": "apng"},
    {"image/jpeg": "jpg jpeg jpe jfif", "image/jpg": "jpg", "image/pjpeg": "jpg"},
    {"image/gif": "gif"},
    {"image/webp": "webp"},
    {"image/avif": "avif avifs"},
    {"image/heic": "heic", "image/heif": "heif hif", "image/heic-sequence": "heics", "image/heif-sequence": "heifs"},
    {"image/bmp": "bmp dib", "image/x-bmp": "bmp", "image/x-ms-bmp": "bmp"},
    {"image/tiff": "tif tiff"},
    {"image/vnd.microsoft.icon": "ico", "image/x-icon": "ico"},
    {"image/svg+xml": "svg"},
    # One container, whose brand says little about what the file is called.
    {
        "video/mp4": "mp4", "video/x-m4v": "m4v", "video/quicktime": "mov qt", "video/3gpp": "3gp",
        "video/3gpp2": "3g2", "audio/mp4": "m4a m4b", "audio/x-m4a": "m4a",
    },
    {"video/webm": "webm", "video/x-matroska": "mkv", "video/matroska": "mkv", "audio/webm": "weba"},
    {"video/x-msvideo": "avi", "video/avi": "avi", "video/msvideo": "avi", "video/vnd.avi": "avi"},
    {"video/mpeg": "mpg mpeg mpe"},
    {"video/x-flv": "flv"},
    {"video/x-ms-wmv": "wmv asf", "video/x-ms-asf": "asf"},
    {"audio/ogg": "ogg oga opus", "video/ogg": "ogv ogg", "application/ogg": "ogx"},
    {"audio/mpeg": "mp3", "audio/mp3": "mp3"},
    {"audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav"},
    {"audio/flac": "flac", "audio/x-flac": "flac"},
    {"audio/aac": "aac", "audio/x-aac": "aac"},
    {"application/pdf": "pdf", "application/x-pdf": "pdf"},
    {"application/zip": "zip", "application/x-zip-compressed": "zip"},
    {"application/gzip": "gz tgz", "application/x-gzip": "gz"},
    {"application/x-rar-compressed": "rar", "application/vnd.rar": "rar"},
    {"application/x-7z-compressed": "7z"},
    {"application/x-bzip2": "bz2 tbz2"},
    {"application/x-xz": "xz txz"},
    {"text/xml": "xml", "application/xml": "xml"},
)  # fmt: skip

_ROWS = {mime_type: row for row in _FORMATS for mime_type in row}


def extension_of(filename: str | None) -> str:
    """The extension by which a filename is opened, in lower case and without its dot; empty if it has none."""
    # Windows ignores dots and blanks at the end; what begins with a dot is all extension: ".php", ".htaccess".
    _, dot, extension = (filename or "").rstrip(". ").rpartition(".")
    return extension.lower() if dot else ""


def extensions_of(mime_type: str) -> list[str]:
    """The extensions that files of a type have, the usual one first; none of a type that nobody knows."""
    if mime_type in _ROWS:
        row = _ROWS[mime_type]
        return list(dict.fromkeys(" ".join([row[mime_type], *row.values()]).split()))
    return [extension[1:] for extension in mimetypes.guess_all_extensions(mime_type, strict=False)]


def agrees(claim: str, mime_type: str) -> bool:
    """Whether a claim, one type or a range such as ``image/*``, holds for a type, by any of the names of its format."""
    names = _ROWS.get(mime_type, (mime_type,))
    return any(matches(claim, name) for name in names)


def fits(extension: str, mime_type: str) -> bool:
    """Whether a file of this type may have this extension."""
    if mime_type == OCTET_STREAM:
        # Bytes that show nothing fit an extension that says nothing, but not one of a type that would have shown.
        return mimetypes.guess_type(f"x.{extension}", strict=False)[0] in (None, OCTET_STREAM)
    known = extensions_of(mime_type)
    return not known or extension in known
