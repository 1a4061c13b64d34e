"""Repair findings.

Each finding is looked at again at the moment of its repair. If somebody else has repaired it, or
works on it, it is left alone.
"""

from __future__ import annotations

import typing as t
import uuid

from ... import events, lifecycle
from ...errors import MediaConflict, MediaNotFound, SecondMainImage
from ...failpoints import reach
from ...models import TABLES, Media, MediaRecord, MediaVariant, now
from ...state import State
from .. import sweeping
from ..journal import drain_journal
from .finder import Finder
from .findings import Finding, Problem

Remedy = t.Literal["delete", "expire", "mend"]
"""``delete`` takes away bytes, or puts a record into the trash, and counts as a deletion.
``expire`` takes away what the sweep would: an upload after the time that its client was told, and a
variant that nobody asks for. ``mend`` loses nothing."""

Outcome = t.Literal["repaired", "left", "gone"]
"""``gone``: the problem does not exist any more."""

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
        "variant_unknown",
    )
)
"""Problems whose remedy may take something away. A check that finds them for the first time does
not do that."""


class Repairer:
    """Repairs findings of one app.

    :param finder: The one that found them.
    :param discard_damaged: Delete media whose bytes are damaged. Without, it stays as it is, to be
        restored from a backup.
    """

    def __init__(
        self,
        state: State,
        finder: Finder,
        *,
        discard_damaged: bool = False,
    ) -> None:
        self._state = state
        self._finder = finder
        self._discards = discard_damaged

    def remedy(self, finding: Finding) -> Remedy | None:
        """How a finding would be repaired; ``None`` if it would be left alone."""
        match finding.problem:
            case "owner_missing" if self._state.settings.deletes_ownerless:
                return "delete"
            case "size_wrong" if finding.is_mendable:
                return "mend"
            case "bytes_incomplete" | "size_wrong" | "checksum_wrong":
                # What was derived is made again.
                if self._discards or finding.kind == MediaVariant.kind:
                    return "delete"
                return None
            case "bytes_missing" | "bytes_orphaned" | "stuck_pending" | "stuck_deleting":
                return "delete"
            case "bytes_misplaced" | "owner_misspelled":
                return "mend"
            case "upload_expired" | "variant_unknown":
                return "expire"
            case _:
                return None

    def seconds_before(self, finding: Finding, grace: float) -> float:
        """How many seconds ago an earlier check must have found the same, for it to be repaired."""
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
        reach("repair:looked")
        if record is None:
            return "gone"
        if str(record.version) != finding.version:
            return "left"  # something has happened to it since
        return _outcome(self._repair_record(finding, record))

    def sweep_finished_uploads(self) -> None:
        """Take away what is left of resumable uploads that became media."""
        for upload in list(self._state.staging.left()):
            if upload.finished:
                self._state.staging.sweep_one(upload)

    def _repair_record(self, finding: Finding, record: MediaRecord) -> bool:
        """Whether a record could be repaired."""
        if finding.problem == "owner_misspelled":
            return self._mend_owner(record)
        if self.remedy(finding) == "mend":
            return self._mend_size(record)
        if finding.problem in ("stuck_pending", "stuck_deleting"):
            home = self._finder.home_of(finding)
            return sweeping.sweep_in(self._state, home, record)
        if isinstance(record, MediaVariant):
            return lifecycle.remove_variant(self._state, record)
        return self._trash_record(record)

    def _expire_upload(self, finding: Finding) -> Outcome:
        """Take away an upload that has expired, unless its client has gone on with it."""
        staging = self._state.staging
        upload = staging.get(uuid.UUID(finding.subject))
        if upload is None or upload.finished or not upload.is_expired:
            return "gone"
        if str(upload.offset) != finding.version:
            return "gone"
        return _outcome(staging.sweep_one(upload))

    def _gather(self, finding: Finding) -> Outcome:
        """Move bytes into SQL, where their record is."""
        drain_journal(self._state, retry=False)
        repository = self._finder.home_of(finding).repository
        kind = TABLES[str(finding.kind)]
        record = repository.find(kind, uuid.UUID(finding.subject))
        if record is None or record.storage_key is None:
            return "repaired"
        return _outcome(not self._finder.is_misplaced(record.storage_key))

    def _delete_bytes(self, finding: Finding) -> Outcome:
        """Delete bytes, unless a record or an upload names them now."""
        if self._finder.is_named(finding.subject):
            return "gone"
        self._finder.storage_at(finding.where).delete(finding.subject)
        return "repaired"

    def _trash_record(self, record: MediaRecord) -> bool:
        """Put a record into the trash, unless it was changed since it was looked at."""
        try:
            sweeping.trash(self._state, record)
        except (MediaNotFound, MediaConflict):
            return False
        return True

    def _mend_owner(self, record: MediaRecord) -> bool:
        """Have a record name its document by its one id. A second main image of its product becomes
        an ordinary one."""
        owner_id = self._finder.owner_ids([record]).get(record.id)
        if owner_id is None:
            return False
        changes: dict[str, t.Any] = {
            t.cast(Media, record).owner_field: owner_id,
            "updated_at": now(),
        }
        try:
            try:
                changed = lifecycle.change(self._state, record, changes, attempts=1)
            except SecondMainImage:
                changes["is_main_image"] = False
                changed = lifecycle.change(self._state, record, changes, attempts=1)
        except MediaConflict:  # it was changed since it was looked at
            return False
        if changed is None:
            return False
        events.changed(self._state, changed)
        return True

    def _mend_size(self, record: MediaRecord) -> bool:
        """Have a record say how many bytes there are."""
        stat = self._finder.stat(record)
        if stat is None:
            return False
        changes = {"file_size": stat.size, "updated_at": now()}
        changed = lifecycle.change(self._state, record, changes, same_content=True)
        if changed is None:
            return False
        if isinstance(changed, Media):
            events.changed(self._state, changed)
        return True


def _outcome(is_repaired: bool) -> Outcome:
    if is_repaired:
        return "repaired"
    return "left"
