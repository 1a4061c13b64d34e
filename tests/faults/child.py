"""One operation in a process of its own, to be killed at the step that ``DUALMEDIA_FAILPOINT``
names.

``python -m tests.faults.child OPERATION [ID]``; the app's config comes from the environment.
``--serve`` waits for operations on standard input, and forks for each: a process that has imported
everything is there at once.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import traceback
import typing as t
import uuid
from pathlib import Path

import requests
from flask import Flask

from flask_dualmedia import (
    DualMedia,
    MediaStorage,
    delete_media,
    failpoints,
    get_media,
    lifecycle,
    save_media_storage,
    variant_url,
)
from flask_dualmedia.content.uploads import Upload
from flask_dualmedia.state import get_state
from flask_dualmedia.upkeep.journal import drain_journal
from tests import samples
from tests.samples import Tus, bearer

OWNER = "faults"
"""Id of the page that all media of these tests belong to."""

SIZE = 6 * 1024 * 1024 + 17
"""More than one batch of chunks: bytes are written in several steps."""

OLD_CONTENT, NEW_CONTENT = (random.Random(seed).randbytes(SIZE) for seed in (1, 2))

IN_MID_BODY = "in mid-body"
"""Not a step of ours: the source of the bytes kills the process when most of them are read, and
some are written."""


class FatalStream(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > SIZE - 2 * 1024 * 1024:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(size)


class Nursery:
    """Bears processes that do one operation each."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.faults.child", "--serve"]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the nursery
        pipes: dict[str, t.Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": self._log,
        }
        self._process = subprocess.Popen(
            command, cwd=Path(__file__).parent.parent.parent, text=True, **pipes
        )

    def bear(self, environment: dict[str, str], *arguments: str) -> tuple[int, str]:
        """Run one operation; its exit status, negative where a signal ended it, and what it wrote
        to its log."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        start = self._log.seek(0, os.SEEK_END)
        self._process.stdin.write(json.dumps([environment, arguments]) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        self._log.seek(start)
        return code, self._log.read()

    def close(self) -> None:
        self._process.communicate()
        self._log.close()


def serve() -> None:
    """Fork for every line of standard input, and answer with the exit status."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        environment, arguments = json.loads(line)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.environ.update(environment)
                failpoints.arm(environment["DUALMEDIA_FAILPOINT"])
                main(*arguments)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=answers, flush=True)


HALF = SIZE // 2

PAGE = {"kind": "files", "referenceType": "page", "referenceId": OWNER}


def upload_by_tus(app: Flask, ending: str) -> None:
    """Upload in two requests, or as two uploads that are joined, or removed in the middle."""
    tus = Tus(app.test_client(), bearer(app, OWNER))
    if ending == "join":
        halves = (NEW_CONTENT[:HALF], NEW_CONTENT[HALF:])
        urls = [
            tus.create(len(half), half, Upload_Concat="partial").headers["Location"]
            for half in halves
        ]
        tus.create(
            None, Upload_Metadata=samples.encoded(PAGE), Upload_Concat=f"final;{' '.join(urls)}"
        )
        return
    url = tus.create(SIZE, Upload_Metadata=samples.encoded(PAGE)).headers["Location"]
    tus.patch(url, 0, NEW_CONTENT[:HALF])
    if ending == "remove":
        tus.delete(url)
    else:
        tus.patch(url, HALF, NEW_CONTENT[HALF:])


def upload_directly(app: Flask) -> None:
    """Upload as a client that sends the bytes to S3 itself."""
    client, token = app.test_client(), bearer(app, OWNER)
    announced = {name: value for name, value in PAGE.items() if name != "kind"}
    announced |= {"filename": "a.bin", "mimeType": "application/octet-stream", "storageType": "s3"}
    checksum = hashlib.sha256(NEW_CONTENT).hexdigest()
    begun = client.post(
        "/media/files/direct-uploads",
        headers=token,
        json=announced | {"fileSize": SIZE, "checksum": checksum},
    )
    answer = t.cast("dict[str, t.Any]", begun.json)
    requests.put(
        answer["url"], data=NEW_CONTENT, headers=answer["headers"], timeout=30
    ).raise_for_status()
    assert client.post(begun.headers["Location"], headers=token).status_code == 201


def ask_for_variant(app: Flask, media_id: uuid.UUID) -> None:
    """Ask for a variant as a page does."""
    url = variant_url(get_media(MediaStorage, media_id), "thumb")
    assert app.test_client().get(url, headers=bearer(app, "admin", role="admin")).status_code == 200


def main(operation: str, media_id: str | None = None) -> None:
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
        elif operation == "variant":
            ask_for_variant(app, uuid.UUID(media_id))
        elif operation == "drain":
            drain_journal(get_state())
        elif operation == "direct":
            upload_directly(app)
        elif operation.startswith("tus"):
            upload_by_tus(app, operation.removeprefix("tus").strip())
        else:
            sys.exit(app.test_cli_runner().invoke(args=["dualmedia", *operation.split()]).exit_code)


if __name__ == "__main__":
    serve() if sys.argv[1] == "--serve" else main(*sys.argv[1:])
