"""Ranges and conditions as RFC 9110 has them: the same table for every storage, and the bytes read
from each."""

from __future__ import annotations

import hashlib
import time
import typing as t
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from flask_dualmedia.state import State
from flask_dualmedia.storages.chunked import CHUNK_SIZE, READ_BATCH
from flask_dualmedia.storages.psycopg import PsycopgStorage
from flask_dualmedia.storages.whole import PIECE_SIZE, StreamedStorage

from ..conftest import OUTSIDE, MakeApp, StorageOptions
from ..samples import Owners, Tokens, mp4, part, post_file

CHUNK = 256 * 1024
VIDEO = mp4(2 * CHUNK + 1000)
SIZE = len(VIDEO)
ETAG = f'"{hashlib.sha256(VIDEO).hexdigest()}"'
WHOLE = (0, SIZE)


class Answer(t.NamedTuple):
    """The part of an answer that matters; ``part`` is the range ``[start, stop)`` of the video that
    the body must be."""

    status: int
    part: tuple[int, int] | None
    content_range: str | None = None
    length: int | None = None


def whole() -> Answer:
    return Answer(200, WHOLE, None, SIZE)


def ranged(start: int, stop: int) -> Answer:
    return Answer(206, (start, stop), f"bytes {start}-{stop - 1}/{SIZE}", stop - start)


UNSATISFIABLE = Answer(416, None, f"bytes */{SIZE}")
NOT_MODIFIED = Answer(304, (0, 0))
FAILED = Answer(412, None)


def answer_of(response: TestResponse) -> Answer:
    """The same of a response; a wrong body shows as ``None``."""
    headers, status = response.headers, response.status_code
    content_range = headers.get("Content-Range")
    length = int(headers["Content-Length"]) if "Content-Length" in headers else None
    if status in (412, 416):
        assert (response.json or {})["code"] == status
        return Answer(status, None, content_range)
    if response.request.method == "HEAD":
        assert response.data == b""
        return Answer(status, None, content_range, length)
    start = int(content_range.split()[1].split("-")[0]) if content_range else 0
    stop = start + len(response.data)
    return Answer(
        status, (start, stop) if response.data == VIDEO[start:stop] else None, content_range, length
    )


@pytest.fixture(params=["dual", "mongo", *OUTSIDE])
def app(
    request: pytest.FixtureRequest, make_app: MakeApp, storage_options: StorageOptions
) -> Flask:
    """Bytes in every storage in turn: in PostgreSQL, in GridFS, and in those outside of the
    databases."""
    name = request.param
    if name in OUTSIDE:
        return make_app(
            "mongo", DUALMEDIA_STORAGES=storage_options(name), DUALMEDIA_DEFAULT_STORAGE=name
        )
    return make_app(name)


@pytest.fixture
def video(client: FlaskClient, tokens: Tokens, owners: Owners) -> str:
    """Path of the content of a video of two chunks and a bit."""
    return (
        post_file(client, tokens.alice, "course-videos", owners, file=part(VIDEO)).headers[
            "Location"
        ]
        + "/content"
    )


RANGES: dict[str, Answer] = {
    "bytes=0-": ranged(0, SIZE),
    "bytes=0-0": ranged(0, 1),
    "bytes=2-4": ranged(2, 5),
    "bytes=100-": ranged(100, SIZE),
    f"bytes={SIZE - 1}-": ranged(SIZE - 1, SIZE),
    f"bytes=0-{SIZE - 1}": ranged(0, SIZE),
    "bytes=-1": ranged(SIZE - 1, SIZE),
    "bytes=-10": ranged(SIZE - 10, SIZE),
    f"bytes=-{SIZE}": ranged(0, SIZE),
    # "If the selected representation is shorter than the specified suffix-length, the entire
    # representation is used."
    f"bytes=-{SIZE + 100}": ranged(0, SIZE),
    # "the last-pos value ... greater than or equal to the current length": the remainder
    f"bytes={SIZE - 5}-{SIZE + 1000}": ranged(SIZE - 5, SIZE),
    f"bytes=0-{10**30}": ranged(0, SIZE),
    # across and along the borders of chunks
    f"bytes={CHUNK - 1}-{CHUNK}": ranged(CHUNK - 1, CHUNK + 1),
    f"bytes={CHUNK - 1}-{CHUNK - 1}": ranged(CHUNK - 1, CHUNK),
    f"bytes={CHUNK}-{CHUNK}": ranged(CHUNK, CHUNK + 1),
    f"bytes={CHUNK}-{2 * CHUNK - 1}": ranged(CHUNK, 2 * CHUNK),
    f"bytes=0-{CHUNK - 1}": ranged(0, CHUNK),
    f"bytes=1-{2 * CHUNK}": ranged(1, 2 * CHUNK + 1),
    f"bytes={2 * CHUNK}-": ranged(2 * CHUNK, SIZE),
    # "range unit names are case-insensitive"
    "BYTES=2-4": ranged(2, 5),
    # nothing of the video is in them
    f"bytes={SIZE}-": UNSATISFIABLE,
    f"bytes={SIZE}-{SIZE + 10}": UNSATISFIABLE,
    f"bytes={10**30}-": UNSATISFIABLE,
    # several: the policy is to ignore them
    "bytes=0-1,5-6": whole(),
    "bytes=0-1, 1-2, 2-3": whole(),
    f"bytes=0-1,{SIZE}-": whole(),
    # units that are not understood must be ignored, what is malformed may be
    "items=0-5": whole(),
    "bytes=": whole(),
    "bytes": whole(),
    "bytes=-": whole(),
    "bytes=a-b": whole(),
    "bytes=9-5": whole(),
    "bytes=1--2": whole(),
    "bytes=--2": whole(),
    "bytes=+1-2": whole(),
    "bytes=0x1-2": whole(),
    "bytes=1.5-2": whole(),
    "bytes 0-5": whole(),
    "0-5": whole(),
    "": whole(),
}


def test_ranges(client: FlaskClient, tokens: Tokens, video: str) -> None:
    """Every form of range, by RFC 9110 sections 14.1 and 14.2."""
    answers = {
        header: answer_of(client.get(video, headers=tokens.alice | {"Range": header}))
        for header in RANGES
    }
    assert answers == RANGES


def test_a_suffix_of_no_bytes_cannot_be_satisfied(
    client: FlaskClient, tokens: Tokens, video: str
) -> None:
    """RFC 9110 satisfies "a suffix-range with a non-zero suffix-length" alone; the whole may be
    sent all the same."""
    answer = answer_of(client.get(video, headers=tokens.alice | {"Range": "bytes=-0"}))
    assert answer in (UNSATISFIABLE, whole())


def test_conditions(client: FlaskClient, tokens: Tokens, video: str) -> None:
    """RFC 9110, sections 13.1.1 to 13.1.5, and 13.2.2 for their order."""
    modified = client.get(video, headers=tokens.alice).headers["Last-Modified"]
    earlier, later = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    weak = f"W/{ETAG}"
    table: dict[tuple[tuple[str, str], ...], Answer] = {
        (("If-None-Match", ETAG),): NOT_MODIFIED,
        (("If-None-Match", weak),): NOT_MODIFIED,  # compared weakly
        (("If-None-Match", f'"x", {ETAG}, "y"'),): NOT_MODIFIED,
        (("If-None-Match", "*"),): NOT_MODIFIED,
        (("If-None-Match", '"x"'),): whole(),
        (("If-None-Match", '"x", "y"'),): whole(),
        (("If-Modified-Since", modified),): NOT_MODIFIED,
        (("If-Modified-Since", later),): NOT_MODIFIED,
        (("If-Modified-Since", earlier),): whole(),
        (("If-Modified-Since", "yesterday"),): whole(),
        # "A recipient MUST ignore If-Modified-Since if the request contains an If-None-Match header
        # field"
        (("If-None-Match", '"x"'), ("If-Modified-Since", later)): whole(),
        (("If-None-Match", ETAG), ("If-Modified-Since", earlier)): NOT_MODIFIED,
        (("If-Match", ETAG),): whole(),
        (("If-Match", f'"x", {ETAG}'),): whole(),
        (("If-Match", "*"),): whole(),
        (("If-Match", '"x"'),): FAILED,
        (("If-Match", weak),): FAILED,  # compared strongly
        (("If-Match", ETAG), ("If-None-Match", ETAG)): NOT_MODIFIED,
        (("If-Match", ETAG), ("If-Unmodified-Since", earlier)): whole(),
        (("If-Unmodified-Since", earlier),): FAILED,
        (("If-Unmodified-Since", modified),): whole(),
        (("If-Unmodified-Since", "yesterday"),): whole(),
        # the others come before Range
        (("Range", "bytes=2-4"), ("If-None-Match", ETAG)): NOT_MODIFIED,
        (("Range", "bytes=2-4"), ("If-None-Match", '"x"')): ranged(2, 5),
        (("Range", "bytes=2-4"), ("If-Match", '"x"')): FAILED,
        (("Range", "bytes=2-4"), ("If-Match", ETAG)): ranged(2, 5),
        (("Range", "bytes=2-4"), ("If-Modified-Since", modified)): NOT_MODIFIED,
        (("Range", f"bytes={SIZE}-"), ("If-None-Match", ETAG)): NOT_MODIFIED,
        # a range only of what the client has the other parts of
        (("Range", "bytes=2-4"), ("If-Range", ETAG)): ranged(2, 5),
        (("Range", "bytes=2-4"), ("If-Range", '"x"')): whole(),
        (("Range", "bytes=2-4"), ("If-Range", weak)): whole(),  # compared strongly
        (("Range", "bytes=2-4"), ("If-Range", modified)): ranged(2, 5),
        (("Range", "bytes=2-4"), ("If-Range", earlier)): whole(),
        (("Range", "bytes=2-4"), ("If-Range", later)): whole(),  # "exactly matches"
        (("Range", "bytes=2-4"), ("If-Range", "nonsense")): whole(),
        (("Range", f"bytes={SIZE}-"), ("If-Range", '"x"')): whole(),
        (("If-Range", '"x"'),): whole(),  # ignored without Range
    }
    answers = {
        case: answer_of(client.get(video, headers={**tokens.alice, **dict(case)})) for case in table
    }
    assert {
        case: (answer, table[case])
        for case, answer in answers.items()
        if not same(answer, table[case])
    } == {}


def same(answer: Answer, expected: Answer) -> bool:
    # A Content-Length of 304 says nothing of its own.
    return answer == expected if expected.status != 304 else answer[:3] == expected[:3]


def test_head_is_get_without_the_body(client: FlaskClient, tokens: Tokens, video: str) -> None:
    """RFC 9110, section 14.2: a Range applies to GET alone."""
    full = client.get(video, headers=tokens.alice)
    head = client.head(video, headers=tokens.alice)
    assert head.data == b""
    names = set(full.headers.keys()) - {"Date"}
    assert {name: head.headers.get(name) for name in names} == {
        name: full.headers[name] for name in names
    }
    expected = Answer(200, None, None, SIZE)
    for header in ("bytes=2-4", f"bytes={SIZE}-", "bytes=a"):
        assert answer_of(client.head(video, headers=tokens.alice | {"Range": header})) == expected
    assert client.head(video, headers=tokens.alice | {"If-None-Match": ETAG}).status_code == 304
    assert client.head(video, headers=tokens.alice | {"If-Match": '"x"'}).status_code == 412


def test_every_range_answer_can_be_put_together(
    client: FlaskClient, tokens: Tokens, video: str
) -> None:
    step = 70_001  # prime to the size of a chunk
    parts = [
        client.get(
            video,
            headers=tokens.alice | {"Range": f"bytes={start}-{start + step - 1}", "If-Range": ETAG},
        ).data
        for start in range(0, SIZE, step)
    ]
    assert b"".join(parts) == VIDEO


def test_only_what_was_asked_for_is_read(
    client: FlaskClient, tokens: Tokens, video: str, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes pulled from the storage, by request; if a server tells, the bytes that it sent."""
    pulled, sent = count_reads(state, monkeypatch)
    cases = {
        "bytes=0-0": 1,
        "bytes=-10": 10,
        f"bytes={CHUNK - 1}-{CHUNK}": 2,
        "bytes=5-1004": 1000,
        "bytes=0-": SIZE,
    }
    cases |= {f"bytes={SIZE}-": 0}
    for header, size in cases.items():
        pulled.clear()
        sent.clear()
        assert client.get(video, headers=tokens.alice | {"Range": header}).data
        assert sum(pulled) == size, header
        if state.settings.default_storages["course-videos"] in ("s3", "google_drive"):
            assert sum(sent) == size, header
    pulled.clear()
    client.head(video, headers=tokens.alice)
    client.get(video, headers=tokens.alice | {"If-None-Match": ETAG})
    client.get(video, headers=tokens.alice | {"If-Match": '"x"'})
    assert pulled == []


def test_a_client_that_hangs_up_leaves_the_rest_unread(
    client: FlaskClient,
    tokens: Tokens,
    owners: Owners,
    state: State,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Players ask for everything from here on, and go away when they have enough."""
    content = mp4(4 * PIECE_SIZE)
    made = post_file(client, tokens.alice, "course-videos", owners, file=part(content))
    pulled, _ = count_reads(state, monkeypatch)
    response = client.get(
        f"{made.location}/content", headers=tokens.alice | {"Range": "bytes=100-"}, buffered=False
    )
    assert (response.status_code, response.content_length) == (206, len(content) - 100)
    first = next(t.cast("Iterator[bytes]", response.response))
    assert content[100:].startswith(first)
    response.close()
    assert sum(pulled) <= max(PIECE_SIZE, READ_BATCH * CHUNK_SIZE)


def count_reads(state: State, monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], list[int]]:
    """Lists that the sizes of what is read from now on are added to: by us, and as servers have
    sent it."""
    name = state.settings.default_storages["course-videos"]
    storage: t.Any = state.homes[0].storage if name == "database" else state.storages[name]
    pulled, sent = [], []

    def counted(*args: t.Any) -> t.Any:
        pieces = read(*args)
        pulled.append(sum(map(len, pieces)) if isinstance(pieces, list) else len(pieces))
        return pieces

    def counted_stream(*args: t.Any) -> Iterator[bytes]:
        for piece in read_on(*args):
            pulled.append(len(piece))
            yield piece

    streams = {StreamedStorage: "_stream", PsycopgStorage: "stream"}
    name_of_stream = next(
        (attribute for kind, attribute in streams.items() if isinstance(storage, kind)), None
    )
    read_on: t.Any = getattr(storage, name_of_stream or "", None)
    if name_of_stream is not None:
        monkeypatch.setattr(storage, name_of_stream, counted_stream)
    read: t.Any = getattr(storage, "_read", None)
    if read is not None:
        monkeypatch.setattr(storage, "_read", counted)
    if name == "s3":
        events = storage._client.get().meta.events
        events.register(
            "after-call.s3.GetObject", lambda parsed, **_: sent.append(parsed["ContentLength"])
        )
    elif name == "google_drive":
        hooks = storage._session.get().hooks
        hooks["response"].append(
            lambda answer, **_: sent.append(int(answer.headers["Content-Length"]))
        )
    return pulled, sent


def test_thousands_of_ranges_cost_nothing(client: FlaskClient, tokens: Tokens, video: str) -> None:
    """Neither overlapping nor separate ranges, nor one that is only long."""
    many = [
        ",".join(f"{n}-{n}" for n in range(0, 20_000, 2)),
        ",".join(["0-"] * 10_000),
        "0" * 50_000 + "-1",
        "-" * 50_000,
    ]
    client.get(video, headers=tokens.alice)
    started = time.perf_counter()
    for ranges in many:
        answer = answer_of(client.get(video, headers=tokens.alice | {"Range": f"bytes={ranges}"}))
        assert answer in (whole(), ranged(0, 2))
    assert time.perf_counter() - started < 2
