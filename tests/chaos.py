"""Break everything at random, and see whether anything that was acknowledged is lost.

``python -m tests.chaos --seconds 60 --seed N``. Clients upload, edit, replace, delete, read and list through proxies
that cut connections, and keep ledgers of what they were told. Meanwhile servers and workers are killed with ``kill -9``
or stopped, single statements arrive late, their answers are lost, and one of two hosts has a wrong clock. In the end
everything is up, and :mod:`tests.tools.history` must find an order of operations that explains every answer.

The seed decides what every client does and which fault comes when; which of the two comes first, the machine decides.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import typing as t
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from flask import Flask
from werkzeug.test import encode_multipart

from flask_dualmedia import DualMedia
from flask_dualmedia.state import get_state

from . import samples
from .faults.host import CONFIG
from .faults.servers import MongoServer, PostgresServer, Workers, bearer, running
from .proxy import Proxy
from .tools.fault_proxy import Fault as AimedFault
from .tools.history import ABSENT, Event, Fields, Ledger, Seen, check, dump
from .tools.mongo_proxy import MongoProxy
from .tools.pg_proxy import PostgresProxy

CLIENTS = 8
SETTLE_TIMEOUT = 90.0  # seconds until the journal must be empty: a killed process holds its lease for 15
REQUEST_TIMEOUT = 20.0
NOTICED = 8.0
"""Seconds after which every process must have noticed that the journal holds something: lists show it from then on."""

KINDS = ("files", "product-images", "course-videos")
SIZES = (2_000, 60_000, 300_000, 1_500_000, 5_500_000)
OPERATIONS = {"create": 30, "read": 35, "replace": 14, "edit": 14, "delete": 8, "access": 15, "list": 8}
CRASHES = {"kill postgres": 4, "hang postgres": 1, "kill mongo": 3, "kill worker": 5, "cut": 9}
FAULTS = CRASHES | {
    "hang mongo": 1,
    "read-only postgres": 1,
    "unreplicated postgres": 1,
    "late statement": 6,
    "lost statement": 3,
    "lost answer": 4,
    "late command": 2,
    "skewed clock": 0,  # for the whole run
}
SKEW = 3600  # seconds, in either direction
RECORDS = "(product_images|course_videos|media_storage)"
STATEMENTS = (
    f"INSERT INTO {RECORDS}",
    f"UPDATE {RECORDS} SET (title|alt_text)",
    f"UPDATE {RECORDS} SET state",
    f"DELETE FROM {RECORDS}",
    "INSERT INTO media_chunks",
    "^COMMIT",
)
COMMANDS = ("insert", "update", "delete", "findAndModify", "commitTransaction")
PRINTED_PROBLEMS = 40
INSISTENCE = 6
"""So often a client goes on with a record of which it was told nothing: what comes late must meet something newer."""


@dataclass
class Item:
    """What one client knows of one of its media, beside its ledger."""

    kind: str
    id: str
    created: float = field(default_factory=time.monotonic)
    counted: int = 0
    """Accesses that were acknowledged."""
    tried: int = 0
    """Accesses, and reads, which count too unless they are parts of one play."""

    @property
    def path(self) -> str:
        return f"/media/{self.kind}/{self.id}"


@dataclass
class Answer:
    status: int
    body: bytes
    headers: http.client.HTTPMessage

    @property
    def json(self) -> t.Any:
        return json.loads(self.body)


class Lost(Exception):
    """No answer came: what was asked for may have been done or not."""


@dataclass
class Totals:
    """What happened, told by all clients."""

    answers: Counter[tuple[str, int | str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    """Aimed faults that met a statement."""
    problems: list[str] = field(default_factory=list)
    """What must not happen: an empty list is the purpose of all this."""
    lost: int = 0
    """Records with an answer that nothing explains."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, operation: str, outcome: int | str) -> None:
        with self._lock:
            self.answers[operation, outcome] += 1

    def complain(self, problem: str) -> None:
        with self._lock:
            self.problems.append(f"{time.strftime('%H:%M:%S')} {problem}")

    def acknowledged(self) -> int:
        return sum(n for (_, outcome), n in self.answers.items() if isinstance(outcome, int) and outcome < 300)


def request(
    port: int, method: str, path: str, headers: dict[str, str], body: bytes | None = None, content_type: str = ""
) -> Answer:
    """Send one request on a connection of its own.

    :raises Lost: The connection broke before the whole answer was there.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT)
    try:
        connection.request(method, path, body, headers | ({"Content-Type": content_type} if content_type else {}))
        response = connection.getresponse()
        return Answer(response.status, response.read(), response.headers)
    except (OSError, http.client.HTTPException) as error:
        raise Lost(repr(error)) from error
    finally:
        connection.close()


class Client(threading.Thread):
    """Works on media of its own."""

    def __init__(self, number: int, ports: list[int], totals: Totals, seed: int, until: threading.Event) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self._ports, self._totals, self._random, self._until = ports, totals, random.Random(f"{seed}-{number}"), until
        self.headers = bearer(self.name)
        self.items: list[Item] = []
        self.ledger = Ledger(self.name)
        self._doubtful: tuple[Item, int] | None = None
        """A record of which the client was told nothing, and how often it goes on with it."""

    def run(self) -> None:
        while not self._until.is_set():
            operation, item = self._choice()
            try:
                status = getattr(self, f"_do_{operation}")(item)
            except Lost:
                status = "no answer"
            except Exception as error:
                self._totals.complain(f"{self.name} {operation}: {error!r}")
                status = "broken"
            self._totals.count(operation, status)
            is_unknown = status in (503, "no answer")
            is_change = operation in ("replace", "edit", "delete")
            if is_unknown and is_change and item is not None and self._doubtful is None:
                self._doubtful = item, INSISTENCE
            # An outage is no reason to ask a thousand times a second.
            self._until.wait(0.2 if is_unknown else 0.01)

    def _choice(self) -> tuple[str, Item | None]:
        operation = self._random.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]
        if self._doubtful is not None and self._random.random() < 0.7:
            item, rest = self._doubtful
            self._doubtful = (item, rest - 1) if rest > 1 else None
            return self._random.choice(("read", "read", "replace", "edit")), item
        if not self.items or (operation == "create" and len(self.items) < 60):
            return "create", None
        return operation if operation != "create" else "read", self._random.choice(self.items)

    def _ask(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> Answer:
        answer = request(self._random.choice(self._ports), method, path, self.headers, body, content_type)
        if answer.status >= 500 and answer.status != 503:
            self._totals.complain(f"{self.name}: {method} {path} answered {answer.status}: {answer.body[:200]!r}")
        if answer.status == 503 and "Retry-After" not in answer.headers:
            self._totals.complain(f"{self.name}: {method} {path} answered 503 without Retry-After")
        return answer

    def _content(self, kind: str) -> bytes:
        size = self._random.choices(SIZES, (8, 8, 5, 3, 1))[0] + self._random.randrange(1000)
        content = self._random.randbytes(size)
        if kind == "product-images":
            return samples.png(comment=content)
        return samples.mp4(24)[:20] + content if kind == "course-videos" else content

    def _owner(self, kind: str) -> dict[str, str]:
        if kind == "files":
            return {"referenceType": "user", "referenceId": self.name}
        return {"mongoProductId" if kind == "product-images" else "mongoCourseId": self.name}

    def _do_create(self, _: None) -> int:
        kind = self._random.choice(KINDS)
        content = self._content(kind)
        boundary, body = encode_multipart({"file": samples.part(content), **self._owner(kind)})
        new = {"content": sha256(content), "fields": {"title": None}}
        with self.ledger.operation("create", group=self.group(kind), **new) as event:
            answer = self._ask("POST", f"/media/{kind}", body, f"multipart/form-data; boundary={boundary}")
            if answer.status == 201:
                event.acknowledge(answer.json["id"], seen(answer.json))
                self.items.append(Item(kind, answer.json["id"]))
            elif answer.status == 400:  # the proxy cut it, and the end came sooner than the reset
                event.refuse()
            # 409: the driver sent an insert again that the killed server had done already; MongoDB remembers that over
            # a restart, SecantusDB does not.
            elif answer.status not in (409, 503):
                self._unexpected("create", None, answer)
        return answer.status

    def _do_replace(self, item: Item) -> int:
        content = self._content(item.kind)
        with self.ledger.operation("replace", item.id, content=sha256(content)) as event:
            answer = self._ask("PUT", f"{item.path}/content", content, "application/octet-stream")
            self._tell(event, item, answer, refusals=(400, 409))
        return answer.status

    def _do_edit(self, item: Item) -> int:
        title = f"{self._random.randrange(10**9)}"
        name = "altText" if item.kind == "product-images" else "title"
        body = json.dumps({name: title}).encode()
        fields: Fields = {"title": title}
        with self.ledger.operation("edit", item.id, fields=fields) as event:
            answer = self._ask("PATCH", item.path, body, "application/json")
            self._tell(event, item, answer, refusals=(400, 409))
        return answer.status

    def _do_delete(self, item: Item) -> int:
        with self.ledger.operation("delete", item.id) as event:
            answer = self._ask("DELETE", item.path)
            if answer.status == 204:
                event.acknowledge()
            else:
                self._tell(event, item, answer)
        return answer.status

    def _do_access(self, item: Item) -> int:
        item.tried += 1
        with self.ledger.operation("read", item.id) as event:
            answer = self._ask("POST", f"{item.path}/accesses")
            if answer.status == 204:
                item.counted += 1
                event.acknowledge(seen=Seen())
            else:
                self._tell(event, item, answer)
        return answer.status

    def _do_read(self, item: Item) -> int:
        if self._random.random() < 0.3:
            path = item.path
        else:
            path = f"{item.path}/content"
            item.tried += 1
        with self.ledger.operation("read", item.id) as event:
            answer = self._ask("GET", path)
            if answer.status == 200 and path != item.path:
                event.acknowledge(seen=Seen(content=sha256(answer.body)))
            else:
                self._tell(event, item, answer)
        return answer.status

    def _tell(self, event: Event, item: Item, answer: Answer, *, refusals: tuple[int, ...] = ()) -> None:
        """Note what an answer says about a record."""
        if answer.status == 200:
            event.acknowledge(seen=seen(answer.json))
        elif answer.status == 404:
            event.refuse(ABSENT)
        elif answer.status in refusals:
            event.refuse()
        elif answer.status != 503:
            self._unexpected(event.operation, item, answer)

    def _do_list(self, item: Item) -> int:
        """A list that is not partial has everything that was acknowledged."""
        answer, event = self.list(item.kind, self._ask)
        if answer.status == 200 and not answer.json["partial"]:
            listed = {found["id"] for found in answer.json["items"]}
            for own in self.items:
                is_noticed = own.kind == item.kind and event.invoked - own.created > NOTICED
                if is_noticed and own.id not in listed:
                    times = event.invoked, event.completed
                    self.ledger.events.append(Event(self.name, "read", own.id, *times, "acknowledged", seen=ABSENT))
        elif answer.status not in (200, 503):
            self._unexpected("list", item, answer)
        return answer.status

    def list(self, kind: str, ask: Callable[[str, str], Answer], *, is_whole: bool = False) -> tuple[Answer, Event]:
        """Ask for all that this client has of a kind.

        :param is_whole: Whether what is not listed is not there.
        """
        name, value = list(self._owner(kind).items())[-1]
        with self.ledger.operation("list", group=self.group(kind)) as event:
            answer = ask("GET", f"/media/{kind}?{name}={value}&limit=100")
            if answer.status == 200:
                event.acknowledge()
                event.is_whole = is_whole
                event.listed = [(found["id"], seen(found)) for found in answer.json["items"]]
        return answer, event

    def group(self, kind: str) -> str:
        return f"{kind} of {self.name}"

    def _unexpected(self, operation: str, item: Item | None, answer: Answer) -> None:
        if answer.status >= 500:
            return  # every such answer is complained about where it comes
        where = item.path if item is not None else ""
        self._totals.complain(f"{self.name}: {operation} {where} answered {answer.status}: {answer.body[:200]!r}")


def seen(record: dict[str, t.Any]) -> Seen:
    """What the JSON of a record shows."""
    return Seen(content=record["checksum"], fields={"title": record.get("title", record.get("altText"))})


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Deployment:
    """Two databases behind proxies, and the workers of one host or two, all of which can fail.

    :param skew: Seconds that the clock of a second host is ahead; without it there is no second host.
    """

    def __init__(self, directory: Path, *, skew: float = 0) -> None:
        self.directory = directory
        self.postgres, self.mongo = PostgresServer(directory), MongoServer(directory)
        self.statements, self.commands = PostgresProxy(self.postgres.url), MongoProxy(self.mongo.uri)
        self.config = {"SQLALCHEMY_DATABASE_URI": self.postgres.url, "MONGO_URI": self.mongo.uri}
        config = {"SQLALCHEMY_DATABASE_URI": self.statements.url, "MONGO_URI": self.commands.uri}
        config["JWT_DECODE_LEEWAY"] = str(2 * SKEW)  # tokens are none of our matter
        self.workers = Workers(directory, config)
        self.hosts = [self.workers]
        if skew:
            self.hosts.append(Workers(directory, config, count=1, skew=skew))
        self._stack = ExitStack()

    def __enter__(self) -> Deployment:
        with ExitStack() as stack:
            stack.callback(self.statements.close)
            stack.callback(self.commands.close)
            for server in (self.postgres, self.mongo, *self.hosts):
                stack.enter_context(running(server))
            self.proxies = [Proxy(("127.0.0.1", host.port)) for host in self.hosts]
            for proxy in self.proxies:
                stack.callback(proxy.close)
            self.wait_until_settled()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def wait_until_settled(self) -> float:
        """Wait until the databases answer and the journal is empty, as every worker sees it.

        :return: Seconds that it took.
        """
        start, good, last = time.monotonic(), 0, ""
        while good < 10 * len(self.hosts):
            if time.monotonic() - start > SETTLE_TIMEOUT:
                raise RuntimeError(f"not settled after {SETTLE_TIMEOUT:.0f} seconds: {last}")
            try:
                port = self.hosts[good % len(self.hosts)].port
                answer = request(port, "GET", "/media/health", {})
                last = answer.body.decode()
                settled = answer.status == 200 and answer.json["journal"] == 0 and not answer.json["degraded"]
            except Lost as error:
                settled, last = False, str(error)
            good = good + 1 if settled else 0
            time.sleep(0.05 if settled else 0.3)
        return time.monotonic() - start

    def repair(self) -> tuple[int, str]:
        """Repair what is wrong, however much it is; exit status and output."""
        command = ("check", "--repair", "--grace", "0")
        self.flask(*command)  # nothing is taken away on one look
        code, output = self.flask(*command)
        refused = re.search(r"--force --expect (\d+)", output)
        return self.flask(*command, "--force", "--expect", refused[1]) if refused else (code, output)

    def flask(self, *args: str) -> tuple[int, str]:
        """Run ``flask dualmedia ...``; exit status and output."""
        app = Flask("operator")
        app.config.update(CONFIG, **self.config, DUALMEDIA_AUTO_DRAIN=False, DUALMEDIA_TRASH_SECONDS=0)
        DualMedia(app)
        state = get_state(app)
        try:
            result = app.test_cli_runner().invoke(args=["dualmedia", *args])
            return result.exit_code, result.output + (repr(result.exception) if result.exception else "")
        finally:
            if state.circuit is not None:
                state.circuit.stop()
            state.mongo.client.close()
            if state.engine is not None:
                state.engine.dispose()


@dataclass(frozen=True)
class Fault:
    at: float
    """Seconds from the start."""
    name: str
    lasts: float
    amount: int


def schedule(seconds: float, seed: int, faults: dict[str, int]) -> list[Fault]:
    """The faults of a run, the last of them some seconds before its end."""
    chance, scheduled, at = random.Random(seed), [], 1.5
    while at < seconds - 2 and any(faults.values()):
        name = chance.choices(list(faults), list(faults.values()))[0]
        is_aimed = name.split()[0] in ("late", "lost")
        longest = 6 if name in ("kill postgres", "unreplicated postgres") else 3
        lasts = chance.uniform(2, 15) if is_aimed else chance.uniform(0.3, longest)
        if is_aimed:
            lasts = min(lasts, seconds - at)
        scheduled.append(Fault(at, name, lasts, int(10 ** chance.uniform(2, 6.5))))
        at += chance.expovariate(0.9)
    return scheduled


class Chaos(threading.Thread):
    """Carries out a schedule of faults, and mends them after a while."""

    def __init__(self, deployment: Deployment, faults: list[Fault], totals: Totals, seed: int) -> None:
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


def settle(deployment: Deployment, clients: list[Client], totals: Totals) -> list[Event]:
    """Look at everything now that it answers, and judge all that was ever answered.

    :return: All events.
    """
    for client in clients:
        _look(deployment.workers.port, client, totals)
    events = [event for client in clients for event in client.ledger.events]
    for anomaly in check(events):
        totals.lost += 1
        totals.complain(f"LOST {anomaly}")
    verify = ("check", "--verify-bytes", "--grace", "0")
    for command, (code, output) in (
        ("check --repair", deployment.repair()),
        ("sweep", deployment.flask("sweep", "--grace", "0", "--yes")),  # the rows that deleted records leave
        ("check --verify-bytes", deployment.flask(*verify)),
    ):
        print(f"flask dualmedia {command}:", *output.splitlines()[-9:], sep="\n    ")
        if code:
            totals.complain(f"flask dualmedia {command} ended with {code}:\n{output}")
    code, output = deployment.flask("drain")
    if code or not output.startswith("Moved 0 record(s); 0 had"):
        totals.complain(f"flask dualmedia drain, after the journal was empty: {output}")
    return events


def _look(port: int, client: Client, totals: Totals) -> None:
    """List and read all that a client has, and all that it may have without having been told."""

    def ask(method: str, path: str) -> Answer:
        return request(port, method, path, client.headers)

    items = {item.id: item for item in client.items}
    for kind in KINDS:
        answer, event = client.list(kind, ask, is_whole=True)
        if answer.status != 200 or answer.json["partial"] or answer.json["next"]:
            totals.complain(f"{client.name}: the list of {kind} is not whole: {answer.status} {answer.body[-80:]!r}")
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
            if not item.counted <= counted <= item.tried:
                told = f"{item.counted} accesses were acknowledged of {item.tried}"
                totals.complain(f"LOST {client.name} {item.path}: {told}, and {counted} were counted")


def run(seconds: float, seed: int, faults: dict[str, int] = FAULTS) -> Totals:
    """One run in a deployment of its own, which stays for a look at it where something was wrong."""
    # Not in a folder of pytest's: where root runs the tests, pytest shuts the PostgreSQL account out of those.
    directory = Path(tempfile.mkdtemp(prefix="dualmedia-chaos-"))
    totals, until = Totals(), threading.Event()
    skew = random.Random(seed).choice((-SKEW, SKEW)) if "skewed clock" in faults else 0
    with Deployment(directory, skew=skew) as deployment:
        ports = [proxy.port for proxy in deployment.proxies]
        clients = [Client(n, ports, totals, seed, until) for n in range(CLIENTS)]
        chaos = Chaos(deployment, schedule(seconds, seed, faults), totals, seed)
        start = time.monotonic()
        for thread in (*clients, chaos):
            thread.start()
        time.sleep(seconds)
        until.set()
        chaos.join()
        for client in clients:
            client.join(REQUEST_TIMEOUT + 10)
        took = deployment.wait_until_settled()
        print(f"seed {seed}: {time.monotonic() - start:.0f} s, of them {took:.1f} until all was well again")
        events = settle(deployment, clients, totals)
        kept = sum(len(event.listed) for event in events if event.operation == "list" and event.is_whole)
    totals.reached.update(name for name, aimed in chaos.aimed if aimed.reached)
    report(totals, seed, kept)
    if totals.problems:
        dump(events, directory / "events")
        print(f"the databases, the events and the logs of the workers are left in {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return totals


def report(totals: Totals, seed: int, kept: int) -> None:
    for operation in OPERATIONS:
        outcomes = sorted(((o, n) for (name, o), n in totals.answers.items() if name == operation), key=str)
        print(f"  {operation:8}", ", ".join(f"{outcome}: {n}" for outcome, n in outcomes))
    print("  faults  ", ", ".join(f"{name}: {n}" for name, n in sorted(totals.faults.items())))
    print("  reached ", ", ".join(f"{name}: {n}" for name, n in sorted(totals.reached.items())))
    worst_first = sorted(totals.problems, key=lambda problem: "LOST" not in problem)
    for problem in worst_first[:PRINTED_PROBLEMS]:
        print("  PROBLEM ", problem)
    if len(totals.problems) > PRINTED_PROBLEMS:
        print(f"  and {len(totals.problems) - PRINTED_PROBLEMS} more")
    operations, faults = sum(totals.answers.values()), sum(totals.faults.values())
    print(
        f"seed {seed}: {operations} operations, {totals.acknowledged()} acknowledged, {kept} media kept,"
        f" {faults} faults, {totals.lost} lost, {len(totals.problems)} problems"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # not without stopping the servers
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--faults", nargs="+", choices=list(FAULTS), default=list(FAULTS), help="all by default")
    arguments = parser.parse_args()
    faults = {name: FAULTS[name] for name in arguments.faults}
    sys.exit(1 if run(arguments.seconds, arguments.seed, faults).problems else 0)


if __name__ == "__main__":
    main()
