"""Check the wheel in an empty environment: ``check_wheel.py PYTHON WHEEL [--lowest]``.

Run by another Python that has the embedded servers and uv. With core dependencies alone the wheel
runs Mongo-only, and says which extra is missing where PostgreSQL is asked for; with that extra it
makes, checks and drops the schema.

``--lowest`` installs the lowest versions that the wheel allows of whatever it names.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from example_app import embedded

ROOT = Path(__file__).parent.parent

HOST = """
from flask import Flask
from flask_dualmedia import DualMedia
app = Flask(__name__)
app.config.from_prefixed_env()
DualMedia(app)
"""

VERSIONS = """
import platform
from importlib.metadata import version
names = ("flask", "werkzeug", "sqlalchemy", "pymongo", "flask-pymongo", "pyjwt")
print("Python", platform.python_version(), *(f"{name} {version(name)}" for name in names), sep=", ")
"""

MONGO_ONLY = """
from app import app
from flask_dualmedia import get_media_by_reference, save_media_storage
with app.app_context():
    saved = save_media_storage("page", 1, b"%PDF-1.7")
    assert [record.id for record in get_media_by_reference("page", "1")] == [saved.id]
assert app.test_client().get(f"/media/files/{saved.id}/content").status_code == 401
print(app.test_client().get("/media/health").json)
"""

INDEXES = (
    "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public' AND indexname NOT LIKE 'pk\\_%'"
)


def run(*command: str, fails: bool = False, **environment: str) -> str:
    done = subprocess.run(command, env=os.environ | environment, text=True, capture_output=True)
    output = done.stdout + done.stderr
    if bool(done.returncode) != fails:
        sys.exit(f"{' '.join(command)}: status {done.returncode}\n{output}")
    return output


def install(python: str, wheel: str, lowest: bool, *, extra: str = "") -> None:
    if lowest:
        uv = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", python)
        # None of a wheel's dependencies is direct: they are those of the project that it was built
        # from.
        extras = ("--extra", extra) if extra else ()
        run(
            *uv,
            "--resolution",
            "lowest-direct",
            "--requirements",
            f"{ROOT / 'pyproject.toml'}",
            *extras,
        )
        run(*uv, "--no-deps", wheel)
    else:
        run(python, "-m", "pip", "install", "--quiet", f"{wheel}[{extra}]" if extra else wheel)


def main(python: str, wheel: str, *options: str) -> None:
    lowest = "--lowest" in options
    install(python, wheel, lowest)
    print(run(python, "-c", VERSIONS), end="")
    Path("app.py").write_text(HOST)
    with tempfile.TemporaryDirectory() as directory:
        servers = embedded.start(directory)
        base = {"FLASK_MONGO_URI": f"{servers.mongo_uri}", "FLASK_JWT_SECRET_KEY": "k" * 32}
        print(run(python, "-c", MONGO_ONLY, **base, DB_ENABLED="false"), end="")

        url = f"{servers.postgres_url}"
        dual = base | {"FLASK_SQLALCHEMY_DATABASE_URI": url}
        message = run(python, "-c", "import app", fails=True, **dual).strip().rpartition("\n")[2]
        assert "pip install 'flask-dualmedia[postgres]'" in message, message
        print(message)

        install(python, wheel, lowest, extra="postgres")
        run(python, "-m", "flask", "db", "upgrade", **dual)
        assert "No new upgrade operations" in run(python, "-m", "flask", "db", "check", **dual)
        count(url, indexes=48, tables=7)
        run(python, "-m", "flask", "db", "downgrade", "base", **dual)
        count(url, indexes=0, tables=1)
        print("flask db upgrade made 48 indexes, flask db check found no difference,")
        print("downgrade left nothing")


def count(url: str, *, indexes: int, tables: int) -> None:
    import sqlalchemy as sa

    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        found = connection.scalar(sa.text(f"{INDEXES} AND indexname NOT LIKE 'dualmedia%'"))
        assert found == indexes, found
        names = sa.inspect(connection).get_table_names()
        assert len(names) == tables, names


if __name__ == "__main__":
    main(*sys.argv[1:])
