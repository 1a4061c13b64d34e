"""Faults, and when they come."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.tools.fault_proxy import Fault as AimedFault

from .clients import Totals
from .deployment import Deployment

FAULTS = {
    "kill postgres": 2,
    "hang postgres": 1,
    "read-only postgres": 1,
    "full postgres": 1,
    "unreplicated postgres": 1,
    "kill mongo": 1.5,
    "hang mongo": 0.5,
    "late command": 2,
    "late statement": 14,
    "lost statement": 3,
    "lost answer": 5,
    "kill worker": 3,
    "stop worker": 2,
    "cut": 6,
    "skewed clock": 0,  # for the whole run
}
"""How often each comes, of all."""

RECORDS = "(product_images|course_videos|media_storage)"
STATEMENTS = (
    f"INSERT INTO {RECORDS}",
    f"INSERT INTO {RECORDS}",  # twice: what comes late here needs a drain in between to do harm
    f"UPDATE {RECORDS} SET (title|alt_text)",
    f"UPDATE {RECORDS} SET state",
    f"DELETE FROM {RECORDS}",
    "INSERT INTO media_chunks",
    "^COMMIT",
)
COMMANDS = ("insert", "update", "delete", "findAndModify", "commitTransaction")


@dataclass(frozen=True)
class Fault:
    at: float
    """Seconds from the start."""
    name: str
    lasts: float
    amount: int


def schedule(seconds: float, seed: int, faults: dict[str, float]) -> list[Fault]:
    """The faults of a run, the last of them some seconds before its end.

    In its first half single statements come late or get lost. What kills a server comes in the
    second, since it takes away what was to come late.
    """
    chance, scheduled, at = random.Random(seed), [], 1.5
    aimed = {name: weight for name, weight in faults.items() if _is_aimed(name)}
    while at < seconds - 2 and any(faults.values()):
        candidates = aimed if aimed and at < seconds / 2 else faults
        name = chance.choices(list(candidates), list(candidates.values()))[0]
        is_aimed = _is_aimed(name)
        longest = 6 if name in ("kill postgres", "unreplicated postgres") else 3
        lasts = chance.uniform(2, 6) if is_aimed else chance.uniform(0.3, longest)
        if is_aimed:
            lasts = min(lasts, seconds - at)
        scheduled.append(Fault(at, name, lasts, int(10 ** chance.uniform(2, 6.5))))
        at += chance.expovariate(0.75)
    return scheduled


def _is_aimed(name: str) -> bool:
    return name.split()[0] in ("late", "lost")


class Chaos(threading.Thread):
    """Carries out a schedule of faults, and mends them after a while."""

    def __init__(
        self, deployment: Deployment, faults: list[Fault], totals: Totals, seed: int
    ) -> None:
        super().__init__(name="chaos", daemon=True)
        self._deployment, self._totals, self._random = deployment, totals, random.Random(seed)
        self._pending = sorted(faults, key=lambda fault: -fault.at)
        self._mends: list[tuple[float, str, Callable[[], None]]] = []
        self.aimed: list[tuple[str, AimedFault]] = []

    def run(self) -> None:
        start = time.monotonic()
        while self._pending or self._mends:
            time.sleep(0.02)
            passed = time.monotonic() - start
            for mend in [mend for mend in self._mends if mend[0] <= passed]:
                mend[2]()
                self._mends.remove(mend)
            if self._pending and self._pending[-1].at <= passed:
                fault = self._pending.pop()
                if fault.name.split()[-1] not in {down for _, down, _ in self._mends}:
                    self._begin(fault, passed)

    def _begin(self, fault: Fault, passed: float) -> None:
        self._totals.faults[fault.name] += 1
        deployment, end = self._deployment, passed + fault.lasts
        statements, pattern = deployment.statements, self._random.choice(STATEMENTS)
        match fault.name:
            case "kill postgres":
                deployment.postgres.kill()
                self._mends.append((end, "postgres", deployment.postgres.start))
            case "hang postgres":
                deployment.postgres.pause()
                self._mends.append((end, "postgres", deployment.postgres.resume))
            case "read-only postgres":
                self._configure(end, "default_transaction_read_only", "on")
            case "full postgres":
                deployment.postgres.fill()
                self._mends.append((end, "postgres", deployment.postgres.clear))
            case "unreplicated postgres":
                self._configure(end, "synchronous_standby_names", "nobody")  # commits wait for it
            case "kill mongo":
                deployment.mongo.kill()
                self._mends.append((end, "mongo", deployment.mongo.start))
            case "hang mongo":
                deployment.mongo.pause()
                self._mends.append((end, "mongo", deployment.mongo.resume))
            case "kill worker":
                self._random.choice(deployment.hosts).kill_one(self._random.choice)
            case "stop worker":
                resume = self._random.choice(deployment.hosts).pause_one(self._random.choice)
                self._mends.append((end, "worker", resume))
            case "cut":
                self._random.choice(deployment.proxies).cut_next(fault.amount)
            case "late statement":
                self._aim(fault, end, statements.hold(pattern))
            case "late command":
                self._aim(fault, end, deployment.commands.hold(self._random.choice(COMMANDS)))
            case "lost statement":
                self._aim(fault, end, statements.cut_before(pattern))
            case "lost answer":
                self._aim(fault, end, statements.cut_after(pattern))

    def _configure(self, end: float, name: str, value: str) -> None:
        postgres = self._deployment.postgres
        postgres.configure(name, value)
        self._mends.append((end, "postgres", lambda: postgres.configure(name, None)))

    def _aim(self, fault: Fault, end: float, aimed: AimedFault) -> None:
        self.aimed.append((fault.name, aimed))
        self._mends.append((end, f"{len(self.aimed)}", aimed.release))
