"""Sources of media, as a host passes them to a function.

A source is a stream, bytes, a file of the system, or a URL.
"""

from __future__ import annotations

import io
import os
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

from ..databases.storable import camelcase, plain
from ..errors import InvalidMedia
from ..models import Media
from .external_urls import is_absolute


class ExternalURL(str):
    """The URL of external media, which may be relative to the page that shows it.

    A plain ``str`` has to be an http or https URL: anything else may be the name of a file, passed
    by mistake. Where a text is a URL for certain, as a field of a request, say so:
    ``save_product_image(product_id, ExternalURL(text))``.
    """


Source = t.BinaryIO | os.PathLike[str] | str | bytes | bytearray | memoryview | t.Any
"""The media itself: a binary stream, bytes, a path, or a URL.

The stream may be an uploaded file of Flask, the path is a ``pathlib.Path``. A ``str`` is the http
or https URL of external media. :class:`ExternalURL` may be relative too.
"""

_ACCEPTED = "a binary stream, bytes, a pathlib.Path, or the http(s) URL of external media as a str"


def url_of(kind: type[Media], source: Source) -> str | None:
    """Return the URL of external media, and ``None`` for a source that has bytes.

    :raises InvalidMedia: It is text, and no http or https URL.
    """
    text = plain(source)
    if not isinstance(text, str):
        return None
    if not isinstance(source, ExternalURL) and not is_absolute(text):
        message = (
            "Not an http or https URL. Pass a file as pathlib.Path(...), "
            "a relative URL as ExternalURL(...)."
        )
        raise InvalidMedia({camelcase(kind.url_field): [message]})
    return text


def list_of(sources: t.Iterable[Source]) -> list[Source]:
    """List several sources.

    :raises TypeError: It is one alone.
    """
    if _is_one_source(sources) or not hasattr(sources, "__iter__"):
        raise TypeError(f"sources is a list, each of them {_ACCEPTED}; not {_described(sources)}")
    return list(sources)


def _is_one_source(value: t.Any) -> bool:
    if isinstance(plain(value), str | bytes | bytearray | memoryview | os.PathLike):
        return True
    return hasattr(value, "read")


@contextmanager
def opened(source: Source) -> Iterator[t.BinaryIO]:
    """Open the source as a stream for this block. A stream of the host's stays open after it.

    :raises TypeError: No bytes can be read from it.
    :raises OSError: The file is not there, or cannot be read.
    """
    if isinstance(source, os.PathLike):
        with open(source, "rb") as file:
            yield file
        return

    stream: t.Any = source
    if isinstance(source, memoryview):
        stream = io.BytesIO(source.tobytes())  # which may skip bytes of what it is a view of
    elif isinstance(source, bytes | bytearray):
        stream = io.BytesIO(source)
    if isinstance(stream, io.TextIOBase):
        raise TypeError("the source is a text stream: open it with open(..., 'rb')")
    if not callable(getattr(stream, "read", None)):
        raise TypeError(f"the source of media is {_ACCEPTED}; not {_described(source)}")
    yield stream


def name_of(stream: t.Any) -> str | None:
    """Find the filename of a stream.

    An uploaded file of Flask has its own, and a file of the system that of its path.
    """
    name = getattr(stream, "filename", None) or getattr(stream, "name", None)
    if isinstance(name, bytes):
        return os.fsdecode(name)
    if isinstance(name, str):
        return name
    return None


def _described(source: t.Any) -> str:
    source_type = type(source)
    name = f"{source_type.__module__}.{source_type.__qualname__}"
    return name.removeprefix("builtins.")
