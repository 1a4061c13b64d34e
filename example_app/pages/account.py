"""Registering, logging in and out."""

from __future__ import annotations

from http import HTTPStatus

import marshmallow as ma
from flask import Blueprint, abort, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_jwt_extended import set_access_cookies, unset_jwt_cookies
from werkzeug.exceptions import Conflict

from ..api.auth import LoginSchema, RegistrationSchema
from ..csrf import check_form
from ..database import Document
from ..schemas import read_form
from ..security import make_access_token
from ..users import create_user, find_login

blueprint = Blueprint("account", __name__)


@blueprint.get("/login")
def show_login() -> str:
    return render_template("login.html")


@blueprint.post("/login")
def login() -> ResponseReturnValue:
    check_form()
    try:
        user = find_login(**read_form(LoginSchema()))
    except ma.ValidationError:
        user = None
    if user is None:
        error = "The e-mail address or the password is wrong."
        return render_template("login.html", error=error), HTTPStatus.UNAUTHORIZED
    return log_in(user)


@blueprint.get("/register")
def show_registration() -> str:
    return render_template("register.html", errors={})


@blueprint.post("/register")
def register() -> ResponseReturnValue:
    check_form()
    try:
        user = create_user(read_form(RegistrationSchema()))
    except ma.ValidationError as error:
        return render_template(
            "register.html", errors=error.messages
        ), HTTPStatus.UNPROCESSABLE_ENTITY
    except Conflict as error:
        return render_template(
            "register.html", errors={"email": [error.description]}
        ), HTTPStatus.CONFLICT
    return log_in(user)


@blueprint.post("/logout")
def logout() -> ResponseReturnValue:
    if g.get("is_forged"):
        abort(403, "The form has expired. Go back, load the page again, and send it once more.")
    g.has_chosen_login = True
    response = make_response(redirect(url_for("pages.products.show_list")))
    unset_jwt_cookies(response)
    return response


def log_in(user: Document) -> ResponseReturnValue:
    g.has_chosen_login = True
    response = make_response(redirect(local_path(request.args.get("next", "/"))))
    set_access_cookies(response, make_access_token(user))
    return response


def local_path(target: str) -> str:
    """The target if it is on this site, else the start page. ``//host`` and ``/\\host`` are other
    sites to browsers."""
    return (
        target
        if target.startswith("/") and target[1:2] not in ("/", "\\") and target.isprintable()
        else "/"
    )
