"""A client that costs little: prepared requests on a connection that is kept, and answers whose
bytes are thrown away unless they are asked for. It understands what the contenders answer, and no
more."""

from __future__ import annotations

import json
import socket
import time
import typing as t

SIZE = 1024 * 1024


class Answer(t.NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    """Empty unless it was to be kept."""
    size: int

    def json(self) -> t.Any:
        return json.loads(self.body)


class Client:
    """One connection to one server, opened again where the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port, self._socket = port, None
        self._buffer = bytearray(SIZE)

    def ask(
        self, head: bytes, body: bytes = b"", *, keep: bool = False, pause: float = 0
    ) -> Answer:
        """Send a request and read the answer.

        :param pause: Seconds to wait before each piece of the answer is read: a slow reader.
        """
        try:
            return self._ask(head, body, keep, pause)
        except (ConnectionError, EOFError):  # it was idle for longer than the server likes
            self.close()
            return self._ask(head, body, keep, pause)

    def open(self) -> None:
        self.close()
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=300)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self, head: bytes, body: bytes, keep: bool, pause: float) -> Answer:
        if self._socket is None:
            self.open()
        assert self._socket is not None
        if len(body) < SIZE:
            self._socket.sendall(head + body)
        else:
            self._socket.sendall(head)
            self._socket.sendall(body)
        status, headers, rest = self._read_head(self._socket)
        parts, got, size = [rest] if keep else [], len(rest), int(headers.get("content-length", 0))
        while got < size:
            if pause:
                time.sleep(pause)
            count = self._socket.recv_into(self._buffer, min(SIZE, size - got))
            if not count:
                raise EOFError(f"{got} of {size} bytes came")
            if keep:
                parts.append(bytes(self._buffer[:count]))
            got += count
        if headers.get("connection") == "close":
            self.close()
        return Answer(status, headers, b"".join(parts), size)

    def _read_head(self, connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
        received = b""
        while b"\r\n\r\n" not in received:
            part = connection.recv(65536)
            if not part:
                raise EOFError("no answer")
            received += part
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        return int(first.split(" ", 2)[1]), {name.lower(): value for name, _, value in pairs}, rest


def request(
    method: str, path: str, body: bytes = b"", headers: t.Mapping[str, str] | None = None
) -> bytes:
    """The head of a request."""
    given = dict(headers or {})
    if body or method in ("POST", "PUT"):
        given["Content-Length"] = str(len(body))
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: 127.0.0.1",
        *(f"{name}: {value}" for name, value in given.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()
