"""Use the engine of a transfer, fork as a server in C does, past Python and all that it would tell,
and use it again.

``python -m tests.faults.silent URL``; there is but one thread, without which such a fork is not
safe.
"""

from __future__ import annotations

import ctypes
import os
import sys
import typing as t

import sqlalchemy as sa
from sqlalchemy import event

from flask_dualmedia import wiring
from flask_dualmedia.config import Settings
from flask_dualmedia.homes.sql import sql_home
from flask_dualmedia.storages.base import Storage

CONTENTS = {str(number): str(number).encode() * 200_000 for number in range(4)}


def main() -> None:
    config = {"SQLALCHEMY_DATABASE_URI": sys.argv[1], "MONGO_URI": "mongodb://127.0.0.1/unused"}
    engine = wiring.open_engine(Settings.from_config(config, host_has_sql=False))
    home = sql_home(engine)
    for key, content in CONTENTS.items():
        home.storage.put(key, iter([content]))

    def ask(driver: t.Any, *_: t.Any) -> None:
        driver.execute("SELECT 1")
        driver.rollback()

    # As hosts do. It must not be asked over the parent's connection either.
    event.listen(engine, "checkout", ask)
    before = session_of(engine)
    children = []
    for _ in range(3):
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            wrong = 1
            try:
                wrong = int(session_of(engine) == before) + reads_of_others(home.storage)
            finally:
                os._exit(wrong)
        children.append(pid)
    wrong = [reads_of_others(home.storage)]
    wrong += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    wrong.append(int(session_of(engine) != before))
    print(wrong)


def session_of(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()


def reads_of_others(storage: Storage) -> int:
    wrong = 0
    for _ in range(20):
        for key, content in CONTENTS.items():
            wrong += b"".join(storage.open(key, 0, len(content))) != content
    return wrong


if __name__ == "__main__":
    main()
