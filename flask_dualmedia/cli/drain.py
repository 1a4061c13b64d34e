"""``drain``: the journal, into SQL."""

from __future__ import annotations

import time

import click
from flask.cli import with_appcontext

from ..state import State, get_state
from ..upkeep import journal
from ..upkeep.transfer import Report
from .dialog import answering

DRAIN_PATIENCE = 5.0
"""Seconds to wait for another process that drains the journal: a worker that has just looked at it
is done soon."""


@click.command()
@with_appcontext
def drain() -> None:
    """Move what was accepted while SQL was down into SQL."""
    state = get_state()
    if state.mode == "mongo":
        raise click.ClickException("Mongo-only mode (DB_ENABLED is false): there is no journal.")
    report = _drain_patiently(state)
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


def _drain_patiently(state: State) -> Report | None:
    """Drain the journal; ``None`` if another process is at it for longer than the patience."""
    end = time.monotonic() + DRAIN_PATIENCE
    while True:
        report = answering(lambda: journal.drain_journal(state))
        if report is not None or time.monotonic() >= end:
            return report
        time.sleep(0.2)
