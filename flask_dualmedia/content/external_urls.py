"""URLs of external media: the ones that are kept, and those that their readers are sent to."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import SplitResult, urlsplit

from werkzeug.urls import iri_to_uri

MAX_URL = 2048
"""Characters of a URL, as it is kept and as it is sent: proxies take headers of a few KiB."""

SCHEMES = ("http", "https")

_LABEL = re.compile(r"[A-Za-z0-9_-]{1,63}")

_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")

_DEVIATING = frozenset("\u00df\u03c2")
"""Letters that two versions of IDNA make different hosts of."""


def fault_of(url: str) -> str | None:
    """Say what is wrong with a URL reference (RFC 3986), if anything is.

    A right one can be followed by any browser: it is http, https, or relative to the page.
    """
    fault = _fault_of_characters(url) or _fault_of_parts(url)
    if fault is None and len(iri_to_uri(url)) > MAX_URL:
        return f"Longer than maximum length {MAX_URL} when it is written in ASCII."
    return fault


def _fault_of_characters(url: str) -> str | None:
    if not url.isprintable() or any(character.isspace() for character in url):
        return "Not a URL: contains blanks or control characters."
    if "\\" in url:
        return "Not a URL: contains a backslash, which browsers take for a slash."
    return None


def _fault_of_parts(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "Not a URL."
    if parts.scheme not in ("", *SCHEMES):
        return "Only http and https URLs are accepted."
    if parts.scheme or url.startswith("//"):
        return _fault_of_authority(parts)
    if not parts.path:
        return "Names no file."
    return None


def is_absolute(url: str) -> bool:
    """Tell whether a text is meant as a whole URL, with a scheme and a host."""
    return re.match(r"https?://", url, re.IGNORECASE) is not None


def location_of(url: str | None) -> str | None:
    """Write a URL as it is sent in ``Location``: in ASCII.

    :param url: As it was kept, by whatever version.
    :return: ``None`` if no client could follow it.
    """
    try:
        location = iri_to_uri(url or "")
        is_web = urlsplit(location).scheme in ("", *SCHEMES)
    except ValueError:
        # The port is none, brackets have no address in them, or IDNA does not know the host.
        return None
    is_whole = location.isascii() and location.isprintable() and " " not in location
    if not location or not is_web or not is_whole:
        return None
    return location


def _fault_of_authority(parts: SplitResult) -> str | None:
    """Say what is wrong with user, host and port of a whole URL."""
    if "@" in parts.netloc:
        return "Contains a user or a password, which every reader would see."
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        return "The port is none."
    if not parts.hostname or not _is_host(parts.hostname):
        return "Names no host. One beyond ASCII may be written as xn--..."
    return None


def _is_host(host: str) -> bool:
    """Tell whether a host is an address, or a name that all versions of IDNA read alike."""
    if ":" in host:  # in brackets
        return _is_address(host, IPv6Address)
    if not _DEVIATING.isdisjoint(host):
        return False
    try:
        name = host.encode("idna").decode("ascii").removesuffix(".")
    except UnicodeError:
        return False
    labels = name.split(".")
    if len(name) > 253:
        return False
    if not all(map(_LABEL.fullmatch, labels)):
        return False
    if _NUMBER.fullmatch(labels[-1]):
        # Browsers read a host that ends in a number as an address.
        return _is_address(name, IPv4Address)
    return True


def _is_address(text: str, kind: type[IPv4Address] | type[IPv6Address]) -> bool:
    try:
        kind(text)
    except AddressValueError:
        return False
    return "%" not in text  # the zone of one host's network
