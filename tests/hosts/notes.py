"""A host with a table of notes, which several hosts have in another place."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from flask import Flask, jsonify, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dualmedia import DualMedia

from .conftest import House

PAGE = "/notes"


def add_notes(
    app: Flask, db: SQLAlchemy, media: DualMedia | None, *, bind_key: str | None = None
) -> None:
    """Give a host its notes, and then media if there is any.

    :param db: The host's own, not yet on the app.
    :param bind_key: The bind that the table is in; ``None`` for the default one.
    """

    class Note(db.Model):
        __tablename__ = "notes"
        __bind_key__ = bind_key
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


def check_notes_are_kept(house: House) -> None:
    """Write a note and read it after those that were there before."""
    before = house.client.get("/notes").get_json()
    assert house.client.post("/notes/new", data={"text": "Milk"}).status_code == 201
    assert house.client.get("/notes").get_json() == [*before, "Milk"]
