"""The pages, and what stands in them."""

from __future__ import annotations

import re
import textwrap
import typing as t
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

PAGES = {path.name: path for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


class Block(t.NamedTuple):
    """A block of code in a page."""

    page: str
    line: int
    """Of the page, where the code begins, from 1."""
    code: str


def blocks_of(page: str, language: str = "python") -> Iterator[Block]:
    """The blocks of a page that are in a language, in their order."""
    text = PAGES[page].read_text()
    for fence in _FENCE.finditer(text):
        if fence[2] == language:
            line = text.count("\n", 0, fence.start(3)) + 1
            yield Block(page, line, textwrap.dedent(fence[3]))


def without_blocks(text: str) -> str:
    """A page without its blocks of code, whose lines may look like headings or links."""
    return _FENCE.sub("", text)


def anchors_of(text: str) -> set[str]:
    """The anchors of a page, as GitHub names them after the headings."""
    anchors: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", without_blocks(text), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        name = words.replace(" ", "-")
        number = 1
        anchor = name
        while anchor in anchors:
            anchor = f"{name}-{number}"
            number += 1
        anchors.add(anchor)
    return anchors


def links_of(text: str) -> Iterator[str]:
    """Targets of the links of a page that do not lead out of the project."""
    for target in re.findall(r"\]\(([^()\s]+)\)", without_blocks(text)):
        if not target.startswith(("http://", "https://", "mailto:")):
            yield target
