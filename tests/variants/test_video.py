"""Facts about videos and sound, their posters and waveforms."""

from __future__ import annotations

import io
import typing as t

import av
import pytest
from PIL import Image, ImageStat

from flask_dualmedia.variants import jail
from flask_dualmedia.variants.audio import waveform
from flask_dualmedia.variants.failures import LimitExceeded, UndecodableMedia, UnsupportedCodec
from flask_dualmedia.variants.video import poster, probe

from . import clips
from .calls import Bytes, Outputs, call

Make = t.Callable[[], bytes]


def facts_of(content: bytes, **arguments: t.Any) -> dict[str, t.Any]:
    return call(probe, content, **arguments)[0]


def poster_of(content: bytes, **arguments: t.Any) -> Image.Image:
    result, outputs = call(poster, content, **arguments)
    image = Image.open(io.BytesIO(outputs.of("poster")))
    assert (result["width"], result["height"]) == image.size
    assert result["format"] == (image.format or "").lower()
    return image.convert("RGB")


def assert_upright(image: Image.Image) -> None:
    """The halves are left and right, and the bar is above."""
    width, height = image.size
    for name, place in (("left", 0.1), ("right", 0.9)):
        pixel = image.getpixel((int(place * width), int(0.8 * height)))
        assert_near(pixel, clips.COLOURS[name])


def assert_near(pixel: t.Any, colour: tuple[int, int, int], tolerance: int = 12) -> None:
    assert max(abs(a - b) for a, b in zip(pixel, colour, strict=True)) <= tolerance, pixel


@pytest.mark.parametrize(
    ("make", "size", "codecs", "duration"),
    [
        (clips.plain, (320, 180), ("h264", "aac"), 2.0),
        (clips.silent, (320, 180), ("h264", None), 2.0),
        (clips.sound_only, (None, None), (None, "aac"), 2.0),
        (clips.odd, (321, 241), ("h264", "aac"), 2.0),
        (clips.one_frame, (320, 180), ("h264", None), 0.083),
        (clips.surround, (320, 180), ("h264", "aac"), 2.0),
        (clips.webm, (320, 180), ("vp8", "opus"), 1.0),
        (clips.without_duration, (320, 180), ("h264", "aac"), 2.0),
    ],
)
def test_a_probe_tells_size_duration_and_codecs(
    make: Make, size: tuple[int | None, int | None], codecs: tuple[str | None, ...], duration: float
) -> None:
    facts = facts_of(make())
    assert (facts["width"], facts["height"]) == size
    assert (facts["video_codec"], facts["audio_codec"]) == codecs
    assert (facts["has_video"], facts["has_audio"]) == tuple(codec is not None for codec in codecs)
    assert facts["duration"] == pytest.approx(duration, abs=0.05)


def test_the_cover_of_a_song_is_no_video() -> None:
    with av.open(io.BytesIO(clips.with_cover())) as container:
        assert len(container.streams.video) == 1
    assert not facts_of(clips.with_cover())["has_video"]


def test_a_probe_tells_high_dynamic_range() -> None:
    assert facts_of(clips.hdr())["hdr"]
    assert not facts_of(clips.plain())["hdr"]


@pytest.mark.parametrize(
    ("angle", "size"), [(90, (180, 320)), (180, (320, 180)), (270, (180, 320))]
)
def test_a_rotated_video_is_measured_and_shown_upright(angle: int, size: tuple[int, int]) -> None:
    content = clips.rotated(angle)
    facts = facts_of(content)
    assert (facts["width"], facts["height"], facts["rotation"]) == (*size, angle)

    image = poster_of(content)
    assert image.size == size
    plain = poster_of(clips.plain())
    turned_back = image.rotate(angle, expand=True)
    assert_upright(turned_back)
    assert turned_back.size == plain.size


def test_little_is_read_for_a_probe_of_a_file_with_its_index_at_the_end() -> None:
    padding = bytes(4 * 1024**2)
    content = clips.plain()
    index = content.rindex(b"moov") - 4
    box = (8 + len(padding)).to_bytes(4, "big") + b"free" + padding
    source = Bytes(content[:index] + box + content[index:])
    assert jail.run("probe", {}, source)["duration"] == 2.0
    assert sum(stop - start for start, stop in source.ranges) < 1024**2


def test_a_poster_shows_the_colours_of_the_video() -> None:
    image = poster_of(clips.plain(), format="jpeg")
    assert image.size == (320, 180)
    assert_upright(image)


def test_a_poster_is_no_wider_than_asked_for_and_never_enlarged() -> None:
    assert poster_of(clips.plain(), width=160).size == (160, 90)
    assert poster_of(clips.plain(), width=4000).size == (320, 180)


def test_a_video_that_begins_black_has_a_poster_that_shows_something() -> None:
    image = poster_of(clips.black_start())
    assert ImageStat.Stat(image.convert("L")).stddev[0] > 18


def test_a_video_that_stays_black_has_a_poster_all_the_same() -> None:
    black = clips.make_clip(drawing=lambda _second, *size: Image.new("RGB", size), layout=None)
    assert poster_of(black).size == (320, 180)


@pytest.mark.long
def test_a_poster_of_high_dynamic_range_has_the_colours_of_a_usual_screen() -> None:
    image = poster_of(clips.hdr())
    for name, place in (("left", 80), ("right", 240)):
        assert_near(image.getpixel((place, 150)), clips.COLOURS[name], tolerance=30)


@pytest.mark.parametrize(
    "limits", [{"pixels": 50_000}, {"seconds": 1.5}, {"fps": 10}], ids=["pixels", "length", "rate"]
)
def test_a_video_beyond_the_limits_is_refused(limits: dict[str, float]) -> None:
    for task in (probe, poster):
        with pytest.raises(LimitExceeded):
            call(task, clips.plain(), limits=limits)


def test_a_video_without_a_length_is_measured_before_it_is_accepted() -> None:
    with pytest.raises(LimitExceeded):
        call(probe, clips.without_duration(), limits={"seconds": 1.5})


def test_a_codec_that_is_not_decoded_is_named_as_the_reason() -> None:
    content = clips.plain().replace(b"avc1", b"apcx").replace(b"avcC", b"xxxx")
    with pytest.raises(UnsupportedCodec):
        call(probe, content)


def test_sound_has_no_poster_and_a_silent_video_no_waveform() -> None:
    with pytest.raises(UndecodableMedia):
        call(poster, clips.sound_only())
    with pytest.raises(UndecodableMedia):
        call(waveform, clips.silent())


@pytest.mark.parametrize("make", [clips.sound_only, clips.surround, clips.webm, clips.with_cover])
def test_a_waveform_grows_with_the_sound(make: Make) -> None:
    result, _ = call(waveform, make(), peaks=40)
    peaks = result["peaks"]
    assert len(peaks) == 40
    assert result["duration"] == pytest.approx(facts_of(make())["duration"], abs=0.1)
    assert peaks[2] < 15
    assert peaks[10] < peaks[20] < peaks[30] < peaks[38] <= 100


def test_a_waveform_has_no_more_peaks_than_the_sound_has_moments() -> None:
    result, _ = call(waveform, clips.sound_only())
    assert 90 <= len(result["peaks"]) <= 110


def test_facts_poster_and_waveform_are_the_same_from_the_jail() -> None:
    source = Bytes(clips.plain())
    assert jail.run("probe", {}, source) == facts_of(clips.plain())
    outputs = Outputs(poster=io.BytesIO())
    result, expected = call(poster, clips.plain(), width=160)
    assert jail.run("poster", {"width": 160}, source, outputs) == result
    assert outputs == {"poster": outputs["poster"]}
    assert outputs.of("poster") == expected.of("poster")
    assert jail.run("waveform", {"peaks": 10}, source) == call(waveform, clips.plain(), peaks=10)[0]
