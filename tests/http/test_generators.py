"""Clients that are generated from the OpenAPI document: they cover every operation, and what they
upload comes back."""

from __future__ import annotations

import importlib
import io
import json
import subprocess
import sys
import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.serving import make_server

from ..conftest import MakeApp
from ..samples import Owners, Tokens, counting, encoded

pytestmark = pytest.mark.generators

CONTENT = counting(50_000)

HERE = Path(__file__).parent.parent / "clients"

PACKAGES = ["openapi-typescript@7", "openapi-fetch@0.17", "typescript@5"]


@pytest.fixture(params=[["headers"], ["headers", "cookies"]], ids=" and ".join)
def app(make_app: MakeApp, request: pytest.FixtureRequest) -> Flask:
    return make_app("mongo", JWT_TOKEN_LOCATION=request.param)


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def document(app: Flask, tmp_path: Path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(app.test_client().get("/media/openapi.json").text)
    return path


def operation_ids(document: Path) -> set[str]:
    paths = json.loads(document.read_text())["paths"].values()
    operations = [
        operation for item in paths for operation in item.values() if isinstance(operation, dict)
    ]
    return {operation["operationId"] for operation in operations}


def run(*command: str | Path, **options: t.Any) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def media_client(
    document: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[t.Callable[[str], t.Any]]:
    """Imports modules of the client for Python."""
    target = document.parent / "media_client"
    settings = document.parent / "settings.yml"
    settings.write_text("post_hooks: []\n")
    command = [
        sys.executable,
        "-m",
        "openapi_python_client",
        "generate",
        "--fail-on-warning",
        "--meta",
        "none",
    ]
    told = run(*command, "--path", document, "--output-path", target, "--config", settings)
    assert "arning" not in told
    monkeypatch.syspath_prepend(document.parent)
    yield lambda name: importlib.import_module(f"media_client.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "media_client"]:
        del sys.modules[name]


def test_a_client_for_python_has_every_operation(
    media_client: t.Callable[[str], t.Any], document: Path
) -> None:
    root = Path(media_client("api").__file__).parent
    modules = [path for path in root.glob("*/*.py") if path.stem != "__init__"]
    for path in modules:
        media_client(f"api.{path.parent.name}.{path.stem}")
    assert {path.stem for path in modules} == operation_ids(document)
    directories = {path.name for path in root.iterdir() if path.is_dir()}
    assert directories - {"__pycache__"} == {
        "product_images", "course_videos", "course_resources",
        "files", "uploads", "stats", "health",
    }  # fmt: skip


def test_a_client_for_python_uploads_and_downloads(
    media_client: t.Callable[[str], t.Any], url: str, tokens: Tokens, owners: Owners
) -> None:
    token = tokens.alice["Authorization"].removeprefix("Bearer ")
    client = media_client("client").AuthenticatedClient(base_url=url, token=token)
    models, file_of = media_client("models"), media_client("types").File

    def call(operation: str, *arguments: t.Any, **named: t.Any) -> t.Any:
        return media_client(f"api.{operation}").sync_detailed(*arguments, client=client, **named)

    file = file_of(
        payload=io.BytesIO(CONTENT), file_name="notes.bin", mime_type="application/octet-stream"
    )
    fields = {
        "reference_type": "user",
        "reference_id": str(owners.user),
        "title": "Notes",
        "is_public": False,
    }
    created = call("files.create_files", body=models.MediaStorageUpload(file=file, **fields))
    assert created.status_code == 201, created.content
    record = created.parsed
    assert (record.title, record.file_size, record.is_public) == ("Notes", len(CONTENT), False)

    whole = call("files.get_files_content", record.id)
    assert whole.parsed.payload.read() == CONTENT
    piece = call("files.get_files_content", record.id, range_="bytes=10-19")
    assert (piece.status_code, piece.parsed.payload.read()) == (206, CONTENT[10:20])

    replaced = call(
        "files.replace_files_content", record.id, body=file_of(payload=io.BytesIO(CONTENT[:99]))
    )
    assert (replaced.status_code, replaced.parsed.file_size) == (200, 99)
    listed = call("files.list_files", reference_type="user", reference_id=str(owners.user))
    assert [item.id for item in listed.parsed.items] == [record.id]

    metadata = {"kind": "files", "referenceType": "user", "referenceId": str(owners.user)}
    tus: dict[str, t.Any] = {"tus_resumable": models.CreateUploadTusResumable.VALUE_0}
    begun = call(
        "uploads.create_upload",
        upload_length=len(CONTENT),
        upload_metadata=encoded(metadata),
        **tus,
    )
    upload_id = begun.headers["Location"].rpartition("/")[2]
    tus = {"tus_resumable": models.AppendToUploadTusResumable.VALUE_0}
    half = len(CONTENT) // 2
    for offset, part in ((0, CONTENT[:half]), (half, CONTENT[half:])):
        body = file_of(payload=io.BytesIO(part))
        appended = call(
            "uploads.append_to_upload", upload_id, body=body, upload_offset=offset, **tus
        )
        assert appended.status_code == 204
    assert call("files.get_files_content", upload_id).content == CONTENT
    assert call("files.delete_files", record.id).status_code == 204
    missing = call("files.get_files", record.id)
    assert (missing.status_code, missing.parsed.code) == (404, 404)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("npm")
    run("npm", "install", "--no-audit", "--no-fund", "--prefix", folder, *PACKAGES, cwd=folder)
    return folder


def test_a_client_in_typescript_uploads_and_downloads(
    packages: Path, document: Path, url: str, tokens: Tokens, owners: Owners
) -> None:
    programs = packages / "node_modules" / ".bin"
    told = run(
        programs / "openapi-typescript",
        document,
        "--output",
        packages / "schema.d.ts",
        cwd=packages,
    )
    assert "arning" not in told
    types = (packages / "schema.d.ts").read_text()
    assert all(f'operations["{name}"]' in types for name in operation_ids(document))

    (packages / "generated.mts").write_text((HERE / "generated.mts").read_text())
    options = [
        "--strict",
        "--skipLibCheck",
        "--module",
        "nodenext",
        "--target",
        "es2022",
        "--lib",
        "es2022,dom",
    ]
    run(programs / "tsc", *options, "generated.mts", cwd=packages)
    told = run(
        "node", "generated.mjs", url, tokens.alice["Authorization"], str(owners.user), cwd=packages
    )
    assert told.strip() == "what was uploaded came back"
