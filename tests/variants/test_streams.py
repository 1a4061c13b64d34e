"""Videos as they are streamed and downloaded."""

from __future__ import annotations

import io
import typing as t
from dataclasses import asdict
from itertools import pairwise

import av
import pytest
from PIL import Image, ImageChops, ImageStat

from flask_dualmedia.variants import jail
from flask_dualmedia.variants.audio import waveform
from flask_dualmedia.variants.failures import (
    LimitExceeded,
    ProcessingError,
    UndecodableMedia,
)
from flask_dualmedia.variants.progressive import progressive
from flask_dualmedia.variants.renditions import plan_renditions
from flask_dualmedia.variants.streams import hls, short, verify
from flask_dualmedia.variants.video import probe

from . import clips
from .calls import Bytes, Outputs, call
from .test_video import assert_near

Make = t.Callable[[], bytes]
Facts = dict[str, t.Any]


def encode(content: bytes, *sides: int, **arguments: t.Any) -> tuple[list[Facts], Outputs]:
    """The renditions of a video, and their bytes."""
    facts, _ = call(probe, content)
    planned = plan_renditions(facts["width"], facts["height"], sides)
    renditions = [asdict(rendition) for rendition in planned]
    result, outputs = call(hls, content, renditions=renditions, **arguments)
    return result["renditions"], outputs


def frames_of(content: bytes) -> list[t.Any]:
    with av.open(io.BytesIO(content), "r") as container:
        return list(container.decode(video=0))


def image_of(frame: t.Any) -> Image.Image:
    return frame.to_image(src_colorspace="itu709")


@pytest.mark.parametrize(
    ("size", "sides", "expected"),
    [
        ((1920, 1080), (360, 720), [("360", 640, 360), ("720", 1280, 720)]),
        ((1080, 1920), (360, 720), [("360", 360, 640), ("720", 720, 1280)]),
        ((854, 480), (720, 360), [("360", 640, 360), ("480", 854, 480)]),
        ((320, 180), (360, 720), [("180", 320, 180)]),
        ((321, 241), (360,), [("241", 320, 240)]),
        ((2048, 858), (360,), [("360", 860, 360)]),
        ((1, 1), (360,), [("1", 2, 2)]),
    ],
)
def test_renditions_are_even_and_never_larger_than_the_video(
    size: tuple[int, int], sides: tuple[int, ...], expected: list[tuple[str, int, int]]
) -> None:
    planned = plan_renditions(*size, sides)
    assert [(each.name, each.width, each.height) for each in planned] == expected


@pytest.fixture(scope="module")
def streamed() -> tuple[list[Facts], Outputs]:
    return encode(clips.long_one(), 90, 180)


def test_segments_cover_the_whole_file_and_the_whole_time(
    streamed: tuple[list[Facts], Outputs],
) -> None:
    renditions, outputs = streamed
    assert [each["name"] for each in renditions] == ["90", "180"]
    for facts in renditions:
        position = facts["initialisation_size"]
        for segment in facts["segments"]:
            assert segment["start"] == position
            position += segment["size"]
        assert position == facts["size"] == len(outputs.of(facts["name"]))
        durations = [segment["duration"] for segment in facts["segments"]]
        assert durations == pytest.approx([4.0, 4.0, 4.0], abs=0.05)
        assert sum(durations) == pytest.approx(facts["duration"])
        assert facts["duration"] == pytest.approx(12.0, abs=0.05)


def test_each_segment_plays_alone_and_begins_with_a_keyframe_at_the_same_time_in_all_renditions(
    streamed: tuple[list[Facts], Outputs],
) -> None:
    renditions, outputs = streamed
    begins: list[list[float]] = []
    for facts in renditions:
        content = outputs.of(facts["name"])
        times = []
        for segment in facts["segments"]:
            stop = segment["start"] + segment["size"]
            alone = content[: facts["initialisation_size"]] + content[segment["start"] : stop]
            first = frames_of(alone)[0]
            assert first.key_frame
            times.append(first.time)
        begins.append(times)
    assert begins[0] == pytest.approx(begins[1], abs=0.001)
    steps = [later - earlier for earlier, later in pairwise(begins[0])]
    assert steps == pytest.approx([4.0, 4.0], abs=0.001)


def test_a_rendition_has_the_streams_that_every_browser_plays(
    streamed: tuple[list[Facts], Outputs],
) -> None:
    renditions, outputs = streamed
    for facts in renditions:
        assert facts["codecs"].startswith("avc1.64")
        assert facts["codecs"].endswith(",mp4a.40.2")
        with av.open(io.BytesIO(outputs.of(facts["name"])), "r") as container:
            (video,), (audio,) = container.streams.video, container.streams.audio
            assert (video.width, video.height) == (facts["width"], facts["height"])
            assert video.pix_fmt == "yuv420p"
            assert (audio.channels, audio.sample_rate) == (2, 48_000)
            frame = next(container.decode(video))
        assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (1, 1, 1)
        assert frame.color_range == 1


def test_what_was_stored_is_verified(streamed: tuple[list[Facts], Outputs]) -> None:
    renditions, outputs = streamed
    for facts in renditions:
        call(verify, outputs.of(facts["name"]), rendition=facts)


@pytest.mark.parametrize("damage", ["other", "cut", "shifted", "longer"])
def test_a_rendition_that_is_not_what_was_written_is_no_success(
    streamed: tuple[list[Facts], Outputs], damage: str
) -> None:
    (small, facts), outputs = streamed
    content = outputs.of("180")
    if damage == "other":
        content = outputs.of(small["name"])
    elif damage == "cut":
        content = content[: len(content) // 2].ljust(len(content), b"\0")
    elif damage == "shifted":
        segments = [segment | {"start": segment["start"] + 900} for segment in facts["segments"]]
        facts = facts | {"segments": segments}
    else:
        facts = facts | {"duration": 13.0}
    with pytest.raises(ProcessingError):
        call(verify, content, rendition=facts)


def test_a_progressive_file_begins_with_its_index_and_holds_the_same_frames(
    streamed: tuple[list[Facts], Outputs],
) -> None:
    _, outputs = streamed
    rendition = outputs.of("180")
    result, written = call(progressive, rendition)
    content = written.of("video")
    assert result == {"size": len(content)}
    assert content.index(b"moov") < content.index(b"mdat")
    assert b"moof" not in content

    frames, expected = frames_of(content), frames_of(rendition)
    assert len(frames) == len(expected) == 144
    assert [bytes(frame.planes[0]) for frame in frames[::40]] == [
        bytes(frame.planes[0]) for frame in expected[::40]
    ]
    assert frames[0].time == 0
    facts, _ = call(probe, content)
    assert facts["duration"] == pytest.approx(12.0, abs=0.05)
    assert facts["has_audio"]


@pytest.mark.parametrize(
    ("make", "size", "has_audio"),
    [
        (clips.silent, (320, 180), False),
        (clips.odd, (320, 240), True),
        (clips.one_frame, (320, 180), False),
        (clips.surround, (320, 180), True),
        (clips.webm, (320, 180), True),
        (clips.avi, (320, 180), True),
        (clips.transport_stream, (320, 180), True),
        (clips.without_duration, (320, 180), True),
        (lambda: clips.rotated(90), (180, 320), True),
    ],
)
def test_a_short_video_becomes_one_file_that_plays_everywhere(
    make: Make, size: tuple[int, int], has_audio: bool
) -> None:
    source, _ = call(probe, make())
    (rendition,) = plan_renditions(source["width"], source["height"], [720])
    result, written = call(short, make(), rendition=asdict(rendition))
    content = written.of("video")
    assert (result["width"], result["height"], result["size"]) == (*size, len(content))
    assert content.index(b"moov") < content.index(b"mdat")

    facts, _ = call(probe, content)
    assert (facts["width"], facts["height"], facts["rotation"]) == (*size, 0)
    assert (facts["has_audio"], facts["hdr"]) == (has_audio, False)
    assert facts["duration"] == pytest.approx(source["duration"], rel=0.05, abs=0.05)
    with av.open(io.BytesIO(content)) as container:
        assert container.streams.video[0].pix_fmt == "yuv420p"
        assert [stream.channels for stream in container.streams.audio] == [2] * has_audio


def test_a_rotated_video_is_encoded_upright_in_its_colours() -> None:
    rendition = asdict(plan_renditions(180, 320, [720])[0])
    _, written = call(short, clips.rotated(90), rendition=rendition)
    image = image_of(frames_of(written.of("video"))[3])
    assert image.size == (180, 320)
    assert_near(image.getpixel((40, 40)), clips.COLOURS["left"], 16)
    assert_near(image.getpixel((40, 300)), clips.COLOURS["right"], 16)


@pytest.mark.long
def test_high_dynamic_range_is_mapped() -> None:
    rendition = asdict(plan_renditions(320, 180, [720])[0])
    _, written = call(short, clips.hdr(), rendition=rendition)
    assert not call(probe, written.of("video"))[0]["hdr"]
    image = image_of(frames_of(written.of("video"))[3])
    for name, place in (("left", 80), ("right", 240)):
        assert_near(image.getpixel((place, 150)), clips.COLOURS[name], 30)


def test_the_fields_of_an_interlaced_video_are_put_together() -> None:
    rendition = asdict(plan_renditions(320, 180, [180])[0])
    _, written = call(short, clips.interlaced(), rendition=rendition)
    before, after = (frames_of(clips.interlaced())[6], frames_of(written.of("video"))[6])
    assert comb(before) > 30
    assert comb(after) < 10


def comb(frame: t.Any) -> float:
    """How much lines differ from their neighbours, where the picture has none."""
    image = frame.to_image().convert("L").crop((0, 60, 320, 120))
    odd = image.resize((320, 60)).transform((320, 59), Image.Transform.AFFINE, (1, 0, 0, 0, 1, 1))
    return ImageStat.Stat(ImageChops.difference(image.crop((0, 0, 320, 59)), odd)).mean[0]


def test_a_video_of_many_frames_a_second_keeps_sixty_at_most() -> None:
    dense = clips.make_clip(fps=100, seconds=1, layout=None, size=(64, 36))
    (facts,), outputs = encode(dense, 36)
    assert facts["fps"] == 50
    assert len(frames_of(outputs.of("36"))) == 50


def test_pictures_that_are_shown_for_long_are_in_every_segment() -> None:
    (facts,), outputs = encode(clips.still(), 180)
    assert [segment["duration"] for segment in facts["segments"]] == pytest.approx(
        [4, 4, 1], abs=0.05
    )
    times = [frame.time for frame in frames_of(outputs.of("180"))]
    steps = [later - earlier for earlier, later in pairwise(times)]
    assert max(steps) == pytest.approx(1.0, abs=0.01)
    assert times[-1] - times[0] == pytest.approx(9.0, abs=0.15)


def test_frames_at_uneven_times_stay_at_their_times() -> None:
    numbers = [number for number in range(108) if number % 7 not in (2, 3) or number > 80]
    content = clips.make_clip(seconds=9, times=numbers)
    _, outputs = encode(content, 180)
    times = [frame.time for frame in frames_of(outputs.of("180"))]
    expected = [number / 12 for number in numbers]
    assert [time - times[0] for time in times] == pytest.approx(expected, abs=0.01)


def test_pictures_that_begin_after_the_sound_are_in_segments_of_the_same_length() -> None:
    content = clips.make_clip(seconds=9, times=range(1, 108))
    (facts,), _ = encode(content, 180)
    durations = [segment["duration"] for segment in facts["segments"]]
    assert durations == pytest.approx([4, 4, 1], abs=0.1)


def test_sound_and_pictures_stay_together(streamed: tuple[list[Facts], Outputs]) -> None:
    _, outputs = streamed
    with av.open(io.BytesIO(outputs.of("180")), "r") as container:
        starts = [
            float((stream.start_time or 0) * (stream.time_base or 1))
            for stream in container.streams
        ]
    # A decoder gives 1024 samples before the first one.
    assert starts[0] - starts[1] == pytest.approx(1024 / 48_000, abs=0.005)


def test_sound_is_encoded_as_loud_as_it_was_and_from_the_same_moment_on() -> None:
    _, outputs = encode(clips.plain(), 180)
    peaks = call(waveform, outputs.of("180"), peaks=20)[0]["peaks"]
    expected = call(waveform, clips.plain(), peaks=20)[0]["peaks"]
    assert peaks == pytest.approx(expected, abs=5)


def test_a_video_that_breaks_off_is_no_success() -> None:
    content = clips.long_one()
    with pytest.raises(UndecodableMedia):
        encode(content[: len(content) // 2], 180)


def test_sound_alone_is_not_streamed_as_video() -> None:
    rendition = {"name": "180", "width": 320, "height": 180}
    with pytest.raises(UndecodableMedia):
        call(hls, clips.sound_only(), renditions=[rendition])


def test_a_video_that_is_longer_than_it_says_is_stopped() -> None:
    with pytest.raises(LimitExceeded):
        encode(clips.without_duration(), 180, limits={"seconds": 1.5})


def test_renditions_are_the_same_from_the_jail_and_progress_is_seen(
    streamed: tuple[list[Facts], Outputs],
) -> None:
    expected, expected_outputs = streamed
    source, outputs, reported = Bytes(clips.long_one()), Outputs(), []
    arguments = {"renditions": [asdict(each) for each in plan_renditions(320, 180, (90, 180))]}
    sinks = {"90": outputs["90"], "180": outputs["180"]}
    result = jail.run("hls", arguments, source, sinks, on_progress=reported.append)
    assert result["renditions"] == expected
    assert outputs.of("180") == expected_outputs.of("180")
    assert reported
    assert sum(stop - start for start, stop in source.ranges) <= 1.1 * source.size
