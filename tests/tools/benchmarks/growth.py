"""The same reads with a thousand, a hundred thousand and a million media, each in databases and
under a gunicorn of its own."""

from __future__ import annotations

import statistics
import typing as t
from contextlib import ExitStack

import sqlalchemy as sa

from flask_dualmedia.models import ProductImage
from flask_dualmedia.repositories.base import Listing
from flask_dualmedia.repositories.statements import select_listing, select_of_owners

from .arena import Servers, free_port
from .client import Client, request
from .host import gunicorn
from .jobs import AUTH, Contender, Job, Make, get_course, get_product, list_products
from .measure import Sample, run
from .seed import PRODUCTS, fill, owner

SIZES = (1_000, 100_000, 1_000_000)

LIMIT = 1.2


def measure(
    servers: Servers, rounds: int, seconds: float, *, quick: bool
) -> list[dict[str, t.Any]]:
    """Run all jobs on all sizes, and print medians, what they grow by, and the plans of PostgreSQL
    for the largest."""
    sizes = (1_000, 10_000) if quick else SIZES
    with ExitStack() as stack:
        contenders, urls = [], []
        for size in sizes:
            url, uri = servers.new(f"growth_{size}")
            fill(uri, url, size)
            environment = {"SQLALCHEMY_DATABASE_URI": url, "MONGO_URI": uri}
            port = free_port()
            workers = stack.enter_context(
                gunicorn("tests.tools.benchmarks.ours", port, environment)
            )
            contenders.append(Contender(f"{size:,}", port, workers))
            urls.append(url)
        figures = [_measure_job(job, contenders, rounds, seconds) for job in _jobs(contenders)]
        for figure in figures:
            shown = "  ".join(f"{name}: {time:7.2f}" for name, time in figure["p50"].items())
            flag = "!" if figure["ratio"] > LIMIT else ""
            print(f"{figure['job']:36} ms at {shown}  {figure['ratio']:.2f}{flag}", flush=True)
        _explain(urls[-1])
    return figures


def _jobs(contenders: list[Contender]) -> t.Iterator[Job]:
    names = tuple(one.name for one in contenders)
    yield Job("product + 4 images", names, get_product)
    yield Job("50 products + images", names, list_products)
    yield Job("course + 30 media", names, get_course)
    lists = {
        "of one product": f"?mongoProductId={owner(PRODUCTS, 7)}",
        "newest": "?limit=50",
        "most accessed": "?limit=50&sort=-accessCount",
    }
    for name, query in lists.items():
        yield Job(f"GET /media: {name}", names, _get(query))
    for name in ("newest", "most accessed"):
        places = {one.name: _in_the_middle(one, lists[name]) for one in contenders}
        yield Job(f"GET /media: {name}, seventh page", names, _at(places))


def _get(query: str) -> Make:
    head = request("GET", f"/media/product-images{query}", headers=AUTH)
    return lambda _contender, _client: (head, b"")


def _at(places: dict[str, bytes]) -> Make:
    return lambda contender, _client: (places[contender.name], b"")


def _in_the_middle(contender: Contender, query: str) -> bytes:
    """A request for a page that many come before; there are eight where media are fewest."""
    client, path = Client(contender.port), f"/media/product-images{query}"
    for _ in range(6):
        path = client.ask(request("GET", path, headers=AUTH), keep=True).json()["next"]
    return request("GET", path, headers=AUTH)


def _measure_job(
    job: Job, contenders: list[Contender], rounds: int, seconds: float
) -> dict[str, t.Any]:
    samples = {one.name: Sample() for one in contenders}
    for number in range(rounds + 1):
        for turn in range(len(contenders)):
            contender = contenders[(turn + number) % len(contenders)]
            sample = run(job, contender, 1, seconds)
            if number or rounds == 1:
                samples[contender.name].add(sample)
    medians = {name: statistics.median(sample.times) * 1000 for name, sample in samples.items()}
    smallest, *_, largest = medians.values()
    return {"job": job.name, "p50": medians, "ratio": largest / smallest}


def _explain(url: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    queries = {"images of 50 products": select_of_owners(ProductImage, "any")}
    given: dict[str, dict[str, t.Any]] = {
        "images of 50 products": {"owners": [str(owner(PRODUCTS, number)) for number in range(50)]}
    }
    for name, sort in (("newest", "id"), ("most accessed", "access_count")):
        queries[name], given[name] = select_listing(
            Listing(ProductImage, sort=sort, descending=True, limit=50)
        )
    with engine.connect() as connection:
        for name, query in queries.items():
            compiled = query.params(given[name]).compile(
                engine, compile_kwargs={"literal_binds": True}
            )
            plan = connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, COSTS off, BUFFERS off) {compiled}"
            ).scalars()
            print("\n".join([f"\n{name}:", *plan]))
