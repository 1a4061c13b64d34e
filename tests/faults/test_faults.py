"""Kill -9 at every step of every operation, then one repair.

No process that is killed between two writes may leave records without bytes, a replacement that
loses both files, a repair that deletes living media, or two databases that disagree.

The processes are real, and so is the signal. A step that an operation does not reach fails the
test, because then the process ends by itself.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import re
import shutil
import tempfile
import threading
import time
import typing as t
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pymongo
import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import encode_multipart

import flask_dualmedia
from flask_dualmedia import (
    DatabaseUnavailable,
    MediaNotFound,
    MediaStorage,
    delete_media,
    get_media,
    get_media_by_reference,
    lifecycle,
    open_media,
    save_media_storage,
    variant_url,
)
from flask_dualmedia.content.uploads import Upload
from flask_dualmedia.databases.documents import Documents
from flask_dualmedia.databases.leases import COLLECTION as LEASES
from flask_dualmedia.homes.base import Home
from flask_dualmedia.homes.mongo import journal_home, mongo_home
from flask_dualmedia.homes.sql import sql_home
from flask_dualmedia.models import TABLES, MediaRecord
from flask_dualmedia.state import get_state
from flask_dualmedia.upkeep.transfer import manifest, records_of
from flask_dualmedia.uploads import staging

from .. import samples
from ..conftest import BASE_CONFIG, MakeApp, StorageOptions
from ..tools import chaos
from ..upkeep.test_variants import CARD_AS_JPEG
from ..upkeep.test_variants import keep as keep_variant
from ..waiting import eventually
from .child import IN_MID_BODY, NEW_CONTENT, OLD_CONTENT, OWNER, PAGE, SIZE, Nursery
from .servers import bearer

pytestmark = pytest.mark.long

COPYING = ["copy:piece", "copy:piece*20", "copy:bytes", "copy:record"]

STEPS = {
    "save": ["create:begin", "create:pending", IN_MID_BODY, "create:bytes", "create:available"],
    "save external": ["create:external"],
    "replace": [
        "replace:begin",
        IN_MID_BODY,
        "replace:bytes",
        "replace:committed",
        "replace:cleaned",
    ],
    "variant": [
        "variant:begin",
        "variant:rendered",
        "variant:pending",
        "variant:bytes",
        "variant:available",
    ],
    "replace, of variants": ["variant:marked", "sweep:bytes", "sweep:done", "replace:variants"],
    "delete, of variants": ["delete:marked", "variant:marked", "sweep:bytes", "sweep:done"],
    "delete": ["delete:begin", "delete:marked", "delete:bytes", "delete:done"],
    "drain": [
        "drain:claim",
        "drain:copy",
        *COPYING,
        "drain:copied",
        "drain:bytes-deleted",
        "drain:done",
    ],
    "gather": ["copy:piece*3", "gather:copied"],
    "drain of a deletion": ["forget:bytes"],
    "transfer": COPYING,
    "transfer --delete-source": ["clear:bytes", "clear:bytes*2"],
    "transfer --mirror": ["mirror:bytes"],
    "check --repair --grace 0": ["repair:looked", "sweep:bytes", "sweep:done"],
    "check --repair --grace 0, into the trash": ["trash:marked"],
    "sweep --grace 0 --yes": ["sweep:bytes", "sweep:done"],
    "direct": ["direct:pending", "direct:checked", "direct:available"],
    "tus": [
        "tus:part*2",
        "tus:committed",
        "tus:attempt",
        "tus:media",
        "tus:finished",
        "tus:cleaned",
    ],
    "tus join": ["tus:joined"],
    "tus remove": ["tus:removing", "tus:removed"],
    "move --from database --to local": [
        "move:piece*5",
        "move:copied",
        "move:switched",
        "move:variants",
        "move:done",
    ],
}

BETWEEN = {
    "change:checked",
    "create:answered",
    "create:whole",
    "fetch:answered",
    "journal:known",
    "journal:look",
    "list:journal",
    "place:main",
    "quota:sum",
    "replace:answered",
    "replace:whole",
    "verify:piece",
    "watch",
}
"""Steps before or behind one statement, or while something is read: nothing is half done there.
Tests do something else in between."""

NOWHERE = "postgresql+psycopg://nobody@127.0.0.1:1/none"
"""Nothing listens there: SQL is down."""


def test_every_step_is_in_the_matrix():
    """A step that is added to the source must be added here too."""
    source = "".join(
        path.read_text() for path in Path(flask_dualmedia.__file__).parent.rglob("*.py")
    )
    reached = set(re.findall(r'reach\("([^"]+)"\)', source))
    tried = {step.partition("*")[0] for steps in STEPS.values() for step in steps}
    assert reached - BETWEEN == tried - {IN_MID_BODY}


class Deployment:
    """The databases of one test, an app on them, and processes that work on them and die."""

    def __init__(self, nursery: Nursery, make_app: MakeApp, mongo_uri: str, sql_url: str) -> None:
        self._nursery, self._make_app, self._mongo_uri, self.sql_url = (
            nursery,
            make_app,
            mongo_uri,
            sql_url,
        )
        self.config: dict[str, t.Any] = {}
        """Settings beside those of the mode."""

    def app(self, mode: str) -> Flask:
        """An app in the mode ``dual``, ``mongo`` or ``degraded``. No app drains by itself: tests
        say when."""
        return self._make_app("mongo" if mode == "mongo" else "dual", **self._config(mode))

    def _config(self, mode: str) -> dict[str, t.Any]:
        url = NOWHERE if mode == "degraded" else self.sql_url
        config = {
            "SQLALCHEMY_DATABASE_URI": url,
            "DUALMEDIA_AUTO_DRAIN": False,
            "DUALMEDIA_AUTO_UPGRADE": False,
        }
        config["DUALMEDIA_TRASH_SECONDS"] = 0
        return config | self.config

    def kill(self, mode: str, step: str, operation: str, *args: str) -> None:
        """Run an operation in a process that dies at a step."""
        config = (
            BASE_CONFIG
            | self._config(mode)
            | {"MONGO_URI": self._mongo_uri, "DB_ENABLED": mode != "mongo"}
        )
        environment = {f"CHILD_{name}": value if isinstance(value, str) else json.dumps(value)
                       for name, value in config.items()}  # fmt: skip
        code, log = self._nursery.bear(
            environment | {"DUALMEDIA_FAILPOINT": step}, operation, *args
        )
        assert code == -9, f"{step} was not reached: {log}"


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def deployment(
    nursery: Nursery, make_app: MakeApp, mongo_uri: str, migrated_url: str
) -> Deployment:
    return Deployment(nursery, make_app, mongo_uri, migrated_url)


def save(app: Flask, content: bytes) -> uuid.UUID:
    with app.app_context():
        return save_media_storage("page", OWNER, io.BytesIO(content)).id


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def contents(app: Flask) -> dict[uuid.UUID, str]:
    """The checksum of the bytes of every record that readers see, by its id. External media has the
    URL."""
    found = {}
    with app.app_context():
        for record in get_media_by_reference("page", OWNER):
            assert get_media(MediaStorage, record.id).values() == record.values()
            found[record.id] = (
                record.url if record.storage_key is None else digest(b"".join(open_media(record)))
            )
    return found


def repair(app: Flask) -> None:
    """One repair; after that nothing may be wrong, and nothing may be left that no record names.

    What was deleted is still an empty row that keeps its id taken. One sweep takes that away.
    """
    state, runner = get_state(app), app.test_cli_runner()
    # The dead process may have held the lease of the drain: spare the test the seconds until that
    # runs out.
    state.mongo[LEASES].update_many({}, {"$set": {"expires": datetime(2000, 1, 1, tzinfo=UTC)}})
    runner.invoke(args=["dualmedia", "check", "--grace", "0"])  # nothing is taken away on one look
    repaired = runner.invoke(args=["dualmedia", "check", "--repair", "--grace", "0"])
    assert repaired.exit_code == 0, repaired.output
    checked = runner.invoke(args=["dualmedia", "check", "--verify-bytes", "--grace", "0"])
    assert checked.exit_code == 0, repaired.output + checked.output
    for home in state.homes:
        records = all_records(home)
        there = [
            record for record in records if (record.state, record.storage_key) != ("deleting", None)
        ]
        assert {record.state for record in there} <= {"available"}
        named = {record.storage_key for record in there if record.storage_type == "database"}
        assert set(home.storage.keys()) == named
        if home.name == "journal":
            assert records == []
            assert state.mongo["media_journal.chunks"].count_documents({}) == 0
    swept = runner.invoke(args=["dualmedia", "sweep", "--grace", "0", "--yes"])
    assert swept.exit_code == 0, swept.output
    assert {record.state for home in state.homes for record in all_records(home)} <= {"available"}


def all_records(home: Home) -> list[MediaRecord]:
    return [record for kind in TABLES.values() for record in records_of(home.repository, kind)]


MODES = ["dual", "mongo", "degraded"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("step", STEPS["save"])
def test_killed_upload(deployment: Deployment, mode: str, step: str):
    """Old media is whole. Media that was not acknowledged is invisible or complete, never half
    there."""
    kept = save(deployment.app(mode), OLD_CONTENT)
    deployment.kill(mode, step, "save")
    app = deployment.app("mongo" if mode == "mongo" else "dual")
    for _ in ("before the repair", "after it"):
        found = contents(app)
        assert found.pop(kept) == digest(OLD_CONTENT)
        assert list(found.values()) == ([digest(NEW_CONTENT)] if step == "create:available" else [])
        repair(app)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("step", STEPS["save external"])
def test_killed_creation_of_external_media(deployment: Deployment, mode: str, step: str):
    deployment.app(mode)
    deployment.kill(mode, step, "save external")
    app = deployment.app("mongo" if mode == "mongo" else "dual")
    repair(app)
    assert list(contents(app).values()) == ["https://cdn.example/a"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("step", STEPS["replace"])
def test_killed_replacement(deployment: Deployment, mode: str, step: str):
    """Readers get the old bytes or the new ones, whole, at every moment."""
    media_id = save(deployment.app(mode), OLD_CONTENT)
    deployment.kill(mode, step, "replace", str(media_id))
    app = deployment.app("mongo" if mode == "mongo" else "dual")
    committed = step in ("replace:committed", "replace:cleaned")
    for _ in ("before the repair", "after it"):
        assert contents(app) == {media_id: digest(NEW_CONTENT if committed else OLD_CONTENT)}
        repair(app)


@pytest.mark.parametrize("mode", ["dual", "mongo"])
def test_killed_making_of_a_variant(
    deployment: Deployment, mode: str, storage_options: StorageOptions
):
    """Wherever it stops, it is made by the next who ask for it, and one is left."""
    deployment.config["DUALMEDIA_STORAGES"] = storage_options("local")
    deployment.config["DUALMEDIA_DEFAULT_STORAGE"] = {"files": "local"}
    app = deployment.app(mode)
    state = get_state(app)
    for step in STEPS["variant"]:
        media_id = save(app, samples.png(400, 300))
        deployment.kill(mode, step, "variant", str(media_id))
        with app.app_context():
            url = variant_url(get_media(MediaStorage, media_id), "thumb")

        def is_made(url: str = url) -> bool:
            # The lease of the process that was killed has to run out.
            answer = app.test_client().get(url, headers=samples.bearer(app, "admin", role="admin"))
            assert answer.status_code in (200, 503), answer.text
            return answer.status_code == 200

        eventually(is_made)
        repair(app)
        (variant,) = state.repository.variants_of([media_id])
        assert variant.state == "available"
        assert is_made()
        with app.app_context():
            delete_media(MediaStorage, media_id)
        repair(app)
        assert list(state.storages["local"].keys()) == []


def keep_variants(app: Flask, media_id: uuid.UUID) -> None:
    """Keep two variants of a file: one in the database, and one in the storage ``local``."""
    state = get_state(app)
    with app.app_context():
        original = get_media(MediaStorage, media_id)
    keep_variant(state, original)
    keep_variant(state, original, CARD_AS_JPEG, storage_type="local")


@pytest.mark.parametrize("mode", ["dual", "mongo"])
@pytest.mark.parametrize("operation", ["replace", "delete"])
def test_killed_removal_of_variants(
    deployment: Deployment, mode: str, operation: str, storage_options: StorageOptions
):
    """Wherever it stops, what is left goes with one repair, and variants of others stay."""
    deployment.config["DUALMEDIA_STORAGES"] = storage_options("local")
    app = deployment.app(mode)
    state = get_state(app)
    other = save(app, OLD_CONTENT)
    keep_variants(app, other)
    for step in STEPS[f"{operation}, of variants"]:
        media_id = save(app, OLD_CONTENT)
        keep_variants(app, media_id)
        deployment.kill(mode, step, operation, str(media_id))
        expected = {other: digest(OLD_CONTENT)}
        if operation == "replace":
            expected[media_id] = digest(NEW_CONTENT)
        assert contents(app) == expected
        repair(app)
        assert contents(app) == expected
        assert len(state.repository.variants_of([other])) == 2
        assert state.repository.variants_of([media_id]) == []
        assert len(list(state.storages["local"].keys())) == 1
        with app.app_context():
            if operation == "replace":
                delete_media(MediaStorage, media_id)


# While SQL is down a deletion goes as far as its mark: whether SQL holds something of it, nobody
# knows then.
@pytest.mark.parametrize(
    ("mode", "step"),
    [*product(MODES, STEPS["delete"][:2]), *product(["dual", "mongo"], STEPS["delete"][2:])],
)
def test_killed_deletion(deployment: Deployment, mode: str, step: str):
    """The media is there and whole, or gone for everybody."""
    app = deployment.app(mode)
    media_id, other = save(app, OLD_CONTENT), save(app, NEW_CONTENT)
    deployment.kill(mode, step, "delete", str(media_id))
    app = deployment.app("mongo" if mode == "mongo" else "dual")
    expected = {media_id: digest(OLD_CONTENT)} if step == "delete:begin" else {}
    for _ in ("before the repair", "after it"):
        assert contents(app) == expected | {other: digest(NEW_CONTENT)}
        repair(app)
    if not expected:
        with app.app_context(), pytest.raises(MediaNotFound):
            get_media(MediaStorage, media_id)


@pytest.mark.parametrize("step", STEPS["drain"])
def test_killed_drain(deployment: Deployment, step: str):
    """A record is in the journal or in SQL, and readers find it once and whole in either."""
    degraded = deployment.app("degraded")
    saved = {
        save(degraded, OLD_CONTENT): digest(OLD_CONTENT),
        save(degraded, NEW_CONTENT): digest(NEW_CONTENT),
    }
    deployment.kill("dual", step, "drain")
    app = deployment.app("dual")
    assert contents(app) == saved
    repair(app)
    assert contents(app) == saved
    again = app.test_cli_runner().invoke(args=["dualmedia", "drain"])
    assert again.output == "Moved 0 record(s); 0 had been moved before.\n"


@pytest.mark.parametrize("step", STEPS["gather"])
def test_killed_gathering(deployment: Deployment, step: str):
    """Bytes that wait in the journal for their record in SQL are found, and once in the end."""
    app = deployment.app("dual")
    saved = {save(app, OLD_CONTENT): digest(OLD_CONTENT)}
    sql, journal = get_state(app).homes
    (key,) = sql.storage.keys()
    journal.storage.put(key, sql.storage.open(key, 0, len(OLD_CONTENT)))
    sql.storage.delete(key)
    deployment.kill("dual", step, "drain")
    assert contents(app) == saved
    repair(app)
    assert contents(app) == saved
    assert [*journal.storage.keys()] == []


@pytest.mark.parametrize("step", STEPS["drain of a deletion"])
def test_killed_drain_of_a_deletion(deployment: Deployment, step: str):
    """Media that was deleted while SQL was down stays away, wherever its deletion stops."""
    degraded = deployment.app("degraded")
    deleted, kept = save(degraded, OLD_CONTENT), save(degraded, NEW_CONTENT)
    with degraded.app_context():
        delete_media(MediaStorage, deleted)
    deployment.kill("dual", step, "drain")
    app = deployment.app("dual")
    for _ in ("before the repair", "after it"):
        assert contents(app) == {kept: digest(NEW_CONTENT)}
        repair(app)


@pytest.mark.parametrize("step", STEPS["drain"])
def test_media_deleted_while_a_killed_drain_has_left_two_copies_of_it(
    deployment: Deployment, step: str
):
    """Deleted media does not come back from the copy."""
    media_id = save(deployment.app("degraded"), OLD_CONTENT)
    deployment.kill("dual", step, "drain")
    app = deployment.app("dual")
    try:
        with app.app_context():
            delete_media(MediaStorage, media_id)
    except DatabaseUnavailable:  # it is being moved: "try again in a moment"
        repair(app)
        with app.app_context():
            delete_media(MediaStorage, media_id)
    assert contents(app) == {}
    repair(app)
    assert contents(app) == {}


def test_outage_after_a_killed_drain_has_left_two_copies(deployment: Deployment):
    """The copy in the journal is not shown for media that SQL has: it may have been changed there
    since."""
    media_id = save(deployment.app("degraded"), OLD_CONTENT)
    deployment.kill("dual", "drain:copied", "drain")
    app = deployment.app("dual")
    with app.app_context():
        lifecycle.replace(
            get_state(app), get_media(MediaStorage, media_id), Upload(io.BytesIO(NEW_CONTENT))
        )
    degraded = deployment.app("degraded")
    with degraded.app_context():
        with pytest.raises(DatabaseUnavailable):
            get_media(MediaStorage, media_id)
        listed = get_media_by_reference("page", OWNER)
        assert (listed, listed.partial) == ([], True)
    repair(app)
    assert contents(app) == {media_id: digest(NEW_CONTENT)}


@pytest.mark.parametrize("to", ["sql", "mongo"])
@pytest.mark.parametrize("step", STEPS["transfer"])
def test_killed_transfer(deployment: Deployment, to: str, step: str):
    """The source stays whole, the same command goes on, and then both hold the same."""
    before, after = ("mongo", "dual") if to == "sql" else ("dual", "mongo")
    source = deployment.app(before)
    saved = {
        save(source, OLD_CONTENT): digest(OLD_CONTENT),
        save(source, NEW_CONTENT): digest(NEW_CONTENT),
    }
    deployment.kill(before, step, f"transfer --to {to}")
    repair(source)
    assert contents(source) == saved
    result = source.test_cli_runner().invoke(args=["dualmedia", "transfer", "--to", to])
    assert result.exit_code == 0, result.output
    target = deployment.app(after)
    repair(target)
    assert contents(target) == contents(source) == saved
    sql = sql_home(get_state(deployment.app("dual")).engine)  # type: ignore[arg-type]
    mongo = mongo_home(get_state(target).mongo)
    assert manifest(sql.repository) == manifest(mongo.repository)


@pytest.mark.parametrize("to", ["sql", "mongo"])
@pytest.mark.parametrize("step", STEPS["transfer --delete-source"])
def test_killed_deletion_of_the_source(deployment: Deployment, to: str, step: str):
    """The same command goes on with the deletion; the target is never touched."""
    before, after = ("mongo", "dual") if to == "sql" else ("dual", "mongo")
    source = deployment.app(before)
    saved = {
        save(source, OLD_CONTENT): digest(OLD_CONTENT),
        save(source, NEW_CONTENT): digest(NEW_CONTENT),
    }
    runner = deployment.app(after).test_cli_runner()
    assert runner.invoke(args=["dualmedia", "transfer", "--to", to]).exit_code == 0
    deployment.kill(after, step, f"transfer --to {to} --delete-source --yes")
    target = deployment.app(after)
    assert contents(target) == saved
    result = target.test_cli_runner().invoke(
        args=["dualmedia", "transfer", "--to", to, "--delete-source", "--yes"]
    )
    assert result.exit_code == 0, result.output
    repair(target)
    assert contents(target) == saved
    old = (
        sql_home(get_state(deployment.app("dual")).engine)  # type: ignore[arg-type]
        if to == "mongo"
        else mongo_home(get_state(target).mongo)
    )
    assert all_records(old) == []
    assert list(old.storage.keys()) == []


@pytest.mark.parametrize("to", ["sql", "mongo"])
@pytest.mark.parametrize("step", STEPS["transfer --mirror"])
def test_killed_mirroring(deployment: Deployment, to: str, step: str):
    before, after = ("mongo", "dual") if to == "sql" else ("dual", "mongo")
    source = deployment.app(before)
    kept, deleted = save(source, OLD_CONTENT), save(source, NEW_CONTENT)
    runner = source.test_cli_runner()
    assert runner.invoke(args=["dualmedia", "transfer", "--to", to]).exit_code == 0
    with source.app_context():
        delete_media(MediaStorage, deleted)
    deployment.kill(before, step, f"transfer --to {to} --mirror")
    target = deployment.app(after)
    for _ in ("before the repair", "after it"):
        assert contents(target) == {kept: digest(OLD_CONTENT)}
        repair(target)
    assert runner.invoke(args=["dualmedia", "transfer", "--to", to, "--mirror"]).exit_code == 0


@pytest.mark.parametrize("mode", ["dual", "mongo"])
@pytest.mark.parametrize("step", STEPS["check --repair --grace 0"])
def test_killed_repair(deployment: Deployment, mode: str, step: str):
    """A repair may die as well."""
    app = deployment.app(mode)
    kept = save(app, OLD_CONTENT)
    deployment.kill(mode, "create:bytes", "save")
    app.test_cli_runner().invoke(args=["dualmedia", "check", "--grace", "0"])
    deployment.kill(mode, step, "check --repair --grace 0")
    repair(app)
    assert contents(app) == {kept: digest(OLD_CONTENT)}


@pytest.mark.parametrize("mode", ["dual", "mongo"])
@pytest.mark.parametrize("step", STEPS["check --repair --grace 0, into the trash"])
def test_killed_repair_that_puts_media_into_the_trash(deployment: Deployment, mode: str, step: str):
    """Media that a repair took away before it died can be brought back."""
    app = deployment.app(mode)
    lost, kept = save(app, OLD_CONTENT), save(app, NEW_CONTENT)
    storage, runner = get_state(app).storages["database"], app.test_cli_runner()
    with app.app_context():
        key = t.cast(str, get_media(MediaStorage, lost).storage_key)
    storage.delete(key)
    runner.invoke(args=["dualmedia", "check", "--grace", "0"])
    deployment.kill(mode, step, "check --repair --grace 0")
    assert contents(app) == {kept: digest(NEW_CONTENT)}
    storage.put(key, iter([OLD_CONTENT]))
    assert runner.invoke(args=["dualmedia", "check", "--restore", str(lost)]).exit_code == 0
    for _ in ("before the repair", "after it"):
        assert contents(app) == {lost: digest(OLD_CONTENT), kept: digest(NEW_CONTENT)}
        repair(app)


@pytest.mark.parametrize("mode", ["dual", "mongo"])
@pytest.mark.parametrize("step", STEPS["sweep --grace 0 --yes"])
def test_killed_sweep(deployment: Deployment, mode: str, step: str):
    """A sweep may die as well."""
    app = deployment.app(mode)
    kept = save(app, OLD_CONTENT)
    deployment.kill(mode, "create:bytes", "save")
    deployment.kill(mode, step, "sweep --grace 0 --yes")
    repair(app)
    assert contents(app) == {kept: digest(OLD_CONTENT)}


@pytest.mark.parametrize(
    ("mode", "step"), list(zip(["mongo", "degraded", "dual"], STEPS["direct"], strict=True))
)
def test_killed_direct_upload(
    deployment: Deployment, mode: str, step: str, storage_options: StorageOptions
):
    """The client confirms the upload, again or on another server, or it is taken away with its
    bytes."""
    deployment.config |= {
        "DUALMEDIA_STORAGES": storage_options("s3"),
        "DUALMEDIA_ALLOWED_STORAGES": ["s3"],
    }
    deployment.app(mode)
    deployment.kill(mode, step, "direct")
    app = deployment.app("mongo" if mode == "mongo" else "dual")
    state = get_state(app)
    [record] = state.repository.scan(MediaStorage, None, 2)
    expected = {}
    if step != "direct:pending":
        path, token = f"/media/files/direct-uploads/{record.id}", samples.bearer(app, OWNER)
        assert app.test_client().post(path, headers=token).status_code == 201
        expected = {record.id: digest(NEW_CONTENT)}
    for _ in ("before the repair", "after it"):
        assert contents(app) == expected
        repair(app)
    assert len(list(state.storages["s3"].keys())) == len(expected)


# Each step in one mode: they are the same in both, and processes take their time.
@pytest.mark.parametrize(
    ("mode", "step"),
    [*zip(["mongo", "dual"] * 3, STEPS["tus"], strict=True), ("dual", "create:pending")],
)
def test_killed_resumable_upload(deployment: Deployment, mode: str, step: str):
    """The client goes on where the killed worker was, and makes the record once."""
    app = deployment.app(mode)
    deployment.kill(mode, step, "tus")
    url, tus = left_by_killed(app), samples.Tus(app.test_client(), samples.bearer(app, OWNER))
    offset = int(tus.head(url).headers["Upload-Offset"])
    assert offset == (SIZE if step in ("tus:finished", "tus:cleaned") else SIZE // 2)
    if offset < SIZE:
        assert tus.patch(url, offset, NEW_CONTENT[offset:]).status_code == 204
    head = tus.head(url)
    for _ in ("before the repair", "after it"):
        assert contents(app) == {
            uuid.UUID(head.headers["Content-Location"][-36:]): digest(NEW_CONTENT)
        }
        repair(app)


def test_killed_concatenation(deployment: Deployment):
    """A client that asks again gets the same media."""
    app = deployment.app("dual")
    deployment.kill("dual", "tus:joined", "tus join")
    state, tus = get_state(app), samples.Tus(app.test_client(), samples.bearer(app, OWNER))
    left_by_killed(app)
    partials = state.mongo[staging.COLLECTION].find({"concat": "partial"}).sort("_id")
    joined = "final;" + " ".join(f"/media/uploads/{document['_id']}" for document in partials)
    for _ in range(2):
        answer = tus.create(None, Upload_Metadata=samples.encoded(PAGE), Upload_Concat=joined)
        assert answer.status_code == 201
        assert contents(app) == {
            uuid.UUID(answer.headers["Content-Location"][-36:]): digest(NEW_CONTENT)
        }
    repair(app)


@pytest.mark.parametrize(
    ("mode", "step"), list(zip(["dual", "mongo"], STEPS["tus remove"], strict=True))
)
def test_killed_removal_of_a_resumable_upload(deployment: Deployment, mode: str, step: str):
    app = deployment.app(mode)
    deployment.kill(mode, step, "tus remove")
    state = get_state(app)
    if step == "tus:removing":
        url, tus = left_by_killed(app), samples.Tus(app.test_client(), samples.bearer(app, OWNER))
        assert tus.head(url).status_code == 410
    repair(app)
    assert state.mongo[staging.COLLECTION].count_documents({}) == 0


def left_by_killed(app: Flask) -> str:
    """Path of the upload of a killed process. It is spared the seconds until the lock runs out."""
    uploads = get_state(app).mongo[staging.COLLECTION]
    uploads.update_many({}, {"$set": {"lock": None}})
    document = uploads.find_one({})
    assert document is not None
    return f"/media/uploads/{document['_id']}"


@pytest.mark.parametrize(
    ("mode", "step"),
    [*product(["dual"], STEPS["move --from database --to local"]), ("mongo", "move:switched")],
)
def test_killed_move(deployment: Deployment, mode: str, step: str, storage_options: StorageOptions):
    """The bytes are where the record says, whole, at every moment; the same command goes on."""
    deployment.config["DUALMEDIA_STORAGES"] = storage_options("local")
    app = deployment.app(mode)
    saved = {
        save(app, OLD_CONTENT): digest(OLD_CONTENT),
        save(app, NEW_CONTENT): digest(NEW_CONTENT),
    }
    for media_id in saved:
        with app.app_context():
            keep_variant(get_state(app), get_media(MediaStorage, media_id))
    deployment.kill(mode, step, "move --from database --to local")
    assert contents(app) == saved
    result = app.test_cli_runner().invoke(
        args=["dualmedia", "move", "--from", "database", "--to", "local"]
    )
    assert result.exit_code == 0, result.output
    assert contents(app) == saved
    repair(app)
    assert contents(app) == saved
    with app.app_context():
        records = get_media_by_reference("page", OWNER)
    # A variant whose original was just moved may be left out: it is made again.
    variants = get_state(app).repository.variants_of([record.id for record in records])
    assert len(variants) == len(records) - (step == "move:switched")
    there = [*records, *variants]
    assert {record.storage_type for record in there} == {"local"}
    assert set(get_state(app).storages["local"].keys()) == {record.storage_key for record in there}


def test_the_journal_keeps_what_its_target_would_not_take(deployment: Deployment):
    """Bytes that are damaged in the journal are not moved, not deleted, and reported."""
    degraded = deployment.app("degraded")
    media_id = save(degraded, OLD_CONTENT)
    journal = journal_home(get_state(degraded).mongo)
    get_state(degraded).mongo["media_journal.chunks"].update_one(
        {"n": 3}, {"$set": {"data": b"\0" * 262144}}
    )
    app = deployment.app("dual")
    result = app.test_cli_runner().invoke(args=["dualmedia", "drain"])
    assert result.exit_code != 0
    assert [record.id for record in all_records(journal)] == [media_id]
    assert len(list(journal.storage.keys())) == 1
    checked = app.test_cli_runner().invoke(
        args=["dualmedia", "check", "--verify-bytes", "--grace", "0"]
    )
    assert checked.exit_code == 1
    assert "checksum_wrong" in checked.output


OUTAGE = 4.0
"""Seconds that PostgreSQL is down."""


def test_postgres_is_killed_under_load():
    """Eight clients go on while PostgreSQL is killed and comes back. Whatever was answered with 2xx
    is there in the end, once; media that SQL holds is unavailable in between, never missing."""
    # pytest's folders are closed to PostgreSQL.
    directory = Path(tempfile.mkdtemp(prefix="dualmedia-killed-"))
    totals, until = chaos.Totals(), threading.Event()
    with chaos.Deployment(directory) as deployment:
        port = deployment.workers.port
        held = Uploader(99, port, totals, until)
        held.upload(200_000)
        statuses: Counter[int] = Counter()
        clients = [Uploader(number, port, totals, until) for number in range(chaos.CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(3)
        deployment.postgres.kill()
        killed = time.monotonic()
        while time.monotonic() - killed < OUTAGE:
            asked = time.monotonic()
            statuses[held.read(*held.saved[0])] += 1
            assert time.monotonic() - asked < 4
        journaled = chaos.request(port, "GET", "/media/health", {}).json
        deployment.postgres.start()
        time.sleep(3)
        until.set()
        for client in clients:
            client.join(chaos.REQUEST_TIMEOUT)
        assert set(statuses) == {503}
        assert journaled["degraded"]
        assert journaled["journal"] > 0
        deployment.wait_until_settled()
        saved = [upload for client in (*clients, held) for upload in client.saved]
        assert len({path for path, _ in saved}) == len(saved) > chaos.CLIENTS
        for client in (*clients, held):
            assert [client.read(*upload) for upload in client.saved] == [200] * len(client.saved)
        assert deployment.flask("drain") == (0, "Moved 0 record(s); 0 had been moved before.\n")
        assert ids_in_both(deployment) == set()
        assert deployment.repair()[0] == 0
        code, output = deployment.flask("check", "--verify-bytes", "--grace", "0")
        assert code == 0, output
    assert totals.problems == []
    print(f"{len(saved)} uploads, {totals.answers}, reads in the outage: {statuses}")
    shutil.rmtree(directory, ignore_errors=True)


class Uploader(threading.Thread):
    """Uploads, and reads what it uploaded."""

    def __init__(
        self, number: int, port: int, totals: chaos.Totals, until: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self._port, self._totals, self._until, self._random = (
            port,
            totals,
            until,
            random.Random(number),
        )
        self._headers = bearer(f"uploader-{number}")
        self.saved: list[tuple[str, str]] = []
        """Path and checksum of what was acknowledged."""

    def run(self) -> None:
        while not self._until.is_set():
            self._totals.count(
                "upload", self.upload(self._random.choice([20_000, 300_000, 2_000_000]))
            )
            if self.saved:
                self._totals.count("read", self.read(*self._random.choice(self.saved)))
            time.sleep(0.05)

    def upload(self, size: int) -> int:
        content = self._random.randbytes(size)
        fields = {"file": samples.part(content), "referenceType": "page", "referenceId": OWNER}
        boundary, body = encode_multipart(fields)
        content_type = f"multipart/form-data; boundary={boundary}"
        answer = chaos.request(
            self._port, "POST", "/media/files", self._headers, body, content_type
        )
        if answer.status == 201:
            self.saved.append((f"/media/files/{answer.json['id']}", digest(content)))
        elif answer.status != 503:
            self._totals.complain(f"upload answered {answer.status}: {answer.body[:200]!r}")
        return answer.status

    def read(self, path: str, checksum: str) -> int:
        try:
            answer = chaos.request(self._port, "GET", f"{path}/content", self._headers)
        except chaos.Lost:  # cut off in the middle of the bytes, after the status was sent
            return 0
        if answer.status == 200 and digest(answer.body) != checksum:
            self._totals.complain(f"other bytes at {path}")
        if answer.status not in (200, 503):
            self._totals.complain(f"reading {path} answered {answer.status}")
        return answer.status


def ids_in_both(deployment: chaos.Deployment) -> set[uuid.UUID]:
    """Ids that SQL and the journal both hold."""
    engine = sa.create_engine(deployment.postgres.url, poolclass=sa.NullPool)
    with pymongo.MongoClient(deployment.mongo.uri) as client:
        documents = Documents(client, client.get_default_database().name, timeout=10, interval=1)
        journal = journal_home(documents)
        in_sql, in_journal = (
            {record.id for record in all_records(home)} for home in (sql_home(engine), journal)
        )
    return in_sql & in_journal
