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
from ...homes.base import AnyHome, Home
from ...models import (
    AVAILABLE,
    DATABASE,
    DELETING,
    KINDS,
    PENDING,
    TABLES,
    TRASHED,
    Media,
    MediaRecord,
    MediaVariant,
)
from ...repositories.journal import JournalRepository
from ...state import State
from ...storages.base import Stat, Storage, merge_stats, owner_of_key
from ...uploads.staging import Staged
from .. import sweeping
from ..transfer import records_in, records_of, strangers
from ..variants import unknown_variants
from .findings import Finding, Problem

BATCH = 500
"""Records, or keys, looked at with one query of each kind."""


class Place(t.NamedTuple):
    """A storage, and the name that records have for it.

    SQL and the journal are both ``database``.
    """

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
        self._staging = state.staging
        self._references = state.settings.references
        self._before = before
        self._verify = verify_bytes
        self._rate = rate
        self._homes: dict[str, AnyHome] = {home.name: home for home in state.homes}
        # The journal first: where both have bytes under a key, those in SQL count.
        self._places: list[Place] = []
        for home in reversed(state.homes):
            self._places.append(Place(home.name, DATABASE, home.storage))
        for name, storage in state.storages.items():
            if name != DATABASE:
                self._places.append(Place(name, name, storage))
        self.sizes: Counter[str] = Counter()
        """How many were looked at, by population."""
        self.unknown_storages: Counter[str] = Counter()
        """How many records are in each storage that is not set up here."""
        self.trashed = 0
        """Records in the trash."""
        self.verified = 0
        """Bytes read to compare checksums."""

    def batches(self) -> Iterator[tuple[AnyHome, type[MediaRecord], list[MediaRecord]]]:
        """All records, in batches of one kind and database."""
        for kind in TABLES.values():
            for home in self._state.homes:
                for batch in _batches(records_of(home.repository, kind), BATCH):
                    yield home, kind, batch

    def look_at_records(
        self, home: AnyHome, batch: list[MediaRecord], verified_until: str = ""
    ) -> Iterator[Finding]:
        """Problems of records, and of their owners and bytes.

        Records in the trash are counted apart.

        :param verified_until: Up to this id, an earlier check has verified the bytes.
        """
        for record in batch:
            if self._is_in_unknown_storage(record):
                self.unknown_storages[record.storage_type] += 1
            if record.state == TRASHED:
                self.trashed += 1
                continue
            self._count(record)
        yield from self._judge(home, batch, verified_until)

    def look_at_uploads(self) -> Iterator[Finding]:
        """Resumable uploads that have expired, or lack what they say is there."""
        for upload in self._staging.left():
            if not upload.finished:
                length = upload.length or "unknown"
                yield Finding(
                    "upload_expired",
                    upload.kind,
                    str(upload.id),
                    f"{upload.offset} of {length} bytes came",
                    version=str(upload.offset),
                )
        for upload in self._staging.kept():
            problem, detail = self._judge_upload(upload)
            if detail is None:
                continue
            # While it was looked at, its client may have gone on, or its media may have been
            # deleted.
            current = self._staging.get(upload.id)
            if current == replace(upload, parts=[]):
                yield Finding(problem, upload.kind, str(upload.id), detail)

    def look_at_keys(self) -> Iterator[Finding]:
        """Bytes that no record names. Keys that are not of our form are passed over."""
        for place in self._places:
            for keys in _batches(place.storage.keys(), BATCH):
                yield from self._judge_keys(place, keys)
                if place.name == "journal":
                    yield from self._judge_places(keys)

    def misplaced(self, keys: list[str]) -> dict[str, MediaRecord]:
        """Those of these keys of the journal's bucket whose record is in SQL, with the record."""
        sql, journal = self._state.homes
        return records_in(sql, strangers(journal, keys))

    def look_again(self, finding: Finding) -> MediaRecord | None:
        """The record of a finding as it is now; ``None`` if the problem is gone."""
        home = self.home_of(finding)
        kind = TABLES[t.cast(str, finding.kind)]
        record = home.repository.find(kind, uuid.UUID(finding.subject))
        if record is None:
            return None

        findings = self._judge(home, [record], "")
        problems = {again.problem for again in findings}
        if finding.problem not in problems:
            return None
        return record

    def home_of(self, finding: Finding) -> AnyHome:
        """The home that the record of a finding is in."""
        return self._homes[finding.where]

    def is_misplaced(self, key: str) -> bool:
        """Tell whether the journal's bucket has bytes under a key whose record is in SQL."""
        return self._journal_has(key) and key in self.misplaced([key])

    def is_named(self, key: str) -> bool:
        """Tell whether a record, or a resumable upload, names these bytes now."""
        owner = owner_of_key(key)
        if owner is None:
            return False
        media_id, _ = owner
        named_by_records = self._named([media_id])
        named_by_uploads = self._staging.named([key])
        return key in named_by_records or key in named_by_uploads

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
        for collection in set(self._references.values()):
            name = f"media of {collection}"
            if not missing.get(name):
                continue
            if missing[name] == self.sizes[name] or self._is_empty(collection):
                yield name
        for place in self._places:
            name = f"media in {place.name}"
            if place.storage_type == DATABASE or not missing.get(name):
                continue
            if missing[name] == self.sizes[name] or _has_no_keys(place.storage):
                yield name

    def owner_ids(self, records: list[MediaRecord]) -> dict[uuid.UUID, str | None]:
        """The one id of the document that each record belongs to, by the ids of the records;
        ``None`` where the document does not exist.

        Records are left out if the host did not say in which collection their documents are.
        """
        by_collection: dict[str, list[Media]] = {}
        for record in records:
            collection = self._references.get(record.reference_type)
            if collection is not None:
                owned = t.cast(Media, record)
                by_collection.setdefault(collection, []).append(owned)

        owner_ids: dict[uuid.UUID, str | None] = {}
        for collection, members in by_collection.items():
            owner_ids |= self._owner_ids_in(collection, members)
        return owner_ids

    def stats(self, records: list[MediaRecord]) -> dict[str, Stat]:
        """How many bytes the storages have of records, by key, wherever they are."""
        stats: dict[str, Stat] = {}
        for place in self._places:
            members = [record for record in records if record.storage_type == place.storage_type]
            keys = [record.storage_key for record in members if record.storage_key is not None]
            if keys:
                # While they are moved from one to the other, they are whole in one of them.
                stats = merge_stats(stats, place.storage.stats(keys))
        return stats

    def stat(self, record: MediaRecord) -> Stat | None:
        """How many bytes the storages have of one record, ``None`` if there are none."""
        return self.stats([record]).get(record.storage_key or "")

    def _count(self, record: MediaRecord) -> None:
        """Count a record in each population that it is one of."""
        self.sizes[record.kind] += 1
        if record.storage_key is not None:
            self.sizes[_media_in(record)] += 1
        has_collection = record.reference_type in self._references
        if record.state == AVAILABLE and has_collection:
            self.sizes[self._media_of(record)] += 1

    def _owner_ids_in(
        self,
        collection: str,
        records: list[Media],
    ) -> dict[uuid.UUID, str | None]:
        """The same as :meth:`owner_ids`, for records whose documents are in one collection."""
        spellings = {record.owner_id: possible_ids(record.owner_id) for record in records}
        every_spelling: list[t.Any] = []
        for values in spellings.values():
            every_spelling += values
        query = {"_id": {"$in": every_spelling}}
        mongo = self._state.mongo
        with mongo.asked():
            documents = mongo[collection].find(query, {"_id": 1})
            existing = {document["_id"] for document in documents}

        owner_ids: dict[uuid.UUID, str | None] = {}
        for record in records:
            owner_ids[record.id] = None
            for value in spellings[record.owner_id]:
                if value in existing:
                    owner_ids[record.id] = one_id(self._state, record.owner_id, value)
                    break
        return owner_ids

    def _judge_upload(self, upload: Staged) -> tuple[Problem, str | None]:
        """The problem that an upload may have, and its details; ``None`` if it does not have it."""
        if upload.finished:
            return "result_missing", self._lacking_result(upload)
        return "parts_missing", self._lacking_parts(upload)

    def _lacking_result(self, upload: Staged) -> str | None:
        """The media that a finished upload became, if it does not exist and nobody has deleted
        it."""
        if upload.kind is None:
            return None
        kind = KINDS[upload.kind]
        record = self._state.repository.find(kind, upload.id)
        if record is not None:
            return None
        return f"there is no {upload.kind} {upload.id}"

    def _lacking_parts(self, upload: Staged) -> str | None:
        """How many of the acknowledged bytes of an upload are missing."""
        stats: dict[str, Stat] = {}
        part_keys = [part.key for part in upload.parts]
        for place in self._places:
            if place.storage_type == DATABASE:
                for keys in _batches(part_keys, BATCH):
                    stats |= place.storage.stats(keys)

        kept = 0
        acknowledged = 0
        for part in upload.parts:
            acknowledged += part.size
            if _is_whole(stats.get(part.key), part.size):
                kept += part.size
        if kept == acknowledged:
            return None
        return f"{kept} of {acknowledged} bytes are there"

    def _judge(
        self,
        home: AnyHome,
        batch: list[MediaRecord],
        verified_until: str,
    ) -> Iterator[Finding]:
        """The problems of some records; those of the owner and the bytes of one come in a row."""
        available: list[MediaRecord] = []
        for record in batch:
            if self._is_in_unknown_storage(record):
                detail = f"{record.storage_type} is not in DUALMEDIA_STORAGES"
                yield _finding("storage_unknown", record, home, detail)
            elif record.state == AVAILABLE:
                available.append(record)
            elif record.state == TRASHED:
                yield from self._judge_trashed(home, record)
            else:
                yield from self._judge_unfinished(home, record)

        yield from self._judge_variants(home, available)
        if home.name == "journal" and available:
            yield from self._judge_waiting(home, available)
        owner_ids = self.owner_ids(available)
        stats = self.stats([record for record in available if record.storage_key])
        for record in available:
            yield from self._judge_owner(home, record, owner_ids)
            if record.storage_key:
                stat = stats.get(record.storage_key)
                yield from self._judge_bytes(home, record, stat, verified_until)

    def _is_in_unknown_storage(self, record: MediaRecord) -> bool:
        """Tell whether the bytes of a record are in a storage that is not set up here."""
        if record.storage_key is None:
            return False
        return record.storage_type not in self._state.storages

    def _judge_trashed(self, home: AnyHome, record: MediaRecord) -> Iterator[Finding]:
        """A record in the trash, where a drain may have put it because the journal is too old."""
        if home.name == "journal" and home.repository.is_stale(record):
            detail = "flask dualmedia check --restore keeps it"
            yield _finding("journal_stale", record, home, detail)

    def _judge_owner(
        self,
        home: AnyHome,
        record: MediaRecord,
        owner_ids: t.Mapping[uuid.UUID, str | None],
    ) -> Iterator[Finding]:
        """Find that the document of an owner is missing, or is called otherwise in the record.

        :param owner_ids: As :meth:`owner_ids` gives them.
        """
        if record.id not in owner_ids:
            return
        owner_id = owner_ids[record.id]
        if owner_id is None:
            # An owner may be created after its media, by an import for example: give it the grace
            # time.
            if record.created_at < self._before:
                detail = f"there is no {record.reference_type} {record.owner_id}"
                yield _finding("owner_missing", record, home, detail, self._media_of(record))
        elif owner_id != record.owner_id:
            detail = f"{record.reference_type} {owner_id} is called {record.owner_id}"
            yield _finding("owner_misspelled", record, home, detail)

    def _judge_variants(self, home: AnyHome, records: list[MediaRecord]) -> Iterator[Finding]:
        """Variants that nobody asks for any more, unless a worker is about to remove them."""
        variants = [record for record in records if isinstance(record, MediaVariant)]
        for variant, reason in unknown_variants(self._state, variants):
            if not self._is_just_changed(variant.media_id) and self._is_unchanged(variant):
                yield _finding("variant_unknown", variant, home, reason)

    def _judge_waiting(
        self,
        journal: Home[JournalRepository, t.Any],
        records: list[MediaRecord],
    ) -> Iterator[Finding]:
        """Records that wait in the journal, unless a drain is on its way to them."""
        if self._is_draining():
            return
        for record in records:
            if journal.repository.find(type(record), record.id) is not None:
                yield self._judge_journaled(journal, record)

    def _judge_journaled(
        self, journal: Home[JournalRepository, t.Any], record: MediaRecord
    ) -> Finding:
        """A record that waits in the journal, or that SQL refuses."""
        refusal = journal.repository.refusal_of(record)
        if refusal is None:
            return _finding("journal_left", record, journal, "waits for flask dualmedia drain")
        return _finding("journal_refused", record, journal, refusal.reason)

    def _judge_unfinished(self, home: AnyHome, record: MediaRecord) -> Iterator[Finding]:
        """An upload or a deletion that was not finished, unless it may be work in progress."""
        is_journaled = home.name == "journal"
        if record.state == DELETING and record.storage_key is None and not is_journaled:
            return  # its bytes are gone, and it stays for a while so that nothing brings it back
        if record.updated_at >= self._before:
            return
        if sweeping.is_finished_elsewhere(self._state, home, record):
            return
        if home.repository.find(type(record), record.id) is None:
            return
        problem: Problem = "stuck_deleting"
        if record.state == PENDING:
            problem = "stuck_pending"
        yield _finding(problem, record, home, f"since {record.updated_at:%Y-%m-%d %H:%M} UTC")

    def _judge_bytes(
        self,
        home: AnyHome,
        record: MediaRecord,
        stat: Stat | None,
        verified_until: str,
    ) -> Iterator[Finding]:
        """Find that the bytes of a record are missing, too few or too many, or other ones.

        :param stat: What the storages said about the bytes when the batch was read.
        """
        if not _is_whole(stat, record.file_size):
            if not self._is_unchanged(record):
                return
            stat = self.stat(record)
            if not _is_whole(stat, record.file_size):
                yield from self._judge_damage(home, record, stat)
                return
        if not self._verify or str(record.id) <= verified_until:
            return
        if self._checksum(record, record.file_size or 0) != record.checksum:
            detail = f"the checksum is not {record.checksum}"
            yield _finding("checksum_wrong", record, home, detail, _media_in(record))

    def _judge_damage(
        self,
        home: AnyHome,
        record: MediaRecord,
        stat: Stat | None,
    ) -> Iterator[Finding]:
        """Bytes that are not as many as their record says."""
        if self._is_split(record):
            return
        place = _media_in(record)
        if stat is None:
            # Other storages may show what they took only after a while.
            if record.storage_type == DATABASE or record.updated_at < self._before:
                detail = f"nothing is stored under {record.storage_key}"
                yield _finding("bytes_missing", record, home, detail, place)
        elif not stat.complete:
            detail = f"{stat.size} of {record.file_size} bytes are there"
            yield _finding("bytes_incomplete", record, home, detail, place)
        else:
            detail = f"{stat.size} bytes, not {record.file_size}"
            finding = _finding("size_wrong", record, home, detail, place)
            is_mendable = self._checksum(record, stat.size) == record.checksum
            yield replace(finding, is_mendable=is_mendable)

    def _is_split(self, record: MediaRecord) -> bool:
        """Tell whether some of the bytes are in SQL and the rest is in the journal.

        Such bytes are misplaced, not missing. They are read for that.
        """
        key = record.storage_key
        if record.storage_type != DATABASE or record.file_size is None:
            return False
        if len(self._state.homes) == 1:
            return False
        if key is None or not self._journal_has(key):
            return False
        return self._checksum(record, record.file_size) == record.checksum

    def _is_unchanged(self, record: MediaRecord) -> bool:
        """Tell whether nobody has replaced or deleted the record since the batch was read."""
        current = self._state.repository.find(type(record), record.id)
        if current is None:
            return False
        return current.state == AVAILABLE and current.storage_key == record.storage_key

    def _judge_keys(self, place: Place, keys: list[str]) -> Iterator[Finding]:
        """Bytes that no record and no upload names, under keys of one place."""
        owned = {key: owner for key in keys if (owner := owner_of_key(key)) is not None}
        media_ids = [media_id for media_id, _ in owned.values()]
        named_keys = self._named(media_ids) | self._staging.named(keys)
        population = f"bytes in {place.storage_type}"

        # A key that is not ours is somebody else's, wherever it is.
        for key, (_, made_at) in owned.items():
            self.sizes[population] += 1
            # A younger key may be the content of an upload in progress, whose record does not name
            # it yet.
            if key in named_keys or made_at >= self._before:
                continue
            if not self.is_named(key) and not self._was_just_changed(key):
                yield Finding(
                    "bytes_orphaned",
                    None,
                    key,
                    f"in {place.name}",
                    where=place.name,
                    populations=(population,),
                )

    def _judge_places(self, keys: list[str]) -> Iterator[Finding]:
        """Bytes in the journal whose records are in SQL. While they are drained they are on their
        way."""
        misplaced = self.misplaced(keys)
        if not misplaced or self._is_draining():
            return
        for key, record in misplaced.items():
            if self.is_misplaced(key):
                detail = f"{key} is in the journal"
                yield _finding("bytes_misplaced", record, self._state.homes[0], detail)

    def _journal_has(self, key: str) -> bool:
        """Tell whether the journal's bucket has bytes under a key."""
        bucket = self._state.homes[1].storage
        first_key = next(bucket.keys(key[:-1]), None)
        return first_key == key

    def _was_just_changed(self, key: str) -> bool:
        """Tell whether the record that bytes belonged to was changed a moment ago.

        The worker that changed it deletes them now.
        """
        owner = owner_of_key(key)
        if owner is None:
            return False

        media_id, _ = owner
        return self._is_just_changed(media_id)

    def _is_just_changed(self, media_id: uuid.UUID) -> bool:
        """Tell whether a record was changed a moment ago."""
        for home in self._state.homes:
            for kind in TABLES.values():
                record = home.repository.find(kind, media_id)
                if record is not None and record.updated_at >= self._before:
                    return True
        return False

    def _is_draining(self) -> bool:
        """Tell whether a process moves the journal into SQL now."""
        return Lease(self._state.collections, "drain").is_held()

    def _named(self, ids: list[uuid.UUID]) -> set[str]:
        """The keys that records with these ids name, wherever the records are."""
        keys: set[str] = set()
        for kind in TABLES.values():
            for home in self._state.homes:
                keys.update(key for key in home.repository.keys_of(kind, ids) if key)
        return keys

    def _is_empty(self, collection: str) -> bool:
        """Tell whether the host's collection has no document at all."""
        mongo = self._state.mongo
        with mongo.asked():
            document = mongo[collection].find_one({}, {"_id": 1})
        return document is None

    def _media_of(self, record: MediaRecord) -> str:
        """Name of the population of all media whose owners are in the same collection."""
        collection = self._references[record.reference_type]
        return f"media of {collection}"

    def _checksum(self, record: MediaRecord, size: int) -> str | None:
        """The checksum of the bytes of a record; ``None`` if they are gone.

        They are read no faster than the rate.

        :param size: Bytes from the beginning that count.
        """
        original = self._state.original(record)
        if original is None:
            return None
        digest = hashlib.sha256()
        start = time.monotonic()
        read = 0
        try:
            for piece in original.open(0, size):
                digest.update(piece)
                read += len(piece)
                self.verified += len(piece)
                if self._rate is not None:
                    elapsed = time.monotonic() - start
                    time.sleep(max(0.0, read / self._rate - elapsed))
        except BytesNotFound:
            return None
        return digest.hexdigest()


def unknown_storages(state: State) -> dict[str, int]:
    """How many records are in each storage that is not set up here, by its name."""
    numbers: Counter[str] = Counter()
    for kind in TABLES.values():
        numbers.update(state.repository.count_by_storage(kind))
    return {name: numbers[name] for name in sorted(numbers.keys() - state.storages.keys())}


def _has_no_keys(storage: Storage) -> bool:
    return next(iter(storage.keys()), None) is None


def _is_whole(stat: Stat | None, size: int | None) -> bool:
    """Tell whether a storage has all bytes of a file, and no more."""
    return stat is not None and stat.complete and stat.size == size


def _media_in(record: MediaRecord) -> str:
    """Name of the population of all media in the same storage."""
    return f"media in {record.storage_type}"


def _finding(
    problem: Problem,
    record: MediaRecord,
    home: AnyHome,
    detail: str,
    *populations: str,
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
    """Lists of at most so many items, until there are no more."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
