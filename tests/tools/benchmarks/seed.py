"""Fill fresh databases: every product has 4 images, every course 10 videos and 20 resources.

The media of one owner are spread over their table, as if they had come over the years. Those of all
but the first :data:`DOCUMENTS` owners have no document.
"""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime

import pymongo
import sqlalchemy as sa
from bson import ObjectId

from flask_dualmedia.databases import schema

from .floor import TABLES

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

USER = ObjectId("0" * 24)

PRODUCTS, COURSES = 0x1000_0000, 0x2000_0000
"""Number of the first product, and of the first course."""

DOCUMENTS = 100
"""Products and courses that have a document at most; media of the others are there all the same."""

_COMMON = {
    "state": "'available'",
    "storage_type": "CASE mod(n, 2) WHEN 0 THEN 'database' ELSE 'external' END",
    "storage_key": "CASE mod(n, 2) WHEN 0 THEN 'absent-' || n || '-' || o END",
    "filename": "'photo-' || n || '.jpg'",
    "mime_type": "'image/jpeg'", "file_size": "100000 + n",
    "checksum": "repeat('0123456789abcdef', 4)",
    "uploaded_by": f"'{USER}'", "is_public": "true",
    "access_count": "mod(o * 7 + n, 1000)", "last_accessed_at": "NULL",
    "created_at": f"'{TIME}'::timestamptz", "updated_at": f"'{TIME}'::timestamptz",
}  # fmt: skip
_URL = "CASE mod(n, 2) WHEN 1 THEN 'https://cdn.example/media/' || o || '/' || n || '.jpg' END"
_OWNER = "lpad(to_hex({first} + o), 24, '0')"
_OWN = {
    "product-images": {
        "mongo_product_id": _OWNER, "image_url": _URL,
        "alt_text": "'Picture ' || n", "is_main_image": "n = 0",
        "position": "n", "width": "1600", "height": "1200",
    },
    "course-videos": {
        "mongo_course_id": _OWNER, "mongo_lesson_id": "lpad(to_hex(o * 16 + n), 24, '0')",
        "video_type": "'lesson'",
        "video_url": _URL, "title": "'Lesson ' || n",
        "position": "n", "duration": "61.5", "width": "1920",
        "height": "1080", "processing_status": "'ready'",
    },
    "course-resources": {
        "mongo_course_id": _OWNER, "mongo_lesson_id": "lpad(to_hex(o * 16 + mod(n, 10)), 24, '0')",
        "resource_name": "'Sheet ' || n", "resource_url": _URL, "resource_type": "'pdf'",
    },
}  # fmt: skip
_EACH = {
    "product-images": (PRODUCTS, 4),
    "course-videos": (COURSES, 10),
    "course-resources": (COURSES, 20),
}


def owner(first: int, number: int) -> ObjectId:
    """Id of a product or course."""
    return ObjectId(f"{first + number:024x}")


def fill(mongo_uri: str, postgres_url: str, media: int) -> None:
    """Make the tables, and about so many media with the documents that they belong to."""
    with pymongo.MongoClient(mongo_uri) as client:
        _fill_documents(client.get_default_database(), media)
    engine = sa.create_engine(postgres_url, poolclass=sa.NullPool)
    schema.upgrade(engine)
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        for kind, (first, each) in _EACH.items():
            values = {
                name: text.replace("{first}", str(first))
                for name, text in (_COMMON | _OWN[kind]).items()
            }
            owners = _owners(kind, media)
            connection.exec_driver_sql(
                f"""INSERT INTO {TABLES[kind]} (id, {", ".join(values)})
                    SELECT uuidv7(), {", ".join(values.values())}
                    FROM generate_series(0, {each - 1}) AS n,
                         generate_series(0, {owners - 1}) AS o
                    ORDER BY n, o"""
            )
        connection.exec_driver_sql("VACUUM ANALYZE")


def copy(mongo_uri: str, postgres_url: str) -> None:
    """Put the same media into MongoDB, for Mongo-only mode."""
    engine = sa.create_engine(postgres_url, poolclass=sa.NullPool)
    with (
        pymongo.MongoClient(mongo_uri, uuidRepresentation="standard") as client,
        engine.connect() as connection,
    ):
        for kind in _EACH:
            rows = connection.exec_driver_sql(f"SELECT id AS _id, * FROM {TABLES[kind]}").mappings()
            documents = [
                {name: value for name, value in row.items() if name != "id"} for row in rows
            ]
            client.get_default_database()[TABLES[kind]].insert_many(documents)


def _owners(kind: str, media: int) -> int:
    return media // 10 if kind == "product-images" else media // 50


def _fill_documents(database: t.Any, media: int) -> None:
    who = {"creator_id": str(USER), "created_at": TIME}
    database.users.insert_one(
        {"_id": USER, "email": "bench@example.com", "name": "Bench", "role": "user"}
    )
    database.products.insert_many(
        {
            "_id": owner(PRODUCTS, n),
            "name": f"Product {n}",
            "description": "Words. " * 30,
            "price": 1999 + n,
            **who,
        }
        for n in range(min(DOCUMENTS, _owners("product-images", media)))
    )
    database.courses.insert_many(
        {
            "_id": owner(COURSES, n),
            "title": f"Course {n}",
            "description": "Words. " * 30,
            "modules": _modules(n),
            **who,
        }
        for n in range(min(DOCUMENTS, _owners("course-videos", media)))
    )


def _modules(course: int) -> list[dict[str, t.Any]]:
    lessons = [
        {"id": f"{course * 16 + n:024x}", "title": f"Lesson {n}", "summary": "Words. " * 10}
        for n in range(10)
    ]
    return [
        {"id": f"{n:024x}", "title": f"Module {n}", "lessons": lessons[n * 5 : n * 5 + 5]}
        for n in range(2)
    ]
