"""Links between pages, the length of the README, and the settings as they are documented."""

from __future__ import annotations

import re
import typing as t

import pytest

from flask_dualmedia import ConfigurationError
from flask_dualmedia.config import Settings

from .pages import PAGES, ROOT, anchors_of, links_of

LONGEST_README = 150

PACKAGE = ROOT / "flask_dualmedia"

FOLDERS = [PACKAGE, ROOT, ROOT / "tests" / "tools"]
"""Folders that paths in the pages begin in."""

UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

WORDS = {"true": True, "false": False}

EMPTY: list[t.Any] = [None, "", {}, ()]
"""Values that can mean that a setting is not there."""

IN_WORDS = {
    "DB_ENABLED",
    "DUALMEDIA_AUTO_UPGRADE",
    "DUALMEDIA_AUTHORIZE",
    "DUALMEDIA_LINK_KEYS",
    "DUALMEDIA_POLICY",
    "DUALMEDIA_SNIFFER",
    "SQLALCHEMY_ENGINE_OPTIONS",
}
"""Settings whose default is no single value: the page describes it."""

READ_ELSEWHERE = {"MONGO_URI", "SQLALCHEMY_ENGINE_OPTIONS"}
"""Settings that are read where the connection is made."""

KEYS_OF_OTHERS = {"SECRET_KEY", "SECRET_KEY_FALLBACKS", "JWT_SECRET_KEY"}


def test_the_readme_is_short() -> None:
    assert len(PAGES["README.md"].read_text().splitlines()) <= LONGEST_README


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    source = PAGES[page]
    for link in links_of(source.read_text()):
        path, _, anchor = link.partition("#")
        target = (source.parent / path).resolve() if path else source
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target.read_text()), link


def test_the_readme_leads_to_every_page() -> None:
    linked = {ROOT / link.partition("#")[0] for link in links_of(PAGES["README.md"].read_text())}
    assert {path for name, path in PAGES.items() if name != "README.md"} <= linked


@pytest.mark.parametrize("page", ["contributing.md", "design.md"])
def test_every_file_that_is_named_is_there(page: str) -> None:
    names = re.findall(r"`([a-z_/]+(?:\.py|/))`", PAGES[page].read_text())
    assert len(names) > 20
    for name in names:
        assert any((folder / name).exists() for folder in FOLDERS), name


def test_every_promise_names_tests_that_are_there() -> None:
    names = set(re.findall(r"`(test_\w+\.py)`", PAGES["guarantees.md"].read_text()))
    assert len(names) > 10
    assert names <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}


def test_every_module_is_on_the_map() -> None:
    text = PAGES["design.md"].read_text()
    for path in PACKAGE.rglob("*.py"):
        name = str(path.relative_to(PACKAGE))
        assert path.name == "__init__.py" or f"`{name}`" in text, name


def documented_settings() -> dict[str, str]:
    """Each documented setting and its default, as the page has them."""
    text = PAGES["configuration.md"].read_text()
    rows = re.findall(r"^\| `([A-Z][A-Z_]+)` \| (.*?) \|", text, re.MULTILINE)
    settings = dict(rows)
    assert len(settings) == len(rows), "a setting is documented twice"
    return settings


class Recorded(dict[str, t.Any]):
    """A config that notes which keys are asked for."""

    def __init__(self, *args: t.Any) -> None:
        super().__init__(*args)
        self.asked: set[str] = set()

    def __getitem__(self, key: str) -> t.Any:
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: t.Any = None) -> t.Any:
        self.asked.add(key)
        return super().get(key, default)


def read(config: dict[str, t.Any]) -> Settings:
    return Settings.from_config(config, host_has_sql=False)


BASE = {"DB_NAME": "media", "JWT_SECRET_KEY": "k" * 32}


def test_every_setting_that_is_read_is_documented_and_no_other() -> None:
    config = Recorded(BASE)
    read(config)
    documented = documented_settings().keys()
    assert documented - READ_ELSEWHERE == config.asked - KEYS_OF_OTHERS


def as_value(default: str) -> t.Any:
    """The value that a documented default means."""
    number = re.fullmatch(r"([\d.]+) ?(\w*)", default)
    if number is not None:
        return float(number[1]) * UNITS[number[2]]
    if default in WORDS:
        return WORDS[default]
    quoted = re.fullmatch(r"`(.*)`", default)
    assert quoted is not None, default
    literal = quoted[1]
    if literal.startswith(("{", "[")):
        return eval(literal)
    return literal


DEFAULTS = {key: default for key, default in documented_settings().items() if key not in IN_WORDS}


@pytest.mark.parametrize("key", sorted(DEFAULTS.keys() - READ_ELSEWHERE))
def test_a_setting_at_its_documented_default_changes_nothing(key: str) -> None:
    default = DEFAULTS[key]
    if default == "none":
        assert any(changes_nothing(key, value) for value in EMPTY)
    else:
        assert changes_nothing(key, as_value(default))


def changes_nothing(key: str, value: t.Any) -> bool:
    if key == "DB_NAME":
        return read({"JWT_SECRET_KEY": "k" * 32}) == read({key: value, "JWT_SECRET_KEY": "k" * 32})
    try:
        return read(BASE | {key: value}) == read(BASE)
    except ConfigurationError:
        return False


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DUALMEDIA_MAX_SIZE", 5 * 1024**3 + 1),
        ("DUALMEDIA_UPKEEP", False),
        ("DUALMEDIA_LINK_CLAIMS", ["role"]),
        ("DUALMEDIA_REFERENCES", {"page": "pages"}),
    ],
)
def test_other_values_would_be_noticed(key: str, value: t.Any) -> None:
    assert not changes_nothing(key, value)
