"""Forms of people who are not logged in: another site cannot send them in a visitor's name.

A form has the value of a cookie, which the other site can neither read nor set. Whoever is logged
in has such a pair by flask-jwt-extended.
"""

from __future__ import annotations

import hmac
import secrets

from flask import Flask, Response, abort, current_app, g, request

COOKIE = "form_token"
FIELD = "csrf_token"


def init_app(app: Flask) -> None:
    app.add_template_global(form_token)
    app.after_request(keep_form_token)


def form_token() -> str:
    """The value for the form's hidden field."""
    token = g.get("form_token") or request.cookies.get(COOKIE) or secrets.token_urlsafe(24)
    g.form_token = token
    return token


def keep_form_token(response: Response) -> Response:
    token = g.get("form_token")
    if token is not None and request.cookies.get(COOKIE) != token:
        secure = current_app.config["JWT_COOKIE_SECURE"]
        response.set_cookie(COOKIE, token, httponly=True, secure=secure, samesite="Lax")
    return response


def check_form() -> None:
    """Refuse a form that another site sends, with 403."""
    cookie = request.cookies.get(COOKIE, "")
    sent = request.form.get(FIELD, "")
    if not cookie or not hmac.compare_digest(
        cookie.encode(errors="replace"), sent.encode(errors="replace")
    ):
        abort(403, "The form has expired. Go back, load the page again, and send it once more.")
