"""A host whose own tables are in a second bind, beside the default one that media goes to."""

from __future__ import annotations

from contextlib import ExitStack
from tempfile import TemporaryDirectory

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
    app = Flask("binds")
    app.config.update(config)
    directory = closing.enter_context(TemporaryDirectory())
    app.config["SQLALCHEMY_BINDS"] = {"own": f"sqlite:///{directory}/own.db"}
    notes.add_notes(app, SQLAlchemy(), media, bind_key="own")
    return app


def test_notes_are_kept(house: House) -> None:
    notes.check_notes_are_kept(house)


class TestMedia(Contract):
    """Media in this house."""
