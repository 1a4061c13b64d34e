"""Real servers with filled databases, and every contender on them under gunicorn."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import typing as t
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import psycopg
import pymongo
from psycopg import sql

from example_app import embedded

from .host import gunicorn
from .jobs import Contender
from .seed import copy, fill


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Servers(t.NamedTuple):
    """The database servers of a run."""

    postgres_url: str
    mongo_uri: str
    postgres: psutil.Process
    folder: Path

    def new(self, name: str) -> tuple[str, str]:
        """A fresh database on each: their addresses, PostgreSQL's first."""
        with psycopg.connect(
            self.postgres_url.replace("+psycopg", ""), autocommit=True
        ) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        url, uri = self.postgres_url, self.mongo_uri
        return url.replace(f"/{embedded.DATABASE}", f"/{name}", 1), uri.replace(
            f"/{embedded.DATABASE}", f"/{name}", 1
        )


@contextmanager
def servers() -> Iterator[Servers]:
    """PostgreSQL and MongoDB in a folder that is removed afterwards. Nothing vacuums while we
    measure."""
    folder = Path(tempfile.mkdtemp(prefix="dualmedia-bench-"))
    started = embedded.start(folder)
    assert started.postgres_url is not None
    assert started.mongo_uri is not None
    processes = [psutil.Process(pid) for pid in started.pids]
    postgres = next(process for process in processes if "postgres" in process.name())
    try:
        with psycopg.connect(
            started.postgres_url.replace("+psycopg", ""), autocommit=True
        ) as connection:
            connection.execute("ALTER SYSTEM SET autovacuum = off")
            connection.execute("ALTER SYSTEM SET max_wal_size = '4GB'")
            connection.execute("SELECT pg_reload_conf()")
        yield Servers(started.postgres_url, started.mongo_uri, postgres, folder)
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        psutil.wait_procs(processes, timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


class Arena:
    """The contenders of a run by name, each started when it is first asked for."""

    def __init__(self, servers: Servers, stack: ExitStack) -> None:
        self.servers, self._stack = servers, stack
        self._started: dict[str, Contender] = {}
        self.postgres_url, self.mongo_uri = servers.new("bench")
        fill(self.mongo_uri, self.postgres_url, 1000)
        self.mongo_only_uri = self.mongo_uri.replace("/bench", "/bench_mongo")

    def __getitem__(self, name: str) -> Contender:
        if name not in self._started:
            port = free_port()
            module, environment = self._described(name)
            workers = self._stack.enter_context(gunicorn(module, port, environment))
            self._started[name] = Contender(name, port, workers)
        return self._started[name]

    def _described(self, name: str) -> tuple[str, dict[str, str]]:
        module = {"uncounted": "ours"}.get(name, name.removesuffix("-mongo"))
        environment = {"SQLALCHEMY_DATABASE_URI": self.postgres_url, "MONGO_URI": self.mongo_uri}
        if name == "uncounted":
            environment["BENCHMARK_COUNTS"] = "false"
        elif name == "disk":
            folder = self.servers.folder / "files"
            folder.mkdir(exist_ok=True)
            environment["BENCHMARK_FOLDER"] = str(folder)
        elif name.endswith("-mongo"):
            if not any(other.endswith("-mongo") for other in self._started):
                fill_mongo(self.mongo_uri, self.mongo_only_uri, self.postgres_url)
            environment |= {"MONGO_URI": self.mongo_only_uri, "DB_ENABLED": "false"}
        return f"tests.tools.benchmarks.{module}", environment

    def clean(self) -> None:
        """Take away the bytes that jobs have left, but for the files to download."""
        kept = [path.split("/")[3] for one in self._started.values() for path in one.files.values()]
        with psycopg.connect(
            self.postgres_url.replace("+psycopg", ""), autocommit=True
        ) as connection:
            connection.execute("DELETE FROM media_storage WHERE NOT id = ANY(%s::uuid[])", [kept])
            connection.execute(
                """DELETE FROM media_chunks WHERE storage_key NOT IN
                   (SELECT storage_key FROM media_storage WHERE storage_key IS NOT NULL)"""
            )
            connection.execute("VACUUM media_storage, media_chunks")
            connection.execute("CHECKPOINT")
        with pymongo.MongoClient(self.mongo_only_uri, uuidRepresentation="standard") as client:
            database = client.get_default_database()
            held = [
                d["storage_key"] for d in database.media_storage.find() if str(d["_id"]) in kept
            ]
            database.media_storage.delete_many({"storage_key": {"$nin": held}})
            database["media.chunks"].delete_many({"files_id": {"$nin": held}})
            database["media.files"].delete_many({"_id": {"$nin": held}})
        files = self.servers.folder / "files"
        for path in files.iterdir() if files.exists() else ():
            if path.name not in kept:
                path.unlink()
        os.sync()


def fill_mongo(source: str, target: str, postgres_url: str) -> None:
    """The documents of one MongoDB database, and the media beside them in PostgreSQL, all in
    another database."""
    with pymongo.MongoClient(source) as client:
        old, new = (
            client.get_default_database(),
            client[target.partition("?")[0].rpartition("/")[2]],
        )
        for name in ("users", "products", "courses"):
            new[name].insert_many(old[name].find())
    copy(target, postgres_url)


@contextmanager
def arena() -> Iterator[Arena]:
    with servers() as started, ExitStack() as stack:
        yield Arena(started, stack)
