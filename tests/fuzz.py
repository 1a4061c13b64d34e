"""Throw generated requests at the media routes of the running example app: ``python -m tests.fuzz [--examples 200]``.

Schemathesis reads the OpenAPI document, sends valid and invalid requests, one by one and in sequences that follow the
links, with a token and without one. No answer may be a 5xx, or of a status or shape that the document does not have.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import threading

from flask_jwt_extended import create_access_token
from werkzeug.serving import make_server

from example_app import create_app

# What no JSON schema can say: that bytes are a video, that an owner exists, that a field is for external media alone.
EXCLUDED = "positive_data_acceptance"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=200)
    examples = parser.parse_args().examples
    app = create_app({"INSTANCE_PATH": tempfile.mkdtemp(prefix="dualmedia-fuzz-"), "RATELIMIT_ENABLED": False})
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with app.app_context():
        token = create_access_token("fuzz", additional_claims={"role": "admin"}, expires_delta=False)
    command = ["schemathesis", "run", f"http://127.0.0.1:{server.port}/media/openapi.json", "--continue-on-failure"]
    # The phase "coverage" knows no multipart bodies with files.
    command += ["--phases", "fuzzing,stateful", "--max-examples", str(examples), "--exclude-checks", EXCLUDED]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "tests.fuzz_hooks"}
    with_token = ["-H", f"Authorization: Bearer {token}"]
    failed = [
        name
        for name, more in (("with", with_token), ("without", []))
        if subprocess.run(command + more, env=environment).returncode
    ]
    server.shutdown()
    sys.exit(f"failed {' and '.join(failed)} a token" if failed else 0)


if __name__ == "__main__":
    main()
