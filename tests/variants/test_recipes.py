"""URLs of variants change when their bytes would, and only then."""

from __future__ import annotations

import re
import typing as t
from dataclasses import replace

import pytest

from flask_dualmedia.variants.formats import FORMATS
from flask_dualmedia.variants.presets import Preset
from flask_dualmedia.variants.recipes import Recipe, focused, recipes_of, variant_urls

CARD = Preset("card", 640, 480, "cover")
CHECKSUM = "0123456789abcdef" * 4


def digest(preset: Preset, name: str = "webp") -> str:
    return Recipe(preset, FORMATS[name]).digest


def test_the_digest_of_a_recipe_is_the_same_in_every_process() -> None:
    """If this fails, all variants are made anew. Is that meant?"""
    assert digest(CARD) == "a3b76e29a2c4"


@pytest.mark.parametrize(
    "change",
    [
        {"width": 641},
        {"width": None},
        {"height": 481},
        {"fit": "inside"},
        {"quality": (("webp", 79),)},
        {"background": "#000000"},
        {"animated": "keep"},
    ],
)
def test_each_parameter_makes_another_recipe(change: dict[str, t.Any]) -> None:
    assert digest(replace(CARD, **change)) != digest(CARD)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "tile"},
        {"formats": ("webp", "avif", "png")},
        {"quality": (("webp", 80),)},
        {"quality": (("jpeg", 10),)},
    ],
)
def test_what_does_not_change_the_bytes_changes_no_recipe(change: dict[str, t.Any]) -> None:
    assert digest(replace(CARD, **change)) == digest(CARD)


def test_each_format_has_a_recipe() -> None:
    recipes = recipes_of([CARD, Preset("thumb", 320, formats=("avif", "png"))])
    assert list(recipes) == ["card.webp", "card.jpg", "thumb.avif", "thumb.png"]
    digests = {recipe.digest for recipe in recipes.values()}
    assert len(digests) == 4
    assert all(re.fullmatch("[0-9a-f]{12}", digest) for digest in digests)


def test_a_focal_point_makes_another_recipe_where_the_image_is_cropped() -> None:
    recipe = Recipe(CARD, FORMATS["webp"])
    assert focused(recipe, None, None) is recipe
    assert focused(recipe, 0.5, 0.5).digest == recipe.digest
    assert focused(recipe, 0.1, None).digest != recipe.digest
    assert focused(recipe, 0.1, 0.2).focus == (0.1, 0.2)
    assert focused(recipe, 0.1001, 0.2).digest == focused(recipe, 0.1, 0.2).digest
    assert focused(recipe, -3, 7).focus == (0, 1)

    whole = Recipe(Preset("card", 640), FORMATS["webp"])
    assert focused(whole, 0.1, 0.2) is whole


def test_a_url_names_the_bytes_and_the_recipe() -> None:
    recipes = recipes_of([CARD])
    urls = variant_urls("/media/product-images/7/variants/", CHECKSUM, recipes.values())
    version = recipes["card.webp"].digest[:6]
    assert urls[0] == f"/media/product-images/7/variants/card.webp?v=01234567{version}"
    assert urls[1].startswith("/media/product-images/7/variants/card.jpg?v=01234567")
    assert urls[0].endswith(recipes["card.webp"].version_of(CHECKSUM))

    others = variant_urls("/media/product-images/7/variants/", "f" * 64, recipes.values())
    assert not set(urls) & set(others)
