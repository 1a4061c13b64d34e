"""The storages outside of the databases: their names, classes and options, and how they are made.

The setting maps names to options. The option ``class`` says which class a storage is of. Without
it, the name is that of a class: ``{"s3": {"bucket": "b"}}``.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import typing as t
from dataclasses import dataclass, field

from ..errors import ConfigurationError, MissingExtra
from ..models import DATABASE, EXTERNAL
from .base import Storage
from .cloud import CloudStorage
from .google_drive import GoogleDriveStorage
from .local import LocalStorage
from .s3 import S3Storage

KEY = "DUALMEDIA_STORAGES"

CLASS = "class"
"""The option that says which class a storage is of."""

Options = t.Mapping[str, t.Any]

_CLASSES: dict[str, t.Callable[..., Storage]] = {
    "local": LocalStorage,
    "s3": S3Storage,
    "google_drive": GoogleDriveStorage,
    "cloud": CloudStorage,
}
"""Our own classes by their short names."""

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

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,15}")
"""Names of storages. They fit the column ``storage_type``, and need no quotes on a command line."""

_RESERVED = (DATABASE, EXTERNAL, "journal")
"""Names of places that there are without being set up."""

_METHODS = ("put", "open", "send", "delete", "stats", "keys", "close")
"""The methods that a storage must have."""


@dataclass(frozen=True)
class StorageSetup:
    """A storage that is set up, before it is made."""

    make: t.Callable[..., Storage]
    """Its class."""
    options: Options = field(repr=False)
    """The arguments of its class. There may be secrets among them."""


def check_storages(value: t.Any) -> dict[str, StorageSetup]:
    """The setting ``DUALMEDIA_STORAGES``, checked.

    :return: Storages by name. Options of our own classes that are ``None`` are left out.
    :raises ConfigurationError: A name, a class or an option is wrong, or missing. No value of an
        option is quoted: it may be a secret.
    """
    is_mapping = isinstance(value, dict)
    if not is_mapping or not all(isinstance(options, dict) for options in value.values()):
        raise ConfigurationError(f"{KEY} must map names of storages to their options")

    setups = {}
    for name, options in value.items():
        _check_name(name)
        setups[name] = _check_one(name, options)
    return setups


def _check_name(name: t.Any) -> None:
    """Refuse a name that records could not have, or have for another place."""
    if name in _RESERVED:
        raise ConfigurationError(f"{KEY} has {name!r}, a name that is reserved")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{KEY} has {name!r}, which is no name of a storage: up to 16 lowercase letters, "
            "digits, hyphens and underscores, beginning with a letter"
        )


def _check_one(name: str, options: Options) -> StorageSetup:
    """The class and the options of one storage, checked."""
    arguments = dict(options)
    class_option = arguments.pop(CLASS, None)
    if class_option is None:
        if name not in _CLASSES:
            raise ConfigurationError(
                f"{KEY} has {name!r}, which is none of {', '.join(_CLASSES)}: "
                f"a storage of another name needs the option {CLASS!r}"
            )
        class_option = name

    make = _find_class(name, class_option)
    for short_name, own_class in _CLASSES.items():
        if make is own_class:
            arguments = _check_options(name, short_name, arguments)
            return StorageSetup(make, arguments | {"name": name})
    _check_signature(name, make, arguments)
    return StorageSetup(make, arguments)


def _find_class(name: str, class_option: t.Any) -> t.Callable[..., Storage]:
    """The class that an option names: a short name, an import path, or the class itself.

    :raises ConfigurationError: There is no such class, or it is none of a storage.
    """
    setting = f"{KEY}[{name!r}][{CLASS!r}]"
    found = class_option
    if isinstance(class_option, str):
        found = _CLASSES.get(class_option) or _import_class(setting, class_option)
    if not isinstance(found, type):
        raise ConfigurationError(f"{setting} is no class of a storage")

    missing = [method for method in _METHODS if not callable(getattr(found, method, None))]
    if missing:
        raise ConfigurationError(
            f"{setting} is {found.__qualname__}, which is no Storage: it lacks {', '.join(missing)}"
        )
    return found


def _import_class(setting: str, path: str) -> t.Any:
    """The value at a path such as ``package.module:Class``.

    :raises ConfigurationError: It is no such path, or nothing is found there.
    """
    module_name, colon, attribute = path.partition(":")
    is_absolute = module_name and not module_name.startswith(".")
    if not colon or not is_absolute or not attribute:
        raise ConfigurationError(
            f"{setting} is {path!r}, which is none of {', '.join(_CLASSES)}, "
            'and no path such as "package.module:Class"'
        )
    try:
        module = importlib.import_module(module_name)
        return getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"{setting} is {path!r}, which cannot be imported") from error


def _check_options(name: str, short_name: str, options: Options) -> dict[str, t.Any]:
    """The options of a storage of one of our classes, checked."""
    types = _OPTIONS[short_name]
    values = {option: value for option, value in options.items() if value is not None}
    if short_name == "local" and isinstance(values.get("directory"), os.PathLike):
        values["directory"] = os.fspath(values["directory"])

    _check_types(name, values, types)
    _check_needed(name, short_name, values)
    return values


def _check_types(
    name: str,
    values: Options,
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


def _check_needed(name: str, short_name: str, values: Options) -> None:
    """Refuse to do without the option that the storage needs, and values that cannot be right."""
    option = next(iter(_OPTIONS[short_name]))
    setting = f"{KEY}[{name!r}][{option!r}]"
    value = values.get(option)
    if not value:
        raise ConfigurationError(f"{setting} is missing")
    if short_name == "local" and not os.path.isabs(value):
        raise ConfigurationError(f"{setting} is not an absolute path")
    if short_name == "google_drive" and "'" in value:
        raise ConfigurationError(f"{setting} is not an id")


def _check_signature(name: str, make: t.Callable[..., Storage], options: Options) -> None:
    """Refuse options that a class of the host's does not take, or needs and does not get."""
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        # It names arguments, and quotes no value.
        raise ConfigurationError(f"{KEY}[{name!r}]: {error}") from None


def open_storages(setups: t.Mapping[str, StorageSetup]) -> dict[str, Storage]:
    """The storages of a checked setting, by name. None of them is asked anything.

    :raises MissingExtra: A package is not installed.
    :raises ConfigurationError: There is no driver for the URL of a ``cloud``, or a class of the
        host's cannot be made.
    """
    return {name: _open_storage(name, setup) for name, setup in setups.items()}


def _open_storage(name: str, setup: StorageSetup) -> Storage:
    try:
        return setup.make(**setup.options)
    except (ConfigurationError, MissingExtra):
        raise
    except Exception as error:
        # Anything may go wrong in a class of the host's. Its own words may hold a secret.
        raise ConfigurationError(
            f"{KEY}[{name!r}] cannot be made: {type(error).__name__}"
        ) from error
