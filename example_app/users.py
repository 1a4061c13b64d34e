"""Users: registered with an e-mail address, of which passwords are kept as hashes."""

from __future__ import annotations

import typing as t
from functools import cache

from bson import ObjectId
from bson.errors import InvalidId
from pymongo.errors import DuplicateKeyError
from werkzeug.exceptions import Conflict
from werkzeug.security import check_password_hash, generate_password_hash

from .database import Document, db, now


def create_user(values: t.Mapping[str, t.Any]) -> Document:
    user = {
        "_id": ObjectId(),
        "email": values["email"],
        "name": values["name"],
        "password_hash": generate_password_hash(values["password"]),
        "role": "user",
        "created_at": now(),
    }
    try:
        db.users.insert_one(user)
    except DuplicateKeyError as error:
        raise Conflict("This e-mail address is registered already.") from error
    return user


def find_user(user_id: str) -> Document | None:
    """The user as they are now, ``None`` if the account is gone."""
    try:
        return db.users.find_one({"_id": ObjectId(user_id)})
    except InvalidId:  # a token of another app with the same key
        return None


def find_login(email: str, password: str) -> Document | None:
    """The user with this e-mail address, if the password is right."""
    user = db.users.find_one({"email": email})
    # An unknown address takes as long as a wrong password: the time does not tell who is
    # registered.
    right = check_password_hash(user["password_hash"] if user else nobodys_hash(), password)
    return user if user and right else None


@cache
def nobodys_hash() -> str:
    return generate_password_hash("")
