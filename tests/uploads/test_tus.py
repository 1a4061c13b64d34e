"""Resumable uploads, by tus 1.0."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import typing as t
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.http import parse_date
from werkzeug.test import TestResponse

from flask_dualmedia import MediaStorage
from flask_dualmedia.errors import UploadLocked
from flask_dualmedia.state import State
from flask_dualmedia.storages.base import new_key
from flask_dualmedia.uploads import resumable, staging

from .. import samples
from ..conftest import MakeApp, in_both_modes
from ..samples import (
    NOTHING,
    OFFSET_TYPE,
    PDF,
    Headers,
    Owners,
    Tokens,
    Tus,
    encoded,
    expire_uploads,
    kept,
    unfinished_uploads,
)

MIB = 1024 * 1024


def metadata(owners: Owners, kind: str = "files", **more: str) -> str:
    return encoded(
        {"kind": kind, "filename": "résumé.pdf", **samples.of_owner(kind, owners), **more}
    )


@pytest.fixture
def mode() -> str:
    """The protocol knows no mode. Where bytes and records are moved, the tests ask for both."""
    return "mongo"


@pytest.fixture
def tus(client: FlaskClient, tokens: Tokens) -> Tus:
    return Tus(client, tokens.alice)


@pytest.fixture
def begun(tus: Tus, owners: Owners) -> str:
    """Path of an upload of 10,000 bytes, of which 4,000 are there."""
    url = tus.create(10_000, Upload_Metadata=metadata(owners)).headers["Location"]
    assert tus.patch(url, 0, CONTENT[:4000]).status_code == 204
    return url


CONTENT = PDF + samples.counting(10_000 - len(PDF))


def content(client: FlaskClient, token: Headers, record: str) -> bytes:
    answer = client.get(f"{record}/content", headers=token)
    assert answer.status_code == 200
    return answer.data


@in_both_modes
def test_upload_in_three_requests(
    client: FlaskClient, tus: Tus, owners: Owners, tokens: Tokens, state: State
) -> None:
    created = tus.create(10_000, Upload_Metadata=metadata(owners, title="A title", isPublic="true"))
    assert (created.status_code, created.headers["Tus-Resumable"]) == (201, "1.0.0")
    url = created.headers["Location"]
    assert tus.head(url).headers["Upload-Offset"] == "0"
    for start in (0, 4000, 8000):
        answer = tus.patch(url, start, CONTENT[start : start + 4000])
        assert answer.status_code == 204
        assert answer.headers["Upload-Offset"] == str(min(start + 4000, 10_000))
        assert ("Content-Location" in answer.headers) == (start == 8000)
    record = answer.headers["Content-Location"]
    values = client.get(record, headers=tokens.alice).json
    assert values is not None
    assert values["filename"] == "résumé.pdf"
    assert (values["title"], values["isPublic"]) == ("A title", True)
    assert values["mimeType"] == "application/pdf"
    assert (values["uploadedBy"], values["fileSize"]) == ("alice", 10_000)
    assert values["checksum"] == hashlib.sha256(CONTENT).hexdigest()
    assert content(client, tokens.alice, record) == CONTENT
    head = tus.head(url)
    assert (head.headers["Upload-Offset"], head.headers["Upload-Length"]) == ("10000", "10000")
    assert head.headers["Content-Location"] == record
    assert head.headers["Cache-Control"] == "no-store"
    records, keys, _ = kept(state)
    assert records == len(keys) == 1, "the record and its bytes; the parts are gone"
    # Nobody who repeats the last request makes a second one.
    assert tus.patch(url, 10_000, b"").headers["Content-Location"] == record
    assert tus.patch(url, 10_000, b"more").status_code == 413
    assert kept(state)[0] == 1


@in_both_modes
def test_requests_of_several_parts(
    client: FlaskClient,
    tus: Tus,
    owners: Owners,
    tokens: Tokens,
    state: State,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Parts begin and end anywhere in the blocks that are read of them."""
    monkeypatch.setattr(resumable, "PART_SIZE", MIB)
    video = samples.mp4(3 * MIB + 17)
    described = metadata(owners, "course-videos", filename="a.mp4")
    url = tus.create(len(video), Upload_Metadata=described).headers["Location"]
    assert tus.patch(url, 0, video[: 2 * MIB + 100_001]).status_code == 204
    document = state.mongo[staging.COLLECTION].find_one({})
    assert document is not None
    assert [part["size"] for part in document["parts"]] == [MIB, MIB, 100_001]
    record = tus.patch(url, 2 * MIB + 100_001, video[2 * MIB + 100_001 :]).headers[
        "Content-Location"
    ]
    assert content(client, tokens.alice, record) == video


def test_what_the_server_can_do(client: FlaskClient) -> None:
    """No token is asked for: browsers send none with OPTIONS."""
    for path in ("/media/uploads", f"/media/uploads/{uuid.uuid4()}"):
        answer = client.options(path)
        assert answer.status_code == 204
        assert answer.headers["Tus-Version"] == "1.0.0"
        assert answer.headers["Tus-Max-Size"] == str(5 * 1024**3)
        assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256,md5"
        assert set(answer.headers["Tus-Extension"].split(",")) == {
            "creation", "creation-with-upload", "creation-defer-length",
            "expiration", "checksum", "termination",
            "concatenation",
        }  # fmt: skip
        assert "Upload-Offset" in answer.headers["Access-Control-Expose-Headers"]


def test_another_version(client: FlaskClient, tokens: Tokens, begun: str) -> None:
    for method, path in (
        ("POST", "/media/uploads"),
        ("HEAD", begun),
        ("PATCH", begun),
        ("DELETE", begun),
    ):
        for version in ({}, {"Tus-Resumable": "0.2.2"}):
            answer = client.open(path, method=method, headers=tokens.alice | version)
            assert (answer.status_code, answer.headers["Tus-Version"]) == (412, "1.0.0")


def test_what_an_admin_goes_on_with_is_of_who_began_it(
    client: FlaskClient, tokens: Tokens, begun: str
) -> None:
    record = (
        Tus(client, tokens.admin).patch(begun, 4000, CONTENT[4000:]).headers["Content-Location"]
    )
    values = client.get(record, headers=tokens.alice).json
    assert values is not None
    assert values["uploadedBy"] == "alice"


def test_requests_that_are_refused(tus: Tus, begun: str, state: State) -> None:
    before = kept(state)
    for name, value, status in (
        ("Content_Type", "application/json", 415),
        ("Upload_Offset", "3999", 409),
        ("Upload_Offset", "4001", 409),
        ("Upload_Offset", "-1", 400),
        ("Upload_Offset", "٣".encode().decode("latin-1"), 400),
        ("Upload_Length", "10001", 400),
        ("Upload_Checksum", "crc32 AAAA", 400),
        ("Upload_Checksum", "sha1 AAAA", 400),
        ("Upload_Checksum", "sha1 " + base64.b64encode(bytes(20)).decode(), 460),
    ):
        answer = tus.patch(begun, 4000, CONTENT[4000:5000], **{name: value})
        assert answer.status_code == status, (name, value)
        assert (answer.json and answer.json["code"]) == status, (name, value)
        assert answer.headers["Tus-Resumable"] == "1.0.0"
        assert tus.head(begun).headers["Upload-Offset"] == "4000"
        assert kept(state) == before


def test_more_bytes_than_announced(
    client: FlaskClient, tokens: Tokens, tus: Tus, begun: str, state: State
) -> None:
    before = kept(state)
    assert tus.patch(begun, 4000, bytes(6001)).status_code == 413
    # Without a length, as with chunked transfer, it shows at the end.
    headers = tokens.alice | {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "4000",
        "Content-Type": OFFSET_TYPE,
    }
    chunked = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    for size, status in ((6001, 413), (6000, 204)):
        assert kept(state) == before
        answer = client.patch(
            begun,
            headers=headers,
            input_stream=io.BytesIO(CONTENT[4000:] + b"x" * (size - 6000)),
            environ_base=chunked,
        )
        assert answer.status_code == status


def test_checksums(tus: Tus, begun: str, state: State) -> None:
    for start, algorithm in enumerate(("sha1", "sha256", "md5"), start=4000):
        before = kept(state)
        checksum = hashlib.new(algorithm, CONTENT[start : start + 1])
        digest = base64.b64encode(checksum.digest()).decode()
        wrong = tus.patch(begun, start, b"\xff", Upload_Checksum=f"{algorithm} {digest}")
        assert wrong.status == "460 Checksum Mismatch"
        assert kept(state) == before
        right = tus.patch(
            begun, start, CONTENT[start : start + 1], Upload_Checksum=f"{algorithm} {digest}"
        )
        assert right.headers["Upload-Offset"] == str(start + 1)


class Failing(io.BytesIO):
    """A body of which one read fails, and loses what it has taken.

    Reads after it go on behind that, as with a server that had received more.
    """

    def __init__(self, content: bytes, failing: int) -> None:
        super().__init__(content)
        self._failing = failing
        self._reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        data = super().read(size)
        if self._reads == self._failing:
            raise ConnectionResetError
        return data


@pytest.mark.parametrize("failing", [1, 2, 3, 5, 8])
def test_nothing_is_missing_within_what_came_of_a_request_that_failed(
    client: FlaskClient, tokens: Tokens, tus: Tus, owners: Owners, failing: int
) -> None:
    sent = PDF + samples.counting(300_000)
    url = tus.create(len(sent), Upload_Metadata=metadata(owners)).headers["Location"]
    headers = tokens.alice | {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Content-Type": OFFSET_TYPE,
    }
    client.patch(
        url,
        input_stream=Failing(sent, failing),
        environ_overrides={"CONTENT_LENGTH": str(len(sent))},
        headers=headers,
    )

    offset = int(tus.head(url).headers["Upload-Offset"])
    assert offset < len(sent)
    record = tus.patch(url, offset, sent[offset:]).headers["Content-Location"]
    assert content(client, tokens.alice, record) == sent


def test_what_came_of_a_request_that_was_cut_is_kept(tus: Tus, begun: str) -> None:
    tus.cut_short(begun, 4000, CONTENT[4000:7000], 6000)
    assert tus.head(begun).headers["Upload-Offset"] == "7000"
    digest = base64.b64encode(hashlib.sha1(CONTENT[7000:9000]).digest()).decode()
    tus.cut_short(begun, 7000, CONTENT[7000:9000], 3000, Upload_Checksum=f"sha1 {digest}")
    assert tus.head(begun).headers["Upload-Offset"] == "7000"
    assert tus.patch(begun, 7000, CONTENT[7000:]).headers["Content-Location"]


@in_both_modes
def test_creation_with_upload(
    client: FlaskClient, tus: Tus, owners: Owners, tokens: Tokens, state: State
) -> None:
    given = metadata(owners)
    half = tus.create(10_000, CONTENT[:5000], Upload_Metadata=given)
    assert (half.status_code, half.headers["Upload-Offset"]) == (201, "5000")
    assert "Content-Location" not in half.headers
    done = tus.patch(half.headers["Location"], 5000, CONTENT[5000:])
    whole = tus.create(10_000, CONTENT, Upload_Metadata=given)
    assert (whole.status_code, whole.headers["Upload-Offset"]) == (201, "10000")
    for answer in (done, whole):
        assert content(client, tokens.alice, answer.headers["Content-Location"]) == CONTENT
    # Nothing is left of one that is refused: nobody has heard of it.
    wrong = "sha1 " + base64.b64encode(bytes(20)).decode()
    refused = tus.create(10_000, CONTENT, Upload_Metadata=given, Upload_Checksum=wrong)
    assert refused.status_code == 460
    refused = tus.create(10_000, CONTENT, Upload_Metadata=given, Content_Type="text/plain")
    assert refused.status_code == 415
    assert kept(state)[0] == len(kept(state)[1]) == 2
    assert unfinished_uploads(state) == 2


def test_length_that_comes_later(
    client: FlaskClient, tus: Tus, owners: Owners, tokens: Tokens
) -> None:
    for size_with_last in (True, False):
        url = tus.create(None, Upload_Metadata=metadata(owners), Upload_Defer_Length="1").headers[
            "Location"
        ]
        assert tus.patch(url, 0, CONTENT[:6000]).status_code == 204
        head = tus.head(url)
        assert head.headers["Upload-Defer-Length"] == "1"
        assert "Upload-Length" not in head.headers
        if size_with_last:
            assert tus.patch(url, 6000, b"", Upload_Length="10000").status_code == 204
            assert tus.head(url).headers["Upload-Length"] == "10000"
            done = tus.patch(url, 6000, CONTENT[6000:])
        else:
            assert tus.patch(url, 6000, b"", Upload_Length="5999").status_code == 400
            assert tus.patch(url, 6000, CONTENT[6000:]).status_code == 204
            assert "Upload-Length" not in tus.head(url).headers
            done = tus.patch(url, 10_000, b"", Upload_Length="10000")
        assert content(client, tokens.alice, done.headers["Content-Location"]) == CONTENT


def test_uploads_that_are_not_begun(tus: Tus, owners: Owners, state: State) -> None:
    final = f"final;/media/uploads/{uuid.uuid4()}"
    for headers, status in (
        ({}, 400),
        ({"Upload_Length": "1", "Upload_Defer_Length": "1"}, 400),
        ({"Upload_Defer_Length": "2"}, 400),
        ({"Upload_Length": "ten"}, 400),
        ({"Upload_Length": str(5 * 1024**3 + 1)}, 413),
        ({"Upload_Length": "9" * 30}, 400),
        ({"Upload_Length": "1", "Upload_Metadata": "kind %%%"}, 400),
        ({"Upload_Length": "1", "Upload_Metadata": "kind /w=="}, 400),
        ({"Upload_Length": "1", "Upload_Metadata": "kind ZmlsZXM=,kind ZmlsZXM="}, 400),
        ({"Upload_Length": "1", "Upload_Metadata": ","}, 400),
        ({"Upload_Length": "1", "Upload_Metadata": ""}, 422),
        ({"Upload_Length": "1", "Upload_Concat": "half"}, 400),
        ({"Upload_Concat": "final;"}, 400),
        ({"Upload_Concat": "final;/media/uploads/x"}, 400),
        ({"Upload_Concat": final, "Upload_Length": "1"}, 400),
        ({"Upload_Concat": final}, 404),
    ):
        answer = tus.create(None, None, **{"Upload_Metadata": metadata(owners), **headers})
        assert answer.status_code == status, headers
        assert (answer.json and answer.json["code"]) == status, headers
    assert unfinished_uploads(state) == 0


def test_clients_hear_what_is_wrong_before_they_send_bytes(
    client: FlaskClient, tus: Tus, owners: Owners, tokens: Tokens, state: State
) -> None:
    samples.post_file(client, tokens.alice, "product-images", owners, isMainImage="true")
    for name, value, status, field in (
        ("kind", "movies", 422, "kind"),
        ("position", "first", 422, "position"),
        ("storageType", "s3", 422, "storageType"),
        ("storageType", "external", 422, "storageType"),
        ("mongoProductId", "none", 404, None),
        ("imageUrl", "https://cdn.example/a", 422, "imageUrl"),
        ("fileSize", "5", 422, "fileSize"),
        ("uploadedBy", "root", 422, "uploadedBy"),
        ("isMainImage", "true", 409, "isMainImage"),
    ):
        given = {
            "kind": "product-images",
            **samples.of_owner("product-images", owners),
            name: value,
        }
        answer = tus.create(10, Upload_Metadata=encoded(given))
        assert answer.json is not None
        wrong_fields = [*answer.json.get("errors", [None])]
        assert (answer.status_code, wrong_fields) == (status, [field]), (name, value)
    assert unfinished_uploads(state) == 0


def test_what_clients_add_of_themselves_is_no_field(tus: Tus, owners: Owners) -> None:
    given = metadata(
        owners,
        name="a.pdf",
        type="application/pdf",
        relativePath="null",
        filetype="application/pdf",
    )
    created = tus.create(10, Upload_Metadata=given)
    assert created.status_code == 201
    assert tus.head(created.headers["Location"]).headers["Upload-Metadata"] == given


@in_both_modes
def test_bytes_are_checked_like_those_of_any_upload(tus: Tus, owners: Owners, state: State) -> None:
    """The type is judged by the bytes at the end, whatever the metadata said. Nothing is left."""
    given = metadata(owners, "product-images", filename="a.png", filetype="image/png")
    url = tus.create(10_000, Upload_Metadata=given).headers["Location"]
    assert tus.patch(url, 0, CONTENT[:4000]).status_code == 204
    refused = tus.patch(url, 4000, CONTENT[4000:])
    assert refused.status_code == 415
    assert refused.json is not None
    assert refused.json["errors"].keys() == {"file"}
    assert tus.head(url).status_code == 404
    assert tus.create(0, Upload_Metadata=given).status_code == 422
    assert kept(state) == NOTHING
    assert unfinished_uploads(state) == 0


def test_the_limit_of_its_kind_holds_for_an_upload_of_any_way(make_app: MakeApp) -> None:
    """The limit is smaller or larger than the usual one, and the length is said early or late."""
    policy = {"files": {"max_size": 1000}, "course-resources": {"max_size": 20_000}}
    references = {"page": None, "course": None}
    app = make_app(
        "mongo", DUALMEDIA_MAX_SIZE=10_000, DUALMEDIA_REFERENCES=references, DUALMEDIA_POLICY=policy
    )
    tus = Tus(app.test_client(), Tokens.of(app).alice)
    assert tus.send("OPTIONS", "/media/uploads").headers["Tus-Max-Size"] == "20000"
    fields = {"kind": "course-resources", "mongoCourseId": "1", "filename": "a.pdf"}
    large = CONTENT + bytes(10_000)
    created = tus.create(20_000, large, Upload_Metadata=encoded(fields))
    assert created.headers["Upload-Offset"] == "20000"
    part = tus.create(20_000, large, Upload_Concat="partial").headers["Location"]
    joined = tus.create(None, Upload_Concat=f"final;{part}", Upload_Metadata=encoded(fields))
    assert joined.status_code == 201
    assert tus.create(20_001, Upload_Concat="partial").status_code == 413

    page = encoded({"kind": "files", "referenceType": "page", "referenceId": "1"})
    url = tus.create(None, Upload_Metadata=page, Upload_Defer_Length="1").headers["Location"]
    assert tus.patch(url, 0, CONTENT[:1001]).status_code == 413
    assert tus.patch(url, 0, CONTENT[:10], Upload_Length="1001").status_code == 413
    assert tus.head(url).headers["Upload-Offset"] == "0"
    assert tus.patch(url, 0, CONTENT[:1000], Upload_Length="1000").status_code == 204
    part = tus.create(1001, CONTENT[:1001], Upload_Concat="partial").headers["Location"]
    assert tus.create(None, Upload_Concat=f"final;{part}", Upload_Metadata=page).status_code == 413


def test_sizes(make_app: MakeApp) -> None:
    app = make_app(
        "mongo",
        DUALMEDIA_MAX_SIZE=10_000,
        DUALMEDIA_REFERENCES={"page": None},
        MAX_CONTENT_LENGTH=5,
    )
    tus = Tus(app.test_client(), Tokens.of(app).alice)
    given = encoded({"kind": "files", "referenceType": "page", "referenceId": "1"})
    assert tus.create(10_001, Upload_Metadata=given).status_code == 413
    url = tus.create(None, Upload_Metadata=given, Upload_Defer_Length="1").headers["Location"]
    assert tus.patch(url, 0, bytes(10_001)).status_code == 413
    assert tus.patch(url, 0, b"", Upload_Length="10001").status_code == 413
    assert tus.patch(url, 0, bytes(10_000), Upload_Length="10000").status_code == 204
    halves = [
        tus.create(6000, bytes(6000), Upload_Concat="partial").headers["Location"] for _ in range(2)
    ]
    final = tus.create(None, Upload_Metadata=given, Upload_Concat=f"final;{' '.join(halves)}")
    assert final.status_code == 413


def test_the_rule_is_asked_before_bytes_are_sent(make_app: MakeApp) -> None:
    rule = {"DUALMEDIA_AUTHORIZE": lambda action, subject, identity, claims: identity == "bob"}
    app = make_app("mongo", DUALMEDIA_REFERENCES={"page": None}, **rule)
    given = encoded({"kind": "files", "referenceType": "page", "referenceId": "1"})
    for token, status in ((Tokens.of(app).alice, 403), (Tokens.of(app).bob, 201)):
        assert Tus(app.test_client(), token).create(10, Upload_Metadata=given).status_code == status


@in_both_modes
def test_termination(tus: Tus, begun: str, state: State) -> None:
    assert tus.delete(begun).status_code == 204
    assert [answer.status_code for answer in (tus.head(begun), tus.delete(begun))] == [404, 404]
    assert kept(state) == NOTHING
    assert unfinished_uploads(state) == 0


def test_the_record_outlives_its_upload(
    client: FlaskClient, tus: Tus, begun: str, tokens: Tokens
) -> None:
    record = tus.patch(begun, 4000, CONTENT[4000:]).headers["Content-Location"]
    assert tus.delete(begun).status_code == 204
    assert content(client, tokens.alice, record) == CONTENT


def test_methods_of_clients_that_have_few(tus: Tus, begun: str) -> None:
    def override(method: str, **headers: str) -> TestResponse:
        body, given = (
            (CONTENT[4000:5000], {"Content-Type": OFFSET_TYPE}) if method == "PATCH" else (None, {})
        )
        return tus.send("POST", begun, body, given | {"X-HTTP-Method-Override": method}, **headers)

    assert override("PATCH", Upload_Offset="4000").headers["Upload-Offset"] == "5000"
    assert override("HEAD").headers["Upload-Offset"] == "5000"
    assert override("PUT").status_code == 405
    assert override("DELETE").status_code == 204
    assert tus.head(begun).status_code == 404


def partials(tus: Tus, *pieces: bytes) -> list[str]:
    return [
        tus.create(
            len(piece), piece, Upload_Concat="partial", Upload_Metadata=encoded({"any": "thing"})
        ).headers["Location"]
        for piece in pieces
    ]


@in_both_modes
def test_concatenation(
    client: FlaskClient, tus: Tus, owners: Owners, tokens: Tokens, state: State
) -> None:
    urls = partials(tus, CONTENT[:3000], CONTENT[3000:3000], CONTENT[3000:])
    assert tus.head(urls[0]).headers["Upload-Concat"] == "partial"
    assert kept(state)[0] == 0
    given = {
        "Upload_Metadata": metadata(owners),
        "Upload_Concat": f"final;http://localhost{urls[0]} {urls[1]} {urls[2]}",
    }
    final = tus.create(None, None, **given)
    assert final.status_code == 201
    assert content(client, tokens.alice, final.headers["Content-Location"]) == CONTENT
    head = tus.head(final.headers["Location"])
    assert head.headers["Upload-Length"] == "10000"
    assert head.headers["Upload-Concat"] == f"final;{' '.join(urls)}"
    assert tus.patch(final.headers["Location"], 10_000, b"").status_code == 403
    assert [tus.head(url).status_code for url in urls] == [404] * 3
    # Sent again, because the answer was lost.
    again = tus.create(None, None, **given)
    assert [again.headers[name] for name in ("Location", "Content-Location")] == [
        final.headers[name] for name in ("Location", "Content-Location")
    ]
    assert kept(state)[0] == len(kept(state)[1]) == 1


def test_uploads_that_cannot_be_joined(
    client: FlaskClient, tus: Tus, owners: Owners, tokens: Tokens, begun: str, state: State
) -> None:
    (part,) = partials(tus, CONTENT[:3000])
    (of_bob,) = partials(Tus(client, tokens.bob), CONTENT[3000:])
    unfinished = tus.create(10, Upload_Concat="partial").headers["Location"]
    for other, status in ((of_bob, 404), (unfinished, 422), (begun, 422)):
        answer = tus.create(
            None, Upload_Metadata=metadata(owners), Upload_Concat=f"final;{part} {other}"
        )
        assert answer.status_code == status
    body = tus.create(None, b"x", Upload_Metadata=metadata(owners), Upload_Concat=f"final;{part}")
    assert body.status_code == 400
    # It is still there, and not locked.
    joined = tus.create(None, Upload_Metadata=metadata(owners), Upload_Concat=f"final;{part}")
    assert joined.status_code == 201


@in_both_modes
def test_expired_uploads_vanish_with_their_bytes(make_app: MakeApp, mode: str) -> None:
    app = make_app(mode, DUALMEDIA_UPLOAD_EXPIRES=60, DUALMEDIA_REFERENCES={"page": None})
    state, tus = app.extensions["dualmedia"], Tus(app.test_client(), Tokens.of(app).alice)
    given = encoded({"kind": "files", "referenceType": "page", "referenceId": "1"})
    created = tus.create(10_000, CONTENT[:4000], Upload_Metadata=given)
    expires = parse_date(created.headers["Upload-Expires"])
    assert expires is not None
    assert timedelta(seconds=50) < expires - datetime.now(UTC) < timedelta(seconds=61)
    finished = tus.create(10_000, CONTENT, Upload_Metadata=given)
    runner = app.test_cli_runner()
    swept = runner.invoke(args=["dualmedia", "sweep"])
    assert swept.output == "Removed 0 unfinished record(s) and upload(s).\n"
    for clean_up in (["sweep"], ["check", "--repair", "--grace", "0"]):
        url = tus.create(10_000, CONTENT[:4000], Upload_Metadata=given).headers["Location"]
        expire_uploads(state)
        assert tus.head(url).status_code == tus.patch(url, 4000, CONTENT[4000:]).status_code == 410
        found = runner.invoke(args=["dualmedia", "check", "--grace", "0"])
        assert (found.exit_code, "upload_expired" in found.output) == (1, True)
        assert "bytes_orphaned" not in found.output
        assert runner.invoke(args=["dualmedia", *clean_up]).exit_code == 0
        assert tus.head(url).status_code == 404
        assert unfinished_uploads(state) == 0
        assert kept(state)[0] == len(kept(state)[1]) == 1
        checked = runner.invoke(args=["dualmedia", "check", "--grace", "0"])
        assert (checked.exit_code, "clean" in checked.output) == (0, True)
    record = finished.headers["Content-Location"]
    assert content(app.test_client(), Tokens.of(app).alice, record) == CONTENT


@in_both_modes
def test_a_check_knows_the_parts_of_living_uploads(
    app: Flask, tus: Tus, begun: str, state: State
) -> None:
    """Bytes that an upload names are in use. Bytes that nobody names are left behind."""
    orphan = new_key(uuid.UUID(begun.rpartition("/")[2]))
    state.storages["database"].put(orphan, [b"put there by a killed worker"])
    repaired = app.test_cli_runner().invoke(
        args=["dualmedia", "check", "--repair", "--grace", "0", "--force", "--expect", "1"]
    )
    assert (repaired.exit_code, "1 bytes_orphaned" in repaired.output) == (0, True)
    assert orphan not in kept(state)[1]
    assert tus.patch(begun, 4000, CONTENT[4000:]).headers["Content-Location"]


class Pausing(io.BytesIO):
    """A body that waits in the middle."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.reached, self.go_on = threading.Event(), threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            self.reached.set()
            assert self.go_on.wait(20)
        return super().read(min(size or 0, 1000) if size else size)


@pytest.fixture
def slow(state: State, begun: str) -> t.Iterator[tuple[Pausing, list[Exception]]]:
    """A writer that has sent 1,000 bytes and stops there, with the lock."""
    body, errors = Pausing(CONTENT[4000:]), []

    def send() -> None:
        try:
            writer = state.staging.lock(uuid.UUID(begun.rpartition("/")[2]))
            assert writer is not None
            with state.app.app_context(), writer:
                resumable.receive(state, writer, body, announced=6000, length=10_000)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=send)
    thread.start()
    assert body.reached.wait(10)
    yield body, errors
    body.go_on.set()
    thread.join(20)


def join(body: Pausing) -> None:
    body.go_on.set()
    for thread in threading.enumerate():
        if "(send)" in thread.name:
            thread.join(20)


def test_one_writer_at_a_time(
    tus: Tus, begun: str, state: State, slow: tuple[Pausing, list[Exception]], owners: Owners
) -> None:
    """The second writer is told so, and hinders nobody."""
    body, errors = slow
    assert tus.patch(begun, 4000, CONTENT[4000:]).status_code == 423
    assert tus.delete(begun).status_code == 423
    assert tus.head(begun).headers["Upload-Offset"] == "4000"
    join(body)
    assert errors == []
    assert tus.head(begun).headers["Content-Location"]
    assert state.repository.count(MediaStorage) == 1


@in_both_modes
def test_a_writer_that_has_lost_its_lock_moves_nothing(
    client: FlaskClient,
    tokens: Tokens,
    tus: Tus,
    begun: str,
    state: State,
    slow: tuple[Pausing, list[Exception]],
) -> None:
    """Another writer goes on with the upload of one that does not get on. The late bytes of the
    first do no harm."""
    body, errors = slow
    run_out = {"$set": {"lock.until": datetime.now(UTC) - timedelta(seconds=1)}}
    state.mongo[staging.COLLECTION].update_one({}, run_out)
    assert tus.patch(begun, 4000, CONTENT[4000:8000]).status_code == 204
    join(body)
    assert [type(error) for error in errors] == [UploadLocked]
    assert tus.head(begun).headers["Upload-Offset"] == "8000"
    record = tus.patch(begun, 8000, CONTENT[8000:]).headers["Content-Location"]
    assert content(client, tokens.alice, record) == CONTENT
    assert kept(state)[0] == len(kept(state)[1]) == 1


def test_a_lock_is_renewed_while_bytes_come(
    begun: str, state: State, slow: tuple[Pausing, list[Exception]], monkeypatch: pytest.MonkeyPatch
) -> None:
    until = state.mongo[staging.COLLECTION].find_one({})["lock"]["until"]  # type: ignore[index]
    monkeypatch.setattr(staging, "LOCK_SECONDS", 1000)
    body, errors = slow
    body.go_on.set()
    join(body)
    assert errors == []
    writer = state.staging.lock(uuid.UUID(begun.rpartition("/")[2]))
    assert writer is not None
    before = writer.lock()["until"]
    assert before > until
    monkeypatch.setattr(staging, "LOCK_SECONDS", 3000)
    writer.keep()
    document = state.mongo[staging.COLLECTION].find_one({})
    assert document is not None
    assert document["lock"]["until"] > before + timedelta(seconds=1000)
