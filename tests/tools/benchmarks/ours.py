"""The example app, as it is measured: without sample data and rate limits, which are the host's
business."""

from __future__ import annotations

import os
import tempfile

from flask import Flask

import example_app

from .host import SECRET


def create_app() -> Flask:
    """The app; databases come from the environment, and so do the mode and whether reads are
    counted."""
    config = {
        "JWT_SECRET_KEY": SECRET,
        "INSTANCE_PATH": tempfile.gettempdir(),
        "SAMPLE_DATA": False,
        "RATELIMIT_ENABLED": False,
        "DUALMEDIA_COUNT_READS": os.environ.get("BENCHMARK_COUNTS", "true"),
    }
    return example_app.create_app(config)
