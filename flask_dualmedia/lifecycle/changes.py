"""Changes of a record: its fields, its links, its count of accesses."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Callable

from .. import events
from ..authorization import Viewer
from ..databases.storable import camelcase
from ..errors import InvalidMedia, MediaConflict, MediaNotFound
from ..failpoints import reach
from ..models import AVAILABLE, EXTERNAL, Media, now
from ..owners.main_images import write_main
from ..repositories.base import K, M
from ..signals import media_accessed
from ..state import State
from .description import checked_name

ATTEMPTS = 10
"""How often a change is built anew on what others have made of the record meanwhile."""

Check = Callable[[t.Any], object]
"""Raises an error where a record, as it is now, is not to be changed."""


def edit(
    state: State,
    record: K,
    changes: dict[str, t.Any],
    *,
    check: Check = bool,
    viewer: Viewer | None = None,
) -> K:
    """Change fields of a record. Making it private revokes its links.

    :param changes: Values checked by the kind's schema of changes.
    :param viewer: As for :func:`~flask_dualmedia.lifecycle.create`.
    :raises InvalidMedia: A URL for media whose bytes we keep.
    :raises MediaConflict: It would be a second main image of its product.
    :raises MediaNotFound: It was deleted meanwhile.
    """
    if record.url_field in changes and record.storage_type != EXTERNAL:
        message = "Only external media can be given a URL."
        raise InvalidMedia({camelcase(record.url_field): [message]})
    if not changes:
        return record
    if "filename" in changes:
        changes = changes | {"filename": checked_name(state, record, changes["filename"])}

    def new_values(current: Media) -> dict[str, t.Any]:
        values = changes | {"updated_at": now()}
        becomes_private = current.is_public and not changes.get("is_public", True)
        if becomes_private:
            values["links_revoked_at"] = current.next_revocation()
        return values

    def write() -> K | None:
        return change(state, record, new_values, check=check)

    edited = write_main(state, record, viewer, write)
    if edited is None:
        raise MediaNotFound(record.kind, record.id)
    events.changed(state, edited)
    return edited


def change(
    state: State,
    record: M,
    changes: dict[str, t.Any] | Callable[[M], dict[str, t.Any]],
    *,
    same_content: bool = False,
    attempts: int = ATTEMPTS,
    in_state: str = AVAILABLE,
    check: Check = bool,
) -> M | None:
    """Change a record, built on what it is now.

    :param record: As it was read. Where others have changed it since, it is read again.
    :param changes: New values, or what gives them for the record as it is then.
    :param same_content: Only as long as it has the same bytes.
    :param attempts: How often it is built anew; 1 to change it only as it was read.
    :param in_state: State that it must be in.
    :param check: Called with the record as it is then.
    :return: The record after the change; ``None`` if there is none any more, or none with these
        bytes.
    :raises MediaConflict: Others change it at the same time.
    """
    kind = type(record)
    current: M | None = record
    for _ in range(attempts):
        check(current)
        where = {"state": in_state, "version": current.version}
        if same_content:
            # Workers of an earlier version replace bytes under one version.
            where["storage_key"] = record.storage_key
        values = changes
        if callable(values):
            values = values(current)

        reach("change:checked")
        changed = state.repository.update(kind, record.id, values, where=where)
        if changed is not None:
            return changed

        if in_state == AVAILABLE:
            current = state.repository.get(kind, record.id)
        else:
            current = state.repository.find(kind, record.id)
        if current is None or current.state != in_state:
            return None
        if same_content and current.storage_key != record.storage_key:
            return None
    raise MediaConflict("too many others are changing it at the moment")


def revoke_links(state: State, record: Media, *, check: Check = bool) -> None:
    """Make the signed links of a record worthless that were made until now.

    A link names the revocation that it came after. So each revocation must be another one than
    those before.

    :raises MediaNotFound: There is no such record any more.
    """

    def revoked(current: Media) -> dict[str, t.Any]:
        return {"links_revoked_at": current.next_revocation(), "updated_at": now()}

    if change(state, record, revoked, check=check) is None:
        raise MediaNotFound(record.kind, record.id)


def count_access(state: State, kind: type[Media], media_id: uuid.UUID) -> None:
    """Count one access.

    :raises MediaNotFound: There is no such record.
    """
    if not state.repository.count_access(kind, media_id, now()):
        raise MediaNotFound(kind.kind, media_id)
    events.send(media_accessed, state.app, kind=kind, media_id=media_id, count=1)
