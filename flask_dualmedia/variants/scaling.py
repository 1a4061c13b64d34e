"""Frames of video as they are shown: upright, of a size, in the colours of every screen."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from fractions import Fraction

import av.error
from av.filter import Graph
from av.video.frame import VideoFrame

from .containers import decoding

_UNSPECIFIED = 2
_BT709 = 1
_BT601 = 6
_HD_HEIGHT = 720
"""The height from which on players take the colours of an untagged video for those of HDTV."""

_TURNS = {90: ("transpose=dir=clock",), 180: ("hflip", "vflip"), 270: ("transpose=dir=cclock",)}
"""Filters for an angle, clockwise."""

_DEINTERLACE = "bwdif=mode=send_frame:deint=interlaced"

_BT709_OUTPUT = (
    "out_transfer=bt709:out_primaries=bt709:out_color_matrix=bt709:out_range=tv:flags=bicubic"
)
"""Maps wide colours and high dynamic range too."""


def turn_of(frame: VideoFrame) -> int:
    """The angle by which a frame is turned clockwise to stand upright: 0, 90, 180 or 270."""
    return round(-frame.rotation / 90) * 90 % 360


def shown_size(width: int, height: int, aspect: Fraction | None, turn: int) -> tuple[int, int]:
    """Width and height of the upright picture, in square pixels.

    :param aspect: Width of a pixel through its height.
    """
    if aspect and aspect > 0:
        width = max(1, round(width * aspect))
    if turn in (90, 270):
        return height, width
    return width, height


class Scaler:
    """Scales frames, whatever size and format each of them has.

    :param pixel_format: Of the frames that come out.
    :param rate: Frames a second that are made of them; ``None`` for those that are there.
    """

    def __init__(
        self, width: int, height: int, pixel_format: str, rate: Fraction | None = None
    ) -> None:
        self._filters = [f"scale={width}:{height}:{_BT709_OUTPUT}", "format=yuv420p"]
        if pixel_format != "yuv420p":
            self._filters += ["scale", f"format={pixel_format}"]
        self._filters.append("setsar=1")
        if rate is not None:
            self._filters.append(f"fps={rate}")
        self._is_interlaced = False
        self._graph: Graph | None = None
        self._kind: tuple[t.Any, ...] = ()

    def scale(self, frame: VideoFrame) -> Iterator[VideoFrame]:
        """The frames that are ready after this one."""
        if frame.colorspace == _UNSPECIFIED:
            frame.colorspace = _BT601
            if frame.height >= _HD_HEIGHT:
                frame.colorspace = _BT709

        # Once is enough: cameras leave it out where nothing moves.
        self._is_interlaced = self._is_interlaced or frame.interlaced_frame
        kind = (
            self._is_interlaced,
            frame.width,
            frame.height,
            frame.format.name,
            frame.colorspace,
            frame.color_range,
            frame.color_trc,
            frame.color_primaries,
            frame.time_base,
            turn_of(frame),
        )
        if kind != self._kind:
            yield from self.flush()
            with decoding():
                self._graph = self._make_graph(frame)
            self._kind = kind

        assert self._graph is not None
        with decoding():
            self._graph.vpush(frame)
        yield from self._pull()

    def flush(self) -> Iterator[VideoFrame]:
        """The frames that are left."""
        if self._graph is None:
            return
        self._graph.vpush(None)
        yield from self._pull()
        self._graph = None

    def _make_graph(self, frame: VideoFrame) -> Graph:
        """Make the chain of filters for frames like this one: turned upright, scaled, converted."""
        graph = Graph()
        graph.threads = 1
        buffer = graph.add(
            "buffer",
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}"
            f":time_base={frame.time_base}:pixel_aspect=1/1"
            f":colorspace={frame.colorspace}:range={frame.color_range}",
        )
        filters = [*_TURNS.get(turn_of(frame), ()), *self._filters]
        if self._is_interlaced:
            filters.insert(0, _DEINTERLACE)

        nodes = [buffer]
        for description in filters:
            name, _, arguments = description.partition("=")
            nodes.append(graph.add(name, arguments))
        nodes.append(graph.add("buffersink"))
        graph.link_nodes(*nodes)
        graph.configure()
        return graph

    def _pull(self) -> Iterator[VideoFrame]:
        """The frames that are ready."""
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield frame
