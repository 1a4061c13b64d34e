"""Filters and indexes of media records in MongoDB, and how documents become records."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

from pymongo import ASCENDING, IndexModel

from ..databases.collections import is_record
from ..databases.documents import MAIN_INDEX, Document
from ..models import AVAILABLE, Media
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
    values = kind.defaults() | document
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


def indexes_of(kind: type[Media]) -> Iterator[IndexModel]:
    """The indexes of the SQL table, as far as MongoDB needs them.

    A partial filter knows no ``<>``, so unfinished records are found through the state. MongoDB
    tries the indexes that a query could go by against each other, and so needs fewer: an uploader's
    private records are found by ``ix_..._uploader``.
    """
    sql_indexes = {str(index.name): index for index in kind.__table__.indexes}  # type: ignore[attr-defined]
    for name, index in sorted(sql_indexes.items()):
        keys = [(field_name(column.name), ASCENDING) for column in index.columns]

        if name == MAIN_INDEX:
            only_main = {"is_main_image": True, "state": AVAILABLE}
            yield IndexModel(
                keys,
                name=name,
                unique=True,
                partialFilterExpression=only_main,
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
