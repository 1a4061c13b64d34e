"""The tricks with PyMongo, on the one that is installed."""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Iterator

import pytest
from pymongo import MongoClient, monitoring

from flask_dualmedia.libraries.pymongo import duplicate, renew

from ..conftest import ServerUrls


class Connections(monitoring.ConnectionPoolListener):
    """Counts the connections that are opened to run commands."""

    opened = 0

    def connection_created(self, event: t.Any) -> None:
        self.opened += 1

    def ignore(self, event: t.Any) -> None:
        pass

    pool_created = pool_ready = pool_cleared = pool_closed = ignore
    connection_ready = connection_closed = ignore
    connection_check_out_started = connection_check_out_failed = ignore
    connection_checked_out = connection_checked_in = ignore


@pytest.fixture
def connections() -> Connections:
    return Connections()


@pytest.fixture
def client(servers: ServerUrls, connections: Connections) -> Iterator[MongoClient[t.Any]]:
    with MongoClient(servers.mongo, event_listeners=[connections], appname="host") as client:
        yield client


def answers(client: MongoClient[t.Any]) -> bool:
    """Whether a command is answered before long."""
    answer: list[t.Any] = []
    thread = threading.Thread(
        target=lambda: answer.append(client.admin.command("ping")), daemon=True
    )
    thread.start()
    thread.join(10)
    return bool(answer)


def test_a_renewed_client_uses_neither_locks_nor_connections_from_before(
    client: MongoClient[t.Any], connections: Connections
) -> None:
    """In a forked process both are those of the process before. A lock may be held there for
    ever."""
    assert answers(client)
    assert connections.opened == 1
    topology, lock = client._topology, vars(client)["_lock"]
    with lock:
        renew(client)
        assert answers(client)
    assert connections.opened == 2
    topology.close()


def test_a_duplicate_is_another_client_with_the_same_options(
    client: MongoClient[t.Any], connections: Connections
) -> None:
    assert answers(client)
    other = duplicate(client)
    assert other is not None
    assert connections.opened == 1
    with other:
        assert answers(other)
        assert other.options.pool_options.appname == "host"
        assert connections.opened == 2
    assert answers(client)


def test_a_stand_in_for_a_client_is_left_as_it_is() -> None:
    class StandIn:
        def __init__(self) -> None:
            self._lock = "its own"

    client = t.cast("MongoClient[t.Any]", StandIn())
    renew(client)
    assert vars(client) == {"_lock": "its own"}
    assert duplicate(client) is None
