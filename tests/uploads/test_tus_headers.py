"""Headers of resumable uploads that no client of good will sends."""

from __future__ import annotations

import base64
import itertools
import typing as t

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flask_dualmedia.state import State
from flask_dualmedia.uploads import staging

from ..conftest import MakeApp
from ..samples import OFFSET_TYPE, PDF, Headers, Tokens, Tus, encoded

METADATA = encoded({"kind": "files", "referenceType": "page", "referenceId": "1"})

NAMES = (
    "Tus-Resumable", "Upload-Offset", "Upload-Length", "Upload-Defer-Length",
    "Upload-Metadata", "Upload-Concat",
    "Upload-Checksum", "X-HTTP-Method-Override",
)  # fmt: skip


class Host(t.NamedTuple):
    client: FlaskClient
    headers: Headers
    url: str
    """The path of an upload that has begun."""
    state: State

    def send(
        self, method: str, path: str, headers: dict[str, str], data: bytes | None = None
    ) -> int:
        usual = self.headers | {"Tus-Resumable": "1.0.0", "Content-Type": OFFSET_TYPE}
        return self.client.open(path, method=method, headers=usual | headers, data=data).status_code


@pytest.fixture
def host(make_app: MakeApp) -> Host:
    app = make_app("mongo")
    client, headers = app.test_client(), Tokens.of(app).alice
    url = Tus(client, headers).create(100, Upload_Metadata=METADATA).headers["Location"]
    return Host(client, headers, url, app.extensions["dualmedia"])


def test_a_header_that_is_not_ascii_is_a_bad_request(host: Host) -> None:
    create = {"Upload-Length": "10", "Upload-Metadata": METADATA}
    append = {"Upload-Offset": "0"}
    for name, value in itertools.product(
        NAMES, ["ä", "final;/media/uploads/ä", "sha1 ä", "kind ä", "\u0661"]
    ):
        sent = {name: value.encode().decode("latin-1")}
        statuses = [
            host.send("POST", "/media/uploads", create | sent),
            host.send("HEAD", host.url, sent),
            host.send("PATCH", host.url, append | sent, b"x"),
            host.send("DELETE", host.url, sent),
            host.send("POST", host.url, append | {"X-HTTP-Method-Override": "PATCH"} | sent, b"x"),
        ]
        assert statuses == [400] * 5, sent
    assert host.send("HEAD", host.url, {}) == 200


_TEXT = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40
)
_VALUES = _TEXT | st.sampled_from(
    [
        "final;http://[", "final;//]/x", "final;", "final; ; ",
        "partial;", "kind =", "kind " + "A" * 5, ",", " ",
        "sha1 =", "sha1", "md5 AAAA", "-1", "1e3", "9" * 30, "0x10", "1.0.0", "PATCH", "HEAD",
        "kind " + base64.b64encode(b"\xff").decode(),
        "a b c", METADATA + ",", METADATA + "," + METADATA,
    ]
)  # fmt: skip


@example(headers={"Upload-Concat": "final;http://["})
@example(headers={"Upload-Checksum": "sha1 ="})
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(headers=st.dictionaries(st.sampled_from(NAMES), _VALUES, min_size=1, max_size=3))
def test_no_header_ends_in_an_error_of_ours(host: Host, headers: dict[str, str]) -> None:
    for method, path, usual in (
        ("POST", "/media/uploads", {"Upload-Length": "10", "Upload-Metadata": METADATA}),
        ("POST", "/media/uploads", {}),
        ("PATCH", host.url, {"Upload-Offset": "0"}),
        ("HEAD", host.url, {}),
    ):
        assert host.send(method, path, usual | headers, None) < 500


def partial(tus: Tus, content: bytes) -> str:
    url = tus.create(len(content), content, Upload_Concat="partial").headers["Location"]
    return str(url)


def test_a_final_upload_names_each_partial_once(host: Host) -> None:
    tus = Tus(host.client, host.headers)
    one, other = partial(tus, PDF), partial(tus, b"more")
    identifier = one.rpartition("/")[2]
    for again in (
        one,
        one.upper().replace("MEDIA/UPLOADS", "media/uploads"),
        one.replace(identifier, f"{{{identifier}}}"),
    ):
        joined = f"final;{one} {other} {again}"
        assert tus.create(None, Upload_Metadata=METADATA, Upload_Concat=joined).status_code == 400
    made = tus.create(None, Upload_Metadata=METADATA, Upload_Concat=f"final;{one} {other}")
    assert (made.status_code, made.headers["Upload-Offset"]) == (201, str(len(PDF) + 4))


def test_a_final_upload_has_no_more_parts_than_another(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    tus = Tus(host.client, host.headers)
    parts = [partial(tus, PDF), partial(tus, b"a"), partial(tus, b"b")]
    monkeypatch.setattr(staging, "MAX_PARTS", 2)
    refused = tus.create(None, Upload_Metadata=METADATA, Upload_Concat=f"final;{' '.join(parts)}")
    assert (refused.status_code, (refused.json or {})["errors"].keys()) == (422, {"file"})
    two = f"final;{' '.join(parts[:2])}"
    joined = tus.create(None, Upload_Metadata=METADATA, Upload_Concat=two)
    assert joined.status_code == 201


def test_the_parts_of_partial_uploads_are_not_all_read_to_find_that_they_are_too_many(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    tus = Tus(host.client, host.headers)
    parts = [partial(tus, PDF) for _ in range(6)]
    monkeypatch.setattr(staging, "MAX_PARTS", 2)
    read: list[int] = []
    staged = staging._staged

    def counting(document: dict[str, t.Any]) -> staging.Staged:
        upload = staged(document)
        read.append(len(upload.parts))
        return upload

    monkeypatch.setattr(staging, "_staged", counting)
    all_parts = f"final;{' '.join(parts)}"
    refused = tus.create(None, Upload_Metadata=METADATA, Upload_Concat=all_parts)
    assert refused.status_code == 422
    assert sum(read) <= 3
