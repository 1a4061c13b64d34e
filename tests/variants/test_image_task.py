"""A process of its own renders the same as this one, from what can be sent to it."""

from __future__ import annotations

import io
import json
import typing as t

import pytest

from flask_dualmedia.variants.failures import LimitExceeded
from flask_dualmedia.variants.image_task import render_task
from flask_dualmedia.variants.images import MAX_ANIMATION_PIXELS, arguments_for, render
from flask_dualmedia.variants.presets import Preset
from flask_dualmedia.variants.recipes import Recipe, focused, recipes_of

from .pictures import HEIGHT, WIDTH, turned

PRESETS = [
    Preset("card", 100, 100, "cover", ("webp", "jpeg"), (("webp", 50),), "#000000"),
    Preset("wide", 300, formats=("png",)),
]


class Slow(io.RawIOBase):
    """A file that gives 100 bytes at a time, whatever it is asked for."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._content.seek(offset, whence)

    def readinto(self, buffer: t.Any) -> int:
        return self._content.readinto(buffer[:100])


def recipes() -> list[Recipe]:
    return [focused(recipe, 0.2, 0.9) for recipe in recipes_of(PRESETS).values()]


def arguments(max_pixels: int) -> dict[str, object]:
    made = arguments_for(
        recipes(), max_pixels=max_pixels, max_animation_pixels=MAX_ANIMATION_PIXELS
    )
    return json.loads(json.dumps(made))


def test_a_task_makes_the_same_variants() -> None:
    content = turned(6)
    expected = render(io.BytesIO(content), recipes())
    sinks = {recipe.path: io.BytesIO() for recipe in recipes()}
    result = render_task(arguments(10**6), Slow(content), sinks, lambda _: None)

    assert json.loads(json.dumps(result)) == result
    assert (result["width"], result["height"]) == (WIDTH, HEIGHT)
    assert (result["placeholder"], result["color"]) == (expected.placeholder, expected.color)
    for image, described in zip(expected.images, result["images"], strict=True):
        assert sinks[described["path"]].getvalue() == image.content
        assert (described["width"], described["height"]) == (image.width, image.height)


def test_a_task_has_the_limits_of_the_host() -> None:
    with pytest.raises(LimitExceeded):
        render_task(arguments(1_000), Slow(turned(1)), {}, lambda _: None)
