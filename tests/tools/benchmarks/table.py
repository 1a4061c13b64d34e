"""Figures that ``python -m tests.tools.benchmarks --json FILE`` wrote, as the table in
docs/performance.md: ``python -m tests.tools.benchmarks.table FILE``."""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path


def row(figure: dict[str, t.Any]) -> str:
    ours, other, *others = figure["contenders"].values()
    cells = [
        figure["job"],
        figure["clients"],
        f"{ours['p50']:.2f}",
        f"{other['p50']:.2f}",
        f"**{figure['ratio']:.2f}**",
    ]
    cells += [
        f"{figure['lowest']:.2f} to {figure['highest']:.2f}",
        figure["limit"] or "",
        f"{figure['cpu_ratio']:.2f}",
    ]
    cells.append(", ".join(f"{one['p50']:.2f}" for one in others))
    memory = figure.get("memory", {}).values()
    cells.append(" / ".join(f"+{one['server']:.0f}, +{one['backend']:.0f}" for one in memory))
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    print(
        "| job | clients | ours, ms | floor, ms | ratio | of the rounds | limit | CPU "
        "| disk, ms | memory, MiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for figure in json.loads(Path(sys.argv[1]).read_text()):
        print(row(figure))


if __name__ == "__main__":
    main()
