"""Content that is opened in a browser as a page: it plays, or is shown, or does nothing at all."""

from __future__ import annotations

import io
import time
from pathlib import Path
from urllib.parse import quote

import pytest
import requests
from PIL import Image

from .browsers import SECONDS, Browser, wait_for
from .pages import PLAYS
from .programs import run
from .site import Site

pytestmark = pytest.mark.clients

ACCESS = ("public URL", "signed link")

CODECS = {
    "mp4": ("-c", "copy"),
    "mov": ("-c", "copy"),
    "webm": ("-s", "320x180", "-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libvorbis"),
    "mp3": ("-vn", "-c:a", "libmp3lame"),
    "ogg": ("-vn", "-c:a", "libvorbis"),
    "m4a": ("-vn", "-c:a", "copy"),
    "flac": ("-vn", "-ac", "2"),
    "wav": ("-vn", "-ac", "2"),
}
"""How the film becomes one of each format."""

# Whoever serves them, Chromium downloads QuickTime that is opened as a page, and Firefox WAV.
DOWNLOADED = {("chromium", "mov"), ("firefox", "wav")}

PLAYED = [
    (name, extension)
    for name in ("chromium", "firefox")
    for extension in CODECS
    if (name, extension) not in DOWNLOADED
]

IMAGES = ("png", "jpeg", "gif", "webp", "avif")

PAUSE = 0.5
"""Seconds in which a page does whatever it will do."""

XSLT = "http://www.w3.org/1999/XSL/Transform"

RUNS = "new Image().src = location.origin + '/ran/NAME'"

# By filename: bytes that would like to run, and the type as which they would.
HOSTILE = {
    "page.jpg": (f"<!doctype html><script>{RUNS}</script>", "text/html"),
    "a.svg": (
        f'<svg xmlns="http://www.w3.org/2000/svg"><script>{RUNS}</script></svg>',
        "image/svg+xml",
    ),
    "a.gif": (f"GIF89a/*\1\0\0\0\0*/=0;{RUNS}", "text/javascript"),
    "a.js": (RUNS, "text/javascript"),
    "a.css": ("body { background: url(/ran/NAME) }", "text/css"),
    "a.xml": (
        f'<x:stylesheet version="1.0" xmlns:x="{XSLT}"><x:output method="html"/>'
        '<x:template match="/"><html><body>'
        f"<script>{RUNS}</script></body></html></x:template></x:stylesheet>",
        "text/xml",
    ),
}


@pytest.fixture(scope="session")
def recordings(media_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The film of the example app in the formats that browsers play, by extension."""
    folder, film = (
        tmp_path_factory.mktemp("recordings"),
        media_directory / "big-buck-bunny-480p-30s.mp4",
    )
    made = {}
    for extension, codec in CODECS.items():
        target = folder / f"film.{extension}"
        run("ffmpeg", "-loglevel", "error", "-nostdin", "-i", film, "-t", "5", *codec, target)
        made[extension] = target.read_bytes()
    return made


def open_content(site: Site, browser: Browser, content: bytes, filename: str, access: str) -> None:
    """Keep content, and open it as a page."""
    path = site.keep(content, filename, isPublic=str(access == "public URL"))
    url = site.link(path) if access == "signed link" else f"{path}/content"
    if access == "cookie":
        browser.open(f"{site.origin}/sign-in")
    browser.open(f"{site.origin}{url}")


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize(("browser", "extension"), PLAYED, indirect=["browser"])
def test_films_and_sound_play(
    site: Site, browser: Browser, recordings: dict[str, bytes], extension: str, access: str
) -> None:
    open_content(site, browser, recordings[extension], f"film.{extension}", access)
    assert wait_for(browser, PLAYS)


def test_whoever_is_signed_in_plays_their_own_film(
    site: Site, browser: Browser, recordings: dict[str, bytes]
) -> None:
    """The player asks for the bytes anew, and must have the cookie for it."""
    open_content(site, browser, recordings["mp4"], "film.mp4", "cookie")
    assert wait_for(browser, PLAYS)
    assert browser.evaluate("document.querySelector('video').currentTime = 4; return true")
    assert wait_for(browser, "return document.querySelector('video').currentTime > 4")


@pytest.mark.parametrize(("browser", "extension"), sorted(DOWNLOADED), indirect=["browser"])
def test_what_a_browser_downloads_plays_in_a_page_of_the_app(
    site: Site, browser: Browser, recordings: dict[str, bytes], extension: str
) -> None:
    url = site.link(site.keep(recordings[extension], f"film.{extension}"))
    browser.open(f"{site.origin}/sign-in")
    element = "Object.assign(document.createElement('video'), { src: arguments[0], muted: true })"
    browser.evaluate(f"document.body.append({element})", url)
    assert wait_for(browser, PLAYS)


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("image_format", IMAGES)
def test_pictures_are_shown(site: Site, browser: Browser, image_format: str, access: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), "green").save(stream, image_format)
    open_content(site, browser, stream.getvalue(), f"a.{image_format}", access)
    size = "const image = document.querySelector('img'); return image && image.naturalWidth"
    assert wait_for(browser, size) == 64


@pytest.mark.parametrize("access", ACCESS)
def test_a_pdf_is_shown_where_the_host_says_so(
    site: Site, browser: Browser, media_directory: Path, tmp_path: Path, access: str
) -> None:
    """There is paper to be seen, which is white; the viewers around it are not, nor is an error."""
    open_content(
        site, browser, (media_directory / "geotopo.pdf").read_bytes(), "geotopo.pdf", access
    )
    deadline = time.monotonic() + SECONDS
    while (
        share := _white_share(browser, tmp_path / "pdf.png")
    ) < 0.2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert 0.2 < share < 0.9


def _white_share(browser: Browser, path: Path) -> float:
    """How much of the page is white."""
    browser.screenshot(path)
    with Image.open(path) as picture:
        histogram = picture.convert("L").histogram()
    return histogram[255] / sum(histogram)


@pytest.mark.parametrize("filename", HOSTILE)
def test_what_could_run_does_not(site: Site, browser: Browser, filename: str) -> None:
    """Neither opened, nor named by a page of the app that stops nothing. Served carelessly, it does
    run."""
    text, mime_type = HOSTILE[filename]
    name = f"{browser.name}-{filename}"
    careless, kept = site.ran / f"careless-{name}", site.ran / f"kept-{name}"

    requests.post(
        f"{site.origin}/careless", data=text.replace("NAME", careless.name)
    ).raise_for_status()
    for page in pages_with(f"/careless/{mime_type}"):
        browser.go(f"{site.origin}{page}")
        wait(careless)
    assert careless.exists()

    content = text.replace("NAME", kept.name).encode()
    public, private = site.keep(content, filename, isPublic="true"), site.keep(content, filename)
    for url in (f"{public}/content", site.link(private)):
        for page in pages_with(url):
            browser.go(f"{site.origin}{page}")
            wait(kept)
            assert not kept.exists(), page


def pages_with(url: str) -> tuple[str, str, str]:
    """Content itself, a page that names it in every way, and one that is to be styled by it."""
    return url, f"/embedding/html?url={quote(url)}", f"/embedding/xslt?url={quote(url)}"


def wait(path: Path) -> None:
    """Wait until something has run, as long as it takes a page to do so."""
    deadline = time.monotonic() + PAUSE
    while time.monotonic() < deadline and not path.exists():
        time.sleep(0.05)
