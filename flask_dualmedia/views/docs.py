"""The OpenAPI document, and a page of it that loads nothing from anywhere."""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Callable
from functools import cache
from weakref import WeakKeyDictionary

import jinja2
from flask import Flask, Response, current_app, url_for
from flask_smorest import Blueprint

from ..processes.forks import begin_in_children
from ..state import get_state
from .answers import json_answer

_METHODS = ("get", "head", "post", "put", "patch", "delete")


class Documents:
    """The OpenAPI document of each app, made when it is first asked for: that takes longer than a
    start-up."""

    def __init__(self, make: Callable[[Flask], dict[str, t.Any]]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[Flask, dict[str, t.Any]] = WeakKeyDictionary()
        self.begin_process()
        begin_in_children(self)

    def begin_process(self) -> None:
        self._lock = threading.Lock()

    def get(self) -> dict[str, t.Any]:
        """That of the current app."""
        app = get_state().app
        with self._lock:
            if app not in self._made:
                self._made[app] = self._make(app)
            return self._made[app]


def add_views(blueprint: Blueprint, documents: Documents) -> None:
    """Mounted past flask-smorest's documentation: the document does not describe itself."""

    def openapi_json() -> Response:
        return json_answer(documents.get())

    def openapi_page() -> Response:
        spec = documents.get()
        operations = [
            (method, path, operation, item.get("parameters", []))
            for path, item in spec["paths"].items()
            for method, operation in item.items()
            if method in _METHODS
        ]
        template = _environment().get_template("dualmedia/openapi.html")
        page = template.render(
            spec=spec, operations=operations, document_url=url_for(".openapi_json")
        )
        return current_app.response_class(page, mimetype="text/html")

    super(Blueprint, blueprint).add_url_rule("/openapi.json", "openapi_json", openapi_json)
    super(Blueprint, blueprint).add_url_rule("/docs", "openapi_page", openapi_page)


@cache
def _environment() -> jinja2.Environment:
    """A Jinja of our own: the app's may have other delimiters, other rules for what is undefined,
    or none to escape."""
    return jinja2.Environment(loader=jinja2.PackageLoader("flask_dualmedia"), autoescape=True)
