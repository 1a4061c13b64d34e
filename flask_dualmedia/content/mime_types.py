"""MIME types as strangers write them.

This module reads them, tells what they claim, and chooses the one that content is served with.
"""

from __future__ import annotations

import re

OCTET_STREAM = "application/octet-stream"

MAX_LENGTH = 255
"""Characters of a type that databases keep."""

_TCHARS = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # RFC 9110, section 5.6.2

# "media-type = type "/" subtype parameters" (RFC 9110, section 8.3.1). Parameters are dropped, so
# their grammar is not checked; but a comma outside of quotes would begin a second type, and no
# header has control characters.
_PARAMETERS = r"""[ \t]*(?:;(?:[\t !#-+\--~]|"(?:[\t !#-\[\]-~]|\\[\t -~])*")*)?"""
_MEDIA_TYPE = re.compile(rf"[ \t]*({_TCHARS}/{_TCHARS}){_PARAMETERS}")

_PATTERN = re.compile(rf"\*/\*|{_TCHARS}/(\*|{_TCHARS})")

# Clients that know nothing declare these: the last is what curl says of any body.
_NO_CLAIM = {OCTET_STREAM, "binary/octet-stream", "application/x-www-form-urlencoded"}

# Types that a page of the host's own would run, or be styled by, if it were made to name the
# content: an attachment runs there too, and a Content-Security-Policy with 'self' lets it. Because
# of nosniff, content of another type is neither script nor stylesheet. Browsers show each part of a
# multipart answer, or of a mail, as what it says that it is.
_ACTIVE = re.compile(
    r".*(java|ecma|live|j|vb)script|text/(x-)?(css|xsl)|application/(xslt|wasm)"
    r"|multipart/|message/",
)

# Types that are, or may be, a document with scripts, or are a program for some part of a browser:
# HTML, XML and everything written in it, archives of pages, applets, and packages that a browser
# offers to install.
_DOCUMENT = re.compile(
    r".*/(.*[.+-])?(x?html?|mhtml?|xml|xul|svg|svgz|rdf|hta|htc|mimearchive)([.+-].*)?"
    r"|.*(java|shockwave|flash|silverlight|xpinstall|x-chrome-extension|x-component|scriptlet"
    r"|manifest).*",
)


def one_type(text: object) -> str | None:
    """Read the MIME type that a text names, in lower case and without parameters.

    :param text: From outside: of any type, length and alphabet.
    :return: ASCII of at most :data:`MAX_LENGTH` characters; ``None`` if the text is not exactly one
        type.
    """
    mime_type = _read(text)
    if mime_type is None or "*" in mime_type:
        return None
    return mime_type


def claim_of(declared: object) -> str | None:
    """Read the claim in a declared type.

    :return: One type, or a range of them such as ``image/*``. ``None`` if nothing is claimed: by a
        text that is neither, or by a type that clients send when they know none.
    """
    claim = _read(declared)
    if claim is None or claim in _NO_CLAIM:
        return None
    if "*" in claim.removesuffix("/*"):
        return None
    return claim


def declared_type(declared: object) -> str | None:
    """Read the claim in a declared type, if it is one type and not a range."""
    claim = claim_of(declared)
    if claim is None or "*" in claim:
        return None
    return claim


def served_type(stored: str | None) -> str:
    """Choose the ``Content-Type`` that content is served with.

    :param stored: The type in its record, in whatever version it was stored.
    :return: One type that no page runs as its script and none takes as its stylesheet.
    """
    mime_type = one_type(stored)
    if mime_type is None or _ACTIVE.match(mime_type):
        return OCTET_STREAM
    return mime_type


def is_active(mime_type: str) -> bool:
    """Tell whether content of a type could run, or hold what runs, where a browser shows it."""
    if _ACTIVE.match(mime_type):
        return True
    return _DOCUMENT.fullmatch(mime_type) is not None


def is_pattern(text: str) -> bool:
    """Tell whether a text is a type, a range such as ``image/*``, or ``*/*``."""
    return _PATTERN.fullmatch(text) is not None


def matches(pattern: str, mime_type: str) -> bool:
    """Tell whether a type is the one, or in the range, that a pattern names."""
    pattern = pattern.lower()
    if pattern == "*/*":
        return True
    if pattern.endswith("/*"):
        return mime_type.startswith(pattern[:-1])
    return mime_type == pattern


def _read(text: object) -> str | None:
    """Read one type or range, in lower case and without parameters."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    if not isinstance(text, str):
        return None
    match = _MEDIA_TYPE.fullmatch(text)
    if match is None or len(match[1]) > MAX_LENGTH:
        return None
    return match[1].lower()
