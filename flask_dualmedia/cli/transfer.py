"""``transfer``: all media from SQL to MongoDB, or back."""

from __future__ import annotations

from collections.abc import Callable

import click
from flask.cli import with_appcontext

from ..databases import schema
from ..databases.sql import SQLDatabase
from ..errors import StorageError
from ..homes.base import AnyHome
from ..homes.mongo import mongo_home
from ..homes.sql import sql_home
from ..models import KINDS
from ..state import State, get_state
from ..upkeep import transfer as transfers
from ..upkeep.check import Decision, decide
from ..upkeep.check.decision import Tally
from .approval import EXPECT, FORCE, Approval, check_options
from .dialog import answering, any_sql, ask
from .wording import in_mebibytes

Home = AnyHome


@click.command()
@with_appcontext
@click.option(
    "--to",
    "where",
    type=click.Choice(["sql", "mongo"]),
    required=True,
    help="Where the media is to live.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be transferred.")
@click.option(
    "--mirror",
    is_flag=True,
    help="Delete from the target what was deleted from the source meanwhile.",
)
@click.option(
    "--without-variants",
    is_flag=True,
    help="Leave out what is derived from media: it is made again.",
)
@click.option(
    "--delete-source", is_flag=True, help="Delete what was transferred from where it was. Asks."
)
@click.option("--yes", is_flag=True, help="With --delete-source: do not ask.")
@FORCE
@EXPECT
def transfer(
    where: str,
    dry_run: bool,
    mirror: bool,
    without_variants: bool,
    delete_source: bool,
    yes: bool,
    force: bool,
    expect: int | None,
) -> None:
    """Copy all media between SQL and MongoDB, to change the mode.

    The same ids and URLs. A transfer that was killed goes on when it is called again. The source
    stays until it is deleted by a call with --delete-source, which does nothing but that, and only
    to what the other holds too.
    """
    state = get_state()
    deletes_source = delete_source and not dry_run
    if deletes_source:
        _check_is_not_served(state, where)
    check_options(force, expect, option="--mirror", is_set=mirror)
    approve = Approval(force, expect)
    kinds = transfers.EVERYTHING
    if without_variants:
        kinds = KINDS.values()

    with any_sql(state) as database:
        source, target = _source_and_target(state, database, where)
        if deletes_source:
            _delete_source(source, target, kinds, asks=not yes)
            return

        if where == "sql" and not dry_run:
            schema.upgrade(database, tables=state.tables)
        if mirror:
            _check_may_mirror(state, where)
        limit = None
        if mirror and not dry_run:
            share = state.settings.repair_share
            limit = _approved_surplus(source, target, kinds, share, approve)
        _transfer(source, target, kinds, dry_run=dry_run, limit=limit)


def _served_from(state: State) -> str:
    """The database that the app serves media from."""
    if state.mode == "dual":
        return "sql"
    return "mongo"


def _check_is_not_served(state: State, where: str) -> None:
    """
    :raises click.ClickException: The app serves its media from the source, which would be deleted.
    """
    served = _served_from(state)
    if where != served:
        raise click.ClickException(
            f"The app runs on {served}: --delete-source would delete what it serves."
        )


def _check_may_mirror(state: State, where: str) -> None:
    """
    :raises click.ClickException: The app serves its media from the target, which has more than the
        source.
    """
    if where == _served_from(state):
        raise click.ClickException(
            f"The app runs on {where}: --mirror would delete what came there since."
        )


def _source_and_target(state: State, database: SQLDatabase, where: str) -> tuple[Home, Home]:
    """Both homes, after a check that the names of our tables and collections are ours."""
    sql = sql_home(database, tables=state.tables)
    mongo = mongo_home(state.collections)
    answering(schema.NameCheck(database, state.tables))
    answering(mongo.repository.check_names)
    if where == "sql":
        return mongo, sql
    return sql, mongo


def _count_records(home: Home, kinds: transfers.Kinds = transfers.EVERYTHING) -> int:
    return sum(map(home.repository.count, kinds))


def _approved_surplus(
    source: Home,
    target: Home,
    kinds: transfers.Kinds,
    share: float,
    approve: Callable[[Decision], bool],
) -> int:
    """How many records may be deleted from the target, because the source does not hold them any
    more."""
    decision = answering(lambda: _judge_surplus(source, target, kinds, share))
    if not approve(decision):
        raise click.ClickException(
            f"Nothing was transferred, and nothing deleted from {target.name}."
        )
    return decision.deletions


def _judge_surplus(
    source: Home,
    target: Home,
    kinds: transfers.Kinds,
    share: float,
) -> Decision:
    """Compare what mirroring would delete with how much the target holds."""
    tally = Tally()
    for record in transfers.surplus(source, target, kinds):
        tally.add("surplus", str(record.id), (record.kind,))

    sizes = {}
    for kind in kinds:
        sizes[kind.kind] = target.repository.count(kind)
    empty_kinds = []
    for kind in kinds:
        if source.repository.count(kind) == 0:
            empty_kinds.append(kind.kind)
    return decide(tally, sizes, share, empty_kinds)


def _transfer(
    source: Home,
    target: Home,
    kinds: transfers.Kinds,
    *,
    dry_run: bool,
    limit: int | None,
) -> None:
    """Transfer everything.

    :param limit: Delete at most so many records from the target that the source does not hold;
        ``None`` for none.
    """
    before = answering(lambda: transfers.manifest(source.repository, kinds))
    _show(f"{source.name} holds", before)
    if dry_run:
        _show(f"{target.name} holds", transfers.manifest(target.repository, kinds))
        return

    report = _copy_records(source, target, kinds)
    if limit is not None:
        deleted = answering(
            lambda: transfers.delete_surplus(source, target, limit=limit, kinds=kinds)
        )
        click.echo(
            f"Deleted {deleted} record(s) from {target.name} that {source.name} does not hold."
        )

    after = transfers.manifest(target.repository, kinds)
    _show(f"{target.name} holds", after)
    if after != before:
        hint = _hint_at_surplus(source, target, kinds)
        raise click.ClickException(f"The two do not hold the same.{hint}")
    if report.failed:
        raise click.ClickException(f"{len(report.failed)} record(s) were not transferred.")
    click.echo("Both hold the same.")


def _copy_records(source: Home, target: Home, kinds: transfers.Kinds) -> transfers.Report:
    """Copy the records with their bytes, and say what was done."""
    total = _count_records(source, kinds)
    with click.progressbar(length=total, label="records") as bar:
        report = answering(
            lambda: transfers.transfer(source, target, kinds=kinds, advance=bar.update)
        )

    click.echo(f"Copied {report.moved} record(s); {report.present} were there before.")
    for conflict in report.conflicts:
        click.echo(conflict)
    for failure in report.failed:
        click.echo(failure)
    return report


def _hint_at_surplus(source: Home, target: Home, kinds: transfers.Kinds) -> str:
    """How to get rid of records that only the target holds, if there are any."""
    surplus = sum(1 for _ in transfers.surplus(source, target, kinds))
    if not surplus:
        return ""
    return f" {surplus} record(s) are in {target.name} alone: --mirror deletes them."


def _delete_source(source: Home, target: Home, kinds: transfers.Kinds, *, asks: bool) -> None:
    """Delete from the source what the target holds too."""
    if asks:
        _ask_about_source(source)

    # Record by record, not whether both hold the same: after a deletion that was killed the source
    # holds less, and the target has been in use since.
    total = _count_records(source)
    with click.progressbar(length=total, label="deleting") as bar:
        try:
            answering(lambda: transfers.clear(source, target, kinds=kinds, advance=bar.update))
        except StorageError as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"Deleted all media from {source.name}.")


def _ask_about_source(source: Home) -> None:
    """Say how many records would be deleted, and go on only if somebody types their number."""
    number = answering(lambda: _count_records(source))
    click.echo(f"{source.name} holds {number} record(s). They will be deleted there.", err=True)
    if number and ask("Type the number that is to be deleted") != str(number):
        raise click.ClickException("Nothing was deleted. --yes goes on without asking.")


def _show(title: str, manifest: transfers.Manifest) -> None:
    """Show how much a database holds, and the digest that tells whether the other holds the
    same."""
    number = sum(manifest.counts.values())
    size = in_mebibytes(sum(manifest.sizes.values()))
    click.echo(f"{title} {number} record(s), {size}, manifest {manifest.digest[:16]}")
