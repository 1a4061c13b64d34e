"""Signed links: URLs that open the bytes of one record for a while, without a token, for ``<img>``, ``<video>`` and
e-mail."""

from __future__ import annotations

import hashlib
import typing as t
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from itsdangerous import BadSignature, URLSafeSerializer

from .errors import ConfigurationError
from .models import Media, now
from .schemas import content_url
from .state import get_state

PARAMETER = "signature"

# A link is for this and nothing else, whatever else the key signs.
_SALT = "dualmedia.link"

_READ = "read"
_ORIGINAL = None  # not a variant of it


@dataclass(frozen=True)
class Link:
    """What a signature vouches for."""

    media_id: uuid.UUID
    issued_at: datetime
    expires_at: datetime
    identity: str | None
    """Whom it is for, together with a token of theirs; ``None`` for whoever has it."""

    def opens(self, record: Media, identity: str | None) -> bool:
        """Whether it is for this record and this caller, and still holds."""
        revoked = record.links_revoked_at
        holds = now() < self.expires_at and (revoked is None or self.issued_at > revoked)
        return holds and self.media_id == record.id and self.identity in (None, identity)


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
    payload = [record.id.hex, _READ, _ORIGINAL, _milliseconds(issued), _milliseconds(expires), identity]
    return f"{content_url(record)}?{PARAMETER}={_serializer().dumps(payload)}", expires


def read_link(signature: str) -> Link | None:
    """What a signature vouches for; ``None`` if we did not make it."""
    try:
        media_id, action, variant, issued, expires, identity = _serializer().loads(signature)
    except BadSignature:
        return None
    if (action, variant) != (_READ, _ORIGINAL):
        return None
    return Link(uuid.UUID(media_id), _time(issued), _time(expires), identity)


def _serializer() -> URLSafeSerializer:
    keys = get_state().settings.link_keys
    if not keys:
        raise ConfigurationError("DUALMEDIA_LINK_KEYS is not set, and neither is SECRET_KEY: links cannot be signed")
    signer = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeSerializer(list(reversed(keys)), salt=_SALT, signer_kwargs=signer)


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _time(milliseconds: t.Any) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
