"""The blueprint: media over HTTP."""

from __future__ import annotations

import typing as t
from functools import cache

from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask, Response, request
from flask_smorest import Api, Blueprint

from .. import bodies
from ..models import KINDS
from ..schemas import ErrorSchema
from . import content, direct, docs, errors, health, links, records, stats, tus

NAME = "dualmedia"

DESCRIPTION = "Heavy media of the documents in MongoDB, kept in PostgreSQL; in Mongo-only mode in MongoDB too."


class _GuestApi(Api):
    """flask-smorest for a guest: its error handler would turn every 404 page of the host into JSON, and no page or
    command of its own is wanted."""

    ERROR_SCHEMA = ErrorSchema

    def _register_error_handlers(self) -> None:
        """Ours are on the blueprint."""

    def _register_doc_blueprint(self) -> None:
        """Ours are on the blueprint."""


class _Blueprint(Blueprint):
    ARGUMENTS_PARSER = errors.Parser()


def register(app: Flask, url_prefix: str) -> None:
    """Mount the blueprint on ``app``."""
    app.register_blueprint(_blueprint(), url_prefix=url_prefix)

    @app.after_request
    def answer_what_is_not_routed(response: Response) -> Response:
        """The host's 404 and 405 under our prefix, which no hook of a blueprint sees, reach their clients too."""
        if request.routing_exception is not None and request.path.startswith(f"{url_prefix}/"):
            bodies.guard()
            bodies.drop_after(response)
        return response


@cache
def _blueprint() -> Blueprint:
    """The same one for all apps of a process: to make it takes longer than the rest of a start-up."""
    blueprint = _Blueprint(NAME, __name__, template_folder="../templates", description=DESCRIPTION)
    errors.register(blueprint)
    blueprint.before_request(bodies.guard)
    blueprint.after_request(bodies.drop_after)
    health.add_views(blueprint)
    stats.add_views(blueprint)
    docs.add_views(blueprint, docs.Documents(lambda app: _describe(app, blueprint)))
    for kind in KINDS.values():
        records.add_views(blueprint, kind)
        content.add_views(blueprint, kind)
        links.add_views(blueprint, kind)
        direct.add_views(blueprint, kind)
    tus.add_views(blueprint)
    return blueprint


def _describe(app: Flask, blueprint: Blueprint) -> dict[str, t.Any]:
    plugin = MarshmallowPlugin(schema_name_resolver=_schema_name)
    options = {"title": "Media", "version": "1", "openapi_version": "3.1.0", "marshmallow_plugin": plugin}
    api = _GuestApi(config_prefix=f"{NAME}_")
    api.init_app(app, spec_kwargs=options | {"info": {"description": DESCRIPTION}})
    assert api.spec is not None
    api.spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"})
    blueprint.register_views_in_doc(api, app, api.spec, name=NAME, parameters=None)
    api.spec.tag({"name": NAME, "description": DESCRIPTION})
    return api.spec.to_dict()


def _schema_name(schema: t.Any) -> str:
    """One name for each form of a schema: what is answered, what is sent with a file, what may be edited."""
    instance = schema() if isinstance(schema, type) else schema
    name = type(instance).__name__.removesuffix("Schema")
    return f"{name}Edit" if instance.partial else name
