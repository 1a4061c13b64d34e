"""Routes of resumable uploads: tus 1.0, with all of its extensions but checksum trailers."""

from __future__ import annotations

import base64
import binascii
import hashlib
import typing as t
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from flask import Response, current_app, request, url_for
from flask.views import MethodView
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

from .. import lifecycle, resumable, schemas
from ..authorization import has_admin_role
from ..bodies import open_body
from ..errors import DualMediaError, FileTooLarge, IncompleteUpload, InvalidMedia, MediaNotFound
from ..models import KINDS, new_id
from ..security import Caller, require_caller, token_first
from ..staging import Staged, Writer
from ..state import State, get_state
from ..uploads import label
from . import errors
from .answers import empty_answer
from .records import SECURITY, check_storage, parse_id, permit_creation

VERSION = "1.0.0"

EXTENSIONS = (
    "creation", "creation-with-upload", "creation-defer-length", "expiration", "checksum", "termination",
    "concatenation",
)  # fmt: skip

ALGORITHMS = ("sha1", "sha256", "md5")

CONTENT_TYPE = "application/offset+octet-stream"

OF_CLIENTS = {"name", "type", "relativePath"}
"""What Uppy adds of itself to the metadata; its ``filename`` and ``filetype`` say the same."""

OF_TYPES = {"filetype", "type"}
"""Names of declared types: one that is not even text is no error, and counts as not declared."""

_EXPOSED = (
    "Location", "Content-Location", "Upload-Offset", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata",
    "Upload-Expires", "Upload-Concat", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size",
    "Tus-Checksum-Algorithm",
)  # fmt: skip

UPLOAD_ID = {"in": "path", "name": "upload_id", "required": True, "schema": {"type": "string", "format": "uuid"}}


def _headers(*names: str) -> dict[str, t.Any]:
    return {name: {"schema": {"type": "string"}} for name in names}


_BYTES = {"type": "integer", "minimum": 0}
_FORMS: dict[str, dict[str, t.Any]] = {
    "Tus-Resumable": {"type": "string", "enum": [VERSION]},
    "Upload-Length": _BYTES,
    "Upload-Offset": _BYTES,
    "Upload-Defer-Length": {"type": "string", "enum": ["1"]},
    "X-HTTP-Method-Override": {"type": "string", "enum": ["HEAD", "PATCH", "DELETE"]},
}
"""Schemas of the headers that are more than text."""


def _parameters(*names: str, required: bool = False) -> list[dict[str, t.Any]]:
    """The first of them is missed by 412, not by 400, and so not called required."""
    return [
        {
            "in": "header", "name": name, "schema": _FORMS.get(name, {"type": "string"}),
            "required": required and name != "Tus-Resumable",
        }
        for name in ("Tus-Resumable", *names)
    ]  # fmt: skip


_BODY = {CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}}
_MISMATCH = {
    str(errors.CHECKSUM_MISMATCH.value): {
        "description": errors.CHECKSUM_MISMATCH.phrase,
        "content": {"application/json": {"schema": schemas.ErrorSchema}},
    }
}


def add_views(blueprint: Blueprint) -> None:
    """Add the routes of all kinds."""
    blueprint.after_request(_add_headers)

    @blueprint.route("/uploads", endpoint="uploads")
    class Uploads(MethodView):
        @blueprint.doc(operationId="describe_uploads")
        @blueprint.response(204, headers=_headers(*_EXPOSED[-5:]))
        def options(self) -> Response:
            """What of tus 1.0 there is

            Without a token.
            """
            return _describe(get_state())

        @token_first
        @blueprint.doc(
            security=SECURITY,
            operationId="create_upload",
            parameters=_parameters(
                "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Concat", "Upload-Checksum"
            ),
            requestBody={"required": False, "content": _BODY},
            responses=_MISMATCH,
        )
        @blueprint.response(201, headers=_headers("Location", "Content-Location", "Upload-Offset", "Upload-Expires"))
        @errors.documented(blueprint, 400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 423, 503)
        def post(self) -> Response:
            """Begin a resumable upload

            `Upload-Metadata` has `kind`, as in URLs, `filename`, `filetype` and the fields of the record.
            """
            caller = require_caller()
            _check_version()
            return _create(get_state(), caller)

    @blueprint.route("/uploads/<string:upload_id>", endpoint="upload", parameters=[UPLOAD_ID])
    class Item(MethodView):
        @blueprint.doc(operationId="describe_upload")
        @blueprint.response(204, headers=_headers(*_EXPOSED[-5:]))
        @errors.documented(blueprint, 404)
        def options(self, upload_id: str) -> Response:
            """What of tus 1.0 there is

            Without a token, and whether there is such an upload or not.
            """
            if parse_id(upload_id) is None:
                raise MediaNotFound("uploads", upload_id)
            return _describe(get_state())

        @token_first
        @blueprint.doc(security=SECURITY, operationId="head_upload", parameters=_parameters())
        @blueprint.response(200, headers=_headers("Upload-Offset", "Upload-Length", "Content-Location"))
        @errors.documented(blueprint, 401, 404, 410, 412, 503)
        def head(self, upload_id: str) -> Response:
            """How many bytes are there

            For the identity that began it, and admins. `Content-Location` is the record, once there is one.
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
                urls = " ".join(url_for(".upload", upload_id=part) for part in upload.joined)
                response.headers["Upload-Concat"] = f"final;{urls}" if urls else upload.concat
            response.headers["Cache-Control"] = "no-store"
            return response

        @token_first
        @blueprint.doc(
            security=SECURITY,
            operationId="append_to_upload",
            parameters=[
                *_parameters("Upload-Offset", required=True),
                *_parameters("Upload-Length", "Upload-Checksum")[1:],
            ],
            requestBody={"required": True, "content": _BODY},
            responses=_MISMATCH,
        )
        @blueprint.response(204, headers=_headers("Upload-Offset", "Upload-Expires", "Content-Location"))
        @errors.documented(blueprint, 400, 401, 403, 404, 408, 409, 410, 412, 413, 415, 422, 423, 503)
        def patch(self, upload_id: str) -> Response:
            """Send the next bytes

            With the last one the upload becomes media, and `Content-Location` is its record.
            """
            upload = _find(upload_id)
            if request.mimetype != CONTENT_TYPE:
                raise UnsupportedMediaType(f"Send {CONTENT_TYPE}.")
            offset, digest = _number("Upload-Offset"), _digest()
            if offset is None:
                raise BadRequest("Upload-Offset is missing.")
            if upload.concat == "final":
                raise Forbidden("A final upload gets its bytes from its partial ones.")
            writer = _lock(upload.id)
            with writer:
                _append(get_state(), writer, offset, digest)
            return _answer(writer.upload, 204)

        @token_first
        @blueprint.doc(security=SECURITY, operationId="remove_upload", parameters=_parameters())
        @blueprint.response(204)
        @errors.documented(blueprint, 401, 404, 410, 412, 423, 503)
        def delete(self, upload_id: str) -> Response:
            """Remove an upload with its bytes

            The record of one that is finished stays.
            """
            with _lock(_find(upload_id).id) as writer:
                writer.remove()
            return empty_answer()

        @token_first
        @blueprint.doc(
            security=SECURITY,
            operationId="override_upload_method",
            parameters=_parameters("X-HTTP-Method-Override", required=True),
            requestBody={"required": False, "content": _BODY},
            responses=_MISMATCH,
        )
        @blueprint.response(204)
        @errors.documented(blueprint, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 415, 422, 423, 503)
        def post(self, upload_id: str) -> Response:
            """HEAD, PATCH or DELETE, for clients that cannot send them"""
            methods = {"HEAD": self.head, "PATCH": self.patch, "DELETE": self.delete}
            chosen = methods.get(request.headers.get("X-HTTP-Method-Override", ""))
            if chosen is None:
                raise MethodNotAllowed(["OPTIONS", *methods])
            return chosen(upload_id)


def _add_headers(response: Response) -> Response:
    if (request.endpoint or "").endswith((".uploads", ".upload")):
        response.headers["Tus-Resumable"] = VERSION
        response.headers["Access-Control-Expose-Headers"] = ", ".join(_EXPOSED)
        if response.status_code == PreconditionFailed.code:
            response.headers["Tus-Version"] = VERSION
    return response


def _describe(state: State) -> Response:
    response = empty_answer()
    response.headers["Tus-Version"] = VERSION
    response.headers["Tus-Extension"] = ",".join(EXTENSIONS)
    response.headers["Tus-Checksum-Algorithm"] = ",".join(ALGORITHMS)
    if state.settings.max_size is not None:
        response.headers["Tus-Max-Size"] = str(state.settings.max_size)
    return response


def _answer(upload: Staged, status: int) -> Response:
    response = current_app.response_class(status=status)
    response.headers["Upload-Offset"] = str(upload.offset)
    response.headers["Upload-Expires"] = http_date(upload.expires_at)
    if upload.finished:
        name = t.cast(str, upload.kind).replace("-", "_")
        response.headers["Content-Location"] = url_for(f".{name}_item", media_id=upload.id)
    return response


def _check_version() -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        raise PreconditionFailed(f"Tus-Resumable is not {VERSION}.")


def _find(upload_id: str) -> Staged:
    """The upload, if the caller began it or is an admin: another's is not there."""
    caller = require_caller()
    _check_version()
    key = parse_id(upload_id)
    upload = None if key is None else get_state().staging.get(key)
    if upload is None or not (has_admin_role(caller.claims) or upload.identity == caller.identity):
        raise MediaNotFound("uploads", upload_id)
    if upload.is_expired:
        raise Gone("The upload has expired.")
    return upload


def _lock(upload_id: uuid.UUID) -> Writer:
    writer = get_state().staging.lock(upload_id)
    if writer is None:  # removed meanwhile
        raise MediaNotFound("uploads", upload_id)
    return writer


def _append(state: State, writer: Writer, offset: int, digest: resumable.Digest | None) -> None:
    upload = writer.upload
    if offset != upload.offset:
        raise Conflict(f"The upload has {upload.offset} bytes.")
    length = _number("Upload-Length")
    if length is not None and (length < offset or upload.length not in (None, length)):
        raise BadRequest("Upload-Length is not that of this upload.")
    length = upload.length if length is None else length
    _check_size(state, length)
    if not upload.finished or _has_body():
        _receive(state, writer, length, digest)


def _create(state: State, caller: Caller) -> Response:
    length, digest, concat = _number("Upload-Length"), _digest(), request.headers.get("Upload-Concat")
    metadata = request.headers.get("Upload-Metadata")
    joined = _joined(concat) if concat and concat != "partial" else []
    if _has_body():
        if joined:
            raise BadRequest("A final upload gets its bytes from its partial ones.")
        if request.mimetype != CONTENT_TYPE:
            raise UnsupportedMediaType(f"Send {CONTENT_TYPE}.")
    deferred = request.headers.get("Upload-Defer-Length")
    if deferred not in (None, "1") or [length, deferred, concat if joined else None].count(None) != 2:
        raise BadRequest("Send Upload-Length, or Upload-Defer-Length with the value 1; neither of a final upload.")
    _check_size(state, length)
    upload = Staged(
        new_id(), caller.identity, state.staging.expiry(), length=length, metadata=metadata, joined=joined,
        concat="final" if joined else concat,
    )  # fmt: skip
    if concat != "partial":
        upload = _described(state, caller, upload)
    with resumable.concatenate(state, upload) if joined else state.staging.add(upload) as writer:
        try:
            _fill(state, writer, digest)
        except (DualMediaError, RequestTimeout):
            if not joined and not writer.upload.is_expired:
                resumable.give_up(writer)  # nobody has heard of it
            raise
    response = _answer(writer.upload, 201)
    response.headers["Location"] = url_for(".upload", upload_id=writer.upload.id)
    return response


def _fill(state: State, writer: Writer, digest: resumable.Digest | None) -> None:
    """Take what comes with the creation of an upload, and finish the one that has nothing to wait for."""
    upload = writer.upload
    if upload.finished:
        return
    if upload.joined:
        resumable.finish(state, writer, [], upload.offset)
    elif upload.length == 0 or _has_body():
        _receive(state, writer, upload.length, digest)


def _receive(state: State, writer: Writer, length: int | None, digest: resumable.Digest | None) -> None:
    with _Body().received() as body:
        resumable.receive(state, writer, body, announced=request.content_length, length=length, digest=digest)


def _described(state: State, caller: Caller, upload: Staged) -> Staged:
    """The upload with what its metadata says about the record, checked as far as it can be without the bytes."""
    values = _metadata(upload.metadata)
    kind = KINDS.get(values.pop("kind", ""))
    if kind is None:
        raise InvalidMedia({"kind": [f"Must be one of: {', '.join(KINDS)}."]})
    filename, mime_type = label(values.pop("filename", None)), values.pop("filetype", None)
    fields = {name: value for name, value in values.items() if name not in OF_CLIENTS}
    checked = schemas.load(schemas.upload_schema_of(kind), fields)
    permit_creation(state, kind, caller, checked)
    check_storage(state, kind, checked.get("storage_type"))
    lifecycle.foresee(state, kind, checked)
    policy = state.settings.policies[kind.kind]
    limit = policy.max_size
    if limit is not None and (upload.length or 0) > limit:
        raise FileTooLarge(limit)
    policy.check_announcement(filename, mime_type)
    return replace(upload, kind=kind.kind, values=checked, filename=filename, mime_type=mime_type)


def _metadata(header: str | None) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in (header or "").split(","):
        name, _, encoded = pair.strip().partition(" ")
        if not name and not (header or "").strip():
            continue
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True)
            value = decoded.decode(errors="replace" if name in OF_TYPES else "strict")
        except (binascii.Error, UnicodeDecodeError):
            raise BadRequest(f"Upload-Metadata: {name} is not UTF-8 text in base64.") from None
        if not name or name in values:
            raise BadRequest("Upload-Metadata: a name is missing, or there twice.")
        values[name] = value
    return values


def _joined(concat: str) -> list[uuid.UUID]:
    word, _, urls = concat.partition(";")
    ids = [parse_id(urlsplit(url).path.rpartition("/")[2]) for url in urls.split()]
    found = [upload_id for upload_id in ids if upload_id is not None]
    if word.strip() != "final" or not found or len(found) < len(ids):
        raise BadRequest("Upload-Concat is neither partial nor final with the URLs of uploads.")
    return found


def _number(name: str) -> int | None:
    text = request.headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= schemas.MAX_BIGINT):
        raise BadRequest(f"{name} is not a number of bytes.")
    return int(text)


def _digest() -> resumable.Digest | None:
    """What ``Upload-Checksum`` says that the body must hash to."""
    header = request.headers.get("Upload-Checksum")
    if header is None:
        return None
    algorithm, _, encoded = header.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise BadRequest(f"Upload-Checksum: the algorithm is none of {', '.join(ALGORITHMS)}.")
    running = hashlib.new(algorithm, usedforsecurity=False)
    try:
        expected = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        expected = b""
    if len(expected) != running.digest_size:
        raise BadRequest(f"Upload-Checksum is not {running.digest_size} bytes in base64.")
    return resumable.Digest(running, expected)


def _check_size(state: State, length: int | None) -> None:
    max_size = state.settings.max_size
    if length is not None and max_size is not None and length > max_size:
        raise FileTooLarge(max_size)


def _has_body() -> bool:
    return bool(request.content_length or "Transfer-Encoding" in request.headers)


class _Body:
    """The body of the request. One that is cut short ends where it was cut."""

    def __init__(self) -> None:
        self._stream = open_body()  # it is checked against the size of the upload
        self._is_too_slow = False

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except RequestTimeout:
            self._is_too_slow = True
            return b""
        except (ClientDisconnected, OSError):
            return b""

    @contextmanager
    def received(self) -> Iterator[_Body]:
        """Say in the end that it came too slowly, if it did, once what came of it is kept."""
        try:
            yield self
        except IncompleteUpload as error:
            if self._is_too_slow:
                raise RequestTimeout(f"The body comes too slowly: {error}.") from error
            raise
        if self._is_too_slow:
            raise RequestTimeout("The body comes too slowly. What came was kept.")
