"""The ways in which the processing of media fails, each with a code that clients see."""

from __future__ import annotations

import typing as t


class ProcessingError(Exception):
    """Nothing could be made of an original."""

    code: t.ClassVar[str] = "failed"
    permanent: t.ClassVar[bool] = False
    """True if another attempt would end in the same way."""


class UndecodableMedia(ProcessingError):
    """The bytes are damaged, cut off, or no media at all."""

    code = "undecodable"
    permanent = True


class LimitExceeded(ProcessingError):
    """The original is larger, longer or denser than the host lets be decoded."""

    code = "limit_exceeded"
    permanent = True


class UnsupportedCodec(ProcessingError):
    """No decoder for these streams is there, or none that may be used."""

    code = "unsupported_codec"
    permanent = True


class TimedOut(ProcessingError):
    """The time or the processor time of a task was used up."""

    code = "timeout"


class OutOfMemory(ProcessingError):
    """The task needs more memory than it may have."""

    code = "out_of_memory"


class Killed(ProcessingError):
    """The process of the task ended without a word: it crashed, or the system ended it."""

    code = "killed"


class Cancelled(ProcessingError):
    """The caller does not want the result any more."""

    code = "cancelled"


FAILURES: dict[str, type[ProcessingError]] = {
    failure.code: failure
    for failure in (
        ProcessingError,
        UndecodableMedia,
        LimitExceeded,
        UnsupportedCodec,
        TimedOut,
        OutOfMemory,
        Killed,
        Cancelled,
    )
}
"""Each failure by its code."""
