"""For tests of hosts and of our own: count queries to both databases, and try a storage class."""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flask import Flask
from pymongo import monitoring
from sqlalchemy import event

from .errors import BytesNotFound
from .models import new_id
from .state import get_state
from .storages.base import Storage, new_key

_BACKGROUND = "dualmedia-"
"""The names of our threads begin with it. Their queries are not those of the code in question."""


def _is_background() -> bool:
    return threading.current_thread().name.startswith(_BACKGROUND)


@dataclass
class QueryLog:
    """The queries while :func:`count_queries` listened."""

    sql: list[str] = field(default_factory=list)
    """SQL statements. The bytes of media are read and written past SQLAlchemy: such statements are
    not among them."""
    mongo: list[str] = field(default_factory=list)
    """MongoDB commands, such as ``find products``."""


@contextmanager
def count_queries(app: Flask | None = None) -> Iterator[QueryLog]:
    """Log the queries of a block, in all threads except ours in the background.

    Import this module before the app is created: MongoDB clients that exist already cannot be
    listened to. ::

        with count_queries() as queries:
            client.get("/products")
        assert (len(queries.sql), len(queries.mongo)) == (1, 1)

    :param app: The app whose SQL statements are logged, by default the current one.
    """
    engine = get_state(app).engine
    log = QueryLog()

    def log_statement(_connection: t.Any, _cursor: t.Any, statement: str, *_: t.Any) -> None:
        if not _is_background():
            log.sql.append(statement)

    if engine is not None:
        event.listen(engine, "before_cursor_execute", log_statement)
    _listener.logs.append(log)
    try:
        yield log
    finally:
        _listener.logs.remove(log)
        if engine is not None:
            event.remove(engine, "before_cursor_execute", log_statement)


class _Listener(monitoring.CommandListener):
    def __init__(self) -> None:
        self.logs: list[QueryLog] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if _is_background():
            return
        collection = event.command.get(event.command_name)
        query = f"{event.command_name} {collection}"
        for log in self.logs:
            log.mongo.append(query)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to do."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to do."""


_listener = _Listener()
monitoring.register(_listener)


def check_storage(storage: Storage) -> None:
    """Try whether a storage keeps the contract of :class:`~flask_dualmedia.storages.base.Storage`.

    What is in it already stays, and what is put there is deleted at the end. ::

        def test_our_storage(tmp_path):
            check_storage(OurStorage(tmp_path))

    :param storage: One that nobody else uses meanwhile.
    :raises AssertionError: It does not keep the contract; the message says where.
    """
    keys = sorted(new_key(new_id()) for _ in range(3))
    try:
        for check in (_check_reading, _check_stats, _check_keys, _check_deleting, _check_breaking):
            check(storage, keys)
    finally:
        for key in keys:
            storage.delete(key)


_CONTENT = bytes(range(256)) * 8192
"""2 MiB."""


def _blocks(content: bytes) -> Iterator[bytes]:
    """Content in blocks of several sizes."""
    start = 0
    for size in (1, 1000, 300_000, len(content)):
        yield content[start : start + size]
        start += size


def _expect(is_kept: bool, rule: str) -> None:
    if not is_kept:
        raise AssertionError(rule)


def _expect_missing(
    storage: Storage,
    key: str,
    stop: int,
    rule: str,
    *,
    on_the_way: bool = False,
) -> None:
    """Expect that the bytes of a range are missed.

    :param on_the_way: It may be noticed after the first piece.
    """
    for read in (storage.open, storage.send):
        try:
            pieces = read(key, 0, stop)
            if on_the_way:
                b"".join(pieces)
        except BytesNotFound:
            continue
        raise AssertionError(rule)


def _check_reading(storage: Storage, keys: list[str]) -> None:
    key = keys[0]
    size = len(_CONTENT)
    # The second time with the same bytes, as a copy that was killed goes on.
    for _ in range(2):
        storage.put(key, _blocks(_CONTENT))
        for start, stop in ((0, size), (0, 1), (1000, 300_001), (size - 1, size), (5, 5)):
            for read in (storage.open, storage.send):
                content = b"".join(read(key, start, stop))
                _expect(
                    content == _CONTENT[start:stop],
                    f"{read.__name__}(key, {start}, {stop}) gives the bytes of that range",
                )
    beyond = "open and send raise BytesNotFound where the bytes end"
    _expect_missing(storage, key, size + 1, beyond, on_the_way=True)
    missing = "open and send raise BytesNotFound at once for a key without bytes"
    _expect_missing(storage, keys[1], 1, missing)


def _check_stats(storage: Storage, keys: list[str]) -> None:
    storage.put(keys[2], iter([b"few bytes"]))
    sizes = {key: stat.size for key, stat in storage.stats(keys).items()}
    _expect(
        sizes == {keys[0]: len(_CONTENT), keys[2]: 9},
        "stats has the size of every key with bytes, and leaves out the others",
    )
    _expect(storage.stats([]) == {}, "stats of no keys is empty")
    beyond = "open and send raise BytesNotFound at once for a short range beyond the end"
    _expect_missing(storage, keys[2], 10, beyond)


def _check_keys(storage: Storage, keys: list[str]) -> None:
    present = list(storage.keys())
    _expect(present == sorted(set(present)), "keys are sorted, and each comes once")
    _expect({keys[0], keys[2]} <= set(present), "keys has every key with bytes")
    behind = [key for key in present if key > keys[0]]
    _expect(list(storage.keys(keys[0])) == behind, "keys(after) has those that sort behind")


def _check_deleting(storage: Storage, keys: list[str]) -> None:
    storage.delete(keys[0])
    storage.delete(keys[1])  # there is nothing, which is no error
    _expect([*storage.stats(keys)] == [keys[2]], "delete takes away the bytes of one key alone")
    _expect_missing(storage, keys[0], 1, "bytes that were deleted are not found")


def _check_breaking(storage: Storage, keys: list[str]) -> None:
    def broken_blocks() -> Iterator[bytes]:
        yield _CONTENT
        raise ConnectionResetError

    try:
        storage.put(keys[1], broken_blocks())
    except ConnectionResetError:
        pass
    else:
        raise AssertionError("an error of the blocks passes through put")
    storage.delete(keys[1])
    _expect(storage.stats([keys[1]]) == {}, "delete takes away what a broken put has left")
    _expect(keys[1] not in [*storage.keys()], "delete takes away what a broken put has left")
