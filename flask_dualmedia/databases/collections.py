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
from functools import cache

from pymongo import ASCENDING, DESCENDING
from pymongo.collection import Collection
from pymongo.write_concern import WriteConcern

from ..errors import NamesTaken
from ..models import AVAILABLE, DELETING, PENDING, TABLES, TRASHED, MediaRecord
from .clock import Clock
from .documents import BULK, Document, Documents
from .shapes import owner_of_key

logger = logging.getLogger("flask_dualmedia")

Shape = Callable[[Document], bool]
"""Says whether a document is of one sort of ours."""

BUCKET = "media"

JOURNAL = "journal_"
"""Stands before the names of collections with records that wait for SQL, and behind the prefix."""

LEASES = "dualmedia_leases"
CHECKS = "dualmedia_checks"
UPLOADS = "dualmedia_uploads"
PLAYS = "dualmedia_plays"
UPKEEP = "dualmedia_upkeep"
FINDINGS = "dualmedia_findings"
DRAINS = "dualmedia_drains"
OTHERS = (LEASES, CHECKS, UPLOADS, PLAYS, UPKEEP, FINDINGS, DRAINS)

_STATES = (PENDING, AVAILABLE, DELETING, TRASHED)

_FIRST_ID = uuid.UUID(int=0)
_LAST_ID = uuid.UUID(int=2**128 - 1)

_ANY_ID: Document = {"$gte": _FIRST_ID, "$lte": _LAST_ID}
"""All UUIDs: they sort together, and nothing else between them."""


def is_record(kind: type[MediaRecord], document: Document) -> bool:
    """Whether a document is a record of ours: it has our fields, with values that ours have.

    Fields that were added later may be missing. Its storage may have any name, and may not be set
    up here.
    """
    if not isinstance(document.get("_id"), uuid.UUID):
        return False
    if document.get("state") not in _STATES or not isinstance(document.get("storage_type"), str):
        return False
    if kind.owner_field is not None and not isinstance(document.get(kind.owner_field), str):
        return False
    return (
        isinstance(document.get("created_at"), datetime)
        and isinstance(document.get("updated_at"), datetime)
        and document.keys() >= _required_fields(kind)
    )


@cache
def _required_fields(kind: type[MediaRecord]) -> frozenset[str]:
    """The fields that all documents of records have, but for their ids."""
    return frozenset(kind.field_names()) - kind.added_fields().keys() - {"id"}


@cache
def _record_filter(kind: type[MediaRecord]) -> Document:
    """Return the question of :func:`is_record` as a filter of MongoDB's."""
    shape: Document = {
        "_id": {**_ANY_ID},
        "state": {"$in": [*_STATES]},
        "storage_type": {"$type": "string"},
        "created_at": {"$type": "date"},
        "updated_at": {"$type": "date"},
    }
    if kind.owner_field is not None:
        shape[kind.owner_field] = {"$type": "string"}
    for field in sorted(_required_fields(kind)):
        shape.setdefault(field, {"$exists": True})
    return shape


def records_only(
    kind: type[MediaRecord], where: t.Mapping[str, t.Any] = types.MappingProxyType({})
) -> Document:
    """Return a filter for the records that match another one.

    It asks first what that asks, which most documents fail.
    """
    record_filter = _record_filter(kind)
    added = {field: condition for field, condition in record_filter.items() if field not in where}
    return {**where, **added}


class Collections:
    """Our collections: one object for whoever asks MongoDB about what is ours.

    :param documents: The host's database.
    :param prefix: Stands before every name but those of buckets.
    :param bucket: Name of the bucket with the bytes of Mongo-only mode.
    """

    def __init__(self, documents: Documents, *, prefix: str = "", bucket: str = BUCKET) -> None:
        self.documents = documents
        self.asked = documents.asked
        """Gives what is done in a block its time, and lets no driver's error out."""
        self.prefix = prefix
        self.bucket = bucket
        # What we acknowledge has reached the disks of a majority, and with it all that was written
        # before: the bytes.
        self._durable = documents.with_options(write_concern=WriteConcern("majority", j=True))
        self._checked: dict[tuple[str, bool], Collection[Document]] = {}
        self._passed: set[str] = set()

    @classmethod
    def of(cls, database: Documents | Collections) -> Collections:
        """Return those in a database that has none under other names; collections as they are."""
        if isinstance(database, Collections):
            return database
        return cls(database)

    def by(self, documents: Documents) -> Collections:
        """Return the same collections, asked through another client.

        Each knows which names the other has looked at.
        """
        others = Collections(documents, prefix=self.prefix, bucket=self.bucket)
        others._passed = self._passed
        return others

    @property
    def clock(self) -> Clock:
        """The clock that tells MongoDB's time."""
        return self.documents.clock

    @property
    def journal_bucket(self) -> str:
        """Name of the bucket with the bytes that wait for SQL."""
        return f"{self.bucket}_journal"

    def get(self, name: str, *, durable: bool = False) -> Collection[Document]:
        """Return a collection by the name that it has without the prefix.

        :param durable: What is acknowledged has reached the disks of a majority.
        :raises NamesTaken: It is the host's.
        """
        collection = self._checked.get((name, durable))
        if collection is None:
            self.check([name])
            database = self.documents
            if durable:
                database = self._durable
            collection = database[self.prefix + name]
            self._checked[name, durable] = collection
        return collection

    def get_bucket(self, bucket: str) -> tuple[Collection[Document], Collection[Document]]:
        """Return files and chunks of a bucket.

        :raises NamesTaken: They are the host's.
        """
        files, chunks = f"{bucket}.files", f"{bucket}.chunks"
        if (files, False) not in self._checked:
            self.check_bucket(bucket)
            # Other threads look for the files alone: the chunks are there by then.
            self._checked[chunks, False] = self.documents[chunks]
            self._checked[files, False] = self.documents[files]
        return self._checked[files, False], self._checked[chunks, False]

    def check(self, names: Iterable[str], *, buckets: Iterable[str] = ()) -> None:
        """Make sure that collections, where they are there, are ours.

        :param names: Their names without the prefix.
        :raises NamesTaken: Some are the host's. All of them are named.
        :raises DatabaseUnavailable: MongoDB does not answer: nobody knows.
        """
        shapes = {self.prefix + name: _shape(name) for name in names}
        bucket_names = set()
        for bucket in buckets:
            files, chunks = f"{bucket}.files", f"{bucket}.chunks"
            bucket_names |= {files, chunks}
            shapes |= {files: _is_file, chunks: _is_chunk}
        shapes = {name: shape for name, shape in shapes.items() if name not in self._passed}
        if not shapes:
            return

        foreign = self._foreign(shapes)
        if not foreign:
            self._passed.update(shapes)
            return
        error = _names_taken(foreign, bucket_names)
        logger.error("%s", error)
        raise error

    def check_bucket(self, bucket: str) -> None:
        """Make sure of the same for the collections of a bucket."""
        self.check((), buckets=[bucket])

    def _foreign(self, shapes: t.Mapping[str, Shape | None]) -> list[str]:
        """Return the names, in order, of those collections that are the host's.

        :param shapes: The shape of our documents by the name of the collection.
        """
        foreign = []
        for name, collection_type in sorted(self._existing(shapes)):
            if self._is_foreign(name, collection_type, shapes[name]):
                foreign.append(name)
        return foreign

    def _existing(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Return those of these collections that there are, and the type of each."""
        with self.asked():
            entries = self.documents.list_collections(
                filter={"name": {"$in": [*names]}},
                nameOnly=True,
                authorizedCollections=True,
            )
            return [(entry["name"], entry.get("type", "collection")) for entry in entries]

    def _is_foreign(self, name: str, collection_type: str, shape: Shape | None) -> bool:
        if collection_type != "collection":
            return True  # a view, or a collection of time series
        if shape is None:
            return False

        field = "_id"
        if shape is _is_chunk:
            field = "files_id"
        with self.asked():
            samples = [*_samples(self.documents[name], by=field)]
        if not samples:
            return self._is_indexed_by_others(name)

        strange = [document for document in samples if not shape(document)]
        if not strange:
            return False
        if len(strange) == len(samples) and not self._has_ours(name, shape):
            return True
        logger.warning(
            "%s in MongoDB holds documents that are not ours, such as %r; they are left alone",
            name,
            strange[0].get("_id"),
        )
        return False

    def _has_ours(self, name: str, shape: Shape) -> bool:
        """Whether anything in a collection is ours, although what was looked at is not."""
        where = _selective_filter(shape)
        if not where:
            return False
        with self.asked(BULK):
            candidates = self.documents[name].find(where).limit(20)
            return any(map(shape, candidates))

    def _is_indexed_by_others(self, name: str) -> bool:
        """Whether a collection without documents has indexes, and none is ours."""
        if not name.startswith(self.prefix):
            return False
        model = _kind_in(name.removeprefix(self.prefix))
        if model is None:
            return False
        with self.asked():
            indexes = set(self.documents[name].index_information()) - {"_id_"}
        our_indexes = {str(index.name) for index in model.__table__.indexes}  # type: ignore[attr-defined]
        return bool(indexes) and indexes.isdisjoint(our_indexes)


def _names_taken(foreign: list[str], bucket_names: set[str]) -> NamesTaken:
    """Return the error that names collections of the host, and the settings that avoid them."""
    settings = []
    if not bucket_names.issuperset(foreign):
        settings.append("DUALMEDIA_COLLECTION_PREFIX")
    if not bucket_names.isdisjoint(foreign):
        settings.append("DUALMEDIA_BUCKET")
    things = [f"the collection {name!r}" for name in foreign]
    return NamesTaken("MongoDB", things, " and ".join(settings))


def _samples(collection: Collection[Document], *, by: str) -> Iterator[Document]:
    """Read a few documents: other types of ids sort before all of ours, or behind them."""
    projection = {by: 1}
    order_field = "$natural"
    if by == "_id":
        projection = {"parts": 0}  # those of an upload may be megabytes
        order_field = "_id"
    for direction in (ASCENDING, DESCENDING):
        yield from collection.find({}, projection).sort([(order_field, direction)]).limit(2)


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
    "_id": {**_ANY_ID},
    "identity": {"$type": "string"},
    "expires_at": {"$type": "date"},
}
"""The question of :func:`is_upload` as a filter of MongoDB's."""


def _is_play(document: Document) -> bool:
    return isinstance(document.get("_id"), bytes) and "batch" in document and "expires" in document


def _is_file(document: Document) -> bool:
    return owner_of_key(document.get("_id")) is not None


def _is_chunk(document: Document) -> bool:
    return owner_of_key(document.get("files_id")) is not None


class _RecordShape(t.NamedTuple):
    """The shape of the records of a kind."""

    kind: type[MediaRecord]

    def __call__(self, document: Document) -> bool:
        return is_record(self.kind, document)


_SHAPES: dict[str, Shape] = {
    LEASES: _is_lease,
    UPLOADS: is_upload,
    PLAYS: _is_play,
    **dict.fromkeys((CHECKS, UPKEEP, FINDINGS, DRAINS), _is_check),
}

_KEY_PATTERN = "^[0-9a-f]{32}-[0-9a-f]{16}$"

_SELECTIVE: dict[Shape, Document] = {
    is_upload: UPLOADS_ONLY,
    _is_play: {"batch": {"$exists": True}},
    _is_lease: {"holder": {"$exists": True}},
    _is_file: {"_id": {"$regex": _KEY_PATTERN}},
    _is_chunk: {"files_id": {"$regex": _KEY_PATTERN}},
}
"""Filters that find documents of a shape, and may find others."""


def _selective_filter(shape: Shape) -> Document | None:
    """Return a filter that finds documents of a shape, if there is a useful one."""
    if isinstance(shape, _RecordShape):
        return records_only(shape.kind)
    return _SELECTIVE.get(shape)


def _shape(name: str) -> Shape | None:
    """Return the shape of our documents in a collection, by its name without the prefix."""
    kind = _kind_in(name.removeprefix(JOURNAL))
    if kind is not None:
        return _RecordShape(kind)
    return _SHAPES.get(name)


def _kind_in(name: str) -> type[MediaRecord] | None:
    """Return the record class whose records are in a collection, by its name without prefixes."""
    for kind in TABLES.values():
        if kind.__tablename__ == name:
            return kind
    return None
