"""``upgrade`` and ``downgrade``: our tables, by our own revisions."""

from __future__ import annotations

from collections.abc import Callable

import click
import sqlalchemy as sa
from alembic.util import CommandError
from flask.cli import with_appcontext

from ..databases import schema
from ..databases.sql import SQLDatabase
from ..homes.sql import sql_home
from ..models import TABLES
from ..state import State, get_state
from ..upkeep import journal
from .dialog import answering, ask, sql_of


@click.command()
@with_appcontext
@click.argument("revision", default="head")
def upgrade(revision: str) -> None:
    """Bring our tables up to date by our own revisions."""
    state = get_state()
    database = sql_of(state)
    _run(lambda: schema.upgrade(database, revision, tables=state.tables))
    journal.try_again(state)

    if revision == "head":
        click.echo("The schema is up to date.")
    else:
        click.echo(f"The schema is at {revision}.")


@click.command()
@with_appcontext
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask.")
def downgrade(revision: str, yes: bool) -> None:
    """Undo our revisions, down to REVISION; "base" drops our tables with all media in them."""
    state = get_state()
    database = sql_of(state)
    answering(schema.NameCheck(database, state.tables))
    if not yes:
        _ask_about_records(state, database, revision)

    _run(lambda: schema.downgrade(database, revision, tables=state.tables))
    click.echo(f"The schema is at {revision}.")


def _run(revisions: Callable[[], object]) -> None:
    """Run revisions.

    :raises click.ClickException: There is no such revision, or one of them refuses to be undone.
    """
    try:
        answering(revisions)
    except CommandError as error:
        raise click.ClickException(f"{error}. Nothing was changed.") from error


def _ask_about_records(state: State, database: SQLDatabase, revision: str) -> None:
    """Say how many records SQL holds, and go on only if somebody types the revision."""
    tables = state.tables
    existing = answering(lambda: _table_names(database))
    kinds = [kind for kind in TABLES.values() if tables.of(kind).name in existing]
    count = sql_home(database, tables=tables).repository.count
    number = answering(lambda: sum(map(count, kinds)))

    click.echo(
        f"SQL holds {number} record(s). What is dropped with their tables cannot be brought back."
    )
    if ask(f"Type {revision!r} to go on") != revision:
        raise click.ClickException("Nothing was changed. --yes goes on without asking.")


def _table_names(database: SQLDatabase) -> list[str]:
    with database.connect() as connection:
        return sa.inspect(connection).get_table_names()
