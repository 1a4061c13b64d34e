"""Find what is wrong. Nothing here changes anything."""

from __future__ import annotations

import hashlib
import time
import typing as t
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import islice

from ...authorization import one_id, possible_ids
from ...databases.leases import Lease
from ...errors import BytesNotFound
from ...homes.base import Home
from ...models import AVAILABLE, DELETING, KINDS, PENDING, TRASHED, Media
from ...repositories.mongo import JournalRepository
from ...state import State
from ...storages.base import Stat, Storage, merge_stats, owner_of_key
from ...uploads.staging import Staged
from .. import sweeping
from ..transfer import records_in, records_of, strangers
from .findings import Finding, Problem

BATCH = 500
"""Records, or keys, looked at with one query of each kind."""

DATABASE = "database"


class Place(t.NamedTuple):
    """A storage, and what records call it. SQL and the journal are both ``database``."""

    name: str
    storage_type: str
    storage: Storage


class Finder:
    """Looks at the media of one app.

    :param before: Nothing that was changed after this is judged where it may be work in progress.
    :param verify_bytes: Read all bytes and compare checksums.
    :param rate: Bytes read per second at most, ``None`` for no limit.
    """

    def __init__(
        self,
        state: State,
        *,
        before: datetime,
        verify_bytes: bool = False,
        rate: float | None = None,
    ) -> None:
        self._state = state
        self._before = before
        self._verify = verify_bytes
        self._rate = rate
        self._homes: dict[str, Home[t.Any]] = {home.name: home for home in state.homes}
        # The journal first, so that of bytes in both those in SQL are found.
        self._places = [Place(home.name, DATABASE, home.storage) for home in reversed(state.homes)]
        self._places += [
            Place(name, name, storage)
            for name, storage in state.storages.items()
            if name != DATABASE
        ]
        self.sizes: Counter[str] = Counter()
        """How many were looked at, by population."""
        self.trashed = 0
        """Records in the trash."""
        self.verified = 0
        """Bytes read to compare checksums."""

    def batches(self) -> Iterator[tuple[Home[t.Any], type[Media], list[Media]]]:
        """All records, in batches of one kind and database."""
        for kind in KINDS.values():
            for home in self._state.homes:
                for batch in _batches(records_of(home.repository, kind), BATCH):
                    yield home, kind, batch

    def look_at_records(
        self, home: Home[t.Any], batch: list[Media], verified_until: str = ""
    ) -> Iterator[Finding]:
        """What is wrong with records, and with their owners and bytes.

        :param verified_until: Up to this id the bytes were verified before.
        """
        for record in batch:
            if record.state == TRASHED:
                self.trashed += 1
                continue
            self.sizes[record.kind] += 1
            if record.storage_key is not None:
                self.sizes[_media_in(record)] += 1
            if (
                record.state == AVAILABLE
                and record.reference_type in self._state.settings.references
            ):
                self.sizes[self._media_of(record)] += 1
        yield from self._judge(home, batch, verified_until)

    def look_at_uploads(self) -> Iterator[Finding]:
        """Resumable uploads that have expired, or lack what they say is there."""
        for upload in self._state.staging.left():
            if not upload.finished:
                detail = f"{upload.offset} of {upload.length or 'unknown'} bytes came"
                version = str(upload.offset)
                yield Finding(
                    "upload_expired", upload.kind, str(upload.id), detail, version=version
                )
        for upload in self._state.staging.kept():
            detail = (
                self._lacking_result(upload) if upload.finished else self._lacking_parts(upload)
            )
            # While it was looked at its client may have gone on, or its media may have been
            # deleted.
            if detail is None or self._state.staging.get(upload.id) != replace(upload, parts=[]):
                continue
            yield Finding(
                "result_missing" if upload.finished else "parts_missing",
                upload.kind,
                str(upload.id),
                detail,
            )

    def look_at_keys(self) -> Iterator[Finding]:
        """Bytes that no record names."""
        for place in self._places:
            for keys in _batches(place.storage.keys(), BATCH):
                yield from self._judge_keys(place, keys)
                if place.name == "journal":
                    yield from self._judge_places(keys)

    def misplaced(self, keys: list[str]) -> dict[str, Media]:
        """Those of these keys of the journal's bucket whose record is in SQL, with the record."""
        sql, journal = self._state.homes
        return records_in(sql, strangers(journal, keys))

    def look_again(self, finding: Finding) -> Media | None:
        """The record of a finding as it is now; ``None`` if what was found is not so any more."""
        home = self.home_of(finding)
        kind = KINDS[t.cast(str, finding.kind)]
        record = home.repository.find(kind, uuid.UUID(finding.subject))
        if record is None:
            return None
        problems = {again.problem for again in self._judge(home, [record], "")}
        return record if finding.problem in problems else None

    def home_of(self, finding: Finding) -> Home[t.Any]:
        """The home that the record of a finding is in."""
        return self._homes[finding.where]

    def is_misplaced(self, key: str) -> bool:
        """Whether there are bytes under a key in the journal's bucket, of a record that is in
        SQL."""
        return self._journal_has(key) and key in self.misplaced([key])

    def is_named(self, key: str) -> bool:
        """Whether a record, or a resumable upload, names these bytes now."""
        owner = owner_of_key(key)
        return owner is not None and key in self._named([owner[0]]) | self._state.staging.named(
            [key]
        )

    def storage_at(self, where: str) -> Storage:
        """The storage that a finding about bytes is from."""
        return next(place.storage for place in self._places if place.name == where)

    def groundless(self, missing: t.Mapping[str, int]) -> Iterator[str]:
        """Names of populations whose owners, or bytes outside of the databases, are missing
        altogether.

        It is rather the wrong database than one from which every document was deleted, and rather a
        disk that is not mounted, or the wrong bucket, than one from which every file is gone.

        :param missing: How many were found missing, by population.
        """
        for collection in set(self._state.settings.references.values()):
            name = f"media of {collection}"
            if missing.get(name) and (
                missing[name] == self.sizes[name] or self._is_empty(collection)
            ):
                yield name
        for place in self._places:
            name = f"media in {place.name}"
            if place.storage_type == DATABASE or not missing.get(name):
                continue
            if missing[name] == self.sizes[name] or next(iter(place.storage.keys()), None) is None:
                yield name

    def owner_ids(self, records: list[Media]) -> dict[uuid.UUID, str | None]:
        """By the ids of records, the one id of the document that each belongs to; ``None`` where it
        does not exist.

        Records are left out for whose documents the host did not say in which collection they are.
        """
        by_collection: dict[str, list[Media]] = {}
        for record in records:
            collection = self._state.settings.references.get(record.reference_type)
            if collection is not None:
                by_collection.setdefault(collection, []).append(record)
        owner_ids: dict[uuid.UUID, str | None] = {}
        for collection, members in by_collection.items():
            spellings = {record.owner_id: possible_ids(record.owner_id) for record in members}
            wanted = [value for values in spellings.values() for value in values]
            with self._state.mongo.asked():
                documents = self._state.mongo[collection].find({"_id": {"$in": wanted}}, {"_id": 1})
                existing = {document["_id"] for document in documents}
            for record in members:
                found = [value for value in spellings[record.owner_id] if value in existing]
                owner_ids[record.id] = (
                    one_id(self._state, record.owner_id, found[0]) if found else None
                )
        return owner_ids

    def stats(self, records: list[Media]) -> dict[str, Stat]:
        """What is known of the bytes of records, by key, wherever they are."""
        stats: dict[str, Stat] = {}
        for place in self._places:
            keys = [
                t.cast(str, r.storage_key) for r in records if r.storage_type == place.storage_type
            ]
            if keys:
                # While they are moved from one to the other, they are whole in one of them.
                stats = merge_stats(stats, place.storage.stats(keys))
        return stats

    def _lacking_result(self, upload: Staged) -> str | None:
        """The media that a finished upload became, where there is none and nobody has deleted
        it."""
        if (
            upload.kind is None
            or self._state.repository.find(KINDS[upload.kind], upload.id) is not None
        ):
            return None
        return f"there is no {upload.kind} {upload.id}"

    def _lacking_parts(self, upload: Staged) -> str | None:
        """How much is missing of the bytes of an upload that are acknowledged."""
        stats: dict[str, Stat] = {}
        for place in self._places:
            if place.storage_type == DATABASE:
                for keys in _batches((part.key for part in upload.parts), BATCH):
                    stats |= place.storage.stats(keys)
        kept = sum(part.size for part in upload.parts if _is_whole(stats.get(part.key), part.size))
        came = sum(part.size for part in upload.parts)
        return None if kept == came else f"{kept} of {came} bytes are there"

    def _judge(
        self, home: Home[t.Any], batch: list[Media], verified_until: str
    ) -> Iterator[Finding]:
        available = []
        for record in batch:
            if record.storage_key is not None and record.storage_type not in self._state.storages:
                detail = f"{record.storage_type} is not in DUALMEDIA_STORAGES"
                yield _finding("storage_unknown", record, home, detail)
            elif record.state == TRASHED:
                if home.name == "journal" and home.repository.is_stale(record):
                    yield _finding(
                        "journal_stale", record, home, "flask dualmedia check --restore keeps it"
                    )
            elif record.state != AVAILABLE:
                yield from self._judge_unfinished(home, record)
            else:
                available.append(record)
        if home.name == "journal" and available and not self._is_draining():
            for record in available:
                if home.repository.find(type(record), record.id) is not None:
                    yield self._judge_journaled(home, record)
        owner_ids = self.owner_ids(available)
        stats = self.stats([record for record in available if record.storage_key])
        for record in available:
            # An owner may be created after its media, by an import for example: give it the grace
            # time.
            owner_id = owner_ids.get(record.id, record.owner_id)
            if owner_id is None and record.created_at < self._before:
                detail = f"there is no {record.reference_type} {record.owner_id}"
                yield _finding("owner_missing", record, home, detail, self._media_of(record))
            elif owner_id not in (None, record.owner_id):
                detail = f"{record.reference_type} {owner_id} is called {record.owner_id}"
                yield _finding("owner_misspelled", record, home, detail)
            if record.storage_key:
                yield from self._judge_bytes(
                    home, record, stats.get(record.storage_key), verified_until
                )

    def _judge_journaled(self, journal: Home[JournalRepository], record: Media) -> Finding:
        refusal = journal.repository.refusal_of(record)
        if refusal is None:
            return _finding("journal_left", record, journal, "waits for flask dualmedia drain")
        return _finding("journal_refused", record, journal, refusal.reason)

    def _judge_unfinished(self, home: Home[t.Any], record: Media) -> Iterator[Finding]:
        is_journaled = home.name == "journal"
        if record.state == DELETING and record.storage_key is None and not is_journaled:
            return  # its bytes are gone, and it stays for a while so that nothing brings it back
        if record.updated_at >= self._before:
            return
        if sweeping.is_finished_elsewhere(self._state, home, record):
            return
        if home.repository.find(type(record), record.id) is None:
            return
        problem: Problem = "stuck_pending" if record.state == PENDING else "stuck_deleting"
        yield _finding(problem, record, home, f"since {record.updated_at:%Y-%m-%d %H:%M} UTC")

    def _judge_bytes(
        self, home: Home[t.Any], record: Media, stat: Stat | None, verified_until: str
    ) -> Iterator[Finding]:
        if stat is None or not stat.complete or stat.size != record.file_size:
            current = self._unchanged(record)
            if current is None:
                return
            stat = self.stats([current]).get(t.cast(str, current.storage_key))
        place = _media_in(record)
        is_whole = stat is not None and stat.complete and stat.size == record.file_size
        if not is_whole and self._is_split(record):
            return
        if stat is None:
            # Other storages may show what they took only after a while.
            if record.storage_type == DATABASE or record.updated_at < self._before:
                detail = f"nothing is stored under {record.storage_key}"
                yield _finding("bytes_missing", record, home, detail, place)
        elif not stat.complete:
            detail = f"{stat.size} of {record.file_size} bytes are there"
            yield _finding("bytes_incomplete", record, home, detail, place)
        elif stat.size != record.file_size:
            finding = _finding(
                "size_wrong", record, home, f"{stat.size} bytes, not {record.file_size}", place
            )
            yield replace(finding, is_mendable=self._checksum(record, stat.size) == record.checksum)
        elif (
            self._verify
            and str(record.id) > verified_until
            and self._checksum(record, stat.size) != record.checksum
        ):
            yield _finding(
                "checksum_wrong", record, home, f"the checksum is not {record.checksum}", place
            )

    def _is_split(self, record: Media) -> bool:
        """Whether the bytes are there, some of them in SQL and some in the journal: they are
        misplaced, not missing."""
        if (
            record.storage_type != DATABASE
            or len(self._state.homes) == 1
            or record.file_size is None
        ):
            return False
        return self._journal_has(t.cast(str, record.storage_key)) and (
            self._checksum(record, record.file_size) == record.checksum
        )

    def _unchanged(self, record: Media) -> Media | None:
        """The record, unless it was replaced or deleted since the batch was read."""
        current = self._state.repository.find(type(record), record.id)
        if (
            current is None
            or current.state != AVAILABLE
            or current.storage_key != record.storage_key
        ):
            return None
        return record

    def _judge_keys(self, place: Place, keys: list[str]) -> Iterator[Finding]:
        owned = {key: owner for key in keys if (owner := owner_of_key(key)) is not None}
        named = self._named(
            [media_id for media_id, _ in owned.values()]
        ) | self._state.staging.named(keys)
        population = f"bytes in {place.storage_type}"
        for key in keys:
            if key not in owned:
                continue  # a key that is not ours is somebody else's, wherever it is
            self.sizes[population] += 1
            if key in named:
                continue
            _, made = owned[key]
            # A younger key may be the content of an upload in progress, whose record does not name
            # it yet.
            if made >= self._before:
                continue
            if not self.is_named(key) and not self._was_just_changed(key):
                detail = f"in {place.name}"
                yield Finding(
                    "bytes_orphaned", None, key, detail, where=place.name, populations=(population,)
                )

    def _judge_places(self, keys: list[str]) -> Iterator[Finding]:
        """Bytes in the journal of records that are in SQL. While they are drained they are on their
        way."""
        misplaced = self.misplaced(keys)
        if not misplaced or self._is_draining():
            return
        for key, record in misplaced.items():
            if self.is_misplaced(key):
                yield _finding(
                    "bytes_misplaced", record, self._state.homes[0], f"{key} is in the journal"
                )

    def _journal_has(self, key: str) -> bool:
        return next(self._state.homes[1].storage.keys(key[:-1]), None) == key

    def _was_just_changed(self, key: str) -> bool:
        """Whether the record that bytes were of was changed a moment ago: whoever changed it
        deletes them now."""
        owner = owner_of_key(key)
        if owner is None:
            return False
        records = (
            home.repository.find(kind, owner[0])
            for home in self._state.homes
            for kind in KINDS.values()
        )
        return any(record is not None and record.updated_at >= self._before for record in records)

    def _is_draining(self) -> bool:
        return Lease(self._state.collections, "drain").is_held()

    def _named(self, ids: list[uuid.UUID]) -> set[str]:
        """The keys that records with these ids name, wherever the records are."""
        keys: set[str] = set()
        for kind in KINDS.values():
            for home in self._state.homes:
                keys.update(key for key in home.repository.keys_of(kind, ids) if key)
        return keys

    def _is_empty(self, collection: str) -> bool:
        with self._state.mongo.asked():
            return self._state.mongo[collection].find_one({}, {"_id": 1}) is None

    def _media_of(self, record: Media) -> str:
        return f"media of {self._state.settings.references[record.reference_type]}"

    def _checksum(self, record: Media, size: int) -> str | None:
        digest, start = hashlib.sha256(), time.monotonic()
        read = 0
        try:
            for piece in self._state.storage_of(record).open(
                t.cast(str, record.storage_key), 0, size
            ):
                digest.update(piece)
                read += len(piece)
                self.verified += len(piece)
                if self._rate is not None:
                    time.sleep(max(0.0, read / self._rate - (time.monotonic() - start)))
        except BytesNotFound:
            return None
        return digest.hexdigest()


def _is_whole(stat: Stat | None, size: int) -> bool:
    return stat is not None and stat.complete and stat.size == size


def _media_in(record: Media) -> str:
    return f"media in {record.storage_type}"


def _finding(
    problem: Problem, record: Media, home: Home[t.Any], detail: str, *populations: str
) -> Finding:
    return Finding(
        problem,
        record.kind,
        str(record.id),
        detail,
        where=home.name,
        populations=(record.kind, *populations),
        version=str(record.version),
    )


def _batches(items: Iterable[t.Any], size: int) -> Iterator[list[t.Any]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
