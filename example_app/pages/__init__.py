"""The pages that people see. Who they are is in a cookie."""

from __future__ import annotations

import math
import time
import typing as t

from flask import Blueprint, Response, g
from flask_jwt_extended import get_jwt, set_access_cookies, verify_jwt_in_request
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt.exceptions import PyJWTError

from flask_dualmedia import dump_media

from ..security import Viewer, renew_access_token, viewer
from . import account, courses, products, upload

RENEW_BEFORE_END = 30 * 60  # seconds

# Everything is ours but pictures and videos that products and courses name by URL. No inline scripts or styles.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' https: http: data:; media-src 'self' https: http:; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)

blueprint = Blueprint("pages", __name__)

for part in (products, courses, account, upload):
    blueprint.register_blueprint(part.blueprint)


@blueprint.before_request
def recognise_viewer() -> None:
    """Read the cookie. One that has expired, or a form without its CSRF token, is that of an anonymous viewer."""
    try:
        verify_jwt_in_request(optional=True, locations="cookies")
    except (JWTExtendedException, PyJWTError):
        g.viewer = Viewer()
    else:
        g.csrf_token = get_jwt().get("csrf", "")
        viewer()


@blueprint.after_request
def renew_login(response: Response) -> Response:
    """Give a new token to who comes back shortly before the old one ends."""
    if g.get("csrf_token") and "Set-Cookie" not in response.headers:
        left = get_jwt().get("exp", math.inf) - time.time()
        if left < RENEW_BEFORE_END:
            set_access_cookies(response, renew_access_token())
    return response


@blueprint.after_request
def protect(response: Response) -> Response:
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "private, no-cache"
    return response


@blueprint.app_context_processor
def template_names() -> dict[str, t.Any]:
    return {"viewer": g.get("viewer", Viewer()), "csrf_token": g.get("csrf_token", "")}


@blueprint.app_template_filter()
def money(cents: int) -> str:
    return f"€ {cents / 100:,.2f}"


@blueprint.app_template_filter()
def media_url(media: t.Any) -> str:
    """Where the browser gets the bytes: our content route, or somebody else's server."""
    dumped = dump_media(media)
    return next(dumped[key] for key in ("imageUrl", "videoUrl", "resourceUrl") if key in dumped)


@blueprint.app_template_filter()
def main_image(product: dict[str, t.Any]) -> t.Any:
    """The main picture, else the first, else ``None``."""
    images = product["images"]
    return next((image for image in images if image.is_main_image), images[0] if images else None)
