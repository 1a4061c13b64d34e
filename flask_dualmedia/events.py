"""Events of media, told to all who want to know.

Whatever makes media visible, changes it or takes it away calls the function here that says so, once
and after it is committed. Receivers of signals hear of it from here.
"""

from __future__ import annotations

import logging
import typing as t

from .signals import media_deleted, media_saved

if t.TYPE_CHECKING:
    from blinker import NamedSignal
    from flask import Flask

    from .models import MediaRecord
    from .state import State

logger = logging.getLogger("flask_dualmedia")


def published(state: State, record: MediaRecord) -> None:
    """Tell that readers see new bytes, or a new URL of external media."""
    send(media_saved, state.app, record=record)


def changed(state: State, record: MediaRecord) -> None:
    """Tell that fields of a record were changed. Its bytes are the same."""
    send(media_saved, state.app, record=record)


def removed(state: State, record: MediaRecord) -> None:
    """Tell that readers do not see a record any more: it was deleted, or is in the trash."""
    send(media_deleted, state.app, record=record)


def send(signal: NamedSignal, app: Flask, **values: t.Any) -> None:
    """Send a signal to each of its receivers.

    What happened is committed. So an error of a receiver stops neither the caller nor the other
    receivers.
    """
    if signal.is_muted:
        return
    for receiver in signal.receivers_for(app):
        try:
            app.ensure_sync(receiver)(app, **values)
        except Exception:
            # It is the host's code, which may raise anything.
            logger.exception("the receiver %r of the signal %r failed", receiver, signal.name)
