"""Reasons for which a variant is not made."""

from __future__ import annotations

import typing as t

from ..errors import DualMediaError, Unavailable


class ProcessingError(DualMediaError):
    """A variant cannot be made from these bytes. To try again would end in the same way."""

    reason: t.ClassVar[str]
    """A word for programs, which is kept beside the record and answered to clients."""


class UndecodableMedia(ProcessingError):
    """The bytes are damaged, cut off, or of a format that is not decoded here."""

    reason = "undecodable_media"


class LimitExceeded(ProcessingError):
    """The bytes would take more memory or time than one source may take."""

    reason = "limit_exceeded"


class RendererBusy(Unavailable):
    """Other images were being decoded for as long as one may wait."""

    def __init__(self) -> None:
        super().__init__("other images are being rendered", retry_after=1)
