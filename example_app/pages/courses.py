"""The list of courses, and one with its videos and resources."""

from __future__ import annotations

from http import HTTPStatus

from bson import ObjectId
from flask import Blueprint, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from ..courses import attach, enrol, find_course
from ..database import db, find_page
from ..schemas import PageSchema, read_query
from ..security import viewer

blueprint = Blueprint("courses", __name__, url_prefix="/courses")


@blueprint.get("")
def show_list() -> str:
    query = read_query(PageSchema())
    courses, has_next = find_page("courses", **query)
    attach(courses, viewer())
    return render_template("courses.html", courses=courses, has_next=has_next, **query)


@blueprint.get("/<ObjectId:course_id>")
def show(course_id: ObjectId) -> str:
    course = find_course(course_id, viewer())
    reviews = list(db.reviews.find({"target_id": course_id}).sort("_id", -1).limit(20))
    return render_template("course.html", course=course, reviews=reviews)


@blueprint.post("/<ObjectId:course_id>/enrolment")
def post_enrolment(course_id: ObjectId) -> ResponseReturnValue:
    user_id = viewer().id
    if user_id is None:
        return redirect(
            url_for("pages.account.show_login", next=url_for(".show", course_id=course_id))
        )
    enrol(course_id, user_id)
    return redirect(url_for(".show", course_id=course_id), HTTPStatus.SEE_OTHER)
