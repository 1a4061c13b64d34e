"""Let Chromium seek in a long video, and open files that would like to run: ``python -m
tests.clients.seek``. See the README beside it."""

from __future__ import annotations

import argparse
import logging
import shutil
import tempfile
import threading
import time
import typing as t
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import boto3
from flask import Flask, Response, request
from markupsafe import escape
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from playwright.sync_api import Browser, Error, Page, sync_playwright
from werkzeug.serving import make_server

from example_app import courses, create_app, sample
from flask_dualmedia import content_url, save_course_video, save_media_storage, signed_url

from .film import repeat

MIB = 1024 * 1024

BLOCK = 64 * 1024
"""Bytes passed to a socket at once, so that what is counted is what went out."""

VIDEO = sample.MEDIA / "big-buck-bunny-480p-30s.mp4"

TIMES = 41
"""20 minutes and 162 MiB: more than Chromium buffers, and than the system keeps in its sockets; the
video itself is less. Odd, so that in the middle there is something to see."""

LIMIT = 0.25
"""Share of the file that may be sent. Chromium needs the end of the file, where the index is, and a
piece at its start and one in the middle. Each request ends when Chromium has buffered enough and
closes the connection, or reads no more; some MiB are in its buffers and in those of the sockets by
then, and were sent. Measured: 8 %, 12 % of a redirect's S3, and 20 % of the S3 that the app asks,
where there are sockets twice."""


@dataclass
class Exchange:
    """One request, and what was sent for it."""

    path: str
    range: str
    status: str = ""
    sent: int = 0


class Log:
    """A WSGI app that writes down what another one is asked, and counts what goes out."""

    def __init__(self, app: t.Any) -> None:
        self._app = app
        self.exchanges: list[Exchange] = []

    def __call__(self, environ: dict[str, t.Any], start_response: t.Any) -> Iterable[bytes]:
        exchange = Exchange(environ["PATH_INFO"], environ.get("HTTP_RANGE", "-"))
        self.exchanges.append(exchange)

        def start(status: str, *more: t.Any) -> t.Any:
            exchange.status = status[:3]
            return start_response(status, *more)

        return _counted(self._app(environ, start), exchange)


def _counted(pieces: Iterable[bytes], exchange: Exchange) -> Iterator[bytes]:
    try:
        for piece in pieces:
            for start in range(0, len(piece), BLOCK):
                block = piece[start : start + BLOCK]
                yield block
                exchange.sent += len(block)
    finally:
        if hasattr(pieces, "close"):
            t.cast("t.Any", pieces).close()


@contextmanager
def served(app: t.Any) -> Iterator[tuple[str, Log]]:
    log = Log(app)
    server = make_server("127.0.0.1", 0, log, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.port}", log
    server.shutdown()


def make_app(directory: str, storages: dict[str, t.Any], default: str) -> Flask:
    """The example app, with pages that show what would run."""
    config = {
        "INSTANCE_PATH": directory,
        "RATELIMIT_ENABLED": False,
        "DUALMEDIA_STORAGES": storages,
    }
    app = create_app(config | {"DUALMEDIA_DEFAULT_STORAGE": default})

    @app.get("/careless/<filename>")
    def careless(filename: str) -> Response:
        content, mime_type = HOSTILE[filename]
        return Response(content, mimetype=mime_type)

    @app.get("/embedding/<way>")
    def embedding(way: str) -> Response:
        policy = "default-src *; script-src 'self'"
        html = WAYS[way].format(escape(request.args["url"]))
        return Response(html, mimetype="text/html", headers={"Content-Security-Policy": policy})

    return app


def seek(page: Page, app: Flask, origin: str, logs: dict[str, Log], film: Path, name: str) -> None:
    """Put the film into a course, open the page of that, and seek to the middle."""
    with app.app_context():
        course = courses.create_course(
            {"title": f"From {name}", "description": ""}, creator_id=str(sample.DEMO_ID)
        )
        with film.open("rb") as file:
            video = save_course_video(
                course["_id"],
                file,
                filename=film.name,
                video_type="intro",
                title="Bunny",
                is_public=True,
            )
    for log in logs.values():
        log.exchanges.clear()
    page.goto(f"{origin}/courses/{course['_id']}")
    start = time.perf_counter()
    duration, frame = page.evaluate(SEEK)
    seconds = time.perf_counter() - start
    page.wait_for_timeout(3000)  # it may go on to buffer
    page.screenshot(path=film.with_name(f"{name}.png"))
    page.goto("about:blank")
    page.wait_for_timeout(500)
    size = film.stat().st_size
    print(f"\n{name}: {size / MIB:.1f} MiB, {duration:.0f} s;", end=" ")
    print(f"a frame of {frame:.1f} s after {seconds:.1f} s")
    assert abs(frame - duration / 2) < 0.5, frame
    assert video.file_size == size
    totals = dict.fromkeys(logs, 0)
    for server, log in logs.items():
        for exchange in log.exchanges:
            if exchange.path.endswith("/content") or server == "s3":
                totals[server] += exchange.sent
                request = f"{server:4} {exchange.status} {exchange.range:28}"
                print(f"  {request} {exchange.sent:12,} bytes sent")
    for server, total in totals.items():
        print(f"  {server:4} {total:,} bytes in all, {100 * total / size:.1f} % of the file")
        assert total < LIMIT * size


SEEK = """async () => {
  const video = document.querySelector('video')
  const told = (name) => new Promise((done, failed) => {
    video.addEventListener(name, done, {once: true})
    video.addEventListener('error', () => failed(video.error.message), {once: true})
  })
  video.muted = true
  video.preload = 'metadata'
  video.load()
  await told('loadedmetadata')
  const drawn = new Promise((done) => {
    const look = (_, frame) => {
      if (frame.mediaTime > 1) done(frame.mediaTime)
      else video.requestVideoFrameCallback(look)
    }
    video.requestVideoFrameCallback(look)
  })
  const seeked = told('seeked')
  video.currentTime = video.duration / 2
  await seeked
  return [video.duration, await drawn]
}"""


RUNS = "new Image().src = location.origin + '/ran'"

# By filename: bytes that would like to run, and the type as which they would.
HOSTILE = {
    "page.jpg": (f"<!doctype html><script>{RUNS}</script>".encode(), "text/html"),
    "a.svg": (
        f'<svg xmlns="http://www.w3.org/2000/svg"><script>{RUNS}</script></svg>'.encode(),
        "image/svg+xml",
    ),
    "a.gif": (b"GIF89a/*" + bytes((1, 0, 0, 0, 0)) + f"*/=0;{RUNS}".encode(), "text/javascript"),
    "a.js": (RUNS.encode(), "text/javascript"),
}

WAYS = {
    "iframe": '<iframe src="{}"></iframe>',
    "object": '<object data="{}"></object>',
    "embed": '<embed src="{}">',
    "img": '<img src="{}">',
    "script": '<script src="{}"></script>',
}


def open_hostile(
    browser: Browser, app: Flask, origin: str, logs: dict[str, Log], name: str
) -> None:
    """Keep files that would like to run, open each in every way, and see whether it does. Served
    carelessly, it does, so that it would be seen."""

    def runs(url: str) -> list[str]:
        """The ways in which it does."""
        found = []
        for way, path in {
            "opened": url,
            **{way: f"/embedding/{way}?{urlencode({'url': url})}" for way in WAYS},
        }.items():
            for log in logs.values():
                log.exchanges.clear()
            page = browser.new_page()
            with suppress(Error):  # "Download is starting"
                page.goto(origin + path)
            page.wait_for_timeout(300)
            page.close()
            if any(exchange.path == "/ran" for log in logs.values() for exchange in log.exchanges):
                found.append(way)
        return found

    print(f"\n{name}: what runs, and how")
    for filename, (content, _) in HOSTILE.items():
        with app.app_context():
            public, private = (
                save_media_storage("page", "1", content, filename=filename, is_public=is_public)
                for is_public in (True, False)
            )
            urls = {"content": content_url(public), "signed link": signed_url(private)}
        for what, url in {"served carelessly": f"/careless/{filename}", **urls}.items():
            ways = runs(url)
            print(f"  {filename:9} {what:18} {', '.join(ways) or '-'}", flush=True)
            assert bool(ways) == (what not in urls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    parser.add_argument("--pictures", type=Path, help="folder to keep the screenshots in")
    arguments = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    with (
        tempfile.TemporaryDirectory() as directory,
        served(DomainDispatcherApplication(create_backend_app)) as (s3_origin, s3_log),
        sync_playwright() as playwright,
        playwright.chromium.launch(
            executable_path=arguments.chromium, args=["--no-sandbox"]
        ) as browser,
    ):
        film = Path(directory) / "film.mp4"
        film.write_bytes(repeat(VIDEO.read_bytes(), TIMES))
        keys: dict[str, t.Any] = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
        s3 = {"endpoint_url": s3_origin, "region_name": "us-east-1", **keys}
        boto3.client("s3", **s3).create_bucket(Bucket="media")
        s3["bucket"] = "media"
        for name, storages in (
            ("database", {}),
            ("local", {"local": {"directory": f"{directory}/local"}}),
            ("s3", {"s3": s3}),
            ("s3, redirecting", {"s3": s3 | {"redirect": True}}),
        ):
            app = make_app(directory, storages, name.partition(",")[0])
            with served(app) as (origin, log):
                logs = {"app": log} | ({"s3": s3_log} if "s3" in storages else {})
                with browser.new_page() as page:
                    seek(page, app, origin, logs, film, name)
                if name in ("database", "s3, redirecting"):  # the others answer as the first
                    open_hostile(browser, app, origin, logs, name)
        if arguments.pictures:
            for picture in film.parent.glob("*.png"):
                shutil.copy(picture, arguments.pictures)


if __name__ == "__main__":
    main()
