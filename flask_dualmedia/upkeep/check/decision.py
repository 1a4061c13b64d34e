"""Whether a repair, or another command that deletes, may go on by itself.

Damage concerns few. When much is missing at once, a backup was restored in part, or a connection
string, a folder or a bucket is the wrong one, and a person has to decide.

A command deletes by itself at most ten things of a population, or ``DUALMEDIA_REPAIR_SHARE`` of it
where that is more, and never more than half of it. A single thing may always be deleted, unless it
is all media of a collection of owners, or of a storage outside of the databases, or these are
empty.

If one population would lose too much, the command deletes nothing: the same cause may be behind the
deletions from the others.
"""

from __future__ import annotations

import typing as t
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

ALWAYS = 10
"""Things that may be deleted of a population, however small a share of it is."""


@dataclass(frozen=True)
class Population:
    """Things of one sort, and how many of them would be deleted."""

    name: str
    size: int
    deletions: int
    is_groundless: bool = False
    """Whether nothing of it was found where it was looked for: every owner, or every file, is
    missing."""

    def allowance(self, share: float) -> int:
        """How many may be deleted without asking."""
        most = max(ALWAYS, int(self.size * share))
        return min(most, self.size // 2)

    def is_excessive(self, share: float, *, only_one: bool) -> bool:
        """Whether that is too much to delete without asking.

        :param only_one: The command would delete a single thing.
        """
        if self.deletions == 0:
            return False
        if self.is_groundless:
            return True
        return self.deletions > self.allowance(share) and not only_one


@dataclass(frozen=True)
class Decision:
    """How much would be deleted, and whether that is too much to do without asking."""

    deletions: int = 0
    by_problem: dict[tuple[str, str], int] = field(default_factory=dict)
    """Deletions by problem and the name of the population."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Sizes of these populations."""
    excessive: tuple[Population, ...] = ()
    """Populations that would lose too much."""

    @property
    def is_safe(self) -> bool:
        """Whether no population would lose too much."""
        return not self.excessive

    def lines(self) -> list[str]:
        """How many would be deleted of how many, by problem and kind."""
        return [
            f"{problem:17} {count} of {self.sizes[name]} {name}"
            for (problem, name), count in self.by_problem.items()
        ]

    def reasons(self) -> list[str]:
        """Why that is too much, by population."""
        return [_reason(population) for population in self.excessive]

    def as_json(self) -> dict[str, t.Any]:
        """The decision as JSON-ready data."""
        problems = [
            {
                "problem": problem,
                "population": name,
                "deletions": count,
                "of": self.sizes[name],
            }
            for (problem, name), count in self.by_problem.items()
        ]
        excessive = [
            {
                "population": population.name,
                "deletions": population.deletions,
                "of": population.size,
            }
            for population in self.excessive
        ]
        return {"deletions": self.deletions, "problems": problems, "excessive": excessive}


def _reason(population: Population) -> str:
    """Why too much of a population would be deleted, in words."""
    reason = f"{population.name}: {population.deletions} of {population.size}"
    if population.is_groundless:
        reason += ", nothing of it was found where it was looked for"
    return reason


def is_safe(decision: Decision) -> bool:
    """Whether a repair may go on by itself."""
    return decision.is_safe


class Tally:
    """Counts what would be deleted, by population."""

    def __init__(self) -> None:
        self.deletions = 0
        self.by_problem: Counter[tuple[str, str]] = Counter()
        self.by_population: Counter[str] = Counter()
        self._last_subject = ""
        self._counted_in: set[str] = set()

    def add(
        self,
        problem: str,
        subject: str,
        populations: tuple[str, ...],
    ) -> None:
        """Count something that would be deleted. It counts once for several problems in a row.

        :param populations: The populations that it belongs to. It is shown under the first of them.
        """
        if subject != self._last_subject:
            self._last_subject = subject
            self._counted_in.clear()
            self.deletions += 1
            self.by_problem[problem, populations[0]] += 1
        self.by_population.update(set(populations) - self._counted_in)
        self._counted_in.update(populations)


def decide(
    tally: Tally,
    sizes: t.Mapping[str, int],
    share: float,
    groundless: Iterable[str] = (),
) -> Decision:
    """Judge what would be deleted.

    :param sizes: How many there are of each population.
    :param share: ``DUALMEDIA_REPAIR_SHARE``.
    :param groundless: Names of populations whose owners, or files, are missing altogether.
    """
    groundless_names = set(groundless)
    only_one = tally.deletions == 1
    excessive = []
    for name, count in sorted(tally.by_population.items()):
        population = Population(name, sizes[name], count, name in groundless_names)
        if population.is_excessive(share, only_one=only_one):
            excessive.append(population)

    by_problem = dict(sorted(tally.by_problem.items()))
    shown_sizes = {name: sizes[name] for _, name in tally.by_problem}
    return Decision(tally.deletions, by_problem, shown_sizes, tuple(excessive))
