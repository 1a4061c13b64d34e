"""``flask dualmedia ...``: one file for each command, or for those that belong together.

:mod:`.dialog` asks and answers, :mod:`.approval` asks before much is deleted, :mod:`.wording` words
what several commands say.
"""

from __future__ import annotations

from flask.cli import AppGroup

from . import check, drain, move, revisions, status, sweep, transfer

group = AppGroup("dualmedia", help="Media in PostgreSQL beside the documents in MongoDB.")

group.add_command(revisions.upgrade)
group.add_command(revisions.downgrade)
group.add_command(status.status)
group.add_command(drain.drain)
group.add_command(transfer.transfer)
group.add_command(move.move)
group.add_command(sweep.sweep)
group.add_command(check.check)
