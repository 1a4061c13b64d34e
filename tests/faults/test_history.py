"""The history checker accepts what can be explained, and names what cannot."""

from __future__ import annotations

import dataclasses
import time
import typing as t
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ..tools.history import (
    ABSENT,
    Anomaly,
    Event,
    Fields,
    Kind,
    Ledger,
    Seen,
    check,
    dump,
    load,
)

Operation = t.Literal["create", "replace", "edit", "delete", "read"]


class Story:
    """Events of one record, one after another unless their times say otherwise."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._now = 0.0

    def _add(
        self, operation: Operation, outcome: t.Any, at: tuple[float, float] | None, **more: t.Any
    ) -> t.Self:
        start, end = at or (self._now + 1, self._now + 2)
        self._now = max(self._now, end)
        self.events.append(
            Event("client", operation, "a", start, end, outcome, group="list", **more)
        )
        return self

    def create(self, content: str, outcome: str = "acknowledged", **fields: t.Any) -> t.Self:
        return self._add("create", outcome, None, content=content, fields=fields)

    def replace(self, content: str, outcome: str = "acknowledged", at: t.Any = None) -> t.Self:
        return self._add("replace", outcome, at, content=content)

    def edit(self, title: str, outcome: str = "acknowledged", at: t.Any = None) -> t.Self:
        return self._add("edit", outcome, at, fields={"title": title})

    def delete(self, outcome: str = "acknowledged", at: t.Any = None) -> t.Self:
        return self._add("delete", outcome, at)

    def read(self, content: str | None = None, at: t.Any = None, **fields: t.Any) -> t.Self:
        return self._add("read", "acknowledged", at, seen=Seen(content=content, fields=fields))

    def miss(self, at: t.Any = None) -> t.Self:
        return self._add("read", "acknowledged", at, seen=ABSENT)

    def list(self, *listed: tuple[str, Seen], is_whole: bool = True) -> t.Self:
        start = self._now + 1
        self._now += 2
        event = Event(
            "client",
            "list",
            None,
            start,
            self._now,
            "acknowledged",
            group="list",
            is_whole=is_whole,
        )
        event.listed = list(listed)
        self.events.append(event)
        return self

    @property
    def kinds(self) -> list[Kind]:
        return [anomaly.kind for anomaly in check(self.events)]


UNKNOWN = "unknown"

EXPLAINED = {
    "everything acknowledged": Story()
    .create("1")
    .replace("2")
    .read("2")
    .edit("x")
    .read("2", title="x")
    .delete()
    .miss(),
    "an unknown replace took effect": Story().create("1").replace("2", UNKNOWN).read("2"),
    "an unknown replace takes effect late": Story()
    .create("1")
    .replace("2", UNKNOWN)
    .read("1")
    .read("1")
    .read("2"),
    "an unknown replace never takes effect": Story()
    .create("1")
    .replace("2", UNKNOWN)
    .read("1")
    .replace("3")
    .read("3"),
    "an unknown delete before a replace that is refused": Story()
    .create("1")
    .delete(UNKNOWN)
    .replace("2", "refused")
    .miss(),
    "a delete acknowledged after an unknown one": Story()
    .create("1")
    .delete(UNKNOWN)
    .miss()
    .delete()
    .miss(),
    "two at once, in either order": Story()
    .create("1")
    .replace("2", at=(10, 20))
    .replace("3", at=(11, 19))
    .read("2")
    .read("2"),
    "a read during a replace": Story()
    .create("1")
    .replace("2", at=(10, 20))
    .read("2", at=(11, 12))
    .read("2"),
    "edits of different fields": Story()
    .create("1", public=True)
    .edit("x")
    .read("1", title="x", public=True),
    "an unknown edit that ended after a later one began": Story()
    .create("1")
    .edit("x", UNKNOWN, at=(10, 20))
    .edit("y", at=(15, 30))
    .read(title="y")
    .read(title="x"),
    "a whole list": Story().create("1").list(("a", Seen(content="1"))).delete().list(),
    "a partial list": Story().create("1").list(is_whole=False).read("1"),
    "many unknown ones": Story().create("1").replace("2"),
    "an unknown create that is taken back": Story().create("1", UNKNOWN).read("1").miss().miss(),
}
for number in range(12):
    EXPLAINED["many unknown ones"].edit(f"{number}", UNKNOWN).replace(f"r{number}", UNKNOWN)
EXPLAINED["many unknown ones"].read("r3", title="7").read("r9", title="4").read("r9", title="2")


@pytest.mark.parametrize("name", EXPLAINED)
def test_what_can_be_explained_is_accepted(name: str) -> None:
    assert check(EXPLAINED[name].events) == []


ANOMALIES: dict[str, tuple[Story, Kind]] = {
    "acknowledged and not found": (Story().create("1").read("1").miss(), "gone"),
    "acknowledged and not in a whole list": (Story().create("1").list(), "gone"),
    "an acknowledged edit that finds nothing": (Story().create("1").delete().edit("x"), "revived"),
    "deleted and readable": (Story().create("1").delete().miss().read("1"), "revived"),
    "deleted and listed": (Story().create("1").delete().list(("a", Seen())), "revived"),
    "an acknowledged replace undone": (Story().create("1").replace("2").read("1"), "undone"),
    "an acknowledged edit undone": (
        Story().create("1").edit("x").edit("y").read(title="x"),
        "undone",
    ),
    "an unknown edit wins over a later one": (
        Story().create("1").edit("x", UNKNOWN).edit("y").read(title="y").read(title="x"),
        "undone",
    ),
    "an unknown delete wins over a later replace": (
        Story().create("1").delete(UNKNOWN).replace("2").miss(),
        "gone",
    ),
    "an unknown create that comes and goes": (
        Story().create("1", UNKNOWN).read("1").miss().read("1"),
        "revived",
    ),
    "an unknown create that is taken back after an edit": (
        Story().create("1", UNKNOWN).read("1").edit("x").miss(),
        "gone",
    ),
    "an unknown replace took effect twice": (
        Story().create("1").replace("2", UNKNOWN).read("2").replace("3").read("2"),
        "undone",
    ),
    "an unknown replace that comes and goes": (
        Story().create("1").replace("2", UNKNOWN).read("1").read("2").read("1"),
        "undone",
    ),
    "bytes that nobody sent": (Story().create("1").replace("2").read("12"), "wrong"),
    "a title that nobody gave": (
        Story().create("1", title="x").edit("y").read("1", title="xy"),
        "wrong",
    ),
    "bytes that were refused": (Story().create("1").replace("2", "refused").read("2"), "wrong"),
    "among many unknown ones": (Story().create("1").replace("2"), "wrong"),
}
for number in range(12):
    ANOMALIES["among many unknown ones"][0].edit(f"{number}", UNKNOWN).replace(
        f"r{number}", UNKNOWN
    )
ANOMALIES["among many unknown ones"][0].read("r3", title="7").read("x", title="4")


@pytest.mark.parametrize("name", ANOMALIES)
def test_anomalies_are_named(name: str) -> None:
    story, kind = ANOMALIES[name]
    assert story.kinds == [kind]


def listed(**contents: str) -> list[tuple[str, Seen]]:
    return [(record, Seen(content=content)) for record, content in contents.items()]


def test_an_unknown_create_may_make_one_record() -> None:
    story = Story().create("1", UNKNOWN)
    story.events[0].record = None
    assert story.kinds == []
    assert story.list(*listed(b="1")).kinds == []
    assert story.list(*listed(b="1", c="1")).kinds == ["duplicate"]


def test_an_acknowledged_create_makes_one_record() -> None:
    story = Story().create("1").list(*listed(a="1"))
    assert story.kinds == []
    assert story.list(*listed(a="1", b="1")).kinds == ["duplicate"]


def test_a_record_is_listed_once() -> None:
    assert Story().create("1").list(*listed(a="1"), *listed(a="1")).kinds == ["duplicate"]


def test_a_record_that_nobody_created_is_a_stranger() -> None:
    assert Story().create("1").list(*listed(a="1", b="2")).kinds == ["stranger"]


def test_a_refused_create_makes_no_record() -> None:
    story = Story().create("1", "refused").list(*listed(a="1"))
    assert story.kinds == ["stranger"]


def test_an_anomaly_shows_the_history_until_its_answer() -> None:
    story = Story().create("1").replace("2").read("1").read("2").delete()
    (anomaly,) = check(story.events)
    assert [event.operation for event in anomaly.events] == ["create", "replace", "read"]
    assert str(anomaly).startswith("undone: a\n")


def test_ledgers_record_times_and_outcomes(tmp_path: Path) -> None:
    ledger = Ledger("alice")
    with ledger.operation("create", content="1") as create:
        create.acknowledge("a", Seen(content="1"))
    with pytest.raises(TimeoutError), ledger.operation("edit", "a", fields={"title": "x"}):
        raise TimeoutError
    with ledger.operation("list", group="mine") as read:
        read.acknowledge()
        read.listed = listed(a="1")
    assert [event.outcome for event in ledger.events] == ["acknowledged", "unknown", "acknowledged"]
    assert all(event.invoked <= event.completed <= time.monotonic() for event in ledger.events)
    dump(ledger.events, tmp_path / "events")
    assert load(tmp_path / "events") == ledger.events
    assert check(ledger.events) == []


@dataclasses.dataclass
class Register:
    """The simulated record as it is: ``None`` before and after its life."""

    content: str | None = None
    fields: Fields = dataclasses.field(default_factory=dict)
    was_created: bool = False

    def seen(self) -> Seen:
        return (
            ABSENT if self.content is None else Seen(content=self.content, fields=dict(self.fields))
        )

    def apply(self, event: Event) -> bool:
        """Apply an operation, and tell whether it took effect."""
        if event.operation == "create":
            self.was_created = True
            self.content, self.fields = event.content, dict(event.fields)
        elif self.content is None:
            return event.operation == "read"
        elif event.operation == "replace":
            self.content = event.content
        elif event.operation == "edit":
            self.fields |= event.fields
        elif event.operation == "delete":
            self.content = None
        return True


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Histories of one record by several clients at once, as a register with unknown outcomes makes
    them.

    Each operation gets a moment at which it takes effect, and an interval around it. A moment of an
    unknown operation may be long after its interval, but not after an acknowledged change that
    began later.
    """
    size = draw(st.integers(1, 14))
    moments: list[tuple[float, Event]] = [
        (0.0, Event("client", "create", "a", -1.0, 1.0, "acknowledged", content="0"))
    ]
    for number in range(1, size):
        operation = draw(st.sampled_from(("replace", "edit", "delete", "read", "read")))
        moment = draw(st.floats(1, 100))
        before, after = draw(st.floats(0, 20)), draw(st.floats(0, 20))
        event = Event("client", operation, "a", moment - before, moment + after, "acknowledged")
        if operation == "replace":
            event.content = f"{number}"
        elif operation == "edit":
            event.fields = {draw(st.sampled_from(("title", "alt"))): f"{number}"}
        if operation != "read" and draw(st.booleans()):
            event.outcome = "unknown"
            event.completed = event.invoked + draw(st.floats(0, 20))
        moments.append((moment, event))
    changes = [(moment, event) for moment, event in moments if event.operation != "read"]
    register, events = Register(), []
    for moment, event in sorted(moments, key=lambda pair: pair[0]):
        is_fenced = any(
            other.outcome == "acknowledged" and other.invoked > event.completed and at <= moment
            for at, other in changes
        )
        if event.outcome == "unknown":
            if not is_fenced:
                register.apply(event)
        elif not register.apply(event):  # refused, for there is nothing
            event.refuse(ABSENT)
        elif event.operation != "delete":
            event.seen = register.seen()
        events.append(event)
    return events


@settings(max_examples=60, deadline=None)
@given(histories())
def test_histories_of_a_register_are_accepted(events: list[Event]) -> None:
    assert check(events) == []


@settings(max_examples=60, deadline=None)
@given(histories(), st.data())
def test_one_wrong_answer_is_found(events: list[Event], data: st.DataObject) -> None:
    """After the last change a read of any older state, or of nothing, cannot be explained."""
    told = [
        event for event in events if event.outcome == "acknowledged" and event.operation != "read"
    ]
    end = max(event.completed for event in events) + 1
    last = Event("client", "replace", "a", end, end + 1, "acknowledged", content="last")
    is_deleted = any(event.operation == "delete" for event in told)
    wrong = data.draw(
        st.sampled_from([ABSENT, *(Seen(content=event.content) for event in told if event.content)])
    )
    read = Event("client", "read", "a", end + 2, end + 3, "acknowledged", seen=wrong)
    found: list[Anomaly] = check([*events, last, read])
    assert [anomaly.record for anomaly in found] == ["a"]
    if not is_deleted and all(event.operation != "delete" for event in events):
        assert found[0].kind == ("undone" if wrong.exists else "gone")
        assert found[0].events[-1].invoked == read.invoked


@settings(max_examples=40, deadline=None)
@given(histories(), st.data())
def test_a_deleted_record_stays_deleted(events: list[Event], data: st.DataObject) -> None:
    end = max(event.completed for event in events) + 1
    delete = Event("client", "delete", "a", end, end + 1, "acknowledged")
    read = Event("client", "read", "a", end + 2, end + 3, "acknowledged", seen=Seen())
    assert [anomaly.kind for anomaly in check([*events, delete, read])] == ["revived"]
