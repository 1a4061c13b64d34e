"""Errors as JSON under ``/api``, as a page elsewhere. The extension's blueprint answers for
itself."""

from __future__ import annotations

import typing as t
from http import HTTPStatus

from flask import Flask, render_template, request
from flask.typing import ResponseReturnValue
from marshmallow import ValidationError
from pymongo.errors import ConnectionFailure
from werkzeug.exceptions import HTTPException


def init_app(app: Flask) -> None:
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(ValidationError, answer_validation_error)
    app.register_error_handler(ConnectionFailure, answer_outage)


def error_body(status: HTTPStatus, message: str | None, errors: t.Any = None) -> dict[str, t.Any]:
    """The shape of every error, the same as the extension's."""
    body = {"code": status.value, "status": status.phrase, "message": message}
    return body | {"errors": errors} if errors else body


def answer(status: HTTPStatus, message: str | None, errors: t.Any = None) -> ResponseReturnValue:
    if request.path.startswith("/api/"):
        return error_body(status, message, errors), status
    return render_template("error.html", status=status, message=message), status


def answer_http_error(error: HTTPException) -> ResponseReturnValue:
    if (
        error.code is None or error.code < HTTPStatus.BAD_REQUEST
    ):  # a redirect of the routing, or an abort(response)
        return error
    # Errors of the extension are HTTP errors, and say which fields they are about.
    fields = getattr(error, "fields", None)
    body, status = t.cast(
        "tuple[t.Any, HTTPStatus]", answer(HTTPStatus(error.code), error.description, fields)
    )
    headers = [
        (name, value) for name, value in error.get_headers() if name.lower() != "content-type"
    ]  # Allow, Retry-After
    return body, status, headers


def answer_validation_error(error: ValidationError) -> ResponseReturnValue:
    return answer(HTTPStatus.UNPROCESSABLE_ENTITY, "The input is not valid.", error.messages)


def answer_outage(error: Exception) -> ResponseReturnValue:
    body, status = t.cast(
        "tuple[t.Any, HTTPStatus]",
        answer(HTTPStatus.SERVICE_UNAVAILABLE, "A database does not answer. Try again soon."),
    )
    return body, status, {"Retry-After": "5"}
