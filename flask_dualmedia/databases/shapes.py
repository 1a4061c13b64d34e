"""How what is ours is told from what is the host's, in places that both may use."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime

_COMMON_FIELDS = (
    "id", "state", "storage_type", "storage_key", "filename", "mime_type", "file_size", "checksum",
    "uploaded_by", "is_public", "access_count", "last_accessed_at", "created_at", "updated_at",
    "links_revoked_at",
)  # fmt: skip

OLDEST_FIELDS: dict[str, tuple[str, ...]] = {
    "product_images": (
        *_COMMON_FIELDS, "mongo_product_id", "image_url", "alt_text", "is_main_image", "position",
        "width", "height",
    ),
    "course_videos": (
        *_COMMON_FIELDS, "mongo_course_id", "mongo_lesson_id", "video_type", "video_url", "title",
        "position", "duration", "width", "height", "processing_status",
    ),
    "course_resources": (
        *_COMMON_FIELDS, "mongo_course_id", "mongo_lesson_id", "resource_name", "resource_url",
        "resource_type",
    ),
    "media_storage": (
        *_COMMON_FIELDS, "reference_type", "reference_id", "media_type", "url", "title",
    ),
    "media_chunks": ("storage_key", "seq", "data"),
}  # fmt: skip
"""By table, the fields that records have had since the first revision.

Records that older releases wrote may lack newer ones, so that this is never added to.
"""

_KEY = re.compile(r"([0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15})-([0-9a-f]{12})[0-9a-f]{4}")


def owner_of_key(key: object) -> tuple[uuid.UUID, datetime] | None:
    """Return the id of the record that a storage key was made for, and when.

    Exactly what :func:`~flask_dualmedia.storages.base.new_key` makes is ours: hosts name files by
    hashes too.

    :return: ``None`` for a key that is not ours.
    """
    if not isinstance(key, str):
        return None
    match = _KEY.fullmatch(key)
    if match is None:
        return None

    try:
        made_at = datetime.fromtimestamp(int(match[2], 16) / 1000, UTC)
        return uuid.UUID(match[1]), made_at
    except (ValueError, OverflowError):
        return None
