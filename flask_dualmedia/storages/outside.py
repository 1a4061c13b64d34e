"""The storages outside of the databases: which options they have, and how they are made of them."""

from __future__ import annotations

import os
import typing as t

from ..errors import ConfigurationError
from .base import Storage
from .cloud import CloudStorage
from .google_drive import GoogleDriveStorage
from .local import LocalStorage
from .s3 import S3Storage

KEY = "DUALMEDIA_STORAGES"

Options = t.Mapping[str, t.Any]

_CLASSES: dict[str, t.Callable[..., Storage]] = {
    "local": LocalStorage,
    "s3": S3Storage,
    "google_drive": GoogleDriveStorage,
    "cloud": CloudStorage,
}

# The first option of each is the one that it cannot do without.
_OPTIONS: dict[str, dict[str, type]] = {
    "local": {"directory": str, "x_accel_redirect": str, "x_sendfile": bool},
    "s3": {
        "bucket": str, "prefix": str, "redirect": bool, "endpoint_url": str, "region_name": str,
        "aws_access_key_id": str, "aws_secret_access_key": str, "aws_session_token": str,
    },
    "google_drive": {"folder": str, "credentials": object, "base_url": str},
    "cloud": {"url": str, "redirect": bool, "options": dict},
}  # fmt: skip


def check_options(value: t.Any) -> dict[str, Options]:
    """The setting ``DUALMEDIA_STORAGES``, checked.

    :return: Options by ``storage_type``; those that are ``None`` are left out.
    :raises ConfigurationError: It names a storage or an option that there is not, or lacks one. No
        value is quoted: it may be a secret.
    """
    if not isinstance(value, dict) or not all(
        isinstance(options, dict) for options in value.values()
    ):
        raise ConfigurationError(f"{KEY} must map names of storages to their options")
    return {name: _check_one(name, options) for name, options in value.items()}


def _check_one(name: str, options: dict[str, t.Any]) -> Options:
    if name not in _OPTIONS:
        raise ConfigurationError(f"{KEY} has {name!r}, which is none of {', '.join(_OPTIONS)}")
    known, given = (
        _OPTIONS[name],
        {option: value for option, value in options.items() if value is not None},
    )
    if name == "local" and isinstance(given.get("directory"), os.PathLike):
        given["directory"] = os.fspath(given["directory"])
    for option, value in given.items():
        if option not in known:
            raise ConfigurationError(
                f"{KEY}[{name!r}] has {option!r}, which is none of {', '.join(known)}"
            )
        if not isinstance(value, known[option]):
            raise ConfigurationError(
                f"{KEY}[{name!r}][{option!r}] is not of type {known[option].__name__}"
            )
    needed = next(iter(known))
    if not given.get(needed):
        raise ConfigurationError(f"{KEY}[{name!r}][{needed!r}] is missing")
    if name == "local" and not os.path.isabs(given["directory"]):
        raise ConfigurationError(f"{KEY}['local']['directory'] is not an absolute path")
    if name == "google_drive" and "'" in given["folder"]:
        raise ConfigurationError(f"{KEY}['google_drive']['folder'] is not an id")
    return given


def open_storages(options: t.Mapping[str, Options]) -> dict[str, Storage]:
    """The storages of checked options, by ``storage_type``. None of them is asked anything.

    :raises MissingExtra: A package is not installed.
    :raises ConfigurationError: There is no driver for the URL of ``cloud``.
    """
    return {name: _CLASSES[name](**given) for name, given in options.items()}
