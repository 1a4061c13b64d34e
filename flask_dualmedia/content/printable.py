"""Text of strangers in what people read line by line: the log, and the names of objects in it."""

from __future__ import annotations

import logging
import traceback


def printable(text: object) -> str:
    """Text on one line, in which nothing moves the cursor of a terminal or turns the writing
    round."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(
        character if character.isprintable() else _escaped(character) for character in shown
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class Printable(logging.Filter):
    """Makes every message of a logger one line, whatever strangers have written into what it names.

    The lines of a traceback are ours; what the errors in it say stands on one line each.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if not message.isprintable():
            record.msg, record.args = printable(message), ()
        if (
            isinstance(record.exc_info, tuple)
            and record.exc_info[1] is not None
            and not record.exc_text
        ):
            record.exc_text = _traceback_of(record.exc_info[1])
        return True


def _traceback_of(error: BaseException) -> str:
    """The traceback as :mod:`logging` formats it."""
    told = traceback.TracebackException.from_exception(error, compact=True)
    seen: set[int] = set()
    pending: list[traceback.TracebackException | None] = [told]
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        pending += [one.__cause__, one.__context__, *(one.exceptions or ())]
        _make_printable(one)
    return "".join(told.format()).rstrip("\n")


def _make_printable(told: traceback.TracebackException) -> None:
    said = str(told)
    if not said.isprintable():
        told._str = printable(said)  # type: ignore[attr-defined] - there is no other way to what it says
