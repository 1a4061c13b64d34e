"""The pages that people see. Who they are is in a cookie."""

from __future__ import annotations

import math
import time
import typing as t

from flask import Blueprint, Response, g
from flask_jwt_extended import (
    get_csrf_token,
    get_jwt,
    set_access_cookies,
    unset_jwt_cookies,
    verify_jwt_in_request,
)
from flask_jwt_extended.exceptions import CSRFError, JWTExtendedException
from jwt.exceptions import PyJWTError

from flask_dualmedia import dump_media, picture, variant_url

from ..security import Viewer, make_access_token, viewer
from ..users import find_user
from . import account, courses, products, upload

RENEW_BEFORE_END = 30 * 60  # seconds

# Everything is ours but pictures and videos that products and courses name by URL. No inline
# scripts or styles.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' https: http: data:; media-src 'self' https: http:; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)

blueprint = Blueprint("pages", __name__)

for part in (products, courses, account, upload):
    blueprint.register_blueprint(part.blueprint)


@blueprint.before_request
def recognise_viewer() -> None:
    """Read the cookie. One that has expired, or a form without its CSRF token, is that of an
    anonymous viewer."""
    try:
        verify_jwt_in_request(optional=True, locations="cookies")
    except (JWTExtendedException, PyJWTError) as error:
        g.viewer = Viewer()
        g.is_forged = isinstance(error, CSRFError)
        return
    claims = get_jwt()
    if claims.get("exp", math.inf) - time.time() < RENEW_BEFORE_END:
        renew_login(claims["sub"])
    else:
        g.csrf_token = claims.get("csrf", "")
        viewer()


def renew_login(user_id: str) -> None:
    """Give a new token to a viewer who comes back shortly before the old one ends, with the role
    that they have now.

    A viewer whose account is gone is nobody from now on.
    """
    user = find_user(user_id)
    if user is None:
        g.viewer, g.new_token = Viewer(), None
        return
    g.viewer = Viewer(user_id, user["name"], user["role"])
    g.new_token = make_access_token(user)
    g.csrf_token = get_csrf_token(g.new_token)


@blueprint.after_request
def keep_login(response: Response) -> Response:
    """Send the token that this request was given, unless it has logged in or out itself."""
    if "new_token" not in g or g.get("has_chosen_login"):
        return response
    if g.new_token is None:
        unset_jwt_cookies(response)
    else:
        set_access_cookies(response, g.new_token)
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


blueprint.add_app_template_global(picture, "show_picture")
blueprint.add_app_template_global(variant_url)


@blueprint.app_template_filter()
def money(cents: int) -> str:
    return f"€ {cents / 100:,.2f}"


@blueprint.app_template_filter()
def media_url(media: t.Any) -> str:
    """The URL from which the browser gets the bytes: our content route, or another server."""
    dumped = dump_media(media)
    return next(dumped[key] for key in ("imageUrl", "videoUrl", "resourceUrl") if key in dumped)


@blueprint.app_template_filter()
def main_image(product: dict[str, t.Any]) -> t.Any:
    """The main picture, else the first, else ``None``."""
    images = product["images"]
    return next((image for image in images if image.is_main_image), images[0] if images else None)
