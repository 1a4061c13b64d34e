"""Which media of one document is used."""

from __future__ import annotations

from flask import Response
from flask_smorest import Blueprint
from marshmallow import fields, validate

from .. import schemas
from ..accesses.stats import Sort, stats_of
from ..models import KINDS, Media
from ..state import get_state
from . import errors
from .added_fields import Values
from .answers import json_answer
from .callers import require_caller, token_first
from .mounting import Description, add_function
from .records import MAX_LIMIT, SECURITY

_SORTS: dict[str, Sort] = {"accessCount": "access_count", "lastAccessedAt": "last_accessed_at"}


class StatsQuerySchema(schemas.WireSchema):
    """The document whose media is asked about, and which of it."""

    reference_type = schemas.Text(required=True, validate=validate.Length(min=1, max=64))
    reference_id = schemas.Text(required=True, validate=validate.Length(min=1, max=255))
    sort = fields.String(
        load_default="accessCount",
        validate=validate.OneOf(list(_SORTS)),
        metadata={"description": "The most accessed, or the last accessed, first."},
    )
    limit = schemas.WholeNumber(load_default=20, validate=validate.Range(min=1, max=MAX_LIMIT))


def _with_kind(kind: type[Media]) -> type[schemas.MediaSchema]:
    """The schema of a record among those of other kinds."""
    base = type(schemas.schema_of(kind))
    name = fields.String(required=True, validate=validate.Equal(kind.kind))
    return type(f"{kind.__name__}WithKindSchema", (base,), {"kind": name, "__doc__": base.__doc__})


_NUMBER = {"type": "integer", "minimum": 0}

_ITEMS = {"type": "array", "items": {"oneOf": [_with_kind(kind) for kind in KINDS.values()]}}

_TOTALS = {
    "type": "object",
    "properties": {
        "media": _NUMBER,
        "bytes": _NUMBER,
        "derivedBytes": _NUMBER,
        "accesses": _NUMBER,
    },
    "description": "Of all media of the owner that the caller may see.",
}

_PARTIAL = {
    "type": "boolean",
    "description": "A database does not answer: what it holds is not considered.",
}

_ANSWER: Description = {
    "type": "object",
    "properties": {"items": _ITEMS, "totals": _TOTALS, "partial": _PARTIAL},
}


def stats(query: Values) -> Response:
    """Read which media of a document is used

    All of it that the caller may read, of every kind. Reads count after a moment.
    """
    caller = require_caller()
    statistics = stats_of(
        get_state(),
        query["reference_type"],
        query["reference_id"],
        sort=_SORTS[query["sort"]],
        limit=query["limit"],
        visible_to=caller.sees,
        may_read=lambda record: caller.may("read", record),
    )

    items = [schemas.dump_media(record) | {"kind": record.kind} for record in statistics.records]
    totals = {
        "media": statistics.media,
        "bytes": statistics.size,
        "derivedBytes": statistics.derived_size,
        "accesses": statistics.accesses,
    }
    return json_answer({"items": items, "totals": totals, "partial": statistics.partial})


def add_views(blueprint: Blueprint) -> None:
    """Add the route of the statistics."""
    answer = {"description": "OK", "content": {"application/json": {"schema": _ANSWER}}}
    add_function(
        blueprint,
        stats,
        "/stats",
        [
            token_first,
            blueprint.doc(security=SECURITY, operationId="get_stats", responses={"200": answer}),
            blueprint.arguments(StatsQuerySchema, location="query"),
            errors.documented(blueprint, 401, 422, 503),
        ],
    )
