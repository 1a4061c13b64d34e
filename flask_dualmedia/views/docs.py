"""The OpenAPI document, and a page of it that loads nothing from anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from weakref import WeakKeyDictionary

import jinja2
from flask import Flask, Response, current_app, url_for
from flask_smorest import Blueprint

from ..processes.forks import begin_in_children
from ..state import get_state
from .answers import json_answer
from .mounting import Description

_METHODS = ("get", "head", "post", "put", "patch", "delete")

_Operation = tuple[str, str, Description, list[Description]]
"""Method, path, operation and the parameters of the path."""


class Documents:
    """The OpenAPI document of each app.

    It is made when it is first asked for: that takes longer than a start-up.
    """

    def __init__(self, make: Callable[[Flask], Description]) -> None:
        self._make = make
        self._by_app: WeakKeyDictionary[Flask, Description] = WeakKeyDictionary()
        self.begin_process()
        begin_in_children(self)

    def begin_process(self) -> None:
        """Begin with a lock that no thread of another process holds."""
        self._lock = threading.Lock()

    def get(self) -> Description:
        """The document of the current app."""
        app = get_state().app
        with self._lock:
            if app not in self._by_app:
                self._by_app[app] = self._make(app)
            return self._by_app[app]


class Pages:
    """The views: the document itself, and a page of it."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def openapi_json(self) -> Response:
        return json_answer(self._documents.get())

    def openapi_page(self) -> Response:
        spec = self._documents.get()
        template = _environment().get_template("dualmedia/openapi.html")
        page = template.render(
            spec=spec,
            operations=_operations_of(spec),
            document_url=url_for(".openapi_json"),
        )
        return current_app.response_class(page, mimetype="text/html")


def add_views(blueprint: Blueprint, documents: Documents) -> None:
    """Mounted past flask-smorest's documentation: the document does not describe itself."""
    pages = Pages(documents)
    add_url_rule = super(Blueprint, blueprint).add_url_rule
    add_url_rule("/openapi.json", "openapi_json", pages.openapi_json)
    add_url_rule("/docs", "openapi_page", pages.openapi_page)


def _operations_of(spec: Description) -> list[_Operation]:
    """All operations of a document."""
    operations: list[_Operation] = []
    for path, item in spec["paths"].items():
        parameters = item.get("parameters", [])
        for method, operation in item.items():
            if method in _METHODS:
                operations.append((method, path, operation, parameters))
    return operations


@cache
def _environment() -> jinja2.Environment:
    """A Jinja of our own: the app's may have other delimiters, other rules for what is undefined,
    or none to escape."""
    return jinja2.Environment(loader=jinja2.PackageLoader("flask_dualmedia"), autoescape=True)
