"""Flask-Admin over the host's own tables."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column

from flask_dualmedia import DualMedia

from .conftest import Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE = "/plain"


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    from flask_admin import Admin
    from flask_admin.contrib.sqla import ModelView
    from flask_babel import Babel

    app = Flask("admin")
    app.config.update(config)
    db = SQLAlchemy()

    class Note(db.Model):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(sa.String(50))

    db.init_app(app)
    Babel(app)
    admin = Admin(app, name="Notes")
    admin.add_view(ModelView(Note, db))
    app.add_url_rule("/plain", view_func=lambda: "plain", endpoint="plain", methods=["GET"])
    if media is not None:
        media.init_app(app)
    with app.app_context():
        db.create_all()
    return app


def test_notes_are_written_and_found_in_the_admin(house: House) -> None:
    assert "Notes" in house.client.get("/admin/").text
    assert house.client.post("/admin/note/new/", data={"text": "Buy milk"}).status_code == 302
    listed = house.client.get("/admin/note/")
    assert (listed.status_code, "Buy milk" in listed.text) == (200, True)
    with house.client.get("/admin/static/admin/js/helpers.js") as script:
        assert script.status_code == 200


class TestMedia(Contract):
    """Media in this house."""
