"""Each kind's policy: type, name and the uploader's word must agree with the bytes, and images have
a limit of size."""

from __future__ import annotations

import io
import socket
import struct
import typing as t
import zlib

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from flask_dualmedia import (
    ConfigurationError,
    ProductImage,
    UnsupportedType,
    UploadRejected,
    get_media,
    save_media_storage,
    save_product_image,
)
from flask_dualmedia.content.policy import Policy, read_policies
from flask_dualmedia.content.uploads import label
from flask_dualmedia.models import KINDS, Media
from flask_dualmedia.state import State, get_state

from ..conftest import MakeApp
from ..samples import (
    NOTHING,
    PDF,
    Owners,
    Tokens,
    kept,
    mp4,
    part,
    png,
    post_file,
    post_form,
    post_url,
)

JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    b"\xff\xc0\x00\x0b\x08\x00\x05\x00\x06\x01\x01\x11\x00\xff\xda" + bytes(100)
)
GIF = b"GIF89a" + struct.pack("<HHBBB", 4, 3, 0, 0, 0) + b";"
HTML = b"<!doctype html><script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
WEBP = (
    b"RIFF\x24\x00\x00\x00WEBPVP8 \x18\x00\x00\x00"
    + bytes(3)
    + b"\x9d\x01\x2a\x06\x00\x05\x00"
    + bytes(100)
)
ZIP = b"PK\x03\x04" + bytes(40)
XHTML = b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'/>"
MHTML = b"MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=x\r\n"

POLYGLOT = b"GIF89a/*" + bytes(20) + b"*/=1;alert(document.domain)//"
"""A GIF and a script."""


def bomb(width: int, height: int) -> bytes:
    """A whole PNG of one bit per pixel: large when it is decoded, small before."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)

    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.fixture
def mode() -> str:
    """A policy decides before any database is asked: one mode is enough."""
    return "dual"


def status_of(response: TestResponse) -> tuple[int, list[str]]:
    """The status, and the fields that the messages are under."""
    assert response.json is not None
    return response.status_code, list(response.json.get("errors", {}))


PROGRAM = b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0" + bytes(20)

REJECTED = (415, ["file"])

# Bytes, filename and declared type, and whether they pass as a product image.
IMAGES: list[tuple[bytes, str, str | None, bool]] = [
    (png(), "a.png", "image/png", True),
    (png(), "a.PNG", "image/png", True),
    (png(), "a", None, True),
    (png(), "a.png", "application/octet-stream", True),
    (png(), "a.png", "image/x-png", True),
    (JPEG, "a.jpg", "image/jpeg", True),
    (JPEG, "a.JPEG", "image/jpg", True),
    (JPEG, "a.jfif", "image/pjpeg", True),
    (JPEG, "photo.of.2026.jpg", "image/jpeg", True),
    (GIF, "a.gif", "image/gif", True),
    (POLYGLOT, "a.gif", "image/gif", True),  # it is a GIF, and served as nothing else
    # bytes that are no image, whatever they are called
    (HTML, "a.jpg", "image/jpeg", False),
    (HTML, "a.png", None, False),
    (SVG, "a.svg", "image/svg+xml", False),
    (SVG, "a.png", "image/png", False),
    (PDF, "a.png", "image/png", False),
    (mp4(), "a.png", "image/png", False),
    (b"text", "a.png", "image/png", False),
    (b"\x7fELF" + bytes(60), "a.png", "image/png", False),
    (b"MZ" + bytes(60), "a.png", "image/png", False),
    (b"II*\0" + bytes(60), "a.tif", "image/tiff", False),  # an image, which browsers do not show
    # images that are called something else
    (png(), "x.php", "image/png", False),
    (png(), "x.php.jpg", "image/jpeg", False),
    (png(), "x.png.php", "image/png", False),
    (png(), "x.pHp5", "image/png", False),
    (png(), "x.html", "image/png", False),
    (png(), "x.svg", "image/png", False),
    (png(), "x.php.", "image/png", False),
    (png(), "x.php...", "image/png", False),
    (png(), "x.php ", "image/png", False),
    (png(), ".php", "image/png", False),
    (png(), ".htaccess", "image/png", False),
    (png(), "x.png::$DATA", "image/png", False),
    (png(), "x.png;.php", "image/png", False),
    (png(), "x.\uff50\uff48\uff50", "image/png", False),
    (png(), "x.jpg", "image/jpeg", False),
    (POLYGLOT, "x.js", "text/javascript", False),
    # images that are declared as something else
    (png(), "a.png", "text/html", False),
    (png(), "a.png", "image/jpeg", False),
    (png(), "a.png", "image/svg+xml", False),
    (png(), "a", "application/x-httpd-php", False),
    # what is no type declares nothing
    (png(), "a", "nonsense", True),
    (png(), "a", "image/*", True),
    (png(), "a", "audio/*", False),
]  # fmt: skip


def test_type_name_and_declaration_agree(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State
) -> None:
    """A product image is an image by its bytes, its name and its declared type."""
    for content, filename, declared, accepted in IMAGES:
        answer = post_file(
            client, tokens.alice, "product-images", owners, file=part(content, filename, declared)
        )
        if accepted:
            assert answer.status_code == 201, (filename, declared, answer.json)
            client.delete(answer.location, headers=tokens.alice)
        else:
            assert status_of(answer) == REJECTED, (filename, declared)
        assert kept(state) == NOTHING


def test_the_name_is_checked_as_it_is_kept(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    """The name behind the folder, without characters that are not printed, cut. A field wins over
    the name of the file."""
    for filename, accepted in (
        ("x.php/a.png", True),
        ("x.png/a.php", False),
        ("x.ph\u200bp", False),
        ("x.php\u202e", False),
        ("x.p\u202eng", True),
        ("n" * 300 + ".png", True),
        ("n" * 300 + ".php", False),
    ):
        file = part(png(), filename, "image/png")
        answer = post_file(client, tokens.alice, "product-images", owners, file=file)
        assert answer.status_code == (201 if accepted else 415), filename
    for given_name, sent, status in (("a.png", "x.php", 201), ("x.php", "a.png", 415)):
        answer = post_file(
            client,
            tokens.alice,
            "product-images",
            owners,
            file=part(png(), sent, "image/png"),
            filename=given_name,
        )
        assert answer.status_code == status


def test_a_rename_is_checked_too(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    """Every new name is checked."""
    image = part(png(), "a.png")
    location = post_file(client, tokens.alice, "product-images", owners, file=image).location
    for filename in ("x.php", "x.jpg", "x.png.html", ".php", "x.php\u200b", "a/x.svg"):
        answer = client.patch(location, json={"filename": filename}, headers=tokens.alice)
        assert status_of(answer) == (422, ["filename"]), filename
        assert client.get(location, headers=tokens.alice).json["filename"] == "a.png"  # type: ignore[index]
    for filename, expected in (("b.PNG", "b.PNG"), ("c/d.png", "d.png"), ("e", "e"), (None, None)):
        answer = client.patch(location, json={"filename": filename}, headers=tokens.alice)
        assert (answer.status_code, (answer.json or {})["filename"]) == (200, expected)


def test_a_name_follows_other_bytes(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    """A replacement has no name of its own, and the old one must not tell lies about it."""
    image = part(png(), "a.b.png")
    location = post_file(client, tokens.alice, "product-images", owners, file=image).location
    for content, declared, expected in (
        (JPEG, "image/jpeg", "a.b.jpg"),
        (GIF, "application/x-www-form-urlencoded", "a.b.gif"),
        (png(), None, "a.b.png"),
        (png(5), "image/png", "a.b.png"),
    ):
        answer = client.put(
            f"{location}/content", data=content, content_type=declared, headers=tokens.alice
        )
        assert (answer.status_code, (answer.json or {})["filename"]) == (200, expected)
    for content, declared in (
        (HTML, "image/png"),
        (JPEG, "image/png"),
        (SVG, None),
        (PDF, "application/pdf"),
    ):
        answer = client.put(
            f"{location}/content", data=content, content_type=declared, headers=tokens.alice
        )
        assert status_of(answer) == REJECTED
    assert client.get(f"{location}/content", headers=tokens.alice).data == png(5)
    client.patch(location, json={"filename": "n" * 251 + ".png"}, headers=tokens.alice)
    answer = client.put(f"{location}/content", data=WEBP, headers=tokens.alice)
    assert (answer.status_code, (answer.json or {})["filename"]) == (200, "n" * 250 + ".webp")


def test_videos_go_by_the_names_of_their_container(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    for brand, filename, declared, accepted in (
        (b"isom", "a.mp4", "video/mp4", True),
        (b"isom", "a.m4v", "video/x-m4v", True),
        (b"qt  ", "a.mov", "video/quicktime", True),
        (b"isom", "a.mov", "video/quicktime", True),
        (b"3gp5", "a.mp4", "video/mp4", True),
        (b"isom", "a.webm", "video/webm", False),
        (b"isom", "a.exe", "video/mp4", False),
        (b"isom", "a.m3u8", "application/vnd.apple.mpegurl", False),
        (b"M4A ", "a.mp4", "video/mp4", False),  # sound alone
        (b"avif", "a.mp4", "video/mp4", False),
    ):
        file = part(mp4(brand=brand), filename, declared)
        answer = post_file(client, tokens.alice, "course-videos", owners, file=file)
        assert answer.status_code == (201 if accepted else 415), (brand, filename, answer.json)


@pytest.mark.parametrize("kind", ["files", "course-resources"])
def test_what_accepts_anything_believes_nothing(
    client: FlaskClient, tokens: Tokens, owners: Owners, kind: str
) -> None:
    """Such a file is kept, typed by its bytes, and inert: nothing of it runs in the host's
    origin."""
    for content, filename, declared, mime_type in (
        (HTML, "a.jpg", "image/jpeg", "text/html"),
        (SVG, "a.png", "image/png", "image/svg+xml"),
        (XHTML, "a.png", "image/png", "text/xml"),
        (b"\x7fELF" + bytes(60), "a.pdf", "application/pdf", "application/x-executable"),
        (PROGRAM, "a.pdf", "application/pdf", "application/vnd.microsoft.portable-executable"),
        (b"alert(1)", "a.pdf", "application/pdf", "application/octet-stream"),
        (MHTML, "a.mhtml", "multipart/related", "application/octet-stream"),
    ):
        made = post_file(
            client,
            tokens.alice,
            kind,
            owners,
            file=part(content, filename, declared),
            isPublic="true",
        )
        assert (made.status_code, (made.json or {})["mimeType"]) == (201, mime_type)
        headers = client.get(f"{made.location}/content").headers
        assert headers["Content-Type"].split(";")[0] == mime_type
        assert headers["Content-Disposition"].startswith("attachment;")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


def test_a_polyglot_is_served_as_what_browsers_do_not_run(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    """It is served as a picture and nothing else, so that `<script src>` refuses it."""
    made = post_file(
        client, tokens.alice, "files", owners, file=part(POLYGLOT, "a.js", "text/javascript")
    )
    headers = client.get(f"{made.location}/content", headers=tokens.alice).headers
    assert (headers["Content-Type"], headers["X-Content-Type-Options"]) == ("image/gif", "nosniff")


def test_a_script_is_no_script_for_pages_of_the_host(
    client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    """`<script src>` runs attachments too, and from the host's own origin if its policy has
    'self'."""
    for mime_type in (
        "text/javascript",
        "application/x-javascript",
        "text/ecmascript",
        "text/jscript",
    ):
        made = post_file(
            client, tokens.alice, "files", owners, file=part(b"alert(1)", "a", mime_type)
        )
        assert (made.json or {})["mimeType"] == mime_type
        headers = client.get(f"{made.location}/content", headers=tokens.alice).headers
        assert headers["Content-Type"] == "application/octet-stream"
        assert headers["X-Content-Type-Options"] == "nosniff"


# Pixels


@pytest.mark.parametrize("kind", ["product-images", "files"])
def test_a_bomb_does_not_go_off(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State, kind: str
) -> None:
    """20 KB of 168 megapixels are refused by the first bytes of the file."""
    content = bomb(12_960, 12_960)
    assert len(content) < 25_000
    answer = post_file(client, tokens.alice, kind, owners, file=part(content, "a.png", "image/png"))
    assert status_of(answer) == (422, ["file"])
    assert "12960 x 12960" in (answer.json or {})["message"]
    assert kept(state) == NOTHING
    location = post_file(client, tokens.alice, kind, owners, file=part(png(), "a.png")).location
    before = kept(state)
    answer = client.put(f"{location}/content", data=content, headers=tokens.alice)
    assert status_of(answer) == (422, ["file"])
    assert kept(state) == before


def test_pixels_to_the_last_one(make_app: MakeApp) -> None:
    policy = {"product-images": {"max_pixels": 100}, "files": {"max_pixels": None}}
    client, alice = client_of(
        make_app("mongo", DUALMEDIA_POLICY=policy, DUALMEDIA_REFERENCES=UNCHECKED)
    )
    for width, height, status in ((10, 10, 201), (100, 1, 201), (101, 1, 422), (10, 11, 422)):
        assert post_image(client, alice, png(width, height)).status_code == status
    huge = {"file": part(bomb(20_000, 20_000)), "referenceType": "page", "referenceId": "1"}
    assert post_form(client, alice, "/media/files", huge).status_code == 201


def test_an_image_is_measured(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    """Width and height come from the bytes where nobody gives them."""

    def size(response: TestResponse) -> tuple[t.Any, t.Any]:
        assert response.json is not None
        return response.json["width"], response.json["height"]

    made = post_file(client, tokens.alice, "product-images", owners, file=part(png(3, 2)))
    assert size(made) == (3, 2)
    given_by_hand = post_file(
        client, tokens.alice, "product-images", owners, file=part(png(3, 2)), width="30"
    )
    assert size(given_by_hand) == (30, None)
    content = f"{made.location}/content"
    assert size(client.put(content, data=GIF, headers=tokens.alice)) == (4, 3)
    assert size(client.put(content, data=JPEG, headers=tokens.alice)) == (6, 5)


# Addresses


def test_an_address_is_never_asked(
    client: FlaskClient, tokens: Tokens, owners: Owners, app: Flask
) -> None:
    """External media is a URL for browsers: the app sends no request to it, be it of this machine
    or another."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/a.png"
        made = post_url(
            client, tokens.alice, "product-images", owners, imageUrl=url, isMainImage=True
        )
        answer = client.get(f"{made.location}/content", headers=tokens.alice)
        assert (made.status_code, answer.status_code, answer.location) == (201, 302, url)
        client.patch(
            made.location, json={"imageUrl": f"{url}?2", "isPublic": True}, headers=tokens.alice
        )
        client.put(f"{made.location}/content", data=png(), headers=tokens.alice)
        with app.app_context():
            assert save_product_image(owners.product, url).image_url == url
        assert client.delete(made.location, headers=tokens.alice).status_code == 204
        with pytest.raises(BlockingIOError):
            listener.accept()


# Settings


UNCHECKED = {"product": None, "course": None, "user": None}


def client_of(app: Flask) -> tuple[FlaskClient, dict[str, str]]:
    return app.test_client(), Tokens.of(app).alice


def post_image(
    client: FlaskClient, headers: dict[str, str], content: bytes, filename: str = "a"
) -> TestResponse:
    form = {"file": part(content, filename), "mongoProductId": "1"}
    return post_form(client, headers, "/media/product-images", form)


def test_the_host_chooses_types_and_extensions(make_app: MakeApp) -> None:
    policy = {
        "product-images": {"types": ["image/*"]},
        "course-resources": {"types": ("application/pdf", "text/*"), "extensions": [".PDF", "txt"]},
        "files": {"extensions": ["zip", "dat"]},
    }
    client, alice = client_of(
        make_app("mongo", DUALMEDIA_POLICY=policy, DUALMEDIA_REFERENCES=UNCHECKED)
    )
    assert post_image(client, alice, SVG, "a.svg").status_code == 201
    assert post_image(client, alice, PDF, "a.pdf").status_code == 415
    for kind, content, filename, status in (
        ("course-resources", PDF, "a.pdf", 201),
        ("course-resources", b"text", "a.txt", 201),
        (
            "course-resources",
            b"a,b",
            "a.csv",
            415,
        ),  # a type that is accepted, an extension that is not
        ("course-resources", PDF, "a", 415),  # where extensions are listed, a name has one
        ("course-resources", PDF, "a.txt", 415),
        ("course-resources", b"text", "a.pdf", 415),
        ("course-resources", HTML, "a.txt", 415),
        ("course-resources", png(), "a.pdf", 415),
        ("files", ZIP, "a.zip", 201),
        ("files", b"\x01\x02\x03", "a.dat", 201),  # of no known type, by bytes and by name
        ("files", b"\x01\x02\x03", "a.zip", 415),
        ("files", HTML, "a.zip", 415),
        ("files", ZIP, "a.jar", 415),
    ):
        owner = (
            {"mongoCourseId": "1"}
            if kind != "files"
            else {"referenceType": "page", "referenceId": "1"}
        )
        answer = post_form(
            client, alice, f"/media/{kind}", owner | {"file": part(content, filename)}
        )
        assert answer.status_code == status, (kind, filename, answer.json)
    # and a rename
    form = {"mongoCourseId": "1", "file": part(PDF, "a.pdf")}
    location = post_form(client, alice, "/media/course-resources", form).location
    for name in (None, "a", "a.csv", "a.txt"):
        answer = client.patch(location, json={"filename": name}, headers=alice)
        assert status_of(answer) == (422, ["filename"]), name


def test_each_kind_has_its_size(make_app: MakeApp) -> None:
    """A kind may take more or less than DUALMEDIA_MAX_SIZE, which is the default."""
    policy = {"product-images": {"max_size": 100}, "course-videos": {"max_size": None}}
    app = make_app(
        "mongo",
        DUALMEDIA_MAX_SIZE=5000,
        MAX_CONTENT_LENGTH=10,
        DUALMEDIA_POLICY=policy,
        DUALMEDIA_REFERENCES=UNCHECKED,
    )
    client, alice = client_of(app)
    size = len(png())
    for kind, content, status in (
        ("product-images", png(comment=b"x" * (100 - size - 20)), 201),
        ("product-images", png(comment=b"x" * (101 - size - 20)), 413),
        ("course-videos", mp4(3_000_000), 201),
        ("files", bytes(5000), 201),
        ("files", bytes(5001), 413),
        ("files", bytes(3_000_000), 413),
    ):
        owner = {
            "product-images": {"mongoProductId": "1"},
            "course-videos": {"mongoCourseId": "1"},
        }.get(kind, {"referenceType": "page", "referenceId": "1"})
        answer = post_form(client, alice, f"/media/{kind}", owner | {"file": part(content)})
        assert answer.status_code == status, (kind, len(content), answer.json)
        if status == 413:
            assert status_of(answer) == (413, ["file"])
            continue
        location = f"{answer.location}/content"
        assert client.put(location, data=content, headers=alice).status_code == 200
        if kind == "files":
            answer = client.put(location, data=content + b"1", headers=alice)
            assert status_of(answer) == (413, ["file"])


def test_the_functions_keep_to_it(app: Flask, owners: Owners) -> None:
    with app.app_context():
        with pytest.raises(UnsupportedType, match=r"accepted are image/png, image/jpeg"):
            save_product_image(owners.product, SVG, filename="a.svg")
        with pytest.raises(
            UnsupportedType, match=r"ends in \.php, but the bytes are image/png \(\.png\)"
        ):
            save_product_image(owners.product, png(), filename="a.php")
        with pytest.raises(UnsupportedType, match="not text/html as declared"):
            save_product_image(owners.product, png(), mime_type="text/html")
        with pytest.raises(UnsupportedType, match="of no known type"):
            save_product_image(owners.product, b"text", filename="a.png")
        source = io.BytesIO(png(7, 8))
        assert save_product_image(owners.product, source, filename="/tmp/a.png").height == 8


def test_the_host_has_the_last_word(make_app: MakeApp, mode: str) -> None:
    """It sees the record as it will be, and the first bytes; what it says is the message."""
    seen: list[tuple[type[Media], str | None, str | None, str, bytes]] = []

    def validate(record: Media, head: bytes) -> None:
        seen.append((type(record), record.filename, record.mime_type, record.owner_id, head))
        if b"EICAR" in head:
            raise UploadRejected("this looks like a virus")

    app = make_app(mode, DUALMEDIA_VALIDATOR=validate, DUALMEDIA_REFERENCES=UNCHECKED)
    client, alice = client_of(app)
    made = post_image(client, alice, png(), "a.png")
    assert seen.pop() == (ProductImage, "a.png", "image/png", "1", png())
    before = kept(get_state(app))
    content = f"{made.location}/content"
    for answer in (
        post_image(client, alice, png(comment=b"EICAR")),
        client.put(content, data=png(comment=b"EICAR"), headers=alice),
    ):
        assert status_of(answer) == (422, ["file"])
        assert (answer.json or {})["message"] == "this looks like a virus"
    assert kept(get_state(app)) == before
    assert client.put(content, data=GIF, headers=alice).status_code == 200
    assert seen[-1] == (ProductImage, "a.gif", "image/gif", "1", GIF)
    with app.app_context():
        save_media_storage("page", "1", bytes(3 * 2**20))
        assert seen[-1][-1] == bytes(2**20)
        assert get_media(ProductImage, made.json["id"]).width == 4  # type: ignore[index]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], r"DUALMEDIA_POLICY must map"),
        ({"product_images": {}}, r"DUALMEDIA_POLICY names 'product_images'.*product-images, "),
        ({"files": None}, r"DUALMEDIA_POLICY\['files'\] must be a dict"),
        ({"files": {"type": ["a/b"]}}, r"DUALMEDIA_POLICY\['files'\] has 'type'"),
        ({"files": {"types": "image/*"}}, r"DUALMEDIA_POLICY\['files'\]\['types'\] is 'image/\*'"),
        ({"files": {"types": []}}, r"DUALMEDIA_POLICY\['files'\]\['types'\]"),
        ({"files": {"types": ["image"]}}, r"DUALMEDIA_POLICY\['files'\]\['types'\] has 'image'"),
        ({"files": {"types": [5]}}, r"DUALMEDIA_POLICY\['files'\]\['types'\] has 5"),
        ({"files": {"extensions": "jpg"}}, r"DUALMEDIA_POLICY\['files'\]\['extensions'\]"),
        (
            {"files": {"extensions": ["a.b"]}},
            r"DUALMEDIA_POLICY\['files'\]\['extensions'\] has 'a.b'",
        ),
        (
            {"files": {"extensions": [None]}},
            r"DUALMEDIA_POLICY\['files'\]\['extensions'\] has None",
        ),
        ({"files": {"max_size": 0}}, r"DUALMEDIA_POLICY\['files'\]\['max_size'\] is 0"),
        ({"files": {"max_size": "1"}}, r"DUALMEDIA_POLICY\['files'\]\['max_size'\] is '1'"),
        ({"files": {"max_pixels": True}}, r"DUALMEDIA_POLICY\['files'\]\['max_pixels'\] is True"),
    ],
)
def test_what_is_wrong_is_named(config: t.Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_policies(config, None)


def test_what_is_not_given_works() -> None:
    policies = read_policies({"files": {"max_size": 10}}, 1000)
    assert policies.keys() == KINDS.keys()
    assert policies["files"] == Policy(max_size=10)
    assert policies["course-resources"] == Policy(max_size=1000)
    assert policies["course-videos"] == Policy(("video/*", "application/mxf"), max_size=1000)
    assert "image/svg+xml" not in policies["product-images"].types


@given(st.text(), st.sampled_from(["image/png", "image/jpeg", "image/gif"]))
def test_no_name_gets_past_the_check(filename: str, mime_type: str) -> None:
    """A kept name has no extension, or one of the type, however the name is made."""
    policy, name = Policy(("image/*",)), label(filename)
    for kept_as in (name, label(policy.renamed(name, mime_type))):
        try:
            policy.check_name(kept_as, mime_type)
        except UnsupportedType:
            continue
        # Windows ignores what stands behind the last letter.
        opened_as = (kept_as or "").rstrip(". ").lower()
        assert "." not in opened_as or opened_as.endswith(ENDINGS[mime_type])


ENDINGS = {
    "image/png": (".png", ".apng"),
    "image/jpeg": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "image/gif": (".gif",),
}
