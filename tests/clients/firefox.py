"""Firefox without a window, driven by its own protocol, Marionette: no driver has to be fetched
from anywhere."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import time
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT = 60.0  # seconds

PREFERENCES: dict[str, t.Any] = {
    "marionette.port": 0,  # any, which Firefox writes into the profile
    "datareporting.policy.dataSubmissionEnabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.download.folderList": 2,
    "browser.download.alwaysOpenPanel": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.downloads.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}


class FirefoxError(Exception):
    """Firefox refused a command."""


class Firefox:
    """A connection to Firefox. Its commands are those of WebDriver."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._stream = self._socket.makefile("rb")
        self._count = 0
        self._receive()  # which protocol it speaks
        self.send("WebDriver:NewSession")

    def send(self, command: str, **parameters: t.Any) -> t.Any:
        """Have Firefox execute a command, and wait for what it returns."""
        self._count += 1
        message = json.dumps([0, self._count, command, parameters])
        self._socket.sendall(f"{len(message)}:{message}".encode())
        _, _, error, result = self._receive()
        if error is not None:
            raise FirefoxError(f"{command}: {error['error']}: {error['message']}")
        return result

    def open(self, url: str) -> None:
        """Open a page, as if its address were typed in."""
        self.send("WebDriver:Navigate", url=url)

    def evaluate(self, script: str, *arguments: t.Any) -> t.Any:
        """Execute the body of a function in the page. If it returns a promise, wait for that."""
        return self.send("WebDriver:ExecuteScript", script=script, args=arguments)["value"]

    def evaluate_inside(self, script: str, *arguments: t.Any) -> t.Any:
        """Execute the body of a function not in the page, but in Firefox itself."""
        self.send("Marionette:SetContext", value="chrome")
        try:
            return self.evaluate(script, *arguments)
        finally:
            self.send("Marionette:SetContext", value="content")

    def find(self, selector: str) -> str:
        """The id of the first element that a CSS selector finds."""
        element = self.send("WebDriver:FindElement", using="css selector", value=selector)["value"]
        return next(iter(element.values()))

    def screenshot(self, path: Path) -> None:
        """Keep a picture of the page, as PNG."""
        path.write_bytes(
            base64.b64decode(self.send("WebDriver:TakeScreenshot", full=False)["value"])
        )

    def close(self) -> None:
        """End the connection. Firefox goes on."""
        self._stream.close()
        self._socket.close()

    def _receive(self) -> t.Any:
        digits = b""
        while (byte := self._stream.read(1)) != b":":
            if not byte:
                raise FirefoxError("Firefox has closed the connection")
            digits += byte
        return json.loads(self._stream.read(int(digits)))


@contextmanager
def launched(profile: Path, *, downloads: Path, program: str = "firefox-esr") -> Iterator[Firefox]:
    """Firefox with a new profile.

    :param profile: Folder for the profile, which need not exist.
    :param downloads: Folder for what pages download.
    """
    profile.mkdir(parents=True, exist_ok=True)
    preferences = PREFERENCES | {"browser.download.dir": str(downloads)}
    lines = [
        f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
        for name, value in preferences.items()
    ]
    (profile / "user.js").write_text("".join(lines))
    command = [program, "--headless", "--marionette", "--remote-allow-system-access", "--no-remote"]
    command += ["--profile", str(profile)]
    with (profile / "firefox.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        firefox = Firefox(_port(profile / "MarionetteActivePort", process))
        try:
            yield firefox
        finally:
            firefox.close()
    finally:
        process.kill()  # its profile goes with the test
        process.wait(30)


def _port(path: Path, process: subprocess.Popen[bytes]) -> int:
    """The port that Firefox listens on, once it does."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and (text := path.read_text()):
            return int(text)
        time.sleep(0.1)
    raise FirefoxError(f"Firefox did not start, see {path.parent / 'firefox.log'}")
