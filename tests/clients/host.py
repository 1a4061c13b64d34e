"""The host of the tests, and a page with Uppy on the same origin."""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask, Response, send_from_directory

from tests.faults import host


def create_app() -> Flask:
    """The app; databases come from the environment, and ``NPM_DIRECTORY``, where Uppy is installed."""
    app = host.create_app()
    uppy = Path(os.environ["NPM_DIRECTORY"]) / "node_modules" / "uppy" / "dist"

    @app.get("/uppy")
    def page() -> Response:
        return send_from_directory(Path(__file__).parent, "uppy.html")

    @app.get("/uppy/<name>")
    def bundle(name: str) -> Response:
        return send_from_directory(uppy, name)

    return app
