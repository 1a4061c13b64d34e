"""``check``: the databases and the bytes, compared and repaired."""

from __future__ import annotations

import json
import typing as t

import click
from flask.cli import with_appcontext

from ..state import State, get_state
from ..upkeep import journal
from ..upkeep.check import EXPLAINED, Check, Checker, Finding
from .approval import EXPECT, FORCE, Approval, check_options
from .dialog import alone, answering
from .sweep import GRACE
from .trash import restore_from_trash
from .wording import in_mebibytes, said_of_unknown, trash_period


@click.command()
@with_appcontext
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
@FORCE
@EXPECT
@GRACE
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
    check_options(force, expect, option="--repair", is_set=repair)
    if restore is not None:
        if repair:
            raise click.UsageError("--restore and --repair are two things.")
        restore_from_trash(state, restore)
        return

    approve = Approval(force, expect)
    repair = repair and not dry_run
    if repair:
        _begin_repair(context, state)
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
    report = answering(lambda: Checker(state, **options).run())

    if as_json:
        click.echo(json.dumps(report.as_json()))
    else:
        _show_report(state, report, repaired=repair, verified=verify_bytes)
    context.exit(int(not report.clean))


def _begin_repair(context: click.Context, state: State) -> None:
    """Keep other repairs away until the command ends, and drain the journal."""
    context.with_resource(alone(state, "repair"))
    if state.mode == "dual":
        answering(lambda: journal.drain_journal(state))


def _show_report(
    state: State,
    report: Check,
    *,
    repaired: bool,
    verified: bool,
) -> None:
    """Show what a check found.

    :param repaired: It was to repair that, too.
    :param verified: It has read all bytes.
    """
    for finding in report.findings:
        click.echo(_line_of(finding))
    for problem, count in sorted(report.found.items()):
        line = f"{count} {problem}: {EXPLAINED[t.cast(t.Any, problem)]}"
        if repaired:
            line += f", {report.repaired[problem]} repaired"
        click.echo(line)

    for name, number in sorted(report.unknown_storages.items()):
        click.echo(said_of_unknown(name, number))
    _show_waiting(state, report)
    if report.trashed:
        period = trash_period(state)
        click.echo(f"{report.trashed} in the trash, each for {period} (--restore brings them back)")
    _show_speed(report, verified=verified)
    if report.clean:
        click.echo("clean")
    else:
        click.echo("not clean")


def _line_of(finding: Finding) -> str:
    """A finding, as one line for people."""
    kind = finding.kind or "-"
    line = f"{finding.problem:17} {kind:17} {finding.subject}  {finding.detail}"
    if finding.repaired:
        line += "  repaired"
    return line


def _show_speed(report: Check, *, verified: bool) -> None:
    """Say how much was looked at, and how fast."""
    speed = 0.0
    if report.seconds:
        speed = report.records / report.seconds
    line = f"{report.records} record(s) in {report.seconds:.1f} s, {speed:.0f} per second"
    if verified:
        line += f", {in_mebibytes(report.verified)} read"
    click.echo(line)


def _show_waiting(state: State, report: Check) -> None:
    """Say what a repair left for a later one."""
    orphans = report.waiting["bytes_orphaned"]
    others = sum(report.waiting.values()) - orphans
    if others:
        click.echo(
            f"{others} left: no check found them before, or not as long ago as the grace time"
        )
    if orphans:
        period = trash_period(state)
        click.echo(
            f"{orphans} bytes_orphaned left: found for {period} first,"
            " as their records may come back"
        )
    if report.forgone:
        click.echo(f"{report.forgone} not remembered for the next check: too many at once")
