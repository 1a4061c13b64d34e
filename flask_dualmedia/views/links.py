"""Routes of signed links: make one, and revoke all of a record."""

from __future__ import annotations

import time
import typing as t

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import fields, validate
from werkzeug.exceptions import Forbidden

from .. import lifecycle, links, schemas
from ..authorization import Claims
from ..models import Media
from ..state import get_state
from . import errors
from .added_fields import Values
from .answers import empty_answer, json_answer
from .callers import Caller, require_caller
from .mounting import KindView, add_view, name_of
from .records import MEDIA_ID, SECURITY, permitted, read_json
from .request_headers import CONDITION_PARAMETERS, REFUSALS, check_conditions

MAX_LINK = 4000
"""Characters of a link. Servers take request lines of 4094 bytes, some of them no longer ones."""


class LinkRequestSchema(schemas.WireSchema):
    """The link that a caller asks for."""

    expires_in = schemas.WholeNumber(
        validate=validate.Range(min=1),
        metadata={"description": "Seconds that it holds; there is a longest time."},
    )
    only_for_me = fields.Boolean(
        load_default=False,
        metadata={"description": "It opens only together with a token of the same identity."},
    )


class LinkSchema(schemas.WireSchema):
    """A link to the content."""

    url = fields.String(metadata={"description": "Path that needs no token."})
    expires_at = fields.AwareDateTime()


_REQUEST = LinkRequestSchema()


class SignedLink(KindView):
    """The signed links of a record."""

    def post(self, media_id: str) -> Response:
        """Make a link to the content

        For pages and e-mail: whoever has it reads the content until it expires or is revoked,
        as long as whoever made it may. Where that rests on claims of the token, it ends with
        the token.
        """
        caller = require_caller()
        record = permitted("link", self.kind, media_id, caller)
        check_conditions(record)
        options = _read_options()

        claims = _claims_of(caller, record)
        seconds = _seconds_of(options, caller, claims)
        identity = None
        if options["only_for_me"]:
            identity = caller.identity
        url, expires = links.make_link(
            record, expires_in=seconds, identity=identity, maker=caller.identity, claims=claims
        )
        if len(url) > MAX_LINK:
            raise Forbidden(
                "You may read this by claims of your token that are too long for a link."
            )

        return json_answer({"url": url, "expiresAt": expires.isoformat()}, 201)

    def delete(self, media_id: str) -> Response:
        """Revoke all links to the content that were made until now"""
        record = permitted("edit", self.kind, media_id, require_caller())
        check_conditions(record)
        lifecycle.revoke_links(get_state(), record, check=check_conditions)
        return empty_answer()


def add_views(blueprint: Blueprint, kind: type[Media]) -> None:
    """Add the routes of one kind."""
    name = name_of(kind)
    options = {"application/json": {"schema": LinkRequestSchema}}
    add_view(
        blueprint,
        SignedLink,
        f"/{kind.kind}/<string:media_id>/link",
        f"{name}_link",
        kind=kind,
        parameters=[MEDIA_ID],
        post=[
            blueprint.doc(
                security=SECURITY,
                operationId=f"link_{name}",
                parameters=CONDITION_PARAMETERS,
                requestBody={"required": False, "content": options},
            ),
            blueprint.response(201, LinkSchema),
            errors.documented(blueprint, *REFUSALS, 401, 403, 404, 413, 422, 503),
        ],
        delete=[
            blueprint.doc(
                security=SECURITY,
                operationId=f"revoke_{name}_links",
                parameters=CONDITION_PARAMETERS,
            ),
            blueprint.response(204),
            errors.documented(blueprint, *REFUSALS, 401, 403, 404, 503),
        ],
    )


def _read_options() -> Values:
    """The link that is asked for: that of a request without a body has every default."""
    if _is_empty():
        return t.cast(Values, _REQUEST.load({}))
    return read_json(_REQUEST)


def _seconds_of(options: Values, caller: Caller, claims: Claims) -> float:
    """How long a link holds: one that rests on claims ends with the token that has them."""
    settings = get_state().settings
    seconds = min(options.get("expires_in", settings.link_seconds), settings.link_max_seconds)
    if claims and "exp" in caller.claims:
        token_seconds = caller.claims["exp"] - time.time()
        return min(seconds, token_seconds)
    return seconds


def _claims_of(caller: Caller, record: Media) -> Claims:
    """The claims that a link carries, so that the rule lets its maker read.

    There are none where the identity is enough.

    :raises Forbidden: The maker may read by claims that links do not carry.
    """
    if links.may_read_by_link(record, caller.identity, {}):
        return {}
    names = get_state().settings.link_claims
    claims = {name: caller.claims[name] for name in names if name in caller.claims}
    if not links.may_read_by_link(record, caller.identity, claims):
        raise Forbidden("You may read this by claims of your token that links do not carry.")
    return claims


def _is_empty() -> bool:
    return not request.content_length and "Transfer-Encoding" not in request.headers
