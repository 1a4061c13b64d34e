"""Reads of content, counted in batches.

A request only notes in memory that somebody begins to read. A thread of each process writes it
down. First it claims the plays in MongoDB, which gives each to one process alone. Then it adds
those that it got to the records.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import typing as t
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from secrets import token_bytes, token_hex

from flask import Flask, request
from flask_jwt_extended.config import config as jwt_config
from pymongo import IndexModel
from pymongo.collection import Collection

from .. import events
from ..databases.collections import PLAYS, Collections
from ..databases.documents import BULK, Documents, insert_new
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

Document = dict[str, t.Any]
"""A play as MongoDB keeps it."""

Counts = dict[uuid.UUID, Accesses]
"""Accesses by the id of their media."""


class Plays:
    """The plays of the last while, in MongoDB.

    Other processes serve parts of one play: because it is kept here, they do not count it again.
    Neither the reader nor the media can be told from what is kept.

    :param window: Seconds after which the same reader of the same media counts again.
    """

    def __init__(self, documents: Documents | Collections, window: float) -> None:
        self._collections = Collections.of(documents)
        self._window = timedelta(seconds=window)
        self._has_index = False

    @property
    def _collection(self) -> Collection[Document]:
        return self._collections.get(COLLECTION)

    def claim(self, started: Started, batch: str) -> list[Play]:
        """Claim plays, and return those that were not counted yet. From now on they are.

        :param batch: Name of this attempt. A claim may succeed and its answer get lost, because
            the connection broke: the same plays are returned when the attempt is repeated.
        """
        documents: list[Document] = []
        for mark, play in started.items():
            document = self._document(mark, play, batch)
            documents.append(document)

        with self._collections.asked(BULK):
            self._create_index()
            duplicates = insert_new(self._collection, documents)
            if not duplicates:
                return list(started.values())
            marks = [document["_id"] for document in duplicates]
            counted_marks = self._counted_before(marks, started, batch)
        return [play for mark, play in started.items() if mark not in counted_marks]

    def _create_index(self) -> None:
        if self._has_index:
            return
        # MongoDB forgets what has expired; until it gets there, it is claimed anew.
        index = IndexModel("expires", name="expires", expireAfterSeconds=0)
        self._collection.create_indexes([index])
        self._has_index = True

    def _counted_before(self, marks: list[bytes], started: Started, batch: str) -> set[bytes]:
        """Return the marks of plays that are stored already and cannot be claimed anew."""
        where = {"_id": {"$in": marks}}
        stored_plays = list(self._collection.find(where))
        counted_marks: set[bytes] = set()
        for stored_play in stored_plays:
            mark = stored_play["_id"]
            play = started[mark]
            if not self._claim_stored(stored_play, play, batch):
                counted_marks.add(mark)
        return counted_marks

    def _claim_stored(self, stored_play: Document, play: Play, batch: str) -> bool:
        """Tell whether a stored play is of this attempt, or has expired and is claimed anew."""
        if stored_play["batch"] == batch:
            return True
        if stored_play["expires"] > play.at:
            return False
        document = self._document(stored_play["_id"], play, batch)
        outcome = self._collection.replace_one(stored_play, document)
        return bool(outcome.matched_count)

    def _document(self, mark: bytes, play: Play, batch: str) -> Document:
        return {
            "_id": mark,
            "expires": play.at + self._window,
            "batch": batch,
        }


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
        self._app = app
        self._repository = repository
        self._plays = plays
        self._interval = interval
        self._now = now
        self._secret = b""
        self._process = 0
        self.begin_process()
        begin_in_children(self)
        exits.watch(self)

    def begin_process(self) -> None:
        """Forget the thread and the locks of another process, and what it noted.

        It writes that down itself.
        """
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._worker = Worker(COUNTER, self._run, delay=self._interval)
        self._has_begun = False
        if self._process == os.getpid():
            return

        self._process = os.getpid()
        self._reported = 0
        self._started: Started = {}
        self._claiming: tuple[str, Started] | None = None
        self._counts: defaultdict[type[Media], Counts] = defaultdict(dict)
        self._adding: dict[type[Media], Counts] = {}
        self._untold: list[tuple[type[Media], uuid.UUID, int]] = []
        self._refused = 0

    def count_first(self, record: Media, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Return the same pieces, and note when the first one is handed out.

        Then its reader, who sends the request, has begun to read.
        """
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
            is_noted = media_id in counts if self._plays is None else mark in self._started
            if not is_noted:
                waiting = len(self._started)
                waiting += sum(map(len, self._counts.values()))
                if waiting >= LIMIT:
                    self._refused += 1
                    return

            if self._plays is None:
                _add(counts, media_id, (1, play.at))
            else:
                self._started.setdefault(mark, play)

    def flush(self) -> None:
        """Write down what was noted. What cannot be written now stays for the next time.

        :raises Unavailable: Something stays.
        """
        notice_fork()
        try:
            with self._flushing:
                self._write()
        finally:
            self._tell()

    def waiting(self) -> int:
        """Return the number of plays, and media with counts, that are to be written down."""
        with self._lock:
            waiting = len(self._started)
            if self._claiming is not None:
                _, claiming = self._claiming
                waiting += len(claiming)
            waiting += sum(map(len, self._counts.values()))
            waiting += sum(map(len, self._adding.values()))
            return waiting

    def stop(self, seconds: float = STOP_TIMEOUT) -> None:
        """End the thread. What was noted and not written down stays in memory."""
        self._worker.stop(seconds)

    def write_down(self) -> None:
        """Write down what is left, at the end of the process, or log that it could not be."""
        notice_fork()
        if not self._has_begun:
            return

        self._try_flush()
        waiting = self.waiting()
        if waiting and waiting != self._reported:  # said once, however often it is tried
            logger.error("reads of %d media were not counted: a database does not answer", waiting)
        self._reported = waiting

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
            pass  # the circuit of either database has logged it
        except Exception:
            # Whatever it was must not end the thread: what it did not write down, it will the next
            # time.
            if not self._worker.is_stopped:
                logger.exception("counting reads")

    def _mark(self, media_id: uuid.UUID, reader: str) -> bytes:
        """Return the mark of media and its reader, which tells neither without the secret."""
        text = media_id.bytes + reader.encode(errors="backslashreplace")
        return hashlib.blake2b(text, digest_size=16, key=self._secret).digest()

    def _claim_plays(self) -> None:
        """Claim the plays that were noted, and count those that this process gets."""
        plays = self._plays
        if plays is None:
            return
        while (claiming := self._next_claim()) is not None:
            batch, started = claiming
            new_plays = plays.claim(started, batch)
            with self._lock:
                for play in new_plays:
                    counts = self._counts[play.kind]
                    _add(counts, play.media_id, (1, play.at))
                self._claiming = None

    def _write(self) -> None:
        with self._lock:
            refused = self._refused
            self._refused = 0
        if refused:
            logger.warning("%d read(s) were not counted: too many wait for a database", refused)
        try:
            self._claim_plays()
        finally:
            self._add_counts()

    def _next_claim(self) -> tuple[str, Started] | None:
        """Return the batch whose claim did not succeed, or else a new one; ``None`` at the end."""
        with self._lock:
            if self._claiming is None and self._started:
                marks = list(islice(self._started, BATCH))
                started = {mark: self._started.pop(mark) for mark in marks}
                self._claiming = token_hex(8), started
            return self._claiming

    def _add_counts(self) -> None:
        """Add the counts to the records. A read that is noted meanwhile is added the next time."""
        with self._lock:
            adding = self._counts
            self._adding = adding
            self._counts = defaultdict(dict)
        try:
            for kind, counts in adding.items():
                for ids in _batches(sorted(counts)):
                    self._add_batch(kind, counts, ids)
        finally:
            with self._lock:
                self._take_back(adding)
                self._adding = {}

    def _take_back(self, adding: dict[type[Media], Counts]) -> None:
        """Keep for the next time what could not be added."""
        for kind, counts in adding.items():
            for media_id, accesses in counts.items():
                _add(self._counts[kind], media_id, accesses)

    def _add_batch(self, kind: type[Media], counts: Counts, ids: list[uuid.UUID]) -> None:
        """Count some of ``counts``, and take out what is settled."""
        batch = {media_id: counts[media_id] for media_id in ids}
        try:
            outcomes = self._repository.add_accesses(kind, batch)
        except RecordRefused as error:
            # Nothing of the batch was counted. Halves of it, and halves of those, find the record
            # that is refused.
            if len(ids) > 1:
                middle = len(ids) // 2
                self._add_batch(kind, counts, ids[:middle])
                self._add_batch(kind, counts, ids[middle:])
                return
            logger.warning("reads of %s %s were not counted: %s", kind.kind, ids[0], error)
            outcomes = {ids[0]: False}

        # Counted, or deleted meanwhile; the others stay for the next time.
        added = []
        for media_id, is_counted in outcomes.items():
            number, _ = counts.pop(media_id)
            if is_counted:
                added.append((kind, media_id, number))
        with self._lock:
            self._untold += added

    def _tell(self) -> None:
        """Send the signal about each record that was counted, if anybody listens.

        That is when all is written down: a receiver may want to flush too.
        """
        with self._lock:
            untold = self._untold
            self._untold = []
        if not media_accessed.receivers or not untold:
            return
        with self._app.app_context():
            for kind, media_id, number in untold:
                events.send(media_accessed, self._app, kind=kind, media_id=media_id, count=number)


def counted(state: State, record: Media, start: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Return the pieces of an answer, counted if they begin a read.

    A reader who gets the first byte of all begins to read; other ranges are the same reader's
    seeks.

    :param start: The byte that the answer begins at.
    """
    if start > 0 or state.counter is None:
        return pieces
    return state.counter.count_first(record, pieces)


def reader_of_request() -> str:
    """Name the sender of the request, so that others are told from them.

    Where their token had to be looked at, that is the identity in it. Otherwise it is their
    address, their browser, and the token that they sent without need.
    """
    caller = known_caller()
    if caller is not None:
        return f"identity\0{caller.identity}"

    environ = request.environ
    address = environ.get("REMOTE_ADDR", "")
    browser = environ.get("HTTP_USER_AGENT", "")
    token = environ.get("HTTP_AUTHORIZATION", "")
    cookie = ""
    if "HTTP_COOKIE" in environ:
        cookie = request.cookies.get(jwt_config.access_cookie_name, "")
    return f"address\0{address}\0{browser}\0{token}\0{cookie}"


def _secret(app: Flask) -> bytes:
    """Derive a key that all processes of the app share.

    Where tokens are signed elsewhere and there is none, each process knows its readers for itself.
    """
    jwt_key = app.config.get("JWT_SECRET_KEY") or app.config.get("JWT_PRIVATE_KEY")
    key: str | bytes = app.secret_key or jwt_key or token_bytes(32)
    if isinstance(key, str):
        key = key.encode()
    return hashlib.sha256(b"dualmedia-readers" + key).digest()


def _add(counts: Counts, media_id: uuid.UUID, more: Accesses) -> None:
    added_number, added_at = more
    number, at = counts.get(media_id, (0, added_at))
    counts[media_id] = number + added_number, max(at, added_at)


def _batches(ids: list[uuid.UUID]) -> Iterator[list[uuid.UUID]]:
    """Split ids into lists of at most :data:`BATCH`."""
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]
