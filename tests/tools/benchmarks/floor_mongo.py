"""The floor on MongoDB: bare PyMongo and GridFS, for Mongo-only mode."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Iterator

from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from gridfs import GridFSBucket
from pymongo import ReturnDocument

from .floor import CHUNK, FIELDS, MIB, NAMES, Blob, Values, dump

_AVAILABLE = {"state": "available"}


class Mongo:
    """:class:`~.floor.Driver` on MongoDB."""

    def __init__(self, database: t.Any) -> None:
        options = CodecOptions(tz_aware=True, uuid_representation=UuidRepresentation.STANDARD)
        self._database = database.with_options(codec_options=options)
        self._bucket = GridFSBucket(database, "media", chunk_size_bytes=CHUNK)

    def images(self, product_ids: list[str]) -> list[Values]:
        where = {"mongo_product_id": {"$in": product_ids}, **_AVAILABLE}
        found = self._database.product_images.find(where).sort([("position", 1), ("_id", 1)])
        return [_dump("product-images", document) for document in found]

    def course_media(self, course_id: str) -> tuple[list[Values], list[Values]]:
        where = {"mongo_course_id": course_id, **_AVAILABLE}
        videos = self._database.course_videos.find(where).sort([("position", 1), ("_id", 1)])
        resources = self._database.course_resources.find(where).sort("_id", 1)
        return [_dump("course-videos", v) for v in videos], [
            _dump("course-resources", r) for r in resources
        ]

    def add_images(self, images: list[Values]) -> None:
        documents = [
            _document("product-images", image) | _AVAILABLE | {"storage_key": None}
            for image in images
        ]
        self._database.product_images.insert_many(documents)

    def count_access(self, media_id: uuid.UUID, identity: str) -> bool:
        readable = [{"is_public": True}, {"uploaded_by": identity}]
        where = {"_id": media_id, "$or": readable, **_AVAILABLE}
        change = {"$inc": {"access_count": 1}, "$currentDate": {"last_accessed_at": True}}
        return self._database.media_storage.update_one(where, change).matched_count == 1

    def blob(self, media_id: uuid.UUID) -> Blob | None:
        found = self._database.media_storage.find_one({"_id": media_id, **_AVAILABLE})
        if found is None:
            return None
        names = (
            "file_size",
            "mime_type",
            "checksum",
            "is_public",
            "uploaded_by",
            "filename",
            "updated_at",
        )
        return Blob(media_id, found["storage_key"], *(found[name] for name in names))

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        with self._bucket.open_download_stream(key) as stream:
            stream.seek(start)
            while start < stop:
                block = stream.read(min(MIB, stop - start))
                start += len(block)
                yield block

    def add(self, values: Values, key: str, blocks: Iterator[bytes], measured: Values) -> Values:
        self._write(key, blocks)
        values = values | measured
        self._database.media_storage.insert_one(
            _document("files", values) | _AVAILABLE | {"storage_key": key}
        )
        return dump("files", values.values())

    def replace(self, old: Blob, key: str, blocks: Iterator[bytes], measured: Values) -> Values:
        self._write(key, blocks)
        names = {
            "file_size": "fileSize",
            "checksum": "checksum",
            "mime_type": "mimeType",
            "updated_at": "updatedAt",
        }
        changes = {name: measured[wire] for name, wire in names.items()}
        document = self._database.media_storage.find_one_and_update(
            {"_id": old.id, "storage_key": old.key},
            {"$set": changes | {"storage_key": key}},
            return_document=ReturnDocument.AFTER,
        )
        if document is None:
            raise RuntimeError("somebody else was faster")
        self._bucket.delete(old.key)
        return _dump("files", document)

    def _write(self, key: str, blocks: Iterator[bytes]) -> None:
        with self._bucket.open_upload_stream_with_id(key, key) as stream:
            for block in blocks:
                stream.write(block)


def _dump(kind: str, document: Values) -> Values:
    document["id"] = document.pop("_id")
    return dump(kind, [document[name] for name in FIELDS[kind]])


def _document(kind: str, values: Values) -> Values:
    made = dict(zip(FIELDS[kind], (values[wire] for wire in NAMES[kind]), strict=True))
    made["_id"] = made.pop("id")
    return made | {"links_revoked_at": None}
