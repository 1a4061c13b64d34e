"""Containers of documents: ZIP archives and the OLE storages of older programs."""

from __future__ import annotations

import struct

from .file_types import find_type
from .table import OLE

ZIP = "application/zip"

_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_POWERPOINT = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
_OF_OFFICE = {
    "word": _WORD,
    "xl": _EXCEL,
    "ppt": _POWERPOINT,
    "visio": "application/vnd.ms-visio.drawing.main+xml",
}
_PACKAGE = ("[Content_Types].xml", "_rels/", "docProps/")

MAX_ENTRIES = 64
WITHIN = 256 * 1024
"""Bytes in which the first entries of an archive are looked for."""

_FRAMES = {b"\x28\xb5\x2f\xfd": "application/zstd", b"\x04\x22\x4d\x18": "application/x-lz4"}
SKIPPABLE_FRAMES = tuple(bytes([0x50 + number]) + b"\x2a\x4d\x18" for number in range(16))
"""What frames begin with that are not for decoders, of Zstandard (RFC 8878, section 3.1.2) and LZ4
alike."""

_OLE_STREAMS = {
    "WordDocument": "application/msword",
    "Workbook": "application/vnd.ms-excel",
    "Book": "application/vnd.ms-excel",
    "PowerPoint Document": "application/vnd.ms-powerpoint",
    "VisioDocument": "application/vnd.visio",
    "__properties_version1.0": "application/vnd.ms-outlook",
    "Quill": "application/x-mspublisher",
}


def sniff_zip(head: bytes) -> str:
    """What a ZIP archive is, by its first entries: an archive, or a document of a kind that they
    show."""
    names: list[str] = []
    place = 0
    while place >= 0 and len(names) < MAX_ENTRIES and place + 30 <= len(head):
        packed, _, length, extra = struct.unpack_from("<IIHH", head, place + 18)
        start = place + 30
        name = head[start : start + length].decode("utf-8", "replace")
        if not names and name == "mimetype":
            return _declared_inside(head[start + length + extra :][: min(packed, 128)])
        names.append(name)
        # Where sizes come behind the data they are not known here.
        place = head.find(b"PK\x03\x04", start + length + extra + packed, WITHIN)
    return _by_entries(names)


def _declared_inside(text: bytes) -> str:
    """OpenDocument, EPUB and their like say first what they are; believed if it is a type of ZIP
    archives."""
    known = find_type(text.decode("latin-1").strip())
    return known.mime_type if known is not None and ZIP in known.containers else ZIP


def _by_entries(names: list[str]) -> str:
    folders = {name.partition("/")[0] for name in names if "/" in name}
    if any(name.startswith(_PACKAGE) for name in names):
        for folder, mime_type in _OF_OFFICE.items():
            if folder in folders:
                return mime_type
    if "AndroidManifest.xml" in names:
        return "application/vnd.android.package-archive"
    if names and names[0] in ("META-INF/", "META-INF/MANIFEST.MF"):
        return "application/java-archive"
    return ZIP


def sniff_frames(head: bytes) -> str | None:
    """Zstandard or LZ4, by the first frame that is not to be skipped."""
    place = 0
    for _ in range(MAX_ENTRIES):
        if not head.startswith(SKIPPABLE_FRAMES, place) or place + 8 > len(head):
            break
        (size,) = struct.unpack_from("<I", head, place + 4)
        place += 8 + size
    return _FRAMES.get(head[place : place + 4])


def sniff_ole(head: bytes) -> str:
    """What an OLE storage is, by its directory, where that is among these bytes."""
    if len(head) < 512:
        return OLE
    shift, first = struct.unpack_from("<H16xI", head, 30)
    if shift not in (9, 12):
        return OLE
    start = (first + 1) << shift
    for entry in range(start, min(start + 128 * MAX_ENTRIES, len(head) - 127), 128):
        length, is_a = struct.unpack_from("<HB", head, entry + 64)
        if is_a not in (
            0,
            1,
            2,
            5,
        ):  # unused, storage, stream, root: the directory goes on elsewhere
            break
        name = head[entry : entry + max(min(length, 64) - 2, 0)].decode("utf-16-le", "replace")
        if name in _OLE_STREAMS:
            return _OLE_STREAMS[name]
    return OLE
