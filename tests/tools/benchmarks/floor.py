"""The floor: the same answers from bare drivers, minimal Flask views and hand-made JSON. It keeps
the same tables and collections as the example app, checks tokens where that does, and knows nothing
of outages, policies, or killed processes."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import typing as t
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from secrets import token_hex

import jwt
import pymongo
from bson import ObjectId
from flask import Flask, Response, request
from uuid_utils.compat import uuid7
from werkzeug.exceptions import Forbidden, NotFound, Unauthorized

from .host import SECRET

MIB = 1024 * 1024
CHUNK = 256 * 1024

COMMON = (
    "id", "storage_type", "filename", "mime_type", "file_size", "checksum",
    "uploaded_by", "is_public", "access_count",
    "last_accessed_at", "created_at", "updated_at",
)  # fmt: skip
FIELDS = {
    "product-images": (
        *COMMON, "mongo_product_id", "image_url", "alt_text",
        "is_main_image", "position", "width", "height",
    ),
    "course-videos": (
        *COMMON, "mongo_course_id", "mongo_lesson_id", "video_type", "video_url",
        "title", "position", "duration",
        "width", "height", "processing_status",
    ),
    "course-resources": (
        *COMMON, "mongo_course_id", "mongo_lesson_id", "resource_name",
        "resource_url", "resource_type",
    ),
    "files": (*COMMON, "reference_type", "reference_id", "media_type", "url", "title"),
}  # fmt: skip
TABLES = {
    "product-images": "product_images",
    "course-videos": "course_videos",
    "course-resources": "course_resources",
    "files": "media_storage",
}
URLS = {
    "product-images": "imageUrl",
    "course-videos": "videoUrl",
    "course-resources": "resourceUrl",
    "files": "url",
}


def _camelcase(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


NAMES = {kind: tuple(map(_camelcase, fields)) for kind, fields in FIELDS.items()}

Values = dict[str, t.Any]
"""A record, by the names on the wire."""


class Blob(t.NamedTuple):
    """The columns that are needed to send the bytes of a record."""

    id: uuid.UUID
    key: str
    size: int
    mime_type: str
    checksum: str
    is_public: bool
    uploaded_by: str | None
    filename: str | None
    updated_at: datetime


class Driver(t.Protocol):
    """The database that keeps media, reached by its bare driver."""

    def images(self, product_ids: list[str]) -> list[Values]: ...
    def course_media(self, course_id: str) -> tuple[list[Values], list[Values]]: ...
    def add_images(self, images: list[Values]) -> None: ...
    def count_access(self, media_id: uuid.UUID, identity: str) -> bool: ...
    def blob(self, media_id: uuid.UUID) -> Blob | None: ...
    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]: ...
    def add(
        self, values: Values, key: str, blocks: Iterator[bytes], measured: Values
    ) -> Values: ...
    def replace(self, old: Blob, key: str, blocks: Iterator[bytes], measured: Values) -> Values: ...


def dump(kind: str, row: t.Iterable[t.Any]) -> Values:
    """A record as JSON, of its values in the order of :data:`FIELDS`."""
    made = dict(zip(NAMES[kind], row, strict=True))
    made["id"] = str(made["id"])
    for name in ("createdAt", "updatedAt", "lastAccessedAt"):
        if made[name] is not None:
            made[name] = made[name].isoformat()
    if made[URLS[kind]] is None:
        made[URLS[kind]] = f"/media/{kind}/{made['id']}/content"
    return made


def create_app() -> Flask:
    """The app; databases come from the environment, and so does the mode."""
    database: t.Any = pymongo.MongoClient(
        os.environ["MONGO_URI"], tz_aware=True
    ).get_default_database()
    driver: Driver
    if os.environ.get("DB_ENABLED") == "false":
        from .floor_mongo import Mongo

        driver = Mongo(database)
    else:
        from .floor_sql import SQL

        driver = SQL(os.environ["SQLALCHEMY_DATABASE_URI"])
    app = Flask("floor")
    _add_json(app, database, driver)
    _add_content(app, database, driver)
    return app


def _answer(body: t.Any, status: int = 200) -> Response:
    return Response(json.dumps(body, separators=(",", ":")), status, mimetype="application/json")


def _identity() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme != "Bearer":
        raise Unauthorized
    try:
        return jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["sub", "jti"]})[
            "sub"
        ]
    except jwt.PyJWTError as error:
        raise Unauthorized from error


def _now() -> datetime:
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def _product(document: Values) -> Values:
    return {
        "id": str(document["_id"]),
        "name": document["name"],
        "description": document["description"],
        "price": document["price"] / 100,
        "creatorId": document["creator_id"],
        "createdAt": document["created_at"].isoformat(),
    }


def _course(document: Values) -> Values:
    return {
        "id": str(document["_id"]),
        "title": document["title"],
        "description": document["description"],
        "modules": document["modules"],
        "creatorId": document["creator_id"],
        "createdAt": document["created_at"].isoformat(),
    }


def _add_json(app: Flask, database: t.Any, driver: Driver) -> None:
    @app.get("/media/health")
    def health() -> Response:
        return _answer({})

    @app.get("/api/products")
    def list_products() -> Response:
        page, size = int(request.args.get("page", 1)), int(request.args.get("pageSize", 20))
        found = list(
            database.products.find().sort("_id", -1).skip((page - 1) * size).limit(size + 1)
        )
        products = [{**_product(document), "images": []} for document in found[:size]]
        by_id = {product["id"]: product["images"] for product in products}
        for image in driver.images(list(by_id)):
            by_id[image["mongoProductId"]].append(image)
        return _answer(
            {"products": products, "page": page, "pageSize": size, "hasNext": len(found) > size}
        )

    @app.get("/api/products/<product_id>")
    def get_product(product_id: str) -> Response:
        document = database.products.find_one({"_id": ObjectId(product_id)})
        if document is None:
            raise NotFound
        return _answer({"product": _product(document), "images": driver.images([product_id])})

    @app.post("/api/products")
    def post_product() -> Response:
        identity, given, time = _identity(), json.loads(request.get_data()), _now()
        document = {
            "_id": ObjectId(),
            "name": given["name"],
            "description": given.get("description", ""),
        }
        document |= {
            "price": round(given["price"] * 100),
            "creator_id": identity,
            "created_at": time,
        }
        database.products.insert_one(document)
        images = []
        for position, url in enumerate(given["images"]):
            image = dict.fromkeys(NAMES["product-images"])
            image |= {
                "id": uuid7(),
                "storageType": "external",
                "imageUrl": url,
                "uploadedBy": identity,
            }
            image |= {
                "isPublic": True,
                "isMainImage": position == 0,
                "position": position,
                "accessCount": 0,
            }
            image |= {"mongoProductId": str(document["_id"]), "createdAt": time, "updatedAt": time}
            images.append(image)
        try:
            driver.add_images(images)
        except Exception:
            database.products.delete_one({"_id": document["_id"]})
            raise
        images = [dump("product-images", image.values()) for image in images]
        return _answer({"product": _product(document), "images": images}, 201)

    @app.get("/api/courses/<course_id>")
    def get_course(course_id: str) -> Response:
        identity = _identity()
        document = database.courses.find_one({"_id": ObjectId(course_id)})
        if document is None:
            raise NotFound
        media = driver.course_media(course_id)
        videos, resources = (
            [m for m in found if m["isPublic"] or m["uploadedBy"] == identity] for found in media
        )
        return _answer({"course": _course(document), "videos": videos, "resources": resources})

    @app.post("/media/files/<uuid:media_id>/accesses")
    def count_access(media_id: uuid.UUID) -> Response:
        if not driver.count_access(media_id, _identity()):
            raise NotFound
        return Response(status=204)


def _add_content(app: Flask, database: t.Any, driver: Driver) -> None:
    @app.get("/media/files/<uuid:media_id>/content")
    def get_content(media_id: uuid.UUID) -> Response:
        blob = driver.blob(media_id)
        if blob is None or not (blob.is_public or blob.uploaded_by == _identity()):
            raise NotFound
        start, stop, status = 0, blob.size, 200
        if wanted := request.range:
            start, stop = wanted.range_for_length(blob.size) or (0, blob.size)
            status = 206
        response = Response(driver.read(blob.key, start, stop), status, content_type=blob.mime_type)
        response.content_length = stop - start
        response.headers["Accept-Ranges"] = "bytes"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "public, max-age=300"
        response.headers.set(
            "Content-Disposition", "attachment", filename=blob.filename or str(blob.id)
        )
        response.set_etag(blob.checksum)
        response.last_modified = blob.updated_at
        if status == 206:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size}"
        return response

    @app.put("/media/files/<uuid:media_id>/content")
    def put_content(media_id: uuid.UUID) -> Response:
        identity, old = _identity(), driver.blob(media_id)
        if old is None:
            raise NotFound
        if old.uploaded_by != identity:
            raise Forbidden
        measured: Values = {"mimeType": "application/octet-stream", "updatedAt": _now()}
        blocks = _measuring(request.stream, measured)
        return _answer(driver.replace(old, _key(media_id), blocks, measured))

    @app.post("/media/files")
    def post_file() -> Response:
        identity, file, form, time = _identity(), request.files["file"], request.form, _now()
        owner = database.users.find_one({"_id": ObjectId(form["referenceId"])})
        if owner is None or str(owner["_id"]) != identity:
            raise Forbidden
        values: Values = dict.fromkeys(NAMES["files"])
        values |= {
            "id": uuid7(),
            "storageType": "database",
            "filename": file.filename,
            "uploadedBy": identity,
        }
        values |= {
            "isPublic": form.get("isPublic") == "true",
            "accessCount": 0,
            "mediaType": "document",
        }
        values |= {"referenceType": form["referenceType"], "referenceId": form["referenceId"]}
        values |= {"createdAt": time, "updatedAt": time}
        measured: Values = {"mimeType": "application/octet-stream"}
        made = driver.add(values, _key(values["id"]), _measuring(file.stream, measured), measured)
        response = _answer(made, 201)
        response.headers["Location"] = f"/media/files/{values['id']}"
        return response


def _key(media_id: uuid.UUID) -> str:
    return f"{media_id.hex}-{token_hex(8)}"


def _measuring(stream: t.IO[bytes], measured: Values) -> Iterator[bytes]:
    """The bytes of a stream; size and checksum are noted behind the last of them."""
    digest, size = hashlib.sha256(), 0
    while block := stream.read(MIB):
        digest.update(block)
        size += len(block)
        yield block
    measured |= {"fileSize": size, "checksum": digest.hexdigest()}


local = threading.local()
"""For a connection of each thread."""
