"""JWT in cookies, with CSRF double submit and a blocklist."""

from __future__ import annotations

import typing as t
from contextlib import ExitStack

import pytest
from flask import Flask, jsonify, redirect, request
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    get_csrf_token,
    get_jwt,
    get_jwt_identity,
    jwt_required,
    set_access_cookies,
    unset_jwt_cookies,
)

from flask_dualmedia import DualMedia

from .conftest import Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE = "/me"


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    app = Flask("cookies")
    app.config.update(config, JWT_TOKEN_LOCATION=["cookies"], JWT_COOKIE_SECURE=False)
    manager = JWTManager(app)
    revoked: set[str] = set()
    manager.token_in_blocklist_loader(lambda header, payload: payload["jti"] in revoked)
    manager.unauthorized_loader(lambda reason: redirect("/login"))

    @app.post("/login")
    def login() -> t.Any:
        response = jsonify(name=request.form["name"])
        set_access_cookies(response, create_access_token(request.form["name"]))
        return response

    @app.post("/logout")
    @jwt_required()
    def logout() -> t.Any:
        revoked.add(get_jwt()["jti"])
        response = jsonify(name=None)
        if "forget" in request.form:
            unset_jwt_cookies(response)
        return response

    @app.get("/me")
    @jwt_required()
    def me() -> t.Any:
        return jsonify(name=get_jwt_identity())

    if media is not None:
        media.init_app(app)
    return app


def sign_in(app: Flask, client: t.Any) -> dict[str, str]:
    client.post("/login", data={"name": "alice"})
    token = client.get_cookie("access_token_cookie").value
    with app.app_context():
        # In a header too: tests of other cookies on the same client do not take it away.
        return {"X-CSRF-TOKEN": get_csrf_token(token), "Cookie": f"access_token_cookie={token}"}


def test_who_is_signed_in_is_known_until_they_sign_out(house: House) -> None:
    client = house.app.test_client(use_cookies=False)
    token = sign_in(house.app, house.app.test_client())
    assert client.get("/me").location == "/login"
    assert client.get("/me", headers=token).get_json() == {"name": "alice"}
    assert client.post("/logout", headers={"Cookie": token["Cookie"]}).status_code == 302
    assert client.post("/logout", headers=token).status_code == 200
    assert client.get("/me", headers=token).status_code == 401
    if "dualmedia" in house.app.extensions:
        assert client.get("/media/files", headers=token).status_code == 401


class TestMedia(Contract):
    """Media in this house."""
