"""Images as a task for a process of its own, which is given and answers nothing but JSON."""

from __future__ import annotations

import io
import typing as t
from collections.abc import Callable, Mapping
from contextlib import nullcontext

from .formats import FORMATS
from .presets import Preset
from .recipes import Focus, Recipe
from .rendering import render_image


def render_task(
    arguments: Mapping[str, t.Any],
    source: t.Any,
    sinks: Mapping[str, t.Any],
    _report: Callable[[float], None],
) -> dict[str, t.Any]:
    """Write each variant to the sink that has the name of its recipe's ``path``.

    :param arguments: From :func:`~flask_dualmedia.variants.images.arguments_for`. They may have
        been JSON meanwhile.
    :param source: A seekable file, which may give fewer bytes than it is asked for.
    :return: ``width`` and ``height`` of the source, ``placeholder``, ``color``, and ``images``
        with their ``path``, ``width`` and ``height``.
    """
    result = render_image(
        t.cast("t.BinaryIO", io.BufferedReader(source)),
        [_recipe(description) for description in arguments["recipes"]],
        max_pixels=arguments["max_pixels"],
        max_animation_pixels=arguments["max_animation_pixels"],
        turn=lambda _format, _pixels: nullcontext(),
    )

    images = []
    for image in result.images:
        path = image.recipe.path
        sinks[path].write(image.content)
        images.append({"path": path, "width": image.width, "height": image.height})
    return {
        "width": result.width,
        "height": result.height,
        "placeholder": result.placeholder,
        "color": result.color,
        "images": images,
    }


def _recipe(description: Mapping[str, t.Any]) -> Recipe:
    values = dict(description["preset"])
    # JSON knows no tuples.
    values["formats"] = tuple(values["formats"])
    values["quality"] = tuple((name, quality) for name, quality in values["quality"])
    focus = Focus(*description["focus"])
    return Recipe(Preset(**values), FORMATS[description["format"]], focus)
