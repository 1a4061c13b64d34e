"""Everything is up again: is it all there?"""

from __future__ import annotations

import json

from tests.tools.history import ABSENT, Event, Seen, check

from .clients import KINDS, Answer, Client, Item, Totals, request, sha256
from .deployment import Deployment

WRITES = 2
"""So often one access may be counted: an answer may be lost, and its repetition too, but hardly
that of a third."""

UNFINISHED = {"bytes_orphaned", "stuck_pending", "stuck_deleting", "upload_expired"}
"""Problems that killed processes may leave for the sweep, or a repair. Nothing else may be found
before one."""


def judge(deployment: Deployment, clients: list[Client], totals: Totals) -> list[Event]:
    """Look at everything now that it answers, and judge all that was ever answered.

    :return: All events.
    """
    for client in clients:
        _look(deployment.workers.port, client, totals)
    events = [event for client in clients for event in client.ledger.events]
    for anomaly in check(events):
        totals.lost += 1
        totals.complain(f"LOST {anomaly}")
    _look_for_damage(deployment, totals)
    verify = ("check", "--verify-bytes", "--grace", "0")
    for command, (code, output) in (
        ("check --repair", deployment.repair()),
        (
            "sweep",
            deployment.flask("sweep", "--grace", "0", "--yes"),
        ),  # the rows that deleted records leave
        ("check --verify-bytes", deployment.flask(*verify)),
    ):
        print(f"flask dualmedia {command}:", *output.splitlines()[-9:], sep="\n    ")
        if code:
            totals.complain(f"flask dualmedia {command} ended with {code}:\n{output}")
    code, output = deployment.flask("drain")
    if code or not output.startswith("Moved 0 record(s); 0 had"):
        totals.complain(f"flask dualmedia drain, after the journal was empty: {output}")
    for left in deployment.journaled():
        totals.complain(f"left in the journal: {left}")
    return events


def _look_for_damage(deployment: Deployment, totals: Totals) -> None:
    """Nothing is damaged, or in the wrong home, before anything was repaired."""
    _, output = deployment.flask("check", "--verify-bytes", "--grace", "0", "--json")
    report = json.loads(output.splitlines()[-1])
    print("found before any repair:", report["found"] or "nothing")
    for finding in report["findings"]:
        if finding["problem"] not in UNFINISHED:
            totals.complain(f"LOST? a check found {finding}")


def _look(port: int, client: Client, totals: Totals) -> None:
    """List and read all that a client has, and all that it may have without having been told."""

    def ask(method: str, path: str) -> Answer:
        return request(port, method, path, client.headers)

    items = {item.id: item for item in client.items}
    for kind in KINDS:
        answer, event = client.list(kind, ask, is_whole=True)
        if answer.status != 200 or answer.json["partial"] or answer.json["next"]:
            problem = f"the list of {kind} is not whole: {answer.status} {answer.body[-80:]!r}"
            totals.complain(f"{client.name}: {problem}")
            event.is_whole = False
        for record, _ in event.listed:
            items.setdefault(record, Item(kind, record))
    for item in items.values():
        item.tried += 1
        with client.ledger.operation("read", item.id) as event:
            answer = ask("GET", f"{item.path}/content")
            if answer.status == 200:
                event.acknowledge(seen=Seen(content=sha256(answer.body)))
            elif answer.status == 404:
                event.refuse(ABSENT)
            else:
                totals.complain(f"{client.name}: {item.path}: its content answers {answer.status}")
        if answer.status == 200:
            counted = ask("GET", item.path).json["accessCount"]
            if not item.counted <= counted <= WRITES * item.tried:
                told = f"{item.counted} accesses were acknowledged of {item.tried}"
                totals.complain(
                    f"LOST {client.name} {item.path}: {told}, and {counted} were counted"
                )
