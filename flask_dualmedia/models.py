"""The records of media, and the rows that hold their bytes.

:data:`KINDS` are the four kinds, which belong to documents and have URLs. :data:`TABLES` are all
record classes: whatever is done with records and bytes, is done with all of them. Beside the kinds
there are variants, which are derived from them.

The classes are SQLAlchemy models of our own ``Base``. In Mongo-only mode the same classes are used,
filled from documents with the same field names, so a host never sees which database a record came
from.
"""

from __future__ import annotations

import typing as t
import uuid
from datetime import datetime, timedelta
from functools import cache

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedColumn, mapped_column
from uuid_utils import uuid4

from .content.printable import printable
from .databases import clock
from .databases.clock import now
from .libraries.sqlalchemy import LateState, QuietMapper, make_ready

PENDING = "pending"
AVAILABLE = "available"
DELETING = "deleting"
TRASHED = "trashed"

STATES = (PENDING, AVAILABLE, DELETING, TRASHED)
VIDEO_TYPES = ("intro", "lesson", "module")
PROCESSING_STATUSES = ("pending", "processing", "ready", "failed")
RESOURCE_TYPES = ("pdf", "document", "image", "archive", "code")
MEDIA_TYPES = ("image", "video", "document", "audio")

DATABASE = "database"
"""The storage that needs no setting: SQL, or GridFS in Mongo-only mode, and the journal."""
EXTERNAL = "external"
"""Instead of a storage, for media whose bytes are at a URL."""

KEPT = (AVAILABLE, TRASHED)
"""States of records that are whole, and go wherever their database goes."""

# Written into queries as SQL text, not as a parameter: the planner must see it to use the partial
# indexes.
IS_AVAILABLE = "state = 'available'"
IS_UNFINISHED = "state <> 'available'"
IS_PUBLIC = f"is_public AND {IS_AVAILABLE}"
IS_PRIVATE = f"NOT is_public AND {IS_AVAILABLE}"
IS_VISIBLE_MAIN = f"is_main_image AND {IS_AVAILABLE}"


_TICKS = 4096
"""Parts of a millisecond, which order the ids of the same one (RFC 9562, section 6.2, method 3)."""

_RANDOM = (1 << 62) - 1
_VERSION_AND_VARIANT = 7 << 76 | 2 << 62

_last_tick = 0


def new_id() -> uuid.UUID:
    """A UUIDv7 (RFC 9562), so that the primary key serves lists by age.

    The time in it is that of the database clock. Anything else that makes UUIDs takes that of the
    host.
    """
    global _last_tick
    tick = int(clock.seconds() * 1000 * _TICKS)
    ticks_back = _last_tick - tick
    if 0 <= ticks_back < 1000 * _TICKS:
        # The clock was corrected a little. By more than that it was set anew.
        tick = _last_tick + 1
    _last_tick = tick

    milliseconds, rest = divmod(tick, _TICKS)
    random = uuid4().int & _RANDOM
    number = milliseconds << 80 | rest << 64 | random | _VERSION_AND_VARIANT

    # The constructor, which takes any form of an id, takes longer than all of the above.
    new = object.__new__(uuid.UUID)
    object.__setattr__(new, "int", number)
    object.__setattr__(new, "is_safe", uuid.SafeUUID.unknown)
    return new


class Check(t.NamedTuple):
    """The rule of a CHECK constraint in Python.

    It is kept in the constraint's ``info`` for MongoDB, which knows no such constraints.
    """

    field: str
    is_met: t.Callable[[t.Any], bool]
    message: str


def _check(
    field: str,
    condition: str,
    is_met: t.Callable[[t.Any], bool],
    message: str,
) -> sa.CheckConstraint:
    check = Check(field, is_met, message)
    return sa.CheckConstraint(condition, name=field, info={"check": check})


def _one_of(field: str, values: tuple[str, ...]) -> sa.CheckConstraint:
    quoted = ", ".join(f"'{value}'" for value in values)
    listed = ", ".join(values)

    def is_met(value: t.Any) -> bool:
        return value in values

    return _check(field, f"{field} IN ({quoted})", is_met, f"Must be one of: {listed}.")


def _not_negative(*fields: str) -> list[sa.CheckConstraint]:
    def is_met(value: t.Any) -> bool:
        return value >= 0

    return [_check(field, f"{field} >= 0", is_met, "Must not be negative.") for field in fields]


def _partial_index(
    condition: str,
    name: str,
    *columns: str,
    unique: bool = False,
) -> sa.Index:
    """An index of the rows alone that meet a condition."""
    where = sa.text(condition)
    return sa.Index(
        name,
        *columns,
        unique=unique,
        postgresql_where=where,
        sqlite_where=where,
    )


def _unfinished_index(table: str) -> sa.Index:
    """The index that the sweep goes by: few rows are ever in it."""
    return _partial_index(IS_UNFINISHED, f"ix_{table}_unfinished", "updated_at")


def _visible_indexes(table: str, **keys: tuple[str, ...]) -> list[sa.Index]:
    """Indexes for lists that show what their reader may see.

    That is public records, and private ones by their uploader. Nobody's list may take longer for
    records that it does not show. So every index that a list could go by has a twin of public
    records alone.

    The private records of each uploader stand together in other indexes. Those serve the lists of
    one owner, which may have much by strangers. Other lists sort or filter what their reader has
    uploaded.

    :param keys: By the name of the index, the columns that lists are filtered or sorted by.
    """
    indexes = [
        _partial_index(IS_PUBLIC, f"ix_{table}_public", "id"),
        _partial_index(IS_PUBLIC, f"ix_{table}_public_uploader", "uploaded_by", "id"),
        _partial_index(IS_PRIVATE, f"ix_{table}_private", "uploaded_by", "id"),
    ]
    for name, columns in keys.items():
        public = f"ix_{table}_public_{name}"
        indexes.append(_partial_index(IS_PUBLIC, public, *columns, "id"))
        if name in ("owner", "lesson"):
            private = f"ix_{table}_private_{name}"
            indexes.append(_partial_index(IS_PRIVATE, private, "uploaded_by", *columns, "id"))
    return indexes


def _added(column_type: t.Any, **kwargs: t.Any) -> MappedColumn[t.Any]:
    """A column that was added after the revision that made its table.

    Documents that were written before lack the field, and are read with its ``default``, or with
    ``None``. Rows that workers of an earlier version write have the ``server_default``.
    """
    return mapped_column(column_type, info={"added": True}, **kwargs)


class Base(DeclarativeBase):
    """Base of our models alone.

    So they can be read without the host's metadata, and copied into it.
    """

    __mapper_cls__ = QuietMapper

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


M = t.TypeVar("M", bound="MediaRecord")


class MediaRecord(Base):
    """Base of all records of files: the fields that they share, whoever they belong to."""

    __abstract__ = True

    kind: t.ClassVar[str]
    """Name of the record class in reports. For the kinds it is their name in URLs too."""
    reference_type: t.ClassVar[t.Any] = None
    """Type of the owner. ``None`` if records have no owner of their own."""
    owner_field: t.ClassVar[t.Any] = None
    """Field with the ``_id`` of the owner. ``None`` in the same case."""

    _sa_instance_state = LateState()

    id: Mapped[uuid.UUID] = mapped_column(sa.Uuid, primary_key=True)
    state: Mapped[str] = mapped_column(sa.String(16))
    storage_type: Mapped[str] = mapped_column(sa.String(16))
    """Name of the storage that has the bytes: :data:`DATABASE`, one of ``DUALMEDIA_STORAGES``, or
    :data:`EXTERNAL` for none."""
    storage_key: Mapped[str | None] = mapped_column(sa.String(255))
    filename: Mapped[str | None] = mapped_column(sa.String(255))
    mime_type: Mapped[str | None] = mapped_column(sa.String(255))
    file_size: Mapped[int | None] = mapped_column(sa.BigInteger)
    checksum: Mapped[str | None] = mapped_column(sa.String(64))
    created_at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))
    updated_at: Mapped[datetime] = mapped_column(sa.DateTime(timezone=True))
    version: Mapped[int] = _added(sa.Integer, default=1, server_default="1")
    """Number of the change that made the record what it is, from 1. A change names the version that
    it is built on, so that a late one changes nothing. Counting an access is no change."""

    @classmethod
    def new(cls, **fields: t.Any) -> t.Self:
        """A record with an id, ``pending`` until its bytes are safe.

        Other fields have their default where no value is passed, and are empty without one.
        """
        time = now()
        values: dict[str, t.Any] = dict.fromkeys(cls.field_names())
        values |= cls.defaults()
        values |= {
            "id": new_id(),
            "state": PENDING,
            "created_at": time,
            "updated_at": time,
        }
        values |= fields
        return cls.from_values(values)

    @classmethod
    def from_values(cls, values: t.Mapping[str, t.Any] | t.Iterable[tuple[str, t.Any]]) -> t.Self:
        """A record with ``values`` as a database gave them.

        This skips the instrumented constructor, which takes ten times as long for a record of this
        width.
        """
        record = cls.__new__(cls)
        vars(record).update(values)
        return record

    @classmethod
    def from_row(cls, row: t.Iterable[t.Any]) -> t.Self:
        """A record with the values of all columns, in the order of the table."""
        read = row_reader(cls)
        return read(row)

    @classmethod
    @cache
    def field_names(cls) -> tuple[str, ...]:
        return tuple(cls.__table__.columns.keys())

    @classmethod
    @cache
    def nullable_fields(cls) -> tuple[str, ...]:
        return tuple(column.key for column in cls.__table__.columns if column.nullable)

    @classmethod
    @cache
    def defaults(cls) -> dict[str, t.Any]:
        """The value of each field that has one in new records where nobody says another.

        That is the ``default`` of its column, or ``None`` if the field may be empty.
        """
        defaults: dict[str, t.Any] = {}
        for column in cls.__table__.columns:
            if column.default is not None:
                defaults[column.key] = column.default.arg
            elif column.nullable:
                defaults[column.key] = None
        return defaults

    @classmethod
    @cache
    def added_fields(cls) -> dict[str, t.Any]:
        """The defaults of the fields that a document may lack: it may be older than they are."""
        required = required_columns(t.cast(sa.Table, cls.__table__))
        defaults = cls.defaults()
        return {name: defaults[name] for name in cls.field_names() if name not in required}

    def values(self) -> dict[str, t.Any]:
        """Every field by its name."""
        attributes = vars(self)
        return {name: attributes.get(name) for name in self.field_names()}

    @property
    def owner_id(self) -> str | None:
        """``_id`` of the owner, as a string; ``None`` if the record has no owner of its own."""
        return None

    @property
    def external_url(self) -> str | None:
        """The URL of external media, ``None`` where we keep the bytes."""
        return None

    @property
    def is_main(self) -> bool:
        """True for the main image of its owner."""
        return False

    def merged_values(self, present: t.Any) -> dict[str, t.Any]:
        """The fields of a record that is written over an older copy of it.

        :param present: The copy, which may have what this record has not.
        """
        return self.values()

    def counted_since(self, present: t.Any) -> dict[str, t.Any]:
        """The values of fields that count, where an older copy of the record has counted less."""
        return {}

    def revoked_values(self) -> dict[str, t.Any]:
        """The changes that revoke the signed links of the record."""
        return {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"


def required_columns(table: sa.Table) -> frozenset[str]:
    """The columns that a table of ours has had since the revision that made it.

    By these our tables and documents are told from those of a host.
    """
    names = [column.key for column in table.columns if not column.info.get("added")]
    return frozenset(names)


class Media(MediaRecord):
    """Base of the kinds: records that belong to a document, and have URLs.

    What is particular about a kind is said by these attributes, and asked of its class.
    """

    __abstract__ = True

    reference_type: t.ClassVar[t.Any]
    """Type of the owner: fixed per kind, but a column of its own in :class:`MediaStorage`."""
    owner_field: t.ClassVar[str]
    """Field with the ``_id`` of the owner."""
    group_field: t.ClassVar[str | None] = None
    """Field that parts the media of one owner into groups, each with an order of its own."""
    url_field: t.ClassVar[str]
    """Field with the URL of external media."""
    order: t.ClassVar[str] = "id"
    """Field that orders the media of one owner."""
    filters: t.ClassVar[tuple[str, ...]] = ()
    """Fields that lists can be filtered by, beside those of the owner and the uploader."""
    has_main_image: t.ClassVar[bool] = False
    """Whether one of the media of an owner is its main image, by the field ``is_main_image``."""
    accepts: t.ClassVar[tuple[str, ...]] = ("*/*",)
    """MIME types that the bytes may have, where the host says nothing else."""

    uploaded_by: Mapped[str | None] = mapped_column(sa.String(255))
    is_public: Mapped[bool] = mapped_column(sa.Boolean, default=False)
    access_count: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    last_accessed_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    links_revoked_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    """A mark, which each revocation of signed links changes. A link has the mark as it was when the
    link was made."""

    @classmethod
    @cache
    def names_type(cls) -> bool:
        """True if each record names the type of its owner, which other kinds have fixed."""
        return "reference_type" in cls.field_names()

    @classmethod
    def owner_fields(cls) -> tuple[str, ...]:
        """The fields that name the owner."""
        if cls.names_type():
            return "reference_type", cls.owner_field
        return (cls.owner_field,)

    @classmethod
    def type_of_owner(cls, values: t.Mapping[str, t.Any]) -> str | None:
        """The type of the owner of a record with these values; ``None`` if they do not say."""
        if cls.names_type():
            return values.get("reference_type")
        return cls.reference_type

    @classmethod
    def of_owner(cls, reference_type: str, owner_id: str) -> dict[str, str] | None:
        """The fields that media of a document has in common.

        :return: ``None`` if media of this kind belongs to documents of another type.
        """
        if cls.names_type():
            return {"reference_type": reference_type, cls.owner_field: owner_id}
        if cls.reference_type == reference_type:
            return {cls.owner_field: owner_id}
        return None

    @classmethod
    @cache
    def filter_fields(cls) -> tuple[str, ...]:
        """The fields that lists can be filtered by."""
        names = [*cls.owner_fields()]
        if cls.group_field is not None:
            names.append(cls.group_field)
        return (*names, *cls.filters, "uploaded_by")

    @property
    def owner_id(self) -> str:
        """``_id`` of the owner, as a string."""
        return getattr(self, self.owner_field)

    @property
    def owner_values(self) -> dict[str, str]:
        """The fields that name the owner, which all of its media of this kind has in common."""
        return {name: getattr(self, name) for name in self.owner_fields()}

    @property
    def external_url(self) -> str | None:
        """The URL of external media, ``None`` where we keep the bytes."""
        return getattr(self, self.url_field)

    @property
    def is_main(self) -> bool:
        """True for the main image of its owner."""
        return self.has_main_image and vars(self)["is_main_image"]

    def merged_values(self, present: t.Any) -> dict[str, t.Any]:
        values = super().merged_values(present)
        values["access_count"] = max(self.access_count, present.access_count)
        # A link that was revoked where the record is written must not open it again.
        revocations = (self.links_revoked_at, present.links_revoked_at)
        values["links_revoked_at"] = max(filter(None, revocations), default=None)
        return values

    def counted_since(self, present: t.Any) -> dict[str, t.Any]:
        if self.access_count <= present.access_count:
            return {}
        return {"access_count": self.access_count, "last_accessed_at": self.last_accessed_at}

    def revoked_values(self) -> dict[str, t.Any]:
        return {"links_revoked_at": self.next_revocation()}

    def next_revocation(self) -> datetime:
        """A mark for ``links_revoked_at`` that no link of this record has.

        It is in milliseconds, as MongoDB keeps it.
        """
        time = now()
        mark = time.replace(microsecond=time.microsecond // 1000 * 1000)
        if self.links_revoked_at is None:
            return mark
        return max(mark, self.links_revoked_at + timedelta(milliseconds=1))

    def __repr__(self) -> str:
        name = type(self).__name__
        reference_type = printable(self.reference_type)
        owner_id = printable(self.owner_id)
        return f"<{name} {self.id} of {reference_type} {owner_id}>"


@cache
def row_reader(cls: type[M]) -> t.Callable[[t.Iterable[t.Any]], M]:
    """A function that does what :meth:`MediaRecord.from_row` does, for many rows."""
    names = cls.field_names()

    def read(row: t.Iterable[t.Any]) -> M:
        record = cls.__new__(cls)
        vars(record).update(zip(names, row))  # noqa: B905 - to be strict takes a fifth of it
        return record

    return read


class ProductImage(Media):
    """A picture of a product. At most one per product is its main image."""

    __tablename__ = "product_images"
    kind = "product-images"
    reference_type = "product"
    owner_field = "mongo_product_id"
    url_field = "image_url"
    order = "position"
    filters = ("is_main_image",)
    has_main_image = True
    # The types that browsers show. Not SVG, which may hold scripts.
    accepts = (
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "image/avif",
    )

    mongo_product_id: Mapped[str] = mapped_column(sa.String(255))
    image_url: Mapped[str | None] = mapped_column(sa.Text)
    alt_text: Mapped[str | None] = mapped_column(sa.Text)
    is_main_image: Mapped[bool] = mapped_column(sa.Boolean, default=False)
    position: Mapped[int] = mapped_column(sa.Integer, default=0)
    width: Mapped[int | None] = mapped_column(sa.Integer)
    height: Mapped[int | None] = mapped_column(sa.Integer)

    __table_args__ = (
        sa.Index("ix_product_images_owner", "mongo_product_id", "position", "id"),
        sa.Index(
            "uq_product_images_main",
            "mongo_product_id",
            unique=True,
            postgresql_where=sa.text(IS_VISIBLE_MAIN),
            sqlite_where=sa.text(IS_VISIBLE_MAIN),
        ),
        sa.Index("ix_product_images_uploader", "uploaded_by", "id"),
        sa.Index("ix_product_images_accessed", "access_count", "id"),
        _unfinished_index("product_images"),
        *_visible_indexes(
            "product_images",
            owner=("mongo_product_id", "position"),
            accessed=("access_count",),
        ),
        _one_of("state", STATES),
        *_not_negative(
            "file_size",
            "access_count",
            "position",
            "width",
            "height",
        ),
    )


class CourseVideo(Media):
    """A video of a course, of one of its lessons or modules."""

    __tablename__ = "course_videos"
    kind = "course-videos"
    reference_type = "course"
    owner_field = "mongo_course_id"
    group_field = "mongo_lesson_id"
    url_field = "video_url"
    order = "position"
    filters = ("video_type",)
    accepts = ("video/*", "application/mxf")

    mongo_course_id: Mapped[str] = mapped_column(sa.String(255))
    mongo_lesson_id: Mapped[str | None] = mapped_column(sa.String(255))
    video_type: Mapped[str] = mapped_column(sa.String(16), default="lesson")
    video_url: Mapped[str | None] = mapped_column(sa.Text)
    title: Mapped[str | None] = mapped_column(sa.String(255))
    position: Mapped[int] = mapped_column(sa.Integer, default=0)
    duration: Mapped[float | None] = mapped_column(sa.Double)
    width: Mapped[int | None] = mapped_column(sa.Integer)
    height: Mapped[int | None] = mapped_column(sa.Integer)
    processing_status: Mapped[str] = mapped_column(sa.String(16), default="ready")

    __table_args__ = (
        sa.Index("ix_course_videos_owner", "mongo_course_id", "position", "id"),
        sa.Index("ix_course_videos_lesson", "mongo_lesson_id", "position", "id"),
        sa.Index("ix_course_videos_uploader", "uploaded_by", "id"),
        _unfinished_index("course_videos"),
        *_visible_indexes(
            "course_videos",
            owner=("mongo_course_id", "position"),
            lesson=("mongo_lesson_id", "position"),
        ),
        _one_of("state", STATES),
        _one_of("video_type", VIDEO_TYPES),
        _one_of("processing_status", PROCESSING_STATUSES),
        *_not_negative(
            "file_size",
            "access_count",
            "position",
            "duration",
            "width",
            "height",
        ),
    )


class CourseResource(Media):
    """A file to download with a course or one of its lessons."""

    __tablename__ = "course_resources"
    kind = "course-resources"
    reference_type = "course"
    owner_field = "mongo_course_id"
    group_field = "mongo_lesson_id"
    url_field = "resource_url"
    filters = ("resource_type",)

    mongo_course_id: Mapped[str] = mapped_column(sa.String(255))
    mongo_lesson_id: Mapped[str | None] = mapped_column(sa.String(255))
    resource_name: Mapped[str | None] = mapped_column(sa.String(255))
    resource_url: Mapped[str | None] = mapped_column(sa.Text)
    resource_type: Mapped[str] = mapped_column(sa.String(16))

    __table_args__ = (
        sa.Index("ix_course_resources_owner", "mongo_course_id", "id"),
        sa.Index("ix_course_resources_lesson", "mongo_lesson_id", "id"),
        sa.Index("ix_course_resources_uploader", "uploaded_by", "id"),
        _unfinished_index("course_resources"),
        *_visible_indexes(
            "course_resources",
            owner=("mongo_course_id",),
            lesson=("mongo_lesson_id",),
        ),
        _one_of("state", STATES),
        _one_of("resource_type", RESOURCE_TYPES),
        *_not_negative("file_size", "access_count"),
    )


class MediaStorage(Media):
    """Any other file of any document: avatars, invoices, page banners."""

    __tablename__ = "media_storage"
    kind = "files"
    owner_field = "reference_id"
    url_field = "url"
    filters = ("media_type",)

    reference_type: Mapped[str] = mapped_column(sa.String(64))  # type: ignore[assignment]
    reference_id: Mapped[str] = mapped_column(sa.String(255))
    media_type: Mapped[str] = mapped_column(sa.String(16))
    url: Mapped[str | None] = mapped_column(sa.Text)
    title: Mapped[str | None] = mapped_column(sa.String(255))

    __table_args__ = (
        sa.Index("ix_media_storage_owner", "reference_type", "reference_id", "id"),
        sa.Index("ix_media_storage_type", "media_type", "id"),
        sa.Index("ix_media_storage_uploader", "uploaded_by", "id"),
        sa.Index("ix_media_storage_accessed", "access_count", "id"),
        _unfinished_index("media_storage"),
        *_visible_indexes(
            "media_storage",
            owner=("reference_type", "reference_id"),
            type=("media_type",),
            accessed=("access_count",),
        ),
        _one_of("state", STATES),
        _one_of("media_type", MEDIA_TYPES),
        *_not_negative("file_size", "access_count"),
    )


class MediaVariant(MediaRecord):
    """Bytes that were derived from media of one of the kinds, its original.

    It names the bytes that it was made from. Once its original has other bytes, or none, the
    variant is superseded: nobody finds it any more, and it is removed.
    """

    __tablename__ = "media_variants"
    kind = "variants"

    media_kind: Mapped[str] = mapped_column(sa.String(32))
    """Name of the kind of its original."""
    media_id: Mapped[uuid.UUID] = mapped_column(sa.Uuid)
    source_key: Mapped[str] = mapped_column(sa.String(255))
    """Storage key of the bytes that it was made from."""
    name: Mapped[str] = mapped_column(sa.String(64))
    """Name of its preset or rendition."""
    recipe: Mapped[str] = mapped_column(sa.String(16))
    """Digest of all that decides how it was made."""
    width: Mapped[int | None] = mapped_column(sa.Integer)
    height: Mapped[int | None] = mapped_column(sa.Integer)
    duration: Mapped[float | None] = mapped_column(sa.Double)
    detail: Mapped[str | None] = mapped_column(sa.Text)
    """Further facts about its bytes, as JSON."""

    __table_args__ = (
        # Unfinished ones are not in it: a killed process leaves nothing that stands in the way.
        _partial_index(
            IS_AVAILABLE,
            "uq_media_variants_recipe",
            "media_id",
            "source_key",
            "name",
            "recipe",
            unique=True,
        ),
        sa.Index("ix_media_variants_original", "media_id"),
        _unfinished_index("media_variants"),
        _one_of("state", STATES),
        *_not_negative(
            "file_size",
            "width",
            "height",
            "duration",
        ),
    )

    @classmethod
    def of(cls, original: Media, name: str, recipe: str, **fields: t.Any) -> t.Self:
        """A new variant of the bytes that an original has now."""
        values = {
            "media_kind": original.kind,
            "media_id": original.id,
            "source_key": original.storage_key,
            "name": name,
            "recipe": recipe,
        }
        return cls.new(**values | fields)

    def is_of(self, original: MediaRecord | None) -> bool:
        """Whether it was made from the bytes that a record has now."""
        if original is None or original.storage_key is None:
            return False
        return original.id == self.media_id and original.storage_key == self.source_key

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {printable(self.name)} of {self.media_id}>"


class MediaChunk(Base):
    """Up to 256 KiB of the bytes of one file, in the storage called ``database``."""

    __tablename__ = "media_chunks"

    storage_key: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    seq: Mapped[int] = mapped_column(sa.Integer, primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(sa.LargeBinary)


KINDS: dict[str, type[Media]] = {
    ProductImage.kind: ProductImage,
    CourseVideo.kind: CourseVideo,
    CourseResource.kind: CourseResource,
    MediaStorage.kind: MediaStorage,
}
"""The four kinds by their name in URLs."""

TABLES: dict[str, type[MediaRecord]] = {**KINDS, MediaVariant.kind: MediaVariant}
"""All record classes by their name in reports: the kinds, and what is derived from their media."""

JOURNALED: dict[str, type[MediaRecord]] = {**KINDS}
"""The record classes that are accepted while SQL is down: what is derived can be made later."""


# Records are made past the mappers, and the host may not have defined its models yet.
make_ready(Base.registry)
