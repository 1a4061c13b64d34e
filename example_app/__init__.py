"""A small shop and course site on flask-dualmedia: documents in MongoDB, pictures and videos
through the extension.

``flask --app example_app run`` is all it takes: it starts its own database servers unless the
configuration names some.
"""

from __future__ import annotations

import logging
import typing as t

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from flask_dualmedia import DualMedia

from . import api, csrf, database, errors, limits, pages, sample, security, servers, settings


def create_app(config: t.Mapping[str, t.Any] | None = None) -> Flask:
    """Make the application.

    :param config: Wins over the environment. Beside Flask's keys and the extension's:
        ``INSTANCE_PATH`` (absolute folder of the embedded servers' data and the generated secret)
        and ``SAMPLE_DATA`` (fill an empty database; on by default). The sample accounts are in the
        embedded server alone: everybody knows their password.
    """
    log_start_up()
    config = dict(config or {})
    app = Flask(__name__, instance_path=config.pop("INSTANCE_PATH", None))
    settings.load(app, config)
    t.cast(
        DefaultJSONProvider, app.json
    ).sort_keys = False  # to sort them takes a quarter of the time
    started = servers.start(app)
    mongo = database.init_app(app)
    security.init_app(app)
    errors.init_app(app)
    csrf.init_app(app)
    DualMedia(app, mongo=mongo)
    app.register_blueprint(api.blueprint)
    app.register_blueprint(pages.blueprint)
    limits.init_app(app)
    if app.config["SAMPLE_DATA"]:
        sample.load(app, with_accounts=started.mongo)
    return app


def log_start_up() -> None:
    """Show what the extension and this app say at INFO. A host that has set up logging already
    keeps what it has."""
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    for name in ("flask_dualmedia", __name__):
        logging.getLogger(name).setLevel(logging.INFO)
