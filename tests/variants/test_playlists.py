"""Playlists as players read them (RFC 8216)."""

from __future__ import annotations

import re
import typing as t
from itertools import pairwise

import pytest

from flask_dualmedia.variants.playlists import (
    Captions,
    captions_playlist,
    master_playlist,
    media_playlist,
)

RENDITION: dict[str, t.Any] = {
    "name": "360",
    "width": 640,
    "height": 360,
    "fps": 29.97,
    "codecs": "avc1.64001e,mp4a.40.2",
    "size": 1_801_000,
    "duration": 10.5,
    "initialisation_size": 1000,
    "segments": [
        {"start": 1000, "size": 500_000, "duration": 4.0},
        {"start": 501_000, "size": 1_000_000, "duration": 4.04},
        {"start": 1_501_000, "size": 300_000, "duration": 2.46},
    ],
}

LARGER = RENDITION | {"name": "720", "width": 1280, "height": 720}


def test_a_master_playlist_names_each_rendition_with_what_it_takes() -> None:
    assert master_playlist([RENDITION, LARGER]).splitlines() == [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        "#EXT-X-STREAM-INF:BANDWIDTH=1980199,AVERAGE-BANDWIDTH=1371429"
        ',CODECS="avc1.64001e,mp4a.40.2",RESOLUTION=640x360,FRAME-RATE=29.970',
        "360.m3u8",
        "#EXT-X-STREAM-INF:BANDWIDTH=1980199,AVERAGE-BANDWIDTH=1371429"
        ',CODECS="avc1.64001e,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=29.970',
        "720.m3u8",
    ]


def test_a_media_playlist_names_ranges_that_cover_the_file() -> None:
    text = media_playlist(RENDITION)
    assert text.splitlines()[:8] == [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        "#EXT-X-TARGETDURATION:4",
        "#EXT-X-MEDIA-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:VOD",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        '#EXT-X-MAP:URI="360.mp4",BYTERANGE="1000@0"',
        "#EXTINF:4.000000,",
    ]
    assert text.endswith("360.mp4\n#EXT-X-ENDLIST\n")
    ranges = [(int(start), int(size)) for size, start in re.findall(r"BYTERANGE:(\d+)@(\d+)", text)]
    assert ranges[0][0] == 1000
    for (start, size), (following, _) in pairwise(ranges):
        assert start + size == following
    assert sum(ranges[-1]) == RENDITION["size"]
    durations = [float(duration) for duration in re.findall(r"#EXTINF:([\d.]+),", text)]
    assert sum(durations) == pytest.approx(RENDITION["duration"])


@pytest.mark.parametrize(
    ("durations", "target"), [([0.04], 1), ([4.0, 4.4], 4), ([4.0, 4.5], 5), ([10.2, 4.0], 10)]
)
def test_no_segment_is_longer_than_the_target_which_is_never_nothing(
    durations: list[float], target: int
) -> None:
    segments = [{"start": 0, "size": 10, "duration": duration} for duration in durations]
    text = media_playlist(RENDITION | {"segments": segments})
    assert f"#EXT-X-TARGETDURATION:{target}\n" in text


def test_captions_are_a_choice_of_the_player() -> None:
    english = Captions("captions-en", "en", 'English "CC"', is_default=True)
    german = Captions("captions-de", "de", "Deutsch")
    lines = master_playlist([RENDITION], [english, german]).splitlines()
    assert lines[3:5] == [
        '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="captions",NAME="English \'CC\'",LANGUAGE="en"'
        ',DEFAULT=YES,AUTOSELECT=YES,URI="captions-en.m3u8"',
        '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="captions",NAME="Deutsch",LANGUAGE="de"'
        ',DEFAULT=NO,AUTOSELECT=YES,URI="captions-de.m3u8"',
    ]
    assert lines[5].endswith(',SUBTITLES="captions"')


def test_captions_are_one_file_for_the_whole_video() -> None:
    text = captions_playlist(Captions("captions-en", "en", "English"), 30.2)
    assert text.splitlines()[2] == "#EXT-X-TARGETDURATION:30"
    assert text.endswith("#EXTINF:30.200000,\ncaptions-en.vtt\n#EXT-X-ENDLIST\n")


def test_a_label_cannot_end_its_line() -> None:
    track = Captions("captions-en", "en", 'a"\n#EXT-X-ENDLIST\r\n')
    text = master_playlist([RENDITION], [track])
    assert "\n#EXT-X-ENDLIST" not in text
    assert 'NAME="a\'#EXT-X-ENDLIST"' in text


def test_all_uris_are_relative() -> None:
    text = master_playlist([RENDITION], [Captions("captions-en", "en", "English")])
    text += media_playlist(RENDITION)
    assert "/" not in text
