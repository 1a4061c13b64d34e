"""A host whose tables are in a schema of PostgreSQL, by its metadata."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_dualmedia import DualMedia

from . import notes
from .conftest import Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE = notes.PAGE


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    app = Flask("schema")
    app.config.update(config)
    engine = sa.create_engine(config["SQLALCHEMY_DATABASE_URI"])
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema("shop"))
    engine.dispose()
    notes.add_notes(app, SQLAlchemy(metadata=sa.MetaData(schema="shop")), media)
    return app


def test_notes_are_kept(house: House) -> None:
    notes.check_notes_are_kept(house)


class TestMedia(Contract):
    """Media in this house."""
