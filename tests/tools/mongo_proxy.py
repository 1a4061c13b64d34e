"""A proxy in front of a MongoDB server that interferes at a command::

    with MongoProxy(uri) as proxy:
        client = pymongo.MongoClient(proxy.uri)
        held = proxy.hold("insert:product_images")

A command is found by its name and collection, and by a pattern in its content if one is given.
Every message of the driver's protocol (OP_MSG) is read; compressed ones are not, so a URI with
``compressors`` is refused.
"""

from __future__ import annotations

import re
import struct
import typing as t
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import bson
from bson.codec_options import CodecOptions
from pymongo import uri_parser

from .fault_proxy import Fault, FaultProxy, Request

_OP_MSG = 2013
_CHECKSUM, _MORE_TO_COME = 1, 2  # flags
_OPTIONS: CodecOptions[dict[str, t.Any]] = CodecOptions(unicode_decode_error_handler="replace")


@dataclass(frozen=True)
class Command:
    """A message, as patterns match it."""

    data: bytes
    """The whole message."""

    @property
    def label(self) -> str:
        """Name and collection: ``insert:product_images``."""
        document = next(self._documents(), {})
        name = next(iter(document), "")
        collection = document.get("collection") if name == "getMore" else document.get(name)
        return f"{name}:{collection}" if isinstance(collection, str) else name

    @property
    def content(self) -> str:
        """The command and the documents that it carries, as Python shows them."""
        return "\n".join(map(repr, self._documents()))

    def _documents(self) -> Iterator[dict[str, t.Any]]:
        (flags,) = struct.unpack_from("<I", self.data, 16)
        position, end = 20, len(self.data) - (4 if flags & _CHECKSUM else 0)
        sections: list[tuple[int, int, int]] = []
        while position < end:
            (size,) = struct.unpack_from("<i", self.data, position + 1)
            sections.append((self.data[position], position + 1, position + 1 + size))
            position += 1 + size
        for kind, start, stop in sorted(sections):  # the command itself comes first
            if kind == 1:
                start = self.data.index(b"\0", start + 4) + 1
            yield from bson.decode_iter(self.data[start:stop], _OPTIONS)


class MongoProxy(FaultProxy):
    """A command is named ``insert:product_images``, or ``insert`` for all collections; both are
    regular expressions for the whole name. ``containing`` is one that is searched for in the
    command and its documents, as ``repr`` shows them. ``nth`` counts the commands that match, from
    now on.

    :param uri: Where the server is: one host.
    """

    def __init__(self, uri: str) -> None:
        parsed = uri_parser.parse_uri(uri)
        if len(parsed["nodelist"]) != 1 or "compressors" in parsed["options"]:
            raise ValueError("a proxy stands before one server, and reads no compressed messages")
        super().__init__(parsed["nodelist"][0])
        self.uri = self._through(uri)
        """For the driver."""

    def _through(self, uri: str) -> str:
        parts = urllib.parse.urlsplit(uri)
        user, at, _ = parts.netloc.rpartition("@")
        options = dict(urllib.parse.parse_qsl(parts.query))
        options["directConnection"] = (
            "true"  # otherwise a driver asks the server for its address, and goes there
        )
        netloc = f"{user}{at}127.0.0.1:{self.port}"
        return parts._replace(
            netloc=netloc, path=parts.path or "/", query=urllib.parse.urlencode(options)
        ).geturl()

    def _protocol(self) -> _MongoProtocol:
        return _MongoProtocol()

    def hold(
        self, command: str, *, containing: str | None = None, nth: int = 1, repeated: bool = False
    ) -> Fault:
        """Hold a connection's bytes from a command on.

        :param repeated: Hold every connection that comes so far, until release.
        """
        return self._add("hold", _matcher(command, containing), nth, repeated)

    def hold_answer(self, command: str, *, containing: str | None = None, nth: int = 1) -> Fault:
        """Let the server do it, and hold what it says."""
        return self._add("hold_answer", _matcher(command, containing), nth)

    def cut_before(self, command: str, *, containing: str | None = None, nth: int = 1) -> Fault:
        """Break the connection before a command arrives."""
        return self._add("cut_before", _matcher(command, containing), nth)

    def cut_after(self, command: str, *, containing: str | None = None, nth: int = 1) -> Fault:
        """Let the server do it, and break the connection instead of passing on what it says."""
        return self._add("cut_after", _matcher(command, containing), nth)


def _matcher(command: str, containing: str | None) -> Callable[[Command], bool]:
    wanted = re.compile(command)
    content = re.compile(containing) if containing is not None else None

    def matches(sent: Command) -> bool:
        label = sent.label
        if not wanted.fullmatch(label) and not wanted.fullmatch(label.partition(":")[0]):
            return False
        return content is None or content.search(sent.content) is not None

    return matches


class _MongoProtocol:
    """The messages of one connection: MongoDB's documentation, "MongoDB Wire Protocol"."""

    def requests(self, buffer: bytearray) -> Iterator[Request]:
        for data, flags in _messages(buffer):
            command = Command(data) if flags is not None else None
            yield Request(data, command, command, is_answered=not (flags or 0) & _MORE_TO_COME)

    def replies(self, buffer: bytearray) -> Iterator[tuple[bytes, bool]]:
        for data, flags in _messages(buffer):
            yield data, not (flags or 0) & _MORE_TO_COME

    def direct_reply(self) -> bytes:
        return b""


def _messages(buffer: bytearray) -> Iterator[tuple[bytes, int | None]]:
    """Whole messages, and the flags of those that are OP_MSG."""
    while len(buffer) >= 21:
        size, _, _, operation = struct.unpack_from("<iiii", buffer)
        if len(buffer) < size:
            return
        data = bytes(buffer[:size])
        del buffer[:size]
        yield data, struct.unpack_from("<I", data, 16)[0] if operation == _OP_MSG else None
