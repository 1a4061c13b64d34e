"""The headers of requests that mean something to tus, read and checked."""

from __future__ import annotations

import base64
import binascii
import hashlib
import uuid
from urllib.parse import urlsplit

from flask import request
from werkzeug.exceptions import BadRequest

from .. import schemas
from ..uploads.resumable import Digest
from .records import parse_id

ALGORITHMS = ("sha1", "sha256", "md5")

OF_TYPES = {"filetype", "type"}
"""Names of declared types: one that is not even text is no error, and counts as not declared."""

_READ = (
    "Tus-Resumable", "Upload-Offset", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata",
    "Upload-Concat", "Upload-Checksum", "X-HTTP-Method-Override",
)  # fmt: skip
"""Headers of requests that mean something to tus. All of them are ASCII."""


def check_ascii() -> None:
    """Refuse headers that no client of tus sends, before any of them is read."""
    for name in _READ:
        if not request.headers.get(name, "").isascii():
            raise BadRequest(f"{name} has characters that are not ASCII.")


def read_metadata(header: str | None) -> dict[str, str]:
    """The values of ``Upload-Metadata``, by name.

    :raises BadRequest: It is not valid.
    """
    values: dict[str, str] = {}
    if header is None or not header.strip():
        return values
    for pair in header.split(","):
        name, _, encoded = pair.strip().partition(" ")
        value = _decode_value(name, encoded)
        if not name or name in values:
            raise BadRequest("Upload-Metadata: a name is missing, or there twice.")
        values[name] = value
    return values


def _decode_value(name: str, encoded: str) -> str:
    errors = "strict"
    if name in OF_TYPES:
        errors = "replace"
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode(errors=errors)
    except (binascii.Error, UnicodeDecodeError):
        raise BadRequest(f"Upload-Metadata: {name} is not UTF-8 text in base64.") from None


def read_joined(concat: str) -> list[uuid.UUID]:
    """The uploads that a final one is to be made of.

    :raises BadRequest: ``Upload-Concat`` does not name any, or not each of them once.
    """
    word, _, urls = concat.partition(";")
    ids = [_id_in(url) for url in urls.split()]
    valid_ids = [upload_id for upload_id in ids if upload_id is not None]
    if word.strip() != "final" or not valid_ids or len(valid_ids) < len(ids):
        raise BadRequest("Upload-Concat is neither partial nor final with the URLs of uploads.")
    if len(set(valid_ids)) < len(valid_ids):
        raise BadRequest("Upload-Concat names an upload twice.")
    return valid_ids


def _id_in(url: str) -> uuid.UUID | None:
    try:
        path = urlsplit(url).path
    except ValueError:  # a host in brackets that is no address, for example
        return None
    return parse_id(path.rpartition("/")[2])


def read_number(name: str) -> int | None:
    """The number of bytes that a header gives; ``None`` where it is not there.

    :raises BadRequest: It is no number, or larger than a size can be.
    """
    text = request.headers.get(name)
    if text is None:
        return None
    is_number = text.isascii() and text.isdecimal() and len(text) < 20
    if not is_number or int(text) > schemas.MAX_BIGINT:
        raise BadRequest(f"{name} is not a number of bytes.")
    return int(text)


def read_digest() -> Digest | None:
    """The hash that the body must have, by ``Upload-Checksum``; ``None`` where it is not there.

    :raises BadRequest: It is not valid.
    """
    header = request.headers.get("Upload-Checksum")
    if header is None:
        return None
    algorithm, _, encoded = header.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise BadRequest(f"Upload-Checksum: the algorithm is none of {', '.join(ALGORITHMS)}.")
    running = hashlib.new(algorithm, usedforsecurity=False)
    try:
        expected = base64.b64decode(encoded.strip(), validate=True)
    except binascii.Error:
        expected = b""
    if len(expected) != running.digest_size:
        raise BadRequest(f"Upload-Checksum is not {running.digest_size} bytes in base64.")
    return Digest(running, expected)
