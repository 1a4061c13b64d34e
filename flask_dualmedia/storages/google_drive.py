"""Bytes in a folder of Google Drive.

A key is the name of a file. Drive allows many files of one name, and gives each an id of its own.
"""

from __future__ import annotations

import random
import time
import typing as t
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager

from ..errors import BytesNotFound, MissingExtra, StorageError, StorageUnavailable
from .base import Stat
from .whole import PART_SIZE, PIECE_SIZE, BlockReader, PerProcess, StreamedStorage, folder_of

if t.TYPE_CHECKING:
    import requests

BASE_URL = "https://www.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/drive"

ATTEMPTS = 4
"""How often a request is sent that Drive has no time for now."""

FIRST_DELAY = 0.5
"""Seconds before the second of them; twice as many before each one after that."""

_TIMEOUT = (5, 60)
_LISTED = 1000
_REMEMBERED = 10_000
"""Ids of files that a process remembers. Beyond that it forgets all of them."""

# Drive says 403 of most things that are only not possible now.
_PASSING = {"rateLimitExceeded", "userRateLimitExceeded", "sharingRateLimitExceeded"}
_USED_UP = {
    "storageQuotaExceeded",
    "teamDriveFileLimitExceeded",
    "dailyLimitExceeded",
    "quotaExceeded",
    "downloadQuotaExceeded",
}

_EVERYWHERE = {"supportsAllDrives": "true"}
"""Service accounts have no room of their own: their folder is in a shared drive."""


class GoogleDriveStorage(StreamedStorage):
    """Bytes in files of one folder, named by their keys.

    :param folder: Id of the folder, which belongs to one deployment alone.
    :param credentials: Of google-auth, or the path of a service account's key file. Default: what
        google-auth finds in the environment.
    :param base_url: Where the API is.
    :param name: Name of the storage, for errors.
    """

    def __init__(
        self,
        folder: str,
        *,
        credentials: t.Any = None,
        base_url: str = BASE_URL,
        name: str = "google_drive",
    ) -> None:
        try:
            import google.auth.transport.requests
            import google.resumable_media.requests  # noqa: F401 - needed by the first upload
        except ImportError as error:
            raise MissingExtra("the storage google_drive", "gdrive") from error
        self._name = name
        self._folder = folder
        self._base = base_url.rstrip("/")
        self._session = PerProcess(lambda: _open_session(credentials))
        self._ids: dict[str, str] = {}

    def put(self, key: str, blocks: Iterable[bytes]) -> None:
        """Keep the bytes in a new file, and then delete those that had its name.

        :raises StorageUnavailable: Drive took only a part of what was sent, or has no time or room.
        """
        from google.resumable_media.common import RetryStrategy
        from google.resumable_media.requests import ResumableUpload

        folder_of(key)
        ids_before = [file["id"] for file in self._files(f"name = '{key}'")]
        upload = ResumableUpload(
            f"{self._base}/upload/drive/v3/files?uploadType=resumable&supportsAllDrives=true",
            PART_SIZE,
        )
        upload._retry_strategy = RetryStrategy(max_retries=ATTEMPTS - 1, initial_delay=FIRST_DELAY)
        stream = BlockReader(blocks)
        session = self._session.get()
        metadata = {"name": key, "parents": [self._folder]}

        def initiate() -> object:
            return upload.initiate(
                session,
                stream,
                metadata,
                "application/octet-stream",
                stream_final=False,
                timeout=_TIMEOUT,
            )

        with _translated(self._name):
            # The URL that comes back is for this upload alone. Nothing is in the folder until it is
            # complete; what was left half way, Drive forgets after a week.
            _patiently(initiate)
            answer = None
            while not upload.finished:
                answer = upload.transmit_next_chunk(session, timeout=_TIMEOUT)
                # If Drive took less, the rest of the part is gone: blocks are read once.
                if upload.bytes_uploaded != stream.tell():
                    raise StorageUnavailable(self._name, "took only a part of what was sent")

        if answer is not None:
            self._remember(key, answer.json()["id"])
        for file_id in ids_before:
            self._delete(file_id)

    def delete(self, key: str) -> None:
        """Delete every file of this name, at once and not into Drive's trash."""
        self._ids.pop(key, None)
        folder_of(key)
        for file in self._files(f"name = '{key}'"):
            self._delete(file["id"])

    def stats(self, keys: t.Sequence[str]) -> dict[str, Stat]:
        """The sizes of the bytes under each key, with one request for each."""
        stats = {}
        for key in keys:
            folder_of(key)
            for file in self._files(f"name = '{key}'"):
                self._remember(key, file["id"])
                stats.setdefault(key, Stat(int(file["size"])))
        return stats

    def keys(self, after: str = "") -> Iterator[str]:
        """Every key that sorts behind ``after``, each once, from a list of the whole folder."""
        last = after
        for file in self._files():
            if file["name"] > last:
                last = file["name"]
                yield last

    def close(self) -> None:
        self._session.close(lambda session: session.close())

    def _stream(self, key: str, start: int, stop: int) -> Generator[bytes]:
        path = f"/{self._id_of(key)}"
        headers = {
            "Range": f"bytes={start}-{stop - 1}",
            "Accept-Encoding": "identity",
        }
        with self._call("GET", path, {"alt": "media"}, headers=headers, stream=True) as answer:
            if answer.status_code in (404, 416):
                self._ids.pop(key, None)
                raise BytesNotFound(key)
            if answer.status_code != 206:
                raise StorageError(f"the storage {self._name!r} does not give ranges")
            if answer.headers["Content-Length"] != str(stop - start):
                raise BytesNotFound(key)
            with _translated(self._name):
                yield from answer.iter_content(PIECE_SIZE)

    def _id_of(self, key: str) -> str:
        """Drive's own id of a file. An id that was seen once is not asked for again.

        :raises BytesNotFound: The folder has no such file.
        """
        if key not in self._ids:
            folder_of(key)
            file = next(self._files(f"name = '{key}'"), None)
            if file is None:
                raise BytesNotFound(key)
            self._remember(key, file["id"])
        return self._ids[key]

    def _remember(self, key: str, file_id: str) -> None:
        if len(self._ids) >= _REMEMBERED:
            self._ids.clear()
        self._ids[key] = file_id

    def _files(self, condition: str = "") -> Iterator[dict[str, str]]:
        """Files of the folder, sorted by name."""
        conditions = [f"'{self._folder}' in parents", "trashed = false"]
        if condition:
            conditions.insert(0, condition)
        query = {
            "q": " and ".join(conditions),
            "orderBy": "name",
            "pageSize": str(_LISTED),
            "includeItemsFromAllDrives": "true",
            "fields": "nextPageToken, files(id, name, size)",
        }
        while True:
            answer = self._call("GET", "", query)
            with _translated(self._name):
                _refuse_errors(answer)
            page = answer.json()
            yield from page["files"]
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = page["nextPageToken"]

    def _delete(self, file_id: str) -> None:
        """Delete a file by Drive's id. One that is gone already is no error."""
        answer = self._call("DELETE", f"/{file_id}", {})
        if answer.status_code != 404:
            with _translated(self._name):
                _refuse_errors(answer)

    def _call(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        **options: t.Any,
    ) -> requests.Response:
        """Send a request to Drive. Answers 404 and 416 are for the caller to judge.

        :raises StorageUnavailable: Drive does not answer, or still asks to wait after all attempts.
        """
        session = self._session.get()
        url = f"{self._base}/drive/v3/files{path}"

        def send() -> requests.Response:
            answer = session.request(
                method,
                url,
                params=query | _EVERYWHERE,
                timeout=_TIMEOUT,
                **options,
            )
            if answer.status_code not in (404, 416):
                _refuse_errors(answer)
            return answer

        with _translated(self._name):
            return _patiently(send)


class _Refused(Exception):
    """An answer of Drive that is an error."""

    def __init__(self, answer: requests.Response) -> None:
        super().__init__(answer.status_code)
        self.response = answer


T = t.TypeVar("T")


def _patiently(send: Callable[[], T]) -> T:
    """Send a request, and again, ever later, while Drive has no time for it."""
    from google.resumable_media.common import InvalidResponse
    from requests import exceptions

    for attempt in range(ATTEMPTS):
        try:
            return send()
        except (_Refused, InvalidResponse, exceptions.ConnectionError, exceptions.Timeout) as error:
            answer = getattr(error, "response", None)
            if attempt == ATTEMPTS - 1 or not _is_passing(answer, attempt):
                raise
            delay = FIRST_DELAY * 2**attempt
            time.sleep(delay * random.uniform(1, 1.5))  # noqa: S311 - not a secret
    raise AssertionError


def _is_passing(answer: t.Any, attempt: int) -> bool:
    """Tell whether it makes sense to send a request again.

    :param answer: ``None`` if there is none.
    :param attempt: The number of attempts before this one.
    """
    if answer is None:  # a connection that broke off, or nobody there: once more at most
        return attempt == 0
    if answer.status_code in (429, 500, 502, 503, 504):
        return True
    return _reason(answer) in _PASSING


def _refuse_errors(answer: requests.Response) -> None:
    if not answer.ok:
        raise _Refused(answer)


def _reason(answer: requests.Response) -> str:
    """Drive's word for what is wrong."""
    try:
        return answer.json()["error"]["errors"][0]["reason"]
    except (ValueError, LookupError, TypeError):
        return ""


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Raise errors of ours for those of the Google libraries.

    :param name: Name of the storage.
    """
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.resumable_media.common import InvalidResponse
    from requests import exceptions

    try:
        yield
    except (_Refused, InvalidResponse) as error:
        answer = t.cast("requests.Response", error.response)
        raise _refusal(answer, name) from error
    except (
        exceptions.ConnectionError,
        exceptions.Timeout,
        exceptions.ChunkedEncodingError,
        TransportError,
    ) as error:
        raise StorageUnavailable(name) from error
    except (exceptions.RequestException, GoogleAuthError) as error:
        raise StorageError(f"the storage {name!r} failed") from error


def _refusal(answer: requests.Response, name: str) -> StorageError:
    """Our error for an answer of Drive that is one.

    :param name: Name of the storage.
    """
    status = answer.status_code
    reason = _reason(answer) or str(status)
    if reason in _USED_UP:
        return StorageUnavailable(
            name,
            f"takes no more: {reason}",
            retry_after=3600,
        )
    if reason in _PASSING or status == 429 or status >= 500:
        return StorageUnavailable(
            name,
            f"asks to wait: {reason}",
            retry_after=60,
        )
    return StorageError(f"the storage {name!r} refuses: {reason}")


def _open_session(credentials: t.Any) -> requests.Session:
    import google.auth
    from google.auth.transport.requests import AuthorizedSession
    from google.oauth2.service_account import Credentials

    if credentials is None:
        credentials, _ = google.auth.default(scopes=[SCOPE])
    elif isinstance(credentials, str):
        credentials = Credentials.from_service_account_file(credentials, scopes=[SCOPE])
    return AuthorizedSession(credentials)
