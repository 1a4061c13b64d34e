"""Who may do what: one rule, asked on every path to media, which a host may replace by its own."""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from bson import ObjectId
from bson.binary import ALL_UUID_SUBTYPES, Binary, UuidRepresentation
from flask_jwt_extended.config import config as jwt_config

from .databases.storable import plain
from .models import Media
from .repositories.base import EVERYTHING, M
from .state import State, get_state, request_notes

Action = t.Literal["read", "create", "edit", "delete", "link"]
"""``read`` a record and its bytes, ``create`` media of an owner, ``edit`` its fields or replace its
bytes, ``delete`` it, make a ``link`` to its bytes."""

Claims = t.Mapping[str, t.Any]
"""The claims of a verified JWT; none for who has no token."""


@dataclass(frozen=True)
class Owner:
    """The document that media of a kind is to belong to: what there is to judge by before media is
    created."""

    kind: type[Media]
    reference_type: str
    reference_id: str


Subject = Media | Owner

Reference = tuple[str, str]
"""What names a document: its type and its ``_id``, as a string."""


@dataclass(frozen=True)
class Viewer:
    """Whoever media is shown to: by a verified JWT, or nobody in particular."""

    identity: str | None
    claims: Claims

    def may(self, action: Action, subject: Subject) -> bool:
        return is_allowed(action, subject, self.identity, self.claims)

    @property
    def sees(self) -> t.Any:
        """What lists show, :attr:`~flask_dualmedia.repositories.base.Listing.visible_to`, where the
        database can tell: by the default rule. Of another rule it knows nothing."""
        if not reads_by_default() or (self.identity is not None and has_admin_role(self.claims)):
            return EVERYTHING
        return self.identity


def viewer_of(visible_to: t.Any) -> Viewer:
    """Whoever media is shown to.

    :param visible_to: An identity, the claims of a JWT, or ``None``.
    :raises TypeError: It is nothing of these.
    """
    if isinstance(visible_to, Mapping):
        identity = visible_to.get(jwt_config.identity_claim_key)
        return Viewer(None if identity is None else str(identity), visible_to)
    return Viewer(None if visible_to is None else reference_to(visible_to), {})


def readable(records: t.Iterable[M], visible_to: t.Any) -> t.Iterable[M]:
    """Those of these records that somebody may read.

    :param visible_to: As for :func:`viewer_of`; or
        :data:`~flask_dualmedia.repositories.base.EVERYTHING`, for all.
    """
    if visible_to is EVERYTHING:
        return records
    viewer, listed = viewer_of(visible_to), list(records)
    expect_owners(listed)
    rule = get_state().settings.authorize or default_rule
    return [record for record in listed if rule("read", record, viewer.identity, viewer.claims)]


def default_rule(action: Action, subject: Subject, identity: str | None, claims: Claims) -> bool:
    """The rule where the host has none: anybody reads public media, and its uploader and admins do
    everything.

    Media of a document of ``DUALMEDIA_REFERENCES`` is created by admins, and by the identity that
    the document names in its ``DUALMEDIA_OWNER_FIELD``; other media by anybody with a token. Rules
    of hosts may ask this one first and grant more.

    An admin has the claim ``role``, or a list ``roles``, with ``DUALMEDIA_ADMIN_ROLE``.
    """
    if isinstance(subject, Owner):
        return identity is not None and (has_admin_role(claims) or _is_named(subject, identity))
    if action in ("read", "link") and subject.is_public:
        return True
    return identity is not None and (subject.uploaded_by == identity or has_admin_role(claims))


def anyone_may_add(action: Action, subject: Subject, identity: str | None, claims: Claims) -> bool:
    """The default rule, but anybody with a token creates media of any document: for
    ``DUALMEDIA_AUTHORIZE``."""
    if isinstance(subject, Owner):
        return identity is not None
    return default_rule(action, subject, identity, claims)


def reads_by_default() -> bool:
    """Whether the rule of the current app says about reading what the default rule says, which
    databases know too."""
    return get_state().settings.authorize in (None, default_rule, anyone_may_add)


def has_admin_role(claims: Claims) -> bool:
    """Whether the claims are those of an admin."""
    role, roles = claims.get("role"), claims.get("roles")
    held = [role, *roles] if isinstance(roles, list) else [role]
    return get_state().settings.admin_role in held


def is_allowed(action: Action, subject: Subject, identity: str | None, claims: Claims) -> bool:
    """What the rule of the current app says: for views of hosts that show media, so that they show
    what the media routes would.

    :param identity: Of the caller, as in the JWT; ``None`` without a token.
    :param claims: Of the JWT; empty without a token.
    """
    rule = get_state().settings.authorize or default_rule
    return bool(rule(action, subject, identity, claims))


def get_owner(subject: Subject) -> dict[str, t.Any] | None:
    """The MongoDB document that media belongs to, or is to belong to, for rules that depend on it.

    It is read once per request. Those of all media on a page are read together.

    :return: ``None`` if it does not exist, or its type is not one of ``DUALMEDIA_REFERENCES``.
    :raises DatabaseUnavailable: MongoDB does not answer.
    """
    reference = _reference_of(subject)
    known = known_owners()
    if reference not in known:
        known |= _find_owners(get_state(), reference)
    return known[reference]


def expect_owners(records: t.Sequence[Media]) -> None:
    """Tell whose media the rule is about to be asked about: if it asks for one of these documents,
    all are read."""
    _expected_media().append(records)


def _find_owners(state: State, reference: Reference) -> dict[Reference, dict[str, t.Any] | None]:
    """A document, and in the same query those of its type that are expected."""
    reference_type = reference[0]
    expected = {_reference_of(record) for records in _expected_media() for record in records}
    wanted = {one for one in expected if one[0] == reference_type} - known_owners().keys() | {
        reference
    }

    collection = state.settings.references.get(reference_type)
    if collection is None or len(wanted) == 1:
        return {one: find_owner(state, *one) for one in wanted}
    ids = [possible for _, reference_id in wanted for possible in possible_ids(reference_id)]
    with state.mongo.asked():
        documents = {
            document["_id"]: document
            for document in state.mongo[collection].find({"_id": {"$in": ids}})
        }
    return {one: _document_for(one[1], documents) for one in wanted}


def _document_for(
    reference_id: str, documents: t.Mapping[t.Any, dict[str, t.Any]]
) -> dict[str, t.Any] | None:
    found = (documents.get(possible) for possible in possible_ids(reference_id))
    return next((document for document in found if document is not None), None)


def remember_owner(reference_type: str, document: t.Mapping[str, t.Any]) -> None:
    """Tell of a document that the request has just read, or inserted, so that it is not looked for
    again: neither by :func:`get_owner` nor before media is saved.

    :param reference_type: What it is, as in ``DUALMEDIA_REFERENCES``.
    :param document: Whole, with its ``_id``.
    """
    known_owners()[reference_type, reference_to(document["_id"])] = dict(document)


def known_owners() -> dict[Reference, dict[str, t.Any] | None]:
    """Documents by what media names them by, as far as the request has asked for them."""
    return request_notes().setdefault("owners", {})


def _expected_media() -> list[t.Sequence[Media]]:
    return request_notes().setdefault("expected_media", [])


def _named_owners() -> dict[Reference, dict[str, t.Any] | None]:
    """Of documents, their ids and whom they name, which the next look at the same ones need not ask
    for again."""
    return request_notes().setdefault("named_owners", {})


def _is_named(owner: Owner, identity: str) -> bool:
    """Whether an identity is one that the document names; anybody's is where there is no document
    to look at."""
    settings = get_state().settings
    if owner.reference_type not in settings.references:
        return True
    field = settings.owner_fields.get(owner.reference_type)
    if field is None:
        return False
    reference = _reference_of(owner)
    document = known_owners().get(reference)
    if document is None:
        document = _named_owners()[reference] = _find_named(get_state(), reference)
    return document is not None and _names_identity(document, field, identity)


def why_not_added(owner: Owner) -> str:
    """The sentence for a caller whom the rule does not let add media to a document."""
    settings = get_state().settings
    if (
        settings.authorize not in (None, default_rule)
        or owner.reference_type not in settings.references
    ):
        return "You may not add media here."
    if owner.reference_type in settings.owner_fields:
        return f"Only admins and the owner of this {owner.reference_type} may add media to it."
    return (
        f"Only admins may add media to this {owner.reference_type}: "
        "DUALMEDIA_OWNER_FIELD names no field that has its owner."
    )


def find_named_owner(
    state: State, reference_type: str, reference_id: str
) -> dict[str, t.Any] | None:
    """At least the ``_id`` of a document. What the rule has just asked for is not looked for again,
    once."""
    reference = (reference_type, reference_id)
    document = known_owners().get(reference)
    if document is not None:
        return document
    named = _named_owners()
    return named.pop(reference) if reference in named else _find_named(state, reference)


def _find_named(state: State, reference: Reference) -> dict[str, t.Any] | None:
    projection = {"_id": 1}
    field = state.settings.owner_fields.get(reference[0])
    if field is not None:
        projection[field] = 1
    return find_owner(state, *reference, projection=projection)


def _names_identity(document: t.Mapping[str, t.Any], field: str, identity: str) -> bool:
    """Whether a field of a document has an identity, or a list with it.

    It may be a path: dots lead into documents within, and into lists of them, as in MongoDB's
    queries.
    """
    values: list[t.Any] = [document]
    for name in field.split("."):
        inner = [value.get(name) for value in values if isinstance(value, dict)]
        values = [one for value in inner for one in (value if isinstance(value, list) else [value])]
    return any(_is_identity(value, identity) for value in values)


def _is_identity(value: t.Any, identity: str) -> bool:
    try:
        return reference_to(value) == identity
    except TypeError:
        return False


def _reference_of(subject: Subject) -> Reference:
    reference_id = subject.reference_id if isinstance(subject, Owner) else subject.owner_id
    return subject.reference_type, reference_id


def find_owner(
    state: State,
    reference_type: str,
    reference_id: str,
    *,
    projection: t.Mapping[str, t.Any] | None = None,
) -> dict[str, t.Any] | None:
    """A document by what media names it by; ``None`` too where the host did not say in which
    collection it would be."""
    collection = state.settings.references.get(reference_type)
    if collection is None:
        return None
    with state.mongo.asked():
        return state.mongo[collection].find_one(
            {"_id": {"$in": possible_ids(reference_id)}}, projection
        )


def reference_to(value: t.Any) -> str:
    """The string by which media names a document.

    :param value: Its ``_id``: a string, an ``ObjectId``, an integer or a UUID, as ``UUID`` or as
        ``Binary``.
    :raises TypeError: It is of another type. By its string the document could not be found again.
    """
    value = plain(value)
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__repr__(value)
    if isinstance(value, ObjectId | uuid.UUID):
        return str(value)
    if isinstance(value, Binary) and value.subtype in ALL_UUID_SUBTYPES and len(value) == 16:
        return str(uuid.UUID(bytes=bytes(value)))
    raise TypeError(
        f"media belongs to a document whose _id is a string, an ObjectId, an integer or a UUID, "
        f"not {type(value).__name__}"
    )


def possible_ids(reference_id: str) -> list[t.Any]:
    """The ``_id`` values that a reference id may stand for: we keep strings, hosts use what they
    like."""
    ids: list[t.Any] = [reference_id]
    if ObjectId.is_valid(reference_id):
        ids.append(ObjectId(reference_id))
    if (
        reference_id.removeprefix("-").isdecimal()
        and str(number := int(reference_id[:20])) == reference_id
    ):
        ids += [number] if -(2**63) <= number < 2**63 else []
    with suppress(ValueError):
        identifier = uuid.UUID(reference_id)
        ids.append(identifier)
        ids += [Binary.from_uuid(identifier, representation) for representation in _LEGACY]
    return ids


def one_id(state: State, reference_id: str, document_id: t.Any) -> str:
    """The one id by which media names a document, whatever spelling a request uses.

    :param reference_id: A spelling of it, in capitals or with braces perhaps.
    :param document_id: ``_id`` of the document that :func:`find_owner` found for it.
    """
    if not isinstance(document_id, Binary):
        return reference_to(document_id)
    # A UUID of an old client: which one it is depends on the client.
    representation = state.mongo.client.codec_options.uuid_representation
    if representation in _LEGACY:
        return str(document_id.as_uuid(representation))
    return str(uuid.UUID(reference_id))


def is_usual(reference_id: str) -> bool:
    """Whether an id is spelled as :func:`reference_to` does, as nearly all are. Only a string that
    the app uses as an ``_id`` may be spelled otherwise."""
    if len(reference_id) < _SHORTEST:
        return True
    with suppress(ValueError):
        return str(uuid.UUID(reference_id)) == reference_id
    return not ObjectId.is_valid(reference_id) or str(ObjectId(reference_id)) == reference_id


def usual_id(state: State, reference_type: str, reference_id: str) -> str:
    """The one id of a document. It is looked for only where the spelling is an unusual one.

    :return: What was given, where there is no such document.
    """
    if is_usual(reference_id):
        return reference_id
    document = find_owner(state, reference_type, reference_id, projection={"_id": 1})
    return reference_id if document is None else one_id(state, reference_id, document["_id"])


_LEGACY = (
    UuidRepresentation.PYTHON_LEGACY,
    UuidRepresentation.JAVA_LEGACY,
    UuidRepresentation.CSHARP_LEGACY,
)
"""Forms in which the host's client, which need not be ours, may keep UUIDs."""

_SHORTEST = 24
"""Characters of the shortest id that has more than one spelling, an ``ObjectId``."""
