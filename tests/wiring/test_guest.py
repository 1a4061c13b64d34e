"""A guest in houses with habits of their own: hooks that read bodies, handlers of every error,
sessions, hosts."""

from __future__ import annotations

import itertools
import typing as t
from collections.abc import Callable

import jinja2
import pytest
from flask import Flask, Request, Response, abort, request, session, url_for
from flask.json.provider import DefaultJSONProvider
from flask.testing import FlaskClient
from jinja2.runtime import StrictUndefined
from werkzeug.exceptions import HTTPException, Unauthorized
from werkzeug.test import TestResponse

from flask_dualmedia import (
    ConfigurationError,
    content_url,
    dump_media,
    save_media_storage,
    signed_url,
)

from ..conftest import Furnish
from ..samples import (
    OFFSET_TYPE,
    PDF,
    Headers,
    bearer,
    counting,
    encoded,
    part,
    post_form,
)

LARGE = b"%PDF-1.7\n" + counting(200_000)

OWNER = {"referenceType": "note", "referenceId": "n1"}


def upload(
    client: FlaskClient, token: Headers, content: bytes = PDF, **fields: str
) -> TestResponse:
    return post_form(
        client, token, "/media/files", {"file": part(content, "a.pdf"), **OWNER, **fields}
    )


def uploaded(app: Flask, content: bytes = PDF, **fields: str) -> str:
    """The URL that content was uploaded to."""
    answer = upload(app.test_client(), bearer(app, "alice"), content, **fields)
    assert answer.status_code == 201, answer.text
    return answer.get_json()["url"]


READERS: dict[str, Callable[[], t.Any]] = {
    "data": lambda: request.get_data(),
    "data that nobody keeps": lambda: request.get_data(cache=False),
    "stream": lambda: request.stream.read(),
    "beginning of the stream": lambda: request.stream.read(4),
    "form": lambda: request.form.to_dict(),
    "JSON": lambda: request.get_json(silent=True),
    "input": lambda: request.environ["wsgi.input"].read(10),
}


# Without a length nobody would notice that the host has taken something of a body.
CHUNKED = {"wsgi.input_terminated": True, "CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}


def read_first(app: Flask, read: Callable[[], t.Any]) -> None:
    """Let the app read bodies before every view."""

    @app.before_request
    def reading() -> None:
        read()


@pytest.mark.parametrize("reader", READERS)
def test_a_small_body_that_the_host_reads_first_is_whole_all_the_same(
    furnish: Furnish, reader: str
) -> None:
    app = Flask("host")
    read_first(app, READERS[reader])
    furnish(app)
    client, token = app.test_client(), bearer(app, "alice")
    url = uploaded(app)
    assert client.get(url, headers=token).data == PDF
    types = ("application/pdf", "application/x-www-form-urlencoded")
    for number, (environ, content_type) in enumerate(itertools.product(({}, CHUNKED), types)):
        new = PDF + bytes([number])
        answer = client.put(
            url, data=new, content_type=content_type, headers=token, environ_overrides=environ
        )
        assert answer.status_code == 200, answer.text
        assert client.get(url, headers=token).data == new
    item = url.removesuffix("/content")
    assert client.patch(item, json={"title": "new"}, headers=token).get_json()["title"] == "new"


@pytest.mark.parametrize("reader", ["data that nobody keeps", "stream"])
def test_a_large_body_that_the_host_has_taken_is_an_error_that_says_so(
    furnish: Furnish, reader: str
) -> None:
    app = Flask("host")
    read_first(app, READERS[reader])
    furnish(app)
    client, token = app.test_client(), bearer(app, "alice")
    url = uploaded(app)
    tus = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(LARGE)),
        "Upload-Metadata": encoded({"kind": "files", **OWNER}),
        "Content-Type": OFFSET_TYPE,
    }
    requests: list[Callable[[], TestResponse]] = [
        lambda: upload(client, token, LARGE),
        lambda: client.put(url, data=LARGE, headers=token),
        lambda: client.post("/media/uploads", data=LARGE, headers=token | tus),
    ]
    for send in requests:
        with pytest.raises(RuntimeError, match="the app has read"):
            send()
    assert client.get(url, headers=token).data == PDF
    listed = client.get("/media/files?referenceId=n1&referenceType=note", headers=token)
    assert len(listed.get_json()["items"]) == 1


def test_a_large_body_that_flask_keeps_for_the_host_is_whole(furnish: Furnish) -> None:
    app = Flask("host")
    read_first(app, READERS["data"])
    read_first(app, READERS["form"])
    furnish(app)
    url = uploaded(app, LARGE)
    client, token = app.test_client(), bearer(app, "alice")
    assert client.get(url, headers=token).data == LARGE
    answer = client.put(url, data=LARGE + b"!", headers=token, content_type="application/pdf")
    assert answer.status_code == 200
    assert client.get(url, headers=token).data == LARGE + b"!"


def test_a_host_may_read_requests_and_answers_after_the_view(furnish: Furnish) -> None:
    app = Flask("host")
    seen = []

    @app.after_request
    def look(response: Response) -> Response:
        request.get_json(silent=True)
        seen.append((request.get_data(), request.form.to_dict(), response.get_data()))
        response.add_etag()
        response.make_conditional(request)
        return response

    furnish(app)
    client, token = app.test_client(), bearer(app, "alice")
    url = uploaded(app, LARGE)
    whole = client.get(url, headers=token)
    assert (whole.status_code, whole.data, seen[-1][2]) == (200, LARGE, LARGE)
    assert client.get(url, headers=token | {"Range": "bytes=7-9"}).data == LARGE[7:10]
    replaced = client.put(url, data=PDF, headers=token, content_type="application/pdf")
    assert replaced.status_code == 200
    edited = client.patch(url.removesuffix("/content"), json={"title": "x"}, headers=token)
    assert edited.status_code == 200
    assert seen[-1][0] == b'{"title": "x"}'
    assert upload(client, {}, LARGE).status_code == 401
    assert client.put(url, data=LARGE).status_code == 401
    assert seen[-1][0] == b""


def test_handlers_of_the_host_for_every_error_are_asked_about_its_own(furnish: Furnish) -> None:
    app = Flask("host")
    for code in [*range(400, 406), 412, 413, 415, 416, 422, 500, 503]:
        if code != 402:
            app.register_error_handler(
                code, lambda error: ("the host's page", getattr(error, "code", 500))
            )
    app.register_error_handler(HTTPException, lambda error: ("the host's page", error.code or 500))
    app.register_error_handler(Exception, lambda error: ("the host's page", 500))
    furnish(app, DUALMEDIA_MAX_SIZE=len(LARGE))
    client, token = app.test_client(), bearer(app, "alice")
    url = uploaded(app)
    ours = {
        400: client.post("/media/files", data="{", content_type="application/json", headers=token),
        401: client.get("/media/files"),
        403: client.get(f"{url}?signature=x"),
        404: client.get("/media/files/x", headers=token),
        412: client.get(url, headers=token | {"If-Match": '"x"'}),
        413: client.post(
            "/media/files", data=b"x" * 2_000_000, content_type="application/json", headers=token
        ),
        415: client.post("/media/files", data="x", content_type="text/plain", headers=token),
        416: client.get(url, headers=token | {"Range": "bytes=5000-"}),
        422: client.post("/media/files", json={}, headers=token),
    }
    for status, answer in ours.items():
        assert (answer.status_code, answer.get_json()["code"]) == (status, status)
    assert ours[416].headers["Content-Range"] == f"bytes */{len(PDF)}"
    for path in ("/nowhere", "/media/nowhere"):
        assert (client.get(path).status_code, client.get(path).text) == (404, "the host's page")
    assert client.delete("/media/health").text == "the host's page"


@pytest.mark.parametrize("handled", [True, False])
def test_a_host_that_refuses_everything_is_obeyed(furnish: Furnish, handled: bool) -> None:
    app = Flask("host")
    app.before_request(lambda: abort(401))
    if handled:
        app.register_error_handler(401, lambda error: ("Please sign in", 401))
    furnish(app)
    client, token = app.test_client(), bearer(app, "alice")
    for answer in (client.get("/media/health", headers=token), upload(client, token, LARGE)):
        assert answer.status_code == 401
        assert (answer.text == "Please sign in") is handled


def test_an_answer_that_the_host_aborts_with_is_left_as_it_is(furnish: Furnish) -> None:
    app = Flask("host")

    @app.before_request
    def refuse() -> None:
        raise Unauthorized(response=Response("Pay first", 402, {"X-Price": "7"}))

    furnish(app)
    answer = app.test_client().get("/media/health")
    assert (answer.status_code, answer.text, answer.headers["X-Price"]) == (402, "Pay first", "7")


def test_whatever_hooks_do_to_every_answer_content_stays_in_its_sandbox(furnish: Furnish) -> None:
    app = Flask("host")

    @app.after_request
    def decorate(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = "script-src 'unsafe-inline'"
        response.headers["X-Frame-Options"] = "DENY"
        response.headers.pop("X-Content-Type-Options", None)
        return response

    furnish(app)
    url = uploaded(app, b"<!doctype html><script>alert(1)</script>")
    client, token = app.test_client(), bearer(app, "alice")
    for headers, status in (({}, 200), ({"Range": "bytes=0-3"}, 206)):
        answer = client.get(url, headers=token | headers)
        assert answer.status_code == status
        policies = answer.headers.getlist("Content-Security-Policy")
        assert policies == ["script-src 'unsafe-inline'", "default-src 'none'; sandbox"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"


def test_public_content_gives_nobodys_cookie_to_caches(furnish: Furnish) -> None:
    app = Flask("host")

    @app.before_request
    def visit() -> None:
        session.permanent = True
        session["visited"] = True

    @app.after_request
    def mark(response: Response) -> Response:
        response.set_cookie("seen", "1")
        response.vary.update(["Origin", "Cookie"])
        return response

    furnish(app)
    public, private = uploaded(app, isPublic="true"), uploaded(app)
    client, token = app.test_client(), bearer(app, "alice")
    etag = client.get(public).headers["ETag"]
    answers = [
        client.get(public),
        client.head(public),
        client.get(public, headers={"Range": "bytes=0-3"}),
        client.get(public, headers={"If-None-Match": etag}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 206, 304]
    for answer in answers:
        assert "Set-Cookie" not in answer.headers
        assert answer.headers["Vary"] == "Sec-Fetch-Dest, Origin"
    assert len(client.get(private, headers=token).headers.getlist("Set-Cookie")) == 2


def test_hooks_that_compress_leave_content_alone(furnish: Furnish) -> None:
    app = Flask("host")

    @app.after_request
    def compress(response: Response) -> Response:
        if "Content-Encoding" not in response.headers:
            response.set_data(b"compressed")
            response.headers["Content-Encoding"] = "gzip"
        return response

    furnish(app)
    with app.app_context():
        record = save_media_storage("note", "n1", PDF, is_public=True)
        url = content_url(record)
    client = app.test_client()
    assert client.get("/media/health").data == b"compressed"
    whole, piece = client.get(url), client.get(url, headers={"Range": "bytes=0-3"})
    assert (whole.data, piece.data, piece.status_code) == (PDF, PDF[:4], 206)
    assert "Content-Encoding" not in whole.headers
    assert whole.headers["ETag"] == piece.headers["ETag"] == f'"{record.checksum}"'


class Upper(DefaultJSONProvider):
    def dumps(self, obj: t.Any, **options: t.Any) -> str:
        return super().dumps({"DATA": obj}, **options)

    def loads(self, s: str | bytes, **options: t.Any) -> t.Any:
        raise AssertionError("media routes read JSON themselves")


def test_json_on_the_wire_is_ours_whatever_the_host_writes(furnish: Furnish) -> None:
    app = Flask("host")
    app.json = Upper(app)
    furnish(app)
    client, token = app.test_client(), bearer(app, "alice")
    values = '{"referenceType": "note", "referenceId": "n1", "url": "https://cdn.example/a"}'
    created = client.post(
        "/media/files", data=values, content_type="application/json", headers=token
    )
    assert created.status_code == 201
    for path in (
        "/media/files",
        "/media/health",
        "/media/openapi.json",
        created.headers["Location"],
        "/media/files/x",
    ):
        answer = client.get(path, headers=token)
        assert (answer.mimetype, "DATA" in answer.text[:10]) == ("application/json", False)
    assert client.delete(created.headers["Location"], headers=token).data == b""
    assert app.json.dumps(1) == '{"DATA": 1}'


def test_our_page_does_not_depend_on_the_hosts_jinja(furnish: Furnish) -> None:
    page = furnish(Flask("plain")).test_client().get("/media/docs").text
    app = Flask("host")
    app.jinja_options = {
        "undefined": StrictUndefined, "autoescape": False,
        "block_start_string": "[%", "block_end_string": "%]",
        "variable_start_string": "[[", "variable_end_string": "]]",
    }  # fmt: skip
    app.context_processor(lambda: {"spec": None, "url_for": None})
    assert isinstance(app.jinja_env, jinja2.Environment)
    assert furnish(app).test_client().get("/media/docs").text == page


class Narrow(Request):
    @property
    def max_content_length(self) -> int:  # type: ignore[override]
        return 100_000


class Branded(Response):
    default_mimetype = "application/xml"
    autocorrect_location_header = True

    def __init__(self, *args: t.Any, **options: t.Any) -> None:
        super().__init__(*args, **options)
        self.headers["X-Host"] = "house"


def test_requests_and_answers_are_of_the_hosts_own_classes(furnish: Furnish) -> None:
    app = Flask("host")
    app.request_class, app.response_class = Narrow, Branded
    furnish(app)
    client, token = app.test_client(), bearer(app, "alice")
    url = uploaded(app)
    answers = [
        client.get(url, headers=token),
        client.get("/media/health"),
        client.get("/media/files"),
    ]
    assert [answer.headers["X-Host"] for answer in answers] == ["house"] * 3
    assert [answer.mimetype for answer in answers] == [
        "application/pdf",
        "application/json",
        "application/json",
    ]
    assert client.get("/media/docs").mimetype == "text/html"
    large = '{"title": "' + "x" * 150_000 + '"}'
    item = url.removesuffix("/content")
    answer = client.patch(item, data=large, content_type="application/json", headers=token)
    assert answer.status_code == 413


def test_urls_outside_of_requests_are_below_the_root_of_the_app(furnish: Furnish) -> None:
    app = furnish(Flask("host"), APPLICATION_ROOT="/shop", SERVER_NAME="shop.example")
    with app.app_context():
        record = save_media_storage("note", "n1", PDF)
        path = f"/shop/media/files/{record.id}/content"
        assert content_url(record) == dump_media(record)["url"] == path
        assert signed_url(record).startswith(f"{path}?")
        whole_url = url_for("dualmedia.files_content", media_id=record.id, _external=True)
        assert whole_url == f"http://shop.example{path}"
    with app.test_request_context("/", base_url="http://shop.example/elsewhere"):
        assert content_url(record) == f"/elsewhere/media/files/{record.id}/content"
        other = furnish(Flask("other"))
        with other.app_context():  # of which this is no request
            assert content_url(record) == f"/media/files/{record.id}/content"


def test_an_app_that_matches_hosts_says_where_media_is(furnish: Furnish) -> None:
    with pytest.raises(ConfigurationError, match="DUALMEDIA_HOST"):
        furnish(Flask("host", host_matching=True, static_host="www.example"))
    app = Flask("host", host_matching=True, static_host="www.example")
    app.add_url_rule(
        "/", endpoint="home", view_func=lambda: content_url(record), host="www.example"
    )
    furnish(app, DUALMEDIA_HOST="media.example", SERVER_NAME="www.example")
    client = app.test_client()
    with app.app_context():
        record = save_media_storage("note", "n1", PDF, is_public=True)
        url = f"http://media.example/media/files/{record.id}/content"
        assert content_url(record) == dump_media(record)["url"] == url
    assert client.get("/", base_url="http://www.example").text == url
    assert client.get(url).data == PDF
    assert client.get("/media/health", base_url="http://www.example").status_code == 404


def test_an_app_that_matches_subdomains_may_have_media_on_one(furnish: Furnish) -> None:
    with pytest.raises(ConfigurationError, match="DUALMEDIA_SUBDOMAIN"):
        furnish(Flask("host"), DUALMEDIA_SUBDOMAIN="media")
    app = Flask("host", subdomain_matching=True)
    app.add_url_rule("/", endpoint="home", view_func=lambda: content_url(record))
    app.add_url_rule("/media/<name>", endpoint="mine", view_func=lambda name: "the host's")
    furnish(app, DUALMEDIA_SUBDOMAIN="media", SERVER_NAME="house.example")
    client = app.test_client()
    with app.app_context():
        record = save_media_storage("note", "n1", PDF, is_public=True)
    url = f"http://media.house.example/media/files/{record.id}/content"
    assert client.get("/", base_url="http://house.example").text == url
    assert client.get(url).data == PDF
    assert client.get("/media/health", base_url="http://house.example").text == "the host's"
