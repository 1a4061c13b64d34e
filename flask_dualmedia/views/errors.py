"""Every error as one JSON shape with the right status."""

from __future__ import annotations

import logging
import typing as t
from http import HTTPStatus

from flask import Request, Response
from flask_jwt_extended.config import config as jwt_config
from flask_jwt_extended.exceptions import JWTExtendedException
from flask_smorest import Blueprint
from jwt import PyJWTError
from marshmallow import Schema, ValidationError
from webargs.flaskparser import FlaskParser
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import HTTPException

from ..errors import (
    ChecksumMismatch,
    DualMediaError,
    FileTooLarge,
    IncompleteUpload,
    InvalidMedia,
    MediaConflict,
    MediaNotFound,
    OwnerNotFound,
    QuotaExceeded,
    RecordRefused,
    SecondMainImage,
    Unavailable,
    UnsupportedType,
    UploadLocked,
    UploadRejected,
)
from .answers import json_answer

logger = logging.getLogger("flask_dualmedia")


class Status(t.NamedTuple):
    """A status that HTTP does not know."""

    value: int
    phrase: str


CHECKSUM_MISMATCH = Status(460, "Checksum Mismatch")
"""Of tus."""

# First match wins: subclasses stand before their base.
_STATUS: tuple[tuple[type[DualMediaError], HTTPStatus | Status], ...] = (
    (InvalidMedia, HTTPStatus.UNPROCESSABLE_ENTITY),
    (OwnerNotFound, HTTPStatus.NOT_FOUND),
    (MediaNotFound, HTTPStatus.NOT_FOUND),
    (UploadLocked, HTTPStatus.LOCKED),
    (MediaConflict, HTTPStatus.CONFLICT),
    (FileTooLarge, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (QuotaExceeded, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (UnsupportedType, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (ChecksumMismatch, CHECKSUM_MISMATCH),
    (IncompleteUpload, HTTPStatus.BAD_REQUEST),
    (UploadRejected, HTTPStatus.UNPROCESSABLE_ENTITY),
    (RecordRefused, HTTPStatus.UNPROCESSABLE_ENTITY),
    (Unavailable, HTTPStatus.SERVICE_UNAVAILABLE),
)


class Parser(FlaskParser):
    """webargs, with errors as ours and unknown query parameters refused: a misspelt filter must not list all."""

    DEFAULT_UNKNOWN_BY_LOCATION = {}

    def load_querystring(self, req: Request, schema: Schema) -> t.Any:
        if not req.query_string:
            return {}
        # Where the host takes tokens from the query, theirs is no parameter of ours.
        token = jwt_config.query_string_name if "query_string" in jwt_config.token_location else None
        pairs = ((name, value) for name, value in req.args.items(multi=True) if name != token)
        return self._makeproxy(MultiDict(pairs), schema)

    def handle_error(self, error: ValidationError, *args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        messages = t.cast("dict[str, t.Any]", error.messages)
        raise InvalidMedia({field: texts for part in messages.values() for field, texts in part.items()}) from error


def register(blueprint: Blueprint) -> None:
    """Register the handlers on the blueprint: the host's own errors look as they did.

    An error of the host's own, from one of its hooks on a media route, goes to its handler for that status or class, if
    it has one.
    """
    blueprint.register_error_handler(DualMediaError, _handle_ours)
    blueprint.register_error_handler(HTTPException, answer_http)
    blueprint.register_error_handler(JWTExtendedException, _handle_jwt)
    blueprint.register_error_handler(PyJWTError, _handle_jwt)


def documented(blueprint: Blueprint, *statuses: int) -> t.Callable[[t.Any], t.Any]:
    """Decorator that documents the errors a view may answer."""
    # flask-smorest has a response of this name and our shape for every status.
    return blueprint.doc(responses={str(status): HTTPStatus(status).name for status in statuses})


def _answer(status: HTTPStatus | Status, message: str | None, errors: dict[str, list[str]] | None = None) -> Response:
    payload: dict[str, t.Any] = {"code": status.value, "status": status.phrase}
    if message:
        payload["message"] = str(message)  # which may be one that the app translates lazily
    if errors:
        payload["errors"] = errors
    response = json_answer(payload)
    response.status = f"{status.value} {status.phrase}"
    return response


def _handle_ours(error: DualMediaError) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
    if status is None:
        raise error  # a bug or a broken storage: the host's handler for 500 and its log
    if isinstance(error, InvalidMedia):
        return _answer(status, "Some fields are not valid.", error.errors)
    if isinstance(error, RecordRefused):
        logger.warning("%s", error)  # it may name what only the host's people are to know
        return _answer(status, "The database does not accept these values.")
    response = _answer(status, str(error), _fields(error))
    if isinstance(error, Unavailable):
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _fields(error: DualMediaError) -> dict[str, list[str]] | None:
    """Messages by field, of errors that belong to one."""
    if isinstance(error, UploadRejected):
        return {"file": [str(error)]}  # the name that the bytes have in a form
    if isinstance(error, SecondMainImage):
        return {"isMainImage": [str(error)]}
    return None


def answer_http(error: HTTPException) -> Response:
    """Werkzeug's errors keep their headers: ``Content-Range`` of 416, ``Allow`` of 405. One that brings its answer with
    it keeps all of that."""
    given = error.get_response()
    if error.response is not None or error.code is None or error.code < 400:
        return t.cast(Response, given)
    response = _answer(HTTPStatus(error.code), error.description)
    for name, value in given.headers:
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _handle_jwt(error: Exception) -> Response:
    response = _answer(HTTPStatus.UNAUTHORIZED, str(error) or "A valid token is required.")
    response.headers["WWW-Authenticate"] = "Bearer"
    return response
