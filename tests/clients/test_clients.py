"""Every client does what it can: upload, go on with an upload, download, go on with a download,
play."""

from __future__ import annotations

import typing as t
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from .pages import PAGES
from .programs import PROGRAMS, breaks_off
from .site import Site

pytestmark = pytest.mark.clients


def cases(clients: Mapping[str, Collection[str]]) -> list[t.Any]:
    """Each client with each of its actions."""
    return [
        pytest.param(client, action, id=f"{client}, {action}")
        for client, actions in clients.items()
        for action in actions
    ]


@pytest.mark.parametrize(("client", "action"), cases(PROGRAMS))
def test_program(site: Site, tmp_path: Path, client: str, action: str) -> None:
    PROGRAMS[client][action](site, tmp_path)


@pytest.mark.parametrize(("client", "action"), cases(PAGES))
def test_page(site: Site, request: pytest.FixtureRequest, client: str, action: str) -> None:
    browser = request.getfixturevalue("firefox" if "Firefox" in client else "chromium")
    PAGES[client][action](site, browser)


def test_curl_replaces_no_file_by_its_tail(site: Site) -> None:
    """Its own way to go on with an upload is a PUT of a range, which is not the whole file."""
    path = site.keep_film()
    token = f"Authorization: {site.token}"
    breaks_off(
        "curl",
        "--fail-with-body",
        "-H",
        token,
        "-C",
        "2000",
        "-T",
        site.film,
        f"{site.origin}{path}",
    )
    site.check_kept(path)
