"""Measure our endpoints beside bare drivers, in one run: ``python -m tests.tools.benchmarks``.

The example app, the floor (:mod:`.floor`) and plain files (:mod:`.disk`) under gunicorn, 2 workers
of 4 threads each, on the same embedded servers. Every round asks them one after the other, each
round in another order; times are medians over all rounds, ratios are those of medians, with the
smallest and the largest of the rounds. Bodies, and the SHA-256 of bytes, are compared before
anything is timed.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import platform
import signal
import statistics
import sys
import typing as t
from pathlib import Path

from . import growth, mixed
from .arena import Arena, arena, servers
from .client import Client, request
from .jobs import (
    CONTENT,
    MIB,
    Contender,
    Job,
    create_product,
    get_course,
    get_product,
    jobs,
    list_products,
    make_file,
    new_file,
    upload,
)
from .measure import Sample, memory, run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.benchmarks", description=__doc__)
    parser.add_argument(
        "--jobs", default="*", help="names to run, with wildcards, separated by commas"
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="of each contender in each round"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one short round, to see that everything works"
    )
    parser.add_argument(
        "--growth", action="store_true", help="reads at 1,000, 100,000 and 1,000,000 media instead"
    )
    parser.add_argument(
        "--mixed", type=float, metavar="SECONDS", help="so many seconds of a mixed load instead"
    )
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and the servers end with us
    if options.quick:
        options.rounds, options.seconds = 1, 0.1
    print(
        f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.2f}, Python {platform.python_version()}",
        flush=True,
    )
    if options.growth:
        with servers() as started:
            figures = growth.measure(started, options.rounds, options.seconds, quick=options.quick)
    elif options.mixed is not None:
        with arena() as prepared:
            prepare(prepared, ["ours"], {64 * 1024, 256 * MIB})
            figures = mixed.measure(prepared, options.mixed)
    else:
        patterns = options.jobs.split(",")
        chosen = [
            job for job in jobs() if any(fnmatch.fnmatch(job.name, pattern) for pattern in patterns)
        ]
        with arena() as prepared:
            figures = measure(prepared, chosen, options)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


def measure(arena: Arena, chosen: list[Job], options: argparse.Namespace) -> list[dict[str, t.Any]]:
    """Run jobs and print a line for each."""
    names = list(dict.fromkeys(name for job in chosen for name in job.contenders))
    prepare(arena, names, {job.size for job in chosen if job.size} | {64 * 1024, 256 * MIB})
    for ours, floor in (("ours", "floor"), ("ours-mongo", "floor-mongo")):
        if {ours, floor} <= set(names):
            compare(arena[ours], arena[floor])
    print(
        f"{'job':32} {'clients':>7} {'ours ms':>9} {'other ms':>9}"
        f" {'ratio':>6} {'rounds':>11} {'limit':>5}"
        f" {'cpu ms':>7} {'ratio':>5} {'per s':>7} {'MiB/s':>6}  disk ms, memory"
    )
    figures = []
    for job in chosen:
        for clients in options.clients:
            rounds = max(1, options.rounds // 2) if job.is_large and clients > 1 else options.rounds
            figures.append(
                measure_job(arena, job, clients, rounds, 0 if job.is_large else options.seconds)
            )
            print(line(figures[-1]), flush=True)
            if options.json:
                options.json.write_text(json.dumps(figures, indent=1))
    return figures


def measure_job(
    arena: Arena, job: Job, clients: int, rounds: int, seconds: float
) -> dict[str, t.Any]:
    contenders = [arena[name] for name in job.contenders]
    samples = {one.name: Sample() for one in contenders}
    ratios = []
    for number in range(rounds + 1):
        medians = {}
        for turn in range(len(contenders)):
            contender = contenders[(turn + number) % len(contenders)]
            sample = run(job, contender, clients, seconds)
            medians[contender.name] = statistics.median(sample.times)
            if number or rounds == 1:  # the first one warms up
                samples[contender.name].add(sample)
        if number or rounds == 1:
            ours, other, *_ = (
                medians.values() if not number else [medians[name] for name in job.contenders]
            )
            ratios.append(ours / other)
        if job.size:
            arena.clean()
    if not job.size:
        arena.clean()  # nothing vacuums the old versions of a record that was counted so often
    figure: dict[str, t.Any] = {
        "job": job.name,
        "clients": clients,
        "limit": job.limit,
        "size": job.size,
    }
    figure["contenders"] = {name: _figures(sample) for name, sample in samples.items()}
    ours, other = (figure["contenders"][name] for name in job.contenders[:2])
    figure |= {
        "ratio": ours["p50"] / other["p50"],
        "cpu_ratio": ours["cpu"] / max(other["cpu"], 1e-9),
    }
    figure |= {"lowest": min(ratios), "highest": max(ratios)}
    if job.is_large and clients == 1:
        grown = {
            one.name: memory(job, one, arena.servers.postgres)._asdict() for one in contenders[:2]
        }
        figure["memory"] = {
            name: {k: v / MIB for k, v in one.items()} for name, one in grown.items()
        }
        arena.clean()
    return figure


def _figures(sample: Sample) -> dict[str, float]:
    times = sorted(sample.times)
    return {
        "p50": statistics.median(times) * 1000,
        "p95": times[int(len(times) * 0.95)] * 1000,
        "cpu": sample.cpu / len(times) * 1000,
        "rate": len(times) / sample.seconds,
        "requests": len(times),
    }


def line(figure: dict[str, t.Any]) -> str:
    ours, other, *_ = figure["contenders"].values()
    others = [*figure["contenders"].items()][2:]
    limit = figure["limit"]
    flag = "!" if limit and figure["ratio"] > limit else " "
    rate = (
        f"{figure['size'] / MIB / ours['p50'] * 1000 * figure['clients']:6.0f}"
        if figure["size"] > MIB
        else " " * 6
    )
    more = [f"{one['p50']:.1f}" for _, one in others]
    more += [
        f"{name} +{m['server']:.0f}/{m['backend']:.0f} MiB"
        for name, m in figure.get("memory", {}).items()
    ]
    return (
        f"{figure['job']:32} {figure['clients']:7} {ours['p50']:9.2f} {other['p50']:9.2f}"
        f" {figure['ratio']:5.2f}{flag}"
        f" {figure['lowest']:5.2f}-{figure['highest']:5.2f} {limit or 0:5.2f} {ours['cpu']:7.2f}"
        f" {figure['cpu_ratio']:5.2f} {ours['rate']:7.1f} {rate}  {', '.join(more)}"
    )


def prepare(arena: Arena, names: t.Iterable[str], sizes: t.Iterable[int]) -> None:
    """Give every contender its files, and see that the bytes come back."""
    for name in names:
        contender, client = arena[name], Client(arena[name].port)
        for size in sizes:
            path = make_file(client)
            answer = client.ask(*upload(client, path, size), keep=True)
            checksum = hashlib.sha256(CONTENT[:size]).hexdigest()
            assert answer.status == 200, answer.body
            assert answer.json()["checksum"] == checksum, name
            got = client.ask(request("GET", path), keep=True)
            assert hashlib.sha256(got.body).hexdigest() == checksum, name
            part = client.ask(
                request("GET", path, headers={"Range": "bytes=5000-50000"}), keep=True
            )
            assert (part.status, part.body) == (206, CONTENT[5000:50001]), name
            contender.files[size] = path


def compare(ours: Contender, floor: Contender) -> None:
    """Stop where the two do not answer the same."""
    clients = {one.name: Client(one.port) for one in (ours, floor)}
    path = ours.files[64 * 1024]
    put = lambda _contender, client: upload(client, path, 70_000)  # noqa: E731
    for make in (
        get_product,
        list_products,
        get_course,
        create_product,
        lambda _, client: new_file(client, 70_000),
        put,
    ):
        made = make(ours, clients[ours.name])
        answers = {name: client.ask(*made, keep=True) for name, client in clients.items()}
        mine, theirs = (neutral(answers[one.name].json()) for one in (ours, floor))
        if mine != theirs or answers[ours.name].status != answers[floor.name].status:
            sys.exit(f"not the same answer:\n{made[0][:80]!r}\n{mine}\n{theirs}")


_NEW = ("id", "createdAt", "updatedAt", "mongoProductId", "url", "accessCount", "lastAccessedAt")


def neutral(body: t.Any) -> t.Any:
    """An answer without what is new in every record."""
    if isinstance(body, list):
        return [neutral(one) for one in body]
    if isinstance(body, dict):
        return {name: neutral(value) for name, value in body.items() if name not in _NEW}
    return body


if __name__ == "__main__":
    main()
