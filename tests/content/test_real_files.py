"""Files as people have them: the same type, class and verdict on every machine."""

from __future__ import annotations

import io
import mimetypes
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_dualmedia.content.file_types import FILE_TYPES, find_type
from flask_dualmedia.content.policy import read_policies
from flask_dualmedia.content.sniffing import media_type, resource_type, settle_type, sniff
from flask_dualmedia.content.uploads import Upload
from flask_dualmedia.errors import UnsupportedType
from flask_dualmedia.models import KINDS, MEDIA_TYPES, RESOURCE_TYPES

from ..real_files import FILM, REAL_FILES, SHORT_SIGNATURES, RealFile

POLICIES = read_policies({}, None)


@pytest.fixture(params=["none", "another", "the machine's"])
def types_of_the_machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """The system has its own idea of extensions, which must not matter."""
    path = tmp_path / "mime.types"
    path.write_text("application/x-nonsense md csv go rs yaml ipynb mp4 png docx svg txt\n")
    if request.param != "the machine's":
        mimetypes.init(files=[] if request.param == "none" else [str(path)])
    yield
    mimetypes.init()


def taken_for(file: RealFile, declared: str | None = None) -> RealFile:
    """The types that an upload gives a file, and the kinds that accept it."""
    accepted = []
    for kind, policy in POLICIES.items():
        upload = Upload(
            io.BytesIO(file.content), filename=file.name, mime_type=declared, policy=policy
        )
        try:
            upload.open()
        except UnsupportedType:
            continue
        accepted.append(kind)
    mime_type = settle_type(sniff(file.content), file.name, declared)
    kinds = tuple(kind for kind in KINDS if kind in accepted)
    return RealFile(
        file.name, file.content, mime_type, resource_type(mime_type), media_type(mime_type), kinds
    )


@pytest.mark.usefixtures("types_of_the_machine")
def test_each_is_taken_for_what_it_is() -> None:
    assert len(REAL_FILES) >= 240
    wrong = {}
    for file in REAL_FILES:
        found = taken_for(file)
        if found != file:
            wrong[file.name] = (found[2:], file[2:])
    assert wrong == {}


@pytest.mark.parametrize("declared", ["", "application/octet-stream", "*/*", "binary"])
def test_a_claim_that_says_nothing_changes_nothing(declared: str) -> None:
    assert [taken_for(file, declared) for file in REAL_FILES] == REAL_FILES


def test_a_file_of_the_type_that_it_is_declared_to_be_is_accepted_where_it_was() -> None:
    for file in REAL_FILES:
        known = find_type(file.mime_type)
        for name in (file.mime_type, *(known.aliases if known else ())):
            assert taken_for(file, name).accepted_as == file.accepted_as, (file.name, name)


def test_no_name_and_no_claim_makes_a_film_of_what_is_none() -> None:
    for file in REAL_FILES:
        if FILM in file.accepted_as or "long" in file.name:
            continue
        for name in ("a.png", "a.mp4", "a.mov", "a.webm", "a.ts", None):
            mime_type = settle_type(sniff(file.content), name, "video/mp4")
            assert media_type(mime_type) != "video", (file.name, name)


_PLAIN = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.sampled_from(" \t\r\n"),
    max_size=60,
)
TEXTUAL = {
    "text/html", "text/xml", "image/svg+xml", "image/vnd.dxf",
    "application/pdf", "application/postscript", "application/rtf",
}  # fmt: skip


@given(
    st.sampled_from(SHORT_SIGNATURES),
    _PLAIN,
    st.sampled_from(["utf-8", "utf-16", "cp1252", "shift-jis", "gb18030"]),
)
def test_text_that_begins_with_the_letters_of_a_signature_is_text(
    letters: bytes, rest: str, encoding: str
) -> None:
    text = letters + rest.encode("utf-8", "ignore") if encoding == "utf-8" else b""
    if encoding == "utf-16":
        text = (letters.decode("latin-1") + rest).encode(encoding)
    elif not text:
        text = letters + rest.encode(encoding, "ignore")
    assert sniff(text) in {None, *TEXTUAL}


@given(st.sampled_from(REAL_FILES), st.data())
def test_a_file_that_is_cut_or_changed_is_of_some_type(file: RealFile, data: st.DataObject) -> None:
    content = bytearray(file.content[: data.draw(st.integers(1, 600))])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    sniffed = sniff(bytes(content))
    assert sniffed is None or sniffed.count("/") == 1
    settled = settle_type(sniffed, file.name, None)
    assert resource_type(settled) in RESOURCE_TYPES
    assert media_type(settled) in MEDIA_TYPES


def test_every_name_in_the_table_is_there_once() -> None:
    names: list[str] = [name for one in FILE_TYPES for name in (one.mime_type, *one.aliases)]
    assert len(names) == len(set(names))
    assert all(name == name.lower() and name.count("/") == 1 for name in names)
    containers: set[str] = {container for one in FILE_TYPES for container in one.containers}
    assert containers <= set(names)
    without_signature: list[str] = [
        e for one in FILE_TYPES if not one.is_signed for e in one.extensions
    ]
    assert len(without_signature) == len(set(without_signature))
    assert {one.resource_type for one in FILE_TYPES} == set(RESOURCE_TYPES)
    assert {one.media_type for one in FILE_TYPES} == set(MEDIA_TYPES)


STARTS = [
    b"<!--",
    b"<!DOCTYPE ",
    b"<?",
    b"<!DOCTYPE svg [",
    b"%PDF-",
    b"999\n",
    b"PK\3\4",
    b"OggS\0\2",
]


@pytest.mark.parametrize("start", STARTS)
def test_a_lot_of_anything_is_looked_at_in_no_time(start: bytes) -> None:
    for filler in (
        b"a",
        b" ",
        b"<!-- x -->",
        b"-->",
        b"[",
        b"%PDF-1.7 ",
        b"999\n",
        b"PK\3\4",
        b"\0",
        b"\n0\n",
    ):
        content = (start + filler * 2**18)[: 2**18]
        started = time.process_time()
        sniff(content)
        assert time.process_time() - started < 0.2, filler


def test_kinds_of_the_table_are_those_that_there_are() -> None:
    known: set[t.Any] = {kind for file in REAL_FILES for kind in file.accepted_as}
    assert known == set(KINDS)
