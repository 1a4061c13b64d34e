"""``move``: bytes, from one storage to another."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..models import TABLES, MediaRecord
from ..state import State, get_state
from ..upkeep import move as moves
from .dialog import alone, answering
from .wording import in_mebibytes


@click.command()
@with_appcontext
@click.option(
    "--from",
    "source",
    metavar="STORAGE",
    required=True,
    help='Where the bytes are: "database", or a name of DUALMEDIA_STORAGES.',
)
@click.option("--to", "target", metavar="STORAGE", required=True, help="Where they are to be.")
@click.option(
    "--kind", "names", type=click.Choice([*TABLES]), multiple=True, help="Of these kinds alone."
)
@click.option("--dry-run", is_flag=True, help="Show what would be moved.")
def move(
    source: str,
    target: str,
    names: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Move the bytes of media from one storage to another, while the app runs.

    The same ids and URLs. A move that was killed goes on when it is called again; what it left half
    way, "check --repair" takes away.
    """
    state = get_state()
    _check_storages(state, source, target)
    kinds = [TABLES[name] for name in names] or [*TABLES.values()]
    if dry_run:
        movable = answering(lambda: moves.count(state, source, kinds))
        size = in_mebibytes(movable.size)
        click.echo(f"{movable.moved} record(s), {size}, would be moved.")
        return

    report = _move(state, source, target, kinds)
    size = in_mebibytes(report.size)
    click.echo(f"Moved {report.moved} record(s), {size}, from {source} to {target}.")
    if report.failed:
        raise click.ClickException("\n".join(report.failed))


def _check_storages(state: State, source: str, target: str) -> None:
    """
    :raises click.ClickException: One of them is not set up here, or both are the same.
    """
    for name in (source, target):
        if name not in state.storages:
            raise click.ClickException(f"{name} is not in DUALMEDIA_STORAGES.")
    if source == target:
        raise click.ClickException("That is where they are.")


def _move(
    state: State,
    source: str,
    target: str,
    kinds: list[type[MediaRecord]],
) -> moves.Moved:
    total = sum(map(state.repository.count, kinds))
    with click.progressbar(length=total, label="records") as bar, alone(state, "move"):
        return answering(lambda: moves.move(state, source, target, kinds, advance=bar.update))
