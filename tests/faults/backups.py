"""Copies of both databases, made and put back as backups are: each at a time of its own."""

from __future__ import annotations

import hashlib
import typing as t

import sqlalchemy as sa
from flask import Flask

from flask_dualmedia import dump_media, open_media
from flask_dualmedia.models import AVAILABLE, KINDS, Base
from flask_dualmedia.state import get_state
from flask_dualmedia.upkeep.transfer import records_of

Documents = dict[str, list[dict[str, t.Any]]]
Rows = dict[str, list[dict[str, t.Any]]]


def copy_of_mongo(app: Flask) -> Documents:
    """All documents of all collections."""
    mongo = get_state(app).mongo
    return {name: [*mongo[name].find()] for name in mongo.list_collection_names()}


def restore_mongo(app: Flask, backup: Documents, *, without: t.Collection[str] = ()) -> None:
    """Make MongoDB what it was.

    :param without: Collections that are not restored yet.
    """
    mongo = get_state(app).mongo
    for name in {*mongo.list_collection_names(), *backup}:
        mongo[name].delete_many({})
        documents = [] if name in without else backup.get(name, [])
        if documents:
            mongo[name].insert_many(documents)


def copy_of_sql(app: Flask) -> Rows:
    """All rows of our tables, by a transaction that sees one moment, as pg_dump does."""
    engine = get_state(app).engine
    assert engine is not None
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        return {
            name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            for name, table in Base.metadata.tables.items()
        }


def restore_sql(app: Flask, backup: Rows, *, without: t.Collection[str] = ()) -> None:
    """Make SQL what it was.

    :param without: Tables that are not restored yet.
    """
    engine = get_state(app).engine
    assert engine is not None
    with engine.begin() as connection:
        for name, table in Base.metadata.tables.items():
            connection.execute(sa.delete(table))
            rows = [] if name in without else backup[name]
            if rows:
                connection.execute(sa.insert(table), rows)


def everything(app: Flask) -> dict[str, tuple[dict[str, t.Any], str]]:
    """All media that readers see: the record as on the wire, and the SHA-256 of its content, by
    URL."""
    found = {}
    state = get_state(app)
    with app.app_context(), app.test_request_context():
        for kind in KINDS.values():
            for record in records_of(state.repository, kind):
                if record.state != AVAILABLE:
                    continue
                content = b"".join(open_media(record)) if record.storage_key else b""
                found[f"{kind.kind}/{record.id}"] = (
                    dump_media(record),
                    hashlib.sha256(content).hexdigest(),
                )
    return found
