"""``upgrade`` and ``downgrade``: our tables, by our own revisions."""

from __future__ import annotations

import click
import sqlalchemy as sa
from flask.cli import with_appcontext

from ..databases import schema
from ..homes.sql import sql_home
from ..models import KINDS
from ..state import State, get_state
from ..upkeep import journal
from .dialog import answering, ask, engine_of


@click.command()
@with_appcontext
@click.argument("revision", default="head")
def upgrade(revision: str) -> None:
    """Bring our tables up to date by our own revisions."""
    state = get_state()
    engine = engine_of(state)
    answering(lambda: schema.upgrade(engine, revision, tables=state.tables))
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
    engine = engine_of(state)
    answering(schema.NameCheck(engine, state.tables))
    if not yes:
        _ask_about_records(state, engine, revision)

    answering(lambda: schema.downgrade(engine, revision, tables=state.tables))
    click.echo(f"The schema is at {revision}.")


def _ask_about_records(state: State, engine: sa.Engine, revision: str) -> None:
    """Say how many records SQL holds, and go on only if somebody types the revision."""
    tables = state.tables
    existing = answering(lambda: sa.inspect(engine).get_table_names())
    kinds = [kind for kind in KINDS.values() if tables.of(kind).name in existing]
    count = sql_home(engine, tables=tables).repository.count
    number = answering(lambda: sum(map(count, kinds)))

    click.echo(
        f"SQL holds {number} record(s). What is dropped with their tables cannot be brought back."
    )
    if ask(f"Type {revision!r} to go on") != revision:
        raise click.ClickException("Nothing was changed. --yes goes on without asking.")
