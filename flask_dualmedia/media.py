"""The media functions, which a host calls in its views, the same in every mode.

They need an app context.
"""

from __future__ import annotations

import typing as t
import uuid
from contextlib import ExitStack, suppress
from dataclasses import replace

from . import lifecycle, schemas
from .accesses.stats import MediaStats, Sort, stats_of
from .authorization import readable, reference_to, usual_id, viewer_of
from .content.sources import Source, list_of, name_of, opened, url_of
from .content.uploads import upload_for
from .databases.storable import logged_refusals, plain
from .errors import MediaNotFound
from .models import KINDS, CourseResource, CourseVideo, Media, MediaStorage, ProductImage
from .owners.pages import VisibleTo
from .owners.places import position_behind, split_place
from .repositories.base import EVERYTHING, K, Listing, Records
from .state import get_state

Reference = t.Any
"""``_id`` of an owner: a string, an ``ObjectId``, an integer, or a UUID in any of the forms that
MongoDB's clients keep them in. With others, such as dates or documents, ``TypeError`` is raised."""

Kind = type[K] | str
"""A record class, or its name in URLs such as ``product-images``."""


class Common(t.TypedDict, total=False):
    """Arguments that every ``save_`` function takes."""

    filename: str | None
    """Name to show and to download under. Default: that of the uploaded file."""
    mime_type: str | None
    """Believed only where the bytes show no type."""
    file_size: int | None
    """In bytes, of external media; measured otherwise."""
    storage_type: str
    """Storage that the bytes go to, any that is set up. Default ``DUALMEDIA_DEFAULT_STORAGE``."""
    uploaded_by: t.Any
    """Identity of the uploader, who may change and delete the media over HTTP."""
    is_public: bool
    """Whether anyone may read the content without a token. Default false."""


def save_product_image(
    product_id: Reference,
    source: Source,
    *,
    alt_text: str | None = None,
    is_main_image: bool | None = None,
    position: int | None = None,
    width: int | None = None,
    height: int | None = None,
    **common: t.Unpack[Common],
) -> ProductImage:
    """Save a picture of a product.

    :param product_id: ``_id`` of the product.
    :param source: A binary stream, read once in blocks and not closed; bytes; a ``pathlib.Path``;
        or, as a ``str``, the http or https URL of external media, never fetched.
    :param is_main_image: Default: if the product has no main image.
    :param position: Place among the pictures of the product, from 0. Default: behind the last one.
        However many are saved at once, each gets a place of its own and one becomes the main image.
        With both arguments the pictures that the product has are not looked at.
    :param width: Pixels, as ``height``.
    :return: The saved record.
    :raises OwnerNotFound: There is no such product.
    :raises MediaConflict: ``is_main_image``, and the product has one already.
    :raises UploadRejected: The bytes are none, too many, or not an image.
    :raises InvalidMedia: An argument is out of range, or a text is no URL.
    :raises TypeError: ``source`` is none of these.
    """
    fields = {
        "alt_text": alt_text,
        "is_main_image": is_main_image,
        "position": position,
        "width": width,
        "height": height,
    }
    return _save(ProductImage, product_id, source, fields, common)


def save_product_images(
    product_id: Reference,
    sources: t.Iterable[Source],
    *,
    is_main_image: bool | None = None,
    position: int | None = None,
    **common: t.Unpack[Common],
) -> list[ProductImage]:
    """Save pictures of a product, all or none.

    :param sources: As for :func:`save_product_image`. Where all are URLs they are saved in one
        transaction.
    :param is_main_image: Whether the first one becomes the main image. Default: if the product has
        none.
    :param position: Place of the first one. Default: behind those that the product has. With both
        arguments, as for a new product, the pictures that it has are not looked at.
    :return: The saved records.
    :raises OwnerNotFound: As :func:`save_product_image`, as are the others. None is kept.
    """
    place: dict[str, t.Any] = {"is_main_image": is_main_image, "position": position}
    sources = list_of(sources)
    possible_urls = [url_of(ProductImage, source) for source in sources]
    urls = [url for url in possible_urls if url is not None]
    if sources and len(urls) == len(sources):
        with logged_refusals():
            return _save_urls(product_id, urls, place, common)

    images: list[ProductImage] = []
    with ExitStack() as undo:
        for source in sources:
            image = save_product_image(product_id, source, **place, **common)
            images.append(image)
            undo.callback(_take_back, image)
            place = {
                "is_main_image": False,
                "position": position_behind(image.position),
            }
        undo.pop_all()
    return images


def _take_back(image: ProductImage) -> None:
    with suppress(MediaNotFound):  # somebody else has deleted it
        delete_media(ProductImage, image.id)


def _save_urls(
    product_id: Reference,
    urls: t.Sequence[str],
    place: dict[str, t.Any],
    common: t.Mapping[str, t.Any],
) -> list[ProductImage]:
    """Save external pictures of a product in one transaction.

    :param place: The place of the first one; ``None`` for what is to be found.
    """
    unplaced, first_place = split_place(place)
    fields_of_each = []
    for number, url in enumerate(urls):
        fields = _checked(ProductImage, product_id, url, first_place | dict(common))
        if "position" in fields:
            fields["position"] = position_behind(fields["position"], number)
        if number > 0:
            fields["is_main_image"] = False
        fields_of_each.append(fields)

    return lifecycle.create_external(
        get_state(),
        ProductImage,
        fields_of_each,
        uploaded_by=_optional_id(common.get("uploaded_by")),
        unplaced=unplaced,
    )


def get_product_images(
    product_id: Reference, *, visible_to: VisibleTo = EVERYTHING
) -> Records[ProductImage]:
    """The images of a product, sorted by position and age.

    :param visible_to: Only those that they may read; see :data:`VisibleTo`.
    """
    return _media_of(ProductImage, product_id, visible_to)


def save_course_video(
    course_id: Reference,
    source: Source,
    *,
    lesson_id: Reference | None = None,
    video_type: t.Literal["intro", "lesson", "module"] = "lesson",
    title: str | None = None,
    position: int | None = None,
    duration: float | None = None,
    width: int | None = None,
    height: int | None = None,
    **common: t.Unpack[Common],
) -> CourseVideo:
    """Save a video of a course.

    :param course_id: ``_id`` of the course.
    :param source: As for :func:`save_product_image`.
    :param lesson_id: Id of the lesson or module that it belongs to.
    :param position: Place in the lesson, or without one in the course, from 0. Default: behind the
        last one.
    :param duration: Seconds.
    :return: The saved record.
    :raises OwnerNotFound: There is no such course.
    :raises UploadRejected: The bytes are none, too many, or not a video.
    :raises InvalidMedia: An argument is out of range.
    """
    fields = {
        "mongo_lesson_id": _optional_reference(lesson_id),
        "video_type": video_type,
        "title": title,
        "position": position,
        "duration": duration,
        "width": width,
        "height": height,
    }
    return _save(CourseVideo, course_id, source, fields, common)


def get_course_videos(
    course_id: Reference,
    *,
    lesson_id: Reference | None = None,
    video_type: str | None = None,
    visible_to: VisibleTo = EVERYTHING,
) -> Records[CourseVideo]:
    """The videos of a course, or of one lesson or type in it, sorted by position and age.

    :param visible_to: Only those that they may read; see :data:`VisibleTo`.
    """
    return _media_of(
        CourseVideo,
        course_id,
        visible_to,
        mongo_lesson_id=lesson_id,
        video_type=video_type,
    )


def save_course_resource(
    course_id: Reference,
    source: Source,
    *,
    lesson_id: Reference | None = None,
    resource_name: str | None = None,
    resource_type: t.Literal["pdf", "document", "image", "archive", "code"] | None = None,
    **common: t.Unpack[Common],
) -> CourseResource:
    """Save a file to download with a course.

    :param course_id: ``_id`` of the course.
    :param source: As for :func:`save_product_image`.
    :param lesson_id: Id of the lesson that it belongs to.
    :param resource_name: Name to show. Default: the filename.
    :param resource_type: Default: the type that the bytes are of.
    :return: The saved record.
    :raises OwnerNotFound: There is no such course.
    :raises UploadRejected: The bytes are none or too many.
    :raises InvalidMedia: An argument is out of range.
    """
    fields = {
        "mongo_lesson_id": _optional_reference(lesson_id),
        "resource_name": resource_name,
    }
    if resource_type is not None:
        fields["resource_type"] = resource_type
    return _save(CourseResource, course_id, source, fields, common)


def get_course_resources(
    course_id: Reference,
    *,
    lesson_id: Reference | None = None,
    visible_to: VisibleTo = EVERYTHING,
) -> Records[CourseResource]:
    """The resources of a course, or of one lesson in it, oldest first.

    :param visible_to: Only those that they may read; see :data:`VisibleTo`.
    """
    return _media_of(CourseResource, course_id, visible_to, mongo_lesson_id=lesson_id)


def save_media_storage(
    reference_type: str,
    reference_id: Reference,
    source: Source,
    *,
    media_type: t.Literal["image", "video", "document", "audio"] | None = None,
    title: str | None = None,
    **common: t.Unpack[Common],
) -> MediaStorage:
    """Save any other file of any document.

    :param reference_type: Type of the document, such as ``user`` or ``page``.
    :param reference_id: Its ``_id``.
    :param source: As for :func:`save_product_image`.
    :param media_type: Default: the type that the bytes are of.
    :return: The saved record.
    :raises OwnerNotFound: The type is one of ``DUALMEDIA_REFERENCES`` and there is no such
        document.
    :raises UploadRejected: The bytes are none or too many.
    :raises InvalidMedia: An argument is out of range.
    """
    fields: dict[str, t.Any] = {
        "reference_type": reference_type,
        "title": title,
    }
    if media_type is not None:
        fields["media_type"] = media_type
    return _save(MediaStorage, reference_id, source, fields, common)


def get_media_by_reference(
    reference_type: str,
    reference_id: Reference,
    *,
    media_type: str | None = None,
    visible_to: VisibleTo = EVERYTHING,
) -> Records[MediaStorage]:
    """The files of a document, all or of one media type, oldest first.

    :param visible_to: Only those that they may read; see :data:`VisibleTo`.
    """
    return _media_of(
        MediaStorage,
        reference_id,
        visible_to,
        reference_type=reference_type,
        media_type=media_type,
    )


def update_media_access_count(kind: Kind[t.Any], media_id: uuid.UUID | str) -> None:
    """Count one access to a record, exactly, however many count at once.

    :raises MediaNotFound: There is no such record.
    """
    lifecycle.count_access(get_state(), kind_of(kind), _parse_id(kind, media_id))


def flush_counts() -> None:
    """Write down at once the reads of content that this process has counted since the last time.

    Every ``DUALMEDIA_COUNT_INTERVAL`` seconds, and at the end of the process, they are written down
    anyway.

    :raises Unavailable: A database is away. Reads that could not be written stay for the next time.
    """
    counter = get_state().counter
    if counter is not None:
        counter.flush()


def get_media_stats(
    reference_type: str,
    reference_id: Reference,
    *,
    sort: Sort = "access_count",
    limit: int | None = 20,
    visible_to: VisibleTo = EVERYTHING,
) -> MediaStats:
    """The most used media of a document, of all kinds, and how much media it has.

    :param reference_type: Type of the document, such as ``course`` or ``user``.
    :param reference_id: Its ``_id``.
    :param sort: ``access_count``: the most accessed first, or ``last_accessed_at``: the last
        accessed.
    :param limit: How many records to list, ``None`` for all. The totals are always those of all.
    :param visible_to: Only those that they may read, and the totals of these; see
        :data:`VisibleTo`.
    """
    state = get_state()
    owner_id = reference_to(reference_id)
    reference_type = plain(reference_type)
    if visible_to is EVERYTHING:
        return stats_of(state, reference_type, owner_id, sort=sort, limit=limit)

    viewer = viewer_of(visible_to)
    return stats_of(
        state,
        reference_type,
        owner_id,
        sort=sort,
        limit=limit,
        visible_to=viewer.sees,
        may_read=lambda record: viewer.may("read", record),
    )


def delete_media(kind: Kind[t.Any], media_id: uuid.UUID | str) -> None:
    """Delete a record and its bytes.

    :raises MediaNotFound: There is no such record.
    """
    lifecycle.delete(get_state(), get_media(kind, media_id))


def delete_media_of(reference_type: str, reference_id: Reference) -> int:
    """Delete all media of one document, as when the document is deleted.

    Delete the document first: a process that is killed in between leaves media without an owner,
    which ``flask dualmedia check --repair`` takes away.

    While SQL is down it deletes what the journal holds, and leaves the rest for the same repair.

    :return: How many records were deleted.
    """
    return lifecycle.delete_of_owner(get_state(), plain(reference_type), reference_to(reference_id))


def revoke_links(kind: Kind[t.Any], media_id: uuid.UUID | str) -> None:
    """Make the signed links of a record worthless that were made until now.

    :raises MediaNotFound: There is no such record.
    """
    lifecycle.revoke_links(get_state(), get_media(kind, media_id))


def get_media(kind: Kind[K], media_id: uuid.UUID | str, *, visible_to: VisibleTo = EVERYTHING) -> K:
    """One record.

    :param visible_to: Only if they may read it; see :data:`VisibleTo`.
    :raises MediaNotFound: There is no such record, or none for them.
    """
    repository = get_state().repository
    record_class = kind_of(kind)
    record = repository.get(record_class, _parse_id(kind, media_id))
    if record is None or not readable([record], visible_to):
        raise MediaNotFound(record_class.kind, media_id)
    return record


def update_media(kind: Kind[K], media_id: uuid.UUID | str, **changes: t.Any) -> K:
    """Change fields of a record, such as ``position`` or ``title``.

    Its owner and its bytes stay what they are.

    :return: The record after the change.
    :raises MediaNotFound: There is no such record.
    :raises MediaConflict: It would be a second main image of its product.
    :raises InvalidMedia: A field is not one to change, or its value is out of range.
    """
    schema = schemas.edit_schema_of(kind_of(kind))
    checked = schemas.check_fields(schema, changes)
    with logged_refusals():
        return lifecycle.edit(get_state(), get_media(kind, media_id), checked)


def open_media(record: Media, start: int = 0, stop: int | None = None) -> t.Iterator[bytes]:
    """The bytes of a record, in pieces. Nothing is held open between two of them.

    :param start: First byte of the range ``[start, stop)``.
    :param stop: End of the range, behind its last byte. Default: the end of the file.
    :raises BytesNotFound: They are not all there.
    :raises ValueError: It is external media, whose bytes are elsewhere, or the range is not within
        the file.
    """
    state = get_state()
    original = state.original(record)
    if original is None or record.file_size is None:
        raise ValueError(f"{record!r} is external media: its bytes are at {record.external_url}")
    if stop is None:
        stop = original.size
    if not 0 <= start <= stop <= original.size:
        raise ValueError(f"[{start}, {stop}) is not within the {original.size} bytes of {record!r}")

    pieces = original.open(start, stop)
    return state.uses.during(state.app, pieces)


def kind_of(kind: Kind[K]) -> type[K]:
    """The record class of a kind given by class or by name."""
    if not isinstance(kind, str):
        return kind
    try:
        return t.cast("type[K]", KINDS[kind])
    except KeyError:
        raise ValueError(f"{kind!r} is no kind of media: {', '.join(KINDS)}") from None


def _save(
    kind: type[K],
    owner_id: Reference,
    source: Source,
    fields: dict[str, t.Any],
    common: t.Mapping[str, t.Any],
) -> K:
    state = get_state()
    uploaded_by = _optional_id(common.get("uploaded_by"))
    unplaced, fields = split_place(fields)
    url = url_of(kind, source)
    if url is not None:
        checked = _checked(kind, owner_id, url, fields | dict(common))
        with logged_refusals():
            return lifecycle.create(
                state,
                kind,
                checked,
                None,
                uploaded_by=uploaded_by,
                unplaced=unplaced,
            )

    values = {kind.owner_field: reference_to(owner_id)} | fields | dict(common)
    values.pop("uploaded_by", None)
    declared_type = plain(values.pop("mime_type", None))
    values.pop("file_size", None)
    checked = schemas.check_fields(schemas.upload_schema_of(kind), values)

    with opened(source) as stream, logged_refusals():
        upload = upload_for(
            state.settings,
            kind,
            stream,
            filename=checked.pop("filename", None) or name_of(stream),
            mime_type=declared_type or getattr(stream, "content_type", None),
        )
        return lifecycle.create(
            state,
            kind,
            checked,
            upload,
            uploaded_by=uploaded_by,
            unplaced=unplaced,
        )


def _checked(
    kind: type[K],
    owner_id: Reference,
    url: str,
    fields: t.Mapping[str, t.Any],
) -> dict[str, t.Any]:
    """The fields of external media, checked by the schema of its kind."""
    values = {
        kind.owner_field: reference_to(owner_id),
        kind.url_field: url,
        **fields,
    }
    values.pop("uploaded_by", None)
    return schemas.check_fields(schemas.schema_of(kind), values)


def _media_of(
    kind: type[K],
    owner_id: Reference,
    visible_to: VisibleTo,
    **where: t.Any,
) -> Records[K]:
    """The media of one owner.

    :param where: Values that other fields must have; ``None`` for any.
    """
    state = get_state()
    others = {name: reference_to(value) for name, value in where.items() if value is not None}
    reference_type = t.cast(str, kind.type_of_owner(others))
    reference_id = usual_id(state, reference_type, reference_to(owner_id))

    listing = Listing(kind, {kind.owner_field: reference_id, **others}, sort=kind.order)
    if visible_to is not EVERYTHING:
        listing = replace(listing, visible_to=viewer_of(visible_to).sees)
    records = state.repository.select(listing)
    return Records.of(readable(records, visible_to), partial=records.partial)


def _optional_id(identity: t.Any) -> str | None:
    if identity is None:
        return None
    return str(plain(identity))


def _optional_reference(value: t.Any) -> str | None:
    if value is None:
        return None
    return reference_to(value)


def _parse_id(kind: Kind[t.Any], media_id: uuid.UUID | str) -> uuid.UUID:
    if isinstance(media_id, uuid.UUID):
        return media_id
    try:
        return uuid.UUID(media_id)
    except ValueError:
        raise MediaNotFound(kind_of(kind).kind, media_id) from None
