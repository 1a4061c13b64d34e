"""Bytes get a type, and filenames are kept as harmless labels."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_dualmedia.content.names import FILENAME_LENGTH, label
from flask_dualmedia.content.sniffing import (
    HEAD_SIZE,
    OCTET_STREAM,
    media_type,
    resource_type,
    settle_type,
    sniff,
)

from ..samples import PDF, mp4, png

HTML, SVG, XML = "text/html", "image/svg+xml", "text/xml"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", None),
        (b"x", None),
        (b"plain prose, no signature", None),
        (b"\0" * 100, None),
        (png(), "image/png"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", "image/jpeg"),
        (b"GIF89a" + bytes(20), "image/gif"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "audio/wav"),
        (b"\x00\x00\x01\x00\x01\x00", "image/vnd.microsoft.icon"),
        (PDF, "application/pdf"),
        (b"PK\x03\x04" + bytes(40), "application/zip"),
        (b"\x1f\x8b\x08" + bytes(20), "application/gzip"),
        (
            b"\x1aE\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\xf2\x81\x04\x42\xf3\x81\x08\x42\x82\x84webm",
            "video/webm",
        ),
        (b"ID3\x03" + bytes(20), "audio/mpeg"),
        (b"OggS" + bytes(30), "application/ogg"),
        (b"fLaC" + bytes(30), "audio/flac"),
        # ISO base media by their brand
        *(
            (mp4(64, brand=brand), "application/mp4")  # film or sound: the index would tell
            for brand in (b"isom", b"iso6", b"mp42", b"avc1", b"dash", b"M4V ", b"cmfc")
        ),
        (mp4(64, brand=b"qt  "), "video/quicktime"),
        (mp4(64, brand=b"3gp5"), "video/3gpp"),
        (mp4(64, brand=b"M4A "), "audio/mp4"),
        (mp4(64, brand=b"avif"), "image/avif"),
        (mp4(64, brand=b"heic"), "image/heic"),
        (mp4(64, brand=b"mif1"), "image/heif"),
        (mp4(64, brand=b"zzzz"), None),
        # markup, however it is dressed
        (b"<html>", HTML),
        (b"<HTML lang=en>", HTML),
        (b"<!DOCTYPE html>", HTML),
        (b"\xef\xbb\xbf \r\n\t<!doctype HTML>", HTML),
        (b"<script>alert(1)</script>", HTML),
        (b"<body onload=alert(1)>", HTML),
        (b"<iframe src=x>", HTML),
        (b"<!-- hello --><script>", HTML),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", SVG),
        (b"<?xml version='1.0'?><!-- x --><svg/>", SVG),
        (b"<!-- x --><svg/>", SVG),
        (b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'/>", XML),
        (b"<?xml version='1.0'?><feed/>", XML),
        (b"< html>", None),
    ],
)
def test_sniff(head: bytes, expected: str | None) -> None:
    """The bytes say what they are, those that browsers would run above all."""
    assert sniff(head) == expected


@given(st.binary(max_size=8192))
def test_sniff_takes_any_bytes(head: bytes) -> None:
    sniffed = sniff(head)
    assert sniffed is None or "/" in sniffed


@given(
    st.sampled_from([png(), PDF, mp4(64), b"<svg/>", b"<!doctype html>"]),
    st.integers(0, 64),
    st.binary(max_size=64),
)
def test_sniff_takes_what_was_cut_or_goes_on_with_anything(
    head: bytes, length: int, rest: bytes
) -> None:
    sniffed = sniff(head[:length] + rest)
    assert sniffed is None or "/" in sniffed


SKIPPABLE = b"\x5f\x2a\x4d\x18\x02\0\0\0xx"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (SKIPPABLE * 3 + b"\x28\xb5\x2f\xfd" + bytes(20), "application/zstd"),
        (SKIPPABLE + b"\x04\x22\x4d\x18" + bytes(20), "application/x-lz4"),
        (SKIPPABLE + b"prose", None),
        (SKIPPABLE[:6], None),
        (SKIPPABLE * 100_000, None),
        (b"\x50\x2a\x4d\x18\0\0\0\0" * 100_000, None),
        (b"\x50\x2a\x4d\x18\xff\xff\xff\xff", None),
    ],
)
def test_an_archive_behind_frames_to_skip(head: bytes, expected: str | None) -> None:
    assert sniff(head) == expected


def element(name: bytes, content: bytes) -> bytes:
    """An element of EBML, with a length of seven bytes."""
    return name + (1 << 56 | len(content)).to_bytes(8) + content


def test_a_head_full_of_the_smallest_elements_takes_no_time() -> None:
    header = element(b"\x1a\x45\xdf\xa3", element(b"\x42\x82", b"webm"))
    smallest = b"\xae\x80" * (HEAD_SIZE // 2)
    track = element(b"\xae", smallest)
    started = time.process_time()
    for inside in (smallest, track, track[:600] * 1000):
        for head in (inside, element(b"\x18\x53\x80\x67", element(b"\x16\x54\xae\x6b", inside))):
            assert sniff(header + head) == "video/webm"
    assert sniff(element(b"\x1a\x45\xdf\xa3", smallest)) is None
    assert time.process_time() - started < 2


DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.mark.parametrize(
    ("sniffed", "filename", "declared", "expected"),
    [
        # the bytes decide
        ("image/png", "a.html", "text/html", "image/png"),
        (HTML, "a.png", "image/png", HTML),
        (SVG, "a.png", "image/png", SVG),
        ("application/pdf", None, None, "application/pdf"),
        # nothing to see: the name, then the uploader's word
        (None, "a.txt", "text/html", "text/plain"),
        (None, "a.unknown-extension", "text/csv", "text/csv"),
        (None, None, "text/CSV; charset=utf-8", "text/csv"),
        (None, None, None, OCTET_STREAM),
        (None, "noextension", "", OCTET_STREAM),
        (None, None, "nonsense", OCTET_STREAM),
        # but not for types whose bytes would have shown
        (None, "a.png", None, OCTET_STREAM),
        (None, "a.svg", None, OCTET_STREAM),
        (None, "a.pdf", None, OCTET_STREAM),
        (None, "a.docx", None, OCTET_STREAM),
        (None, "a.mhtml", None, OCTET_STREAM),
        (None, None, "application/zip", OCTET_STREAM),
        (None, None, "video/mp4", OCTET_STREAM),
        (None, None, "audio/mpeg", OCTET_STREAM),
        (None, "a.x", "multipart/form-data; boundary=x", OCTET_STREAM),
        (None, None, "font/woff2", OCTET_STREAM),
        # containers are told apart by the claim
        ("application/zip", "a.docx", None, DOCX),
        ("application/zip", "a.unknown", "application/epub+zip", "application/epub+zip"),
        ("application/zip", "a.pdf", None, "application/zip"),
        ("application/zip", "a.html", "text/html", "application/zip"),
        # and what may hold anything is made no picture, film or sound by it
        ("application/zip", "a.ora", None, "application/zip"),
        ("application/zip", None, "video/x+zip", "application/zip"),
        (XML, None, "video/x+xml", XML),
        (XML, None, "image/x+xml", XML),
        (XML, "a.unknown", "application/atom+xml", "application/atom+xml"),
        (XML, "a.svg", "image/svg+xml", XML),
        (XML, "a.png", None, XML),
        # double extensions: the last one counts
        (None, "a.php.txt", None, "text/plain"),
    ],
)
def test_settle_type(
    sniffed: str | None, filename: str | None, declared: str | None, expected: str
) -> None:
    """No claim makes a picture of bytes that are none."""
    assert settle_type(sniffed, filename, declared) == expected


@given(st.none() | st.text(max_size=40), st.none() | st.text(max_size=40))
def test_no_claim_makes_bytes_media(filename: str | None, declared: str | None) -> None:
    settled = settle_type(None, filename, declared)
    assert settled.partition("/")[0] not in ("image", "video", "audio")
    assert "/" in settled


@pytest.mark.parametrize(
    ("mime_type", "resource", "media"),
    [
        ("application/pdf", "pdf", "document"),
        ("image/png", "image", "image"),
        ("image/svg+xml", "image", "image"),
        ("video/mp4", "document", "video"),
        ("audio/mpeg", "document", "audio"),
        ("application/zip", "archive", "document"),
        ("application/x-tar", "archive", "document"),
        ("application/gzip", "archive", "document"),
        ("application/x-7z-compressed", "archive", "document"),
        ("text/x-python", "code", "document"),
        ("application/json", "code", "document"),
        ("text/javascript", "code", "document"),
        ("text/html", "code", "document"),
        ("text/x-c++src", "code", "document"),
        ("text/plain", "document", "document"),
        ("text/csv", "document", "document"),
        ("text/markdown", "document", "document"),
        (DOCX, "document", "document"),
        (OCTET_STREAM, "document", "document"),
        ("", "document", "document"),
    ],
)
def test_types_of_records(mime_type: str, resource: str, media: str) -> None:
    assert (resource_type(mime_type), media_type(mime_type)) == (resource, media)


BIDIRECTIONAL = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


@given(st.text())
def test_a_label_is_harmless(filename: str) -> None:
    """Whatever comes in, the kept name has no folder, no control character, and fits."""
    kept = label(filename)
    if kept is None:
        return
    assert 1 <= len(kept) <= FILENAME_LENGTH
    assert "/" not in kept
    assert "\\" not in kept
    assert not any(
        unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in kept
    )
    assert not any(unicodedata.bidirectional(character) in BIDIRECTIONAL for character in kept)
    kept.encode()  # no half of a surrogate pair


_VISIBLE = st.text(
    st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\"), min_size=1, max_size=255
)


@given(_VISIBLE.filter(lambda name: name.strip(".")))  # dots alone name folders
def test_a_harmless_name_is_kept_as_it_is(filename: str) -> None:
    assert label(filename) == filename


@given(
    st.text(st.characters(categories=["L", "N"]), max_size=400),
    st.sampled_from([".png", ".tar", ".mp4"]),
)
def test_a_long_name_keeps_its_extension(stem: str, extension: str) -> None:
    kept = label(f"x{stem}{extension}")
    assert kept is not None
    assert kept.endswith(extension)


@pytest.mark.parametrize(
    "filename", [None, "", "/", "dir/", "\\", "\0", " ", "a/\n\t ", "\u200b\u202e", "\ud800"]
)
def test_nothing_is_left_of_some_names(filename: str | None) -> None:
    assert label(filename) is None
