"""The host of the tests, and pages with a form and with Uppy on the same origin."""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask, Response, request, send_from_directory
from flask_jwt_extended import create_access_token, set_access_cookies
from markupsafe import escape

from tests.faults import host

HERE = Path(__file__).parent

MAY_RUN = {"Content-Security-Policy": "default-src * 'unsafe-inline'"}

XML = '<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="{0}"?><page>plain</page>'

HTML = """<!doctype html>
<link rel="stylesheet" href="{0}"><script src="{0}"></script>
<script type="module" src="{0}"></script>
<iframe src="{0}"></iframe><object data="{0}"></object><embed src="{0}">
<img src="{0}"><video src="{0}"></video>
<script>
  new Worker("{0}")
  navigator.serviceWorker.register("{0}")
</script>
"""


def create_app() -> Flask:
    """The app; databases come from the environment, ``NPM_DIRECTORY``, where Uppy is installed, and
    ``RAN``."""
    app = host.create_app(
        JWT_TOKEN_LOCATION=["headers", "cookies"],
        DUALMEDIA_INLINE_TYPES=["application/pdf"],
    )
    ran = Path(os.environ["RAN"])
    careless_content = ran / "careless"
    uppy = Path(os.environ["NPM_DIRECTORY"]) / "node_modules" / "uppy" / "dist"

    @app.get("/form")
    def form() -> Response:
        return send_from_directory(HERE, "form.html")

    @app.get("/uppy")
    def page() -> Response:
        return send_from_directory(HERE, "uppy.html")

    @app.get("/uppy/<name>")
    def bundle(name: str) -> Response:
        return send_from_directory(uppy, name)

    @app.get("/sign-in")
    def sign_in() -> Response:
        response = Response("Hello, alice.")
        set_access_cookies(response, create_access_token("alice"))
        return response

    @app.get("/embedding/<way>")
    def embedding(way: str) -> Response:
        """A page that names content, and stops nothing of what that does."""
        url = str(escape(request.args["url"]))
        page, mime_type = (XML, "application/xml") if way == "xslt" else (HTML, "text/html")
        return Response(page.replace("{0}", url), mimetype=mime_type, headers=MAY_RUN)

    @app.post("/careless")
    def keep_carelessly() -> str:
        """Keep content that is served as the type it asks for."""
        careless_content.write_bytes(request.get_data())
        return ""

    @app.get("/careless/<path:mime_type>")
    def careless(mime_type: str) -> Response:
        return Response(careless_content.read_bytes(), mimetype=mime_type)

    @app.get("/ran/<name>")
    def note_run(name: str) -> str:
        (ran / name).touch()
        return ""

    return app
