"""A long film out of a short one, without decoding it: the same samples again and again."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import chain

Box = tuple[bytes, bytes]
"""Type and content."""

_CONTAINERS = {b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl"}

# Where the duration stands in boxes of version 0 (ISO/IEC 14496-12).
_DURATIONS = {b"mvhd": 16, b"tkhd": 20, b"mdhd": 16, b"elst": 8}

_MORE_OF_THE_SAME = {b"stts", b"ctts"}


def repeat(film: bytes, times: int) -> bytes:
    """An MP4 file that plays another one so many times. Its boxes are in the order of the other
    one's."""
    size = len(dict(_boxes(film))[b"mdat"])
    parts = []
    for kind, content in _boxes(film):
        if kind == b"mdat":
            content *= times
        elif kind == b"moov":
            content = _repeated_tables(content, times, size)
        parts.append(_box(kind, content))
    return b"".join(parts)


def _boxes(data: bytes) -> Iterator[Box]:
    start = 0
    while start < len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        assert size >= 8, "sizes of 64 bits are not needed here"
        yield kind, data[start + 8 : start + size]
        start += size


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _repeated_tables(container: bytes, times: int, size: int) -> bytes:
    inside = dict(_boxes(container))
    parts = []
    for kind, content in _boxes(container):
        if kind in _CONTAINERS:
            content = _repeated_tables(content, times, size)
        elif kind in _DURATIONS:
            assert content[0] == 0
            at = _DURATIONS[kind]
            (duration,) = struct.unpack_from(">I", content, at)
            content = content[:at] + struct.pack(">I", duration * times) + content[at + 4 :]
        elif kind in _MORE_OF_THE_SAME:
            content = _table(content, 4, _numbers(content, 4) * times, width=2)
        elif kind == b"stsz":
            content = _table(content, 8, _numbers(content, 8) * times)
        elif kind == b"stss":  # numbers of samples
            content = _table(
                content, 4, _shifted(_numbers(content, 4), times, len(_numbers(inside[b"stsz"], 8)))
            )
        elif kind == b"stco":  # places in the file
            content = _table(content, 4, _shifted(_numbers(content, 4), times, size))
        elif kind == b"stsc":  # numbers of chunks, with two more numbers each
            rows = _numbers(content, 4)
            firsts = _shifted(rows[::3], times, len(_numbers(inside[b"stco"], 4)))
            columns = zip(firsts, rows[1::3] * times, rows[2::3] * times, strict=True)
            content = _table(content, 4, [*chain.from_iterable(columns)], width=3)
        parts.append(_box(kind, content))
    return b"".join(parts)


def _numbers(content: bytes, at: int) -> list[int]:
    """The numbers behind the count at this place."""
    return [number for (number,) in struct.iter_unpack(">I", content[at + 4 :])]


def _table(content: bytes, at: int, numbers: list[int], *, width: int = 1) -> bytes:
    return content[:at] + struct.pack(f">I{len(numbers)}I", len(numbers) // width, *numbers)


def _shifted(numbers: list[int], times: int, step: int) -> list[int]:
    return [number + step * again for again in range(times) for number in numbers]
