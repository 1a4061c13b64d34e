"""Chromium and Firefox, used alike."""

from __future__ import annotations

import json
import shutil
import time
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import firefox

if t.TYPE_CHECKING:
    from playwright.sync_api import Page

SECONDS = 30


class Browser(t.Protocol):
    """A browser with one page."""

    name: str

    def open(self, url: str) -> None:
        """Open a page, as if its address were typed in."""
        ...

    def go(self, url: str) -> None:
        """Follow an address without waiting for anything: it may be a download."""
        ...

    def evaluate(self, script: str, *arguments: t.Any) -> t.Any:
        """Execute the body of a function in the page. If it returns a promise, wait for that."""
        ...

    def choose(self, selector: str, file: Path) -> None:
        """Choose a file for an input of the page."""
        ...

    def click(self, selector: str) -> None: ...

    def screenshot(self, path: Path) -> None: ...

    def download(self, url: str) -> bytes:
        """Follow an address that is a download. If it breaks off, go on with it."""
        ...


def wait_for(browser: Browser, script: str) -> t.Any:
    """Wait until the body of a function returns something true, and return that."""
    deadline = time.monotonic() + SECONDS
    while not (value := browser.evaluate(script)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{browser.name}: {script}")
        time.sleep(0.1)
    return value


class Chromium:
    """Debian's Chromium, by Playwright."""

    name = "Chromium"

    def __init__(self, page: Page) -> None:
        self._page = page

    @classmethod
    @contextmanager
    def launched(cls) -> Iterator[Chromium]:
        # Other tests are collected where it is not installed.
        from playwright.sync_api import sync_playwright

        with (
            sync_playwright() as playwright,
            playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            ) as browser,
        ):
            page = browser.new_page()
            page.set_default_timeout(SECONDS * 1000)
            yield cls(page)

    def open(self, url: str) -> None:
        self._page.goto(url)

    def go(self, url: str) -> None:
        from playwright.sync_api import Error

        with suppress(Error):  # "Download is starting"
            self._page.goto(url, wait_until="commit")

    def evaluate(self, script: str, *arguments: t.Any) -> t.Any:
        return self._page.evaluate(f"(list) => (function () {{ {script} }})(...list)", [*arguments])

    def choose(self, selector: str, file: Path) -> None:
        self._page.locator(selector).first.set_input_files(file)

    def click(self, selector: str) -> None:
        self._page.locator(selector).first.click()

    def screenshot(self, path: Path) -> None:
        self._page.screenshot(path=path)

    def download(self, url: str) -> bytes:
        with self._page.expect_download() as started:
            self.go(url)
        return started.value.path().read_bytes()  # Chromium goes on by itself


# What Firefox knows of its downloads; the one that broke off is told to go on.
_DOWNLOADS = """
const { Downloads } = ChromeUtils.importESModule('resource://gre/modules/Downloads.sys.mjs')
return (async () => {
  const list = await Downloads.getList(Downloads.ALL)
  const found = (await list.getAll()).find((download) => download.source.url === arguments[0])
  if (!found || !found.stopped) return null
  if (!found.succeeded) await found.start()
  return found.succeeded && found.target.path
})()
"""


class FirefoxBrowser:
    """Debian's Firefox."""

    name = "Firefox"

    def __init__(self, connection: firefox.Firefox) -> None:
        self._connection = connection

    @classmethod
    @contextmanager
    def launched(cls, folder: Path) -> Iterator[FirefoxBrowser]:
        with firefox.launched(folder / "profile", downloads=folder) as connection:
            connection.send("WebDriver:SetTimeouts", pageLoad=SECONDS * 1000, script=SECONDS * 1000)
            yield cls(connection)

    def open(self, url: str) -> None:
        self._connection.open(url)

    def go(self, url: str) -> None:
        self.evaluate(f"location.href = {json.dumps(url)}")

    def evaluate(self, script: str, *arguments: t.Any) -> t.Any:
        return self._connection.evaluate(script, *arguments)

    def choose(self, selector: str, file: Path) -> None:
        self._connection.send(
            "WebDriver:ElementSendKeys", id=self._connection.find(selector), text=str(file)
        )

    def click(self, selector: str) -> None:
        self._connection.send("WebDriver:ElementClick", id=self._connection.find(selector))

    def screenshot(self, path: Path) -> None:
        self._connection.screenshot(path)

    def download(self, url: str) -> bytes:
        self.go(url)
        deadline = time.monotonic() + SECONDS
        while not (path := self._connection.evaluate_inside(_DOWNLOADS, url)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Firefox did not download {url}")
            time.sleep(0.1)
        return Path(path).read_bytes()
