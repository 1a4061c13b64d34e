"""A record that SQL does not take stands in nobody's way: it is refused at the door, or set aside
and named."""

from __future__ import annotations

import io
import math
import typing as t
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_dualmedia import (
    DatabaseUnavailable,
    InvalidMedia,
    MediaNotFound,
    MediaStorage,
    ProductImage,
    delete_media,
    get_media,
    get_media_by_reference,
    open_media,
    save_media_storage,
    save_product_images,
    update_media,
)
from flask_dualmedia.accesses.counting import Counter
from flask_dualmedia.content.mime_types import one_type
from flask_dualmedia.content.uploads import Upload
from flask_dualmedia.databases import storable
from flask_dualmedia.errors import DualMediaError, RecordRefused
from flask_dualmedia.models import KINDS, Media, now
from flask_dualmedia.state import get_state
from flask_dualmedia.upkeep.journal import drain_journal, homes_of, look_after_journal
from flask_dualmedia.upkeep.sweeping import sweep
from flask_dualmedia.upkeep.transfer import records_of

from ..conftest import MakeApp, StorageOptions
from ..samples import PDF, SAVE_FUNCTIONS, bearer, encoded, mp4, part, png, post_form
from ..tools.proxy import Proxy
from ..waiting import eventually

# Threads of the apps, MongoDB's driver among them, use the module random while values are drawn.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")

ANY_OWNER = {"DUALMEDIA_REFERENCES": {"product": None, "course": None, "user": None}}

TEXT = b"words that show no type"


# The values


def hostile_values(column: sa.Column[t.Any]) -> st.SearchStrategy[t.Any]:
    """Values at and beyond the edges of what a column can keep, and values of other types."""
    anything: list[t.Any] = [
        "",
        "x",
        "x" * 300,
        "a\0b",
        "\ud800",
        2**31,
        2**63,
        10**400,
        -1,
        True,
        None,
        1.5,
        b"bytes",
    ]
    kind = column.type
    if isinstance(kind, sa.String):
        length = kind.length or 2048
        letters = st.sampled_from(["a", "é", "😀", "\u202e"])
        edges = st.builds(
            lambda letter, more: letter * (length + more), letters, st.sampled_from([-1, 0, 1])
        )
        return edges | st.text(max_size=20) | st.sampled_from(anything)
    if isinstance(kind, sa.Integer):
        numbers = st.sampled_from(
            [2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**31), -(2**63) - 1, 0, 1]
        )
        return numbers | st.integers() | st.sampled_from(anything)
    if isinstance(kind, sa.Float):
        return st.floats() | st.sampled_from(
            [math.nan, math.inf, -math.inf, 1e308, 5e-324, *anything]
        )
    if isinstance(kind, sa.DateTime):
        first, last = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)
        before = first.replace(tzinfo=timezone(timedelta(hours=14)))
        naive = now().replace(tzinfo=None)
        return st.sampled_from([first, last, before, naive, now(), "2026-01-01", *anything])
    return st.sampled_from([False, 0, 1, *anything])


def fields_of(kind: type[Media]) -> dict[str, sa.Column[t.Any]]:
    return dict(t.cast(sa.Table, kind.__table__).columns.items())


@st.composite
def changed_fields(draw: st.DrawFn) -> tuple[type[Media], dict[str, t.Any]]:
    """A kind, and hostile values of one or two of its fields."""
    kind = draw(st.sampled_from([*KINDS.values()]))
    columns = fields_of(kind)
    names = draw(st.lists(st.sampled_from(sorted(columns)), min_size=1, max_size=2, unique=True))
    return kind, {name: draw(hostile_values(columns[name])) for name in names}


# The ways in


class Three(t.NamedTuple):
    """The same app in dual mode, in an outage, and on MongoDB alone."""

    dual: Flask
    degraded: Flask
    mongo: Flask


@pytest.fixture
def three(
    make_app: MakeApp, make_proxied: Callable[..., Flask], migrated_url: str, proxy: Proxy
) -> Three:
    config = ANY_OWNER | {"DUALMEDIA_COUNT_READS": False}
    dual = make_app(
        "dual", SQLALCHEMY_DATABASE_URI=migrated_url, DUALMEDIA_AUTO_UPGRADE=False, **config
    )
    three = Three(dual, make_proxied(**config), make_app("mongo", **config))
    circuit = get_state(three.degraded).circuit
    assert circuit is not None
    proxy.refuse()
    circuit.trip()
    return three


def everything_arrives(three: Three, proxy: Proxy) -> None:
    """SQL is back: the journal is moved, all of it."""
    state = get_state(three.degraded)
    sql, journal = homes_of(state)
    waiting = [record for kind in KINDS.values() for record in records_of(journal.repository, kind)]
    proxy.let_through()
    eventually(journal.repository.is_empty)
    for record in waiting:
        held = sql.repository.find(type(record), record.id)
        if record.state != "available":
            continue
        assert held is not None
        # What is no type is not taken along.
        is_typed = one_type(record.mime_type) == record.mime_type
        same = {} if is_typed else {"mime_type": held.mime_type}
        # SQL had another main image, which the journal did not know.
        same |= {name: False for name in ("is_main_image",) if vars(held).get(name) is False}
        assert held.values() == record.values() | same


def outcome(call: Callable[[], t.Any]) -> str:
    """The answer to a caller, in words that are the same in every mode."""
    try:
        call()
    except InvalidMedia as error:
        return f"invalid: {error.errors}"
    except (DualMediaError, TypeError) as error:
        return type(error).__name__
    return "accepted"


def complete(kind: type[Media]) -> dict[str, t.Any]:
    """Fields of a record that every database takes."""
    values: dict[str, t.Any] = {
        kind.owner_field: "1",
        "state": "available",
        "storage_type": "external",
    }
    values[kind.url_field] = "https://cdn.example/a"
    values |= {
        "position": 0,
        "is_main_image": False,
        "video_type": "intro",
        "processing_status": "ready",
    }
    values |= {"resource_type": "pdf", "reference_type": "page", "media_type": "image"}
    return {name: value for name, value in values.items() if name in kind.field_names()}


PROPERTY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def test_every_column_and_every_constraint_has_a_rule() -> None:
    """The rules come from the models: a CHECK that only SQL knew would let MongoDB accept what SQL
    refuses."""
    for kind in KINDS.values():
        table = t.cast(sa.Table, kind.__table__)
        assert storable.rules_of(kind).keys() == {*table.columns.keys()}
        checks = [
            constraint
            for constraint in table.constraints
            if isinstance(constraint, sa.CheckConstraint)
        ]
        assert all("check" in constraint.info for constraint in checks)
        with pytest.raises(TypeError):
            storable._type_rule(sa.JSON())


@pytest.mark.long
def test_repositories_take_and_refuse_the_same_values(three: Three, proxy: Proxy) -> None:
    """Any value in any field, in a new record, in several at once, and in a change."""

    @PROPERTY
    @given(changed_fields())
    def check(chosen: tuple[type[Media], dict[str, t.Any]]) -> None:
        kind, fields = chosen
        told = []
        for app in three:
            repository = get_state(app).repository
            record = kind.new(**complete(kind))

            def new() -> Media:
                own = (
                    {"id": uuid.uuid4(), "is_main_image": False}
                    if kind is ProductImage
                    else {"id": uuid.uuid4()}
                )
                return kind.new(**{**complete(kind), **own, **fields})

            def change(repository: t.Any = repository, record: Media = record) -> None:
                changes = {name: value for name, value in fields.items() if name != "id"}
                if changes:
                    repository.update(kind, record.id, changes, where={"state": "available"})

            repository.add(record)
            told.append(
                (
                    outcome(lambda repository=repository, new=new: repository.add(new())),
                    outcome(
                        lambda repository=repository, new=new: repository.add_all([new(), new()])
                    ),
                    outcome(change),
                )
            )
        assert told[0] == told[1] == told[2]
        assert all(
            said == "accepted" or said.startswith("invalid") or "Conflict" in said
            for said in told[0]
        ) or ("SecondMainImage" in str(told[0]))

    check()
    everything_arrives(three, proxy)


SAVED: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "product-images": (
        png(),
        ("product_id", "alt_text", "position", "width", "height"),
    ),
    "course-videos": (
        mp4(100),
        ("course_id", "lesson_id", "video_type", "title", "position", "duration", "width"),
    ),
    "course-resources": (
        TEXT,
        ("course_id", "lesson_id", "resource_name", "resource_type"),
    ),
    "files": (
        TEXT,
        ("reference_type", "reference_id", "media_type", "title"),
    ),
}
"""Content that each kind's function saves, and its own arguments."""
COMMON = ("filename", "mime_type", "file_size", "uploaded_by", "is_public", "storage_type")
OWNER_ARGUMENTS = {
    "product_id": "mongo_product_id", "course_id": "mongo_course_id",
    "lesson_id": "mongo_lesson_id",
}  # fmt: skip


@st.composite
def saving(draw: st.DrawFn) -> tuple[type[Media], bool, dict[str, t.Any]]:
    """A kind, whether it is external media, and arguments of its function."""
    kind = draw(st.sampled_from([*KINDS.values()]))
    _, own = SAVED[kind.kind]
    names = draw(st.lists(st.sampled_from([*own, *COMMON]), min_size=1, max_size=2, unique=True))
    columns = fields_of(kind)
    hostile = {
        name: draw(hostile_values(columns[OWNER_ARGUMENTS.get(name, name)])) for name in names
    }
    return kind, draw(st.booleans()), hostile


@pytest.mark.long
def test_functions_take_and_refuse_the_same_values(three: Three, proxy: Proxy) -> None:
    @PROPERTY
    @given(saving())
    def check(chosen: tuple[type[Media], bool, dict[str, t.Any]]) -> None:
        kind, external, hostile = chosen
        function = SAVE_FUNCTIONS[kind.kind]
        content, own = SAVED[kind.kind]
        needed = {
            "reference_type": "page",
            "reference_id": "1",
            "product_id": "1",
            "course_id": "1",
        }
        arguments = {name: value for name, value in needed.items() if name in own} | hostile
        source = "https://cdn.example/a" if external else content
        told = []
        for app in three:
            with app.app_context():
                told.append(outcome(lambda: function(source=source, **arguments)))
        assert told[0] == told[1] == told[2]

    check()
    everything_arrives(three, proxy)


@pytest.mark.parametrize("identity", ["x" * 256, "a\0b", "\ud800"])
def test_an_uploader_that_cannot_be_kept_is_named(
    three: Three, proxy: Proxy, identity: str
) -> None:
    for app in three:
        with app.app_context():
            for source in (TEXT, "https://cdn.example/a"):
                with pytest.raises(InvalidMedia) as refused:
                    save_media_storage("page", "1", source, uploaded_by=identity)
                assert [*refused.value.errors] == ["uploadedBy"]
            with pytest.raises(InvalidMedia):
                save_product_images(
                    "1", ["https://cdn.example/a", "https://cdn.example/b"], uploaded_by=identity
                )
    everything_arrives(three, proxy)


# Over HTTP


def encodable(value: t.Any) -> bool:
    try:
        str(value).encode()
    except (UnicodeEncodeError, ValueError):
        return False
    return True


@st.composite
def requested(draw: st.DrawFn) -> tuple[str, type[Media], str, t.Any]:
    """A way in, a kind, and a field by its wire name with a value."""
    way = draw(st.sampled_from(["json", "multipart", "patch", "put", "tus", "tus later"]))
    kind = draw(st.sampled_from([*KINDS.values()]))
    columns = fields_of(kind)
    name = draw(st.sampled_from(sorted(columns)))
    value = draw(
        hostile_values(columns[name]).filter(lambda value: not isinstance(value, bytes | datetime))
    )
    return way, kind, name, value


def send(app: Flask, way: str, kind: type[Media], name: str, value: t.Any) -> tuple[int, t.Any]:
    """Send a value; the status, and which fields are wrong."""
    client, headers = app.test_client(), bearer(app, "alice")
    owner = {kind.owner_field: "1"} | ({"reference_type": "page"} if kind is MediaStorage else {})
    fields = {storable.camelcase(field): text for field, text in owner.items()}
    path, wire = f"/media/{kind.kind}", storable.camelcase(name)
    content, _ = SAVED[kind.kind]
    declared = "".join(str(value).splitlines())
    if way == "json":
        url = {storable.camelcase(kind.url_field): "https://cdn.example/a"}
        answer = client.post(path, json=fields | url | {wire: value}, headers=headers)
    elif way == "multipart":
        filename = declared if name == "filename" else "file"
        mime_type = declared if name == "mime_type" else None
        form = fields | {"file": part(content, filename, mime_type)}
        if name not in ("filename", "mime_type"):
            form |= {wire: str(value)}
        answer = post_form(client, headers, path, form)
    elif way in ("patch", "put"):
        if way == "patch":
            url = {storable.camelcase(kind.url_field): "https://cdn.example/a"}
            made = client.post(path, json=fields | url, headers=headers)
        else:
            made = post_form(client, headers, path, fields | {"file": part(content)})
        assert made.status_code == 201, made.json
        item = f"{path}/{t.cast(t.Any, made.json)['id']}"
        if way == "patch":
            answer = client.patch(item, json={wire: value}, headers=headers)
        else:
            described = {
                "Content-Type": declared,
                "Content-Disposition": f"attachment; filename={declared}",
            }
            own = headers | {header: text.replace("\0", "") for header, text in described.items()}
            answer = client.put(f"{item}/content", data=content, headers=own)
    else:
        key = "filetype" if name == "mime_type" else wire
        metadata = {"kind": kind.kind} | fields | {key: str(value)}
        tus = headers | {
            "Tus-Resumable": "1.0.0",
            "Upload-Metadata": encoded(metadata),
            "Upload-Length": str(len(content)),
        }
        octets = {"Content-Type": "application/offset+octet-stream"}
        if way == "tus":
            answer = client.post("/media/uploads", headers=tus | octets, data=content)
        else:
            answer = client.post("/media/uploads", headers=tus)
        if way != "tus" and answer.status_code == 201:
            more = headers | octets | {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
            answer = client.patch(answer.headers["Location"], headers=more, data=content)
    wrong = answer.json.get("errors") if answer.is_json and answer.json else None
    return answer.status_code, wrong and sorted(wrong)


@pytest.mark.long
def test_requests_take_and_refuse_the_same_values(three: Three, proxy: Proxy) -> None:
    """Multipart, JSON, PATCH, PUT and tus: the same status, and the same field is named."""

    @PROPERTY
    @given(requested())
    def check(chosen: tuple[str, type[Media], str, t.Any]) -> None:
        way, kind, name, value = chosen
        if way not in ("json", "patch") and not encodable(value):
            return
        if way == "put" and not str(value).isascii():
            return
        told = [send(app, way, kind, name, value) for app in three]
        assert told[0] == told[1] == told[2], (way, kind, name)
        assert told[0][0] < 500
        if told[0][0] == 422:
            assert told[0][1], "the field is named"

    check()
    everything_arrives(three, proxy)


@pytest.mark.long
def test_direct_uploads_take_and_refuse_the_same_values(
    make_app: MakeApp,
    make_proxied: Callable[..., Flask],
    proxy: Proxy,
    storage_options: StorageOptions,
) -> None:
    """The announcement of a client is kept in a record before a byte comes."""
    config = ANY_OWNER | {
        "DUALMEDIA_STORAGES": storage_options("s3"), "DUALMEDIA_DEFAULT_STORAGE": "s3",
        "DUALMEDIA_COUNT_READS": False,
    }  # fmt: skip
    apps = Three(make_app("dual", **config), make_proxied(**config), make_app("mongo", **config))
    circuit = get_state(apps.degraded).circuit
    assert circuit is not None
    proxy.refuse()
    # The first answer after a loss may be 503: nobody knows what became of the insertion.
    circuit.trip()
    announced = {
        "referenceType": "page",
        "referenceId": "1",
        "filename": "a.txt",
        "mimeType": "text/plain",
    }
    announced |= {"fileSize": 10, "checksum": "0" * 64}
    columns = fields_of(MediaStorage)

    @PROPERTY
    @given(st.data())
    def check(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(columns)))
        value = data.draw(
            hostile_values(columns[name]).filter(
                lambda value: not isinstance(value, bytes | datetime)
            )
        )
        told = []
        for app in apps:
            body = announced | {storable.camelcase(name): value}
            answer = app.test_client().post(
                "/media/files/direct-uploads", json=body, headers=bearer(app, "alice")
            )
            told.append((answer.status_code, answer.json and sorted(answer.json.get("errors", ()))))
        assert told[0] == told[1] == told[2]
        assert told[0][0] < 500

    check()
    proxy.let_through()
    _, journal = homes_of(get_state(apps.degraded))
    eventually(lambda: not apps.degraded.test_client().get("/media/health").json["degraded"])  # type: ignore[index]
    sweep(get_state(apps.degraded), grace=-1)
    assert journal.repository.is_empty()


@pytest.mark.parametrize(
    "declared", ["text/" + "x" * 300, "x" * 300, "text/pl\0ain", "text/\u0130" + "\u0130" * 249]
)
def test_a_declared_type_of_any_length_stops_nobody(
    three: Three, proxy: Proxy, declared: str
) -> None:
    told = []
    for app in three:
        with app.app_context():
            told.append(outcome(lambda: save_media_storage("page", "1", TEXT, mime_type=declared)))
            save_media_storage("page", "1", b"of somebody else")
    assert told[0] == told[1] == told[2]
    everything_arrives(three, proxy)


# What gets in all the same


class Journaled(t.NamedTuple):
    """An app with SQL at hand, and a journal that is moved when a test says so."""

    app: Flask
    engine: sa.Engine

    def run(self, *args: str) -> t.Any:
        result = self.app.test_cli_runner().invoke(args=["dualmedia", *args])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result

    def plant(self, content: bytes = TEXT, **values: t.Any) -> Media:
        """Write a record with its bytes into the journal, past every check, as an older version may
        have."""
        upload = Upload(io.BytesIO(content))
        upload.open()
        _, journal = homes_of(get_state(self.app))
        record = MediaStorage.new(
            reference_type="page", reference_id="1", media_type="document", state="available",
            storage_type="database", uploaded_by="alice", mime_type="text/plain", is_public=True,
        )  # fmt: skip
        key = f"{record.id.hex}-0"
        journal.storage.put(key, upload.blocks())
        vars(record).update(
            {"storage_key": key, "file_size": upload.size, "checksum": upload.checksum} | values
        )
        document = record.values()
        document["_id"] = document.pop("id")
        journal_collection(self.app).insert_one(document)
        return record

    def execute(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql(statement)

    @property
    def in_sql(self) -> set[uuid.UUID]:
        sql, _ = homes_of(get_state(self.app))
        return {record.id for record in records_of(sql.repository, MediaStorage)}

    @property
    def in_journal(self) -> set[uuid.UUID]:
        _, journal = homes_of(get_state(self.app))
        return {record.id for record in records_of(journal.repository, MediaStorage)}


def journal_collection(app: Flask) -> t.Any:
    return get_state(app).mongo["journal_media_storage"]


@pytest.fixture
def journaled(make_app: MakeApp, migrated_url: str) -> Iterator[Journaled]:
    app = make_app(
        SQLALCHEMY_DATABASE_URI=migrated_url, DUALMEDIA_AUTO_UPGRADE=False,
        DUALMEDIA_AUTO_DRAIN=False,
        DUALMEDIA_PROBE_INTERVAL=0.1, **ANY_OWNER,
    )  # fmt: skip
    circuit = get_state(app).circuit
    assert circuit is not None
    circuit.stop()  # a test looks at the journal when it wants to
    circuit.expect_journal()
    engine = sa.create_engine(migrated_url, poolclass=sa.NullPool)
    with app.app_context():
        yield Journaled(app, engine)


PLANTED: dict[str, dict[str, t.Any]] = {
    "a title with NUL": {"title": "a\0b"},
    "an unknown media type": {"media_type": "hologram"},
    "a size below zero": {"access_count": -1},
    "a number as title": {"title": 7},
    "a time too late": {"last_accessed_at": datetime(9999, 12, 31, 23, tzinfo=UTC)},
    "no size": {"file_size": None},
    "another checksum": {"checksum": "0" * 64},
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_record_is_set_aside_and_the_rest_goes_on(
    journaled: Journaled, planted: dict[str, t.Any], caplog: pytest.LogCaptureFixture
) -> None:
    before = journaled.plant(b"before")
    poison = journaled.plant(**planted)
    behind = journaled.plant(b"behind")
    for _ in range(3):
        drain_journal(get_state(journaled.app), retry=False)
    assert journaled.in_sql == {before.id, behind.id}
    assert journaled.in_journal == {poison.id}
    assert caplog.text.count(f"{poison.id}") == 1, "told once, not with every look"
    drained = journaled.run("drain")
    assert drained.exit_code == 1
    assert str(poison.id) in drained.output
    assert str(poison.id) in journaled.run("status").output
    for args in (["check"], ["check", "--repair"]):
        checked = journaled.run(*args)
        assert checked.exit_code == 1
        assert "1 journal_refused" in checked.output
        assert "journal_left" not in checked.output
    assert caplog.text.count(f"{poison.id}") == 1
    delete_media(MediaStorage, poison.id)
    with pytest.raises(MediaNotFound):
        get_media(MediaStorage, poison.id)
    assert journaled.run("drain").exit_code == 0
    assert journaled.in_journal == set()
    assert str(poison.id) not in journaled.run("status").output


def test_what_is_set_aside_is_read_edited_and_then_moved(journaled: Journaled) -> None:
    """Its people read and edit it over HTTP, as if it were in SQL."""
    poison = journaled.plant(title="x" * 300)
    journaled.run("drain")
    client, alice = journaled.app.test_client(), bearer(journaled.app, "alice")
    path = f"/media/files/{poison.id}"
    assert t.cast(t.Any, client.get(path, headers=alice).json)["title"] == "x" * 300
    assert client.get(f"{path}/content").data == TEXT
    page = client.get("/media/files", headers=alice).json
    assert [item["id"] for item in t.cast(t.Any, page)["items"]] == [str(poison.id)]
    assert client.patch(path, json={"title": "y" * 300}, headers=alice).status_code == 422
    assert client.patch(path, json={"title": "short"}, headers=alice).status_code == 200
    drain_journal(get_state(journaled.app), retry=False)
    assert journaled.in_sql == {poison.id}
    assert journaled.in_journal == set()
    assert client.get(f"{path}/content").data == TEXT
    assert t.cast(t.Any, client.get(path, headers=alice).json)["title"] == "short"


def test_content_of_what_is_set_aside_is_replaced_and_then_moved(journaled: Journaled) -> None:
    poison = journaled.plant(mime_type="text/" + "x" * 300)
    journaled.run("drain")
    client, alice = journaled.app.test_client(), bearer(journaled.app, "alice")
    path = f"/media/files/{poison.id}/content"
    replaced = client.put(path, data=PDF, headers=alice | {"Content-Type": "application/pdf"})
    assert replaced.status_code == 200, replaced.json
    assert client.get(path).data == PDF
    drain_journal(get_state(journaled.app), retry=False)
    assert journaled.in_sql == {poison.id}
    assert client.get(path).data == PDF
    checked = journaled.run("check", "--verify-bytes", "--grace", "0")
    assert checked.exit_code == 0, checked.output


HOST_RULES = {
    "a constraint": "ALTER TABLE media_storage ADD CONSTRAINT no_secrets CHECK (title <> 'secret')",
    "a column that is narrower": "ALTER TABLE media_storage ALTER COLUMN title TYPE varchar(5)",
    "a key": "CREATE UNIQUE INDEX titles ON media_storage (title)",
    "a trigger": (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.title = 'secret' THEN RAISE EXCEPTION 'no secrets'; END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER refuse BEFORE INSERT ON media_storage"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    ),
    "a trigger that is broken": (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.title = 'secret' THEN PERFORM nothing_of_that_name(); END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER refuse BEFORE INSERT ON media_storage"
        " FOR EACH ROW EXECUTE FUNCTION refuse()"
    ),
}


@pytest.mark.parametrize("rule", HOST_RULES.values(), ids=HOST_RULES.keys())
def test_a_rule_of_the_host_sets_one_record_aside(
    journaled: Journaled, rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody could know it at the door. When the record or the rule has changed, it goes."""
    taken = save_media_storage("page", "2", b"first", title="secret")
    if "UNIQUE" not in rule:
        delete_media(MediaStorage, taken.id)
    journaled.execute(rule)
    before, poison, behind = (
        journaled.plant(b"before"),
        journaled.plant(title="secret"),
        journaled.plant(b"behind"),
    )
    for _ in range(3):
        drain_journal(get_state(journaled.app), retry=False)
    assert {before.id, behind.id} <= journaled.in_sql
    assert journaled.in_journal == {poison.id}
    assert caplog.text.count(str(poison.id)) == 1
    assert "journal_refused" in journaled.run("check").output
    assert [record.id for record in get_media_by_reference("page", "1")].count(poison.id) == 1
    update_media(MediaStorage, poison.id, title="open")
    assert journaled.run("drain").exit_code == 0
    assert poison.id in journaled.in_sql
    assert b"".join(open_media(get_media(MediaStorage, poison.id))) == TEXT


def test_an_upgrade_of_the_schema_has_it_tried_again(journaled: Journaled) -> None:
    journaled.execute("ALTER TABLE media_storage ALTER COLUMN title TYPE varchar(5)")
    poison = journaled.plant(title="too long")
    state = get_state(journaled.app)
    drain_journal(state, retry=False)
    journaled.execute("ALTER TABLE media_storage ALTER COLUMN title TYPE varchar(255)")
    drain_journal(state, retry=False)
    assert journaled.in_journal == {poison.id}, "nobody said that anything has changed"
    assert journaled.run("upgrade").exit_code == 0
    drain_journal(state, retry=False)
    assert journaled.in_sql == {poison.id}


def test_what_is_set_aside_is_tried_again_after_a_while(journaled: Journaled) -> None:
    poison = journaled.plant(title="x" * 300)
    state = get_state(journaled.app)
    _, journal = homes_of(state)
    drain_journal(state, retry=False)
    assert not journal.repository.has_work()
    long_ago = now() - timedelta(hours=2)
    journal_collection(journaled.app).update_one(
        {}, {"$set": {"refused.at": long_ago, "title": "short"}}
    )
    assert journal.repository.has_work()
    drain_journal(state, retry=False)
    assert journaled.in_sql == {poison.id}


def test_a_rule_of_the_host_answers_requests_alike(journaled: Journaled) -> None:
    """Small files go in one statement with their record, URLs alone, several in one pipeline."""
    journaled.execute(HOST_RULES["a constraint"])
    client, alice = journaled.app.test_client(), bearer(journaled.app, "alice")
    fields = {"referenceType": "page", "referenceId": "1"}
    file = post_form(
        client, alice, "/media/files", fields | {"title": "secret", "file": part(TEXT)}
    )
    url = client.post(
        "/media/files",
        json=fields | {"title": "secret", "url": "https://cdn.example/a"},
        headers=alice,
    )
    kept = client.post(
        "/media/files", json=fields | {"url": "https://cdn.example/a"}, headers=alice
    )
    edited = client.patch(kept.headers["Location"], json={"title": "secret"}, headers=alice)
    big = post_form(
        client, alice, "/media/files", fields | {"title": "secret", "file": part(bytes(3_000_000))}
    )
    for answer in (file, url, edited, big):
        assert answer.status_code == 422
        assert "no_secrets" not in answer.text, "what the host calls its rules is the host's"
    sql, journal = homes_of(get_state(journaled.app))
    assert [*sql.storage.keys()] == [*journal.storage.keys()] == []
    records = [MediaStorage.new(**complete(MediaStorage), title="secret") for _ in range(2)]
    with pytest.raises(RecordRefused):
        get_state(journaled.app).repository.add_all(records)
    circuit = get_state(journaled.app).circuit
    assert circuit is not None
    assert not circuit.is_open, "a refusal is no outage"


def test_the_watch_sets_aside_what_came_in_an_outage(
    make_proxied: Callable[..., Flask],
    proxy: Proxy,
    migrated_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = make_proxied(**ANY_OWNER)
    engine = sa.create_engine(migrated_url, poolclass=sa.NullPool)
    with app.app_context():
        proxy.refuse()
        poison = save_media_storage("page", "1", TEXT, title="secret", uploaded_by="alice")
        other = save_media_storage("page", "1", b"of somebody else", uploaded_by="bob")
        with engine.begin() as connection:
            connection.exec_driver_sql(HOST_RULES["a constraint"])
        proxy.let_through()
        sql, journal = homes_of(get_state(app))
        eventually(lambda: sql.repository.get(MediaStorage, other.id))
        eventually(journal.repository.count_refused)
        eventually(lambda: str(poison.id) in caplog.text)
        assert look_after_journal(get_state(app)), "something is left"
        assert caplog.text.count(str(poison.id)) == 1
        assert get_media(MediaStorage, poison.id).title == "secret"
        update_media(MediaStorage, poison.id, title="open")
        eventually(journal.repository.is_empty)
        assert get_media(MediaStorage, poison.id).title == "open"


# Claims


def test_a_drain_that_fails_before_it_sends_gives_the_record_back(
    make_proxied: Callable[..., Flask], proxy: Proxy, migrated_url: str
) -> None:
    """SQL goes away in the middle of the bytes: their people may read and change the record
    meanwhile."""
    app = make_proxied(DUALMEDIA_AUTO_DRAIN=False, **ANY_OWNER)
    state, content = get_state(app), b"x" * 3_000_000
    assert state.engine is not None
    journaled = Journaled(app, sa.create_engine(migrated_url, poolclass=sa.NullPool))
    with app.app_context():
        record = journaled.plant(content)
        state.engine.dispose()
        proxy.cut_next(after=1_000_000)
        with pytest.raises(DatabaseUnavailable):
            drain_journal(state)
        proxy.refuse()
        assert b"".join(open_media(get_media(MediaStorage, record.id))) == content
        assert update_media(MediaStorage, record.id, title="changed").title == "changed"
        proxy.let_through()
        eventually(lambda: not app.test_client().get("/media/health").json["degraded"])  # type: ignore[index]
        assert journaled.run("drain").exit_code == 0
        assert get_media(MediaStorage, record.id).title == "changed"
        assert journaled.in_sql == {record.id}


def test_the_claim_of_a_drain_that_was_killed_ends_with_the_next(journaled: Journaled) -> None:
    good, poison = journaled.plant(), journaled.plant(title="x" * 300)
    _, journal = homes_of(get_state(journaled.app))
    for record in (good, poison):
        journal.repository.claim(MediaStorage, record.id, "a process that was killed")
    with pytest.raises(DatabaseUnavailable):
        update_media(MediaStorage, poison.id, title="short")
    journaled.run("drain")
    assert journaled.in_sql == {good.id}
    update_media(MediaStorage, poison.id, title="short")
    journaled.run("drain")
    assert journaled.in_sql == {good.id, poison.id}


def test_a_killed_drain_holds_no_record_where_nobody_drains_by_itself(journaled: Journaled) -> None:
    """Unless SQL has it: what was sent is there, and not changed in the journal any more."""
    free, sent = journaled.plant(), journaled.plant()
    sql, journal = homes_of(get_state(journaled.app))
    for record in (free, sent):
        journal.repository.claim(MediaStorage, record.id, "a process that was killed")
    sql.repository.add(MediaStorage.from_values(sent.values()))
    assert look_after_journal(get_state(journaled.app))
    assert update_media(MediaStorage, free.id, title="changed").title == "changed"
    assert update_media(MediaStorage, sent.id, title="changed").title == "changed"
    assert journaled.run("drain").exit_code == 0
    assert journaled.in_sql == {free.id, sent.id}
    assert {get_media(MediaStorage, record.id).title for record in (free, sent)} == {"changed"}


# Elsewhere


def test_a_transfer_names_what_it_cannot_copy_and_copies_the_rest(
    make_app: MakeApp, migrated_url: str
) -> None:
    mongo, dual = (
        make_app(mode, SQLALCHEMY_DATABASE_URI=migrated_url, **ANY_OWNER)
        for mode in ("mongo", "dual")
    )
    with mongo.app_context():
        saved = [save_media_storage("page", "1", b"content %d" % number) for number in range(4)]
    collection = get_state(mongo).mongo["media_storage"]
    collection.update_one({"_id": saved[1].id}, {"$set": {"title": "x" * 300}})
    collection.update_one({"_id": saved[2].id}, {"$set": {"checksum": "0" * 64}})
    result = mongo.test_cli_runner().invoke(args=["dualmedia", "transfer", "--to", "sql"])
    assert isinstance(result.exception, SystemExit), result.output
    assert result.exit_code == 1
    for record in (saved[1], saved[2]):
        assert str(record.id) in result.output
    with dual.app_context():
        assert {record.id for record in get_media_by_reference("page", "1")} == {
            saved[0].id,
            saved[3].id,
        }


def test_one_refused_count_leaves_the_others(
    journaled: Journaled, caplog: pytest.LogCaptureFixture
) -> None:
    saved = [save_media_storage("page", "1", "https://cdn.example/a") for _ in range(5)]
    sql, _ = homes_of(get_state(journaled.app))
    sql.repository.update(
        MediaStorage, saved[2].id, {"access_count": 2**63 - 1}, where={"state": "available"}
    )
    counter = Counter(journaled.app, get_state(journaled.app).repository, None, interval=3600)
    for record in saved:
        counter.note(MediaStorage, record.id, "reader")
    counter.flush()
    counter.stop()
    assert counter.waiting() == 0
    assert [get_media(MediaStorage, r.id).access_count for r in saved] == [1, 1, 2**63 - 1, 1, 1]
    assert caplog.text.count(str(saved[2].id)) == 1


def test_a_sweep_passes_by_what_is_refused(journaled: Journaled) -> None:
    """However many stand before the rest."""
    sql, _ = homes_of(get_state(journaled.app))
    for number in range(105):
        title = "secret" if number < 102 else None
        sql.repository.add(
            MediaStorage.new(**complete(MediaStorage) | {"state": "pending"}, title=title)
        )
    journaled.execute(HOST_RULES["a constraint"] + " NOT VALID")
    later = get_state(journaled.app)
    assert sweep(later, grace=-1) == 3


def test_a_move_passes_by_what_is_refused(
    make_app: MakeApp, migrated_url: str, tmp_path: t.Any
) -> None:
    options = {"local": {"directory": str(tmp_path)}}
    app = make_app(
        SQLALCHEMY_DATABASE_URI=migrated_url,
        DUALMEDIA_AUTO_UPGRADE=False,
        DUALMEDIA_STORAGES=options,
        **ANY_OWNER,
    )
    with app.app_context():
        saved = [
            save_media_storage("page", "1", b"content", title=title)
            for title in ("a", "secret", "b")
        ]
        engine = sa.create_engine(migrated_url, poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.exec_driver_sql(HOST_RULES["a constraint"] + " NOT VALID")
        result = app.test_cli_runner().invoke(
            args=["dualmedia", "move", "--from", "database", "--to", "local"]
        )
        assert isinstance(result.exception, SystemExit)
        assert result.exit_code == 1
        assert str(saved[1].id) in result.output
        places = [get_media(MediaStorage, record.id).storage_type for record in saved]
        assert places == ["local", "database", "local"]
        assert b"".join(open_media(get_media(MediaStorage, saved[1].id))) == b"content"
        keys = [*get_state(app).storages["local"].keys()]
        assert len(keys) == 2, "what was copied in vain is gone"
