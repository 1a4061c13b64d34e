"""How views are mounted.

Views stand at the top of their modules, so that each can be read by itself. ``add_views`` of a
module says under which rules they are mounted, and how the OpenAPI document describes them.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Sequence

from flask.views import MethodView
from flask_smorest import Blueprint

from ..models import Media

View = Callable[..., t.Any]

Decorator = Callable[[View], View]

Description = dict[str, t.Any]
"""A part of an OpenAPI document."""


class KindView(MethodView):
    """A view of media. Each kind has a subclass of its own, which :func:`add_view` makes."""

    init_every_request = False

    kind: t.ClassVar[type[Media]]
    name: t.ClassVar[str]
    """The kind's name as it stands in the names of endpoints and operations."""


def name_of(kind: type[Media]) -> str:
    """The name of a kind in those of endpoints and operations."""
    return kind.kind.replace("-", "_")


def add_view(
    blueprint: Blueprint,
    view: type[MethodView],
    rule: str,
    endpoint: str,
    *,
    kind: type[Media] | None = None,
    parameters: list[Description] | None = None,
    **methods: Sequence[Decorator],
) -> None:
    """Mount a view under a rule.

    The view itself stays as it is: what is mounted is a subclass of it.

    :param kind: The kind of a :class:`KindView`.
    :param parameters: Parameters of the path, for the OpenAPI document.
    :param methods: By name of a method, its decorators, the outermost first.
    """
    # Extensions of hosts know a view by its module and its name.
    members: dict[str, t.Any] = {"__module__": view.__module__}
    if kind is not None:
        members.update(kind=kind, name=name_of(kind))
    for method, decorators in methods.items():
        members[method] = _decorated(getattr(view, method), decorators)

    mounted = type(view.__name__, (view,), members)
    blueprint.add_url_rule(rule, endpoint, mounted, parameters=parameters)


def add_function(
    blueprint: Blueprint, view: View, rule: str, decorators: Sequence[Decorator]
) -> None:
    """Mount a view that is one function under a rule, with the function's name for an endpoint.

    :param decorators: The outermost first.
    """
    blueprint.add_url_rule(rule, view.__name__, _decorated(view, decorators))


def _decorated(function: View, decorators: Sequence[Decorator]) -> View:
    for decorate in reversed(decorators):
        function = decorate(function)
    return function
