"""Our collections in the host's MongoDB database, and how they are told from those of the host.

The host chooses a prefix for their names, and the name of the GridFS bucket. A collection is looked
at before it is used for the first time: at start-up, where MongoDB answers then. One in which
everything is the host's is refused.
"""

from __future__ import annotations

import logging
import types
import typing as t
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime

from pymongo import ASCENDING, DESCENDING
from pymongo.collection import Collection
from pymongo.write_concern import WriteConcern

from ..errors import NamesTaken
from ..models import AVAILABLE, DELETING, KINDS, PENDING, STORAGE_TYPES, TRASHED, Media
from .documents import BULK, Document, Documents
from .shapes import OLDEST_FIELDS, owner_of_key

logger = logging.getLogger("flask_dualmedia")

Shape = Callable[[Document], bool]

BUCKET = "media"

JOURNAL = "journal_"
"""Stands before the names of collections with records that wait for SQL, and behind the prefix."""

LEASES, CHECKS, UPLOADS, PLAYS = (
    "dualmedia_leases",
    "dualmedia_checks",
    "dualmedia_uploads",
    "dualmedia_plays",
)
UPKEEP, FINDINGS, DRAINS = "dualmedia_upkeep", "dualmedia_findings", "dualmedia_drains"
OTHERS = (LEASES, CHECKS, UPLOADS, PLAYS, UPKEEP, FINDINGS, DRAINS)

_STATES = (PENDING, AVAILABLE, DELETING, TRASHED)

_FIRST_ID, _LAST_ID = uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)


def is_record(kind: type[Media], document: Document) -> bool:
    """Whether a document is a record of ours: it has our fields, with values that ours have."""
    return (
        isinstance(document.get("_id"), uuid.UUID)
        and document.get("state") in _STATES
        and document.get("storage_type") in STORAGE_TYPES
        and isinstance(document.get(kind.owner_field), str)
        and isinstance(document.get("created_at"), datetime)
        and isinstance(document.get("updated_at"), datetime)
        and document.keys() >= _FIELDS[kind]
    )


_FIELDS = {kind: frozenset(OLDEST_FIELDS[kind.__tablename__]) - {"id"} for kind in KINDS.values()}


def _record_filter(kind: type[Media]) -> Document:
    """What :func:`is_record` asks, as a filter of MongoDB's."""
    shape: Document = {
        "_id": {
            "$gte": _FIRST_ID,
            "$lte": _LAST_ID,
        },  # UUIDs sort together, and nothing else between them
        "state": {"$in": [*_STATES]},
        "storage_type": {"$in": [*STORAGE_TYPES]},
        kind.owner_field: {"$type": "string"},
        "created_at": {"$type": "date"},
        "updated_at": {"$type": "date"},
    }
    return shape | {
        field: {"$exists": True} for field in sorted(_FIELDS[kind]) if field not in shape
    }


_RECORD_FILTERS = {kind: _record_filter(kind) for kind in KINDS.values()}


def records_only(
    kind: type[Media], where: t.Mapping[str, t.Any] = types.MappingProxyType({})
) -> Document:
    """A filter for the records that match another one. It asks first what that asks, which most
    documents fail."""
    return {
        **where,
        **{name: asked for name, asked in _RECORD_FILTERS[kind].items() if name not in where},
    }


class Collections:
    """Our collections.

    :param documents: The host's database.
    :param prefix: Stands before every name but those of buckets.
    :param bucket: Name of the bucket with the bytes of Mongo-only mode.
    """

    def __init__(self, documents: Documents, *, prefix: str = "", bucket: str = BUCKET) -> None:
        self.documents = documents
        self.prefix, self.bucket = prefix, bucket
        # What we acknowledge has reached the disks of a majority, and with it all that was written
        # before: the bytes.
        self._durable = documents.with_options(write_concern=WriteConcern("majority", j=True))
        self._checked: dict[tuple[str, bool], Collection[Document]] = {}
        self._passed: set[str] = set()

    @classmethod
    def of(cls, given: Documents | Collections) -> Collections:
        """Those in a database that has none under other names; or what is given."""
        return given if isinstance(given, Collections) else cls(given)

    def by(self, documents: Documents) -> Collections:
        """The same collections, asked through another client. What one has looked at, the other
        knows."""
        others = Collections(documents, prefix=self.prefix, bucket=self.bucket)
        others._passed = self._passed
        return others

    @property
    def journal_bucket(self) -> str:
        """Name of the bucket with the bytes that wait for SQL."""
        return f"{self.bucket}_journal"

    def get(self, name: str, *, durable: bool = False) -> Collection[Document]:
        """A collection by the name that it has without the prefix.

        :param durable: What is acknowledged has reached the disks of a majority.
        :raises NamesTaken: It is the host's.
        """
        collection = self._checked.get((name, durable))
        if collection is None:
            self.check([name])
            database = self._durable if durable else self.documents
            collection = self._checked[name, durable] = database[self.prefix + name]
        return collection

    def get_bucket(self, bucket: str) -> tuple[Collection[Document], Collection[Document]]:
        """Files and chunks of a bucket.

        :raises NamesTaken: They are the host's.
        """
        names = f"{bucket}.files", f"{bucket}.chunks"
        if (names[0], False) not in self._checked:
            self.check_bucket(bucket)
            for name in names:
                self._checked[name, False] = self.documents[name]
        return self._checked[names[0], False], self._checked[names[1], False]

    def check(self, names: Iterable[str], *, buckets: Iterable[str] = ()) -> None:
        """Make sure that collections, where they are there, are ours.

        :param names: Their names without the prefix.
        :raises NamesTaken: Some are the host's. All of them are named.
        :raises DatabaseUnavailable: MongoDB does not answer: nobody knows.
        """
        shapes = {self.prefix + name: _shape(name) for name in names}
        for bucket in buckets:
            shapes |= {f"{bucket}.files": _is_file, f"{bucket}.chunks": _is_chunk}
        shapes = {name: shape for name, shape in shapes.items() if name not in self._passed}
        if not shapes:
            return
        foreign = [
            name
            for name, kind in sorted(self._existing(shapes))
            if self._is_foreign(name, kind, shapes[name])
        ]
        if not foreign:
            self._passed.update(shapes)
            return
        settings = []
        files = {f"{bucket}.{part}" for bucket in buckets for part in ("files", "chunks")}
        if not files.issuperset(foreign):
            settings.append("DUALMEDIA_COLLECTION_PREFIX")
        if not files.isdisjoint(foreign):
            settings.append("DUALMEDIA_BUCKET")
        error = NamesTaken(
            "MongoDB", [f"the collection {name!r}" for name in foreign], " and ".join(settings)
        )
        logger.error("%s", error)
        raise error

    def check_bucket(self, bucket: str) -> None:
        """The same for the collections of a bucket."""
        self.check((), buckets=[bucket])

    def _existing(self, names: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Those of these collections that there are, and the type of each."""
        with self.documents.asked():
            found = self.documents.list_collections(
                filter={"name": {"$in": [*names]}}, nameOnly=True, authorizedCollections=True
            )
            existing = [(one["name"], one.get("type", "collection")) for one in found]
        yield from existing

    def _is_foreign(self, name: str, kind: str, shape: Shape | None) -> bool:
        if kind != "collection":
            return True  # a view, or a collection of time series
        if shape is None:
            return False
        with self.documents.asked():
            samples = [
                *_samples(self.documents[name], by="files_id" if shape is _is_chunk else "_id")
            ]
        if not samples:
            return self._is_indexed_by_others(name)
        strange = [document for document in samples if not shape(document)]
        if not strange:
            return False
        if len(strange) == len(samples) and not self._has_ours(name, shape):
            return True
        logger.warning("%s in MongoDB holds documents that are not ours, such as %r; they are left alone",
                       name, strange[0].get("_id"))  # fmt: skip
        return False

    def _has_ours(self, name: str, shape: Shape) -> bool:
        """Whether anything in a collection is ours, although what was looked at is not."""
        where = _SELECTIVE.get(shape, {})
        if not where:
            return False
        with self.documents.asked(BULK):
            return any(map(shape, self.documents[name].find(where).limit(20)))

    def _is_indexed_by_others(self, name: str) -> bool:
        """Whether a collection without documents has indexes, and none is ours."""
        model = next((k for k in KINDS.values() if name == self.prefix + k.__tablename__), None)
        if model is None:
            return False
        with self.documents.asked():
            indexes = set(self.documents[name].index_information()) - {"_id_"}
        ours = {str(index.name) for index in model.__table__.indexes}  # type: ignore[attr-defined]
        return bool(indexes) and indexes.isdisjoint(ours)


def _samples(collection: Collection[Document], *, by: str) -> Iterator[Document]:
    """A few documents: those of other types of ids sort before all of ours, or behind them."""
    projection = {"parts": 0} if by == "_id" else {by: 1}  # those of an upload may be megabytes
    for direction in (ASCENDING, DESCENDING):
        order = [("_id", direction)] if by == "_id" else [("$natural", direction)]
        yield from collection.find({}, projection).sort(order).limit(2)


def _is_lease(document: Document) -> bool:
    return isinstance(document.get("_id"), str) and "holder" in document


def _is_check(document: Document) -> bool:
    return isinstance(document.get("_id"), str)


def is_upload(document: Document) -> bool:
    """Whether a document is a resumable upload of ours."""
    return (
        isinstance(document.get("_id"), uuid.UUID)
        and isinstance(document.get("identity"), str)
        and isinstance(document.get("expires_at"), datetime)
    )


UPLOADS_ONLY: Document = {
    "_id": {"$gte": _FIRST_ID, "$lte": _LAST_ID},
    "identity": {"$type": "string"},
    "expires_at": {"$type": "date"},
}


def _is_play(document: Document) -> bool:
    return isinstance(document.get("_id"), bytes) and "batch" in document and "expires" in document


def _is_file(document: Document) -> bool:
    return owner_of_key(document.get("_id")) is not None


def _is_chunk(document: Document) -> bool:
    return owner_of_key(document.get("files_id")) is not None


def _record_shape(kind: type[Media]) -> Shape:
    return lambda document: is_record(kind, document)


_RECORDS = {kind.__tablename__: _record_shape(kind) for kind in KINDS.values()}

_SHAPES: dict[str, Shape] = {
    LEASES: _is_lease,
    UPLOADS: is_upload,
    PLAYS: _is_play,
    **dict.fromkeys((CHECKS, UPKEEP, FINDINGS, DRAINS), _is_check),
}

_SELECTIVE: dict[Shape, Document] = {
    _RECORDS[kind.__tablename__]: records_only(kind) for kind in KINDS.values()
} | {
    is_upload: UPLOADS_ONLY,
    _is_play: {"batch": {"$exists": True}},
    _is_lease: {"holder": {"$exists": True}},
    _is_file: {"_id": {"$regex": "^[0-9a-f]{32}-[0-9a-f]{16}$"}},
    _is_chunk: {"files_id": {"$regex": "^[0-9a-f]{32}-[0-9a-f]{16}$"}},
}
"""Filters that find documents of a shape, and may find others."""


def _shape(name: str) -> Shape | None:
    return _SHAPES.get(name) or _RECORDS.get(name.removeprefix(JOURNAL))
