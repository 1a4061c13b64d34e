"""Routes of the bytes: read them, whole or in part, and replace them."""

from __future__ import annotations

import base64
import binascii
import re
import typing as t
import unicodedata
from collections.abc import Iterator
from urllib.parse import quote

from flask import Response, redirect, request
from flask_smorest import Blueprint
from marshmallow import EXCLUDE, fields
from werkzeug.datastructures import Headers, Range
from werkzeug.exceptions import BadRequest, Forbidden, NotFound, RequestedRangeNotSatisfiable
from werkzeug.http import parse_range_header
from werkzeug.wrappers.response import Response as BaseResponse

from .. import lifecycle, links, schemas
from ..accesses.counting import counted
from ..content.external_urls import location_of
from ..content.inline_types import policy_of
from ..content.mime_types import served_type
from ..content.uploads import upload_for
from ..errors import MediaConflict, MediaNotFound
from ..models import Media, MediaRecord
from ..state import get_state
from ..storages.base import Delegation
from ..storages.stored import Stored
from . import errors
from .added_fields import Values, read_form
from .answers import content_answer, json_answer
from .bodies import open_body
from .callers import Caller, anybody_may_read, find_caller, require_caller
from .mounting import Description, KindView, add_view, name_of
from .records import MEDIA_ID, SECURITY, find, parse_id, permitted
from .request_headers import CONDITION_PARAMETERS, REFUSALS, check_conditions

_VALIDATORS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE")
_CONDITIONS = frozenset((*_VALIDATORS, "HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_RANGE"))

# Slashes, quotes and characters with a meaning to some client; a dot stands alone, so that no ".."
# is a folder.
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 .()+,;@&'!$#^~\[\]{}_-]")
_DOTS = re.compile(r"\.[. ]*\.")

# Destinations (Sec-Fetch-Dest of Fetch Metadata) of what a browser runs, or styles a page with.
# Scripts and CSS are refused for their type already; XSLT, which can write scripts, is taken from
# content of any type.
_RUNNING = frozenset((
    "audioworklet", "paintworklet", "script", "serviceworker", "sharedworker", "style", "worker",
    "xslt",
))  # fmt: skip

PUBLIC_SECONDS = 300
"""How long caches may keep public content before they ask again."""

_BYTES = {"schema": {"type": "string", "format": "binary"}}
# Bytes are of any type. Generators of clients know this one for bytes, and no range of types.
_ANSWER = {"content": {"application/octet-stream": _BYTES, "*/*": _BYTES}}
_BODY = {"required": True, "content": {"application/octet-stream": _BYTES}}


def _header(name: str) -> Description:
    return {"in": "header", "name": name, "schema": {"type": "string"}}


READ_HEADERS = [_header("Range"), _header("If-Range"), _header("If-None-Match")]
READ_ANSWERS = {
    "200": _ANSWER | {"description": "The bytes"},
    "206": _ANSWER | {"description": "The range asked for"},
    "302": {
        "description": "External media: its URL. Or where the storage gives the bytes, for a while"
    },
    "304": {"description": "Not modified"},
}

# Headers that come with the bytes.
_ABOUT_BYTES = ("ETag", "Last-Modified", "Accept-Ranges", "Content-Disposition", "Content-Type")

_SHA256 = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]*={0,2}):")


class Flag(fields.Boolean):
    """A boolean of a query, which is true where it has no value: ``?download``."""

    def _deserialize(self, value: t.Any, attr: str | None, data: t.Any, **kwargs: t.Any) -> t.Any:
        return value == "" or super()._deserialize(value, attr, data, **kwargs)


class DownloadQuerySchema(schemas.WireSchema):
    """The query of a request for content."""

    class Meta(schemas.WireSchema.Meta):
        # Pages add what they like to the URL of a picture, to get past caches or to count visits.
        unknown = EXCLUDE

    download = Flag(
        load_default=False,
        metadata={
            "description": "Answer with Content-Disposition attachment in any case. "
            "No value means true."
        },
    )
    signature = fields.String(
        load_default=None,
        metadata={"description": "Of a signed link; no token is needed with one."},
    )


# The schema is made once, and loaded once where nothing is asked: each takes longer than the rest
# of a small request.
_DOWNLOAD_QUERY = DownloadQuerySchema()
_NOTHING_ASKED = schemas.load(_DOWNLOAD_QUERY, {})


class Content(KindView):
    """The bytes of a record."""

    def get(self, media_id: str) -> BaseResponse:
        """Read the content

        One range per request; of several, and of units other than bytes, the whole is the
        answer.
        """
        refuse_to_run()
        query = _NOTHING_ASKED
        if request.query_string:
            query = _read_query()
        found, content = _look_up(self.kind, media_id)
        record, reader = permitted_to_read(found, self.kind, media_id, query["signature"])
        if record.storage_key is None:
            return _redirect(record)

        name = record.filename or str(record.id)
        sent = Sent(record, content, name, headers_for(record, reader))
        return respond(sent, as_download=query["download"], counted_as=record)

    def put(self, media_id: str) -> Response:
        """Replace the content

        The raw body, streamed. The old bytes stay until the new ones are complete.
        """
        state = get_state()
        record = permitted("edit", self.kind, media_id, require_caller())
        check_conditions(record)
        upload = upload_for(
            state.settings,
            self.kind,
            open_body(),
            filename=record.filename,
            mime_type=request.content_type,
            size=request.content_length,
            checksum=_announced_checksum(request.headers.get("Content-Digest")),
            replaces=True,
        )

        try:
            replaced = lifecycle.replace(state, record, upload)
        except MediaConflict:
            # Whoever was quicker has changed what the conditions are about.
            check_conditions(find(self.kind, media_id))
            raise

        return json_answer(schemas.dump_media(replaced))


def add_views(blueprint: Blueprint, kind: type[Media]) -> None:
    """Add the routes of one kind."""
    name = name_of(kind)
    add_view(
        blueprint,
        Content,
        f"/{kind.kind}/<string:media_id>/content",
        f"{name}_content",
        kind=kind,
        parameters=[MEDIA_ID],
        get=[
            blueprint.doc(
                # Without a token too, where the record is public.
                security=[*SECURITY, {}],
                operationId=f"get_{name}_content",
                parameters=[{"in": "query", "schema": DownloadQuerySchema}, *READ_HEADERS],
                responses=READ_ANSWERS,
            ),
            errors.documented(blueprint, 401, 403, 404, 412, 416, 422, 503),
        ],
        put=[
            blueprint.doc(
                security=SECURITY,
                operationId=f"replace_{name}_content",
                parameters=[_header("Content-Digest"), *CONDITION_PARAMETERS],
                requestBody=_BODY | {"description": "The bytes, under their own type or this one."},
            ),
            blueprint.response(200, schemas.schema_of(kind)),
            errors.documented(blueprint, *REFUSALS, 401, 403, 404, 409, 413, 422, 503),
        ],
    )


def _redirect(record: Media) -> BaseResponse:
    """Send the reader to external media.

    :raises NotFound: Its URL is none that a client could follow.
    """
    location = location_of(record.external_url)
    if location is None:
        raise NotFound("The URL of this media leads nowhere. Its uploader may change it.")
    response = redirect(location, 302)
    response.headers["Cache-Control"] = "no-store"
    return response


def _read_query() -> Values:
    """The query of the request, checked. Parameters that are not ours are ignored."""
    parameters = request.args.to_dict(flat=False)
    return schemas.load(_DOWNLOAD_QUERY, read_form(_DOWNLOAD_QUERY, parameters))


class Reader(t.NamedTuple):
    """The right by which somebody reads a record."""

    by_link: bool = False
    """A link lends it."""
    by_anybody: bool = False
    """The rule lets everybody read it, without a token."""


def refuse_to_run() -> None:
    """Refuse a request for something that a browser would run.

    :raises Forbidden: It is one.
    """
    if request.environ.get("HTTP_SEC_FETCH_DEST") in _RUNNING:
        raise Forbidden("Content is neither a script nor a stylesheet.")


def permitted_to_read(
    record: Media | None,
    kind: type[Media],
    media_id: str,
    signature: str | None,
) -> tuple[Media, Reader]:
    """The record, if whoever asks may read its bytes and what is derived from them.

    :param record: ``None`` if there is none with this id.
    :param signature: That of a link.
    :raises Forbidden: They bring a link that does not open it, and no token.
    :raises MediaNotFound: The caller may not read it, or there is none.
    """
    if record is not None and anybody_may_read(record):
        return record, Reader(by_anybody=True)

    if signature:
        link = links.read_link(signature)
        caller = find_caller()
        if record is not None and _is_opened(record, link, caller):
            return record, Reader(by_link=True)
        if caller is None:
            raise Forbidden("The link has expired, was revoked, or is not for this.")
    else:
        caller = require_caller()

    # Without a token or a link nobody learns whether the id exists.
    if record is None or not caller.may("read", record):
        raise MediaNotFound(kind.kind, media_id)
    return record, Reader()


def _is_opened(record: Media, link: links.Link | None, caller: Caller | None) -> bool:
    """Tell whether a link opens a record to a caller, or to somebody without a token."""
    if link is None:
        return False
    return link.opens(record, caller and caller.identity)


def _look_up(kind: type[Media], media_id: str) -> tuple[Media | None, bytes | None]:
    """The record, and its bytes if all of them will be wanted and they are few."""
    key = parse_id(media_id)
    if key is None:
        return None, None
    environ = request.environ
    if environ["REQUEST_METHOD"] != "GET" or not _CONDITIONS.isdisjoint(environ):
        return get_state().repository.get(kind, key), None
    return get_state().home.read(kind, key)


class Sent(t.NamedTuple):
    """The bytes of an answer."""

    record: MediaRecord
    """The record that they are of."""
    content: bytes | None
    """All of them, where they are here already."""
    name: str
    """The name of a download."""
    headers: Headers
    """From :func:`headers_for`."""


def respond(sent: Sent, *, as_download: bool, counted_as: Media | None = None) -> Response:
    """Answer with the bytes that the request asks for, reading no others from the storage.

    :param as_download: Answer with Content-Disposition attachment in any case.
    :param counted_as: The record that is read by reading them; ``None`` if that counts for nothing.
    :raises RequestedRangeNotSatisfiable: The range begins behind the last byte.
    :raises BytesNotFound: The storage does not have them. Nothing was sent by then.
    """
    state = get_state()
    record, content = sent.record, sent.content
    size = record.file_size
    assert size is not None
    mime_type = served_type(record.mime_type)
    is_inline = not as_download and mime_type in state.settings.inline_types
    disposition = "attachment"
    if is_inline:
        disposition = "inline"

    policy = policy_of(mime_type, is_inline=is_inline)
    response = content_answer(policy, content_type=mime_type, headers=sent.headers)
    check_conditions(record)
    response.headers.set("Content-Disposition", disposition, **_names(sent.name))
    response.set_etag(t.cast(str, record.checksum))
    response.last_modified = record.updated_at
    start, stop = _conditional(response, size, is_date_strong=record.version == 1)
    if request.method != "GET" or response.status_code == 304:
        return response

    if content is None:
        original = state.original(record)
        assert original is not None
        pieces = state.uses.during(state.app, _send(original, start, stop, response))
    else:
        pieces = iter([content[start:stop]])
    if counted_as is not None:
        pieces = counted(state, counted_as, start, pieces)
    response.response = pieces
    return response


def _send(original: Stored, start: int, stop: int, response: Response) -> Iterator[bytes]:
    """The bytes of a range; none where another server sends them."""
    if _delegate(original, response):
        return iter(())
    return original.send(start, stop)


def _delegate(original: Stored, response: Response) -> bool:
    """Make of the answer one that has another server send the bytes, or the range: it gets the
    request's ``Range`` too.

    :return: Whether the storage has one.
    """
    # The member of a DelegatingStorage; isinstance() would look at every member.
    delegate = getattr(original.storage, "delegate", None)
    if delegate is None:
        return False
    headers = response.headers
    delegation: Delegation | None = delegate(
        original.key, headers["Content-Type"], headers["Content-Disposition"]
    )
    if delegation is None:
        return False

    response.status_code = delegation.status
    response.content_length = 0
    headers.pop("Content-Range", None)
    if delegation.status != 200:
        # A redirect says nothing about any bytes: what describes them comes with them.
        for name in _ABOUT_BYTES:
            headers.pop(name, None)
    headers.update(delegation.headers)
    return True


def _names(filename: str) -> dict[str, str]:
    """The parameters that name a download: headers are ASCII, and ``filename*`` (RFC 6266) holds
    all the rest."""
    # Browsers decode %41 in ``filename``, and some take =?...?= for an encoded word (RFC 2047).
    if filename.isascii() and "%" not in filename and "=?" not in filename:
        return {"filename": filename}
    return {"filename": _ascii_name(filename), "filename*": f"UTF-8''{quote(filename, safe='')}"}


def _ascii_name(filename: str) -> str:
    """The name under which clients that do not read ``filename*`` save a download.

    Accents are dropped. Characters that a client might act on become ``_``.
    """
    decomposed = unicodedata.normalize("NFKD", filename)
    plain = decomposed.encode("ascii", "ignore").decode()
    plain = _NOT_PLAIN.sub("_", plain)
    plain = _DOTS.sub(".", plain)
    plain = plain.lstrip(" _").rstrip(" ._")
    # Of a name beyond ASCII only the extension may be left, and a dot in front hides a file.
    if plain.startswith(".") or not plain:
        return f"file{plain}"
    return plain


def _conditional(response: Response, size: int, *, is_date_strong: bool) -> tuple[int, int]:
    """Decide between 200, 206, 304 and 416, before there is a body.

    :param is_date_strong: Whether no other bytes can have had the same ``Last-Modified``.
    :return: The range of bytes that 200 or 206 is to have.
    :raises RequestedRangeNotSatisfiable: The range begins behind the last byte.
    """
    # "The Range header field is evaluated after evaluating the precondition header fields" (RFC
    # 9110, section 14.2). Werkzeug does it the other way round, so it does not learn of the range.
    environ = request.environ
    validators = {name: environ[name] for name in _VALIDATORS if name in environ}
    if validators:
        response.make_conditional({"REQUEST_METHOD": environ["REQUEST_METHOD"], **validators})

    asked_range = None
    if "HTTP_RANGE" in environ:
        asked_range = _applicable_range(response, size, is_date_strong=is_date_strong)
    start, stop = 0, size
    if response.status_code == 200 and asked_range is not None:
        satisfiable = asked_range.range_for_length(size)
        if satisfiable is None:
            raise RequestedRangeNotSatisfiable(size)
        start, stop = satisfiable
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"

    response.headers["Accept-Ranges"] = "bytes"
    if response.status_code != 304:
        response.content_length = stop - start
    return start, stop


def _applicable_range(response: Response, size: int, *, is_date_strong: bool) -> Range | None:
    """The header ``Range``, unless it is to be ignored.

    :return: One range in bytes; ``None`` to answer with all of them.
    """
    # "A server MUST ignore a Range header field received with a request method that is unrecognized
    # or for which range handling is not defined. For this specification, GET is the only method"
    # (RFC 9110, section 14.2)
    if request.method != "GET":
        return None

    # The validator must match exactly, an entity tag by the strong comparison (RFC 9110, section
    # 13.1.5); Werkzeug takes weak ones and later dates too. A date is strong only where "the
    # associated representation did not change twice during the second covered by the presented
    # validator" (section 8.8.2.2).
    if_range = request.headers.get("If-Range")
    validators = [response.headers["ETag"]]
    if is_date_strong:
        validators.append(response.headers["Last-Modified"])
    if if_range is not None and if_range not in validators:
        return None

    parsed = parse_range_header(request.headers["Range"])
    # "An origin server MUST ignore a Range header field that contains a range unit it does not
    # understand." An invalid one it may ignore, and many ranges in one request it may ignore too:
    # they are asked for by attackers.
    if parsed is None or parsed.units != "bytes" or len(parsed.ranges) != 1:
        return None
    # "If the selected representation is shorter than the specified suffix-length, the entire
    # representation is used" (RFC 9110, section 14.1.2), where Werkzeug finds nothing.
    if parsed.ranges[0][0] < -size:
        return Range("bytes", [(0, None)])
    return parsed


def headers_for(
    record: Media,
    reader: Reader,
    *,
    public_cache: str = f"public, max-age={PUBLIC_SECONDS}",
) -> Headers:
    """Headers that keep stored bytes from being taken for another type, and private ones out of
    shared caches.

    :param record: The one that decides who may read the bytes.
    :param public_cache: What caches may do with public ones.
    """
    headers = Headers()
    headers["X-Content-Type-Options"] = "nosniff"
    # No cache gives a stylesheet's request what it has for a page's.
    headers["Vary"] = "Sec-Fetch-Dest"
    # A cache asks no rule: what the rule of the app keeps from strangers is for one reader, public
    # or not.
    if record.is_public and reader.by_anybody:
        headers["Cache-Control"] = public_cache
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    else:
        headers["Cache-Control"] = "private, no-cache"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
    if reader.by_link:
        # The link is the permission, on whatever site it is used; and it is no business of the
        # next page.
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        headers["Referrer-Policy"] = "no-referrer"
    return headers


def _announced_checksum(digest: str | None) -> str | None:
    """SHA-256 hex of a ``Content-Digest`` (RFC 9530).

    Other algorithms in it are ignored, as they may be.

    :return: ``None`` if the header names no SHA-256.
    :raises BadRequest: It is no SHA-256.
    """
    match = _SHA256.search(digest or "")
    if match is None:
        return None
    try:
        checksum = base64.b64decode(match[1], validate=True)
    except binascii.Error:
        checksum = b""
    if len(checksum) != 32:
        raise BadRequest("Content-Digest: sha-256 is not 32 bytes in base64.")
    return checksum.hex()
