"""Bugs to plant: each takes away one safeguard. A run that does not find it would not find its like
either.

``python -m tests.tools.chaos --plant fence``.
"""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from flask_dualmedia.databases.tables import MODELS, Tables
from flask_dualmedia.homes import postgres
from flask_dualmedia.homes.base import AnyHome
from flask_dualmedia.models import DELETING, KINDS, Media
from flask_dualmedia.repositories import statements
from flask_dualmedia.repositories.base import Records, Values
from flask_dualmedia.repositories.failover import FailoverRepository
from flask_dualmedia.repositories.sql import SQLRepository
from flask_dualmedia.upkeep.check.finder import Finder
from flask_dualmedia.upkeep.check.findings import Finding
from flask_dualmedia.uploads.staging import Writer

Patch = tuple[t.Any, str, t.Any]
"""An object, the name of one of its attributes, and what takes the place of that."""

_update_record = statements.update_record
_both = FailoverRepository._both


def _update_unconditionally(
    kind: type[Media], media_id: uuid.UUID, changes: Values, where: Values, tables: Tables = MODELS
) -> t.Any:
    others = {name: value for name, value in where.items() if name != "version"}
    return _update_record(kind, media_id, changes, others, tables)


def _mark_deleted(repository: SQLRepository, record: Media) -> Media:
    return repository.update(type(record), record.id, {"state": DELETING}, where={}) or record


def _do_not_renew(writer: Writer) -> None:
    pass


def _whole(repository: FailoverRepository, *arguments: t.Any) -> t.Any:
    found = _both(repository, *arguments)
    return Records.of(found) if isinstance(found, Records) else found


def _look_once(finder: Finder, finding: Finding) -> Media | None:
    home: AnyHome = finder.home_of(finding)
    return home.repository.find(KINDS[str(finding.kind)], uuid.UUID(finding.subject))


PLANTS: dict[str, list[Patch]] = {
    # A change does not name what it is built on.
    "condition": [
        (statements, "update_record", _update_unconditionally),
        (postgres, "update_record", _update_unconditionally),
    ],
    # Nothing takes the place of a record whose insertion was given up.
    "fence": [(SQLRepository, "fence", _mark_deleted)],
    # The lock of a resumable upload lasts as long as it did at the beginning.
    "renewal": [(Writer, "keep", _do_not_renew)],
    # A list that lacks what a database holds does not say so.
    "partial": [(FailoverRepository, "_both", _whole)],
    # A repair does not look again.
    "recheck": [(Finder, "look_again", _look_once)],
}


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """Do without a safeguard for this block."""
    patches = PLANTS[name] if name else []
    originals = [(owner, attribute, getattr(owner, attribute)) for owner, attribute, _ in patches]
    _patch(patches)
    try:
        yield
    finally:
        _patch(originals)


def _patch(patches: list[Patch]) -> None:
    for owner, attribute, value in patches:
        setattr(owner, attribute, value)
