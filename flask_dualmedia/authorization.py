"""The rule about who may do what.

It is asked on every path to media, and a host may replace it by its own.
"""

from __future__ import annotations

import typing as t
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from bson import ObjectId
from bson.binary import ALL_UUID_SUBTYPES, Binary, UuidRepresentation
from flask_jwt_extended.config import config as jwt_config

from .databases.storable import plain
from .models import Media
from .repositories.base import EVERYTHING, K
from .state import State, get_state, request_notes

Action = t.Literal["read", "create", "edit", "delete", "link"]
"""``read`` a record and its bytes, ``create`` media of an owner, ``edit`` its fields or replace its
bytes, ``delete`` it, make a ``link`` to its bytes."""

Claims = t.Mapping[str, t.Any]
"""The claims of a verified JWT; empty without a token."""


@dataclass(frozen=True)
class Owner:
    """The document that media of a kind is to belong to.

    Before media is created, that is all there is to judge by.
    """

    kind: type[Media]
    reference_type: str
    reference_id: str


Subject = Media | Owner

Reference = tuple[str, str]
"""The name of a document: its type and its ``_id``, as a string."""

Document = dict[str, t.Any]


@dataclass(frozen=True)
class Viewer:
    """Whoever media is shown to: by a verified JWT, or nobody in particular."""

    identity: str | None
    claims: Claims

    def may(self, action: Action, subject: Subject) -> bool:
        return is_allowed(action, subject, self.identity, self.claims)

    @property
    def sees(self) -> t.Any:
        """The value of :attr:`~flask_dualmedia.repositories.base.Listing.visible_to` for lists.

        A database can tell what somebody may read by the default rule. It knows nothing of other
        rules: then lists are not narrowed there.
        """
        if not reads_by_default():
            return EVERYTHING
        if self.identity is not None and has_admin_role(self.claims):
            return EVERYTHING
        return self.identity


def viewer_of(visible_to: t.Any) -> Viewer:
    """Whoever media is shown to.

    :param visible_to: An identity, the claims of a JWT, or ``None``.
    :raises TypeError: It is nothing of these.
    """
    if visible_to is None:
        return Viewer(None, {})
    if not isinstance(visible_to, Mapping):
        return Viewer(reference_to(visible_to), {})

    identity = visible_to.get(jwt_config.identity_claim_key)
    if identity is not None:
        identity = str(identity)
    return Viewer(identity, visible_to)


def readable(records: t.Iterable[K], visible_to: t.Any) -> t.Iterable[K]:
    """The records among these that somebody may read.

    :param visible_to: As for :func:`viewer_of`; or
        :data:`~flask_dualmedia.repositories.base.EVERYTHING`, for all.
    """
    if visible_to is EVERYTHING:
        return records

    viewer = viewer_of(visible_to)
    listed = list(records)
    expect_owners(listed)
    rule = get_state().settings.authorize or default_rule
    return [record for record in listed if rule("read", record, viewer.identity, viewer.claims)]


def default_rule(action: Action, subject: Subject, identity: str | None, claims: Claims) -> bool:
    """The rule where the host has none.

    Anybody reads public media. Its uploader and admins do everything with it.

    Admins create media of a document of ``DUALMEDIA_REFERENCES``, and so does the identity that the
    document names in its ``DUALMEDIA_OWNER_FIELD``. Anybody with a token creates other media. Rules
    of hosts may ask this one first and grant more.

    An admin has the claim ``role``, or a list ``roles``, with ``DUALMEDIA_ADMIN_ROLE``.
    """
    if isinstance(subject, Owner):
        return identity is not None and (has_admin_role(claims) or _is_named(subject, identity))
    if action in ("read", "link") and subject.is_public:
        return True
    return identity is not None and (subject.uploaded_by == identity or has_admin_role(claims))


def anyone_may_add(action: Action, subject: Subject, identity: str | None, claims: Claims) -> bool:
    """The default rule, but anybody with a token creates media of any document.

    A host that wants it sets ``DUALMEDIA_AUTHORIZE`` to it.
    """
    if isinstance(subject, Owner):
        return identity is not None
    return default_rule(action, subject, identity, claims)


def reads_by_default() -> bool:
    """Whether the rule of the current app says about reading what the default rule says.

    Databases know that one too.
    """
    return get_state().settings.authorize in (None, default_rule, anyone_may_add)


def has_admin_role(claims: Claims) -> bool:
    """Whether the claims are those of an admin."""
    role = claims.get("role")
    roles = claims.get("roles")
    all_roles = [role]
    if isinstance(roles, list):
        all_roles += roles
    return get_state().settings.admin_role in all_roles


def is_allowed(action: Action, subject: Subject, identity: str | None, claims: Claims) -> bool:
    """The answer of the current app's rule.

    Views of hosts that show media ask it, so that they show what the media routes would.

    :param identity: The caller's, as in the JWT; ``None`` without a token.
    :param claims: Those of the JWT; empty without a token.
    """
    rule = get_state().settings.authorize or default_rule
    return bool(rule(action, subject, identity, claims))


def get_owner(subject: Subject) -> Document | None:
    """The MongoDB document that media belongs to, or is to belong to.

    Rules that depend on it may ask for it: it is read once per request. Those of all media on a
    page are read together.

    :return: ``None`` if it does not exist, or its type is not one of ``DUALMEDIA_REFERENCES``.
    :raises DatabaseUnavailable: MongoDB does not answer.
    """
    reference = _reference_of(subject)
    owners = known_owners()
    if reference not in owners:
        owners |= _find_owners(get_state(), reference)
    return owners[reference]


def expect_owners(records: t.Sequence[Media]) -> None:
    """Tell whose media the rule is about to be asked about.

    If it asks for one of these documents, all are read.
    """
    _expected_media().append(records)


def _find_owners(state: State, reference: Reference) -> dict[Reference, Document | None]:
    """Find a document, and in the same query those of its type that are expected."""
    reference_type = reference[0]
    references = _unread_references(reference_type)
    references.add(reference)

    collection = state.settings.references.get(reference_type)
    if collection is None or len(references) == 1:
        return {one: find_owner(state, *one) for one in references}

    ids: list[t.Any] = []
    for _, reference_id in references:
        ids += possible_ids(reference_id)
    with state.mongo.asked():
        found = state.mongo[collection].find({"_id": {"$in": ids}})
        documents = {document["_id"]: document for document in found}
    return {one: _document_for(one[1], documents) for one in references}


def _unread_references(reference_type: str) -> set[Reference]:
    """The documents of a type that are expected, and have not been read yet."""
    owners = known_owners()
    references: set[Reference] = set()
    for records in _expected_media():
        for record in records:
            reference = _reference_of(record)
            if reference[0] == reference_type and reference not in owners:
                references.add(reference)
    return references


def _document_for(
    reference_id: str,
    documents: t.Mapping[t.Any, Document],
) -> Document | None:
    for possible_id in possible_ids(reference_id):
        document = documents.get(possible_id)
        if document is not None:
            return document
    return None


def remember_owner(reference_type: str, document: t.Mapping[str, t.Any]) -> None:
    """Tell of a document that the request has just read, or inserted.

    It is not looked for again then: neither by :func:`get_owner` nor before media is saved.

    :param reference_type: The type, as in ``DUALMEDIA_REFERENCES``.
    :param document: Whole, with its ``_id``.
    """
    reference_id = reference_to(document["_id"])
    known_owners()[reference_type, reference_id] = dict(document)


def known_owners() -> dict[Reference, Document | None]:
    """Documents by what media names them by, as far as the request has asked for them."""
    return request_notes().setdefault("owners", {})


def _expected_media() -> list[t.Sequence[Media]]:
    return request_notes().setdefault("expected_media", [])


def _named_owners() -> dict[Reference, Document | None]:
    """Documents of which the request has read the id and the owner's identity alone.

    The next look at the same ones need not ask for them again.
    """
    return request_notes().setdefault("named_owners", {})


def _is_named(owner: Owner, identity: str) -> bool:
    """Whether a document names an identity as its owner.

    Where there is no document to look at, any identity will do.
    """
    settings = get_state().settings
    if owner.reference_type not in settings.references:
        return True
    field = settings.owner_fields.get(owner.reference_type)
    if field is None:
        return False

    reference = _reference_of(owner)
    document = known_owners().get(reference)
    if document is None:
        document = _find_named(get_state(), reference)
        _named_owners()[reference] = document
    return document is not None and _names_identity(document, field, identity)


def why_not_added(owner: Owner) -> str:
    """The sentence for a caller whom the rule does not let add media to a document."""
    settings = get_state().settings
    has_default_rule = settings.authorize in (None, default_rule)
    if not has_default_rule or owner.reference_type not in settings.references:
        return "You may not add media here."
    if owner.reference_type in settings.owner_fields:
        return f"Only admins and the owner of this {owner.reference_type} may add media to it."
    return (
        f"Only admins may add media to this {owner.reference_type}: "
        "DUALMEDIA_OWNER_FIELD names no field that has its owner."
    )


def find_named_owner(state: State, reference_type: str, reference_id: str) -> Document | None:
    """At least the ``_id`` of a document.

    If the rule has just asked for it, it is not looked for again, once.
    """
    reference = (reference_type, reference_id)
    document = known_owners().get(reference)
    if document is not None:
        return document

    owners = _named_owners()
    if reference in owners:
        return owners.pop(reference)
    return _find_named(state, reference)


def _find_named(state: State, reference: Reference) -> Document | None:
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
        values = list(_values_within(values, name))
    return any(_is_identity(value, identity) for value in values)


def _values_within(values: list[t.Any], name: str) -> Iterator[t.Any]:
    """The values of a field of some documents, or those in its lists."""
    for value in values:
        if not isinstance(value, dict):
            continue
        inner = value.get(name)
        if isinstance(inner, list):
            yield from inner
        else:
            yield inner


def _is_identity(value: t.Any, identity: str) -> bool:
    try:
        return reference_to(value) == identity
    except TypeError:
        return False


def _reference_of(subject: Subject) -> Reference:
    if isinstance(subject, Owner):
        return subject.reference_type, subject.reference_id
    return subject.reference_type, subject.owner_id


def find_owner(
    state: State,
    reference_type: str,
    reference_id: str,
    *,
    projection: t.Mapping[str, t.Any] | None = None,
) -> Document | None:
    """A document by what media names it by.

    :return: ``None`` if there is none, or the host did not say in which collection it would be.
    """
    collection = state.settings.references.get(reference_type)
    if collection is None:
        return None

    selected = {"_id": {"$in": possible_ids(reference_id)}}
    with state.mongo.asked():
        return state.mongo[collection].find_one(selected, projection)


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
    """The ``_id`` values that a reference id may stand for.

    We keep strings, hosts use what they like.
    """
    ids: list[t.Any] = [reference_id]
    if ObjectId.is_valid(reference_id):
        ids.append(ObjectId(reference_id))
    if reference_id.removeprefix("-").isdecimal():
        number = int(reference_id[:20])
        is_canonical = str(number) == reference_id
        if is_canonical and -(2**63) <= number < 2**63:
            ids.append(number)

    with suppress(ValueError):
        identifier = uuid.UUID(reference_id)
        ids.append(identifier)
        for representation in _LEGACY:
            ids.append(Binary.from_uuid(identifier, representation))
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
    """Whether an id is spelled as :func:`reference_to` does, as nearly all are.

    Only a string that the app uses as an ``_id`` may be spelled otherwise.
    """
    if len(reference_id) < _SHORTEST:
        return True
    with suppress(ValueError):
        return str(uuid.UUID(reference_id)) == reference_id
    return not ObjectId.is_valid(reference_id) or str(ObjectId(reference_id)) == reference_id


def usual_id(state: State, reference_type: str, reference_id: str) -> str:
    """The one id of a document. It is looked for only where the spelling is an unusual one.

    :return: The id as it came, where there is no such document.
    """
    if is_usual(reference_id):
        return reference_id
    document = find_owner(state, reference_type, reference_id, projection={"_id": 1})
    if document is None:
        return reference_id
    return one_id(state, reference_id, document["_id"])


_LEGACY = (
    UuidRepresentation.PYTHON_LEGACY,
    UuidRepresentation.JAVA_LEGACY,
    UuidRepresentation.CSHARP_LEGACY,
)
"""Forms in which the host's client, which need not be ours, may keep UUIDs."""

_SHORTEST = 24
"""Characters of the shortest id that has more than one spelling, an ``ObjectId``."""
