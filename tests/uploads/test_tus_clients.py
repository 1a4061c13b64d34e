"""Resumable uploads over real connections, to gunicorn with four workers, of which any may get the
next request."""

from __future__ import annotations

import http.client
import io
import threading
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pymongo
import pytest
import requests
from tusclient.client import TusClient

from flask_dualmedia.uploads.resumable import READ_SIZE
from flask_dualmedia.uploads.staging import COLLECTION

from .. import samples
from ..conftest import Databases, ServerUrls, mongo_uri_for, unique
from ..faults.servers import Workers, bearer, running
from ..samples import OFFSET_TYPE, encoded
from ..tools.proxy import Proxy
from ..waiting import eventually

CHUNK = 256 * 1024

METADATA = {
    "kind": "course-videos",
    "filename": "bunny.mp4",
    "filetype": "video/mp4",
    "mongoCourseId": "1",
}


class Site(t.NamedTuple):
    port: int
    mongo_uri: str


@pytest.fixture(scope="module")
def site(
    servers: ServerUrls, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    databases, name = Databases(servers.postgres), unique("test")
    url = databases.create(name, template=template_database).render_as_string(hide_password=False)
    config = {"SQLALCHEMY_DATABASE_URI": url, "MONGO_URI": mongo_uri_for(servers, name)}
    workers = Workers(
        tmp_path_factory.mktemp("workers"), config | {"DUALMEDIA_AUTO_UPGRADE": "false"}, count=4
    )
    with running(workers):
        workers.wait()
        yield Site(workers.port, config["MONGO_URI"])
    databases.drop_all()
    with pymongo.MongoClient(config["MONGO_URI"]) as client:
        client.drop_database(name)


@pytest.fixture
def port(site: Site) -> int:
    return site.port


@pytest.fixture
def video(media_directory: Path) -> bytes:
    return (media_directory / "big-buck-bunny-480p-30s.mp4").read_bytes()


def stored(port: int, url: str) -> bytes:
    """The content of the record that an upload has become."""
    head = requests.head(url, headers=bearer("alice") | {"Tus-Resumable": "1.0.0"}, timeout=10)
    assert head.headers["Upload-Offset"] == head.headers["Upload-Length"]
    record = f"http://127.0.0.1:{port}{head.headers['Content-Location']}"
    answer = requests.get(f"{record}/content", headers=bearer("alice"), timeout=10)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "video/mp4")
    return answer.content


def uploader(port: int, content: bytes, **options: t.Any) -> t.Any:
    client = TusClient(f"http://127.0.0.1:{port}/media/uploads", headers=bearer("alice"))
    return client.uploader(
        file_stream=io.BytesIO(content),
        chunk_size=CHUNK,
        metadata=METADATA,
        retries=40,
        retry_delay=0.25,
        **options,
    )


def test_tuspy_goes_on_where_connections_were_cut(port: int, video: bytes) -> None:
    """Requests are cut in mid-chunk, by a reset. What had come of them is kept."""
    proxy = Proxy(("127.0.0.1", port))
    upload = uploader(proxy.port, video)
    upload.upload(stop_at=2 * CHUNK)
    for _ in range(2):
        proxy.cut_next(after=CHUNK // 2)
        upload.upload(stop_at=upload.offset + CHUNK)
    cut = Request(proxy.port, upload.url, upload.offset, 3 * CHUNK)
    cut.send(video[upload.offset : upload.offset + 2 * CHUNK])
    time.sleep(0.3)  # on its way
    proxy.reset()
    cut.close()
    least = upload.offset + 2 * CHUNK - READ_SIZE
    eventually(lambda: upload.get_offset() >= least, 10, pause=0.1)
    upload.offset = upload.get_offset()
    upload.upload()
    proxy.close()
    assert stored(port, upload.url.replace(str(proxy.port), str(port))) == video


def test_tuspy_with_checksums(port: int, video: bytes) -> None:
    upload = uploader(port, video[: 4 * CHUNK + 1], upload_checksum=True)
    upload.upload()
    assert stored(port, upload.url) == video[: 4 * CHUNK + 1]


def create(port: int, length: int) -> str:
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(length),
        "Upload-Metadata": encoded(METADATA),
    }
    answer = requests.post(
        f"http://127.0.0.1:{port}/media/uploads", headers=bearer("alice") | headers, timeout=10
    )
    assert answer.status_code == 201
    return answer.headers["Location"]


class Request:
    """A ``PATCH`` whose body is sent by and by."""

    def __init__(self, port: int, url: str, offset: int, length: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._connection.putrequest("PATCH", url)
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": str(offset),
            "Content-Length": str(length),
        }
        for name, value in (bearer("alice") | headers | {"Content-Type": OFFSET_TYPE}).items():
            self._connection.putheader(name, value)
        self._connection.endheaders()

    def send(self, body: bytes) -> None:
        self._connection.send(body)

    def status(self) -> int:
        answer = self._connection.getresponse()
        answer.read()
        self.close()
        return answer.status

    def close(self) -> None:
        self._connection.close()


def test_two_processes_write_at_the_same_offset(port: int) -> None:
    """One gets 204, the other 409 or 423, and the bytes are those of one of them."""
    content = samples.mp4(8 * CHUNK)
    url, answers = create(port, len(content)), []
    for offset in range(0, len(content), CHUNK):
        chunk = content[offset : offset + CHUNK]
        both = [Request(port, url, offset, CHUNK) for _ in range(2)]

        def finish(request: Request, chunk: bytes = chunk) -> None:
            request.send(chunk)
            answers.append(request.status())

        threads = [threading.Thread(target=finish, args=(request,)) for request in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        one, other = sorted(answers[-2:])
        assert (one, other in (409, 423)) == (204, True)
    assert stored(port, f"http://127.0.0.1:{port}{url}") == content


def test_who_comes_second_is_told_at_once(site: Site) -> None:
    """The second is told while the first is still sending, and without a byte of its own."""
    content = samples.mp4(4 * CHUNK)
    url = create(site.port, len(content))
    first = Request(site.port, url, 0, len(content))
    first.send(content[:CHUNK])
    with pymongo.MongoClient(site.mongo_uri) as client:
        uploads = client.get_default_database()[COLLECTION]
        locked = {"offset": 0, "lock": {"$ne": None}}
        eventually(lambda: uploads.find_one(locked), 10)
    assert Request(site.port, url, 0, len(content)).status() == 423
    first.send(content[CHUNK:])
    assert first.status() == 204
    assert stored(site.port, f"http://127.0.0.1:{site.port}{url}") == content
