"""Variants of images over HTTP: made at the first request, found at all others."""

from __future__ import annotations

import io
import typing as t
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from flask_dualmedia import (
    delete_media,
    get_media,
    get_variants,
    picture,
    save_media_storage,
    save_product_image,
    signed_url,
    srcset,
    update_media,
    variant_url,
)
from flask_dualmedia.models import MediaVariant, ProductImage
from flask_dualmedia.state import State, get_state
from flask_dualmedia.testing import count_queries

from ..conftest import MakeApp
from ..samples import Owners, Tokens
from .pictures import quadrants, saved

JPEG = saved(quadrants(), "JPEG", quality=90)

FOR_EVER = "public, max-age=31536000, immutable"


def save(app: Flask, owners: Owners, content: bytes = JPEG, **fields: t.Any) -> ProductImage:
    with app.app_context():
        fields = {"is_public": True, "filename": "shoe.jpg"} | fields
        return save_product_image(owners.product, io.BytesIO(content), **fields)


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
    corner = Image.open(io.BytesIO(answer.data)).convert("RGB").getpixel((20, 20))
    assert max(abs(a - b) for a, b in zip(corner, (240, 220, 20), strict=True)) < 16


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
    app: Flask, image: ProductImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They may be in two processes: here in two apps, which share nothing but the databases."""
    state = get_state(app)
    renderings = []
    render = type(state.renderer).render

    def counted(*args: t.Any) -> t.Any:
        renderings.append(args)
        return render(*args)

    monkeypatch.setattr(type(state.renderer), "render", counted)
    url = url_of(app, image, "large")
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda _: app.test_client().get(url), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.data for answer in answers}) == 1
    assert len(renderings) == 1
    assert state.repository.count(MediaVariant) == 1


def test_a_variant_is_one_statement(make_app: MakeApp) -> None:
    app = make_app("dual")
    state = get_state(app)
    product = state.mongo["products"].insert_one({}).inserted_id
    image = save(app, Owners(product, product, product))
    url = url_of(app, image)
    client = app.test_client()
    client.get(url)

    statements: list[str] = []
    with count_queries(app) as queries:
        # Statements past SQLAlchemy are seen where somebody listens: all of them are then.
        answer = client.get(url)
        statements = queries.sql
    assert answer.status_code == 200
    assert not queries.mongo
    assert len(statements) <= 3
