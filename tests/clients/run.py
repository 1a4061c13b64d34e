"""Start gunicorn with four workers, and let tus-js-client and Uppy upload the video of the example app: ``python -m
tests.clients.run``. See the README beside it."""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

from example_app import embedded
from tests.faults.servers import Workers, bearer, running

HERE = Path(__file__).parent

PACKAGES = ["tus-js-client@4", "uppy@6", "playwright-core"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--npm", type=Path, help="folder with the npm packages; by default they are installed anew")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        npm = arguments.npm or Path(directory) / "npm"
        if arguments.npm is None:
            npm.mkdir()
            subprocess.run(["npm", "install", "--prefix", str(npm), "--no-fund", "--no-audit", *PACKAGES], check=True)
        servers = embedded.start(directory)
        os.environ["NPM_DIRECTORY"] = str(npm.absolute())
        databases = {"MONGO_URI": servers.mongo_uri, "SQLALCHEMY_DATABASE_URI": servers.postgres_url}
        workers = Workers(Path(directory), databases, count=4, app="tests.clients.host:create_app()")
        with running(workers):
            origin = f"http://127.0.0.1:{workers.port}"
            environment = os.environ | {
                "ORIGIN": origin,
                "TOKEN": bearer("alice")["Authorization"],
                "VIDEO": str(Path(embedded.__file__).parent / "sample_media" / "big-buck-bunny-480p-30s.mp4"),
                "CHROMIUM": arguments.chromium,
            }
            workers.wait()
            for script in ("tus.mjs", "uppy.mjs"):
                subprocess.run(["node", str(HERE / script)], env=environment, check=True, timeout=300)


if __name__ == "__main__":
    main()
