"""Variants are as large as their preset says, and never larger than their source."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_dualmedia.variants.presets import Preset
from flask_dualmedia.variants.recipes import Focus
from flask_dualmedia.variants.sizes import plan, real_widths

SIDES = st.integers(1, 60_000)


@pytest.mark.parametrize(
    ("preset", "source", "size"),
    [
        (Preset("a", 320), (4000, 3000), (320, 240)),
        (Preset("a", None, 300), (4000, 3000), (400, 300)),
        (Preset("a", 320, 320), (3000, 4000), (240, 320)),
        (Preset("a", 320), (200, 100), (200, 100)),
        (Preset("a", 320), (320, 1), (320, 1)),
        (Preset("a", 320), (30_000, 1), (320, 1)),
        (Preset("a", 320), (1, 30_000), (1, 16383)),
        (Preset("a", 320, formats=("avif",)), (1, 30_000), (1, 16384)),
        (Preset("a", 320, formats=("jpeg",)), (1, 30_000), (1, 30_000)),
        (Preset("a", 320, 320, "cover"), (4000, 3000), (320, 320)),
        (Preset("a", 320, 160, "cover"), (4000, 3000), (320, 160)),
        (Preset("a", 320, 160, "cover"), (200, 200), (200, 100)),
        (Preset("a", 320, 160, "cover"), (1000, 100), (200, 100)),
        (Preset("a", 320, 160, "cover"), (1, 1), (1, 1)),
    ],
)
def test_the_real_size(preset: Preset, source: tuple[int, int], size: tuple[int, int]) -> None:
    planned = plan(preset, *source)
    assert (planned.width, planned.height) == size


@settings(max_examples=60, deadline=None)
@given(
    width=SIDES,
    height=SIDES,
    preset=st.builds(
        Preset,
        st.just("a"),
        st.integers(1, 16383),
        st.integers(1, 16383),
        st.sampled_from(["inside", "cover"]),
    ),
    focus=st.builds(Focus, st.floats(0, 1), st.floats(0, 1)),
)
def test_sizes_and_crops_are_possible(
    width: int, height: int, preset: Preset, focus: Focus
) -> None:
    planned = plan(preset, width, height, focus)
    assert 1 <= planned.width <= min(width, preset.width or width)
    assert 1 <= planned.height <= min(height, preset.height or height)
    assert 0 <= planned.left < planned.right <= 1.000001
    assert 0 <= planned.top < planned.bottom <= 1.000001

    # Not stretched: the shorter side follows from the longer one, but for the rounding of a pixel.
    part_width = (planned.right - planned.left) * width
    part_height = (planned.bottom - planned.top) * height
    sides = sorted([(part_width, planned.width), (part_height, planned.height)])
    (short_part, short), (long_part, long) = sides
    assert abs(short_part * long / long_part - short) <= 1.000001
    if preset.fit == "inside":
        assert (part_width, part_height) == (width, height)


@pytest.mark.parametrize(
    ("focus", "edges"),
    [
        (Focus(), (0.25, 0.75)),
        (Focus(0, 0.5), (0, 0.5)),
        (Focus(1, 0.5), (0.5, 1)),
        (Focus(0.1, 0.9), (0, 0.5)),
        (Focus(0.6, 0.5), (0.35, 0.85)),
    ],
)
def test_a_crop_is_as_near_to_the_focus_as_can_be(focus: Focus, edges: tuple[float, float]) -> None:
    planned = plan(Preset("a", 100, 100, "cover"), 2000, 1000, focus)
    assert (planned.left, planned.right) == pytest.approx(edges)
    assert (planned.top, planned.bottom) == (0, 1)


def test_a_srcset_names_each_real_width_once() -> None:
    presets = [Preset("large", 1280), Preset("thumb", 320), Preset("card", 640)]
    named = [(preset.name, width) for preset, width in real_widths(presets, 4000, 3000)]
    assert named == [("thumb", 320), ("card", 640), ("large", 1280)]

    named = [(preset.name, width) for preset, width in real_widths(presets, 500, 400)]
    assert named == [("thumb", 320), ("large", 500)]

    named = [(preset.name, width) for preset, width in real_widths(presets, 100, 80)]
    assert named == [("large", 100)]
