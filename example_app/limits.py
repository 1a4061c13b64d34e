"""How often one address may log in and change media: the host's business, here by Flask-Limiter."""

from __future__ import annotations

import typing as t

from flask import Blueprint, Flask
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

CHANGES = ["POST", "PUT", "PATCH", "DELETE"]


def init_app(app: Flask) -> None:
    # Counted in this process alone; a deployment names a storage that its workers share.
    limiter = Limiter(get_remote_address, app=app, storage_uri="memory://", headers_enabled=True)
    limiter.limit(app.config["MEDIA_LIMIT"], methods=CHANGES)(t.cast(Blueprint, app.blueprints["dualmedia"]))
    for endpoint in ("api.auth.login", "pages.account.login"):
        view: t.Any = app.view_functions[endpoint]
        app.view_functions[endpoint] = limiter.limit(app.config["LOGIN_LIMIT"])(view)
