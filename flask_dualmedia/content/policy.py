"""What a kind of media accepts, by the host's lists."""

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

_DRAWINGS = {"image/svg+xml", "image/vnd.dwg", "image/vnd.dxf", "image/emf", "image/wmf"}

_EXTENSION = re.compile(r"[^.\s/\\]+")


@dataclass(frozen=True)
class Policy:
    """What one kind accepts: ``DUALMEDIA_POLICY`` has a dict for each kind with keys of these
    names.

    Where types or extensions are limited, the filename and the uploader's word must agree with the
    bytes. Otherwise any claim is accepted, and not believed.
    """

    types: tuple[str, ...] = ANY_TYPE
    """MIME types that the bytes may be of, exact or as ``image/*``. Default: images that browsers
    show, for product images; ``video/*`` for course videos; any for the others."""
    extensions: tuple[str, ...] | None = None
    """Extensions of which the filename must have one. Default ``None``: those of the type, or no
    extension."""
    max_size: int | None = None
    """Largest accepted file in bytes, ``None`` for no limit. Default ``DUALMEDIA_MAX_SIZE``."""
    max_pixels: int | None = MAX_PIXELS
    """Largest accepted product of width and height of images, ``None`` for no limit. Default 100
    million. Where it is set, or types or extensions are limited, an image whose size cannot be read
    is refused."""

    @property
    def is_open(self) -> bool:
        """Whether bytes of any type and name are accepted."""
        return self.types == ANY_TYPE and self.extensions is None

    def check_type(self, mime_type: str, sniffed: str | None, declared: str | None) -> None:
        """Check what the bytes are, and whether the uploader's word agrees.

        :param mime_type: The type that will be recorded.
        :param sniffed: The type that the bytes show.
        :param declared: As the uploader sent it.
        :raises UnsupportedType: It is not accepted, or they do not agree.
        """
        if not any(is_called(mime_type, pattern) for pattern in self.types):
            shown = "of no known type" if mime_type == OCTET_STREAM else mime_type
            raise UnsupportedType(f"these bytes are {shown}; accepted are {', '.join(self.types)}")
        claim = claim_of(declared)
        if self.is_open or sniffed is None or claim is None:
            return
        if not agrees(claim, mime_type) and not agrees(claim, sniffed):
            raise UnsupportedType(f"these bytes are {mime_type}, not {claim} as declared")

    def check_announcement(self, filename: str | None, declared: str | None) -> None:
        """Refuse what no bytes could put right: a name or a claim that goes with no accepted type.

        :param declared: As the uploader sent it.
        :raises UnsupportedType: Whatever the bytes are, they will not be accepted.
        """
        if self.is_open:
            return
        without_signature = settle_type(None, filename, declared)
        if self._would_accept(without_signature, None, filename, declared):
            return
        if any(
            self._would_accept(shown, shown, filename, declared) for shown in self._accepted_types()
        ):
            return
        expected = named_type(filename) or declared_type(declared) or OCTET_STREAM
        self.check_name(filename, expected)
        raise UnsupportedType(
            f"announced is {claim_of(declared) or expected}; accepted are {', '.join(self.types)}"
        )

    def _accepted_types(self) -> t.Iterator[str]:
        """Every type that bytes may show, as far as anybody knows one."""
        for pattern in self.types:
            if "*" not in pattern:
                yield pattern
        for known in FILE_TYPES:
            if any(is_called(known.mime_type, pattern) for pattern in self.types):
                yield known.mime_type

    def _would_accept(
        self, mime_type: str, sniffed: str | None, filename: str | None, declared: str | None
    ) -> bool:
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
        if not self.is_open and extension and not fits(extension, mime_type):
            known = extensions_of(mime_type)
            shown = (
                "of no known type"
                if mime_type == OCTET_STREAM or not known
                else f"{mime_type} (.{known[0]})"
            )
            raise UnsupportedType(f"the filename ends in .{extension}, but the bytes are {shown}")

    def renamed(self, filename: str | None, mime_type: str) -> str | None:
        """The filename with an extension that fits, for bytes that take the place of others."""
        extension = extension_of(filename)
        if filename is None or not extension or self.is_open or fits(extension, mime_type):
            return filename
        known = [
            one
            for one in extensions_of(mime_type)
            if self.extensions is None or one in self.extensions
        ]
        stem = filename.rstrip(". ")[: -len(extension) - 1]
        return f"{stem}.{known[0]}" if known and stem else filename

    def check_pixels(self, gauge: Gauge, mime_type: str) -> None:
        """Check how large an image is, as far as its bytes have come.

        :param mime_type: Its type. Drawings have no pixels.
        :raises TooManyPixels: It is larger than it may be.
        :raises UploadRejected: It does not say how large it is, and would have to.
        """
        if self.max_pixels is None:
            return
        largest = gauge.largest
        if largest is not None and largest.width * largest.height > self.max_pixels:
            raise TooManyPixels(*largest, self.max_pixels)
        if gauge.is_unmeasured and self.must_be_measured and mime_type not in _DRAWINGS:
            raise UploadRejected("the size of the image cannot be read, and it has a limit here")

    @property
    def must_be_measured(self) -> bool:
        """Whether an image of unknown size is refused: not where everything is kept, and nobody has
        set a limit."""
        return self.max_pixels is not None and (not self.is_open or self.max_pixels != MAX_PIXELS)


def read_policies(config: t.Any, max_size: int | None) -> dict[str, Policy]:
    """The policy of every kind.

    :param config: ``DUALMEDIA_POLICY``.
    :param max_size: ``DUALMEDIA_MAX_SIZE``.
    :raises ConfigurationError: Naming the key within ``DUALMEDIA_POLICY``.
    """
    if not isinstance(config, dict):
        raise ConfigurationError(f"{KEY} must map kinds to what they accept")
    if unknown := [kind for kind in config if kind not in KINDS]:
        raise ConfigurationError(
            f"{KEY} names {unknown[0]!r}, which is no kind of media: {', '.join(KINDS)}"
        )
    return {
        kind: _policy(kind, config.get(kind, {}), model.accepts, max_size)
        for kind, model in KINDS.items()
    }


def _policy(kind: str, given: t.Any, types: tuple[str, ...], max_size: int | None) -> Policy:
    key = f"{KEY}[{kind!r}]"
    if not isinstance(given, dict):
        raise ConfigurationError(f"{key} must be a dict")
    if unknown := given.keys() - Policy.__dataclass_fields__.keys():
        raise ConfigurationError(
            f"{key} has {min(unknown, key=str)!r}, which is none of types, extensions, ..."
        )
    extensions, listed = given.get("extensions"), f"{key}['extensions']"
    if extensions is not None:
        bare = [
            one.removeprefix(".").lower() if isinstance(one, str) else one
            for one in _sequence(listed, extensions)
        ]
        extensions = _words(listed, bare, _is_extension, "an extension")
    return Policy(
        types=_words(
            f"{key}['types']",
            given.get("types", types),
            is_pattern,
            "a MIME type or a pattern such as image/*",
        ),
        extensions=extensions,
        max_size=_positive(f"{key}['max_size']", given.get("max_size", max_size)),
        max_pixels=_positive(f"{key}['max_pixels']", given.get("max_pixels", MAX_PIXELS)),
    )


def _words(key: str, value: t.Any, is_right: t.Callable[[str], bool], what: str) -> tuple[str, ...]:
    words = _sequence(key, value)
    for word in words:
        if not isinstance(word, str) or not is_right(word):
            raise ConfigurationError(f"{key} has {word!r}, which is not {what}")
    return tuple(words)


def _sequence(key: str, value: t.Any) -> list[t.Any]:
    if not isinstance(value, list | tuple | set | frozenset) or not value:
        raise ConfigurationError(f"{key} is {value!r}, which is not a list")
    return [*value]


def _positive(key: str, value: t.Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value <= 0):
        raise ConfigurationError(f"{key} is {value!r}, which is not a positive whole number")
    return value


def _is_extension(word: str) -> bool:
    return _EXTENSION.fullmatch(word) is not None


def _listed(extensions: t.Iterable[str]) -> str:
    return ", ".join(f".{extension}" for extension in extensions)
