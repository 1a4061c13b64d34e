"""An MP4 whose index is at its beginning, written from front to back.

A player begins with the index, and what belongs in it is known at the end. So the file is made
twice from packets that are encoded already: the first time only its index is kept, the second time
it is written behind that. It needs neither a file nor the memory for one.
"""

from __future__ import annotations

import os
import struct
import typing as t
from collections.abc import Callable, Mapping

import av

from .containers import decoding, open_own
from .failures import LimitExceeded

_CONTAINERS = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
"""Boxes between the index and its tables of offsets."""

_HEAD_SIZE = 1024
"""Bytes that surely hold all that comes before the packets."""

_MAX_OFFSET = 2**32 - 1


def progressive(
    _arguments: Mapping[str, t.Any],
    source: t.Any,
    sinks: Mapping[str, t.Any],
    _report: Callable[[float], None],
) -> dict[str, t.Any]:
    """Write a rendition to the sink ``video``, as an MP4 that begins to play at once.

    :param source: A rendition as :func:`.streams.hls` writes it. Nothing is encoded anew.
    :return: ``size`` of what was written.
    """
    return {"size": write_progressive(source, sinks["video"])}


def write_progressive(source: t.Any, sink: t.Any) -> int:
    """The size of the MP4 that is written."""
    layout = _Layout()
    _remux(source, layout)
    header, index = layout.header(), layout.index()
    front = header.type_box + _move_offsets(index, len(index)) + header.start_of_packets

    source.seek(0)
    sink.write(front)
    packets = _Packets(sink, header.size)
    _remux(source, packets)
    return len(front) + packets.size


def _remux(source: t.Any, target: t.Any) -> None:
    with open_own(source) as original, decoding():
        copy = av.open(target, "w", format="mp4", options={"fflags": "+bitexact"})
        with copy:
            streams = {
                stream.index: copy.add_stream_from_template(stream)
                for stream in (*original.streams.video, *original.streams.audio)
            }
            # A stream of segments begins a little late, for its first frame is not decoded first.
            video = original.streams.video[0]
            start = (video.start_time or 0) * (video.time_base or 1)
            for packet in original.demux(*original.streams.video, *original.streams.audio):
                if packet.dts is None or packet.pts is None:
                    continue
                distance = round(start / packet.time_base)
                packet.pts -= distance
                packet.dts -= distance
                packet.stream = streams[packet.stream.index]
                copy.mux(packet)


class _Writer:
    """A file of which only that is kept that is overridden to be kept.

    The packets are written one behind the other. Then the muxer goes back once, to write their
    size, and then appends the index.
    """

    def __init__(self) -> None:
        self._position = 0
        self._end = 0
        self._has_gone_back = False

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origins = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}
        self._position = origins[whence] + offset
        if self._position < self._end:
            self._has_gone_back = True
        return self._position

    def write(self, content: bytes) -> int:
        if self._has_gone_back:
            self.write_late(self._position, content)
        else:
            self.write_on(self._position, content)
        self._position += len(content)
        self._end = max(self._end, self._position)
        return len(content)

    def write_on(self, position: int, content: bytes) -> None:
        raise NotImplementedError

    def write_late(self, position: int, content: bytes) -> None:
        raise NotImplementedError


class _Header(t.NamedTuple):
    """The boxes before the packets."""

    type_box: bytes
    start_of_packets: bytes

    @property
    def size(self) -> int:
        return len(self.type_box) + len(self.start_of_packets)


class _Layout(_Writer):
    """Keeps what comes before and behind the packets."""

    def __init__(self) -> None:
        super().__init__()
        self._head = bytearray()
        self._tail = bytearray()
        self._packets_end = 0

    def write_on(self, position: int, content: bytes) -> None:
        self._packets_end = position + len(content)
        if position < _HEAD_SIZE:
            self._head[position : position + len(content)] = content[: _HEAD_SIZE - position]

    def write_late(self, position: int, content: bytes) -> None:
        if position < self._packets_end:
            self._head[position : position + len(content)] = content
        else:
            start = position - self._packets_end
            self._tail[start : start + len(content)] = content

    def header(self) -> _Header:
        end_of_type = int.from_bytes(self._head[:4], "big")
        # A box that is 8 bytes long leaves room for a larger size of the packets.
        end = self._head.index(b"mdat", end_of_type) + 4
        if self._head[end - 8 : end - 4] == b"\x00\x00\x00\x01":
            end += 8
        return _Header(bytes(self._head[:end_of_type]), bytes(self._head[end_of_type:end]))

    def index(self) -> bytes:
        return bytes(self._tail)


class _Packets(_Writer):
    """Passes the packets on, and nothing else."""

    def __init__(self, sink: t.Any, header_size: int) -> None:
        super().__init__()
        self._sink = sink
        self._header_size = header_size
        self.size = 0

    def write_on(self, position: int, content: bytes) -> None:
        content = content[max(0, self._header_size - position) :]
        self._sink.write(content)
        self.size += len(content)

    def write_late(self, position: int, content: bytes) -> None:
        """The sizes and the index are written already."""


def _move_offsets(index: bytes, distance: int) -> bytes:
    """An index for packets that are further behind by this distance."""
    moved = bytearray(index)
    _move_in(moved, 0, len(moved), distance)
    return bytes(moved)


def _move_in(index: bytearray, start: int, stop: int, distance: int) -> None:
    while start + 8 <= stop:
        size, name = struct.unpack_from(">I4s", index, start)
        if name in _CONTAINERS:
            _move_in(index, start + 8, start + size, distance)
        elif name == b"stco":
            _move_table(index, start + 12, ">I", distance)
        elif name == b"co64":
            _move_table(index, start + 12, ">Q", distance)
        start += max(size, 8)


def _move_table(index: bytearray, start: int, form: str, distance: int) -> None:
    (count,) = struct.unpack_from(">I", index, start)
    width = struct.calcsize(form)
    for position in range(start + 4, start + 4 + count * width, width):
        (offset,) = struct.unpack_from(form, index, position)
        offset += distance
        if form == ">I" and offset > _MAX_OFFSET:
            raise LimitExceeded("a file whose index does not reach its end")
        struct.pack_into(form, index, position, offset)
