"""A host whose tables are in a schema of PostgreSQL, by its metadata."""

from __future__ import annotations

import typing as t
from contextlib import ExitStack

import pytest
import sqlalchemy as sa
from flask import Flask, jsonify, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dualmedia import DualMedia

from .conftest import Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE = "/notes"


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    app = Flask("schema")
    app.config.update(config)
    db = SQLAlchemy(metadata=sa.MetaData(schema="shop"))
    engine = sa.create_engine(config["SQLALCHEMY_DATABASE_URI"])
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateSchema("shop"))
    engine.dispose()

    class Note(db.Model):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

    db.init_app(app)

    @app.get("/notes")
    def notes() -> t.Any:
        return jsonify(list(db.session.scalars(sa.select(Note.text).order_by(Note.id))))

    @app.post("/notes/new")
    def new() -> t.Any:
        db.session.add(Note(text=request.form["text"]))  # type: ignore[call-arg]
        db.session.commit()
        return "", 201

    with app.app_context():
        db.create_all()
    if media is not None:
        media.init_app(app)
    return app


def test_notes_are_kept(house: House) -> None:
    before = house.client.get("/notes").get_json()
    assert house.client.post("/notes/new", data={"text": "Milk"}).status_code == 201
    assert house.client.get("/notes").get_json() == [*before, "Milk"]


class TestMedia(Contract):
    """Media in this house."""
