"""The app that clients upload to and download from, and a look at what it has kept."""

from __future__ import annotations

import hashlib
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

import requests

from tests.tools.proxy import Proxy

OWNER = {"referenceType": "page", "referenceId": "1"}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Site:
    """An app, directly and by way of a proxy that can cut connections."""

    port: int
    proxy: Proxy
    token: str
    """The value of ``Authorization``."""
    film: Path
    """The file to upload and download: 30 seconds of video, 4 MiB."""
    npm: Path
    """Where packages from npm are installed."""
    ran: Path
    """A folder with a file for everything that ran in a page of the app."""
    content: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.content = self.film.read_bytes()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def proxied(self) -> str:
        """The origin by way of the proxy."""
        return f"http://127.0.0.1:{self.proxy.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": self.token}

    def keep(self, content: bytes, filename: str, **fields: str) -> str:
        """Upload a file.

        :return: Path of its record.
        """
        files = {"file": (filename, content)}
        answer = requests.post(
            f"{self.origin}/media/files", headers=self.headers, files=files, data=OWNER | fields
        )
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"]

    def keep_film(self) -> str:
        """Path of the content of the film."""
        return f"{self.keep(self.content, self.film.name)}/content"

    def keep_something(self) -> str:
        """Path of content that a client replaces."""
        return f"{self.keep(b'something else', 'a.bin')}/content"

    def link(self, path: str) -> str:
        """The path of a signed link to the content of a record."""
        answer = requests.post(f"{self.origin}{path}/link", headers=self.headers)
        assert answer.status_code == 201, answer.text
        return answer.json()["url"]

    def record(self, path: str) -> dict[str, t.Any]:
        """A record, by its path or that of its content."""
        answer = requests.get(f"{self.origin}{path.removesuffix('/content')}", headers=self.headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def read(self, path: str) -> bytes:
        answer = requests.get(f"{self.origin}{path}", headers=self.headers)
        assert answer.status_code == 200, answer.text
        return answer.content

    def check_kept(self, path: str, expected: bytes | None = None) -> dict[str, t.Any]:
        """Check that a record has the bytes of the film, or others, and says so.

        :param path: Of the record or of its content.
        """
        record = self.record(path)
        expected_digest = digest(self.content if expected is None else expected)
        content = self.read(f"{path.removesuffix('/content')}/content")
        assert (record["checksum"], digest(content)) == (expected_digest, expected_digest)
        return record
