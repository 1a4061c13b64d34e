"""The OpenAPI document and the page of it."""

from __future__ import annotations

import re
import typing as t
from html.parser import HTMLParser

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from flask_dualmedia.models import KINDS

from ..conftest import MakeApp
from ..samples import Owners, Tokens, post_file, post_url

METHODS = {"get", "post", "put", "patch", "delete"}
UNDOCUMENTED = {"dualmedia.openapi_json", "dualmedia.openapi_page"}


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app("mongo")  # the document knows no mode


@pytest.fixture
def document(client: FlaskClient) -> dict[str, t.Any]:
    answer = client.get("/media/openapi.json")
    assert answer.status_code == 200
    assert answer.json is not None
    return answer.json


def operations(document: dict[str, t.Any]) -> dict[tuple[str, str], dict[str, t.Any]]:
    return {
        (method, path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def test_it_is_valid(document: dict[str, t.Any]) -> None:
    assert document["openapi"].startswith("3.1")
    errors = list(OpenAPIV31SpecValidator(document).iter_errors())
    assert errors == []


def test_it_covers_every_route_and_method(app: Flask, document: dict[str, t.Any]) -> None:
    routes = {
        (method.lower(), re.sub("<string:([a-z_]+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("dualmedia.") and rule.endpoint not in UNDOCUMENTED
        for method in rule.methods or set()
    }
    assert operations(document).keys() == {
        (method, path) for method, path in routes if method in METHODS
    }


def test_operations_say_what_they_need(document: dict[str, t.Any]) -> None:
    """Tokens, bodies, and the errors that every route has."""
    for (method, path), operation in operations(document).items():
        assert operation["summary"]
        if path == "/media/health":
            assert not operation.get("security")
            continue
        is_open = path.endswith(("/content", "/{file_name}")) and method == "get"
        assert operation["security"] == ([{"bearer": []}, {}] if is_open else [{"bearer": []}])
        assert {"401", "503"} <= operation["responses"].keys()
        if "{media_id}" in path or "{upload_id}" in path:
            assert "404" in operation["responses"]
        without_body = path.endswith(("/accesses", "/direct-uploads/{media_id}"))
        takes_body = method in ("put", "patch") or (method == "post" and not without_body)
        assert ("requestBody" in operation) == takes_body, (method, path)


def all_operations(document: dict[str, t.Any]) -> dict[tuple[str, str], dict[str, t.Any]]:
    """Those of HEAD and OPTIONS too."""
    methods = METHODS | {"head", "options"}
    return {
        (method, path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in methods
    }


def test_each_operation_has_a_name_of_its_own(document: dict[str, t.Any]) -> None:
    found = all_operations(document)
    ids = {operation["operationId"] for operation in found.values()}
    assert len(ids) == len(found) > len(operations(document))
    assert found["get", "/media/health"]["operationId"] == "get_health"


@pytest.mark.parametrize("prefix", ["/media", "/files/media"])
def test_each_kind_is_a_group(make_app: MakeApp, prefix: str) -> None:
    app = make_app("mongo", DUALMEDIA_URL_PREFIX=prefix, DUALMEDIA_BLUEPRINT_NAME="attachments")
    document = t.cast("dict[str, t.Any]", app.test_client().get(f"{prefix}/openapi.json").json)
    groups = [tag["name"] for tag in document["tags"]]
    assert sorted(groups) == sorted([*KINDS, "health", "stats", "uploads"])
    assert all(tag["description"] for tag in document["tags"])
    for (_, path), operation in all_operations(document).items():
        assert operation["tags"] == [path.removeprefix(f"{prefix}/").partition("/")[0]]


def test_bodies_and_answers_are_of_types_that_generators_know(document: dict[str, t.Any]) -> None:
    """Each has a schema, and bytes are ``application/octet-stream``: clients are made of no other
    type for them."""
    known = {"application/json", "multipart/form-data", "application/octet-stream"}
    for (method, path), operation in all_operations(document).items():
        body = operation.get("requestBody", {"content": {}})["content"]
        assert body.keys() <= known, (method, path)
        answers = [
            document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
            if "$ref" in answer
            else answer
            for answer in operation["responses"].values()
        ]
        for answer in answers:
            content = answer.get("content", {})
            assert not content or next(iter(content)) in known, (method, path)
        for content in [body, *(answer.get("content", {}) for answer in answers)]:
            for media_type in content.values():
                assert {"$ref", "type"} & media_type["schema"].keys(), (method, path)


BEARER = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


def key(place: str, name: str) -> dict[str, str]:
    return {"type": "apiKey", "in": place, "name": name}


COOKIE = {"cookie": key("cookie", "access_token_cookie"), "csrf": key("header", "X-CSRF-TOKEN")}

# Settings of flask-jwt-extended; schemes; what GET needs, and POST.
LOCATIONS: list[tuple[dict[str, t.Any], dict[str, t.Any], list[list[str]], list[list[str]]]] = [
    ({}, {"bearer": BEARER}, [["bearer"]], [["bearer"]]),
    ({"JWT_TOKEN_LOCATION": "cookies"}, COOKIE, [["cookie"]], [["cookie", "csrf"]]),
    (
        {"JWT_TOKEN_LOCATION": ["cookies"], "JWT_COOKIE_CSRF_PROTECT": False},
        {"cookie": COOKIE["cookie"]},
        [["cookie"]],
        [["cookie"]],
    ),
    (
        {
            "JWT_TOKEN_LOCATION": ["cookies"],
            "JWT_ACCESS_COOKIE_NAME": "login",
            "JWT_ACCESS_CSRF_HEADER_NAME": "X-Check",
            "JWT_CSRF_METHODS": ["GET"],
        },
        {"cookie": key("cookie", "login"), "csrf": key("header", "X-Check")},
        [["cookie", "csrf"]],
        [["cookie"]],
    ),
    (
        {"JWT_TOKEN_LOCATION": ["headers", "cookies"]},
        {"bearer": BEARER, **COOKIE},
        [["bearer"], ["cookie"]],
        [["bearer"], ["cookie", "csrf"]],
    ),
    (
        {"JWT_TOKEN_LOCATION": ["headers"], "JWT_HEADER_NAME": "X-Token", "JWT_HEADER_TYPE": ""},
        {"header": key("header", "X-Token")},
        [["header"]],
        [["header"]],
    ),
    (
        {"JWT_TOKEN_LOCATION": ["headers"], "JWT_HEADER_TYPE": "JWT"},
        {"header": key("header", "Authorization")},
        [["header"]],
        [["header"]],
    ),
    (
        {"JWT_TOKEN_LOCATION": ["query_string", "json"], "JWT_QUERY_STRING_NAME": "token"},
        {"query": key("query", "token")},
        [["query"]],
        [["query"]],
    ),
]


@pytest.mark.parametrize(("config", "schemes", "get", "post"), LOCATIONS)
def test_it_says_where_the_app_takes_tokens(
    make_app: MakeApp,
    config: dict[str, t.Any],
    schemes: dict[str, t.Any],
    get: list[list[str]],
    post: list[list[str]],
) -> None:
    client = make_app("mongo", **config).test_client()
    document = t.cast("dict[str, t.Any]", client.get("/media/openapi.json").json)
    described = document["components"]["securitySchemes"]
    for scheme in described.values():
        assert scheme.pop("description", "").endswith((".", ""))
    assert described == schemes
    for method, needed in (("get", get), ("post", post)):
        security = document["paths"]["/media/files"][method]["security"]
        assert [[*requirement] for requirement in security] == needed
    content = document["paths"]["/media/files/{media_id}/content"]["get"]["security"]
    assert content[-1] == {}, "the content of public media needs no token"
    assert "security" not in document["paths"]["/media/health"]["get"]
    assert not [*OpenAPIV31SpecValidator(document).iter_errors()]
    assert ("access_token" in document["info"]["description"]) == (
        "json" in config.get("JWT_TOKEN_LOCATION", "")
    )


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_have_the_fields_of_the_answers(
    client: FlaskClient, tokens: Tokens, owners: Owners, document: dict[str, t.Any], kind: str
) -> None:
    created = document["paths"][f"/media/{kind}"]["post"]
    for answer in (
        post_file(client, tokens.alice, kind, owners),
        post_url(client, tokens.alice, kind, owners),
    ):
        assert answer.json is not None
        reference = created["responses"]["201"]["content"]["application/json"]["schema"]["$ref"]
        schema = document["components"]["schemas"][reference.rpartition("/")[2]]
        assert schema["properties"].keys() == answer.json.keys()
        read_only = {name for name, field in schema["properties"].items() if field.get("readOnly")}
        assert read_only == {
            "id", "checksum", "uploadedBy", "accessCount",
            "lastAccessedAt", "createdAt", "updatedAt",
        }  # fmt: skip
    bodies = created["requestBody"]["content"]
    assert bodies.keys() == {"application/json", "multipart/form-data"}
    form = document["components"]["schemas"][
        bodies["multipart/form-data"]["schema"]["$ref"].rpartition("/")[2]
    ]
    assert "file" in form["required"]
    assert not {"mimeType", "fileSize", *read_only} & form["properties"].keys()
    assert not any("null" in field["type"] for field in form["properties"].values())


@pytest.mark.parametrize("kind", KINDS)
def test_links_lead_from_a_creation_to_all_that_can_be_done(
    document: dict[str, t.Any], kind: str
) -> None:
    found = operations(document)
    links = found["post", f"/media/{kind}"]["responses"]["201"]["links"]
    of_one = f"/media/{kind}/{{media_id}}"
    assert links.keys() == {
        o["operationId"]
        for (_, path), o in found.items()
        if path.startswith(of_one) and "{file_name}" not in path
    }


@pytest.mark.parametrize("kind", KINDS)
def test_answers_fit_their_schemas(
    client: FlaskClient, tokens: Tokens, owners: Owners, document: dict[str, t.Any], kind: str
) -> None:
    item = post_file(client, tokens.alice, kind, owners).headers["Location"]
    owner = {"files": ("user", owners.user), "product-images": ("product", owners.product)}
    reference_type, reference_id = owner.get(kind, ("course", owners.course))
    stats = f"/media/stats?referenceType={reference_type}&referenceId={reference_id}"
    for method, url, path in (
        ("get", f"/media/{kind}", f"/media/{kind}"),
        ("get", item, f"/media/{kind}/{{media_id}}"),
        ("post", f"{item}/link", f"/media/{kind}/{{media_id}}/link"),
        ("get", stats, "/media/stats"),
        ("get", "/media/health", "/media/health"),
    ):
        answer = client.open(url, method=method, headers=tokens.alice)
        assert answer.json is not None
        assert "items" not in answer.json or len(answer.json["items"]) == 1
        documented = operations(document)[method, path]["responses"][str(answer.status_code)]
        schema = documented["content"]["application/json"]["schema"]
        OAS31Validator(schema | {"components": document["components"]}).validate(answer.json)


def test_documented_errors_are_of_our_shape(
    client: FlaskClient, document: dict[str, t.Any]
) -> None:
    error = document["components"]["schemas"]["Error"]["properties"]
    assert error.keys() == {"code", "status", "message", "errors"}
    for status, response in document["components"]["responses"].items():
        if status != "DEFAULT_ERROR":
            assert response["content"]["application/json"]["schema"]["$ref"].endswith("/Error")


def test_answers_are_documented(
    client: FlaskClient, tokens: Tokens, owners: Owners, document: dict[str, t.Any]
) -> None:
    """A sample of what other tests see: each status is one that the document names."""
    item, content = "/media/files/{media_id}", "/media/files/{media_id}/content"
    location = post_file(client, tokens.alice, "files", owners).headers["Location"]
    asked = [
        ("get", "/media/files?limit=0", "/media/files"),
        ("post", "/media/files", "/media/files"),
        ("get", location, item),
        ("patch", location, item),
        ("get", f"{location}/content", content),
        ("put", f"{location}/content", content),
        ("post", f"{location}/accesses", "/media/files/{media_id}/accesses"),
        ("delete", location, item),
    ]
    headers = [
        {},
        {"Range": "bytes=0-0"},
        {"Range": "bytes=900-"},
        {"If-Match": '"x"'},
        {"Content-Digest": "sha-256=:AA==:"},
    ]
    for token in ({}, tokens.bob, tokens.alice):
        for method, path, documented in asked:
            for more in headers:
                answer = client.open(path, method=method.upper(), headers={**token, **more})
                responses = operations(document)[method, documented]["responses"]
                assert str(answer.status_code) in responses, (method, path, answer.status_code)


class Loads(HTMLParser):
    """Collects what a browser would fetch, and what a reader could follow."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[tuple[str, str | None]] = []
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.add(given.get("id") or "")
        if tag == "a":
            self.links.append(given.get("href") or "")
        elif (
            tag in ("script", "link", "img", "iframe", "object", "embed", "base")
            or {"src", "srcset"} & given.keys()
        ):
            self.loaded.append((tag, given.get("src") or given.get("href")))


def test_each_app_has_its_own(make_app: MakeApp) -> None:
    for prefix in ("/one", "/two", "/one"):
        document = (
            make_app("mongo", DUALMEDIA_URL_PREFIX=prefix)
            .test_client()
            .get(f"{prefix}/openapi.json")
            .json
        )
        assert all(path.startswith(f"{prefix}/") for path in (document or {})["paths"])


@pytest.mark.parametrize("prefix", ["/media", "/api/v1/media"])
def test_the_page_needs_no_internet(make_app: MakeApp, prefix: str) -> None:
    client = make_app("mongo", DUALMEDIA_URL_PREFIX=prefix).test_client()
    answer = client.get(f"{prefix}/docs")
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    page = Loads()
    page.feed(answer.text)
    assert page.loaded == []
    assert not re.search(r"@import|url\(", answer.text)
    # All links stay on the page or lead to the document, and none is dead.
    assert {link for link in page.links if not link.startswith("#")} == {f"{prefix}/openapi.json"}
    assert {link.removeprefix("#") for link in page.links if link.startswith("#")} <= page.ids
    document = client.get(f"{prefix}/openapi.json").json
    assert document is not None
    for (method, path), operation in operations(document).items():
        assert f"<code>{path}</code>" in answer.text
        assert f">{method.upper()}<" in answer.text
        assert operation["summary"] in answer.text
    assert all(path.startswith(f"{prefix}/") for path in document["paths"])


def test_the_page_says_what_each_answer_means(client: FlaskClient) -> None:
    page = client.get("/media/docs").text
    assert "Unprocessable" in page
    assert page.count("Unauthorized") > 10
