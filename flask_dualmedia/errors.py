"""Everything this package raises on purpose.

An error that a client may hear of is one of werkzeug's HTTP errors too. So Flask, and everything
that handles errors for an app, answers it with its status, in the app's own look. Other errors are
for those who run the app.
"""

from __future__ import annotations

import copyreg
import typing as t

from werkzeug.exceptions import (
    BadRequest,
    Conflict,
    HTTPException,
    Locked,
    NotFound,
    RequestEntityTooLarge,
    ServiceUnavailable,
    TooManyRequests,
    UnprocessableEntity,
    UnsupportedMediaType,
)

Messages = dict[str, list[str]]
"""Messages by field, as on the wire."""


class DualMediaError(Exception):
    """Base of every error this package raises on purpose."""

    def __reduce__(self) -> t.Any:
        """Pickle the error as it is: most classes make their message from other arguments."""
        new = copyreg.__newobj__  # type: ignore[attr-defined]
        arguments = (type(self), *self.args)
        return new, arguments, vars(self)


class AnsweredError(DualMediaError, HTTPException):
    """Base of the errors that have a status.

    The status is ``code``. It comes from werkzeug's class among the bases, which an app's handler
    for a status looks for too.
    """

    response = None

    # Werkzeug's classes make headers of these, and set them in their __init__, which ours skip.
    retry_after: t.Any = None
    valid_methods: t.Any = None
    www_authenticate: t.Any = None
    length: t.Any = None
    units: t.Any = "bytes"

    __str__ = Exception.__str__
    __repr__ = Exception.__repr__

    def __init__(self, *args: object) -> None:
        Exception.__init__(self, *args)
        self.description = _encodable(str(self))  # what clients are told

    @property
    def fields(self) -> Messages:
        """Messages by field; empty for an error that concerns no field."""
        return {}

    @property
    def data(self) -> dict[str, t.Any]:
        """The message once more, where webargs, flask-smorest and Flask-RESTX look for it."""
        data: dict[str, t.Any] = {"message": self.description}
        fields = self.fields
        if fields:
            data["errors"] = fields
            data["messages"] = fields
        return data


class ConfigurationError(DualMediaError):
    """A setting is missing or wrong; the message quotes its key. Raised by ``init_app``."""


class MissingExtra(DualMediaError, ImportError):
    """A feature needs a package that is not installed.

    The message names the extra that brings it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an extra: pip install 'flask-dualmedia[{extra}]'")
        self.extra = extra


def _encodable(text: str) -> str:
    """Text that any answer can have.

    Clients may have sent halves of surrogate pairs, which have no bytes.
    """
    return text.encode(errors="backslashreplace").decode()


class RecordRefused(AnsweredError, UnprocessableEntity):
    """A database answers that it does not keep this record.

    It would say so again; other records are not concerned.

    ``reason`` is the database's own word, for those who run the app.
    """

    def __init__(self, database: str, reason: str) -> None:
        super().__init__(f"{database} refuses the record: {reason}")
        self.description = "The database does not accept these values."
        self.database = database
        self.reason = reason


class InvalidMedia(RecordRefused):
    """A field of a media record does not hold what it should. No database was asked.

    ``errors`` maps field names, as on the wire, to lists of messages.
    """

    def __init__(self, errors: Messages) -> None:
        reasons = []
        for field, messages in errors.items():
            reasons.append(f"{field}: {' '.join(messages)}")
        reason = "; ".join(reasons)
        super().__init__("The schema", reason)
        self.args = (reason,)
        self.description = _encodable(reason)
        self.errors = errors

    @property
    def fields(self) -> Messages:
        return self.errors


class OwnerNotFound(AnsweredError, NotFound):
    """The MongoDB document that the media should belong to does not exist."""

    def __init__(self, reference_type: str, reference_id: str) -> None:
        super().__init__(f"there is no {reference_type} with id {reference_id!r}")
        self.reference_type = reference_type
        self.reference_id = reference_id


class MediaNotFound(AnsweredError, NotFound):
    """No media with this id is visible to the caller."""

    def __init__(self, kind: str, media_id: object) -> None:
        super().__init__(f"there is nothing with id {str(media_id)!r} in {kind}")


class MediaConflict(AnsweredError, Conflict):
    """The change contradicts another record, or another change won the race.

    A second main image contradicts the first one.
    """


class SecondMainImage(MediaConflict):
    """The product has a main image already."""

    def __init__(self) -> None:
        super().__init__("the product has a main image already")

    @property
    def fields(self) -> Messages:
        return {"isMainImage": [str(self)]}


class UploadLocked(MediaConflict, Locked):
    """Another request is at the resumable upload, or has taken it over."""

    code = Locked.code

    def __init__(self) -> None:
        super().__init__("another request is at this upload")


class UploadRejected(AnsweredError):
    """The upload breaks a rule. Nothing of it is kept."""

    def __new__(cls, *args: object, **kwargs: object) -> t.Self:
        error = super().__new__(cls, *args)
        if error.code is None:
            # The class has none: Flask would ask an app's handler for it about no subclass of
            # another status.
            error.code = UnprocessableEntity.code
        return error

    @property
    def fields(self) -> Messages:
        return {"file": [str(self)]}  # the name that the bytes have in a form


class FileTooLarge(UploadRejected, RequestEntityTooLarge):
    """More bytes came than ``max_size`` allows."""

    def __init__(self, max_size: int) -> None:
        super().__init__(f"the file is larger than {max_size} bytes")
        self.max_size = max_size


class EmptyFile(UploadRejected, UnprocessableEntity):
    """The upload has no bytes.

    :param was_read: They were read before, by somebody else.
    """

    def __init__(self, *, was_read: bool = False) -> None:
        message = "the file is empty"
        if was_read:
            message = "the stream was read to its end before: seek(0) first"
        super().__init__(message)


class UnsupportedType(UploadRejected, UnsupportedMediaType):
    """The bytes are not of a type that this kind of media accepts."""


class TooManyPixels(UploadRejected, UnprocessableEntity):
    """The image is larger than ``max_pixels`` allows; it was not decoded."""

    def __init__(self, width: int, height: int, max_pixels: int) -> None:
        super().__init__(
            f"the image has {width} x {height} pixels; at most {max_pixels} in all are accepted"
        )
        self.width = width
        self.height = height
        self.max_pixels = max_pixels


class QuotaExceeded(UploadRejected, RequestEntityTooLarge):
    """The bytes do not fit into what the uploader, or the owner, may keep."""

    def __init__(self, whose: str, *, used: int, limit: int, size: int) -> None:
        super().__init__(
            f"{used} of the {limit} bytes that {whose} may have are used: {size} more do not fit"
        )
        self.used = used
        self.limit = limit
        self.size = size


class TooManyUnfinished(UploadRejected, TooManyRequests):
    """The uploader has as many unfinished uploads as one may have at a time."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"{limit} uploads of yours are unfinished, and no more may be: finish or delete some"
        )
        self.limit = limit


class IncompleteUpload(UploadRejected, BadRequest):
    """The stream ended early, or its bytes do not match the digest that was sent with them."""


class TooManyParts(UploadRejected, UnprocessableEntity):
    """A resumable upload came, or is to be joined, in more parts than one upload may have."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"an upload of more than {limit} parts: send more bytes with each request")


class ChecksumMismatch(IncompleteUpload):
    """The bytes of one request of a resumable upload do not match its checksum.

    None of them is kept.
    """

    code = 460
    """A status of tus, which HTTP does not know."""

    def __init__(self) -> None:
        super().__init__("the bytes do not match the checksum sent with them")

    @property
    def name(self) -> str:
        return "Checksum Mismatch"


class StorageError(DualMediaError):
    """A storage failed; the driver's own exception is the ``__cause__``."""


class Unavailable(AnsweredError, ServiceUnavailable):
    """A server does not answer. Try again after ``retry_after`` seconds.

    Nothing was found missing.
    """

    def __init__(self, message: str, *, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def data(self) -> dict[str, t.Any]:
        headers = {"Retry-After": str(self.retry_after)}
        return super().data | {"headers": headers}


class MediaClosed(Unavailable):
    """:meth:`DualMediaRecord.close() <flask_dualmedia.DualMedia.close>` was called.

    This process has no media of this app any more.
    """

    def __init__(self) -> None:
        super().__init__("media is closed on this app: DualMedia.close() was called")


class StorageUnavailable(Unavailable, StorageError):
    """A storage outside of the databases does not answer, or takes no more for now."""

    def __init__(
        self,
        storage: str,
        reason: str = "does not answer",
        *,
        retry_after: int = 5,
    ) -> None:
        super().__init__(f"the storage {storage!r} {reason}", retry_after=retry_after)
        self.storage = storage


class BytesNotFound(StorageError):
    """The storage holds nothing, or not everything, under ``key``."""

    def __init__(self, key: str) -> None:
        super().__init__(f"bytes are missing under {key!r}")
        self.key = key


class DatabaseUnavailable(Unavailable):
    """A database does not answer, or lets nobody in.

    It may have done what was sent to it all the same.

    ``is_hanging`` says that the server itself was asked, and did not answer. ``was_sent`` is false
    where nothing can have been done, since there was no connection.
    """

    def __init__(
        self,
        database: str,
        reason: str = "does not answer",
        *,
        retry_after: int = 5,
        is_hanging: bool = False,
        was_sent: bool = True,
    ) -> None:
        super().__init__(f"{database} {reason}", retry_after=retry_after)
        self.database = database
        self.reason = reason
        self.is_hanging = is_hanging
        self.was_sent = was_sent


class WritesRefused(Unavailable):
    """A database answers, but changes nothing.

    It is read-only, its disk is full, or a right is missing.
    """

    def __init__(self, database: str, reason: str) -> None:
        super().__init__(f"{database} {reason}")
        self.database = database
        self.reason = reason


class DatabaseBusy(Unavailable):
    """A database answers, but had no time for this. Nothing was changed.

    Not a :class:`DatabaseUnavailable`: what another database says instead would be wrong.
    """

    def __init__(self, message: str = "the database is busy") -> None:
        super().__init__(message, retry_after=1)


class NoConnectionFree(DatabaseBusy):
    """Every connection of the pool was in use for as long as one may wait."""

    def __init__(self) -> None:
        super().__init__("every connection to the database is in use")


class StatementCancelled(DatabaseBusy):
    """A statement took too long, and was cancelled."""

    def __init__(self) -> None:
        super().__init__("the database took too long for this, and was told to leave it")


class Contended(DatabaseBusy):
    """Others changed the same thing at the same time, and the database had this one give way."""

    def __init__(self) -> None:
        super().__init__("others are changing the same at the moment")


class JournalFull(Unavailable):
    """The journal, which keeps new media while SQL is down, takes no more.

    :param is_share: It takes no more from this uploader, rather than from anybody.
    """

    def __init__(self, *, is_share: bool) -> None:
        whose = "it is"
        if is_share:
            whose = "your share of it is"
        super().__init__(
            f"new media waits in a journal until PostgreSQL is back, and {whose} full",
            retry_after=60,
        )
        self.is_share = is_share


class QuotaBusy(Unavailable):
    """Other uploads under the same quota did not come to an end in time."""

    def __init__(self) -> None:
        super().__init__("other uploads under the same quota are being finished", retry_after=1)


class NamesTaken(ConfigurationError, DatabaseUnavailable):
    """Something in a database has a name of ours and is not ours.

    Nothing is read, written or deleted there. ``init_app`` raises it; where the database did not
    answer then, the first call that reaches it does.
    """

    def __init__(self, database: str, names: list[str], setting: str) -> None:
        listed = ", ".join(names)
        reason = f"has {listed}, which is not ours: set {setting} to give ours other names"
        super().__init__(database, reason, was_sent=False)
        self.names = names
