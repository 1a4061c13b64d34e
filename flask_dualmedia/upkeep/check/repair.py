"""Mend what was found. Each finding is looked at again at the moment of its repair, and what
somebody else has repaired, or works on, is left alone."""

from __future__ import annotations

import typing as t
import uuid

from ... import lifecycle
from ...errors import MediaConflict, MediaNotFound, SecondMainImage
from ...models import KINDS, Media, now
from ...state import State
from .. import sweeping
from ..journal import drain_journal
from .finder import Finder
from .findings import Finding, Problem

Remedy = t.Literal["delete", "expire", "mend"]
"""``delete`` takes away bytes, or puts a record into the trash, and counts; ``expire`` takes away
an upload after the time that its client was told; ``mend`` loses nothing."""

Outcome = t.Literal["repaired", "left", "gone"]
"""``gone``: what was found is not so any more."""

TAKING_AWAY: frozenset[Problem] = frozenset(
    (
        "owner_missing",
        "bytes_missing",
        "bytes_incomplete",
        "size_wrong",
        "checksum_wrong",
        "bytes_orphaned",
        "stuck_pending",
        "stuck_deleting",
        "upload_expired",
    )
)
"""Problems whose remedy may take something away. No check does that which finds them for the first
time."""


class Repairer:
    """Repairs findings of one app.

    :param finder: The one that found them.
    :param discard_damaged: Delete media whose bytes are damaged. Without, it stays as it is, to be
        restored from a backup.
    """

    def __init__(self, state: State, finder: Finder, *, discard_damaged: bool = False) -> None:
        self._state = state
        self._finder = finder
        self._discards = discard_damaged

    def remedy(self, finding: Finding) -> Remedy | None:
        """What would be done about a finding, ``None`` for nothing."""
        match finding.problem:
            case "owner_missing":
                return "delete" if self._state.settings.deletes_ownerless else None
            case "size_wrong" if finding.is_mendable:
                return "mend"
            case "bytes_incomplete" | "size_wrong" | "checksum_wrong":
                return "delete" if self._discards else None
            case "bytes_missing" | "bytes_orphaned" | "stuck_pending" | "stuck_deleting":
                return "delete"
            case "bytes_misplaced" | "owner_misspelled":
                return "mend"
            case "upload_expired":
                return "expire"
            case _:
                return None

    def seconds_before(self, finding: Finding, grace: float) -> float:
        """How long ago a finding must have been found before, to be repaired."""
        if finding.problem == "bytes_orphaned":
            # Their record may come back, with a backup of the records that is restored a little
            # later.
            return max(grace, self._state.settings.trash_seconds)
        return grace

    def repair(self, finding: Finding) -> Outcome:
        """Repair a finding that there is a remedy for."""
        if finding.problem == "bytes_orphaned":
            return self._delete_bytes(finding)
        if finding.problem == "upload_expired":
            return self._expire_upload(finding)
        if finding.problem == "bytes_misplaced":
            return self._gather(finding)
        record = self._finder.look_again(finding)
        if record is None:
            return "gone"
        if str(record.version) != finding.version:
            return "left"  # something has happened to it since
        if finding.problem == "owner_misspelled":
            done = self._mend_owner(record)
        elif self.remedy(finding) == "mend":
            done = self._mend_size(record)
        elif finding.problem in ("stuck_pending", "stuck_deleting"):
            done = sweeping.sweep_in(self._state, self._finder.home_of(finding), record)
        else:
            done = self._trash_record(record)
        return "repaired" if done else "left"

    def sweep_finished_uploads(self) -> None:
        """Take away what is left of resumable uploads that became media."""
        for upload in list(self._state.staging.left()):
            if upload.finished:
                self._state.staging.sweep_one(upload)

    def _expire_upload(self, finding: Finding) -> Outcome:
        upload = self._state.staging.get(uuid.UUID(finding.subject))
        if (
            upload is None
            or upload.finished
            or not upload.is_expired
            or str(upload.offset) != finding.version
        ):
            return "gone"
        return "repaired" if self._state.staging.sweep_one(upload) else "left"

    def _gather(self, finding: Finding) -> Outcome:
        """Move bytes into SQL, where their record is."""
        drain_journal(self._state, retry=False)
        record = self._finder.home_of(finding).repository.find(
            KINDS[str(finding.kind)], uuid.UUID(finding.subject)
        )
        key = None if record is None else record.storage_key
        return "repaired" if key is None or not self._finder.is_misplaced(key) else "left"

    def _delete_bytes(self, finding: Finding) -> Outcome:
        if self._finder.is_named(finding.subject):
            return "gone"
        self._finder.storage_at(finding.where).delete(finding.subject)
        return "repaired"

    def _trash_record(self, record: Media) -> bool:
        """Put a record into the trash, unless it was changed since it was looked at."""
        try:
            sweeping.trash(self._state, record)
        except (MediaNotFound, MediaConflict):
            return False
        return True

    def _mend_owner(self, record: Media) -> bool:
        """Have a record name its document by its one id. A second main image of its product is an
        ordinary one then."""
        owner_id = self._finder.owner_ids([record]).get(record.id)
        if owner_id is None:
            return False
        changes: dict[str, t.Any] = {record.owner_field: owner_id, "updated_at": now()}
        try:
            try:
                changed = lifecycle.change(self._state, record, changes, attempts=1)
            except SecondMainImage:
                changes["is_main_image"] = False
                changed = lifecycle.change(self._state, record, changes, attempts=1)
        except MediaConflict:  # it was changed since it was looked at
            return False
        return changed is not None

    def _mend_size(self, record: Media) -> bool:
        stat = self._finder.stats([record]).get(t.cast(str, record.storage_key))
        if stat is None:
            return False
        changes = {"file_size": stat.size, "updated_at": now()}
        return lifecycle.change(self._state, record, changes, same_content=True) is not None
