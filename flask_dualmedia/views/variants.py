"""Routes of variants: list those of a record, and read one, which is made if it is not there."""

from __future__ import annotations

import typing as t

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import EXCLUDE, fields
from werkzeug import exceptions

from .. import schemas
from ..errors import MissingExtra
from ..models import Media
from ..state import get_state
from ..variants import making, urls
from ..variants.making import Variant
from ..variants.recipes import Recipe
from . import errors
from .answers import json_answer
from .callers import require_caller
from .content import (
    READ_ANSWERS,
    READ_HEADERS,
    Sent,
    headers_for,
    permitted_to_read,
    refuse_to_run,
    respond,
)
from .mounting import KindView, add_view, name_of
from .records import MEDIA_ID, SECURITY, parse_id, permitted
from .request_headers import check_conditions

FOR_EVER = "public, max-age=31536000, immutable"
"""The instruction to caches for a public variant by a URL that changes with its bytes."""

FOR_A_WHILE = "public, max-age=300"
"""The same by any other URL."""

FOR_A_MOMENT = "public, max-age=60"
"""The same for a variant that is not kept, and for a name that no preset has."""

_FILE_NAME = {
    "in": "path",
    "name": "file_name",
    "required": True,
    "description": "The name of a preset, and the extension of one of its formats: `card.webp`.",
    "schema": {"type": "string"},
}


class VariantQuerySchema(schemas.WireSchema):
    """The query of a request for a variant. It is described by it, and not checked."""

    class Meta(schemas.WireSchema.Meta):
        unknown = EXCLUDE

    v = fields.String(
        metadata={
            "description": "Changes with the bytes of the variant: with it, caches may keep a "
            "public one for ever."
        },
    )
    signature = fields.String(
        metadata={"description": "Of a signed link to the original; no token is needed with one."},
    )


class VariantSchema(schemas.WireSchema):
    """One size of an image in one format."""

    name = fields.String(metadata={"description": "Name of the preset."})
    mime_type = fields.String()
    url = fields.String()
    width = fields.Integer(allow_none=True, metadata={"description": "Pixels."})
    height = fields.Integer(allow_none=True, metadata={"description": "Pixels."})
    file_size = fields.Integer(
        allow_none=True,
        metadata={"description": "Bytes; null until somebody has asked for it."},
    )


class VariantListSchema(schemas.WireSchema):
    """The variants of a record."""

    items = fields.List(fields.Nested(VariantSchema))
    placeholder = fields.String(
        allow_none=True,
        metadata={"description": "A tiny picture as a data URI; null until there is a variant."},
    )
    color = fields.String(
        allow_none=True,
        metadata={"description": "The mean colour; null until there is a variant."},
    )


class Variants(KindView):
    """The variants of a record."""

    def get(self, media_id: str) -> Response:
        """List the variants of an image

        Those that nobody has asked for yet too. There are none of other media.
        """
        record = permitted("read", self.kind, media_id, require_caller())
        check_conditions(record)
        return json_answer(urls.describe_variants(get_state(), record))


class VariantContent(KindView):
    """The bytes of a variant."""

    def get(self, media_id: str, file_name: str) -> Response:
        """Read a variant

        It is made when it is asked for the first time. Whoever may read the content may read it,
        by a link too. It counts as no access.
        """
        refuse_to_run()
        state = get_state()
        recipe = state.recipes[self.kind.kind].get(file_name)
        if recipe is None:
            return _unknown()

        key = parse_id(media_id)
        record = made = None
        if key is not None:
            record, variant, content = state.home.read_variant(
                self.kind,
                key,
                recipe.preset.name,
                recipe.digest,
            )
            if record is not None and variant is not None:
                made = Variant(record, variant, content)
        signature = request.args.get("signature")
        record, reader = permitted_to_read(record, self.kind, media_id, signature)

        if made is None:
            made = _make(record, recipe)
        headers = headers_for(
            made.original,
            reader,
            public_cache=_public_cache(made, recipe),
        )
        sent = Sent(made.record, made.content, recipe.path, headers)
        return respond(sent, as_download=False)


def add_views(blueprint: Blueprint, kind: type[Media]) -> None:
    """Add the routes of one kind."""
    name = name_of(kind)
    add_view(
        blueprint,
        Variants,
        f"/{kind.kind}/<string:media_id>/variants",
        f"{name}_variants",
        kind=kind,
        parameters=[MEDIA_ID],
        get=[
            blueprint.doc(security=SECURITY, operationId=f"list_{name}_variants"),
            blueprint.response(200, VariantListSchema),
            errors.documented(blueprint, 401, 404, 412, 503),
        ],
    )
    add_view(
        blueprint,
        VariantContent,
        f"/{kind.kind}/<string:media_id>/variants/<string:file_name>",
        f"{name}_variant",
        kind=kind,
        parameters=[MEDIA_ID, _FILE_NAME],
        get=[
            blueprint.doc(
                # Without a token too, where the record is public.
                security=[*SECURITY, {}],
                operationId=f"get_{name}_variant",
                parameters=[{"in": "query", "schema": VariantQuerySchema}, *READ_HEADERS],
                responses=READ_ANSWERS,
            ),
            errors.documented(blueprint, 401, 403, 404, 412, 416, 422, 501, 503),
        ],
    )


def _unknown() -> Response:
    """The answer for a name that no preset has, whatever record it is asked of.

    Pages may name a preset for a while that was taken away.
    """
    answer = errors.answer(
        exceptions.NotFound("There is no preset of this name, or none in this format.")
    )
    answer.headers["Cache-Control"] = FOR_A_MOMENT
    return answer


def _make(record: Media, recipe: Recipe) -> Variant:
    """
    :raises NotImplemented: A package is not installed.
    """
    try:
        return making.make(get_state(), record, recipe)
    except MissingExtra as error:
        raise exceptions.NotImplemented(str(error)) from error


def _public_cache(made: Variant, recipe: Recipe) -> str:
    if not made.is_kept:
        return FOR_A_MOMENT
    checksum = t.cast(str, made.original.checksum)
    if request.args.get("v") == recipe.version_of(checksum):
        return FOR_EVER
    return FOR_A_WHILE
