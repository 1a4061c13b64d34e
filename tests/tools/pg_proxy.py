"""A proxy in front of PostgreSQL that interferes at a statement::

    with PostgresProxy(url) as proxy:
        engine = sa.create_engine(proxy.url)
        held = proxy.hold(r"INSERT INTO product_images")
        ...                        # in another thread, the engine inserts
        held.wait_until_reached()  # the statement has not arrived, and its connection waits
        held.release()             # now it arrives, even if its client has given up

A statement is found by its SQL text, in the simple protocol and in the extended one, prepared and
in pipelines too. Connections are never encrypted: the proxy declines that itself. Requests to
cancel pass, or wait on their own.
"""

from __future__ import annotations

import re
import struct
import typing as t
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from .fault_proxy import Address, Fault, FaultProxy, Request

_CANCEL, _TLS, _GSS = 80877102, 80877103, 80877104  # request codes of the first message
_TRANSACTION = re.compile(r"\s*(BEGIN|START|COMMIT|ROLLBACK(?! TO))\b", re.IGNORECASE)


@dataclass(frozen=True)
class Statement:
    """A message, as patterns match it."""

    sql: str
    transaction: tuple[str, ...] = ()
    """The statements before it in its transaction, as far as the client marks that."""
    is_cancel: bool = False


class PostgresProxy(FaultProxy):
    """Every pattern is a regular expression, searched for in the SQL text without regard to case.

    ``nth`` counts the statements that match, from now on. ``after`` asks for an earlier statement
    of the same transaction: ``hold("COMMIT", after="INSERT INTO product_images")``.

    :param url: Where the server is: SQLAlchemy's URL, of TCP or of a Unix socket.
    """

    def __init__(self, url: str | sa.URL) -> None:
        server_url = sa.make_url(url)
        query = {
            name: value for name, value in server_url.query.items() if name not in ("host", "port")
        }
        super().__init__(_address(server_url))
        self.sqlalchemy_url = server_url.set(host="127.0.0.1", port=self.port, query=query)
        self.url = self.sqlalchemy_url.render_as_string(hide_password=False)
        """For SQLAlchemy."""
        self.cancels = 0
        """Requests to cancel that came."""

    def _protocol(self) -> _PostgresProtocol:
        return _PostgresProtocol(self)

    def hold(
        self, pattern: str, *, nth: int = 1, after: str | None = None, repeated: bool = False
    ) -> Fault:
        """Hold a connection's bytes from a statement on.

        :param repeated: Hold every connection that comes so far, until release.
        """
        return self._add("hold", _matcher(pattern, after), nth, repeated)

    def hold_answer(self, pattern: str, *, nth: int = 1, after: str | None = None) -> Fault:
        """Let the server do it, and hold what it says."""
        return self._add("hold_answer", _matcher(pattern, after), nth)

    def cut_before(self, pattern: str, *, nth: int = 1, after: str | None = None) -> Fault:
        """Break the connection before a statement arrives."""
        return self._add("cut_before", _matcher(pattern, after), nth)

    def cut_after(self, pattern: str, *, nth: int = 1, after: str | None = None) -> Fault:
        """Let the server do it, and break the connection instead of passing on what it says."""
        return self._add("cut_after", _matcher(pattern, after), nth)

    def hold_cancels(self) -> Fault:
        """Hold all requests to cancel."""
        return self._add("hold", lambda statement: statement.is_cancel, repeated=True)


def _address(url: sa.URL) -> Address:
    host = url.host or t.cast(str, url.query.get("host", "127.0.0.1"))
    port = url.port or int(t.cast(str, url.query.get("port", "5432")))
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)


def _matcher(pattern: str, after: str | None) -> t.Callable[[Statement], bool]:
    wanted = re.compile(pattern, re.IGNORECASE)
    earlier = re.compile(after, re.IGNORECASE) if after is not None else None

    def matches(statement: Statement) -> bool:
        if statement.is_cancel or not wanted.search(statement.sql):
            return False
        return earlier is None or any(map(earlier.search, statement.transaction))

    return matches


class _PostgresProtocol:
    """The messages of one connection: PostgreSQL's documentation, chapter "Frontend/Backend
    Protocol"."""

    def __init__(self, proxy: PostgresProxy) -> None:
        self._proxy = proxy
        self._has_started = False
        self._declined = b""
        self._prepared: dict[bytes, str] = {}
        self._fresh: set[bytes] = set()
        """Names of prepared statements that were parsed, and have not run since."""
        self._portals: dict[bytes, str] = {}
        self._transaction: deque[str] = deque(maxlen=100)

    def requests(self, buffer: bytearray) -> Iterator[Request]:
        if not self._has_started:
            yield from self._startup(buffer)
        while self._has_started and len(buffer) >= 5:
            size = 1 + int.from_bytes(buffer[1:5])
            if len(buffer) < size:
                return
            data = bytes(buffer[:size])
            del buffer[:size]
            yield self._request(data)

    def direct_reply(self) -> bytes:
        reply, self._declined = self._declined, b""
        return reply

    def _startup(self, buffer: bytearray) -> Iterator[Request]:
        while not self._has_started and len(buffer) >= 8:
            size, code = struct.unpack_from("!ii", buffer)
            if len(buffer) < size:
                return
            data = bytes(buffer[:size])
            del buffer[:size]
            if code in (_TLS, _GSS):
                self._declined += b"N"
                continue
            self._has_started = True
            if code == _CANCEL:
                self._proxy.cancels += 1
                yield Request(data, begins=Statement("", is_cancel=True))
            else:
                yield Request(data, is_answered=True)

    def _request(self, data: bytes) -> Request:
        match data[:1]:
            case b"Q":
                statement = self._statement(_text(data[5:-1]))
                return Request(data, statement, statement, is_answered=True)
            case b"P":
                name, sql, _ = data[5:].split(b"\0", 2)
                self._prepared[name] = _text(sql)
                self._fresh.add(name)
                return Request(data, begins=self._statement(_text(sql), is_run=False))
            case b"B":
                return self._bind(data)
            case b"E":
                portal = data[5:].split(b"\0", 1)[0]
                return Request(data, runs=self._statement(self._portals.get(portal, "")))
            case b"S" | b"F":
                return Request(data, is_answered=True)
        return Request(data)

    def _bind(self, data: bytes) -> Request:
        end = data.index(b"\0", 5)
        portal, name = data[5:end], data[end + 1 : data.index(b"\0", end + 1)]
        self._portals[portal] = sql = self._prepared.get(name, "")
        if name in self._fresh:  # a part of what began when it was parsed
            self._fresh.discard(name)
            return Request(data)
        return Request(data, begins=self._statement(sql, is_run=False))

    def _statement(self, sql: str, *, is_run: bool = True) -> Statement:
        statement = Statement(sql, tuple(self._transaction))
        if is_run:
            if _TRANSACTION.match(sql):
                self._transaction.clear()
            self._transaction.append(sql)
        return statement

    def replies(self, buffer: bytearray) -> Iterator[tuple[bytes, bool]]:
        """Everything that is whole, cut where the server is ready for the next query."""
        position = 0
        while len(buffer) - position >= 5:
            size = 1 + int.from_bytes(buffer[position + 1 : position + 5])
            is_end = buffer[position] == ord("Z")
            if len(buffer) - position < size:
                break
            position += size
            if is_end:
                yield bytes(buffer[:position]), True
                del buffer[:position]
                position = 0
        if position:
            yield bytes(buffer[:position]), False
            del buffer[:position]


def _text(sql: bytes) -> str:
    return sql.decode(errors="replace")
