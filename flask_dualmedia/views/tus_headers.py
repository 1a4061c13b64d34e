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
    "Tus-Resumable", "Upload-Offset", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Concat",
    "Upload-Checksum", "X-HTTP-Method-Override",
)  # fmt: skip
"""Headers of requests that mean something to tus. All of them are ASCII."""


def check_ascii() -> None:
    """Refuse headers that no client of tus sends, before any of them is read."""
    for name in _READ:
        if not request.headers.get(name, "").isascii():
            raise BadRequest(f"{name} has characters that are not ASCII.")


def read_metadata(header: str | None) -> dict[str, str]:
    """What ``Upload-Metadata`` says, by name."""
    values: dict[str, str] = {}
    for pair in (header or "").split(","):
        name, _, encoded = pair.strip().partition(" ")
        if not name and not (header or "").strip():
            continue
        try:
            decoded = base64.b64decode(encoded.strip(), validate=True)
            value = decoded.decode(errors="replace" if name in OF_TYPES else "strict")
        except (binascii.Error, UnicodeDecodeError):
            raise BadRequest(f"Upload-Metadata: {name} is not UTF-8 text in base64.") from None
        if not name or name in values:
            raise BadRequest("Upload-Metadata: a name is missing, or there twice.")
        values[name] = value
    return values


def read_joined(concat: str) -> list[uuid.UUID]:
    """The uploads that a final one is to be made of."""
    word, _, urls = concat.partition(";")
    ids = [_id_in(url) for url in urls.split()]
    found = [upload_id for upload_id in ids if upload_id is not None]
    if word.strip() != "final" or not found or len(found) < len(ids):
        raise BadRequest("Upload-Concat is neither partial nor final with the URLs of uploads.")
    if len(set(found)) < len(found):
        raise BadRequest("Upload-Concat names an upload twice.")
    return found


def _id_in(url: str) -> uuid.UUID | None:
    try:
        path = urlsplit(url).path
    except ValueError:  # as of a host in brackets that is no address
        return None
    return parse_id(path.rpartition("/")[2])


def read_number(name: str) -> int | None:
    """The number of bytes that a header gives; ``None`` where it is not there."""
    text = request.headers.get(name)
    if text is None:
        return None
    if not (
        text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= schemas.MAX_BIGINT
    ):
        raise BadRequest(f"{name} is not a number of bytes.")
    return int(text)


def read_digest() -> Digest | None:
    """What ``Upload-Checksum`` says that the body must hash to."""
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
