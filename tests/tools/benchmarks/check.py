"""Memory and rate of ``flask dualmedia check`` over many records.

``python -m tests.tools.benchmarks.check [--records 100000]``. Every record has a document in
MongoDB that it belongs to, and every fifth one has bytes.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
import typing as t
from collections.abc import Iterator

import sqlalchemy as sa
from bson import ObjectId

from flask_dualmedia.models import AVAILABLE, Media, MediaChunk, ProductImage
from flask_dualmedia.state import get_state
from flask_dualmedia.storages.base import new_key

from .host import ROOT, SECRET, create_app, databases

BATCH = 5_000
CONTENT = b"\x89PNG\r\n\x1a\n" + bytes(1000)


def records(owners: list[ObjectId], first: int) -> Iterator[Media]:
    for number, owner in enumerate(owners, start=first):
        kept = number % 5 == 0
        record = ProductImage.new(
            mongo_product_id=str(owner), is_main_image=True, position=0,
            state=AVAILABLE, file_size=len(CONTENT),
            storage_type="database" if kept else "external", image_url=None if kept else "https://cdn.example/a.png",
        )  # fmt: skip
        yield ProductImage.from_values(
            record.values() | {"storage_key": new_key(record.id) if kept else None}
        )


def fill(count: int) -> None:
    app = create_app()
    state = get_state(app)
    assert state.engine is not None
    tables = (t.cast("sa.Table", ProductImage.__table__), t.cast("sa.Table", MediaChunk.__table__))
    for first in range(0, count, BATCH):
        owners = [ObjectId() for _ in range(min(BATCH, count - first))]
        state.mongo["products"].insert_many([{"_id": owner, "name": "product"} for owner in owners])
        made = [record.values() for record in records(owners, first)]
        chunks = [
            {"storage_key": r["storage_key"], "seq": 0, "data": CONTENT}
            for r in made
            if r["storage_key"]
        ]
        with state.engine.begin() as connection:
            connection.execute(sa.insert(tables[0]), made)
            connection.execute(sa.insert(tables[1]), chunks)
    with state.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("ANALYZE")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    count = parser.parse_args().records
    with databases() as (_, servers):
        os.environ["FLASK_MONGO_URI"] = f"{servers.mongo_uri}"
        os.environ["FLASK_SQLALCHEMY_DATABASE_URI"] = f"{servers.postgres_url}"
        os.environ["FLASK_JWT_SECRET_KEY"] = SECRET
        start = time.perf_counter()
        fill(count)
        print(f"filled in {time.perf_counter() - start:.0f} s", flush=True)
        command = [
            sys.executable,
            "-m",
            "flask",
            "--app",
            "tests.tools.benchmarks.host:create_app",
            "dualmedia",
            "check",
        ]
        done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
        print(done.stdout.strip() or done.stderr.strip())
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"status {done.returncode}, largest memory of a child process {peak:.0f} MiB")


if __name__ == "__main__":
    main()
