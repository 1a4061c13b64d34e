"""Policies: the bytes and names that a kind of media accepts, by the host's lists."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from ..errors import ConfigurationError, TooManyPixels, UnsupportedType, UploadRejected
from ..models import KINDS
from .dimensions import Gauge
from .file_types import FILE_TYPES, named_type
from .formats import agrees, extension_of, extensions_of, fits, is_called
from .mime_types import OCTET_STREAM, claim_of, declared_type, is_pattern
from .sniffing import settle_type

KEY = "DUALMEDIA_POLICY"

ANY_TYPE = ("*/*",)

MAX_PIXELS = 100_000_000
"""A decoded image takes four bytes per pixel."""

_DRAWINGS = {
    "image/svg+xml",
    "image/vnd.dwg",
    "image/vnd.dxf",
    "image/emf",
    "image/wmf",
}

_EXTENSION = re.compile(r"[^.\s/\\]+")


@dataclass(frozen=True)
class Policy:
    """The rules by which one kind accepts media.

    ``DUALMEDIA_POLICY`` has a dict for each kind with keys of these names.

    Where types or extensions are limited, the filename and the uploader's word must agree with the
    bytes. Otherwise any claim is accepted, and not believed.
    """

    types: tuple[str, ...] = ANY_TYPE
    """MIME types that the bytes may be of, exact or as ``image/*``.

    Default: images that browsers show, for product images; ``video/*`` for course videos; any for
    the others.
    """
    extensions: tuple[str, ...] | None = None
    """Extensions that the filename must have one of.

    Default ``None``: those of the type, or no extension.
    """
    max_size: int | None = None
    """Largest accepted file in bytes, ``None`` for no limit. Default ``DUALMEDIA_MAX_SIZE``."""
    max_pixels: int | None = MAX_PIXELS
    """Largest accepted product of width and height of images, ``None`` for no limit.

    Default 100 million. Where it is set, or types or extensions are limited, an image whose size
    cannot be read is refused.
    """

    @property
    def is_open(self) -> bool:
        """Whether bytes of any type and name are accepted."""
        return self.types == ANY_TYPE and self.extensions is None

    def check_type(self, mime_type: str, sniffed: str | None, declared: str | None) -> None:
        """Check the type of the bytes, and the uploader's word against it.

        :param mime_type: The type that will be recorded.
        :param sniffed: The type that the bytes show.
        :param declared: As the uploader sent it.
        :raises UnsupportedType: It is not accepted, or they do not agree.
        """
        if not self._has_type(mime_type):
            shown = mime_type
            if mime_type == OCTET_STREAM:
                shown = "of no known type"
            raise UnsupportedType(f"these bytes are {shown}; accepted are {', '.join(self.types)}")

        claim = claim_of(declared)
        if self.is_open or sniffed is None or claim is None:
            return
        if not agrees(claim, mime_type) and not agrees(claim, sniffed):
            raise UnsupportedType(f"these bytes are {mime_type}, not {claim} as declared")

    def check_announcement(self, filename: str | None, declared: str | None) -> None:
        """Refuse a name or a claim that goes with no accepted type: no bytes could put it right.

        :param declared: As the uploader sent it.
        :raises UnsupportedType: Whatever the bytes are, they will not be accepted.
        """
        if self.is_open:
            return
        without_signature = settle_type(None, filename, declared)
        if self._would_accept(without_signature, None, filename, declared):
            return
        for shown in self._accepted_types():
            if self._would_accept(shown, shown, filename, declared):
                return

        expected = named_type(filename) or declared_type(declared) or OCTET_STREAM
        self.check_name(filename, expected)
        announced = claim_of(declared) or expected
        raise UnsupportedType(f"announced is {announced}; accepted are {', '.join(self.types)}")

    def _has_type(self, mime_type: str) -> bool:
        return any(is_called(mime_type, pattern) for pattern in self.types)

    def _accepted_types(self) -> t.Iterator[str]:
        """Yield every type that bytes may show, as far as anybody knows one."""
        for pattern in self.types:
            if "*" not in pattern:
                yield pattern
        for file_type in FILE_TYPES:
            if self._has_type(file_type.mime_type):
                yield file_type.mime_type

    def _would_accept(
        self, mime_type: str, sniffed: str | None, filename: str | None, declared: str | None
    ) -> bool:
        """Tell whether bytes of a type would be accepted under this name and claim."""
        try:
            self.check_type(mime_type, sniffed, declared)
            self.check_name(filename, mime_type)
        except UnsupportedType:
            return False
        return True

    def check_name(self, filename: str | None, mime_type: str) -> None:
        """Check a filename, as it will be kept, against the type of the bytes.

        :raises UnsupportedType: It has no extension that is accepted, or one of another type.
        """
        extension = extension_of(filename)
        if self.extensions is not None and extension not in self.extensions:
            raise UnsupportedType(f"the filename must end in {_listed(self.extensions)}")
        if self.is_open or not extension or fits(extension, mime_type):
            return

        shown = "of no known type"
        usual_extensions = extensions_of(mime_type)
        if usual_extensions and mime_type != OCTET_STREAM:
            shown = f"{mime_type} (.{usual_extensions[0]})"
        raise UnsupportedType(f"the filename ends in .{extension}, but the bytes are {shown}")

    def renamed(self, filename: str | None, mime_type: str) -> str | None:
        """Give a filename an extension that fits, for bytes that take the place of others."""
        extension = extension_of(filename)
        if filename is None or not extension or self.is_open or fits(extension, mime_type):
            return filename

        stem = filename.rstrip(". ")[: -len(extension) - 1]
        if not stem:
            return filename
        for usual_extension in extensions_of(mime_type):
            if self.extensions is None or usual_extension in self.extensions:
                return f"{stem}.{usual_extension}"
        return filename

    def check_pixels(self, gauge: Gauge, mime_type: str) -> None:
        """Check the size of an image, as far as its bytes have come.

        :param mime_type: Its type. Drawings have no pixels.
        :raises TooManyPixels: It is larger than it may be.
        :raises UploadRejected: It does not say how large it is, and would have to.
        """
        if self.max_pixels is None:
            return
        largest = gauge.largest
        if largest is not None:
            pixels = largest.width * largest.height
            if pixels > self.max_pixels:
                raise TooManyPixels(*largest, self.max_pixels)
        if gauge.is_unmeasured and self.must_be_measured and mime_type not in _DRAWINGS:
            raise UploadRejected("the size of the image cannot be read, and it has a limit here")

    @property
    def must_be_measured(self) -> bool:
        """Whether an image of unknown size is refused.

        It is not where everything is kept, and nobody has set a limit.
        """
        if self.max_pixels is None:
            return False
        return not self.is_open or self.max_pixels != MAX_PIXELS


def read_policies(config: t.Any, max_size: int | None) -> dict[str, Policy]:
    """Read the policy of every kind.

    :param config: ``DUALMEDIA_POLICY``.
    :param max_size: ``DUALMEDIA_MAX_SIZE``.
    :raises ConfigurationError: Naming the key within ``DUALMEDIA_POLICY``.
    """
    if not isinstance(config, dict):
        raise ConfigurationError(f"{KEY} must map kinds to what they accept")
    for kind in config:
        if kind not in KINDS:
            kinds = ", ".join(KINDS)
            raise ConfigurationError(f"{KEY} names {kind!r}, which is no kind of media: {kinds}")

    policies: dict[str, Policy] = {}
    for kind, model in KINDS.items():
        defaults = {
            "types": model.accepts,
            "max_size": max_size,
            "max_pixels": MAX_PIXELS,
        }
        limits = config.get(kind, {})
        policies[kind] = _read_policy(kind, limits, defaults)
    return policies


def _read_policy(kind: str, config: t.Any, defaults: dict[str, t.Any]) -> Policy:
    """Read the policy of one kind.

    :param config: Its dict in ``DUALMEDIA_POLICY``.
    :param defaults: Values for the keys that the dict has not.
    :raises ConfigurationError: Naming the key.
    """
    key = f"{KEY}[{kind!r}]"
    if not isinstance(config, dict):
        raise ConfigurationError(f"{key} must be a dict")
    unknown = config.keys() - Policy.__dataclass_fields__.keys()
    if unknown:
        first = min(unknown, key=str)
        raise ConfigurationError(f"{key} has {first!r}, which is none of types, extensions, ...")

    values = defaults | config
    extensions = _extensions(f"{key}['extensions']", values.get("extensions"))
    types = _sequence(f"{key}['types']", values["types"])
    for pattern in types:
        if not isinstance(pattern, str) or not is_pattern(pattern):
            raise ConfigurationError(
                f"{key}['types'] has {pattern!r}, "
                "which is not a MIME type or a pattern such as image/*"
            )
    return Policy(
        types=tuple(types),
        extensions=extensions,
        max_size=_positive(f"{key}['max_size']", values["max_size"]),
        max_pixels=_positive(f"{key}['max_pixels']", values["max_pixels"]),
    )


def _extensions(key: str, value: t.Any) -> tuple[str, ...] | None:
    """Read a list of extensions, each with a dot in front or without, in lower case."""
    if value is None:
        return None
    extensions: list[str] = []
    for extension in _sequence(key, value):
        if isinstance(extension, str):
            extension = extension.removeprefix(".").lower()
        if not isinstance(extension, str) or not _EXTENSION.fullmatch(extension):
            raise ConfigurationError(f"{key} has {extension!r}, which is not an extension")
        extensions.append(extension)
    return tuple(extensions)


def _sequence(key: str, value: t.Any) -> list[t.Any]:
    if not isinstance(value, list | tuple | set | frozenset) or not value:
        raise ConfigurationError(f"{key} is {value!r}, which is not a list")
    return [*value]


def _positive(key: str, value: t.Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise ConfigurationError(f"{key} is {value!r}, which is not a positive whole number")
    return value


def _listed(extensions: t.Iterable[str]) -> str:
    return ", ".join(f".{extension}" for extension in extensions)
