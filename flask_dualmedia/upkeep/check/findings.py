"""The problems that a check may find, and its report."""

from __future__ import annotations

import json
import tempfile
import typing as t
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

from .decision import Decision

LISTED = 1000
"""Findings listed in a report; beyond that they are counted only."""

Problem = t.Literal[
    "owner_missing",
    "owner_misspelled",
    "bytes_missing",
    "bytes_incomplete",
    "size_wrong",
    "checksum_wrong",
    "bytes_misplaced",
    "bytes_orphaned",
    "stuck_pending",
    "stuck_deleting",
    "journal_left",
    "journal_refused",
    "journal_stale",
    "upload_expired",
    "parts_missing",
    "result_missing",
    "storage_unknown",
    "variant_unknown",
]

EXPLAINED: dict[Problem, str] = {
    "owner_missing": "the document that the media belongs to does not exist",
    "owner_misspelled": (
        "the media names its document by another spelling of its id, under which it is not found"
    ),
    "bytes_missing": "the record's bytes are not in the storage",
    "bytes_incomplete": "chunks are missing between the first and the last",
    "size_wrong": "there are more or fewer bytes than the record says",
    "checksum_wrong": "the bytes are not those that were uploaded",
    "bytes_misplaced": "the bytes, or some of them, are in the journal and the record is in SQL",
    "bytes_orphaned": "bytes that no record names",
    "stuck_pending": "an upload that was never finished",
    "stuck_deleting": "a deletion that was never finished",
    "journal_left": "accepted while SQL was down and not moved into SQL yet",
    "journal_refused": "accepted while SQL was down, and SQL refuses it: edit or delete it",
    "journal_stale": (
        "in a journal that is older than SQL, and not in SQL:"
        " deleted since, or lost there; in the trash"
    ),
    "upload_expired": "a resumable upload that nobody went on with",
    "parts_missing": (
        "bytes of a resumable upload, which its client was told are kept, are not in the storage"
    ),
    "result_missing": "a resumable upload became media that does not exist",
    "storage_unknown": "the bytes are in a storage that is not set up here",
    "variant_unknown": "a variant that nobody asks for: its original or its preset is gone",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    problem: Problem
    kind: str | None
    """Kind of the record, ``None`` for bytes without one."""
    subject: str
    """Id of the record, or the storage key."""
    detail: str
    """The problem in words, with ids and numbers."""
    repaired: bool = False
    where: str = ""
    """Database of the record, or storage of the bytes."""
    populations: tuple[str, ...] = ()
    """Names of everything that this is one of, to judge how much of it is concerned."""
    is_mendable: bool = False
    """Whether the bytes are right, and the record is wrong about them."""
    version: str = ""
    """The version of the record that was looked at, or how far the upload had come."""
    is_due: bool = False
    """Whether an earlier check found it too, long enough ago."""

    @property
    def name(self) -> str:
        """A name that every check gives to the same thing, as long as nothing happens to it."""
        return f"{self.problem}/{self.where}/{self.kind or '-'}/{self.subject}/{self.version}"


class FindingFile:
    """Findings that wait for their repair, in a temporary file: there may be millions."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed with this

    def __enter__(self) -> FindingFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, finding: Finding) -> None:
        """Keep a finding for later."""
        self._file.write(json.dumps(asdict(finding)) + "\n")

    def __iter__(self) -> Iterator[Finding]:
        self._file.seek(0)
        for line in self._file:
            values = json.loads(line)
            values["populations"] = tuple(values["populations"])
            yield Finding(**values)


@dataclass
class Check:
    """The results of a check."""

    records: int = 0
    """Records looked at."""
    verified: int = 0
    """Bytes read to compare checksums."""
    seconds: float = 0.0
    """How long the check took."""
    found: Counter[str] = field(default_factory=Counter)
    """How often each problem was found."""
    repaired: Counter[str] = field(default_factory=Counter)
    """How often each problem was repaired."""
    listed: dict[tuple[str, str], Finding] = field(default_factory=dict)
    """The first :data:`LISTED` findings, by problem and subject."""
    refused: Decision | None = None
    """Why nothing was deleted; ``None`` if nothing was to be deleted, or if it was."""
    waiting: Counter[str] = field(default_factory=Counter)
    """How often a problem was left for a later check: no earlier one has found it, or not long
    enough ago."""
    forgone: int = 0
    """Findings that could not be remembered for a later check."""
    trashed: int = 0
    """Records in the trash."""
    unknown_storages: Counter[str] = field(default_factory=Counter)
    """How many records are in each storage that is not set up here, by its name."""

    @property
    def findings(self) -> list[Finding]:
        """The first :data:`LISTED` findings."""
        return [*self.listed.values()]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong, or nothing any more."""
        return self.found == self.repaired

    def add(self, finding: Finding) -> None:
        """Count a finding, and list it while there is room."""
        self.found[finding.problem] += 1
        if len(self.listed) < LISTED:
            self.listed[finding.problem, finding.subject] = finding

    def mark_repaired(self, finding: Finding) -> None:
        """Note that a finding was repaired."""
        self.repaired[finding.problem] += 1
        key = (finding.problem, finding.subject)
        if key in self.listed:
            self.listed[key] = replace(finding, repaired=True)

    def withdraw(self, finding: Finding) -> None:
        """Forget a finding that was gone at its second look."""
        self.found[finding.problem] -= 1
        self.found += Counter()  # drops what is zero
        self.listed.pop((finding.problem, finding.subject), None)

    def as_json(self) -> dict[str, t.Any]:
        """The check as JSON-ready data."""
        names = ("problem", "kind", "subject", "detail", "repaired", "where")
        findings: list[dict[str, t.Any]] = []
        for finding in self.findings:
            findings.append({name: getattr(finding, name) for name in names})
        refused = None
        if self.refused is not None:
            refused = self.refused.as_json()

        return {
            "records": self.records,
            "verified": self.verified,
            "seconds": self.seconds,
            "found": dict(self.found),
            "repaired": dict(self.repaired),
            "findings": findings,
            "refused": refused,
            "waiting": dict(self.waiting),
            "trashed": self.trashed,
            "unknown_storages": dict(self.unknown_storages),
            "clean": self.clean,
        }
