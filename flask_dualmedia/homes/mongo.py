"""The homes in MongoDB: all media of Mongo-only mode, and the journal of dual mode."""

from __future__ import annotations

from ..databases.collections import Collections
from ..databases.documents import Documents
from ..repositories.journal import JournalRepository
from ..repositories.mongo import MongoRepository
from ..storages.base import owner_of_key
from ..storages.gridfs import GridFSStorage, JournalStorage
from ..uploads.staging import find_uploader
from .base import Home

MongoHome = Home[MongoRepository, GridFSStorage]


class JournalHome(Home[JournalRepository, JournalStorage]):
    """Records and bytes that wait for SQL."""

    def is_empty(self) -> bool:
        """Tell whether it has neither records nor bytes, not even of an upload in progress."""
        return self.repository.is_empty() and self.storage.is_empty()


def mongo_home(documents: Documents | Collections) -> MongoHome:
    """Make the home of media in Mongo-only mode: collections and GridFS."""
    collections = Collections.of(documents)
    repository = MongoRepository(collections)
    storage = GridFSStorage(collections, collections.bucket)
    return Home("MongoDB", repository, storage)


def journal_home(documents: Documents | Collections, *, max_size: int | None = None) -> JournalHome:
    """Make the journal, which has what was accepted while SQL was down, until it is drained.

    It has collections and a bucket of its own: those of Mongo-only mode may still hold what was
    transferred to SQL.

    :param max_size: Bytes that it may hold, ``None`` for no limit.
    """
    collections = Collections.of(documents)
    repository = JournalRepository(collections)

    def identify(key: str) -> str | None:
        owner = owner_of_key(key)
        if owner is None:
            return None
        media_id = owner[0]
        return repository.uploader_of(media_id) or find_uploader(collections, media_id)

    storage = JournalStorage(
        collections,
        collections.journal_bucket,
        max_size=max_size,
        identify=identify,
        unfinished=repository.keys_of_unfinished,
    )
    return JournalHome("journal", repository, storage)
