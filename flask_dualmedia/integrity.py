"""Whether MongoDB, SQL and the bytes agree, and how to make them.

Records are read in batches in the order of their ids, and what belongs to a batch is asked for at once: memory does not
grow with the number of records, and no table or collection is loaded. A finding is looked at once more, at the moment
of its repair: what was repaired by somebody else, or is somebody's work in progress, is left alone.
"""

from __future__ import annotations

import hashlib
import time
import typing as t
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from . import lifecycle
from .authorization import possible_ids
from .errors import BytesNotFound
from .homes import Home
from .models import AVAILABLE, KINDS, PENDING, Media, now
from .state import State
from .storages.base import Stat, Storage, owner_of_key
from .transfer import records_of

BATCH = 500
"""Records, or keys, looked at with one query of each kind."""

LISTED = 1000
"""Findings listed in a report; beyond that they are counted only."""

Problem = t.Literal[
    "owner_missing",
    "bytes_missing",
    "bytes_incomplete",
    "size_wrong",
    "checksum_wrong",
    "bytes_orphaned",
    "stuck_pending",
    "stuck_deleting",
    "journal_left",
    "upload_expired",
    "storage_unknown",
]

EXPLAINED: dict[Problem, str] = {
    "owner_missing": "the document that the media belongs to does not exist",
    "bytes_missing": "the record's bytes are not in the storage",
    "bytes_incomplete": "chunks are missing between the first and the last",
    "size_wrong": "there are more or fewer bytes than the record says",
    "checksum_wrong": "the bytes are not those that were uploaded",
    "bytes_orphaned": "bytes that no record names",
    "stuck_pending": "an upload that was never finished",
    "stuck_deleting": "a deletion that was never finished",
    "journal_left": "accepted while SQL was down and not moved into SQL yet",
    "upload_expired": "a resumable upload that nobody went on with",
    "storage_unknown": "the bytes are in a storage that is not set up here",
}

COLLECTION = "dualmedia_checks"

DATABASE = "database"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    problem: Problem
    kind: str | None
    """Kind of the record, ``None`` for bytes without one."""
    subject: str
    """Id of the record, or the storage key."""
    detail: str
    repaired: bool = False


@dataclass
class Check:
    """What a check found."""

    records: int = 0
    """Records looked at."""
    verified: int = 0
    """Bytes read to compare checksums."""
    seconds: float = 0.0
    found: Counter[str] = field(default_factory=Counter)
    """How often each problem was found."""
    repaired: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    """The first :data:`LISTED` of them."""

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong, or nothing any more."""
        return self.found == self.repaired

    def add(self, finding: Finding) -> None:
        self.found[finding.problem] += 1
        if finding.repaired:
            self.repaired[finding.problem] += 1
        if len(self.findings) < LISTED:
            self.findings.append(finding)

    def as_json(self) -> dict[str, t.Any]:
        """The check as JSON-ready data."""
        return asdict(self) | {"clean": self.clean, "found": dict(self.found), "repaired": dict(self.repaired)}


class _Place(t.NamedTuple):
    """A storage, and what records call it. SQL and the journal are both ``database``."""

    name: str
    storage_type: str
    storage: Storage


class Checker:
    """Checks the media of one app.

    :param repair: Mend what can be mended.
    :param discard_damaged: With ``repair``: delete media whose bytes are damaged. Without, it stays as it is, to be
        restored from a backup.
    :param verify_bytes: Read all bytes and compare checksums.
    :param rate: Bytes read per second at most, ``None`` for no limit.
    :param grace: Age in seconds below which something unfinished may be work in progress. Default
        ``DUALMEDIA_GRACE``.
    :param resume: Go on with the verification of bytes where the last check stopped.
    :param advance: Called with the number of records done since the last call.
    """

    def __init__(
        self,
        state: State,
        *,
        repair: bool = False,
        discard_damaged: bool = False,
        verify_bytes: bool = False,
        rate: float | None = None,
        grace: float | None = None,
        resume: bool = False,
        advance: Callable[[int], object] = lambda count: None,
    ) -> None:
        self._state, self._repair, self._verify, self._rate, self._advance = state, repair, verify_bytes, rate, advance
        self._before = now() - timedelta(seconds=state.settings.grace if grace is None else grace)
        self._resume, self._discards = resume, discard_damaged
        self._checks = state.mongo[COLLECTION]
        # The journal first, so that of bytes in both those in SQL are found.
        self._places = [_Place(home.name, DATABASE, home.storage) for home in reversed(state.homes)]
        self._places += [_Place(name, name, storage) for name, storage in state.storages.items() if name != DATABASE]
        self._report = Check()

    def run(self) -> Check:
        """Look at everything.

        :raises Unavailable: A database or a storage is down: what it holds cannot be judged.
        """
        start = time.monotonic()
        done = self._progress() if self._verify and self._resume else {}
        for kind in KINDS.values():
            for home in self._state.homes:
                for batch in _batches(records_of(home.repository, kind), BATCH):
                    self._check_records(home, batch, done.get(kind.kind, ""))
                    self._report.records += len(batch)
                    self._advance(len(batch))
                    if self._verify:
                        self._remember(kind, batch[-1].id)
        self._check_uploads()
        for place in self._places:
            for keys in _batches(place.storage.keys(), BATCH):
                self._check_keys(place, keys)
        self._report.seconds = time.monotonic() - start
        self._save()
        return self._report

    def _check_records(self, home: Home[t.Any], batch: list[Media], verified_until: str) -> None:
        available = []
        for record in batch:
            if record.storage_key is not None and record.storage_type not in self._state.storages:
                self._found("storage_unknown", record, f"{record.storage_type} is not in DUALMEDIA_STORAGES")
            elif record.state != AVAILABLE:
                self._check_unfinished(record)
            else:
                available.append(record)
                if home.name == "journal":
                    self._found("journal_left", record, "waits for flask dualmedia drain")
        ownerless = set(self._without_owner(available))
        stats = self._stats([record for record in available if record.storage_key])
        for record in available:
            if record in ownerless and self._check_ownerless(record):
                continue
            if record.storage_key:
                self._check_bytes(record, stats.get(record.storage_key), verified_until)

    def _check_unfinished(self, record: Media) -> None:
        if record.updated_at >= self._before or self._state.repository.get(type(record), record.id) is not None:
            return
        problem: Problem = "stuck_pending" if record.state == PENDING else "stuck_deleting"
        self._found(problem, record, f"since {record.updated_at:%Y-%m-%d %H:%M} UTC", lifecycle.sweep_one)

    def _check_ownerless(self, record: Media) -> bool:
        """Whether the record was deleted for want of an owner."""
        # An owner may be created after its media, by an import for example: give it the grace time.
        if record.created_at >= self._before:
            return False
        detail = f"there is no {record.reference_type} {record.owner_id}"
        mend = self._delete_ownerless if self._state.settings.deletes_ownerless else None
        return self._found("owner_missing", record, detail, mend)

    def _check_bytes(self, record: Media, stat: Stat | None, verified_until: str) -> None:
        if stat is None or not stat.complete or stat.size != record.file_size:
            stat = self._second_look(record)
            if stat is _UNCHANGED:
                return
        discard = self._discard if self._discards else None
        if stat is None:
            # Other storages may show what they took only after a while.
            if record.storage_type == DATABASE or record.updated_at < self._before:
                detail = f"nothing is stored under {record.storage_key}"
                self._found("bytes_missing", record, detail, self._discard_missing)
        elif not stat.complete:
            self._found("bytes_incomplete", record, f"{stat.size} of {record.file_size} bytes are there", discard)
        elif stat.size != record.file_size:
            mend = self._mend_size if self._checksum(record, stat.size) == record.checksum else discard
            self._found("size_wrong", record, f"{stat.size} bytes, not {record.file_size}", mend)
        elif self._verify and str(record.id) > verified_until and self._checksum(record, stat.size) != record.checksum:
            self._found("checksum_wrong", record, f"the checksum is not {record.checksum}", discard)

    def _second_look(self, record: Media) -> Stat | None:
        """The bytes as they are now: their record may have been replaced or deleted since the batch was read."""
        current = self._state.repository.find(type(record), record.id)
        if current is None or current.state != AVAILABLE or current.storage_key != record.storage_key:
            return _UNCHANGED
        return self._stats([record]).get(t.cast(str, record.storage_key))

    def _check_uploads(self) -> None:
        staging = self._state.staging
        for upload in list(staging.left()):
            mended = self._repair and staging.sweep_one(upload)
            if not upload.finished:
                detail = f"{upload.offset} of {upload.length or 'unknown'} bytes came"
                self._report.add(Finding("upload_expired", upload.kind, str(upload.id), detail, mended))

    def _check_keys(self, place: _Place, keys: list[str]) -> None:
        owned = {key: owner for key in keys if (owner := owner_of_key(key)) is not None}
        named = self._named([media_id for media_id, _ in owned.values()]) | self._state.staging.named(keys)
        for key in keys:
            if key in named:
                continue
            if key not in owned and place.storage_type != DATABASE:
                continue  # somebody else's, in a bucket or folder that is not ours alone
            made = owned[key][1] if key in owned else None
            # A younger key may be the content of an upload in progress, whose record does not name it yet.
            if made is not None and made >= self._before:
                continue
            mended = self._repair and self._delete_orphan(place, key)
            if mended or not self._is_named(key):
                self._report.add(Finding("bytes_orphaned", None, key, f"in {place.name}", mended))

    def _named(self, ids: list[uuid.UUID]) -> set[str]:
        """The keys that records with these ids name, wherever the records are."""
        keys: set[str] = set()
        for kind in KINDS.values():
            for home in self._state.homes:
                keys.update(key for key in home.repository.keys_of(kind, ids) if key)
        return keys

    def _is_named(self, key: str) -> bool:
        owner = owner_of_key(key)
        return owner is not None and key in self._named([owner[0]]) | self._state.staging.named([key])

    def _delete_orphan(self, place: _Place, key: str) -> bool:
        if self._is_named(key):
            return False
        place.storage.delete(key)
        return True

    def _without_owner(self, records: list[Media]) -> Iterator[Media]:
        by_collection: dict[str, list[Media]] = {}
        for record in records:
            collection = self._state.settings.references.get(record.reference_type)
            if collection is not None:
                by_collection.setdefault(collection, []).append(record)
        for collection, members in by_collection.items():
            ids = {record.owner_id: possible_ids(record.owner_id) for record in members}
            wanted = [value for values in ids.values() for value in values]
            with self._state.mongo.asked():
                documents = self._state.mongo[collection].find({"_id": {"$in": wanted}}, {"_id": 1})
                found = {document["_id"] for document in documents}
            yield from (record for record in members if found.isdisjoint(ids[record.owner_id]))

    def _delete_ownerless(self, state: State, record: Media) -> bool:
        if not any(self._without_owner([record])):
            return False  # it came between the scan and now
        if self._is_empty(self._state.settings.references[record.reference_type]):
            return False  # rather the wrong database than one from which every document was deleted
        lifecycle.delete(state, type(record), record.id)
        return True

    def _is_empty(self, collection: str) -> bool:
        with self._state.mongo.asked():
            return self._state.mongo[collection].find_one({}, {"_id": 1}) is None

    def _discard(self, state: State, record: Media) -> bool:
        lifecycle.delete(state, type(record), record.id)
        return True

    def _discard_missing(self, state: State, record: Media) -> bool:
        """Nothing is left that could be lost by deleting the record. But a folder without any file is rather a disk
        that is not mounted, and a bucket without any object the wrong one."""
        if record.storage_type != DATABASE and next(iter(state.storage_of(record).keys()), None) is None:
            return False
        return self._discard(state, record)

    def _mend_size(self, state: State, record: Media) -> bool:
        stat = self._stats([record]).get(t.cast(str, record.storage_key))
        where = {"state": AVAILABLE, "storage_key": record.storage_key}
        changes = {"file_size": stat.size if stat else 0, "updated_at": now()}
        return stat is not None and state.repository.update(type(record), record.id, changes, where=where) is not None

    def _found(
        self,
        problem: Problem,
        record: Media,
        detail: str,
        mend: Callable[[State, t.Any], bool] | None = None,
    ) -> bool:
        """Note a finding, and whether it was mended."""
        mended = self._repair and mend is not None and mend(self._state, record)
        self._report.add(Finding(problem, record.kind, str(record.id), detail, mended))
        return mended

    def _stats(self, records: list[Media]) -> dict[str, Stat]:
        """By key, wherever the bytes are."""
        stats: dict[str, Stat] = {}
        for place in self._places:
            keys = [t.cast(str, r.storage_key) for r in records if r.storage_type == place.storage_type]
            if keys:
                stats |= place.storage.stats(keys)
        return stats

    def _checksum(self, record: Media, size: int) -> str | None:
        digest, start = hashlib.sha256(), time.monotonic()
        read = 0
        try:
            for piece in self._state.storage_of(record).open(t.cast(str, record.storage_key), 0, size):
                digest.update(piece)
                read += len(piece)
                self._report.verified += len(piece)
                if self._rate is not None:
                    time.sleep(max(0.0, read / self._rate - (time.monotonic() - start)))
        except BytesNotFound:
            return None
        return digest.hexdigest()

    def _progress(self) -> dict[str, str]:
        with self._state.mongo.asked():
            return (self._checks.find_one({"_id": "progress"}) or {}).get("verified", {})

    def _remember(self, kind: type[Media], last_id: uuid.UUID) -> None:
        with self._state.mongo.asked():
            self._checks.update_one({"_id": "progress"}, {"$set": {f"verified.{kind.kind}": str(last_id)}}, upsert=True)

    def _save(self) -> None:
        left = {problem: count - self._report.repaired[problem] for problem, count in self._report.found.items()}
        summary = {"at": now(), "records": self._report.records, "findings": {p: n for p, n in left.items() if n}}
        with self._state.mongo.asked():
            self._checks.replace_one({"_id": "last"}, summary, upsert=True)
            self._checks.delete_one({"_id": "progress"})


_UNCHANGED: t.Any = object()


def last_check(state: State) -> dict[str, t.Any] | None:
    """When the last check was, and what it left unrepaired."""
    with state.mongo.asked():
        summary = state.mongo[COLLECTION].find_one({"_id": "last"}, {"_id": 0})
    if summary is None:
        return None
    return summary | {"at": t.cast(datetime, summary["at"]).isoformat()}


def _batches(items: Iterable[t.Any], size: int) -> Iterator[list[t.Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
