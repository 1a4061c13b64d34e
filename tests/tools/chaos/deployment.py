"""The deployment that is broken: two databases, and the workers of two hosts."""

from __future__ import annotations

import re
import time
import typing as t
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pymongo
from flask import Flask

from flask_dualmedia import DualMedia
from flask_dualmedia.models import KINDS
from flask_dualmedia.state import get_state
from flask_dualmedia.upkeep.journal import homes_of
from flask_dualmedia.upkeep.transfer import records_of
from tests.faults.servers import MongoServer, PostgresServer, Workers, running
from tests.tools.mongo_proxy import MongoProxy
from tests.tools.pg_proxy import PostgresProxy
from tests.tools.proxy import Proxy

from .clients import Lost, request
from .host import ARCHIVE, CONFIG, PLANT

SETTLE_TIMEOUT = (
    90.0  # seconds until the journal must be empty: a killed process holds its lease for 15
)

SKEW = 3600  # seconds, in either direction

APP = "tests.tools.chaos.host:create_app()"


class Deployment:
    """Two databases behind proxies, and the workers of one host or two, all of which can fail.

    :param skew: Seconds that the clock of a second host is ahead; without it there is no second
        host.
    :param plant: A safeguard that the workers lack, see :mod:`.plants`.
    """

    def __init__(self, directory: Path, *, skew: float = 0, plant: str | None = None) -> None:
        self.directory = directory
        self.postgres, self.mongo = PostgresServer(directory), MongoServer(directory)
        self.statements, self.commands = (
            PostgresProxy(self.postgres.url),
            MongoProxy(self.mongo.uri),
        )
        self.config = {"SQLALCHEMY_DATABASE_URI": self.postgres.url, "MONGO_URI": self.mongo.uri}
        config = {"SQLALCHEMY_DATABASE_URI": self.statements.url, "MONGO_URI": self.commands.uri}
        config["JWT_DECODE_LEEWAY"] = str(2 * SKEW)  # tokens are none of our matter
        # A thread for every client: a request that waited in a queue would be done after its client
        # had gone on.
        options = ("--threads", "16")
        environment = {PLANT: plant or ""}
        # A worker that is forked is there at once; those of the other host begin anew.
        preload = ("--preload", *options)
        self.workers = Workers(directory, config, app=APP, options=preload, environment=environment)
        self.hosts = [self.workers]
        if skew:
            self.hosts.append(
                Workers(
                    directory,
                    config,
                    count=1,
                    app=APP,
                    skew=skew,
                    options=options,
                    environment=environment,
                )
            )
        self._stack = ExitStack()

    def __enter__(self) -> Deployment:
        with ExitStack() as stack:
            stack.callback(self.statements.close)
            stack.callback(self.commands.close)
            for server in (self.postgres, self.mongo, *self.hosts):
                stack.enter_context(running(server))
            self.proxies = [Proxy(("127.0.0.1", host.port)) for host in self.hosts]
            for proxy in self.proxies:
                stack.callback(proxy.close)
            self.wait_until_settled()
            # Nobody cuts the power: what the system has taken is not lost when PostgreSQL is
            # killed.
            self.postgres.configure("fsync", "off")
            self.postgres.limit("product_images", "course_videos", "media_storage", "media_chunks")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def wait_until_settled(self) -> float:
        """Wait until the databases answer and the journal is empty, as every worker sees it.

        :return: Seconds that it took.
        """
        start, good, last = time.monotonic(), 0, ""
        while good < 10 * len(self.hosts):
            if time.monotonic() - start > SETTLE_TIMEOUT:
                raise RuntimeError(f"not settled after {SETTLE_TIMEOUT:.0f} seconds: {last}")
            try:
                port = self.hosts[good % len(self.hosts)].port
                answer = request(port, "GET", "/media/health", {})
                last = answer.body.decode()
                settled = (
                    answer.status == 200
                    and answer.json["journal"] == 0
                    and not answer.json["degraded"]
                )
            except Lost as error:
                settled, last = False, str(error)
            good = good + 1 if settled else 0
            time.sleep(0.05 if settled else 0.3)
        return time.monotonic() - start

    def repair(self) -> tuple[int, str]:
        """Repair what is wrong, however much it is; exit status and output."""
        command = ("check", "--repair", "--grace", "0")
        self.flask(*command)  # nothing is taken away on one look
        code, output = self.flask(*command)
        refused = re.search(r"--force --expect (\d+)", output)
        return (
            self.flask(*command, "--force", "--expect", refused[1]) if refused else (code, output)
        )

    def flask(self, *args: str) -> tuple[int, str]:
        """Run ``flask dualmedia ...``; exit status and output."""
        with self.app() as app:
            return type_command(app, *args)

    def keep_document(self, name: str) -> None:
        """See to it that an owner of the archive exists."""
        with self._archive() as archive:
            archive.replace_one({"_id": name}, {}, upsert=True)

    def remove_document(self, name: str) -> None:
        with self._archive() as archive:
            archive.delete_one({"_id": name})

    @contextmanager
    def _archive(self) -> Iterator[t.Any]:
        with pymongo.MongoClient(self.mongo.uri, timeoutMS=3000) as client:
            yield client.get_default_database()[ARCHIVE]

    def journaled(self) -> list[str]:
        """The records and bytes in the journal."""
        with self.app() as app:
            journal = homes_of(get_state(app))[1]
            records = [
                repr(record)
                for kind in KINDS.values()
                for record in records_of(journal.repository, kind)
            ]
            return records + list(journal.storage.keys())

    @contextmanager
    def app(self, *, trash_seconds: float = 0) -> Iterator[Flask]:
        """An app of this process, as commands have it."""
        app = Flask("operator")
        app.config.update(
            CONFIG, **self.config, DUALMEDIA_AUTO_DRAIN=False, DUALMEDIA_TRASH_SECONDS=trash_seconds
        )
        DualMedia(app)
        state = get_state(app)
        try:
            yield app
        finally:
            if state.circuit is not None:
                state.circuit.stop()
            state.mongo.client.close()
            if state.engine is not None:
                state.engine.dispose()


def type_command(app: Flask, *args: str) -> tuple[int, str]:
    """Run ``flask dualmedia ...``; exit status and output."""
    result = app.test_cli_runner().invoke(args=["dualmedia", *args])
    is_exit = isinstance(result.exception, SystemExit | None)
    return result.exit_code, result.output + ("" if is_exit else repr(result.exception))
