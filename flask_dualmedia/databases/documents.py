"""MongoDB as we ask it: within limits of our own, and not at all while it is away.

The client is the host's, and its settings stay as they are. Each of our calls has an end all the
same. Each error is told apart too: a server that does not answer, one that answers "no", and a
document that another one stands in the way of.
"""

from __future__ import annotations

import logging
import threading
import time
import typing as t
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from datetime import UTC, datetime
from weakref import ref

import pymongo
from bson.errors import InvalidDocument
from pymongo import MongoClient, errors
from pymongo.collection import Collection
from pymongo.database import Database

from ..errors import (
    DatabaseUnavailable,
    DualMediaError,
    MediaConflict,
    NoConnectionFree,
    RecordRefused,
    SecondMainImage,
)
from ..libraries.pymongo import renew
from ..processes.forks import begin_in_children, notice_fork
from ..processes.threads import STOP_TIMEOUT, Worker
from .clock import Clock, elapsed

logger = logging.getLogger("flask_dualmedia")

Document = dict[str, t.Any]

MONGO = "MongoDB"
"""The name of this database in :class:`~flask_dualmedia.errors.DatabaseUnavailable`."""

MAIN_INDEX = "uq_product_images_main"
DUPLICATE_KEY = 11000

WATCHER = "dualmedia-watch-mongo"
"""Name of the thread that asks whether MongoDB is back."""

BULK = 5
"""How many times as long a call may take that carries bytes, or concerns many documents."""

INDEXING = 15
"""How many times as long the creation of indexes may take.

A build that is cut short begins anew the next time.
"""

_PROBE = 0.75
"""Seconds to answer "are you there".

No time is needed, but the driver waits half a second before it connects anew.
"""

_HEALTH = 1.0
"""Seconds for the same, where somebody asks for that alone."""

_TOLD_AGAIN = 60.0  # seconds after which the same trouble is logged again

_REFUSALS = {
    13: "does not allow it to our account",  # Unauthorized
    18: "does not accept our account",  # AuthenticationFailed
    50: "took too long",  # MaxTimeMSExpired
    8000: "does not accept our account",  # AtlasError
    14031: "has no space left on its disk",  # OutOfDiskSpace
}

_DOCUMENT_REFUSALS = {2, 14, 121, 10334, 17280, 17419}
"""Codes of answers about one document: a wrong value or type, the host's validator, too large."""

_NO_ANSWER = (errors.ConnectionFailure, errors.ExecutionTimeout)
"""Errors of calls that did not come to their end, for whatever reason."""

_ANSWER = (errors.NotPrimaryError, errors.OperationFailure)
"""Errors by which a server shows that it is there."""


class MongoCircuit:
    """Whether MongoDB answers, so that no request has to find out anew. Every process has its own.

    A call that was not answered in time proves nothing, for it may be slow alone. So MongoDB is
    then asked something that is never slow. If it does not answer that either, calls are refused at
    once, until a thread that goes on asking gets an answer.

    :param ask: Asks MongoDB something, for so many seconds.
    :param interval: Seconds between two probes of an open circuit.
    """

    def __init__(self, ask: Callable[[float], object], *, interval: float) -> None:
        self._ask = ask
        self._interval = interval
        self._open = False
        self._last_answer = 0.0
        self.begin_process()
        begin_in_children(self)

    def begin_process(self) -> None:
        """Forget the thread and the lock of another process."""
        self._lock = threading.Lock()
        self._worker = Worker(WATCHER, self._ask_again, delay=self._interval)

    @property
    def is_open(self) -> bool:
        """Whether MongoDB is taken to be gone."""
        return self._open

    def check(self) -> None:
        """Refuse a call while the circuit is open.

        :raises DatabaseUnavailable: MongoDB is gone.
        """
        notice_fork()
        if self._open:
            self._watch()
            raise DatabaseUnavailable(MONGO, retry_after=max(1, round(self._interval)))

    def doubt(self) -> None:
        """Find out whether MongoDB is there, after a call that was not answered."""
        began = time.monotonic()
        # Where many calls end without an answer, one of them asks, and the others know then.
        with self._lock:
            if self._open or self._last_answer > began:
                return
            # No connection may have come free for the question. Then it counts whether other calls
            # are answered.
            if not self._answers(_PROBE) and self._last_answer < began:
                self._trip()

    def note_answer(self) -> None:
        """Note that a call was answered."""
        self._last_answer = time.monotonic()

    def answers(self) -> bool:
        """Whether MongoDB is there, as an answer to somebody who asks for that alone."""
        notice_fork()
        if self._open:
            self._watch()
            return False

        began = time.monotonic()
        if self._answers(_HEALTH) or self._last_answer > began:
            return True
        self._trip()
        return False

    def stop(self, seconds: float = STOP_TIMEOUT) -> None:
        """End the thread."""
        self._worker.stop(seconds)

    def _answers(self, seconds: float) -> bool:
        try:
            self._ask(seconds)
        except _ANSWER:
            return True
        except (errors.ConnectionFailure, errors.ConfigurationError):
            return False
        self.note_answer()
        return True

    def _trip(self) -> None:
        if not self._open:
            self._open = True
            logger.warning("MongoDB does not answer: calls to it are refused until it does")
        self._watch()

    def _watch(self) -> None:
        if not self._worker.has_begun:
            self._worker.start()

    def _ask_again(self) -> float | None:
        """Ask whether MongoDB is back, and say after how many seconds to ask again."""
        try:
            has_answered = self._answers(_HEALTH)
        except errors.InvalidOperation:
            has_answered = True  # the client was closed, which every call then says itself
        except Exception:  # the thread must not end: nobody else finds out that MongoDB is back
            logger.exception("asking whether MongoDB is back")
            has_answered = False
        if not has_answered:
            return self._interval

        self._open = False
        if not self._worker.is_stopped:
            logger.info("MongoDB answers again")
        return None


class _Client:
    """The client of a database, whose locks and threads PyMongo renews in a forked process.

    PyMongo does so when Python tells it of the fork. Nobody tells it of uWSGI's forks, nor that
    gevent has patched the process: it holds a lock while it starts a thread, and a greenlet that
    waits for one from before stops them all.
    """

    def __init__(self, client: MongoClient[t.Any]) -> None:
        self._client = ref(client)
        begin_in_children(self)

    def begin_process(self) -> None:
        """Have PyMongo renew the client, if it is still there."""
        client = self._client()
        if client is not None:
            renew(client)


class Documents(Database[Document]):
    """The host's MongoDB database, read with our own options. We ask it all in :meth:`asked`.

    :param timeout: Seconds that a call may take.
    :param interval: Seconds between two looks whether MongoDB is back.
    :param clock: The clock that tells its time. Default: a new one.
    """

    def __init__(
        self,
        client: MongoClient[t.Any],
        name: str,
        *,
        timeout: float,
        interval: float,
        clock: Clock | None = None,
        **options: t.Any,
    ) -> None:
        super().__init__(client, name, **options)
        self._renewed = _Client(client)
        self.timeout = timeout
        self._interval = interval
        self._told: dict[str, float] = {}
        self.circuit = MongoCircuit(self._ping, interval=interval)
        self.clock = clock or Clock(self.time)

    @contextmanager
    def asked(self, times: float = 1) -> Iterator[None]:
        """Give what is done in this block so long to be answered, and let no driver's error out.

        Read cursors to their end in it. Yield nothing from it: the limit would hold for the caller.

        :param times: How many times as long as usual: :data:`BULK` or :data:`INDEXING`.
        :raises DatabaseUnavailable: MongoDB does not answer, or does not do it now.
        :raises MediaConflict: Another document stands in the way.
        :raises RecordRefused: MongoDB refuses the document.
        """
        self.circuit.check()
        try:
            with pymongo.timeout(self.timeout * times):
                yield
            self.circuit.note_answer()

        except (errors.ConnectionFailure, errors.OperationFailure) as error:
            if isinstance(error, _NO_ANSWER) and not isinstance(error, errors.NotPrimaryError):
                self.circuit.doubt()
            translated = _translated(error)
            if isinstance(translated, DatabaseUnavailable):
                self._tell(str(translated))
            raise translated from error

        except errors.ConfigurationError as error:
            if not is_of_dns(error):
                raise
            self.circuit.doubt()
            reason = "cannot be found: the DNS does not tell where it is"
            raise DatabaseUnavailable(MONGO, reason=reason) from error

        except (
            errors.DocumentTooLarge,
            InvalidDocument,
            OverflowError,
            UnicodeEncodeError,
        ) as error:
            raise RecordRefused(MONGO, f"{type(error).__name__}: {error}") from error

    def by(self, client: MongoClient[t.Any]) -> Documents:
        """Return the same database, asked through another client."""
        return Documents(
            client,
            self.name,
            timeout=self.timeout,
            interval=self._interval,
            clock=self.clock,
            codec_options=self.codec_options,
            read_preference=self.read_preference,
            read_concern=self.read_concern,
            write_concern=self.write_concern,
        )

    def time(self) -> datetime:
        """Ask MongoDB for its time, and set our clock by it.

        :return: The time when MongoDB answered, aware, in UTC.
        """
        with self.asked():
            began = elapsed()
            told: datetime = self.command("hello")["localTime"]
            ended = elapsed()

        if not told.tzinfo:
            told = told.replace(tzinfo=UTC)
        self.clock.note(told, began, ended)
        return told

    def _tell(self, trouble: str) -> None:
        """Log what MongoDB says, but not as often as it says it.

        What the circuit has told is not told again.
        """
        told_at = self._told.get(trouble, -_TOLD_AGAIN)
        if not self.circuit.is_open and time.monotonic() - told_at >= _TOLD_AGAIN:
            self._told[trouble] = time.monotonic()
            logger.error("%s", trouble)

    def _ping(self, seconds: float) -> None:
        def ping() -> None:
            with pymongo.timeout(seconds):
                self.client.admin.command("ping")

        # Where the host has set a limit of its own, a call may end early by that. The probe does
        # not.
        Context().run(ping)


def insert_new(collection: Collection[Document], documents: list[Document]) -> list[Document]:
    """Insert documents, but those whose keys others have. Call it in :meth:`Documents.asked`.

    :return: Those that were not inserted.
    """
    try:
        collection.insert_many(documents, ordered=False)
    except errors.BulkWriteError as error:
        details = error.details or {}
        if not _has_only_duplicates(details):
            raise
        return [documents[failure["index"]] for failure in details["writeErrors"]]
    return []


def _has_only_duplicates(details: t.Mapping[str, t.Any]) -> bool:
    """Whether writes failed for the only reason that others have their keys."""
    if details.get("writeConcernErrors"):
        return False
    codes = {failure["code"] for failure in details["writeErrors"]}
    return codes == {DUPLICATE_KEY}


def is_of_dns(error: BaseException) -> bool:
    """Whether it is the DNS that fails, which is asked for the servers of ``mongodb+srv://``."""
    module = type(error.__cause__).__module__
    return module.partition(".")[0] == "dns"


def _translated(error: errors.PyMongoError) -> DualMediaError:
    if isinstance(error, errors.DuplicateKeyError):
        return _conflict(str(error))
    if isinstance(error, errors.BulkWriteError):
        return _translated_bulk(error.details or {})
    if isinstance(error, errors.WaitQueueTimeoutError):
        return NoConnectionFree()
    if isinstance(error, errors.NotPrimaryError):
        return DatabaseUnavailable(MONGO, reason="has no primary at the moment")
    if isinstance(error, errors.WriteConcernError):
        return _unconfirmed()
    if isinstance(error, errors.OperationFailure):
        details = error.details or {}
        return _refusal(error.code, str(details.get("errmsg", error)))
    return DatabaseUnavailable(MONGO)


def _translated_bulk(details: t.Mapping[str, t.Any]) -> DualMediaError:
    """Return what the errors of many writes mean: one that is no duplicate key says most."""
    write_errors = details.get("writeErrors", [])
    if details.get("writeConcernErrors"):
        return _unconfirmed()
    for write_error in write_errors:
        code = write_error["code"]
        if code != DUPLICATE_KEY:
            return _refusal(code, str(write_error.get("errmsg")))
    return _conflict(str(write_errors))


def _conflict(details: str) -> MediaConflict:
    if MAIN_INDEX in details:
        return SecondMainImage()
    return MediaConflict("the change contradicts another record")


def _unconfirmed() -> DatabaseUnavailable:
    """Return the error for a write that a majority has not confirmed.

    It may be undone, or may stay: nobody knows.
    """
    return DatabaseUnavailable(MONGO, reason="did not confirm a write in time")


def _refusal(code: int | None, message: str) -> DualMediaError:
    if code in _DOCUMENT_REFUSALS:
        return RecordRefused(MONGO, message)
    reason = _REFUSALS.get(code or 0, f"refused an operation (code {code})")
    return DatabaseUnavailable(MONGO, reason=reason)
