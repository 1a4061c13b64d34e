"""The body of a request: a little of an unknown client's, all of a known caller's.

watch    request comes → its body is wrapped; the app's own hooks read of it what they like
guard    view is called → what they have read is put back, and the body is limited
look     token is looked for → at most the beginning of the body is read, and stays to be read
admit    caller is known → the limit ends; each view has its own
finish   answer is ready → whoever reads now, a hook of the app, finds the end of the body
drop     answer is sent → what is left is read and forgotten, up to a bound, so that the client gets
         to the answer
"""

from __future__ import annotations

import io
import json
import time
import typing as t
from collections.abc import Iterator
from contextlib import suppress

from flask import Response, current_app, request
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    HTTPException,
    RequestEntityTooLarge,
    RequestTimeout,
)
from werkzeug.formparser import FormDataParser
from werkzeug.sansio.multipart import Data, Epilogue, Field, MultipartDecoder, NeedData
from werkzeug.wsgi import get_content_length, get_input_stream

from ..libraries.werkzeug import read_data
from ..state import find_state
from .pace import PIECE_SIZE, Pace

if t.TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

JSON_SIZE = 1024 * 1024
"""Largest accepted JSON body, and what a multipart body may hold beside the file, in bytes."""

FORM_SIZE = 500_000
"""Bytes of a multipart body's text parts that are held in memory at most."""

FORM_PARTS = 1000

LOOK_SIZE = 64 * 1024
"""Bytes of a body that are read to find a token or a CSRF field in it, and that may be read
twice."""

NOBODY_SIZE = 2 * 1024 * 1024
"""Bytes of a body that are read at most while its sender is unknown, those that are dropped
included."""

NOBODY_SECONDS = 2.0

KNOWN_SIZE = 64 * 1024 * 1024
"""Bytes that are dropped at most of a known caller's body."""

KNOWN_SECONDS = 5.0


class Body(io.RawIOBase):
    """``wsgi.input``, whose errors are the client's.

    A server may find out while it reads a body that it is no valid message, a chunked one for
    example. PEP 3333 has no error for that: each server has its own.
    """

    def __init__(self, environ: WSGIEnvironment) -> None:
        self._environ = environ
        self._stream = environ["wsgi.input"]
        self._length = get_content_length(environ)
        if self._length is None and "wsgi.input_terminated" not in environ:
            self._length = 0  # nobody would tell where it ends
        self._received = 0
        self._is_at_end = self._length == 0
        self._is_watched = True
        self._is_lost = False
        self._is_admitted = False
        self._is_finished = False
        self._failure: HTTPException | None = None
        self._beginning = b""
        self._unread = memoryview(b"")
        settings = find_state(current_app).settings
        connection = environ.get("gunicorn.socket") or environ.get("werkzeug.socket")
        self._pace = Pace(settings.least_rate, settings.least_rate_seconds, connection)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; of an unknown sender's body no more than its beginning.

        :raises RequestEntityTooLarge: The sender is unknown, and there is more than the beginning.
        :raises RequestTimeout: It comes too slowly.
        :raises RuntimeError: The app has read the body before, and nobody has kept it.
        """
        if size < 0:
            return self.readall()
        if self._is_finished:
            return b""
        self._check_not_lost()
        if self._unread:
            data, self._unread = self._unread[:size], self._unread[size:]
            return bytes(data)
        if self._is_watched:
            return self._receive_watched(size)
        if self._is_admitted or self._is_at_end:
            return self._receive(size)
        data = self._receive(min(size, LOOK_SIZE + 1 - self._received))
        if self._received > LOOK_SIZE:
            raise RequestEntityTooLarge
        return data

    def readinto(self, buffer: t.Any, /) -> int:
        """Read the next bytes into a buffer, without a copy between where nothing was looked at."""
        if not self._is_plain:
            data = self.read(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        position = 0
        for piece in self._pieces(len(buffer)):
            end = position + len(piece)
            buffer[position:end] = piece
            position = end
        return position

    @property
    def _is_plain(self) -> bool:
        """Nothing stands between the reader and the server."""
        return self._is_admitted and not (
            self._is_finished or self._is_lost or self._unread or self._is_watched
        )

    def guard(self, whole_body: bytes | None) -> None:
        """Limit the body from now on, and put back what the app has read of it.

        :param whole_body: All of it, if the app has read it and Flask has kept it.
        """
        self._is_watched = False
        if whole_body is not None:
            self._beginning = whole_body
        elif self._received > LOOK_SIZE:
            self._is_lost = True
        self.rewind()

    def _receive_watched(self, size: int) -> bytes:
        data = self._receive(size)
        if self._received <= LOOK_SIZE:
            self._beginning += data
        return data

    def _check_not_lost(self) -> None:
        if self._is_lost:
            raise RuntimeError(
                f"the app has read {self._received} bytes of this body before the media routes "
                "could: its before_request must leave their bodies alone, or keep what it reads, "
                "as request.get_data() does"
            )

    def look(self) -> bytes:
        """The first :data:`LOOK_SIZE` bytes, which stay to be read."""
        self._check_not_lost()
        while self._received < LOOK_SIZE:
            piece = self._receive(LOOK_SIZE - self._received)
            if not piece:
                break
            self._beginning += piece
        self.rewind()
        return self._beginning[:LOOK_SIZE]

    def look_at_all(self) -> bytes | None:
        """The whole body, which stays to be read; ``None`` if it is larger than
        :data:`LOOK_SIZE`."""
        if self._length is not None and self._length > LOOK_SIZE:
            return None
        beginning = self.look()
        if not self._is_at_end:
            self._beginning = beginning + self._receive(1)
            self.rewind()
        if self._is_at_end and len(self._beginning) <= LOOK_SIZE:
            return beginning
        return None

    def rewind(self) -> None:
        """Give the beginning once more to whoever reads next."""
        # It may be a whole film: slices of a view are no copies.
        self._unread = memoryview(self._beginning)

    def admit(self) -> None:
        """The sender is known: all of the body may be read."""
        self._is_admitted = True

    def finish(self) -> None:
        """The answer is ready: nothing is left for whoever reads now."""
        self._is_finished = True

    @property
    def is_guarded(self) -> bool:
        """A view of ours was called."""
        return not self._is_watched

    def drop(self) -> None:
        """Read and forget what is left, up to a bound, after the answer was sent.

        A server that closes a connection with unread bytes resets it. A client that has not
        finished sending then never gets to the answer.
        """
        size = NOBODY_SIZE - self._received
        seconds = NOBODY_SECONDS
        if self._is_admitted:
            size = KNOWN_SIZE
            seconds = KNOWN_SECONDS
        with suppress(HTTPException):
            self._drop_until(time.monotonic() + seconds, size)
        if not self._is_at_end:
            # Some servers would read the rest, for as long as it takes, before the next request.
            self._pace.stop()

    def _drop_until(self, end: float, size: int) -> None:
        seconds = end - time.monotonic()
        while size > 0 and seconds > 0:
            self._pace.limit(seconds)
            piece = self._receive(min(PIECE_SIZE, size))
            if not piece:
                break
            size -= len(piece)
            seconds = end - time.monotonic()

    @property
    def is_left(self) -> bool:
        """The client may be going to send more, which the server does not drop by itself."""
        environ = self._environ
        if self._is_at_end or self._pace.is_too_slow:
            return False
        # HTTP/2 ends a request without its connection.
        if not environ["SERVER_PROTOCOL"].startswith("HTTP/1"):
            return False
        if self._length is None and "HTTP_TRANSFER_ENCODING" not in environ:
            return False
        # A client that waits for "100 Continue" sends nothing after a final status (RFC 9110,
        # section 10.1.1), and most servers would say "100" on the first read. gunicorn has said it
        # before it called us.
        is_waiting = environ.get("HTTP_EXPECT", "").lower() == "100-continue"
        if is_waiting and "gunicorn.socket" not in environ:
            return False
        # Werkzeug's server drops all of it before it closes the answer.
        return "werkzeug.socket" not in environ

    def _receive(self, size: int) -> bytes:
        pieces = [*self._pieces(size)]
        if len(pieces) == 1:
            return pieces[0]
        return b"".join(pieces)

    def _pieces(self, size: int) -> Iterator[bytes]:
        """So many bytes, in pieces that the server is asked for one by one.

        There are fewer at the end of what the server has.
        """
        if self._failure is not None:
            raise self._failure
        if self._length is not None:
            size = min(size, self._length - self._received)
        is_first = True
        while size > 0:
            try:
                asked_size, data = self._read_in_time(size)
            except HTTPException as error:
                # A server may have received more before it failed, and give that to whoever asks
                # again: bytes are missing in between.
                self._failure = error
                if is_first:
                    raise
                return  # the next read says so
            self._received += len(data)
            self._is_at_end = not data or self._received == self._length
            yield data
            if len(data) < asked_size:
                return
            size -= asked_size
            is_first = False

    def _read_in_time(self, size: int) -> tuple[int, bytes]:
        """How many of so many bytes the server was asked for, and those that came.

        The last bytes of a body that is too slow are given, and an error follows them.

        :raises RequestTimeout: It comes too slowly.
        """
        pace = self._pace
        data = b""
        if pace.is_too_slow:
            raise RequestTimeout("The body comes too slowly.")
        asked_size = pace.begin(size)
        try:
            data = self._stream.read(asked_size)
        except HTTPException:
            raise
        except (OSError, ValueError) as error:  # it was closed
            raise ClientDisconnected from error
        except Exception as error:  # each server has errors of its own for a malformed body
            raise BadRequest("The body is not what its headers say.") from error
        finally:
            pace.note(len(data))
            if pace.is_too_slow:
                pace.stop()
                if not data:
                    raise RequestTimeout("The body comes too slowly.")
        return asked_size, data


def watch() -> None:
    """Take notice of all reads of the body of a request to the blueprint, before a hook of the app
    reads it."""
    environ = request.environ
    if environ.get("CONTENT_LENGTH") != "0":
        environ["wsgi.input"] = Body(environ)


def guard() -> None:
    """Limit the body of a request to a view of ours, before anybody looks for a token in it.

    The limits are those of JSON and of a form's fields: a view that takes a file sets its own.
    """
    body = find_body()
    if body is None:
        return
    body.guard(read_data(request))
    vars(request).pop("stream", None)  # the app's, at the place that it has read to
    set_limits(
        max_content_length=JSON_SIZE, max_form_memory_size=FORM_SIZE, max_form_parts=FORM_PARTS
    )


def set_limits(**limits: int) -> None:
    """Set limits of the request.

    Those that a request class of the app's own has fixed stay as they are.
    """
    for name, value in limits.items():
        with suppress(AttributeError):
            setattr(request, name, value)


def find_body() -> Body | None:
    """The body of the request, if it has one and :func:`watch` has seen it."""
    body = request.environ["wsgi.input"]
    if isinstance(body, Body):
        return body
    return None


def look_for_fields(body: Body) -> ImmutableMultiDict[str, str]:
    """The text fields at the beginning of a form, which stay to be read.

    There are none in a body that is no form.
    """
    if request.mimetype == "multipart/form-data":
        boundary = request.mimetype_params.get("boundary", "")
        fields = _first_fields(boundary.encode("latin-1", "replace"), body.look())
        return ImmutableMultiDict(fields)
    if request.mimetype == "application/x-www-form-urlencoded":
        stream = io.BytesIO(body.look_at_all() or b"")
        _, form, _ = FormDataParser().parse(stream, request.mimetype, None)
        return ImmutableMultiDict(form)
    return ImmutableMultiDict()


def _first_fields(boundary: bytes, beginning: bytes) -> list[tuple[str, str]]:
    """The fields that a multipart body has before its beginning ends."""
    decoder = MultipartDecoder(boundary, LOOK_SIZE, max_parts=FORM_PARTS)
    fields: list[tuple[str, str]] = []
    name: str | None = None
    value = b""
    try:
        decoder.receive_data(beginning)
        while not isinstance(event := decoder.next_event(), NeedData | Epilogue):
            if isinstance(event, Field):
                name, value = event.name, b""
            elif not isinstance(event, Data):
                name = None  # a file
            elif name is not None:
                value += event.data
                if not event.more_data:
                    fields.append((name, value.decode(errors="replace")))
    except (ValueError, RequestEntityTooLarge):
        pass  # it is no multipart body, or its fields are too large
    return fields


def look_for_json(body: Body) -> bool:
    """Tell whether the body is a JSON object small enough to have a token.

    The body stays to be read.
    """
    if not request.is_json:
        return False
    try:
        return isinstance(json.loads(body.look_at_all() or b""), dict)
    except (ValueError, RecursionError):  # the second of a body nested thousands deep
        return False


def drop_after(response: Response) -> Response:
    """Drop what is left of the body once the answer is sent."""
    body = find_body()
    if body is None:
        return response
    if body.is_guarded:
        body.finish()
        # Another stream would take its end for that of the connection.
        vars(request)["stream"] = body
    if body.is_left:
        response.call_on_close(body.drop)
    return response


def open_body() -> t.BinaryIO:
    """The body, of whatever size: whoever reads it has to count.

    ``request.stream`` would hold it to the host's limit. Under any limit it copies the body three
    times.
    """
    return t.cast(t.BinaryIO, get_input_stream(request.environ))
