"""A deployment that is transferred to SQL and back, each time killed on the way: ``python -m
tests.faults.transfer [--records 1000]``, in databases of its own."""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
import typing as t

from flask import Flask

from example_app import embedded
from flask_dualmedia import (
    DualMedia,
    dump_media,
    get_media_by_reference,
    open_media,
    save_media_storage,
    save_product_image,
)
from flask_dualmedia.homes.base import AnyHome
from flask_dualmedia.homes.mongo import journal_home, mongo_home
from flask_dualmedia.homes.sql import sql_home
from flask_dualmedia.models import KINDS
from flask_dualmedia.state import get_state
from tests.samples import png

from .servers import ROOT

CONFIG = {"JWT_SECRET_KEY": "a key for faults of at least thirty-two bytes"}


def transfer(app: Flask, to: str, *options: str, code: int = 0) -> str:
    """Run the command; what it said."""
    result = app.test_cli_runner().invoke(args=["dualmedia", "transfer", "--to", to, *options])
    assert result.exit_code == code, result.output
    return result.output


def seen(app: Flask) -> dict[t.Any, tuple[dict[str, t.Any], bytes]]:
    """The media of the page as readers see it: each record as on the wire, and the bytes."""
    with app.app_context():
        records = get_media_by_reference("page", "1")
        return {
            r.id: (dump_media(r), b"".join(open_media(r)) if r.storage_key else b"")
            for r in records
        }


def homes(app: Flask) -> tuple[AnyHome, AnyHome]:
    """The homes of media in dual and in Mongo-only mode."""
    state = get_state(app)
    assert state.engine is not None
    return sql_home(state.engine), mongo_home(state.mongo)


def kill_and_go_on(
    mongo: Flask,
    dual: Flask,
    mongo_uri: str,
    sql_url: str,
    *,
    count: int,
    mean_size: int,
    kills: tuple[int, int],
    say: t.Callable[[str], object] = lambda line: None,
) -> None:
    """Fill Mongo-only mode with media, transfer it to SQL and back, and compare.

    :param kills: How often the way there and the way back are killed.
    """
    chance = random.Random(5)
    with mongo.app_context():
        product = get_state().mongo["products"].insert_one({}).inserted_id
        for number in range(count):
            save_media_storage("page", "1", chance.randbytes(chance.randrange(1, 2 * mean_size)))
            if number % 4 == 0:
                save_product_image(
                    product, png(comment=chance.randbytes(50)), is_main_image=number == 0
                )
    before = seen(mongo)
    assert len(before) == count
    for source, target, to, times in (
        (mongo, dual, "sql", kills[0]),
        (dual, mongo, "mongo", kills[1]),
    ):
        for _ in range(times):
            die_in_transfer(mongo_uri, sql_url, to, f"copy:record*{count // 7}")
        output = transfer(source, to)
        say(output)
        assert "Both hold the same" in output
        assert seen(target) == before
        for app in (mongo, dual):
            checked = app.test_cli_runner().invoke(
                args=["dualmedia", "check", "--verify-bytes", "--grace", "0"]
            )
            assert checked.exit_code == 0, checked.output
            say(checked.output)
        say(transfer(target, to, "--delete-source", "--yes"))
    sql, in_mongo = homes(dual)
    assert sum(map(sql.repository.count, KINDS.values())) == 0
    assert sum(map(in_mongo.repository.count, KINDS.values())) == count + len(range(0, count, 4))
    assert journal_home(get_state(dual).mongo).repository.is_empty()


def die_in_transfer(mongo_uri: str, sql_url: str, to: str, step: str) -> None:
    """Transfer in a process that is killed at a step."""
    config = CONFIG | {
        "MONGO_URI": mongo_uri,
        "SQLALCHEMY_DATABASE_URI": sql_url,
        "DB_ENABLED": str(to == "mongo"),
    }
    environment = {f"CHILD_{name}": value for name, value in config.items()} | {
        "DUALMEDIA_FAILPOINT": step
    }
    command = [sys.executable, "-m", "tests.faults.child", f"transfer --to {to}"]
    child = subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, timeout=300
    )
    assert child.returncode == -9, child.stdout + child.stderr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1000)
    count = parser.parse_args().records
    directory = tempfile.mkdtemp(prefix="dualmedia-transfer-")
    servers = embedded.start(directory)
    uris = {"MONGO_URI": servers.mongo_uri, "SQLALCHEMY_DATABASE_URI": servers.postgres_url}
    mongo, dual = Flask("mongo"), Flask("dual")
    for app in (mongo, dual):
        app.config.update(CONFIG, **uris, DB_ENABLED=app is dual)
        DualMedia(app)
    start = time.monotonic()
    urls = (str(servers.mongo_uri), str(servers.postgres_url))
    kill_and_go_on(mongo, dual, *urls, count=count, mean_size=200_000, kills=(5, 5), say=print)
    seconds = time.monotonic() - start
    print(f"{count} files and their images there and back, killed ten times, in {seconds:.0f} s")


if __name__ == "__main__":
    main()
