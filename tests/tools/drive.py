"""A stand-in for the part of Google Drive v3 that we use, on the loopback interface.

What it does as Drive does: files have ids of their own and names that are not unique; a resumable
upload takes parts of multiples of 256 KiB, and the file is there when the last one has come; errors
are JSON with a reason.
"""

from __future__ import annotations

import re
import threading
import typing as t
import uuid
from dataclasses import dataclass, field

from flask import Flask, Response, jsonify, request
from werkzeug.serving import make_server

TOKEN = "a token of the tests"
PART = 256 * 1024


@dataclass
class Drive:
    """Its files by id, and what it is to refuse."""

    files: dict[str, dict[str, t.Any]] = field(default_factory=dict)
    uploads: dict[str, dict[str, t.Any]] = field(default_factory=dict)
    refusals: t.Sequence[tuple[int, str] | None] = ()
    """Status and reason of the next answers, ``None`` for one that is not refused."""
    forgets: bool = False
    """Keep only a part of each part of an upload, as Drive may."""
    hangs_up: bool = False
    """Break off once when a part of a file is sent."""
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def app(self) -> Flask:
        app = Flask("drive")
        app.before_request(self._refuse)
        app.add_url_rule("/upload/drive/v3/files", view_func=self.begin, methods=["POST"])
        app.add_url_rule("/uploads/<upload_id>", view_func=self.take, methods=["PUT"])
        app.add_url_rule("/drive/v3/files", view_func=self.list)
        app.add_url_rule("/drive/v3/files/<file_id>", view_func=self.get)
        app.add_url_rule("/drive/v3/files/<file_id>", view_func=self.delete, methods=["DELETE"])
        return app

    def _refuse(self) -> Response | None:
        self.requests.append(request.method)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return error(401, "authError")
        refusal, self.refusals = (
            (self.refusals[0], self.refusals[1:]) if self.refusals else (None, ())
        )
        return None if refusal is None else error(*refusal)

    def begin(self) -> Response:
        upload_id = uuid.uuid4().hex
        self.uploads[upload_id] = t.cast("dict[str, t.Any]", request.get_json()) | {"data": b""}
        return Response(status=200, headers={"Location": f"{self.url}/uploads/{upload_id}"})

    def take(self, upload_id: str) -> Response:
        upload = self.uploads[upload_id]
        match = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", request.headers["Content-Range"])
        assert match is not None
        start, _, total = match.groups()
        data = request.get_data()
        if int(start or len(upload["data"])) != len(upload["data"]) or (
            total == "*" and len(data) % PART
        ):
            return error(400, "badRequest")
        upload["data"] += data[: len(data) // 2] if self.forgets else data
        if total == "*":
            return Response(status=308, headers={"Range": f"bytes=0-{len(upload['data']) - 1}"})
        if len(upload["data"]) != int(total):
            return error(400, "badRequest")
        file_id = uuid.uuid4().hex
        self.files[file_id] = self.uploads.pop(upload_id)
        return jsonify(id=file_id)

    def list(self) -> Response:
        query = request.args["q"]
        name, parent = (
            re.search(r"name = '([^']*)'", query),
            re.search(r"'([^']*)' in parents", query),
        )
        assert parent is not None
        found = [
            {"id": file_id, "name": file["name"], "size": str(len(file["data"]))}
            for file_id, file in self.files.items()
            if parent[1] in file["parents"] and (name is None or file["name"] == name[1])
        ]
        found.sort(
            key=lambda file: file["name"] if request.args.get("orderBy") == "name" else file["id"]
        )
        start, size = int(request.args.get("pageToken", 0)), min(int(request.args["pageSize"]), 3)
        more = {"nextPageToken": str(start + size)} if start + size < len(found) else {}
        return jsonify(files=found[start : start + size], **more)

    def get(self, file_id: str) -> Response:
        if file_id not in self.files:
            return error(404, "notFound")
        assert request.args["alt"] == "media"
        data = self.files[file_id]["data"]
        response = Response(self._send(data) if self.hangs_up else data)
        response.make_conditional(request.environ, accept_ranges=True, complete_length=len(data))
        return response

    def _send(self, data: bytes) -> t.Iterator[bytes]:
        yield data[: len(data) // 2]
        if self.hangs_up:
            self.hangs_up = False
            raise ConnectionAbortedError
        yield data[len(data) // 2 :]

    def delete(self, file_id: str) -> Response:
        return Response(status=204) if self.files.pop(file_id, None) else error(404, "notFound")


def error(status: int, reason: str) -> Response:
    response = jsonify(
        error={"code": status, "errors": [{"domain": "usageLimits", "reason": reason}]}
    )
    response.status_code = status
    return response


class Server:
    """The stand-in, listening."""

    def __init__(self) -> None:
        self.drive = Drive()
        self._server = make_server("127.0.0.1", 0, self.drive.app(), threaded=True)
        self.drive.url = f"http://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}
        )
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
