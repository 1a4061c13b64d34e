"""A host whose own tables are in a second bind, beside the default one that media goes to."""

from __future__ import annotations

import typing as t
from contextlib import ExitStack
from tempfile import TemporaryDirectory

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
    app = Flask("binds")
    app.config.update(config)
    directory = closing.enter_context(TemporaryDirectory())
    app.config["SQLALCHEMY_BINDS"] = {"own": f"sqlite:///{directory}/own.db"}
    db = SQLAlchemy()

    class Note(db.Model):
        __tablename__ = "notes"
        __bind_key__ = "own"
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
