"""Flask-Login, forms of Flask-WTF with CSRFProtect for the whole app, Talisman, and sessions that
last."""

from __future__ import annotations

import typing as t
from contextlib import ExitStack

import pytest
from flask import Flask, jsonify, render_template_string, session
from flask_jwt_extended import JWTManager, create_access_token

from flask_dualmedia import DualMedia

from ..samples import part
from .conftest import Config, House
from .contract import Contract

pytestmark = pytest.mark.hosts

PAGE = "/"


def create_app(config: Config, media: DualMedia | None, closing: ExitStack) -> Flask:
    from flask_login import (
        LoginManager,
        UserMixin,
        current_user,
        login_required,
        login_user,
        logout_user,
    )
    from flask_talisman import Talisman
    from flask_wtf import CSRFProtect, FlaskForm
    from wtforms import PasswordField, StringField
    from wtforms.validators import DataRequired

    app = Flask("login")
    app.config.update(config, SESSION_COOKIE_SAMESITE="Lax")
    manager, csrf = LoginManager(app), CSRFProtect(app)
    manager.login_view = "login"  # type: ignore[assignment]
    Talisman(app, force_https=False)
    JWTManager(app)

    class User(UserMixin):
        def __init__(self, name: str) -> None:
            self.id = name

    class LoginForm(FlaskForm):
        name = StringField(validators=[DataRequired()])
        password = PasswordField(validators=[DataRequired()])

    manager.user_loader(User)

    @app.before_request
    def stay_signed_in() -> None:
        session.permanent = True
        session.setdefault("visits", 0)

    @app.route("/login", methods=["GET", "POST"])
    def login() -> t.Any:
        form = LoginForm()
        if form.validate_on_submit():
            login_user(User(str(form.name.data)), remember=True)
            return jsonify(name=form.name.data)
        return render_template_string(
            "<form method=post>{{ form.csrf_token }}{{ form.name }}</form>", form=form
        )

    @app.get("/")
    def home() -> str:
        return "Welcome"

    @app.get("/account")
    @login_required
    def account() -> t.Any:
        return jsonify(name=current_user.id, token=create_access_token(current_user.id))

    @app.post("/logout")
    def logout() -> t.Any:
        logout_user()
        return jsonify(name=None)

    if media is not None:
        media.init_app(app)
        csrf.exempt(app.blueprints["dualmedia"])
    return app


def csrf_token(page: str) -> str:
    return page.partition('name="csrf_token" type="hidden" value="')[2].partition('"')[0]


def sign_in(app: Flask, client: t.Any) -> dict[str, str]:
    form = {
        "name": "alice",
        "password": "secret",
        "csrf_token": csrf_token(client.get("/login").text),
    }
    assert client.post("/login", data=form).status_code == 200
    return {"Authorization": f"Bearer {client.get('/account').get_json()['token']}"}


def test_forms_need_their_csrf_token(house: House) -> None:
    client = house.app.test_client()
    refused = client.post("/login", data={"name": "alice", "password": "secret"})
    assert (refused.status_code, "CSRF token is missing" in refused.text) == (400, True)
    assert client.get("/account").status_code == 302
    sign_in(house.app, client)
    assert client.get("/account").get_json()["name"] == "alice"
    assert client.post("/logout").status_code == 400


def test_pages_have_the_headers_of_the_house(house: House) -> None:
    answer = house.app.test_client().get("/")
    assert answer.headers["Content-Security-Policy"] == "default-src 'self'; object-src 'none'"
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert "session=" in answer.headers["Set-Cookie"]
    assert answer.headers["Vary"] == "Cookie"


class TestMedia(Contract):
    """Media in this house."""

    def test_content_has_the_policy_of_the_house_beside_its_sandbox(self, house: House) -> None:
        client, token = house.client, house.token
        values = {"referenceType": "note", "referenceId": "n3", "url": "https://cdn.example/a"}
        assert client.post("/media/files", headers=token, json=values).status_code == 201
        file = {
            "file": part(b"<script>alert(1)</script>", "a.html"),
            "referenceType": "note",
            "referenceId": "n3",
        }
        url = client.post("/media/files", headers=token, data=file).get_json()["url"]
        answer = client.get(url, headers=token)
        policies = answer.headers.getlist("Content-Security-Policy")
        assert policies == ["default-src 'self'; object-src 'none'", "default-src 'none'; sandbox"]
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"

    def test_where_media_is_not_exempt_the_answer_says_what_is_missing(self, house: House) -> None:
        csrf = house.app.extensions["csrf"]
        exempt = csrf._exempt_blueprints.copy()
        csrf._exempt_blueprints.clear()
        try:
            refused = house.client.post("/media/files", headers=house.token, json={})
        finally:
            csrf._exempt_blueprints.update(exempt)
        assert refused.status_code == 400
        assert refused.get_json()["message"] == "The CSRF token is missing."
