"""Facts about a video or a piece of sound, and a picture of it."""

from __future__ import annotations

import io
import typing as t
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction

from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageStat

from .containers import Opened, VideoLimits, decode, decoding, frame_rate, opened, seconds_of
from .failures import LimitExceeded, UndecodableMedia
from .scaling import Scaler, shown_size, turn_of

_HDR_TRANSFERS = (16, 18)  # PQ and HLG, ITU-T H.273

_PLACES = (0.10, 0.25, 0.40, 0.60)
"""Parts of the duration at which a poster is looked for."""

_LEAST_CONTRAST = 18
"""Standard deviation of the brightness of a picture that shows something."""

_LOOK_EACH = 0.5
"""Seconds between two frames that are looked at where no keyframe is worth it."""

_LOOK_AT_MOST = 60.0
"""Seconds of video that are decoded to find one."""

_GLANCE = (64, 36)
"""Width and height of a frame when its contrast is looked at."""

_QUALITY = 80


@dataclass(frozen=True)
class Probe:
    """The facts about a file of video or sound."""

    duration: float
    """In seconds."""
    format: str
    width: int | None = None
    """In square pixels, upright, as the height."""
    height: int | None = None
    rotation: int = 0
    """Degrees by which the frames are turned clockwise to be upright."""
    video_codec: str | None = None
    audio_codec: str | None = None
    fps: float | None = None
    hdr: bool = False
    has_video: bool = False
    has_audio: bool = False


def probe(
    arguments: Mapping[str, t.Any],
    source: t.Any,
    _sinks: Mapping[str, t.Any],
    _report: Callable[[float], None],
) -> dict[str, t.Any]:
    """The facts of :class:`Probe`. One frame is decoded.

    :param arguments: ``limits``, those of :class:`~.containers.VideoLimits`.
    """
    limits = VideoLimits(**arguments.get("limits", {}))
    with opened(source, limits) as file:
        picture = _picture_facts(file)
        duration = file.duration
        if duration is None:
            duration = _measure(file)
        if duration > limits.seconds:
            raise LimitExceeded(f"longer than {limits.seconds:g} seconds")

        audio_codec = None
        if file.audio is not None:
            audio_codec = file.audio.codec_context.codec.canonical_name
        facts = Probe(
            duration=round(duration, 3),
            format=file.container.format.name,
            audio_codec=audio_codec,
            has_video=file.video is not None,
            has_audio=file.audio is not None,
            **picture,
        )
    return asdict(facts)


def poster(
    arguments: Mapping[str, t.Any],
    source: t.Any,
    sinks: Mapping[str, t.Any],
    _report: Callable[[float], None],
) -> dict[str, t.Any]:
    """Write a picture that shows something to the sink ``poster``.

    :param arguments: ``width``, the largest one; ``format``, "webp" or "jpeg"; ``limits``.
    :return: ``width``, ``height``, ``format``, and ``position`` in seconds.
    """
    limits = VideoLimits(**arguments.get("limits", {}))
    image_format = arguments.get("format", "webp")
    with opened(source, limits) as file:
        if file.video is None:
            raise UndecodableMedia("no video in it")
        frame = _choose_frame(file, file.video)
        image = _scale(frame, file.video, arguments.get("width", 1280))
        position = max(0.0, (seconds_of(frame) or 0.0) - file.start)

    content = io.BytesIO()
    image.save(content, image_format, quality=_QUALITY)
    sinks["poster"].write(content.getvalue())
    return {
        "width": image.width,
        "height": image.height,
        "format": image_format,
        "position": round(position, 3),
    }


def _picture_facts(file: Opened) -> dict[str, t.Any]:
    """The facts about the pictures of a file, read from its first frame.

    :return: Nothing for sound alone.
    :raises UndecodableMedia: There is no frame.
    """
    if file.video is None:
        return {}
    # The angle, and often the colours, are only in the frames.
    frame = next(_decode_video(file, file.video), None)
    if frame is None:
        raise UndecodableMedia("no frame can be decoded")

    rotation = turn_of(frame)
    width, height = _size_of(file.video, frame)
    return {
        "width": width,
        "height": height,
        "rotation": rotation,
        "video_codec": file.video.codec_context.codec.canonical_name,
        "fps": round(float(frame_rate(file.video)), 3),
        "hdr": frame.color_trc in _HDR_TRANSFERS,
    }


def _size_of(stream: VideoStream, frame: VideoFrame) -> tuple[int, int]:
    """Width and height in which a frame is shown, upright and with square pixels."""
    aspect = stream.sample_aspect_ratio
    return shown_size(frame.width, frame.height, aspect, turn_of(frame))


def _measure(file: Opened) -> float:
    """The duration of a file that does not say it, as those that browsers record."""
    with decoding():
        file.container.seek(0)
        end = Fraction(0)
        for packet in file.container.demux(*_streams(file)):
            if packet.pts is not None and packet.time_base is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
    return max(0.0, float(end) - file.start)


def _streams(file: Opened) -> list[t.Any]:
    """The streams of a file that are used: pictures, sound, or both."""
    return [stream for stream in (file.video, file.audio) if stream is not None]


def _choose_frame(file: Opened, video: VideoStream) -> VideoFrame:
    """The first frame with contrast, or the one that has most of those that were looked at."""
    best: VideoFrame | None = None
    most = -1.0
    for frame in _frames_to_look_at(file, video):
        contrast = _contrast_of(frame)
        if contrast > _LEAST_CONTRAST:
            return frame
        if contrast > most:
            best, most = frame, contrast
    if best is None:
        raise UndecodableMedia("no frame can be decoded")
    return best


def _contrast_of(frame: VideoFrame) -> float:
    """The contrast of brightness alone: to map wide colours takes seconds to begin with."""
    brightness = frame.reformat(*_GLANCE, "gray").to_image()
    return ImageStat.Stat(brightness).stddev[0]


def _frames_to_look_at(file: Opened, video: VideoStream) -> Iterator[VideoFrame]:
    """Frames that may be worth looking at: keyframes of the middle first, then a few from the
    beginning.
    """
    # With threads for frames a decoder gives none before it has read several.
    video.codec_context.thread_type = "SLICE"
    video.codec_context.skip_frame = "NONKEY"
    seen = set()
    for place in _PLACES:
        _seek(file, file.start + place * (file.duration or 0))
        frame = next(_decode_video(file, video), None)
        if frame is not None and frame.pts not in seen:
            seen.add(frame.pts)
            yield frame

    video.codec_context.skip_frame = "DEFAULT"
    _seek(file, file.start)
    next_look = 0.0
    for frame in _decode_video(file, video):
        position = (seconds_of(frame) or 0.0) - file.start
        if position > _LOOK_AT_MOST:
            return
        if position >= next_look:
            next_look = position + _LOOK_EACH
            yield frame


def _decode_video(file: Opened, video: VideoStream) -> Iterator[VideoFrame]:
    return t.cast("Iterator[VideoFrame]", decode(file, video))


def _seek(file: Opened, second: float) -> None:
    """Go to the last keyframe before a second of the file."""
    with decoding():
        file.container.seek(round(second * 1_000_000))


def _scale(frame: VideoFrame, video: VideoStream, max_width: int) -> Image.Image:
    """A frame as an upright image, no wider than asked for and no wider than it is."""
    width, height = _size_of(video, frame)
    scale = min(1.0, max_width / width)
    scaler = Scaler(max(1, round(width * scale)), max(1, round(height * scale)), "rgb24")
    frames = [*scaler.scale(frame), *scaler.flush()]
    return frames[0].to_image()
