"""Pages of the app, in browsers: forms and Uppy upload, and content is downloaded and played."""

from __future__ import annotations

import json
import time
import typing as t
from collections.abc import Callable
from urllib.parse import quote

from .browsers import Browser, wait_for
from .programs import CUT
from .site import Site, digest

Do = Callable[[Site, Browser], None]

PLAYS = """
const player = document.querySelector('video, audio')
if (!player) return null
player.muted = true
if (player.paused) player.play().catch(() => {})
return player.currentTime > 0.2 && player.readyState >= 2
"""

SEEKS = """
const player = document.querySelector('video, audio')
if (player.currentTime < 20) player.currentTime = 20
return !player.seeking && player.readyState >= 2 && player.currentTime >= 20
"""


def _settings(site: Site, **more: t.Any) -> str:
    """The end of an address that is opened but once, with what the page is told."""
    return f"?{time.monotonic()}#{quote(json.dumps({'token': site.token, **more}))}"


def upload_by_form(site: Site, browser: Browser) -> None:
    path = site.keep_something()
    browser.open(f"{site.origin}/form{_settings(site, path=path)}")
    browser.choose("input[type=file]", site.film)
    for button in ("#post", "#put"):
        browser.evaluate("window.uploaded = null")
        browser.click(button)
        url = wait_for(browser, "return window.uploaded")["url"]
        site.check_kept(url)


def download(site: Site, browser: Browser) -> None:
    url = site.link(site.keep_film().removesuffix("/content"))
    assert digest(browser.download(f"{site.origin}{url}&download=1")) == digest(site.content)


def resume_download(site: Site, browser: Browser) -> None:
    url = site.link(site.keep_film().removesuffix("/content"))
    site.proxy.cut_answer(CUT)
    assert digest(browser.download(f"{site.proxied}{url}&download=1")) == digest(site.content)
    assert site.proxy.is_calm


def play(site: Site, browser: Browser) -> None:
    browser.open(f"{site.origin}{site.link(site.keep_film().removesuffix('/content'))}")
    assert wait_for(browser, PLAYS)
    assert wait_for(browser, SEEKS)


def _uppy(site: Site, browser: Browser, origin: str, **settings: t.Any) -> list[int]:
    """Upload by Uppy.

    :return: The offsets with which requests of tus began.
    """
    browser.open(f"{origin}/uppy{_settings(site, **settings)}")
    browser.evaluate("localStorage.clear()")  # nothing is known of an earlier upload of the file
    wait_for(browser, "return document.querySelector('.uppy-Dashboard-input')")
    browser.choose(".uppy-Dashboard-input", site.film)
    wait_for(browser, "return document.querySelector('.uppy-StatusBar-actionBtn--upload')")
    browser.click(".uppy-StatusBar-actionBtn--upload")
    uploaded = wait_for(browser, "return window.uploaded")
    assert uploaded["failed"] == []
    site.check_kept(uploaded["path"])
    return uploaded["offsets"]


def uppy_xhr_upload(site: Site, browser: Browser) -> None:
    _uppy(site, browser, site.origin, plugin="XHRUpload")


def uppy_tus_upload(site: Site, browser: Browser) -> None:
    assert len(_uppy(site, browser, site.origin, plugin="Tus", chunkSize=1024 * 1024)) > 3


def uppy_tus_resume(site: Site, browser: Browser) -> None:
    # A browser may repeat a request that broke off, by itself, before the app has taken any of it.
    # Then there is nothing to go on with, and the upload is whole all the same.
    offsets = [0]
    for _ in range(10):  # a busy server takes nothing in time more often
        if offsets[-1] == 0:
            site.proxy.cut_request(CUT)
            offsets = _uppy(site, browser, site.proxied, plugin="Tus")
            assert site.proxy.is_calm
    assert offsets[0] == 0 < offsets[-1] < len(site.content)


_BROWSER: dict[str, Do] = {
    "upload": upload_by_form,
    "download": download,
    "resume down": resume_download,
    "play": play,
}

_UPPY_TUS: dict[str, Do] = {"upload": uppy_tus_upload, "resume up": uppy_tus_resume}

PAGES: dict[str, dict[str, Do]] = {
    "Uppy XHR, Chromium": {"upload": uppy_xhr_upload},
    "Uppy XHR, Firefox": {"upload": uppy_xhr_upload},
    "Uppy tus, Chromium": _UPPY_TUS,
    "Uppy tus, Firefox": _UPPY_TUS,
    "Chromium": _BROWSER,
    "Firefox": _BROWSER,
}
"""By client and by what it can do."""
