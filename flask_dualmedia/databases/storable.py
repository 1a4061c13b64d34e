"""The rules for a record that every database can keep.

PostgreSQL is strict, MongoDB is not. While SQL is down a record goes to MongoDB first, so what SQL
would refuse must be refused before. The rules are read from the columns and constraints of the
models: a new column has its rule without anybody remembering it.
"""

from __future__ import annotations

import logging
import math
import typing as t
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache

import sqlalchemy as sa

from ..errors import InvalidMedia, RecordRefused
from ..models import Check, MediaRecord

logger = logging.getLogger("flask_dualmedia")

TEXT_LENGTH = 1_000_000
"""Characters of a text without a length of its own. A whole document of MongoDB has 16 MiB."""

FIRST_YEAR, LAST_YEAR = 2, 9998
"""Years of times.

At the very ends of Python's calendar, a time has no counterpart in another time zone.
"""

Rule = Callable[[t.Any], str | None]
"""Says what is wrong with a value, if anything is."""


def check(kind: type[MediaRecord], values: t.Mapping[str, t.Any]) -> None:
    """Refuse values of a record, all of its fields or some, that a database could not keep.

    :raises InvalidMedia: With messages by wire names.
    """
    rules = rules_of(kind)
    errors = {}
    for name, value in values.items():
        message = rules[name](value)
        if message is not None:
            errors[camelcase(name)] = [message]
    if errors:
        raise InvalidMedia(errors)


@contextmanager
def logged_refusals() -> Iterator[None]:
    """Log what a database says about a record that it refuses in this block."""
    try:
        yield
    except RecordRefused as error:
        log_refusal(error)
        raise


def log_refusal(error: Exception) -> None:
    """Log why a database refuses a record.

    It is for those who run the app, and clients are not told.
    """
    if isinstance(error, RecordRefused) and not isinstance(error, InvalidMedia):
        logger.warning("%s", error)


def camelcase(name: str) -> str:
    """Return the wire name of a field: ``mongo_product_id`` → ``mongoProductId``."""
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def is_storable(text: str) -> bool:
    """Whether every database can keep a string.

    PostgreSQL refuses NUL, and no encoding has half surrogate pairs.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def plain(value: t.Any) -> t.Any:
    """Return text of any other class than ``str`` as a plain string, now.

    It may be translated lazily, a member of an enum, or a proxy. A value that is no text stays as
    it is.
    """
    value_type = type(value)
    if value_type is str:
        return value
    if issubclass(value_type, str):
        return str.__str__(value)  # str() of a member of an enum may be its name
    if hasattr(value, "casefold"):
        return str(value)
    return value


@cache
def rules_of(kind: type[MediaRecord]) -> dict[str, Rule]:
    """Return the rule of each field of a kind."""
    table = t.cast(sa.Table, kind.__table__)
    checks: dict[str, Check] = {}
    for constraint in table.constraints:
        if isinstance(constraint, sa.CheckConstraint):
            check = constraint.info["check"]
            checks[check.field] = check
    return {name: _rule(column, checks.get(name)) for name, column in table.columns.items()}


def _rule(column: sa.Column[t.Any], check: Check | None) -> Rule:
    type_rule = _type_rule(column.type)
    none_message: str | None = "Must not be empty."
    if column.nullable:
        none_message = None

    def rule(value: t.Any) -> str | None:
        if value is None:
            return none_message
        message = type_rule(value)
        if message is None and check is not None and not check.is_met(value):
            return check.message
        return message

    return rule


def _type_rule(column_type: sa.types.TypeEngine[t.Any]) -> Rule:
    if isinstance(column_type, sa.String):  # and Text
        return _text(column_type.length or TEXT_LENGTH)
    if isinstance(column_type, sa.BigInteger):
        return _integer(64)
    if isinstance(column_type, sa.Integer):
        return _integer(32)
    if isinstance(column_type, sa.Float):  # and Double
        return _float
    if isinstance(column_type, sa.Boolean):
        return _instance(bool, "Not a boolean.")
    if isinstance(column_type, sa.Uuid):
        return _instance(uuid.UUID, "Not a UUID.")
    if isinstance(column_type, sa.DateTime):
        return _time
    raise TypeError(f"no rule says what a column of type {column_type!r} may hold")


def _text(length: int) -> Rule:
    def rule(value: t.Any) -> str | None:
        if not isinstance(value, str):
            return "Not a string."
        if len(value) > length:  # in code points, as PostgreSQL counts
            return f"Longer than maximum length {length}."
        if not is_storable(value):
            return "Contains characters that cannot be stored."
        return None

    return rule


def _integer(bits: int) -> Rule:
    limit = 2 ** (bits - 1)

    def rule(value: t.Any) -> str | None:
        if not isinstance(value, int) or isinstance(value, bool):
            return "Not an integer."
        if not -limit <= value < limit:
            return f"Must be less than {limit}."
        return None

    return rule


def _float(value: t.Any) -> str | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "Not a number."
    try:
        is_finite = math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        is_finite = False
    if not is_finite:
        return "Must be a finite number."
    return None


def _time(value: t.Any) -> str | None:
    if not isinstance(value, datetime) or value.tzinfo is None:
        return "Not a time with a zone."
    try:
        year = value.astimezone(UTC).year
    except OverflowError:
        year = 0
    if not FIRST_YEAR <= year <= LAST_YEAR:
        return f"Must be between the years {FIRST_YEAR} and {LAST_YEAR}."
    return None


def _instance(expected: type, message: str) -> Rule:
    def rule(value: t.Any) -> str | None:
        if not isinstance(value, expected):
            return message
        return None

    return rule
