"""Uses of Werkzeug beyond what it documents."""

from __future__ import annotations

from werkzeug.wrappers import Request


def read_data(request: Request) -> bytes | None:
    """The body of a request, if somebody has read it with ``get_data``; ``None`` before."""
    return vars(request).get("_cached_data")
