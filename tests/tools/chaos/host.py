"""The app that the workers serve."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack

from flask import Flask

from flask_dualmedia import DualMedia, anyone_may_add
from flask_dualmedia.upkeep import chores
from flask_dualmedia.uploads import staging
from tests.faults import host

from .plants import planted

GRACE = 40
"""Seconds. No late statement comes as late as that, and no upload takes half as long."""

LOCK_SECONDS = 12.0
"""How long the lock of a resumable upload lasts. It is renewed after a third of that, and no two
faults together, such as a MongoDB that hangs and a command that comes late, keep a worker from it
for the other two."""

UPKEEP_INTERVAL = 1.5
"""Seconds: in a minute of chaos the app keeps itself as clean as in half an hour of peace."""

ARCHIVE = "archives"
"""Collection of the owners that must exist."""

CONFIG = host.CONFIG | {
    "DUALMEDIA_AUTHORIZE": anyone_may_add,
    "DUALMEDIA_GRACE": GRACE,
    "DUALMEDIA_SQL_TIMEOUT": 1,
    "DUALMEDIA_REFERENCES": host.CONFIG["DUALMEDIA_REFERENCES"] | {"archive": ARCHIVE},
}

PLANT = "CHAOS_PLANT"
"""Variable that names the safeguard which the workers lack."""

_for_life = ExitStack()


def create_app() -> Flask:
    """The app; databases come from the environment."""
    plant = os.environ.get(PLANT)
    if plant:
        _for_life.enter_context(planted(plant))
    chores.INTERVAL, staging.LOCK_SECONDS = UPKEEP_INTERVAL, LOCK_SECONDS
    logging.basicConfig(format="%(asctime)s %(process)d %(name)s: %(message)s")
    logging.getLogger("flask_dualmedia").setLevel(logging.INFO)
    app = Flask("chaos")
    app.config.from_prefixed_env()
    app.config.update(CONFIG)
    DualMedia(app)
    return app
