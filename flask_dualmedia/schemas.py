"""The wire form of media: the one place that knows both the names in Python and those in JSON."""

from __future__ import annotations

import typing as t
from functools import cache
from operator import itemgetter

import marshmallow as ma
from flask import has_request_context, request, url_for
from flask.globals import request_ctx
from flask_smorest.fields import Upload
from marshmallow import fields, validate
from werkzeug.datastructures import FileStorage

from .content.external_urls import MAX_URL, fault_of
from .content.mime_types import claim_of
from .content.names import label
from .databases.storable import camelcase, is_storable, plain
from .errors import InvalidMedia
from .models import (
    KINDS,
    MEDIA_TYPES,
    PROCESSING_STATUSES,
    RESOURCE_TYPES,
    VIDEO_TYPES,
    CourseResource,
    CourseVideo,
    Media,
    MediaStorage,
    ProductImage,
)
from .state import get_state

MAX_INTEGER = 2**31 - 1
MAX_BIGINT = 2**63 - 1


class Text(fields.String):
    """A string that every database can keep."""

    default_error_messages = {"unstorable": "Contains characters that cannot be stored."}

    def _deserialize(
        self,
        value: t.Any,
        attr: str | None,
        data: t.Any,
        **kwargs: t.Any,
    ) -> str:
        text = super()._deserialize(value, attr, data, **kwargs) or ""
        if not is_storable(text):
            raise self.make_error("unstorable")
        return text


class Filename(fields.String):
    """A filename, made fit to keep as in every other way to upload: none is an error."""

    def _deserialize(
        self,
        value: t.Any,
        attr: str | None,
        data: t.Any,
        **kwargs: t.Any,
    ) -> t.Any:
        filename = super()._deserialize(value, attr, data, **kwargs)
        return label(filename)


class DeclaredType(fields.String):
    """A MIME type, or a range such as ``image/*``.

    Text that is neither is no error, and counts as not declared.
    """

    def _deserialize(
        self,
        value: t.Any,
        attr: str | None,
        data: t.Any,
        **kwargs: t.Any,
    ) -> t.Any:
        if not isinstance(value, str | bytes):
            raise self.make_error("invalid")
        return claim_of(value)


class WholeNumber(fields.Integer):
    """An integer that does not quietly round 1.5 down."""

    def _deserialize(
        self,
        value: t.Any,
        attr: str | None,
        data: t.Any,
        **kwargs: t.Any,
    ) -> t.Any:
        if isinstance(value, float) and not value.is_integer():
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


class FilePart(Upload):
    """An uploaded file, not a text part of that name."""

    default_error_messages = {"text": "Send a file, with a filename."}

    def _deserialize(
        self,
        value: t.Any,
        attr: str | None,
        data: t.Any,
        **kwargs: t.Any,
    ) -> FileStorage:
        if not isinstance(value, FileStorage):
            raise self.make_error("text")
        return value


def _check_url(url: str) -> None:
    fault = fault_of(url)
    if fault is not None:
        raise ma.ValidationError(fault)


def _described(description: str) -> dict[str, str]:
    """Metadata that apispec writes into the description of the API."""
    return {"description": description}


def _text(length: int) -> Text:
    """A field for text of at most so many characters, or null."""
    is_short_enough = validate.Length(max=length)
    return Text(validate=is_short_enough, allow_none=True)


def _reference_id() -> Text:
    """A required field for the id of an owner, with 1 to 255 characters."""
    has_length = validate.Length(min=1, max=255)
    return Text(required=True, validate=has_length)


def _one_of(values: t.Sequence[str], **kwargs: t.Any) -> fields.String:
    return fields.String(validate=validate.OneOf(values), **kwargs)


def _count(maximum: int = MAX_INTEGER, **kwargs: t.Any) -> WholeNumber:
    """A field for a whole number from 0 to the maximum, both included."""
    is_in_range = validate.Range(min=0, max=maximum)
    return WholeNumber(validate=is_in_range, **kwargs)


def _pixels() -> WholeNumber:
    return _count(allow_none=True, metadata=_described("Pixels."))


def _url() -> Text:
    rules = [validate.Length(min=1, max=MAX_URL), _check_url]
    description = "Where the bytes are: an external URL, or the content route of this record."
    return Text(validate=rules, metadata=_described(description))


class WireSchema(ma.Schema):
    """Names are snake_case in Python and camelCase on the wire; unknown names are errors."""

    class Meta:
        # The app looks up its own schemas there by name, and one of them may be called the same.
        register = False

    def on_bind_field(self, field_name: str, field_obj: fields.Field) -> None:
        """Give a field its name on the wire."""
        field_obj.data_key = camelcase(field_obj.data_key or field_name)


class MediaSchema(WireSchema):
    """The fields that all kinds share.

    Fields that only we may set are ``dump_only``: sending one is an error.
    """

    id = fields.UUID(dump_only=True)
    storage_type = Text(
        validate=validate.Length(min=1, max=16),
        metadata=_described(
            "Where the bytes are: `database`, the name of a storage that is set up, or `external`."
        ),
    )
    filename = Filename(allow_none=True)
    mime_type = DeclaredType(
        allow_none=True,
        metadata=_described("MIME type. What is no such type counts as not declared."),
    )
    file_size = _count(
        MAX_BIGINT,
        allow_none=True,
        metadata=_described("Size in bytes."),
    )
    checksum = fields.String(
        dump_only=True,
        allow_none=True,
        metadata=_described("SHA-256 of the bytes, hexadecimal."),
    )
    uploaded_by = fields.String(
        dump_only=True,
        allow_none=True,
        metadata=_described("JWT identity of the uploader."),
    )
    is_public = fields.Boolean(
        load_default=False,
        metadata=_described("Whether anyone may read the content."),
    )
    access_count = fields.Integer(dump_only=True)
    last_accessed_at = fields.AwareDateTime(dump_only=True, allow_none=True)
    created_at = fields.AwareDateTime(dump_only=True)
    updated_at = fields.AwareDateTime(dump_only=True)


class ProductImageSchema(MediaSchema):
    """A picture of a product."""

    mongo_product_id = _reference_id()
    image_url = _url()
    alt_text = _text(2000)
    is_main_image = fields.Boolean(load_default=False)
    position = _count(load_default=0)
    width = _pixels()
    height = _pixels()


class CourseVideoSchema(MediaSchema):
    """A video of a course, of one of its lessons or modules."""

    mongo_course_id = _reference_id()
    mongo_lesson_id = _text(255)
    video_type = _one_of(VIDEO_TYPES, load_default="lesson")
    video_url = _url()
    title = _text(255)
    position = _count(load_default=0)
    duration = fields.Float(
        validate=validate.Range(min=0, max=MAX_INTEGER),
        allow_none=True,
        metadata=_described("Seconds."),
    )
    width = _pixels()
    height = _pixels()
    processing_status = _one_of(PROCESSING_STATUSES, load_default="ready")


class CourseResourceSchema(MediaSchema):
    """A file to download with a course or one of its lessons."""

    mongo_course_id = _reference_id()
    mongo_lesson_id = _text(255)
    resource_name = _text(255)
    resource_url = _url()
    resource_type = _one_of(RESOURCE_TYPES)


class MediaStorageSchema(MediaSchema):
    """Any other file of any document."""

    reference_type = Text(required=True, validate=validate.Length(min=1, max=64))
    reference_id = _reference_id()
    media_type = _one_of(MEDIA_TYPES)
    url = _url()
    title = _text(255)


_SCHEMAS: dict[type[Media], type[MediaSchema]] = {
    ProductImage: ProductImageSchema,
    CourseVideo: CourseVideoSchema,
    CourseResource: CourseResourceSchema,
    MediaStorage: MediaStorageSchema,
}

# Where we keep the bytes, these are measured and not believed.
_MEASURED = ("file_size", "mime_type")


def _declared(kind: type[Media], *names: str) -> tuple[str, ...]:
    """The names that the schema of a kind has among these."""
    declared = schema_of(kind).fields
    return tuple(name for name in names if name in declared)


def _not_sent_with_bytes(kind: type[Media]) -> tuple[str, ...]:
    """Names of the fields that are measured, or that only we may set, and of the URL."""
    names = [*_MEASURED, kind.url_field]
    for name, field in schema_of(kind).fields.items():
        if field.dump_only:
            names.append(name)
    return tuple(names)


@cache
def schema_of(kind: type[Media]) -> MediaSchema:
    """The schema of answers, and of JSON that creates external media."""
    return _SCHEMAS[kind]()


@cache
def upload_schema_of(kind: type[Media]) -> MediaSchema:
    """The schema of the fields that come with bytes."""
    return _SCHEMAS[kind](exclude=_not_sent_with_bytes(kind))


@cache
def multipart_schema_of(kind: type[Media]) -> MediaSchema:
    """The schema of a form: the fields that come with bytes, and the part ``file`` with these."""
    base = _SCHEMAS[kind]
    attributes = {
        "file": FilePart(required=True),
        "__doc__": base.__doc__,
    }
    with_file = type(f"{kind.__name__}UploadSchema", (base,), attributes)
    schema = with_file(exclude=_not_sent_with_bytes(kind))
    for form_field in schema.fields.values():
        form_field.allow_none = False  # a form has no null
    return t.cast(MediaSchema, schema)


@cache
def direct_schema_of(kind: type[Media]) -> MediaSchema:
    """The schema of an upload that goes to a storage directly: its bytes are announced."""
    base = _SCHEMAS[kind]
    is_checksum = validate.Regexp(
        r"^[0-9a-f]{64}\Z",
        error="Not SHA-256 in lower case hexadecimal.",
    )
    attributes: dict[str, t.Any] = {
        "filename": Filename(
            required=True,
            allow_none=True,
            metadata=_described("Empty where the client knows none."),
        ),
        "mime_type": DeclaredType(
            required=True,
            metadata=_described("MIME type, empty where the client knows none."),
        ),
        "file_size": WholeNumber(
            required=True,
            validate=validate.Range(min=1, max=MAX_BIGINT),
            metadata=_described("Size in bytes."),
        ),
        "checksum": Text(
            required=True,
            validate=is_checksum,
            metadata=_described("SHA-256 of the bytes, hexadecimal."),
        ),
        "__doc__": base.__doc__,
    }
    schema = type(f"{kind.__name__}DirectUploadSchema", (base,), attributes)
    return schema(exclude=(kind.url_field,))


@cache
def edit_schema_of(kind: type[Media]) -> MediaSchema:
    """The schema of changes: the owner and the storage stay what they are.

    A field that is left out stays as it is: it gets no default.
    """
    fixed = _declared(
        kind,
        *kind.owner_fields(),
        "storage_type",
        *_MEASURED,
    )
    return _SCHEMAS[kind](exclude=fixed, partial=True)


def check_fields(schema: MediaSchema, values: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Check fields by their Python names, as from a function call, and fill in defaults.

    :raises InvalidMedia: With messages by wire names.
    """
    data = {camelcase(name): plain(value) for name, value in values.items()}
    return load(schema, data)


def load(schema: WireSchema, data: t.Any) -> dict[str, t.Any]:
    """Check data by wire names, as from a request.

    :return: Values by Python names, defaults filled in.
    :raises InvalidMedia: With messages by wire names.
    """
    try:
        return t.cast("dict[str, t.Any]", schema.load(data))
    except ma.ValidationError as error:
        messages = t.cast("dict[str, list[str]]", error.normalized_messages())
        raise InvalidMedia(messages) from error


def load_json(schema: WireSchema, data: t.Any) -> dict[str, t.Any]:
    """Check a JSON body.

    It has numbers and booleans as such; queries and forms have them as text.

    :return: Values by Python names, defaults filled in.
    :raises InvalidMedia: With messages by wire names.
    """
    if isinstance(data, dict):
        messages = _messages_about_json_types(schema, data)
        if messages:
            raise InvalidMedia(messages)
    return load(schema, data)


def _messages_about_json_types(schema: WireSchema, data: dict[str, t.Any]) -> dict[str, list[str]]:
    """Messages, by wire names, about numbers sent as text and about what is no boolean."""
    messages = {}
    for field in schema.load_fields.values():
        name = t.cast(str, field.data_key)
        value = data.get(name)
        if isinstance(field, fields.Number):
            is_wrong = isinstance(value, str)
        else:
            is_wrong = isinstance(field, fields.Boolean) and not isinstance(value, bool | None)
        if is_wrong:
            messages[name] = [field.error_messages["invalid"]]
    return messages


def content_url(record: Media) -> str:
    """URL of the route that serves the bytes of a record: a path, below where the app is mounted.

    Outside of requests that is ``APPLICATION_ROOT``. With ``DUALMEDIA_HOST`` or
    ``DUALMEDIA_SUBDOMAIN`` it is a whole URL wherever the media routes are not on the host of the
    request; outside of requests it takes ``SERVER_NAME``.
    """
    return f"{record_url(record)}/content"


def record_url(record: Media) -> str:
    """URL of the record itself, which those of its bytes and its variants begin with."""
    return f"{_root()}/{record.kind}/{record.id}"


def _root() -> str:
    """URL of the media routes."""
    state = get_state()
    settings = state.settings
    if settings.host is not None or settings.subdomain is not None:
        return url_for(f"{settings.blueprint_name}.health").removesuffix("/health")
    if has_request_context() and request_ctx.app is state.app:
        return request.root_path + settings.url_prefix
    return state.app.config["APPLICATION_ROOT"].rstrip("/") + settings.url_prefix


class _Form(t.NamedTuple):
    """The way in which records of a kind are written. Names are those on the wire."""

    names: tuple[str, ...]
    values: t.Callable[[t.Mapping[str, t.Any]], tuple[t.Any, ...]]
    """Gets the values from the attributes of a record, in the order of the names."""
    times: tuple[str, ...]
    """Names of the times."""
    url: str
    """Name of the URL."""


@cache
def _form_of(kind: type[Media]) -> _Form:
    names: list[str] = []
    times: list[str] = []
    dumped = schema_of(kind).dump_fields
    for name, field in dumped.items():
        names.append(field.data_key or name)
        if isinstance(field, fields.AwareDateTime):
            times.append(camelcase(name))

    return _Form(
        names=tuple(names),
        values=itemgetter(*dumped),
        times=tuple(times),
        url=camelcase(kind.url_field),
    )


def dump_media(record: Media) -> dict[str, t.Any]:
    """A record as JSON-ready data, as our HTTP routes answer it.

    ``imageUrl`` (``videoUrl``, ``resourceUrl``, ``url``) is the external URL, or the path of the
    content route where we keep the bytes. The schema says which fields there are; marshmallow's own
    dump of it takes twenty times as long.

    Times are text in ISO 8601, and the id is text.
    """
    return _dump(record, _root())


def dump_media_list(records: t.Iterable[Media]) -> list[dict[str, t.Any]]:
    """Many records, of whatever kinds, each as :func:`dump_media` has it."""
    root = _root()
    return [_dump(record, root) for record in records]


def _dump(record: Media, root: str) -> dict[str, t.Any]:
    """A record as JSON-ready data. The root is the URL of the media routes."""
    names, values, times, url = _form_of(type(record))
    # To be strict would take a fifth of the time.
    dumped = dict(zip(names, values(record.__dict__)))  # noqa: B905
    media_id = str(dumped["id"])
    dumped["id"] = media_id
    for name in times:
        time = dumped[name]
        if time is not None:
            dumped[name] = time.isoformat()
    if dumped[url] is None:
        dumped[url] = f"{root}/{record.kind}/{media_id}/content"
    return dumped


class ErrorSchema(WireSchema):
    """The one shape of every error."""

    code = fields.Integer(metadata=_described("HTTP status."))
    status = fields.String(metadata=_described("Name of the status."))
    message = fields.String(metadata=_described("What is wrong, for people."))
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        metadata=_described("Messages by field."),
    )


assert _SCHEMAS.keys() == set(KINDS.values())
