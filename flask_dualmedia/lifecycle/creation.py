"""New media: record ``pending`` → bytes → record ``available``."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from .. import events, quotas
from ..authorization import Viewer, find_named_owner, one_id
from ..content.mime_types import declared_type
from ..content.uploads import Upload
from ..databases import storable
from ..databases.storable import camelcase
from ..errors import InvalidMedia, JournalFull, MediaConflict, OwnerNotFound, Unavailable
from ..failpoints import reach
from ..models import AVAILABLE, EXTERNAL, PENDING, Media
from ..owners.main_images import refuse_second_main, write_main
from ..owners.places import Place, placed, position_behind
from ..repositories.base import K
from ..state import State
from ..storages.base import Storage, new_key
from ..uploads.progress import kept_alive, ours
from .deletion import clean_up, discard_new
from .description import classify, describe, set_values, uploaded_values
from .one_step import goes_whole


def create(
    state: State,
    kind: type[K],
    fields: dict[str, t.Any],
    upload: Upload | None,
    *,
    uploaded_by: str | None,
    unplaced: t.Collection[str] = (),
    viewer: Viewer | None = None,
) -> K:
    """Keep new media.

    :param fields: Values checked by the kind's schema.
    :param upload: The bytes, or ``None`` for external media, whose URL is in ``fields``.
    :param unplaced: See :func:`~flask_dualmedia.owners.places.placed`.
    :param viewer: Whoever asked for it over HTTP, for whom hidden main images give way; ``None``
        for the host.
    :raises OwnerNotFound: The document that it should belong to does not exist. Nothing is written.
    :raises InvalidMedia: Fields contradict each other.
    :raises UploadRejected: The bytes break a rule. Nothing is kept.
    :raises MediaConflict: It would be a second main image of its product. Nothing is kept.
    """
    if upload is None:
        external = create_external(
            state,
            kind,
            [fields],
            uploaded_by=uploaded_by,
            unplaced=unplaced,
            viewer=viewer,
        )
        return external[0]

    storage_type = fields.pop("storage_type", None)
    storable.check(kind, fields | {"uploaded_by": uploaded_by})
    record = kind.new(uploaded_by=uploaded_by, **fields)
    check_owner(state, record)
    storage_type = storage_type or state.settings.default_storages[kind.kind]
    storage = _storage(state, storage_type)
    refuse_second_main(state, record, viewer)

    upload.open()
    keeps_id = "id" in fields
    set_values(record, storage_type=storage_type, storage_key=new_key(record.id))
    describe(state, record, upload)
    storable.check(kind, record.values())
    quotas.check(state, record, upload.least_size)
    reach("create:begin")

    creation = _Creation(state, record, storage, upload, unplaced, viewer, keeps_id)
    available = creation.keep_whole()
    if available is None:
        available = creation.keep_in_steps()

    events.published(state, available)
    return available


@dataclass(frozen=True)
class _Creation(t.Generic[K]):
    """New media that is ready to be kept."""

    state: State
    record: K
    """Not in a database yet. It may get another id and another key still."""
    storage: Storage
    upload: Upload
    unplaced: t.Collection[str]
    viewer: Viewer | None
    keeps_id: bool

    def keep_whole(self) -> K | None:
        """Write the record and its bytes in one step.

        :return: The available record; ``None`` if it has to be done in several. The record has the
            id and the key then under which that may be done.
        """
        if not goes_whole(self.state, self.upload, self.storage):
            return None
        content = self.upload.content()
        values = self.record.values() | uploaded_values(self.upload)

        def add(place: Place) -> tuple[K, bool]:
            whole = type(self.record).from_values(values | place)

            def add_whole() -> bool:
                return self.state.home.add_whole(whole, content, keeps_id=self.keeps_id)

            is_added = write_main(self.state, whole, self.viewer, add_whole)
            return whole, is_added

        whole, is_added = placed(self.state, self.record, self.unplaced, add)
        if is_added:
            return whole
        set_values(self.record, id=whole.id, storage_key=whole.storage_key)
        return None

    def keep_in_steps(self) -> K:
        """Write the pending record, then its bytes, then make it available."""
        state = self.state
        if self.storage is state.home.storage:
            state.home.check_room(self.record.uploaded_by, self.upload.least_size)
        state.repository.add(self.record, keeps_id=self.keeps_id)
        reach("create:pending")
        available = self._complete()
        reach("create:available")
        return available

    def _complete(self) -> K:
        """Keep the bytes of the pending record, and make it available. If that fails, both go."""
        state, record = self.state, self.record
        original = state.original(record)
        assert original is not None
        try:
            original.put(kept_alive(state, record, self.upload.blocks()))
            reach("create:bytes")
            with quotas.reserved(state, record, self.upload.size):
                return placed(state, record, self.unplaced, self._publish)
        except JournalFull:
            # It was never published: SQL, if it has it at all, has it as pending.
            with suppress(Unavailable):
                original.delete()
            with suppress(Unavailable):
                state.repository.remove(type(record), record.id)
            raise
        except BaseException:
            # A worker that is told to stop raises SystemExit here, and has the time to clean up.
            clean_up(discard_new, state, record)
            raise

    def _publish(self, place: Place) -> K:
        first_version = {"version": 1}  # the first that readers see
        changes = uploaded_values(self.upload) | place | first_version
        published = publish(self.state, self.record, changes, viewer=self.viewer)
        if published is None:
            raise MediaConflict("the upload took so long that it was swept away as abandoned")
        return published


def create_external(
    state: State,
    kind: type[K],
    fields_of_each: t.Sequence[dict[str, t.Any]],
    *,
    uploaded_by: str | None,
    unplaced: t.Collection[str] = (),
    viewer: Viewer | None = None,
) -> list[K]:
    """Keep new external media of one owner, all or none.

    :param fields_of_each: For each record, values checked by the kind's schema.
    :param unplaced: As for :func:`create`, for the first one. The positions of the others follow
        it.
    :param viewer: As for :func:`create`.
    :raises OwnerNotFound: As :func:`create`, as are the others.
    """
    storage_types = [fields.pop("storage_type", None) for fields in fields_of_each]
    for fields in fields_of_each:
        storable.check(kind, fields | {"uploaded_by": uploaded_by})
    records = [kind.new(uploaded_by=uploaded_by, **fields) for fields in fields_of_each]
    check_owner(state, *records)
    for record, storage_type in zip(records, storage_types, strict=True):
        _describe_external(record, storage_type)

    def write() -> None:
        if len(records) == 1:
            state.repository.add(records[0])
        else:
            state.repository.add_all(records)

    def add(place: Place) -> None:
        set_values(records[0], **place)
        if "position" in place:
            _place_in_a_row(records, place["position"])
        write_main(state, records[0], viewer, write)

    placed(state, records[0], unplaced, add)
    reach("create:external")
    for record in records:
        events.published(state, record)
    return records


def _describe_external(record: Media, storage_type: str | None) -> None:
    """Make a new record one of external media.

    :raises InvalidMedia: It is to be in a storage, or has no URL.
    """
    mime_type = declared_type(record.mime_type)
    set_values(record, mime_type=mime_type, state=AVAILABLE, storage_type=EXTERNAL)
    if storage_type not in (None, EXTERNAL):
        raise InvalidMedia({"storageType": [f"Without a file it can only be {EXTERNAL!r}."]})
    if record.external_url is None:
        raise InvalidMedia({camelcase(record.url_field): ["Missing: send a file or a URL."]})
    classify(record, mime_type or "")


def _place_in_a_row(records: Iterable[Media], first_position: int) -> None:
    for number, record in enumerate(records):
        set_values(record, position=position_behind(first_position, number))


def foresee(state: State, kind: type[Media], fields: dict[str, t.Any], *, viewer: Viewer) -> None:
    """Refuse an upload whose bytes are still to come, if :func:`create` would refuse it unread.

    :param viewer: As for :func:`create`.
    :raises OwnerNotFound: As :func:`create`, as are the others.
    """
    values = dict(fields)
    storage_type = values.pop("storage_type", None)
    record = kind.new(**values)
    check_owner(state, record)
    _storage(state, storage_type or state.settings.default_storages[kind.kind])
    refuse_second_main(state, record, viewer)


def check_owner(state: State, *records: Media) -> None:
    """Make sure that the document exists that records are to belong to.

    Only types whose collection the host has named can be checked. The records name the document by
    its one id afterwards, however it was spelled.

    :param records: Not yet in a database, and all of one owner.
    :raises OwnerNotFound: There is no such document.
    """
    reference_type = records[0].reference_type
    reference_id = records[0].owner_id
    if reference_type not in state.settings.references:
        return

    document = find_named_owner(state, reference_type, reference_id)
    if document is None:
        raise OwnerNotFound(reference_type, reference_id)

    owner_id = one_id(state, reference_id, document["_id"])
    for record in records:
        set_values(record, **{record.owner_field: owner_id})


def _storage(state: State, storage_type: str) -> Storage:
    try:
        return state.storages[storage_type]
    except KeyError:
        message = f"{storage_type!r} is not set up here."
        raise InvalidMedia({"storageType": [message]}) from None


def publish(
    state: State,
    record: K,
    changes: dict[str, t.Any],
    *,
    viewer: Viewer | None,
) -> K | None:
    """Make an unfinished record available.

    :param viewer: As for :func:`create`.
    :return: The record after that; ``None`` if it is unfinished no more.
    """
    where = ours(record, PENDING)

    def update() -> K | None:
        return state.repository.update(type(record), record.id, changes, where=where)

    return write_main(state, record, viewer, update)
