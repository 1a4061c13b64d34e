"""Resumable uploads: bytes come in several requests, until they are media like any other.

    receive  part → upload names it, again and again
    finish   upload says that it will be media → record is made of all parts
             → upload says that it is → parts gone

The last part is not named before the record exists. So no upload looks complete before its media
exists, and a client that was cut off goes on with the last part. The record has the upload's id, so
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
from ..storages.base import Storage, new_key
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
    """A checksum that the bytes of one request must have."""

    running: t.Any
    expected: bytes


class Body(t.Protocol):
    """The body of a request, read once from beginning to end."""

    def read(self, size: int, /) -> bytes: ...


Permit = Callable[[Staged], object]
"""Asks the rule once more, when an upload ends. It raises ``Forbidden`` if the rule does not allow
the media any more."""


def largest_size(state: State, kind: str | None) -> int | None:
    """How many bytes an upload may have; ``None`` for no limit.

    :param kind: Its kind, whose limit applies. A part of another upload has no kind yet, and may
        become any.
    """
    policies = state.settings.policies
    sizes = []
    for name, policy in policies.items():
        if kind in (None, name):
            sizes.append(policy.max_size)
    limits = [size for size in sizes if size is not None]
    if len(limits) < len(sizes):
        return None
    return max(limits)


def begin(state: State, upload: Staged) -> Writer:
    """Keep a new upload, which counts for its uploader from now on. It is locked for the caller.

    :raises QuotaExceeded: The quota has no place for it, as far as its size is known.
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


class _Reception:
    """The bytes of one request, on their way to an upload.

    Parts that are in the storage and that the upload does not name yet are ``unnamed``.
    """

    def __init__(
        self,
        state: State,
        writer: Writer,
        body: Body,
        *,
        announced: int | None,
        length: int | None,
        digest: Digest | None,
    ) -> None:
        self.state = state
        self.writer = writer
        self.body = body
        self.announced = announced
        self.length = length
        self.digest = digest
        self.offset = writer.upload.offset
        self.room = _end_of(state, writer.upload, length) - self.offset
        self.received = 0
        self.unnamed: list[Part] = []
        self.unnamed_since = time.monotonic()

    @property
    def end(self) -> int:
        """Where the upload ends with the bytes received until now."""
        return self.offset + self.received

    @property
    def is_open_ended(self) -> bool:
        """Whether the client does not know yet how large the file is."""
        return self.length is None

    @property
    def is_cut_short(self) -> bool:
        """Whether fewer bytes came than the request announced."""
        return self.announced is not None and self.received < self.announced

    def check_announcement(self) -> None:
        """
        :raises FileTooLarge: The request announces more than there is room for.
        """
        if self.announced is not None and self.announced > self.room:
            raise FileTooLarge(self.offset + self.room)

    def settle_length(self) -> None:
        """Have the upload know its length, or check the quota of one that has none yet.

        :raises QuotaExceeded: The quota has no place for it.
        """
        upload = self.writer.upload
        if self.length is None:
            announced = self.announced or 0
            quotas.check(self.state, upload, self.offset + announced)
        elif upload.length is None:
            with quotas.reserved(self.state, upload, self.length):
                self.writer.commit([], length=self.length)

    def take_body(self) -> None:
        """Take the body part by part. The upload names each part at once, but for the last one, and
        but for those that a digest has to confirm first."""
        self.unnamed_since = time.monotonic()
        while self.received < self.room:
            size = min(PART_SIZE, self.room - self.received)
            part = _take_part(self.state, self.writer, self.body, size, self.digest)
            if part is None:
                break
            self.unnamed.append(part)
            self.received += part.size
            reach("tus:part")
            self._name_early()

    def check(self) -> None:
        """Check the bytes before the last of them are named.

        :raises FileTooLarge: The body goes on behind the end of the file.
        :raises MediaConflict: A check may have taken away the parts that nobody names.
        :raises ChecksumMismatch: They are not the bytes of the digest.
        """
        is_full = self.received == self.room
        if self.announced is None and is_full and self.body.read(1):
            raise FileTooLarge(self.offset + self.room)
        self._check_age()
        if self.digest is not None:
            self._check_digest(self.digest)

    def commit(self) -> None:
        """Have the upload name the parts."""
        size = 0
        if self.is_open_ended:
            size = self.end

        with quotas.reserved(self.state, self.writer.upload, size):
            self.writer.commit(self.unnamed, length=self.length)

    def discard(self) -> None:
        """Delete the parts that the upload does not name."""
        for part in self.unnamed:
            _clean_up(self.state.staging.storage.delete, part.key)

    def _name_early(self) -> None:
        """Have the upload name a part before the next one comes, unless it is the last part or a
        digest has to confirm it first."""
        if self.digest is None and self.end != self.length:
            self._check_age()
            self.commit()
            reach("tus:committed")
            self.unnamed = []
            self.unnamed_since = time.monotonic()
        elif self.is_open_ended:
            quotas.check(self.state, self.writer.upload, self.end)

    def _check_age(self) -> None:
        """Refuse to name parts that a check may have taken away meanwhile, because nobody named
        them."""
        age = time.monotonic() - self.unnamed_since
        if age > self.state.settings.grace / 2:
            raise MediaConflict("the request took longer than half of DUALMEDIA_GRACE")

    def _check_digest(self, digest: Digest) -> None:
        """
        :raises IncompleteUpload: Fewer bytes came than announced. None is kept.
        :raises ChecksumMismatch: They are not the bytes of the digest. None is kept.
        """
        if self.is_cut_short:
            raise IncompleteUpload(
                f"{self.received} bytes came of the {self.announced} announced, and were not kept"
            )
        if digest.running.digest() != digest.expected:
            raise ChecksumMismatch


def _end_of(state: State, upload: Staged, length: int | None) -> int:
    """How many bytes an upload may have, as far as that is known."""
    if length is not None:
        return length
    return largest_size(state, upload.kind) or UNLIMITED


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
    """Add bytes to an upload; with the last one it becomes media.

    If a body is cut short, the bytes that came are kept, unless the request has a digest.

    :param announced: How many bytes the request is to have.
    :param length: Size of the whole file, as far as it is known.
    :param permit: Called before it becomes media.
    :param viewer: The same as for :func:`~flask_dualmedia.lifecycle.create`.
    :raises FileTooLarge: More came than the file, or any file, may have.
    :raises QuotaExceeded: The quota has no place for it. An upload of known length is refused when
        it begins.
    :raises IncompleteUpload: Fewer came than announced.
    :raises ChecksumMismatch: They are not the bytes of the digest. None is kept.
    :raises UploadLocked: Another request has taken over.
    """
    reception = _Reception(
        state,
        writer,
        body,
        announced=announced,
        length=length,
        digest=digest,
    )
    reception.check_announcement()
    reception.settle_length()

    try:
        reception.take_body()
        reception.check()
        is_whole = reception.end == length
        if length is not None and is_whole and writer.upload.concat != "partial":
            finish(state, writer, reception.unnamed, length, permit, viewer=viewer)
        elif reception.unnamed or length != writer.upload.length:
            reception.commit()
    except DatabaseUnavailable:
        raise  # nobody knows whether the upload names the parts
    except BaseException:
        reception.discard()
        raise

    if reception.is_cut_short:
        raise IncompleteUpload(
            f"{reception.received} bytes came of the {announced} announced, and were kept"
        )


def finish(
    state: State,
    writer: Writer,
    last_parts: list[Part],
    length: int,
    permit: Permit = lambda upload: None,
    *,
    viewer: Viewer | None = None,
) -> None:
    """Make media of an upload.

    :param last_parts: Its last parts, which it does not name yet.
    :param permit: Called before it becomes media. An upload that is not permitted any more is
        removed.
    :param viewer: The same as for :func:`~flask_dualmedia.lifecycle.create`.
    :raises UploadRejected: The bytes break a rule, as with any upload. This one is removed.
    """
    upload = writer.upload
    if upload.finished:
        return

    kind = KINDS[t.cast(str, upload.kind)]
    record = None
    if upload.attempted:
        # The databases are asked for the record only where there may be one: while SQL is down,
        # nobody could tell.
        record = _made_before(state, kind, upload.id)
    if record is None:
        _ask_permission(writer, permit)
        writer.attempt()
        reach("tus:attempt")
        _make_media(state, writer, kind, last_parts, length, viewer)
    reach("tus:media")

    writer.commit(last_parts, length=length, finished=True)
    reach("tus:finished")
    _clean_up(writer.remove_parts)
    reach("tus:cleaned")


def _ask_permission(writer: Writer, permit: Permit) -> None:
    """Ask the rule whether the media may be made. If not, the upload is removed."""
    try:
        permit(writer.upload)
    except (Forbidden, OwnerNotFound):
        _clean_up(writer.remove)
        raise


def _make_media(
    state: State,
    writer: Writer,
    kind: type[Media],
    last_parts: list[Part],
    length: int,
    viewer: Viewer | None,
) -> None:
    """Create the record of an upload, with the bytes of all parts, under the upload's id."""
    upload = writer.upload
    stream = _Joined(state, [*upload.parts, *last_parts], writer.keep)
    source = upload_for(
        state.settings,
        kind,
        t.cast(t.BinaryIO, stream),
        filename=upload.filename,
        mime_type=upload.mime_type,
        size=length,
    )

    values = upload.values | {"id": upload.id}
    try:
        lifecycle.create(state, kind, values, source, uploaded_by=upload.identity, viewer=viewer)
    except _HOPELESS:
        _clean_up(writer.remove)
        raise
    except BytesNotFound as error:
        # For example when the mode was changed while the upload was under way.
        logger.error("the upload %s is given up: %s", upload.id, error)
        _clean_up(writer.remove)
        raise MediaNotFound("uploads", upload.id) from error


def give_up(writer: Writer) -> None:
    """Remove an upload that nobody will go on with."""
    _clean_up(writer.remove)


def concatenate(state: State, upload: Staged) -> Writer:
    """Join partial uploads to the media that ``upload`` describes.

    The second time with the same partial uploads, the answer is the same upload.

    :raises MediaNotFound: One of them does not exist, or belongs to another identity.
    :raises InvalidMedia: One of them is no partial upload, or is not complete.
    :raises TooManyParts: They have more parts together than an upload may have.
    :raises UploadLocked: Another request is at one of them.
    """
    staging = state.staging
    partials: list[Writer] = []
    try:
        _lock_partials(state, upload, partials)
        final_id = staging.find_final(upload.identity, upload.joined)
        if final_id is None:
            by_id = {partial.upload.id: partial.upload for partial in partials}
            writer = staging.add(_joined(state, upload, by_id))
            reach("tus:joined")
        else:
            writer = staging.lock(final_id)
        for partial in partials:
            partial.forget()  # the parts belong to the final upload now
    finally:
        for partial in partials:
            partial.__exit__()

    if writer is None:
        raise MediaNotFound("uploads", final_id)
    return writer


def _lock_partials(state: State, upload: Staged, partials: list[Writer]) -> None:
    """Lock the uploads that are to be joined.

    :param partials: Gets those that are locked, also where the next one cannot be.
    """
    parts = 0
    for upload_id in upload.joined:
        writer = state.staging.lock(upload_id, identity=upload.identity)
        if writer is None:
            continue
        partials.append(writer)
        parts += len(writer.upload.parts)
        check_parts(parts)  # before those of the next one are read


def _joined(state: State, upload: Staged, partials: dict[uuid.UUID, Staged]) -> Staged:
    """The final upload, with the parts of all partial ones."""
    parts: list[Part] = []
    for upload_id in upload.joined:
        partial = partials.get(upload_id)
        if partial is None or partial.is_expired:
            raise MediaNotFound("uploads", upload_id)
        if partial.concat != "partial" or partial.offset != partial.length:
            message = f"{upload_id} is not a partial upload that is complete."
            raise InvalidMedia({"uploadConcat": [message]})
        parts += partial.parts

    size = sum(part.size for part in parts)
    max_size = largest_size(state, upload.kind)
    if max_size is not None and size > max_size:
        raise FileTooLarge(max_size)
    return replace(upload, parts=parts, offset=size)


def _take_part(
    state: State,
    writer: Writer,
    body: Body,
    size: int,
    digest: Digest | None,
) -> Part | None:
    """Put the next bytes of a body into the storage, under a key that nobody names yet.

    :return: The part; ``None`` if the body has ended.
    """
    blocks = _blocks(body, size, writer.keep)
    first_block = next(blocks, None)
    if first_block is None:
        return None

    key = new_key(writer.upload.id)
    part_size = 0

    def counted() -> Iterator[bytes]:
        nonlocal part_size
        for block in chain((first_block,), blocks):
            part_size += len(block)
            if digest is not None:
                digest.running.update(block)
            yield block

    try:
        state.staging.storage.put(key, counted())
    except BaseException:
        _clean_up(state.staging.storage.delete, key)
        raise
    return Part(key, part_size)


def _blocks(body: Body, size: int, keep: Callable[[], None]) -> Iterator[bytes]:
    """The next bytes of a body, until they are enough or took too long.

    :param keep: Called after each block, to renew the lock.
    """
    end = time.monotonic() + PART_SECONDS
    while size and time.monotonic() < end:
        block = body.read(min(READ_SIZE, size))
        if not block:
            return
        size -= len(block)
        yield block
        keep()


def _made_before(state: State, kind: type[Media], upload_id: uuid.UUID) -> Media | None:
    """The record, if a worker has made it and was killed afterwards.

    A worker that was killed before has left an unfinished record, which is removed.
    """
    record = state.repository.find(kind, upload_id)
    if record is None or record.state in (AVAILABLE, TRASHED):
        return record

    # A worker that is removing it now, and is only slow, would remove the next record of this id.
    recently = now() - timedelta(seconds=state.settings.grace)
    is_being_removed = record.state == DELETING and record.updated_at > recently
    if is_being_removed or not sweeping.sweep_one(state, record):
        raise UploadLocked
    return None


def _pieces_of(storage: Storage, parts: list[Part]) -> Iterator[bytes]:
    """The bytes of parts, each opened when it is asked for."""
    for part in parts:
        yield from storage.open(part.key, 0, part.size)


class _Joined:
    """A stream of the bytes of parts. The lock is renewed while it is read."""

    def __init__(
        self,
        state: State,
        parts: list[Part],
        keep: Callable[[], None],
    ) -> None:
        storage = state.staging.storage
        self._pieces = _pieces_of(storage, parts)
        self._keep = keep
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        if not self._rest:
            self._keep()
            self._rest = memoryview(next(self._pieces, b""))
        block = self._rest[:size]
        self._rest = self._rest[size:]
        return bytes(block)


def _clean_up(action: Callable[..., None], *args: t.Any) -> None:
    """Call something that the sweep does as well, should it fail now."""
    try:
        action(*args)
    except DualMediaError:
        logger.warning("left for the sweep: %s%s", action.__qualname__, args, exc_info=True)
