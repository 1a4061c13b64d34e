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

# Errors that the drivers of the family raise where no server answers, beside Python's own.
_OUTAGES = {
    "ClientConnectionError",
    "ServiceRequestError",
    "ServiceResponseError",
    "EndpointConnectionError",
}


# The names that drivers have for the type and the disposition that a signed URL shows an object
# with. To others they cannot be said: an upload could run then where it is shown.
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
    :param name: Name of the storage, for errors.
    """

    def __init__(
        self,
        url: str,
        *,
        redirect: bool = False,
        options: t.Mapping[str, t.Any] | None = None,
        name: str = "cloud",
    ) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise MissingExtra("the storage cloud", "cloud") from error

        protocol = url.partition("://")[0]
        try:
            filesystem_class = fsspec.get_filesystem_class(protocol)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"DUALMEDIA_STORAGES[{name!r}]['url']: {error}") from error
        if redirect and protocol not in _SIGNED:
            raise ConfigurationError(
                f"DUALMEDIA_STORAGES[{name!r}]['redirect'] is for {', '.join(_SIGNED)}"
            )

        self._name = name
        self._signed = None
        if redirect:
            self._signed = _SIGNED[protocol]
        self._root: str = filesystem_class._strip_protocol(url).rstrip("/")
        # Several processes write: what one of them remembers of a list is wrong at once. No
        # instance outlives a fork.
        arguments: dict[str, t.Any] = {
            "use_listings_cache": False,
            "skip_instance_cache": True,
            **(options or {}),
        }
        self._filesystem = PerProcess(lambda: filesystem_class(**arguments))

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """Keep the bytes as one object, which the driver commits after the last block."""
        filesystem = self._filesystem.get()
        path = self._path(key)
        with _translated(self._name):
            folder = path.rpartition("/")[0]
            filesystem.makedirs(folder, exist_ok=True)
            file = filesystem.open(path, "wb", autocommit=False, block_size=PART_SIZE)

        try:
            for block in blocks:
                with _translated(self._name):
                    file.write(block)
        except BaseException:
            with _translated(self._name):
                file.close()
                file.discard()
            raise

        with _translated(self._name):
            file.close()
            file.commit()

    def delete(self, key: str) -> None:
        with _translated(self._name), suppress(FileNotFoundError):
            self._filesystem.get().rm_file(self._path(key))

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        """The facts about the bytes under each key, with one request for each: sizes alone."""
        stats = {}
        for key in keys:
            with _translated(self._name), suppress(FileNotFoundError):
                info = self._filesystem.get().info(self._path(key))
                stats[key] = Stat(info["size"])
        return stats

    def keys(self, after: str = "") -> Iterator[str]:
        first_folder = ""
        if after:
            first_folder = folder_of(after)
        for folder in self._names(self._root):
            if folder < first_folder:
                continue
            for key in self._names(f"{self._root}/{folder}"):
                if key > after:
                    yield key

    def delegate(
        self,
        key: str,
        content_type: str,
        disposition: str,
    ) -> Delegation | None:
        """A redirect to a signed URL for 300 seconds. Nobody looks whether the object is there."""
        if self._signed is None:
            return None

        type_name, disposition_name, others = self._signed
        shown = {
            type_name: content_type,
            disposition_name: disposition,
        }
        with _translated(self._name):
            url = self._filesystem.get().sign(
                self._path(key),
                expiration=PRESIGNED_SECONDS,
                **shown,
                **others,
            )
        headers = {"Location": url, "Cache-Control": "no-store"}
        return Delegation(302, headers)

    def close(self) -> None:
        # A filesystem closes what it has opened when nobody needs it any more.
        self._filesystem.close(lambda filesystem: None)

    def _read(self, key: str, start: int, stop: int) -> bytes:
        with _translated(self._name):
            try:
                return self._filesystem.get().cat_file(
                    self._path(key),
                    start=start,
                    end=stop,
                )
            except FileNotFoundError as error:
                raise BytesNotFound(key) from error

    def _path(self, key: str) -> str:
        return f"{self._root}/{folder_of(key)}/{key}"

    def _names(self, folder: str) -> list[str]:
        """The last parts of the paths in a folder, sorted."""
        with _translated(self._name):
            try:
                paths = self._filesystem.get().ls(folder, detail=False)
            except FileNotFoundError:
                return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Raise errors of ours. Every driver of the family has errors of its own.

    An outage is known by Python's own errors, or by the names of drivers' classes.

    :param name: Name of the storage.
    """
    try:
        yield
    except (StorageError, GeneratorExit):
        raise
    except Exception as error:
        # Each provider has errors of its own, which fsspec passes on. All are raised as ours.
        class_names = {base.__name__ for base in type(error).__mro__}
        is_outage = isinstance(error, ConnectionError | TimeoutError)
        if is_outage or class_names & _OUTAGES:
            raise StorageUnavailable(name) from error
        raise StorageError(f"the storage {name!r} failed") from error
