"""Courses, their modules and lessons, and the media of each, for the API and the pages."""

from __future__ import annotations

import typing as t

import bson
from bson import ObjectId
from flask import abort

from flask_dualmedia import (
    CourseResource,
    CourseVideo,
    DatabaseUnavailable,
    attach_media,
    delete_media,
    delete_media_of,
    remember_owner,
)

from .database import Document, db, find_or_404, now
from .security import Viewer

# Bytes of a course with its modules and lessons; a document of MongoDB has 16 MiB at most.
MAX_SIZE = 500_000
MAX_PARTS = 100  # modules of a course, and lessons of a module
MAX_STUDENTS = 10_000


def new_lesson(values: t.Mapping[str, t.Any]) -> Document:
    return {"id": str(ObjectId()), **values}


def new_module(values: t.Mapping[str, t.Any]) -> Document:
    lessons = [new_lesson(lesson) for lesson in values.get("lessons", [])]
    return {"id": str(ObjectId()), "title": values["title"], "lessons": lessons}


def create_course(values: t.Mapping[str, t.Any], *, creator_id: str) -> Document:
    course = {
        "_id": ObjectId(),
        **values,
        "modules": [new_module(module) for module in values.get("modules", [])],
        "student_ids": [],
        "creator_id": creator_id,
        "created_at": now(),
    }
    check_size(course)
    db.courses.insert_one(course)
    return course


def check_size(course: Document) -> None:
    """Refuse what would make a course larger than it may be, before it is written. Its students are
    counted apart."""
    lessons = [module["lessons"] for module in course["modules"]]
    if any(len(parts) > MAX_PARTS for parts in [course["modules"], *lessons]):
        limits = f"at most {MAX_PARTS} modules, and each of them at most {MAX_PARTS} lessons"
        abort(413, f"A course has {limits}.")
    if len(bson.encode(course | {"student_ids": []})) > MAX_SIZE:
        abort(413, f"A course with its modules and lessons has at most {MAX_SIZE} bytes.")


def find_course(course_id: ObjectId, viewer: Viewer) -> Document:
    """The course with those of its ``videos`` and ``resources`` that the viewer may see: two
    queries in all."""
    return attach([find_or_404("courses", course_id)], viewer)[0]


def attach(courses: list[Document], viewer: Viewer) -> list[Document]:
    for course in courses:
        remember_owner("course", course)  # the rule asks for it
    attach_media(courses, visible_to=viewer.claims, videos=CourseVideo, resources=CourseResource)
    return courses


def enrol(course_id: ObjectId, user_id: str) -> None:
    """Let a user see the videos and resources of a course that are not public."""
    course = find_or_404("courses", course_id)
    if len(course["student_ids"]) >= MAX_STUDENTS and user_id not in course["student_ids"]:
        abort(409, "The course is full.")
    db.courses.update_one({"_id": course_id}, {"$addToSet": {"student_ids": user_id}})


def leave(course_id: ObjectId, user_id: str) -> None:
    """Take that back."""
    db.courses.update_one({"_id": course_id}, {"$pull": {"student_ids": user_id}})


def find_module_or_404(course: Document, module_id: str) -> Document:
    module = next((module for module in course["modules"] if module["id"] == module_id), None)
    return module or abort(404, "The course has no module with this id.")


def find_lesson_or_404(course: Document, lesson_id: str) -> Document:
    lessons = (lesson for module in course["modules"] for lesson in module["lessons"])
    lesson = next((lesson for lesson in lessons if lesson["id"] == lesson_id), None)
    return lesson or abort(404, "The course has no lesson with this id.")


def delete_course(course: Document) -> None:
    """Delete a course, then what belongs to it: of a failure on the way ``flask dualmedia check
    --repair`` takes away the media that is left."""
    db.courses.delete_one({"_id": course["_id"]})
    delete_media_of("course", course["_id"])
    db.reviews.delete_many({"target_id": course["_id"]})


def delete_media_of_parts(course: Document, part_ids: set[str]) -> None:
    """Delete the videos and resources of some modules and lessons."""
    attach_media([course], videos=CourseVideo, resources=CourseResource)
    if course["videos"].partial:
        # Media that is not listed would stay for ever: its course is still there.
        raise DatabaseUnavailable("PostgreSQL")
    for media in [*course.pop("videos"), *course.pop("resources")]:
        if media.mongo_lesson_id in part_ids:
            delete_media(type(media), media.id)
