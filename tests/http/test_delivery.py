"""Which storage takes the bytes, who sends them, and what is answered while it does not."""

from __future__ import annotations

import base64
import hashlib
import io
import typing as t
import urllib.parse
from datetime import UTC, datetime, timedelta

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from flask import Flask
from werkzeug.http import parse_options_header

from flask_dualmedia import MediaStorage, get_media, open_media, save_media_storage
from flask_dualmedia.errors import ConfigurationError, InvalidMedia, StorageError
from flask_dualmedia.state import get_state
from flask_dualmedia.storages.base import DelegatingStorage

from ..conftest import OUTSIDE, MakeApp, StorageOptions, opened
from ..samples import PDF, Tokens, counting, mp4, part, png, post_form

PAGE = {"referenceType": "page", "referenceId": "1"}
CONTENT = mp4(5000)


def post(app: Flask, content: bytes = CONTENT, filename: str = "film.mp4", **fields: str) -> t.Any:
    client, tokens = app.test_client(), Tokens.of(app)
    return post_form(
        client, tokens.alice, "/media/files", PAGE | fields | {"file": part(content, filename)}
    )


def path_of(answer: t.Any) -> str:
    assert answer.status_code == 201, answer.json
    return f"{answer.location}/content"


def accesses(app: Flask, path: str) -> int:
    """How often it was counted: once for all that one reader asks of it."""
    state = get_state(app)
    assert state.counter is not None
    state.counter.flush()
    with app.app_context():
        return get_media(MediaStorage, path.split("/")[-2]).access_count


@pytest.fixture
def redirecting(make_app: MakeApp, storage_options: StorageOptions) -> Flask:
    options = storage_options("s3", redirect=True)
    return make_app("mongo", DUALMEDIA_STORAGES=options, DUALMEDIA_DEFAULT_STORAGE="s3")


def test_a_redirect_is_good_for_this_object_and_this_while(redirecting: Flask) -> None:
    """The client gets the bytes, and any range of them, from S3; nobody who is not entitled learns
    where they are."""
    path, client, tokens = (
        path_of(post(redirecting)),
        redirecting.test_client(),
        Tokens.of(redirecting),
    )
    assert client.get(path).status_code == 401
    assert client.get(path, headers=tokens.bob).status_code == 404
    answer = client.get(path, headers=tokens.alice | {"Range": "bytes=10-19"})
    assert (answer.status_code, answer.data) == (302, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert {"Content-Range", "ETag", "Last-Modified", "Accept-Ranges"}.isdisjoint(
        answer.headers.keys()
    )
    signed = urllib.parse.parse_qs(urllib.parse.urlsplit(answer.location).query)
    assert int(signed["X-Amz-Expires"][0]) <= 300
    client.get(path, headers=tokens.alice)
    client.get(path, headers=tokens.alice | {"Range": "bytes=0-"})
    assert accesses(redirecting, path) == 1
    with requests.get(answer.location, timeout=10) as whole:
        assert (whole.status_code, whole.content) == (200, CONTENT)
        assert whole.headers["Content-Type"] == "video/mp4"
    with requests.get(answer.location, headers={"Range": "bytes=10-19"}, timeout=10) as ranged:
        assert (ranged.status_code, ranged.content) == (206, CONTENT[10:20])


def test_nothing_that_runs_is_shown_by_a_redirect(redirecting: Flask) -> None:
    """Type and disposition are part of what is signed, and those of the app's own answers."""
    client, tokens = redirecting.test_client(), Tokens.of(redirecting)
    for content, filename, disposition in (
        (b"<!doctype html><script>alert(1)</script>", "a.png", "attachment"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "größe.svg", "attachment"),
        (png(), "a.png", "inline"),
    ):
        made = post(redirecting, content, filename)
        location = client.get(path_of(made), headers=tokens.alice).location
        signed = urllib.parse.parse_qs(urllib.parse.urlsplit(location).query)
        with requests.get(location, timeout=10) as answer:
            for headers in ({name: values[0] for name, values in signed.items()}, answer.headers):
                shown = (
                    headers.get("response-content-disposition") or headers["Content-Disposition"]
                )
                assert parse_options_header(shown) == (disposition, {"filename": filename})
                mime_type = headers.get("response-content-type") or headers["Content-Type"]
                assert mime_type.partition(";")[0] == made.json["mimeType"]


def google_key() -> dict[str, str]:
    """The key of a service account that does not exist. URLs are signed without asking anybody."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "client_email": "a@p.example",
    }
    return account | {
        "private_key": key.private_bytes(*encoding).decode(),
        "token_uri": "http://127.0.0.1:1/token",
    }


@pytest.mark.parametrize("protocol", ["gs", "az"])
def test_a_redirect_to_other_clouds_says_what_is_shown(protocol: str) -> None:
    """The URL has type and disposition as the app's own answers have them, and holds for a
    while."""
    keys = {
        "gs": lambda: {"token": google_key(), "project": "p"},
        "az": lambda: {
            "account_name": "account",
            "account_key": base64.b64encode(bytes(32)).decode(),
        },
    }
    given = {"url": f"{protocol}://bucket/media", "redirect": True, "options": keys[protocol]()}
    storage = opened({"cloud": given})["cloud"]
    assert isinstance(storage, DelegatingStorage)
    shown = "text/html", "attachment; filename=\"a 'b'; c.html\""
    delegation = storage.delegate("0123456789-key", *shown)
    assert delegation is not None
    assert (delegation.status, delegation.headers["Cache-Control"]) == (302, "no-store")
    url = urllib.parse.urlsplit(delegation.headers["Location"])
    assert url.path.endswith("bucket/media/012345/0123456789-key")
    signed = {name: values[0] for name, values in urllib.parse.parse_qs(url.query).items()}
    if protocol == "gs":
        assert (signed["response-content-type"], signed["response-content-disposition"]) == shown
        assert signed["X-Goog-Expires"] == "300"
    else:
        assert (signed["rsct"], signed["rscd"]) == shown
        ends = datetime.fromisoformat(signed["se"])
        assert timedelta(seconds=200) < ends - datetime.now(UTC) <= timedelta(seconds=300)


def test_no_redirect_to_a_cloud_that_shows_objects_as_they_came() -> None:
    with pytest.raises(ConfigurationError, match="redirect"):
        opened({"cloud": {"url": "memory://bucket", "redirect": True}})


def test_questions_about_the_content_are_answered_without_a_redirect(redirecting: Flask) -> None:
    path, client, tokens = (
        path_of(post(redirecting)),
        redirecting.test_client(),
        Tokens.of(redirecting),
    )
    etag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    head = client.head(path, headers=tokens.alice)
    assert (head.status_code, head.headers["Content-Length"]) == (200, "5000")
    assert head.headers["ETag"] == etag
    for given, status in (
        ({"If-None-Match": etag}, 304),
        ({"If-Match": '"x"'}, 412),
        ({"Range": "bytes=5000-"}, 416),
    ):
        assert client.get(path, headers=tokens.alice | given).status_code == status
    with redirecting.app_context():
        record = get_media(MediaStorage, path.split("/")[-2])
        assert b"".join(open_media(record, 3, 7)) == CONTENT[3:7]


@pytest.mark.parametrize("option", ["x_accel_redirect", "x_sendfile"])
def test_the_web_server_sends_local_files(
    make_app: MakeApp, storage_options: StorageOptions, option: str, tmp_path: t.Any
) -> None:
    """The headers say what it is and where; of ranges the web server sees to it itself."""
    options = storage_options(
        "local", **{option: "/protected/" if option == "x_accel_redirect" else True}
    )
    app = make_app("mongo", DUALMEDIA_STORAGES=options, DUALMEDIA_DEFAULT_STORAGE="local")
    path, client, tokens = path_of(post(app)), app.test_client(), Tokens.of(app)
    assert client.get(path, headers=tokens.bob).status_code == 404
    answer = client.get(path, headers=tokens.alice | {"Range": "bytes=10-19"})
    assert (answer.status_code, answer.data) == (200, b"")
    assert "Content-Range" not in answer.headers
    client.get(path, headers=tokens.alice)
    assert accesses(app, path) == 1
    if option == "x_accel_redirect":
        place = answer.headers["X-Accel-Redirect"]
        assert place.startswith("/protected/")
        file = tmp_path / "local" / place.removeprefix("/protected/")
    else:
        file = tmp_path.__class__(answer.headers["X-Sendfile"])
    assert file.read_bytes() == CONTENT
    assert (answer.mimetype, answer.headers["X-Content-Type-Options"]) == ("video/mp4", "nosniff")
    assert answer.headers["Content-Security-Policy"].startswith(
        "default-src 'none'; media-src 'self'; "
    )
    for given, status in (({"If-Match": '"x"'}, 412), ({"Range": "bytes=5000-"}, 416)):
        refused = client.get(path, headers=tokens.alice | given)
        assert refused.status_code == status
        assert "X-Sendfile" not in refused.headers
        assert "X-Accel-Redirect" not in refused.headers
    head = client.head(path, headers=tokens.alice)
    assert (head.status_code, head.headers["Content-Length"]) == (200, "5000")


def test_who_chooses_the_storage(make_app: MakeApp, storage_options: StorageOptions) -> None:
    """A kind has a default, a request the allowed ones, a function every one that is set up."""
    options = {name: given for each in OUTSIDE for name, given in storage_options(each).items()}
    defaults = {"files": "local", "course-videos": "cloud"}
    app = make_app(
        "mongo",
        DUALMEDIA_STORAGES=options,
        DUALMEDIA_DEFAULT_STORAGE=defaults,
        DUALMEDIA_ALLOWED_STORAGES=["s3"],
        DUALMEDIA_REFERENCES={"course": None, "product": None},
    )
    client, tokens = app.test_client(), Tokens.of(app)

    def chosen(kind: str, owner: dict[str, str], **fields: str) -> t.Any:
        file = part(CONTENT if kind == "course-videos" else png())
        answer = post_form(client, tokens.alice, f"/media/{kind}", owner | fields | {"file": file})
        assert answer.json is not None
        if answer.status_code != 201:
            assert (answer.status_code, list(answer.json["errors"])) == (422, ["storageType"])
            return None
        assert client.get(f"{answer.location}/content", headers=tokens.alice).status_code == 200
        return answer.json["storageType"]

    assert chosen("files", PAGE) == chosen("files", PAGE, storageType="local") == "local"
    assert chosen("files", PAGE, storageType="s3") == "s3"
    assert chosen("course-videos", {"mongoCourseId": "1"}) == "cloud"
    assert chosen("product-images", {"mongoProductId": "1"}) == "database"
    for refused in ("google_drive", "cloud", "database", "external"):
        assert chosen("files", PAGE, storageType=refused) is None
    with app.app_context():
        for name in (*OUTSIDE, "database"):
            record = save_media_storage("page", "1", io.BytesIO(PDF), storage_type=name)
            assert (record.storage_type, b"".join(open_media(record))) == (name, PDF)


def test_replaced_and_deleted_bytes_are_gone_from_their_storage(
    make_app: MakeApp, storage_options: StorageOptions
) -> None:
    """Bytes are replaced where they are, whatever the default is now."""
    options = {name: given for each in OUTSIDE for name, given in storage_options(each).items()}
    app = make_app("mongo", DUALMEDIA_STORAGES=options, DUALMEDIA_ALLOWED_STORAGES=OUTSIDE)
    client, tokens = app.test_client(), Tokens.of(app)
    for name in OUTSIDE:
        storage, made = get_state(app).storages[name], post(app, storageType=name)
        path = path_of(made)
        (old,) = storage.keys()
        assert client.put(path, data=PDF, headers=tokens.alice).status_code == 200
        (new,) = storage.keys()
        assert old != new
        assert client.get(path, headers=tokens.alice).data == PDF
        assert client.delete(made.location, headers=tokens.alice).status_code == 204
        assert list(storage.keys()) == []


@pytest.mark.parametrize("name", ["s3", "google_drive"])
def test_a_storage_that_is_down_is_503_and_no_outage_of_sql(
    make_app: MakeApp, storage_options: StorageOptions, name: str
) -> None:
    """The answer has Retry-After, and media elsewhere is served on."""
    connection = {"s3": "endpoint_url", "google_drive": "base_url"}[name]
    options = storage_options(name, **{connection: "http://127.0.0.1:1"})
    app = make_app(DUALMEDIA_STORAGES=options, DUALMEDIA_ALLOWED_STORAGES=[name])
    client, tokens, state = app.test_client(), Tokens.of(app), get_state(app)
    held = path_of(post(app))
    refused = post(app, storageType=name)
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    assert name in refused.json["message"]
    assert "127.0.0.1" not in refused.text
    assert state.circuit is not None
    assert not state.circuit.is_open
    assert client.get(held, headers=tokens.alice).data == CONTENT
    # Nothing of it is seen: neither now nor when the sweep comes.
    assert (client.get("/media/files", headers=tokens.alice).json or {})["items"][0][
        "storageType"
    ] == "database"
    assert len((client.get("/media/files", headers=tokens.alice).json or {})["items"]) == 1


def test_a_storage_that_is_no_longer_set_up(
    make_app: MakeApp, storage_options: StorageOptions
) -> None:
    """It is a mistake of the host's, who is told; the record is not touched."""
    options = storage_options("local")
    app = make_app("mongo", DUALMEDIA_STORAGES=options)
    with app.app_context():
        record = save_media_storage("page", "1", io.BytesIO(PDF), storage_type="local")
    without = make_app("mongo")
    with without.app_context():
        with pytest.raises(StorageError, match="'local' is not set up"):
            open_media(record)
        with pytest.raises(InvalidMedia):
            save_media_storage("page", "1", io.BytesIO(PDF), storage_type="local")
    result = without.test_cli_runner().invoke(
        args=["dualmedia", "check", "--repair", "--grace", "0"]
    )
    assert (result.exit_code, "1 storage_unknown" in result.output) == (1, True)
    with app.app_context():
        assert b"".join(open_media(get_media(MediaStorage, record.id))) == PDF
    assert "local" in app.test_cli_runner().invoke(args=["dualmedia", "status"]).output


def test_large_content_comes_in_pieces(make_app: MakeApp, storage_options: StorageOptions) -> None:
    content = counting(3 * 1024 * 1024 + 5)
    options = storage_options("cloud")
    app = make_app("mongo", DUALMEDIA_STORAGES=options, DUALMEDIA_DEFAULT_STORAGE="cloud")
    made = post(app, content, "a.bin")
    answer = app.test_client().get(path_of(made), headers=Tokens.of(app).alice, buffered=False)
    sizes = [len(piece) for piece in t.cast("t.Iterable[bytes]", answer.response)]
    assert (sum(sizes), max(sizes)) == (len(content), 1024 * 1024)
