"""Presets in the words of a host: ``DUALMEDIA_PRESETS``, read and checked."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping

from ..errors import ConfigurationError
from ..models import KINDS
from .formats import FORMATS
from .presets import COVER, INSIDE, KEEP, STILL, Preset, Presets, default_presets

KEY = "DUALMEDIA_PRESETS"

MAX_SIDE = 16383
"""The largest width or height of a preset: WebP has no more pixels in a row."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_COLOR = re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)


def read_presets(config: t.Any) -> Presets:
    """The default presets, and over them those of the host.

    :param config: ``DUALMEDIA_PRESETS``: by kind a dict of names, with the options of
        :class:`Preset` for each. A name with ``None`` takes a default preset away.
    :raises ConfigurationError: Quotes the key, and says what is wrong.
    """
    presets = default_presets()
    for kind, named_options in _checked_dict(KEY, config).items():
        if kind not in KINDS:
            raise ConfigurationError(f"{KEY} has {kind!r}, which is none of {', '.join(KINDS)}")
        kind_key = f"{KEY}[{kind!r}]"

        for name, options in _checked_dict(kind_key, named_options).items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ConfigurationError(
                    f"{kind_key} has {name!r}: a name has up to 40 lowercase letters, digits, "
                    "underscores and hyphens, and begins with a letter"
                )
            if options is None:
                presets[kind].pop(name, None)
            else:
                presets[kind][name] = _read_preset(f"{kind_key}[{name!r}]", name, options)
    return presets


def _read_preset(key: str, name: str, options: t.Any) -> Preset:
    """Read one preset.

    :param key: Where it is in the settings.
    :raises ConfigurationError: Quotes the key.
    """
    options = _checked_dict(key, options)
    for option in options:
        if option not in _OPTIONS:
            raise ConfigurationError(
                f"{key} has {option!r}, which is none of {', '.join(_OPTIONS)}"
            )

    values: dict[str, t.Any] = {}
    for option, value in options.items():
        values[option] = _OPTIONS[option](f"{key}[{option!r}]", value)
    preset = Preset(name, **values)

    if preset.width is None and preset.height is None:
        raise ConfigurationError(f"{key} has neither a width nor a height")
    if preset.fit == COVER and None in (preset.width, preset.height):
        raise ConfigurationError(f"{key} has fit 'cover', for which it needs a width and a height")
    for format_name, _ in preset.quality:
        if format_name not in preset.formats:
            raise ConfigurationError(
                f"{key}['quality'] names {format_name!r}, which is not in its formats"
            )
    return preset


def _checked_dict(key: str, value: t.Any) -> Mapping[t.Any, t.Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{key} is {value!r}, which is not a dict")
    return value


def _is_number(value: t.Any, largest: int) -> bool:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole and 1 <= value <= largest


def _side(key: str, value: t.Any) -> int | None:
    """Width or height in pixels; ``None`` where the other side decides."""
    if value is not None and not _is_number(value, MAX_SIDE):
        raise ConfigurationError(f"{key} is {value!r}, which is not a number from 1 to {MAX_SIDE}")
    return value


def _fit(key: str, value: t.Any) -> str:
    return _choice(key, value, (INSIDE, COVER))


def _animated(key: str, value: t.Any) -> str:
    return _choice(key, value, (STILL, KEEP))


def _choice(key: str, value: t.Any, choices: tuple[str, str]) -> str:
    """One of two words."""
    if value not in choices:
        first, second = choices
        raise ConfigurationError(f"{key} is {value!r}, which is neither {first!r} nor {second!r}")
    return value


def _formats(key: str, value: t.Any) -> tuple[str, ...]:
    """The formats of a preset, the best first."""
    if not isinstance(value, list | tuple) or not value:
        raise ConfigurationError(f"{key} is {value!r}, which is not a list of formats")
    for name in value:
        if not isinstance(name, str) or name not in FORMATS:
            raise ConfigurationError(f"{key} has {name!r}, which is none of {', '.join(FORMATS)}")
    if len(set(value)) < len(value):
        raise ConfigurationError(f"{key} has a format twice")
    return tuple(value)


def _quality(key: str, value: t.Any) -> tuple[tuple[str, int], ...]:
    """The quality by format. The order in which a host writes them makes no difference."""
    qualities = []
    for name, number in _checked_dict(key, value).items():
        if not _is_number(number, 100):
            raise ConfigurationError(
                f"{key}[{name!r}] is {number!r}, which is not a number from 1 to 100"
            )
        qualities.append((name, number))
    return tuple(sorted(qualities, key=str))


def _background(key: str, value: t.Any) -> str:
    """A colour as six hexadecimal digits."""
    if not isinstance(value, str) or not _COLOR.fullmatch(value):
        raise ConfigurationError(f"{key} is {value!r}, which is not a colour such as #ffffff")
    return value.lower()


_OPTIONS: dict[str, t.Callable[[str, t.Any], t.Any]] = {
    "width": _side,
    "height": _side,
    "fit": _fit,
    "formats": _formats,
    "quality": _quality,
    "background": _background,
    "animated": _animated,
}
"""The options of a preset, each with the function that checks its value."""
