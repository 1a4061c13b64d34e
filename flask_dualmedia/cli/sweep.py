"""``sweep``: what killed uploads and deletions left behind."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..state import State, get_state
from ..upkeep import sweeping
from ..upkeep.chores import clear_leftovers
from ..upkeep.variants import sweep_variants
from .dialog import answering, ask

GRACE = click.option(
    "--grace",
    type=click.FloatRange(min=0),
    help="Seconds that an upload may take. Default DUALMEDIA_GRACE.",
)


@click.command()
@with_appcontext
@GRACE
@click.option("--yes", is_flag=True, help="With a grace time below DUALMEDIA_GRACE: do not ask.")
def sweep(grace: float | None, yes: bool) -> None:
    """Take away what killed uploads and deletions left behind, and purge the trash.

    Variants that nobody asks for any more are taken away too. Something is taken away if an earlier
    sweep saw it too, as long ago as the grace time; with --grace 0 at once. A shorter grace time
    than DUALMEDIA_GRACE may end uploads in progress, and asks.
    """
    state = get_state()
    if grace is not None and grace < state.settings.grace and not yes:
        _ask_about_unfinished(state)

    swept = answering(lambda: sweeping.sweep(state, grace=grace))
    derived = answering(lambda: sweep_variants(state, grace=grace))
    leftovers = answering(lambda: clear_leftovers(state, grace=grace))
    click.echo(f"Removed {swept} unfinished record(s) and upload(s).")
    if derived:
        click.echo(f"Removed {derived} variant(s) that nobody asks for any more.")
    if leftovers:
        click.echo(f"Removed what {leftovers} killed upload(s) left in the journal.")


def _ask_about_unfinished(state: State) -> None:
    """Say how many records are unfinished, and go on only if somebody types their number."""
    number = answering(lambda: sweeping.count_unfinished(state))
    if not number:
        return
    click.echo(f"{number} record(s) are unfinished, and may be uploads in progress.", err=True)
    if ask("Type their number to go on") != str(number):
        raise click.ClickException("Nothing was removed. --yes goes on without asking.")
