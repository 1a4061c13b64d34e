"""Whoever types commands while everything breaks: nothing of it may do harm, whatever else goes
on."""

from __future__ import annotations

import math
import random
import threading
import time
import typing as t

from flask import Flask
from pymongo.errors import PyMongoError

from flask_dualmedia.errors import Unavailable
from flask_dualmedia.state import get_state
from flask_dualmedia.upkeep.check import Checker, Decision

from .clients import Client, Totals
from .deployment import Deployment, type_command

ARCHIVE_REPAIR = "check --repair --force"

COMMANDS = {
    "drain": 2,
    "sweep": 2,
    "check": 2,
    "check --repair": 4,
    "transfer --to mongo": 0.5,
    ARCHIVE_REPAIR: 6,
}
DAMAGE = (
    "bytes_missing",
    "bytes_incomplete",
    "size_wrong",
    "checksum_wrong",
    "result_missing",
    "parts_missing",
)
"""Problems that no check may find: every command looks at a deployment that is whole."""

PAUSE = 1.5  # seconds between two commands, at most

ARCHIVED = 6

INSISTENCE = 4.0  # seconds for which a command is typed again while a database is away

TRY_AGAIN = "nothing is lost, try again when it does"

T = t.TypeVar("T")


class Away(Exception):
    """A command found a database away."""


TRASH_SECONDS = 7 * 86400


class Archivist(Client):
    """Has media that belongs to a document, and does nothing with it."""

    def __init__(
        self, deployment: Deployment, totals: Totals, seed: int, until: threading.Event
    ) -> None:
        super().__init__(99, [deployment.workers.port], totals, seed, until)
        self._deployment = deployment
        deployment.keep_document(self.name)
        while len(self.items) < ARCHIVED:
            self._create("files")
        # A document may come after its media, for as long as the grace time. These are older.
        deployment.postgres.execute(
            "UPDATE media_storage SET created_at = created_at - interval '1 hour'"
        )

    def _owner(self, kind: str) -> dict[str, str]:
        if kind == "files":
            return {"referenceType": "archive", "referenceId": self.name}
        return super()._owner(kind)


class Operator(threading.Thread):
    """Types one command after the other."""

    def __init__(
        self,
        deployment: Deployment,
        archivist: Archivist,
        totals: Totals,
        seed: int,
        until: threading.Event,
    ) -> None:
        super().__init__(name="operator", daemon=True)
        self._deployment, self._archivist, self._totals, self._until = (
            deployment,
            archivist,
            totals,
            until,
        )
        self._random = random.Random(f"{seed}-operator")

    def run(self) -> None:
        with self._deployment.app(trash_seconds=TRASH_SECONDS) as app:
            while not self._until.wait(self._random.uniform(0, PAUSE)):
                command = self._random.choices(list(COMMANDS), list(COMMANDS.values()))[0]
                self._totals.count(command, self._do(app, command))

    def _do(self, app: Flask, command: str) -> str:
        """Type a command, and say how it ended."""
        try:
            if command == ARCHIVE_REPAIR:
                return self._insist(lambda: self._repair_archive(app))
            code, output = self._insist(lambda: self._type(app, command))
        except (Away, Unavailable, PyMongoError) as error:
            return str(error)  # a database is away
        except Exception as error:
            self._totals.complain(f"flask dualmedia {command}: {error!r}")
            return "broken"
        if code not in (0, 1) or "Error(" in output:
            self._totals.complain(f"flask dualmedia {command} ended with {code}: {output[-1000:]}")
        damage = [line for line in output.splitlines() if line.startswith(DAMAGE)]
        if damage:
            self._totals.complain(f"flask dualmedia {command} found {damage}")
        return "done" if code == 0 else output.splitlines()[-1]

    def _type(self, app: Flask, command: str) -> tuple[int, str]:
        code, output = type_command(app, *command.split())
        if TRY_AGAIN in output:
            raise Away(output.splitlines()[-1])
        return code, output

    def _repair_archive(self, app: Flask) -> str:
        """A document is away while a check looks at it, and back when somebody has typed what is to
        be deleted."""
        owner = self._archivist.name
        was_asked = False

        def keep(decision: Decision) -> bool:
            nonlocal was_asked
            was_asked = decision.deletions > 0
            self._deployment.keep_document(owner)
            return True

        with app.app_context():
            self._deployment.remove_document(owner)
            try:
                Checker(get_state(app), repair=True, approve=keep, at_once=True).run()
            finally:
                self._insist(lambda: self._deployment.keep_document(owner), seconds=math.inf)
        return "asked" if was_asked else "nothing to ask"

    def _insist(self, call: t.Callable[[], T], *, seconds: float = INSISTENCE) -> T:
        """Try again, for a while, where a database is away."""
        end = time.monotonic() + seconds
        while True:
            try:
                return call()
            except (Away, Unavailable, PyMongoError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.3)
