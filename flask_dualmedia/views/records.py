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
from flask_smorest import Blueprint
from marshmallow import Schema, fields, validate
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import BadRequest, Forbidden, UnsupportedMediaType

from .. import lifecycle, schemas
from ..authorization import Action, Owner, expect_owners, reads_by_default, usual_id, why_not_added
from ..content.uploads import upload_for
from ..errors import FileTooLarge, InvalidMedia, MediaNotFound
from ..models import Media
from ..repositories.base import K, Listing, Position, Records
from ..state import State, get_state
from . import errors
from .added_fields import Values, read_form, read_object, without_added
from .answers import empty_answer, json_answer
from .bodies import JSON_SIZE, open_body, set_limits
from .callers import Caller, require_caller, token_first
from .mounting import Description, KindView, add_view, name_of
from .request_headers import CONDITION_PARAMETERS, REFUSALS, check_conditions, check_part

MAX_LIMIT = 100

SCANNED = 500
"""Records that a list asks a rule of the host's about, at most."""

SECURITY: list[dict[str, list[str]]] = [{"token": []}]
"""Documents that a view needs a token. How a request has one is the app's choice."""

MEDIA_ID = {
    "in": "path",
    "name": "media_id",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
}

_LOCATION = {"Location": {"description": "Path of the record.", "schema": {"type": "string"}}}

# Sort orders by wire name, and the field that they go by: ids are ordered by age.
_SORTS = {"createdAt": "id", "position": "position", "accessCount": "access_count"}

# Operations on a record that was created.
_FOLLOW_UPS = (
    "get_{}", "edit_{}", "delete_{}", "link_{}",
    "get_{}_content", "replace_{}_content", "count_{}_access", "revoke_{}_links",
    "list_{}_variants",
)  # fmt: skip


class Collection(KindView):
    """The records of a kind."""

    def get(self, query: Values) -> Response:
        """List records

        Own and public ones; an admin sees all.
        """
        return _list(get_state(), self.kind, require_caller(), query)

    def post(self) -> Response:
        """Create a record

        With a file, as multipart; or as JSON with a URL, which is kept and never fetched.
        """
        caller = require_caller()
        check_conditions()
        record = _create(get_state(), self.kind, caller)

        response = _answer(record)
        response.status_code = 201
        response.headers["Location"] = url_for(f".{self.name}_item", media_id=record.id)
        return response


class Item(KindView):
    """One record."""

    def get(self, media_id: str) -> Response:
        """Read a record"""
        return _answer(permitted("read", self.kind, media_id, require_caller()))

    def patch(self, media_id: str) -> Response:
        """Change fields of a record

        For its uploader and admins. The owner stays what it is; to make a main image takes the
        right to add one.
        """
        caller, state = require_caller(), get_state()
        record = permitted("edit", self.kind, media_id, caller)
        check_conditions(record)
        changes = read_json(schemas.edit_schema_of(self.kind))
        if changes.get("is_main_image") and not record.is_main:
            # The main image is what the document is shown by.
            permit_creation(state, self.kind, caller, record.values())

        edited = lifecycle.edit(state, record, changes, check=check_conditions, viewer=caller)
        return _answer(edited)

    def delete(self, media_id: str) -> Response:
        """Delete a record and its bytes

        For its uploader and admins.
        """
        record = permitted("delete", self.kind, media_id, require_caller())
        check_conditions(record)
        lifecycle.delete(get_state(), record, check=check_conditions)
        return empty_answer()


class Accesses(KindView):
    """The accesses of a record."""

    def post(self, media_id: str) -> Response:
        """Count one access"""
        record = permitted("read", self.kind, media_id, require_caller())
        check_conditions(record)
        lifecycle.count_access(get_state(), self.kind, record.id)
        return empty_answer()


def add_views(blueprint: Blueprint, kind: type[Media]) -> None:
    """Add the routes of one kind."""
    _add_collection(blueprint, kind)
    _add_item(blueprint, kind)
    _add_accesses(blueprint, kind)


def _add_collection(blueprint: Blueprint, kind: type[Media]) -> None:
    name = name_of(kind)
    bodies = {
        "application/json": {"schema": schemas.schema_of(kind)},
        "multipart/form-data": {"schema": schemas.multipart_schema_of(kind)},
    }
    add_view(
        blueprint,
        Collection,
        f"/{kind.kind}",
        name,
        kind=kind,
        get=[
            token_first,
            blueprint.doc(security=SECURITY, operationId=f"list_{name}"),
            blueprint.arguments(_query_schema(kind), location="query"),
            blueprint.response(200, _page_schema(kind)),
            errors.documented(blueprint, 401, 422, 503),
        ],
        post=[
            blueprint.doc(
                security=SECURITY,
                operationId=f"create_{name}",
                parameters=CONDITION_PARAMETERS,
                # Not called required: of two types for a required body openapi-python-client makes
                # a module that cannot be imported.
                requestBody={"content": bodies},
                responses={201: {"links": _links(name)}},
            ),
            blueprint.response(201, schemas.schema_of(kind), headers=_LOCATION),
            errors.documented(blueprint, *REFUSALS, 401, 403, 404, 409, 413, 422, 503),
        ],
    )


def _add_item(blueprint: Blueprint, kind: type[Media]) -> None:
    name = name_of(kind)
    changes = {"application/json": {"schema": schemas.edit_schema_of(kind)}}
    add_view(
        blueprint,
        Item,
        f"/{kind.kind}/<string:media_id>",
        f"{name}_item",
        kind=kind,
        parameters=[MEDIA_ID],
        get=[
            blueprint.doc(security=SECURITY, operationId=f"get_{name}"),
            blueprint.response(200, schemas.schema_of(kind)),
            errors.documented(blueprint, 401, 404, 503),
        ],
        patch=[
            blueprint.doc(
                security=SECURITY,
                operationId=f"edit_{name}",
                parameters=CONDITION_PARAMETERS,
                requestBody={"required": True, "content": changes},
            ),
            blueprint.response(200, schemas.schema_of(kind)),
            errors.documented(blueprint, *REFUSALS, 401, 403, 404, 409, 413, 422, 503),
        ],
        delete=[
            blueprint.doc(
                security=SECURITY,
                operationId=f"delete_{name}",
                parameters=CONDITION_PARAMETERS,
            ),
            blueprint.response(204),
            errors.documented(blueprint, *REFUSALS, 401, 403, 404, 503),
        ],
    )


def _add_accesses(blueprint: Blueprint, kind: type[Media]) -> None:
    name = name_of(kind)
    add_view(
        blueprint,
        Accesses,
        f"/{kind.kind}/<string:media_id>/accesses",
        f"{name}_accesses",
        kind=kind,
        parameters=[MEDIA_ID],
        post=[
            blueprint.doc(
                security=SECURITY,
                operationId=f"count_{name}_access",
                parameters=CONDITION_PARAMETERS,
            ),
            blueprint.response(204),
            errors.documented(blueprint, *REFUSALS, 401, 404, 503),
        ],
    )


def _links(name: str) -> Description:
    """The operations on a record that was created, for programs that read the document."""
    links: Description = {}
    for form in _FOLLOW_UPS:
        operation = form.format(name)
        links[operation] = {
            "operationId": operation,
            "parameters": {"media_id": "$response.body#/id"},
        }
    return links


def find(kind: type[Media], media_id: str) -> Media | None:
    """The record with an id as it stands in a URL."""
    key = parse_id(media_id)
    if key is None:
        return None
    return get_state().repository.get(kind, key)


def parse_id(text: str) -> uuid.UUID | None:
    """An id as it stands in a URL; nothing for what is not even a UUID."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def permitted(action: Action, kind: type[Media], media_id: str, caller: Caller) -> Media:
    """The record, if the caller may do this with it.

    :raises MediaNotFound: The caller may not read it, or there is none.
    :raises Forbidden: The caller may only read it.
    """
    record = find(kind, media_id)
    if record is None or not caller.may("read", record):
        raise MediaNotFound(kind.kind, media_id)
    if action != "read" and not caller.may(action, record):
        raise Forbidden("You may read this, and nothing else.")
    return record


def _answer(record: Media) -> Response:
    return json_answer(schemas.dump_media(record))


def _list(state: State, kind: type[Media], caller: Caller, query: Values) -> Response:
    """Answer with one page of a list.

    ``next`` is the path of the page after it, and ``partial`` says that a database did not answer.

    :raises InvalidMedia: The cursor is none of this list.
    """
    filters = _read_filters(state, kind, query)
    sort = query.get("sort") or _default_sort(kind, filters)
    field = _SORTS[sort.removeprefix("-")]
    after = _read_cursor(query.get("after"), field)
    listing = Listing(kind, filters, caller.sees, field, sort.startswith("-"), after)

    page, last = _page(state, listing, caller, query["limit"])

    next_path = None
    if last is not None:
        next_path = _path_after(_write_cursor(last, field))
    items = schemas.dump_media_list(page)
    return json_answer({"items": items, "next": next_path, "partial": page.partial})


def _read_filters(state: State, kind: type[Media], query: Values) -> Values:
    """The fields that a list is filtered by, with the owner's id in its usual spelling."""
    filters = {name: query[name] for name in kind.filter_fields() if name in query}
    reference_type = kind.type_of_owner(query)
    owner_field = kind.owner_field
    if owner_field in filters and reference_type is not None:
        filters[owner_field] = usual_id(state, reference_type, filters[owner_field])
    return filters


def _default_sort(kind: type[Media], filters: Values) -> str:
    """The owner's order for the media of one owner; for that of all, the newest first."""
    if filters.keys().isdisjoint((kind.owner_field, kind.group_field)):
        return "-createdAt"
    if kind.order == "position":
        return "position"
    return "createdAt"


def _path_after(cursor: str) -> str:
    """The path of the same list, from a cursor on."""
    parameters = request.args.to_dict()
    parameters.pop("after", None)  # the cursor comes last
    parameters["after"] = cursor
    return f"{request.script_root}{request.path}?{urlencode(parameters)}"


def _page(
    state: State, listing: Listing[K], caller: Caller, limit: int
) -> tuple[Records[K], K | None]:
    """The next records that the caller may read, and the last one looked at if there are more."""
    if not reads_by_default():
        return _page_by_rule(state, listing, caller, limit)

    # The database picks the records that the default rule lets the caller read.
    records = state.repository.select(replace(listing, limit=limit + 1))
    page = Records.of(records[:limit], partial=records.partial)
    if len(records) > limit:
        return page, page[-1]
    return page, None


def _page_by_rule(
    state: State, listing: Listing[K], caller: Caller, limit: int
) -> tuple[Records[K], K | None]:
    """The next page under a rule of the host's, which has to be asked about each record.

    The page is shorter than asked for when too few of :data:`SCANNED` records may be read.
    """
    page = Records[K]()
    last = None
    looked_at = 0
    step = limit + 1  # of which most times all may be read
    while looked_at < SCANNED:
        records = state.repository.select(replace(listing, limit=step + 1))
        page.partial |= records.partial
        candidates = records[:step]
        expect_owners(candidates)
        for record in candidates:
            if len(page) == limit:
                return page, last
            if caller.may("read", record):
                page.append(record)
            last = record
        if last is None or len(records) <= step:
            return page, None

        listing = replace(listing, after=_position(last, listing.sort))
        looked_at += step
        step = SCANNED - looked_at
    return page, last


def _position(record: Media, field: str) -> Position:
    """The place of a record in a list: the value that the list goes by, and the id after it.

    A list that goes by ids needs no other value.
    """
    if field == "id":
        return None, record.id
    return getattr(record, field), record.id


def _write_cursor(record: Media, field: str) -> str:
    """The place of a record in a list, as text for a URL."""
    value, last_id = _position(record, field)
    position = json.dumps([value, last_id.hex])
    encoded = base64.urlsafe_b64encode(position.encode())
    return encoded.decode().rstrip("=")


def _read_cursor(cursor: str | None, field: str) -> Position | None:
    """The place that a cursor names.

    :raises InvalidMedia: It names none, or one that the database cannot look for.
    """
    if cursor is None:
        return None
    try:
        padding = "=" * (-len(cursor) % 4)
        value, last_id = json.loads(base64.urlsafe_b64decode(cursor + padding))
        last_id = uuid.UUID(last_id)
        if field == "id" or _is_comparable(value, field):
            return value, last_id
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    raise InvalidMedia({"after": ["Not a place in this list: take it from the answer's next."]})


def _is_comparable(value: t.Any, field: str) -> bool:
    """Tell whether a column can be compared with a value.

    PostgreSQL refuses to compare one with a number that its type cannot hold.
    """
    largest = schemas.MAX_INTEGER
    if field == "access_count":
        largest = schemas.MAX_BIGINT
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole and 0 <= value <= largest


def _create(state: State, kind: type[Media], caller: Caller) -> Media:
    """Create the record of external media, which comes as JSON, or of a file, in a form."""
    if request.mimetype == "multipart/form-data":
        return _create_from_form(state, kind, caller)
    values = read_json(schemas.schema_of(kind))
    permit_creation(state, kind, caller, values)
    return lifecycle.create(state, kind, values, None, uploaded_by=caller.identity, viewer=caller)


def _create_from_form(state: State, kind: type[Media], caller: Caller) -> Media:
    """Create a record with the file of a form, whose own name and type describe it.

    A field ``filename`` of the form comes before the name of the file.
    """
    _limit_form(state.settings.policies[kind.kind].max_size)
    values = _read_multipart(kind)
    permit_creation(state, kind, caller, values)
    check_storage(state, kind, values.get("storage_type"))

    file = values.pop("file")
    size = file.stream.seek(0, os.SEEK_END)
    file.stream.seek(0)
    upload = upload_for(
        state.settings,
        kind,
        file.stream,
        filename=values.pop("filename", None) or file.filename,
        mime_type=file.content_type,
        size=size,
    )
    return lifecycle.create(state, kind, values, upload, uploaded_by=caller.identity, viewer=caller)


def _limit_form(max_size: int | None) -> None:
    """Let a form be as large as the file that it may hold, and the fields beside it.

    :raises FileTooLarge: The length that the request announces is larger.
    """
    if max_size is None:
        set_limits(max_content_length=sys.maxsize)
    else:
        form_size = max_size + JSON_SIZE
        set_limits(max_content_length=form_size)
        if (request.content_length or 0) > form_size:
            raise FileTooLarge(max_size)
    if request.content_length is not None:
        vars(request)["stream"] = open_body()  # that was all there is to check


def _read_multipart(kind: type[Media]) -> Values:
    """The fields of a form, and its file among them."""
    if len(request.files.getlist("file")) > 1:
        raise InvalidMedia({"file": ["Send one file at a time."]})
    parts: Values = request.form.to_dict(flat=False)
    parts.update(_file_parts())
    schema = schemas.multipart_schema_of(kind)
    return schemas.load(schema, read_form(schema, parts))


def _file_parts() -> dict[str, list[FileStorage]]:
    """The files of a form by the names of their fields.

    :raises HTTPException: One of them is encoded, or a part of a file.
    """
    for _, part in request.files.items(multi=True):
        check_part(part)
    return request.files.to_dict(flat=False)


def check_storage(state: State, kind: type[Media], storage_type: str | None) -> None:
    """Refuse a storage that functions may choose, and a request may not.

    :param storage_type: The storage that the request asks for; ``None`` for the usual one.
    :raises InvalidMedia: The settings allow requests no such storage.
    """
    settings = state.settings
    allowed = {None, settings.default_storages[kind.kind], *settings.allowed_storages}
    if storage_type not in allowed:
        raise InvalidMedia({"storageType": [f"{storage_type!r} is not set up here."]})


def permit_creation(state: State, kind: type[Media], caller: Caller, values: Values) -> None:
    """Ask the rule whether the caller may add media to the owner that the fields name.

    They name it by its one id afterwards, however it was spelled.

    :raises Forbidden: The rule says no.
    :raises OwnerNotFound: The rule says no, and there is no such owner.
    """
    reference_type = t.cast(str, kind.type_of_owner(values))
    owner_id = usual_id(state, reference_type, values[kind.owner_field])
    values[kind.owner_field] = owner_id

    owner = Owner(kind, reference_type, owner_id)
    if not caller.may("create", owner):
        # A document that is not there is no matter of rights.
        record = kind.new(**kind.of_owner(reference_type, owner_id) or {})
        lifecycle.check_owner(state, record)
        raise Forbidden(why_not_added(owner))


def read_json(schema: schemas.WireSchema) -> Values:
    """The fields of a body in JSON.

    :raises UnsupportedMediaType: The body is not declared as JSON.
    :raises BadRequest: It is not valid JSON.
    :raises InvalidMedia: It does not fit the schema.
    """
    if not request.is_json:
        raise UnsupportedMediaType(
            "Send application/json, or multipart/form-data with a file where one is created."
        )
    try:
        data = json.loads(request.get_data(), object_pairs_hook=read_object)
    except (ValueError, RecursionError):  # the second of a body nested thousands deep
        raise BadRequest("The body is not valid JSON.") from None

    if isinstance(data, dict):
        data = without_added(schema, data)
    return schemas.load_json(schema, data)


def _page_schema(kind: type[Media]) -> type[Schema]:
    """The schema of one page of a list."""
    items = fields.List(fields.Nested(schemas.schema_of(kind)))
    next_path = fields.String(allow_none=True, metadata={"description": "Path of the next page."})
    partial = fields.Boolean(
        metadata={
            "description": "A database does not answer: what it holds is missing from this list."
        }
    )
    members = {"items": items, "next": next_path, "partial": partial}
    return schemas.WireSchema.from_dict(members, name=f"{kind.__name__}Page")


def _query_schema(kind: type[Media]) -> Schema:
    """The schema of a list's query: the filters and sort orders that a kind has, and a page."""
    declared = schemas.schema_of(kind).fields
    members: dict[str, fields.Field] = {}
    for name in kind.filter_fields():
        members[name] = _filter_field(declared[name])
    members["sort"] = fields.String(
        validate=validate.OneOf(_sort_orders(kind)),
        metadata={"description": "A minus sorts descending."},
    )
    members["limit"] = schemas.WholeNumber(
        load_default=20, validate=validate.Range(min=1, max=MAX_LIMIT)
    )
    members["after"] = schemas.Text(
        metadata={"description": "Place to go on from, out of the last answer's next."}
    )
    return schemas.WireSchema.from_dict(members, name=f"{kind.__name__}Query")()


def _filter_field(field: fields.Field) -> fields.Field:
    """The field of a query for a field of records, with the same choices."""
    if isinstance(field, fields.Boolean):
        return fields.Boolean()
    choices: list[t.Any] = []
    for validator in field.validators:
        if isinstance(validator, validate.OneOf):
            choices.append(validator)
    return schemas.Text(validate=choices)


def _sort_orders(kind: type[Media]) -> list[str]:
    """The sort orders that a kind has, each ascending and descending."""
    orders: list[str] = []
    for name, field in _SORTS.items():
        if field in kind.field_names():
            orders += [name, f"-{name}"]
    return orders
