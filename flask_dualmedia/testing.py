"""Count the queries of a piece of code to both databases, in tests of hosts and of our own."""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from flask import Flask
from pymongo import monitoring
from sqlalchemy import event

from .state import get_state

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
