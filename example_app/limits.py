"""How often one address may log in, register and change media: the host's business."""

from __future__ import annotations

import ipaddress
import math
import typing as t
from datetime import timedelta
from functools import wraps

from flask import Blueprint, Flask, request
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from limits import RateLimitItem, parse_many
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError
from werkzeug.exceptions import TooManyRequests

from .database import db, now

CHANGES = ["POST", "PUT", "PATCH", "DELETE"]

ACCOUNTS = {
    "log in": ["api.auth.login", "pages.account.login"],
    "register": ["api.auth.register", "pages.account.register"],
    "log out": ["pages.account.logout"],
    "renew": ["api.auth.refresh"],
}
"""The actions with accounts, each with its views. Programs and pages are counted together."""


def init_app(app: Flask) -> None:
    # Counted in this process alone: who wants to change media has an account.
    limiter = Limiter(get_remote_address, app=app, storage_uri="memory://", headers_enabled=True)
    limiter.limit(app.config["MEDIA_LIMIT"], methods=CHANGES)(
        t.cast(Blueprint, app.blueprints["dualmedia"])
    )

    if app.config.get("RATELIMIT_ENABLED", True):
        limits = parse_many(app.config["LOGIN_LIMIT"])
        for action, endpoints in ACCOUNTS.items():
            for endpoint in endpoints:
                app.view_functions[endpoint] = limited(app.view_functions[endpoint], action, limits)


def limited(view: t.Any, action: str, limits: t.Sequence[RateLimitItem]) -> t.Any:
    """A view that answers 429 to an address that has done this too often."""

    @wraps(view)
    def counted(**arguments: t.Any) -> t.Any:
        for limit in limits:
            count(action, limit)
        return view(**arguments)

    return counted


def count(action: str, limit: RateLimitItem) -> None:
    """Count an attempt in MongoDB, where all workers count.

    :raises TooManyRequests: There were too many since the first one that counts.
    """
    key = f"{action}, {limit}, {network()}"
    attempt = count_in_window(key) or begin_window(key, limit.get_expiry()) or count_in_window(key)
    if attempt is not None and attempt["count"] > limit.amount:
        seconds = (attempt["ends_at"] - now()).total_seconds()
        raise TooManyRequests(
            f"Too often: at most {limit}.", retry_after=max(1, math.ceil(seconds))
        )


def count_in_window(key: str) -> t.Any:
    return db.attempts.find_one_and_update(
        {"_id": key, "ends_at": {"$gt": now()}},
        {"$inc": {"count": 1}},
        return_document=ReturnDocument.AFTER,
    )


def begin_window(key: str, seconds: int) -> t.Any:
    """Begin to count, unless another worker has at this moment."""
    begun_at = now()
    try:
        return db.attempts.find_one_and_update(
            {"_id": key, "ends_at": {"$lte": begun_at}},
            {"$set": {"count": 1, "ends_at": begun_at + timedelta(seconds=seconds)}},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
    except DuplicateKeyError:
        return None


def network() -> str:
    """The network that the request comes from. Whoever has one IPv6 address has all of its
    network."""
    address = request.remote_addr or ""
    if ":" in address:
        return str(ipaddress.ip_network(f"{address.partition('%')[0]}/64", strict=False))
    return address
