"""``status``: the databases, and what they hold, at a glance."""

from __future__ import annotations

import time

import click
from flask.cli import with_appcontext

from ..errors import Unavailable
from ..homes.base import AnyHome
from ..models import TABLES
from ..state import State, get_state
from ..upkeep import journal
from ..upkeep.check import last_check, unknown_storages
from ..upkeep.chores import find_damage
from .wording import said_of_unknown, trash_period

REFUSED_SHOWN = 20
"""Records that SQL refuses, named by ``status``."""


@click.command()
@with_appcontext
def status() -> None:
    """Show which databases answer, and what they hold."""
    state = get_state()
    click.echo(f"mode      {state.mode}")
    for home in state.homes:
        _show_home(home)
    _show_trash(state)
    if state.mode == "dual":
        _show_refused(state)
    click.echo(f"storages  {', '.join(state.storages)}, external")
    _show_unknown_storages(state)
    _show_last_check(state)


def _show_home(home: AnyHome) -> None:
    """Say whether a database answers, how fast, and how many records of each kind it holds."""
    start = time.perf_counter()
    try:
        version = home.repository.version()
        latency = (time.perf_counter() - start) * 1000
        counts = {kind.kind: home.repository.count(kind) for kind in TABLES.values()}
    except Unavailable as error:
        click.secho(f"{home.name:9} {error}", fg="red")
        return

    listed = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    click.echo(f"{home.name:9} version {version}, {latency:.1f} ms: {listed or 'empty'}")


def _show_trash(state: State) -> None:
    """Say how many records are in the trash, if there are any."""
    try:
        number = sum(map(state.repository.count_trashed, TABLES.values()))
    except Unavailable:
        return  # it was said above
    if number:
        period = trash_period(state)
        click.echo(
            f"trash     {number} record(s), kept for {period} (flask dualmedia check --restore)"
        )


def _show_refused(state: State) -> None:
    """Name the records that SQL does not take."""
    repository = journal.homes_of(state)[1].repository
    try:
        number = repository.count_refused()
        records = repository.refused(REFUSED_SHOWN)
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


def _show_unknown_storages(state: State) -> None:
    """Name the storages that records use and that are not set up."""
    try:
        numbers = unknown_storages(state)
    except Unavailable:
        return  # it was said above
    for name, number in numbers.items():
        click.secho(f"unknown   {said_of_unknown(name, number)}", fg="red")


def _show_last_check(state: State) -> None:
    """Say when the last check was, and what is wrong since."""
    try:
        summary = last_check(state)
    except Unavailable as error:
        click.echo(f"checked   {error}")
        return

    _show_damage(state)
    if not summary:
        click.echo("checked   never (flask dualmedia check)")
        return
    counts: dict[str, int] = summary["findings"]
    findings = ", ".join(f"{count} {problem}" for problem, count in counts.items())
    click.echo(f"checked   {summary['at']}: {findings or 'clean'}")


def _show_damage(state: State) -> None:
    """Name the media whose bytes were found damaged while the app ran."""
    try:
        damage = find_damage(state)
    except Unavailable:
        return  # it was said above
    for note in damage:
        click.secho(f"damaged   {note['kind']} {note['id']}: {note['problem']}", fg="red")
