"""The values of a record that its caller leaves to us, or that its bytes show."""

from __future__ import annotations

import typing as t

from .. import schemas
from ..content.mime_types import OCTET_STREAM, one_type
from ..content.sniffing import media_type, resource_type
from ..content.uploads import Upload
from ..errors import InvalidMedia, UnsupportedType
from ..models import AVAILABLE, Media, MediaRecord, now
from ..state import State


def set_values(record: MediaRecord, **values: t.Any) -> None:
    """Set fields of a record that is not in a database, past its instrumented attributes."""
    vars(record).update(values)


def describe(state: State, record: Media, upload: Upload) -> None:
    """Fill in what the first bytes show, and let the host look at them before any is kept.

    :param record: Not yet in a database.
    :raises UploadRejected: The host's validator refuses them.
    """
    measured = measured_size(record, upload)
    set_values(record, mime_type=upload.mime_type, filename=upload.filename, **measured)
    classify(record, upload.mime_type)
    validate(state, record, upload)


def measured_size(record: Media, upload: Upload) -> dict[str, int]:
    """Width and height of an image, if the caller left both of these fields to us."""
    dimensions = upload.dimensions
    if dimensions is None or max(dimensions) > schemas.MAX_INTEGER:
        return {}

    values = vars(record)
    is_left_to_us = values.get("width", 0) is None and values.get("height", 0) is None
    if not is_left_to_us:
        return {}
    return dimensions._asdict()


def validate(state: State, record: Media, upload: Upload) -> None:
    """Let the host look at an upload before its bytes are kept."""
    validator = state.settings.validator
    if validator is not None:
        validator(record, upload.head)


def classify(record: Media, mime_type: str) -> None:
    """Fill in the type, and the name to show, that the caller left to us."""
    guesses = {
        "resource_type": resource_type(mime_type),
        "resource_name": record.filename,
        "media_type": media_type(mime_type),
    }
    for name, guess in guesses.items():
        if name in record.field_names() and getattr(record, name) is None:
            set_values(record, **{name: guess})


def checked_name(state: State, record: Media, filename: str | None) -> str | None:
    """A new name, if it fits the bytes that we keep."""
    if record.storage_key is None:
        return filename

    policy = state.settings.policies[record.kind]
    mime_type = one_type(record.mime_type) or OCTET_STREAM
    try:
        policy.check_name(filename, mime_type)
    except UnsupportedType as error:
        raise InvalidMedia({"filename": [str(error)]}) from error
    return filename


def uploaded_values(upload: Upload) -> dict[str, t.Any]:
    """The values that a record gets when its bytes have come."""
    return {
        "state": AVAILABLE,
        "file_size": upload.size,
        "checksum": upload.checksum,
        "updated_at": now(),
    }
