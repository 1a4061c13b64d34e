"""The renditions of a video: encoded in one go, and looked at again when they are stored."""

from __future__ import annotations

import io
import typing as t
from collections.abc import Callable, Mapping

from av.packet import Packet
from av.video.frame import VideoFrame

from .containers import Opened, VideoLimits, decode, decoding, frame_rate, opened, seconds_of
from .failures import LimitExceeded, ProcessingError, UndecodableMedia
from .progressive import write_progressive
from .renditions import LEAST_STREAMED, Rendition
from .transcoding import Encoder, Ladder, Sound, Writable

_SEGMENT_BOXES = (b"styp", b"sidx", b"moof")
"""Boxes that a segment may begin with."""

Report = Callable[[float], None]

_TOLERANCE = 0.01
"""Part of the duration by which an output may differ."""

_LEAST_TOLERANCE = 0.25
"""Seconds by which it may differ all the same: sound is cut into packets."""


def hls(
    arguments: Mapping[str, t.Any], source: t.Any, sinks: Mapping[str, t.Any], report: Report
) -> dict[str, t.Any]:
    """Write each rendition to the sink of its name, and decode the source once for all.

    :param arguments: ``renditions``, each with the fields of
        :class:`~.renditions.Rendition`; ``limits``.
    :return: ``renditions``, with what :mod:`.playlists` are made from.
    """
    limits = VideoLimits(**arguments.get("limits", {}))
    renditions = [Rendition(**fields) for fields in arguments["renditions"]]
    with opened(source, limits) as file:
        return {"renditions": _encode(file, renditions, sinks, limits, report)}


def short(
    arguments: Mapping[str, t.Any], source: t.Any, sinks: Mapping[str, t.Any], report: Report
) -> dict[str, t.Any]:
    """Write a short video to the sink ``video``, as an MP4 that begins to play at once.

    :param arguments: ``rendition``, with the fields of :class:`~.renditions.Rendition`; ``limits``.
    :return: ``size``, ``width``, ``height``, ``duration``, ``codecs``.
    """
    # The encoder writes fragments: they are few enough to be kept until the file is put in order.
    longest = VideoLimits(seconds=2 * LEAST_STREAMED)
    limits = VideoLimits(**{"seconds": longest.seconds} | arguments.get("limits", {}))
    rendition = Rendition(**arguments["rendition"])
    fragments = io.BytesIO()
    with opened(source, limits) as file:
        (facts,) = _encode(file, [rendition], {rendition.name: fragments}, limits, report)

    fragments.seek(0)
    size = write_progressive(fragments, sinks["video"])
    return {"size": size} | {key: facts[key] for key in ("width", "height", "duration", "codecs")}


def verify(
    arguments: Mapping[str, t.Any], source: t.Any, _sinks: Mapping[str, t.Any], _report: Report
) -> dict[str, t.Any]:
    """Look at a stored rendition: as long as was said, with every segment where it was said.

    :param arguments: ``rendition``, as :func:`hls` returned it.
    :raises ProcessingError: It is not what was written.
    """
    rendition = arguments["rendition"]
    segments = rendition["segments"]
    if source.size != rendition["size"]:
        raise ProcessingError("a rendition of another size than was written")
    if not all(_begins_segment(source, segment["start"]) for segment in segments):
        raise ProcessingError("a rendition whose segments are elsewhere")

    source.seek(0)
    packets = _read_packets(source, has_audio="mp4a" in rendition["codecs"])
    first_packets: dict[int, bool] = {}
    for packet in packets:
        first_packets.setdefault(_segment_at(segments, packet.position), packet.is_keyframe)
    if len(first_packets) != len(segments) or not all(first_packets.values()):
        raise ProcessingError("a rendition with a segment that does not begin with a keyframe")

    times = [packet.second for packet in packets]
    duration = max(times) - min(times)
    if not _is_close(duration, rendition["duration"]):
        raise ProcessingError(f"a rendition of {duration:.2f} seconds")
    return {"duration": rendition["duration"]}


class _Packet(t.NamedTuple):
    """A packet of pictures, where it is in its file."""

    position: int
    second: float
    is_keyframe: bool


def _begins_segment(source: t.Any, start: int) -> bool:
    source.seek(start)
    return source.read(8)[4:] in _SEGMENT_BOXES


def _read_packets(source: t.Any, *, has_audio: bool) -> list[_Packet]:
    """The packets of a rendition, in the order of the file."""
    with opened(source, VideoLimits()) as file, decoding():
        if file.video is None or (file.audio is not None) != has_audio:
            raise ProcessingError("a rendition with other streams than were written")
        return [
            _Packet(packet.pos, float(packet.pts * packet.time_base), packet.is_keyframe)
            for packet in file.container.demux(file.video)
            if packet.pts is not None and packet.pos is not None
        ]


def _encode(
    file: Opened,
    renditions: list[Rendition],
    sinks: Mapping[str, Writable],
    limits: VideoLimits,
    report: Report,
) -> list[dict[str, t.Any]]:
    if file.video is None:
        raise UndecodableMedia("no video in it")
    ladder = Ladder(renditions, frame_rate(file.video), file.start, limits.seconds)
    streams: list[t.Any] = [file.video]
    sound = None
    if file.audio is not None:
        streams.append(file.audio)
        sound = Sound(file.start)
    encoders = [
        Encoder(rendition, sinks[rendition.name], ladder.rate, sound) for rendition in renditions
    ]

    for frame in decode(file, *streams):
        if isinstance(frame, VideoFrame):
            _check(frame, file, limits)
            _add_pictures(encoders, ladder.scale(frame))
            _report(frame, file, report)
        elif sound is not None:
            ladder.last_until((seconds_of(frame) or 0.0) + frame.samples / frame.sample_rate)
            _add_sound(encoders, sound.encode(frame))
    _add_pictures(encoders, ladder.flush())
    if sound is not None:
        _add_sound(encoders, sound.flush())

    if ladder.is_empty:
        raise UndecodableMedia("no frame can be decoded")
    facts = [encoder.close(ladder.end) for encoder in encoders]
    _check_durations(file, ladder, facts)
    return facts


def _add_pictures(encoders: list[Encoder], pictures: t.Iterable[list[VideoFrame]]) -> None:
    for sizes in pictures:
        for encoder, frame in zip(encoders, sizes, strict=True):
            encoder.add_video(frame)


def _add_sound(encoders: list[Encoder], packets: t.Iterable[Packet[t.Any]]) -> None:
    for packet in packets:
        for encoder in encoders:
            encoder.add_sound(packet)


def _check(frame: VideoFrame, file: Opened, limits: VideoLimits) -> None:
    """Refuse frames that are more than their file says."""
    if frame.width * frame.height > limits.pixels:
        raise LimitExceeded(f"frames of more than {limits.pixels} pixels")
    position = (seconds_of(frame) or 0.0) - file.start
    if position > limits.seconds:
        raise LimitExceeded(f"longer than {limits.seconds:g} seconds")


def _report(frame: VideoFrame, file: Opened, report: Report) -> None:
    position = seconds_of(frame)
    if position is not None and file.duration:
        report((position - file.start) / file.duration)


def _check_durations(file: Opened, ladder: Ladder, facts: list[dict[str, t.Any]]) -> None:
    """A source that breaks off, and an encoder that loses something, are no success."""
    expected = file.duration
    decoded = ladder.end
    if expected is not None and not _is_close(decoded, expected):
        raise UndecodableMedia(f"it ends after {decoded:.2f} of {expected:.2f} seconds")
    for fact in facts:
        if not _is_close(fact["duration"], decoded):
            raise ProcessingError(f"a rendition of {fact['duration']:.2f} seconds")


def _is_close(duration: float, expected: float) -> bool:
    return abs(duration - expected) <= max(_TOLERANCE * expected, _LEAST_TOLERANCE)


def _segment_at(segments: list[dict[str, t.Any]], position: int) -> int:
    for number, segment in enumerate(segments):
        if segment["start"] <= position < segment["start"] + segment["size"]:
            return number
    raise ProcessingError("a rendition with frames outside of its segments")
