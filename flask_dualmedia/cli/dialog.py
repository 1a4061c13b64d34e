"""Between a command and the person who called it: questions, and errors as sentences."""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import click

from .. import wiring
from ..databases.leases import Lease
from ..databases.sql import SQLDatabase
from ..errors import ConfigurationError, MediaConflict, NamesTaken, Unavailable
from ..state import State

T = t.TypeVar("T")


def answering(call: Callable[[], T]) -> T:
    """Call something that asks the databases.

    :raises click.ClickException: A database is down, or does not let us have the names of our
        tables.
    """
    try:
        return call()
    except NamesTaken as error:
        raise click.ClickException(str(error)) from error
    except Unavailable as error:
        raise click.ClickException(f"{error}; nothing is lost, try again when it does.") from error


def ask(question: str) -> str | None:
    """Ask the person at the terminal; ``None`` where nobody is there to type."""
    if sys.stdin is None or sys.stdin.closed:
        return None
    try:
        return click.prompt(question, type=str, err=True).strip()
    except (click.Abort, OSError):
        click.echo(err=True)
        return None


def sql_of(state: State) -> SQLDatabase:
    """The app's SQL database, which may take any time: a person waits, and can give up.

    :raises click.ClickException: The app runs without SQL.
    """
    if state.sql is None:
        raise click.ClickException("Mongo-only mode (DB_ENABLED is false): there is no SQL schema.")
    return state.sql.within(None)


@contextmanager
def any_sql(state: State) -> Iterator[SQLDatabase]:
    """The same, where the app runs with SQL. Otherwise the configured one is opened for the
    block."""
    if state.sql is not None:
        yield sql_of(state)
        return

    try:
        engine = wiring.open_engine(state.settings)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    try:
        yield SQLDatabase(engine)
    finally:
        engine.dispose()


@contextmanager
def alone(state: State, work: str) -> Iterator[None]:
    """Do some work that one process at a time does, or say which process is at it."""
    lease = Lease(state.collections, work)
    with ExitStack() as stack:
        try:
            answering(lambda: stack.enter_context(lease.held()))
        except MediaConflict as error:
            raise click.ClickException(f"{work}: {error}.") from error
        yield
