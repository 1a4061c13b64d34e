"""Parts that the resources of the API share: names in camelCase, fields that both databases can
hold, reading the input."""

from __future__ import annotations

import decimal
import typing as t

import marshmallow as ma
from bson import ObjectId
from flask import request
from marshmallow import fields, validate
from werkzeug.exceptions import BadRequest

from flask_dualmedia import ExternalURL

MAX_UPLOAD_SIZE = 5 * 1024**3  # bytes of all files and fields of one request
MAX_SOURCES = 20  # files or URLs in one request


class Text(fields.String):
    """A string without what PostgreSQL (NUL) or BSON (lone surrogates) cannot store."""

    default_error_messages = {"unstorable": "Contains characters that cannot be stored."}

    def _deserialize(self, value: t.Any, *args: t.Any, **kwargs: t.Any) -> str:
        text = super()._deserialize(value, *args, **kwargs) or ""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise self.make_error("unstorable") from None
        if "\0" in text:
            raise self.make_error("unstorable")
        return text


class Email(Text):
    def __init__(self, **kwargs: t.Any) -> None:
        super().__init__(validate=[validate.Email(), validate.Length(max=254)], **kwargs)

    def _deserialize(self, *args: t.Any, **kwargs: t.Any) -> str:
        return super()._deserialize(*args, **kwargs).strip().lower()


class Money(fields.Decimal):
    """An amount with two decimals on the wire, a number of cents in documents: sums of cents are
    exact."""

    def __init__(self, **kwargs: t.Any) -> None:
        super().__init__(places=2, **kwargs)

    def _deserialize(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        amount = super()._deserialize(*args, **kwargs)
        if not 0 <= amount <= 1_000_000:
            raise ma.ValidationError("Must be between 0 and 1000000.")
        return int(amount * 100)

    def _serialize(self, value: int, *args: t.Any, **kwargs: t.Any) -> t.Any:
        return float(decimal.Decimal(value) / 100)


class Id(fields.Field):
    """The ``_id`` of a document: 24 hexadecimal digits on the wire."""

    default_error_messages = {"invalid": "Not a valid id."}

    def _deserialize(self, value: t.Any, *args: t.Any, **kwargs: t.Any) -> ObjectId:
        if not isinstance(value, str) or not ObjectId.is_valid(value):
            raise self.make_error("invalid")
        return ObjectId(value)

    def _serialize(self, value: t.Any, *args: t.Any, **kwargs: t.Any) -> str | None:
        return None if value is None else str(value)


class Schema(ma.Schema):
    """snake_case in Python and MongoDB, camelCase on the wire. Unknown fields are errors."""

    def on_bind_field(self, field_name: str, field_obj: fields.Field) -> None:
        first, *others = (field_obj.data_key or field_name).split("_")
        field_obj.data_key = first + "".join(word.title() for word in others)


class PageSchema(Schema):
    page = fields.Integer(load_default=1, validate=validate.Range(1, 100_000))
    page_size = fields.Integer(load_default=20, validate=validate.Range(1, 50))


PAGE = PageSchema()


class SourceSchema(Schema):
    """The fields that a client sends with one file (multipart) or URL (JSON) that it adds."""

    url = Text(validate=validate.Length(1, 2048))
    is_public = fields.Boolean(load_default=False)


def read_json() -> t.Any:
    """The JSON body, whatever its content type: ``curl -d`` sends JSON as a form's."""
    try:
        return request.get_json(force=True)
    except RecursionError as error:
        raise BadRequest("The JSON is nested too deeply.") from error


def read(schema: ma.Schema) -> dict[str, t.Any]:
    """The checked fields of the request, from JSON or from the text parts of a multipart body."""
    is_multipart = request.mimetype == "multipart/form-data"
    return t.cast(
        "dict[str, t.Any]", schema.load(request.form.to_dict() if is_multipart else read_json())
    )


def read_upload(schema: ma.Schema) -> dict[str, t.Any]:
    """The checked fields of a request that may bring files.

    Call it once the caller is known: strangers get no more than ``MAX_CONTENT_LENGTH``.
    """
    if request.mimetype == "multipart/form-data":
        request.max_content_length = MAX_UPLOAD_SIZE
    return read(schema)


def read_query(schema: ma.Schema) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", schema.load(request.args.to_dict()))


def read_form(schema: ma.Schema) -> dict[str, t.Any]:
    """The checked fields of a page's form, which has others of its own."""
    return t.cast("dict[str, t.Any]", schema.load(request.form.to_dict(), unknown=ma.EXCLUDE))


def dump(schema: ma.Schema, document: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", schema.dump(document))


def page_body(
    name: str, items: t.Sequence[t.Any], query: dict[str, t.Any], *, has_next: bool
) -> dict[str, t.Any]:
    """The answer of a list."""
    return {name: items, "page": query["page"], "pageSize": query["page_size"], "hasNext": has_next}


def read_source(schema: SourceSchema) -> tuple[t.Any, dict[str, t.Any]]:
    """The part ``file`` of a multipart body, or the ``url`` of a JSON body, and the other
    fields."""
    values = read_upload(schema)
    url, file = values.pop("url", None), request.files.get("file")
    if file is None and url is None:
        raise ma.ValidationError({"file": ["Missing: send a part named file, or JSON with a url."]})
    source = ExternalURL(url) if url is not None and not file else file
    return source, values


def uploaded_files(name: str) -> list[t.Any]:
    """The files of a multipart body. A file field that the user left empty comes as a part without
    a filename."""
    return [file for file in request.files.getlist(name) if file.filename]
