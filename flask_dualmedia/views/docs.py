"""The OpenAPI document, and a page of it that loads nothing from anywhere."""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Callable

from flask import Response, jsonify, render_template
from flask_smorest import Blueprint

_METHODS = ("get", "head", "post", "put", "patch", "delete")


class Document:
    """The OpenAPI document, made when it is first asked for: that takes as long as all the rest of a start-up."""

    def __init__(self, make: Callable[[], dict[str, t.Any]]) -> None:
        self._make, self._made = make, None
        self._lock = threading.Lock()

    def get(self) -> dict[str, t.Any]:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made


def add_views(blueprint: Blueprint, document: Document) -> None:
    """Mounted past flask-smorest's documentation: the document does not describe itself."""

    def openapi_json() -> Response:
        return jsonify(document.get())

    def openapi_page() -> str:
        spec = document.get()
        operations = [
            (method, path, operation, item.get("parameters", []))
            for path, item in spec["paths"].items()
            for method, operation in item.items()
            if method in _METHODS
        ]
        return render_template("dualmedia/openapi.html", spec=spec, operations=operations)

    super(Blueprint, blueprint).add_url_rule("/openapi.json", "openapi_json", openapi_json)
    super(Blueprint, blueprint).add_url_rule("/docs", "openapi_page", openapi_page)
