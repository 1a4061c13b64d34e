"""Write as workers of the version before records had a number of their change, in its own words.

Its rows lack ``version``, and so do its documents. It changes rows without naming the change that
it builds on, and claims what it drains by ``True``. The statements are those that it sent, as its
compiler made them.
"""

from __future__ import annotations

import hashlib
import typing as t
import uuid
from datetime import UTC, datetime

import psycopg
import sqlalchemy as sa

from flask_dualmedia.models import new_id
from flask_dualmedia.storages.base import new_key

CONTENT = b"few bytes of an older version"

INSERT = """
    INSERT INTO media_storage (reference_type, reference_id, media_type, url, title, id, state,
        storage_type, storage_key, filename, mime_type, file_size, checksum, uploaded_by,
        is_public, access_count, last_accessed_at, created_at, updated_at, links_revoked_at)
    VALUES (%(reference_type)s, %(reference_id)s, %(media_type)s, %(url)s, %(title)s, %(id)s,
        %(state)s, %(storage_type)s, %(storage_key)s, %(filename)s, %(mime_type)s, %(file_size)s,
        %(checksum)s, %(uploaded_by)s, %(is_public)s, %(access_count)s, %(last_accessed_at)s,
        %(created_at)s, %(updated_at)s, %(links_revoked_at)s)
    RETURNING media_storage.id
"""
INSERT_CHUNK = (
    "INSERT INTO media_chunks (storage_key, seq, data) VALUES (%s, %s, %b) ON CONFLICT DO NOTHING"
)
DELETE_CHUNKS = "DELETE FROM media_chunks WHERE storage_key = %s"
EDIT = """
    UPDATE media_storage SET title=%(title)s, updated_at=%(updated_at)s
    WHERE media_storage.id = %(id_)s AND media_storage.state = 'available'
    RETURNING media_storage.id
"""
REPLACE = """
    UPDATE media_storage SET file_size=%(file_size)s, checksum=%(checksum)s,
        storage_key=%(storage_key)s, updated_at=%(updated_at)s
    WHERE media_storage.id = %(id_)s AND media_storage.state = 'available'
        AND media_storage.storage_key = %(storage_key_)s
    RETURNING media_storage.id
"""
MARK_DELETED = """
    UPDATE media_storage SET state='deleting', updated_at=%(updated_at)s
    WHERE media_storage.id = %(id_)s AND media_storage.state = 'available'
    RETURNING media_storage.id
"""
REMOVE = "DELETE FROM media_storage WHERE media_storage.id = %(id_)s"
UNFINISHED = """
    SELECT media_storage.id, media_storage.storage_key
    FROM media_storage WHERE state <> 'available'
"""


def now() -> datetime:
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def values(**changed: t.Any) -> dict[str, t.Any]:
    """The fields of a file, as that version knew them."""
    media_id = changed.get("id") or new_id()
    fields = {
        "id": media_id,
        "state": "available",
        "storage_type": "database",
        "storage_key": new_key(media_id),
        "filename": "a.txt",
        "mime_type": "text/plain",
        "file_size": len(CONTENT),
        "checksum": hashlib.sha256(CONTENT).hexdigest(),
        "uploaded_by": "alice",
        "is_public": False,
        "access_count": 0,
        "last_accessed_at": None,
        "created_at": now(),
        "updated_at": now(),
        "links_revoked_at": None,
        "reference_type": "page",
        "reference_id": "1",
        "media_type": "document",
        "url": None,
        "title": None,
    }
    return fields | changed


def document(**changed: t.Any) -> dict[str, t.Any]:
    """The same as a document of MongoDB."""
    fields = values(**changed)
    return {"_id": fields.pop("id")} | fields


class OldWorker:
    """Sends the statements of that version to PostgreSQL."""

    def __init__(self, url: str) -> None:
        plain = sa.make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection = psycopg.connect(plain, autocommit=True)

    def close(self) -> None:
        self._connection.close()

    def _send(self, statement: t.LiteralString, given: t.Any) -> list[t.Any]:
        cursor = self._connection.execute(statement, given)
        return cursor.fetchall() if cursor.description else []

    def insert(self, content: bytes = CONTENT, **changed: t.Any) -> dict[str, t.Any]:
        fields = values(
            file_size=len(content), checksum=hashlib.sha256(content).hexdigest(), **changed
        )
        self._send(INSERT, fields)
        if fields["storage_key"] is not None:
            self._send(INSERT_CHUNK, (fields["storage_key"], 0, content))
        return fields

    def edit(self, media_id: uuid.UUID, title: str) -> bool:
        return bool(self._send(EDIT, {"id_": media_id, "title": title, "updated_at": now()}))

    def replace(self, media_id: uuid.UUID, old_key: str, content: bytes) -> str | None:
        """The new key, ``None`` if another change won."""
        key = new_key(media_id)
        self._send(INSERT_CHUNK, (key, 0, content))
        given = {"id_": media_id, "storage_key": key, "storage_key_": old_key, "updated_at": now()}
        given |= {"file_size": len(content), "checksum": hashlib.sha256(content).hexdigest()}
        if not self._send(REPLACE, given):
            return None
        self._send(DELETE_CHUNKS, (old_key,))
        return key

    def delete(self, media_id: uuid.UUID, key: str) -> bool:
        if not self._send(MARK_DELETED, {"id_": media_id, "updated_at": now()}):
            return False
        self._send(DELETE_CHUNKS, (key,))
        self._send(REMOVE, {"id_": media_id})
        return True

    def sweep(self) -> int:
        """Remove everything that is unfinished, as that version does beyond the grace time."""
        found = self._send(UNFINISHED, None)
        for media_id, key in found:
            if key is not None:
                self._send(DELETE_CHUNKS, (key,))
            self._send(REMOVE, {"id_": media_id})
        return len(found)
