"""Bytes in a bucket of S3, or of another service that speaks its protocol."""

from __future__ import annotations

import base64
import typing as t
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager

from ..errors import BytesNotFound, MissingExtra, StorageError, StorageUnavailable
from .base import PRESIGNED_SECONDS, Delegation, Stat, Ticket
from .whole import PART_SIZE, PIECE_SIZE, BlockReader, PerProcess, StreamedStorage

_LISTED = 1000
"""Keys in one page of a list."""


class S3Storage(StreamedStorage):
    """Bytes in objects named by their keys.

    :param bucket: Name of the bucket, which exists.
    :param prefix: Stands before the keys. What is under it belongs to one deployment alone.
    :param redirect: Send clients to a presigned URL of the object instead of passing its bytes on.
    :param name: Name of the storage, for errors.
    :param connection: Arguments of ``boto3.client``, such as ``endpoint_url`` and ``region_name``.
    """

    max_direct_size = 5 * 1024**3
    """In bytes: S3 takes no more by one ``PUT``."""

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        redirect: bool = False,
        name: str = "s3",
        **connection: t.Any,
    ) -> None:
        try:
            import boto3.s3.transfer as transfer
        except ImportError as error:
            raise MissingExtra("the storage s3", "s3") from error
        self._name = name
        self._bucket = bucket
        self._prefix = prefix
        self._redirect = redirect
        self._client = PerProcess(lambda: _connect(connection))
        # Without threads of its own it aborts cleanly, needs a third of the memory, and works under
        # gevent.
        self._transfer = transfer.TransferConfig(
            multipart_threshold=PART_SIZE,
            multipart_chunksize=PART_SIZE,
            use_threads=False,
        )

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """Keep the bytes as one object, which appears when it is whole; from 8 MiB on in parts."""
        with _translated(self._name):
            self._client.get().upload_fileobj(
                BlockReader(blocks),
                self._bucket,
                self._prefix + key,
                Config=self._transfer,
            )

    def delete(self, key: str) -> None:
        with _translated(self._name):
            self._client.get().delete_object(**self._object(key))

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        """The facts about the bytes under each of these keys.

        One or two are asked for one by one, with their checksums; more by a list, without
        checksums.
        """
        if len(keys) < 3:
            return dict(self._stats_one_by_one(keys))

        # Keys that are asked for together were made one after the other: a page of the list has
        # them all.
        asked_keys = set(keys)
        last = max(keys)
        before = min(keys)[:-1]
        stats = {}
        for key, size in self._list(before):
            if key > last:
                break
            if key in asked_keys:
                stats[key] = Stat(size)
        return stats

    def keys(self, after: str = "") -> Iterator[str]:
        for key, _ in self._list(after):
            yield key

    def delegate(
        self,
        key: str,
        content_type: str,
        disposition: str,
    ) -> Delegation | None:
        """A redirect to a URL for 300 seconds. It is signed here: the object may be missing."""
        if not self._redirect:
            return None

        # The headers that the object is shown with are part of what is signed: nobody makes a page
        # of it by changing the URL.
        shown = {
            "ResponseContentType": content_type,
            "ResponseContentDisposition": disposition,
            "ResponseCacheControl": "private, no-store",
        }
        with _translated(self._name):
            url = self._client.get().generate_presigned_url(
                "get_object",
                Params=self._object(key) | shown,
                ExpiresIn=PRESIGNED_SECONDS,
            )
        headers = {"Location": url, "Cache-Control": "no-store"}
        return Delegation(302, headers)

    def ticket(
        self,
        key: str,
        *,
        size: int,
        mime_type: str,
        checksum: str,
        seconds: float,
    ) -> Ticket:
        """The right to put these bytes. It is signed here, and S3 compares what comes."""
        digest = base64.b64encode(bytes.fromhex(checksum)).decode()
        pinned = {
            "ContentLength": size,
            "ContentType": mime_type,
            "ChecksumSHA256": digest,
            "IfNoneMatch": "*",
        }
        with _translated(self._name):
            url = self._client.get().generate_presigned_url(
                "put_object",
                Params=self._object(key) | pinned,
                ExpiresIn=int(seconds),
            )
        # All are signed, the length too, which clients set by themselves: with another one S3
        # refuses the request.
        headers = {
            "Content-Type": mime_type,
            "If-None-Match": "*",
            "X-Amz-Checksum-Sha256": digest,
        }
        return Ticket(url, headers)

    def close(self) -> None:
        self._client.close(lambda client: client.close())

    def _stats_one_by_one(self, keys: t.Sequence[str]) -> Iterator[tuple[str, Stat]]:
        for key in keys:
            with _translated(self._name):
                client = self._client.get()
                try:
                    head = client.head_object(**self._object(key), ChecksumMode="ENABLED")
                    yield key, Stat(head["ContentLength"], checksum=_checksum(head))
                except client.exceptions.ClientError as error:
                    if _status(error) != 404:
                        raise

    def _list(self, after: str) -> Iterator[tuple[str, int]]:
        """The keys behind one, sorted, and how many bytes are under each."""
        where = {
            "Bucket": self._bucket,
            "Prefix": self._prefix,
            "MaxKeys": _LISTED,
        }
        place = {}
        if after:
            place["StartAfter"] = self._prefix + after
        while True:
            with _translated(self._name):
                page = self._client.get().list_objects_v2(**where, **place)
            for entry in page.get("Contents", ()):
                key = entry["Key"].removeprefix(self._prefix)
                yield key, entry["Size"]
            if not page["IsTruncated"]:
                return
            place = {"ContinuationToken": page["NextContinuationToken"]}

    def _stream(self, key: str, start: int, stop: int) -> Generator[bytes]:
        with _translated(self._name, key):
            answer = self._client.get().get_object(
                **self._object(key),
                Range=f"bytes={start}-{stop - 1}",
            )
            with answer["Body"] as body:
                if "ContentRange" not in answer:
                    raise StorageError(f"the storage {self._name!r} does not give ranges")
                if answer["ContentLength"] != stop - start:
                    raise BytesNotFound(key)
                while piece := body.read(PIECE_SIZE):
                    yield piece

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}


def _connect(connection: dict[str, t.Any]) -> t.Any:
    """A client that waits 3 seconds to connect, 20 for an answer, and retries twice at most."""
    from boto3.session import Session
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        connect_timeout=3,
        read_timeout=20,
        retries={"mode": "standard", "max_attempts": 2},
    )
    # A session of its own: the default one of boto3 may be used by other threads at this moment.
    return Session().client("s3", config=config, **connection)


@contextmanager
def _translated(name: str, key: str = "") -> Iterator[None]:
    """Raise errors of ours for those of boto3.

    :param name: Name of the storage.
    :param key: The key whose bytes are read.
    """
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        raise _refusal(error, name, key) from error
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
        raise StorageUnavailable(name) from error
    except exceptions.BotoCoreError as error:
        raise StorageError(f"the storage {name!r} failed") from error


def _refusal(error: t.Any, name: str, key: str) -> StorageError:
    """Our error for an answer of S3 that is one.

    Where another try may help, it is :class:`StorageUnavailable`.

    :param name: Name of the storage.
    :param key: The key whose bytes are read, if any are.
    """
    status = _status(error)
    code = error.response.get("Error", {}).get("Code", "")
    is_missing = code in ("NoSuchKey", "InvalidRange") or status == 416
    if key and is_missing:
        return BytesNotFound(key)
    is_passing = status >= 500 or status == 429 or code == "SlowDown"
    if is_passing:
        return StorageUnavailable(name, f"answers {code or status}")
    return StorageError(f"the storage {name!r} refuses: {code or status}")


def _checksum(head: t.Mapping[str, t.Any]) -> str | None:
    """SHA-256 hex of a whole object; what came in parts has one of its parts' digests."""
    digest = head.get("ChecksumSHA256", "")
    if not digest or "-" in digest:
        return None
    return base64.b64decode(digest).hex()


def _status(error: t.Any) -> int:
    """The HTTP status of an answer, 0 if the error came without one."""
    metadata = error.response.get("ResponseMetadata", {})
    return metadata.get("HTTPStatusCode", 0)
