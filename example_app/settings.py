"""The settings: defaults, then the environment, then what ``create_app`` was given."""

from __future__ import annotations

import os
import secrets
import tempfile
import typing as t
from datetime import timedelta
from pathlib import Path

from flask import Flask

from .security import authorize

FROM_ENVIRONMENT = ("SECRET_KEY", "JWT_SECRET_KEY", "MONGO_URI", "SQLALCHEMY_DATABASE_URI")

DEFAULTS = {
    "SAMPLE_DATA": True,
    "MEDIA_LIMIT": "600 per minute",
    # Each address may log in, register and log out so often.
    "LOGIN_LIMIT": "60 per minute; 600 per day",
    # Bytes of a stranger's body: views that take files raise it, once the caller is known. So few
    # that Werkzeug writes nothing to the disk.
    "MAX_CONTENT_LENGTH": 500_000,
    "MAX_FORM_MEMORY_SIZE": 500_000,
    "DUALMEDIA_AUTHORIZE": authorize,
    # Only the creator of a product or course, and admins, add media to it.
    "DUALMEDIA_OWNER_FIELD": "creator_id",
    "JWT_TOKEN_LOCATION": ["headers", "cookies"],  # headers for programs, cookies for the pages
    "JWT_ACCESS_TOKEN_EXPIRES": timedelta(hours=1),
    "JWT_COOKIE_SAMESITE": "Lax",
    "JWT_CSRF_CHECK_FORM": True,  # the pages' forms carry the token in a hidden field
    "JWT_SESSION_COOKIE": False,
}


def load(app: Flask, config: t.Mapping[str, t.Any]) -> None:
    app.config.from_mapping(DEFAULTS)
    app.config.from_mapping(
        {key: os.environ[key] for key in FROM_ENVIRONMENT if os.environ.get(key)}
    )
    app.config.from_mapping(config)
    if not (app.config["SECRET_KEY"] or app.config.get("JWT_SECRET_KEY")):
        # The key of tokens and links. Flask's own would open a session with each request, and there
        # are none.
        app.config["JWT_SECRET_KEY"] = instance_secret(Path(app.instance_path))


def instance_secret(instance: Path) -> str:
    """The secret kept in the instance folder; made on the first call, whoever makes it."""
    instance.mkdir(parents=True, exist_ok=True)
    path = instance / "secret_key"
    if not path.exists():
        descriptor, new = tempfile.mkstemp(dir=instance)  # mode 0600
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48))
        try:
            # One of several processes wins, and nobody reads a file that is half written.
            os.link(new, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(new)
    return path.read_text()
