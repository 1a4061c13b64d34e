"""Reads of content, counted in batches.

A request only notes in memory that somebody begins to read. A thread of each process writes it
down: first it claims the plays in MongoDB, where of all processes one gets each, then it adds those
that it got to the records.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import typing as t
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from secrets import token_bytes, token_hex

from flask import Flask, request
from flask_jwt_extended.config import config as jwt_config
from pymongo import IndexModel
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from ..databases.collections import PLAYS, Collections
from ..databases.documents import BULK, DUPLICATE_KEY, Documents
from ..errors import RecordRefused, Unavailable
from ..models import Media, now
from ..processes import exits
from ..processes.forks import begin_in_children, notice_fork
from ..processes.threads import STOP_TIMEOUT, Worker
from ..repositories.base import Accesses, Repository
from ..signals import media_accessed
from ..views.callers import known_caller

if t.TYPE_CHECKING:
    from ..state import State

logger = logging.getLogger("flask_dualmedia")

COUNTER = "dualmedia-count"
"""Name of the thread."""

COLLECTION = PLAYS

LIMIT = 10_000
"""Plays, and media with counts, that a process keeps in memory while a database is away."""

BATCH = 1_000
"""Plays claimed, or records counted, at once."""


class Play(t.NamedTuple):
    """Somebody began to read."""

    kind: type[Media]
    media_id: uuid.UUID
    at: datetime


Started = dict[bytes, Play]
"""Plays by the mark of the media and its reader."""


class Plays:
    """The plays of the last while, in MongoDB, so that the parts of one that other processes serve
    are not counted.

    Neither the reader nor the media can be told from what is kept.

    :param window: Seconds after which the same reader of the same media counts again.
    """

    def __init__(self, documents: Documents | Collections, window: float) -> None:
        self._collections, self._window = Collections.of(documents), timedelta(seconds=window)
        self._documents = self._collections.documents
        self._indexed = False

    @property
    def _collection(self) -> Collection[dict[str, t.Any]]:
        return self._collections.get(COLLECTION)

    def claim(self, started: Started, batch: str) -> list[Play]:
        """Those plays that were not counted yet. From now on they are.

        :param batch: Name of this attempt. What it claimed, and was not told because the connection
            broke, it is given when it is repeated.
        """
        plays = [self._document(mark, play, batch) for mark, play in started.items()]
        with self._documents.asked(BULK):
            if not self._indexed:
                # MongoDB forgets what has expired; until it gets there, it is claimed anew.
                self._collection.create_indexes(
                    [IndexModel("expires", name="expires", expireAfterSeconds=0)]
                )
                self._indexed = True
            try:
                self._collection.insert_many(plays, ordered=False)
                return list(started.values())
            except BulkWriteError as error:
                failed = error.details["writeErrors"]
                if error.details.get("writeConcernErrors") or {one["code"] for one in failed} != {
                    DUPLICATE_KEY
                }:
                    raise
            known = [plays[one["index"]]["_id"] for one in failed]
            found = {
                document["_id"]: document
                for document in self._collection.find({"_id": {"$in": known}})
            }
            lost = {mark for mark in found if not self._is_ours(found[mark], started[mark], batch)}
        return [play for mark, play in started.items() if mark not in lost]

    def _is_ours(self, found: dict[str, t.Any], play: Play, batch: str) -> bool:
        if found["batch"] == batch:
            return True
        if found["expires"] > play.at:
            return False
        new = self._document(found["_id"], play, batch)
        return bool(self._collection.replace_one(found, new).matched_count)

    def _document(self, mark: bytes, play: Play, batch: str) -> dict[str, t.Any]:
        return {"_id": mark, "expires": play.at + self._window, "batch": batch}


class Counter:
    """The buffer of one process, and the thread that empties it.

    :param plays: Knows repeated starts of one play; ``None`` counts every start.
    :param interval: Seconds between two writes. A process that is killed loses what it noted in
        that time.
    :param now: Tells the time.
    """

    def __init__(
        self,
        app: Flask,
        repository: Repository,
        plays: Plays | None,
        *,
        interval: float,
        now: Callable[[], datetime] = now,
    ) -> None:
        self._app, self._repository, self._plays, self._interval = app, repository, plays, interval
        self._now = now
        self._secret = b""
        self._process = 0
        self.begin_process()
        begin_in_children(self)
        exits.watch(self)

    def begin_process(self) -> None:
        """Forget the thread and the locks of another process, and what it noted: it writes that
        down itself."""
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._worker = Worker(COUNTER, self._run, delay=self._interval)
        self._has_begun = False
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        self._left = 0
        self._started: Started = {}
        self._claiming: tuple[str, Started] | None = None
        self._counts: defaultdict[type[Media], dict[uuid.UUID, Accesses]] = defaultdict(dict)
        self._adding: dict[type[Media], dict[uuid.UUID, Accesses]] = {}
        self._refused = 0

    def count_first(self, record: Media, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces; when the first one is handed out, its reader, who sends the request, has
        begun to read."""
        reader = reader_of_request()

        def counted() -> Iterator[bytes]:
            self.note(type(record), record.id, reader)
            yield from pieces

        return counted()

    def note(self, kind: type[Media], media_id: uuid.UUID, reader: str) -> None:
        """Note that somebody began to read, to be written down soon."""
        notice_fork()
        if not self._worker.has_begun:
            self._start()
        play = Play(kind, media_id, self._now())
        mark = self._mark(media_id, reader)
        with self._lock:
            counts = self._counts[kind]
            known = media_id in counts if self._plays is None else mark in self._started
            if not known and len(self._started) + sum(map(len, self._counts.values())) >= LIMIT:
                self._refused += 1
            elif self._plays is None:
                _add(counts, media_id, (1, play.at))
            else:
                self._started.setdefault(mark, play)

    def flush(self) -> None:
        """Write down what was noted. What cannot be written now stays for the next time.

        :raises Unavailable: Something stays.
        """
        notice_fork()
        with self._flushing:
            with self._lock:
                refused, self._refused = self._refused, 0
            if refused:
                logger.warning("%d read(s) were not counted: too many wait for a database", refused)
            try:
                self._claim_plays()
            finally:
                self._add_counts()

    def waiting(self) -> int:
        """How many plays, and media with counts, are to be written down."""
        with self._lock:
            claiming = 0 if self._claiming is None else len(self._claiming[1])
            counts = [*self._counts.values(), *self._adding.values()]
            return len(self._started) + claiming + sum(map(len, counts))

    def stop(self, seconds: float = STOP_TIMEOUT) -> None:
        """End the thread. What was noted and not written down stays in memory."""
        self._worker.stop(seconds)

    def write_down(self) -> None:
        """Write down what is left, at the end of the process, or log that it could not be."""
        notice_fork()
        if not self._has_begun:
            return
        self._try_flush()
        left = self.waiting()
        if left and left != self._left:  # said once, however often it is tried
            logger.error("reads of %d media were not counted: a database does not answer", left)
        self._left = left

    def close(self) -> None:
        """End the thread, and write down what is left."""
        self.stop()
        self.write_down()
        exits.forget(self)

    def _start(self) -> None:
        with self._lock:
            if not self._has_begun:
                self._secret = _secret(self._app)
                self._has_begun = True
                exits.expect_counts()
        self._worker.start()

    def _run(self) -> float:
        self._try_flush()
        return self._interval

    def _try_flush(self) -> None:
        try:
            self.flush()
        except Unavailable:
            pass  # the circuit of the one or the other has told
        except Exception:
            # Whatever it was must not end the thread: what it did not write down, it will the next
            # time.
            if not self._worker.is_stopped:
                logger.exception("counting reads")

    def _mark(self, media_id: uuid.UUID, reader: str) -> bytes:
        named = media_id.bytes + reader.encode(errors="backslashreplace")
        return hashlib.blake2b(named, digest_size=16, key=self._secret).digest()

    def _claim_plays(self) -> None:
        if self._plays is None:
            return
        while True:
            if self._claiming is None:
                with self._lock:
                    marks = list(islice(self._started, BATCH))
                    self._claiming = token_hex(8), {mark: self._started.pop(mark) for mark in marks}
            batch, started = self._claiming
            got = self._plays.claim(started, batch) if started else []
            with self._lock:
                for play in got:
                    _add(self._counts[play.kind], play.media_id, (1, play.at))
                self._claiming = None
            if not started:
                return

    def _add_counts(self) -> None:
        with self._lock:
            taken, self._counts = self._counts, defaultdict(dict)
            self._adding = taken
        try:
            for kind, counts in taken.items():
                for ids in _batches(sorted(counts)):
                    self._add_batch(kind, counts, ids)
        finally:
            with self._lock:
                for kind, counts in taken.items():
                    for media_id, accesses in counts.items():
                        _add(self._counts[kind], media_id, accesses)
                self._adding = {}

    def _add_batch(
        self, kind: type[Media], counts: dict[uuid.UUID, Accesses], ids: list[uuid.UUID]
    ) -> None:
        """Count some of ``counts``, and take out what is settled."""
        try:
            found = self._repository.add_accesses(
                kind, {media_id: counts[media_id] for media_id in ids}
            )
        except RecordRefused as error:
            # Nothing of the batch was counted. Halves of it, and halves of those, find the record
            # that is refused.
            if len(ids) > 1:
                middle = len(ids) // 2
                self._add_batch(kind, counts, ids[:middle])
                self._add_batch(kind, counts, ids[middle:])
                return
            logger.warning("reads of %s %s were not counted: %s", kind.kind, ids[0], error)
            found = {ids[0]: False}
        # Counted, or deleted meanwhile; the others stay for the next time.
        settled = {media_id: counts.pop(media_id)[0] for media_id in found}
        self._tell(
            kind, {media_id: number for media_id, number in settled.items() if found[media_id]}
        )

    def _tell(self, kind: type[Media], added: Mapping[uuid.UUID, int]) -> None:
        if media_accessed.receivers:
            with self._app.app_context():
                for media_id, number in added.items():
                    media_accessed.send(self._app, kind=kind, media_id=media_id, count=number)


def counted(state: State, record: Media, start: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The pieces of an answer that begins at the byte ``start``. Who gets the first byte of all
    begins to read; other ranges are the same reader's seeks."""
    if start > 0 or state.counter is None:
        return pieces
    return state.counter.count_first(record, pieces)


def reader_of_request() -> str:
    """What tells the sender of the request from others: the identity in his token where it had to
    be looked at, else his address, his browser, and the token that he sent without need."""
    environ = request.environ
    caller = known_caller()
    if caller is not None:
        return f"identity\0{caller.identity}"
    cookie = (
        request.cookies.get(jwt_config.access_cookie_name, "") if "HTTP_COOKIE" in environ else ""
    )
    address, browser = environ.get("REMOTE_ADDR", ""), environ.get("HTTP_USER_AGENT", "")
    return f"address\0{address}\0{browser}\0{environ.get('HTTP_AUTHORIZATION', '')}\0{cookie}"


def _secret(app: Flask) -> bytes:
    """A key that all processes of the app share. Where tokens are signed elsewhere and there is
    none, each process knows its readers for itself."""
    keys: Sequence[str | bytes | None] = [
        app.secret_key, *(app.config.get(f"JWT_{name}_KEY") for name in ("SECRET", "PRIVATE"))
    ]  # fmt: skip
    key = next(filter(None, keys), None) or token_bytes(32)
    return hashlib.sha256(
        b"dualmedia-readers" + (key.encode() if isinstance(key, str) else key)
    ).digest()


def _add(counts: dict[uuid.UUID, Accesses], media_id: uuid.UUID, more: Accesses) -> None:
    number, at = counts.get(media_id, (0, more[1]))
    counts[media_id] = number + more[0], max(at, more[1])


def _batches(ids: list[uuid.UUID]) -> Iterator[list[uuid.UUID]]:
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]
