"""The app's own chores: it keeps itself clean, in one process of all at a time.

    sweep         what killed uploads and deletions left, and resumable uploads that have expired
    variants      those that nobody asks for any more
    leftovers     bytes in the journal's bucket that nothing names
    verification  a few bytes are read and compared with their checksums, one record after the other

A thread of each process asks for the lease now and then. The one that has it does these steps,
slowly, and keeps it. Nothing is done while a database is away, and no chore deletes media.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
import typing as t
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from flask import Flask, request_started

from ..databases.collections import UPKEEP
from ..databases.leases import SECONDS, Lease
from ..errors import BytesNotFound, DualMediaError, Unavailable
from ..failpoints import reach
from ..models import AVAILABLE, KINDS, TABLES, MediaRecord, MediaVariant
from ..processes.forks import begin_in_children, notice_fork
from ..processes.threads import STOP_TIMEOUT, Worker
from ..state import State, get_state
from ..storages.base import owner_of_key
from ..uploads.unfinished import is_announced, takes_direct
from . import sweeping, variants
from .journal import homes_of
from .transfer import keys_named_in

logger = logging.getLogger("flask_dualmedia")

WORKER = "dualmedia-upkeep"
"""Name of the thread."""

COLLECTION = UPKEEP

INTERVAL = 60.0
"""Seconds between two rounds, on average."""

VERIFIED_PER_HOUR = 200
"""Records whose bytes are compared with their checksums."""

VERIFIED_PER_SECOND = 1024**2
"""Bytes that are read for it."""

VERIFIED_EVERY = timedelta(days=7)
"""The verification begins anew after that time, at the earliest."""

NOTED = 1000
"""Keys, or damaged records, that are remembered at most."""

CLEARED_AT_ONCE = 3
"""Expired uploads that are removed when another one begins, where there is no upkeep."""

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
        """End the thread, in the middle of its work if need be. The next round completes what is
        half done."""
        request_started.disconnect(self._start, self._app)
        self._worker.stop(seconds)

    def _start(self, *_: object, **__: object) -> None:
        """Start the thread with the first request of this process."""
        notice_fork()
        if not self._worker.has_begun:
            self._worker.start()

    def _run(self) -> float | None:
        """Do one round.

        :return: Seconds until the next one; ``None`` if the thread is to end.
        """
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
        """Do one round, if this process has the lease or gets it."""
        state = get_state(self._app)
        steps = self._steps(state)
        self._renewed = 0.0

        for name, step in steps.items():
            if not self._may_go_on():
                return
            try:
                reach(f"upkeep:{name}")
                step()
                self._told.discard(name)
            except Unavailable:
                raise
            except Exception:  # the other steps are done all the same
                if self._worker.is_stopped:
                    return
                self._tell(name)

    def _steps(self, state: State) -> dict[str, Callable[[], object]]:
        """The steps of a round, by the names that the log has for them."""
        if self._lease is None:
            seconds = max(SECONDS, 2 * INTERVAL)
            self._lease = Lease(state.collections, "upkeep", seconds=seconds)
        if self._verifier is None:
            self._verifier = Verifier(state, pause=self._worker.pause)

        verifier = self._verifier
        return {
            "sweep": lambda: sweeping.sweep(state, keep_going=self._may_go_on),
            "sweep of variants": lambda: self._sweep_variants(state),
            "leftovers": lambda: clear_leftovers(state),
            "verification": lambda: verifier.go_on(INTERVAL, keep_going=self._may_go_on),
        }

    def _sweep_variants(self, state: State) -> None:
        if variants.is_due(state):
            variants.sweep_variants(state, keep_going=self._may_go_on)

    def _may_go_on(self) -> bool:
        """Whether both databases answer and this process has the lease still."""
        state = get_state(self._app)
        lease = self._lease
        if self._worker.is_stopped or lease is None:
            return False
        if state.mongo.circuit.is_open:
            return False
        if state.circuit is not None and state.circuit.is_open:
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
    """Take away a few unfinished uploads that have expired, whoever began them.

    This is called when another upload begins. It does something only where the host has turned
    upkeep off, so that expired uploads are removed there without a command of the host's, too.

    Nothing is raised: an upload that could not be removed is left for the next time.
    """
    if state.upkeep is not None:
        return
    try:
        for upload in state.staging.expired(CLEARED_AT_ONCE):
            state.staging.sweep_one(upload)
        if takes_direct(state):
            _clear_expired_records(state)
    except DualMediaError:
        logger.warning("expired uploads are left for the sweep", exc_info=True)


def _clear_expired_records(state: State) -> None:
    """Take away records whose bytes a client was to put into a storage, and did not."""
    before = state.clock.now() - timedelta(seconds=state.settings.grace)
    for kind in KINDS.values():
        for record in state.repository.unfinished(kind, before, CLEARED_AT_ONCE):
            if is_announced(state, record):
                sweeping.sweep_one(state, record)


def clear_leftovers(state: State, *, grace: float | None = None) -> int:
    """Delete bytes from the journal's bucket that nobody will ask for: those of uploads that were
    killed.

    It takes two looks: nothing names them now, and nothing named them at an earlier look, the grace
    time ago by the clock of MongoDB.

    :param grace: Seconds between the two looks. Default ``DUALMEDIA_GRACE``.
    :return: How many keys had such bytes.
    """
    if state.mode == "mongo":
        return 0
    bucket = homes_of(state)[1].storage
    if bucket.is_empty():
        return 0

    notes = state.collections.get(COLLECTION)
    with state.mongo.asked():
        note = notes.find_one({"_id": "leftovers"}) or {}
    first_seen: dict[str, datetime] = {}
    for sighting in note.get("keys", ()):
        first_seen[sighting["key"]] = sighting["at"]
    if grace is None:
        grace = state.settings.grace
    now = state.mongo.time()
    before = now - timedelta(seconds=grace)

    deleted = 0
    waiting = []
    for key in islice(_unnamed(state), NOTED):
        seen = first_seen.get(key, now)
        if seen > before:
            waiting.append({"key": key, "at": seen})
            continue
        bucket.delete(key)
        deleted += 1

    with state.mongo.asked():
        notes.replace_one({"_id": "leftovers"}, {"keys": waiting}, upsert=True)
    return deleted


def _unnamed(state: State) -> Iterator[str]:
    """The keys of the journal's bucket that no record and no resumable upload names."""
    sql, journal = homes_of(state)
    keys = journal.storage.keys()
    while batch := list(islice(keys, BATCH)):
        own_keys = [key for key in batch if owner_of_key(key) is not None]
        # SQL last: a drain writes a record there before it removes it from the journal.
        named_keys = keys_named_in(journal, own_keys)
        named_keys |= state.staging.named(own_keys)
        named_keys |= keys_named_in(sql, own_keys)
        for key in own_keys:
            if key not in named_keys:
                yield key


@dataclass
class _Reading:
    """A record whose bytes are being read."""

    record: MediaRecord
    pieces: Iterator[bytes]
    digest: t.Any


class Verifier:
    """Reads the bytes of one record after the other, and remembers in MongoDB how far it has come.

    :param pause: Waits so many seconds. It returns true if the work is to end.
    """

    def __init__(
        self,
        state: State,
        *,
        pause: Callable[[float], bool],
    ) -> None:
        self._state = state
        self._pause = pause
        self._notes = state.collections.get(COLLECTION)
        self._reading: _Reading | None = None
        self._due = 1.0
        self._counted = time.monotonic()

    def go_on(
        self,
        seconds: float,
        *,
        keep_going: Callable[[], bool],
    ) -> None:
        """Read for so long at most, and no more than the budget allows."""
        end = time.monotonic() + seconds
        self._count_due()
        while time.monotonic() < end and keep_going():
            reading = self._reading or self._begin_reading()
            if reading is None:
                return
            size = self._read(reading)
            if self._pause(size / VERIFIED_PER_SECOND):
                return

    def _count_due(self) -> None:
        """Count how many records the budget allows by now. It does not save up for long."""
        elapsed = time.monotonic() - self._counted
        self._due += elapsed * VERIFIED_PER_HOUR / 3600
        self._due = min(self._due, max(1.0, VERIFIED_PER_HOUR / 10))
        self._counted = time.monotonic()

    def _begin_reading(self) -> _Reading | None:
        """Begin with the next record; ``None`` if the budget allows none, or there is none."""
        if self._due < 1:
            return None
        self._reading = self._next()
        if self._reading is not None:
            self._due -= 1
        return self._reading

    def _next(self) -> _Reading | None:
        """The next record that has bytes; ``None`` if all were read not long ago."""
        position = self._position()
        if position is None:
            return None

        for name, after in _kinds_from(position):
            for record in self._records_after(TABLES[name], after):
                if self._is_verified(record):
                    self._remember(position | {"kind": name, "after": record.id})
                    return _Reading(record, self._pieces(record), hashlib.sha256())
        self._remember(position | {"kind": None, "after": None})
        return None

    def _position(self) -> dict[str, t.Any] | None:
        """How far the verification has come; ``None`` if it has ended not long ago."""
        with self._state.mongo.asked():
            position = self._notes.find_one({"_id": "verification"}) or {}
        now = self._state.mongo.time()
        if position.get("kind") is not None:
            return position
        if "begun" in position and now - position["begun"] < VERIFIED_EVERY:
            return None
        return {"kind": next(iter(TABLES)), "after": None, "begun": now}

    def _records_after(
        self, kind: type[MediaRecord], after: uuid.UUID | None
    ) -> Iterator[MediaRecord]:
        """The records of a kind behind an id, in the order of their ids, read in small batches."""
        repository = self._state.homes[0].repository
        while batch := repository.scan(kind, after, 50):
            yield from batch
            after = batch[-1].id

    def _pieces(self, record: MediaRecord) -> Iterator[bytes]:
        """The bytes of a record.

        They are opened when the first piece is asked for, not before: then errors come in one
        place.
        """
        original = self._state.original(record)
        if original is not None:
            yield from original.open()

    def _is_verified(self, record: MediaRecord) -> bool:
        """Whether a record has bytes that cost nothing to read."""
        if record.state != AVAILABLE or record.storage_key is None:
            return False
        storage = self._state.storages.get(record.storage_type)
        return getattr(storage, "is_free_to_read", False)

    def _read(self, reading: _Reading) -> int:
        """Read one piece.

        :return: Its size.
        """
        record = reading.record
        try:
            piece = next(reading.pieces, None)
            reach("verify:piece")
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

    def _report(self, record: MediaRecord, problem: str) -> None:
        """Say that a record is damaged, once, unless it was replaced or deleted while it was
        read."""
        key = str(record.storage_key)
        if not _has_bytes(self._state, type(record), record.id, key):
            return

        with self._state.mongo.asked():
            damage = self._notes.find_one({"_id": "damage"}) or {}
            records = damage.get("records", [])
            keys = [note["key"] for note in records]
            if len(records) >= NOTED or record.storage_key in keys:
                return
            note = {
                "kind": record.kind,
                "id": record.id,
                "key": record.storage_key,
                "problem": problem,
                "at": self._state.mongo.time(),
            }
            change = {"$push": {"records": note}}
            self._notes.update_one({"_id": "damage"}, change, upsert=True)
        remedy = "restore its bytes from a backup"
        if isinstance(record, MediaVariant):
            remedy = "check --repair removes it, and it is made again"
        logger.error("%r is damaged (%s): %s", record, problem, remedy)

    def _remember(self, position: dict[str, t.Any]) -> None:
        """Note how far the verification has come."""
        document = position | {"_id": "verification"}
        with self._state.mongo.asked():
            self._notes.replace_one({"_id": "verification"}, document, upsert=True)


def _kinds_from(position: dict[str, t.Any]) -> Iterator[tuple[str, uuid.UUID | None]]:
    """The kinds that are to be verified yet, each with the id behind which it goes on."""
    names = list(TABLES)
    first_name = position["kind"]
    if first_name in names:
        names = names[names.index(first_name) :]
    for name in names:
        if name == first_name:
            yield name, position["after"]
        else:
            yield name, None


def find_damage(state: State) -> list[dict[str, t.Any]]:
    """The records whose bytes were found damaged and still exist, each with ``kind``, ``id`` and
    ``problem``."""
    notes = state.collections.get(COLLECTION)
    with state.mongo.asked():
        damage = notes.find_one({"_id": "damage"}) or {}
    existing = []
    for note in damage.get("records", []):
        kind = TABLES[note["kind"]]
        if _has_bytes(state, kind, note["id"], note["key"]):
            existing.append(note)
    return existing


def forget_damage(state: State) -> None:
    """Forget the damage that was found: a check has looked at all bytes since."""
    with state.mongo.asked():
        state.collections.get(COLLECTION).delete_one({"_id": "damage"})


def _has_bytes(
    state: State,
    kind: type[MediaRecord],
    media_id: t.Any,
    key: str,
) -> bool:
    """Whether a record has the bytes under this key still."""
    record = state.repository.get(kind, media_id)
    return record is not None and record.storage_key == key
