"""Every block of Python in the pages is run here, against real databases."""

from __future__ import annotations

import html
import io
import re
import subprocess
import sys
import threading
import typing as t
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import requests
import sqlalchemy as sa
from flask import Flask, abort, redirect
from flask_jwt_extended import get_jwt, get_jwt_identity, verify_jwt_in_request
from flask_pymongo import PyMongo
from jinja2 import DictLoader
from PIL import Image
from tusclient import client as tus_client
from werkzeug.exceptions import Forbidden
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.serving import make_server

from flask_dualmedia import (
    CourseVideo,
    DualMedia,
    Owner,
    OwnerNotFound,
    ProductImage,
    UploadRejected,
    delete_media,
    get_course_resources,
    get_product_images,
    is_allowed,
    open_media,
    save_course_resource,
    save_course_video,
    save_media_storage,
    save_product_image,
    variant_url,
)
from flask_dualmedia.state import get_state

from ..conftest import BASE_CONFIG, StorageOptions, close
from ..samples import PDF, bearer, mp4, part, png
from ..waiting import eventually
from .pages import PAGES, Block, blocks_of

RUN: list[Block] = []
"""The blocks that tests of this module run."""


def block(page: str, words: str) -> Block:
    """The one block of a page that has these words."""
    (found,) = [block for block in blocks_of(page) if words in block.code]
    RUN.append(found)
    return found


def run(block: Block, names: dict[str, t.Any] | None = None, **replaced: t.Any) -> dict[str, t.Any]:
    """Run a block, with these names as if they stood above it, and return all names that it has.

    :param replaced: What stands in the page, by the words that stand for it in ``ADDRESSES``, is
        replaced by what the test has.
    """
    code = block.code
    for name, address in replaced.items():
        assert ADDRESSES[name] in code
        code = code.replace(ADDRESSES[name], address)
    names = {"__name__": "host", **(names or {})}
    lines_before = "\n" * (block.line - 1)
    exec(compile(lines_before + code, str(PAGES[block.page]), "exec"), names)
    return names


ADDRESSES = {
    "mongo": "mongodb://localhost:27017/shop",
    "sql": "postgresql://media:secret@localhost/media",
    "directory": "/srv/media",
    "shelf": "/srv/shelf.db",
    "limits": "redis://localhost:6379",
    "rate": "600 per minute",
    "site": "https://example.com",
}

MakeHost = Callable[..., Flask]


@pytest.fixture
def opened() -> Iterator[list[Flask]]:
    """Apps that are closed after the test."""
    apps: list[Flask] = []
    yield apps
    for app in apps:
        close(app)


@pytest.fixture
def make_host(mongo_uri: str, emptied_url: str, opened: list[Flask]) -> MakeHost:
    """Makes apps that have settings of both databases, and no media yet."""

    def make(**config: t.Any) -> Flask:
        app = Flask("host")
        app.config.update(BASE_CONFIG, MONGO_URI=mongo_uri, SQLALCHEMY_DATABASE_URI=emptied_url)
        app.config.update({"DUALMEDIA_AUTO_UPGRADE": False, **config})
        opened.append(app)
        return app

    return make


@pytest.fixture
def environment(mongo_uri: str, emptied_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that ``from_prefixed_env`` reads."""
    monkeypatch.setenv("FLASK_MONGO_URI", mongo_uri)
    monkeypatch.setenv("FLASK_JWT_SECRET_KEY", BASE_CONFIG["JWT_SECRET_KEY"])
    monkeypatch.setenv("FLASK_TESTING", "true")


def insert(app: Flask, collection: str, **fields: t.Any) -> t.Any:
    """The ``_id`` of a new document."""
    with app.app_context():
        return get_state().mongo[collection].insert_one({"name": "Lamp", **fields}).inserted_id


# operations.md

RECEIVER = block("operations.md", "log_deletion")


def test_a_receiver(make_host: MakeHost, caplog: pytest.LogCaptureFixture) -> None:
    app = make_host()
    app.logger.setLevel("INFO")
    DualMedia(app)
    names = run(RECEIVER, {"app": app})
    assert issubclass(ProductImage, names["Media"])
    with app.app_context():
        record = save_media_storage("page", 1, PDF)
        delete_media(type(record), record.id)
    assert f"deleted: {record!r}" in caplog.text


# README.md

MOUNT = block("README.md", "show_picture")

EXAMPLE = block("README.md", "show_photo")


def test_mounting(mongo_uri: str, emptied_url: str, opened: list[Flask]) -> None:
    app = run(MOUNT, mongo=mongo_uri, sql=emptied_url)["app"]
    opened.append(app)
    product = insert(app, "products")
    with app.app_context():
        assert get_state().mode == "dual"
        public = save_product_image(product, png(), is_public=True).id
        private = save_product_image(product, png()).id
    client = app.test_client()
    answer = client.get(f"/pictures/{public}")
    assert answer.get_json()["mongoProductId"] == str(product)
    assert client.get(f"/pictures/{private}").status_code == 404


def test_the_complete_example(mongo_uri: str, emptied_url: str, opened: list[Flask]) -> None:
    app = run(EXAMPLE, mongo=mongo_uri, sql=emptied_url)["app"]
    opened.append(app)
    product = insert(app, "products", seller="alice")
    client, alice, bob = app.test_client(), bearer(app, "alice"), bearer(app, "bob")

    def post(headers: dict[str, str]) -> t.Any:
        path = f"/products/{product}/photo"
        return client.post(path, data={"photo": part(png(), "lamp.png")}, headers=headers)

    assert post(bob).status_code == 403
    answer = post(alice)
    assert (answer.status_code, answer.get_json()["filename"]) == (201, "lamp.png")
    photo = answer.get_json()["id"]
    with app.app_context():
        private = save_product_image(product, png(), uploaded_by="alice").id

    for headers, visible in [({}, 1), (bob, 1), (alice, 2)]:
        (shown,) = client.get("/products", headers=headers).get_json()
        assert (shown["name"], len(shown["images"])) == ("Lamp", visible)
        assert client.get(f"/photos/{photo}", headers=headers).status_code == 200
        status = 200 if headers == alice else 404
        assert client.get(f"/photos/{private}", headers=headers).status_code == status


# docs/functions.md

FUNCTIONS = block("functions.md", "add_photo")


@pytest.fixture
def shop(make_host: MakeHost) -> Flask:
    """The app of docs/functions.md."""
    app = make_host()
    run(FUNCTIONS, {"app": app, "media": DualMedia(app)})
    return app


def test_functions(shop: Flask) -> None:
    product, client, bob = insert(shop, "products"), shop.test_client(), bearer(shop, "bob")
    answer = client.post(
        f"/products/{product}/photo", data={"photo": part(png(), "lamp.png")}, headers=bob
    )
    assert (answer.status_code, answer.get_json()["uploadedBy"]) == (201, "bob")
    (shown,) = client.get("/products").get_json()
    assert [image["altText"] for image in shown["images"]] == ["From the front"]


# docs/configuration.md

POLICY = block("configuration.md", "DUALMEDIA_POLICY")

VALIDATOR = block("configuration.md", "DUALMEDIA_VALIDATOR")


def test_a_policy(make_host: MakeHost) -> None:
    app = make_host(DUALMEDIA_REFERENCES={"course": None})
    run(POLICY, {"app": app})
    DualMedia(app)
    with app.app_context():
        assert save_course_resource(1, PDF, filename="a.pdf").resource_type == "pdf"
        with pytest.raises(UploadRejected):
            save_course_resource(1, png(), filename="a.png")


def test_a_validator(make_host: MakeHost) -> None:
    app = make_host()
    run(VALIDATOR, {"app": app})
    DualMedia(app)
    with app.app_context():
        save_media_storage("page", 1, b"Final text")
        with pytest.raises(UploadRejected, match="a draft"):
            save_media_storage("page", 1, b"DRAFT of a text")


# docs/processing.md

PICTURES = block("processing.md", "render_template")

PRESETS = block("processing.md", "DUALMEDIA_PRESETS")


def test_pictures_in_pages(make_host: MakeHost) -> None:
    app = make_host()
    template = re.findall(r"```jinja\n(.*?)```", PAGES["processing.md"].read_text(), re.DOTALL)[0]
    app.jinja_env.loader = DictLoader({"product.html": template})
    DualMedia(app)
    run(PICTURES, {"app": app})
    product = insert(app, "products")
    with app.app_context():
        save_product_image(product, io.BytesIO(png(400, 300)), is_public=True, alt_text="A lamp")
    client = app.test_client()
    page = client.get(f"/products/{product}").text
    (smallest,) = re.findall(r'srcset="(\S+) 320w', page)[:1]
    assert client.get(html.unescape(smallest)).mimetype == "image/webp"
    assert 'alt="A lamp"' in page
    assert "url(data:image/webp" not in page
    assert "url(data:image/webp" in client.get(f"/products/{product}").text


def test_presets_of_a_host(make_host: MakeHost) -> None:
    app = make_host()
    run(PRESETS, {"app": app})
    DualMedia(app)
    product = insert(app, "products")
    with app.app_context():
        image = save_product_image(product, io.BytesIO(png(900, 500)), is_public=True)
        square = variant_url(image, "square", format="avif")
        with pytest.raises(ValueError, match="large"):
            variant_url(image, "large")
    answer = app.test_client().get(square)
    assert answer.mimetype == "image/avif"
    assert Image.open(io.BytesIO(answer.data)).size == (400, 400)


# docs/integration.md

MONGO_ONLY = block("integration.md", "from_prefixed_env()\n    mongo.init_app")

REFERENCES = block("integration.md", "DUALMEDIA_REFERENCES")

WITH_SQL = block("integration.md", "db = SQLAlchemy()")

UNDO = block("integration.md", "ExitStack")

ENGINE = block("integration.md", "SQLALCHEMY_ENGINE_OPTIONS")

QUERY = block("integration.md", "db.session.scalar")

GEVENT = block("integration.md", "monkey.patch_all")

COOKIES = block("integration.md", "set_access_cookies")

OWNER_FIELD = block("integration.md", "DUALMEDIA_OWNER_FIELD")

RULE = block("integration.md", "def authorize")

ASKS_FIRST = block("integration.md", "abort(403)")

SHOWS = block("integration.md", "def products()")

LIMITS = block("integration.md", "Limiter")

EXEMPT = block("integration.md", "csrf.exempt")

FIXTURE = block("integration.md", "@pytest.fixture")

CLOSES = block("integration.md", "with DualMedia(app")

COUNTS = block("integration.md", "count_queries")


@pytest.mark.usefixtures("environment")
def test_a_mongo_only_app(opened: list[Flask]) -> None:
    app = run(MONGO_ONLY)["create_app"]()
    opened.append(app)
    product = insert(app, "products")
    with app.app_context():
        assert get_state().mode == "mongo"
        saved = save_product_image(product, png())
        assert [image.id for image in get_product_images(product)] == [saved.id]


def test_references(make_host: MakeHost) -> None:
    app = make_host()
    run(REFERENCES, {"app": app})
    DualMedia(app)
    product = insert(app, "catalogue")
    with app.app_context():
        save_product_image(product, png())
        save_media_storage("user", "nobody", PDF)
        with pytest.raises(OwnerNotFound):
            save_media_storage("page", 1, PDF)


@pytest.fixture
def with_sql(
    environment: None, emptied_url: str, monkeypatch: pytest.MonkeyPatch, opened: list[Flask]
) -> dict[str, t.Any]:
    """The names of the app that has extensions of its own, and the app."""
    monkeypatch.setenv("FLASK_SQLALCHEMY_DATABASE_URI", emptied_url)
    names = run(WITH_SQL)
    names["app"] = names["create_app"]()
    opened.append(names["app"])
    return names


def test_an_app_with_extensions_of_its_own(with_sql: dict[str, t.Any]) -> None:
    app, names = with_sql["app"], with_sql | run(UNDO, with_sql)
    with app.app_context():
        assert get_state().mode == "dual"
        product = names["create_product"]({"name": "Lamp"}, [png(), png()])
        assert len(get_product_images(product)) == 2
        assert run(QUERY, with_sql)["total"] == 2 * len(png())

        with pytest.raises(UploadRejected):
            names["create_product"]({"name": "Broken"}, [png(), b"no picture"])
        assert run(QUERY, with_sql)["total"] == 2 * len(png())
        assert with_sql["mongo"].db.products.count_documents({}) == 1


def test_options_of_the_engine(make_host: MakeHost) -> None:
    app = make_host()
    run(ENGINE, {"app": app})
    DualMedia(app)
    engine = get_state(app).engine
    assert engine is not None
    assert t.cast(sa.QueuePool, engine.pool).size() == 11


def test_patching_first() -> None:
    code = f"{GEVENT.code}\nimport socket; print(socket.socket.__module__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("gevent.")


def test_a_token_in_a_cookie(make_host: MakeHost) -> None:
    app = make_host()
    run(COOKIES, {"app": app, "user_id": "alice", "redirect": redirect})
    DualMedia(app)
    with app.app_context():
        media_id = save_media_storage("page", 1, PDF, uploaded_by="alice").id
    client, path = app.test_client(), f"https://localhost/media/files/{media_id}/content"
    assert client.get(path).status_code == 401
    assert client.post("https://localhost/login").status_code == 302
    assert client.get(path).data == PDF


def test_owner_fields(make_host: MakeHost) -> None:
    app = make_host()
    run(OWNER_FIELD, {"app": app})
    DualMedia(app)
    product = insert(app, "products", seller={"id": "alice"})
    course = insert(app, "courses", teacher_ids=["bob", "carol"])
    with app.test_request_context():
        for kind, type_, owner, allowed in [
            (ProductImage, "product", product, ["alice"]),
            (CourseVideo, "course", course, ["bob", "carol"]),
        ]:
            subject = Owner(kind, type_, str(owner))
            for identity in ["alice", "bob", "carol"]:
                assert is_allowed("create", subject, identity, {}) is (identity in allowed)


def test_a_rule_of_the_hosts(make_host: MakeHost) -> None:
    app = make_host()
    run(RULE, {"app": app})
    DualMedia(app)
    course = insert(app, "courses", teacher_id="teacher", student_ids=["student"])
    with app.test_request_context():
        owner = Owner(CourseVideo, "course", str(course))
        assert is_allowed("create", owner, "teacher", {})
        assert not is_allowed("create", owner, "student", {})
        video = save_course_video(course, mp4(), uploaded_by="teacher")
        assert is_allowed("read", video, "student", {})
        assert not is_allowed("edit", video, "student", {})
        assert not is_allowed("read", video, "stranger", {})


def test_a_view_that_asks_first(make_host: MakeHost) -> None:
    app = make_host(DUALMEDIA_OWNER_FIELD="seller")
    DualMedia(app)
    names = {
        "Owner": Owner,
        "ProductImage": ProductImage,
        "abort": abort,
        "get_jwt": get_jwt,
        "get_jwt_identity": get_jwt_identity,
        "is_allowed": is_allowed,
        "product_id": str(insert(app, "products", seller="alice")),
    }
    with app.test_request_context(headers=bearer(app, "alice")):
        verify_jwt_in_request()
        run(ASKS_FIRST, names)
    with app.test_request_context(headers=bearer(app, "bob")):
        verify_jwt_in_request()
        with pytest.raises(Forbidden):
            run(ASKS_FIRST, names)


def test_a_page_shows_what_its_viewer_may_see(make_host: MakeHost) -> None:
    app = make_host()
    media = DualMedia(app)
    run(SHOWS, {"app": app, "mongo": media.mongo})
    product = insert(app, "products")
    with app.app_context():
        save_product_image(product, png(), uploaded_by="alice")
        save_product_image(product, png(), uploaded_by="bob", is_public=True)
    client = app.test_client()
    for headers, count in [({}, 1), (bearer(app, "alice"), 2), (bearer(app, "bob"), 1)]:
        (shown,) = client.get("/products", headers=headers).get_json()
        assert len(shown["images"]) == count


def test_rate_limits(make_host: MakeHost) -> None:
    app = make_host()
    DualMedia(app)
    run(LIMITS, {"app": app}, limits="memory://", rate="3 per minute")
    client, alice = app.test_client(), bearer(app, "alice")
    statuses = [client.post("/media/files", headers=alice).status_code for _ in range(4)]
    assert statuses == [415, 415, 415, 429]


def test_media_routes_are_exempted_by_their_blueprint(make_host: MakeHost) -> None:
    """Flask-WTF itself is among the apps of other people (``-m hosts``)."""
    app = make_host()
    DualMedia(app)
    exempted: list[t.Any] = []
    run(EXEMPT, {"app": app, "csrf": SimpleNamespace(exempt=exempted.append)})
    assert [blueprint.name for blueprint in exempted] == ["dualmedia"]


def test_closing_each_app_of_a_test(with_sql: dict[str, t.Any]) -> None:
    fixture = run(
        FIXTURE,
        {
            "pytest": SimpleNamespace(fixture=contextmanager),
            "create_app": lambda config: with_sql["app"],
            "db": with_sql["db"],
            "DualMedia": DualMedia,
        },
    )["app"]
    with fixture() as app:
        assert app.test_client().get("/media/health").status_code == 200
    assert app.test_client().get("/media/health").status_code == 503


def test_closing_at_the_end_of_a_block(make_host: MakeHost) -> None:
    app = make_host()
    mongo = PyMongo(app)
    run(CLOSES, {"app": app, "mongo": mongo, "DualMedia": DualMedia})
    assert app.test_client().get("/media/health").status_code == 503


def test_counting_queries(make_host: MakeHost) -> None:
    names = run(COUNTS)
    app = make_host()
    run(FUNCTIONS, {"app": app, "media": DualMedia(app)})
    product = insert(app, "products")
    with app.app_context():
        save_product_image(product, png(), is_public=True)
    client = app.test_client()
    circuit = get_state(app).circuit
    assert circuit is not None
    # The first request has a thread of the app find out whether the journal is empty.
    eventually(lambda: client.get("/products") and not circuit.journal_expected, 10)
    names["test_list_is_one_query_each"](app, client)


# docs/storages.md, docs/uploads.md

STORAGES = block("storages.md", "DUALMEDIA_DEFAULT_STORAGE")

NAMED_STORAGES = block("storages.md", "shop.shelves:Shelf")

SHELF = block("storages.md", "class Shelf")

TRY_SHELF = block("storages.md", "check_storage")

TUSPY = block("uploads.md", "TusClient")

PREFIX = block("uploads.md", "ProxyFix")


def test_storages_under_names_and_of_a_class_of_your_own(
    make_host: MakeHost,
    storage_options: StorageOptions,
    tmp_path: t.Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = run(SHELF)
    run(TRY_SHELF, names)["test_shelf"](tmp_path)

    module = SimpleNamespace(Shelf=names["Shelf"])
    monkeypatch.setitem(sys.modules, "shop.shelves", t.cast("t.Any", module))
    app = make_host()
    places = {"directory": str(tmp_path / "scans"), "shelf": str(tmp_path / "shop.db")}
    run(NAMED_STORAGES, {"app": app}, **places)
    bucket = app.config["DUALMEDIA_STORAGES"]["archive"]
    bucket |= storage_options("s3")["s3"]
    DualMedia(app)
    with app.app_context():
        for name in ("archive", "scans", "shelf"):
            saved = save_media_storage("page", 1, PDF, storage_type=name)
            assert (saved.storage_type, b"".join(open_media(saved))) == (name, PDF)


def test_storages(make_host: MakeHost, storage_options: StorageOptions, tmp_path: t.Any) -> None:
    app = make_host()
    run(STORAGES, {"app": app}, directory=str(tmp_path))
    bucket = app.config["DUALMEDIA_STORAGES"]["s3"]
    bucket |= storage_options("s3")["s3"]
    DualMedia(app)
    product, course = insert(app, "products"), insert(app, "courses")
    with app.app_context():
        image = save_product_image(product, png())
        video = save_course_video(course, mp4(), uploaded_by="alice")
        saved = save_media_storage("page", 1, PDF)
    assert [record.storage_type for record in (image, video, saved)] == ["local", "s3", "database"]
    assert any(path.is_file() for path in tmp_path.rglob("*"))
    path = f"/media/course-videos/{video.id}/content"
    answer = app.test_client().get(path, headers=bearer(app, "alice"))
    assert answer.status_code == 302
    assert requests.get(answer.headers["Location"], timeout=10).content == mp4()


def test_tuspy(make_host: MakeHost, tmp_path: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make_host(DUALMEDIA_OWNER_FIELD="teacher")
    DualMedia(app)
    course = str(insert(app, "courses", teacher="alice"))
    (tmp_path / "slides.pdf").write_bytes(PDF)
    monkeypatch.chdir(tmp_path)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        token = bearer(app, "alice")["Authorization"].removeprefix("Bearer ")
        names = {
            "tusclient": SimpleNamespace(client=tus_client),
            "token": token,
            "course_id": course,
        }
        run(TUSPY, names, site=f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    with app.app_context():
        (resource,) = get_course_resources(course)
    assert (resource.filename, resource.file_size) == ("slides.pdf", len(PDF))


def test_a_prefix_that_a_proxy_strips(make_host: MakeHost) -> None:
    app = make_host()
    DualMedia(app)
    run(PREFIX, {"app": app, "ProxyFix": ProxyFix})
    headers = bearer(app, "alice") | {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": "3",
        "Upload-Metadata": "kind ZmlsZXM=,referenceType cGFnZQ==,referenceId MQ==",
        "X-Forwarded-Prefix": "/shop",
    }
    answer = app.test_client().post("/media/uploads", headers=headers)
    assert answer.status_code == 201
    assert answer.headers["Location"].startswith("/shop/media/uploads/")


def test_every_block_is_run_by_one_test() -> None:
    assert sorted(RUN) == sorted(block for page in PAGES for block in blocks_of(page))
