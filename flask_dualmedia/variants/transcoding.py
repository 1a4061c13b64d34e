"""One rendition of a video, encoded into a fragmented MP4 that is written from front to back."""

from __future__ import annotations

import io
import re
import typing as t
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import av.error
from av.audio.frame import AudioFrame
from av.filter import Graph
from av.packet import Packet
from av.video.frame import VideoFrame

from .containers import THREADS, decoding, seconds_of
from .failures import ProcessingError
from .renditions import SEGMENT_SECONDS, Rendition
from .scaling import Scaler

MAX_RATE = 60
"""Frames a second of a rendition at most."""

_LEAST_RATE = Fraction(10)
"""The rate that an encoder assumes for pictures that follow each other even more slowly."""

_SAMPLE_RATE = 48_000
_AUDIO_BITS = 128_000
_AUDIO_CODEC = "mp4a.40.2"
_TIME_BASE = Fraction(1, 90_000)
_BITS_PER_PIXEL = 4
"""Bits a second and pixel that a rendition takes at most, as a player's connection has to."""

_SEGMENT_UNITS = round(SEGMENT_SECONDS / _TIME_BASE)
_LONGEST_STILL = round(1 / _TIME_BASE)
"""How long a frame is shown before it is shown again."""

_BT709 = 1
_LIMITED_RANGE = 1
_KEYFRAME = 1
_AS_THE_ENCODER_LIKES = 0

_NO_KEYFRAMES_BUT_OURS = "keyint=infinite:scenecut=0"

_PLAYLIST = "rendition.m3u8"
_HLS = {
    # At each keyframe, for there are none but ours.
    "hls_time": "1",
    "hls_segment_type": "fmp4",
    "hls_flags": "single_file",
    "hls_playlist_type": "vod",
    "hls_list_size": "0",
    "hls_segment_filename": "rendition.mp4",
    # Sound waits for the pictures, however late an encoder gives the first one.
    "max_interleave_delta": "0",
}

_INITIALISATION = re.compile(r'#EXT-X-MAP:.*BYTERANGE="(\d+)@(\d+)"')
_SEGMENT = re.compile(r"#EXTINF:([\d.]+),.*\n#EXT-X-BYTERANGE:(\d+)@(\d+)")


class Writable(t.Protocol):
    def write(self, content: bytes, /) -> object: ...


class _Output:
    """A file that can only be written on."""

    def __init__(self, sink: Writable) -> None:
        self._sink = sink
        self.size = 0

    def write(self, content: bytes) -> int:
        self._sink.write(content)
        self.size += len(content)
        return len(content)

    def close(self) -> None:
        """Leave the sink open, which is the caller's."""


class Sound:
    """Sound, encoded once for all renditions: two channels, from the first moment on, without gaps.

    :param start: The second at which the source begins.
    """

    def __init__(self, start: float) -> None:
        self._start = start
        # A stream needs a file. Nothing is written to this one but its beginning.
        self._container = av.open(io.BytesIO(), "w", format="mp4")
        self.stream: t.Any = self._container.add_stream("aac", rate=_SAMPLE_RATE, layout="stereo")
        self.stream.bit_rate = _AUDIO_BITS
        self._container.start_encoding()
        self._graph: Graph | None = None
        self._kind: tuple[t.Any, ...] = ()

    def encode(self, frame: AudioFrame) -> Iterator[Packet[t.Any]]:
        """The packets that are ready after this frame."""
        for mixed in self._mix(frame):
            yield from self.stream.encode(mixed)

    def flush(self) -> Iterator[Packet[t.Any]]:
        """The packets that are left."""
        for mixed in self._flush():
            yield from self.stream.encode(mixed)
        yield from self.stream.encode(None)

    def _mix(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        kind = (frame.sample_rate, frame.format.name, frame.layout.name, frame.time_base)
        if kind != self._kind:
            yield from self._flush()
            with decoding():
                self._graph = self._make_graph(frame)
            self._kind = kind

        assert self._graph is not None
        if frame.pts is not None and frame.time_base:
            frame.pts -= round(self._start / frame.time_base)
        with decoding():
            self._graph.push(frame)
        yield from self._pull()

    def _flush(self) -> Iterator[AudioFrame]:
        if self._graph is None:
            return
        self._graph.push(None)
        yield from self._pull()
        self._graph = None

    def _make_graph(self, frame: AudioFrame) -> Graph:
        # Only what follows the first graph may begin later.
        first = ":first_pts=0"
        if self._kind:
            first = ""
        graph = Graph()
        graph.threads = 1
        graph.link_nodes(
            graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format.name,
                layout=frame.layout.name,
                time_base=frame.time_base,
            ),
            graph.add("aresample", f"{_SAMPLE_RATE}:async=1{first}"),
            graph.add("aformat", "sample_fmts=fltp:channel_layouts=stereo"),
            graph.add("abuffersink"),
        )
        graph.configure()
        return graph

    def _pull(self) -> Iterator[AudioFrame]:
        assert self._graph is not None
        while True:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            yield t.cast(AudioFrame, frame)


class Ladder:
    """Frames of a source in the size of each rendition, at times that all of them share.

    Keyframes are at the same times everywhere, so that a player may change from one to another.
    Where the next frame is long in coming, the last one is shown again: a segment needs one.

    :param renditions: From the smallest to the largest. Each is scaled from the next larger one.
    :param rate: Frames a second of the source, on average.
    :param start: The second at which the source begins.
    :param longest: The largest number of seconds that it may last.
    """

    def __init__(
        self, renditions: list[Rendition], rate: Fraction, start: float, longest: float
    ) -> None:
        fixed_rate = None
        if rate > MAX_RATE:
            # Every second frame, every third: they stay evenly apart.
            rate = fixed_rate = rate / -(-rate // MAX_RATE)
        self.rate = max(rate, _LEAST_RATE)
        *smaller, largest = renditions
        self._upright = Scaler(largest.width, largest.height, "yuv420p", fixed_rate)
        self._smaller = [Scaler(size.width, size.height, "yuv420p") for size in reversed(smaller)]
        self._start = start
        self._longest = longest
        self._sizes: list[VideoFrame] = []
        # In units of the time base.
        self._one_frame = round(1 / self.rate / _TIME_BASE)
        self._last = -1
        self._next_keyframe = 0
        self._source_end = 0

    @property
    def is_empty(self) -> bool:
        """True if no frame has come."""
        return not self._sizes

    @property
    def end(self) -> float:
        """The second at which the source ends, as far as it was decoded."""
        end = self._source_end
        if end <= self._last:
            end = self._last + self._one_frame
        return float(end * _TIME_BASE)

    def last_until(self, second: float) -> None:
        """Show the last frame until then, if no other follows: the sound goes on."""
        second = min(second - self._start, self._longest)
        self._source_end = max(self._source_end, round(second / _TIME_BASE))

    def scale(self, frame: VideoFrame) -> Iterator[list[VideoFrame]]:
        """Lists of the same frame in all sizes, from the smallest to the largest."""
        second = seconds_of(frame)
        if second is not None and frame.time_base is not None:
            self.last_until(second + float(frame.duration * frame.time_base))
        for upright in self._upright.scale(frame):
            yield from self._step_down(upright)

    def flush(self) -> Iterator[list[VideoFrame]]:
        """Lists of the frames that are left."""
        for upright in self._upright.flush():
            yield from self._step_down(upright)
        yield from self._fill(self._source_end)
        last = self._source_end - self._one_frame
        if self._sizes and last - self._last >= self._one_frame:
            yield self._show(last)

    def _step_down(self, frame: VideoFrame) -> Iterator[list[VideoFrame]]:
        second = seconds_of(frame)
        if second is None:
            return
        position = round((second - self._start) / _TIME_BASE)
        if position <= self._last:
            return  # two at once, or one from before the beginning
        yield from self._fill(position)

        sizes = [frame]
        for scaler in self._smaller:
            sizes += scaler.scale(sizes[-1])
        self._sizes = sizes[::-1]
        yield self._show(position)

    def _fill(self, position: int) -> Iterator[list[VideoFrame]]:
        while self._sizes and position - self._last > _LONGEST_STILL:
            # Not past a keyframe, which begins a segment.
            yield self._show(min(self._last + _LONGEST_STILL, self._next_keyframe))

    def _show(self, position: int) -> list[VideoFrame]:
        # A decoded frame says what it was in the source.
        picture_type = _AS_THE_ENCODER_LIKES
        if position >= self._next_keyframe:
            picture_type = _KEYFRAME
            self._next_keyframe = (position // _SEGMENT_UNITS + 1) * _SEGMENT_UNITS
        for frame in self._sizes:
            frame.pts, frame.time_base = position, _TIME_BASE
            frame.pict_type = picture_type
        self._last = position
        return self._sizes


class Encoder:
    """Encodes frames of its size into one file of segments, each of which begins with a keyframe.

    :param rate: Frames a second, on average.
    """

    def __init__(
        self, rendition: Rendition, sink: Writable, rate: Fraction, sound: Sound | None
    ) -> None:
        self._rendition = rendition
        self._rate = rate
        self._media = _Output(sink)
        self._playlist = io.BytesIO()
        self._held: Packet[t.Any] | None = None
        # A name of a file opens the file: these are given to us instead.
        self._container = av.open(
            _PLAYLIST, "w", format="hls", options=dict(_HLS), io_open=self._open
        )
        self._video = self._add_video()
        self._audio: t.Any = None
        if sound is not None:
            self._audio = self._container.add_stream_from_template(sound.stream)

    def add_video(self, frame: VideoFrame) -> None:
        """Encode a frame, which has a time and a type from :class:`Ladder`."""
        self._mux_video(self._video.encode(frame))

    def add_sound(self, packet: Packet[t.Any]) -> None:
        packet.stream = self._audio
        self._container.mux(packet)

    def close(self, end: float) -> dict[str, t.Any]:
        """Write what is left.

        :param end: The second at which the last frame ends.
        :return: The facts that :mod:`.playlists` are made from.
        """
        self._mux_video(self._video.encode(None))
        if self._held is not None:
            self._container.mux(self._held)
        codecs = self._codecs()
        self._container.close()
        return self._describe(codecs, end)

    def _mux_video(self, packets: Iterable[Packet[t.Any]]) -> None:
        """Tell each packet how long it lasts: segments would drift apart by what is guessed."""
        for packet in packets:
            if self._held is not None and packet.dts is not None and self._held.dts is not None:
                self._held.duration = packet.dts - self._held.dts
                self._container.mux(self._held)
            self._held = packet

    def _open(self, url: str, _flags: int, _options: t.Any) -> t.Any:
        if url == _PLAYLIST:
            return _Output(self._playlist)
        return self._media

    def _add_video(self) -> t.Any:
        width, height = self._rendition.width, self._rendition.height
        bits = width * height * _BITS_PER_PIXEL
        options = {
            "preset": "veryfast",
            "crf": "23",
            "maxrate": str(bits),
            "bufsize": str(2 * bits),
            "profile": "high",
            "forced-idr": "1",
            "x264-params": _NO_KEYFRAMES_BUT_OURS,
        }
        if self._rate <= _LEAST_RATE:
            options["bf"] = "0"  # they would delay everything by the time of two pictures
        video = self._container.add_stream("libx264", rate=self._rate, options=options)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.time_base = _TIME_BASE
        context = video.codec_context
        context.time_base = _TIME_BASE
        context.thread_count = THREADS
        context.color_range = _LIMITED_RANGE
        context.color_primaries = _BT709
        context.color_trc = _BT709
        context.colorspace = _BT709
        return video

    def _codecs(self) -> str:
        """The codecs, as RFC 6381 writes them."""
        parameters = bytes(self._video.codec_context.extradata or b"")
        position = parameters.find(b"\x00\x00\x01\x67") + 4
        codecs = f"avc1.{parameters[position : position + 3].hex()}"
        if self._audio is not None:
            codecs += f",{_AUDIO_CODEC}"
        return codecs

    def _describe(self, codecs: str, end: float) -> dict[str, t.Any]:
        playlist = self._playlist.getvalue().decode()
        initialisation = _INITIALISATION.search(playlist)
        segments = [
            {"start": int(start), "size": int(size), "duration": float(duration)}
            for duration, size, start in _SEGMENT.findall(playlist)
        ]
        if initialisation is None or not segments:
            raise ProcessingError("the encoder wrote no segment")

        # The muxer adds up what packets of the last one last in the order of decoding.
        segments[-1]["duration"] = round(end - sum(each["duration"] for each in segments[:-1]), 6)
        duration = sum(segment["duration"] for segment in segments)
        return {
            "name": self._rendition.name,
            "width": self._rendition.width,
            "height": self._rendition.height,
            "fps": round(float(self._rate), 3),
            "codecs": codecs,
            "size": self._media.size,
            "duration": round(duration, 6),
            "initialisation_size": int(initialisation[1]),
            "segments": segments,
        }
