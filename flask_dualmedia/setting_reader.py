"""Read single settings from ``app.config``, and check each of them.

Every error is a :class:`~flask_dualmedia.errors.ConfigurationError` that quotes the key.
"""

from __future__ import annotations

import logging
import math
import os
import re
import typing as t
from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy import exc

from .errors import ConfigurationError
from .models import KINDS
from .variants.budget import RENDER_PIXELS
from .variants.renderer import JAIL_PIXELS, RenderLimits

logger = logging.getLogger("flask_dualmedia")

LINK_KEY_SIZE = 32
"""Bytes of the shortest key that nobody guesses: as many as the HMAC with it, SHA-256 (RFC 2104,
section 3)."""

DEFAULT_REFERENCES = {"product": "products", "course": "courses", "user": "users"}

DEFAULT_OWNER_FIELDS = {"user": "_id"}

_TRUE = {"true", "1", "yes", "on", "t", "y"}
_FALSE = {"false", "0", "no", "off", "f", "n", ""}

_DRIVERS = {
    "postgresql+psycopg",
    "postgresql+psycopg2",
    "sqlite",
    "sqlite+pysqlite",
}


class SettingReader:
    """Reads the settings of one app.

    :param config: ``app.config``. A key that is missing there has the default that is passed.
    """

    def __init__(self, config: Mapping[str, t.Any]) -> None:
        self._config = config

    def get(self, key: str, default: t.Any = None) -> t.Any:
        """The value as the host gave it, unchecked."""
        return self._config.get(key, default)

    def get_or_environ(self, key: str) -> t.Any:
        """The value from the config, or where that has none, from the environment."""
        value = self._config.get(key)
        if value is None:
            return os.environ.get(key)
        return value

    # Kinds of values.

    def boolean(self, key: str, *, default: bool) -> bool:
        """True or false, as :func:`check_boolean` reads it; the default for ``None``."""
        return check_boolean(key, self._config.get(key), default=default)

    def optional_boolean(self, key: str) -> bool | None:
        """True or false; ``None`` if the host did not say."""
        value = self._config.get(key)
        if value is None:
            return None
        return check_boolean(key, value, default=False)

    def choice(self, key: str, yes: str, no: str) -> bool:
        """Tell whether the first and default of two words was chosen, exactly as it is written."""
        value = self._config.get(key, yes)
        if value not in (yes, no):
            raise ConfigurationError(f"{key} is {value!r}, which is neither {yes!r} nor {no!r}")
        return value == yes

    def size(self, key: str, default: int | None = None) -> int | None:
        """A number of bytes; ``None`` for no limit."""
        return self.limit(key, default, "number of bytes")

    def limit(
        self,
        key: str,
        default: int | None,
        meaning: str = "number above 0",
    ) -> int | None:
        """A whole number above 0, also as text; ``None`` for no limit, whatever the default."""
        value = self._config.get(key, default)
        if value is None:
            return None

        try:
            number = int(value)
        except (TypeError, ValueError):
            number = 0
        if number <= 0:
            raise ConfigurationError(f"{key} is {value!r}, which is not a {meaning}")
        return number

    def seconds(self, key: str, default: float, *, allows_zero: bool = False) -> float:
        """A time in seconds."""
        value = self._config.get(key, default)
        seconds = _number_or_minus_one(value)
        if not 0 <= seconds < math.inf or (seconds == 0 and not allows_zero):
            raise ConfigurationError(f"{key} is {value!r}, which is not a number of seconds")
        return seconds

    def rate(self, key: str, default: float) -> float:
        """Bytes per second, from 0."""
        value = self._config.get(key, default)
        rate = _number_or_minus_one(value)
        if not 0 <= rate < math.inf:
            raise ConfigurationError(
                f"{key} is {value!r}, which is not a number of bytes per second"
            )
        return rate

    def fraction(self, key: str, default: float) -> float:
        """A number from 0 to 1, both included."""
        value = self._config.get(key, default)
        fraction = _number_or_minus_one(value)
        if not 0 <= fraction <= 1:
            raise ConfigurationError(f"{key} is {value!r}, which is not a fraction between 0 and 1")
        return fraction

    def text(self, key: str, default: str) -> str:
        """Text, which may be empty."""
        value = self._config.get(key, default)
        return _check_text(key, value)

    def optional_text(self, key: str) -> str | None:
        """Text, which may be empty; ``None`` if the host gave none."""
        value = self._config.get(key)
        if value is None:
            return None
        return _check_text(key, value)

    def names(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of names. One name that stands alone is refused, and so is a set."""
        value = self._config.get(key, default)
        is_list = isinstance(value, list | tuple)
        if not is_list or not all(isinstance(name, str) for name in value):
            raise ConfigurationError(f"{key} is {value!r}, which is not a list of names")
        return tuple(value)

    def function(self, key: str, default: t.Any = None) -> t.Any:
        """Something that can be called; ``None`` if the host has none and there is no default."""
        value = self._config.get(key, default)
        if value is None and default is None:
            return None
        if not callable(value):
            raise ConfigurationError(f"{key} is {value!r}, which cannot be called")
        return value

    # Single settings with rules of their own.

    def sql(self, *, host_has_sql: bool) -> tuple[bool, sa.URL | None]:
        """Tell whether media live in SQL, and where the database is.

        :return: The URL is ``None`` where the host has set up Flask-SQLAlchemy itself, or nothing
            is configured.
        :raises ConfigurationError: SQL is enabled without a database, or by a driver that cannot
            keep media.
        """
        uri = self._config.get("SQLALCHEMY_DATABASE_URI")
        has_url = uri is not None or self.get_or_environ("DB_NAME") is not None
        is_configured = host_has_sql or has_url

        enabled = self.get_or_environ("DB_ENABLED")
        is_enabled = check_boolean("DB_ENABLED", enabled, default=is_configured)
        if is_enabled and not is_configured:
            raise ConfigurationError(
                "DB_ENABLED is true, but there is no SQL database: "
                "set SQLALCHEMY_DATABASE_URI or DB_NAME"
            )
        if host_has_sql or not is_configured:
            return is_enabled, None

        url = self._sql_url(uri)
        if is_enabled:
            check_driver(url.drivername)
        return is_enabled, url

    def _sql_url(self, uri: t.Any) -> sa.URL:
        if uri is None:
            return self._sql_url_of_parts()
        return _parse_url(uri)

    def _sql_url_of_parts(self) -> sa.URL:
        """The URL of a PostgreSQL database, from the settings ``DB_NAME``, ``DB_HOST`` and so on.

        ``URL.create`` takes the parts as they are: a name with a space, a password of any
        characters.
        """
        port = self.get_or_environ("DB_PORT") or 5432
        try:
            number = int(port)
        except (TypeError, ValueError):
            number = 0
        if not _is_port(number):
            raise ConfigurationError(f"DB_PORT is {port!r}, which is not a port number")

        password = self.get_or_environ("DB_PASSWORD")
        if password == "":
            password = None
        if password is not None:
            password = str(password)

        return sa.URL.create(
            "postgresql+psycopg",
            username=self.get_or_environ("DB_USER") or None,
            password=password,
            host=self.get_or_environ("DB_HOST") or "localhost",
            port=number,
            database=str(self.get_or_environ("DB_NAME")),
        )

    def url_prefix(self) -> str:
        """The path above all media routes, with a slash in front and none at its end."""
        prefix = self.text("DUALMEDIA_URL_PREFIX", "/media").strip("/")
        if not prefix:
            raise ConfigurationError(
                "DUALMEDIA_URL_PREFIX must not be empty: the blueprint would take the host's root"
            )
        return f"/{prefix}"

    def blueprint_name(self) -> str:
        name = self.text("DUALMEDIA_BLUEPRINT_NAME", "dualmedia")
        if not name or "." in name:
            raise ConfigurationError(
                f"DUALMEDIA_BLUEPRINT_NAME is {name!r}; it must be a name without dots"
            )
        return name

    def table_prefix(self) -> str:
        """The beginning of the names of our tables, empty by default."""
        prefix = self.text("DUALMEDIA_TABLE_PREFIX", "")
        # Names with it must need no quotes and be short enough for PostgreSQL, and ours must be
        # known from theirs.
        if prefix and not re.fullmatch(r"(?!(ix|uq|ck|pk|fk)_)[a-z_][a-z0-9_]{0,19}", prefix):
            raise ConfigurationError(
                f"DUALMEDIA_TABLE_PREFIX is {prefix!r}; it must be up to 20 lowercase letters, "
                "digits and underscores, "
                "not begin with a digit, nor with ix_, uq_, ck_, pk_ or fk_"
            )
        return prefix

    def collection_name(self, key: str, default: str) -> str:
        """A name that MongoDB allows, or the beginning of one; 60 bytes at most.

        :param key: The setting, which errors quote.
        """
        name = self.text(key, default)
        has_wrong_character = "$" in name or "\0" in name
        begins_wrong = name.startswith(("system.", "."))
        if has_wrong_character or begins_wrong or len(name.encode()) > 60:
            raise ConfigurationError(f"{key} is {name!r}, with which MongoDB names no collection")
        return name

    def bucket(self, default: str) -> str:
        """The name of a GridFS bucket, which is not empty."""
        bucket = self.collection_name("DUALMEDIA_BUCKET", default)
        if not bucket or bucket.endswith("."):
            raise ConfigurationError(
                f"DUALMEDIA_BUCKET is {bucket!r}, which is not a name of a bucket"
            )
        return bucket

    def references(self) -> dict[str, str]:
        """Reference types and their collections, without those that the host has turned off."""
        value = self._config.get("DUALMEDIA_REFERENCES", {})
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise ConfigurationError(
                "DUALMEDIA_REFERENCES must map reference types to MongoDB collections"
            )
        return _without_none(DEFAULT_REFERENCES | value)

    def owner_fields(self, references: Mapping[str, str]) -> dict[str, str]:
        """Reference types, and the field of such documents that names their owner.

        :param references: Types that there are, as :meth:`references` returns them.
        """
        key = "DUALMEDIA_OWNER_FIELD"
        value = self._config.get(key)
        if value is None:
            return dict(DEFAULT_OWNER_FIELDS)
        if isinstance(value, str):
            value = dict.fromkeys(references, value) | DEFAULT_OWNER_FIELDS
        if not isinstance(value, dict):
            raise ConfigurationError(
                f"{key} must be a name of a field, or map reference types to names"
            )

        fields = _without_none(DEFAULT_OWNER_FIELDS | value)
        for name, path in fields.items():
            if not _is_path(path):
                raise ConfigurationError(
                    f"{key}[{name!r}] is {path!r}, which is not a name of a field"
                )
        for name in value:
            if name not in references and name not in DEFAULT_OWNER_FIELDS:
                raise ConfigurationError(
                    f"{key} names {name!r}, which is not in DUALMEDIA_REFERENCES"
                )
        return fields

    def default_storages(self, storages: Mapping[str, t.Any]) -> dict[str, str]:
        """For each kind, the storage that its bytes go to.

        Bytes of a kind that is not named go to the database.

        :param storages: The storages outside of the databases, by name.
        """
        key = "DUALMEDIA_DEFAULT_STORAGE"
        value = self._config.get(key, "database")
        storage_names: dict[str, t.Any] = value
        if not isinstance(value, dict):
            storage_names = dict.fromkeys(KINDS, value)

        for kind, name in storage_names.items():
            if kind not in KINDS:
                raise ConfigurationError(f"{key} has {kind!r}, which is none of {', '.join(KINDS)}")
            _check_storage(key, name, storages)
        return {kind: storage_names.get(kind, "database") for kind in KINDS}

    def allowed_storages(self, storages: Mapping[str, t.Any]) -> frozenset[str]:
        """Storages that a request may choose.

        :param storages: The storages outside of the databases, by name.
        """
        key = "DUALMEDIA_ALLOWED_STORAGES"
        value = self._config.get(key, ())
        if not isinstance(value, list | tuple | set | frozenset):
            raise ConfigurationError(f"{key} is not a list of names of storages")
        for name in value:
            _check_storage(key, name, storages)
        return frozenset(value)

    def render_limits(self) -> RenderLimits:
        """How much of the machine images may take."""
        pixels = self._whole_number("DUALMEDIA_RENDER_PIXELS", RENDER_PIXELS)
        jail_pixels = self._whole_number("DUALMEDIA_RENDER_JAIL_PIXELS", JAIL_PIXELS)
        memory = self._whole_number("DUALMEDIA_RENDER_MEMORY", 1024**3)
        seconds = self.seconds("DUALMEDIA_RENDER_SECONDS", 30)
        return RenderLimits(pixels, jail_pixels, seconds, memory)

    def _whole_number(self, key: str, default: int) -> int:
        """A whole number above 0."""
        number = self.limit(key, default)
        if number is None:
            raise ConfigurationError(f"{key} is None, which is not a number above 0")
        return number

    def link_keys(self) -> tuple[bytes, ...]:
        """Keys that sign links; the app's own where the host gave none for that.

        The one in use comes first. A short key is logged and used all the same.
        """
        named_keys: list[tuple[str, t.Any]]
        value = self._config.get("DUALMEDIA_LINK_KEYS")
        if value is None:
            named_keys = self._keys_of_app()
        elif isinstance(value, list | tuple):
            named_keys = [("DUALMEDIA_LINK_KEYS", key) for key in value]
        else:
            named_keys = [("DUALMEDIA_LINK_KEYS", None)]
        if not all(isinstance(key, str | bytes) and key for _, key in named_keys):
            raise ConfigurationError(
                "DUALMEDIA_LINK_KEYS must be a list of keys, the one in use first"
            )

        keys = tuple(_as_bytes(key) for _, key in named_keys)
        for (setting, _), key in zip(named_keys, keys, strict=True):
            if len(key) < LINK_KEY_SIZE:
                logger.warning(
                    "%s, which signs links, is shorter than %d bytes: it may be guessed",
                    setting,
                    LINK_KEY_SIZE,
                )
                break
        return keys

    def _keys_of_app(self) -> list[tuple[str, t.Any]]:
        """The keys that the app has for other purposes, each with its setting."""
        current = self._config.get("SECRET_KEY")
        earlier = self._config.get("SECRET_KEY_FALLBACKS") or ()
        named_keys = [("SECRET_KEY", current)]
        named_keys += [("SECRET_KEY_FALLBACKS", key) for key in earlier]
        named_keys = [(setting, key) for setting, key in named_keys if key]

        key_of_tokens = self._config.get("JWT_SECRET_KEY")
        if not named_keys and key_of_tokens:
            return [("JWT_SECRET_KEY", key_of_tokens)]
        return named_keys


def check_driver(name: str) -> None:
    """Make sure that media can be kept in a database, whether its server is up or not.

    :param name: The dialect and the driver, as in URLs: ``postgresql+psycopg``.
    :raises ConfigurationError: It cannot.
    """
    if name not in _DRIVERS:
        raise ConfigurationError(
            f"SQLALCHEMY_DATABASE_URI is of {name}, where media cannot be kept: "
            "it needs PostgreSQL by psycopg "
            "(postgresql+psycopg://) or psycopg2, or SQLite for trying out; "
            "DB_ENABLED=false keeps media in MongoDB"
        )


def check_boolean(key: str, value: t.Any, *, default: bool) -> bool:
    """A value as true or false. Environments have it as a word.

    Upper case, and blanks around the word, make no difference. No word at all is false.

    :param default: For ``None``.
    :raises ConfigurationError: It is no such word.
    """
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


def _number_or_minus_one(value: t.Any) -> float:
    """A value as a number; -1, which no setting accepts, if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return -1.0


def _check_text(key: str, value: t.Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{key} is {value!r}, which is not text")
    return value


def _check_storage(key: str, name: t.Any, storages: Mapping[str, t.Any]) -> None:
    if not isinstance(name, str) or name not in {"database", *storages}:
        raise ConfigurationError(f"{key} names {name!r}, which is not in DUALMEDIA_STORAGES")


def _parse_url(uri: str | sa.URL) -> sa.URL:
    """A URL of SQLAlchemy's. PostgreSQL without a driver gets psycopg. No error quotes it."""
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


def _is_path(value: t.Any) -> bool:
    """Tell whether a value names a field of documents, or one of a document within."""
    if not isinstance(value, str) or value.startswith("$"):
        return False
    return "" not in value.split(".")


def _without_none(mapping: Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {key: value for key, value in mapping.items() if value is not None}


def _as_bytes(key: str | bytes) -> bytes:
    if isinstance(key, str):
        return key.encode()
    return key
