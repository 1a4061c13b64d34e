"""Messages between a worker and the child that decodes for it: a kind, a length, a payload."""

from __future__ import annotations

import socket
import struct

JOB = b"J"
"""To the child: its task, as JSON."""
READ = b"R"
"""To the parent: a range of the source."""
DATA = b"D"
"""To the child: the bytes of that range."""
WRITE = b"W"
"""To the parent: bytes for a sink, behind its number."""
PROGRESS = b"P"
"""To the parent: the part of the work that is done, from 0 to 1."""
RESULT = b"S"
"""To the parent, once: the result, as JSON."""
FAILURE = b"F"
"""To the parent, once: the code and the message of an error, as JSON."""

RANGE = struct.Struct("!QQ")
SINK = struct.Struct("!H")
FRACTION = struct.Struct("!d")

MAX_PAYLOAD = 8 * 1024 * 1024
"""Bytes that one message has at most."""

_HEADER = struct.Struct("!cI")
_PIECE = 256 * 1024


class Broken(Exception):
    """The other side does not keep to the form of messages."""


class Channel:
    """One end of a connected pair of sockets."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._received = bytearray()

    def send(self, kind: bytes, *payload: bytes | memoryview, timeout: float | None = None) -> None:
        """Send a message whole.

        :raises TimeoutError: The other side did not take it in time; the channel is of no use then.
        """
        length = sum(len(part) for part in payload)
        self._socket.settimeout(timeout)
        self._socket.sendall(_HEADER.pack(kind, length))
        for part in payload:
            self._socket.sendall(part)

    def receive(self, timeout: float | None = None) -> tuple[bytes, bytes] | None:
        """The next message; ``None`` if no whole one came in time. A later call goes on with it.

        :raises EOFError: The other side is gone.
        :raises Broken: What came is no message.
        """
        self._socket.settimeout(timeout)
        while (message := self._next_message()) is None:
            try:
                piece = self._socket.recv(_PIECE)
            except TimeoutError:
                return None
            except ConnectionError as error:
                raise EOFError from error
            if not piece:
                raise EOFError
            self._received += piece
        return message

    def _next_message(self) -> tuple[bytes, bytes] | None:
        received = self._received
        if len(received) < _HEADER.size:
            return None

        kind, length = _HEADER.unpack_from(received)
        if length > MAX_PAYLOAD:
            raise Broken(f"a message of {length} bytes")
        end = _HEADER.size + length
        if len(received) < end:
            return None

        payload = bytes(received[_HEADER.size : end])
        del received[:end]
        return kind, payload
