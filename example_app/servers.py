"""Embedded database servers for whatever the configuration does not name."""

from __future__ import annotations

import os
import signal
import threading
import time
import typing as t
from pathlib import Path

from flask import Flask

from . import embedded

FALSE = {"false", "0", "no", "off", ""}
RELOADER_PID = "EXAMPLE_APP_RELOADER_PID"


class Started(t.NamedTuple):
    """Which servers are embedded, and not named by the configuration."""

    postgres: bool
    mongo: bool


def start(app: Flask) -> Started:
    """Start what is missing and put its address into ``app.config``."""
    uses_sql = str(setting(app, "DB_ENABLED", True)).strip().lower() not in FALSE
    names_sql = setting(app, "SQLALCHEMY_DATABASE_URI") or setting(app, "DB_HOST")
    started = Started(bool(uses_sql and not names_sql), not setting(app, "MONGO_URI"))
    postgres, mongo = started
    if not (postgres or mongo):
        return started
    servers = embedded.start(Path(app.instance_path) / "servers", postgres=postgres, mongo=mongo)
    if postgres:
        app.config["SQLALCHEMY_DATABASE_URI"] = servers.postgres_url
    if mongo:
        app.config["MONGO_URI"] = servers.mongo_uri
    if os.environ.get("WERKZEUG_RUN_MAIN") == "true":
        reloader = int(os.environ.get(RELOADER_PID, os.getppid()))
        threading.Thread(target=end_with_reloader, args=[reloader], daemon=True).start()
    else:
        # This process is the reloader, if it starts that child.
        os.environ[RELOADER_PID] = str(os.getpid())
    return started


def setting(app: Flask, key: str, default: object = None) -> object:
    return app.config.get(key, os.environ.get(key, default))


def end_with_reloader(pid: int) -> None:
    """End this process, the child of Werkzeug's reloader, when the reloader is gone.

    Killed with ``kill -9``, the reloader leaves its child behind, and the child would keep the
    servers running.
    """
    while os.getppid() == pid:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
