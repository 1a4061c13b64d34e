"""One operation in a process of its own, to be killed at the step that ``DUALMEDIA_FAILPOINT`` names.

``python -m tests.faults.child OPERATION [ID]``; the app's config comes from the environment.
"""

from __future__ import annotations

import io
import os
import random
import signal
import sys
import typing as t
import uuid

from flask import Flask

from flask_dualmedia import DualMedia, MediaStorage, delete_media, get_media, lifecycle, save_media_storage
from flask_dualmedia.journal import drain_journal
from flask_dualmedia.state import get_state
from flask_dualmedia.uploads import Upload

OWNER = "faults"
"""Id of the page that all media of these tests belong to."""

SIZE = 9 * 1024 * 1024 + 17
"""More than two batches of chunks: bytes are written in several steps."""

OLD_CONTENT, NEW_CONTENT = (random.Random(seed).randbytes(SIZE) for seed in (1, 2))

IN_MID_BODY = "in mid-body"
"""Not a step of ours: the source of the bytes kills the process when half of them are read."""


class FatalStream(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > SIZE // 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(size)


def main(operation: str, media_id: str | None) -> None:
    app = Flask("child")
    app.config.from_prefixed_env("CHILD")
    DualMedia(app)
    stream = FatalStream if os.environ.get("DUALMEDIA_FAILPOINT") == IN_MID_BODY else io.BytesIO
    with app.app_context():
        if operation == "save":
            save_media_storage("page", OWNER, stream(NEW_CONTENT))
        elif operation == "save external":
            save_media_storage("page", OWNER, "https://cdn.example/a")
        elif operation == "replace":
            record = get_media(MediaStorage, uuid.UUID(media_id))
            lifecycle.replace(get_state(), record, Upload(t.cast(t.BinaryIO, stream(NEW_CONTENT))))
        elif operation == "delete":
            delete_media(MediaStorage, uuid.UUID(media_id))
        elif operation == "drain":
            drain_journal(get_state())
        else:
            sys.exit(app.test_cli_runner().invoke(args=["dualmedia", *operation.split()]).exit_code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
