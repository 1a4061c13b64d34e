"""Uses of PyMongo beyond what it documents.

Hosts may have a stand-in for its client in their tests, which has nothing of that.
"""

from __future__ import annotations

import threading
import typing as t

from pymongo import MongoClient


def renew(client: MongoClient[t.Any]) -> None:
    """Renew the locks and threads of a client in a forked process, as PyMongo does when Python
    tells it of the fork."""
    after_fork = getattr(client, "_after_fork", None)
    if after_fork is None:
        return
    if "_lock" in vars(client):
        vars(client)["_lock"] = threading.Lock()
    after_fork()


def duplicate(client: MongoClient[t.Any]) -> MongoClient[t.Any] | None:
    """Another client with the same options, which connects when it is used; ``None`` if the client
    is a stand-in."""
    make = getattr(client, "_duplicate", None)
    if make is None:
        return None
    return make(connect=False)
