"""A guest takes what a host gives it, and leaves names and settings of the host's as they are."""

from __future__ import annotations

import collections
import enum
import typing as t
from collections.abc import Callable

import pytest
from flask import Flask
from marshmallow import class_registry
from werkzeug.local import LocalProxy

from flask_dualmedia import get_media_by_reference, save_media_storage

from ..conftest import Furnish
from ..samples import PDF


class Kind(str, enum.Enum):  # noqa: UP042 - str() of these is their name
    NOTE = "note"


class Lazy:
    """Text that is made when it is asked for, as those of Flask-Babel and speaklater."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._text, name)


TEXTS: list[Callable[[str], t.Any]] = [
    Lazy,
    collections.UserString,
    lambda text: LocalProxy(lambda: text),
    type("Text", (str,), {}),
]


@pytest.mark.parametrize("text", TEXTS)
def test_any_kind_of_text_is_kept_as_text(furnish: Furnish, text: Callable[[str], t.Any]) -> None:
    with furnish(Flask("host")).app_context():
        record = save_media_storage(
            text("note"),
            text("n1"),
            PDF,
            title=text("A title"),
            filename=text("a.pdf"),
            uploaded_by=text("alice"),
        )
        linked = save_media_storage("note", "n1", text("https://cdn.example/a"))
        kept = get_media_by_reference(text("note"), text("n1"))
        assert [one.id for one in kept] == [record.id, linked.id]
        values = (kept[0].title, kept[0].filename, kept[0].uploaded_by, kept[0].reference_type)
        assert values == ("A title", "a.pdf", "alice", "note")
        assert {type(value) for value in values} == {str}


def test_a_member_of_an_enum_is_kept_by_its_value(furnish: Furnish) -> None:
    with furnish(Flask("host")).app_context():
        record = save_media_storage(Kind.NOTE, "n1", PDF)
        assert record.reference_type == "note"
        assert [one.id for one in get_media_by_reference(Kind.NOTE, "n1")] == [record.id]


def test_our_schemas_are_not_found_by_their_names() -> None:
    ours = [
        name
        for name, classes in class_registry._registry.items()
        for found in (classes if isinstance(classes, list) else [classes])
        if getattr(found, "__module__", "").startswith("flask_dualmedia")
    ]
    assert ours == []


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_the_config_keeps_the_values_that_it_had(
    furnish: Furnish, emptied_url: str, scheme: str
) -> None:
    url = f"{scheme}://{emptied_url.partition('://')[2]}"
    app = Flask("host")
    furnish(app, DB_ENABLED=True, SQLALCHEMY_DATABASE_URI=url, DUALMEDIA_AUTO_UPGRADE=False)
    assert app.config["SQLALCHEMY_DATABASE_URI"] == url
    with app.app_context():
        assert save_media_storage("note", "n1", PDF).file_size == len(PDF)
