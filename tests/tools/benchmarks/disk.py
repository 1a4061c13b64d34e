"""The cost of files without a database: raw bodies written to a file with sha256, fsync and rename,
and ``send_file``."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from flask import Flask, Response, request, send_file

MIB = 1024 * 1024


def create_app() -> Flask:
    """The app; the folder comes from the environment."""
    app, folder = Flask("disk"), Path(os.environ["BENCHMARK_FOLDER"])

    @app.get("/media/health")
    def health() -> str:
        return ""

    @app.post("/media/files")
    def post_file() -> Response:
        response = Response(status=201)
        response.headers["Location"] = f"/media/files/{uuid.uuid4()}"
        return response

    @app.get("/media/files/<uuid:media_id>/content")
    def get_content(media_id: uuid.UUID) -> Response:
        return send_file(folder / str(media_id), mimetype="application/octet-stream")

    @app.put("/media/files/<uuid:media_id>/content")
    def put_content(media_id: uuid.UUID) -> dict[str, str]:
        path, digest = folder / str(media_id), hashlib.sha256()
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            while block := request.stream.read(MIB):
                digest.update(block)
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        return {"checksum": digest.hexdigest()}

    return app
