"""Every setting, its default and its check, read once in ``init_app``."""

from __future__ import annotations

import logging
import math
import os
import re
import typing as t
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy import exc

from .content.inline_types import read_inline_types
from .content.policy import Policy, read_policies
from .content.sniffing import sniff
from .content.uploads import Sniffer
from .databases.collections import BUCKET
from .errors import ConfigurationError
from .known_settings import Watched, warn_of_unknown
from .models import KINDS
from .storages.outside import check_options

if t.TYPE_CHECKING:
    from .models import Media

logger = logging.getLogger("flask_dualmedia")

LINK_KEY_SIZE = 32
"""Bytes that a key has at least which nobody guesses: as many as the HMAC with it, SHA-256 (RFC
2104, section 3)."""

_TRUE = {"true", "1", "yes", "on", "t", "y"}
_FALSE = {"false", "0", "no", "off", "f", "n", ""}

Validator = t.Callable[["Media", bytes], None]

DEFAULT_REFERENCES = {"product": "products", "course": "courses", "user": "users"}

DEFAULT_OWNER_FIELDS = {"user": "_id"}


@dataclass(frozen=True)
class Settings:
    """What the host configured. The names in capitals are keys of ``app.config``."""

    sql_enabled: bool
    """``DB_ENABLED``: media live in SQL. Default: true when SQL is configured."""
    sql_url: sa.URL | None
    """``SQLALCHEMY_DATABASE_URI``, or built from ``DB_NAME DB_USER DB_PASSWORD DB_HOST DB_PORT``.
    ``None`` when the host brings its own Flask-SQLAlchemy or nothing is configured; where SQL is
    off, the one to transfer to."""
    url_prefix: str
    """``DUALMEDIA_URL_PREFIX``: where the blueprint is mounted. Default ``/media``."""
    host: str | None
    """``DUALMEDIA_HOST``: where an app that matches hosts (``Flask(host_matching=True)``) has the
    media routes, as in its own routes. Needed there, and only there."""
    subdomain: str | None
    """``DUALMEDIA_SUBDOMAIN``: where an app that matches subdomains has the media routes. Default:
    its main one."""
    blueprint_name: str
    """``DUALMEDIA_BLUEPRINT_NAME``: name of the blueprint, which begins the names of its endpoints.
    Default ``dualmedia``."""
    table_prefix: str
    """``DUALMEDIA_TABLE_PREFIX``: stands before the name of every table, index and constraint of
    ours in SQL, and of the table with the state of our revisions. At most 20 lowercase letters,
    digits and underscores. Default none."""
    collection_prefix: str
    """``DUALMEDIA_COLLECTION_PREFIX``: stands before the name of every collection of ours in
    MongoDB, but of those that ``DUALMEDIA_BUCKET`` names. Default none."""
    bucket: str
    """``DUALMEDIA_BUCKET``: name of the GridFS bucket that has the bytes in Mongo-only mode. The
    bucket that has them while SQL is down is called the same with ``_journal`` behind it. Default
    ``media``."""
    references: t.Mapping[str, str]
    """``DUALMEDIA_REFERENCES``: reference type to MongoDB collection. Owners of these types must
    exist. Default product, course and user; merged with what the host gives, and ``None`` as the
    collection turns the check off."""
    owner_fields: t.Mapping[str, str]
    """``DUALMEDIA_OWNER_FIELD``: the field of documents that has the identity, or a list of
    identities, that may add media to them under the default rule: one name for all types of
    ``DUALMEDIA_REFERENCES``, or a mapping from types to names. Default ``{"user": "_id"}``: to
    others, admins alone add media."""
    auto_upgrade: bool | None
    """``DUALMEDIA_AUTO_UPGRADE``: bring the schema up to date at start-up. Default: unless the host
    has a Flask-Migrate of its own."""
    max_size: int | None
    """``DUALMEDIA_MAX_SIZE``: largest accepted file in bytes. Default 5 GiB; ``None`` for no
    limit."""
    least_rate: float
    """``DUALMEDIA_LEAST_RATE``: bytes per second that a body of a media route must come at, at
    least; 0 for no limit. Default 1024."""
    least_rate_seconds: float
    """``DUALMEDIA_LEAST_RATE_SECONDS``: for how long a body may be slower than that before it is
    answered with 408. Default 30."""
    admin_role: str
    """``DUALMEDIA_ADMIN_ROLE``: value of the JWT claim ``role``, or one of the claim ``roles``,
    that makes an admin. Default ``admin``."""
    sniffer: Sniffer
    """``DUALMEDIA_SNIFFER``: ``(head: bytes) -> str | None``, tells the MIME type from the first
    bytes, up to 1 MiB."""
    connect_timeout: float
    """``DUALMEDIA_CONNECT_TIMEOUT``: seconds to wait for a database that we connect to. Default
    2."""
    sql_timeout: float
    """``DUALMEDIA_SQL_TIMEOUT``: seconds that SQL has to answer about records, and five times as
    many to take or give a few MiB of bytes, before it is taken to be down. On PostgreSQL with
    psycopg. Default 2."""
    mongo_timeout: float
    """``DUALMEDIA_MONGO_TIMEOUT``: seconds that MongoDB has to answer us, whatever the client's own
    settings are, and five times as many to take or give a few MiB of bytes. Default 2."""
    probe_interval: float
    """``DUALMEDIA_PROBE_INTERVAL``: seconds between two looks whether SQL, or MongoDB, is back.
    Default 1."""
    upkeep: bool
    """``DUALMEDIA_UPKEEP``: sweep, clear leftovers of outages and verify checksums, a little at a
    time, by a thread of one process of all. Default true; false leaves it to ``flask dualmedia
    sweep`` and ``check``, by cron."""
    journals: bool
    """``DUALMEDIA_ON_SQL_OUTAGE``: ``journal`` accepts new media into MongoDB while SQL is down,
    ``refuse`` answers
    503. Default ``journal``."""
    journal_max_size: int | None
    """``DUALMEDIA_JOURNAL_MAX_SIZE``: bytes that the journal may hold while SQL is down, and one
    uploader a quarter of it. What comes beyond is answered with 503. Default 10 GiB; ``None`` for
    no limit."""
    auto_drain: bool
    """``DUALMEDIA_AUTO_DRAIN``: move the journal into SQL when SQL is back; otherwise ``flask
    dualmedia drain`` does. Default true."""
    deletes_ownerless: bool
    """``DUALMEDIA_ON_OWNER_DELETE``: what ``flask dualmedia check --repair`` does with media whose
    document is gone: ``delete`` it, or ``keep`` and report it. Default ``delete``."""
    repair_share: float
    """``DUALMEDIA_REPAIR_SHARE``: fraction of a table, or of a storage, up to which ``flask
    dualmedia check --repair`` deletes by itself where that is more than ten, and never more than
    half. Default 0.01."""
    grace: float
    """``DUALMEDIA_GRACE``: age in seconds after which the sweep takes an unfinished upload for
    dead. Default 3600."""
    trash_seconds: float
    """``DUALMEDIA_TRASH_SECONDS``: how long what ``flask dualmedia check --repair`` took away is
    kept, to be brought back by ``check --restore``. Default a week."""
    authorize: t.Callable[..., bool] | None
    """``DUALMEDIA_AUTHORIZE``: ``(action, record or owner, identity, claims) -> bool``, who may do
    what. ``None`` for
    :func:`~flask_dualmedia.authorization.default_rule`."""
    link_keys: tuple[bytes, ...] = field(repr=False)
    """``DUALMEDIA_LINK_KEYS``: keys that sign links, the one in use first, then those of links that
    still hold. Default: ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS``, without them
    ``JWT_SECRET_KEY``."""
    link_seconds: float
    """``DUALMEDIA_LINK_SECONDS``: how long a signed link holds where the request does not say.
    Default 3600."""
    link_max_seconds: float
    """``DUALMEDIA_LINK_MAX_SECONDS``: the longest that a request may ask for. Default a week."""
    link_claims: tuple[str, ...]
    """``DUALMEDIA_LINK_CLAIMS``: names of the claims that a link carries where its maker may read
    by them alone. Whoever has the link can read them. Default ``role`` and ``roles``."""
    count_reads: bool
    """``DUALMEDIA_COUNT_READS``: count whoever begins to read content. Default true."""
    count_window: float
    """``DUALMEDIA_COUNT_WINDOW``: seconds in which the same reader of the same media counts once; 0
    counts every time. Default 1800."""
    count_interval: float
    """``DUALMEDIA_COUNT_INTERVAL``: seconds between two writes of what each process counted.
    Default 1."""
    policies: t.Mapping[str, Policy]
    """``DUALMEDIA_POLICY``: what each kind accepts, by its name in URLs. What is not given has a
    default that works: see :class:`~flask_dualmedia.content.policy.Policy`."""
    inline_types: frozenset[str]
    """``DUALMEDIA_INLINE_TYPES``: MIME types that browsers show, beside pictures, films and sound,
    when content is opened as a page: ``["application/pdf"]``. Never one that could run. Default
    none."""
    validator: Validator | None
    """``DUALMEDIA_VALIDATOR``: ``(record, head: bytes) -> None``, called with the record as it
    would be kept and up to 1 MiB from the start of its bytes, after the policy's checks; raises
    ``UploadRejected`` to refuse. Default none."""
    quota_per_identity: int | None
    """``DUALMEDIA_QUOTA_PER_IDENTITY``: bytes that one uploader may keep. Default ``None``, no
    limit."""
    quota_per_owner: int | None
    """``DUALMEDIA_QUOTA_PER_OWNER``: bytes that may belong to one document. Default ``None``, no
    limit."""
    upload_expires: float
    """``DUALMEDIA_UPLOAD_EXPIRES``: seconds that a resumable upload is kept after its last byte
    came. Default 86400."""
    max_unfinished: int | None
    """``DUALMEDIA_MAX_UNFINISHED``: unfinished uploads that one identity may have at a time,
    resumable and direct ones together. Default 100; ``None`` for any number."""
    storages: t.Mapping[str, t.Mapping[str, t.Any]] = field(repr=False)
    """``DUALMEDIA_STORAGES``: options of the storages outside of the databases, by
    ``storage_type``. Default none."""
    default_storages: t.Mapping[str, str]
    """``DUALMEDIA_DEFAULT_STORAGE``: where the bytes of each kind go, one name for all or a mapping
    from kinds (as in URLs) to names. Default ``database``."""
    allowed_storages: frozenset[str]
    """``DUALMEDIA_ALLOWED_STORAGES``: names that a request may choose beside the default. Default
    none."""

    @classmethod
    def from_config(cls, config: t.Mapping[str, t.Any], *, host_has_sql: bool) -> Settings:
        """Read and check the settings.

        :param config: ``app.config``; the names starting with ``DB_`` are also looked for in the
            environment.
        :param host_has_sql: The host set up Flask-SQLAlchemy itself, so there is no URL to build.
        :raises ConfigurationError: Naming the key that is missing or wrong.
        """
        config = Watched(config)

        def part(key: str) -> t.Any:
            return config[key] if config.get(key) is not None else os.environ.get(key)

        uri = config.get("SQLALCHEMY_DATABASE_URI")
        configured = host_has_sql or uri is not None or part("DB_NAME") is not None
        enabled = _boolean("DB_ENABLED", part("DB_ENABLED"), default=configured)
        if enabled and not configured:
            raise ConfigurationError(
                "DB_ENABLED is true, but there is no SQL database: set SQLALCHEMY_DATABASE_URI or DB_NAME"
            )
        url = None
        if configured and not host_has_sql:
            url = _parse_url(uri) if uri is not None else _build_url(part)
        if enabled and url is not None:
            check_driver(url.drivername)
        auto_upgrade, rule = config.get("DUALMEDIA_AUTO_UPGRADE"), config.get("DUALMEDIA_AUTHORIZE")
        max_size = _bytes("DUALMEDIA_MAX_SIZE", config.get("DUALMEDIA_MAX_SIZE", 5 * 1024**3))
        validator = config.get("DUALMEDIA_VALIDATOR")
        settings = cls(
            sql_enabled=enabled,
            sql_url=url,
            url_prefix=_prefix(config.get("DUALMEDIA_URL_PREFIX", "/media")),
            host=_optional_text("DUALMEDIA_HOST", config.get("DUALMEDIA_HOST")),
            subdomain=_optional_text("DUALMEDIA_SUBDOMAIN", config.get("DUALMEDIA_SUBDOMAIN")),
            blueprint_name=_blueprint_name(config.get("DUALMEDIA_BLUEPRINT_NAME", "dualmedia")),
            table_prefix=_table_prefix(config.get("DUALMEDIA_TABLE_PREFIX", "")),
            collection_prefix=_collection_name(
                "DUALMEDIA_COLLECTION_PREFIX", config.get("DUALMEDIA_COLLECTION_PREFIX", "")
            ),
            bucket=_bucket(config.get("DUALMEDIA_BUCKET", BUCKET)),
            references=(references := _references(config.get("DUALMEDIA_REFERENCES", {}))),
            owner_fields=_owner_fields(config.get("DUALMEDIA_OWNER_FIELD"), references),
            auto_upgrade=None
            if auto_upgrade is None
            else _boolean("DUALMEDIA_AUTO_UPGRADE", auto_upgrade),
            max_size=max_size,
            least_rate=_least_rate(config.get("DUALMEDIA_LEAST_RATE", 1024)),
            least_rate_seconds=_seconds(
                "DUALMEDIA_LEAST_RATE_SECONDS", config.get("DUALMEDIA_LEAST_RATE_SECONDS", 30)
            ),
            admin_role=_text("DUALMEDIA_ADMIN_ROLE", config.get("DUALMEDIA_ADMIN_ROLE", "admin")),
            sniffer=_callable("DUALMEDIA_SNIFFER", config.get("DUALMEDIA_SNIFFER", sniff)),
            connect_timeout=_seconds(
                "DUALMEDIA_CONNECT_TIMEOUT", config.get("DUALMEDIA_CONNECT_TIMEOUT", 2)
            ),
            sql_timeout=_seconds("DUALMEDIA_SQL_TIMEOUT", config.get("DUALMEDIA_SQL_TIMEOUT", 2)),
            mongo_timeout=_seconds(
                "DUALMEDIA_MONGO_TIMEOUT", config.get("DUALMEDIA_MONGO_TIMEOUT", 2)
            ),
            probe_interval=_seconds(
                "DUALMEDIA_PROBE_INTERVAL", config.get("DUALMEDIA_PROBE_INTERVAL", 1)
            ),
            journals=_choice(config, "DUALMEDIA_ON_SQL_OUTAGE", "journal", "refuse"),
            journal_max_size=_bytes(
                "DUALMEDIA_JOURNAL_MAX_SIZE", config.get("DUALMEDIA_JOURNAL_MAX_SIZE", 10 * 1024**3)
            ),
            auto_drain=_boolean(
                "DUALMEDIA_AUTO_DRAIN", config.get("DUALMEDIA_AUTO_DRAIN"), default=True
            ),
            upkeep=_boolean("DUALMEDIA_UPKEEP", config.get("DUALMEDIA_UPKEEP"), default=True),
            deletes_ownerless=_choice(config, "DUALMEDIA_ON_OWNER_DELETE", "delete", "keep"),
            repair_share=_fraction(
                "DUALMEDIA_REPAIR_SHARE", config.get("DUALMEDIA_REPAIR_SHARE", 0.01)
            ),
            grace=_seconds("DUALMEDIA_GRACE", config.get("DUALMEDIA_GRACE", 3600)),
            trash_seconds=_seconds(
                "DUALMEDIA_TRASH_SECONDS",
                config.get("DUALMEDIA_TRASH_SECONDS", 7 * 86400),
                none=True,
            ),
            authorize=None if rule is None else _callable("DUALMEDIA_AUTHORIZE", rule),
            link_keys=_link_keys(config),
            link_seconds=_seconds(
                "DUALMEDIA_LINK_SECONDS", config.get("DUALMEDIA_LINK_SECONDS", 3600)
            ),
            link_max_seconds=_seconds(
                "DUALMEDIA_LINK_MAX_SECONDS",
                config.get("DUALMEDIA_LINK_MAX_SECONDS", 7 * 24 * 3600),
            ),
            link_claims=_names(
                "DUALMEDIA_LINK_CLAIMS", config.get("DUALMEDIA_LINK_CLAIMS", ("role", "roles"))
            ),
            count_reads=_boolean(
                "DUALMEDIA_COUNT_READS", config.get("DUALMEDIA_COUNT_READS"), default=True
            ),
            count_window=_seconds(
                "DUALMEDIA_COUNT_WINDOW", config.get("DUALMEDIA_COUNT_WINDOW", 1800), none=True
            ),
            count_interval=_seconds(
                "DUALMEDIA_COUNT_INTERVAL", config.get("DUALMEDIA_COUNT_INTERVAL", 1)
            ),
            policies=read_policies(config.get("DUALMEDIA_POLICY", {}), max_size),
            inline_types=read_inline_types(config.get("DUALMEDIA_INLINE_TYPES", ())),
            validator=None if validator is None else _callable("DUALMEDIA_VALIDATOR", validator),
            quota_per_identity=_bytes(
                "DUALMEDIA_QUOTA_PER_IDENTITY", config.get("DUALMEDIA_QUOTA_PER_IDENTITY")
            ),
            quota_per_owner=_bytes(
                "DUALMEDIA_QUOTA_PER_OWNER", config.get("DUALMEDIA_QUOTA_PER_OWNER")
            ),
            upload_expires=_seconds(
                "DUALMEDIA_UPLOAD_EXPIRES", config.get("DUALMEDIA_UPLOAD_EXPIRES", 86400)
            ),
            max_unfinished=_number(
                "DUALMEDIA_MAX_UNFINISHED", config.get("DUALMEDIA_MAX_UNFINISHED", 100)
            ),
            storages=(storages := check_options(config.get("DUALMEDIA_STORAGES", {}))),
            default_storages=_default_storages(
                config.get("DUALMEDIA_DEFAULT_STORAGE", "database"), storages
            ),
            allowed_storages=_allowed_storages(
                config.get("DUALMEDIA_ALLOWED_STORAGES", ()), storages
            ),
        )
        warn_of_unknown(config, config.asked)
        return settings


_DRIVERS = {"postgresql+psycopg", "postgresql+psycopg2", "sqlite", "sqlite+pysqlite"}


def check_driver(name: str) -> None:
    """Make sure that media can be kept in a database, whether its server is up or not.

    :param name: Of the dialect and the driver, as in URLs: ``postgresql+psycopg``.
    :raises ConfigurationError: It cannot.
    """
    if name not in _DRIVERS:
        raise ConfigurationError(
            f"SQLALCHEMY_DATABASE_URI is of {name}, where media cannot be kept: it needs PostgreSQL by psycopg "
            "(postgresql+psycopg://) or psycopg2, or SQLite for trying out; "
            "DB_ENABLED=false keeps media in MongoDB"
        )


def _boolean(key: str, value: t.Any, *, default: bool = False) -> bool:
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ConfigurationError(f"{key} is {value!r}, which is neither true nor false")


def _build_url(part: t.Callable[[str], t.Any]) -> sa.URL:
    """``URL.create`` takes the parts as they are: a name with a space, a password of any
    characters."""
    port = part("DB_PORT") or 5432
    try:
        number = int(port)
    except (TypeError, ValueError):
        number = 0
    if not _is_port(number):
        raise ConfigurationError(f"DB_PORT is {port!r}, which is not a port number")
    password = part("DB_PASSWORD")
    return sa.URL.create(
        "postgresql+psycopg",
        username=part("DB_USER") or None,
        password=str(password) if password not in (None, "") else None,
        host=part("DB_HOST") or "localhost",
        port=number,
        database=str(part("DB_NAME")),
    )


def _parse_url(uri: str | sa.URL) -> sa.URL:
    try:
        url = sa.make_url(uri)
    except (exc.ArgumentError, TypeError, ValueError):
        # The value may hold a password: it is neither quoted nor chained.
        raise ConfigurationError("SQLALCHEMY_DATABASE_URI is not a database URL") from None
    if not _is_port(url.port):
        raise ConfigurationError(
            f"SQLALCHEMY_DATABASE_URI has the port {url.port}, which is not a port number"
        )
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    return url


def _is_port(number: int | None) -> bool:
    return number is None or 0 < number < 2**16


def _prefix(value: t.Any) -> str:
    prefix = _text("DUALMEDIA_URL_PREFIX", value).strip("/")
    if not prefix:
        raise ConfigurationError(
            "DUALMEDIA_URL_PREFIX must not be empty: the blueprint would take the host's root"
        )
    return f"/{prefix}"


def _blueprint_name(value: t.Any) -> str:
    name = _text("DUALMEDIA_BLUEPRINT_NAME", value)
    if not name or "." in name:
        raise ConfigurationError(
            f"DUALMEDIA_BLUEPRINT_NAME is {name!r}; it must be a name without dots"
        )
    return name


def _table_prefix(value: t.Any) -> str:
    prefix = _text("DUALMEDIA_TABLE_PREFIX", value)
    # Names with it must need no quotes and be short enough for PostgreSQL, and ours must be known
    # from theirs.
    if prefix and not re.fullmatch(r"(?!(ix|uq|ck|pk|fk)_)[a-z_][a-z0-9_]{0,19}", prefix):
        raise ConfigurationError(
            f"DUALMEDIA_TABLE_PREFIX is {prefix!r}; it must be up to 20 lowercase letters, digits and underscores, "
            "not begin with a digit, nor with ix_, uq_, ck_, pk_ or fk_"
        )
    return prefix


def _collection_name(key: str, value: t.Any) -> str:
    name = _text(key, value)
    if "$" in name or "\0" in name or name.startswith(("system.", ".")) or len(name.encode()) > 60:
        raise ConfigurationError(f"{key} is {name!r}, with which MongoDB names no collection")
    return name


def _bucket(value: t.Any) -> str:
    bucket = _collection_name("DUALMEDIA_BUCKET", value)
    if not bucket or bucket.endswith("."):
        raise ConfigurationError(f"DUALMEDIA_BUCKET is {bucket!r}, which is not a name of a bucket")
    return bucket


def _references(value: t.Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigurationError(
            "DUALMEDIA_REFERENCES must map reference types to MongoDB collections"
        )
    merged = {**DEFAULT_REFERENCES, **value}
    return {key: collection for key, collection in merged.items() if collection is not None}


def _owner_fields(value: t.Any, references: t.Mapping[str, str]) -> dict[str, str]:
    key = "DUALMEDIA_OWNER_FIELD"
    if value is None:
        return dict(DEFAULT_OWNER_FIELDS)
    if isinstance(value, str):
        value = dict.fromkeys(references, value) | DEFAULT_OWNER_FIELDS
    if not isinstance(value, dict):
        raise ConfigurationError(
            f"{key} must be a name of a field, or map reference types to names"
        )
    chosen = {
        name: path for name, path in {**DEFAULT_OWNER_FIELDS, **value}.items() if path is not None
    }
    for name, path in chosen.items():
        if not isinstance(path, str) or path.startswith("$") or "" in path.split("."):
            raise ConfigurationError(f"{key}[{name!r}] is {path!r}, which is not a name of a field")
    if unknown := [
        name for name in value if name not in references and name not in DEFAULT_OWNER_FIELDS
    ]:
        raise ConfigurationError(
            f"{key} names {unknown[0]!r}, which is not in DUALMEDIA_REFERENCES"
        )
    return chosen


def _bytes(key: str, value: t.Any) -> int | None:
    return _number(key, value, "number of bytes")


def _number(key: str, value: t.Any, meaning: str = "number above 0") -> int | None:
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number <= 0:
        raise ConfigurationError(f"{key} is {value!r}, which is not a {meaning}")
    return number


def _seconds(key: str, value: t.Any, *, none: bool = False) -> float:
    """A time in seconds, which may be none at all where that is said."""
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    if seconds < 0 or (seconds == 0 and not none):
        raise ConfigurationError(f"{key} is {value!r}, which is not a number of seconds")
    return seconds


def _least_rate(value: t.Any) -> float:
    try:
        rate = float(value)
    except (TypeError, ValueError):
        rate = -1.0
    if not 0 <= rate < math.inf:
        raise ConfigurationError(
            f"DUALMEDIA_LEAST_RATE is {value!r}, which is not a number of bytes per second"
        )
    return rate


def _fraction(key: str, value: t.Any) -> float:
    try:
        fraction = float(value)
    except (TypeError, ValueError):
        fraction = -1.0
    if not 0 <= fraction <= 1:
        raise ConfigurationError(f"{key} is {value!r}, which is not a fraction between 0 and 1")
    return fraction


def _choice(config: t.Mapping[str, t.Any], key: str, yes: str, no: str) -> bool:
    """Whether the first and default of two words was chosen."""
    value = config.get(key, yes)
    if value not in (yes, no):
        raise ConfigurationError(f"{key} is {value!r}, which is neither {yes!r} nor {no!r}")
    return value == yes


def _default_storages(value: t.Any, storages: t.Mapping[str, t.Any]) -> dict[str, str]:
    key = "DUALMEDIA_DEFAULT_STORAGE"
    chosen: dict[str, t.Any] = value if isinstance(value, dict) else dict.fromkeys(KINDS, value)
    for kind, name in chosen.items():
        if kind not in KINDS:
            raise ConfigurationError(f"{key} has {kind!r}, which is none of {', '.join(KINDS)}")
        _check_storage(key, name, storages)
    return {kind: chosen.get(kind, "database") for kind in KINDS}


def _allowed_storages(value: t.Any, storages: t.Mapping[str, t.Any]) -> frozenset[str]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise ConfigurationError("DUALMEDIA_ALLOWED_STORAGES is not a list of names of storages")
    for name in value:
        _check_storage("DUALMEDIA_ALLOWED_STORAGES", name, storages)
    return frozenset(value)


def _check_storage(key: str, name: t.Any, storages: t.Mapping[str, t.Any]) -> None:
    if not isinstance(name, str) or name not in {"database", *storages}:
        raise ConfigurationError(f"{key} names {name!r}, which is not in DUALMEDIA_STORAGES")


def _names(key: str, value: t.Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ConfigurationError(f"{key} is {value!r}, which is not a list of names")
    return tuple(value)


def _text(key: str, value: t.Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{key} is {value!r}, which is not text")
    return value


def _optional_text(key: str, value: t.Any) -> str | None:
    return None if value is None else _text(key, value)


def _link_keys(config: t.Mapping[str, t.Any]) -> tuple[bytes, ...]:
    given = config.get("DUALMEDIA_LINK_KEYS")
    if given is None:
        own = (config.get("SECRET_KEY"), *(config.get("SECRET_KEY_FALLBACKS") or ()))
        given = [key for key in own if key] or [
            key for key in [config.get("JWT_SECRET_KEY")] if key
        ]
    if not isinstance(given, list | tuple) or not all(
        isinstance(key, str | bytes) and key for key in given
    ):
        raise ConfigurationError("DUALMEDIA_LINK_KEYS must be a list of keys, the one in use first")
    keys = tuple(key.encode() if isinstance(key, str) else key for key in given)
    if any(len(key) < LINK_KEY_SIZE for key in keys):
        setting = next(
            name
            for name in ("DUALMEDIA_LINK_KEYS", "SECRET_KEY", "JWT_SECRET_KEY")
            if config.get(name)
        )
        logger.warning(
            "%s, which signs links, is shorter than %d bytes: it may be guessed",
            setting,
            LINK_KEY_SIZE,
        )
    return keys


def _callable(key: str, value: t.Any) -> t.Any:
    if not callable(value):
        raise ConfigurationError(f"{key} is {value!r}, which cannot be called")
    return value
