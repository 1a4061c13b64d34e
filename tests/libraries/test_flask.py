"""The tricks with Flask, Werkzeug and flask-smorest, on those that are installed."""

from __future__ import annotations

import pytest
from flask import Flask, request
from flask.ctx import AppContext
from flask.globals import app_ctx
from flask_smorest import Api
from werkzeug.local import LocalProxy

from flask_dualmedia.libraries.flask import current_context
from flask_dualmedia.libraries.smorest import GuestApi
from flask_dualmedia.libraries.werkzeug import read_data


def test_the_current_context_is_no_proxy() -> None:
    app = Flask("host")
    with pytest.raises(RuntimeError, match="context"):
        current_context()
    with app.app_context() as pushed:
        assert type(app_ctx) is LocalProxy
        assert type(current_context()) is AppContext
        assert current_context() is pushed
        assert current_context().app is app


def test_what_was_read_of_a_body_is_known() -> None:
    with Flask("host").test_request_context(method="POST", data=b"a body"):
        assert read_data(request) is None
        assert request.get_data() == b"a body"
        assert read_data(request) == b"a body"


CONFIG = {
    "GUEST_API_TITLE": "Guest",
    "GUEST_API_VERSION": "1",
    "GUEST_OPENAPI_VERSION": "3.1.0",
    "GUEST_OPENAPI_URL_PREFIX": "/docs",
}


@pytest.mark.parametrize("api_class", [GuestApi, Api])
def test_an_api_that_is_a_guest_adds_nothing_to_the_app(api_class: type[Api]) -> None:
    app = Flask("host")
    app.config.update(CONFIG)
    api_class(config_prefix="GUEST_").init_app(app)
    client = app.test_client()
    is_guest = api_class is GuestApi

    assert (client.get("/docs/openapi.json").status_code == 404) == is_guest
    assert (client.get("/missing").mimetype == "text/html") == is_guest
