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
    "local": {
        "directory": str,
        "x_accel_redirect": str,
        "x_sendfile": bool,
    },
    "s3": {
        "bucket": str,
        "prefix": str,
        "redirect": bool,
        "endpoint_url": str,
        "region_name": str,
        "aws_access_key_id": str,
        "aws_secret_access_key": str,
        "aws_session_token": str,
    },
    "google_drive": {
        "folder": str,
        "credentials": object,
        "base_url": str,
    },
    "cloud": {
        "url": str,
        "redirect": bool,
        "options": dict,
    },
}


def check_options(value: t.Any) -> dict[str, Options]:
    """The setting ``DUALMEDIA_STORAGES``, checked.

    :return: Options by ``storage_type``; those that are ``None`` are left out.
    :raises ConfigurationError: It names a storage or an option that there is not, or lacks one. No
        value is quoted: it may be a secret.
    """
    is_mapping = isinstance(value, dict)
    if not is_mapping or not all(isinstance(options, dict) for options in value.values()):
        raise ConfigurationError(f"{KEY} must map names of storages to their options")
    return {name: _check_one(name, options) for name, options in value.items()}


def _check_one(name: str, options: dict[str, t.Any]) -> Options:
    """The options of one storage, checked."""
    if name not in _OPTIONS:
        raise ConfigurationError(f"{KEY} has {name!r}, which is none of {', '.join(_OPTIONS)}")

    types = _OPTIONS[name]
    values = {option: value for option, value in options.items() if value is not None}
    if name == "local" and isinstance(values.get("directory"), os.PathLike):
        values["directory"] = os.fspath(values["directory"])

    _check_types(name, values, types)
    _check_needed(name, values, next(iter(types)))
    return values


def _check_types(
    name: str,
    values: dict[str, t.Any],
    types: dict[str, type],
) -> None:
    """Refuse options that the storage does not have, and values of another type."""
    setting = f"{KEY}[{name!r}]"
    for option, value in values.items():
        if option not in types:
            raise ConfigurationError(
                f"{setting} has {option!r}, which is none of {', '.join(types)}"
            )
        if not isinstance(value, types[option]):
            raise ConfigurationError(
                f"{setting}[{option!r}] is not of type {types[option].__name__}"
            )


def _check_needed(name: str, values: dict[str, t.Any], option: str) -> None:
    """Refuse to do without the option that the storage needs, and values that cannot be right."""
    setting = f"{KEY}[{name!r}][{option!r}]"
    value = values.get(option)
    if not value:
        raise ConfigurationError(f"{setting} is missing")
    if name == "local" and not os.path.isabs(value):
        raise ConfigurationError(f"{setting} is not an absolute path")
    if name == "google_drive" and "'" in value:
        raise ConfigurationError(f"{setting} is not an id")


def open_storages(options: t.Mapping[str, Options]) -> dict[str, Storage]:
    """The storages of checked options, by ``storage_type``. None of them is asked anything.

    :raises MissingExtra: A package is not installed.
    :raises ConfigurationError: There is no driver for the URL of ``cloud``.
    """
    storages = {}
    for name, values in options.items():
        make_storage = _CLASSES[name]
        storages[name] = make_storage(**values)
    return storages
