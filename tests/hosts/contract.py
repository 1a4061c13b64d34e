"""The behaviour of media in every house."""

from __future__ import annotations

import typing as t
from html import unescape

import pytest
from werkzeug.test import TestResponse

from flask_dualmedia import content_url, delete_media, get_media_by_reference, save_media_storage

from ..samples import PDF, counting, part
from .conftest import DUAL, FAILURES, MONGO, House

TEXT = b"One line of many, all of them alike.\n" * 200

NEW = counting(5000)


@pytest.mark.parametrize("house", [DUAL, MONGO], indirect=True)
class Contract:
    """Each host's module has a subclass of it."""

    def test_a_file_is_uploaded_read_edited_replaced_and_deleted(self, house: House) -> None:
        client, token = house.client, house.token
        created = _upload(house, TEXT, "text/plain", isPublic="true")
        assert created.status_code == 201, created.text
        record = _json(created)
        item, content = created.headers["Location"], record["url"]
        assert item.startswith(house.path("/media/files/"))

        whole = client.get(content, headers={"Accept-Encoding": "gzip, br"})
        assert (whole.status_code, whole.data) == (200, TEXT)
        assert whole.headers["ETag"] == f'"{record["checksum"]}"'
        assert not {"Content-Encoding", "Set-Cookie"}.intersection(whole.headers.keys())
        assert "cookie" not in whole.headers.get("Vary", "").lower()
        assert "default-src 'none'; sandbox" in whole.headers.getlist("Content-Security-Policy")

        piece = {
            "Range": "bytes=5-104",
            "If-Range": whole.headers["ETag"],
            "Accept-Encoding": "gzip",
        }
        part_of_it = client.get(content, headers=piece)
        assert (part_of_it.status_code, part_of_it.data) == (206, TEXT[5:105])
        assert part_of_it.headers["Content-Range"] == f"bytes 5-104/{len(TEXT)}"

        again = client.get(
            content, headers={"If-None-Match": whole.headers["ETag"], "Accept-Encoding": "gzip"}
        )
        assert (again.status_code, again.data) == (304, b"")
        head = client.head(content, headers={"Accept-Encoding": "gzip"})
        assert (head.status_code, head.content_length) == (200, len(TEXT))

        edited = client.patch(
            item, headers=token, data='{"title": "Lines"}', content_type="application/json"
        )
        assert (edited.status_code, _json(edited)["title"]) == (200, "Lines")
        listed = client.get(
            house.path("/media/files?referenceType=note&referenceId=n1"), headers=token
        )
        assert [found["id"] for found in _json(listed)["items"]] == [record["id"]]

        replaced = client.put(content, headers=token, data=NEW, content_type="text/plain")
        assert replaced.status_code == 200, replaced.text
        assert client.get(content).data == NEW

        assert client.delete(item, headers=token).status_code == 204
        gone = client.get(item, headers=token)
        assert (gone.status_code, _json(gone)["code"]) == (404, 404)

    def test_what_the_functions_keep_is_served(self, house: House) -> None:
        with house.app.app_context():
            record = save_media_storage("note", "n2", PDF, is_public=True)
            assert [found.id for found in get_media_by_reference("note", "n2")] == [record.id]
        with house.app.test_request_context(base_url=f"http://localhost{house.root}/"):
            url = content_url(record)
        answer = house.client.get(url)
        assert (answer.status_code, answer.data) == (200, PDF)
        with house.app.app_context():
            delete_media("files", record.id)

    def test_without_a_token_there_is_an_error_of_ours(self, house: House) -> None:
        house.client.delete_cookie("access_token_cookie")
        refused = house.client.get(house.path("/media/files"))
        assert (refused.status_code, _json(refused)["code"]) == (401, 401)

    def test_what_is_no_route_is_the_hosts(self, house: House) -> None:
        client = house.client
        assert _shown(client.get(house.path("/media/nowhere"))) == _shown(
            client.get(house.path("/nowhere"))
        )
        assert _shown(client.delete(house.path("/media/health"))) == _shown(
            client.delete(house.path(house.page))
        )

    def test_errors_of_media_have_their_status_in_its_own_views(self, house: House) -> None:
        for name, (error, status) in FAILURES.items():
            answer = house.client.get(house.path(f"/failing/{name}"), headers=house.token)
            assert answer.status_code == status, answer.text
            assert answer.headers.get("Retry-After") == ("7" if status == 503 else None)
            self.check_failure(answer, error)

    def check_failure(self, answer: TestResponse, error: Exception) -> None:
        """Check that an answer looks like the host's own errors."""
        assert (answer.mimetype, str(error) in unescape(answer.text)) == ("text/html", True)

    def test_our_pages_are_there(self, house: House) -> None:
        document = _json(house.client.get(house.path("/media/openapi.json")))
        path = "/media/files/{media_id}"
        assert house.path(path) in document["paths"] or path in document["paths"]
        assert "list_files" in house.client.get(house.path("/media/docs")).text


def _upload(house: House, content: bytes, mime_type: str, **fields: str) -> TestResponse:
    data = {
        "file": part(content, "lines.txt", mime_type),
        "referenceType": "note",
        "referenceId": "n1",
        **fields,
    }
    return house.client.post(house.path("/media/files"), headers=house.token, data=data)


def _json(response: TestResponse) -> dict[str, t.Any]:
    data = response.get_json()
    assert isinstance(data, dict), response.text
    return data


def _shown(response: TestResponse) -> tuple[int, str | None, str]:
    return response.status_code, response.mimetype, response.text
