"""Signals, by which the extension tells of changes. The sender is the Flask app.

Receivers run in the thread of the change, after it is committed; what they raise reaches the
caller.
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

media_saved = _signals.signal("media-saved")
"""New media, or media whose content or fields were changed: ``record``."""

media_deleted = _signals.signal("media-deleted")
"""Media that readers no longer see: ``record``."""

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
