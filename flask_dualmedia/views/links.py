"""Routes of signed links: make one, and revoke all of a record."""

from __future__ import annotations

import typing as t

from flask import Response, request
from flask.views import MethodView
from flask_smorest import Blueprint
from marshmallow import fields, validate

from .. import lifecycle, links, schemas
from ..models import Media
from ..security import require_caller
from ..state import get_state
from . import errors
from .answers import empty_answer, json_answer
from .records import MEDIA_ID, SECURITY, permitted, read_json


class LinkRequestSchema(schemas.WireSchema):
    """What a link is to be."""

    expires_in = schemas.WholeNumber(
        validate=validate.Range(min=1), metadata={"description": "Seconds that it holds; there is a longest time."}
    )
    only_for_me = fields.Boolean(
        load_default=False, metadata={"description": "It opens only together with a token of the same identity."}
    )


class LinkSchema(schemas.WireSchema):
    """A link to the content."""

    url = fields.String(metadata={"description": "Path that needs no token."})
    expires_at = fields.AwareDateTime()


_REQUEST = LinkRequestSchema()


def add_views(blueprint: Blueprint, kind: type[Media]) -> None:
    """Add the routes of one kind."""
    name = kind.kind.replace("-", "_")

    @blueprint.route(f"/{kind.kind}/<string:media_id>/link", endpoint=f"{name}_link", parameters=[MEDIA_ID])
    class SignedLink(MethodView):
        @blueprint.doc(
            security=SECURITY,
            operationId=f"link_{name}",
            requestBody={"required": False, "content": {"application/json": {"schema": LinkRequestSchema}}},
        )
        @blueprint.response(201, LinkSchema)
        @errors.documented(blueprint, 400, 401, 403, 404, 408, 413, 415, 422, 503)
        def post(self, media_id: str) -> Response:
            """Make a link to the content

            For pages and e-mail: whoever has it reads the content until it expires or is revoked.
            """
            caller = require_caller()
            record = permitted("link", kind, media_id, caller)
            wanted = _REQUEST.load({}) if _is_empty() else read_json(_REQUEST)
            wanted = t.cast("dict[str, t.Any]", wanted)
            longest = get_state().settings.link_max_seconds
            seconds = min(wanted.get("expires_in", get_state().settings.link_seconds), longest)
            identity = caller.identity if wanted["only_for_me"] else None
            url, expires = links.make_link(record, expires_in=seconds, identity=identity)
            return json_answer({"url": url, "expiresAt": expires.isoformat()}, 201)

        @blueprint.doc(security=SECURITY, operationId=f"revoke_{name}_links")
        @blueprint.response(204)
        @errors.documented(blueprint, 401, 403, 404, 503)
        def delete(self, media_id: str) -> Response:
            """Revoke all links to the content that were made until now"""
            record = permitted("edit", kind, media_id, require_caller())
            lifecycle.revoke_links(get_state(), record)
            return empty_answer()


def _is_empty() -> bool:
    return not request.content_length and "Transfer-Encoding" not in request.headers
