"""Signals, by which the extension tells of changes. The sender is the Flask app.

Receivers run in the thread of the change, after it is committed and before it is answered. If one
fails, that is logged, and changes nothing else: the caller and the other receivers go on. Only
``SystemExit`` and ``KeyboardInterrupt`` reach the caller.

A signal is sent once, by the process that makes the change. A process that is killed at that moment
sends none.
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

media_saved = _signals.signal("media-saved")
"""Media that is new, or came back from the trash, or whose content or fields were changed:
``record``.

A drain, a transfer and a move send none: readers see the same as before.
"""

media_deleted = _signals.signal("media-deleted")
"""Media that readers no longer see: ``record``.

It was deleted, or a repair has put it into the trash. When the sweep deletes it from there, none is
sent, nor when a transfer deletes its source or what the source has no more.
"""

media_accessed = _signals.signal("media-accessed")
"""Accesses were counted: ``kind``, ``media_id``, ``count``.

For reads, the thread that writes them down sends it.
"""

sql_lost = _signals.signal("sql-lost")
"""This process finds that SQL does not answer."""

sql_recovered = _signals.signal("sql-recovered")
"""This process finds that SQL answers again."""

journal_drained = _signals.signal("journal-drained")
"""Records of the journal were moved into SQL: ``report``, a
:class:`~flask_dualmedia.upkeep.transfer.Report`."""
