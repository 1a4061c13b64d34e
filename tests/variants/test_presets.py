"""What a host configures of its presets, and how it hears of mistakes."""

from __future__ import annotations

import typing as t

import pytest

from flask_dualmedia import ConfigurationError
from flask_dualmedia.models import KINDS
from flask_dualmedia.variants.preset_settings import read_presets
from flask_dualmedia.variants.presets import Preset, default_presets

KIND = "product-images"


def card(**options: t.Any) -> Preset:
    return read_presets({KIND: {"card": options}})[KIND]["card"]


def test_every_kind_has_presets_without_configuration() -> None:
    presets = read_presets({})
    assert presets == default_presets()
    assert presets.keys() == KINDS.keys()
    for kind in KINDS:
        assert {"thumb", "card"} < presets[kind].keys()
        for name, preset in presets[kind].items():
            assert preset.name == name
            assert read_presets({kind: {name: {"width": preset.width}}})
    assert "poster" in presets["course-videos"]


def test_presets_of_a_host_stand_beside_the_default_ones_and_replace_them() -> None:
    presets = read_presets(
        {KIND: {"card": {"width": 500}, "hero": {"height": 900}, "thumb": None, "none": None}}
    )
    assert list(presets[KIND]) == ["card", "large", "hero"]
    assert presets[KIND]["card"] == Preset("card", 500)
    assert presets["files"] == default_presets()["files"]
    assert default_presets()[KIND]["thumb"].width == 320


def test_every_option_is_read() -> None:
    preset = card(
        width=100,
        height=50,
        fit="cover",
        formats=["avif", "png"],
        quality={"avif": 40},
        background="#AABBCC",
        animated="keep",
    )
    assert (preset.width, preset.height, preset.fit) == (100, 50, "cover")
    assert preset.formats == ("avif", "png")
    assert preset.quality_in("avif") == 40
    assert preset.quality_in("png") == 100
    assert preset.background == "#aabbcc"
    assert preset.animated == "keep"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (5, "['card'] is 5, which is not a dict"),
        ({}, "['card'] has neither a width nor a height"),
        ({"with": 5}, "['card'] has 'with', which is none of width, height, fit"),
        ({5: 5}, "['card'] has 5, which is none of"),
        ({"width": 0}, "['card']['width'] is 0, which is not a number from 1 to 16383"),
        ({"width": True}, "['card']['width'] is True"),
        ({"width": "320"}, "['card']['width'] is '320'"),
        ({"height": 16384}, "['card']['height'] is 16384"),
        ({"width": 5, "fit": "fill"}, "'fill', which is neither 'inside' nor 'cover'"),
        ({"width": 5, "fit": "cover"}, "['card'] has fit 'cover', for which it needs"),
        ({"width": 5, "fit": []}, "['fit'] is []"),
        ({"width": 5, "formats": "webp"}, "['formats'] is 'webp', which is not a list"),
        ({"width": 5, "formats": []}, "['formats'] is []"),
        ({"width": 5, "formats": ["gif"]}, "has 'gif', which is none of avif, webp, jpeg, png"),
        ({"width": 5, "formats": [[]]}, "['formats'] has []"),
        ({"width": 5, "formats": ["png", "png"]}, "['formats'] has a format twice"),
        ({"width": 5, "quality": 80}, "['quality'] is 80, which is not a dict"),
        ({"width": 5, "quality": {"webp": 101}}, "['quality']['webp'] is 101"),
        ({"width": 5, "quality": {"avif": 50}}, "['quality'] names 'avif', which is not in"),
        ({"width": 5, "background": "white"}, "'white', which is not a colour such as #ffffff"),
        ({"width": 5, "animated": "yes"}, "'yes', which is neither 'still' nor 'keep'"),
    ],
)
def test_a_mistake_is_quoted_with_its_place(options: t.Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_presets({KIND: {"card": options}})
    assert str(caught.value).startswith(f"DUALMEDIA_PRESETS[{KIND!r}]['card']")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "DUALMEDIA_PRESETS is [], which is not a dict"),
        ({"pictures": {}}, "DUALMEDIA_PRESETS has 'pictures', which is none of product-images,"),
        ({KIND: ["card"]}, "DUALMEDIA_PRESETS['product-images'] is ['card']"),
        ({KIND: {"Card.webp": {}}}, "DUALMEDIA_PRESETS['product-images'] has 'Card.webp': a name"),
        ({KIND: {"": {}}}, "has ''"),
        ({KIND: {5: {}}}, "has 5"),
    ],
)
def test_a_mistake_above_the_presets_is_quoted(config: t.Any, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_presets(config)
    assert message in str(caught.value)
