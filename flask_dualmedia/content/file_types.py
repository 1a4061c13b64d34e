"""Types of files by their MIME type, filename or extension, as the table has them."""

from __future__ import annotations

import typing as t
from functools import cache

from .table import FAMILIES, SECTIONS, SHORT

MEDIA = ("image", "video", "audio")

_SIGNED_MAIN_TYPES = (*MEDIA, "font", "multipart", "message")
"""Main types whose bytes show what they are, also where the table does not know a type."""

_GENERAL_CONTAINERS = ("application/zip", "text/xml", "text/html")
"""Containers that hold what they like.

No name and no claim makes a picture, a film or sound of one.
"""


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
    """Whether bytes of this type begin with a signature.

    Then no file is of this type because of its name alone.
    """


def _read_line(line: str, resource_type: str) -> FileType:
    name, _, rest = line.partition(":")
    mime_type = name.removeprefix("!")

    columns = _read_columns(rest)
    names = columns[""]
    extensions = [word for word in names if word[0] != "/"]
    filenames = [word[1:] for word in names if word[0] == "/"]
    containers = [SHORT.get(word, word) for word in columns["in"]]

    media_type = _media_type_by_name(mime_type)
    if columns["as"]:
        media_type = columns["as"][0]

    return FileType(
        mime_type,
        extensions=tuple(extensions),
        filenames=tuple(filenames),
        aliases=tuple(columns["="]),
        containers=tuple(containers),
        resource_type=resource_type,
        media_type=media_type,
        is_signed=name.startswith("!"),
    )


def _read_columns(text: str) -> dict[str, list[str]]:
    """Read words by the word that begins their column; the first column has none."""
    columns: dict[str, list[str]] = {
        "": [],
        "=": [],
        "in": [],
        "as": [],
    }
    column = columns[""]
    for word in text.split():
        if word in columns:
            column = columns[word]
        else:
            column.append(word)
    return columns


def _media_type_by_name(mime_type: str) -> str:
    main = mime_type.partition("/")[0]
    if main in MEDIA:
        return main
    return "document"


def _read_table() -> t.Iterator[FileType]:
    for resource_type, section in SECTIONS.items():
        lines = section.replace("\n    ", " ").splitlines()
        for line in lines:
            if line and not line.startswith("#"):
                yield _read_line(line, resource_type)


def _mark_contained(file_types: list[FileType]) -> list[FileType]:
    """Mark as signed what is always in a container with a signature: it has that signature."""
    signed = {file_type.mime_type for file_type in file_types if file_type.is_signed}
    marked = []
    for file_type in file_types:
        containers = file_type.containers
        if containers and signed.issuperset(containers):
            file_type = file_type._replace(is_signed=True)
        marked.append(file_type)
    return marked


FILE_TYPES: t.Final = tuple(_mark_contained([*_read_table()]))

_BY_NAME: t.Final[dict[str, FileType]] = {}
_BY_EXTENSION: t.Final[dict[str, FileType]] = {}
_BY_FILENAME: t.Final[dict[str, FileType]] = {}


def _index_table() -> None:
    """Fill the dicts above. The first line that has a name or an extension keeps it."""
    for file_type in reversed(FILE_TYPES):
        names = [*file_type.aliases, file_type.mime_type]
        _BY_NAME.update(dict.fromkeys(names, file_type))
        _BY_EXTENSION.update(dict.fromkeys(file_type.extensions, file_type))

    # Where an extension has two types, bytes without a signature are of the one that needs none:
    # TypeScript is no MPEG.
    for file_type in reversed(FILE_TYPES):
        if not file_type.is_signed:
            _BY_EXTENSION.update(dict.fromkeys(file_type.extensions, file_type))

    for file_type in FILE_TYPES:
        _BY_FILENAME.update(dict.fromkeys(file_type.filenames, file_type))


_index_table()

_FAMILIES: t.Final = {
    mime_type: tuple(family.split()) for family in FAMILIES for mime_type in family.split()
}


def find_type(mime_type: str) -> FileType | None:
    """Find the line of a MIME type, by any of its names."""
    return _BY_NAME.get(mime_type)


def canonical(mime_type: str) -> str:
    """Return the name in the table for a MIME type, and one that is not in it as it was."""
    file_type = _BY_NAME.get(mime_type)
    if file_type is None:
        return mime_type
    return file_type.mime_type


def named_type(filename: str | None) -> str | None:
    """Find the MIME type that goes with a filename, or with its extension."""
    if not filename:
        return None
    name = filename.rstrip(". ").lower()
    stem, dot, extension = name.rpartition(".")

    file_type = _BY_FILENAME.get(name)
    if file_type is None and dot:
        file_type = _BY_EXTENSION.get(extension)
    if file_type is None and stem:
        file_type = _BY_FILENAME.get(name.partition(".")[0])  # Dockerfile.test

    if file_type is None:
        return None
    return file_type.mime_type


def type_of_extension(extension: str) -> str | None:
    """Find the MIME type that goes with an extension in lower case, without its dot."""
    file_type = _BY_EXTENSION.get(extension)
    if file_type is None:
        return None
    return file_type.mime_type


@cache
def _relatives(mime_type: str) -> tuple[FileType, ...]:
    """Return the types of files that are called by each other's names, the type itself first."""
    family = _FAMILIES.get(mime_type, ())
    names = dict.fromkeys([mime_type, *family])
    return tuple(_BY_NAME[name] for name in names if name in _BY_NAME)


@cache
def extensions_of(mime_type: str) -> tuple[str, ...]:
    """Return the extensions that files of a type have, the usual one first.

    :return: None of a type that nobody knows.
    """
    extensions: dict[str, None] = {}
    for relative in _relatives(canonical(mime_type)):
        extensions.update(dict.fromkeys(relative.extensions))
    return tuple(extensions)


def names_of(mime_type: str) -> tuple[str, ...]:
    """Return what a type is called: the name in the table, and others for the very same."""
    file_type = _BY_NAME.get(mime_type)
    if file_type is None:
        return (mime_type,)
    return (file_type.mime_type, *file_type.aliases)


@cache
def claims_of(mime_type: str) -> frozenset[str]:
    """Return the types that people may truly say a file of this type is of.

    These are its relatives and containers, by all names.
    """
    claims = {mime_type}
    for relative in _relatives(canonical(mime_type)):
        claims.update(names_of(relative.mime_type))
        for container in relative.containers:
            claims.update(names_of(container))
    return frozenset(claims)


def is_signed(mime_type: str) -> bool:
    """Tell whether the bytes of a file of this type show that they are of it."""
    file_type = _BY_NAME.get(mime_type)
    if file_type is not None:
        return file_type.is_signed
    main = mime_type.partition("/")[0]
    return main in _SIGNED_MAIN_TYPES


def is_within(mime_type: str, shown: str) -> bool:
    """Tell whether a file may be of a type that only its name tells.

    :param shown: The container that its bytes show.
    """
    if shown in _GENERAL_CONTAINERS and mime_type.partition("/")[0] in MEDIA:
        return False
    file_type = _BY_NAME.get(mime_type)
    if file_type is not None:
        return shown in file_type.containers
    if shown == "text/xml":
        return mime_type.endswith("+xml")
    if shown == "application/zip":
        return mime_type.endswith("+zip") or mime_type.startswith("application/vnd.")
    return False


def resource_type(mime_type: str) -> str:
    """Tell which of ``pdf, document, image, archive, code`` a course resource of this type is."""
    file_type = _BY_NAME.get(mime_type)
    if file_type is not None:
        return file_type.resource_type
    main, _, sub = mime_type.partition("/")
    if main == "image":
        return "image"
    if sub.endswith(("+json", "+xml", "script")):
        return "code"
    if main == "text" and sub.startswith("x-"):
        return "code"
    return "document"


def media_type(mime_type: str) -> str:
    """Tell which of ``image, video, document, audio`` a file of this MIME type is."""
    file_type = _BY_NAME.get(mime_type)
    if file_type is not None:
        return file_type.media_type
    return _media_type_by_name(mime_type)
