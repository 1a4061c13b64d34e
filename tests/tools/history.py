"""The history checker: does an order of operations explain every answer that clients got?

A record is a register that is created, replaced, edited, deleted and read. Each operation took
effect at one moment between its invocation and its completion if it was acknowledged, and never if
it was refused. An *unknown* one (no answer, or one that promises nothing) took effect once, at any
moment after its invocation, or never. One more rule is the project's own: once a later change,
invoked after the unknown one had returned, was acknowledged, the unknown one must not take effect
any more. It would undo what its client may have built on. And what nobody was told of may be taken
back: an unknown create brings an unknown deletion with it, to which the same rule applies.

:func:`check` looks for such an order, record by record: the search of Wing and Gong (1993), which
    remembers where it
was, as Lowe (2017) does.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import json
import math
import time
import typing as t
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

Operation = t.Literal["create", "replace", "edit", "delete", "read", "list"]
Outcome = t.Literal["acknowledged", "refused", "unknown"]
Kind = t.Literal["gone", "revived", "undone", "wrong", "duplicate", "stranger"]
Fields = dict[str, str | int | bool | None]


@dataclass(frozen=True)
class Seen:
    """The part of a record that an answer shows. Left out is what the answer does not tell."""

    exists: bool = True
    content: str | None = None
    """Checksum."""
    fields: Fields = field(default_factory=dict)


ABSENT = Seen(exists=False)


@dataclass
class Event:
    """One operation, as its client saw it. Times are those of one monotonic clock."""

    client: str
    operation: Operation
    record: str | None
    """Its id; ``None`` for lists, and for a create that told none."""
    invoked: float
    completed: float = math.inf
    outcome: Outcome = "unknown"
    content: str | None = None
    """Checksum of the bytes that are created or put in place. Two creates never have the same."""
    fields: Fields = field(default_factory=dict)
    """The fields and content that a create or edit sets."""
    seen: Seen | None = None
    """The record after the operation. One that is refused may tell it too: 404 is
    :data:`ABSENT`."""
    group: str = ""
    """Names the list that shows the record."""
    listed: list[tuple[str, Seen]] = field(default_factory=list)
    is_whole: bool = True
    """Whether a list shows everything of its group."""

    def acknowledge(self, record: str | None = None, seen: Seen | None = None) -> None:
        self.outcome = "acknowledged"
        self.record, self.seen = record or self.record, seen or self.seen

    def refuse(self, seen: Seen | None = None) -> None:
        self.outcome, self.seen = "refused", seen

    def __str__(self) -> str:
        told = ({"content": self.content[:8]} if self.content else {}) | self.fields
        details = ", ".join(f"{name}={value!r}" for name, value in told.items())
        shown = ""
        if self.seen is not None:
            shown = (
                f" shows {(self.seen.content or '')[:8]} {self.seen.fields}"
                if self.seen.exists
                else " shows nothing"
            )
        when = f"{self.invoked:.3f} to {self.completed:.3f}"
        return (
            f"{when} {self.client}: {self.operation} {self.record}({details}) {self.outcome}{shown}"
        )


class Ledger:
    """The operations of one client, with their answers."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.events: list[Event] = []

    @contextmanager
    def operation(
        self,
        operation: Operation,
        record: str | None = None,
        *,
        content: str | None = None,
        fields: Fields | None = None,
        group: str = "",
    ) -> Iterator[Event]:
        """Record an operation; it is unknown unless the body says otherwise."""
        event = Event(
            self.client, operation, record, time.monotonic(), content=content, group=group
        )
        event.fields = dict(fields or {})
        self.events.append(event)
        try:
            yield event
        finally:
            event.completed = time.monotonic()


@dataclass(frozen=True)
class Anomaly:
    """An answer that nothing explains.

    ``gone``: a record that exists is not found. ``revived``: a deleted one is there. ``undone``: an
    older value is back. ``wrong``: a value that nobody wrote. ``duplicate``: one create made two
    records, or one is listed twice. ``stranger``: nobody created it.
    """

    kind: Kind
    record: str
    events: tuple[Event, ...]
    """The history of the record up to the answer; of a duplicate, what is known of both records."""

    def __str__(self) -> str:
        last = self.events[-4:]
        shown = [event for event in self.events if _is_write(event) or event in last]
        return "\n    ".join([f"{self.kind}: {self.record}", *map(str, shown)])


def check(events: Iterable[Event]) -> list[Anomaly]:
    """Judge the events of all clients.

    :return: For each record that cannot be explained its first anomaly.
    """
    ordered = sorted(events, key=lambda event: event.invoked)
    lists = [
        event for event in ordered if event.operation == "list" and event.outcome == "acknowledged"
    ]
    histories: dict[str, list[Event]] = defaultdict(list)
    for event in ordered:
        if event.operation != "list" and event.record is not None:
            histories[event.record].append(event)
    anomalies = list(_listed_twice(lists))
    for event in lists:
        for record, seen in event.listed:
            histories[record].append(_read(event, record, seen))
    anomalies += _adopt(ordered, histories)
    for record, history in histories.items():
        group = next((event.group for event in history if event.operation == "create"), None)
        for event in lists:
            is_missing = event.is_whole and all(listed != record for listed, _ in event.listed)
            if event.group == group and is_missing:
                history.append(_read(event, record, ABSENT))
    judged = {anomaly.record for anomaly in anomalies}
    found = (
        _judge(record, history) for record, history in histories.items() if record not in judged
    )
    return anomalies + [anomaly for anomaly in found if anomaly is not None]


def _read(event: Event, record: str, seen: Seen) -> Event:
    return dataclasses.replace(event, operation="read", record=record, seen=seen, listed=[])


def _listed_twice(lists: list[Event]) -> Iterator[Anomaly]:
    found: dict[str, Event] = {}
    for event in lists:
        ids = [record for record, _ in event.listed]
        for record in {record for record in ids if ids.count(record) > 1} - found.keys():
            found[record] = event
    for record, event in found.items():
        yield Anomaly("duplicate", record, (event,))


def _adopt(events: list[Event], histories: dict[str, list[Event]]) -> Iterator[Anomaly]:
    """Find the create of each record that appeared without one: an unknown one, of the same
    bytes."""
    creates = [
        event for event in events if event.operation == "create" and event.outcome != "refused"
    ]
    nameless = [event for event in creates if event.record is None]
    for record, history in histories.items():
        shown = [event for event in history if event.seen is not None and event.seen.exists]
        if not shown or any(
            event.operation == "create" and event.outcome != "refused" for event in history
        ):
            continue
        contents = {event.seen.content for event in shown if event.seen is not None}
        create = next((event for event in nameless if event.content in contents), None)
        if create is not None:
            nameless.remove(create)
            history.append(dataclasses.replace(create, record=record))
        else:
            namesakes = [event for event in creates if event.content in contents]
            yield Anomaly("duplicate" if namesakes else "stranger", record, (*namesakes, *history))


# One record

_NEVER = "never"
_DELETED = "deleted"
_State = t.Any
"""``_NEVER``, ``_DELETED``, or the checksum and the fields as sorted pairs."""


def _after(event: Event, state: _State) -> _State | None:
    """The state after an operation took effect; ``None`` if it cannot in this state, or shows
    another."""
    is_live = state not in (_NEVER, _DELETED)
    if event.outcome != "refused":
        match event.operation:
            case "create":
                if state != _NEVER:
                    return None
                state = (event.content, tuple(sorted(event.fields.items())))
            case "replace" | "edit":
                if not is_live:
                    return None
                content, fields = state
                changed = tuple(sorted((dict(fields) | event.fields).items()))
                state = (event.content if event.operation == "replace" else content, changed)
            case "delete":
                if state == _NEVER:
                    return None
                state = _DELETED
    return state if event.seen is None or _shows(event.seen, state) else None


def _shows(seen: Seen, state: _State) -> bool:
    if state in (_NEVER, _DELETED):
        return not seen.exists
    content, fields = state
    is_same = seen.content in (None, content) and seen.fields.items() <= dict(fields).items()
    return seen.exists and is_same


def _is_write(event: Event) -> bool:
    return event.operation not in ("read", "list") and event.outcome != "refused"


def _is_explained(events: Iterable[Event]) -> bool:
    """Tell whether an order of these operations on one record gives all their answers."""
    told = [
        event for event in events if event.outcome != "unknown" and (_is_write(event) or event.seen)
    ]
    told.sort(key=lambda event: event.invoked)
    unknown = [event for event in events if event.outcome == "unknown" and _is_write(event)]
    all_told = (1 << len(told)) - 1
    # The acknowledged changes after which an unknown one comes too late.
    fences = [
        sum(
            1 << i
            for i, later in enumerate(told)
            if _is_write(later) and later.invoked > event.completed
        )
        for event in unknown
    ]
    all_told = (1 << len(told)) - 1
    places: list[tuple[int, int, int, _Place]] = []
    order = itertools.count()
    visited: dict[tuple[int, _State], list[int]] = defaultdict(list)

    def visit(place: _Place) -> None:
        # Unknown operations need not be used: with fewer of them, everything that follows is
        # possible as well.
        known = visited[place.done, place.state]
        if not any(used & place.used == used for used in known):
            known.append(place.used)
            # First those that explain most with the fewest unknown operations.
            heapq.heappush(
                places, (-place.done.bit_count(), place.used.bit_count(), next(order), place)
            )

    visit(_Place(0, 0, _NEVER))
    while places:
        place = heapq.heappop(places)[-1]
        done, used, state = place
        if done == all_told:
            return True
        candidates, horizon = _candidates(told, done)
        for index, event in enumerate(unknown):
            is_free = not used >> index & 1 and not done & fences[index]
            if is_free and event.invoked <= horizon:
                after = _after(event, state)
                if after is not None and after != state:
                    visit(place._replace(used=used | 1 << index, state=after))
        for index in candidates:
            after = _after(told[index], state)
            if after is not None:
                visit(place._replace(done=done | 1 << index, state=after))
    return False


class _Place(t.NamedTuple):
    """How far a search has come."""

    done: int
    """Bits of the operations that were told."""
    used: int
    """Bits of the unknown ones."""
    state: _State


def _candidates(told: list[Event], done: int) -> tuple[list[int], float]:
    """Operations that may come next, none of which began after another one had ended; and when the
    first of them ends.

    :param told: In the order of their invocations.
    """
    candidates: list[int] = []
    horizon = math.inf
    first = (~done & done + 1).bit_length() - 1
    for index in range(first, len(told)):
        if told[index].invoked > horizon:
            break
        if not done >> index & 1:
            candidates.append(index)
            horizon = min(horizon, told[index].completed)
    return candidates, horizon


def _taken_back(history: Sequence[Event]) -> Iterator[Event]:
    """The end that a record may have by itself, if its creation was unknown."""
    for event in history:
        if event.operation == "create" and event.outcome == "unknown":
            yield dataclasses.replace(event, operation="delete", content=None, fields={})


def _judge(record: str, history: Sequence[Event]) -> Anomaly | None:
    history = [*history, *_taken_back(history)]
    if _is_explained(history):
        return None
    ends = sorted({event.completed for event in history if event.outcome != "unknown"})
    low, high = 0, len(ends) - 1  # what was explained once stays so, with less of the history
    while low < high:
        middle = (low + high) // 2
        if _is_explained(_until(history, ends[middle])):
            low = middle + 1
        else:
            high = middle
    known = sorted(
        _until(history, ends[low]), key=lambda event: (event.completed, event.outcome != "unknown")
    )
    culprit = next(
        event for event in known if event.completed == ends[low] and event.outcome != "unknown"
    )
    others = [event for event in known if event is not culprit]
    kind = _kind(culprit, others)
    return Anomaly(kind, record, (*sorted(others, key=lambda event: event.invoked), culprit))


def _until(history: Sequence[Event], end: float) -> list[Event]:
    """The history as it was at a moment: what had not ended was unknown."""
    ended = [event for event in history if event.completed <= end]
    running = [
        event for event in history if event.invoked <= end < event.completed and _is_write(event)
    ]
    pending = [
        dataclasses.replace(event, completed=math.inf, outcome="unknown", seen=None)
        for event in running
    ]
    return ended + pending


def _kind(culprit: Event, others: list[Event]) -> Kind:
    """Name an anomaly by what would have been explained instead."""
    if culprit.operation == "create":
        return "duplicate"
    seen = culprit.seen or Seen()
    if not seen.exists:
        return "gone"
    writes = [event for event in (*others, culprit) if _is_write(event)]
    contents = {event.content for event in writes}
    fields = {pair for event in writes for pair in event.fields.items()}
    if seen.content not in {*contents, None} or not seen.fields.items() <= fields:
        return "wrong"
    exists = dataclasses.replace(culprit, seen=Seen())
    return "undone" if _is_explained([*others, exists]) else "revived"


def dump(events: Iterable[Event], path: Path) -> None:
    """Write events, a line of JSON each."""
    lines = [json.dumps(dataclasses.asdict(event)) for event in events]
    path.write_text("".join(f"{line}\n" for line in lines))


def load(path: Path) -> list[Event]:
    """Read what :func:`dump` wrote."""
    events = [Event(**json.loads(line)) for line in path.read_text().splitlines()]
    for event in events:
        seen = t.cast("dict[str, t.Any] | None", event.seen)
        event.seen = Seen(**seen) if seen is not None else None
        listed = t.cast("list[tuple[str, dict[str, t.Any]]]", event.listed)
        event.listed = [(record, Seen(**shown)) for record, shown in listed]
    return events
