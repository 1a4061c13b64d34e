"""Routes of resumable uploads: tus 1.0, with all of its extensions but checksum trailers."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from flask import Response, request, url_for
from flask_smorest import Blueprint
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    Conflict,
    Forbidden,
    Gone,
    MethodNotAllowed,
    PreconditionFailed,
    RequestTimeout,
    UnsupportedMediaType,
)
from werkzeug.http import http_date

from .. import lifecycle, schemas
from ..authorization import has_admin_role
from ..content.uploads import label
from ..errors import (
    ChecksumMismatch,
    DualMediaError,
    FileTooLarge,
    IncompleteUpload,
    InvalidMedia,
    MediaNotFound,
)
from ..models import KINDS, new_id
from ..state import State, get_state
from ..uploads import resumable
from ..uploads.staging import Staged, Writer
from . import errors
from .added_fields import without_added
from .answers import empty_answer
from .bodies import open_body
from .callers import Caller, require_caller, token_first
from .method_override import OverridableView
from .mounting import Description, add_view
from .records import SECURITY, check_storage, parse_id, permit_creation
from .request_headers import CONDITION_PARAMETERS, REFUSALS, check_conditions
from .tus_headers import (
    ALGORITHMS,
    check_ascii,
    read_digest,
    read_joined,
    read_metadata,
    read_number,
)

VERSION = "1.0.0"

EXTENSIONS = (
    "creation", "creation-with-upload", "creation-defer-length", "expiration", "checksum",
    "termination", "concatenation",
)  # fmt: skip

CONTENT_TYPE = "application/offset+octet-stream"

GENERATED_TYPE = "application/octet-stream"
"""The type that clients send which are generated from the OpenAPI document: generators know no type
of tus for bytes."""

_ON_OPTIONS = (
    "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Tus-Checksum-Algorithm",
)  # fmt: skip

_EXPOSED = (
    "Location", "Content-Location", "Upload-Offset", "Upload-Length", "Upload-Defer-Length",
    "Upload-Metadata", "Upload-Expires", "Upload-Concat", *_ON_OPTIONS,
)  # fmt: skip

UPLOAD_ID = {
    "in": "path",
    "name": "upload_id",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
}

_BYTES = {"type": "integer", "minimum": 0}
_FORMS: dict[str, Description] = {
    "Tus-Resumable": {"type": "string", "enum": [VERSION]},
    "Upload-Length": _BYTES,
    "Upload-Offset": _BYTES,
    "Upload-Defer-Length": {"type": "string", "enum": ["1"]},
    "X-HTTP-Method-Override": {"type": "string", "enum": ["HEAD", "PATCH", "DELETE"]},
}
"""Schemas of the headers that are more than text."""

_BODY = {
    "description": f"The bytes, as {CONTENT_TYPE} or this one.",
    "content": {GENERATED_TYPE: {"schema": {"type": "string", "format": "binary"}}},
}
_MISMATCH = {
    str(ChecksumMismatch.code): {
        "description": ChecksumMismatch().name,
        "content": {"application/json": {"schema": schemas.ErrorSchema}},
    }
}


class Uploads(OverridableView):
    """All resumable uploads."""

    def options(self) -> Response:
        """Tell which parts of tus 1.0 the server knows

        Without a token.
        """
        return _describe(get_state())

    @token_first
    def post(self) -> Response:
        """Begin a resumable upload

        `Upload-Metadata` has `kind`, as in URLs, `filename`, `filetype` and the fields of the
        record.
        """
        caller = require_caller()
        check_ascii()
        _check_version()
        check_conditions()
        return _create(get_state(), caller)


class Item(OverridableView):
    """One resumable upload."""

    def options(self, upload_id: str) -> Response:
        """Tell which parts of tus 1.0 the server knows

        Without a token, and whether there is such an upload or not.
        """
        if parse_id(upload_id) is None:
            raise MediaNotFound("uploads", upload_id)
        return _describe(get_state())

    @token_first
    def head(self, upload_id: str) -> Response:
        """How many bytes are there

        For the identity that began it, and admins. `Content-Location` is the record, once there
        is one.
        """
        upload = _find(upload_id)

        response = _answer(upload, 200)
        if upload.length is None:
            response.headers["Upload-Defer-Length"] = "1"
        else:
            response.headers["Upload-Length"] = str(upload.length)
        if upload.metadata:
            response.headers["Upload-Metadata"] = upload.metadata
        if upload.concat:
            response.headers["Upload-Concat"] = _concat_of(upload)
        response.headers["Cache-Control"] = "no-store"
        return response

    @token_first
    def patch(self, upload_id: str) -> Response:
        """Send the next bytes

        With the last one the upload becomes media, and `Content-Location` is its record.
        """
        upload = _find(upload_id)
        check_conditions()
        _check_type()
        offset = read_number("Upload-Offset")
        digest = read_digest()
        if offset is None:
            raise BadRequest("Upload-Offset is missing.")
        if upload.concat == "final":
            raise Forbidden("A final upload gets its bytes from its partial ones.")

        writer = _lock(upload.id)
        with writer:
            _append(get_state(), writer, offset, digest)
        return _answer(writer.upload, 204)

    @token_first
    def delete(self, upload_id: str) -> Response:
        """Remove an upload with its bytes

        The record of one that is finished stays.
        """
        upload = _find(upload_id)
        check_conditions()
        with _lock(upload.id) as writer:
            writer.remove()
        return empty_answer()

    @token_first
    def post(self, upload_id: str) -> Response:
        """HEAD, PATCH or DELETE, for clients that cannot send them"""
        raise MethodNotAllowed(["OPTIONS", "HEAD", "PATCH", "DELETE"])


def add_views(blueprint: Blueprint) -> None:
    """Add the routes of all kinds."""
    blueprint.after_request(_add_headers)
    _add_uploads(blueprint)
    _add_item(blueprint)


def _add_uploads(blueprint: Blueprint) -> None:
    request_headers = _parameters(
        "Upload-Length",
        "Upload-Defer-Length",
        "Upload-Metadata",
        "Upload-Concat",
        "Upload-Checksum",
    )
    response_headers = _headers("Location", "Content-Location", "Upload-Offset", "Upload-Expires")
    add_view(
        blueprint,
        Uploads,
        "/uploads",
        "uploads",
        options=[
            blueprint.doc(operationId="describe_uploads"),
            blueprint.response(204, headers=_headers(*_ON_OPTIONS)),
        ],
        post=[
            blueprint.doc(
                security=SECURITY,
                operationId="create_upload",
                parameters=[*request_headers, *CONDITION_PARAMETERS],
                requestBody=_BODY | {"required": False},
                responses=_MISMATCH,
            ),
            blueprint.response(201, headers=response_headers),
            errors.documented(blueprint, *REFUSALS, 401, 403, 404, 409, 413, 422, 423, 429, 503),
        ],
    )


def _add_item(blueprint: Blueprint) -> None:
    headers_of_patch = [
        *_parameters("Upload-Offset", required=True),
        *_parameters("Upload-Length", "Upload-Checksum")[1:],
        *CONDITION_PARAMETERS,
    ]
    answer_to_head = _headers("Upload-Offset", "Upload-Length", "Content-Location")
    answer_to_patch = _headers("Upload-Offset", "Upload-Expires", "Content-Location")
    add_view(
        blueprint,
        Item,
        "/uploads/<string:upload_id>",
        "upload",
        parameters=[UPLOAD_ID],
        options=[
            blueprint.doc(operationId="describe_upload"),
            blueprint.response(204, headers=_headers(*_ON_OPTIONS)),
            errors.documented(blueprint, 404),
        ],
        head=[
            blueprint.doc(security=SECURITY, operationId="head_upload", parameters=_parameters()),
            blueprint.response(200, headers=answer_to_head),
            errors.documented(blueprint, 401, 404, 410, 412, 503),
        ],
        patch=[
            blueprint.doc(
                security=SECURITY,
                operationId="append_to_upload",
                parameters=headers_of_patch,
                requestBody=_BODY | {"required": True},
                responses=_MISMATCH,
            ),
            blueprint.response(204, headers=answer_to_patch),
            errors.documented(blueprint, *REFUSALS, 401, 403, 404, 409, 410, 413, 422, 423, 503),
        ],
        delete=[
            blueprint.doc(
                security=SECURITY,
                operationId="remove_upload",
                parameters=[*_parameters(), *CONDITION_PARAMETERS],
            ),
            blueprint.response(204),
            errors.documented(blueprint, *REFUSALS, 401, 404, 410, 423, 503),
        ],
        post=[
            blueprint.doc(
                security=SECURITY,
                operationId="override_upload_method",
                parameters=_parameters("X-HTTP-Method-Override", required=True),
                requestBody=_BODY | {"required": False},
                responses=_MISMATCH,
            ),
            blueprint.response(204),
            errors.documented(
                blueprint, *REFUSALS, 401, 403, 404, 405, 409, 410, 413, 422, 423, 503
            ),
        ],
    )


def _headers(*names: str) -> Description:
    return {name: {"schema": {"type": "string"}} for name in names}


def _parameters(*names: str, required: bool = False) -> list[Description]:
    """The headers of a request, with ``Tus-Resumable`` before them.

    A request without that one gets 412, and not 400. So it is not called required.
    """
    resumable_header = _parameter("Tus-Resumable", required=False)
    return [resumable_header, *(_parameter(name, required=required) for name in names)]


def _parameter(name: str, *, required: bool) -> Description:
    schema = _FORMS.get(name, {"type": "string"})
    return {"in": "header", "name": name, "schema": schema, "required": required}


def _add_headers(response: Response) -> Response:
    """Add the headers that every answer about resumable uploads has, errors included."""
    if (request.endpoint or "").endswith((".uploads", ".upload")):
        response.headers["Tus-Resumable"] = VERSION
        response.headers["Access-Control-Expose-Headers"] = ", ".join(_EXPOSED)
        if response.status_code == PreconditionFailed.code:
            response.headers["Tus-Version"] = VERSION
    return response


def _describe(state: State) -> Response:
    """Answer with the version, the extensions and the limits of resumable uploads.

    The largest size is that of the kind whose files may be largest.
    """
    response = empty_answer()
    response.headers["Tus-Version"] = VERSION
    response.headers["Tus-Extension"] = ",".join(EXTENSIONS)
    response.headers["Tus-Checksum-Algorithm"] = ",".join(ALGORITHMS)
    max_size = resumable.largest_size(state, None)
    if max_size is not None:
        response.headers["Tus-Max-Size"] = str(max_size)
    return response


def _answer(upload: Staged, status: int) -> Response:
    """Answer with how far an upload has come, and with its record once it has one."""
    response = empty_answer(status)
    response.headers["Upload-Offset"] = str(upload.offset)
    response.headers["Upload-Expires"] = http_date(upload.expires_at)
    if upload.finished:
        name = t.cast(str, upload.kind).replace("-", "_")
        response.headers["Content-Location"] = url_for(f".{name}_item", media_id=upload.id)
    return response


def _concat_of(upload: Staged) -> str | None:
    """The ``Upload-Concat`` of an upload; a final one names the uploads that it is made of."""
    if not upload.joined:
        return upload.concat
    urls = " ".join(url_for(".upload", upload_id=part) for part in upload.joined)
    return f"final;{urls}"


def _check_version() -> None:
    """Refuse with 412 a request of another version of tus, or of none."""
    if request.headers.get("Tus-Resumable") != VERSION:
        raise PreconditionFailed(f"Tus-Resumable is not {VERSION}.")


def _check_type() -> None:
    """Refuse with 415 a body that is not declared as bytes."""
    if request.mimetype not in (CONTENT_TYPE, GENERATED_TYPE):
        raise UnsupportedMediaType(f"Send {CONTENT_TYPE}.")


def _find(upload_id: str) -> Staged:
    """The upload, if the caller began it or is an admin.

    :raises MediaNotFound: There is none, or it is another's.
    :raises Gone: It has expired.
    """
    caller = require_caller()
    check_ascii()
    _check_version()

    upload = None
    key = parse_id(upload_id)
    if key is not None:
        upload = get_state().staging.get(key)
    if upload is None or not (has_admin_role(caller.claims) or upload.identity == caller.identity):
        raise MediaNotFound("uploads", upload_id)
    if upload.is_expired:
        raise Gone("The upload has expired.")
    return upload


def _lock(upload_id: uuid.UUID) -> Writer:
    """The writer of an upload, which no other request has at the same time.

    :raises MediaNotFound: The upload was removed meanwhile.
    """
    writer = get_state().staging.lock(upload_id)
    if writer is None:
        raise MediaNotFound("uploads", upload_id)
    return writer


def _append(state: State, writer: Writer, offset: int, digest: resumable.Digest | None) -> None:
    """Take the next bytes of an upload, and its length if that was not known.

    :raises Conflict: The bytes do not begin where the upload ends.
    :raises BadRequest: The length is another than was said before.
    :raises FileTooLarge: The length is more than such a file may have. Nothing was read.
    """
    upload = writer.upload
    if offset != upload.offset:
        raise Conflict(f"The upload has {upload.offset} bytes.")
    length = read_number("Upload-Length")
    if length is not None and (length < offset or upload.length not in (None, length)):
        raise BadRequest("Upload-Length is not that of this upload.")
    if length is None:
        length = upload.length
    _check_size(state, upload.kind, length)
    if not upload.finished or _has_body():
        _receive(state, writer, require_caller(), length, digest)


def _create(state: State, caller: Caller) -> Response:
    """Begin an upload, take the bytes that come with it, and answer where the next ones go.

    A final upload is joined from its partial ones at once. The parts of one say nothing about a
    record.

    If the bytes that come with an upload are refused, the upload is removed again: its client has
    not learnt where it is.
    """
    creation = _read_creation()
    if _has_body():
        if creation.joined:
            raise BadRequest("A final upload gets its bytes from its partial ones.")
        _check_type()
    creation.check_length()
    _check_size(state, None, creation.length)

    upload = Staged(
        new_id(),
        caller.identity,
        state.staging.expiry(),
        length=creation.length,
        metadata=request.headers.get("Upload-Metadata"),
        joined=creation.joined,
        concat=creation.concat,
    )
    if upload.concat != "partial":
        upload = _described(state, caller, upload)

    with _begin(state, upload) as writer:
        try:
            _fill(state, writer, caller, creation.digest)
        except (DualMediaError, RequestTimeout):
            if not upload.joined and not writer.upload.is_expired:
                resumable.give_up(writer)  # nobody has heard of it
            raise

    response = _answer(writer.upload, 201)
    response.headers["Location"] = url_for(".upload", upload_id=writer.upload.id)
    return response


class _Creation(t.NamedTuple):
    """The headers of a request that begins an upload."""

    length: int | None
    digest: resumable.Digest | None
    concat: str | None
    joined: list[uuid.UUID]
    """The uploads that a final one is to be made of."""

    def check_length(self) -> None:
        """Make sure that there is one source of the length alone.

        :raises BadRequest: There is none, or there are several.
        """
        deferred = request.headers.get("Upload-Defer-Length")
        sources = [self.length is not None, deferred is not None, bool(self.joined)]
        if deferred not in (None, "1") or sources.count(True) != 1:
            raise BadRequest(
                "Send Upload-Length, or Upload-Defer-Length with the value 1; "
                "neither of a final upload."
            )


def _read_creation() -> _Creation:
    """Read the headers of a request that begins an upload; a wrong one is a bad request."""
    length = read_number("Upload-Length")
    digest = read_digest()
    concat = request.headers.get("Upload-Concat")
    if not concat or concat == "partial":
        return _Creation(length, digest, concat, [])
    return _Creation(length, digest, "final", read_joined(concat))


def _begin(state: State, upload: Staged) -> Writer:
    """The writer of a new upload.

    The same partial uploads joined a second time give the final one that exists.
    """
    if upload.joined:
        return resumable.concatenate(state, upload)
    return resumable.begin(state, upload)


def _fill(state: State, writer: Writer, caller: Caller, digest: resumable.Digest | None) -> None:
    """Take the bytes that come with the creation of an upload, and finish the one that has nothing
    to wait for."""
    upload = writer.upload
    if upload.finished:
        return
    if upload.joined:
        permit = _permit_again(state, caller)
        resumable.finish(state, writer, [], upload.offset, permit, viewer=caller)
    elif upload.length == 0 or _has_body():
        _receive(state, writer, caller, upload.length, digest)


def _receive(
    state: State,
    writer: Writer,
    caller: Caller,
    length: int | None,
    digest: resumable.Digest | None,
) -> None:
    """Take the bytes of the request."""
    with _Body().received(writer) as body:
        resumable.receive(
            state,
            writer,
            body,
            announced=request.content_length,
            length=length,
            digest=digest,
            permit=_permit_again(state, caller),
            viewer=caller,
        )


def _permit_again(state: State, caller: Caller) -> resumable.Permit:
    """A question to the rule for the end of an upload, which may be long after it began."""

    def permit(upload: Staged) -> None:
        kind = KINDS[t.cast(str, upload.kind)]
        permit_creation(state, kind, caller, upload.values)

    return permit


def _described(state: State, caller: Caller, upload: Staged) -> Staged:
    """The upload with the fields of its metadata, checked as far as they can be without the
    bytes."""
    values = read_metadata(upload.metadata)
    kind = KINDS.get(values.pop("kind", ""))
    if kind is None:
        raise InvalidMedia({"kind": [f"Must be one of: {', '.join(KINDS)}."]})
    filename = label(values.pop("filename", None))
    mime_type = values.pop("filetype", None)
    schema = schemas.upload_schema_of(kind)
    checked = schemas.load(schema, without_added(schema, values))

    permit_creation(state, kind, caller, checked)
    check_storage(state, kind, checked.get("storage_type"))
    lifecycle.foresee(state, kind, checked, viewer=caller)
    _check_size(state, kind.kind, upload.length)
    state.settings.policies[kind.kind].check_announcement(filename, mime_type)
    return replace(upload, kind=kind.kind, values=checked, filename=filename, mime_type=mime_type)


def _check_size(state: State, kind: str | None, length: int | None) -> None:
    """
    :raises FileTooLarge: The length is known, and more than files of the kind, or of all, may have.
    """
    max_size = resumable.largest_size(state, kind)
    if length is not None and max_size is not None and length > max_size:
        raise FileTooLarge(max_size)


def _has_body() -> bool:
    """Tell whether the request has a body, or may have one of unknown length."""
    return bool(request.content_length or "Transfer-Encoding" in request.headers)


class _Body:
    """The body of the request. One that is cut short ends where it was cut."""

    def __init__(self) -> None:
        self._stream = open_body()  # it is checked against the size of the upload
        self._is_too_slow = False

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end, and none once the client is gone or too slow."""
        try:
            return self._stream.read(size)
        except RequestTimeout:
            self._is_too_slow = True
            return b""
        except (ClientDisconnected, OSError):
            return b""

    @contextmanager
    def received(self, writer: Writer) -> Iterator[_Body]:
        """Say in the end that the body came too slowly, if it did, once what came of it is kept.

        An upload that is media by then misses nothing: its client learns that, and does not send it
        a second time.
        """
        try:
            yield self
        except IncompleteUpload as error:
            if self._is_too_slow:
                raise RequestTimeout(f"The body comes too slowly: {error}.") from error
            raise
        if self._is_too_slow and not writer.upload.finished:
            raise RequestTimeout("The body comes too slowly. What came was kept.")
