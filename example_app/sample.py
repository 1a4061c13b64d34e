"""Sample users, products and courses with real media, for an empty database."""

from __future__ import annotations

import itertools
import logging
import typing as t
from datetime import timedelta
from pathlib import Path

from bson import ObjectId
from flask import Flask
from pymongo.errors import DuplicateKeyError
from werkzeug.security import generate_password_hash

from flask_dualmedia import (
    CourseResource,
    CourseVideo,
    DualMediaError,
    ProductImage,
    attach_media,
    delete_media,
    save_course_resource,
    save_course_video,
    save_product_image,
)

from .database import Document, db, now

logger = logging.getLogger(__name__)

MEDIA = Path(__file__).parent / "sample_media"
MARKER = "sample-data"
# Longer than loading takes. After it another process may finish what a killed one began.
LEASE = timedelta(minutes=1)
LOGIN = "demo-password"  # of all sample accounts


def sample_id(number: int) -> ObjectId:
    """Fixed ids: loading twice changes nothing."""
    return ObjectId(f"{number:024x}")


ADMIN_ID, DEMO_ID = sample_id(1), sample_id(2)

USERS = [
    {"_id": ADMIN_ID, "email": "admin@example.com", "name": "Ada Admin", "role": "admin"},
    {"_id": DEMO_ID, "email": "demo@example.com", "name": "Demo Maker", "role": "user"},
]

# Name, description, price in cents, pictures with their alternative texts; the first is the main
# one.
PRODUCTS: list[tuple[str, str, int, list[tuple[str, str]]]] = [
    (
        "Postcards, set of four",
        "Four scenes from an open movie on heavy recycled card, 10 x 15 cm, with envelopes.",
        890,
        [
            ("bunny-stream.jpg", "A stream with water lilies"),
            ("bunny-meadow.jpg", "A meadow before a fir"),
            ("bunny-bird.jpg", "A sleepy bird on a branch"),
            ("bunny-title.jpg", "The burrow, with the title of the film"),
        ],
    ),
    (
        "Poster: the sleepy bird",
        "A patient companion for the wall above your desk. 50 x 70 cm, matt paper.",
        1450,
        [("bunny-bird.jpg", "A sleepy bird on a branch")],
    ),
    (
        "Canvas: morning meadow",
        "First light over the hills, stretched on a frame of spruce. 80 x 45 cm, ready to hang.",
        8900,
        [
            ("bunny-meadow.jpg", "A meadow before a fir"),
            ("bunny-stream.jpg", "A stream with water lilies"),
        ],
    ),
    (
        "Photo print: below the falls",
        "A figure before a wall of water, in black and white. Signed, 40 x 60 cm.",
        4200,
        [("portrait.jpg", "A person standing before a waterfall")],
    ),
    (
        "Photo print: waterfall in the evening",
        "Long exposure of a waterfall over an old cliff. Signed, 60 x 40 cm.",
        4200,
        [
            ("landscape-exif-orientation-6.jpg", "A waterfall beside a cliff"),
            ("portrait.jpg", "A person standing before a waterfall"),
        ],
    ),
    (
        "Film night box",
        "An open movie on a card, two bags of popcorn and a blanket for one sofa.",
        2990,
        [("bunny-title.jpg", "The burrow, with the title of the film")],
    ),
]

COURSES: list[Document] = [
    {
        "title": "Seeing in three dimensions",
        "description": "The geometry behind every rendered picture, from points to surfaces, "
        "with a script to keep.",
        "modules": [
            {
                "title": "Foundations",
                "lessons": [
                    {
                        "title": "Spaces and distances",
                        "summary": "What near and far mean.",
                        "resource": "geotopo.pdf",
                    },
                    {"title": "Surfaces", "summary": "Manifolds, gently."},
                ],
            },
        ],
    },
    {
        "title": "Make your first animated short",
        "description": "How a small team turns a story into a film, step by step, "
        "on the example of an open movie.",
        "intro": "Welcome",
        "modules": [
            {
                "title": "Looking closely",
                "lessons": [
                    {
                        "title": "Setting the scene",
                        "summary": "Watch the opening shot twice: "
                        "once for the light, once for the camera.",
                        "video": "The opening shot",
                    },
                    {
                        "title": "Colour and mood",
                        "summary": "Why the morning is pink.",
                        "resource": "bunny-meadow.jpg",
                    },
                ],
            },
            {
                "title": "From idea to storyboard",
                "lessons": [
                    {"title": "One page, six frames", "summary": "Draw badly, draw early."}
                ],
            },
        ],
    },
]


def load(app: Flask, *, with_accounts: bool) -> None:
    """Fill the database if it has no products. Of processes that start together, one does it.

    :param with_accounts: Whether nobody but who tries this app out can reach the database, so that
        there may be accounts with a password that everybody knows.
    """
    with app.app_context():
        if not claim():
            return
        try:
            if with_accounts:
                load_users()
            load_products()
            load_courses()
        except DualMediaError:
            # The app is useful without its samples; the next start tries again.
            logger.exception("sample data not loaded")
            return
        db.meta.update_one({"_id": MARKER}, {"$set": {"state": "loaded"}})
        if with_accounts:
            logger.info(
                "sample data loaded: log in as demo@example.com or admin@example.com with %s", LOGIN
            )
        else:
            logger.info("sample data loaded, without accounts: MONGO_URI names the database")


def claim() -> bool:
    """Claim the loading, and tell whether this process got it."""
    since = now()
    if db.meta.find_one({"_id": MARKER}) is None:
        if db.products.find_one({}, {"_id": 1}) is not None:
            return False
        try:
            db.meta.insert_one({"_id": MARKER, "state": "loading", "since": since})
        except DuplicateKeyError:
            return False
        return True
    abandoned = {"_id": MARKER, "state": "loading", "since": {"$lt": since - LEASE}}
    return db.meta.update_one(abandoned, {"$set": {"since": since}}).modified_count == 1


def load_users() -> None:
    for user in USERS:
        put(db.users, user | {"password_hash": generate_password_hash(LOGIN)})


def load_products() -> None:
    for number, (name, description, price, pictures) in enumerate(reversed(PRODUCTS), 100):
        product = {
            "_id": sample_id(number),
            "name": name,
            "description": description,
            "price": price,
        }
        put(db.products, product | {"creator_id": str(DEMO_ID)})
        clear_media(product, ProductImage)
        for position, (filename, alt_text) in enumerate(pictures):
            with (MEDIA / filename).open("rb") as file:
                save_product_image(
                    product["_id"],
                    file,
                    filename=filename,
                    alt_text=alt_text,
                    is_main_image=position == 0,
                    position=position,
                    uploaded_by=DEMO_ID,
                    is_public=True,
                )
    add_review("products", sample_id(104), 5, "He looks exactly like me on Mondays.")


def load_courses() -> None:
    for number, sample in enumerate(COURSES, 200):
        course = {
            "_id": sample_id(number),
            "title": sample["title"],
            "description": sample["description"],
        }
        part_ids = (str(sample_id(part)) for part in itertools.count(number * 100))
        course["modules"], lessons = [], []
        for module in sample["modules"]:
            with_media = [{"id": next(part_ids), **lesson} for lesson in module["lessons"]]
            lessons += with_media
            bare = [
                {key: lesson[key] for key in ("id", "title", "summary")} for lesson in with_media
            ]
            course["modules"].append(
                {"id": next(part_ids), "title": module["title"], "lessons": bare}
            )
        put(db.courses, course | {"creator_id": str(DEMO_ID), "student_ids": []})
        clear_media(course, CourseVideo, CourseResource)
        if "intro" in sample:
            add_video(course, video_type="intro", title=sample["intro"])
        for lesson in lessons:
            if "video" in lesson:
                # The video is for the students of the course.
                add_video(course, lesson_id=lesson["id"], title=lesson["video"], is_public=False)
            if "resource" in lesson:
                add_resource(course, lesson["resource"], lesson_id=lesson["id"])
    add_review("courses", sample_id(201), 5, "Clear, short, and the bird is a star.")


def add_video(course: Document, **fields: t.Any) -> None:
    name = "big-buck-bunny-480p-30s.mp4"
    with (MEDIA / name).open("rb") as file:
        fields = (
            {"is_public": True}
            | fields
            | {"filename": name, "duration": 30, "uploaded_by": DEMO_ID}
        )
        save_course_video(course["_id"], file, **fields)


def add_resource(course: Document, name: str, **fields: t.Any) -> None:
    with (MEDIA / name).open("rb") as file:
        save_course_resource(
            course["_id"], file, filename=name, uploaded_by=DEMO_ID, is_public=True, **fields
        )


def add_review(collection: str, target_id: ObjectId, rating: int, text: str) -> None:
    review = {"_id": target_id, "target_id": target_id, "rating": rating, "text": text}
    put(db.reviews, review | {"creator_id": str(ADMIN_ID), "author": USERS[0]["name"]})


def clear_media(document: Document, *kinds: type) -> None:
    """Take away what a killed process loaded before."""
    fields: dict[str, t.Any] = {kind.__name__: kind for kind in kinds}
    attached = attach_media([dict(document)], **fields)[0]
    for kind in kinds:
        for media in attached[kind.__name__]:
            delete_media(kind, media.id)


def put(collection: t.Any, document: Document) -> None:
    collection.replace_one({"_id": document["_id"]}, document | {"created_at": now()}, upsert=True)
