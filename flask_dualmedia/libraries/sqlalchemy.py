"""Uses of SQLAlchemy beyond what it documents."""

from __future__ import annotations

import typing as t

import sqlalchemy as sa
from sqlalchemy.orm import InstanceState, Mapper, registry
from sqlalchemy.orm.attributes import manager_of_class

LOGGER_OF_POOLS = f"{sa.QueuePool.__module__}.{sa.QueuePool.__name__}"
"""The logger of SQLAlchemy's own pools."""


class QuietMapper(Mapper[t.Any]):
    """A mapper that listeners to all mappers of the process, such as a host's, do not hear of."""

    _sa_propagate_class_events = False


class LateState:
    """``_sa_instance_state``, in which SQLAlchemy looks for what it knows of an instance.

    It is made when SQLAlchemy looks. To make and to forget it takes as long as all the rest of a
    record, and for most records nobody asks for it.
    """

    def __get__(self, record: t.Any, owner: type[t.Any]) -> InstanceState[t.Any]:
        if record is None:
            raise AttributeError
        state = InstanceState(record, manager_of_class(owner))
        vars(record)["_sa_instance_state"] = state
        return state


def make_ready(models: registry) -> None:
    """Make the attributes of models ready, without telling anybody.

    SQLAlchemy does that when a mapper is used first. If the registry did it, it would tell every
    listener in the process that all mappers are configured.
    """
    models._new_mappers = False
    for mapper in models.mappers:
        mapper._post_configure_properties()


class QuietPool(sa.QueuePool):
    """A pool whose lines are in the log of SQLAlchemy's own pools.

    SQLAlchemy names the logger by the module, so that they would be in ours. A host asks for ours
    at INFO, and for those of pools seldom.
    """

    _sqla_logger_namespace = LOGGER_OF_POOLS


class LastUsedFirst(QuietPool):
    """A pool that lends the connection that was used last: its server process is the fastest.

    A place whose connection was lost goes behind all others. The pool tries it again when nothing
    else is left.
    """

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **{**kwargs, "use_lifo": True})

    def _do_return_conn(self, record: t.Any) -> None:
        if record.dbapi_connection is not None:
            super()._do_return_conn(record)
            return

        queue = t.cast("t.Any", self._pool)
        with queue.mutex:
            if queue.maxsize <= 0 or len(queue.queue) < queue.maxsize:
                queue.queue.appendleft(record)
                queue.not_empty.notify()
                return
        super()._do_return_conn(record)


def max_overflow_of(pool: sa.QueuePool) -> int:
    """How many connections a pool opens beyond its size; below 0 any number."""
    return pool._max_overflow


def bare_pool(engine: sa.Engine) -> sa.NullPool:
    """A pool that connects as an engine does, and of whose connections its listeners do not hear.

    It keeps none of them.
    """
    return sa.NullPool(engine.pool._creator)
