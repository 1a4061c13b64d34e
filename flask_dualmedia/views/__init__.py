"""The blueprint: media over HTTP."""

from __future__ import annotations

import typing as t
from functools import cache

from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask, Response, request
from flask_smorest import Api, Blueprint

from .. import bodies
from ..errors import ConfigurationError
from ..models import KINDS
from ..schemas import ErrorSchema
from ..state import get_state
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


def check_names(app: Flask, name: str, url_prefix: str) -> None:
    """Make sure that no name and no URL of the blueprint is the host's.

    :raises ConfigurationError: One is.
    """
    if name in app.blueprints:
        raise ConfigurationError(
            f"the app has a blueprint {name!r} of its own: set DUALMEDIA_BLUEPRINT_NAME to give ours another name"
        )
    endpoints = sorted(endpoint for endpoint in app.view_functions if endpoint.startswith(f"{name}."))
    if endpoints:
        raise ConfigurationError(
            f"the app has the endpoint {', '.join(endpoints)} of its own: "
            "set DUALMEDIA_BLUEPRINT_NAME to give ours another name"
        )
    subdomain = app.url_map.default_subdomain
    routes = sorted(
        rule.rule
        for rule in app.url_map.iter_rules()
        if f"{rule.rule}/".startswith(f"{url_prefix}/") and (rule.subdomain or "") in ("", subdomain) and not rule.host
    )
    if routes:
        raise ConfigurationError(
            f"the app has the route {', '.join(routes)} of its own: set DUALMEDIA_URL_PREFIX to give ours another place"
        )


def register(app: Flask, name: str, url_prefix: str) -> None:
    """Mount the blueprint on ``app``."""
    app.register_blueprint(_blueprint(), name=name, url_prefix=url_prefix)

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
    name = get_state(app).settings.blueprint_name
    blueprint.register_views_in_doc(api, app, api.spec, name=name, parameters=None)
    api.spec.tag({"name": name, "description": DESCRIPTION})
    return api.spec.to_dict()


def _schema_name(schema: t.Any) -> str:
    """One name for each form of a schema: what is answered, what is sent with a file, what may be edited."""
    instance = schema() if isinstance(schema, type) else schema
    name = type(instance).__name__.removesuffix("Schema")
    return f"{name}Edit" if instance.partial else name
