"""Filenames, as strangers write them."""

from __future__ import annotations

import os
import unicodedata

FILENAME_LENGTH = 255

# Embeddings, overrides and isolates: they show a name in another order than it is read in, as
# exe.gpj for jpg.exe.
_BIDIRECTIONAL = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def label(filename: str | None) -> str | None:
    """A filename fit to keep and to show: as it came, but for folders and what :func:`_is_harmful`
    names.

    :return: At most 255 characters, in front of the extension and with it; ``None`` if there is
        nothing to see in it.
    """
    if not filename:
        return None
    name = filename.replace("\\", "/").rpartition("/")[2]
    if not name.isascii() or not name.isprintable():
        name = "".join(character for character in name if not _is_harmful(character))
    if len(name) > FILENAME_LENGTH:
        stem, extension = os.path.splitext(name)
        name = stem[: FILENAME_LENGTH - len(extension[:32])] + extension[:32]
    return name if any(_is_visible(character) for character in name) else None


def _is_harmful(character: str) -> bool:
    """Whether a character is a control character, ends a line, turns the writing round, or is half
    of one."""
    category = unicodedata.category(character)
    if category == "Cf":
        return unicodedata.bidirectional(character) in _BIDIRECTIONAL
    return category in ("Cc", "Cs", "Zl", "Zp")


def _is_visible(character: str) -> bool:
    return character != "." and unicodedata.category(character) not in ("Zs", "Cf")
