"""What happens to the bytes of an upload that comes in several requests, until it is media like any
other.

    receive  part → upload names it, again and again
    finish   upload says that it will be media → record is made of all parts → upload says that it is → parts gone

The last part is not named before the record is there. So an upload never looks complete that is
none, and a client that was cut off goes on with the last part; the record has the upload's id, so
that nobody makes it twice.
"""

from __future__ import annotations

import logging
import time
import typing as t
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import chain

from werkzeug.exceptions import Forbidden

from .. import lifecycle, quotas
from ..authorization import Viewer
from ..content.uploads import upload_for
from ..errors import (
    BytesNotFound,
    ChecksumMismatch,
    DatabaseUnavailable,
    DualMediaError,
    FileTooLarge,
    IncompleteUpload,
    InvalidMedia,
    MediaConflict,
    MediaNotFound,
    OwnerNotFound,
    RecordRefused,
    SecondMainImage,
    UploadLocked,
    UploadRejected,
)
from ..failpoints import reach
from ..models import AVAILABLE, DELETING, KINDS, TRASHED, Media, now
from ..state import State
from ..storages.base import new_key
from ..upkeep import sweeping
from ..upkeep.chores import clear_expired
from .staging import Part, Staged, Writer, check_parts

logger = logging.getLogger("flask_dualmedia")

PART_SIZE = 16 * 1024 * 1024
"""Largest part in bytes: that much is lost, at most, with a killed worker."""

PART_SECONDS = 30.0
"""A slow client's part is ended after this time."""

READ_SIZE = 64 * 1024
"""Bytes asked of a client at once. Small, because the lock is renewed in between."""

UNLIMITED = 2**63

_HOPELESS = (UploadRejected, RecordRefused, OwnerNotFound, SecondMainImage)
"""Errors that the same bytes and fields would meet again."""


class Digest(t.NamedTuple):
    """What the bytes of one request must hash to."""

    running: t.Any
    expected: bytes


class Body(t.Protocol):
    def read(self, size: int, /) -> bytes: ...


Permit = Callable[[Staged], object]
"""Asks the rule once more, when an upload ends: raises ``Forbidden`` where it does not allow the
media any more."""


def largest_size(state: State, kind: str | None) -> int | None:
    """How many bytes an upload may have; ``None`` for no limit.

    :param kind: Its kind, whose limit it is. A part of another upload has none yet, and may be of
        any.
    """
    policies = state.settings.policies
    sizes = [policy.max_size for name, policy in policies.items() if kind in (None, name)]
    limits = [size for size in sizes if size is not None]
    return max(limits) if len(limits) == len(sizes) else None


def begin(state: State, upload: Staged) -> Writer:
    """Keep a new upload, which counts for its uploader from now on. It is locked for the caller.

    :raises QuotaExceeded: What it is to be has no place, as far as that is known.
    :raises TooManyUnfinished: The uploader has begun too many that have not ended.
    """
    clear_expired(state)

    def add() -> Writer:
        with quotas.reserved(state, upload, upload.length or 1):
            return state.staging.add(upload)

    def take_back(writer: Writer) -> None:
        with writer:
            give_up(writer)

    return quotas.admit(state, upload.identity, add, take_back)


def receive(
    state: State,
    writer: Writer,
    body: Body,
    *,
    announced: int | None,
    length: int | None,
    digest: Digest | None = None,
    permit: Permit = lambda upload: None,
    viewer: Viewer | None = None,
) -> None:
    """Add bytes to an upload; with the last one it becomes media. What came of a body that is cut
    short is kept, unless it has a digest.

    :param announced: How many bytes the request is to have.
    :param length: Size of the whole file, as far as it is known.
    :param permit: Called before it becomes media.
    :param viewer: As of :func:`~flask_dualmedia.lifecycle.create`.
    :raises FileTooLarge: More came than the file, or any file, may have.
    :raises QuotaExceeded: It has no place. Of an upload of known length that was said when it
        began.
    :raises IncompleteUpload: Fewer came than announced.
    :raises ChecksumMismatch: They are others than those of the digest. None is kept.
    :raises UploadLocked: Another request has taken over.
    """
    offset = writer.upload.offset
    max_size = largest_size(state, writer.upload.kind)
    room = (length if length is not None else max_size or UNLIMITED) - offset
    if announced is not None and announced > room:
        raise FileTooLarge(offset + room)
    if length is not None and writer.upload.length is None:
        with quotas.reserved(state, writer.upload, length):
            writer.commit([], length=length)
    is_open_ended = length is None

    def commit(parts: list[Part]) -> None:
        size = offset + came if is_open_ended else 0
        with quotas.reserved(state, writer.upload, size):
            writer.commit(parts, length=length)

    came, held, since = 0, [], time.monotonic()
    if is_open_ended:
        quotas.check(state, writer.upload, offset + (announced or 0))
    try:
        while came < room and (
            part := _take_part(state, writer, body, min(PART_SIZE, room - came), digest)
        ):
            held.append(part)
            came += part.size
            reach("tus:part")
            if digest is None and offset + came != length:
                _check_age(state, since)
                commit(held)
                reach("tus:committed")
                held, since = [], time.monotonic()
            elif is_open_ended:
                quotas.check(state, writer.upload, offset + came)
        if announced is None and came == room and body.read(1):
            raise FileTooLarge(offset + room)
        _check_age(state, since)
        if digest is not None:
            _check_digest(digest, came, announced)
        if length is not None and length == offset + came and writer.upload.concat != "partial":
            finish(state, writer, held, length, permit, viewer=viewer)
        elif held or length != writer.upload.length:
            commit(held)
    except DatabaseUnavailable:
        raise  # nobody knows whether the upload names them
    except BaseException:
        for part in held:
            _clean_up(state.staging.storage.delete, part.key)
        raise
    if announced is not None and came < announced:
        raise IncompleteUpload(f"{came} bytes came of the {announced} announced, and were kept")


def finish(
    state: State,
    writer: Writer,
    held: list[Part],
    length: int,
    permit: Permit = lambda upload: None,
    *,
    viewer: Viewer | None = None,
) -> None:
    """Make media of an upload.

    :param held: Its last parts, which it does not name yet.
    :param permit: Called before it becomes media. What is not permitted any more is removed.
    :param viewer: As of :func:`~flask_dualmedia.lifecycle.create`.
    :raises UploadRejected: The bytes break a rule, as of any upload. This one is removed.
    """
    upload = writer.upload
    if upload.finished:
        return
    kind = KINDS[t.cast(str, upload.kind)]
    # Whether there is a record is asked only where there may be one: while SQL is down nobody could
    # tell.
    found = _made_before(state, kind, upload.id) if upload.attempted else None
    if found is None:
        try:
            permit(upload)
        except (Forbidden, OwnerNotFound):
            _clean_up(writer.remove)
            raise
        writer.attempt()
        reach("tus:attempt")
        source = upload_for(
            state,
            kind,
            t.cast(t.BinaryIO, _Joined(state, [*upload.parts, *held], writer.keep)),
            filename=upload.filename,
            mime_type=upload.mime_type,
            size=length,
        )
        try:
            values = upload.values | {"id": upload.id}
            lifecycle.create(
                state, kind, values, source, uploaded_by=upload.identity, viewer=viewer
            )
        except _HOPELESS:
            _clean_up(writer.remove)
            raise
        except (
            BytesNotFound
        ) as error:  # as when the mode was changed while the upload was under way
            logger.error("the upload %s is given up: %s", upload.id, error)
            _clean_up(writer.remove)
            raise MediaNotFound("uploads", upload.id) from error
    reach("tus:media")
    writer.commit(held, length=length, finished=True)
    reach("tus:finished")
    _clean_up(writer.remove_parts)
    reach("tus:cleaned")


def give_up(writer: Writer) -> None:
    """Remove an upload that nobody will go on with."""
    _clean_up(writer.remove)


def concatenate(state: State, upload: Staged) -> Writer:
    """Join partial uploads to the media that ``upload`` describes. The second time with the same
    ones the answer is the same upload.

    :raises MediaNotFound: One of them is not there, or not of the same identity.
    :raises InvalidMedia: One of them is no partial upload, or is not complete.
    :raises TooManyParts: They have more parts together than an upload may have.
    :raises UploadLocked: Another request is at one of them.
    """
    staging = state.staging
    partials: list[Writer] = []
    parts = 0
    try:
        for upload_id in upload.joined:
            writer = staging.lock(upload_id, identity=upload.identity)
            if writer is None:
                continue
            partials.append(writer)
            parts += len(writer.upload.parts)
            check_parts(parts)  # before those of the next one are read
        known = staging.find_final(upload.identity, upload.joined)
        if known is None:
            writer = staging.add(_joined(state, upload, {w.upload.id: w.upload for w in partials}))
            reach("tus:joined")
        else:
            writer = staging.lock(known)
        for partial in partials:
            partial.forget()  # the parts are the other's now
    finally:
        for partial in partials:
            partial.__exit__()
    if writer is None:
        raise MediaNotFound("uploads", known)
    return writer


def _joined(state: State, upload: Staged, partials: dict[uuid.UUID, Staged]) -> Staged:
    parts: list[Part] = []
    for upload_id in upload.joined:
        partial = partials.get(upload_id)
        if partial is None or partial.is_expired:
            raise MediaNotFound("uploads", upload_id)
        if partial.concat != "partial" or partial.offset != partial.length:
            raise InvalidMedia(
                {"uploadConcat": [f"{upload_id} is not a partial upload that is complete."]}
            )
        parts += partial.parts
    size = sum(part.size for part in parts)
    max_size = largest_size(state, upload.kind)
    if max_size is not None and size > max_size:
        raise FileTooLarge(max_size)
    return replace(upload, parts=parts, offset=size)


def _take_part(
    state: State, writer: Writer, body: Body, size: int, digest: Digest | None
) -> Part | None:
    """Put the next bytes of a body into the storage, under a key that nobody names yet; nothing,
    where it has ended."""
    blocks = _blocks(body, size, writer.keep)
    first = next(blocks, None)
    if first is None:
        return None
    key, came = new_key(writer.upload.id), 0

    def counted() -> Iterator[bytes]:
        nonlocal came
        for block in chain((first,), blocks):
            came += len(block)
            if digest is not None:
                digest.running.update(block)
            yield block

    try:
        state.staging.storage.put(key, counted())
    except BaseException:
        _clean_up(state.staging.storage.delete, key)
        raise
    return Part(key, came)


def _blocks(body: Body, size: int, keep: Callable[[], None]) -> Iterator[bytes]:
    end = time.monotonic() + PART_SECONDS
    while size and time.monotonic() < end and (block := body.read(min(READ_SIZE, size))):
        size -= len(block)
        yield block
        keep()


def _check_age(state: State, since: float) -> None:
    """Do not name parts that a check may have taken away meanwhile, because nobody named them."""
    if time.monotonic() - since > state.settings.grace / 2:
        raise MediaConflict("the request took longer than half of DUALMEDIA_GRACE")


def _check_digest(digest: Digest, came: int, announced: int | None) -> None:
    if announced is not None and came < announced:
        raise IncompleteUpload(f"{came} bytes came of the {announced} announced, and were not kept")
    if digest.running.digest() != digest.expected:
        raise ChecksumMismatch


def _made_before(state: State, kind: type[Media], upload_id: uuid.UUID) -> Media | None:
    """The record, if a worker that was killed behind it has made it. One that was killed before has
    left something unfinished, which is removed."""
    record = state.repository.find(kind, upload_id)
    if record is None or record.state in (AVAILABLE, TRASHED):
        return record
    # Whoever removes it now would, if he were only slow, remove the next record of this id.
    is_removed = record.state == DELETING and record.updated_at > now() - timedelta(
        seconds=state.settings.grace
    )
    if is_removed or not sweeping.sweep_one(state, record):
        raise UploadLocked
    return None


class _Joined:
    """A stream of the bytes of parts. The lock is renewed while it is read."""

    def __init__(self, state: State, parts: list[Part], keep: Callable[[], None]) -> None:
        storage = state.staging.storage
        self._pieces = (piece for part in parts for piece in storage.open(part.key, 0, part.size))
        self._keep, self._rest = keep, memoryview(b"")

    def read(self, size: int) -> bytes:
        if not self._rest:
            self._keep()
            self._rest = memoryview(next(self._pieces, b""))
        given, self._rest = self._rest[:size], self._rest[size:]
        return bytes(given)


def _clean_up(action: Callable[..., None], *args: t.Any) -> None:
    try:
        action(*args)
    except DualMediaError:
        logger.warning("left for the sweep: %s%s", action.__qualname__, args, exc_info=True)
