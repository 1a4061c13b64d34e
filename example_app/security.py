"""The viewer and their rights. Tokens come in a header (programs) or in cookies (pages)."""

from __future__ import annotations

import dataclasses
import typing as t
from http import HTTPStatus

from flask import Flask, abort, g
from flask.typing import ResponseReturnValue
from flask_jwt_extended import JWTManager, create_access_token, create_refresh_token, get_jwt

from flask_dualmedia import CourseResource, CourseVideo, Owner, default_rule, get_owner
from flask_dualmedia.authorization import Action

from .database import Document
from .errors import error_body

ADMIN = "admin"


@dataclasses.dataclass(frozen=True)
class Viewer:
    """The caller of the current request. ``id`` is ``None`` for an anonymous one."""

    id: str | None = None
    name: str | None = None
    role: str | None = None

    def may_change(self, document: Document) -> bool:
        """Tell whether the viewer is the creator of the document, or an admin."""
        return self.role == ADMIN or (
            self.id is not None and self.id == str(document["creator_id"])
        )

    @property
    def claims(self) -> dict[str, t.Any]:
        """The identity that the extension takes as ``visible_to``: it shows media and hands out
        content by it."""
        return {"sub": self.id, "role": self.role}


def authorize(
    action: Action, subject: t.Any, identity: str | None, claims: t.Mapping[str, t.Any]
) -> bool:
    """The app's rule for media, for ``DUALMEDIA_AUTHORIZE``. Beside what the extension allows, the
    students of a course see its videos and resources. Only admins add media to owners that have no
    document in this app."""
    if isinstance(subject, Owner) and get_owner(subject) is None:
        return claims.get("role") == ADMIN
    if default_rule(action, subject, identity, claims):
        return True
    if action in ("read", "link") and isinstance(subject, CourseVideo | CourseResource):
        return identity in (get_owner(subject) or {}).get("student_ids", ())
    return False


def init_app(app: Flask) -> None:
    jwt = JWTManager(app)

    @jwt.unauthorized_loader
    @jwt.invalid_token_loader
    def refuse(reason: str) -> ResponseReturnValue:
        return error_body(HTTPStatus.UNAUTHORIZED, reason), HTTPStatus.UNAUTHORIZED

    @jwt.expired_token_loader
    def refuse_expired(header: dict, claims: dict) -> ResponseReturnValue:
        return refuse("The token has expired.")


def viewer() -> Viewer:
    """The caller, as the token checked by ``jwt_required`` says."""
    if "viewer" not in g:
        claims = get_jwt()
        g.viewer = Viewer(claims.get("sub"), claims.get("name"), claims.get("role"))
    return g.viewer


def require_change(document: Document) -> None:
    if not viewer().may_change(document):
        abort(403, "Only the creator and admins may change this.")


def make_access_token(user: Document) -> str:
    return create_access_token(
        str(user["_id"]), additional_claims={"name": user["name"], "role": user["role"]}
    )


def make_refresh_token(user: Document) -> str:
    return create_refresh_token(str(user["_id"]))
