"""Bytes as files in a folder of this machine, or of a disk that all hosts share."""

from __future__ import annotations

import os
import typing as t
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import BytesNotFound, StorageError
from .base import Delegation, Stat
from .whole import WholeStorage, folder_of

_UNFINISHED = ".part"

# The account of the app writes, its group, such as that of nginx, may read, others may not. A
# stricter umask holds.
_FILE_MODE, _FOLDER_MODE = 0o640, 0o750
_CREATE = (
    os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
)


class LocalStorage(WholeStorage):
    """Bytes in files named by their keys, in folders named by the beginning of those.

    A file is written beside its place, and moved there when all of it is on the disk.

    :param directory: Absolute path of the folder. It is made with the first file.
    :param x_accel_redirect: Path under which nginx serves the folder internally: it sends the bytes
        then.
    :param x_sendfile: The web server is Apache with mod_xsendfile, or lighttpd, which sends the
        bytes then.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        x_accel_redirect: str | None = None,
        x_sendfile: bool = False,
    ) -> None:
        self._root = Path(directory)
        self._accel, self._sendfile = x_accel_redirect, x_sendfile

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        path = self._path(key)
        unfinished = path.with_name(path.name + _UNFINISHED)
        with _translated():
            self._root.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
            path.parent.mkdir(_FOLDER_MODE, exist_ok=True)
            unfinished.unlink(
                missing_ok=True
            )  # it would keep the mode that an earlier version gave it
            file = os.fdopen(os.open(unfinished, _CREATE, _FILE_MODE), "wb", buffering=0)
        try:
            with file:
                for block in blocks:
                    with _translated():
                        _write(file, block)
                with _translated():
                    os.fsync(file.fileno())
            with _translated():
                unfinished.replace(path)
                # Names are on the disk when their folders are. Who made a folder may have died
                # before it got that far.
                for folder in (path.parent, self._root, self._root.parent):
                    _sync(folder)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _translated():
            path.unlink(missing_ok=True)
            path.with_name(path.name + _UNFINISHED).unlink(missing_ok=True)

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        found = {}
        for key in keys:
            with _translated(), suppress(FileNotFoundError):
                found[key] = Stat(self._path(key).stat(follow_symlinks=False).st_size)
        return found

    def keys(self, after: str = "") -> Iterator[str]:
        first = folder_of(after) if after else ""
        for folder in _names(self._root):
            if folder >= first:
                keys = {name.removesuffix(_UNFINISHED) for name in _names(self._root / folder)}
                yield from sorted(key for key in keys if key > after)

    def delegate(self, key: str, content_type: str, disposition: str) -> Delegation | None:
        path = self._path(key)
        if path.is_symlink() or not path.is_file():
            raise BytesNotFound(key)
        if self._accel is not None:
            return Delegation(
                200,
                {"X-Accel-Redirect": f"{self._accel.rstrip('/')}/{path.parent.name}/{path.name}"},
            )
        if self._sendfile:
            return Delegation(200, {"X-Sendfile": str(path)})
        return None

    def _read(self, key: str, start: int, stop: int) -> bytes:
        path = self._path(key)
        with _translated():
            try:
                # O_NOFOLLOW: nothing is read that lies elsewhere.
                descriptor = os.open(
                    path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
                )
            except FileNotFoundError:
                raise BytesNotFound(key) from None
            with open(descriptor, "rb", buffering=0) as file:
                file.seek(start)
                return _read(file, stop - start)

    def _path(self, key: str) -> Path:
        """Where the file of a key is: in the folder, whatever the key, and wherever links in the
        folder lead.

        :raises StorageError: It would be somewhere else.
        """
        folder = self._root / folder_of(key)
        if folder.is_symlink():
            raise StorageError(f"the folder of {key!r} is a link to somewhere else")
        return folder / key


def _write(file: t.BinaryIO, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


def _read(file: t.BinaryIO, size: int) -> bytes:
    parts = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _sync(folder: Path) -> None:
    with suppress(
        PermissionError
    ):  # Windows opens no folders, and of the one above we may not be the owner
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _names(folder: Path) -> list[str]:
    with _translated():
        try:
            return sorted(entry.name for entry in os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Paths of this machine are nobody's business.
        raise StorageError(f"the storage 'local' failed: {error.strerror}") from error
