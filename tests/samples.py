"""Small media made here, and people to send them."""

from __future__ import annotations

import base64
import io
import typing as t
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime

from bson import ObjectId
from flask import Flask
from flask.testing import FlaskClient
from flask_jwt_extended import create_access_token
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from flask_dualmedia import (
    save_course_resource,
    save_course_video,
    save_media_storage,
    save_product_image,
)
from flask_dualmedia.databases.storable import camelcase
from flask_dualmedia.models import KINDS, Media
from flask_dualmedia.state import State
from flask_dualmedia.uploads import staging

Headers = dict[str, str]


def png(width: int = 1, height: int = 1, *, comment: bytes = b"") -> bytes:
    """A black PNG, with a comment to tell it from others."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + b"\x08\x00\x00\x00\x00"
    pixels = zlib.compress(b"\x00" * (width + 1) * height)
    text = chunk(b"tEXt", b"Comment\x00" + comment) if comment else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + text
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def mp4(size: int = 4096, *, brand: bytes = b"isom") -> bytes:
    """Bytes with the signature of an MP4 video, of exactly this size, no two parts of them
    alike."""
    head = (20).to_bytes(4) + b"ftyp" + brand + (512).to_bytes(4) + brand
    return head + counting(size - len(head))


def counting(size: int) -> bytes:
    """Bytes in which every place can be told from every other."""
    return b"".join(n.to_bytes(4) for n in range(size // 4 + 1))[:size]


PDF = b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\ntrailer\n<< >>\n%%EOF\n"


class Owners(t.NamedTuple):
    product: ObjectId
    course: ObjectId
    user: ObjectId


@dataclass
class Tokens:
    alice: Headers
    bob: Headers
    admin: Headers

    @classmethod
    def of(cls, app: Flask) -> Tokens:
        return cls(bearer(app, "alice"), bearer(app, "bob"), bearer(app, "root", role="admin"))


def bearer(app: Flask, identity: str, **claims: t.Any) -> Headers:
    with app.app_context():
        return {
            "Authorization": f"Bearer {create_access_token(identity, additional_claims=claims)}"
        }


def part(content: bytes, filename: str = "file", mime_type: str | None = None) -> t.Any:
    """The part ``file`` of a multipart upload."""
    return FileStorage(io.BytesIO(content), filename, content_type=mime_type)


class Dribble(io.RawIOBase):
    """A stream that gives a few bytes at a time, as a slow client does."""

    def __init__(self, content: bytes, step: int) -> None:
        self._rest, self._step = memoryview(content), step

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._step if size < 0 else min(size, self._step)
        given, self._rest = self._rest[:wanted], self._rest[wanted:]
        return bytes(given)


SAMPLES = {"product-images": png(), "course-videos": mp4(), "course-resources": PDF, "files": PDF}
"""A file that each kind accepts."""

SAVE_FUNCTIONS: dict[str, t.Callable[..., Media]] = {
    "product-images": save_product_image,
    "course-videos": save_course_video,
    "course-resources": save_course_resource,
    "files": save_media_storage,
}
"""The function that saves one file or URL of each kind."""

URL_FIELDS = {name: camelcase(kind.url_field) for name, kind in KINDS.items()}
"""How each kind names the URL on the wire."""


def of_owner(kind: str, owners: Owners) -> dict[str, str]:
    """The fields on the wire that name the owner."""
    model = KINDS[kind]
    reference_type = "user" if model.names_type() else model.reference_type
    owner = model.of_owner(reference_type, str(getattr(owners, reference_type))) or {}
    return {camelcase(name): value for name, value in owner.items()}


def post_file(
    client: FlaskClient, headers: Headers, kind: str, owners: Owners, **fields: t.Any
) -> TestResponse:
    """Upload a file; ``fields`` under their wire names, ``file`` among them where it is not to be
    the usual one."""
    data = {"file": part(SAMPLES[kind]), **of_owner(kind, owners), **fields}
    return post_form(client, headers, f"/media/{kind}", data)


def post_form(
    client: FlaskClient, headers: Headers, path: str, data: t.Mapping[str, t.Any]
) -> TestResponse:
    """Send a multipart form. The test client would make large ones in temporary files, and leave
    them open."""
    boundary, body = encode_multipart(data)
    return client.post(
        path, headers=headers, data=body, content_type=f"multipart/form-data; boundary={boundary}"
    )


def post_url(
    client: FlaskClient, headers: Headers, kind: str, owners: Owners, **fields: t.Any
) -> TestResponse:
    """Create external media."""
    values = {URL_FIELDS[kind]: "https://cdn.example/a", **of_owner(kind, owners), **fields}
    return client.post(f"/media/{kind}", headers=headers, json=values)


def kept(state: State) -> tuple[int, list[str], int]:
    """Everything that is kept: number of records in any state, storage keys, GridFS chunks."""
    records = sum(state.repository.count(kind) for kind in KINDS.values())
    chunks = state.mongo["media.chunks"].count_documents({})
    return records, list(state.storages["database"].keys()), chunks


NOTHING: tuple[int, list[str], int] = (0, [], 0)


def unfinished_uploads(state: State) -> int:
    """The number of resumable uploads that have begun and not ended."""
    return state.mongo[staging.COLLECTION].count_documents({})


def expire_uploads(state: State) -> None:
    """Let the time of all resumable uploads be over."""
    change = {"$set": {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}}
    state.mongo[staging.COLLECTION].update_many({}, change)


OFFSET_TYPE = "application/offset+octet-stream"
"""Content type of the bytes of a resumable upload."""


def encoded(values: t.Mapping[str, str]) -> str:
    """``Upload-Metadata``."""
    return ",".join(
        f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in values.items()
    )


class Tus:
    """A client of one person."""

    def __init__(self, client: FlaskClient, token: Headers) -> None:
        self._client, self._headers = client, token | {"Tus-Resumable": "1.0.0"}

    def create(self, length: int | None, body: bytes | None = None, **headers: str) -> TestResponse:
        given = {"Upload-Length": str(length)} if length is not None else {}
        if body is not None:
            given["Content-Type"] = OFFSET_TYPE
        return self.send("POST", "/media/uploads", body, given, **headers)

    def patch(self, url: str, offset: int, body: t.Any, **headers: str) -> TestResponse:
        given = {"Upload-Offset": str(offset), "Content-Type": OFFSET_TYPE}
        return self.send("PATCH", url, body, given, **headers)

    def head(self, url: str) -> TestResponse:
        return self.send("HEAD", url)

    def delete(self, url: str) -> TestResponse:
        return self.send("DELETE", url)

    def send(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        given: Headers | None = None,
        **headers: str,
    ) -> TestResponse:
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.open(
            url, method=method, data=body, headers=self._headers | (given or {}) | more
        )

    def cut_short(
        self, url: str, offset: int, body: bytes, announced: int, **headers: str
    ) -> TestResponse:
        """A request whose body ends before it is complete."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.patch(
            url,
            input_stream=io.BytesIO(body),
            environ_overrides={"CONTENT_LENGTH": str(announced)},
            headers=self._headers
            | {"Upload-Offset": str(offset), "Content-Type": OFFSET_TYPE}
            | headers,
        )
