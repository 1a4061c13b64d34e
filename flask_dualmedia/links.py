"""Signed links: URLs that open the bytes of one record for a while, without a token.

They are for ``<img>``, ``<video>`` and e-mail.
"""

from __future__ import annotations

import hashlib
import typing as t
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from itsdangerous import BadSignature, URLSafeSerializer

from .authorization import Claims, is_allowed, reads_by_default
from .errors import ConfigurationError
from .models import Media, now
from .schemas import content_url
from .state import get_state

PARAMETER = "signature"

# A link is for this and nothing else, whatever else the key signs.
_SALT = "dualmedia.link"

_READ = "read"

_FIELDS = {
    "action",
    "media",
    "expires",
    "identity",
    "revoked",
    "public",
    "maker",
    "claims",
}
"""Names in what is signed."""

_EARLIER_FIELDS = {
    "action",
    "media",
    "issued",
    "expires",
    "identity",
    "revoked",
}
"""The same of an earlier version, which did not say who had made a link."""


@dataclass(frozen=True)
class Link:
    """The statement that a signature vouches for."""

    media_id: uuid.UUID
    expires_at: int
    """Milliseconds since 1970, by the database clock."""
    identity: str | None
    """The person it is for, together with a token of theirs; ``None`` for whoever has it."""
    revocation: int | None
    """The record's mark when the link was made: it came after that revocation."""
    was_public: bool = False
    """Whether the record was public when the link was made, so that anybody could make one."""
    maker: str | None = None
    """Identity that asked for it, and whose right to read it lends; ``None`` for the app itself."""
    claims: Claims = field(default_factory=dict)
    """Claims by which its maker could read, where the identity alone was not enough."""
    has_maker: bool = True
    """Whether it says who made it. Those of earlier versions do not."""

    def opens(self, record: Media, identity: str | None) -> bool:
        """Whether it is for this record and this caller, and still holds."""
        if self.media_id != record.id:
            return False
        if self.identity not in (None, identity):
            return False
        if self.was_public and not record.is_public:
            return False

        # No order of times: whoever made the link and whoever revoked it need not agree what time
        # it is.
        is_expired = _milliseconds(now()) >= self.expires_at
        if is_expired or self.revocation != _revocation(record):
            return False
        return self._lends_a_right(record)

    def _lends_a_right(self, record: Media) -> bool:
        """Whether whoever made it may read the record now."""
        if not self.has_maker:
            return reads_by_default()
        if self.maker is None:
            return True
        return may_read_by_link(record, self.maker, self.claims)


_MISSING_CLAIM = (
    LookupError,
    TypeError,
    AttributeError,
    ValueError,
    StopIteration,
)
"""Errors of a rule that takes a claim for granted, or what is in it.

Every token has that claim, and this link has not.
"""


def may_read_by_link(record: Media, maker: str, claims: Claims) -> bool:
    """Whether the rule lets an identity read a record.

    The rule is told only those claims of theirs that a link carries.
    """
    try:
        return is_allowed("read", record, maker, claims)
    except _MISSING_CLAIM:
        return False


def signed_url(
    record: Media,
    *,
    expires_in: float | None = None,
    identity: str | None = None,
    maker: str | None = None,
) -> str:
    """Path of a link to the bytes of a record. Whoever has it needs no token.

    It ends when links of the record are revoked, and with a record that is made private.

    :param expires_in: Seconds that it holds. Default ``DUALMEDIA_LINK_SECONDS``.
    :param identity: Bind it to this JWT identity: it then opens only together with a valid token of
        theirs.
    :param maker: JWT identity whose right to read it lends: it opens while the rule lets them.
        Default: the app's own, which the rule is not asked about.
    :raises ConfigurationError: There is no key to sign with.
    """
    url, _ = make_link(record, expires_in=expires_in, identity=identity, maker=maker)
    return url


def make_link(
    record: Media,
    *,
    expires_in: float | None = None,
    identity: str | None = None,
    maker: str | None = None,
    claims: Claims | None = None,
) -> tuple[str, datetime]:
    """The same as :func:`signed_url`, and when it ends.

    :param claims: The maker's, to ask the rule with. Whoever has the link can read them.
    """
    if expires_in is None:
        expires_in = get_state().settings.link_seconds
    expires = now() + timedelta(seconds=expires_in)
    payload = {
        "action": _READ,
        "media": record.id.hex,
        "expires": _milliseconds(expires),
        "identity": identity,
        "revoked": _revocation(record),
        "public": record.is_public,
        "maker": maker,
        "claims": dict(claims or {}),
    }

    url = content_url(record)
    signature = _serializer().dumps(payload)
    return f"{url}?{PARAMETER}={signature}", expires


def read_link(signature: str) -> Link | None:
    """The link that a signature vouches for; ``None`` if we did not make it."""
    try:
        payload = _serializer().loads(signature)
    except BadSignature:
        return None
    if isinstance(payload, list):
        return _oldest_link(payload)
    return _link(payload)


def _link(payload: dict[str, t.Any]) -> Link | None:
    # More in it may mean less: a later version has restricted the link to something.
    has_maker = payload.keys() == _FIELDS
    if not has_maker and payload.keys() != _EARLIER_FIELDS:
        return None
    if payload["action"] != _READ:
        return None

    return Link(
        uuid.UUID(payload["media"]),
        payload["expires"],
        payload["identity"],
        payload["revoked"],
        was_public=payload.get("public", False),
        maker=payload.get("maker"),
        claims=payload.get("claims", {}),
        has_maker=has_maker,
    )


def _oldest_link(payload: list[t.Any]) -> Link | None:
    """A link of the first format.

    That had a place for a variant of the content, and none for the revocation. Such a link opens
    until links of its record are revoked for the first time.
    """
    media_id, action, variant, _, expires, identity = payload
    if action != _READ or variant is not None:
        return None
    return Link(uuid.UUID(media_id), expires, identity, None, has_maker=False)


def _serializer() -> URLSafeSerializer:
    keys = get_state().settings.link_keys
    if not keys:
        raise ConfigurationError(
            "DUALMEDIA_LINK_KEYS is not set, and neither is SECRET_KEY: links cannot be signed"
        )

    oldest_first = list(reversed(keys))
    signer = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
    return URLSafeSerializer(oldest_first, salt=_SALT, signer_kwargs=signer)


def _milliseconds(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _revocation(record: Media) -> int | None:
    """The record's mark as a number."""
    if record.links_revoked_at is None:
        return None
    return _milliseconds(record.links_revoked_at)
