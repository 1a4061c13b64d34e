"""The playlists of a stream (RFC 8216), made from what is noted about its renditions.

All URIs are relative: whatever a player needs to read the master playlist, a signature in its path
above all, it has for everything else.
"""

from __future__ import annotations

import math
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

MIME_TYPE = "application/vnd.apple.mpegurl"

_VERSION = 7  # fragmented MP4, with a map of its initialisation

_CAPTIONS = "captions"


@dataclass(frozen=True)
class Captions:
    """A WebVTT file that is shown with a video."""

    name: str
    """The first part of its URIs, without an extension."""
    language: str
    """A language tag, RFC 5646."""
    label: str
    is_default: bool = False


def master_playlist(
    renditions: Sequence[Mapping[str, t.Any]], captions: Iterable[Captions] = ()
) -> str:
    """The playlist that lists the others.

    :param renditions: As :func:`.streams.hls` returns them.
    """
    lines = ["#EXTM3U", f"#EXT-X-VERSION:{_VERSION}", "#EXT-X-INDEPENDENT-SEGMENTS"]
    lines += [_captions_line(track) for track in captions]
    group = ""
    if any(line.startswith("#EXT-X-MEDIA:") for line in lines):
        group = f',SUBTITLES="{_CAPTIONS}"'

    for rendition in renditions:
        peak, average = bandwidths(rendition)
        lines.append(
            f"#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average}"
            f',CODECS="{rendition["codecs"]}"'
            f",RESOLUTION={rendition['width']}x{rendition['height']}"
            f",FRAME-RATE={rendition['fps']:.3f}{group}"
        )
        lines.append(f"{rendition['name']}.m3u8")
    return _text(lines)


def media_playlist(rendition: Mapping[str, t.Any]) -> str:
    """The playlist of one rendition: ranges of one file, ``<name>.mp4``."""
    uri = f"{rendition['name']}.mp4"
    segments = rendition["segments"]
    lines = [
        *_media_header(segment["duration"] for segment in segments),
        "#EXT-X-INDEPENDENT-SEGMENTS",
        f'#EXT-X-MAP:URI="{uri}",BYTERANGE="{rendition["initialisation_size"]}@0"',
    ]
    for segment in segments:
        lines.append(f"#EXTINF:{segment['duration']:.6f},")
        lines.append(f"#EXT-X-BYTERANGE:{segment['size']}@{segment['start']}")
        lines.append(uri)
    return _text([*lines, "#EXT-X-ENDLIST"])


def captions_playlist(track: Captions, duration: float) -> str:
    """The playlist of captions: one file, ``<name>.vtt``, for the whole video."""
    return _text(
        [
            *_media_header([duration]),
            f"#EXTINF:{duration:.6f},",
            f"{track.name}.vtt",
            "#EXT-X-ENDLIST",
        ]
    )


def bandwidths(rendition: Mapping[str, t.Any]) -> tuple[int, int]:
    """Bits a second of the segment that has most of them, and of all."""
    segments = rendition["segments"]
    peak = max(_bandwidth([segment]) for segment in segments)
    return peak, _bandwidth(segments)


def _bandwidth(segments: Sequence[Mapping[str, t.Any]]) -> int:
    size = sum(segment["size"] for segment in segments)
    duration = sum(segment["duration"] for segment in segments)
    return math.ceil(8 * size / max(duration, 0.001))


def _media_header(durations: Iterable[float]) -> list[str]:
    # A duration is rounded to a whole second before it is compared, and 0 is no target.
    target = max(1, *(math.floor(duration + 0.5) for duration in durations))
    return [
        "#EXTM3U",
        f"#EXT-X-VERSION:{_VERSION}",
        f"#EXT-X-TARGETDURATION:{target}",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
    ]


def _captions_line(track: Captions) -> str:
    default = "NO"
    if track.is_default:
        default = "YES"
    return (
        f'#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="{_CAPTIONS}",NAME={_quote(track.label)}'
        f",LANGUAGE={_quote(track.language)},DEFAULT={default},AUTOSELECT=YES"
        f",URI={_quote(f'{track.name}.m3u8')}"
    )


def _quote(text: str) -> str:
    """A quoted string, which has no way to hold quotes and ends of lines (RFC 8216, 4.2)."""
    printable = "".join(character for character in text if character.isprintable())
    return '"' + printable.replace('"', "'") + '"'


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
