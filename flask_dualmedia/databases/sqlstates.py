"""The meaning that errors of SQL databases and their drivers have for us."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from ..errors import (
    Contended,
    DatabaseBusy,
    DatabaseUnavailable,
    DualMediaError,
    MediaConflict,
    NoConnectionFree,
    RecordRefused,
    SecondMainImage,
    StatementCancelled,
    WritesRefused,
)

NAME = "PostgreSQL"

UNKNOWN_STATEMENT = "26000"
"""A prepared statement that the server, or a pooler before it, does not know.

Another connection asks anew.
"""

_CONTENDED = {"40001", "40P01", UNKNOWN_STATEMENT}
"""Serialization failure and deadlock. It may be tried again."""

_LOCKED = "55P03"
"""A lock was not to be had in the time that the statement may wait for it."""

_CANCELLED = "57014"
"""A statement was cancelled, by us or by a limit of the server's."""

_OUTDATED = "lacks a table or a column of ours: run flask dualmedia upgrade, or your own migration"

_REFUSED = {
    "25006": "is read-only",
    "3F000": "has no schema that we may use",
    "42703": _OUTDATED,
    "42P01": _OUTDATED,
    "42501": "does not give us a right that we need",
    "53000": "lacks resources",
    "53100": "has no space left on its disk",
    "53200": "has no memory left",
    "53300": "has no connection left for us",
    "53400": "has reached a limit of its configuration",
    "55000": "is not set up for changes",
    "58030": "cannot write to its disk",
    "58P01": "misses a file of its own",
}
"""SQLSTATE codes of a server that answers and does not do it, and what is to be told of them."""

_ENDED = ("08", "57P", "25P03", "25P04", "40003")
"""Connection exceptions, operator intervention, and time-outs that end a session.

The connection is gone.
"""

_SQLITE_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED")

_SQLITE_REFUSED = {
    "SQLITE_READONLY": "is read-only",
    "SQLITE_FULL": "has no space left on its disk",
    "SQLITE_IOERR": "cannot write to its disk",
    "SQLITE_NOMEM": "has no memory left",
    "SQLITE_PERM": "does not give us a right that we need",
    "SQLITE_AUTH": "does not give us a right that we need",
    "SQLITE_CORRUPT": "has a damaged file",
}

_SQLITE_UNAVAILABLE = {
    "SQLITE_CANTOPEN": "cannot open its file",
    "SQLITE_NOTADB": "has a file that is no database",
}

_CONFLICTS = ("23505", "23P01")
"""SQLSTATE codes of keys, and of ranges, that another record has."""

_SERVER = ("25", "28", "3D", "3F", "40", "53", "55", "57", "58")
"""SQLSTATE classes that say something about the server or the account.

Another record would meet the same. All other classes are an answer about this record.
"""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Let no driver's error out that says something about the server or about another record.

    :raises DatabaseUnavailable: The server does not answer.
    :raises WritesRefused: It answers, but changes nothing.
    :raises DatabaseBusy: It answers, but not now.
    :raises MediaConflict: Another record has a key that this one is to have.
    :raises RecordRefused: The database refuses the values of this record.
    """
    try:
        yield
    except DualMediaError:
        raise
    except Exception as error:
        # Drivers share no base class. An error that none of them made has no meaning here.
        meaning = _meaning(error)
        if meaning is None:
            raise
        raise meaning from error


def _meaning(error: Exception) -> DualMediaError | None:
    """Return our error for another one; ``None`` if that one is to pass as it is."""
    if isinstance(error, exc.TimeoutError):
        return NoConnectionFree()

    driver_error = _driver_error(error)
    if isinstance(driver_error, UnicodeEncodeError | OverflowError):
        return _refused(driver_error)  # the driver could not even send the values

    module = type(driver_error).__module__.partition(".")[0]
    if module == "sqlite3":
        return _sqlite_meaning(driver_error)

    state = getattr(driver_error, "sqlstate", None) or getattr(driver_error, "pgcode", None)
    if state is not None:
        return _state_meaning(state, driver_error)

    is_lost = isinstance(error, exc.DBAPIError) and error.connection_invalidated
    if is_lost:
        return _unavailable(str(driver_error))
    if module.startswith("psycopg"):
        return _stateless_meaning(driver_error)
    return None


def _driver_error(error: Exception) -> BaseException:
    """Return the error of the driver that SQLAlchemy may have wrapped."""
    if isinstance(error, exc.StatementError) and error.orig is not None:
        return error.orig
    return error


def _stateless_meaning(error: BaseException) -> DualMediaError | None:
    """Return the meaning of an error that psycopg itself raises, without a word from the server."""
    if _is_operational(error):
        return _unavailable(str(error))
    if _is_about_values(error):
        return _refused(error)
    return None


def _state_meaning(state: str, error: BaseException) -> DualMediaError | None:
    """Return the meaning of a SQLSTATE. One that is not listed counts by its class."""
    if state == _CANCELLED:
        return StatementCancelled()
    if state == _LOCKED:
        return DatabaseBusy("others have locked what this needs")
    if state in _CONTENDED:
        return Contended()
    if state in _REFUSED:
        return WritesRefused(NAME, _REFUSED[state])
    if state.startswith(_ENDED):
        return _unavailable(str(error))
    if state in _CONFLICTS:
        return _conflict(str(error))
    if state.startswith(_SERVER):
        return WritesRefused(NAME, f"refuses what we ask (SQLSTATE {state})")
    return _refused(error)


def _sqlite_meaning(error: BaseException) -> DualMediaError | None:
    """Return the meaning of an error of SQLite's; ``None`` if it is none that we know."""
    code = getattr(error, "sqlite_errorname", None) or ""
    if code.startswith(_SQLITE_LOCKED):
        return DatabaseBusy("the database is locked")

    reason = _by_prefix(_SQLITE_REFUSED, code)
    if reason is not None:
        return WritesRefused("SQLite", reason)
    reason = _by_prefix(_SQLITE_UNAVAILABLE, code)
    if reason is not None:
        return DatabaseUnavailable("SQLite", reason, was_sent=False)

    message = str(error)
    if _is_outdated_sqlite(message):
        return WritesRefused("SQLite", _OUTDATED)
    if "UNIQUE constraint failed" in message:
        return _conflict(message)
    if _is_about_values(error):
        return _refused(error)
    return None


def _by_prefix(reasons: dict[str, str], code: str) -> str | None:
    """Return the reason of the first prefix that an error code has."""
    for prefix, reason in reasons.items():
        if code.startswith(prefix):
            return reason
    return None


def _is_outdated_sqlite(message: str) -> bool:
    """Tell whether SQLite says that a table or a column is missing."""
    if message.startswith(("no such table", "no such column")):
        return True
    return "has no column named" in message


def _is_about_values(error: BaseException) -> bool:
    """Tell whether an error is of a class that says something about values."""
    names = ("DataError", "IntegrityError", "NotSupportedError", "ProgrammingError")
    return any(base.__name__ in names for base in type(error).__mro__)


def _refused(error: BaseException) -> RecordRefused:
    """Return the error for a record that is refused, with what the server says first."""
    # What the server says first. Its details quote the record.
    diagnostic = getattr(error, "diag", None)
    message = getattr(diagnostic, "message_primary", None) or str(error)
    return RecordRefused(NAME, f"{type(error).__name__}: {message}")


def _conflict(message: str) -> MediaConflict:
    """Return the error for a key that another record has."""
    if "uq_product_images_main" in message or "product_images.mongo_product_id" in message:
        return SecondMainImage()
    return MediaConflict("the change contradicts another record")


def _unavailable(message: str) -> DatabaseUnavailable:
    """Return the error for a server that cannot be reached, or lets nobody in."""
    _, fatal, reason = message.partition("FATAL:")
    if not fatal:
        return DatabaseUnavailable(NAME)
    # The message may name the account and the database. It is for the log, by the error's cause,
    # not for a client.
    for words, meaning in _TURNED_AWAY.items():
        if words in reason:
            return DatabaseUnavailable(NAME, meaning)
    return DatabaseUnavailable(NAME, "turns us away")


_TURNED_AWAY = {
    "password authentication failed": "does not accept our password",
    "does not exist": "does not know our account or our database",
    "pg_hba.conf": "does not let this host in",
    "not permitted to log in": "does not let our account in",
    "permission denied": "does not let our account in",
    "too many": "has no connection left for us",
    "connection slots": "has no connection left for us",
    "starting up": "is starting",
    "shutting down": "is shutting down",
    "recovery": "is recovering from a crash",
    "terminating connection": "ended the connection",
}
"""Words in the reason why a server lets nobody in, and what a client may be told instead."""


def _is_operational(error: BaseException) -> bool:
    """Tell whether an error is a driver's ``OperationalError``, without importing the driver."""
    return any(base.__name__ == "OperationalError" for base in type(error).__mro__)
