"""A TCP proxy that reads along, and interferes with one request of one connection.

:mod:`tests.tools.pg_proxy` and :mod:`tests.tools.mongo_proxy` say how each protocol is read. Here
    is what can happen to
a request and to its answer:

* ``hold``: the connection's bytes wait from that request on, like packets during a partition. They
  are delivered on release, in order and once, even when the client is gone by then.
* ``hold_answer``: the server does what was asked for, and its answer waits.
* ``cut_before``: the connection breaks, and the request never arrives.
* ``cut_after``: the server does what was asked for, and the connection breaks instead of the
  answer.

New connections pass meanwhile. The whole proxy can refuse, pause or swallow everything.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import typing as t
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""

Action = t.Literal["hold", "hold_answer", "cut_before", "cut_after"]

_PIECE_SIZE = 256 * 1024
_BACKLOG_SIZE = 256 * 1024 * 1024  # bytes that a held connection keeps before its client must wait
_CONNECT_TIMEOUT = 10.0  # seconds
_TICK = 0.1  # seconds after which a blocked connection notices a change
_HOLD_TICK = 0.05


@dataclass(frozen=True)
class Request:
    """One message of a client, whole."""

    data: bytes
    begins: t.Any = None
    """The statement whose first message this is, as the protocol describes it."""
    runs: t.Any = None
    """The statement that this message executes."""
    is_answered: bool = False
    """Whether the server ends an answer because of it."""


class Protocol(t.Protocol):
    """How one connection is read. Both methods take whole messages from the front of a buffer."""

    def requests(self, buffer: bytearray) -> Iterator[Request]: ...

    def replies(self, buffer: bytearray) -> Iterator[tuple[bytes, bool]]:
        """Bytes of the server, and whether an answer ends with them."""
        ...

    def direct_reply(self) -> bytes:
        """Bytes that the client is sent without asking the server, after its last request."""
        ...


class Fault:
    """Something that happens to a request once it comes; afterwards to no other, unless it is to be
    repeated."""

    def __init__(
        self,
        proxy: FaultProxy,
        action: Action,
        matches: Callable[[t.Any], bool],
        nth: int,
        repeated: bool,
    ) -> None:
        self.action: Action = action
        self.is_repeated = repeated
        self._proxy, self._matches, self._before = proxy, matches, nth - 1
        self._reached, self.released = threading.Event(), threading.Event()

    @property
    def reached(self) -> bool:
        """Whether it has happened: the request is held, its whole answer is held, or the connection
        is cut."""
        return self._reached.is_set()

    def wait_until_reached(self, timeout: float = 10.0) -> None:
        """:raises TimeoutError: No such request came, or no answer to it."""
        if not self._reached.wait(timeout):
            raise TimeoutError(f"nothing to {self.action} within {timeout} seconds")

    def release(self) -> None:
        """Deliver what is held. A fault that was not reached is called off."""
        self._proxy._forget(self)
        self.released.set()

    def mark_reached(self) -> None:
        self._reached.set()

    def is_hit_by(self, request: Request) -> bool:
        is_early = self.action in ("hold", "cut_before")
        statement = request.begins if is_early else request.runs
        if statement is None or not self._matches(statement):
            return False
        if self._before > 0:
            self._before -= 1
            return False
        return True

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


class FaultProxy:
    """Listens from the start, on a port of its own; close it after use, or use it as a context
    manager.

    :param target: Where the server is, which may be down.
    """

    def __init__(self, target: Address) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._connections: set[_Connection] = set()
        self._passing = threading.Event()
        self._passing.set()
        self._closed = self._swallows = False
        self._listener: socket.socket | None = None
        self.port = self._listen(0)

    def _protocol(self) -> Protocol:
        raise NotImplementedError

    # Faults of one request

    def _add(
        self, action: Action, matches: Callable[[t.Any], bool], nth: int = 1, repeated: bool = False
    ) -> Fault:
        fault = Fault(self, action, matches, nth, repeated)
        with self._lock:
            self._faults.append(fault)
        return fault

    def _forget(self, fault: Fault) -> None:
        with self._lock, suppress(ValueError):
            self._faults.remove(fault)

    def _fault_for(self, request: Request) -> Fault | None:
        if not self._faults:
            return None
        with self._lock:
            due = [
                fault for fault in self._faults if fault.is_hit_by(request)
            ]  # each of them counts
            if not due:
                return None
            if not due[0].is_repeated:
                self._faults.remove(due[0])
            return due[0]

    # Faults of all connections

    def pause(self) -> None:
        """Let nothing pass in either direction, and deliver it later. New connections are accepted,
        and wait."""
        self._passing.clear()

    def black_hole(self) -> None:
        """Swallow everything. A connection that lost something breaks when the black hole ends."""
        self._swallows = True

    def refuse(self) -> None:
        """Refuse new connections, and reset those that there are."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.reset()

    def reset(self) -> None:
        """Reset every connection that there is, held ones too."""
        for connection in self.connections:
            connection.abort()

    def pass_through(self) -> None:
        """End :meth:`pause`, :meth:`black_hole` and :meth:`refuse`."""
        self._swallows = False
        for connection in self.connections:
            if connection.lost_something:
                connection.abort()
        self._passing.set()
        if self._listener is None:
            self._listen(self.port)

    def close(self) -> None:
        self._closed = True
        self.refuse()
        self._passing.set()

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def connections(self) -> list[_Connection]:
        """Those that are open at either end."""
        with self._lock:
            return list(self._connections)

    def _listen(self, port: int) -> int:
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._listener = listener
        threading.Thread(
            target=self._accept, args=(listener,), name="fault-proxy", daemon=True
        ).start()
        return listener.getsockname()[1]

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # closed meanwhile
                return
            connection = _Connection(self, client, self._protocol())
            with self._lock:
                self._connections.add(connection)
            threading.Thread(
                target=connection.serve, name="fault-proxy-connection", daemon=True
            ).start()

    def _connect(self) -> socket.socket:
        if isinstance(self._target, tuple):
            server = socket.create_connection(self._target, _CONNECT_TIMEOUT)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return server
        server = socket.socket(socket.AF_UNIX)
        try:
            server.settimeout(_CONNECT_TIMEOUT)
            server.connect(self._target)
        except OSError:
            server.close()
            raise
        return server


class _Aborted(Exception):
    """The connection is to be reset."""


class _End:
    """One end of a connection, whose bytes can be kept while they may not pass."""

    def __init__(self, connection: _Connection, end: socket.socket) -> None:
        self._connection, self._socket = connection, end
        self._backlog: deque[bytes] = deque()
        self._is_over = False
        end.settimeout(_TICK)

    def read(self) -> bytes | None:
        """The next bytes; none when it is closed, and ``None`` when there was nothing for a
        while."""
        self._connection.check()
        if self._backlog:
            return self._backlog.popleft()
        if self._is_over:
            return b""
        try:
            return self._socket.recv(_PIECE_SIZE)
        except TimeoutError:
            return None
        except OSError:
            return b""

    def wait(self, gate: threading.Event) -> None:
        """Wait for something else. What comes meanwhile is kept: a client that goes away takes
        nothing back."""
        while not gate.wait(_HOLD_TICK):
            self._connection.check()
            is_full = sum(map(len, self._backlog)) > _BACKLOG_SIZE
            if self._is_over or is_full or not select.select([self._socket], [], [], 0)[0]:
                continue
            try:
                piece = self._socket.recv(_PIECE_SIZE)
            except OSError:
                piece = b""
            self._is_over = not piece
            if piece:
                self._backlog.append(piece)
        self._connection.check()

    def write(self, data: bytes | bytearray) -> None:
        """:raises OSError: The other side is gone."""
        rest = memoryview(data)
        while rest:
            self._connection.check()
            with suppress(TimeoutError):
                rest = rest[self._socket.send(rest) :]

    def end_writing(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def wake(self) -> None:
        """End a read that waits, without telling the other side."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)


class _Connection:
    """One client and its connection to the server: a thread for each direction."""

    def __init__(self, proxy: FaultProxy, client: socket.socket, protocol: Protocol) -> None:
        self._proxy, self._client_socket, self._protocol = proxy, client, protocol
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = _End(self, client)
        self._server: _End | None = None
        self._is_aborted = False
        self._answers_due = self._answers_passed = 0
        self._answer_faults: dict[int, Fault] = {}
        """The fates of answers, by their number."""
        self._is_client_gone = False
        self.lost_something = False

    def check(self) -> None:
        if self._is_aborted:
            raise _Aborted

    def abort(self) -> None:
        """Close both sides, the client's with a reset."""
        self._is_aborted = True
        for end in (self._client, self._server):
            if end is not None:
                end.wake()

    def serve(self) -> None:
        server_socket = None
        try:
            while self._proxy._swallows:
                self.lost_something = True
                self._client.wait(threading.Event())
            self._client.wait(self._proxy._passing)
            server_socket = self._proxy._connect()
            self._server = _End(self, server_socket)
            answers = threading.Thread(target=self._guard, args=(self._pass_answers,), daemon=True)
            answers.start()
            self._guard(self._pass_requests)
            answers.join()
        except (OSError, _Aborted):
            self._is_aborted = True
        finally:
            if self._is_aborted:
                with suppress(OSError):
                    linger = struct.pack("ii", 1, 0)
                    self._client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._client_socket.close()
            if server_socket is not None:
                server_socket.close()
            with self._proxy._lock:
                self._proxy._connections.discard(self)

    def _guard(self, direction: Callable[[_End], None]) -> None:
        assert self._server is not None
        try:
            direction(self._server)
        except (OSError, _Aborted):
            self.abort()

    def _pass_requests(self, server: _End) -> None:
        buffer = bytearray()
        while (piece := self._client.read()) != b"":
            if piece is None:
                continue
            if self._proxy._swallows or self.lost_something:
                self.lost_something = True
                continue
            buffer += piece
            outgoing = bytearray()
            for request in self._protocol.requests(buffer):
                if fault := self._proxy._fault_for(request):
                    self._send(server, outgoing)
                    outgoing = bytearray()
                    self._meet(fault)
                self._answers_due += request.is_answered
                outgoing += request.data
            self._send(server, outgoing)
            if reply := self._protocol.direct_reply():
                self._client.write(reply)
        self._send(server, buffer)
        server.end_writing()

    def _send(self, server: _End, data: bytearray) -> None:
        if data:
            self._client.wait(self._proxy._passing)
            server.write(data)

    def _meet(self, fault: Fault) -> None:
        """Begin a fault before its request is passed on."""
        if fault.action == "cut_before":
            self.abort()
            fault.mark_reached()
            self.check()
        elif fault.action == "hold":
            fault.mark_reached()
            self._client.wait(fault.released)
        else:
            self._answer_faults[self._answers_due] = fault

    def _pass_answers(self, server: _End) -> None:
        buffer, outgoing, held = bytearray(), bytearray(), bytearray()
        while (piece := server.read()) != b"":
            if self._proxy._swallows or self.lost_something:
                self.lost_something = True
                continue
            buffer += piece or b""
            for data, is_end in self._protocol.replies(buffer):
                number = self._answers_passed
                self._answers_passed += is_end
                if number not in self._answer_faults:
                    outgoing += data
                    continue
                held += data
                if is_end:
                    self._deliver(server, outgoing)
                    self._finish(server, self._answer_faults.pop(number))
                    outgoing, held = held, bytearray()
            self._deliver(server, outgoing)
            outgoing = bytearray()
        self._deliver(server, buffer)
        self._client.end_writing()

    def _deliver(self, server: _End, data: bytearray) -> None:
        if not data or self._is_client_gone:
            return
        server.wait(self._proxy._passing)
        try:
            self._client.write(data)
        except OSError:  # the server goes on with what the client has sent
            self._is_client_gone = True

    def _finish(self, server: _End, fault: Fault) -> None:
        """Go on with a fault when its answer is there to the end."""
        if fault.action == "cut_after":
            self.abort()
            fault.mark_reached()
            self.check()
        fault.mark_reached()
        server.wait(fault.released)
