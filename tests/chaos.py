"""Kill everything at random, and see whether anything that was acknowledged is lost.

``python -m tests.chaos --seconds 60 --seed N``. Clients upload, replace, delete, read and list through a proxy that
cuts connections, and keep a ledger of what they were told. Meanwhile PostgreSQL, the MongoDB server and gunicorn's
workers are killed with ``kill -9`` and started again. In the end everything is up, and the ledger must hold.

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

CLIENTS = 8
SETTLE_TIMEOUT = 90.0  # seconds until the journal must be empty: a killed process holds its lease for 15
REQUEST_TIMEOUT = 20.0
NOTICED = 8.0
"""Seconds after which every process must have noticed that the journal holds something: lists show it from then on."""

KINDS = ("files", "product-images", "course-videos")
SIZES = (2_000, 60_000, 300_000, 1_500_000, 5_500_000)
OPERATIONS = {"create": 30, "read": 35, "replace": 14, "delete": 8, "access": 15, "list": 8}
FAULTS = {"kill postgres": 4, "hang postgres": 1, "kill mongo": 3, "kill worker": 5, "cut": 9}


@dataclass
class Item:
    """What one client knows of one of its media."""

    kind: str
    id: str
    checksums: set[str]
    """One, or several where an answer was lost and nobody knows which of them it has now."""
    created: float = field(default_factory=time.monotonic)
    counted: int = 0
    """Accesses that were acknowledged."""
    tried: int = 0
    """Accesses, and reads, which count too unless they are parts of one play."""
    deleted: t.Literal["no", "perhaps", "yes"] = "no"

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
    problems: list[str] = field(default_factory=list)
    """What must not happen: an empty list is the purpose of all this."""
    lost: int = 0
    """Acknowledged operations that did not hold in the end."""
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
    """Works on media of its own, so that it knows what every answer must be."""

    def __init__(self, number: int, port: int, totals: Totals, seed: int, until: threading.Event) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self._port, self._totals, self._random, self._until = port, totals, random.Random(f"{seed}-{number}"), until
        self.headers = bearer(self.name)
        self.items: list[Item] = []

    def run(self) -> None:
        names, weights = list(OPERATIONS), list(OPERATIONS.values())
        while not self._until.is_set():
            operation = self._random.choices(names, weights)[0]
            item = self._random.choice(self.items) if self.items else None
            if item is None or (operation == "create" and len(self.items) < 60):
                operation, item = "create", None
            try:
                status = getattr(self, f"_do_{operation}")(item)
            except Lost:
                status = "no answer"
            except Exception as error:
                self._totals.complain(f"{self.name} {operation}: {error!r}")
                status = "broken"
            self._totals.count(operation, status)
            # An outage is no reason to ask a thousand times a second.
            self._until.wait(0.2 if status in (503, "no answer") else 0.01)

    def _ask(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> Answer:
        answer = request(self._port, method, path, self.headers, body, content_type)
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
        answer = self._ask("POST", f"/media/{kind}", body, f"multipart/form-data; boundary={boundary}")
        if answer.status == 201:
            self.items.append(Item(kind, answer.json["id"], {sha256(content)}))
        # 400: the proxy cut it, and the end came sooner than the reset. 409: the driver sent an insert again that the
        # killed server had done already; MongoDB remembers that over a restart, SecantusDB does not.
        elif answer.status not in (400, 409, 503):
            self._unexpected("create", None, answer)
        return answer.status

    def _do_replace(self, item: Item) -> int:
        content = self._content(item.kind)
        before = set(item.checksums)
        item.checksums.add(sha256(content))
        answer = self._ask("PUT", f"{item.path}/content", content, "application/octet-stream")
        if answer.status == 200:
            item.checksums = {sha256(content)}
        elif answer.status in (400, 404, 409):  # refused for certain
            item.checksums = before
            if answer.status == 404:
                self._gone(item)
        elif answer.status != 503:
            self._unexpected("replace", item, answer)
        return answer.status

    def _do_delete(self, item: Item) -> int:
        if item.deleted == "no":
            item.deleted = "perhaps"
            answer = self._ask("DELETE", item.path)
        else:
            answer = self._ask("DELETE", item.path)
            if answer.status == 404:
                item.deleted = "yes"
        if answer.status == 204:
            item.deleted = "yes"
        elif answer.status not in (404, 503):
            self._unexpected("delete", item, answer)
        elif answer.status == 404 and item.deleted == "perhaps":
            self._totals.complain(f"{self.name}: nothing to delete at {item.path}, which nobody deleted")
        return answer.status

    def _do_access(self, item: Item) -> int:
        item.tried += 1
        answer = self._ask("POST", f"{item.path}/accesses")
        if answer.status == 204:
            item.counted += 1
        elif answer.status == 404:
            self._gone(item)
        elif answer.status != 503:
            self._unexpected("access", item, answer)
        return answer.status

    def _do_read(self, item: Item) -> int:
        item.tried += 1
        answer = self._ask("GET", f"{item.path}/content")
        if answer.status == 200:
            if sha256(answer.body) not in item.checksums:
                self._totals.complain(f"{self.name}: other bytes than those acknowledged at {item.path}")
            if item.deleted == "yes":
                self._totals.complain(f"{self.name}: deleted media is readable at {item.path}")
        elif answer.status == 404:
            self._gone(item)
        elif answer.status != 503:
            self._unexpected("read", item, answer)
        return answer.status

    def _do_list(self, item: Item) -> int:
        """A list that is not partial has everything that was acknowledged."""
        name, value = list(self._owner(item.kind).items())[-1]
        asked = time.monotonic()
        answer = self._ask("GET", f"/media/{item.kind}?{name}={value}&limit=100")
        if answer.status == 200 and not answer.json["partial"]:
            listed = {found["id"] for found in answer.json["items"]}
            for own in self.items:
                known = own.kind == item.kind and asked - own.created > NOTICED
                if known and own.deleted == "no" and own.id not in listed:
                    self._totals.complain(f"{self.name}: {own.path} is missing from a list that calls itself whole")
                if own.deleted == "yes" and own.id in listed:
                    self._totals.complain(f"{self.name}: {own.path} is deleted and listed")
        elif answer.status not in (200, 503):
            self._unexpected("list", item, answer)
        return answer.status

    def _gone(self, item: Item) -> None:
        if item.deleted == "no":
            self._totals.complain(f"{self.name}: not found: {item.path}, which nobody deleted")

    def _unexpected(self, operation: str, item: Item | None, answer: Answer) -> None:
        where = item.path if item is not None else ""
        self._totals.complain(f"{self.name}: {operation} {where} answered {answer.status}: {answer.body[:200]!r}")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class Deployment:
    """Two databases and the workers of a host, all of which can be killed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.postgres, self.mongo = PostgresServer(directory), MongoServer(directory)
        self.config = {"SQLALCHEMY_DATABASE_URI": self.postgres.url, "MONGO_URI": self.mongo.uri}
        self.workers = Workers(directory, self.config)
        self._stack = ExitStack()

    def __enter__(self) -> Deployment:
        with ExitStack() as stack:
            for server in (self.postgres, self.mongo, self.workers):
                stack.enter_context(running(server))
            self.proxy = Proxy(("127.0.0.1", self.workers.port))
            stack.callback(self.proxy.close)
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
        while good < 10:
            if time.monotonic() - start > SETTLE_TIMEOUT:
                raise RuntimeError(f"not settled after {SETTLE_TIMEOUT:.0f} seconds: {last}")
            try:
                answer = request(self.workers.port, "GET", "/media/health", {})
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
        code, output = self.flask(*command)
        refused = re.search(r"--force --expect (\d+)", output)
        return self.flask(*command, "--force", "--expect", refused[1]) if refused else (code, output)

    def flask(self, *args: str) -> tuple[int, str]:
        """Run ``flask dualmedia ...``; exit status and output."""
        app = Flask("operator")
        app.config.update(CONFIG, **self.config, DUALMEDIA_AUTO_DRAIN=False)
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


def schedule(seconds: float, seed: int) -> list[Fault]:
    """The faults of a run, the last of them some seconds before its end."""
    chance, faults, at = random.Random(seed), [], 1.5
    while at < seconds - 2:
        name = chance.choices(list(FAULTS), list(FAULTS.values()))[0]
        lasts = chance.uniform(0.3, 6 if name == "kill postgres" else 3)
        faults.append(Fault(at, name, lasts, int(10 ** chance.uniform(2, 6.5))))
        at += chance.expovariate(0.9)
    return faults


class Chaos(threading.Thread):
    """Carries out a schedule of faults, and mends them after a while."""

    def __init__(self, deployment: Deployment, faults: list[Fault], totals: Totals, seed: int) -> None:
        super().__init__(name="chaos", daemon=True)
        self._deployment, self._totals, self._random = deployment, totals, random.Random(seed)
        self._pending = sorted(faults, key=lambda fault: -fault.at)
        self._mends: list[tuple[float, str, Callable[[], None]]] = []

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
        if fault.name == "kill postgres":
            deployment.postgres.kill()
            self._mends.append((end, "postgres", deployment.postgres.start))
        elif fault.name == "hang postgres":
            deployment.postgres.pause()
            self._mends.append((end, "postgres", deployment.postgres.resume))
        elif fault.name == "kill mongo":
            deployment.mongo.kill()
            self._mends.append((end, "mongo", deployment.mongo.start))
        elif fault.name == "kill worker":
            deployment.workers.kill_one(self._random.choice)
        else:
            deployment.proxy.cut_next(fault.amount)


def settle(deployment: Deployment, clients: list[Client], totals: Totals) -> None:
    """Compare the ledgers with what is there now that everything answers."""
    for client in clients:
        for item in client.items:
            wrong = _judge(deployment.workers.port, client, item)
            if wrong:
                totals.lost += 1
                totals.complain(f"LOST {client.name} {item.path}: {wrong}")
    verify = ("check", "--verify-bytes", "--grace", "0")
    for command, (code, output) in (
        ("check --repair", deployment.repair()),
        ("check --verify-bytes", deployment.flask(*verify)),
    ):
        print(f"flask dualmedia {command}:", *output.splitlines()[-9:], sep="\n    ")
        if code:
            totals.complain(f"flask dualmedia {command} ended with {code}:\n{output}")
    code, output = deployment.flask("drain")
    if code or not output.startswith("Moved 0 record(s); 0 had"):
        totals.complain(f"flask dualmedia drain, after the journal was empty: {output}")


def _judge(port: int, client: Client, item: Item) -> str | None:
    item.tried += 1
    content = request(port, "GET", f"{item.path}/content", client.headers)
    if content.status == 404:
        return None if item.deleted != "no" else "it is gone"
    if content.status != 200:
        return f"its content answers {content.status}"
    if item.deleted == "yes":
        return "it was deleted, and is there"
    if sha256(content.body) not in item.checksums:
        return f"its bytes are {sha256(content.body)}, not one of {item.checksums}"
    record = request(port, "GET", item.path, client.headers).json
    if not item.counted <= record["accessCount"] <= item.tried:
        return f"{item.counted} accesses were acknowledged of {item.tried}, and {record['accessCount']} were counted"
    return None


def run(seconds: float, seed: int) -> Totals:
    """One run in a deployment of its own, which stays for a look at it where something was wrong."""
    # Not in a folder of pytest's: where root runs the tests, pytest shuts the PostgreSQL account out of those.
    directory = Path(tempfile.mkdtemp(prefix="dualmedia-chaos-"))
    totals, until = Totals(), threading.Event()
    with Deployment(directory) as deployment:
        clients = [Client(n, deployment.proxy.port, totals, seed, until) for n in range(CLIENTS)]
        chaos = Chaos(deployment, schedule(seconds, seed), totals, seed)
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
        settle(deployment, clients, totals)
        kept = sum(item.deleted != "yes" for client in clients for item in client.items)
    report(totals, seed, kept)
    if totals.problems:
        print(f"the databases and the log of the workers are left in {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return totals


def report(totals: Totals, seed: int, kept: int) -> None:
    for operation in OPERATIONS:
        outcomes = sorted(((o, n) for (name, o), n in totals.answers.items() if name == operation), key=str)
        print(f"  {operation:8}", ", ".join(f"{outcome}: {n}" for outcome, n in outcomes))
    print("  faults  ", ", ".join(f"{name}: {n}" for name, n in sorted(totals.faults.items())))
    for problem in totals.problems:
        print("  PROBLEM ", problem)
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
    arguments = parser.parse_args()
    sys.exit(1 if run(arguments.seconds, arguments.seed).problems else 0)


if __name__ == "__main__":
    main()
