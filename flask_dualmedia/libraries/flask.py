"""Uses of Flask beyond what its types say."""

from __future__ import annotations

from flask.ctx import AppContext
from flask.globals import app_ctx


def current_context() -> AppContext:
    """The current app context itself, not the proxy.

    :raises RuntimeError: There is none.
    """
    return app_ctx._get_current_object()  # type: ignore[attr-defined]
