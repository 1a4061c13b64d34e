"""Filenames, as strangers write them."""

from __future__ import annotations

import os
import unicodedata

FILENAME_LENGTH = 255

# Embeddings, overrides and isolates: they show a name in another order than it is read in, as
# exe.gpj for jpg.exe.
_BIDIRECTIONAL = {
    "LRE", "RLE", "LRO", "RLO", "PDF",
    "LRI", "RLI", "FSI", "PDI",
}  # fmt: skip


def label(filename: str | None) -> str | None:
    """Make a filename fit to keep and to show.

    It stays as it came, but for folders and the characters that :func:`_is_harmful` names.

    :return: At most 255 characters, in front of the extension and with it; ``None`` if there is
        nothing to see in it.
    """
    if not filename:
        return None
    path = filename.replace("\\", "/")
    name = path.rpartition("/")[2]

    if not name.isascii() or not name.isprintable():
        harmless = [character for character in name if not _is_harmful(character)]
        name = "".join(harmless)
    if len(name) > FILENAME_LENGTH:
        name = _shortened(name)

    if not any(_is_visible(character) for character in name):
        return None
    return name


def _shortened(name: str) -> str:
    stem, extension = os.path.splitext(name)
    extension = extension[:32]
    stem = stem[: FILENAME_LENGTH - len(extension)]
    return stem + extension


def _is_harmful(character: str) -> bool:
    """Tell whether a character must not stand in a filename.

    Such a character is a control character, ends a line, turns the writing round, or is half of
    one.
    """
    category = unicodedata.category(character)
    if category == "Cf":
        return unicodedata.bidirectional(character) in _BIDIRECTIONAL
    return category in ("Cc", "Cs", "Zl", "Zp")


def _is_visible(character: str) -> bool:
    if character == ".":
        return False
    category = unicodedata.category(character)
    return category not in ("Zs", "Cf")
