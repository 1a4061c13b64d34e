"""Whether a command may delete as much as it would: ``--force`` and ``--expect``."""

from __future__ import annotations

from dataclasses import dataclass

import click

from ..upkeep.check import Decision
from .dialog import ask

FORCE = click.option(
    "--force", is_flag=True, help="Delete much at once. Asks to type how many are deleted."
)

EXPECT = click.option(
    "--expect",
    type=click.IntRange(min=0),
    help="How many may be deleted: the number that --force asks to type.",
)


def check_options(
    force: bool,
    expect: int | None,
    *,
    option: str,
    is_set: bool,
) -> None:
    """Refuse ``--force`` and ``--expect`` without the option that deletes.

    :param option: Name of that option.
    :param is_set: The command was called with it.
    :raises click.UsageError: It was not, and one of the two was.
    """
    is_given = force or expect is not None
    if is_given and not is_set:
        raise click.UsageError(f"--force and --expect go with {option}.")


@dataclass(frozen=True)
class Approval:
    """Approves a command that deletes: by itself where that is safe, else by the number of
    deletions that somebody types."""

    force: bool
    expect: int | None

    def __post_init__(self) -> None:
        if self.expect is not None and not self.force:
            raise click.UsageError("--expect goes with --force.")

    def __call__(self, decision: Decision) -> bool:
        """Whether the deletions may be made. Asks, if need be."""
        if decision.deletions == 0:
            return True
        if decision.is_safe and not self.force:
            return True

        _explain(decision)
        number = str(decision.deletions)
        if self.force and self._typed_number() == number:
            return True
        click.echo(
            f"Nothing was deleted. If it is right: --force, or --force --expect {number}.", err=True
        )
        return False

    def _typed_number(self) -> str | None:
        """The number given with ``--expect``, or else typed by somebody."""
        if self.expect is not None:
            return str(self.expect)
        return ask("Type the number that is to be deleted")


def _explain(decision: Decision) -> None:
    """Say how much would be deleted, and why that is much."""
    click.echo(f"{decision.deletions} would be deleted:", err=True)
    for line in decision.lines():
        click.echo(f"  {line}", err=True)
    if decision.is_safe:
        return

    click.echo(
        "That is much at once. Was a backup restored in part, or is it the wrong database,",
        err=True,
    )
    click.echo("folder or bucket? Too much of:", err=True)
    for reason in decision.reasons():
        click.echo(f"  {reason}", err=True)
