"""Files of video and sound, opened so that nothing but their own bytes is looked at."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .failures import LimitExceeded, UndecodableMedia, UnsupportedCodec

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,asf,flv,dv,mxf,"
    "mp3,aac,flac,wav,w64,aiff,caf,amr,ac3,eac3"
)
"""Formats that hold all they need. Lists of other files, as ffconcat and m3u8 are, open those."""

VIDEO_CODECS = frozenset(
    """
    h264 hevc vp8 vp9 av1 mpeg4 msmpeg4v2 msmpeg4v3 mpeg1video mpeg2video h263 flv1 vp6f wmv1
    wmv2 wmv3 vc1 theora mjpeg prores dnxhd dvvideo rawvideo ffv1 jpeg2000
    """.split()
)

AUDIO_CODECS = frozenset(
    """
    aac mp3 mp2 opus vorbis flac alac ac3 eac3 dts truehd amr_nb amr_wb wmav1 wmav2 wmapro
    adpcm_ima_wav adpcm_ms adpcm_ima_qt gsm gsm_ms pcm_alaw pcm_mulaw pcm_u8 pcm_s16le
    pcm_s16be pcm_s24le pcm_s24be pcm_s32le pcm_s32be pcm_f32le pcm_f32be pcm_f64le pcm_dvd
    pcm_bluray
    """.split()
)

THREADS = 2
"""Threads of each codec. Left to itself it takes as many as the host has processors, and memory
for each."""

_NO_VIDEO = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
"""Kinds of streams of pictures that are no video: covers, above all."""

_MICROSECONDS = 1_000_000
_BUFFER_SIZE = 64 * 1024


@dataclass(frozen=True)
class VideoLimits:
    """How large, long and dense an original may be."""

    pixels: int = 8192 * 4320
    seconds: float = 4 * 3600
    fps: float = 120


@dataclass(frozen=True)
class Opened:
    """A file with those of its streams that are shown."""

    container: InputContainer
    video: VideoStream | None
    audio: AudioStream | None

    @property
    def start(self) -> float:
        """The second at which the streams begin."""
        return (self.container.start_time or 0) / _MICROSECONDS

    @property
    def duration(self) -> float | None:
        """In seconds, if the file says it."""
        if self.container.duration is not None and self.container.duration > 0:
            return self.container.duration / _MICROSECONDS
        return None


@contextmanager
def opened(source: t.Any, limits: VideoLimits) -> Iterator[Opened]:
    """Open a file object without a name.

    :raises UndecodableMedia: It is no video and no sound, or a damaged one.
    :raises UnsupportedCodec: It has streams, and none that may be decoded here.
    :raises LimitExceeded: It is larger, longer or denser than ``limits`` say.
    """
    with _open(source, FORMATS) as container:
        file = _choose_streams(container)
        _check(file, limits)
        yield file


def open_own(source: t.Any) -> InputContainer:
    """Open an MP4 that was made here."""
    return _open(source, "mp4")


def _open(source: t.Any, formats: str) -> InputContainer:
    """Open a file as one of some formats. No file and no URL that it names is opened."""
    options = {"format_whitelist": formats, "protocol_whitelist": "none"}
    with decoding():
        container = av.open(
            source,
            mode="r",
            options=options,
            buffer_size=_BUFFER_SIZE,
            metadata_errors="replace",
        )
    return t.cast(InputContainer, container)


@contextmanager
def decoding() -> Iterator[None]:
    """Turn errors of FFmpeg into ours."""
    try:
        yield
    except av.error.MemoryError as error:
        raise MemoryError from error
    except (av.error.DecoderNotFoundError, av.error.PatchWelcomeError) as error:
        raise UnsupportedCodec(str(error)) from error
    except av.error.FFmpegError as error:
        raise UndecodableMedia(error.strerror or str(error)) from error


def decode(file: Opened, *streams: VideoStream | AudioStream) -> Iterator[VideoFrame | AudioFrame]:
    """The frames of these streams, in the order of the file. Damaged ones are left out."""
    with decoding():
        for packet in file.container.demux(*streams):
            if packet.size == 0 and packet.pts is not None:
                continue  # "the same again", which a decoder would take for the end
            try:
                frames = packet.decode()
            except av.error.MemoryError:
                raise
            except av.error.FFmpegError:
                continue
            yield from t.cast("list[VideoFrame | AudioFrame]", frames)


def seconds_of(frame: VideoFrame | AudioFrame) -> float | None:
    """The time of a frame on the clock of its file."""
    if frame.pts is None or frame.time_base is None:
        return None
    return float(frame.pts * frame.time_base)


def frame_rate(stream: VideoStream) -> Fraction:
    """Frames a second, on average."""
    rate = stream.average_rate or stream.guessed_rate
    if not rate or rate <= 0:
        return Fraction(25)
    return rate


def _choose_streams(container: InputContainer) -> Opened:
    """Choose the largest video and the default sound of those that may be decoded.

    :raises UnsupportedCodec: There is video or sound, and no decoder for it may be used.
    :raises UndecodableMedia: There is neither.
    """
    shown = [stream for stream in container.streams.video if not stream.disposition & _NO_VIDEO]
    heard = container.streams.audio
    videos = [stream for stream in shown if _codec(stream) in VIDEO_CODECS]
    audios = [stream for stream in heard if _codec(stream) in AUDIO_CODECS]
    if not videos and (shown or (heard and not audios)):
        raise UnsupportedCodec("no decoder may be used for its streams")
    if not videos and not audios:
        raise UndecodableMedia("no video and no sound in it")

    video = max(videos, key=_pixels, default=None)
    audio = max(audios, key=_is_default, default=None)
    _set_threads(video)
    _set_threads(audio)
    return Opened(container, video, audio)


def _set_threads(stream: VideoStream | AudioStream | None) -> None:
    """Give a decoder a fixed number of threads: its own choice grows with the cores of the host."""
    if stream is not None:
        stream.codec_context.thread_count = THREADS
        stream.codec_context.thread_type = "AUTO"


def _pixels(stream: VideoStream) -> int:
    return stream.width * stream.height


def _is_default(stream: AudioStream) -> bool:
    return bool(stream.disposition & Disposition.default)


def _codec(stream: VideoStream | AudioStream) -> str:
    """The name of the codec, or nothing where there is no decoder."""
    context = t.cast("t.Any", stream.codec_context)
    if context is None:
        return ""
    return context.codec.canonical_name


def _check(file: Opened, limits: VideoLimits) -> None:
    """Refuse what would take too long to decode.

    :raises LimitExceeded: It is too long, too large, or has too many frames.
    """
    if file.duration is not None and file.duration > limits.seconds:
        raise LimitExceeded(f"longer than {limits.seconds:g} seconds")
    if file.video is None:
        return

    if _pixels(file.video) > limits.pixels:
        raise LimitExceeded(f"frames of more than {limits.pixels} pixels")
    # Two frames that follow each other closely are no dense video.
    is_dense = frame_rate(file.video) > limits.fps
    if is_dense and file.duration is not None and file.duration >= 1:
        raise LimitExceeded(f"more than {limits.fps:g} frames a second")
    # What a frame says of itself may be more than what the file says of all.
    file.video.codec_context.options = {"max_pixels": str(limits.pixels)}
