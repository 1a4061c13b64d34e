"""Content that a browser shows when it is opened as a page: its types and its policy."""

from __future__ import annotations

import typing as t

from ..errors import ConfigurationError
from .file_types import canonical, names_of
from .mime_types import OCTET_STREAM, is_active, one_type

KEY = "DUALMEDIA_INLINE_TYPES"

PDF = "application/pdf"

DEFAULT_TYPES = (
    "image/png", "image/jpeg", "image/gif", "image/webp", "image/avif",
    "video/mp4", "video/webm", "video/ogg", "video/quicktime",
    "audio/mpeg", "audio/mp4", "audio/ogg", "audio/wav", "audio/flac", "audio/webm",
)  # fmt: skip
"""Types that browsers show and never run.

Everything else is a download, unless the host says otherwise.
"""

SANDBOX = "default-src 'none'; sandbox"
"""The Content-Security-Policy of all content but the following.

Content under it has no origin, runs nothing and loads nothing.
"""

# A browser shows a picture, a film, sound or a PDF in a page that it makes itself, styles with
# attributes, and has load the content anew. In a sandbox, that page has no origin: its requests
# carry no cookie, come from another site, and are refused where only the same origin may read.
# Without allow-scripts, nothing plays by itself, and Chromium's PDF viewer is blocked altogether.
# Bytes of these types run nothing in their origin, so they need no sandbox.
_VIEWER = (
    "default-src 'none'; {} 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
_IMAGE_VIEWER = _VIEWER.format("img-src")
_PLAYER = _VIEWER.format("media-src")
_PDF_VIEWER = _VIEWER.format("object-src")


def read_inline_types(value: t.Any) -> frozenset[str]:
    """Read the types that browsers show: the usual ones, and those that the host adds.

    :raises ConfigurationError: It is not a list of types, or has one that could run.
    """
    if not isinstance(value, list | tuple | set | frozenset):
        raise ConfigurationError(f"{KEY} is {value!r}, which is not a list of MIME types")

    inline_types: set[str] = set(DEFAULT_TYPES)
    for text in value:
        mime_type = canonical(one_type(text) or OCTET_STREAM)
        if mime_type == OCTET_STREAM:
            raise ConfigurationError(
                f"{KEY} has {text!r}, which is not one MIME type, such as {PDF}"
            )
        if any(is_active(name) for name in names_of(mime_type)):
            raise ConfigurationError(
                f"{KEY} has {text!r}, which could run in the app's origin: it stays a download"
            )
        inline_types.add(mime_type)
    return frozenset(inline_types)


def policy_of(mime_type: str, *, is_inline: bool) -> str:
    """Choose the Content-Security-Policy of an answer with content.

    :param is_inline: The type is one of :func:`read_inline_types`, and the request is not for a
        download.
    """
    if not is_inline:
        return SANDBOX
    if mime_type.startswith("image/"):
        return _IMAGE_VIEWER
    if mime_type.startswith(("audio/", "video/")):
        return _PLAYER
    if mime_type == PDF:
        return _PDF_VIEWER
    return SANDBOX
