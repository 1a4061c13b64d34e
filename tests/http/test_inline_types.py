"""Content that browsers show when it is opened as a page, and content that they never run."""

from __future__ import annotations

import typing as t

import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers

from flask_dualmedia import ConfigurationError
from flask_dualmedia.config import Settings

from ..conftest import MakeApp
from ..samples import PDF, Owners, Tokens, mp4, part, png, post_file

SANDBOX = "default-src 'none'; sandbox"

PICTURE = (
    "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
PLAYER = PICTURE.replace("img-src", "media-src")
PDF_VIEWER = PICTURE.replace("img-src", "object-src")

SCRIPT = b"<script>alert(1)</script>"

ACTIVE_FILES = {
    "a.html": b"<!doctype html>" + SCRIPT,
    "a.svg": b'<svg xmlns="http://www.w3.org/2000/svg">' + SCRIPT + b"</svg>",
    "a.xml": b'<?xml version="1.0"?><a xmlns:h="http://www.w3.org/1999/xhtml"><h:script>alert(1)</h:script></a>',
    "a.xhtml": b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">'
    + SCRIPT
    + b"</html>",
    "a.js": b"alert(1)",
    "a.css": b"body { display: none }",
    "a.mhtml": b"MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=x\r\n\r\n--x\r\n",
}

ACTIVE_TYPES = (
    "text/html", "application/xhtml+xml",
    "application/vnd.wap.xhtml+xml", "text/xml", "application/xml",
    "application/rss+xml", "application/mathml+xml",
    "image/svg+xml", "image/svg", "IMAGE/SVG+XML", "text/xsl",
    "application/xslt+xml", "text/javascript",
    "application/javascript", "application/x-javascript", "text/ecmascript",
    "text/jscript", "text/vbscript",
    "text/css", "application/wasm", "multipart/related", "message/rfc822",
    "application/x-shockwave-flash", "application/java-archive",
    "application/hta", "application/x-mimearchive",
    "application/vnd.mozilla.xul+xml", "text/x-component",
    "text/x-scriptlet", "text/html; charset=utf-8",
)  # fmt: skip


def read(value: t.Any) -> frozenset[str]:
    return Settings.from_config({"DUALMEDIA_INLINE_TYPES": value}, host_has_sql=False).inline_types


def answer_headers(
    client: FlaskClient, tokens: Tokens, owners: Owners, content: bytes, filename: str
) -> Headers:
    """The headers with which a file is served."""
    made = post_file(client, tokens.alice, "files", owners, file=part(content, filename))
    return client.get(f"{made.location}/content", headers=tokens.alice).headers


def shown(headers: Headers) -> tuple[str, str]:
    return headers["Content-Disposition"].split(";")[0], headers["Content-Security-Policy"]


@pytest.mark.parametrize("text", [*ACTIVE_TYPES])
def test_a_type_that_could_run_is_refused_at_start(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"DUALMEDIA_INLINE_TYPES has .* could run"):
        read(["application/pdf", text])


@pytest.mark.parametrize(
    "text", ["*/*", "image/*", "pdf", "", "a/b, c/d", 7, None, "application/octet-stream"]
)
def test_what_is_not_one_type_is_refused_at_start(text: t.Any) -> None:
    with pytest.raises(
        ConfigurationError, match=r"DUALMEDIA_INLINE_TYPES has .* not one MIME type"
    ):
        read([text])


@pytest.mark.parametrize("value", ["application/pdf", {"application/pdf": True}, 7, None])
def test_inline_types_are_a_list(value: t.Any) -> None:
    with pytest.raises(ConfigurationError, match=r"DUALMEDIA_INLINE_TYPES is .* not a list"):
        read(value)


def test_a_pdf_is_shown_where_the_host_says_so(make_app: MakeApp, owners: Owners) -> None:
    for value, expected in (
        ([], ("attachment", SANDBOX)),
        (["application/pdf"], ("inline", PDF_VIEWER)),
        (["application/x-pdf"], ("inline", PDF_VIEWER)),  # another name for it
    ):
        app = make_app("mongo", DUALMEDIA_INLINE_TYPES=value)
        client, tokens = app.test_client(), Tokens.of(app)
        made = post_file(client, tokens.alice, "files", owners, file=part(PDF, "a.pdf"))
        answer = client.get(f"{made.location}/content", headers=tokens.alice)
        assert shown(answer.headers) == expected
        # A download is a download all the same.
        downloaded = client.get(f"{made.location}/content?download=1", headers=tokens.alice)
        assert shown(downloaded.headers) == ("attachment", SANDBOX)


def test_pictures_films_and_sound_have_a_page_that_may_load_them(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    for content, filename, policy in (
        (png(), "a.png", PICTURE),
        (mp4(), "a.mp4", PLAYER),
        (b"ID3\x03" + bytes(200), "a.mp3", PLAYER),
        (b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100), "a.wav", PLAYER),
    ):
        made = post_file(client, tokens.alice, "files", owners, file=part(content, filename))
        url = f"{made.location}/content"
        for headers in ({}, {"Range": "bytes=1-2"}):
            answer = client.get(url, headers=tokens.alice | headers)
            assert shown(answer.headers) == ("inline", policy), filename
        assert shown(client.head(url, headers=tokens.alice).headers) == ("inline", policy)


def test_what_could_run_stays_in_its_sandbox_whatever_is_shown(
    make_app: MakeApp, owners: Owners
) -> None:
    app = make_app(
        "mongo", DUALMEDIA_INLINE_TYPES=["application/pdf", "text/plain", "application/json"]
    )
    client, tokens = app.test_client(), Tokens.of(app)
    for filename, content in ACTIVE_FILES.items():
        # As itself, and as what is shown.
        for name in (filename, "a.pdf", "a.png"):
            headers = answer_headers(client, tokens, owners, content, name)
            assert shown(headers) == ("attachment", SANDBOX), filename
    # Text is shown in the sandbox: it needs no page that loads anything.
    assert shown(answer_headers(client, tokens, owners, b"text\n", "a.txt")) == ("inline", SANDBOX)


@pytest.mark.parametrize(
    "purpose", ["script", "style", "xslt", "worker", "sharedworker", "serviceworker"]
)
def test_a_page_of_the_host_cannot_run_content_nor_be_styled_by_it(
    client: FlaskClient, tokens: Tokens, owners: Owners, purpose: str
) -> None:
    """Browsers say what they fetch something for. A stylesheet in XSLT would be taken from content
    of any type."""
    made = post_file(
        client,
        tokens.alice,
        "files",
        owners,
        file=part(ACTIVE_FILES["a.xml"], "a.xml"),
        isPublic="true",
    )
    refused = client.get(f"{made.location}/content", headers={"Sec-Fetch-Dest": purpose})
    assert refused.status_code == 403
    assert refused.headers["Cache-Control"] == "private, no-store"
    for other in ("document", "empty", "image", "video", "audio", "iframe", "object"):
        answer = client.get(f"{made.location}/content", headers={"Sec-Fetch-Dest": other})
        # A cache must not give it to whom it would be refused.
        assert (answer.status_code, answer.headers["Vary"]) == (200, "Sec-Fetch-Dest")
