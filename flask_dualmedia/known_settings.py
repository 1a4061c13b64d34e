"""Settings whose keys nobody reads, because they are misspelt."""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

logger = logging.getLogger("flask_dualmedia")

PREFIX = "DUALMEDIA_"

OTHERS = (
    "DB_ENABLED",
    "DB_NAME",
    "DB_USER",
    "DB_PASSWORD",
    "DB_HOST",
    "DB_PORT",
    "MONGO_URI",
    "SQLALCHEMY_DATABASE_URI",
    "SQLALCHEMY_ENGINE_OPTIONS",
    "JWT_SECRET_KEY",
    "SECRET_KEY",
)
"""Keys without our prefix that are read too, by us or by other extensions."""

# flask-smorest describes our routes, and reads these with our prefix.
_OF_SMOREST = ("DUALMEDIA_API_", "DUALMEDIA_OPENAPI_", "DUALMEDIA_ETAG_DISABLED")

# Our own tests and tools.
_OF_TOOLS = ("DUALMEDIA_TEST_", "DUALMEDIA_FAILPOINT")


class Watched(Mapping[str, t.Any]):
    """A config that notes which keys are asked for."""

    def __init__(self, config: Mapping[str, t.Any]) -> None:
        self._config = config
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> t.Any:
        self.asked.add(key)
        return self._config[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._config)

    def __len__(self) -> int:
        return len(self._config)


def warn_of_unknown(config: Mapping[str, t.Any], read_keys: Collection[str]) -> None:
    """Log a warning for each key that is meant for us and that nobody reads.

    It suggests the name that is most like the key.

    :param read_keys: Keys that are read, ours and others.
    """
    for key in config:
        if not isinstance(key, str) or key in read_keys or not _is_meant_for_us(key):
            continue
        hint = ""
        nearest = _nearest(key, read_keys)
        if nearest is not None:
            hint = f": {nearest} is meant, perhaps"
        logger.warning("%s is no setting of flask-dualmedia, and has no effect%s", key, hint)


def _is_meant_for_us(key: str) -> bool:
    if key.startswith((*_OF_SMOREST, *_OF_TOOLS)):
        return False
    return _plain(key).startswith(_plain(PREFIX))


def _nearest(key: str, read_keys: Collection[str]) -> str | None:
    """The known key that is most like another one.

    The key of another extension may have got our prefix: the prefixes are not compared.
    """
    keys_by_word = {_without_prefix(name): name for name in sorted({*read_keys, *OTHERS})}
    word = _without_prefix(key)
    similar = get_close_matches(word, keys_by_word, n=1, cutoff=0.4)
    if not similar:
        return None
    return keys_by_word[similar[0]]


def _without_prefix(key: str) -> str:
    return _plain(key).removeprefix(_plain(PREFIX))


def _plain(key: str) -> str:
    """A key without what is easily mistaken: underscores and small letters."""
    return key.replace("_", "").replace("-", "").upper()
