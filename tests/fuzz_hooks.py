"""What Schemathesis has to be told for ``tests.fuzz``."""

from __future__ import annotations

import typing as t

import schemathesis

from .samples import OFFSET_TYPE

schemathesis.serializer.alias(OFFSET_TYPE, "application/octet-stream")


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, t.Any]) -> None:
    """Speak the version of tus that there is: without it nothing else about a request is looked at."""
    if "/uploads" in case.path:
        case.headers["Tus-Resumable"] = "1.0.0"
