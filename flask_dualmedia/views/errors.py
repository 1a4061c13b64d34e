"""Every error as one JSON shape with the right status."""

from __future__ import annotations

import typing as t
from http import HTTPStatus

from flask import Request, Response
from flask_jwt_extended.config import config as jwt_config
from flask_jwt_extended.exceptions import JWTExtendedException
from flask_smorest import Blueprint
from jwt import PyJWTError, exceptions
from marshmallow import Schema, ValidationError
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import HTTPException, Unauthorized

from ..databases.storable import log_refusal
from ..errors import AnsweredError, InvalidMedia
from .added_fields import Values, read_form
from .answers import json_answer

_NO_SUBJECT: tuple[type[Exception], ...] = ()
"""The error of PyJWT, from version 2.10 on, for an identity that is a number."""
if hasattr(exceptions, "InvalidSubjectError"):
    _NO_SUBJECT = (exceptions.InvalidSubjectError,)


class Parser(FlaskParser):
    """webargs, with errors as ours.

    Unknown query parameters are refused: a misspelt filter must not list all.
    """

    DEFAULT_UNKNOWN_BY_LOCATION = {}

    def load_querystring(self, req: Request, schema: Schema) -> t.Any:
        if not req.query_string:
            return {}
        parameters = req.args.to_dict(flat=False)
        if "query_string" in jwt_config.token_location:
            # The token of the host is no parameter of ours.
            parameters.pop(jwt_config.query_string_name, None)
        return read_form(schema, parameters)

    def handle_error(self, error: ValidationError, *args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        by_location = t.cast("dict[str, Values]", error.messages)
        messages: Values = {}
        for messages_by_field in by_location.values():
            messages.update(messages_by_field)
        raise InvalidMedia(messages) from error


def register(blueprint: Blueprint) -> None:
    """Register the handlers on the blueprint: the host's own errors look as they did.

    An error of the host's own, from one of its hooks on a media route, goes to its handler for that
    status or class, if it has one.
    """
    blueprint.register_error_handler(HTTPException, answer)
    blueprint.register_error_handler(JWTExtendedException, _answer_jwt)
    blueprint.register_error_handler(PyJWTError, _answer_jwt)


def documented(blueprint: Blueprint, *statuses: int) -> t.Callable[[t.Any], t.Any]:
    """Decorator that documents the errors a view may answer."""
    # flask-smorest has a response of this name and our shape for every status.
    responses = {str(status): HTTPStatus(status).name for status in statuses}
    return blueprint.doc(responses=responses)


def answer(error: HTTPException) -> Response:
    """The answer to an error, with its headers: ``Content-Range`` of 416, ``Allow`` of 405.

    An error that brings its answer with it keeps all of that.
    """
    original = error.get_response()
    if error.response is not None or error.code is None or error.code < 400:
        return t.cast(Response, original)

    if isinstance(error, AnsweredError):
        log_refusal(error)
    response = json_answer(_payload(error))
    response.status = f"{error.code} {error.name}"
    for name, value in original.headers:
        if name not in ("Content-Type", "Content-Length"):
            response.headers[name] = value
    return response


def _payload(error: HTTPException) -> Values:
    payload: Values = {"code": error.code, "status": error.name}
    if isinstance(error, InvalidMedia):
        payload["message"] = "Some fields are not valid."
    elif error.description:
        # The description may be one that the app translates lazily.
        payload["message"] = str(error.description)
    if isinstance(error, AnsweredError) and error.fields:
        payload["errors"] = error.fields
    return payload


def _answer_jwt(error: Exception) -> Response:
    message = str(error) or "A valid token is required."
    if isinstance(error, _NO_SUBJECT):
        message = (
            f"{message}: the app has to create tokens with an identity that is text, "
            "as identity=str(user.id)."
        )
    response = answer(Unauthorized(message))
    response.headers["WWW-Authenticate"] = "Bearer"
    return response
