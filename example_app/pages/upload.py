"""The upload page. Its forms are sent by ``upload.js`` to the API, so that a progress bar can be
shown."""

from __future__ import annotations

import typing as t
from http import HTTPStatus

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from marshmallow import ValidationError, validate

from ..courses import create_course
from ..database import db
from ..schemas import Schema, Text, read_form
from ..security import ADMIN, viewer

blueprint = Blueprint("upload", __name__, url_prefix="/upload")


class NewCourseSchema(Schema):
    title = Text(required=True, validate=validate.Length(1, 200))
    description = Text(load_default="", validate=validate.Length(max=10_000))
    lesson = Text(required=True, validate=validate.Length(1, 200))


@blueprint.before_request
def require_login() -> ResponseReturnValue | None:
    return None if viewer().id else redirect(url_for("pages.account.show_login", next=request.path))


@blueprint.get("")
def show(errors: t.Any = None) -> str:
    mine = {} if viewer().role == ADMIN else {"creator_id": viewer().id}
    courses = list(db.courses.find(mine).sort("_id", -1).limit(100))
    return render_template("upload.html", courses=courses, errors=errors or {})


@blueprint.post("/courses")
def start_course() -> ResponseReturnValue:
    """Make a course of one module and one lesson, to have something to upload to."""
    try:
        values = read_form(NewCourseSchema())
    except ValidationError as error:
        return show(error.messages), HTTPStatus.UNPROCESSABLE_ENTITY
    lesson = {"title": values.pop("lesson"), "summary": ""}
    modules = [{"title": "Module 1", "lessons": [lesson]}]
    create_course(values | {"modules": modules}, creator_id=t.cast(str, viewer().id))
    return redirect(url_for(".show") + "#course-video")
