"""Variants go where all media goes when the mode is changed, or are left behind."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask

from flask_dualmedia import MediaStorage, delete_media
from flask_dualmedia.homes.base import AnyHome
from flask_dualmedia.models import MediaVariant
from flask_dualmedia.state import get_state

from ..conftest import MakeApp
from ..faults.transfer import homes, transfer
from .test_variants import CONTENT, keep, save


class Change(t.NamedTuple):
    """A deployment with one file and its variant, which changes its mode."""

    source: Flask
    target: Flask
    to: str
    left: AnyHome
    reached: AnyHome
    original: MediaStorage
    variant: MediaVariant


@pytest.fixture
def change(make_app: MakeApp, emptied_url: str, mode: str) -> Change:
    """From each mode to the other."""
    config = {"DUALMEDIA_AUTO_DRAIN": False, "SQLALCHEMY_DATABASE_URI": emptied_url}
    dual, mongo = make_app("dual", **config), make_app("mongo", **config)
    in_sql, in_mongo = homes(dual)
    source, target, to, left, reached = dual, mongo, "mongo", in_sql, in_mongo
    if mode == "mongo":
        source, target, to, left, reached = mongo, dual, "sql", in_mongo, in_sql
    with source.app_context():
        original = save()
    return Change(source, target, to, left, reached, original, keep(get_state(source), original))


def test_they_are_transferred(change: Change) -> None:
    assert "Both hold the same" in transfer(change.source, change.to)
    found = change.reached.repository.get(MediaVariant, change.variant.id)
    assert found.values() == change.variant.values()
    content = change.reached.storage.open(found.storage_key, 0, len(CONTENT))
    assert b"".join(content) == CONTENT

    transfer(change.target, change.to, "--delete-source", "--yes")
    assert [*change.left.storage.keys()] == []
    assert change.left.repository.count(MediaVariant) == 0


def test_they_are_left_behind_if_somebody_says_so(change: Change) -> None:
    assert "Both hold the same" in transfer(change.source, change.to, "--without-variants")
    assert [*change.reached.storage.keys()] == [change.original.storage_key]
    transfer(change.target, change.to, "--delete-source", "--yes", "--without-variants")
    assert [*change.left.storage.keys()] == []
    assert change.left.repository.count(MediaVariant) == 0
    assert change.reached.repository.get(MediaStorage, change.original.id)


def test_those_left_behind_are_deleted_only_if_somebody_says_so(change: Change) -> None:
    transfer(change.source, change.to, "--without-variants")
    output = transfer(change.target, change.to, "--delete-source", "--yes", code=1)
    assert "was not deleted" in output
    assert change.left.repository.get(MediaVariant, change.variant.id)


def test_what_was_made_there_gives_way_to_what_is_transferred(change: Change) -> None:
    """The app ran on the target before, and made the same variant there."""
    transfer(change.source, change.to, "--without-variants")
    keep(get_state(change.target), change.original, home=change.reached)
    assert "Both hold the same" in transfer(change.source, change.to)
    expected = {change.original.storage_key, change.variant.storage_key}
    assert {*change.reached.storage.keys()} == expected


def test_a_mirror_deletes_those_that_were_deleted(change: Change) -> None:
    with change.source.app_context():
        other = save()
        keep(get_state(change.source), other)
    transfer(change.source, change.to)
    with change.source.app_context():
        delete_media(MediaStorage, change.original.id)
    assert "do not hold the same" in transfer(change.source, change.to, code=1)
    output = transfer(change.source, change.to, "--mirror", "--force", "--expect", "2")
    assert "Both hold the same" in output
    assert len([*change.reached.storage.keys()]) == 2
    assert change.reached.repository.count(MediaVariant) == 1
