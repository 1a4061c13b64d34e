"""The JSON API under ``/api``."""

from __future__ import annotations

from flask import Blueprint

from . import auth, courses, orders, products, reviews

blueprint = Blueprint("api", __name__, url_prefix="/api")

for resource in (auth, products, courses, reviews, orders):
    blueprint.register_blueprint(resource.blueprint)
