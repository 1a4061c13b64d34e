"""Routes of media records: list, create, read, edit, delete, count an access."""

from __future__ import annotations

import base64
import json
import os
import sys
import typing as t
import uuid
from dataclasses import replace
from urllib.parse import urlencode

from flask import Response, request, url_for
from flask.views import MethodView
from flask_smorest import Blueprint
from marshmallow import Schema, fields, validate
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import BadRequest, Forbidden, UnsupportedMediaType

from .. import lifecycle, schemas
from ..authorization import Action, Owner, expect_owners, reads_by_default, usual_id, why_not_added
from ..content.uploads import upload_for
from ..errors import FileTooLarge, InvalidMedia, MediaNotFound
from ..models import Media
from ..repositories.base import Listing, M, Position, Records
from ..state import State, get_state
from . import errors
from .added_fields import read_form, read_object, without_added
from .answers import empty_answer, json_answer
from .bodies import JSON_SIZE, open_body, set_limits
from .callers import Caller, require_caller, token_first
from .request_headers import CONDITION_PARAMETERS, REFUSALS, check_conditions, check_part

MAX_LIMIT = 100

SCANNED = 500
"""Records that a list asks a rule of the host's about, at most."""

SECURITY: list[dict[str, list[str]]] = [{"token": []}]
"""Documents that a view needs a token. How a request has one is the app's choice."""

# Fields that lists can be filtered by, where a kind has them.
_FILTERS = (
    "mongo_product_id", "mongo_course_id", "mongo_lesson_id", "reference_type", "reference_id",
    "is_main_image", "video_type", "resource_type", "media_type", "uploaded_by",
)  # fmt: skip

# Sort orders by wire name, and the field that they go by: ids are ordered by age.
_SORTS = {"createdAt": "id", "position": "position", "accessCount": "access_count"}


def add_views(blueprint: Blueprint, kind: type[Media]) -> None:
    """Add the routes of one kind."""
    name = kind.kind.replace("-", "_")
    query_schema = _query_schema(kind)
    page_schema = schemas.WireSchema.from_dict(
        {
            "items": fields.List(fields.Nested(schemas.schema_of(kind))),
            "next": fields.String(
                allow_none=True, metadata={"description": "Path of the next page."}
            ),
            "partial": fields.Boolean(
                metadata={
                    "description": "A database does not answer: what it holds is missing from this list."
                }
            ),
        },
        name=f"{kind.__name__}Page",
    )
    bodies = {
        "application/json": {"schema": schemas.schema_of(kind)},
        "multipart/form-data": {"schema": schemas.multipart_schema_of(kind)},
    }

    @blueprint.route(f"/{kind.kind}", endpoint=name)
    class Collection(MethodView):
        @token_first
        @blueprint.doc(security=SECURITY, operationId=f"list_{name}")
        @blueprint.arguments(query_schema, location="query")
        @blueprint.response(200, page_schema)
        @errors.documented(blueprint, 401, 422, 503)
        def get(self, query: dict[str, t.Any]) -> Response:
            """List records

            Own and public ones; an admin sees all.
            """
            return _list(get_state(), kind, require_caller(), query)

        @blueprint.doc(
            security=SECURITY,
            operationId=f"create_{name}",
            parameters=CONDITION_PARAMETERS,
            # Not called required: of two types for a required body openapi-python-client makes a
            # module that cannot be imported.
            requestBody={"content": bodies},
            responses={201: {"links": _links(name)}},
        )
        @blueprint.response(201, schemas.schema_of(kind), headers=_LOCATION)
        @errors.documented(blueprint, *REFUSALS, 401, 403, 404, 409, 413, 422, 503)
        def post(self) -> Response:
            """Create a record

            With a file, as multipart; or as JSON with a URL, which is kept and never fetched.
            """
            caller = require_caller()
            check_conditions()
            record = _create(get_state(), kind, caller)
            response = _answer(record)
            response.status_code = 201
            response.headers["Location"] = url_for(f".{name}_item", media_id=record.id)
            return response

    @blueprint.route(
        f"/{kind.kind}/<string:media_id>", endpoint=f"{name}_item", parameters=[MEDIA_ID]
    )
    class Item(MethodView):
        @blueprint.doc(security=SECURITY, operationId=f"get_{name}")
        @blueprint.response(200, schemas.schema_of(kind))
        @errors.documented(blueprint, 401, 404, 503)
        def get(self, media_id: str) -> Response:
            """Read a record"""
            return _answer(permitted("read", kind, media_id, require_caller()))

        @blueprint.doc(
            security=SECURITY,
            operationId=f"edit_{name}",
            parameters=CONDITION_PARAMETERS,
            requestBody={
                "required": True,
                "content": {"application/json": {"schema": schemas.edit_schema_of(kind)}},
            },
        )
        @blueprint.response(200, schemas.schema_of(kind))
        @errors.documented(blueprint, *REFUSALS, 401, 403, 404, 409, 413, 422, 503)
        def patch(self, media_id: str) -> Response:
            """Change fields of a record

            For its uploader and admins. The owner stays what it is; to make a main image takes the
            right to add one.
            """
            caller, state = require_caller(), get_state()
            record = permitted("edit", kind, media_id, caller)
            check_conditions(record)
            changes = read_json(schemas.edit_schema_of(kind))
            if changes.get("is_main_image") and not vars(record)["is_main_image"]:
                permit_creation(
                    state, kind, caller, record.values()
                )  # it is what the document is shown by
            return _answer(
                lifecycle.edit(state, record, changes, check=check_conditions, viewer=caller)
            )

        @blueprint.doc(
            security=SECURITY, operationId=f"delete_{name}", parameters=CONDITION_PARAMETERS
        )
        @blueprint.response(204)
        @errors.documented(blueprint, *REFUSALS, 401, 403, 404, 503)
        def delete(self, media_id: str) -> Response:
            """Delete a record and its bytes

            For its uploader and admins.
            """
            record = permitted("delete", kind, media_id, require_caller())
            check_conditions(record)
            lifecycle.delete(get_state(), record, check=check_conditions)
            return empty_answer()

    @blueprint.route(
        f"/{kind.kind}/<string:media_id>/accesses",
        endpoint=f"{name}_accesses",
        methods=["POST"],
        parameters=[MEDIA_ID],
    )
    @blueprint.doc(
        security=SECURITY, operationId=f"count_{name}_access", parameters=CONDITION_PARAMETERS
    )
    @blueprint.response(204)
    @errors.documented(blueprint, *REFUSALS, 401, 404, 503)
    def count_access(media_id: str) -> Response:
        """Count one access"""
        record = permitted("read", kind, media_id, require_caller())
        check_conditions(record)
        lifecycle.count_access(get_state(), kind, record.id)
        return empty_answer()


MEDIA_ID = {
    "in": "path",
    "name": "media_id",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
}


def _links(name: str) -> dict[str, t.Any]:
    """What can be done with a record that was created, for programs that read the document."""
    follow_ups = ("get", "edit", "delete", "link")
    follow_ups += ("get_{}_content", "replace_{}_content", "count_{}_access", "revoke_{}_links")
    operations = [(form if "{" in form else form + "_{}").format(name) for form in follow_ups]
    return {
        o: {"operationId": o, "parameters": {"media_id": "$response.body#/id"}} for o in operations
    }


_LOCATION = {"Location": {"description": "Path of the record.", "schema": {"type": "string"}}}


def find(kind: type[Media], media_id: str) -> Media | None:
    """The record with an id as it stands in a URL."""
    key = parse_id(media_id)
    return None if key is None else get_state().repository.get(kind, key)


def parse_id(text: str) -> uuid.UUID | None:
    """An id as it stands in a URL; nothing for what is not even a UUID."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def permitted(action: Action, kind: type[Media], media_id: str, caller: Caller) -> Media:
    """The record, if the caller may do this with it; 403 if he may only read it. One that he may
    not read is not there."""
    record = find(kind, media_id)
    if record is None or not caller.may("read", record):
        raise MediaNotFound(kind.kind, media_id)
    if action != "read" and not caller.may(action, record):
        raise Forbidden("You may read this, and nothing else.")
    return record


def _answer(record: Media) -> Response:
    return json_answer(schemas.dump_media(record))


def _list(state: State, kind: type[Media], caller: Caller, query: dict[str, t.Any]) -> Response:
    limit = query["limit"]
    where = {name: query[name] for name in _FILTERS if name in query}
    reference_type = (
        kind.reference_type if isinstance(kind.reference_type, str) else query.get("reference_type")
    )
    if kind.owner_field in where and reference_type is not None:
        where[kind.owner_field] = usual_id(state, reference_type, where[kind.owner_field])
    # Of one owner, in the owner's order; of all, the newest first.
    default = "position" if kind.order == "position" else "createdAt"
    sort = query.get("sort") or (default if _OWNERS & where.keys() else "-createdAt")
    field = _SORTS[sort.removeprefix("-")]
    after = _read_cursor(query.get("after"), field)
    page, last = _page(
        state, Listing(kind, where, caller.sees, field, sort.startswith("-"), after), caller, limit
    )
    following = None
    if last is not None:
        given = {name: value for name, value in request.args.items() if name != "after"}
        query_string = urlencode(given | {"after": _write_cursor(last, field)})
        following = f"{request.script_root}{request.path}?{query_string}"
    items = schemas.dump_media_list(page)
    return json_answer({"items": items, "next": following, "partial": page.partial})


def _page(
    state: State, listing: Listing[M], caller: Caller, limit: int
) -> tuple[Records[M], M | None]:
    """What the caller may read of the next records, and the last one looked at if there are more.

    Under the default rule the database picks them. Under a rule of the host's each one has to be
    asked about: a page is then shorter than wanted when too few of :data:`SCANNED` may be read.
    """
    if reads_by_default():
        records = state.repository.select(replace(listing, limit=limit + 1))
        page = Records.of(records[:limit], partial=records.partial)
        return page, page[-1] if len(records) > limit else None
    page, last, looked_at = Records[M](), None, 0
    while looked_at < SCANNED:
        step = (
            SCANNED - looked_at if looked_at else limit + 1
        )  # of which most times all may be read
        records = state.repository.select(replace(listing, limit=step + 1))
        page.partial |= records.partial
        expect_owners(records[:step])
        for record in records[:step]:
            if len(page) == limit:
                return page, last
            if caller.may("read", record):
                page.append(record)
            last = record
        if last is None or len(records) <= step:
            return page, None
        listing, looked_at = replace(listing, after=_position(last, listing.sort)), looked_at + step
    return page, last


_OWNERS = {"mongo_product_id", "mongo_course_id", "mongo_lesson_id", "reference_id"}


def _position(record: Media, field: str) -> Position:
    return getattr(record, field) if field != "id" else None, record.id


def _write_cursor(record: Media, field: str) -> str:
    value, last_id = _position(record, field)
    place = [value, last_id.hex]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def _read_cursor(cursor: str | None, field: str) -> Position | None:
    if cursor is None:
        return None
    try:
        value, last_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        last_id = uuid.UUID(last_id)
        # PostgreSQL refuses to compare a column with a number that its type cannot hold.
        largest = schemas.MAX_BIGINT if field == "access_count" else schemas.MAX_INTEGER
        whole = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest
        if field == "id" or whole:
            return value, last_id
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    raise InvalidMedia({"after": ["Not a place in this list: take it from the answer's next."]})


def _create(state: State, kind: type[Media], caller: Caller) -> Media:
    if request.mimetype != "multipart/form-data":
        values = read_json(schemas.schema_of(kind))
        permit_creation(state, kind, caller, values)
        return lifecycle.create(
            state, kind, values, None, uploaded_by=caller.identity, viewer=caller
        )
    max_size = state.settings.policies[kind.kind].max_size
    set_limits(max_content_length=sys.maxsize if max_size is None else max_size + JSON_SIZE)
    if max_size is not None and (request.content_length or 0) > max_size + JSON_SIZE:
        raise FileTooLarge(max_size)
    if request.content_length is not None:
        vars(request)["stream"] = open_body()  # that was all there is to check
    if len(request.files.getlist("file")) > 1:
        raise InvalidMedia({"file": ["Send one file at a time."]})
    schema = schemas.multipart_schema_of(kind)
    values = schemas.load(
        schema, read_form(schema, request.form.to_dict(flat=False) | _file_parts())
    )
    permit_creation(state, kind, caller, values)
    check_storage(state, kind, values.get("storage_type"))
    file = values.pop("file")
    size = file.stream.seek(0, os.SEEK_END)
    file.stream.seek(0)
    upload = upload_for(
        state,
        kind,
        file.stream,
        filename=values.pop("filename", None) or file.filename,
        mime_type=file.content_type,
        size=size,
    )
    return lifecycle.create(state, kind, values, upload, uploaded_by=caller.identity, viewer=caller)


def _file_parts() -> dict[str, list[FileStorage]]:
    for _, part in request.files.items(multi=True):
        check_part(part)
    return request.files.to_dict(flat=False)


def check_storage(state: State, kind: type[Media], storage_type: str | None) -> None:
    """Refuse what functions may choose, and a request may not."""
    allowed = {None, state.settings.default_storages[kind.kind], *state.settings.allowed_storages}
    if storage_type not in allowed:
        raise InvalidMedia({"storageType": [f"{storage_type!r} is not set up here."]})


def permit_creation(
    state: State, kind: type[Media], caller: Caller, values: dict[str, t.Any]
) -> None:
    """Ask the rule whether the caller may add media to the owner that the fields name.

    They name it by its one id afterwards, however it was spelled.
    """
    fixed = (
        kind.reference_type if isinstance(kind.reference_type, str) else values["reference_type"]
    )
    owner_id = values[kind.owner_field] = usual_id(state, fixed, values[kind.owner_field])
    owner = Owner(kind, fixed, owner_id)
    if not caller.may("create", owner):
        # A document that is not there is no matter of rights.
        lifecycle.check_owner(state, kind.new(reference_type=fixed, **{kind.owner_field: owner_id}))
        raise Forbidden(why_not_added(owner))


def read_json(schema: schemas.WireSchema) -> dict[str, t.Any]:
    if not request.is_json:
        raise UnsupportedMediaType(
            "Send application/json, or multipart/form-data with a file where one is created."
        )
    try:
        data = json.loads(request.get_data(), object_pairs_hook=read_object)
    except (ValueError, RecursionError):  # the second of a body nested thousands deep
        raise BadRequest("The body is not valid JSON.") from None
    return schemas.load_json(
        schema, without_added(schema, data) if isinstance(data, dict) else data
    )


def _query_schema(kind: type[Media]) -> Schema:
    declared = schemas.schema_of(kind).fields
    made: dict[str, t.Any] = {}
    for name in _FILTERS:
        if name not in declared:
            continue
        field = declared[name]
        if isinstance(field, fields.Boolean):
            made[name] = fields.Boolean()
        else:
            made[name] = schemas.Text(
                validate=[v for v in field.validators if isinstance(v, validate.OneOf)]
            )
    sorts = [name for name, field in _SORTS.items() if field in kind.field_names()]
    choices = [sign + name for name in sorts for sign in ("", "-")]
    made["sort"] = fields.String(
        validate=validate.OneOf(choices), metadata={"description": "A minus sorts descending."}
    )
    made["limit"] = schemas.WholeNumber(
        load_default=20, validate=validate.Range(min=1, max=MAX_LIMIT)
    )
    made["after"] = schemas.Text(
        metadata={"description": "Place to go on from, out of the last answer's next."}
    )
    return schemas.WireSchema.from_dict(made, name=f"{kind.__name__}Query")()
