"""Methods of tus for clients that cannot send every method."""

from __future__ import annotations

import typing as t

from flask import request
from flask.views import MethodView
from werkzeug.exceptions import BadRequest, MethodNotAllowed

from .callers import require_caller
from .request_headers import SAFE_METHODS


class OverridableView(MethodView):
    """A resource of tus.

    "The X-HTTP-Method-Override request header MUST be a string which MUST be interpreted as the
    request's method by the Server, if the header is presented. The actual method of the request
    MUST be ignored."

    A method that changes nothing never becomes one that does: nobody would have asked it for a CSRF
    token.
    """

    def dispatch_request(self, **kwargs: t.Any) -> t.Any:
        actual = request.method
        method = request.headers.get("X-HTTP-Method-Override", actual).upper()
        if method == actual:
            return super().dispatch_request(**kwargs)

        if actual in SAFE_METHODS:
            raise BadRequest("X-HTTP-Method-Override comes with POST.")
        require_caller()
        if not method.isascii():
            raise BadRequest("X-HTTP-Method-Override has characters that are not ASCII.")
        allowed = self.methods or ()
        if method not in allowed:
            raise MethodNotAllowed([*allowed])
        return getattr(self, method.lower())(**kwargs)
