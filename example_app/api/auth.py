"""Registering, logging in, refreshing a token, and who the token says one is."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, abort
from flask.typing import ResponseReturnValue
from flask_jwt_extended import get_jwt_identity, jwt_required
from marshmallow import fields, validate

from ..database import Document
from ..schemas import Email, Id, Schema, Text, dump, read
from ..security import make_access_token, make_refresh_token
from ..users import create_user, find_login, find_user

blueprint = Blueprint("auth", __name__, url_prefix="/auth")


class LoginSchema(Schema):
    email = Email(required=True)
    password = Text(required=True, validate=validate.Length(max=200))


class RegistrationSchema(LoginSchema):
    password = Text(required=True, validate=validate.Length(8, 200))
    name = Text(required=True, validate=validate.Length(1, 100))


class UserSchema(Schema):
    id = Id(attribute="_id")
    email = fields.String()
    name = fields.String()
    role = fields.String()


@blueprint.post("/register")
def register() -> ResponseReturnValue:
    user = create_user(read(RegistrationSchema()))
    return {"user": dump(UserSchema(), user)}, HTTPStatus.CREATED


@blueprint.post("/login")
def login() -> ResponseReturnValue:
    user = find_login(**read(LoginSchema()))
    if user is None:
        abort(401, "The e-mail address or the password is wrong.")
    return {
        "accessToken": make_access_token(user),
        "refreshToken": make_refresh_token(user),
        "user": dump(UserSchema(), user),
    }


@blueprint.post("/refresh")
@jwt_required(refresh=True)
def refresh() -> ResponseReturnValue:
    return {"accessToken": make_access_token(caller())}


@blueprint.get("/me")
@jwt_required()
def me() -> ResponseReturnValue:
    return {"user": dump(UserSchema(), caller())}


def caller() -> Document:
    """The user that the token is of, with the name and role that they have now."""
    return find_user(get_jwt_identity()) or abort(401, "The account is gone.")
