"""Variants of images over HTTP: made at the first request, found at all others."""

from __future__ import annotations

import html
import io
import re
import sys
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from flask_dualmedia import (
    ConfigurationError,
    ExternalURL,
    content_url,
    delete_media,
    failpoints,
    get_media,
    get_variants,
    picture,
    save_media_storage,
    save_product_image,
    signed_url,
    srcset,
    variant_url,
)
from flask_dualmedia.models import MediaVariant, ProductImage
from flask_dualmedia.state import get_state
from flask_dualmedia.testing import count_queries
from flask_dualmedia.variants.renderer import Renderer

from ..conftest import MakeApp
from ..samples import PDF, Owners, Tokens, png
from ..tools.proxy import Proxy, through
from .pictures import YELLOW, quadrants, saved

JPEG = saved(quadrants(), "JPEG", quality=90)

FOR_EVER = "public, max-age=31536000, immutable"


def save(app: Flask, owners: Owners, content: bytes = JPEG, **fields: t.Any) -> ProductImage:
    with app.app_context():
        fields = {"is_public": True, "filename": "shoe.jpg"} | fields
        return save_product_image(owners.product, io.BytesIO(content), **fields)


def is_turned(content: bytes) -> bool:
    """Tell whether yellow, from the lower right corner, is in the upper left one."""
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    corner = t.cast("tuple[int, int, int]", picture.getpixel((20, 20)))
    return max(abs(a - b) for a, b in zip(corner, YELLOW, strict=True)) < 16


def url_of(app: Flask, record: t.Any, preset: str = "thumb", **options: t.Any) -> str:
    with app.app_context():
        return variant_url(record, preset, **options)


@pytest.fixture
def image(app: Flask, owners: Owners) -> ProductImage:
    return save(app, owners)


def test_an_image_is_answered_in_the_size_of_a_preset(
    app: Flask, client: FlaskClient, image: ProductImage
) -> None:
    answer = client.get(url_of(app, image, format="webp"))
    assert (answer.status_code, answer.mimetype) == (200, "image/webp")
    shown = Image.open(io.BytesIO(answer.data))
    assert (shown.format, shown.size) == ("WEBP", (320, 192))
    assert answer.headers["Cache-Control"] == FOR_EVER
    assert answer.headers["Content-Disposition"] == "inline; filename=thumb.webp"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    again = client.get(url_of(app, image, format="webp"))
    assert (again.data, again.headers["ETag"]) == (answer.data, answer.headers["ETag"])


def test_the_url_of_other_bytes_is_another_one(
    app: Flask, client: FlaskClient, tokens: Tokens, image: ProductImage
) -> None:
    """A page that still has the old URL gets the new picture, and no cache keeps it for long."""
    old = url_of(app, image)
    assert client.get(old).headers["Cache-Control"] == FOR_EVER

    content = saved(quadrants().rotate(180), "JPEG")
    path = f"/media/product-images/{image.id}/content"
    admin = tokens.admin
    assert client.put(path, data=content, headers=admin).status_code == 200
    with app.app_context():
        new = variant_url(get_media(ProductImage, image.id), "thumb")
    assert new != old
    answer = client.get(old)
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert answer.data == client.get(new).data
    assert is_turned(answer.data)


def test_without_its_version_a_variant_is_kept_for_minutes(
    app: Flask, client: FlaskClient, image: ProductImage
) -> None:
    path = urlsplit(url_of(app, image)).path
    for query in ("", "?v=", "?v=0123456789abcd"):
        answer = client.get(path + query)
        assert answer.headers["Cache-Control"] == "public, max-age=300"


def test_conditions_and_ranges_are_those_of_the_variant(
    app: Flask, client: FlaskClient, image: ProductImage
) -> None:
    url = url_of(app, image)
    first_head = client.head(url)
    whole = client.get(url)
    assert first_head.headers["ETag"] == whole.headers["ETag"] != f'"{image.checksum}"'
    assert int(first_head.headers["Content-Length"]) == len(whole.data)

    same = client.get(url, headers={"If-None-Match": whole.headers["ETag"]})
    assert (same.status_code, same.data) == (304, b"")
    assert same.headers["Cache-Control"] == FOR_EVER
    part = client.get(url, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.data) == (206, whole.data[5:10])
    beyond = client.get(url, headers={"Range": f"bytes={len(whole.data)}-"})
    assert beyond.status_code == 416


def test_the_first_request_may_ask_for_a_range(
    app: Flask, client: FlaskClient, image: ProductImage
) -> None:
    url = url_of(app, image)
    part = client.get(url, headers={"Range": "bytes=5-9"})
    assert (part.status_code, part.data) == (206, client.get(url).data[5:10])


def test_a_private_variant_is_for_its_readers_alone(
    app: Flask, client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    image = save(app, owners, is_public=False, uploaded_by="alice")
    url = url_of(app, image)
    assert client.get(url).status_code == 401
    assert client.get(url, headers=tokens.bob).status_code == 404
    answer = client.get(url, headers=tokens.alice)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "private, no-cache")
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_link_to_the_original_opens_its_variants_until_it_is_revoked(
    app: Flask, client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    image = save(app, owners, is_public=False, uploaded_by="alice")
    other = save(app, owners, is_public=False, uploaded_by="alice")
    with app.app_context():
        link = signed_url(image)
        url = variant_url(image, "thumb", link=link)
        stray = variant_url(other, "thumb", link=link)
    answer = client.get(url)
    assert (answer.status_code, answer.headers["Referrer-Policy"]) == (200, "no-referrer")
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert client.get(stray).status_code == 403
    link_path = f"/media/product-images/{image.id}/link"
    assert client.delete(link_path, headers=tokens.alice).status_code == 204
    assert client.get(url).status_code == 403


def test_a_name_that_no_preset_has_is_not_found_for_a_moment(
    client: FlaskClient, image: ProductImage
) -> None:
    for name in ("huge.jpg", "thumb.png", "thumb", "thumb.jpeg"):
        answer = client.get(f"/media/product-images/{image.id}/variants/{name}")
        assert answer.status_code == 404
        assert answer.headers["Cache-Control"] == "public, max-age=60"


def test_thumbnails_count_as_no_access(
    app: Flask, client: FlaskClient, image: ProductImage
) -> None:
    state = get_state(app)
    for _ in range(2):
        assert client.get(url_of(app, image)).status_code == 200
    assert state.counter is not None
    assert state.counter.waiting() == 0
    client.get(f"/media/product-images/{image.id}/content")
    assert state.counter.waiting() == 1


def test_no_variant_is_a_script_or_a_stylesheet(
    app: Flask, client: FlaskClient, image: ProductImage
) -> None:
    answer = client.get(url_of(app, image), headers={"Sec-Fetch-Dest": "script"})
    assert answer.status_code == 403


def test_many_who_ask_at_once_wait_for_one_rendering(
    app: Flask,
    make_app: MakeApp,
    mode: str,
    image: ProductImage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two apps share nothing but their databases, as two processes do."""
    renderings = []
    render = Renderer.render

    def noted(*args: t.Any) -> t.Any:
        renderings.append(args)
        return render(*args)

    monkeypatch.setattr(Renderer, "render", noted)
    url = url_of(app, image, "large")
    clients = [a_host.test_client() for a_host in (app, make_app(mode)) for _ in range(8)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda client: client.get(url), clients))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.data for answer in answers}) == 1
    assert len(renderings) == 1
    assert get_state(app).repository.count(MediaVariant) == 1


def test_a_variant_that_is_there_costs_one_statement(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app("dual")
    product = get_state(app).mongo["products"].insert_one({}).inserted_id
    image = save(app, Owners(product, product, product))
    url = url_of(app, image)
    client = app.test_client()
    client.get(url)

    statements = []
    execute = psycopg.Cursor.execute

    def noted(self: t.Any, query: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
        statements.append(query)
        return execute(self, query, *args, **options)

    # A home that is listened to reads in steps: here psycopg is listened to.
    with monkeypatch.context() as patched:
        patched.setattr(psycopg.Cursor, "execute", noted)
        assert client.get(url).status_code == 200
    assert len(statements) == 1
    with count_queries(app) as queries:
        client.get(url)
    assert not queries.mongo


def test_urls_cost_no_query(app: Flask, image: ProductImage) -> None:
    with app.app_context(), count_queries(app) as queries:
        variant_url(image, "card")
        srcset(image, ["thumb", "card", "large"])
        picture(image, "card")
    assert (queries.sql, queries.mongo) == ([], [])


def test_an_undecodable_original_is_refused_with_a_reason_and_decoded_once(
    app: Flask, client: FlaskClient, owners: Owners, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = save(app, owners, JPEG[: len(JPEG) // 2])
    url = url_of(app, image)
    answer = client.get(url)
    assert answer.status_code == 422
    assert answer.json is not None
    assert "undecodable" in answer.json["message"]
    assert answer.headers["Cache-Control"] == "private, no-store"

    decoded = []
    monkeypatch.setattr("flask_dualmedia.variants.renderer.weigh", decoded.append)
    again = client.get(url)
    assert (again.status_code, again.json) == (422, answer.json)
    assert not decoded
    assert client.get(f"/media/product-images/{image.id}/content").status_code == 200


def test_an_image_with_too_many_pixels_is_refused_however_large_uploads_may_be(
    make_app: MakeApp,
) -> None:
    app = make_app("mongo", DUALMEDIA_POLICY={"product-images": {"max_pixels": None}})
    product = get_state(app).mongo["products"].insert_one({}).inserted_id
    image = save(app, Owners(product, product, product), png(12000, 12000), filename="shoe.png")
    answer = app.test_client().get(url_of(app, image))
    assert answer.status_code == 422
    assert "limit_exceeded" in (answer.json or {})["message"]


def test_a_large_image_is_rendered_in_a_process_of_its_own(make_app: MakeApp) -> None:
    bytes_by_limit = []
    for limit in (1, 10**9):
        app = make_app("mongo", DUALMEDIA_RENDER_JAIL_PIXELS=limit)
        product = get_state(app).mongo["products"].insert_one({}).inserted_id
        image = save(app, Owners(product, product, product))
        answer = app.test_client().get(url_of(app, image))
        assert answer.status_code == 200
        bytes_by_limit.append(answer.data)
    in_jail, in_process = bytes_by_limit
    assert in_jail == in_process


def test_a_task_that_takes_too_long_is_not_begun_again_at_once(make_app: MakeApp) -> None:
    app = make_app("mongo", DUALMEDIA_RENDER_JAIL_PIXELS=1, DUALMEDIA_RENDER_SECONDS=0.001)
    product = get_state(app).mongo["products"].insert_one({}).inserted_id
    image = save(app, Owners(product, product, product))
    for _ in range(2):
        answer = app.test_client().get(url_of(app, image))
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
        assert "timeout" in (answer.json or {})["message"]


def test_media_that_is_no_image_has_no_variants(
    app: Flask, client: FlaskClient, tokens: Tokens, owners: Owners
) -> None:
    with app.app_context():
        pdf = save_media_storage("user", owners.user, io.BytesIO(PDF), is_public=True)
        url = "https://cdn.example/shoe.jpg"
        external = save_product_image(owners.product, ExternalURL(url), is_public=True)
        assert variant_url(external, "card") == srcset(external, ["thumb", "card"]) == url
    for record in (pdf, external):
        path = f"/media/{record.kind}/{record.id}/variants"
        assert client.get(f"{path}/thumb.jpg").status_code == 404
        listed = client.get(path, headers=tokens.alice)
        assert listed.json == {"items": [], "placeholder": None, "color": None}


def test_variants_are_listed_with_their_sizes(
    app: Flask, client: FlaskClient, tokens: Tokens, image: ProductImage
) -> None:
    path = f"/media/product-images/{image.id}/variants"
    assert client.get(path).status_code == 401
    before = client.get(path, headers=tokens.bob).json or {}
    assert [item["fileSize"] for item in before["items"]] == [None] * 6
    assert (before["placeholder"], before["color"]) == (None, None)
    sizes = {(item["name"], item["width"], item["height"]) for item in before["items"]}
    assert sizes == {("thumb", 320, 192), ("card", 640, 384), ("large", 640, 384)}

    for item in before["items"]:
        answer = client.get(item["url"])
        assert (answer.mimetype, answer.headers["Cache-Control"]) == (item["mimeType"], FOR_EVER)
        assert Image.open(io.BytesIO(answer.data)).size == (item["width"], item["height"])
    after = client.get(path, headers=tokens.bob).json or {}
    assert None not in [item["fileSize"] for item in after["items"]]
    assert after["placeholder"].startswith("data:image/webp;base64,")
    assert after["color"].startswith("#")


def test_a_variant_of_an_original_that_is_replaced_meanwhile_shows_the_new_bytes(
    app: Flask, client: FlaskClient, tokens: Tokens, image: ProductImage
) -> None:
    turned = saved(quadrants().rotate(180), "JPEG")

    def replace() -> None:
        path = f"/media/product-images/{image.id}/content"
        assert client.put(path, data=turned, headers=tokens.admin).status_code == 200

    with failpoints.on("variant:rendered", replace):
        answer = app.test_client().get(url_of(app, image))
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert is_turned(answer.data)
    with app.app_context():
        current = get_media(ProductImage, image.id)
        (kept,) = get_variants([current])[image.id]
        assert kept.source_key == current.storage_key


def test_a_variant_of_an_original_that_is_deleted_meanwhile_is_not_found(
    app: Flask, client: FlaskClient, image: ProductImage
) -> None:
    def delete() -> None:
        with app.app_context():
            delete_media(ProductImage, image.id)

    with failpoints.on("variant:rendered", delete):
        assert client.get(url_of(app, image)).status_code == 404
    assert get_state(app).repository.count(MediaVariant) == 0


@pytest.mark.parametrize("mode", ["dual"])
def test_variants_of_what_sql_has_wait_for_it(
    make_proxied: MakeApp, proxy: Proxy, mode: str
) -> None:
    app = make_proxied()
    product = get_state(app).mongo["products"].insert_one({}).inserted_id
    owners = Owners(product, product, product)
    made, other = save(app, owners), save(app, owners)
    client = app.test_client()
    assert client.get(url_of(app, made)).status_code == 200
    proxy.refuse()
    for image in (made, other):
        answer = client.get(url_of(app, image))
        assert (answer.status_code, "Retry-After" in answer.headers) == (503, True)


@pytest.mark.parametrize("mode", ["dual"])
def test_an_image_in_the_journal_is_shown_and_its_variants_are_not_kept(
    make_proxied: MakeApp, proxy: Proxy, mode: str
) -> None:
    app = make_proxied(DUALMEDIA_AUTO_DRAIN=False)
    state = get_state(app)
    product = state.mongo["products"].insert_one({}).inserted_id
    proxy.refuse()
    image = save(app, Owners(product, product, product))
    client = app.test_client()
    for _ in range(2):
        answer = client.get(url_of(app, image))
        assert (answer.status_code, answer.mimetype) == (200, "image/jpeg")
        assert answer.headers["Cache-Control"] == "public, max-age=60"
    assert not state.mongo["journal_media_variants"].find_one()


def test_without_mongodb_variants_are_made_all_the_same(
    make_app: MakeApp, mongo_proxy: Proxy, mongo_uri: str
) -> None:
    """Processes agree there on which of them makes a variant, and on nothing else."""
    app = make_app("dual", MONGO_URI=through(mongo_uri, mongo_proxy))
    state = get_state(app)
    product = state.mongo["products"].insert_one({}).inserted_id
    image = save(app, Owners(product, product, product))
    mongo_proxy.refuse()
    answer = app.test_client().get(url_of(app, image))
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, FOR_EVER)
    assert state.repository.count(MediaVariant) == 1


def test_without_pillow_the_answer_names_the_extra(
    app: Flask, client: FlaskClient, image: ProductImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url_of(app, image)
    monkeypatch.setitem(sys.modules, "flask_dualmedia.variants.rendering", None)
    answer = client.get(url)
    assert answer.status_code == 501
    assert "flask-dualmedia[images]" in (answer.json or {})["message"]


def test_variants_are_kept_where_their_original_is(
    make_app: MakeApp, mode: str, tmp_path: Path
) -> None:
    app = make_app(
        mode,
        DUALMEDIA_STORAGES={"local": {"directory": str(tmp_path)}},
        DUALMEDIA_DEFAULT_STORAGE={"product-images": "local"},
    )
    product = get_state(app).mongo["products"].insert_one({}).inserted_id
    image = save(app, Owners(product, product, product))
    url = url_of(app, image)
    client = app.test_client()
    answer = client.get(url)
    assert client.get(url).data == answer.data
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(sizes) == sorted([len(JPEG), len(answer.data)])


@pytest.mark.parametrize(
    ("mode", "step"),
    [
        ("dual", "variant:rendered"),
        ("mongo", "variant:pending"),
        ("mongo", "variant:bytes"),
    ],
)
def test_a_variant_that_is_left_half_made_is_made_again(
    app: Flask, client: FlaskClient, owners: Owners, step: str
) -> None:
    noise = Image.effect_noise((1500, 1500), 90).convert("RGB")
    image = save(app, owners, saved(noise, "JPEG", quality=95))
    url = url_of(app, image, "large")

    def fail() -> None:
        raise KeyboardInterrupt

    with failpoints.on(step, fail), pytest.raises(KeyboardInterrupt):
        client.get(url)
    answer = client.get(url)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, FOR_EVER)
    assert len(answer.data) > 2**18
    assert client.get(url).data == answer.data


def test_urls_stay_when_bytes_are_moved(make_app: MakeApp, mode: str, tmp_path: Path) -> None:
    app = make_app(mode, DUALMEDIA_STORAGES={"local": {"directory": str(tmp_path)}})
    product = get_state(app).mongo["products"].insert_one({}).inserted_id
    image = save(app, Owners(product, product, product))
    url = url_of(app, image)
    client = app.test_client()
    before = client.get(url)
    moved = app.test_cli_runner().invoke(
        args=["dualmedia", "move", "--from", "database", "--to", "local"]
    )
    assert moved.exit_code == 0, moved.output
    with app.app_context():
        current = get_media(ProductImage, image.id)
        assert current.storage_type == "local"
        assert variant_url(current, "thumb") == url
    after = client.get(url)
    assert (after.status_code, after.data) == (200, before.data)


def attributes_of(tag: str) -> dict[str, str]:
    return {name: html.unescape(value) for name, value in re.findall(r'([a-z]+)="([^"]*)"', tag)}


def test_a_picture_has_every_format_and_its_size(
    app: Flask, client: FlaskClient, owners: Owners
) -> None:
    image = save(app, owners, alt_text='A "red" shoe')
    with app.app_context():
        markup = picture(image, "card", class_="hero", sizes="50vw", data_id=3)
    source, img = re.findall(r"<(source|img)([^>]*)>", markup)
    webp, jpeg = attributes_of(source[1]), attributes_of(img[1])
    assert (webp["type"], webp["sizes"], jpeg["sizes"]) == ("image/webp", "50vw", "50vw")
    # The image is 640 pixels wide: nothing is wider, and "large" would be the same as "card".
    for offered in (webp["srcset"], jpeg["srcset"]):
        widths = [candidate.split()[1] for candidate in offered.split(", ")]
        assert widths == ["320w", "640w"]
        for candidate in offered.split(", "):
            url, width = candidate.split()
            answer = client.get(url)
            assert answer.headers["Cache-Control"] == FOR_EVER
            assert f"{Image.open(io.BytesIO(answer.data)).width}w" == width
    assert (jpeg["width"], jpeg["height"]) == ("640", "384")
    assert (jpeg["alt"], jpeg["class"], jpeg["loading"]) == ('A "red" shoe', "hero", "lazy")
    assert 'data-id="3"' in markup
    assert "style" not in jpeg


def test_a_picture_has_a_placeholder_once_there_is_a_variant(
    app: Flask, client: FlaskClient, owners: Owners
) -> None:
    images = [save(app, owners) for _ in range(3)]
    client.get(url_of(app, images[0]))
    with app.app_context():
        with count_queries(app) as queries:
            variants = get_variants(images)
        assert len(queries.sql) + len(queries.mongo) == 1
        first, second, _ = (picture(image, "thumb", variants=variants) for image in images)
    assert "center / cover no-repeat" in first
    assert "url(data:image/webp;base64," in first
    assert "style=" not in second


def test_a_private_picture_is_shown_by_a_link(
    app: Flask, client: FlaskClient, owners: Owners
) -> None:
    image = save(app, owners, is_public=False)
    with app.app_context():
        markup = picture(image, "thumb", link=signed_url(image))
    urls = re.findall(r"/media/[^\s\"]+", html.unescape(markup))
    assert len(urls) > 2
    assert {client.get(url).status_code for url in urls} == {200}


def test_a_preset_that_is_not_there_is_named_with_those_that_are(
    app: Flask, image: ProductImage
) -> None:
    with app.app_context():
        with pytest.raises(ValueError, match="thumb, card, large"):
            variant_url(image, "huge")
        with pytest.raises(ValueError, match="png"):
            variant_url(image, "thumb", format="png")


def test_a_drawing_is_shown_as_it_is(app: Flask, owners: Owners) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
    with app.app_context():
        file = save_media_storage("user", owners.user, io.BytesIO(svg), filename="a.svg")
        assert file.mime_type == "image/svg+xml"
        assert variant_url(file, "thumb") == content_url(file)
        assert picture(file, "thumb").startswith("<img ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DUALMEDIA_PRESETS", {"product-images": {"card": {"width": 0}}}),
        ("DUALMEDIA_RENDER_PIXELS", 0),
        ("DUALMEDIA_RENDER_JAIL_PIXELS", None),
        ("DUALMEDIA_RENDER_MEMORY", "much"),
        ("DUALMEDIA_RENDER_SECONDS", -1),
    ],
)
def test_wrong_settings_are_named(make_app: MakeApp, key: str, value: t.Any) -> None:
    with pytest.raises(ConfigurationError, match=key):
        make_app("mongo", **{key: value})


@pytest.mark.parametrize("mode", ["dual"])
def test_variants_are_answered_while_sql_takes_no_changes(
    app: Flask, make_app: MakeApp, emptied_url: str, image: ProductImage, mode: str
) -> None:
    read_only = make_app(
        SQLALCHEMY_DATABASE_URI=with_options(emptied_url, "default_transaction_read_only=on"),
        DUALMEDIA_AUTO_UPGRADE=False,
    )
    answer = read_only.test_client().get(url_of(app, image))
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "public, max-age=60")
    assert get_state(app).repository.count(MediaVariant) == 0


def with_options(url: str, setting: str) -> str:
    options = sa.make_url(url).update_query_dict({"options": f"-c {setting}"})
    return options.render_as_string(hide_password=False)


def test_another_server_sends_variants_that_are_there(make_app: MakeApp, tmp_path: Path) -> None:
    local = {"directory": str(tmp_path), "x_accel_redirect": "/protected/"}
    app = make_app(
        "mongo",
        DUALMEDIA_STORAGES={"local": local},
        DUALMEDIA_DEFAULT_STORAGE={"product-images": "local"},
    )
    product = get_state(app).mongo["products"].insert_one({}).inserted_id
    image = save(app, Owners(product, product, product))
    url = url_of(app, image)
    client = app.test_client()
    made = client.get(url)
    there = client.get(url)
    assert (there.status_code, there.data) == (200, b"")
    assert there.headers["X-Accel-Redirect"].startswith("/protected/")
    for name in ("Content-Type", "Cache-Control", "ETag", "Content-Disposition"):
        assert there.headers[name] == made.headers[name]
