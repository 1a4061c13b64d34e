"""Which names go with which bytes.

These are the extensions of a type, and the types that are names of one format.
"""

from __future__ import annotations

from .file_types import claims_of, extensions_of, named_type, names_of
from .mime_types import OCTET_STREAM, matches

__all__ = ["agrees", "extension_of", "extensions_of", "fits", "is_called"]


def extension_of(filename: str | None) -> str:
    """Return the extension by which a filename is opened, in lower case and without its dot.

    :return: Empty if it has none.
    """
    # Windows ignores dots and blanks at the end; what begins with a dot is all extension: ".php",
    # ".htaccess".
    name = (filename or "").rstrip(". ")
    _, dot, extension = name.rpartition(".")
    if not dot:
        return ""
    return extension.lower()


def agrees(claim: str, mime_type: str) -> bool:
    """Tell whether a claim holds for a type, by any of the names of its format.

    :param claim: One type or a range such as ``image/*``.
    """
    names = claims_of(mime_type)
    if claim in names:
        return True
    return any(matches(claim, name) for name in names)


def is_called(mime_type: str, pattern: str) -> bool:
    """Tell whether a type is the one that a pattern names by any of its names, or in the range."""
    if pattern.endswith("/*"):
        return matches(pattern, mime_type)
    return pattern.lower() in names_of(mime_type)


def fits(extension: str, mime_type: str) -> bool:
    """Tell whether a file of this type may have this extension."""
    if mime_type == OCTET_STREAM:
        # Bytes that show nothing fit an extension that says nothing, but not one of a type that
        # would have shown.
        return named_type(f"x.{extension}") is None
    usual_extensions = extensions_of(mime_type)
    return not usual_extensions or extension in usual_extensions
