"""Small videos and pieces of sound, made once for all tests of a process."""

from __future__ import annotations

import io
import math
import struct
import typing as t
from array import array
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cache

import av
from av.audio.frame import AudioFrame
from av.filter import Graph
from av.video.frame import VideoFrame
from PIL import Image, ImageDraw

SAMPLE_RATE = 48_000

_STEP = SAMPLE_RATE // 10

_WAVE = [math.sin(place * 2 * math.pi * 440 / SAMPLE_RATE) for place in range(_STEP)]
"""A tenth of a second of a tone, that is 44 whole waves."""

COLOURS = {"left": (200, 40, 40), "right": (40, 60, 200)}
"""The halves of each frame, between which a white bar moves."""

Draw = Callable[[float, int, int], Image.Image]


def draw(second: float, width: int, height: int) -> Image.Image:
    """Two coloured halves, and a bar in the upper quarter that moves from left to right."""
    image = Image.new("RGB", (width, height), COLOURS["left"])
    pen = ImageDraw.Draw(image)
    pen.rectangle((width // 2, 0, width, height), fill=COLOURS["right"])
    left = int(second * width / 4) % width
    pen.rectangle((left, 0, left + width // 8, height // 4), fill="white")
    return image


def draw_black_first(second: float, width: int, height: int) -> Image.Image:
    if second < 1.5:
        return Image.new("RGB", (width, height), "black")
    return draw(second, width, height)


def make_clip(
    *,
    seconds: float = 2.0,
    size: tuple[int, int] = (320, 180),
    fps: int = 12,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    container: str = "mp4",
    layout: str | None = "stereo",
    audio_codec: str = "aac",
    drawing: Draw = draw,
    keyframes: int = 12,
    matrix: str = "bt601",
    colours: dict[str, int] | None = None,
    moov_first: bool = False,
    codec_options: dict[str, str] | None = None,
    times: Sequence[int] | None = None,
) -> bytes:
    """A video of moving colours, with a tone.

    :param times: Numbers of the frames that there are, where some are shown for longer.
    """
    target = io.BytesIO()
    options = {}
    if moov_first:
        options["moov_size"] = "20000"
    with av.open(target, "w", format=container, options=options) as output:
        video = t.cast("t.Any", output.add_stream(codec, rate=fps))
        video.width, video.height = size
        video.pix_fmt = pixel_format
        video.options = {"g": str(keyframes)} | (codec_options or {})
        if codec.startswith("libx"):
            video.options |= {"preset": "ultrafast"}
        for name, value in (colours or {}).items():
            setattr(video.codec_context, name, value)
        audio: t.Any = None
        if layout is not None:
            audio = output.add_stream(audio_codec, rate=SAMPLE_RATE, layout=layout)

        for number in times or range(max(1, round(seconds * fps))):
            frame = VideoFrame.from_image(drawing(number / fps, *size))
            frame.pts, frame.time_base = number, Fraction(1, fps)
            output.mux(video.encode(convert(frame, pixel_format, matrix)))
        output.mux(video.encode(None))
        if audio is not None:
            for sound in tone(seconds, layout or "stereo"):
                output.mux(audio.encode(sound))
            output.mux(audio.encode(None))
    return target.getvalue()


def convert(frame: VideoFrame, pixel_format: str, matrix: str) -> VideoFrame:
    """A frame of RGB as luminance and colour, by this matrix."""
    graph = Graph()
    graph.link_nodes(
        graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format,
            time_base=frame.time_base,
        ),
        graph.add("scale", f"out_color_matrix={matrix}:out_range=tv"),
        graph.add("format", pixel_format),
        graph.add("buffersink"),
    )
    graph.configure()
    graph.vpush(frame)
    return graph.vpull()


def tone(seconds: float, layout: str) -> Iterator[AudioFrame]:
    """A tone that grows louder from silence, step by step."""
    total = int(seconds * SAMPLE_RATE)
    for start in range(0, total, _STEP):
        count = min(_STEP, total - start)
        wave = array("f", (start / total * sample for sample in _WAVE[:count]))
        frame = AudioFrame("fltp", layout, count)
        for plane in frame.planes:
            plane.update(wave.tobytes().ljust(plane.buffer_size, b"\0"))
        frame.sample_rate, frame.pts = SAMPLE_RATE, start
        frame.time_base = Fraction(1, SAMPLE_RATE)
        yield frame


@cache
def plain() -> bytes:
    """Two seconds, 320x180, with the index at the end."""
    return make_clip()


@cache
def long_one() -> bytes:
    """Twelve seconds, which is long enough to be streamed."""
    return make_clip(seconds=12, moov_first=True)


@cache
def silent() -> bytes:
    return make_clip(layout=None)


@cache
def sound_only() -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format="mp4") as output:
        _add_tone(output, 2.0)
    return target.getvalue()


@cache
def odd() -> bytes:
    """A width that is odd, and colours that are not subsampled."""
    return make_clip(size=(321, 241), pixel_format="yuv444p")


@cache
def one_frame() -> bytes:
    return make_clip(seconds=1 / 12, layout=None)


@cache
def still() -> bytes:
    """Nine seconds with a picture at the beginning, and one in the middle."""
    return make_clip(seconds=9, times=[0, 54], layout="mono")


@cache
def surround() -> bytes:
    return make_clip(layout="5.1")


@cache
def black_start() -> bytes:
    """Black for a second and a half, with one keyframe."""
    return make_clip(seconds=4, drawing=draw_black_first, keyframes=1000, layout=None)


@cache
def webm() -> bytes:
    return make_clip(codec="libvpx", container="webm", audio_codec="libopus", seconds=1)


@cache
def interlaced() -> bytes:
    """A bar that moves from field to field, with every second line half a frame late."""
    return make_clip(
        drawing=_draw_fields,
        codec_options={"x264-params": "tff=1"},
        layout=None,
        seconds=1,
    )


@cache
def avi() -> bytes:
    return make_clip(codec="mpeg4", container="avi", audio_codec="libmp3lame", seconds=1)


@cache
def transport_stream() -> bytes:
    """A stream that begins at another time than 0."""
    return make_clip(codec="mpeg2video", container="mpegts", audio_codec="mp2", seconds=1, fps=25)


@cache
def without_duration() -> bytes:
    """A video as browsers record it: written to a stream, so that its length is nowhere."""

    class Stream(io.RawIOBase):
        content = b""

        def writable(self) -> bool:
            return True

        def write(self, content: t.Any) -> int:
            self.content += bytes(content)
            return len(content)

    stream = Stream()
    with (
        av.open(io.BytesIO(plain()), "r") as original,
        av.open(stream, "w", format="matroska", options={"live": "1"}) as output,
    ):
        copied = {
            source.index: output.add_stream_from_template(source)
            for source in (original.streams.video[0], original.streams.audio[0])
        }
        for packet in original.demux(original.streams.video[0], original.streams.audio[0]):
            if packet.dts is None:
                continue
            packet.stream = copied[packet.stream.index]
            output.mux(packet)
    return stream.content


@cache
def with_cover() -> bytes:
    """A song with the picture of its cover."""
    cover = io.BytesIO()
    draw(0, 64, 64).save(cover, "jpeg")
    # An MP4 lists covers among its metadata.
    data = _box(b"data", struct.pack(">II", 13, 0) + cover.getvalue())
    items = _box(b"ilst", _box(b"covr", data))
    handler = _box(b"hdlr", struct.pack(">II4s4s9x", 0, 0, b"mdir", b"appl"))
    metadata = _box(b"udta", _box(b"meta", bytes(4) + handler + items))
    return _append_to_index(sound_only(), metadata)


@cache
def hdr() -> bytes:
    """The same colours as PQ, as phones record them."""
    return make_clip(
        codec="libx265",
        pixel_format="yuv420p10le",
        drawing=_draw_as_pq,
        matrix="bt2020",
        colours={"color_primaries": 9, "color_trc": 16, "colorspace": 9, "color_range": 1},
        codec_options={"x265-params": "log-level=none:pools=2"},
        seconds=1,
    )


@cache
def rotated(angle: int) -> bytes:
    """The plain clip, to be turned clockwise by 90, 180 or 270 degrees when it is shown."""
    matrices = {
        90: (0, 1, -1, 0),
        180: (-1, 0, 0, -1),
        270: (0, -1, 1, 0),
    }
    content = bytearray(plain())
    header = content.index(b"tkhd") + 4
    a, b, c, d = (number * 0x10000 for number in matrices[angle])
    matrix = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    content[header + 40 : header + 76] = matrix
    return bytes(content)


@cache
def huge() -> bytes:
    """One frame of 16384x8192, all of one colour, in few bytes."""
    return make_clip(
        seconds=1 / 12,
        size=(16384, 8192),
        layout=None,
        drawing=lambda _second, width, height: Image.new("RGB", (width, height)),
        codec_options={"x264-params": "threads=2"},
    )


def _draw_fields(second: float, width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), "black")
    pen = ImageDraw.Draw(image)
    for line in range(height):
        left = 20 + 240 * second + 20 * (line % 2)
        pen.line((left, line, left + 40, line), fill="white")
    return image


def _draw_as_pq(_second: float, width: int, height: int) -> Image.Image:
    """The two halves, in values that a screen for PQ shows as those colours."""
    image = Image.new("RGB", (width, height), _as_pq(COLOURS["left"]))
    ImageDraw.Draw(image).rectangle((width // 2, 0, width, height), fill=_as_pq(COLOURS["right"]))
    return image


def _as_pq(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """A colour of sRGB in the values of ITU-R BT.2100, where white is 203 cd/m2."""
    red, green, blue = ((value / 255) ** 2.2 for value in colour)
    wide = (
        0.6274 * red + 0.3293 * green + 0.0433 * blue,
        0.0691 * red + 0.9195 * green + 0.0114 * blue,
        0.0164 * red + 0.0880 * green + 0.8956 * blue,
    )
    first, second, third = (_pq(value * 203 / 10_000) for value in wide)
    return first, second, third


def _pq(light: float) -> int:
    power = light**0.1593017578125
    return round(255 * ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def _add_tone(output: t.Any, seconds: float) -> None:
    audio = output.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
    for sound in tone(seconds, "stereo"):
        output.mux(audio.encode(sound))
    output.mux(audio.encode(None))


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def _append_to_index(content: bytes, box: bytes) -> bytes:
    """An MP4 with another box at the end of its index, which is its last part."""
    start = content.rindex(b"moov") - 4
    size = int.from_bytes(content[start : start + 4], "big") + len(box)
    return content[:start] + size.to_bytes(4, "big") + content[start + 4 :] + box
