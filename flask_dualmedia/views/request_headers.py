"""Headers that change what a request means.

They are obeyed, or the request is refused. None is ignored.

``Range`` with other methods than ``GET``, ``If-Range`` without ``Range``, ``Prefer`` and digests of
algorithms that we do not know may be ignored by their specifications, and are.
"""

from __future__ import annotations

import typing as t
from datetime import datetime

from flask import request
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import (
    BadRequest,
    ExpectationFailed,
    LengthRequired,
    PreconditionFailed,
    UnsupportedMediaType,
)
from werkzeug.exceptions import NotImplemented as UnknownTransferCoding
from werkzeug.http import parse_date

from ..models import MediaRecord

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))

CONDITION_PARAMETERS: list[dict[str, t.Any]] = [
    {"in": "header", "name": name, "schema": {"type": "string"}}
    for name in ("If-Match", "If-None-Match", "If-Unmodified-Since")
]
"""The headers of :func:`check_conditions`, as parameters of an operation."""

REFUSALS = (400, 408, 411, 412, 415, 417, 501)
"""Statuses with which any unsafe request may be refused because of its headers, or of how slowly
its body comes."""

_CONDITIONS = frozenset(("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_UNMODIFIED_SINCE"))

_DATES = frozenset(("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE"))

_NO_CODING = frozenset(("", "identity"))

_NO_TRANSFER_ENCODING = frozenset(("", "identity", "binary", "7bit", "8bit"))
"""Values of ``Content-Transfer-Encoding`` that leave the bytes of a part as they are."""


class UnsupportedCoding(UnsupportedMediaType):
    """The body, or a part of it, is encoded."""

    description = "Send the bytes as they are: encoded ones are not decoded here."

    def get_headers(self, *args: t.Any, **kwargs: t.Any) -> list[tuple[str, str]]:
        # It "allows the client to distinguish" this from an unsupported media type (RFC 9110,
        # section 15.5.16).
        return [*super().get_headers(*args, **kwargs), ("Accept-Encoding", "identity")]


def check_headers() -> None:
    """Refuse a request whose headers ask for something that none of our routes does.

    :raises HTTPException: 400, 411, 415, 417 or 501.
    """
    environ = request.environ
    _ignore_invalid_dates(environ)
    _check_expectation(environ.get("HTTP_EXPECT", ""))
    if environ["REQUEST_METHOD"] in SAFE_METHODS:
        return

    _check_transfer_coding(environ)
    if not _NO_CODING.issuperset(_members(environ.get("HTTP_CONTENT_ENCODING", ""))):
        raise UnsupportedCoding
    if _is_partial(environ):
        raise BadRequest(
            "A part of a file is not taken for the whole: resumable uploads take parts."
        )


def check_part(part: FileStorage) -> None:
    """Refuse a file of a form whose own headers say that it is encoded, or a part of a file.

    :raises HTTPException: 400 or 415.
    """
    codings = _members(part.headers.get("Content-Encoding", ""))
    if not _NO_CODING.issuperset(codings):
        raise UnsupportedCoding
    transfer_encodings = _members(part.headers.get("Content-Transfer-Encoding", ""))
    if not _NO_TRANSFER_ENCODING.issuperset(transfer_encodings):
        raise UnsupportedCoding
    if "Content-Range" in part.headers:
        raise BadRequest(
            "A part of a file is not taken for the whole: resumable uploads take parts."
        )


def check_conditions(record: MediaRecord | None = None) -> None:
    """Keep to ``If-Match``, ``If-Unmodified-Since`` and ``If-None-Match``, in this order (RFC 9110,
    section 13.2.2).

    The entity tag of a record is that of its bytes. A list or a resumable upload has neither a tag
    nor a time: only ``*`` matches it.

    :param record: The media that the request is about, if it is about any.
    :raises PreconditionFailed: One of them does not hold.
    """
    environ = request.environ
    if _CONDITIONS.isdisjoint(environ):
        return

    tag = modified = None
    if record is not None:
        tag, modified = record.checksum, record.updated_at
    holds = _is_any_of(tag) if "HTTP_IF_MATCH" in environ else _is_unmodified(modified)

    # The answer to GET and HEAD is 304, and no error.
    if "HTTP_IF_NONE_MATCH" in environ and environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        holds = holds and _is_none_of(tag)
    if not holds:
        raise PreconditionFailed("This is not, or not any more, what the request is for.")


def _is_any_of(tag: str | None) -> bool:
    """Tell whether ``If-Match`` holds."""
    tags = request.if_match
    if tags.star_tag:
        return True
    return tag is not None and tags.is_strong(tag)


def _is_none_of(tag: str | None) -> bool:
    """Tell whether ``If-None-Match`` holds."""
    tags = request.if_none_match
    if tags.star_tag:
        return False
    return tag is None or not tags.contains_weak(tag)


def _is_unmodified(modified: datetime | None) -> bool:
    """Tell whether ``If-Unmodified-Since`` holds.

    "A recipient MUST ignore" one for "a resource that does not have a modification date" (RFC 9110,
    section 13.1.4).
    """
    since = request.if_unmodified_since
    return since is None or modified is None or modified.replace(microsecond=0) <= since


def _ignore_invalid_dates(environ: WSGIEnvironment) -> None:
    """Take conditions away that have no valid date, before anything reads them.

    Werkzeug fails on dates of huge numbers.

    "A recipient MUST ignore the If-Modified-Since header field if [...] the field value is not a
    valid HTTP-date" (RFC 9110, section 13.1.3), and If-Unmodified-Since as well (section 13.1.4).
    """
    for name in _DATES.intersection(environ):
        try:
            is_date = parse_date(environ[name]) is not None
        except OverflowError:
            is_date = False
        if not is_date:
            del environ[name]


def _check_expectation(expected: str) -> None:
    # "A server that receives an Expect field value containing a member other than 100-continue MAY
    # respond with a 417" (RFC 9110, section 10.1.1).
    if not {"", "100-continue"}.issuperset(_members(expected)):
        raise ExpectationFailed("Of expectations only 100-continue is met.")


def _check_transfer_coding(environ: WSGIEnvironment) -> None:
    codings = _members(environ.get("HTTP_TRANSFER_ENCODING", ""))
    if set(codings) - {"", "identity", "chunked"}:
        # "A server that receives a request message with a transfer coding it does not understand
        # SHOULD respond with 501" (RFC 9112, section 6.1). Servers pass on what is inside of the
        # chunks.
        raise UnknownTransferCoding("Of transfer codings only chunked is known.")
    if codings.count("chunked") > 1:
        raise BadRequest("A body is chunked once.")
    if "chunked" in codings and not environ.get("wsgi.input_terminated"):
        raise LengthRequired(
            "This server passes on no body without a length (chunked): send Content-Length."
        )


def _is_partial(environ: WSGIEnvironment) -> bool:
    """Tell whether the body is a part of a file.

    ``curl -C`` sends ``Content-Range``. Clients of the IETF's resumable uploads say whether the
    upload is complete.
    """
    if environ.get("HTTP_UPLOAD_COMPLETE") == "?0" or environ.get("HTTP_UPLOAD_INCOMPLETE") == "?1":
        return True
    return "HTTP_CONTENT_RANGE" in environ or request.mimetype == "multipart/byteranges"


def _members(header: str) -> list[str]:
    """The members of a list in a header, in lower case."""
    return [member.strip().lower() for member in header.split(",")]
