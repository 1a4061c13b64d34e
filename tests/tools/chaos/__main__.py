"""The command; see :mod:`tests.tools.chaos`."""

from __future__ import annotations

import argparse
import random
import signal
import sys

from tests.tools import chaos


def main() -> None:
    parser = argparse.ArgumentParser(
        description=chaos.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # Not without stopping the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--faults", nargs="+", choices=list(chaos.FAULTS), help="all by default")
    parser.add_argument(
        "--plant", choices=list(chaos.PLANTS), help="take away this safeguard, which is to be found"
    )
    arguments = parser.parse_args()
    faults = {name: chaos.FAULTS[name] for name in arguments.faults or chaos.FAULTS}
    totals = chaos.run(arguments.seconds, arguments.seed, faults, plant=arguments.plant)
    sys.exit(1 if totals.problems else 0)


if __name__ == "__main__":
    main()
