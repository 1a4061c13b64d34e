"""The blueprint: media over HTTP."""

from __future__ import annotations

import typing as t
from functools import cache, wraps

import flask
from flask import Flask, Response, request
from flask.sansio.blueprints import BlueprintSetupState
from flask_smorest import Blueprint
from werkzeug.exceptions import HTTPException

from ..errors import ConfigurationError
from ..models import KINDS
from . import (
    bodies,
    content,
    direct,
    docs,
    errors,
    health,
    links,
    openapi,
    records,
    stats,
    tus,
    variants,
)
from .request_headers import check_headers

if t.TYPE_CHECKING:
    from ..config import Settings

NAME = "dualmedia"


class _Mounting(BlueprintSetupState):
    """Mounts the blueprint under a host, which Flask has no option for."""

    def add_url_rule(self, rule: str, *args: t.Any, **options: t.Any) -> None:
        super().add_url_rule(rule, *args, **options, host=self.options.get("host"))


class _Views(flask.Blueprint):
    """Calls our views in the same way in every app, between the hooks that the app has before and
    after them."""

    def make_setup_state(
        self, app: t.Any, options: dict[str, t.Any], first_registration: bool = False
    ) -> _Mounting:
        return _Mounting(self, app, options, first_registration)

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: t.Any = None,
        *args: t.Any,
        **options: t.Any,
    ) -> None:
        super().add_url_rule(rule, endpoint, _guarded(view_func), *args, **options)


class _Blueprint(Blueprint, _Views):
    ARGUMENTS_PARSER = errors.Parser()


def _guarded(view: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    """A view whose headers are checked, whose body is limited, and whose errors are answered here.

    The app's own handler for a status would be asked before that of a blueprint for the class of
    them all.
    """

    @wraps(view)
    def guarded(*args: t.Any, **kwargs: t.Any) -> t.Any:
        bodies.guard()
        try:
            check_headers()
            return view(*args, **kwargs)
        except HTTPException as error:
            return errors.answer(error)

    return guarded


def check_names(app: Flask, settings: Settings) -> None:
    """Make sure that no name and no URL of the blueprint is the host's, and that the app finds the
    host and the subdomain that it is to mount it under.

    :raises ConfigurationError: A name or a URL is the host's, or the app does not find them.
    """
    _check_host(app, settings)
    _check_blueprint_name(app, settings.blueprint_name)
    _check_routes(app, settings)


def _check_blueprint_name(app: Flask, name: str) -> None:
    if name in app.blueprints:
        raise ConfigurationError(
            f"the app has a blueprint {name!r} of its own: "
            "set DUALMEDIA_BLUEPRINT_NAME to give ours another name"
        )
    endpoints = [endpoint for endpoint in app.view_functions if endpoint.startswith(f"{name}.")]
    if endpoints:
        raise ConfigurationError(
            f"the app has the endpoint {', '.join(sorted(endpoints))} of its own: "
            "set DUALMEDIA_BLUEPRINT_NAME to give ours another name"
        )


def _check_routes(app: Flask, settings: Settings) -> None:
    place = (settings.host or "", settings.subdomain or app.url_map.default_subdomain)
    routes: list[str] = []
    for rule in app.url_map.iter_rules():
        is_below = f"{rule.rule}/".startswith(f"{settings.url_prefix}/")
        if is_below and (rule.host or "", rule.subdomain or "") == place:
            routes.append(rule.rule)
    if routes:
        raise ConfigurationError(
            f"the app has the route {', '.join(sorted(routes))} of its own: "
            "set DUALMEDIA_URL_PREFIX to give ours another place"
        )


def _check_host(app: Flask, settings: Settings) -> None:
    if app.url_map.host_matching and settings.host is None:
        raise ConfigurationError(
            "the app matches hosts: set DUALMEDIA_HOST to the one that the media routes are for"
        )
    if settings.host is not None and not app.url_map.host_matching:
        raise ConfigurationError(
            "DUALMEDIA_HOST is set, and the app does not match hosts: Flask(host_matching=True)"
        )
    if settings.subdomain is not None and not app.subdomain_matching:
        raise ConfigurationError(
            "DUALMEDIA_SUBDOMAIN is set, and the app does not match subdomains: "
            "Flask(subdomain_matching=True)"
        )


def register(app: Flask, settings: Settings) -> None:
    """Mount the blueprint on ``app``."""
    url_prefix = settings.url_prefix
    app.register_blueprint(
        _blueprint(),
        name=settings.blueprint_name,
        url_prefix=url_prefix,
        host=settings.host,
        subdomain=settings.subdomain,
    )

    @app.after_request
    def answer_what_is_not_routed(response: Response) -> Response:
        """The host's 404 and 405 under our prefix, which no hook of a blueprint sees, reach their
        clients too."""
        if request.routing_exception is not None and request.path.startswith(f"{url_prefix}/"):
            bodies.watch()
            bodies.drop_after(response)
        return response


@cache
def _blueprint() -> Blueprint:
    """The blueprint, the same one for all apps of a process.

    To make it takes longer than the rest of a start-up.
    """
    blueprint = _Blueprint(NAME, __name__, description=openapi.DESCRIPTION)
    errors.register(blueprint)
    # These are called before every hook that the app has before requests.
    blueprint.url_value_preprocessor(lambda endpoint, values: bodies.watch())
    blueprint.after_request(bodies.drop_after)
    health.add_views(blueprint)
    stats.add_views(blueprint)
    documents = docs.Documents(lambda app: openapi.describe(app, blueprint, f"{NAME}_"))
    docs.add_views(blueprint, documents)
    for kind in KINDS.values():
        records.add_views(blueprint, kind)
        content.add_views(blueprint, kind)
        variants.add_views(blueprint, kind)
        links.add_views(blueprint, kind)
        direct.add_views(blueprint, kind)
    tus.add_views(blueprint)
    return blueprint
