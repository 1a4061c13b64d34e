"""One check: everything is looked at, then it is decided, then it is repaired."""

from __future__ import annotations

import time
import typing as t
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice

from pymongo.collection import Collection

from ...databases.collections import CHECKS
from ...databases.documents import Document
from ...errors import Unavailable
from ...models import MediaRecord
from ...state import State
from ..chores import find_damage, forget_damage
from ..sightings import Sightings
from .decision import Decision, Tally, decide, is_safe
from .finder import BATCH, Finder
from .findings import Check, Finding, FindingFile
from .repair import TAKING_AWAY, Repairer

COLLECTION = CHECKS


class Checker:
    """Checks the media of one app.

    :param repair: Mend what can be mended.
    :param approve: With ``repair``: called once, after everything was looked at. Says whether what
        the decision names may be deleted. Default: if it is safe.
    :param at_once: With ``repair``: take away what no earlier check has found, too. Somebody has
        said how much it is.
    :param discard_damaged: With ``repair``: delete media whose bytes are damaged. Without, it stays
        as it is, to be restored from a backup.
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
        approve: Callable[[Decision], bool] = is_safe,
        at_once: bool = False,
        discard_damaged: bool = False,
        verify_bytes: bool = False,
        rate: float | None = None,
        grace: float | None = None,
        resume: bool = False,
        advance: Callable[[int], object] = lambda count: None,
    ) -> None:
        self._state = state
        self._repairs = repair
        self._approve = approve
        self._at_once = at_once
        self._verifies = verify_bytes
        self._resumes = resume
        self._advance = advance
        state.clock.measure()
        if grace is None:
            grace = state.settings.grace
        self._grace = grace
        before = state.clock.now() - timedelta(seconds=grace)
        self._finder = Finder(state, before=before, verify_bytes=verify_bytes, rate=rate)
        self._repairer = Repairer(state, self._finder, discard_damaged=discard_damaged)
        self._report = Check()
        self._sightings = Sightings(state, "check")
        # A check that does not read all bytes does not forget what one that did has found.
        self._sightings_of_bytes = Sightings(state, "bytes")

    @property
    def _checks(self) -> Collection[Document]:
        return self._state.collections.get(COLLECTION)

    def run(self) -> Check:
        """Look at everything, and repair it if that was asked for and is safe.

        :raises Unavailable: A database or a storage is down: what it holds cannot be judged.
        """
        start = time.monotonic()
        report = self._report
        with FindingFile() as findings:
            for finding in self._compare(self._find()):
                report.add(finding)
                if self._repairs and self._repairer.remedy(finding):
                    findings.add(finding)
            if self._repairs:
                self._repair(findings)
        self._forget()

        report.verified = self._finder.verified
        report.trashed = self._finder.trashed
        report.unknown_storages = self._finder.unknown_storages
        report.seconds = time.monotonic() - start
        self._save()
        return report

    def _find(self) -> t.Iterator[Finding]:
        """Look at records, then at uploads, then at the keys of all storages."""
        verified: dict[str, str] = {}
        if self._verifies and self._resumes:
            verified = self._progress()
        for home, kind, batch in self._finder.batches():
            verified_until = verified.get(kind.kind, "")
            yield from self._finder.look_at_records(home, batch, verified_until)
            self._report.records += len(batch)
            self._advance(len(batch))
            if self._verifies:
                self._remember(kind, batch[-1].id)
        yield from self._finder.look_at_uploads()
        yield from self._finder.look_at_keys()

    def _compare(self, findings: Iterable[Finding]) -> t.Iterator[Finding]:
        """The findings, marked where an earlier check found them too."""
        iterator = iter(findings)
        while batch := list(islice(iterator, BATCH)):
            first_seen = self._note(batch)
            for finding in batch:
                since = first_seen.get(finding.name)
                seconds = self._repairer.seconds_before(finding, self._grace)
                is_due = self._sightings.is_due(since, seconds)
                yield replace(finding, is_due=is_due)

    def _note(self, findings: list[Finding]) -> dict[str, datetime]:
        """Remember the findings whose remedy may take something away.

        :return: When an earlier check first saw them, by name.
        """
        names: set[str] = set()
        names_of_bytes: set[str] = set()
        for finding in findings:
            if finding.problem not in TAKING_AWAY or finding.is_mendable:
                continue
            if finding.problem == "checksum_wrong":
                names_of_bytes.add(finding.name)
            else:
                names.add(finding.name)

        first_seen = self._sightings_of_bytes.note(names_of_bytes)
        first_seen |= self._sightings.note(names)
        return first_seen

    def _forget(self) -> None:
        """Forget what earlier checks saw and this one did not. A check that did not read all bytes
        does not judge those that it did not read."""
        self._sightings.forget()
        if self._verifies and not self._resumes:
            self._sightings_of_bytes.forget()
        self._report.forgone = self._sightings.forgone + self._sightings_of_bytes.forgone

    def _repair(self, findings: FindingFile) -> None:
        """Repair the findings, as far as the decision allows.

        Repairs that lose nothing are made in any case. The others need approval, and an earlier
        check that found the same.
        """
        decision = self._decide(findings)
        is_approved = self._approve(decision)
        if not is_approved and decision.deletions:
            self._report.refused = decision

        for finding in findings:
            if self._repairer.remedy(finding) == "mend":
                self._repair_one(finding)
            elif not is_approved:
                continue
            elif finding.is_due or self._at_once:
                self._repair_one(finding)
            else:
                self._report.waiting[finding.problem] += 1
        if is_approved:
            self._repairer.sweep_finished_uploads()

    def _repair_one(self, finding: Finding) -> None:
        """Repair a finding, and correct the report."""
        outcome = self._repairer.repair(finding)
        if outcome == "repaired":
            self._report.mark_repaired(finding)
        elif outcome == "gone":
            self._report.withdraw(finding)

    def _decide(self, findings: FindingFile) -> Decision:
        """Compare what the repair would delete with how much there is."""
        tally = Tally()
        for finding in findings:
            if self._repairer.remedy(finding) == "delete":
                tally.add(finding.problem, finding.subject, finding.populations)
        share = self._state.settings.repair_share
        groundless = self._finder.groundless(tally.by_population)
        return decide(tally, self._finder.sizes, share, groundless)

    def _progress(self) -> dict[str, str]:
        """The last ids whose bytes an interrupted check has verified, by kind."""
        with self._state.mongo.asked():
            progress = self._checks.find_one({"_id": "progress"}) or {}
        return progress.get("verified", {})

    def _remember(self, kind: type[MediaRecord], last_id: uuid.UUID) -> None:
        """Note how far the verification of bytes has come."""
        change = {"$set": {f"verified.{kind.kind}": str(last_id)}}
        with self._state.mongo.asked():
            self._checks.update_one({"_id": "progress"}, change, upsert=True)

    def _save(self) -> None:
        """Note what is wrong still, for ``status`` and the page of the app's health."""
        findings = {}
        for problem, count in self._report.found.items():
            unrepaired = count - self._report.repaired[problem]
            if unrepaired:
                findings[problem] = unrepaired

        summary = {
            "at": self._state.clock.now(),
            "records": self._report.records,
            "findings": findings,
        }
        if self._verifies and not self._resumes:
            forget_damage(self._state)
        with self._state.mongo.asked():
            self._checks.replace_one({"_id": "last"}, summary, upsert=True)
            self._checks.delete_one({"_id": "progress"})


def _known_damage(state: State) -> list[dict[str, t.Any]]:
    """The damage that the app has found by itself; nothing while SQL is away."""
    try:
        return find_damage(state)
    except Unavailable:
        return []


def last_check(state: State) -> dict[str, t.Any] | None:
    """When the last check was, and how many of each problem it left unrepaired."""
    checks = state.collections.get(COLLECTION)
    with state.mongo.asked():
        summary = checks.find_one({"_id": "last"}, {"_id": 0})
    damage = Counter(note["problem"] for note in _known_damage(state))
    if summary is None and not damage:
        return None

    if summary is None:
        summary = {"at": state.mongo.time(), "records": 0, "findings": {}}
    # The app may have found damage by itself since, or before.
    findings = summary["findings"]
    for problem, number in damage.items():
        findings[problem] = max(number, findings.get(problem, 0))
    checked_at: datetime = summary["at"]
    return summary | {"at": checked_at.isoformat()}
