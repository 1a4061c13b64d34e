"""Sources that hosts pass to the functions that save media: each works, or is an error that says
what to do."""

from __future__ import annotations

import array
import asyncio
import io
import mmap
import tempfile
import typing as t
import zipfile
from functools import partial
from pathlib import Path, PurePath

import pytest
from flask import Flask
from werkzeug.datastructures import FileStorage

from flask_dualmedia import (
    ExternalURL,
    InvalidMedia,
    UploadRejected,
    open_media,
    save_product_images,
)
from flask_dualmedia.models import Media
from flask_dualmedia.state import State

from ..samples import NOTHING, SAMPLES, SAVE_FUNCTIONS, Owners, kept, png

pytestmark = pytest.mark.usefixtures("context")


@pytest.fixture
def mode() -> str:
    return "mongo"


def saving(owners: Owners) -> dict[str, tuple[t.Callable[[t.Any], Media], bytes]]:
    """Every function that saves media, with bytes that it takes."""
    arguments: dict[str, tuple[str, tuple[t.Any, ...]]] = {
        "photo.png": ("product-images", (owners.product,)),
        "film.mp4": ("course-videos", (owners.course,)),
        "script.pdf": ("course-resources", (owners.course,)),
        "file.pdf": ("files", ("user", owners.user)),
    }
    functions: dict[str, tuple[t.Callable[[t.Any], Media], bytes]] = {
        name: (partial(SAVE_FUNCTIONS[kind], *owner), SAMPLES[kind])
        for name, (kind, owner) in arguments.items()
    }
    functions["several.png"] = (
        lambda source: save_product_images(owners.product, [source])[0],
        png(),
    )
    return functions


class Dribbling(io.RawIOBase):
    """A stream that gives an array, and three bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)

    def read(self, size: int = -1, /) -> t.Any:
        return bytearray(self._stream.read(min(size, 3)))


def spooled(content: bytes, max_size: int) -> t.Any:
    file = tempfile.SpooledTemporaryFile(max_size)  # noqa: SIM115
    file.write(content)
    file.seek(0)
    return file


def mapped(content: bytes) -> mmap.mmap:
    mapping = mmap.mmap(-1, len(content))
    mapping.write(content)
    mapping.seek(0)
    return mapping


def zipped(name: str, content: bytes) -> t.Any:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return zipfile.ZipFile(file).open(name)


@pytest.mark.long
def test_sources_of_every_kind(owners: Owners, tmp_path: Path) -> None:
    for name, (save, content) in saving(owners).items():
        path = tmp_path / name
        path.write_bytes(content)
        twice = bytes(byte for byte in content for _ in range(2))
        named: dict[str, t.Any] = {
            "path": path,
            "pure path": PurePath(path),
            "file": path.open("rb"),
            "file of a path in bytes": open(str(path).encode(), "rb"),  # noqa: SIM115
            "unbuffered file": path.open("rb", buffering=0),
            "uploaded file": FileStorage(
                io.BytesIO(content), name, "file", "application/octet-stream"
            ),
            "file of an archive": zipped(name, content),
        }
        unnamed: dict[str, t.Any] = {
            "bytes": content,
            "bytearray": bytearray(content),
            "memoryview": memoryview(content),
            "memoryview that leaves bytes out": memoryview(twice)[::2],
            "BytesIO": io.BytesIO(content),
            "buffer": io.BufferedReader(io.BytesIO(content)),  # type: ignore[arg-type]
            "dribbling": Dribbling(content),
            "spooled in memory": spooled(content, 10**9),
            "spooled on disk": spooled(content, 1),
            "mapped": mapped(content),
        }
        for what, source in {**named, **unnamed}.items():
            record = save(source)
            assert b"".join(open_media(record)) == content, (name, what)
            assert record.filename == (name if what in named else None), (name, what)
            if what not in ("path", "pure path") and hasattr(source, "closed"):
                assert not source.closed, what
                source.close()


def test_sources_that_say_what_to_do(owners: Owners, state: State, tmp_path: Path) -> None:
    class Unawaited:
        async def read(self, size: int) -> bytes:
            return b""

    class Picture:
        """A picture like Pillow's, without a ``read``."""

    for name, (save, content) in saving(owners).items():
        path = tmp_path / name
        path.write_bytes(content)
        text = path.open(encoding="latin-1")
        cases: list[tuple[t.Any, str]] = [
            (text, r"open\(\.\.\., 'rb'\)"),
            (io.StringIO("text"), r"open\(\.\.\., 'rb'\)"),
            (tempfile.SpooledTemporaryFile(mode="w+"), "'rb'"),  # noqa: SIM115
            (FileStorage(t.cast(t.Any, io.StringIO("text"))), "'rb'"),
            (Unawaited(), "coroutine"),
            (Picture(), "a binary stream, bytes, a pathlib.Path"),
            (array.array("b", [1]), "a binary stream"),
            (iter([b"a"]), "a binary stream"),
            (asyncio.Queue, "a binary stream"),
            (None, "a binary stream"),
            (42, "a binary stream"),
        ]
        cases[2][0].write("text")
        cases[2][0].seek(0)
        for source, message in cases:
            with pytest.raises(TypeError, match=message):
                save(source)
        for closing in (text, cases[2][0]):
            closing.close()
        for missing, error in (
            (tmp_path / "none", FileNotFoundError),
            (tmp_path, IsADirectoryError),
        ):
            with pytest.raises(error):
                save(missing)
        with path.open("rb") as file:
            file.read()
            with pytest.raises(UploadRejected, match=r"seek\(0\)"):
                save(file)
        with pytest.raises(UploadRejected, match="the file is empty"):
            save(b"")
    assert kept(state) == NOTHING


def test_text_is_a_url_or_an_error(owners: Owners, state: State) -> None:
    for save, _ in saving(owners).values():
        for text in (
            "photo.jpg",
            "/home/me/photo.jpg",
            "C:\\photo.jpg",
            "./a",
            "//cdn.example/a",
            "ftp://h/a",
            "",
            "http",
        ):
            with pytest.raises(InvalidMedia, match=r"http or https.*pathlib\.Path"):
                save(text)
        for url in ("http://h:99999/", "https://user:secret@h/", "http://a b/", "https:///a"):
            with pytest.raises(InvalidMedia) as refused:
                save(url)
            assert "secret" not in str(refused.value)
    assert kept(state) == NOTHING
    for save, _ in saving(owners).values():
        assert save(ExternalURL("photo.jpg")).external_url == "photo.jpg"
        with pytest.raises(InvalidMedia):
            save(ExternalURL("javascript:alert(1)"))
        assert save("HTTPS://cdn.example/a.jpg").external_url == "HTTPS://cdn.example/a.jpg"


def test_several_sources_are_a_list(
    app: Flask, owners: Owners, state: State, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    for one in ("https://cdn.example/a.jpg", b"bytes", path, io.BytesIO(png()), None, 42):
        with pytest.raises(TypeError, match="sources is a list"):
            save_product_images(owners.product, one)  # type: ignore[arg-type]
    assert kept(state) == NOTHING
    saved = save_product_images(
        owners.product, (source for source in (path, png(2), "https://cdn.example/a.jpg"))
    )
    assert [image.position for image in saved] == [0, 1, 2]
