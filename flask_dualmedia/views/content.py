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
from flask.views import MethodView
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
from ..homes import at_once
from ..models import Media
from ..state import get_state
from ..storages.base import Delegation, Storage
from . import errors
from .added_fields import read_form
from .answers import content_answer, json_answer
from .bodies import open_body
from .callers import anybody_may_read, find_caller, require_caller
from .records import MEDIA_ID, SECURITY, find, parse_id, permitted
from .request_headers import CONDITION_PARAMETERS, REFUSALS, check_conditions

_VALIDATORS = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE")
_CONDITIONS = frozenset((*_VALIDATORS, "HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_RANGE"))

# Slashes, quotes and what has a meaning to some client; a dot stands alone, so that no ".." is a
# folder.
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9 .()+,;@&'!$#^~\[\]{}_-]")
_DOTS = re.compile(r"\.[. ]*\.")

# What a browser fetches in order to run it, or to style a page with it (Sec-Fetch-Dest of Fetch
# Metadata). Scripts and CSS are refused for their type already; XSLT, which can write scripts, is
# taken from content of any type.
_RUNNING = frozenset(
    (
        "audioworklet",
        "paintworklet",
        "script",
        "serviceworker",
        "sharedworker",
        "style",
        "worker",
        "xslt",
    )
)

PUBLIC_SECONDS = 300
"""How long caches may keep public content before they ask again."""

_BYTES = {"schema": {"type": "string", "format": "binary"}}
# Bytes are of any type. Generators of clients know this one for bytes, and no range of types.
_ANSWER = {"content": {"application/octet-stream": _BYTES, "*/*": _BYTES}}
_BODY = {"required": True, "content": {"application/octet-stream": _BYTES}}
_SHA256 = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/]*={0,2}):")


class Flag(fields.Boolean):
    """A boolean of a query, which is true where it has no value: ``?download``."""

    def _deserialize(self, value: t.Any, attr: str | None, data: t.Any, **kwargs: t.Any) -> t.Any:
        return value == "" or super()._deserialize(value, attr, data, **kwargs)


class DownloadQuerySchema(schemas.WireSchema):
    class Meta(schemas.WireSchema.Meta):
        unknown = EXCLUDE  # pages add what they like to the URL of a picture, to get past caches or to count visits

    download = Flag(
        load_default=False,
        metadata={
            "description": "Answer with Content-Disposition attachment in any case. No value means true."
        },
    )
    signature = fields.String(
        load_default=None,
        metadata={"description": "Of a signed link; no token is needed with one."},
    )


# Made once, and loaded once where nothing is asked: each takes longer than what is left of a small
# request's query.
_DOWNLOAD_QUERY = DownloadQuerySchema()
_NOTHING_ASKED = schemas.load(_DOWNLOAD_QUERY, {})


def add_views(blueprint: Blueprint, kind: type[Media]) -> None:
    """Add the routes of one kind."""
    name = kind.kind.replace("-", "_")

    @blueprint.route(
        f"/{kind.kind}/<string:media_id>/content", endpoint=f"{name}_content", parameters=[MEDIA_ID]
    )
    class Content(MethodView):
        @blueprint.doc(
            # Without a token too, where the record is public.
            security=[*SECURITY, {}],
            operationId=f"get_{name}_content",
            parameters=[
                {"in": "query", "schema": DownloadQuerySchema},
                _header("Range"),
                _header("If-Range"),
                _header("If-None-Match"),
            ],
            responses={
                "200": _ANSWER | {"description": "The bytes"},
                "206": _ANSWER | {"description": "The range asked for"},
                "302": {
                    "description": "External media: its URL. Or where the storage gives the bytes, for a while"
                },
                "304": {"description": "Not modified"},
            },
        )
        @errors.documented(blueprint, 401, 403, 404, 412, 416, 422, 503)
        def get(self, media_id: str) -> BaseResponse:
            """Read the content

            One range per request; of several, and of units other than bytes, the whole is the
            answer.
            """
            if request.environ.get("HTTP_SEC_FETCH_DEST") in _RUNNING:
                raise Forbidden("Content is neither a script nor a stylesheet.")
            query = _read_query() if request.query_string else _NOTHING_ASKED
            found = _find_readable(kind, media_id, query["signature"])
            if found.record.storage_key is None:
                return _redirect(found.record)
            response = _respond(found, as_download=query["download"])
            if found.by_link:
                # The link is the permission, on whatever site it is used; and it is no business of
                # the next page.
                response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
                response.headers["Referrer-Policy"] = "no-referrer"
            return response

        @blueprint.doc(
            security=SECURITY,
            operationId=f"replace_{name}_content",
            parameters=[_header("Content-Digest"), *CONDITION_PARAMETERS],
            requestBody=_BODY | {"description": "The bytes, under their own type or this one."},
        )
        @blueprint.response(200, schemas.schema_of(kind))
        @errors.documented(blueprint, *REFUSALS, 401, 403, 404, 409, 413, 422, 503)
        def put(self, media_id: str) -> Response:
            """Replace the content

            The raw body, streamed. The old bytes stay until the new ones are complete.
            """
            state = get_state()
            record = permitted("edit", kind, media_id, require_caller())
            check_conditions(record)
            upload = upload_for(
                state,
                kind,
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
                check_conditions(find(kind, media_id))
                raise
            return json_answer(schemas.dump_media(replaced))


def _redirect(record: Media) -> BaseResponse:
    """Send the reader to external media."""
    location = location_of(record.external_url)
    if location is None:
        raise NotFound("The URL of this media leads nowhere. Its uploader may change it.")
    response = redirect(location, 302)
    response.headers["Cache-Control"] = "no-store"
    return response


def _read_query() -> dict[str, t.Any]:
    return schemas.load(
        _DOWNLOAD_QUERY, read_form(_DOWNLOAD_QUERY, request.args.to_dict(flat=False))
    )


class _Readable(t.NamedTuple):
    """A record that whoever asks may read."""

    record: Media
    content: bytes | None
    """All of its bytes, where they were read with it."""
    by_link: bool = False
    """Whether a link lends the right to read it."""
    by_anybody: bool = False
    """Whether the rule lets everybody read it, without a token."""


def _find_readable(kind: type[Media], media_id: str, signature: str | None) -> _Readable:
    """The record, if whoever asks may read it."""
    record, content = _look_up(kind, media_id)
    if record is not None and anybody_may_read(record):
        return _Readable(record, content, by_anybody=True)
    link = links.read_link(signature) if signature else None
    caller = find_caller() if signature else require_caller()
    if record is not None and link is not None and link.opens(record, caller and caller.identity):
        return _Readable(record, content, by_link=True)
    if caller is None:
        raise Forbidden("The link has expired, was revoked, or is not for this.")
    # Without a token or a link nobody learns whether the id exists.
    if record is None or not caller.may("read", record):
        raise MediaNotFound(kind.kind, media_id)
    return _Readable(record, content)


def _look_up(kind: type[Media], media_id: str) -> tuple[Media | None, bytes | None]:
    """The record, and its bytes if all of them will be wanted and they are few."""
    key, environ = parse_id(media_id), request.environ
    if key is None:
        return None, None
    if environ["REQUEST_METHOD"] != "GET" or not _CONDITIONS.isdisjoint(environ):
        return get_state().repository.get(kind, key), None
    return at_once.find(get_state(), kind, key)


def _header(name: str) -> dict[str, t.Any]:
    return {"in": "header", "name": name, "schema": {"type": "string"}}


def _respond(found: _Readable, *, as_download: bool) -> Response:
    """Answer with the bytes that the request asks for, reading no others from the storage."""
    record, content = found.record, found.content
    size, key = record.file_size, record.storage_key
    assert size is not None
    assert key is not None
    mime_type = served_type(record.mime_type)
    is_inline = not as_download and mime_type in get_state().settings.inline_types
    policy = policy_of(mime_type, is_inline=is_inline)
    response = content_answer(policy, content_type=mime_type, headers=_headers(found))
    check_conditions(record)
    disposition = "inline" if is_inline else "attachment"
    response.headers.set(
        "Content-Disposition", disposition, **_names(record.filename or str(record.id))
    )
    response.set_etag(t.cast(str, record.checksum))
    response.last_modified = record.updated_at
    start, stop = _conditional(response, size, is_date_strong=record.version == 1)
    if request.method == "GET" and response.status_code != 304:
        state = get_state()
        if content is None:
            pieces = state.uses.during(
                state.app, _send(state.storage_of(record), key, start, stop, response)
            )
        else:
            pieces = iter([content])
        response.response = counted(state, record, start, pieces)
    return response


def _send(storage: Storage, key: str, start: int, stop: int, response: Response) -> Iterator[bytes]:
    """The bytes of a range; none where another server sends them."""
    return iter(()) if _delegate(storage, key, response) else storage.send(key, start, stop)


def _delegate(storage: Storage, key: str, response: Response) -> bool:
    """Make of the answer one that has another server send the bytes, or the range: it gets the
    request's ``Range`` too.

    :return: Whether the storage has one.
    """
    delegate = getattr(
        storage, "delegate", None
    )  # of a DelegatingStorage; isinstance() would look at every member
    if delegate is None:
        return False
    shown = response.headers["Content-Type"], response.headers["Content-Disposition"]
    delegation: Delegation | None = delegate(key, *shown)
    if delegation is None:
        return False
    response.status_code = delegation.status
    response.content_length = 0
    # They come with the bytes; a redirect says nothing about any.
    of_the_bytes = ("ETag", "Last-Modified", "Accept-Ranges", "Content-Disposition", "Content-Type")
    for name in ("Content-Range", *(of_the_bytes if delegation.status != 200 else ())):
        response.headers.pop(name, None)
    response.headers.update(delegation.headers)
    return True


def _names(filename: str) -> dict[str, str]:
    """The parameters that name a download: headers are ASCII, and ``filename*`` (RFC 6266) holds
    all the rest."""
    # Browsers decode %41 in ``filename``, and some take =?...?= for an encoded word (RFC 2047).
    if filename.isascii() and "%" not in filename and "=?" not in filename:
        return {"filename": filename}
    return {"filename": _ascii_name(filename), "filename*": f"UTF-8''{quote(filename, safe='')}"}


def _ascii_name(filename: str) -> str:
    """What a client saves a download as that does not read ``filename*``."""
    plain = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    plain = _DOTS.sub(".", _NOT_PLAIN.sub("_", plain)).lstrip(" _").rstrip(" ._")
    # Of a name beyond ASCII only the extension may be left, and a dot in front hides a file.
    return f"file{plain}" if plain.startswith(".") or not plain else plain


def _conditional(response: Response, size: int, *, is_date_strong: bool) -> tuple[int, int]:
    """Decide between 200, 206, 304 and 416, before there is a body.

    :param is_date_strong: Whether no other bytes can have had the same ``Last-Modified``.
    :return: The range of bytes that 200 or 206 is to have.
    """
    # "The Range header field is evaluated after evaluating the precondition header fields" (RFC
    # 9110, section 14.2). Werkzeug does it the other way round, so of the range it does not learn.
    environ = request.environ
    validators = {name: environ[name] for name in _VALIDATORS if name in environ}
    if validators:
        response.make_conditional({"REQUEST_METHOD": environ["REQUEST_METHOD"], **validators})
    wanted = (
        _applicable_range(response, size, is_date_strong=is_date_strong)
        if "HTTP_RANGE" in environ
        else None
    )
    start, stop = 0, size
    if response.status_code == 200 and wanted is not None:
        found = wanted.range_for_length(size)
        if found is None:
            raise RequestedRangeNotSatisfiable(size)
        start, stop = found
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    response.headers["Accept-Ranges"] = "bytes"
    if response.status_code != 304:
        response.content_length = stop - start
    return start, stop


def _applicable_range(response: Response, size: int, *, is_date_strong: bool) -> Range | None:
    """The header ``Range``, unless it is to be ignored."""
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
    return Range("bytes", [(0, None)]) if parsed.ranges[0][0] < -size else parsed


def _headers(found: _Readable) -> Headers:
    """What keeps stored bytes from being taken for another type, and private ones out of shared
    caches."""
    headers = Headers()
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Vary"] = (
        "Sec-Fetch-Dest"  # no cache gives a stylesheet's request what it has for a page's
    )
    # A cache asks no rule: what the rule of the app keeps from strangers is for one reader, public
    # or not.
    if found.record.is_public and found.by_anybody:
        headers["Cache-Control"] = f"public, max-age={PUBLIC_SECONDS}"
        headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    else:
        headers["Cache-Control"] = "private, no-cache"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return headers


def _announced_checksum(digest: str | None) -> str | None:
    """SHA-256 hex of a ``Content-Digest`` (RFC 9530). Other algorithms in it are ignored, as they
    may be."""
    found = _SHA256.search(digest or "")
    if found is None:
        return None
    try:
        checksum = base64.b64decode(found[1], validate=True)
    except binascii.Error:
        checksum = b""
    if len(checksum) != 32:
        raise BadRequest("Content-Digest: sha-256 is not 32 bytes in base64.")
    return checksum.hex()
