"""Clients, and what they are told."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import threading
import time
import typing as t
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from werkzeug.test import encode_multipart

from tests import samples
from tests.faults.servers import bearer
from tests.tools.history import ABSENT, Event, Fields, Ledger, Seen

from .host import LOCK_SECONDS

CLIENTS = 8
SLOW_CLIENTS = 5
REQUEST_TIMEOUT = 20.0

KINDS = ("files", "product-images", "course-videos")
SIZES = (2_000, 60_000, 300_000, 1_500_000, 5_500_000)
OPERATIONS = {
    "create": 30,
    "read": 35,
    "replace": 14,
    "edit": 14,
    "delete": 8,
    "access": 15,
    "list": 16,
}
PRINTED_PROBLEMS = 40
INSISTENCE = 6
"""So often a client goes on with a record of which it was told nothing: what comes late must meet
something newer."""


@dataclass
class Item:
    """A client's knowledge of one of its media, beside its ledger."""

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
    """The events that all clients tell."""

    answers: Counter[tuple[str, int | str]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    """Aimed faults that met a statement."""
    problems: list[str] = field(default_factory=list)
    """Events that must not happen: an empty list is the purpose of all this."""
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
        return sum(
            n
            for (_, outcome), n in self.answers.items()
            if isinstance(outcome, int) and outcome < 300
        )


def request(
    port: int,
    method: str,
    path: str,
    headers: dict[str, str],
    body: bytes | SlowBody | None = None,
    content_type: str = "",
) -> Answer:
    """Send one request on a connection of its own.

    :raises Lost: The connection broke before the whole answer was there.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=REQUEST_TIMEOUT)
    if content_type:
        headers = headers | {"Content-Type": content_type}
    if isinstance(body, SlowBody):
        headers = headers | {"Content-Length": str(len(body))}
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return Answer(response.status, response.read(), response.headers)
    except (OSError, http.client.HTTPException) as error:
        raise Lost(repr(error)) from error
    finally:
        connection.close()


class Client(threading.Thread):
    """Works on media of its own."""

    PACE = ""

    def __init__(
        self, number: int, ports: list[int], totals: Totals, seed: int, until: threading.Event
    ) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self._ports, self._totals, self._random, self._until = (
            ports,
            totals,
            random.Random(f"{seed}-{number}"),
            until,
        )
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
            self._totals.count(self.PACE + operation, status)
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

    def _ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = ""
    ) -> Answer:
        port = self._random.choice(self._ports)
        answer = request(port, method, path, self.headers, body, content_type)
        if answer.status >= 500 and answer.status != 503:
            self._totals.complain(
                f"{self.name}: {method} {path} answered {answer.status}: {answer.body[:200]!r}"
            )
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
        return self._create(self._random.choice(KINDS))

    def _create(self, kind: str) -> int:
        content = self._content(kind)
        boundary, body = encode_multipart({"file": samples.part(content), **self._owner(kind)})
        new = {"content": sha256(content), "fields": {"title": None}}
        with self.ledger.operation("create", group=self.group(kind), **new) as event:
            answer = self._ask(
                "POST", f"/media/{kind}", body, f"multipart/form-data; boundary={boundary}"
            )
            if answer.status == 201:
                event.acknowledge(answer.json["id"], seen(answer.json))
                self.items.append(Item(kind, answer.json["id"]))
            elif answer.status == 400:  # the proxy cut it, and the end came sooner than the reset
                event.refuse()
            # 409: the driver sent an insert again that the killed server had done already; MongoDB
            # remembers that over a restart, SecantusDB does not.
            elif answer.status not in (409, 503) or b"swept" in answer.body:
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

    def _tell(
        self, event: Event, item: Item, answer: Answer, *, refusals: tuple[int, ...] = ()
    ) -> None:
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
                is_expected = own.kind == item.kind and event.invoked > own.created
                if is_expected and own.id not in listed:
                    times = event.invoked, event.completed
                    self.ledger.events.append(
                        Event(self.name, "read", own.id, *times, "acknowledged", seen=ABSENT)
                    )
        elif answer.status not in (200, 503):
            self._unexpected("list", item, answer)
        return answer.status

    def list(
        self, kind: str, ask: Callable[[str, str], Answer], *, is_whole: bool = False
    ) -> tuple[Answer, Event]:
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
        self._totals.complain(
            f"{self.name}: {operation} {where} answered {answer.status}: {answer.body[:200]!r}"
        )


class SlowClient(Client):
    """Sends a resumable upload for longer than its lock lasts, and asks in vain whether another
    request may go on.

    The lock is renewed while bytes come. If it is not, the second request gets in, and the first
    has sent for nothing.
    """

    PACE = "slow "
    SIZE = 600_000

    def _choice(self) -> tuple[str, Item | None]:
        if self.items and self._random.random() < 0.3:
            return "read", self._random.choice(self.items)
        return "create", None

    def _do_create(self, _: None) -> int:
        content = self._random.randbytes(self.SIZE)
        metadata = samples.encoded({"kind": "files", **self._owner("files")})
        tus = self.headers | {"Tus-Resumable": "1.0.0"}
        begin = tus | {"Upload-Length": str(len(content)), "Upload-Metadata": metadata}
        port = self._random.choice(self._ports)
        begun = request(port, "POST", "/media/uploads", begin)
        if begun.status != 201:
            return begun.status

        path = urllib.parse.urlsplit(begun.headers["Location"]).path
        upload = path.rpartition("/")[2]
        first = tus | {"Upload-Offset": "0"}
        other = threading.Timer(LOCK_SECONDS + 2, self._send_again, (path, first, content))
        new: t.Any = {"content": sha256(content), "fields": {"title": None}}
        with self.ledger.operation("create", group=self.group("files"), **new) as event:
            other.start()
            try:
                body = SlowBody(content, LOCK_SECONDS + 5, self._until)
                answer = request(port, "PATCH", path, first, body, samples.OFFSET_TYPE)
            finally:
                other.cancel()
                other.join()
            if answer.status == 204:
                event.acknowledge(upload)
                self.items.append(Item("files", upload))
            elif answer.status == 423:
                self._totals.complain(
                    f"{self.name}: another request was let in while bytes of {path} were coming"
                )
            elif answer.status == 409:
                event.refuse()  # it took too long
            elif answer.status not in (400, 503):
                self._unexpected("create", None, answer)
        return answer.status

    def _send_again(self, path: str, headers: dict[str, str], content: bytes) -> None:
        with suppress(Lost):
            answer = request(
                self._random.choice(self._ports),
                "PATCH",
                path,
                headers,
                content,
                samples.OFFSET_TYPE,
            )
            self._totals.count("slow repetition", answer.status)


class SlowBody:
    """A body of a known size that is sent a little at a time, and at once when nobody waits any
    more."""

    PIECE_SIZE = 16 * 1024

    def __init__(self, content: bytes, seconds: float, until: threading.Event) -> None:
        self._content, self._until = content, until
        self._pause = seconds * self.PIECE_SIZE / len(content)

    def __len__(self) -> int:
        return len(self._content)

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._content), self.PIECE_SIZE):
            self._until.wait(self._pause)
            yield self._content[start : start + self.PIECE_SIZE]


def seen(record: dict[str, t.Any]) -> Seen:
    """The part of a record's JSON that clients compare."""
    return Seen(
        content=record["checksum"], fields={"title": record.get("title", record.get("altText"))}
    )


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def report(totals: Totals, seed: int, kept: int) -> None:
    for operation in sorted({name for name, _ in totals.answers}):
        outcomes = sorted(
            ((o, n) for (name, o), n in totals.answers.items() if name == operation), key=str
        )
        print(f"  {operation:21}", ", ".join(f"{outcome}: {n}" for outcome, n in outcomes))
    print("  faults  ", ", ".join(f"{name}: {n}" for name, n in sorted(totals.faults.items())))
    print("  reached ", ", ".join(f"{name}: {n}" for name, n in sorted(totals.reached.items())))
    worst_first = sorted(totals.problems, key=lambda problem: "LOST" not in problem)
    for problem in worst_first[:PRINTED_PROBLEMS]:
        print("  PROBLEM ", problem)
    if len(totals.problems) > PRINTED_PROBLEMS:
        print(f"  and {len(totals.problems) - PRINTED_PROBLEMS} more")
    operations, faults = sum(totals.answers.values()), sum(totals.faults.values())
    print(
        f"seed {seed}: {operations} operations, {totals.acknowledged()} acknowledged,"
        f" {kept} media kept, {faults} faults, {totals.lost} lost, {len(totals.problems)} problems"
    )
