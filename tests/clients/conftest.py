"""The app with its databases, the browsers, and the table in the end."""

from __future__ import annotations

import os
import subprocess
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pymongo
import pytest

from tests.conftest import Databases, ServerUrls, mongo_uri_for, unique
from tests.faults.servers import Workers, bearer, running
from tests.tools.proxy import Proxy

from .browsers import Browser, Chromium, FirefoxBrowser
from .site import Site

PACKAGES = ["tus-js-client@4", "uppy@6"]

ACTIONS = ("upload", "resume up", "download", "resume down", "play")

_results: dict[str, dict[str, str]] = {}
"""By client and action."""


@pytest.fixture(scope="session")
def npm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages from npm: those in the folder that ``NPM_DIRECTORY`` names, or installed
    anew."""
    if named := os.environ.get("NPM_DIRECTORY"):
        return Path(named).absolute()
    folder = tmp_path_factory.mktemp("npm")
    quiet = ["--no-fund", "--no-audit", "--no-package-lock", "--silent"]
    subprocess.run(["npm", "install", "--prefix", str(folder), *quiet, *PACKAGES], check=True)
    return folder


@pytest.fixture(scope="session")
def app_site(
    servers: ServerUrls,
    template_database: str,
    npm: Path,
    media_directory: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    databases, name = Databases(servers.postgres), unique("test")
    url = databases.create(name, template=template_database).render_as_string(hide_password=False)
    mongo_uri = mongo_uri_for(servers, name)
    config = {
        "SQLALCHEMY_DATABASE_URI": url,
        "MONGO_URI": mongo_uri,
        "DUALMEDIA_AUTO_UPGRADE": "false",
    }
    folder, ran = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("ran")
    environment = {"NPM_DIRECTORY": str(npm), "RAN": str(ran)}
    # A client may use a connection again after a while.
    options = ("--threads", "4", "--keep-alive", "75")
    app = "tests.clients.host:create_app()"
    workers = Workers(folder, config, app=app, environment=environment, options=options)
    with running(workers):
        workers.wait()
        proxy = Proxy(("127.0.0.1", workers.port))
        film = media_directory / "big-buck-bunny-480p-30s.mp4"
        yield Site(workers.port, proxy, bearer("alice")["Authorization"], film, npm, ran)
        proxy.close()
    databases.drop_all()
    with pymongo.MongoClient(mongo_uri) as client:
        client.drop_database(name)


@pytest.fixture
def site(app_site: Site) -> Iterator[Site]:
    """The app. Connections by way of its proxy end with the test."""
    yield app_site
    app_site.proxy.reset()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with Chromium.launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with FirefoxBrowser.launched(tmp_path_factory.mktemp("firefox")) as browser:
        yield browser


@pytest.fixture(params=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> Browser:
    """Both browsers in turn."""
    return request.getfixturevalue(request.param)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> t.Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    values: dict[str, t.Any] = getattr(getattr(item, "callspec", None), "params", {})
    if {"client", "action"}.issubset(values) and (report.when == "call" or report.failed):
        action = values["action"]
        results = _results.setdefault(values["client"], {})
        if results.get(action) != "FAILED":
            results[action] = "FAILED" if report.failed else "yes"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _results:
        return
    terminalreporter.section("clients")
    terminalreporter.write_line(f"| {'client':20} | " + " | ".join(ACTIONS) + " |")
    for client, results in _results.items():
        cells = [results.get(action, "-").ljust(len(action)) for action in ACTIONS]
        terminalreporter.write_line(f"| {client:20} | " + " | ".join(cells) + " |")
