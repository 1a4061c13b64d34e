"""Who may do what with a media record."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from functools import wraps

from flask_jwt_extended import get_jwt, get_jwt_identity, verify_jwt_in_request
from flask_jwt_extended.exceptions import JWTExtendedException
from jwt import PyJWTError
from werkzeug.exceptions import Unauthorized

from .models import Media
from .repositories.base import EVERYTHING
from .schemas import is_storable
from .state import get_state

V = t.TypeVar("V", bound=t.Callable[..., t.Any])


@dataclass(frozen=True)
class Caller:
    """Who sends the request, by a verified JWT."""

    identity: str
    is_admin: bool

    def may_read(self, record: Media) -> bool:
        return record.is_public or self.may_change(record)

    def may_change(self, record: Media) -> bool:
        return self.is_admin or record.uploaded_by == self.identity

    @property
    def sees(self) -> t.Any:
        """What lists show: :attr:`~flask_dualmedia.repositories.base.Listing.visible_to`."""
        return EVERYTHING if self.is_admin else self.identity


def require_caller() -> Caller:
    """The caller of a request with a valid JWT; the errors of flask-jwt-extended are answered by the blueprint."""
    verify_jwt_in_request()
    claims, identity = get_jwt(), str(get_jwt_identity())
    if len(identity) > 255 or not is_storable(identity):
        raise Unauthorized("The identity in the token is not one that can be kept with media.")
    role, roles = claims.get("role"), claims.get("roles")
    held = [role, *roles] if isinstance(roles, list) else [role]
    return Caller(identity, get_state().settings.admin_role in held)


def is_admin() -> bool:
    """Whether the request comes from an admin; no token, or a bad one, is no error here."""
    try:
        return require_caller().is_admin
    except (JWTExtendedException, PyJWTError, Unauthorized):
        return False


def token_first(view: V) -> V:
    """Decorator that refuses requests without a valid JWT before anything else about them is looked at."""

    @wraps(view)
    def wrapped(*args: t.Any, **kwargs: t.Any) -> t.Any:
        verify_jwt_in_request()
        return view(*args, **kwargs)

    return t.cast(V, wrapped)
