"""Fork as a server in C does, past Python and all that it would tell, and end media in the child.

``python -m tests.faults.silent_end MONGO_URI URL close|forget`` prints whether the session of the
parent lives on.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys

import sqlalchemy as sa
from flask import Flask

from flask_dualmedia import DualMedia
from flask_dualmedia.state import get_state

from ..conftest import BASE_CONFIG


def main() -> None:
    mongo_uri, url, how = sys.argv[1:]
    app = Flask("host")
    app.config.update(
        BASE_CONFIG, MONGO_URI=mongo_uri, SQLALCHEMY_DATABASE_URI=url, DUALMEDIA_COUNT_READS=False
    )
    DualMedia(app)
    engine = get_state(app).engine
    assert engine is not None
    session = session_of(engine)
    pid = ctypes.PyDLL(None).fork()
    if pid == 0:
        if how == "close":
            DualMedia.close(app)
        del app
        gc.collect()
        os._exit(0)
    os.waitpid(pid, 0)
    with sa.create_engine(url, poolclass=sa.NullPool).connect() as connection:
        found = sa.text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
        print(connection.execute(found, {"pid": session}).scalar_one() == 1)


def session_of(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()


if __name__ == "__main__":
    main()
