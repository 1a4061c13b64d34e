"""Views that hold a connection of their own session while they save media: how many connections are
enough for them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
from flask import Flask

from flask_dualmedia import Unavailable, get_media_by_reference, save_media_storage

from ..conftest import MakeApp

THREADS = 4

IN_THE_BACKGROUND = 3

# One statement brings it; several do.
SIZES = [1000, 3_000_000]


def make_host(make_app: MakeApp, *, connections: int, pool_timeout: float) -> Flask:
    options = {"pool_size": connections, "max_overflow": 0, "pool_timeout": pool_timeout}
    app = make_app(SQLALCHEMY_ENGINE_OPTIONS=options, DUALMEDIA_QUOTA_PER_IDENTITY=10**9)
    session = app.extensions["sqlalchemy"].session
    all_hold_one = threading.Barrier(THREADS)

    @app.post("/products/<int:size>")
    def save_product(size: int) -> str:
        session.execute(sa.text("SELECT 1"))
        all_hold_one.wait(30)
        save_media_storage("page", "pool", b"%PDF-1.7".ljust(size), uploaded_by="alice")
        return "saved"

    @app.errorhandler(Unavailable)
    def answer_unavailable(error: Unavailable) -> tuple[str, int]:
        return str(error), 503

    return app


def save_at_once(app: Flask, size: int) -> list[int]:
    """The statuses of as many requests as there are threads."""
    with ThreadPoolExecutor(THREADS) as threads:
        answers = [
            threads.submit(lambda: app.test_client().post(f"/products/{size}"))
            for _ in range(THREADS)
        ]
        return [answer.result(60).status_code for answer in answers]


def test_twice_as_many_connections_as_threads_and_three_are_enough(make_app: MakeApp) -> None:
    """A request that would have to wait is refused by this time limit."""
    app = make_host(make_app, connections=2 * THREADS + IN_THE_BACKGROUND, pool_timeout=0)
    for size in SIZES:
        assert save_at_once(app, size) == [200] * THREADS
    with app.app_context():
        assert len(get_media_by_reference("page", "pool")) == THREADS * len(SIZES)


def test_a_pool_as_large_as_the_threads_is_busy_and_nothing_hangs(make_app: MakeApp) -> None:
    app = make_host(make_app, connections=THREADS, pool_timeout=0.5)
    for size in SIZES:
        statuses = save_at_once(app, size)
        assert 503 in statuses
        assert set(statuses) <= {200, 503}, "one may follow another that was refused"
    with app.app_context():
        save_media_storage("page", "pool", b"%PDF-1.7 afterwards")
