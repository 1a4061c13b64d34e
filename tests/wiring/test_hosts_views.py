"""A host's own views: errors of ours in them, and the documents."""

from __future__ import annotations

import logging
import os
import pickle
import re
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_pymongo import PyMongo
from werkzeug.exceptions import HTTPException, default_exceptions

import flask_dualmedia
from flask_dualmedia import (
    DatabaseBusy,
    DatabaseUnavailable,
    DualMedia,
    DualMediaError,
    EmptyFile,
    FileTooLarge,
    IncompleteUpload,
    InvalidMedia,
    MediaClosed,
    MediaConflict,
    MediaNotFound,
    OwnerNotFound,
    QuotaExceeded,
    RecordRefused,
    SecondMainImage,
    TooManyPixels,
    TooManyUnfinished,
    UnsupportedType,
    UploadRejected,
    WritesRefused,
    errors,
    get_media,
    save_media_storage,
)

from ..conftest import BASE_CONFIG, MakeApp, close
from ..samples import PDF

PAGE = Path(__file__).parent.parent.parent / "docs" / "errors.md"

MESSAGE = "the <b>file</b> is not ours to keep"

ANSWERED: list[errors.AnsweredError] = [
    InvalidMedia({"title": ["Too long."]}),
    RecordRefused("PostgreSQL", "violates no_secrets"),
    EmptyFile(),
    OwnerNotFound("product", "1"),
    MediaNotFound("files", "1"),
    SecondMainImage(),
    MediaConflict(MESSAGE),
    FileTooLarge(5),
    QuotaExceeded("alice", used=1, limit=2, size=3),
    UnsupportedType(MESSAGE),
    TooManyPixels(1, 2, 1),
    errors.TooManyParts(10_000),
    TooManyUnfinished(100),
    UploadRejected(MESSAGE),
    IncompleteUpload(MESSAGE),
    DatabaseUnavailable("PostgreSQL", retry_after=7),
    WritesRefused("PostgreSQL", "is read-only"),
    DatabaseBusy(),
    MediaClosed(),
    errors.UploadLocked(),
    errors.ChecksumMismatch(),
    errors.NoConnectionFree(),
    errors.StatementCancelled(),
    errors.Contended(),
    errors.JournalFull(is_share=True),
    errors.QuotaBusy(),
    errors.StorageUnavailable("s3"),
]

OTHERS: list[DualMediaError] = [
    errors.ConfigurationError("MONGO_URI is not set"),
    errors.MissingExtra("PostgreSQL", "postgres"),
    errors.StorageError("the disk is gone"),
    errors.BytesNotFound("key"),
    errors.NamesTaken("MongoDB", ["files"], "DUALMEDIA_COLLECTION_PREFIX"),
]


def name_of(error: Exception) -> str:
    return type(error).__name__


def host(error: Exception) -> Flask:
    """An app with a view that fails, and without any code for it."""
    app = Flask("host")

    @app.get("/")
    def view() -> str:
        raise error

    return app


def documented() -> dict[str, int]:
    """Errors and their statuses as the page about errors has them."""
    rows = re.findall(r"^\| (`.*?) \| ([0-9]{3}) \|", PAGE.read_text(), re.MULTILINE)
    return {name: int(status) for names, status in rows for name in re.findall(r"`(\w+)`", names)}


def test_each_documented_error_has_its_status() -> None:
    statuses = documented()
    assert {"MediaNotFound", "UploadRejected", "DatabaseBusy", "BytesNotFound"} <= statuses.keys()
    by_name = {name_of(error): error for error in [*ANSWERED, *OTHERS]}
    for name, status in statuses.items():
        assert name in flask_dualmedia.__all__
        assert host(by_name[name]).test_client().get("/").status_code == status, name


def all_errors(base: type[Exception] = DualMediaError) -> set[type[Exception]]:
    below = base.__subclasses__()
    return {base, *below}.union(*(all_errors(kind) for kind in below))


def test_every_class_is_looked_at() -> None:
    abstract = {DualMediaError, errors.AnsweredError, errors.Unavailable}
    ours = {kind for kind in all_errors() if kind.__module__ == errors.__name__}
    assert ours - abstract == {type(error) for error in [*ANSWERED, *OTHERS]}


@pytest.mark.parametrize("error", ANSWERED, ids=name_of)
@pytest.mark.parametrize(
    "config", [{}, {"TESTING": True}, {"PROPAGATE_EXCEPTIONS": True}, {"DEBUG": True}], ids=str
)
def test_a_view_that_fails_answers_with_the_status(
    error: errors.AnsweredError, config: dict[str, bool]
) -> None:
    app = host(error)
    app.config.update(config)
    answer = app.test_client().get("/")
    assert answer.status_code == error.code
    assert "<b>" not in answer.text, "what a client sent is not HTML"
    assert "no_secrets" not in answer.text, "what a database says is not for clients"
    retry_after = str(error.retry_after) if isinstance(error, errors.Unavailable) else None
    assert answer.headers.get("Retry-After") == retry_after
    assert (answer.status_code == 503) == (retry_after is not None)


@pytest.mark.parametrize("error", OTHERS, ids=name_of)
def test_what_is_no_clients_business_stays_an_error_of_the_app(error: DualMediaError) -> None:
    if isinstance(error, errors.NamesTaken):
        assert host(error).test_client().get("/").status_code == 503
    else:
        assert host(error).test_client().get("/").status_code == 500
        app = host(error)
        app.testing = True
        with pytest.raises(type(error)):
            app.test_client().get("/")


@pytest.mark.parametrize("error", [*ANSWERED, *OTHERS], ids=name_of)
def test_errors_say_what_they_said_and_travel(error: DualMediaError) -> None:
    """Between processes, as from a worker of Celery's."""
    assert str(error) == str(error.args[0])
    assert repr(error).startswith(f"{type(error).__name__}(")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copied = pickle.loads(pickle.dumps(error, protocol))
        assert type(copied) is type(error)
        assert (str(copied), copied.args, vars(copied)) == (str(error), error.args, vars(error))


@pytest.mark.parametrize(
    "error",
    [InvalidMedia({"\ud800": ["Unknown."]}), UploadRejected("no \ud800"), MediaConflict("\ud800")],
)
def test_what_has_no_bytes_is_answered_too(error: errors.AnsweredError) -> None:
    answer = host(error).test_client().get("/")
    assert answer.status_code == error.code
    assert "\\ud800" in answer.text
    assert str(error) == error.args[0]


def test_an_error_of_the_apps_validator_has_a_status_too() -> None:
    class NotOurs(UploadRejected):
        def __init__(self, *, owner: str) -> None:
            self.owner = owner

    assert host(NotOurs(owner="alice")).test_client().get("/").status_code == 422


@pytest.mark.parametrize("status", [401, 405, 416, 429, 500, 503])
def test_an_error_of_the_apps_validator_may_have_any_status(status: int) -> None:
    refusal = type("Refusal", (UploadRejected, default_exceptions[status]), {})
    answer = host(refusal("come back tomorrow")).test_client().get("/")
    assert (answer.status_code, "come back tomorrow" in answer.text) == (status, True)


def by_status(app: Flask, answer: Callable[[t.Any], t.Any]) -> None:
    for status in (400, 404, 409, 413, 415, 422, 423, 429, 503):
        app.register_error_handler(status, answer)


HANDLERS: dict[str, Callable[[Flask, Callable[[t.Any], t.Any]], None]] = {
    "of every HTTP error": lambda app, answer: app.register_error_handler(HTTPException, answer),
    "of everything": lambda app, answer: app.register_error_handler(Exception, answer),
    "of our errors": lambda app, answer: app.register_error_handler(DualMediaError, answer),
    "of statuses": by_status,
}


@pytest.mark.parametrize("register", HANDLERS.values(), ids=HANDLERS.keys())
def test_the_hosts_handlers_are_asked(register: Callable[..., None]) -> None:
    def answer(error: t.Any) -> t.Any:
        return {"problem": str(error)}, error.code, error.get_headers()[1:]

    for error in ANSWERED:
        if register is by_status and (type(error) is UploadRejected or error.code == 460):
            continue  # the first is in all of its statuses, the other is of tus alone
        app = host(error)
        register(app, answer)
        response = app.test_client().get("/")
        assert (response.status_code, response.get_json()) == (error.code, {"problem": str(error)})
        assert ("Retry-After" in response.headers) == (error.code == 503)


@pytest.mark.parametrize("kind", [UploadRejected, MediaConflict, RecordRefused, errors.Unavailable])
def test_a_handler_of_a_base_class_gets_all_of_its_errors(kind: type[DualMediaError]) -> None:
    public = [
        error
        for error in ANSWERED
        if isinstance(error, kind) and name_of(error) in flask_dualmedia.__all__
    ]
    assert len(public) > 1
    for error in public:
        app = host(error)
        app.register_error_handler(kind, lambda error: (f"handled: {error}", 418))
        assert app.test_client().get("/").text == f"handled: {error}"


def test_a_handler_of_everything_that_passes_http_errors_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Flask's documentation has it like this."""
    app = host(OwnerNotFound("product", "1"))
    app.register_error_handler(
        Exception, lambda error: error if isinstance(error, HTTPException) else ("broken", 500)
    )
    assert app.test_client().get("/").status_code == 404
    assert not caplog.records, "a client that asks for what is not there is no event"


def test_the_first_words_of_webargs_work() -> None:
    """Its documentation has apps take messages from ``error.data``."""
    app = host(InvalidMedia({"title": ["Too long."]}))
    app.register_error_handler(422, lambda error: ({"errors": error.data["messages"]}, error.code))
    assert app.test_client().get("/").get_json() == {"errors": {"title": ["Too long."]}}


def test_why_a_database_refuses_is_logged_and_not_answered(
    make_app: MakeApp, migrated_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(SQLALCHEMY_DATABASE_URI=migrated_url, DUALMEDIA_AUTO_UPGRADE=False)

    @app.post("/notes")
    def add() -> str:
        save_media_storage("note", "1", PDF, title="secret")
        return "kept"

    engine = sa.create_engine(migrated_url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        rule = "ALTER TABLE media_storage ADD CONSTRAINT no_secrets CHECK (title <> 'secret')"
        connection.exec_driver_sql(rule)
    with caplog.at_level(logging.WARNING, "flask_dualmedia"):
        answer = app.test_client().post("/notes")
    assert answer.status_code == 422
    assert "no_secrets" not in answer.text
    assert "no_secrets" in caplog.text


def test_a_record_that_is_not_there_is_404_in_a_view_of_the_hosts(app: Flask) -> None:
    app.add_url_rule(
        "/first",
        view_func=lambda: get_media("files", "00000000-0000-0000-0000-000000000000").filename,
    )
    assert app.test_client().get("/first").status_code == 404


# Documents


@pytest.fixture
def two(make_app: MakeApp, mongo_uri: str) -> Iterator[tuple[DualMedia, Flask, Flask]]:
    """One extension on two apps with databases of their own."""
    media = DualMedia()
    one, other = Flask("one"), Flask("two")
    for app in (one, other):
        uri = (
            mongo_uri.replace("?", f"_{app.name}?")
            if "?" in mongo_uri
            else f"{mongo_uri}_{app.name}"
        )
        app.config.update(BASE_CONFIG, MONGO_URI=uri, DB_ENABLED=False)
        media.init_app(app)
    yield media, one, other
    for app in (one, other):
        with app.app_context():
            media.mongo.cx.drop_database(media.mongo.db.name)  # type: ignore[union-attr]
        close(app)


def test_documents_are_those_of_the_current_app(two: tuple[DualMedia, Flask, Flask]) -> None:
    media, one, other = two
    mongo = media.mongo
    for app in (one, other):
        with app.app_context():
            mongo.db.notes.insert_one({"app": app.name})  # type: ignore[union-attr]
    for app in (one, other):
        with app.app_context():
            assert [note["app"] for note in mongo.db.notes.find()] == [app.name]  # type: ignore[union-attr]
    with pytest.raises(RuntimeError, match="needs an app context"):
        _ = mongo.db


def test_documents_may_be_named_before_there_is_an_app(mongo_uri: str) -> None:
    media = DualMedia()
    mongo = media.mongo
    with pytest.raises(RuntimeError, match="needs an app context"):
        _ = mongo.db
    app = Flask("late")
    app.config.update(BASE_CONFIG, MONGO_URI=mongo_uri, DB_ENABLED=False)
    media.init_app(app)
    assert isinstance(mongo, PyMongo)
    mongo.db.notes.insert_one({"text": "Milk"})  # type: ignore[union-attr]
    app.add_url_rule("/", view_func=lambda: mongo.db.notes.find_one_or_404({})["text"])  # type: ignore[union-attr]
    assert app.test_client().get("/").text == "Milk"
    media.close(app)
    with pytest.raises(MediaClosed):
        _ = mongo.db


def test_documents_are_in_the_hosts_own_client_where_it_has_one(mongo_uri: str) -> None:
    app = Flask("own")
    app.config.update(BASE_CONFIG, MONGO_URI=mongo_uri, DB_ENABLED=False)
    own = PyMongo(app)
    media = DualMedia(app, mongo=own)
    assert media.mongo == own
    assert media.mongo.cx is own.cx
    close(app)


@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning", "ignore:MongoClient opened before fork"
)
def test_documents_are_there_in_a_forked_process(app: Flask, mongo_uri: str) -> None:
    media = DualMedia()
    forking = Flask("forking")
    forking.config.update(BASE_CONFIG, MONGO_URI=mongo_uri, DB_ENABLED=False)
    media.init_app(forking)
    notes = media.mongo
    notes.db.notes.insert_one({"_id": 1})  # type: ignore[union-attr]
    pid = os.fork()
    if pid == 0:
        try:
            found = notes.db.notes.find_one({"_id": 1})  # type: ignore[union-attr]
            os._exit(0 if found else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert notes.db.notes.count_documents({}) == 1  # type: ignore[union-attr]
    close(forking)
