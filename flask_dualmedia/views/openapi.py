"""The OpenAPI document, as it is for one app: where its tokens are, and under which names and paths
media is."""

from __future__ import annotations

import typing as t

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from flask_jwt_extended.config import config as jwt_config
from flask_smorest import Api, Blueprint

from ..models import KINDS
from ..schemas import ErrorSchema, schema_of
from ..state import get_state

DESCRIPTION = "Heavy media of the documents in MongoDB, kept in PostgreSQL; in Mongo-only mode in MongoDB too."

Requirement = dict[str, list[str]]
"""Security schemes that a request needs together."""

_AS_BEARER = ("authorization", "Bearer")
"""Name and type of the header that OpenAPI has a scheme for."""

_METHODS = ("get", "head", "options", "post", "put", "patch", "delete")

_TAGS = {
    "health": "Which databases answer.",
    "stats": "Which media of one document is used.",
    "uploads": "Resumable uploads of every kind, by tus 1.0.",
} | {name: schema_of(kind).__doc__ or "" for name, kind in KINDS.items()}
"""Groups of operations, by what their paths begin with."""


class _GuestApi(Api):
    """flask-smorest for a guest: its error handler would turn every 404 page of the host into JSON,
    and no page or command of its own is wanted."""

    ERROR_SCHEMA = ErrorSchema

    def _register_error_handlers(self) -> None:
        """Ours are on the blueprint."""

    def _register_doc_blueprint(self) -> None:
        """Ours are on the blueprint."""


def describe(app: Flask, blueprint: Blueprint, prefix: str) -> dict[str, t.Any]:
    """The document of an app, whose context is pushed.

    :param prefix: Begins the names of flask-smorest's settings, so that those of the host do not
        apply.
    """
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    options = {
        "title": "Media",
        "version": "1",
        "openapi_version": "3.1.0",
        "marshmallow_plugin": plugin,
    }
    api = _GuestApi(config_prefix=prefix)
    api.init_app(app, spec_kwargs=options | {"info": {"description": _description()}})
    assert api.spec is not None
    settings = get_state().settings
    blueprint.register_views_in_doc(
        api, app, api.spec, name=settings.blueprint_name, parameters=None
    )
    schemes = _add_schemes(api.spec)
    for name, description in _TAGS.items():
        api.spec.tag({"name": name, "description": description})

    document = t.cast("dict[str, t.Any]", api.spec.to_dict())
    for path, item in document["paths"].items():
        below = path.partition(f"{settings.url_prefix}/")[2]
        for method in item.keys() & _METHODS:
            operation = item[method]
            operation["tags"] = [below.partition("/")[0]]
            if "security" in operation:
                is_open = {} in operation["security"]
                operation["security"] = _alternatives(schemes, method) + [{}] * is_open
    return document


def _description() -> str:
    if "json" not in jwt_config.token_location:
        return DESCRIPTION
    # There is no security scheme for it.
    return (
        f"{DESCRIPTION} The token may also be the field `{jwt_config.json_key}` of a body in JSON."
    )


def _add_schemes(spec: APISpec) -> dict[str, tuple[str, ...]]:
    """Describe how the app takes tokens.

    :return: By place of the token, the schemes that a request needs which changes something.
    """
    schemes: dict[str, dict[str, t.Any]] = {}
    places: dict[str, tuple[str, ...]] = {}
    for place in t.cast("list[str]", jwt_config.token_location):
        if (
            place == "headers"
            and (jwt_config.header_name.lower(), jwt_config.header_type) == _AS_BEARER
        ):
            schemes["bearer"] = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            places[place] = ("bearer",)
        elif place == "headers":
            schemes["header"] = _key(
                "header", jwt_config.header_name, _of_text(jwt_config.header_type)
            )
            places[place] = ("header",)
        elif place == "cookies":
            schemes["cookie"] = _key("cookie", jwt_config.access_cookie_name, "The token.")
            places[place] = ("cookie",)
            if jwt_config.cookie_csrf_protect:
                where = f"The value of the cookie `{jwt_config.access_csrf_cookie_name}`."
                schemes["csrf"] = _key("header", jwt_config.access_csrf_header_name, where)
                places[place] = ("cookie", "csrf")
        elif place == "query_string":
            beginning = _of_text(jwt_config.query_string_value_prefix)
            schemes["query"] = _key("query", jwt_config.query_string_name, beginning)
            places[place] = ("query",)
    for name, scheme in schemes.items():
        spec.components.security_scheme(name, scheme)
    return places


def _key(place: str, name: str, description: str) -> dict[str, t.Any]:
    return {"type": "apiKey", "in": place, "name": name, "description": description}


def _of_text(beginning: str) -> str:
    return f"`{beginning.strip()}` and the token." if beginning.strip() else "The token."


def _alternatives(places: dict[str, tuple[str, ...]], method: str) -> list[Requirement]:
    """What a request may have to be let in: a token in one of the places, with what belongs to it
    there."""
    is_checked = method.upper() in jwt_config.csrf_request_methods
    needed = ([name for name in names if name != "csrf" or is_checked] for names in places.values())
    return [{name: [] for name in names} for names in needed]


def _schema_name(schema: t.Any) -> str:
    """One name for each form of a schema: what is answered, what is sent with a file, what may be
    edited."""
    instance = schema() if isinstance(schema, type) else schema
    name = type(instance).__name__.removesuffix("Schema")
    return f"{name}Edit" if instance.partial else name
