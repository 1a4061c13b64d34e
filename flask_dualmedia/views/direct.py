"""Routes of uploads that clients send to a storage themselves: begin one, and confirm it."""

from __future__ import annotations

from flask import Response, url_for
from flask_smorest import Blueprint
from marshmallow import fields
from werkzeug.exceptions import Forbidden

from .. import lifecycle, schemas
from ..authorization import has_admin_role
from ..errors import MediaNotFound, OwnerNotFound
from ..models import AVAILABLE, Media
from ..state import State, get_state
from ..uploads import direct
from ..uploads.unfinished import is_announced
from . import errors
from .answers import json_answer
from .callers import Caller, require_caller
from .mounting import KindView, add_view, name_of
from .records import MEDIA_ID, SECURITY, check_storage, parse_id, permit_creation, read_json
from .request_headers import CONDITION_PARAMETERS, REFUSALS, check_conditions


class DirectUploadSchema(schemas.WireSchema):
    """The request that a client sends to the storage, with the file as its body."""

    id = fields.UUID(metadata={"description": "Of the record that it becomes."})
    method = fields.String()
    url = fields.String()
    headers = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        metadata={"description": "That the request must have."},
    )
    expires_at = fields.AwareDateTime(
        metadata={"description": "The request must be begun until then."}
    )


_ANSWER = DirectUploadSchema()


class DirectUploads(KindView):
    """The direct uploads of a kind."""

    def post(self) -> Response:
        """Begin an upload to the storage

        For storages that take bytes from clients. The answer is the request to send there; then
        confirm.
        """
        caller, state = require_caller(), get_state()
        check_conditions()
        values = read_json(schemas.direct_schema_of(self.kind))
        permit_creation(state, self.kind, caller, values)
        check_storage(state, self.kind, values.get("storage_type"))

        upload = direct.begin(state, self.kind, values, caller=caller)

        answer = {
            "id": upload.record.id,
            "expires_at": upload.expires_at,
            "method": "PUT",
            "url": upload.ticket.url,
            "headers": upload.ticket.headers,
        }
        response = json_answer(_ANSWER.dump(answer), 201)
        location = url_for(f".{self.name}_direct_upload", media_id=upload.record.id)
        response.headers["Location"] = location
        return response


class DirectUpload(KindView):
    """One direct upload."""

    def post(self, media_id: str) -> Response:
        """Confirm an upload to the storage

        For the identity that began it, and admins. The bytes are looked at, and become media,
        or are removed.
        """
        caller, state = require_caller(), get_state()
        announced = _find(state, self.kind, media_id, caller)
        if announced.state == AVAILABLE:
            if not caller.may("read", announced):
                raise MediaNotFound(self.kind.kind, media_id)
            check_conditions(announced)
        else:
            check_conditions()
            _permit_again(state, announced, caller)

        record = direct.confirm(state, announced, caller=caller)

        response = json_answer(schemas.dump_media(record), 201)
        response.headers["Location"] = url_for(f".{self.name}_item", media_id=record.id)
        return response


def add_views(blueprint: Blueprint, kind: type[Media]) -> None:
    """Add the routes of one kind."""
    name = name_of(kind)
    fields_of_upload = {"application/json": {"schema": schemas.direct_schema_of(kind)}}
    add_view(
        blueprint,
        DirectUploads,
        f"/{kind.kind}/direct-uploads",
        f"{name}_direct_uploads",
        kind=kind,
        post=[
            blueprint.doc(
                security=SECURITY,
                operationId=f"begin_{name}_direct_upload",
                parameters=CONDITION_PARAMETERS,
                requestBody={"required": True, "content": fields_of_upload},
                responses={201: {"links": _confirmation(name)}},
            ),
            blueprint.response(
                201, DirectUploadSchema, headers=_location("Where to confirm the upload.")
            ),
            errors.documented(blueprint, *REFUSALS, 401, 403, 404, 409, 413, 422, 429, 503),
        ],
    )
    add_view(
        blueprint,
        DirectUpload,
        f"/{kind.kind}/direct-uploads/<string:media_id>",
        f"{name}_direct_upload",
        kind=kind,
        parameters=[MEDIA_ID],
        post=[
            blueprint.doc(
                security=SECURITY,
                operationId=f"confirm_{name}_direct_upload",
                parameters=CONDITION_PARAMETERS,
            ),
            blueprint.response(
                201, schemas.schema_of(kind), headers=_location("Path of the record.")
            ),
            errors.documented(blueprint, *REFUSALS, 401, 403, 404, 409, 413, 422, 503),
        ],
    )


def _find(state: State, kind: type[Media], media_id: str, caller: Caller) -> Media:
    """The record of an upload, whether it is confirmed already or not, if it is the caller's.

    :raises MediaNotFound: There is none, or it is another's and the caller is no admin.
    """
    record = None
    key = parse_id(media_id)
    if key is not None:
        record = state.repository.find(kind, key)
    if record is None or not (is_announced(state, record) or record.state == AVAILABLE):
        raise MediaNotFound(kind.kind, media_id)
    if record.uploaded_by != caller.identity and not has_admin_role(caller.claims):
        raise MediaNotFound(kind.kind, media_id)
    return record


def _permit_again(state: State, record: Media, caller: Caller) -> None:
    """Ask the rule once more, now that the upload ends.

    An upload that it does not allow any more is removed.
    """
    try:
        permit_creation(state, type(record), caller, record.values())
    except (Forbidden, OwnerNotFound):
        lifecycle.clean_up(direct.discard, state, record)
        raise


def _location(description: str) -> dict[str, object]:
    return {"Location": {"description": description, "schema": {"type": "string"}}}


def _confirmation(name: str) -> dict[str, object]:
    """The operation that comes next, for programs that read the document."""
    operation = f"confirm_{name}_direct_upload"
    return {operation: {"operationId": operation, "parameters": {"media_id": "$response.body#/id"}}}
