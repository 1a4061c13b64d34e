"""A TCP proxy that breaks connections on demand."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections import deque
from contextlib import suppress

import sqlalchemy as sa

_PIECE = 64 * 1024
_TICK = 0.1  # seconds after which a connection takes notice of a change

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""


class Proxy:
    """Passes connections on to a server, or spoils them. Listens from the start; close it after
    use.

    :param target: Where the server is, which may be down.
    """

    def __init__(self, target: Address) -> None:
        self._target = target
        self._closed = self._hangs = False
        self._generation = 0
        self._cuts: deque[int] = deque()
        self._request_cut: int | None = None
        self._answer_cut: int | None = None
        self._listener: socket.socket | None = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def let_through(self) -> None:
        """Be a plain proxy again."""
        self._hangs = False
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))

    def hang(self) -> None:
        """Swallow everything: connections are accepted, and nothing moves in either direction."""
        self._hangs = True

    def refuse(self) -> None:
        """Refuse new connections, and reset those that there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.reset()

    def reset(self) -> None:
        """Reset every connection that there is."""
        self._generation += 1

    def cut_next(self, after: int) -> None:
        """Reset one of the next connections when so many bytes of the client were passed on, in
        mid-body as a rule."""
        self._cuts.append(after)

    def cut_request(self, after: int) -> None:
        """End the first connection, old or new, of whose client so many bytes were passed on."""
        self._request_cut = after

    def cut_answer(self, after: int) -> None:
        """End the first connection, old or new, of whose server so many bytes were passed on."""
        self._answer_cut = after

    @property
    def is_calm(self) -> bool:
        """Tell whether every cut of a request or an answer has happened."""
        return self._request_cut is None and self._answer_cut is None

    def close(self) -> None:
        self._closed = True
        self.refuse()

    def _accept(self) -> None:
        while not self._closed:
            listener = self._listener
            if listener is None:
                threading.Event().wait(_TICK)
                continue
            try:
                connection, _ = listener.accept()
            except OSError:  # closed meanwhile
                continue
            threading.Thread(
                target=self._serve, args=(connection,), name="proxy-connection", daemon=True
            ).start()

    def _serve(self, client: socket.socket) -> None:
        generation = self._generation
        with client, suppress(OSError):
            try:
                server = self._connect()
            except OSError:
                return _abort(client)
            with server:
                self._pump(client, server, generation)
        return None

    def _connect(self) -> socket.socket:
        if isinstance(self._target, tuple):
            return socket.create_connection(self._target, timeout=10)
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._target)
        return server

    def _pump(self, client: socket.socket, server: socket.socket, generation: int) -> None:
        client.settimeout(30)
        server.settimeout(30)
        passed, answered, cut_after = 0, 0, self._cuts.popleft() if self._cuts else None
        while True:
            ready, _, _ = select.select([client, server], [], [], _TICK)
            if self._generation != generation:
                return _abort(client)
            if self._hangs:
                threading.Event().wait(_TICK)
                continue
            for source in ready:
                try:
                    piece = source.recv(_PIECE)
                    (server if source is client else client).sendall(piece)
                except OSError:
                    return _abort(client)
                if not piece:
                    return None
                passed += len(piece) if source is client else 0
                answered += len(piece) if source is server else 0
            if self._request_cut is not None and passed >= self._request_cut:
                self._request_cut = None
                return _end(client, server)
            if self._answer_cut is not None and answered >= self._answer_cut:
                self._answer_cut = None
                return _end(client, server)
            if cut_after is not None and passed >= cut_after:
                _abort(server)
                return _abort(client)


def through(url: str, proxy: Proxy) -> str:
    """The URL of a PostgreSQL database, by way of a proxy."""
    proxied = sa.make_url(url).set(host="127.0.0.1", port=proxy.port, query={})
    return proxied.render_as_string(hide_password=False)


def _end(*connections: socket.socket) -> None:
    """Close in order, as a proxy does that gives up: what was passed on arrives."""
    for connection in connections:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
    for connection in connections:
        with suppress(OSError):
            while connection.recv(_PIECE):
                pass


def _abort(connection: socket.socket) -> None:
    """Close with a reset instead of an orderly end."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
