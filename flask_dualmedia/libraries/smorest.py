"""Uses of flask-smorest beyond what it documents."""

from __future__ import annotations

from flask_smorest import Api


class GuestApi(Api):
    """flask-smorest for a guest, without a page of its own.

    Its error handler would turn every 404 page of the host into JSON.
    """

    def _register_error_handlers(self) -> None:
        """There are none for the whole app."""

    def _register_doc_blueprint(self) -> None:
        """There are no pages."""
