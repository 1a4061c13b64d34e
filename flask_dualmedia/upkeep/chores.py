"""What the app does by itself to stay clean, in one process of all at a time.

    sweep         what killed uploads and deletions left, and resumable uploads that have expired
    leftovers     bytes in the journal's bucket that nothing names
    verification  a few bytes are read and compared with their checksums, one record after the other

A thread of each process asks for the lease now and then. Whoever has it does these steps, slowly,
and keeps it. Nothing is done while a database is away, and nothing of this deletes media.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
import typing as t
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from flask import Flask, request_started

from ..databases.collections import UPKEEP
from ..databases.leases import SECONDS, Lease
from ..errors import BytesNotFound, DualMediaError, Unavailable
from ..models import AVAILABLE, KINDS, Media
from ..processes.forks import begin_in_children, notice_fork
from ..processes.threads import STOP_TIMEOUT, Worker
from ..state import State, get_state
from ..storages.base import owner_of_key
from ..uploads.unfinished import is_announced, takes_direct
from . import sweeping
from .journal import homes_of
from .transfer import keys_named_in

logger = logging.getLogger("flask_dualmedia")

WORKER = "dualmedia-upkeep"
"""Name of the thread."""

COLLECTION = UPKEEP

INTERVAL = 60.0
"""Seconds between two rounds, more or less."""

VERIFIED_PER_HOUR = 200
"""Records whose bytes are compared with their checksums."""

VERIFIED_PER_SECOND = 1024**2
"""Bytes that are read for it."""

VERIFIED_EVERY = timedelta(days=7)
"""The verification begins anew after that time, at the earliest."""

VERIFIED_STORAGES = ("database", "local")
"""Storages whose bytes cost nothing to read."""

NOTED = 1000
"""Keys, or damaged records, that are remembered at most."""

CLEARED_AT_ONCE = 3
"""Expired uploads that go when another one begins, where there is no upkeep."""

BATCH = 500
"""Keys looked at at once."""


class Upkeep:
    """The thread of one process.

    It begins with the first request, so that a process which only loads the app, or forks, has
    none.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self.begin_process()
        begin_in_children(self)
        request_started.connect(self._start, app)

    def begin_process(self) -> None:
        """Forget the thread and the lease of another process."""
        self._worker = Worker(WORKER, self._run, delay=_next_round())
        self._lease: Lease | None = None
        self._renewed = 0.0
        self._verifier: Verifier | None = None
        self._told: set[str] = set()

    def stop(self, seconds: float = STOP_TIMEOUT) -> None:
        """End the thread, in the middle of its work if need be. What is half done, the next round
        does."""
        request_started.disconnect(self._start, self._app)
        self._worker.stop(seconds)

    def _start(self, *_: object, **__: object) -> None:
        notice_fork()
        if not self._worker.has_begun:
            self._worker.start()

    def _run(self) -> float | None:
        try:
            self.work()
        except Unavailable:
            pass  # the circuit of the one or the other has told
        except Exception:  # the thread must not end: what failed now is tried in the next round
            if self._worker.is_stopped:
                return None
            self._tell("upkeep")
        return _next_round()

    def work(self) -> None:
        """One round, if this process has the lease or gets it."""
        state = get_state(self._app)
        if self._lease is None:
            self._lease = Lease(state.collections, "upkeep", seconds=max(SECONDS, 2 * INTERVAL))
        if self._verifier is None:
            self._verifier = Verifier(state, pause=self._worker.pause)
        verifier = self._verifier
        steps: dict[str, Callable[[], object]] = {
            "sweep": lambda: sweeping.sweep(state, keep_going=self._may_go_on),
            "leftovers": lambda: clear_leftovers(state),
            "verification": lambda: verifier.go_on(INTERVAL, keep_going=self._may_go_on),
        }
        self._renewed = 0.0
        for name, step in steps.items():
            if not self._may_go_on():
                return
            try:
                step()
                self._told.discard(name)
            except Unavailable:
                raise
            except Exception:  # the other steps are done all the same
                if self._worker.is_stopped:
                    return
                self._tell(name)

    def _may_go_on(self) -> bool:
        state, lease = get_state(self._app), self._lease
        is_away = state.mongo.circuit.is_open or (
            state.circuit is not None and state.circuit.is_open
        )
        if self._worker.is_stopped or is_away or lease is None:
            return False
        if time.monotonic() - self._renewed < SECONDS / 3:
            return True
        self._renewed = time.monotonic()
        return lease.take()

    def _tell(self, name: str) -> None:
        """Log the error that a step ends with, once until it succeeds."""
        if name not in self._told:
            self._told.add(name)
            logger.exception("the %s failed, and is tried again", name)


def _next_round() -> float:
    """Seconds until the next round. They differ, so that not all processes ask at once."""
    return INTERVAL * random.uniform(0.5, 1.5)  # noqa: S311


def clear_expired(state: State) -> None:
    """Take away a few unfinished uploads that have expired, whoever began them. Called when another
    one begins, where the host has turned upkeep off: they go without a command of theirs, too.

    Nothing is raised: what fails is left for the next time.
    """
    if state.upkeep is not None:
        return
    try:
        for upload in state.staging.expired(CLEARED_AT_ONCE):
            state.staging.sweep_one(upload)
        if takes_direct(state):
            before = state.clock.now() - timedelta(seconds=state.settings.grace)
            for kind in KINDS.values():
                for record in state.repository.unfinished(kind, before, CLEARED_AT_ONCE):
                    if is_announced(state, record):
                        sweeping.sweep_one(state, record)
    except DualMediaError:
        logger.warning("expired uploads are left for the sweep", exc_info=True)


def clear_leftovers(state: State, *, grace: float | None = None) -> int:
    """Delete bytes from the journal's bucket that nobody will ask for: those of uploads that were
    killed.

    It takes two looks: nothing named them at an earlier one, the grace time ago by the clock of
    MongoDB, nor now.

    :param grace: Seconds between the two looks. Default ``DUALMEDIA_GRACE``.
    :return: Of how many keys.
    """
    if state.mode == "mongo":
        return 0
    bucket = homes_of(state)[1].storage
    if bucket.is_empty():
        return 0

    notes = state.collections.get(COLLECTION)
    with state.mongo.asked():
        noted = notes.find_one({"_id": "leftovers"}) or {}
    first_seen: dict[str, datetime] = {note["key"]: note["at"] for note in noted.get("keys", ())}
    now = state.mongo.time()
    before = now - timedelta(seconds=state.settings.grace if grace is None else grace)

    deleted, left = 0, []
    for key in islice(_unnamed(state), NOTED):
        seen = first_seen.get(key, now)
        if seen > before:
            left.append({"key": key, "at": seen})
            continue
        bucket.delete(key)
        deleted += 1
    with state.mongo.asked():
        notes.replace_one({"_id": "leftovers"}, {"keys": left}, upsert=True)
    return deleted


def _unnamed(state: State) -> Iterator[str]:
    """The keys of the journal's bucket that no record and no resumable upload names."""
    sql, journal = homes_of(state)
    keys = journal.storage.keys()
    while batch := list(islice(keys, BATCH)):
        ours = [key for key in batch if owner_of_key(key) is not None]
        # SQL last: whoever moves a record writes it there before it goes from the journal.
        named = keys_named_in(journal, ours) | state.staging.named(ours) | keys_named_in(sql, ours)
        yield from (key for key in ours if key not in named)


@dataclass
class _Reading:
    """A record whose bytes are being read."""

    record: Media
    pieces: Iterator[bytes]
    digest: t.Any


class Verifier:
    """Reads the bytes of one record after the other, and remembers in MongoDB how far it has come.

    :param pause: Waits so many seconds; true where the work is to end.
    """

    def __init__(self, state: State, *, pause: Callable[[float], bool]) -> None:
        self._state = state
        self._pause = pause
        self._notes = state.collections.get(COLLECTION)
        self._reading: _Reading | None = None
        self._due = 1.0
        self._counted = time.monotonic()

    def go_on(self, seconds: float, *, keep_going: Callable[[], bool]) -> None:
        """Read for so long at most, and no more than the budget allows."""
        end = time.monotonic() + seconds
        self._due += (time.monotonic() - self._counted) * VERIFIED_PER_HOUR / 3600
        self._due = min(self._due, max(1.0, VERIFIED_PER_HOUR / 10))
        self._counted = time.monotonic()

        while time.monotonic() < end and keep_going():
            if self._reading is None:
                if self._due < 1:
                    return
                self._reading = self._next()
                if self._reading is None:
                    return
                self._due -= 1
            size = self._read(self._reading)
            if self._pause(size / VERIFIED_PER_SECOND):
                return

    def _next(self) -> _Reading | None:
        """The next record that has bytes; ``None`` if all were read not long ago."""
        with self._state.mongo.asked():
            position = self._notes.find_one({"_id": "verification"}) or {}
        now = self._state.mongo.time()
        if position.get("kind") is None:
            if "begun" in position and now - position["begun"] < VERIFIED_EVERY:
                return None
            position = {"kind": next(iter(KINDS)), "after": None, "begun": now}

        names = list(KINDS)
        for name in names[names.index(position["kind"]) :] if position["kind"] in names else names:
            after = position["after"] if name == position["kind"] else None
            while batch := self._state.homes[0].repository.scan(KINDS[name], after, 50):
                for record in batch:
                    after = record.id
                    if self._is_verified(record):
                        self._remember(position | {"kind": name, "after": after})
                        return _Reading(record, self._pieces(record), hashlib.sha256())
        self._remember(position | {"kind": None, "after": None})
        return None

    def _pieces(self, record: Media) -> Iterator[bytes]:
        # Opened when the first piece is asked for, not before: then errors come in one place.
        yield from self._state.storage_of(record).open(
            str(record.storage_key), 0, record.file_size or 0
        )

    def _is_verified(self, record: Media) -> bool:
        is_kept = record.state == AVAILABLE and record.storage_key is not None
        return (
            is_kept
            and record.storage_type in VERIFIED_STORAGES
            and record.storage_type in self._state.storages
        )

    def _read(self, reading: _Reading) -> int:
        """Read one piece; its size."""
        record = reading.record
        try:
            piece = next(reading.pieces, None)
        except BytesNotFound:
            self._reading = None
            self._report(record, "bytes_missing")
            return 0
        except BaseException:
            self._reading = None  # what follows it would be taken for the end
            raise
        if piece is not None:
            reading.digest.update(piece)
            return len(piece)
        self._reading = None
        if reading.digest.hexdigest() != record.checksum:
            self._report(record, "checksum_wrong")
        return 0

    def _report(self, record: Media, problem: str) -> None:
        """Say that a record is damaged, once, unless it was replaced or deleted while it was
        read."""
        if not _has_bytes(self._state, type(record), record.id, str(record.storage_key)):
            return
        note = {"kind": record.kind, "id": record.id, "key": record.storage_key, "problem": problem}
        with self._state.mongo.asked():
            noted = self._notes.find_one({"_id": "damage"}) or {}
            records = noted.get("records", [])
            if len(records) >= NOTED or any(
                other["key"] == record.storage_key for other in records
            ):
                return
            change = {"$push": {"records": note | {"at": self._state.mongo.time()}}}
            self._notes.update_one({"_id": "damage"}, change, upsert=True)
        logger.error("%r is damaged (%s): restore its bytes from a backup", record, problem)

    def _remember(self, position: dict[str, t.Any]) -> None:
        with self._state.mongo.asked():
            self._notes.replace_one(
                {"_id": "verification"}, position | {"_id": "verification"}, upsert=True
            )


def find_damage(state: State) -> list[dict[str, t.Any]]:
    """The records whose bytes were found damaged and are there still, each with ``kind``, ``id``
    and ``problem``."""
    with state.mongo.asked():
        noted = state.collections.get(COLLECTION).find_one({"_id": "damage"}) or {}
    records = noted.get("records", [])
    return [
        note for note in records if _has_bytes(state, KINDS[note["kind"]], note["id"], note["key"])
    ]


def forget_damage(state: State) -> None:
    """Forget what was found damaged: somebody else has looked at it all since."""
    with state.mongo.asked():
        state.collections.get(COLLECTION).delete_one({"_id": "damage"})


def _has_bytes(state: State, kind: type[Media], media_id: t.Any, key: str) -> bool:
    record = state.repository.get(kind, media_id)
    return record is not None and record.storage_key == key
