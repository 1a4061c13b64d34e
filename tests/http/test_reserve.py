"""Facts about media are for those whom they concern: the log, JSON, files and keys."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from flask_dualmedia import save_media_storage
from flask_dualmedia.errors import StorageError
from flask_dualmedia.models import new_id
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.storages.local import LocalStorage

from ..conftest import MakeApp
from ..samples import Owners, Tokens, post_file

NASTY = "1\r\nCRITICAL forged\x1b[2J\u202egnp.exe\u2028"


@pytest.mark.usefixtures("context")
def test_a_record_is_named_on_one_line(app: Flask) -> None:
    named = repr(save_media_storage(f"page{NASTY}", f"1{NASTY}", b"text"))
    assert named.isprintable()
    assert "CRITICAL forged" in named


@pytest.mark.usefixtures("app")
def test_what_strangers_have_written_makes_no_lines_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("flask_dualmedia")
    try:
        try:
            raise ValueError(NASTY)
        except ValueError as cause:
            raise StorageError(f"about {NASTY}") from cause
    except StorageError:
        logger.warning("left for the sweep: %s", NASTY, exc_info=True)
    lines = caplog.text.splitlines()
    assert [line for line in lines if line.startswith(("CRITICAL", "\x1b"))] == []
    assert all(line.isprintable() for line in lines)
    assert "Traceback (most recent call last):" in lines


def test_json_is_for_whoever_asked(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    created = post_file(client, tokens.alice, "files", owners)
    item = created.headers["Location"]
    answers = [
        created,
        client.get(item, headers=tokens.alice),
        client.get(item, headers=tokens.bob),
        client.get(item),
        client.get("/media/files", headers=tokens.alice),
        client.get("/media/files?sort=nothing", headers=tokens.alice),
        client.patch(item, json={"title": "Lines"}, headers=tokens.alice),
        client.post(f"{item}/link", headers=tokens.alice),
        client.get(
            f"/media/stats?referenceType=user&referenceId={owners.user}", headers=tokens.alice
        ),
        client.get("/media/health"),
    ]
    for answer in answers:
        assert answer.is_json
        assert answer.headers.getlist("Cache-Control") == ["private, no-store"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_local_files_are_not_for_everybody_on_the_machine(tmp_path: Path, umask: int) -> None:
    root = tmp_path / "media" / "files"
    LocalStorage(root).put(new_key(new_id()), [b"bytes"])
    modes = {path.is_file(): path.stat().st_mode & 0o777 for path in (root, *root.rglob("*"))}
    assert modes == {True: 0o640 & ~umask, False: 0o750 & ~umask}


@pytest.mark.parametrize(
    ("config", "setting"),
    [
        ({"DUALMEDIA_LINK_KEYS": ["x" * 32, "short"]}, "DUALMEDIA_LINK_KEYS"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY"),
        ({"SECRET_KEY_FALLBACKS": ["short"]}, "SECRET_KEY_FALLBACKS"),
        ({"SECRET_KEY": "x" * 32, "SECRET_KEY_FALLBACKS": ["short"]}, "SECRET_KEY_FALLBACKS"),
        ({"JWT_SECRET_KEY": "short"}, "JWT_SECRET_KEY"),
    ],
)
def test_a_short_key_of_links_is_warned_of(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture, config: dict[str, object], setting: str
) -> None:
    make_app("mongo", **config)
    warnings = [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{setting}, which signs links, is shorter than 32 bytes")
    assert "short," not in warnings[0]


def test_a_key_of_thirty_two_bytes_is_long_enough(
    make_app: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    make_app("mongo", DUALMEDIA_LINK_KEYS=[b"x" * 32, "y" * 32])
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
