"""Courses, their modules and lessons, videos and resources."""

from __future__ import annotations

import typing as t
from http import HTTPStatus

import marshmallow as ma
from bson import ObjectId
from flask import Blueprint, url_for
from flask.typing import ResponseReturnValue
from flask_jwt_extended import jwt_required
from marshmallow import fields, validate

from flask_dualmedia import (
    CourseResource,
    CourseVideo,
    MediaNotFound,
    delete_media,
    dump_media,
    dump_media_list,
    get_media,
    save_course_resource,
    save_course_video,
)

from ..courses import (
    check_size,
    create_course,
    delete_course,
    delete_media_of_parts,
    enrol,
    find_course,
    find_lesson_or_404,
    find_module_or_404,
    leave,
    new_lesson,
    new_module,
)
from ..database import Document, db, find_or_404, find_page
from ..schemas import (
    PAGE,
    Id,
    Schema,
    SourceSchema,
    Text,
    dump,
    page_body,
    read,
    read_query,
    read_source,
)
from ..security import require_change, viewer

blueprint = Blueprint("courses", __name__, url_prefix="/courses")


class LessonSchema(Schema):
    id = fields.String(dump_only=True)
    title = Text(required=True, validate=validate.Length(1, 200))
    summary = Text(load_default="", validate=validate.Length(max=10_000))


class ModuleSchema(Schema):
    id = fields.String(dump_only=True)
    title = Text(required=True, validate=validate.Length(1, 200))
    lessons = fields.List(
        fields.Nested(LessonSchema), load_default=list, validate=validate.Length(max=100)
    )


class CourseSchema(Schema):
    id = Id(attribute="_id", dump_only=True)
    title = Text(required=True, validate=validate.Length(1, 200))
    description = Text(load_default="", validate=validate.Length(max=10_000))
    modules = fields.List(
        fields.Nested(ModuleSchema), load_default=list, validate=validate.Length(max=100)
    )
    creator_id = fields.String(dump_only=True)
    created_at = fields.AwareDateTime(dump_only=True)


class VideoSchema(SourceSchema):
    """``lessonId`` says which lesson a lesson video is of, ``moduleId`` which module a module video
    is of."""

    title = Text(load_default=None, validate=validate.Length(max=200))
    video_type = fields.String(
        load_default="lesson", validate=validate.OneOf(["intro", "lesson", "module"])
    )
    lesson_id = Text()
    module_id = Text()

    @ma.validates_schema
    def check_part(self, data: dict[str, t.Any], **kwargs: t.Any) -> None:
        needed = {"lesson": {"lesson_id"}, "module": {"module_id"}, "intro": set()}[
            data["video_type"]
        ]
        given = {"lesson_id", "module_id"} & data.keys()
        if needed != given:
            wanted = {
                "lesson": "lessonId",
                "module": "moduleId",
                "intro": "neither lessonId nor moduleId",
            }
            raise ma.ValidationError(
                f"A video of this type takes {wanted[data['video_type']]}.", "videoType"
            )


class ResourceSchema(SourceSchema):
    resource_name = Text(load_default=None, validate=validate.Length(max=200))


@blueprint.get("")
def list_courses() -> ResponseReturnValue:
    query = read_query(PAGE)
    courses, has_next = find_page("courses", **query)
    return page_body(
        "courses", [dump_fields(course) for course in courses], query, has_next=has_next
    )


@blueprint.post("")
@jwt_required()
def post_course() -> ResponseReturnValue:
    course = create_course(read(CourseSchema()), creator_id=t.cast(str, viewer().id))
    location = url_for(".get_course", course_id=course["_id"])
    return (
        dump_course(course | {"videos": [], "resources": []}),
        HTTPStatus.CREATED,
        {"Location": location},
    )


@blueprint.get("/<ObjectId:course_id>")
@jwt_required(optional=True)
def get_course(course_id: ObjectId) -> ResponseReturnValue:
    return dump_course(find_course(course_id, viewer()))


@blueprint.patch("/<ObjectId:course_id>")
@jwt_required()
def patch_course(course_id: ObjectId) -> ResponseReturnValue:
    course = changeable(course_id)
    changes = read(CourseSchema(exclude=["modules"], partial=True))
    check_size(course | changes)
    if changes:
        db.courses.update_one({"_id": course_id}, {"$set": changes})
    return dump_course(find_course(course_id, viewer()))


@blueprint.delete("/<ObjectId:course_id>")
@jwt_required()
def remove_course(course_id: ObjectId) -> ResponseReturnValue:
    delete_course(changeable(course_id))
    return "", HTTPStatus.NO_CONTENT


@blueprint.put("/<ObjectId:course_id>/enrolment")
@jwt_required()
def put_enrolment(course_id: ObjectId) -> ResponseReturnValue:
    enrol(course_id, t.cast(str, viewer().id))
    return "", HTTPStatus.NO_CONTENT


@blueprint.delete("/<ObjectId:course_id>/enrolment")
@jwt_required()
def delete_enrolment(course_id: ObjectId) -> ResponseReturnValue:
    leave(course_id, t.cast(str, viewer().id))
    return "", HTTPStatus.NO_CONTENT


@blueprint.post("/<ObjectId:course_id>/modules")
@jwt_required()
def post_module(course_id: ObjectId) -> ResponseReturnValue:
    course = changeable(course_id)
    module = new_module(read(ModuleSchema()))
    course["modules"].append(module)
    check_size(course)
    db.courses.update_one({"_id": course_id}, {"$push": {"modules": module}})
    return {"module": dump(ModuleSchema(), module)}, HTTPStatus.CREATED


@blueprint.patch("/<ObjectId:course_id>/modules/<module_id>")
@jwt_required()
def patch_module(course_id: ObjectId, module_id: str) -> ResponseReturnValue:
    course = changeable(course_id)
    module = find_module_or_404(course, module_id)
    changes = read(ModuleSchema(only=["title"]))
    module.update(changes)
    check_size(course)
    db.courses.update_one(
        {"_id": course_id, "modules.id": module_id}, {"$set": {"modules.$.title": changes["title"]}}
    )
    return {"module": dump(ModuleSchema(), module)}


@blueprint.delete("/<ObjectId:course_id>/modules/<module_id>")
@jwt_required()
def delete_module(course_id: ObjectId, module_id: str) -> ResponseReturnValue:
    course = changeable(course_id)
    module = find_module_or_404(course, module_id)
    delete_media_of_parts(course, {module_id, *(lesson["id"] for lesson in module["lessons"])})
    db.courses.update_one({"_id": course_id}, {"$pull": {"modules": {"id": module_id}}})
    return "", HTTPStatus.NO_CONTENT


@blueprint.post("/<ObjectId:course_id>/modules/<module_id>/lessons")
@jwt_required()
def post_lesson(course_id: ObjectId, module_id: str) -> ResponseReturnValue:
    course = changeable(course_id)
    module = find_module_or_404(course, module_id)
    lesson = new_lesson(read(LessonSchema()))
    module["lessons"].append(lesson)
    check_size(course)
    db.courses.update_one(
        {"_id": course_id, "modules.id": module_id}, {"$push": {"modules.$.lessons": lesson}}
    )
    return {"lesson": dump(LessonSchema(), lesson)}, HTTPStatus.CREATED


@blueprint.patch("/<ObjectId:course_id>/lessons/<lesson_id>")
@jwt_required()
def patch_lesson(course_id: ObjectId, lesson_id: str) -> ResponseReturnValue:
    course = changeable(course_id)
    lesson = find_lesson_or_404(course, lesson_id)
    changes = read(LessonSchema(partial=True))
    lesson.update(changes)
    check_size(course)
    if changes:
        db.courses.update_one(
            {"_id": course_id},
            {
                "$set": {
                    f"modules.$[].lessons.$[lesson].{name}": value
                    for name, value in changes.items()
                }
            },
            array_filters=[{"lesson.id": lesson_id}],
        )
    return {"lesson": dump(LessonSchema(), lesson)}


@blueprint.delete("/<ObjectId:course_id>/lessons/<lesson_id>")
@jwt_required()
def delete_lesson(course_id: ObjectId, lesson_id: str) -> ResponseReturnValue:
    course = changeable(course_id)
    find_lesson_or_404(course, lesson_id)
    delete_media_of_parts(course, {lesson_id})
    db.courses.update_one({"_id": course_id}, {"$pull": {"modules.$[].lessons": {"id": lesson_id}}})
    return "", HTTPStatus.NO_CONTENT


@blueprint.post("/<ObjectId:course_id>/videos")
@jwt_required()
def post_video(course_id: ObjectId) -> ResponseReturnValue:
    course = changeable(course_id)
    source, values = read_source(VideoSchema())
    part_id = None
    if values["video_type"] == "lesson":
        part_id = find_lesson_or_404(course, values.pop("lesson_id"))["id"]
    elif values["video_type"] == "module":
        part_id = find_module_or_404(course, values.pop("module_id"))[
            "id"
        ]  # the extension has one field for both
    video = save_course_video(
        course_id, source, lesson_id=part_id, uploaded_by=viewer().id, **values
    )
    return {"video": dump_media(video)}, HTTPStatus.CREATED


@blueprint.delete("/<ObjectId:course_id>/videos/<video_id>")
@jwt_required()
def delete_video(course_id: ObjectId, video_id: str) -> ResponseReturnValue:
    changeable(course_id)
    delete_media(CourseVideo, find_media(CourseVideo, course_id, video_id).id)
    return "", HTTPStatus.NO_CONTENT


@blueprint.post("/<ObjectId:course_id>/lessons/<lesson_id>/resources")
@jwt_required()
def post_resource(course_id: ObjectId, lesson_id: str) -> ResponseReturnValue:
    find_lesson_or_404(changeable(course_id), lesson_id)
    source, values = read_source(ResourceSchema())
    resource = save_course_resource(
        course_id, source, lesson_id=lesson_id, uploaded_by=viewer().id, **values
    )
    return {"resource": dump_media(resource)}, HTTPStatus.CREATED


@blueprint.delete("/<ObjectId:course_id>/resources/<resource_id>")
@jwt_required()
def delete_resource(course_id: ObjectId, resource_id: str) -> ResponseReturnValue:
    changeable(course_id)
    delete_media(CourseResource, find_media(CourseResource, course_id, resource_id).id)
    return "", HTTPStatus.NO_CONTENT


def changeable(course_id: ObjectId) -> Document:
    course = find_or_404("courses", course_id)
    require_change(course)
    return course


def find_media(kind: t.Any, course_id: ObjectId, media_id: str) -> t.Any:
    media = get_media(kind, media_id)
    if media.mongo_course_id != str(course_id):
        raise MediaNotFound(kind.kind, media_id)
    return media


def dump_fields(course: Document) -> dict[str, t.Any]:
    """The answer that the schema would dump. Modules and lessons are kept with the names and values
    that they have in answers."""
    return {
        "id": str(course["_id"]),
        "title": course["title"],
        "description": course["description"],
        "modules": course["modules"],
        "creatorId": course["creator_id"],
        "createdAt": course["created_at"].isoformat(),
    }


def dump_course(course: Document) -> dict[str, t.Any]:
    return {
        "course": dump_fields(course),
        "videos": dump_media_list(course["videos"]),
        "resources": dump_media_list(course["resources"]),
    }
