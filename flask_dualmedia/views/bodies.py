"""The body of a request, as the server gives it."""

from __future__ import annotations

import typing as t

from flask import request
from werkzeug.exceptions import BadRequest, ClientDisconnected, HTTPException
from werkzeug.wsgi import get_input_stream


class _Body:
    """``wsgi.input``, whose errors are the client's.

    A server finds out while it is read that a body is no valid message, a chunked one for example. PEP 3333 has no
    error for that: each server has its own.
    """

    def __init__(self, stream: t.BinaryIO) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except HTTPException:
            raise
        except (OSError, ValueError) as error:  # it was closed
            raise ClientDisconnected from error
        except Exception as error:
            raise BadRequest("The body is not what its headers say.") from error

    def __getattr__(self, name: str) -> t.Any:
        if name == "readinto":  # Werkzeug would prefer it
            raise AttributeError(name)
        return getattr(self._stream, name)


def guard() -> None:
    """Make broken bodies of requests to the blueprint an error of the client."""
    environ = request.environ
    environ["wsgi.input"] = _Body(environ["wsgi.input"])


def open_body() -> t.BinaryIO:
    """The body, of whatever size: whoever reads it has to count.

    ``request.stream`` would hold it to the host's limit, and under any limit copies it three times.
    """
    return t.cast(t.BinaryIO, get_input_stream(request.environ))
