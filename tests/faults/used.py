"""The same host, which has used media before the server forks its workers, and goes on to do so
beside them."""

from __future__ import annotations

import hashlib
import os
import threading
import traceback

from flask import Flask

from flask_dualmedia import MediaStorage, get_media, get_media_by_reference, open_media

from . import host


def create_app() -> Flask:
    """The app, whose media of the page ``forks`` are read again and again in the process that makes
    it."""
    app = host.create_app()
    read_all(app)
    for _ in range(2):
        threading.Thread(target=read_for_ever, args=[app], daemon=True).start()
    return app


def read_for_ever(app: Flask) -> None:
    while True:
        try:
            read_all(app)
            said = "right"
        except Exception:
            said = traceback.format_exc()
        with open(os.environ["READS_LOG"], "a") as log:
            log.write(f"{said}\n")


def read_all(app: Flask) -> None:
    with app.app_context():
        for listed in get_media_by_reference("page", "forks"):
            record = get_media(MediaStorage, listed.id)
            assert record.id == listed.id
            assert hashlib.sha256(b"".join(open_media(record))).hexdigest() == listed.checksum
