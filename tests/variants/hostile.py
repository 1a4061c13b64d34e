"""Files that lie about themselves."""

from __future__ import annotations

import struct
import zlib

SIDE = 12_000
"""Of a square that has 144 megapixels."""


def bomb(name: str) -> bytes:
    """The beginning of an image that claims to be huge. Nothing of it could be decoded."""
    return _BOMBS[name]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png() -> bytes:
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"\x78\x9c")


def _jpeg() -> bytes:
    frame = struct.pack(">HHBHHB3B", 0xFFC0, 11, 8, 64_250, 64_250, 1, 1, 0x11, 0)
    scan = struct.pack(">HHB2B3B", 0xFFDA, 8, 1, 1, 0, 0, 63, 0)
    return b"\xff\xd8" + frame + scan + bytes(5_000)


def _gif() -> bytes:
    size = struct.pack("<HH", SIDE, SIDE)
    descriptor = b"," + bytes(4) + size + b"\0"
    return b"GIF89a" + size + b"\x80\0\0" + bytes(6) + descriptor + b"\x02\x02\x4c\x01\0;"


def _webp() -> bytes:
    size = (SIDE - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size + size
    animation = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    bits = (SIDE - 1) | (SIDE - 1) << 14
    frame = b"VP8L" + struct.pack("<I", 6) + b"\x2f" + struct.pack("<I", bits) + b"\0"
    data = size + size
    data = bytes(6) + data + b"\x64\0\0\0" + frame
    content = extended + animation + b"ANMF" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(content)) + b"WEBP" + content


def _bmp() -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 10_000, 0, 0, 54) + header + bytes(1_000)


def _tiff() -> bytes:
    entries = [(256, SIDE), (257, SIDE), (258, 8), (259, 1), (262, 1), (273, 200), (279, 1_000)]
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + tags + bytes(4) + bytes(2_000)


_BOMBS = {
    "PNG": _png(),
    "JPEG": _jpeg(),
    "GIF": _gif(),
    "WEBP": _webp(),
    "BMP": _bmp(),
    "TIFF": _tiff(),
}
