"""The OpenAPI document, and a page of it that loads nothing from anywhere."""

from __future__ import annotations

import typing as t

from flask import Response, jsonify, render_template
from flask_smorest import Api, Blueprint

_METHODS = ("get", "head", "post", "put", "patch", "delete")


def add_views(blueprint: Blueprint, api: Api) -> None:
    """Mounted past flask-smorest's documentation: the document does not describe itself."""

    def openapi_json() -> Response:
        return jsonify(_spec(api))

    def openapi_page() -> str:
        spec = _spec(api)
        operations = [
            (method, path, operation, item.get("parameters", []))
            for path, item in spec["paths"].items()
            for method, operation in item.items()
            if method in _METHODS
        ]
        return render_template("dualmedia/openapi.html", spec=spec, operations=operations)

    super(Blueprint, blueprint).add_url_rule("/openapi.json", "openapi_json", openapi_json)
    super(Blueprint, blueprint).add_url_rule("/docs", "openapi_page", openapi_page)


def _spec(api: Api) -> dict[str, t.Any]:
    assert api.spec is not None
    return api.spec.to_dict()
