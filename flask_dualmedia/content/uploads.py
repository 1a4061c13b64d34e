"""Uploads: the bytes of new media come from a stream that is read once and checked while read."""

from __future__ import annotations

import hashlib
import typing as t

from ..errors import EmptyFile, FileTooLarge, IncompleteUpload
from .dimensions import Dimensions, Gauge
from .mime_types import one_type
from .names import label
from .policy import Policy
from .sniffing import HEAD_SIZE, Sniffer, settle_type, sniff

if t.TYPE_CHECKING:
    from ..config import Settings
    from ..models import Media

BLOCK_SIZE = HEAD_SIZE
"""Bytes asked of a stream at once. Smaller pieces cost servers more than they save memory."""


class Upload:
    """The bytes of one upload on their way into a storage.

    :param stream: Binary stream, read once from its current position to its end, never closed.
    :param filename: The uploader's name for it. A label: nothing is opened or named after it.
    :param mime_type: The type as the uploader declares it, whatever that is; believed only where
        the bytes show none.
    :param size: How many bytes were announced. Servers end a body that the client cut short like
        any other, so the count is compared at the end.
    :param checksum: SHA-256 hex that the bytes must have.
    :param policy: What is accepted; by default anything.
    :param replaces: The bytes take the place of others, of which ``filename`` is the name: where
        its extension does not fit them it is changed.
    """

    def __init__(
        self,
        stream: t.BinaryIO,
        *,
        filename: str | None = None,
        mime_type: str | None = None,
        size: int | None = None,
        checksum: str | None = None,
        policy: Policy | None = None,
        sniffer: Sniffer = sniff,
        replaces: bool = False,
    ) -> None:
        self.filename = label(filename)
        self._stream = stream
        self._declared = mime_type
        self._expected_size = size
        self._expected_checksum = checksum
        self._policy = policy or Policy(max_pixels=None)
        self._sniffer = sniffer
        self._replaces = replaces

        self._digest = hashlib.sha256()
        self.head = b""
        self.size = 0
        self._gauge: Gauge | None = None
        self._content: list[bytes] | None = None

    def open(self) -> None:
        """Read the first block and learn the type from it, before anything is written.

        :raises EmptyFile: The stream has no bytes.
        :raises FileTooLarge: The announced size is over the limit already.
        :raises UnsupportedType: The bytes are not of a type that is accepted, or they are not what
            they are called.
        :raises TooManyPixels: They are an image of a size that is not accepted.
        """
        self._check_size(self._expected_size or 0)
        self.head = self._read_block()
        if not self.head:
            raise EmptyFile(was_read=_was_read(self._stream))

        sniffed = one_type(self._sniffer(self.head))
        self.mime_type = settle_type(sniffed, self.filename, self._declared)
        self._policy.check_type(self.mime_type, sniffed, self._declared)
        if self._replaces:
            fitting_name = self._policy.renamed(self.filename, self.mime_type)
            self.filename = label(fitting_name)
        self._policy.check_name(self.filename, self.mime_type)

        if self.mime_type.startswith("image/"):
            self._gauge = Gauge(self.head)
            self._measure(is_whole=self.is_read)

    def content(self) -> list[bytes]:
        """Read all blocks at once, where they are few. :meth:`blocks` yields them again then.

        :raises IncompleteUpload: As :meth:`blocks`, like the other errors.
        """
        if self._content is None:
            self._content = list(self.blocks())
        return self._content

    def blocks(self) -> t.Iterator[bytes]:
        """The bytes in blocks, counted and hashed as they pass.

        Each has :data:`BLOCK_SIZE`, and the last one is shorter.

        :raises FileTooLarge: As soon as the limit is passed; what was yielded before is for the
            caller to discard.
        :raises TooManyPixels: As soon as an image shows that it is larger than what its first block
            said.
        :raises IncompleteUpload: After the last block, when size or checksum are not what was
            announced.
        """
        if self._content is not None:
            return iter(self._content)
        return self._read_blocks()

    def _read_blocks(self) -> t.Iterator[bytes]:
        block = self.head
        while block:
            self.size += len(block)
            self._check_size(self.size)
            self._digest.update(block)
            yield block
            block = self._read_block()
            self._measure(block, is_whole=not block)
        self._check_whole()

    def _check_whole(self) -> None:
        """Compare size and checksum with what was announced.

        :raises IncompleteUpload: They differ.
        """
        if self._expected_size is not None and self.size != self._expected_size:
            raise IncompleteUpload(f"{self.size} bytes came of the {self._expected_size} announced")
        if self._expected_checksum is not None and self.checksum != self._expected_checksum:
            raise IncompleteUpload("the bytes do not match the digest sent with them")

    @property
    def dimensions(self) -> Dimensions | None:
        """Width and height of an image, as far as its bytes have come."""
        if self._gauge is None:
            return None
        return self._gauge.dimensions

    @property
    def is_measured(self) -> bool:
        """Whether nothing more is to be learnt about the size of an image."""
        return self._gauge is None or self._gauge.is_certain or self._policy.max_pixels is None

    @property
    def is_read(self) -> bool:
        """Whether all bytes were in the first block."""
        return len(self.head) < BLOCK_SIZE

    @property
    def least_size(self) -> int:
        """The number of bytes that there are at least, as far as was said or read."""
        return self._expected_size or len(self.head)

    @property
    def checksum(self) -> str:
        """SHA-256 of what has passed so far, as 64 lowercase hex digits (FIPS 180-4)."""
        return self._digest.hexdigest()

    def _measure(self, block: bytes = b"", *, is_whole: bool) -> None:
        """Read the size of an image from its next bytes, and check it.

        :param is_whole: No more bytes come.
        """
        gauge = self._gauge
        if gauge is None:
            return
        gauge.feed(block)
        if is_whole:
            gauge.close()
        self._policy.check_pixels(gauge, self.mime_type)

    def _check_size(self, size: int) -> None:
        limit = self._policy.max_size
        if limit is not None and size > limit:
            raise FileTooLarge(limit)

    def _read_block(self) -> bytes:
        """Read a whole block even from a stream that gives less at a time.

        So chunks in storages are full.
        """
        block = self._read(BLOCK_SIZE)
        if len(block) in (0, BLOCK_SIZE):
            return block

        parts = [block]
        missing = BLOCK_SIZE - len(block)
        while missing and (part := self._read(missing)):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def _read(self, size: int) -> bytes:
        """Read at most ``size`` bytes.

        :raises TypeError: The stream gives anything but bytes.
        """
        piece: t.Any = self._stream.read(size)
        if isinstance(piece, bytes):
            return piece
        if isinstance(piece, bytearray | memoryview):
            return bytes(piece)
        if isinstance(piece, str):
            raise TypeError("the source is a text stream: open it with open(..., 'rb')")
        if isinstance(piece, t.Coroutine):
            piece.close()  # nobody is going to wait for it
        raise TypeError(
            f"the source gives {type(piece).__name__}: its read(size) has to return bytes"
        )


def _was_read(stream: t.Any) -> bool:
    """Tell whether a stream that has nothing to give is at the end of something."""
    try:
        return stream.tell() > 0
    except (AttributeError, OSError, TypeError, ValueError):  # most streams that are no files
        return False


def upload_for(
    settings: Settings,
    kind: type[Media],
    stream: t.BinaryIO,
    *,
    filename: str | None = None,
    mime_type: str | None = None,
    size: int | None = None,
    checksum: str | None = None,
    replaces: bool = False,
) -> Upload:
    """Make an upload of a kind, under the settings of an app.

    The parameters are those of :class:`Upload`.
    """
    return Upload(
        stream,
        filename=filename,
        mime_type=mime_type,
        size=size,
        checksum=checksum,
        policy=settings.policies[kind.kind],
        sniffer=settings.sniffer,
        replaces=replaces,
    )
