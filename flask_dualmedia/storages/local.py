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
_FILE_MODE = 0o640
_FOLDER_MODE = 0o750

# Only Windows has O_BINARY, and it lacks the others.
_BINARY = getattr(os, "O_BINARY", 0)
_CLOSE_ON_EXEC = getattr(os, "O_CLOEXEC", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY | _CLOSE_ON_EXEC
# Nothing is read that lies elsewhere.
_OPEN = os.O_RDONLY | _NO_FOLLOW | _BINARY


class LocalStorage(WholeStorage):
    """Bytes in files named by their keys, in folders named by the beginning of those.

    A file is written beside its place, and moved there when all of it is on the disk.

    :param directory: Absolute path of the folder. It is made with the first file.
    :param x_accel_redirect: Path under which nginx serves the folder internally: it sends the bytes
        then.
    :param x_sendfile: The web server is Apache with mod_xsendfile, or lighttpd, which sends the
        bytes then.
    :param name: Name of the storage, for errors.
    """

    is_free_to_read = True

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        x_accel_redirect: str | None = None,
        x_sendfile: bool = False,
        name: str = "local",
    ) -> None:
        self._name = name
        self._root = Path(directory)
        self._accel = x_accel_redirect
        self._sendfile = x_sendfile

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """Keep the bytes in a file, which has its name when all of it is on the disk.

        An unfinished file is deleted if anything fails.
        """
        path = self._path(key)
        unfinished = path.with_name(path.name + _UNFINISHED)
        with _translated(self._name):
            self._root.mkdir(_FOLDER_MODE, parents=True, exist_ok=True)
            path.parent.mkdir(_FOLDER_MODE, exist_ok=True)
            # It would keep the mode that an earlier version gave it.
            unfinished.unlink(missing_ok=True)
            descriptor = os.open(unfinished, _CREATE, _FILE_MODE)
            file = os.fdopen(descriptor, "wb", buffering=0)

        try:
            with file:
                for block in blocks:
                    with _translated(self._name):
                        _write(file, block)
                with _translated(self._name):
                    os.fsync(file.fileno())
            with _translated(self._name):
                unfinished.replace(path)
                # Names are on the disk when their folders are. The process that made a folder may
                # have died before it got that far.
                for folder in (path.parent, self._root, self._root.parent):
                    _sync(folder)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise

    def delete(self, key: str) -> None:
        """Delete a file, and an unfinished one of the same key."""
        path = self._path(key)
        unfinished = path.with_name(path.name + _UNFINISHED)
        with _translated(self._name):
            path.unlink(missing_ok=True)
            unfinished.unlink(missing_ok=True)

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        """The sizes of finished files. A link is not followed, and has its own size."""
        stats = {}
        for key in keys:
            with _translated(self._name), suppress(FileNotFoundError):
                file_stat = self._path(key).stat(follow_symlinks=False)
                stats[key] = Stat(file_stat.st_size)
        return stats

    def keys(self, after: str = "") -> Iterator[str]:
        """Every key that sorts behind ``after``, folder by folder, unfinished files too."""
        first_folder = ""
        if after:
            first_folder = folder_of(after)
        for folder in self._names(self._root):
            if folder < first_folder:
                continue
            names = self._names(self._root / folder)
            keys = {name.removesuffix(_UNFINISHED) for name in names}
            yield from sorted(key for key in keys if key > after)

    def delegate(
        self,
        key: str,
        content_type: str,
        disposition: str,
    ) -> Delegation | None:
        """Headers that have nginx, or another server, send the file.

        :return: ``None`` if the host has set up neither.
        :raises BytesNotFound: There is no such file, or it is a link.
        """
        path = self._path(key)
        if path.is_symlink() or not path.is_file():
            raise BytesNotFound(key)

        if self._accel is not None:
            root = self._accel.rstrip("/")
            url = f"{root}/{path.parent.name}/{path.name}"
            return Delegation(200, {"X-Accel-Redirect": url})
        if self._sendfile:
            return Delegation(200, {"X-Sendfile": str(path)})
        return None

    def _read(self, key: str, start: int, stop: int) -> bytes:
        path = self._path(key)
        with _translated(self._name):
            try:
                descriptor = os.open(path, _OPEN)
            except FileNotFoundError:
                raise BytesNotFound(key) from None
            with open(descriptor, "rb", buffering=0) as file:
                file.seek(start)
                return _read(file, stop - start)

    def _names(self, folder: Path) -> list[str]:
        """The names in a folder, sorted; none if there is no such folder."""
        with _translated(self._name):
            try:
                return sorted(entry.name for entry in os.scandir(folder))
            except (FileNotFoundError, NotADirectoryError):
                return []

    def _path(self, key: str) -> Path:
        """The path of a key's file: in the folder, whatever the key, and wherever links in the
        folder lead.

        :raises StorageError: It would be somewhere else.
        """
        folder = self._root / folder_of(key)
        if folder.is_symlink():
            raise StorageError(f"the folder of {key!r} is a link to somewhere else")
        return folder / key


def _write(file: t.BinaryIO, block: bytes) -> None:
    """Write all of a block. One call may take only a part of it."""
    view = memoryview(block)
    while view:
        written = file.write(view)
        view = view[written:]


def _read(file: t.BinaryIO, size: int) -> bytes:
    """The next bytes of a file, fewer where it ends before."""
    parts = []
    while size and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _sync(folder: Path) -> None:
    """Have the names in a folder reach the disk, where the system lets us."""
    # Windows opens no folders, and the one above may not be ours.
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Raise errors of ours for those of the system, without the paths in them.

    :param name: Name of the storage.
    """
    try:
        yield
    except OSError as error:
        # Paths of this machine are nobody's business.
        raise StorageError(f"the storage {name!r} failed: {error.strerror}") from error
