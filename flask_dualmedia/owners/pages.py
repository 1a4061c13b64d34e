"""Media on the pages of a host: that of many documents at once.

A page shows only media that its viewer may read.
"""

from __future__ import annotations

import typing as t

from ..authorization import readable, reference_to
from ..databases.storable import plain
from ..models import Media
from ..repositories.base import EVERYTHING, Records
from ..state import get_state

VisibleTo = t.Any
"""The viewer that media is shown to, by the rule that the media routes ask:

* the claims of their JWT, as ``get_jwt()`` of flask-jwt-extended gives them. Without a token, under
  ``@jwt_required(optional=True)``, there are none: then as ``None``.
* an identity. Nothing else is known of them: nobody is an admin by their identity.
* ``None``: nobody in particular, as a visitor without a token.

Where it is left out, the functions ask nobody and show everything.
"""


_Lists = dict[type[Media], dict[str, Records[Media]]]
"""Media of each kind by the id of its owner."""


def attach_media(
    documents: t.Iterable[t.MutableMapping[str, t.Any]],
    *,
    reference_type: str | None = None,
    visible_to: VisibleTo = EVERYTHING,
    **fields: type[Media],
) -> list[t.MutableMapping[str, t.Any]]:
    """Load the media of a page of documents in one query, as far as its viewer may read it.

    ``attach_media(products, images=ProductImage)`` gives each product its list
    ``product["images"]``; ``attach_media(courses, videos=CourseVideo, resources=CourseResource)``
    is one SQL statement too. In Mongo-only mode it is one query per kind.

    :param documents: MongoDB documents with an ``_id``.
    :param reference_type: What the documents are, needed for :class:`MediaStorage`.
    :param visible_to: The viewer of the page, ``get_jwt()`` for example; see :data:`VisibleTo`.
        Where it is left out, the lists have private media of everybody.
    :param fields: Name of the field to set, and the kind of media to set it to.
    :return: The documents, changed in place.
    """
    documents = list(documents)
    for kind in fields.values():
        if kind.names_type() and reference_type is None:
            raise TypeError(f"attach_media() needs reference_type for {kind.__name__}")

    lists: _Lists = {kind: {} for kind in fields.values()}
    for document in documents:
        for name, kind in fields.items():
            owner_id = reference_to(document["_id"])
            by_owner = lists[kind]
            document[name] = by_owner.setdefault(owner_id, Records())

    if documents and lists:
        _fill(lists, reference_type, visible_to)
    return documents


def _fill(lists: _Lists, reference_type: str | None, visible_to: VisibleTo) -> None:
    """Load media into the lists of its owners. Each kind has lists for the same owners."""
    kinds = [*lists]
    owner_ids = [*lists[kinds[0]]]
    repository = get_state().repository
    records = repository.of_owners(kinds, plain(reference_type), owner_ids)
    for record in readable(records, visible_to):
        by_owner = lists[type(record)]
        by_owner[record.owner_id].append(record)

    if records.partial:
        for by_owner in lists.values():
            for listed in by_owner.values():
                listed.partial = True
