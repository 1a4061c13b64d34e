"""A host alone, and the same host with media in both modes."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pymongo
import pytest
from flask import Flask
from werkzeug.test import Client

from flask_dualmedia import (
    DatabaseUnavailable,
    DualMedia,
    DualMediaError,
    FileTooLarge,
    InvalidMedia,
    MediaNotFound,
    SecondMainImage,
)

from ..conftest import BASE_CONFIG, Databases, ServerUrls, close, mongo_uri_for, unique
from ..samples import Headers, bearer

ALONE, DUAL, MONGO = "alone", "dual", "mongo"

Config = dict[str, t.Any]


@dataclass
class House:
    """A host that has started."""

    app: Flask
    client: Client
    root: str
    """Where the app is mounted."""
    page: str
    """A page of the host's, for GET alone."""
    token: Headers
    """The headers that the host's own client sends with its requests."""

    def path(self, path: str) -> str:
        return self.root + path


@pytest.fixture(scope="module", params=[ALONE, DUAL, MONGO])
def house(
    request: pytest.FixtureRequest, servers: ServerUrls, template_database: str
) -> Iterator[House]:
    """The host of a test module.

    The module has ``create_app(config, media, closing)``: the host puts ``media`` on its app where
    there is any, and on ``closing`` what it closes in the end. ``open_client``, ``sign_in`` and
    ``add_view`` are its own ways to do that, if it has them.
    """
    module = request.module
    mode: str = request.param
    name = unique("house")
    databases = Databases(servers.postgres)
    mongo_uri = mongo_uri_for(servers, name)
    template = template_database if mode == DUAL else None
    config: Config = {
        **BASE_CONFIG,
        "SECRET_KEY": "a key of the host's, of at least thirty-two bytes",
        "MONGO_URI": mongo_uri,
        "SQLALCHEMY_DATABASE_URI": databases.create(name, template=template).render_as_string(
            hide_password=False
        ),
        "DB_ENABLED": mode == DUAL,
    }
    with ExitStack() as closing:
        closing.callback(databases.drop_all)
        closing.callback(_drop, mongo_uri)
        app: Flask = module.create_app(config, None if mode == ALONE else DualMedia(), closing)
        closing.callback(_dispose_of_engines, app)
        closing.callback(close, app)
        getattr(module, "add_view", _add_view)(app, "/failing/<name>", fail)
        client = getattr(module, "open_client", Flask.test_client)(app)
        token = getattr(module, "sign_in", _bearer)(app, client)
        yield House(app, client, getattr(module, "ROOT", ""), getattr(module, "PAGE", "/"), token)


FAILURES: dict[str, tuple[DualMediaError, int]] = {
    "missing": (MediaNotFound("files", "x"), 404),
    "main": (SecondMainImage(), 409),
    "large": (FileTooLarge(5), 413),
    "title": (InvalidMedia({"title": ["Too long."]}), 422),
    "down": (DatabaseUnavailable("PostgreSQL", retry_after=7), 503),
}


def fail(name: str) -> t.NoReturn:
    """A view of the host's that media refuses something."""
    raise FAILURES[name][0]


def _add_view(app: Flask, rule: str, view: t.Callable[..., t.Any]) -> None:
    app.add_url_rule(rule, view_func=view)


def _bearer(app: Flask, client: Client) -> Headers:
    return bearer(app, "alice") if "flask-jwt-extended" in app.extensions else {}


def _drop(mongo_uri: str) -> None:
    with pymongo.MongoClient(mongo_uri) as client:
        client.drop_database(client.get_default_database())


def _dispose_of_engines(app: Flask) -> None:
    if "sqlalchemy" not in app.extensions:
        return
    with app.app_context():
        for engine in app.extensions["sqlalchemy"].engines.values():
            engine.dispose()
