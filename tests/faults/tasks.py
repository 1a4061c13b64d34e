"""Tasks of Celery that save and read media, in an app that was used before Celery forked its
pool."""

from __future__ import annotations

import importlib
import os
import typing as t

from . import warm

app = warm.create_app()

# Not an import: it is installed for these tests only.
_library: t.Any = importlib.import_module("celery")

celery = _library.Celery("tasks", broker="filesystem://", backend=f"file://{os.environ['RESULTS']}")
celery.conf.broker_transport_options = {
    f"data_folder_{way}": os.environ["MESSAGES"] for way in ("in", "out")
}  # one folder, in which messages wait
celery.conf.worker_hijack_root_logger = False


@celery.task(name="store")
def store(number: int) -> tuple[int, int, str]:
    return os.getpid(), number, warm.store(app, number)


@celery.task(name="is_right")
def is_right(number: int, media_id: str) -> tuple[int, bool]:
    return os.getpid(), warm.is_right(app, number, media_id)
