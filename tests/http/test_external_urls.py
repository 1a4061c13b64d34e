"""URLs of external media are checked when they are kept, and lead to no error of ours later."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from flask_dualmedia.models import MediaStorage, now
from flask_dualmedia.state import State

from ..samples import Owners, Tokens, post_url

ACCEPTED = {
    "https://cdn.example/a.jpg?b=c#d": None,
    "HTTP://cdn.example": "http://cdn.example",
    "//cdn.example/a": None,
    "/static/a.png": None,
    "a.png": None,
    "../a.png?x": None,
    "http://localhost:8000/a": None,
    "http://h:65535/a": None,
    "http://h:/a": "http://h/a",
    "http://127.0.0.1/a": None,
    "http://[2001:db8::1]:80/a": None,
    "http://a_b.example./a": None,
    "http://r3---sn.example/a%20b%zz": None,
    "http://xn--tda.example/a": None,
    "http://ü.example/ä": "http://xn--tda.example/%C3%A4",
    "/ä?ö#ü": "/%C3%A4?%C3%B6#%C3%BC",
    "http://例え.テスト/画像.png": "http://xn--r8jz45g.xn--zckzah/%E7%94%BB%E5%83%8F.png",
}
"""By URL, what is sent in its place, if anything is."""

REFUSED = [
    "http://h:99999/", "http://h:ab/", "http://h:-1/", "http://h:0/", "http://h:80:80/", "http://h:80x/a",
    "http://user:pw@h/", "http://user@h/", "//user@h/a", "https://h@evil.example/",
    "http:", "http:/a", "http:///a", "///evil.example/a", "//", "//:80/a", "http://:80/",
    "ftp://h/a", "javascript:alert(1)", "data:,x", "file:///etc/passwd", "mailto:a@b", "C:/a.png",
    "http://a b/", "http://a/b c", "http://h/\u00a0",
    "http://h/\u3000", "http://h/a\tb", "http://h/\r\nX: y", "\x00",
    "http://h/\u2028", "http://h/\u202egpj.exe", " http://h/", "http://h/ ",
    "http://[::1", "http://[::g]/", "http://[fe80::1%25eth0]/", "http://]/",
    "http://a..b/", "http://.a/", "http://%zz/",
    "http://a%20b/", "http://a*b/", "http://" + "a" * 64 + ".example/",
    "http://" + "a." * 130 + "example/", "http://" + "ü" * 70 + ".example/", "http://\u200b/", "http://stra\u00dfe.example/",
    "http://1.2.3/", "http://256.1.1.1/", "http://1.2.3.0x4/",
    "http:\\\\h\\a", "/\\evil.example", "\\\\evil.example\\a",
    "?a", "#a", "", "http://h/" + "ü" * 500, "h" * 2049,
]  # fmt: skip

KEPT_EARLIER = [
    "http://h:99999/", "http://h:ab/ü", "http://[::1",
    "http://a..b/ü", "http://" + "ü" * 70 + ".example/ü", "//[x/ü",
    "", "javascript:alert(1)", "http://h/\r\nX: y\r\n",
]  # fmt: skip


@pytest.fixture
def mode() -> str:
    return "mongo"


def test_urls_that_lead_somewhere(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    for url, sent in ACCEPTED.items():
        made = post_url(client, tokens.alice, "files", owners, url=url)
        assert (made.status_code, (made.json or {}).get("url")) == (201, url)
        answer = client.get(f"{made.location}/content", headers=tokens.alice)
        assert (answer.status_code, answer.headers["Location"]) == (302, sent or url)


def test_urls_that_lead_nowhere(client: FlaskClient, tokens: Tokens, owners: Owners) -> None:
    item = post_url(client, tokens.alice, "files", owners, url="/a").headers["Location"]
    for url in REFUSED:
        answer = post_url(client, tokens.alice, "files", owners, url=url)
        assert (answer.status_code, [*(answer.json or {})["errors"]]) == (422, ["url"]), url
        assert client.patch(item, json={"url": url}, headers=tokens.alice).status_code == 422, url


def test_urls_that_an_earlier_version_has_kept(
    client: FlaskClient, tokens: Tokens, owners: Owners, state: State
) -> None:
    """The answer is 404, or a place that a client can go to."""
    for url in (*KEPT_EARLIER, *(url for url in REFUSED if "\0" not in url)):
        values = {
            "reference_type": "user",
            "reference_id": str(owners.user),
            "media_type": "image",
            "state": "available",
        }
        record = MediaStorage.new(
            **values, storage_type="external", url=url, uploaded_by="alice", updated_at=now()
        )
        state.repository.add(record)
        answer = client.get(f"/media/files/{record.id}/content", headers=tokens.alice)
        location = answer.headers.get("Location", "")
        assert answer.status_code == 404 or (answer.status_code == 302 and location), url
        assert location.isascii()
        assert location.isprintable()
        if url in KEPT_EARLIER[1:-1]:
            assert answer.status_code == 404, url
        assert client.get(f"/media/files/{record.id}", headers=tokens.alice).status_code == 200


@pytest.mark.parametrize("url", ["http://h:99999/", "http://user:secret@h/"])
def test_what_is_wrong_is_said(
    client: FlaskClient, tokens: Tokens, owners: Owners, url: str
) -> None:
    answer = post_url(client, tokens.alice, "files", owners, url=url)
    assert ("port" if "99999" in url else "password") in (answer.json or {})["errors"]["url"][0]
    assert "secret" not in answer.text
