"""Variants as pages name them: URLs, ``srcset`` and ``<picture>``.

URLs are computed from a record and the presets. A page with many images costs no query for them.
"""

from __future__ import annotations

import json
import typing as t
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec

from markupsafe import Markup

from ..models import AVAILABLE, Media, MediaVariant
from ..schemas import content_url, record_url
from ..state import State, get_state
from .formats import FORMATS
from .making import is_rendered
from .presets import COVER, Preset
from .recipes import Recipe, variant_urls
from .sizes import plan, real_widths

Variants = Mapping[uuid.UUID, Sequence[MediaVariant]]
"""Variants that were made already, by the id of their original: see :func:`get_variants`."""


def variant_url(
    record: Media,
    preset: str,
    *,
    format: str | None = None,
    link: str | None = None,
) -> str:
    """URL of an image in the size of a preset: a path, as :func:`~.content_url` has it.

    It changes when the bytes or the preset change, and with nothing else. It costs no query; the
    variant is made when somebody asks for it.

    An image that no variants are made of has the URL of its content: external media, SVG, and all
    images where ``flask-dualmedia[images]`` is not installed.

    :param preset: Name of one of the presets of the record's kind.
    :param format: One of its formats. Default: the last one, for every browser.
    :param link: A signed URL of the record, from :func:`~.signed_url`. The variant opens as long as
        that does.
    :raises ValueError: The kind has no such preset, or the preset no such format.
    """
    found = _preset(record, preset)
    if not _is_shown_smaller(record):
        return _original_url(record, link)
    recipe = _recipe(record, found, format or found.formats[-1])
    return _urls(record, [recipe], link)[0]


def srcset(
    record: Media,
    presets: Sequence[str],
    *,
    format: str | None = None,
    link: str | None = None,
) -> str:
    """The value of ``srcset``: URLs of an image in several sizes, with their real widths.

    No size is named twice, however small the image is. Where the width of an image is not known,
    that of the preset is named. Images that no variants are made of have their one URL.

    :param presets: Names of presets of the record's kind.
    :param format: As for :func:`variant_url`, like ``link``.
    :raises ValueError: As :func:`variant_url`.
    """
    found = [_preset(record, name) for name in presets]
    if not _is_shown_smaller(record):
        return _original_url(record, link)
    return _srcset(record, found, format, link)


def picture(
    record: Media,
    preset: str,
    *,
    sizes: str | None = None,
    variants: Variants | None = None,
    link: str | None = None,
    **attributes: t.Any,
) -> Markup:
    """A ``<picture>`` with an image in the best format that a browser knows, for templates::

        {{ picture(image, "card", sizes="(max-width: 600px) 100vw, 320px", class="product") }}

    It has the width and the height of the image, so that nothing moves when it comes, and is loaded
    when it comes near the window.

    :param preset: The largest that is meant to be shown. Browsers choose among all presets of the
        kind that do not crop, or have this one alone if it does.
    :param sizes: How wide the image is shown. Default: as the preset, on screens that have the
        room.
    :param variants: From :func:`get_variants`. Images in it have a placeholder until they are
        there.
    :param link: As for :func:`variant_url`.
    :param attributes: Further ones of ``<img>``, such as ``alt``, which is by default that of the
        record, and ``class_``. One that is ``None`` is left out. ``loading="eager"`` is for what is
        seen first.
    :raises ValueError: As :func:`variant_url`.
    """
    found = _preset(record, preset)
    image = {
        "alt": getattr(record, "alt_text", None) or "",
        "loading": "lazy",
        "decoding": "async",
        "style": _placeholder_style(record, variants),
    }
    if not _is_shown_smaller(record):
        image["src"] = _original_url(record, link)
        return Markup("<img{}>").format(_attributes(image | _named(attributes)))

    width, height = _size(record, found) or (None, None)
    if sizes is None:
        shown = width or found.width
        sizes = f"(max-width: {shown}px) 100vw, {shown}px"
    offered = _offered(record, found)
    sources = Markup("").join(
        Markup('<source type="{}" srcset="{}" sizes="{}">').format(
            _recipe(record, found, name).format.mime_type,
            _srcset(record, offered, name, link),
            sizes,
        )
        for name in found.formats[:-1]
    )
    image |= {
        "src": variant_url(record, preset, link=link),
        "srcset": _srcset(record, offered, found.formats[-1], link),
        "sizes": sizes,
        "width": width,
        "height": height,
    }
    tag = Markup("<img{}>").format(_attributes(image | _named(attributes)))
    return Markup("<picture>{}{}</picture>").format(sources, tag)


def get_variants(records: Iterable[Media]) -> dict[uuid.UUID, list[MediaVariant]]:
    """The variants of images that were made already, by the id of their original.

    It costs one query for all of them. :func:`picture` takes placeholders from it.
    """
    by_id = {record.id: record for record in records}
    made: dict[uuid.UUID, list[MediaVariant]] = {media_id: [] for media_id in by_id}
    if not by_id:
        return made
    for variant in get_state().repository.variants_of(list(by_id)):
        if variant.state == AVAILABLE and variant.is_of(by_id.get(variant.media_id)):
            made[variant.media_id].append(variant)
    return made


def describe_variants(state: State, record: Media) -> dict[str, t.Any]:
    """The variants of a record as JSON-ready data, those that were not made yet too."""
    if not is_rendered(record):
        return {"items": [], "placeholder": None, "color": None}

    made = get_variants([record])
    by_recipe = {(variant.name, variant.recipe): variant for variant in made[record.id]}
    recipes = list(state.recipes[record.kind].values())
    items = []
    for recipe, url in zip(recipes, _urls(record, recipes, None), strict=True):
        variant = by_recipe.get((recipe.preset.name, recipe.digest))
        items.append(_described(record, recipe, url, variant))
    facts = _facts(record, made)
    return {
        "items": items,
        "placeholder": facts.get("placeholder"),
        "color": facts.get("color"),
    }


def _described(
    record: Media,
    recipe: Recipe,
    url: str,
    variant: MediaVariant | None,
) -> dict[str, t.Any]:
    width, height = _size(record, recipe.preset) or (None, None)
    file_size = None
    if variant is not None:
        width, height = variant.width, variant.height
        file_size = variant.file_size
    return {
        "name": recipe.preset.name,
        "mimeType": recipe.format.mime_type,
        "url": url,
        "width": width,
        "height": height,
        "fileSize": file_size,
    }


def _preset(record: Media, name: str) -> Preset:
    presets = get_state().settings.presets[record.kind]
    try:
        return presets[name]
    except KeyError:
        names = ", ".join(presets) or "none"
        raise ValueError(f"{name!r} is no preset of {record.kind}: {names}") from None


def _recipe(record: Media, preset: Preset, format_name: str) -> Recipe:
    if format_name not in preset.formats:
        raise ValueError(f"the preset {preset.name!r} has no format {format_name!r}")
    path = f"{preset.name}.{FORMATS[format_name].extension}"
    return get_state().recipes[record.kind][path]


def _urls(record: Media, recipes: Sequence[Recipe], link: str | None) -> list[str]:
    found = variant_urls(f"{record_url(record)}/variants/", record.checksum or "", recipes)
    if link is None:
        return found
    return [f"{url}&{_query(link)}" for url in found]


def _original_url(record: Media, link: str | None) -> str:
    if record.external_url is not None:
        return record.external_url
    if link is not None:
        return link
    return content_url(record)


def _query(link: str) -> str:
    """The signature in a signed URL, as it stands there."""
    return link.partition("?")[2]


def _srcset(
    record: Media,
    presets: Sequence[Preset],
    format_name: str | None,
    link: str | None,
) -> str:
    widths = _widths(record, presets)
    recipes = [_recipe(record, preset, format_name or preset.formats[-1]) for preset, _ in widths]
    urls = _urls(record, recipes, link)
    candidates = []
    for url, (_, width) in zip(urls, widths, strict=True):
        candidates.append(f"{url} {width}w")
    return ", ".join(candidates)


def _widths(record: Media, presets: Sequence[Preset]) -> list[tuple[Preset, int]]:
    """The presets and the widths that images of them have, from the smallest to the largest."""
    width, height = _known_size(record)
    if width and height:
        return real_widths(presets, width, height)
    return sorted(((preset, preset.width or 0) for preset in presets), key=lambda pair: pair[1])


def _offered(record: Media, preset: Preset) -> list[Preset]:
    """The presets that a browser chooses from where one of them is meant."""
    if preset.fit == COVER:
        return [preset]
    offered = []
    for other in get_state().settings.presets[record.kind].values():
        if other.fit != COVER and set(other.formats) >= set(preset.formats) and other.width:
            offered.append(other)
    return offered or [preset]


def _known_size(record: Media) -> tuple[int | None, int | None]:
    values = vars(record)
    return values.get("width"), values.get("height")


def _size(record: Media, preset: Preset) -> tuple[int, int] | None:
    """The size of a variant; ``None`` if that of its original is not known."""
    width, height = _known_size(record)
    if not width or not height:
        return None
    planned = plan(preset, width, height)
    return planned.width, planned.height


def _placeholder_style(record: Media, variants: Variants | None) -> str | None:
    facts = _facts(record, variants or {})
    if not facts:
        return None
    return f"background: {facts['color']} url({facts['placeholder']}) center / cover no-repeat"


def _facts(record: Media, variants: Variants) -> dict[str, str]:
    """The placeholder and the colour of an image, from any of its variants."""
    for variant in variants.get(record.id, ()):
        detail = json.loads(variant.detail or "{}")
        if "placeholder" in detail:
            return detail
    return {}


def _is_shown_smaller(record: Media) -> bool:
    return is_rendered(record) and _has_renderer()


@cache
def _has_renderer() -> bool:
    return find_spec("PIL") is not None


def _named(attributes: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Attributes by their names in HTML: those that are words of Python end with an underscore."""
    return {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}


def _attributes(values: Mapping[str, t.Any]) -> Markup:
    written = [
        Markup(' {}="{}"').format(name, value)
        for name, value in values.items()
        if value is not None
    ]
    return Markup("").join(written)
