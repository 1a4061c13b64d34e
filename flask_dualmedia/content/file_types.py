"""What the table says: of a MIME type, of an extension."""

from __future__ import annotations

import typing as t
from functools import cache

from .table import FAMILIES, SECTIONS, SHORT

MEDIA = ("image", "video", "audio")

_OF_ANYTHING = ("application/zip", "text/xml", "text/html")
"""Containers that hold what they like: no name and no claim makes a picture, a film or sound of
one."""


class FileType(t.NamedTuple):
    """A line of the table."""

    mime_type: str
    extensions: tuple[str, ...]
    filenames: tuple[str, ...]
    aliases: tuple[str, ...]
    containers: tuple[str, ...]
    resource_type: str
    media_type: str
    is_signed: bool
    """Whether bytes of this type begin with a signature: no file is of it because of its name
    alone."""


def _read_line(line: str, resource_type: str) -> FileType:
    name, _, rest = line.partition(":")
    mime_type = name.removeprefix("!")
    columns: dict[str, list[str]] = {"": [], "=": [], "in": [], "as": []}
    column = ""
    for word in rest.split():
        if word in columns:
            column = word
        else:
            columns[column].append(word)
    main = mime_type.partition("/")[0]
    usual = main if main in MEDIA else "document"
    return FileType(
        mime_type,
        extensions=tuple(word for word in columns[""] if word[0] != "/"),
        filenames=tuple(word[1:] for word in columns[""] if word[0] == "/"),
        aliases=tuple(columns["="]),
        containers=tuple(SHORT.get(word, word) for word in columns["in"]),
        resource_type=resource_type,
        media_type=columns["as"][0] if columns["as"] else usual,
        is_signed=name.startswith("!"),
    )


def _read_table() -> t.Iterator[FileType]:
    for resource_type, lines in SECTIONS.items():
        for line in lines.splitlines():
            if line and not line.startswith("#"):
                yield _read_line(line, resource_type)


def _mark_contained(file_types: list[FileType]) -> list[FileType]:
    """What is always in a container with a signature has that signature."""
    signed = {file_type.mime_type for file_type in file_types if file_type.is_signed}
    marked = []
    for file_type in file_types:
        is_contained = bool(file_type.containers) and signed.issuperset(file_type.containers)
        marked.append(file_type._replace(is_signed=file_type.is_signed or is_contained))
    return marked


FILE_TYPES: t.Final = tuple(_mark_contained([*_read_table()]))

_BY_NAME: t.Final = {
    name: one for one in reversed(FILE_TYPES) for name in (*one.aliases, one.mime_type)
}

# Where an extension has two types, bytes without a signature are of the one that needs none:
# TypeScript is no MPEG.
_BY_EXTENSION: t.Final = {
    extension: one for one in reversed(FILE_TYPES) for extension in one.extensions
}
_BY_EXTENSION.update(
    {
        extension: one
        for one in reversed(FILE_TYPES)
        if not one.is_signed
        for extension in one.extensions
    }
)
_BY_FILENAME: t.Final = {filename: one for one in FILE_TYPES for filename in one.filenames}

_FAMILIES: t.Final = {
    mime_type: tuple(family.split()) for family in FAMILIES for mime_type in family.split()
}


def find_type(mime_type: str) -> FileType | None:
    """The line of a MIME type, by any of its names."""
    return _BY_NAME.get(mime_type)


def canonical(mime_type: str) -> str:
    """The name in the table for a MIME type; that which is not in it is as it was."""
    known = _BY_NAME.get(mime_type)
    return mime_type if known is None else known.mime_type


def named_type(filename: str | None) -> str | None:
    """The MIME type that goes with a filename, or with its extension."""
    if not filename:
        return None
    name = filename.rstrip(". ").lower()
    stem, dot, extension = name.rpartition(".")
    known = _BY_FILENAME.get(name)
    if known is None and dot:
        known = _BY_EXTENSION.get(extension)
    if known is None and stem:
        known = _BY_FILENAME.get(name.partition(".")[0])  # Dockerfile.test
    return None if known is None else known.mime_type


def type_of_extension(extension: str) -> str | None:
    known = _BY_EXTENSION.get(extension)
    return None if known is None else known.mime_type


@cache
def _relatives(mime_type: str) -> tuple[FileType, ...]:
    """The types of files that are called by each other's names, that of the type itself first."""
    names = (mime_type, *(one for one in _FAMILIES.get(mime_type, ()) if one != mime_type))
    return tuple(_BY_NAME[name] for name in names if name in _BY_NAME)


@cache
def extensions_of(mime_type: str) -> tuple[str, ...]:
    """The extensions that files of a type have, the usual one first; none of a type that nobody
    knows."""
    return tuple(
        dict.fromkeys(
            extension for one in _relatives(canonical(mime_type)) for extension in one.extensions
        )
    )


def names_of(mime_type: str) -> tuple[str, ...]:
    """What a type is called: the name in the table, and others for the very same."""
    known = _BY_NAME.get(mime_type)
    return (mime_type,) if known is None else (known.mime_type, *known.aliases)


@cache
def claims_of(mime_type: str) -> frozenset[str]:
    """The types that people may truly say a file of this type is of: its relatives and containers,
    by all names."""
    relatives = _relatives(canonical(mime_type))
    containers = {container for one in relatives for container in one.containers}
    names = {name for one in relatives for name in names_of(one.mime_type)}
    return frozenset(names.union(*(names_of(container) for container in containers), [mime_type]))


def is_signed(mime_type: str) -> bool:
    """Whether the bytes of a file show this type, if it is of it."""
    known = _BY_NAME.get(mime_type)
    if known is not None:
        return known.is_signed
    return mime_type.partition("/")[0] in (*MEDIA, "font", "multipart", "message")


def is_within(mime_type: str, shown: str) -> bool:
    """Whether a file whose bytes show a container may be of a type that only its name tells."""
    if shown in _OF_ANYTHING and mime_type.partition("/")[0] in MEDIA:
        return False
    known = _BY_NAME.get(mime_type)
    if known is not None:
        return shown in known.containers
    if shown == "text/xml":
        return mime_type.endswith("+xml")
    return shown == "application/zip" and (
        mime_type.endswith("+zip") or mime_type.startswith("application/vnd.")
    )


def resource_type(mime_type: str) -> str:
    """Which of ``pdf, document, image, archive, code`` a course resource of this MIME type is."""
    known = _BY_NAME.get(mime_type)
    if known is not None:
        return known.resource_type
    main, _, sub = mime_type.partition("/")
    if main == "image":
        return "image"
    if sub.endswith(("+json", "+xml", "script")) or (main == "text" and sub.startswith("x-")):
        return "code"
    return "document"


def media_type(mime_type: str) -> str:
    """Which of ``image, video, document, audio`` a file of this MIME type is."""
    known = _BY_NAME.get(mime_type)
    if known is not None:
        return known.media_type
    main = mime_type.partition("/")[0]
    return main if main in MEDIA else "document"
