"""The floor on PostgreSQL: bare psycopg 3, a connection per thread."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Iterator

import psycopg

from .floor import CHUNK, FIELDS, TABLES, Blob, Values, dump, local

BATCH = 16
"""Rows between two synchronizations of a pipeline."""

_IMAGES = ", ".join(FIELDS["product-images"])


def _columns(kind: str, numbered: int, names: tuple[str, ...]) -> str:
    held = set(FIELDS[kind])
    types = {"position": "int", "duration": "float8", "width": "int", "height": "int"}
    padded = (
        name if name in held else f"NULL::{types.get(name, 'text')} AS {name}" for name in names
    )
    return f"SELECT {numbered} AS kind, {', '.join(padded)} FROM {TABLES[kind]}"


_BOTH = tuple(dict.fromkeys([*FIELDS["course-videos"], *FIELDS["course-resources"]]))
_PLACES = {
    kind: [_BOTH.index(name) + 1 for name in FIELDS[kind]]
    for kind in ("course-videos", "course-resources")
}
_COURSE = f"""
    SELECT * FROM (
        {_columns("course-videos", 0, _BOTH)}
        WHERE mongo_course_id = %s AND state = 'available'
        UNION ALL {_columns("course-resources", 1, _BOTH)}
        WHERE mongo_course_id = %s AND state = 'available'
    ) AS both_kinds ORDER BY kind, position, id
"""
_CUT = """
    SELECT substring(data FROM CASE seq WHEN %(first)s THEN %(begin)s ELSE 0 END + 1
                          FOR CASE seq WHEN %(last)s THEN %(end)s ELSE 262144 END
                            - CASE seq WHEN %(first)s THEN %(begin)s ELSE 0 END)
    FROM media_chunks WHERE storage_key = %(key)s AND seq BETWEEN %(first)s AND %(last)s
    ORDER BY seq
"""
_IMAGE_VALUES = ", ".join(["%s"] * len(FIELDS["product-images"]))
_INSERT_IMAGE = (
    f"INSERT INTO product_images ({_IMAGES}, state) VALUES ({_IMAGE_VALUES}, 'available')"
)
_ADDED = (*FIELDS["files"], "state", "storage_key")
_INSERT_FILE = (
    f"INSERT INTO media_storage ({', '.join(_ADDED)}) VALUES ({', '.join(['%s'] * len(_ADDED))})"
)
_INSERT_CHUNK = "INSERT INTO media_chunks (storage_key, seq, data) VALUES (%s, %s, %b)"


def _text(query: str) -> t.LiteralString:
    """A query that is made of constants alone."""
    return t.cast("t.LiteralString", query)


class SQL:
    """:class:`~.floor.Driver` on PostgreSQL."""

    def __init__(self, url: str) -> None:
        self._url = url.replace("postgresql+psycopg://", "postgresql://")

    @property
    def _connection(self) -> psycopg.Connection:
        if not hasattr(local, "connection"):
            local.connection = psycopg.connect(self._url, autocommit=True)
        return local.connection

    def images(self, product_ids: list[str]) -> list[Values]:
        where = "mongo_product_id = ANY(%s) AND state = 'available' ORDER BY position, id"
        rows = self._connection.execute(
            _text(f"SELECT {_IMAGES} FROM product_images WHERE {where}"), [product_ids]
        )
        return [dump("product-images", row) for row in rows]

    def course_media(self, course_id: str) -> tuple[list[Values], list[Values]]:
        found: dict[int, list[Values]] = {0: [], 1: []}
        for row in self._connection.execute(_text(_COURSE), [course_id, course_id]):
            kind = ("course-videos", "course-resources")[row[0]]
            found[row[0]].append(dump(kind, [row[place] for place in _PLACES[kind]]))
        return found[0], found[1]

    def add_images(self, images: list[Values]) -> None:
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.executemany(_text(_INSERT_IMAGE), [[*image.values()] for image in images])

    def count_access(self, media_id: uuid.UUID, identity: str) -> bool:
        query = """UPDATE media_storage
                   SET access_count = access_count + 1, last_accessed_at = now()
                   WHERE id = %s AND state = 'available' AND (is_public OR uploaded_by = %s)"""
        return self._connection.execute(query, [media_id, identity]).rowcount == 1

    def blob(self, media_id: uuid.UUID) -> Blob | None:
        query = """SELECT id, storage_key, file_size, mime_type, checksum, is_public, uploaded_by,
                          filename, updated_at
                   FROM media_storage WHERE id = %s AND state = 'available'"""
        row = self._connection.execute(query, [media_id]).fetchone()
        return None if row is None else Blob(*row)

    def read(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        first, last = start // CHUNK, (stop - 1) // CHUNK
        where = {
            "key": key,
            "first": first,
            "last": last,
            "begin": start - first * CHUNK,
            "end": stop - last * CHUNK,
        }
        with self._connection.cursor(binary=True) as cursor:
            for row in cursor.stream(_CUT, where):
                yield row[0]

    def add(self, values: Values, key: str, blocks: Iterator[bytes], measured: Values) -> Values:
        with self._connection.pipeline(), self._connection.transaction():
            self._write(key, blocks)
            values = values | measured
            self._connection.execute(_text(_INSERT_FILE), [*values.values(), "available", key])
        return dump("files", values.values())

    def replace(self, old: Blob, key: str, blocks: Iterator[bytes], measured: Values) -> Values:
        query = f"""UPDATE media_storage SET storage_key = %s, file_size = %s, checksum = %s,
                        mime_type = %s, updated_at = %s
                    WHERE id = %s AND storage_key = %s
                    RETURNING {", ".join(FIELDS["files"])}"""
        with self._connection.pipeline(), self._connection.transaction():
            self._write(key, blocks)
            changes = [measured[name] for name in ("fileSize", "checksum", "mimeType", "updatedAt")]
            cursor = self._connection.execute(_text(query), [key, *changes, old.id, old.key])
            self._connection.execute("DELETE FROM media_chunks WHERE storage_key = %s", [old.key])
            row = cursor.fetchone()
        if row is None:
            raise RuntimeError("somebody else was faster")
        return dump("files", row)

    def _write(self, key: str, blocks: Iterator[bytes]) -> None:
        seq = 0
        with self._connection.pipeline() as pipeline, self._connection.cursor() as cursor:
            for block in blocks:
                view = memoryview(block)
                for place in range(0, len(view), CHUNK):
                    cursor.execute(_INSERT_CHUNK, [key, seq, view[place : place + CHUNK]])
                    seq += 1
                    if seq % BATCH == 0:
                        pipeline.sync()
