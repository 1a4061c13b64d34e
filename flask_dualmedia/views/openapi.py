"""The OpenAPI document as it is for one app.

Each app says where its tokens are, and under which names and paths media is.
"""

from __future__ import annotations

import typing as t

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from flask_jwt_extended.config import config as jwt_config
from flask_smorest import Blueprint

from ..libraries.smorest import GuestApi
from ..models import KINDS
from ..schemas import ErrorSchema, schema_of
from ..state import get_state
from .mounting import Description

DESCRIPTION = (
    "Heavy media of the documents in MongoDB, kept in PostgreSQL; "
    "in Mongo-only mode in MongoDB too."
)

Schemes = dict[str, tuple[str, ...]]
"""By place of the token, the security schemes that a request needs which changes something."""

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


class _Api(GuestApi):
    """Ours, whose errors look as those of our views. They are answered on the blueprint."""

    ERROR_SCHEMA = ErrorSchema


def describe(app: Flask, blueprint: Blueprint, prefix: str) -> Description:
    """The document of an app, whose context is pushed.

    :param prefix: Begins the names of flask-smorest's settings, so that those of the host do not
        apply.
    """
    settings = get_state().settings
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    options = {
        "title": "Media",
        "version": "1",
        "openapi_version": "3.1.0",
        "marshmallow_plugin": plugin,
        "info": {"description": _description()},
    }
    api = _Api(config_prefix=prefix)
    api.init_app(app, spec_kwargs=options)
    spec = api.spec
    assert spec is not None
    blueprint.register_views_in_doc(api, app, spec, name=settings.blueprint_name, parameters=None)
    schemes = _add_schemes(spec)
    for name, description in _TAGS.items():
        spec.tag({"name": name, "description": description})

    document = t.cast(Description, spec.to_dict())
    for path, item in document["paths"].items():
        below = path.partition(f"{settings.url_prefix}/")[2]
        tag = below.partition("/")[0]
        for method in item.keys() & _METHODS:
            _complete(item[method], method, tag, schemes)
    return document


def _complete(operation: Description, method: str, tag: str, schemes: Schemes) -> None:
    """Add to an operation its group, and how the app takes tokens for it."""
    operation["tags"] = [tag]
    if "security" not in operation:
        return

    requirements = _alternatives(schemes, method)
    if {} in operation["security"]:
        requirements.append({})  # no token is needed
    operation["security"] = requirements


def _description() -> str:
    if "json" not in jwt_config.token_location:
        return DESCRIPTION
    # There is no security scheme for it.
    return (
        f"{DESCRIPTION} The token may also be the field `{jwt_config.json_key}` of a body in JSON."
    )


def _add_schemes(spec: APISpec) -> Schemes:
    """Describe how the app takes tokens."""
    schemes: dict[str, Description] = {}
    places: Schemes = {}
    for place in t.cast("list[str]", jwt_config.token_location):
        schemes_of_place = _schemes_of(place)
        if schemes_of_place:
            places[place] = tuple(schemes_of_place)
            schemes.update(schemes_of_place)

    for name, scheme in schemes.items():
        spec.components.security_scheme(name, scheme)
    return places


def _schemes_of(place: str) -> dict[str, Description]:
    """The schemes, by name, of tokens in one place. There is none for JSON."""
    if place == "headers":
        return _header_schemes()
    if place == "cookies":
        return _cookie_schemes()
    if place == "query_string":
        beginning = _beginning_with(jwt_config.query_string_value_prefix)
        return {"query": _key("query", jwt_config.query_string_name, beginning)}
    return {}


def _header_schemes() -> dict[str, Description]:
    header = (jwt_config.header_name.lower(), jwt_config.header_type)
    if header == _AS_BEARER:
        return {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    beginning = _beginning_with(jwt_config.header_type)
    return {"header": _key("header", jwt_config.header_name, beginning)}


def _cookie_schemes() -> dict[str, Description]:
    schemes = {"cookie": _key("cookie", jwt_config.access_cookie_name, "The token.")}
    if jwt_config.cookie_csrf_protect:
        where = f"The value of the cookie `{jwt_config.access_csrf_cookie_name}`."
        schemes["csrf"] = _key("header", jwt_config.access_csrf_header_name, where)
    return schemes


def _key(place: str, name: str, description: str) -> Description:
    return {"type": "apiKey", "in": place, "name": name, "description": description}


def _beginning_with(prefix: str) -> str:
    """The description of a value in which text stands before the token."""
    prefix = prefix.strip()
    if not prefix:
        return "The token."
    return f"`{prefix}` and the token."


def _alternatives(places: Schemes, method: str) -> list[Requirement]:
    """The ways to be let in: a token in one of the places, with what belongs to it there."""
    is_checked = method.upper() in jwt_config.csrf_request_methods
    alternatives: list[Requirement] = []
    for names in places.values():
        needed = [name for name in names if name != "csrf" or is_checked]
        alternatives.append({name: [] for name in needed})
    return alternatives


def _schema_name(schema: t.Any) -> str:
    """One name for each form of a schema: what is answered, what is sent with a file, what may be
    edited."""
    if isinstance(schema, type):
        schema = schema()
    name = type(schema).__name__.removesuffix("Schema")
    if schema.partial:
        return f"{name}Edit"
    return name
