"""Every setting and its default, read once in ``init_app``."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

import sqlalchemy as sa

from .content.inline_types import read_inline_types
from .content.policy import Policy, read_policies
from .content.sniffing import Sniffer, sniff
from .databases.collections import BUCKET
from .known_settings import Watched, warn_of_unknown
from .setting_reader import SettingReader
from .storages.outside import StorageSetup, check_storages
from .variants.preset_settings import read_presets
from .variants.presets import Presets
from .variants.renderer import RenderLimits

if t.TYPE_CHECKING:
    from .models import Media

Validator = t.Callable[["Media", bytes], None]


@dataclass(frozen=True)
class Settings:
    """The settings of the host. The names in capitals are keys of ``app.config``."""

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
    ours in SQL, and of the table that says which revisions were run. At most 20 lowercase
    letters, digits and underscores. Default none."""
    collection_prefix: str
    """``DUALMEDIA_COLLECTION_PREFIX``: stands before the name of every collection of ours in
    MongoDB, except those that ``DUALMEDIA_BUCKET`` names. Default none."""
    bucket: str
    """``DUALMEDIA_BUCKET``: name of the GridFS bucket that has the bytes in Mongo-only mode. The
    bucket that has them while SQL is down has the same name, followed by ``_journal``. Default
    ``media``."""
    references: t.Mapping[str, str]
    """``DUALMEDIA_REFERENCES``: reference type to MongoDB collection. Owners of these types must
    exist. Default product, course and user; merged with what the host gives, and ``None`` as the
    collection turns the check off."""
    owner_fields: t.Mapping[str, str]
    """``DUALMEDIA_OWNER_FIELD``: the field of documents that has the identity, or a list of
    identities, that may add media to them under the default rule: one name for all types of
    ``DUALMEDIA_REFERENCES``, or a mapping from types to names. Default ``{"user": "_id"}``: only
    admins add media to other documents."""
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
    """``DUALMEDIA_UPKEEP``: a thread in one process of all sweeps, clears leftovers of outages and
    verifies checksums, a little at a time. Default true; false leaves that to ``flask dualmedia
    sweep`` and ``check``, run by cron."""
    journals: bool
    """``DUALMEDIA_ON_SQL_OUTAGE``: ``journal`` accepts new media into MongoDB while SQL is down,
    ``refuse`` answers 503. Default ``journal``."""
    journal_max_size: int | None
    """``DUALMEDIA_JOURNAL_MAX_SIZE``: bytes that the journal may hold while SQL is down. One
    uploader may fill a quarter of it. More is answered with 503. Default 10 GiB; ``None`` for no
    limit."""
    auto_drain: bool
    """``DUALMEDIA_AUTO_DRAIN``: move the journal into SQL when SQL is back; where it is false,
    ``flask dualmedia drain`` does that. Default true."""
    deletes_ownerless: bool
    """``DUALMEDIA_ON_OWNER_DELETE``: what ``flask dualmedia check --repair`` does with media whose
    document is gone: ``delete`` it, or ``keep`` and report it. Default ``delete``."""
    repair_share: float
    """``DUALMEDIA_REPAIR_SHARE``: fraction of a table, or of a storage, that ``flask dualmedia
    check --repair`` deletes by itself at most, where that is more than ten. It never deletes more
    than half. Default 0.01."""
    grace: float
    """``DUALMEDIA_GRACE``: age in seconds after which the sweep takes an unfinished upload for
    dead. Default 3600."""
    trash_seconds: float
    """``DUALMEDIA_TRASH_SECONDS``: how long media that ``flask dualmedia check --repair`` took
    away is kept. ``check --restore`` brings it back until then. Default a week."""
    authorize: t.Callable[..., bool] | None
    """``DUALMEDIA_AUTHORIZE``: ``(action, record or owner, identity, claims) -> bool``, whether the
    caller may do that. ``None`` for :func:`~flask_dualmedia.authorization.default_rule`."""
    link_keys: tuple[bytes, ...] = field(repr=False)
    """``DUALMEDIA_LINK_KEYS``: keys that sign links, the one in use first, then those of links that
    still hold. Default: ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS``, or else
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
    """``DUALMEDIA_POLICY``: what each kind accepts, by its name in URLs. The rest has defaults that
    work: see :class:`~flask_dualmedia.content.policy.Policy`."""
    inline_types: frozenset[str]
    """``DUALMEDIA_INLINE_TYPES``: MIME types that browsers show, beside pictures, films and sound,
    when content is opened as a page: ``["application/pdf"]``. Never a type that could run.
    Default none."""
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
    presets: Presets
    """``DUALMEDIA_PRESETS``: by kind, as in URLs, the sizes and formats that its images are shown
    in, by name. They are added to the default ones; ``None`` takes one away. See
    :class:`~flask_dualmedia.variants.presets.Preset`."""
    render_limits: RenderLimits
    """``DUALMEDIA_RENDER_PIXELS``: pixels of images that a process decodes at a time. A pixel of
    JPEG counts once, of PNG three times, of all others four times. Default 128,000,000.
    ``DUALMEDIA_RENDER_JAIL_PIXELS``: images with more pixels, counted in the same way, are decoded
    in a process of their own. Default 32,000,000. ``DUALMEDIA_RENDER_SECONDS`` and
    ``DUALMEDIA_RENDER_MEMORY``: what such a process may take for one image. Default 30 seconds and
    1 GiB."""
    upload_expires: float
    """``DUALMEDIA_UPLOAD_EXPIRES``: seconds that a resumable upload is kept after its last byte
    came. Default 86400."""
    max_unfinished: int | None
    """``DUALMEDIA_MAX_UNFINISHED``: unfinished uploads that one identity may have at a time,
    resumable and direct ones together. Default 100; ``None`` for any number."""
    storages: t.Mapping[str, StorageSetup] = field(repr=False)
    """``DUALMEDIA_STORAGES``: storages outside of the databases: class and options by name.
    Default none."""
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
        watched = Watched(config)
        read = SettingReader(watched)
        sql_enabled, sql_url = read.sql(host_has_sql=host_has_sql)
        max_size = read.size("DUALMEDIA_MAX_SIZE", 5 * 1024**3)

        settings = cls(
            sql_enabled=sql_enabled,
            sql_url=sql_url,
            url_prefix=read.url_prefix(),
            host=read.optional_text("DUALMEDIA_HOST"),
            subdomain=read.optional_text("DUALMEDIA_SUBDOMAIN"),
            blueprint_name=read.blueprint_name(),
            table_prefix=read.table_prefix(),
            collection_prefix=read.collection_name("DUALMEDIA_COLLECTION_PREFIX", ""),
            bucket=read.bucket(BUCKET),
            references=(references := read.references()),
            owner_fields=read.owner_fields(references),
            auto_upgrade=read.optional_boolean("DUALMEDIA_AUTO_UPGRADE"),
            max_size=max_size,
            least_rate=read.rate("DUALMEDIA_LEAST_RATE", 1024),
            least_rate_seconds=read.seconds("DUALMEDIA_LEAST_RATE_SECONDS", 30),
            admin_role=read.text("DUALMEDIA_ADMIN_ROLE", "admin"),
            sniffer=read.function("DUALMEDIA_SNIFFER", sniff),
            connect_timeout=read.seconds("DUALMEDIA_CONNECT_TIMEOUT", 2),
            sql_timeout=read.seconds("DUALMEDIA_SQL_TIMEOUT", 2),
            mongo_timeout=read.seconds("DUALMEDIA_MONGO_TIMEOUT", 2),
            probe_interval=read.seconds("DUALMEDIA_PROBE_INTERVAL", 1),
            journals=read.choice("DUALMEDIA_ON_SQL_OUTAGE", "journal", "refuse"),
            journal_max_size=read.size("DUALMEDIA_JOURNAL_MAX_SIZE", 10 * 1024**3),
            auto_drain=read.boolean("DUALMEDIA_AUTO_DRAIN", default=True),
            upkeep=read.boolean("DUALMEDIA_UPKEEP", default=True),
            deletes_ownerless=read.choice("DUALMEDIA_ON_OWNER_DELETE", "delete", "keep"),
            repair_share=read.fraction("DUALMEDIA_REPAIR_SHARE", 0.01),
            grace=read.seconds("DUALMEDIA_GRACE", 3600),
            trash_seconds=read.seconds(
                "DUALMEDIA_TRASH_SECONDS",
                7 * 86400,
                allows_zero=True,
            ),
            authorize=read.function("DUALMEDIA_AUTHORIZE"),
            link_keys=read.link_keys(),
            link_seconds=read.seconds("DUALMEDIA_LINK_SECONDS", 3600),
            link_max_seconds=read.seconds("DUALMEDIA_LINK_MAX_SECONDS", 7 * 24 * 3600),
            link_claims=read.names("DUALMEDIA_LINK_CLAIMS", ("role", "roles")),
            count_reads=read.boolean("DUALMEDIA_COUNT_READS", default=True),
            count_window=read.seconds(
                "DUALMEDIA_COUNT_WINDOW",
                1800,
                allows_zero=True,
            ),
            count_interval=read.seconds("DUALMEDIA_COUNT_INTERVAL", 1),
            policies=read_policies(read.get("DUALMEDIA_POLICY", {}), max_size),
            inline_types=read_inline_types(read.get("DUALMEDIA_INLINE_TYPES", ())),
            validator=read.function("DUALMEDIA_VALIDATOR"),
            quota_per_identity=read.size("DUALMEDIA_QUOTA_PER_IDENTITY"),
            quota_per_owner=read.size("DUALMEDIA_QUOTA_PER_OWNER"),
            presets=read_presets(read.get("DUALMEDIA_PRESETS", {})),
            render_limits=read.render_limits(),
            upload_expires=read.seconds("DUALMEDIA_UPLOAD_EXPIRES", 86400),
            max_unfinished=read.limit("DUALMEDIA_MAX_UNFINISHED", 100),
            storages=(storages := check_storages(read.get("DUALMEDIA_STORAGES", {}))),
            default_storages=read.default_storages(storages),
            allowed_storages=read.allowed_storages(storages),
        )
        warn_of_unknown(watched, watched.asked)
        return settings
