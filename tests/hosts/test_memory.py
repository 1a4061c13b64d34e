"""A host on SQLite in memory, as apps are in their tests."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dualmedia import DualMedia

from . import notes
from .conftest import Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE = notes.PAGE


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    app = Flask("memory")
    app.config.update(config)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    notes.add_notes(app, SQLAlchemy(), media)
    return app


def test_notes_are_kept(house: House) -> None:
    notes.check_notes_are_kept(house)


class TestMedia(Contract):
    """Media in this house."""
