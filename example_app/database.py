"""The documents: users, products, courses, reviews and orders, in MongoDB."""

from __future__ import annotations

import typing as t
from datetime import UTC, datetime

from flask import Flask, abort, current_app
from flask_pymongo import PyMongo
from werkzeug.local import LocalProxy

Document = dict[str, t.Any]


def init_app(app: Flask) -> PyMongo:
    provider = app.json
    mongo = PyMongo(app, tz_aware=True, serverSelectionTimeoutMS=5000)
    app.json = provider  # PyMongo puts its own there; ours writes plain JSON, ids are strings
    if mongo.db is None:
        raise RuntimeError("MONGO_URI has to name a database: mongodb://host:port/database")
    app.extensions["example_app.mongo"] = mongo
    mongo.db.users.create_index("email", unique=True)
    mongo.db.products.create_index("creator_id")
    mongo.db.courses.create_index("creator_id")
    mongo.db.reviews.create_index([("target_id", 1), ("creator_id", 1)], unique=True)
    mongo.db.orders.create_index("creator_id")
    mongo.db.attempts.create_index("ends_at", expireAfterSeconds=0)
    return mongo


# The current app's database: several apps in one process, as in tests, keep to their own.
db: t.Any = LocalProxy(lambda: current_app.extensions["example_app.mongo"].db)


def now() -> datetime:
    """The time as MongoDB keeps it: in UTC, to the millisecond."""
    time = datetime.now(UTC)
    return time.replace(microsecond=time.microsecond // 1000 * 1000)


def find_or_404(collection: str, document_id: object) -> Document:
    document = db[collection].find_one({"_id": document_id})
    if document is None:
        abort(404, f"There is nothing with this id in {collection}.")
    return document


def find_page(
    collection: str, *, page: int, page_size: int, where: Document | None = None
) -> tuple[list[Document], bool]:
    """One page of documents, newest first, and whether more follow. One query: it asks for one
    document too many."""
    found = list(
        db[collection]
        .find(where or {})
        .sort("_id", -1)
        .skip((page - 1) * page_size)
        .limit(page_size + 1)
    )
    return found[:page_size], len(found) > page_size
