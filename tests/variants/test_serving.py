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
