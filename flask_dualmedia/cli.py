"""``flask dualmedia ...``"""

from __future__ import annotations

import json
import sys
import time
import typing as t
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from datetime import timedelta

import click
import sqlalchemy as sa
from flask.cli import AppGroup

from . import lifecycle, wiring
from .databases import schema
from .databases.leases import Lease
from .databases.sqlstates import translate_errors
from .errors import (
    ConfigurationError,
    DualMediaError,
    MediaConflict,
    NamesTaken,
    StorageError,
    Unavailable,
)
from .homes import base as homes
from .models import KINDS, STORAGE_TYPES, TRASHED, Media
from .state import State, get_state
from .upkeep import journal, sweeping
from .upkeep import move as moves
from .upkeep import transfer as transfers
from .upkeep.check import EXPLAINED, Check, Checker, Decision, decide, last_check
from .upkeep.check.decision import Tally
from .upkeep.chores import clear_leftovers, find_damage

group = AppGroup("dualmedia", help="Media in PostgreSQL beside the documents in MongoDB.")

REFUSED_SHOWN = 20
"""Records that SQL refuses, named by ``status``."""

DRAIN_PATIENCE = 5.0
"""Seconds to wait for another process that drains the journal: a worker that has just looked at it
is done soon."""

_GRACE = click.option(
    "--grace",
    type=click.FloatRange(min=0),
    help="Seconds that an upload may take. Default DUALMEDIA_GRACE.",
)


_FORCE = click.option(
    "--force", is_flag=True, help="Delete much at once. Asks to type how many are deleted."
)
_EXPECT = click.option(
    "--expect",
    type=click.IntRange(min=0),
    help="How many may be deleted: the number that --force asks to type.",
)


@group.command()
@click.argument("revision", default="head")
def upgrade(revision: str) -> None:
    """Bring our tables up to date by our own revisions."""
    _answering(lambda: schema.upgrade(_engine(), revision, tables=get_state().tables))
    journal.try_again(get_state())
    click.echo(
        "The schema is up to date." if revision == "head" else f"The schema is at {revision}."
    )


@group.command()
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask.")
def downgrade(revision: str, yes: bool) -> None:
    """Undo our revisions, down to REVISION; "base" drops our tables with all media in them."""
    engine, tables = _engine(), get_state().tables
    _answering(schema.NameCheck(engine, tables))
    if not yes:
        existing = _answering(lambda: sa.inspect(engine).get_table_names())
        kinds = [kind for kind in KINDS.values() if tables.of(kind).name in existing]
        count = homes.sql_home(engine, tables=tables).repository.count
        held = _answering(lambda: sum(map(count, kinds)))
        click.echo(
            f"SQL holds {held} record(s). What is dropped with their tables cannot be brought back."
        )
        if _ask(f"Type {revision!r} to go on") != revision:
            raise click.ClickException("Nothing was changed. --yes goes on without asking.")
    _answering(lambda: schema.downgrade(engine, revision, tables=tables))
    click.echo(f"The schema is at {revision}.")


@group.command()
def status() -> None:
    """Show which databases answer, and what they hold."""
    state = get_state()
    click.echo(f"mode      {state.mode}")
    for home in state.homes:
        start = time.perf_counter()
        try:
            version = home.repository.version()
            latency = (time.perf_counter() - start) * 1000
            counts = {kind.kind: home.repository.count(kind) for kind in KINDS.values()}
        except Unavailable as error:
            click.secho(f"{home.name:9} {error}", fg="red")
            continue
        listed = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "empty"
        click.echo(f"{home.name:9} version {version}, {latency:.1f} ms: {listed}")
    _show_trash(state)
    if state.mode == "dual":
        _show_refused(state)
    click.echo(f"storages  {', '.join(state.storages)}, external")
    try:
        checked = last_check(state)
    except Unavailable as error:
        click.echo(f"checked   {error}")
        return
    _show_damage(state)
    findings = checked and (
        ", ".join(f"{n} {problem}" for problem, n in checked["findings"].items()) or "clean"
    )
    click.echo(
        f"checked   {checked['at']}: {findings}"
        if checked
        else "checked   never (flask dualmedia check)"
    )


def _show_trash(state: State) -> None:
    """Say how many records are in the trash, if there are any."""
    try:
        number = sum(map(state.repository.count_trashed, KINDS.values()))
    except Unavailable:
        return  # it was said above
    if number:
        click.echo(
            f"trash     {number} record(s), kept for {_period(state)} (flask dualmedia check --restore)"
        )


def _period(state: State) -> str:
    """How long something is in the trash, in words."""
    return str(timedelta(seconds=state.settings.trash_seconds)).removesuffix(", 0:00:00")


def _show_refused(state: State) -> None:
    """Name the records that SQL does not take."""
    repository = journal.homes_of(state)[1].repository
    try:
        number, records = repository.count_refused(), repository.refused(REFUSED_SHOWN)
    except Unavailable:
        return  # it was said above
    if number:
        click.secho(
            f"refused   {number} record(s) of the journal by SQL: edit or delete them", fg="red"
        )
    for record in records:
        refusal = repository.refusal_of(record)
        if refusal is not None:
            click.echo(f"          {record!r}: {refusal.reason}")
    if number > len(records):
        click.echo(f"          and {number - len(records)} more (flask dualmedia check)")


def _show_damage(state: State) -> None:
    """Name the media whose bytes were found damaged while the app ran."""
    try:
        damage = find_damage(state)
    except Unavailable:
        return  # it was said above
    for note in damage:
        click.secho(f"damaged   {note['kind']} {note['id']}: {note['problem']}", fg="red")


@group.command()
def drain() -> None:
    """Move what was accepted while SQL was down into SQL."""
    state = get_state()
    if state.mode == "mongo":
        raise click.ClickException("Mongo-only mode (DB_ENABLED is false): there is no journal.")
    end = time.monotonic() + DRAIN_PATIENCE
    while (
        report := _answering(lambda: journal.drain_journal(state))
    ) is None and time.monotonic() < end:
        time.sleep(0.2)
    if report is None:
        raise click.ClickException("Another process is draining the journal.")
    for conflict in report.conflicts:
        click.echo(conflict)
    click.echo(f"Moved {report.moved} record(s); {report.present} had been moved before.")
    for stale in report.stale:
        click.echo(f"{stale}: in the trash (flask dualmedia check --restore)")
    if report.failed:
        raise click.ClickException("\n".join(report.failed))
    if report.stale:
        raise click.ClickException(f"{len(report.stale)} record(s) were not moved.")


@group.command()
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
    "--delete-source", is_flag=True, help="Delete what was transferred from where it was. Asks."
)
@click.option("--yes", is_flag=True, help="With --delete-source: do not ask.")
@_FORCE
@_EXPECT
def transfer(
    where: str,
    dry_run: bool,
    mirror: bool,
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
    app_runs_on = "sql" if state.mode == "dual" else "mongo"
    if delete_source and not dry_run and where != app_runs_on:
        raise click.ClickException(
            f"The app runs on {app_runs_on}: --delete-source would delete what it serves."
        )
    if (force or expect is not None) and not mirror:
        raise click.UsageError("--force and --expect go with --mirror.")
    approve = _approval(force, expect)
    with _any_engine(state) as engine:
        sql, mongo = (
            homes.sql_home(engine, tables=state.tables),
            homes.mongo_home(state.collections),
        )
        _answering(schema.NameCheck(engine, state.tables))
        _answering(mongo.repository.check_names)
        if delete_source and not dry_run:
            source, target = (mongo, sql) if where == "sql" else (sql, mongo)
            if not yes:
                _ask_about_source(source)
            _delete_source(source, target)
            return
        if where == "sql" and not dry_run:
            schema.upgrade(engine, tables=state.tables)
        if mirror and where == app_runs_on:
            raise click.ClickException(
                f"The app runs on {where}: --mirror would delete what came there since."
            )
        source, target = (mongo, sql) if where == "sql" else (sql, mongo)
        limit = None
        if mirror and not dry_run:
            limit = _mirrored(source, target, state.settings.repair_share, approve)
        _transfer(source, target, dry_run=dry_run, limit=limit)


def _mirrored(
    source: homes.Home[t.Any],
    target: homes.Home[t.Any],
    share: float,
    approve: Callable[[Decision], bool],
) -> int:
    """How many records may be deleted from the target, because the source does not hold them any
    more."""

    def judge() -> Decision:
        tally = Tally()
        for record in transfers.surplus(source, target):
            tally.add("surplus", str(record.id), (record.kind,))
        sizes = {kind.kind: target.repository.count(kind) for kind in KINDS.values()}
        nothing_held = [kind.kind for kind in KINDS.values() if source.repository.count(kind) == 0]
        return decide(tally, sizes, share, nothing_held)

    decision = _answering(judge)
    if not approve(decision):
        raise click.ClickException(
            f"Nothing was transferred, and nothing deleted from {target.name}."
        )
    return decision.deletions


def _transfer(
    source: homes.Home[t.Any], target: homes.Home[t.Any], *, dry_run: bool, limit: int | None
) -> None:
    """Transfer everything.

    :param limit: Delete at most so many records from the target that the source does not hold;
        ``None`` for none.
    """
    before = _answering(lambda: transfers.manifest(source.repository))
    _show(f"{source.name} holds", before)
    if dry_run:
        _show(f"{target.name} holds", transfers.manifest(target.repository))
        return
    total = sum(map(source.repository.count, KINDS.values()))
    with click.progressbar(length=total, label="records") as bar:
        report = _answering(lambda: transfers.transfer(source, target, advance=bar.update))
    click.echo(f"Copied {report.moved} record(s); {report.present} were there before.")
    for conflict in report.conflicts:
        click.echo(conflict)
    for failure in report.failed:
        click.echo(failure)
    if limit is not None:
        deleted = _answering(lambda: transfers.delete_surplus(source, target, limit=limit))
        click.echo(
            f"Deleted {deleted} record(s) from {target.name} that {source.name} does not hold."
        )
    after = transfers.manifest(target.repository)
    _show(f"{target.name} holds", after)
    if after != before:
        alone = sum(1 for _ in transfers.surplus(source, target))
        hint = (
            f" {alone} record(s) are in {target.name} alone: --mirror deletes them."
            if alone
            else ""
        )
        raise click.ClickException(f"The two do not hold the same.{hint}")
    if report.failed:
        raise click.ClickException(f"{len(report.failed)} record(s) were not transferred.")
    click.echo("Both hold the same.")


def _ask_about_source(source: homes.Home[t.Any]) -> None:
    held = _answering(lambda: sum(map(source.repository.count, KINDS.values())))
    click.echo(f"{source.name} holds {held} record(s). They will be deleted there.", err=True)
    if held and _ask("Type the number that is to be deleted") != str(held):
        raise click.ClickException("Nothing was deleted. --yes goes on without asking.")


def _delete_source(source: homes.Home[t.Any], target: homes.Home[t.Any]) -> None:
    # Record by record, not whether both hold the same: of a deletion that was killed the source
    # holds less, and the target has been in use since.
    with click.progressbar(
        length=sum(map(source.repository.count, KINDS.values())), label="deleting"
    ) as bar:
        try:
            _answering(lambda: transfers.clear(source, target, advance=bar.update))
        except StorageError as error:
            raise click.ClickException(str(error)) from error
    click.echo(f"Deleted all media from {source.name}.")


_PLACE = click.Choice([name for name in STORAGE_TYPES if name != lifecycle.EXTERNAL])


@group.command()
@click.option("--from", "source", type=_PLACE, required=True, help="Where the bytes are.")
@click.option("--to", "target", type=_PLACE, required=True, help="Where they are to be.")
@click.option(
    "--kind", "names", type=click.Choice([*KINDS]), multiple=True, help="Of these kinds alone."
)
@click.option("--dry-run", is_flag=True, help="Show what would be moved.")
def move(source: str, target: str, names: tuple[str, ...], dry_run: bool) -> None:
    """Move the bytes of media from one storage to another, while the app runs.

    The same ids and URLs. A move that was killed goes on when it is called again; what it left half
    way, "check --repair" takes away.
    """
    state = get_state()
    for name in (source, target):
        if name not in state.storages:
            raise click.ClickException(f"{name} is not in DUALMEDIA_STORAGES.")
    if source == target:
        raise click.ClickException("That is where they are.")
    kinds = [KINDS[name] for name in names] or [*KINDS.values()]
    if dry_run:
        found = _answering(lambda: moves.count(state, source, kinds))
        click.echo(f"{found.moved} record(s), {found.size / 1024**2:.1f} MiB, would be moved.")
        return
    total = sum(map(state.repository.count, kinds))
    with click.progressbar(length=total, label="records") as bar, _alone(state, "move"):
        report = _answering(lambda: moves.move(state, source, target, kinds, advance=bar.update))
    click.echo(
        f"Moved {report.moved} record(s), {report.size / 1024**2:.1f} MiB, from {source} to {target}."
    )
    if report.failed:
        raise click.ClickException("\n".join(report.failed))


@group.command()
@_GRACE
@click.option("--yes", is_flag=True, help="With a grace time below DUALMEDIA_GRACE: do not ask.")
def sweep(grace: float | None, yes: bool) -> None:
    """Take away what killed uploads and deletions left behind, and purge the trash.

    Something unfinished is taken away if an earlier sweep saw it too, as long ago as the grace
    time; with --grace 0 at once. A shorter grace time than DUALMEDIA_GRACE may end uploads in
    progress, and asks.
    """
    state = get_state()
    if grace is not None and grace < state.settings.grace and not yes:
        _ask_about_unfinished(state, grace)
    swept = _answering(lambda: sweeping.sweep(state, grace=grace))
    left = _answering(lambda: clear_leftovers(state, grace=grace))
    click.echo(f"Removed {swept} unfinished record(s) and upload(s).")
    if left:
        click.echo(f"Removed what {left} killed upload(s) left in the journal.")


def _ask_about_unfinished(state: State, grace: float) -> None:
    unfinished = _answering(lambda: sweeping.count_unfinished(state))
    if not unfinished:
        return
    click.echo(f"{unfinished} record(s) are unfinished, and may be uploads in progress.", err=True)
    if _ask("Type their number to go on") != str(unfinished):
        raise click.ClickException("Nothing was removed. --yes goes on without asking.")


@group.command()
@click.option("--repair", is_flag=True, help="Mend what can be mended.")
@click.option(
    "--restore",
    metavar="[ID]",
    is_flag=False,
    flag_value="all",
    help="Bring back what is in the trash, or one of it.",
)
@click.option(
    "--discard-damaged", is_flag=True, help="With --repair: delete media whose bytes are damaged."
)
@click.option("--dry-run", is_flag=True, help="With --repair: only say what is found.")
@click.option("--verify-bytes", is_flag=True, help="Read all bytes and compare checksums.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="MiB per second that may be read."
)
@click.option(
    "--resume", is_flag=True, help="Go on with the bytes where an interrupted check stopped."
)
@click.option("--json", "as_json", is_flag=True, help="Write the report as JSON.")
@_FORCE
@_EXPECT
@_GRACE
@click.pass_context
def check(
    context: click.Context,
    repair: bool,
    restore: str | None,
    discard_damaged: bool,
    dry_run: bool,
    verify_bytes: bool,
    rate: float | None,
    resume: bool,
    as_json: bool,
    force: bool,
    expect: int | None,
    grace: float | None,
) -> None:
    """Compare the databases and the bytes.

    A repair takes away only what an earlier check has found too, as long ago as the grace time.
    Records go to the trash for DUALMEDIA_TRASH_SECONDS, and --restore brings them back.

    Where a repair would delete much at once it deletes nothing: that is the sign of a backup that
    was restored in part, or of a wrong database, folder or bucket.

    The exit status is 1 when something is wrong and was not repaired.
    """
    state = get_state()
    if (force or expect is not None) and not repair:
        raise click.UsageError("--force and --expect go with --repair.")
    if restore is not None:
        if repair:
            raise click.UsageError("--restore and --repair are two things.")
        _restore(state, restore)
        return
    approve = _approval(force, expect)
    repair = repair and not dry_run
    if repair:
        context.with_resource(_alone(state, "repair"))
    if repair and state.mode == "dual":
        _answering(lambda: journal.drain_journal(state))
    options = dict[str, t.Any](
        repair=repair,
        approve=approve,
        at_once=force,
        discard_damaged=discard_damaged,
        verify_bytes=verify_bytes,
        rate=rate and rate * 1024**2,
        grace=grace,
        resume=resume,
    )
    report = _answering(lambda: Checker(state, **options).run())
    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        for finding in report.findings:
            done = "  repaired" if finding.repaired else ""
            click.echo(
                f"{finding.problem:17} {finding.kind or '-':17} {finding.subject}  {finding.detail}{done}"
            )
        for problem, count in sorted(report.found.items()):
            mended = f", {report.repaired[problem]} repaired" if repair else ""
            click.echo(f"{count} {problem}: {EXPLAINED[t.cast(t.Any, problem)]}{mended}")
        _show_waiting(state, report)
        if report.trashed:
            click.echo(
                f"{report.trashed} in the trash, each for {_period(state)} (--restore brings them back)"
            )
        rate_seen = report.records / report.seconds if report.seconds else 0
        read = f", {report.verified / 1024**2:.1f} MiB read" if verify_bytes else ""
        click.echo(
            f"{report.records} record(s) in {report.seconds:.1f} s, {rate_seen:.0f} per second{read}"
        )
        click.echo("clean" if report.clean else "not clean")
    context.exit(0 if report.clean else 1)


def _show_waiting(state: State, report: Check) -> None:
    """Say what a repair left for a later one."""
    orphans = report.waiting["bytes_orphaned"]
    others = sum(report.waiting.values()) - orphans
    if others:
        click.echo(
            f"{others} left: no check found them before, or not as long ago as the grace time"
        )
    if orphans:
        click.echo(
            f"{orphans} bytes_orphaned left: found for {_period(state)} first, as their records may come back"
        )
    if report.forgone:
        click.echo(f"{report.forgone} not remembered for the next check: too many at once")


def _restore(state: State, wanted: str) -> None:
    """Bring back what is in the trash.

    :param wanted: An id, or ``all``.
    """
    restored, failures = 0, []
    for record in _answering(lambda: _trash(state, wanted)):
        try:
            kept = _answering(lambda record=record: sweeping.restore(state, record))
        except DualMediaError as error:
            failures.append(f"{record!r} stays in the trash: {error}")
            continue
        restored += 1
        if getattr(record, "is_main_image", False) and not getattr(kept, "is_main_image", False):
            click.echo(f"{record!r} is no longer the main image: the product has another")
    click.echo(f"Restored {restored} record(s).")
    if failures:
        raise click.ClickException("\n".join(failures))


def _trash(state: State, wanted: str) -> Iterator[Media]:
    """What is in the trash and wanted."""
    if wanted == "all":
        return sweeping.trashed_records(state)
    try:
        media_id = uuid.UUID(wanted)
    except ValueError:
        raise click.UsageError(f"{wanted!r} is not an id.") from None
    found = [state.repository.find(kind, media_id) for kind in KINDS.values()]
    trashed = [record for record in found if record is not None and record.state == TRASHED]
    if not trashed:
        raise click.ClickException(f"{wanted} is not in the trash.")
    return iter(trashed)


def _approval(force: bool, expect: int | None) -> Callable[[Decision], bool]:
    """How a command that deletes is approved: by itself where it is safe, else by the number of
    deletions."""
    if expect is not None and not force:
        raise click.UsageError("--expect goes with --force.")

    def approve(decision: Decision) -> bool:
        if decision.deletions == 0 or (decision.is_safe and not force):
            return True
        click.echo(f"{decision.deletions} would be deleted:", err=True)
        for line in decision.lines():
            click.echo(f"  {line}", err=True)
        if not decision.is_safe:
            click.echo(
                "That is much at once. Was a backup restored in part, or is it the wrong database,",
                err=True,
            )
            click.echo("folder or bucket? Too much of:", err=True)
            for reason in decision.reasons():
                click.echo(f"  {reason}", err=True)
        number = str(decision.deletions)
        answer = str(expect)
        if force and expect is None:
            answer = _ask("Type the number that is to be deleted")
        if force and answer == number:
            return True
        click.echo(
            f"Nothing was deleted. If it is right: --force, or --force --expect {number}.", err=True
        )
        return False

    return approve


def _ask(question: str) -> str | None:
    """What somebody types; ``None`` where nobody is there to type."""
    if sys.stdin is None or sys.stdin.closed:
        return None
    try:
        return click.prompt(question, type=str, err=True).strip()
    except (click.Abort, OSError):
        click.echo(err=True)
        return None


def _engine() -> sa.Engine:
    engine = get_state().engine
    if engine is None:
        raise click.ClickException("Mongo-only mode (DB_ENABLED is false): there is no SQL schema.")
    return engine


@contextmanager
def _any_engine(state: State) -> Iterator[sa.Engine]:
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
def _alone(state: State, work: str) -> Iterator[None]:
    """Do some work that one process at a time does, or say which one is at it."""
    with ExitStack() as stack:
        try:
            _answering(lambda: stack.enter_context(Lease(state.collections, work).held()))
        except MediaConflict as error:
            raise click.ClickException(f"{work}: {error}.") from error
        yield


T = t.TypeVar("T")


def _answering(call: Callable[[], T]) -> T:
    try:
        with translate_errors():
            return call()
    except NamesTaken as error:
        raise click.ClickException(str(error)) from error
    except Unavailable as error:
        raise click.ClickException(f"{error}; nothing is lost, try again when it does.") from error


def _show(title: str, manifest: transfers.Manifest) -> None:
    held = asdict(manifest)
    total, size = sum(held["counts"].values()), sum(held["sizes"].values())
    click.echo(
        f"{title} {total} record(s), {size / 1024**2:.1f} MiB, manifest {manifest.digest[:16]}"
    )
