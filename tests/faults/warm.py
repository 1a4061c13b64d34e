"""The small host for servers of every kind: it has used media in both databases before anybody
forks it.

Every answer names the process that gave it.
"""

from __future__ import annotations

import hashlib
import os
import random
import uuid

from flask import Flask, Response

from flask_dualmedia import MediaStorage, get_media, open_media, save_media_storage
from flask_dualmedia.state import get_state

from . import host

# One chunk, which comes with its record; several, which are streamed; more than are written at
# once.
SIZES = [1000, 200_000, 300_000, 1_100_000, 3_000_000]

WORKER = "X-Worker"


def content(number: int) -> bytes:
    """The content of the file of this number."""
    return random.Random(number).randbytes(SIZES[number % len(SIZES)])


def range_of(number: int) -> tuple[int, int]:
    size = len(content(number))
    start = number * 7919 % size
    return start, min(size, start + 300_000)


def store(app: Flask, number: int) -> str:
    """Save the file of this number; the id of its record."""
    with app.app_context():
        return str(save_media_storage("page", "servers", content(number)).id)


def is_right(app: Flask, number: int, media_id: str) -> bool:
    """Compare the record and its bytes, as a whole and from one place to another, with the file."""
    with app.app_context():
        record = get_media(MediaStorage, uuid.UUID(media_id))
        start, stop = range_of(number)
        whole, part = open_media(record), open_media(record, start, stop)
        digests = [hashlib.sha256(b"".join(pieces)).digest() for pieces in (whole, part)]
    expected = content(number)
    return str(record.id) == media_id and digests == [
        hashlib.sha256(expected).digest(),
        hashlib.sha256(expected[start:stop]).digest(),
    ]


def create_app() -> Flask:
    app = host.create_app()

    @app.after_request
    def name_worker(response: Response) -> Response:
        response.headers[WORKER] = str(os.getpid())
        return response

    use(app)
    return app


def use(app: Flask) -> None:
    """Use media, and with them PostgreSQL and MongoDB."""
    for number in range(3):
        assert is_right(app, number, store(app, number))
    get_state(app).mongo["pages"].find_one({})
