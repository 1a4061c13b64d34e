"""Settings that nobody reads, tokens whose identity is a number, and URLs of databases that cannot
work."""

from __future__ import annotations

import inspect
import logging
import re
import typing as t

import jwt
import pytest
from flask import Flask
from flask_jwt_extended import create_access_token

from flask_dualmedia import ConfigurationError, DualMedia
from flask_dualmedia.config import Settings

from ..conftest import BASE_CONFIG, MakeApp

MISSPELT = {
    "DUALMEDIA_MAXSIZE": "DUALMEDIA_MAX_SIZE",
    "DUALMEDIA_MAX_FILE_SIZE": "DUALMEDIA_MAX_SIZE",
    "DUALMEDIA_MAX_SIZES": "DUALMEDIA_MAX_SIZE",
    "DUAL_MEDIA_MAX_SIZE": "DUALMEDIA_MAX_SIZE",
    "dualmedia_max_size": "DUALMEDIA_MAX_SIZE",
    "DUALMEDIA_UPLOAD_EXPIRY": "DUALMEDIA_UPLOAD_EXPIRES",
    "DUALMEDIA_QUOTA_PER_USER": "DUALMEDIA_QUOTA_PER_OWNER",
    "DUALMEDIA_TABLES_PREFIX": "DUALMEDIA_TABLE_PREFIX",
    "DUALMEDIA_COLLECTIONS_PREFIX": "DUALMEDIA_COLLECTION_PREFIX",
    "DUALMEDIA_PREFIX": "DUALMEDIA_URL_PREFIX",
    "DUALMEDIA_POLICIES": "DUALMEDIA_POLICY",
    "DUALMEDIA_ADMIN_ROLES": "DUALMEDIA_ADMIN_ROLE",
    "DUALMEDIA_STORAGE": "DUALMEDIA_STORAGES",
    "DUALMEDIA_DB_ENABLED": "DB_ENABLED",
    "DUALMEDIA_MONGO_URI": "MONGO_URI",
}

OTHERS = {
    "DUALMEDIA_API_TITLE": "Films", "DUALMEDIA_OPENAPI_VERSION": "3.1.0",
    "DUALMEDIA_API_SPEC_OPTIONS": {},
    "DUALMEDIA_TEST_MONGO_URI": "mongodb://h/d", "MAX_SIZE": 1,
    "MEDIA_FOLDER": "/srv", "API_TITLE": "Shop",
    "DB_POOL_SIZE": 5, "JWT_ALGORITHM": "HS256",
}  # fmt: skip
"""Keys that other libraries read, or that are the host's own."""


def read(**config: t.Any) -> Settings:
    return Settings.from_config({"DB_ENABLED": False, **config}, host_has_sql=False)


def test_misspelt_settings_are_named_with_the_right_ones(caplog: pytest.LogCaptureFixture) -> None:
    for key, meant in MISSPELT.items():
        caplog.clear()
        read(**{key: "a secret value"})
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("flask_dualmedia", logging.WARNING)
        name, _, hint = record.getMessage().partition(" is no setting of flask-dualmedia")
        assert (name, hint.rpartition(": ")[2]) == (key, f"{meant} is meant, perhaps")
        assert "secret" not in record.getMessage()


def test_settings_like_no_other_are_named_too(caplog: pytest.LogCaptureFixture) -> None:
    read(DUALMEDIA_XYZZY=1)
    (message,) = caplog.messages
    assert message.startswith("DUALMEDIA_XYZZY is no setting")
    assert "meant" not in message


def test_settings_that_somebody_reads_are_no_matter(caplog: pytest.LogCaptureFixture) -> None:
    known = {"DUALMEDIA_HOST": None, "DUALMEDIA_LINK_KEYS": ["k" * 32], "DUALMEDIA_MAX_SIZE": 1}
    read(**OTHERS, **known)
    assert caplog.messages == []


def test_every_documented_setting_is_known(caplog: pytest.LogCaptureFixture) -> None:
    documented = set(re.findall(r"``(DUALMEDIA_[A-Z_]+)``", inspect.getsource(Settings)))
    assert len(documented) > 30
    for key in documented:
        caplog.clear()
        try:
            read(**{key: None})
        except ConfigurationError:
            continue  # which names the key
        assert caplog.messages == [], key


def test_an_identity_that_is_a_number_is_refused_in_words(make_app: MakeApp) -> None:
    app = make_app("mongo", DUALMEDIA_REFERENCES={"product": None})
    with app.app_context():
        token = create_access_token(t.cast(t.Any, 42))
    for method, path in (
        ("GET", "/media/files"),
        ("POST", "/media/files"),
        ("POST", "/media/uploads"),
    ):
        answer = app.test_client().open(
            path, method=method, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 401
        assert "identity=str(" in (answer.json or {})["message"]


def test_an_identity_may_be_a_number_where_the_app_says_so(make_app: MakeApp) -> None:
    app = make_app("mongo", JWT_VERIFY_SUB=False, DUALMEDIA_REFERENCES={"product": None})
    values = {"mongoProductId": "p", "imageUrl": "https://cdn.example/a"}
    with app.app_context():
        tokens = {identity: create_access_token(t.cast(t.Any, identity)) for identity in (42, "42")}
    made = [
        app.test_client().post(
            "/media/product-images", json=values, headers={"Authorization": f"Bearer {token}"}
        )
        for token in tokens.values()
    ]
    assert [(answer.json or {})["uploadedBy"] for answer in made] == ["42", "42"]


def test_an_identity_that_is_none_is_nobody(make_app: MakeApp) -> None:
    app = make_app("mongo", JWT_VERIFY_SUB=False)
    claims = {"sub": None, "type": "access", "fresh": False, "jti": "1"}
    token = jwt.encode(claims, BASE_CONFIG["JWT_SECRET_KEY"], "HS256")
    answer = app.test_client().get("/media/files", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://user:secret@127.0.0.1:99999/shop", "port 99999"),
        ("postgresql://user:secret@127.0.0.1:0/shop", "port 0"),
        ("postgresql://user:secret@127.0.0.1:x/shop", "not a database URL"),
        ("postgresql://user:secret@127.0.0.1:1/shop?ssl_mode=require", "option 'ssl_mode'"),
        ("postgresql+nonsense://user:secret@127.0.0.1:1/shop", "nonsense"),
        ("PostgreSQL://user:secret@127.0.0.1:1/shop", "PostgreSQL"),
        ("mongodb://user:secret@127.0.0.1:1/shop", "mongodb"),
        (b"postgresql://user:secret@127.0.0.1:1/shop", "not a database URL"),
    ],
)
def test_urls_of_databases_that_cannot_work(mongo_uri: str, url: t.Any, message: str) -> None:
    app = Flask("host")
    app.config.update(BASE_CONFIG, MONGO_URI=mongo_uri, SQLALCHEMY_DATABASE_URI=url)
    with pytest.raises(ConfigurationError, match=message) as refused:
        DualMedia(app)
    assert "secret" not in str(refused.value)
    assert "dualmedia" not in app.extensions


@pytest.mark.parametrize("port", ["0", "99999", "-1", "x"])
def test_ports_of_databases_that_are_none(port: t.Any) -> None:
    with pytest.raises(ConfigurationError, match="DB_PORT"):
        Settings.from_config({"DB_NAME": "shop", "DB_PORT": port}, host_has_sql=False)
