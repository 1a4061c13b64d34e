"""Between a command and the person who called it: questions, and errors as sentences."""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import click
import sqlalchemy as sa

from .. import wiring
from ..databases.leases import Lease
from ..databases.sqlstates import translate_errors
from ..errors import ConfigurationError, MediaConflict, NamesTaken, Unavailable
from ..state import State

T = t.TypeVar("T")


def answering(call: Callable[[], T]) -> T:
    """Call something that asks the databases.

    :raises click.ClickException: A database is down, or does not let us have the names of our
        tables.
    """
    try:
        with translate_errors():
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


def engine_of(state: State) -> sa.Engine:
    """The app's engine.

    :raises click.ClickException: The app runs without SQL.
    """
    if state.engine is None:
        raise click.ClickException("Mongo-only mode (DB_ENABLED is false): there is no SQL schema.")
    return state.engine


@contextmanager
def any_engine(state: State) -> Iterator[sa.Engine]:
    """The app's engine, or one for as long as it is needed, where the app runs without SQL."""
    if state.engine is not None:
        yield state.engine
        return

    try:
        engine = wiring.open_engine(state.settings)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error
    try:
        yield engine
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
