"""Fields beside ours: those that clients, forms and token checks add of themselves, and those that
are sent repeatedly.

One rule holds for forms, JSON, queries, resumable and direct uploads. A name that something adds of
itself is passed over. Any other name that we do not know is an error, so that nobody waits for the
effect of a misspelt one.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Mapping, Sequence

from flask import current_app
from flask_jwt_extended.config import config as jwt_config
from marshmallow import Schema, fields

from ..errors import InvalidMedia

ADDED = frozenset((
    # Uppy and Dropzone
    "name", "type", "relativePath", "fullPath",
    # HTML: the encoding of a form, and a button that has a name
    "_charset_", "submit",
    # jQuery, to get past caches
    "_",
    # proofs that a person sends the form, which the app checks
    "g-recaptcha-response", "h-captcha-response", "cf-turnstile-response",
))  # fmt: skip

_UTF_8 = frozenset(("", "utf-8", "utf8", "us-ascii"))

T = t.TypeVar("T")

Values = dict[str, t.Any]
"""The values of a request's fields, by name."""


def without_added(schema: Schema, values: Mapping[str, T]) -> dict[str, T]:
    """The values of our own fields, and those that are errors."""
    our_fields = _fields_by_name(schema)
    if our_fields.keys() >= values.keys():
        return dict(values)

    token_fields = _token_fields()
    kept_values: dict[str, T] = {}
    for name, value in values.items():
        if name in our_fields or not _is_added(name, token_fields, our_fields):
            kept_values[name] = value
    return kept_values


def read_form(schema: Schema, form: Mapping[str, Sequence[t.Any]]) -> Values:
    """One value for each field of a form, or of a query.

    :param form: The values of each field, in the order in which they were sent.
    :raises InvalidMedia: A field has several, or the form is in another encoding than it was read
        in.
    """
    for charset in form.get("_charset_", ()):
        if str(charset).lower() not in _UTF_8:
            raise InvalidMedia({"_charset_": ["Send the form in UTF-8."]})

    values: Values = {}
    errors: dict[str, list[str]] = {}
    our_fields = _fields_by_name(schema)
    for name, sent_values in without_added(schema, form).items():
        try:
            values[name] = _one_value(our_fields.get(name), sent_values)
        except ValueError:
            errors[name] = ["Sent more than once."]
    if errors:
        raise InvalidMedia(errors)
    return values


def read_object(pairs: Iterable[tuple[str, t.Any]]) -> Values:
    """An object of JSON, whose names may be repeated with the same value alone.

    :raises InvalidMedia: One has several.
    """
    values: Values = {}
    for name, value in pairs:
        if name in values and values[name] != value:
            raise InvalidMedia({name: ["Sent more than once."]})
        values[name] = value
    return values


def _fields_by_name(schema: Schema) -> dict[str | None, fields.Field]:
    """The fields of a schema by their names on the wire."""
    return {field.data_key: field for field in schema.fields.values()}


def _one_value(field: fields.Field | None, sent_values: Sequence[t.Any]) -> t.Any:
    """The value of a field that was sent once, or repeatedly with the same value.

    :raises ValueError: There are several values.
    """
    first = sent_values[0]
    if all(value == first for value in sent_values):
        return first

    # Browsers send nothing of a checkbox that is not checked. So forms put a hidden "false" before
    # it, or behind it.
    if isinstance(field, fields.Boolean):
        checked = [value for value in sent_values if value in field.truthy]
        unchecked = [value for value in sent_values if value in field.falsy]
        if checked and len(checked) + len(unchecked) == len(sent_values):
            return checked[0]
    raise ValueError


def _token_fields() -> tuple[str, ...]:
    """The fields in which flask-jwt-extended and Flask-WTF look for tokens, as the app has set them
    up."""
    return (
        jwt_config.json_key,
        jwt_config.refresh_json_key,
        jwt_config.access_csrf_field_name,
        jwt_config.refresh_csrf_field_name,
        current_app.config.get("WTF_CSRF_FIELD_NAME", "csrf_token"),
    )


def _is_added(
    name: str, token_fields: tuple[str, ...], our_fields: Mapping[str | None, fields.Field]
) -> bool:
    if name in ADDED or name in token_fields:
        return True
    # The field of Flask-WTF has the prefix of its form.
    suffixes = tuple(f"-{token_field}" for token_field in token_fields)
    if name.endswith(suffixes):
        return True
    # Spring marks a checkbox by its name behind an underscore.
    if not name.startswith("_"):
        return False
    return isinstance(our_fields.get(name[1:]), fields.Boolean)
