"""Text of strangers where people read line by line: in the log, and in names of objects there."""

from __future__ import annotations

import logging
import traceback


def printable(text: object) -> str:
    """Write text on one line.

    Nothing in it moves the cursor of a terminal or turns the writing round.
    """
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(map(_escaped, shown))


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")


class Printable(logging.Filter):
    """Makes every message of a logger one line, whatever strangers have written into it.

    The lines of a traceback are ours. The message of each error in it stands on one line.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if not message.isprintable():
            record.msg = printable(message)
            record.args = ()
        if isinstance(record.exc_info, tuple) and not record.exc_text:
            error = record.exc_info[1]
            if error is not None:
                record.exc_text = _traceback_of(error)
        return True


def _traceback_of(error: BaseException) -> str:
    """Write the traceback as :mod:`logging` formats it."""
    whole = traceback.TracebackException.from_exception(error, compact=True)
    seen: set[int] = set()
    pending: list[traceback.TracebackException | None] = [whole]
    while pending:
        told = pending.pop()
        if told is None or id(told) in seen:
            continue
        seen.add(id(told))
        pending += [told.__cause__, told.__context__]
        pending += told.exceptions or []
        _make_printable(told)

    lines = whole.format()
    return "".join(lines).rstrip("\n")


def _make_printable(told: traceback.TracebackException) -> None:
    message = str(told)
    if not message.isprintable():
        # There is no other way to the message.
        told._str = printable(message)  # type: ignore[attr-defined]
