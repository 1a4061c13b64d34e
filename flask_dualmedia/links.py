"""Signed links: URLs that open the bytes of one record for a while, without a token, for ``<img>``, ``<video>`` and
e-mail."""

from __future__ import annotations

import hashlib
import typing as t
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from itsdangerous import BadSignature, URLSafeSerializer

from .errors import ConfigurationError
from .models import Media, now
from .schemas import content_url
from .state import get_state

PARAMETER = "signature"

# A link is for this and nothing else, whatever else the key signs.
_SALT = "dualmedia.link"

_READ = "read"

_FIELDS = {"action", "media", "issued", "expires", "identity", "revoked"}
"""Names in what is signed."""


@dataclass(frozen=True)
class Link:
    """What a signature vouches for. All times are milliseconds since 1970, by the database clock."""

    media_id: uuid.UUID
    issued_at: int
    expires_at: int
    identity: str | None
    """Whom it is for, together with a token of theirs; ``None`` for whoever has it."""
    revoked_at: int | None = None
    """When links of the record were revoked last, as it was when this one was made."""
    compares_times: bool = False
    """Whether it was made by an earlier version, and does not name the revocation that it came after."""

    def opens(self, record: Media, identity: str | None) -> bool:
        """Whether it is for this record and this caller, and still holds."""
        if self.media_id != record.id or self.identity not in (None, identity):
            return False
        return _milliseconds(now()) < self.expires_at and not self._is_revoked(_revocation(record))

    def _is_revoked(self, revoked_at: int | None) -> bool:
        if self.compares_times:
            return revoked_at is not None and self.issued_at <= revoked_at
        # No order of times: whoever made the link and whoever revoked it need not agree what time it is.
        return self.revoked_at != revoked_at


def signed_url(record: Media, *, expires_in: float | None = None, identity: str | None = None) -> str:
    """Path of a link to the bytes of a record, for who has it and nobody's token.

    :param expires_in: Seconds that it holds. Default ``DUALMEDIA_LINK_SECONDS``.
    :param identity: Bind it to this JWT identity: it then opens only together with a valid token of theirs.
    :raises ConfigurationError: There is no key to sign with.
    """
    return make_link(record, expires_in=expires_in, identity=identity)[0]


def make_link(record: Media, *, expires_in: float | None = None, identity: str | None = None) -> tuple[str, datetime]:
    """The same, and when it ends."""
    issued = now()
    expires = issued + timedelta(seconds=get_state().settings.link_seconds if expires_in is None else expires_in)
    payload = {
        "action": _READ,
        "media": record.id.hex,
        "issued": _milliseconds(issued),
        "expires": _milliseconds(expires),
        "identity": identity,
        "revoked": _revocation(record),
    }
    return f"{content_url(record)}?{PARAMETER}={_serializer().dumps(payload)}", expires


def read_link(signature: str) -> Link | None:
    """What a signature vouches for; ``None`` if we did not make it."""
    try:
        payload = _serializer().loads(signature)
    except BadSignature:
        return None
    return _earlier_link(payload) if isinstance(payload, list) else _link(payload)


def _link(payload: dict[str, t.Any]) -> Link | None:
    # More in it may mean less: a later version has restricted the link to something.
    if payload.keys() != _FIELDS or payload["action"] != _READ:
        return None
    return Link(
        uuid.UUID(payload["media"]), payload["issued"], payload["expires"], payload["identity"], payload["revoked"]
    )


def _earlier_link(payload: list[t.Any]) -> Link | None:
    """A link of the first format, which had a place for a variant of the content and none for the revocation."""
    media_id, action, variant, issued, expires, identity = payload
    if (action, variant) != (_READ, None):
        return None
    return Link(uuid.UUID(media_id), issued, expires, identity, compares_times=True)


def _serializer() -> URLSafeSerializer:
    keys = get_state().settings.link_keys
    if not keys:
        raise ConfigurationError("DUALMEDIA_LINK_KEYS is not set, and neither is SECRET_KEY: links cannot be signed")
    signer = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeSerializer(list(reversed(keys)), salt=_SALT, signer_kwargs=signer)


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _revocation(record: Media) -> int | None:
    """When links of a record were revoked last."""
    return None if record.links_revoked_at is None else _milliseconds(record.links_revoked_at)
