"""A small host, served by gunicorn, whose owners need not exist."""

from __future__ import annotations

import typing as t

from flask import Flask

from flask_dualmedia import DualMedia

SECRET = "a key for faults of at least thirty-two bytes"

CONFIG = {
    "JWT_SECRET_KEY": SECRET,
    "DUALMEDIA_REFERENCES": {"product": None, "course": None, "user": None},
}


def create_app(**config: t.Any) -> Flask:
    """The app; databases come from the environment."""
    app = Flask("faults")
    app.config.from_prefixed_env()
    app.config.update(CONFIG, **config)
    DualMedia(app)
    return app
