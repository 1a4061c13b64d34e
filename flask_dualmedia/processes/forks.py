"""Separation of a forked process from its parent, to which it leaves what it may not use.

A child has copies of all that its parent held: descriptors of sockets, over which it would read
what the parent is answered; locks that nobody will give back, for their threads are not there;
counts that the parent writes down. ``gunicorn --preload``, uWSGI, Celery and ``multiprocessing``
fork after the app was loaded, and perhaps used.

Python tells us of most forks. uWSGI forks without a word, so what goes on a connection asks
:func:`notice_fork` before.

gevent makes another process of it as well, where it patches a worker after the app was loaded: from
then on all threads are greenlets of one. A lock from before stops every one of them when two want
it, and so the one that would release it.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import threading
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from weakref import WeakSet

import sqlalchemy as sa
from sqlalchemy import event, exc

logger = logging.getLogger("flask_dualmedia")

_OPENED_IN = "dualmedia_opened_in"


class Forked(t.Protocol):
    """Something that holds locks, threads or notes of its process."""

    def begin_process(self) -> None:
        """Start afresh in a forked process, which has no thread but this one.

        gevent makes another process too, when it patches one.
        """
        ...


_process = os.getpid()
_lock_type: t.Any = threading.Lock
"""The maker of locks. It is another one after gevent has patched the process."""

_beginning = threading.RLock()
"""Held by the thread that starts afresh.

Greenlets of one thread pass it: they would wait for each other for ever.
"""

_engines: WeakSet[sa.Engine] = WeakSet()
_records: WeakSet[sa.pool.ConnectionPoolEntry] = WeakSet()
_forked: WeakSet[Forked] = WeakSet()
_inherited: list[t.Any] = []
"""Connections that nothing but their end would close, and which must not be closed here."""


def begin_in_children(thing: Forked) -> None:
    """Have ``thing`` start afresh in each forked process, for as long as it lives."""
    _forked.add(thing)


def separate(engine: sa.Engine) -> None:
    """See that no connection of this engine is used in a process that has not opened it.

    The parent goes on with its own: nothing is sent over them, and none is closed for it.
    """
    if engine in _engines or _is_in_memory(engine):
        return
    _engines.add(engine)
    followed_in = os.getpid()

    def remember(_driver: t.Any, record: sa.pool.ConnectionPoolEntry) -> None:
        record.info[_OPENED_IN] = os.getpid()
        _records.add(record)

    def check(driver: t.Any, record: sa.pool.ConnectionPoolEntry, _proxy: t.Any) -> None:
        if record.info.get(_OPENED_IN, followed_in) == os.getpid():
            return
        notice_fork()
        with _dead_socket() as dead:
            _cut_off(driver, dead)
        raise exc.DisconnectionError("the connection is the parent's")  # the pool opens another one

    # Before all others: they may send something.
    event.listen(engine, "connect", remember, insert=True)
    event.listen(engine, "checkout", check, insert=True)


def notice_fork() -> None:
    """Start afresh if this is another process than it was, or one that gevent has patched since."""
    if _is_known():
        return
    with _beginning:
        if not _is_known():
            _begin_process()


def _is_known() -> bool:
    return _process == os.getpid() and _lock_type is threading.Lock


def _begin_process() -> None:
    global _process, _lock_type
    if _process != os.getpid():
        _leave_connections()
    for thing in list(_forked):
        thing.begin_process()
    _process = os.getpid()
    _lock_type = threading.Lock


def _begin_child() -> None:
    """Start afresh in a forked process. Python does this there before anything else."""
    global _beginning
    _beginning = threading.RLock()  # that of the parent may be held by a thread that is not here
    _begin_process()
    _prepare_for_gevent()


def _prepare_for_gevent() -> None:
    """Let gevent patch this process, if it is loaded and has not yet.

    It looks at every object that the garbage collector knows, and fails at a weak reference to one
    that is gone. PyMongo leaves such references behind where a client was used and closed, or its
    threads ended by the fork.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and not monkey.is_module_patched("threading"):
        gc.freeze()  # the collector does not know them any more


def _leave_connections() -> None:
    """Leave what the parent has opened to the parent."""
    with _dead_socket() as dead:
        for record in list(_records):
            if record.driver_connection is not None:
                _cut_off(record.driver_connection, dead)

    for engine in list(_engines):
        try:
            engine.dispose(close=False)  # the pool's locks may be held by threads that are not here
        except Exception:
            # The other pools are emptied all the same, and what is in this one is refused at
            # checkout.
            logger.exception("emptying the pool of a forked process")


@contextmanager
def _dead_socket() -> Iterator[socket.socket]:
    """Open a socket whose other end is closed."""
    near, far = socket.socketpair()
    far.close()
    with near:
        yield near


def _cut_off(driver: t.Any, dead: socket.socket) -> None:
    """Make an inherited connection one whose server is gone.

    To close it would end the parent's session, and so might a statement that is cancelled or rolled
    back in here. So its descriptor gets another socket, and the client library is shown that nobody
    is there.
    """
    try:
        os.dup2(dead.fileno(), driver.fileno(), inheritable=False)
    except Exception:
        # Each driver has errors of its own for a connection that is not over a socket, or was
        # closed already.
        _inherited.append(driver)
        return
    if hasattr(driver, "pgconn"):
        with suppress(Exception):
            driver.pgconn.consume_input()


def _is_in_memory(engine: sa.Engine) -> bool:
    """Whether the connection is the database."""
    if engine.dialect.name != "sqlite":
        return False
    return not isinstance(engine.pool, sa.QueuePool | sa.NullPool)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)
