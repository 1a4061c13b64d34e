"""Containers of documents: ZIP archives and the OLE storages of older programs."""

from __future__ import annotations

import struct

from .file_types import find_type
from .table import OLE

ZIP = "application/zip"

_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
_POWERPOINT = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
_OFFICE_FOLDERS = {
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
"""First bytes of frames that are not for decoders.

Zstandard (RFC 8878, section 3.1.2) and LZ4 have the same.
"""

_OLE_STREAMS = {
    "WordDocument": "application/msword",
    "Workbook": "application/vnd.ms-excel",
    "Book": "application/vnd.ms-excel",
    "PowerPoint Document": "application/vnd.ms-powerpoint",
    "VisioDocument": "application/vnd.visio",
    "__properties_version1.0": "application/vnd.ms-outlook",
    "Quill": "application/x-mspublisher",
}


_ENTRY = struct.Struct("<IIHH")
"""The packed size, the size, and the lengths of the name and of what follows it."""


def sniff_zip(head: bytes) -> str:
    """Tell by its first entries what a ZIP archive is: an archive, or a kind of document."""
    names: list[str] = []
    place = 0
    while place >= 0 and len(names) < MAX_ENTRIES and place + 30 <= len(head):
        packed_size, _, name_length, extra_length = _ENTRY.unpack_from(head, place + 18)
        start = place + 30
        content = start + name_length + extra_length
        name = head[start : start + name_length].decode("utf-8", "replace")
        if not names and name == "mimetype":
            length = min(packed_size, 128)
            return _declared_inside(head[content : content + length])
        names.append(name)
        # Where sizes come behind the data they are not known here.
        place = head.find(b"PK\x03\x04", content + packed_size, WITHIN)
    return _by_entries(names)


def _declared_inside(text: bytes) -> str:
    """Read the type that OpenDocument, EPUB and their like declare in their first entry.

    It is believed if it is a type of ZIP archives.
    """
    declared = text.decode("latin-1").strip()
    file_type = find_type(declared)
    if file_type is None or ZIP not in file_type.containers:
        return ZIP
    return file_type.mime_type


def _by_entries(names: list[str]) -> str:
    """Tell a document of Office, an app of Android or a Java archive by the names of entries."""
    folders = {name.partition("/")[0] for name in names if "/" in name}
    if any(name.startswith(_PACKAGE) for name in names):
        for folder, mime_type in _OFFICE_FOLDERS.items():
            if folder in folders:
                return mime_type
    if "AndroidManifest.xml" in names:
        return "application/vnd.android.package-archive"
    if names and names[0] in ("META-INF/", "META-INF/MANIFEST.MF"):
        return "application/java-archive"
    return ZIP


def sniff_frames(head: bytes) -> str | None:
    """Tell Zstandard from LZ4 by the first frame that is not to be skipped."""
    place = 0
    for _ in range(MAX_ENTRIES):
        if not head.startswith(SKIPPABLE_FRAMES, place) or place + 8 > len(head):
            break
        (size,) = struct.unpack_from("<I", head, place + 4)
        place += 8 + size
    return _FRAMES.get(head[place : place + 4])


_OLE_ENTRIES = (0, 1, 2, 5)
"""Types of entries in the directory of an OLE storage: unused, storage, stream, root."""


def sniff_ole(head: bytes) -> str:
    """Tell by its directory what an OLE storage is, where that is among these bytes."""
    if len(head) < 512:
        return OLE
    sector_shift, first_sector = struct.unpack_from("<H16xI", head, 30)
    if sector_shift not in (9, 12):
        return OLE

    start = (first_sector + 1) << sector_shift
    end = min(start + 128 * MAX_ENTRIES, len(head) - 127)
    for entry in range(start, end, 128):
        length, entry_type = struct.unpack_from("<HB", head, entry + 64)
        if entry_type not in _OLE_ENTRIES:  # the directory goes on elsewhere
            break
        name_length = max(min(length, 64) - 2, 0)
        name = head[entry : entry + name_length].decode("utf-16-le", "replace")
        if name in _OLE_STREAMS:
            return _OLE_STREAMS[name]
    return OLE
