"""One run, from an empty deployment to a judgement."""

from __future__ import annotations

import random
import shutil
import tempfile
import threading
import time
from pathlib import Path

from tests.tools.history import dump

from .clients import CLIENTS, REQUEST_TIMEOUT, SLOW_CLIENTS, Client, SlowClient, Totals, report
from .deployment import SKEW, Deployment
from .faults import FAULTS, Chaos, schedule
from .judgement import judge
from .operator import Archivist, Operator
from .plants import planted

DRAINED = 30.0
"""Seconds after the last fault in which everything must be up, and the journal empty."""


def run(
    seconds: float, seed: int, faults: dict[str, float] = FAULTS, *, plant: str | None = None
) -> Totals:
    """One run in a deployment of its own, which stays for a look at it where something was wrong.

    :param plant: A safeguard to do without, see :mod:`.plants`.
    """
    # Not in a folder of pytest's: where root runs the tests, pytest shuts the PostgreSQL account
    # out of those.
    directory = Path(tempfile.mkdtemp(prefix="dualmedia-chaos-"))
    totals, until = Totals(), threading.Event()
    skew = random.Random(seed).choice((-SKEW, SKEW)) if "skewed clock" in faults else 0
    with planted(plant), Deployment(directory, skew=skew, plant=plant) as deployment:
        ports = [proxy.port for proxy in deployment.proxies]
        archivist = Archivist(deployment, totals, seed, until)
        clients = [Client(n, ports, totals, seed, until) for n in range(CLIENTS)]
        clients += [
            SlowClient(n, ports, totals, seed, until)
            for n in range(CLIENTS, CLIENTS + SLOW_CLIENTS)
        ]
        chaos = Chaos(deployment, schedule(seconds, seed, faults), totals, seed)
        operator = Operator(deployment, archivist, totals, seed, until)

        start = time.monotonic()
        for thread in (*clients, operator, chaos):
            thread.start()
        time.sleep(seconds)
        until.set()
        chaos.join()
        took = deployment.wait_until_settled()
        for client in clients:
            client.join(REQUEST_TIMEOUT + 10)
        operator.join()
        deployment.wait_until_settled()  # what the last of them did is there too
        lasted = time.monotonic() - start
        print(f"seed {seed}: {lasted:.0f} s, of them {took:.1f} until all was well again")
        if took > DRAINED:
            totals.complain(f"{took:.0f} s after the last fault not all was well")
        events = judge(deployment, [*clients, archivist], totals)

    kept = sum(
        len(event.listed) for event in events if event.operation == "list" and event.is_whole
    )
    totals.reached.update(name for name, aimed in chaos.aimed if aimed.reached)
    report(totals, seed, kept)
    if totals.problems and plant is None:
        dump(events, directory / "events")
        print(f"the databases, the events and the logs of the workers are left in {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return totals
