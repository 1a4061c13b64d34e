"""The sender of a request, by its token, and what the rule says about them."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from functools import wraps

from flask import request
from flask_jwt_extended import get_jwt, get_jwt_identity, verify_jwt_in_request
from flask_jwt_extended.config import config as jwt_config
from flask_jwt_extended.exceptions import JWTExtendedException, NoAuthorizationError
from jwt import PyJWTError
from werkzeug.exceptions import Unauthorized

from ..authorization import Subject, Viewer, has_admin_role, is_allowed
from ..databases.storable import is_storable
from ..state import request_notes
from . import bodies

V = t.TypeVar("V", bound=t.Callable[..., t.Any])


@dataclass(frozen=True)
class Caller(Viewer):
    """The sender of a request, by a verified JWT."""

    identity: str


def anybody_may_read(record: Subject) -> bool:
    """Ask the rule whether the bytes of a record may be read without a token."""
    return is_allowed("read", record, None, {})


def require_caller() -> Caller:
    """The caller of a request with a valid JWT.

    The blueprint answers the errors of flask-jwt-extended.

    :raises NoAuthorizationError: There is no token.
    :raises Unauthorized: The identity in the token cannot be kept with media.
    """
    verified = known_caller()
    if verified is not None:
        return verified

    if request.method in jwt_config.exempt_methods:
        raise NoAuthorizationError(f"No token is looked for with {request.method}.")
    body = bodies.find_body()
    if body is None:
        verify_jwt_in_request()
    else:
        _verify_with(body)
    subject = get_jwt_identity()
    identity = str(subject)
    if subject is None or len(identity) > 255 or not is_storable(identity):
        raise Unauthorized("The identity in the token is not one that can be kept with media.")

    if body is not None:
        body.admit()
    caller = Caller(identity, get_jwt())
    request_notes()["caller"] = caller
    return caller


def _verify_with(body: bodies.Body) -> None:
    """Verify the token of a request with a body.

    To look for the token, flask-jwt-extended would read all of the body. Here the token in JSON, or
    the CSRF token in a form, is looked for at the beginning of the body alone. Views read the body
    from its start, whatever was looked at.
    """
    locations = list(jwt_config.token_location)
    if "json" in locations and not bodies.look_for_json(body):
        locations.remove("json")
        if not locations:
            raise NoAuthorizationError(
                f"No JSON object of at most {bodies.LOOK_SIZE} bytes has a token."
            )
    form = None
    if _is_csrf_in_form():
        form = bodies.look_for_fields(body)
        vars(request)["form"] = form

    try:
        verify_jwt_in_request(locations=locations)
    finally:
        if form is not None:
            del vars(request)["form"]
        body.rewind()


def _is_csrf_in_form() -> bool:
    """Tell whether the CSRF token that belongs to a cookie may be a field of the form."""
    return (
        "cookies" in jwt_config.token_location
        and jwt_config.csrf_check_form
        and jwt_config.access_cookie_name in request.cookies
        and jwt_config.access_csrf_header_name not in request.headers
        and "form" not in vars(request)  # the host may have read it already
    )


def known_caller() -> Caller | None:
    """The caller, if their token was looked at already, which takes a while."""
    return request_notes().get("caller")


def find_caller() -> Caller | None:
    """The caller, if there is one with a valid JWT. No token, or a bad one, is no error here."""
    try:
        return require_caller()
    except (JWTExtendedException, PyJWTError, Unauthorized):
        return None


def is_admin() -> bool:
    """Tell whether the request comes from an admin."""
    caller = find_caller()
    return caller is not None and has_admin_role(caller.claims)


def token_first(view: V) -> V:
    """Decorator that refuses requests without a valid JWT before anything else about them is looked
    at."""

    @wraps(view)
    def wrapped(*args: t.Any, **kwargs: t.Any) -> t.Any:
        require_caller()
        return view(*args, **kwargs)

    return t.cast(V, wrapped)
