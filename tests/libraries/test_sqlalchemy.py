"""The tricks with SQLAlchemy, on the one that is installed."""

from __future__ import annotations

import logging
import sqlite3
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, Session, mapped_column

from flask_dualmedia.libraries.sqlalchemy import (
    LOGGER_OF_POOLS,
    LastUsedFirst,
    LateState,
    QuietMapper,
    QuietPool,
    bare_pool,
    make_ready,
    max_overflow_of,
)

EVENTS_OF_MAPPERS = (
    "instrument_class",
    "after_mapper_constructed",
    "before_mapper_configured",
    "mapper_configured",
)


@contextmanager
def heard(*names: str) -> Iterator[list[str]]:
    """What a listener to all mappers of the process hears."""
    told: list[str] = []
    listeners = {name: lambda *args, name=name: told.append(name) for name in names}
    for name, listener in listeners.items():
        event.listen(Mapper, name, listener)
    yield told
    for name, listener in listeners.items():
        event.remove(Mapper, name, listener)


def make_model(mapper: type[Mapper[t.Any]], **members: t.Any) -> t.Any:
    """A model with a base of its own."""

    class Base(DeclarativeBase):
        __mapper_cls__ = mapper

    class Note(Base):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]
        vars().update(members)

    return Note


def use(model: t.Any) -> None:
    """What configures mappers, where nothing has done it before."""
    str(sa.select(model))
    sa.inspect(model(id=1))


def test_listeners_to_all_mappers_do_not_hear_of_a_quiet_one() -> None:
    with heard(*EVENTS_OF_MAPPERS) as told:
        use(make_model(QuietMapper))
        assert told == []
        use(make_model(Mapper))
        assert told == list(EVENTS_OF_MAPPERS)


def test_models_are_made_ready_without_telling_that_all_are() -> None:
    announcements = ("before_configured", "after_configured")
    with heard(*announcements) as told:
        ready = make_model(QuietMapper)
        make_ready(ready.registry)
        use(ready)
        assert told == []
        use(make_model(QuietMapper))
        assert told == list(announcements)


def made_past_the_constructor(model: t.Any) -> t.Any:
    note = model.__new__(model)
    vars(note).update(id=1, text="a")
    return note


def test_attributes_of_models_that_are_ready_can_be_read_past_the_constructor() -> None:
    model = make_model(QuietMapper, _sa_instance_state=LateState())
    make_ready(model.registry)
    assert made_past_the_constructor(model).text == "a"


def test_the_state_of_an_instance_is_made_when_sqlalchemy_looks() -> None:
    model = make_model(QuietMapper, _sa_instance_state=LateState())
    make_ready(model.registry)
    note = made_past_the_constructor(model)
    assert note.text == "a"
    assert vars(note) == {"id": 1, "text": "a"}

    engine = sa.create_engine("sqlite://")
    model.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(note)
        assert sa.inspect(note).pending
        note.text = "b"
        session.flush()
        assert session.execute(sa.text("SELECT id, text FROM notes")).all() == [(1, "b")]
    engine.dispose()


def memory() -> t.Any:
    return sqlite3.connect(":memory:", check_same_thread=False)


def use_pool(pool: sa.Pool) -> None:
    pool.connect().close()
    pool.dispose()


def test_a_pool_of_ours_writes_into_the_log_of_sqlalchemys(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A pool of a host's writes into the log of the module that it is in."""

    class PoolOfAHost(sa.QueuePool):
        pass

    for name in ("sqlalchemy.pool", "flask_dualmedia", __name__):
        caplog.set_level(logging.DEBUG, name)

    def loggers(pool: sa.Pool) -> set[str]:
        caplog.clear()
        use_pool(pool)
        return {record.name for record in caplog.records}

    assert loggers(sa.QueuePool(memory)) == {LOGGER_OF_POOLS}
    assert loggers(QuietPool(memory)) == {LOGGER_OF_POOLS}
    assert loggers(LastUsedFirst(memory)) == {LOGGER_OF_POOLS}
    assert loggers(PoolOfAHost(memory)) == {f"{__name__}.PoolOfAHost"}


def test_a_lost_connection_is_tried_again_behind_all_others() -> None:
    def lend_again(pool: sa.Pool) -> bool:
        """Whether the one that lives is lent again, though another one was given back later."""
        lent, lost = pool.connect(), pool.connect()
        alive = lent.dbapi_connection
        lent.close()
        lost.invalidate()
        lost.close()
        again = pool.connect()
        is_alive = again.dbapi_connection is alive
        again.close()
        pool.dispose()
        return is_alive

    assert lend_again(LastUsedFirst(memory))
    assert not lend_again(sa.QueuePool(memory, use_lifo=True))


def test_how_far_a_pool_goes_beyond_its_size() -> None:
    for overflow in (-1, 0, 3):
        assert max_overflow_of(sa.QueuePool(memory, max_overflow=overflow)) == overflow


def test_a_bare_pool_connects_as_the_engine_does_and_tells_nobody() -> None:
    connections: list[t.Any] = []

    def connect() -> t.Any:
        connections.append(memory())
        return connections[-1]

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=sa.QueuePool)
    told: list[str] = []
    for name in ("connect", "checkout", "checkin"):
        event.listen(engine, name, lambda *args, name=name: told.append(name))

    bare = bare_pool(engine)
    lent = bare.connect()
    assert lent.dbapi_connection is connections[0]
    lent.close()
    bare.dispose()
    assert told == []
    engine.connect().close()
    assert told == ["connect", "checkout", "checkin"]
    engine.dispose()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connections[0].execute("SELECT 1")
