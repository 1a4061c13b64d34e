"""Throw generated requests at the media routes of the running example app.

``python -m tests.tools.fuzz [--examples 200]``.

Schemathesis reads the OpenAPI document, sends valid and invalid requests, one by one and in
sequences that follow the links, with a token and without one. No answer may be a 5xx, or of a
status or shape that the document does not have.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

from flask_jwt_extended import create_access_token
from werkzeug.serving import make_server

from example_app import create_app
from example_app.sample import sample_id

from .benchmarks.host import databases
from .benchmarks.memory import storage

CONFIG = Path(__file__).with_name("schemathesis.toml")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--port", type=int, default=5971, help="of an S3 server")
    parser.add_argument("more", nargs="*", help="options for schemathesis, after --")
    arguments = parser.parse_args()
    with databases() as (directory, servers), storage("s3", directory, arguments.port) as outside:
        config: dict[str, t.Any] = {
            "SQLALCHEMY_DATABASE_URI": servers.postgres_url,
            "MONGO_URI": servers.mongo_uri,
        }
        config["DUALMEDIA_STORAGES"] = json.loads(outside["DUALMEDIA_STORAGES"])
        config["DUALMEDIA_ALLOWED_STORAGES"] = ["s3"]
        app = create_app(config | {"INSTANCE_PATH": directory, "RATELIMIT_ENABLED": False})
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with app.app_context():
            token = create_access_token(
                "fuzz", additional_claims={"role": "admin"}, expires_delta=False
            )
        url = f"http://127.0.0.1:{server.port}/media/openapi.json"
        command = [
            f"{Path(sys.executable).with_name('schemathesis')}",
            "--config-file",
            f"{CONFIG}",
            "run",
            url,
        ]
        command += ["--max-examples", str(arguments.examples), *arguments.more]
        owners = {"FUZZ_PRODUCT": str(sample_id(100)), "FUZZ_COURSE": str(sample_id(200))}
        failed = [
            name
            for name, token in (("with", token), ("without", "none"))
            if subprocess.run(command, env=os.environ | owners | {"FUZZ_TOKEN": token}).returncode
        ]
        server.shutdown()
    sys.exit(f"failed {' and '.join(failed)} a token" if failed else 0)


if __name__ == "__main__":
    main()
