"""Filters and indexes of media records in MongoDB, and how documents become records."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Iterator

from pymongo import ASCENDING, DESCENDING, IndexModel

from ..databases.collections import is_record
from ..databases.documents import MAIN_INDEX, Document
from ..models import AVAILABLE, Media, MediaRecord
from .base import EVERYTHING, Listing, M, Values

Sort = t.Sequence[tuple[str, int]]

BY_ID: Sort = [("_id", ASCENDING)]


def scopes_of(listing: Listing[t.Any]) -> list[Document]:
    """The conditions of the scans that find all that a list may show.

    With one condition for both, no index would have the order and the records together, and records
    that nobody is shown would be read.
    """
    if listing.visible_to is EVERYTHING:
        return [{}]
    public = {"is_public": True}
    if not listing.shows_private:
        return [public]
    # Public ones of the reader too: if one is made private between the two scans it is missing in
    # neither.
    own = {"uploaded_by": listing.visible_to}
    return [public, own]


def spans_of(listing: Listing[t.Any]) -> list[Document]:
    """Where a list goes on: first among the records with the value of the last one, then behind it.

    With both in one condition, an index would be read from its beginning.
    """
    if listing.sort in listing.kind.added_fields():
        return _spans_of_added(listing)
    if listing.after is None:
        return [{}]

    value, last_id = listing.after
    beyond = "$gt"
    if listing.descending:
        beyond = "$lt"
    if listing.sort == "id":
        return [{"_id": {beyond: last_id}}]

    same_value = {
        listing.sort: value,
        "_id": {beyond: last_id},
    }
    further = {listing.sort: {beyond: value}}
    return [same_value, further]


def _spans_of_added(listing: Listing[t.Any]) -> list[Document]:
    """The same where documents may lack the field that the list is sorted by.

    MongoDB would sort them before all others, and has no order between nothing and a number. So
    records with the default have a span of their own. No value is less than the default.
    """
    field = listing.sort
    default = listing.kind.added_fields()[field]
    with_default = having(listing.kind, {field: default})
    if listing.after is None:
        spans: list[Document] = [with_default, {field: {"$gt": default}}]
        if listing.descending:
            spans.reverse()
        return spans

    value, last_id = listing.after
    same_value = having(listing.kind, {field: value})
    if not listing.descending:
        return [{**same_value, "_id": {"$gt": last_id}}, {field: {"$gt": value}}]
    spans = [{**same_value, "_id": {"$lt": last_id}}]
    if value > default:
        spans += [{field: {"$lt": value, "$gt": default}}, with_default]
    return spans


def sort_within(listing: Listing[t.Any], span: Document) -> Sort:
    """The order of a list within a span."""
    direction = ASCENDING
    if listing.descending:
        direction = DESCENDING
    fields = dict.fromkeys((listing.sort, "id"))
    condition = span.get(listing.sort)
    if isinstance(condition, dict) and "$in" in condition:
        del fields[listing.sort]  # its documents have the default, or nothing
    return [(field_name(field), direction) for field in fields]


def place_of(record: Media) -> tuple[t.Any, uuid.UUID]:
    """The place of a record among the media of its owner."""
    return getattr(record, record.order), record.id


def having(kind: type[MediaRecord], where: Values) -> Document:
    """A filter for the records whose fields have these values.

    A document that lacks a field that was added later has its default.
    """
    added_fields = kind.added_fields()
    conditions: Document = {}
    for name, value in where.items():
        condition = value
        if value is not None and value == added_fields.get(name):
            condition = {"$in": [value, None]}
        conditions[field_name(name)] = condition
    return conditions


def field_name(field: str) -> str:
    """The name of a field in documents."""
    if field == "id":
        return "_id"
    return field


def document_of(values: Values) -> Document:
    return {field_name(name): value for name, value in values.items()}


def some_record(kind: type[M], document: Document) -> M:
    document["id"] = document.pop("_id")
    # A document of an earlier version lacks what is new since.
    values = kind.added_fields() | document
    return kind.from_values(values)


def is_made_once(values: Values) -> bool:
    """Tell whether a change cannot be made again, on what the first has left, and has a time that
    tells whose it is."""
    if "version" not in values or "updated_at" not in values:
        return False
    return "state" in values or "storage_key" in values


def record_of(kind: type[M], document: Document | None) -> M | None:
    if document is None or not is_record(kind, document):
        return None
    return some_record(kind, document)


def indexes_of(kind: type[MediaRecord]) -> Iterator[IndexModel]:
    """The indexes of the SQL table, as far as MongoDB needs them.

    A partial filter knows no ``<>``, so unfinished records are found through the state. MongoDB
    tries the indexes that a query could go by against each other, and so needs fewer: an uploader's
    private records are found by ``ix_..._uploader``.
    """
    sql_indexes = {str(index.name): index for index in kind.__table__.indexes}  # type: ignore[attr-defined]
    for name, index in sorted(sql_indexes.items()):
        keys = [(field_name(column.name), ASCENDING) for column in index.columns]

        if index.unique:
            which = {"state": AVAILABLE}
            if name == MAIN_INDEX:
                which = {"is_main_image": True, "state": AVAILABLE}
            yield IndexModel(
                keys,
                name=name,
                unique=True,
                partialFilterExpression=which,
            )
        elif name.endswith("_unfinished"):
            yield IndexModel([("state", ASCENDING), *keys], name=name)
        elif name.endswith(("_public", "_public_owner")):
            yield IndexModel(
                [("is_public", ASCENDING), *keys],
                name=name,
                partialFilterExpression={"is_public": True},
            )
        elif "_public" not in name and "_private" not in name:
            yield IndexModel(keys, name=name)
