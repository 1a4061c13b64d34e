"""Answers that are the same in every app, whatever it does with its own."""

from __future__ import annotations

import json
import typing as t
from functools import cache

from flask import Response, current_app
from werkzeug.datastructures import Headers

from ..content.inline_types import SANDBOX

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_FOR_ONE_READER = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}

_AS_IT_IS = "identity"


def json_answer(payload: t.Any, status: int = 200) -> Response:
    """An answer in our own JSON, for whoever asked, and for no cache.

    Names on the wire are ours, however the app's provider writes its own.
    """
    text = json.dumps(payload, separators=(",", ":"))
    return current_app.response_class(
        f"{text}\n", status=status, mimetype="application/json", headers=_FOR_ONE_READER
    )


def empty_answer(status: int = 204) -> Response:
    """An answer without a body, and so without a type.

    Hooks that compress would make a body of nothing.
    """
    response = current_app.response_class(status=status)
    del response.headers["Content-Type"]
    return response


def content_answer(policy: str, **arguments: t.Any) -> Response:
    """An answer for content, of the app's own class.

    Hooks of the app may do with it what they do with every answer. Three things hold in the end all
    the same:

    * Content keeps its Content-Security-Policy, together with that of the app.
    * An answer that any cache may keep gives nobody's cookie to others.
    * The bytes are those that ranges and validators are about: hooks that compress leave encoded
      answers alone.
    """
    response = _content_class(current_app.response_class)(**arguments)
    t.cast("_Content", response).policy = policy
    response.headers["Content-Encoding"] = _AS_IT_IS
    response.headers["Content-Security-Policy"] = policy
    return response


@cache
def _content_class(base: type[Response]) -> type[Response]:
    return t.cast("type[Response]", type("ContentResponse", (_Content, base), {}))


class _Content:
    """The part of an answer for content that no hook of the app changes."""

    policy = SANDBOX

    def get_wsgi_headers(self, environ: WSGIEnvironment) -> Headers:
        """The headers as they are sent, when every hook and the session have had their say."""
        headers: Headers = super().get_wsgi_headers(environ)  # type: ignore[misc]
        # It "is used only in the Accept-Encoding header field" (RFC 9110, section 8.4.1).
        if headers.get("Content-Encoding") == _AS_IT_IS:
            del headers["Content-Encoding"]
        headers["X-Content-Type-Options"] = "nosniff"
        if self.policy not in headers.getlist("Content-Security-Policy"):
            # Browsers keep to all policies at once.
            headers.add("Content-Security-Policy", self.policy)
        if "public" in headers.get("Cache-Control", ""):
            headers.remove("Set-Cookie")
            _forget_cookies(headers)
        return headers


def _forget_cookies(headers: Headers) -> None:
    """Take cookies out of the headers that the answer varies with."""
    names: list[str] = []
    for member in ",".join(headers.getlist("Vary")).split(","):
        name = member.strip()
        if name and name.lower() != "cookie":
            names.append(name)

    headers.remove("Vary")
    if names:
        headers["Vary"] = ", ".join(names)
