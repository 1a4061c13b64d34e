"""Small files of formats that are containers, made here."""

from __future__ import annotations

import io
import sqlite3
import struct
import tarfile
import typing as t
import zipfile
from pathlib import Path

from PIL import Image

FILES = Path(__file__).parent / "files"


def zipped(*names: str, mimetype: str | None = None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as target:
        if mimetype is not None:
            target.writestr(zipfile.ZipInfo("mimetype"), mimetype)
        for name in names:
            target.writestr(name, f"<{name}>" * 20)
    return stream.getvalue()


def ole(*streams: str) -> bytes:
    """A storage of older Office programs: header, table of sectors, directory."""
    header = (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
        + bytes(16)
        + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6)
    )
    header += (
        bytes(6) + struct.pack("<IIIIIIII", 0, 1, 1, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE) + bytes(4)
    )
    sectors = struct.pack("<I", 0) + b"\xff" * 432
    entries = b""
    for number, name in enumerate(("Root Entry", *streams)):
        encoded = name.encode("utf-16-le")
        kind = 2 if number else 5
        entries += (
            encoded.ljust(64, b"\0") + struct.pack("<HBB", len(encoded) + 2, kind, 1) + bytes(60)
        )
    return (header + sectors).ljust(512, b"\xff")[:512] + b"\xff" * 512 + entries.ljust(1024, b"\0")


OTHER = Image.new("RGB", (32, 32))


def picture(form: str, **options: t.Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(stream, form, **options)
    return stream.getvalue()


def tarred() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as target:
        target.addfile(tarfile.TarInfo("notes.txt"), io.BytesIO())
    return stream.getvalue()


def database() -> bytes:
    with sqlite3.connect(":memory:") as connection:
        connection.execute("CREATE TABLE a (b)")
        return connection.serialize()


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    return box(b"ftyp", major + bytes(4) + b"".join(compatible)) + box(b"meta", bytes(40))


def without_ftyp(*names: bytes) -> bytes:
    """A QuickTime film as cameras wrote it before there were brands."""
    boxes = _boxes((FILES / "camera.mov").read_bytes())
    return b"".join(
        boxes.get(name) or box(name, bytes(8) if name != b"wide" else b"") for name in names
    )


def _boxes(content: bytes) -> dict[bytes, bytes]:
    found = {}
    while content:
        (size,) = struct.unpack_from(">I", content)
        found[content[4:8]] = content[:size]
        content = content[size:]
    return found


LONG = struct.pack(">I4s", 9_000_000, b"mdat") + bytes(9000)
"""Film or sound whose index is too far away."""
