"""Bytes in any object storage that has a filesystem in the fsspec family: ``gs://``, ``az://`` and
many more."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from ..errors import (
    BytesNotFound,
    ConfigurationError,
    MissingExtra,
    StorageError,
    StorageUnavailable,
)
from .base import PRESIGNED_SECONDS, Delegation, Stat
from .whole import PART_SIZE, PerProcess, WholeStorage, folder_of

# What the drivers of the family raise where no server answers, beside Python's own errors.
_OUTAGES = {
    "ClientConnectionError",
    "ServiceRequestError",
    "ServiceResponseError",
    "EndpointConnectionError",
}


# What drivers call the type and the disposition that a signed URL shows an object with. To others
# they cannot be said: an upload could run then where it is shown.
_SIGNED: dict[str, tuple[str, str, dict[str, str]]] = {
    **dict.fromkeys(("gs", "gcs"), ("response_type", "response_disposition", {"version": "v4"})),
    **dict.fromkeys(("az", "abfs", "abfss"), ("content_type", "content_disposition", {})),
}


class CloudStorage(WholeStorage):
    """Bytes in objects named by their keys, in folders named by the beginning of those.

    :param url: Where, such as ``gs://bucket/prefix``. What is under it belongs to one deployment
        alone.
    :param redirect: Send clients to a signed URL of the object instead of passing its bytes on.
        With ``gs://`` and ``az://``.
    :param options: Arguments of the filesystem, such as credentials.
    """

    def __init__(
        self, url: str, *, redirect: bool = False, options: t.Mapping[str, t.Any] | None = None
    ) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise MissingExtra("the storage cloud", "cloud") from error
        protocol = url.partition("://")[0]
        try:
            kind = fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"DUALMEDIA_STORAGES['cloud']['url']: {error}") from error
        if redirect and protocol not in _SIGNED:
            raise ConfigurationError(
                f"DUALMEDIA_STORAGES['cloud']['redirect'] is for {', '.join(_SIGNED)}"
            )
        self._signed = _SIGNED[protocol] if redirect else None
        self._root: str = kind._strip_protocol(url).rstrip("/")
        # Several processes write: what one of them remembers of a list is wrong at once. No
        # instance outlives a fork.
        given = {"use_listings_cache": False, "skip_instance_cache": True} | dict(options or {})
        self._filesystem = PerProcess(lambda: kind(**given))

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        filesystem, path = self._filesystem.get(), self._path(key)
        with _translated():
            filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
            file = filesystem.open(path, "wb", autocommit=False, block_size=PART_SIZE)
        try:
            for block in blocks:
                with _translated():
                    file.write(block)
        except BaseException:
            with _translated():
                file.close()
                file.discard()
            raise
        with _translated():
            file.close()
            file.commit()

    def delete(self, key: str) -> None:
        with _translated(), suppress(FileNotFoundError):
            self._filesystem.get().rm_file(self._path(key))

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        found = {}
        for key in keys:
            with _translated(), suppress(FileNotFoundError):
                found[key] = Stat(self._filesystem.get().info(self._path(key))["size"])
        return found

    def keys(self, after: str = "") -> Iterator[str]:
        first = folder_of(after) if after else ""
        for folder in self._names(self._root):
            if folder >= first:
                yield from (key for key in self._names(f"{self._root}/{folder}") if key > after)

    def delegate(self, key: str, content_type: str, disposition: str) -> Delegation | None:
        if self._signed is None:
            return None
        type_name, disposition_name, others = self._signed
        shown = {type_name: content_type, disposition_name: disposition}
        with _translated():
            url = self._filesystem.get().sign(
                self._path(key), expiration=PRESIGNED_SECONDS, **shown, **others
            )
        return Delegation(302, {"Location": url, "Cache-Control": "no-store"})

    def close(self) -> None:
        self._filesystem.close(
            lambda filesystem: None
        )  # it closes what it has opened when nobody needs it any more

    def _read(self, key: str, start: int, stop: int) -> bytes:
        with _translated():
            try:
                return self._filesystem.get().cat_file(self._path(key), start=start, end=stop)
            except FileNotFoundError as error:
                raise BytesNotFound(key) from error

    def _path(self, key: str) -> str:
        return f"{self._root}/{folder_of(key)}/{key}"

    def _names(self, folder: str) -> list[str]:
        with _translated():
            try:
                entries = self._filesystem.get().ls(folder, detail=False)
            except FileNotFoundError:
                return []
        return sorted(entry.rstrip("/").rpartition("/")[2] for entry in entries)


@contextmanager
def _translated() -> Iterator[None]:
    """Every driver of the family has errors of its own."""
    try:
        yield
    except (StorageError, GeneratorExit):
        raise
    except Exception as error:
        names = {kind.__name__ for kind in type(error).__mro__}
        if isinstance(error, ConnectionError | TimeoutError) or names & _OUTAGES:
            raise StorageUnavailable("cloud") from error
        raise StorageError("the storage 'cloud' failed") from error
