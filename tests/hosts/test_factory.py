"""An app factory with its own Flask-SQLAlchemy, Flask-Migrate, PyMongo and JWTManager."""

from __future__ import annotations

import typing as t
from contextlib import ExitStack

import pytest
import sqlalchemy as sa
from flask import Flask, jsonify, request
from flask_jwt_extended import JWTManager, create_access_token, get_jwt_identity, jwt_required
from flask_migrate import Migrate
from flask_pymongo import PyMongo
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dualmedia import DualMedia, save_media_storage

from .conftest import DUAL, MONGO, Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE = "/notes"


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    app = Flask("factory")
    app.config.update(config)
    db, mongo = SQLAlchemy(), PyMongo()

    class Note(db.Model):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

    db.init_app(app)
    Migrate(app, db)
    mongo.init_app(app)
    assert mongo.cx is not None
    visits = mongo.cx.get_default_database()["visits"]
    closing.callback(mongo.cx.close)
    JWTManager(app)
    app.config["DUALMEDIA_AUTO_UPGRADE"] = False  # its own revisions have made the tables

    @app.post("/login")
    def login() -> t.Any:
        return jsonify(token=create_access_token(request.form["name"]))

    @app.get("/notes")
    def notes() -> t.Any:
        found = db.session.scalars(sa.select(Note.text).order_by(Note.id)).all()
        return jsonify(notes=list(found), visits=visits.count_documents({}))

    @app.post("/notes/new")
    @jwt_required()
    def new() -> t.Any:
        db.session.add(Note(text=f"{request.form['text']} by {get_jwt_identity()}"))  # type: ignore[call-arg]
        visits.insert_one({})
        db.session.commit()
        return "", 201

    @app.post("/notes/regretted")
    def regretted() -> t.Any:
        db.session.add(Note(text="never to be seen"))  # type: ignore[call-arg]
        db.session.flush()
        save_media_storage("note", "kept", b"all the same", is_public=True)
        db.session.rollback()
        return "", 204

    if media is not None:
        media.init_app(app, mongo=mongo)
    with app.app_context():
        db.create_all()
    return app


def sign_in(app: Flask, client: t.Any) -> dict[str, str]:
    token = client.post("/login", data={"name": "alice"}).get_json()["token"]
    return {"Authorization": f"Bearer {token}"}


def test_notes_are_written_and_read(house: House) -> None:
    before = house.client.get("/notes").get_json()
    assert house.client.post("/notes/new", data={"text": "Milk"}).status_code == 401
    made = house.client.post("/notes/new", data={"text": "Milk"}, headers=house.token)
    assert made.status_code == 201
    after = house.client.get("/notes").get_json()
    assert after == {"notes": [*before["notes"], "Milk by alice"], "visits": before["visits"] + 1}


@pytest.mark.parametrize("house", [DUAL, MONGO], indirect=True)
def test_media_and_a_transaction_of_the_hosts_leave_each_other_alone(house: House) -> None:
    before = house.client.get("/notes").get_json()
    assert house.client.post("/notes/regretted").status_code == 204
    assert house.client.get("/notes").get_json() == before
    listed = house.client.get("/media/files?referenceId=kept", headers=house.token).get_json()
    assert len(listed["items"]) == 1


class TestMedia(Contract):
    """Media in this house."""
